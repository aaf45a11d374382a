"""Printer of layers that normalise or reduce along the rows of a matrix, for Numba on the CPU: one pass, row by row.

Inside one loop over the rows stand as few loops over a row's entries as :mod:`.row_schedule` finds: a number a row is a
variable, an entry is computed where it is needed, and a sum over the rows (the gradient of a scale) is added to as the
rows go by. Steps are float64, results are rounded once on storing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sympy

from ...theory.arithmetic import ARITHMETICS, Arithmetic, fused
from ...theory.errors import Unsupported
from ...theory.layer_row import Layer
from ...theory.lowering import Program
from ...theory.numpy_source import identifier
from ...theory.stability import stable_program
from ...theory.tensors import Axis, Contract, Extremum, Input, Map, Position, Scalar, Tensor, slot
from .layer_loops import OWN_NAMES
from .numba_cpu import TABLE, VECTORISED, prepared
from .printing import INDENT
from .row_form import row_form
from .row_schedule import Schedule
from .tensor_parts import Names, Pass, passes, read_sizes, scalar_steps, size_text, told

#: A call of an elementary function.
_CALL = re.compile(r"\b(?:short_)?(?:" + "|".join(VECTORISED) + r")(?=\()")
#: Of these there is one for both kinds of results.
_COMMON = ("fma", "copysign")

#: What loops over rows call of :mod:`..row_reductions`.
HELPERS = ("apart", "larger", "plus")


class RowWriter:
    """Writes one pass for a single row: ``lines`` go inside the loop over the rows."""

    def __init__(self, what: Pass, row: Axis, dtype: str) -> None:
        self.merge = dtype == "float32"  # whose products do not overflow in float64
        self.form = row_form(what, row, merge=self.merge)
        self.schedule, self.arithmetic = Schedule(self.form), fused(ARITHMETICS[dtype])
        self.sizes, self.parameters = what.spelt_sizes, set(what.parameters)
        given = [identifier(a.name) for a in what.arguments]
        results = {name: identifier(name) for name in what.outputs}
        self.names = Names([*given, *what.parameters, *self.sizes.values(), *results.values(), *OWN_NAMES, *HELPERS])
        column = next(a for t in what.arguments for a in t.indices if a.size == self.form.column.size and a != row)
        self.place = {row: self.names.claim(f"i_{identifier(row.name)}")}
        self.place[self.form.column] = self.names.claim(f"i_{identifier(column.name)}")
        #: what has a value in this row, and in this round of the loop
        self.of_row: dict[Tensor, str] = {}
        self.of_entry: dict[Tensor, str] = {}
        self.memory: dict[Tensor, str] = {}
        self.lines: list[str] = []
        for loop in range(len(self.schedule.loops)):
            self._write_loop(loop, results)
        for name, (tensor, axes) in self.form.outputs.items():
            if not self.schedule.by_entry(tensor):
                if axes != (row,):
                    raise Unsupported(f"{name} is one number for all rows: no pass row by row")
                value = self.value(tensor)
                self.lines.append(f"{results[name]}[{self.place[row]}] = {value}")

    @property
    def added(self) -> set[str]:
        """Outputs that are sums over the rows."""
        return {name for name, (_, axes) in self.form.outputs.items() if self.form.row not in axes}

    def size(self, a: Axis) -> str:
        """An axis size as source."""
        return size_text(a.size, self.sizes, "//")

    def _write_loop(self, loop: int, results: Mapping[str, str]) -> None:
        self.of_entry = {}
        body: list[str] = []
        after: dict[Tensor, str] = {}
        for node in self.schedule.loops[loop]:
            after[node] = self._gather(node, body)
        if loop == len(self.schedule.loops) - 1:
            for name in self.schedule.written:
                self._write(self.form.outputs[name], results[name], body)
        column = self.form.column
        self.lines.append(f"for {self.place[column]} in range({self.size(column)}):")
        self.lines += [INDENT + line for line in shared_steps(body)]
        for node, text in after.items():
            named = node in self.form.names or not text.isidentifier()
            self.of_row[node] = self._keep(text, self.lines, node) if named else text

    def _gather(self, node: Tensor, body: list[str]) -> str:
        """Gather a sum or a maximum in a variable of its own; what it is worth after the loop."""
        name = self.names.fresh("s")
        if isinstance(node, Extremum):
            entry = self._raw(node.operand) if isinstance(node.operand, Input) else self.value(node.operand, body)
            broken = self.names.fresh("b")
            self.lines += [f"{name} = {self._lowest(node.operand)}", f"{broken} = False"]
            body += [f"{name} = larger({name}, {entry})", f"{broken} |= {entry} != {entry}"]
            return f"math.nan if {broken} else numba.float64({name})"
        assert isinstance(node, Contract)
        self.lines.append(f"{name} = 0.0")
        terms = [self.value(f, body) for f in node.factors if not isinstance(f, Scalar)]
        body.append(f"{name} = plus({name}, {' * '.join(terms) or '1.0'})")
        return " * ".join([*(self.value(f) for f in node.factors if isinstance(f, Scalar)), name])

    def _lowest(self, operand: Tensor) -> str:
        """Where a maximum starts, in the type of what it is of."""
        if not isinstance(operand, Input):
            return "-math.inf"
        return self._raw(operand).replace(self.place[self.form.column], "0")

    def _write(self, output: tuple[Tensor, tuple[Axis, ...]], name: str, body: list[str]) -> None:
        tensor, axes = output
        entry = f"{name}[{', '.join(self.place[a] for a in axes)}]"
        if self.form.row in axes:
            body.append(f"{entry} = {self.value(tensor, body)}")
        elif isinstance(tensor, Contract) and tensor.summed == (self.form.row,):
            body.append(f"{entry} += {' * '.join(self.value(f, body) for f in tensor.factors)}")
        else:
            raise Unsupported(f"{name} is no sum over the rows of products: no pass row by row")

    # --- values

    def value(self, node: Tensor, body: list[str] | None = None) -> str:
        """The text of a node: in the row or, with ``body``, in a round of the loop; what it needs is written first."""
        if body is None or not self.schedule.by_entry(node):
            if node not in self.of_row:
                self.of_row[node] = self._value(node, None)
            return self.of_row[node]
        if node not in self.of_entry:
            self.of_entry[node] = self._remembered(node, body)
        return self.of_entry[node]

    def _remembered(self, node: Tensor, body: list[str]) -> str:
        if node not in self.schedule.kept:
            return self._value(node, body)
        entry = f"[{self.place[self.form.column]}]"
        if node in self.memory:
            return self.memory[node] + entry
        value = self._value(node, body)
        self.memory[node] = self.names.claim(identifier(self.form.names.get(node, "kept")))
        body.append(f"{self.memory[node]}{entry} = {value}")
        return value

    def _raw(self, node: Input) -> str:
        indices = ", ".join(self.place[a] for a in node.indices)
        return f"{identifier(node.name)}[{indices}]"

    def _value(self, node: Tensor, body: list[str] | None) -> str:
        block = self.lines if body is None else body
        match node:
            case Input():
                return self._keep(f"numba.float64({self._raw(node)})", block, node)
            case Scalar():
                return self._scalar(node.value, {}, block)
            case Position():
                return self._keep(f"float({self.place[node.along]})", block, node)
            case Map():
                slots = {slot(k): self.value(a, body) for k, a in enumerate(node.arguments)}
                if node.function == _EXP and _is_below_its_maximum(node.arguments[0]):
                    return self._decaying(slots[slot(0)], block, node)
                return self._scalar(node.function, slots, block)
            case Contract() if not node.summed:
                return self._product(node, body)
        if isinstance(node, (Contract, Extremum)):
            raise Unsupported("a sum or maximum over the rows is needed before the rows are done: no pass row by row")
        raise told(node)

    def _decaying(self, argument: str, block: list[str], node: Tensor) -> str:
        """exp of what is never positive."""
        text = _table(self.arithmetic)["lifted_exp"].format(argument)
        if not self.arithmetic.lift:
            return self._keep(text, block, node)
        lifted = self.names.fresh()
        block.append(f"{lifted} = {text}")
        return self._keep(f"{lifted} * {2.0**-self.arithmetic.lift!r}", block, node)

    def _product(self, node: Contract, body: list[str] | None) -> str:
        factors: Sequence[Tensor] = node.factors
        if self.merge and body is not None:  # once a row, not once an entry
            of_row = tuple(f for f in factors if not self.schedule.by_entry(f))
            rest = [f for f in factors if self.schedule.by_entry(f)]
            factors = [Contract(of_row, (self.form.row,)), *rest] if len(of_row) > 1 else [*of_row, *rest]
        texts = [self.value(f, body) for f in factors]
        return (
            texts[0] if len(texts) == 1 else self._keep(" * ".join(texts), self.lines if body is None else body, node)
        )

    def _keep(self, text: str, block: list[str], node: Tensor) -> str:
        wish = self.form.names.get(node)
        name = self.names.fresh() if wish is None or block is not self.lines else self.names.claim(identifier(wish))
        block.append(f"{name} = {text}")
        return name

    def _scalar(self, value: sympy.Expr, slots: Mapping[sympy.Symbol, str], block: list[str]) -> str:
        texts = {**{s: f"float({t})" for s, t in self.sizes.items()}, **slots}
        for s in value.free_symbols:
            if s not in texts and identifier(str(s)) in self.parameters:
                texts[s] = identifier(str(s))

        def add(name: str, text: str, truth: bool) -> None:
            block.append(f"{name} = {text}")

        return scalar_steps(value, texts, _table(self.arithmetic), self.names, add, stable=self._stable)

    def _stable(self, kind: Any) -> Program:
        return _stable_program(kind, self.arithmetic)


_EXP, _DIFFERENCE = sympy.exp(slot(0)), slot(0) - slot(1)


def _is_below_its_maximum(node: Tensor) -> bool:
    """Whether the node is a − max a."""
    if not (isinstance(node, Map) and node.function == _DIFFERENCE):
        return False
    first, second = node.arguments
    return isinstance(second, Extremum) and second.operand is first


@lru_cache(maxsize=256)
def _stable_program(kind: Any, arithmetic: Arithmetic) -> Program:
    """The stable program of a function that has a name and a formula in x, for one dtype."""
    return prepared(stable_program({"value": kind.formula}, arithmetic).program, arithmetic)


def shared_steps(lines: Sequence[str]) -> list[str]:
    """Assignments to names, each right-hand side once (|−v| is |v|); other statements stay."""
    made: dict[str, str] = {}
    same: dict[str, str] = {}
    negative: dict[str, str] = {}
    kept = []
    for line in lines:
        left, sign, right = line.partition(" = ")
        right = _respelt(right, same)
        if not (sign and left.isidentifier()):
            kept.append(_respelt(line, same))
            continue
        if left in _NAME.findall(right):  # gathered from round to round
            kept.append(f"{left} = {right}")
            continue
        if turned := _NEGATED.fullmatch(right):
            negative[left] = turned[1]
        if size := _SIZE.fullmatch(right):
            right = f"abs({negative.get(size[1], size[1])})"
        if right in made:
            same[left] = made[right]
        else:
            made[right] = left
            kept.append(f"{left} = {right}")
    return kept


_NAME = re.compile(r"[A-Za-z_]\w*")
_NEGATED, _SIZE = re.compile(r"(?:-|\(-1\.0\) \* )([A-Za-z_]\w*)"), re.compile(r"abs\(([A-Za-z_]\w*)\)")


def _respelt(text: str, same: Mapping[str, str]) -> str:
    return _NAME.sub(lambda m: same.get(m[0], m[0]), text) if same else text


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
    text = "\n\n\n".join(_function(what, dtype, axis) for what in passes(row))
    title = f"{row.title or row.name}, row by row, forward and backward as derived; {dtype}."
    return _module(title, text, "forward, backward")


def print_pass(
    what: Pass, title: str, dtype: str, axis: Axis, *, wide: Collection[str] = (), integers: Collection[str] = ()
) -> str:
    """A module with one pass over the rows; the outputs named in ``wide`` are float64 arrays, the arguments in
    ``integers`` int64 ones."""
    return _module(f"{title}; {dtype}.", _function(what, dtype, axis, wide, integers), what.name)


def _module(title: str, text: str, run: str) -> str:
    """The functions with what they import; ``run`` is what a kernel's file gives its caller."""
    package = __package__.rsplit(".", 1)[0]
    used = sorted(set(_CALL.findall(text)))
    helpers = [name for name in HELPERS if f"{name}(" in text]
    lines = [f'"""{title}"""', ""]
    lines += ["import math", ""] if "math." in text else []
    lines += ["import numba", *(["import numpy as np"] if "np." in text else []), ""]
    lines += [f"from {package}.elementary import {', '.join(used)}"] if used else []
    lines += [f"from {package}.elementary_single import whole_vectors"]
    lines += [f"from {package}.row_reductions import {', '.join(helpers)}", ""]
    return "\n".join([*lines, "", text, "", "", f"run = {run}", ""])


