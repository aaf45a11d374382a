"""An optimiser's rule as one compiled pass over all parameters, made from its row in :mod:`..theory.optimisers`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from sympy import Expr, Symbol

from ..theory.errors import InputError
from ..theory.optimisers import Optimiser, g, optimiser, t, theta
from .kernels import SMALLEST_SHARED, compile_elementwise

Array = npt.NDArray[Any]


class Updater:
    """Steps of one optimiser on one flat array of parameters, in place.

    What depends on the step number alone (Adam's 1 − βᵗ) is worked out once per step, the rest entry by entry in a
    kernel that is compiled from the rule. ``state`` holds one array per state variable; ``steps`` counts the steps
    taken.
    """

    def __init__(self, name: str | Optimiser, size: int, dtype: str = "float64", **hyper: Any) -> None:
        self.row = optimiser(name) if isinstance(name, str) else name
        self.hyper = self.row.bind(**hyper)
        self.state: dict[str, Array] = {str(symbol): np.zeros(size, dtype) for symbol in self.row.state}
        self.steps = 0
        expressions, self._per_step = hoist(self.row.updates, {t}, {theta, g, *self.row.state})
        self._fixed = [float(value) for value in self.hyper.values()]
        arguments = (theta, g, *self.row.state, *self.hyper, *self._per_step)
        self._kernel = compile_elementwise({str(s): e for s, e in expressions.items()}, arguments, dtype)
        self._small = size < SMALLEST_SHARED
        self._run = self._kernel.unchecked([str(s) for s in (*self.hyper, *self._per_step)])
        self._shape, self._dtype = (size,), np.dtype(dtype)
        values = {symbol: float(value) for symbol, value in self.hyper.items()}
        self._at_step = [_function_of_step(e, values) for e in self._per_step.values()]

    def step(self, parameters: Array, gradient: Array) -> None:
        """Take one step: ``parameters`` and the states are overwritten, ``gradient`` is left as it is."""
        for name, array in (("the parameters", parameters), ("the gradient", gradient)):
            if array.shape != self._shape or array.dtype != self._dtype or not array.flags.c_contiguous:
                raise InputError(f"{name} must be one contiguous array of {self._shape[0]} {self._dtype} entries")
        self.steps += 1
        states = self.state.values()
        arguments = (parameters, gradient, *states, *self._fixed, *(at(self.steps) for at in self._at_step))
        if self._small:  # checking shapes again would take longer than the step itself
            self._run(*arguments, *self._results(parameters))
        else:
            self._kernel(*arguments, out={"theta": parameters, **self.state})

    def _results(self, parameters: Array) -> list[Array]:
        """The arrays that the kernel writes, in the order of its expressions."""
        return [parameters if name == "theta" else self.state[name] for name in self._kernel.expressions]


def hoist(
    updates: Mapping[Symbol, Expr], once: set[Symbol], per_entry: set[Symbol]
) -> tuple[dict[Symbol, Expr], dict[Symbol, Expr]]:
    """Name the largest subexpressions that hold a symbol of ``once`` but none of ``per_entry``: they are worked out
    once.

    Returns the expressions with the names in place, and what each name stands for.
    """
    named: dict[Expr, Symbol] = {}

    def walk(e: Expr) -> Expr:
        if not e.free_symbols & once:
            return e
        if not e.free_symbols & per_entry:
            return named.setdefault(e, Symbol(f"h{len(named)}", real=True))
        return e.func(*map(walk, e.args))

    walked = {symbol: walk(update) for symbol, update in updates.items()}
    return walked, {name: e for e, name in named.items()}


def _function_of_step(e: Expr, values: Mapping[Symbol, float]) -> Callable[[int], float]:
    bound = sympy.lambdify(t, e.subs(values), modules=math)
    return lambda number: float(bound(number))
