"""Tensor expressions as loops over entries: the targets that compute one number at a time (C, Numba).

A sum, a maximum, a named quantity and whatever is read at a computed index get an array; the rest stands in the
innermost loop. What is written is a list of :class:`Loops`, each of which fills one array, one entry a round, so that
rounds may run at once; a recurrence is an :class:`OverTime` around the loops of its step. A dialect says how a loop, an
assignment and an array are written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sympy

from ...theory.numpy_source import identifier
from ...theory.recurrence import BEFORE, LAST, Recur, Recurrence, signature
from ...theory.tensors import (
    Axis,
    Contract,
    Delta,
    Extremum,
    Input,
    Map,
    Maximiser,
    Named,
    Position,
    Scalar,
    Tensor,
    merge_axes,
    slot,
)
from ...theory.walking import postorder
from ...theory.windows import Affine, Overlap, Tie, Window
from .printing import INDENT
from .tensor_parts import Names, Pass, scalar_steps, size_text, told

#: Names that the functions around the loops use.
OWN_NAMES = ("math", "np", "numba", "work", "room", "entry", "stream")


@dataclass(frozen=True)
class Dialect(ABC):
    """How a target writes what loops are made of; the texts are formats."""

    table: Mapping[str, str]
    loop: str
    #: the same, from the last index to the first
    back: str
    close: str
    number: str
    truth: str
    index: str
    #: a number that changes
    variable: str
    assign: str
    add: str
    floor: str
    infinity: str
    #: an integer variable, and a literal, in a formula
    real: str
    literal: str
    both: str
    either: str
    test: str
    #: an entry of an argument in a formula, and a number that becomes an entry of a result
    given: str = "{0}"
    result: str = "{0}"
    #: an argument without axes is a number, not an array of one
    by_value: bool = False

    @abstractmethod
    def array(self, name: str, indices: Sequence[str], sizes: Sequence[str]) -> str:
        """One entry of an array."""


@dataclass(frozen=True)
class Loops:
    """Statements inside loops over the axes; a round writes one entry of ``target``, and reads none of it that another
    round writes."""

    target: str
    axes: tuple[Axis, ...]
    inside: tuple[str, ...]


@dataclass(frozen=True)
class OverTime:
    """Loops that run once for each index of a time axis, one step after the other."""

    index: str
    time: Axis
    reverse: bool
    body: tuple[Loops | OverTime, ...]


@dataclass
class Block:
    """Statements at one depth, and what is already computed there."""

    lines: list[str] = field(default_factory=list)
    known: dict[tuple[Tensor, tuple[tuple[Axis, str], ...]], str] = field(default_factory=dict)


class LoopWriter:
    """Writes the body of one :class:`Pass` as ``stages``."""

    def __init__(self, what: Pass, dialect: Dialect) -> None:
        self.dialect, self.sizes = dialect, what.spelt_sizes
        self.given = {identifier(a.name) for a in what.arguments}
        self.results = set(map(identifier, what.outputs))
        self.names = Names([*self.given, *what.parameters, *self.sizes.values(), *self.results, *OWN_NAMES])
        self.scalars = {**{s: dialect.real.format(t) for s, t in self.sizes.items()}}
        self.parameters = {name: name for name in what.parameters}
        self.shapes = {identifier(a.name): a.indices for a in what.arguments}
        self.arrays: dict[str, tuple[Axis, ...]] = {}
        self.made: dict[Tensor | str, str] = {}
        self.loops: dict[Axis, str] = {}
        self.stages: list[Loops | OverTime] = []
        #: inside a recurrence: axes that stand still, placeholder of a state -> its array and the index before the step
        self.fixed: dict[Axis, str] = {}
        self.states: dict[str, tuple[str, str, Axis]] = {}
        for tensor, _ in what.outputs.values():
            self._run_recurrences(tensor)
        for name, (tensor, axes) in what.outputs.items():
            self.shapes[identifier(name)] = axes
            self._fill(identifier(name), axes, tensor)

    @property
    def lines(self) -> list[str]:
        """The statements, one loop inside the other."""
        return self._rendered(self.stages, 1)

    def _rendered(self, stages: Iterable[Loops | OverTime], depth: int) -> list[str]:
        lines: list[str] = []
        for stage in stages:
            if isinstance(stage, Loops):
                lines += self._nest(stage.axes, stage.inside, depth)
                continue
            loop = self.dialect.back if stage.reverse else self.dialect.loop
            lines.append(INDENT * depth + loop.format(stage.index, self.size(stage.time)))
            lines += self._rendered(stage.body, depth + 1)
            lines += [INDENT * depth + self.dialect.close] if self.dialect.close else []
        return lines

    # --- arrays

    def size(self, a: Axis) -> str:
        """An axis size as source."""
        return size_text(a.size, self.sizes, self.dialect.floor)

    def index_of(self, a: Axis) -> str:
        """The variable of the loop over an axis."""
        if a not in self.loops:
            self.loops[a] = self.names.claim(f"i_{identifier(a.name)}")
        return self.loops[a]

    def _places(self, axes: Iterable[Axis]) -> dict[Axis, str]:
        """Where each axis stands: at its loop's variable, or where a recurrence holds it."""
        return {**self.fixed, **{a: self.index_of(a) for a in axes if a not in self.fixed}}

    def _entry(self, name: str, axes: Sequence[Axis], env: Mapping[Axis, str]) -> str:
        """Entry of an array at the indices that ``env`` gives to ``axes``."""
        if len(axes) > len(self.shapes[name]):  # made for one step of a recurrence
            axes = [a for a in axes if a not in self.fixed]
        if not axes and self.dialect.by_value and name in self.given:
            return name
        text = self.dialect.array(name, [env[a] for a in axes], [self.size(a) for a in self.shapes[name]])
        return self.dialect.given.format(text) if name in self.given else text

    def _own(self, name: str, env: Mapping[Axis, str]) -> str:
        """Entry of an array that was made for a tensor, in the order in which it was laid out."""
        return self._entry(name, self.shapes[name], env)

    def _array(self, key: Tensor | str, wish: str, axes: tuple[Axis, ...]) -> str:
        name = self.names.claim(wish)
        self.arrays[name] = self.shapes[name] = axes
        self.made[key] = name
        return name

    def _nest(self, axes: Sequence[Axis], inside: Iterable[str], depth: int = 1) -> list[str]:
        """Loops over the axes around the statements."""
        lines: list[str] = []
        for a in axes:
            lines.append(INDENT * depth + self.dialect.loop.format(self.index_of(a), self.size(a)))
            depth += 1
        lines += [INDENT * depth + line for line in inside]
        for k in range(len(axes)):
            if self.dialect.close:
                lines.append(INDENT * (depth - 1 - k) + self.dialect.close)
        return lines

    def _store(self, name: str, env: Mapping[Axis, str], value: str) -> str:
        text = self.dialect.result.format(value) if name in self.results else value
        return self.dialect.assign.format(self._own(name, env), text)

    def _fill(self, name: str, axes: tuple[Axis, ...], node: Tensor) -> None:
        """Loops that make the array ``name``, laid out along ``axes``, the tensor."""
        env = self._places(axes)
        match node:
            case Contract() if node.summed:
                inside = self._sum(name, env, node)
            case Extremum():
                inside = self._maximum(name, env, node)
            case Overlap():
                inside = self._overlap(name, env, node)
            case _:
                block = Block()
                value = self.value(node, env, block)
                inside = [*block.lines, self._store(name, env, value)]
        self.stages.append(Loops(name, tuple(a for a in axes if a not in self.fixed), tuple(inside)))

    def _start(self, value: str, stem: str) -> tuple[str, str]:
        """A variable for what is gathered in a loop, and its declaration."""
        name = self.names.fresh(stem)
        return name, self.dialect.variable.format(name, value)

    def _sum(self, name: str, env: Mapping[Axis, str], node: Contract) -> list[str]:
        """Start at 0, add the terms, multiply by the scalars once."""
        env = {**env, **self._places(node.summed)}
        inner, outer = Block(), Block()
        scalars = [f for f in node.factors if isinstance(f, Scalar)]
        for f in node.factors:
            if isinstance(f, Map) and set(f.axes) < set(env):
                self._materialise(f)  # a function is called once per entry of its own, not once per term
        total, start = self._start(self.dialect.literal.format(0), "s")
        tensors = [f for f in node.factors if not isinstance(f, Scalar)]
        term = self._product(tensors, env, inner) if tensors else self.dialect.literal.format(1)
        lines = [start, *self._nest(node.summed, [*inner.lines, self.dialect.add.format(total, term)], 0)]
        value = f"{self._product(scalars, env, outer)} * {total}" if scalars else total
        return [*lines, *outer.lines, self._store(name, env, value)]

    def _maximum(self, name: str, env: Mapping[Axis, str], node: Extremum) -> list[str]:
        env = {**env, **self._places(node.over)}
        block = Block()
        value = self.value(node.operand, env, block)
        best, start = self._start(f"-{self.dialect.infinity}", "m")
        # a NaN once found stays: nothing is larger than it
        found = self.dialect.either.format(f"{value} > {best}", f"{value} != {value}")
        larger = self.dialect.table["select"].format(f"({found})", value, best)
        inside = [*block.lines, self.dialect.assign.format(best, larger)]
        return [start, *self._nest(node.over, inside, 0), self._store(name, env, best)]

    def _overlap(self, name: str, env: Mapping[Axis, str], node: Overlap) -> list[str]:
        """An entry gathers what the affine map sends to it: for every tap there is at most one window that does."""
        a, tap, out = node.affine, self.index_of(node.tap), self.index_of(node.out)
        inner = Block()
        value = self.value(node.operand, {**env, node.out: out, node.tap: tap}, inner)
        total, start = self._start(self.dialect.literal.format(0), "s")
        above = f"{env[node.into]} + {a.padding}" if a.padding else env[node.into]
        below = f"{tap} * {a.dilation}" if a.dilation != 1 else tap
        room = f"({above} - {below})"
        window = f"{room} {self.dialect.floor} {a.stride}" if a.stride != 1 else room
        whole = f"{room} % {a.stride} == 0" if a.stride != 1 else ""
        conditions = [f"{above} >= {below}", *([whole] if whole else []), f"{window} < {self.size(node.out)}"]
        condition = conditions[0]
        for more in conditions[1:]:
            condition = self.dialect.both.format(condition, more)
        inside = [self.dialect.test.format(condition)]
        inside += [INDENT + self.dialect.index.format(out, window)]
        inside += [INDENT + line for line in (*inner.lines, self.dialect.add.format(total, value))]
        inside += [self.dialect.close] if self.dialect.close else []
        return [start, *self._nest([node.tap], inside, 0), self._store(name, env, total)]

    def _affine(self, a: Affine, p: str, u: str, size: str) -> tuple[str, str]:
        """(the index, the condition that it lies inside), never negative on the way: sizes may be unsigned."""
        terms = [f"{t} * {k}" if k != 1 else t for t, k in ((p, a.stride), (u, a.dilation))]
        raised = " + ".join(terms)
        index = f"{raised} - {a.padding}" if a.padding else raised
        low = f"{raised} >= {a.padding}" if a.padding else ""
        high = f"{raised} < {size} + {a.padding}" if a.padding else f"{raised} < {size}"
        return index, self.dialect.both.format(low, high) if low else high

    # --- recurrences

    def _run_recurrences(self, root: Tensor) -> None:
        """The loops over time of every recurrence in an expression, those it needs first."""
        for node in postorder(root):
            if isinstance(node, Recur):
                self._states_of(node)

    def _states_of(self, node: Recur) -> str:
        """The array of all states, time first, with one entry more than there are steps."""
        key = signature(node)
        if f"{key!r} {node.which}" not in self.made:
            self._run(node.family, repr(key))
        return self.made[f"{key!r} {node.which}"]

    def _run(self, f: Recurrence, key: str) -> None:
        for v in f.captured:  # what no state enters is computed before the loop
            if isinstance(v, Named):
                self._materialise(v)
        moments = Axis(f"{f.time.name}_state", f.time.size + 1)
        names = []
        for k, (s, v) in enumerate(zip(f.states, f.initials)):
            rest = tuple(a for a in s.indices if a != f.time)
            names.append(self._array(f"{key} {k}", f"{identifier(s.name)}_all", (moments, *rest)))
            self.fixed = {moments: self.size(f.time) if f.reverse else "0"}
            self._fill(names[-1], (moments, *rest), v)
        step = self.names.claim("step")
        outside = self.stages, self.made, self.states
        kept = {v.name for v in f.captured if isinstance(v, Named)}
        moving = {n.name for s in f.opened for n in postorder(s) if isinstance(n, Named)} - kept
        self.stages, self.made = [], {k: v for k, v in self.made.items() if k not in moving}
        before, after = (f"{step} + 1", step) if f.reverse else (step, f"{step} + 1")
        self.fixed = {f.time: step, moments: after}
        self.states = {s.name: (name, before, f.time) for s, name in zip(f.states, names)}
        for name, body in zip(names, f.opened):
            self._fill(name, self.shapes[name], body)
        body_stages, self.fixed = tuple(self.stages), {}
        self.stages, self.made, self.states = outside
        self.stages.append(OverTime(step, f.time, f.reverse, body_stages))

    def _state(self, node: Recur, env: Mapping[Axis, str]) -> str:
        """An entry of the states: what a step computed, what it was given, or what the last one computed."""
        name = self._states_of(node)
        time = node.time
        if node.at == LAST:
            moment = "0" if node.reverse else self.size(time)
        else:
            moment = f"{env[time]} + 1" if (node.at == BEFORE) == node.reverse else env[time]
        rest = [env[a] for a in node.states[node.which].indices if a != time]
        return self.dialect.array(name, [moment, *rest], [self.size(a) for a in self.shapes[name]])

    def _placeholder(self, node: Input, env: Mapping[Axis, str]) -> str:
        """A state as the step is given it."""
        name, moment, time = self.states[node.name]
        rest = [env[a] for a in node.indices if a != time]
        return self.dialect.array(name, [moment, *rest], [self.size(a) for a in self.shapes[name]])

    # --- values

    def _materialise(self, node: Tensor, wish: str = "t") -> str:
        if node not in self.made:
            if isinstance(node, Named):
                wish = identifier(node.name)
                if node.name in self.made:
                    return self.made[node.name]
                name = self._reserve(node.operand, wish, node.indices)
                self.made[node.name] = name
                return name
            self._reserve(node, wish, node.axes)
        return self.made[node]

    def _reserve(self, node: Tensor, wish: str, axes: tuple[Axis, ...]) -> str:
        """Compute the tensor into an array of its own; what it needs comes first."""
        axes = tuple(a for a in axes if a not in self.fixed)
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
            case Input() if node.name in self.states:
                return self._placeholder(node, env)
            case Recur():
                return self._state(node, env)
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
            case Position():
                return self.dialect.real.format(env[node.along])
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
            axes_of_count = tuple(a for a in best.axes if a not in self.fixed)
            count = self._array(key, self.names.fresh("t"), axes_of_count)
            env = self._places(merge_axes((best.axes, node.over)))
            total, start = self._start(self.dialect.literal.format(0), "s")
            hit = f"({self._entry(name, axes, env)} == {self._own(self.made[best], env)})"
            one = self.dialect.table["select"].format(
                hit, self.dialect.literal.format(1), self.dialect.literal.format(0)
            )
            lines = [start, *self._nest(node.over, [self.dialect.add.format(total, one)], 0)]
            self.stages.append(Loops(count, axes_of_count, (*lines, self._store(count, env, total))))
        return self.made[key]
