"""Kernels of the two 16-bit formats, float16 and bfloat16: a table of all 65,536 results.

Each entry is the float64 kernel's result rounded once (to nearest, ties to even) to the format; a call looks its inputs
up. float16 is NumPy's own type. A bfloat16 array is one of the package ml_dtypes (JAX's and TensorFlow's), or an
array of uint16 that holds the bit patterns; the result is of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.activations import Activation
from ..theory.errors import InputError
from .compiled import _run_shared, check_out
from .kernels import HALF, Kernel, kernel

__all__ = ["HALF", "HalfKernel", "measure_half", "patterns_of", "values_of"]

Array = npt.NDArray[Any]
PATTERNS = 1 << 16


def values_of(patterns: Array, dtype: str) -> Array:
    """The numbers (float64) that these bit patterns are.

    >>> values_of(np.array([0x3F80], dtype=np.uint16), "bfloat16")
    array([1.])
    """
    with np.errstate(invalid="ignore"):  # signalling NaN become quiet
        if dtype == "float16":
            return patterns.view(np.float16).astype(np.float64)
        return (patterns.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def patterns_of(values: Array, dtype: str) -> Array:
    """The bit patterns of these numbers (float64), each rounded once to the format."""
    with np.errstate(all="ignore"):
        if dtype == "float16":
            return values.astype(np.float16).view(np.uint16)
        nearest = values.astype(np.float32)
        bits = nearest.view(np.uint32).astype(np.int64)
        # rounded to odd first: the last bit then tells that something was cut off, and the second rounding is right
        inexact = np.isfinite(nearest) & (nearest != values) & (bits & 1 == 0)
        away = (np.abs(values) > np.abs(nearest)) & inexact
        bits = bits + np.where(away, 1, np.where(inexact, -1, 0))
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


@lru_cache(maxsize=1)
def _look_up() -> Callable[[Array, Array, Array], None]:
    import numba

    @numba.njit("void(uint16[::1], uint16[::1], uint16[::1])", nogil=True)  # type: ignore[untyped-decorator]
    def look_up(table: Array, places: Array, out: Array) -> None:
        for i in range(out.size):
            out[i] = table[places[i]]

    return look_up  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class HalfKernel(Kernel):
    """A kernel on float16 or bfloat16 arrays, with the calls of :class:`.Kernel`."""

    _tables: dict[int, Array] = field(default_factory=dict, repr=False)

    def __call__(self, x: Any, out: Array | None = None) -> Any:
        """f(x)."""
        return self.derivative(x, 0, out)

    def derivative(self, x: Any, n: int = 1, out: Array | None = None) -> Any:
        """The n-th derivative at ``x``."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"order of a derivative must be 0, 1, 2, …, not {n!r}")
        array = self._as_input(x)
        patterns = np.ascontiguousarray(array).view(np.uint16).reshape(-1)
        found = np.empty(patterns.size, np.uint16)
        table, look_up = self.table(n), _look_up()
        _run_shared(lambda places, results: look_up(table, places, results), [patterns.copy()], [found])
        result = found.view(array.dtype).reshape(array.shape)
        if out is None:
            return result[()]
        np.copyto(check_out(out, array.shape, array.dtype.name, "out"), result)
        return out

    def jet(self, x: Any, n: int = 2) -> tuple[Any, ...]:
        """(f(x), f′(x), …, f⁽ⁿ⁾(x))."""
        return tuple(self.derivative(x, k) for k in range(n + 1))

    def vjp(self, x: Any, dy: Any, out: Array | None = None) -> Any:
        """dy·f′(x), f′ rounded before the product is."""
        if self.dtype == "bfloat16" and np.asarray(x).dtype == np.uint16:
            raise InputError("the product with dy needs numbers: ml_dtypes.bfloat16 arrays, not bit patterns")
        upstream, slope = self._as_input(dy), self.derivative(x, 1)
        if upstream.shape != np.shape(slope):
            raise InputError(f"dy has shape {upstream.shape}, x has {np.shape(slope)}: they must agree")
        return np.multiply(upstream, slope, out=out)

    def value_and_derivative(self, x: Any, out: tuple[Array | None, Array | None] | None = None) -> tuple[Any, Any]:
        """(f(x), f′(x))."""
        if out is not None and (not isinstance(out, tuple) or len(out) != 2):
            raise InputError("out of value_and_derivative must be a pair of arrays")
        array = self._as_input(x).copy()  # out may be x itself
        value, derivative = out or (None, None)
        return self.derivative(array, 0, value), self.derivative(array, 1, derivative)

    def table(self, order: int) -> Array:
        """The patterns of all results, in the order of the inputs' patterns."""
        if order not in self._tables:
            inputs = values_of(np.arange(PATTERNS, dtype=np.uint16), self.dtype)
            self._tables[order] = patterns_of(kernel(self.activation).derivative(inputs, order), self.dtype)
        return self._tables[order]

    def on_values(self, values: Array, order: int) -> Array:
        """The results, as float64, at float64 numbers of the format."""
        return values_of(self.table(order)[patterns_of(values, self.dtype)], self.dtype)

    def _as_input(self, x: Any) -> Array:
        array = np.asarray(x)
        if array.dtype.name == self.dtype or (self.dtype == "bfloat16" and array.dtype == np.uint16):
            return array
        if self.dtype == "float16" and not isinstance(x, (np.ndarray, np.generic)) and array.dtype.kind in "biuf":
            return array.astype(np.float16)
        kinds = "float16" if self.dtype == "float16" else "ml_dtypes.bfloat16, or its bit patterns as uint16"
        raise InputError(f"x is {array.dtype}, the kernel takes {kinds}")


def measure_half(row: Activation, dtype: str, order: int, advance: Callable[[int], None] = lambda steps: None) -> Any:
    """The error of a 16-bit kernel against balls at every one of its finite inputs, as an :class:`.Accuracy`."""
    from .accuracy import FORMATS, _summary, exact_function, ulp_error

    compiled = kernel(row, dtype)
    assert isinstance(compiled, HalfKernel)
    sample = values_of(np.arange(PATTERNS, dtype=np.uint16), dtype)
    sample = sample[np.isfinite(sample)]
    computed = compiled.on_values(sample, order)
    exact, errors, balls = exact_function(row, order), np.empty(sample.size), []
    for k, (point, value) in enumerate(zip(sample.tolist(), computed.tolist(), strict=True)):
        errors[k], ball = ulp_error(value, exact(point), FORMATS[dtype])
        balls.append(ball)
        advance(1)
    return _summary(compiled, order, sample, computed, errors, balls, lambda v: compiled.on_values(v, order))
