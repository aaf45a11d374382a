"""The error of a kernel at tens of millions of adversarial points, each decided in compiled ball arithmetic.

The sample is drawn in blocks: every exponent with random mantissas, random bit patterns, clusters of all widths around
kinks, roots, extrema, under- and overflow points and the kernel's own borders, their neighbours, and intervals around
the origin. Value, first and second derivative of one pass are held against an enclosure of the exact value
(:mod:`.ball_loops`): the form in decaying quantities, with nothing approximated, in 128 bits and in more where these do
not decide; close to a zero at the origin a Taylor polynomial with its remainder enclosed; what is left, in balls of the
formula itself. So each error is *proven* to 1/1000 ULP at its point, given that form; it is an identity by the algebra
that makes it, proved at points when it is made, and held against the formula's own balls at :data:`CONTROLS` random
points of each run and at the largest errors found. Between the points nothing is known: a sample is no proof.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import flint
import numpy as np
import numpy.typing as npt
from flint import arb

from ..theory.activations import Activation
from ..theory.arithmetic import BALLS
from ..theory.enclosures import taylor
from ..theory.errors import InputError
from ..theory.lowering import Node, Program
from ..theory.stability import stable_program
from ..theory.symbols import x
from .accuracy import (
    CRITICAL,
    FORMATS,
    HUGE,
    adversarial_sample,
    exact_function,
    special_points,
    ulp_error,
    undefined_at,
)
from .ball_loops import BallLoop
from .compiled import DTYPES
from .files import cache_directory, write_whole
from .kernels import Kernel, activation_program, kernel
from .targets.printing import rounded

Array = npt.NDArray[Any]
ORDERS = (0, 1, 2)
#: Points of a block, which is drawn from a seed of its own: a run can go on at any of them.
BLOCK = 1 << 15
#: Bits tried in turn; before the second, the Taylor polynomial at the origin.
BITS = (128, 500, 1_500)
#: An error is decided to this share of itself or of one ULP.
DECIDED = 1e-3
#: Largest errors kept, enclosed by the formula itself at the end.
KEPT = 8
#: Points of one order enclosed one by one, by the interpreter: what the compiled balls leave, and for control.
MOST_BALLS, CONTROLS = 5_000, 300
#: The Taylor polynomial: |x| up to 2⁻⁶, its degree.
NEAR, DEGREE = 2.0**-6, 26
#: Seconds between two writings of the state.
EVERY = 5.0


@dataclass
class Dense:
    """What was found for one derivative. ``worst`` holds [error in ULP, input, result], the largest first."""

    name: str
    dtype: str
    order: int
    points: int = 0
    sum_ulp: float = 0.0
    over_half: int = 0
    over_one: int = 0
    #: NaN or ±∞ for a number, or the reverse: the inputs, the first few, and how many
    failures: int = 0
    failed_at: list[float] = field(default_factory=list)
    #: decided only by more than 128 bits, the Taylor polynomial, or balls of the formula
    decided_later: int = 0
    undecided: int = 0
    undefined: int = 0
    #: random points whose error the formula's own balls gave too, and how many of them differed
    controls: int = 0
    differing: int = 0
    worst: list[list[float]] = field(default_factory=list)
    exact: str = ""
    at_minus_infinity: float = float("nan")
    at_plus_infinity: float = float("nan")

    @property
    def worst_ulp(self) -> float:
        """The largest error found; infinite where something failed."""
        return float("inf") if self.failures else self.worst[0][0] if self.worst else 0.0

    @property
    def mean_ulp(self) -> float:
        """The mean of the errors that were decided."""
        return self.sum_ulp / self.points if self.points else 0.0

    def add(self, other: Dense) -> None:
        """Take over what another block showed."""
        for name in ("points", "sum_ulp", "over_half", "over_one", "failures", "decided_later", "undecided",
                     "undefined", "controls", "differing"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed_at = (self.failed_at + other.failed_at)[:KEPT]
        self.worst = _largest(self.worst + other.worst)


def _largest(worst: list[list[float]]) -> list[list[float]]:
    """The largest errors, each input once."""
    return sorted({entry[1]: entry for entry in worst}.values(), key=lambda entry: -entry[0])[:KEPT]


# --------------------------------------------------------------------------------------------------------------- sample


class Sample:
    """Blocks of adversarial points of one row and dtype."""

    def __init__(self, row: Activation, dtype: str, seed: int, orders: Sequence[int] = ORDERS) -> None:
        self.kind, self.seed = DTYPES[dtype], seed
        self.first = np.unique(np.concatenate([adversarial_sample(row, n, dtype, seed=seed) for n in orders]))
        special = [0.5, 1.0, *(p for n in orders for p in special_points(row, n)), *kernel_borders(row, dtype)]
        near = sorted({abs(v) for v in (*special, *CRITICAL, *HUGE) if v})
        with np.errstate(over="ignore"):
            centres = np.array(near, dtype=self.kind)
        self.centres = centres[np.isfinite(centres)]
        self.signs = [s for s in (1.0, -1.0) if not _no_values(row, s)] or [1.0, -1.0]

    def block(self, number: int) -> Array:
        """Block ``number``: always the same points."""
        rng = np.random.default_rng([self.seed, number])
        size = BLOCK // 8
        info, whole = np.finfo(self.kind), np.uint64 if self.kind is np.float64 else np.uint32
        exponents = np.arange(info.minexp - info.nmant, info.maxexp)
        with np.errstate(all="ignore"):
            parts = [
                np.ldexp(1 + rng.random(3 * size), rng.choice(exponents, 3 * size)),
                rng.integers(0, np.iinfo(whole).max, size, dtype=whole, endpoint=True).view(self.kind),
                self._clusters(rng, 2 * size, info.nmant),
                rng.uniform(0, 4, size), rng.uniform(0, 40, size // 2), rng.uniform(0, 800, size - size // 2),
            ]  # fmt: skip
            points = np.abs(np.concatenate([np.asarray(p, dtype=self.kind) for p in parts]))
        points = np.where(np.isfinite(points), points, self.kind(1)) * rng.choice(self.signs, points.size).astype(
            self.kind
        )
        if number == 0:
            kept = self.first if len(self.signs) == 2 else self.first[self.first * self.signs[0] >= 0]
            points[: kept.size] = kept[: points.size]
        return points

    def _clusters(self, rng: np.random.Generator, size: int, mantissa: int) -> Array:
        """Centres times 1 ± 2⁻ᵏ·u for all k, and half as many neighbours up to 64 floats away."""
        centres = rng.choice(self.centres, size)
        width = np.ldexp(rng.uniform(-1, 1, size), -rng.integers(1, mantissa + 1, size))
        points = (centres * (1 + width)).astype(self.kind)
        close = size // 3
        return np.concatenate(
            [points[close:], centres[:close] + np.spacing(centres[:close]) * rng.integers(-64, 65, close)]
        )


def kernel_borders(row: Activation, dtype: str) -> list[float]:
    """The constants that the kernel's program compares with: where it hands over from one form to another."""
    program = activation_program(row, ORDERS, dtype, "cpu")
    found = {
        program.nodes[o].leaf
        for node in program.nodes if node.operation in ("lt", "le", "at_least", "at_most")
        for o in node.operands if program.nodes[o].operation == "constant"
    }  # fmt: skip
    return sorted(rounded(c) for c in found)


