"""Tensor expressions as whole-array statements: the targets with automatic differentiation (PyTorch, JAX).

Every node is a statement; axes are aligned by position, a sum is an einsum. A dialect names the library's functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from ...theory.lowering import Program
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
    slot,
)
from ...theory.walking import postorder
from ...theory.windows import Overlap, Tie, Window
from .numba_cpu import TABLE as SCALARS
from .printing import INDENT
from .tensor_parts import Names, Pass, read_sizes, scalar_steps, size_text, told

#: Names that printed functions have for themselves.
_OWN = ("math", "ctx", "needs", "saved")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Dialect:
    """The library's functions, as formats; ``helpers`` are what generated source may need besides."""

    table: Mapping[str, str]
    einsum: str
    permute: str
    total: str
    maximum: str
    broadcast: str
    full: str
    eye: str
    #: the lines of a recurrence, and the array of all its states with time first
    recurrence: Callable[[Steps], list[str]]
    positions: str
    helpers: Mapping[str, str]
    #: the right-hand side of a step, where the table alone does not do; the last argument is an array like the result
    write: Callable[[Program, Mapping[int, str], int, str], str] | None = None


@dataclass(frozen=True)
class Value:
    """Source text of an array (or, without axes, perhaps of a plain number) and its axes in order."""

    text: str
    axes: tuple[Axis, ...] = ()
    is_number: bool = False


@dataclass(frozen=True)
class Steps:
    """A recurrence to write: state k is called ``given[k]`` before a step and ``results[k]`` (a text) after it."""

    index: str
    length: str
    reverse: bool
    given: tuple[str, ...]
    initials: tuple[str, ...]
    body: tuple[str, ...]
    results: tuple[str, ...]
    #: names of the arrays of all states, with one entry more than there are steps
    states: tuple[str, ...]
    #: a function's name that is free
    function: str


