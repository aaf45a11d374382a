"""The page docs/derivation.md: every Python block runs, and prints what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "derivation.md"


def test_every_block_runs_and_prints_what_the_page_shows():
    if not PAGE.exists():
        pytest.skip("the documentation is not beside the tests here")
    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    namespace, printed, shown = {}, "", 0
    for kind, body in blocks:
        if kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(body, namespace)
            printed = out.getvalue()
        else:
            assert printed.strip() == body.strip()
            shown += 1
    assert shown >= 4


def test_the_page_names_the_layers_of_the_grammar_and_no_others():
    from backproof.theory.placing import KNOWN

    if not PAGE.exists():
        pytest.skip("the documentation is not beside the tests here")
    section = PAGE.read_text(encoding="utf-8").split("## Networks as text")[1].split("\n## ")[0]
    listed = section.split("in order:")[1].split("`.gradients()`")[0]
    named = {word for text in re.findall(r"`([^`]+)`", listed) for word in re.findall(r"^[a-z_]+", text)}
    named |= {word.strip() for word in re.search(r"also ([a-z, ]+):", listed)[1].split(",")}
    assert named == set(KNOWN)


def test_floors_of_sizes_are_spelt_and_an_option_is_given_once(capsys):
    from backproof.demos.cli import run

    assert run(["derive", "layer", "max_pool1d(kernel=3, padding=1)"]) == 0
    printed = capsys.readouterr().out
    assert "floor(" in printed
    assert "fl∞r" not in printed
    assert "−∞ else" in printed
    assert run(["derive", "layer", "attention(mask=causal, mask=given)"]) == 2
    assert "given twice" in capsys.readouterr().err
