"""Largest value of a function over an interval, enclosed from both sides by branch and bound over balls.

The upper side is a theorem (every box of a cover was evaluated in ball arithmetic), the lower side is the value at one
exact point. No sample decides anything: a grid maximum is not a supremum.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import flint
from flint import arb, fmpq

from .errors import Unsupported

Ball = Callable[[arb], arb]

#: A box this many halvings deep that still has no finite enclosure is taken for a singularity.
MAX_DEPTH = 44
#: Exact rationals beyond 2^±this would fill the memory.
MAX_EXPONENT = 100_000
#: Working precision in bits: far above the tolerances asked for, so that rounding never decides.
PRECISION = 96


@dataclass(frozen=True)
class Supremum:
    """``lower <= sup g <= upper``: ``lower`` is proven at the point ``where``, ``upper`` over the whole interval."""

    lower: Fraction
    upper: Fraction
    where: Fraction
    boxes: int


class Unbounded(Unsupported):
    """No finite enclosure was found around ``where``: the function is singular there, or its enclosure too wide."""

    def __init__(self, where: Fraction) -> None:
        self.where = where
        super().__init__(f"no finite bound near x = {readable(where)}")


def supremum(
    g: Ball, a: Fraction, b: Fraction, *, tolerance: Fraction = Fraction(1, 200), budget: int = 6_000
) -> Supremum:
    """Enclose the supremum of ``g`` over ``[a, b]`` to the relative ``tolerance``, or as near as ``budget`` boxes get.

    ``g`` maps a ball to a ball that contains every value of the function on it. The upper bound holds whether or not
    the tolerance was reached. Raises :class:`Unbounded` where halving does not make the enclosure finite.

    >>> s = supremum(lambda t: t * (1 - t), Fraction(0), Fraction(1))
    >>> s.lower == Fraction(1, 4), s.upper >= Fraction(1, 4), float(s.upper) < 0.2513
    (True, True, True)
    """
    with flint.ctx.workprec(PRECISION):
        best, where = _best_point(g, (a, b, (a + b) / 2))
        boxes = [_box(g, a, b, 0)]
        evaluated = 1
        while True:
            _, _, u, v, depth, top = boxes[0]
            if top is not None and (evaluated >= budget or top <= _goal(best, tolerance)):
                return Supremum(best if best is not None else top, max(top, best or top), where, evaluated)
            if top is None and (depth >= MAX_DEPTH or evaluated >= budget):
                raise Unbounded(_suspect(u, v))
            heapq.heappop(boxes)
            m = (u + v) / 2
            value = lower_end(g(as_ball(m)))
            if value is not None and (best is None or value > best):
                best, where = value, m
            heapq.heappush(boxes, _box(g, u, m, depth + 1))
            heapq.heappush(boxes, _box(g, m, v, depth + 1))
            evaluated += 2


def magnitude(g: Ball) -> Ball:
    """|g|."""
    return lambda t: abs(g(t))


def negative(g: Ball) -> Ball:
    """−g."""
    return lambda t: -g(t)


def as_ball(point: Fraction) -> arb:
    """The exact rational as a ball at the current precision."""
    return arb(fmpq(point.numerator, point.denominator))


def interval_ball(u: Fraction, v: Fraction) -> arb:
    """A ball that contains ``[u, v]``."""
    return as_ball(u).union(as_ball(v))


def upper_end(ball: arb) -> Fraction | None:
    """The upper end of a ball as a rational; None where it is not finite, or too large to be of use."""
    return top(ball) if ball.is_finite() and _exponent(ball.upper()) <= MAX_EXPONENT else None


def lower_end(ball: arb) -> Fraction | None:
    """The lower end of a ball as a rational; None where it is not finite, or too large to be of use."""
    return bottom(ball) if ball.is_finite() and _exponent(ball.lower()) <= MAX_EXPONENT else None


def top(ball: arb) -> Fraction:
    """The upper end of a finite ball; a number too near 0 for an exact rational is rounded up.

    >>> top(arb(3, 0.5)) >= Fraction(7, 2), 0 < top((-arb(10) ** 9).exp()) < Fraction(1, 10**100)
    (True, True)
    """
    point = ball.upper()
    if _exponent(point) < -MAX_EXPONENT:
        return _TINY if point > 0 else Fraction(0)
    return exact(point)


def bottom(ball: arb) -> Fraction:
    """The lower end of a finite ball; a number too near 0 for an exact rational is rounded down."""
    return -top(-ball)


def nearest(ball: arb) -> tuple[Fraction, Fraction]:
    """A rational near the middle of a finite ball, and a bound of its distance from every point of the ball."""
    if _exponent(ball.mid()) < -MAX_EXPONENT:
        return Fraction(0), top(ball.abs_upper())
    return exact(ball.mid()), top(ball.rad())


def exact(point: arb) -> Fraction:
    """The rational value of an exact ball (a midpoint or an end); raises Unsupported where it would fill the memory."""
    mantissa, exponent = (int(part) for part in point.man_exp())
    if abs(exponent) > MAX_EXPONENT:
        size = "large" if exponent > 0 else "small"
        raise Unsupported(f"values as {size} as 2^{exponent} are beyond what is treated")
    return Fraction(mantissa * 2**exponent) if exponent >= 0 else Fraction(mantissa, 2**-exponent)


#: Within this range a rational is safely turned into a float to look at its size.
_FLOAT_RANGE = (Fraction(1, 10**300), Fraction(10**300))
_TINY = Fraction(1, 2 ** (MAX_EXPONENT // 4))


def _exponent(point: arb) -> int:
    return int(point.man_exp()[1])


def readable(value: Fraction, digits: int = 6) -> str:
    """The rational for a person: a short decimal (nearest, not a bound).

    >>> readable(Fraction(2, 3)), readable(Fraction(20, 3) ** 500)
    ('0.666667', '9.00265e411')
    """
    if value and not _FLOAT_RANGE[0] < abs(value) < _FLOAT_RANGE[1]:
        return _short(value, digits, round)
    return f"{float(value):.{digits}g}"


def above(value: Fraction, digits: int = 4) -> str:
    """The value as a short decimal, rounded up: how an upper bound is shown.

    >>> above(Fraction(1, 3)), below(Fraction(1, 3))
    ('0.3334', '0.3333')
    """
    return _short(value, digits, math.ceil)


def below(value: Fraction, digits: int = 4) -> str:
    """The value as a short decimal, rounded down: how a lower bound is shown."""
    return _short(value, digits, math.floor)


def _short(value: Fraction, digits: int, towards: Callable[[Fraction], int]) -> str:
    if value == 0:
        return "0"
    size = decades(value)
    places = digits - 1 - size
    scaled = towards(value * Fraction(10) ** places)
    if _FLOAT_RANGE[0] < abs(value) < _FLOAT_RANGE[1]:
        return f"{Decimal(scaled).scaleb(-places).normalize():g}"
    excess = len(str(abs(scaled))) - digits  # the number of decades was exact to one
    return f"{Decimal(scaled).scaleb(1 - digits - excess).normalize():f}e{size + excess}"


def decades(value: Fraction) -> int:
    """⌊log₁₀ |value|⌋, exact to one: enough for the number of digits shown. No digits are written for it."""
    if _FLOAT_RANGE[0] < abs(value) < _FLOAT_RANGE[1]:
        return math.floor(math.log10(abs(value)))
    bits = value.numerator.bit_length() - value.denominator.bit_length()
    return math.floor(bits * math.log10(2))


def _best_point(g: Ball, points: tuple[Fraction, ...]) -> tuple[Fraction | None, Fraction]:
    values = [(value, point) for point in points if (value := lower_end(g(as_ball(point)))) is not None]
    return max(values) if values else (None, points[0])


def _box(g: Ball, u: Fraction, v: Fraction, depth: int) -> tuple[float, int, Fraction, Fraction, int, Fraction | None]:
    """Heap entry: boxes without a bound come first and deepest first, then the largest upper bound."""
    top = upper_end(g(interval_ball(u, v)))
    key = float("-inf") if top is None else _float_below(-top)
    return (key, -depth, u, v, depth, top)


def _float_below(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("-1e308") if value < 0 else float("1e308")


def _goal(best: Fraction | None, tolerance: Fraction) -> Fraction:
    return best + abs(best) * tolerance if best is not None else Fraction(-1)


def _suspect(u: Fraction, v: Fraction) -> Fraction:
    """The simplest rational in a tiny box: the likely place of the singularity (1/3 rather than 0.33333349)."""
    width = v - u
    lower, upper = u - width, v + width
    for bits in range(0, 64):
        candidate = Fraction(round((lower + upper) / 2 * 2**bits), 2**bits)
        if lower <= candidate <= upper:
            return candidate
    return (u + v) / 2
