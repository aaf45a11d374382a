"""dy·f′(x) rounded once whatever the factors: every row against balls, programs against formulas, special values."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from backproof.numerics import kernel
from backproof.numerics.accuracy import product_bound
from backproof.numerics.elementary import exponent_of, inverse_power, power_below, raised
from backproof.numerics.product_accuracy import measure_vjp
from backproof.numerics.vjp import vjp_program
from backproof.theory import scaled_products
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.arithmetic import DOUBLE, paired
from backproof.theory.stability import stable_program
from backproof.theory.symbols import x


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_is_rounded_once(name, dtype):
    found = measure_vjp(ACTIVATIONS[name], dtype, size=100)
    assert found.worst_ulp <= product_bound(name, dtype), str(found)
    assert found.undecided == 0
    assert found.points > 900


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_is_rounded_once_at_many_points(name, dtype):
    for seed in range(1, 4):
        found = measure_vjp(ACTIVATIONS[name], dtype, size=4_000, seed=seed)
        assert found.worst_ulp <= product_bound(name, dtype), str(found)
        assert found.undecided == 0


def test_a_derivative_that_is_no_number_by_itself():
    for name, point, dy, expected in (
        ("sigmoid", -900.0, 1e300, 1e300 * np.exp(-450.0) * np.exp(-450.0)),
        ("sigmoid", 1_400.0, 1.7e308, 1.7e308 * np.exp(-700.0) * np.exp(-700.0)),
        ("squared_relu", 1.5e308, 1e-300, 3e8),
        ("softsign", 1e200, 1e300, 1e-100),
        ("exp(x)", 800.0, 1e-300, 1e-300 * np.exp(400.0) * np.exp(400.0)),
    ):
        (found,) = kernel(name).vjp(np.array([point]), np.array([dy]))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["silu", "gelu", "hard_swish", "relu", "squared_relu", "softsign", "cos"])
def test_zero_infinity_and_nan(name):
    k, inf, nan = kernel(name), np.inf, np.nan
    dy = np.array([0.0, -0.0, inf, -inf, nan])
    slope = float(k.derivative(np.array(0.25)))
    np.testing.assert_array_equal(k.vjp(np.full(5, 0.25), dy), dy * slope)
    assert np.isnan(k.vjp(np.full(5, nan), dy)).all()
    for end in (inf, -inf):
        limit = float(k.derivative(np.array(end)))
        np.testing.assert_array_equal(k.vjp(np.array([end, end]), np.array([1.5, nan])), [1.5 * limit, nan])


def test_powers_of_two():
    values = [1.0, -3.7, 5e-324, -2.3e-308, 1e308, 1.7e308, 0.0, 2.0**-1022, 2.0**1023]
    for value in values:
        power = power_below(value)
        assert inverse_power(power) * power == 1
        assert 2.0 ** exponent_of(power) == power
        assert raised(value * inverse_power(power), exponent_of(power)) == value
        assert abs(value * inverse_power(power)) < 4
    assert raised(1.5, -1075.0) == 5e-324
    assert raised(1.0, -3000.0) == 0
    assert raised(1.0, 3000.0) == np.inf
    assert np.isnan(raised(np.inf, -3000.0))


def test_a_wrong_product_is_noticed(monkeypatch):
    right = scaled_products._Products._product_of
    monkeypatch.setattr(scaled_products._Products, "_product_of", lambda self, places: right(self, [places[0]]))
    found = stable_program({"value": x / (1 + sympy.exp(-x))}, paired(DOUBLE), factors={"value": ("a", "dy")})
    assert "differs from its formula" in found.as_written["value"]


def test_inputs_are_in_the_order_of_their_names():
    assert vjp_program(ACTIVATIONS["gelu"], "float64").inputs == ("x", "dy")
    program = stable_program(
        {"value": sympy.tanh(x), "slope": sympy.tanh(x).diff()},
        paired(DOUBLE),
        factors={"value": ("a",), "slope": ("dy", "a")},
    ).program
    assert program.inputs == ("x", "a", "dy")


@pytest.mark.parametrize("formula", ["x**3/(1+x**2)", "log(1+exp(2*x))/2", "sqrt(1+x**2)", "tanh(x/3)", "exp(x/3)"])
def test_formulas_nobody_has_seen(formula):
    found = measure_vjp(activation(formula), size=150)
    assert found.worst_ulp <= 1, str(found)
