"""The row of a layer: its forward pass and what is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy

from .tensors import Axis, Input, Tensor

if TYPE_CHECKING:
    from .costs import Costs
    from .derivation import Derivation


@dataclass(frozen=True)
class Layer:
    """A layer: ``formula`` of its inputs. Everything else is derived."""

    name: str
    formula: Callable[..., Tensor]
    inputs: tuple[Input, ...]
    title: str = ""
    #: hyper-parameter -> default
    parameters: Mapping[sympy.Symbol, sympy.Expr] = field(default_factory=dict)
    kinks: str = ""
    citation: str = ""
    aliases: tuple[str, ...] = ()
    function: str = ""
    #: named values whose own cotangents are kept under a name (dA for A)
    stages: tuple[str, ...] = ()
    #: axes of the output in order, where they are not all axes of the inputs
    output: tuple[str, ...] = ()
    #: structural options (stride, groups, heads, …) -> the values this row has; ``variant`` makes the row of others
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: Callable[..., Layer] | None = None
    #: input -> a known operation that its gradient is: (how it is written, the expression). Shown only where proved.
    known: Mapping[str, Callable[[Layer], tuple[str, Tensor]]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.function, tuple(sorted((k, str(v)) for k, v in self.options.items()))))

    @cached_property
    def forward(self) -> Tensor:
        """The output as a tensor expression of the inputs."""
        return self.formula(*self.inputs)

    @property
    def cotangent(self) -> Input:
        """The cotangent dy of the output."""
        return Input("dy", self.output_axes)

    @property
    def output_axes(self) -> tuple[Axis, ...]:
        """Axes of the output, in the order in which the inputs bring them."""
        if self.output:
            return tuple(self.forward.axis(name) for name in self.output)
        order = list(dict.fromkeys(a for i in self.inputs for a in i.indices))
        return tuple(sorted(self.forward.axes, key=order.index))

    def vjp(self, wrt: str) -> Derivation:
        """The gradient by one input, for the cotangent ``dy`` of the output.

        Raises InputError if there is no such input.
        """
        found = self._derived.get(wrt)
        if found is None:
            from .derivation import derive

            found = self._derived[wrt] = derive(
                self.forward,
                wrt,
                title=self.title or self.name,
                cotangent=self.cotangent,
                arguments=self.inputs,
                parameters=self.parameters,
                stages=self.stages,
            )
            if wrt in self.known:
                found = self._derived[wrt] = replace(found, known=self._recognised(wrt, found))
        return found

    def _recognised(self, wrt: str, found: Derivation) -> tuple[str, ...]:
        """The known operation that a gradient is, if that is proved."""
        from .equality import equal

        text, claim = self.known[wrt](self)
        return (text,) if equal(claim, found.raw) else ()

    @cached_property
    def _derived(self) -> dict[str, Derivation]:
        return {}

    @property
    def differentiable(self) -> tuple[str, ...]:
        """Names of the inputs that have a gradient (masks and one-hot tokens do not)."""
        return tuple(a.name for a in self.inputs if not any(f.kind in ("one-hot", "zero or one") for f in a.facts))

    def gradients(self) -> dict[str, Derivation]:
        """Input name -> its gradient."""
        return {name: self.vjp(name) for name in self.differentiable}

    def jvp(self, *wrt: str) -> Tensor:
        """The tangent of the output for tangents ``dx``, … of the named inputs (if none: all that have a gradient)."""
        from .backprop import jvp

        chosen = [a for a in self.inputs if a.name in (wrt or self.differentiable)]
        return jvp(self.forward, {a.name: Input(f"d{a.name}", a.indices) for a in chosen})

    def hvp(self, wrt: str) -> Tensor:
        """The Hessian-vector product of ⟨dy, layer⟩ by one input, for the tangent ``v``; see :mod:`.second_order`."""
        from .second_order import layer_hessian

        return layer_hessian(self, wrt)

    @property
    def costs(self) -> Costs:
        """Parameters, operations forward and backward, and stored values; see :mod:`.costs`."""
        from .costs import layer_costs

        return layer_costs(self)

    def numpy_source(self) -> str:
        """Source of ``forward(inputs…)`` and ``backward(dy, inputs…)`` (gradients in the order of the inputs)."""
        from .derivation import function_source

        forward = function_source(
            "forward", {"y": (self.forward, self.output_axes)}, self.inputs, self.parameters, doc=self.title
        )
        outputs = {d.name: (d.gradient, d.axes) for d in self.gradients().values()}
        backward = function_source(
            "backward",
            outputs,
            (self.cotangent, *self.inputs),
            self.parameters,
            doc=f"Gradients of {self.title or self.name}",
        )
        # A helper that both need stands once.
        blocks = dict.fromkeys(part.strip("\n") for part in f"{forward}\n\n{backward}".split("\n\n\n"))
        return "\n\n\n".join(blocks) + "\n"