def _no_values(row: Activation, sign: float) -> bool:
    """Whether the function is proved to have no value at any of a few points of this half-line: it is left out."""
    return all(undefined_at(row.expr, sign * p) for p in (1e-300, 1e-5, 0.3, 1.0, 7.0, 1e5, 1e300))


# ----------------------------------------------------------------------------------------------------------- comparison


def near_zero(row: Activation, orders: Sequence[int] = ORDERS) -> Program | None:
    """Taylor polynomials at 0 whose last coefficient is enclosed over |x| ≤ 2⁻⁶; None where 0 is a border of the row.

    Coefficients that begin the series are exactly 0 or are kept out: an enclosure of 0 would hide the leading term.
    """
    if any(border == 0 for border in row.borders):
        return None
    nodes: list[Node] = [Node("input", (), "x")]
    outputs = {}
    for order in orders:
        coefficients = _coefficients(row, order)
        if coefficients is None:
            return None
        nodes.append(Node("constant", (), coefficients[-1]))
        total = len(nodes) - 1
        for c in reversed(coefficients[:-1]):
            nodes += [Node("mul", (total, 0)), Node("constant", (), c)]
            nodes.append(Node("add", (len(nodes) - 2, len(nodes) - 1)))
            total = len(nodes) - 1
        outputs[f"d{order}"] = total
    return Program(("x",), tuple(nodes), outputs)


