"""The inputs of a check: read from shapes or examples, narrowed to where forward is defined, and the points to run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .probing import InputKind, Point, Sampler, kind_of, other_shapes, shortened, word_options
from .subject import ForwardFailed, Subject, forward_floats, run_floats

#: More entries than this in one input: the check moves to shorter axes where forward allows it.
MANY_ENTRIES = 400


def read_kinds(
    shapes: Mapping[str, Sequence[int]] | None, inputs: Mapping[str, Any] | None, forward: Any
) -> tuple[list[InputKind], dict[str, Any] | None]:
    """Read the kinds of the inputs from shapes and examples, in the order of forward's parameters."""
    if shapes is None and inputs is None:
        if forward is None:
            return [], None
        raise InputError("give shapes={'x': (3, 4), …} or example inputs={'x': x, …}")
    kinds = {}
    for name, shape in (shapes or {}).items():
        try:
            sizes = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)
        except (TypeError, ValueError):
            raise InputError(f"shape of {name!r}: expected integers such as (3, 4), got {shape!r}") from None
        if any(n < 1 for n in sizes):
            raise InputError(f"shape of {name!r}: every size must be at least 1, got {sizes}")
        kinds[name] = InputKind(name, "real", sizes)
    for name, value in (inputs or {}).items():
        kind = kind_of(name, value)
        if any(n < 1 for n in kind.shape):
            raise InputError(f"input {name!r} is empty (shape {kind.shape}): give at least one entry")
        kinds[name] = kind
    order = _parameter_order(forward, list(kinds))
    return [kinds[n] for n in order], dict(inputs) if inputs else None


def _parameter_order(forward: Any, names: list[str]) -> list[str]:
    """Order the inputs as forward's signature does, and refuse names it does not have."""
    if forward is None:
        return names
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return names
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in names:
            if name not in parameters:
                raise InputError(f"forward has no argument {name!r}: it takes {', '.join(parameters)}")
    for p in parameters.values():
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in names:
            raise InputError(f"forward needs {p.name!r}: give its shape or an example")
    return sorted(names, key=lambda n: list(parameters).index(n) if n in parameters else len(parameters))


def check_wrt(wanted: Sequence[str], kinds: Sequence[InputKind]) -> None:
    """Refuse names in ``wrt`` that are no real input."""
    table = {k.name: k for k in kinds}
    for name in wanted:
        if name not in table:
            raise InputError(f"wrt names {name!r}, which is no input: {', '.join(table)}")
        if table[name].kind in ("integer", "boolean", "fixed"):
            raise InputError(f"wrt names {name!r}, which is {table[name].kind}: no derivative is defined")
    if not wanted:
        raise InputError("no input is a real array: nothing to differentiate by")


def valid_sampler(subject: Subject, sampler: Sampler, seed: int) -> Sampler:
    """Narrow real inputs to positive numbers, or to (0, 1), if forward is not defined elsewhere; shorten long axes."""
    sampler = _shorter(subject, sampler, seed)
    trials = [sampler, sampler.narrowed("positive"), sampler.narrowed("unit")]
    fitting = [trial for trial in trials if _defined(subject, trial.point(seed))]
    return next((trial for trial in fitting if _defined_when_varied(subject, trial, seed)), (fitting or trials)[0])


def _defined_when_varied(subject: Subject, sampler: Sampler, seed: int) -> bool:
    """Tell whether forward is finite at other hyper-parameters too: (1 − p)^γ is, for p < 1, where γ is no integer."""
    try:
        return all(_defined(subject, sampler.point(seed + 50 + k, vary=True)) for k in range(2))
    except InputError:
        return True  # forward refuses those values itself


def _defined(subject: Subject, point: Point) -> bool:
    if subject.theory:
        return True
    try:
        outputs = forward_floats(subject, point)
        return all(np.isfinite(np.asarray(o, dtype=float)).all() for o in outputs)
    except ForwardFailed:
        raise
    except (TypeError, ValueError):
        return True
    except Exception as error:
        raise InputError(f"forward raised {type(error).__name__}: {error}") from None


