"""Printer for C99: ``static inline`` functions of one number, and functions over arrays.

The source compiles without a warning under ``cc -std=c99 -Wall -Wextra -Werror``. Only the branch that is taken is
computed. ``-ffast-math`` would undo the compensated steps.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ...theory.layer_row import Layer
from ...theory.lowering import Program
from ...theory.numpy_source import identifier
from ...theory.scaled_erfc import without_erfcx
from ...theory.tensors import Axis
from .arrays import Programs
from .branches import Branch, plan
from .layer_loops import Dialect, LoopWriter
from .numba_cpu import names_of
from .printing import INDENT, operand_text, text_of
from .tensor_parts import Pass, passes, usage

TABLE: dict[str, str] = {
    "minus_infinity": "-INFINITY",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "fabs({0})",
    "sqrt": "sqrt({0})",
    "pow": "pow({0}, {1})",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "sinh": "sinh({0})",
    "cosh": "cosh({0})",
    "tanh": "tanh({0})",
    "sin": "sin({0})",
    "cos": "cos({0})",
    "tan": "tan({0})",
    "asin": "asin({0})",
    "acos": "acos({0})",
    "atan": "atan({0})",
    "erf": "erf({0})",
    "erfc": "erfc({0})",
    "at_least": "{0} < {1} ? {1} : {0}",  # written so that NaN stays NaN
    "at_most": "{0} > {1} ? {1} : {0}",
    "copysign": "copysign({0}, {1})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "and": "{0} && {1}",
    "or": "{0} || {1}",
    "not": "!{0}",
    "select": "{0} ? {1} : {2}",
}
_TRUTHS = {"lt", "le", "eq", "and", "or", "not"}
HEADER = "#include <math.h>\n#include <stddef.h>\n"


def comment(text: str) -> str:
    """A C comment; nothing in the text can end it."""
    lines = text.replace("*/", "* /").replace("/*", "/ *").strip().split("\n")
    return "/* " + "\n".join([lines[0], *(f" * {line}".rstrip() for line in lines[1:])]) + "\n */\n"


def print_activation(programs: Programs, *, name: str, title: str, derivatives: int, dtype: str) -> str:
    """C99 source: ``name`` fills the value and its derivatives, ``name_backward`` multiplies by the first one."""
    real = REALS[dtype]
    program = without_erfcx(programs(tuple(range(derivatives + 1))))
    name = f"{name}_" if name in _RESERVED else name
    outs = [f"*{given}" for given in program.outputs]
    usage = f"{name}(n, x, {', '.join(program.outputs)}): n numbers; outputs may be x itself.\n"
    usage += "Steps are double. cc -std=c99 -O2 file.c -lm; -ffast-math would undo the care taken."
    parts = [comment(f"{title}\n\n{usage}"), HEADER]
    parts.append(scalar_function(program, f"{name}_at"))
    parts.append(_array(program, name, real, outs))
    if derivatives:
        parts.append(_backward(without_erfcx(programs((1,))), name, real))
    return "\n".join(parts)


def scalar_function(program: Program, name: str, kind: str = "static inline") -> str:
    """A function of one number that computes the program's outputs."""
    names = names_of(program, {given: given for given in program.inputs})
    steps = [p for p, node in enumerate(program.nodes) if node.operation not in ("input", "constant")]
    lines = [f"{kind} void {name}(double x, {', '.join(f'double *{o}' for o in program.outputs)})", "{"]
    for kind, chosen in (("double", False), ("int", True)):
        declared = [names[p] for p in steps if (program.nodes[p].operation in _TRUTHS) == chosen]
        lines += [f"{INDENT}{kind} {', '.join(declared[k : k + 16])};" for k in range(0, len(declared), 16) if declared]
    lines += _body(program, names, plan(program), 1)
    lines += [f"{INDENT}*{out} = {operand_text(program, names, p)};" for out, p in program.outputs.items()]
    if not steps and not any(program.nodes[p].operation == "input" for p in program.outputs.values()):
        lines.insert(2, f"{INDENT}(void)x;")
    return "\n".join([*lines, "}", ""])


