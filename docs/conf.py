"""Sphinx configuration: `sphinx-build docs docs/_build`. The page of tables is written anew from the tables."""

import importlib.metadata
from pathlib import Path

from backproof.demos.listing import KINDS, rows_of

project = "backproof"
author = "the backproof developers"
release = importlib.metadata.version("backproof")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Derive it, prove it, run it.", "page_width": "64rem"}
autodoc_member_order = "bysource"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def tables_page() -> str:
    """Every table of the package as Markdown, in the order in which `backproof list` shows them."""
    lines = ["# Tables", "", "Read from the tables themselves; `backproof list KIND` prints the same."]
    for name, kind in KINDS.items():
        heads = ["name", *kind.columns]
        lines += ["", f"## {name.capitalize()}", "", "|" + "|".join(heads) + "|", "|" + "---|" * len(heads)]
        for row, columns in rows_of(kind).items():
            lines.append("|" + "|".join(_cell(text) for text in (f"`{row}`", *columns.values())) + "|")
    return "\n".join(lines) + "\n"


def setup(app: object) -> None:
    """Write the page before Sphinx reads its sources."""
    (Path(__file__).parent / "tables.md").write_text(tables_page(), encoding="utf-8")
