"""Gaussian expectations: exact values, closed forms, an independent quadrature, wrong claims refused."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import scipy.integrate
import sympy
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.theory import gaussian
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.constants import number
from backproof.theory.errors import InputError
from backproof.theory.gaussian import GAINS, Moment, gain, moment, moment_formula
from backproof.theory.gaussian_integrals import enclosure, value_and_slope
from backproof.theory.pieces import Piece, differentiated, pieces
from backproof.theory.symbols import x

ROWS = pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS)
pi, sqrt, erf, exp, asin, Rational = sympy.pi, sympy.sqrt, sympy.erf, sympy.exp, sympy.asin, sympy.Rational


def Phi(t):
    return (1 + erf(t / sqrt(2))) / 2


#: (activation, power, order, E[(f^(order))^power]) from the literature or by hand.
EXACT = [
    ("relu", 2, 0, Rational(1, 2)),
    ("relu", 2, 1, Rational(1, 2)),
    ("relu", 1, 0, 1 / sqrt(2 * pi)),
    ("relu", 4, 0, Rational(3, 2)),
    ("leaky_relu(slope=1/10)", 2, 0, (1 + Rational(1, 100)) / 2),
    ("leaky_relu(slope=1/10)", 2, 1, (1 + Rational(1, 100)) / 2),
    ("elu", 2, 0, 1 + exp(2) * Phi(-2) - 2 * sqrt(exp(1)) * Phi(-1)),
    ("elu", 2, 1, Rational(1, 2) + exp(2) * Phi(-2)),
    ("gelu", 2, 0, Rational(1, 3) + 1 / (2 * sqrt(3) * pi)),
    ("gelu", 2, 1, Rational(1, 3) + 2 / (3 * sqrt(3) * pi)),
    ("erf", 2, 0, 2 / pi * asin(Rational(2, 3))),
    ("erf", 2, 1, 4 / (pi * sqrt(5))),
    ("step", 2, 0, Rational(1, 2)),
    ("step", 2, 1, 0),
    ("sin", 2, 0, (1 - exp(-2)) / 2),
    ("identity", 2, 0, 1),
    ("x**3 - 3*x", 2, 0, 6),
    ("x**12", 1, 0, 10395),
]

#: (activation, order, the leading digits of E[(f^(order))²]).
DIGITS = [
    ("tanh", 0, "0.39429449039784117442"),
    ("tanh", 1, "0.46440290244826824197"),
    ("silu", 0, "0.35577551981735215623"),
    ("silu", 1, "0.37948235163282930900"),
    ("gelu", 0, "0.425221"),
    ("gelu_tanh", 0, "0.425194"),
    ("quick_gelu", 0, "0.421953"),
]


@pytest.mark.parametrize(("name", "power", "order", "value"), EXACT)
def test_exact_values(name, power, order, value):
    found = moment(name, power, order)
    assert found.closed_form is not None, "a closed form exists"
    with ctx.workprec(400):
        assert abs(number(found.closed_form) - number(sympy.sympify(value))) < arb("1e-100")
        assert (number(sympy.sympify(value)) - found.enclosure).contains(0)
    assert found.digits >= 25


@pytest.mark.parametrize(("name", "order", "digits"), DIGITS)
def test_proven_digits(name, order, digits):
    found = moment(name, 2, order)
    claimed = Fraction(digits)
    half_unit = Fraction(1, 2 * 10 ** len(digits.split(".")[1]))
    assert claimed - half_unit <= found.lower <= found.upper <= claimed + half_unit
    assert found.digits >= 25


def quadrature(expr, power, variance):
    """E[expr(√variance·z)^power] by SciPy in floats, split at kinks: independent of everything in the package."""
    f = sympy.lambdify(x, expr, "math")
    root = math.sqrt(variance)
    kinks = sorted({float(e) / root for r in expr.atoms(sympy.core.relational.Relational) for e in border(r)})
    ends = sorted({*range(-14, 15, 2), *kinks})

    def integrand(z):
        return f(z * root) ** power * math.exp(-z * z / 2)

    # Open at the ends: exactly at a kink the formula has its stated value, which no integral sees.
    parts = [scipy.integrate.quad(integrand, a, b, epsabs=1e-14)[0] for a, b in pairwise(ends)]
    return math.fsum(parts) / math.sqrt(2 * math.pi)


def border(relation):
    difference = sympy.expand(relation.lhs - relation.rhs)
    return sympy.Poly(difference, x).real_roots() if difference.has(x) else ()


@ROWS
@pytest.mark.parametrize(("power", "order"), [(1, 0), (2, 0), (2, 1)])
def test_every_row_against_an_independent_quadrature(row, power, order):
    found = moment(row, power, order)
    assert found.digits >= 20 or found.closed_form == 0 or (row.name, power) == ("selu", 1)  # 0 but for its constants
    expr = row.expr if order == 0 else row.expr.diff(x)
    assert abs(quadrature(expr, power, 1) - float(found.decimal(20))) < 1e-12


@ROWS
def test_closed_forms_lie_in_the_enclosures_at_other_variances(row):
    for variance in (Rational(1, 50), Rational(7, 3)):
        for power, order in ((1, 0), (2, 0), (2, 1)):
            found = moment(row, power, order, variance)
            ball = enclosure(differentiated(pieces(row.expr), order), power, variance, 15)
            with ctx.workprec(160):
                assert ball.overlaps(found.enclosure)
                if found.closed_form is not None:
                    assert (number(found.closed_form) - found.enclosure).contains(0)


@ROWS
def test_the_slope_in_the_variance_is_a_difference_quotient(row):
    parts = pieces(row.expr)
    with ctx.workprec(128):
        q, step = arb("1.3"), arb("1e-6")
        slope = value_and_slope(parts, 2, q, 20)[1]
        ends = [value_and_slope(parts, 2, (q + s * step).mid(), 25)[0] for s in (-1, 1)]
        assert abs((ends[1] - ends[0]) / (2 * step) - slope) < arb("1e-8")


@ROWS
def test_gains_are_what_they_say(row):
    for kind in GAINS:
        if kind == "backward" and moment(row, 2, 1).closed_form == 0:
            with pytest.raises(InputError, match="vanishes"):
                gain(row, kind)
            continue
        g = gain(row, kind)
        with ctx.workprec(160):
            kept = moment(row, 2, 1 if kind == "backward" else 0).enclosure
            if kind == "standard_deviation":
                kept -= moment(row, 1, 0).enclosure ** 2
            assert (g.enclosure**2 * kept - 1).contains(0)
            assert g.lower <= g.upper
            assert g.digits >= 20
    assert row.gain("second_moment").decimal(12) == gain(row).decimal(12)


def test_the_gain_that_pytorch_uses_for_tanh_is_none_of_the_three():
    values = [gain("tanh", kind) for kind in GAINS]
    assert [v.decimal(6) for v in values] == ["1.59254", "1.59254", "1.46741"]
    assert all(v.upper < Fraction(5, 3) for v in values)


def test_selu_normalises_itself():
    """α and λ solve E f = 0, E f² = 1 at (0, 1); digits as in Klambauer et al. 2017."""
    row = ACTIVATIONS["selu"]
    values = {str(k): v for k, v in row.parameters.items()}
    with ctx.workprec(120):
        assert number(values["alpha"]).str(20, radius=False) == "1.6732632423543772848"
        assert number(values["scale"]).str(20, radius=False) == "1.0507009873554804934"
    assert abs(moment(row, 1).enclosure) < arb("1e-30")
    assert abs(moment(row, 2).enclosure - 1) < arb("1e-30")


@given(st.fractions(min_value=-3, max_value=3, max_denominator=50))
@settings(max_examples=25, deadline=None)
def test_leaky_relu_at_any_slope(slope):
    a = sympy.Rational(slope.numerator, slope.denominator)
    expr = sympy.Piecewise((x, x > 0), (a * x, True))
    assert moment(activation(expr) if a != 1 else "identity").closed_form == (1 + a**2) / 2


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=5).filter(lambda c: any(c[1:])), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_polynomials_by_the_moments_of_the_normal_law(coefficients, q):
    expr = sum(c * x**k for k, c in enumerate(coefficients))
    square = sympy.Poly(sympy.expand(expr**2), x)
    expected = sum(c * (sympy.factorial2(k - 1) * q ** (k // 2) if k % 2 == 0 else 0) for (k,), c in square.terms())
    assert moment(activation(expr), variance=q).closed_form == expected


@pytest.mark.parametrize("name", ["relu", "gelu", "erf", "elu", "sin"])
def test_moment_as_a_formula_of_the_variance(name):
    q = sympy.Symbol("q", positive=True)
    found = moment_formula(name, symbol=q)
    with ctx.workprec(120):
        for value in (Rational(1, 7), Rational(5, 2)):
            assert (number(found.subs(q, value)) - moment(name, variance=value).enclosure).contains(0)
    assert moment_formula("tanh") is None


@pytest.mark.parametrize("exponent", [10, 25, 60, 100])
def test_tiny_variances_keep_their_digits(exponent):
    """t² − ⅔t⁴ ≤ tanh²t ≤ t², so E tanh²(√q z) lies between q − 2q² and q."""
    found = moment("tanh", variance=sympy.Rational(1, 10**exponent))
    assert found.digits >= 25
    relative = [bound * 10**exponent for bound in (found.lower, found.upper)]
    assert relative[0] <= 1
    assert relative[1] >= 1 - 2 * Fraction(1, 10**exponent)


def test_large_variances():
    found = moment("tanh", variance=10**8)
    assert found.digits >= 20
    assert Fraction(9999, 10000) < found.lower < 1


# --- Wrong claims and wrong input ---


def test_a_wrong_closed_form_is_refused(monkeypatch):
    monkeypatch.setattr(gaussian.gaussian_rules, "expectation", lambda *_: Rational(425221, 10**6))
    gaussian._moment.cache_clear()
    with pytest.raises(AssertionError, match="outside the proven enclosure"):
        moment("gelu")
    gaussian._moment.cache_clear()


def test_the_checks_of_this_file_can_fail():
    wrong = Moment("wrong", arb("0.3942"))
    with pytest.raises(AssertionError):
        assert wrong.lower <= Fraction("0.39429449039784117442") <= wrong.upper
    assert abs(quadrature(sympy.tanh(x), 2, 1) - 0.39429449) > 1e-12
    # The derivative of a jump adds nothing: a rule that integrated the delta too would say otherwise.
    assert moment("step", 1, 1).closed_form == 0


def test_tails_that_are_left_out_are_seen():
    """Cutting at ±10 fails for q ≫ 1; here everything beyond ±10 is 1, all the rest 0."""
    parts = (Piece(-sympy.oo, sympy.Integer(10), sympy.S.Zero), Piece(sympy.Integer(10), sympy.oo, sympy.S.One))
    for q in (1, 100, 10**6):
        with ctx.workprec(160):
            exact = (arb(10) / (2 * arb(q)).sqrt()).erfc() / 2
            ball = enclosure(parts, 2, sympy.Integer(q), 20)
            assert ball.overlaps(exact)
            assert abs(ball - exact) < arb("1e-19")  # absolute: 20 digits of a quantity of order 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"f": "exp(x**2)"}, "diverges"),
        ({"f": "log(x)"}, "not a finite real number"),
        ({"f": "1/x"}, "no proven integral"),
        ({"f": "tanh", "variance": 0}, "positive"),
        ({"f": "tanh", "variance": -1}, "positive"),
        ({"f": "tanh", "variance": float("nan")}, "finite"),
        ({"f": "tanh", "variance": float("inf")}, "finite"),
        ({"f": "tanh", "variance": True}, "number"),
        ({"f": "tanh", "variance": sympy.Symbol("q")}, "positive number"),
        ({"f": "tanh", "power": 0}, "power"),
        ({"f": "tanh", "power": 13}, "power"),
        ({"f": "tanh", "order": 9}, "order"),
        ({"f": "thanh"}, "unknown"),
    ],
)
def test_wrong_input_is_named(arguments, words):
    with pytest.raises(InputError, match=words):
        moment(**arguments)


def test_unknown_kind_of_gain():
    with pytest.raises(InputError, match="unknown kind of gain 'kaiming'"):
        gain("relu", "kaiming")
