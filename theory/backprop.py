"""Reverse and forward mode: the adjoint of each kind of tensor node, the only derivative rules there are.

==============  ========================================================================================================
node            adjoint: what each operand receives from the cotangent ȳ of the node
==============  ========================================================================================================
Contract        ȳ contracted with the other operands, keeping this operand's axes
Map             ȳ · ∂g/∂operand (SymPy ``diff``), summed over the axes that were broadcast
Extremum        ȳ · (weights of the maximiser); ties share evenly, or the first takes all
Named           ȳ
Window          overlap-add of ȳ with the same affine map
Overlap         the window of ȳ with the same affine map
Recur           the recurrence of the step's adjoint, the other way round in time
Maximiser       nothing: its weights are constant wherever the maximum is differentiable
==============  ========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy

from .errors import InputError, Unsupported
from .recurrence import Recur, tangent, through_time
from .tensors import (
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
    add,
    allowed,
    contract,
    map_function,
    multiply,
    slot,
)
from .walking import inputs, postorder, rename
from .windows import Overlap, Tie, Window

Contribution = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Step:
    """One rule used: the node, the cotangent that came in, and what one operand received."""

    rule: str
    node: Tensor
    cotangent: Tensor
    operand: Tensor
    contribution: Tensor


@lru_cache(maxsize=10_000)
def partial(function: sympy.Expr, symbol: sympy.Symbol) -> sympy.Expr:
    """∂g/∂slot of a scalar function; its value at a kink is that of the branch that owns the point."""
    derivative = function.diff(symbol)
    if derivative.has(sympy.Derivative, sympy.DiracDelta, sympy.Heaviside, sympy.Subs):
        raise Unsupported(f"no derivative rule for {str(function)[:60]}")
    return derivative


def _contract_adjoint(node: Contract, cotangent: Tensor) -> Iterable[Contribution]:
    for k, operand in enumerate(node.factors):
        others = (*node.factors[:k], *node.factors[k + 1 :])
        yield operand, contract((cotangent, *others), operand.axes)


def _map_adjoint(node: Map, cotangent: Tensor) -> Iterable[Contribution]:
    for k, operand in enumerate(node.arguments):
        slope = map_function(partial(node.function, slot(k)), *node.arguments)
        yield operand, contract((cotangent, slope), operand.axes)


def _weights(node: Extremum) -> Tensor:
    """Weights of the maximiser: tied maxima share them evenly, or the first of them takes all."""
    shared = Maximiser(node.operand, node.over, node.over)
    if node.ties == "share":
        return shared
    place: Tensor = Scalar(sympy.Integer(0))
    for a in node.over:
        place = place * a.size + Position(a)
    return Maximiser(allowed(shared, -place), node.over, node.over)


def _extremum_adjoint(node: Extremum, cotangent: Tensor) -> Iterable[Contribution]:
    weights = _weights(node)
    yield node.operand, contract((cotangent, weights), node.operand.axes)


def _named_adjoint(node: Named, cotangent: Tensor) -> Iterable[Contribution]:
    yield node.operand, cotangent


def _window_adjoint(node: Window, cotangent: Tensor) -> Iterable[Contribution]:
    yield node.operand, Overlap(cotangent.expand(node.axes), node.out, node.tap, node.over, node.affine)


def _overlap_adjoint(node: Overlap, cotangent: Tensor) -> Iterable[Contribution]:
    yield node.operand, Window(cotangent.expand(node.axes), node.into, node.out, node.tap, node.affine)


def _recur_adjoint(node: Recur, cotangent: Tensor) -> Iterable[Contribution]:
    yield from through_time(node, cotangent.expand(node.axes))[1]


#: node kind -> (name of the rule, adjoint). The derivative rules: there are no others.
ADJOINTS: dict[type, tuple[str, Callable[[Any, Tensor], Iterable[Contribution]]]] = {
    Contract: ("contract with the other operands", _contract_adjoint),
    Map: ("chain rule, entry by entry", _map_adjoint),
    Extremum: ("route to the maximiser", _extremum_adjoint),
    Named: ("name", _named_adjoint),
    Window: ("overlap-add of the windows", _window_adjoint),
    Overlap: ("window of the overlap-add", _overlap_adjoint),
    Recur: ("back-propagation through time", _recur_adjoint),
}
CONSTANTS = (Scalar, Delta, Maximiser, Position, Tie)


def depends_on(root: Tensor, wanted: Iterable[str]) -> set[Tensor]:
    """The nodes whose value depends on one of the inputs."""
    names = set(wanted)
    live: set[Tensor] = set()
    for node in postorder(root):
        if isinstance(node, CONSTANTS):
            continue
        if (isinstance(node, Input) and node.name in names) or any(o in live for o in node.operands):
            live.add(node)
    return live


def vjp(
    output: Tensor,
    wrt: Iterable[str],
    cotangent: Tensor,
    *,
    at_name: Callable[[Named, Tensor], Tensor] = lambda node, incoming: incoming,
) -> tuple[dict[str, Tensor], list[Step]]:
    """Cotangents of the inputs ``wrt`` for a cotangent of the output, and the steps that led there.

    ``cotangent`` carries the axes of ``output`` (or is a scalar, broadcast over them). Each gradient has the axes of
    the input's first occurrence. ``at_name`` may rewrite the cotangent that arrives at a named value, for example to
    simplify it and give it a name of its own (a δ).
    """
    names = tuple(wrt)
    occurring = inputs(output)
    for name in names:
        if name not in occurring:
            raise InputError(f"no input {name!r} to differentiate by: there are {', '.join(occurring) or 'none'}")
    if set(cotangent.axes) != set(output.axes) and cotangent.axes:
        raise InputError(
            f"the cotangent has axes [{', '.join(cotangent.names)}], the output [{', '.join(output.names)}]"
        )
    cotangent = cotangent.expand(output.axes)
    live = depends_on(output, names)
    received: dict[Tensor, list[Tensor]] = {output: [cotangent]}
    gathered: dict[str, list[Tensor]] = {name: [] for name in names}
    steps: list[Step] = []
    for node in reversed(postorder(output)):
        if node not in live or node not in received:
            continue
        incoming = add(*received[node])
        if isinstance(node, Input):
            gathered[node.name].append(_at(incoming, node, occurring[node.name]))
            continue
        if isinstance(node, Named):
            incoming = at_name(node, incoming)
        rule, adjoint = adjoint_of(node)
        for operand, contribution in adjoint(node, incoming):
            if operand in live:
                received.setdefault(operand, []).append(contribution)
                steps.append(Step(rule, node, incoming, operand, contribution))
    gradients = {}
    for name, parts in gathered.items():
        target = occurring[name].axes
        gradients[name] = add(*parts).expand(target) if parts else Scalar(sympy.Integer(0)).expand(target)
    return gradients, steps


def adjoint_of(node: Tensor) -> tuple[str, Callable[[Any, Tensor], Iterable[Contribution]]]:
    """The name of a node's rule, and the rule; raises Unsupported for a node that has none."""
    try:
        return ADJOINTS[type(node)]
    except KeyError:
        raise Unsupported(f"no adjoint for a {type(node).__name__}") from None


