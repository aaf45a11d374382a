"""Which form of an activation a kernel computes: the stable one, unless measurement says that it is less accurate.

Both forms are printed for NumPy and measured in ULP against balls at a small adversarial sample. The stable form is
already proved equal to the formula (:func:`backproof.theory.proof.prove`); here it must also be no worse in floats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..theory.activations import Activation
from ..theory.arithmetic import ARITHMETICS, Arithmetic, fused
from ..theory.lowering import Program, lower
from ..theory.stability import Stable, stable_program
from ..theory.symbols import x
from ..theory.tabulation import Table
from .compiled import Array

#: A stable form may be this much worse, in ULP, without being refused: one rounding is not worth a NaN elsewhere.
SLACK = 1.0
#: Points, about, over which a table is held against its goal, and cells of it whose ends are among them.
TABLE_SAMPLE, MOST_BORDERS = 400, 150
#: Inputs beyond do not speak for a table: 3x overflows there, of which sin(3x) is none the slower.
FARTHEST = 1e300
#: Points of the comparison, besides the special ones of the formula.
SAMPLE = (
    0.0, 1e-300, 1e-30, 1e-9, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 1.0, 1.3, 1.7, 2.2, 3.1, 4.5, 6.3, 9.1, 13.0, 18.7, 27.1,
    38.3, 60.0, 87.0, 104.0, 240.0, 700.0, 740.0, 1e3, 1e8, 1e18, 1e37, 1e160,
)  # fmt: skip


def output_names(orders: Sequence[int]) -> dict[int, str]:
    """order -> the name of its output in programs and generated source."""
    return {n: ("value", "derivative")[n] if n < 2 else f"derivative_{n}" for n in orders}


def accepted(
    row: Activation,
    orders: Sequence[int],
    dtype: str,
    arithmetic: Arithmetic | None = None,
    *,
    tables: bool = False,
    factors: Mapping[str, Sequence[str]] | None = None,
) -> Stable:
    """The program for these derivatives of ``row``: each output in its stable form unless as written it is better.

    ``arithmetic`` is what the target computes in, by default what every target can. With ``tables`` an output of a
    typed formula whose measured error misses its goal comes from a table of polynomials where that is more accurate; a
    program with a table is not in pairs, so that others may need one, too.
    ``factors`` names the inputs by which an output is multiplied before it is rounded.
    """
    names = output_names(orders)
    expressions = {name: row.derivative(n) for n, name in names.items()}
    arithmetic = arithmetic or ARITHMETICS[dtype]
    tabulated = _tabulated(row, names, dtype, arithmetic) if tables else frozenset()
    if tabulated and arithmetic.paired:
        arithmetic = fused(ARITHMETICS[dtype])
        tabulated = _tabulated(row, names, dtype, arithmetic)
    kept = frozenset(name for n, name in names.items() if not _stable_is_better(row, n, dtype, arithmetic))
    return stable_program(expressions, arithmetic, as_written=kept, tabulated=tabulated, factors=factors)


def _tabulated(row: Activation, names: Mapping[int, str], dtype: str, arithmetic: Arithmetic) -> frozenset[str]:
    return frozenset(name for n, name in names.items() if table_is_better(row, n, dtype, arithmetic))


@lru_cache(maxsize=512)
def table_is_better(row: Activation, order: int, dtype: str, arithmetic: Arithmetic | None = None) -> bool:
    """Whether an output misses its goal without a table of polynomials, and less so with one where that has cells.

    Rows of the table of activations have promises of their own and are computed without.
    """
    if not row.is_typed:
        return False
    without, tabulated = errors_with_table(row, order, dtype, arithmetic)
    return without > goal(dtype, order) and tabulated < without


def goal(dtype: str, order: int) -> float:
    """The error in ULP beyond which a table is tried."""
    from .accuracy import BOUNDS, STEPWISE

    return (STEPWISE if dtype == "float64" else BOUNDS[dtype])[min(order, 2)]


@lru_cache(maxsize=512)
def errors_with_table(
    row: Activation, order: int, dtype: str, arithmetic: Arithmetic | None = None
) -> tuple[float, float]:
    """(worst error without a table, with one) in ULP where the table has cells, over an adversarial sample.

    Both are run by NumPy; where that misses the goal and ``arithmetic`` carries pairs, a program without a table is
    compiled with them. The same twice where no table is made: the goal is met without, or the formula cannot be
    tabulated.
    """
    from .accuracy import adversarial_sample

    sample = adversarial_sample(row, order, dtype, size=TABLE_SAMPLE)
    sample = sample[np.abs(sample.astype(np.float64)) <= FARTHEST]
    expression, kept = row.derivative(order), not _stable_is_better(row, order, dtype, arithmetic)
    without = (
        as_written_program(row, order) if kept else stable_program({"value": expression}, ARITHMETICS[dtype]).program
    )
    runs = run_with_numpy(without, dtype)
    worst = _worst_error(runs, row, order, dtype, sample)
    if worst > goal(dtype, order) and arithmetic is not None and arithmetic.paired:
        runs = _run_in_pairs(row, order, dtype, arithmetic, kept=kept)
        worst = _worst_error(runs, row, order, dtype, sample)
    if worst <= goal(dtype, order):
        return worst, worst
    found = stable_program({"value": expression}, ARITHMETICS[dtype], tabulated=frozenset(("value",)))
    tables = found.tables.get("value", ())
    with np.errstate(over="ignore"):
        also = np.array([p for t in tables for p in borders_of(t) if abs(p) <= FARTHEST], dtype=dtype)
    sample = np.unique(np.concatenate([sample, also]))
    held = np.array([any(table.holds(p) for table in tables) for p in sample.tolist()])
    if not held.any():
        return worst, worst
    both = (runs, run_with_numpy(found.program, dtype))
    return tuple(_worst_error(run, row, order, dtype, sample[held]) for run in both)  # type: ignore[return-value]


def borders_of(table: Table) -> list[float]:
    """Centres and neighbours of the borders of some of a table's cells, its zeros' all of them."""
    zeros = [cell.centre for cell in table.cells if cell.multiplicity > 0]
    chosen = [cell.centre for cell in table.cells[:: max(1, len(table.cells) // MOST_BORDERS)]]
    ends = [end for part in table.missing for end in part if math.isfinite(end)]
    around = [float(np.nextafter(c, s * np.inf)) for c in (*zeros, *ends) for s in (1, -1)]
    beside = [p + s * step for p, q in itertools.pairwise(chosen) for s in (1, -1) for step in (abs(q - p) / 2,)]
    return [*zeros[:MOST_BORDERS], *around[: 4 * MOST_BORDERS], *chosen, *beside]


@lru_cache(maxsize=512)
def _stable_is_better(row: Activation, order: int, dtype: str, arithmetic: Arithmetic | None = None) -> bool:
    """Whether the stable form is no worse than the formula as written, by NumPy; a typed formula's also in pairs."""
    stable, written = errors_of_forms(row, order, dtype)
    if stable > written + SLACK and row.is_typed and arithmetic is not None and arithmetic.paired:
        runs = (_run_in_pairs(row, order, dtype, arithmetic, kept=kept) for kept in (False, True))
        stable, written = (_worst_error(run, row, order, dtype, _sample(dtype)) for run in runs)
    return stable <= written + SLACK


