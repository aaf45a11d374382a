"""``backproof bench``: time of value and first derivative, the generated kernel beside what people would write or call.

Every contestant computes f(x) and f′(x) for the same array. Rounds are interleaved (one call of each contestant per
round), so a slow moment of the machine hits all of them; the median is reported with the quartiles as its spread.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from ..theory.activations import ACTIVATIONS, Activation, activation
from ..theory.errors import InputError, Unsupported
from .options import emit, json_option, progress, seed_option

Array = npt.NDArray[Any]
Contestant = Callable[[], object]
DEFAULT = ("relu", "sigmoid", "tanh", "silu", "gelu", "mish", "softplus", "elu")


def contestants(row: Activation, points: Array) -> dict[str, Contestant]:
    """What is raced: each computes value and derivative of ``row`` at ``points``, into memory it has where it can."""
    from ..numerics.kernels import kernel

    compiled, out = kernel(row, points.dtype.name), (np.empty_like(points), np.empty_like(points))
    found: dict[str, Contestant] = {
        "backproof": lambda: compiled.value_and_derivative(points, out=out),
        "numpy, as written": _numpy(row, points),
        "numba, as written": _plain_numba(row, points),
        "copy": lambda: np.copyto(out[0], points),
    }
    torch = _torch(row, points)
    return found | ({"torch, eager": torch} if torch else {})


def _programs(row: Activation) -> Any:
    from ..theory.lowering import lower
    from ..theory.symbols import x

    return lower({"value": row.expr, "derivative": row.derivative(1)}, (x,))


def _numpy(row: Activation, points: Array) -> Contestant:
    from ..numerics.targets.numpy import print_source

    namespace: dict[str, Any] = {}
    exec(compile(print_source(_programs(row), dtype=points.dtype.name), "<generated>", "exec"), namespace)

    def run() -> object:
        with np.errstate(all="ignore"):
            return namespace["run"](points)

    return run


def _plain_numba(row: Activation, points: Array) -> Contestant:
    """The formula printed for Numba as it stands, in one thread."""
    from ..numerics.targets.numba_cpu import print_source

    namespace: dict[str, Any] = {}
    source = print_source(_programs(row), dtype=points.dtype.name, cache=False, functions="library")
    exec(compile(source, "<generated>", "exec"), namespace)
    out = (np.empty_like(points), np.empty_like(points))
    return lambda: namespace["run"](points, *out)


def _torch(row: Activation, points: Array) -> Contestant | None:
    """PyTorch's forward and backward, if it is installed and has the function."""
    from ..numerics.contestants import has, torch_function

    try:
        import torch
    except ImportError:
        return None
    if not has(row, "torch"):
        return None
    function = torch_function(row)
    tensor = torch.from_numpy(points.copy()).requires_grad_(True)
    ones = torch.ones_like(tensor)

    def run() -> object:
        return torch.autograd.grad(function(tensor), tensor, ones)

    return run


def race(runners: dict[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, by contestant; one call of each to warm up, then interleaved rounds."""
    for run in runners.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def _figures(seconds: list[float], size: int) -> dict[str, float]:
    low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (seconds[0],) * 3
    return {"median_ms": middle * 1e3, "low_ms": low * 1e3, "high_ms": high * 1e3, "ns_per_entry": middle / size * 1e9}


def measure(names: tuple[str, ...], dtype: str, size: int, rounds: int, seed: int) -> dict[str, Any]:
    """The whole race as plain data."""
    points = np.random.default_rng(seed).normal(0, 3, size).astype(dtype)
    results = {}
    with progress("racing", len(names)) as advance:
        for name in names:
            row = activation(name)
            times = race(contestants(row, points), rounds)
            results[row.name] = {contestant: _figures(t, size) for contestant, t in times.items()}
            advance(1)
    return {"dtype": dtype, "size": size, "rounds": rounds, "machine": platform.processor() or platform.machine(),
            "results": results}  # fmt: skip


def table(data: dict[str, Any]) -> str:
    """Medians in milliseconds with quartiles, and how many times longer than the generated kernel."""
    lines = [f"value and first derivative of {data['size']} {data['dtype']} entries, N(0, 9); median [quartiles] ms"]
    for name, by in data["results"].items():
        lines.append(name)
        own = by["backproof"]["median_ms"]
        for contestant, f in by.items():
            spread = f"{f['median_ms']:9.3f} [{f['low_ms']:.3f}, {f['high_ms']:.3f}]"
            ratio = "" if contestant == "backproof" else f"{f['median_ms'] / own:8.2f}×"
            lines.append(f"  {contestant:18}{spread:32}{f['ns_per_entry']:8.2f} ns/entry{ratio}")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("formulas", metavar="[NAME|FORMULA]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every activation of the table.")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float32", show_default=True)
@click.option("--size", type=click.IntRange(1, 100_000_000), default=1_000_000, show_default=True, help="Entries.")
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), default=15, show_default=True, help="Calls of each contestant."
)
@seed_option
@json_option
def command(
    formulas: tuple[str, ...], every: bool, dtype: str, size: int, rounds: int, seed: int, as_json: bool
) -> None:
    """Race the generated kernels: value and first derivative in one pass.

    Beside them: the formula printed as it stands for NumPy and for Numba, PyTorch's forward and backward if it is
    installed, and a copy of the array.
    """
    if every and formulas:
        raise InputError("bench: name activations or --all, not both")
    names = tuple(ACTIVATIONS) if every else formulas or DEFAULT
    for name in names:
        activation(name)  # a wrong name is refused before anything is timed
    try:
        data = measure(names, dtype, size, rounds, seed)
    except MemoryError:
        raise Unsupported(f"bench: {size} entries do not fit into memory") from None
    emit(data, as_json, lambda: table(data))
