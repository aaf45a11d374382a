"""What a check finds: the evidence for the formula from exact runs, and its smallest counterexample."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

from ..theory.errors import InputError
from . import allowance
from .allowance import Stopwatch
from .exact_scalars import NotCovered, NotDecided
from .probing import Point, Sampler, relabelled
from .subject import BackwardFailed, ExactRun, Measured, Subject, forward_floats, run_exact, run_floats

#: Agreement must hold to this many digits of the largest entry; the runs carry 300.
DIGITS_NEEDED = 100
#: Readable numbers for counterexamples.
READABLE = (1.0, 2.0, -1.0, 3.0, -2.0, 0.5, -0.5, 1.5, -3.0)


@dataclass(frozen=True)
class Finding:
    """One question and its answer: ``ok``, ``failed`` or ``not decided``; ``grade`` says how well it is known."""

    outcome: str
    why: str
    grade: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def failed(self) -> bool:
        return self.outcome == "failed"

    def __str__(self) -> str:
        head = self.grade or self.outcome
        return f"{head}: {self.why}" if self.why else head


@dataclass(frozen=True)
class Counterexample:
    """A point at which the enclosures of yours and true are disjoint."""

    name: str
    entry: tuple[int, ...]
    yours: str
    true: str
    run: ExactRun
    raised: str = ""

    @property
    def values(self) -> dict[str, str]:
        shown = {n: compact(v) for n, v in self.run.point.inputs.items()}
        shown |= {n: repr(v) for n, v in self.run.point.options.items()}
        if len(self.run.upstream) == 1:
            shown["upstream"] = compact(self.run.upstream[0])
        else:
            shown["upstream"] = "(" + ", ".join(compact(u) for u in self.run.upstream) + ")"
        return shown

    @property
    def reproducer(self) -> str:
        """Python lines that set the inputs and call both functions' arguments."""
        lines = [f"{n} = np.array({v})" if v.startswith("[") else f"{n} = {v}" for n, v in self.values.items()]
        return "\n".join(lines)


