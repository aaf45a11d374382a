"""Functions of which both half-lines need the same decaying part: f(a) = c·aᵈ ± f(−a).

σ(a) = 1 − σ(−a), aσ(a) = a + (−a)σ(−a), softplus(a) = a + softplus(−a). Where every step counts, only the side that
decays is computed, and the other one from it with one more sum. What makes such a pair is found by algebra.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
from sympy import Expr

from .decaying import HalfLine, a
from .enclosures import ball_function, exact_value
from .symbols import x

#: Where the parts are compared: what is subtracted must not exceed what is left.
GRID = (Fraction(1, 2**20), *(Fraction(k, 16) for k in range(1, 320)))
#: There f has decayed on one side.
FAR = Fraction(20)


@dataclass(frozen=True)
class Reflection:
    """f on the side of −``side`` is ``coefficient``·a^``degree`` + ``sign``·(f at the mirrored point)."""

    side: int
    sign: int
    coefficient: Expr
    degree: int


def reflected(line: HalfLine, e: Expr) -> Reflection | None:
    """The reflection of e on this line; None where there is none, or where the sum would cancel."""
    plus, minus = (line.reduced(e.subs(x, s * a)) for s in (1, -1))
    for sign, found in ((1, plus - minus), (-1, plus + minus)):
        term = single_term(line, found)
        if term is None:
            continue
        coefficient, degree = term
        side = _decaying_side(e)
        if side is None:
            continue
        outward = -coefficient if sign == 1 and side == 1 else coefficient
        found_one = Reflection(side, sign, outward, degree)
        return found_one if _keeps_digits(e, side) else None
    return None


def single_term(line: HalfLine, element: Any) -> tuple[Expr, int] | None:
    """(c, d) of an element c·aᵈ with rational c and d ≤ 1."""
    if element == 0:
        return None
    same: dict[Any, Expr] = {}  # log(1 + T) may have a name for each half-line
    names = {symbol: same.setdefault(increment, symbol) for symbol, increment in line.increments.items()}
    expression = (element.numer.as_expr() / element.denom.as_expr()).xreplace(names).cancel()
    coefficient, power = expression.as_independent(line.base)
    if not coefficient.is_Rational or power not in (1, line.base):
        return None
    return coefficient, int(power == line.base)


def _decaying_side(e: Expr) -> int | None:
    """The half-line far out on which |e| is below 2⁻¹⁰ of the other one."""
    function = ball_function(e)
    with flint.ctx.workprec(200):
        plus, minus = (abs(function(exact_value(s * FAR))) for s in (1, -1))
        if plus * 1024 < minus:
            return 1
        return -1 if minus * 1024 < plus else None


def _keeps_digits(e: Expr, side: int) -> bool:
    """Whether |f(side·a)| ≤ |f(−side·a)|, about, over the grid."""
    function = ball_function(e)
    with flint.ctx.workprec(200):
        return all(
            abs(function(exact_value(side * p))) * 100 < abs(function(exact_value(-side * p))) * 101 for p in GRID
        )
