"""The error of a kernel in units in the last place (ULP), held against the exact value in ball arithmetic.

``error = |computed − exact| / ulp(exact)``, where ``ulp(v)`` is the distance between neighbouring floats of the
kernel's dtype in the binade of v (the smallest subnormal below the normal range). Correct rounding is an error of at
most ½. A ball is refined until it decides the error to 1/1000 ULP, so the figures are measured at exact points, with
nothing assumed about the error between them: the sample is adversarial, not exhaustive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import flint
import numpy as np
import numpy.typing as npt
import sympy
from flint import arb

from ..theory.activations import ACTIVATIONS, Activation
from ..theory.arithmetic import DOUBLE
from ..theory.enclosures import ball_function, exact_value
from ..theory.errors import InputError, Unsupported, lookup
from ..theory.lowering import Program
from ..theory.removable import limit_at
from .compiled import DTYPES
from .kernels import HALF, Kernel, kernel

#: Bits of ball arithmetic tried in turn until the error is decided.
PRECISIONS = (160, 400, 1_400, 3_000, 8_000)
#: Beyond this |x| a ball may not hold exp(x), and an enclosure may be nothing at all.
BEYOND_BALLS = 1e15
#: Points at which exponentials and error functions underflow, saturate or overflow, in float64 and in float32.
CRITICAL = (
    708.396, 709.7827, 744.44, 745.1332, 746.0, 87.3365, 88.7228, 103.2789, 103.9721, 36.7, 37.5194, 38.5675, 26.5433,
    27.2263, 19.06, 18.7, 13.19, 14.17, 8.3, 5.9, 1.0, 2.0, 0.5, 0.693147, 3.141592653589793, 1.5707963267948966,
)  # fmt: skip
HUGE = (1e18, 1e19, 1.3407807929942596e154, 1.0e155, 1e300, 1.7976931348623157e308, 3.4028234663852886e38, 1.8446744e19)


@dataclass(frozen=True)
class Accuracy:
    """What was measured. ``worst_ulp`` is infinite where NaN or ∞ came out for a finite exact value, or the reverse."""

    name: str
    dtype: str
    target: str
    order: int
    points: int
    #: points at which the function is defined as far as is known, and no ball was sharp enough to decide the error
    undecided: int
    worst_ulp: float
    worst_input: float
    worst_computed: float
    worst_exact: str
    mean_ulp: float
    over_half: int
    over_one: int
    #: points where the kernel gave NaN or ±∞ although the exact value is finite and representable, or the reverse
    failures: tuple[float, ...]
    at_nan: float
    at_plus_infinity: float
    at_minus_infinity: float
    #: points at which the function is proved to have no real value (the root or logarithm of a negative number, 1/0)
    undefined: int = 0

    def __str__(self) -> str:
        label = (
            ("value", "first derivative", "second derivative")[self.order]
            if self.order < 3
            else f"derivative {self.order}"
        )
        return (
            f"{self.name} {label}, {self.dtype}: at most {self.worst_ulp:.3f} ULP at {self.points} points "
            f"(at x = {self.worst_input!r}: {self.worst_computed!r}, exact {self.worst_exact})"
        )


# --------------------------------------------------------------------------------------------------------------- bounds

#: Promised error in ULP of the rows' kernels on CPU and GPU, by dtype: value, first and second derivative. float32 is
#: computed in float64 and rounded once, so ½ and a little; float64 in pairs of floats, of which the last step rounds.
BOUNDS = {"float64": (1.0, 1.0, 2.0), "float32": (0.51, 0.51, 0.51)}
#: float64 on NumPy, without pairs: every operation of a stable form may add up to one ulp; second derivatives are
#: quotients by cubes.
STEPWISE = (4.0, 4.0, 5.0)
#: Rows of which at most one step rounds: what NumPy promises for them in place of :data:`STEPWISE`.
TIGHTENED = dict.fromkeys(
    ("identity", "step", "sign", "relu", "leaky_relu", "prelu", "relu6", "squared_relu", "hard_tanh", "softshrink",
     "hardshrink"), (1.0, 1.0, 2.0)
)  # fmt: skip
#: float16 and bfloat16: the float64 kernel's result, rounded once; errors are decided to 1/1000.
HALF_BOUND = 0.501
#: Loosened, with the reason.
LOOSENED: dict[tuple[str, str, int, str], tuple[float, str]] = {
    ("gelu_tanh", "float64", 1, "numpy"): (6.0, "terms up to 4 times their sum beside its local polynomial"),
    ("gelu_tanh", "float64", 2, "numpy"): (8.0, "terms up to 4 times their sum beside its local polynomial"),
    ("gelu", "float64", 0, "numpy"): (8.0, "scipy.special.erfcx is off by up to 7 units of 2⁻⁵³"),
    ("gelu", "float64", 1, "numpy"): (8.0, "scipy.special.erfcx is off by up to 7 units of 2⁻⁵³"),
} | dict.fromkeys(
    ((name, "float64", order, "cuda") for name in ("sin", "cos") for order in (0, 1)),
    (2.0, "beyond 8192 they are libdevice's, documented to 2 ULP"),
)


def bound(row: Activation, dtype: str, order: int, target: str = "cpu") -> float | None:
    """The promised error in ULP of a row's kernel; None for a typed formula, for which none is made.

    The promise of a row with parameters is made for its defaults and kept to the same figure at others.
    """
    name = row.name.split("(")[0]
    if row.is_typed or name not in ACTIVATIONS or order > 2:
        return None
    if dtype in HALF:
        return HALF_BOUND
    loosened = LOOSENED.get((name, dtype, order, target))
    if loosened:
        return loosened[0]
    if dtype == "float64" and target == "numpy":
        return TIGHTENED.get(name, STEPWISE)[order]
    return BOUNDS[dtype][order]


#: dy·f′(x), a·g(b), dy·g(b), dy·a·g′(b) on the CPU, whatever the magnitudes of the factors: rounded once.
PRODUCT_BOUNDS = {"float64": 1.0, "float32": 0.51}
#: Loosened, with the reason.
LOOSENED_PRODUCTS = dict.fromkeys(
    (("sin", "float64"), ("cos", "float64")),
    (1.75, "beyond 8192 the C library's sine and cosine, one float, and the product is rounded once more"),
)


def product_bound(name: str, dtype: str) -> float:
    """The promised error in ULP of a row's vector-Jacobian product, and of a gated unit."""
    loosened = LOOSENED_PRODUCTS.get((name, dtype))
    return loosened[0] if loosened else PRODUCT_BOUNDS[dtype]


