"""Launching what numba-cuda has compiled through the driver: a few microseconds a call.

Numba's own way of launching (its first call compiles, so it is always taken once) wraps each array and each launch anew
and takes hundreds of microseconds: more than the kernel itself on arrays of ten million entries.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

from .cuda_arrays import View

#: dispatcher -> the driver's handle of the one kernel that was compiled of it
_HANDLES: dict[Any, int] = {}


def launch_compiled(dispatcher: Any, arguments: Sequence[Any], blocks: int, threads: int, stream: int) -> bool:
    """Put ``dispatcher`` on a stream with one-dimensional contiguous views and numbers; False where Numba must do it.

    That is before the first launch, for arguments of other kinds, and where no context is current in this thread.
    """
    handle = _handle(dispatcher)
    if handle is None or not all(isinstance(a, (View, int, float)) for a in arguments):
        return False
    from cuda.bindings import driver

    _, context = driver.cuCtxGetCurrent()
    if not int(context):
        return False
    values = _packed(arguments)
    count = len(values) // 8
    memory = ctypes.create_string_buffer(values, len(values))
    first = ctypes.addressof(memory)
    places = (ctypes.c_void_p * count)(*range(first, first + 8 * count, 8))
    (status,) = driver.cuLaunchKernel(
        handle, blocks, 1, 1, threads, 1, 1, 0, stream, ctypes.addressof(places), 0
    )  # fmt: skip
    if int(status):
        raise RuntimeError(f"the CUDA driver did not launch the kernel: {status.name}")
    return True


def _handle(dispatcher: Any) -> int | None:
    """The driver's handle; None until the dispatcher holds exactly one compiled kernel whose handle can be had."""
    if dispatcher not in _HANDLES:
        compiled = list(getattr(dispatcher, "overloads", {}).values())
        if len(compiled) != 1:
            return None
        try:
            _HANDLES[dispatcher] = int(compiled[0]._codelibrary.get_cufunc().kernel.handle)
        except AttributeError:  # another release of numba-cuda: its own launch works everywhere
            return None
    return _HANDLES[dispatcher]


def _packed(arguments: Sequence[Any]) -> bytes:
    """The arguments as Numba's kernels take them, eight bytes each: an array is two references that are not used on the
    GPU, entries, bytes of an entry, address, shape, stride."""
    parts = []
    for a in arguments:
        if isinstance(a, View):
            parts.append(struct.pack("=QQqqQqq", 0, 0, a.size, a.itemsize, a.address, a.size, a.itemsize))
        else:
            parts.append(struct.pack("=q" if isinstance(a, int) else "=d", a))
    return b"".join(parts)
