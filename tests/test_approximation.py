"""Constructive approximation: every bound must hold at every point tried in balls, and a wrong bound must be caught."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import flint
import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.approximation import CONSTRUCTIONS, approximate, choose, polynomial_barrier
from backproof.theory.enclosures import ball_function, exact_value
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.gates import hinge, step, upper
from backproof.theory.interpolation import interpolation_barrier
from backproof.theory.staircases import bump
from backproof.theory.supremum import PRECISION, Unbounded, above, bottom, readable, supremum, top
from backproof.theory.target import target

#: (formula, interval): smooth, kinked at rational and irrational points, convex, constant, steep at an end.
TARGETS = [
    ("sin(2*pi*x)", "0,1"),
    ("exp(-x**2)*cos(8*x)", "-2,2"),
    ("abs(x)", "-1,2"),
    ("abs(x**2 - 1/2)", "-1,1"),
    ("abs(sin(3*x))", "0,2"),
    ("max(0, 1 - abs(x))", "-3/2,3/2"),
    ("exp(x)", "0,1"),
    ("sqrt(x)", "1/100,1"),
    ("1/x", "1/2,2"),
    ("tanh(5*x)", "-1/3,2/3"),
    ("7/3", "0,1"),
    ("2 - x/3", "-1,5"),
]
STEPS = [
    "sigmoid",
    "tanh",
    "erf",
    "step",
    "sign",
    "arctan",
    "softsign",
    "hard_sigmoid",
    "x/sqrt(1+x**2)",
    "1-sigmoid(x)",
]
HINGES = [
    "relu",
    "leaky_relu",
    "prelu",
    "relu6",
    "hard_tanh",
    "softshrink",
    "softplus",
    "gelu",
    "silu",
    "elu",
    "log_sigmoid",
]


def _names(check):
    found = []
    for name in ACTIVATIONS:
        try:
            check(name)
            found.append(name)
        except Unsupported:
            pass
    return found


def points_of(a, count=48):
    """Even points, knots, middles between knots, and the ends."""
    f = a.target
    even = [f.a + f.length * Fraction(2 * k + 1, 2 * count) for k in range(count)]
    knots = [k for k in a.network.knots if f.a <= k <= f.b][:: max(1, a.network.units // 12)]
    return [f.a, f.b, *even, *knots, *((p + q) / 2 for p, q in pairwise(knots))]


def refuted_at(a, bound, points=None):
    """The points where |F − f| is proven to exceed the bound."""
    return [p for p in (points or points_of(a)) if bottom(a.error_at(p).abs_lower()) > bound]


# --- suprema ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=5), st.integers(-3, 2), st.integers(1, 3))
def test_supremum_encloses_polynomials(coefficients, a, width):
    def g(t):
        return sum((c * t**k for k, c in enumerate(coefficients)), arb(0))

    a, b = Fraction(a), Fraction(a + width)
    found = supremum(g, a, b)
    grid = np.linspace(float(a), float(b), 401)
    seen = np.polyval(coefficients[::-1], grid).max()
    assert float(found.lower) <= float(found.upper)
    assert seen <= float(found.upper) + 1e-9
    assert float(found.upper) <= seen + 0.02 * abs(seen) + 0.2 * width * max(map(abs, coefficients))
    assert top(g(exact_value(found.where))) >= found.lower


def test_supremum_refuses_a_pole_and_says_where():
    with pytest.raises(Unbounded) as refusal:
        supremum(lambda t: 1 / (t - exact_value(Fraction(1, 3))), Fraction(0), Fraction(1))
    assert abs(refusal.value.where - Fraction(1, 3)) < Fraction(1, 2**30)


def test_supremum_is_not_a_grid_maximum():
    spike = ball_function(target("exp(-((x-0.123456789)*1e6)**2)").expr)
    assert supremum(spike, Fraction(0), Fraction(1)).upper >= 1
    grid = [Fraction(k, 100) for k in range(101)]
    assert max(float(spike(exact_value(p)).upper()) for p in grid) < 1e-9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exp(exp(exp(x)))", r"takes values beyond 2\^10000 in \[0, 4\], near x = 2.4"),
        ("1/(x**2-2)**9", "is not defined .* near x = 1.41421"),
        ("1/x", "is not defined .* near x = 0 "),
    ],
)
def test_too_large_is_not_called_undefined(text, words):
    with pytest.raises(InputError, match=words):
        approximate(text, "relu", units=5, interval=(0, 4))


def test_readable_never_overflows():
    assert readable(Fraction(10) ** 9000 * 2 / 3) == "6.66667e8999"
    assert above(Fraction(-(10**9000), 3)) == "-3.333e8999"
    assert readable(Fraction(10) ** 500) == "1e500"
    assert readable(Fraction(1, 10**500)) == "1e-500"
    assert readable(Fraction(0)) == "0"


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "interval"), TARGETS)
def test_lipschitz_constant_bounds_every_difference_quotient(text, interval):
    f = target(text, interval)
    grid = [f.a + f.length * Fraction(k, 200) for k in range(201)]
    values = [f.ball(p) for p in grid]
    slope = f.lipschitz.upper
    for (p, q), (u, v) in zip(pairwise(grid), pairwise(values)):
        assert bottom((v - u).abs_lower()) <= slope * (q - p)
    assert f.lipschitz.lower <= slope <= f.lipschitz.lower * Fraction(102, 100) + Fraction(1, 10**6)


@pytest.mark.parametrize(
    ("text", "interval", "words"),
    [
        ("1/x", "-1,1", "not defined"),
        ("log(x)", "0,1", "not defined"),
        ("log(x)", "-2,1", "x = -2"),
        ("tan(x)", "0,2", "x = 1.5708"),
        ("sqrt(x)", "0,1", "slope"),
        ("sqrt(x)", "-1,1", "not defined"),
        ("sign(x)", "-1,1", "jumps at x = 0"),
        ("where(x > 0.3, 1, 0)", "0,1", "at least 0.5"),
        ("where(x**2 > 1/2, 1, 0)", "0,1", "jumps"),
        ("where(x == 1/2, 1, 0)", "0,1", "jumps"),
        ("where(x <= 0, 5, 1)", "0,1", "jumps"),
        ("where(x**2 == 1/2, 1, 0)", "0,1", "jumps at x = 0.707107"),
        ("where(x > 1/2, x, x + 1e-200)", "0,1", "jumps|branches meet"),
        ("where(sin(x) > 1/2, sin(x), where(cos(x) > 2/3, 1/2, cos(x) - 1/6))", "0,1", "continuous"),
        ("where(sin(x) > 0.3, x, 0)", "0,1", "cannot show that it is continuous"),
        ("atan(1/x)", "-1,1", "not defined"),
        ("exp(exp(exp(x)))", "0,3", "takes values beyond"),
        ("y", "0,1", "unknown name"),
        ('__import__("os")', "0,1", "formula"),
        ("x", "1,0", "smaller end first"),
        ("x", "0,0", "empty"),
        ("x", "0,inf", "finite"),
        ("x", "nan,1", "finite"),
        ("x", "0", "two numbers"),
        ("x", "0,1e30", "within"),
        ("x", "pi,4", "rational"),
    ],
)
def test_unsuitable_targets_are_refused_with_the_reason(text, interval, words):
    with pytest.raises(InputError, match=words) as refusal:
        target(text, interval).lipschitz  # noqa: B018
    assert "\n" not in str(refusal.value)


def test_target_values_carry_their_rounding():
    f = target("sin(2*pi*x)")
    value, error = f.dyadic(Fraction(1, 7), 40)
    assert 0 < error <= Fraction(1, 2**40)
    with flint.ctx.workprec(200):
        assert top(abs(f.ball(Fraction(1, 7), 200) - exact_value(value))) <= error + Fraction(1, 2**150)


# --- activations as steps and hinges ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _names(step))
def test_mean_distance_agrees_with_proven_quadrature(name):
    """SymPy's integral lies between Riemann sums in balls: E min(|Z|, T), and E|Z| beyond it by a small tail."""
    part = step(name)
    limit = Fraction(64)
    low, high = part.clipped_mean(limit)
    if part.mean_distance is not None and part.mean_distance.is_finite:
        assert low <= upper(part.mean_distance) + Fraction(1, 10**20)
        assert upper(part.mean_distance) <= high + Fraction(1, 1000)
    smear = part.smear(Fraction(1), limit)
    assert low <= smear + Fraction(1, 10**20)
    assert high - low <= Fraction(3, 100) * (1 + high)


