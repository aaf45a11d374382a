"""erfcx(u) = exp(u²)·erfc(u) for u ≥ 0 as proven polynomials, for targets whose library does not have it.

Up to 16 the function is cut at powers of two and each piece is fitted and proven by :mod:`.local_polynomials`; beyond,
the asymptotic series 1/(u√π)·Σ (−1)ᵏ(2k−1)!!/(2u²)ᵏ is used, whose error is smaller than the first term left out
(Abramowitz & Stegun 7.1.24).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import sympy
from flint import arb, fmpq

from .local_polynomials import LocalPolynomial, fit
from .lowering import Builder, Program
from .symbols import x

ENDS = tuple(Fraction(n) for n in (0, 1, 2, 4, 8, 16))
#: Cells of the proof: exp(u²) varies by a small factor in each.
CELLS_PER_UNIT = 24
#: 19!!/(2·16²)¹⁰ < 2⁻⁶⁰ bounds the error of ten terms for u ≥ 16.
ASYMPTOTIC_TERMS = 10


@lru_cache(maxsize=1)
def pieces() -> tuple[LocalPolynomial, ...]:
    """The fitted pieces, each proven to a relative error below 2⁻⁵³ including the rounding of its coefficients."""
    expression = sympy.exp(x**2) * sympy.erfc(x)
    found = []
    for low, high in pairwise(ENDS):
        middle = (low + high) / 2
        centre = arb(fmpq(middle.numerator, middle.denominator))
        found.append(fit(expression, centre, 0, low, high, even=False, cells=CELLS_PER_UNIT * int(high - low) + 32))
    return tuple(found)


def _rational(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)


def lower_erfcx(b: Builder, argument: int) -> int:
    """Steps that compute erfcx of a non-negative argument, within about one ulp."""
    result = _asymptotic(b, b.op("at_least", argument, b.constant(_rational(ENDS[-1]))))
    for piece in reversed(pieces()):
        high = b.constant(_rational(piece.high))
        inside = b.op("at_most", b.op("at_least", argument, b.constant(_rational(piece.low))), high)
        y = b.op("sub", inside, b.constant(_rational(piece.centre)))
        first, *others = (b.constant(_rational(c)) for c in piece.coefficients)
        total = others[-1]
        for coefficient in reversed(others[:-1]):
            total = b.op("add", b.op("mul", total, y), coefficient)
        result = b.op("select", b.op("lt", argument, high), b.op("add", total, first), result)
    return result


def _asymptotic(b: Builder, argument: int) -> int:
    inverse = b.op("div", b.constant(1), argument)
    v = b.op("mul", inverse, inverse)
    terms, coefficient = [], sympy.Integer(1)
    for k in range(ASYMPTOTIC_TERMS):
        terms.append(coefficient / sympy.sqrt(sympy.pi))
        coefficient *= -sympy.Rational(2 * k + 1, 2)
    total = b.constant(terms[-1])
    for term in reversed(terms[:-1]):
        total = b.op("add", b.op("mul", total, v), b.constant(term))
    return b.op("mul", total, inverse)


def without_erfcx(program: Program) -> Program:
    """The same program with every step ``erfcx`` spelt out."""
    if "erfcx" not in program.operations:
        return program
    b = Builder(program.inputs)
    moved: list[int] = []
    for node in program.nodes:
        operands = tuple(moved[o] for o in node.operands)
        match node.operation:
            case "input":
                moved.append(b.input(node.leaf))
            case "constant":
                moved.append(b.constant(node.leaf))
            case "erfcx":
                moved.append(lower_erfcx(b, *operands))
            case operation:
                moved.append(b.op(operation, *operands, leaf=node.leaf))
    return b.finish({name: moved[place] for name, place in program.outputs.items()})
