"""A table of cells as steps of a program: the cell of x, its numbers, (x − c)ᵐ·P, and what to do at the ends.

With pairs (float64 results): c₀ and c₁ are held to twice the digits, so that everything but the last sum is rounded in
terms that are small beside it; a product by (x − c)ᵐ is that of two pairs. float32 results are computed in float64,
where nothing of this is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import sympy

from . import compensated
from .arithmetic import Arithmetic
from .lowering import Builder
from .tabulation import Table


def lower_table(b: Builder, table: Table, x: int, arithmetic: Arithmetic, otherwise: Callable[[], int]) -> int:
    """The place of the function that the table holds; ``otherwise()`` gives it where no cell does."""
    steps = _Steps(b, table, x, arithmetic)
    value = steps.with_growth(steps.value())
    if not table.missing:
        return value
    held = b.op("le", b.constant(0), steps.entry("multiplicity"))
    return b.op("select", held, value, otherwise())


class _Steps:
    def __init__(self, b: Builder, table: Table, x: int, arithmetic: Arithmetic) -> None:
        self.b, self.table, self.x, self.arithmetic = b, table, x, arithmetic
        self.cell = b.op("cell", x, leaf=table)
        self.last = b.constant(_largest(table))

    def entry(self, column: str) -> int:
        return self.b.op("entry", self.cell, leaf=(self.table, column))

    def value(self) -> int:
        """2^scale·dᵐ·P(t)."""
        b, has = self.b, self.table.has
        held = b.op("at_most", b.op("at_least", self.x, b.op("neg", self.last)), self.last)
        distance = b.op("sub", held, self.entry("centre"))
        if has["unit"]:
            distance = b.op("mul", distance, self.entry("unit"))
        d = b.op("sub", distance, self.entry("rest")) if has["zeros"] else distance
        total = self._paired(d) if self.table.form.paired else compensated.Pair(self._horner(d, 0), None)
        if has["zeros"]:
            total = self._with_zeros(total, distance, d)
        value = total.hi if total.lo is None else b.op("add", total.hi, total.lo)
        return b.op("mul", value, self.entry("scale")) if has["scale"] else value

    def _horner(self, t: int, start: int) -> int:
        """Σ cₖ·tᵏ⁻ˢ over k ≥ s."""
        b, degree = self.b, self.table.form.degree
        total = self.entry(f"c{degree}")
        for k in range(degree - 1, start - 1, -1):
            total = b.op("add", b.op("mul", total, t), self.entry(f"c{k}"))
        return total

    def _paired(self, t: int) -> compensated.Pair:
        """c₀ + t·(c₁ + t·Q), c₀ and c₁ pairs."""
        b = self.b
        inner = b.op("add", b.op("mul", self._horner(t, 2), t), self.entry("c1_rest"))
        linear = compensated.product(b, compensated.Pair(self.entry("c1"), inner), t, self.arithmetic)
        return self._leading(self.entry("c0"), self.entry("c0_rest"), linear)

    def _leading(self, high: int, rest: int, other: compensated.Pair) -> compensated.Pair:
        """(high + rest) + other, where high is the largest of all (Dekker's sum)."""
        b = self.b
        total = b.op("add", high, other.hi)
        error = b.op("sub", other.hi, b.op("sub", total, high))
        assert other.lo is not None
        return compensated.Pair(total, b.op("add", error, b.op("add", rest, other.lo)))

    def _with_zeros(self, total: compensated.Pair, distance: int, d: int) -> compensated.Pair:
        """Times d as often as the cell has its zero; d = distance − rest as a pair."""
        b, multiplicity = self.b, self.entry("multiplicity")
        lost = b.op("sub", b.op("sub", distance, d), self.entry("rest"))
        for m in range(1, max(cell.multiplicity for cell in self.table.cells) + 1):
            counts = b.op("le", b.constant(m), multiplicity)
            factor = b.op("select", counts, d, b.constant(1))
            if total.lo is None:
                total = compensated.Pair(b.op("mul", total.hi, factor), None)
                continue
            rest = b.op("select", counts, lost, b.constant(0))
            hi = b.op("add", total.hi, total.lo)
            lo = b.op("sub", total.lo, b.op("sub", hi, total.hi))
            product = compensated.product(b, compensated.Pair(hi, lo), factor, self.arithmetic)
            assert product.lo is not None
            total = compensated.Pair(product.hi, b.op("add", product.lo, b.op("mul", hi, rest)))
        return total

    def with_growth(self, value: int) -> int:
        """c·xᵐ where that is all that is left; a negative power by division, which overflows nowhere."""
        b = self.b
        for side, growth in zip((-1, 1), self.table.growth, strict=True):
            if growth is None:
                continue
            start = b.constant(_rational(growth.start) * side)
            end = self._powered(growth.factor, growth.power)
            if growth.rest:
                end = b.op("add", end, self._powered(growth.rest, growth.power))
            beyond = b.op("le", start, self.x) if side > 0 else b.op("le", self.x, start)
            value = b.op("select", beyond, end, value)
        return value

    def _powered(self, factor: float, power: int) -> int:
        """factor·xᵐ."""
        b, place = self.b, self.b.constant(_rational(factor))
        for _ in range(abs(power)):
            place = b.op("mul", self.x, place) if power > 0 else b.op("div", place, self.x)
        return place


def _rational(value: float) -> sympy.Rational:
    exact = Fraction(value)
    return sympy.Rational(exact.numerator, exact.denominator)


def _largest(table: Table) -> sympy.Integer:
    """What x is held at: ∞ − ∞ would be none, and halves of larger float64 overflow where pairs are multiplied."""
    if not table.form.paired:
        return (sympy.Integer(2) ** 24 - 1) * sympy.Integer(2) ** 104
    if any(abs(cell.centre) > 2.0**900 for cell in table.cells):
        return (sympy.Integer(2) ** 53 - 1) * sympy.Integer(2) ** 971
    return sympy.Integer(2) ** 980
