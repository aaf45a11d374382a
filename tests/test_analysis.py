"""Facts of activations, held against independent samples in balls: a sample proves nothing, but it can refute."""

from itertools import pairwise

import flint
import pytest
import sympy
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.analysis import vanishes
from backproof.theory.enclosures import ball_function, enclose, exact_value
from backproof.theory.errors import Unsupported
from backproof.theory.symbols import x
from backproof.theory.zeros import signs

ROWS = list(ACTIVATIONS.values())
FORMULAS = ["abs(x)", "exp(-abs(x))", "max(x, x**2)", "sqrt(1+x**2)", "x/sqrt(1+x**2)", "log(1+x**2)", "sin(x)**2",
            "tanh(x)**2", "x*exp(-x**2)", "where(x>1, 2*x-1, x**2)", "min(max(x,-2),3)", "x**3-3*x"]  # fmt: skip
SUBJECTS = [*ROWS, *(activation(f) for f in FORMULAS)]
GRID = [k / 8 + 1 / 97 for k in range(-96, 97)] + [
    s * v for s in (1, -1) for v in (20.0, 50.0, 1e-3, 1e-6, 0.4999, 2.999, 5.9)
]


def name_of(f):
    return f.name


def values(expression):
    function = ball_function(expression)
    with flint.ctx.workprec(300):
        return [function(exact_value(p)) for p in sorted(GRID)]


@pytest.mark.parametrize("f", ROWS, ids=name_of)
def test_every_fact_of_a_row_is_decided(f):
    assert all(fact.decided for fact in f.analysis.facts), [r for r in f.analysis.rows() if "not decided" in r[2]]


@pytest.mark.parametrize("f", SUBJECTS, ids=name_of)
def test_range_holds_and_is_not_loose(f):
    low, high = f.analysis.range.data
    sample = values(f.expr)
    for value in sample:
        for extreme, above in ((low, value), (high, -value)):
            if not extreme.value.infinite:
                bound = extreme.value.ball if extreme is low else -extreme.value.ball
                assert not above < bound, (f.name, value)
                assert extreme.attained or not (above.is_exact() and bound.is_exact() and above == bound) or f.borders
    for extreme in (low, high):
        if not extreme.value.infinite:
            assert min(abs(v - extreme.value.ball).mid() for v in sample) < 0.03, "some value comes near each end"
        else:
            assert max(abs(v).mid() for v in sample) > 3


@pytest.mark.parametrize("f", SUBJECTS, ids=name_of)
def test_lipschitz_constant_holds_and_is_not_loose(f):
    worst = f.analysis.lipschitz.data
    slopes = [abs(v) for v in values(f.derivative())]
    if worst is None:
        assert any("jumps" in basis for _, _, basis in f.analysis.rows())
        return
    if worst.value.infinite:
        assert max(s.mid() for s in slopes) > 20
        return
    assert not any(s > worst.value.ball for s in slopes)
    assert max(s.mid() for s in slopes) > worst.value.ball.mid() * 0.98


@pytest.mark.parametrize("f", SUBJECTS, ids=name_of)
def test_monotonicity_convexity_and_parity_against_samples(f):
    sample, steps = values(f.expr), f.analysis
    rises = [b - a for a, b in pairwise(sample)]
    shape = steps.monotonicity.text
    if "increasing" in shape or shape == "non-decreasing":
        assert not any(r < 0 for r in rises)
    elif "decreasing" in shape or shape == "non-increasing":
        assert not any(r > 0 for r in rises)
    elif shape == "not monotone":
        assert any(r < 0 for r in rises)
        assert any(r > 0 for r in rises)
    function = ball_function(f.expr)
    with flint.ctx.workprec(300):
        bends = [
            function(exact_value(p) - 1) + function(exact_value(p) + 1) - 2 * function(exact_value(p)) for p in GRID
        ]
        mirrored = [function(-exact_value(p)) for p in sorted(GRID)]
        offset = 2 * function(arb(0))
    if steps.convexity.text in ("convex", "affine"):
        assert not any(b < 0 for b in bends)
    if steps.convexity.text in ("concave", "affine"):
        assert not any(b > 0 for b in bends)
    if steps.convexity.text.startswith("neither"):
        assert any(b < 0 for b in bends)
        assert any(b > 0 for b in bends)
    expected = {"even": lambda v: v, "odd": lambda v: -v}.get(steps.parity.text, lambda v: offset - v)
    agrees = all(m.overlaps(expected(v)) for m, v in zip(mirrored, sample, strict=True))
    assert agrees == (steps.parity.text != "neither even nor odd")


@pytest.mark.parametrize("f", ROWS, ids=name_of)
def test_asymptotes_are_approached(f):
    for fact, side in ((f.analysis.left_asymptote, -1), (f.analysis.right_asymptote, 1)):
        if not fact.text.startswith("y ="):
            assert "grows" in fact.text or "none" in fact.text
            continue
        slope, offset = fact.data if isinstance(fact.data, tuple) else (None, fact.data)
        line = offset.exact + (slope.exact * x if slope else 0)
        gaps = [enclose(f.expr - line, {x: side * 10**k}, digits=5).abs_upper() for k in (2, 4)]
        assert gaps[1] < gaps[0] + arb(10) ** -1000
        assert gaps[0] < 0.1


