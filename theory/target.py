"""A target function on a compact interval, and what an approximation theorem needs to know of it.

The Lipschitz constant and the largest curvature are enclosed by branch and bound over balls: never sampled, never asked
of the user. A target that is undefined, discontinuous or too steep on the interval is refused with the reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import flint
import sympy
from flint import arb

from .enclosures import ball_function, enclose, exact_value
from .errors import InputError, Unsupported
from .parsing import parse_formula
from .pieces import borders, pieces
from .supremum import PRECISION, Supremum, Unbounded, below, bottom, exact, nearest, readable, supremum
from .symbols import x

#: An irrational kink is boxed into a cell this much narrower than the interval; the Lipschitz bound covers the cell.
_KINK_CELL = Fraction(1, 2**50)
#: A target whose values need more bits than this is refused as too large; halving never gets so near to a pole.
_MOST_BITS = 10_000
_MAX_END = Fraction(10) ** 12
_MIN_LENGTH = Fraction(1, 10**12)


@dataclass(frozen=True)
class SmoothPiece:
    """``expr`` (without branches) on the closed interval ``[left, right]``.

    ``expr`` is None on the tiny cell around an irrational kink, where only the Lipschitz bound is used.
    """

    left: Fraction
    right: Fraction
    expr: sympy.Expr | None

    @property
    def length(self) -> Fraction:
        """right − left."""
        return self.right - self.left

    @cached_property
    def curvature(self) -> Fraction | None:
        """A proven upper bound of sup|f″| on the piece; None where there is none (√x³ at 0) or no branch formula."""
        if self.expr is None:
            return None
        second = ball_function(self.expr.diff(x, 2))
        try:
            return supremum(lambda t: abs(second(t)), self.left, self.right).upper
        except Unbounded:
            return None


@dataclass(frozen=True)
class Target:
    """f on ``[a, b]``: text or expression in x, exact rational ends.

    >>> f = target("sin(2*pi*x)")
    >>> 6.2831 < f.lipschitz.lower < f.lipschitz.upper < 6.32
    True
    """

    text: str
    expr: sympy.Expr
    a: Fraction
    b: Fraction

    @property
    def length(self) -> Fraction:
        """b − a."""
        return self.b - self.a

    @cached_property
    def pieces(self) -> tuple[SmoothPiece, ...]:
        """The smooth pieces between the kinks; one piece with branches where the kinks cannot be located exactly."""
        try:
            parts = pieces(self.expr)
            found: list[SmoothPiece] = []
            cell = self.length * _KINK_CELL
            for part in parts:
                left, right = _inside(part.left, cell, self, "above"), _inside(part.right, cell, self, "below")
                if left >= right:
                    continue
                if found and found[-1].right < left:
                    found.append(SmoothPiece(found[-1].right, left, None))
                found.append(SmoothPiece(left, right, part.expr))
            return tuple(found)
        except Unsupported:
            return (SmoothPiece(self.a, self.b, None),)

    @cached_property
    def lipschitz(self) -> Supremum:
        """sup|f′| on the interval, enclosed; raises :class:`Unsupported` where f is not Lipschitz, saying where."""
        self.require_continuous()
        found = [_slope(self, p) for p in self.pieces]
        best = max(found, key=lambda s: s.upper)
        return Supremum(max(s.lower for s in found), best.upper, best.where, sum(s.boxes for s in found))

    @cached_property
    def curvature(self) -> Fraction | None:
        """A proven upper bound of |f″| between the kinks; None where there is none."""
        values = [p.curvature for p in self.pieces if p.length > self.length * _KINK_CELL * 4]
        known = [v for v in values if v is not None]
        return max(known) if known and len(known) == len(values) else None

    def require_continuous(self) -> None:
        """Raise :class:`InputError` where f is undefined or jumps: no continuous network comes near it there."""
        for piece in self.pieces:
            _require_finite(self, piece)
        joints = [p for p in self.pieces if p.expr is not None]
        if not joints:
            _require_matching_branches(self)
        for left, right in pairwise(joints):
            _require_joint(self, left, right)
        if joints:
            _require_borders(self, joints)

    def ball(self, point: Fraction, bits: int = PRECISION) -> arb:
        """A ball around f(point)."""
        with flint.ctx.workprec(bits):
            return ball_function(self.expr)(exact_value(point))

    def dyadic(self, point: Fraction, bits: int) -> tuple[Fraction, Fraction]:
        """A dyadic y with ``bits`` bits after the point, and a proven bound of ``|y − f(point)|``."""
        ball = self.ball(point, bits + 64)
        if not ball.is_finite():
            raise InputError(f"target {self.text!r} is not defined at x = {readable(point)}")
        middle, radius = nearest(ball)
        value = Fraction(round(middle * 2**bits), 2**bits)
        return value, abs(value - middle) + radius


def target(text: str | sympy.Expr, interval: tuple[object, object] | str = (0, 1)) -> Target:
    """The target that ``text`` writes on ``interval`` = (a, b): numbers, exact decimals or fractions as text.

    Raises :class:`InputError` for a formula that is not allowed and an interval that is empty, reversed or infinite.

    >>> target("abs(x)", "-1,1").lipschitz.upper
    Fraction(1, 1)
    >>> target("1/x", "-1,1").lipschitz
    Traceback (most recent call last):
    backproof.theory.errors.InputError: target '1/x' is not defined (or not finite) near x = 0 in [-1, 1]
    """
    expr = parse_formula(text) if isinstance(text, str) else sympy.sympify(text)
    if expr.free_symbols - {x}:
        raise InputError(f"the target is a formula in x alone, not in {', '.join(map(str, expr.free_symbols))}")
    ball_function(expr)  # raises Unsupported, naming the node, before anything is built on it
    a, b = _ends(interval)
    return Target(str(text), expr, a, b)


def _ends(interval: tuple[object, object] | str) -> tuple[Fraction, Fraction]:
    parts = interval.strip().strip("[]()").split(",") if isinstance(interval, str) else list(interval)
    if len(parts) != 2:
        raise InputError(f"interval {str(interval)[:40]!r} must be two numbers, such as 0,1")
    a, b = rational(parts[0], "interval end"), rational(parts[1], "interval end")
    if not a < b:
        raise InputError(f"interval {str(interval)[:40]!r} is empty: write the smaller end first, such as {b},{a}")
    if max(abs(a), abs(b)) > _MAX_END or b - a < _MIN_LENGTH * max(Fraction(1), abs(a), abs(b)):
        raise InputError(f"interval {str(interval)[:40]!r} must lie within ±1e12 and be longer than 1e-12 of its ends")
    return a, b


def rational(value: object, what: str) -> Fraction:
    """``value`` as an exact rational: text may be a decimal, a fraction or a constant formula without x ("1/3")."""
    text = str(value).strip()
    if text.lower().lstrip("+-") in {"nan", "inf", "infinity", "oo"}:
        raise InputError(f"{what} must be a finite number, not {text}")
    try:
        number = Fraction(value) if isinstance(value, (int, Fraction)) else parse_formula(text, variables=())
        if isinstance(number, sympy.Rational):
            number = Fraction(int(number.p), int(number.q))
    except InputError as error:
        raise InputError(f"{what} {text[:40]!r} must be a finite number: {error}") from None
    if not isinstance(number, Fraction):
        raise InputError(f"{what} {text[:40]!r} must be a rational number, such as 0.5 or 1/3")
    return number


def _inside(end: sympy.Expr, cell: Fraction, f: Target, side: str) -> Fraction:
    """A piece's end clipped to the interval; an irrational end moves into the piece by at most ``cell``."""
    if end == -sympy.oo:
        return f.a
    if end == sympy.oo:
        return f.b
    if end.is_Rational:
        point = Fraction(int(end.p), int(end.q))
    else:
        bits = max(8, math.ceil(-math.log2(cell)) + 2)
        middle = exact(enclose(end, digits=40).mid())
        step = Fraction(1, 2**bits)
        point = step * (math.floor(middle / step) + (2 if side == "above" else -1))
    return min(max(point, f.a), f.b)


