"""``backproof bench``: time of value and first derivative, ours beside what people would write or call."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import click

from ..theory.activations import ACTIVATIONS, activation
from ..theory.errors import InputError, Unsupported
from .options import emit, json_option, output_option, progress, seed_option

DEFAULT = ("relu", "sigmoid", "tanh", "silu", "gelu", "mish", "softplus", "elu")
MOST_ENTRIES = 100_000_000
#: Columns of the table: contestant, heading.
HEADINGS = {
    "backproof, fast": "fast",
    "copy": "copy",
    "torch, eager": "PyTorch",
    "jax, jitted": "JAX",
    "numpy, as written": "NumPy",
    "numpy, as derived": "NumPy",
    "numexpr": "numexpr",
    "numba, as written": "Numba",
}


def sizes_of(text: str) -> tuple[int, ...]:
    """The sizes in "1e3,1e4,1000000"; raises :class:`InputError` naming what is none."""
    sizes = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = float("nan")
        if not (1 <= number <= MOST_ENTRIES and number == int(number)):
            raise InputError(f"--sizes: {part.strip()!r} is no whole number from 1 to {MOST_ENTRIES}, such as 1e6")
        sizes.append(int(number))
    return tuple(sizes)


def measure(
    names: tuple[str, ...], dtypes: tuple[str, ...], sizes: tuple[int, ...], rounds: int, seed: int, target: str,
    *, fast: bool, threads: int | None, value: bool = False, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """All races as plain data: one entry for each dtype and size."""
    from ..numerics.racing import BOTH, VALUE, processors, raced, raced_on_cuda, summary

    races, orders = [], VALUE if value else BOTH
    with processors(threads) as used, progress("racing", len(names) * len(dtypes) * len(sizes), quiet=quiet) as advance:
        for dtype in dtypes:
            for size in sizes:
                results: dict[str, Any] = {}
                for name in names:
                    row = activation(name)
                    if target == "cuda":
                        results[row.name] = raced_on_cuda(row, dtype, size, rounds)
                    else:
                        results[row.name] = raced(row, dtype, size, rounds, seed=seed, fast=fast, orders=orders)
                    advance(1)
                races.append({"dtype": dtype, "size": size, "results": results, "summary": summary(results)})
    what = "the value alone" if value else "value and first derivative in one pass"
    return {"what": what, "rounds": rounds, "target": target, "threads": used, "machine": machine(), "races": races}


def machine() -> str:
    """The processor's name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def text(data: dict[str, Any]) -> str:
    """Every race as a table."""
    where = f"on {data['machine']}, {data['threads']} threads" if data["target"] == "cpu" else "on the GPU"
    lines = [f"{data['what']} {where}: median of {data['rounds']} interleaved rounds [quartiles];"]
    lines += ["others: how many times as long as backproof (copy: of one array, below 1)"]
    for one in data["races"]:
        lines += ["", *table(one)]
    return "\n".join(lines)


