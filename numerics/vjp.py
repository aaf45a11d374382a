"""dy·f′(x) in one pass: the backward pass of an activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy

from ..theory.activations import Activation
from ..theory.arithmetic import SINGLE
from ..theory.lowering import Program
from ..theory.scaled_products import multiplied
from .compiled import file_name, load, one_line, write_once
from .fast import chosen, fast_program
from .files import cache_directory
from .kernels import activation_program

#: The output of the program of f′, and what multiplies it.
UPSTREAM = {"derivative": ("dy",)}


def vjp_program(row: Activation, dtype: str) -> Program:
    """The stable program of f′ with one more input: rounded once, after dy is multiplied in."""
    return activation_program(row, (1,), dtype, "cpu", factors=UPSTREAM)


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
        program = multiplied(fast_program(row, (1,)), UPSTREAM) if fast else vjp_program(row, dtype)
        write_once(path, print_source(program, dtype=dtype, title=title, arithmetic=SINGLE if fast else None))
    return load(path)


def _is_fast(row: Activation) -> bool:
    """Whether the fast kernel of f′ is computed in float32 (one more rounding, of the product, adds half an ULP)."""
    return chosen(row, (1,))[1].startswith("float32")
