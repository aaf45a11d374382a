"""Printer for C99: ``static inline`` functions of one number, and functions over arrays.

The source compiles without a warning under ``cc -std=c99 -Wall -Wextra -Werror``. Only the branch that is taken is
computed. ``-ffast-math`` would undo the compensated steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...theory.lowering import Program
from ...theory.scaled_erfc import without_erfcx
from .arrays import Programs
from .branches import Branch, plan
from .numba_cpu import names_of
from .printing import INDENT, operand_text, text_of

TABLE: dict[str, str] = {
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
    real = {"float64": "double", "float32": "float"}[dtype]
    program = without_erfcx(programs(tuple(range(derivatives + 1))))
    name = f"{name}_" if name in _RESERVED else name
    outs = [f"*{given}" for given in program.outputs]
    usage = f"{name}(n, x, {', '.join(program.outputs)}): n numbers; outputs may be x itself.\n"
    usage += "Steps are double. cc -std=c99 -O2 file.c -lm; -ffast-math would undo the care taken."
    parts = [comment(f"{title}\n\n{usage}"), HEADER]
    parts.append(_scalar(program, f"{name}_at"))
    parts.append(_array(program, name, real, outs))
    if derivatives:
        parts.append(_backward(without_erfcx(programs((1,))), name, real))
    return "\n".join(parts)


def _scalar(program: Program, name: str) -> str:
    names = names_of(program, {given: given for given in program.inputs})
    steps = [p for p, node in enumerate(program.nodes) if node.operation not in ("input", "constant")]
    lines = [f"static inline void {name}(double x, {', '.join(f'double *{o}' for o in program.outputs)})", "{"]
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
    lines = [_scalar(program, f"{name}_{out}_at")]
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
