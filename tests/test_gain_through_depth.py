"""What an audited literal does to a deep network: proven fixed points, none invented."""

import pytest

from backproof.demos.gain import run, through_depth
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.gaussian import Moment


def test_what_five_thirds_does_to_tanh():
    told = through_depth(run("tanh"), "5/3")
    for words in ("q* = 1.17848049039", "χ₁ = 1.20983132038", "grow by 21.0 % a layer"):
        assert words in told


@pytest.mark.parametrize(
    ("name", "literal", "words"),
    [
        ("relu", "2", "each layer multiplies E z² by 2.00000 and E δ² by 2.00000"),
        ("leaky_relu(slope=1)", "1", "each layer multiplies E z² by 1.00000 and E δ² by 1.00000"),
        ("gelu", "1.4142", "no stable E z²"),
        ("silu", "1.7", "no stable E z²"),
        ("step", "1.5", "no gradient passes"),
        ("sigmoid", "1", "shrink"),
        ("selu", "1", "q* = 1.0000"),
    ],
)
def test_through_depth(name, literal, words):
    """GELU and SiLU have no stable non-zero fixed point without bias: a root finder would invent one."""
    assert words in through_depth(run(name), literal)


@pytest.mark.parametrize("name", ["tanh", "erf", "arctan", "sin", "softsign", "hard_tanh", "selu", "step", "sign"])
def test_the_second_moment_gain_has_its_fixed_point_at_one(name):
    """Used as σ_w, the gain at variance 1 keeps q = 1 by definition."""
    value = run(name).gains["second_moment"]
    assert isinstance(value, Moment)
    told = through_depth(run(name), str(value.decimal(20)))
    q = float(told.split("q* = ")[1].split(",")[0])
    assert q == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_row_is_told(name):
    assert through_depth(run(name), "1.3")
