"""Networks drawn and measured: right predictions are confirmed, wrong ones refuted, equal seeds give equal numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from flint import arb

from backproof.numerics import propagation
from backproof.numerics.initialise import draw
from backproof.numerics.kernels import kernel
from backproof.numerics.propagation import AGREES, DIFFERS, FINITE_WIDTH, Profile, measure
from backproof.theory.errors import InputError
from backproof.theory.initialisers import INITIALISERS


def test_relu_with_he_agrees_and_its_finite_width_ratio_too():
    found = measure("relu", "he", [64] * 13, networks=400, batch=2, seed=1)
    assert [p.outcome for p in found.profiles] == [AGREES] * 3
    assert found.agrees
    assert (found.forward, found.backward) == ("stable", "stable")
    predicted = float(found.predicted_ratio.mid())
    assert predicted == pytest.approx((1 + 5 / 64) ** 12)
    # The ratio's own scatter: about √(fourth moment ratio / 400), 0.4 of it at most.
    assert found.measured_ratio == pytest.approx(predicted, rel=0.4)


@pytest.mark.parametrize("row", INITIALISERS.values(), ids=INITIALISERS)
def test_every_initialiser(row):
    if not row.conditions:
        with pytest.raises(InputError, match="variance before tanh is zero"):
            measure("tanh", row, [32] * 4)
        return
    found = measure("tanh", row, [48, 64, 32, 48], networks=24, batch=8, bias_variance="0.1", seed=2)
    assert found.agrees, [(p.what, p.outcome, p.z) for p in found.profiles]


@pytest.mark.parametrize(
    ("f", "initialiser", "forward", "backward"),
    [
        ("relu", "lecun", "vanishing", "vanishing"),
        ("tanh", "gain", "stable", "exploding"),
        ("sigmoid", "glorot", "stable", "vanishing"),
        ("step", "lecun", "stable", "vanishing"),
        ("x*tanh(log(1+exp(x)))", "lecun", "vanishing", "vanishing"),
    ],
)
def test_verdicts_are_measured_too(f, initialiser, forward, backward):
    found = measure(f, initialiser, [96] * 25, networks=24, batch=4, seed=3)
    assert (found.forward, found.backward) == (forward, backward)
    assert found.agrees
    measured = found.preactivation.log_measured[-1] - found.preactivation.log_measured[0]
    assert (measured < -math.log(10)) == (forward == "vanishing")
    gradient = found.gradient.log_measured[0]
    assert (gradient < -math.log(10)) == (backward == "vanishing")
    assert (gradient > math.log(10)) == (backward == "exploding")


@pytest.mark.parametrize("wrong", [0.8, 1.25])
@pytest.mark.parametrize("which", ["preactivation", "activation", "gradient"])
def test_a_wrong_prediction_is_refuted(wrong, which):
    """20 % off in variance at every layer but those fixed by construction."""
    found = measure("relu", "he", [256] * 5, networks=40, batch=16, seed=0)
    profile = getattr(found, which)
    assert profile.outcome == AGREES
    off = dataclasses.replace(profile, predicted=tuple(p * wrong for p in profile.predicted))
    assert off.outcome == DIFFERS
    assert not dataclasses.replace(found, **{which: off}).agrees


def test_pytorchs_tanh_gain_is_measured_to_explode():
    """5/3 for tanh: gradients grow by 21 % a layer (χ₁ = 1.2098), far beyond chance from staying."""
    found = measure("tanh(5/3*x)", "lecun", [128] * 31, networks=24, batch=8, seed=5, input_variance="0.4242525765")
    late = found.gradient.log_measured
    growth = math.exp((late[4] - late[24]) / 20)
    assert growth == pytest.approx(1.2098, rel=0.02)
    assert found.gradient.outcome != DIFFERS


def test_gradients_are_those_of_backpropagation():
    """δ⁽¹⁾ of a small network against central differences of Σ z⁽ᴸ⁾·δ⁽ᴸ⁾."""
    sizes, f = (3, 4, 5, 2), kernel("tanh")
    net = propagation._Network(INITIALISERS["lecun_normal"], f.activation, sizes, 0.3, 9, 0)
    start = propagation._directions(net.generator(0), (2, 3))
    delta = propagation._directions(net.generator(-1), (2, 2))
    delta /= np.sqrt(np.mean(delta**2))

    def output(shift):
        a = f(net.preactivation(1, start) + shift)
        for layer in (2, 3):
            z = net.preactivation(layer, a)
            a = f(z)
        return float(np.sum(z * delta))

    gradient = np.empty((2, 4))
    for index in np.ndindex(gradient.shape):
        shift = np.zeros((2, 4))
        shift[index] = 1e-6
        gradient[index] = (output(shift) - output(-shift)) / 2e-6
    logs, _ = propagation._propagate(net, f, 2, 1.0, lambda steps: None)
    assert logs[2, 0] == pytest.approx(math.log(np.mean(gradient**2)), abs=1e-6)
    assert logs[2, -1] == 0


def test_equal_seeds_equal_numbers_and_other_seeds_others():
    first, again, other = (measure("relu", "he", [16] * 6, networks=4, batch=3, seed=s) for s in (7, 7, 8))
    for a, b, c in zip(first.profiles, again.profiles, other.profiles, strict=True):
        assert a.logs.tobytes() == b.logs.tobytes()
        assert a.logs.tobytes() != c.logs.tobytes()


def test_drawing_again_or_keeping_the_weights_gives_the_same(monkeypatch):
    kept = measure("tanh", "glorot", [16] * 8, networks=3, batch=3, bias_variance=1)
    monkeypatch.setattr(propagation, "_CACHE_BYTES", 0)
    drawn_again = measure("tanh", "glorot", [16] * 8, networks=3, batch=3, bias_variance=1)
    for a, b in zip(kept.profiles, drawn_again.profiles, strict=True):
        assert a.logs.tobytes() == b.logs.tobytes()


def test_memory_grows_with_the_root_of_the_depth(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(propagation, "_CACHE_BYTES", 0)
    peaks = []
    for depth in (25, 400):
        f = kernel("relu")
        net = propagation._Network(INITIALISERS["he_normal"], f.activation, (8,) * (depth + 1), 0.0, 0, 0)
        propagation._propagate(net, f, 4000, 1.0, lambda steps: None)
        tracemalloc.start()
        propagation._propagate(net, f, 4000, 1.0, lambda steps: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 6 * peaks[0]  # 16 times the depth, 4 times the root


def test_progress_counts_every_layer_both_ways():
    seen = []
    measure("relu", "he", [8] * 6, networks=3, batch=2, progress=seen.append)
    assert sum(seen) == 2 * 5 * 3


def test_extreme_depths_neither_underflow_nor_overflow():
    deep = measure("sigmoid", "glorot", [8] * 601, networks=3, batch=2)
    assert np.isfinite(deep.gradient.log_measured).all()
    assert deep.gradient.log_measured[0] < -1500
    exploding = measure("squared_relu", "he", [16] * 40, networks=3, batch=2, input_variance=100)
    assert exploding.forward == "exploding"
    assert not exploding.preactivation.judged[-1]
    assert exploding.preactivation.judged[0]


@pytest.mark.parametrize("widths", [[1, 1], [1, 1, 1], [5, 1, 7], [2, 300]])
def test_odd_shapes(widths):
    found = measure("relu", "he", widths, networks=5, batch=1)
    assert found.depth == len(widths) - 1
    assert all(p.outcome in {AGREES, FINITE_WIDTH, DIFFERS, "not decided"} for p in found.profiles)


# --- The statistics ---


def synthetic(rng, spread, count, mean=3.0):
    """Log-normal numbers whose mean is exactly ``mean``."""
    logs = rng.normal(math.log(mean) - spread**2 / 2, spread, size=(count, 1))
    return Profile("q", (arb(mean),), logs, np.array([0.0]))


@pytest.mark.parametrize("spread", [0.05, 1.0])
@pytest.mark.parametrize("count", [8, 32])
def test_intervals_cover_the_mean_as_often_as_they_say(spread, count):
    rng = np.random.default_rng(0)
    covered, z = 0, []
    for _ in range(400):
        profile = synthetic(rng, spread, count)
        low, high = profile.interval
        covered += bool(low[0] <= math.log(3.0) <= high[0])
        z.append(profile.z[0])
    assert 0.91 < covered / 400 < 0.985
    assert abs(np.mean(z)) < 0.5
    assert 0.75 < np.std(z) < 1.3
    assert np.max(np.abs(z)) < propagation.CRITICAL


def test_zeros_are_exact_and_mixtures_are_not_judged():
    none = Profile("δ", (arb(0),), np.full((5, 1), -np.inf), np.array([0.0]))
    assert none.outcome == AGREES
    some = Profile("δ", (arb(1),), np.array([[0.0], [-np.inf], [0.1]]), np.array([0.0]))
    assert some.outcome == "not decided"
    missed = Profile("δ", (arb(0),), np.array([[0.0], [0.2], [0.1]]), np.array([0.0]))
    assert missed.outcome == DIFFERS
    vanished = Profile("δ", (arb(1),), np.full((5, 1), -np.inf), np.array([0.0]))
    assert vanished.outcome == DIFFERS


def test_finite_width_is_said_when_it_explains_the_distance():
    logs = np.random.default_rng(0).normal(0.05, 1e-3, size=(50, 1))
    assert Profile("q", (arb(1),), logs, np.array([0.1])).outcome == FINITE_WIDTH
    assert Profile("q", (arb(1),), logs, np.array([0.01])).outcome == DIFFERS


def test_agreement_needs_every_layer_and_one_layer_refutes():
    """A second layer that overflowed: no agreement, not even up to finite width; a contradiction stays one."""
    first = np.random.default_rng(0).normal(0.05, 1e-3, size=(50, 1))
    logs = np.hstack([first, np.full((50, 1), np.inf)])
    assert Profile("q", (arb(1), arb(1)), logs, np.array([0.1, 0.1])).outcome == "not decided"
    assert Profile("q", (arb(1), arb(1)), logs, np.array([0.01, 0.01])).outcome == DIFFERS
    cubes = measure("x**3", "he", [16] * 11, networks=4, batch=2)
    assert cubes.gradient.outcome == cubes.outcome == "not decided"
    assert not cubes.agrees


# --- Wrong input ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": [4]}, "depth must be"),
        ({"widths": [4] * 20_000}, "depth must be"),
        ({"widths": [4, 0]}, "positive integer"),
        ({"widths": [4, 2.5]}, "positive integer"),
        ({"widths": [10**6, 10**6]}, "needs an array of"),
        ({"widths": [10**30, 2]}, "needs an array of"),
        ({"networks": 1}, "networks must be"),
        ({"networks": 2.0}, "networks must be"),
        ({"batch": 0}, "batch must be"),
        ({"f": "rleu"}, "did you mean"),
        ({"row": "hee"}, "unknown initialiser"),
        ({"bias_variance": "-1"}, "not negative"),
        ({"input_variance": 0}, "positive"),
        ({"input_variance": float("nan")}, "finite"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_wrong_input_is_named(change, words):
    arguments = {"f": "relu", "row": "he", "widths": [4, 4], **change}
    with pytest.raises(InputError, match=words):
        measure(**arguments)


def test_rows_are_drawn_as_the_initialiser_draws_them():
    row = INITIALISERS["glorot_uniform"]
    f = kernel("relu").activation
    net = propagation._Network(row, f, (6, 5, 4), 0.0, 3, 2)
    np.testing.assert_array_equal(net.layer(2)[0], draw(row, (5, 4), net.generator(2), f))
