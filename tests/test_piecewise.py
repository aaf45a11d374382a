"""Piecewise polynomials: what is proven of a cell holds, tables find their cells, kernels made of them are right."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backproof.demos.cli import run
from backproof.numerics import acceptance, kernel
from backproof.numerics.acceptance import errors_with_table, goal
from backproof.numerics.accuracy import exact_function, measure_accuracy, undefined_at
from backproof.numerics.elementary import cell_of
from backproof.numerics.explaining import explain
from backproof.numerics.kernels import activation_program, arithmetic_of
from backproof.theory.activations import activation
from backproof.theory.arithmetic import ARITHMETICS, fused
from backproof.theory.cells import PAIRED, PLAIN, fit_cell, middle_of
from backproof.theory.enclosures import ball_function, enclose, exact_value, taylor
from backproof.theory.errors import Unsupported
from backproof.theory.far_bounds import bounds
from backproof.theory.local_zeros import find_zeros
from backproof.theory.lowering import Builder
from backproof.theory.parsing import parse_formula
from backproof.theory.removable import expand_at_zero, limit_at
from backproof.theory.stability import stable_program
from backproof.theory.symbols import x
from backproof.theory.table_lowering import lower_table
from backproof.theory.tabulation import SEGMENT_BITS, tabulate

#: formula, order, dtype: no correct digits, or NaN, as written; at most the goal from a table.
REPLACED = (
    ("exp(-exp(-x))", 1, "float32"),
    ("1-exp(-exp(x))", 0, "float64"),
    ("exp(tanh(x))", 1, "float32"),
    ("(exp(x)-1)/x", 0, "float32"),
    ("where(x*x < 4, (1-cos(x))/x**2, 0)", 0, "float64"),
    ("where(x*x < 4, log(1+x**2)/x, x)", 1, "float64"),
)


@pytest.mark.parametrize(("formula", "order", "dtype"), REPLACED)
def test_kernel_from_a_table_meets_the_goal_where_the_formula_loses_everything(formula, order, dtype):
    row = activation(formula)
    without, tabulated = errors_with_table(row, order, dtype)
    assert without > 1_000
    assert tabulated <= goal(dtype, order)
    measured = measure_accuracy(kernel(row, dtype), n_derivative=order, size=600, seed=3)
    assert measured.worst_ulp <= min(goal(dtype, order), 1.0)
    assert not measured.failures
    assert not measured.undecided


def test_exact_zeros_and_both_zeros_at_a_border_of_pieces():
    k = kernel("where(x > 0, exp(x)-exp(-x*x*x), (x+1)*(exp(exp(x))-1))", "float64", "numpy")
    assert k(np.array([-1.0])).tolist() == [0.0]
    expected = math.exp(1.0) - 1.0
    np.testing.assert_allclose(k(np.array([0.0, -0.0])), expected, rtol=1e-15)


def test_formula_that_meets_its_goal_has_no_table():
    program = activation_program(activation("x*tanh(log(1+exp(x)))"), (0, 1), "float32", "cpu")
    assert not program.tables


def test_output_beside_one_from_a_table_is_judged_without_pairs(monkeypatch):
    def is_better(row, order, dtype, arithmetic=None):
        return order == 1 or not arithmetic.paired  # as of 1 - exp(-exp(x)): the value alone needs no table

    monkeypatch.setattr(acceptance, "table_is_better", is_better)
    row, arithmetic = activation("where(x > 1, where(x < 2, exp(-exp(x)), 0), 0)"), arithmetic_of("float64", "cpu")
    alone = acceptance.accepted(row, (0,), "float64", arithmetic, tables=True)
    both = acceptance.accepted(row, (0, 1), "float64", arithmetic, tables=True)
    assert not alone.tables
    assert both.tables.keys() == {"value", "derivative"}


def test_growth_by_a_factor_that_is_no_float():
    e = parse_formula("x*log(2-exp(-exp(x)))")  # x·log 2 far out
    table = tabulate(e, sympy.Integer(1), sympy.oo, 53)
    assert table.growth[1].rest != 0
    b = Builder(["x"])
    place = lower_table(b, table, b.input("x"), ARITHMETICS["float64"], lambda: b.constant(0))
    with flint.ctx.workprec(300):
        ratio = b.finish({"value": place}).enclose(arb(1000))["value"] / ball_function(e)(arb(1000))
        assert abs(ratio - 1) < arb(2) ** -58


def test_row_of_the_table_of_activations_has_no_table_of_polynomials():
    assert not activation_program(activation("gelu"), (0, 1, 2), "float64", "cpu").tables


def test_typed_formula_that_begins_like_a_row_is_none():
    assert activation("sin(x)/x").is_typed
    assert not activation("elu(alpha=2)").is_typed


# ---- cells

CELLS = (
    ("exp(-exp(-x))", 0, Fraction(1), Fraction(5, 4)),
    ("exp(tanh(x))", 1, Fraction(-81, 8), Fraction(-10)),
    ("x*erf(log(1+exp(x)))", 2, Fraction(3, 2), Fraction(25, 16)),
    ("sin(x)/x", 1, Fraction(2), Fraction(33, 16)),
    ("atan(exp(x))", 0, Fraction(-5), Fraction(-39, 8)),
)


def _value(cell, point: Fraction) -> Fraction:
    """The cell's polynomial in exact arithmetic."""
    t = (point - Fraction(cell.centre)) * Fraction(cell.unit) - Fraction(cell.rest)
    return sum((Fraction(c) * t**k for k, c in enumerate(cell.coefficients)), Fraction(0)) * t**cell.multiplicity