def _coefficients(row: Activation, order: int) -> list[arb] | None:
    expression = row.derivative(order)
    with flint.ctx.workprec(400):
        at_zero, around = (taylor(expression, c, DEGREE) for c in (arb(0), arb(0, NEAR)))
    if at_zero is None or around is None or not around[DEGREE].is_finite():
        return None
    for k in range(DEGREE):
        if not at_zero[k].contains(0):
            return [*at_zero[:DEGREE], around[DEGREE]]
        if row.derivative(order + k).subs(x, 0) != 0:
            return None
        at_zero[k] = arb(0)
    return None


class _Comparison:
    """One row's kernel and what it is held against; used by several threads."""

    def __init__(self, row: Activation, dtype: str, target: str, orders: Sequence[int]) -> None:
        self.row, self.dtype, self.orders, self.fmt = row, dtype, tuple(orders), FORMATS[dtype]
        self.compiled: Kernel = kernel(row, dtype, target)
        self.names = [f"d{n}" for n in self.orders]
        form = stable_program({f"d{n}": row.derivative(n) for n in self.orders}, BALLS).program
        self.loop = BallLoop(form, self.names, self.fmt)
        self.of_thread = threading.local()
        self.stack, self.lock = ExitStack(), threading.Lock()
        self.left = dict.fromkeys(self.orders, MOST_BALLS)
        self.exact = {n: exact_function(row, n) for n in self.orders}

    @lru_cache(maxsize=1)  # noqa: B019  (an object lives as long as one run)
    def near(self) -> BallLoop | None:
        """The Taylor polynomials, made when they are first wanted."""
        program = near_zero(self.row, self.orders)
        return None if program is None else BallLoop(program, self.names, self.fmt)

    def memory(self, loop: BallLoop) -> Any:
        """This thread's balls for a loop."""
        known = self.of_thread.__dict__.setdefault("known", {})
        if id(loop) not in known:
            with self.lock:
                known[id(loop)] = self.stack.enter_context(loop.memory())
        return known[id(loop)]

    def block(self, points: Array, control: bool) -> list[Dense]:
        """What one block of points shows."""
        with np.errstate(all="ignore"):
            computed = np.array(self._results(points))
        errors, radii = self.memory(self.loop).compare(points, computed, BITS[0])
        later = ~_decided(errors, radii)
        if later.any():
            self._again(points, computed, errors, radii)
        found = []
        for k, order in enumerate(self.orders):
            entry = Dense(self.row.name, self.dtype, order, decided_later=int(later[k].sum()))
            self._one_by_one(entry, points, computed[k], errors[k], radii[k])
            if control:
                self._control(entry, points, computed[k], errors[k])
            _summarise(entry, points, computed[k], errors[k])
            found.append(entry)
        return found

    def _results(self, points: Array) -> Sequence[Array]:
        if self.compiled.target == "cpu":
            outs = [np.empty_like(points) for _ in self.orders]
            self.compiled._run(self.orders)(points, *outs)  # one thread: the blocks are shared out already
            return outs
        return self.compiled._evaluate(self.orders, points, (None,) * len(self.orders))

    def _again(self, points: Array, computed: Array, errors: Array, radii: Array) -> None:
        """More bits where those so far did not decide, close to 0 the Taylor polynomials."""
        with self.lock:
            near = self.near()
        steps = [(self.loop, bits, np.inf) for bits in BITS[1:]]
        if near is not None:
            steps.insert(0, (near, BITS[1], NEAR))
        for loop, bits, reach in steps:
            where = np.flatnonzero((~_decided(errors, radii)).any(axis=0) & (np.abs(points) <= reach))
            if where.size:
                found = self.memory(loop).compare(points[where], np.ascontiguousarray(computed[:, where]), bits)
                better = ~_decided(errors[:, where], radii[:, where])
                for kept, new in zip((errors, radii), found, strict=True):
                    kept[:, where] = np.where(better, new, kept[:, where])

    def _one_by_one(self, entry: Dense, points: Array, computed: Array, errors: Array, radii: Array) -> None:
        """Balls of the formula for what is left: NaN in ``errors`` afterwards where they do not decide either."""
        left = np.flatnonzero(~_decided(errors, radii))
        errors[left] = np.nan
        with self.lock:
            granted = min(self.left[entry.order], left.size)
            self.left[entry.order] -= granted
        formula = self.row.derivative(entry.order)
        for k in left[:granted].tolist():
            point = float(points[k])
            errors[k], _ = ulp_error(float(computed[k]), self.exact[entry.order](point), self.fmt)
            if np.isnan(errors[k]) and undefined_at(formula, point):
                entry.undefined += 1
        entry.undecided += int(np.isnan(errors).sum()) - entry.undefined

    def _control(self, entry: Dense, points: Array, computed: Array, errors: Array) -> None:
        rng = np.random.default_rng(entry.order)
        for k in rng.choice(points.size, min(CONTROLS, points.size), replace=False).tolist():
            error, _ = ulp_error(float(computed[k]), self.exact[entry.order](float(points[k])), self.fmt)
            if not (np.isnan(error) or np.isnan(errors[k])):
                entry.controls += 1
                same = any(_same(error, factor * errors[k]) for factor in (1.0, 2.0, 0.5))
                entry.differing += not same