# ---------------------------------------------------------------------------------------------------------- exact value


@dataclass(frozen=True)
class Format:
    """A binary floating-point format."""

    precision: int
    least_exponent: int  # of the smallest normal number 2**least_exponent
    largest: float

    def ulp_exponent(self, exponent: int) -> int:
        """log₂ of the spacing for numbers in [2**(exponent−1), 2**exponent)."""
        return max(exponent - self.precision, self.least_exponent - self.precision + 1)


FORMATS = {
    "float64": Format(53, -1022, float(np.finfo(np.float64).max)),
    "float32": Format(24, -126, float(np.finfo(np.float32).max)),
    "float16": Format(11, -14, float(np.finfo(np.float16).max)),
    "bfloat16": Format(8, -126, (2 - 2.0**-7) * 2.0**127),
}


def _exponent(ball: arb) -> int | None:
    """e with 2**(e−1) ≤ |ball| < 2**e at the ball's middle; None for zero."""
    middle = ball.mid()
    if middle == 0:
        return None
    mantissa, exponent = middle.man_exp()
    return int(abs(int(mantissa)).bit_length() + int(exponent))


def ulp_error(computed: float, exact: Callable[[], arb], fmt: Format) -> tuple[float, arb]:
    """The error of ``computed`` against the ball that ``exact()`` gives at the current precision; decided to 1/1000.

    An exact value beyond the largest float is rightly ∞. Returns the error and the last ball.
    """
    ball = arb.nan()
    for bits in PRECISIONS:
        with flint.ctx.workprec(bits):
            ball = exact()
            if ball.is_nan() or not ball.is_finite():
                continue
            decided = _error_from(computed, ball, fmt)
            if decided is not None:
                return decided, ball
    return math.nan, ball


def _error_from(computed: float, ball: arb, fmt: Format) -> float | None:
    if math.isnan(computed):
        return math.inf
    beyond = arb(fmt.largest) * (1 + arb(2) ** -(fmt.precision + 1))
    if math.isinf(computed):
        over = ball if computed > 0 else -ball
        return 0.0 if over >= beyond else (math.inf if over < beyond else None)
    exponent = _exponent(ball)
    exponent = fmt.ulp_exponent(exponent) if exponent is not None else fmt.least_exponent - fmt.precision + 1
    error = abs(arb(computed) - ball) / arb(2) ** exponent
    if not error.rad() < arb(1e-3) * error.mid().max(arb(1)):
        return None
    return float(error.mid())


