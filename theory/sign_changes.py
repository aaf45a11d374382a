"""Where the exponents of a formula change their sign: there the quantity that decays is another one.

σ(x² − x) decays as exp(x² − x) between 0 and 1 and as exp(x − x²) outside. The pieces of a formula are cut at such
places; a place that is no float is cut at the float beside it, where the exponential is 1 and either form holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise

import sympy
from sympy import Expr, Integer, Rational

from . import compensated
from .pieces import Piece, rational_between
from .symbols import x

#: Polynomials of a higher degree are left as they are written.
MOST_DEGREE = 8
#: A cut may be beside its root by this share of 1 + |root|.
BESIDE = Rational(1, 2**48)
_FUNCTIONS = (sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh, sympy.erf, sympy.erfc)


def cut_pieces(parts: Iterable[Piece]) -> tuple[Piece, ...]:
    """The pieces, cut where an exponent changes its sign on a half-line, and then at 0 as well."""
    found: list[Piece] = []
    for part in parts:
        inside = [c for c in cuts(part.expr) if part.left < c and c < part.right]
        found += [Piece(p, q, part.expr) for p, q in pairwise((part.left, *inside, part.right))]
    return tuple(found)


def cuts(e: Expr) -> list[Expr]:
    """Floats, in ascending order, between which each polynomial exponent of ``e`` keeps its sign on its half-line."""
    found: set[Expr] = set()
    for node in e.atoms(*_FUNCTIONS):
        found |= _cuts_of(node.args[0])
    return sorted(found | {Integer(0)}) if found else []


def _cuts_of(exponent: Expr) -> set[Expr]:
    terms = [t for t in sympy.Add.make_args(sympy.expand(exponent)) if t.has(x) and not t.has(sympy.log)]
    polynomial = sympy.Add(*terms).as_poly(x)
    if polynomial is None or polynomial.degree() > MOST_DEGREE or not all(c.is_Rational for c in polynomial.coeffs()):
        return set()
    factors = (p for p, k in polynomial.factor_list()[1] if k % 2)
    roots = {r for p in factors for r in p.real_roots() if r != 0}
    floats = (compensated.nearest_float(r if r.is_Rational else r.n(40)) for r in roots)
    return {Rational(f.numerator, f.denominator) for f in floats}


def sign_on(terms: Mapping[int, Expr], span: tuple[Expr, Expr]) -> int:
    """The sign of Σ terms[d]·aᵈ for all a in the open ``span``; 0 where it has none or that is not decided."""
    if not all(c.is_Rational for c in terms.values()):
        return 0
    low, high = (p + s * (1 + abs(p)) * BESIDE if p.is_finite else p for p, s in zip(span, (1, -1), strict=True))
    a = sympy.Symbol("a")
    polynomial = sympy.Poly({(d,): c for d, c in terms.items()}, a)
    odd = (p for p, k in polynomial.factor_list()[1] if k % 2)
    if low >= high or any(p.count_roots(low, None if high == sympy.oo else high) for p in odd):
        return 0
    return int(sympy.sign(polynomial.eval(rational_between(low, high))))


def last_reach(terms: Mapping[int, Expr], value: Expr | int) -> Expr:
    """A power of two beyond which a polynomial with a positive leading coefficient stays above ``value``."""
    degree = max(terms)
    others = {d: abs(c) for d, c in terms.items() if d != degree} | {0: abs(Integer(value))}
    bound = Fraction(1)
    while sum(c * bound**d for d, c in others.items()) > terms[degree] * bound**degree:
        bound *= 2
    return Rational(bound.numerator, bound.denominator)
