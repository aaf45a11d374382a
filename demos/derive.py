"""``backproof derive``: what follows from a formula, symbolically."""

from __future__ import annotations

from typing import Any

import click

from ..theory.errors import InputError
from .derive_backward import layer_command, loss_command
from .derive_depth import command as derive_depth
from .derive_equal import command as derive_equal
from .derive_higher import DIRECT_ORDER, MAX_ORDER, higher_facts, higher_lines
from .derive_network import network_command, recursion_command
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

command.add_command(layer_command)
command.add_command(loss_command)
command.add_command(network_command)
command.add_command(recursion_command)
