"""The adjoint of each kind of node against differentiation in balls, and reverse against forward mode."""

import random
from fractions import Fraction

import flint
import pytest
import sympy
from flint import arb, fmpq

from backproof.theory.backprop import ADJOINTS, jvp, vjp
from backproof.theory.equality import Point, equal, evaluate, generic_point
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.scalar_functions import scalar_function
from backproof.theory.symbols import parameter
from backproof.theory.tensors import (
    Delta,
    Input,
    Maximiser,
    Scalar,
    apply,
    as_tensor,
    axis,
    contract,
    exp,
    log,
    maximum,
    slot,
    sqrt,
    tanh,
)

n, i, o = axis("n"), axis("i"), axis("o")
x, y, w, W = Input("x", (n, i)), Input("y", (n, i)), Input("w", (i,)), Input("W", (i, o))
S = Input("S", (i, axis("j", "I")))
eps = parameter("eps")
sigma = scalar_function("σ")
mean = x.mean("n")

#: What is differentiated: each kind of node, broadcasting, repeated and renamed occurrences, diagonals.
EXPRESSIONS = {
    "matrix product": ((x * W).sum("i"), "W"),
    "broadcast": (x * w, "w"),
    "broadcast along a new axis": ((w * as_tensor(2)).expand((n,)), "w"),
    "sum": (x.sum("n"), "x"),
    "repeated factor": (x * x * w, "x"),
    "renamed occurrence": ((x * x.rename(n="m")).sum("i"), "x"),
    "transposed occurrence": (S * S.rename(i="j", j="i"), "S"),
    "diagonal": (S.rename(j="i") * w, "S"),
    "map": (tanh(x) + exp(x / 3), "x"),
    "map of two": (apply(slot(0) ** 2 / (1 + slot(1) ** 2), x, y), "y"),
    "map with a parameter": (log(x**2 + eps), "x"),
    "piecewise": (maximum(x, y), "x"),
    "maximum": (x.max("i"), "x"),
    "maximum over two axes": (x.max(("n", "i")) * w, "x"),
    "maximum of a function": ((x * w).max("n"), "w"),
    "named": (((x - mean).named("c") ** 2).mean("n"), "x"),
    "any function": (apply(sigma, (x * W).sum("i")), "x"),
    "delta": ((Delta(i, axis("j", "I")) * x.rename(i="j")).sum("j") * w, "x"),
    "normalisation": ((x - mean) / sqrt(((x - mean) ** 2).mean("n") + eps), "x"),
    "attention-like": ((exp((x * y.rename(n="m")).sum("i")) * y.rename(n="m")).sum("m"), "y"),
}


def difference_quotient(tensor, name, direction, point):
    """(f(x + h v) − f(x − h v))/2h at h = 10⁻⁴⁰ with 200 digits: right to 70 digits for a smooth f."""
    h = Fraction(1, 10**40)

    def moved(sign):
        entries = {c: v + sign * h * direction[c] for c, v in point.entries[name].items()}
        return evaluate(tensor, Point(point.sizes, point.scalars, {**point.entries, name: entries}))

    up, down = moved(1), moved(-1)
    return {c: (up[c] - down[c]) / (2 * arb(fmpq(1, 10**40))) for c in up}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_adjoint_agrees_with_differentiation_at_an_exact_point(case):
    output, wrt = EXPRESSIONS[case]
    cotangent = Input("ȳ", output.axes)
    gradient = vjp(output, (wrt,), cotangent)[0][wrt]
    rng = random.Random(7)
    point = generic_point((output, gradient), rng)
    direction = {c: Fraction(rng.randrange(1, 9), 5) for c in point.entries[wrt]}
    with flint.ctx.workprec(700):
        slopes = difference_quotient(output, wrt, direction, point)
        g, values = evaluate(gradient, point), point.entries["ȳ"]
        forward = sum((slopes[c] * arb(fmpq(v.numerator, v.denominator)) for c, v in values.items()), arb(0))
        backward = sum((g[c] * arb(fmpq(v.numerator, v.denominator)) for c, v in direction.items()), arb(0))
        assert abs(forward - backward) < arb(10) ** -60
        assert abs(backward) > arb(10) ** -6


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_reverse_and_forward_mode_agree(case):
    """⟨ȳ, Jv⟩ = ⟨Jᵀȳ, v⟩, proved for all shapes."""
    output, wrt = EXPRESSIONS[case]
    cotangent = Input("ȳ", output.axes)
    gradient = vjp(output, (wrt,), cotangent)[0][wrt]
    tangent = Input("v", gradient.axes)
    left = contract((cotangent, jvp(output, {wrt: tangent})), ())
    right = contract((gradient, tangent), ())
    assert equal(left, right).outcome == "equal"


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_a_scaled_gradient_is_refuted(case):
    output, wrt = EXPRESSIONS[case]
    gradient = vjp(output, (wrt,), Input("ȳ", output.axes))[0][wrt]
    assert equal(gradient, gradient * Fraction(1001, 1000)).outcome == "different"


def test_every_step_names_its_rule():
    _, steps = vjp((tanh(x) * W).sum("i"), ("x",), Input("ȳ", (n, o)))
    assert {s.rule for s in steps} <= {rule for rule, _ in ADJOINTS.values()}
    assert [type(s.node).__name__ for s in steps] == ["Contract", "Map"]


def test_scalar_cotangent_is_spread_over_the_output():
    gradient = vjp(x.sum("i"), ("x",), Scalar(sympy.Integer(1)))[0]["x"]
    assert equal(gradient, 0 * x + 1)


def test_the_weights_of_a_maximiser_are_constant():
    weights = Maximiser(x, (i,), (i,))
    gradient = vjp(weights * y, ("y", "x"), Input("ȳ", (n, i)))[0]
    assert equal(gradient["y"], weights * Input("ȳ", (n, i)))
    assert equal(gradient["x"], 0 * x)


def test_wrong_questions():
    with pytest.raises(InputError, match="no input 'q'"):
        vjp(x * w, ("q",), Input("ȳ", (n, i)))
    with pytest.raises(InputError, match="cotangent"):
        vjp(x.sum("i"), ("x",), Input("ȳ", (i,)))
    with pytest.raises(Unsupported):
        vjp(apply(sympy.gamma, x), ("x",), Input("ȳ", (n, i))) if sympy.gamma(slot(0)).diff(slot(0)).has(
            sympy.Derivative
        ) else vjp(apply(sympy.Max(slot(0), 0).diff(slot(0)), x), ("x",), Input("ȳ", (n, i)))
