"""Printer for CUDA (numba-cuda): one device function per entry, and two kernels that run it over arrays.

``run`` reads and writes 16 bytes at a time where all arrays are aligned alike; ``run_each`` one entry at a time, for
arrays that are not. Both are grid-stride loops over one-dimensional contiguous arrays, so any grid computes everything.
Both sides of every select are computed: a warp whose threads differ would do so anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...theory.arithmetic import ARITHMETICS, Arithmetic
from ...theory.errors import Unsupported
from ...theory.lowering import Program
from . import numba_cpu, sines
from .printing import INDENT, identifier, ordered, rounded

#: Storage -> entries in an access of 16 bytes.
LANES = {"float64": 2, "float32": 4, "float16": 8, "bfloat16": 8}
#: How a stored entry becomes a number, and a number an entry, where that is not a conversion by name.
_READ, _WRITE = {"bfloat16": "from_bfloat16({0})"}, {"bfloat16": "to_bfloat16({0})", "float16": "to_float16({0})"}
#: Where the device functions come from.
_MODULE = f"{__package__.rsplit('.', 1)[0]}.device_functions"


def _table(program: Program, arithmetic: Arithmetic) -> dict[str, str]:
    """The CPU's table, so that both round alike; products as calls, the C library's functions by imported names."""
    table, _ = numba_cpu._table(program, arithmetic)
    table = {operation: text.replace("math.", "library_") for operation, text in table.items()}
    table |= {"mul": "mul({0}, {1})", "pow": "library_pow({0}, {1})"}
    if arithmetic.wanted < arithmetic.digits and _of_inputs(program, sines.WIDE):
        table |= {operation: f"wide_{operation}({{0}})" for operation in sines.WIDE}
    return table


def _of_inputs(program: Program, operations: Sequence[str]) -> bool:
    """Whether these operations are applied to inputs alone, which have 24 bits."""
    found = [node.operands[0] for node in program.nodes if node.operation in operations]
    return bool(found) and all(program.nodes[place].operation == "input" for place in found)


def print_source(
    program: Program,
    *,
    dtype: str,
    scalars: Sequence[str] = (),
    loaded: Sequence[str] = (),
    title: str = "",
    arithmetic: Arithmetic | None = None,
) -> str:
    """A module with ``entry``, ``run(inputs…, outputs…, head)`` and ``run_each(inputs…, outputs…)``.

    ``head`` is the number of entries before the first aligned one. ``scalars`` names the inputs that are single
    numbers; those in ``loaded`` too, but they lie on the GPU, in one array ``per_step`` that follows the inputs.
    Entries are computed in float64 and rounded once to ``dtype``, or in the floats of ``arithmetic``.
    """
    if dtype not in LANES:
        raise Unsupported(f"the CUDA target stores {', '.join(LANES)}, not {dtype}")
    arithmetic = arithmetic or ARITHMETICS[dtype]
    program = numba_cpu.prepared(program, arithmetic)
    table, inside = _table(program, arithmetic), "float32" if arithmetic.digits == 24 else "float64"
    inputs = {given: identifier(given) for given in program.inputs}
    outputs = {given: f"{identifier(given)}_out" for given in program.outputs}
    body = _entry(program, table, inputs, dtype, inside)
    loops = _loops(inputs, outputs, scalars, loaded, dtype)
    return _module(title, [*body, "", "", *loops])


def print_advance(program: Program, *, title: str = "") -> str:
    """A module with ``run(count, per_step)``: one thread adds 1 to ``count[0]`` and computes every output of it."""
    (given,) = program.inputs
    table = _table(program, ARITHMETICS["float64"])
    body = _entry(program, table, {given: "t"}, "float64", "float64")
    targets = ", ".join(f"per_step[{k}]" for k in range(len(program.outputs)))
    lines = ["@cuda.jit(cache=True)", "def run(count, per_step):", f"{INDENT}if cuda.grid(1) == 0:"]
    lines += [f"{INDENT * 2}count[0] += 1"]
    lines += [f"{INDENT * 2}{targets}{',' if len(program.outputs) == 1 else ''} = entry(count[0])"] if targets else []
    return _module(title, [*(body if targets else []), "", "", *lines])


def _module(title: str, lines: Sequence[str]) -> str:
    names = sorted(_called("\n".join(lines)))
    head = [f'"""{title}"""', "", "import numba", "from numba import cuda"]
    head += ["", f"from {_MODULE} import {', '.join(names)}"] if names else []
    return "\n".join([*head, "", "", *lines]) + "\n"


def _called(text: str) -> set[str]:
    """The functions of the module of device functions that occur in the text."""
    import re

    words = set(re.findall(r"(?<![\w.])([a-z_]\w*)\(", text))
    return {
        word for word in words if word not in ("range", "abs", "entry", "run", "run_each", "and", "or", "not", "if")
    }


def _entry(program: Program, table: Mapping[str, str], inputs: Mapping[str, str], dtype: str, inside: str) -> list[str]:
    """The device function of one entry."""
    names = numba_cpu.names_of(program, inputs)
    lines = ["@cuda.jit(device=True)", f"def entry({', '.join(inputs.values())}):"]
    read, write = _READ.get(dtype, f"numba.{inside}({{0}})"), _WRITE.get(dtype, f"numba.{dtype}({{0}})")
    lines += [f"{INDENT}{text} = {read.format(text)}" for text in inputs.values()]
    for place, node in ordered(program):
        if node.operation not in table:
            raise Unsupported(f"the CUDA target has no operation {node.operation!r}")
        operands = (_operand(program, names, o, inside) for o in node.operands)
        lines.append(f"{INDENT}{names[place]} = {table[node.operation].format(*operands)}")
    results = [write.format(_operand(program, names, place, inside)) for place in program.outputs.values()]
    return [*lines, f"{INDENT}return {', '.join(results)}{',' if len(results) == 1 else ''}"]


def _operand(program: Program, names: Mapping[int, str], place: int, inside: str) -> str:
    """A name, or a literal of the kernel's own dtype: another one would make the arithmetic around it float64."""
    node = program.nodes[place]
    if node.operation != "constant":
        return names[place]
    text = repr(rounded(node.leaf))
    if inside == "float32":
        return f"numba.float32({text})"
    return f"({text})" if text.startswith("-") else text