def compact(value: Any) -> str:
    """Write an array as nested lists of short numbers.

    >>> compact(np.array([[1.0, -0.5]]))
    '[[1, -0.5]]'
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return "[" + ", ".join(compact(each) for each in value) + "]"
    if isinstance(value, (float, np.floating, np.ndarray)):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return repr(value.item() if isinstance(value, np.generic) else value)


# Comparing -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Comparison:
    """Yours against true at one point: per name ``same``, ``different`` or ``open``, and the digits agreed."""

    outcome: Mapping[str, str]
    why: Mapping[str, str]
    entry: Mapping[str, tuple[int, ...]]
    digits: int


def compare(run: ExactRun) -> Comparison:
    """Compare enclosures entry by entry: disjoint is different, overlapping to 100 digits is the same."""
    outcome, why, entry, digits = {}, {}, {}, 10_000
    for name, true in run.true.items():
        yours = run.yours[name]
        if yours is None:
            outcome[name], why[name] = "different", "returns None"
            continue
        if yours.shape != true.shape:
            if yours.size == 1 and true.size == 1:
                yours = yours.reshape(true.shape)
            else:
                outcome[name], why[name] = "different", f"has the shape {yours.shape}, expected {true.shape}"
                continue
        outcome[name], why[name], entry[name], agreed = _compare_arrays(yours, true)
        if outcome[name] == "same":
            digits = min(digits, agreed)
    return Comparison(outcome, why, entry, digits)


def _compare_arrays(yours: Any, true: Any) -> tuple[str, str, tuple[int, ...], int]:
    worst, place, undefined = arb(0), (), ""
    scale = max((abs(v.value).abs_upper() for v in true.reshape(-1) if v.value.is_finite()), default=arb(0))
    for spot in np.ndindex(*true.shape):
        a, b = yours[spot].value, true[spot].value
        if not (a.is_finite() and b.is_finite()):
            if not undefined:
                undefined, place = ("your value" if b.is_finite() else "the true gradient") + " is not defined", spot
            continue
        gap = (a - b).abs_lower()
        if gap > worst:
            worst, place = gap, spot
    if worst > 0:
        return "different", "", place, 0
    if undefined:
        return "open", undefined, place, 0
    spread = max(((a.value - b.value).abs_upper() for a, b in zip(yours.reshape(-1), true.reshape(-1))), default=arb(0))
    floor = max(scale, arb(2) ** -400)
    if yours.size and isinstance(yours.reshape(-1)[0], Measured):
        worst_gap = max((abs(a.value.mid() - b.value).abs_upper() for a, b in zip(yours.reshape(-1), true.reshape(-1))))
        return "same", "", (), 16 if worst_gap < floor * arb(2) ** -53 else _digits(worst_gap / floor)
    agreed = 300 if spread == 0 else _digits(spread / floor)
    return (
        ("same", "", (), agreed) if agreed >= DIGITS_NEEDED else ("open", f"agrees in {agreed} digits only", (), agreed)
    )


def _digits(relative: arb) -> int:
    return int(-float(relative.log().mid()) / 2.302585)


def same(yours: Any, other: Any) -> bool:
    """Tell whether two arrays of balls agree to 100 digits."""
    return yours.shape == other.shape and _compare_arrays(yours, other)[0] == "same"


# Formula -------------------------------------------------------------------------------------------------------------
@dataclass
class Evidence:
    """What the exact runs showed."""

    agreed: dict[str, int] = field(default_factory=dict)
    refuted: dict[str, tuple[ExactRun, Comparison]] = field(default_factory=dict)
    rounding: set[str] = field(default_factory=set)
    open: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    points: int = 0
    shapes: set[tuple[Any, ...]] = field(default_factory=set)
    varied: bool = False
    digits: int = 300
    thresholds: set[Fraction] = field(default_factory=set)
    runs: list[ExactRun] = field(default_factory=list)
    skipped: int = 0  # points left out because the program is large
    cost: float = 0.0  # seconds of processor time for one run, the least
    beyond: set[str] = field(default_factory=set)  # refuted only at a probe of the floats


def gather(
    subject: Subject,
    points: Iterable[Point],
    upstream: Any = None,
    evidence: Evidence | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Evidence:
    """Run every point exactly and collect agreement, refutations and what stayed open (into ``evidence`` if given).

    Beyond the time allowed one generic point and one of each other kind are still run; beyond twice that, none.
    """
    evidence = Evidence() if evidence is None else evidence
    evidence.agreed |= dict.fromkeys(subject.wrt, 0)
    seen: set[tuple[Any, ...]] = set()
    labels: set[str] = set()
    allowed, watch = allowance.FORMULA, Stopwatch()
    for k, point in enumerate(points):
        progress("formula")
        late = watch.seconds > (allowed if point.label in labels else 2 * allowed)
        if late and evidence.points >= allowance.LEAST_FORMULA:
            evidence.skipped += 1
            continue
        labels.add(point.label)
        begun = watch.seconds
        varied = point.label != "generic"
        if point.label == "other shapes" and _shapes(point) in evidence.shapes | seen:
            continue
        try:
            run = run_exact(subject, point, upstream=upstream if k == 0 else None)
        except (NotCovered, NotDecided) as error:
            for name in subject.wrt:
                evidence.open.setdefault(name, str(error))
            if isinstance(error, NotCovered):
                break
            continue
        except BackwardFailed as error:
            evidence.failures.append(f"backward {error}")
            break
        except Exception as error:
            seen.add(_shapes(point))
            if point.label == "other shapes" and _only_seems_to_work(subject, point):
                continue
            _unexpected(subject, point, error, varied, evidence)
            if not varied:
                break
            continue
        if point.label == "other shapes" and _ignores_part(run):
            continue  # forward reads only part of an input at these shapes: they do not belong together
        evidence.points += 1
        evidence.cost = min(evidence.cost or math.inf, watch.seconds - begun)
        evidence.varied |= point.label == "hyper-parameters varied"
        evidence.shapes.add(_shapes(point))
        evidence.thresholds |= run.thresholds
        evidence.runs.append(run)
        _weigh(subject, run, evidence)
    return evidence


def _shapes(point: Point) -> tuple[Any, ...]:
    return tuple(np.shape(v) for v in point.inputs.values())


def _only_seems_to_work(subject: Subject, point: Point) -> bool:
    """Tell whether forward leaves part of an input unread at these shapes: its slices fit by accident."""
    try:
        return _ignores_part(run_exact(subject, point, only_true=True))
    except Exception:
        return False


def _ignores_part(run: ExactRun) -> bool:
    for true in run.true.values():
        zero = np.frompyfunc(lambda ball: ball.value == 0, 1, 1)(true)
        for axis in range(true.ndim):
            others = tuple(k for k in range(true.ndim) if k != axis)
            if np.any(np.all(zero.astype(bool), axis=others)):
                return True
    return False


def _weigh(subject: Subject, run: ExactRun, evidence: Evidence) -> None:
    comparison = compare(run)
    for name, outcome in comparison.outcome.items():
        if outcome == "same":
            evidence.agreed[name] += 1
            evidence.digits = min(evidence.digits, comparison.digits)
        elif outcome == "open":
            evidence.open.setdefault(name, comparison.why[name])
        elif name not in evidence.refuted:
            if comparison.why.get(name) or stays_different(subject, run, name):
                evidence.refuted[name] = (run, comparison)
            else:
                evidence.rounding.add(name)


def stays_different(subject: Subject, run: ExactRun, name: str) -> bool:
    """Tell whether the difference survives when every long constant may be any real that rounds near it."""
    try:
        wide = run_exact(subject, run.point, upstream=run.upstream, widened=True)
    except (NotCovered, NotDecided):
        return False
    return compare(wide).outcome[name] == "different"


def _unexpected(subject: Subject, point: Point, error: Exception, varied: bool, evidence: Evidence) -> None:
    """Tell an exception of the person's code (it comes in floats too) from one of exact arithmetic."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    try:
        outputs = [np.zeros(np.shape(o)) for o in forward_floats(subject, point)] if not subject.theory else None
        if outputs is not None:
            run_floats(subject, point, [np.ones(o.shape) for o in outputs], "float64")
    except Exception as own:
        said = f"{type(own).__name__}: {str(own).splitlines()[0] if str(own) else ''}"
        if not varied:
            raise InputError(f"backward raised {said}") from None
        shapes = ", ".join(f"{n} {np.shape(v)}" for n, v in point.inputs.items() if np.shape(v))
        evidence.failures.append(f"backward raises {said} at {shapes}, where forward works")
        return
    for name in subject.wrt:
        evidence.open.setdefault(name, f"exact arithmetic cannot run this code: {text}")


