"""``backproof accuracy``: a kernel's error in ULP against the exact value, and the formula's own beside it.

With ``--exhaustive`` every float32 input is measured (:mod:`.every_float`).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import click

from ..numerics.accuracy import Accuracy, adversarial_sample, bound, measure_accuracy
from ..numerics.limits import judged_ends
from ..theory.activations import ACTIVATIONS, Activation, activation
from ..theory.errors import InputError
from .options import emit, json_option, progress, seed_option

ORDERS = ("f", "f′", "f″")
#: Above so many points a sample is drawn in blocks and held against compiled balls (:mod:`.dense_accuracy`).
DENSE_FROM = 20_000


def measured(
    row: Activation, dtype: str, target: str, size: int, seed: int, *, compare: bool = True, quiet: bool = True
) -> list[dict[str, Any]]:
    """One entry per order: the kernel's accuracy, its promised bound, and the error of the formula as written."""
    from ..numerics.acceptance import as_written_program, run_with_numpy
    from ..numerics.kernels import HALF, kernel

    if dtype in HALF:
        return [_every_half(row, dtype, order, quiet) for order in (0, 1, 2)]
    compiled = kernel(row, dtype, target)
    entries = []
    for order in (0, 1, 2):
        points = adversarial_sample(row, order, dtype, size=size, seed=seed)
        with progress(f"{row.name} {ORDERS[order]}", len(points) * (1 + compare), quiet=quiet) as advance:
            result = measure_accuracy(compiled, n_derivative=order, points=points, advance=advance)
            naive = None
            if compare:
                written = run_with_numpy(as_written_program(row, order), dtype)
                naive = measure_accuracy(compiled, n_derivative=order, points=points, against=written, advance=advance)
        entries.append(_entry(row, result, target, naive))
    return entries


def _entry(row: Activation, result: Accuracy, target: str = "cpu", naive: Accuracy | None = None) -> dict[str, Any]:
    ends = judged_ends(row, result.order, result.at_minus_infinity, result.at_plus_infinity, result.dtype)
    return {
        "accuracy": result,
        "bound": bound(row, result.dtype, result.order, target),
        "as_written": naive,
        "ends": ends,
    }


def _every_half(row: Activation, dtype: str, order: int, quiet: bool) -> dict[str, Any]:
    """One order of a 16-bit kernel at every finite input."""
    from ..numerics.half import PATTERNS, measure_half

    with progress(f"{row.name} {ORDERS[order]}", PATTERNS, quiet=quiet) as advance:
        result = measure_half(row, dtype, order, advance)
    return _entry(row, result)


def table(row: Activation, dtype: str, target: str, entries: list[dict[str, Any]]) -> str:
    """The figures for people."""
    title = f"{row.name}, {dtype}, target {target}: error in ULP against the exact value (correct rounding: ½)"
    rows = [_HEADING, *(_figures(order, entry) for order, entry in enumerate(entries))]
    a: Accuracy = entries[0]["accuracy"]
    limits = [f"{ORDERS[k]} {'; '.join(map(str, entry['ends']))}" for k, entry in enumerate(entries)]
    limits[0] += f"; f(NaN) = {a.at_nan:g}"
    return "\n".join([title, *_aligned(rows), *limits, *_left_out(entries)])


