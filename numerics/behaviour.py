"""How backward behaves when it is called again: the same arguments, no upstream gradient, the rows in another order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .float_types import is_float
from .probing import Point
from .subject import ExactRun, Subject, forward_floats, run_floats

#: Relative difference up to which two float64 results are one: sums in another order differ by less.
SAME = 1e-9


def behaviour(subject: Subject, run: ExactRun) -> list[str]:
    """Return what is wrong with the way backward behaves, as sentences; empty if nothing is."""
    try:
        whole = _gradients(subject, run.point, run.upstream)
    except Exception:
        return []  # said elsewhere
    return [*_repeated(subject, run, whole), *_zero(subject, run, whole), *_reordered(subject, run, whole)]


def _gradients(subject: Subject, point: Point, upstream: Any) -> dict[str, Any]:
    found = run_floats(subject, point, upstream, "float64").gradients
    return {n: np.asarray(g, dtype=float) for n, g in found.items() if g is not None}


def _repeated(subject: Subject, run: ExactRun, whole: Mapping[str, Any]) -> list[str]:
    state = np.random.get_state()
    try:
        np.random.seed(20_260)  # whoever draws from the global generator draws other numbers
        again = _gradients(subject, run.point, run.upstream)
    finally:
        np.random.set_state(state)
    return [
        f"another gradient for {n} when called again with the same arguments (it keeps state, or draws random numbers)"
        for n, g in whole.items()
        if not np.array_equal(g, again[n], equal_nan=True)
    ]


def _zero(subject: Subject, run: ExactRun, whole: Mapping[str, Any]) -> list[str]:
    """A zero upstream gradient of one output, or of the only one, changes nothing but that output's part."""
    if not subject.accepts_upstream:
        return []
    found = []
    for k in range(len(run.upstream)):
        first = [u if j == k else np.zeros_like(u) for j, u in enumerate(run.upstream)]
        rest = [np.zeros_like(u) if j == k else u for j, u in enumerate(run.upstream)]
        try:
            parts = [_gradients(subject, run.point, part) for part in (first, rest)]
        except Exception as error:
            which = f" of output {k + 1}" if len(run.upstream) > 1 else ""
            return [f"raises {type(error).__name__} for a zero upstream gradient{which}"]
        for n, g in whole.items():
            if np.isfinite(g).all() and not _close(parts[0][n] + parts[1][n], g):
                which = "outputs apart and together" if len(run.upstream) > 1 else "a zero upstream gradient: not 0"
                found.append(f"d{n} is not linear in the upstream gradient ({which})")
    return found[:1]


def _reordered(subject: Subject, run: ExactRun, whole: Mapping[str, Any]) -> list[str]:
    """Where forward treats the rows of its inputs alike, the gradients must follow their order."""
    rows = {n for n, v in run.point.inputs.items() if np.ndim(v) > 0}
    lead = next((np.shape(run.point.inputs[n])[0] for n in run.point.inputs if n in rows), 0)
    rows = {n for n in rows if np.shape(run.point.inputs[n])[0] == lead and np.ndim(run.point.inputs[n]) > 1}
    if lead < 2 or not rows:
        return []
    order = np.roll(np.arange(lead), 1)
    try:
        moved = replace(run.point, inputs={n: v[order] if n in rows else v for n, v in run.point.inputs.items()})
        outputs = [np.asarray(o, dtype=float) for o in forward_floats(subject, run.point)]
        after = [np.asarray(o, dtype=float) for o in forward_floats(subject, moved)]
        follows = [np.ndim(o) > 0 and o.shape[0] == lead and _close(a, o[order]) for o, a in zip(outputs, after)]
        if not all(f or _close(a, o) for f, o, a in zip(follows, outputs, after)):
            return []  # forward itself depends on the order
        upstream = [u[order] if f else u for f, u in zip(follows, run.upstream)]
        found = _gradients(subject, moved, upstream)
    except Exception:
        return []
    wrong = [n for n, g in whole.items() if not _close(found[n], g[order] if n in rows else g)]
    return [f"d{wrong[0]} depends on the order of the rows, which forward treats alike"] if wrong else []


def _close(a: Any, b: Any) -> bool:
    if np.shape(a) != np.shape(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.array_equal(a, b, equal_nan=True)
    return bool(np.abs(np.asarray(a) - b).max(initial=0.0) <= SAME * max(1e-300, float(np.abs(b).max(initial=0.0))))


def narrowed(name: str, gradient: Any, held: Any) -> str:
    """Say that a gradient holds fewer digits than its input: a cast down, or integers; empty if it does not."""
    if not isinstance(gradient, np.ndarray) or not is_float(held):
        return ""
    if not is_float(gradient):
        return f"the gradient for {name} is of type {gradient.dtype}, for {held.dtype} inputs"
    if gradient.dtype.itemsize < held.dtype.itemsize:
        return f"the gradient for {name} is cast down: {held.dtype} in, {gradient.dtype} out"
    return ""
