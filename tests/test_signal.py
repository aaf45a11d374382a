"""Signal propagation: variance maps, fixed points, verdicts, each against what is known or computed another way."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import sympy
from flint import arb, ctx

from backproof.theory import signal
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.gaussian import moment
from backproof.theory.signal import Maps, finite_width_ratio, fixed_points, homogeneity, predict, verdict

#: Without bias their variance falls faster than exponentially: below 10⁻³⁰⁰ within a few layers.
COLLAPSE = {"tanhshrink": 4, "softshrink": 3, "hardshrink": 3}
ROWS = pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS)


def iterated(f, s, bias, depth, start=1.0):
    """The maps in floats, by 200-node Gauss–Legendre quadrature between the kinks."""
    from scipy.special import roots_legendre

    nodes, weights = roots_legendre(200)
    value, slope = (
        sympy.lambdify(sympy.Symbol("x", real=True), e, ["scipy", "numpy"]) for e in (f.expr, f.expr.diff())
    )
    kinks = [float(k) for k in f.borders]

    def expectation(h, q):
        root = q**0.5
        ends = sorted({-12.0, 12.0, 0.0, *(k / root for k in kinks if abs(k / root) < 12)})
        total = 0.0
        for a, b in pairwise(ends):
            z = (b - a) / 2 * nodes + (a + b) / 2
            with np.errstate(all="ignore"):
                density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
                total += (b - a) / 2 * np.sum(weights * density * np.broadcast_to(h(root * z), z.shape) ** 2)
        return total

    q, found = s * start + bias, []
    for _ in range(depth):
        found.append((q, expectation(slope, q)))
        q = s * expectation(value, q) + bias
    return [q for q, _ in found], np.append(np.cumprod([s * d for _, d in found[:-1]][::-1])[::-1], 1.0)


@ROWS
@pytest.mark.parametrize(("initialiser", "s", "bias"), [("lecun", 1, "0"), ("he", 2, "1/10")])
def test_every_row_against_floats(row, initialiser, s, bias):
    if row.name == "squared_relu":
        pytest.skip("exceeds float64 at this depth; its degree is tested below")
    depth = COLLAPSE.get(row.name, 12) if bias == "0" else 12
    found = predict(row, initialiser, [64] * (depth + 1), bias_variance=bias)
    forward, backward = iterated(row, s, float(Fraction(bias)), depth)
    for layer, q, d in zip(found.layers, forward, backward, strict=True):
        assert float(layer.preactivation.mid()) == pytest.approx(q, rel=1e-6)
        assert float(layer.gradient.mid()) == pytest.approx(d, rel=1e-6)
    assert found.digits >= 4


def test_relu_with_he_keeps_everything_exactly():
    found = predict("relu", "he_normal", [100] * 51)
    assert found.status == "exact"
    assert all(layer.preactivation == 2 and layer.activation == 1 and layer.gradient == 1 for layer in found.layers)
    assert found.verdict == "forward stable, backward stable"


@pytest.mark.parametrize(
    ("f", "initialiser", "expected"),
    [
        ("relu", "lecun", "forward vanishing, backward vanishing"),
        ("tanh", "gain", "forward stable, backward exploding"),
        ("sigmoid", "glorot", "forward stable, backward vanishing"),
        ("identity", "lecun", "forward stable, backward stable"),
        ("squared_relu", "he", "forward exploding, backward exploding"),
        ("step", "lecun", "forward stable, backward vanishing"),
    ],
)
def test_verdicts(f, initialiser, expected):
    assert predict(f, initialiser, [64] * 51).verdict == expected


def test_a_verdict_needs_a_proof():
    assert verdict(arb(1)) == "stable"
    assert verdict(arb("0.01")) == "vanishing"
    assert verdict(arb(100)) == "exploding"
    assert verdict(arb(10, 1)) == "not decided"


def test_fans_enter_forward_and_backward():
    """He's fan-in keeps the signal whatever the widths; the gradient gains fan_out/fan_in at each layer."""
    widths = [50, 100, 40, 80]
    found = predict("relu", "he", widths)
    assert [layer.preactivation for layer in found.layers] == [2, 2, 2]
    assert [(layer.fan_in, layer.fan_out) for layer in found.layers] == [(50, 100), (100, 40), (40, 80)]
    with ctx.workprec(96):
        assert found.layers[0].gradient.contains(arb(80) / 100)
        assert found.layers[1].gradient.contains(arb(80) / 40)
    backward = predict("relu", "he_fan_out", widths)
    assert all(layer.gradient.contains(1) for layer in backward.layers)


@pytest.mark.parametrize(
    ("text", "degree"),
    [("relu", 1), ("leaky_relu", 1), ("squared_relu", 2), ("x**3", 3), ("abs(x)", 1), ("step", 0), ("elu", None)],
)
def test_homogeneity(text, degree):
    assert homogeneity(activation(text)) == degree


