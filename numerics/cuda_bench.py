"""What is raced on the GPU: value and first derivative of an activation, by this package and by what people would call.

Times are taken by CUDA events on the default stream, so they hold the GPU's work and no waiting of the host; calls are
queued several at a time, so that the GPU never waits for the next one to be launched.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ..theory.activations import Activation
from ..theory.errors import InputError, Unsupported
from .contestants import has, torch_function
from .kernels import kernel

Contestant = Callable[[], object]
#: Arrays that a pass over value and derivative must read or write, and those of a copy.
ARRAYS, COPY_ARRAYS = 3, 2
#: What the copy of an array is called among the contestants.
COPY = "copy"


def cuda_contestants(row: Activation, dtype: str, size: int, *, compiled: bool = False) -> dict[str, Contestant]:
    """Each contestant computes f and f′ of ``row`` at the same ``size`` entries drawn from N(0, 9), on the GPU.

    "copy" copies the array. ``compiled`` adds torch.compile, which takes seconds per row. What is not installed, or
    does not know the function, is left out. Raises :class:`Unsupported` where there is no GPU or no CuPy.
    """
    from .cuda_kernels import require_device

    require_device()
    try:
        import cupy
    except ImportError:
        raise Unsupported("the race on the GPU needs CuPy: pip install 'backproof[cuda]'") from None
    points = (3 * cupy.random.default_rng(0).standard_normal(size, dtype="float32")).astype(dtype)
    out = cupy.empty_like(points), cupy.empty_like(points)
    found: dict[str, Contestant] = {}
    for name, options in {"backproof": {}, "backproof, fast": {"precision": "fast"}}.items():
        if not options or dtype == "float32":
            with suppress(InputError):
                own = kernel(row, dtype, "cuda", **options)  # type: ignore[arg-type]
                found[name] = _bound(own.value_and_derivative, points, out)
    found[COPY] = lambda: cupy.copyto(out[0], points)
    found["cupy, as written"] = _as_written(row, dtype, points, out)
    return found | _torch(row, dtype, size, compiled)


def _bound(run: Callable[..., Any], points: Any, out: Any) -> Contestant:
    return lambda: run(points, out=out)


def _as_written(row: Activation, dtype: str, points: Any, out: Any) -> Contestant:
    """The formula and its derivative as they stand, as one CuPy elementwise kernel in the arrays' own precision."""
    import cupy

    from ..theory.lowering import lower
    from ..theory.symbols import x
    from .targets.c import TABLE
    from .targets.numba_cpu import names_of
    from .targets.printing import operand_text, ordered

    program = lower({"value": row.expr, "derivative": row.derivative(1)}, (x,))
    names = names_of(program, {"x": "x"})
    lines = []
    for place, node in ordered(program):
        operands = (_cast(operand_text(program, names, o), program.nodes[o].operation) for o in node.operands)
        kind = "bool" if node.operation in ("lt", "le", "eq", "and", "or", "not") else "T"
        lines.append(f"{kind} {names[place]} = {TABLE[node.operation].format(*operands)};")
    lines += [f"{name} = {operand_text(program, names, p)};" for name, p in program.outputs.items()]
    run = cupy.ElementwiseKernel("T x", "T value, T derivative", "\n".join(lines), f"as_written_{abs(hash(row))}")
    return lambda: run(points, *out)


def _cast(text: str, operation: str) -> str:
    return f"T({text})" if operation == "constant" else text


def _torch(row: Activation, dtype: str, size: int, compiled: bool) -> dict[str, Contestant]:
    """PyTorch's forward and backward calls; empty where it is not installed with CUDA, or has no such function."""
    if not has(row, "torch"):
        return {}
    try:
        function = torch_function(row)
        import torch
    except (InputError, ImportError):
        return {}
    if not torch.cuda.is_available():
        return {}
    generator = torch.Generator("cuda").manual_seed(0)
    points = 3 * torch.randn(size, device="cuda", dtype=getattr(torch, dtype), generator=generator)
    points.requires_grad_(True)
    ones = torch.ones_like(points)

    def both(f: Callable[[Any], Any]) -> Contestant:
        return lambda: torch.autograd.grad(f(points), points, ones)

    found = {"torch, eager": both(function)}
    return found | ({"torch, compiled": both(torch.compile(function))} if compiled else {})


# -------------------------------------------------------------------------------------------------------------- timing


def event_times(runners: dict[str, Contestant], rounds: int, calls: int = 8) -> dict[str, list[float]]:
    """Milliseconds of a call, for each round, by contestant; rounds are interleaved after a warm-up.

    One that fails is left out, and the reason stands under its name in :data:`failures`.
    """
    import cupy

    failures.clear()
    alive = dict(runners)
    for name, run in runners.items():
        try:
            for _ in range(3):
                run()
            cupy.cuda.runtime.deviceSynchronize()
        except Exception as problem:
            failures[name] = f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
            del alive[name]
    times: dict[str, list[float]] = {name: [] for name in alive}
    start, stop = (cupy.cuda.Event() for _ in range(2))
    for _ in range(rounds):
        for name, run in alive.items():
            start.record()
            for _ in range(calls):
                run()
            stop.record()
            stop.synchronize()
            times[name].append(float(cupy.cuda.get_elapsed_time(start, stop)) / calls)
    return times


#: Contestant -> why it could not run, in the last race.
failures: dict[str, str] = {}


def bandwidth(row: Activation, dtype: str, size: int, rounds: int = 20, *, compiled: bool = False) -> dict[str, Any]:
    """Medians in milliseconds, GB/s of what value and derivative must move (three arrays), fraction of the copy's."""
    times = event_times(cuda_contestants(row, dtype, size, compiled=compiled), rounds)
    itemsize = np.dtype(dtype).itemsize
    results: dict[str, Any] = {}
    for name, milliseconds in times.items():
        median = statistics.median(milliseconds)
        moved = (COPY_ARRAYS if name == COPY else ARRAYS) * size * itemsize
        results[name] = {"median_ms": median, "low_ms": min(milliseconds), "gigabytes_per_s": moved / median / 1e6}
    copy = results[COPY]["gigabytes_per_s"]
    for entry in results.values():
        entry["of_copy"] = entry["gigabytes_per_s"] / copy
    return {"name": row.name, "dtype": dtype, "size": size, "results": results, "failures": dict(failures)}
