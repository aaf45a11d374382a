"""Multilayer perceptrons, derived: widths, parameter count, every δ and parameter gradient, and source that runs.

``network("784-256-128-10", activation="relu", loss="softmax_cross_entropy")`` has ``.widths``, ``.parameter_count``,
``.deltas()`` and ``.numpy_source()``. The generated NumPy module uses nothing but ``np`` and defines three functions:

``forward(parameters, X, f) -> (P, saved)``
    ``parameters`` is a dict with ``"W1"`` [D0, D1], ``"b1"`` [D1], …, ``"WL"``, ``"bL"``; ``X`` is [N, D0], one sample
    per row; ``f`` maps an array to an array of its shape (the hidden activation). ``P`` [N, DL] is the output after the
    loss's matching output activation (softmax probabilities for ``softmax_cross_entropy``; the plain output for squared
    error). ``saved`` is a tuple for the other two functions: ``(Z1, …, ZL, A1, …, A(L-1), P)``.
``loss(saved, Y) -> float``
    The loss over the batch (mean over samples by default), from the pre-activations where the loss has such a form, so
    that it neither overflows nor takes log 0. ``Y`` is [N, DL]: one-hot rows for a classification loss.
``backward(parameters, X, Y, saved, df) -> gradients``
    ``df`` is the derivative of ``f``, applied to the pre-activations. ``gradients`` is a dict with the keys of
    ``parameters``, in their order and shapes: the gradient of ``loss``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy

from .activations import Activation, activation
from .backprop import Step, vjp
from .errors import InputError
from .losses import REDUCTIONS, Loss, loss
from .numpy_source import NumpyWriter, assignments, drop_unused, size_lines
from .scalar_functions import scalar_function
from .simplify import definitions, simplify
from .tensors import Axis, Input, Named, Scalar, Tensor, apply, axis, size_symbol
from .walking import deeply_nested

if TYPE_CHECKING:
    from .costs import Costs
    from .derivation import Derivation

MAX_LAYERS = 64
MAX_WIDTH = 10**7


def parse_widths(spec: str | list[int] | tuple[int, ...]) -> tuple[int, ...]:
    """ "784-256-128-10" (or a list) to widths: the input, each hidden layer, the output.

    >>> parse_widths("4-16-3")
    (4, 16, 3)
    """
    parts = spec.split("-") if isinstance(spec, str) else list(spec)
    shown = spec[:60] if isinstance(spec, str) else str(spec)[:60]
    texts = [str(p).strip() for p in parts]
    if len(texts) < 2 or not all(re.fullmatch(r"0*[1-9][0-9]*", t) for t in texts):
        raise InputError(f"network {shown!r}: give widths as positive integers with dashes, as in 784-256-128-10")
    texts = [t.lstrip("0") for t in texts]
    for width in texts:
        if len(width) > len(str(MAX_WIDTH)) or int(width) > MAX_WIDTH:
            raise InputError(f"network {shown!r}: the width {width[:20]} is too large, at most {MAX_WIDTH}")
    if len(texts) - 1 > MAX_LAYERS:
        raise InputError(f"network with {len(texts) - 1} layers: at most {MAX_LAYERS}")
    return tuple(int(t) for t in texts)


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron with one hidden activation and a loss; everything else is derived."""

    widths: tuple[int, ...]
    activation: Activation
    loss: Loss
    reduction: str = "mean"

    @property
    def depth(self) -> int:
        """Number of layers with weights, L."""
        return len(self.widths) - 1

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each parameter, in order."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (a, b) in enumerate(zip(self.widths, self.widths[1:]), 1):
            shapes[f"W{layer}"], shapes[f"b{layer}"] = (a, b), (b,)
        return shapes

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases.

        >>> network("784-256-128-10").parameter_count
        235146
        """
        return sum(int(sympy.prod(shape)) for shape in self.parameter_shapes.values())

    @cached_property
    def _axes(self) -> tuple[Axis, ...]:
        """Feature axes of the layers: i0, i1, …; the output's is k. Sizes are symbols D0, D1, …"""
        depth = self.depth
        return tuple(
            axis("k" if layer == depth else f"i{layer}", size_symbol(f"D{layer}")) for layer in range(depth + 1)
        )

    @cached_property
    def inputs(self) -> dict[str, Input]:
        """X, Y and the parameters as tensor inputs."""
        n, features = axis("n"), self._axes
        found = {"X": Input("X", (n, features[0])), "Y": Input("Y", (n, features[-1]), self.loss.target_facts)}
        for layer in range(1, self.depth + 1):
            found[f"W{layer}"] = Input(f"W{layer}", (features[layer - 1], features[layer]))
            found[f"b{layer}"] = Input(f"b{layer}", (features[layer],))
        return found

    @cached_property
    def _graph(self) -> tuple[dict[str, Named], Tensor]:
        """The named values Z1, A1, …, ZL, P of the forward pass, and the loss."""
        sigma, given = scalar_function("σ"), self.inputs
        names: dict[str, Named] = {}
        previous: Tensor = given["X"]
        for layer in range(1, self.depth + 1):
            product = (previous * given[f"W{layer}"]).sum(self._axes[layer - 1].name)
            z = (product + given[f"b{layer}"]).named(f"Z{layer}")
            names[f"Z{layer}"] = z  # type: ignore[assignment]
            if layer < self.depth:
                previous = apply(sigma, z).named(f"A{layer}")
                names[f"A{layer}"] = previous  # type: ignore[assignment]
        names["P"] = Named("P", self.loss.predict(z), z.axes)
        seen = z if self.loss.from_logits else names["P"]
        return names, self.loss.forward(seen, given["Y"], self.reduction)

    @property
    def forward(self) -> Tensor:
        """The loss as one tensor expression (the hidden activation is any σ)."""
        return self._graph[1]

    @property
    def _vocabulary(self) -> list[Named]:
        """What the output delta may be written with: the prediction, and the words of the loss."""
        names, value = self._graph
        words = [named for name, named in definitions(value).items() if name in self.loss.words]
        return [names["P"], *words]

    @cached_property
    def _derived(self) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Step], dict[str, Tensor]]:
        """δ of every layer, gradient of every parameter, the steps, and what arrived at each: by the rules alone.

        What arrives at a layer is written with the δ of the layer above: the work for each is that of one layer.
        """
        names, value = self._graph
        deltas: dict[str, Tensor] = {}
        arriving: dict[str, Tensor] = {}

        def at_name(node: Named, incoming: Tensor) -> Tensor:
            if not (node.name.startswith("Z") and node is names.get(node.name)):
                return incoming
            from .derivation import readable

            arriving[node.name] = incoming.expand(node.axes)
            layer = int(node.name[1:])
            last = layer == self.depth
            vocabulary = self._vocabulary if last else []
            opaque = [node.name] if last else [*names, *deltas]
            short = [self.loss.slope(names["P"], self.inputs["Y"])] if last and self.loss.slope else []
            simple = readable(incoming, vocabulary, opaque=opaque, axes=node.axes, equivalents=short)
            deltas[f"Δ{layer}"] = simple.expand(node.axes).named(f"Δ{layer}")
            return deltas[f"Δ{layer}"]

        wrt = list(self.parameter_shapes)
        with deeply_nested():
            raw, steps = vjp(value, wrt, Scalar(sympy.Integer(1)), at_name=at_name)
            keep = [*names, *deltas]
            gradients = {name: simplify(raw[name], opaque=keep, axes=self.inputs[name].axes) for name in wrt}
        return deltas, gradients, steps, arriving | raw

    def deltas(self) -> dict[str, Derivation]:
        """Every δ and every parameter gradient, in the order they are computed, in matrix form with shapes."""
        from .derivation import network_derivations

        return network_derivations(self)

    @property
    def steps(self) -> list[Step]:
        """Every rule used from the loss to the parameters, each δ under its name."""
        return self._derived[2]

    def hvp(self) -> dict[str, Tensor]:
        """Hessian-vector products of the loss by every parameter, for tangents vW1, vb1, …"""
        from .second_order import network_hessian

        return network_hessian(self)

    def gauss_newton(self) -> dict[str, Tensor]:
        """Gauss–Newton products of the loss by every parameter, for tangents vW1, vb1, …"""
        from .second_order import gauss_newton

        return gauss_newton(self)

    @property
    def costs(self) -> Costs:
        """Parameters, operations forward and backward, and stored values; see :mod:`.costs`."""
        from .costs import network_costs

        return network_costs(self)

    def numpy_source(self) -> str:
        """Source of a NumPy module with ``forward``, ``loss`` and ``backward``, as the module docstring describes."""
        return _source(self)


