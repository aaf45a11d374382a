"""Recurrences over an axis of symbolic length: states that each step computes from those of the step before.

``recur(time, states, steps, initials)`` is the recurrence s[t] = step(s[t−1], x[t], …), t = 1 … T, from s[0]. A step
is an expression in the placeholders ``states`` (which stand for s[t−1]) and in any other tensors, entry by entry in
time. With ``reverse`` it runs from T down: s[t−1] = step(s[t], …). The states are read as ``each`` (what the steps
computed), ``before`` (what they were given) or ``last``::

    h = Input("h", (n, t, o))                                   # h[t−1] in the step
    z = (x * U).sum("i") + (h.rename(o="p") * V).sum("p") + b   # V[p,o]
    y = recur(t, (h,), (tanh(z),), (h0,)).each(0)

The adjoint of a recurrence is the recurrence of the step's adjoint, the other way round in time: back-propagation
through time. It is derived here from the adjoint rules of the step's own nodes; there is no other rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sympy

from .errors import InputError
from .tensors import Axis, Contract, Delta, Extremum, Input, Maximiser, Named, Scalar, Tensor, _node, add, contract
from .walking import inputs, postorder, rename

EACH, BEFORE, LAST = "each", "before", "last"


@_node
class Recur(Tensor):
    """One state of a recurrence; ``steps`` use placeholders only: ``states``, and ``slots`` for what is captured."""

    time: Axis
    states: tuple[Input, ...]
    steps: tuple[Tensor, ...]
    slots: tuple[Input, ...]
    initials: tuple[Tensor, ...]
    captured: tuple[Tensor, ...]
    reverse: bool
    which: int
    at: str

    def __post_init__(self) -> None:
        axes = self.states[self.which].indices
        self._set(axes if self.at != LAST else (a for a in axes if a != self.time))

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return (*self.initials, *self.captured)

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        k = len(self.initials)
        initials = tuple(v.expand(s.axes) for v, s in zip(operands[:k], self.initials))
        captured = tuple(v.expand(s.axes) for v, s in zip(operands[k:], self.captured))
        return Recur(
            self.time, self.states, self.steps, self.slots, initials, captured, self.reverse, self.which, self.at
        )

    @property
    def name(self) -> str:
        """The name of the state."""
        return self.states[self.which].name

    def renamed(self, mapping: Mapping[str, str]) -> Tensor:
        """See :meth:`Tensor.rename`."""
        return renamed(self, mapping)

    @property
    def bodies(self) -> tuple[Tensor, ...]:
        """Expressions inside that are not operands."""
        return self.steps

    @property
    def family(self) -> Recurrence:
        """The recurrence of which this is one state."""
        return Recurrence(self.time, self.states, self.steps, self.slots, self.initials, self.captured, self.reverse)


@dataclass(frozen=True)
class Recurrence:
    """A recurrence; its states are read with :meth:`each`, :meth:`before` and :meth:`last`."""

    time: Axis
    states: tuple[Input, ...]
    steps: tuple[Tensor, ...]
    slots: tuple[Input, ...]
    initials: tuple[Tensor, ...]
    captured: tuple[Tensor, ...]
    reverse: bool = False

    def read(self, which: int, at: str) -> Tensor:
        """State ``which`` as "each", "before" or "last"."""
        return Recur(
            self.time, self.states, self.steps, self.slots, self.initials, self.captured, self.reverse, which, at
        )

    def each(self, which: int = 0) -> Tensor:
        """What each step computed, with the time axis."""
        return self.read(which, EACH)

    def before(self, which: int = 0) -> Tensor:
        """What each step was given, with the time axis."""
        return self.read(which, BEFORE)

    def last(self, which: int = 0) -> Tensor:
        """What the last step computed."""
        return self.read(which, LAST)

    @property
    def opened(self) -> tuple[Tensor, ...]:
        """The steps in the tensors themselves; only the states are placeholders."""
        return tuple(put(s, dict(zip(self.slots, self.captured))) for s in self.steps)

    def step(self, which: int) -> Tensor:
        """What a step computes, in the tensors and the states before it: equal to :meth:`each`."""
        before = {s: self.before(k) for k, s in enumerate(self.states)}
        return put(self.steps[which], {**dict(zip(self.slots, self.captured)), **before})


def put(root: Tensor, values: Mapping[Input, Tensor]) -> Tensor:
    """Replace inputs by name, all at once; a value carries the axes at which its input is declared."""
    by_name = {i.name: (i, v) for i, v in values.items()}
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Input) and node.name in by_name:
            declared, value = by_name[node.name]
            memo[node] = rename(value, {a.name: b.name for a, b in zip(declared.indices, node.indices)})
        elif isinstance(node, Maximiser):
            memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return memo[root]


def recur(
    time: Axis, states: Sequence[Input], steps: Sequence[Tensor], initials: Sequence[Tensor], *, reverse: bool = False
) -> Recurrence:
    """The recurrence of the steps, each an expression in the states before it and any other tensors."""
    if not len(states) == len(steps) == len(initials) > 0:
        raise InputError("a recurrence needs one step and one initial value for each state")
    steps = tuple(step.expand(s.indices) for step, s in zip(steps, states))
    for s, step, initial in zip(states, steps, initials):
        if time not in s.indices or set(step.axes) != set(s.indices):
            raise InputError(f"state {s.name!r} [{', '.join(s.names)}]: its step has axes [{', '.join(step.names)}]")
        if not set(initial.axes) <= set(s.indices) - {time}:
            raise InputError(f"state {s.name!r}: its initial value has axes [{', '.join(initial.names)}]")
    begin = tuple(v.expand(a for a in s.indices if a != time) for v, s in zip(initials, states))
    slots: dict[Tensor, Input] = {}
    closed = tuple(_close(step, {s.name for s in states}, slots) for step in steps)
    return Recurrence(time, tuple(states), closed, tuple(slots.values()), begin, tuple(slots), reverse)


def _close(root: Tensor, states: set[str], slots: dict[Tensor, Input]) -> Tensor:
    """The step with every tensor that no state enters replaced by a placeholder."""
    moving: dict[Tensor, bool] = {}
    for node in postorder(root):
        own = isinstance(node, Input) and node.name in states
        moving[node] = own or any(moving[o] for o in (*node.operands, *_hidden(node)))
    known = {v.name: s for v, s in slots.items() if isinstance(v, Input)}

    def go(node: Tensor) -> Tensor:
        if isinstance(node, Input):
            if moving[node]:
                return node
            if node.name not in known:
                declared = inputs(node)[node.name]
                known[node.name] = slots[declared] = Input(f"{node.name}@in", declared.indices, declared.facts)
            return Input(f"{node.name}@in", node.indices, node.facts)
        if not moving[node] and isinstance(node, Named | Recur):
            if node not in slots:
                slots[node] = Input(f"{node.name}@{len(slots)}", node.axes)
            return slots[node]
        if isinstance(node, Maximiser):
            return Maximiser(go(node.operand), node.over, node.indices)
        return node.rebuild(tuple(map(go, node.operands))) if node.operands else node

    return go(root)


def _hidden(node: Tensor) -> tuple[Tensor, ...]:
    return (node.operand,) if isinstance(node, Maximiser) else ()


# --- the rules ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def through_time(node: Recur, cotangent: Tensor) -> tuple[Recurrence, tuple[tuple[Tensor, Tensor], ...]]:
    """The reversed recurrence of the step's adjoint, and what each operand receives."""
    from .backprop import vjp

    f, time = node.family, node.time
    given = Input("ȳ@", cotangent.axes)
    later = tuple(Input(f"d{s.name}", s.indices) for s in f.states)
    arriving = [add(s, given) if node.at == EACH and k == node.which else s for k, s in enumerate(later)]

    # One pass through all steps at once: a named value in them has one cotangent, which gets a name too.
    whole = add(*(contract((step, incoming), ()) for step, incoming in zip(f.steps, arriving)))
    occurring = inputs(whole)
    wanted = [i for i in (*f.states, *f.slots) if i.name in occurring]

    given_names: set[str] = set()

    def at_name(value: Named, incoming: Tensor) -> Tensor:
        name = f"d{value.name}"
        while name in given_names:  # the same value read at other indices has a cotangent of its own
            name += "′"
        given_names.add(name)
        return Named(name, incoming, value.indices)

    gradients = vjp(whole, [i.name for i in wanted], Scalar(sympy.Integer(1)), at_name=at_name)[0] if wanted else {}

    def pulled(target: Input) -> Tensor:
        """What one placeholder receives, at its declared indices."""
        if target.name not in gradients:
            return Scalar(sympy.Integer(0)).expand(target.axes)
        here = occurring[target.name].indices
        moved = {a.name: b.name for a, b in zip(here, target.indices)}
        return rename(gradients[target.name], moved).expand(target.axes)

    values: dict[Input, Tensor] = dict(zip(f.slots, f.captured))
    values.update({s: f.before(k) for k, s in enumerate(f.states)})
    values[given] = cotangent
    steps, initials = [], []
    for k, s in enumerate(f.states):
        body = pulled(s)
        if node.at == BEFORE and k == node.which:
            body = add(body, given)
        steps.append(put(body, values).expand(s.indices))
        initials.append(cotangent if node.at == LAST and k == node.which else Scalar(sympy.Integer(0)))
    back = recur(time, later, steps, initials, reverse=not f.reverse)
    values.update({s: back.before(k) for k, s in enumerate(later)})
    received = [(v, back.last(k)) for k, v in enumerate(f.initials)]
    received += [(v, put(pulled(s), values)) for s, v in zip(f.slots, f.captured)]
    return back, tuple(received)