class ArrayWriter:
    """Writes the body of one :class:`Pass`; ``uses`` says which helpers it calls.

    ``saved`` are arrays of an earlier pass that this one need not make again; see :meth:`quantities`.
    """

    def __init__(self, what: Pass, dialect: Dialect, saved: Mapping[Any, Value] | None = None) -> None:
        self.dialect, self.sizes, self.what = dialect, what.spelt_sizes, what
        arguments = [identifier(a.name) for a in what.arguments]
        kept = [v.text for v in (saved or {}).values()]
        self.names = Names([*arguments, *what.parameters, *self.sizes.values(), *kept, *_OWN])
        self.like = arguments[0]
        self.lines: list[str] = []
        self.uses: set[str] = set()
        self.made: dict[Tensor | str, Value] = dict(saved or {})
        #: inside a recurrence: its time axis with the step's number, and the states before the step by placeholder
        self.time: tuple[Axis, str] | None = None
        self.states: dict[str, str] = {}
        self.scalars: dict[sympy.Expr, Value] = {}
        self.order = list(dict.fromkeys(i for a in what.arguments for i in a.indices))
        for tensor, _ in what.outputs.values():
            for node in postorder(tensor):
                if isinstance(node, Recur):
                    self._states_of(node)
        self.results = [self._result(name, *made) for name, made in what.outputs.items()]

    def source(self) -> list[str]:
        """The statements, after those that read the sizes they need."""
        return self.size_lines() + self.lines

    def size_lines(self) -> list[str]:
        """Statements that read the sizes which the others need."""
        used = self.words()
        sizes = read_sizes(self.what.arguments, self.sizes)
        return [f"{n} = {shape}" for n, shape in sizes.items() if n in used]

    def words(self) -> set[str]:
        """Every name in the statements and results."""
        return names_in("\n".join([*self.lines, *self.results]))

    def quantities(self) -> dict[str, Value]:
        """What has a name outside of every step: named values, and the states of recurrences."""
        return {k: v for k, v in self.made.items() if isinstance(k, str) and v.text.isidentifier()}

    def size(self, a: Axis) -> str:
        """An axis size as source."""
        return size_text(a.size, self.sizes, "//")

    def _result(self, name: str, tensor: Tensor, axes: tuple[Axis, ...]) -> str:
        return self._whole(tensor, axes)

    def _whole(self, tensor: Tensor, axes: Sequence[Axis]) -> str:
        """The tensor as an array with exactly these axes."""
        value = self.value(tensor)
        missing = [a for a in axes if a not in value.axes]
        text = self._aligned(value, axes)
        if value.is_number or missing:
            shape = "(" + "".join(f"{self.size(a)}, " for a in axes).rstrip(" ") + ")"
            full = self.dialect.full if value.is_number else self.dialect.broadcast
            text = full.format(text, shape, self.like)
        return text

    def _keep(self, text: str, axes: Iterable[Axis], wish: str | None = None) -> Value:
        name = self.names.claim(wish) if wish else self.names.fresh()
        self.lines.append(f"{name} = {text}")
        return Value(name, tuple(axes))

    def _ordered(self, axes: Iterable[Axis]) -> tuple[Axis, ...]:
        return tuple(sorted(axes, key=lambda a: self.order.index(a) if a in self.order else len(self.order)))

    def _aligned(self, value: Value, axes: Sequence[Axis]) -> str:
        """The text, transposed and with axes of size 1 put in, so that position means what the name means."""
        if value.is_number:
            return value.text
        own = [a for a in axes if a in value.axes]
        text = value.text
        if list(value.axes) != own:
            text = self.dialect.permute.format(text, ", ".join(str(value.axes.index(a)) for a in own))
        first = next((k for k, a in enumerate(axes) if a in value.axes), len(axes))
        if own and len(own) < len(axes) - first:
            text += "[" + ", ".join(":" if a in value.axes else "None" for a in axes[first:]) + "]"
        return text

    def value(self, node: Tensor) -> Value:
        """The array of a node; each is computed once."""
        key: Tensor | str = node
        if key not in self.made:
            self.made[key] = self._value(node)
        return self.made[key]

    def _value(self, node: Tensor) -> Value:
        match node:
            case Input():
                return self._variable(node)
            case Recur():
                return self._state(node)
            case Scalar():
                return self._number(node.value)
            case Named():
                return self._named(node)
            case Map():
                return self._map(node)
            case Contract():
                return self._contract(node)
            case Extremum():
                body = self.value(node.operand)
                places = ", ".join(str(body.axes.index(a)) for a in node.over)
                rest = [a for a in body.axes if a not in node.over]
                return self._keep(self.dialect.maximum.format(body.text, places), rest)
            case Maximiser():
                return self._maximiser(node)
            case Delta():
                return self._keep(self.dialect.eye.format(self.size(node.a), self.like), (node.a, node.b))
            case Position():
                return self._keep(self.dialect.positions.format(self.size(node.along), self.like), node.axes)
            case Window() | Overlap() | Tie():
                return self._windowed(node)
        raise told(node)

    def _input(self, name: str, indices: tuple[Axis, ...]) -> Value:
        axes = tuple(dict.fromkeys(indices))
        if len(axes) == len(indices):
            return Value(name, axes)
        letters = self._letters(axes)
        spelt = "".join(letters[a] for a in indices)
        return self._keep(self.dialect.einsum.format(f"{spelt}->{''.join(letters.values())}", name), axes)

    def _variable(self, node: Input) -> Value:
        """An argument; inside a recurrence its entry at the step, or the state before the step."""
        if self.time is None or self.time[0] not in node.indices:
            return self._input(identifier(node.name), node.indices)
        time, step = self.time
        rest = tuple(a for a in node.indices if a != time)
        if node.name in self.states:
            return self._input(self.states[node.name], rest)
        return self._input(self._at_step(identifier(node.name), node.indices.index(time), step), rest)

    def _at_step(self, text: str, place: int, step: str) -> str:
        return f"{text}[{':, ' * place}{step}]"

    def _named(self, node: Named) -> Value:
        if node.name not in self.made:
            indices = tuple(a for a in node.indices if self.time is None or a != self.time[0])
            text = self._whole(node.operand, indices)
            self.made[node.name] = self._under_name(text, node, indices)
        made = self.made[node.name]
        if self.time is not None and self.time[0] in node.indices:
            time, step = self.time
            rest = tuple(a for a in node.indices if a != time)
            if len(made.axes) == len(node.indices):  # made before the loop, for every step
                return self._input(self._at_step(made.text, node.indices.index(time), step), rest)
            return self._input(made.text, rest)
        return self._input(made.text, node.indices)

    def _under_name(self, text: str, node: Named, indices: tuple[Axis, ...]) -> Value:
        """The last statement renamed where it made just this, else an assignment."""
        start = f"{text} = "
        if not (self.lines and self.lines[-1].startswith(start)):
            return self._keep(text, indices, identifier(node.name))
        name = self.names.claim(identifier(node.name))
        self.lines[-1] = f"{name} = {self.lines[-1][len(start) :]}"
        self.made[node.operand] = Value(name, self.made[node.operand].axes)
        return Value(name, indices)

    # --- recurrences

    def _states_of(self, node: Recur) -> str:
        """The array of all states, time first, with one entry more than there are steps."""
        key = f"{signature(node)!r} {node.which}"
        if key not in self.made:
            self._run(node.family, repr(signature(node)))
        return self.made[key].text

    def _run(self, f: Recurrence, key: str) -> None:
        for v in f.captured:  # what no state enters is computed before the loop
            if isinstance(v, Named):
                self.value(v)
        rests = [tuple(a for a in s.indices if a != f.time) for s in f.states]
        initials = tuple(self._whole(v, rest) for v, rest in zip(f.initials, rests))
        step = self.names.claim("step")
        given = tuple(self.names.claim(f"{identifier(s.name)}_before") for s in f.states)
        kept = {v.name for v in f.captured if isinstance(v, Named)}
        moving = {n.name for s in f.opened for n in postorder(s) if isinstance(n, Named)} - kept
        outside = self.lines, self.made
        # a node that reads an array at the step is another thing inside the loop than outside
        self.made = {k: v for k, v in self.made.items() if isinstance(k, str) and k not in moving}
        self.lines, self.time = [], (f.time, step)
        self.states = {s.name: name for s, name in zip(f.states, given)}
        results = tuple(self._whole(body, rest) for body, rest in zip(f.opened, rests))
        body, self.time, self.states = tuple(self.lines), None, {}
        self.lines, self.made = outside
        states = tuple(self.names.claim(f"{identifier(s.name)}_all") for s in f.states)
        for k, (name, rest) in enumerate(zip(states, rests)):
            self.made[f"{key} {k}"] = Value(name, (f.time, *rest))
        function = self.names.claim("one_step")
        length = self.size(f.time)
        steps = Steps(step, length, f.reverse, given, initials, body, results, states, function)
        self.lines += self.dialect.recurrence(steps)

    def _state(self, node: Recur) -> Value:
        """What the steps computed or were given, or what the last one computed, as a part of the array of states."""
        name = self._states_of(node)
        rest = tuple(a for a in node.states[node.which].indices if a != node.time)
        if node.at == LAST:
            return Value(f"{name}[{0 if node.reverse else -1}]", rest)
        later = (node.at == BEFORE) == node.reverse
        if self.time is None:
            return Value(f"{name}[{'1:' if later else ':-1'}]", (node.time, *rest))
        return Value(f"{name}[{self.time[1]}{' + 1' if later else ''}]", rest)

    def _letters(self, axes: Iterable[Axis]) -> dict[Axis, str]:
        letters: dict[Axis, str] = {}
        for a in axes:
            wish = a.name[0] if a.name[0] in _LETTERS else "a"
            letters.setdefault(a, next(c for c in (wish, *_LETTERS) if c not in letters.values()))
        return letters

    def _number(self, value: sympy.Expr) -> Value:
        if value not in self.scalars:
            text = self._steps(value, {}, SCALARS, None)
            self.scalars[value] = Value(text, (), is_number=True)
        return self.scalars[value]

    def _steps(
        self,
        function: sympy.Expr,
        slots: Mapping[sympy.Symbol, str],
        table: Mapping[str, str],
        write: Callable[[Program, Mapping[int, str], int], str] | None,
    ) -> str:
        given: dict[sympy.Symbol, str] = {**self.sizes, **slots}
        for s in function.free_symbols:
            if s not in given and identifier(str(s)) in self.what.parameters:
                given[s] = identifier(str(s))

        def add(name: str, text: str, truth: bool) -> None:
            self.uses.add("math") if "math." in text else None
            self.lines.append(f"{name} = {text}")

        return scalar_steps(function, given, table, self.names, add, write)

    def _map(self, node: Map) -> Value:
        operands = [self.value(a) for a in node.arguments]
        axes = self._ordered(dict.fromkeys(a for o in operands for a in o.axes))
        slots = {slot(k): self._aligned(o, axes) for k, o in enumerate(operands)}
        like = next((slots[slot(k)] for k, o in enumerate(operands) if not o.is_number), self.like)
        if all(o.is_number for o in operands):
            return Value(self._steps(node.function, slots, SCALARS, None), (), is_number=True)
        special = self.dialect.write
        write = (lambda program, names, place: special(program, names, place, like)) if special else None
        return Value(self._steps(node.function, slots, self.dialect.table, write), axes)

    def _contract(self, node: Contract) -> Value:
        values = [self.value(f) for f in node.factors]
        numbers = [v for v in values if v.is_number]
        arrays = [v for v in values if not v.is_number]
        axes = self._ordered(dict.fromkeys(a for v in arrays for a in v.axes))
        keep = tuple(a for a in axes if a not in node.summed)
        text = ""
        if len(arrays) == 1 and len(keep) < len(axes):
            places = ", ".join(str(arrays[0].axes.index(a)) for a in axes if a not in keep)
            text = self.dialect.total.format(arrays[0].text, places)
            keep = tuple(a for a in arrays[0].axes if a in keep)
        elif arrays and len(keep) < len(axes):
            letters = self._letters(axes)
            groups = ",".join("".join(letters[a] for a in v.axes) for v in arrays)
            target = "".join(letters[a] for a in keep)
            text = self.dialect.einsum.format(f"{groups}->{target}", ", ".join(v.text for v in arrays))
        elif arrays:
            text = " * ".join(self._aligned(v, axes) for v in arrays)
        lonely = [a for a in node.summed if a not in axes]  # summed over an axis that no array has: times its size
        factors = [v.text for v in numbers] + [self.size(a) for a in lonely]
        if not arrays:
            return Value(" * ".join(factors) if len(factors) == 1 else f"({' * '.join(factors)})", (), is_number=True)
        return self._keep(" * ".join([*factors, text]), keep)

    def _maximiser(self, node: Maximiser) -> Value:
        self.uses.add("_maximiser")
        body = self.value(node.operand)
        places = tuple(body.axes.index(a) for a in node.over)
        moved = dict(zip(node.over, node.indices))
        return self._keep(f"_maximiser({body.text}, {places})", [moved.get(a, a) for a in body.axes])

    def _windowed(self, node: Window | Overlap | Tie) -> Value:
        a = node.affine
        shape = f"{a.stride}, {a.dilation}, {a.padding}"
        if isinstance(node, Tie):
            self.uses.add("_tie")
            sizes = ", ".join(self.size(i) for i in (node.into, node.out, node.tap))
            return self._keep(f"_tie({self.like}, {sizes}, {shape})", (node.into, node.out, node.tap))
        body = self.value(node.operand)
        if isinstance(node, Window):
            self.uses.add("_windows")
            k = body.axes.index(node.over)
            text = f"_windows({body.text}, {k}, {self.size(node.out)}, {self.size(node.tap)}, {shape})"
            return self._keep(text, (*body.axes[:k], node.out, node.tap, *body.axes[k + 1 :]))
        self.uses.add("_overlap")
        rest = [i for i in node.operand.axes if i not in (node.out, node.tap)]
        whole = (*rest, node.out, node.tap)
        text = self._aligned(body, whole)
        if [i for i in whole if i not in body.axes]:
            sizes = "(" + "".join(f"{self.size(i)}, " for i in whole).rstrip(" ") + ")"
            text = (self.dialect.full if body.is_number else self.dialect.broadcast).format(text, sizes, self.like)
        return self._keep(f"_overlap({text}, {self.size(node.into)}, {shape})", (*rest, node.into))


def helper_lines(writers: Sequence[ArrayWriter], dialect: Dialect) -> list[str]:
    """Imports and helpers that the writers use."""
    used = set().union(*(w.uses for w in writers))
    return [dialect.helpers[name] for name in dialect.helpers if name in used]


def both_passes(forward: Pass, backward: Pass, dialect: Dialect) -> tuple[ArrayWriter, ArrayWriter, list[str]]:
    """Writers of the two passes, and what the first saves for the second: inputs and quantities that it reads."""
    ahead = ArrayWriter(forward, dialect)
    back = ArrayWriter(backward, dialect, ahead.quantities())
    used = names_in("\n".join([*back.source(), *back.results]))
    inputs = [identifier(a.name) for a in forward.arguments]
    made = dict.fromkeys(v.text for v in ahead.quantities().values())
    return ahead, back, [name for name in dict.fromkeys([*inputs, *made]) if name in used]


def names_in(text: str) -> set[str]:
    """Every name in source text."""
    return set(re.findall(r"[^\W\d]\w*", text))


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    """The lines, further in."""
    return [INDENT * depth + line if line.strip() else "" for line in lines]
