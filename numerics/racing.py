"""Races: what people would write or call for a function and its derivative, timed in interleaved rounds.

A round calls every contestant once (a quick one several times), in an order drawn anew each round, so that a slow
moment of the machine, and what a neighbour leaves in the caches, hit all of them alike. Medians are given with their
quartiles.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.activations import Activation
from ..theory.errors import InputError, Unsupported
from .acceptance import output_names
from .compiled import run_apart
from .contestants import has, jax_function, torch_function
from .kernels import kernel

Array = npt.NDArray[Any]
Contestant = Callable[[], object]
OWN, FAST, COPY = "backproof", "backproof, fast", "copy"
#: What a pass computes: value and first derivative, or the value alone.
BOTH, VALUE = (0, 1), (0,)
#: Arrays that a copy must read or write; a pass reads one and writes one for each of its orders.
COPY_ARRAYS = 2
#: A contestant is called until it has run this long in a round.
SHORTEST = 2e-4
#: And before the clock starts so long: threads of the one before (OpenMP's) look for more work, busily, for
#: milliseconds and would take a processor from this one; its own are awake then, as they are within a program.
SETTLING = 5e-3


def contestants(
    row: Activation, points: Array, *, fast: bool = False, orders: tuple[int, ...] = BOTH
) -> dict[str, Contestant]:
    """Each computes f and f′ of ``row`` at ``points`` (f alone: :data:`VALUE`), into memory it has where it can; "copy"
    copies ``points``, in the shares and threads that a kernel has.

    What is not installed, or has no such function, is left out.
    """
    out = (np.empty_like(points), np.empty_like(points))
    found = {OWN: _own(kernel(row, points.dtype.name), points, out, orders)}
    if fast and points.dtype == np.float32:
        found[FAST] = _own(kernel(row, "float32", precision="fast"), points, out, orders)
    makers = {
        "torch, eager": _torch,
        "jax, jitted": _jax,
        "numpy, as written": _numpy,
        "numexpr": _numexpr,
        "numba, as written": _plain_numba,
    }
    for name, make in makers.items():
        made = make(row, points, orders)
        if made is not None:
            found[name] = made
    found[COPY] = lambda: run_apart(lambda given, copy: np.copyto(copy, given), points, out[1])
    return found


def _own(compiled: Any, points: Array, out: tuple[Array, Array], orders: tuple[int, ...]) -> Contestant:
    if orders == VALUE:
        return lambda: compiled(points, out=out[0])
    return lambda: compiled.value_and_derivative(points, out=out)


def _program(row: Activation, orders: tuple[int, ...]) -> Any:
    from ..theory.lowering import lower
    from ..theory.symbols import x

    return lower({name: row.derivative(n) for n, name in output_names(orders).items()}, (x,))


def _numpy(row: Activation, points: Array, orders: tuple[int, ...]) -> Contestant:
    from .targets.numpy import print_source

    namespace: dict[str, Any] = {}
    exec(compile(print_source(_program(row, orders), dtype=points.dtype.name), "<generated>", "exec"), namespace)

    def run() -> object:
        with np.errstate(all="ignore"):
            return namespace["run"](points)

    return run


def _plain_numba(row: Activation, points: Array, orders: tuple[int, ...]) -> Contestant:
    """The formula printed for Numba as it stands, in one thread."""
    from .targets.numba_cpu import print_source

    namespace: dict[str, Any] = {}
    source = print_source(_program(row, orders), dtype=points.dtype.name, cache=False, functions="library")
    exec(compile(source, "<generated>", "exec"), namespace)
    out = [np.empty_like(points) for _ in orders]
    return lambda: namespace["run"](points, *out)


def _numexpr(row: Activation, points: Array, orders: tuple[int, ...]) -> Contestant | None:
    """A pass of numexpr for each order; None where it is not installed or lacks a function (erf)."""
    try:
        import numexpr
    except ImportError:
        return None
    from sympy.printing.lambdarepr import NumExprPrinter

    try:
        texts = [_expression(NumExprPrinter().doprint(row.derivative(n))) for n in orders]
        out = [np.empty_like(points) for _ in texts]
        memory = {"x": points}

        def run() -> object:
            for text, target in zip(texts, out, strict=True):
                numexpr.evaluate(text, memory, out=target, casting="same_kind")
            return out

        run()
    except (TypeError, ValueError, KeyError, NotImplementedError, AttributeError):
        return None
    return run


def _expression(text: str) -> str:
    """What stands inside "numexpr.evaluate('…', truediv=True)"."""
    return text.split("evaluate('", 1)[1].rsplit("'", 1)[0] if "evaluate('" in text else text


def _torch(row: Activation, points: Array, orders: tuple[int, ...]) -> Contestant | None:
    """PyTorch's forward and backward calls; for the value alone the forward call, which then keeps nothing."""
    if not has(row, "torch"):
        return None
    try:
        function = torch_function(row)
    except InputError:
        return None
    import torch

    if orders == VALUE:
        given = torch.from_numpy(points.copy())
        return lambda: function(given)
    tensor = torch.from_numpy(points.copy()).requires_grad_(True)
    ones = torch.ones_like(tensor)
    return lambda: torch.autograd.grad(function(tensor), tensor, ones)


