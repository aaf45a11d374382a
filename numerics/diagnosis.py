"""Say what is wrong with a refuted gradient, in the words of the person's own code.

Every sentence is a hypothesis that was verified first: it predicts the whole gradient, and the prediction agrees with
what the code returns in 100 digits at several points, at more than one shape where forward allows it.  Hypotheses cut
or change paths on the tape of the forward pass: the true gradient is a sum over paths.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flint import arb

from .exact_arrays import Operation
from .exact_scalars import Ball, adjoints, exact_arithmetic
from .factors import constant_factor, name_factor, ratio_of, scaled
from .findings import Evidence, compare, same
from .mistakes import constant_mistake
from .probing import Point, Sampler, dyadic
from .subject import ExactRun, Subject, entries, run_exact, true_gradient

#: Seconds spent on hypotheses for one gradient.
BUDGET = 1.5
Arrays = Any  # object arrays of balls


@dataclass(frozen=True)
class Suspicion:
    """A sentence, and the gradient it predicts at a run (None where it does not apply)."""

    sentence: str
    predict: Any  # a function of an ExactRun


def diagnose(subject: Subject, sampler: Sampler, evidence: Evidence, seed: int) -> tuple[str, ...]:
    """Return what explains the refuted gradients: at most four lines."""
    found: dict[str, list[str]] = {}
    for name in evidence.refuted:
        runs = _recorded_runs(subject, evidence, name)
        sentence = _explain(subject, runs, name, evidence)
        if sentence:
            words = _other_words(sampler, evidence, name)
            found.setdefault(sentence + (f" with {words}" if words else ""), []).append(name)
    lines = [f"{', '.join(names)}: {sentence}" for sentence, names in found.items()]
    hidden = _hidden_by(subject, sampler, evidence, seed)
    if hidden:
        lines = [*lines[:3], f"cannot be seen when {hidden}"]
    return tuple(lines[:4])


def _other_words(sampler: Sampler, evidence: Evidence, name: str) -> str:
    """Return the word and switch options at which the gradient is refuted, where these are not the defaults."""
    options = evidence.refuted[name][0].point.options
    changed = {n: v for n, v in options.items() if isinstance(v, (str, bool)) and v != sampler.options.get(n)}
    return ", ".join(f"{n}={v!r}" for n, v in changed.items())


def _recorded_runs(subject: Subject, evidence: Evidence, name: str) -> list[ExactRun]:
    """Return runs with their array operations recorded: the refuting point, two more, and other shapes."""
    first = evidence.refuted[name][0]
    others = [r for r in evidence.runs if r.point is not first.point and r.point.label in ("generic", "other shapes")]
    chosen = [first, *others[:2], *[r for r in others[2:] if r.point.label == "other shapes"][:2]]
    runs = []
    for run in chosen:
        try:
            point = replace(run.point, options=first.point.options)
            upstream = run.upstream if point.options == run.point.options else None
            runs.append(run_exact(subject, point, upstream=upstream, record=True))
        except Exception:
            continue
    return [run for run in runs if run.yours.get(name) is not None]


def _explain(subject: Subject, runs: list[ExactRun], name: str, evidence: Evidence) -> str:
    why = evidence.refuted[name][1].why.get(name, "")
    if not runs:
        return why
    alike = [r for r in runs if [o.name for o in r.operations] == [o.name for o in runs[0].operations]]
    with exact_arithmetic():
        deadline = time.monotonic() + BUDGET
        sentence = (
            _first(_suspicions(alike[0], name), alike, name, deadline)
            or constant_factor(alike, name)
            or _pathwise(alike, name, deadline)
            or _first(_places(alike[0], name), alike, name, deadline)
        )
    if sentence:
        return sentence + (f" ({why})" if why else "")
    return constant_mistake(subject, runs[0].point, name) or why


def _first(suspicions: Iterator[Suspicion], runs: Sequence[ExactRun], name: str, deadline: float) -> str:
    for suspicion in suspicions:
        if time.monotonic() > deadline:
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
    yield from _links(run, name)


def _places(run: ExactRun, name: str) -> Iterator[Suspicion]:
    yield from _intermediate(run, name)
    yield from _extra_factor(run, name)


def _adjoint(run: ExactRun, replaced: Mapping[Ball, Any], name: str) -> Arrays:
    return true_gradient(adjoints(run.seeds, replaced), run.leaves[name])


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
        if operation.name != "add" or not any(_is_leaf(each, run, name) for each in operation.inputs):
            continue
        cotangent_ndim = np.ndim(operation.output)
        if cotangent_ndim != 2:
            continue

        def cotangent(r: ExactRun, k: int = k) -> Arrays:
            adjoint = adjoints(r.seeds)
            return true_gradient(adjoint, r.operations[k].output)

        line = _place(operation)
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


def _is_leaf(value: Any, run: ExactRun, name: str) -> bool:
    try:
        array, leaves = entries(value), entries(run.leaves[name])
    except Exception:
        return False
    return array.shape == leaves.shape and all(
        a is b for a, b in zip(array.reshape(-1), leaves.reshape(-1), strict=True)
    )


def _place(operation: Operation) -> str:
    return f" (line {operation.line} of forward)" if operation.line else ""


def _word(operation: Operation) -> str:
    ufunc, _, method = operation.name.partition(".")
    if not method:
        return f"np.{ufunc}"
    return {"add": "sum/mean", "maximum": "max"}.get(ufunc, f"{ufunc}.reduce")


def _active(value: Any) -> Arrays | None:
    try:
        array = entries(value)
    except Exception:
        return None
    return array if array.size and all(isinstance(b, Ball) and b.active for b in array.reshape(-1)) else None


def _arrays(run: ExactRun) -> Iterator[tuple[tuple[int, int], Arrays]]:
    """Yield the active arrays that operations read (k, i) and wrote (k, −1)."""
    for k, operation in enumerate(run.operations):
        for i, each in [*enumerate(operation.inputs), (-1, operation.output)]:
            array = _active(each)
            if array is not None:
                yield (k, i), array


def _fetch(run: ExactRun, place: tuple[int, int]) -> Arrays | None:
    operation = run.operations[place[0]]
    return _active(operation.output if place[1] < 0 else operation.inputs[place[1]])


def _links(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A wrong local derivative between two arrays of one shape: missing, at the wrong place, of the wrong branch."""
    arrays = list(_arrays(run))
    written = [
        (place, a) for place, a in arrays if place[1] < 0 and run.operations[place[0]].name not in ("matmul", "einsum")
    ]
    yield from _transposed_matmul(run, name)
    yield from _wrong_branch(run, name)
    for (k, _), output in written:
        operation = run.operations[k]
        sources: list[tuple[int, int]] = []
        seen: set[int] = set()
        for place, array in arrays:
            key = id(array.reshape(-1)[0])
            earlier = place[0] <= k and place != (k, -1) and array.reshape(-1)[0] is not output.reshape(-1)[0]
            if earlier and array.shape == output.shape and key not in seen:
                seen.add(key)
                sources.append(place)
        for source in sources[::-1][:6]:
            before = _fetch(run, source)
            if before is None or not _depends(output, before):
                continue
            for text, local in _local_derivatives(before, output, operation):
                yield Suspicion(
                    text + _place(operation),
                    lambda r, s=source, k=k, local=local: _relinked(r, s, k, local, name),
                )


