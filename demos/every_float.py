"""``backproof accuracy --exhaustive``: float32 kernels, and others' functions beside them, at every input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ..numerics.accuracy import bound
from ..numerics.exhaustive import ALL, Exhaustive, exhaustive
from ..theory.activations import Activation
from ..theory.errors import InputError
from .options import emit, progress

Array = npt.NDArray[Any]
ORDERS = (0, 1)
LABELS = ("value", "derivative")


def theirs(row: Activation, order: int, whose: str) -> Callable[[Array], Array]:
    """The formula as written in NumPy's float32, or PyTorch's function (its derivative by autograd).

    Raises :class:`InputError` where PyTorch is not installed or has no such function.
    """
    return _numpy(row, order) if whose == "numpy" else _torch(row, order)


def _numpy(row: Activation, order: int) -> Callable[[Array], Array]:
    from ..numerics.acceptance import as_written_program
    from ..numerics.targets.numpy import print_source

    source = print_source(as_written_program(row, order), dtype="float32").replace("np.float64", "np.float32")
    namespace: dict[str, Any] = {}
    exec(compile(source, "<generated>", "exec"), namespace)  # our own generated source

    def run(points: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(namespace["run"](points), dtype=np.float32)

    return run


def _torch(row: Activation, order: int) -> Callable[[Array], Array]:
    from .bench import TORCH

    try:
        import torch
    except ImportError:
        raise InputError("--against torch: PyTorch is not installed") from None
    if row.name not in TORCH:
        raise InputError(f"--against torch: PyTorch has no {row.name}")
    function = getattr(torch, TORCH[row.name], None) or getattr(torch.nn.functional, TORCH[row.name])

    def run(points: Array) -> Array:
        tensor = torch.from_numpy(points.copy()).requires_grad_(order == 1)
        result = function(tensor)
        if order == 1:
            (result,) = torch.autograd.grad(result, tensor, torch.ones_like(result))
        array: Array = result.detach().numpy()
        return array

    return run


def exhaust(rows: list[Activation], stride: int, against: str | None, as_json: bool) -> int:
    """Measure value and first derivative of every row; exit status 1 if a promised bound is broken."""
    report, kept = [], True
    for row in rows:
        for order in ORDERS:
            runs: dict[str, Callable[[Array], Array] | None] = {"backproof": None}
            if against is not None:
                runs[against] = theirs(row, order, against)
            for whose, run in runs.items():
                with progress(f"{row.name} {LABELS[order]} {whose}", ALL, quiet=as_json) as advance:
                    state = exhaustive(row, order, stride=stride, contestant=whose, run=run, advance=advance)
                promised = bound(row, "float32", order) if run is None else None
                holds = promised is None or state.worst_ulp <= promised
                kept = kept and holds
                report.append(asdict(state) | {"worst_ulp": state.worst_ulp, "bound": promised})
                if not as_json:
                    emit({}, False, text(state, promised, holds))
    if as_json:
        emit({"kept": kept, "results": report}, True, "")
    return 0 if kept else 1


def text(state: Exhaustive, promised: float | None, holds: bool) -> str:
    """One measurement for people."""
    every = "every float32" if state.stride == 1 else f"every {state.stride}th float32"
    error, at, got = state.worst[0]
    said = "" if promised is None else f"   promised ≤ {promised:g}" + ("" if holds else " BROKEN")
    lines = [
        f"{state.name} {LABELS[state.order]}, {state.contestant}: {every}, {state.checked} finite inputs",
        f"  largest error {error:.6g} ULP at x = {at!r} (gives {got!r}){said}",
        f"  over ½ ULP {state.over_half}, over 1 ULP {state.over_one}, NaN or ∞ for a number {state.failures}; "
        f"{state.undecided} within {state.margin:.1g} of ½ not decided, {state.decided_in_balls} decided in balls",
        f"  reference: the float64 kernel, measured {state.reference_worst_ulp:.2f} ULP of float64 "
        f"(= {state.reference_worst_ulp * 2.0**-29:.1g} of float32) at {state.reference_points} points",
    ]
    return "\n".join(lines)
