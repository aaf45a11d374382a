"""Matrix products by cuBLAS that can be captured in a CUDA graph.

CuPy refuses cuBLAS calls while a stream is captured (its own ``@`` raises NotImplementedError), so the library that
CuPy has loaded is called directly, with a workspace of our own, as NVIDIA asks for capture.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from ..theory.errors import InputError, Unsupported

#: Bytes of workspace: what NVIDIA recommends for its largest GPUs.
WORKSPACE = 32 << 20
_NO, _TRANSPOSED = 0, 1


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """The cuBLAS that CuPy uses."""
    import cupy

    cupy.cuda.device.get_cublas_handle()  # CuPy loads it, from wherever it is installed
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    problems = []
    for name in (f"libcublas.so.{major}", f"cublas64_{major}.dll", "libcublas.so"):
        try:
            return ctypes.CDLL(name)
        except OSError as problem:
            problems.append(str(problem))
    raise Unsupported(f"cuBLAS was not found: {problems[0]}")


class Products:
    """``products(a, b, out=None)`` is a @ b for matrices of CuPy, on CuPy's current stream.

    Each operand is contiguous or the transpose of a contiguous matrix; the result is contiguous.
    """

    def __init__(self) -> None:
        import cupy

        self._handle = ctypes.c_void_p()
        _check(_library().cublasCreate_v2(ctypes.byref(self._handle)), "cublasCreate")
        self._workspace = cupy.cuda.alloc(WORKSPACE)
        self._stream: int | None = None

    def __call__(self, a: Any, b: Any, out: Any = None) -> Any:
        """a @ b; raises :class:`InputError` for shapes that do not fit."""
        import cupy

        (m, k), (rows, n) = a.shape, b.shape
        if rows != k or a.dtype != b.dtype:
            raise InputError(f"matrices {a.shape} {a.dtype} and {b.shape} {b.dtype} cannot be multiplied")
        result = cupy.empty((m, n), a.dtype) if out is None else out
        if not result.size:
            return result
        (first, of_b, ld_b), (second, of_a, ld_a) = _operand(b), _operand(a)
        self._use(cupy.cuda.get_current_stream().ptr)
        real = ctypes.c_float if a.dtype == cupy.float32 else ctypes.c_double
        function = _library().cublasSgemm_v2 if a.dtype == cupy.float32 else _library().cublasDgemm_v2
        one, zero = real(1), real(0)
        # cuBLAS counts by columns: it computes the transpose, bᵀ aᵀ.
        status = function(
            self._handle, of_b, of_a, n, m, k, ctypes.byref(one), ctypes.c_void_p(first.data.ptr), ld_b,
            ctypes.c_void_p(second.data.ptr), ld_a, ctypes.byref(zero), ctypes.c_void_p(result.data.ptr), n,
        )  # fmt: skip
        _check(status, "cublas gemm")
        return result

    def _use(self, stream: int) -> None:
        if stream != self._stream:  # changing the stream forgets the workspace
            _check(_library().cublasSetStream_v2(self._handle, ctypes.c_void_p(stream)), "cublasSetStream")
            pointer = ctypes.c_void_p(self._workspace.ptr)
            _check(
                _library().cublasSetWorkspace_v2(self._handle, pointer, ctypes.c_size_t(WORKSPACE)),
                "cublasSetWorkspace",
            )
            self._stream = stream


def _operand(matrix: Any) -> tuple[Any, int, int]:
    """(memory, how cuBLAS is to read it, its leading dimension), by columns."""
    if matrix.flags.c_contiguous:
        return matrix, _NO, matrix.shape[1]
    if matrix.flags.f_contiguous:
        return matrix, _TRANSPOSED, matrix.shape[0]
    copy = matrix.copy(order="C")
    return copy, _NO, copy.shape[1]


def _check(status: int, what: str) -> None:
    if status:
        raise Unsupported(f"{what} failed with status {status}")
