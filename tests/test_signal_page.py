"""The page docs/signal-propagation.md: every Python block runs, and prints what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "signal-propagation.md"


def test_every_block_runs_and_prints_what_the_page_shows():
    if not PAGE.exists():
        pytest.skip("the documentation is not beside the tests here")
    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
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
    assert shown == 5
