"""Softmax, log-softmax, the norms and the gated units as compiled passes over rows, forward and backward.

The forward pass is a row of :data:`backproof.theory.layers.LAYERS`, the backward pass is what is derived from it; both
are printed row by row (:mod:`.targets.numba_rows`), kept in the cache folder and shared among threads by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.errors import InputError, Unsupported, lookup
from ..theory.layer_row import Layer
from ..theory.layers import LAYERS
from .compiled import DTYPES, as_input, check_out, file_name, hyper_parameters, load, unlocked, write_once
from .files import cache_directory
from .sharing import processors, shared

Array = npt.NDArray[Any]
#: Fewest entries of a share of rows: handing one out costs some 10 µs.
SHARE = 65_536
#: Most entries of one: a thread that is held up by other work leaves the rest to the others.
LARGE_SHARE = 524_288


def share_of_rows(rows: int, width: int, threads: int | None = None) -> int:
    """How many rows a share has: as few shares as threads, unless they are large.

    Without ``threads`` the same on any number of them, for sums over the rows; of a few shares all take as long.
    """
    size = rows * width
    shares = max(1, size // SHARE)
    if threads is None:
        shares -= shares % min(4, 2 ** (shares.bit_length() - 1))  # two or four threads get as many each
    else:
        shares = min(shares, threads * max(1, -(-size // (threads * LARGE_SHARE))))
    return max(1, -(-rows // shares))


def aligned_zeros(rows: int, width: int) -> Array:
    """float64 rows of 0 that each start a cache line: a vector that lies across two takes twice as long."""
    padded = width + -width % 8
    room = np.zeros(rows * padded + 7)
    start = -room.__array_interface__["data"][0] % 64 // 8
    return room[start : start + rows * padded].reshape(rows, padded)[:, :width]


def contiguous(array: Array) -> Array:
    """The array as compiled code takes it."""
    return unlocked(array if array.flags.c_contiguous else np.ascontiguousarray(array))


def source_file(title: str, source: str) -> Path:
    """The file that holds a pass over rows; written if it is not there."""
    helpers = Path(__file__).with_name("row_reductions.py").read_text("utf-8")  # is compiled into it
    path = cache_directory() / file_name(title, source, helpers)
    if not path.exists():
        write_once(path, source)
    return path


@dataclass(frozen=True, eq=False)
class RowKernel:
    """A compiled layer on the last axis: ``k(x, …)`` and ``k.vjp(dy, x, …)``, of any leading shape.

    The inputs are those of the layer's row, in its order (x, gamma, beta of a norm; a, b of a gated unit);
    hyper-parameters go by keyword. What has the output's axes has its shape, the others are one row. Arrays hold
    ``dtype``; steps are float64 and results are rounded once. A NaN in a row spoils that row alone. Rows of no entries
    are refused.
    """

    layer: Layer
    dtype: str

    def __call__(self, *inputs: Any, out: Array | None = None, **parameters: Any) -> Array:
        """The layer's output."""
        arrays, values, shape = self._prepare(inputs, parameters)
        target = None if out is None else check_out(out, shape, self.dtype, "out")
        result = np.empty_like(arrays[0])
        if target is not None and target.flags.c_contiguous and not any(np.may_share_memory(target, a) for a in arrays):
            result = target.reshape(arrays[0].shape)
        self._by_rows(self._passes[0], [*arrays, result], values)
        if target is None:
            return result.reshape(shape)
        if not np.may_share_memory(target, result):
            np.copyto(target, result.reshape(shape))
        return target

    def vjp(self, dy: Any, *inputs: Any, **parameters: Any) -> Any:
        """The gradients by the inputs that have one (a mask has none) for the cotangent ``dy`` of the output; one array
        where there is one such input."""
        arrays, values, shape = self._prepare(inputs, parameters)
        upstream = as_input(dy, self.dtype, "dy")
        if upstream.shape != shape:
            raise InputError(f"dy has shape {upstream.shape}, x has {shape}: they must agree")
        wanted = [a for a, (name, _) in zip(arrays, self._inputs, strict=True) if name in self._differentiated]
        gradients = [np.empty_like(a) if a.ndim == 2 else np.zeros(a.shape) for a in wanted]
        dy = contiguous(upstream).reshape(arrays[0].shape)
        self._by_rows(self._passes[1], [dy, *arrays], values, gradients)
        found = tuple(g.reshape(shape) if g.ndim == 2 else g.astype(self.dtype) for g in gradients)
        return found if len(found) > 1 else found[0]

    def _prepare(
        self, inputs: Sequence[Any], parameters: dict[str, Any], *, flat: bool = True
    ) -> tuple[list[Array], list[float], Any]:
        names = [name for name, _ in self._inputs]
        if len(inputs) != len(names):
            raise InputError(f"{self.layer.name} takes {', '.join(names)}: {len(names)} arrays, not {len(inputs)}")
        x, *rest = (as_input(v, self.dtype, n) for v, n in zip(inputs, names, strict=True))
        if x.ndim == 0 or x.shape[-1] == 0:
            raise InputError(f"{names[0]} of shape {x.shape} has no entries in a row: the last axis is worked along")
        for (other, is_matrix), array in zip(self._inputs[1:], rest, strict=True):
            wanted = x.shape if is_matrix else x.shape[-1:]
            if array.shape != wanted:
                raise InputError(f"{other} has shape {array.shape}, wanted {wanted} for {names[0]} of {x.shape}")
        values = list(hyper_parameters(parameters, self._defaults, self.layer.name).values())
        given = [x, *rest]
        if flat:
            given = [a.reshape(-1, x.shape[-1]) if is_matrix else a for a, (_, is_matrix) in zip(given, self._inputs)]
            given = [contiguous(a) for a in given]
        return given, values, x.shape

    @cached_property
    def _inputs(self) -> list[tuple[str, bool]]:
        """Each input's name, and whether it is a matrix or one row."""
        return [(i.name, len(i.indices) == 2) for i in self.layer.inputs]

    @cached_property
    def _differentiated(self) -> frozenset[str]:
        return frozenset(self.layer.gradients())

    @cached_property
    def _defaults(self) -> dict[str, float]:
        """Hyper-parameter -> its value unless another is given."""
        return {str(s): float(v) for s, v in self.layer.parameters.items()}

    def _by_rows(
        self, run: Callable[..., Any], arrays: list[Array], values: list[float], gradients: Sequence[Array] = ()
    ) -> None:
        """Run over shares of rows; a gradient of one row is summed share by share, in their order."""
        rows, width = arrays[0].shape
        threads = processors()
        step = share_of_rows(rows, width, None if any(g.ndim == 1 for g in gradients) else threads)
        starts = range(0, rows, step)
        sums = [aligned_zeros(len(starts), g.size) if g.ndim == 1 else g for g in gradients]
        before = len(arrays) if gradients else len(arrays) - 1  # the hyper-parameters stand between inputs and results

        def share(start: int) -> None:
            part = slice(start, start + step)
            cut = [a[part] if a.ndim == 2 else a for a in arrays]
            out = [g[part] if g is s else s[start // step] for g, s in zip(gradients, sums)]
            run(*cut[:before], *values, *cut[before:], *out)

        shared(share, starts, min(threads, len(starts)))
        for total, parts in zip(gradients, sums):
            if total is not parts:
                for part in parts:
                    total += part

    @cached_property
    def _passes(self) -> Any:
        return load(self.path)

    @cached_property
    def path(self) -> Path:
        """The file with the source of both passes; written if it is not there."""
        return source_file(f"{self.layer.name}_rows_{self.dtype}", self.source)

    @cached_property
    def source(self) -> str:
        """The source of both passes, as compiled."""
        from .targets.numba_rows import print_rows

        return print_rows(self.layer, self.dtype)


@lru_cache(maxsize=64)
def row_kernel(name: str, dtype: str = "float64") -> RowKernel:
    """The compiled layer of this name along rows: softmax, log_softmax, layer_norm, rms_norm; glu and its kin.

    Raises :class:`InputError` for an unknown name or dtype, :class:`Unsupported` for a layer of another kind (batch
    normalisation reduces over the rows; a convolution has no rows).

    >>> row_kernel("softmax")([[0.0, 0.0]])
    array([[0.5, 0.5]])
    """
    layer = lookup(LAYERS, name, "layer")
    lookup(DTYPES, str(dtype), "dtype")
    axes, first = layer.output_axes, layer.inputs[0]
    if len(axes) != 2 or first.indices != axes or any(i.indices not in (axes, axes[1:]) for i in layer.inputs):
        raise Unsupported(
            f"layer {layer.name} is no function along the rows of a matrix: row kernels are of such layers"
        )
    from .gate_kernels import GateKernel, gate_of

    made = (RowKernel if gate_of(layer) is None else GateKernel)(layer, str(dtype))
    made.source  # noqa: B018  (refuse now, not at the first call)
    return made