_HEADING = ("", "worst", "at x =", "mean", "points", "promised", "as written")
#: The columns with numbers are flush right, the others left.
_NUMBERS = {1, 2, 3, 4}


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their longest cell, two spaces between any two."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADING))]
    return [
        "  ".join(
            f"{cell:>{width}}" if k in _NUMBERS else f"{cell:<{width}}"
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _figures(order: int, entry: dict[str, Any]) -> tuple[str, ...]:
    a: Accuracy = entry["accuracy"]
    promised = "none" if entry["bound"] is None else f"≤ {entry['bound']:g}" + ("" if holds(entry) else " BROKEN")
    naive = "" if entry["as_written"] is None else _naive(entry["as_written"])
    mean = f"{a.mean_ulp:.3f}" if a.mean_ulp < 1e4 else f"{a.mean_ulp:.3g}"
    return ORDERS[order], f"{a.worst_ulp:.3g}", repr(a.worst_input), mean, str(a.points), promised, naive


def _left_out(entries: list[dict[str, Any]]) -> list[str]:
    """The points that no figure counts, and why."""
    lines = []
    for name, field in (("not defined at", "undefined"), ("not decided at", "undecided")):
        counts = [(ORDERS[k], getattr(entry["accuracy"], field)) for k, entry in enumerate(entries)]
        if any(count for _, count in counts):
            places = ", ".join(f"{count} points ({order})" for order, count in counts if count)
            lines.append(f"{name} {places}: not counted above")
    return lines


def _naive(a: Accuracy) -> str:
    if math.isinf(a.worst_ulp):
        return f"NaN or ∞ at {len(a.failures)} points, first x = {a.failures[0]!r}"
    return f"{a.worst_ulp:.3g} at x = {a.worst_input!r}"


def holds(entry: dict[str, Any]) -> bool:
    """Whether the measured error keeps the promise, and ±∞ gives the limit (none made: nothing to keep)."""
    if entry["bound"] is None:
        return True
    return entry["accuracy"].worst_ulp <= entry["bound"] and all(end.right is not False for end in entry["ends"])


def _as_data(entry: dict[str, Any]) -> dict[str, Any]:
    a: Accuracy = entry["accuracy"]
    naive = entry["as_written"]
    return {
        "order": a.order, "worst_ulp": a.worst_ulp, "worst_input": a.worst_input, "computed": a.worst_computed,
        "exact": a.worst_exact, "mean_ulp": a.mean_ulp, "over_half": a.over_half, "over_one": a.over_one,
        "points": a.points, "undecided": a.undecided, "undefined": a.undefined,
        "failures": list(a.failures[:20]), "bound": entry["bound"],
        "at_nan": a.at_nan, "at_plus_infinity": a.at_plus_infinity, "at_minus_infinity": a.at_minus_infinity,
        "ends": [asdict(end) for end in entry["ends"]],
        "as_written_worst_ulp": None if naive is None else naive.worst_ulp,
        "as_written_worst_input": None if naive is None else naive.worst_input,
        "as_written_failures": None if naive is None else len(naive.failures),
    }  # fmt: skip


def _explained(rows: list[Activation], dtype: str, size: int, seed: int, as_json: bool) -> int:
    """Value and first derivative of each row, as written and as computed."""
    from ..numerics.explaining import as_text, explain

    report = []
    for row in rows:
        for order in (0, 1):
            with progress(f"{row.name} {ORDERS[order]}", size, quiet=as_json) as advance:
                found = explain(row, order, dtype, size=size, seed=seed, advance=advance)
            before, after = found.errors
            report.append({"name": row.name, "dtype": dtype, "as_written_ulp": before, "ulp": after} | asdict(found))
            if not as_json:
                emit({}, False, as_text(found, f"{row.name}, {ORDERS[order]}, {dtype}"))
    if as_json:
        emit({"results": report}, True, "")
    return 0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("formula", metavar="NAME|FORMULA", required=False)
@click.option("--all", "every", is_flag=True, help="Every activation of the table.")
@click.option(
    "--dtype", type=click.Choice(["float64", "float32", "float16", "bfloat16"]), default="float64", show_default=True
)
@click.option("--target", type=click.Choice(["cpu", "numpy", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--points",
    type=click.IntRange(10, 10**10),
    default=1_000,
    show_default=True,
    help=f"Sample size; above {DENSE_FROM:,} in compiled balls.",
)
@click.option("--compare/--no-compare", default=True, show_default=True, help="Measure the formula as written, too.")
@click.option("--explain", is_flag=True, help="Show where the formula as written fails, and what is computed instead.")
@click.option("--exhaustive", is_flag=True, help="Every float32 input; can be resumed.")
@click.option("--stride", type=click.IntRange(1, 2**31), default=1, show_default=True, help="Every n-th float32 only.")
@click.option(
    "--against", type=click.Choice(["numpy", "torch", "jax"]), help="With --exhaustive: measure theirs beside it."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="With --exhaustive or many points: threads (all processors)."
)
@click.option(
    "--precision",
    type=click.Choice(["default", "fast"]),
    default="default",
    show_default=True,
    help="With --exhaustive: the kernels to measure; fast ones promise 4 ULP.",
)
@click.option(
    "--runtime-parameters", is_flag=True, help="Measure the kernels whose parameters are arguments, over their values."
)
@seed_option
@json_option
def command(
    formula: str | None,
    every: bool,
    dtype: str,
    target: str,
    points: int,
    compare: bool,
    explain: bool,
    exhaustive: bool,
    stride: int,
    against: str | None,
    threads: int | None,
    precision: str,
    runtime_parameters: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Measure a kernel's error in ULP against balls, over an adversarial sample.

    Every exponent, neighbours of kinks, roots, overflow and underflow points, and random points. "As written" is the
    formula printed for NumPy with nothing made stable. float16 and bfloat16 are measured at all their inputs. Exit
    status 1 if a promised bound is broken.

    --explain shows the worst inputs of the formula as written, the stable form in the quantities that decay on each
    half-line, and the error of both.

    --points above 20,000 draws value, first and second derivative of one pass in blocks and holds them against balls
    in a compiled loop: ten million points take minutes a row. With --all, --json prints one object a line as rows are
    done. An interrupted run goes on where it stopped.

    --runtime-parameters measures value, derivatives and the derivative by each parameter of the kernel that takes the
    parameters as arguments, at usual, tiny, huge and, where allowed, negative values and 0.

    --exhaustive holds value, first and second derivative at every float32 input against the float64 kernel, whose own
    error is measured in the same run, and decides exactly wherever that does not. With --all, rows with parameters are
    measured at other values too, and --json prints one object a line as rows are done. An interrupted run goes on where
    it stopped.
    """
    if every == (formula is not None):
        raise InputError("accuracy: name one activation or formula, or --all")
    rows = list(ACTIVATIONS.values()) if every else [activation(formula or "")]
    if runtime_parameters:
        from .runtime_parameters import measure_all as measure_parameters

        if explain or exhaustive or threads is not None or target != "cpu" or dtype not in ("float64", "float32"):
            raise InputError(
                "accuracy: --runtime-parameters is for a sample on the target cpu in float64 or float32, without "
                "--explain, --exhaustive and --threads"
            )
        return measure_parameters(rows, dtype, points, seed, as_json, every=every)
    if explain:
        if exhaustive or target != "cpu":
            raise InputError("accuracy: --explain is for a sample on the target cpu")
        return _explained(rows, dtype, points, seed, as_json)
    if exhaustive:
        from .every_float import exhaust, whole_table

        if dtype != "float32" or target == "numpy":
            raise InputError("accuracy: --exhaustive is for --dtype float32, compiled (2**64 inputs are too many)")
        if target == "cuda":
            if against is not None or threads is not None:
                raise InputError("accuracy: --against and --threads are for the target cpu")
            from .every_float_gpu import exhaust_on_gpu

            return exhaust_on_gpu(whole_table() if every else rows, stride, as_json, precision=precision)
        return exhaust(whole_table() if every else rows, stride, against, as_json, precision=precision, threads=threads)
    if stride != 1 or against is not None or precision != "default":
        raise InputError("accuracy: --stride, --against and --precision go with --exhaustive")
    if points > DENSE_FROM and dtype in ("float64", "float32"):
        from .dense_accuracy import measure_all

        return measure_all(rows, dtype, target, points, seed, threads, as_json)
    if threads is not None:
        raise InputError(f"accuracy: --threads goes with --exhaustive or more than {DENSE_FROM:,} points")
    if dtype in ("float16", "bfloat16") and target != "cpu":
        raise InputError(f"accuracy: --dtype {dtype} is for --target cpu")
    report: list[dict[str, Any]] = []
    kept = True
    for row in rows:
        entries = measured(row, dtype, target, points, seed, compare=compare, quiet=as_json)
        kept = kept and all(holds(e) for e in entries)
        report.append({"name": row.name, "dtype": dtype, "target": target, "orders": [_as_data(e) for e in entries]})
        if not as_json:
            emit({}, False, table(row, dtype, target, entries))
    if as_json:
        emit({"kept": kept, "results": report} if every else {"kept": kept, **report[0]}, True, "")
    return 0 if kept else 1
