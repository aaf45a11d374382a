"""Kernels of float16 and bfloat16: rounding, every input against balls, calls, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics.half import PATTERNS, measure_half, patterns_of, values_of
from backproof.numerics.kernels import kernel
from backproof.theory.activations import activation
from backproof.theory.errors import InputError

ALL = np.arange(PATTERNS, dtype=np.uint16)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_patterns_and_values_are_inverse(dtype):
    values = values_of(ALL, dtype)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(patterns_of(values, dtype)[numbers], ALL[numbers])
    assert np.isnan(values_of(patterns_of(values[~numbers], dtype), dtype)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_to_the_nearest_and_once(dtype):
    grid = np.sort(values_of(ALL, dtype)[:0x7000])
    rng = np.random.default_rng(0)
    low = grid[rng.integers(0, grid.size - 1, 300)]
    high = grid[np.searchsorted(grid, low) + 1]
    middle = (low + high) / 2
    for values in (middle, np.nextafter(middle, -1), np.nextafter(middle, 1e9), rng.uniform(low, high)):
        found = values_of(patterns_of(values, dtype), dtype)
        for v, f, a, b in zip(values.tolist(), found.tolist(), low.tolist(), high.tolist(), strict=True):
            gaps = abs(Fraction(v) - Fraction(a)), abs(Fraction(v) - Fraction(b))
            if gaps[0] != gaps[1]:
                assert f == (a if gaps[0] < gaps[1] else b), (v, a, b)
            else:
                assert f in (a, b)
                assert patterns_of(np.array([f]), dtype)[0] % 2 == 0  # ties to even


def test_bfloat16_agrees_with_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    floats = np.random.default_rng(0).normal(0, 1e3, 500).astype(np.float32)
    theirs = floats.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(patterns_of(floats.astype(np.float64), "bfloat16"), theirs)
    x = floats.astype(ml_dtypes.bfloat16).reshape(20, 25)
    y = kernel("silu", "bfloat16")(x)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    np.testing.assert_array_equal(kernel("silu", "bfloat16")(x.view(np.uint16)), y.view(np.uint16))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_input_is_rounded_rightly(dtype):
    result = measure_half(activation("sigmoid"), dtype, 1)
    assert result.points == np.isfinite(values_of(ALL, dtype)).sum()
    assert result.worst_ulp <= 0.501
    assert result.over_one == result.undecided == 0
    assert not result.failures
    assert np.isnan(result.at_nan)


def test_calls():
    x = np.linspace(-4, 4, 12, dtype=np.float16).reshape(3, 4)
    k = kernel("gelu", "float16")
    value, derivative = k.value_and_derivative(x)
    assert value.dtype == derivative.dtype == np.float16
    np.testing.assert_array_equal(value, kernel("gelu")(x.astype(float)).astype(np.float16))
    np.testing.assert_array_equal(k.derivative(x.T, 1), derivative.T)
    out = np.empty_like(x)
    assert k(x, out=out) is out
    np.testing.assert_array_equal(out, value)
    copy = x.copy()
    pair = k.value_and_derivative(copy, out=(copy, out))
    np.testing.assert_array_equal(pair[0], value)
    np.testing.assert_array_equal(pair[1], derivative)
    assert np.isnan(k(np.float16(np.nan)))
    assert k([0.0, 1.0]).dtype == np.float16
    large = np.full(200_000, 1.5, dtype=np.float16)  # shared among threads
    assert set(k(large).tolist()) == {float(k(np.float16(1.5)))}


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernel("relu", "float16")(np.ones(3)),
        lambda: kernel("relu", "bfloat16")(np.ones(3, np.float16)),
        lambda: kernel("relu", "bfloat16")([1.0]),
        lambda: kernel("relu", "float16").derivative(np.ones(3, np.float16), -1),
        lambda: kernel("relu", "float16")(np.ones(3, np.float16), out=np.ones(3)),
        lambda: kernel("relu", "float16", "numpy"),
        lambda: kernel("relu", "float8"),
    ],
)
def test_wrong_input_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_command(capsys):
    assert run(["accuracy", "relu", "--dtype", "bfloat16"]) == 0
    shown = capsys.readouterr().out
    assert "≤ 0.501" in shown
    assert "BROKEN" not in shown
    assert run(["accuracy", "relu", "--dtype", "float16", "--target", "numpy"]) == 2