def _same(error: float, other: float) -> bool:
    """Whether two enclosures say the same; the callers allow for a binade where the exact value is next to a power of
    two, and it depends on the bits on which side an enclosure's middle lies."""
    return bool(error == other or abs(error - other) <= 3 * DECIDED * max(1.0, error))


def _decided(errors: Array, radii: Array) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray(radii <= DECIDED * np.maximum(errors, 1.0))


def _summarise(entry: Dense, points: Array, computed: Array, errors: Array) -> None:
    decided = ~np.isnan(errors)
    failed = np.isinf(errors)
    entry.points = int(decided.sum())
    entry.failures, entry.failed_at = int(failed.sum()), points[failed][:KEPT].astype(float).tolist()
    finite = np.where(decided & ~failed, errors, -1.0)
    entry.sum_ulp = float(finite[finite >= 0].sum())
    entry.over_half, entry.over_one = int((errors > 0.5).sum()), int((errors > 1).sum())
    largest = np.argpartition(finite, -KEPT)[-KEPT:] if finite.size > KEPT else np.arange(finite.size)
    entry.worst = [[float(finite[k]), float(points[k]), float(computed[k])] for k in largest.tolist() if finite[k] >= 0]


# ------------------------------------------------------------------------------------------------------------------ run


def measure_dense(
    row: Activation,
    dtype: str = "float64",
    *,
    points: int = 10_000_000,
    target: str = "cpu",
    orders: Sequence[int] = ORDERS,
    seed: int = 0,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda points: None,
    resume: bool = True,
) -> list[Dense]:
    """Measure derivatives of ``row`` at no fewer than ``points`` adversarial points; goes on where it was stopped.

    Raises :class:`InputError` for a dtype without a compiled kernel, or a number that is none.
    """
    if dtype not in DTYPES or target not in ("cpu", "numpy"):
        raise InputError(f"a dense sample is for {' and '.join(DTYPES)} on cpu or numpy, not for {dtype} on {target}")
    for value, name in ((points, "points"), (threads, "threads")):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a positive integer, not {value!r}")
    workers = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    comparison = _Comparison(row, dtype, target, orders)
    sample = Sample(row, dtype, seed, orders)
    blocks = -(-points // BLOCK)
    path = _path(comparison, seed)
    done, found = (_read(path, blocks) if resume else None) or (0, [Dense(row.name, dtype, n) for n in orders])
    advance(min(done * BLOCK, points))
    with comparison.stack:
        done = _run(comparison, sample, range(done, blocks), workers, found, path, advance)
    ends = comparison._results(np.array([-np.inf, np.inf], dtype=dtype))
    for entry, (at_minus, at_plus) in zip(found, ends, strict=True):
        _decide_worst(entry, comparison)
        entry.at_minus_infinity, entry.at_plus_infinity = float(at_minus), float(at_plus)
    return found


def _run(
    comparison: _Comparison, sample: Sample, blocks: range, workers: int, found: list[Dense], path: Path,
    advance: Callable[[int], None],
) -> int:  # fmt: skip
    """Blocks in parallel, their results in order; the state is kept every few seconds and when interrupted."""
    written, done = time.monotonic(), blocks.start

    def one(number: int) -> list[Dense]:
        return comparison.block(sample.block(number), number == 0)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="backproof-dense")
    try:
        for group in _groups(blocks, 4 * workers):
            for parts in pool.map(one, group):
                for total, part in zip(found, parts, strict=True):
                    total.add(part)
                done += 1
                advance(BLOCK)
            if time.monotonic() - written > EVERY:
                _write(path, done, found)
                written = time.monotonic()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _write(path, done, found)
    return done


