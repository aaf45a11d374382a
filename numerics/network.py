"""A multilayer perceptron that runs: the derived forward and backward pass, compiled activations, drawn weights.

Nothing here knows calculus: the gradients are the source that :mod:`..theory.networks` derived, and each of the other
parts is called through one place (activation kernels and the derived source in :class:`Network`, initialisers in
:meth:`Network.draw`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.activations import activation as activation_of
from ..theory.errors import InputError
from ..theory.losses import Loss
from ..theory.networks import Network as DerivedNetwork
from ..theory.networks import network
from ..theory.tensors import POSITIVE
from .kernels import kernel

Array = npt.NDArray[Any]

#: Losses whose targets are −1 and 1 instead of 0 and 1.
_SIGNED_TARGETS = ("hinge", "squared_hinge")

#: More parameters than this are refused before any memory is asked for (400 MB in float64, and each optimiser state
#: again).
MOST_PARAMETERS = 50_000_000


class Network:
    """The network ``spec`` (such as "4-16-3") with one flat array ``flat`` of parameters and named views
    ``parameters``.

    Shapes: ``X`` (N, inputs), ``Y`` (N, outputs), ``W1`` (inputs, width), ``b1`` (width,) and so on; all of ``dtype``.
    """

    def __init__(
        self, spec: str, activation: Any = "relu", loss: str = "softmax_cross_entropy", dtype: str = "float64"
    ):
        self.derived: DerivedNetwork = network(spec, activation=activation, loss=loss)
        self.widths = tuple(int(width) for width in self.derived.widths)
        self.parameter_count = int(self.derived.parameter_count)
        if self.parameter_count > MOST_PARAMETERS:
            raise InputError(
                f"{spec} has {self.parameter_count:,} parameters: at most {MOST_PARAMETERS:,} are trained here"
            )
        _check_loss(self.derived.loss, self.widths[-1])
        self.dtype = np.dtype(dtype)
        self.activation = _activation_text(activation)
        compiled = kernel(activation, dtype=dtype)
        self._f, self._df = compiled, compiled.derivative
        self._forward, self._loss, self._backward = _load(self.derived)
        self.flat = np.zeros(self.parameter_count, self.dtype)
        self.parameters = self.views(self.flat)
        self._gradient = np.empty_like(self.flat)

    def __reduce__(self) -> tuple[Callable[..., Network], tuple[Any, ...]]:
        """A copy in another process derives and compiles its own; only the parameters travel."""
        spec = "-".join(map(str, self.widths))
        return _rebuilt, (spec, self.activation, self.derived.loss.name, self.dtype.name, self.flat)

    def require_savable(self) -> None:
        """Raise :class:`InputError` when the activation cannot be named by text."""
        try:
            activation_of(self.activation)
        except InputError:
            raise InputError(f"the activation {self.activation[:60]} cannot be saved: give it as text") from None

    def views(self, flat: Array) -> dict[str, Array]:
        """``flat`` cut into W1, b1, W2, …, as views."""
        found, start = {}, 0
        for layer, (n_in, n_out) in enumerate(zip(self.widths, self.widths[1:], strict=False), start=1):
            found[f"W{layer}"] = flat[start : start + n_in * n_out].reshape(n_in, n_out)
            start += n_in * n_out
            found[f"b{layer}"] = flat[start : start + n_out]
            start += n_out
        return found

    def draw(self, initialiser: str, activation: Any, generator: np.random.Generator) -> None:
        """Draw all weights by ``initialiser``, for an ``activation`` between the layers; biases are 0."""
        from .initialise import draw

        for name, values in self.parameters.items():
            if name.startswith("W"):
                values[...] = draw(initialiser, values.shape, generator, activation, self.dtype)
            else:
                values[...] = 0

    def forward(self, X: Array) -> Array:
        """The output (N, outputs) after the output activation of the loss: probabilities for cross-entropy."""
        return np.asarray(self._forward(self.parameters, X, self._f)[0])

    def probabilities(self, X: Array) -> Array | None:
        """Class probabilities (N, outputs) where the loss gives any (softmax or log-softmax output), else None."""
        output = self.forward(X)
        return {"softmax": output, "log_softmax": np.exp(output)}.get(self.derived.loss.output)

    def targets(self, labels: Array) -> Array:
        """Class numbers (N,) as targets (N, outputs): one-hot, with one output the class number itself; ±1 for
        hinges.
        """
        low, high = self.label_values
        hot = labels[:, None] == (np.arange(self.widths[-1]) if self.widths[-1] > 1 else 1)
        return np.where(hot, high, low).astype(self.dtype)

    def decide(self, output: Array) -> Array:
        """The class numbers (N,) of the largest outputs; a single output decides half-way between its two targets."""
        if self.widths[-1] == 1:
            return np.asarray(output[:, 0] > sum(self.label_values) / 2).astype(int)
        return np.asarray(output.argmax(axis=1))

    @property
    def label_values(self) -> tuple[int, int]:
        """What the loss wants for "not this class" and "this class"."""
        return (-1, 1) if self.derived.loss.name in _SIGNED_TARGETS else (0, 1)

    def evaluate(self, X: Array, Y: Array) -> tuple[float, Array]:
        """The mean loss over the samples and the output."""
        output, saved = self._forward(self.parameters, X, self._f)
        return float(self._loss(saved, Y)), output

    def gradient(self, X: Array, Y: Array) -> Array:
        """The gradient of the mean loss, flat, in one array that the next call overwrites."""
        _, saved = self._forward(self.parameters, X, self._f)
        found = self._backward(self.parameters, X, Y, saved, self._df)
        np.concatenate([found[name].ravel() for name in self.parameters], out=self._gradient)
        return self._gradient

    def set_parameters(self, values: Mapping[str, Array]) -> None:
        """Copy the named arrays in; a missing one or a wrong shape raises :class:`InputError`."""
        for name, view in self.parameters.items():
            if name not in values or values[name].shape != view.shape:
                found = f"has shape {values[name].shape}" if name in values else "is missing"
                raise InputError(f"the parameter {name} {found}: {view.shape} is needed")
            view[...] = values[name]


def _rebuilt(spec: str, activation: str, loss: str, dtype: str, flat: Array) -> Network:
    network = Network(spec, activation, loss, dtype)
    network.flat[...] = flat
    return network


def _activation_text(spec: Any) -> str:
    """The activation as text by which a saved file, or another process, can name it.

    A SymPy expression may have branches that no text of the formula language stands for: it can be trained, not saved.
    """
    return spec if isinstance(spec, str) else activation_of(spec).name


def _check_loss(loss: Loss, outputs: int) -> None:
    if POSITIVE in loss.target_facts:
        raise InputError(
            f"the loss {loss.name} needs target probabilities that are all positive, and class labels are 0 or 1: "
            "use softmax_cross_entropy, which it then equals"
        )
    if outputs == 1 and "softmax" in loss.output:
        raise InputError(f"the loss {loss.name} over one output is always 0: give the network one output per class")


def _load(derived: DerivedNetwork) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Run the derived source: it holds only names that the generator made, NumPy, and the loss's parameters (δ of
    Huber).
    """
    space: dict[str, Any] = {"np": np} | {
        str(symbol): float(value) for symbol, value in derived.loss.parameters.items()
    }
    exec(compile(derived.numpy_source(), "<derived network>", "exec"), space)
    return space["forward"], space["loss"], space["backward"]