def _loops(
    inputs: Mapping[str, str], outputs: Mapping[str, str], scalars: Sequence[str], loaded: Sequence[str], dtype: str
) -> list[str]:
    """The two kernels."""
    lanes = LANES[dtype]
    arrays = [text for given, text in inputs.items() if given not in scalars and given not in loaded]
    targets = list(outputs.values())
    first = targets[0]
    passed = [text for given, text in inputs.items() if given not in loaded]
    parameters = ", ".join([*passed, *(["per_step"] if loaded else []), *targets])
    loads = [f"{INDENT}{inputs[given]} = per_step[{k}]" for k, given in enumerate(loaded)]

    def entry(index: Mapping[str, str]) -> str:
        return f"entry({', '.join(index.get(text, text) for text in inputs.values())})"

    at = {text: f"{text}[i]" for text in arrays}
    one = [f"{', '.join(f'{t}[i]' for t in targets)}{',' if len(targets) == 1 else ''} = {entry(at)}"]
    lines = ["@cuda.jit(cache=True)", f"def run({parameters}, head):", *loads]
    lines += [f"{INDENT}start = cuda.grid(1)", f"{INDENT}packs = ({first}.size - head) // {lanes}"]
    lines += [f"{INDENT}for pack in range(start, packs, cuda.gridsize(1)):", f"{INDENT * 2}i = head + {lanes} * pack"]
    for text in arrays:
        parts = ", ".join(f"{text}_{k}" for k in range(lanes))
        lines.append(f"{INDENT * 2}{parts} = load{lanes}({text}, i)")
    for k in range(lanes):
        results = ", ".join(f"{t}_{k}" for t in targets)
        lines.append(
            f"{INDENT * 2}{results}{',' if len(targets) == 1 else ''} = {entry({a: f'{a}_{k}' for a in arrays})}"
        )
    for t in targets:
        lines.append(f"{INDENT * 2}store{lanes}({t}, i, ({', '.join(f'{t}_{k}' for k in range(lanes))}))")
    lines += [f"{INDENT}if start < {first}.size - {lanes} * packs:"]
    lines += [f"{INDENT * 2}i = start if start < head else start + {lanes} * packs", *(INDENT * 2 + o for o in one)]
    lines += ["", "", "@cuda.jit(cache=True)", f"def run_each({parameters}):", *loads]
    lines += [f"{INDENT}for i in range(cuda.grid(1), {first}.size, cuda.gridsize(1)):", *(INDENT * 2 + o for o in one)]
    return lines
