"""What a test could not have seen: special inputs at which a wrong gradient is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .findings import Evidence, compare
from .probing import Point, Sampler, dyadic
from .subject import Subject, run_exact


def other_words(sampler: Sampler, evidence: Evidence, name: str) -> str:
    """Return the word and switch options at which the gradient is refuted, where these are not the defaults."""
    options = evidence.refuted[name][0].point.options
    changed = {n: v for n, v in options.items() if isinstance(v, (str, bool)) and v != sampler.options.get(n)}
    return ", ".join(f"{n}={v!r}" for n, v in changed.items())


def hidden_by(subject: Subject, sampler: Sampler, evidence: Evidence, seed: int) -> str:
    """Return the special inputs at which every refuted gradient is right though it is not 0."""
    wrong = [n for n in evidence.refuted if not evidence.refuted[n][1].why.get(n)]
    if not wrong:
        return ""
    words = other_words(sampler, evidence, wrong[0])
    if words:
        return "the options keep their defaults: " + ", ".join(f"{n}={sampler.options[n]!r}" for n in sampler.options)
    first = evidence.refuted[wrong[0]][0]
    drawn = [sampler.point(seed + k, scale=scale) for k, scale in enumerate((1.0, 1.0, 32.0))]
    points = [first.point, *(replace(point, options=first.point.options) for point in drawn)]
    points += [r.point for r in evidence.runs if r.point.label == "other shapes"][:2]
    for what, special in _special_settings(sampler):
        changed = [special(point) for point in points]
        changed += [(point, _large_upstream) for point, upstream in changed if upstream is None]
        if all(_right_at(subject, point, upstream, wrong) for point, upstream in changed):
            return what
    return ""


Special = Callable[[Point], tuple[Point, Any]]


def _large_upstream(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    rng = np.random.default_rng(5)
    return [np.asarray(dyadic(rng, shape)) * 1024 for shape in shapes]


def _rows_summing(total: int) -> Callable[[Sequence[tuple[int, ...]]], list[Any]]:
    def make(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
        parts = [np.asarray(dyadic(np.random.default_rng(5), shape)) for shape in shapes]
        for part in parts:
            if part.ndim:
                part[..., -1] += total - part.sum(axis=-1)
        return parts

    return make


def _with_upstream(make: Callable[[Sequence[tuple[int, ...]]], list[Any]]) -> Special:
    return lambda point: (point, make)


def _special_settings(sampler: Sampler) -> Iterator[tuple[str, Special]]:
    """Yield settings that tests like, in words and as a change of a point (and of its upstream gradient)."""
    for kind in sampler.kinds:
        if kind.kind == "real" and kind.shape:

            def ones(point: Point, name: str = kind.name) -> tuple[Point, Any]:
                inputs = {**point.inputs, name: np.ones(np.shape(point.inputs[name]))}
                return replace(point, inputs=inputs), None

            yield f"{kind.name} is all ones", ones
    yield "the upstream gradient is all ones", lambda point: (point, lambda shapes: [np.ones(s) for s in shapes])
    for total in (1, 0):
        note = " (as a one-hot one does)" if total else ""
        yield f"each row of the upstream gradient sums to {total}{note}", _with_upstream(_rows_summing(total))
    lead = sampler.kinds[0]
    if not lead.shape or lead.shape[0] == 1:
        return
    together = [k.name for k in sampler.kinds if k.shape and k.shape[0] == lead.shape[0]]

    def one_sample(point: Point) -> tuple[Point, Any]:
        return replace(point, inputs={n: v[:1] if n in together else v for n, v in point.inputs.items()}), None

    yield f"the batch is one sample ({lead.name}.shape[0] = 1)", one_sample


def _right_at(subject: Subject, point: Point, upstream: Any, wrong: Sequence[str]) -> bool:
    """Tell whether the refuted gradients are right at a point, in balls, though they are not 0 there."""
    try:
        run = run_exact(subject, point, upstream=upstream)
    except Exception:
        return False
    outcome = compare(run).outcome
    nonzero = all(any(not b.value.contains(0) for b in run.true[n].reshape(-1)) for n in wrong)
    return not run.ties and nonzero and all(outcome[n] == "same" for n in wrong)
