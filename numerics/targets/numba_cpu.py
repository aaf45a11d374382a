"""Printer for Numba on the CPU: one loop over the entries.

Where every step can become vector instructions (:mod:`..elementary`), both sides of each branch are computed and one is
selected: LLVM then vectorises the loop. A loop with a call of the C library cannot be vectorised; there, only the
branch that is taken is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...theory.arithmetic import ARITHMETICS, Arithmetic
from ...theory.errors import Unsupported
from ...theory.lowering import Program
from ...theory.scaled_erfc import without_erfcx
from . import sines
from .branches import Branch, plan
from .printing import INDENT, identifier, operand_text, ordered, table_lines, text_of
from .rewriting import (
    Rule,
    fused,
    narrow_reciprocal,
    rewritten,
    root_two_erfcx,
    shared_reciprocal,
    single_tail,
    unguarded,
    unit_log1p,
    whole_expm1,
)

TABLE: dict[str, str] = {
    "minus_infinity": "-math.inf",
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
    "cell": "cell_of({0}, STARTS_{table}, SHIFTS_{table}, {first})",
    "entry": "CELLS_{block}[{0}, {column}]",
    "high": "{0}[0]",
    "low": "{0}[1]",
    "exponent": "{0}[2]",
    "split_high": "{0}[0]",
    "split_low": "{0}[1]",
}

#: Operations computed by :mod:`..elementary`; for float32 results under the name with "short_" before it, in float32
#: by :mod:`..elementary_single` with "single_" before it.
VECTORISED = (
    {"fma": 3, "copysign": 2}
    | dict.fromkeys(
        ("exp", "lifted_exp", "decaying_expm1", "expm1", "log", "log1p", "log1p_unit", "erf", "erfcx", "atan"), 1
    )
    | {"near_exp": 1, "near_expm1": 1, "near_reciprocal": 1}
    | {"split_decay": 1, "split_rest_decay": 2, "split_value": 1, "erf_by_decay": 2}
    | dict.fromkeys(("split_erfcx", "split_root_two_erfcx"), 1)
    | {"paired_exp": 1, "paired_lifted_exp": 1, "paired_decaying_expm1": 1, "paired_atan": 1}
    | dict.fromkeys(("paired_log1p", "paired_log1p_unit", "paired_erf", "paired_near_erf", "paired_erfcx"), 2)
    | {"paired_parted_exp": 1, "paired_power": 1, "power_below": 1, "inverse_power": 1, "exponent_of": 1, "raised": 2}
)
#: Composed of those (:mod:`..elementary_composed`), in float64 only.
COMPOSED = ("tanh", "sinh", "cosh", "erfc", "asin", "acos")
#: Where the elementary functions come from: imported, copied into the source, or the C library's (for comparison).
SOURCES = ("package", "copied", "library")


def names_of(program: Program, inputs: Mapping[str, str]) -> dict[int, str]:
    """A name for every step: inputs by their own, steps by their number."""
    return {
        place: inputs[node.leaf] if node.operation == "input" else f"v{place}"
        for place, node in enumerate(program.nodes)
    }


def body(
    program: Program, table: Mapping[str, str], names: Mapping[int, str], depth: int, constant: str = "{0}"
) -> list[str]:
    """The statements of one entry's computation, branches nested."""
    lines: list[str] = []

    def write(steps: Iterable[int | Branch], depth: int) -> None:
        for step in steps:
            if isinstance(step, int):
                lines.append(_step(program, table, names, step, depth, constant))
                continue
            condition = operand_text(program, names, step.condition)
            for word, side, position in ((f"if {condition}", step.yes, 1), ("else", step.no, 2)):
                lines.append(f"{INDENT * depth}{word}:")
                write(side, depth + 1)
                for p in step.selects:
                    chosen = operand_text(program, names, program.nodes[p].operands[position], constant)
                    lines.append(f"{INDENT * (depth + 1)}{names[p]} = {chosen}")

    write(plan(program), depth)
    return lines


def _step(
    program: Program, table: Mapping[str, str], names: Mapping[int, str], place: int, depth: int, constant: str = "{0}"
) -> str:
    return f"{INDENT * depth}{names[place]} = {text_of(program, table, names, place, constant)}"