def tangent(node: Recur, moved: Mapping[Tensor, Tensor]) -> Tensor:
    """The recurrence with its tangent: states s and ṡ side by side."""
    from .backprop import jvp

    f = node.family
    dots = tuple(Input(f"{s.name}̇", s.indices) for s in f.states)
    extra: dict[Input, Tensor] = {}
    for s, v in zip(f.slots, f.captured):
        if v in moved:
            extra[Input(f"{s.name}̇", s.indices)] = moved[v].expand(v.axes)
    tangents = {s.name: d for s, d in zip(f.states, dots)} | {d.name[:-1]: d for d in extra}
    values: dict[Input, Tensor] = {**dict(zip(f.slots, f.captured)), **extra}
    steps = []
    for step, s in zip(f.steps, f.states):
        occurring = inputs(step)
        here = {
            name: rename(d, {a.name: b.name for a, b in zip(d.indices, occurring[name].indices)})
            for name, d in tangents.items()
            if name in occurring
        }
        steps.append(put(jvp(step, here), values).expand(s.indices))
    initials = [moved[v].expand(v.axes) if v in moved else Scalar(sympy.Integer(0)) for v in f.initials]
    both = recur(f.time, (*f.states, *dots), (*f.opened, *steps), (*f.initials, *initials), reverse=f.reverse)
    return both.read(len(f.states) + node.which, node.at)


