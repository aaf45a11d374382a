"""What makes a formula lose digits in floats, and what is computed in its place: both forms measured side by side.

The formula as it is written and the stable form are run over the same adversarial sample against balls. The stable form
is shown as mathematics, half-line by half-line, in the quantities that decay there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from ..theory.activations import Activation
from ..theory.arctangents import inverted
from ..theory.decaying import NotDecaying, a, half_line, span_of
from ..theory.pieces import Piece, pieces
from ..theory.sign_changes import cut_pieces
from ..theory.symbols import x
from ..theory.tabulation import Table
from .acceptance import accepted, as_written_program, output_names, run_with_numpy
from .accuracy import FORMATS, adversarial_sample, exact_function, ulp_error
from .kernels import kernel

#: How many of the worst inputs are shown, at least a factor :data:`APART` from one another.
WORST = 5
APART = 1.3
#: Parts without cells that are named.
MOST_PARTS = 6


@dataclass(frozen=True)
class Loss:
    """One input at which a form is off: by ``ulp`` units in the last place, ∞ for a NaN or a wrong infinity."""

    x: float
    computed: float
    exact: str
    ulp: float


@dataclass(frozen=True)
class Explanation:
    """The formula or one of its derivatives, as written and as computed."""

    order: int
    formula: str
    #: the stable form in words, a line for each half-line, local polynomial and part that is left as written
    stable: tuple[str, ...]
    #: points at which the stable form met the formula in ball arithmetic, before anything was computed with it
    proved_at: int
    points: int
    worst_written: tuple[Loss, ...]
    worst_stable: tuple[Loss, ...]

    @property
    def errors(self) -> tuple[float, float]:
        """The largest error in ULP: as written, as computed."""
        return tuple(max((w.ulp for w in worst), default=0.0) for worst in (self.worst_written, self.worst_stable))  # type: ignore[return-value]


def explain(
    row: Activation,
    order: int = 0,
    dtype: str = "float64",
    *,
    size: int = 1_000,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> Explanation:
    """Both forms of a formula (or of its derivative) over an adversarial sample of about ``size`` points.

    ``advance`` is told of progress. Raises :class:`Unsupported` for a formula that cannot be compiled.
    """
    sample = adversarial_sample(row, order, dtype, size=size, seed=seed)
    written = run_with_numpy(as_written_program(row, order), dtype)(sample)
    computed = np.asarray(kernel(row, dtype).derivative(sample, order))
    exact = exact_function(row, order)
    losses: tuple[list[Loss], list[Loss]] = ([], [])
    for point, *values in zip(sample.tolist(), written.tolist(), computed.tolist(), strict=True):
        for found, value in zip(losses, values, strict=True):
            ulp, ball = ulp_error(value, exact(point), FORMATS[dtype])
            if not math.isnan(ulp):
                found.append(Loss(point, value, ball.str(17, radius=False), ulp))
        advance(1)
    name = output_names([order])[order]
    stable = accepted(row, (order,), dtype, tables=True)
    tables = stable.tables.get(name, [])
    lines = [_table(table) for table in tables]
    if not tables or any(table.missing for table in tables):
        where = ["where there is no cell:"] if tables else []
        lines += where + _forms(row.derivative(order), stable.as_written.get(name))
        lines += [_patch(patch) for patch in stable.patches.get(name, ())]
    return Explanation(
        order=order,
        formula=str(row.derivative(order)),
        stable=tuple(lines),
        proved_at=stable.proved_at.get(name, 0),
        points=len(losses[0]),
        worst_written=_worst(losses[0]),
        worst_stable=_worst(losses[1]),
    )


def _worst(losses: list[Loss]) -> tuple[Loss, ...]:
    """The largest errors, not all from one place."""
    chosen: list[Loss] = []
    for loss in sorted(losses, key=lambda found: (-found.ulp, abs(found.x))):
        if all(not _near(loss.x, other.x) for other in chosen):
            chosen.append(loss)
        if len(chosen) == WORST:
            break
    return tuple(chosen)


def _near(p: float, q: float) -> bool:
    return p == q or (p * q > 0 and 1 / APART < p / q < APART)


def _forms(expression: sympy.Expr, why_written: str | None) -> list[str]:
    """The normal form on each half-line of each piece."""
    if why_written is not None:
        return [f"as written: {why_written}"]
    lines = []
    for piece in inverted(cut_pieces(pieces(expression))):
        for side, here in ((-1, piece.left < 0), (1, piece.right > 0)):
            if here:
                lines.append(f"{_region(piece.left, piece.right, side)}: {_normal_form(piece, side)}")
    return lines


def _region(left: Any, right: Any, side: int) -> str:
    low, high = (left, min(right, 0)) if side < 0 else (max(left, 0), right)
    bounds = [f"{low} < " * (low != -sympy.oo), "x", f" < {high}" * (high != sympy.oo)]
    return f"{''.join(bounds)}, {'x = -a' if side < 0 else 'x = a'}"


def _normal_form(piece: Piece, side: int) -> str:
    """The quotient in decaying quantities, and what they are."""
    here = piece.expr.subs(x, side * a)
    try:
        line = half_line([here], span=span_of(piece.left, piece.right))
        form = line.reduced(here).as_expr()
    except NotDecaying as reason:
        return f"{here} as it stands ({reason})"
    known = {symbol: meaning for symbol, meaning in line.definitions().items() if symbol in form.free_symbols}
    kept = {*line.atoms.values()}
    where = ", ".join(
        f"{symbol} = {meaning}{' as written' * (symbol in kept)}"
        for symbol, meaning in known.items()
        if symbol != meaning
    )
    return f"{form}" + (f", {where}" if where else "")


def _patch(patch: Any) -> str:
    """A local polynomial in a line."""
    low, high, centre = (f"{float(v):.6g}" for v in (patch.low, patch.high, patch.centre))
    factor = f"(x - {centre})**{patch.multiplicity}"
    return f"{low} <= x <= {high}: {factor} times a polynomial, relative error below 2**{patch.error_bits:.0f} (proven)"


def _table(table: Table) -> str:
    """A table of polynomials in a line: where, how many cells, what is proven, which parts have none."""
    where = f"{table.low:g} < x < {table.high:g}: {table}"
    ends = [
        f"{growth.factor:.6g}*x**{growth.power} {'from' if side > 0 else 'up to'} {side * growth.start:g} on (proven)"
        for side, growth in zip((-1, 1), table.growth, strict=True)
        if growth is not None
    ]
    parts = [f"{low:.6g} to {high:.6g}" for low, high in table.missing]
    shown = ", ".join(parts[:MOST_PARTS]) + (f" and {len(parts) - MOST_PARTS} more" if len(parts) > MOST_PARTS else "")
    return "; ".join([where, *ends, *([f"no cell from {shown}"] if parts else [])])


def as_text(found: Explanation, title: str) -> str:
    """The explanation for people."""
    before, after = found.errors
    lines = [title, f"  as written   {found.formula}"]
    lines += [f"    worst {_ulp(w)} at x = {w.x!r}: {w.computed!r}, exact {w.exact}" for w in found.worst_written]
    lines += ["  computed as"] + [f"    {line}" for line in found.stable]
    lines += [f"    met the formula in ball arithmetic at {found.proved_at} points" if found.proved_at else ""]
    lines += [f"    worst {_ulp(w)} at x = {w.x!r}: {w.computed!r}, exact {w.exact}" for w in found.worst_stable[:1]]
    lines += [f"  error over {found.points} points: as written {_number(before)}, as computed {_number(after)} ULP"]
    return "\n".join(line for line in lines if line)


def _ulp(loss: Loss) -> str:
    return f"{_number(loss.ulp)} ULP"


def _number(ulp: float) -> str:
    return "∞" if math.isinf(ulp) else f"{ulp:.3g}"