@pytest.mark.parametrize("name", _names(step))
def test_a_step_rises_from_0_to_1(name):
    distribution = ball_function(step(name).distribution)
    places = [Fraction(k, 4) for k in range(-80, 81)]
    with flint.ctx.workprec(PRECISION):
        values = [distribution(exact_value(p)) for p in places]
        assert all(not (v < u) for u, v in pairwise(values))
        assert all(v > -1e-9 and v < 1 + 1e-9 for v in values)
        far = [distribution(exact_value(Fraction(s * 10**9))) for s in (-1, 1)]
    assert far[0] < 1e-6
    assert far[1] > 1 - 1e-6


@pytest.mark.parametrize("name", _names(hinge))
def test_a_hinge_keeps_its_gap_and_the_gap_is_tight(name):
    part = hinge(name)
    phi = ball_function(part.activation.expr)
    reach = part.reach if part.reach is not None else Fraction(40)
    worst = Fraction(0)
    for k in range(-400, 401):
        z = reach * Fraction(k, 400)
        arm = part.value + (part.right if z > 0 else part.left) * z
        with flint.ctx.workprec(PRECISION):
            off = phi(exact_value(part.kink + z)) - exact_value(arm)
        assert bottom(off.abs_lower()) <= part.gap
        worst = max(worst, top(off.abs_upper()))
    assert worst >= part.gap * Fraction(9, 10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_used_or_refused_with_a_reason(name):
    try:
        a = approximate("abs(x - 1/3)", name, epsilon="1/8")
    except Unsupported as refusal:
        reason = str(refusal)
    else:
        assert a.bound <= Fraction(1, 8)
        assert not refuted_at(a, a.bound)
        return
    assert name in reason


def test_polynomial_activations_are_refused_and_why():
    with pytest.raises(Unsupported, match=r"polynomial of degree 3.*none is within 0\.[0-9]+ of sin"):
        approximate("sin(2*pi*x)", "x**3 - x", epsilon="0.1")
    with pytest.raises(Unsupported, match="this target is one of them"):
        approximate("x**2", "x**2", epsilon="0.1")


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5, 8])
def test_no_polynomial_fit_beats_the_barrier(degree):
    f = target("sin(7*x)", "-1,1")
    barrier = float(polynomial_barrier(f, degree))
    grid = np.linspace(-1, 1, 4001)
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    fits = [
        np.polynomial.Polynomial.fit(grid, np.sin(7 * grid), degree),
        np.polynomial.Polynomial.fit(nodes, np.sin(7 * nodes), degree),
    ]
    errors = [np.max(np.abs(p(grid) - np.sin(7 * grid))) for p in fits]
    assert 0 < barrier <= min(errors)
    assert barrier >= 0.2 * min(errors)


