"""Gated units a·g(b) as one pass entry by entry, at the accuracy of g's own kernel: values, and both gradients.

The layer's row gives g; its program is that of an activation, multiplied by a and dy before anything is rounded
(:mod:`..theory.scaled_products`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sympy

from ..theory.activations import ACTIVATIONS, Activation
from ..theory.errors import InputError
from ..theory.evaluation import concrete
from ..theory.layer_row import Layer
from ..theory.symbols import parameter, x
from ..theory.tensors import Contract, Input, Map, Named, Scalar, Tensor, slot
from .compiled import Array, apply, as_input, check_out, file_name, load, write_once
from .files import cache_directory
from .kernels import activation_program
from .row_kernels import RowKernel

#: What multiplies: of either sign.
_FACTOR = parameter("a", positive=False)


class GateKernel(RowKernel):
    """A compiled gated unit: ``k(a, b)`` = a·g(b), ``k.vjp(dy, a, b)`` = (dy·g(b), dy·a·g′(b)); arrays of one shape.

    Results are rounded once: float32 ones of steps in float64, float64 ones of steps in pairs of floats.
    """

    def __call__(self, *inputs: Any, out: Array | None = None, **parameters: Any) -> Array:
        """The unit's output; ``out`` may be one of the inputs."""
        a, b = self._pair(inputs, parameters)
        target = None if out is None else check_out(out, b.shape, self.dtype, "out")
        (result,) = apply(self._passes[0], [b, a], [target], self.dtype)
        return result

    def vjp(self, dy: Any, *inputs: Any, **parameters: Any) -> Any:
        """(da, db) for the cotangent ``dy`` of the output, in one pass."""
        a, b = self._pair(inputs, parameters)
        upstream = as_input(dy, self.dtype, "dy")
        if upstream.shape != b.shape:
            raise InputError(f"dy has shape {upstream.shape}, the inputs have {b.shape}: they must agree")
        da, db = apply(self._passes[1], [b, upstream, a], [None, None], self.dtype)
        return da, db

    def _pair(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> tuple[Array, Array]:
        (a, b), _, _ = self._prepare(inputs, parameters, flat=False)
        return a, b

    @cached_property
    def _passes(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return load(self._path(0)), load(self._path(1))

    @property
    def path(self) -> Path:
        """The file with the source of the forward pass; written if it is not there."""
        return self._path(0)

    def _path(self, which: int) -> Path:
        source = self._sources[which]
        path = cache_directory() / file_name(f"{self.layer.name}_{('forward', 'backward')[which]}_{self.dtype}", source)
        if not path.exists():
            write_once(path, source)
        return path

    @cached_property
    def _sources(self) -> tuple[str, str]:
        from .targets.numba_cpu import print_source

        gate = gate_of(self.layer)
        assert gate is not None
        row = Activation(self.layer.name, gate)
        ahead = activation_program(row, (0,), self.dtype, "cpu", factors={"value": ("a",)})
        factors = {"value": ("dy",), "derivative": ("dy", "a")}
        back = activation_program(row, (0, 1), self.dtype, "cpu", factors=factors)
        title = f"{self.layer.title}: a g(x), g = {gate}"
        return (
            print_source(ahead, dtype=self.dtype, title=title),
            print_source(back, dtype=self.dtype, title=f"{title}; the gradients by a and by x"),
        )

    @cached_property
    def source(self) -> str:
        """The sources of both passes, as compiled; x stands for b."""
        return "\n\n".join(self._sources)


def gate_of(layer: Layer) -> sympy.Expr | None:
    """g, in x, where the layer is a·g(b) entry by entry of two inputs of the output's axes; None for any other.

    >>> from backproof.theory.layers import LAYERS
    >>> gate_of(LAYERS["glu"])
    1/(1 + exp(-x))
    """
    axes = layer.output_axes
    if len(layer.inputs) != 2 or layer.parameters or any(i.indices != axes for i in layer.inputs):
        return None
    names = {layer.inputs[0].name: _FACTOR, layer.inputs[1].name: x}
    whole = _entry(layer.forward, names)
    gate = None if whole is None else whole / _FACTOR
    return gate if gate is not None and gate.free_symbols == {x} else None


def _by_name(value: sympy.Expr) -> sympy.Expr:
    """Activations of the table, which layers call by name, as their formulas."""
    named = [
        f for f in value.atoms(sympy.Function) if type(f).__name__ in ACTIVATIONS and hasattr(type(f), "definition")
    ]
    return value.xreplace({f: ACTIVATIONS[type(f).__name__].at(f.args[0]) for f in named})


def _entry(node: Tensor, names: dict[str, sympy.Symbol]) -> sympy.Expr | None:
    """An entry of the tensor as a formula of the entries of its inputs; None where it is more than that."""
    match node:
        case Input():
            return names[node.name]
        case Named():
            return _entry(node.operand, names)
        case Scalar():
            return node.value
        case Map():
            operands = [_entry(o, names) for o in node.operands]
            given = {slot(k): o for k, o in enumerate(operands) if o is not None}
            return None if None in operands else concrete(_by_name(node.function)).xreplace(given)
        case Contract() if not node.summed:
            factors = [_entry(f, names) for f in node.factors]
            return None if None in factors else sympy.Mul(*factors)
    return None
