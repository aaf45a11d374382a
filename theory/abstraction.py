"""Equality with the arguments of non-linear functions kept closed: one variable for one quantity.

A network's pre-activations occur in many places of its gradient, under tanh, exp and comparisons.  Multiplied out they
make normal forms grow without need.  :func:`abstracted` puts a variable for each such argument, the same one wherever
the argument has the same normal form (whatever its axes are called).  What is equal for all values of the variables is
equal; what is not may still be, once they are opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import sympy

from .errors import Unsupported
from .normal_form import normal_form
from .tensors import BOOLEAN, Axis, Contract, Fact, Input, Map, Maximiser, Scalar, Tensor, contract, map_function, slot
from .walking import postorder

#: Arguments with more axes are left as they are: their axes would have too many orders.
MOST_AXES = 5


class Abstraction:
    """The variables made so far: normal form of the argument -> name."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.memo: dict[Tensor, Tensor] = {}

    def __call__(self, root: Tensor) -> Tensor:
        """Return the expression with variables for the arguments of non-linear functions."""
        memo = self.memo
        for node in postorder(root):
            if node in memo:
                continue
            if isinstance(node, Map):
                memo[node] = self._map(node)
            elif isinstance(node, Maximiser):
                memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
            elif isinstance(node, Contract):
                memo[node] = contract((memo[f] for f in node.factors), node.keep)
            else:
                memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
        return memo[root]

    def _map(self, node: Map) -> Tensor:
        arguments = [self.memo[a] for a in node.arguments]
        if node.function.is_Piecewise and {value for value, _ in node.function.args} == {0, 1}:  # a comparison
            return self._variable(map_function(node.function, *arguments), (BOOLEAN,))
        closed = [
            self._variable(new) if not isinstance(new, (Input, Scalar)) and _transcendental(node.function, k) else new
            for k, new in enumerate(arguments)
        ]
        return map_function(node.function, *closed)

    def _variable(self, argument: Tensor, facts: tuple[Fact, ...] = ()) -> Tensor:
        if len(argument.axes) > MOST_AXES or isinstance(argument, Scalar):
            return argument
        keyed = [(*self._form(argument, order), order) for order in _orders(argument.axes)]
        _, form, order = min(keyed, key=lambda each: each[0])
        sizes = tuple(a.size for a in order)
        return Input(self.names.setdefault((sizes, form), f"·{len(self.names)}"), order, facts)

    def _form(self, argument: Tensor, order: tuple[Axis, ...]) -> tuple[str, Any]:
        """Return the argument with its axes called by their place in the order, as text to sort by and in full."""
        canonical = argument.rename({a.name: f"·{k}" for k, a in enumerate(order)})
        try:
            form = normal_form(canonical)
        except (Unsupported, ZeroDivisionError, RecursionError):
            return "", canonical
        return form.key, form


@lru_cache(maxsize=10_000)
def _transcendental(function: sympy.Expr, k: int) -> bool:
    """Whether a slot stands under exp, tanh, …: of powers and products more is known."""
    return any(slot(k) in each.free_symbols for each in function.atoms(sympy.Function) if not each.is_Piecewise)


def _orders(axes: tuple[Axis, ...]) -> Iterator[tuple[Axis, ...]]:
    """Every order in which the sizes are sorted: axes of one size may stand in any."""
    groups: dict[str, list[Axis]] = {}
    for a in axes:
        groups.setdefault(sympy.sstr(a.size), []).append(a)
    parts = [list(itertools.permutations(groups[size])) for size in sorted(groups)]
    for chosen in itertools.product(*parts):
        yield tuple(itertools.chain.from_iterable(chosen))
