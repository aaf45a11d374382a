"""The findings ``floats``, ``domain`` and ``contract``: the person's code as shipped, in floating point."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

from .allowance import NO_LIMIT, Allowance
from .behaviour import behaviour, narrowed
from .exact_scalars import BITS, Ball
from .findings import Comparison, Evidence, Finding, compact, show, stays_different
from .float_types import float_type, is_float, point_in, rounded
from .probing import FAR_POWERS, SPECIAL_VALUES, Point, Sampler, extreme_points, far_points, special_points
from .subject import ExactRun, FloatRun, Subject, defined, run_exact, run_floats

#: Thresholds of the code beyond this get a point of their own on their far side.
FAR = 256
#: Float errors (in ULP of float64) from which the formula itself is run there in balls, and gaps between the two
#: formulas from which it is refuted: a branch that differs by less is right as far as a double can say.
FORMULA_ULP = 16.0
EPS = float(np.finfo(float).eps)


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


def float_points(
    sampler: Sampler, elementwise: bool, seed: int, thresholds: Iterable[Fraction] = ()
) -> Iterable[Point]:
    """Yield generic and adversarial points; an elementwise function also meets every special value."""
    for k in range(4):
        yield sampler.point(seed + k)
    yield from extreme_points(sampler, seed)
    for power in sorted({math.frexp(float(v))[1] + 1 for v in thresholds if abs(v) > FAR}):
        yield sampler.point(seed + power, scale=2.0**power, label=f"inputs scaled by 2^{power}")
    for kind in sampler.kinds:
        if elementwise and kind.kind == "real":
            yield from special_points(sampler, kind.name, SPECIAL_VALUES, seed)


def measure(
    subject: Subject,
    sampler: Sampler,
    elementwise: bool,
    seed: int,
    dtypes: Sequence[str],
    refuted: Sequence[str] = (),
    progress: Callable[[str], None] = lambda stage: None,
    evidence: Evidence | None = None,
    proved: bool = False,
    allowed: Allowance = NO_LIMIT,
) -> tuple[Finding, Finding]:
    """Return the findings ``floats`` and ``domain``: the person's code as shipped against the exact gradient.

    Where the formula of a gradient is refuted, its floats are held against the exact value of that formula.  A probe
    where the floats are far off is run in balls: disjoint enclosures there go into ``evidence`` as a refutation.
    What is ``proved`` for all inputs is looked at far out less often.
    """
    worst = {(dtype, group): Worst() for dtype in dtypes for group in ("generic", "adversarial")}
    lost: dict[str, Worst] = {}
    broken: list[tuple[float, str]] = []
    count = finite = 0
    thresholds = evidence.thresholds if evidence is not None else ()
    offered = list(float_points(sampler, elementwise, seed, thresholds))
    points = allowed.of(offered)
    for point in points:
        progress("floats")
        try:
            run = run_exact(subject, point, only_true=not refuted)
            if elementwise and _cancelled(run):  # σ′(−710) beside 1: 300 digits do not reach it
                run = run_exact(subject, point, only_true=not refuted, bits=4 * BITS)
        except Exception:
            continue
        if run.ties or not defined(run):
            continue  # the derivative jumps here: the finding on kinks looks at it; or there is no forward pass
        exact = run
        for dtype in dtypes:
            held = _as_held(subject, exact, dtype, bool(refuted))
            if held is None:
                continue
            run = _against_own(held, refuted)
            try:
                floats = run_floats(subject, run.point, run.upstream, dtype)
            except Exception as error:
                broken.append((0.0, f"{dtype}: raises {type(error).__name__} for {point.label}"))
                continue
            finite += all(np.isfinite(g.astype(float)).any() for g in _values(floats))
            count += 1
            group = "generic" if point.label == "generic" else "adversarial"
            here, trouble = _errors(subject, run, floats, dtype, elementwise)
            broken += trouble
            if here.ulp * float_type(dtype).eps > FORMULA_ULP * EPS and evidence is not None:
                _refute_here(subject, run.point, elementwise, evidence)
            if here.ulp > worst[dtype, group].ulp:
                worst[dtype, group] = here
            bad = here.relative > float_type(dtype).eps ** 0.5 and (elementwise or group == "generic")
            if bad and (dtype not in lost or here.size < lost[dtype].size):
                lost[dtype] = here
    if evidence is not None:
        _look_far(subject, sampler, elementwise, seed, evidence, progress, proved)
    note = allowed.note(len(points), len(offered))
    return _float_finding(worst, lost, dtypes, finite, refuted, note), _domain_finding(
        [text for _, text in sorted(broken)], count, note
    )


def _as_held(subject: Subject, run: ExactRun, dtype: str, yours: bool) -> ExactRun | None:
    """Return the exact run at the point that the type holds; None where the inputs leave its range."""
    point = point_in(run.point, dtype)
    upstream = [rounded(u, dtype) for u in run.upstream]
    if point is None:
        return None
    if point is run.point and all(np.array_equal(a, b) for a, b in zip(upstream, run.upstream, strict=True)):
        return run
    try:
        given = upstream[0] if len(upstream) == 1 else tuple(upstream)
        return run_exact(subject, point, upstream=given, only_true=not yours)
    except Exception:
        return None


def _against_own(run: ExactRun, refuted: Sequence[str]) -> ExactRun:
    """Return the run with a refuted formula's own exact values in place of the true ones."""
    own = {n: run.yours[n] for n in refuted if run.yours[n] is not None and run.yours[n].shape == run.true[n].shape}
    return replace(run, true={**run.true, **own})


