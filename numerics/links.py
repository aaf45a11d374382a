"""Hypotheses on one link of the chain rule: a local derivative missing, taken elsewhere, or of another branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from flint import arb

from .exact_arrays import Operation
from .exact_scalars import Ball, adjoints
from .factors import name_factor
from .findings import show
from .subject import ExactRun, entries
from .tape_arrays import Arrays, active, active_arrays, adjoint_with, fetch, is_leaf, place_of, word_of
from .whole_gradients import Suspicion


def links(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A wrong local derivative between two arrays of one shape: missing, at the wrong place, of the wrong branch."""
    arrays = list(active_arrays(run))
    written = [
        (place, a) for place, a in arrays if place[1] < 0 and run.operations[place[0]].name not in ("matmul", "einsum")
    ]
    yield from _wrong_branch(run, name)
    yield from _other_masks(run, name, written)
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
            before = fetch(run, source)
            if before is None or not _depends(output, before):
                continue
            for text, local in _local_derivatives(before, output, operation, run):
                yield Suspicion(
                    text + place_of(operation),
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
                f"the branch is chosen by the sign of the output, not by forward's condition{place_of(operation)}",
                lambda r, k=k: _rebranched(r, k, name, lambda output, chosen: output > 0),
            )
            yield Suspicion(
                f"the branches are exchanged{place_of(operation)}",
                lambda r, k=k: _rebranched(r, k, name, lambda output, chosen: not chosen),
            )


def _other_masks(run: ExactRun, name: str, written: Sequence[Any]) -> Iterator[Suspicion]:
    """A ReLU whose mask is taken from another array of its shape."""
    for (k, _), output in written:
        operation = run.operations[k]
        sources = [each for each in operation.inputs if active(each) is not None and np.shape(each) == output.shape]
        if operation.name not in ("maximum", "where") or not sources:
            continue
        for other, value in run.point.inputs.items():
            if np.shape(value) == output.shape and not is_leaf(sources[-1], run, other):
                yield Suspicion(
                    f"the ReLU's mask is taken from {other}: it must be taken from what the ReLU is applied to"
                    + place_of(operation),
                    lambda r, k=k, o=other: _masked_by(r, k, o, name),
                )


def _masked_by(run: ExactRun, k: int, other: str, name: str) -> Arrays | None:
    operation = run.operations[k]
    output, mask = entries(operation.output), run.point.inputs[other]
    source = next((s for s in map(active, operation.inputs) if s is not None and s.shape == output.shape), None)
    if source is None or np.shape(mask) != output.shape:
        return run.yours[name] if source is not None else None  # at these shapes the code would not run
    spots = np.ndindex(*output.shape)
    return adjoint_with(run, {output[s]: ((source[s], 1),) if mask[s] > 0 else () for s in spots}, name)


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
    return adjoint_with(run, replaced, name)


def _relinked(run: ExactRun, source: tuple[int, int], k: int, local: Any, name: str) -> Arrays | None:
    before, after = fetch(run, source), fetch(run, (k, -1))
    if before is None or after is None or before.shape != after.shape:
        return None
    cotangent = adjoints(run.seeds)
    replaced = {
        o: ((z, local(z.value, o.value, cotangent.get(o, arb(0)))),)
        for z, o in zip(before.reshape(-1), after.reshape(-1), strict=True)
    }
    return adjoint_with(run, replaced, name)


def _local_derivatives(before: Any, after: Arrays, operation: Operation, run: ExactRun) -> Iterator[tuple[str, Any]]:
    known = known_function(before, after)
    yield _missing(known, operation, run), lambda z, a, c: arb(1)
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


def known_function(before: Arrays, after: Arrays) -> str | None:
    """Return the name of the activation that leads from one array to another, entry by entry."""
    pairs = [(z.value, a.value) for z, a in zip(before.reshape(-1), after.reshape(-1), strict=True)]
    return next((n for n, f in _KNOWN.items() if all(f(z).overlaps(a) for z, a in pairs)), None)


def _missing(known: str | None, operation: Operation, run: ExactRun) -> str:
    """Say which derivative is missing: of a product with a number it is a factor that a reader looks for."""
    ufunc = operation.name
    if known is None and ufunc in ("divide", "multiply") and len(operation.inputs) == 2:
        factor = _constant_operand(operation, run)
        if factor and (ufunc == "multiply" or active(operation.inputs[0]) is not None):
            return f"the factor {'1/' * (ufunc == 'divide')}{factor} is missing"
    if known is None and ufunc == "multiply":
        factor = _other_factor(operation, run)
        if factor:
            return f"the factor {factor} is missing"
    if ufunc in ("subtract", "negative"):
        return "the minus sign is lost: the derivative of c − x is −1"
    if ufunc == "where":
        return "the mask of np.where is missing: what the other branch decides is passed on too"
    return f"the derivative of {known or word_of(operation)} is missing"


def _constant_operand(operation: Operation, run: ExactRun) -> str:
    """Return the one number that an operation combines an array with, in the words of the inputs or as a decimal."""
    for each in operation.inputs:
        if active(each) is None:
            found = [ball.value for ball in entries(each).reshape(-1)]
            if found and all(value.overlaps(found[0]) for value in found):
                return name_factor([found[0]], [run.point]) or show(found[0])
    return ""


def _other_factor(operation: Operation, run: ExactRun) -> str:
    """Name the operand of a product beside the one that a gradient passes through: an input, or a result."""
    for each in operation.inputs:
        for name, value in run.point.inputs.items():
            if name not in run.true and np.ndim(each) and np.shape(value) == np.shape(each) and _equal(each, value):
                return name
    made = [o for each in operation.inputs for o in run.operations if o is not operation and _result(o.output, each)]
    return f"that {word_of(made[0])} gives{place_of(made[0])}" if len(made) == 1 else ""


def _equal(array: Any, value: Any) -> bool:
    return all(b.value == arb(float(v)) for b, v in zip(entries(array).flat, np.ravel(value), strict=True))


def _result(output: Any, operand: Any) -> bool:
    """Tell whether an operand is the result of an operation itself."""
    if not np.ndim(operand) or np.shape(output) != np.shape(operand):
        return False
    return all(a is b for a, b in zip(entries(output).flat, entries(operand).flat, strict=True))


def _sig(v: arb) -> arb:
    return 1 / (1 + (-v).exp())


_KNOWN: Mapping[str, Callable[[arb], arb]] = {
    "the ReLU": lambda z: z if z > 0 else arb(0),
    "the sigmoid": _sig,
    "tanh": arb.tanh,
}


def transposed_matmul(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Yield for each product with a square matrix that it is not transposed."""
    for k, operation in enumerate(run.operations):
        if operation.name != "matmul" or len(operation.inputs) != 2:
            continue
        shapes = [np.shape(each) for each in operation.inputs]
        if len(shapes[1]) == 2 and shapes[1][0] == shapes[1][1] and len(shapes[0]) == 2:
            yield Suspicion(
                "the weight is not transposed: the cotangent passes through W, it must pass through Wᵀ"
                + place_of(operation),
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
    return adjoint_with(run, replaced, name)
