"""precision="fast": a float32 kernel whose steps are float32 too, used only where it is measured to stay accurate.

The program is the one for float64 made for shorter floats (compensated arguments, tails scaled by powers of two, local
polynomials), with the elementary functions of :mod:`.elementary_single`: sixteen entries at a time with AVX-512. When
it is first asked for it is compiled and held, at every :data:`STRIDE`-th of the 2³² float32 numbers, against the
default kernel, which is within 0.51 ULP; beyond :data:`MOST` ULP, or where one is NaN and the other is not, the default
kernel is used in its place, and says so. The verdict is kept beside the source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from ..theory.activations import Activation
from ..theory.arithmetic import SINGLE
from ..theory.lowering import Program
from .compiled import Array, file_name, load, one_line, write_once
from .files import cache_directory

#: ULP that a fast kernel may be off.
MOST = 4.0
#: The comparison takes every so many-th float32 (4.2 million of them), of both signs, infinities and NaN included.
STRIDE = 1021
#: The default kernel's own error.
REFERENCE = 0.51


def every_float(stride: int) -> Array:
    """Each stride-th of the 2³² bit patterns as a float32, from 0."""
    return np.arange(0, 2**32, stride, dtype=np.uint32).view(np.float32)


def ordered_bits(values: Array) -> Array:
    """float32 → integers in the same order, neighbours differing by 1; both zeros are 0."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def distance(computed: Array, reference: Array) -> Array:
    """How many floats apart, entry by entry; 2³² where one alone is NaN. Infinity follows the largest float."""
    apart = np.abs(ordered_bits(computed) - ordered_bits(reference))
    both = np.isnan(computed) & np.isnan(reference)
    either = np.isnan(computed) | np.isnan(reference)
    return np.where(both, 0, np.where(either, 2**32, apart))


def chosen(row: Activation, orders: tuple[int, ...]) -> tuple[Path, str]:
    """(the file that computes these derivatives, what it computes in and why)."""
    from .kernels import kernel

    candidate = _candidate(row, orders)
    verdict = candidate.with_suffix(".json")
    default = kernel(row, dtype="float32")
    if not verdict.exists():
        from .targets.numba_cpu import becomes_vectors

        measured = _measured(candidate, default.path_of(orders), len(orders))
        vectors = becomes_vectors(fast_program(row, orders), SINGLE)
        write_once(verdict, json.dumps(measured | {"vectors": vectors}))
    found = json.loads(verdict.read_text(encoding="utf-8"))
    worst, where = found["ulp"], found["input"]
    if not found["vectors"]:
        return default.path_of(orders), "float64: in float32 it would call the C library for every entry"
    if worst <= MOST:
        return candidate, f"float32: at most {worst:.2f} ULP at every {STRIDE}st float32"
    return default.path_of(orders), f"float64: computed in float32 it is off by {worst:.3g} ULP at x = {where!r}"


def _candidate(row: Activation, orders: tuple[int, ...]) -> Path:
    title = f"{row.name}_{'_'.join(f'd{n}' for n in orders)}_fast"
    determining = [sympy.srepr(row.derivative(n)) for n in orders]
    path = cache_directory() / file_name(title, "float32", "fast", *map(str, orders), *determining)
    if not path.exists():
        write_once(path, fast_source(row, orders))
    return path


def fast_source(row: Activation, orders: tuple[int, ...], printer: Callable[..., str] | None = None) -> str:
    """The source with float32 steps, accurate or not, by the ``printer`` of a target (the CPU's)."""
    from .targets.numba_cpu import print_source

    printer = printer or print_source
    what = ", ".join(("f", "f′", "f″")[n] if n < 3 else f"f^({n})" for n in orders)
    title = f"{what} of {one_line(row.name)} in float32: {one_line(str(row.expr))}"
    return printer(fast_program(row, orders), dtype="float32", title=title, arithmetic=SINGLE)


def fast_program(row: Activation, orders: tuple[int, ...]) -> Program:
    """The stable program of these derivatives for float32 steps."""
    from .acceptance import accepted

    return accepted(row, orders, "float32", SINGLE).program


def _measured(candidate: Path, default: Path, outputs: int) -> dict[str, Any]:
    """The largest error over the sample, and where."""
    points = every_float(STRIDE)
    pairs = []
    for path in (candidate, default):
        results = [np.empty_like(points) for _ in range(outputs)]
        load(path)(points, *results)
        pairs.append(results)
    worst, where = 0.0, 0.0
    for computed, reference in zip(*pairs, strict=True):
        apart = distance(computed, reference)
        place = int(apart.argmax())
        if float(apart[place]) + REFERENCE > worst:
            worst, where = float(apart[place]) + REFERENCE, float(points[place])
    return {"ulp": worst, "input": where}
