"""Tensor expressions as loops over entries: the targets that compute one number at a time (C, Numba).

A sum, a maximum, a named quantity and whatever is read at a computed index get an array; the rest stands in the
innermost loop. A dialect says how a loop, an assignment and an array are written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy

from ...theory.numpy_source import identifier
from ...theory.tensors import (
    Axis,
    Contract,
    Delta,
    Extremum,
    Input,
    Map,
    Maximiser,
    Named,
    Scalar,
    Tensor,
    merge_axes,
    slot,
)
from ...theory.windows import Affine, Overlap, Tie, Window
from .printing import INDENT
from .tensor_parts import Names, Pass, scalar_steps, size_text, told


@dataclass(frozen=True)
class Dialect(ABC):
    """How a target writes what loops are made of; the texts are formats."""

    table: Mapping[str, str]
    loop: str
    close: str
    number: str
    truth: str
    assign: str
    add: str
    floor: str
    infinity: str
    #: an integer variable, and a literal, in a formula
    real: str
    literal: str
    both: str
    either: str
    guard: str

    @abstractmethod
    def array(self, name: str, indices: Sequence[str], sizes: Sequence[str]) -> str:
        """One entry of an array."""


@dataclass
class Block:
    """Statements at one depth, and what is already computed there."""

    lines: list[str] = field(default_factory=list)
    known: dict[tuple[Tensor, tuple[tuple[Axis, str], ...]], str] = field(default_factory=dict)


class LoopWriter:
    """Writes the body of one :class:`Pass`."""

    def __init__(self, what: Pass, dialect: Dialect) -> None:
        self.dialect, self.sizes = dialect, what.spelt_sizes
        self.names = Names(
            [
                *(identifier(a.name) for a in what.arguments),
                *what.parameters,
                *self.sizes.values(),
                *map(identifier, what.outputs),
            ]
        )
        self.scalars = {**{s: dialect.real.format(t) for s, t in self.sizes.items()}}
        self.parameters = {name: name for name in what.parameters}
        self.shapes = {identifier(a.name): a.indices for a in what.arguments}
        self.arrays: dict[str, tuple[Axis, ...]] = {}
        self.made: dict[Tensor | str, str] = {}
        self.loops: dict[Axis, str] = {}
        self.lines: list[str] = []
        for name, (tensor, axes) in what.outputs.items():
            self.shapes[identifier(name)] = axes
            self._fill(identifier(name), axes, tensor)

    # --- arrays

    def size(self, a: Axis) -> str:
        """An axis size as source."""
        return size_text(a.size, self.sizes, self.dialect.floor)

    def _index(self, a: Axis) -> str:
        if a not in self.loops:
            self.loops[a] = self.names.claim(f"i_{identifier(a.name)}")
        return self.loops[a]

    def _entry(self, name: str, axes: Sequence[Axis], env: Mapping[Axis, str]) -> str:
        """Entry of an array at the indices that ``env`` gives to ``axes``."""
        return self.dialect.array(name, [env[a] for a in axes], [self.size(a) for a in self.shapes[name]])

    def _own(self, name: str, env: Mapping[Axis, str]) -> str:
        """Entry of an array that was made for a tensor, in the order in which it was laid out."""
        return self._entry(name, self.shapes[name], env)

    def _array(self, key: Tensor | str, wish: str, axes: tuple[Axis, ...]) -> str:
        name = self.names.claim(wish)
        self.arrays[name] = self.shapes[name] = axes
        self.made[key] = name
        return name

    def _nest(self, axes: Sequence[Axis], inside: list[str], depth: int = 1) -> list[str]:
        """Loops over the axes around the statements."""
        lines: list[str] = []
        for a in axes:
            lines.append(INDENT * depth + self.dialect.loop.format(self._index(a), self.size(a)))
            depth += 1
        lines += [INDENT * depth + line for line in inside]
        for k in range(len(axes)):
            if self.dialect.close:
                lines.append(INDENT * (depth - 1 - k) + self.dialect.close)
        return lines

    def _set(self, target: str, value: str) -> str:
        return self.dialect.assign.format(target, value)

    def _fill(self, name: str, axes: tuple[Axis, ...], node: Tensor) -> None:
        """Statements that make the array ``name`` the tensor, laid out along ``axes``."""
        env = {a: self._index(a) for a in axes}
        match node:
            case Contract() if node.summed:
                self._fill_sum(name, axes, node)
            case Extremum():
                self._fill_maximum(name, axes, node)
            case Overlap():
                self._fill_overlap(name, axes, node)
            case _:
                block = Block()
                value = self.value(node, env, block)
                self.lines += self._nest(axes, [*block.lines, self._set(self._entry(name, axes, env), value)])

    def _fill_sum(self, name: str, axes: tuple[Axis, ...], node: Contract) -> None:
        """Inside the loops over the kept axes: start at 0, add the terms, multiply by the scalars once."""
        env = {a: self._index(a) for a in (*axes, *node.summed)}
        inner, outer = Block(), Block()
        scalars = [f for f in node.factors if isinstance(f, Scalar)]
        for f in node.factors:
            if isinstance(f, Map) and set(f.axes) < set(env):
                self._materialise(f)  # a function is called once per entry of its own, not once per term
        total = self._entry(name, axes, env)
        tensors = [f for f in node.factors if not isinstance(f, Scalar)]
        term = self._product(tensors, env, inner) if tensors else self.dialect.literal.format(1)
        lines = [self._set(total, self.dialect.literal.format(0))]
        lines += self._nest(node.summed, [*inner.lines, self.dialect.add.format(total, term)], 0)
        if scalars:
            factor = self._product(scalars, env, outer)
            lines += [*outer.lines, self._set(total, f"{factor} * {total}")]
        self.lines += self._nest(axes, lines)

    def _fill_maximum(self, name: str, axes: tuple[Axis, ...], node: Extremum) -> None:
        env = {a: self._index(a) for a in (*axes, *node.over)}
        block = Block()
        value = self.value(node.operand, env, block)
        best = self._entry(name, axes, env)
        # a NaN once found stays: nothing is larger than it
        found = self.dialect.either.format(f"{value} > {best}", f"{value} != {value}")
        larger = self.dialect.table["select"].format(f"({found})", value, best)
        lines = [self._set(best, f"-{self.dialect.infinity}")]
        lines += self._nest(node.over, [*block.lines, self._set(best, larger)], 0)
        self.lines += self._nest(axes, lines)

    def _fill_overlap(self, name: str, axes: tuple[Axis, ...], node: Overlap) -> None:
        rest = [a for a in axes if a != node.into]
        env = {a: self._index(a) for a in (*rest, node.out, node.tap)}
        block = Block()
        value = self.value(node.operand, env, block)
        index, inside = self._affine(node.affine, env[node.out], env[node.tap], self.size(node.into))
        target = self._entry(name, axes, {**env, node.into: index})
        zero = {a: self._index(a) for a in axes}
        self.lines += self._nest(axes, [self._set(self._entry(name, axes, zero), self.dialect.literal.format(0))])
        add = self.dialect.guard.format(inside, self.dialect.add.format(target, value))
        self.lines += self._nest((*rest, node.out, node.tap), [*block.lines, add])

    def _affine(self, a: Affine, p: str, u: str, size: str) -> tuple[str, str]:
        """(the index, the condition that it lies inside), never negative on the way: sizes may be unsigned."""
        terms = [f"{t} * {k}" if k != 1 else t for t, k in ((p, a.stride), (u, a.dilation))]
        raised = " + ".join(terms)
        index = f"{raised} - {a.padding}" if a.padding else raised
        low = f"{raised} >= {a.padding}" if a.padding else ""
        high = f"{raised} < {size} + {a.padding}" if a.padding else f"{raised} < {size}"
        return index, self.dialect.both.format(low, high) if low else high

    # --- values

    def _materialise(self, node: Tensor, wish: str = "t") -> str:
        if node not in self.made:
            if isinstance(node, Named):
                wish = identifier(node.name)
                if node.name in self.made:
                    return self.made[node.name]
                axes = node.indices
                name = self._reserve(node.operand, wish, axes)
                self.made[node.name] = name
                return name
            self._reserve(node, wish, node.axes)
        return self.made[node]

    def _reserve(self, node: Tensor, wish: str, axes: tuple[Axis, ...]) -> str:
        """Compute the tensor into an array of its own; what it needs comes first."""
        name = self._array(node, wish if wish != "t" else self.names.fresh("t"), axes)
        self._fill(name, axes, node)
        return name

    def value(self, node: Tensor, env: Mapping[Axis, str], block: Block) -> str:
        """The text of one entry; statements that it needs are added to the block."""
        key = (node, tuple((a, env[a]) for a in node.axes))
        if key not in block.known:
            block.known[key] = self._value(node, env, block)
        return block.known[key]

    def _value(self, node: Tensor, env: Mapping[Axis, str], block: Block) -> str:
        match node:
            case Input():
                return self._entry(identifier(node.name), node.indices, env)
            case Scalar():
                return self._scalar(node.value, {}, block)
            case Named():
                return self._entry(self._materialise(node), node.indices, env)
            case Map():
                slots = {slot(k): self.value(a, env, block) for k, a in enumerate(node.arguments)}
                return self._scalar(node.function, slots, block)
            case Contract() if not node.summed:
                return self._product(node.factors, env, block)
            case Contract() | Extremum() | Overlap():
                return self._own(self._materialise(node), env)
            case Window():
                return self._window(node, env)
            case Delta():
                return self._truth(f"{env[node.a]} == {env[node.b]}")
            case Tie():
                index, inside = self._affine(node.affine, env[node.out], env[node.tap], self.size(node.into))
                return self._truth(self.dialect.both.format(inside, f"{env[node.into]} == {index}"))
            case Maximiser():
                return self._weight(node, env)
        raise told(node)

    def _truth(self, condition: str) -> str:
        one, zero = (self.dialect.literal.format(k) for k in (1, 0))
        return "(" + self.dialect.table["select"].format(f"({condition})", one, zero) + ")"

    def _product(self, factors: Sequence[Tensor], env: Mapping[Axis, str], block: Block) -> str:
        texts = [self.value(f, env, block) for f in factors]
        return texts[0] if len(texts) == 1 else self._keep(" * ".join(texts), block)

    def _keep(self, text: str, block: Block, truth: bool = False) -> str:
        name = self.names.fresh()
        declare = self.dialect.truth if truth else self.dialect.number
        block.lines.append(declare.format(name, text))
        return name

    def _scalar(self, value: sympy.Expr, slots: Mapping[sympy.Symbol, str], block: Block) -> str:
        given = {**self.scalars, **slots}
        for s in value.free_symbols:
            if s not in given and identifier(str(s)) in self.parameters:
                given[s] = identifier(str(s))

        def add(name: str, text: str, truth: bool) -> None:
            block.lines.append((self.dialect.truth if truth else self.dialect.number).format(name, text))

        return scalar_steps(value, given, self.dialect.table, self.names, add)

    def _readable(self, node: Tensor) -> tuple[str, tuple[Axis, ...]]:
        """An array that holds the tensor, with its axes: an input, or one made for it."""
        if isinstance(node, Input) and len(set(node.indices)) == len(node.indices):
            return identifier(node.name), node.indices
        name = self._materialise(node)
        return name, node.indices if isinstance(node, Named) else self.shapes[name]

    def _window(self, node: Window, env: Mapping[Axis, str]) -> str:
        name, axes = self._readable(node.operand)
        index, inside = self._affine(node.affine, env[node.out], env[node.tap], self.size(node.over))
        entry = self._entry(name, axes, {**env, node.over: index})
        if node.affine.inside:
            return entry
        return "(" + self.dialect.table["select"].format(f"({inside})", entry, self.dialect.literal.format(0)) + ")"

    def _weight(self, node: Maximiser, env: Mapping[Axis, str]) -> str:
        """1 / how many reach the maximum, where the maximum is reached."""
        best = Extremum(node.operand, node.over)
        rest = best.axes
        name, axes = self._readable(node.operand)
        here = {**{a: env[a] for a in rest}, **{o: env[i] for o, i in zip(node.over, node.indices)}}
        maximum, count = self._materialise(best), self._count(node, name, axes)
        entry = self._entry(name, axes, here)
        hit = f"({entry} == {self._own(maximum, env)})"
        share = f"{self.dialect.real.format('1')} / {self._own(count, env)}"
        return "(" + self.dialect.table["select"].format(hit, share, self.dialect.literal.format(0)) + ")"

    def _count(self, node: Maximiser, name: str, axes: tuple[Axis, ...]) -> str:
        best = Extremum(node.operand, node.over)
        key = f"count of {self.made[best]}"
        if key not in self.made:
            count = self._array(key, self.names.fresh("t"), best.axes)
            env = {a: self._index(a) for a in merge_axes((best.axes, node.over))}
            total = self._entry(count, best.axes, env)
            hit = f"({self._entry(name, axes, env)} == {self._own(self.made[best], env)})"
            one = self.dialect.table["select"].format(
                hit, self.dialect.literal.format(1), self.dialect.literal.format(0)
            )
            lines = [self._set(total, self.dialect.literal.format(0))]
            lines += self._nest(node.over, [self.dialect.add.format(total, one)], 0)
            self.lines += self._nest(best.axes, lines)
        return self.made[key]
