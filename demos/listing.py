"""``backproof list``: the tables, as they stand. A kind is one row here; its things are read from its own table."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from ..theory.errors import lookup
from .options import emit, json_option


@dataclass(frozen=True)
class Kind:
    """A kind of thing: where its table is, and what is shown of a row."""

    module: str
    table: str
    columns: Mapping[str, Callable[[Any], str]]


def _formula(row: Any) -> str:
    from ..theory.formula_text import formula_text

    return formula_text(row.formula)


def _parameters(row: Any) -> str:
    from ..theory.formula_text import value_text

    return ", ".join(f"{symbol} = {value_text(value, 12, 6)}" for symbol, value in row.parameters.items())


def _short(text: str, width: int = 24) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _title(row: Any) -> str:
    return str(row.title)


def _citation(row: Any) -> str:
    return str(row.citation)


_NAMED: dict[str, Callable[[Any], str]] = {"title": _title, "citation": _citation}

KINDS: dict[str, Kind] = {
    "activations": Kind(
        "theory.activations",
        "ACTIVATIONS",
        {"title": _title, "formula": _formula, "parameters": _parameters, "citation": _citation},
    ),
    "losses": Kind("theory.losses", "LOSSES", _NAMED),
    "layers": Kind("theory.layers", "LAYERS", _NAMED),
    "initialisers": Kind("theory.initialisers", "INITIALISERS", _NAMED),
    "optimisers": Kind("theory.optimisers", "OPTIMISERS", _NAMED),
    "constructions": Kind("theory.approximation", "CONSTRUCTIONS", _NAMED),
    "data": Kind("numerics.data", "DATASETS", _NAMED),
    "targets": Kind("numerics.emission", "TARGETS", {"title": _title}),
}


def rows_of(kind: Kind) -> dict[str, dict[str, str]]:
    """Name -> column -> text, read from the kind's table."""
    module = importlib.import_module(f"...{kind.module}", __name__)
    table: dict[str, Any] = getattr(module, kind.table)
    return {name: {head: show(row) for head, show in kind.columns.items()} for name, row in table.items()}


@click.command("list")
@click.argument("kind", required=False, metavar="[KIND]")
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List what backproof knows.

    KIND is one of activations, losses, layers, initialisers, optimisers, constructions, data, targets; without it
    every name is listed.
    """
    if kind is None:
        names = {k: list(rows_of(row)) for k, row in KINDS.items()}
        emit(names, as_json, lambda: "\n".join(f"{k:14s}{', '.join(v)}" for k, v in names.items()))
        return
    rows = rows_of(lookup(KINDS, kind, "kind"))
    emit({kind: rows}, as_json, lambda: _table(rows))


def _table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Columns wide enough for what they hold; the last one runs free."""
    lines = [[name, *(_short(cell, 64) for cell in columns.values())] for name, columns in rows.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:{w}s}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