def _jax(row: Activation, points: Array, orders: tuple[int, ...]) -> Contestant | None:
    """JAX's value and derivative, or the value, in one jitted call (float64 under its own switch)."""
    if not has(row, "jax"):
        return None
    try:
        function = jax_function(row)
    except InputError:
        return None
    import jax

    both = jax.jit(
        function if orders == VALUE else lambda array: jax.jvp(function, (array,), (jax.numpy.ones_like(array),))
    )
    if points.dtype != np.float64:
        array = jax.numpy.asarray(points)
        return lambda: jax.block_until_ready(both(array))
    wide: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with wide(True):
        array = jax.numpy.asarray(points)

    def run() -> object:
        with wide(True):
            return jax.block_until_ready(both(array))

    return run


# -------------------------------------------------------------------------------------------------------------- timing


def race(runners: Mapping[str, Contestant], rounds: int, seed: int = 0) -> dict[str, list[float]]:
    """Seconds a call, round by round, by contestant, after a warm-up."""
    calls = {name: _calls(run) for name, run in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    order, chance = list(runners), random.Random(seed)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            run, many = runners[name], range(calls[name])
            _settle(run)
            start = time.perf_counter()
            for _ in many:
                run()
            times[name].append((time.perf_counter() - start) / len(many))
    return times


def _settle(run: Contestant) -> None:
    """Call, untimed, until what the contestant before left behind is gone."""
    end = time.perf_counter() + SETTLING
    while True:
        run()
        if time.perf_counter() >= end:
            return


def _calls(run: Contestant) -> int:
    """How many calls make a round long enough to be timed; warms up."""
    run()
    start = time.perf_counter()
    run()
    taken = time.perf_counter() - start
    return max(1, min(10_000, math.ceil(SHORTEST / max(taken, 1e-7))))


def figures(seconds: list[float], size: int, itemsize: int, arrays: int) -> dict[str, float]:
    """Median with quartiles in milliseconds, nanoseconds an entry, and GB/s of what must be moved."""
    low, middle, high = (
        statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (seconds[0],) * 3
    )
    return {
        "median_ms": middle * 1e3,
        "low_ms": low * 1e3,
        "high_ms": high * 1e3,
        "ns_per_entry": middle / size * 1e9,
        "gigabytes_per_s": arrays * size * itemsize / middle / 1e9,
    }


def raced(
    row: Activation, dtype: str, size: int, rounds: int, *, seed: int = 0, fast: bool = False,
    orders: tuple[int, ...] = BOTH,
) -> dict[str, Any]:  # fmt: skip
    """Contestant → figures at ``size`` entries drawn from N(0, 9)."""
    points = np.random.default_rng(seed).normal(0, 3, size).astype(dtype)
    times = race(contestants(row, points, fast=fast, orders=orders), rounds, seed)
    return _summed_up(times, size, points.itemsize, orders)


def raced_on_cuda(row: Activation, dtype: str, size: int, rounds: int) -> dict[str, Any]:
    """The same on the GPU, timed by its events; raises :class:`Unsupported` where there is none."""
    try:
        gpu = import_module(f"{__package__}.cuda_bench")
    except ImportError:
        raise Unsupported("bench --target cuda: install the extra, pip install 'backproof[cuda]'") from None
    times = gpu.event_times(gpu.cuda_contestants(row, dtype, size), rounds)
    return _summed_up({name: [ms / 1e3 for ms in t] for name, t in times.items()}, size, np.dtype(dtype).itemsize)


def _summed_up(
    times: Mapping[str, list[float]], size: int, itemsize: int, orders: tuple[int, ...] = BOTH
) -> dict[str, Any]:
    moved = 1 + len(orders)
    return {n: figures(t, size, itemsize, COPY_ARRAYS if n == COPY else moved) for n, t in times.items()}


def summary(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Contestant → how many times longer than ours it takes: geometric mean over its rows, the least, and where."""
    ratios: dict[str, dict[str, float]] = {}
    for row, by in results.items():
        for name, entry in by.items():
            if name != OWN:
                ratios.setdefault(name, {})[row] = entry["median_ms"] / by[OWN]["median_ms"]
    return {
        name: {
            "rows": len(of),
            "geometric_mean": math.exp(statistics.fmean(map(math.log, of.values()))),
            "least": min(of.values()),
            "least_row": min(of, key=lambda row: of[row]),
        }
        for name, of in ratios.items()
    }


@contextmanager
def processors(threads: int | None) -> Iterator[int]:
    """Hold this process, and every library in it, to so many processors; yields the number."""
    if not hasattr(os, "sched_setaffinity"):
        if threads is not None:
            raise Unsupported("--threads needs a system that can hold a process to some of its processors (Linux)")
        yield os.cpu_count() or 1
        return
    available = sorted(os.sched_getaffinity(0))
    if threads is None:
        yield len(available)
        return
    if threads > len(available):
        raise InputError(f"--threads {threads}: this process may use {len(available)} processors")
    os.sched_setaffinity(0, available[:threads])
    before = _set_library_threads(threads)
    try:
        yield threads
    finally:
        os.sched_setaffinity(0, available)
        _set_library_threads(before)


def _set_library_threads(threads: int) -> int:
    """Tell PyTorch and numexpr, where installed; returns what PyTorch (else the processors) had."""
    before = os.cpu_count() or 1
    try:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
    except ImportError:
        pass
    try:
        import numexpr

        numexpr.set_num_threads(threads)
    except ImportError:
        pass
    return before
