"""Initialisers: the variance each row solves for, the derivation that shows it, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from flint import arb, ctx

from backproof.numerics.initialise import draw, fans
from backproof.theory.constants import number
from backproof.theory.errors import InputError
from backproof.theory.gaussian import moment
from backproof.theory.initialisers import (
    DISTRIBUTIONS,
    INITIALISERS,
    Initialiser,
    ball,
    fan_in,
    fan_out,
    initialiser,
    truncated_normal_std,
    v,
)

ROWS = pytest.mark.parametrize("row", INITIALISERS.values(), ids=INITIALISERS)
SHAPES = [(300, 200), (200, 300), (3, 3, 20, 30)]
#: A sum of N squares of variance v is within 5 standard errors of N·v once in two million draws.
DEVIATIONS = 5.0


def given(row):
    return "tanh" if row.needs_activation else None


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("lecun", 1 / fan_in),
        ("glorot", 2 / (fan_in + fan_out)),
        ("glorot_uniform", 2 / (fan_in + fan_out)),
        ("glorot_geometric", 1 / sympy.sqrt(fan_in * fan_out)),
        ("he", 2 / fan_in),
        ("kaiming_uniform", 2 / fan_in),
        ("he_fan_out", 2 / fan_out),
        ("zeros", 0),
        ("orthogonal", 1 / sympy.Max(fan_in, fan_out)),
    ],
)
def test_variances_by_name(name, formula):
    assert sympy.simplify(initialiser(name).variance() - formula) == 0


@pytest.mark.parametrize("f", ["relu", "gelu", "erf", "elu"])
def test_derived_from_the_activation(f):
    m2, d2 = moment(f, 2).closed_form, moment(f, 2, 1).closed_form
    assert sympy.simplify(initialiser("gain").variance(activation=f) * fan_in * m2 - 1) == 0
    assert sympy.simplify(initialiser("gain_backward").variance(activation=f) * fan_out * d2 - 1) == 0
    mean = moment(f, 1).closed_form
    assert sympy.simplify(initialiser("gain_deviation").variance(activation=f) * fan_in * (m2 - mean**2) - 1) == 0


def test_an_expectation_without_closed_form_keeps_its_enclosure():
    variance = initialiser("gain").variance(100, 50, "tanh")
    with ctx.workprec(120):
        assert (ball(variance) * 100 * moment("tanh").enclosure - 1).contains(0)
        assert ball(variance).rel_accuracy_bits() > 80


def test_he_is_the_gain_of_relu_and_lecun_that_of_the_identity():
    assert initialiser("gain").variance(activation="relu") == initialiser("he").variance()
    assert initialiser("gain").variance(activation="identity") == initialiser("lecun").variance()
    assert initialiser("gain_compromise").variance(activation="identity") == initialiser("glorot").variance()


@ROWS
def test_the_variance_solves_the_condition_and_the_parameter_gives_the_variance(row):
    steps = row.derivation(given(row))
    assert all(step.words for step in steps)
    variance = row.variance(40, 70, given(row))
    law = DISTRIBUTIONS[row.distribution]
    with ctx.workprec(120):
        if row.conditions:
            solved = next(s.equation.rhs for s in steps if s.words == "Solved:")
            assert (ball(solved.subs({fan_in: 40, fan_out: 70})) - ball(variance)).contains(0)
            condition = [s.equation for s in steps if s.equation is not None and s.equation.has(v)][-1]
            assert condition is not None
        if law.variance.has(law.parameter) and not row.needs_activation:
            parameter = law.solve(variance)
            assert (number(law.variance.subs(law.parameter, parameter)) - number(variance)).contains(0)


def test_the_derivation_names_its_assumptions():
    text = "\n".join(map(str, initialiser("glorot_uniform").derivation()))
    for words in ("independent", "zero bias", "gradients δ independent", "arithmetic compromise", "bound = "):
        assert words in text
    assert "sqrt(6)/sqrt(fan_in + fan_out)" in text or "sqrt(6)*sqrt(1/(fan_in + fan_out))" in text


def test_truncated_normal_standard_deviation():
    found = truncated_normal_std()
    assert found.closed_form is not None
    assert found.decimal(20) == "0.87962566103423975041"
    with ctx.workprec(160):  # 1 − 2·2φ(2)/(Φ(2) − Φ(−2)), the textbook formula
        density = (arb(-2)).exp() / (2 * arb.pi()).sqrt()
        assert (1 - 4 * density / (arb(2).sqrt()).erf() - found.enclosure**2).contains(0)


# --- Drawing ---


@ROWS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_drawn_weights_have_the_variance(row, shape):
    weights = draw(row, shape, np.random.default_rng(7), given(row))
    assert weights.shape == shape
    n_in, n_out = fans(shape)
    with ctx.workprec(64):
        variance = float(ball(row.variance(n_in, n_out, given(row))).mid())
    if not row.conditions:
        assert not weights.any()
        return
    square, mean = float(np.mean(weights**2)), float(np.mean(weights))
    # Normal squares scatter most of the four laws: kurtosis 3. Orthogonal entries have a fixed sum of squares.
    error = 1e-12 if row.distribution == "orthogonal" else DEVIATIONS * (2 / weights.size) ** 0.5
    assert abs(square / variance - 1) < error
    assert abs(mean) < DEVIATIONS * (variance / weights.size) ** 0.5


def test_the_bound_on_the_variance_can_fail():
    weights = draw("he", (300, 200), np.random.default_rng(7))
    assert abs(float(np.mean(weights**2)) * 300 / 1.9 - 1) > DEVIATIONS * (2 / weights.size) ** 0.5


@pytest.mark.parametrize("name", ["glorot_uniform", "he_truncated"])
def test_bounded_laws_stay_within_their_bound(name):
    row = initialiser(name)
    weights = draw(row, (300, 200), np.random.default_rng(3))
    scale = float(number(DISTRIBUTIONS[row.distribution].solve(row.variance(300, 200))).mid())
    bound = 2 * scale if row.distribution == "truncated_normal" else scale
    assert 0.99 * bound < np.abs(weights).max() <= bound * (1 + 1e-12)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25), (1, 5), (5, 1)])
def test_orthogonal_rows_or_columns(shape):
    weights = draw("orthogonal", shape, np.random.default_rng(1))
    gram = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-13)


def test_orthogonal_is_haar_not_only_orthogonal():
    """QR alone leaves R's diagonal positive or negative by convention: E trace(W) would not be 0."""
    traces = [np.trace(draw("orthogonal", (4, 4), np.random.default_rng(k))) for k in range(400)]
    assert abs(np.mean(traces)) < DEVIATIONS / 400**0.5  # under Haar measure Var trace = 1


