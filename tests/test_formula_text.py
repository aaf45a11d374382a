"""Scalar formulas as a line of Unicode: what is written means the formula."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.enclosures import enclose
from backproof.theory.errors import InputError
from backproof.theory.formula_text import formula_text
from backproof.theory.parsing import parse_formula
from backproof.theory.symbols import x

SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def read_back(text):
    """The text again as a formula the parser reads (branches are left out)."""
    text = re.sub(r"√(\d+|π|\w)", r"sqrt(\1)", text).replace("√(", "sqrt(")
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "**(" + m[0].translate(SUPERSCRIPT) + ")", text)
    return parse_formula(text.replace("·", "*").replace("π", "pi").replace("^", "**"))


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda r: r.name)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_what_is_written_means_the_formula(row, order):
    expression = row.derivative(order)
    text = formula_text(expression)
    if "{" in text:
        assert text.count("{") == text.count("}")
        return
    if x not in expression.free_symbols:
        assert enclose(expression - read_back(f"{text} + 0*x")).contains(0)
        return
    for point in ("1/3", "-7/5"):
        assert enclose(expression - read_back(text), {x: point}).contains(0), text


PARTS = st.sampled_from(
    ["x", "2", "3/7", "(1+x**2)", "exp(x)", "(1+exp(x))", "cosh(x)", "(x-5)", "sqrt(2+x**2)", "erf(x)", "pi", "tanh(x)"]
)
FORMULAS = st.recursive(
    PARTS,
    lambda inner: (
        st.builds("({}{}{})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("({})**{}".format, inner, st.sampled_from(["2", "3", "(-1)", "(-2)"]))
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(FORMULAS)
def test_any_formula_that_is_written_means_itself(source):
    """Products in denominators, powers of quotients, signs: read back, the line has the formula's value."""
    try:
        expression = parse_formula(source)
    except InputError:
        return
    exact = enclose(expression, {x: "3/11"})
    if exact.is_finite():
        assert exact.overlaps(enclose(read_back(formula_text(expression)), {x: "3/11"})), formula_text(expression)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x**2", "x²"),
        ("1/x", "1/x"),
        ("x**(-3)", "1/x³"),
        ("sqrt(x)", "√x"),
        ("sqrt(x+1)", "√(x + 1)"),
        ("-x*exp(-x**2)", "-x·exp(-x²)"),
        ("(x+1)/(x-1)", "(x + 1)/(x - 1)"),
        ("1/(x*(x+1))", "1/(x·(x + 1))"),
        ("1/((1+exp(x))*(1+x**2))", "1/((x² + 1)·(exp(x) + 1))"),
        ("-1/((1+x)*(2+x))", "-1/((x + 1)·(x + 2))"),
        ("(x**2)**3", "x⁶"),
        ("exp(x)**2", "exp(2·x)"),
        ("tanh(x)**2", "tanh(x)²"),
        ("abs(x)", "|x|"),
        ("where(x>=1, x, -1)", "{x if x ≥ 1; -1 otherwise}"),
        ("pi*x/2", "π·x/2"),
    ],
)
def test_is_written_as_a_person_would(source, text):
    assert formula_text(parse_formula(source)) == text
