"""The error of float32 kernels at every one of the 2³² inputs: value, first and second derivative in one pass.

Each result is compared with the float64 kernel of the same function, not rounded. That reference has an error of its
own, a few ULP of float64, which is measured against balls in the same run, at adversarial and at random points. The
margin is :data:`ASSUMED` times 2⁻²⁹ ULP of float32. An error further than that from ½ is counted by the reference; one
within it is decided exactly, by a law of :mod:`.ties` or by a ball around the exact value. The largest errors, and
results that are no numbers, are enclosed too. So the counts are right if nowhere does the reference err by more than
ASSUMED ULP of float64: measured at points, not proven.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..theory.activations import Activation
from ..theory.errors import InputError
from .accuracy import FORMATS, adversarial_sample, exact_function, measure_accuracy, ulp_error
from .files import cache_directory, write_whole
from .float_scan import COUNTED, COUNTED_ABOVE, flushed_underflow, passes
from .kernels import kernel
from .ties import UNKNOWN, side_in_balls, sides

Array = npt.NDArray[Any]
#: A function of float32 inputs that gives one array for each order it is measured at.
Measured = Callable[[Array], Sequence[Array]]
#: Bit patterns of one call of each compiled loop, and blocks of one task of a thread.
BLOCK, BLOCKS = 1 << 15, 128
#: All bit patterns of float32.
ALL = 1 << 32
#: Largest errors kept and decided in balls at the end.
KEPT = 8
#: Points near ½ that are enclosed in balls for one order, and results that are no numbers.
MOST_BALLS, MOST_FAILURES = 20_000, 200
#: ULP of float64 that the reference is allowed.
ASSUMED = 64.0
#: Points at which it is measured.
REFERENCE_POINTS = 2_000
#: Seconds between two writings of the state.
EVERY = 5.0
OWN = "backproof"
#: Everything but ∞ is collected below it.
LARGEST = float(np.finfo(np.float64).max)


@dataclass
class Exhaustive:
    """What was found for one derivative. ``worst`` holds [error in ULP, input, result], the largest first."""

    name: str
    order: int
    stride: int
    contestant: str
    margin: float
    checked: int = 0
    #: errors above ½ ULP, as far as decided: by the reference outside the margin, exactly within it
    over_half: int = 0
    #: of these: by less than the margin
    just_over_half: int = 0
    over_one: int = 0
    #: NaN or ∞ for a number, or a number where there is none
    failures: int = 0
    #: errors within the margin of ½, and of these: by a law, in a ball, not decided
    near_half: int = 0
    decided_by_law: int = 0
    decided_in_balls: int = 0
    undecided: int = 0
    #: 0 where the exact value rounds to a subnormal number
    flushed: int = 0
    #: inputs at which neither has a value (the root of a negative number)
    undefined: int = 0
    #: NaN inputs (all payloads of the stride) that did not give NaN
    nan_lost: int = 0
    at_plus_infinity: float = float("nan")
    at_minus_infinity: float = float("nan")
    worst: list[list[float]] = field(default_factory=list)
    reference_points: int = 0
    reference_worst_ulp: float = 0.0

    @property
    def worst_ulp(self) -> float:
        """The largest error found."""
        return self.worst[0][0] if self.worst else 0.0

    def add(self, other: Exhaustive) -> None:
        """Take over what another part of the patterns showed."""
        for name in (*COUNTED, *COUNTED_ABOVE, "just_over_half", "decided_by_law", "decided_in_balls", "undecided"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.worst = sorted(self.worst + other.worst, key=lambda entry: -entry[0])[:KEPT]


@dataclass
class _State:
    """All that a run goes on from."""

    next_pattern: int
    found: list[Exhaustive]


def exhaustive(
    row: Activation,
    orders: Sequence[int] = (0, 1, 2),
    *,
    stride: int = 1,
    precision: str = "default",
    against: Mapping[str, tuple[Sequence[int], Measured]] | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda patterns: None,
    resume: bool = True,
    own: Measured | None = None,
) -> list[Exhaustive]:
    """Measure derivatives of ``row`` at every ``stride``-th float32, all in one pass; goes on where it was stopped.

    ``against`` names other functions and the orders each of them gives, measured beside the kernel (near ½ ULP their
    errors are not decided but counted as such). ``own`` is measured in the kernel's place (then nothing is resumed).
    ``threads`` is all processors unless given. The state is kept in the cache folder every few seconds and when
    interrupted. Raises :class:`InputError` for a stride or a number of threads that is no positive integer.
    """
    _require(stride, "stride", ALL - 1)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is not None:
        _require(threads, "threads", 1024)
        workers = threads
    scan = _Scan(row, tuple(orders), stride, precision, dict(against or {}), own)
    path = None if own is not None else scan.path
    state = _read(path) if resume and path is not None else None
    if state is None:
        state = _State(0, scan.empty())
        _measure_references(row, state.found)
    advance(state.next_pattern)
    try:
        _run(scan, state, workers, advance, path)
    finally:
        if path is not None:
            _write(path, state)
    for found in state.found:
        if found.contestant == OWN:
            _decide_worst(found, row)
    return state.found


def _require(value: Any, name: str, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise InputError(f"{name} must be an integer from 1 to {most}, not {value!r}")


def own_kernel(row: Activation, dtype: str, precision: str = "default") -> Any:
    """The kernel that is measured."""
    return kernel(row, dtype) if precision == "default" else kernel(row, dtype, precision=precision)


def _measure_references(row: Activation, found: Sequence[Exhaustive]) -> None:
    """The float64 kernel against balls, at float32 numbers."""
    measured: dict[int, Any] = {}
    for entry in found:
        if entry.order not in measured:
            rng = np.random.default_rng(entry.order)
            random = rng.integers(0, ALL, REFERENCE_POINTS // 2, dtype=np.uint32).view(np.float32)
            special = adversarial_sample(row, entry.order, "float32", size=REFERENCE_POINTS // 2)
            points = np.concatenate([special, random[np.isfinite(random)]]).astype(np.float64)
            measured[entry.order] = measure_accuracy(kernel(row), n_derivative=entry.order, points=points)
        result = measured[entry.order]
        entry.reference_points, entry.reference_worst_ulp = result.points, result.worst_ulp


# ------------------------------------------------------------------------------------------------------------ scanning


class _Buffers(NamedTuple):
    patterns: Array
    wide: Array
    results: list[Array]
    references: list[Array]
    places: Array
    errors: Array


class _Scan:
    """One row's pass: what is run on a block of patterns, by any thread."""

    def __init__(
        self,
        row: Activation,
        orders: tuple[int, ...],
        stride: int,
        precision: str,
        against: dict[str, tuple[Sequence[int], Measured]],
        own: Measured | None,
    ) -> None:
        self.row, self.orders, self.stride = row, orders, stride
        compiled, reference = own_kernel(row, "float32", precision), kernel(row)
        self.reference = reference._run(orders)
        self.contestants: dict[str, tuple[Sequence[int], Measured | None]] = {OWN: (orders, own), **against}
        groups = [orders]
        if precision != "default":  # as they are called: what is fast is chosen for each set of orders
            groups = [g for g in (tuple(n for n in orders if n < 2), tuple(n for n in orders if n > 1)) if g]
        self.kernels = [(len(g), compiled._run(g)) for g in groups] if own is None else []
        files = [*(compiled.path_of(g).stem for g in groups), reference.path_of(orders).stem[-8:]]
        self.title = "_".join([*files, *against, str(stride)])
        self.left_for_balls = dict.fromkeys(orders, MOST_BALLS)
        self.left_for_failures = dict.fromkeys(orders, MOST_FAILURES)
        #: the least of the largest errors found so far, by contestant and order: smaller ones need no collecting
        self.known = {(whose, n): -1.0 for whose, (ns, _) in self.contestants.items() for n in ns}
        self.lock = threading.Lock()
        self.of_thread = threading.local()
        self.loops = passes()

    @property
    def path(self) -> Path:
        """Where the state is kept: named by the kernels' files, whose names carry a hash of what determines them."""
        return cache_directory() / f"exhaustive_{self.title}.json"

    def empty(self) -> list[Exhaustive]:
        """Nothing found yet; what comes out at ±∞."""
        found = [
            Exhaustive(self.row.name, order, self.stride, whose, ASSUMED * 2.0**-29)
            for whose, (orders, _) in self.contestants.items()
            for order in orders
        ]
        ends = {whose: self._at_infinities(whose) for whose in self.contestants}
        for entry in found:
            place = list(self.contestants[entry.contestant][0]).index(entry.order)
            entry.at_plus_infinity, entry.at_minus_infinity = ends[entry.contestant][place]
        return found

    def _at_infinities(self, whose: str) -> list[tuple[float, float]]:
        infinities = np.array([np.inf, -np.inf], dtype=np.float32)
        return [(float(values[0]), float(values[1])) for values in self._results(whose, infinities)]

    def _results(self, whose: str, points: Array) -> list[Array]:
        _, function = self.contestants[whose]
        if function is None:
            outs = [out[: points.size] for out in self._buffers().results]
            rest = list(outs)
            for count, run in self.kernels:
                run(points, *rest[:count])
                del rest[:count]
            return outs
        return [np.ascontiguousarray(values, dtype=np.float32) for values in function(points)]

    def part(self, first: int) -> tuple[list[Exhaustive], int]:
        """Scan BLOCKS blocks from this pattern on; returns what was found and the next pattern."""
        found = [
            Exhaustive(self.row.name, order, self.stride, whose, ASSUMED * 2.0**-29)
            for whose, (orders, _) in self.contestants.items()
            for order in orders
        ]
        position = first
        for _ in range(BLOCKS):
            size = min(BLOCK, -(-(ALL - position) // self.stride))
            if size <= 0:
                break
            self._block(position, size, found)
            position += size * self.stride
        return found, min(position, ALL)

    def _buffers(self) -> _Buffers:
        """This thread's memory: new arrays for each block would cost more than the work on them."""
        if not hasattr(self.of_thread, "buffers"):
            orders = range(len(self.orders))
            self.of_thread.buffers = _Buffers(
                np.empty(BLOCK, np.uint32),
                np.empty(BLOCK),
                [np.empty(BLOCK, np.float32) for _ in orders],
                [np.empty(BLOCK) for _ in orders],
                np.empty(BLOCK, np.int64),
                np.empty(BLOCK),
            )
        return self.of_thread.buffers  # type: ignore[no-any-return]

    def _block(self, first: int, size: int, found: list[Exhaustive]) -> None:
        buffers = self._buffers()
        patterns, wide = buffers.patterns[:size], buffers.wide[:size]
        references = [values[:size] for values in buffers.references]
        points = patterns.view(np.float32)
        self.loops.fill(first, self.stride, patterns, points, wide)
        with flushed_underflow():
            self.reference(wide, *references)
        exact = dict(zip(self.orders, references, strict=True))
        entries = iter(found)
        for whose in self.contestants:
            for values in self._results(whose, points):
                entry = next(entries)
                self._compare(entry, patterns, values, exact[entry.order])

    def _compare(self, entry: Exhaustive, patterns: Array, values: Array, reference: Array) -> None:
        counts = np.zeros(len(COUNTED_ABOVE), np.int64)
        worst = float(np.int64(self.loops.compare(patterns, values, reference, counts)).view(np.float64))
        _count(entry, COUNTED, counts)
        if worst >= 0.5 - entry.margin:
            self.loops.count(patterns, values, reference, entry.margin, counts)
            _count(entry, COUNTED_ABOVE, counts)
        above = max(self.known[entry.contestant, entry.order], entry.worst[-1][0] if len(entry.worst) == KEPT else -1.0)
        if worst < 0.5 - entry.margin and worst <= above:
            return
        places, errors = self._buffers().places, self._buffers().errors
        above = min(above, LARGEST) if entry.contestant == OWN else above
        many = self.loops.collect(patterns, values, reference, entry.margin, above, places, errors)
        if many:
            where = places[:many]
            self._take(entry, patterns[where].view(np.float32), values[where], reference[where], errors[:many])

    # deciding

    def _take(self, entry: Exhaustive, points: Array, values: Array, exact: Array, errors: Array) -> None:
        """Decide what is near ½ or no number, and keep the largest errors."""
        near = np.abs(errors - 0.5) <= entry.margin
        if entry.contestant == OWN:
            self._near_half(entry, points[near], values[near], exact[near])
            errors = self._failures(entry, points, values, errors)
        else:
            entry.undecided += int(near.sum())
        largest = np.argpartition(errors, -KEPT)[-KEPT:] if errors.size > KEPT else np.arange(errors.size)
        found = [[float(errors[k]), float(points[k]), float(values[k])] for k in largest.tolist()]
        entry.worst = sorted(entry.worst + found, key=lambda worst: -worst[0])[:KEPT]

    def _near_half(self, entry: Exhaustive, points: Array, values: Array, exact: Array) -> None:
        if not points.size:
            return
        with np.errstate(all="ignore"):
            got, wide = values.astype(np.float64), points.astype(np.float64)
            spacing = np.ldexp(1.0, np.maximum(np.frexp(exact)[1] - 24, -149))
            towards = np.where(exact > got, 1.0, -1.0)
            ties = got + towards * spacing / 2
            answers = sides(self.row, entry.order, wide, ties)
        entry.decided_by_law += int((answers != UNKNOWN).sum())
        open_ones = np.flatnonzero(answers == UNKNOWN)
        for k in open_ones[: self._granted(self.left_for_balls, entry.order, open_ones.size)].tolist():
            answers[k] = side_in_balls(exact_function(self.row, entry.order)(float(wide[k])), float(ties[k]))
            entry.decided_in_balls += int(answers[k] != UNKNOWN)
        entry.undecided += int((answers == UNKNOWN).sum())
        over = int(((answers != UNKNOWN) & (answers * towards > 0)).sum())
        entry.over_half += over
        entry.just_over_half += over

    def _failures(self, entry: Exhaustive, points: Array, values: Array, errors: Array) -> Array:
        """Where kernel and reference differ by no number, the ball says which of them is wrong."""
        places = np.flatnonzero(np.isinf(errors))
        for k in places[: self._granted(self.left_for_failures, entry.order, places.size)].tolist():
            exact = exact_function(self.row, entry.order)(float(points[k]))
            decided, _ = ulp_error(float(values[k]), exact, FORMATS["float32"])
            if np.isfinite(decided):  # the reference was wrong
                errors[k] = decided
                entry.failures -= 1
                entry.over_one -= int(decided <= 1)
                entry.over_half -= int(decided <= 0.5)
        return errors

    def _granted(self, left: dict[int, int], order: int, wanted: int) -> int:
        with self.lock:
            granted = min(left[order], wanted)
            left[order] -= granted
        return granted


def _count(entry: Exhaustive, names: Sequence[str], counts: Array) -> None:
    for name, count in zip(names, counts.tolist(), strict=False):
        setattr(entry, name, getattr(entry, name) + count)


def _run(scan: _Scan, state: _State, workers: int, advance: Callable[[int], None], path: Path | None) -> None:
    """Hand out parts to threads; take their results in the order of the patterns, so that every run finds the same."""
    step = BLOCK * BLOCKS * scan.stride
    following, written = state.next_pattern, time.monotonic()
    pending: dict[Future[tuple[list[Exhaustive], int]], int] = {}
    done: dict[int, tuple[list[Exhaustive], int]] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="backproof-scan")
    try:
        while state.next_pattern < ALL:
            while following < ALL and len(pending) + len(done) < 2 * workers:
                pending[pool.submit(scan.part, following)] = following
                following += step
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                first = pending.pop(future)
                if future.exception() is None:
                    done[first] = future.result()
            while state.next_pattern in done:
                parts, reached = done.pop(state.next_pattern)
                for total, part in zip(state.found, parts, strict=True):
                    total.add(part)
                    if len(total.worst) == KEPT:
                        scan.known[total.contestant, total.order] = total.worst[-1][0]
                advance(reached - state.next_pattern)
                state.next_pattern = reached
            for future in finished:
                future.result()  # an interrupt or error is raised when what was done beside it is kept
            if path is not None and time.monotonic() - written > EVERY:
                _write(path, state)
                written = time.monotonic()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decide_worst(found: Exhaustive, row: Activation) -> None:
    exact = exact_function(row, found.order)
    for entry in found.worst:
        decided, _ = ulp_error(entry[2], exact(entry[1]), FORMATS["float32"])
        entry[0] = entry[0] if np.isnan(decided) else decided
    found.worst.sort(key=lambda entry: -entry[0])


# ---------------------------------------------------------------------------------------------------------------- state


def _write(path: Path, state: _State) -> None:
    write_whole(path, json.dumps(asdict(state)))


def _read(path: Path) -> _State | None:
    """The state kept by an earlier run; None where there is none, or none that can be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return _State(int(kept["next_pattern"]), [Exhaustive(**entry) for entry in kept["found"]])
    except (OSError, ValueError, TypeError, KeyError):
        return None
