"""The command ``backproof gain``: what it prints, what its audits say, what it refuses."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from backproof.demos.cli import run
from backproof.demos.gain import read_literal
from backproof.demos.gain import run as gains
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.errors import InputError


def ask(capsys, *arguments):
    status = run(["gain", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_closed_forms_and_digits(capsys):
    status, out, err = ask(capsys, "gelu")
    assert (status, err) == (0, "")
    assert "0.42522148257029867492 = √3/(6·π) + 1/3 (exact)" in out
    assert "second moment       √(q/E[f²])   = 1.5335304411955352338" in out
    assert "backward            1/√E[f′²]    = 1.4811144127083481966" in out


def test_a_formula_without_closed_form_has_proven_digits(capsys):
    status, out, _ = ask(capsys, "x*tanh(log(1+exp(x)))")
    assert status == 0
    assert out.count("(enclosed, 20 digits proven)") == 6
    mish = ask(capsys, "mish")[1]
    assert [line for line in out.splitlines() if "=" in line][3:] == [
        line for line in mish.splitlines() if "=" in line
    ][3:]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_row(capsys, name):
    status, out, err = ask(capsys, name, "--json")
    assert (status, err) == (0, "")
    data = json.loads(out)
    for kind, entry in data["gains"].items():
        assert ("value" in entry) != ("none" in entry)
        if "none" in entry:
            assert kind == "backward"
            assert "vanishes" in entry["none"]
        else:
            assert entry["digits"] >= 20
            assert entry["status"] == ("exact" if entry["closed_form"] else "enclosed")


@pytest.mark.parametrize("literal", ["1.6667", "5/3", "1.66666666666666667"])
def test_pytorchs_gain_of_tanh_is_none(capsys, literal):
    status, out, _ = ask(capsys, "tanh", "--audit", literal)
    assert status == 1
    assert f"AUDIT  {literal} is none of the gains of tanh" in out
    assert "+13.58 % against backward" in out


@pytest.mark.parametrize(
    ("name", "literal", "expected"),
    [
        ("relu", "1.41421", ["second_moment", "backward"]),
        ("relu", "1.7128585504496627", ["standard_deviation"]),
        ("tanh", "1.59254", ["second_moment", "standard_deviation"]),
        ("tanh", "1.46741", ["backward"]),
        ("leaky_relu(slope=1/5)", "1.3867504906", ["second_moment", "backward"]),
        ("identity", "1", ["second_moment", "standard_deviation", "backward"]),
        ("selu", "0.75", []),
        ("relu", "1.41422", []),
        ("step", "2", ["standard_deviation"]),
    ],
)
def test_audit_says_which(capsys, name, literal, expected):
    status, out, _ = ask(capsys, name, "--audit", literal, "--json")
    audit = json.loads(out)["audit"]
    assert audit["is"] == expected
    assert status == (0 if expected else 1)


def test_digits_that_are_not_proven_are_not_decided(capsys):
    literal = "1.592537419722831427810000000000000000000001"
    status, out, _ = ask(capsys, "tanh", "--audit", literal, "--json")
    assert json.loads(out)["audit"]["is"] == []
    assert status == 1
    found = gains("tanh").gains["second_moment"]
    middle = (found.lower + found.upper) / 2
    text = f"{int(middle * 10**45)}e-45"
    assert next(a.matches for a in gains("tanh").audit(text)) is None


def test_variance(capsys):
    status, out, _ = ask(capsys, "tanh", "--variance", "1.178480490386", "--json")
    data = json.loads(out)
    assert status == 0
    assert float(data["gains"]["second_moment"]["value"]) == pytest.approx(5 / 3, abs=1e-10)  # q* of gain 5/3
    assert data["variance"] == "589240245193/500000000000"


@pytest.mark.parametrize(
    ("text", "value", "half_unit"),
    [
        ("1.667", Fraction(1667, 1000), Fraction(1, 2000)),
        ("5/3", Fraction(5, 3), Fraction(0)),
        ("2", Fraction(2), Fraction(1, 2)),
        ("1.5e-3", Fraction(3, 2000), Fraction(1, 20000)),
    ],
)
def test_literals(text, value, half_unit):
    assert read_literal(text) == (value, half_unit)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument"),
        (("rleu",), "did you mean"),
        (("exp(x**2)",), "diverges"),
        (("log(x)",), "not a finite real number"),
        (("1/x",), "no proven integral"),
        (("3",), "does not depend on x"),
        (("__import__('os').system('x')",), "formula"),
        (("9**9**9**9",), "too large"),
        (("",), "empty"),
        (("tanh", "--variance", "0"), "positive"),
        (("tanh", "--variance", "-1"), "positive"),
        (("tanh", "--variance", "nan"), "nan"),
        (("tanh", "--variance", "x"), "unknown name 'x'"),
        (("tanh", "--audit", "nan"), "positive number"),
        (("tanh", "--audit", "inf"), "positive number"),
        (("tanh", "--audit", "-1"), "positive number"),
        (("tanh", "--audit", "0"), "positive number"),
        (("tanh", "--audit", "1/0"), "positive number"),
        (("tanh", "--audit", "1e999999999"), "positive number"),
        (("tanh", "--audit", "five"), "positive number"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, words):
    status, out, err = ask(capsys, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_python_interface_refuses_at_once():
    with pytest.raises(InputError, match="diverges"):
        gains("exp(x**2)")
    assert isinstance(gains("step").gains["backward"], InputError)
