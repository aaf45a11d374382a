"""Sums with a scaled error function as quotients of polynomials: proven, right, and refused where they are wrong."""

from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from flint import arb

from backproof.numerics.accuracy import measure_accuracy
from backproof.numerics.kernels import kernel
from backproof.theory import erfcx_quotients
from backproof.theory.activations import activation
from backproof.theory.arithmetic import SHORT, fused
from backproof.theory.enclosures import enclose
from backproof.theory.erfcx_quotients import quotient
from backproof.theory.rational_minimax import INLINE_ERFCX, all_positive, inline_erfcx
from backproof.theory.stability import stable_program

HALF, ROOT = sympy.Rational(1, 2), 1 / sympy.sqrt(2)
#: (scale, slope, rest) by powers of a: Φ(-a), that less a·φ(a) (GELU's derivative), a sum without a zero
SUMS = (
    (ROOT, ((0, HALF),), ()),
    (ROOT, ((0, HALF),), ((1, -1 / sympy.sqrt(2 * sympy.pi)),)),
    (sympy.Integer(1), ((0, HALF), (2, sympy.Integer(3))), ((1, sympy.Rational(1, 7)),)),
)
HELD = Fraction(26)


def test_the_approximation_itself_is_proven():
    coefficients = inline_erfcx()
    assert 0 < 1 - coefficients[0][0] < 2.0**-40
    assert INLINE_ERFCX.error(coefficients) < arb(2) ** -INLINE_ERFCX.proven_bits
    assert all_positive(coefficients)
    wrong = ((coefficients[0][0] * (1 + 2.0**-34), *coefficients[0][1:]), coefficients[1])
    assert not INLINE_ERFCX.error(wrong) < arb(2) ** -INLINE_ERFCX.proven_bits


@pytest.mark.parametrize("given", SUMS, ids=["value", "slope", "no_zero"])
def test_a_quotient_keeps_its_bound(given):
    scale, slope, rest = given
    found = quotient(scale, slope, rest, HELD)
    assert found is not None
    assert found.error_bits < -33
    assert (found.root is None) == (given is not SUMS[1])
    rng = np.random.default_rng(0)
    near = [] if found.root is None else [float(found.root[0]) + d for d in (1e-12, -1e-9, 1e-4, -0.1)]
    with flint.ctx.workprec(400):
        factor = enclose(scale, {}, digits=80)
        terms = [[(d, enclose(c, {}, digits=80)) for d, c in part] for part in (slope, rest)]
        for point in [*rng.uniform(0, 26, 200).tolist(), 0.0, 1e-300, *near]:
            a = arb(point)
            u = factor * a
            exact = sum(c * a**d for d, c in terms[0]) * (u * u).exp() * u.erfc() + sum(c * a**d for d, c in terms[1])
            value = _at(found.above, a) / _at(found.below, a)
            for part in found.root or ():
                a = a - arb(part.numerator) / part.denominator
            value = value * a if found.root is not None else value
            assert abs(value / exact - 1) < arb(2) ** found.error_bits + arb(10) ** -40, point


def _at(coefficients, a):
    return sum((arb(c.numerator) / c.denominator * a**k for k, c in enumerate(coefficients)), arb(0))


def test_wrong_coefficients_are_refused(monkeypatch):
    p, q = inline_erfcx()
    expected = quotient(*SUMS[1], HELD)
    quotient.cache_clear()
    monkeypatch.setattr(erfcx_quotients, "inline_erfcx", lambda: ((p[0] * 1.0001, *p[1:]), q))
    try:
        assert expected is not None
        assert quotient(*SUMS[1], HELD) is None
    finally:
        quotient.cache_clear()


def test_what_has_no_quotient():
    two_zeros = (((0, sympy.Integer(1)),), ((1, sympy.Integer(-2)), (2, sympy.Integer(1))))
    assert quotient(ROOT, *two_zeros, HELD) is None
    assert quotient(sympy.Integer(1), *SUMS[0][1:], Fraction(28)) is None  # beyond where erfcx is approximated


def test_a_program_with_a_wrong_quotient_is_not_used(monkeypatch):
    outputs = {"value": activation("gelu").expr}
    assert stable_program(outputs, fused(SHORT)).quotients["value"]
    real = erfcx_quotients.quotient
    shifted = lambda *given: replace(real(*given), above=tuple(c * Fraction(10001, 10000) for c in real(*given).above))  # noqa: E731
    monkeypatch.setattr("backproof.theory.half_lines.quotient", shifted)
    assert "differs" in stable_program(outputs, fused(SHORT)).as_written["value"]


@pytest.mark.parametrize("formula", ["gelu", "x*erfc(x)", "x*(1+erf(x/3))/2", "erfc(2*x)", "x**2*erfc(x/sqrt(2))"])
@pytest.mark.parametrize("order", [0, 1])
def test_float32_kernels_are_within_their_bound(formula, order):
    k = kernel(formula, "float32")
    report = measure_accuracy(k, n_derivative=order)
    assert report.worst_ulp <= 0.51, report


def test_other_targets_keep_the_function():
    plain = stable_program({"value": activation("gelu").expr}, SHORT)
    assert not plain.quotients
    assert "erfcx" in plain.program.operations


def test_halves_of_subnormals_are_rounded_rightly():
    odd = np.arange(1, 4001, 2, dtype=np.uint32).view(np.float32)
    k = kernel("gelu", "float32")
    down, up = odd.view(np.uint32) // 2, odd.view(np.uint32) // 2 + 1
    np.testing.assert_array_equal(k(odd).view(np.uint32), up)  # x/2 + 0.4x²
    np.testing.assert_array_equal((-k(-odd)).view(np.uint32), down)