def counterexample(
    subject: Subject, sampler: Sampler, name: str, run: ExactRun, comparison: Comparison
) -> Counterexample:
    """Return the smallest readable counterexample found: few entries, small numbers, a one-hot upstream."""
    best = (run, comparison)
    deadline = time.process_time() + 1.0
    far = _far_scales(run.point, name)
    for small in itertools.chain(
        _small_points(subject, sampler, run.point, deadline),
        *(_small_points(subject, sampler, run.point, deadline + 1, scales) for scales in far),
        *(_readable_point(subject, sampler, run.point, _shape_map(run.point), seed, {}) for seed in range(3)),
    ):
        try:
            trial = run_exact(subject, small, upstream=_readable_upstream(small.seed))
            outcome = compare(trial)
        except Exception:
            continue
        if trial.ties or outcome.outcome.get(name) != "different" or outcome.why.get(name):
            continue
        if stays_different(subject, trial, name):
            best = (trial, outcome)
            break
    trial, outcome = best
    spot = outcome.entry.get(name, ())
    yours, true = trial.yours[name], trial.true[name]
    if outcome.why.get(name):
        return Counterexample(name, (), outcome.why[name], f"shape {true.shape}", trial)
    return Counterexample(name, spot, *show_apart(yours[spot].value, true[spot].value), trial)


