"""SymPy expressions to target-free straight-line programs.

A :class:`Program` is a list of operations on earlier results: no loops, no branches (a branch is a ``select``), no name
of any target. Equal subexpressions are one node (hash-consing), across all outputs, so that a value and its
derivatives share their work. The same program is printed for every target and can be run in ball arithmetic
(:meth:`Program.enclose`), which is how a rewriting is held against the expression it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy
from flint import arb
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanFalse, BooleanTrue

from .enclosures import ball_function
from .errors import Unsupported

#: Integer powers above this go through ``pow``: repeated squaring would round more often than the library's function.
MOST_MULTIPLIED_POWER = 64


@dataclass(frozen=True)
class Operation:
    """One kind of step: how many operands it takes and its meaning in ball arithmetic."""

    name: str
    arity: int
    ball: Callable[..., Any] | None = None
    #: A harmless operand for the branch that is not taken (``log(1)``, ``1/1``, ``exp(0)``); None where nothing can go
    #: wrong.
    safe: int | None = None


def _compare(decide: Callable[[arb, arb], bool], opposite: Callable[[arb, arb], bool]) -> Callable[[arb, arb], bool]:
    def compare(a: arb, b: arb) -> bool:
        if decide(a, b):
            return True
        if opposite(a, b):
            return False
        raise Unsupported(f"the balls {a} and {b} overlap: the branch is not decided")

    return compare


def _signed(sign_of: arb, magnitude: arb) -> arb:
    return -abs(magnitude) if sign_of < 0 else abs(magnitude)


def _pair_of(function: Callable[..., arb]) -> Callable[..., tuple[arb, arb]]:
    """In exact arithmetic the high part is everything."""
    return lambda *operands: (function(*operands), arb(0))


#: Elementary functions that return two floats, their sum closer to the result than one can be (:mod:`.pairs`).
_PAIRED = tuple(
    Operation(f"paired_{name}", arity, _pair_of(exact))
    for name, arity, exact in (
        ("exp", 1, lambda a: a.exp()),
        ("lifted_exp", 2, lambda a, lift: a.exp() * arb(2) ** lift),
        ("decaying_expm1", 1, lambda a: a.expm1()),
        ("log1p", 2, lambda a, rest: (a + rest).log1p()),
        ("log1p_unit", 2, lambda a, rest: (a + rest).log1p()),  # of an argument known to lie in [0, 1]
        ("erf", 2, lambda a, rest: (a + rest).erf()),
        ("near_erf", 2, lambda a, rest: (a + rest).erf()),  # of an argument known to lie in [−½, ½]
        ("erfcx", 2, lambda a, rest: ((a + rest) ** 2).exp() * (a + rest).erfc()),
        ("atan", 1, lambda a: a.atan()),
        ("sin", 2, lambda a, rest: (a + rest).sin()),
        ("cos", 2, lambda a, rest: (a + rest).cos()),
    )
)

OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("input", 0),
        Operation("constant", 0),
        Operation("minus_infinity", 0, lambda: arb("-inf")),  # what a maximum or a softmax leaves out
        Operation("add", 2, lambda a, b: a + b),
        Operation("sub", 2, lambda a, b: a - b),
        Operation("mul", 2, lambda a, b: a * b),
        Operation("fma", 3, lambda a, b, c: a * b + c),  # rounded once
        Operation("div", 2, lambda a, b: a / b, safe=1),
        Operation("neg", 1, lambda a: -a),
        Operation("abs", 1, lambda a: abs(a)),
        Operation("sqrt", 1, lambda a: a.sqrt(), safe=1),
        Operation("pow", 2, lambda a, b: a**b, safe=1),
        Operation("exp", 1, lambda a: a.exp(), safe=0),
        Operation("lifted_exp", 2, lambda a, lift: a.exp() * arb(2) ** lift),  # of an argument known to be at most 0
        # exp(−a) and exp(−a − rest) for a ≥ 0 as high·(1 + low), the high part lifted
        Operation("split_decay", 2, _pair_of(lambda a, lift: (-a).exp() * arb(2) ** lift)),
        Operation("split_rest_decay", 3, _pair_of(lambda a, rest, lift: (-a - rest).exp() * arb(2) ** lift)),
        # a scaled complementary error function as high + low, and that of a/√2
        Operation("split_erfcx", 1, _pair_of(lambda a: (a * a).exp() * a.erfc())),
        Operation("split_root_two_erfcx", 1, _pair_of(lambda a: (a * a / 2).exp() * (a / arb(2).sqrt()).erfc())),
        Operation("decaying_expm1", 1, lambda a: a.expm1()),  # likewise
        Operation("expm1", 1, lambda a: a.expm1(), safe=0),
        Operation("log", 1, lambda a: a.log(), safe=1),
        Operation("log1p", 1, lambda a: a.log1p(), safe=0),
        Operation("log1p_unit", 1, lambda a: a.log1p()),  # of an argument known to lie in [0, 1]
        # of arguments known to be such that neither they nor the results over- or underflow
        Operation("near_exp", 1, lambda a: a.exp()),
        Operation("near_expm1", 1, lambda a: a.expm1()),
        Operation("near_reciprocal", 1, lambda a: 1 / a, safe=1),
        Operation("sinh", 1, lambda a: a.sinh(), safe=0),
        Operation("cosh", 1, lambda a: a.cosh(), safe=0),
        Operation("tanh", 1, lambda a: a.tanh()),
        Operation("sin", 1, lambda a: a.sin(), safe=0),
        Operation("cos", 1, lambda a: a.cos(), safe=0),
        Operation("tan", 1, lambda a: a.tan(), safe=0),
        Operation("asin", 1, lambda a: a.asin(), safe=0),
        Operation("acos", 1, lambda a: a.acos(), safe=0),
        Operation("atan", 1, lambda a: a.atan()),
        Operation("erf", 1, lambda a: a.erf()),
        Operation("erf_by_decay", 2, lambda a, pair: a.erf()),  # of a ≥ 0 beside the parts of exp(−a²)
        Operation("erfc", 1, lambda a: a.erfc()),
        Operation("erfcx", 1, lambda a: (a * a).exp() * a.erfc()),  # scaled complementary error function
        Operation("at_least", 2, lambda a, b: a.max(b)),  # the larger of the two; NaN stays NaN
        Operation("at_most", 2, lambda a, b: a.min(b)),
        Operation("copysign", 2, lambda magnitude, sign_of: _signed(sign_of, magnitude)),
        Operation("lt", 2, _compare(lambda a, b: a < b, lambda a, b: a >= b)),
        Operation("le", 2, _compare(lambda a, b: a <= b, lambda a, b: a > b)),
        Operation("eq", 2, _compare(lambda a, b: a == b, lambda a, b: a != b)),
        Operation("and", 2, lambda a, b: a and b),
        Operation("or", 2, lambda a, b: a or b),
        Operation("not", 1, lambda a: not a),
        *_PAIRED,
        Operation("paired_parted_exp", 1, lambda a: (a.exp(), arb(0), arb(0))),
        Operation("paired_power", 1, lambda k: arb(2) ** k),
        # eʷ = mantissa·2ᵏ; of v the largest power of two below, its inverse, its exponent; v·2ᵏ. In exact arithmetic
        # the mantissa is everything and k is 0.
        Operation("exp_mantissa", 1, lambda a: a.exp()),
        Operation("exp_exponent", 1, lambda a: arb(0)),
        Operation("power_below", 1, lambda a: arb(1)),
        Operation("inverse_power", 1, lambda a: 1 / a),
        Operation("exponent_of", 1, lambda a: arb(0)),
        Operation("raised", 2, lambda a, k: a * arb(2) ** k),
        Operation("high", 1, lambda pair: pair[0]),
        Operation("low", 1, lambda pair: pair[1]),
        Operation("exponent", 1, lambda parts: parts[2]),
        Operation("split_high", 1, lambda pair: pair[0]),
        Operation("split_low", 1, lambda pair: pair[1]),
        Operation("split_value", 1, lambda pair: pair[0]),  # high·(1 + low)
        Operation("within", 2, lambda a, bound: a),  # |a| ≤ bound is known; no target prints it
        Operation("with_rest", 2, lambda a, rest: a + rest),  # unevaluated: likewise
        Operation("select", 3),  # condition, value where true, value where false
        Operation("cell", 1),  # the number of the cell of a table (the leaf) that holds x
        Operation("entry", 1),  # of that cell: the leaf is the table and the name of a column
    )
}


#: Operations without a limit at ∞.
WAVES = ("sin", "cos", "tan")


@dataclass(frozen=True)
class Node:
    """One step: the operation, the places of its operands in the program, and for a leaf its name or exact value."""

    operation: str
    operands: tuple[int, ...] = ()
    leaf: Any = None


@dataclass(frozen=True)
class Program:
    """A straight-line program: ``nodes`` in order of evaluation, ``outputs`` by name."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: dict[str, int]

    def enclose(self, *values: arb, least: int | None = None) -> dict[str, arb]:
        """Run the program in ball arithmetic: what it computes in exact arithmetic, enclosed.

        Only the branch that is taken is evaluated. With ``least``, as in floats, what is below 2 to minus this is 0 and
        a sine of ∞ is NaN. Raises :class:`Unsupported` where a ball straddles a branch.
        """
        places = dict(zip(self.inputs, values, strict=True))
        done: dict[int, Any] = {}
        bound = None if least is None else arb(2) ** -least

        def run(place: int) -> Any:
            if place not in done:
                value = step(self.nodes[place])
                done[place] = value if bound is None else as_in_floats(self.nodes[place], value)
            return done[place]

        def as_in_floats(node: Node, value: Any) -> Any:
            if node.operation in WAVES and not run(node.operands[0]).is_finite():
                return arb.nan()
            return arb(0) if isinstance(value, arb) and abs(value) < bound else value

        def step(node: Node) -> Any:
            match node.operation:
                case "input":
                    return places[node.leaf]
                case "constant":
                    return constant_ball(node.leaf)
                case "select":
                    return run(node.operands[1] if run(node.operands[0]) else node.operands[2])
                case "cell":
                    return node.leaf.row_of(float(run(node.operands[0])))
                case "entry":
                    table, column = node.leaf
                    return arb(table.column(column)[run(node.operands[0])])
            meaning = OPERATIONS[node.operation].ball
            assert meaning is not None
            return meaning(*map(run, node.operands))

        return {name: run(place) for name, place in self.outputs.items()}

    @cached_property
    def tables(self) -> tuple[Any, ...]:
        """The tables that steps read, in order."""
        return tuple(dict.fromkeys(node.leaf for node in self.nodes if node.operation == "cell"))

    @cached_property
    def operations(self) -> frozenset[str]:
        """The kinds of step that occur."""
        return frozenset(node.operation for node in self.nodes)


