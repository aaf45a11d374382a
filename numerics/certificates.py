"""Certificates: proven bounds of sup|F̂ − f| for a network with the float weights that ran.

* Piecewise-linear networks: the breakpoints are exact rationals, and between them affine − f is bounded by an enclosure
  of f″. For ReLU units the rounding of the float evaluation is bounded too, so the claim covers every float input.
* Smooth networks: branch and bound with Taylor models over balls. The claim is about real arithmetic with the float
  weights; the activation kernel's own error is measured elsewhere and not part of it.

Every bound is two-sided: ``lower`` is proven at one exact point.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

import flint
import sympy
from flint import arb

from ..theory.activations import ACTIVATIONS
from ..theory.approximation import Approximation
from ..theory.enclosures import ball_function, enclose, exact_value, taylor
from ..theory.errors import Unsupported
from ..theory.gates import Arm, far_arms
from ..theory.pieces import pieces
from ..theory.shallow import Network
from ..theory.supremum import PRECISION, bottom, interval_ball, top
from ..theory.symbols import x
from ..theory.target import SmoothPiece, Target
from .approximation import FloatNetwork

#: Stop when the proven upper bound is within this of the proven lower bound (exact pieces cost less than series).
TOLERANCE = {"linear": Fraction(1, 500), "smooth": Fraction(1, 50)}
#: Pre-activations beyond this are on a straight arm of the activation to far below float64's resolution (e^-44).
_SATURATED = 44
_AT_LIMIT = arb(2) ** -50
#: Order of the Taylor models: measured best for sums of some ten active units per box.
_ORDER = 4

UNIT_ROUNDOFF = {"float64": Fraction(1, 2**53), "float32": Fraction(1, 2**24)}
#: A product that underflows, flushed to zero or not, is off by less than the smallest normal number.
SMALLEST_NORMAL = {"float64": Fraction(1, 2**1022), "float32": Fraction(1, 2**126)}


@dataclass(frozen=True)
class Certificate:
    """Proven: ``lower <= sup |F̂ − f| <= upper`` over the interval, F̂ with the ``dtype`` weights, in real arithmetic.

    ``rounding`` bounds what evaluating F̂ in floats adds at any float input (IEEE arithmetic, any order of summation);
    None where that is not proven.
    """

    dtype: str
    upper: Fraction
    lower: Fraction
    where: Fraction
    boxes: int
    method: str
    rounding: Fraction | None

    @property
    def total(self) -> Fraction | None:
        """The bound for the float kernel itself: ``upper`` + ``rounding``."""
        return None if self.rounding is None else self.upper + self.rounding


def certify(
    approximation: Approximation,
    dtype: str = "float64",
    *,
    budget: int = 20_000,
    tolerance: Fraction | None = None,
    advance: Callable[[int], None] | None = None,
) -> Certificate:
    """Certify the network with its numbers rounded to ``dtype``.

    The upper bound holds whether or not ``budget`` boxes reached the tolerance. Raises :class:`Unsupported` where no
    finite bound was found ("not decided": it says what would help).

    >>> from ..theory.approximation import approximate
    >>> c = certify(approximate("x**2", "relu", units=4))
    >>> c.lower, c.upper, float(c.total) < 0.015626
    (Fraction(1, 64), Fraction(1, 64), True)
    """
    floats = FloatNetwork.of(approximation.network, dtype)
    network, f = floats.exact(), approximation.target
    with flint.ctx.workprec(PRECISION):
        linear = _is_piecewise_linear(network)
        tolerance = TOLERANCE["linear" if linear else "smooth"] if tolerance is None else tolerance
        if linear:
            bound, parts, method = _linear_bound(network, f), _linear_parts(network, f), "exact pieces, enclosed f″"
        else:
            bound, parts, method = _taylor_bound(network, f), _smooth_parts(f), f"Taylor models of order {_ORDER}"
        lower, where, upper, boxes = _branch(bound, parts, budget, tolerance, advance)
    return Certificate(dtype, upper, lower, where, boxes, method, _rounding(network, f, dtype))


#: (lower bound at the middle or an end, its point, upper bound over the box or None)
Verdict = tuple[Fraction, Fraction, Fraction | None]
Bound = Callable[[Fraction, Fraction], Verdict]


def _branch(
    bound: Bound,
    parts: Iterator[tuple[Fraction, Fraction]],
    budget: int,
    tolerance: Fraction,
    advance: Callable[[int], None] | None,
) -> tuple[Fraction, Fraction, Fraction, int]:
    """Best-first subdivision until the largest upper bound is near the largest value found at a point."""
    best, where = Fraction(-1), Fraction(0)
    heap: list[tuple[Fraction, Fraction, Fraction]] = []
    waiting: list[tuple[Fraction, Fraction, Fraction | None]] = [(u, v, None) for u, v in parts]
    unbounded, boxes = [], 0
    while True:
        for u, v, parent in waiting:
            value, point, most = bound(u, v)
            if parent is not None:  # what holds on a box holds on its halves
                most = parent if most is None else min(most, parent)
            boxes += 1
            if value > best:
                best, where = value, point
            if most is None:
                unbounded.append((u, v))
            else:
                heapq.heappush(heap, (-most, u, v))
            if advance is not None:
                advance(1)
        if unbounded:
            (u, v), most = unbounded.pop(), None
            if boxes >= budget or v - u < Fraction(1, 2**60):
                raise Unsupported(f"not decided: no finite bound of the error near x = {float(u):.6g} in {boxes} boxes")
        else:
            most, u, v = heap[0]
            if boxes >= budget or -most <= best * (1 + tolerance):
                return best, where, -most, boxes
            heapq.heappop(heap)
        parent = None if most is None else -most
        waiting = [(u, (u + v) / 2, parent), ((u + v) / 2, v, parent)]


# --- Piecewise-linear networks --------------------------------------------------------------------------------------


def _is_piecewise_linear(network: Network) -> bool:
    """Continuous with rational kinks and arms: every piece of the activation is affine with rational coefficients."""
    try:
        parts = pieces(network.activation.expr)
    except Unsupported:
        return False
    affine = all(p.expr.diff(x).is_Rational and p.expr.subs(x, 0).is_Rational for p in parts)
    ends = [(q.left, p.expr.subs(x, q.left), q.expr.subs(x, q.left)) for p, q in pairwise(parts)]
    return affine and all(place.is_Rational and left == right for place, left, right in ends)


def _corners(network: Network) -> list[tuple[Fraction, Fraction]]:
    """(breakpoint, change of slope there) of F, from every unit and every kink of the activation, exact."""
    parts = pieces(network.activation.expr)
    found: dict[Fraction, Fraction] = {}
    for left, right in pairwise(parts):
        kink = Fraction(int(right.left.p), int(right.left.q))
        turn = right.expr.diff(x) - left.expr.diff(x)
        change = Fraction(int(turn.p), int(turn.q))
        for knot, weight, outer in zip(network.knots, network.weights, network.outer, strict=True):
            if weight:
                place = knot + (kink - network.shift) / weight
                found[place] = found.get(place, Fraction(0)) + outer * abs(weight) * change
    return sorted(found.items())


class _Line:
    """F as exact affine pieces: value and slope at any rational of the interval."""

    def __init__(self, network: Network, a: Fraction, b: Fraction) -> None:
        corners = [(p, change) for p, change in _corners(network) if a < p < b]
        self.starts = [a, *(p for p, _ in corners)]
        first_end = corners[0][0] if corners else b
        value, beside = (_exact_value(network, p) for p in (a, (a + first_end) / 2))
        slope = (beside - value) / ((first_end - a) / 2)
        self.slopes = list(accumulate((change for _, change in corners), initial=slope))
        steps = [(q - p) * s for (p, q), s in zip(pairwise(self.starts), self.slopes, strict=False)]
        self.values = list(accumulate(steps, initial=value))

    def at(self, point: Fraction) -> Fraction:
        k = max(0, bisect_left(self.starts, point) - 1)
        return self.values[k] + self.slopes[k] * (point - self.starts[k])

    def steepest(self) -> Fraction:
        return max(abs(s) for s in self.slopes)


def _exact_value(network: Network, point: Fraction) -> Fraction:
    parts = _affine_parts(network)
    total = network.offset
    for knot, weight, outer in zip(network.knots, network.weights, network.outer, strict=True):
        z = weight * (point - knot) + network.shift
        slope, constant = next((s, c) for end, s, c in parts if end is None or z <= end)
        total += outer * (slope * z + constant)
    return total


def _affine_parts(network: Network) -> list[tuple[Fraction | None, Fraction, Fraction]]:
    """(right end, slope, constant) of each piece of the activation; the last has no end."""

    def number(value: sympy.Expr) -> Fraction:
        return Fraction(int(value.p), int(value.q))

    return [
        (number(p.right) if p.right.is_Rational else None, number(p.expr.diff(x)), number(p.expr.subs(x, 0)))
        for p in pieces(network.activation.expr)
    ]


def _linear_parts(network: Network, f: Target) -> Iterator[tuple[Fraction, Fraction]]:
    """The intervals between breakpoints of F and joints of f: on each F is affine and f smooth."""
    joints = [p.left for p in f.pieces] + [f.b]
    points = sorted({*joints, *(p for p, _ in _corners(network) if f.a < p < f.b)})
    return pairwise(points)


def _linear_bound(network: Network, f: Target) -> Bound:
    """On [u, v]: e = f − F is within h²/8·[−sup f″⁺, sup f″⁻] of its chord; Lipschitz where f″ is not known."""
    line, value = _Line(network, f.a, f.b), ball_function(f.expr)
    steep = f.lipschitz.upper + line.steepest()

    def bound(u: Fraction, v: Fraction) -> Verdict:
        ends = [value(exact_value(p)) - exact_value(line.at(p)) for p in (u, v)]
        sizes = [(bottom(e.abs_lower()), p) for e, p in zip(ends, (u, v), strict=True)]
        least, point = max(sizes)
        high = max(top(e) for e in ends)
        low = min(bottom(e) for e in ends)
        h, second = v - u, _second(f, u, v)
        if second is None:
            return least, point, max(high, -low) + steep * h / 2
        over, under = max(Fraction(0), -second[0]), max(Fraction(0), second[1])
        return least, point, max(high + over * h**2 / 8, -low + under * h**2 / 8, Fraction(0))

    return bound


def _second(f: Target, u: Fraction, v: Fraction) -> tuple[Fraction, Fraction] | None:
    """An enclosure of f″ on [u, v]; None where there is none."""
    expr = _branch_over(f, u, v).expr
    if expr is None:
        return None
    ball = ball_function(expr.diff(x, 2))(interval_ball(u, v))
    return (bottom(ball), top(ball)) if ball.is_finite() else None


def _branch_over(f: Target, u: Fraction, v: Fraction) -> SmoothPiece:
    return next(p for p in f.pieces if p.left <= u and v <= p.right)


def _rounding(network: Network, f: Target, dtype: str) -> Fraction | None:
    """ReLU units of weight 1: x − knot is rounded once, relu is exact, then a sum of n products and an offset.

    |error| <= γ_{n+2}·(|offset| + Σ|outer_k| relu(x − knot_k)) + underflow, in any order of summation, fused or not
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, §3.1); the sum is largest at b.
    """
    plain = network.activation == ACTIVATIONS["relu"] and network.shift == 0 and all(w == 1 for w in network.weights)
    if not plain:
        return None
    k = (network.units + 2) * UNIT_ROUNDOFF[dtype]
    if k >= 1:
        return None
    reach = sum(
        (abs(c) * max(f.b - t, Fraction(0)) for c, t in zip(network.outer, network.knots, strict=True)), Fraction(0)
    )
    return k / (1 - k) * (abs(network.offset) + reach) + network.units * SMALLEST_NORMAL[dtype]


# --- Smooth networks ------------------------------------------------------------------------------------------------


def _smooth_parts(f: Target) -> Iterator[tuple[Fraction, Fraction]]:
    for piece in f.pieces:
        points = [piece.left + piece.length * Fraction(k, 8) for k in range(9)]
        yield from pairwise(points)


#: (unit, the branch of the activation that it is on)
SmoothUnits = list[tuple[int, sympy.Expr]]


class _Units:
    """The units in order of their knots; those far out on a straight arm of the activation are summed at once."""

    def __init__(self, network: Network) -> None:
        self.network = network
        order = sorted(range(network.units), key=lambda k: network.knots[k])
        self.knots = [network.knots[k] for k in order]
        self.outer = [network.outer[k] for k in order]
        self.weights = [network.weights[k] for k in order]
        self.sums = list(accumulate(self.outer, initial=Fraction(0)))
        self.sizes = list(accumulate((abs(c) for c in self.outer), initial=Fraction(0)))
        self.moments = list(
            accumulate((c * t for c, t in zip(self.outer, self.knots, strict=True)), initial=Fraction(0))
        )
        branches = pieces(network.activation.expr)
        self.parts = [p.expr for p in branches]
        self.borders = [enclose(p.right) for p in branches[:-1]]
        self.arms = self._arms()

    def _arms(self) -> tuple[Arm, Arm] | None:
        """The arms, where all units share one positive weight and the arms are straight to far below float64."""
        if len(set(self.weights)) != 1 or self.weights[0] <= 0:
            return None
        arms = far_arms(self.network.activation, Fraction(_SATURATED))
        return arms if arms is not None and all(arm.rest.rad() < _AT_LIMIT for arm in arms) else None

    def split(self, u: Fraction, v: Fraction) -> tuple[int, int]:
        """On [u, v] units before the first index are on their right arm, from the second on on their left one."""
        if self.arms is None:
            return 0, len(self.knots)
        weight, shift = self.weights[0], self.network.shift
        return (
            bisect_left(self.knots, u - (_SATURATED - shift) / weight),
            bisect_left(self.knots, v + (_SATURATED + shift) / weight),
        )

    def far(self, first: int, last: int) -> tuple[arb, Fraction, Fraction]:
        """(rest, c₀, c₁): offset and the units on their arms sum to c₀ + c₁·x + rest."""
        if self.arms is None:
            return arb(0), self.network.offset, Fraction(0)
        rest, constant, line = arb(0), self.network.offset, Fraction(0)
        for arm, low, high in ((self.arms[1], 0, first), (self.arms[0], last, len(self.knots))):
            total = self.sums[high] - self.sums[low]
            rest += _scaled(arm.rest, total, self.sizes[high] - self.sizes[low])
            weight = arm.slope * self.weights[0]
            line += weight * total
            constant += arm.slope * self.network.shift * total - weight * (self.moments[high] - self.moments[low])
        return rest, constant, line

    def argument(self, k: int, place: arb) -> arb:
        """The pre-activation of unit k."""
        return exact_value(self.weights[k]) * (place - exact_value(self.knots[k])) + exact_value(self.network.shift)

    def classify(self, first: int, last: int, box: arb) -> tuple[SmoothUnits, arb]:
        """The units with one smooth branch over the box, and the sum of the others as one ball."""
        smooth, rough = [], arb(0)
        for k in range(first, last):
            z = self.argument(k, box)
            if any(z.overlaps(border) for border in self.borders):
                rough += exact_value(self.outer[k]) * ball_function(self.network.activation.expr)(z)
            else:
                smooth.append((k, self.parts[sum(1 for border in self.borders if z > border)]))
        return smooth, rough

    def series(
        self, place: arb, target_expr: sympy.Expr | None, smooth: list[tuple[int, sympy.Expr]]
    ) -> list[arb] | None:
        """Taylor coefficients of the smooth units' sum minus the target, at a point or over a ball."""
        total = [arb(0)] * (_ORDER + 1)
        if target_expr is not None:
            known = taylor(target_expr, place, _ORDER)
            if known is None:
                return None
            total = [-c for c in known]
        for k, branch in smooth:
            part = taylor(branch, self.argument(k, place), _ORDER)
            if part is None:
                return None
            scale, weight = exact_value(self.outer[k]), exact_value(self.weights[k])
            for order in range(_ORDER + 1):
                total[order] += part[order] * scale
                scale *= weight
        return total


