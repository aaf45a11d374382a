"""Results at ±∞ are held against proven limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backproof.numerics.acceptance import run_with_numpy
from backproof.numerics.kernels import activation_program, kernel
from backproof.numerics.limits import judged_at_infinity
from backproof.theory.activations import ACTIVATIONS, activation


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_row_gives_its_limits(name, dtype):
    row = ACTIVATIONS[name]
    for order in (0, 1, 2):
        ends = kernel(name, dtype, "numpy").derivative(np.array([-np.inf, np.inf], dtype=dtype), order)
        for side, computed in zip((-1, 1), ends.tolist(), strict=True):
            assert judged_at_infinity(row, order, side, computed, dtype).right, (order, side, computed)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "formula",
    [
        "x*log(1+1/(1+exp(-x)))",  # a·log1p(T), T = 0
        "x*tanh(exp(x))", "x/(1-x*exp(-x-exp(x)))", "x+sin(3*x)**2/3", "where(x > 0, x*atan(exp(-x)), x-cos(x))",
    ],
)  # fmt: skip
def test_typed_formula_gives_its_limits(formula, dtype):
    row = activation(formula)
    run = run_with_numpy(activation_program(row, (0,), dtype), dtype)
    for side, computed in zip((-1, 1), run(np.array([-np.inf, np.inf], dtype=dtype)).tolist(), strict=True):
        assert judged_at_infinity(row, 0, side, computed, dtype).right, (side, computed)
    assert np.isnan(run(np.array([np.nan], dtype=dtype))).all()


def test_compiled_backward_pass_gives_its_limits():
    k, ends = kernel("x*tanh(exp(x))", "float32"), np.array([-np.inf, np.inf], dtype=np.float32)
    assert k(ends).tolist() == [0, np.inf]
    assert k.vjp(ends, np.full(2, -3, np.float32)).tolist() == [0, -3]


@pytest.mark.parametrize(
    ("formula", "side", "computed", "right"),
    [
        ("tanh(x)", 1, 1 - 2.0**-50, False), ("tanh(x)", 1, 1.0, True), ("tanh(x)", -1, 1.0, False),
        ("atan(x)", 1, math.pi / 2, True), ("atan(x)", 1, math.nan, False), ("x**2", -1, math.inf, True),
        ("x**2", -1, -math.inf, False), ("x**2", 1, 1.7e308, False), ("sin(x)", 1, 0.5, False),
        ("sin(x)", 1, math.nan, True), ("exp(-x)*sin(x)", 1, 0.0, True), ("x*sin(x)", 1, 0.0, None),
        ("sin(x**2)", 1, 0.0, None),
    ],
)  # fmt: skip
def test_verdicts(formula, side, computed, right):
    assert judged_at_infinity(activation(formula), 0, side, computed, "float64").right is right
