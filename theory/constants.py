"""Proven values and signs of exact constants such as √2 − erf(1/3): what exact borders and coefficients are made of."""

from __future__ import annotations

from functools import lru_cache

import sympy
from flint import arb, ctx, fmpq

from .enclosures import ball_function


def number(expr: sympy.Expr) -> arb:
    """Enclose a constant at the present precision; raises :class:`Unsupported` naming a node it does not know.

    >>> number(sympy.sqrt(2)).str(12)
    '[1.41421356237 +/- 3.10e-12]'
    """
    return _number(sympy.sympify(expr), ctx.prec)


@lru_cache(maxsize=8192)
def _number(expr: sympy.Expr, precision: int) -> arb:
    """``precision`` is that of the context: it only tells the cached values apart."""
    if expr.is_Rational:
        return arb(fmpq(int(expr.p), int(expr.q)))
    return ball_function(expr, ())()


@lru_cache(maxsize=8192)
def sign_of(expr: sympy.Expr) -> int | None:
    """Return the proven sign (−1, 0, 1) of a constant, or None when 400 bits do not separate it from 0."""
    expr = sympy.sympify(expr)
    if expr == 0:
        return 0
    for bits in (64, 128, 400):
        with ctx.workprec(bits):
            value = number(expr)
        if value > 0:
            return 1
        if value < 0:
            return -1
    return 0 if is_zero(expr) else None


def is_zero(expr: sympy.Expr) -> bool:
    """Tell whether a constant is proven to be exactly 0, by bounded exact algebra only (False: not proven)."""
    if expr == 0:
        return True
    if expr.count_ops() > 200:
        return False
    with ctx.workprec(128):
        if not number(expr).contains(0):
            return False
    return bool(sympy.expand(sympy.radsimp(sympy.expand(expr))) == 0)
