"""Printer for Numba on the CPU: one loop over the entries.

Where every step can become vector instructions (:mod:`..elementary`), both sides of each branch are computed and one is
selected: LLVM then vectorises the loop. A loop with a call of the C library cannot be vectorised; there, only the
branch that is taken is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...theory.errors import Unsupported
from ...theory.lowering import Program
from ...theory.scaled_erfc import without_erfcx
from .branches import Branch, plan
from .printing import INDENT, identifier, operand_text, ordered, text_of
from .rewriting import fused, rewritten, shared_reciprocal, unit_log1p, whole_expm1

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

#: Operations computed by :mod:`..elementary`; for float32 results under the name with "short_" before it.
VECTORISED = {"fma": 3, "copysign": 2} | dict.fromkeys(
    ("exp", "expm1", "log", "log1p", "log1p_unit", "erf", "erfcx", "atan"), 1
)
#: Of these there is a short one that holds for |x| up to a limit; used where the argument is the input itself.
LIMITED = {"sin": 65536.0, "cos": 65536.0}
#: Where the elementary functions come from: imported, copied into the source, or the C library's (for comparison).
SOURCES = ("package", "copied", "library")


def names_of(program: Program, inputs: Mapping[str, str]) -> dict[int, str]:
    """A name for every step: inputs by their own, steps by their number."""
    return {
        place: inputs[node.leaf] if node.operation == "input" else f"v{place}"
        for place, node in enumerate(program.nodes)
    }


def body(program: Program, table: Mapping[str, str], names: Mapping[int, str], depth: int) -> list[str]:
    """The statements of one entry's computation, branches nested."""
    lines: list[str] = []

    def write(steps: Iterable[int | Branch], depth: int) -> None:
        for step in steps:
            if isinstance(step, int):
                lines.append(_step(program, table, names, step, depth))
                continue
            condition = operand_text(program, names, step.condition)
            for word, side, position in ((f"if {condition}", step.yes, 1), ("else", step.no, 2)):
                lines.append(f"{INDENT * depth}{word}:")
                write(side, depth + 1)
                for p in step.selects:
                    chosen = operand_text(program, names, program.nodes[p].operands[position])
                    lines.append(f"{INDENT * (depth + 1)}{names[p]} = {chosen}")

    write(plan(program), depth)
    return lines


def _step(program: Program, table: Mapping[str, str], names: Mapping[int, str], place: int, depth: int) -> str:
    return f"{INDENT * depth}{names[place]} = {text_of(program, table, names, place)}"


