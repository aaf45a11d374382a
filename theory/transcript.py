"""The transcript of a derivation: every rule used, at which node, what it was given and what each operand received.

The cotangent that arrives at a node is given a name (dx̂ at x̂, g1, g2, … elsewhere), so that each line is short and the
next one goes on from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .backprop import Step, adjoint_of, depends_on
from .tensors import Axis, Contract, Input, Map, Named, Scalar, Tensor, add
from .walking import inputs, postorder


@dataclass(frozen=True)
class Received:
    """What one operand of a node received."""

    operand: Tensor
    contribution: Tensor


@dataclass(frozen=True)
class Rule:
    """One rule used: at a node, given its cotangent, with what each operand received."""

    name: str
    node: Tensor
    given: Tensor
    received: tuple[Received, ...]


@dataclass(frozen=True)
class Transcript:
    """The rules in order, and what they gave in all."""

    rules: tuple[Rule, ...]
    collected: Tensor


def transcript(output: Tensor, wrt: str, cotangent: Tensor, axes: Iterable[Axis] = ()) -> Transcript:
    """The reverse pass from ``output`` to one input, rule by rule; ``axes`` are the indices of the result.

    >>> from .tensors import axis, exp
    >>> x = Input("x", (axis("n"),))
    >>> [r.name for r in transcript(exp(x) * x, "x", Input("dy", x.axes)).rules]
    ['product rule', 'chain rule, entry by entry']
    """
    live = depends_on(output, (wrt,))
    received: dict[Tensor, list[Tensor]] = {output: [cotangent.expand(output.axes)]}
    rules: list[Rule] = []
    gathered: list[Tensor] = []
    names: set[str] = set()
    target = inputs(output)[wrt]
    for node in reversed(postorder(output)):
        if node not in live or node not in received:
            continue
        incoming = add(*received[node])
        if isinstance(node, Input):
            moved = {a.name: b.name for a, b in zip(node.indices, target.indices)}
            gathered.append(incoming.rename(moved))
            continue
        if not isinstance(incoming, Input | Named | Scalar):
            incoming = Named(_label(node, names), incoming.expand(node.axes), node.axes)
        name, adjoint = adjoint_of(node)
        parts = tuple(Received(o, c) for o, c in adjoint(node, incoming) if o in live)
        for part in parts:
            received.setdefault(part.operand, []).append(part.contribution)
        if not isinstance(node, Named):
            rules.append(Rule(_rule_name(node, name), node, incoming, parts))
    whole = add(*gathered)
    moved = {a.name: b.name for a, b in zip(target.indices, axes)}
    return Transcript(tuple(rules), whole.rename(moved) if moved else whole)


def _label(node: Tensor, taken: set[str]) -> str:
    """dx̂ for what is called x̂, else g1, g2, …"""
    wish = f"d{node.name}" if isinstance(node, Named) else "g1"
    name, k = wish, 1
    while name in taken:
        k += 1
        name = f"g{k}" if wish == "g1" else wish + "′" * (k - 1)
    taken.add(name)
    return name


def _rule_name(node: Tensor, name: str) -> str:
    """The rule, by the name that a person knows it by."""
    if isinstance(node, Map) and node.function.is_Add:
        return "sum rule"
    if isinstance(node, Contract):
        tensors = [f for f in node.factors if not isinstance(f, Scalar)]
        return "linearity" if len(tensors) == 1 else "product rule"
    return name


def rules_of(steps: Iterable[Step]) -> tuple[Rule, ...]:
    """The steps of a reverse pass, those at one node together; that a name passes its cotangent on is not said."""
    found: list[Rule] = []
    for s in steps:
        if isinstance(s.node, Named):
            continue
        part = Received(s.operand, s.contribution)
        if found and found[-1].node is s.node:
            found[-1] = replace(found[-1], received=(*found[-1].received, part))
        else:
            found.append(Rule(_rule_name(s.node, s.rule), s.node, s.cotangent, (part,)))
    return tuple(found)
