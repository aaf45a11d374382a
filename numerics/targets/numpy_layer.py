"""Printer of layers and losses for NumPy: matrix products, einsum and broadcasting, one statement a named quantity."""

from __future__ import annotations

from typing import Any

from ...theory.layer_row import Layer
from ...theory.symbols import x
from ...theory.tensors import Map
from ...theory.walking import postorder
from .numpy import print_source
from .tensor_parts import named_functions, result_name, stable_function, usage


def print_layer(row: Layer) -> str:
    """A module with ``forward(inputs…)`` and ``backward(dy, inputs…)``.

    Raises :class:`Unsupported` for a layer with a function that has no formula.
    """
    named_functions(row)
    names = ", ".join(a.name for a in row.inputs)
    gradients = ", ".join(d.name for d in row.gradients().values())
    text = f"{row.title or row.name}: forward pass, and the backward pass derived from it\n\n{usage(row)}\n"
    text += f"forward({names}) returns {result_name(row)}; "
    text += f"backward({row.cotangent.name}, {names}) returns {gradients}.\n"
    source = _stable_activation(row) if row.function else row.numpy_source()
    return f'"""{text}"""\n\n{source.strip()}\n'


def _stable_activation(row: Layer) -> str:
    """The layer y = f(x) by the stable programs of f and f′."""
    f: Any = next(type(node.function) for node in postorder(row.forward) if isinstance(node, Map))
    slope: Any = type(f(x).diff(x))
    blocks = []
    for name, function in (("forward", f), ("_slope", slope)):
        printed = print_source(stable_function(function), dtype="float64", name=name)
        head, _, body = printed.partition("\n\n\n")
        blocks.append((head.split("\n", 2)[2], body))
    imports = sorted({line for head, _ in blocks for line in head.splitlines() if line}, key=lambda t: "scipy" in t)
    back = "def backward(dy, x):\n    return dy * _slope(x)"
    return "\n\n\n".join(["\n".join(imports), *(body.strip() for _, body in blocks), back])
