"""Arctangents of large arguments: atan g = ±π/2 − atan(1/g), where a sum takes ±π/2 away again.

atan(x)/π + 1/2 has no correct digit at −10³⁰; −atan(1/x)/π has all of them. Its derivatives beside a power of x cancel
once more, atan(1/a) − a/(1 + a²): from :data:`SERIES` on atan(1/g) of a linear g is therefore its series, and all is a
rational function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import sympy
from sympy import Expr, Integer, Rational

from . import compensated
from .enclosures import enclose
from .pieces import Piece, rational_between
from .symbols import x

#: Arguments from which atan(1/g) is the first terms of its series: what they miss is below 16⁻²⁸/29 < 2⁻¹¹⁶ of it.
SERIES, TERMS = 16, 14
#: Polynomials of a higher degree are left as they are written.
MOST_DEGREE = 8
_EXPONENTIAL = (sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh, sympy.erf, sympy.erfc)


def inverted(parts: Iterable[Piece], *, series: bool = True) -> tuple[Piece, ...]:
    """The pieces, cut where the argument of an arctangent passes ±1 and ±16, and written without what cancels.

    Without ``series`` the arctangents of 1/g stay what they are.

    >>> from .pieces import pieces
    >>> print(*inverted(pieces(sympy.atan(x) + sympy.pi / 2))[1:], sep="; ")
    -atan(1/x) on (-16, -1); atan(x) + pi/2 on (-1, oo)
    """
    found: list[Piece] = []
    for part in parts:
        start = len(found)
        for left, right in pairwise((part.left, *_cuts(part), part.right)):
            e = _inverted(part.expr, rational_between(left, right), series)
            if len(found) > start and found[-1].expr == e:
                left = found.pop().left
            found.append(Piece(left, right, e))
    return tuple(found)


def _cuts(part: Piece) -> list[Expr]:
    """Floats inside the piece beside which an argument is ±1 or ±16."""
    roots = {r for node in _arctangents(part.expr) for r in _passing(node.args[0])}
    floats = {compensated.nearest_float(r if r.is_Rational else r.n(40)) for r in roots}
    cuts = (Rational(f.numerator, f.denominator) for f in sorted(floats))
    return [c for c in cuts if part.left < c and c < part.right]


def _arctangents(e: Expr) -> list[Expr]:
    """Those of polynomials, in a formula in which they might cancel."""
    nodes = [n for n in e.atoms(sympy.atan) if _passing(n.args[0])]
    return sorted(nodes, key=str) if len(nodes) > 1 or e.has(sympy.pi) else []


def _passing(argument: Expr) -> list[Expr]:
    """Where a polynomial passes ±1 and ±16: one with rational coefficients, or c·xᵈ."""
    polynomial = argument.as_poly(x)
    if polynomial is None or not 0 < polynomial.degree() <= MOST_DEGREE:
        return []
    if all(c.is_Rational for c in polynomial.coeffs()):
        return [r for v in (1, SERIES) for s in (1, -1) for r in (polynomial - s * v).real_roots()]
    if len(polynomial.terms()) > 1 or not polynomial.LC().is_number:
        return []
    degree = polynomial.degree()
    return [s * sympy.root(v / abs(polynomial.LC()), degree) for v in (Integer(1), Integer(SERIES)) for s in (1, -1)]


def _inverted(e: Expr, point: Rational, series: bool) -> Expr:
    """``e`` where no argument passes ±1 or ±16 between here and ``point``."""
    quarter_turns, forms, nodes = {}, {}, _arctangents(e)
    series = series and not e.has(*_EXPONENTIAL) and _have_one_zero([node.args[0] for node in nodes])
    for node in nodes:
        size = enclose(node.args[0].subs(x, point), {}, digits=20)
        if abs(size) > 1:
            turn = (1 if size > 0 else -1) * sympy.pi / 2
            inverse = 1 / node.args[0]
            quarter_turns[node] = turn
            forms[node] = turn - (_series(inverse) if series and abs(size) > SERIES else sympy.atan(inverse))
    if not any(_cancels(total, quarter_turns) for total in e.atoms(sympy.Add)):
        return e
    return e.xreplace(forms)


def _have_one_zero(arguments: Iterable[Expr]) -> bool:
    """Whether all are linear and vanish at the same place: one power of a denominator serves their series."""
    polynomials = [argument.as_poly(x) for argument in arguments]
    return all(p.degree() == 1 for p in polynomials) and len({p.nth(0) / p.nth(1) for p in polynomials}) == 1


def _series(u: Expr) -> Expr:
    return sympy.Add(*(Rational((-1) ** k, 2 * k + 1) * u ** (2 * k + 1) for k in range(TERMS)))


def _cancels(total: Expr, quarter_turns: Mapping[Expr, Expr]) -> bool:
    """Whether a sum has fewer terms with ±π/2 in the place of its arctangents than with other numbers there."""
    others = {node: turn * Rational(3 * k + 7, 3 * k + 5) for k, (node, turn) in enumerate(quarter_turns.items())}
    return _count(total.xreplace(dict(quarter_turns))) < _count(total.xreplace(others))


def _count(total: Expr) -> int:
    expanded = sympy.expand(total)
    return 0 if expanded == 0 else len(sympy.Add.make_args(expanded))
