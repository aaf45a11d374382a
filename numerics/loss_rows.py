"""A loss with a reduction as a row that printers take like a layer's: prediction and target in, loss out.

The backward pass is the gradient by the prediction times the upstream gradient of the loss. Nothing is derived here:
the gradient is that of :meth:`backproof.theory.losses.Loss.gradient`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..theory.errors import InputError
from ..theory.layer_row import Layer
from ..theory.layers import _exact
from ..theory.losses import REDUCTIONS, Loss, loss
from ..theory.tensors import Axis, Input, Tensor
from ..theory.walking import substitute

if TYPE_CHECKING:
    from ..theory.derivation import Derivation


@dataclass(frozen=True, eq=False)
class LossRow(Layer):
    """See the module; ``source`` is the loss, its reduction is in ``options``."""

    source: Loss | None = None
    #: the prediction is the loss's output activation of pre-activations z, and the gradient that by z
    through_output: bool = False

    @property
    def _loss(self) -> Loss:
        assert self.source is not None
        return self.source

    @property
    def reduction(self) -> str:
        """none, mean or sum."""
        return str(self.options["reduction"])

    @property
    def cotangent(self) -> Input:
        """The gradient of what is minimised by this loss; "dy" would be that of the target."""
        return Input("upstream", self.output_axes)

    @property
    def output_axes(self) -> tuple[Axis, ...]:
        return self.forward.axes

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The prediction alone."""
        return (self.inputs[0].name,)

    @cached_property
    def _gradient(self) -> Derivation:
        found = self._loss.gradient(reduction=self.reduction, through_output=self.through_output)
        upstream = self.cotangent

        def scaled(tensor: Tensor) -> Tensor:
            if self.reduction == "none":
                return substitute(tensor, {"dy": upstream})
            return tensor * upstream

        arguments = tuple(a for a in found.arguments if a.name != "dy")
        return replace(
            found, gradient=scaled(found.gradient), raw=scaled(found.raw), arguments=(upstream, *arguments), known=()
        )

    def vjp(self, wrt: str) -> Derivation:
        """The gradient by the prediction.

        Raises InputError for any other input.
        """
        if wrt not in self.differentiable:
            raise InputError(f"loss {self.name}: the gradient is by {self.differentiable[0]}, not by {wrt!r}")
        return self._gradient

    def numpy_source(self) -> str:
        """Source of ``forward(prediction, y)`` and ``backward(upstream, prediction, y)``."""
        from ..theory.derivation import function_source

        ahead = {"loss": (self.forward, self.output_axes)}
        back = {d.name: (d.gradient, d.axes) for d in self.gradients().values()}
        parts = [function_source("forward", ahead, self.inputs, self.parameters, doc=self.title)]
        arguments = (self.cotangent, *self.inputs)
        parts.append(function_source("backward", back, arguments, self.parameters, doc=f"Gradient of {self.title}"))
        # A helper that both need stands once.
        blocks = dict.fromkeys(part.strip("\n") for text in parts for part in text.split("\n\n\n"))
        return "\n\n\n".join(blocks) + "\n"


def network_loss_row(spec: str | Loss, reduction: str = "mean") -> LossRow:
    """The row of a loss at the end of a network: of pre-activations, through its output activation if it has one."""
    made = loss_row(spec, reduction)
    row = made._loss
    if row.from_logits or row.output == "identity":
        return made
    z = Input("z", made.inputs[0].indices)

    def formula(z: Tensor, y: Tensor) -> Tensor:
        return row.forward(row.predict(z).named("p"), y, reduction)

    title = f"{made.title}, of pre-activations through {row.output}"
    return replace(made, formula=formula, inputs=(z, made.inputs[1]), title=title, through_output=True)


def loss_row(spec: str | Loss, reduction: str = "mean", **options: Any) -> LossRow:
    """The row of a loss by name; options bind its hyper-parameters.

    Raises InputError for a loss, a reduction or an option that does not exist.

    >>> loss_row("mse", "none").gradients()["z"].shape
    '[N×K]'
    """
    row = spec if isinstance(spec, Loss) else loss(spec)
    if reduction not in REDUCTIONS:
        raise InputError(f"unknown reduction {str(reduction)[:40]!r} of loss {row.name}: use none, mean or sum")
    known = {str(s): s for s in row.parameters}
    bound: Mapping[Any, Any] = dict(row.parameters)
    for option, value in options.items():
        if option not in known:
            raise InputError(f"loss {row.name} has no option {option!r}: it has {', '.join(('reduction', *known))}")
        bound = {**bound, known[option]: _exact(option, value)}
    return LossRow(
        row.name, lambda p, y: row.forward(p, y, reduction), row.inputs(), f"{row.title}, reduction {reduction}",
        bound, row.kinks, row.citation, row.aliases, options={"reduction": reduction}, source=row,
    )  # fmt: skip
