"""Sine and cosine of anything: in vectors where the arguments are cheap to look at, each entry for itself elsewhere."""

from __future__ import annotations

import flint
import numpy as np
import pytest
from flint import arb

from backproof.numerics.kernels import activation_program, arithmetic_of, kernel
from backproof.numerics.targets import sines
from backproof.numerics.targets.numba_cpu import prepared
from backproof.theory.activations import activation

rng = np.random.default_rng(11)
#: formula -> (its ball, how many places are looked at before a share, None where one is dear, ULP of float64)
FORMULAS = {
    "sin(30*x)": (lambda v: (30 * v).sin(), 1, 1.0),
    "cos(x**2-1)": (lambda v: (v * v - 1).cos(), 1, 1.0),
    "x*sin(x/3)": (lambda v: v * (v / 3).sin(), 1, 1.0),
    "sin(sin(x))": (lambda v: v.sin().sin(), 1, 1.0),
    "cos(5*x+1)/2": (lambda v: (5 * v + 1).cos() / 2, 1, 1.0),
    "cos(exp(x/9))": (lambda v: (v / 9).exp().cos(), None, 1.5),  # the C library's, rounded by itself
}


def _program(formula, dtype):
    arithmetic = arithmetic_of(dtype, "cpu")
    return prepared(activation_program(activation(formula), (0,), dtype, "cpu"), arithmetic), arithmetic


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_balls_on_both_sides_of_the_limit(formula, dtype):
    exact_of, _, most = FORMULAS[formula]
    points = np.concatenate([rng.normal(size=300), rng.uniform(-60, 60, 200), rng.uniform(-3e5, 3e5, 100)])
    points = points[: 300 if "exp" in formula else None].astype(dtype)
    values = kernel(formula, dtype)(points)
    with flint.ctx.workprec(300):
        for point, value in zip(points.tolist(), values.tolist(), strict=True):
            exact = exact_of(arb(point))
            unit = float(np.spacing(np.dtype(dtype).type(abs(float(exact)))))
            within = 8192 if abs(point) < 90 else 1e300
            bound = 0.51 if dtype == "float32" else (most if within == 8192 else 1.6)  # the library's beyond
            assert abs(arb(value) - exact) < bound * unit, point


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_entry_does_not_depend_on_its_neighbours(formula, dtype):
    points = np.concatenate([rng.normal(size=500), [1e5, -3e30, np.nan, np.inf, -0.0, 8.0]]).astype(dtype)
    chosen = kernel(formula, dtype)
    with np.errstate(all="ignore"):
        together, few = chosen.value_and_derivative(points), chosen.value_and_derivative(points[:500])
    for whole, part in zip(together, few, strict=True):
        np.testing.assert_array_equal(whole[:500], part)
    assert np.isnan(together[0][502])


@pytest.mark.parametrize("formula", FORMULAS)
def test_what_is_looked_at_before_a_share(formula):
    program, _ = _program(formula, "float64")
    watched = sines.arguments(program)
    assert (watched if watched is None else len(watched)) == FORMULAS[formula][1]


def test_sums_that_may_cancel_get_the_longer_ones():
    assert sines.digits(*_program("sin(3*x)", "float32")) == 24
    assert sines.digits(*_program("x*sin(x)", "float32")) == 24
    assert sines.digits(*_program("1+sin(x)", "float32")) == 53
    assert sines.digits(*_program("sin(3*x)", "float64")) == 53


@pytest.mark.parametrize("formula", ["sin(30*x)", "x*sin(x/3)", "sin(sin(x))"])
def test_loops_are_printed_twice_and_count_first(formula):
    source = kernel(formula).path_of((0, 1)).read_text(encoding="utf-8")
    assert "beyond += abs(" in source
    assert "if beyond == 0:" in source
