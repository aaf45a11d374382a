"""The inputs a check is made with: their kinds, random points, other shapes, exact and adversarial points.

Every real number drawn is a short dyadic (at most 20 bits), so that float32, float64 and the exact run see the same
point.  One-hot rows, probabilities, integers and booleans stay what they are.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..theory.errors import InputError

#: Kinds of input, from what an example shows; "real" may be narrowed to "positive" or "unit" if forward needs it.
KINDS = ("real", "positive", "unit", "probability", "one_hot", "binary", "sign", "integer", "boolean", "fixed")
#: Axes longer than this are shortened where the code allows it: exact arithmetic is entry by entry.
LONG_AXIS = 6


@dataclass(frozen=True)
class InputKind:
    """How one input is drawn: its kind, shape, for integers the largest value and the negative ones (−100: ignored)."""

    name: str
    kind: str
    shape: tuple[int, ...]
    high: int = 0
    value: Any = None
    negative: tuple[int, ...] = ()

    @property
    def continuous(self) -> bool:
        return self.kind in ("real", "positive", "unit", "probability")


@dataclass(frozen=True)
class Point:
    """One set of inputs (plain NumPy arrays and Python values) with hyper-parameters, and where it came from."""

    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    label: str
    seed: int = 0


def kind_of(name: str, value: Any) -> InputKind:
    """Read the kind of an input from an example."""
    if value is None or isinstance(value, (str, bytes, bool, int, dict)) or callable(value):
        return InputKind(name, "fixed", (), value=value)
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise InputError(f"input {name!r}: expected an array of real numbers, integers or booleans, got {array.dtype}")
    if array.dtype.kind == "b":
        return InputKind(name, "boolean", array.shape)
    if array.dtype.kind in "iu":
        negative = tuple(int(v) for v in np.unique(array[array < 0]))
        high = max(int(array.max()), 0) if array.size else 0
        return InputKind(name, "integer", array.shape, high=high, negative=negative)
    if not np.isfinite(array).all():
        raise InputError(f"input {name!r} contains NaN or infinity: an example input must be finite")
    if array.size > 1 and np.isin(array, (0.0, 1.0)).all() and (array != array.flat[0]).any():
        rows = array.ndim == 2 and array.shape[1] > 1 and (array.sum(-1) == 1).all()
        return InputKind(name, "one_hot" if rows else "binary", array.shape)
    if array.size > 2 and (np.abs(array) == 1).all() and (array != array.flat[0]).any():
        return InputKind(name, "sign", array.shape)
    if array.ndim == 2 and array.shape[1] > 1 and (array >= 0).all() and np.allclose(array.sum(-1), 1, atol=1e-6):
        return InputKind(name, "probability", array.shape)
    return InputKind(name, "real", array.shape)


def dyadic(rng: np.random.Generator, shape: tuple[int, ...], kind: str = "real", bits: int = 16) -> Any:
    """Draw short dyadic numbers: in about (−2, 2), (0, 2) or (0, 1), never 0."""
    unit = 2**bits
    if kind == "unit":
        return rng.integers(unit // 16, unit - unit // 16, shape) / unit
    size = rng.integers(unit // 16, 2 * unit, shape) / unit
    return size if kind == "positive" else size * rng.choice([-1.0, 1.0], shape)


def draw(kind: InputKind, rng: np.random.Generator, shape: tuple[int, ...] | None = None, scale: float = 1.0) -> Any:
    """Draw one input of its kind, at its own or another shape."""
    shape = kind.shape if shape is None else shape
    if kind.kind == "fixed":
        return kind.value
    if kind.kind == "integer":
        return _with_negatives(kind.negative, rng.integers(0, kind.high + 1, shape), rng)
    if kind.kind == "boolean":
        return rng.random(shape) < 0.5
    if kind.kind == "binary":
        return (rng.random(shape) < 0.5).astype(float)
    if kind.kind == "sign":
        return np.where(rng.random(shape) < 0.5, 1.0, -1.0)
    if kind.kind == "one_hot":
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]
    if kind.kind == "probability":
        cuts = rng.integers(1, 64, shape).astype(float)
        cuts /= cuts.sum(-1, keepdims=True)
        cuts = np.floor(cuts * 1024) / 1024
        cuts[..., -1] += 1 - cuts.sum(-1)
        return cuts
    values = dyadic(rng, shape, kind.kind)
    return values * scale if kind.kind == "real" or scale < 1 else values


def _with_negatives(negative: tuple[int, ...], drawn: Any, rng: np.random.Generator) -> Any:
    """Put the negative integers of the example in a third of the places, never in all: a mean over none is none."""
    if not negative:
        return drawn
    kept = drawn.flat[0]
    drawn = np.where(rng.random(drawn.shape) < 1 / 3, rng.choice(negative, drawn.shape), drawn)
    drawn.flat[0] = kept
    return drawn


@dataclass(frozen=True)
class Sampler:
    """Draws points: the kinds of all inputs and the hyper-parameters that forward's signature offers."""

    kinds: tuple[InputKind, ...]
    options: Mapping[str, Any]

    def point(
        self,
        seed: int,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        scale: float = 1.0,
        vary: bool = False,
        label: str = "generic",
    ) -> Point:
        """Draw a point; with ``vary`` the numeric hyper-parameters move off their defaults."""
        rng = np.random.default_rng(seed)
        shapes = shapes or {}
        inputs = {k.name: draw(k, rng, shapes.get(k.name), scale) for k in self.kinds}
        options = {name: _moved(value, rng) if vary else value for name, value in self.options.items()}
        return Point(inputs, options, label, seed)

    def shape_map(self) -> dict[str, tuple[int, ...]]:
        return {k.name: k.shape for k in self.kinds if k.kind != "fixed"}

    def narrowed(self, kind: str) -> Sampler:
        """Return a sampler whose real (and positive) inputs are all ``kind``."""
        wide = ("real", "positive") if kind == "unit" else ("real",)
        return replace(self, kinds=tuple(replace(k, kind=kind) if k.kind in wide else k for k in self.kinds))

    def resized(self, shapes: Mapping[str, tuple[int, ...]]) -> Sampler:
        return replace(self, kinds=tuple(replace(k, shape=shapes.get(k.name, k.shape)) for k in self.kinds))


