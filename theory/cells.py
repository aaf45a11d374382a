"""One polynomial on one short cell: fitted from exact values, its error proven in balls.

On a cell the function is (x − c)ᵐ·h(x): m = 0 and c the middle of the cell, or c a zero of the function in or beside
the cell and m its multiplicity. h is a Taylor polynomial about c, economised to the wanted degree (the terms of higher
degree as Chebyshev polynomials, cut off), with coefficients rounded to floats. What is proven is about the rounded
coefficients: every Taylor coefficient of h minus P, written in Chebyshev polynomials, and the remainder enclosed over
the whole cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import flint
import sympy
from flint import arb

from .enclosures import taylor
from .removable import expand_at_zero
from .symbols import x  # noqa: F401  (of the doctest)

#: Working precisions tried in turn until the middle of the cell is known well enough.
PRECISIONS = (224, 480, 1_300, 2_600)
#: Taylor terms beyond the degree: the remainder's enclosure is wide, so it must come late.
EXTRA = 6
#: Bits to which the value in the middle of a cell must be known.
SHARP = 130
#: Beyond 2^±NEAR_ENDS coefficients are held 2^∓SCALED times as large.
NEAR_ENDS, SCALED = 900, 960
#: Half-widths of cells for which x − c needs no unit of its own: its powers times coefficients stay in the range.
UNSCALED = (2.0**-40, 2.0**40)


@dataclass(frozen=True)
class Form:
    """What the polynomials of a table look like, and when a cell is narrow enough for one."""

    name: str
    degree: int
    #: the relative error to be proven, −log₂
    bits: int
    #: the two leading coefficients are pairs of floats
    paired: bool
    #: Σ |cₖ|hᵏ over k ≥ 1, and over k ≥ 2, in units of |c₀|: what is rounded before the last sum
    first: float
    others: float
    #: exponents of the format's smallest and largest inputs
    exponents: tuple[int, int]
    #: results below 2⁻ᵖ are 0, above 2^q infinite
    least: int
    largest: int


#: float64 results in float64: the last sum rounds once, what is added to it is short.
PAIRED = Form("float64", 11, 55, True, 0.62, 0.16, (-1022, 1023), 1_080, 1_030)
#: float32 results by float64: 29 more bits are at hand.
PLAIN = Form("float32", 8, 42, False, 0.85, 0.85, (-149, 127), 160, 130)
FORMS = {53: PAIRED, 24: PLAIN}


@dataclass(frozen=True)
class Centre:
    """c as float + float, the ball around it, and the multiplicity of the function's zero there."""

    high: float
    rest: float
    ball: arb
    multiplicity: int = 0
    #: the function about c where that is exactly known: a formula in x − c
    moved: sympy.Expr | None = None


@dataclass(frozen=True)
class Cell:
    """A row of a table: 2^``scale``·dᵐ·P(t) with t = (x − c)·``unit``, d = x − c; with what was proven of it."""

    centre: float
    #: of c, times the unit
    rest: float
    multiplicity: int
    #: c₀, its rest, c₁, its rest, c₂, … (``paired``), or c₀, c₁, …; what is missing is 0
    coefficients: tuple[float, ...]
    unit: float
    scale: int
    error_bits: float


def middle_of(low: Fraction, high: Fraction) -> Centre:
    """The float in the middle of a cell."""
    middle = float((low + high) / 2)
    return Centre(middle, 0.0, arb(middle))


def fit_cell(expression: sympy.Expr, form: Form, centre: Centre, low: Fraction, high: Fraction) -> Cell | None:
    """The cell's polynomial, or None where it is not proven to be as good as the form asks.

    >>> cell = fit_cell(sympy.exp(x), PLAIN, middle_of(Fraction(0), Fraction(1, 4)), Fraction(0), Fraction(1, 4))
    >>> cell.centre, cell.error_bits < -50
    (0.125, True)
    """
    radius = _radius(centre, low, high)
    for bits in PRECISIONS:
        with flint.ctx.workprec(bits):
            expansion = _expansion(expression, form, centre, radius)
            if expansion is None:
                return None
            if centre.multiplicity == 0 and _is_small(*expansion, form):
                return zero_cell()
            if expansion[0][0].rel_accuracy_bits() > SHARP:
                return _fitted(*expansion, form, centre, radius)
    return None


def constant_cell(value: arb, form: Form) -> Cell:
    """A function of which nothing else is left, to two bits more than the form asks."""
    scale = _scale_of(value)
    value = value * arb(2) ** -scale
    high = float(value.mid())
    rest = float((value - arb(high)).mid())
    return Cell(0.0, 0.0, 0, (high, rest) if form.paired else (high,), 1.0, scale, -form.bits - 2.0)


def infinite_cell(sign: int, form: Form) -> Cell:
    """±∞ by an overflow: tables hold finite numbers."""
    exponent = NEAR_ENDS if form.paired else 200
    return Cell(0.0, 0.0, 0, (sign * 2.0**exponent,), 1.0, SCALED if form.paired else 0, -math.inf)


def zero_cell() -> Cell:
    """0 throughout: the function is below every float."""
    return Cell(0.0, 0.0, 0, (0.0,), 1.0, 0, -math.inf)


