"""One training step on arrays of one module: NumPy's on the CPU, CuPy's on an NVIDIA GPU.

The step is the derived source of :mod:`..theory.networks`, with two changes to its text: every ``a @ b`` is a call of
``products(a, b)``, and a gradient that is a product or a sum is written where the flat gradient wants it. Activation
and slope come from one pass: ``f`` keeps the slope that ``df`` is asked for later.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .kernels import kernel
from .network import Network
from .updates import Updater


@dataclass(frozen=True)
class Engine:
    """What a step computes with: the array module, matrix products, value and slope in one pass, and the update.

    ``update(parameters, gradient)`` works in place; ``state`` are the optimiser's arrays.
    """

    xp: Any
    products: Callable[..., Any]
    pair: Callable[[Any], tuple[Any, Any]]
    update: Callable[[Any, Any], None]
    state: Mapping[str, Any]


def numpy_engine(network: Network, updater: Updater) -> Engine:
    """The CPU's: the same kernels as :class:`.Network` and :class:`.Updater` use by themselves."""
    compiled = kernel(network.activation, network.dtype.name)
    return Engine(np, np.matmul, compiled.value_and_derivative, updater.step, updater.state)


class Step:
    """``step(X, Y)`` takes one optimiser step on the batch; ``evaluate(X, Y)`` gives (mean loss, output).

    ``flat`` are the parameters, copied from the network into the engine's module; ``gradient`` is what the last step
    descended along.
    """

    def __init__(self, network: Network, engine: Engine) -> None:
        self.engine = engine
        self.flat = engine.xp.asarray(network.flat).copy()
        self.gradient = engine.xp.empty_like(self.flat)
        self.parameters = network.views(self.flat)
        self._gradients = network.views(self.gradient)
        self._slopes: dict[int, tuple[Any, Any]] = {}
        losses = {str(symbol): float(value) for symbol, value in network.derived.loss.parameters.items()}
        space = {"products": engine.products, "gradients": self._gradients} | losses
        self._forward, self._loss, self._backward = _functions(network, engine.xp, space)

    def __call__(self, X: Any, Y: Any) -> None:
        """One step; nothing here waits for a result."""
        _, saved = self._forward(self.parameters, X, self._value)
        found = self._backward(self.parameters, X, Y, saved, self._slope)
        for name, view in self._gradients.items():
            if found[name] is not view:
                view[...] = found[name]
        self._slopes.clear()
        self.engine.update(self.flat, self.gradient)

    def evaluate(self, X: Any, Y: Any) -> tuple[float, Any]:
        """The mean loss over the samples and the output."""
        output, saved = self._forward(self.parameters, X, self._value)
        self._slopes.clear()
        return float(self._loss(saved, Y)), output

    def _value(self, Z: Any) -> Any:
        value, slope = self.engine.pair(Z)
        self._slopes[id(Z)] = (Z, slope)
        return value

    def _slope(self, Z: Any) -> Any:
        return self._slopes[id(Z)][1]


class _Placed(ast.NodeTransformer):
    """Products as calls, and gradients written to their places."""

    def __init__(self, parameters: set[str]) -> None:
        self._gradients = {f"d{name}": name for name in parameters}

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id in self._gradients and _takes_out(node.value):
            place = ast.parse(f"gradients[{self._gradients[target.id]!r}]", mode="eval").body
            node.value.keywords.append(ast.keyword("out", place))  # type: ignore[attr-defined]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.MatMult):
            return ast.Call(ast.Name("products", ast.Load()), [node.left, node.right], [])
        return node


def _takes_out(value: ast.expr) -> bool:
    """products(…) or ….sum(…)"""
    if not isinstance(value, ast.Call):
        return False
    called = value.func
    return called.id == "products" if isinstance(called, ast.Name) else getattr(called, "attr", "") == "sum"


def _functions(network: Network, xp: Any, space: dict[str, Any]) -> tuple[Any, Any, Any]:
    """forward, loss and backward of the derived source, over ``xp``."""
    tree = ast.parse(network.derived.numpy_source())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]  # not the import of NumPy
    placed = ast.fix_missing_locations(_Placed(set(network.parameters)).visit(tree))
    space["np"] = xp
    exec(compile(placed, "<derived network>", "exec"), space)  # our own derived source
    return space["forward"], space["loss"], space["backward"]
