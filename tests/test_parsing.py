"""Text from a person: what is read, and that nothing is evaluated."""

from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.errors import InputError
from backproof.theory.parsing import FUNCTIONS, parse_formula
from backproof.theory.symbols import x

READ = {
    "x + 0.1": x + sympy.Rational(1, 10),
    "2x".replace("2x", "2*x"): 2 * x,
    "x^2": x**2,
    "-x**2": -(x**2),
    "pi*e": sympy.pi * sympy.E,
    "1e-3*x": x / 1000,
    "where(x > 0, x, 0)": sympy.Piecewise((x, x > 0), (0, True)),
    "x if -1 < x < 1 else 0": sympy.Piecewise((x, (x > -1) & (x < 1)), (0, True)),
    "max(x, 0)": sympy.Piecewise((x, x > 0), (0, True)),
    "max(0, x)": sympy.Piecewise((x, x > 0), (0, True)),
    "min(x, 6)": sympy.Piecewise((x, x < 6), (6, True)),
    "max(1, 2)": sympy.Integer(2),
    "erfc(x)": 1 - sympy.erf(x),
    "2**x": sympy.exp(x * sympy.log(2)),
    "relu(x - 1)": sympy.Piecewise((x - 1, x > 1), (0, True)),
    "log(exp(x))": x,
    "x/x**2": 1 / x,
    "exp(x)/exp(x)*x": x,
    "sqrt(x**2)": sympy.Piecewise((x, x > 0), (-x, x < 0), (0, True)),
    "elu(x, alpha=2)": sympy.Piecewise((x, x > 0), (2 * sympy.exp(x) - 2, True)),
}

REFUSED = {
    "": "empty",
    "   ": "empty",
    "x +": "syntax",
    "9**9**9**9": "too large",
    "2**99999": "too large",
    "((x**64)**64)": "too large",
    "1e999": "too long or too large",
    "1" * 70: "too long or too large",
    "x" + "+x" * 5000: "longer than",
    "(" * 100 + "x" + ")" * 100: "nested deeper",
    "-" * 100 + "x": "nested deeper",
    "+".join(["x"] * 400): "parts",
    '__import__("os").system("x")': "cannot be called",
    "x.__class__": "attribute",
    "().__class__.__bases__[0]": "subscript",
    "[x for x in (1,)]": "listcomp",
    "lambda: x": "lambda",
    "f'{x}'": "joinedstr",
    "(x := 3)": "namedexpr",
    "eval(x)": "unknown name 'eval'",
    "open(x)": "unknown name 'open'",
    "exp(*[x])": "*",
    "exp(**x)": "**",
    "True*x": "not a number",
    "1j*x": "not a number",
    "'x'": "not a number",
    "x % 2": "Mod",
    "x | 2": "BitOr",
    "x is 2": "Is",
    "y": "unknown name 'y'",
    "tnah(x)": "did you mean tanh",
    "1/0": "divides by zero",
    "x/(1-1)": "divides by zero",
    "log(0)*x": "divides by zero",
    "log(-1)": "not real",
    "(-8)**(1/3)": "not real",
    "sqrt(-1)*x": "not real",
    "x > 0": "condition",
    "where(x, 1, 2)": "condition",
    "(x > 0) + 1": "condition",
    "exp()": "wrong arguments",
    "where(x > 0, 1)": "write where(condition, then, otherwise)",
    "exp(x, x, x)": "wrong arguments",
    "max()": "wrong arguments",
    "elu(x, alpha=-1)": "positive",
    "elu(x, gamma=1)": "no parameter 'gamma'",
    "x\x00": "null",
    "exp(log(x))": "not defined where x is zero or negative",
    "sqrt(x)**2": "not defined where x is negative",
    "x**2/x": "not defined where x is zero",
    "pow(x, -1)*x": "not defined where x is zero",
    "log(x) - log(x) + x": "does not show",
}


@pytest.mark.parametrize("text", READ)
def test_reads(text):
    assert parse_formula(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED, ids=[repr(t[:24]) for t in REFUSED])
def test_refuses_in_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_formula(text)
    message = str(caught.value)
    assert REFUSED[text].lower() in message.lower()
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_knows_every_activation(name):
    assert parse_formula(f"{name}(x)") == FUNCTIONS.get(name, ACTIVATIONS[name].at)(x)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        result = parse_formula(text)
    except InputError:
        return
    assert isinstance(result, sympy.Expr)


@given(st.text(alphabet="x0123456789.()*+-/^,<>=e ", max_size=40))
def test_any_formula_like_text_is_read_or_refused(text):
    try:
        parse_formula(text)
        message = ""
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**6, places=8))
def test_decimals_are_exact(number):
    assert parse_formula(str(number)) == sympy.Rational(Fraction(number))


def test_variables_and_functions_can_be_added():
    q = sympy.Symbol("q", real=True)
    assert parse_formula("double(q)", variables=(q,), functions={"double": lambda u: 2 * u}) == 2 * q


def test_root_of_an_absolute_value_is_defined_everywhere():
    e = parse_formula("abs(x)**1.5")
    assert [e.subs(x, v) for v in (-4, 0, 4)] == [8, 0, 8]
