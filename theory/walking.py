"""Walking over tensor expressions: order, variables, substitution and renaming."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import sympy

from .tensors import (
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
    contract,
    map_function,
    merge_axes,
    slot,
)
from .windows import Overlap, Tie, Window


@contextmanager
def deeply_nested() -> Iterator[None]:
    """Room for expressions of many layers, whose δ nest as deep as the network is; the limit is put back after."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 8_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def postorder(root: Tensor, closed: frozenset[str] = frozenset()) -> list[Tensor]:
    """Every node once, operands before the node; names in ``closed`` are not looked into."""
    order: list[Tensor] = []
    done: set[int] = set()
    stack: list[tuple[Tensor, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            if isinstance(node, Named) and node.name in closed:
                continue
            stack.extend((child, False) for child in reversed(node.operands))
            if isinstance(node, Maximiser):
                stack.append((node.operand, False))
    return order


#: node -> the classes of the functions in it, so that the layers of a network are not walked again for each
_CALLED: WeakKeyDictionary[Tensor, tuple[Any, ...]] = WeakKeyDictionary()


def called(root: Tensor) -> tuple[Any, ...]:
    """The classes of the scalar functions that an expression applies, each once, operands' before its own."""
    waiting = [root]
    while waiting:
        node = waiting[-1]
        below = (*node.operands, *((node.operand,) if isinstance(node, Maximiser) else ()))
        unknown = [child for child in below if child not in _CALLED]
        if unknown:
            waiting.extend(unknown)
            continue
        waiting.pop()
        own = sorted(node.function.atoms(sympy.Function), key=str) if isinstance(node, Map) else ()
        found = [c for child in below for c in _CALLED[child]] + [type(f) for f in own]
        _CALLED[node] = tuple(dict.fromkeys(found))
    return _CALLED[root]


def inputs(root: Tensor) -> dict[str, Input]:
    """The variables of an expression by name: the first occurrence of each, a diagonal one with its axes told apart."""
    found: dict[str, Input] = {}
    for node in postorder(root):
        if isinstance(node, Input):
            found.setdefault(node.name, _told_apart(node))
    return found


def _told_apart(node: Input) -> Input:
    """The variable with distinct axes: S[i,j] for S[i,i]."""
    names: list[str] = []
    for a in node.indices:
        names.append(a.name if a.name not in names else _spare(a.name, set(names)))
    return Input(node.name, tuple(Axis(name, a.size) for name, a in zip(names, node.indices)), node.facts)


def scalar_symbols(root: Tensor) -> set[sympy.Symbol]:
    """Scalar symbols that occur: hyper-parameters and explicit axis sizes."""
    found: set[sympy.Symbol] = set()
    for node in postorder(root):
        if isinstance(node, Scalar):
            found |= node.value.free_symbols
        elif isinstance(node, Map):
            found |= node.function.free_symbols - {slot(k) for k in range(len(node.arguments))}
        for body in getattr(node, "bodies", ()):
            found |= scalar_symbols(body)
    return found


def substitute(root: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Replace inputs by tensors, by name; the tensor's axes must be those of the input's first occurrence."""
    first = inputs(root)
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Input) and node.name in values:
            source = tuple(a.name for a in first[node.name].indices)
            target = tuple(a.name for a in node.indices)
            memo[node] = rename(values[node.name], dict(zip(source, target)))
        elif isinstance(node, Maximiser):
            memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return memo[root]


def unnamed(root: Tensor) -> Tensor:
    """The expression with every :class:`Named` opened."""
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Named):
            opened = memo[node.operand]
            memo[node] = opened if set(opened.axes) == set(node.axes) else contract((opened,), node.axes)
        elif isinstance(node, Maximiser):
            memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return memo[root]


def _spare(name: str, taken: set[str]) -> str:
    """A name near ``name`` that is not taken."""
    return next(c for c in (f"{name.rstrip('0123456789')}{k}" for k in itertools.count(1)) if c not in taken)


def rename(root: Tensor, mapping: Mapping[str, str]) -> Tensor:
    """See :meth:`Tensor.rename`."""
    live = {a: b for a, b in mapping.items() if a != b and a in root.names}
    return _rename(root, tuple(sorted(live.items()))) if live else root


@lru_cache(maxsize=20_000)
def _rename(root: Tensor, pairs: tuple[tuple[str, str], ...]) -> Tensor:
    live = dict(pairs)

    def to(a: Axis) -> Axis:
        return Axis(live.get(a.name, a.name), a.size)

    def bound(axes: tuple[Axis, ...], body: Tensor) -> tuple[dict[str, str], tuple[Axis, ...]]:
        """The mapping for the body under summed axes: they are not renamed, and step aside where they would clash."""
        inner = {a: b for a, b in live.items() if a not in {c.name for c in axes}}
        taken = {*inner.values(), *body.names, *inner}
        fresh = {a.name: _spare(a.name, taken) for a in axes if a.name in inner.values()}
        return {**inner, **fresh}, tuple(Axis(fresh.get(a.name, a.name), a.size) for a in axes)

    if isinstance(root, Input):
        return Input(root.name, tuple(to(a) for a in root.indices), root.facts)
    if isinstance(root, Delta):
        return (
            Delta(to(root.a), to(root.b))
            if to(root.a) != to(root.b)
            else Scalar(sympy.Integer(1)).expand((to(root.a),))
        )
    if isinstance(root, Position):
        return Position(to(root.along))
    if isinstance(root, Named):
        # Only the free indices move: the operand follows them by name.
        return Named(root.name, rename(root.operand, live), tuple(to(a) for a in root.indices))
    if isinstance(root, Map):
        return map_function(root.function, *(rename(a, live) for a in root.arguments))
    if isinstance(root, Contract):
        summed = root.summed
        body = Contract(root.factors, merge_axes((root.keep, summed)))
        inner, _ = bound(summed, body)
        keep = merge_axes((tuple(to(a) for a in root.keep),))
        return contract(tuple(rename(f, inner) for f in root.factors), keep)
    if isinstance(root, Window | Overlap | Tie):
        return _rename_window(root, to, bound)
    if isinstance(root, Extremum):
        inner, over = bound(root.over, root.operand)
        return Extremum(rename(root.operand, inner), over, root.ties)
    if isinstance(root, Maximiser):
        inner, over = bound(root.over, root.operand)
        return Maximiser(rename(root.operand, inner), over, tuple(to(a) for a in root.indices))
    return root.renamed(live) if hasattr(root, "renamed") else root


def _rename_window(
    root: Window | Overlap | Tie,
    to: Callable[[Axis], Axis],
    bound: Callable[[tuple[Axis, ...], Tensor], tuple[dict[str, str], tuple[Axis, ...]]],
) -> Tensor:
    """A window's own axis, and an overlap-add's two, are bound: they step aside like summed ones."""
    if isinstance(root, Tie):
        return Tie(to(root.into), to(root.out), to(root.tap), root.affine)
    if isinstance(root, Window):
        inner, (over,) = bound((root.over,), root.operand)
        return Window(rename(root.operand, inner), over, to(root.out), to(root.tap), root.affine)
    inner, (out, tap) = bound((root.out, root.tap), root.operand)
    return Overlap(rename(root.operand, inner), out, tap, to(root.into), root.affine)
