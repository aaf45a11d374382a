"""Kernels on an NVIDIA GPU: the same programs as on the CPU, printed for numba-cuda.

The first call compiles; Numba keeps the machine code beside the source. A call puts work on the current stream of the
library that owns the arrays and returns at once. NumPy arrays are copied to the GPU and back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba.core.errors import NumbaPerformanceWarning

from ..theory.errors import InputError, Unsupported
from .compiled import Array, as_input, check_out, file_name, load, write_once
from .cuda_arrays import Library, View, interface_view, library_of
from .cuda_launch import launch_compiled
from .files import cache_directory
from .kernels import HALF, Kernel, kernel

#: Threads of a block, and the most blocks for each of the GPU's processors: beyond, a thread does several packs.
THREADS, BLOCKS_PER_PROCESSOR = 256, 32
#: Bytes of one access.
ACCESS = 16


@dataclass(frozen=True, eq=False)
class CudaKernel(Kernel):
    """A :class:`Kernel` on the GPU: takes CuPy, PyTorch and Numba arrays, and NumPy's by copying them.

    Results are arrays of the library that owns ``x`` (for PyTorch without gradient). Raises :class:`Unsupported` where
    there is no GPU.
    """

    def __call__(self, x: Any, out: Any = None) -> Any:
        """f(x)."""
        return self._compute((0,), x, (out,))[0]

    def derivative(self, x: Any, n: int = 1, out: Any = None) -> Any:
        """The n-th derivative at ``x``."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"order of a derivative must be 0, 1, 2, …, not {n!r}")
        return self._compute((n,), x, (out,))[0]

    def value_and_derivative(self, x: Any, out: Any = None) -> tuple[Any, Any]:
        """(f(x), f′(x)) in one pass."""
        if out is not None and (not isinstance(out, tuple) or len(out) != 2):
            raise InputError("out of value_and_derivative must be a pair of arrays")
        value, derivative = self._compute((0, 1), x, out or (None, None))
        return value, derivative

    def _compute(self, orders: tuple[int, ...], x: Any, outs: Sequence[Any]) -> list[Any]:
        library = library_of(x)
        if library is None:
            return self._by_copying(orders, x, outs)
        return launch(self._module(orders), library, [x], outs, self.dtype)

    def _by_copying(self, orders: tuple[int, ...], x: Any, outs: Sequence[Any]) -> list[Any]:
        """A NumPy array, or what becomes one, by way of the GPU."""
        if any(out is not None and library_of(out) is not None for out in outs):
            raise InputError("x lies in the computer's memory and out on the GPU: both must lie on the same side")
        if self.dtype == "bfloat16":
            raise InputError(f"a bfloat16 kernel takes PyTorch tensors on the GPU, not {type(x).__name__}")
        array = as_input(x, self.dtype, "x")
        targets = [
            np.empty_like(array) if out is None else check_out(out, array.shape, self.dtype, "out") for out in outs
        ]
        if len(outs) == 2 and np.may_share_memory(targets[0], targets[1]):
            raise InputError("the two arrays of out share memory")
        if array.size:
            for target, result in zip(targets, _over_numpy(self._module(orders), array, len(outs)), strict=True):
                np.copyto(target, result)
        return [target[()] if out is None else target for target, out in zip(targets, outs, strict=True)]

    def path_of(self, orders: tuple[int, ...] = (0,)) -> Path:
        """The file that computes these derivatives together; written if it is not there."""
        if self.precision != "fast" and self.dtype not in HALF:
            return super().path_of(orders)
        from .fast import fast_source
        from .targets.cuda import print_source

        if not self.arithmetic(orders).startswith("float32"):
            return kernel(self.activation, self.dtype, self.target).path_of(orders)

        def printed(program: Any, **options: Any) -> str:
            return print_source(program, **(options | {"dtype": self.dtype}))

        text = fast_source(self.activation, orders, printer=printed)
        title = f"{self.activation.name}_{'_'.join(f'd{n}' for n in orders)}_{self.dtype}_single_{self.target}"
        path = cache_directory() / file_name(title, text)
        if not path.exists():
            write_once(path, text)
        return path

    def arithmetic(self, orders: tuple[int, ...] = (0, 1)) -> str:
        """What the steps are computed in, with the reason where a fast form was refused; float32 for 16-bit floats."""
        return "float32" if self.dtype in HALF else super().arithmetic(orders)

    def _module(self, orders: tuple[int, ...]) -> Any:
        """The loaded file of these derivatives; looked up once, because naming it takes longer than running it."""
        if orders not in self._runs:
            require_device()
            path = self.path_of(orders)
            load(path)
            self._runs[orders] = load_module(path)
        return self._runs[orders]

    def unchecked(self, orders: tuple[int, ...] = (0, 1)) -> Callable[..., None]:
        """``run(x, *results)`` for hot loops: one-dimensional Numba device arrays, contiguous, aligned to 16 bytes."""
        module = self._module(orders)

        def run(x: Any, *results: Any) -> None:
            start_run(module, [_view(a) for a in (x, *results)], 0, x.size, x.dtype.itemsize)

        return run

    def ptx(self, orders: tuple[int, ...] = (0, 1), capability: tuple[int, int] = (9, 0)) -> str:
        """NVIDIA's intermediate code of ``run`` for a compute capability; no GPU is needed.

        Raises :class:`Unsupported` where numba-cuda is not installed.
        """
        load(self.path_of(orders))
        return ptx_of(load_module(self.path_of(orders)).run, self.dtype, 1 + len(orders), capability)


