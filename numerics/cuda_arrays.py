"""Arrays on the GPU, whoever owns them: CuPy, PyTorch, Numba, and any other library with ``__cuda_array_interface__``.

A kernel wants an address, a shape, strides, a dtype, new arrays of the same kind, and the stream its owner works on.
One row of :data:`LIBRARIES` says how each library gives them; nothing is copied and nothing waits for the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..theory.errors import InputError


class View(NamedTuple):
    """Memory on the GPU: strides count bytes, None where the array is contiguous in C order."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str

    @property
    def size(self) -> int:
        """Entries."""
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an entry."""
        return _itemsize(self.dtype)

    @property
    def order(self) -> str | None:
        """ "C" or "F" where the memory is one block in that order, None where it is not."""
        if self.strides is None or self.size <= 1 or self._is_packed(self.shape[::-1], self.strides[::-1]):
            return "C"
        return "F" if self._is_packed(self.shape, self.strides) else None

    def _is_packed(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
        """Whether the strides, innermost first, leave no gap."""
        step = self.itemsize
        for count, stride in zip(shape, strides, strict=True):
            if count != 1 and stride != step:
                return False
            step *= count
        return True

    @property
    def end(self) -> int:
        """The address after the last byte that may be touched."""
        if self.strides is None:
            return self.address + self.size * self.itemsize
        strides = self.strides
        return self.address + sum((n - 1) * abs(s) for n, s in zip(self.shape, strides, strict=True)) + self.itemsize

    def overlaps(self, other: View) -> bool:
        """Whether the two may share memory."""
        return self.size > 0 < other.size and self.address < other.end and other.address < self.end


@lru_cache(maxsize=64)
def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


@lru_cache(maxsize=64)
def _dtype_name(typestr: str) -> str:
    """NumPy takes microseconds to name a dtype."""
    return np.dtype(typestr).name


@dataclass(frozen=True)
class Library:
    """How one library's arrays are looked at and made. ``compact`` gives a copy in one block."""

    name: str
    owns: Callable[[Any], bool]
    view: Callable[[Any], View]
    empty_like: Callable[[Any], Any]
    compact: Callable[[Any], Any]
    assign: Callable[[Any, Any], None]
    stream: Callable[[], int]


def interface_view(array: Any) -> View:
    """The memory of an array with ``__cuda_array_interface__``."""
    interface = array.__cuda_array_interface__
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    if strides is not None:
        strides = tuple(strides)
    return View(interface["data"][0], shape, strides, _dtype_name(interface["typestr"]))


def _torch_view(tensor: Any) -> View:
    dtype = str(tensor.dtype).removeprefix("torch.")
    size = tensor.element_size()
    return View(tensor.data_ptr(), tuple(tensor.shape), tuple(s * size for s in tensor.stride()), dtype)


def _of(module: str, kind: str) -> Callable[[Any], bool]:
    """Whether an object is of a class of a library, which is not imported to find out."""

    def owns(array: Any) -> bool:
        loaded = sys.modules.get(module)
        return loaded is not None and isinstance(array, getattr(loaded, kind))

    return owns


def _is_torch(array: Any) -> bool:
    return _of("torch", "Tensor")(array) and array.is_cuda


def _torch_empty_like(tensor: Any) -> Any:
    import torch

    return torch.empty_like(tensor.detach())


def _torch_stream() -> int:
    import torch

    return int(torch.cuda.current_stream().cuda_stream)


def _cupy_empty_like(array: Any) -> Any:
    import cupy

    return cupy.empty_like(array)


def _cupy_assign(target: Any, source: Any) -> None:
    target[...] = source


def _cupy_stream() -> int:
    import cupy

    return int(cupy.cuda.get_current_stream().ptr)


def _numba_empty_like(array: Any) -> Any:
    from numba import cuda

    view = interface_view(array)
    return cuda.device_array(view.shape, view.dtype, order=view.order or "C")


def _numba_compact(array: Any) -> Any:
    """A contiguous copy by way of the host: Numba has no strided copy on the GPU."""
    from numba import cuda

    return cuda.to_device(np.ascontiguousarray(cuda.as_cuda_array(array, sync=False).copy_to_host()))


def _numba_assign(target: Any, source: Any) -> None:
    raise InputError("out must be one block of memory apart from x: a strided or shifted Numba array cannot be written")


LIBRARIES: tuple[Library, ...] = (
    Library("CuPy", _of("cupy", "ndarray"), interface_view, _cupy_empty_like, lambda a: a.copy(order="C"),
            _cupy_assign, _cupy_stream),
    Library("PyTorch", _is_torch, _torch_view, _torch_empty_like, lambda t: t.detach().contiguous().clone(),
            lambda target, source: target.detach().copy_(source), _torch_stream),
    Library("Numba", lambda a: hasattr(a, "__cuda_array_interface__"), interface_view, _numba_empty_like,
            _numba_compact, _numba_assign, lambda: 0),
)  # fmt: skip


def library_of(array: Any) -> Library | None:
    """The library that owns ``array``; None for anything that does not lie on the GPU."""
    return next((library for library in LIBRARIES if library.owns(array)), None)