@lru_cache(maxsize=4)
def _table(arithmetic: Arithmetic) -> dict[str, str]:
    table = dict(TABLE)
    for operation, arity in VECTORISED.items():
        short = arithmetic.wanted == 24 and operation not in _COMMON
        table[operation] = f"{'short_' if short else ''}{operation}({', '.join(f'{{{k}}}' for k in range(arity))})"
    return table


def _function(what: Pass, dtype: str, axis: Axis, wide: Collection[str] = (), integers: Collection[str] = ()) -> str:
    writer = RowWriter(what, axis, dtype)
    arguments = [identifier(a.name) for a in what.arguments]
    outputs = [identifier(o) for o in what.outputs]

    def kind(item: str, axes: Sequence[Axis]) -> str:
        return f"{item}[{', '.join([':'] * (len(axes) - 1) + ['::1'])}]"

    kinds = [kind("int64" if a.name in integers else dtype, a.indices) for a in what.arguments]
    kinds += ["float64"] * len(what.parameters)
    added = writer.added
    kinds += [kind("float64" if o in added or o in wide else dtype, axes) for o, (_, axes) in what.outputs.items()]
    signature = f"void({', '.join(kinds)})"
    lines = [f'@numba.njit("{signature}", cache=True, nogil=True, error_model="numpy")']
    lines += [f"def {what.name}({', '.join([*arguments, *what.parameters, *outputs])}):"]
    lines += [f"{INDENT}whole_vectors()", f"{INDENT}apart()"]
    lines += [f"{INDENT}{size} = {shape}" for size, shape in read_sizes(what.arguments, what.spelt_sizes).items()]
    lines += [f"{INDENT}{name} = np.empty({writer.size(writer.form.column)})" for name in writer.memory.values()]
    lines.append(f"{INDENT}for {writer.place[axis]} in range({writer.size(axis)}):")
    lines += [f"{INDENT * 2}{line}" for line in writer.lines]
    return "\n".join(lines)
