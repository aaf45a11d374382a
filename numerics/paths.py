"""Hypotheses on the paths that a gradient is the sum of: one missing, doubled, scaled, or with an extra factor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from flint import arb

from .exact_scalars import Ball, adjoints
from .factors import name_factor, ratio_of, scaled
from .findings import same
from .subject import ExactRun, entries, true_gradient
from .tape_arrays import Arrays, active, active_arrays, adjoint_with, fetch, place_of, word_of
from .whole_gradients import Suspicion


def places(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Yield that yours is the gradient of an intermediate result, or has one factor too many or too few."""
    yield from _intermediate(run, name)
    yield from _extra_factor(run, name)


def _intermediate(run: ExactRun, name: str) -> Iterator[Suspicion]:
    shape = run.yours[name].shape
    for place, array in active_arrays(run):
        if array.shape == shape and place[1] < 0:
            operation = run.operations[place[0]]
            yield Suspicion(
                f"yours is the gradient with respect to the result of {word_of(operation)}{place_of(operation)}",
                lambda r, p=place: _cotangent_at(r, p),
            )


def _cotangent_at(run: ExactRun, place: tuple[int, int]) -> Arrays | None:
    array = fetch(run, place)
    return None if array is None else true_gradient(adjoints(run.seeds), array)


def _factors(run: ExactRun) -> Iterator[tuple[str, Any]]:
    for n in run.point.inputs:
        if isinstance(run.point.inputs[n], np.ndarray) and run.point.inputs[n].dtype.kind == "f":
            yield n, lambda r, n=n: np.asarray(entries(_floats(r.point.inputs[n])))
    for k, operation in enumerate(run.operations):
        if active(operation.output) is not None:
            yield f"the result of {word_of(operation)}{place_of(operation)}", lambda r, k=k: fetch(r, (k, -1))


def _floats(value: Any) -> Any:
    out = np.empty(np.shape(value), dtype=object)
    for spot in np.ndindex(*out.shape):
        out[spot] = Ball(arb(float(value[spot])))
    return out


def _extra_factor(run: ExactRun, name: str) -> Iterator[Suspicion]:
    for text, of in _factors(run):
        yield Suspicion(f"an extra factor: {text}", lambda r, f=of: _product(r.true[name], f(r)))
        yield Suspicion(f"a missing factor: {text}", lambda r, f=of: _product(r.true[name], f(r), divide=True))


def _product(array: Arrays, factor: Any, divide: bool = False) -> Arrays | None:
    if factor is None:
        return None
    if factor.ndim and factor.shape == array.shape[:-1]:  # one factor for each row
        factor = factor[..., None]
    try:
        if np.broadcast_shapes(array.shape, factor.shape) != array.shape:
            return None
    except ValueError:
        return None
    combine = (lambda a, b: Ball(a.value / b.value)) if divide else (lambda a, b: Ball(a.value * b.value))
    out = np.frompyfunc(combine, 2, 1)(array, factor)
    return np.asarray(out, dtype=object)


# Factors and paths ---------------------------------------------------------------------------------------------------
def _groups(run: ExactRun) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield sets of operations whose results may have been held constant: each reduction, each pair, all of them."""
    reductions = [
        k for k, o in enumerate(run.operations) if o.name.endswith(".reduce") and active(o.output) is not None
    ]
    for k in reductions:
        yield f"{word_of(run.operations[k])}{place_of(run.operations[k])}", (k,)
    if len(reductions) > 1:
        yield "the reductions", tuple(reductions)
    for k, operation in enumerate(run.operations):
        if k not in reductions and active(operation.output) is not None and operation.name not in ("add", "subtract"):
            yield f"{word_of(operation)}{place_of(operation)}", (k,)


def pathwise(runs: Sequence[ExactRun], name: str, deadline: float) -> str:
    """Name a path that is missing, counted twice, scaled, or carries an extra factor."""
    for what, group in _groups(runs[0]):
        if time.process_time() > deadline:
            return ""
        parts = []
        for run in runs:
            cut = {b: () for k in group for b in (fetch(run, (k, -1)),) if b is not None for b in b.reshape(-1)}
            rest = adjoint_with(run, cut, name)
            if rest.shape != run.yours[name].shape:
                return ""
            path, extra = _difference(run.true[name], rest), _difference(run.yours[name], rest)
            parts.append((run, path, extra))
        if all(same(p, scaled(p, 0)) for _, p, _ in parts):
            continue
        if all(same(e, scaled(e, 0)) for _, _, e in parts):
            return f"the path through {what} is missing"
        parts = [part for part in parts if not same(part[1], scaled(part[1], 0))]
        ratios = [ratio_of(e, p) for _, p, e in parts]
        if all(r is not None for r in ratios):
            factor = name_factor([r for r in ratios if r is not None], [run.point for run, _, _ in parts])
            if factor == "2":
                return f"the path through {what} is counted twice"
            if ".shape[" in factor and "/" in factor and "·" not in factor:
                right, wrong = factor.split("/")
                return f"the path through {what} is divided by {wrong}, it must be {right}"
            if factor and factor != "1":
                return f"the path through {what} carries the factor {factor}"
        for text, of in _factors(runs[0]):
            if all(_equals_product(e, p, of(run)) for run, p, e in parts):
                return f"an extra factor in the path through {what}: {text}"
    return ""


def _equals_product(extra: Arrays, path: Arrays, factor: Any) -> bool:
    product = _product(path, factor)
    return product is not None and same(extra, product)


def _difference(a: Arrays, b: Arrays) -> Arrays:
    return np.asarray(np.frompyfunc(lambda p, q: Ball(p.value - q.value), 2, 1)(a, b), dtype=object)