def _groups(blocks: range, size: int) -> Iterator[range]:
    for start in range(0, len(blocks), size):
        yield blocks[start : start + size]


def _decide_worst(entry: Dense, comparison: _Comparison) -> None:
    """The largest errors again, by balls of the formula itself."""
    for worst in entry.worst:
        error, ball = ulp_error(worst[2], comparison.exact[entry.order](worst[1]), comparison.fmt)
        if not np.isnan(error):
            entry.differing += not any(_same(error, factor * worst[0]) for factor in (1.0, 2.0, 0.5))
            worst[0] = error
            if worst is entry.worst[0]:
                entry.exact = ball.str(20, radius=False)
    entry.worst.sort(key=lambda worst: -worst[0])


def _path(comparison: _Comparison, seed: int) -> Path:
    """Named by the kernel's file, whose name carries a hash of what determines it, and by this measurement."""
    own = hashlib.sha256(b"".join(Path(__file__).with_name(n).read_bytes() for n in ("dense.py", "ball_loops.py")))
    stem = comparison.compiled.path_of(comparison.orders).stem
    return cache_directory() / f"dense_{stem}_{own.hexdigest()[:8]}_{seed}.json"


def _write(path: Path, done: int, found: Sequence[Dense]) -> None:
    write_whole(path, json.dumps({"blocks": done, "found": [asdict(entry) for entry in found]}))


def _read(path: Path, blocks: int) -> tuple[int, list[Dense]] | None:
    """The state of an earlier run, if it has not gone further than this one wants."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found = [Dense(**entry) for entry in kept["found"]]
        return (int(kept["blocks"]), found) if int(kept["blocks"]) <= blocks else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
