"""Training on an NVIDIA GPU: the step of :mod:`.device_step` over CuPy arrays, captured once as a CUDA graph.

Nothing within an epoch waits for the GPU: a step is two copies on the device and the launch of a graph. The optimiser's
step number and what depends on it lie on the GPU, where a one-thread kernel advances them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from ..theory.errors import Unsupported
from ..theory.lowering import lower
from ..theory.optimisers import g, t, theta
from .compiled import file_name, load, write_once
from .cuda_kernels import load_module, require_device, start_run
from .device_functions import SIMULATED
from .device_step import Engine, Step
from .files import cache_directory
from .kernels import kernel
from .network import Network
from .updates import Updater, hoist


class DeviceUpdater:
    """The rule of ``updater`` as CUDA kernels over arrays of ``xp`` (CuPy; NumPy under the simulator)."""

    def __init__(self, updater: Updater, size: int, dtype: str, xp: Any) -> None:
        self._xp, self._size, self._itemsize = xp, size, np.dtype(dtype).itemsize
        row = updater.row
        expressions, per_step = hoist(row.updates, {t}, {theta, g, *row.state})
        arguments = (theta, g, *row.state, *updater.hyper, *per_step)
        values = {symbol: sympy.sympify(value) for symbol, value in updater.hyper.items()}
        self.state = {name: xp.asarray(array).copy() for name, array in updater.state.items()}
        self.count = xp.full(1, updater.steps, xp.int64)
        self._per_step = xp.zeros(max(len(per_step), 1), xp.float64)
        self._names = [str(s) for s in expressions]
        self._fixed = [float(value) for value in updater.hyper.values()]
        title = f"{row.name}: {'; '.join(f'{s} = {e}' for s, e in expressions.items())}"
        scalars, loaded = [str(s) for s in updater.hyper], [str(s) for s in per_step]
        program = lower({str(s): e for s, e in expressions.items()}, arguments)
        self._update = _module("print_source", title, program, dtype=dtype, scalars=scalars, loaded=loaded)
        self._advance = None
        if per_step:
            numbers = lower({str(s): e.subs(values) for s, e in per_step.items()}, (t,))
            self._advance = _module("print_advance", f"{row.name}: what depends on the step", numbers)

    def __call__(self, parameters: Any, gradient: Any) -> None:
        """Take one step in place."""
        stream = _current_stream(self._xp)
        if self._advance is not None:
            count, values = (_device(a) for a in (self.count, self._per_step))
            self._advance.run[1, 32, _numba_stream(stream)](count, values)
        arrays = [_device(a) for a in (parameters, gradient, *self.state.values())]
        written = [arrays[0] if name == "theta" else _device(self.state[name]) for name in self._names]
        loaded = [_device(self._per_step)] if self._advance is not None else []
        start_run(self._update, [*arrays, *self._fixed, *loaded, *written], 0, self._size, self._itemsize, stream)


def _module(printer: str, title: str, program: Any, **options: Any) -> Any:
    """The loaded file that ``printer`` of the CUDA target writes for ``program``."""
    from .targets import cuda as target

    text = getattr(target, printer)(
        program, title=" ".join(title.replace("\\", "").replace('"', "").split()), **options
    )
    path: Path = cache_directory() / file_name(f"update_{title[:20]}", text)
    if not path.exists():
        write_once(path, text)
    load(path)
    return load_module(path)


def _device(array: Any) -> Any:
    """A view that Numba launches with; it does not wait for the stream of ``array``."""
    if SIMULATED:
        return array
    from numba import cuda

    return cuda.as_cuda_array(array, sync=False)


def _current_stream(xp: Any) -> int:
    return 0 if xp is np else int(xp.cuda.get_current_stream().ptr)


def _numba_stream(pointer: int) -> Any:
    from .cuda_kernels import _numba_stream as stream

    return stream(pointer)


def cuda_engine(network: Network, updater: Updater) -> Engine:
    """CuPy's arrays, cuBLAS's products, this package's kernels. Raises :class:`Unsupported` without a GPU or CuPy."""
    require_device()
    try:
        import cupy
    except ImportError:
        raise Unsupported("training on the GPU needs CuPy: pip install 'backproof[cuda]'") from None
    from .cublas import Products

    compiled = kernel(network.activation, network.dtype.name, "cuda")
    update = DeviceUpdater(updater, network.parameter_count, network.dtype.name, cupy)
    return Engine(cupy, Products(), compiled.value_and_derivative, update, update.state)


class GraphedStep:
    """``step(X, Y)`` on CuPy arrays: the first call with a shape runs as it is, the second is captured, all later ones
    replay the graph on copies of X and Y.

    Where capture fails, steps go on as they are, and ``reason`` says why.
    """

    def __init__(self, step: Step) -> None:
        import cupy

        self.step, self.reason = step, ""
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._pool = cupy.cuda.MemoryPool()  # what a graph has used it uses again: nobody else may have it
        self._graphs: dict[Any, tuple[Any, Any, Any] | None] = {}

    def __call__(self, X: Any, Y: Any) -> None:
        """One step; must be called with ``stream`` current."""
        import cupy

        key = (X.shape, Y.shape)
        with cupy.cuda.using_allocator(self._pool.malloc):
            if key not in self._graphs or self.reason:
                self._graphs.setdefault(key, None)
                self.step(X, Y)
                return
            if self._graphs[key] is None and not self._capture(key, X, Y):
                self.step(X, Y)
                return
        graph = self._graphs[key]
        assert graph is not None
        launched, inputs, targets = graph
        inputs[...], targets[...] = X, Y
        launched.launch(self.stream)

    def _capture(self, key: Any, X: Any, Y: Any) -> bool:
        inputs, targets = X.copy(), Y.copy()
        self.stream.begin_capture()
        try:
            self.step(inputs, targets)
        except Exception as problem:
            self.reason = f"{type(problem).__name__}: {problem}".splitlines()[0]
        try:
            graph = self.stream.end_capture()
        except Exception as problem:
            self.reason = self.reason or f"{type(problem).__name__}: {problem}".splitlines()[0]
        if self.reason:
            return False
        self._graphs[key] = (graph, inputs, targets)
        return True


class DeviceData:
    """The parts of a data set on the GPU, and the step that trains on them."""

    def __init__(self, network: Network, updater: Updater, encoded: Mapping[str, tuple[Any, Any, Any]]) -> None:
        self.network, self.updater = network, updater
        engine = cuda_engine(network, updater)
        self._xp = engine.xp
        self.step = GraphedStep(Step(network, engine))
        with self.step.stream:
            self._parts = {name: tuple(self._xp.asarray(a) for a in part[:2]) for name, part in encoded.items()}
        self.step.stream.synchronize()

    def epoch(self, order: Any, batch: int) -> None:
        """Steps over the training part in this order; then the network's and the updater's own arrays are filled."""
        with self.step.stream:
            places = self._xp.asarray(order)
            inputs, targets = (part[places] for part in self._parts["train"])
            for start in range(0, len(order), batch):
                part = slice(start, start + batch)
                self.step(inputs[part], targets[part])
                self.updater.steps += 1
            self.network.flat[...] = self.step.step.flat.get()
            for name, array in self.step.step.engine.state.items():
                self.updater.state[name][...] = array.get()

    def evaluate(self, name: str) -> tuple[float, Any]:
        """The mean loss over a part and the output, as a NumPy array."""
        with self.step.stream:
            loss, output = self.step.step.evaluate(*self._parts[name])
            return loss, output.get()
