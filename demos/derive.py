"""``backproof derive``: what follows from a formula, symbolically."""

from __future__ import annotations

from typing import Any

import click

from ..theory.errors import InputError
from .derive_depth import command as derive_depth
from .derive_equal import command as derive_equal
from .derive_higher import DIRECT_ORDER, MAX_ORDER, higher_facts, higher_lines
from .derive_layers import show_layers
from .options import emit, json_option


@click.group("derive")
def command() -> None:
    """Derive what follows from a formula: an activation, a layer, a loss or a whole network."""


@command.command("activation")
@click.argument("spec", metavar="NAME|FORMULA")
@click.option(
    "--order", type=int, default=2, show_default=True, help=f"Highest derivative to show, at most {MAX_ORDER}."
)
@click.option("--latex", is_flag=True, help="Print the formulas as LaTeX.")
@json_option
def derive_activation(spec: str, order: int, latex: bool, as_json: bool) -> None:
    """Derivatives, kinks, and facts of an activation: range, monotonicity, parity, Lipschitz constant, asymptotes.

    \b
    backproof derive activation gelu
    backproof derive activation "elu(alpha=2)"
    backproof derive activation tanh --order 8
    backproof derive activation "x*tanh(log(1+exp(x)))"
    """
    from ..theory.activations import activation

    if not 0 <= order <= MAX_ORDER:
        raise InputError(f"--order {order}: the order must be 0 to {MAX_ORDER}")
    row = activation(spec)
    data = activation_facts(row, order)
    emit(data, as_json, lambda: _activation_text(row, data, latex))


def activation_facts(row: Any, order: int) -> dict[str, Any]:
    """Everything that ``derive activation`` prints, as data."""
    import sympy

    from ..theory.formula_text import formula_text, value_text
    from ..theory.symbols import x

    higher = higher_facts(row, order)
    last = DIRECT_ORDER if higher["derivatives"] else order
    formulas = [row.formula.diff(x, n) if n else row.formula for n in range(min(last, order) + 1)]
    return {
        "name": row.name,
        "title": row.title,
        "citation": row.citation,
        "parameters": {str(k): value_text(v) for k, v in row.parameters.items()},
        "derivatives": [{"order": n, "text": formula_text(f), "latex": sympy.latex(f)} for n, f in enumerate(formulas)],
        "higher": higher,
        "kinks": [
            {
                "x": value_text(k.position),
                "left_value": value_text(k.left_value),
                "right_value": value_text(k.right_value),
                "stated_value": value_text(k.value),
                "left_derivative": value_text(k.left_derivative),
                "right_derivative": value_text(k.right_derivative),
                "stated_derivative": value_text(k.derivative),
            }
            for k in row.at_kinks
        ],
        "analysis": [{"fact": fact, "value": value, "basis": basis} for fact, value, basis in row.analysis.rows()],
    }


def _activation_text(row: Any, data: dict[str, Any], latex: bool) -> str:
    heading = " · ".join(part for part in (data["title"], data["citation"]) if part)
    lines = [f"{data['name']}    {heading}".rstrip(), ""]
    lines += [f"  {_primes(d['order'])} = {d['latex' if latex else 'text']}" for d in data["derivatives"]]
    lines += higher_lines(data["higher"], _primes)
    if data["parameters"]:
        lines.append("  with " + ", ".join(f"{k} = {v}" for k, v in data["parameters"].items()))
    lines += [_kink_text(k) for k in data["kinks"]]
    lines.append("")
    width = max((len(fact["fact"]) for fact in data["analysis"]), default=0)
    values = max((len(fact["value"]) for fact in data["analysis"]), default=0)
    known = [f for f in data["analysis"] if f["value"] != "unknown"]
    lines += [f"  {f['fact']:{width}s}  {f['value']:{min(values, 44)}s}  {f['basis']}" for f in known]
    return "\n".join([*lines, *_unknown_lines(data["analysis"])])


