"""Separability is decided with a certificate that verifies; Rosenblatt's rule keeps to Novikoff's bound."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backproof.demos.cli import run as command_line
from backproof.numerics.perceptron import run_perceptron
from backproof.theory.errors import InputError
from backproof.theory.perceptron import (
    CORNERS,
    GATES,
    Inseparable,
    Separation,
    exact_coordinate,
    exact_text,
    gate,
    problem,
    separability,
    widest_street,
)

GATE = pytest.mark.parametrize("name", GATES)
SEPARABLE = {"and", "or", "nand", "nor"}


@st.composite
def labelled_points(draw):
    dimension = draw(st.integers(1, 4))
    coordinate = st.one_of(st.integers(-6, 6), st.fractions(-3, 3, max_denominator=7))
    points = draw(st.lists(st.tuples(*[coordinate] * dimension), min_size=2, max_size=9))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(points), max_size=len(points)))
    assume(len(set(labels)) == 2)
    return problem(points, labels)


@GATE
def test_gates(name):
    verdict, run = separability(gate(name)), run_perceptron(gate(name))
    assert verdict.holds
    assert verdict.separable == (name in SEPARABLE)
    assert run.outcome == ("learned" if name in SEPARABLE else "cycle")
    if isinstance(verdict, Separation):
        assert run.mistakes <= verdict.mistake_bound
        for corner, label in zip(CORNERS, GATES[name]):
            value = sum(w * c for w, c in zip(run.weights, corner)) + run.bias
            assert (value > 0) == bool(label)


def test_xor_proof_is_the_textbook_one():
    verdict = separability(gate("xor"))
    assert isinstance(verdict, Inseparable)
    assert verdict.multipliers == (Fraction(1, 2),) * 4
    assert verdict.common_point == (Fraction(1, 2), Fraction(1, 2))
    assert "a contradiction" in verdict.text


def test_and_bound_by_hand():
    verdict = separability(gate("and"))
    assert verdict.margin_squared == Fraction(1, 17)  # (2, 2, −3)/√17 has values −3, −1, −1, 1
    assert verdict.problem.radius_squared == 3
    assert verdict.mistake_bound == 51


def test_wrong_certificates_are_refused():
    xor, conjunction = separability(gate("xor")), separability(gate("and"))
    assert not replace(xor, multipliers=(Fraction(1), Fraction(0), Fraction(0), Fraction(1))).holds
    assert not replace(xor, multipliers=(Fraction(-1, 2),) * 4).holds
    assert not replace(xor, multipliers=(Fraction(0),) * 4).holds
    assert not Inseparable(gate("and"), xor.multipliers).holds
    assert not replace(conjunction, margin_squared=Fraction(1, 16)).holds
    assert not replace(conjunction, weights=(Fraction(0), Fraction(0))).holds
    assert not replace(conjunction, problem=gate("xor")).holds


@settings(max_examples=200, deadline=None)
@given(labelled_points())
def test_every_verdict_verifies(asked):
    verdict = separability(asked)
    assert verdict.holds
    if isinstance(verdict, Separation):
        assert verdict.mistake_bound >= 1
        normal, offset, distance_squared = widest_street(asked)
        norm = sum(w * w for w in normal)
        closest = []
        for point, sign in zip(asked.points, asked.signs):
            value = sign * (sum(w * c for w, c in zip(normal, point)) + offset)
            assert value > 0
            closest.append(value**2 / norm)
        assert min(closest) == distance_squared
    else:
        with pytest.raises(InputError, match="hulls"):
            widest_street(asked)


@settings(max_examples=100, deadline=None)
@given(labelled_points(), st.data())
def test_no_other_hyperplane_has_a_larger_margin(asked, data):
    verdict = separability(asked)
    assume(isinstance(verdict, Separation))
    size = st.fractions(-5, 5, max_denominator=9)
    *w, b = data.draw(st.tuples(*[size] * (asked.dimension + 1)))
    norm = sum(entry**2 for entry in (*w, b))
    worst = min(s * (sum(p * c for p, c in zip(w, x)) + b) for x, s in zip(asked.points, asked.signs))
    assert worst <= 0 or worst**2 <= verdict.margin_squared * norm


@settings(max_examples=100, deadline=None)
@given(labelled_points())
def test_rosenblatt_agrees_with_the_proof(asked):
    verdict = separability(asked)
    run = run_perceptron(asked, passes=300)
    if isinstance(verdict, Separation):
        assert run.outcome != "cycle"
        assert run.mistakes <= verdict.mistake_bound
    else:
        assert run.outcome != "learned"
    if run.outcome == "cycle":
        assert run.path[run.cycle_start] == run.path[-1]
        # Run on: the cycle comes again.
        assert sum(run.history[run.cycle_start :]) > 0


@settings(max_examples=50, deadline=None)
@given(labelled_points())
def test_the_vectorised_pass_is_the_plain_rule(asked):
    """The textbook loop in fractions, point by point, makes the same mistakes and ends at the same weights."""
    run = run_perceptron(asked, passes=20)
    weights = [Fraction(0)] * (asked.dimension + 1)
    history = []
    for _ in run.history:
        mistakes = 0
        for point, sign in zip(asked.points, asked.signs):
            augmented = (*point, Fraction(1))
            if sign * sum(w * c for w, c in zip(weights, augmented)) <= 0:
                weights = [w + sign * c for w, c in zip(weights, augmented)]
                mistakes += 1
        history.append(mistakes)
    assert tuple(history) == run.history
    assert tuple(weights) == (*run.weights, run.bias)


def test_huge_numbers_stay_exact():
    """Coordinates near 10³⁰ leave int64; the difference of 1 still decides."""
    big = 10**30
    verdict = separability([(big,), (big + 1,)], [0, 1])
    assert verdict.separable
    assert verdict.holds
    assert run_perceptron(problem([(0, big), (big, 0)], [0, 1])).outcome == "learned"


@pytest.mark.parametrize("size", ["1e300", "1e-300", "1e399", "1e-399", "1e12"])
@pytest.mark.parametrize("separable", [True, False])
def test_numbers_beyond_floats_are_told_briefly_and_drawn(size, separable, tmp_path, capsys):
    file = tmp_path / "far.csv"
    extra = "" if separable else f"3{size[1:]},1,1\n"  # a point of class 0 then lies between two of class 1
    file.write_text(f"a,b,y\n{size},0,0\n-{size},1,1\n2{size[1:]},1,0\n{extra}")
    assert command_line(["perceptron", str(file), "--output", str(tmp_path / "far.png")]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.replace(str(file), "").splitlines())) < 200
    assert not re.search(r"≈ ?0\b(?!\.)", out)
    assert ("≈ marks a number rounded" in out) == ("≈" in out.replace("≈ marks", ""))
    assert command_line(["perceptron", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["separable"] == separable
    if found["separable"]:
        verdict = separability([(size, 0), ("-" + size, 1), ("2" + size[1:], 1)], [0, 1, 0])
        assert Fraction(found["margin_squared"]) == verdict.margin_squared
        assert Fraction(found["novikoff_bound"]) == verdict.mistake_bound


def test_a_long_bound_is_rounded_up():
    verdict = separability([("1e-300", 0), ("-1e-300", 1), ("2e-300", 1)], [0, 1, 0])
    mantissa, exponent = verdict.bound_text.split("e")
    assert Fraction(mantissa) * Fraction(10) ** int(exponent) >= int(verdict.mistake_bound)
    assert verdict.bound_text == "8.88889e599"


def test_numbers_longer_than_pythons_limit_are_written():
    """str() of an int stops at 4300 digits; 30 coordinates of 400 digits each make more."""
    points = [tuple(f"{(7 * i + 3 * k * k) % 101 + 1}.{'13' * 150}e-{i + k}" for k in range(14)) for i in range(16)]
    verdict = separability(points, [i % 2 for i in range(16)])
    assert verdict.holds
    assert len(verdict.text) < 600
    text = exact_text(Fraction(10) ** 5000 / 3)
    assert len(text) == 5003
    assert text.endswith("/3")


def test_text_stays_short_in_many_dimensions():
    generator = [(k * 7919 % 101, *(k**p % 97 for p in range(1, 7))) for k in range(40)]
    verdict = separability(generator, [k % 2 for k in range(40)])
    assert verdict.holds
    assert len(verdict.text) < 400


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        ([], [], "no points"),
        ([(0, 0)], [1], "two classes"),
        ([(0,), (1,), (2,)], [0, 1, 2], "3 value"),
        ([(0,), (1, 2)], [0, 1], "different numbers"),
        ([(), ()], [0, 1], "none"),
        ([(0,), (1,)], [0], "1 labels"),
        ([(float("nan"),), (1,)], [0, 1], "not a finite number"),
        ([("inf",), (1,)], [0, 1], "not a finite number"),
        ([("1/0",), (1,)], [0, 1], "not a finite number"),
        ([("1e999999999",), (1,)], [0, 1], "out of range"),
        ([("apple",), (1,)], [0, 1], "apple"),
    ],
)
def test_wrong_points(points, labels, said):
    with pytest.raises(InputError, match=said):
        separability(points, labels)


def test_a_coordinate_is_the_decimal_it_prints_as():
    assert exact_coordinate("1/3") == Fraction(1, 3)
    assert exact_coordinate(0.1) == Fraction(1, 10)


def test_passes_must_be_positive():
    with pytest.raises(InputError, match="at least one pass"):
        run_perceptron(gate("and"), passes=0)


@GATE
def test_command_line(name, capsys):
    assert command_line(["perceptron", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["certificate_holds"] is True
    assert found["separable"] == (name in SEPARABLE)
    assert found["rosenblatt"]["outcome"] == ("learned" if name in SEPARABLE else "cycle")


def test_command_line_draws_and_reads_files(tmp_path, capsys):
    file = tmp_path / "points.csv"
    file.write_text("width,height,kind\n0.1,0.2,a\n0.3,0.1,b\n0.9,0.4,b\n")
    for what, name in (("xor", "x.png"), ("or", "x.svg"), (str(file), "y.pdf")):
        assert command_line(["perceptron", what, "--output", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 4000
    assert "classes a and b" in capsys.readouterr().out
    wide = tmp_path / "wide.csv"
    wide.write_text("1,2,3,0\n4,5,6,1\n")
    assert command_line(["perceptron", str(wide), "--output", str(tmp_path / "z.png")]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nxor"], "neither a gate"),
        (["missing.csv"], "No such file"),
        (["xor", "--output", "/no/such/folder/x.png"], "does not exist"),
        (["xor", "--output", "x.bmp"], "png"),
        (["xor", "--passes", "0"], "passes"),
    ],
)
def test_command_line_refuses(arguments, said, capsys):
    assert command_line(["perceptron", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err
