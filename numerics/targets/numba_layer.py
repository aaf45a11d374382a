"""Printer of layers for Numba on the CPU: plain loops over entries, compiled when they are first called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...theory.layer_row import Layer
from ...theory.numpy_source import identifier
from .layer_loops import Dialect, LoopWriter
from .numba_cpu import TABLE
from .printing import INDENT
from .tensor_parts import Pass, passes, read_sizes, result_name, usage


class _NumbaDialect(Dialect):
    """Arrays of any layout."""

    def array(self, name: str, indices: Sequence[str], sizes: Sequence[str]) -> str:
        """x[n, i]"""
        return f"{name}[{', '.join(indices) or '()'}]"


DIALECT = _NumbaDialect(
    table=TABLE, loop="for {0} in range({1}):", back="for {0} in range({1} - 1, -1, -1):", close="",
    number="{0} = {1}", truth="{0} = {1}", index="{0} = {1}", variable="{0} = {1}", assign="{0} = {1}",
    add="{0} += {1}", floor="//", infinity="math.inf", real="float({0})", literal="{0}.0", both="{0} and {1}",
    either="{0} or {1}", test="if {0}:", by_value=True,
)  # fmt: skip


#: Arguments and results are float32; steps and what lies between are float64.
SINGLE = replace(DIALECT, given="np.float64({0})")


def print_layer(row: Layer, dtype: str = "float64") -> str:
    """A module with ``forward(inputs…)`` and ``backward(dy, inputs…)``."""
    title = f"{row.title or row.name}: forward pass, and the backward pass derived from it"
    names = ", ".join(identifier(a.name) for a in row.inputs)
    text = f"{usage(row)}\nforward({names}) returns {result_name(row)}; "
    text += f"backward({identifier(row.cotangent.name)}, {names}) returns {', '.join(passes(row)[1].outputs)}.\n"
    text += f"Arrays are {dtype}, of any strides" + (", steps are float64." if dtype == "float32" else ".")
    functions = [_function(what, dtype) for what in passes(row)]
    head = [f'"""{title}\n\n{text}\n"""\n', *(["import math\n"] if any("math." in f for f in functions) else [])]
    return "\n".join([*head, "import numba", "import numpy as np", "", "", "\n\n".join(functions)])


def _function(what: Pass, dtype: str) -> str:
    writer = LoopWriter(what, SINGLE if dtype == "float32" else DIALECT)
    arguments = [identifier(a.name) for a in what.arguments] + [f"{p}={v}" for p, v in what.parameters.items()]
    lines = ['@numba.njit(error_model="numpy")', f"def {what.name}({', '.join(arguments)}):"]
    lines += [f"{INDENT}{size} = {shape}" for size, shape in read_sizes(what.arguments, what.spelt_sizes).items()]
    results = {identifier(o): axes for o, (_, axes) in what.outputs.items()}
    for name, axes in {**results, **writer.arrays}.items():
        kind = ", dtype=np.float32" if dtype == "float32" and name in results else ""
        lines.append(f"{INDENT}{name} = np.empty(({', '.join(map(writer.size, axes))}{',' * (len(axes) == 1)}){kind})")
    lines += writer.lines
    returned = [name if axes else f"{name}[()]" for name, axes in results.items()]
    return "\n".join([*lines, f"{INDENT}return {', '.join(returned)}", ""])