def _table(program: Program, dtype: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The table with elementary functions in place of the library's, and which of them the program calls."""
    table, used = dict(TABLE), []
    for operation, arity in VECTORISED.items():
        exact = operation in ("fma", "copysign") or dtype == "float64"
        name = operation if exact else f"short_{operation}"
        table[operation] = f"{name}({', '.join(('{0}', '{1}', '{2}')[:arity])})"
        if operation in program.operations:
            used.append(name)
    return table, tuple(used)


def prepared(program: Program, dtype: str) -> Program:
    """The program as the elementary functions want it."""
    rules = (whole_expm1,) if dtype == "float64" else (whole_expm1, unit_log1p, shared_reciprocal)
    return fused(rewritten(program, rules))


def _limit(program: Program, dtype: str) -> float | None:
    """Up to where all steps of the program can be vectors; None where that is nowhere, or where there is no limit."""
    found = [node for node in program.nodes if node.operation in LIMITED]
    if dtype == "float64" or not found or len(program.inputs) != 1:
        return None
    if any(program.nodes[node.operands[0]].operation != "input" for node in found):
        return None
    return min(LIMITED[node.operation] for node in found)


def _imports(table: Mapping[str, str], program: Program, used: Sequence[str], functions: str) -> list[str]:
    if functions == "copied" and used:
        from .copying import copied_functions

        return copied_functions(used).splitlines()
    lines = []
    if _calls_library(table, program):
        lines += ["import math", ""]
    lines += ["import numba"]
    if used:
        lines += ["", f"from {__package__.rsplit('.', 1)[0]}.elementary import {', '.join(sorted(used))}"]
    return lines


def _calls_library(table: Mapping[str, str], program: Program) -> bool:
    return any(table[op].startswith("math.") for op in program.operations - {"input", "constant"})


def _vectorises(table: Mapping[str, str], program: Program) -> bool:
    """Whether every step can become vector instructions."""
    calls = {op for op in program.operations - {"input", "constant"} if table[op].startswith("math.")}
    return not (calls - {"sqrt"}) and "pow" not in program.operations


def print_source(
    program: Program,
    *,
    dtype: str,
    scalars: Sequence[str] = (),
    title: str = "",
    name: str = "run",
    cache: bool = True,
    functions: str | None = None,
) -> str:
    """A module with one function ``run(inputs…, outputs…)`` over one-dimensional contiguous arrays.

    Entries are computed in float64 and rounded once to ``dtype``. ``scalars`` names the inputs that are single numbers.
    The loop releases the GIL, so that several threads can share a large array; nothing is compiled in parallel mode,
    which would cost seconds. ``cache`` keeps the compiled code beside the file (source read from a pipe has no such
    place). ``functions`` is one of :data:`SOURCES`; what is not kept in a file must run without the package.
    """
    functions = functions or ("package" if cache else "copied")
    if functions not in SOURCES:
        raise Unsupported(f"elementary functions come from {', '.join(SOURCES)}, not {functions!r}")
    used: tuple[str, ...]
    if functions == "library":
        program, table, used = without_erfcx(program), TABLE, ()
    else:
        program = prepared(program, dtype)
        table, used = _table(program, dtype)
    limit = None if functions == "library" else _limit(program, dtype)
    within = table | {operation: f"short_{operation}({{0}})" for operation in LIMITED}
    if limit is not None and _vectorises(within, program):
        used += tuple(f"short_{operation}" for operation in LIMITED if operation in program.operations)
    else:
        limit = None
    inputs = {given: identifier(given) for given in program.inputs}
    outputs = {given: f"{identifier(given)}_out" for given in program.outputs}
    of_array = f"{dtype}[::1]"
    kinds = ["float64" if given in scalars else of_array for given in inputs] + [of_array] * len(outputs)
    signature = f"void({', '.join(kinds)})"
    options = ("cache=True, " if cache else "") + 'nogil=True, error_model="numpy"'
    lines = [
        f'"""{title}"""',
        "",
        *_imports(table, program, used, functions),
        "",
        "",
        f'@numba.njit("{signature}", {options})',
        f"def {name}({', '.join([*inputs.values(), *outputs.values()])}):",
    ]
    if limit is None:
        lines += _loop(program, table, inputs, outputs, scalars, 1)
    else:  # one large argument sends the whole share to the library
        (argument,) = inputs.values()
        lines += [f"{INDENT}beyond = 0", f"{INDENT}for i in range({argument}.size):"]
        lines += [f"{INDENT * 2}beyond += abs({argument}[i]) > {limit}", f"{INDENT}if beyond == 0:"]
        lines += _loop(program, within, inputs, outputs, scalars, 2)
        lines += [f"{INDENT}else:", *_loop(program, table, inputs, outputs, scalars, 2)]
    return "\n".join(lines) + "\n"


def _loop(
    program: Program,
    table: Mapping[str, str],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    scalars: Sequence[str],
    depth: int,
) -> list[str]:
    """The loop over the entries."""
    entries = {given: (text if given in scalars else f"{text}_i") for given, text in inputs.items()}
    names = names_of(program, entries)
    lines = [f"{INDENT * depth}for i in range({next(iter(outputs.values()))}.size):"]
    for given, text in inputs.items():
        if given not in scalars:
            lines.append(f"{INDENT * (depth + 1)}{entries[given]} = numba.float64({text}[i])")
    if _vectorises(table, program):
        lines += [_step(program, table, names, p, depth + 1) for p, _ in ordered(program)]
    else:
        lines += body(program, table, names, depth + 1)
    for given, place in program.outputs.items():
        lines.append(f"{INDENT * (depth + 1)}{outputs[given]}[i] = {operand_text(program, names, place)}")
    return lines
