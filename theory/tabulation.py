"""A function on the whole line as one table of proven polynomials, each cell found from the bits of x.

The line is cut by powers of two; each octave [2ᵉ, 2ᵉ⁺¹) of either sign into :data:`SEGMENTS` equal segments, and each
segment into 2ᵏ cells, or several segments are one cell. A cell's number is therefore read off the exponent and the
leading digits of x: no search. Around 0 lies one cell (x)ᵐ·P(x); cells at zeros of the function are (x − c)ᵐ·P(x − c)
with c to twice the digits (:mod:`.cells`). Outwards the cells end where :mod:`.far_bounds` proves that nothing is left
but a constant, c·x, 0 or ∞ in the format.

Where no cell is proven (beside a singularity, or where a function oscillates for ever and the table would become too
large) the table says so, and the function is computed there as it would be without one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise

import flint
import sympy
from flint import arb

from .cells import FORMS, Cell, Centre, Form, constant_cell, fit_cell, infinite_cell, middle_of, zero_cell
from .compensated import nearest_float
from .errors import Unsupported
from .extremes import limit_at_infinity
from .far_bounds import Bounds, bounds, hull, rearranged
from .local_zeros import find_zeros
from .removable import expand_at_zero
from .symbols import x

#: Equal parts of an octave that may have cells of different width, and cells that one of them may have.
SEGMENT_BITS, MOST_HALVINGS = 3, 11
SEGMENTS = 1 << SEGMENT_BITS
#: Cells of one table.
MOST_CELLS = 10_000
#: Octaves in a row without a proven cell after which no more are tried on that side.
MOST_FAILED = 2
#: Half-widths 2ᵉ tried for the cell around 0.
AROUND_ZERO = tuple(range(0, -15, -1))
#: log₂ of where the rest of the line is tried for a constant, c·x, 0 or ∞; bits in which that is done.
FAR = (*range(1, 13), 16, 24, 32, 48, 64, 128, 256, 512)
FAR_PRECISION = 2_600
#: Powers of x that may be all that is left far out.
POWERS = (0, 1, -1, 2, -2, -3)
#: Cells an octave may have on a side where no proven rest ends them: a wave has twice as many in each next one.
MOST_ENDLESS = 400
#: Octaves from 2^NEAR on are far out; those below 2^WITHIN are bounded one by one.
NEAR, WITHIN = 2, 11
#: Exponent up to which octaves without cells are kept in hope of a proven rest.
FAR_FAILED = 12
#: A segment in which, cut into 2^LASTING cells and more, so few have no polynomial has a singularity: they go without.
LASTING, MOST_SINGULAR = 7, 3
#: Fraction bits of a float64, and of them those below a segment's.
FRACTION = 52
WHOLE = FRACTION - SEGMENT_BITS
#: The row that is 0: also where nothing is asked for.
HARMLESS = 1


@dataclass(frozen=True)
class Growth:
    """``factor``·xᵐ, m = ``power``, is all that is left of the function where |x| ≥ ``start``; m may be negative."""

    factor: float
    power: int
    start: float
    #: what the factor misses of the exact one
    rest: float = 0.0


#: Row and growth of what holds the rest of the line.
Rest = tuple[int, Growth | None]


@dataclass(frozen=True, eq=False)
class Table:
    """Cells and how to find them. Row 0 says that there is no cell: its multiplicity is −1."""

    form: Form
    cells: tuple[Cell, ...] = field(repr=False)
    #: exponent of the first octave; octaves follow up to the place where one cell holds the rest
    first: int
    #: by segment (below the first octave, …, beyond the last; then the same for negative x): a row, and how far the
    #: bits below the segment's are shifted to be added to it
    starts: tuple[int, ...] = field(repr=False)
    shifts: tuple[int, ...] = field(repr=False)
    #: what holds the rest of the line for negative and positive x where that is no cell
    growth: tuple[Growth | None, Growth | None]
    #: the parts of the line that have no cell
    missing: tuple[tuple[float, float], ...]
    #: the borders
    low: float = -math.inf
    high: float = math.inf

    @property
    def error_bits(self) -> float:
        """log₂ of the proven bound of the relative error."""
        return max((c.error_bits for c in self.cells), default=-math.inf)

    @property
    def count(self) -> int:
        """Segments of one sign."""
        return len(self.starts) // 2

    @property
    def has(self) -> dict[str, bool]:
        """Which columns are needed: zeros, units, scales; and whether parts of the line have no cell."""
        return {
            "zeros": any(c.multiplicity > 0 for c in self.cells),
            "unit": any(c.unit != 1 for c in self.cells),
            "scale": any(c.scale for c in self.cells),
            "missing": bool(self.missing),
        }

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What a row holds: the centre, its rest, the multiplicity and so on as far as needed, and coefficients."""
        has, pairs = self.has, self.form.paired
        found = ["centre", *(["unit"] if has["unit"] else []), *(["rest", "multiplicity"] if has["zeros"] else [])]
        found += ["multiplicity"] if has["missing"] and not has["zeros"] else []
        found += ["scale"] if has["scale"] else []
        for k in range(self.form.degree + 1):
            found += [f"c{k}", f"c{k}_rest"] if pairs and k < 2 else [f"c{k}"]
        return tuple(found)

    @cached_property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """The numbers of each cell in the order of :attr:`columns`; without any part missing the first row is 0."""
        return tuple(tuple(self._numbers(cell)) for cell in self.cells)

    def _numbers(self, cell: Cell) -> Iterator[float]:
        constant = cell.centre == 0 and cell.multiplicity == 0 and not any(cell.coefficients[2:])
        named = {
            "centre": cell.centre,
            "unit": 0.0 if constant else cell.unit,
            "rest": cell.rest,
            "multiplicity": float(cell.multiplicity),
            "scale": 2.0**cell.scale,
        }
        coefficients = iter(cell.coefficients)
        for column in self.columns:
            yield named[column] if column in named else next(coefficients, 0.0)

    def column(self, name: str) -> tuple[float, ...]:
        """One number of every cell."""
        return self._by_column[name]

    @cached_property
    def _by_column(self) -> dict[str, tuple[float, ...]]:
        return dict(zip(self.columns, zip(*self.rows, strict=True), strict=True))

    def holds(self, value: float) -> bool:
        """Whether a float has a cell."""
        return self.low <= value <= self.high and self.cells[self.row_of(value)].multiplicity >= 0

    def row_of(self, value: float) -> int:
        """The number of the cell that holds a float."""
        mantissa, exponent = math.frexp(abs(value))
        if value == 0 or exponent - 1 < self.first:
            segment, offset = 0, 0
        elif math.isinf(value):
            segment, offset = self.count - 1, 0
        else:
            digits = int(math.ldexp(mantissa, FRACTION + 1)) - (1 << FRACTION)
            segment = ((exponent - 1 - self.first) << SEGMENT_BITS) + (digits >> WHOLE) + 1
            offset = digits & ((1 << WHOLE) - 1)
            segment = min(segment, self.count - 1)
        segment += self.count if math.copysign(1.0, value) < 0 else 0
        return self.starts[segment] + (offset >> self.shifts[segment])

    def __str__(self) -> str:
        proven = "exact" if self.error_bits == -math.inf else f"relative error below 2**{self.error_bits:.0f} (proven)"
        return f"{len(self.cells) - 1:,} cells of degree {self.form.degree}, {proven}"


