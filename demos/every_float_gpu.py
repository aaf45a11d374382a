"""``backproof accuracy --target cuda --exhaustive``: float32 CUDA kernels at every input, measured on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ..numerics.accuracy import bound
from ..numerics.cuda_exhaustive import ALL, GpuErrors, exhaustive_on_gpu
from ..theory.activations import Activation
from .every_float import FAST_BOUND
from .options import emit, progress

LABELS = ("f", "f′", "f″")


def exhaust_on_gpu(rows: Sequence[Activation], stride: int, as_json: bool, *, precision: str = "default") -> int:
    """Measure value, first and second derivative of every row; exit status 1 if a promised bound is broken.

    Results are printed row by row; as JSON one object, or for several rows one object a line.
    """
    kept = True
    for row in rows:
        entries = []
        with progress(f"{row.name} on the GPU", 3 * ALL, quiet=as_json) as advance:
            for order in range(3):
                found = exhaustive_on_gpu(row, order, precision=precision, stride=stride, advance=advance)
                entries.append(judged(row, found))
        kept = kept and all(entry["kept"] for entry in entries)
        data = {"name": row.name, "target": "cuda", "precision": precision, "stride": stride, "results": entries}
        emit(data | {"kept": all(entry["kept"] for entry in entries)}, as_json, _printer(row, entries))
    return 0 if kept else 1


def judged(row: Activation, found: GpuErrors) -> dict[str, Any]:
    """One measurement as data, with the promise and whether it is kept."""
    promised = bound(row, "float32", found.order, "cuda")
    if promised is not None and found.precision == "fast":
        promised = FAST_BOUND
    kept = promised is None or (found.worst_ulp <= promised and found.failures == 0)
    return asdict(found) | {"worst_ulp": found.worst_ulp, "bound": promised, "kept": kept}


def _printer(row: Activation, entries: Sequence[dict[str, Any]]) -> Callable[[], str]:
    return lambda: text(row, entries)


def text(row: Activation, entries: Sequence[dict[str, Any]]) -> str:
    """One row's measurements for people."""
    first = entries[0]
    every = "every float32" if first["stride"] == 1 else f"every {first['stride']}th float32"
    lines = [f"{row.name}, float32, target cuda: {every}, {first['checked']:,} inputs, NaN and ±∞ among them"]
    for entry in entries:
        error, at, got = entry["worst"][0]
        said = "" if entry["bound"] is None else f", promised ≤ {entry['bound']:g}"
        said += "" if entry["kept"] else " BROKEN"
        lines.append(f"  {LABELS[entry['order']]:2} {error:.7g} ULP at x = {at!r} (gives {got!r}){said}")
        lines.append(
            f"     over ½: {entry['over_half']:,}; within {entry['margin']:.2g} of ½: {entry['ties']:,}; "
            f"over 1: {entry['over_one']:,}; NaN or ∞ where that is wrong: {entry['failures']:,}"
        )
    lines.append("  reference: the float64 kernel on the GPU; the largest errors are decided in balls")
    return "\n".join(lines)
