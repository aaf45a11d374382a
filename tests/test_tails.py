"""Proven tails and smooth pieces: every enclosure holds what balls compute at points far out, and wrong claims fail."""

import itertools
from fractions import Fraction

import pytest
import sympy
from flint import arb, ctx, fmpq

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.constants import is_zero, number, sign_of
from backproof.theory.enclosures import ball_function
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.gaussian import moment
from backproof.theory.parsing import parse_formula
from backproof.theory.pieces import pieces
from backproof.theory.symbols import x
from backproof.theory.tails import Tail, TailUndecided, first_decided, tail, value_at

FORMULAS = (
    "x*tanh(log(1+exp(x)))",
    "sqrt(1+x**2) - x",
    "log(1+x**2)/(1+x**2)",
    "erfc(x/2)*x**3",
    "atan(x**3) - pi/2",
    "exp(-x**2/2)*sin(3*x)",
    "x**(3/2)*exp(-sqrt(2)*x)",
    "tanh(1/x)*x - 1",
    "exp(-exp(x))",
    "sinh(x)/cosh(x) - tanh(x/2)",
    "log(exp(x)+exp(-x))",
    "erf(sqrt(x))",
)
EXPRESSIONS = [(text, parse_formula(text)) for text in FORMULAS] + [
    (f"{row.name} {side}", part) for row in ACTIVATIONS.values()
    for side, part in (("right", pieces(row.expr)[-1].expr), ("left", pieces(row.expr)[0].expr.subs(x, -x)))
]  # fmt: skip


def summed(expansion: Tail, point: Fraction) -> arb:
    """The expansion's value at a point: a ball that must contain the function's."""
    total = arb(0)
    for growth, coefficient in expansion.terms.items():
        size = value_at(growth, point)
        # value_at is an upper end, tight at this precision: a hair of width makes it a two-sided enclosure
        size *= arb(1, arb(2) ** -120)
        total += (coefficient if isinstance(coefficient, arb) else number(coefficient)) * size
    return total


@pytest.mark.parametrize(("name", "expr"), EXPRESSIONS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("order", [2, 4])
def test_expansion_contains_the_function(name, expr, order):
    start = Fraction(16)
    try:
        expansion = tail(expr, start, order)
    except TailUndecided:
        pytest.skip("this start is not far enough; the test of decisions below asks for the answer")
    with ctx.workprec(200):
        function = ball_function(expr)
        for point in (start, start + Fraction(1, 3), Fraction(25), Fraction(61), Fraction(500)):
            exact = function(arb(fmpq(point.numerator, point.denominator)))
            assert summed(expansion, point).overlaps(exact), (name, point)


@pytest.mark.parametrize(
    ("text", "limit", "sign"),
    [
        ("x*tanh(log(1+exp(x))) - x", 0, -1),
        ("sqrt(1+x**2) - x", 0, 1),
        ("x*(sqrt(1+x**2) - x)", "1/2", 1),
        ("atan(x)", "pi/2", 1),
        ("tanh(x) - 1", 0, -1),
        ("exp(x) - x**7", "oo", 1),
        ("log(1+exp(x)) - x", 0, 1),
        ("x*exp(-x)", 0, 1),
        ("log(x) - x", "-oo", -1),
        ("(1+1/x)**3", 1, 1),
        ("x/(1+exp(-x)) - x", 0, -1),
        ("erf(x) - tanh(x)", 0, 1),
    ],
)
def test_decisions(text, limit, sign):
    expr = parse_formula(text)
    assert first_decided(expr, Tail.limit)[0] == sympy.sympify(limit)
    assert first_decided(expr, Tail.sign)[0] == sign


@pytest.mark.parametrize("text", ["sin(x)", "x*cos(x)", "tanh(sin(x))", "tan(x)"])
def test_no_limit_is_invented(text):
    with pytest.raises(Unsupported):
        first_decided(parse_formula(text), Tail.sign)


def test_a_function_without_a_tail_rule_is_named():
    with pytest.raises(Unsupported, match="gamma"):
        tail(sympy.gamma(x), Fraction(8))


def test_pieces_cover_the_line():
    for row in ACTIVATIONS.values():
        parts = pieces(row.expr)
        assert parts[0].left == -sympy.oo
        assert parts[-1].right == sympy.oo
        assert all(a.right == b.left for a, b in itertools.pairwise(parts))
        assert not any(p.expr.has(sympy.Piecewise) for p in parts)


def test_pieces_agree_with_the_formula():
    for row in ACTIVATIONS.values():
        whole = ball_function(row.expr)
        for part in pieces(row.expr):
            low = number(part.left) if part.left.is_finite else arb(-9)
            high = number(part.right) if part.right.is_finite else arb(9)
            for k in (1, 3, 6):
                point = low + (high - low) * k / 7
                assert whole(point).overlaps(ball_function(part.expr)(point)), (row.name, part)


def test_irrational_borders():
    expr = sympy.Piecewise((1, x**2 > 2), (x, True))
    assert [(p.left, p.right, p.expr) for p in pieces(expr)] == [
        (-sympy.oo, -sympy.sqrt(2), 1), (-sympy.sqrt(2), sympy.sqrt(2), x), (sympy.sqrt(2), sympy.oo, 1),
    ]  # fmt: skip


def test_a_border_without_a_closed_form_is_refused():
    with pytest.raises(Unsupported, match="border"):
        pieces(sympy.Piecewise((1, sympy.sin(x) > x), (0, True)))


def test_signs_of_constants():
    root = sympy.sqrt(2)
    assert sign_of(root - sympy.Rational(14142135623730950488, 10**19)) == 1
    assert sign_of(1 / (1 + root) - (root - 1)) == 0
    assert is_zero(sympy.sqrt(8) - 2 * root)
    assert not is_zero(sympy.exp(-400))


def test_an_inverse_sine_does_not_reach_infinity():
    with pytest.raises(TailUndecided, match="grows"):
        tail(parse_formula("asin(x/30)"), Fraction(8))


@pytest.mark.parametrize(
    "text", ["sqrt(x**2 - 1/100)", "log(x**2 - 1/100)", "asin(x/30)", "acos(1 + x**2)", "x**(1/3)"]
)
def test_a_formula_that_is_not_real_everywhere_has_no_moment(text):
    """The root's square would integrate to a real number, and no test point falls where it is imaginary."""
    with pytest.raises(InputError):
        moment(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("sqrt(x**2 + x + 1)", "2"), ("where(x > 0, sqrt(x), 0)", "1/sqrt(2*pi)"), ("sqrt(1 + x**4)", "4")],
)
def test_roots_that_are_real_have_their_moment(text, value):
    with ctx.workprec(128):
        assert moment(text).enclosure.overlaps(number(sympy.sympify(value)))
