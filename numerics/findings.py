"""The five findings of a check, each decided by enclosures: formula, floats, domain, kinks, contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, fmpq

from ..theory.errors import InputError
from .exact_scalars import BITS, Ball, NotCovered, NotDecided, exact_arithmetic
from .probing import SPECIAL_VALUES, Point, Sampler, dyadic, extreme_points, relabelled, special_points
from .subject import BackwardFailed, ExactRun, FloatRun, Subject, forward_floats, run_exact, run_floats

#: Agreement must hold to this many digits of the largest entry; the runs carry 300.
DIGITS_NEEDED = 100
#: Readable numbers for counterexamples.
READABLE = (1.0, 2.0, -1.0, 3.0, -2.0, 0.5, -0.5, 1.5, -3.0)
#: Shifts for one-sided limits: far below any float, far above the radius of 1000-bit balls.
SHIFT_BITS = 200


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
    agreed = 300 if spread == 0 else int(-float((spread / floor).log().mid()) / 2.302585)
    return ("same", "", (), agreed) if agreed >= DIGITS_NEEDED else ("open", f"agrees in {agreed} digits only", (), agreed)


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


def gather(subject: Subject, points: Iterable[Point], upstream: Any = None) -> Evidence:
    """Run every point exactly and collect agreement, refutations and what stayed open."""
    evidence = Evidence(agreed=dict.fromkeys(subject.wrt, 0))
    seen: set[tuple[Any, ...]] = set()
    for k, point in enumerate(points):
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
            _unexpected(subject, point, error, varied, evidence)
            if not varied:
                break
            continue
        if point.label == "other shapes" and _ignores_part(run):
            continue  # forward reads only part of an input at these shapes: they do not belong together
        evidence.points += 1
        evidence.varied |= point.label == "hyper-parameters varied"
        evidence.shapes.add(_shapes(point))
        evidence.thresholds |= run.thresholds
        evidence.runs.append(run)
        _weigh(subject, run, evidence)
    return evidence


def _shapes(point: Point) -> tuple[Any, ...]:
    return tuple(np.shape(v) for v in point.inputs.values())


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
            if comparison.why.get(name) or _stays_different(subject, run, name):
                evidence.refuted[name] = (run, comparison)
            else:
                evidence.rounding.add(name)


def _stays_different(subject: Subject, run: ExactRun, name: str) -> bool:
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


def counterexample(subject: Subject, sampler: Sampler, name: str, run: ExactRun, comparison: Comparison) -> Counterexample:
    """Return the smallest readable counterexample found: few entries, small numbers, a one-hot upstream."""
    best = (run, comparison)
    deadline = time.monotonic() + 1.0
    for small in _small_points(subject, sampler, run.point, deadline):
        try:
            trial = run_exact(subject, small, upstream=_readable_upstream(small.seed))
            outcome = compare(trial)
        except Exception:
            continue
        if trial.ties or outcome.outcome.get(name) != "different" or outcome.why.get(name):
            continue
        if _stays_different(subject, trial, name):
            best = (trial, outcome)
            break
    trial, outcome = best
    spot = outcome.entry.get(name, ())
    yours, true = trial.yours[name], trial.true[name]
    if outcome.why.get(name):
        return Counterexample(name, (), outcome.why[name], f"shape {true.shape}", trial)
    return Counterexample(name, spot, show(yours[spot].value), show(true[spot].value), trial)


def show(value: arb) -> str:
    """Write an enclosure with the digits that a reader compares.

    >>> show(arb(1) / 3)
    '0.333333'
    """
    number = value.mid()
    if abs(number) < arb(2) ** -150:  # the shift of a one-sided limit, or the radius of a zero
        return "0"
    text = number.str(6, radius=False)
    return "0" if text in ("0", "0e-1") else text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _small_points(subject: Subject, sampler: Sampler, point: Point, deadline: float) -> Iterable[Point]:
    shapes = {n: np.shape(v) for n, v in point.inputs.items() if not isinstance(v, (str, bytes, bool, int, type(None)))}
    distinct = list(dict.fromkeys(n for shape in shapes.values() for n in shape))
    grids = sorted(np.ndindex(*(3,) * min(len(distinct), 6)), key=lambda sizes: (sum(sizes), sizes))[:60]
    for sizes in grids:
        new = relabelled(shapes, [n + 1 for n in sizes])
        for seed in range(3):
            if time.monotonic() > deadline:
                return
            yield from _readable_point(subject, sampler, point, new, seed)


def _readable_point(
    subject: Subject, sampler: Sampler, point: Point, shapes: Mapping[str, Any], seed: int
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
                inputs[kind.name] = np.asarray(values, dtype=float)
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


# Floats and domain ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Worst:
    """The largest error met, and where."""

    ulp: float = 0.0
    relative: float = 0.0
    where: str = ""
    size: float = 0.0  # of the inputs there: the smallest place is the one to report


def is_elementwise(run: ExactRun) -> bool:
    """Tell whether each output depends on its own entry of each input alone, in this run."""
    if len(run.outputs) != 1 or not run.leaves:
        return False
    output = np.asarray(run.outputs[0].view(np.ndarray)) if isinstance(run.outputs[0], np.ndarray) else None
    shapes = {np.shape(v) for v in run.point.inputs.values() if isinstance(v, np.ndarray)}
    if output is None or output.ndim == 0 or shapes != {output.shape} or output.dtype != object:
        return False
    places = {leaf: spot for n in run.true for spot, leaf in np.ndenumerate(run.leaves[n].view(np.ndarray))}
    return all(_leaf_places(ball, places) <= {spot} for spot, ball in np.ndenumerate(output))


def _leaf_places(ball: Ball, places: Mapping[Ball, Any]) -> set[Any]:
    seen, found, stack = set(), set(), [ball]
    while stack:
        each = stack.pop()
        if each in seen:
            continue
        seen.add(each)
        if each in places:
            found.add(places[each])
        stack.extend(parent for parent, _ in each.parents)
    return found


def float_points(sampler: Sampler, elementwise: bool, seed: int) -> Iterable[Point]:
    """Yield generic and adversarial points; an elementwise function also meets every special value."""
    for k in range(4):
        yield sampler.point(seed + k)
    yield from extreme_points(sampler, seed)
    for kind in sampler.kinds:
        if elementwise and kind.kind == "real":
            yield from special_points(sampler, kind.name, SPECIAL_VALUES, seed)


def measure(
    subject: Subject, sampler: Sampler, elementwise: bool, seed: int, dtypes: Sequence[str], refuted: Sequence[str] = ()
) -> tuple[Finding, Finding]:
    """Return the findings ``floats`` and ``domain``: the person's code as shipped against the exact gradient.

    Where the formula of a gradient is refuted, its floats are held against the exact value of that formula.
    """
    worst = {(dtype, group): Worst() for dtype in dtypes for group in ("generic", "adversarial")}
    lost: dict[str, Worst] = {}
    broken: list[tuple[float, str]] = []
    count = 0
    for point in float_points(sampler, elementwise, seed):
        try:
            run = run_exact(subject, point, only_true=not refuted)
            if elementwise and _cancelled(run):  # σ′(−710) beside 1: 300 digits do not reach it
                run = run_exact(subject, point, only_true=not refuted, bits=4 * BITS)
        except Exception:
            continue
        own = {n: run.yours[n] for n in refuted if run.yours[n] is not None and run.yours[n].shape == run.true[n].shape}
        run = replace(run, true={**run.true, **own})
        if run.ties:
            continue  # the derivative jumps here: the finding on kinks looks at it
        for dtype in dtypes:
            try:
                floats = run_floats(subject, point, run.upstream, dtype)
            except Exception as error:
                broken.append((0.0, f"{dtype}: raises {type(error).__name__} for {point.label}"))
                continue
            count += 1
            group = "generic" if point.label == "generic" else "adversarial"
            error, trouble = _errors(subject, run, floats, dtype, elementwise)
            broken += trouble
            if error.ulp > worst[dtype, group].ulp:
                worst[dtype, group] = error
            bad = error.relative > float(np.finfo(dtype).eps) ** 0.5 and (elementwise or group == "generic")
            if bad and (dtype not in lost or error.size < lost[dtype].size):
                lost[dtype] = error
    return _float_finding(worst, lost, dtypes, count, refuted), _domain_finding([text for _, text in sorted(broken)], count)


def _cancelled(run: ExactRun) -> bool:
    return any(ball.value.rel_accuracy_bits() < 60 for true in run.true.values() for ball in true.reshape(-1))


def _errors(subject: Subject, run: ExactRun, floats: FloatRun, dtype: str, elementwise: bool) -> tuple[Worst, list[Any]]:
    limits, worst, trouble = np.finfo(dtype), Worst(), []
    largest, smallest = arb(float(limits.max)), arb(float(limits.tiny))
    for name in subject.wrt:
        value = floats.gradients[name]
        true = run.true[name]
        array = np.asarray(value, dtype=float) if value is not None else np.empty(0)
        if array.shape != true.shape:
            continue
        finite = [abs(v.value) for v in true.reshape(-1) if v.value.is_finite()]
        scale = max(finite, default=arb(0))
        if scale < arb(2) ** -900:  # an exact 0: the size of an error is that of what cancels
            scale = max((arb(float(np.abs(u).max())) for u in run.upstream if u.size), default=arb(1))
        for spot in np.ndindex(*true.shape):
            exact, got = true[spot].value, float(array[spot])
            if not exact.is_finite() or abs(exact) > largest:
                continue
            where = _where(run.point, spot, elementwise, name)
            if not np.isfinite(got):
                trouble.append((_size(run.point, spot, elementwise), f"{dtype}: {got} for {where}, exact {show(exact)}"))
                continue
            if exact.rel_accuracy_bits() < 60:  # 0 up to the radius of 300 digits
                exact = arb(0)
            size = max(abs(exact) if elementwise else scale, smallest)
            gap = abs(arb(got) - exact).abs_upper()
            relative = _plain_float(gap / size)
            ulp = relative / float(limits.eps) if relative < 1e300 else float("inf")
            if ulp > worst.ulp:
                worst = Worst(ulp, relative, where, _size(run.point, spot, elementwise))
    return worst, sorted(trouble)[:1]


def _size(point: Point, spot: tuple[int, ...], elementwise: bool) -> float:
    """Return the size of the inputs at a place, so that the smallest place where something breaks is reported."""
    sizes = [np.abs(v[spot] if elementwise else v).max() for v in point.inputs.values() if _real(v) and v.size]
    return float(max(sizes, default=0.0))


def _real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _plain_float(value: arb) -> float:
    """Return an upper bound as a float; what is below or above every float becomes 0 or infinity."""
    return 0.0 if value < arb(2) ** -1000 else float("inf") if value > arb(2) ** 1000 else float(value.abs_upper())


def _where(point: Point, spot: tuple[int, ...], elementwise: bool, name: str) -> str:
    if elementwise:
        shown = ", ".join(f"{n} = {compact(np.asarray(v[spot]))}" for n, v in point.inputs.items() if isinstance(v, np.ndarray))
        return f"{shown}"
    return f"d/d{name}, {point.label}" if point.label != "generic" else f"d/d{name}"


def _float_finding(
    worst: Mapping[Any, Worst], lost: Mapping[str, Worst], dtypes: Sequence[str], count: int, refuted: Sequence[str]
) -> Finding:
    if not count:
        return Finding("not decided", "no float run could be compared")
    parts = [
        f"{dtype} {_ulps(worst[dtype, 'generic'])} generic, {_ulps(worst[dtype, 'adversarial'])} adversarial"
        for dtype in dtypes
    ]
    failed = [f"{d} loses {100 * min(1.0, e.relative):.3g}% of the value at {e.where}" for d, e in lost.items()]
    details = {f"{dtype} {group}": {"ulp": w.ulp, "where": w.where} for (dtype, group), w in worst.items()}
    of = " (against the formula as you wrote it)" if refuted else ""
    if failed:
        return Finding("failed", "; ".join(failed) + of, details=details)
    return Finding("ok", "; ".join(parts) + of, details=details)


def _ulps(worst: Worst) -> str:
    return f"{worst.ulp:.1f} ULP" if worst.ulp < 1000 else f"{worst.ulp:.1e} ULP ({worst.where})"


def _domain_finding(broken: Sequence[str], count: int) -> Finding:
    if broken:
        return Finding("failed", broken[0], details={"all": list(dict.fromkeys(broken))})
    if not count:
        return Finding("not decided", "no float run could be compared")
    return Finding("ok", f"finite wherever the exact gradient is, at {count} probes")


# Kinks ---------------------------------------------------------------------------------------------------------------
def limits(subject: Subject, point: Point, upstream: Any, seed: int) -> list[Mapping[str, Any]]:
    """Return the true gradients at twelve points around ``point``, nearer than any float: one-sided limits."""
    found = []
    rng = np.random.default_rng(seed + 17)
    for _ in range(6):
        steps = {
            n: dyadic(rng, np.shape(v)) for n, v in point.inputs.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"
        }
        for sign in (1, -1):
            shift = {n: _tiny(sign * np.asarray(u)) for n, u in steps.items()}
            run = run_exact(subject, point, upstream=upstream, shift=shift, only_true=True)
            if any(not v.value.is_finite() for g in run.true.values() for v in g.reshape(-1)):
                return []
            found.append(run.true)
    return found


def _tiny(steps: Any) -> np.ndarray[Any, Any]:
    out = np.empty(np.shape(steps), dtype=object)
    for spot in np.ndindex(*out.shape):
        top, bottom = float(steps[spot]).as_integer_ratio()
        out[spot] = fmpq(top, bottom * 2**SHIFT_BITS)
    return out


def kink_points(sampler: Sampler, thresholds: Iterable[Fraction], seed: int) -> Iterable[Point]:
    """Yield the exact points: zeros, ones, equal entries, and every threshold that the code compares an input with."""
    for point in extreme_points(sampler, seed):
        if "scaled" not in point.label:
            yield point
    for kind in sampler.kinds:
        if kind.kind == "real" and kind.shape:
            for value in sorted(thresholds):
                base = sampler.point(seed + 7)
                array = np.full(kind.shape, float(value))
                yield replace(base, inputs={**base.inputs, kind.name: array}, label=f"{kind.name} = {compact(float(value))}")


def kinks(
    subject: Subject, sampler: Sampler, thresholds: Iterable[Fraction], elementwise: bool, seed: int, policy: str,
    rounding: bool = False,
) -> Finding:  # fmt: skip
    """Return the finding on points where a branch switches: is the returned value a derivative there?"""
    sides: dict[str, str] = {}
    open_points: list[str] = []
    failures: list[str] = []
    probed = 0
    for point in kink_points(sampler, thresholds, seed):
        try:
            base = run_exact(subject, point, only_true=True)
            undefined = any(not v.value.is_finite() for g in base.true.values() for v in g.reshape(-1))
        except NotDecided:
            open_points.append(point.label)
            continue
        except Exception:
            continue
        probed += 1
        try:
            around = limits(subject, point, base.upstream, seed)
        except Exception:
            around = []
        if not around:
            if undefined:
                open_points.append(point.label)
            continue
        failure = _judge_kink(subject, point, base, around, elementwise, policy, sides, open_points, rounding)
        if failure:
            failures.append(failure)
    if failures:
        return Finding("failed", failures[0], details={"all": failures})
    if open_points:
        return Finding("not decided", f"no verdict at {', '.join(dict.fromkeys(open_points))}"[:140])
    what = "; ".join(f"{side} at {label}" for label, side in sides.items()) or "no derivative jumps"
    return Finding("ok", f"{what} ({probed} exact points)"[:150])


def _judge_kink(
    subject: Subject, point: Point, base: ExactRun, around: Sequence[Mapping[str, Any]], elementwise: bool, policy: str,
    sides: dict[str, str], open_points: list[str], rounding: bool,
) -> str:  # fmt: skip
    bits = 40 if rounding else SHIFT_BITS // 2  # rounded constants agree in the digits of a double only
    try:
        run = run_exact(subject, point, upstream=base.upstream)
    except Exception:
        run = None
    floats = run_floats(subject, point, base.upstream, "float64")
    for name in subject.wrt:
        shape = base.true[name].shape
        returned = floats.gradients[name]
        array = np.asarray(returned, dtype=float) if returned is not None else np.empty(0)
        if array.shape != shape:
            continue
        for spot in np.ndindex(*shape):
            values = [g[name][spot].value for g in around]
            low, high = min(values, key=lambda v: float(v.mid())), max(values, key=lambda v: float(v.mid()))
            yours = run.yours[name][spot].value if run is not None and run.yours[name] is not None else arb("nan")
            if not yours.is_finite():
                if np.isfinite(array[spot]):
                    continue
                return f"{array[spot]} at {point.label} ({_side_text(low, high)})"
            verdict = _side(yours, low, high, base.true[name][spot].value, policy, bits)
            if verdict == "outside" and not _close(low, high) and not elementwise:
                if point.label not in open_points and policy == "interval":
                    open_points.append(point.label)
            elif verdict in ("outside", "other branch"):
                note = "where the gradient exists: " if _close(low, high) else ""
                return f"at {point.label} {note}yours {show(yours)}, {_side_text(low, high)}"
            elif verdict != "smooth":
                sides.setdefault(point.label, verdict)
    return ""


def _close(a: arb, b: arb, bits: int = SHIFT_BITS // 2) -> bool:
    scale = max(abs(a).abs_upper(), abs(b).abs_upper(), arb(1))
    return (a - b).abs_upper() < scale * arb(2) ** -bits


def _side_text(low: arb, high: arb) -> str:
    return f"true {show(low)}" if _close(low, high) else f"one-sided derivatives {show(low)} and {show(high)}"


def _side(yours: arb, low: arb, high: arb, branch: arb, policy: str, bits: int) -> str:
    """Name where a returned value lies among the one-sided derivatives."""
    if _close(low, high):
        return "smooth" if _close(yours, low, bits) else "outside"
    if policy == "branch":
        return "forward's branch" if _close(yours, branch, bits) else "other branch"
    if _close(yours, low, bits):
        return "the smaller side"
    if _close(yours, high, bits):
        return "the larger side"
    if _close(2 * yours, low + high, bits):
        return "the midpoint"
    return "inside the interval" if low < yours < high else "outside"


# Contract ------------------------------------------------------------------------------------------------------------
def contract(subject: Subject, run: ExactRun, evidence: Evidence) -> Finding:
    """Return the finding on behaviour: mutated arguments, shapes, None, failing at other shapes."""
    troubles = list(evidence.failures)
    notes: list[str] = []
    try:
        floats = run_floats(subject, run.point, run.upstream, "float32")
    except Exception as error:
        return Finding("failed", f"raises {type(error).__name__} on float32 inputs: {error}"[:140])
    for name, value in floats.handed.items():
        if not _equal(value, floats.before[name]):
            troubles.append(f"changes its argument {name} in place")
    for name, gradient in floats.gradients.items():
        if gradient is None:
            troubles.append(f"returns None for {name}")
            continue
        shape = np.shape(run.point.inputs[name])
        if np.shape(gradient) != shape:
            troubles.append(f"the gradient for {name} has the shape {np.shape(gradient)}, expected {shape}")
        if isinstance(gradient, np.ndarray):
            shared = [n for n, v in floats.handed.items() if isinstance(v, np.ndarray) and np.shares_memory(gradient, v)]
            notes += [f"{name}'s gradient is the array {n} itself" for n in shared]
            if gradient.dtype != np.float32 and gradient.dtype.kind == "f":
                notes.append(f"float32 in, {gradient.dtype} out for {name}")
    if troubles:
        return Finding("failed", troubles[0], details={"all": troubles, "notes": notes})
    return Finding("ok", "; ".join(notes[:2]) or "arguments unchanged, shapes right", details={"notes": notes})


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(_equal(p, q) for p, q in zip(a, b, strict=True))
    return np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else True


__all__ = ["Counterexample", "Evidence", "Finding", "compare", "exact_arithmetic", "gather", "kinks", "measure"]