def _slope(f: Target, piece: SmoothPiece) -> Supremum:
    derivative = ball_function((piece.expr if piece.expr is not None else f.expr).diff(x))
    try:
        return supremum(lambda t: abs(derivative(t)), piece.left, piece.right)
    except Unbounded as error:
        near, beside = readable(error.where), _beside(f, error.where)
        with flint.ctx.workprec(PRECISION):
            steep = readable(nearest(abs(derivative(exact_value(beside))))[0], 2)
        raise Unsupported(
            f"no bound was found for the slope of {f.text!r} near x = {near} (|f′| = {steep} at distance "
            f"{readable(abs(beside - error.where), 1)}), and these theorems need one; keep away from {near}"
        ) from None


def _beside(f: Target, point: Fraction) -> Fraction:
    step = f.length / 10**12
    return point + step if point + step <= f.b else point - step


def _require_finite(f: Target, piece: SmoothPiece) -> None:
    value = ball_function(piece.expr if piece.expr is not None else f.expr)
    try:
        supremum(lambda t: abs(value(t)), piece.left, piece.right, tolerance=Fraction(1, 2), budget=2_000)
    except Unbounded as error:
        if f.ball(error.where).is_finite() and error.where in (piece.left, piece.right):
            return  # defined up to its end (√x at 0); whether it is steep there is the slope's question
        where, interval = readable(error.where), f"[{readable(f.a)}, {readable(f.b)}]"
        value = f.ball(error.where)
        if value.is_finite() and value.abs_lower() > arb(2) ** _MOST_BITS:  # defined: a pole is not so steep here
            raise Unsupported(
                f"target {f.text!r} takes values beyond 2^{_MOST_BITS} in {interval}, near x = {where}: no float holds "
                "them; choose a smaller interval"
            ) from None
        raise InputError(f"target {f.text!r} is not defined (or not finite) near x = {where} in {interval}") from None


