"""``backproof emit``: the source of a kernel, stable over the whole float range, that runs as printed."""

from __future__ import annotations

from pathlib import Path

import click

from ..numerics.emission import TARGETS, activation_source
from ..numerics.files import write_whole
from ..theory.activations import activation
from .options import emit, file_path, json_option

source = activation_source


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("formula", metavar="NAME|FORMULA")
@click.option("--target", type=click.Choice(list(TARGETS)), default="numpy", show_default=True, help="For what.")
@click.option(
    "--derivatives", type=click.IntRange(0, 2), default=1, show_default=True, help="How many derivatives, in one pass."
)
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option("--output", "-o", callback=file_path, metavar="FILE", help="Write the source to FILE.")
@json_option
def command(formula: str, target: str, derivatives: int, dtype: str, output: Path | None, as_json: bool) -> None:
    """Print a kernel's source: f and its derivatives in one pass.

    NAME is a row of `backproof list`, with parameters if wanted ("elu(alpha=2)"); FORMULA is an expression in x,
    such as "x*tanh(log(1+exp(x)))".
    """
    row = activation(formula)
    text = source(row, target, derivatives, dtype)
    if output is not None:
        write_whole(output, text)
    data = {"name": row.name, "target": target, "dtype": dtype, "derivatives": derivatives, "source": text}
    shown = text.rstrip() if output is None else f"wrote {output} ({len(text.splitlines())} lines)"
    emit(data | ({"output": output} if output else {}), as_json, shown)
