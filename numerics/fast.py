"""precision="fast": a float32 kernel whose steps are float32 too, used only where it is measured to stay accurate.

The program is the one for float64 made for shorter floats (compensated arguments, tails scaled by powers of two, local
polynomials), with the elementary functions of :mod:`.elementary_single`: sixteen entries at a time with AVX-512. When
it is first asked for it is compiled and held against the default kernel, which is within 0.51 ULP, at every
:data:`STRIDE`-th of the 2³² float32 numbers and at all those beside the worst of them, roots, borders, over- and
underflow. Beyond :data:`MOST` ULP, or where one is NaN and the other is not, the default kernel is used in its place,
and says so. The verdict is kept beside the source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from ..theory.activations import Activation
from ..theory.arithmetic import SINGLE
from ..theory.lowering import Program
from ..theory.pieces import pieces
from .compiled import Array, file_name, load, one_line, write_once
from .files import cache_directory

#: ULP that a fast kernel may be off.
MOST = 4.0
#: The comparison takes every so many-th float32 (4.2 million of them), of both signs, infinities and NaN included;
STRIDE = 1021
#: then every float of so many parts of so many points each: those where its errors are largest.
WORST_PARTS, PART = 64, 64
#: Entries whose errors are computed at a time.
BLOCK = 32_768
#: The largest float32 and half an ulp: beyond it ∞ is right.
LARGEST = 2.0**128 * (1 - 2.0**-25)


def every_float(stride: int) -> Array:
    """Each stride-th of the 2³² bit patterns as a float32, from 0."""
    return np.arange(0, 2**32, stride, dtype=np.uint32).view(np.float32)


def ordered_bits(values: Array) -> Array:
    """float32 → integers in the same order, neighbours differing by 1; both zeros are 0."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def distance(computed: Array, reference: Array) -> Array:
    """How many floats apart, entry by entry; 2³² where one alone is NaN. Infinity follows the largest float."""
    apart: Array = np.abs(ordered_bits(computed) - ordered_bits(reference))
    if np.isnan(computed).any() or np.isnan(reference).any():
        one, other = np.isnan(computed), np.isnan(reference)
        apart[one != other], apart[one & other] = 2**32, 0
    return apart


def chosen(row: Activation, orders: tuple[int, ...]) -> tuple[Path, str]:
    """(the file that computes these derivatives, what it computes in and why)."""
    from .kernels import kernel

    candidate = _candidate(row, orders)
    verdict = candidate.with_suffix(".json")
    default = kernel(row, dtype="float32")
    if not verdict.exists():
        from .targets.numba_cpu import becomes_vectors

        vectors = becomes_vectors(fast_program(row, orders), SINGLE)
        measured = _measured(row, orders, candidate) if vectors else {}
        write_once(verdict, json.dumps(measured | {"vectors": vectors}))
    found = json.loads(verdict.read_text(encoding="utf-8"))
    if not found["vectors"]:
        return default.path_of(orders), "float64: in float32 it would call the C library for every entry"
    worst, where = found["ulp"], found["input"]
    if worst <= MOST:
        return candidate, f"float32: at most {worst:.2f} ULP at every {STRIDE}st float32 and all those near the worst"
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


@lru_cache(maxsize=64)
def fast_program(row: Activation, orders: tuple[int, ...]) -> Program:
    """The stable program of these derivatives for float32 steps."""
    from .acceptance import accepted

    return accepted(row, orders, "float32", SINGLE).program


