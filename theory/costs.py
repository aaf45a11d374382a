"""What a layer or network costs, exactly, in its axis sizes: parameters, operations forward and backward, memory.

An operation is one scalar multiplication, addition, or function evaluation of one entry. A contraction is counted two
factors at a time, those first whose product has the fewest axes: a product takes a multiplication for every combination
of its indices; an axis that nothing else needs is summed at once, with one addition fewer than there are terms for
every entry left. Each distinct node is counted once (equal nodes are one object).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from .backprop import vjp
from .recurrence import Recur, Recurrence
from .tensors import Axis, Contract, Extremum, Input, Map, Maximiser, Named, Scalar, Tensor, merge_axes, slot
from .walking import postorder
from .windows import Overlap

if TYPE_CHECKING:
    from .layer_row import Layer
    from .networks import Network


@dataclass(frozen=True)
class Costs:
    """Exact counts in the axis sizes."""

    parameters: sympy.Expr
    forward: sympy.Expr
    backward: sympy.Expr
    #: numbers kept from the forward pass for the backward pass: inputs that are no parameters, and named values
    stored: sympy.Expr

    @property
    def ratio(self) -> sympy.Expr:
        """Backward operations for one forward operation."""
        return sympy.cancel(self.backward / self.forward) if self.forward != 0 else sympy.nan

    def at(self, **sizes: int) -> Costs:
        """The counts for given sizes, by the name of the size: at(N=32, I=784, O=128)."""

        def put(e: sympy.Expr) -> sympy.Expr:
            return e.xreplace({s: sympy.Integer(sizes[str(s)]) for s in e.free_symbols if str(s) in sizes})

        return Costs(put(self.parameters), put(self.forward), put(self.backward), put(self.stored))


def entries(axes: Iterable[Axis]) -> sympy.Expr:
    """How many entries an array with these axes has."""
    return sympy.Mul(*(a.size for a in axes))


def operations(*tensors: Tensor, known: Iterable[Tensor] = ()) -> sympy.Expr:
    """Scalar operations that compute the tensors, each node once; nodes in ``known`` are there already."""
    done: set[Tensor] = set(known)
    families: set[Recurrence] = {t.family for t in done if isinstance(t, Recur)}
    total = sympy.Integer(0)
    for t in tensors:
        for node in postorder(t):
            if node in done:
                continue
            done.add(node)
            if isinstance(node, Recur):
                if node.family not in families:
                    families.add(node.family)
                    total += operations(*node.steps)
            else:
                total += _own(node)
    return sympy.expand(total)


def _own(node: Tensor) -> sympy.Expr:
    """Operations of one node, its operands given."""
    if isinstance(node, Contract):
        return _contraction([f.axes for f in node.factors], node.keep)
    if isinstance(node, Map):
        return _scalar_operations(node.function, len(node.arguments)) * entries(node.axes)
    if isinstance(node, Extremum | Maximiser):
        return entries(node.operand.axes)
    if isinstance(node, Overlap):
        return entries(node.operand.axes)
    return sympy.Integer(0)


def _contraction(groups: list[tuple[Axis, ...]], keep: tuple[Axis, ...]) -> sympy.Expr:
    """Operations of a product of factors with these axes, summed to ``keep``."""
    total = sympy.Integer(0)

    def left(group: tuple[Axis, ...], others: list[tuple[Axis, ...]]) -> tuple[Axis, ...]:
        """The axes that stay when those that nothing else needs are summed."""
        return tuple(a for a in group if a in keep or any(a in other for other in others))

    def without(*places: int) -> list[tuple[Axis, ...]]:
        return [group for k, group in enumerate(groups) if k not in places]

    def size(pair: tuple[int, int]) -> tuple[int, int]:
        product = merge_axes(groups[k] for k in pair)
        return len(product), len(left(product, without(*pair)))

    for k, group in enumerate(groups):
        stay = left(group, without(k))
        total += entries(group) - entries(stay)
        groups = [*groups[:k], stay, *groups[k + 1 :]]
    while len(groups) > 1:
        pair = min(itertools.combinations(range(len(groups)), 2), key=size)
        product, others = merge_axes(groups[k] for k in pair), without(*pair)
        stay = left(product, others)
        total += 2 * entries(product) - entries(stay)
        groups = [*others, stay]
    return total


def _scalar_operations(function: sympy.Expr, count: int) -> sympy.Expr:
    """Operations of a scalar function: every node of its expression tree that is not a leaf, n − 1 for a sum of n."""
    total = 0
    for node in sympy.preorder_traversal(function):
        if node.is_Add or node.is_Mul:
            total += len(node.args) - 1
        elif node.args and not isinstance(node, sympy.Tuple) and node not in {slot(k) for k in range(count)}:
            total += 1
    return sympy.Integer(total)


def layer_costs(row: Layer, parameters: Iterable[str] | None = None) -> Costs:
    """The costs of a layer; its parameters are the inputs without a sample axis n, unless named."""
    chosen = tuple(
        a.name
        for a in row.inputs
        if (a.name in parameters if parameters is not None else "n" not in a.names and a.name not in row.data)
    )
    chosen = tuple(name for name in chosen if name in row.differentiable)
    gradients, _ = vjp(row.forward, row.differentiable, row.cotangent)
    return _costs(row.forward, gradients.values(), row.inputs, chosen)


def network_costs(net: Network) -> Costs:
    """The costs of a network's loss and of every parameter gradient; sizes D0 … DL and N."""
    given = tuple(net.inputs.values())
    gradients, _ = vjp(net.forward, list(net.parameter_shapes), Scalar(sympy.Integer(1)))
    return _costs(net.forward, gradients.values(), given, tuple(net.parameter_shapes))


def _costs(forward: Tensor, gradients: Iterable[Tensor], given: Iterable[Input], parameters: Iterable[str]) -> Costs:
    parameters = tuple(parameters)
    there = postorder(forward)
    kept = [a.indices for a in given if a.name not in parameters]
    kept += [node.axes for node in there if isinstance(node, Named | Recur)]
    return Costs(
        sympy.Add(*(entries(a.indices) for a in given if a.name in parameters)),
        operations(forward),
        operations(*gradients, known=there),
        sympy.expand(sympy.Add(*map(entries, kept))),
    )


def leading_ratio(costs: Costs) -> str | None:
    """Backward operations for one forward operation: the number, or what it tends to as all sizes grow; else None."""
    if costs.forward == 0:
        return None
    t = sympy.Dummy("t", positive=True)
    symbols = sorted((costs.forward.free_symbols | costs.backward.free_symbols), key=str)
    if not symbols:
        return f"{float(costs.backward / costs.forward):.4g}"
    plain = [e.replace(sympy.floor, lambda a: a) for e in (costs.backward, costs.forward)]
    tops = [sympy.Poly(sympy.expand(e.xreplace({s: t * s for s in symbols})), t) for e in plain]
    if tops[0].degree() != tops[1].degree():
        return None
    ratio = sympy.cancel(tops[0].LC() / tops[1].LC())
    return None if ratio.free_symbols else f"{float(ratio):.4g} as the sizes grow"