def _unknown_lines(facts: list[dict[str, str]]) -> list[str]:
    """What is not decided, each reason said once."""
    reasons: dict[str, list[str]] = {}
    for fact in facts:
        if fact["value"] == "unknown":
            reasons.setdefault(fact["basis"].removeprefix("not decided: "), []).append(fact["fact"])
    return [f"  not decided: {', '.join(names)}\n    {reason}" for reason, names in reasons.items()]


def _kink_text(kink: dict[str, str]) -> str:
    what = "f" if kink["left_value"] != kink["right_value"] else "f′"
    side = "value" if what == "f" else "derivative"
    jump = f"{what} jumps from {kink[f'left_{side}']} to {kink[f'right_{side}']}"
    return f"  kink at x = {kink['x']}: {jump}; stated: f = {kink['stated_value']}, f′ = {kink['stated_derivative']}"


def _primes(order: int) -> str:
    return (
        f"f{'′' * order}(x)".ljust(7)
        if order <= 3
        else f"f⁽{str(order).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}⁾(x)"
    )


command.add_command(derive_equal)
command.add_command(derive_depth)

latex_option = click.option("--latex", is_flag=True, help="Print the formulas as LaTeX.")
steps_option = click.option(
    "--steps", is_flag=True, help="Show every rule that was used, before and after, with shapes."
)
source_option = click.option("--source", is_flag=True, help="Print NumPy source that runs as printed, instead.")


@command.command("layer")
@click.argument("name")
@click.option("--wrt", metavar="INPUT", help="Only the gradient by this input (default: all of them).")
@steps_option
@source_option
@latex_option
@json_option
def derive_layer(name: str, wrt: str | None, steps: bool, source: bool, latex: bool, as_json: bool) -> None:
    """The gradients of a layer, derived from its forward pass; each simplified form is proved equal to the raw one.

    \b
    backproof derive layer batch_norm
    backproof derive layer attention --wrt q --steps
    """
    from ..theory.layers import layer

    row = layer(name)
    found = [row.vjp(wrt)] if wrt is not None else list(row.gradients().values())
    if source:
        text = row.numpy_source() if wrt is None else found[0].numpy_source
        emit({"name": row.name, "source": text}, as_json, text.rstrip())
        return
    data = {"name": row.name, "title": row.title, "citation": row.citation, "forward": _forward_text(row)}
    _show_derivations(data, found, steps, latex, as_json)


@command.command("loss")
@click.argument("name")
@click.option("--reduction", type=click.Choice(["none", "mean", "sum"]), default="none", show_default=True)
@click.option("--any-target", is_flag=True, help="Do not use what is known of the targets (that they sum to one, say).")
@steps_option
@latex_option
@json_option
def derive_loss(name: str, reduction: str, any_target: bool, steps: bool, latex: bool, as_json: bool) -> None:
    """The gradient of a loss by its prediction and, with its matching output activation, by the pre-activations.

    \b
    backproof derive loss softmax_cross_entropy
    """
    from ..theory.losses import loss

    row = loss(name)
    found = [row.gradient(reduction=reduction, assume=not any_target)]
    if not row.from_logits and row.output != "identity":
        found.append(row.gradient(reduction=reduction, assume=not any_target, through_output=True))
    data = {"name": row.name, "title": row.title, "citation": row.citation, "kinks": row.kinks}
    _show_derivations(data, found, steps, latex, as_json)


