"""What a person may hand to ``check`` in place of two NumPy functions: rows of a table, tried in order.

======================  ==========================================================================================
Numba function          its Python source is traced and run exactly, the compiled code is what the floats measure
PyTorch ``Function``    a black box: its floats against the exact value; ``needs_input_grad``, None and double backward
CUDA or CuPy kernel     a black box, launched on copies: its floats against the exact value
JAX ``custom_vjp/jvp``  a black box: its floats (in 64 bits) against the exact value
object with methods     ``forward`` and ``backward`` of an object that keeps state: see :mod:`.stateful`
scalar function         ``grad(x)`` beside ``fn(x)``: the shape is found by trying
======================  ==========================================================================================

A framework is imported only when one of its objects has been handed in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .cuda_adapter import CupyKernel, NumbaKernel, is_cupy_kernel, is_numba_kernel
from .object_pairs import object_pair
from .stateful import is_stateful


@dataclass(frozen=True)
class Given:
    """The arguments of ``check``, and what an adapter makes of them."""

    backward: Any
    forward: Any = None
    against: Any = None
    shapes: Mapping[str, Sequence[int]] | None = None
    inputs: Mapping[str, Any] | None = None
    wrt: Sequence[str] | str | None = None
    title: str = ""
    shipped: Callable[..., Any] | None = None
    opaque: bool = False
    extra: Callable[..., list[str]] | None = None
    notes: tuple[str, ...] = ()
    suspect: Callable[..., str] | None = None


@dataclass(frozen=True)
class Adapter:
    """One kind of object: how it is recognised, and what it becomes."""

    name: str
    recognise: Callable[[Given], bool]
    adapt: Callable[[Given], Given]


def adapt(given: Given) -> Given:
    """Return the arguments with framework objects replaced by functions of arrays."""
    for adapter in ADAPTERS:
        if adapter.recognise(given):
            given = adapter.adapt(given)
    return given


# Numba ---------------------------------------------------------------------------------------------------------------
def _is_compiled(value: Any) -> bool:
    return (
        not is_numba_kernel(value)
        and (getattr(type(value), "__module__", "") or "").startswith("numba")
        and (hasattr(value, "py_func") or hasattr(value, "_dispatcher"))
    )


def _python(value: Any) -> Any:
    """Return the Python function inside a compiled one; an entry-by-entry one is mapped over exact arrays."""
    if not _is_compiled(value):
        return value
    if hasattr(value, "py_func"):
        return value.py_func
    from .exact_arrays import _is_exact
    from .exact_modules import _vectorize

    inner = value._dispatcher.py_func
    names = list(inspect.signature(inner).parameters)

    def mapped(*arrays: Any, **named: Any) -> Any:  # @vectorize takes no keywords
        every = (*arrays, *(named[n] for n in names if n in named))
        return _vectorize(inner)(*every) if _is_exact(every) else value(*every)

    mapped.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
    mapped.__exact_scopes__ = [inner.__globals__]  # type: ignore[attr-defined]
    mapped.__name__ = inner.__name__
    return mapped


def _adapt_numba(given: Given) -> Given:
    shipped = given.backward if _is_compiled(given.backward) and hasattr(given.backward, "py_func") else None
    return replace(
        given, backward=_python(given.backward), forward=_python(given.forward), against=_python(given.against),
        shipped=shipped, title=getattr(given.backward, "__name__", ""),
    )  # fmt: skip


# Black boxes ---------------------------------------------------------------------------------------------------------
def _reference_needed(given: Given, what: str) -> None:
    if given.forward is None and given.against is None:
        raise InputError(
            f"{what} cannot run in exact arithmetic: give forward= (the same function in NumPy) or against= "
            "(an activation, a layer, a loss or a formula) to hold its floats against"
        )


def _black_box(given: Given, names: Sequence[str], run: Callable[..., Any], title: str) -> Given:
    def backward(upstream: Any, **inputs: Any) -> Any:
        return run(upstream, inputs)

    parameters = [inspect.Parameter("upstream", inspect.Parameter.POSITIONAL_ONLY)]
    parameters += [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    backward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    backward.__name__ = title
    return replace(given, backward=backward, title=title, opaque=True)


def _bases(value: Any) -> list[str]:
    return [f"{c.__module__}.{c.__name__}" for c in getattr(value, "__mro__", ())[1:]]


def _is_torch(given: Given) -> bool:
    return isinstance(given.backward, type) and "torch.autograd.function.Function" in _bases(given.backward)


def _adapt_torch(given: Given) -> Given:
    from .torch_adapter import TorchFunction

    title = given.backward.__name__
    _reference_needed(given, f"the PyTorch function {title}")
    function = TorchFunction(given.backward, (given.wrt,) if isinstance(given.wrt, str) else given.wrt)
    return replace(_black_box(given, function.names, function.gradients, title), extra=function.troubles)


def _is_jax(given: Given) -> bool:
    kind = type(given.backward)
    return kind.__name__ in ("custom_vjp", "custom_jvp") and kind.__module__.startswith("jax")


def _adapt_jax(given: Given) -> Given:
    function = given.backward
    title = getattr(function, "__name__", "jax function")
    _reference_needed(given, f"the JAX function {title}")
    names = list(inspect.signature(function).parameters)
    fixed = {names[k] if isinstance(k, int) else k for k in getattr(function, "nondiff_argnums", ())}
    fixed |= set(getattr(function, "nondiff_argnames", ()) or ())
    return _black_box(given, names, lambda upstream, inputs: _jax_gradients(function, fixed, upstream, inputs), title)


def _jax_gradients(function: Any, fixed: set[str], upstream: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    import jax

    real = [n for n, v in inputs.items() if n not in fixed and np.asarray(v).dtype.kind == "f"]
    constants = {n: v for n, v in inputs.items() if n not in real}
    enable: Any = getattr(jax, "enable_x64", None)
    if enable is None:  # older versions
        from jax.experimental import enable_x64

        enable = enable_x64
    with enable(True):
        active = [jax.numpy.asarray(inputs[n]) for n in real]

        def call(*values: Any) -> Any:
            table = {**constants, **dict(zip(real, values, strict=True))}
            return function(*(table[n] for n in inputs))

        output, pull = jax.vjp(call, *active)
        seeds = upstream if isinstance(output, (tuple, list)) else (upstream,)
        leaves = output if isinstance(output, (tuple, list)) else (output,)
        cotangents = [jax.numpy.asarray(u, dtype=o.dtype) for u, o in zip(seeds, leaves, strict=True)]
        found = pull(type(output)(cotangents) if isinstance(output, (tuple, list)) else cotangents[0])
        return {n: np.asarray(g) for n, g in zip(real, found, strict=True)}


# CUDA ----------------------------------------------------------------------------------------------------------------
def _is_kernel(given: Given) -> bool:
    return is_numba_kernel(given.backward) or is_cupy_kernel(given.backward)


def _adapt_kernel(given: Given) -> Given:
    """Take the inputs' names from the forward pass, or from the shapes or examples that were given."""
    _reference_needed(given, "a CUDA kernel")
    inputs = list(given.inputs or given.shapes or {})
    if not inputs:
        inputs = [*_required(given.forward)] if given.forward is not None else ["x"]
    wrt = [given.wrt] if isinstance(given.wrt, str) else given.wrt
    kind = NumbaKernel if is_numba_kernel(given.backward) else CupyKernel
    kernel = kind(given.backward, inputs, wrt)
    shapes = given.shapes or (None if given.inputs else dict.fromkeys(inputs, (5,)))
    return replace(
        _black_box(given, inputs, lambda upstream, values: kernel.gradients(upstream, values), kernel.title),
        shapes=shapes,
    )


