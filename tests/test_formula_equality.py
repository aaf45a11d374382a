"""Three outcomes for formulas as text: proved equal, different at a point, not decided; never from floats."""

from __future__ import annotations

import json

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.demos.cli import run
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.equality import DIFFERENT, EQUAL, NOT_DECIDED, equal
from backproof.theory.errors import InputError
from backproof.theory.formula_equality import compare_texts, equal_formulas
from backproof.theory.index_text import parse_tensors
from backproof.theory.symbols import x

SAME = [
    ("tanh(x)", "2*sigmoid(2*x) - 1", "x"),
    ("relu(x)", "(x + abs(x))/2", "x"),
    ("hard_tanh(x)", "max(-1, min(1, x))", "x"),
    ("silu(x)", "x/2*(1 + tanh(x/2))", "x"),
    ("softplus(x) - softplus(-x)", "x", "x"),
    ("log(x**2)", "2*log(x)", "x"),
    ("sin(x)**2 + cos(x)**2", "1", "x"),
    ("(x + y)**2", "x**2 + 2*x*y + y**2", "x,y"),
    ("tanh(x + y)", "(tanh(x) + tanh(y))/(1 + tanh(x)*tanh(y))", "x,y"),
    ("max(x, y)", "(x + y + abs(x - y))/2", "x,y"),
    ("exp(w*x + b)", "exp(b)*exp(w*x)", "x,w,b"),
]
APART = [
    ("gelu(x)", "x*sigmoid(1.702*x)", "x"),
    ("sign(x)", "where(x >= 0, 1, -1)", "x"),
    ("sqrt(x**2)", "x", "x"),
    ("atan(x) + atan(1/x)", "pi/2", "x"),
    ("asin(sin(x))", "x", "x"),
    ("x", "x + 1e-300", "x"),
    ("sin(x)", "x - x**3/6 + x**5/120", "x"),
    ("(x + y)**2", "x**2 + y**2", "x,y"),
    ("where(x > y, 1, 0)", "where(x >= y, 1, 0)", "x,y"),
    ("where(x > 1/3, 1, 0)", "where(x >= 1/3, 1, 0)", "x"),
]


@pytest.mark.parametrize(("first", "second", "variables"), SAME)
def test_equal_is_proved(first, second, variables):
    found = compare_texts(first, second, variables.split(","))
    assert found.outcome == EQUAL, found.why
    assert "equal wherever both are defined" in found.why


@pytest.mark.parametrize(("first", "second", "variables"), APART)
def test_different_shows_a_point(first, second, variables):
    found = compare_texts(first, second, variables.split(","))
    assert found.outcome == DIFFERENT
    assert not found.left.overlaps(found.right)
    assert found.point.scalars


@pytest.mark.parametrize(
    ("first", "second"), [("log(-1 - x**2)", "log(-1 - x**2)"), ("where(x > 1000, 1, 0)*exp(-exp(x))", "0")]
)
def test_what_is_neither_is_not_decided_or_refuted(first, second):
    assert compare_texts(first, second).outcome in (NOT_DECIDED, DIFFERENT)


def test_agreement_at_points_alone_is_no_proof():
    """Zero at every sampled point, and not the zero function."""
    from backproof.theory.formula_equality import SAMPLE

    vanishing = sympy.prod([(x - sympy.Rational(s * p.numerator, p.denominator)) for p in SAMPLE for s in (1, -1)])
    found = equal_formulas(x + vanishing, x)
    assert found.outcome == NOT_DECIDED
    assert "no proof" in found.why


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_row_is_itself_and_not_its_neighbour(name):
    assert compare_texts(f"{name}(x)", f"{name}(x)").outcome == EQUAL
    assert compare_texts(f"{name}(x)", f"{name}(x) + 1e-9").outcome == DIFFERENT


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=4), st.lists(st.integers(-3, 3), min_size=1, max_size=4))
def test_polynomials(a, b):
    first, second = (" + ".join(f"({c})*x**{k}" for k, c in enumerate(p)) for p in (a, b))
    trimmed = [tuple(reversed([*_strip(p)])) for p in (a, b)]
    assert (compare_texts(first, second).outcome == EQUAL) == (trimmed[0] == trimmed[1])


def _strip(p):
    q = list(p)
    while q and q[-1] == 0:
        q.pop()
    return reversed(q)


# --- index notation


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("sum[i](a[n,i]*(b[i] + c[i]))", "sum[i](a[n,i]*b[i]) + sum[i](a[n,i]*c[i])", EQUAL),
        ("exp(z[n,k])/sum[j](exp(z[n,j]))", "exp(z[n,k] - m)/sum[j](exp(z[n,j] - m))", EQUAL),
        ("sum[i](sum[o](x[n,i]*W[i,o]*v[o]))", "sum[o](sum[i](x[n,i]*W[i,o])*v[o])", EQUAL),
        ("mean[n](x[n,i])**2", "mean[n](x[n,i]**2)", DIFFERENT),
        ("x[n,i]", "x[i,n]", DIFFERENT),
        ("relu(1)*x[i]", "x[i]", None),
    ],
)
def test_tensors(first, second, outcome):
    if outcome is None:
        with pytest.raises(InputError, match="unknown function"):
            parse_tensors(first, second)
    else:
        assert equal(*parse_tensors(first, second)).outcome == outcome


@pytest.mark.parametrize(
    "text",
    [
        "x[n,i] + x[n]", "x[1]", "x[n,i", "sum(x[i])", "sum[q](x[i])", "prod[i](x[i])", "x[i]**y[i]", "x[i] @ y[i]",
        "__import__('os')[i]", "x[i].T", "(lambda: x)[i]", "x[i]/0", "9**9**9*x[i]", "x[" + "i," * 40 + "]", "[" * 500,
        "x[i] + x", "where(x[i], 1, 2)",
    ],
)  # fmt: skip
def test_hostile_index_text_is_one_clear_error(text):
    with pytest.raises(InputError) as error:
        parse_tensors(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


# --- the command


def test_command(capsys):
    assert run(["derive", "equal", "tanh(x)", "2*sigmoid(2*x) - 1"]) == 0
    assert capsys.readouterr().out.startswith("equal: proved")
    assert run(["derive", "equal", "x*y", "x+y", "--variables", "x,y", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["outcome"] == "different"
    assert len(data["enclosures"]) == 2
    assert run(["derive", "equal", "x[i]*2", "x[i] + x[i]"]) == 0
    capsys.readouterr()
    for wrong in (
        ["x", "y"], ["x", ""], ["x", "9**9**9**9"], ["x", "x", "--variables", ""], ["x", "x", "--variables", "a b"],
        ["x[i]", "y"], ["x"],
    ):  # fmt: skip
        assert run(["derive", "equal", *wrong]) == (1 if wrong == ["x[i]", "y"] else 2), wrong
        captured = capsys.readouterr()
        assert (captured.out + captured.err).count("\n") >= 1
        assert "Traceback" not in captured.err
