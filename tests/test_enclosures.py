"""Balls must contain the exact value, whatever the point and the precision."""

import flint
import mpmath
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.enclosures import ball_function, enclose, exact_value, taylor
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.symbols import x

HEADS = [
    sympy.exp(x), sympy.log(1 + x**2), sympy.tanh(x), sympy.sinh(x), sympy.cosh(x), sympy.sin(x), sympy.cos(x),
    sympy.tan(x / 3), sympy.atan(x), sympy.asin(sympy.tanh(x)), sympy.acos(sympy.tanh(x)), sympy.erf(x), sympy.erfc(x),
    sympy.sqrt(1 + x**2), (1 + x**2) ** sympy.Rational(-1, 3), sympy.Abs(x), sympy.Max(x, 1), sympy.Min(x, 1),
    1 / (2 + sympy.sin(x)), sympy.sech(x), (2 + sympy.sin(x)) ** sympy.sqrt(2), sympy.pi * x + sympy.E,
]  # fmt: skip


@pytest.mark.parametrize("expression", HEADS, ids=str)
@given(point=st.floats(-3, 3))
def test_contains_the_value_that_another_library_computes(expression, point):
    with mpmath.workdps(40):
        other = mpmath.mpf(sympy.lambdify(x, expression, "mpmath")(mpmath.mpf(point)))
        ball = enclose(expression, {x: point}, digits=25)
        difference = abs(mpmath.mpf(ball.str(35, radius=False)) - other)
        assert difference <= mpmath.mpf(10) ** -24 * (1 + abs(other))


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda r: r.name)
@given(centre=st.floats(-5, 5), radius=st.floats(0, 2), inside=st.floats(-1, 1))
def test_wide_balls_contain_the_values_at_their_points(row, centre, radius, inside):
    f = ball_function(row.expr)
    with flint.ctx.workprec(80):
        wide = f(arb(centre, radius))
        point = exact_value(centre) + exact_value(radius) * exact_value(inside)
        assert wide.is_nan() or wide.overlaps(f(point))


def test_straddling_a_border_gives_the_union():
    step = ball_function(ACTIVATIONS["step"].expr)(arb(0, 1))
    assert step.contains(0)
    assert step.contains(1)


def test_even_powers_are_not_negative():
    rounding = arb(2) ** -20  # a ball's radius is rounded up to 30 bits
    assert ball_function(x**2)(arb(0, 1)) > -rounding
    assert ball_function(1 / (1 + x**2))(arb(0, 5)) < 1 + rounding


def test_precision_is_raised_until_the_digits_are_there():
    hard = sympy.exp(sympy.Rational(1, 10**30)) - 1 - sympy.Rational(1, 10**30)
    assert enclose(hard, digits=20).rel_accuracy_bits() > 60


def test_an_exact_zero_is_a_ball_around_zero():
    assert enclose(sympy.sin(1) ** 2 + sympy.cos(1) ** 2 - 1).contains(0)


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda r: r.name)
@given(point=st.floats(-6, 6))
def test_series_agree_with_symbolic_derivatives(row, point):
    """Two independent routes to f′ and f″: Taylor arithmetic in balls, and SymPy's differentiation."""
    with flint.ctx.workprec(200):
        centre = exact_value(point)
        coefficients = taylor(row.expr, centre, 2)
        if coefficients is None:  # on a border
            assert any(enclose(b - sympy.Rational(*point.as_integer_ratio())).contains(0) for b in row.borders)
            return
        for n in (0, 1, 2):
            assert coefficients[n].overlaps(ball_function(row.derivative(n))(centre) / sympy.factorial(n).p)


def test_series_refuse_a_border():
    assert taylor(ACTIVATIONS["relu"].expr, arb(0, 1), 3) is None
    assert taylor(ACTIVATIONS["relu"].expr, arb(2), 2) == [arb(2), arb(1), arb(0)]


def test_unknown_heads_and_free_symbols_are_named():
    with pytest.raises(Unsupported, match="zeta"):
        ball_function(sympy.zeta(x))
    with pytest.raises(Unsupported, match="undefined function g"):
        ball_function(sympy.Function("g")(x))
    with pytest.raises(InputError, match="no value given for y"):
        ball_function(x + sympy.Symbol("y"))


INTEGRALS = [
    (sympy.exp(x), 0, 1, sympy.E - 1),
    (sympy.sqrt(x), 0, 1, sympy.Rational(2, 3)),
    (x ** sympy.Rational(-1, 3), 1, 8, sympy.Rational(9, 2)),
    (sympy.atan(3 * x), 0, 1, sympy.atan(3) - sympy.log(10) / 6),
    (sympy.asin(x), 0, 1, sympy.pi / 2 - 1),
    (sympy.acos(x), 0, 1, sympy.Integer(1)),
    (x ** sympy.sqrt(2), 1, 2, (2 ** (1 + sympy.sqrt(2)) - 1) / (1 + sympy.sqrt(2))),
    (sympy.log(x), 1, 3, 3 * sympy.log(3) - 2),
]


@pytest.mark.parametrize(("expression", "a", "b", "value"), INTEGRALS, ids=lambda v: str(v))
def test_complex_balls_integrate(expression, a, b, value):
    """Proven quadrature needs balls that know where a function stops being analytic."""
    f = ball_function(expression)
    with flint.ctx.workprec(100):
        integral = flint.acb.integral(lambda z, analytic: f(z, analytic=analytic), a, b).real
        assert integral.overlaps(enclose(value))
        assert integral.rad() < arb(10) ** -15


@pytest.mark.parametrize("function", [sympy.sqrt(x), sympy.log(x), sympy.asin(x + 2), x ** sympy.Rational(1, 3)])
def test_on_a_cut_nothing_analytic_is_claimed(function):
    across = flint.acb(arb(-2, "0.5"), arb(0, "0.5")) if function != sympy.asin(x + 2) else flint.acb(0)
    assert not ball_function(function)(across, analytic=True).is_finite()


def test_branches_are_refused_on_complex_balls():
    with pytest.raises(Unsupported, match="branches"):
        ball_function(ACTIVATIONS["relu"].expr)(flint.acb(1, 1))