# Objects with state --------------------------------------------------------------------------------------------------
def _is_object(given: Given) -> bool:
    if isinstance(given.backward, type) and given.forward is None and not _is_torch(given):
        methods = [n for n in ("forward", "backward") if hasattr(given.backward, n)]
        if len(methods) == 2:
            name = given.backward.__name__
            raise InputError(f"{name} is a class: give an object of it, such as {name}(3, 5)")
    return given.forward is None and is_stateful(given.backward)


def _adapt_object(given: Given) -> Given:
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for name, shape in (given.shapes or {}).items():
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        inputs[name] = rng.integers(1, 255, sizes) / 64 - 2 - 1 / 128
    inputs |= {n: np.asarray(v) if isinstance(v, list) else v for n, v in (given.inputs or {}).items()}
    if not inputs:
        raise InputError(f"{type(given.backward).__name__}: give the shape of its input: shapes={{'X': (4, 3)}}")
    loss = None if given.against is None else _loss_function(given.against)
    pair = object_pair(given.backward, inputs, loss)
    return replace(
        given, backward=pair.backward, forward=pair.forward, against=None, shapes=None, inputs=pair.inputs,
        wrt=given.wrt or pair.wrt, title=type(given.backward).__name__,
        notes=pair.notes, suspect=pair.suspect,
    )  # fmt: skip