def _body(program: Program, names: Mapping[int, str], steps: Iterable[int | Branch], depth: int) -> list[str]:
    lines: list[str] = []
    for step in steps:
        if isinstance(step, int):
            lines.append(f"{INDENT * depth}{names[step]} = {text_of(program, TABLE, names, step)};")
            continue
        sides = ((f"if ({operand_text(program, names, step.condition)})", step.yes, 1), ("else", step.no, 2))
        for word, side, position in sides:
            lines.append(f"{INDENT * depth}{word} {{")
            lines += _body(program, names, side, depth + 1)
            for p in step.selects:
                chosen = operand_text(program, names, program.nodes[p].operands[position])
                lines.append(f"{INDENT * (depth + 1)}{names[p]} = {chosen};")
            lines.append(f"{INDENT * depth}}}")
    return lines


def _array(program: Program, name: str, real: str, outs: list[str]) -> str:
    results = list(program.outputs)
    lines = [f"void {name}(size_t n, const {real} *x, {', '.join(f'{real} {o}' for o in outs)})", "{"]
    lines += [
        f"{INDENT}for (size_t i = 0; i < n; i++) {{",
        f"{INDENT * 2}double {', '.join(f'{r}_i' for r in results)};",
    ]
    lines.append(f"{INDENT * 2}{name}_at(x[i], {', '.join(f'&{r}_i' for r in results)});")
    lines += [f"{INDENT * 2}{r}[i] = {_cast(real)}{r}_i;" for r in results]
    return "\n".join([*lines, f"{INDENT}}}", "}", ""])


def _backward(program: Program, name: str, real: str) -> str:
    """dx = upstream·f′(x), with a scalar function of the derivative alone."""
    (out,) = program.outputs
    lines = [scalar_function(program, f"{name}_{out}_at")]
    lines += [f"void {name}_backward(size_t n, const {real} *x, const {real} *upstream, {real} *dx)", "{"]
    lines += [f"{INDENT}for (size_t i = 0; i < n; i++) {{", f"{INDENT * 2}double slope;"]
    lines += [f"{INDENT * 2}{name}_{out}_at(x[i], &slope);", f"{INDENT * 2}dx[i] = {_cast(real)}(upstream[i] * slope);"]
    return "\n".join([*lines, f"{INDENT}}}", "}", ""])


def _cast(real: str) -> str:
    return "(float)" if real == "float" else ""


#: Names that <math.h> and the language own.
_RESERVED = frozenset((
    "acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "exp", "expm1", "fabs", "gamma", "log", "log1p", "pow", "sin",
    "sinh", "sqrt", "tan", "tanh", "double", "float", "int", "void", "static", "inline", "const", "return",
))  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- layers


class CDialect(Dialect):
    """Arrays are row-major and contiguous."""

    def array(self, name: str, indices: Sequence[str], sizes: Sequence[str]) -> str:
        """x[(n)*I + i]"""
        text = ""
        first = next((k for k, index in enumerate(indices) if index != "0"), len(indices))
        for index, size in zip(indices[first:], sizes[first:], strict=True):
            wrapped = f"({index})" if " " in index and text else index
            text = (
                f"({text}) * {size} + {wrapped}" if " " in text else f"{text} * {size} + {wrapped}" if text else index
            )
        return f"{name}[{text or 0}]"


#: Arrays on a device: also a single number lies there.
DEVICE = CDialect(
    table=TABLE, loop="for (size_t {0} = 0; {0} < {1}; {0}++) {{", back="for (size_t {0} = {1}; {0}-- > 0;) {{",
    close="}", number="const double {0} = {1};", truth="const int {0} = {1};", index="const size_t {0} = {1};",
    variable="double {0} = {1};", assign="{0} = {1};", add="{0} += {1};", floor="/", infinity="INFINITY",
    real="(double){0}", literal="{0}.0", both="{0} && {1}", either="{0} || {1}", test="if ({0}) {{",
)  # fmt: skip
DIALECT = replace(DEVICE, by_value=True)


def single(dialect: Dialect) -> Dialect:
    """The same with arguments and results that are float; steps and what lies between are double."""
    return replace(dialect, given="(double){0}", result="(float)({0})")


REALS = {"float64": "double", "float32": "float"}