def _scaled(limit: arb, total: Fraction, size: Fraction) -> arb:
    """Σ c_k s_k for s_k in the ball ``limit``: the middle times Σ c_k, the radius times Σ|c_k|."""
    spread = limit.rad() * exact_value(size)
    return limit.mid() * exact_value(total) + arb(0, 1) * spread


def _taylor_bound(network: Network, f: Target) -> Bound:
    """|F − f| on [u, v] from its Taylor polynomial at the middle, the last coefficient over the whole box.

    A unit whose kink or jump may lie in the box, and a target whose branch is not known there, enter as constant balls:
    no series holds across a border.
    """
    units = _Units(network)

    def bound(u: Fraction, v: Fraction) -> Verdict:
        middle, box, radius = (u + v) / 2, interval_ball(u, v), exact_value((v - u) / 2)
        first, last = units.split(u, v)
        smooth, constant = units.classify(first, last, box)
        rest, offset, line = units.far(first, last)
        constant += rest + exact_value(offset + line * middle)
        expr = _branch_over(f, u, v).expr
        here = _error_at(network, f, units, middle)
        least = bottom(here.abs_lower()) if here.is_finite() else Fraction(-1)
        if expr is None:
            constant -= ball_function(f.expr)(box)
        centre, over = (units.series(p, expr, smooth) for p in (exact_value(middle), box))
        if centre is None or over is None or not over[_ORDER].is_finite() or not constant.is_finite():
            return least, middle, None
        most = (centre[0] + constant).abs_upper()
        centre[1] += exact_value(line)
        for order in range(1, _ORDER):
            most += centre[order].abs_upper() * radius**order
        most += over[_ORDER].abs_upper() * radius**_ORDER
        return least, middle, top(arb(most))

    return bound


def _error_at(network: Network, f: Target, units: _Units, point: Fraction) -> arb:
    """F − f at one point; units at their limits summed at once."""
    first, last = units.split(point, point)
    sigma, place = ball_function(network.activation.expr), exact_value(point)
    rest, offset, line = units.far(first, last)
    total = rest + exact_value(offset + line * point) - ball_function(f.expr)(place)
    for k in range(first, last):
        total += exact_value(units.outer[k]) * sigma(units.argument(k, place))
    return total