@ROWS
def test_balls_contain_the_map_at_every_point_inside(row):
    maps = Maps(row)
    with ctx.workprec(96):
        for middle in ("0.3", "1.7"):
            wide = arb(middle) + arb(0, "1e-4")
            for order, over in enumerate((maps.second_moment, maps.derivative_moment)):
                value, slope = over(wide)
                for end in (wide.lower(), arb(middle).mid(), wide.upper()):
                    at, slope_at = over(end)
                    assert value.overlaps(at), order
                    assert slope.overlaps(slope_at), order


# --- Fixed points ---


def test_tanh_at_pytorchs_gain():
    """At gain 5/3 the variance settles at q*, and gradients grow by 21 % a layer."""
    (point,) = fixed_points("tanh", "25/9")
    with ctx.workprec(96):
        assert abs(point.q - arb("1.178480490386")) < arb("1e-11")
        assert abs(point.chi - arb("1.209831320383")) < arb("1e-11")
    assert point.stability == "stable"


def test_the_edge_of_chaos_of_tanh():
    """At σ_b = 0.3, σ_w = 1.39558397515490221: χ₁ = 1 at the fixed point."""
    (point,) = fixed_points("tanh", sympy.Rational("1.39558397515490221") ** 2, "0.09")
    assert abs(point.chi - 1) < arb("1e-12")


def test_the_gains_of_tanh_have_their_fixed_point_at_one():
    (point,) = fixed_points("tanh", 1 / sympy.Rational(moment("tanh").decimal(30)))
    assert abs(point.q - 1) < arb("1e-12")


@pytest.mark.parametrize("f", ["gelu", "silu"])
@pytest.mark.parametrize("weight", ["1", "2", "3", "3.9"])
def test_gelu_and_silu_without_bias_have_no_stable_fixed_point(f, weight):
    """Q(q)/q rises strictly from ¼ to ½: where the map crosses the diagonal it does so from below."""
    points = fixed_points(f, weight)
    assert all(point.stability == "unstable" for point in points)
    assert bool(points) == (2 < Fraction(weight) < 4)


def test_relu_has_no_isolated_fixed_point():
    assert fixed_points("relu", 2) == ()
    (point,) = fixed_points("relu", 1, 1)
    assert point.q.contains(2)
    assert abs(point.slope - Fraction(1, 2).numerator / arb(2)) < arb("1e-9")


def test_the_ratio_rises_from_a_quarter_to_a_half():
    for f in ("gelu", "silu"):
        maps = Maps(activation(f))
        with ctx.workprec(96):
            ratios = [maps.second_moment(arb(4) ** k)[0] / arb(4) ** k for k in range(-12, 12)]
            assert all(bool(a < b) for a, b in pairwise(ratios))
            assert ratios[0] > arb("0.25") > ratios[0] - arb("1e-6")
            assert ratios[-1] < arb("0.5")


# --- Finite width ---


def test_finite_width_of_relu():
    """∏ (1 + 5/n_l); for |x| the factor is 1 + 2/n, for the identity 1 + 2/n too."""
    widths = [7, 30, 20, 10]
    with ctx.workprec(96):
        expected = (1 + arb(5) / 30) * (1 + arb(5) / 20) * (1 + arb(5) / 10)
        assert finite_width_ratio("relu", "he", widths).overlaps(expected)
        expected = (1 + arb(2) / 30) * (1 + arb(2) / 20) * (1 + arb(2) / 10)
        assert finite_width_ratio("identity", "lecun", widths).overlaps(expected)
    assert finite_width_ratio("tanh", "lecun", widths) is None
    assert finite_width_ratio("relu", "he_uniform", widths) is None


# --- Wrong input, and wrong maps ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("relu", "he", [3]), "at least two widths"),
        (("relu", "he", [3, 0]), "positive integer"),
        (("relu", "he", [3, 2.5]), "positive integer"),
        (("relu", "hee", [3, 3]), "unknown initialiser"),
        (("rleu", "he", [3, 3]), "did you mean"),
        (("relu", "he", [3, 3], -1), "not negative"),
        (("relu", "he", [3, 3], "nan"), "nan"),
        (("relu", "he", [3, 3], 0, 0), "positive"),
        (("relu", "he", [3, 3], 0, float("inf")), "finite"),
        (("tanh", "zeros", [3, 3]), "layer 1: the variance before tanh is zero"),
        (("tanhshrink", "lecun", [64] * 30), "layer [0-9]+: the variance before tanhshrink is not proven"),
        (("exp(x**2)", "he", [3, 3]), "diverges"),
    ],
)
def test_wrong_input_is_named(arguments, words):
    with pytest.raises(InputError, match=words):
        predict(*arguments)


def test_a_growth_too_fast_to_follow_is_refused_not_guessed():
    with pytest.raises(Unsupported):
        predict("exp(x)", "he", [64] * 20)


def test_a_wrong_fixed_point_is_not_confirmed(monkeypatch):
    """A root finder that is handed a point without a sign change reports none."""
    monkeypatch.setattr(signal.Maps, "second_moment", lambda self, q: (q * arb("0.49"), arb("0.49")))
    signal._fixed_points.cache_clear()
    assert fixed_points("gelu", 2) == ()
    signal._fixed_points.cache_clear()
