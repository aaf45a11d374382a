"""Printer of layers for Numba on the CPU: plain loops over entries, compiled when they are first called."""

from __future__ import annotations

from collections.abc import Sequence

from ...theory.layer_row import Layer
from ...theory.numpy_source import identifier
from .layer_loops import Dialect, LoopWriter
from .numba_cpu import TABLE
from .printing import INDENT
from .tensor_parts import Pass, passes, read_sizes


class _NumbaDialect(Dialect):
    """Arrays of any layout."""

    def array(self, name: str, indices: Sequence[str], sizes: Sequence[str]) -> str:
        """x[n, i]"""
        return f"{name}[{', '.join(indices) or '()'}]"


DIALECT = _NumbaDialect(
    table=TABLE, loop="for {0} in range({1}):", back="for {0} in range({1} - 1, -1, -1):", close="",
    number="{0} = {1}", truth="{0} = {1}", index="{0} = {1}", variable="{0} = {1}", assign="{0} = {1}",
    add="{0} += {1}", floor="//", infinity="math.inf", real="float({0})", literal="{0}.0", both="{0} and {1}",
    either="{0} or {1}", test="if {0}:",
)  # fmt: skip


def print_layer(row: Layer) -> str:
    """A module with ``forward(inputs…)`` and ``backward(dy, inputs…)``; arrays are float64."""
    title = f"{row.title or row.name}: forward pass, and the backward pass derived from it; arrays are float64."
    functions = [_function(what) for what in passes(row)]
    head = [f'"""{title}"""\n', *(["import math\n"] if any("math." in f for f in functions) else [])]
    return "\n".join([*head, "import numba", "import numpy as np", "", "", "\n\n".join(functions)])


def _function(what: Pass) -> str:
    writer = LoopWriter(what, DIALECT)
    arguments = [identifier(a.name) for a in what.arguments] + [f"{p}={v}" for p, v in what.parameters.items()]
    lines = ['@numba.njit(error_model="numpy")', f"def {what.name}({', '.join(arguments)}):"]
    lines += [f"{INDENT}{size} = {shape}" for size, shape in read_sizes(what.arguments, what.spelt_sizes).items()]
    every = {**{identifier(o): axes for o, (_, axes) in what.outputs.items()}, **writer.arrays}
    lines += [
        f"{INDENT}{name} = np.empty(({', '.join(map(writer.size, axes))}{',' if len(axes) == 1 else ''}))"
        for name, axes in every.items()
    ]
    lines += writer.lines
    return "\n".join([*lines, f"{INDENT}return {', '.join(map(identifier, what.outputs))}", ""])
