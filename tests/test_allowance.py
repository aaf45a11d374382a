"""Large programs are judged at fewer points, and it is said; one-sided limits are taken where a branch switches."""

import numpy as np
import pytest
from flint import arb

from backproof.numerics import allowance, check, kink_findings
from backproof.numerics.exact_scalars import Ball, exact_arithmetic, unary
from backproof.numerics.findings import Evidence

from .corpus import convolutional_network as network

WRT = ["W1", "b1", "W2", "b2", "W3", "b3"]
SHAPES = {"X": (2, 1, 8, 8), "W1": (2, 1, 3, 3), "b1": (2,), "W2": (3, 2, 3, 3), "b2": (3,), "W3": (48, 3), "b3": (3,)}


def test_fewer_points_are_named(monkeypatch):
    monkeypatch.setattr(allowance, "FORMULA", 0.0)
    monkeypatch.setattr(allowance, "FLOATS", 0.0)
    monkeypatch.setattr(allowance, "KINKS", 0.0)
    result = check(lambda dy, x: dy @ np.ones((2, 2)) * 2 * x, forward=lambda x: (x * x) @ np.ones((2, 2)),
                   shapes={"x": (3, 2)})  # fmt: skip
    assert result.passed
    assert "more left out" in result.formula.why
    for finding in (result.floats, result.domain, result.kinks):
        assert " points (one run takes" in finding.why


def test_no_allowance_leaves_nothing_out():
    result = check(lambda dy, x: dy * 2 * x, forward=lambda x: x * x, shapes={"x": (3,)})
    assert "left out" not in str(result)
    assert "points (one run" not in str(result)
    assert Evidence().cost == 0


def test_limits_are_taken_where_a_branch_switches(monkeypatch):
    taken = []
    limits = kink_findings.limits
    monkeypatch.setattr(kink_findings, "limits", lambda s, p, *rest: taken.append(p.label) or limits(s, p, *rest))
    assert check(lambda dy, x: dy * (x > 0), forward=lambda x: np.maximum(x, 0), shapes={"x": (4,)}).kinks.ok
    assert "x = 0" in taken
    assert "x = 1" not in taken


@pytest.mark.parametrize(
    ("name", "border"), [("floor", "2"), ("ceil", "-1"), ("sign", "0"), ("abs", "0"), ("rint", "0.5")]
)
def test_what_a_step_function_notes(name, border):
    for value, switched in ((border, True), ("0.25", False)):
        with exact_arithmetic() as noted:
            unary(name, Ball(arb(value), leaf=True))
        assert noted.switched is switched


@pytest.mark.slow
@pytest.mark.parametrize("style", ["im2col", "loops"])
def test_convolutional_network(style):
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=shape) for name, shape in SHAPES.items()} | {"Y": np.eye(3)[[0, 2]]}
    forward, backward = getattr(network, f"forward_{style}"), getattr(network, f"backward_{style}")
    result = check(backward, forward=forward, inputs=inputs, wrt=WRT)
    assert result.passed, str(result)
    assert result.formula.grade == "PROVED at these shapes"
