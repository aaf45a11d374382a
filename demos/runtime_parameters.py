"""``backproof accuracy --runtime-parameters``: kernels with parameters at call time, over their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from ..numerics.parametric import parametric_kernel
from ..numerics.parametric_accuracy import Measured, measure_parametric, parameter_values
from ..theory.activations import Activation
from .options import emit, progress


def measure_all(rows: Sequence[Activation], dtype: str, points: int, seed: int, as_json: bool, *, every: bool) -> int:
    """Measure each row that has parameters; exit status 1 if a promise is broken."""
    rows = [row for row in rows if row.parameters or not every]
    report, kept = [], True
    for row in rows:
        compiled = parametric_kernel(row, dtype)
        values = list(parameter_values(row, dtype))
        found: list[Measured] = []
        with progress(row.name, len(values), quiet=as_json) as advance:
            for each in values:
                found += measure_parametric(compiled, each, size=points, seed=seed)
                advance(1)
        kept = kept and all(m.kept for m in found)
        report.append({"name": row.name, "dtype": dtype, "outputs": [_as_data(m) for m in found]})
        if not as_json:
            emit({}, False, _table(row, dtype, found))
    if as_json:
        click.echo(json.dumps({"kept": kept, "results": report} if every else {"kept": kept, **report[0]}, indent=2))
    return 0 if kept else 1


def _as_data(m: Measured) -> dict[str, Any]:
    a = m.accuracy
    return {
        "output": m.label, "parameters": dict(m.parameters), "bound": m.bound, "worst_ulp": a.worst_ulp,
        "worst_input": a.worst_input, "computed": a.worst_computed, "exact": a.worst_exact, "points": a.points,
        "undecided": a.undecided, "failures": list(a.failures[:20]), "kept": m.kept,
    }  # fmt: skip


def _table(row: Activation, dtype: str, found: Sequence[Measured]) -> str:
    """One line an output: the worst over the values."""
    lines = [
        f"{row.name}, {dtype}, parameters at call time: error in ULP against the exact value, "
        f"{len({tuple(m.parameters.items()) for m in found})} values, {sum(m.accuracy.points for m in found):,} points"
    ]
    for label in dict.fromkeys(m.label for m in found):
        of = [m for m in found if m.label == label]
        lines.append(_line(label, max(of, key=lambda m: m.accuracy.worst_ulp), all(m.kept for m in of)))
    undecided = sum(m.accuracy.undecided for m in found)
    if undecided:
        lines.append(f"not decided at {undecided} points: not counted above")
    return "\n".join(lines)


def _line(label: str, worst: Measured, kept: bool) -> str:
    a = worst.accuracy
    at = ", ".join(f"{name} = {value!r}" for name, value in worst.parameters.items())
    promise = "no promise" if worst.bound is None else f"promised ≤ {worst.bound:g}{'' if kept else ' BROKEN'}"
    return f"  {label:<12} {a.worst_ulp:.3g} at x = {a.worst_input!r}, {at}; {promise}"
