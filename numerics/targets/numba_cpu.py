"""Printer for Numba on the CPU: a scalar loop in which only the branch that is taken is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...theory.lowering import Program
from ...theory.scaled_erfc import without_erfcx
from .printing import INDENT, Nesting, identifier, operand_text, text_of

TABLE: dict[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "abs({0})",
    "sqrt": "math.sqrt({0})",
    "pow": "{0} ** {1}",
    "exp": "math.exp({0})",
    "expm1": "math.expm1({0})",
    "log": "math.log({0})",
    "log1p": "math.log1p({0})",
    "sinh": "math.sinh({0})",
    "cosh": "math.cosh({0})",
    "tanh": "math.tanh({0})",
    "sin": "math.sin({0})",
    "cos": "math.cos({0})",
    "tan": "math.tan({0})",
    "asin": "math.asin({0})",
    "acos": "math.acos({0})",
    "atan": "math.atan({0})",
    "erf": "math.erf({0})",
    "erfc": "math.erfc({0})",
    "at_least": "{1} if {0} < {1} else {0}",  # written so that NaN stays NaN
    "at_most": "{1} if {0} > {1} else {0}",
    "copysign": "math.copysign({0}, {1})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "and": "{0} and {1}",
    "or": "{0} or {1}",
    "not": "not {0}",
    "select": "{1} if {0} else {2}",
}


def names_of(program: Program, inputs: Mapping[str, str]) -> dict[int, str]:
    """A name for every step: inputs by their own, steps by their number."""
    return {
        place: inputs[node.leaf] if node.operation == "input" else f"v{place}"
        for place, node in enumerate(program.nodes)
    }


def body(program: Program, names: Mapping[int, str], depth: int) -> list[str]:
    """The statements of one entry's computation, branches nested."""
    nesting = Nesting(program)
    lines: list[str] = []
    inputs = {p for p, node in enumerate(program.nodes) if node.operation in ("input", "constant")}

    def write(needed: set[int], depth: int) -> None:
        condition = nesting.first_branching(needed)
        if condition is None:
            lines.extend(_step(program, names, p, depth) for p in sorted(needed))
            return
        yes, no = nesting.sides(condition, needed)
        selects = sorted(
            p for p in needed if program.nodes[p].operation == "select" and program.nodes[p].operands[0] == condition
        )
        after = _users(program, selects, needed) - yes - no
        write(needed - yes - no - set(selects) - after, depth)
        for word, side, position in (("if " + operand_text(program, names, condition), yes, 1), ("else", no, 2)):
            lines.append(f"{INDENT * depth}{word}:")
            write(side, depth + 1)
            for p in selects:
                chosen = operand_text(program, names, program.nodes[p].operands[position])
                lines.append(f"{INDENT * (depth + 1)}{names[p]} = {chosen}")
        write(after, depth)

    write(nesting.closure(program.outputs.values(), inputs) - inputs, depth)
    return lines


def _users(program: Program, sources: Sequence[int], needed: set[int]) -> set[int]:
    """Everything in ``needed`` computed from ``sources``."""
    found: set[int] = set()
    for place in sorted(needed):
        if place not in sources and any(o in found or o in sources for o in program.nodes[place].operands):
            found.add(place)
    return found


def _step(program: Program, names: Mapping[int, str], place: int, depth: int) -> str:
    return f"{INDENT * depth}{names[place]} = {text_of(program, TABLE, names, place)}"


def print_source(
    program: Program,
    *,
    dtype: str,
    scalars: Sequence[str] = (),
    title: str = "",
    name: str = "run",
    cache: bool = True,
) -> str:
    """A module with one function ``run(inputs…, outputs…)`` over one-dimensional contiguous arrays.

    Entries are computed in float64 and rounded once to ``dtype``. ``scalars`` names the inputs that are single numbers.
    The loop releases the GIL, so that several threads can share a large array; nothing is compiled in parallel mode,
    which would cost seconds. ``cache`` keeps the compiled code beside the file (source read from a pipe has no such
    place).
    """
    program = without_erfcx(program)
    inputs = {given: identifier(given) for given in program.inputs}
    outputs = {given: f"{identifier(given)}_out" for given in program.outputs}
    entries = {given: (text if given in scalars else f"{text}_i") for given, text in inputs.items()}
    names = names_of(program, entries)
    of_array = f"{dtype}[::1]"
    kinds = ["float64" if given in scalars else of_array for given in inputs] + [of_array] * len(outputs)
    signature = f"void({', '.join(kinds)})"
    options = ("cache=True, " if cache else "") + 'nogil=True, error_model="numpy"'
    uses_math = any(TABLE[op].startswith("math.") for op in program.operations - {"input", "constant"})
    lines = [
        f'"""{title}"""',
        "",
        *(["import math", ""] if uses_math else []),
        "import numba",
        "",
        "",
        f'@numba.njit("{signature}", {options})',
        f"def {name}({', '.join([*inputs.values(), *outputs.values()])}):",
        f"{INDENT}for i in range({next(iter(outputs.values()))}.size):",
    ]
    for given, text in inputs.items():
        if given not in scalars:
            lines.append(f"{INDENT * 2}{entries[given]} = numba.float64({text}[i])")
    lines += body(program, names, 2)
    for given, place in program.outputs.items():
        lines.append(f"{INDENT * 2}{outputs[given]}[i] = {operand_text(program, names, place)}")
    return "\n".join(lines) + "\n"
