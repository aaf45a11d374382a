"""``backproof accuracy --points 10000000``: kernels at a sample that only compiled balls can hold against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..numerics.accuracy import bound
from ..numerics.dense import BLOCK, Dense, measure_dense
from ..numerics.limits import AtInfinity, judged_ends
from ..theory.activations import Activation
from .options import emit, progress

LABELS = ("f", "f′", "f″")


def measure_all(
    rows: Sequence[Activation], dtype: str, target: str, points: int, seed: int, threads: int | None, as_json: bool
) -> int:
    """Measure value, first and second derivative of every row; exit status 1 if a promised bound is broken.

    Results come row by row; as JSON one object, or for several rows one object a line. A row that an earlier run has
    finished is not measured again.
    """
    kept = True
    for k, row in enumerate(rows):
        place = f"{k + 1} of {len(rows)}: " if len(rows) > 1 else ""
        with progress(f"{place}{row.name}", -(-points // BLOCK) * BLOCK, quiet=as_json) as advance:
            found = measure_dense(row, dtype, points=points, target=target, seed=seed, threads=threads, advance=advance)
        entries = [judged(row, entry, target) for entry in found]
        kept = kept and all(entry["kept"] for entry in entries)
        data = {"name": row.name, "dtype": dtype, "target": target, "kept": all(e["kept"] for e in entries)}
        emit(data | {"orders": entries}, as_json, text(row, found, entries))
    return 0 if kept else 1


def judged(row: Activation, found: Dense, target: str) -> dict[str, Any]:
    """One measurement as data, with the promise and whether it is kept: not while the two kinds of balls differ."""
    promised = bound(row, found.dtype, found.order, target)
    ends = judged_ends(row, found.order, found.at_minus_infinity, found.at_plus_infinity, found.dtype)
    at_ends = all(end.right is not False for end in ends)
    right = promised is None or (found.worst_ulp <= promised and found.differing == 0 and at_ends)
    figures = {"worst_ulp": found.worst_ulp, "mean_ulp": found.mean_ulp, "bound": promised, "kept": right}
    return asdict(found) | figures | {"ends": [asdict(end) for end in ends]}


def text(row: Activation, found: Sequence[Dense], entries: Sequence[dict[str, Any]]) -> str:
    """One row's measurements for people."""
    lines = [f"{row.name}, {found[0].dtype}: error in ULP at adversarial points, each decided in balls to 1/1000"]
    for entry, data in zip(found, entries, strict=True):
        lines += _one(entry, data)
    return "\n".join(lines)


def _one(entry: Dense, data: dict[str, Any]) -> list[str]:
    promised = data["bound"]
    said = "" if promised is None else f", promised ≤ {promised:g}" + ("" if data["kept"] else " BROKEN")
    at = ""
    if entry.worst:
        _, point, got = entry.worst[0]
        at = f" at x = {point!r} (gives {got!r}, exact {entry.exact})"
    worst = entry.worst[0][0] if entry.worst else float("nan")
    lines = [f"  {LABELS[entry.order]:2} {worst:.4g} ULP{at}{said}"]
    counts = [f"{entry.points:,} points", f"mean {entry.mean_ulp:.3f}", f"over ½: {entry.over_half:,}",
              f"over 1: {entry.over_one:,}"]  # fmt: skip
    if entry.failures:
        counts.append(f"NaN or ∞ for a number: {entry.failures:,}, first x = {entry.failed_at[0]!r}")
    for name, count in (("decided with more than 128 bits", entry.decided_later), ("not decided", entry.undecided),
                        ("not defined", entry.undefined)):  # fmt: skip
        if count:
            counts.append(f"{name}: {count:,}")
    lines.append(f"     {'; '.join(counts)}")
    lines.append(f"     {'; '.join(str(AtInfinity(**end)) for end in data['ends'])}")
    control = f"     the formula's own balls give the same at {entry.controls - entry.differing} of {entry.controls}"
    lines.append(f"{control} random points" + (" DIFFERENT AT THE OTHERS" if entry.differing else ""))
    return lines
