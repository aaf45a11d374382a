"""A report as one self-contained HTML file: formulas as MathML, pictures inside, no script, no font from elsewhere.

Every statement carries its kind, so that a reader never takes a sample for a proof: *derived*, *proved*, *enclosed*,
*measured*, *sampled*, *refuted*.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..numerics.files import write_whole
from .pictures import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: kind of statement -> what the word promises; shown as the legend.
KINDS = {
    "derived": "follows symbolically from the formula by rules that are tested exactly",
    "proved": "holds for all real inputs in its scope, by exact or ball arithmetic",
    "enclosed": "a number inside an interval whose ends are proven",
    "refuted": "false, with a counterexample whose enclosures are disjoint",
    "measured": "computed in floating point in this run",
    "sampled": "the largest value seen at finitely many points: not a proof",
}


class Report:
    """Collects sections in order and writes them as one page."""

    def __init__(self, title: str, lead: str) -> None:
        self.title = title
        self.lead = lead
        self._parts: list[str] = []
        self._contents: list[tuple[str, str]] = []

    def section(self, heading: str, text: str = "") -> None:
        """Begin a section; ``text`` is its first paragraph."""
        anchor = f"s{len(self._contents) + 1}"
        self._contents.append((anchor, heading))
        self._parts.append(f'<h2 id="{anchor}">{html.escape(heading)}</h2>')
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def fact(self, kind: str, text: str, latex: str | None = None) -> None:
        """One statement with its kind (a key of :data:`KINDS`) and, if given, its formula."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of statement: {', '.join(KINDS)}")
        formula = f'<div class="formula">{mathml(latex, block=True)}</div>' if latex else ""
        self._parts.append(
            f'<div class="fact"><span class="badge {kind}" title="{html.escape(KINDS[kind])}">{kind}</span>'
            f"<div>{html.escape(text)}{formula}</div></div>"
        )

    def formula(self, latex: str) -> None:
        """A displayed formula, from LaTeX."""
        self._parts.append(f'<div class="formula">{mathml(latex, block=True)}</div>')

    def code(self, source: str, fold: str = "") -> None:
        """Text as it is, in a fixed-width font; with ``fold`` behind that title, to be opened by the reader."""
        shown = f"<pre>{html.escape(source.rstrip())}</pre>"
        self._parts.append(f"<details><summary>{html.escape(fold)}</summary>{shown}</details>" if fold else shown)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; a cell given as ``("latex", text)`` is a formula."""
        head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
        body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')

    def picture(self, drawn: Figure, caption: str) -> None:
        """A figure inside the page, with its caption (which is also the text for readers who cannot see it)."""
        data = base64.b64encode(render(drawn, "png")).decode()
        words = html.escape(caption)
        self._parts.append(
            f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'
        )

    def to_html(self) -> str:
        """The whole page."""
        contents = "".join(f'<li><a href="#{a}">{html.escape(h)}</a></li>' for a, h in self._contents)
        legend = "".join(
            f'<dt><span class="badge {k}">{k}</span></dt><dd>{html.escape(v)}</dd>' for k, v in KINDS.items()
        )
        return (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body><main>"
            f'<h1>{html.escape(self.title)}</h1><p class="lead">{html.escape(self.lead)}</p>'
            f"<nav><ol>{contents}</ol></nav><dl>{legend}</dl>{''.join(self._parts)}</main></body></html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the page whole; :class:`InputError` where that cannot be done."""
        return write_whole(path, self.to_html())


def mathml(latex: str, *, block: bool = False) -> str:
    """LaTeX as MathML, which every current browser draws without script or font."""
    from latex2mathml.converter import convert

    return str(convert(latex, display="block" if block else "inline"))


def _cell(cell: object) -> str:
    if isinstance(cell, tuple) and len(cell) == 2 and cell[0] == "latex":
        return mathml(cell[1])
    text = html.escape(str(cell))
    return f'<span class="badge {text}">{text}</span>' if text in KINDS else text


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b6068; --paper: #fff; --line: #e2e5ea; --wash: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a4abb5; --paper: #16191d; --line: #333942; --wash: #1e2329; }
  img { background: #fff; border-radius: 6px; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
.lead { color: var(--soft); font-size: 1.08rem; }
nav ol { columns: 2; column-gap: 2.5rem; padding-left: 1.3rem; color: var(--soft); } nav a { color: inherit; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem .8rem; font-size: .88rem; color: var(--soft); }
dd { margin: 0; }
.fact { display: grid; grid-template-columns: 5.6rem 1fr; gap: .6rem; margin: .65rem 0; }
.badge { display: inline-block; height: 1.25rem; padding: 0 .5rem; border-radius: .7rem; font-size: .74rem;
  line-height: 1.25rem; justify-self: start; margin-top: .16rem; color: #fff; background: #5b6068;
  white-space: nowrap; }
.derived { background: #0068a3; } .proved { background: #00795a; } .enclosed { background: #2f6f8f; }
.refuted { background: #b03a00; } .measured { background: #7a5c00; } .sampled { background: #9b4f7e; }
.fact > div { white-space: pre-line; overflow-wrap: anywhere; }
.formula { overflow: auto hidden; padding: .5rem 0; } math { font-size: 1.08em; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto;
  font: 13px/1.5 ui-monospace, monospace; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; margin: .8rem 0; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
td { vertical-align: baseline; }
th { color: var(--soft); font-weight: 600; } td { font-variant-numeric: tabular-nums; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--soft); }
figure { margin: 1.3rem 0; } img { max-width: 100%; height: auto; } figcaption { color: var(--soft); font-size: .9rem; }
"""