def load_module(path: Any) -> Any:
    """The module of a generated file that :func:`.compiled.load` has loaded."""
    import sys

    return sys.modules[f"backproof_kernel_{path.stem}"]


@lru_cache(maxsize=1)
def _why_no_device() -> str:
    from importlib.util import find_spec

    from .device_functions import SIMULATED

    if SIMULATED:
        return ""
    if find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'backproof[cuda]'"
    from numba import cuda

    return "" if cuda.is_available() else "Numba finds no NVIDIA GPU with a driver on this machine"


def require_device() -> None:
    """Raise :class:`Unsupported` with the reason where kernels cannot run."""
    if _why_no_device():
        raise Unsupported(f"the target cuda cannot run here: {_why_no_device()}")


def device_reason() -> str:
    """Why kernels cannot run on a GPU here; empty where they can."""
    return _why_no_device()


# -------------------------------------------------------------------------------------------------------------- launch


def launch(module: Any, library: Library, inputs: Sequence[Any], outs: Sequence[Any], dtype: str) -> list[Any]:
    """Run over GPU arrays of one shape (numbers pass through); contiguous arrays are not copied."""
    arrays = [a for a in inputs if not isinstance(a, (int, float))]
    views = [_checked(library, a, dtype, "x") for a in arrays]
    given = [None if out is None else _checked_out(library, out, views[0], dtype) for out in outs]
    present = [v for v in given if v is not None]
    if len(present) == 2 and present[0].overlaps(present[1]):
        raise InputError("the two arrays of out share memory")
    order = views[0].order
    if order is None or any(v.order != order for v in views[1:]):
        arrays = [library.compact(a) for a in arrays]
        views = [library.view(a) for a in arrays]
    written = [v if v is not None and _is_direct(v, views) else None for v in given]
    targets = [library.empty_like(arrays[0]) if v is None else out for v, out in zip(written, outs, strict=True)]
    if views[0].size:
        remaining = iter(views)
        arguments = [a if isinstance(a, (int, float)) else next(remaining) for a in inputs]
        outputs = [library.view(t) if v is None else v for v, t in zip(written, targets, strict=True)]
        run_views(module, arguments, outputs, library.stream(), owners=[*arrays, *targets])
    for target, out in zip(targets, outs, strict=True):
        if out is not None and out is not target:
            library.assign(out, target)
    return [target if out is None else out for target, out in zip(targets, outs, strict=True)]


def _checked(library: Library, array: Any, dtype: str, name: str) -> View:
    view = library.view(array)
    if view.dtype != dtype:
        raise InputError(f"{name} is {view.dtype}, the kernel is {dtype}: convert it, or ask for another kernel")
    return view


def _checked_out(library: Library, out: Any, like: View, dtype: str) -> View:
    if not library.owns(out):
        raise InputError(f"x is an array of {library.name}, so out must be one, not {type(out).__name__}")
    view = library.view(out)
    if view.shape != like.shape or view.dtype != dtype:
        raise InputError(f"out is {view.dtype}{list(view.shape)}, the result is {dtype}{list(like.shape)}")
    return view