#: CPU seconds for the points far out, where only the formula is looked at.
FAR_BUDGET = 0.3


def _look_far(
    subject: Subject, sampler: Sampler, elementwise: bool, seed: int, evidence: Evidence,
    progress: Callable[[str], None], proved: bool,
) -> None:  # fmt: skip
    """Hold the formula against the true gradient up to the ranges of the types: the floats of norms overflow there.

    Of what is proved (no branch of the code is left out by a proof for all shapes) only all inputs at once are moved.
    """
    deadline = time.process_time() + FAR_BUDGET
    points = far_points(sampler, seed)
    for point in itertools.islice(points, len(FAR_POWERS)) if proved else points:
        if time.process_time() > deadline:
            return
        progress("floats")
        _refute_here(subject, point, elementwise, evidence)


def _refute_here(subject: Subject, point: Point, elementwise: bool, evidence: Evidence) -> None:
    """Run the formula in balls where its floats are far off; keep the point if the enclosures are disjoint by more."""
    if subject.opaque or all(n in evidence.refuted for n in subject.wrt):
        return
    try:
        run = run_exact(subject, point, bits=4 * BITS if elementwise else BITS)
    except Exception:
        return
    for name, true in run.true.items():
        yours = run.yours[name]
        if run.ties or not defined(run) or name in evidence.refuted or yours is None or yours.shape != true.shape:
            continue
        spot = _widest_gap(yours, true, elementwise)
        if spot is not None and stays_different(subject, run, name):
            evidence.refuted[name] = (run, Comparison({name: "different"}, {}, {name: spot}, 0))
            evidence.beyond.add(name)


def _widest_gap(yours: Any, true: Any, elementwise: bool) -> tuple[int, ...] | None:
    """Return the entry where the two enclosures lie farthest apart, if that is more than rounding explains."""
    tiny = arb(2) ** -256  # sigmoid of a clipped argument: e^-500 where 0 is right is nobody's bug
    pairs = {s: (yours[s].value, true[s].value) for s in np.ndindex(*true.shape)}
    pairs = {s: (a, b) for s, (a, b) in pairs.items() if a.is_finite() and b.is_finite()}
    scale = max((abs(b).abs_upper() for _, b in pairs.values()), default=arb(0))
    best, place = arb(FORMULA_ULP * EPS), None
    for spot, (a, b) in pairs.items():
        relative = (a - b).abs_lower() / max(abs(b).abs_upper() if elementwise else scale, tiny)
        if relative > best:
            best, place = relative, spot
    return place


def _values(floats: FloatRun) -> list[Any]:
    found = [np.asarray(g) for g in floats.gradients.values() if g is not None]
    return [g for g in found if g.dtype.kind in "biu" or is_float(g)]


def _cancelled(run: ExactRun) -> bool:
    return any(ball.value.rel_accuracy_bits() < 60 for true in run.true.values() for ball in true.reshape(-1))