def _measured(row: Activation, orders: tuple[int, ...], candidate: Path) -> dict[str, Any]:
    """The largest error, and where: over the sample, then over every float of the parts of it where errors are large,
    results change their sign, over- or underflow, or the formula has a border. Ends at the first that is too large."""
    compare = _Comparison(row, orders, candidate)
    errors, parts = compare(every_float(STRIDE)), set(_at_borders(row))
    for of_output, results in zip(errors, compare.references, strict=True):
        by_part = np.pad(of_output, (0, -of_output.size % PART)).reshape(-1, PART).max(axis=1)
        parts.update(by_part.argsort()[-WORST_PARTS:].tolist())
        with np.errstate(invalid="ignore", over="ignore"):  # NaN, and what float32 has not
            kind = np.sign(results.astype(np.float32)) * np.where(np.abs(results) > LARGEST, 2, 1)
        parts.update((np.flatnonzero(np.diff(kind) != 0) // PART).tolist())
    length = PART * STRIDE
    for part in sorted(parts):
        if compare.worst > MOST:
            break
        bits = np.arange(part * length, min((part + 1) * length + 1, 2**32), dtype=np.uint32)
        compare(bits.view(np.float32))
    return {"ulp": compare.worst, "input": compare.where}


class _Comparison:
    """A fast kernel beside the default one's steps at the same points; keeps the largest error seen."""

    def __init__(self, row: Activation, orders: tuple[int, ...], candidate: Path) -> None:
        self.run, self.reference, self.count = load(candidate), load(_unrounded(row, orders)), len(orders)
        self.worst, self.where = 0.0, 0.0
        self.references: list[Array] = []

    def __call__(self, points: Array) -> list[Array]:
        """The errors in ULP, output by output."""
        fast = [np.empty_like(points) for _ in range(self.count)]
        self.references = [np.empty(points.shape) for _ in range(self.count)]
        self.run(points, *fast)
        self.reference(points, *self.references)
        found = [np.empty(points.shape) for _ in fast]
        for errors, *both in zip(found, fast, self.references, strict=True):
            for k in range(0, points.size, BLOCK):  # what is in between stays in the processor's cache
                errors[k : k + BLOCK] = ulp_errors(*(part[k : k + BLOCK] for part in both))
        for errors in found:
            k = int(errors.argmax())
            if errors[k] > self.worst:
                self.worst, self.where = float(errors[k]), float(points[k])
        return found


def ulp_errors(computed: Array, exact: Array) -> Array:
    """|computed − exact| in ULP of float32 at the exact values (float64); ∞ where one alone is a number."""
    exponent = np.maximum(exact.view(np.int64) >> 52 & 0x7FF, 1023 - 126)
    inverse_ulp = (2 * 1023 + 23 - exponent << 52).view(np.float64)
    with np.errstate(all="ignore"):
        errors: Array = np.abs(computed - exact) * inverse_ulp
        if np.isfinite(errors).all():  # numbers on both sides, nearly always
            return errors
        right = (computed == exact) | (np.isnan(computed) & np.isnan(exact))
        right |= np.isinf(computed) & (np.abs(exact) >= LARGEST) & (np.sign(computed) == np.sign(exact))
    errors[np.isnan(errors) | np.isinf(computed)] = np.inf
    errors[right] = 0.0
    return errors


def _unrounded(row: Activation, orders: tuple[int, ...]) -> Path:
    """The default kernel with its results as they are before they are rounded: right to some 2⁻³⁷."""
    from .acceptance import output_names
    from .kernels import activation_program
    from .targets.numba_cpu import print_source

    title = f"{row.name}_{'_'.join(f'd{n}' for n in orders)}_unrounded"
    determining = [sympy.srepr(row.derivative(n)) for n in orders]
    path = cache_directory() / file_name(title, "float32", "unrounded", *map(str, orders), *determining)
    if not path.exists():
        program = activation_program(row, orders, "float32", "cpu")
        text = print_source(program, dtype="float32", title=one_line(title), wide=tuple(output_names(orders).values()))
        write_once(path, text)
    return path


def _at_borders(row: Activation) -> list[int]:
    """The parts of the sample in which the formula has a border."""
    with np.errstate(over="ignore", under="ignore"):
        ends = [np.float32(float(end)) for piece in pieces(row.expr) for end in (piece.left, piece.right)]
    return [int(end.view(np.uint32)) // (PART * STRIDE) for end in ends if np.isfinite(end)]
