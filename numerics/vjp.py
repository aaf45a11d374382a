"""dy·f′(x) in one pass: the backward pass of an activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy

from ..theory.activations import Activation
from ..theory.arithmetic import SINGLE
from ..theory.lowering import Node, Program
from .compiled import file_name, load, one_line, write_once
from .fast import chosen, fast_program
from .files import cache_directory
from .kernels import activation_program


def vjp_program(row: Activation, dtype: str) -> Program:
    """The stable program of f′ with one more input and one more step: the product is rounded once, with the result."""
    return _times_upstream(activation_program(row, (1,), dtype, tables=True))


def _times_upstream(program: Program) -> Program:
    (derivative,) = program.outputs.values()
    upstream = len(program.nodes)
    nodes = (*program.nodes, Node("input", (), "dy"), Node("mul", (upstream, derivative)))
    return Program((*program.inputs, "dy"), nodes, {"gradient": upstream + 1})


@lru_cache(maxsize=256)
def vjp_run(row: Activation, dtype: str, precision: str = "default") -> Callable[..., Any]:
    """The compiled ``run(x, dy, gradient)``; with ``precision`` "fast" in float32 where f′ alone would be."""
    from .targets.numba_cpu import print_source

    fast = precision == "fast" and _is_fast(row)
    kind = "vjp_fast" if fast else "vjp"
    name = file_name(f"{row.name}_{kind}_{dtype}", dtype, kind, sympy.srepr(row.derivative(1)))
    path = cache_directory() / name
    if not path.exists():
        title = f"dy f′ of {one_line(row.name)}: {one_line(str(row.expr))}"
        program = _times_upstream(fast_program(row, (1,))) if fast else vjp_program(row, dtype)
        write_once(path, print_source(program, dtype=dtype, title=title, arithmetic=SINGLE if fast else None))
    return load(path)


def _is_fast(row: Activation) -> bool:
    """Whether the fast kernel of f′ is computed in float32 (one more rounding, of the product, adds half an ULP)."""
    return chosen(row, (1,))[1].startswith("float32")
