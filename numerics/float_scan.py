"""The compiled pass over bit patterns of float32: fill a block, compare results with a float64 reference, collect.

Everything here works on one block of patterns in buffers that are used again for every block; the loops release the
GIL, so that each thread scans its own patterns. The first comparison of a block finds its largest error and little
else, in vector instructions; only where that could matter is the block gone through again.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: What is counted in every block, and in those whose largest error is near ½ or above it.
COUNTED, COUNTED_ABOVE = (
    ("checked", "undefined", "nan_lost"),
    ("over_half", "over_one", "failures", "near_half", "flushed"),
)


class Passes(NamedTuple):
    """The compiled loops."""

    fill: Any
    compare: Any
    count: Any
    collect: Any


@lru_cache(maxsize=1)
def passes() -> Passes:
    """Compile the loops (a second or two, once a process)."""
    import numba

    from .elementary import bits_of, from_bits

    options = {"nogil": True, "error_model": "numpy"}

    @numba.njit("void(uint64, uint64, uint32[::1], float32[::1], float64[::1])", **options)  # type: ignore[untyped-decorator]
    def fill(first: int, stride: int, patterns: Array, points: Array, wide: Array) -> None:
        """``patterns`` is the memory of ``points``."""
        for i in range(patterns.size):
            patterns[i] = numba.uint32(first + numba.uint64(i) * stride)
        for i in range(patterns.size):
            wide[i] = numba.float64(points[i])

    @numba.njit(inline="always")  # type: ignore[untyped-decorator]
    def error_of(got: float, exact: float) -> float:
        """|got − exact| in ULP of float32 at ``exact``; ∞ where one of them is no number and the other is one."""
        beyond = 3.4028235677973366e38  # the largest float32 and half an ulp: from here on ∞ is right
        exponent = ((bits_of(exact) >> 52) & 2047) - 1023 - 23
        exponent = -149 if exponent < -149 else exponent
        error = abs(got - exact) * from_bits((1023 - exponent) << 52)
        overflow = abs(exact) >= beyond
        right = (got == exact) or (overflow and abs(got) == np.inf and (got > 0) == (exact > 0))
        error = 0.0 if right else error
        error = np.inf if overflow and not right else error
        neither = exact != exact and got != got
        return 0.0 if neither else (error if error == error else np.inf)

    @numba.njit("int64(uint32[::1], float32[::1], float64[::1], int64[::1])", **options)  # type: ignore[untyped-decorator]
    def compare(patterns: Array, computed: Array, reference: Array, counts: Array) -> int:
        """Fills ``counts`` (see COUNTED) and returns the bits of the largest error: they are in the errors' order."""
        worst = checked = undefined = lost = numba.int64(0)
        for i in range(patterns.size):
            magnitude = patterns[i] & numba.uint32(0x7FFFFFFF)
            finite = magnitude < numba.uint32(0x7F800000)
            got, exact = numba.float64(computed[i]), reference[i]
            bits = bits_of(error_of(got, exact)) if finite else numba.int64(0)
            worst = bits if bits > worst else worst
            checked += numba.int64(finite)
            undefined += numba.int64(finite and exact != exact and got != got)
            lost += numba.int64(magnitude > numba.uint32(0x7F800000) and got == got)
        counts[0], counts[1], counts[2] = checked, undefined, lost
        return worst

    @numba.njit("void(uint32[::1], float32[::1], float64[::1], float64, int64[::1])", **options)  # type: ignore[untyped-decorator]
    def count(patterns: Array, computed: Array, reference: Array, margin: float, counts: Array) -> None:
        """Fills ``counts`` (see COUNTED_ABOVE)."""
        counts[:] = 0
        for i in range(patterns.size):
            if (patterns[i] & numba.uint32(0x7FFFFFFF)) < numba.uint32(0x7F800000):
                got, exact = numba.float64(computed[i]), reference[i]
                error = error_of(got, exact)
                near = abs(error - 0.5) <= margin
                counts[0] += error > 0.5 and not near
                counts[1] += error > 1.0
                counts[2] += error == np.inf
                counts[3] += near
                counts[4] += got == 0.0 and abs(exact) > 7.006492321624086e-46  # half the least subnormal

    @numba.njit("int64(uint32[::1], float32[::1], float64[::1], float64, float64, int64[::1], float64[::1])", **options)  # type: ignore[untyped-decorator]
    def collect(
        patterns: Array, computed: Array, reference: Array, margin: float, above: float, places: Array, errors: Array
    ) -> int:
        """The places whose error is above ``above`` or within the margin of ½, and these errors; returns how many."""
        found = 0
        for i in range(patterns.size):
            if (patterns[i] & numba.uint32(0x7FFFFFFF)) < numba.uint32(0x7F800000):
                error = error_of(numba.float64(computed[i]), reference[i])
                if error > above or abs(error - 0.5) <= margin:
                    places[found], errors[found] = i, error
                    found += 1
        return found

    return Passes(fill, compare, count, collect)


# ------------------------------------------------------------------------------------------------------------ underflow

#: Bits of the control register of x86 processors: results, and operands, below the normal range are 0.
_FLUSH = 0x8040


@contextmanager
def flushed_underflow() -> Iterator[None]:
    """Float64 results below 2⁻¹⁰²² are 0 inside, in this thread, on x86 processors (elsewhere nothing changes).

    Such results cost a hundred cycles each and half of all float32 inputs have them. Held against float32 results,
    whose least is 2⁻¹⁴⁹, they and 0 are the same.
    """
    read, write = _control_register()
    before = read()
    write(before | _FLUSH)
    try:
        yield
    finally:
        write(before)


@lru_cache(maxsize=1)
def _control_register() -> tuple[Any, Any]:
    """Functions that read and write the register that holds the rounding modes of this thread."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return (lambda: 0), (lambda bits: None)
    import numba
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()

    def call(builder: Any, name: str, place: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [pointer])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [builder.bitcast(place, pointer)])

    @intrinsic
    def stored(typingctx: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = builder.alloca(word)
            call(builder, "llvm.x86.sse.stmxcsr", place)
            return builder.load(place)

        return types.uint32(), code

    @intrinsic
    def loaded(typingctx: Any, bits: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = builder.alloca(word)
            builder.store(values[0], place)
            call(builder, "llvm.x86.sse.ldmxcsr", place)
            return context.get_dummy_value()

        return types.none(types.uint32), code

    @numba.njit("uint32()")  # type: ignore[untyped-decorator]
    def read() -> int:
        return stored()  # type: ignore[no-any-return]

    @numba.njit("void(uint32)")  # type: ignore[untyped-decorator]
    def write(bits: int) -> None:
        loaded(bits)

    return read, write