def show_apart(a: arb, b: arb) -> tuple[str, str]:
    """Write two enclosures with as many digits as tell them apart.

    >>> show_apart(arb(1), 1 + arb(2) ** -30)
    ('1', '1.00000000093')
    """
    for digits in (6, 12, 18, 30, 60, 100):
        shown = show(a, digits), show(b, digits)
        if shown[0] != shown[1]:
            break
    return shown


def show(value: arb, digits: int = 6) -> str:
    """Write an enclosure with the digits that a reader compares.

    >>> show(arb(1) / 3)
    '0.333333'
    """
    number = value.mid()
    if abs(number) < arb(2) ** -150:  # the shift of a one-sided limit, or the radius of a zero
        return "0"
    text = number.str(digits, radius=False)
    return "0" if text in ("0", "0e-1") else text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _far_scales(point: Point, name: str) -> list[dict[str, float]]:
    """Return powers of ten up to the size of a point's inputs, of the one input and of all: where a branch switches."""
    real = [n for n, v in point.inputs.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size]
    largest = max((float(np.abs(point.inputs[n]).max()) for n in real), default=0.0)
    powers = range(1, math.ceil(math.log10(largest)) + 1) if 8 < largest < 1e300 else range(0)
    few = [10.0**k for k in powers if k <= 8 or k % 8 == 0 or k == powers[-1]]
    return [dict.fromkeys(group, scale) for scale in few for group in ([name], real) if name in real]


def _shape_map(point: Point) -> dict[str, tuple[int, ...]]:
    fixed = (str, bytes, bool, int, type(None))
    return {n: np.shape(v) for n, v in point.inputs.items() if not isinstance(v, fixed)}


def _small_points(
    subject: Subject, sampler: Sampler, point: Point, deadline: float, scales: Mapping[str, float] | None = None
) -> Iterable[Point]:
    shapes = _shape_map(point)
    distinct = list(dict.fromkeys(n for shape in shapes.values() for n in shape))
    grids = sorted(np.ndindex(*(3,) * min(len(distinct), 6)), key=lambda sizes: (sum(sizes), sizes))[:60]
    if scales:
        grids = grids[:2]
    for sizes in grids:
        new = relabelled(shapes, [n + 1 for n in sizes])
        for seed in range(3):
            if time.process_time() > deadline:
                return
            yield from _readable_point(subject, sampler, point, new, seed, scales or {})


def _readable_point(
    subject: Subject, sampler: Sampler, point: Point, shapes: Mapping[str, Any], seed: int, scales: Mapping[str, float]
) -> Iterable[Point]:
    try:
        base = sampler.resized(shapes).point(seed)
        rng = np.random.default_rng(seed)
        inputs = dict(base.inputs)
        for kind in sampler.kinds:
            if kind.kind in ("real", "positive"):
                pool = READABLE if kind.kind == "real" else (1.0, 2.0, 3.0, 0.5)
                shape = np.shape(inputs[kind.name])
                values = np.resize(pool, shape) if seed == 0 else rng.choice(pool, shape)
                inputs[kind.name] = np.asarray(values, dtype=float) * scales.get(kind.name, 1.0)
        small = Point(inputs, point.options, "counterexample", seed)
        if not subject.theory:
            forward_floats(subject, small)
    except Exception:
        return
    yield small


def _readable_upstream(seed: int) -> Callable[[Sequence[tuple[int, ...]]], list[Any]]:
    def make(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
        rng = np.random.default_rng(seed)
        parts = [np.zeros(shape) for shape in shapes]
        for part in parts:
            if part.size:
                part.flat[int(rng.integers(part.size)) if seed else 0] = 1.0
        return parts if seed < 2 else [rng.choice([1.0, 2.0, -1.0], shape) for shape in shapes]

    return make