def _is_direct(out: View, inputs: Sequence[View]) -> bool:
    """Whether the kernel may write to ``out`` itself: laid out alike, no input entry shifted into another's."""
    order = out.order
    if order is None or order != inputs[0].order:
        return False
    return all(out.address == v.address or not out.overlaps(v) for v in inputs)


def run_views(module: Any, inputs: Sequence[Any], outputs: Sequence[View], stream: int, owners: Any = None) -> None:
    """Launch over views of one size and order, and numbers."""
    views = [v for v in (*inputs, *outputs) if isinstance(v, View)]
    start_run(module, [*inputs, *outputs], head_of(views), outputs[0].size, outputs[0].itemsize, stream, owners)


def start_run(
    module: Any,
    arguments: Sequence[Any],
    head: int | None,
    size: int,
    itemsize: int,
    stream: int = 0,
    owners: Any = None,
) -> None:
    """Launch over views of contiguous memory, or one-dimensional device arrays; ``head`` None: one entry at a time."""
    kernel, lanes = (module.run_each, 1) if head is None else (module.run, ACCESS // itemsize)
    given = [*arguments] if head is None else [*arguments, min(head, size)]
    grid = _grid(-(-size // lanes))
    if launch_compiled(kernel, given, grid, THREADS, stream):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaPerformanceWarning)  # a small array takes few blocks: that is no news
        configured = kernel[grid, THREADS, _numba_stream(stream)]
    configured(*(_flat(a, owners) if isinstance(a, View) else a for a in given))


def _grid(packs: int) -> int:
    return max(1, min(-(-packs // THREADS), _processors() * BLOCKS_PER_PROCESSOR))


@lru_cache(maxsize=1)
def _processors() -> int:
    from numba import cuda

    from .device_functions import SIMULATED

    return 1 if SIMULATED else int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


@lru_cache(maxsize=64)
def _numba_stream(pointer: int) -> Any:
    from numba import cuda

    return cuda.external_stream(pointer) if pointer else 0


def head_of(views: Sequence[View]) -> int | None:
    """Entries before the first that is aligned in every array; None where no entry is aligned in all."""
    offsets = {-v.address % ACCESS for v in views}
    (offset, *others) = offsets
    itemsize = views[0].itemsize
    return None if others or offset % itemsize else offset // itemsize


def _flat(view: View, owners: Any) -> Any:
    """The memory of a view as one line of entries."""
    from numba import cuda

    kind = np.dtype("int16" if view.dtype == "bfloat16" else view.dtype)
    interface = {
        "shape": (view.size,), "typestr": kind.str, "data": (view.address, False), "strides": None, "version": 3,
    }  # fmt: skip
    return cuda.from_cuda_array_interface(interface, owner=owners, sync=False)


def _view(array: Any) -> Any:
    """A device array of Numba as a view; the simulator's are NumPy arrays, which it takes as they are."""
    from .device_functions import SIMULATED

    return array if SIMULATED else interface_view(array)


def _over_numpy(module: Any, array: Array, outputs: int) -> list[Array]:
    """Copy to the GPU, run, copy back; results have the layout of ``array``."""
    from numba import cuda

    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    flat = np.ravel(array, order=order)  # type: ignore[call-overload]
    inputs = cuda.to_device(flat)
    results = [cuda.device_array(flat.size, flat.dtype) for _ in range(outputs)]
    start_run(module, [_view(a) for a in (inputs, *results)], 0, flat.size, flat.itemsize)
    return [result.copy_to_host().reshape(array.shape, order=order) for result in results]


# ---------------------------------------------------------------------------------------------- compiling without a GPU


@contextmanager
def _compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """numba-cuda compiles device functions for the GPU that it finds: it finds this one."""
    from numba.cuda import dispatcher

    original = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = original


def ptx_of(run: Callable[..., None], dtype: str, arrays: int, capability: tuple[int, int] = (9, 0)) -> str:
    """The intermediate code of a generated kernel ``run(arrays…, head)``."""
    from importlib.util import find_spec

    from numba import cuda, types

    if find_spec("numba_cuda") is None:
        raise Unsupported("intermediate code needs numba-cuda: pip install 'backproof[cuda]'")
    signature = (getattr(types, "int16" if dtype == "bfloat16" else dtype)[::1],) * arrays + (types.int64,)
    with _compiling_for(capability):
        code, _ = cuda.compile_ptx(run.py_func, signature, cc=capability)  # type: ignore[attr-defined]
    return str(code)
