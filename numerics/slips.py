"""Hypotheses on slips of array code: gradients overwritten, accumulated the wrong way round, over the wrong axis.

Also a divisor that is no longer an array, a mask decided without one of the inputs, and a root whose value is another.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from flint import arb

from .exact_scalars import Ball, adjoints
from .subject import ExactRun, Subject, entries, run_exact
from .tape_arrays import Arrays, active, adjoint_with, fetch, place_of
from .whole_gradients import Suspicion


def slips(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Yield the slips that the operations of a run offer."""
    if _used_alike(run, name):
        yield from overwritten(name)
    yield from _rows_in_one(name)
    yield from _accumulated_backwards(run, name)
    yield from _other_axis(run, name)
    yield from _uniform_divisor(run, name)
    yield from _other_root(run, name)


# Entries that are used more than once --------------------------------------------------------------------------------
def _used_alike(run: ExactRun, name: str) -> bool:
    """Tell whether entries are used in a loop or by a repeated index; two uses of two kinds are two paths."""
    uses = _uses(run, name).values()
    places = {(o.name, o.line) for each in uses for k in each for o in run.operations[k : k + 1]}
    most = max(map(len, uses), default=0)
    return (not places and most > 1) or (len(places) == 1 and most > 2)


def overwritten(name: str) -> Iterator[Suspicion]:
    """``dW[i] = d`` or ``dW[i] += d`` with an index that holds duplicates: one use of each entry counts."""
    for which, k in (("last", -1), ("first", 0)):
        yield Suspicion(
            f"only the {which} use of each entry counts: its gradients are overwritten, they must be added "
            "(+=, or np.add.at where an index repeats)",
            lambda r, k=k: _one_use(r, name, k),
        )


def _one_use(run: ExactRun, name: str, which: int) -> Arrays | None:
    """Return the gradient made of one use of each entry, in the order of forward's operations."""
    uses = _uses(run, name)
    leaves = run.leaves[name]
    out = np.empty(np.shape(leaves), dtype=object)
    spots = entries(leaves)
    for spot in np.ndindex(*out.shape):
        found = sorted(uses.get(spots[spot], {}).items())
        out[spot] = Ball(found[which][1] if found else arb(0))
    return out


def _uses(run: ExactRun, name: str) -> dict[Ball, dict[int, arb]]:
    """Return the shares of each leaf's gradient: of every operation, and entry of the output, that read it."""
    ends = [max((b.index for b in _balls(o.output)), default=-1) for o in run.operations]
    ends = list(np.maximum.accumulate(ends)) if ends else []
    leaves = {id(b) for b in entries(run.leaves[name]).reshape(-1)}
    shares: dict[Ball, dict[int, arb]] = {}
    adjoint = adjoints(run.seeds)
    for child, incoming in adjoint.items():
        step = bisect.bisect_left(ends, child.index)
        for parent, partial in child.parents:
            if id(parent) in leaves:
                into = shares.setdefault(parent, {})
                into[step] = into.get(step, arb(0)) + incoming * partial
    for k, (ball, seed) in enumerate(run.seeds):
        if id(ball) in leaves:
            shares.setdefault(ball, {})[len(ends) + 1 + k] = seed
    return shares


def _balls(value: Any) -> list[Ball]:
    found = active(value)
    return [] if found is None else list(found.reshape(-1))


def _rows_in_one(name: str) -> Iterator[Suspicion]:
    """A kernel that advances the pointer of what it reads, and not of what it writes."""
    for to, source in ((0, -1), (0, 0), (-1, -1)):
        words = {0: "the first", -1: "the last"}
        yield Suspicion(
            f"every row is written to {words[to]} row, where {words[source]} one stays: the row's index is missing",
            lambda r, t=to, s=source: _in_one_row(r.true[name], t, s),
        )


def _in_one_row(true: Arrays, to: int, source: int) -> Arrays | None:
    if not true.ndim:
        return None
    out = np.frompyfunc(lambda ball: Ball(arb(0)), 1, 1)(true)
    out[to] = true[source]
    return np.asarray(out, dtype=object)


