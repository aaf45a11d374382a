"""Sums with a scaled complementary error function as quotients of polynomials, for results of 24 bits.

erfcx(λa) is P(a)/Q(a) to 2⁻³⁵ (:mod:`.rational_minimax`), so α(a)·erfcx(λa) + β(a) is M/Q with M = αP + βQ, one
polynomial of known coefficients in place of a sum of two. Where the sum has a zero r, which it reaches by cancellation,
M is (a − r)·N but for the errors of P/Q: with r to twice the digits nothing cancels any more, on the whole half-line.
M, N and Q are used only if all their coefficients have one sign. The relative error of the quotient, its coefficients
rounded, is proven in balls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import flint
import sympy
from flint import arb, arb_poly
from sympy import Expr

from .arithmetic import DOUBLE
from .enclosures import enclose, exact_value
from .errors import Unsupported
from .local_polynomials import PRECISION, proven_bound, refine_root, split_root
from .rational_minimax import INLINE_ERFCX, INLINE_LAST, inline_erfcx
from .symbols import x

#: What is known of |P/(Q·erfcx) − 1|, Q's coefficients for a being rounded.
KNOWN = arb(2) ** -INLINE_ERFCX.proven_bits + arb(2) ** -50
#: The zero of a sum is taken for that of the polynomial to within this.
AROUND = Fraction(1, 4)
#: Bits that the quotient must be proven to.
WANTED_BITS = 33


@dataclass(frozen=True)
class ErfcxQuotient:
    """(a − ``root``)·``above``/``below`` or ``above``/``below``, constants first, for 0 ≤ a ≤ ``high``.

    As a proven approximation it holds on both half-lines: what is computed from it loses nothing.
    """

    above: tuple[Fraction, ...]
    below: tuple[Fraction, ...]
    root: tuple[Fraction, Fraction] | None
    low: Fraction
    high: Fraction
    error_bits: float


@lru_cache(maxsize=256)
def quotient(
    scale: Expr, slope: tuple[tuple[int, Expr], ...], rest: tuple[tuple[int, Expr], ...], held: Fraction
) -> ErfcxQuotient | None:
    """The quotient for Σ slope·aᵈ·erfcx(``scale``·a) + Σ rest·aᵈ on [0, ``held``]; None where none is proven."""
    try:
        with flint.ctx.workprec(PRECISION):
            return _proven(scale, dict(slope), dict(rest), held)
    except Unsupported:
        return None


def _proven(scale: Expr, slope: Mapping[int, Expr], rest: Mapping[int, Expr], held: Fraction) -> ErfcxQuotient:
    factor = enclose(scale, {}, digits=PRECISION // 4)
    if not factor * exact_value(held) <= exact_value(INLINE_LAST):
        raise Unsupported("a is held too far out")
    p, q = (arb_poly([arb(c) * factor**k for k, c in enumerate(part)]) for part in inline_erfcx())
    below = _rounded(q)
    sloped = _of(slope) * p
    whole = sloped + _of(rest) * _polynomial(below)
    if _changes(whole) > 1:
        raise Unsupported("the sum has several zeros")
    expression = _expression(scale, slope, rest)
    zero = refine_root(expression, *_bracket(whole, held)) if _changes(whole) else None
    above = _rounded(whole if zero is None else _divided(whole, zero))
    if not (_one_sign(above) and _one_sign(below)):
        raise Unsupported("a polynomial of the quotient cancels")
    root = None if zero is None else split_root(zero, DOUBLE)
    worst = arb(0) if zero is None or root is None else _error_around(expression, above, below, zero, root[0])
    product = _polynomial(above) * (1 if zero is None else arb_poly([-zero, 1]))
    for cell in _cells(held, root):
        error = abs(sloped(cell)) * KNOWN
        least = abs(whole(cell)) - error
        if not least > 0:
            raise Unsupported("the sum is not known well enough")
        worst = worst.max((abs((product - whole)(cell)) + error) / least)
    if not worst < arb(2) ** -WANTED_BITS:
        raise Unsupported("the quotient is not proven")
    return ErfcxQuotient(above, below, root, -held, held, float(worst.log().upper() / arb(2).log()))


def _error_around(
    expression: Expr, above: Sequence[Fraction], below: Sequence[Fraction], zero: arb, centre: Fraction
) -> arb:
    """The error of (a − zero)·above beside the zero, where that of a sum says nothing: by Taylor polynomials."""
    exact = expression * sum(sympy.Rational(c.numerator, c.denominator) * x**k for k, c in enumerate(below))
    given = (above[0], Fraction(0), *above[1:])  # its constant is a sum of two
    return proven_bound(exact, given, centre - AROUND, centre + AROUND, multiplicity=1, root=zero)


def _of(terms: Mapping[int, Expr]) -> arb_poly:
    coefficients = [arb(0)] * (max(terms, default=0) + 1)
    for degree, value in terms.items():
        coefficients[degree] = enclose(value, {}, digits=PRECISION // 4)
    return arb_poly(coefficients)


def _polynomial(coefficients: Sequence[Fraction]) -> arb_poly:
    return arb_poly([exact_value(c) for c in coefficients])


def _rounded(polynomial: arb_poly) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(polynomial[k].mid())) for k in range(polynomial.degree() + 1))


def _expression(scale: Expr, slope: Mapping[int, Expr], rest: Mapping[int, Expr]) -> Expr:
    u = scale * x
    scaled = sympy.exp(u**2) * sympy.erfc(u)
    return sum(c * x**d for d, c in slope.items()) * scaled + sum(c * x**d for d, c in rest.items())


def _changes(polynomial: arb_poly) -> int:
    """How often the signs of the coefficients change: at least the number of positive zeros (Descartes)."""
    signs = [1 if c > 0 else -1 for c in (polynomial[k] for k in range(polynomial.degree() + 1)) if not c.contains(0)]
    return sum(p != q for p, q in pairwise(signs))


def _one_sign(coefficients: Sequence[Fraction]) -> bool:
    return all(c >= 0 for c in coefficients) or all(c <= 0 for c in coefficients)


def _bracket(polynomial: arb_poly, held: Fraction) -> tuple[Fraction, Fraction]:
    """Two points around the one positive zero; the first positive."""
    start = 1 if polynomial(exact_value(Fraction(1, 2**20))) > 0 else -1
    low, high = Fraction(1, 2**20), held
    for _ in range(40):
        middle = Fraction(float((low + high) / 2))
        low, high = (middle, high) if polynomial(exact_value(middle)) * start > 0 else (low, middle)
    if not AROUND < low < held - AROUND:
        raise Unsupported("the zero lies beside an end")
    width = Fraction(1, 2**30)
    return low - width, high + width


def _divided(polynomial: arb_poly, root: arb) -> arb_poly:
    """(M − M(r))/(a − r), by Horner's rule."""
    coefficients, carried = [], arb(0)
    for k in range(polynomial.degree(), 0, -1):
        carried = polynomial[k] + root * carried
        coefficients.append(carried)
    return arb_poly(coefficients[::-1])


def _cells(held: Fraction, root: tuple[Fraction, Fraction] | None) -> list[arb]:
    """[0, held] in pieces, each 1/64 of its place; without what is proven around the root."""
    ends = [Fraction(0), Fraction(1, 64)]
    while ends[-1] < held:
        ends.append(Fraction(float(ends[-1] * 65 / 64)))
    pieces = list(pairwise(ends))
    if root is not None:
        low, high = root[0] - AROUND, root[0] + AROUND
        pieces = [(p, min(q, low)) for p, q in pieces if p < low] + [(max(p, high), q) for p, q in pieces if q > high]
    return [exact_value(p).union(exact_value(q)) for p, q in pieces]
