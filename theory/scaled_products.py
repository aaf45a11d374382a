"""Programs whose results are multiplied by floats of any size, rounded once: dy·f′(x), dy·a·g′(b), a·g(b).

A result may be within the floats although f′ alone is not: e⁻⁹⁰⁰·10³⁰⁰. Each output is therefore taken apart into
factors, through branches and signs; a factor that may be near the ends of the range is m·2ᵏ, and eʷ is that by
itself. The m are multiplied (in pairs, where that is the arithmetic), the k added, and the last step multiplies by 2ᵏ.
In exact arithmetic m is the factor and k is 0, so that the program still equals its formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import sympy

from .compensated import is_power_of_two
from .lowering import Builder, Node, Program
from .ranges import Interval, absolute, interval

#: What lies between 1/this and this may be a factor as it is.
MODERATE = 2.0**64
#: A factor: the place of what is multiplied, and that of its exponent (None: 0).
Factor = tuple[int, int | None]
#: Steps that are 0 or tiny only where their first operand is.
_VANISH_WITH = ("abs", "neg", "sqrt", "within", "expm1", "decaying_expm1", "log1p", "erf", "atan", "sin", "at_most")


def multiplied(program: Program, factors: Mapping[str, Sequence[str]]) -> Program:
    """Every output times the product of the inputs that ``factors`` has for its name, by ordinary products."""
    names = _names(factors, program)
    nodes, outputs = list(program.nodes), dict(program.outputs)
    places = {node.leaf: k for k, node in enumerate(nodes) if node.operation == "input"}
    places |= {name: len(nodes) + k for k, name in enumerate(names)}
    nodes += [Node("input", (), name) for name in names]
    for output, of in factors.items():
        for place in [*(places[name] for name in of[1:]), outputs[output]] if of else ():
            first = places[of[0]] if outputs[output] == program.outputs[output] else outputs[output]
            nodes.append(Node("mul", (first, place)))
            outputs[output] = len(nodes) - 1
    return Program((*program.inputs, *names), tuple(nodes), outputs)


def scaled(program: Program, factors: Mapping[str, Sequence[str]]) -> Program:
    """The same in mantissas and exponents, for steps in pairs: only the last product leaves the range of the floats."""
    return _Products(program, factors).program()


def _names(factors: Mapping[str, Sequence[str]], program: Program) -> list[str]:
    """The factors that are no inputs yet."""
    return list(dict.fromkeys(name for of in factors.values() for name in of if name not in program.inputs))


class _Products:
    def __init__(self, program: Program, factors: Mapping[str, Sequence[str]]) -> None:
        self.given, self.nodes, self.factors = program, program.nodes, factors
        self.b = Builder([*program.inputs, *_names(factors, program)])
        self.ranges: list[Interval] = []
        for node in self.nodes:
            self.ranges.append(interval(node, [self.ranges[o] for o in node.operands]))
        self.moved: dict[int, int] = {}
        self.taken: dict[tuple[int, bool], Factor] = {}

    def program(self) -> Program:
        outputs = {}
        for name, place in self.given.outputs.items():
            outputs[name] = self.times(place, [self.b.input(factor) for factor in self.factors.get(name, ())])
        return self.b.finish(outputs)

    def times(self, place: int, inputs: list[int]) -> int:
        """The output times the inputs; what guards against NaN stays outermost."""
        b, node = self.b, self.nodes[place]
        if self._is_guard(node):
            test, number, nan = node.operands
            return b.op("select", self.move(test), self.times(number, inputs), self.move(nan))
        if not inputs:
            core, exponent = self.factor(place, alone=True)
            return core if exponent is None else b.op("raised", core, exponent)
        if len(inputs) == 1 and self._is_single(place):
            return self._single(place, inputs[0])
        core, exponent = self.factor(place)
        if exponent is None and self._is_exact(core, len(inputs)):
            return self._spread(core, inputs)
        powers = [b.op("power_below", v) for v in inputs]
        mantissas = [b.op("mul", v, b.op("inverse_power", p)) for v, p in zip(inputs, powers, strict=True)]
        whole = self._product_of(mantissas)
        total = whole if b.value_of(core) == 1 else b.op("mul", core, whole)
        if exponent is None and len(powers) == 1:
            return b.op("mul", total, powers[0])
        exponents = [*(b.op("exponent_of", p) for p in powers), *([] if exponent is None else [exponent])]
        return b.op("raised", total, self._sum_of(exponents))

    def _is_single(self, place: int) -> bool:
        """x, 2ᵏx with k ≥ 0, 0 or a power of two, or a choice of these: one product with a float is all."""
        node = self.nodes[place]
        match node.operation:
            case "select":
                return all(self._is_single(o) for o in node.operands[1:])
            case "mul":
                value, other = (self.nodes[o] for o in node.operands)
                whole = value.operation == "constant" and value.leaf.is_Integer and is_power_of_two(value.leaf)
                return bool(whole and other.operation == "input")
            case "constant":
                return bool(node.leaf == 0 or is_power_of_two(node.leaf))
        return bool(node.operation == "input")

    def _single(self, place: int, factor: int) -> int:
        """That product, 2ᵏ in the factor of either that leaves the range only with the result."""
        b, node = self.b, self.nodes[place]
        match node.operation:
            case "select":
                return b.op(
                    "select", self.move(node.operands[0]), *(self._single(o, factor) for o in node.operands[1:])
                )
            case "mul":
                scale, v = map(self.move, node.operands)
                small = b.op("lt", b.op("abs", v), b.constant(1))
                return b.op(
                    "mul",
                    b.op("select", small, b.op("mul", scale, v), v),
                    b.op("select", small, factor, b.op("mul", scale, factor)),
                )
        return b.op("mul", factor, self.move(place))

    def _product_of(self, places: Sequence[int]) -> int:
        return reduce(lambda p, q: self.b.op("mul", p, q), places)

    def _sum_of(self, places: Sequence[int]) -> int:
        return reduce(lambda p, q: self.b.op("add", p, q), places)

    def _is_guard(self, node: Node) -> bool:
        if node.operation != "select":
            return False
        test, other = self.nodes[node.operands[0]], self.nodes[node.operands[2]]
        return test.operation == "eq" and test.operands == (node.operands[2],) * 2 and other.operation == "input"

    def _is_exact(self, place: int, inputs: int) -> bool:
        """0 or ±1, or a choice of these; with one factor any power of two: one product rounds once by itself."""
        node = self.b.nodes[place]
        if node.operation == "select":
            return all(self._is_exact(o, inputs) for o in node.operands[1:])
        if node.operation != "constant" or inputs > 2:
            return False
        return bool(node.leaf in (0, 1, -1) or (inputs == 1 and is_power_of_two(node.leaf)))

    def _spread(self, place: int, inputs: list[int]) -> int:
        """The inputs times each of the constants."""
        node = self.b.nodes[place]
        if node.operation == "select":
            return self.b.op("select", node.operands[0], *(self._spread(o, inputs) for o in node.operands[1:]))
        first, *others = inputs
        return self._product_of([self.b.op("mul", first, place), *others])

    # ---------------------------------------------------------------------------------------------------------- factors

    def factor(self, place: int, alone: bool = False) -> Factor:
        """A step as m·2ᵏ; ``alone``: nothing multiplies it, and what is no product may be as large as it is."""
        if (place, alone) not in self.taken:
            self.taken[place, alone] = self._factor(place, alone)
        return self.taken[place, alone]

    def _factor(self, place: int, alone: bool) -> Factor:
        b, node = self.b, self.nodes[place]
        if self._is_moderate(place) or (alone and self._is_product_of_inputs(node)):
            return self.move(place), None
        match node.operation:
            case "select":
                (p, k), (q, m) = (self.factor(o, alone) for o in node.operands[1:])
                test = self.move(node.operands[0])
                exponent = None
                if k is not None or m is not None:
                    exponent = b.op("select", test, *(b.constant(0) if e is None else e for e in (k, m)))
                return b.op("select", test, p, q), exponent
            case "neg" | "abs":
                core, exponent = self.factor(node.operands[0], alone)
                return b.op(node.operation, core), exponent
            case "within":
                return self.factor(node.operands[0], alone)
            case "raised":
                core, exponent = self.factor(node.operands[0])
                k = self.move(node.operands[1])
                return core, k if exponent is None else b.op("add", exponent, k)
            case "mul" | "div":
                return self._product(place)
            case "exp" | "lifted_exp":
                return self._exponential(node)
        return (self.move(place), None) if alone else self._split(self.move(place))

    def _is_product_of_inputs(self, node: Node) -> bool:
        return node.operation == "mul" and all(self.nodes[o].operation == "input" for o in node.operands)

    def _split(self, v: int) -> Factor:
        b = self.b
        if b.value_of(v) == 0:
            return v, None
        power = b.op("power_below", v)
        return b.op("mul", v, b.op("inverse_power", power)), b.op("exponent_of", power)

    def _exponential(self, node: Node) -> Factor:
        """eʷ = m·2ᵏ; a lifted one 2ᴸ·m·2ᵏ."""
        b, w = self.b, self.move(node.operands[0])
        exponent = b.op("exp_exponent", w)
        if node.operation == "lifted_exp":
            exponent = b.op("add", exponent, self.move(node.operands[1]))
        return b.op("exp_mantissa", w), exponent

    def _product(self, place: int) -> Factor:
        """A product of many factors; powers of two among its constants cancel."""
        b, above, below = self.b, list[Factor](), list[Factor]()
        constant = self._collect(place, above, below)
        shift = 0
        while abs(constant) >= 2**32 and is_power_of_two(constant):
            constant, shift = constant / 2**32, shift + 32
        while abs(constant) <= sympy.Rational(1, 2**32) and is_power_of_two(constant):
            constant, shift = constant * 2**32, shift - 32
        core = b.constant(constant)
        if above:
            core = b.op("mul", core, self._product_of([p for p, _ in above]))
        for p, _ in below:
            core = b.op("div", core, p)
        exponents = [k for _, k in above if k is not None]
        total = self._sum_of(exponents) if exponents else None
        for k in (k for _, k in below if k is not None):
            total = b.op("sub", b.constant(0) if total is None else total, k)
        if shift:
            total = b.constant(shift) if total is None else b.op("add", total, b.constant(shift))
        return core, total

    def _collect(self, place: int, above: list[Factor], below: list[Factor]) -> sympy.Expr:
        """The factors of a product, and the rational ones multiplied."""
        node = self.nodes[place]
        if node.operation == "constant" and node.leaf.is_Rational:
            return node.leaf
        if node.operation == "neg":
            return -self._collect(node.operands[0], above, below)
        if node.operation in ("mul", "div") and not self._is_moderate(place):
            first = self._collect(node.operands[0], above, below)
            sides = (above, below) if node.operation == "mul" else (below, above)
            second = self._collect(node.operands[1], *sides)
            return first * second if node.operation == "mul" else first / second
        if node.operation == "lifted_exp":
            core, exponent = self._exponential(Node("exp", node.operands[:1]))
            above.append((core, exponent))
            return sympy.Integer(2) ** self.nodes[node.operands[1]].leaf
        above.append(self.factor(place))
        return sympy.Integer(1)

    def _is_moderate(self, place: int) -> bool:
        node = self.nodes[place]
        if node.operation == "mul" and self.nodes[node.operands[1]].operation == "inverse_power":
            return True
        least, most = absolute(self.ranges[place])
        if not most <= MODERATE:
            return False
        return least >= 1 / MODERATE or not self._may_vanish(place)

    def _may_vanish(self, place: int) -> bool:
        """Whether a step that is bounded may be tiny; a sum with a constant is not, unless it is 0."""
        node = self.nodes[place]
        least, _ = absolute(self.ranges[place])
        if least >= 1 / MODERATE:
            return False
        match node.operation:
            case "constant":
                return node.leaf != 0
            case "add" | "sub" | "with_rest":
                return all(self._may_vanish(o) for o in node.operands)
            case "mul":
                return any(self._may_vanish(o) for o in node.operands)
            case "select":
                return any(self._may_vanish(o) for o in node.operands[1:])
            case "cos":
                return False
            case "copysign":
                return self._may_vanish(node.operands[0])
            case operation if operation in _VANISH_WITH:
                return self._may_vanish(node.operands[0])
            case "at_least":
                return all(self._may_vanish(o) for o in node.operands)
            case "erfcx":
                return not absolute(self.ranges[node.operands[0]])[1] <= MODERATE
        return True

    # ----------------------------------------------------------------------------------------------------------- moving

    def move(self, place: int) -> int:
        """A step as it is; 2ᴸeʷ·2⁻ᴸ is eʷ, so that it is the same exponential as one that is parted."""
        if place not in self.moved:
            self.moved[place] = self._move(self.nodes[place])
        return self.moved[place]

    def _move(self, node: Node) -> int:
        b = self.b
        match node.operation:
            case "input":
                return b.input(node.leaf)
            case "constant":
                return b.constant(node.leaf)
            case "lifted_exp":
                scale = sympy.Integer(2) ** self.nodes[node.operands[1]].leaf
                return b.op("mul", b.op("exp", self.move(node.operands[0])), b.constant(scale))
            case "mul":
                first, second = (self.nodes[o] for o in node.operands)
                if first.operation == "lifted_exp" and second.operation == "constant":
                    scale = second.leaf * sympy.Integer(2) ** self.nodes[first.operands[1]].leaf
                    return b.op("mul", b.op("exp", self.move(first.operands[0])), b.constant(scale))
        return b.op(node.operation, *map(self.move, node.operands), leaf=node.leaf)