@pytest.mark.parametrize(("formula", "order", "low", "high"), CELLS)
def test_proven_error_of_a_cell_holds_at_every_point_tried(formula, order, low, high):
    expression = activation(formula).derivative(order)
    cell = fit_cell(expression, PLAIN, middle_of(low, high), low, high)
    assert cell is not None
    assert cell.error_bits < -PLAIN.bits
    function = ball_function(expression)
    with flint.ctx.workprec(300):
        for k in range(41):
            point = low + (high - low) * Fraction(k, 40)
            exact = function(exact_value(point))
            assert abs(exact_value(_value(cell, point)) - exact) < abs(exact) * arb(2) ** cell.error_bits


def test_too_wide_a_cell_is_refused():
    low, high = Fraction(0), Fraction(8)
    assert fit_cell(sympy.exp(x), PLAIN, middle_of(low, high), low, high) is None
    assert fit_cell(sympy.log(1 + x), PAIRED, middle_of(Fraction(-2), Fraction(0)), Fraction(-2), Fraction(0)) is None


# --------------------------------------------------------------------------------------------------------------- 0 by 0

#: formula -> (multiplicity of its zero at 0, first coefficient)
REMOVABLE = {
    "sin(x)/x": (0, "1"),
    "(1-cos(x))/x**2": (0, "1/2"),
    "(exp(x)-1)/x": (0, "1"),
    "log(1+x)/x": (0, "1"),
    "1/x - 1/tanh(x)": (1, "-1/3"),
    "(x-tanh(x))/x**3": (0, "1/3"),
    "x**3*exp(x)": (3, "1"),
    "x/(exp(x)-1)": (0, "1"),
    "1/sin(x) - 1/x": (1, "1/6"),
}


@pytest.mark.parametrize("formula", REMOVABLE)
def test_expansion_at_a_removable_singularity(formula):
    multiplicity, first = REMOVABLE[formula]
    expression = activation(formula).expr
    with flint.ctx.workprec(200):
        m, at, over = expand_at_zero(expression, arb(0, 0.01), 6)
        assert m == multiplicity
        assert at[0].overlaps(exact_value(first))
        assert all(wide.contains(c) for wide, c in zip(over, at, strict=True))
        # away from 0 nothing is divided by 0: the coefficients of x⁻ᵐ·f at 2⁻⁸ are among those over the ball
        beside = taylor(expression / x**m, exact_value(Fraction(1, 256)), 6)
        assert beside is not None
        assert all(wide.overlaps(c) for wide, c in zip(over, beside, strict=True))


@pytest.mark.parametrize("formula", ["1/x", "sqrt(x)", "log(x)", "exp(1/x)", "sqrt(x)*sin(x)", "1/(1-cos(x))"])
def test_what_is_not_removable_has_no_expansion(formula):
    assert expand_at_zero(activation(formula).expr, arb(0, 0.01), 4) is None


