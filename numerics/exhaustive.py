"""The error of a float32 kernel at every one of the 2³² inputs.

The kernel's result is compared with the float64 kernel of the same function, rounded nowhere. That reference has an
error of its own: it is measured against balls in the same run, at points of every exponent and at random ones, and its
promised bound R (in ULP of float64, so R·2⁻²⁹ ULP of float32) is the margin: wherever the comparison falls within the
margin of ½ ULP, and at the largest errors found, the exact value is enclosed and decides. What is not decided in balls
is therefore known up to the margin, provided that the reference keeps its bound, which is measured, not proven.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.activations import Activation
from ..theory.errors import InputError
from .accuracy import FORMATS, adversarial_sample, bound, exact_function, measure_accuracy, ulp_error
from .files import cache_directory, write_whole
from .kernels import kernel

Array = npt.NDArray[Any]
#: Bit patterns of one step: a multiple of nothing in particular, some milliseconds of work.
BLOCK = 1 << 20
#: All bit patterns of float32.
ALL = 1 << 32
#: Largest errors kept and decided in balls at the end, and points outside the rules decided at once.
KEPT, MOST_DECIDED = 8, 400
#: ULP of float64 assumed of the reference of a typed formula, for which no bound is promised.
UNPROMISED = 64.0


@dataclass
class Exhaustive:
    """What has been found so far. ``worst`` holds [error in ULP, input, result], the largest first."""

    name: str
    order: int
    stride: int
    contestant: str
    margin: float
    next_pattern: int = 0
    checked: int = 0
    over_half: int = 0
    over_one: int = 0
    failures: int = 0
    decided_in_balls: int = 0
    #: inputs within the margin of ½ ULP (mostly exact ties between subnormals) that no ball was spent on
    undecided: int = 0
    worst: list[list[float]] = field(default_factory=list)
    reference_points: int = 0
    reference_worst_ulp: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether every pattern of the stride has been seen."""
        return self.next_pattern >= ALL

    @property
    def worst_ulp(self) -> float:
        """The largest error found."""
        return self.worst[0][0] if self.worst else 0.0


def exhaustive(
    row: Activation,
    order: int,
    *,
    stride: int = 1,
    contestant: str = "backproof",
    run: Callable[[Array], Array] | None = None,
    advance: Callable[[int], None] = lambda patterns: None,
    resume: bool = True,
    until: int = ALL,
) -> Exhaustive:
    """Measure the derivative of ``row`` of this order at every ``stride``-th float32; goes on where it was stopped.

    ``run`` is what is measured (named ``contestant``) if it is not the float32 kernel. The state is kept in the cache
    folder after every 256 blocks and when interrupted. ``until`` stops early at that bit pattern.
    Raises :class:`InputError` for a stride that is no positive integer.
    """
    if isinstance(stride, bool) or not isinstance(stride, int) or not 0 < stride < ALL:
        raise InputError(f"stride must be an integer from 1 to 2**32 - 1, not {stride!r}")
    measured = run or (lambda v: kernel(row, "float32").derivative(v, order))
    path = _state_path(row, order, stride, contestant)
    state = _read(path) if resume else None
    if state is None:
        state = Exhaustive(row.name, order, stride, contestant, _margin(row, order))
        _measure_reference(row, order, state)
    else:
        advance(state.next_pattern)
    reference = kernel(row, "float64")
    try:
        blocks = 0
        while state.next_pattern < until:
            _block(state, row, measured, lambda v: reference.derivative(v, order), advance)
            blocks += 1
            if blocks % 256 == 0:
                _write(path, state)
    finally:
        _write(path, state)
    if state.finished:
        _decide_worst(state, row)
    return state


def _margin(row: Activation, order: int) -> float:
    return (bound(row, "float64", order) or UNPROMISED) * 2.0**-29


def _measure_reference(row: Activation, order: int, state: Exhaustive) -> None:
    """The float64 kernel against balls, at float32 numbers."""
    rng = np.random.default_rng(order)
    random = rng.integers(0, ALL, 600, dtype=np.uint32).view(np.float32)
    points = np.concatenate([adversarial_sample(row, order, "float32", size=600), random[np.isfinite(random)]])
    result = measure_accuracy(kernel(row, "float64"), n_derivative=order, points=points.astype(np.float64))
    state.reference_points, state.reference_worst_ulp = result.points, result.worst_ulp


# --------------------------------------------------------------------------------------------------------------- blocks


