"""Every row: its derivatives against exact differentiation in balls, its kinks, and what a person may type."""

import flint
import numpy as np
import pytest
import sympy
from flint import arb

from backproof.theory.activations import _ROWS, ACTIVATIONS, activation, one_sided
from backproof.theory.enclosures import ball_function, enclose, exact_value, taylor
from backproof.theory.errors import InputError
from backproof.theory.symbols import x

ROWS = list(ACTIVATIONS.values())
TAILS = [s * 10.0**k for s in (1, -1) for k in range(-12, 4)]
GRID = [k / 16 + 1 / 97 for k in range(-160, 161)]


def name_of(row):
    return row.name


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_derivatives_against_exact_differentiation(row):
    """f′ and f″ as SymPy derives them, against Taylor arithmetic in balls, at hundreds of points, tails included."""
    derivatives = [ball_function(row.derivative(n)) for n in (1, 2)]
    with flint.ctx.workprec(4_000):  # tails: 1 − tanh² at 1000 needs 2,886 bits
        for point in map(exact_value, GRID + TAILS):
            coefficients = taylor(row.expr, point, 2)
            assert coefficients is not None
            for n, derivative in enumerate(derivatives, 1):
                exact, ours = coefficients[n] * n, derivative(point)  # n! = n for n ≤ 2
                assert exact.overlaps(ours), (row.name, n, point)
                assert (exact - ours).rad() < arb(10) ** -300


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_wrong_derivative_is_told_apart(row):
    point = arb(1) / 3
    coefficients = taylor(row.expr, point, 1)
    wrong = ball_function(row.derivative() + sympy.Rational(1, 10**12))(point)
    assert not coefficients[1].overlaps(wrong)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_kinks_are_where_something_jumps_and_carry_the_stated_value(row):
    # A parameter's default can smooth a kink away (ELU with α = 1), so a stated point need not be a kink.
    assert set(row.kinks) <= set(row.stated) <= set(row.borders), "a row states f′ at each of its kinks"
    for kink in row.at_kinks:
        assert row.derivative().subs(x, kink.position) == row.stated[kink.position] == kink.derivative
        jump_in_value = enclose(kink.left_value - kink.right_value)
        jump_in_slope = enclose(kink.left_derivative - kink.right_derivative)
        assert not (jump_in_value.contains(0) and jump_in_slope.contains(0))


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_is_complete(row):
    assert row.title
    assert row.citation
    assert row.formula.free_symbols <= {x, *row.parameters}
    assert not row.expr.atoms(sympy.Float), "rows are exact"


def test_names_and_aliases_are_unique():
    names = [n for row in _ROWS for n in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


def test_selu_constants_solve_the_fixed_point_equations():
    from sympy import Rational

    alpha, scale = activation("selu").parameters.values()
    assert enclose(alpha - Rational("1.6732632423543772848170429916717"), digits=5).abs_upper() < arb(10) ** -28
    assert enclose(scale - Rational("1.0507009873554804934193349852946"), digits=5).abs_upper() < arb(10) ** -28


def test_a_stated_value_that_no_branch_owns_is_kept():
    from dataclasses import replace

    half = replace(ACTIVATIONS["relu"], kink_derivatives={0: sympy.Rational(1, 2)})
    assert half.derivative().subs(x, 0) == sympy.Rational(1, 2)
    assert half.derivative().subs(x, 1) == 1
    assert half.derivative(2) == 0


def test_specifications():
    assert activation("swish") is ACTIVATIONS["swish"]
    assert activation("logistic") is ACTIVATIONS["sigmoid"]
    assert activation("Hard-Tanh") is ACTIVATIONS["hard_tanh"]
    assert activation("elu(alpha=0.5)") == activation("elu", alpha=0.5) == activation("elu", alpha="1/2")
    assert activation("elu(alpha=0.5)").name == "elu(alpha=1/2)"
    assert (
        activation("elu", alpha=np.float32(0.1))
        == activation("elu", alpha=np.float64(0.1))
        == activation("elu(alpha=0.1)")
    )
    assert activation(sympy.Abs(sympy.Symbol("x"))).derivative().subs(x, 0) == 0
    assert activation(activation("gelu")) is activation("gelu")
    assert activation("x").expr == x


@pytest.mark.parametrize(
    ("spec", "parameters", "message"),
    [
        ("rleu", {}, "did you mean 'relu'"),
        ("elu(alpha=-1)", {}, "must be positive"),
        ("elu(alpha=x)", {}, "unknown name 'x'"),
        ("elu", {"beta": 1}, "its parameters are alpha"),
        ("relu", {"beta": 1}, "it has none"),
        ("elu", {"alpha": float("nan")}, "alpha must be a real number, not nan"),
        ("elu", {"alpha": float("inf")}, "inf"),
        ("3", {}, "does not depend on x"),
        (sympy.Symbol("y") + 1, {}, "in x alone"),
        (sympy.zeta(x), {}, "no enclosure"),
        (7, {}, "not int"),
    ],
)
def test_wrong_specifications(spec, parameters, message):
    with pytest.raises(InputError, match=message):
        activation(spec, **parameters)


def test_order_of_a_derivative():
    with pytest.raises(InputError, match="order"):
        activation("relu").derivative(-1)
    assert activation("sin").derivative(4) == sympy.sin(x)


def test_one_sided_limits():
    formula = activation("where(x > 1, x**2, -1)").expr
    assert one_sided(formula, sympy.Integer(1), 1) == 1
    assert one_sided(formula, sympy.Integer(1), -1) == -1
    assert activation("abs(x**2 - 4)").kinks == (-2, 2)
    assert activation("abs(x)**3").kinks == ()
