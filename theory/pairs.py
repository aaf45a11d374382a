"""A program in which only the last step rounds: every quantity that matters is carried as an unevaluated sum hi + lo.

A float64 result within one ULP leaves half an ULP for everything before its last rounding, and one rounded step on the
way may cost that much by itself. :func:`paired` therefore takes a straight-line program and replaces its steps by
error-free ones (Dekker 1971, Knuth's two-sum, products by fused multiply-add), with elementary functions that return
two floats. Not everywhere: a backward pass bounds how much a rounding of each step can change the outputs, relative to
them; below :data:`NEGLIGIBLE` roundings the step is left as it is (the high terms of a polynomial, a decaying term
beside a lasting one).

In exact arithmetic every rounding error is 0, so the program that comes out still equals its formula exactly, and the
proof in balls (:mod:`.proof`) is run on it. The high parts are what the program would have computed by itself: where
they become infinite the low ones are dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import sympy

from .arithmetic import Arithmetic
from .compensated import is_power_of_two, nearest_float
from .lowering import Builder, Node, Program, Rest
from .ranges import Interval, absolute, interval

#: A step whose rounding changes an output by less than this share of a rounding of the output itself is rounded.
NEGLIGIBLE = 1 / 4
#: Results beyond may be infinite; a low part is dropped where it is not below.
LARGE = sympy.Integer(2) ** 1000

#: The largest float64.
LARGEST = sympy.Integer(2) ** 1024 - sympy.Integer(2) ** 971

#: Elementary functions that take a pair and return one.
OF_PAIRS = ("log1p", "log1p_unit", "erf", "near_erf", "erfcx")
#: Those that return a pair, given the high part; what the low part adds is f′(hi)·lo.
OF_HIGH = ("exp", "lifted_exp", "exp_mantissa", "decaying_expm1", "atan")
#: Likewise; of a float, and where the result is rounded at once, the plain function is as good.
OF_ARGUMENTS = ("sin", "cos")
#: Powers of two, and what a result is raised by: exact as they are.
_POWERS = ("power_below", "inverse_power", "exponent_of", "exp_exponent")
#: Up to here erf is an odd polynomial.
NEAR_ERF = 0.5
_COMPARISONS = ("lt", "le", "eq", "and", "or", "not")


@dataclass(frozen=True)
class Pair:
    """hi + lo in the new program; ``lo`` is None where hi is all; ``wild``: lo may be NaN where hi is infinite."""

    hi: int
    lo: int | None = None
    wild: bool = False


def paired(program: Program, arithmetic: Arithmetic) -> Program:
    """The same function of the same inputs, every output rounded once and a little."""
    return _Pairing(program, arithmetic).program()


class _Pairing:
    def __init__(self, program: Program, arithmetic: Arithmetic) -> None:
        self.given, self.nodes, self.arithmetic = program, program.nodes, arithmetic
        self.b = Builder(program.inputs)
        self.ranges: list[Interval] = []
        for node in self.nodes:
            known = self._decaying(node) or self._mantissa(node)
            self.ranges.append(known or interval(node, [self.ranges[o] for o in node.operands]))
        #: arguments of exponentials that are m·2ᵏ; step -> its m, for steps that are
        self.parted = {node.operands[0] for node in self.nodes if node.operation == "exp_mantissa"}
        self.split = {node.operands[0]: k for k, node in enumerate(self.nodes) if self._is_mantissa(node)}
        count = len(self.nodes)
        self.weights, self.slopes = [0.0] * count, [0.0] * count
        self.as_pair, self.as_rounded = [False] * count, [False] * count
        self.pairs: dict[int, Pair] = {}
        self.rounded: dict[int, int] = {}
        self.inverses: dict[int, Pair] = {}
        self._weigh()

    def _decaying(self, node: Node) -> Interval | None:
        """v·exp(−cv) ≤ 1/(ec) for v ≥ 0: more than the ranges of its factors say."""
        if node.operation == "mul":
            for v, decay in (node.operands, node.operands[::-1]):
                rate = self._rate(decay, v)
                if rate and self.ranges[v][0] >= 0:
                    return (0.0, 1 / (2.718 * rate))
        return None

    def _mantissa(self, node: Node) -> Interval | None:
        """v over the power of two below it; an infinite v stays infinite."""
        if self._is_mantissa(node):
            low, high = self.ranges[node.operands[0]]
            return (-4.0 * (low < 0), 4.0) if -math.inf < low and high < math.inf else None
        return None

    def _is_mantissa(self, node: Node) -> bool:
        return node.operation == "mul" and self.nodes[node.operands[1]].operation == "inverse_power"

    def _rate(self, place: int, v: int) -> float:
        """c of exp(−cv) ≤ 1, as it is or lowered from 2ᴸexp(−cv); 0 for anything else."""
        node = self.nodes[place]
        if node.operation == "mul" and self.nodes[node.operands[0]].operation == "lifted_exp":
            lift, scale = self.nodes[self.nodes[node.operands[0]].operands[1]], self.nodes[node.operands[1]]
            if scale.operation == "constant" and scale.leaf == sympy.Integer(2) ** -lift.leaf:
                return self._slope(self.nodes[node.operands[0]].operands[0], v)
        return self._slope(node.operands[0], v) if node.operation == "exp" else 0.0

    def _slope(self, place: int, v: int) -> float:
        """c of a step −cv or (−v)c, else 0."""
        node = self.nodes[place]
        if place == v:
            return -1.0
        if node.operation == "neg":
            return -self._slope(node.operands[0], v)
        if node.operation == "mul" and self.nodes[node.operands[1]].operation == "constant":
            return self._slope(node.operands[0], v) * self.ranges[node.operands[1]][0]
        if node.operation == "mul" and self.nodes[node.operands[0]].operation == "constant":
            return self._slope(node.operands[1], v) * self.ranges[node.operands[0]][0]
        return 0.0

    # ---------------------------------------------------------------------------------------------------------- weights

    def _weigh(self) -> None:
        """From the outputs back: how much of an output is lost with a rounding of each step, and who needs its pair.

        ``weights`` bounds |∂ log output/∂ log step|, ``slopes`` |∂ log output/∂ step|: the one is carried through
        products, the other through sums whose terms cancel.
        """
        for place in self.given.outputs.values():
            self.weights[place], self.slopes[place], self.as_rounded[place] = 1.0, math.inf, True
        for place in reversed(range(len(self.nodes))):
            node = self.nodes[place]
            least, most = absolute(self.ranges[place])
            weight = self.weights[place] = min(self.weights[place], _times(self.slopes[place], most))
            slope = min(self.slopes[place], weight / least if least > 0 else math.inf)
            if node.operation in _COMPARISONS:
                continue
            passes = self._passes(place)
            for position, operand in enumerate(node.operands):
                if self._only_says(node.operation, position) or self.nodes[operand].operation in _POWERS:
                    continue
                steeper = self._steeper(place, position, slope)
                share = min(
                    _times(weight, self._share(place, position)), _times(steeper, absolute(self.ranges[operand])[1])
                )
                if _times(steeper, self._size_before(operand)) > NEGLIGIBLE:
                    self.as_pair[place] = self.as_pair[operand] = True
                self.weights[operand] = max(self.weights[operand], share)
                self.slopes[operand] = max(self.slopes[operand], steeper)
                if share > NEGLIGIBLE:
                    wants_pair = self.as_pair[place] or (self._matters(place) and position not in passes)
                    self.as_pair[operand] |= wants_pair
                    self.as_rounded[operand] |= self.as_rounded[place] and position in passes

    def _size_before(self, place: int) -> float:
        """Of a difference t − c within a bound, |t|, to which t's rounding is relative; 0 where t is exact."""
        node = self.nodes[place]
        difference = self.nodes[node.operands[0]] if node.operation == "within" else node
        if node.operation != "within" or difference.operation != "sub":
            return 0.0
        if self.nodes[difference.operands[0]].operation == "input":
            return 0.0
        return sum(absolute(self.ranges[o])[1] for o in (difference.operands[1], node.operands[1]))

    def _only_says(self, operation: str, position: int) -> bool:
        """Whether an operand is no quantity: a condition, an exponent."""
        return (operation, position) in (("select", 0), ("raised", 1))

    def _matters(self, place: int) -> bool:
        return self.weights[place] > NEGLIGIBLE

    def _passes(self, place: int) -> tuple[int, ...]:
        """Operands that this step hands on without a rounding: a rounded one gives a rounded result."""
        node = self.nodes[place]
        match node.operation:
            case "select":
                return (1, 2)
            case "neg" | "within" | "raised":
                return (0,)
            case "mul" if self._scales(node.operands[0]):
                return (1,)
            case "mul" | "div" if self._scales(node.operands[1]):
                return (0,)
        return ()

    def _scales(self, place: int) -> bool:
        """Whether the step is a power of two, or ± one."""
        node = self.nodes[place]
        if node.operation == "copysign":
            return self._scales(node.operands[0])
        if node.operation in _POWERS:
            return True
        return node.operation == "constant" and is_power_of_two(node.leaf)

    def _steeper(self, place: int, position: int, slope: float) -> float:
        """A bound of |∂ log output/∂ operand|, given that of the step."""
        node = self.nodes[place]
        match node.operation:
            case "add" | "sub" | "neg" | "select" | "within" | "with_rest":
                return slope
            case "mul" if node.operands[0] != node.operands[1]:
                return _times(slope, absolute(self.ranges[node.operands[1 - position]])[1])
        return math.inf

    def _share(self, place: int, position: int) -> float:
        """A bound of ∂ log result/∂ log operand."""
        node = self.nodes[place]
        match node.operation:
            case "add" | "sub":
                return self._share_of_sum(place, position)
            case "mul" if node.operands[0] == node.operands[1]:
                return 2.0
            case "exp" | "lifted_exp" | "exp_mantissa" | "sin" | "cos":
                return math.inf
            case "sqrt":
                return 0.5
        return 1.0

    def _share_of_sum(self, place: int, position: int) -> float:
        node = self.nodes[place]
        first, second = (self.ranges[o] for o in node.operands)
        if node.operation == "sub":
            second = (-second[1], -second[0])
        part = absolute((first, second)[position])[1]
        least = absolute(self.ranges[place])[0]
        ratio = part / least if least > 0 and part < math.inf else math.inf
        same_sign = (first[0] >= 0 and second[0] >= 0) or (first[1] <= 0 and second[1] <= 0)
        return min(ratio, 1.0) if same_sign else ratio

    # --------------------------------------------------------------------------------------------------------- emission

    def program(self) -> Program:
        """Every step in order, as a pair, rounded once, or as it is."""
        for place, node in enumerate(self.nodes):
            if self.as_pair[place]:
                self.pairs[place] = self._pair(place, node)
                if self.as_rounded[place]:  # a scaled result may be subnormal, and its low part gone
                    passed = self._passes(place)
                    self.rounded[place] = self._rounded(place, node) if passed else self._sum(self.pairs[place])
            elif self.as_rounded[place]:
                self.rounded[place] = self._rounded(place, node)
            else:
                self.pairs[place] = Pair(self._plain(node))
        return self.b.finish({name: self.rounded[place] for name, place in self.given.outputs.items()})

    def _hi(self, place: int) -> int:
        return self.pairs[place].hi if place in self.pairs else self.rounded[place]

    def _of(self, place: int) -> Pair:
        return self.pairs.get(place) or Pair(self.rounded[place])

    def _plain(self, node: Node) -> int:
        match node.operation:
            case "input":
                return self.b.input(node.leaf)
            case "constant":
                return self.b.constant(node.leaf)
            case "within":
                return self._hi(node.operands[0])
            case "with_rest":
                return self.b.op("add", *map(self._hi, node.operands))
            case "div" if self.nodes[node.operands[1]].operation != "constant":
                return self.b.op("mul", self._hi(node.operands[0]), self._inverse(node.operands[1]).hi)
            case "exp_mantissa":
                return self.b.op("high", self._parts(node))
            case "exp_exponent":
                return self.b.op("exponent", self._parts(node))
            case "exp" if node.operands[0] in self.parted:
                parts = self._parts(node)
                return self.b.op("mul", self.b.op("high", parts), self._power_of(parts))
        return self.b.op(node.operation, *map(self._hi, node.operands))

    def _parts(self, node: Node) -> int:
        """The mantissa of an exponential, as high and low, and its exponent."""
        return self.b.op("paired_parted_exp", self._hi(node.operands[0]))

    def _power_of(self, parts: int) -> int:
        return self.b.op("paired_power", self.b.op("exponent", parts))

    def _sum(self, pair: Pair) -> int:
        """hi + lo, rounded."""
        return pair.hi if pair.lo is None else self.b.op("add", pair.hi, self._tame(pair.lo, pair.wild))

    def _tame(self, lo: int, wild: bool) -> int:
        """lo, and 0 where that is no number or infinite."""
        if not wild:
            return lo
        b = self.b
        return b.op("select", b.op("lt", b.op("abs", lo), b.constant(LARGE)), lo, b.constant(0))

    def _is_wild(self, *places: int) -> bool:
        known = (self.pairs[p].wild for p in places if p in self.pairs)
        return any(known) or any(not absolute(self.ranges[p])[1] < 1e300 for p in places)

    def _rounded(self, place: int, node: Node) -> int:
        """The step's result, its last operation the only one that rounds visibly."""
        b = self.b
        match node.operation:
            case "select":
                return b.op("select", self._hi(node.operands[0]), *(self._once(o) for o in node.operands[1:]))
            case "neg":
                return b.op("neg", self._once(node.operands[0]))
            case "within":
                return self._once(node.operands[0])
            case "mul" | "div" | "raised" if self._passes(place):
                (position,) = self._passes(place)
                factors = list(node.operands)
                places = [self._once(o) if k == position else self._hi(o) for k, o in enumerate(factors)]
                return b.op(node.operation, *places)
            case "mul":
                first, second = node.operands
                wild = self._is_wild(place, first, second)
                return (
                    self._by_distance(first, self._of(second), second)
                    or self._by_distance(second, self._of(first), first)
                    or self._rounded_product(self._of(first), self._of(second), wild)
                )
            case "div":
                above, below = node.operands
                inverse = self._inverse(below)
                if self._of(above).hi == b.constant(1):
                    return self._sum(inverse)
                wild = self._is_wild(place, *node.operands) or inverse.wild
                return self._by_distance(above, inverse, place) or self._rounded_product(self._of(above), inverse, wild)
            case operation if operation in OF_ARGUMENTS and self._of(node.operands[0]).lo is None:
                return self.b.op(operation, self._hi(node.operands[0]))
        return self._sum(self._pair(place, node))

    def _by_distance(self, x: int, q: Pair, factor: int) -> int | None:
        """|x|·(hi + lo) for a bounded factor: only ∞·lo could be no number, so that |x| is held below it there."""
        b = self.b
        if self.nodes[x].operation != "abs" or self.nodes[self.nodes[x].operands[0]].operation != "input":
            return None
        bounded = factor != x and self._bound(factor, x) < 2.0**40
        if q.lo is None or q.wild or not bounded:
            return None
        finite = b.op("at_most", self._hi(x), b.constant(LARGEST))
        return b.op("fma", self._hi(x), q.hi, b.op("mul", finite, q.lo))

    def _bound(self, factor: int, x: int) -> float:
        """Of the factor of x: a step itself, or the inverse by which a quotient x/v multiplies."""
        node = self.nodes[factor]
        if node.operation == "div" and node.operands[0] == x:
            least = absolute(self.ranges[node.operands[1]])[0]
            return 1 / least if least else math.inf
        return absolute(self.ranges[factor])[1]

    def _once(self, place: int) -> int:
        if self.nodes[place].operation == "constant":
            return self.b.constant(self.nodes[place].leaf)
        return self.rounded[place] if place in self.rounded else self._sum(self.pairs[place])

    def _rounded_product(self, p: Pair, q: Pair, wild: bool) -> int:
        """Rounded once; ``wild``: what is beyond the range must not spoil the high part."""
        b = self.b
        lo = None if q.lo is None else b.op("mul", p.hi, q.lo)
        if p.lo is not None:
            lo = b.op("mul", p.lo, q.hi) if lo is None else b.op("fma", p.lo, q.hi, lo)
        return b.op("mul", p.hi, q.hi) if lo is None else b.op("fma", p.hi, q.hi, self._tame(lo, wild))

    # ------------------------------------------------------------------------------------------------------------ pairs

    def _pair(self, place: int, node: Node) -> Pair:
        b, operands = self.b, node.operands
        wild = self._is_wild(place, *operands)
        given = [self._of(o) for o in operands]
        match node.operation:
            case "constant":
                return self._constant(node.leaf)
            case "select":
                return self._selected(self._hi(operands[0]), given[1], given[2])
            case "neg":
                return _negative(b, given[0])
            case "within":
                return self._exact_difference(operands) or given[0]
            case "with_rest" if given[0].lo is None:
                return self._renormalised(given[0].hi, given[1].hi)
            case "with_rest":
                rest = self._added(Pair(given[0].lo), Pair(given[1].hi), None, wild)  # type: ignore[arg-type]
                total = self._renormalised(given[0].hi, rest.hi)
                assert total.lo is not None
                assert rest.lo is not None
                return Pair(total.hi, b.op("add", total.lo, rest.lo))
            case "abs" | "at_most" | "at_least" if given[0].lo is not None:
                return self._held(node.operation, given[0], [p.hi for p in given[1:]])
            case "add" | "sub":
                second = given[1] if node.operation == "add" else _negative(b, given[1])
                return self._added(given[0], second, operands, wild)
            case "mul" | "div" | "raised" if self._passes(place):
                (position,) = self._passes(place)
                lo, hi = given[position].lo, b.op(node.operation, *(p.hi for p in given))
                if lo is None:
                    return Pair(hi, None, wild)
                parts = (lo, given[1].hi) if position == 0 else (given[0].hi, lo)
                return Pair(hi, b.op(node.operation, *parts), wild)
            case "mul":
                return self._product(given[0], given[1], wild)
            case "div":
                inverse = self._inverse(operands[1])
                if given[0].hi == b.constant(1):
                    return inverse
                return self._product(given[0], inverse, wild or inverse.wild)
            case "sqrt":
                return self._root(given[0], wild)
            case operation if operation in OF_PAIRS + OF_ARGUMENTS or operation in OF_HIGH:
                return self._function(node, given, wild)
        return Pair(self._plain(node))

    def _constant(self, value: sympy.Expr) -> Pair:
        """A constant and what its float misses."""
        hi = nearest_float(value, self.arithmetic)
        exact = value - sympy.Rational(hi.numerator, hi.denominator) == 0
        return Pair(self.b.constant(value), None if exact else self.b.constant(Rest(value)))

    def _exact_difference(self, operands: tuple[int, ...]) -> Pair | None:
        """x − c for x so close to the float c that no digit is lost (Sterbenz): hi alone."""
        difference, bound = self.nodes[operands[0]], self.nodes[operands[1]]
        if difference.operation == "sub" and self.nodes[difference.operands[0]].operation == "input":
            centre = self.nodes[difference.operands[1]]
            if centre.operation == "constant" and abs(centre.leaf) >= 2 * bound.leaf:
                return Pair(self._hi(operands[0]))
        return None

    def _renormalised(self, hi: int, lo: int) -> Pair:
        """hi + lo for |lo| below the spacing of hi, which may be 0."""
        b = self.b
        total = b.op("add", hi, lo)
        return Pair(total, b.op("sub", lo, b.op("sub", total, hi)))

    def _selected(self, condition: int, p: Pair, q: Pair) -> Pair:
        b = self.b
        hi = b.op("select", condition, p.hi, q.hi)
        if p.lo is None and q.lo is None:
            return Pair(hi, None, p.wild or q.wild)
        los = (b.constant(0) if pair.lo is None else pair.lo for pair in (p, q))
        return Pair(hi, b.op("select", condition, *los), p.wild or q.wild)

    def _held(self, operation: str, p: Pair, ends: list[int]) -> Pair:
        """|hi + lo|, or that held at a float."""
        b, zero = self.b, self.b.constant(0)
        assert p.lo is not None
        if operation == "abs":
            return Pair(b.op("abs", p.hi), b.op("select", b.op("lt", p.hi, zero), b.op("neg", p.lo), p.lo), p.wild)
        (end,) = ends
        beyond = b.op("lt", end, p.hi) if operation == "at_most" else b.op("lt", p.hi, end)
        return Pair(b.op("select", beyond, end, p.hi), b.op("select", beyond, zero, p.lo), p.wild)

    def _added(self, p: Pair, q: Pair, operands: tuple[int, ...] | None, wild: bool) -> Pair:
        """The sum; ``operands`` are the places whose ranges say which is the larger."""
        b = self.b
        sizes = [absolute(self.ranges[o]) for o in operands] if operands else [(0.0, math.inf)] * 2
        if b.value_of(p.hi) == 0 or b.value_of(q.hi) == 0:
            return q if b.value_of(p.hi) == 0 else p
        hi = b.op("add", p.hi, q.hi)
        if sizes[1][0] >= sizes[0][1]:
            p, q, sizes = q, p, sizes[::-1]
        if sizes[0][0] >= sizes[1][1]:  # the first is never the smaller
            error = b.op("sub", q.hi, b.op("sub", hi, p.hi))
        else:
            back = b.op("sub", hi, p.hi)
            error = b.op("add", b.op("sub", p.hi, b.op("sub", hi, back)), b.op("sub", q.hi, back))
        for lo in (p.lo, q.lo):
            error = error if lo is None else b.op("add", error, lo)
        return Pair(hi, error, wild)

    def _product(self, p: Pair, q: Pair, wild: bool) -> Pair:
        b = self.b
        hi = b.op("mul", p.hi, q.hi)
        lo = b.op("fma", p.hi, q.hi, b.op("neg", hi))
        if q.lo is not None:
            lo = b.op("fma", p.hi, q.lo, lo)
        if p.lo is not None:
            lo = b.op("fma", p.lo, q.hi, lo)
        return Pair(hi, lo, wild)

    def _inverse(self, place: int) -> Pair:
        """1/v by one division, v = Π factors: one for each factor."""
        if place not in self.inverses:
            node = self.nodes[place]
            if place in self.split:
                self.inverses[place] = self._shifted(self._inverse(self.split[place]), self._shift_of(place))
            elif self._is_mantissa(node):
                v, shift = self._of(node.operands[0]), self._shift_of(node.operands[0])
                self.inverses[place] = self._inverse_of(self._shifted(v, shift), place)
            elif node.operation == "constant":
                self.inverses[place] = self._constant(1 / node.leaf)
            elif node.operation == "mul" and not any(self.nodes[o].operation == "constant" for o in node.operands):
                first, second = (self._inverse(o) for o in node.operands)
                self.inverses[place] = self._product(first, second, first.wild or second.wild)
            else:
                self.inverses[place] = self._inverse_of(self._of(place), place)
        return self.inverses[place]

    def _shift_of(self, place: int) -> int:
        """1/P for the power of two below a step."""
        return self.b.op("inverse_power", self.b.op("power_below", self._hi(place)))

    def _shifted(self, v: Pair, power: int) -> Pair:
        b = self.b
        return Pair(b.op("mul", v.hi, power), None if v.lo is None else b.op("mul", v.lo, power), v.wild)

    def _inverse_of(self, v: Pair, place: int) -> Pair:
        """1/(hi + lo): r = 1/hi, r + r·(1 − r·(hi + lo))."""
        b = self.b
        r = b.op("div", b.constant(1), v.hi)
        minus = b.op("neg", v.hi)
        error = b.op("fma", minus, r, b.constant(1))
        if v.lo is not None:
            error = b.op("fma", b.op("neg", v.lo), r, error)
        wild = self._is_wild(place) or not absolute(self.ranges[place])[0] > 1e-300
        return Pair(r, b.op("mul", r, error), wild)

    def _root(self, v: Pair, wild: bool) -> Pair:
        """√(hi + lo): s + (hi − s² + lo)/(2s)."""
        b = self.b
        s = b.op("sqrt", v.hi)
        rest = b.op("fma", b.op("neg", s), s, v.hi)
        rest = rest if v.lo is None else b.op("add", rest, v.lo)
        return Pair(s, b.op("div", rest, b.op("add", s, s)), True)

    def _narrowed(self, node: Node) -> str:
        """The operation, or a cheaper one for the arguments that occur."""
        low, high = self.ranges[node.operands[0]]
        if node.operation == "log1p" and low >= 0 and high <= 1:
            return "log1p_unit"
        return "near_erf" if node.operation == "erf" and max(-low, high) <= NEAR_ERF else node.operation

    def _function(self, node: Node, given: list[Pair], wild: bool) -> Pair:
        b, argument, operation = self.b, given[0], self._narrowed(node)
        if operation in OF_PAIRS + OF_ARGUMENTS:
            both = b.op(f"paired_{operation}", argument.hi, b.constant(0) if argument.lo is None else argument.lo)
            return Pair(b.op("high", both), b.op("low", both), wild)
        hi, lo = self._parts_of_high(node, argument.hi, [p.hi for p in given[1:]])
        if argument.lo is None:
            return Pair(hi, lo, wild)
        slope = _SLOPES[operation](b, hi, argument.hi)
        return Pair(hi, b.op("fma", slope, argument.lo, lo), wild)

    def _parts_of_high(self, node: Node, hi: int, others: list[int]) -> tuple[int, int]:
        """High and low part at the high part of the argument."""
        b = self.b
        if node.operation == "exp_mantissa" or (node.operation == "exp" and node.operands[0] in self.parted):
            both = self._parts(node)
            if node.operation == "exp":
                power = self._power_of(both)
                return b.op("mul", b.op("high", both), power), b.op("mul", b.op("low", both), power)
        else:
            both = b.op(f"paired_{node.operation}", hi, *others)
        return b.op("high", both), b.op("low", both)


def _negative(b: Builder, pair: Pair) -> Pair:
    return Pair(b.op("neg", pair.hi), None if pair.lo is None else b.op("neg", pair.lo), pair.wild)


def _times(p: float, q: float) -> float:
    """p·q with 0·∞ = 0."""
    return 0.0 if p == 0 or q == 0 else p * q


def _inverse_square(b: Builder, u: int) -> int:
    """1/(1 + u²)."""
    return b.op("div", b.constant(1), b.op("fma", u, u, b.constant(1)))


#: f′ at the high part, to a few digits: (builder, f(hi), hi) → place.
_SLOPES = {
    "exp": lambda b, f, u: f,
    "lifted_exp": lambda b, f, u: f,
    "exp_mantissa": lambda b, f, u: f,
    "decaying_expm1": lambda b, f, u: b.op("add", f, b.constant(1)),
    "atan": lambda b, f, u: _inverse_square(b, u),
}