def left_out(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A loop that ends too early: what is written is right, the rest stays 0."""
    yield Suspicion("right in some entries and 0 in the others: they are never written", lambda r: _partly(r, name))


def _partly(run: ExactRun, name: str) -> Arrays | None:
    yours, true = run.yours[name], run.true[name]
    if yours.shape != true.shape:
        return None
    pairs = list(zip(yours.flat, true.flat, strict=True))
    some = any(y.value.overlaps(t.value) and not t.value.contains(0) for y, t in pairs)
    if not some and run.point.label == "generic":
        return None
    return np.asarray(np.frompyfunc(lambda y, t: y if y.value == 0 else t, 2, 1)(yours, true), dtype=object)


# Sums ----------------------------------------------------------------------------------------------------------------
def _accumulated_backwards(run: ExactRun, name: str) -> Iterator[Suspicion]:
    for k, operation in enumerate(run.operations):
        if operation.name == "add.accumulate":
            yield Suspicion(
                "the cotangent is accumulated from the same end as forward does: it must be accumulated in reverse "
                f"order{place_of(operation)}",
                lambda r, k=k: _reversed_sums(r, k, name),
            )


def _reversed_sums(run: ExactRun, k: int, name: str) -> Arrays | None:
    operation = run.operations[k]
    before, after = active(operation.inputs[0]), active(operation.output)
    if before is None or after is None or before.shape != after.shape:
        return None
    axis = int(dict(operation.options)["axis"])
    sources, sums = np.moveaxis(before, axis, 0), np.moveaxis(after, axis, 0)
    replaced = {}
    for spot in np.ndindex(*sums.shape):
        rest = spot[1:]
        # the first of the sums is the entry itself: to take its adjoint apart from the entry's own, skip that link
        replaced[sums[spot]] = tuple((sources[(j, *rest)], 1) for j in range(spot[0], len(sources)))
    if any(sums[(0, *rest)] is sources[(0, *rest)] for rest in np.ndindex(*sums.shape[1:])):
        return _summed_by_hand(run, sums, sources, axis, name)
    return adjoint_with(run, replaced, name)


def _summed_by_hand(run: ExactRun, sums: Arrays, sources: Arrays, axis: int, name: str) -> Arrays | None:
    """The same where the first sum is the first entry: cut all sums off the tape and add what each entry is due."""
    cut: dict[Ball, Any] = dict.fromkeys(sums[1:].reshape(-1), ())
    cotangent = adjoints(run.seeds, cut)
    zero = arb(0)
    extra = []
    for spot in np.ndindex(*sources.shape):
        rest = spot[1:]
        due = sum((cotangent.get(sums[(i, *rest)], zero) for i in range(spot[0] + 1)), zero)
        own = cotangent.get(sources[spot], zero) if spot[0] == 0 else zero
        extra.append((sources[spot], due - own))
    seeds = (*run.seeds, *extra)
    return adjoint_with(replace(run, seeds=seeds), cut, name)


def _other_axis(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """The softmax's ``p·(dy − Σ dy·p)`` with the sum over another axis, or over all."""
    shape = run.true[name].shape
    if len(run.outputs) != 1 or entries(run.outputs[0]).shape != shape or len(shape) < 2:
        return
    for axis in (*range(len(shape)), None):
        over = f"axis {axis}" if axis is not None else "all axes"
        yield Suspicion(
            f"Σ dy·y of the softmax is taken over {over}: it must be the axis that forward normalises",
            lambda r, a=axis: _softmax_like(r, a),
        )


def _softmax_like(run: ExactRun, axis: int | None) -> Arrays | None:
    output = np.frompyfunc(lambda ball: ball.value, 1, 1)(entries(run.outputs[0]))
    upstream = np.frompyfunc(lambda u: arb(float(u)), 1, 1)(np.asarray(run.upstream[0]))
    total = np.sum(output * upstream, axis=axis, keepdims=True)
    return np.asarray(np.frompyfunc(Ball, 1, 1)(output * (upstream - total)), dtype=object)


# Values --------------------------------------------------------------------------------------------------------------
def _uniform_divisor(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """An array of counts (of windows at a border) for which backward takes one number."""
    for k, operation in enumerate(run.operations):
        if operation.name != "divide" or active(operation.inputs[0]) is None or not np.ndim(operation.inputs[1]):
            continue
        if active(operation.inputs[1]) is not None:
            continue
        counts = sorted({float(b.value) for b in entries(operation.inputs[1]).reshape(-1)})
        for count in counts[::-1] if len(counts) > 1 else ():
            yield Suspicion(
                f"divided by {count:g} everywhere: forward divides by an array that has other entries too"
                f"{place_of(operation)}",
                lambda r, k=k, c=count: _divided_by(r, k, c, name),
            )


def _divided_by(run: ExactRun, k: int, count: float, name: str) -> Arrays | None:
    above, after = active(run.operations[k].inputs[0]), active(run.operations[k].output)
    if above is None or after is None:
        return None
    above = np.broadcast_to(above, after.shape)
    links = {after[s]: ((above[s], 1 / arb(count)),) for s in np.ndindex(*after.shape)}
    return adjoint_with(run, links, name)


def _other_root(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """``√v + ε`` for ``√(v + ε)``, or no ε: the value of the root is another, its derivative follows the value."""
    sums = {id(b): k for k, o in enumerate(run.operations) if o.name == "add" for b in _balls(o.output)}
    for k, operation in enumerate(run.operations):
        below = _balls(operation.inputs[0]) if operation.name == "sqrt" else []
        source = sums.get(id(below[0])) if below else None
        if source is None or all(active(each) is not None for each in run.operations[source].inputs):
            continue
        yield Suspicion(
            f"√v + ε is taken for forward's √(v + ε): ε belongs under the root{place_of(operation)}",
            lambda r, k=k, s=source: _with_root(r, k, s, name, inside=False),
        )
        yield Suspicion(
            f"the number added under the root is missing{place_of(operation)}",
            lambda r, k=k, s=source: _with_root(r, k, s, name, inside=None),
        )


def _with_root(run: ExactRun, k: int, source: int, name: str, *, inside: bool | None) -> Arrays | None:
    """Return the gradient with another value of a root, in every local derivative that reads it.

    The partial derivatives on the tape are numbers already, so those of quotients and products with the root are
    written anew: ``a/s`` has 1/s and −a/s².
    """
    added = [e for e in run.operations[source].inputs if active(e) is None]
    below, roots = fetch(run, (k, 0)), fetch(run, (k, -1))
    if below is None or roots is None or not added:
        return None
    constant: Arrays = np.broadcast_to(entries(added[0]), roots.shape)
    value: dict[Ball, arb] = {}
    for spot in np.ndindex(*roots.shape):
        eps = constant[spot].value
        value[roots[spot]] = (below[spot].value - eps).sqrt() + (0 if inside is None else eps)
    replaced: dict[Ball, Any] = {b: tuple((p, 1 / (2 * v)) for p, _ in b.parents) for b, v in value.items()}
    for operation in run.operations[k + 1 :]:
        if operation.name not in ("divide", "multiply") or len(operation.inputs) != 2:
            continue
        output = active(operation.output)
        if output is None:
            continue
        left: Arrays
        right: Arrays
        left, right = (np.broadcast_to(entries(each), output.shape) for each in operation.inputs)
        for spot in np.ndindex(*output.shape):
            a, b = left[spot], right[spot]
            if a in value or b in value or output[spot] in value:
                p, q = value.get(a, a.value), value.get(b, b.value)
                over = operation.name == "divide"
                links = ((a, 1 / q if over else q), (b, -p / (q * q) if over else p))
                replaced[output[spot]] = tuple(link for link in links if link[0].active)
                value[output[spot]] = p / q if over else p * q
    return adjoint_with(run, replaced, name)


def masks_without(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A ReLU or a hinge whose condition leaves out an input (the label), while its branch has it."""
    for k, operation in enumerate(run.operations):
        if operation.name not in ("maximum", "minimum", "where"):
            continue
        for other, value in run.point.inputs.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and other != name:
                yield Suspicion(
                    f"the condition of np.{operation.name} is decided without {other}{place_of(operation)}",
                    lambda r, k=k, o=other: _decided_without(subject, r, k, o, name),
                )


def _decided_without(subject: Subject, run: ExactRun, k: int, other: str, name: str) -> Arrays | None:
    point = replace(run.point, inputs={**run.point.inputs, other: np.ones_like(run.point.inputs[other])})
    try:
        changed = run_exact(subject, point, upstream=_given(run), record=True, only_true=True)
    except Exception:
        return None
    if k >= len(changed.operations) or changed.operations[k].name != run.operations[k].name:
        return None
    operation, twin = run.operations[k], changed.operations[k]
    output, there = entries(operation.output), entries(twin.output)
    if output.shape != there.shape:
        return None
    options: list[Arrays] = [np.broadcast_to(entries(each), output.shape) for each in operation.inputs[-2:]]
    twins: list[Arrays] = [np.broadcast_to(entries(each), output.shape) for each in twin.inputs[-2:]]
    replaced: dict[Ball, Any] = {}
    for spot in np.ndindex(*output.shape):
        taken = 0 if _is(there[spot], twins[0][spot]) else 1
        chosen = options[taken][spot]
        if output[spot].active and not output[spot].leaf and not any(output[spot] is o[spot] for o in options):
            replaced[output[spot]] = ((chosen, 1),) if chosen.active else ()
        elif not _is(output[spot], chosen):
            return _rewired(run, output, options, there, twins, name)
    return adjoint_with(run, replaced, name)


def _is(a: Ball, b: Ball) -> bool:
    return a is b or bool(a.value == b.value)


def _rewired(run: ExactRun, output: Arrays, options: Any, there: Arrays, twins: Any, name: str) -> Arrays | None:
    """Add what the other branch would pass on: only for outputs that a branch hands through as it is."""
    cotangent = adjoints(run.seeds)
    extra = []
    for spot in np.ndindex(*output.shape):
        taken = 0 if _is(there[spot], twins[0][spot]) else 1
        now = 0 if _is(output[spot], options[0][spot]) else 1
        if taken != now and output[spot].active:
            share = cotangent.get(output[spot], arb(0))
            extra.append((output[spot], -share))
            if options[taken][spot].active:
                extra.append((options[taken][spot], share))
        elif taken != now:
            return None  # the entry that forward cut off is a constant on the tape: its cotangent is not known
    return adjoint_with(replace(run, seeds=(*run.seeds, *extra)), {}, name)


def _given(run: ExactRun) -> Any:
    return run.upstream[0] if len(run.upstream) == 1 else tuple(run.upstream)