def _table(program: Program, arithmetic: Arithmetic) -> tuple[dict[str, str], tuple[str, ...]]:
    """The table with elementary functions in place of the library's, and which of them the program calls."""
    table, used = dict(TABLE), []
    for operation, arity in VECTORISED.items():
        prefix = {(53, 53): "", (53, 24): "short_", (24, 24): "single_"}[arithmetic.digits, arithmetic.wanted]
        exact = operation in ("fma", "copysign") and prefix == "short_"
        name = operation if exact else prefix + operation
        table[operation] = f"{name}({', '.join(('{0}', '{1}', '{2}')[:arity])})"
        if operation in program.operations:
            used.append(name)
    if arithmetic.digits == 53:
        table |= {operation: f"{prefix}{operation}({{0}})" for operation in COMPOSED}
        used += [f"{prefix}{operation}" for operation in COMPOSED if operation in program.operations]
        table |= sines.either(program, arithmetic)
        used += sines.functions(program, arithmetic)
    if program.tables:
        used.append("cell_of")
    return table, tuple(used)


def prepared(program: Program, arithmetic: Arithmetic) -> Program:
    """The program as the elementary functions want it."""
    rules: tuple[Rule, ...] = (whole_expm1,)
    if arithmetic.wanted == 24:
        rules += (unit_log1p,)
        rules += (shared_reciprocal,)
    if arithmetic.lean:
        rules += (root_two_erfcx,)
    spare = arithmetic.wanted < arithmetic.digits
    last: tuple[Rule, ...] = (unguarded, narrow_reciprocal) if spare else (single_tail,)
    return fused(rewritten(rewritten(program, rules), last), repeated=arithmetic.lean)


def _imports(table: Mapping[str, str], program: Program, used: Sequence[str], functions: str) -> list[str]:
    if functions == "copied" and used:
        from .copying import copied_functions

        return copied_functions(used).splitlines()
    lines: list[str] = []
    if _calls_library(table, program):
        lines += ["import math", ""]
    lines += ["import numba"]
    package, found = __package__.rsplit(".", 1)[0], {name: _module_of(name, used) for name in sorted(used)}
    for k, module in enumerate(sorted(set(found.values()))):
        names = [name for name, source in found.items() if source == module]
        lines += [""] * (k == 0) + [f"from {package}.{module} import {', '.join(names)}"]
    return lines


def _with_numpy(program: Program, imports: list[str]) -> list[str]:
    """The imports with NumPy's where tables are held in its arrays."""
    if not program.tables:
        return imports
    first = imports.index("import numba") + 1
    return [*imports[:first], "import numpy as np", *imports[first:]]


def _module_of(name: str, used: Sequence[str]) -> str:
    """Where an elementary function is defined."""
    if name.startswith(("paired_", "far_")):
        return "elementary_pairs"
    if name.removeprefix("short_") in COMPOSED:
        return "elementary_composed"
    single = name == "whole_vectors" or any(other.startswith("single_") for other in used)
    return "elementary_single" if single else "elementary"


def _calls_library(table: Mapping[str, str], program: Program) -> bool:
    return any("math." in table[op] for op in program.operations - {"input", "constant"})


def _vectorises(table: Mapping[str, str], program: Program) -> bool:
    """Whether every step can become vector instructions."""
    dear = {op for op in program.operations - {"input", "constant"} if "math." in table[op] or "far_" in table[op]}
    return not (dear - {"sqrt"}) and "pow" not in program.operations


def becomes_vectors(program: Program, arithmetic: Arithmetic) -> bool:
    """Whether LLVM can compute several entries at once: no step calls the C library."""
    program = prepared(program, arithmetic)
    return _vectorises(_table(program, arithmetic)[0], program)