def test_limit_at_another_point():
    assert limit_at(activation("log(x)/(x-1)").expr, sympy.Integer(1), 80).contains(1)
    assert limit_at(activation("sin(x)/(x-pi)").expr, sympy.pi, 80).contains(-1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernel_gives_the_limit_at_the_point_itself(dtype):
    k = kernel("where(x*x < 4, (1-cos(x))/x**2, 0)", dtype)
    near = np.array([0.0, -0.0, 1e-30, -1e-9], dtype)
    assert k(near).tolist() == [0.5] * 4
    assert math.isnan(k(np.array([np.nan], dtype))[0])


# -------------------------------------------------------------------------------------------------------------- far out

FAR = ("exp(-exp(-x))", "1-exp(-exp(x))", "x*erf(log(1+exp(x)))", "tanh(exp(x)-1)*x", "atan(exp(x))", "x*exp(-x**2)")


@settings(max_examples=40, deadline=None)
@given(
    formula=st.sampled_from(FAR),
    order=st.integers(0, 1),
    side=st.sampled_from([1, -1]),
    exponent=st.integers(1, 40),
    within=st.fractions(0, 1),
)
def test_bounds_hold_what_lies_between(formula, order, side, exponent, within):
    expression = activation(formula).derivative(order)
    point = side * (Fraction(2) ** exponent * (1 + within))
    ends = sorted((side * Fraction(2) ** exponent, side * Fraction(2) ** 1024))
    with flint.ctx.workprec(2_600):
        found = bounds(expression, *map(exact_value, ends))
        value = ball_function(expression)(exact_value(point))
    assume(value.is_finite())
    assert not value > found.high
    assert not value < found.low


#: formula, interval, (float, multiplicity) of the zeros and removable singularities in it
ZEROS = (
    ("sin(x)", 3, 4, [(math.pi, 1)]),
    ("1-cos(x)", 6, 7, [(2 * math.pi, 2)]),
    ("x*sin(x-1)", Fraction(1, 2), 2, [(1.0, 1)]),
    ("log(x)/(x-1)", Fraction(3, 4), Fraction(5, 4), [(1.0, 0)]),
    ("exp(x)", 1, 2, []),
)


@pytest.mark.parametrize(("formula", "low", "high", "expected"), ZEROS)
def test_zeros(formula, low, high, expected):
    found = find_zeros(activation(formula).expr, Fraction(low), Fraction(high))
    assert [(c.high, c.multiplicity) for c in found] == expected


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def table():
    return tabulate(activation("(exp(x)-1)/x").expr, -sympy.oo, sympy.oo, 24)


@settings(max_examples=200, deadline=None)
@given(value=st.floats(width=32, allow_nan=False))
def test_every_float_finds_its_cell(table, value):
    row = table.row_of(value)
    starts, shifts = (np.array(n, dtype=np.int64) for n in (table.starts, table.shifts))
    assert cell_of(value, starts, shifts, (table.first + 1023) << SEGMENT_BITS) == row
    cell = table.cells[row]
    assert cell.multiplicity >= 0
    if row == table.row_of(0.0):
        assert abs(value) <= 2.0**table.first
    elif any(cell.coefficients[1:]):  # no constant: its centre is near
        assert abs(value - cell.centre) <= max(abs(value), 1.0) / 8


@settings(max_examples=100, deadline=None)
@given(value=st.floats(-80, 80, width=32))
def test_table_is_the_function_to_its_proven_error(table, value):
    assume(value != 0)
    with flint.ctx.workprec(400):
        exact = ball_function(activation("(exp(x)-1)/x").expr)(arb(value))
        program = stable_program(
            {"value": activation("(exp(x)-1)/x").expr}, ARITHMETICS["float32"], tabulated=frozenset(("value",))
        ).program
        computed = program.enclose(arb(value))["value"]
        assert abs(computed - exact) < abs(exact) * arb(2) ** (table.error_bits + 1)


def test_what_a_table_does_not_hold_is_computed_as_without_it():
    formula = "where(x > 0, sqrt(x)*sin(x), 0)"
    without = stable_program({"value": activation(formula).expr}, fused(ARITHMETICS["float32"])).program
    found = stable_program(
        {"value": activation(formula).expr}, fused(ARITHMETICS["float32"]), tabulated=frozenset(("value",))
    )
    (held,) = found.tables["value"]
    point = 1e6
    assert not held.holds(point)
    with flint.ctx.workprec(200):
        assert found.program.enclose(arb(point))["value"].overlaps(without.enclose(arb(point))["value"])


def test_backward_pass_in_one_uses_the_table_too():
    k = kernel("where(x*x < 4, (1-cos(x))/x**2, 0)", "float64")
    points = np.array([1e-9, -3e-5, 0.0, 1.5, 3.0])
    np.testing.assert_allclose(k.vjp(points, np.full(5, 2.0)), 2 * k.derivative(points), rtol=3e-16)


def test_explanation_names_the_table():
    lines = explain(activation("where(x*x < 4, (1-cos(x))/x**2, 0)"), 0, "float64", size=100).stable
    assert any("cells of degree 11" in line and "proven" in line for line in lines)


def test_other_targets_print_the_formula_without_tables(capsys):
    assert run(["emit", "where(x*x < 4, (1-cos(x))/x**2, 0)", "--target", "torch"]) == 0
    assert "CELLS" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ formulas nobody
# has seen: random compositions of the parser's functions

_LEAVES = st.sampled_from(["x", "x/2", "(x+1)", "(2*x-1)"])
_INNER = st.sampled_from(["exp", "tanh", "sin", "cos", "atan", "erf", "sigmoid", "softplus"])
_FORMULAS = st.recursive(
    _LEAVES,
    lambda part: st.one_of(
        st.builds("{}({})".format, _INNER, part), st.builds("({}*{})".format, part, part),
        st.builds("({}-{})".format, part, part),
    ),
    max_leaves=4,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(formula=_FORMULAS, order=st.integers(0, 1))
def test_random_composition_is_within_its_goal_or_says_why_not(formula, order):
    assume(parse_formula(formula).has(x))  # (x-x) is no activation
    row = activation(formula)
    expression = row.derivative(order)
    assume(expression.has(x) and enclose(expression, {x: 1}).is_finite())
    try:
        measured = measure_accuracy(kernel(row, "float32"), n_derivative=order, size=300)
    except Unsupported:  # naming the part that no target computes
        return
    if measured.worst_ulp > goal("float32", order):
        point = measured.worst_input
        lines = explain(row, order, "float32", size=60).stable
        said = any("no cell from" in line or "as written" in line for line in lines)
        assert said or undefined_at(expression, point), (formula, order, point, lines)
    assert exact_function(row, order)(1.0)().is_finite()
