"""From elements of the field of decaying quantities (:mod:`.decaying`) to steps of a program, in an order that is safe.

Factors stay factors; T − 1 becomes expm1, 1 − T·X the error function; sums run by Horner's rule from the decaying terms
to the lasting one; a is held at a value beyond which a decaying factor is 0 wherever one multiplies it (no 0·∞); and
results near the underflow limit are multiplied by the square root of their small factor twice, or by a power of two
last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce
from typing import Any

import flint
import sympy
from flint import arb
from sympy import Expr, Integer

from . import compensated
from .arithmetic import Arithmetic
from .decaying import Exponential, HalfLine, a, sign_of_all, terms_of
from .enclosures import ball_function, enclose, exact_value
from .erfcx_quotients import ErfcxQuotient, quotient
from .lowering import Builder, Lowering, Rest
from .ranges import Interval, reach
from .sign_changes import last_reach

#: Below this exponent exp(−Q) − 1 needs expm1; above, the exponential that is there anyway is small enough.
ALMOST_LOG_2 = sympy.Rational(45, 64)
#: Where steps count, a product of more roundings than this is multiplied by its exponential without another one.
MOST_ROUNDINGS = 5
#: Those of an elementary function.
_ROUNDINGS = {
    "split_decay": 0, "split_rest_decay": 0, "split_value": 1, "split_erfcx": 5, "erf_by_decay": 5, "log1p": 3,
    "sqrt": 1,
}  # fmt: skip


#: Below, 1 − T·erfcx(u) cancels.
NEAR_ERF = sympy.Rational(1, 2)
#: Relative errors of the quantities that a program is made of, in units of that of an exponential as a pair (2⁻⁵⁶).
UNIT_ERROR, FUNCTION_ERROR = 1, 4


@dataclass(frozen=True)
class Cancelling:
    """A factor in which terms of different signs are added, in a, and what it owes to quantities known but roughly."""

    factor: Expr
    #: g·∂factor/∂g for each of them, times the size of its error
    inexact: tuple[Expr, ...]
    #: whether it is computed so that little is lost even close to a zero; and so little that a is nowhere rounded
    sharp: bool = False
    exact: bool = False

    def loss(self, at: Fraction) -> float:
        """How much larger the relative error of the factor is than that of an exponential; ∞ at a zero of it."""
        with flint.ctx.workprec(200):
            total = sum((abs(ball_function(part, (a,))(exact_value(at))) for part in self.inexact), arb(0))
            bound = float((total / abs(ball_function(self.factor, (a,))(exact_value(at)))).abs_upper())
        return bound if bound == bound else float("inf")


class HalfLineLowering:
    """Lowers elements of a :class:`.HalfLine`; ``place`` holds a = |x|, or x itself where ``whole`` (polynomials).

    ``border`` is where the form in a hands over to the one in u = 1/a (only without exponentials); beyond every finite
    input, u is 0. ``suspicious`` collects the factors in which terms of different signs are added: where one is zero,
    the result is reached by cancellation.
    """

    def __init__(
        self,
        b: Builder,
        line: HalfLine,
        place: int,
        arithmetic: Arithmetic,
        *,
        border: Expr | None = None,
        whole: bool = False,
    ) -> None:
        self.b, self.line, self.arithmetic, self.place, self.whole = b, line, arithmetic, place, whole
        self.suspicious: list[Cancelling] = []
        #: denominators (their errors known) that another half-line shares, in place of this one's own
        self.totals: dict[Any, compensated.Pair] = {}
        #: whether what was lowered rounds so often that a polynomial at a root should reach far
        self.careful = False
        #: quotients of polynomials by which sums with a scaled error function were replaced
        self.quotients: list[ErfcxQuotient] = []
        #: steps that make up for the roundings before them, and what some steps miss by being rounded
        self._exact: set[int] = set()
        self._rests: dict[int, int] = {}
        self._care, self._wants_care = False, False
        #: between what some steps lie, where that is more than can be seen from them
        self._ranges: dict[int, Interval] = {}
        if line.far and arithmetic.inputs is not None and border == Integer(2) ** arithmetic.inputs:
            self.base = b.constant(0)  # only ∞ is there
        elif line.far:
            self.base = b.op("div", b.constant(1), b.op("at_least", place, b.constant(border or 1)))
        elif line.exponentials:
            self.base = b.op("at_most", place, b.constant(self._gone()))
        elif border is not None:
            self.base = b.op("at_most", place, b.constant(border))
        else:
            self.base = place
        self._pairs = [compensated.polynomial(b, t.terms, self.base, arithmetic) for t in line.exponentials]
        self._symbols, self._scale = line.generators, Integer(1)
        self._constants = {symbol: value for value, symbol in line.constants.items()}
        self._decaying = {t.symbol for t in line.exponentials}
        self._definitions = line.definitions()
        self._variable = [s for s in self._symbols if s not in self._constants]
        # Horner's rule is outermost in the decaying quantities, so that small terms are added to large ones.
        self._order = sorted(self._variable, key=lambda s: (s not in self._decaying, s == line.base))

    def _gone(self) -> Expr:
        """An a beyond which every T is 0."""
        return max((self._gone_of(t) for t in self.line.exponentials), default=Integer(1))

    def _gone_of(self, t: Exponential) -> Expr:
        if t.end is None:
            return _reach(t.terms, self.arithmetic.gone, whole=not self.arithmetic.lean)
        return t.end if t.end.is_finite else last_reach(t.terms, self.arithmetic.gone)

    def element(self, e: Any) -> int:
        """The place of an element of the field; where steps count, lowered again with care if it rounds too often."""
        before, self._care = len(self.suspicious), False
        place = self._element(e)
        if self._wants_care:
            del self.suspicious[before:]
            self.careful, self._care, self._wants_care = True, True, False
            place = self._element(e)
        return place

    def _element(self, e: Any) -> int:
        if e == 0:
            return self.b.constant(0)
        e = self._without_differences_of_roots(e)
        scale, above = self._factors(e.numer)
        below_scale, below = self._factors(e.denom)
        powers = self._decay_powers(above, below)
        over = self._over_erfcx(scale / below_scale, above, below, powers) if self.arithmetic.quotients else None
        if over is not None:
            return over
        held = bool(powers) or not self.line.exponentials
        sums = [(f, k) for f, k in above if len(f.terms()) > 1]
        merges = self.arithmetic.paired or self.arithmetic.lean
        if merges and len(sums) == 1 and sums[0][1] == 1 and self._is_plain_sum(sums[0][0]):
            tops, scale, below_scale = [self._scaled_sum(sums[0][0], scale / below_scale, held)], Integer(1), Integer(1)
        else:
            tops = [self.b.power(self.factor(f, held), k) for f, k in sums]
        singles = self._singles(above, held)
        if self.line.far:  # a·a·… instead of division by powers of 1/a, which is subnormal far out
            singles += [
                self.place for f, k in below for _ in range(k) if self._uses(f) == {self.line.base} and _single(f)
            ]
        corrected = [(f, k) for f, k in below if self._is_corrected(f, k)]
        if self.arithmetic.fused:
            below = [(f, k) for f, k in below if (f, k) not in corrected]
        falls = self.arithmetic.paired and self.line.far and bool(singles) and self.place not in singles
        lift = Integer(2) ** self.arithmetic.lift if falls else Integer(1)
        core = self._quotient(lift * scale / below_scale, tops, singles, self._bottoms(below, held))
        if core is not None and lift != 1:  # powers of 1/a: only the last product may be subnormal
            core = compensated.lowered(self.b, core, self.arithmetic)
        if self.arithmetic.lean:
            return self._corrected_last(core, corrected, held, powers)
        return self._times_decay(self._corrected(core, corrected, held), powers)

    def _over_erfcx(
        self, scale: Expr, above: list[tuple[Any, int]], below: list[Any], powers: Mapping[sympy.Symbol, int]
    ) -> int | None:
        """A product of T = exp(−u²) with erfcx(u), or a sum that holds it, as polynomials in a and T/Q; or None."""
        b, line = self.b, self.line
        holding = [(f, k) for f, k in above if self._uses(f) & set(line.scaled.values())]
        if below or len(holding) != 1 or holding[0][1] != 1:
            return None
        factor = holding[0][0]
        argument, symbol = next((u, known) for u, known in line.scaled.items() if known in self._uses(factor))
        decay = [t.symbol for t in line.exponentials if powers == {t.symbol: 1} and t.terms == terms_of(argument**2)]
        if not decay or not self._uses(factor) <= {symbol, line.base} or factor.degree(self._symbols.index(symbol)) > 1:
            return None
        gone = self._gone()
        found = quotient(argument / a, *self._sloped(factor, symbol, scale), Fraction(int(gone.p), int(gone.q)))
        if found is None:
            return None
        self.quotients.append(found)
        over = b.op("mul", self.generator(decay[0]), b.op("near_reciprocal", self._in_two_chains(found.below)))
        total = self._in_two_chains(found.above)
        if found.root is not None:
            total = b.op("mul", reduce(self._minus, map(self._number, found.root), self.base), total)
        others = [(f, k) for f, k in above if f != factor]
        places = [b.power(self.factor(f), k) for f, k in others if not _single(f)] + self._singles(others, True)
        return reduce(lambda p, q: b.op("mul", p, q), [total, *places, over])

    def _sloped(self, factor: Any, symbol: sympy.Symbol, scale: Expr) -> tuple[tuple[tuple[int, Expr], ...], ...]:
        """Coefficients by powers of a of what ``symbol`` multiplies in a factor, and of the rest."""
        index, ring = self._symbols.index(symbol), factor.ring
        parts = ([(m, c) for m, c in factor.terms() if m[index] == k] for k in (1, 0))
        degrees = (self._by_degree(ring.from_terms(part)) for part in parts)
        return tuple(tuple(sorted((d, scale * c) for d, c in part.items())) for part in degrees)

    def _in_two_chains(self, coefficients: Sequence[Fraction]) -> int:
        """A polynomial in a, even and odd powers beside one another."""
        b, square = self.b, self.b.op("mul", self.base, self.base)
        even, odd = (dict(enumerate(map(self._number, coefficients[k::2]))) for k in (0, 1))
        total = self._horner_places(even, square)
        return b.op("add", b.op("mul", self._horner_places(odd, square), self.base), total) if odd else total

    def _number(self, value: Fraction) -> int:
        return self.b.constant(sympy.Rational(value.numerator, value.denominator))

    def _is_plain_sum(self, factor: Any) -> bool:
        """Whether a factor is computed term by term, so that a scale can go into its coefficients."""
        return self._one_minus_parts(factor) is None and self._split(factor) is None

    def _scaled_sum(self, factor: Any, scale: Expr, held: bool) -> int:
        self._scale = scale
        place = self._sum(factor, held)
        self._scale = Integer(1)
        return place

    def _sum(self, factor: Any, held: bool) -> int:
        """A factor term by term."""
        mixed = self._mixed_signs(factor)
        place = self._sharp_sum(factor, held) if mixed and self.arithmetic.lean else None
        if mixed:
            self.suspicious.append(
                replace(self._cancelling(factor), sharp=place is not None, exact=self._is_whole(factor))
            )
        if place is None and self._care:
            place = self._sum_with_rest(factor.terms(), held)
        return self._nested(factor.terms(), 0, held) if place is None else place

    def _sharp_sum(self, factor: Any, held: bool) -> int | None:
        """c·T + p(a), c = ±2ᵏ, as (p(a) + c·s) + c·s·low of T = s·(1 + low); None for another form.

        Where the terms cancel, the sum in brackets is nearly exact, and T is known to more digits than a float has.
        """
        b, decays = self.b, [self._symbols.index(s) for s in self._decaying]
        decaying = [t for t in factor.terms() if any(t[0][i] for i in decays)]
        others = [t for t in factor.terms() if t not in decaying]
        if len(decaying) != 1 or any(set(self._variables_of(t)) - {self.line.base} for t in others):
            return None
        (symbol, *more), coefficient = self._variables_of(decaying[0]), self._scale * self._constant_of(decaying)
        if more or symbol not in self._decaying or not compensated.is_power_of_two(coefficient):
            return None
        split = self._split_decay(symbol).lowered(b, self.arithmetic)
        high = b.op("mul", b.constant(coefficient), split.high)
        rest = self._ascending(others, self.generator(self.line.base, held))
        before = b.op("add", rest, high)
        if self._is_whole(factor):
            self._exact.add(before)
        return b.op("fma", split.low, high, before)

    def _is_whole(self, factor: Any) -> bool:
        """Whether a has no power in a sum, and only a factor ±2ᵏ."""
        of_base = [t for t in factor.terms() if self.line.base in self._variables_of(t)]
        scales = [self._scale * self._constant_of([t]) for t in of_base]
        return all(len(self._variables_of(t)) == 1 for t in of_base) and all(map(compensated.is_power_of_two, scales))

    def _variables_of(self, term: Any) -> list[sympy.Symbol]:
        """The generators of a term, once for each power."""
        counts = zip(self._symbols, term[0], strict=True)
        return [s for s, p in counts for _ in range(p) if s not in self._constants]

    def _ascending(self, terms: list[Any], place: int) -> int:
        """Σ terms from the constant on, the linear one as a pair: next to a zero what is rounded is small."""
        b, total = self.b, self.b.constant(0)
        grouped: dict[int, list[Any]] = {}
        for term in terms:
            grouped.setdefault(len(self._variables_of(term)), []).append(term)
        for degree in sorted(grouped):
            coefficient = self._scale * self._constant_of(grouped[degree])
            if degree == 1:
                operation = "add" if enclose(coefficient, {}, digits=20) > 0 else "sub"
                pair = compensated.constant_pair(b, abs(coefficient), self.arithmetic)
                pair = compensated.product(b, pair, place, self.arithmetic)
                total = b.op(operation, total, pair.hi)
                total = total if pair.lo is None else b.op(operation, total, pair.lo)
            else:
                product = reduce(lambda p, q: b.op("mul", p, q), [place] * degree, b.constant(coefficient))
                total = b.op("add", total, product)
        return total

    def _pair_of(self, symbol: sympy.Symbol) -> compensated.Pair:
        """Q of T = exp(−Q)."""
        return next(p for t, p in zip(self.line.exponentials, self._pairs, strict=True) if t.symbol == symbol)

    def _split_decay(self, symbol: sympy.Symbol) -> compensated.Split:
        """2ᴸ·T in two parts."""
        return compensated.split_exp_of_minus(self.b, self._pair_of(symbol), self.arithmetic)

    def _sum_with_rest(self, terms: list[Any], held: bool) -> int | None:
        """p + a·q with what this sum and that of q miss; None where q decays: Horner's rule loses less there."""
        b, index = self.b, self._symbols.index(self.line.base)
        decaying = [self._symbols.index(s) for s in self._decaying]
        p = [t for t in terms if not t[0][index]]
        q = [((*m[:index], m[index] - 1, *m[index + 1 :]), c) for m, c in terms if m[index]]
        if not p or not q or not held or any(m[i] for m, _ in q for i in decaying):
            return None
        factor, start, slope = self.generator(self.line.base), self._nested(p, 0, held), self._sum_with_rest(q, True)
        slope = self._nested(q, 0, True) if slope is None else slope
        place = b.op("fma", factor, slope, start)
        rest = b.op("fma", factor, slope, b.op("sub", start, place))
        for known, times in ((self._rest(start), None), (self._rest(slope), factor)):
            if known is not None:
                rest = b.op("add", rest, known) if times is None else b.op("fma", known, times, rest)
        self._rests[place] = rest
        return place

    def _rest(self, place: int) -> int | None:
        """What a step misses by being rounded, as far as it is known: of products, and of some sums."""
        b, node = self.b, self.b.nodes[place]
        if node.operation == "constant":
            near = compensated.nearest_float(node.leaf, self.arithmetic)
            near = sympy.Rational(near.numerator, near.denominator)
            return None if near == node.leaf else b.constant(Rest(node.leaf, near))
        if place in self._rests or node.operation != "mul":
            return self._rests.get(place)
        total = compensated.product_rest(b, place)
        for factor, other in (node.operands, node.operands[::-1]):
            rest = self._rest(factor)
            if rest is not None:
                total = b.op("mul", rest, other) if total is None else b.op("fma", rest, other, total)
        return total

    def corrected(self, e: Any) -> list[tuple[Any, compensated.Pair]]:
        """The denominators of an element whose rounding errors are taken back, and their places."""
        above, below = (self._factors(part)[1] for part in (e.numer, e.denom))
        held = bool(self._decay_powers(above, below)) or not self.line.exponentials
        return [(f, self._with_error(f, held)) for f, k in below if self._is_corrected(f, k)]

    def _is_corrected(self, factor: Any, k: int) -> bool:
        """Whether a denominator's rounding error counts more than once and can be known."""
        lean = self.arithmetic.lean
        if k < 2 - lean or not self.arithmetic.compensated or _single(factor):
            return False
        if not self.line.exponentials and (self.line.far or not lean):
            return False
        return any(not any(t[0]) for t in factor.terms())

    def _corrected(self, core: int | None, below: list[tuple[Any, int]], held: bool) -> int | None:
        """core·(1 − k·lo/hi) for each denominator (hi + lo)ᵏ, k ≥ 2, whose rounding error lo would count k times."""
        b = self.b
        for factor, k in below:
            if core is None and not self.arithmetic.fused:
                continue
            total = self._with_error(factor, held)
            assert total.lo is not None
            if self.arithmetic.fused:
                power = self._inverse_power(total, k)
                core = power if core is None else b.op("mul", core, power)
            else:
                assert core is not None
                share = b.op("div", b.op("mul", b.constant(k), total.lo), total.hi)
                core = b.op("sub", core, b.op("mul", core, share))
        return core

    def _with_error(self, factor: Any, held: bool) -> compensated.Pair:
        """The sum of a factor's constant and its other terms, and the rounding error of that sum."""
        b = self.b
        if factor in self.totals:
            return self.totals[factor]
        constant = self._constant_of([t for t in factor.terms() if not any(t[0])])
        terms = [t for t in factor.terms() if any(t[0])]
        rest = self._nested(terms, 0, held)
        if self.arithmetic.lean and constant.is_Integer and b.nodes[rest].operation == "mul":
            factors = b.nodes[rest].operands  # c − hi is exact: the larger one is a multiple of the other's last digit
            hi = b.op("fma", *factors, b.constant(constant))
            return compensated.Pair(hi, b.op("fma", *factors, b.op("sub", b.constant(constant), hi)))
        if self.arithmetic.fused and self._is_below(terms, abs(constant)):
            hi = b.op("add", rest, b.constant(constant))
            return compensated.Pair(hi, b.op("sub", rest, b.op("sub", hi, b.constant(constant))))
        return compensated.plus(b, compensated.Pair(rest, None), compensated.Pair(b.constant(constant), None))

    def _is_below(self, terms: list[Any], bound: Expr) -> bool:
        """Whether these terms add up to less than ``bound`` because their decaying quantities are at most 1."""
        used = {self._symbols[i] for m, _ in terms for i, p in enumerate(m) if p}
        if not used <= self._decaying | set(self._constants):
            return False
        return enclose(sum((abs(self._constant_of([t])) for t in terms), Integer(0)) - bound, {}, digits=20) <= 0

    def _inverse_power(self, total: compensated.Pair, k: int) -> int:
        """(hi + lo)⁻ᵏ by one division: r = 1/hi, ρ = 1 − r(hi + lo), rᵏ + kρ·rᵏ."""
        b = self.b
        assert total.lo is not None
        inverse = b.op("div", b.constant(1), total.hi)
        minus = b.op("neg", inverse)
        error = b.op("fma", minus, total.lo, b.op("fma", minus, total.hi, b.constant(1)))
        power = b.power(inverse, k)
        return b.op("fma", power, b.op("mul", b.constant(k), error), power)

    def _without_differences_of_roots(self, e: Any) -> Any:
        """p·S + q with terms of different signs, S a square root, becomes (p²S² − q²)/(p·S − q)."""
        line = self.line
        for radicand, symbol in line.roots.items():
            root = line.element_of[symbol]
            for factor, k in e.numer.factor_list()[1]:
                if len(factor.terms()) > 1 and factor.degree(root.numer) == 1 and self._mixed_signs(factor):
                    whole = line.field.new(factor, factor.ring.one)
                    rest = line.field.new(factor.rem([root.numer]), factor.ring.one)
                    slope = (whole - rest) / root
                    conjugate = slope * root - rest
                    square = slope**2 * line.radicand(radicand) - rest**2
                    e = e / whole**k * (square / conjugate) ** k
        return e

    def _bottoms(self, below: list[tuple[Any, int]], held: bool) -> list[int]:
        """Places to divide by; powers of square roots as powers of what is under the root."""
        places = []
        for factor, k in below:
            used = self._uses(factor)
            if _single(factor) and (used <= self._decaying or (self.line.far and used == {self.line.base})):
                continue
            if _single(factor) and used <= set(self.line.roots.values()):
                places += self._root_powers(next(iter(used)), k)
            else:
                places.append(self.b.power(self.factor(factor, held), k))
        return places

    def _root_powers(self, symbol: sympy.Symbol, k: int) -> list[int]:
        radicand = next(r for r, known in self.line.roots.items() if known == symbol)
        under = self._horner(self.line.radicand_terms(radicand), self.base)
        return [self.b.power(under, k // 2)] * (k > 1) + [self.generator(symbol)] * (k % 2)

    def _factors(self, polynomial: Any) -> tuple[Expr, list[tuple[Any, int]]]:
        """(constant, [(factor, multiplicity)])."""
        content, factors = polynomial.factor_list()
        scale = sympy.Rational(int(content.numerator), int(content.denominator))
        kept = []
        for factor, k in factors:
            if self._uses(factor):
                kept.append((factor, k))
                scale *= self._leading(factor) ** k
            else:
                scale *= self._constant_of(factor.terms()) ** k
        return scale, kept

    def _uses(self, factor: Any) -> set[sympy.Symbol]:
        used = {self._symbols[i] for m in factor.monoms() for i, p in enumerate(m) if p}
        return used - set(self._constants)

    def _constant_of(self, terms: Iterable[tuple[tuple[int, ...], Any]]) -> Expr:
        """The exact constant that some terms add up to, all variable exponents being left out."""
        total = Integer(0)
        for monomial, coefficient in terms:
            value = sympy.Rational(int(coefficient.numerator), int(coefficient.denominator))
            for symbol, p in zip(self._symbols, monomial, strict=True):
                if p and symbol in self._constants:
                    value *= self._constants[symbol] ** p
            total += value
        return total

    def _decay_powers(self, above: list[tuple[Any, int]], below: list[tuple[Any, int]]) -> dict[sympy.Symbol, int]:
        """T -> k for the factors Tᵏ; negative where the function grows."""
        single = {
            next(iter(self._uses(f))): k * s for part, s in ((above, 1), (below, -1)) for f, k in part if _single(f)
        }
        return {symbol: k for symbol, k in single.items() if symbol in self._decaying}

    def _singles(self, above: list[tuple[Any, int]], held: bool) -> list[int]:
        """Places of the factors that are one generator, once for each power; T's are left out."""
        singles: list[int] = []
        for factor, k in above:
            if _single(factor):
                (symbol,) = self._uses(factor)
                if symbol not in self._decaying:
                    singles += [self.generator(symbol, held)] * k
        return singles

    def _quotient(self, scale: Expr, tops: list[int], singles: list[int], below: list[int]) -> int | None:
        """scale·tops/below·singles, in the order that neither overflows nor underflows early; None for 1."""
        b = self.b
        if self.arithmetic.lean and self.whole and not tops and not below and len(singles) == 1:
            return self._scaled(scale, singles[0])
        if not tops and singles and scale in (1, -1):
            first, *singles = singles
            tops = [first if scale == 1 else b.op("neg", first)]
            scale = Integer(1)
        total = reduce(lambda p, q: b.op("mul", p, q), tops) if tops else None
        divisor = scale.q if scale.is_Rational and abs(scale.p) == 1 and total is not None else 1
        factor = scale * divisor
        if total is None:
            total = b.constant(factor) if factor != 1 or below or singles else None
        elif factor != 1:
            total = b.op("mul", b.constant(factor), total)
        for place in below:
            assert total is not None
            total = b.op("div", total, place)
        if divisor != 1:
            assert total is not None
            total = b.op("div", total, b.constant(divisor))
        for place in singles:
            assert total is not None
            total = b.op("mul", total, place)
        return total

    def _scaled(self, scale: Expr, place: int) -> int:
        """scale·v rounded once, so that it overflows where it must: both parts of the constant have its sign."""
        b = self.b
        near = compensated.nearest_float(scale, self.arithmetic)
        if abs(near) > abs(scale):
            near = self.arithmetic.nearest(near * (1 - Fraction(1, 2**self.arithmetic.digits)))
        hi = sympy.Rational(near.numerator, near.denominator)
        if hi == scale:
            return b.op("mul", b.constant(scale), place)
        return b.op("fma", b.constant(hi), place, b.op("mul", b.constant(scale - hi), place))

    def _times_decay(self, core: int | None, powers: Mapping[sympy.Symbol, int]) -> int:
        b = self.b
        total = core
        for symbol, k in powers.items():
            decay = b.power(self.generator(symbol), k) if k > 0 else self._exp_of(symbol, Integer(k))
            total = decay if total is None else b.op("mul", total, decay)
        if total is None:
            return b.constant(1)
        if self.arithmetic.paired and len(powers) == 1 and min(powers.values()) > 0:
            return self._lowered_last(core, *next(iter(powers.items())))
        if (self.arithmetic.compensated or self.arithmetic.paired) and core is not None and len(powers) == 1:
            return self._with_tail(total, core, *next(iter(powers.items())))
        return total

    def _lowered_last(self, core: int | None, symbol: sympy.Symbol, k: int) -> int:
        """core·Tᵏ⁻¹·(2ᴸT)·2⁻ᴸ: normal up to the last product, and of one exponential."""
        b = self.b
        pair = self._pair_of(symbol)
        total = compensated.lifted_exp_of_minus(b, pair, self.arithmetic)
        for factor in (core, b.power(self.generator(symbol), k - 1) if k > 1 else None):
            total = total if factor is None else b.op("mul", factor, total)
        return compensated.lowered(b, total, self.arithmetic)

    def _corrected_last(
        self, core: int | None, below: list[tuple[Any, int]], held: bool, powers: Mapping[sympy.Symbol, int]
    ) -> int:
        """core·Π D⁻ᵏ·Tᵏ; one 1/D is multiplied by T first, which outputs share."""
        b = self.b
        decays, shared = len(powers) == 1 and min(powers.values()) > 0, None
        for factor, k in below:
            inverse, error, close = self._inverse(factor, k, held)
            self._exact.add(inverse)
            missed = k if k > 1 or not close else 0  # ρ's that are made up for
            if decays and shared is None and (close or not self._care):
                shared, k = inverse, k - 1
                if not close:
                    shared, missed = self._power_with_error(inverse, 1, error), missed - 1
            if k:
                power = self._power_with_error(inverse, k, b.op("mul", b.constant(missed), error) if missed else None)
                core = power if core is None else b.op("mul", core, power)
        if core is not None and not self._care:
            self._wants_care = roundings(b, core, self._exact) + 2 * (shared is not None) > MOST_ROUNDINGS
        bounded = core is not None and self._largest(core) < math.inf  # ∞·0 would be no number
        rest = self._rest(core) if core is not None and self._care and bounded else None
        if decays:
            return self._split_last(core, shared, rest, *next(iter(powers.items())))
        if core is not None and rest is not None:
            core = b.op("add", core, rest)
        return self._times_decay(core, powers)

    def _power_with_error(self, inverse: int, k: int, error: int | None) -> int:
        """rᵏ(1 + error); with care what is added is kept apart."""
        b, power = self.b, self.b.power(inverse, k)
        if error is None:
            return power
        if self._care and k > 1:
            self._rests.pop(power, None)
            rest = self._rest(power)
            assert rest is not None
            self._rests[power] = b.op("fma", power, error, rest)
            return power
        self._exact.add(error)  # small beside 1, whatever it is rounded
        return b.op("fma", power, error, power)

    def _inverse(self, factor: Any, k: int, held: bool) -> tuple[int, int, bool]:
        """r = 1/D rounded, of which k are multiplied; ρ = 1 − rD: 1/D is r(1 + ρ); and whether D is 1 + T, of which
        little is lost."""
        b = self.b
        constant = self._constant_of([t for t in factor.terms() if not any(t[0])])
        terms = [t for t in factor.terms() if any(t[0])]
        bounded = factor not in self.totals and constant == 1 and self._is_below(terms, constant)
        if bounded and sign_of_all(self._constant_of([t]) for t in terms) == 1:
            rest = self._nested(terms, 0, held)
            inverse = b.op("div", b.constant(1), b.op("add", b.constant(1), rest))
            start = b.op("sub", b.constant(1), inverse)  # exact for D between 1 and 2
            if k > 2 and (symbols := self._variables_of(terms[0])) == symbols[:1] and len(terms) == 1:
                split = self._split_decay(symbols[0]).lowered(b, self.arithmetic)  # T's own rounding counts k times
                share = b.op("mul", b.op("neg", inverse), split.high)
                return inverse, b.op("fma", share, split.low, b.op("add", start, share)), True
        else:
            total = self._with_error(factor, held)
            assert total.lo is not None
            rest, inverse, bounded = total.lo, b.op("div", b.constant(1), total.hi), False
            start = b.op("fma", b.op("neg", inverse), total.hi, b.constant(1))
        return inverse, b.op("fma", b.op("neg", inverse), rest, start), bounded

    def _split_last(self, core: int | None, shared: int | None, rest: int | None, symbol: sympy.Symbol, k: int) -> int:
        """(core + rest)·(shared·2ᴸTᵏ)·2⁻ᴸ, one rounding before the last product; else core·Tᵏ."""
        b, arithmetic = self.b, self.arithmetic
        split = compensated.split_exp_of_minus(b, self._exponent(symbol, Integer(k)), arithmetic)

        def total(split: compensated.Split) -> int:
            if shared is None:
                return split.times(b, b.constant(1) if core is None else core, rest)
            decay = split.times(b, shared)
            if core is None:
                return decay
            return b.op("mul", core, decay) if rest is None else b.op("fma", core, decay, b.op("mul", rest, decay))

        tail = compensated.lowered(b, total(split), arithmetic)
        if core is None or self._largest(core) < Integer(2) ** (arithmetic.range[1] - arithmetic.lift - 2):
            return tail
        whole = total(split.lowered(b, arithmetic))
        terms = next(t.terms for t in self.line.exponentials if t.symbol == symbol)
        border = _reach({d: abs(c) for d, c in terms.items()}, sympy.Rational(arithmetic.near_underflow, k))
        return b.op("select", b.op("lt", b.constant(border), self.base), tail, whole)

    def _largest(self, place: int) -> float:
        """What a step's results do not exceed."""
        return max(map(abs, reach(self.b.nodes, place, self._ranges)))

    def _exp_of(self, symbol: sympy.Symbol, k: Expr) -> int:
        """exp(−kQ), the power Tᵏ computed as an exponential of its own."""
        return compensated.exp_of_minus(self.b, self._exponent(symbol, k))

    def _exponent(self, symbol: sympy.Symbol, k: Expr) -> compensated.Pair:
        """kQ."""
        b = self.b
        pair = self._pair_of(symbol)
        factor = b.constant(k)
        if self.arithmetic.lean:
            return compensated.product(b, pair, factor, self.arithmetic)
        lo = None if pair.lo is None else b.op("mul", pair.lo, factor)
        return compensated.Pair(b.op("mul", pair.hi, factor), lo)

    def _with_tail(self, total: int, core: int, symbol: sympy.Symbol, k: int) -> int:
        """Where Tᵏ nears under- or overflow: core·e·e with e = exp(−kQ/2), or core·(2ᴸTᵏ)·2⁻ᴸ; only the last product
        leaves the range."""
        b, arithmetic = self.b, self.arithmetic
        terms = next(t.terms for t in self.line.exponentials if t.symbol == symbol)
        terms = {d: abs(c) for d, c in terms.items()}  # at that border at the latest: either holds well before
        border = b.constant(_reach(terms, sympy.Rational(arithmetic.near_underflow, abs(k))))
        if arithmetic.fused and k > 0:
            lifted = compensated.lifted_exp_of_minus(b, self._exponent(symbol, Integer(k)), arithmetic)
            tail = compensated.lowered(b, b.op("mul", core, lifted), arithmetic)
        else:
            e = self._exp_of(symbol, sympy.Rational(k, 2))
            tail = b.op("mul", b.op("mul", core, e), e)
        return b.op("select", b.op("lt", border, self.base), tail, total)

    # ------------------------------------------------------------------------------------------------------- generators

    def generator(self, symbol: sympy.Symbol, held: bool = True) -> int:
        """The place of a generator; ``held``: something decaying multiplies it, so a stops at its limit."""
        b, line = self.b, self.line
        if symbol == line.base:
            return self.base if held else self.place
        for t, pair in zip(line.exponentials, self._pairs, strict=True):
            if t.symbol == symbol and self.arithmetic.lean:
                split = self._split_decay(symbol).lowered(b, self.arithmetic)
                decay = b.op("fma", split.low, split.high, split.high)
                self._ranges[decay] = (0.0, 1.0)
                return decay
            if t.symbol == symbol and self.arithmetic.fused:
                return compensated.lowered(
                    b, compensated.lifted_exp_of_minus(b, pair, self.arithmetic), self.arithmetic
                )
            if t.symbol == symbol:
                return compensated.exp_of_minus(b, pair)
        for argument, known in line.scaled.items():
            if known == symbol and self.arithmetic.lean:
                both = b.op("split_erfcx", self._in_a(argument))
                value = b.op("split_high", both)
                if not self._care:
                    return value
                self._rests[value] = b.op("split_low", both)
                return value
            if known == symbol:
                return b.op("erfcx", self._in_a(argument))
        if symbol in line.increments:
            return self._log1p(self.element(line.increments[symbol]), symbol)
        for radicand, known in line.roots.items():
            if known == symbol:
                return b.op("sqrt", self._horner(line.radicand_terms(radicand), self.base))
        atom = next(e for e, known in line.atoms.items() if known == symbol)
        return self._in_a(atom, clamp=held and bool(line.exponentials))

    def _log1p(self, v: int, symbol: sympy.Symbol) -> int:
        """log(1 + v); where the target counts every rounding, v itself below 2⁻⁹⁰, so that only one is subnormal."""
        b = self.b
        whole = b.op("log1p", v)
        if not self.arithmetic.paired:
            return whole
        size = v if self._positive_log(symbol) else b.op("abs", v)
        return b.op("select", b.op("lt", size, b.constant(sympy.Integer(2) ** -90)), v, whole)

    def _in_a(self, e: Expr, clamp: bool = True) -> int:
        lowering = Lowering(self.b, ())
        lowering.symbols[a] = self.base if clamp and not self.line.far else self.place
        return lowering.lower(e)

    # ---------------------------------------------------------------------------------------------------------- factors

    def factor(self, factor: Any, held: bool = True) -> int:
        """The place of an irreducible polynomial with several terms."""
        special = self._one_minus(factor)
        if special is not None:
            return special
        split = self._split(factor)
        if split is not None:
            return self._product_of_differences(split[1], held)
        return self._sum(factor, held)

    def _one_minus_parts(self, factor: Any) -> tuple[dict[sympy.Symbol, int], Any] | None:
        """(the powers, the sign) of a factor ±(monomial − 1)."""
        terms = dict(factor.terms())
        constant = terms.pop((0,) * len(self._symbols), None)
        if constant is None or len(terms) != 1:
            return None
        ((monomial, coefficient),) = terms.items()
        if coefficient != -constant or abs(constant) != 1:
            return None
        return {self._symbols[i]: p for i, p in enumerate(monomial) if p}, coefficient

    def _one_minus(self, factor: Any) -> int | None:
        """T − 1 as expm1(−Q), and T·X − 1 as −erf(u), with whatever sign."""
        parts = self._one_minus_parts(factor)
        if parts is None:
            return None
        powers, coefficient = parts
        place = self._expm1(powers) if len(powers) == 1 else self._minus_erf(powers)
        if place is None or coefficient == 1:
            return place
        return self.b.op("neg", place)

    def _expm1(self, powers: Mapping[sympy.Symbol, int]) -> int | None:
        for t, pair in zip(self.line.exponentials, self._pairs, strict=True):
            if powers == {t.symbol: 1}:
                b = self.b
                if self.arithmetic.lean:
                    split = self._split_decay(t.symbol).lowered(b, self.arithmetic)
                    return b.op("fma", split.low, split.high, b.op("sub", split.high, b.constant(1)))
                if self.arithmetic.fused:
                    return self._shifted_expm1(b.op("decaying_expm1", b.op("neg", pair.hi)), pair)
                small = self._shifted_expm1(b.op("expm1", b.op("neg", pair.hi)), pair)
                large = b.op("sub", self.generator(t.symbol), b.constant(1))  # T ≤ ½: nothing cancels
                return b.op("select", b.op("lt", pair.hi, b.constant(ALMOST_LOG_2)), small, large)
        return None

    def _shifted_expm1(self, difference: int, pair: compensated.Pair) -> int:
        """expm1(−hi − lo) = m − lo·(1 + m), m = expm1(−hi): lo is there where Q's coefficients are no floats (x/3)."""
        b = self.b
        if pair.lo is None:
            return difference
        return b.op("sub", difference, b.op("mul", pair.lo, b.op("add", difference, b.constant(1))))

    def _minus_erf(self, powers: Mapping[sympy.Symbol, int]) -> int | None:
        for argument, symbol in self.line.scaled.items():
            for t in self.line.exponentials:
                if powers == {symbol: 1, t.symbol: 1} and terms_of(argument**2) == t.terms:
                    return self.b.op("neg", self._erf(argument, t.symbol, symbol))
        return None

    def _erf(self, argument: Expr, decay: sympy.Symbol, scaled: sympy.Symbol) -> int:
        """erf(u); in pairs, and where steps count, by T = exp(−u²), which derivatives need too."""
        b, u = self.b, self._in_a(argument)
        if self.arithmetic.lean:
            return b.op("erf_by_decay", u, self._split_decay(decay).both)
        if not self.arithmetic.paired:
            return b.op("erf", u)
        half = b.constant(NEAR_ERF)
        far = b.op("sub", b.constant(1), b.op("mul", self.generator(decay), self.generator(scaled)))
        return b.op("select", b.op("lt", u, half), b.op("erf", b.op("within", u, half)), far)

    def _by_degree(self, factor: Any) -> dict[int, Expr]:
        index = self._symbols.index(self.line.base)
        grouped: dict[int, list[Any]] = {}
        for monomial, coefficient in factor.terms():
            grouped.setdefault(monomial[index], []).append((monomial, coefficient))
        return {degree: self._constant_of(terms) for degree, terms in grouped.items()}

    def _split(self, factor: Any) -> tuple[Expr, list[Expr]] | None:
        """(leading coefficient, real roots) of a polynomial in a alone of degree 1 or 2 that has zeros in reach."""
        if _single(factor) or self._uses(factor) != {self.line.base}:
            return None
        terms = self._by_degree(factor)
        if max(terms) > 2 or not all(c.is_Rational for c in terms.values()):
            return None
        if sign_of_all(terms.values()) and not self.whole:
            return None  # no zero on the half-line
        roots = _real_roots(tuple(sorted(terms.items())))
        return None if len(roots) != max(terms) else (terms[max(terms)], roots)

    def _leading(self, factor: Any) -> Expr:
        """The constant that is taken out of a factor written through its roots."""
        split = self._split(factor)
        return split[0] if split else Integer(1)

    def _product_of_differences(self, roots: list[Expr], held: bool) -> int:
        base = self.base if held else self.place
        return reduce(lambda p, q: self.b.op("mul", p, q), (self._difference(base, root) for root in roots))

    def _difference(self, place: int, root: Expr) -> int:
        """place − root, with the root to twice the format's digits."""
        pair = compensated.Pair(self.b.constant(root), None)
        if self.arithmetic.compensated:
            pair = compensated.constant_pair(self.b, root, self.arithmetic)
        difference = self._minus(place, pair.hi)
        return difference if pair.lo is None else self._minus(difference, pair.lo)

    def _minus(self, place: int, constant: int) -> int:
        value = self.b.value_of(constant)
        if value is not None and value.is_negative:
            return self.b.op("add", place, self.b.constant(-value))
        return self.b.op("sub", place, constant)

    def _mixed_signs(self, factor: Any) -> bool:
        unknown = set(self.line.atoms.values()) | {s for s in self.line.logs.values() if not self._positive_log(s)}
        if self._uses(factor) & unknown or self.whole:
            return True
        return not sign_of_all(self._constant_of([term]) for term in factor.terms())

    def _positive_log(self, symbol: sympy.Symbol) -> bool:
        increment = self.line.increments[symbol]
        return all(
            sign_of_all(self._constant_of([t]) for t in part.terms()) == 1
            for part in (increment.numer, increment.denom)
        )

    def _cancelling(self, factor: Any) -> Cancelling:
        expression, inexact = factor.as_expr(), []
        for symbol in sorted(self._uses(factor) - {self.line.base}, key=str):
            error = UNIT_ERROR if symbol in self._decaying else FUNCTION_ERROR
            inexact.append((error * symbol * sympy.diff(expression, symbol)).xreplace(self._definitions))
        return Cancelling(expression.xreplace(self._definitions), tuple(inexact))

    def _nested(
        self, terms: list[tuple[tuple[int, ...], Any]], level: int, held: bool, order: list[sympy.Symbol] | None = None
    ) -> int:
        """Horner's rule in one generator after another."""
        if order is None:
            order, held = self._order_of(terms, held)
        if level == len(order):
            return self.b.constant(self._scale * self._constant_of(terms))
        symbol = order[level]
        index = self._symbols.index(symbol)
        grouped: dict[int, list[Any]] = {}
        for monomial, coefficient in terms:
            grouped.setdefault(monomial[index], []).append((monomial, coefficient))
        inside = held or symbol in self._decaying
        parts = {
            degree: self._nested(part, level + 1, inside if degree else held, order) for degree, part in grouped.items()
        }
        if set(parts) == {0}:
            return parts[0]
        return self._horner_places(parts, self.generator(symbol, held))

    def _order_of(self, terms: list[tuple[tuple[int, ...], Any]], held: bool) -> tuple[list[sympy.Symbol], bool]:
        """The generators, outermost first, and whether a is held.

        Pairs lose nothing in any order; there a is outermost if each power of it has a decaying quantity, or none has
        one, so that the rest are sums which others share (1 + T + aT as (1 + T) + a·T, 1 + T − a as (1 + T) − a).
        """
        if not self.arithmetic.paired or self.line.base not in self._variable:
            return self._order, held
        decaying = [self._symbols.index(s) for s in self._decaying]
        base = self._symbols.index(self.line.base)
        growing = [any(m[i] for i in decaying) for m, _ in terms if m[base]]
        if not growing or any(growing) != all(growing):
            return self._order, held
        return [self.line.base, *(s for s in self._order if s != self.line.base)], held or all(growing)

    def _horner_places(self, parts: Mapping[int, int], place: int) -> int:
        b = self.b
        degrees = sorted(parts, reverse=True)
        total = parts[degrees[0]]
        for degree, below in zip(degrees, [*degrees[1:], 0], strict=True):
            if degree != degrees[0]:
                total = self._plus(total, parts[degree])
            if degree > below:
                total = b.op("mul", total, b.power(place, degree - below))
        return self._plus(total, parts[0]) if 0 in parts and degrees[-1] != 0 else total

    def _plus(self, total: int, part: int) -> int:
        value = self.b.value_of(part)
        if value is not None and value.is_negative:
            return self.b.op("sub", total, self.b.constant(-value))
        return self.b.op("add", total, part)

    def _horner(self, terms: Mapping[int, Expr], place: int) -> int:
        return self._horner_places({d: self.b.constant(c) for d, c in terms.items()}, place)


def roundings(b: Builder, place: int, exact: AbstractSet[int] = frozenset()) -> int:
    """How many roundings, about, the relative error of a step adds up: of a sum, those of its worst term."""
    if place in exact:
        return 0
    node = b.nodes[place]
    counts = [roundings(b, o, exact) for o in node.operands]
    match node.operation:
        case "mul" if any(compensated.is_power_of_two(b.value_of(o)) for o in node.operands):
            return sum(counts)
        case "mul" | "div":
            return sum(counts) + 1
        case "add" | "sub":
            return max(counts) + 1
        case "fma":
            return max(counts[0] + counts[1], counts[2]) + 1
    return _ROUNDINGS.get(node.operation, max(counts, default=0))


@lru_cache(maxsize=256)
def _real_roots(terms: tuple[tuple[int, Expr], ...]) -> list[Expr]:
    """The real roots of a rational polynomial of degree 1 or 2, ascending."""
    unknown = sympy.Symbol("r")
    roots = sympy.roots(sympy.Poly({(d,): c for d, c in terms}, unknown), multiple=True)
    return sorted((r for r in roots if r.is_real), key=lambda r: float(r))


def _single(factor: Any) -> bool:
    return len(factor.terms()) == 1


def _reach(terms: Mapping[int, Expr], exponent: Expr | int, *, whole: bool = True) -> Expr:
    """A dyadic a at which Σ terms·aᵈ has passed ``exponent``; a ``whole`` number if it is large."""
    low, high = Fraction(0), Fraction(1)
    polynomial = {d: enclose(c, {}, digits=20) for d, c in terms.items()}
    wanted = exact_value(sympy.Rational(exponent))

    def passed(point: Fraction) -> bool:
        return sum((c * exact_value(point) ** d for d, c in polynomial.items()), arb(0)) > wanted

    while not passed(high):
        low, high = high, high * 2
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if passed(middle) else (middle, high)
    reached = sympy.Rational(high.numerator, high.denominator)
    return sympy.ceiling(reached) if whole and reached > 16 else reached
