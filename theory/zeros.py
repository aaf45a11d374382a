"""Every zero of a smooth piece, proven: where the sign changes, and that it changes nowhere else.

A tail's sign comes from its expansion (:mod:`.tails`); between the tails boxes are split until each has a proven sign,
or a proven monotone function with opposite signs at its ends, or one exact zero of known multiplicity. Nothing is
sampled: what cannot be decided raises :class:`Unsupported`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import sympy
from flint import arb, ctx

from .constants import is_zero
from .enclosures import ball_function, enclose, exact_value, taylor
from .errors import Unsupported
from .symbols import x
from .tails import TailUndecided, first_decided

PRECISION = 256
MAX_BOXES = 4_000
MAX_MULTIPLICITY = 6
#: Zeros are enclosed to this many bits.
ZERO_BITS = 200


@dataclass(frozen=True)
class Zero:
    """One zero: exact where a closed form was found and verified, otherwise a ball that contains it and no other."""

    ball: arb
    exact: sympy.Expr | None

    def __str__(self) -> str:
        return str(self.exact) if self.exact is not None else self.ball.str(12, radius=False)


@dataclass(frozen=True)
class Signs:
    """The zeros inside an open interval in order, and the sign on each gap between them (0: identically zero)."""

    zeros: tuple[Zero, ...]
    gaps: tuple[int, ...]


@lru_cache(maxsize=1024)
def signs(expression: sympy.Expr, left: sympy.Expr, right: sympy.Expr) -> Signs:
    """The sign pattern of a smooth ``expression`` in x on the open interval (left, right).

    >>> pattern = signs(x**2 - 2, sympy.Integer(0), sympy.oo)
    >>> [str(zero) for zero in pattern.zeros], pattern.gaps
    (['sqrt(2)'], (-1, 1))
    """
    expression = sympy.sympify(expression)
    if not expression.has(x):
        constant = 0 if is_zero(expression) else (1 if enclose(expression) > 0 else -1)
        return Signs((), (constant,))
    with ctx.workprec(PRECISION):
        low, first = _end(expression, left, -1)
        high, last = _end(expression, right, 1)
        if not low < high:  # the two proven ends overlap, so they have one sign and nothing lies between
            return Signs((), (first,))
        return _between(expression, low, high, first, last)


def _between(expression: sympy.Expr, low: Fraction, high: Fraction, first: int, last: int) -> Signs:
    scan = _Scan(expression)
    scan.interval(low, high)
    gaps, zeros = [first], []
    for zero, after in scan.found:
        zeros.append(zero)
        gaps.append(after)
    if gaps[-1] != last:
        raise Unsupported(f"the sign of {str(expression)[:60]} could not be followed")
    return Signs(tuple(zeros), tuple(gaps))


def _end(expression: sympy.Expr, end: sympy.Expr, side: int) -> tuple[Fraction, int]:
    """A rational point near the end of the interval, and the proven sign of the expression between it and the end."""
    if end in (sympy.oo, -sympy.oo):
        mirrored = expression if side > 0 else expression.subs(x, -x)
        try:
            sign, start = first_decided(mirrored, lambda tail: tail.sign())
        except TailUndecided as reason:
            raise Unsupported(f"towards {'−' if side < 0 else ''}∞: {reason}") from None
        return side * start, int(sign)  # type: ignore[call-overload]
    return _beside(expression, end, -side)


def _beside(expression: sympy.Expr, end: sympy.Expr, direction: int) -> tuple[Fraction, int]:
    """Step from the exact point ``end`` into the interval (direction ±1), with a proven sign on the whole step."""
    order = _multiplicity(expression, end)
    with ctx.workprec(PRECISION):
        centre = enclose(end, digits=70)
        for k in range(2, 60, 3):
            width = Fraction(1, 2**k)
            box = _hull(centre, centre + direction * exact_value(width))
            coefficients = taylor(expression, box, order)
            if coefficients is not None and not coefficients[order].contains(0):
                sign = 1 if coefficients[order] > 0 else -1
                reached = (centre + direction * exact_value(width)).mid()
                inside = _fraction(reached) - direction * width / 8  # the midpoint may lie past the proven step
                return inside, sign * (direction**order)
    raise Unsupported(f"the sign of {str(expression)[:60]} beside x = {end}")


def _multiplicity(expression: sympy.Expr, point: sympy.Expr) -> int:
    """How many derivatives vanish exactly at the point."""
    for order in range(MAX_MULTIPLICITY):
        value = expression.subs(x, point)
        if value.has(sympy.nan, sympy.zoo, sympy.oo):
            raise Unsupported(f"{str(expression)[:60]} is singular at x = {point}")
        if not enclose(value, digits=30).contains(0):
            return order
        if not is_zero(value):
            raise Unsupported(f"cannot tell whether {str(value)[:60]} is zero")
        expression = expression.diff(x)
    raise Unsupported(f"a zero of order {MAX_MULTIPLICITY} or more at x = {point}")


class _Scan:
    """Scans a compact interval from left to right and records each zero with the sign behind it."""

    def __init__(self, expression: sympy.Expr) -> None:
        self.expression = expression
        self.value = ball_function(expression)
        self.slope = ball_function(expression.diff(x))
        self.found: list[tuple[Zero, int]] = []
        self.boxes = 0

    def interval(self, low: Fraction, high: Fraction) -> None:
        pending = [(low, high)]
        while pending:
            a, b = pending.pop()
            if self._decided(a, b):
                continue
            middle = self._split(a, b)
            pending += [(middle, b), (a, middle)]

    def _decided(self, a: Fraction, b: Fraction) -> bool:
        self.boxes += 1
        if self.boxes > MAX_BOXES:
            raise Unsupported(f"more than {MAX_BOXES} boxes were needed to follow {str(self.expression)[:60]}")
        box = _hull(exact_value(a), exact_value(b))
        if not _contains_zero(self.value(box)):
            return True
        if not _contains_zero(self.slope(box)):
            self._monotone(a, b)
            return True
        return a < 0 < b and self._at_exact_zero(box)

    def _split(self, a: Fraction, b: Fraction) -> Fraction:
        """Not quite the middle, so that a zero at a round number is not a box's end; 0 is kept inside one box."""
        for parts in (Fraction(31, 64), Fraction(29, 64), Fraction(37, 64), Fraction(41, 64)):
            point = a + (b - a) * parts
            if point and self._sign(point):
                return point
        raise Unsupported(
            f"{str(self.expression)[:60]} is zero, or nearly, on a whole interval near x = {float(a):.6g}"
        )

    def _sign(self, point: Fraction) -> int:
        value = self.value(exact_value(point))
        return 1 if value > 0 else (-1 if value < 0 else 0)

    def _monotone(self, a: Fraction, b: Fraction) -> None:
        at_a, at_b = self._sign(a), self._sign(b)
        if not at_a or not at_b:
            raise Unsupported(f"the sign of {str(self.expression)[:60]} at x = {float(a if not at_a else b):.6g}")
        if at_a != at_b:
            self.found.append((self._refined(a, b, at_a), at_b))

    def _at_exact_zero(self, box: arb) -> bool:
        """The box holds x = 0: its only zero, if it is one of exact order k and the k-th derivative keeps its sign."""
        try:
            order = _multiplicity(self.expression, sympy.S.Zero)
        except Unsupported:
            return False
        coefficients = taylor(self.expression, box, order) if order else None
        if coefficients is None or coefficients[order].contains(0):
            return False
        after = 1 if coefficients[order] > 0 else -1
        self.found.append((Zero(arb(0), sympy.S.Zero), after))
        return True

    def _refined(self, a: Fraction, b: Fraction, at_a: int) -> Zero:
        while b - a > Fraction(1, 2**20):
            middle = (a + b) / 2
            here = self._sign(middle)
            if not here:
                break
            a, b = (middle, b) if here == at_a else (a, middle)
        ball = _hull(exact_value(a), exact_value(b))
        for _ in range(12):  # interval Newton: the zero stays inside, the radius squares
            centre = arb(ball.mid())
            newer = centre - self.value(centre) / self.slope(ball)
            if not newer.is_finite() or not newer.overlaps(ball) or newer.rad() >= ball.rad():
                break
            ball = newer.intersection(ball) if newer.overlaps(ball) else ball
            if ball.rad() < arb(2) ** -ZERO_BITS:
                break
        return Zero(ball, recognise(self.expression, ball))


