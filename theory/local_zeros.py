"""Zeros and removable singularities of a formula in a short interval, as the centres of cells: (x − c)ᵐ·P(x − c).

A simple zero is a ball proven by Newton's interval step to hold one. A zero of higher multiplicity, and a point where a
denominator vanishes, count where they are recognised exactly (2π, 1, √2): the formula is then moved to 0, where
:mod:`.removable` knows what cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import flint
import sympy
from flint import arb

from .cells import Centre
from .enclosures import ball_function, derived_from, exact_value, taylor
from .removable import expand_at_zero, moved_to_zero
from .symbols import x
from .zeros import recognise

#: Points between which changes of sign are sought, and the precisions at which signs are taken.
POINTS, PRECISIONS = 25, (256, 1_300)
#: A value at an extremum that is so small beside those around it may be 0.
TOUCHING = 2.0**-8
#: Bits to which a zero is known, and steps of bisection before Newton's.
PRECISION, BISECTIONS = 480, 12


def find_zeros(expression: sympy.Expr, low: Fraction, high: Fraction) -> list[Centre]:
    """The centres between two points that were found; those that could not be proven are left out.

    >>> [(c.high, c.multiplicity) for c in find_zeros(1 - sympy.cos(x), Fraction(6), Fraction(7))]
    [(6.283185307179586, 2)]
    """
    # not evenly: an exact zero in the middle of two points has a sign on both
    grid = [low + (high - low) * (Fraction(k) + Fraction(1, 97)) / POINTS for k in range(POINTS)]
    grid = [low, *grid, high]
    found = [c for bracket in _changes(_value(expression), grid) if (c := _simple(expression, *bracket)) is not None]
    slope = _slope(expression)
    for function in (slope, *map(_value, _denominators(expression))):
        for bracket in _changes(function, grid):
            if function is slope and not _touches(expression, *bracket):
                continue
            centre = _exact(expression, function, *bracket)
            if centre is not None:
                found.append(centre)
    return found


Function = Callable[[arb], arb]


def _value(expression: sympy.Expr) -> Function:
    return lambda ball: _coefficients(expression, ball, 0)[0]


def _slope(expression: sympy.Expr) -> Function:
    return lambda ball: _coefficients(expression, ball, 1)[1]


def _coefficients(expression: sympy.Expr, ball: arb, order: int) -> list[arb]:
    return taylor(expression, ball, order) or [arb.nan()] * (order + 1)


def _denominators(expression: sympy.Expr) -> list[sympy.Expr]:
    """What is divided by, and the like, of the formula (of the function, where the formula is its derivative)."""
    function, _ = derived_from(expression)
    powers = [p for p in function.atoms(sympy.Pow) if p.exp.is_Rational and p.exp < 0 and p.base.has(x)]
    return list(dict.fromkeys(p.base for p in powers))


def _sign(function: Function, point: Fraction) -> int:
    for bits in PRECISIONS:
        with flint.ctx.workprec(bits):
            value = function(exact_value(point))
            if value.is_finite() and not value.contains(0):
                return 1 if value > 0 else -1
    return 0


def _changes(function: Function, grid: Sequence[Fraction]) -> list[tuple[Fraction, Fraction]]:
    signs = [(p, s) for p in grid if (s := _sign(function, p))]
    return [(p, q) for (p, s), (q, t) in pairwise(signs) if s != t]


def _refined(function: Function, low: Fraction, high: Fraction) -> tuple[Fraction, Fraction]:
    at_low = _sign(function, low)
    for _ in range(BISECTIONS):
        middle = low + (high - low) * Fraction(31, 64)
        here = _sign(function, middle)
        if not here:
            break
        low, high = (middle, high) if here == at_low else (low, middle)
    return low, high


def _touches(expression: sympy.Expr, low: Fraction, high: Fraction) -> bool:
    """Whether the formula comes near 0 between two points: only a guide."""
    sizes = []
    near = _refined(_slope(expression), low, high)
    for point in (low, high, sum(near) / 2):
        value = abs(_coefficients(expression, exact_value(point), 0)[0])
        sizes.append(float(value.mid()) if value.is_finite() else 1.0)
    return sizes[2] < TOUCHING * max(sizes)


def _simple(expression: sympy.Expr, low: Fraction, high: Fraction) -> Centre | None:
    """A simple zero between two points where the signs differ."""
    low, high = _refined(_value(expression), low, high)
    with flint.ctx.workprec(PRECISION):
        point = exact_value((low + high) / 2)
        for _ in range(9):
            value, slope = _coefficients(expression, point, 1)
            if not value.is_finite() or slope.contains(0) or not slope.is_finite():
                return None
            point = (point - value / slope).mid()
        around = point + arb(0, 1) * abs(point) * arb(2) ** -(PRECISION - 60)
        value, slope = _coefficients(expression, point, 1)[0], _coefficients(expression, around, 1)[1]
        step = point - value / slope
        if not step.is_finite() or not around.contains(step) or not exact_value(low) <= step <= exact_value(high):
            return None
        return _centre(step, 1)


def _centre(ball: arb, multiplicity: int, moved: sympy.Expr | None = None) -> Centre:
    high = float(ball.mid())
    rest = ball - arb(high)
    # a zero at a float is known only as a ball around it: there the value is to be 0
    return Centre(high, 0.0 if rest.contains(0) else float(rest.mid()), ball, multiplicity, moved)


def _exact(expression: sympy.Expr, function: Function, low: Fraction, high: Fraction) -> Centre | None:
    """A zero of more than one derivative, or a removable singularity, that is recognised as an exact number."""
    low, high = _refined(function, low, high)
    for _ in range(6):
        low, high = _refined(function, low, high)
    ball = exact_value(low).union(exact_value(high))
    for candidate in _candidates(expression, ball):
        moved = moved_to_zero(expression, candidate)
        with flint.ctx.workprec(PRECISION):
            found = expand_at_zero(moved, arb(0), 2)
            if found is not None:
                return _centre(ball_function(candidate, ())(), found[0], moved)
    return None


def _candidates(expression: sympy.Expr, ball: arb) -> list[sympy.Expr]:
    """Exact numbers in the ball at which the formula, or a denominator of it, is exactly 0."""
    found = [recognise(part, ball) for part in (expression, *_denominators(expression))]
    return [c for c in dict.fromkeys(found) if c is not None]