def _shorter(subject: Subject, sampler: Sampler, seed: int) -> Sampler:
    shapes = sampler.shape_map()
    if max((int(np.prod(s)) for s in shapes.values()), default=0) <= MANY_ENTRIES:
        return sampler
    small = sampler.resized(shortened(shapes))
    if subject.theory:
        return small
    try:
        forward_floats(subject, small.point(seed))
    except Exception:
        return sampler
    return small


def example_point(values: Mapping[str, Any] | None, sampler: Sampler, names: Sequence[str]) -> Point | None:
    """Return the person's own inputs as the first point, if they are complete and small enough."""
    if not values or set(values) != set(names):
        return None
    inputs = {n: np.asarray(v) if isinstance(v, (np.ndarray, list, float)) else v for n, v in values.items()}
    inputs = {n: v.astype(float) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v for n, v in inputs.items()}
    if any(np.shape(v) != k.shape for k in sampler.kinds if k.kind != "fixed" for v in [inputs[k.name]]):
        return None
    inputs |= {k.name: summing_to_one(inputs[k.name]) for k in sampler.kinds if k.kind == "probability"}
    return Point({n: inputs[n] for n in names}, dict(sampler.options), "example")


def summing_to_one(rows: Any) -> Any:
    """Return probabilities as multiples of 2⁻⁴⁰ whose rows sum to one exactly, not up to the rounding of floats.

    >>> bool(summing_to_one(np.array([[0.1, 0.2, 0.7]])).sum() == 1)
    True
    """
    rows = np.asarray(rows, dtype=float)
    whole = np.where(rows > 0, np.maximum(np.rint(rows * 2.0**40), 1), 0)
    largest = np.expand_dims(np.argmax(whole, axis=-1), -1)
    rest = 2.0**40 - whole.sum(-1, keepdims=True)
    np.put_along_axis(whole, largest, np.take_along_axis(whole, largest, -1) + rest, -1)
    return whole / 2.0**40


def formula_points(subject: Subject, sampler: Sampler, example: Point | None, seed: int, count: int) -> Iterator[Point]:
    """Yield the points of the formula finding: generic, other scales, other shapes, other hyper-parameters."""
    for k in range(count):
        yield sampler.point(seed + k, scale=(1.0, 1.0, 0.25, 4.0)[k % 4])
    if example is not None:
        yield example
    shared = subject.any_keyword or subject.cached or any(n in subject.keywords for n in sampler.options)
    if sampler.options and shared:
        passed = sampler.options if subject.cached else subject.options_of(sampler.options)
        kept = Sampler(sampler.kinds, passed)
        for k in range(2):
            yield kept.point(seed + 50 + k, vary=True, label="hyper-parameters varied")
        for words in word_options(subject.forward, passed):
            point = sampler.point(seed + 60)
            trial = Point(point.inputs, {**point.options, **words}, f"{words}", point.seed)
            if _runs(subject, trial):
                yield trial
    shapes = sampler.shape_map()

    def works(changed: Mapping[str, tuple[int, ...]]) -> bool:
        return subject.theory or _runs(subject, sampler.resized(changed).point(seed))

    def fits(changed: Mapping[str, tuple[int, ...]]) -> bool:
        return subject.theory or _fits(subject, sampler.resized(changed).point(seed))

    for changed in other_shapes(shapes, works, fits):
        for k in range(3):  # a dead unit may hide an axis at one point
            yield sampler.point(seed + 70 + k, shapes=changed, label="other shapes")


def _fits(subject: Subject, point: Point) -> bool:
    """Tell whether backward returns a gradient of the shape of each input."""
    try:
        upstream = [np.ones(np.shape(o)) for o in forward_floats(subject, point)]
        returned = run_floats(subject, point, upstream, "float64").gradients
    except Exception:
        return False
    return all(np.shape(returned[n]) == np.shape(point.inputs[n]) for n in subject.wrt)


def _runs(subject: Subject, point: Point) -> bool:
    try:
        return all(o is not None for o in forward_floats(subject, point))
    except Exception:
        return False
