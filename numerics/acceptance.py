"""Which form of an activation a kernel computes: the stable one, unless measurement says that it is less accurate.

Both forms are printed for NumPy and measured in ULP against balls at a small adversarial sample. The stable form is
already proved equal to the formula (:func:`backproof.theory.proof.prove`); here it must also be no worse in floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..theory.activations import Activation
from ..theory.arithmetic import ARITHMETICS, Arithmetic
from ..theory.lowering import Program, lower
from ..theory.stability import Stable, stable_program
from ..theory.symbols import x
from .compiled import Array

#: A stable form may be this much worse, in ULP, without being refused: one rounding is not worth a NaN elsewhere.
SLACK = 1.0
#: Points of the comparison, besides the special ones of the formula.
SAMPLE = (
    0.0, 1e-300, 1e-30, 1e-9, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 1.0, 1.3, 1.7, 2.2, 3.1, 4.5, 6.3, 9.1, 13.0, 18.7, 27.1,
    38.3, 60.0, 87.0, 104.0, 240.0, 700.0, 740.0, 1e3, 1e8, 1e18, 1e37,
)  # fmt: skip


def output_names(orders: Sequence[int]) -> dict[int, str]:
    """order -> the name of its output in programs and generated source."""
    return {n: ("value", "derivative")[n] if n < 2 else f"derivative_{n}" for n in orders}


def accepted(row: Activation, orders: Sequence[int], dtype: str, arithmetic: Arithmetic | None = None) -> Stable:
    """The program for these derivatives of ``row``: each output in its stable form unless as written it is better.

    ``arithmetic`` is what the target computes in, by default what every target can.
    """
    expressions = {name: row.derivative(n) for n, name in output_names(orders).items()}
    kept = frozenset(name for n, name in output_names(orders).items() if not _stable_is_better(row, n, dtype))
    return stable_program(expressions, arithmetic or ARITHMETICS[dtype], as_written=kept)


@lru_cache(maxsize=512)
def _stable_is_better(row: Activation, order: int, dtype: str) -> bool:
    stable, written = errors_of_forms(row, order, dtype)
    return stable <= written + SLACK


def errors_of_forms(row: Activation, order: int, dtype: str, points: Array | None = None) -> tuple[float, float]:
    """(worst error of the stable form, of the formula as written) in ULP, both run by NumPy, over a sample."""
    from .accuracy import FORMATS, exact_function, ulp_error

    sample = np.array([s * p for p in SAMPLE for s in (1, -1)], dtype=dtype) if points is None else points
    exact = exact_function(row, order)
    programs = (
        stable_program({"value": row.derivative(order)}, ARITHMETICS[dtype]).program,
        as_written_program(row, order),
    )
    worst = []
    for program in programs:
        computed = run_with_numpy(program, dtype)(sample)
        errors = [
            ulp_error(v, exact(p), FORMATS[dtype])[0] for p, v in zip(sample.tolist(), computed.tolist(), strict=True)
        ]
        worst.append(max((e for e in errors if not math.isnan(e)), default=math.inf))
    return worst[0], worst[1]


def as_written_program(row: Activation, order: int) -> Program:
    """The derivative lowered as SymPy writes it, with nothing made stable."""
    return lower({"value": row.derivative(order)}, (x,))


def run_with_numpy(program: Program, dtype: str) -> Callable[[Array], Array]:
    """A NumPy function of one array for a program with one output; it never warns."""
    from .targets.numpy import print_source

    namespace: dict[str, Any] = {}
    exec(compile(print_source(program, dtype=dtype), "<generated>", "exec"), namespace)  # our own generated source

    def run(points: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(namespace["run"](points))

    return run
