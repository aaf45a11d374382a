"""Why a formula loses digits: its worst inputs, the stable form and both errors, for formulas nobody has prepared."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics.acceptance import as_written_program, run_with_numpy
from backproof.numerics.explaining import APART, as_text, explain
from backproof.theory.activations import activation

#: Formula -> what its stable form must mention, and the ULP it is computed to.
FORMULAS = {
    "x*tanh(log(1+exp(x)))": ("T0 = exp(-a)", 4),
    "log(cosh(x))": ("times a polynomial", 4),
    "tanh(x)-x": ("(x - 0)**3", 4),
    "log(1+x**2)": ("L0", 4),
    "sqrt(1+x**2)-1": ("S0", 4),
    "x*erfc(x)": ("X0", 6),
    "1/(1+exp(-x)) - 1/(1+exp(-x-1))": ("T0", 8),
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_stable_form_is_shown_and_its_error_is_small(formula):
    expected, most = FORMULAS[formula]
    found = explain(activation(formula), size=60)
    before, after = found.errors
    assert after <= most < before
    assert expected in "\n".join(found.stable)
    assert found.proved_at >= 40


def test_the_worst_inputs_are_those_of_the_formula_as_written():
    row = activation("tanh(x)-x")
    found = explain(row, size=60)
    naive = run_with_numpy(as_written_program(row, 0), "float64")
    points = [w.x for w in found.worst_written]
    np.testing.assert_array_equal(naive(np.array(points)), [w.computed for w in found.worst_written])
    errors = [w.ulp for w in found.worst_written]
    assert errors == sorted(errors, reverse=True)
    assert all(not 1 / APART < p / q < APART for k, p in enumerate(points) for q in points[:k])


def test_a_formula_without_a_stable_form_says_so():
    found = explain(activation("tanh(exp(x))"), size=30)
    assert found.stable == ("as written: 2*exp(a)",)
    assert "as written: 2*exp(a)" in as_text(found, "title")


def test_a_formula_whose_exponent_changes_its_sign_is_shown_span_by_span():
    found = explain(activation("sigmoid(x**2-x)"), order=1, size=30)
    assert [line.split(",")[0] for line in found.stable] == ["x < 0", "0 < x < 1", "1 < x"]
    assert found.errors[1] <= 3


def test_a_broken_value_is_infinitely_wrong():
    found = explain(activation("log(1+exp(x))"), size=30)
    assert math.isinf(found.errors[0])
    assert "worst ∞ ULP at x = " in as_text(found, "title")


def test_the_command_shows_value_and_derivative(capsys):
    assert run(["accuracy", "--explain", "log(1+exp(x))", "--points", "30"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("as written") >= 4
    assert "1/(T0 + 1), T0 = exp(-a)" in shown
    assert run(["accuracy", "--explain", "log(1+exp(x))", "--points", "30", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["results"]
    assert (first["order"], second["order"]) == (0, 1)
    assert first["ulp"] < 2


@pytest.mark.parametrize("wrong", [["--exhaustive", "--dtype", "float32"], ["--target", "numpy"]])
def test_explain_is_for_a_sample_on_the_cpu(wrong, capsys):
    assert run(["accuracy", "--explain", "silu", *wrong]) == 2
    assert "--explain" in capsys.readouterr().err
