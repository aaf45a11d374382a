"""Sine and cosine in printed loops: ours hold up to a limit, beyond which an entry is the C library's.

Where the arguments are known before anything expensive is computed, a loop counts first how many of a share exceed the
limit; if none does, all of the share is computed in vectors. Otherwise each entry chooses for itself, so that what it
becomes does not depend on its neighbours.
"""

from __future__ import annotations

from ...theory.arithmetic import Arithmetic
from ...theory.lowering import Program
from ...theory.ranges import Interval, absolute, interval

#: Operation -> ours for results of 53 and of 24 bits, and what is called beyond the limit.
LIMITED = {
    "sin": ("near_sin({0})", "short_sin({0})", "math.sin({0})"),
    "cos": ("near_cos({0})", "short_cos({0})", "math.cos({0})"),
    "paired_sin": ("paired_sin({0}, {1})", None, "far_sin({0}, {1})"),
    "paired_cos": ("paired_cos({0}, {1})", None, "far_cos({0}, {1})"),
}
#: Those for which a GPU has one that holds for every float32.
WIDE = ("sin", "cos")
#: Bits of the results -> up to which |argument| ours hold.
LIMITS = {53: 8192.0, 24: 65536.0}
#: Steps that cost too little to matter when they are done twice.
_CHEAP = {"input", "constant", "add", "sub", "mul", "neg", "abs", "fma", "at_least", "at_most", "select",
          "lt", "le", "eq", "and", "or", "not", "copysign"}  # fmt: skip


def digits(program: Program, arithmetic: Arithmetic) -> int:
    """Of ours: those for results of 24 bits will not do where terms of a sum may cancel."""
    if arithmetic.wanted == 53:
        return 53
    after: set[int] = set()
    for place, node in enumerate(program.nodes):
        if node.operation in LIMITED or not after.isdisjoint(node.operands):
            after.add(place)
            if node.operation in ("add", "sub", "fma"):
                return 53
    return 24


def near(program: Program, arithmetic: Arithmetic) -> dict[str, str]:
    """The operations as they are printed where no argument exceeds the limit."""
    column = 1 if digits(program, arithmetic) == 24 else 0
    return {operation: text for operation, row in LIMITED.items() if (text := row[column]) is not None}


def either(program: Program, arithmetic: Arithmetic) -> dict[str, str]:
    """The operations as they are printed anywhere: ours up to the limit, the library's beyond."""
    most = LIMITS[digits(program, arithmetic)]
    ours = near(program, arithmetic).items()
    return {operation: f"({text} if abs({{0}}) <= {most} else {LIMITED[operation][2]})" for operation, text in ours}


def functions(program: Program, arithmetic: Arithmetic) -> tuple[str, ...]:
    """The names of ours that the program calls, and of what stands in for the pairs beyond."""
    texts = [text for o, text in near(program, arithmetic).items() if o in program.operations]
    texts += [LIMITED[o][2] for o in program.operations if o.startswith("paired_") and o in LIMITED]
    return tuple(text.split("(")[0] for text in texts)


def arguments(program: Program) -> tuple[int, ...] | None:
    """What must be looked at before a share: the arguments that may exceed the limit, None where one is dear."""
    ranges: list[Interval] = []
    for node in program.nodes:
        ranges.append(interval(node, [ranges[o] for o in node.operands]))
    found = {node.operands[0] for node in program.nodes if node.operation in LIMITED}
    open_ones = tuple(sorted(place for place in found if not absolute(ranges[place])[1] <= min(LIMITS.values())))
    return open_ones if all(program.nodes[p].operation in _CHEAP for p in steps(program, open_ones)) else None


def steps(program: Program, places: tuple[int, ...]) -> list[int]:
    """The places that determine these, in order."""
    needed, pending = set(places), list(places)
    while pending:
        for operand in program.nodes[pending.pop()].operands:
            if operand not in needed:
                needed.add(operand)
                pending.append(operand)
    return sorted(needed)
