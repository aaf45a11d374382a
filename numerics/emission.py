"""Source to paste: an activation, a formula or a layer, forward and backward, for every target of one table."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..theory.activations import ACTIVATIONS, Activation
from ..theory.errors import InputError, lookup
from ..theory.layer_row import Layer
from ..theory.layer_text import parse_call
from ..theory.layers import LAYERS, layer
from ..theory.lowering import Program


@dataclass(frozen=True)
class Target:
    """A target of ``emit``: what prints an activation, and what prints a layer (None: it has none)."""

    name: str
    title: str
    activation: Callable[..., str]
    layer: Callable[..., str] | None


def _module(name: str) -> Any:
    return importlib.import_module(f".targets.{name}", __package__)


def _in_one_pass(module: str, usage: str, **options: Any) -> Callable[..., str]:
    """A printer of one program that holds the value and all derivatives."""

    def write(
        programs: Callable[[Sequence[int]], Program], *, name: str, title: str, derivatives: int, dtype: str
    ) -> str:
        program = programs(tuple(range(derivatives + 1)))
        results = ", ".join(f"{n}_out" if module == "numba_cpu" else n for n in program.outputs)
        doc = f"{title}\n\n{usage.format(name=name, results=results, dtype=dtype)}\n"
        text: str = _module(module).print_source(program, dtype=dtype, title=doc, name=name, **options)
        return text

    return write


def _ladder(module: str) -> Callable[..., str]:
    return lambda programs, **options: str(_module(module).print_activation(programs, **options))


def _layer_of(module: str) -> Callable[..., str]:
    return lambda row: str(_module(module).print_layer(row))


_NUMPY = "{name}(x) returns {results}; x is an array or a number."
_NUMBA = "{name}(x, {results}) fills arrays like x: one-dimensional, contiguous, {dtype}."

#: name -> row. A target is one row here and one file in targets/.
TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target("numpy", "NumPy", _in_one_pass("numpy", _NUMPY), lambda row: str(row.numpy_source())),
        Target("numba", "Numba on the CPU", _in_one_pass("numba_cpu", _NUMBA, cache=False), _layer_of("numba_layer")),
        Target("torch", "PyTorch, an autograd.Function", _ladder("torch"), _layer_of("torch")),
        Target("jax", "JAX, a custom_vjp", _ladder("jax"), _layer_of("jax")),
        Target("c", "C99", _ladder("c"), _layer_of("c")),
    )
}


def activation_source(row: Activation, target: str = "numpy", derivatives: int = 1, dtype: str = "float64") -> str:
    """A module that computes f and its first derivatives, each in its stable form; imports included.

    Raises :class:`InputError` for a target that does not exist, or that has no such form.
    """
    from .kernels import activation_program
    from .targets.printing import identifier

    printer = lookup(TARGETS, target, "target").activation
    name = identifier(row.name.split("(")[0].strip() if row.title != "formula in x" else "f")
    formula = " ".join(str(row.expr).split()).replace("\\", "")
    title = f"{row.title or row.name}: f(x) = {formula[:160]}"

    def programs(orders: Sequence[int]) -> Program:
        return activation_program(row, orders, dtype, "cpu" if target == "numba" else None)

    return printer(programs, name=name, title=title, derivatives=derivatives, dtype=dtype)


def layer_source(row: Layer, target: str = "numpy") -> str:
    """A module with the layer's forward pass and the backward pass that was derived from it.

    Raises :class:`InputError` for a target that does not exist or prints no layers.
    """
    chosen = lookup(TARGETS, target, "target")
    if chosen.layer is None:
        able = ", ".join(name for name, t in TARGETS.items() if t.layer is not None)
        raise InputError(f"target {target} prints no layers (asked for {row.name}): these do: {able}")
    return chosen.layer(row)


def is_layer(spec: str, asked: bool = False) -> bool:
    """Whether ``spec`` names a layer: one was asked for, or a layer but no activation has that name."""
    name = spec.split("(")[0].strip().lower().replace("-", "_")
    named = {name} & {*LAYERS, *(alias for row in LAYERS.values() for alias in row.aliases)}
    return asked or bool(named and not any(name in (row.name, *row.aliases) for row in ACTIVATIONS.values()))


def emit_layer(spec: str, target: str) -> tuple[str, str]:
    """(name, source) of the layer that ``spec`` writes: a name, with options if wanted ("batch_norm(eps=1e-3)").

    Raises :class:`InputError` for a layer, an option or a target that does not exist.
    """
    name, options = parse_call(spec)
    row = layer(name, **options)
    return row.name, layer_source(row, target)