def exact_function(row: Activation, order: int) -> Callable[[float], Callable[[], arb]]:
    """x ↦ (a thunk that encloses the exact derivative there at the current precision).

    Far out, where exp(±x) leaves even the range of balls, the form in decaying quantities is enclosed instead; at a
    removable singularity the value is the limit.
    """
    formula = row.derivative(order)
    function = ball_function(formula)

    def at(point: float) -> Callable[[], arb]:
        def enclosed() -> arb:
            ball = function(exact_value(point))
            if ball.is_finite():
                return ball
            if abs(point) < BEYOND_BALLS:
                limit = limit_at(formula, sympy.Rational(*float(point).as_integer_ratio()), flint.ctx.prec)
                return ball if limit is None else limit
            return _far_form(row, order).enclose_value(point)

        return enclosed

    return at


def undefined_at(formula: sympy.Expr, point: float) -> bool:
    """Whether some step of the formula is proved to have no real value at ``point``; False where that is not known.

    >>> from backproof.theory.symbols import x
    >>> undefined_at(sympy.sqrt(x), -1e300), undefined_at(1 / x, 0.0), undefined_at(sympy.exp(x), 1e300)
    (True, True, False)
    """
    if not formula.free_symbols:
        return False
    if isinstance(formula, sympy.Piecewise):
        place = sympy.Rational(*point.as_integer_ratio())
        for branch, condition in formula.args:
            holds = condition.subs(dict.fromkeys(formula.free_symbols, place))
            if holds != False:  # noqa: E712  (SymPy's own false; anything but true is not known)
                return bool(holds == True) and undefined_at(branch, point)  # noqa: E712
        return True
    return any(undefined_at(part, point) for part in formula.args) or _breaks(formula, point)


def _breaks(formula: sympy.Expr, point: float) -> bool:
    """Whether the outermost step has no real value, its arguments having one."""
    with flint.ctx.workprec(PRECISIONS[1]):
        if isinstance(formula, sympy.log):
            return bool(ball_function(formula.args[0])(exact_value(point)) <= 0)
        if isinstance(formula, (sympy.asin, sympy.acos)):
            return bool(abs(ball_function(formula.args[0])(exact_value(point))) > 1)
        if isinstance(formula, sympy.Pow) and formula.exp.is_Rational:
            base = ball_function(formula.base)(exact_value(point))
            return bool((base < 0 and not formula.exp.is_Integer) or (base == 0 and formula.exp < 0))
    return False


@dataclass(frozen=True)
class _FarForm:
    """The derivative in decaying quantities, proved equal to it elsewhere; used where exp leaves the range of balls."""

    program: Program | None

    def enclose_value(self, point: float) -> arb:
        return arb.nan() if self.program is None else self.program.enclose(exact_value(point))["value"]


@lru_cache(maxsize=256)
def _far_form(row: Activation, order: int) -> _FarForm:
    from ..theory.stability import stable_program

    try:
        return _FarForm(stable_program({"value": row.derivative(order)}, replace(DOUBLE, gone=6_000)).program)
    except Unsupported:
        return _FarForm(None)


# --------------------------------------------------------------------------------------------------------------- sample


