"""Stable forms: proved equal, and a wrong one is caught."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.numerics import kernel
from backproof.numerics.acceptance import SLACK, errors_of_forms
from backproof.numerics.accuracy import FORMATS, exact_function, measure_accuracy, ulp_error
from backproof.theory import proof
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.arctangents import inverted
from backproof.theory.arithmetic import DOUBLE, SHORT, SINGLE, fused
from backproof.theory.decaying import a, half_line, lasting_part
from backproof.theory.enclosures import ball_function, exact_value
from backproof.theory.errors import Unsupported
from backproof.theory.local_polynomials import fit, refine_root
from backproof.theory.lowering import Node, Program, lower
from backproof.theory.pieces import pieces as pieces_of
from backproof.theory.proof import prove
from backproof.theory.scaled_erfc import pieces, without_erfcx
from backproof.theory.sign_changes import cuts, last_reach, sign_on
from backproof.theory.stability import stable_program
from backproof.theory.symbols import x

TYPED = (
    "x*tanh(log(1+exp(x)))",
    "(x+sqrt(x**2+4))/2",
    "x/sqrt(1+x**2)",
    "log(cosh(x))",
    "log(1+x**2)",
    "sqrt(1+x**2)-1",
    "x*exp(x)/(1+exp(x))",
    "sinh(x)",
    "exp(x)",
    "x*atan(x)",
    "sigmoid(x**2-1)",
    "erfc(x)",
    "max(0,1-abs(x))",
    "x**3-x",
    "x*erfc(x)",
    "x*exp(-x**2)",
    "log(1+exp(-x**2))",
    "x*(atan(x)/pi+1/2)",
)
#: An exponent changes its sign on a half-line: the largest error allowed, float64, value and first derivative.
CHANGING = {
    "sigmoid(x**2-x)": (2, 3),
    "log(1+exp(x**2-x))": (2, 3),
    "log(1+exp(x**3-30*x))": (2, 4),
    "x*sigmoid(x**2-3*x+1)": (2, 3),
    "tanh(x**3-x)": (2, 4),
    "tanh(x**2-x**4/3)": (2, 4),
    "exp(x-x**2)": (2, 3),
    "erf(x**2-x)": (3, 4),
    "max(0,x)*sigmoid(2*x-x**2)": (2, 3),
}


def _outputs(row):
    return {"value": row.expr, "derivative": row.derivative(1), "second": row.derivative(2)}


@pytest.mark.parametrize("arithmetic", [DOUBLE, SHORT, fused(DOUBLE), SINGLE], ids=lambda a: a.name + "+" * a.fused)
@pytest.mark.parametrize("spec", [*ACTIVATIONS, *TYPED, *CHANGING])
def test_every_stable_form_is_held_against_its_formula(spec, arithmetic):
    stable = stable_program(_outputs(activation(spec)), arithmetic)
    assert stable.as_written == {}
    assert min(stable.proved_at.values()) >= 40


@pytest.mark.parametrize("spec", CHANGING)
def test_exponents_that_change_their_sign(spec):
    row = activation(spec)
    for order, most in enumerate(CHANGING[spec]):
        stable, written = errors_of_forms(row, order, "float64")
        assert stable <= min(most, written + SLACK)


@pytest.mark.parametrize("spec", ["sigmoid(x**2-x)", "tanh(x**3-3*x)", "log(1+exp(x**2-x))"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_at_the_cuts_either_form_holds(spec, dtype):
    row, points = activation(spec), []
    for cut in cuts(row.expr):
        near = np.dtype(dtype).type(float(cut))
        for end in (-np.inf, np.inf):
            points += [near, np.nextafter(near, near.dtype.type(end)), near + near.dtype.type(np.copysign(1e-3, end))]
    points = np.array(points, dtype)
    for order, values in enumerate(kernel(row, dtype).value_and_derivative(points)):
        exact = exact_function(row, order)
        errors = [
            ulp_error(v, exact(p), FORMATS[dtype])[0] for p, v in zip(points.tolist(), values.tolist(), strict=True)
        ]
        assert max(errors) <= (0.51 if dtype == "float32" else 2)


@pytest.mark.parametrize("spec", ["atan(x)/pi+1/2", "x*(atan(x)/pi+1/2)", "atan(x)-atan(2*x)"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_arctangents_far_out(spec, dtype):
    row, most = activation(spec), 1e30 if dtype == "float32" else 1e160
    sizes = [0.3, 0.5, 1, 2.6, 8, 15.9, 16, 17, 300, 1e5, 2.0**32, 1e10, 1e18, most]
    points = np.array([s * p for p in sizes for s in (1, -1)], dtype)
    points = np.concatenate([points, np.nextafter(points, points.dtype.type(0))])
    for order, values in enumerate(kernel(row, dtype).value_and_derivative(points)):
        exact = exact_function(row, order)
        errors = [
            ulp_error(v, exact(p), FORMATS[dtype])[0] for p, v in zip(points.tolist(), values.tolist(), strict=True)
        ]
        assert max(errors) <= (0.51 if dtype == "float32" else 2)


def test_arctangents_are_rewritten_only_where_they_cancel():
    half = sympy.atan(x) / sympy.pi + sympy.Rational(1, 2)
    assert [p.left for p in inverted(pieces_of(half))] == [-sympy.oo, -16, -1]
    assert [p.left for p in inverted(pieces_of(1 - half))] == [-sympy.oo, 1, 16]
    for e in (sympy.atan(x), x * sympy.atan(x), sympy.atan(sympy.pi * x) / sympy.pi + 1):
        assert inverted(pieces_of(e)) == pieces_of(e)
    ends = inverted(pieces_of(sympy.atan(x**2 - 3) - sympy.pi / 2))
    assert [p.left for p in ends] == [-sympy.oo, -2, 2]
    assert ends[0].expr == ends[2].expr == -sympy.atan(1 / (x**2 - 3))


def test_a_sign_is_given_only_where_there_is_one():
    terms = {1: -sympy.Integer(1), 2: sympy.Integer(1)}
    assert sign_on(terms, (sympy.Integer(0), sympy.Integer(1))) == -1
    assert sign_on(terms, (sympy.Integer(1), sympy.oo)) == 1
    assert sign_on(terms, (sympy.Rational(1, 2), sympy.Integer(2))) == 0
    assert sign_on({2: sympy.Integer(1), 3: sympy.Integer(-2), 4: sympy.Integer(1)}, (sympy.Integer(0), sympy.oo)) == 1
    assert cuts(sympy.exp(x**2 - x)) == [0, 1]
    assert cuts(sympy.exp(x**2 + 1)) == []
    assert last_reach(terms, 1000) >= 33


@pytest.mark.parametrize("spec", ["mish", "gelu", "softplus", "log_sigmoid", "tanhshrink"])
def test_the_proof_catches_a_wrong_step(spec):
    outputs = _outputs(activation(spec))
    stable = stable_program(outputs)
    caught = 0
    for place, node in enumerate(stable.program.nodes):
        other = {"add": "sub", "sub": "add", "exp": "expm1", "log1p": "exp"}.get(node.operation)
        if other is None:
            continue
        nodes = list(stable.program.nodes)
        nodes[place] = Node(other, node.operands)
        wrong = replace(stable, program=Program(("x",), tuple(nodes), stable.program.outputs))
        try:
            prove(wrong.program, outputs, wrong.patches)
        except Unsupported:
            caught += 1
    assert caught >= 3


def test_a_wrong_constant_is_caught():
    stable = stable_program({"value": ACTIVATIONS["sigmoid"].expr})
    nodes = [
        Node("constant", (), node.leaf + sympy.Rational(1, 10**20)) if node.leaf == 1 else node
        for node in stable.program.nodes
    ]
    wrong = replace(stable, program=replace(stable.program, nodes=tuple(nodes)))
    with pytest.raises(Unsupported, match="differs from its formula"):
        prove(wrong.program, {"value": ACTIVATIONS["sigmoid"].expr}, {})


def test_decaying_quantities_cancel_what_does_not_decay():
    line = half_line([(1 + sympy.tanh(-a)) / 2, sympy.log(1 + sympy.exp(a)) - a])
    (t,) = line.exponentials
    assert line.reduced((1 + sympy.tanh(-a)) / 2) == line.element_of[t.symbol] ** 2 / (
        1 + line.element_of[t.symbol] ** 2
    )
    (log,) = line.logs.values()
    assert line.reduced(sympy.log(1 + sympy.exp(a)) - a) == line.element_of[log]


@given(st.floats(min_value=1e-5, max_value=60), st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from([1, -1]))
@settings(max_examples=80, deadline=None)
def test_program_and_formula_agree_in_balls(point, name, sign):
    row = ACTIVATIONS[name]
    stable = _cached(name)
    with flint.ctx.workprec(1200):
        computed = stable.program.enclose(exact_value(sign * point))["value"]
        exact = ball_function(row.expr)(exact_value(sign * point))
        # a local polynomial is within 2⁻⁵³ of the function, everything else within 2⁻⁸⁰
        assert abs(computed - exact) <= abs(exact) * arb(2) ** -52.9 + arb(2) ** -1100


_STABLE: dict = {}


def _cached(name):
    if name not in _STABLE:
        _STABLE[name] = stable_program({"value": ACTIVATIONS[name].expr})
    return _STABLE[name]


def test_local_polynomial_is_proven_and_a_wide_interval_refused():
    tanhshrink = x - sympy.tanh(x)
    patch = fit(tanhshrink, arb(0), 3, Fraction(-1), Fraction(1), even=True)
    assert patch.error_bits < -53
    with pytest.raises(Unsupported):
        fit(tanhshrink, arb(0), 3, Fraction(-3, 2), Fraction(3, 2), even=True)


def test_the_proof_of_a_polynomial_sees_a_changed_coefficient():
    from backproof.theory.local_polynomials import CELLS, _proven_error

    patch = fit(x - sympy.tanh(x), arb(0), 3, Fraction(-1), Fraction(1), even=True)
    with flint.ctx.workprec(320):
        spoilt = (*patch.coefficients[:3], patch.coefficients[3] * (1 + Fraction(1, 2**40)), *patch.coefficients[4:])
        arguments = (x - sympy.tanh(x), arb(0), Fraction(0), 3)
        limits = (Fraction(-1), Fraction(1), True, CELLS)
        assert _proven_error(*arguments, patch.coefficients, *limits) < arb(2) ** -53
        assert _proven_error(*arguments, spoilt, *limits) > arb(2) ** -46


def test_roots_are_isolated():
    root = refine_root(ACTIVATIONS["silu"].derivative(1), Fraction(-2), Fraction(-1))
    assert root.str(15, radius=False) == "-1.27846454276107"


def test_erfcx_pieces_are_proven_and_meet_the_function():
    assert all(piece.error_bits < -53 for piece in pieces())
    b_program = lower({"value": sympy.erfc(x)}, (x,))
    nodes = tuple(Node("erfcx", n.operands) if n.operation == "erfc" else n for n in b_program.nodes)
    program = without_erfcx(replace(b_program, nodes=nodes))
    with flint.ctx.workprec(300):
        for k in range(1, 400):
            u = arb(k) / 13 + arb(1) / 1024
            exact = (u * u).exp() * u.erfc()
            assert abs(program.enclose(u)["value"] / exact - 1) < arb(2) ** -53


def test_borders_that_are_no_floats_are_decided_exactly():
    third = sympy.Piecewise((x, x > sympy.Rational(1, 3)), (0, True))
    program = stable_program({"value": third}).program
    below = float(Fraction(1, 3))  # rounds down: below ⅓
    assert program.enclose(arb(below))["value"] == 0
    assert program.enclose(arb(below) + arb(2) ** -54)["value"] > 0


def test_what_cannot_be_compiled_is_named():
    with pytest.raises(Unsupported, match="gamma"):
        stable_program({"value": sympy.gamma(x)})
    with pytest.raises(Unsupported, match="zeta"):
        lower({"value": sympy.zeta(x)}, (x,))


@pytest.mark.parametrize("formula", ["max(exp(x),1/6)", "sigmoid(x**2-x)", "log1p(x/pi)**0.5", "exp(exp(x))", "1/x"])
def test_formulas_outside_the_normal_form_are_compiled_as_written(formula):
    row = activation(formula)
    program = stable_program({"value": row.expr}).program
    with flint.ctx.workprec(200):
        for point in (0.375, 1.5, 2.25):
            exact = ball_function(row.expr)(arb(point))
            assert abs(program.enclose(arb(point))["value"] - exact) <= abs(exact) * arb(2) ** -80


def test_a_form_that_fails_its_proof_is_not_used(monkeypatch):
    def refuse(*_):
        raise Unsupported("differs")

    monkeypatch.setattr("backproof.theory.stability.prove", refuse)
    assert stable_program({"value": ACTIVATIONS["mish"].expr}).as_written == {"value": "differs"}


def test_common_subexpressions_are_shared():
    row = ACTIVATIONS["silu"]
    both = stable_program({"value": row.expr, "derivative": row.derivative(1)}, SHORT).program
    assert sum(node.operation == "exp" for node in both.nodes) == 1


def test_as_written_keeps_the_formula():
    stable = stable_program({"value": ACTIVATIONS["softplus"].expr}, as_written=frozenset({"value"}))
    assert "value" in stable.as_written
    assert "log1p" not in stable.program.operations


def test_a_guarded_branch_does_not_overflow():
    program = lower({"value": sympy.Piecewise((x, x > 0), (sympy.exp(x) - 1, True))}, (x,))
    assert [n.operation for n in program.nodes].count("select") == 2  # the argument of exp is held in the other branch


def test_proof_points_reach_into_the_tails():
    assert max(proof.PROOF_POINTS) > 2**33
    assert min(abs(p) for p in proof.PROOF_POINTS) < Fraction(1, 2**59)


#: Parameters that are no floats, above and below 1: exponents such as 4x/7 have no float for a coefficient.
ODD_PARAMETERS = ("7/4", "3", "5/7")


@pytest.mark.parametrize("parameter", ODD_PARAMETERS)
@pytest.mark.parametrize("arithmetic", [SHORT, fused(DOUBLE)], ids=lambda a: a.name + "+" * a.fused)
@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if row.parameters])
def test_every_parametrised_row_is_stable_at_odd_parameters(name, arithmetic, parameter):
    row = activation(name, **dict.fromkeys(map(str, ACTIVATIONS[name].parameters), parameter))
    expressions = {f"d{n}": row.derivative(n) for n in range(3)}
    stable = stable_program(expressions, arithmetic)
    assert not stable.as_written
    assert set(stable.proved_at) == set(expressions)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "formula", ["x/(1+exp(-x)+x**2)", "x/(x**2+exp(-x))", "(x**3+exp(x))/(1+x**4)", "x**2/(1+x**2)*tanh(x)"]
)
def test_powers_beside_exponentials_do_not_overflow(formula, dtype):
    sizes = (2.0**32, 5e9, 1e19, 3e38, *((1e103, 1e154, 1e155, 1e300) * (dtype == "float64")))
    far = [s * v for s in (1, -1) for v in sizes]
    k = kernel(formula, dtype)
    for order in (0, 1):  # both of one kernel: half the compile time
        found = measure_accuracy(
            k, n_derivative=order, points=[*far, 1.5, -700.25], against=lambda v, n=order: k.value_and_derivative(v)[n]
        )
        assert found.worst_ulp <= 1, str(found)
        assert found.undecided == 0


def test_what_lasts_beside_what_decays():
    far = sympy.Integer(2) ** 32
    for e, expected in (
        (sympy.tanh(a) * a**2, a**2),
        (sympy.erfc(-a) + sympy.erf(-2 * a), 1),
        (a + sympy.exp(a - a**2), a),
        (a * sympy.exp(-a), 0),
    ):
        assert lasting_part(e, far, 1_000) == expected
    for e in (sympy.exp(a), sympy.cosh(a) * a, sympy.exp(-a / 2**40), a**2):
        assert lasting_part(e, far, 1_000) is None
