"""Exponentials that a pass needs in several places, evaluated once an entry.

A softmax and its logarithm are written with exp(z − max z) each under a name of its own, and a gradient with
exp(y) of y = c − log s, which is exp(c)/s. Here equal exponentials become one named quantity, which gets memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import sympy

from ...theory.tensors import Map, Named, Tensor, map_function, slot
from ...theory.walking import postorder
from .tensor_parts import Names, Pass

_EXP, _LOG, _DIFFERENCE = sympy.exp(slot(0)), sympy.log(slot(0)), slot(0) - slot(1)


def with_shared_exponentials(what: Pass) -> Pass:
    """The same pass with every exponential of an entry that occurs more than once under one name.

    Exact: exp(c − log s) = exp(c)/s, and what is named stays what it is.
    """
    outputs = {name: (_rewritten(tensor, _as_quotient), axes) for name, (tensor, axes) in what.outputs.items()}
    nodes = list(dict.fromkeys(node for tensor, _ in outputs.values() for node in postorder(tensor)))
    bare = {node: _without_names(node) for node in nodes}
    uses = Counter(bare[child] for node in nodes if not isinstance(node, Named) for child in node.operands)
    names = Names([node.name for node in nodes if isinstance(node, Named)] + [a.name for a in what.arguments])
    named: dict[Tensor, Tensor] = {}
    for node in nodes:
        if isinstance(node, Map) and node.function == _EXP and uses[bare[node]] > 1 and bare[node] not in named:
            own = next((n for n in nodes if isinstance(n, Named) and bare[n] == bare[node]), None)
            named[bare[node]] = Named(names.claim("e"), node, node.axes) if own is None else own
    if not named:
        return what

    def shared(node: Tensor) -> Tensor:
        return named.get(_without_names(node), node) if isinstance(node, (Map, Named)) else node

    return replace(what, outputs={name: (_rewritten(t, shared), axes) for name, (t, axes) in outputs.items()})


def _as_quotient(node: Tensor) -> Tensor:
    """exp(c − log s) as exp(c)/s; anything else as it is."""
    if not (isinstance(node, Map) and node.function == _EXP):
        return node
    argument = _unnamed(node.arguments[0])
    if isinstance(argument, Map) and argument.function == _DIFFERENCE:
        first, second = argument.arguments
        second = _unnamed(second)
        if isinstance(second, Map) and second.function == _LOG:
            return map_function(_EXP, first) * map_function(1 / slot(0), second.arguments[0])
    return node


def _unnamed(node: Tensor) -> Tensor:
    while isinstance(node, Named):
        node = node.operand
    return node


def _without_names(root: Tensor) -> Tensor:
    return _rewritten(root, _unnamed)


def _rewritten(root: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """Each node, its operands first, put through the rule."""
    done: dict[int, Tensor] = {}
    for node in postorder(root):
        operands = tuple(done[id(o)] for o in node.operands)
        same = all(a is b for a, b in zip(operands, node.operands, strict=True))
        done[id(node)] = rule(node if same else node.rebuild(operands))
    return done[id(root)]