class Rest(sympy.Function):  # type: ignore[misc]
    """What a float misses of an exact constant: printed as a number, 0 where the constant itself is exact.

    A second argument is the float, where it is not the nearest one of float64.
    """

    def __neg__(self) -> Rest:
        return Rest(*(-part for part in self.args))


def constant_ball(value: sympy.Expr) -> arb:
    """Enclose an exact constant (a Rational, π, e, √2, …) at the current precision."""
    if isinstance(value, Rest):
        return arb(0)
    if value.is_Rational:
        return arb(int(value.p)) / int(value.q)
    result: arb = ball_function(value, ())()
    return result


class Builder:
    """Collects the nodes of a program; asking twice for the same step gives the same place."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.nodes: list[Node] = []
        self._places: dict[Node, int] = {}
        for name in self.inputs:
            self._place(Node("input", (), name))

    def _place(self, node: Node) -> int:
        if node not in self._places:
            self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return self._places[node]

    def input(self, name: str) -> int:
        """The place of an input."""
        return self._places[Node("input", (), name)]

    def constant(self, value: sympy.Expr | int) -> int:
        """The place of an exact constant; it is rounded once, to the target's format, when printed."""
        return self._place(Node("constant", (), sympy.sympify(value)))

    def value_of(self, place: int) -> sympy.Expr | None:
        """The exact value if the place holds a constant."""
        node = self.nodes[place]
        return node.leaf if node.operation == "constant" else None

    def op(self, operation: str, *operands: int, leaf: Any = None) -> int:
        """The place of ``operation`` on earlier places. Neutral elements are dropped; nothing else is rearranged."""
        simpler = self._neutral(operation, operands)
        return self._place(Node(operation, operands, leaf)) if simpler is None else simpler

    def _neutral(self, operation: str, operands: tuple[int, ...]) -> int | None:
        values = [self.value_of(place) for place in operands]
        match operation, values:
            case "add", [_, other] if other == 0:
                return operands[0]
            case "add", [other, _] if other == 0:
                return operands[1]
            case "sub", [_, other] if other == 0:
                return operands[0]
            case (("mul" | "div"), [_, other]) if other == 1:
                return operands[0]
            case "mul", [other, _] if other == 1:
                return operands[1]
            case "mul", [_, other] if other == -1:
                return self.op("neg", operands[0])
            case "mul", [other, _] if other == -1:
                return self.op("neg", operands[1])
            case "select", _ if operands[1] == operands[2]:
                return operands[1]
            case "neg", [value] if value is not None:
                return self.constant(-value)
            case "neg", _ if self.nodes[operands[0]].operation == "neg":
                return self.nodes[operands[0]].operands[0]
        return None

    def power(self, base: int, exponent: int) -> int:
        """``base**exponent`` for an integer exponent, by repeated squaring."""
        if exponent < 0:
            return self.op("div", self.constant(1), self.power(base, -exponent))
        if exponent == 0:
            return self.constant(1)
        half = self.power(base, exponent // 2)
        square = self.op("mul", half, half) if exponent > 1 else None
        if square is None:
            return base
        return self.op("mul", square, base) if exponent % 2 else square

    def back_to(self, count: int) -> None:
        """Forget every step but the first ``count``: what was tried is not used."""
        for node in self.nodes[count:]:
            del self._places[node]
        del self.nodes[count:]

    def finish(self, outputs: Mapping[str, int]) -> Program:
        """The program for these outputs, without the steps that none of them needs."""
        needed: set[int] = set()
        pending = list(outputs.values())
        while pending:
            place = pending.pop()
            if place not in needed:
                needed.add(place)
                pending.extend(self.nodes[place].operands)
        kept = [place for place in range(len(self.nodes)) if place in needed or self.nodes[place].operation == "input"]
        moved = {old: new for new, old in enumerate(kept)}
        nodes = tuple(
            Node(node.operation, tuple(moved[o] for o in node.operands), node.leaf)
            for node in (self.nodes[place] for place in kept)
        )
        return Program(self.inputs, nodes, {name: moved[place] for name, place in outputs.items()})


_UNARY: dict[type, str] = {
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.sinh: "sinh",
    sympy.cosh: "cosh",
    sympy.tanh: "tanh",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.tan: "tan",
    sympy.asin: "asin",
    sympy.acos: "acos",
    sympy.atan: "atan",
    sympy.erf: "erf",
    sympy.erfc: "erfc",
    sympy.Abs: "abs",
}
_RELATIONS: dict[type, tuple[str, bool]] = {  # relation → operation, and whether the sides change places
    sympy.StrictLessThan: ("lt", False),
    sympy.LessThan: ("le", False),
    sympy.StrictGreaterThan: ("lt", True),
    sympy.GreaterThan: ("le", True),
    sympy.Equality: ("eq", False),
}


class Lowering:
    """Lowers expressions into one builder; ``guard`` is the condition of the branch being lowered, None outside."""

    def __init__(self, builder: Builder, arguments: Iterable[sympy.Symbol]) -> None:
        self.builder = builder
        self.symbols = {symbol: builder.input(str(symbol)) for symbol in arguments}
        self._done: dict[tuple[sympy.Basic, int | None], int] = {}

    def lower(self, expression: sympy.Expr, guard: int | None = None) -> int:
        """The place that holds ``expression``. Raises :class:`Unsupported` naming a node it does not know."""
        key = (expression, guard)
        if key not in self._done:
            self._done[key] = self._lower(expression, guard)
        return self._done[key]

    def _lower(self, e: sympy.Expr, guard: int | None) -> int:
        b = self.builder
        if e in self.symbols:
            return self.symbols[e]
        if e.is_number and not e.has(sympy.Float, sympy.I) and e.is_finite:
            return b.constant(e)
        if e is sympy.S.NegativeInfinity:
            return b.op("minus_infinity")
        match e:
            case sympy.Add():
                return self._sum(e, guard)
            case sympy.Mul():
                return self._product(e, guard)
            case sympy.Pow():
                return self._power(e, guard)
            case sympy.Piecewise():
                return self._piecewise(e, guard)
            case sympy.Max() | sympy.Min():
                operation = "at_least" if isinstance(e, sympy.Max) else "at_most"
                first, *rest = [self.lower(argument, guard) for argument in e.args]
                for place in rest:
                    first = b.op(operation, first, place)
                return first
            case sympy.sign():
                u = self.lower(e.args[0], guard)
                zero = b.constant(0)
                return b.op(
                    "select", b.op("lt", zero, u), b.constant(1), b.op("select", b.op("lt", u, zero), b.constant(-1), u)
                )
        operation_of = _UNARY.get(type(e))
        if operation_of is None:
            raise Unsupported(f"cannot compile {type(e).__name__} in {str(e)[:80]!r}: no kernel operation computes it")
        return self._guarded(operation_of, guard, self.lower(e.args[0], guard))

    def _guarded(self, operation: str, guard: int | None, *operands: int) -> int:
        """The last operand replaced by a harmless one where the branch is not taken."""
        safe = OPERATIONS[operation].safe
        if guard is None or safe is None or self.builder.value_of(operands[-1]) is not None:
            return self.builder.op(operation, *operands)
        place = len(operands) - 1 if operation != "pow" else 0
        kept = self.builder.op("select", guard, operands[place], self.builder.constant(safe))
        return self.builder.op(operation, *operands[:place], kept, *operands[place + 1 :])

    def _sum(self, e: sympy.Expr, guard: int | None) -> int:
        b = self.builder
        terms = sorted(e.args, key=_reading_order)
        total: int | None = None
        for term in terms:
            negative = term.could_extract_minus_sign()
            place = self.lower(-term if negative else term, guard)
            if total is None:
                total = b.op("neg", place) if negative else place
            else:
                total = b.op("sub" if negative else "add", total, place)
        assert total is not None
        return total

    def _product(self, e: sympy.Expr, guard: int | None) -> int:
        b = self.builder
        constants, rest = sympy.Mul(1), []
        for factor in e.args:
            if factor.is_number:
                constants *= factor
            else:
                rest.append(factor)
        above = [f for f in rest if not _is_reciprocal(f)]
        below = [1 / f for f in rest if _is_reciprocal(f)]
        places = [self.lower(f, guard) for f in sorted(above, key=_reading_order)]
        if constants.is_Rational and constants.p in (1, -1) and constants.q != 1:
            below.append(sympy.Integer(constants.q))  # x/6 rounds once, x*(1/6) twice
            constants = sympy.Integer(constants.p)
        top: int | None = None
        for place in places:
            top = place if top is None else b.op("mul", top, place)
        if top is None:
            top = b.constant(constants)
        elif constants != 1:
            top = b.op("mul", b.constant(constants), top)
        for factor in sorted(below, key=_reading_order):
            top = self._guarded("div", guard, top, self.lower(factor, guard))
        return top

    def _power(self, e: sympy.Expr, guard: int | None) -> int:
        b = self.builder
        base, exponent = e.args
        if base is sympy.E:
            return self._guarded("exp", guard, self.lower(exponent, guard))
        if exponent.is_Integer and abs(exponent) <= MOST_MULTIPLIED_POWER:
            if exponent < 0:
                return self._guarded("div", guard, b.constant(1), self.lower(base**-exponent, guard))
            return b.power(self.lower(base, guard), int(exponent))
        if exponent == sympy.Rational(1, 2):
            return self._guarded("sqrt", guard, self.lower(base, guard))
        if exponent.is_Rational and exponent.q == 2 and abs(exponent) <= MOST_MULTIPLIED_POWER:
            root = self._guarded("sqrt", guard, self.lower(base, guard))
            power = b.power(root, abs(int(exponent.p)))
            return self._guarded("div", guard, b.constant(1), power) if exponent < 0 else power
        return self._guarded("pow", guard, self.lower(base, guard), self.lower(exponent, guard))

    def _piecewise(self, e: sympy.Piecewise, guard: int | None) -> int:
        """Nested selects, last branch first; each branch is guarded by the condition that it is taken."""
        b = self.builder
        branches: list[tuple[int | None, int]] = []
        not_before: int | None = guard
        for value, condition in e.args:
            if condition == True:  # noqa: E712  (SymPy's true)
                branches.append((None, self.lower(value, not_before)))
                break
            holds = self.condition(condition)
            taken = holds if not_before is None else b.op("and", not_before, holds)
            branches.append((holds, self.lower(value, taken)))
            missed = b.op("not", holds)
            not_before = missed if not_before is None else b.op("and", not_before, missed)
        else:
            raise Unsupported(f"cannot compile {str(e)[:80]!r}: no branch for the remaining arguments")
        result = branches[-1][1]
        for test, value in reversed(branches[:-1]):
            assert test is not None
            result = b.op("select", test, value, result)
        return result

    def condition(self, c: sympy.Basic) -> int:
        """The place that holds a truth value."""
        b = self.builder
        match c:
            case sympy.And() | sympy.Or():
                operation = "and" if isinstance(c, sympy.And) else "or"
                first, *rest = [self.condition(argument) for argument in sorted(c.args, key=str)]
                for place in rest:
                    first = b.op(operation, first, place)
                return first
            case sympy.Not():
                return b.op("not", self.condition(c.args[0]))
            case sympy.Unequality():
                return b.op("not", b.op("eq", self.lower(c.lhs), self.lower(c.rhs)))
            case BooleanTrue() | BooleanFalse():
                raise Unsupported("cannot compile a condition that is always the same: simplify the Piecewise first")
            case Relational():
                operation, swapped = _RELATIONS[type(c)]
                sides = (self.lower(c.rhs), self.lower(c.lhs)) if swapped else (self.lower(c.lhs), self.lower(c.rhs))
                return b.op(operation, *sides)
        raise Unsupported(f"cannot compile the condition {str(c)[:80]!r}")


def _is_reciprocal(e: sympy.Expr) -> bool:
    return e.is_Pow and e.base is not sympy.E and e.exp.is_Rational and bool(e.exp < 0)


def _reading_order(e: sympy.Expr) -> tuple[bool, Any]:
    """Constants last, otherwise SymPy's canonical order: the same source on every run and machine."""
    return (e.is_number, e.sort_key())


def lower(expressions: Mapping[str, sympy.Expr], arguments: Sequence[sympy.Symbol]) -> Program:
    """Lower named expressions in ``arguments`` to one program, as they are written.

    >>> t = sympy.Symbol("t", real=True)
    >>> [node.operation for node in lower({"value": t**2 + sympy.exp(t**2)}, (t,)).nodes]
    ['input', 'mul', 'exp', 'add']

    Raises :class:`Unsupported` naming a node or symbol that is unknown.
    """
    builder = Builder([str(symbol) for symbol in arguments])
    lowering = Lowering(builder, arguments)
    outputs = {name: lowering.lower(sympy.sympify(e)) for name, e in expressions.items()}
    return builder.finish(outputs)
