"""Steps that carry a rounding error along, for arguments of exp that must be known to more than the format's digits.

exp multiplies the absolute error of its argument into a relative error of the result: with |argument| up to 745, half
an ulp of the argument is several hundred ulp of the exponential. The argument is therefore built as hi + lo (Dekker
1971, Veltkamp's splitting, or one fused multiply-add where there is one) and exp(−(hi + lo)) = e − e·lo with
e = exp(−hi). In exact arithmetic every lo of a product is 0, so a program with these steps still equals its formula
exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import flint
import sympy

from .arithmetic import DOUBLE, Arithmetic
from .enclosures import enclose
from .lowering import Builder
from .ranges import reach


@dataclass(frozen=True)
class Pair:
    """An unevaluated sum of two places; ``lo`` is None where hi is exact."""

    hi: int
    lo: int | None


def nearest_float(value: sympy.Expr, arithmetic: Arithmetic = DOUBLE) -> Fraction:
    """The float nearest to an exact constant, as an exact fraction."""
    if value.is_Rational:
        return arithmetic.nearest(Fraction(int(value.p), int(value.q)))
    with flint.ctx.workprec(400):
        return arithmetic.nearest(float(enclose(value, {}, digits=60).mid()))


def constant_pair(builder: Builder, value: sympy.Expr, arithmetic: Arithmetic) -> Pair:
    """hi = the nearest float, lo = the float nearest to the rest."""
    hi = nearest_float(value, arithmetic)
    exact_hi = sympy.Rational(hi.numerator, hi.denominator)
    rest = value - exact_hi
    if rest == 0:
        return Pair(builder.constant(exact_hi), None)
    return Pair(builder.constant(exact_hi), builder.constant(rest))


def is_power_of_two(value: sympy.Expr | None) -> bool:
    """Whether an exact constant is ±2ᵏ; None is none."""
    if value is None or not value.is_Rational or value == 0:
        return False
    p, q = abs(int(value.p)), int(value.q)
    return p & (p - 1) == 0 and q & (q - 1) == 0


def _halves(b: Builder, place: int, arithmetic: Arithmetic) -> tuple[int, int]:
    """Two places of at most half the digits that sum to ``place``."""
    value = b.value_of(place)
    if value is not None:
        return _constant_halves(b, value)
    scaled = b.op("mul", b.constant(arithmetic.splitter), place)
    high = b.op("sub", scaled, b.op("sub", scaled, place))
    return high, b.op("sub", place, high)


def _constant_halves(b: Builder, value: sympy.Expr) -> tuple[int, int]:
    exact = float(Fraction(int(value.p), int(value.q)))
    scaled = DOUBLE.splitter * exact
    high = Fraction(scaled - (scaled - exact))
    low = Fraction(exact) - high
    return tuple(b.constant(sympy.Rational(h.numerator, h.denominator)) for h in (high, low))  # type: ignore[return-value]


def product(b: Builder, pair: Pair, factor: int, arithmetic: Arithmetic) -> Pair:
    """(hi + lo)·factor for an exact ``factor``."""
    hi = b.op("mul", pair.hi, factor)
    carried = None if pair.lo is None else b.op("mul", pair.lo, factor)
    if is_power_of_two(b.value_of(pair.hi)) or is_power_of_two(b.value_of(factor)):
        return Pair(hi, carried)
    error = b.op("fma", pair.hi, factor, b.op("neg", hi)) if arithmetic.fused else _error(b, pair.hi, factor, hi)
    return Pair(hi, error if carried is None else b.op("add", error, carried))


def _error(b: Builder, first: int, second: int, product: int) -> int:
    """first·second − product, where product is that rounded."""
    (p, q), (r, s) = (_halves(b, place, DOUBLE) for place in (first, second))
    error = b.op("sub", b.op("mul", p, r), product)
    error = b.op("add", error, b.op("add", b.op("mul", p, s), b.op("mul", q, r)))
    return b.op("add", error, b.op("mul", q, s))


def plus(b: Builder, pair: Pair, other: Pair) -> Pair:
    """The sum of two pairs of which the first need not be the larger (Knuth's two-sum)."""
    hi = b.op("add", pair.hi, other.hi)
    back = b.op("sub", hi, pair.hi)
    error = b.op("add", b.op("sub", pair.hi, b.op("sub", hi, back)), b.op("sub", other.hi, back))
    for lo in (pair.lo, other.lo):
        error = error if lo is None else b.op("add", error, lo)
    return Pair(hi, error)


def polynomial(b: Builder, terms: dict[int, sympy.Expr], a: int, arithmetic: Arithmetic) -> Pair:
    """Σ terms[degree]·a**degree (every degree at least 1) by Horner's rule, as a pair where errors matter."""
    compensate = arithmetic.compensated
    if arithmetic.lean and all(enclose(c, {}, digits=20) > 0 for c in terms.values()):
        return _positive_polynomial(b, terms, a, arithmetic)
    total: Pair | None = None
    degrees = sorted(terms, reverse=True)
    for degree, below in zip(degrees, [*degrees[1:], 0], strict=True):
        here = constant_pair(b, terms[degree], arithmetic) if compensate else Pair(b.constant(terms[degree]), None)
        if total is None:
            total = here
        else:
            total = plus(b, total, here) if compensate else Pair(b.op("add", total.hi, here.hi), None)
        powers = [a] * (degree - below) if arithmetic.digits == arithmetic.wanted else [b.power(a, degree - below)]
        for power in powers:  # with digits to spare a² may be rounded before it is multiplied
            total = product(b, total, power, arithmetic) if compensate else Pair(b.op("mul", total.hi, power), None)
    assert total is not None
    return total


def _positive_polynomial(b: Builder, terms: dict[int, sympy.Expr], a: int, arithmetic: Arithmetic) -> Pair:
    """The same for positive terms and a ≥ 0 in fewer steps: the last product before a sum and the sum are one.

    Of a coefficient c that is added the first 12 bits alone enter hi, so that c − hi is exact.
    """
    degrees = sorted(terms, reverse=True)
    total = constant_pair(b, terms[degrees[0]], arithmetic)
    for degree, below in zip(degrees, [*degrees[1:], 0], strict=True):
        for _ in range(degree - below - bool(below)):
            total = product(b, total, a, arithmetic)
        if below:
            short = _first_bits(nearest_float(terms[below], arithmetic), 12)
            start = b.constant(sympy.Rational(short.numerator, short.denominator))
            hi = b.op("fma", total.hi, a, start)
            lo = b.op("fma", total.hi, a, b.op("sub", start, hi))
            lo = b.op("add", lo, b.constant(terms[below] - b.value_of(start)))
            total = Pair(hi, lo if total.lo is None else b.op("fma", total.lo, a, lo))
    return total


def _first_bits(value: Fraction, count: int) -> Fraction:
    """A positive number cut off after so many bits."""
    unit = Fraction(2) ** (math.frexp(float(value))[1] - count)
    return value // unit * unit


def exp_of_minus(b: Builder, pair: Pair) -> int:
    """exp(−(hi + lo))."""
    return _with_rest(b, b.op("exp", b.op("neg", pair.hi)), pair)


def lifted_exp_of_minus(b: Builder, pair: Pair, arithmetic: Arithmetic) -> int:
    """2ᴸ·exp(−(hi + lo)), hi ≥ 0: normal where the exponential itself is not."""
    lift = b.constant(arithmetic.lift)
    return _with_rest(b, b.op("lifted_exp", b.op("neg", pair.hi), lift), pair)


@dataclass(frozen=True)
class Split:
    """2ᴸ·exp(−Q) as high·(1 + low), high a power of two: a product with it rounds once (:meth:`times`)."""

    both: int
    high: int
    low: int

    def times(self, b: Builder, factor: int, rest: int | None = None) -> int:
        """(factor + rest)·high·(1 + low): the product with a power of two is exact."""
        if b.value_of(factor) == 1:
            return b.op("split_value", self.both)
        if rest is not None:
            return b.op("mul", b.op("add", factor, b.op("fma", self.low, factor, rest)), self.high)
        scaled = b.op("mul", factor, self.high)
        return b.op("fma", self.low, scaled, scaled)

    def lowered(self, b: Builder, arithmetic: Arithmetic) -> Split:
        """Without 2ᴸ."""
        return Split(self.both, lowered(b, self.high, arithmetic), self.low)


def product_rest(b: Builder, place: int) -> int | None:
    """What a product misses by being rounded; None for one with a power of two, and another step."""
    node = b.nodes[place]
    if node.operation != "mul" or any(is_power_of_two(b.value_of(o)) for o in node.operands):
        return None
    return b.op("fma", *node.operands, b.op("neg", place))


def split_exp_of_minus(b: Builder, pair: Pair, arithmetic: Arithmetic) -> Split:
    """2ᴸ·exp(−(hi + lo)), hi ≥ 0, in two parts; beyond where it is gone, as there."""
    hi, lift = pair.hi, b.constant(arithmetic.lift)
    if reach(b.nodes, hi)[1] > arithmetic.gone + 4:
        hi = b.op("at_most", hi, b.constant(arithmetic.gone))
    both = b.op("split_decay", hi, lift) if pair.lo is None else b.op("split_rest_decay", hi, pair.lo, lift)
    return Split(both, b.op("split_high", both), b.op("split_low", both))


def lowered(b: Builder, place: int, arithmetic: Arithmetic) -> int:
    """A place times 2⁻ᴸ."""
    return b.op("mul", place, b.constant(sympy.Integer(2) ** -arithmetic.lift))


def _with_rest(b: Builder, e: int, pair: Pair) -> int:
    """e·exp(−lo)."""
    return e if pair.lo is None else b.op("sub", e, b.op("mul", e, pair.lo))
