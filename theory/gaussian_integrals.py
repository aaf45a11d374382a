r"""Rigorous ∫ h(x)^p N(x; 0, q) dx: Arb's quadrature between the exact borders of h, and a proven bound for both tails.

On each smooth piece the tail beyond a cut is bounded analytically (:mod:`.tails`) and the rest is integrated by
``acb.integral``, whose result contains the exact value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import sympy
from flint import acb, arb, ctx, fmpq

from .constants import number
from .enclosures import ball_function
from .errors import InputError, Unsupported
from .pieces import Piece
from .supremum import exact
from .symbols import x
from .tails import ATTEMPTS, Growth, Tail, TailUndecided, slope_bound, tail, value_at
from .zeros import signs

#: Digits that every expectation is proven to, unless asked otherwise.
DIGITS = 30


def _variance_ball(variance: sympy.Expr | arb) -> arb:
    return variance if isinstance(variance, arb) else number(variance)


@dataclass(frozen=True)
class _Majorant:
    """|f(x)| ≤ factor·growth(x) for every x ≥ start."""

    start: Fraction
    factor: arb
    growth: Growth


def _majorant(t: Tail) -> _Majorant:
    ordered = list(t)
    if not ordered:
        return _Majorant(t.start, arb(0), Growth())
    growth = ordered[0][0]
    ratios = Tail({m * growth.to(sympy.Integer(-1)): c for m, c in ordered}, t.start)
    return _Majorant(t.start, abs(ratios.enclosure()).upper(), growth)


@lru_cache(maxsize=512)
def _majorants(expr: sympy.Expr) -> tuple[_Majorant, ...]:
    """Bounds of |expr| on the right tail, earliest start first."""
    found: list[_Majorant] = []
    why = ""
    for start, order in ATTEMPTS:
        try:
            with ctx.workprec(160):
                found.append(_majorant(tail(expr, start, order)))
        except TailUndecided as reason:
            why = str(reason)
        if len(found) == 2:
            break
    if not found:
        raise Unsupported(f"no bound for the tail of {str(expr)[:60]}: {why}")
    return tuple(found)


def _tail_bound(f: _Majorant, variance: Fraction, cut: Fraction, power: int, weigh: bool = False) -> arb:
    """An upper bound of ∫_cut^∞ |f(x)|^power N(x; 0, variance) dx; with ``weigh`` times x²/variance where that is > 1.

    The integrand's majorant m has x·(log m)′ ≤ S < −1 for x ≥ cut, hence m(x) ≤ m(cut)·(x/cut)^S there, and the
    integral is at most m(cut)·cut/(−S−1).
    """
    q = arb(fmpq(variance.numerator, variance.denominator))
    inverse = sympy.Rational(variance.denominator, variance.numerator)
    m = f.growth.to(sympy.Integer(power)) * Growth(exponent=((2, -inverse / 2),))
    factor = f.factor**power
    if weigh:  # |z² − 1| ≤ z² beyond the standard deviation, and z² ≥ 1 there
        if cut * cut < variance:
            raise TailUndecided("the cut lies within the standard deviation")
        m, factor = m * Growth(sympy.Integer(2)), factor / q
    slope = slope_bound(m, cut)
    if not slope < -1:
        raise TailUndecided(f"the integrand does not yet decrease at {cut}")
    length = arb(fmpq(cut.numerator, cut.denominator))
    return factor * value_at(m, cut) * length / (-slope - 1) / (2 * arb.pi() * q).sqrt()


def _cut(expr: sympy.Expr, power: int, variance: arb, bits: int, weigh: bool = False) -> tuple[Fraction, arb]:
    """Where to cut the right tail, in units of x, and the proven bound of what is cut off."""
    upper = exact(variance.upper())
    root = exact(variance.sqrt().upper())
    goal = arb(2) ** (-bits)
    best: tuple[Fraction, arb] | None = None
    for t in _majorants(expr):
        for deviations in (6, 8, 10, 12, 14, 17, 20, 25, 32, 45, 64, 100):
            cut = max(t.start, Fraction(round(root * deviations * 64) + 1, 64))
            try:
                bound = _tail_bound(t, upper, cut, power, weigh)
            except TailUndecided:
                continue
            if best is None or bound < best[1]:
                best = (cut, bound)
            if bound < goal:
                return cut, bound
    if best is None:
        raise Unsupported(f"the expectation of ({str(expr)[:60]})^{power} diverges, or its tail has no proven bound")
    return best


def _piece_integral(piece: Piece, power: int, variance: arb, bits: int, weigh: bool = False) -> acb:
    """∫ piece^power N(x; 0, variance) dx, enclosed; the integration variable is z = x/√variance.

    With ``weigh`` the imaginary part carries the same integral weighed with z² − 1 (see :func:`value_and_slope`).
    """
    if piece.expr == 0:
        return acb(0)
    f, root = ball_function(piece.expr), variance.sqrt()
    bits += _smallness(f, root, power)
    slack = arb(0)
    ends = []
    for end, mirrored in ((piece.left, True), (piece.right, False)):
        if end not in (sympy.oo, -sympy.oo):
            ends.append(number(end) / root)
            continue
        cut, bound = _cut(piece.expr.subs(x, -x) if mirrored else piece.expr, power, variance, bits, weigh)
        slack += arb(0, bound.upper())
        z = (arb(fmpq(cut.numerator, cut.denominator)) / root).upper()  # exact, and not before the cut
        ends.append(-z if mirrored else z)
    if not ends[0] < ends[1]:  # the cut fell inside the border: nothing is left between, all is tail
        return _beyond(piece, power, variance, bits, weigh)
    norm = (2 * arb.pi()).sqrt()

    def integrand(z: acb, analytic: bool) -> acb:
        value, square = f(z * root, analytic=analytic), z * z
        value = (value if power == 1 else value**power) * (-square / 2).exp()
        return value * (1 + (square - 1) * acb(0, 1)) if weigh else value

    eps = arb(2) ** (-bits)
    result = acb(0)
    for low, high in pairwise(_split(ends[0], ends[1], bits)):
        result += acb.integral(integrand, acb(low), acb(high), rel_tol=eps, abs_tol=eps, eval_limit=40_000)
    if not result.is_finite() or not (weigh or result.imag.contains(0)):
        raise Unsupported(f"{str(piece.expr)[:60]} has no proven integral on ({piece.left}, {piece.right})")
    return result / norm + (acb(slack, slack) if weigh else slack)


def _split(low: arb, high: arb, bits: int) -> list[arb]:
    """The ends of an interval, and between them the exact ±D beyond which the normal density is below 2^−bits.

    A border far out, 1/√q for a small variance q, is only known to an absolute error that grows with it: it must not
    move the nodes near 0.
    """
    far = arb(math.isqrt(int(1.4 * bits)) + 2)
    return [low, *(d for d in (-far, far) if low < d and d < high), high]


def _smallness(f: Any, root: arb, power: int) -> int:
    """How many more bits of absolute precision a small integrand needs to keep its relative precision (0 to 8000)."""
    sizes = [abs(f(side * root)) for side in (arb(1), arb(-1), arb(2), arb(-2))]
    finite = [s.upper() for s in sizes if s.is_finite() and s > 0]
    if not finite:
        return 0
    largest = max(finite)
    return 0 if largest > 1 else min(8_000, int(-power * float((largest.log() / arb(2).log()).mid())))


def _beyond(piece: Piece, power: int, variance: arb, bits: int, weigh: bool) -> acb:
    """A half-line that begins beyond the usual cut: integrate one unit next to the border, bound the rest."""
    mirrored = piece.left == -sympy.oo
    border = piece.right if mirrored else piece.left
    near = Piece(border - 1, border, piece.expr) if mirrored else Piece(border, border + 1, piece.expr)
    expr = piece.expr.subs(x, -x) if mirrored else piece.expr
    edge = exact(abs(number(border)).lower()) + 1
    for t in _majorants(expr):
        try:
            bound = _tail_bound(t, exact(variance.upper()), edge, power, weigh) if edge >= t.start else None
        except TailUndecided:
            continue
        if bound is not None:
            slack = arb(0, bound.upper())
            rest = acb(slack, slack) if weigh else acb(slack)
            return _piece_integral(near, power, variance, bits, weigh) + rest
    raise Unsupported(f"no proven bound for the far piece {piece}")


@lru_cache(maxsize=1024)
def _prove_real(piece: Piece) -> None:
    """Raise unless every root, logarithm and inverse sine of the piece has a real argument on all of it.

    Complex quadrature would not notice: √(x² − 1/100)² integrates to a real number.
    """
    for node in sympy.preorder_traversal(piece.expr):
        for quantity in _must_not_be_negative(node):
            if -1 in signs(quantity, piece.left, piece.right).gaps:
                raise InputError(f"{str(node)[:60]} is not a real number for every x in ({piece.left}, {piece.right})")


def _must_not_be_negative(node: sympy.Basic) -> tuple[sympy.Expr, ...]:
    if not node.has(x):
        return ()
    if isinstance(node, sympy.Pow) and node.base.has(x) and not node.exp.is_Integer:
        return (node.base,)
    if isinstance(node, sympy.log):
        return (node.args[0],)
    return (1 - node.args[0] ** 2,) if isinstance(node, (sympy.asin, sympy.acos)) else ()


def _check_defined(piece: Piece) -> None:
    """Refuse a formula that is not real everywhere on the piece; a few test points give the clearest reason."""
    f = ball_function(piece.expr)
    low = number(piece.left) if piece.left != -sympy.oo else None
    high = number(piece.right) if piece.right != sympy.oo else None
    if low is not None and high is not None:
        points = [low + (high - low) * arb(fmpq(k, 16)) for k in (1, 3, 5, 8, 11, 13, 15)]
    elif low is not None or high is not None:
        side = 1 if low is not None else -1
        points = [(low if low is not None else high) + side * arb(fmpq(k, 7)) for k in (1, 2, 5, 11, 23, 60)]
    else:
        points = [arb(fmpq(k, 7)) for k in (-60, -23, -11, -5, -2, -1, 1, 2, 5, 11, 23, 60)]
    for point in points:
        value = f(point)
        if not value.is_finite():
            raise InputError(f"{str(piece.expr)[:60]} is not a finite real number at x = {point.str(6, radius=False)}")
    _prove_real(piece)


def enclosure(parts: tuple[Piece, ...], power: int, variance: sympy.Expr | arb, digits: int = DIGITS) -> arb:
    """E[h(x)^power] for x ~ N(0, variance), h on pieces; ``variance`` is exact or a ball (all of which is covered).

    Raises :class:`Unsupported` where the expectation diverges or no bound is proven.
    """
    bits = int(digits * 3.3220) + 8
    with ctx.workprec(bits + 24):
        q = _variance_ball(variance)
        if not q > 0:
            return _at_zero(parts, power)
        total = arb(0)
        for piece in parts:
            _check_defined(piece)
            total += _piece_integral(piece, power, q, bits).real
        return total


def value_and_slope(parts: tuple[Piece, ...], power: int, variance: arb, digits: int = DIGITS) -> tuple[arb, arb]:
    """E[h^power] and its derivative by the variance q, in one integration.

    The density's derivative is ∂N/∂q = N·(z² − 1)/(2q) with z = x/√q, so no derivative of h is needed and h may jump.
    """
    bits = int(digits * 3.3220) + 8
    with ctx.workprec(bits + 24):
        total = sum((_piece_integral(piece, power, variance, bits, weigh=True) for piece in parts), acb(0))
        return total.real, total.imag / (2 * variance)


def _at_zero(parts: tuple[Piece, ...], power: int) -> arb:
    for piece in parts:
        inside = (piece.left == -sympy.oo or number(piece.left) < 0) and (
            piece.right == sympy.oo or number(piece.right) > 0
        )
        if inside:
            return ball_function(piece.expr)(arb(0)) ** power
    raise InputError("variance must be positive: at variance 0 the formula has a border at x = 0")
