"""``backproof emit``: the source of an activation, a layer or a loss, forward and backward, that runs as printed."""

from __future__ import annotations

from pathlib import Path

import click

from ..numerics.emission import (
    TARGETS,
    activation_source,
    emit_layer,
    emit_loss,
    formula_row,
    kinds_of,
    parametric_source,
)
from ..numerics.files import write_whole
from ..numerics.network_source import is_network, network_source
from ..theory.errors import InputError
from .options import emit, file_path, json_option

source = activation_source


MOST_DERIVATIVES = 8


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("formula", metavar="NAME|FORMULA|LAYER|LOSS|NETWORK")
@click.option("--target", type=click.Choice(list(TARGETS)), default="numpy", show_default=True, help="For what.")
@click.option("--layer", "as_layer", is_flag=True, help="NAME is a layer, where an activation has that name too.")
@click.option("--loss", "as_loss", is_flag=True, help="NAME is a loss, where another kind has that name too.")
@click.option(
    "--derivatives",
    type=click.IntRange(0, MOST_DERIVATIVES),
    help=f"How many derivatives of an activation, up to {MOST_DERIVATIVES} (default: 1).",
)
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32"]),
    help="Of arrays; steps stay float64 and are rounded once (default: float64; for layers: numba, c, cuda).",
)
@click.option("--runtime-parameters", is_flag=True, help="Parameters are arguments of the function (target numba).")
@click.option("--input", "shape", metavar="SHAPE", help="A sample's shape, for a network's layers: 784, 20x8, 3x32x32.")
@click.option("--activation", metavar="NAME", help="Hidden activation of a network's widths (default: relu).")
@click.option(
    "--objective", default="softmax_cross_entropy", show_default=True, metavar="NAME", help="Loss of a network."
)
@click.option("--output", "-o", callback=file_path, metavar="FILE", help="Write the source to FILE.")
@json_option
def command(
    formula: str,
    target: str,
    as_layer: bool,
    as_loss: bool,
    derivatives: int | None,
    dtype: str | None,
    runtime_parameters: bool,
    shape: str | None,
    activation: str | None,
    objective: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Print source: an activation with its derivatives, or forward and backward pass of a layer, loss or network.

    NAME is an activation of `backproof list`, with parameters if wanted ("elu(alpha=2)"); FORMULA is an expression
    in x, such as "x*tanh(log(1+exp(x)))"; LAYER is a layer of `backproof list layers`, such as attention or
    "batch_norm(eps=1e-3)"; LOSS is a loss of `backproof list losses`, such as "huber(delta=2, reduction=sum)";
    NETWORK is widths, such as 784-256-10, or layers with the --input they read (for numpy, numba, torch and jax).

    \b
    backproof emit gelu --target torch
    backproof emit "x/(1+x**2)" --target c --output f.c
    backproof emit swish --target numba --runtime-parameters
    backproof emit lstm --target cuda
    backproof emit softmax_cross_entropy --target jax
    backproof emit "conv(16,3) relu flatten dense(10)" --input 3x8x8 --target torch
    """
    if shape is not None or is_network(formula):
        if as_layer or as_loss or derivatives is not None or dtype is not None or runtime_parameters:
            raise InputError("--layer, --loss, --derivatives, --dtype and --runtime-parameters are not for networks")
        text = network_source(formula, shape, target, activation=activation, loss=objective)
        _deliver({"name": formula, "kind": "network", "target": target, "source": text}, text, output, as_json)
        return
    if activation is not None:
        raise InputError("--activation is for a network's widths, such as 784-256-128-10")
    if as_layer and as_loss:
        raise InputError("--layer and --loss exclude each other")
    kinds = kinds_of(formula)
    kind = "layer" if as_layer else "loss" if as_loss else kinds[0] if kinds else "activation"
    data: dict[str, object]
    if kind != "activation":
        if derivatives is not None:
            raise InputError(f"{formula} is a {kind}: --derivatives is for activations")
        if runtime_parameters:
            raise InputError(f"{formula} is a {kind}: --runtime-parameters is for activations")
        name, text = (emit_layer if kind == "layer" else emit_loss)(formula, target, dtype)
        data = {"name": name, "kind": kind, "target": target, "source": text}
    else:
        row = formula_row(formula)
        derivatives, dtype = 1 if derivatives is None else derivatives, dtype or "float64"
        text = (parametric_source if runtime_parameters else source)(row, target, derivatives, dtype)
        data = {"name": row.name, "kind": kind, "target": target, "dtype": dtype, "derivatives": derivatives}
        data["source"] = text
    _deliver(data, text, output, as_json)
    others = [other for other in kinds if other != kind]
    if others and not (as_layer or as_loss):
        click.echo(f"note: this is the {kind}; there is a {others[0]} of that name too: --{others[0]}", err=True)


def _deliver(data: dict[str, object], text: str, output: Path | None, as_json: bool) -> None:
    """Show the source, or write it to the file."""
    if output is not None:
        write_whole(output, text)
    shown = text.rstrip() if output is None else f"wrote {output} ({len(text.splitlines())} lines)"
    emit(data | ({"output": output} if output else {}), as_json, shown)