def renamed(node: Recur, mapping: Mapping[str, str]) -> Tensor:
    """The state with free axes renamed; a target that is taken already gives the diagonal."""
    from .walking import _spare

    live = {a: b for a, b in mapping.items() if a in node.names and a != b}
    taken = {a.name for s in node.states for a in s.indices} | set(live.values())
    final = [live.get(name, name) for name in node.names]
    doubled = {a: b for a, b in live.items() if final.count(b) > 1}
    aside: dict[str, str] = {}
    for a in doubled:
        aside[a] = _spare(f"{a}0", taken)
        taken.add(aside[a])
    inner = {**live, **aside}
    others = {a.name for s in node.states for a in s.indices} - set(inner)
    for name in others & set(inner.values()):  # the time axis of a last value, or an axis of another state
        inner[name] = _spare(name, taken)
        taken.add(inner[name])

    def to(a: Axis) -> Axis:
        return Axis(inner.get(a.name, a.name), a.size)

    result: Tensor = Recur(
        to(node.time), tuple(Input(s.name, tuple(map(to, s.indices))) for s in node.states),
        tuple(rename(step, inner) for step in node.steps), node.slots,
        tuple(rename(v, inner) for v in node.initials), node.captured, node.reverse, node.which, node.at,
    )  # fmt: skip
    if not doubled:
        return result
    ties = [Delta(Axis(aside[a], node.axis(a).size), Axis(b, node.axis(a).size)) for a, b in doubled.items()]
    keep = tuple(dict.fromkeys(Axis(live.get(a.name, a.name), a.size) for a in node.axes))
    return contract((result, *ties), keep)