KNOWN = {
    "sigmoid": ("lipschitz", "1/4"),
    "tanh": ("lipschitz", "1"),
    "erf": ("lipschitz", "2/√π"),
    "relu": ("range", "[0, ∞)"),
    "relu6": ("range", "[0, 6]"),
    "elu": ("smoothness", "C^1"),
    "elu(alpha=2)": ("smoothness", "C^0"),
    "celu(alpha=2)": ("smoothness", "C^1"),
    "squared_relu": ("lipschitz", "none"),
    "gelu": ("lipschitz", "1.12890414518515"),
    "silu": ("range", "[-0.278464542761074, ∞)"),
    "softplus": ("convexity", "convex"),
    "log_sigmoid": ("right_asymptote", "y = 0"),
    "tanhshrink": ("right_asymptote", "y = x - 1"),
    "arctan": ("range", "(-π/2, π/2)"),
    "hard_sigmoid": ("parity", "symmetric about (0, 1/2)"),
    "hardshrink": ("smoothness", "discontinuous"),
    "step": ("lipschitz", "none"),
    "abs(x)": ("kinks", "x = 0"),
    "sqrt(1+x**2)": ("left_asymptote", "y = -x"),
    "log(1+x**2)": ("right_asymptote", "grows to +∞, slower than any line"),
    "exp(x)": ("right_asymptote", "grows without bound to +∞, faster than any line"),
    "x**3": ("monotonicity", "strictly increasing"),
    "cos": ("range", "[-1, 1]"),
}


@pytest.mark.parametrize("spec", KNOWN)
def test_known_facts(spec):
    name, text = KNOWN[spec]
    assert getattr(activation(spec).analysis, name).text == text


@pytest.mark.parametrize("formula", ["log(x)", "1/x", "sqrt(x)", "sin(x)/x", "asin(x)", "1/(x**2-2)", "x**(-1/3)"])
def test_a_formula_that_is_not_defined_everywhere_claims_nothing(formula):
    analysis = activation(formula).analysis
    for fact in (analysis.range, analysis.smoothness, analysis.lipschitz, analysis.monotonicity, analysis.kinks):
        assert not fact.decided
        assert "not defined" in fact.basis


ISOLATED = ["where(x==0,5,x)", "step(x)*step(-x)", "sign(x)**2", "abs(sign(x))", "sign(x**2)", "where(x==1,1,0)"]


@pytest.mark.parametrize("formula", ISOLATED)
def test_an_isolated_value_is_seen(formula):
    f = activation(formula)
    assert f.analysis.smoothness.text == "discontinuous"
    assert f.analysis.lipschitz.text == "none"
    assert f.analysis.monotonicity.text == "not monotone"
    assert f.analysis.kinks.text != "none"
    assert f.kinks
    assert "f jumps" in f.analysis.range.text
    low, high = (e.value.ball for e in f.analysis.range.data)
    for point in (-3, 0, 1, 3):
        value = ball_function(f.expr)(arb(point))
        assert (low is None or value >= low) and (high is None or value <= high)  # noqa: PT018


def test_an_isolated_value_that_changes_nothing_is_no_break():
    assert activation("where(x==0,0,x)").analysis.smoothness.text == "C^∞"


def test_a_branch_that_grows_without_bound_at_its_border():
    """log beside 0: the kink is told, nothing else is claimed."""
    analysis = activation("where(x>0,log(x),0)").analysis
    assert not analysis.lipschitz.decided
    assert activation("where(x>0,log(x),0)").kinks == (0,)


@pytest.mark.parametrize("formula", ["x*sin(x)", "x+sin(x)", "sin(x**2)", "tan(x)"])
def test_what_oscillates_for_ever_is_not_decided(formula):
    analysis = activation(formula).analysis
    assert not analysis.range.decided
    assert not analysis.lipschitz.decided
    assert not analysis.right_asymptote.decided or "periodic" in analysis.right_asymptote.basis


def test_the_facts_of_a_fresh_process_come_quickly():
    """Bounded work: a formula that needs too many boxes is left undecided, not waited for."""
    assert not activation("sin(50*x)*exp(-x**2)+cos(37*x)").analysis.range.decided


# ---------------------------------------------------------------------------------------------------- zeros and signs


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-12, 12), min_size=1, max_size=4, unique=True), st.integers(1, 3), st.sampled_from([1, -1]))
def test_polynomials_give_back_their_roots(roots, divisor, sign):
    exact = sorted(sympy.Rational(r, divisor) for r in roots)
    found = signs(sign * sympy.Mul(*(x - r for r in exact)), -sympy.oo, sympy.oo)
    assert [z.exact for z in found.zeros] == exact
    assert found.gaps == tuple(sign * (-1) ** (len(exact) - k) for k in range(len(exact) + 1))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_multiple_zeros_at_the_origin(k):
    assert signs(x**k * (1 + x**2), -sympy.oo, sympy.oo).gaps == ((-1) ** k, 1)
    assert signs(sympy.tanh(x) ** k, -sympy.oo, sympy.oo).gaps == ((-1) ** k, 1)
    assert signs(x**k, sympy.S.Zero, sympy.oo).gaps == (1,), "a zero at the open end is not inside"


@pytest.mark.parametrize("expression", [(x - 1) ** 2, (x - sympy.Rational(1, 3)) ** 2 * sympy.exp(x)])
def test_a_double_zero_away_from_the_origin_is_not_decided(expression):
    with pytest.raises(Unsupported):
        signs(expression, -sympy.oo, sympy.oo)


def test_identities_are_proved_and_others_not():
    assert vanishes(sympy.tanh(x) - (sympy.exp(2 * x) - 1) / (sympy.exp(2 * x) + 1))
    assert vanishes(1 / (1 + sympy.exp(-x)) + 1 / (1 + sympy.exp(x)) - 1)
    assert not vanishes(sympy.tanh(x) - x)
    assert not vanishes(sympy.erf(x) - sympy.tanh(x))
