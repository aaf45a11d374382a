"""On which side of a point between two floats an exact value lies, decided exactly for millions of inputs at once.

A float64 reference cannot tell the sides where the exact value is a tie, or within rounding of one. That happens by
the million in two ways, and each has a law that decides without balls:

* a branch that is a polynomial of degree ≤ 2 with rational coefficients: (a·x² + b·x + c)/q − t has the sign of
  a·x² + b·x + c − q·t, a sum of four numbers that float64 holds exactly, whose sign Shewchuk's exact sum gives;
* near 0, where f = c₁·x + r(x) with c₁ = p/q: p·x − q·t is exact in float64 where the two are close, and it decides
  unless it is smaller than q·|r|. Where it is 0, the sign of r decides. That, and |r| ≤ M·x², come from the next
  derivative that is not 0 at 0, enclosed in a ball over all these x at once.

What no law covers is enclosed point by point (:func:`side_in_balls`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import flint
import numpy as np
import numpy.typing as npt
import sympy
from flint import arb

from ..theory.activations import Activation
from ..theory.enclosures import ball_function
from ..theory.errors import Unsupported
from ..theory.pieces import Piece, pieces
from ..theory.symbols import x

Array = npt.NDArray[Any]

#: Where the law near 0 holds, and the largest coefficients for which x², x and a tie times it are exact.
TINY, LARGEST_SQUARE, LARGEST = 2.0**-20, 2**5, 2**25
#: Bits at which a point is enclosed, in turn.
PRECISIONS = (160, 400, 1_400)
#: The answer "not known".
UNKNOWN = 2


@dataclass(frozen=True)
class Law:
    """f = (a·x² + b·x + c)/q + r for low < x < high, r of sign ``rest`` (0: nothing) and at most ``most``·x²."""

    low: float
    high: float
    a: float
    b: float
    c: float
    q: float
    rest: int = 0
    most: float = 0.0


@lru_cache(maxsize=256)
def laws(row: Activation, order: int) -> tuple[Law, ...]:
    """The laws of a derivative of ``row``: what they do not cover needs balls."""
    try:
        cut = pieces(row.derivative(order))
    except Unsupported:
        return ()
    found = [law for piece in cut if (law := _polynomial(piece))]
    for piece in cut:
        if not piece.expr.is_polynomial(x):
            found += [law for side in (-1, 1) if (law := _near_zero(piece, side))]
    return tuple(found)


def _exact(value: sympy.Expr) -> float | None:
    """A border as float64, if it is one."""
    if value in (sympy.oo, -sympy.oo):
        return float(value)
    number = float(value)
    return number if value.is_Rational and sympy.Rational(*number.as_integer_ratio()) == value else None


def _polynomial(piece: Piece) -> Law | None:
    if not piece.expr.is_polynomial(x):
        return None
    poly = sympy.Poly(piece.expr, x)
    if poly.degree() > 2 or not all(c.is_Rational for c in poly.all_coeffs()):
        return None
    low, high = _exact(piece.left), _exact(piece.right)
    q = sympy.ilcm(1, *(c.q for c in poly.all_coeffs()))
    a, b, c = (int(poly.coeff_monomial(x**k) * q) for k in (2, 1, 0))
    if low is None or high is None or abs(a) > LARGEST_SQUARE or max(abs(b), abs(c), q) > LARGEST:
        return None
    return Law(low, high, float(a), float(b), float(c), float(q))


def _near_zero(piece: Piece, side: int) -> Law | None:
    """f = c₁x + remainder for 0 < side·x < TINY, where f(0) = 0 and c₁ is rational."""
    low, high = (0.0, TINY) if side > 0 else (-TINY, 0.0)
    if not (piece.left <= low and high <= piece.right):
        return None
    slope = piece.expr.diff(x)
    value, c1 = piece.expr.subs(x, 0), slope.subs(x, 0)
    if value != 0 or not c1.is_Rational or max(abs(c1.p), c1.q) > LARGEST:
        return None
    rest = _remainder(slope, side)
    return None if rest is None else Law(low, high, 0.0, float(c1.p), 0.0, float(c1.q), *rest)


def _remainder(slope: sympy.Expr, side: int) -> tuple[int, float] | None:
    """The sign of f − c₁x on one side of 0, that of f⁽ᵏ⁾·xᵏ for the first k ≥ 2 with f⁽ᵏ⁾(0) ≠ 0, and M."""
    derivative = slope
    for k in range(2, 6):
        derivative = derivative.diff(x)
        with flint.ctx.workprec(300):
            radius = arb(TINY) / 2
            over = ball_function(derivative)(arb((side * radius).mid(), radius.mid()))
            if not over.is_finite():
                return None
        if over > 0 or over < 0:
            return (1 if over > 0 else -1) * side**k, float(abs(over).upper()) * TINY ** (k - 2)
        if derivative.subs(x, 0) != 0:
            return None
    return None


# ------------------------------------------------------------------------------------------------------------- deciding


def sides(row: Activation, order: int, points: Array, ties: Array) -> Array:
    """The sign of exact value − tie at each point (float64 arrays), 2 where no law decides."""
    answer = np.full(points.size, UNKNOWN, dtype=np.int64)
    for law in laws(row, order):
        covered = np.flatnonzero((law.low < points) & (points < law.high) & (answer == UNKNOWN))
        if covered.size:
            v, t = points[covered], ties[covered]
            signs = _sign_of_sum(np.stack([law.a * v * v, law.b * v, np.full(v.size, law.c), -law.q * t]))
            if law.rest:
                far = abs(law.b * v - law.q * t) > law.q * law.most * v * v  # M is twice what Taylor's formula needs
                signs = np.where(signs == 0, law.rest, np.where(far | (signs == law.rest), signs, UNKNOWN))
            answer[covered] = signs
    return answer


def _sign_of_sum(terms: Array) -> Array:
    """The exact sign of the sum over the first axis: grow-expansion (Shewchuk 1997), every entry at once."""
    expansion: list[Array] = []
    for term in terms:
        carried, grown = term, []
        for part in expansion:  # two-sum: total + error = carried + part exactly
            total = carried + part
            virtual = total - carried
            grown.append((carried - (total - virtual)) + (part - virtual))
            carried = total
        expansion = [*grown, carried]
    sign = np.zeros(terms.shape[1], dtype=np.int64)
    for part in expansion:  # components do not overlap and grow: the last that is not 0 has the sign of the sum
        sign = np.where(part != 0, np.sign(part).astype(np.int64), sign)
    return sign


def side_in_balls(exact: Callable[[], arb], tie: float) -> int:
    """The sign of exact value − tie, :data:`UNKNOWN` where no precision tried decides it."""
    for bits in PRECISIONS:
        with flint.ctx.workprec(bits):
            difference = exact() - arb(tie)
            if difference > 0 or difference < 0:
                return 1 if difference > 0 else -1
            if difference == 0:
                return 0
    return UNKNOWN
