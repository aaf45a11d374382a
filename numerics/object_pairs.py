"""An object with state as a pair of functions of arrays: each call works on a copy with the given arrays put in."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .exact_arrays import ExactArray
from .exact_scalars import Element
from .probing import dyadic
from .stateful import (
    FORWARD,
    RATE,
    _call,
    _call_backward,
    _fetch,
    _method,
    _put,
    _required,
    arrays,
    exact_attributes,
    recognise,
)


def scopes(value: Any) -> list[dict[str, Any]]:
    """Return the globals of the methods of an object and of the objects it holds."""
    found: list[dict[str, Any]] = []
    seen: set[int] = set()

    def visit(each: Any, depth: int) -> None:
        if id(each) in seen or depth > 5:
            return
        seen.add(id(each))
        for base in type(each).__mro__:
            for method in vars(base).values():
                names = getattr(inspect.unwrap(method) if callable(method) else method, "__globals__", None)
                if isinstance(method, types.FunctionType) and names is not None and not any(names is f for f in found):
                    found.append(names)
        if isinstance(each, types.FunctionType) and not any(each.__globals__ is f for f in found):
            found.append(each.__globals__)
        children = each.values() if isinstance(each, dict) else each if isinstance(each, (list, tuple)) else ()
        for child in (*children, *getattr(each, "__dict__", {}).values()):
            if not isinstance(child, (np.ndarray, str, int, float, type(None), types.ModuleType)):
                visit(child, depth + 1)

    visit(value, 0)
    return found


@dataclass(frozen=True)
class ObjectPair:
    """The functions that stand for an object, with example inputs and what there is a gradient for."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: dict[str, Any]
    wrt: tuple[str, ...]
    notes: tuple[str, ...] = ()
    suspect: Callable[[Any, Any], str] | None = None


def object_pair(value: Any, inputs: Mapping[str, Any], loss: Callable[..., Any] | None = None) -> ObjectPair:
    """Return forward and backward as functions of the inputs and of the parameters of an object.

    ``loss(prediction, target)`` is applied to the output where ``backward`` takes no upstream gradient.
    """
    target = _target(value, inputs) if loss is not None else ""
    applied = None
    if loss is not None:

        def applied(instance: Any, output: Any, given: Mapping[str, Any]) -> Any:  # fmt: skip
            return loss(output, given[target])

    slots = recognise(value, inputs, applied)
    pristine = copy.deepcopy(value)
    held = dict(arrays(pristine))
    buffers = {n: where for n, (kind, where) in slots.found.items() if kind == "attribute" and where in held}
    rng = np.random.default_rng(1)  # weights of 0.5 are no probabilities: only their shapes are examples
    shapes = {n: np.shape(_fetch(pristine, p[0])) for n, p in slots.parameters.items()}
    every = {**dict(inputs), **{n: np.asarray(dyadic(rng, shape)) for n, shape in shapes.items()}}

    def instance(given: Mapping[str, Any]) -> Any:
        made = copy.deepcopy(pristine)
        if any(isinstance(v, (ExactArray, Element)) for v in given.values()):  # buffers must hold exact numbers too
            exact_attributes(made)
        for name, paths in slots.parameters.items():
            array = given[name].copy() if hasattr(given[name], "copy") else given[name]
            for path in paths:
                _put(made, path, array)
            symbolic = hasattr(array, "places")
            if name in buffers and (symbolic or np.shape(_fetch(made, buffers[name])) != np.shape(array)):
                _put(made, buffers[name], np.zeros_like(array))
        return made

    def forward(**given: Any) -> Any:
        made = instance(given)
        output = _call(made, slots, given)
        return output if slots.loss is None else slots.loss(made, output, given)

    def backward(upstream: Any = None, **given: Any) -> Any:
        made = instance(given)
        _call(made, slots, given)
        returned = _call_backward(made, slots, upstream, given)
        rate: Any = RATE if slots.rate == "argument" else None
        if isinstance(slots.rate, tuple):
            rate = _fetch(made, slots.rate)
        return {name: _read(made, place, returned, given[name], rate) for name, place in slots.found.items()}

    names = list(every)
    first = [inspect.Parameter("upstream", inspect.Parameter.POSITIONAL_ONLY)] if slots.upstream else []
    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names]
    forward.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    backward.__signature__ = inspect.Signature([*first, *keywords])  # type: ignore[attr-defined]
    places = scopes(value) + ([vars_of(loss)] if loss is not None else [])
    forward.__exact_scopes__ = backward.__exact_scopes__ = places  # type: ignore[attr-defined]
    forward.__name__ = backward.__name__ = type(value).__name__
    left = [n for n in slots.parameters if n not in slots.found]
    notes = (f"no gradient found for {', '.join(left)}: held constant",) if left else ()
    updated = [n for n, (kind, _) in slots.found.items() if kind == "update"]
    suspect = (
        functools.partial(_updated_first, updated, RATE if slots.rate == "argument" else None) if updated else None
    )
    return ObjectPair(forward, backward, every, tuple(n for n in names if n in slots.found), notes, suspect)


def _updated_first(updated: Sequence[str], rate: float | None, subject: Any, run: Any) -> str:
    """Say so if what is wrong is right for the weights after the update: they were updated before they were used."""
    from .subject import run_exact

    if rate is None:
        return ""
    inputs = dict(run.point.inputs)
    for name in updated:
        true = run.true[name]
        moved = [float(v) - rate * float(t.value.mid()) for v, t in zip(inputs[name].reshape(-1), true.reshape(-1))]
        inputs[name] = np.array(moved).reshape(inputs[name].shape)
    try:
        after = run_exact(subject, replace(run.point, inputs=inputs), upstream=run.upstream, only_true=True)
    except Exception:
        return ""
    wrong = [n for n in subject.wrt if n not in updated and run.yours.get(n) is not None]
    for name in wrong:
        mine = np.array([float(b.value.mid()) for b in run.yours[name].reshape(-1)])
        then = np.array([float(b.value.mid()) for b in after.true[name].reshape(-1)])
        now = np.array([float(b.value.mid()) for b in run.true[name].reshape(-1)])
        if mine.shape == then.shape and np.allclose(mine, then, rtol=1e-9) and not np.allclose(mine, now, rtol=1e-6):
            return (
                f"{name}: computed with the weights after their update ({', '.join(updated)}): take the gradient first"
            )
    return ""


def vars_of(function: Any) -> dict[str, Any]:
    """Return the globals of a function (of any callable: an empty scope)."""
    return getattr(inspect.unwrap(function), "__globals__", {})


def _target(value: Any, inputs: Mapping[str, Any]) -> str:
    forward = _method(value, FORWARD)
    used = _required(getattr(value, forward)) if forward else []
    left = [n for n in inputs if n not in used]
    if len(left) != 1:
        raise InputError(
            f"{type(value).__name__}: the loss needs one target beside {', '.join(used)}: give it in inputs=, such as y"
        )
    return left[0]


def _read(made: Any, place: Any, returned: Any, before: Any, rate: Any) -> Any:
    kind, where = place
    if kind == "attribute":
        return _fetch(made, where)
    if kind == "update":
        return (before - _fetch(made, where)) / rate
    return returned if where is None else returned[where]