def network(
    spec: str | list[int] | tuple[int, ...],
    activation: str | Activation | sympy.Expr = "relu",
    loss: str | Loss = "softmax_cross_entropy",
    reduction: str = "mean",
    **parameters: Any,
) -> Network:
    """A multilayer perceptron: widths such as "784-256-128-10", the hidden activation, the loss.

    Raises InputError for widths, names or reductions that do not exist.
    """
    if reduction not in REDUCTIONS[1:]:
        raise InputError(f"unknown reduction {reduction!r} of a network's loss: use mean or sum")
    row = activation if isinstance(activation, Activation) else _activation(activation, **parameters)
    return Network(parse_widths(spec), row, loss if isinstance(loss, Loss) else _loss(loss), reduction)


_activation, _loss = activation, loss


# --- source -------------------------------------------------------------------------------------------------


def _source(net: Network) -> str:
    names, value = net._graph
    _, gradients, _, _ = net._derived
    given = net.inputs
    saved = [*(f"Z{k}" for k in range(1, net.depth + 1)), *(f"A{k}" for k in range(1, net.depth)), "P"]
    functions = {"σ": "f", "σ′": "df"}
    _, sizes = size_lines([given["X"], given["Y"]])
    writer = NumpyWriter(sizes, functions, order=(a for i in given.values() for a in i.indices))
    unpack = f"{', '.join(net.parameter_shapes)} = (parameters[name] for name in {tuple(net.parameter_shapes)!r})"
    forward = assignments({"P": (names["P"], names["P"].axes)}, writer)
    forward = drop_unused(forward, saved)
    value_lines = assignments({"value": (value, ())}, writer, given=saved)
    outputs = {f"d{name}": (gradient, given[name].axes) for name, gradient in gradients.items()}
    backward = drop_unused(assignments(outputs, writer, given=saved), outputs)
    result = ", ".join(f'"{name}": d{name}' for name in gradients)
    spec = "-".join(map(str, net.widths))
    parts = [
        f'"""Forward and backward pass of a {spec} network, {net.loss.title}; derived by backproof."""',
        "import numpy as np",
        "",
        *(f"{symbol} = {float(value)!r}" for symbol, value in net.loss.parameters.items()),
        _function("forward(parameters, X, f)", [unpack, *forward], f"P, ({', '.join(saved)})"),
        _function("loss(saved, Y)", [f"{', '.join(saved)} = saved", *_with_sizes(value_lines, given)], "float(value)"),
        _function(
            "backward(parameters, X, Y, saved, df)",
            [unpack, f"{', '.join(saved)} = saved", *_with_sizes(backward, given)],
            f"{{{result}}}",
        ),
    ]
    return "\n".join(parts)


def _with_sizes(lines: list[str], given: Mapping[str, Input]) -> list[str]:
    """The lines, after those that read the axis sizes they need."""
    sizes, _ = size_lines([given["Y"]])
    body = "\n".join(lines)
    return [line for line in sizes if re.search(rf"\b{line.split(' = ')[0]}\b", body)] + lines


def _function(signature: str, lines: list[str], result: str) -> str:
    return "\n".join([f"\ndef {signature}:", *(f"    {line}" for line in lines), f"    return {result}", ""])
