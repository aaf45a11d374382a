"""The page docs/emit.md: every command runs, and every line that the page shows is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from backproof.demos.cli import run

PAGE = Path(__file__).parent.parent / "docs" / "emit.md"


def commands():
    if not PAGE.exists():
        return []
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip():
                found[-1][1].append(line)
    return found


@pytest.mark.parametrize(("command", "shown"), commands())
def test_command_prints_what_the_page_shows(command, shown, capsys):
    program, *arguments = shlex.split(command)
    assert program == "backproof"
    status = run(arguments)
    printed = capsys.readouterr().out.splitlines()
    assert status == (1 if shown and shown[0].startswith("different") else 0)
    for line in shown:
        assert line in printed


def test_the_page_is_there_and_names_every_target():
    from backproof.numerics.emission import TARGETS

    if not PAGE.exists():
        pytest.skip("the documentation is not beside the tests here")
    assert len(commands()) > 12
    assert all(f"`{target}`" in PAGE.read_text(encoding="utf-8") for target in TARGETS)
