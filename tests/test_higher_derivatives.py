"""Derivatives of any order: against the Taylor coefficients of the formula in balls, and the theorems for every n."""

from __future__ import annotations

import json
import math
import time

import flint
import pytest
import sympy
from flint import arb, fmpq

from backproof.demos.cli import run
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.enclosures import ball_function, taylor
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.higher_derivatives import Generator, HigherDerivatives, _prove, higher_derivatives, tower_of
from backproof.theory.pieces import pieces
from backproof.theory.symbols import x

PARTS = [(name, p) for name, row in ACTIVATIONS.items() for p in pieces(row.expr)]
TYPED = [
    "1/(1 + exp(-3*x))", "3*tanh(2*x) + 1", "exp(-x**2/3)", "x/sqrt(1 + x**2)", "exp(-exp(x))", "log(1 + x**2)",
    "x*erf(x)", "sqrt(2)*tanh(x)", "x**2*exp(-x**2)", "sinh(x)*cos(2*x)", "atan(x/3)", "1/(2 + 2*exp(-x))",
]  # fmt: skip


def point_in(part):
    for candidate in (fmpq(19, 32), fmpq(-19, 32), fmpq(7), fmpq(-7), fmpq(65, 32), fmpq(1, 8)):
        value = sympy.Rational(int(candidate.p), int(candidate.q))
        if bool(part.left < value) and bool(value < part.right):
            return arb(candidate)
    raise AssertionError(part)


def against_taylor(h, expr, point, orders):
    with flint.ctx.workprec(600):
        coefficients = taylor(expr, point, max(orders))
        for n in orders:
            exact = coefficients[n] * math.factorial(n)
            ours = ball_function(h.opened(h.derivative(n)))(point)
            assert ours.overlaps(exact), (expr, n)
            assert ours.rel_accuracy_bits() > 60 or abs(ours) < 1e-60, (expr, n)


@pytest.mark.parametrize(("name", "part"), PARTS, ids=lambda v: v if isinstance(v, str) else "")
def test_every_row_against_its_taylor_coefficients(name, part):
    h = tower_of(part.expr)
    against_taylor(h, part.expr, point_in(part), [n for n in (1, 2, 3, 6, 9) if n >= h.start])


@pytest.mark.parametrize("text", TYPED)
def test_typed_formulas(text):
    h = higher_derivatives(text)
    against_taylor(h, h.expr, arb(fmpq(19, 32)), [n for n in (2, 5, 8) if n >= h.start])


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "gelu_tanh"])
def test_thirty_derivatives_are_quick(name):
    start = time.perf_counter()
    for part in pieces(ACTIVATIONS[name].expr):
        tower_of(part.expr).text(30)
    assert time.perf_counter() - start < 5  # under a second on a quiet machine


def test_polynomials_in_the_function_itself():
    assert higher_derivatives("tanh").text(4) == "24·f⁵ - 40·f³ + 16·f"
    assert higher_derivatives("sigmoid").text(3) == "-6·f⁴ + 12·f³ - 7·f² + f"
    assert "Pₙ(f)" in higher_derivatives("1/(1+exp(-3*x))").closed.statement


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("gaussian", "f⁽ⁿ⁾ = (-1)ⁿ·Hₙ(x)·exp(-x²)"),
        ("erf", "f⁽ⁿ⁾ = (-1)ⁿ⁺¹·2/√π·Hₙ₋₁(x)·exp(-x²) for n ≥ 1"),
        ("gelu", "f⁽ⁿ⁾ = (-1)ⁿ⁺¹·√2/(2·√π)·(Heₙ(x) - Heₙ₋₂(x))·exp(-x²/2) for n ≥ 2"),
    ],
)
def test_hermite_statements(text, statement):
    assert higher_derivatives(text).closed.statement == statement


@pytest.mark.parametrize("n", [2, 3, 7, 12])
def test_the_statement_for_gelu_holds(n):
    """The closed form, written out by SymPy's own Hermite polynomials, is the derivative."""

    def he(k):
        return sympy.sqrt(2) ** -k * sympy.hermite(k, x / sympy.sqrt(2))

    h = higher_derivatives("gelu")
    claim = (-1) ** (n + 1) * (he(n) - he(n - 2)) * sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)
    assert sympy.simplify(claim - h.opened(h.derivative(n))) == 0


def test_a_wrong_tower_is_not_proved():
    s = sympy.Symbol("s", real=True)
    wrong = HigherDerivatives(1 / (1 + sympy.exp(-x)), (Generator(s, 1 / (1 + sympy.exp(-x)), s - s**3),), 0, s, True)
    with pytest.raises(Unsupported, match="could not be proved"):
        _prove(wrong)


def test_what_has_no_tower_says_so():
    with pytest.raises(Unsupported, match="branches"):
        higher_derivatives("relu")
    with pytest.raises(Unsupported, match="asin"):
        higher_derivatives("asin(x/2)")
    with pytest.raises(InputError, match="order"):
        higher_derivatives("tanh").derivative(1000)


def test_command(capsys):
    assert run(["derive", "activation", "tanh", "--order", "8"]) == 0
    out = capsys.readouterr().out
    assert "40320·f⁹ - 120960·f⁷ + 129024·f⁵ - 56320·f³ + 7936·f" in out
    assert "for every n: f⁽ⁿ⁾ = Pₙ(f)" in out
    assert run(["derive", "activation", "elu", "--order", "4", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [p["on"] for p in data["higher"]["derivatives"][0]["pieces"]] == ["-∞ < x < 0", "0 < x < ∞"]
    assert run(["derive", "activation", "asin(x/2)", "--order", "9"]) == 2
    assert run(["derive", "activation", "tanh", "--order", "31"]) == 2
    assert all(len(line) < 200 for line in capsys.readouterr().err.splitlines())
