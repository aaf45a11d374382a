"""The report page: self-contained, escaped, and every statement says what kind it is."""

import re
from html.parser import HTMLParser

import pytest

from backproof.demos.pictures import figure, render, save
from backproof.demos.report import KINDS, Report, mathml
from backproof.theory.errors import InputError

VOID = {"meta", "img", "br", "link", "input"}


class Balanced(HTMLParser):
    """Raises where a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def assert_self_contained(page):
    assert "<script" not in page.lower()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", page), "something is fetched from elsewhere"
    assert "@import" not in page
    assert "url(" not in page
    parser = Balanced()
    parser.feed(page)
    assert not parser.open


def small_report():
    drawn, axes = figure(3, 2)
    axes.plot([0, 1], [0, 1])
    report = Report("A <title>", "lead & more")
    report.section("One", "text with <b>")
    for kind in KINDS:
        report.fact(kind, f"a {kind} statement", r"\frac{1}{4}")
    report.formula(r"\delta^{(l)}")
    report.code("if a < b: pass\n")
    report.code("x = 1", fold="behind <this>")
    report.table(["a", "b"], [["<x>", ("latex", "x^{2}")], ["proved", 3]])
    report.picture(drawn, 'a "picture"')
    return report


def test_the_page_is_self_contained_and_balanced():
    page = small_report().to_html()
    assert_self_contained(page)
    assert "A &lt;title&gt;" in page
    assert "<math" in page
    assert "data:image/png;base64," in page


def test_an_unknown_kind_of_statement_is_refused():
    with pytest.raises(ValueError, match="verified"):
        Report("t", "l").fact("verified", "a sample is never called that")


def test_an_unwritable_place_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        small_report().write(tmp_path / "missing" / "report.html")


def test_formulas_become_mathml():
    assert mathml(r"\sigma'(z)").startswith("<math")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures_are_written_in_each_format_and_reproducibly(tmp_path, suffix):
    def draw():  # anew each time: a second draw of one figure may move its layout by a hair
        drawn, axes = figure(3, 2)
        axes.plot([0, 1], [1, 0], label="a line")
        axes.legend()
        return drawn

    path = save(draw(), tmp_path / f"p.{suffix}")
    assert path.read_bytes() == render(draw(), suffix)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")
