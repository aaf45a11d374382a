"""Intervals of the line between borders of a formula, and what it says at a border itself."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, Integer

from . import compensated
from .enclosures import enclose
from .errors import Unsupported
from .symbols import x


def merged(points: Iterable[Expr]) -> list[Expr]:
    """Finite points in ascending order, each once."""
    found: dict[Fraction, Expr] = {}
    for point in points:
        if point.is_finite:
            found.setdefault(compensated.nearest_float(point), point)
    return [found[key] for key in sorted(found)]


def piece_at(parts: Iterable[Any], left: Expr, right: Expr) -> Expr:
    """The expression in force on (left, right), which no border divides."""
    for part in parts:
        if (part.left == left or part.left == -sympy.oo or _order(part.left, left) <= 0) and (
            part.right == right or part.right == sympy.oo or _order(right, part.right) <= 0
        ):
            return part.expr
    raise Unsupported(f"no branch of the formula covers ({left}, {right})")


def _order(p: Expr, q: Expr) -> int:
    if p in (-sympy.oo, sympy.oo) or q in (-sympy.oo, sympy.oo):
        return 0 if p == q else (-1 if p == -sympy.oo or q == sympy.oo else 1)
    low, high = compensated.nearest_float(p), compensated.nearest_float(q)
    return (low > high) - (low < high)


def stated_value(e: Expr, border: Expr) -> Expr | None:
    """What the formula says at a border itself; None where it says nothing (1/0) or where no enclosure decides it."""
    value = e.subs(x, border)
    if value.has(sympy.nan, sympy.zoo, sympy.oo) or not value.is_number:
        return None
    return value if enclose(value, {}, digits=20).rel_accuracy_bits() > 60 or value == 0 else None


def is_same(p: Expr, q: Expr) -> bool:
    """Whether two constants are the same, as far as 40 digits tell."""
    if p == q:
        return True
    if not (p.is_number and q.is_number) or p.has(sympy.nan, sympy.zoo) or q.has(sympy.nan, sympy.zoo):
        return False
    return bool(enclose(p - q, {}, digits=40).contains(0))


def sides_of(left: Expr, right: Expr) -> tuple[int, ...]:
    """The half-lines that an interval meets."""
    return tuple(s for s, met in ((1, _order(right, Integer(0)) > 0), (-1, _order(left, Integer(0)) < 0)) if met)


def clipped(value: Fraction, end: Expr, is_left: bool) -> Fraction | None:
    """An end of an interval moved to the end of its span, if that is a float; None where it is none."""
    if end in (-sympy.oo, sympy.oo):
        return value
    border = compensated.nearest_float(end)
    if border != Fraction(int(end.p), int(end.q)) if end.is_Rational else True:
        return None
    return max(value, border) if is_left else min(value, border)
