"""Stable programs for functions of one variable: what is computed neither overflows nor cancels, on the whole line.

1. The formula is cut at its borders (:mod:`.pieces`) and where an exponent changes its sign (:mod:`.sign_changes`);
   what it states at a border itself is kept.
2. On each piece it is written in decaying quantities (:mod:`.decaying`): an identity of rational functions, proved by
   the algebra that produces it.
3. Zeros that the formula reaches by cancellation get a proven local polynomial (:mod:`.local_polynomials`).
4. Arguments of exponentials are compensated (:mod:`.compensated`); results below the normal range are scaled by halves.
5. The finished program is run in balls beside the formula at many points (:mod:`.proof`) before it is used.

An :class:`.Arithmetic` says what is computed in: float64, float32, or float32 results by float64. With the last, step
4 is not needed and step 3 only close to a root, because 29 more bits are at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import pairwise, product
from typing import Any

import flint
import sympy
from flint import arb
from sympy import Expr, Integer

from . import compensated
from .arithmetic import DOUBLE, Arithmetic, factored, fused
from .decaying import HalfLine, NotDecaying, a, half_line, lasting_part, span_of, terms_of
from .enclosures import ball_function, enclose, exact_value, taylor
from .errors import Unsupported
from .half_lines import Cancelling, HalfLineLowering
from .local_polynomials import LocalPolynomial, fit, refine_root
from .lowering import Builder, Lowering, Program
from .pairs import paired
from .pieces import pieces
from .proof import prove
from .reflections import Reflection, reflected
from .scaled_products import multiplied, scaled
from .sign_changes import cut_pieces
from .symbols import x
from .table_lowering import lower_table
from .tabulation import Table, tabulate

#: Polynomials that one output may have; an oscillating function has more zeros than are worth their code.
MOST_PATCHES = 12
#: Half-widths tried for a local polynomial at a zero in the origin.
RADII_AT_ZERO = tuple(Fraction(n, 8) for n in (10, 8, 6, 5, 4, 2, 1))
#: A side is computed from the other one by reflection where it would take so many steps of its own.
SHORTER = 3
#: Outside a local polynomial a sum in pairs may have so many times the relative error of an exponential, 2⁻⁵⁶.
MOST_LOST = 10
#: Proven bits of a local polynomial whose results are rounded to 24: all but about one in 2¹⁵ are rounded correctly.
SHORT_BITS = 40
#: Proven bits of one whose result is a pair.
PAIRED_BITS = 57


@dataclass
class Stable:
    """A stable program and what was done to get it."""

    program: Program
    #: output -> the local polynomials at its zeros
    patches: dict[str, list[LocalPolynomial]] = field(default_factory=dict)
    #: output -> why (a part of) it was lowered as it is written: no normal form holds it
    as_written: dict[str, str] = field(default_factory=dict)
    #: output -> the tables of polynomials that compute it, one for each piece
    tables: dict[str, list[Table]] = field(default_factory=dict)
    #: output -> points at which it meets its formula in balls
    proved_at: dict[str, int] = field(default_factory=dict)


class _Assembly:
    """Builds the program of several outputs piece by piece."""

    def __init__(
        self,
        expressions: Mapping[str, Expr],
        arithmetic: Arithmetic,
        written: frozenset[str],
        tabulated: frozenset[str] = frozenset(),
        factors: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.b = Builder(["x"])
        self.x = self.b.input("x")
        self.expressions, self.arithmetic, self.written = dict(expressions), arithmetic, written
        self.tabulated, self.factors = tabulated, factors or {}
        self.stable = Stable(Program((), (), {}))

    def program(self) -> Stable:
        """The program in plain steps."""
        pieces_of = {name: cut_pieces(pieces(e)) for name, e in self.expressions.items()}
        ends = _merge(p.left for parts in pieces_of.values() for p in parts)
        spans = list(pairwise((-sympy.oo, *ends, sympy.oo)))
        places = []
        for left, right in spans:
            inside = {name: _piece_at(parts, left, right) for name, parts in pieces_of.items()}
            places.append((inside, self._span(inside, left, right)))
        outputs = {name: self._joined(name, ends, places) for name in self.expressions}
        self.stable.program = self.b.finish({name: self._guarded(place) for name, place in outputs.items()})
        return self.stable

    def multiplied(self) -> Stable:
        """The program with its factors, in the arithmetic's steps."""
        self.program()
        if self.factors:
            product = scaled if self.arithmetic.paired else multiplied
            self.stable.program = product(self.stable.program, self.factors)
        if self.arithmetic.paired:
            self.stable.program = paired(self.stable.program, self.arithmetic)
        return self.stable

    def _joined(self, name: str, ends: list[Expr], places: list[tuple[dict[str, Expr], dict[str, int]]]) -> int:
        """Selects from the left: piece 0 where x < first border, …; a border's own value where neither side has it."""
        b = self.b
        total = places[-1][1][name]
        for k in reversed(range(len(ends))):
            stated = _stated_value(self.expressions[name], ends[k])
            left, right = (places[j][0][name].subs(x, ends[k]) for j in (k, k + 1))
            belongs_left = stated is not None and _same(stated, left)
            total = b.op("select", self._before(ends[k], belongs_left), places[k][1][name], total)
            if stated is not None and not belongs_left and not _same(stated, right):
                total = b.op("select", b.op("eq", self.x, b.constant(ends[k])), b.constant(stated), total)
        return total

    def _before(self, end: Expr, including: bool) -> int:
        """x < end or x ≤ end, exact for every float x although ``end`` may be none."""
        nearest = compensated.nearest_float(end, self.arithmetic)
        exact = sympy.Rational(nearest.numerator, nearest.denominator)
        above = end - exact
        if above == 0:
            return self.b.op("le" if including else "lt", self.x, self.b.constant(end))
        return self.b.op("le" if above.is_positive else "lt", self.x, self.b.constant(exact))

    def _guarded(self, place: int) -> int:
        """NaN in, NaN out, also where a branch is constant."""
        if not self._may_lose_nan(place):
            return place
        return self.b.op("select", self.b.op("eq", self.x, self.x), place, self.x)

    def _may_lose_nan(self, place: int) -> bool:
        """Follow the branches that NaN takes (comparisons are false): does what they compute depend on x?"""
        node = self.b.nodes[place]
        match node.operation:
            case "input":
                return False
            case "constant" | "copysign":
                return True
            case "select":
                return self._may_lose_nan(node.operands[2])
        return all(self._may_lose_nan(o) for o in node.operands)

    # ------------------------------------------------------------------------------------------------------ one piece

    def _span(self, inside: dict[str, Expr], left: Expr, right: Expr) -> dict[str, int]:
        """Places of all outputs on an interval without borders."""
        in_tables = {
            name: e
            for name, e in inside.items()
            if name in self.tabulated and _kind(e, _sides(left, right)[0]) != "polynomial"
        }
        found = self._in_place({name: e for name, e in inside.items() if name not in in_tables}, left, right)
        for name, e in in_tables.items():
            found[name] = self._in_table(name, e, left, right)
        return found

    def _in_table(self, name: str, e: Expr, left: Expr, right: Expr) -> int:
        """From a table of polynomials; where that has no cell, as without one."""
        table = tabulate(e, left, right, self.arithmetic.wanted)
        self.stable.tables.setdefault(name, []).append(table)
        return lower_table(self.b, table, self.x, self.arithmetic, lambda: self._in_place({name: e}, left, right)[name])

    def _in_place(self, inside: dict[str, Expr], left: Expr, right: Expr) -> dict[str, int]:
        """Without tables."""
        found: dict[str, int] = {}
        exponential: dict[str, Expr] = {}
        for name, e in inside.items():
            kind = _kind(e, _sides(left, right)[0])
            if name in self.written:
                found[name] = self._as_written(name, e, "its stable form was not more accurate")
            elif kind == "polynomial":
                line = half_line([e.subs(x, a)])
                found[name] = self._whole(name, line, e, (left, right))
            elif kind == "exponential":
                exponential[name] = e
            else:
                found[name] = self._algebraic(name, e, left, right)
        if exponential:
            found |= self._exponential(exponential, left, right)
        return found

    def _as_written(self, name: str, e: Expr, why: str) -> int:
        self.stable.as_written[name] = why
        return Lowering(self.b, (x,)).lower(e)

    def _whole(self, name: str, line: HalfLine, e: Expr, span: tuple[Expr, Expr]) -> int:
        element = line.reduced(e.subs(x, a))
        linear = not line.atoms and element.numer.degree(line.element_of[a].numer) <= 1
        bounded = bool(self.factors) and all(
            end.is_finite for end in span
        )  # then it is as it is, with no exponent apart
        place = self.x if linear and not bounded else self._held(span)
        lowering = HalfLineLowering(self.b, line, place, self.arithmetic, whole=True)
        place = lowering.element(element)
        zeros = self._zeros(lowering.suspicious, 1, whole=True)
        return self._patched(name, e, place, zeros, span, parity=_parity(line, e))

    def _held(self, span: tuple[Expr, Expr]) -> int:
        """x, held to the span where a power of it could overflow on the other side of a border."""
        place = self.x
        for end, operation in ((span[0], "at_least"), (span[1], "at_most")):
            if end.is_finite:
                place = self.b.op(operation, place, self.b.constant(end))
        return place

    def _exponential(self, inside: dict[str, Expr], left: Expr, right: Expr) -> dict[str, int]:
        sides = _sides(left, right)
        try:
            given = [e.subs(x, s * a) for e in inside.values() for s in sides]
            line = half_line(given, span=span_of(left, right))
        except NotDecaying as reason:
            if len(inside) > 1:  # one that does not fit must not spoil the others
                return {
                    n: p for name, e in inside.items() for n, p in self._exponential({name: e}, left, right).items()
                }
            ((name, e),) = inside.items()
            return {name: self._as_written(name, e, str(reason))}
        distance = self.b.op("abs", self.x)
        return {
            name: self._sided(name, e, (left, right), [(line, {"place": distance})], None) for name, e in inside.items()
        }

    def _algebraic(self, name: str, e: Expr, left: Expr, right: Expr) -> int:
        """Up to the arithmetic's ``far`` in a, beyond in u = 1/a."""
        try:
            forms = [half_line([e.subs(x, s * a) for s in _sides(left, right)], far=far) for far in (False, True)]
        except NotDecaying as reason:
            return self._as_written(name, e, str(reason))
        distance = self.b.op("abs", self.x)
        border = self._border([forms[0].reduced(e.subs(x, s * a)) for s in _sides(left, right)], forms[0])
        near, far = ((form, {"place": distance, "border": border}) for form in forms)
        return self._sided(name, e, (left, right), [near, far], self.b.op("lt", self.b.constant(border), distance))

    def _border(self, elements: Iterable[Any], line: HalfLine) -> Integer:
        """Where the form in a hands over: beyond every finite input if no power of one overflows."""
        most, degree = self.arithmetic.inputs, _degree(elements, line)
        if most is not None and degree * most < self.arithmetic.range[1] - 100:
            return Integer(2) ** most
        if self.arithmetic.lean:
            return Integer(2) ** ((self.arithmetic.range[1] - 8) // max(degree, 2))
        return Integer(self.arithmetic.far)

    def _beyond(self, e: Expr, line: HalfLine) -> tuple[int, int] | None:
        """(condition, place) far out, in powers of 1/a, where a power of a may overflow beside exponentials.

        What decays is left out: the arithmetic takes it for 0 there. None where no power overflows, or nothing lasts.
        """
        lasting = lasting_part(e, Integer(self.arithmetic.far), self.arithmetic.gone)
        if lasting is None or not lasting.has(a):
            return None
        try:
            near, form = half_line([lasting]), half_line([lasting], far=True)
            fields = ((near.reduced(lasting), near), (line.reduced(e), line))
            if max(_degree([element], of) for element, of in fields) < 2:
                return None
            border = max(
                (self._border([element], of) for element, of in fields), key=lambda b: b == self.arithmetic.far
            )
            distance = self.b.op("abs", self.x)
            lowering = HalfLineLowering(self.b, form, distance, self.arithmetic, border=border)
            return self.b.op("lt", self.b.constant(border), distance), lowering.element(form.reduced(lasting))
        except NotDecaying:
            return None

    def _sided(
        self, name: str, e: Expr, span: tuple[Expr, Expr], forms: list[tuple[HalfLine, dict[str, Any]]], far: int | None
    ) -> int:
        """Both half-lines in each form, joined; odd and even functions are computed once."""
        sides = _sides(*span)
        zeros: list[Zero] = []
        places: dict[int, int] = {}
        careful = False
        parity = _parity(forms[0][0], e) if len(sides) == 2 else 0
        if self.arithmetic.lean and len(sides) == 2 and len(forms) == 1 and not parity:
            reflection = reflected(forms[0][0], e)
            if reflection is not None:
                return self._reflected(name, e, span, forms[0], reflection)
        shared: dict[Any, compensated.Pair] = {}
        if self.arithmetic.lean and len(sides) == 2 and len(forms) == 1 and not parity:
            shared = self._shared_denominator(e, *forms[0])
        other = None if parity or far is not None else self._reflection(e, sides, forms[0])
        if other is not None:
            places, zeros = other
        for side in () if other else sides[:1] if parity else sides:
            at_side = []
            for line, options in forms:
                lowering = HalfLineLowering(self.b, line, arithmetic=self.arithmetic, **options)
                lowering.totals = shared
                at_side.append(lowering.element(line.reduced(e.subs(x, side * a))))
                careful |= lowering.careful
                if not line.far:
                    zeros += self._zeros(lowering.suspicious, side)
            beyond = self._beyond(e.subs(x, side * a), forms[0][0]) if far is None else (far, at_side[1])
            places[side] = at_side[0] if beyond is None else self.b.op("select", *beyond, at_side[0])
        if parity:
            zeros += [z.mirrored() for z in zeros if z.position]
        return self._patched(name, e, self._both(places, parity), zeros, span, parity, careful)

    def _reflected(
        self, name: str, e: Expr, span: tuple[Expr, Expr], form: tuple[HalfLine, dict[str, Any]], r: Reflection
    ) -> int:
        """What decays, on both sides, and what the other side adds to it or takes it from."""
        b, (line, options) = self.b, form
        lowering = HalfLineLowering(b, line, arithmetic=self.arithmetic, **options)
        place = lowering.element(line.reduced(e.subs(x, r.side * a)))
        below = b.op("lt", self.x, b.constant(0))

        def on_sides(at_side: Expr, beyond: Expr) -> int:
            chosen = (at_side, beyond) if r.side == -1 else (beyond, at_side)
            return b.op("select", below, *map(b.constant, chosen))

        if r.degree:
            away = self.x if r.side == -1 else b.op("neg", self.x)
            added = b.op("mul", b.constant(r.coefficient), b.op("at_least", away, b.constant(0)))
        else:
            added = on_sides(Integer(0), r.coefficient)
        node, scale = b.nodes[place], Integer(2) ** -self.arithmetic.lift
        if r.sign == -1 and node.operation == "mul" and b.value_of(node.operands[1]) == scale:
            place = b.op("mul", node.operands[0], on_sides(scale, -scale))
        elif r.sign == -1:
            place = b.op("mul", place, on_sides(Integer(1), Integer(-1)))
        zeros = self._zeros(lowering.suspicious, r.side)
        return self._patched(name, e, b.op("add", place, added), zeros, span, 0, lowering.careful)

    def _shared_denominator(self, e: Expr, line: HalfLine, options: dict[str, Any]) -> dict[Any, compensated.Pair]:
        """One denominator for both half-lines, each with its own numbers in it, so that one division serves them."""
        b, found = self.b, []
        for side in (-1, 1):
            lowering = HalfLineLowering(b, line, arithmetic=self.arithmetic, **options)
            factors = lowering.corrected(line.reduced(e.subs(x, side * a)))
            if len(factors) != 1:
                return {}
            found += factors
        (below, p), (above, q) = found
        if below == above or p.lo is None or q.lo is None:
            return {}
        negative = b.op("lt", self.x, b.constant(0))
        pair = compensated.Pair(b.op("select", negative, p.hi, q.hi), b.op("select", negative, p.lo, q.lo))
        return {below: pair, above: pair}

    def _reflection(
        self, e: Expr, sides: tuple[int, ...], form: tuple[HalfLine, dict[str, Any]]
    ) -> tuple[dict[int, int], list[Zero]] | None:
        """f(x) = c ± f(−x), as σ(a) = 1 − σ(−a): in pairs, one side computed from the other where that is shorter and
        nothing cancels; the places of both sides and the zeros of the other one, or None."""
        line, options = form
        if len(sides) < 2 or not self.arithmetic.paired:
            return None
        elements = {side: line.reduced(e.subs(x, side * a)) for side in sides}
        for side, sign in product(sides, (1, -1)):
            constant = elements[side] - sign * elements[-side]
            if not (constant.numer.is_ground and constant.denom.is_ground) or constant == 0:
                continue
            start = len(self.b.nodes)
            first, second = (HalfLineLowering(self.b, line, arithmetic=self.arithmetic, **options) for _ in range(2))
            other, before = first.element(elements[-side]), len(self.b.nodes)
            second.element(elements[side])
            c = sympy.sympify(constant.as_expr())
            is_shorter = len(self.b.nodes) - before >= SHORTER
            if is_shorter and not self._zeros(second.suspicious, side) and _outweighs(c, line, elements[-side]):
                part = self.b.op("within", other, self.b.constant(abs(c)))
                both = self.b.op("add" if sign == 1 else "sub", self.b.constant(c), part)
                return {-side: other, side: both}, self._zeros(first.suspicious, -side)
            self.b.back_to(start)
        return None

    def _both(self, places: dict[int, int], parity: int) -> int:
        b = self.b
        if parity == -1:
            return b.op("mul", b.op("copysign", b.constant(1), self.x), places[1])
        if len(places) == 1:
            return next(iter(places.values()))
        return b.op("select", b.op("lt", self.x, b.constant(0)), places[-1], places[1])

    # ---------------------------------------------------------------------------------------------------------- zeros

    def _zeros(self, sums: list[Cancelling], side: int, *, whole: bool = False) -> list[Zero]:
        """The zeros of sums in which terms cancel, as points x."""
        found: list[Zero] = []
        for cancelling in sums:
            function = ball_function(cancelling.factor, (a,))
            if _vanishes(function, arb(0)):
                found.append(Zero(Fraction(0), (Fraction(0), Fraction(0)), cancelling))
            found += [Zero.of(side, low, high, cancelling) for low, high in _sign_changes(function, both=whole)]
        return found

    def _patched(
        self,
        name: str,
        e: Expr,
        place: int,
        zeros: list[Zero],
        span: tuple[Expr, Expr],
        parity: int,
        careful: bool = False,
    ) -> int:
        """``place`` outside, proven polynomials around the zeros; one that cannot be proven is left out."""
        radii = (*(self.arithmetic.wide_radii if careful else ()), *self.arithmetic.radii_at_roots)
        done: list[tuple[Fraction, Fraction]] = []
        for zero in zeros:
            if any(low <= zero.position <= high for low, high in done):
                continue
            patch = _fit(e, zero, span, parity, self.arithmetic, radii) if len(done) < MOST_PATCHES else None
            if patch is not None:  # two may overlap: either holds there
                done.append((patch.low, patch.high))
                self.stable.patches.setdefault(name, []).append(patch)
                place = self._select_patch(patch, place)
        return place

    def _select_patch(self, patch: LocalPolynomial, outside: int) -> int:
        b = self.b
        low, high = (b.constant(_rational(v)) for v in (patch.low, patch.high))
        if (
            self.arithmetic.fused and patch.high - patch.centre == patch.centre - patch.low
        ):  # an overflow that is not selected does no harm there
            y = b.op("sub", self.x, b.constant(_rational(patch.centre)))
            distance, radius = b.op("abs", y), b.constant(_rational(patch.high - patch.centre))
            inside = b.op("le", distance, radius)
            y = b.op("within", y, radius) if self.arithmetic.paired else y
            return b.op("select", inside, self._polynomial(patch, y), outside)
        if patch.even:
            inside = b.op("le", b.op("abs", self.x), high)
        else:
            inside = b.op("and", b.op("le", low, self.x), b.op("le", self.x, high))
        held = b.op("at_most", b.op("at_least", self.x, low), high)
        y = b.op("sub", held, b.constant(_rational(patch.centre)))
        return b.op("select", inside, self._polynomial(patch, y), outside)

    def _polynomial(self, patch: LocalPolynomial, y: int) -> int:
        """(hi + (lo + y(c₁ + y(…))))·dᵐ with y = x − c; targets that trap or differentiate get x held inside."""
        b = self.b
        if self.arithmetic.paired:
            return self._unevaluated(patch, y)
        if self.arithmetic.lean:
            return self._expanded(patch, y)
        d = b.op("sub", y, b.constant(_rational(patch.centre_rest)))
        z = b.op("mul", y, y) if patch.even else y
        first, *others = (b.constant(_rational(c)) for c in patch.coefficients)
        total = others[-1]
        for coefficient in reversed(others[:-1]):
            total = b.op("add", b.op("mul", total, z), coefficient)
        total = b.op("add", total, first)
        for _ in range(patch.multiplicity):
            total = b.op("mul", total, d)
        return total

    def _expanded(self, patch: LocalPolynomial, y: int) -> int:
        """The same in powers of y: the last sum, whose constant is f(c), rounds once where (y − rest)·P did twice.

        Its constants are exact and rounded when printed.
        """
        b = self.b
        first, rest, *others = patch.coefficients
        coefficients, power = [first + rest, *others], patch.multiplicity
        if patch.centre_rest != 0 and power == 1:
            shifted = (p - patch.centre_rest * q for p, q in pairwise([*coefficients, Fraction(0)]))
            coefficients, power = [-patch.centre_rest * coefficients[0], *shifted], 0
        z = b.op("mul", y, y) if patch.even else y
        *before, total = (b.constant(_rational(c)) for c in coefficients)
        for coefficient in reversed(before):
            total = b.op("add", b.op("mul", total, z), coefficient)
        d = b.op("sub", y, b.constant(_rational(patch.centre_rest)))
        return reduce(lambda p, q: b.op("mul", p, q), [d] * power, total)

    def _unevaluated(self, patch: LocalPolynomial, y: int) -> int:
        """The same for pairs: d = y − rest as it is, c₀ and the coefficients after it to all their digits.

        2ᴸ·P where several d follow: their product is scaled down last, so that only this may be subnormal.
        """
        b = self.b
        scale = Fraction(2) ** (self.arithmetic.lift if patch.multiplicity > 1 else 0)
        d = y if patch.centre_rest == 0 else b.op("with_rest", y, b.constant(_rational(-patch.centre_rest)))
        z = b.op("mul", y, y) if patch.even else y
        first, rest, *others = patch.coefficients
        *before, total = (b.constant(_rational(scale * c)) for c in (first + rest, *others))
        for coefficient in reversed(before):
            total = b.op("add", coefficient, b.op("mul", z, total))
        total = reduce(lambda p, q: b.op("mul", p, q), [d] * patch.multiplicity, total)
        return b.op("mul", total, b.constant(_rational(1 / scale)))


@dataclass(frozen=True)
class Zero:
    """A zero reached by cancellation: the origin, or a root between two points where the signs differ."""

    position: Fraction
    bracket: tuple[Fraction, Fraction]
    cancelling: Cancelling

    @classmethod
    def of(cls, side: int, low: Fraction, high: Fraction, cancelling: Cancelling) -> Zero:
        """The root between low and high on the half-line of this side."""
        ends = (low, high) if side == 1 else (-high, -low)
        return cls((ends[0] + ends[1]) / 2, ends, cancelling)

    def mirrored(self) -> Zero:
        """The same zero at −x."""
        return Zero.of(-1, *self.bracket, self.cancelling)

    def loss(self, *ends: Fraction) -> float:
        """What is lost at the ends of an interval around the zero, by the sum that is computed outside."""
        return max(self.cancelling.loss(abs(end)) for end in ends)


def _rational(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)


def _merge(points: Iterable[Expr]) -> list[Expr]:
    """Finite points in ascending order, each once."""
    found: dict[Fraction, Expr] = {}
    for point in points:
        if point.is_finite:
            found.setdefault(compensated.nearest_float(point), point)
    return [found[key] for key in sorted(found)]


def _piece_at(parts: Iterable[Any], left: Expr, right: Expr) -> Expr:
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


def _stated_value(e: Expr, border: Expr) -> Expr | None:
    """What the formula says at a border itself; None where it says nothing (1/0) or where no enclosure decides it."""
    value = e.subs(x, border)
    if value.has(sympy.nan, sympy.zoo, sympy.oo) or not value.is_number:
        return None
    return value if enclose(value, {}, digits=20).rel_accuracy_bits() > 60 or value == 0 else None


def _same(p: Expr, q: Expr) -> bool:
    if p == q:
        return True
    if not (p.is_number and q.is_number) or p.has(sympy.nan, sympy.zoo) or q.has(sympy.nan, sympy.zoo):
        return False
    return bool(enclose(p - q, {}, digits=40).contains(0))


def _sides(left: Expr, right: Expr) -> tuple[int, ...]:
    """The half-lines that an interval meets."""
    return tuple(s for s, met in ((1, _order(right, Integer(0)) > 0), (-1, _order(left, Integer(0)) < 0)) if met)


def _kind(e: Expr, side: int) -> str:
    """ "polynomial" in x and opaque functions, "exponential", or "algebraic"."""
    e = e.subs(x, side * a)
    if e.has(sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh, sympy.erf, sympy.erfc) and any(
        f.has(a) for f in e.atoms(sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh, sympy.erf, sympy.erfc)
    ):
        return "exponential"
    try:
        line = half_line([e])
    except NotDecaying:
        return "algebraic"
    plain = not line.roots and not line.logs and not line.reduced(e).denom.degree(line.element_of[a].numer) > 0
    return "polynomial" if plain else "algebraic"


def _degree(elements: Iterable[Any], line: HalfLine) -> int:
    """The highest power of a in elements of a field, under roots too, that no decaying quantity multiplies."""
    under = {symbol: max(terms_of(radicand)) for radicand, symbol in line.roots.items()}
    weights = [under.get(symbol, 1) for symbol in line.generators]
    decaying = [line.generators.index(t.symbol) for t in line.exponentials]
    monomials = [m for e in elements for part in (e.numer, e.denom) for m in part.monoms()]
    lasting = [m for m in monomials if not any(m[k] for k in decaying)]
    return max((sum(p * w for p, w in zip(m, weights, strict=True)) for m in lasting), default=0)


def _parity(line: HalfLine, e: Expr) -> int:
    """1 for an even function, −1 for an odd one, 0 otherwise; decided in the field, so by algebra."""
    try:
        plus, minus = line.reduced(e.subs(x, a)), line.reduced(e.subs(x, -a))
    except (NotDecaying, KeyError):
        return 0
    return 1 if plus == minus else -1 if plus == -minus else 0


def _outweighs(c: Expr, line: HalfLine, element: Any) -> bool:
    """Whether an element is at most ⅔ of a constant from 0 on, as far as can be seen at many points."""
    function = ball_function(element.as_expr().xreplace(line.definitions()), (a,))
    with flint.ctx.workprec(400):
        most = 2 * abs(enclose(c, {}, digits=60)) / 3
        return all(bool(abs(function(arb(2) ** (arb(k) / 4))) < most) for k in range(-80, 40))


def _vanishes(function: Any, point: arb) -> bool:
    with flint.ctx.workprec(400):
        value = function(point)
    return bool(value.is_finite() and value.contains(0) and value.rad() < arb(2) ** -200)


def _sign_changes(function: Any, *, both: bool) -> list[tuple[Fraction, Fraction]]:
    """Neighbouring grid points, up to 64, between which the sign changes."""
    grid = [Fraction(1, 2**40), *(Fraction(k, 16) + Fraction(1, 97) for k in range(0, 256))]
    grid += [Fraction(k) + Fraction(1, 97) for k in range(17, 65)]
    if both:
        grid = sorted([-g for g in grid] + grid)
    signs = []
    with flint.ctx.workprec(256):
        for point in grid:
            value = function(exact_value(point))
            signs.append((1 if value > 0 else -1 if value < 0 else 0) if value.is_finite() else 0)
    return [(p, q) for (p, q), (s, t) in zip(pairwise(grid), pairwise(signs), strict=True) if s * t < 0]


@lru_cache(maxsize=1024)
def _fit(
    e: Expr,
    zero: Zero,
    span: tuple[Expr, Expr],
    parity: int,
    arithmetic: Arithmetic,
    at_roots: tuple[Fraction, ...],
) -> LocalPolynomial | None:
    """A proven polynomial at a zero that stays within the span; none where the arithmetic wants none.

    The widest one; in pairs the narrowest outside of which the sum that cancels loses little.
    """
    if not at_roots:
        return None
    at_origin = zero.position == 0
    try:
        root = arb(0) if at_origin else refine_root(e, *zero.bracket)
        multiplicity = _multiplicity(e) if at_origin else 1
    except Unsupported:
        return None
    centre = Fraction(0) if at_origin else arithmetic.nearest(float(root.mid()))
    if multiplicity is None:
        return None
    even = at_origin and parity != 0
    bits = arithmetic.digits if arithmetic.compensated else PAIRED_BITS if arithmetic.paired else SHORT_BITS
    radii = RADII_AT_ZERO if at_origin else at_roots
    for radius in _wide_enough(radii, centre, zero) if arithmetic.paired else radii:
        low, high = _clipped(centre - radius, span[0], True), _clipped(centre + radius, span[1], False)
        if low is None or high is None or not low <= centre <= high:
            return None
        try:
            return fit(e, root, multiplicity, low, high, even=even, arithmetic=arithmetic, bits=bits)
        except Unsupported:
            continue
    return None


def _wide_enough(radii: tuple[Fraction, ...], centre: Fraction, zero: Zero) -> tuple[Fraction, ...]:
    """The radii, the largest first, from the smallest one outside of which little is lost."""
    enough = next((r for r in radii[::-1] if zero.loss(centre - r, centre + r) <= MOST_LOST), radii[0])
    return radii[radii.index(enough) :]


def _clipped(value: Fraction, end: Expr, is_left: bool) -> Fraction | None:
    if end in (-sympy.oo, sympy.oo):
        return value
    border = compensated.nearest_float(end)
    if border != Fraction(int(end.p), int(end.q)) if end.is_Rational else True:
        return None
    return max(value, border) if is_left else min(value, border)


def _multiplicity(e: Expr) -> int | None:
    """The order of the zero of e at the origin."""
    with flint.ctx.workprec(400):
        series = taylor(e, arb(0), 12)
    if series is None:
        return None
    for k, coefficient in enumerate(series):
        if not coefficient.contains(0):
            return k or None
    return None


def stable_program(
    expressions: Mapping[str, Expr],
    arithmetic: Arithmetic = DOUBLE,
    *,
    as_written: frozenset[str] = frozenset(),
    tabulated: frozenset[str] = frozenset(),
    factors: Mapping[str, Sequence[str]] | None = None,
) -> Stable:
    """The stable program for named expressions in ``x``, in one pass; proved against them before it is returned.

    ``as_written`` names outputs that keep their formula (cut at its borders, otherwise as it stands), ``tabulated``
    those that are computed from tables of polynomials (:mod:`.tabulation`) where they are no polynomials themselves;
    a program with tables is not in pairs. ``factors`` names further inputs by which an output is multiplied before it
    is rounded (:mod:`.scaled_products`).
    Raises :class:`Unsupported` for an expression that cannot be compiled at all, naming the part.
    """
    given = {name: sympy.sympify(e) for name, e in expressions.items()}
    arithmetic = fused(DOUBLE) if tabulated and arithmetic.paired else arithmetic
    arithmetic = factored(arithmetic) if factors else arithmetic
    try:
        stable = _Assembly(given, arithmetic, as_written, tabulated, factors).multiplied()
        proven = {name: [*stable.patches.get(name, ()), *stable.tables.get(name, ())] for name in given}
        stable.proved_at = prove(stable.program, given, proven, arithmetic, factors)
    except (ValueError, ArithmeticError, NotDecaying) as reason:  # what is not proved is not used
        return _unchanged(given, str(reason), factors)
    return stable


def assembled(expressions: Mapping[str, Expr], arithmetic: Arithmetic) -> Stable:
    """The program as it is before its steps become pairs: part of a larger one, which is proved as a whole."""
    return _Assembly(expressions, arithmetic, frozenset()).program()


def _unchanged(expressions: Mapping[str, Expr], why: str, factors: Mapping[str, Sequence[str]] | None) -> Stable:
    """Everything as it is written, branches as selects; raises :class:`Unsupported` naming what no target computes."""
    b = Builder(["x"])
    lowering = Lowering(b, (x,))
    given, nan = b.input("x"), b.op("eq", b.input("x"), b.input("x"))
    outputs = {name: b.op("select", nan, lowering.lower(e), given) for name, e in expressions.items()}
    return Stable(multiplied(b.finish(outputs), factors or {}), as_written=dict.fromkeys(expressions, why))