@ROWS
def test_reproducible_by_seed_and_typed(row):
    for dtype in ("float32", "float64"):
        first, second = (draw(row, (6, 4), np.random.default_rng(5), given(row), dtype) for _ in range(2))
        assert first.dtype == np.dtype(dtype)
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("hee", (3, 4)), "unknown initialiser"),
        (("he", (3,)), "no fan"),
        (("he", (0, 4)), "empty axis"),
        (("gain", (3, 4)), "name one"),
        (("gain", (3, 4), "nope"), "unknown"),
        (("gain_backward", (3, 4), "step"), "no variance keeps"),
        (("he", (3, 4), None, "int32"), "dtype"),
    ],
)
def test_wrong_input_is_named(arguments, words):
    name, shape, *rest = arguments
    with pytest.raises(InputError, match=words):
        draw(name, shape, np.random.default_rng(0), *rest)


def test_no_generator_no_draw():
    with pytest.raises(InputError, match="Generator"):
        draw("he", (3, 4), 0)
    with pytest.raises(InputError, match="positive integer"):
        initialiser("he").variance(0, 3)


def test_a_row_that_contradicts_itself_is_refused():
    with pytest.raises(AssertionError, match="compromise"):
        Initialiser("both", "", ("forward", "backward"), "relu", "normal")
    with pytest.raises(AssertionError):
        Initialiser("cauchy", "", ("forward",), "relu", "cauchy")
