"""How much a gradient can shrink or grow through depth, from Lipschitz constants and weight norms alone.

Let ℓ = sup|σ′| (proven, :mod:`.analysis`) and w ≥ ‖W⁽ˡ⁾‖₂ for every layer. Rows are samples, norms are Frobenius norms.

    plain    z⁽ˡ⁺¹⁾ = σ(z⁽ˡ⁾)W⁽ˡ⁺¹⁾ + b          ‖∂E/∂z⁽¹⁾‖ ≤ (ℓw)ᴸ⁻¹ ‖∂E/∂z⁽ᴸ⁾‖
    skip     z⁽ˡ⁺¹⁾ = z⁽ˡ⁾ + σ(z⁽ˡ⁾)W⁽ˡ⁺¹⁾ + b    (1 − ℓw)ᴸ⁻¹ ≤ ‖∂E/∂z⁽¹⁾‖ / ‖∂E/∂z⁽ᴸ⁾‖ ≤ (1 + ℓw)ᴸ⁻¹

(the lower one where ℓw < 1). The proof is the δ-recursion of :mod:`.recursion`: ‖(δWᵀ) ⊙ σ′(z)‖ ≤ ℓ‖W‖₂‖δ‖, and the
triangle inequality for the branch that is skipped. Since ‖W‖₂ ≤ 1 gives 0.25ᴸ⁻¹ for the sigmoid, its gradients vanish
unless weights are large (Hochreiter 1991; Bengio, Simard and Frasconi 1994; with skips, He et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy
from flint import arb

from .activations import Activation, activation
from .constants import number, sign_of
from .errors import InputError, Unsupported
from .extremes import Value
from .formula_text import value_text
from .parsing import parse_formula

MAX_DEPTH = 10_000


@dataclass(frozen=True)
class DepthBound:
    """Bounds of ‖∂E/∂z⁽¹⁾‖ / ‖∂E/∂z⁽ᴸ⁾‖ for a network of ``depth`` layers L with ‖W⁽ˡ⁾‖₂ ≤ ``weight_norm``."""

    activation: Activation
    depth: int
    weight_norm: sympy.Expr
    skip: bool
    slope: Value

    @cached_property
    def factor(self) -> sympy.Expr:
        """What one layer may multiply the norm by: ℓw, or 1 + ℓw with a skip. Exact; ℓ is a symbol where it is not."""
        slope = self.slope.exact if self.slope.exact is not None else sympy.Symbol("ell", positive=True)
        return slope * self.weight_norm + (1 if self.skip else 0)

    @cached_property
    def upper(self) -> sympy.Expr:
        """The upper bound of the ratio, exact (in the symbol ell where ℓ is only enclosed)."""
        return self.factor ** (self.depth - 1)

    @cached_property
    def lower(self) -> sympy.Expr:
        """The lower bound: (1 − ℓw)ᴸ⁻¹ with skips where that is positive, else 0."""
        shrink = 2 - self.factor
        if not self.skip or self.enclosed(shrink) <= 0 or not self.enclosed(shrink) > 0:
            return sympy.S.Zero
        return shrink ** (self.depth - 1)

    def enclosed(self, e: sympy.Expr) -> arb:
        """A ball around a bound, with the enclosure of ℓ where it is not exact."""
        free = e.free_symbols
        if not free:
            return number(e)
        from .enclosures import ball_function

        if self.slope.ball is None or {s.name for s in free} != {"ell"}:
            raise Unsupported(f"{e} has no value")
        result: arb = ball_function(e, tuple(free))(self.slope.ball)
        return result

    @property
    def verdict(self) -> str:
        """What the factor per layer says of depth."""
        low = self.lower != 0 or self.skip
        sign = sign_of(self.factor - 1) if not self.factor.free_symbols else _sign(self.enclosed(self.factor) - 1)
        if not low:
            return {-1: "vanishes: the gradient decays at least geometrically", 0: "cannot grow"}.get(
                sign if sign is not None else 2, "may explode: the bound grows geometrically"
            )
        return "cannot vanish" if self.lower != 0 else "not bounded away from 0"

    @property
    def statement(self) -> str:
        """The bound as one line."""
        ell, w = self.slope, value_text(self.weight_norm, 12, 6)
        inside = f"{ell}·{w}" if self.weight_norm != 1 else f"{ell}"
        base = f"(1 + {inside})" if self.skip else (inside if inside.replace(".", "").isalnum() else f"({inside})")
        upper = f"‖∂E/∂z⁽¹⁾‖ ≤ {base}^{self.depth - 1} ‖∂E/∂z⁽ᴸ⁾‖"
        if self.lower == 0:
            return upper
        return f"(1 - {inside})^{self.depth - 1} ‖∂E/∂z⁽ᴸ⁾‖ ≤ {upper}"


def _sign(ball: arb) -> int | None:
    return 1 if ball > 0 else -1 if ball < 0 else None


def depth_bound(f: Activation | str, depth: int, weight_norm: Any = 1, *, skip: bool = False) -> DepthBound:
    """The bounds for an activation, a depth L ≥ 1 and a bound on every ‖W⁽ˡ⁾‖₂ (a number, or text such as "3/2").

    Raises :class:`InputError` for a wrong depth or norm, :class:`Unsupported` where σ′ has no proven bound.

    >>> depth_bound("sigmoid", 11).upper
    1/1048576
    >>> depth_bound("sigmoid", 3, skip=True).upper, depth_bound("sigmoid", 3, skip=True).lower
    (25/16, 9/16)
    """
    row = activation(f)
    if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
        raise InputError(f"depth {depth}: a whole number from 1 to {MAX_DEPTH} is needed")
    text = repr(weight_norm) if isinstance(weight_norm, float) else str(weight_norm)
    norm = parse_formula(text, variables=())
    if not norm.is_finite or sign_of(norm) in (None, -1):
        raise InputError(f"weight norm {text[:40]!r}: a number of at least 0 is needed")
    fact = row.analysis.lipschitz
    if not fact.decided or fact.data is None or fact.data.value.infinite:
        raise Unsupported(f"the slope of {row.name} has no proven bound ({fact.text}: {fact.basis})")
    return DepthBound(row, depth, norm, skip, fact.data.value)
