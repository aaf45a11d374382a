"""What others compute for an activation: PyTorch's and JAX's functions, NumPy's formula as written.

Measured beside the kernels (``accuracy --against``) and raced with them (``bench``). None of them is needed to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.activations import Activation
from ..theory.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Theirs:
    """What PyTorch (in torch or torch.nn.functional) and JAX (in jax.nn, jax.numpy or jax.scipy.special) call a row."""

    torch: str | None = None
    jax: str | None = None
    torch_options: dict[str, Any] = field(default_factory=dict)
    jax_options: dict[str, Any] = field(default_factory=dict)


#: row -> their names, each with the row's default parameters.
THEIRS: dict[str, Theirs] = {
    "relu": Theirs("relu", "relu"),
    "leaky_relu": Theirs("leaky_relu", "leaky_relu"),
    "relu6": Theirs("relu6", "relu6"),
    "sigmoid": Theirs("sigmoid", "sigmoid"),
    "tanh": Theirs("tanh", "tanh"),
    "silu": Theirs("silu", "silu"),
    "gelu": Theirs("gelu", "gelu", jax_options={"approximate": False}),
    "gelu_tanh": Theirs("gelu", "gelu", {"approximate": "tanh"}, {"approximate": True}),
    "mish": Theirs("mish", "mish"),
    "softplus": Theirs("softplus", "softplus"),
    "elu": Theirs("elu", "elu"),
    "selu": Theirs("selu", "selu"),
    "celu": Theirs("celu", "celu"),
    "softsign": Theirs("softsign", "soft_sign"),
    "hard_swish": Theirs("hardswish", "hard_swish"),
    "hard_sigmoid": Theirs("hardsigmoid", "hard_sigmoid"),
    "hard_tanh": Theirs("hardtanh", "hard_tanh"),
    "log_sigmoid": Theirs("logsigmoid", "log_sigmoid"),
    "tanhshrink": Theirs("tanhshrink"),
    "softshrink": Theirs("softshrink"),
    "hardshrink": Theirs("hardshrink"),
    "erf": Theirs("erf", "erf"),
    "arctan": Theirs("arctan", "arctan"),
    "sin": Theirs("sin", "sin"),
    "cos": Theirs("cos", "cos"),
}
LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


def has(row: Activation, whose: str) -> bool:
    """Whether ``whose`` library is named in :data:`THEIRS` for this row (NumPy evaluates any formula)."""
    return whose == "numpy" or getattr(THEIRS.get(row.name), whose, None) is not None


def derivatives_of(row: Activation, whose: str) -> tuple[tuple[int, ...], Callable[[Array], Sequence[Array]]]:
    """Which derivatives of ``row`` the library gives, and a function of an array that computes them.

    NumPy: the formulas as written, in the array's dtype. PyTorch: its function, and autograd. JAX: its function, and
    forward differentiation, jitted. Raises :class:`InputError` where the library is not installed or has no such
    function.
    """
    if not has(row, whose):
        raise InputError(f"{LIBRARIES[whose]} has no {row.name}")
    return {"numpy": _numpy, "torch": _torch, "jax": _jax}[whose](row)


def _numpy(row: Activation) -> tuple[tuple[int, ...], Callable[[Array], Sequence[Array]]]:
    from .acceptance import as_written_program
    from .targets.numpy import print_source

    orders = (0, 1, 2)
    sources = [print_source(as_written_program(row, n), dtype="float64") for n in orders]

    def functions(dtype: str) -> list[Callable[[Array], Array]]:
        scopes: list[dict[str, Any]] = [{} for _ in orders]
        for source, scope in zip(sources, scopes, strict=True):
            exec(compile(source.replace("np.float64", f"np.{dtype}"), "<generated>", "exec"), scope)  # our own source
        return [scope["run"] for scope in scopes]

    made = cache(functions)

    def run(points: Array) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            return [np.asarray(function(points), dtype=points.dtype) for function in made(points.dtype.name)]

    return orders, run


def torch_function(row: Activation) -> Callable[[Any], Any]:
    """PyTorch's function of a tensor; raises :class:`InputError` where PyTorch is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError("PyTorch is not installed") from None
    theirs = THEIRS[row.name]
    function = getattr(torch, str(theirs.torch), None) or getattr(torch.nn.functional, str(theirs.torch))
    return partial(function, **theirs.torch_options)


def _torch(row: Activation) -> tuple[tuple[int, ...], Callable[[Array], Sequence[Array]]]:
    function = torch_function(row)
    import torch

    def run(points: Array) -> Sequence[Array]:
        tensor = torch.from_numpy(points.copy()).requires_grad_(True)
        result = function(tensor)
        (slope,) = torch.autograd.grad(result, tensor, torch.ones_like(result))
        return [result.detach().numpy(), slope.numpy()]

    return (0, 1), run


def jax_function(row: Activation) -> Callable[[Any], Any]:
    """JAX's function of an array; raises :class:`InputError` where JAX is not installed."""
    try:
        import jax
        import jax.scipy.special
    except ImportError:
        raise InputError("JAX is not installed") from None
    theirs = THEIRS[row.name]
    for module in (jax.nn, jax.numpy, jax.scipy.special):
        if hasattr(module, str(theirs.jax)):
            return partial(getattr(module, str(theirs.jax)), **theirs.jax_options)
    raise InputError(f"this version of JAX has no {theirs.jax}")


def _jax(row: Activation) -> tuple[tuple[int, ...], Callable[[Array], Sequence[Array]]]:
    function = jax_function(row)
    import jax

    both = jax.jit(lambda array: jax.jvp(function, (array,), (jax.numpy.ones_like(array),)))

    def run(points: Array) -> Sequence[Array]:
        value, slope = both(points.copy())
        return [np.array(value), np.array(slope)]

    return (0, 1), run
