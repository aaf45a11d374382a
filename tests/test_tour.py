"""The tour as a whole: every stage says what it should, nothing is unmet, and the report opens offline."""

import json

import pytest

from backproof.demos.cli import run
from backproof.demos.report import KINDS, Report
from backproof.demos.tour import STAGES, Guide, run_tour


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    guide = run_tour(seed=0, quiet=True)
    return guide, guide.report.to_html()


def said(tour, kind, *words):
    return any(s["kind"] == kind and all(w in s["text"] for w in words) for s in tour[0].statements)


def test_nothing_is_unmet_and_every_stage_ran(tour):
    guide, _ = tour
    assert guide.unmet == []
    assert list(guide.seconds) == [title for title, _ in STAGES]
    assert {s["kind"] for s in guide.statements} <= set(KINDS)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("derived", ("tanh(log(exp(x) + 1))", "f′(x)")),
        ("proved", ("σ′(x) ≤ 1/4",)),
        ("proved", ("δ-recursion for every depth",)),
        ("derived", ("p − y",)),
        ("derived", ("235,146 parameters",)),
        ("measured", ("ULP from the exact value",)),
        ("proved", ("two_layer_softmax.py::backward", "PROVED for all shapes")),
        ("refuted", ("forgot_batch_mean", "1/X.shape[0] is missing", "counterexample")),
        ("refuted", ("wrong_sign", "the sign is wrong", "counterexample")),
        ("measured", ("forgot_max_shift", "right over the reals, wrong in floats")),
        ("measured", ("4-16-3 on iris: test accuracy 0.9667",)),
        ("measured", ("784-256-128-10", "probabilities sum to 1 within")),
        ("proved", ("XOR: not separable",)),
        ("proved", ("AND: learned", "Novikoff's bound")),
        ("measured", ("relu, he_normal", "50 layers")),
        ("proved", ("|F − f| ≤",)),
        ("sampled", ("largest error",)),
    ],
)
def test_the_main_statements_are_made(tour, kind, words):
    assert said(tour, kind, *words)


def test_the_report_is_whole_and_self_contained(tour):
    page = tour[1]
    assert page.count("<figure>") >= 11
    assert page.count("<math") >= 7
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/1998/Math/MathML", "").replace("https://www.w3.org", "")
    for title, _ in STAGES:
        assert title.split(":")[0] in page


def test_an_unmet_expectation_is_said_and_ends_with_status_1(monkeypatch, tmp_path, capsys):
    def broken(guide: Guide) -> None:
        guide.expect(False, "proved", "two is odd")

    monkeypatch.setattr("backproof.demos.tour.STAGES", (("Broken", broken),))
    assert run(["tour", "--output", str(tmp_path / "r.html")]) == 1
    captured = capsys.readouterr()
    assert "NOT MET   two is odd" in captured.err
    assert "NOT MET: two is odd" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "proved" not in captured.out


def test_json_and_unwritable_output(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("backproof.demos.tour.STAGES", (("One", lambda guide: guide.say("derived", "x")),))
    assert run(["tour", "--json", "--output", str(tmp_path / "r.html")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["statements"] == [{"kind": "derived", "text": "x"}]
    assert run(["tour", "--output", str(tmp_path / "missing" / "r.html")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_statement_needs_a_kind():
    with pytest.raises(ValueError, match="not a kind"):
        Guide(Report("t", "l"), 0, True).say("verified", "sampled is never called that")