def _loss_function(against: Any) -> Callable[..., Any]:
    """Return the loss that an object's backward differentiates, as a function of prediction and target."""
    from .row_references import row_reference

    if callable(against) and not hasattr(against, "formula"):
        return against  # type: ignore[no-any-return]
    row = row_reference(against, lambda prediction, target: None)
    if row is None or len(row.kinds) != 2:
        raise InputError(f"against={against!r}: for an object it names the loss, such as loss:half_squared_error")
    return lambda prediction, target: row.forward(prediction, target)


# Scalar functions ----------------------------------------------------------------------------------------------------
def _is_scalar_pair(given: Given) -> bool:
    if given.forward is None or given.shapes or given.inputs or not callable(given.backward) or given.opaque:
        return False
    return len(_required(given.forward)) == 1 and len(_required(given.backward)) == 1


def _required(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def _adapt_scalar(given: Given) -> Given:
    """Find out whether a function of one argument takes arrays (shape (5,)) or numbers alone."""
    name = _required(given.forward)[0]
    trial = np.array([0.75, 0.5, 0.25, 0.375, 0.625])
    try:
        with np.errstate(all="ignore"):
            entry_by_entry = np.shape(given.forward(trial)) == trial.shape
    except Exception:
        entry_by_entry = False
    return replace(given, shapes={name: (5,) if entry_by_entry else ()})


def _adapt_ufunc(given: Given) -> Given:
    """NumPy's own functions take no names: ``np.tanh`` for the inputs in the order in which they were given."""
    function = given.forward
    names = list(given.inputs or given.shapes or {"x": ()})[: function.nin]

    def forward(**arrays: Any) -> Any:
        return function(*(arrays[n] for n in names))

    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    )
    forward.__name__ = function.__name__
    return replace(given, forward=forward)


#: Tried in order; several may apply (a Numba pair of scalar functions).
ADAPTERS: tuple[Adapter, ...] = (
    Adapter("PyTorch autograd.Function", _is_torch, _adapt_torch),
    Adapter("JAX custom_vjp or custom_jvp", _is_jax, _adapt_jax),
    Adapter("CUDA kernel", _is_kernel, _adapt_kernel),
    Adapter("Numba function", lambda g: _is_compiled(g.backward) or _is_compiled(g.forward), _adapt_numba),
    Adapter("NumPy function", lambda g: isinstance(g.forward, np.ufunc), _adapt_ufunc),
    Adapter("object with state", _is_object, _adapt_object),
    Adapter("scalar function", _is_scalar_pair, _adapt_scalar),
)
