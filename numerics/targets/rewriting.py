"""Programs as the CPU likes them: one call or division where several were, products fused into sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import sympy

from ...theory.compensated import is_power_of_two
from ...theory.half_lines import ALMOST_LOG_2
from ...theory.lowering import Builder, Node, Program
from ...theory.ranges import reach

Rule = Callable[[Builder, Program, Node, tuple[int, ...]], int | None]


def rewritten(program: Program, rules: tuple[Rule, ...]) -> Program:
    """The same program with each step put through the first rule that knows it."""
    b = Builder(program.inputs)
    moved: list[int] = []
    for node in program.nodes:
        operands = tuple(moved[o] for o in node.operands)
        if node.operation == "input":
            moved.append(b.input(node.leaf))
        elif node.operation == "constant":
            moved.append(b.constant(node.leaf))
        else:
            found = (rule(b, program, node, operands) for rule in rules)
            place = next((p for p in found if p is not None), None)
            moved.append(b.op(node.operation, *operands, leaf=node.leaf) if place is None else place)
    return b.finish({name: moved[place] for name, place in program.outputs.items()})


def whole_expm1(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """expm1(v) where v is small, exp(v) − 1 elsewhere: our expm1 is as cheap as exp and right everywhere."""
    if node.operation != "select":
        return None
    test, small, large = (b.nodes[o] for o in operands)
    if test.operation != "lt" or b.value_of(test.operands[1]) != ALMOST_LOG_2 or small.operation != "expm1":
        return None
    if large.operation == "sub" and b.value_of(large.operands[1]) == 1:
        exponential = b.nodes[large.operands[0]]
        if exponential == Node("exp", small.operands):
            return operands[1]
    return None


def unit_log1p(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """log1p of exp(−p), p ≥ 0: an argument in [0, 1] needs no reduction and has no special values."""
    if node.operation != "log1p":
        return None
    low, high = reach(b.nodes, operands[0])
    return b.op("log1p_unit", operands[0]) if low >= 0 and high <= 1 else None


#: Operation -> the one without clamps and guards, for arguments known to lie between two numbers (NaN may pass).
UNGUARDED = {
    "exp": ("near_exp", (-708.0, 709.0)),
    "lifted_exp": ("near_exp", (-708.0, 0.0)),
    "expm1": ("near_expm1", (-708.0, 709.0)),
    "decaying_expm1": ("near_expm1", (-708.0, 0.0)),
}


def unguarded(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """An elementary function of what has been held between two numbers anyway."""
    if node.operation not in UNGUARDED:
        return None
    name, (least, most) = UNGUARDED[node.operation]
    low, high = reach(b.nodes, operands[0])
    return b.op(name, operands[0]) if least <= low and high <= most else None


def single_tail(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """(core·2ᴸT)·2⁻ᴸ for every argument where that cannot overflow, and not only where T nears the underflow limit."""
    if node.operation != "select":
        return None
    tail = b.nodes[operands[1]]
    if tail.operation != "mul" or b.nodes[tail.operands[0]].operation != "mul":
        return None
    scale, product = b.value_of(tail.operands[1]), b.nodes[tail.operands[0]]
    lifted = b.nodes[product.operands[1]]
    if lifted.operation != "lifted_exp" or scale is None or b.value_of(lifted.operands[1]) != -sympy.log(scale, 2):
        return None
    lowered = b.op("mul", product.operands[1], tail.operands[1])
    if b.nodes[operands[2]] != Node("mul", (product.operands[0], lowered)):
        return None
    return operands[1] if max(map(abs, reach(b.nodes, product.operands[0]))) < MOST_LIFTED else None


def root_two_erfcx(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """erfcx(a/√2), of which there is one that does not round a/√2."""
    if node.operation != "split_erfcx" or b.nodes[operands[0]].operation != "mul":
        return None
    places = b.nodes[operands[0]].operands
    for factor, place in (places, places[::-1]):
        if b.value_of(factor) == 1 / sympy.sqrt(2):
            return b.op("split_root_two_erfcx", place)
    return None


#: 2⁹⁶ times this is a float32.
MOST_LIFTED = 2.0**30


def shared_reciprocal(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """p/q as p·(1/q), and 1/q² as (1/q)²: rounds once more, so only where results have fewer digits than steps."""
    if node.operation != "div":
        return None
    return b.op("mul", operands[0], _reciprocal(b, operands[1]))


#: Where 1/q by a division in float32 and a step of Newton's is at hand.
NARROW = (2.0**-100, 2.0**100)


def narrow_reciprocal(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """1/q with a shorter division, where there are several: then the divider is what everything waits for."""
    if node.operation != "div" or b.value_of(operands[0]) != 1:
        return None
    divisors = {other.operands[1] for other in program.nodes if other.operation == "div"}
    varying = [low < high for low, high in (reach(program.nodes, place) for place in divisors)]
    low, high = reach(b.nodes, operands[1])
    is_narrow = sum(varying) > 1 and NARROW[0] <= low < high <= NARROW[1]
    return b.op("near_reciprocal", operands[1]) if is_narrow else None


def _reciprocal(b: Builder, place: int) -> int:
    node = b.nodes[place]
    if node.operation == "mul" and b.value_of(node.operands[0]) is None and b.value_of(node.operands[1]) is None:
        first, second = (_reciprocal(b, o) for o in node.operands)
        return b.op("mul", first, second)
    return b.op("div", b.constant(1), place)


def fused(program: Program, *, repeated: bool = False) -> Program:
    """Products that only a sum uses, and that sum, as one step rounded once; ``repeated``: that only sums use."""
    uses: Counter[int] = Counter(o for node in program.nodes for o in node.operands)
    uses.update(program.outputs.values())
    if repeated:
        in_sums = Counter(o for node in program.nodes for o in _fusible(node))
        uses = Counter({place: 1 + (count != in_sums[place]) for place, count in uses.items()})

    def rule(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
        positions = list(range(len(_fusible(node))))
        if repeated:  # of two products rather the one that would be rounded
            positions.sort(key=lambda k: _is_scaling(program, node.operands[k]))
        for position in positions:
            factors = program.nodes[node.operands[position]]
            if factors.operation == "mul" and uses[node.operands[position]] == 1:
                product = b.nodes[operands[position]]
                other = operands[1 - position]
                if product.operation == "mul":
                    return b.op("fma", *product.operands, other if node.operation == "add" else b.op("neg", other))
        return None

    return rewritten(program, (rule,))


def _fusible(node: Node) -> tuple[int, ...]:
    """The operands of a sum that may be products fused into it."""
    return {"add": node.operands, "sub": node.operands[:1]}.get(node.operation, ())


def _is_scaling(program: Program, place: int) -> bool:
    """Whether a step multiplies by a power of two."""
    node = program.nodes[place]
    values = [program.nodes[o].leaf for o in node.operands if program.nodes[o].operation == "constant"]
    return node.operation == "mul" and any(map(is_power_of_two, values))