def recurrences(*tensors: Tensor) -> Iterable[Recur]:
    """The recurrences that occur in expressions, one state of each."""
    seen: dict[Recurrence, Recur] = {}
    for t in tensors:
        for node in postorder(t):
            if isinstance(node, Recur):
                seen.setdefault(node.family, node)
    return seen.values()


def time_text(node: Recur, t: str, minus: str = "−") -> str:
    """The time index at which a state is read: t−1 for what a forward step is given."""
    if node.at == LAST:
        return "0" if node.reverse else str(node.time.size)
    return f"{t}{minus}1" if (node.at == BEFORE) != node.reverse else t


# --- one name for what is one thing -------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def has_recurrence(root: Tensor) -> bool:
    """Whether a recurrence occurs."""
    return any(isinstance(node, Recur) for node in postorder(root))


@lru_cache(maxsize=4096)
def canonical(root: Tensor) -> Tensor:
    """The expression at indices ·0, ·1, …, bound axes named by their nesting: the same for every choice of names."""
    found = _bound_names(root)[0].rename({a.name: f"·{k}" for k, a in enumerate(dict.fromkeys(root.axes))})
    CANONICAL.setdefault(found, root)
    return found


#: canonical form -> the expression that first had it, with the axis names a person gave
CANONICAL: dict[Tensor, Tensor] = {}


def original(root: Tensor) -> Tensor:
    """The expression with the axis names under which it was first met."""
    return CANONICAL[canonical(root)]


@lru_cache(maxsize=20_000)
def _bound_names(node: Tensor) -> tuple[Tensor, int]:
    """The node with its bound axes renamed, and how deeply they nest."""
    below = [_bound_names(o) for o in (*node.operands, *_hidden(node))]
    level = 1 + max((d for _, d in below), default=0)
    children = tuple(c for c, _ in below)
    if isinstance(node, Contract) and node.summed:
        names = {a.name: f"˙{level}.{k}" for k, a in enumerate(node.summed)}
        return contract((c.rename(names) for c in children), node.keep), level
    if isinstance(node, Extremum):
        names = {a.name: f"˙{level}.{k}" for k, a in enumerate(node.over)}
        return Extremum(
            children[0].rename(names), tuple(Axis(names[a.name], a.size) for a in node.over), node.ties
        ), level
    if isinstance(node, Maximiser):
        return Maximiser(children[0], node.over, node.indices), level
    if isinstance(node, Recur):
        steps = [_bound_names(s) for s in node.steps]
        time = Axis("˙t", node.time.size) if node.at == LAST else node.time
        there = node.rebuild(children)
        assert isinstance(there, Recur)
        moved = {node.time.name: time.name}
        states = tuple(Input(s.name, tuple(time if a == node.time else a for a in s.indices)) for s in node.states)
        result = Recur(
            time, states, tuple(s.rename(moved) for s, _ in steps), node.slots, there.initials, there.captured,
            node.reverse, node.which, node.at,
        )  # fmt: skip
        return result, 1 + max(level, *(d for _, d in steps))
    return (node.rebuild(children) if children else node), level


def signature(node: Recur) -> Tensor:
    """What all states of one recurrence share, whatever their axes are called."""
    return canonical(node.family.each(0))
