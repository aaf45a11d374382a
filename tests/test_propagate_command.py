"""The command ``backproof propagate``: what it prints, draws and refuses."""

from __future__ import annotations

import json
import math
import re

import pytest

from backproof.demos.cli import run
from backproof.demos.propagate import _course, _decimal, picture
from backproof.demos.propagate import run as propagate
from backproof.theory.errors import InputError

QUICK = ("--width", "24", "--depth", "6", "--networks", "6", "--batch", "3")


def ask(capsys, *arguments):
    status = run(["propagate", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_text(capsys):
    status, out, err = ask(capsys, *QUICK)
    assert (status, err) == (0, "")
    first = out.splitlines()[0]
    assert first.startswith("relu, he_normal: E z² stays at 2 through 6 layers (predicted 2, measured ")
    assert first.endswith("forward stable, backward stable; theory and measurement agree")
    assert "E[S²]/(E S)²" in out
    assert "6 networks of width 24, batch 3, seed 0" in out
    assert len([line for line in out.splitlines() if line[:5].strip().isdigit()]) == 6


def test_json(capsys):
    status, out, _ = ask(capsys, *QUICK, "--activation", "tanh", "--initialiser", "glorot_uniform", "--json")
    data = json.loads(out)
    assert status == 0
    assert (data["activation"], data["initialiser"], data["depth"]) == ("tanh", "glorot_uniform", 6)
    assert data["agrees"] is True
    assert set(data["outcome"]) == {"E z²", "E f(z)²", "E δ²"}
    assert [row["layer"] for row in data["layers"]] == [1, 2, 3, 4, 5, 6]
    for row in data["layers"]:
        for name in ("preactivation", "activation", "gradient"):
            entry = row[name]
            assert entry["low"] <= entry["measured"] * (1 + 1e-12)
            assert entry["measured"] <= entry["high"] * (1 + 1e-12)
            assert entry["log10"]["predicted"] == pytest.approx(math.log10(entry["predicted"]), abs=1e-12)
            assert abs(entry["z"]) < 4


def test_json_of_values_beyond_floats_is_valid(capsys):
    status, out, _ = ask(capsys, *QUICK[:2], "--depth", "40", "--networks", "3", "--activation", "squared_relu",
                         "--input-variance", "1000", "--json")  # fmt: skip
    data = json.loads(out)
    assert status in (0, 1)
    last = data["layers"][-1]["preactivation"]
    assert last["log10"]["predicted"] > 1e6
    assert "e+" in last["predicted"]
    assert last["measured"] is None
    assert data["verdict"] == {"forward": "exploding", "backward": "exploding"}


def test_gradients_of_a_step_vanish_exactly(capsys):
    status, out, _ = ask(capsys, *QUICK, "--activation", "step", "--initialiser", "lecun")
    assert status == 0
    assert "E δ² vanishes on the way back (predicted ×0, measured ×0)" in out


def test_where_theory_and_networks_differ_the_status_says_so(capsys):
    # GELU's variance map is unstable: what finite width adds to the variance grows from layer to layer.
    status, out, _ = ask(capsys, "--width", "64", "--depth", "20", "--networks", "100", "--batch", "8",
                         "--activation", "gelu")  # fmt: skip
    assert status == 1
    assert "differ at this width" in out


def test_what_could_not_be_judged_is_not_agreement(capsys):
    # Squares of cubes overflow on the way back: only the last layer, where E δ² = 1 is given, has a number.
    arguments = ("--activation", "x**3", "--networks", "8", "--width", "64", "--depth", "10")
    status, out, _ = ask(capsys, *arguments)
    first = out.splitlines()[0]
    assert status == 1
    assert first.endswith("agreement not decided: up to 9 of 10 layers could not be judged")
    assert "not measured: overflow" in first
    assert "theory and measurement agree" not in out
    assert "measured undecided" not in out
    assert "E δ²: not decided; largest |z| = 0.00, at layer 10; 9 of 10 layers not judged" in out
    data = json.loads(ask(capsys, *arguments, "--json")[1])
    assert (data["agrees"], data["agreement"]) == (False, "not decided")
    assert data["outcome"]["E δ²"] == "not decided"


def test_columns_stay_apart_and_aligned(capsys):
    _, out, _ = ask(capsys, "--activation", "x**3", "--networks", "8", "--width", "64", "--depth", "10")
    heading, *rows = (line for line in out.splitlines() if line[:5].strip().isdigit() or line.startswith("layer"))
    for row in rows:
        assert len(row) == len(heading)
        assert len(re.split(r"  +", row.strip())) == 7


def test_the_words_of_verdict_and_course_do_not_contradict_each_other(capsys):
    _, out, _ = ask(capsys, *QUICK[:2], "--depth", "10", "--networks", "6", "--activation", "sin",
                    "--initialiser", "orthogonal")  # fmt: skip
    first = out.splitlines()[0]
    assert "E δ² falls on the way back" in first
    assert "backward falling (by less than a factor of 10)" in first
    assert "stable" not in first


def test_any_formula_and_biases(capsys):
    status, out, err = ask(
        capsys, *QUICK, "--activation", "where(x>0, x, x/7)", "--initialiser", "gain", "--bias-variance", "1/10"
    )
    assert (status, err) == (0, "")
    assert "E[S²]" not in out  # known for zero bias only


def test_equal_seeds_print_equal_lines(capsys):
    first, again, other = (ask(capsys, *QUICK, "--json", "--seed", s)[1] for s in ("3", "3", "4"))
    assert first == again != other


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_pictures(capsys, tmp_path, kind):
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    others = (("step", "3"), ("squared_relu", "30"), ("relu", "1"))  # what is drawn is one for all kinds of file
    for name, depth in (("tanh", "6"), *(others if kind == "png" else ())):
        path = tmp_path / f"{name}.{kind}"
        arguments = (*QUICK, "--activation", name, "--depth", depth, "--output", str(path))
        status, _, err = ask(capsys, *arguments)
        assert status in (0, 1)
        assert err == ""
        assert path.read_bytes().startswith(head)


def test_what_the_tour_calls():
    result = propagate("tanh", "glorot_normal", depth=5, seed=1, width=16, networks=3, batch=2)
    assert "\n" not in result.headline
    assert picture(result).axes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--activation", "rleu"), "did you mean"),
        (("--activation", "__import__('os').system('x')"), "formula"),
        (("--activation", "9**9**9**9"), "too large"),
        (("--activation", "exp(x**2)"), "diverges"),
        (("--activation", ""), "empty"),
        (("--initialiser", "he_norml"), "did you mean"),
        (("--initialiser", "zeros", "--activation", "tanh"), "zero"),
        (("--depth", "0"), "depth"),
        (("--depth", "-3"), "depth"),
        (("--depth", "999999999"), "depth"),
        (("--depth", "x"), "depth"),
        (("--width", "0"), "width"),
        (("--width", "1000000000"), "GiB"),
        (("--width", "9" * 40), "GiB"),
        (("--networks", "1"), "networks"),
        (("--networks", "1000000000"), "networks"),
        (("--batch", "0"), "batch"),
        (("--batch", "9" * 30), "batch"),
        (("--bias-variance", "-1"), "not negative"),
        (("--bias-variance", "nan"), "nan"),
        (("--input-variance", "0"), "positive"),
        (("--input-variance", "x"), "unknown name 'x'"),
        (("--seed", "-1"), "seed"),
        (("--output", "picture.gif"), "png"),
        (("--output", "/nowhere/picture.png"), "does not exist"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, words):
    status, out, err = ask(capsys, *QUICK, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert len(err) < 400


@pytest.mark.parametrize("depth", [0, -1, 2.5, True, 10**9])
def test_wrong_depth_in_python(depth):
    with pytest.raises(InputError, match="depth"):
        propagate("relu", "he", depth=depth)


def test_numbers_are_short_however_large():
    assert _decimal(0.0) == "1"
    assert _decimal(math.log(0.0104307384)) == "0.01043"
    assert _decimal(-math.inf) == "0"
    assert _decimal(1e6 * math.log(10)) == "1.000e+1000000"
    assert _decimal(-2000.0) == "2.577e-869"
    assert [_course(0.0, math.log(v)) for v in (1.1, 2.0, 0.5)] == ["stays", "rises", "falls"]