@dataclass
class _Builder:
    """Collects the cells of one formula between two borders."""

    expression: sympy.Expr
    form: Form
    low: Fraction | None
    high: Fraction | None
    cells: list[Cell] = field(default_factory=list)
    #: side -> segments from the first octave on: (row, shift)
    segments: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {1: [], -1: []})
    missing: list[tuple[float, float]] = field(default_factory=list)
    #: segment -> the zeros in and beside it
    zeros: dict[tuple[Fraction, Fraction], list[Centre]] = field(default_factory=dict)

    #: multiples of halvings that the last segment needed: the next one will need about as many
    hint: int = 0
    #: whether the present octave is far out
    far: bool = False
    #: segments that the last cell held: the next one will hold twice as many at most
    grain: int = SEGMENTS

    def table(self) -> Table:
        self.cells.append(Cell(0.0, 0.0, -1, (0.0,), 1.0, 0, -math.inf))
        self.cells.append(zero_cell())
        first, around = self._around_zero()
        beyond = {side: self._outwards(side, first) for side in (1, -1)}
        length = max(map(len, self.segments.values()))
        starts: list[int] = []
        shifts: list[int] = []
        for side in (1, -1):
            row, _ = beyond[side]
            filled = self.segments[side] + [(row, WHOLE)] * (length - len(self.segments[side]))
            starts += [around, *(start for start, _ in filled), row]
            shifts += [WHOLE, *(shift for _, shift in filled), WHOLE]
        return Table(
            self.form, tuple(self.cells), first, tuple(starts), tuple(shifts), (beyond[-1][1], beyond[1][1]),
            tuple(_joined(self.missing)),
        )  # fmt: skip

    def _meets(self, side: int) -> bool:
        """Whether the half-line of this side has a part between the borders."""
        return self.high is None or self.high > 0 if side > 0 else self.low is None or self.low < 0

    def _clipped(self, low: Fraction, high: Fraction) -> tuple[Fraction, Fraction]:
        return (
            low if self.low is None else max(low, self.low),
            high if self.high is None else min(high, self.high),
        )

    def _add(self, cell: Cell) -> int:
        self.cells.append(cell)
        return len(self.cells) - 1

    def _lost(self, low: Fraction, high: Fraction) -> int:
        low, high = self._clipped(low, high)
        self.missing.append((_as_float(low), _as_float(high)))
        return 0

    # ------------------------------------------------------------------------------------------------------ around zero

    def _around_zero(self) -> tuple[int, int]:
        """The exponent of the first octave, and the row of what lies below it."""
        least = self.form.exponents[0]
        if (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0):
            nearest = min(abs(end) for end in (self.low, self.high) if end is not None)
            return max(math.frexp(float(nearest))[1] - 1, least), HARMLESS
        with flint.ctx.workprec(FAR_PRECISION // 4):
            found = expand_at_zero(self.expression, arb(0), 2)
        if found is not None:
            centre = Centre(0.0, 0.0, arb(0), found[0], self.expression)
            for e in AROUND_ZERO:
                low, high = self._clipped(-(Fraction(2) ** e), Fraction(2) ** e)
                cell = fit_cell(self.expression, self.form, centre, low, high)
                if cell is not None:
                    return e, self._add(cell)
        return self._downwards(), self._lost(-(Fraction(2) ** least), Fraction(2) ** least)

    def _downwards(self) -> int:
        """Octaves towards 0 where the function is not analytic there; the exponent of the lowest."""
        depth: dict[int, list[list[tuple[int, int]]]] = {1: [], -1: []}
        for side in (1, -1):
            failed, limit = 0, len(self.cells) + MOST_CELLS // 4
            for e in range(-1, self.form.exponents[0] - 1, -1):
                if not self._meets(side) or failed == MOST_FAILED or len(self.cells) > limit:
                    break
                depth[side].append(self._octave(side, e, limit))
                failed = failed + 1 if all(row == 0 for row, _ in depth[side][-1]) else 0
        lowest = max(map(len, depth.values()), default=0)
        for side, octaves in depth.items():
            for k in reversed(range(lowest)):
                self.segments[side] += octaves[k] if k < len(octaves) else [self._nothing(side, -1 - k)] * SEGMENTS
        return -lowest

    def _nothing(self, side: int, e: int) -> tuple[int, int]:
        """An octave without cells."""
        ends = sorted(side * Fraction(2) ** k for k in (e, e + 1))
        return (self._lost(*ends) if self._meets(side) else HARMLESS), WHOLE

    # --------------------------------------------------------------------------------------------------------- outwards

    def _outwards(self, side: int, first: int) -> Rest:
        """Octaves up to where one cell holds the rest."""
        if not self._meets(side):
            return HARMLESS, None
        filled = self.segments[side]
        failed, limit = 0, len(self.cells) + MOST_CELLS // 2
        top = self.form.exponents[1]
        end, rest = self._end(side, first) if self._unbounded(side) else (top + 1, None)
        for e in range(first + len(filled) // SEGMENTS, top + 1):
            low, high = self._clipped(*sorted((side * Fraction(2) ** e, side * Fraction(2) ** (top + 1))))
            if low >= high:
                return HARMLESS, None
            if rest is not None and e >= end:
                return rest
            if failed == (MOST_FAILED if rest is not None else 1):
                if rest is None or end > FAR_FAILED:
                    break
                filled += [self._nothing(side, e)] * SEGMENTS
                continue
            most = len(self.cells) + MOST_ENDLESS if rest is None and self._unbounded(side) else limit
            filled += self._octave(side, e, min(most, limit))
            failed = failed + 1 if any(row == 0 and shift == WHOLE for row, shift in filled[-SEGMENTS:]) else 0
        reached = first + len(filled) // SEGMENTS
        if reached > top and self._unbounded(side):
            return self._at_infinity(side), None
        self._lost(*sorted((side * Fraction(2) ** reached, side * Fraction(2) ** (top + 1))))
        return 0, None

    def _at_infinity(self, side: int) -> int:
        """The row of ±∞ alone, where all finite x have cells: the proven limit."""
        try:
            limit = limit_at_infinity(self.expression, side)
        except (Unsupported, ValueError, ArithmeticError):
            return self._lost(*[side * Fraction(2) ** (self.form.exponents[1] + 1)] * 2)
        if limit.ball is None:
            return self._add(infinite_cell(1 if limit.exact == sympy.oo else -1, self.form))
        return self._add(constant_cell(limit.ball, self.form))

    def _unbounded(self, side: int) -> bool:
        return (self.high if side > 0 else self.low) is None

    def _end(self, side: int, first: int) -> tuple[int, Rest | None]:
        """From which exponent on one cell holds the rest, and that cell; None where no such is proven."""
        for e in FAR:
            if e >= first and e <= self.form.exponents[1]:
                rest = self._rest(side, e)
                if rest is not None:
                    return e, rest
        return self.form.exponents[1] + 1, None

    def _rest(self, side: int, e: int) -> Rest | None:
        """One cell for everything from 2ᵉ on, if that is proven."""
        with flint.ctx.workprec(FAR_PRECISION):
            for power in POWERS:
                found = self._far_bounds(self.expression / x**power, side, e)
                if found is None:
                    return None
                size = max((abs(found.low), abs(found.high)), key=_Sized)
                if not power and size < arb(2) ** -self.form.least:
                    return HARMLESS, None
                if found.holds_zero():
                    return None
                least = min((abs(found.low), abs(found.high)), key=_Sized)
                if not power and least > arb(2) ** self.form.largest:
                    return self._add(infinite_cell(1 if found.low > 0 else -1, self.form)), None
                if size.is_finite() and found.high - found.low < size * arb(2) ** -(self.form.bits + 3):
                    value = (found.low + found.high) / 2
                    if power:
                        factor = float(value.mid())
                        rest = float((value - arb(factor)).mid()) if self.form.paired else 0.0
                        return HARMLESS, Growth(factor, power, 2.0**e, rest)
                    return self._add(constant_cell(value, self.form)), None
        return None

    def _far_bounds(self, expression: sympy.Expr, side: int, e: int) -> Bounds | None:
        """From 2ᵉ on: the first octaves one by one, so that what grows in one of them stays comparable."""
        exponents = [*range(e, max(e, WITHIN) + 1), self.form.exponents[1] + 1]
        total: Bounds | None = None
        for near, far in reversed(list(pairwise(exponents))):
            ends = (arb(2) ** near, arb(2) ** far) if side > 0 else (-(arb(2) ** far), -(arb(2) ** near))
            try:
                found = bounds(expression, *ends)
            except (Unsupported, ValueError, ArithmeticError):
                return None
            total = found if total is None else hull(total, found)
            if not (total.low.is_finite() or total.high.is_finite()):
                return None
        return total

    # ------------------------------------------------------------------------------------------------------- one octave

    def _octave(self, side: int, e: int, limit: int) -> list[tuple[int, int]]:
        """(row, shift) of the segments of ±[2ᵉ, 2ᵉ⁺¹)."""
        width = Fraction(2) ** e / SEGMENTS

        def ends(i: int, j: int) -> tuple[Fraction, Fraction]:
            near, far = Fraction(2) ** e + i * width, Fraction(2) ** e + j * width
            return (near, far) if side > 0 else (-far, -near)

        def cover(i: int, j: int) -> list[tuple[int, int]]:
            low, high = self._clipped(*ends(i, j))
            if low >= high:
                return [(HARMLESS, WHOLE)] * (j - i)
            worth = len(self.cells) < limit and j - i <= max(2 * self.grain, 1)
            self.far = e >= NEAR
            cell = self._cell(low, high, zeros=j - i == 1) if worth else None
            if cell is not None:
                self.grain = j - i
                return [(self._add(cell) if any(cell.coefficients) else HARMLESS, WHOLE)] * (j - i)
            if worth:
                self.grain = max((j - i) // 2, 1)
            if j - i > 1:
                middle = (i + j) // 2
                return cover(i, middle) + cover(middle, j)
            return [self._uniform(side, *ends(i, j), limit)]

        return cover(0, SEGMENTS)

    def _uniform(self, side: int, low: Fraction, high: Fraction, limit: int) -> tuple[int, int]:
        """2ᵏ cells in a segment, k as small as it can be; (first row, shift)."""
        failed_before = 0
        for k in range(max(1, self.hint - 1), MOST_HALVINGS + 1):
            if len(self.cells) + (1 << k) > limit:
                break
            found, failed = self._equal_cells(low, high, k)
            lasting = k >= LASTING and 0 < failed <= MOST_SINGULAR and failed >= failed_before > 0
            if failed and not lasting:
                failed_before = failed
                continue
            self.hint = k
            start = len(self.cells)
            for cell, ends in found if side > 0 else reversed(found):
                self._add(cell or self.cells[self._lost(*ends)])
            return start, WHOLE - k
        return self._lost(low, high), WHOLE

    def _equal_cells(
        self, low: Fraction, high: Fraction, k: int
    ) -> tuple[list[tuple[Cell | None, tuple[Fraction, Fraction]]], int]:
        """The cells of 2ᵏ equal parts, None where there is none, and how many those are (of many: at least)."""
        parts, width = 1 << k, (high - low) / (1 << k)
        found: dict[int, Cell | None] = {}
        failed = 0
        for i in (0, parts - 1, *range(1, parts - 1)):
            ends = self._clipped(low + i * width, low + (i + 1) * width)
            found[i] = self.cells[HARMLESS] if ends[0] >= ends[1] else self._cell(*ends, zeros=True)
            failed += found[i] is None
            if failed > MOST_SINGULAR:
                break
        return [(found.get(i), (low + i * width, low + (i + 1) * width)) for i in range(parts)], failed

    def _cell(self, low: Fraction, high: Fraction, *, zeros: bool) -> Cell | None:
        cell = fit_cell(self._formula(low), self.form, middle_of(low, high), low, high)
        if cell is not None or not zeros:
            return cell
        for centre in self._zeros_near(low, high):
            cell = fit_cell(self.expression, self.form, centre, low, high)
            if cell is not None:
                return cell
        return None

    def _formula(self, low: Fraction) -> sympy.Expr:
        """Far out in a form for that side."""
        return rearranged_once(self.expression, 1 if low > 0 else -1) if self.far else self.expression

    def _zeros_near(self, low: Fraction, high: Fraction) -> list[Centre]:
        """Zeros in the cell or not further from it than it is wide, the nearest first."""
        middle, reach = (low + high) / 2, Fraction(3, 2) * (high - low)
        segment = _segment_of(middle)
        known = self.zeros.get(segment)
        if known is None:
            known = self.zeros[segment] = find_zeros(self.expression, *segment)
        near = [(abs(Fraction(c.high) - middle), c) for c in known]
        return [c for distance, c in sorted(near, key=lambda pair: pair[0]) if distance <= reach]


def _as_float(value: Fraction) -> float:
    return float(value) if abs(value) < 2**1023 else math.copysign(math.inf, 1 if value > 0 else -1)


def _segment_of(point: Fraction) -> tuple[Fraction, Fraction]:
    """The segment around a point, and as much again on either side."""
    exponent = math.frexp(float(abs(point)))[1] - 1
    width = Fraction(2) ** exponent / SEGMENTS
    start = (abs(point) // width) * width
    low, high = start - width, start + 2 * width
    return (low, high) if point > 0 else (-high, -low)


def _joined(parts: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Neighbouring intervals as one."""
    last: tuple[float, float] | None = None
    for low, high in sorted(parts):
        if last is not None and low <= last[1]:
            last = (last[0], max(last[1], high))
            continue
        if last is not None:
            yield last
        last = (low, high)
    if last is not None:
        yield last


@lru_cache(maxsize=256)
def rearranged_once(expression: sympy.Expr, side: int) -> sympy.Expr:
    """:func:`.far_bounds.rearranged`, kept."""
    return rearranged(expression, side)


class _Sized:
    """Orders balls of radius 0, infinite ones included."""

    def __init__(self, value: arb) -> None:
        self.value = value

    def __lt__(self, other: _Sized) -> bool:
        return bool(self.value < other.value)


def _end_of(end: Fraction | None, infinite: float) -> float:
    return infinite if end is None else float(end)


@lru_cache(maxsize=64)
def tabulate(expression: sympy.Expr, left: sympy.Expr, right: sympy.Expr, wanted: int) -> Table:
    """The table of a smooth formula in x between two borders for results of ``wanted`` bits (53 or 24).

    >>> table = tabulate(sympy.exp(-sympy.exp(-x)), -sympy.oo, sympy.oo, 24)
    >>> table.missing, table.error_bits < -42
    ((), True)
    """
    ends = [None if end in (sympy.oo, -sympy.oo) else nearest_float(end) for end in (left, right)]
    table = _Builder(expression, FORMS[wanted], ends[0], ends[1]).table()
    return replace(table, low=_end_of(ends[0], -math.inf), high=_end_of(ends[1], math.inf))
