r"""Signal propagation through depth: how variances travel forward and backward in a wide random network.

For z⁽ˡ⁺¹⁾ = f(z⁽ˡ⁾)W + b with independent zero-mean entries, s = fan_in·Var W, t = fan_out·Var W:

    forward    q⁽ˡ⁺¹⁾ = s·E f(√q⁽ˡ⁾ z)² + σ_b²            (the variance map Q)
    backward   Var δ⁽ˡ⁾ = t·E f′(√q⁽ˡ⁾ z)²·Var δ⁽ˡ⁺¹⁾      (χ₁ = s·E f′² at the fixed point)

exact as the widths grow, for gradients independent of the weights. Every value is exact or a proven enclosure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import sympy
from flint import arb, ctx

from . import initialisers
from .activations import Activation, activation
from .constants import number
from .errors import InputError, Unsupported
from .gaussian import exact_number, moment
from .gaussian_integrals import enclosure, value_and_slope
from .initialisers import Initialiser, initialiser
from .pieces import Piece, differentiated, pieces
from .supremum import exact
from .symbols import x

#: Digits asked of each moment on the way; what is proven in the end is printed with the result.
DIGITS = 13
#: Relative change per layer below which the map is tried for an interval that it maps into itself.
SETTLED = arb("1e-9")
#: Growth over the whole depth that is called vanishing (below 1/10) or exploding (above 10).
STABLE_FACTOR = 10


@dataclass(frozen=True)
class LayerVariance:
    """Predicted variances at one layer (depth 1 is the first): balls that contain the infinite-width values."""

    depth: int
    fan_in: int
    fan_out: int
    #: E z², the pre-activations.
    preactivation: arb
    #: E f(z)².
    activation: arb
    #: E δ² at z, relative to that at the last layer.
    gradient: arb


@dataclass(frozen=True)
class Prediction:
    """The variances of every layer, and what they say about the whole network."""

    activation: str
    initialiser: str
    layers: tuple[LayerVariance, ...]
    #: "exact" (positively homogeneous activation), "enclosed", or "enclosed, settled" (an invariant interval is proven)
    status: str

    @property
    def digits(self) -> int:
        """Significant digits proven of every value."""
        balls = [b for row in self.layers for b in (row.preactivation, row.activation, row.gradient)]
        bits = [b.rel_accuracy_bits() for b in balls if not b.is_exact()]
        return max(0, int(min(bits, default=100) * 0.30103))

    @property
    def forward_growth(self) -> arb:
        """E z² at the last layer over that at the first."""
        return self.layers[-1].preactivation / self.layers[0].preactivation

    @property
    def backward_growth(self) -> arb:
        """E δ² at the first layer over that at the last."""
        return self.layers[0].gradient / self.layers[-1].gradient

    @property
    def verdict(self) -> str:
        """What happens forward and backward over this depth, see :func:`verdict`."""
        return f"forward {verdict(self.forward_growth)}, backward {verdict(self.backward_growth)}"


def verdict(growth: arb) -> str:
    """ "vanishing", "stable" or "exploding": the factor over the whole depth against 1/10 and 10."""
    if growth < arb(1) / STABLE_FACTOR:
        return "vanishing"
    if growth > STABLE_FACTOR:
        return "exploding"
    return "stable" if growth > arb(1) / STABLE_FACTOR and growth < STABLE_FACTOR else "not decided"


def homogeneity(f: Activation) -> int | None:
    """The degree k if f(x) = a·x^k for x > 0 and b·x^k for x < 0 (positively homogeneous), else None.

    >>> homogeneity(activation("leaky_relu")), homogeneity(activation("squared_relu")), homogeneity(activation("elu"))
    (1, 2, None)
    """
    parts = pieces(f.expr)
    if len(parts) > 2 or (len(parts) == 2 and parts[0].right != 0):
        return None
    degrees = set()
    for part in parts:
        degree = sympy.degree(part.expr, x) if part.expr.is_polynomial(x) else -1
        if part.expr == 0:
            continue
        if degree < 0 or (part.expr / x**degree).has(x):
            return None
        degrees.add(int(degree))
    return degrees.pop() if len(degrees) == 1 else None


class Maps:
    """E f(√q z)², E f′(√q z)² and their slopes in q, enclosed for every q of a ball.

    Over a ball around m with radius r:  V(q) = V(m) + V′(m)(q − m) + R,  |R| ≤ r²/2·√(E h⁴)·√24/(4q²), because
    ∂²N/∂q² = N·He₄(z)/(4q²) and E He₄² = 24 (Cauchy–Schwarz). Quadrature thus only ever meets exact variances.
    """

    def __init__(self, f: Activation, digits: int = DIGITS) -> None:
        self.f, self.digits = f, digits
        self.values = pieces(f.expr)
        self.derivatives = differentiated(self.values, 1)
        self.degree = homogeneity(f)
        enclosure(self.values, 2, sympy.S.One, 8)  # refuses a formula that is not real everywhere, or grows too fast

    def second_moment(self, q: arb) -> tuple[arb, arb]:
        """E f(√q z)² and its derivative by q."""
        return self._over(self.values, q)

    def derivative_moment(self, q: arb) -> tuple[arb, arb]:
        """E f′(√q z)² (f′ almost everywhere) and its derivative by q."""
        return self._over(self.derivatives, q)

    def _over(self, parts: tuple[Piece, ...], q: arb) -> tuple[arb, arb]:
        if self.degree is not None:
            return self._homogeneous(parts, q)
        if not q > 0:
            what = "zero" if q == 0 else "not proven to be positive and finite"
            raise Unsupported(f"the variance before {self.f.name} is {what}; ask for fewer layers or another variance")
        middle, radius = q.mid(), q.rad()
        value, slope = value_and_slope(parts, 2, middle, self.digits)
        if radius.is_zero():
            return value, slope
        if not radius < middle / 100:
            raise Unsupported(f"the variance is only known to lie in {q}")
        offset = arb(0, radius)
        curvature = _curvature(parts, _power_of_two_above(q)) / q**2
        curve = arb(0, curvature.upper())
        return value + slope * offset + curve * radius * radius / 2, slope + curve * offset

    def _homogeneous(self, parts: tuple[Piece, ...], q: arb) -> tuple[arb, arb]:
        """E h(√q z)² = q^k·E h(z)² for h of degree k."""
        order = 0 if parts is self.values else 1
        exact_moment, k = moment(self.f, 2, order), max(self.degree - order, 0)  # type: ignore[operator]
        unit = exact_moment.enclosure if exact_moment.closed_form is None else number(exact_moment.closed_form)
        return unit * q**k, (k * unit * q ** (k - 1) if k else arb(0))


def _power_of_two_above(q: arb) -> sympy.Rational:
    upper, bound = exact(q.upper()), Fraction(1)
    while bound < upper:
        bound *= 2
    while bound / 2 >= upper:
        bound /= 2
    return sympy.Rational(bound.numerator, bound.denominator)


@lru_cache(maxsize=4096)
def _curvature(parts: tuple[Piece, ...], above: sympy.Rational) -> arb:
    """An upper bound of q²·|∂²/∂q² E h²| for all q in [above/2, above].

    N(0, q) ≤ √(above/q)·N(0, above) there, so E_q h⁴ ≤ √(21/10)·E_above h⁴: a ball of relative radius below 1/100 whose
    upper end is at least above/2 holds no q below above/(21/10).
    """
    fourth = enclosure(parts, 4, above, 6)
    return (fourth * (arb(21) / 10).sqrt()).sqrt() * arb(24).sqrt() / 4


# --------------------------------------------------------------------------------------------------------- prediction


def predict(
    f: Activation | str,
    row: Initialiser | str,
    widths: Sequence[int],
    bias_variance: Any = 0,
    input_variance: Any = 1,
) -> Prediction:
    """Predict the variances of every layer of a network with these ``widths`` (inputs first), infinite-width theory.

    ``input_variance`` is E x² of the inputs, ``bias_variance`` σ_b². The gradient at the last pre-activation has
    variance 1. Raises :class:`InputError` for a wrong argument and :class:`Unsupported` where a moment has no proof.

    >>> p = predict("relu", "he", [100] * 51)
    >>> p.status, p.layers[-1].preactivation, p.verdict
    ('exact', 2.00000000000000, 'forward stable, backward stable')
    """
    f, row = activation(f), initialiser(row)
    sizes = [_width(n) for n in widths]
    if len(sizes) < 2:
        raise InputError("a network needs at least two widths: inputs and one layer")
    bias, start = exact_number(bias_variance, "bias variance"), exact_number(input_variance, "input variance")
    with ctx.workprec(96):
        if not number(start) > 0 or number(bias) < 0:
            raise InputError("the input variance must be positive and the bias variance not negative")
    # An unstable forward map doubles a relative error per layer or worse: what comes out unproven is done again finer.
    for digits in (DIGITS, 4 * DIGITS):
        try:
            result = _predict(f, row, sizes, bias, start, digits)
        except Unsupported:
            if digits != DIGITS:
                raise
            continue
        if result.digits >= 4 or result.layers[0].gradient == 0:
            return result
    return result


def _predict(
    f: Activation, row: Initialiser, sizes: list[int], bias: sympy.Expr, start: sympy.Expr, digits: int
) -> Prediction:
    maps = Maps(f, digits)
    given = f if row.needs_activation else None
    with ctx.workprec(int(digits * 3.3220) + 53):
        variances = [row.variance(m, n, given) for m, n in pairwise(sizes)]
        # Multiplied exactly first: He's fan_in·(2/fan_in) is 2, not a ball around it.
        into = [initialisers.ball(m * v) for m, v in zip(sizes, variances, strict=False)]
        out = [initialisers.ball(n * v) for n, v in zip(sizes[1:], variances, strict=True)]
        forward, settled = _forward(maps, sizes, into, number(bias), number(start))
        layers = _backward(maps, sizes, out, forward)
    status = "exact" if maps.degree is not None else "enclosed, settled" if settled else "enclosed"
    return Prediction(f.name, row.name, layers, status)


def _width(n: Any) -> int:
    if isinstance(n, bool) or int(n) != n or n < 1:
        raise InputError(f"a width must be a positive integer, not {n}")
    return int(n)


def _forward(
    maps: Maps, sizes: list[int], scales: list[arb], bias: arb, start: arb
) -> tuple[list[tuple[arb, arb]], bool]:
    """(E z², E f(z)²) per layer, with ``scales`` fan_in·Var W.

    An interval proven to map into itself holds for all further equal layers.
    """
    found: list[tuple[arb, arb]] = []
    trapped = False
    incoming, previous = start, None
    for depth, s in enumerate(scales):
        q = s * incoming + bias
        if trapped and same_layer(sizes, scales, depth):
            found.append(found[-1])
            continue
        trapped = False
        m2 = _at_layer(depth + 1, maps.second_moment, q)
        if previous is not None and maps.degree is None and abs(q - previous) < SETTLED * abs(q):
            interval = _invariant(maps, s, bias, q, previous)
            if interval is not None:
                q, m2, trapped = interval[0], interval[1], True
        found.append((q, m2))
        incoming, previous = m2, q
    return found, trapped


def _at_layer(layer: int, moment_of: Callable[[arb], tuple[arb, arb]], q: arb) -> arb:
    try:
        return moment_of(q)[0]
    except Unsupported as reason:
        raise Unsupported(f"layer {layer}: {reason}") from None


def same_layer(sizes: list[int], scales: list[arb], depth: int) -> bool:
    """Whether layer ``depth`` has the same map as the one before it."""
    return sizes[depth] == sizes[depth - 1] and sizes[depth + 1] == sizes[depth]


def _invariant(maps: Maps, s: arb, bias: arb, q: arb, previous: arb) -> tuple[arb, arb] | None:
    """An interval around q that the map sends into itself, with E f² over it; None where this is not proven."""
    step = abs(q - previous).upper()
    for factor in (4, 40):
        interval = q + arb(0, (factor * step).upper())
        m2 = maps.second_moment(interval)[0]
        if interval.contains_interior(s * m2 + bias):
            return interval, m2
    return None


def _backward(
    maps: Maps, sizes: list[int], scales: list[arb], forward: list[tuple[arb, arb]]
) -> tuple[LayerVariance, ...]:
    last = len(forward) - 1
    gradient = arb(1)
    cache: dict[str, arb] = {}
    rows = []
    for depth in range(last, -1, -1):
        q, m2 = forward[depth]
        if depth < last:
            key = q.str(40, more=True)
            if key not in cache:
                cache[key] = _at_layer(depth + 1, maps.derivative_moment, q)
            gradient = scales[depth + 1] * cache[key] * gradient
        rows.append(LayerVariance(depth + 1, sizes[depth], sizes[depth + 1], q, m2, gradient))
    return tuple(reversed(rows))


def finite_width_ratio(f: Activation | str, row: Initialiser | str, widths: Sequence[int]) -> arb | None:
    """E[S²]/(E S)² of S = Σ a² at the last layer, exact at finite width, for one input and zero bias.

    For f(λx) = λf(x), λ > 0, and independent normal weights the layers' factors are independent, so the ratio is
    ∏ (1 + (E f⁴/(E f²)² − 1)/n_l): with ReLU ∏ (1 + 5/n_l). None for other activations and distributions.
    Source: Hanin & Rolnick 2018, arXiv:1803.01719.

    >>> finite_width_ratio("relu", "he", [8, 10, 20]).contains(arb("1.5") * arb("1.25"))
    True
    """
    f, row = activation(f), initialiser(row)
    if homogeneity(f) != 1 or row.distribution != "normal":
        return None
    with ctx.workprec(96):
        excess = moment(f, 4).enclosure / moment(f, 2).enclosure ** 2 - 1
        ratio = arb(1)
        for n in widths[1:]:
            ratio *= 1 + excess / _width(n)
        return ratio


# -------------------------------------------------------------------------------------------------------- fixed points


@dataclass(frozen=True)
class FixedPoint:
    """q* with Q(q*) = q*: proven to exist in ``q`` by a sign change (or exactly), with the slope Q′ and χ₁ there."""

    q: arb
    slope: arb
    chi: arb

    @property
    def stability(self) -> str:
        """ "stable", "unstable" or "not decided" (|Q′| against 1)."""
        if abs(self.slope) < 1:
            return "stable"
        return "unstable" if abs(self.slope) > 1 else "not decided"


def fixed_points(
    f: Activation | str, weight_variance: Any = 1, bias_variance: Any = 0, *, low: Any = "1e-6", high: Any = 10**6
) -> tuple[FixedPoint, ...]:
    """Positive fixed points of Q(q) = σ_w² E f(√q z)² + σ_b² that a sign change between two exact points proves.

    Searched between ``low`` and ``high`` on a grid with ratio 4: each one returned exists, but two that lie in one
    cell of the grid are missed, and a family of fixed points (ReLU at σ_w² = 2) has no sign change.
    """
    f = activation(f)
    s, b = exact_number(weight_variance, "weight variance"), exact_number(bias_variance, "bias variance")
    return _fixed_points(f, s, b, exact_number(low), exact_number(high))


@lru_cache(maxsize=128)
def _fixed_points(f: Activation, s: sympy.Expr, b: sympy.Expr, low: Any, high: Any) -> tuple[FixedPoint, ...]:
    maps = Maps(f, digits=20)
    with ctx.workprec(128):
        weight, bias, q, end = number(s), number(b), number(low).mid(), number(high)
        found = []
        sign = _excess(maps, weight, bias, q)
        while q < end:
            after = _excess(maps, weight, bias, 4 * q)
            if sign * after < 0:
                found.append(_refined(maps, weight, bias, q, 4 * q, sign))
            q, sign = 4 * q, after
        return tuple(found)


def _refined(maps: Maps, s: arb, b: arb, low: arb, high: arb, sign: int) -> FixedPoint:
    """Bisect to a coarse cell, then take Newton steps and prove the sign change around the last one."""
    for _ in range(5):
        middle = ((low + high) / 2).mid()
        side = _excess(maps, s, b, middle) * sign
        if side == 0:  # not decided there: the two ends keep their proven signs
            break
        low, high = (middle, high) if side > 0 else (low, middle)
    q = ((low + high) / 2).mid()
    for _ in range(5):
        value, slope = maps.second_moment(q)
        q = (q + (s * value + b - q) / (1 - s * slope)).mid()
    inside = bool(q > low) and bool(q < high)
    for digits in (18, 15, 12, 9, 6) if inside else ():
        width = abs(q) / 10**digits
        below, above = (q - width).mid(), (q + width).mid()
        if _excess(maps, s, b, below) * sign > 0 and _excess(maps, s, b, above) * sign < 0:
            return _fixed_point(maps, s, below.union(above))
    raise Unsupported(
        f"{maps.f.name}: a fixed point between {low.str(6)} and {high.str(6)} could not be enclosed closely"
    )


def _fixed_point(maps: Maps, s: arb, ball: arb) -> FixedPoint:
    return FixedPoint(ball, s * maps.second_moment(ball)[1], s * maps.derivative_moment(ball)[0])


def _excess(maps: Maps, s: arb, b: arb, q: arb) -> int:
    """The proven sign of Q(q) − q at an exact q, 0 where it is not decided."""
    value = s * maps.second_moment(q)[0] + b - q
    return 1 if value > 0 else -1 if value < 0 else 0