# --- constructions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", CONSTRUCTIONS.values(), ids=lambda r: r.name)
@pytest.mark.parametrize(("text", "interval"), TARGETS)
def test_bound_holds_everywhere_tried(row, text, interval):
    f = target(text, interval)
    for name in STEPS + HINGES:
        try:
            a = approximate(f, name, units=24, construction=row.name)
        except Unsupported:
            continue
        assert a.network.units <= 24
        assert not refuted_at(a, a.bound), name


@pytest.mark.parametrize("row", CONSTRUCTIONS.values(), ids=lambda r: r.name)
def test_epsilon_is_kept_with_the_fewest_cells(row):
    name = "sigmoid" if row.prepare is step else "relu"
    a = approximate("exp(x)", name, epsilon="1/20", construction=row.name)
    assert a.bound <= Fraction(1, 20)
    assert not refuted_at(a, Fraction(1, 20))
    part = row.prepare(name)
    assert a.cells == row.least or row.design(a.target, part, a.cells - 1).bound > Fraction(1, 20) * (
        1 - Fraction(1, 2**19)
    )


@pytest.mark.parametrize(("name", "share"), [("step", 2), ("relu", 2), ("sigmoid", 4), ("tanh", 4)])
def test_a_wrong_bound_is_caught(name, share):
    """The bounds are near enough to the truth that a fraction of them is refuted: the test above can fail."""
    a = approximate("sin(2*pi*x)", name, units=24)
    assert refuted_at(a, a.bound / share)


def test_a_wrong_weight_is_caught():
    a = approximate("sin(2*pi*x)", "relu", units=24)
    outer = list(a.network.outer)
    outer[5] += Fraction(1, 2)
    broken = type(a.network)(a.network.activation, a.network.offset, a.network.knots, a.network.weights, tuple(outer))
    wrong = type(a)(a.construction, a.target, broken, a.terms, a.facts, a.cells)
    assert refuted_at(wrong, wrong.bound)


@pytest.mark.parametrize(("name", "order"), [("relu", 2), ("sigmoid", 1), ("softplus", 2), ("step", 1)])
def test_observed_order_is_the_stated_one(name, order):
    row, _ = choose(name, None)
    assert row.rate == ("O(1/N²)" if order == 2 else "O(1/N)")
    few, many = (approximate("exp(x)", name, units=n) for n in (16, 64))
    assert 0.8 * 4**order <= few.bound / many.bound <= 1.35 * 4**order


