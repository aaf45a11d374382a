"""Kernels that make float32 numbers of bit patterns and count errors in ULP, on the GPU (:mod:`.cuda_exhaustive`)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import cuda

from .device_functions import FUNCTIONS

bits_of, from_bits, single_from_bits = (FUNCTIONS[name] for name in ("bits_of", "from_bits", "single_from_bits"))


@cuda.jit  # type: ignore[untyped-decorator]
def fill(x: Any, wide: Any, first: int, stride: int) -> None:
    """x[i] is the float32 whose bits are first + i·stride, ``wide`` the same as float64."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        pattern = first + i * stride
        value = single_from_bits(numba.int32(pattern - 4294967296 if pattern >= 2147483648 else pattern))
        x[i] = value
        wide[i] = value


@cuda.jit(device=True)  # type: ignore[untyped-decorator]
def error_of(computed: Any, reference: Any) -> Any:
    """|computed − reference| in ULP of float32 at the reference; ∞ where one is no number, or wrongly infinite."""
    exact, got = numba.float64(reference), numba.float64(computed)
    if exact != exact or got != got:
        return numba.float64(0.0 if exact != exact and got != got else np.inf)
    if got == exact:
        return numba.float64(0.0)
    if abs(exact) >= 3.4028235677973366e38:  # the largest float32 and half an ulp: from here on ∞ is right
        return numba.float64(0.0 if abs(got) == np.inf and (got > 0.0) == (exact > 0.0) else np.inf)
    exponent = ((bits_of(exact) >> 52) & 2047) - 1023 - 23
    exponent = -149 if exponent < -149 else exponent
    return abs(got - exact) * from_bits((1023 - exponent) << 52)


@cuda.jit  # type: ignore[untyped-decorator]
def count(x: Any, computed: Any, exact: Any, margin: float, counts: Any, worst: Any, at: Any, got: Any) -> None:
    """Each of ``worst.size`` threads counts its share: over ½, over 1, no number, within ``margin`` of ½; its worst."""
    t = cuda.grid(1)
    if t >= worst.size:
        return
    over_half, over_one, failures, near = 0, 0, 0, 0
    largest, place = -1.0, t
    for i in range(t, x.size, worst.size):
        error = error_of(computed[i], exact[i])
        if abs(error - 0.5) <= margin:
            near += 1
        elif error > 0.5:
            over_half += 1
        if error > 1.0:
            over_one += 1
        if error == np.inf:
            failures += 1
        if error > largest:
            largest, place = error, i
    counts[0, t], counts[1, t], counts[2, t], counts[3, t] = over_half, over_one, failures, near
    worst[t], at[t], got[t] = largest, x[place], computed[place]
