"""What several commands share: the options ``--json``, ``--output``, ``--seed``, and how results are shown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..numerics.files import require_writable
from ..theory.errors import InputError

PICTURE_FORMATS = (".png", ".svg", ".pdf")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of all chance."
)


def picture_path(context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """Check ``--output`` before any work is done: a known format, a folder that can be written."""
    if value is None:
        return None
    path = Path(value)
    if path.suffix.lower() not in PICTURE_FORMATS:
        raise InputError(f"--output {value!r}: the name must end in {', '.join(PICTURE_FORMATS)}")
    return require_writable(path)


def file_path(context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """Check a path for any other file before any work is done."""
    return None if value is None else require_writable(value)


output_option = click.option(
    "--output", "-o", callback=picture_path, metavar="FILE", help="Write the picture to FILE (png, svg or pdf)."
)


def emit(data: dict[str, Any], as_json: bool, text: Callable[[], str] | str) -> None:
    """Print ``data`` as one JSON object, or the text for people."""
    if as_json:
        click.echo(json.dumps(jsonable(data), ensure_ascii=False, allow_nan=False))
    else:
        click.echo(text() if callable(text) else text)


def jsonable(value: Any) -> Any:
    """Plain JSON data: NumPy numbers and arrays unpacked, SymPy and paths as text, NaN and infinities as text."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


@contextmanager
def progress(description: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error when that is a terminal, silence otherwise; yields ``advance(steps)``.

    Without a ``total`` the bar only shows that work goes on.
    """
    if quiet or not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int = 1) -> None:
            bar.update(task, advance=steps)

        yield advance


def _nothing(steps: int = 1) -> None:
    """Advance no bar."""
