"""Every row's kernel against balls, and the measurement against wrong kernels."""

from __future__ import annotations

import math
import re
import struct

import flint
import numpy as np
import pytest
from flint import arb

from backproof.demos.cli import run
from backproof.numerics.acceptance import errors_of_forms
from backproof.numerics.accuracy import (
    FORMATS,
    LOOSENED,
    adversarial_sample,
    bound,
    exact_function,
    measure_accuracy,
    roots,
    ulp_error,
)
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.errors import InputError


def _measure(spec, dtype, order, size=250):
    k = kernel(spec, dtype)
    row = k.activation
    sample = adversarial_sample(row, order, dtype, size=size)
    # one kernel for all three orders: a third of the compile time
    return measure_accuracy(
        k, n_derivative=order, points=sample, against=lambda v: k._evaluate((0, 1, 2), v, (None,) * 3)[order]
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_every_kernel_keeps_its_bound_over_the_whole_range(row, dtype):
    for order in (0, 1, 2):
        result = _measure(row.name, dtype, order)
        assert result.points > 600
        assert result.failures == (), f"{result}"
        assert result.worst_ulp <= bound(row, dtype, order), f"{result}"
        assert result.undecided == 0
        assert math.isnan(result.at_nan)


@pytest.mark.parametrize(
    "formula",
    ["x*tanh(log(1+exp(x)))", "(x+sqrt(x**2+4))/2", "x*exp(x)/(1+exp(x))", "log(cosh(x))", "x/sqrt(1+x**2)", "sinh(x)"],
)
def test_typed_formulas_are_stable_too(formula):
    for order in (0, 1, 2):
        result = _measure(formula, "float64", order, size=120)
        assert result.failures == (), f"{result}"
        assert result.worst_ulp <= 6, f"{result}"  # no bound is promised for a formula; 6 leaves room for one rounding


@pytest.mark.parametrize("name", ["gelu", "mish", "softplus", "tanhshrink", "selu", "gaussian"])
def test_the_numpy_target_keeps_its_bound(name):
    for order in (0, 1, 2):
        result = measure_accuracy(name, "float64", order, target="numpy", size=200)
        assert result.failures == ()
        assert result.worst_ulp <= bound(ACTIVATIONS[name], "float64", order, "numpy"), f"{result}"


LIMITS = {  # f(−∞), f(∞) of f, f′, f″
    "sigmoid": ((0, 1), (0, 0), (0, 0)),
    "gelu": ((0, math.inf), (0, 1), (0, 0)),
    "mish": ((0, math.inf), (0, 1), (0, 0)),
    "softplus": ((0, math.inf), (0, 1), (0, 0)),
    "softsign": ((-1, 1), (0, 0), (0, 0)),
    "selu": ((None, math.inf), (0, None), (0, 0)),
    "tanhshrink": ((-math.inf, math.inf), (1, 1), (0, 0)),
    "gaussian": ((0, 0), (0, 0), (0, 0)),
    "hard_swish": ((0, math.inf), (0, 1), (0, 0)),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_infinities_give_the_limit(name, dtype):
    k = kernel(name, dtype)
    for order, (left, right) in enumerate(LIMITS[name]):
        got = k._evaluate((0, 1, 2), np.array([-np.inf, np.inf], dtype), (None,) * 3)[order]
        for value, limit in zip(got, (left, right), strict=True):
            if limit is not None:
                assert value == limit, (order, got)


# ------------------------------------------------------------------------------------------- the measurement can fail


@pytest.mark.parametrize(
    ("spoil", "least"),
    [
        (lambda v: v * (1 + 2.0**-50), 3.5),
        (lambda v: np.where(np.abs(v) < 1e-305, 0.0, v), 1e3),  # subnormals flushed
        (lambda v: np.where(v > 0.9999999, np.nan, v), math.inf),
    ],
)
def test_wrong_kernels_are_seen(spoil, least):
    k = kernel("sigmoid")
    result = measure_accuracy(k, against=lambda v: spoil(k(v)), size=200)
    assert result.worst_ulp >= least


def test_a_wrong_derivative_is_seen_at_the_kink():
    k = kernel("relu")
    result = measure_accuracy(k, n_derivative=1, against=lambda v: (v >= 0).astype(float), size=50)
    assert result.worst_input == 0
    assert result.worst_ulp > 1e10


def test_the_formula_as_written_is_far_worse():
    stable, written = errors_of_forms(ACTIVATIONS["silu"], 1, "float64")
    assert stable < 4
    assert math.isinf(written)


def test_ulp_of_known_numbers():
    fmt = FORMATS["float64"]

    def error(computed, exact):
        return ulp_error(computed, lambda: exact, fmt)[0]

    assert error(1.0, arb(1)) == 0
    assert error(1.0 + 2**-52, arb(1)) == 1
    assert error(1.0 - 2**-53, arb(1)) == 0.5  # exact value 1 lies in the binade above
    assert error(5e-324, arb(0)) == 1
    assert error(math.inf, arb(2) ** 1024) == 0
    assert error(math.inf, arb(1)) == math.inf
    assert error(math.nan, arb(1)) == math.inf
    assert error(1.7976931348623157e308, arb(2) ** 1030) > 1


def test_undecidable_is_said():
    wide = arb(1, 0.5)
    assert math.isnan(ulp_error(1.0, lambda: wide, FORMATS["float64"])[0])


def test_exact_value_far_out():
    """exp(10³⁰⁰) is beyond balls; the exact value is enclosed all the same."""
    at = exact_function(activation("mish"), 1)
    with flint.ctx.workprec(400):
        assert abs(at(1e300)() - 1) < arb(2) ** -300
    assert ulp_error(0.0, at(-1e300), FORMATS["float64"])[0] == 0


def test_sample_is_adversarial():
    sample = adversarial_sample(ACTIVATIONS["relu6"], 0, "float64", size=10_000)
    assert {0.0, 6.0, np.nextafter(6.0, 7), np.nextafter(6.0, 5)} <= set(sample.tolist())
    exponents = {math.frexp(v)[1] for v in sample.tolist() if v}
    assert len(exponents) > 2000
    bits = struct.unpack("<Q", struct.pack("<d", np.finfo(float).max))[0]
    assert struct.pack("<d", sample.max()) == struct.pack("<Q", bits)


def test_roots_are_found():
    found = roots(ACTIVATIONS["gelu"].derivative(1))
    assert min(abs(r + 0.7517915246935645) for r in found) < 1e-15


def test_bounds_have_reasons():
    assert all(len(reason) > 5 for _, reason in LOOSENED.values())
    assert all(bound(activation("relu"), dtype, 0) for dtype in FORMATS)
    assert bound(activation("x**2"), "float64", 0) is None


def test_wrong_arguments():
    with pytest.raises(InputError, match="not float32"):
        measure_accuracy(kernel("relu"), "float32")
    with pytest.raises(InputError, match="no points"):
        measure_accuracy("relu", points=[])


@pytest.mark.parametrize(
    ("formula", "points", "undefined"),
    [
        ("sqrt(x)", [-1e300, -2.0, -5e-324, 0.0, 4.0], 3),
        ("log(x)", [-1.0, 0.0, 2.0], 2),
        ("1/x", [0.0, 1.0], 1),
        ("x**(-1/2)", [-1.0, 0.0, 1.0], 2),
        ("where(x > 0, sqrt(x), 0)", [-1.0, 0.0, 2.0], 0),
        ("where(x > 0, sqrt(x - 2), x)", [-1.0, 1.0, 3.0], 1),
        ("exp(x)", [-1e300, 1e300], 0),
    ],
)
def test_where_a_function_is_not_defined_is_said_apart(formula, points, undefined):
    measured = measure_accuracy(formula, points=points)
    assert (measured.undefined, measured.undecided) == (undefined, 0)
    assert measured.points == len(points) - undefined


@pytest.mark.parametrize("formula", ["x**10", "sqrt(x)", "gelu"])
def test_columns_of_the_table_stay_apart(formula, capsys):
    dtype = "float32" if formula == "sqrt(x)" else "float64"  # in float64 a table for f″ is tried first: half a minute
    assert run(["accuracy", formula, "--points", "60", "--dtype", dtype]) == 0
    _, heading, *lines = capsys.readouterr().out.splitlines()
    starts = [m.start() for m in re.finditer(r"promised|as written", heading)]
    for line in lines[:3]:
        cells = re.split(r"  +", line)
        assert cells[0] in {"f", "f′", "f″"}
        float(cells[1]), float(cells[2]), float(cells[3]), int(cells[4])
        assert all(line[at - 2 : at] == "  " and line[at] != " " for at in starts)
    if formula == "sqrt(x)":
        assert any(line.startswith("not defined at ") for line in lines)
        assert not any("not decided" in line for line in lines)


def test_long_numbers_do_not_run_into_their_neighbours():
    from types import SimpleNamespace

    from backproof.demos.accuracy import _HEADING, _aligned, _figures

    figures = SimpleNamespace(
        worst_ulp=1.23e16, worst_input=-1.3407807929942597e154, mean_ulp=1543413524740632.529, points=1220
    )
    entry = {"accuracy": figures, "bound": None, "as_written": None}
    cells = re.split(r"  +", _aligned([_HEADING, _figures(0, entry)])[1])
    assert cells == ["f", "1.23e+16", "-1.3407807929942597e+154", "1.54e+15", "1220", "none"]


def test_command(capsys):
    assert run(["accuracy", "sigmoid", "--points", "60"]) == 0
    shown = capsys.readouterr().out
    assert "as written" in shown
    assert "NaN or ∞" in shown
    assert run(["accuracy", "sigmoid", "--points", "60", "--json", "--dtype", "float32"]) == 0
    assert '"kept": true' in capsys.readouterr().out
    assert run(["accuracy", "sigmoid", "--all"]) == 2
    assert run(["accuracy", "nope"]) == 2
    assert run(["accuracy"]) == 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("parameter", ["7/4", "1/3"])
@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if row.parameters])
def test_rows_with_parameters_keep_their_promise_at_odd_ones(name, parameter, dtype):
    row = activation(name, **dict.fromkeys(map(str, ACTIVATIONS[name].parameters), parameter))
    tiny = [s * 2.0**-k for k in (1, 5, 20, 60, 100) for s in (1, -1)]
    points = [*tiny, *(s * v for v in (0.3, 0.7, 1.0, 1.75, 2.5, 9.0, 40.0) for s in (1, -1))]
    for order in (0, 1):
        found = measure_accuracy(row, dtype, order, points=points, target="numpy")
        assert found.worst_ulp <= bound(row, dtype, order, "numpy"), found
