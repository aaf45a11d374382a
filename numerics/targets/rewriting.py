"""Programs as the CPU likes them: one call or division where several were, products fused into sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ...theory.half_lines import ALMOST_LOG_2
from ...theory.lowering import Builder, Node, Program

_Rule = Callable[[Builder, Program, Node, tuple[int, ...]], int | None]


def rewritten(program: Program, rules: tuple[_Rule, ...]) -> Program:
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
            moved.append(b.op(node.operation, *operands) if place is None else place)
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
    if node.operation != "log1p" or b.nodes[operands[0]].operation != "exp":
        return None
    exponent = b.nodes[b.nodes[operands[0]].operands[0]]
    if exponent.operation == "neg" and _never_negative(b, exponent.operands[0]):
        return b.op("log1p_unit", operands[0])
    return None


def _never_negative(b: Builder, place: int) -> bool:
    node = b.nodes[place]
    match node.operation:
        case "constant":
            return bool(node.leaf.is_nonnegative)
        case "abs" | "sqrt" | "exp":
            return True
        case "mul" if node.operands[0] == node.operands[1]:
            return True
        case "mul" | "add" | "at_most" | "at_least":
            return all(_never_negative(b, o) for o in node.operands)
    return False


def shared_reciprocal(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
    """p/q as p·(1/q), and 1/q² as (1/q)²: rounds once more, so only where results have fewer digits than steps."""
    if node.operation != "div":
        return None
    return b.op("mul", operands[0], _reciprocal(b, operands[1]))


def _reciprocal(b: Builder, place: int) -> int:
    node = b.nodes[place]
    if node.operation == "mul" and b.value_of(node.operands[0]) is None and b.value_of(node.operands[1]) is None:
        first, second = (_reciprocal(b, o) for o in node.operands)
        return b.op("mul", first, second)
    return b.op("div", b.constant(1), place)


def fused(program: Program) -> Program:
    """Products that only a sum uses, and that sum, as one step rounded once."""
    uses: Counter[int] = Counter(o for node in program.nodes for o in node.operands)
    uses.update(program.outputs.values())

    def rule(b: Builder, program: Program, node: Node, operands: tuple[int, ...]) -> int | None:
        if node.operation not in ("add", "sub"):
            return None
        for position in (0, 1) if node.operation == "add" else (0,):
            factors = program.nodes[node.operands[position]]
            if factors.operation == "mul" and uses[node.operands[position]] == 1:
                product = b.nodes[operands[position]]
                other = operands[1 - position]
                if product.operation == "mul":
                    return b.op("fma", *product.operands, other if node.operation == "add" else b.op("neg", other))
        return None

    return rewritten(program, (rule,))