def _errors(
    subject: Subject, run: ExactRun, floats: FloatRun, dtype: str, elementwise: bool
) -> tuple[Worst, list[Any]]:
    limits, worst, trouble = float_type(dtype), Worst(), []
    largest, smallest = arb(limits.largest), arb(limits.tiny)
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
                trouble.append(
                    (_size(run.point, spot, elementwise), f"{dtype}: {got} for {where}, exact {show(exact)}")
                )
                continue
            if exact.rel_accuracy_bits() < 60:  # 0 up to the radius of 300 digits
                exact = arb(0)
            if abs(exact) < smallest and abs(got) <= limits.tiny:
                continue  # below the normal numbers: digits cannot be asked for
            size = max(abs(exact) if elementwise else scale, smallest)
            gap = abs(arb(got) - exact).abs_upper()
            relative = _plain_float(gap / size)
            ulp = relative / limits.eps if relative < 1e300 else float("inf")
            if ulp > worst.ulp:
                worst = Worst(ulp, relative, where, _size(run.point, spot, elementwise))
    return worst, sorted(trouble)[:1]


def _size(point: Point, spot: tuple[int, ...], elementwise: bool) -> float:
    """Return the size of the inputs at a place, so that the smallest place where something breaks is reported."""
    sizes = [
        np.abs(v[spot] if elementwise and v.ndim else v).max() for v in point.inputs.values() if _real(v) and v.size
    ]
    return float(max(sizes, default=0.0))


def _real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _plain_float(value: arb) -> float:
    """Return an upper bound as a float; what is below or above every float becomes 0 or infinity."""
    return 0.0 if value < arb(2) ** -1000 else float("inf") if value > arb(2) ** 1000 else float(value.abs_upper())


def _where(point: Point, spot: tuple[int, ...], elementwise: bool, name: str) -> str:
    if elementwise:
        shown = ", ".join(
            f"{n} = {compact(np.asarray(v[spot] if np.ndim(v) else v))}"
            for n, v in point.inputs.items()
            if isinstance(v, np.ndarray)
        )
        return f"{shown}"
    return f"d/d{name}, {point.label}" if point.label != "generic" else f"d/d{name}"


def _float_finding(
    worst: Mapping[Any, Worst], lost: Mapping[str, Worst], dtypes: Sequence[str], count: int, refuted: Sequence[str],
    note: str,
) -> Finding:  # fmt: skip
    if not count:
        return Finding("not decided", "no float run could be compared")
    parts = [
        f"{dtype} {_ulps(worst[dtype, 'generic'])}, at hard points {_ulps(worst[dtype, 'adversarial'])}"
        for dtype in dtypes
    ]
    failed = [f"{d} loses {100 * min(1.0, e.relative):.3g}% of the value at {e.where}" for d, e in lost.items()]
    details = {f"{dtype} {group}": {"ulp": w.ulp, "where": w.where} for (dtype, group), w in worst.items()}
    of = " (against the formula as you wrote it)" if refuted else ""
    if failed:
        return Finding("failed", "; ".join(failed) + of, details=details)
    return Finding("ok", note + "; ".join(parts) + of, details=details)


def _ulps(worst: Worst) -> str:
    return f"{worst.ulp:.1f} ULP" if worst.ulp < 1000 else f"{worst.ulp:.1e} ULP ({worst.where})"


def _domain_finding(broken: Sequence[str], count: int, note: str) -> Finding:
    if broken:
        return Finding("failed", broken[0], details={"all": list(dict.fromkeys(broken))})
    if not count:
        return Finding("not decided", "no float run could be compared")
    return Finding("ok", f"{note}finite wherever the exact gradient is, at {count} probes")


# Contract ------------------------------------------------------------------------------------------------------------
def contract(subject: Subject, run: ExactRun, evidence: Evidence) -> Finding:
    """Return the finding on behaviour: mutated arguments, shapes, None, failing at other shapes."""
    troubles = list(evidence.failures)
    notes: list[str] = list(subject.notes)
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
            shared = [
                n for n, v in floats.handed.items() if isinstance(v, np.ndarray) and np.shares_memory(gradient, v)
            ]
            notes += [f"{name}'s gradient is the array {n} itself" for n in shared]
            if down := narrowed(name, gradient, floats.handed[name]):
                troubles.append(down)
            elif gradient.dtype != np.float32 and gradient.dtype.kind == "f":
                notes.append(f"float32 in, {gradient.dtype} out for {name}")
        elif isinstance(gradient, (list, tuple)):
            notes.append(f"{name}'s gradient is a {type(gradient).__name__}, not an array")
    troubles += behaviour(subject, run)
    if subject.extra is not None:
        troubles += subject.extra(run)
    if troubles:
        return Finding("failed", troubles[0], details={"all": troubles, "notes": notes})
    return Finding("ok", "; ".join(notes[:2]) or "arguments unchanged, shapes right", details={"notes": notes})


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(_equal(p, q) for p, q in zip(a, b, strict=True))
    return np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else True
