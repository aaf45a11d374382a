"""Printer of layers that normalise or reduce along the rows of a matrix, for Numba on the CPU: one pass, row by row.

What :mod:`.layer_loops` writes for whole arrays is written here for one row, inside one loop over the rows: an array
of one number a row becomes a variable, an array of a number an entry one row of memory, and a sum over the rows (the
gradient of a scale) is added to as the rows go by. Steps are float64, results are rounded once on storing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ...theory.errors import Unsupported
from ...theory.layer_row import Layer
from ...theory.numpy_source import identifier
from ...theory.tensors import Axis, Contract, Extremum, Input, Tensor
from .layer_loops import Block, LoopWriter
from .numba_cpu import TABLE, VECTORISED
from .numba_layer import DIALECT, _NumbaDialect
from .printing import INDENT
from .shared_exponentials import with_shared_exponentials
from .tensor_parts import Pass, passes, read_sizes

#: A call of an elementary function.
_CALL = re.compile(r"\b(short_)?(exp|expm1|log|log1p|erf|erfcx|atan|fma|copysign)\(")


class RowWriter(LoopWriter):
    """Writes one pass for a single row; ``row_axis`` is the axis of the rows."""

    def __init__(self, what: Pass, dialect: _NumbaDialect, row_axis: Axis) -> None:
        self.row_axis = row_axis
        self.added: set[str] = set()
        super().__init__(what, dialect)

    def _is_memory(self, name: str) -> bool:
        return name in self.arrays

    def _entry(self, name: str, axes: Sequence[Axis], env: Mapping[Axis, str]) -> str:
        if not self._is_memory(name):
            return super()._entry(name, axes, env)
        kept = [a for a in axes if a != self.row_axis]
        return f"{name}[{', '.join(env[a] for a in kept)}]" if kept else name

    def _nest(self, axes: Sequence[Axis], inside: Iterable[str], depth: int = 1) -> list[str]:
        return super()._nest([a for a in axes if a != self.row_axis], inside, depth)

    def _value(self, node: Tensor, env: Mapping[Axis, str], block: Block) -> str:
        text = super()._value(node, env, block)
        return f"numba.float64({text})" if isinstance(node, Input) else text

    def _sum(self, name: str, env: Mapping[Axis, str], node: Contract) -> list[str]:
        if self.row_axis not in node.summed:
            return super()._sum(name, env, node)
        if self._is_memory(name):
            raise Unsupported("a sum over the rows is needed before the rows are done: no pass row by row")
        self.added.add(name)
        env = {**env, **self._places(node.summed)}
        inner = Block()
        term = self._product(node.factors, env, inner)
        rest = [a for a in node.summed if a != self.row_axis]
        return self._nest(rest, [*inner.lines, self.dialect.add.format(self._own(name, env), term)], 0)

    def _maximum(self, name: str, env: Mapping[Axis, str], node: Extremum) -> list[str]:
        if self.row_axis in node.over:
            raise Unsupported("a maximum over the rows is needed before the rows are done: no pass row by row")
        inputs = isinstance(node.operand, Input) and node.operand.indices == (self.row_axis, *node.over)
        if self.shapes[name] != (self.row_axis,) or len(node.over) != 1 or not inputs:
            return super()._maximum(name, env, node)
        assert isinstance(node.operand, Input)
        return [f"{name} = row_maximum({identifier(node.operand.name)}[{self.index_of(self.row_axis)}])"]


def row_axis(row: Layer) -> Axis:
    """The axis of the rows: the first of a layer of two axes that is not reduced in its forward pass."""
    axes = row.output_axes
    if len(axes) != 2:
        raise Unsupported(f"layer {row.name} has {len(axes)} axes: kernels by rows are of matrices")
    return axes[0]


def print_rows(row: Layer, dtype: str) -> str:
    """A module with ``forward(inputs…, parameters…, y)`` and ``backward(dy, inputs…, parameters…, gradients…)``.

    Arrays are C-contiguous and hold ``dtype``; gradients that are sums over the rows are added to. Raises
    :class:`Unsupported` where a reduction runs over the rows, as in batch normalisation.
    """
    axis = row_axis(row)
    text = "\n\n\n".join(_function(with_shared_exponentials(what), dtype, axis) for what in passes(row))
    title = f"{row.title or row.name}, row by row, forward and backward as derived; {dtype}."
    return _module(title, text, "forward, backward")


def print_pass(what: Pass, title: str, dtype: str, axis: Axis, *, wide: Collection[str] = ()) -> str:
    """A module with one pass over the rows; the outputs named in ``wide`` are float64 arrays."""
    return _module(f"{title}; {dtype}.", _function(with_shared_exponentials(what), dtype, axis, wide), what.name)


def _module(title: str, text: str, run: str) -> str:
    """The functions with what they import; ``run`` is what a kernel's file gives its caller."""
    used = sorted({f"{short or ''}{name}" for short, name in _CALL.findall(text)})
    helpers = ["row_maximum"] if "row_maximum" in text else []
    package = __package__.rsplit(".", 1)[0]
    lines = [f'"""{title}"""', ""]
    lines += ["import math", ""] if "math." in text else []
    lines += ["import numba", *(["import numpy as np"] if "np." in text else []), ""]
    own = [f"from {package}.elementary import {', '.join(used)}"] if used else []
    own += [f"from {package}.row_reductions import {', '.join(helpers)}"] if helpers else []
    lines += [*own, ""] if own else []
    return "\n".join([*lines, "", text, "", "", f"run = {run}", ""])


def _table(dtype: str) -> dict[str, str]:
    table = dict(TABLE)
    for operation, arity in VECTORISED.items():
        short = dtype == "float32" and operation not in ("fma", "copysign")
        table[operation] = f"{'short_' if short else ''}{operation}({', '.join(f'{{{k}}}' for k in range(arity))})"
    return table


def _function(what: Pass, dtype: str, axis: Axis, wide: Collection[str] = ()) -> str:
    dialect = replace(DIALECT, table=_table(dtype))
    writer = RowWriter(what, dialect, axis)
    arguments = [identifier(a.name) for a in what.arguments]
    outputs = [identifier(o) for o in what.outputs]
    kinds = [f"{dtype}[{', '.join([':'] * (len(a.indices) - 1) + ['::1'])}]" for a in what.arguments]
    kinds += ["float64"] * len(what.parameters)
    for name, (_, axes) in what.outputs.items():
        kind = "float64" if identifier(name) in writer.added or name in wide else dtype
        kinds.append(f"{kind}[{', '.join([':'] * (len(axes) - 1) + ['::1'])}]")
    signature = f"void({', '.join(kinds)})"
    lines = [f'@numba.njit("{signature}", cache=True, nogil=True, error_model="numpy", fastmath={{"reassoc"}})']
    lines += [f"def {what.name}({', '.join([*arguments, *what.parameters, *outputs])}):"]
    lines += [f"{INDENT}{size} = {shape}" for size, shape in read_sizes(what.arguments, what.spelt_sizes).items()]
    for name, axes in writer.arrays.items():
        kept = [writer.size(a) for a in axes if a != axis]
        if kept:
            lines.append(f"{INDENT}{name} = np.empty(({', '.join(kept)}{',' if len(kept) == 1 else ''}))")
    lines.append(f"{INDENT}for {writer.index_of(axis)} in range({writer.size(axis)}):")
    lines += [f"{INDENT}{line}" for line in writer.lines]
    return "\n".join(lines)
