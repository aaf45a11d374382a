"""Source to paste: an activation, a formula, a layer or a loss, forward and backward, for every target of one table."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..theory.activations import ACTIVATIONS, Activation, activation
from ..theory.errors import InputError, lookup
from ..theory.layer_row import Layer
from ..theory.layer_text import parse_call
from ..theory.layers import LAYERS, layer
from ..theory.losses import LOSSES
from ..theory.lowering import Program
from .loss_rows import loss_row


@dataclass(frozen=True)
class Target:
    """A target of ``emit``: what prints an activation, and what prints a layer or a loss."""

    name: str
    title: str
    activation: Callable[..., str]
    layer: Callable[..., str]
    #: formats that a layer can be printed for; empty: it computes in the type of its inputs
    formats: tuple[str, ...] = ()


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
    return lambda row, **options: str(_module(module).print_layer(row, **options))


_NUMPY = "{name}(x) returns {results}; x is an array or a number."
_NUMBA = "{name}(x, {results}) fills arrays like x: one-dimensional, contiguous, {dtype}."

_NUMBA_PARAMETERS = "{name}(x, {inputs}, {results}) fills arrays like x: one-dimensional, contiguous, {dtype}."

_BOTH = ("float64", "float32")
_NUMBA_ROW = _in_one_pass("numba_cpu", _NUMBA, cache=False)

#: name -> row. A target is one row here and one file in targets/.
TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target("numpy", "NumPy", _in_one_pass("numpy", _NUMPY), _layer_of("numpy_layer")),
        Target("numba", "Numba on the CPU", _NUMBA_ROW, _layer_of("numba_layer"), _BOTH),
        Target("torch", "PyTorch, an autograd.Function", _ladder("torch"), _layer_of("torch")),
        Target("jax", "JAX, a custom_vjp", _ladder("jax"), _layer_of("jax")),
        Target("c", "C99", _ladder("c"), _layer_of("c"), _BOTH),
        Target("cuda", "CUDA C++, kernels and device functions", _ladder("cuda_cpp"), _layer_of("cuda_cpp"), _BOTH),
    )
}

#: kind -> its names and aliases with their rows, in the order in which a name that several have is taken.
KINDS: dict[str, dict[str, Any]] = {
    kind: {name: row for row in table.values() for name in (row.name, *row.aliases)}
    for kind, table in (("activation", ACTIVATIONS), ("layer", LAYERS), ("loss", LOSSES))
}


def activation_source(row: Activation, target: str = "numpy", derivatives: int = 1, dtype: str = "float64") -> str:
    """A module that computes f and its first derivatives, each in its stable form; imports included.

    Raises :class:`InputError` for a target that does not exist, or that has no such form.
    """
    from .kernels import activation_program
    from .targets.printing import identifier

    printer = lookup(TARGETS, target, "target").activation
    name = identifier(row.name.split("(")[0].strip() if not row.is_typed else "f")
    formula = " ".join(str(row.expr).split()).replace("\\", "")
    title = f"{row.title or row.name}: f(x) = {formula[:160]}"

    def programs(orders: Sequence[int]) -> Program:
        return activation_program(row, orders, dtype, {"numba": "cpu", "numpy": "numpy"}.get(target))

    return printer(programs, name=name, title=title, derivatives=derivatives, dtype=dtype)


def parametric_source(row: Activation, target: str, derivatives: int = 1, dtype: str = "float64") -> str:
    """A module like :func:`activation_source`'s with the parameters as numbers beside x, and ∂f/∂p for each.

    Raises :class:`InputError` for a target other than numba (the form wants fused multiply-add), and for a row without
    parameters.
    """
    from ..theory.parametric import parametric_program, symbolic
    from .kernels import arithmetic_of
    from .targets.numba_cpu import print_source
    from .targets.printing import identifier

    if lookup(TARGETS, target, "target").name != "numba":
        raise InputError(f"parameters at call time are printed for the target numba, not for {target}")
    formula = symbolic(row).expr
    orders, by = tuple(range(derivatives + 1)), tuple(row.parameters)
    program = parametric_program(row, orders, arithmetic_of(dtype, "cpu"), by=by)
    name, names = identifier(row.name.split("(")[0].strip()), [str(p) for p in by]
    results = ", ".join(f"{n}_out" for n in program.outputs)
    usage = _NUMBA_PARAMETERS.format(name=name, inputs=", ".join(names), results=results, dtype=dtype)
    numbers = f"{', '.join(names)}: {'one number' if len(names) == 1 else 'numbers'}"
    doc = f"{row.title or row.name}: f(x) = {formula}\n\n{usage}\n{numbers}.\n"
    return print_source(program, dtype=dtype, scalars=names, title=doc, name=name, cache=False)


def layer_source(row: Layer, target: str = "numpy", dtype: str | None = None) -> str:
    """A module with the forward pass of a layer or loss and the backward pass that was derived from it.

    Raises :class:`InputError` for a target that does not exist, or that has no such format.
    """
    chosen = lookup(TARGETS, target, "target")
    if dtype is not None and dtype not in chosen.formats:
        able = ", ".join(name for name, t in TARGETS.items() if dtype in t.formats)
        raise InputError(
            f"target {target} computes {row.name} in the type of its inputs: --dtype is for activations, and for "
            f"layers and losses of {able or 'no target'}"
        )
    return chosen.layer(row, **({} if dtype is None else {"dtype": dtype}))


def kinds_of(spec: str) -> list[str]:
    """The kinds of row that have the name in ``spec``, the one that is meant without a flag first."""
    name = _name_in(spec)
    return [kind for kind, names in KINDS.items() if name in names]


def _name_in(spec: str) -> str:
    return spec.split("(")[0].strip().lower().replace("-", "_")


def is_layer(spec: str, asked: bool = False) -> bool:
    """Whether ``spec`` names a layer: one was asked for, or a layer but no activation has that name."""
    return asked or kinds_of(spec)[:1] == ["layer"]


def emit_layer(spec: str, target: str, dtype: str | None = None) -> tuple[str, str]:
    """(name, source) of the layer that ``spec`` writes: a name, with options if wanted ("batch_norm(eps=1e-3)").

    Raises :class:`InputError` for a layer, an option or a target that does not exist.
    """
    name, options = parse_call(spec)
    row = layer(name, **options)
    return row.name, layer_source(row, target, dtype)


def emit_loss(spec: str, target: str, dtype: str | None = None) -> tuple[str, str]:
    """(name, source) of the loss that ``spec`` writes, such as "huber(delta=2, reduction=sum)"; mean if not said.

    Raises :class:`InputError` for a loss, an option or a target that does not exist.
    """
    name, options = parse_call(spec)
    row = loss_row(name, **options)
    return row.name, layer_source(row, target, dtype)


def formula_row(spec: str) -> Activation:
    """The activation of a name or formula.

    Raises :class:`InputError`; for a single word it names the nearest of all rows.
    """
    try:
        return activation(spec)
    except InputError:
        if re.fullmatch(r"[\w-]{3,}", spec.strip()):
            every = {name: row for names in KINDS.values() for name, row in names.items()}
            lookup(every, _name_in(spec), "activation, layer or loss")
        raise
