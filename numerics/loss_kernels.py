"""Losses with their output delta as compiled passes over rows: the loss and ∂loss/∂prediction, computed together.

The loss is a row of :data:`backproof.theory.losses.LOSSES`, the delta the gradient derived from it; both are printed as
one pass (:mod:`.targets.numba_rows`), which shares what they have in common (the maximum of a row and the sum of
its exponentials), kept in the cache folder and shared among threads by rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from ..theory.errors import InputError, lookup
from ..theory.losses import REDUCTIONS, Loss, loss
from ..theory.symbols import parameter
from ..theory.tensors import Axis, Input, Map, Position, same, substitute
from ..theory.walking import postorder
from .compiled import DTYPES, as_input, hyper_parameters, load
from .row_kernels import contiguous, share_of_rows, source_file
from .sharing import processors, shared
from .targets.numba_rows import print_pass
from .targets.printing import literal
from .targets.tensor_parts import Pass

Array = npt.NDArray[Any]
#: What every delta is multiplied by inside the pass, before it is rounded: 1/n of a mean, an upstream gradient.
_SCALE = parameter("delta_scale")


@dataclass(frozen=True, eq=False)
class LossKernel:
    """A compiled loss: ``loss, delta = k(prediction, target)``.

    Both arrays have classes or outputs along the last axis and any leading shape; ``prediction`` is what the row takes
    (pre-activations z where it is a loss of logits, probabilities p otherwise). A target that must be one-hot may be
    given as integer labels of the leading shape. With ``reduction`` "none" the loss has the leading shape (or, of a
    loss per entry, the whole shape) and delta is each loss's own gradient; "mean" and "sum" give a float and the
    gradient of it, times ``upstream``. Steps are float64 and results are rounded once; a reduced loss is the correctly
    rounded sum of its rows' losses in float64, on any number of threads. What a row assumes of its target (one-hot, a
    distribution) is not checked. Conventions at kinks are the row's. NaN in an entry or its target gives NaN
    there; where a row is reduced as a whole (a softmax), in that row.
    """

    loss: Loss
    dtype: str
    reduction: str

    def __call__(self, prediction: Any, target: Any, *, upstream: float = 1.0, **parameters: Any) -> tuple[Any, Array]:
        """(loss, ∂loss/∂prediction)."""
        names = [i.name for i in self._inputs]
        p = as_input(prediction, self.dtype, names[0])
        if p.ndim == 0 or p.shape[-1] == 0:
            raise InputError(f"{names[0]} of shape {p.shape} has no entries in a row: the last axis holds the outputs")
        labels = self._labels(target, p)
        y = as_input(target, self.dtype, names[1]) if labels is None else labels
        if labels is None and y.shape != p.shape:
            raise InputError(f"{names[1]} has shape {y.shape}, {names[0]} has {p.shape}: they must agree")
        values = self._parameters(parameters)
        if self.reduction == "mean" and p.size == 0:
            raise InputError("the mean of no losses: there are no rows")
        return self._run(p, y, values, float(upstream))

    def _labels(self, target: Any, prediction: Array) -> Array | None:
        """Integer labels as they are compared with the classes; None where the target is an array of entries."""
        if not self._takes_labels:
            return None
        labels = np.asarray(target)
        if labels.dtype.kind not in "iu" or labels.shape != prediction.shape[:-1]:
            return None
        classes = prediction.shape[-1]
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise InputError(f"labels must be from 0 to {classes - 1}, not from {labels.min()} to {labels.max()}")
        return labels.astype(np.int64, copy=False)

    def _parameters(self, given: dict[str, Any]) -> list[float]:
        known = hyper_parameters(given, self._defaults, self.loss.name)
        return [known[name] for name in self.what.parameters if name in known]

    def _run(self, p: Array, y: Array, values: list[float], upstream: float) -> tuple[Any, Array]:
        rows, width = math.prod(p.shape[:-1]), p.shape[-1]
        labelled = y.shape != p.shape
        flat: list[Array] = [contiguous(p).reshape(rows, width)]
        flat.append(contiguous(y).reshape(rows if labelled else (rows, width)))
        delta = np.empty((rows, width), self.dtype)
        losses = np.empty((rows, width) if self._by_entry else rows, self.dtype if self.reduction == "none" else float)
        scale = upstream / (p.size if self.per_entry else rows) if self.reduction == "mean" else upstream
        run = self._pass_of_labels if labelled else self._pass
        threads = processors()
        step = share_of_rows(rows, width, threads)

        def share(start: int) -> None:
            part = slice(start, start + step)
            run(*(a[part] for a in flat), *values, scale, losses[part], delta[part])
            if self._has_branches:
                _keep_nan([a[part] for a in flat], losses[part], delta[part])

        starts = range(0, rows, step)
        shared(share, starts, min(threads, len(starts)))
        return self._reduced(losses, p.shape), delta.reshape(p.shape)

    def _reduced(self, losses: Array, shape: tuple[int, ...]) -> Any:
        if self.reduction == "none":
            return losses.reshape(shape if self.per_entry else shape[:-1])[()]
        count = math.prod(shape) if self.per_entry else math.prod(shape[:-1])
        divisor = count if self.reduction == "mean" else 1
        if not np.isfinite(losses).all():
            return DTYPES[self.dtype](losses.sum())
        try:
            return DTYPES[self.dtype](math.fsum(losses.tolist()) / divisor)
        except OverflowError:  # a mean may be a number all the same
            with np.errstate(over="ignore"):
                return DTYPES[self.dtype](np.ldexp(math.fsum(np.ldexp(losses, -64).tolist()) / divisor, 64))

    @property
    def per_entry(self) -> bool:
        """Whether the loss is one number an entry (squared error), not one a row (cross-entropy)."""
        return len(self._axes) == 2

    @property
    def _by_entry(self) -> bool:
        return self.per_entry and self.reduction == "none"

    @cached_property
    def _inputs(self) -> tuple[Input, ...]:
        return tuple(self.loss.inputs())

    @cached_property
    def _has_branches(self) -> bool:
        """Whether an entry's loss or gradient may compare, and so lose a NaN."""
        steps = [node for value, _ in self.what.outputs.values() for node in postorder(value)] if self.per_entry else []
        return any(isinstance(node, Map) and node.function.has(sympy.Piecewise) for node in steps)

    @cached_property
    def _takes_labels(self) -> bool:
        return any(fact.kind == "one-hot" for fact in self._inputs[1].facts)

    @cached_property
    def _defaults(self) -> dict[str, float]:
        """Hyper-parameter -> its value unless another is given."""
        return {str(s): float(v) for s, v in self.loss.parameters.items()}

    @cached_property
    def _axes(self) -> tuple[Axis, ...]:
        prediction, target = self._inputs
        return self.loss.forward(prediction, target, "none").axes

    @cached_property
    def what(self) -> Pass:
        """The pass: losses (of an entry, or of a row where they are summed up) and the scaled gradient."""
        prediction, target = self._inputs
        axes = prediction.indices
        value = self.loss.forward(prediction, target, "none")
        if self.per_entry and not self._by_entry:
            value = value.sum(axes[1].name)
        gradient = self.loss.gradient(reduction="sum").gradient * _SCALE
        parameters = {str(s): literal(v) for s, v in self.loss.parameters.items()} | {str(_SCALE): "1.0"}
        outputs = {"loss": (value, axes if self._by_entry else axes[:1]), "output_delta": (gradient, axes)}
        return Pass("fused", (prediction, target), outputs, parameters)

    @cached_property
    def source(self) -> str:
        """The source of the pass, as compiled."""
        return self._printed(self.what)

    @cached_property
    def source_of_labels(self) -> str:
        """The source of the pass whose target is a label a row: 1 at the label's place, 0 elsewhere."""
        what, (prediction, target) = self.what, self._inputs
        labels = Input("labels", prediction.indices[:1])
        hot = same(Position(prediction.indices[1]), labels)
        outputs = {name: (substitute(t, {target.name: hot}), axes) for name, (t, axes) in what.outputs.items()}
        return self._printed(replace(what, arguments=(prediction, labels), outputs=outputs))

    def _printed(self, what: Pass) -> str:
        wide = () if self.reduction == "none" else ("loss",)
        title = f"{self.loss.title}, with its gradient, row by row"
        axis = self._inputs[0].indices[0]
        return print_pass(what, title, self.dtype, axis, wide=wide, integers=("labels",))

    @property
    def path(self) -> Path:
        """The file with the source; written if it is not there."""
        return self._file(self.source)

    def _file(self, source: str) -> Path:
        title = f"{self.loss.name}_{'none' if self.reduction == 'none' else 'sum'}_{self.dtype}"
        return source_file(title, source)

    @cached_property
    def _pass(self) -> Any:
        return load(self.path)

    @cached_property
    def _pass_of_labels(self) -> Any:
        return load(self._file(self.source_of_labels))


def _keep_nan(inputs: list[Array], losses: Array, delta: Array) -> None:
    """NaN in, NaN out, of losses with branches: a comparison with NaN is false, and max(0, NaN) is 0."""
    if not any(a.size and np.isnan(a.min()) for a in inputs):  # the quickest look there is at a whole array
        return
    spoilt = np.isnan(inputs[0]) | np.isnan(inputs[1])
    delta[spoilt] = np.nan
    losses[spoilt if losses.ndim == 2 else spoilt.any(axis=1)] = np.nan


@lru_cache(maxsize=128)
def loss_kernel(name: str, dtype: str = "float64", reduction: str = "mean") -> LossKernel:
    """The compiled loss of this name with its output delta; ``reduction`` is "none", "mean" or "sum".

    Raises :class:`InputError` for an unknown name, dtype or reduction.

    >>> value, delta = loss_kernel("softmax_cross_entropy")([[0.0, 0.0]], [0])
    >>> float(value), delta.tolist()
    (0.6931471805599453, [[-0.5, 0.5]])
    """
    row = loss(name)
    lookup(DTYPES, str(dtype), "dtype")
    lookup(dict.fromkeys(REDUCTIONS), str(reduction), "reduction")
    return LossKernel(row, str(dtype), reduction)
