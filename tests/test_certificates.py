"""Float networks, sampled errors and certificates: each claim against exact values, and wrong networks caught."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import flint
import numpy as np
import pytest

from backproof.numerics.approximation import FloatNetwork, sample, sample_points, true_values
from backproof.numerics.certificates import certify
from backproof.theory.approximation import approximate
from backproof.theory.enclosures import ball_function, exact_value
from backproof.theory.errors import InputError
from backproof.theory.supremum import PRECISION, bottom, top
from backproof.theory.target import target

CASES = [
    ("sin(2*pi*x)", "0,1", "relu"),
    ("abs(x**2 - 1/2)", "-1,1", "relu"),
    ("exp(x)", "0,1/3", "hard_tanh"),
    ("abs(x)", "-1,2", "leaky_relu"),
    ("sin(2*pi*x)", "0,1", "sigmoid"),
    ("exp(-x**2)*cos(3*x)", "-1,1", "tanh"),
    ("abs(x - 1/3)", "0,1", "erf"),
    ("sin(2*pi*x)", "0,1", "step"),
    ("cos(3*x)", "0,1", "softsign"),
    ("7/3", "0,1", "sigmoid"),
    ("sin(2*pi*x)", "0,1", "softplus"),
    ("abs(x)", "-1,2", "gelu"),
    ("exp(x)", "0,1", "elu"),
]


def exact_errors(network, f, points):
    """|F − f| at exact points, from below and above, for a network with exact numbers."""
    with flint.ctx.workprec(PRECISION):
        value = ball_function(f.expr)
        balls = [network.ball(p) - value(exact_value(p)) for p in points]
        return [(bottom(b.abs_lower()), top(b.abs_upper())) for b in balls]


def spoiled(a, unit=3, by=Fraction(1, 2)):
    """The same claim about a network with one wrong weight."""
    outer = list(a.network.outer)
    outer[unit] += by
    return dataclasses.replace(a, network=dataclasses.replace(a.network, outer=tuple(outer)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("text", "interval", "name"), CASES)
def test_certificate_is_two_sided_and_true(text, interval, name, dtype):
    a = approximate(text, name, units=12, interval=interval)
    c = certify(a, dtype, budget=4_000)
    assert c.lower <= c.upper
    network, f = FloatNetwork.of(a.network, dtype).exact(), a.target
    grid = [f.a + f.length * Fraction(k, 400) for k in range(401)] + [p for p in network.knots if f.a <= p <= f.b]
    found = exact_errors(network, f, grid)
    assert max(low for low, _ in found) <= c.upper
    assert exact_errors(network, f, [c.where])[0][1] >= c.lower
    assert c.upper <= max(high for _, high in found) * Fraction(108, 100) + Fraction(1, 10**6)
    if c.rounding is not None:
        assert sample(a, dtype, count=501).largest <= float(c.total)


def test_certificate_of_a_staircase_includes_the_jumps():
    """At a jump the error on the left is larger than any value at the points where F is on its new step."""
    a = approximate("x", "step", units=4)
    c = certify(a)
    assert c.upper >= Fraction(1, 10)
    assert c.upper <= Fraction(11, 100)


@pytest.mark.parametrize("name", ["relu", "hard_tanh", "sigmoid", "tanh"])
def test_a_wrong_network_is_refuted(name):
    a = approximate("sin(2*pi*x)", name, units=12)
    wrong = spoiled(a)
    assert sample(wrong).largest > float(wrong.bound)
    assert certify(wrong, budget=4_000).lower > wrong.bound
    assert certify(a, budget=4_000).upper <= a.bound * Fraction(102, 100)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("units", [1, 7, 60, 300])
def test_rounding_bound_of_relu_networks_holds(units, dtype):
    a = approximate("exp(x)*sin(9*x)", "relu", units=units, interval="-1,2")
    c = certify(a, dtype)
    floats = FloatNetwork.of(a.network, dtype)
    points = sample_points(a, dtype, 301)
    exact = floats.exact()
    with flint.ctx.workprec(PRECISION):
        off = [top(abs(exact.ball(Fraction(float(p))) - float(v))) for p, v in zip(points, floats(points), strict=True)]
    assert max(off) <= c.rounding
    assert max(off) >= c.rounding / 20_000  # not absurdly loose either


def test_rounding_is_claimed_for_relu_alone():
    assert certify(approximate("x**2", "leaky_relu", units=4)).total is None
    assert certify(approximate("x**2", "sigmoid", units=4)).total is None


def test_theorem_and_certificate_agree_where_the_bound_is_sharp():
    """x² with equal cells: the interpolation error is exactly h²/4."""
    a = approximate("x**2", "relu", units=8)
    c = certify(a)
    assert a.bound - Fraction(1, 256) < Fraction(1, 10**8)
    assert c.lower == c.upper == Fraction(1, 256)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "erf", "step", "softsign"])
def test_float64_network_is_the_exact_one_to_rounding(name):
    a = approximate("sin(2*pi*x)", name, units=20)
    points = np.linspace(0, 1, 97)
    values = FloatNetwork.of(a.network)(points)
    with flint.ctx.workprec(PRECISION):
        truth = [float(a.network.ball(Fraction(float(p))).mid()) for p in points]
    if name == "step":  # a knot that was rounded moves a jump: compare away from the knots
        knots = np.array([float(k) for k in a.network.knots])
        far = np.min(np.abs(points[:, None] - knots), axis=1) > 1e-9
        values, truth = values[far], np.array(truth)[far]
    np.testing.assert_allclose(values, truth, atol=1e-12)


def test_float32_stays_float32_and_shapes_are_kept():
    net = FloatNetwork.of(approximate("x**2", "sigmoid", units=5).network, "float32")
    values = net(np.zeros((3, 0, 2)))
    assert values.dtype == np.float32
    assert values.shape == (3, 0, 2)
    assert net(0.5).shape == ()
    assert net(np.full((2, 3), 0.5)).shape == (2, 3)


def test_nan_goes_through_and_is_never_an_error_of_zero():
    for name in ("relu", "sigmoid", "step"):
        net = FloatNetwork.of(approximate("x**2", name, units=5).network)
        assert np.isnan(net(np.array([0.1, np.nan]))).tolist() == [False, True]
    constant = FloatNetwork.of(approximate("3", "relu", epsilon="1").network)
    assert np.isnan(constant(np.nan))


def test_weights_that_do_not_fit_are_refused():
    a = approximate("1e300*x", "relu", units=2)
    assert FloatNetwork.of(a.network, "float64").units == 1
    with pytest.raises(InputError, match="float32"):
        FloatNetwork.of(a.network, "float32")


@pytest.mark.parametrize("count", [0, 1, -5, 10**9])
def test_wrong_sample_counts(count):
    with pytest.raises(InputError, match="samples"):
        sample_points(approximate("x", "relu", units=1), "float64", count)


def test_samples_lie_inside_the_interval_and_are_distinct():
    a = approximate("sin(x)", "sigmoid", units=30, interval="1/10,7/10")
    for dtype in ("float64", "float32"):
        points = sample_points(a, dtype, 2_000)
        assert points.dtype == dtype
        assert np.all(np.diff(points) > 0)
        assert all(Fraction(1, 10) <= Fraction(float(p)) <= Fraction(7, 10) for p in points)


def test_sampled_error_is_measured_against_the_true_function():
    f = target("exp(x)")
    points = np.linspace(0, 1, 11)
    np.testing.assert_allclose(true_values(f, points), np.exp(points), rtol=1e-15)


def test_progress_reaches_the_number_of_points():
    a, seen = approximate("x**2", "sigmoid", units=3), []
    points = sample(a, count=1_000, advance=seen.append).points.size
    assert sum(seen) == points