def print_source(
    program: Program,
    *,
    dtype: str,
    scalars: Sequence[str] = (),
    wide: Sequence[str] = (),
    title: str = "",
    name: str = "run",
    cache: bool = True,
    functions: str | None = None,
    arithmetic: Arithmetic | None = None,
) -> str:
    """A module with one function ``run(inputs…, outputs…)`` over one-dimensional contiguous arrays.

    Entries are computed in float64 and rounded once to ``dtype``, or in the floats of ``arithmetic``. ``scalars`` names
    the inputs that are single numbers, ``wide`` the outputs that are float64 arrays. The loop releases the GIL, so
    that several threads can share a large array; nothing is compiled in parallel mode, which would cost seconds.
    ``cache`` keeps the compiled code beside the file (source read from a pipe has no such place). ``functions`` is one
    of :data:`SOURCES`; what is not kept in a file must run without the package.
    """
    functions = functions or ("package" if cache else "copied")
    if functions not in SOURCES:
        raise Unsupported(f"elementary functions come from {', '.join(SOURCES)}, not {functions!r}")
    arithmetic = arithmetic or ARITHMETICS[dtype]
    used: tuple[str, ...]
    if functions == "library":
        program, table, used = without_erfcx(program), TABLE, ()
        used = ("cell_of",) * bool(program.tables)
    else:
        program = prepared(program, arithmetic)
        table, used = _table(program, arithmetic)
        in_pairs = any("paired" in name or name in COMPOSED for name in used)
        used += ("whole_vectors",) * (arithmetic.digits == 24 or in_pairs)
    watched, within = None, table
    if functions != "library" and not _vectorises(table, program) and arithmetic.digits == 53:
        within = table | sines.near(program, arithmetic)
        watched = sines.arguments(program) if _vectorises(within, program) else None
    inputs = {given: identifier(given) for given in program.inputs}
    outputs = {given: f"{identifier(given)}_out" for given in program.outputs}
    of_array = f"{dtype}[::1]"
    kinds = ["float64" if given in scalars else of_array for given in inputs]
    kinds += ["float64[::1]" if given in wide else of_array for given in outputs]
    signature = f"void({', '.join(kinds)})"
    options = ("cache=True, " if cache else "") + 'nogil=True, error_model="numpy"'
    lines = [
        f'"""{title}"""',
        "",
        *_with_numpy(program, _imports(table, program, used, functions)),
        "",
        *table_lines(program),
        "",
        f'@numba.njit("{signature}", {options})',
        f"def {name}({', '.join([*inputs.values(), *outputs.values()])}):",
    ]
    if "whole_vectors" in used:
        lines.append(f"{INDENT}whole_vectors()")
    if watched is None:
        lines += _loop(program, table, inputs, outputs, scalars, 1, arithmetic)
    elif not watched:
        lines += _loop(program, within, inputs, outputs, scalars, 1, arithmetic)
    else:
        lines += _count_beyond(program, table, watched, inputs, outputs, scalars, arithmetic)
        lines += [f"{INDENT}if beyond == 0:", *_loop(program, within, inputs, outputs, scalars, 2, arithmetic)]
        lines += [f"{INDENT}else:", *_loop(program, table, inputs, outputs, scalars, 2, arithmetic)]
    return "\n".join(lines) + "\n"


def _count_beyond(
    program: Program,
    table: Mapping[str, str],
    watched: tuple[int, ...],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    scalars: Sequence[str],
    arithmetic: Arithmetic,
) -> list[str]:
    """A loop that counts the arguments of sine and cosine beyond the limit: one sends a share the slower way."""
    needed = sines.steps(program, watched)
    read = {program.nodes[p].leaf for p in needed if program.nodes[p].operation == "input"}
    names = names_of(program, {given: (t if given in scalars else f"{t}_i") for given, t in inputs.items()})
    lines = [f"{INDENT}beyond = 0", f"{INDENT}for i in range({next(iter(outputs.values()))}.size):"]
    for given, text in inputs.items():
        if given in read and given not in scalars:
            lines.append(f"{INDENT * 2}{text}_i = numba.float64({text}[i])")
    lines += [_step(program, table, names, p, 2) for p, _ in ordered(program) if p in needed]
    limit = sines.LIMITS[sines.digits(program, arithmetic)]
    return lines + [f"{INDENT * 2}beyond += abs({names[p]}) > {limit}" for p in watched]


def _loop(
    program: Program,
    table: Mapping[str, str],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    scalars: Sequence[str],
    depth: int,
    arithmetic: Arithmetic,
) -> list[str]:
    """The loop over the entries."""
    entries = {given: (text if given in scalars else f"{text}_i") for given, text in inputs.items()}
    names = names_of(program, entries)
    kind = "numba.float32" if arithmetic.digits == 24 else "numba.float64"
    constant = "numba.float32({0})" if arithmetic.digits == 24 else "{0}"
    lines = [f"{INDENT * depth}for i in range({next(iter(outputs.values()))}.size):"]
    for given, text in inputs.items():
        if given not in scalars:
            lines.append(f"{INDENT * (depth + 1)}{entries[given]} = {kind}({text}[i])")
    if _vectorises(table, program):
        lines += [_step(program, table, names, p, depth + 1, constant) for p, _ in ordered(program)]
    else:
        lines += body(program, table, names, depth + 1, constant)
    for given, place in program.outputs.items():
        lines.append(f"{INDENT * (depth + 1)}{outputs[given]}[i] = {operand_text(program, names, place, constant)}")
    return lines
