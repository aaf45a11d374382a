"""Largest value of a function over an interval, enclosed from both sides by branch and bound over balls.

The upper side is a theorem (every box of a cover was evaluated in ball arithmetic), the lower side is the value at one
exact point. No sample decides anything: a grid maximum is not a supremum.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import flint
from flint import arb, fmpq

from .errors import Unsupported

Ball = Callable[[arb], arb]

#: A box this many halvings deep that still has no finite enclosure is taken for a singularity.
MAX_DEPTH = 44
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


def as_ball(point: Fraction) -> arb:
    """The exact rational as a ball at the current precision."""
    return arb(fmpq(point.numerator, point.denominator))


def interval_ball(u: Fraction, v: Fraction) -> arb:
    """A ball that contains ``[u, v]``."""
    return as_ball(u).union(as_ball(v))


def upper_end(ball: arb) -> Fraction | None:
    """The upper end of a ball as an exact rational; None where it is not finite."""
    return exact(ball.upper()) if ball.is_finite() else None


def lower_end(ball: arb) -> Fraction | None:
    """The lower end of a ball as an exact rational; None where it is not finite."""
    return exact(ball.lower()) if ball.is_finite() else None


def exact(point: arb) -> Fraction:
    """The rational value of an exact ball (a midpoint or an end)."""
    mantissa, exponent = (int(part) for part in point.man_exp())
    return Fraction(mantissa * 2**exponent) if exponent >= 0 else Fraction(mantissa, 2**-exponent)


def readable(value: Fraction, digits: int = 6) -> str:
    """The rational for a person: a short decimal (nearest, not a bound)."""
    return f"{float(value):.{digits}g}"


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
