"""dy·f′(x) in one pass: the backward pass of an activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy

from ..theory.activations import Activation
from ..theory.lowering import Node, Program
from .compiled import file_name, load, one_line, write_once
from .files import cache_directory
from .kernels import activation_program


def vjp_program(row: Activation, dtype: str) -> Program:
    """The stable program of f′ with one more input and one more step: the product is rounded once, with the result."""
    program = activation_program(row, (1,), dtype)
    (derivative,) = program.outputs.values()
    upstream = len(program.nodes)
    nodes = (*program.nodes, Node("input", (), "dy"), Node("mul", (upstream, derivative)))
    return Program((*program.inputs, "dy"), nodes, {"gradient": upstream + 1})


@lru_cache(maxsize=256)
def vjp_run(row: Activation, dtype: str) -> Callable[..., Any]:
    """The compiled ``run(x, dy, gradient)``."""
    from .targets.numba_cpu import print_source

    name = file_name(f"{row.name}_vjp_{dtype}", dtype, "vjp", sympy.srepr(row.derivative(1)))
    path = cache_directory() / name
    if not path.exists():
        title = f"dy f′ of {one_line(row.name)}: {one_line(str(row.expr))}"
        write_once(path, print_source(vjp_program(row, dtype), dtype=dtype, title=title))
    return load(path)
