"""Take a Piecewise expression apart: smooth pieces between exact borders.

Everything that is proven about an activation is proven on these pieces, so the branch functions meet only at exact
points and no ball ever straddles a border.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import sympy
from flint import ctx
from sympy.core.relational import Relational

from .constants import is_zero, number, sign_of
from .errors import Unsupported
from .symbols import x


@dataclass(frozen=True)
class Piece:
    """``expr`` on the open interval (``left``, ``right``); the ends are exact numbers or ±∞."""

    left: sympy.Expr
    right: sympy.Expr
    expr: sympy.Expr

    def __str__(self) -> str:
        return f"{self.expr} on ({self.left}, {self.right})"


def _as_branches(expr: sympy.Expr) -> sympy.Expr:
    """Write |u|, sign, max, min and Heaviside as explicit branches."""
    for node in sorted(
        expr.atoms(sympy.Abs, sympy.sign, sympy.Max, sympy.Min, sympy.Heaviside), key=lambda n: n.count_ops()
    ):
        if not node.has(x):
            continue
        if isinstance(node, sympy.Abs):
            u = node.args[0]
            expr = expr.subs(node, sympy.Piecewise((u, u >= 0), (-u, True)))
        elif isinstance(node, sympy.sign):
            u = node.args[0]
            expr = expr.subs(node, sympy.Piecewise((1, u > 0), (-1, u < 0), (0, True)))
        else:
            expr = expr.subs(node, node.rewrite(sympy.Piecewise))
    return expr


def _roots_of_border(condition: Relational) -> list[sympy.Expr]:
    """The exact points where a condition may change: the real roots of lhs − rhs, a polynomial in x."""
    difference = sympy.expand(condition.lhs - condition.rhs)
    if not difference.has(x):
        return []
    slope = sympy.diff(difference, x)
    if not slope.has(x):
        return [sympy.expand(-difference.subs(x, 0) / slope)]
    poly = difference.as_poly(x)
    if poly is None or poly.degree() > 8 or not all(c.is_Rational for c in poly.all_coeffs()):
        raise Unsupported(f"the border {condition} is not a polynomial in x with rational coefficients")
    return sorted(set(poly.real_roots()), key=sympy.default_sort_key)


def _compare(a: sympy.Expr, b: sympy.Expr) -> int:
    sign = sign_of(a - b)
    if sign is None:
        raise Unsupported(f"cannot tell whether {a} and {b} are the same point")
    return sign


def _insert(points: list[sympy.Expr], new: sympy.Expr) -> None:
    for i, point in enumerate(points):
        sign = _compare(new, point)
        if sign == 0:
            return
        if sign < 0:
            points.insert(i, new)
            return
    points.append(new)


def borders(expr: sympy.Expr) -> tuple[sympy.Expr, ...]:
    """The exact points, in ascending order, where some branch of ``expr`` may end."""
    points: list[sympy.Expr] = []
    for condition in expr.atoms(Relational):
        for root in _roots_of_border(condition):
            _insert(points, root)
    return tuple(points)


def rational_between(left: sympy.Expr, right: sympy.Expr) -> sympy.Rational:
    """A simple rational strictly between two exact points (either may be infinite)."""
    if left == -sympy.oo and right == sympy.oo:
        return sympy.Integer(0)
    with ctx.workprec(128):
        if right == sympy.oo:
            return sympy.Integer(int(number(left).upper().ceil().unique_fmpz()) + 1)
        if left == -sympy.oo:
            return sympy.Integer(int(number(right).lower().floor().unique_fmpz()) - 1)
        low, high = number(left).upper(), number(right).lower()
        middle = (low + high) / 2
        denominator = 1
        while denominator < 2**100:
            candidate = (middle * denominator).mid().floor().unique_fmpz()
            for n in (int(candidate), int(candidate) + 1):
                if low * denominator < n < high * denominator:
                    value = Fraction(n, denominator)
                    return sympy.Rational(value.numerator, value.denominator)
            denominator *= 2
    raise Unsupported(f"the borders {left} and {right} are too close to separate")


def _holds(condition: sympy.Basic, point: sympy.Rational) -> bool:
    if condition in (sympy.true, True):
        return True
    if condition in (sympy.false, False):
        return False
    if isinstance(condition, sympy.And):
        return all(_holds(a, point) for a in condition.args)
    if isinstance(condition, sympy.Or):
        return any(_holds(a, point) for a in condition.args)
    if isinstance(condition, sympy.Not):
        return not _holds(condition.args[0], point)
    if isinstance(condition, Relational):
        sign = _compare(condition.lhs.subs(x, point), condition.rhs.subs(x, point))
        return {"<": sign < 0, "<=": sign <= 0, ">": sign > 0, ">=": sign >= 0, "==": sign == 0, "!=": sign != 0}[
            condition.rel_op
        ]
    raise Unsupported(f"unknown condition {str(condition)[:60]}")


def _resolve(expr: sympy.Expr, point: sympy.Rational) -> sympy.Expr:
    """The branch of every Piecewise that is in force at ``point``."""
    if not expr.has(sympy.Piecewise):
        return expr
    if isinstance(expr, sympy.Piecewise):
        for branch, condition in expr.args:
            if _holds(condition, point):
                return _resolve(branch, point)
        raise Unsupported(f"no branch of the formula covers x = {point}")
    return expr.func(*(_resolve(a, point) for a in expr.args))


def value_at(expr: sympy.Expr, point: sympy.Expr) -> sympy.Expr:
    """The value at an exact point, by the branches that hold there."""
    return _resolve(expr, point).subs(x, point)


@lru_cache(maxsize=512)
def pieces(expr: sympy.Expr) -> tuple[Piece, ...]:
    """Split ``expr`` (in x) at its exact borders; neighbours with the same branch are joined.

    A border at which the formula has a value of its own stays: sign(x)² is 1 on both sides of 0, but 0 there.

    >>> [str(p) for p in pieces(sympy.Piecewise((x, x > 0), (0, True)))]
    ['0 on (-oo, 0)', 'x on (0, oo)']
    """
    expr = _as_branches(sympy.sympify(expr))
    ends = (-sympy.oo, *borders(expr), sympy.oo)
    found: list[Piece] = []
    for left, right in pairwise(ends):
        branch = _resolve(expr, rational_between(left, right))
        if found and found[-1].expr == branch and is_zero(value_at(expr, left) - branch.subs(x, left)):
            found[-1] = Piece(found[-1].left, right, branch)
        else:
            found.append(Piece(left, right, branch))
    return tuple(found)


def differentiated(parts: tuple[Piece, ...], order: int) -> tuple[Piece, ...]:
    """The derivative of each piece: the derivative almost everywhere, without the deltas that a jump would add."""
    if order == 0:
        return parts
    return tuple(Piece(p.left, p.right, sympy.diff(p.expr, x, order)) for p in parts)
