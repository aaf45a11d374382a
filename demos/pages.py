"""A derivation as a page of lines, written as text, Markdown, LaTeX or one HTML file with formulas as MathML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Formula:
    """One equation, as text and as LaTeX, with its shape and what stands behind it."""

    text: str
    latex: str
    shape: str = ""
    #: 0 for an equation of its own, 1 for a definition under it
    level: int = 0
    #: a word before it ("where", "receives")
    word: str = ""


@dataclass(frozen=True)
class Words:
    """A line of words."""

    text: str
    level: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Code:
    """Source, as it is."""

    source: str


Line = Formula | Words | Table | Code


@dataclass(frozen=True)
class Block:
    """Lines that belong together, under a heading if there is one."""

    lines: Sequence[Line]
    heading: str = ""


@dataclass
class Page:
    """A title, what stands beside it, and blocks."""

    title: str
    lead: str
    blocks: list[Block] = field(default_factory=list)

    def add(self, *lines: Line, heading: str = "") -> None:
        """One block more; nothing if it has no lines."""
        if lines:
            self.blocks.append(Block(lines, heading))

    def write(self, form: str) -> str:
        """The page in one of :data:`FORMATS`."""
        return FORMATS[form](self)


# --- text ---------------------------------------------------------------------------------------------------


def as_text(page: Page) -> str:
    """Unicode text."""
    lines = [f"{page.title}    {page.lead}".rstrip()]
    for k, block in enumerate(page.blocks):
        if k or block.heading:
            lines.append("")
        lines += [block.heading] if block.heading else []
        for line in block.lines:
            lines += _text_of(line)
    return "\n".join(lines)


def _text_of(line: Line) -> list[str]:
    if isinstance(line, Formula):
        word = f"{line.word} " if line.word else ""
        return [f"{'  ' * (line.level + 1)}{word}{line.text}" + (f"   {line.shape}" if line.shape else "")]
    if isinstance(line, Words):
        return ["  " * (line.level + 1) + line.text]
    if isinstance(line, Code):
        return line.source.rstrip().split("\n")
    cells = [list(line.heads), *map(list, line.rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(line.heads))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells]


# --- Markdown and LaTeX -------------------------------------------------------------------------------------


def as_markdown(page: Page) -> str:
    """Markdown with formulas between dollar signs."""
    lines = [f"# {_plain(page.title)}", "", _plain(page.lead), ""]
    for block in page.blocks:
        lines += [f"## {_plain(block.heading)}", ""] if block.heading else []
        for line in block.lines:
            lines += _markdown_of(line)
        lines += [] if lines[-1] == "" else [""]
    return "\n".join(lines).rstrip()


def _markdown_of(line: Line) -> list[str]:
    if isinstance(line, Formula):
        shape = f" \\quad [{_times(line.shape)}]" if line.shape else ""
        if line.level or line.word:
            return [
                f"{'  ' * max(line.level - 1, 0)}- {_plain(line.word)} ${line.latex}{shape}$".replace("-  $", "- $")
            ]
        return ["", f"$${line.latex}{shape}$$", ""]
    if isinstance(line, Words):
        return [f"{'  ' * max(line.level - 1, 0)}- {_plain(line.text)}" if line.level else f"{_plain(line.text)}  "]
    if isinstance(line, Code):
        return ["```python", line.source.rstrip(), "```"]
    rows = [line.heads, ["---"] * len(line.heads), *line.rows]
    return ["", *("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows), ""]


def _plain(text: str) -> str:
    """Text in which Markdown sees no marks of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def _times(shape: str) -> str:
    return shape.strip("[]").replace("×", r" \times ").replace("⌊", r"\lfloor ").replace("⌋", r"\rfloor ")


def as_latex(page: Page) -> str:
    """A document that compiles with pdflatex; amsmath is all it needs."""
    body = [rf"\section*{{{_tex(page.title)}}}", _tex(page.lead), ""]
    for block in page.blocks:
        body += [rf"\subsection*{{{_tex(block.heading)}}}"] if block.heading else []
        for line in block.lines:
            body += _latex_of(line)
        body.append("")
    return "\n".join([_PREAMBLE, *body, r"\end{document}"])


_PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath,amssymb}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=2cm]{geometry}
\allowdisplaybreaks
\begin{document}"""


def _latex_of(line: Line) -> list[str]:
    if isinstance(line, Formula):
        shape = rf" \qquad [{_times(line.shape)}]" if line.shape else ""
        word = rf"\text{{{_tex(line.word)} }}" if line.word else ""
        return [r"\begin{equation*}", f"  {word}{line.latex}{shape}", r"\end{equation*}"]
    if isinstance(line, Words):
        return [_tex(line.text), ""]
    if isinstance(line, Code):
        return [r"\begin{verbatim}", line.source.rstrip(), r"\end{verbatim}"]
    rows = [" & ".join(map(_tex, row)) + r" \\" for row in (line.heads, *line.rows)]
    return [rf"\begin{{tabular}}{{{'l' * len(line.heads)}}}", *rows, r"\end{tabular}", ""]


_TEX_SIGNS = {
    "⊙": r"$\odot$", "×": r"$\times$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "−": "$-$", "σ": r"$\sigma$",
    "δ": r"$\delta$", "γ": r"$\gamma$", "β": r"$\beta$", "ε": r"$\varepsilon$", "Σ": r"$\Sigma$", "√": r"$\surd$",
    "∞": r"$\infty$", "·": r"$\cdot$", "ᵀ": r"$^{\top}$", "′": "$'$", "²": "$^2$", "⌊": r"$\lfloor$", "⌋": r"$\rfloor$",
    "α": r"$\alpha$", "∂": r"$\partial$", "‖": r"$\|$", "Δ": r"$\Delta$", "x̂": r"$\hat x$", "ȳ": r"$\bar y$",
    "≠": r"$\ne$", "λ": r"$\lambda$", "ẏ": r"$\dot y$", "⟨": r"$\langle$", "⟩": r"$\rangle$", "⁻": "$^-$",
    "π": r"$\pi$",
}  # fmt: skip


def _tex(text: str) -> str:
    """Words as LaTeX."""
    text = re.sub(r"([#$%&_{}])", r"\\\1", text.replace("\\", "/")).replace("^", r"\^{}").replace("~", r"\~{}")
    for sign, tex in _TEX_SIGNS.items():
        text = text.replace(sign, tex)
    return text


# --- HTML ---------------------------------------------------------------------------------------------------


def as_html(page: Page) -> str:
    """One self-contained page: formulas as MathML, no script, nothing from elsewhere."""
    body = []
    for block in page.blocks:
        body.append("<section>" + (f"<h2>{html.escape(block.heading)}</h2>" if block.heading else ""))
        body += [_html_of(line) for line in block.lines]
        body.append("</section>")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(page.title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{html.escape(page.title)}</h1><p class="lead">{html.escape(page.lead)}</p>'
        f"{''.join(body)}</main></body></html>"
    )


def _html_of(line: Line) -> str:
    from .report import mathml

    if isinstance(line, Formula):
        word = f'<span class="word">{html.escape(line.word)}</span>' if line.word else ""
        shape = f'<span class="shape">{html.escape(line.shape)}</span>' if line.shape else ""
        formula = mathml(line.latex).replace("<math ", '<math displaystyle="true" ', 1)
        return f'<div class="line l{min(line.level, 2)}">{word}{formula}{shape}</div>'
    if isinstance(line, Words):
        return f'<p class="l{min(line.level, 2)}">{html.escape(line.text)}</p>'
    if isinstance(line, Code):
        return f"<pre>{html.escape(line.source.rstrip())}</pre>"
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in line.rows)
    heads = "".join(f"<th>{html.escape(h)}</th>" for h in line.heads)
    return f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b6068; --paper: #fff; --line: #e2e5ea; --wash: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a4abb5; --paper: #16191d; --line: #333942; --wash: #1e2329; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
.lead, .word, .shape { color: var(--soft); }
section { border-top: 1px solid var(--line); padding: .9rem 0 .6rem; }
.line { display: flex; align-items: baseline; gap: .7rem; margin: .35rem 0; overflow-x: auto; overflow-y: hidden; }
.word { font-size: .88rem; } .shape { margin-left: auto; padding-left: 1.5rem; white-space: nowrap; font-size: .9rem; }
.l1 { padding-left: 1.6rem; } .l2 { padding-left: 3.2rem; } p { margin: .35rem 0; }
math { font-size: 1.12em; } .l1 math, .l2 math { font-size: 1em; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto;
  font: 13px/1.5 ui-monospace, monospace; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td { font-variant-numeric: tabular-nums; }
"""

#: name -> what writes a page in it. A format is one row.
FORMATS: dict[str, Callable[[Page], str]] = {
    "text": as_text,
    "latex": as_latex,
    "markdown": as_markdown,
    "html": as_html,
}
