"""``backproof emit``: the source of an activation or a layer, forward and backward, that runs as printed."""

from __future__ import annotations

from pathlib import Path

import click

from ..numerics.emission import TARGETS, activation_source, emit_layer, is_layer
from ..numerics.files import write_whole
from ..theory.activations import activation
from ..theory.errors import InputError
from .options import emit, file_path, json_option

source = activation_source


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("formula", metavar="NAME|FORMULA|LAYER")
@click.option("--target", type=click.Choice(list(TARGETS)), default="numpy", show_default=True, help="For what.")
@click.option("--layer", "as_layer", is_flag=True, help="NAME is a layer, where an activation has that name too.")
@click.option("--derivatives", type=click.IntRange(0, 2), help="How many derivatives of an activation (default: 1).")
@click.option(
    "--dtype", type=click.Choice(["float64", "float32"]), help="Of an activation's kernel (default: float64)."
)
@click.option("--output", "-o", callback=file_path, metavar="FILE", help="Write the source to FILE.")
@json_option
def command(
    formula: str,
    target: str,
    as_layer: bool,
    derivatives: int | None,
    dtype: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Print source: an activation with its derivatives, or a layer's forward and backward pass.

    NAME is an activation of `backproof list`, with parameters if wanted ("elu(alpha=2)"); FORMULA is an expression
    in x, such as "x*tanh(log(1+exp(x)))"; LAYER is a layer of `backproof list layers`, such as attention or
    "batch_norm(eps=1e-3)".

    \b
    backproof emit gelu --target torch
    backproof emit "x/(1+x**2)" --target c --output f.c
    backproof emit attention --target jax
    """
    data: dict[str, object]
    if is_layer(formula, as_layer):
        if derivatives is not None or dtype is not None:
            raise InputError(f"{formula} is a layer: --derivatives and --dtype are for activations")
        name, text = emit_layer(formula, target)
        data = {"name": name, "target": target, "source": text}
    else:
        row = activation(formula)
        derivatives, dtype = 1 if derivatives is None else derivatives, dtype or "float64"
        text = source(row, target, derivatives, dtype)
        data = {"name": row.name, "target": target, "dtype": dtype, "derivatives": derivatives, "source": text}
    if output is not None:
        write_whole(output, text)
    shown = text.rstrip() if output is None else f"wrote {output} ({len(text.splitlines())} lines)"
    emit(data | ({"output": output} if output else {}), as_json, shown)
