"""The error of a float32 CUDA kernel at every one of the 2³² inputs, measured on the GPU in seconds.

Results are compared with the float64 kernel of the same function, here run on the GPU too. Its promised bound R (in ULP
of float64, so R·2⁻²⁹ ULP of float32) is the margin of every figure; comparisons within it of ½ ULP are counted as ties,
and the largest errors are decided in balls. NaN and infinities are inputs like any others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..theory.activations import Activation
from .accuracy import FORMATS, bound, exact_function, ulp_error
from .cuda_kernels import CudaKernel
from .kernels import kernel

#: All bit patterns of float32, and those of one step: 6 GiB of arrays.
ALL, BLOCK = 1 << 32, 1 << 28
#: Threads that count; each keeps its own counts and its largest error.
COUNTERS = 1 << 17
#: Largest errors that are decided in balls.
KEPT = 8
#: ULP of float64 assumed of the reference of a typed formula, for which no bound is promised.
UNPROMISED = 64.0


@dataclass
class GpuErrors:
    """What was found over every ``stride``-th float32. ``worst`` holds [error in ULP, input, result], largest first."""

    name: str
    order: int
    precision: str
    stride: int
    margin: float
    checked: int = 0
    #: more than ½ ULP by more than the margin; within the margin of ½; more than 1 ULP; NaN or ∞ where that is wrong
    over_half: int = 0
    ties: int = 0
    over_one: int = 0
    failures: int = 0
    worst: list[list[float]] = field(default_factory=list)

    @property
    def worst_ulp(self) -> float:
        """The largest error, decided in balls where the exact value could be enclosed."""
        return self.worst[0][0] if self.worst else 0.0


def exhaustive_on_gpu(
    row: Activation,
    order: int,
    *,
    precision: str = "default",
    stride: int = 1,
    block: int | None = None,
    run: Callable[[Any, Any], None] | None = None,
    advance: Callable[[int], None] = lambda patterns: None,
) -> GpuErrors:
    """Measure the derivative of ``row`` of this order at every ``stride``-th float32, on the GPU.

    ``run(x, out)`` is what is measured if it is not the float32 kernel of this ``precision``; it gets device arrays of
    Numba, aligned to 16 bytes. Raises :class:`Unsupported` where there is no GPU.
    """
    from numba import cuda

    from . import device_counting

    measured = run or _kernel_run(row, order, "float32", precision)
    reference = _kernel_run(row, order, "float64", "default")
    margin = (bound(row, "float64", order, "cuda") or UNPROMISED) * 2.0**-29
    found = GpuErrors(row.name, order, precision, stride, margin)
    size = min(block or BLOCK, -(-ALL // stride))
    narrow, computed = (cuda.device_array(size, np.float32) for _ in range(2))
    wide, exact = (cuda.device_array(size, np.float64) for _ in range(2))
    for first in range(0, ALL, size * stride):
        count = min(size, -(-(ALL - first) // stride))
        x, y, x64, y64 = (array[:count] for array in (narrow, computed, wide, exact))
        device_counting.fill[min(-(-count // 256), 1 << 16), 256](x, x64, first, stride)
        measured(x, y)
        reference(x64, y64)
        _add(found, x, y, y64, min(COUNTERS, count))
        advance(count * stride)
    _decide_worst(found, row)
    return found


def _kernel_run(row: Activation, order: int, dtype: str, precision: str) -> Callable[[Any, Any], None]:
    options: dict[str, Any] = {} if precision == "default" else {"precision": precision}
    compiled = kernel(row, dtype, "cuda", **options)
    assert isinstance(compiled, CudaKernel)
    return compiled.unchecked((order,))


def _add(found: GpuErrors, x: Any, computed: Any, exact: Any, counters: int) -> None:
    """Count one block."""
    from numba import cuda

    from . import device_counting

    counts = cuda.device_array((4, counters), np.int64)
    worst, at, got = (cuda.device_array(counters, np.float64) for _ in range(3))
    grid = -(-counters // 256)
    device_counting.count[grid, 256](x, computed, exact, found.margin, counts, worst, at, got)
    over_half, over_one, failures, ties = (int(n) for n in counts.copy_to_host().sum(axis=1))
    found.checked += x.size
    found.over_half += over_half
    found.over_one += over_one
    found.failures += failures
    found.ties += ties
    errors, points, values = (array.copy_to_host() for array in (worst, at, got))
    largest = [[float(errors[k]), float(points[k]), float(values[k])] for k in np.argsort(-errors)[:KEPT].tolist()]
    found.worst = sorted(found.worst + largest, key=lambda entry: -entry[0])[:KEPT]


def _decide_worst(found: GpuErrors, row: Activation) -> None:
    exact = exact_function(row, found.order)
    for entry in found.worst:
        if np.isfinite(entry[1]):
            decided, _ = ulp_error(entry[2], exact(entry[1]), FORMATS["float32"])
            entry[0] = entry[0] if np.isnan(decided) else decided
    found.worst.sort(key=lambda entry: -entry[0])
