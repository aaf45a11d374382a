"""``backproof accuracy --exhaustive``: float32 kernels, and others' functions beside them, at every input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import sympy

from ..numerics.accuracy import bound
from ..numerics.contestants import LIBRARIES, derivatives_of, has
from ..numerics.exhaustive import ALL, ASSUMED, OWN, Exhaustive, exhaustive
from ..numerics.limits import AtInfinity, judged_ends
from ..theory.activations import ACTIVATIONS, Activation
from .options import emit, progress

LABELS = ("f", "f′", "f″")


def whole_table() -> list[Activation]:
    """Every row at its default parameters, and each that has some at other values too."""
    return [row for base in ACTIVATIONS.values() for row in (base, *_elsewhere(base))]


def _elsewhere(row: Activation) -> tuple[Activation, ...]:
    """The row at 7/4 of each parameter (at 7/4 where that is no rational number)."""
    if not row.parameters:
        return ()
    factor = sympy.Rational(7, 4)
    return (
        row.with_parameters(**{str(k): factor * v if v.is_Rational else factor for k, v in row.parameters.items()}),
    )


def exhaust(
    rows: Sequence[Activation],
    stride: int,
    against: str | None,
    as_json: bool,
    *,
    precision: str = "default",
    threads: int | None = None,
) -> int:
    """Measure value, first and second derivative of every row; exit status 1 if a promised bound is broken.

    Results are printed row by row; as JSON one object, or for several rows one object a line, so that what is there is
    whole when a run is stopped.
    """
    kept = True
    for k, row in enumerate(rows):
        theirs = (
            {}
            if against is None or (len(rows) > 1 and not has(row, against))
            else {against: derivatives_of(row, against)}
        )
        place = f"{k + 1} of {len(rows)}: " if len(rows) > 1 else ""
        with progress(f"{place}{row.name}", ALL) as advance:
            found = exhaustive(
                row, stride=stride, precision=precision, against=theirs, threads=threads, advance=advance
            )
        entries = [judged(row, state, precision) for state in found]
        kept = kept and all(entry["kept"] for entry in entries)
        data = {"name": row.name, "stride": stride, "precision": precision, "kept": all(e["kept"] for e in entries)}
        emit(data | {"results": entries}, as_json, _printer(row, found, entries))
    return 0 if kept else 1


def judged(row: Activation, state: Exhaustive, precision: str) -> dict[str, Any]:
    """One measurement as data, with the promise and whether it is kept (of others' functions none is made)."""
    promised = bound(row, "float32", state.order) if state.contestant == OWN else None
    if promised is not None and precision == "fast":
        promised = FAST_BOUND
    right = True
    if promised is not None:
        right = state.worst_ulp <= promised and state.failures == state.nan_lost == 0 and not unreliable(state)
    ends = judged_ends(row, state.order, state.at_minus_infinity, state.at_plus_infinity, "float32")
    if promised is not None and any(end.right is False for end in ends):
        right = False
    figures = {"worst_ulp": state.worst_ulp, "bound": promised, "kept": right}
    return asdict(state) | figures | {"ends": [asdict(end) for end in ends]}


def unreliable(state: Exhaustive) -> bool:
    """Whether the reference was found further off than the comparison allows it."""
    return not state.reference_worst_ulp <= ASSUMED


#: ULP that ``precision="fast"`` promises.
FAST_BOUND = 4.0


def _printer(row: Activation, found: Sequence[Exhaustive], entries: Sequence[dict[str, Any]]) -> Callable[[], str]:
    return lambda: text(row, found, entries)


def text(row: Activation, found: Sequence[Exhaustive], entries: Sequence[dict[str, Any]]) -> str:
    """One row's measurements for people."""
    first = found[0]
    every = "every float32" if first.stride == 1 else f"every {first.stride}th float32"
    lines = [f"{row.name}, float32: {every}, {first.checked:,} finite inputs"]
    for state, entry in zip(found, entries, strict=True):
        lines += _one(state, entry)
    worst = max((s for s in found if s.contestant == OWN), key=lambda s: s.reference_worst_ulp)
    lines.append(
        f"  reference: the float64 kernel, at most {worst.reference_worst_ulp:.2f} ULP of float64 at "
        f"{worst.reference_points} points in balls "
        f"({first.margin * 2**29:.0f} allowed, {first.margin:.2g} ULP of float32)"
    )
    if any(map(unreliable, found)):
        orders = ", ".join(sorted({LABELS[s.order] for s in found if unreliable(s)}))
        lines.append(f"  NOT RELIABLE for {orders}: the reference is further off than that")
    return "\n".join(lines)


def _one(state: Exhaustive, entry: dict[str, Any]) -> list[str]:
    error, at, got = state.worst[0] if state.worst else [0.0, float("nan"), float("nan")]
    promised = entry["bound"]
    said = "" if promised is None else f", promised ≤ {promised:g}" + ("" if entry["kept"] else " BROKEN")
    who = "" if state.contestant == OWN else f" {LIBRARIES.get(state.contestant, state.contestant)}"
    line = f"  {LABELS[state.order]:2}{who} {error:.7g} ULP at x = {at!r} (gives {got!r}){said}"
    half = f"over ½: {state.over_half:,}"
    if state.just_over_half:
        half += f" ({state.just_over_half:,} by less than {state.margin:.2g})"
    counts = [half, f"over 1: {state.over_one:,}", f"NaN or ∞ for a number: {state.failures:,}"]
    counts += [f"subnormals flushed to 0: {state.flushed:,}", f"NaN in, number out: {state.nan_lost:,}"]
    if state.undefined:
        counts.append(f"not defined at {state.undefined:,}")
    ends = "; ".join(str(AtInfinity(**end)) for end in entry["ends"])
    near = f"within {state.margin:.2g} of ½: {state.near_half:,}"
    if state.near_half:
        decided = [(state.decided_by_law, "exactly"), (state.decided_in_balls, "in balls"), (state.undecided, "not")]
        near += ", decided " + ", ".join(f"{how} {count:,}" for count, how in decided if count)
    return [line, f"     {'; '.join(counts)}", f"     {ends}; {near}"]