def table(one: dict[str, Any]) -> list[str]:
    """One dtype and size: a line a row of activations, then the geometric mean and the least ratio of each column."""
    found = {name for by in one["results"].values() for name in by} - {"backproof"}
    names = [name for name in HEADINGS if name in found] + sorted(found - set(HEADINGS))
    rows: list[tuple[str, ...]]
    size = "x".join(map(str, one["shape"])) if "shape" in one else f"{one['size']:,}"
    rows = [(f"{one['dtype']}, {size}", "ms", "", "ns/entry", "GB/s", *(HEADINGS.get(n) or n for n in names))]
    for row, by in one["results"].items():
        own = by["backproof"]
        spread = f"[{own['low_ms']:.4g}, {own['high_ms']:.4g}]"
        cells = [f"{by[n]['median_ms'] / own['median_ms']:.2f}" if n in by else "–" for n in names]
        speed = (f"{own['median_ms']:.4g}", spread, f"{own['ns_per_entry']:.2f}", f"{own['gigabytes_per_s']:.1f}")
        rows.append((row, *speed, *cells))
    if len(one["results"]) > 1:
        of = one["summary"]
        rows.append(("geometric mean", "", "", "", "", *(f"{of[n]['geometric_mean']:.2f}" for n in names)))
        rows.append(("least", "", "", "", "", *(f"{of[n]['least']:.2f}" for n in names)))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    if len(one["results"]) > 1:
        least = ", ".join(f"{HEADINGS.get(n, n)} {one['summary'][n]['least_row']}" for n in names)
        lines.append(f"(least at: {least})")
    return lines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("formulas", metavar="[NAME|FORMULA]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every activation of the table.")
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32", "both"]),
    default="float32",
    show_default=True,
)
@click.option("--size", type=click.IntRange(1, MOST_ENTRIES), default=1_000_000, show_default=True, help="Entries.")
@click.option("--sizes", help="Several sizes, as in 1e3,1e4,1e5,1e6,1e7.")
@click.option("--rows", is_flag=True, help="Race row kernels: softmax, the norms, gated units; NAMEs are such.")
@click.option("--losses", is_flag=True, help="Race losses with their gradients; NAMEs are such.")
@click.option("--shapes", help="With --rows or --losses: rows x columns, as in 512x768,4096x1024 (the default).")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=15, show_default=True, help="Rounds of calls.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Hold everybody to so many processors.")
@click.option(
    "--precision",
    type=click.Choice(["default", "fast"]),
    default="default",
    show_default=True,
    help="fast: race the kernels of at most 4 ULP, too.",
)
@click.option("--value", is_flag=True, help="Race the value alone, against PyTorch's forward call.")
@click.option("--target", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@seed_option
@output_option
@json_option
def command(
    formulas: tuple[str, ...], every: bool, dtype: str, size: int, sizes: str | None, rows: bool, losses: bool,
    shapes: str | None, rounds: int, threads: int | None, precision: str, value: bool, target: str, seed: int,
    output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Race the generated kernels: value and first derivative in one pass.

    Beside them, where installed: PyTorch's forward and backward, JAX jitted, the formula as it stands in NumPy, numexpr
    and Numba, and a copy of the array. Rounds are interleaved, so a slow moment of the machine hits all of them. The
    picture (--output) shows GB/s beside the copy's.

    --rows and --losses race the forward and backward pass of row kernels and of losses (mean over the rows; labels
    where a target is one-hot), all of the table or those named, at each of --shapes.
    """
    dtypes = ("float32", "float64") if dtype == "both" else (dtype,)
    if rows or losses:
        from .bench_rows import command as race_rows

        if rows and losses:
            raise InputError("bench: --rows and --losses are two races: ask for one")
        if every or sizes or output or value or precision != "default" or target != "cpu":
            raise InputError(
                "bench: --rows and --losses take NAMEs, --shapes, --dtype, --rounds, --threads, --seed, --json"
            )
        race_rows("rows" if rows else "losses", formulas, dtypes, shapes, rounds, threads, seed, as_json)
        return
    if shapes:
        raise InputError("bench: --shapes goes with --rows or --losses; of arrays say --size or --sizes")
    if value and target != "cpu":
        raise InputError("bench: --value races on the CPU; --target cuda races value and derivative in one pass")
    if every and formulas:
        raise InputError("bench: name activations or --all, not both")
    names = tuple(ACTIVATIONS) if every else formulas or DEFAULT
    for name in names:
        activation(name)  # a wrong name is refused before anything is timed
    chosen = sizes_of(sizes) if sizes else (size,)
    try:
        data = measure(
            names, dtypes, chosen, rounds, seed, target, fast=precision == "fast", threads=threads, value=value,
            quiet=as_json,
        )  # fmt: skip
    except MemoryError:
        raise Unsupported(f"bench: {max(chosen)} entries do not fit into memory") from None
    if output is not None:
        from .bench_picture import roofline
        from .pictures import save

        save(roofline(data), output)
    emit(data, as_json, lambda: text(data))
