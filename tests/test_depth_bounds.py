"""Bounds of vanishing and exploding gradients: exact, and never broken by a drawn network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sympy

from backproof.demos.cli import run
from backproof.numerics.depth_bounds import Measured, measure_depth
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.depth_bounds import depth_bound
from backproof.theory.errors import InputError, Unsupported


def test_sigmoid_vanishes_as_a_quarter_to_the_depth():
    assert depth_bound("sigmoid", 21).upper == sympy.Rational(1, 4) ** 20
    assert depth_bound("sigmoid", 21).lower == 0
    assert depth_bound("sigmoid", 21).verdict.startswith("vanishes")
    assert depth_bound("tanh", 9).verdict == "cannot grow"
    assert depth_bound("relu", 9, "3/2").upper == sympy.Rational(3, 2) ** 8
    assert depth_bound("relu", 9, "3/2").verdict.startswith("may explode")


def test_skip_connections_bound_from_both_sides():
    found = depth_bound("sigmoid", 5, 2, skip=True)
    assert (found.upper, found.lower) == (sympy.Rational(3, 2) ** 4, sympy.Rational(1, 2) ** 4)
    assert found.verdict == "cannot vanish"
    assert depth_bound("relu", 5, 1, skip=True).lower == 0


def test_an_enclosed_slope_gives_an_enclosed_bound():
    found = depth_bound("mish", 11)
    ball = found.enclosed(found.upper)
    assert 1.08 < float(ball.mid()) ** 0.1 < 1.09
    assert float(ball.rad()) < 1e-9


BOUNDED = [n for n, r in ACTIVATIONS.items() if r.analysis.lipschitz.data is not None]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", BOUNDED)
def test_no_drawn_network_breaks_its_bound(name, skip):
    try:
        assert measure_depth(name, 6, width=12, skip=skip, networks=4, initialiser="lecun_normal").holds
    except Unsupported:
        assert ACTIVATIONS[name].analysis.lipschitz.data.value.infinite


def test_a_broken_bound_is_noticed():
    assert not Measured(np.array([0.1]), np.array([0.0]), np.array([-np.inf]), (1.0, 1.0)).holds
    assert not Measured(np.array([-2.0]), np.array([0.0]), np.array([-1.0]), (1.0, 1.0)).holds
    assert Measured(np.array([-np.inf]), np.array([-np.inf]), np.array([-np.inf]), (1.0, 1.0)).holds


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("sigmoid", 0), InputError), (("sigmoid", 10**9), InputError), (("sigmoid", 3, "-1"), InputError),
        (("sigmoid", 3, "x"), InputError), (("step", 3), Unsupported), (("squared_relu", 3), Unsupported),
    ],
)  # fmt: skip
def test_wrong_input(arguments, error):
    with pytest.raises(error):
        depth_bound(*arguments)


def test_command(capsys):
    assert run(["derive", "depth-bound", "sigmoid", "--depth", "11"]) == 0
    assert "0.25" in (out := capsys.readouterr().out) or "1/4" in out
    assert run(["derive", "depth-bound", "tanh", "--skip", "--measure", "--width", "16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True
    for wrong in (
        ["nope"],
        ["relu", "--depth", "0"],
        ["relu", "--weight-norm", "-2"],
        ["relu", "--measure", "--width", "0"],
    ):
        assert run(["derive", "depth-bound", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
