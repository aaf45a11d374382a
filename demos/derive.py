"""``backproof derive``: what follows from a formula, symbolically."""

from __future__ import annotations

from typing import Any

import click

from ..theory.errors import InputError
from .options import emit, json_option

MAX_ORDER = 8


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

    from ..theory.formula_text import formula_text
    from ..theory.symbols import x

    formulas = [row.formula.diff(x, n) if n else row.formula for n in range(order + 1)]
    return {
        "name": row.name,
        "title": row.title,
        "citation": row.citation,
        "parameters": {str(k): str(v) for k, v in row.parameters.items()},
        "derivatives": [{"order": n, "text": formula_text(f), "latex": sympy.latex(f)} for n, f in enumerate(formulas)],
        "kinks": [
            {
                "x": str(k.position),
                "left_derivative": str(k.left_derivative),
                "right_derivative": str(k.right_derivative),
                "stated_derivative": str(k.derivative),
                "stated_value": str(k.value),
            }
            for k in row.at_kinks
        ],
        "analysis": [{"fact": fact, "value": value, "basis": basis} for fact, value, basis in row.analysis.rows()],
    }


def _activation_text(row: Any, data: dict[str, Any], latex: bool) -> str:
    heading = " · ".join(part for part in (data["title"], data["citation"]) if part)
    lines = [f"{data['name']}    {heading}".rstrip(), ""]
    lines += [f"  {_primes(d['order'])} = {d['latex' if latex else 'text']}" for d in data["derivatives"]]
    if data["parameters"]:
        lines.append("  with " + ", ".join(f"{k} = {v}" for k, v in data["parameters"].items()))
    lines += [
        f"  kink at x = {k['x']}: f′ jumps from {k['left_derivative']} to {k['right_derivative']}; "
        f"stated: f = {k['stated_value']}, f′ = {k['stated_derivative']}"
        for k in data["kinks"]
    ]
    lines.append("")
    width = max((len(fact["fact"]) for fact in data["analysis"]), default=0)
    values = max((len(fact["value"]) for fact in data["analysis"]), default=0)
    lines += [f"  {f['fact']:{width}s}  {f['value']:{min(values, 44)}s}  {f['basis']}" for f in data["analysis"]]
    return "\n".join(lines)


def _primes(order: int) -> str:
    return (
        f"f{'′' * order}(x)".ljust(7)
        if order <= 3
        else f"f⁽{str(order).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}⁾(x)"
    )
