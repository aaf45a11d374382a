"""Functions of which one half-line gives the other: found where there is one, and only where nothing cancels."""

from __future__ import annotations

import pytest
import sympy

from backproof.theory import activation
from backproof.theory.decaying import a, half_line, span_of
from backproof.theory.reflections import Reflection, reflected
from backproof.theory.symbols import x

#: formula, order of its derivative, the reflection: (side that decays, sign, coefficient, degree)
FOUND = [
    ("sigmoid", 0, (-1, -1, 1, 0)),
    ("silu", 0, (-1, 1, 1, 1)),
    ("silu", 1, (-1, -1, 1, 0)),
    ("gelu", 0, (-1, 1, 1, 1)),
    ("gelu", 1, (-1, -1, 1, 0)),
    ("softplus", 0, (-1, 1, 1, 1)),
    ("log_sigmoid", 0, (1, 1, -1, 1)),
    ("3*x/(1+exp(2*x))", 0, (1, 1, -3, 1)),
    ("x-x/(1+exp(-x))", 0, (1, 1, -1, 1)),
]


def _reflection(name, order):
    e = activation(name).derivative(order)
    line = half_line([e.subs(x, s * a) for s in (1, -1)], span=span_of(-sympy.oo, sympy.oo))
    return e, reflected(line, e)


@pytest.mark.parametrize(("name", "order", "expected"), FOUND)
def test_reflections_are_found_and_hold(name, order, expected):
    e, found = _reflection(name, order)
    assert found == Reflection(*expected)
    for point in (sympy.Rational(1, 3), sympy.Rational(17, 4)):
        at_side, beyond = (e.subs(x, s * point).evalf(60) for s in (found.side, -found.side))
        assert abs(found.coefficient * point**found.degree + found.sign * at_side - beyond) < 1e-50


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("mish", 0),  # no such law
        ("x**2/(1+exp(-x))", 0),  # the sides differ by x²
        ("1/(1+exp(-x))-1/2", 0),  # neither side decays
        ("1/(1+exp(-x))-3*x*exp(-x**2)", 0),  # what decays is larger than what is left: 1 − 1.6
        ("pi*x/(1+exp(-x))", 0),  # the coefficient is no fraction
    ],
)
def test_no_reflection_where_there_is_none_or_digits_would_be_lost(name, order):
    assert _reflection(name, order)[1] is None
