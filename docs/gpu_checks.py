"""Everything that is measured on a GPU, in one run: ``python docs/gpu_checks.py [--json FILE] [--quick]``.

Prints the device, a training step beside PyTorch's, bandwidth beside a device copy, the error over every float32, and
whether results equal the CPU's bit for bit. A part that fails prints its error and the next one goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from backproof.numerics.cuda_bench import bandwidth
from backproof.numerics.cuda_exhaustive import exhaustive_on_gpu
from backproof.numerics.cuda_step_bench import step_times
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS

ORDERS = ("f", "f′", "f″")
#: Activations for which torch.compile is raced too: it takes seconds a row.
COMPILED = ("gelu", "silu", "mish")


def device() -> Iterator[dict[str, Any]]:
    """What is measured on."""
    import cupy
    import numba
    import numba_cuda
    from numba import cuda

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    yield {
        "name": properties["name"].decode(), "processors": properties["multiProcessorCount"],
        "capability": list(cuda.get_current_device().compute_capability), "numba": numba.__version__,
        "numba-cuda": numba_cuda.__version__, "cupy": cupy.__version__, "cuda": cupy.cuda.runtime.runtimeGetVersion(),
    }  # fmt: skip


def prepare(names: list[str]) -> Iterator[dict[str, Any]]:
    """Print and compile everything beforehand, a row to a process: one process would take minutes."""
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2) - 2), mp_context=get_context("spawn")) as pool:
        problems = [problem for problem in pool.map(_compile, names) if problem]
    yield {"rows": len(names), "problems": problems}


def _compile(name: str) -> str:
    """Compile what the other parts call; '' or what went wrong."""
    problems = []
    for target in ("cuda", "cpu"):
        for dtype, options in (("float32", {}), ("float64", {}), ("float32", {"precision": "fast"})):
            try:
                compiled = kernel(name, dtype, target, **options)
                compiled.value_and_derivative(np.ones(8, dtype))
                for order in (0, 1, 2):
                    compiled.derivative(np.ones(8, dtype), order)
            except Exception as problem:
                problems.append(f"{name} {dtype} {target} {options}: {type(problem).__name__}: {problem}")
    return "; ".join(problems)


def same_bits(names: list[str]) -> Iterator[dict[str, Any]]:
    """GPU against CPU at every 4099th float32, and float64 numbers of all exponents: how many results differ."""
    single = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    random = np.random.default_rng(0).integers(0, 2**64, 200_000, dtype=np.uint64).view(np.float64)
    for name in names:
        yield {
            "name": name,
            "float32": _differing(name, single),
            "float64": _differing(name, random),
            "fast": _differing(name, single, orders=(0, 1), precision="fast"),
        }


def _differing(name: str, points: Any, *, orders: tuple[int, ...] = (0, 1, 2), **options: Any) -> list[int]:
    found = []
    for target in ("cuda", "cpu"):
        compiled = kernel(name, points.dtype.name, target, **options)
        results = (*compiled.value_and_derivative(points), *(compiled.derivative(points, n) for n in orders[2:]))
        found.append(results)
    return [int((~((a == b) | (np.isnan(a) & np.isnan(b)))).sum()) for a, b in zip(*found)]


def errors(names: list[str], precision: str, stride: int) -> Iterator[dict[str, Any]]:
    """The largest error in ULP over every float32."""
    for name in names:
        for order in (0, 1, 2):
            start = time.perf_counter()
            e = exhaustive_on_gpu(ACTIVATIONS[name], order, precision=precision, stride=stride)
            yield {
                "name": name, "order": ORDERS[order], "worst_ulp": e.worst_ulp, "at": e.worst[0][1],
                "checked": e.checked, "over_half": e.over_half, "ties": e.ties, "over_one": e.over_one,
                "failures": e.failures, "seconds": round(time.perf_counter() - start, 2),
            }  # fmt: skip


def speed(names: list[str], dtype: str, size: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Bandwidth of value and first derivative in one pass."""
    for name in names:
        found = bandwidth(ACTIVATIONS[name], dtype, size, rounds, compiled=dtype == "float32" and name in COMPILED)
        yield {"name": name, "failures": found["failures"]} | {
            who: [round(r["median_ms"], 4), round(r["gigabytes_per_s"]), round(r["of_copy"], 3)]
            for who, r in found["results"].items()
        }


def steps() -> Iterator[dict[str, Any]]:
    """A training step."""
    for batch in (128, 1024):
        for dtype in ("float32", "float64"):
            yield step_times(batch=batch, dtype=dtype)


def run(title: str, part: Callable[[], Iterator[dict[str, Any]]], results: dict[str, Any], path: str | None) -> None:
    """Print what a part yields, or its error, and keep both."""
    print(f"== {title}", flush=True)
    start = time.perf_counter()
    entries: list[Any] = results.setdefault(title, [])
    try:
        for entry in part():
            entries.append(entry)
            print(json.dumps(entry, ensure_ascii=False, default=float), flush=True)
    except Exception:
        problem = traceback.format_exc()
        entries.append({"error": problem})
        print("FAILED: " + problem, flush=True)
    print(f"   {time.perf_counter() - start:.1f} s", flush=True)
    if path:
        Path(path).write_text(json.dumps(results, ensure_ascii=False, default=float), encoding="utf-8")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write everything there, after each part")
    parser.add_argument("--quick", action="store_true", help="a few activations, every 61st float32")
    parser.add_argument(
        "--only", metavar="PART,PART", help="device, prepare, steps, speed, speed64, errors, fast, bits"
    )
    options = parser.parse_args()
    names = ["relu", "tanh", "gelu", "silu", "sin"] if options.quick else list(ACTIVATIONS)
    stride, size = (61, 1 << 24) if options.quick else (1, 1 << 26)
    parts: dict[str, tuple[str, Callable[[], Iterator[dict[str, Any]]]]] = {
        "device": ("device", device),
        "prepare": ("compiling in parallel", lambda: prepare(names)),
        "steps": ("training step, microseconds", steps),
        "speed": (f"value and f′ of {size} float32: [ms, GB/s, of copy]", lambda: speed(names, "float32", size, 10)),
        "speed64": (f"value and f′ of {size // 2} float64", lambda: speed(names, "float64", size // 2, 5)),
        "errors": (f"every {stride}. float32", lambda: errors(names, "default", stride)),
        "fast": (f"precision fast, every {stride}. float32", lambda: errors(names, "fast", stride)),
        "bits": ("results that differ from the CPU's: [f, f′, f″]", lambda: same_bits(names)),
    }
    results: dict[str, Any] = {}
    for key, (title, part) in parts.items():
        if not options.only or key in options.only.split(","):
            run(title, part, results, options.json)


if __name__ == "__main__":
    main()