def _moved(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, float):
        factor = float(rng.integers(24, 120)) / 64
        return value * factor if value else factor / 8
    return value


def numeric_options(forward: Callable[..., Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """Return forward's keyword defaults that are numbers, words or switches: its hyper-parameters."""
    if forward is None:
        return {}
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {
        p.name: p.default
        for p in parameters
        if p.default is not p.empty and p.name not in names and isinstance(p.default, (bool, int, float, str))
    }


def word_options(forward: Callable[..., Any] | None, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield other settings of the word and switch options: the words that forward's own code compares with."""
    code = getattr(forward, "__code__", None)
    words = [c for c in code.co_consts if isinstance(c, str) and c.isidentifier()] if code else []
    for name, value in options.items():
        if isinstance(value, bool):
            yield {name: not value}
        elif isinstance(value, str):
            yield from ({name: word} for word in dict.fromkeys(words) if word != value)


Shapes = Mapping[str, tuple[int, ...]]


def other_shapes(shapes: Shapes, works: Callable[[Shapes], bool], fits: Callable[[Shapes], bool]) -> Any:
    """Return shapes near the given ones at which forward still works: each size, or part of its axes, one longer.

    An axis of size 1 may be meant to stay 1 (a column vector that forward would also broadcast): it is made longer
    only where backward still returns gradients of the inputs' shapes, which ``fits`` tells.
    """
    sizes = sorted({n for shape in shapes.values() for n in shape})
    trials = []
    for size in sizes:
        places = [(name, k) for name, shape in shapes.items() for k, n in enumerate(shape) if n == size]
        new = next(n for n in itertools.count(size + 1) if n not in sizes)
        counts = [len(places), *range(1, len(places))] if len(places) <= 6 else [len(places), 1]
        trials += [(group, new) for count in counts for group in itertools.combinations(places, count)]
    found: list[dict[str, tuple[int, ...]]] = []
    for group, new in trials[:100]:

        def at(size: int, group: Sequence[tuple[str, int]] = group) -> dict[str, tuple[int, ...]]:
            return {
                name: tuple(size if (name, k) in group else n for k, n in enumerate(shape))
                for name, shape in shapes.items()
            }

        # Two more sizes must work too: a slice of what is left over may broadcast by accident at one.
        if at(new) not in found and all(works(at(size)) for size in (new, new + 1, new + 2)):
            name, axis = group[0]
            if shapes[name][axis] > 1 or fits(at(new)):
                found.append(at(new))
        if len(found) >= 6:
            break
    return found


def relabelled(shapes: Mapping[str, tuple[int, ...]], sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes with their distinct sizes, in order, replaced by ``sizes``."""
    distinct = list(dict.fromkeys(n for shape in shapes.values() for n in shape))
    table = dict(zip(distinct, sizes, strict=False))
    return {name: tuple(table.get(n, n) for n in shape) for name, shape in shapes.items()}


def shortened(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes with every long axis shortened to a size of its own."""
    distinct = list(dict.fromkeys(n for shape in shapes.values() for n in shape))
    taken = {n for n in distinct if n <= LONG_AXIS}
    spare = (n for n in itertools.count(2) if n not in taken)
    return relabelled(shapes, [n if n <= LONG_AXIS else next(spare) for n in distinct])


#: Values at which hand-coded gradients break: signed zero, the smallest numbers of each type, thresholds, the overflow
#: points of exp, and the sizes at which squares, cubes and numbers themselves overflow in each type.
SPECIAL_VALUES: tuple[float, ...] = tuple(
    sign * value
    for value in (
        *(0.0, 2.0**-120, 2.0**-30, 2.0**-12, 0.125, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0),
        *(20.0, 24.0, 30.0, 36.0, 40.0, 60.0, 80.0, 88.0, 89.0, 90.0, 100.0, 300.0, 700.0, 710.0, 740.0, 1000.0),
        *(
            2.0**power
            for power in (-1074, -1022, -600, -149, -126, 11, 13, 16, 20, 24, 32, 43, 53, 64, 90, 127, 400, 600)
        ),
    )
    for sign in (1.0, -1.0)
)


def extreme_points(sampler: Sampler, seed: int) -> Iterator[Point]:
    """Yield points of other magnitudes and the exact points: zeros, ones, equal entries, one zero."""
    for power in (-20, -8, 3, 5, 7, 10):
        yield sampler.point(seed + power + 100, scale=2.0**power, label=f"inputs scaled by 2^{power}")
    names = [k.name for k in sampler.kinds if k.kind == "real" and (not k.shape or np.prod(k.shape) > 0)]
    for name in names:
        base = sampler.point(seed + 7)
        array = np.array(base.inputs[name])
        yield _with(base, f"{name} = 0", {name: np.zeros_like(array)})
        if array.size > 1:
            pierced = array.copy()
            pierced.flat[array.size // 2] = 0.0
            yield _with(base, f"one entry of {name} = 0", {name: pierced})
            yield _with(base, f"all entries of {name} equal", {name: np.full_like(array, 1.5)})
        yield _with(base, f"{name} = 1", {name: np.ones_like(array)})
    if len(names) > 1:
        base = sampler.point(seed + 7)
        yield _with(base, "all inputs 0", {name: np.zeros_like(np.asarray(base.inputs[name])) for name in names})


#: Powers of two up to the ranges of the types: a branch of the code far out (``if x > 1e4``) lies between two of them.
FAR_POWERS = (13, 16, 21, 32, 64, 127, 512)


def far_points(sampler: Sampler, seed: int) -> Iterator[Point]:
    """Yield points far out: all inputs, and each real input alone."""
    names = [k.name for k in sampler.kinds if k.kind == "real"]
    for group in [names, *([n] for n in names if len(names) > 1)]:
        for power in FAR_POWERS:
            base = sampler.point(seed + power)
            far = {n: np.asarray(base.inputs[n]) * 2.0**power for n in group}
            whose = "inputs" if len(group) == len(names) else group[0]
            yield _with(base, f"{whose} scaled by 2^{power}", far)


def special_points(sampler: Sampler, name: str, values: Sequence[float], seed: int) -> Iterator[Point]:
    """Yield points whose input ``name`` is filled with special values, as many at a time as it holds."""
    shape = next(k.shape for k in sampler.kinds if k.name == name)
    count = max(1, int(np.prod(shape)))
    for start in range(0, len(values), count):
        part = np.resize(np.array(values[start : start + count], dtype=float), shape)
        yield _with(sampler.point(seed + 7), f"{name} at special values", {name: part})


def _with(point: Point, label: str, changes: Mapping[str, Any]) -> Point:
    return replace(point, inputs={**point.inputs, **changes}, label=label)
