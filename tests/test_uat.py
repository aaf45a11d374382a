"""The command ``backproof uat``: what it prints, draws and refuses."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from backproof.demos import uat
from backproof.demos.cli import run
from backproof.theory.approximation import CONSTRUCTIONS, approximate
from backproof.theory.staircases import bump


def ask(capsys, *arguments):
    status = run(["uat", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize("name", ["sigmoid", "relu", "tanh", "softplus", "leaky_relu"])
def test_approximate_prints_proof_and_sample_apart(capsys, name):
    status, out, err = ask(capsys, "approximate", "sin(2*pi*x)", "--epsilon", "0.05", "--activation", name)
    assert (status, err) == (0, "")
    assert "PROVED      |F − f| ≤ 0.04" in out
    assert out.count("SAMPLED") == 2
    assert all("largest of" in line for line in out.splitlines() if line.startswith("SAMPLED"))


def test_json_is_complete_and_the_weights_make_the_network(capsys):
    status, out, _ = ask(capsys, "approximate", "x**2", "--units", "4", "--activation", "relu", "--json")
    data = json.loads(out)
    assert status == 0
    assert data["units"] == 4
    assert Fraction(data["proved"]["exact"]) <= Fraction(data["proved"]["bound"])
    net = {k: [Fraction(v) for v in data["network"][k]] for k in ("knots", "weights", "outer")}
    p = Fraction(1, 2)
    total = Fraction(data["network"]["offset"])
    for knot, weight, outer in zip(net["knots"], net["weights"], net["outer"], strict=True):
        total += outer * max(weight * (p - knot) + Fraction(data["network"]["shift"]), 0)
    assert total == Fraction(1, 4)
    assert data["certified"]["lower"] <= data["certified"]["upper"] <= data["certified"]["total"]
    assert data["sampled"]["float64"]["about"] == "not a proof"
    assert data["lower_bound"]["value"] <= data["proved"]["bound"]


def test_certificate_on_request(capsys):
    status, out, _ = ask(capsys, "approximate", "x**2", "--units", "4", "--certify")
    assert status == 0
    assert "CERTIFIED" in out
    _, out, _ = ask(capsys, "approximate", "x**2", "--units", "4", "--activation", "relu", "--no-certify")
    assert "CERTIFIED" not in out


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_pictures(capsys, tmp_path, kind):
    heads = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assembled = (
        ("assemble", "sin(2*pi*x)", "--activation", "relu", "--cells", "6"),
        ("assemble", "sin(2*pi*x)", "--cells", "6"),
    )
    for arguments in (
        ("approximate", "abs(x)", "--units", "6", "--activation", "sigmoid", "--interval=-1,1"),
        *(assembled if kind == "png" else ()),  # what is drawn is one for all kinds of file
        ("bump",),
    ):
        path = tmp_path / f"{arguments[0]}.{kind}"
        status, _, err = ask(capsys, *arguments, "--output", str(path))
        assert (status, err) == (0, "")
        assert path.read_bytes().startswith(heads[kind])
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def picture_words(drawn):
    """All legend entries and titles of a picture."""
    legends = [ax.get_legend() for ax in drawn.axes]
    found = [text.get_text() for legend in legends if legend is not None for text in legend.get_texts()]
    return found + [ax.get_title(loc="left") for ax in drawn.axes]


@pytest.mark.parametrize(("text", "spec"), [("sin(2*pi*x)", "relu"), ("exp(x)/3", "relu"), ("sin(2*pi*x)", "tanh")])
def test_bounds_in_the_picture_are_those_of_the_text_and_never_below(text, spec):
    from backproof.numerics.approximation import sample
    from backproof.numerics.certificates import certify

    built = approximate(text, spec, epsilon="0.05")
    certificate = certify(built) if spec == "relu" else None
    said = uat.approximation_text(built, {"float64": sample(built)}, certificate)
    words = picture_words(uat.approximation_picture(built, sample(built), certificate))
    (strip,), (band,) = ([w for w in words if w.startswith(start)] for start in ("PROVED ±", "PROVED band f ± "))
    for shown in (strip.removeprefix("PROVED ±"), band.removeprefix("PROVED band f ± ")):
        assert Fraction(shown) >= built.bound
        assert f"≤ {shown} for every real x" in said
    if certificate is not None:
        (shown,) = (w.removeprefix("CERTIFIED ±").split()[0] for w in words if w.startswith("CERTIFIED"))
        assert Fraction(shown) >= certificate.upper
        assert f"sup|F̂ − f| ≤ {shown} " in said


def test_coloured_shapes_have_a_legend_and_panels_keep_apart():
    for spec, word in (("sigmoid", "bumps"), ("relu", "hats")):
        drawn = uat.assembly_picture(uat.assembled("sin(2*pi*x)", spec))
        assert f"{word}, adding up to F" in picture_words(drawn)
        drawn.draw_without_rendering()
        above, below = drawn.axes[0], drawn.axes[2]
        gap = above.get_tightbbox().y0 - below.get_tightbbox().y1
        assert gap > 10, "the lower title touches the axis above"


def test_leaks_of_a_bump_are_rounded_up(capsys):
    built = bump("sigmoid", "0.4", "0.6", "200")
    shown = [line.split()[2] for line in uat.bump_text(built).splitlines()[1:]]
    width = built.right - built.left
    for text, k in zip(shown, (4, 10, 20), strict=True):
        assert Fraction(text) >= built.leak(width / k)


def test_long_work_shows_a_bar_on_a_terminal_only(capsys, monkeypatch):
    import contextlib

    bars = []

    @contextlib.contextmanager
    def bar(description, total, **options):
        bars.append((description, total))
        yield lambda steps=1: None

    monkeypatch.setattr(uat, "progress", bar)
    assert ask(capsys, "approximate", "x", "--units", "3")[0] == 0
    assert bars[0] == ("building the network", None)
    assert [text for text, total in bars if total] == ["sampling in float64", "sampling in float32"]
    monkeypatch.undo()
    assert ask(capsys, "approximate", "x", "--units", "3")[2] == ""


def test_pictures_of_odd_sizes():
    """No bumps to draw, a constant, a single unit, hundreds of units, a bound of zero."""
    for text, options in (
        ("3", {"epsilon": "0.1"}),
        ("x", {"units": 1}),
        ("sin(9*x)", {"units": 300}),
        ("x/3", {"epsilon": "0.1", "spec": "relu"}),
        ("sin(x)", {"units": 8, "construction": "costarelli_spigler"}),
    ):
        built = approximate(text, options.pop("spec", "tanh"), **options)
        from backproof.numerics.approximation import sample

        assert uat.approximation_picture(built, sample(built)).axes
        assert uat.assembly_picture(built).axes
    assert uat.bump_picture(bump("arctan", "-1", "1", "30")).axes


def test_constructions_lists_the_table(capsys):
    status, out, _ = ask(capsys, "constructions", "--json")
    assert status == 0
    assert [row["name"] for row in json.loads(out)["constructions"]] == list(CONSTRUCTIONS)
    assert all(row["theorem"] for row in json.loads(out)["constructions"])


def test_bump(capsys):
    status, out, _ = ask(capsys, "bump", "--json", "--steepness", "400", "--activation", "tanh")
    proved = json.loads(out)["proved"]
    assert status == 0
    assert [row["within"] for row in proved] == sorted(row["within"] for row in proved)


WRONG = [
    (("approximate", '__import__("os").system("x")'), "formula"),
    (("approximate", "9**9**9**9"), "too large"),
    (("approximate", "x", "--interval", "1,0"), "smaller end first"),
    (("approximate", "x", "--interval", "0,inf"), "finite"),
    (("approximate", "x", "--interval", "nan,1"), "finite"),
    (("approximate", "x", "--epsilon", "0"), "positive"),
    (("approximate", "x", "--epsilon", "nan"), "finite"),
    (("approximate", "x", "--epsilon", "1e-12"), "larger epsilon"),
    (("approximate", "1/x", "--interval=-1,1"), "x = 0"),
    (("approximate", "log(x)"), "not defined"),
    (("approximate", "sqrt(x)"), "slope"),
    (("approximate", "sign(x)", "--interval=-1,1"), "jumps"),
    (("approximate", "exp(x)", "--activation", "x**3"), "polynomial of degree 3"),
    (("approximate", "x", "--activation", "sigmod"), "sigmoid"),
    (("approximate", "x", "--activation", "gaussian"), "gaussian"),
    (("approximate", "x", "--construction", "stairs"), "staircase"),
    (("approximate", "x", "--units", "0"), "between"),
    (("approximate", "x", "--samples", "1"), "samples"),
    (("approximate", "x", "--output", "picture.txt"), ".png"),
    (("approximate", "x", "--output", "/nowhere/at/all.png"), "does not exist"),
    (("bump", "--left", "1", "--right", "0"), "left < right"),
    (("bump", "--steepness", "0"), "positive"),
    (("bump", "--activation", "relu"), "bounded and monotone"),
    (("assemble", "x", "--cells", "1"), "range"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(w[0])[:60] for w in WRONG])
def test_wrong_input_is_one_clear_line_and_status_2(capsys, arguments, words):
    status, out, err = ask(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert words in err


def test_numbers_are_shown_on_the_safe_side():
    third = Fraction(1, 3)
    assert uat.above(third) == "0.3334"
    assert uat.below(third) == "0.3333"
    assert Fraction(uat.float_above(third)) >= third >= Fraction(uat.float_below(third))
    assert uat.above(Fraction(0)) == "0"
    assert uat.above(Fraction(1, 10**400)).startswith("1")
