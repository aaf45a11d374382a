"""Zeros that a formula reaches by cancellation: where they are, and the local polynomials that compute them.

Outside of a short interval around such a zero the sum in which terms cancel is good enough; inside, a proven polynomial
(:mod:`.local_polynomials`) is selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import pairwise
from typing import Any

import flint
import sympy
from flint import arb
from sympy import Expr

from .arithmetic import Arithmetic
from .decaying import a
from .enclosures import ball_function, exact_value, taylor
from .errors import Unsupported
from .half_lines import Cancelling
from .local_polynomials import LocalPolynomial, fit, refine_root
from .lowering import Builder
from .spans import clipped

#: Polynomials that one output may have; an oscillating function has more zeros than are worth their code.
MOST_PATCHES = 12
#: Half-widths tried for a local polynomial at a zero in the origin.
RADII_AT_ZERO = tuple(Fraction(n, 8) for n in (10, 8, 6, 5, 4, 2, 1))
#: Outside a local polynomial a sum in pairs may have so many times the relative error of an exponential, 2⁻⁵⁶.
MOST_LOST = 10
#: Proven bits of a local polynomial whose results are rounded to 24: all but about one in 2¹⁵ are rounded correctly.
SHORT_BITS = 40
#: Proven bits of one whose results may be a few units off: it is some 2⁴ closer than proven.
LEAN_BITS = 22
#: Proven bits of one whose result is a pair.
PAIRED_BITS = 57


@dataclass(frozen=True)
class Zero:
    """A zero reached by cancellation: the origin, or a root between two points where the signs differ."""

    position: Fraction
    bracket: tuple[Fraction, Fraction]
    cancelling: Cancelling

    @classmethod
    def of(cls, side: int, low: Fraction, high: Fraction, cancelling: Cancelling) -> Zero:
        """The root between low and high on the half-line of this side."""
        ends = (low, high) if side == 1 else (-high, -low)
        return cls((ends[0] + ends[1]) / 2, ends, cancelling)

    def mirrored(self) -> Zero:
        """The same zero at −x."""
        return Zero.of(-1, *self.bracket, self.cancelling)

    def loss(self, *ends: Fraction) -> float:
        """What is lost at the ends of an interval around the zero, by the sum that is computed outside."""
        return max(self.cancelling.loss(abs(end)) for end in ends)


def zeros_of(sums: Sequence[Cancelling], side: int, *, whole: bool = False) -> list[Zero]:
    """The zeros of sums in which terms cancel, as points x."""
    found: list[Zero] = []
    for cancelling in sums:
        function = ball_function(cancelling.factor, (a,))
        if _vanishes(function, arb(0)):
            found.append(Zero(Fraction(0), (Fraction(0), Fraction(0)), cancelling))
        found += [Zero.of(side, low, high, cancelling) for low, high in _sign_changes(function, both=whole)]
    return found


class Patching:
    """Adds local polynomials to a program that is being built, and to the list of its output in ``found``."""

    def __init__(
        self, b: Builder, argument: int, arithmetic: Arithmetic, found: dict[str, list[LocalPolynomial]]
    ) -> None:
        self.b, self.x, self.arithmetic, self.found = b, argument, arithmetic, found

    def patched(
        self,
        name: str,
        e: Expr,
        place: int,
        zeros: list[Zero],
        span: tuple[Expr, Expr],
        parity: int,
        careful: bool = False,
    ) -> int:
        """``place`` outside, proven polynomials around the zeros; one that cannot be proven is left out."""
        done: list[tuple[Fraction, Fraction]] = []
        for zero in zeros:
            if any(low <= zero.position <= high for low, high in done):
                continue
            radii = self._radii(zero.cancelling, careful)
            patch = _fit(e, zero, span, parity, self.arithmetic, radii) if len(done) < MOST_PATCHES else None
            if patch is not None:  # two may overlap: either holds there
                done.append((patch.low, patch.high))
                self.found.setdefault(name, []).append(patch)
                place = self._select_patch(patch, place)
        return place

    def _radii(self, cancelling: Cancelling, careful: bool) -> tuple[Fraction, ...]:
        """Those tried: narrow where the sum that cancels is sharp, wide where what is outside rounds often."""
        arithmetic = self.arithmetic
        if cancelling.sharp:
            return (*(arithmetic.sharp_radii if cancelling.exact else ()), *arithmetic.radii_at_roots)
        return (*(arithmetic.wide_radii if careful else ()), *arithmetic.radii_at_roots)

    def _select_patch(self, patch: LocalPolynomial, outside: int) -> int:
        b = self.b
        low, high = (b.constant(_rational(v)) for v in (patch.low, patch.high))
        if (
            self.arithmetic.fused and patch.high - patch.centre == patch.centre - patch.low
        ):  # an overflow that is not selected does no harm there
            y = b.op("sub", self.x, b.constant(_rational(patch.centre)))
            distance, radius = b.op("abs", y), b.constant(_rational(patch.high - patch.centre))
            inside = b.op("le", distance, radius)
            y = b.op("within", y, radius) if self.arithmetic.paired else y
            return b.op("select", inside, self._polynomial(patch, y), outside)
        if patch.even:
            inside = b.op("le", b.op("abs", self.x), high)
        else:
            inside = b.op("and", b.op("le", low, self.x), b.op("le", self.x, high))
        held = b.op("at_most", b.op("at_least", self.x, low), high)
        y = b.op("sub", held, b.constant(_rational(patch.centre)))
        return b.op("select", inside, self._polynomial(patch, y), outside)

    def _polynomial(self, patch: LocalPolynomial, y: int) -> int:
        """(hi + (lo + y(c₁ + y(…))))·dᵐ with y = x − c; targets that trap or differentiate get x held inside."""
        b = self.b
        if self.arithmetic.paired:
            return self._unevaluated(patch, y)
        if self.arithmetic.lean:
            return self._expanded(patch, y)
        d = b.op("sub", y, b.constant(_rational(patch.centre_rest)))
        z = b.op("mul", y, y) if patch.even else y
        first, *others = (b.constant(_rational(c)) for c in patch.coefficients)
        total = others[-1]
        for coefficient in reversed(others[:-1]):
            total = b.op("add", b.op("mul", total, z), coefficient)
        total = b.op("add", total, first)
        for _ in range(patch.multiplicity):
            total = b.op("mul", total, d)
        return total

    def _expanded(self, patch: LocalPolynomial, y: int) -> int:
        """The same in powers of y: the last sum, whose constant is f(c), rounds once where (y − rest)·P did twice.

        Its constants are exact and rounded when printed.
        """
        b = self.b
        first, rest, *others = patch.coefficients
        coefficients, power = [first + rest, *others], patch.multiplicity
        if patch.centre_rest != 0 and power == 1:
            shifted = (p - patch.centre_rest * q for p, q in pairwise([*coefficients, Fraction(0)]))
            coefficients, power = [-patch.centre_rest * coefficients[0], *shifted], 0
        z = b.op("mul", y, y) if patch.even else y
        *before, total = (b.constant(_rational(c)) for c in coefficients)
        for coefficient in reversed(before):
            total = b.op("add", b.op("mul", total, z), coefficient)
        d = b.op("sub", y, b.constant(_rational(patch.centre_rest)))
        return reduce(lambda p, q: b.op("mul", p, q), [d] * power, total)

    def _unevaluated(self, patch: LocalPolynomial, y: int) -> int:
        """The same for pairs: d = y − rest as it is, c₀ and the coefficients after it to all their digits.

        2ᴸ·P where several d follow: their product is scaled down last, so that only this may be subnormal.
        """
        b = self.b
        scale = Fraction(2) ** (self.arithmetic.lift if patch.multiplicity > 1 else 0)
        d = y if patch.centre_rest == 0 else b.op("with_rest", y, b.constant(_rational(-patch.centre_rest)))
        z = b.op("mul", y, y) if patch.even else y
        first, rest, *others = patch.coefficients
        *before, total = (b.constant(_rational(scale * c)) for c in (first + rest, *others))
        for coefficient in reversed(before):
            total = b.op("add", coefficient, b.op("mul", z, total))
        total = reduce(lambda p, q: b.op("mul", p, q), [d] * patch.multiplicity, total)
        return b.op("mul", total, b.constant(_rational(1 / scale)))


def _vanishes(function: Any, point: arb) -> bool:
    with flint.ctx.workprec(400):
        value = function(point)
    return bool(value.is_finite() and value.contains(0) and value.rad() < arb(2) ** -200)


def _sign_changes(function: Any, *, both: bool) -> list[tuple[Fraction, Fraction]]:
    """Neighbouring grid points, up to 64, between which the sign changes."""
    grid = [Fraction(1, 2**40), *(Fraction(k, 16) + Fraction(1, 97) for k in range(0, 256))]
    grid += [Fraction(k) + Fraction(1, 97) for k in range(17, 65)]
    if both:
        grid = sorted([-g for g in grid] + grid)
    signs = []
    with flint.ctx.workprec(256):
        for point in grid:
            value = function(exact_value(point))
            signs.append((1 if value > 0 else -1 if value < 0 else 0) if value.is_finite() else 0)
    return [(p, q) for (p, q), (s, t) in zip(pairwise(grid), pairwise(signs), strict=True) if s * t < 0]


@lru_cache(maxsize=1024)
def _fit(
    e: Expr,
    zero: Zero,
    span: tuple[Expr, Expr],
    parity: int,
    arithmetic: Arithmetic,
    at_roots: tuple[Fraction, ...],
) -> LocalPolynomial | None:
    """A proven polynomial at a zero that stays within the span; none where the arithmetic wants none.

    The widest one; in pairs the narrowest outside of which the sum that cancels loses little.
    """
    if not at_roots:
        return None
    at_origin = zero.position == 0
    try:
        root = arb(0) if at_origin else refine_root(e, *zero.bracket)
        multiplicity = _multiplicity(e) if at_origin else 1
    except Unsupported:
        return None
    centre = Fraction(0) if at_origin else arithmetic.nearest(float(root.mid()))
    if multiplicity is None:
        return None
    even = at_origin and parity != 0
    bits = _bits(arithmetic)
    radii = RADII_AT_ZERO if at_origin else at_roots
    for radius in _wide_enough(radii, centre, zero) if arithmetic.paired else radii:
        low, high = clipped(centre - radius, span[0], True), clipped(centre + radius, span[1], False)
        if low is None or high is None or not low <= centre <= high:
            return None
        try:
            return fit(e, root, multiplicity, low, high, even=even, arithmetic=arithmetic, bits=bits)
        except Unsupported:
            continue
    return None


def _bits(arithmetic: Arithmetic) -> int:
    """What a local polynomial must be proven to."""
    if arithmetic.lean:
        return LEAN_BITS
    if arithmetic.compensated:
        return arithmetic.digits
    return PAIRED_BITS if arithmetic.paired else SHORT_BITS


def _wide_enough(radii: tuple[Fraction, ...], centre: Fraction, zero: Zero) -> tuple[Fraction, ...]:
    """The radii, the largest first, from the smallest one outside of which little is lost."""
    enough = next((r for r in radii[::-1] if zero.loss(centre - r, centre + r) <= MOST_LOST), radii[0])
    return radii[radii.index(enough) :]


def _multiplicity(e: Expr) -> int | None:
    """The order of the zero of e at the origin."""
    with flint.ctx.workprec(400):
        series = taylor(e, arb(0), 12)
    if series is None:
        return None
    for k, coefficient in enumerate(series):
        if not coefficient.contains(0):
            return k or None
    return None


def _rational(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)
