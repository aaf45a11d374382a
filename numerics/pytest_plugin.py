"""The pytest plugin: a fixture ``backproof`` whose failures read as the result of the check.

Loaded by pytest itself (entry point ``pytest11``), so it imports nothing heavy before a test uses the fixture.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .check_result import CheckResult

FINDINGS = ("formula", "floats", "domain", "kinks", "contract")
_REPORT = "--backproof-report"


class Checks:
    """What the fixture offers: :meth:`check` is :func:`backproof.numerics.check`, and fails the test."""

    def __init__(self, test: str, records: list[dict[str, Any]]) -> None:
        self._test, self._records = test, records

    def check(self, *arguments: Any, findings: Sequence[str] = FINDINGS, **keywords: Any) -> CheckResult:
        """Judge a gradient and fail the test unless every finding named in ``findings`` is ok.

        The other arguments are those of :func:`backproof.numerics.check`; the result is returned.
        """
        __tracebackhide__ = True
        unknown = [name for name in findings if name not in FINDINGS]
        if unknown or not findings:
            pytest.fail(f"findings={list(findings)!r}: expected some of {', '.join(FINDINGS)}", pytrace=False)
        from ..theory.errors import InputError
        from .checking import check

        try:
            result = check(*arguments, **keywords)
        except InputError as error:
            pytest.fail(str(error), pytrace=False)
        passed = all(result.findings[name].ok for name in findings)
        self._records.append({"test": self._test, "ok": passed, "text": str(result), **result.as_dict()})
        if not passed:
            pytest.fail(str(result), pytrace=False)
        return result


@pytest.fixture
def backproof(request: pytest.FixtureRequest) -> Checks:
    """``backproof.check(backward, forward=…)`` in exact arithmetic; a failure reads as the check's result."""
    return Checks(request.node.nodeid, request.config.stash.setdefault(_KEY, []))


_KEY = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--backproof-report FILE``."""
    group = parser.getgroup("backproof")
    group.addoption(_REPORT, metavar="FILE", help="write what the fixture backproof found to FILE (.json or .html)")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a report that is neither JSON nor HTML before any test runs."""
    path = config.getoption(_REPORT)
    if path and Path(path).suffix.lower() not in (".json", ".html"):
        raise pytest.UsageError(f"{_REPORT} {path}: the name must end in .json or .html")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, if one was asked for."""
    path = session.config.getoption(_REPORT)
    if not path:
        return
    from ..theory.errors import InputError
    from .files import write_whole

    records = session.config.stash.get(_KEY, [])
    text = as_html(records) if path.lower().endswith(".html") else json.dumps({"checks": records}, indent=1)
    try:
        write_whole(path, text)
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


def _summary(records: Sequence[dict[str, Any]]) -> str:
    """One row for each check: its findings, linked to its text."""
    rows = []
    for place, record in enumerate(records):
        cells = []
        for name in FINDINGS:
            finding = record["findings"][name]
            kind = {"failed": "bad", "not decided": "open"}.get(finding["outcome"], "")
            word = finding["grade"] if name == "formula" and finding["grade"] else finding["outcome"]
            cells.append(f'<td class="{kind}">{html.escape(word)}</td>')
        rows.append(f'<tr><td><a href="#c{place}">{html.escape(record["test"])}</a></td>{"".join(cells)}</tr>')
    head = "".join(f"<th>{name}</th>" for name in ("test", *FINDINGS))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def as_html(records: Sequence[dict[str, Any]]) -> str:
    """Return the report as one page: a summary line and each check's text."""
    ok = sum(1 for record in records if record["ok"])
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>backproof checks</title>',
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;border-left:.3rem solid #2a7f3f}"
        ".failed pre{border-color:#b3261e}h2{font-size:1rem;margin-bottom:.2rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #ddd}"
        ".bad{color:#b3261e;font-weight:600}.open{color:#7a5c00}"
        "@media(prefers-color-scheme:dark){body{background:#16191d;color:#e6e8eb}pre{background:#1e2329}a{color:inherit}"
        "td,th{border-color:#333942}.bad{color:#f2877e}.open{color:#e0b84c}}</style>",
        f"<h1>backproof checks</h1><p>{ok} of {len(records)} ok</p>",
        _summary(records),
    ]
    for place, record in enumerate(records):
        kind = "ok" if record["ok"] else "failed"
        parts.append(
            f'<section class="{kind}" id="c{place}"><h2>{html.escape(record["test"])}: {kind}</h2>'
            f"<pre>{html.escape(record['text'])}</pre></section>"
        )
    return "\n".join([*parts, "</html>\n"])