def _require_borders(f: Target, joints: list[SmoothPiece]) -> None:
    """At each border f has the value of its branch: no isolated point sticks out."""
    near = 4 * f.length * _KINK_CELL
    for border in borders(f.expr):
        place = nearest(enclose(border, digits=40))[0]
        for piece in joints:
            if piece.expr is not None and piece.left - near <= place <= piece.right + near:
                _require_equal(f, f.expr.subs(x, border), piece.expr.subs(x, border), place)


def _require_joint(f: Target, left: SmoothPiece, right: SmoothPiece) -> None:
    """The two branches agree where they meet; that f has their value there is :func:`_require_borders`' question."""
    if left.expr is None or right.expr is None:
        return
    if left.right == right.left:
        c = sympy.Rational(left.right.numerator, left.right.denominator)
        _require_equal(f, left.expr.subs(x, c), right.expr.subs(x, c), left.right)


def _require_equal(f: Target, u: sympy.Expr, v: sympy.Expr, place: Fraction) -> None:
    """Refuse a jump from u to v; equality is decided by SymPy, never by a ball that merely contains 0."""
    gap = enclose(u - v, digits=15, max_bits=512)
    if gap.is_finite() and not gap.contains(0):
        half = below(bottom(gap.abs_lower()) / 2, 3)
        raise InputError(
            f"target {f.text!r} jumps at x = {readable(place)}: every continuous network errs by at least {half} there"
        )
    if sympy.simplify(u - v) != 0:
        raise Unsupported(f"target {f.text!r}: cannot show that its branches meet at x = {readable(place)}")


def _require_matching_branches(f: Target) -> None:
    """Continuity without knowing where the borders are: branches differ by a multiple of what the condition compares.

    |u| = u or −u at u ≥ 0 differ by 2u, max(u, v) by u − v: both vanish exactly at the border.
    """
    for piecewise in f.expr.atoms(sympy.Piecewise):
        for k, (first, condition) in enumerate(piecewise.args[:-1]):
            comparison = isinstance(condition, sympy.core.relational.Relational)
            # Where a condition stops holding, any later branch may take over.
            if not comparison or not all(
                _vanishes_with(first - later, condition.lhs - condition.rhs) for later, _ in piecewise.args[k + 1 :]
            ):
                raise Unsupported(
                    f"target {f.text!r}: cannot show that it is continuous where {str(condition)[:40]} changes; "
                    "write the border as a polynomial in x"
                )


def _vanishes_with(difference: sympy.Expr, border: sympy.Expr) -> bool:
    quotient = sympy.cancel(sympy.together(difference / border))
    if difference == 0 or not quotient.free_symbols:
        return True
    denominator = sympy.fraction(quotient)[1]
    return bool(quotient.is_polynomial(x)) and not denominator.free_symbols
