"""Printer for NumPy: whole-array statements, one per step; both branches of a select are computed."""

from __future__ import annotations

from collections.abc import Sequence

from ...theory.lowering import Program
from .numba_cpu import names_of
from .printing import INDENT, identifier, operand_text, ordered, table_lines, text_of

TABLE: dict[str, str] = {
    "minus_infinity": "-np.inf",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "np.abs({0})",
    "sqrt": "np.sqrt({0})",
    "pow": "np.power({0}, {1})",
    "exp": "np.exp({0})",
    "expm1": "np.expm1({0})",
    "log": "np.log({0})",
    "log1p": "np.log1p({0})",
    "sinh": "np.sinh({0})",
    "cosh": "np.cosh({0})",
    "tanh": "np.tanh({0})",
    "sin": "np.sin({0})",
    "cos": "np.cos({0})",
    "tan": "np.tan({0})",
    "asin": "np.arcsin({0})",
    "acos": "np.arccos({0})",
    "atan": "np.arctan({0})",
    "erf": "special.erf({0})",
    "erfc": "special.erfc({0})",
    "erfcx": "special.erfcx({0})",
    "at_least": "np.maximum({0}, {1})",
    "at_most": "np.minimum({0}, {1})",
    "copysign": "np.copysign({0}, {1})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "~{0}",
    "select": "np.where({0}, {1}, {2})",
    "cell": "cell_of({0}, STARTS_{table}, SHIFTS_{table}, {first})",
    "entry": "CELLS_{block}[{0}, {column}]",
}

#: The row of the cell that holds x, as :func:`..elementary.cell_of` finds it.
_CELL_OF = """\
def cell_of(x, starts, shifts, first):
    bits = np.ascontiguousarray(x).view(np.int64).reshape(np.shape(x))
    size = bits & 0x7FFFFFFFFFFFFFFF
    last = starts.size // 2 - 1
    segment = np.clip((size >> 49) - first + 1, 0, last) + np.where(bits < 0, last + 1, 0)
    return starts[segment] + ((size & 0x1FFFFFFFFFFFF) >> shifts[segment])
"""


#: Operations that never warn.
_QUIET = frozenset((
    "input", "constant", "neg", "abs", "at_least", "at_most", "copysign", "lt", "le", "eq", "and", "or", "not",
    "select", "cell", "entry",
))  # fmt: skip


def print_source(
    program: Program, *, dtype: str, scalars: Sequence[str] = (), title: str = "", name: str = "run"
) -> str:
    """A module with one function ``run(inputs…)`` that returns one array per output (one alone, or a tuple).

    Steps are float64; the result is rounded once to ``dtype``. Selects compute both sides, so warnings about the side
    that is not taken are silenced.
    """
    inputs = {given: identifier(given) for given in program.inputs}
    names = names_of(program, inputs)
    special = {"erf", "erfc", "erfcx"} & program.operations
    lines = [f'"""{title}"""', "", "import numpy as np", *(["from scipy import special"] if special else [])]
    lines += [*table_lines(program), "", "", *_CELL_OF.splitlines()] if program.tables else []
    lines += ["", ""]
    lines.append(f"def {name}({', '.join(inputs.values())}):")
    arrays = [text for given, text in inputs.items() if given not in scalars]
    lines += [f"{INDENT}{text} = np.asarray({text}, dtype=np.float64)" for text in arrays]
    lines += [f"{INDENT}{names[p]} = {text_of(program, TABLE, names, p)}" for p, _ in ordered(program)]
    results = [_result(program, names, place, arrays, dtype) for place in program.outputs.values()]
    lines.append(f"{INDENT}return {', '.join(results)}")
    if program.operations - _QUIET:
        start = lines.index(f"def {name}({', '.join(inputs.values())}):")
        lines.insert(start, '@np.errstate(all="ignore")  # the side of a branch that is not taken is computed too')
    return "\n".join(lines) + "\n"


def _result(program: Program, names: dict[int, str], place: int, arrays: list[str], dtype: str) -> str:
    text = operand_text(program, names, place)
    if program.nodes[place].operation == "constant":
        return f"np.full_like({arrays[0]}, {text}, dtype=np.{dtype})" if arrays else f"np.{dtype}({text})"
    return f"{text}.astype(np.{dtype})" if dtype != "float64" else text
