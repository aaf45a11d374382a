"""Printed source: kept as golden files, and compiled and run as printed.

After a change of the generator, write the golden files anew and read the difference:

    BACKPROOF_GOLDEN=write python -m pytest tests/test_emit.py -k golden
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.demos.emit import source
from backproof.numerics.accuracy import measure_accuracy
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS, activation

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "relu_numpy": ("relu", "numpy", 1, "float64"),
    "hard_swish_numba": ("hard_swish", "numba", 2, "float64"),
    "sigmoid_numpy": ("sigmoid", "numpy", 2, "float32"),
    "silu_numba": ("silu", "numba", 1, "float64"),
    "softplus_numba": ("softplus", "numba", 1, "float32"),
    "tanhshrink_numpy": ("tanhshrink", "numpy", 0, "float64"),
    "mish_formula_numba": ("x*tanh(log(1+exp(x)))", "numba", 0, "float64"),
    "table_numba": ("where(x*x < 1, (1-cos(x))/x**2, 0)", "numba", 0, "float32"),
    "table_numpy": ("where(x*x < 1, (1-cos(x))/x**2, 0)", "numpy", 0, "float64"),
}
POINTS = np.array([-1e300, -800.0, -30.0, -2.0, -0.3, -0.0, 0.0, 1e-200, 0.3, 2.0, 30.0, 800.0, 1e300])


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    spec, target, derivatives, dtype = CASES[case]
    printed = source(activation(spec), target, derivatives, dtype)
    path = GOLDEN / f"{case}.py.txt"
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


def _run(printed: str, points):
    namespace: dict = {}
    exec(compile(printed, "printed", "exec"), namespace)
    function = next(v for v in reversed(namespace.values()) if callable(v))  # what it needs stands before it
    if "numba" not in printed:
        with np.errstate(all="ignore"):
            result = function(points)
        return result if isinstance(result, tuple) else (result,)
    outs = tuple(np.empty_like(points) for _ in set(re.findall(r"(\w+_out)\[i\] = ", printed)))
    function(points, *outs)
    return outs


@pytest.mark.parametrize("case", CASES)
def test_golden_source_runs_and_is_right(case):
    spec, _, derivatives, dtype = CASES[case]
    printed = (GOLDEN / f"{case}.py.txt").read_text(encoding="utf-8")
    with np.errstate(over="ignore"):
        points = POINTS.astype(dtype)
    results = _run(printed, points)
    assert len(results) == derivatives + 1
    for order, result in enumerate(results):
        expected = kernel(spec, dtype).derivative(points, order)
        np.testing.assert_allclose(result, expected, rtol=4e-15 if dtype == "float64" else 3e-7)


ALWAYS = [
    ("gelu", "numba"),
    ("gelu", "numpy"),
    ("elu(alpha=2)", "numba"),
    ("x/sqrt(1+x**2)", "numpy"),
    ("step", "numpy"),
]
SOMETIMES = [(n, t) for n in ("gelu_tanh", "erf", "selu", "sin") for t in ("numpy", "numba")]
SOMETIMES += [("step", "numba"), ("elu(alpha=2)", "numpy"), ("x/sqrt(1+x**2)", "numba")]


@pytest.mark.parametrize(("name", "target"), [*ALWAYS, *(pytest.param(*c, marks=pytest.mark.slow) for c in SOMETIMES)])
def test_any_row_runs_as_printed(name, target):
    results = _run(source(activation(name), target, 2), POINTS[1:-1])
    for order, result in enumerate(results):
        expected = kernel(name).derivative(POINTS[1:-1], order)
        np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-320)


#: Points at which no value or derivative of a table row may warn: beyond every overflow, at and beside 0, not a number.
EXTREMES = np.array(
    [-np.inf, -1.7e308, -1e155, -800.0, -5e-324, -0.0, 0.0, 5e-324, 800.0, 1e155, 1.7e308, np.inf, np.nan]
)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_numpy_source_does_not_warn(name):
    namespace: dict = {}
    exec(compile(source(ACTIVATIONS[name], "numpy", 1), "printed", "exec"), namespace)
    function = namespace[name]
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        value, derivative = function(EXTREMES)
    assert value.shape == derivative.shape == EXTREMES.shape


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 1, 3)])
def test_numpy_source_takes_any_shape_and_layout(shape):
    namespace: dict = {}
    exec(compile(source(ACTIVATIONS["gelu"], "numpy", 2), "printed", "exec"), namespace)
    x = np.array(np.linspace(-2, 2, int(np.prod(shape, dtype=int))).reshape(shape), order="F")
    for n, result in enumerate(namespace["gelu"](x)):
        assert np.shape(result) == shape
        np.testing.assert_allclose(result, kernel("gelu").derivative(x, n), rtol=1e-14)


#: (row, order) -> at most so many ULP, measured at adversarial points; docs/emit.md has the table for every row.
HIGHER = {("tanh", 5): 12.0, ("gelu", 8): 16.0, ("gaussian", 8): 32.0, ("sin", 7): 2.0, ("relu", 8): 0.5}


#: these take seconds each
LONG = {("gelu", 8), ("sin", 7)}


@pytest.mark.parametrize(("name", "order"), [pytest.param(*c, marks=[pytest.mark.slow] * (c in LONG)) for c in HIGHER])
def test_higher_derivatives(name, order):
    results = _run(source(activation(name), "numpy", order), POINTS)
    assert len(results) == order + 1
    measured = measure_accuracy(kernel(name, target="numpy"), n_derivative=order, size=120)
    assert measured.worst_ulp <= HIGHER[name, order], str(measured)
    assert not measured.failures
    compiled = kernel(name).derivative(POINTS, n=order)
    np.testing.assert_allclose(results[order], compiled, rtol=1e-14, atol=1e-320)


def test_source_is_the_same_every_time():
    for name in ("mish", "gelu"):
        code = f"from backproof.demos.cli import main; main(['emit', '{name}', '--target', 'numba'])"
        environment = os.environ | {"PYTHONHASHSEED": "7"}
        again = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert again.stdout.rstrip() == source(ACTIVATIONS[name], "numba", 1).rstrip()


def test_printed_source_runs_from_a_pipe():
    printed = source(ACTIVATIONS["tanh"], "numba", 1)
    use = "\nimport numpy as np\nx = np.ones(2); v = np.empty(2); d = np.empty(2)\ntanh(x, v, d)\nprint(v[0])\n"
    done = subprocess.run([sys.executable, "-"], input=printed + use, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(np.tanh(1.0), rel=1e-15)


def test_command(tmp_path, capsys):
    assert run(["emit", "gelu"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('"""Gaussian error linear unit')
    path = tmp_path / "gelu.py"
    assert run(["emit", "gelu", "--target", "numba", "--derivatives", "2", "--output", str(path)]) == 0
    assert "derivative_2_out[i] = " in path.read_text()
    assert run(["emit", "gelu", "--json"]) == 0
    for wrong in (
        ["emit", "geluu"],
        ["emit", '__import__("os").system("x")'],
        ["emit", "gelu", "--output", str(tmp_path / "no" / "where.py")],
        ["emit", "gelu", "--target", "fortran"],
        ["emit", "gelu", "--derivatives", "9"],
        ["emit"],
    ):
        assert run(wrong) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [path]