@command.command("network")
@click.argument("widths", metavar="WIDTHS|LAYERS")
@click.option("--input", "shape", metavar="SHAPE", help="Shape of a sample for LAYERS: 784, 20x8 or 3x32x32.")
@click.option("--activation", metavar="NAME|FORMULA", help="Hidden activation of WIDTHS (default: relu).")
@click.option("--loss", default="softmax_cross_entropy", show_default=True, metavar="NAME", help="Loss.")
@click.option("--reduction", type=click.Choice(["mean", "sum"]), default="mean", show_default=True)
@steps_option
@source_option
@latex_option
@json_option
def derive_network(
    widths: str,
    shape: str | None,
    activation: str | None,
    loss: str,
    reduction: str,
    steps: bool,
    source: bool,
    latex: bool,
    as_json: bool,
) -> None:
    """Every gradient of a network with its shape, and the parameter count: a perceptron's WIDTHS, or LAYERS as text.

    \b
    backproof derive network 784-256-128-10 --activation relu --loss softmax_cross_entropy
    backproof derive network 4-16-3 --activation gelu --source
    backproof derive network "conv(16,3) batch_norm relu max_pool(2) flatten dense(10)" --input 3x32x32
    """
    if any(letter.isalpha() for letter in widths):
        if activation is not None or source or steps:
            raise InputError("--activation, --steps and --source are for WIDTHS such as 784-256-128-10, not for layers")
        show_layers(widths, shape, loss, reduction, latex, as_json)
        return
    if shape is not None:
        raise InputError("--input is for layers such as conv(16,3) relu; WIDTHS begin with the input's width")
    from ..theory.networks import network

    net = network(widths, activation or "relu", loss, reduction)
    if source:
        text = net.numpy_source()
        emit({"network": widths, "source": text}, as_json, text.rstrip())
        return
    count = f"{net.parameter_count:,} parameters; rows are samples; σ is {net.activation.name}"
    data = {"name": "-".join(map(str, net.widths)), "title": f"{net.loss.title}; {count}"}
    extra = {"parameter_count": net.parameter_count, "shapes": net.parameter_shapes}
    _show_derivations(data | extra, list(net.deltas().values()), steps, latex, as_json)


def _show_derivations(data: dict[str, Any], found: list[Any], steps: bool, latex: bool, as_json: bool) -> None:
    gradients = [
        {
            "name": d.name,
            "wrt": d.wrt,
            "shape": d.shape,
            "text": d.text,
            "latex": d.latex,
            "latex_definitions": list(d.latex_definitions),
            "einsum": d.einsum,
            "steps": list(d.steps),
            "simplification": d.proof.outcome,
        }
        for d in found
    ]
    emit(data | {"gradients": gradients}, as_json, lambda: _derivations_text(data, gradients, steps, latex))


def _derivations_text(data: dict[str, Any], gradients: list[dict[str, Any]], steps: bool, latex: bool) -> str:
    lines = [f"{data['name']}    " + " · ".join(p for p in (data.get("title"), data.get("citation")) if p)]
    lines += [f"  {data['forward']}"] if data.get("forward") else []
    lines += [f"  at kinks: {data['kinks']}"] if data.get("kinks") else []
    said: set[str] = set()
    for gradient in gradients:
        own = [line for line in _gradient_lines(gradient, latex) if line not in said]
        said.update(line for line in own if line.startswith("  where"))  # a definition is said where it is first used
        lines += ["", *(f"  {line}" for line in [*(gradient["steps"] if steps else []), *own])]
    proved = all(gradient["simplification"] == "equal" for gradient in gradients)
    verdict = "proved equal, for all shapes, to what the rules gave" if proved else _unproved(gradients)
    return "\n".join([*lines, "", f"  each simplified form: {verdict}"])


def _gradient_lines(gradient: dict[str, Any], latex: bool) -> list[str]:
    if latex:
        return [gradient["latex"], *(f"  where {line}" for line in gradient["latex_definitions"])]
    return list(gradient["text"].split("\n"))


def _unproved(gradients: list[dict[str, Any]]) -> str:
    return "; ".join(f"{g['name']} {g['simplification']}" for g in gradients if g["simplification"] != "equal")


def _forward_text(row: Any) -> str:
    from ..theory.notation import index_text

    return f"y = {index_text(row.forward)}"