def recognise(expression: sympy.Expr, ball: arb) -> sympy.Expr | None:
    """A number p/q, ±√(p/q) or π·p/q in the ball at which the expression is exactly zero, if there is a small one."""
    for candidate in (_small_rational(ball), _small_root(ball), _part_of_pi(ball)):
        if candidate is None:
            continue
        value = expression.subs(x, candidate)
        if value == 0 or is_zero(sympy.expand(value)):
            return candidate
    return None


def _small_rational(ball: arb, largest: int = 1_000) -> sympy.Rational | None:
    nearest = _fraction(ball.mid()).limit_denominator(largest)
    return sympy.Rational(nearest.numerator, nearest.denominator) if ball.contains(exact_value(nearest)) else None


def _small_root(ball: arb) -> sympy.Expr | None:
    square = _small_rational(ball * ball)
    return None if square is None or square <= 0 else sympy.sqrt(square) * (1 if ball > 0 else -1)


def _part_of_pi(ball: arb) -> sympy.Expr | None:
    ratio = _small_rational(ball / arb.pi())
    return None if ratio is None else ratio * sympy.pi


def _hull(a: arb, b: arb) -> arb:
    return a.union(b)


def _contains_zero(ball: arb) -> bool:
    return not ball.is_finite() or ball.contains(0)


def _fraction(value: arb) -> Fraction:
    """The exact rational value of a ball of radius 0."""
    mantissa, exponent = value.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
