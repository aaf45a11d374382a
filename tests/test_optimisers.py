"""Every optimiser's rule: consistent, reducible as claimed, and the same steps as PyTorch's."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Rational, Symbol

from backproof.theory.errors import InputError, Unsupported
from backproof.theory.optimisers import (
    KEYWORDS,
    OPTIMISERS,
    REDUCTIONS,
    Optimiser,
    beta1,
    constant_gradient_state,
    constant_gradient_step,
    epsilon,
    eta,
    g,
    lam,
    mu,
    optimiser,
    reduces_to,
    stability_limit,
    t,
    theta,
    transition_matrix,
)

ROWS = pytest.mark.parametrize("row", OPTIMISERS.values(), ids=list(OPTIMISERS))
CURVATURE = Symbol("L", positive=True)


def run_exactly(row: Optimiser, gradients, start=1, **hyper):
    values = {theta: Rational(start), **{s: Rational(0) for s in row.state}, **row.bind(**hyper)}
    for number, gradient in enumerate(gradients, start=1):
        values |= row.step({**values, g: gradient, t: number})
    return values[theta]


@ROWS
def test_a_row_is_whole(row):
    assert row.citation
    assert row.title
    assert set(row.keywords.values()) == set(row.hyper.values())
    assert "θ ←" in row.text
    assert "leftarrow" in row.latex
    assert optimiser(row.name.upper()) is row
    assert row.bind() == dict(row.hyper)
    # Old values only: no state appears where its new value is meant.
    for symbol, update in row.updates.items():
        assert update.free_symbols <= {theta, g, t, *row.state, *row.hyper}, symbol


@ROWS
def test_the_first_step_goes_downhill(row):
    assert run_exactly(row, [Rational(3)]) < 1
    assert run_exactly(row, [Rational(-3)], start=Rational(-1)) > -1


@ROWS
def test_nothing_moves_without_gradient_but_weight_decay(row):
    moved = run_exactly(row, [0, 0, 0]) - 1
    assert moved == ((1 - row.hyper[eta] * row.hyper[lam]) ** 3 - 1 if lam in row.hyper else 0)


@pytest.mark.parametrize(("general", "zeros", "special"), REDUCTIONS)
def test_reductions_are_proved(general, zeros, special):
    at_zero = {KEYWORDS[name]: 0 for name in zeros}
    assert reduces_to(OPTIMISERS[general], at_zero, OPTIMISERS[special])
    assert not reduces_to(OPTIMISERS[general], {symbol: Rational(1, 2) for symbol in at_zero}, OPTIMISERS[special])
    assert not reduces_to(OPTIMISERS[general], {}, OPTIMISERS[special])


def test_a_reduction_that_is_false_is_refused():
    assert not reduces_to(OPTIMISERS["adam"], {beta1: 0}, OPTIMISERS["rmsprop"])
    assert not reduces_to(OPTIMISERS["momentum"], {}, OPTIMISERS["nesterov"])
    # The update of θ agrees, the state behind it does not.
    momentum = OPTIMISERS["momentum"]
    m = momentum.state[0]
    other = replace(momentum, name="other", rule=((m, mu * m + (1 - mu) * g), (theta, theta - eta * m)))
    assert not reduces_to(momentum, {}, other)


@ROWS
def test_the_closed_form_is_what_the_steps_do(row):
    """The state and the step under a constant gradient, against the rule run exactly for five steps."""
    hyper = row.bind()
    values = {theta: Rational(0), **{s: Rational(0) for s in row.state}, **hyper}
    gradient = Rational(-3, 2)
    states, step = constant_gradient_state(row), constant_gradient_step(row)
    for number in range(1, 6):
        at = {**hyper, g: gradient, t: number}
        values[theta] = Rational(0)
        values |= row.step({**values, g: gradient, t: number})
        for symbol, form in states.items():
            assert sympy.simplify(form.subs(at) - values[symbol]) == 0
        assert sympy.simplify(step.subs(at) + values[theta]) == 0


def test_adam_bias_correction():
    """Adam's step under a constant gradient does not depend on t; without the correction it would."""
    adam = OPTIMISERS["adam"]
    assert constant_gradient_step(adam) == eta * g / (sympy.Abs(g) + epsilon)
    m, v = adam.state
    beta2 = KEYWORDS["beta2"]
    plain = replace(adam, rule=(*adam.rule[:2], (theta, theta - eta * m / (sympy.sqrt(v) + epsilon))))
    assert constant_gradient_step(plain).has(t)
    assert constant_gradient_step(plain).has(beta2)


def test_the_stability_limits_are_the_known_ones():
    limit = {name: stability_limit(OPTIMISERS[name], CURVATURE) for name in ("sgd", "momentum", "nesterov")}
    assert limit["sgd"] == 2 / CURVATURE
    assert sympy.simplify(limit["momentum"] - 2 * (1 + mu) / CURVATURE) == 0
    assert sympy.simplify(limit["nesterov"] - 2 * (1 + mu) / ((1 + 2 * mu) * CURVATURE)) == 0
    with pytest.raises(Unsupported, match="not linear"):
        stability_limit(OPTIMISERS["adam"], CURVATURE)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
