"""Say what is wrong with a refuted gradient, in the words of the person's own code.

Every sentence is a hypothesis that was verified first: it predicts the whole gradient, and the prediction agrees with
what the code returns in 100 digits at several points, at more than one shape where forward allows it.  Hypotheses cut
or change paths on the tape of the forward pass: the true gradient is a sum over paths.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flint import arb

from .exact_scalars import Ball, adjoints, exact_arithmetic
from .factors import constant_factor, scaled
from .findings import Evidence, compact, compare, same
from .hiding import hidden_by, other_words
from .links import links, transposed_matmul
from .mistakes import constant_mistake
from .paths import pathwise, places
from .probing import Point, Sampler
from .repairs import repair
from .slips import left_out, masks_without, overwritten, slips
from .subject import ExactRun, Subject, entries, run_exact, true_gradient
from .tape_arrays import is_leaf, place_of
from .whole_gradients import Suspicion, changed_options, other_functions, other_points

#: CPU seconds spent on hypotheses for one gradient (not of the clock: a busy machine finds the same).
BUDGET = 2.0
#: Settings of shapes and hyper-parameters at which a repair must be exact.
MANY_RUNS = 8
Arrays = Any  # object arrays of balls


def diagnose(subject: Subject, sampler: Sampler, evidence: Evidence, seed: int) -> tuple[str, ...]:
    """Return what explains the refuted gradients: at most four lines."""
    found: dict[str, list[str]] = {}
    for name in evidence.refuted:
        runs = _recorded_runs(subject, evidence, name)
        sentence = _explain(subject, runs, name, evidence)
        if sentence:
            words = other_words(sampler, evidence, name)
            found.setdefault(sentence + (f" with {words}" if words else ""), []).append(name)
    lines = [f"{', '.join(names)}: {sentence}" for sentence, names in found.items()]
    lines += _only_there(evidence) if not lines else []
    wrong = tuple(evidence.refuted)
    corrected = repair(subject, _varied_runs(evidence), wrong)
    if corrected is not None:
        lines.append(str(corrected))
    unseen = all(n in evidence.beyond for n in evidence.refuted)  # at ordinary inputs nothing is wrong
    hidden = "" if unseen else hidden_by(subject, sampler, evidence, seed)
    if hidden:
        lines = [*lines[:3], f"cannot be seen when {hidden}"]
    return tuple(lines[:4])


def _only_there(evidence: Evidence) -> list[str]:
    """Say where a gradient is wrong that is right at the generic points."""
    found: dict[str, list[str]] = {}
    for name in evidence.refuted:
        if name in evidence.beyond:
            run, comparison = evidence.refuted[name]
            value: Any = run.point.inputs.get(name)
            spot = comparison.entry.get(name, ())
            at = f" ({name} = {compact(np.asarray(value)[spot])} there)" if np.ndim(value) == len(spot) else ""
            found.setdefault(f"{run.point.label}{at}", []).append(name)
    return [
        f"{', '.join(names)}: right at {evidence.points} generic points, wrong for {place}: look at the branch there"
        for place, names in found.items()
    ]


def _varied_runs(evidence: Evidence) -> list[ExactRun]:
    """Return the refuting run, and one for each set of shapes and hyper-parameters that was run."""
    found = {_setting(run.point): run for run in evidence.runs[::-1]}
    first = next(iter(evidence.refuted.values()))[0]
    others = [run for run in found.values() if run.point is not first.point]
    return [first, *others][:MANY_RUNS]


def _setting(point: Point) -> tuple[Any, ...]:
    return (tuple(np.shape(v) for v in point.inputs.values()), tuple(point.options.items()))


def _recorded_runs(subject: Subject, evidence: Evidence, name: str) -> list[ExactRun]:
    """Return runs with their array operations recorded: the refuting point, two more, and other shapes."""
    first = evidence.refuted[name][0]
    others = [r for r in evidence.runs if r.point is not first.point and r.point.label in ("generic", "other shapes")]
    shapes = {_setting(r.point)[0]: r for r in others[::-1] if r.point.label == "other shapes"}
    chosen = [first, *others[:2], *list(shapes.values())[:3]]
    runs = []
    for run in chosen:
        try:
            point = replace(run.point, options=first.point.options)
            upstream = run.upstream if point.options == run.point.options else None
            made = run_exact(subject, point, upstream=upstream, record=True)
            if subject.theory:  # its lines are not the person's
                made = replace(made, operations=tuple(replace(o, line=0) for o in made.operations))
            runs.append(made)
        except Exception:
            continue
    return [run for run in runs if run.yours.get(name) is not None]


def _explain(subject: Subject, runs: list[ExactRun], name: str, evidence: Evidence) -> str:
    why = evidence.refuted[name][1].why.get(name, "")
    if not runs:
        return why
    alike = [r for r in runs if [o.name for o in r.operations] == [o.name for o in runs[0].operations]]
    with exact_arithmetic():
        deadline = time.process_time() + BUDGET
        sentence = (
            _first(_suspicions(alike[0], name), alike, name, deadline)
            or constant_factor(alike, name)
            or _first(other_points(subject, alike[0], name), alike, name, deadline)
            or _first(slips(alike[0], name), alike, name, deadline)
            or _first(links(alike[0], name), alike, name, deadline)
            or pathwise(alike, name, deadline)
            or _first(overwritten(name), alike, name, deadline)
            or _first(masks_without(subject, alike[0], name), alike, name, deadline)
            or _first(changed_options(subject, alike[0], name), alike, name, deadline)
            or _first(other_functions(alike[0], name), alike, name, deadline)
            or _first(places(alike[0], name), alike, name, deadline)
            # right at the generic points: nothing is left unwritten there
            or ("" if name in evidence.beyond else _first(left_out(alike[0], name), alike, name, deadline))
        )
    if sentence:
        return sentence + (f" ({why})" if why else "")
    return constant_mistake(subject, runs[0].point, name) or why


def _first(suspicions: Iterator[Suspicion], runs: Sequence[ExactRun], name: str, deadline: float) -> str:
    for suspicion in suspicions:
        if time.process_time() > deadline:
            return ""
        if _holds(suspicion, runs, name):
            return suspicion.sentence
    return ""


def _holds(suspicion: Suspicion, runs: Sequence[ExactRun], name: str) -> bool:
    for run in runs:
        predicted = suspicion.predict(run)
        yours = run.yours[name]
        if predicted is None or not same(yours, predicted):
            return False
    return any(compare(run).outcome[name] == "different" for run in runs)


# Hypotheses ----------------------------------------------------------------------------------------------------------
def _suspicions(run: ExactRun, name: str) -> Iterator[Suspicion]:
    yield Suspicion("the sign is wrong", lambda r: scaled(r.true[name], -1))
    if run.true[name].ndim == 2:
        yield Suspicion("yours is the transpose of the gradient", lambda r: r.true[name].T)
    for other in run.true:
        if other != name:
            yield Suspicion(f"yours is the gradient with respect to {other}", lambda r, o=other: r.true[o])
    yield Suspicion(
        "yours has the diagonal of the Jacobian only: every output depends on other entries too",
        lambda r: _diagonal(r, name),
    )
    yield from _wrong_axis(run, name)
    yield from transposed_matmul(run, name)


def _diagonal(run: ExactRun, name: str) -> Arrays | None:
    output = entries(run.outputs[0])
    leaves = entries(run.leaves[name])
    if len(run.outputs) != 1 or output.shape != leaves.shape or output.ndim == 0:
        return None
    out = np.empty(output.shape, dtype=object)
    for spot in np.ndindex(*output.shape):
        seed = arb(float(run.upstream[0][spot]))
        out[spot] = Ball(adjoints([(output[spot], seed)]).get(leaves[spot], arb(0)))
    return out


def _wrong_axis(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A bias that was added by broadcasting: its gradient is the cotangent summed over the broadcast axes."""
    for k, operation in enumerate(run.operations):
        if operation.name != "add" or not any(is_leaf(each, run, name) for each in operation.inputs):
            continue
        cotangent_ndim = np.ndim(operation.output)
        if cotangent_ndim != 2:
            continue

        def cotangent(r: ExactRun, k: int = k) -> Arrays:
            adjoint = adjoints(r.seeds)
            return true_gradient(adjoint, r.operations[k].output)

        line = place_of(operation)
        yield Suspicion(f"the cotangent is summed over axis 1, but {name} is broadcast along axis 0{line}",
                        lambda r, c=cotangent: _summed(c(r), 1))  # fmt: skip
        yield Suspicion(
            f"only the first row of the cotangent is taken: sum over axis 0{line}", lambda r, c=cotangent: c(r)[0]
        )
        yield Suspicion(f"the cotangent is not summed over the broadcast axis 0{line}", lambda r, c=cotangent: c(r))


def _summed(array: Arrays, axis: int) -> Arrays:
    moved = np.moveaxis(array, axis, -1)
    out = np.empty(moved.shape[:-1], dtype=object)
    for spot in np.ndindex(*out.shape):
        out[spot] = Ball(sum((ball.value for ball in moved[spot]), arb(0)))
    return out
