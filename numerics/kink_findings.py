"""The finding ``kinks``: what the code returns where a branch switches, against the one-sided derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, fmpq

from .allowance import NO_LIMIT, Allowance, Stopwatch
from .exact_scalars import NotDecided
from .findings import Finding, compact, same, show
from .probing import Point, Sampler, dyadic, extreme_points
from .subject import ExactRun, Subject, defined, run_exact, run_floats

#: Shifts for one-sided limits: far below any float, far above the radius of 1000-bit balls.
SHIFT_BITS = 200
#: What a policy asks for, in words.
_ASKED = {"branch": "forward's branch", "left": "the left side", "right": "the right side", "midpoint": "the midpoint"}
#: Directions looked in before a value at a tie is called wrong.
MANY_DIRECTIONS = 40


# Kinks ---------------------------------------------------------------------------------------------------------------
def limits(subject: Subject, point: Point, upstream: Any, seed: int, directions: int = 6) -> list[Mapping[str, Any]]:
    """Return the true gradients around ``point``, on both sides in some directions, nearer than any float."""
    found = []
    rng = np.random.default_rng(seed + 17)
    for _ in range(directions):
        steps = {
            n: dyadic(rng, np.shape(v))
            for n, v in point.inputs.items()
            if isinstance(v, np.ndarray) and v.dtype.kind == "f"
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


def one_side(subject: Subject, point: Point, upstream: Any, policy: str) -> Mapping[str, Any]:
    """Return the true gradient with every real input smaller (left) or larger (right) by less than any float."""
    step = -1 if policy == "left" else 1
    shift = {
        n: _tiny(np.full(np.shape(v), float(step)))
        for n, v in point.inputs.items()
        if isinstance(v, np.ndarray) and v.dtype.kind == "f"
    }
    return run_exact(subject, point, upstream=upstream, shift=shift, only_true=True).true


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
                yield replace(
                    base, inputs={**base.inputs, kind.name: array}, label=f"{kind.name} = {compact(float(value))}"
                )


def kinks(
    subject: Subject, sampler: Sampler, thresholds: Iterable[Fraction], elementwise: bool, seed: int, policy: str,
    rounding: bool = False, progress: Callable[[str], None] = lambda stage: None, allowed: Allowance = NO_LIMIT,
) -> Finding:  # fmt: skip
    """Return the finding on points where a branch switches: is the returned value a derivative there?"""
    sides: dict[str, str] = {}
    open_points: list[str] = []
    failures: list[str] = []
    probed = looked = 0
    offered = list(kink_points(sampler, thresholds, seed))
    watch = Stopwatch()
    for point in allowed.of(offered):
        if allowed.cost and looked >= allowed.least and watch.seconds > 2 * allowed.seconds:
            break  # one-sided limits take many runs
        looked += 1
        progress("kinks")
        try:
            base = _base(subject, point)
            if not defined(base):
                continue
            undefined = any(not v.value.is_finite() for g in base.true.values() for v in g.reshape(-1))
        except NotDecided:
            open_points.append(point.label)
            continue
        except Exception:
            continue
        probed += 1
        try:
            smooth = not base.switched and not undefined  # every comparison is strict: one branch all around
            around = [base.true] if smooth else limits(subject, point, base.upstream, seed)
        except Exception:
            around = []
        if around and not smooth and policy in ("left", "right"):
            try:
                base = replace(base, true=one_side(subject, point, base.upstream, policy))
            except Exception:
                open_points.append(point.label)
                continue
        if not around:
            if undefined:
                open_points.append(point.label)
            continue
        failure = _judge_kink(subject, point, base, around, elementwise, policy, sides, open_points, rounding)
        if failure and base.ties:  # among nine equal entries one may never have been the largest
            around = limits(subject, point, base.upstream, seed + 1, MANY_DIRECTIONS)
            failure = _judge_kink(subject, point, base, around, elementwise, policy, sides, open_points, rounding)
        if failure:
            failures.append(failure)
    if failures:
        return Finding("failed", failures[0], details={"all": failures})
    if open_points:
        return Finding("not decided", f"no verdict at {', '.join(dict.fromkeys(open_points))}"[:140])
    note = allowed.note(looked, len(offered))
    if not sides:
        return Finding("ok", f"{note}no kink was met at {probed} exact points")
    what = "; ".join(f"{side} at {label}" for label, side in sides.items())
    return Finding("ok", f"{note}{what} ({probed} exact points)"[:150])


def _judge_kink(
    subject: Subject, point: Point, base: ExactRun, around: Sequence[Mapping[str, Any]], elementwise: bool, policy: str,
    sides: dict[str, str], open_points: list[str], rounding: bool,
) -> str:  # fmt: skip
    bits = 40 if rounding else SHIFT_BITS // 2  # rounded constants agree in the digits of a double only
    if subject.opaque:
        bits, run = 20, None  # its floats are compared, by half of their digits
    else:
        run = base if base.yours else None
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
            if subject.opaque:
                yours = arb(float(array[spot]))
            if not yours.is_finite():
                if np.isfinite(array[spot]):
                    continue
                return f"{array[spot]} at {point.label} ({_side_text(low, high)})"
            verdict = _side(yours, low, high, base.true[name][spot].value, policy, bits)
            loose = verdict == "outside" and policy == "interval" and not elementwise and not _close(low, high)
            if loose and _by_convention(subject, point, base, name, run):
                sides.setdefault(point.label, "one convention at every tie")
            elif verdict == "outside" and not _close(low, high) and not elementwise:
                if point.label not in open_points and policy == "interval":
                    open_points.append(point.label)
            elif verdict in ("outside", "other branch"):
                note = "where the gradient exists: " if _close(low, high) else ""
                asked = f" (asked for: {_ASKED[policy]})" if policy != "interval" and not note else ""
                return f"at {point.label} {note}yours {show(yours)}, {_side_text(low, high)}{asked}"
            elif verdict != "smooth":
                sides.setdefault(point.label, verdict)
    return ""


def _by_convention(subject: Subject, point: Point, base: ExactRun, name: str, run: ExactRun | None) -> bool:
    """Tell whether the whole gradient is that of forward with one convention at all its ties.

    Where many units switch at once (all weights 0) the gradients around are those of mixed branches, and the limits
    taken do not reach every mixture; σ′(0) = 0 in every unit is a derivative all the same.
    """
    if run is None or run.yours.get(name) is None:
        return False
    for tie in ("", "other", "middle"):
        try:
            true = run_exact(subject, point, upstream=base.upstream, only_true=True, tie=tie).true[name]
        except Exception:
            continue
        if same(run.yours[name], true):
            return True
    return False


def _base(subject: Subject, point: Point) -> ExactRun:
    """Run both at the point; forward alone where backward cannot."""
    if not subject.opaque:
        try:
            return run_exact(subject, point)
        except Exception:  # forward's own comes again
            pass
    return run_exact(subject, point, only_true=True)


def _close(a: arb, b: arb, bits: int = SHIFT_BITS // 2) -> bool:
    scale = max(abs(a).abs_upper(), abs(b).abs_upper(), arb(1))
    return (a - b).abs_upper() < scale * arb(2) ** -bits


def _side_text(low: arb, high: arb) -> str:
    return f"true {show(low)}" if _close(low, high) else f"one-sided derivatives {show(low)} and {show(high)}"


def _side(yours: arb, low: arb, high: arb, branch: arb, policy: str, bits: int) -> str:
    """Name where a returned value lies among the one-sided derivatives."""
    if _close(low, high):
        return "smooth" if _close(yours, low, bits) else "outside"
    if policy == "midpoint":
        return "the midpoint" if _close(2 * yours, low + high, bits) else "other branch"
    if policy != "interval":  # ``branch`` is then forward's own, or that of the side asked for
        return _ASKED[policy] if _close(yours, branch, bits) else "other branch"
    if _close(yours, low, bits):
        return "the smaller side"
    if _close(yours, high, bits):
        return "the larger side"
    if _close(2 * yours, low + high, bits):
        return "the midpoint"
    return "inside the interval" if low < yours < high else "outside"