@pytest.mark.parametrize("momentum", [Rational(0), Rational(1, 2), Rational(9, 10)])
def test_the_limit_is_sharp(name, momentum):
    """Just below the limit the spectral radius is below 1, just above it is not: checked by eigenvalues."""
    row = OPTIMISERS[name]
    limit = stability_limit(row, CURVATURE).subs({mu: momentum, CURVATURE: 3})
    for factor, stable in ((Rational(1, 10), True), (Rational(99, 100), True), (Rational(101, 100), False)):
        matrix = transition_matrix(row, CURVATURE).subs({mu: momentum, CURVATURE: 3, eta: limit * factor})
        radius = max(abs(complex(value.evalf(30))) for value in matrix.eigenvals())
        assert (radius < 1) == stable


def test_a_rule_that_never_converges_has_no_limit():
    climbing = replace(OPTIMISERS["sgd"], rule=((theta, theta + eta * g),))
    with pytest.raises(Unsupported, match="not shown to converge"):
        stability_limit(climbing, CURVATURE)


TORCH = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": "momentum"}),
    "nesterov": ("SGD", {"momentum": "momentum"}),
    "rmsprop": ("RMSprop", {"decay": "alpha", "epsilon": "eps"}),
    "adam": ("Adam", {"epsilon": "eps"}),
    "adamw": ("AdamW", {"epsilon": "eps", "weight_decay": "weight_decay"}),
}


@ROWS
def test_the_steps_are_torchs(row):
    """Six steps with changing gradients, exact rationals against float64: within a few rounding errors."""
    torch = pytest.importorskip("torch")
    name, renamed = TORCH[row.name]
    options = {ours: float(row.keywords[keyword]) for keyword, ours in renamed.items()}
    if "beta1" in row.keywords:
        options["betas"] = (float(row.keywords["beta1"]), float(row.keywords["beta2"]))
    if row.name == "nesterov":
        options["nesterov"] = True
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    theirs = getattr(torch.optim, name)([weight], lr=float(row.keywords["learning_rate"]), **options)
    gradients = [Fraction(n, 4) for n in (3, -1, 2, 7, -5, 1)]
    for gradient in gradients:
        weight.grad = torch.tensor([float(gradient)], dtype=torch.float64)
        theirs.step()
    exact = run_exactly(row, [Rational(q.numerator, q.denominator) for q in gradients])
    assert abs(float(exact.evalf(30)) - weight.item()) < 1e-14


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.fractions(-10, 10, max_denominator=50), min_size=1, max_size=5), st.fractions(-5, 5, max_denominator=20)
)
def test_without_momentum_the_path_is_sgds(gradients, start):
    exact = [Rational(q.numerator, q.denominator) for q in gradients]
    rules = (("sgd", {}), ("momentum", {"momentum": 0}), ("nesterov", {"momentum": 0}))
    begin = Rational(start.numerator, start.denominator)
    path = [run_exactly(OPTIMISERS[name], exact, begin, **options) for name, options in rules]
    assert path[0] == path[1] == path[2]


def test_a_float_hyper_parameter_is_the_decimal_it_prints_as():
    assert OPTIMISERS["adam"].bind(learning_rate=0.1)[eta] == Rational(1, 10)
    assert OPTIMISERS["adam"].bind(learning_rate="1/3")[eta] == Rational(1, 3)
    assert OPTIMISERS["sgd"].bind(learning_rate=1e-3)[eta] == Rational(1, 1000)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("sgd", {"momentum": 0.9}, "sgd has no hyper-parameter 'momentum': it has learning_rate"),
        ("sgd", {"learning_rate": 0}, "above 0"),
        ("sgd", {"learning_rate": float("nan")}, "not a number"),
        ("sgd", {"learning_rate": float("inf")}, "not a number"),
        ("sgd", {"learning_rate": "fast"}, "not a number"),
        ("momentum", {"momentum": 1}, "below 1"),
        ("adam", {"beta2": -0.1}, "at least 0"),
    ],
)
def test_wrong_hyper_parameters(name, values, said):
    with pytest.raises(InputError, match=said):
        OPTIMISERS[name].bind(**values)


def test_an_unknown_optimiser_gets_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'adam'"):
        optimiser("adm")


def test_an_inconsistent_row_is_refused():
    sgd = OPTIMISERS["sgd"]
    with pytest.raises(ValueError, match="nothing defines"):
        replace(sgd, rule=((theta, theta - eta * Symbol("q")),))
    with pytest.raises(ValueError, match="θ last"):
        replace(sgd, rule=((Symbol("s"), g),))
