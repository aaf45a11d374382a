"""The row of a layer: its forward pass and what is derived from it.

A layer is one function of named tensors under the decorator :func:`row`, which puts it into :data:`LAYERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy

from .errors import InputError
from .tensors import Axis, Fact, Input, Tensor, axis

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
    #: inputs that are data although they have no sample axis n
    data: tuple[str, ...] = ()
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


# --- the table ----------------------------------------------------------------------------------------------

#: name -> row. A function under :func:`row` is a layer.
LAYERS: dict[str, Layer] = {}


def axes_of(text: str) -> tuple[Axis, ...]:
    """Axes as text: "n i" has the sizes N and I, "p:O o" the sizes O and O.

    >>> axes_of("p:O o")
    (Axis(name='p', size=O), Axis(name='o', size=O))
    """
    parts = (part.partition(":") for part in text.split())
    return tuple(axis(name, size or None) for name, _, size in parts)


def add(made: Layer) -> Layer:
    """Put a row into the table; a name is given once."""
    if made.name in LAYERS:
        raise InputError(f"there are two layers called {made.name!r}")
    LAYERS[made.name] = made
    return made


def row(
    title: str,
    *,
    name: str | None = None,
    facts: Mapping[str, tuple[Fact, ...]] | None = None,
    more: Mapping[str, Any] | None = None,
    **axes: str,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator: the function is the forward pass of a layer, its arguments are the inputs with the axes given.

    ``facts`` are what is assumed of inputs; ``more`` are further fields of :class:`Layer` (parameters, citation, …)::

        @row("bias, x + b", x="n i", b="i")
        def bias(x, b):
            return x + b
    """

    def register(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
        inputs = tuple(Input(i, axes_of(text), (facts or {}).get(i, ())) for i, text in axes.items())
        add(Layer(name or formula.__name__, formula, inputs, title, **(more or {})))
        return formula

    return register