def _sample(dtype: str) -> Array:
    within = [p for p in SAMPLE if p < float(np.finfo(dtype).max)]
    return np.array([s * p for p in within for s in (1, -1)], dtype=dtype)


def errors_of_forms(row: Activation, order: int, dtype: str, points: Array | None = None) -> tuple[float, float]:
    """(worst error of the stable form, of the formula as written) in ULP, both run by NumPy, over a sample."""
    sample = _sample(dtype) if points is None else points
    stable = stable_program({"value": row.derivative(order)}, ARITHMETICS[dtype]).program
    both = (run_with_numpy(program, dtype) for program in (stable, as_written_program(row, order)))
    return tuple(_worst_error(run, row, order, dtype, sample) for run in both)  # type: ignore[return-value]


def _worst_error(run: Callable[[Array], Array], row: Activation, order: int, dtype: str, sample: Array) -> float:
    """The largest error that was decided over a sample; ∞ where none was."""
    from .accuracy import FORMATS, exact_function, ulp_error

    exact, computed = exact_function(row, order), run(sample)
    errors = [
        ulp_error(v, exact(p), FORMATS[dtype])[0] for p, v in zip(sample.tolist(), computed.tolist(), strict=True)
    ]
    return max((e for e in errors if not math.isnan(e)), default=math.inf)


def as_written_program(row: Activation, order: int) -> Program:
    """The derivative lowered as SymPy writes it, with nothing made stable."""
    return lower({"value": row.derivative(order)}, (x,))


def run_with_numpy(program: Program, dtype: str) -> Callable[[Array], Array]:
    """A NumPy function of one array for a program with one output; it never warns."""
    from .targets.numpy import print_source

    namespace: dict[str, Any] = {}
    exec(compile(print_source(program, dtype=dtype), "<generated>", "exec"), namespace)  # our own generated source

    def run(points: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(namespace["run"](points))

    return run


@lru_cache(maxsize=64)
def _run_in_pairs(
    row: Activation, order: int, dtype: str, arithmetic: Arithmetic, *, kept: bool
) -> Callable[[Array], Array]:
    """The stable form, or with ``kept`` the formula as written, in pairs and compiled for the CPU; no file is kept."""
    from .targets.numba_cpu import print_source

    as_written = frozenset(("value",)) if kept else frozenset[str]()
    program = stable_program({"value": row.derivative(order)}, arithmetic, as_written=as_written).program
    namespace: dict[str, Any] = {}
    exec(compile(print_source(program, dtype=dtype, cache=False), "<generated>", "exec"), namespace)  # likewise

    def run(points: Array) -> Array:
        results = np.empty_like(points)
        namespace["run"](points, results)
        return results

    return run