def _radius(centre: Centre, low: Fraction, high: Fraction) -> float:
    """The power of two that the cell does not reach beyond, or near a zero a number of few digits."""
    reach = float(max(abs(Fraction(centre.high) - low), abs(high - Fraction(centre.high))))
    mantissa, exponent = math.frexp(reach)
    if mantissa == 0.5:
        return math.ldexp(0.5, exponent)
    return math.ldexp(math.floor(mantissa * 2**12) + 1, exponent - 12)


def _expansion(expression: sympy.Expr, form: Form, centre: Centre, radius: float) -> tuple[list[arb], list[arb]] | None:
    """Coefficients of h at c and over the cell, times the radius to their power."""
    order, m = form.degree + EXTRA, centre.multiplicity
    if centre.moved is not None:
        found = expand_at_zero(centre.moved, arb(0, radius), order)
        if found is None or found[0] != m:
            return None
        at, over = found[1], found[2]
    else:
        whole_at = taylor(expression, centre.ball, order + m)
        whole_over = taylor(expression, centre.ball + arb(0, radius), order + m)
        if whole_at is None or whole_over is None:
            return None
        at, over = whole_at[m:], whole_over[m:]
    powers = [arb(radius) ** k for k in range(order + 1)]
    at, over = ([c * power for c, power in zip(side, powers, strict=True)] for side in (at, over))
    return (at, over) if all(c.is_finite() for c in at) and over[order].is_finite() else None


def _is_small(at: Sequence[arb], over: Sequence[arb], form: Form) -> bool:
    """Whether the whole cell is below the least float."""
    total = sum((abs(c).upper() for c in at[:-1]), abs(over[-1]).upper())
    return bool(total < arb(2) ** -form.least)


def _fitted(at: list[arb], over: list[arb], form: Form, centre: Centre, radius: float) -> Cell | None:
    """The polynomial in x − c, and the bound of its error."""
    order = form.degree + EXTRA
    size = abs(at[0])
    ratios = [float((c / size).mid()) for c in at[:order]]
    if sum(map(abs, ratios[1:])) > form.first or sum(map(abs, ratios[2:])) > form.others:
        return None
    unit = math.ldexp(1.0, -math.frexp(radius)[1]) if not UNSCALED[0] < radius < UNSCALED[1] else 1.0
    scale = _scale_of(at[0])
    corrections = [sum(r * e[k] for r, e in zip(ratios[form.degree + 1 :], _economy(form.degree), strict=True))
                   for k in range(form.degree + 1)]  # fmt: skip
    step = arb(2) ** -scale / arb(unit) ** centre.multiplicity
    reach = arb(radius) * arb(unit)
    rounded: list[float] = []
    exact: list[arb] = []
    for k, correction in enumerate(corrections):
        wanted = (at[k].mid() + correction * size.mid()) * step / reach**k
        high = float(wanted.mid())
        parts = [high, float((wanted - arb(high)).mid())] if form.paired and k < 2 else [high]
        rounded += parts
        exact.append(sum(map(arb, parts), arb(0)) / step * reach**k)
    differences = [c - p for c, p in zip(at, exact, strict=False)] + at[form.degree + 1 : order]
    error = sum((abs(c).upper() for c in _in_chebyshev(differences)), abs(over[order]).upper())
    least = size.lower() - sum((abs(c).upper() for c in at[1:order]), abs(over[order]).upper())
    if not error < least * arb(2) ** -form.bits or not all(map(math.isfinite, rounded)):
        return None
    bits = -math.inf if error == 0 else float((error / least).log().upper() / arb(2).log())
    rest = centre.rest * unit
    return Cell(centre.high, rest, centre.multiplicity, tuple(rounded), unit, scale, bits)


def _scale_of(value: arb) -> int:
    """Exponent by which coefficients are shifted, so that none is subnormal or infinite."""
    size = abs(value).mid()
    return -SCALED if size < arb(2) ** -NEAR_ENDS else SCALED if size > arb(2) ** NEAR_ENDS else 0


@lru_cache(maxsize=64)
def _power_in_chebyshev(j: int) -> tuple[float, ...]:
    """tʲ as Σ aₙTₙ; exact, for j is small."""
    found = [0.0] * (j + 1)
    for i in range(j // 2 + 1):
        found[j - 2 * i] = math.comb(j, i) * 2.0 ** (1 - j) / (2 if j == 2 * i else 1)
    return tuple(found)


def _in_chebyshev(coefficients: Sequence[arb]) -> list[arb]:
    """Σ cⱼtʲ in Chebyshev polynomials: the sum of their sizes bounds it for |t| ≤ 1."""
    total = [arb(0)] * len(coefficients)
    for j, c in enumerate(coefficients):
        for n, a in enumerate(_power_in_chebyshev(j)):
            if a:
                total[n] = total[n] + c * a
    return total


@lru_cache(maxsize=8)
def _economy(degree: int) -> tuple[tuple[float, ...], ...]:
    """The polynomials of this degree that stand for tʲ, j beyond: Tₙ with n above the degree are left out."""
    chebyshev = [[1.0], [0.0, 1.0]]
    while len(chebyshev) <= degree:
        last, before = chebyshev[-1], chebyshev[-2]
        chebyshev.append([2 * p - q for p, q in zip([0.0, *last], [*before, 0.0, 0.0], strict=True)])
    rows = []
    for j in range(degree + 1, degree + EXTRA):
        row = [0.0] * (degree + 1)
        for n, a in enumerate(_power_in_chebyshev(j)[: degree + 1]):
            for k, c in enumerate(chebyshev[n]):
                row[k] += a * c
        rows.append(tuple(row))
    return tuple(rows)
