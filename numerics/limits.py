"""What a kernel gives at ±∞, held against the proven limit of the function there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import flint
import sympy
from flint import arb

from ..theory.activations import Activation
from ..theory.enclosures import enclose
from ..theory.errors import Unsupported
from ..theory.extremes import limit_at_infinity, period_of
from ..theory.formula_text import formula_text
from ..theory.pieces import pieces
from .accuracy import FORMATS, ulp_error

#: ULP that a finite result at ±∞ may be off its limit.
ALLOWED = 1.0


@dataclass(frozen=True)
class AtInfinity:
    """One end: what was computed, the limit as text, and whether they agree (None: no limit is known)."""

    side: int
    computed: float
    limit: str
    right: bool | None

    def __str__(self) -> str:
        verdict = {True: "", False: " WRONG", None: ""}[self.right]
        return f"at {'+' if self.side > 0 else '−'}∞ {self.computed:g} (limit {self.limit}){verdict}"


def judged_at_infinity(row: Activation, order: int, side: int, computed: float, dtype: str) -> AtInfinity:
    """Compare a result at +∞ (side 1) or −∞ (side −1) with the limit of a derivative of ``row``.

    Where the function comes back for ever there is no limit, and NaN is right; where no limit is proven, nothing is
    said. A finite limit is met within one ULP.

    >>> from backproof.theory.activations import ACTIVATIONS
    >>> str(judged_at_infinity(ACTIVATIONS["tanh"], 0, 1, 0.5, "float64"))
    'at +∞ 0.5 (limit 1) WRONG'
    """
    part = pieces(row.derivative(order))[-1 if side > 0 else 0].expr
    if part.free_symbols and period_of(part) is not None:
        return AtInfinity(side, computed, "none", math.isnan(computed))
    try:
        limit = limit_at_infinity(part, side)
    except (Unsupported, ValueError, ArithmeticError):
        return AtInfinity(side, computed, "not known", None)
    assert limit.exact is not None
    if limit.infinite:
        wanted = math.inf if limit.exact == sympy.oo else -math.inf
        return AtInfinity(side, computed, f"{wanted:g}", computed == wanted)
    error, _ = ulp_error(computed, lambda: _enclosed(limit.exact), FORMATS[dtype])
    return AtInfinity(side, computed, formula_text(limit.exact), error <= ALLOWED)


def _enclosed(value: object) -> arb:
    return enclose(value, {}, digits=max(20, int(flint.ctx.prec / 3.4)))


def judged_ends(row: Activation, order: int, at_minus: float, at_plus: float, dtype: str) -> tuple[AtInfinity, ...]:
    """Both ends, −∞ first."""
    return tuple(judged_at_infinity(row, order, s, v, dtype) for s, v in ((-1, at_minus), (1, at_plus)))