def print_layer(row: Layer, dtype: str = "float64") -> str:
    """C99 source of ``NAME_forward`` and ``NAME_backward``: 0 when done, 1 when there was no memory."""
    text = f"{usage(row)}\nArrays are contiguous, the last index fastest; outputs may not overlap inputs.\n"
    text += "Each function returns 0, or 1 when there was no memory for its intermediate arrays.\n"
    text += f"Arrays are {REALS[dtype]}, steps are double. cc -std=c99 -O2 file.c -lm"
    title = f"{row.title or row.name}: forward pass, and the backward pass derived from it"
    parts = [comment(f"{title}\n\n{text}"), HEADER + "#include <stdlib.h>\n"]
    parts += [_layer_function(what, f"{row.name}_{what.name}", dtype) for what in passes(row)]
    return "\n".join(parts)


def layer_signature(what: Pass, dtype: str, dialect: Dialect = DIALECT) -> list[str]:
    """The arguments of a layer's function: sizes, arrays, hyper-parameters, outputs."""
    real = REALS[dtype]
    arguments = [f"size_t {text}" for text in what.spelt_sizes.values()]
    arguments += [
        f"{real} {identifier(a.name)}" if dialect.by_value and not a.indices else f"const {real} *{identifier(a.name)}"
        for a in what.arguments
    ]
    arguments += [f"double {p}" for p in what.parameters]
    return arguments + [f"{real} *{identifier(o)}" for o in what.outputs]


def shapes_of(what: Pass, writer: LoopWriter) -> str:
    """The shape of every argument and result, and what hyper-parameters usually are."""
    spelt = [(identifier(a.name), a.indices) for a in what.arguments]
    shapes = [n if not axes and writer.dialect.by_value else _shape(writer, n, axes) for n, axes in spelt]
    shapes += [_shape(writer, identifier(o), axes) for o, (_, axes) in what.outputs.items()]
    defaults = "; ".join(f"{p} is usually {v}" for p, v in what.parameters.items())
    return "; ".join([", ".join(shapes), *([defaults] if defaults else [])])


def _shape(writer: LoopWriter, name: str, axes: Sequence[Axis]) -> str:
    return f"{name}[{', '.join(map(writer.size, axes)) or 1}]"


def workspace_lines(sizes: Mapping[str, str]) -> list[str]:
    """Pointers of intermediate arrays, one behind the other in ``work``."""
    lines, place = [], "work"
    for n, size in sizes.items():
        lines.append(f"{INDENT}double *{n} = {place};")
        place = f"{n} + {size}"
    return lines


def head_of(what: str, arguments: Sequence[str]) -> str:
    """A function's head, on as many lines as it needs."""
    lines = [f"{what}("]
    for k, argument in enumerate(arguments):
        text = argument + (", " if k < len(arguments) - 1 else ")")
        if len(lines[-1]) + len(text) > 104:
            lines.append(INDENT * 2)
        lines[-1] += text
    return "\n".join(line.rstrip() for line in lines)


def _layer_function(what: Pass, name: str, dtype: str) -> str:
    writer = LoopWriter(what, single(DIALECT) if dtype == "float32" else DIALECT)
    arguments = layer_signature(what, dtype)
    workspace = {n: " * ".join(map(writer.size, axes)) or "1" for n, axes in writer.arrays.items()}
    lines = [f"/* {shapes_of(what, writer)} */", head_of(f"int {name}", arguments), "{"]
    used = "\n".join([*writer.lines, *workspace.values()])
    names = [a.split()[-1].lstrip("*") for a in arguments]
    lines += [f"{INDENT}(void){n};" for n in names if not re.search(rf"\b{n}\b", used)]
    if workspace:
        total = textwrap.wrap(f"const size_t room = {' + '.join(workspace.values())} + 1;", 100)
        lines += [f"{INDENT}{total[0]}", *(f"{INDENT * 2}{line}" for line in total[1:])]
        lines += [f"{INDENT}double *work = malloc(sizeof(double) * room);"]
        lines += [f"{INDENT}if (!work)", f"{INDENT * 2}return 1;"]
        lines += workspace_lines(workspace)
    lines += writer.lines
    lines += [f"{INDENT}free(work);"] if workspace else []
    return "\n".join([*lines, f"{INDENT}return 0;", "}", ""])