def _at(cotangent: Tensor, here: Input, there: Input) -> Tensor:
    """The cotangent of an occurrence x[j], written at the indices of the first occurrence x[i]."""
    if here.indices == there.indices:
        return cotangent
    source, target = [a.name for a in here.indices], [a.name for a in there.indices]
    if len(set(source)) == len(source) and not (set(target) - set(source)) & set(cotangent.names):
        return rename(cotangent, dict(zip(source, target)))
    # A diagonal: each position is tied to its target by a delta, after stepping aside.
    aside = {a.name: f"{a.name}*" for a in here.axes}
    moved = rename(cotangent, aside)
    deltas = [Delta(type(b)(aside[a.name], a.size), b) for a, b in zip(here.indices, there.indices)]
    return contract((moved, *deltas), there.axes)


def jvp(
    output: Tensor,
    tangents: dict[str, Tensor],
    at_name: Callable[[Named, Tensor], Tensor] = lambda node, moved: moved,
) -> Tensor:
    """The tangent of the output for tangents of inputs, each with the axes of the input's first occurrence.

    ``at_name`` may rewrite the tangent of a named value, for example to give it a name of its own.
    """
    occurring = inputs(output)
    live = depends_on(output, tangents)
    moved: dict[Tensor, Tensor] = {}
    for node in postorder(output):
        if node not in live:
            continue
        if isinstance(node, Input):
            names = dict(zip((a.name for a in occurring[node.name].indices), (a.name for a in node.indices)))
            moved[node] = rename(tangents[node.name], names)
        elif isinstance(node, Contract):
            moved[node] = add(
                *(
                    contract((*node.factors[:k], moved[f], *node.factors[k + 1 :]), node.keep)
                    for k, f in enumerate(node.factors)
                    if f in live
                )
            )
        elif isinstance(node, Map):
            moved[node] = add(
                *(
                    multiply(map_function(partial(node.function, slot(k)), *node.arguments), moved[a])
                    for k, a in enumerate(node.arguments)
                    if a in live
                )
            )
        elif isinstance(node, Extremum):
            weights = _weights(node)
            moved[node] = contract((weights, moved[node.operand]), node.axes)
        elif isinstance(node, Named):
            moved[node] = at_name(node, moved[node.operand])
        elif isinstance(node, Recur):
            moved[node] = tangent(node, moved)
        elif isinstance(node, Window | Overlap):
            moved[node] = node.rebuild((moved[node.operand].expand(node.operand.axes),))
        else:
            raise Unsupported(f"no tangent rule for a {type(node).__name__}")
    return moved.get(output, Scalar(sympy.Integer(0)))
