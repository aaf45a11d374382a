"""The error of results that floats of any size multiply before they are rounded: dy·f′(x), and gated units.

Each x of an adversarial sample is paired with factors of every exponent, with such that the product lies beside the
least normal number, among the subnormal ones or beside the largest, and with subnormal ones; the product is held
against a ball of the function times the exact factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flint
import numpy as np
from flint import arb

from ..theory.activations import Activation
from ..theory.enclosures import exact_value
from ..theory.errors import InputError
from .accuracy import FORMATS, adversarial_sample, exact_function, ulp_error
from .compiled import DTYPES, Array
from .gate_kernels import gate_of
from .kernels import kernel
from .row_kernels import row_kernel

#: Far into the tails: an exponential there is a number only once something large multiplies it.
FAR = (750.0, 801.0, 999.5, 1001.0, 1300.25, 1417.0, 1490.0)


@dataclass(frozen=True)
class Products:
    """The largest error over a sample and where it is; ``undecided`` counts points at which no ball was sharp."""

    points: int
    undecided: int
    worst_ulp: float
    x: float
    factors: tuple[float, ...]
    computed: float

    def __str__(self) -> str:
        at = ", ".join(map(repr, (self.x, *self.factors)))
        return f"at most {self.worst_ulp:.3f} ULP at {self.points} points (at {at}: {self.computed!r})"


def measure_vjp(row: Activation, dtype: str = "float64", *, size: int = 400, seed: int = 0) -> Products:
    """The error of ``kernel(row).vjp``."""
    k = kernel(row, dtype)
    x = _arguments(row, 1, dtype, size, seed)
    dy = factors_for(exact_function(row, 1), x, dtype, np.random.default_rng(seed))
    return measure_products(k.vjp(x, dy), exact_function(row, 1), x, [dy], dtype)


def _arguments(row: Activation, order: int, dtype: str, size: int, seed: int) -> Array:
    far = np.array([s * v for v in FAR for s in (1, -1)], dtype=dtype)
    return np.concatenate([adversarial_sample(row, order, dtype, size=size, seed=seed), far])


def factors_for(exact: Callable[[float], Callable[[], arb]], x: Array, dtype: str, rng: np.random.Generator) -> Array:
    """One factor for each x, of a kind drawn for it."""
    fmt, info = FORMATS[dtype], np.finfo(DTYPES[dtype])
    least, most = fmt.least_exponent - fmt.precision + 1, info.maxexp - 1
    found = np.empty(x.size)
    for k, (point, kind) in enumerate(zip(x.tolist(), rng.integers(5, size=x.size).tolist(), strict=True)):
        exponent = int(rng.integers(least, most + 1))
        beside = (fmt.least_exponent + rng.integers(-2, 3), rng.integers(least - 1, fmt.least_exponent), most + 1, 0)
        if kind < len(beside):  # of the product
            with flint.ctx.workprec(200):
                exponent = int(beside[kind]) - _exponent(exact(point)())
        exponent = min(max(exponent, least), most)
        found[k] = math.ldexp((1 + rng.random()) * (1 - 2 * int(rng.integers(2))), exponent)
    with np.errstate(over="ignore"):
        return found.astype(dtype)


def _exponent(ball: arb) -> int:
    if not ball.is_finite() or ball.mid() == 0:
        return 0
    mantissa, exponent = ball.mid().man_exp()
    return int(abs(int(mantissa)).bit_length() + int(exponent))


def measure_products(
    computed: Array, exact: Callable[[float], Callable[[], arb]], x: Array, factors: Sequence[Array], dtype: str
) -> Products:
    """The error of f(x)·Πfactors, entry by entry."""
    worst, place, undecided = -1.0, 0, 0
    rows = zip(x.tolist(), computed.tolist(), *(f.tolist() for f in factors), strict=True)
    for k, (point, value, *of) in enumerate(rows):
        function = exact(point)

        def product(function: Callable[[], arb] = function, of: Sequence[float] = of) -> arb:
            ball = function()
            for factor in of:
                ball *= exact_value(factor)
            return ball

        error, _ = ulp_error(value, product, FORMATS[dtype])
        undecided += math.isnan(error)
        if error > worst:
            worst, place = error, k
    at = tuple(float(f[place]) for f in factors)
    return Products(x.size - undecided, undecided, worst, float(x[place]), at, float(computed[place]))


def measure_gate(name: str, dtype: str = "float64", *, size: int = 400, seed: int = 0) -> dict[str, Products]:
    """The error of a gated unit: of its output and of both gradients."""
    k = row_kernel(name, dtype)
    gate = gate_of(k.layer)
    if gate is None:
        raise InputError(f"{name} is no gated unit")
    row, rng = Activation(name, gate), np.random.default_rng(seed)
    value, slope = (exact_function(row, n) for n in (0, 1))
    b = np.concatenate([_arguments(row, n, dtype, size, seed) for n in (0, 1)])
    a = factors_for(value, b, dtype, rng)
    dy = a[rng.permutation(a.size)]
    found = {"a·g(b)": measure_products(k(a, b), value, b, [a], dtype)}
    together = factors_for(slope, b, dtype, rng)
    with np.errstate(over="ignore"):
        power = np.exp2(rng.integers(-40, 41, b.size)).astype(dtype)
        shared = together / power
    shared = np.where(np.isfinite(shared), shared, together)
    for first, second in ((dy, a), (power, shared)):
        da, db = k.vjp(first, second, b)
        for label, computed, function, factors in (
            ("dy·g(b)", da, value, [first]),
            ("dy·a·g′(b)", db, slope, [first, second]),
        ):
            one = measure_products(computed, function, b, factors, dtype)
            found[label] = max(one, found.get(label, one), key=lambda p: p.worst_ulp)
    return found