def _depends(output: Arrays, source: Arrays) -> bool:
    """Tell whether the output was computed entry by entry from the source: else they have no derivative to miss."""
    pairs = zip(output.reshape(-1), source.reshape(-1), strict=True)
    return any(_reaches(after, before) for after, before in pairs)  # a masked entry is a constant


def _reaches(after: Ball, before: Ball) -> bool:
    seen, stack = set(), [after]
    while stack:
        each = stack.pop()
        if each is before:
            return True
        if each not in seen:
            seen.add(each)
            stack.extend(parent for parent, _ in each.parents)
    return False


def _wrong_branch(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A selection by np.where whose backward chooses the branch otherwise."""
    for k, operation in enumerate(run.operations):
        if operation.name == "where":
            yield Suspicion(
                f"the branch is chosen by the sign of the output, not by forward's condition{_place(operation)}",
                lambda r, k=k: _rebranched(r, k, name, lambda output, chosen: output > 0),
            )
            yield Suspicion(
                f"the branches are exchanged{_place(operation)}",
                lambda r, k=k: _rebranched(r, k, name, lambda output, chosen: not chosen),
            )


def _broadcast(array: Arrays, shape: Any) -> Arrays:
    return np.broadcast_to(array, shape)


def _rebranched(run: ExactRun, k: int, name: str, choose: Callable[[arb, bool], bool]) -> Arrays | None:
    operation = run.operations[k]
    output = entries(operation.output)
    condition, yes, no = (_broadcast(entries(each), output.shape) for each in operation.inputs)
    replaced = {}
    for spot in np.ndindex(*output.shape):
        branch = yes if choose(output[spot].value, bool(condition[spot].value != 0)) else no
        replaced[output[spot]] = ((branch[spot], 1),)
    return _adjoint(run, replaced, name)


def _relinked(run: ExactRun, source: tuple[int, int], k: int, local: Any, name: str) -> Arrays | None:
    before, after = _fetch(run, source), _fetch(run, (k, -1))
    if before is None or after is None or before.shape != after.shape:
        return None
    cotangent = adjoints(run.seeds)
    replaced = {
        o: ((z, local(z.value, o.value, cotangent.get(o, arb(0)))),)
        for z, o in zip(before.reshape(-1), after.reshape(-1), strict=True)
    }
    return _adjoint(run, replaced, name)


def _local_derivatives(before: Any, after: Arrays, operation: Operation) -> Iterator[tuple[str, Any]]:
    pairs = [(z.value, a.value) for z, a in zip(before.reshape(-1), after.reshape(-1), strict=True)]
    known = next((n for n, f in _KNOWN.items() if all(f(z).overlaps(a) for z, a in pairs)), None)
    what = known or _word(operation)
    yield f"the derivative of {what} is missing", lambda z, a, c: arb(1)
    if known == "the sigmoid":
        yield (
            "z·(1 − z) with the pre-activation z: the sigmoid's derivative is a·(1 − a), a = σ(z)",
            lambda z, a, c: z * (1 - z),
        )
        yield (
            "the sigmoid's derivative is taken at the activation: σ′(a), it must be σ′(z)",
            lambda z, a, c: _sig(a) * (1 - _sig(a)),
        )
        yield "the sigmoid's derivative lacks the factor 1 − a", lambda z, a, c: a
        yield "the sigmoid's derivative lacks the factor a", lambda z, a, c: 1 - a
    if known == "tanh":
        yield (
            "1 − z² with the pre-activation z: the derivative of tanh is 1 − a², a = tanh(z)",
            lambda z, a, c: 1 - z * z,
        )
        yield "the derivative of tanh is taken at the activation: 1 − tanh(a)²", lambda z, a, c: 1 - a.tanh() ** 2
        yield "the derivative of tanh is 1 − a², not 1 − a", lambda z, a, c: 1 - a
    if known == "the ReLU":
        yield "the ReLU's mask is taken from the gradient: it must be z > 0", lambda z, a, c: arb(1 if c > 0 else 0)
        yield "the ReLU's mask is inverted", lambda z, a, c: arb(0 if z > 0 else 1)
        yield "the ReLU's derivative is z instead of 1 for z > 0", lambda z, a, c: a


def _sig(v: arb) -> arb:
    return 1 / (1 + (-v).exp())


_KNOWN: Mapping[str, Callable[[arb], arb]] = {
    "the ReLU": lambda z: z if z > 0 else arb(0),
    "the sigmoid": _sig,
    "tanh": arb.tanh,
}


def _transposed_matmul(run: ExactRun, name: str) -> Iterator[Suspicion]:
    for k, operation in enumerate(run.operations):
        if operation.name != "matmul" or len(operation.inputs) != 2:
            continue
        shapes = [np.shape(each) for each in operation.inputs]
        if len(shapes[1]) == 2 and shapes[1][0] == shapes[1][1] and len(shapes[0]) == 2:
            yield Suspicion(
                "the weight is not transposed: the cotangent passes through W, it must pass through Wᵀ"
                + _place(operation),
                lambda r, k=k: _swapped_weight(r, k, name),
            )


def _swapped_weight(run: ExactRun, k: int, name: str) -> Arrays | None:
    left, right = (entries(each) for each in run.operations[k].inputs)
    output = entries(run.operations[k].output)
    if right.shape[0] != right.shape[1]:
        return run.yours[name]  # at these shapes the code would not run; the others decide
    replaced = {}
    for n, o in np.ndindex(*output.shape):
        links = [(left[n, i], right[o, i].value) for i in range(left.shape[1]) if left[n, i].active]
        links += [(right[i, o], left[n, i].value) for i in range(left.shape[1]) if right[i, o].active]
        replaced[output[n, o]] = tuple(links)
    return _adjoint(run, replaced, name)


def _intermediate(run: ExactRun, name: str) -> Iterator[Suspicion]:
    shape = run.yours[name].shape
    for place, array in _arrays(run):
        if array.shape == shape and place[1] < 0:
            operation = run.operations[place[0]]
            yield Suspicion(
                f"yours is the gradient with respect to the result of {_word(operation)}{_place(operation)}",
                lambda r, p=place: _cotangent_at(r, p),
            )


def _cotangent_at(run: ExactRun, place: tuple[int, int]) -> Arrays | None:
    array = _fetch(run, place)
    return None if array is None else true_gradient(adjoints(run.seeds), array)


def _factors(run: ExactRun) -> Iterator[tuple[str, Any]]:
    for n in run.point.inputs:
        if isinstance(run.point.inputs[n], np.ndarray) and run.point.inputs[n].dtype.kind == "f":
            yield n, lambda r, n=n: np.asarray(entries(_floats(r.point.inputs[n])))
    for k, operation in enumerate(run.operations):
        if _active(operation.output) is not None:
            yield f"the result of {_word(operation)}{_place(operation)}", lambda r, k=k: _fetch(r, (k, -1))


def _floats(value: Any) -> Any:
    out = np.empty(np.shape(value), dtype=object)
    for spot in np.ndindex(*out.shape):
        out[spot] = Ball(arb(float(value[spot])))
    return out


def _extra_factor(run: ExactRun, name: str) -> Iterator[Suspicion]:
    for text, fetch in _factors(run):
        yield Suspicion(f"an extra factor: {text}", lambda r, f=fetch: _product(r.true[name], f(r)))
        yield Suspicion(f"a missing factor: {text}", lambda r, f=fetch: _product(r.true[name], f(r), divide=True))


def _product(array: Arrays, factor: Any, divide: bool = False) -> Arrays | None:
    if factor is None:
        return None
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
        k for k, o in enumerate(run.operations) if o.name.endswith(".reduce") and _active(o.output) is not None
    ]
    for k in reductions:
        yield f"{_word(run.operations[k])}{_place(run.operations[k])}", (k,)
    if len(reductions) > 1:
        yield "the reductions", tuple(reductions)
    for k, operation in enumerate(run.operations):
        if k not in reductions and _active(operation.output) is not None and operation.name not in ("add", "subtract"):
            yield f"{_word(operation)}{_place(operation)}", (k,)


def _pathwise(runs: Sequence[ExactRun], name: str, deadline: float) -> str:
    """Name a path that is missing, counted twice, scaled, or carries an extra factor."""
    for what, group in _groups(runs[0]):
        if time.monotonic() > deadline:
            return ""
        parts = []
        for run in runs:
            cut = {b: () for k in group for b in (_fetch(run, (k, -1)),) if b is not None for b in b.reshape(-1)}
            rest = _adjoint(run, cut, name)
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
        for text, fetch in _factors(runs[0]):
            if all(_equals_product(e, p, fetch(run)) for run, p, e in parts):
                return f"an extra factor in the path through {what}: {text}"
    return ""


def _equals_product(extra: Arrays, path: Arrays, factor: Any) -> bool:
    product = _product(path, factor)
    return product is not None and same(extra, product)


def _difference(a: Arrays, b: Arrays) -> Arrays:
    return np.asarray(np.frompyfunc(lambda p, q: Ball(p.value - q.value), 2, 1)(a, b), dtype=object)


# What a person's own test could not have seen ------------------------------------------------------------------------
def _hidden_by(subject: Subject, sampler: Sampler, evidence: Evidence, seed: int) -> str:
    """Return the special inputs at which every refuted gradient is right though it is not 0."""
    wrong = [n for n in evidence.refuted if not evidence.refuted[n][1].why.get(n)]
    if not wrong:
        return ""
    words = _other_words(sampler, evidence, wrong[0])
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


def _special_settings(sampler: Sampler) -> Iterator[tuple[str, Special]]:
    """Yield settings that tests like, in words and as a change of a point (and of its upstream gradient)."""
    for kind in sampler.kinds:
        if kind.kind == "real" and kind.shape:

            def ones(point: Point, name: str = kind.name) -> tuple[Point, Any]:
                inputs = {**point.inputs, name: np.ones(np.shape(point.inputs[name]))}
                return replace(point, inputs=inputs), None

            yield f"{kind.name} is all ones", ones
    yield "the upstream gradient is all ones", lambda point: (point, lambda shapes: [np.ones(s) for s in shapes])
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