def adversarial_sample(
    row: Activation, order: int, dtype: str = "float64", *, size: int = 2_000, seed: int = 0, also: Iterable[float] = ()
) -> npt.NDArray[Any]:
    """Every exponent; neighbours of borders, roots, thresholds, overflow and underflow points; and random points."""
    kind = DTYPES[dtype]
    rng = np.random.default_rng(seed)
    info = np.finfo(kind)
    exponents = np.arange(info.minexp - info.nmant, info.maxexp)
    step = max(1, len(exponents) * 2 // max(size // 2, 1))
    chosen = exponents[rng.integers(step) :: step]
    with np.errstate(all="ignore"):
        magnitudes = np.ldexp(1 + rng.random(len(chosen)), chosen)
    centres = [0.0, *CRITICAL, *HUGE, *also, *special_points(row, order)]
    near = [neighbour for c in centres for s in (c, -c) for neighbour in _neighbours(s, kind)]
    rest = max(size // 4, 50)
    spread = [rng.uniform(-4, 4, rest), rng.uniform(-40, 40, rest), rng.uniform(-800, 800, rest // 2)]
    points = np.concatenate([magnitudes, -magnitudes, np.array(near), *spread])
    with np.errstate(over="ignore"):
        points = points.astype(kind)
    return np.unique(points[np.isfinite(points)])


def _neighbours(centre: float, kind: type[np.floating[Any]]) -> list[float]:
    with np.errstate(all="ignore"):
        middle = kind(centre)
        around = [middle]
        low = high = middle
        for _ in range(3):
            low, high = np.nextafter(low, kind(-np.inf)), np.nextafter(high, kind(np.inf))
            around += [low, high]
        wider = [middle * kind(1 + s * 2.0**-k) for k in (8, 14, 20) for s in (-1, 1)]
    return [float(v) for v in around + wider]


def special_points(row: Activation, order: int) -> list[float]:
    """Borders of the formula, and roots of the function and its derivatives near the origin."""
    found = [float(sympy.N(border, 20)) for border in row.borders]
    for n in range(order + 2):
        found += roots(row.derivative(n))
    return found


def roots(expression: sympy.Expr, low: float = -8.0, high: float = 8.0, cells: int = 160) -> list[float]:
    """Points where balls show a change of sign, bisected to float64 (roots of even order are not found)."""
    function = ball_function(sympy.sympify(expression))

    def sign(point: float) -> int:
        with flint.ctx.workprec(256):
            ball = function(exact_value(point))
        return (1 if ball > 0 else -1 if ball < 0 else 0) if ball.is_finite() else 0

    grid = [low + (high - low) * (k + 1 / math.pi) / cells for k in range(cells + 1)]
    signs = [sign(p) for p in grid]
    return [_bisect(sign, a, b, s) for a, b, s, t in zip(grid, grid[1:], signs, signs[1:]) if s * t < 0]


def _bisect(sign: Callable[[float], int], low: float, high: float, at_low: int) -> float:
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return low
        here = sign(middle)
        if here == 0:
            return middle
        low, high = (middle, high) if here == at_low else (low, middle)


# -------------------------------------------------------------------------------------------------------------- measure


def measure_accuracy(
    spec: Any,
    dtype: str | None = None,
    n_derivative: int = 0,
    *,
    target: str = "cpu",
    points: Sequence[float] | npt.NDArray[Any] | None = None,
    size: int = 2_000,
    seed: int = 0,
    against: Callable[[npt.NDArray[Any]], Any] | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> Accuracy:
    """Measure a kernel's error in ULP over ``points``, or over an adversarial sample of about ``size`` points.

    ``spec`` is a :class:`.Kernel`, or what :func:`.kernel` takes. ``against`` is another function of an array to be
    measured in the kernel's place, against the same exact values. ``advance`` is told of progress.
    Raises :class:`InputError` for an unknown dtype or points that are no numbers.
    """
    compiled = spec if isinstance(spec, Kernel) else kernel(spec, dtype or "float64", target)
    if dtype is not None and dtype != compiled.dtype:
        raise InputError(f"the kernel is {compiled.dtype}, not {dtype}")
    lookup(DTYPES, compiled.dtype, "dtype")
    row = compiled.activation
    run = against or (lambda v: compiled.derivative(v, n_derivative))
    if points is None:
        sample = adversarial_sample(row, n_derivative, compiled.dtype, size=size, seed=seed)
    else:
        sample = np.asarray(points, dtype=compiled.dtype).reshape(-1)
    if sample.size == 0:
        raise InputError("no points to measure at")
    computed = np.asarray(run(sample))
    exact = exact_function(row, n_derivative)
    fmt = FORMATS[compiled.dtype]
    errors = np.empty(sample.size)
    balls = []
    for k, (point, value) in enumerate(zip(sample.tolist(), computed.tolist(), strict=True)):
        errors[k], ball = ulp_error(value, exact(point), fmt)
        balls.append(ball)
        advance(1)
    return _summary(compiled, n_derivative, sample, computed, errors, balls, run)


def _summary(
    compiled: Kernel,
    order: int,
    sample: npt.NDArray[Any],
    computed: npt.NDArray[Any],
    errors: npt.NDArray[np.float64],
    balls: list[arb],
    run: Callable[[npt.NDArray[Any]], Any],
) -> Accuracy:
    decided = ~np.isnan(errors)
    if not decided.any():
        raise InputError(f"no exact value of {compiled.activation.name} could be enclosed at these points")
    worst = int(np.nanargmax(errors))
    formula = compiled.activation.derivative(order)
    undefined = sum(undefined_at(formula, point) for point in sample[~decided].tolist())
    limits = np.asarray(run(np.array([np.nan, np.inf, -np.inf], dtype=sample.dtype)), dtype=float)
    finite = errors[np.isfinite(errors)]
    return Accuracy(
        name=compiled.activation.name,
        dtype=compiled.dtype,
        target=compiled.target,
        order=order,
        points=int(decided.sum()),
        undecided=int((~decided).sum()) - undefined,
        undefined=undefined,
        worst_ulp=float(errors[worst]),
        worst_input=float(sample[worst]),
        worst_computed=float(computed[worst]),
        worst_exact=balls[worst].str(20, radius=False),
        mean_ulp=float(finite.mean()) if finite.size else math.inf,
        over_half=int((errors > 0.5).sum()),
        over_one=int((errors > 1).sum()),
        failures=tuple(float(v) for v in sample[np.isinf(errors)]),
        at_nan=float(limits[0]),
        at_plus_infinity=float(limits[1]),
        at_minus_infinity=float(limits[2]),
    )