def test_exact_where_the_target_is_piecewise_linear():
    a = approximate("abs(abs(x) - 1) - x/3", "relu", interval="-3,2", epsilon="1e-9")
    assert a.network.units == 4
    assert a.bound <= Fraction(1, 2**60)


def test_irrational_outer_weights_pay_for_their_rounding():
    a = approximate("sin(2*pi*x)", "arctan", units=20)
    assert a.terms[-1].name == "rounded weights"
    assert 0 < a.terms[-1].value < Fraction(1, 10**14)
    assert not refuted_at(a, a.bound)


def test_page_sizes_for_the_logistic_staircase():
    """N = ⌈L(b−a)/ε⌉ and w = 4 ln 2·L/ε, the sizes that the theorem promises."""
    a = approximate("x", "sigmoid", epsilon="1/100")
    assert a.cells in (100, 101)
    assert abs(float(a.facts["w"]) - 4 * np.log(2) * 100) < 3


@pytest.mark.parametrize("cells", [1, 2, 5, 20, 100])
@pytest.mark.parametrize(("text", "interval"), [t for t in TARGETS if t[0] not in ("7/3", "2 - x/3")])
def test_no_interpolant_beats_the_barrier(text, interval, cells):
    f = target(text, interval)
    least = interpolation_barrier(f, cells)
    a = approximate(f, "relu", units=max(cells - 1, 1))
    assert least <= a.bound
    if text == "exp(x)":
        assert interpolation_barrier(f, cells) >= approximate(f, "relu", units=cells).bound / 12


def test_barrier_of_a_parabola_is_within_the_optimum():
    optimum = Fraction(1, 8 * 100**2)  # best piecewise-linear fit of x² on [0, 1] with 100 pieces: h²/16·2
    least = interpolation_barrier(target("x**2"), 100)
    assert optimum / 2 <= least <= optimum


@settings(max_examples=25, deadline=None)
@given(
    st.integers(-20, 20),
    st.integers(1, 12),
    st.integers(-5, 5),
    st.fractions(0, 1, max_denominator=50),
    st.sampled_from(["relu", "sigmoid", "hard_tanh", "softsign", "silu"]),
    st.integers(1, 40),
    st.data(),
)
def test_bound_holds_for_random_targets(p, q, r, d, name, units, data):
    a = approximate(f"{p}*sin({q}*x) + {r}*abs(x - {d})", name, units=units)
    places = data.draw(st.lists(st.fractions(0, 1), min_size=4, max_size=12))
    assert not refuted_at(a, a.bound, places)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": "0"}, "positive"),
        ({"epsilon": "-1"}, "positive"),
        ({"epsilon": "nan"}, "finite"),
        ({"epsilon": "inf"}, "finite"),
        ({"epsilon": "1e-30"}, "larger epsilon"),
        ({"epsilon": "1e-400"}, "larger epsilon"),
        ({"epsilon": "x"}, "finite number"),
        ({}, "either epsilon"),
        ({"epsilon": "1", "units": 3}, "not both"),
        ({"units": 0}, "between"),
        ({"units": 10**9}, "between"),
        ({"units": 2, "construction": "costarelli_spigler"}, "at least 4"),
        ({"units": 2, "construction": "stairs"}, "staircase"),
        ({"units": 2, "construction": "interpolation"}, "arms"),
    ],
)
def test_wrong_options_are_one_clear_line(options, words):
    with pytest.raises(InputError, match=words) as refusal:
        approximate("sin(x)", "sigmoid", **options)
    assert "\n" not in str(refusal.value)


# --- bumps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _names(step))
def test_bump_leaks_no_more_than_proven(name):
    b = bump(name, "0.4", "0.6", 300)
    margin = Fraction(1, 40)
    leak = b.leak(margin)
    for k in range(101):
        p = Fraction(k, 100)
        if min(abs(p - b.left), abs(p - b.right)) < margin:
            continue
        inside = 1 if b.left < p < b.right else 0
        with flint.ctx.workprec(PRECISION):
            assert bottom((b.network.ball(p) - inside).abs_lower()) <= leak


@pytest.mark.parametrize(
    ("left", "right", "steepness"),
    [("1", "0", "5"), ("0", "0", "5"), ("0", "1", "0"), ("0", "1", "-3"), ("0", "nan", "3")],
)
def test_wrong_bumps_are_refused(left, right, steepness):
    with pytest.raises(InputError):
        bump("sigmoid", left, right, steepness)
