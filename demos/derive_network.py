"""``derive network`` and ``derive recursion``: networks from widths or from layers as text, and any depth at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..theory.errors import InputError
from .derive_backward import (
    _deliver_source,
    count_text,
    deliver,
    file_option,
    format_option,
    gradient_data,
    gradient_lines,
    latex_option,
    layout_option,
    rule_lines,
    source_option,
    steps_option,
    verdict,
)
from .options import json_option
from .pages import Formula, Line, Page, Table, Words


@click.command("network")
@click.argument("widths", metavar="WIDTHS|LAYERS")
@click.option("--input", "shape", metavar="SHAPE", help="Shape of a sample for LAYERS: 784, 20x8 or 3x32x32.")
@click.option("--activation", metavar="NAME|FORMULA", help="Hidden activation of WIDTHS (default: relu).")
@click.option("--loss", default="softmax_cross_entropy", show_default=True, metavar="NAME", help="Loss.")
@click.option("--reduction", type=click.Choice(["mean", "sum"]), default="mean", show_default=True)
@click.option("--depth-theorem", is_flag=True, help="For WIDTHS: the recursion for any depth as well, with its proof.")
@steps_option
@source_option
@layout_option
@format_option
@latex_option
@file_option
@json_option
def network_command(
    widths: str,
    shape: str | None,
    activation: str | None,
    loss: str,
    reduction: str,
    depth_theorem: bool,
    steps: bool,
    source: bool,
    layout: str,
    form: str | None,
    latex: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Every gradient of a network with its shape, and what it costs: a perceptron's WIDTHS, or LAYERS as text.

    \b
    backproof derive network 784-256-128-10 --activation relu --loss softmax_cross_entropy
    backproof derive network 4-16-3 --activation gelu --source
    backproof derive network "conv(16,3) batch_norm relu max_pool(2) flatten dense(10)" --input 3x32x32
    backproof derive network "residual(layer_norm attention(4)) flatten dense(10)" --input 20x8
    """
    if any(letter.isalpha() for letter in widths):
        if activation is not None or depth_theorem:
            raise InputError("--activation and --depth-theorem are for WIDTHS such as 784-256-128-10, not for layers")
        from .derive_layers import layers_page, layers_source

        if source:
            _deliver_source(widths, layers_source(widths, shape, loss, reduction), output, as_json)
            return
        page, data = layers_page(widths, shape, loss, reduction, layout, steps)
    else:
        if shape is not None:
            raise InputError("--input is for layers such as conv(16,3) relu; WIDTHS begin with the input's width")
        from ..theory.networks import network

        net = network(widths, activation or "relu", loss, reduction)
        if source:
            _deliver_source(widths, net.numpy_source(), output, as_json)
            return
        page, data = widths_page(net, layout, steps)
        if depth_theorem:
            from ..theory.recursion import delta_recursion

            page.add(*theorem_lines(delta_recursion(net.loss, reduction), layout), heading="for any depth")
    deliver(page, data, form, latex, output, as_json)


def widths_page(net: Any, layout: str, steps: bool) -> tuple[Page, dict[str, Any]]:
    """A perceptron: its forward pass, every δ and gradient, and what it costs."""
    count = f"{net.parameter_count:,} parameters; {layout} are samples; σ is {net.activation.name}"
    lead = f"{net.loss.title}; {count}"
    page = Page("-".join(map(str, net.widths)), lead)
    found = list(net.deltas().values())
    said: set[str] = set()
    if steps:
        from ..theory.transcript import rules_of

        page.add(*rule_lines(rules_of(net.steps), layout), heading="steps, from the loss to the first layer")
    for d in found:
        page.add(*gradient_lines(d, layout, said))
    costs = net.costs.at(**{f"D{k}": width for k, width in enumerate(net.widths)})
    table, shown = network_cost_table(costs)
    page.add(table)
    page.add(Words(verdict(found)))
    data = {"name": page.title, "title": lead, "parameter_count": net.parameter_count, "shapes": net.parameter_shapes}
    return page, data | {"costs": shown, "gradients": gradient_data(found, layout)}


def network_cost_table(costs: Any) -> tuple[Table, dict[str, str]]:
    """Costs of a network at its widths, for N samples."""
    from ..theory.costs import leading_ratio

    shown = {
        "parameters": count_text(costs.parameters),
        "forward operations": count_text(costs.forward),
        "backward operations": count_text(costs.backward),
        "backward/forward": leading_ratio(costs) or "",
        "stored activations": f"{count_text(costs.stored)} numbers, {count_text(4 * costs.stored)} bytes in float32",
    }
    return Table(("costs", "for N samples"), list(shown.items())), shown


# --- any depth ----------------------------------------------------------------------------------------------


def theorem_lines(theorem: Any, layout: str) -> list[Line]:
    """The recursion as a theorem with its two cases, and its proof."""
    statement, *rest = theorem.text(layout).split("\n")
    claims = [Formula(line.text(layout), line.latex(layout), level=1) for line in theorem.lines]
    proof = [Words(line.strip(), 1 if line.startswith("  ") else 0) for line in rest[len(theorem.lines) :]]
    return [Words(statement), *claims, *proof]


@click.command("recursion")
@click.argument("loss", default="softmax_cross_entropy")
@click.option("--skip", is_flag=True, help="With skip connections: z + σ(z) W + b.")
@click.option("--reduction", type=click.Choice(["mean", "sum"]), default="mean", show_default=True)
@layout_option
@format_option
@latex_option
@file_option
@json_option
def recursion_command(
    loss: str, skip: bool, reduction: str, layout: str, form: str | None, latex: bool, output: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """The δ-recursion of a network of any depth L, proved by induction on the layer. Exit status 1 if not proved.

    \b
    backproof derive recursion
    backproof derive recursion half_squared_error --layout columns
    backproof derive recursion --skip
    """
    from ..theory.recursion import delta_recursion

    theorem = delta_recursion(loss, reduction, skip=skip)
    page = Page("recursion", "any depth L, any σ, any shapes")
    page.add(*theorem_lines(theorem, layout))
    data = {
        "loss": theorem.loss.name,
        "skip": skip,
        "proved": theorem.proved,
        "lines": [
            {"label": line.label, "text": line.text(layout), "latex": line.latex(layout), "reason": line.reason,
             "outcome": line.proof.outcome}
            for line in theorem.lines
        ],
    }  # fmt: skip
    deliver(page, data, form, latex, output, as_json)
    return 0 if theorem.proved else 1
