"""Stable programs for functions of one variable: what is computed neither overflows nor cancels, on the whole line.

1. The formula is cut at its borders (:mod:`.pieces`), where an exponent changes its sign (:mod:`.sign_changes`) and
   where an arctangent is written by that of 1/g (:mod:`.arctangents`); what it states at a border itself is kept.
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
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import Any

import flint
import sympy
from flint import arb
from sympy import Expr, Integer

from . import compensated
from .arctangents import inverted
from .arithmetic import DOUBLE, Arithmetic, factored, fused
from .decaying import HalfLine, NotDecaying, a, half_line, lasting_part, span_of, terms_of
from .enclosures import ball_function, enclose
from .erfcx_quotients import ErfcxQuotient
from .errors import Unsupported
from .extremes import Value, limit_at_infinity
from .half_lines import HalfLineLowering
from .local_polynomials import LocalPolynomial
from .lowering import Builder, Lowering, Program
from .pairs import paired
from .pieces import Piece, pieces
from .proof import prove
from .reflections import Reflection, reflected, single_term
from .scaled_products import multiplied, scaled
from .sign_changes import cut_pieces
from .spans import is_same, merged, piece_at, sides_of, stated_value
from .symbols import x
from .table_lowering import lower_table
from .tabulation import Table, tabulate
from .zero_patches import Patching, Zero, zeros_of

#: A side is computed from the other one by reflection where it would take so many steps of its own.
SHORTER = 3


@dataclass
class Stable:
    """A stable program and what was done to get it."""

    program: Program
    #: output -> the local polynomials at its zeros
    patches: dict[str, list[LocalPolynomial]] = field(default_factory=dict)
    #: output -> the quotients of polynomials in it
    quotients: dict[str, list[ErfcxQuotient]] = field(default_factory=dict)
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
        self.patching = Patching(self.b, self.x, arithmetic, self.stable.patches)

    def program(self) -> Stable:
        """The program in plain steps."""
        pieces_of = {name: cut_pieces(pieces(e)) for name, e in self.expressions.items()}
        for name in pieces_of.keys() - self.written:  # a series takes long to tabulate
            pieces_of[name] = inverted(pieces_of[name], series=name not in self.tabulated)
        ends = merged(p.left for parts in pieces_of.values() for p in parts)
        spans = list(pairwise((-sympy.oo, *ends, sympy.oo)))
        places = []
        for left, right in spans:
            inside = {name: piece_at(parts, left, right) for name, parts in pieces_of.items()}
            places.append((inside, self._span(inside, left, right)))
        outputs = {name: self._joined(name, ends, places) for name in self.expressions}
        outputs = {name: self._with_limits(name, pieces_of[name], place) for name, place in outputs.items()}
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
            stated = stated_value(self.expressions[name], ends[k])
            left, right = (places[j][0][name].subs(x, ends[k]) for j in (k, k + 1))
            belongs_left = stated is not None and is_same(stated, left)
            total = b.op("select", self._before(ends[k], belongs_left), places[k][1][name], total)
            if stated is not None and not belongs_left and not is_same(stated, right):
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

    def _with_limits(self, name: str, parts: Sequence[Piece], place: int) -> int:
        """The proven limits at ±∞ where the steps lead elsewhere there (a·log1p(T) with T = 0, sin ∞)."""
        b, steps, finite = self.b, self.b.finish({name: place}), self.b.constant(self.arithmetic.largest)
        for side, part in ((1, parts[-1].expr), (-1, parts[0].expr)):
            limit = _limit(part, side)
            if limit is None or _leads_to(steps, name, side, limit, self.arithmetic):
                continue
            sign = side if limit.exact == sympy.oo else -side
            value = b.constant(limit.exact) if not limit.infinite else self.x if sign > 0 else b.op("neg", self.x)
            beyond = b.op("lt", finite, self.x) if side > 0 else b.op("lt", self.x, b.op("neg", finite))
            place = b.op("select", beyond, value, place)
        return place

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
            if name in self.tabulated and _kind(e, sides_of(left, right)[0]) != "polynomial"
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
            kind = _kind(e, sides_of(left, right)[0])
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
        zeros = zeros_of(lowering.suspicious, 1, whole=True)
        return self.patching.patched(name, e, place, zeros, span, parity=_parity(line, e))

    def _held(self, span: tuple[Expr, Expr]) -> int:
        """x, held to the span where a power of it could overflow on the other side of a border."""
        place = self.x
        for end, operation in ((span[0], "at_least"), (span[1], "at_most")):
            if end.is_finite:
                place = self.b.op(operation, place, self.b.constant(end))
        return place

    def _exponential(self, inside: dict[str, Expr], left: Expr, right: Expr) -> dict[str, int]:
        sides = sides_of(left, right)
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
            forms = [half_line([e.subs(x, s * a) for s in sides_of(left, right)], far=far) for far in (False, True)]
        except NotDecaying as reason:
            return self._as_written(name, e, str(reason))
        distance = self.b.op("abs", self.x)
        elements = [forms[0].reduced(e.subs(x, s * a)) for s in sides_of(left, right)]
        border = self._border(elements, forms[0])
        if border == self.arithmetic.far:  # sooner where a high power overflows before it
            most = (self.arithmetic.range[1] - 100) // max(_degree(elements, forms[0]), 1)
            border = min(border, Integer(2) ** most)
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
        sides = sides_of(*span)
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
        other = None if parity or far is not None else self._reflection(name, e, sides, forms[0])
        if other is not None:
            places, zeros = other
        for side in () if other else sides[:1] if parity else sides:
            at_side = []
            for line, options in forms:
                lowering = HalfLineLowering(self.b, line, arithmetic=self.arithmetic, **options)
                lowering.totals = shared
                at_side.append(lowering.element(line.reduced(e.subs(x, side * a))))
                careful |= lowering.careful
                self._note(name, lowering)
                if not line.far:
                    zeros += zeros_of(lowering.suspicious, side)
            beyond = self._beyond(e.subs(x, side * a), forms[0][0]) if far is None else (far, at_side[1])
            places[side] = at_side[0] if beyond is None else self.b.op("select", *beyond, at_side[0])
        if parity:
            zeros += [z.mirrored() for z in zeros if z.position]
        return self.patching.patched(name, e, self._both(places, parity), zeros, span, parity, careful)

    def _reflected(
        self, name: str, e: Expr, span: tuple[Expr, Expr], form: tuple[HalfLine, dict[str, Any]], r: Reflection
    ) -> int:
        """What decays, on both sides, and what the other side adds to it or takes it from."""
        b, (line, options) = self.b, form
        lowering = HalfLineLowering(b, line, arithmetic=self.arithmetic, **options)
        place = lowering.element(line.reduced(e.subs(x, r.side * a)))
        below = b.op("lt", self.x, b.constant(0))

        def onsides_of(at_side: Expr, beyond: Expr) -> int:
            chosen = (at_side, beyond) if r.side == -1 else (beyond, at_side)
            return b.op("select", below, *map(b.constant, chosen))

        if r.degree:
            away = self.x if r.side == -1 else b.op("neg", self.x)
            added = b.op("mul", b.constant(r.coefficient), b.op("at_least", away, b.constant(0)))
        else:
            added = onsides_of(Integer(0), r.coefficient)
        node, scale = b.nodes[place], Integer(2) ** -self.arithmetic.lift
        if r.sign == -1 and node.operation == "mul" and b.value_of(node.operands[1]) == scale:
            place = b.op("mul", node.operands[0], onsides_of(scale, -scale))
        elif r.sign == -1:
            place = b.op("mul", place, onsides_of(Integer(1), Integer(-1)))
        zeros = zeros_of(lowering.suspicious, r.side)
        return self.patching.patched(name, e, b.op("add", place, added), zeros, span, 0, lowering.careful)

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

    def _note(self, name: str, lowering: HalfLineLowering) -> None:
        """What was approximated, for the proof."""
        if lowering.quotients:
            self.stable.quotients.setdefault(name, []).extend(lowering.quotients)

    def _reflection(
        self, name: str, e: Expr, sides: tuple[int, ...], form: tuple[HalfLine, dict[str, Any]]
    ) -> tuple[dict[int, int], list[Zero]] | None:
        """f(x) = c·aᵈ ± f(−x), as σ(a) = 1 − σ(−a): one side computed from the other where that is shorter and nothing
        cancels; the places of both sides and the zeros of the other one, or None. In pairs only with d = 0."""
        line, options = form
        if len(sides) < 2 or not self.arithmetic.reflects:
            return None
        elements = {side: line.reduced(e.subs(x, side * a)) for side in sides}
        for side, sign in product(sides, (1, -1)):
            term = single_term(line, elements[side] - sign * elements[-side])
            if term is None or (term[1] and self.arithmetic.paired):
                continue
            start = len(self.b.nodes)
            first, second = (HalfLineLowering(self.b, line, arithmetic=self.arithmetic, **options) for _ in range(2))
            other, before = first.element(elements[-side]), len(self.b.nodes)
            second.element(elements[side])
            is_shorter = len(self.b.nodes) - before >= SHORTER
            if is_shorter and not zeros_of(second.suspicious, side) and _outweighs(*term, line, elements[-side]):
                self._note(name, first)
                return {-side: other, side: self._mirrored(other, sign, *term)}, zeros_of(first.suspicious, -side)
            self.b.back_to(start)
        return None

    def _mirrored(self, other: int, sign: int, coefficient: Expr, degree: int) -> int:
        """c·aᵈ ± what the other side is."""
        b, c = self.b, self.b.constant(coefficient)
        part = b.op("within", other, b.constant(abs(coefficient))) if self.arithmetic.paired else other
        term = c if not degree else b.op("abs", self.x) if coefficient == 1 else b.op("mul", c, b.op("abs", self.x))
        return b.op("add" if sign == 1 else "sub", term, part)

    def _both(self, places: dict[int, int], parity: int) -> int:
        b = self.b
        if parity == -1:
            return b.op("mul", b.op("copysign", b.constant(1), self.x), places[1])
        if len(places) == 1:
            return next(iter(places.values()))
        return b.op("select", b.op("lt", self.x, b.constant(0)), places[-1], places[1])


def _limit(e: Expr, side: int) -> Value | None:
    """The limit at ±∞, if one is proven."""
    try:
        return limit_at_infinity(e, side)
    except (Unsupported, ValueError, ArithmeticError):
        return None


def _leads_to(steps: Program, name: str, side: int, limit: Value, arithmetic: Arithmetic) -> bool:
    """Whether a program gives the limit at ±∞, as far as exact steps tell that lose what is below every float."""
    try:
        with flint.ctx.workprec(max(200, 2 * arithmetic.gone)):
            found = steps.enclose(side * arb.pos_inf(), least=arithmetic.range[0])[name]
    except (ValueError, ArithmeticError):
        return False
    if limit.ball is None:
        return bool(found == (arb.pos_inf() if limit.exact == sympy.oo else arb.neg_inf()))
    allowed = abs(limit.ball) * arb(2) ** (-arithmetic.tolerance // 2) + arb(2) ** -arithmetic.compared[0]
    return bool(abs(found - limit.ball) <= allowed)


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


def _outweighs(c: Expr, degree: int, line: HalfLine, element: Any) -> bool:
    """Whether an element is at most ⅔ of c·aᵈ from 0 on, as far as can be seen at many points."""
    function = ball_function(element.as_expr().xreplace(line.definitions()), (a,))
    with flint.ctx.workprec(400):
        most = 2 * abs(enclose(c, {}, digits=60)) / 3
        points = [arb(2) ** (arb(k) / 4) for k in range(-80, 40)]
        return all(bool(abs(function(point)) < most * point**degree) for point in points)


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
        kinds = (stable.patches, stable.tables, stable.quotients)
        proven = {name: [one for kind in kinds for one in kind.get(name, ())] for name in given}
        stable.proved_at = prove(stable.program, given, proven, arithmetic, factors)
    except (ValueError, ArithmeticError, NotDecaying) as reason:  # what is not proved is not used
        return _unchanged(given, str(reason), factors)
    return stable


def assembled(expressions: Mapping[str, Expr], arithmetic: Arithmetic) -> Stable:
    """The program as it is before its steps become pairs: part of a larger one, which is proved as a whole."""
    return _Assembly(expressions, replace(arithmetic, quotients=False), frozenset()).program()


def _unchanged(expressions: Mapping[str, Expr], why: str, factors: Mapping[str, Sequence[str]] | None) -> Stable:
    """Everything as it is written, branches as selects; raises :class:`Unsupported` naming what no target computes."""
    b = Builder(["x"])
    lowering = Lowering(b, (x,))
    given, nan = b.input("x"), b.op("eq", b.input("x"), b.input("x"))
    outputs = {name: b.op("select", nan, lowering.lower(e), given) for name, e in expressions.items()}
    return Stable(multiplied(b.finish(outputs), factors or {}), as_written=dict.fromkeys(expressions, why))