def _block(
    state: Exhaustive,
    row: Activation,
    measured: Callable[[Array], Array],
    reference: Callable[[Array], Array],
    advance: Callable[[int], None],
) -> None:
    """The next :data:`BLOCK` patterns of the stride."""
    first = state.next_pattern
    last = min(first + BLOCK * state.stride, ALL)
    points = np.arange(first, last, state.stride, dtype=np.uint64).astype(np.uint32).view(np.float32)
    points = points[np.isfinite(points)]
    if points.size:
        computed = np.ascontiguousarray(measured(points), dtype=np.float32)
        with np.errstate(all="ignore"):
            wide = np.ascontiguousarray(reference(points.astype(np.float64)))
        errors = np.empty(points.size)
        _compiled_errors()(computed, wide, errors)
        _count(state, row, points, computed, errors)
    state.next_pattern = first + -(-(last - first) // state.stride) * state.stride if last < ALL else ALL
    advance(last - first)


@lru_cache(maxsize=1)
def _compiled_errors() -> Callable[[Array, Array, Array], None]:
    """errors[i] = |computed − reference| in ULP of float32 at the reference; ∞ where one of them is no number."""
    import numba

    from .elementary import bits_of, from_bits

    @numba.njit("void(float32[::1], float64[::1], float64[::1])", nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def errors_of(computed: Array, reference: Array, errors: Array) -> None:
        beyond = 3.4028235677973366e38  # the largest float32 and half an ulp: from here on ∞ is right
        for i in range(errors.size):
            exact, got = reference[i], numba.float64(computed[i])
            exponent = ((bits_of(exact) >> 52) & 2047) - 1023 - 23
            exponent = -149 if exponent < -149 else exponent
            error = abs(got - exact) * from_bits((1023 - exponent) << 52)
            overflow = abs(exact) >= beyond
            right = (got == exact) or (overflow and abs(got) == np.inf and (got > 0) == (exact > 0))
            error = 0.0 if right else error
            error = np.inf if overflow and not right else error
            errors[i] = error if error == error else (0.0 if exact != exact and got != got else np.inf)

    return errors_of  # type: ignore[no-any-return]


def _count(state: Exhaustive, row: Activation, points: Array, computed: Array, errors: Array) -> None:
    near_half = np.abs(errors - 0.5) <= state.margin
    open_questions = np.flatnonzero(near_half | np.isinf(errors))
    chosen = open_questions[: max(MOST_DECIDED - state.decided_in_balls, 0)]
    exact = exact_function(row, state.order)
    for k in chosen.tolist():
        decided, _ = ulp_error(float(computed[k]), exact(float(points[k])), FORMATS["float32"])
        if not np.isnan(decided):
            errors[k], near_half[k] = decided, False
    state.decided_in_balls += len(chosen)
    state.undecided += int(near_half.sum())
    state.checked += points.size
    state.over_half += int(((errors > 0.5) & ~near_half).sum())
    state.over_one += int((errors > 1).sum())
    state.failures += int(np.isinf(errors).sum())
    largest = np.argpartition(errors, -KEPT)[-KEPT:] if errors.size > KEPT else np.arange(errors.size)
    found = [[float(errors[k]), float(points[k]), float(computed[k])] for k in largest.tolist()]
    state.worst = sorted(state.worst + found, key=lambda entry: -entry[0])[:KEPT]


def _decide_worst(state: Exhaustive, row: Activation) -> None:
    exact = exact_function(row, state.order)
    for entry in state.worst:
        decided, _ = ulp_error(entry[2], exact(entry[1]), FORMATS["float32"])
        entry[0] = entry[0] if np.isnan(decided) else decided
    state.worst.sort(key=lambda entry: -entry[0])


# ---------------------------------------------------------------------------------------------------------------- state


def _state_path(row: Activation, order: int, stride: int, contestant: str) -> Path:
    """Named by the kernels' own files, whose names carry a hash of all that determines them."""
    own = kernel(row, "float32").path_of((order,)).stem
    reference = kernel(row, "float64").path_of((order,)).stem[-20:]
    return cache_directory() / f"exhaustive_{own}_{reference[:8]}_{contestant}_{stride}.json"


def _write(path: Path, state: Exhaustive) -> None:
    write_whole(path, json.dumps(asdict(state)))


def _read(path: Path) -> Exhaustive | None:
    """The state kept by an earlier run; None where there is none, or none that can be read."""
    try:
        return Exhaustive(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
