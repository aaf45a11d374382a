"""``derive layer`` and ``derive loss``: forward pass, gradients or other products, steps, costs, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..theory.errors import InputError
from .options import emit, file_path, json_option
from .pages import FORMATS, Code, Formula, Line, Page, Table, Words

SUFFIXES = {".html": "html", ".md": "markdown", ".tex": "latex", ".txt": "text"}

latex_option = click.option("--latex", is_flag=True, help="Print the formulas as LaTeX, in the lines of text.")
steps_option = click.option(
    "--steps", is_flag=True, help="Show every rule that was used, before and after, with shapes."
)
source_option = click.option("--source", is_flag=True, help="Print NumPy source that runs as printed, instead.")
format_option = click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), help="What the page is written in (default: text)."
)
layout_option = click.option(
    "--layout",
    type=click.Choice(["rows", "columns"]),
    default="rows",
    show_default=True,
    help="Matrices with samples as rows, or as columns (every matrix is then the transpose).",
)
file_option = click.option(
    "--output", "-o", callback=file_path, metavar="FILE", help="Write to FILE; .html, .md and .tex choose the format."
)
sizes_option = click.option("--at", "sizes", metavar="N=32,I=784,…", help="Sizes at which the costs are counted.")


def deliver(
    page: Page, data: dict[str, Any], form: str | None, latex: bool, output: Path | None, as_json: bool
) -> None:
    """Print or write a page, or print its data."""
    if form is None:
        form = SUFFIXES.get(output.suffix.lower(), "text") if output else "text"
    if latex and form == "text":
        page = in_latex_lines(page)
    if output is None or as_json:
        emit(data, as_json, lambda: page.write(form))
    if output is not None:
        from ..numerics.files import write_whole

        write_whole(output, page.write(form) + "\n")


def in_latex_lines(page: Page) -> Page:
    """The page with the LaTeX of each formula in place of its text."""

    def turned(line: Line) -> Line:
        return Formula(line.latex, line.latex, line.shape, line.level, line.word) if isinstance(line, Formula) else line

    shown = Page(page.title, page.lead)
    for block in page.blocks:
        shown.add(*map(turned, block.lines), heading=block.heading)
    return shown


# --- lines --------------------------------------------------------------------------------------------------


def gradient_lines(d: Any, layout: str, said: set[str], known: frozenset[str] = frozenset()) -> list[Line]:
    """A derivation: its equation, the definitions not said before, what it is known as, what was assumed."""
    from ..theory.notation import shape_text
    from ..theory.styles import LATEX, TEXT

    lines: list[Line] = [Formula(d.formula(TEXT, layout), d.formula(LATEX, layout), shape_text(d.axes, layout))]
    pairs = zip(d.where(TEXT, layout, known), d.where(LATEX, layout, known), strict=True)
    for text, latex in pairs:
        if text not in said:
            lines.append(Formula(text, latex, level=1, word="where"))
        said.add(text)
    lines += [Words(f"which is {operation}", 1) for operation in d.known]
    lines += [Words(f"using {'; '.join(d.facts)}", 1)] if d.facts else []
    return lines


def forward_lines(forward: Any, name: str, layout: str, said: set[str]) -> list[Line]:
    """The forward pass in one line, and the definitions of what it names."""
    from ..theory.derivation import definition, forward_definitions
    from ..theory.notation import index_latex, index_text
    from ..theory.spelling import meanings
    from ..theory.styles import LATEX, TEXT
    from ..theory.tensors import Named

    found = forward_definitions(forward)
    pairs = [(definition(n, TEXT, layout), definition(n, LATEX, layout)) for n in found]
    pairs += meanings(forward, *(n.operand for n in found if isinstance(n, Named)))
    lines: list[Line] = [Formula(f"{name} = {index_text(forward)}", f"{name} = {index_latex(forward)}")]
    for text, latex in pairs:
        if text not in said:
            lines.append(Formula(text, latex, level=1, word="where"))
        said.add(text)
    return lines


def step_lines(d: Any, output: Any, cotangent: Any, layout: str) -> list[Line]:
    """Every rule from the output to one input: where, given what, and what each operand received."""
    from ..theory.notation import index_latex, index_text, shape_text

    found = d.transcript(output, cotangent)
    lines = rule_lines(found.rules, layout)
    name, axes = d.name, shape_text(d.axes, layout)
    lines.append(Words(f"{len(found.rules) + 1}. collect"))
    text, tex = index_text(found.collected), index_latex(found.collected)
    lines.append(Formula(f"{name} = {text}", rf"{_latex_name(name)} = {tex}", axes, 1))
    lines.append(Words(f"{len(found.rules) + 2}. simplify, in the quantities of the forward pass"))
    return lines


def rule_lines(rules: Any, layout: str) -> list[Line]:
    """Rules in order: where each was used, given what, and what each operand received, with shapes."""
    from ..theory.notation import index_latex, index_text, shape_text
    from ..theory.tensors import Named

    lines: list[Line] = []
    for k, rule in enumerate(rules, 1):
        given, latex = index_text(rule.given), index_latex(rule.given)
        if isinstance(rule.given, Named):
            given += f" = {index_text(rule.given.operand)}"
            latex += f" = {index_latex(rule.given.operand)}"
        lines.append(Words(f"{k}. {rule.name}"))
        lines.append(
            Formula(index_text(rule.node), index_latex(rule.node), shape_text(rule.node.axes, layout), 1, "at")
        )
        lines.append(Formula(given, latex, shape_text(rule.given.axes, layout), 1, "given"))
        for part in rule.received:
            what, tex = index_text(part.operand), index_latex(part.operand)
            lines.append(
                Formula(
                    f"{what} receives {index_text(part.contribution)}",
                    rf"{tex} \;\leftarrow\; {index_latex(part.contribution)}",
                    shape_text(part.contribution.axes, layout), 1,
                )
            )  # fmt: skip
    return lines


def _latex_name(name: str) -> str:
    from ..theory.styles import LATEX

    return LATEX.name(name)


def cost_table(costs: Any, sizes: str | None) -> tuple[Table, dict[str, str]]:
    """What it costs, exact in the sizes, or counted at given ones."""
    from ..theory.costs import leading_ratio
    from ..theory.styles import TEXT

    found = costs.at(**parse_sizes(sizes, costs)) if sizes else costs
    rows = {
        "parameters": found.parameters,
        "forward operations": found.forward,
        "backward operations": found.backward,
        "stored numbers": found.stored,
    }
    shown = {name: count_text(v) for name, v in rows.items()}
    ratio = leading_ratio(found)
    shown["backward/forward"] = ratio if ratio is not None else TEXT.scalar(found.ratio)
    return Table(("costs", ""), list(shown.items())), shown


def count_text(value: Any) -> str:
    """A count as text, the largest terms first: 2·I·N·O + N."""
    import sympy

    from ..theory.styles import TEXT

    def written(c: Any, m: Any) -> str:
        if m == 1:
            return f"{int(c):,}"
        return TEXT.scalar(m) if c == 1 else f"{int(c):,}·{TEXT.scalar(m)}"

    parts = sympy.expand(value).as_coefficients_dict()
    if not all(c.is_Integer for c in parts.values()):
        return TEXT.scalar(value)
    terms = sorted(parts.items(), key=lambda t: (-len(sympy.Mul.make_args(t[0])) if t[0] != 1 else 1, str(t[0])))
    text = "".join(f" {'−' if c < 0 else '+'} {written(abs(c), m)}" for m, c in terms)
    return "−" + text[3:] if text.startswith(" −") else text[3:] or "0"


def parse_sizes(text: str, costs: Any) -> dict[str, int]:
    """ "N=32,I=784" to sizes; every name must be one that the costs speak of."""
    symbols = set().union(*(c.free_symbols for c in (costs.parameters, costs.forward, costs.backward, costs.stored)))
    names = sorted(map(str, symbols))
    found = {}
    for part in text.split(","):
        name, _, value = (p.strip() for p in part.partition("="))
        if name not in names or not value.isdecimal() or not 0 < int(value[:12]) <= 10**9:
            raise InputError(
                f"--at {part.strip()[:40]!r}: write sizes as NAME=NUMBER; the sizes are {', '.join(names)}"
            )
        found[name] = int(value)
    return found


def verdict(found: list[Any]) -> str:
    """Whether every simplified form is proved."""
    unproved = [d for d in found if d.proof.outcome != "equal"]
    if not unproved:
        return "each simplified form: proved equal, for all shapes, to what the rules gave"
    return "each simplified form: " + "; ".join(f"{d.name} {d.proof.outcome}" for d in unproved)


def gradient_data(found: list[Any], layout: str) -> list[dict[str, Any]]:
    """Derivations as data."""
    return [
        {
            "name": d.name,
            "wrt": d.wrt,
            "shape": d.shape,
            "text": d.text_in(layout),
            "latex": d.formula(_latex(), layout),
            "latex_definitions": d.where(_latex(), layout),
            "einsum": d.einsum,
            "steps": list(d.steps),
            "simplification": d.proof.outcome,
        }
        for d in found
    ]


def _latex() -> Any:
    from ..theory.styles import LATEX

    return LATEX


# --- layers and losses --------------------------------------------------------------------------------------


@click.command("layer")
@click.argument("name", metavar="NAME|NAME(option=value,…)")
@click.option("--wrt", metavar="INPUT", help="Only the gradient by this input (default: all of them).")
@click.option("--product", metavar="KIND", default="vjp", help="vjp (the gradients), jvp, hvp or gauss-newton.")
@steps_option
@source_option
@layout_option
@sizes_option
@format_option
@latex_option
@file_option
@json_option
def layer_command(
    name: str,
    wrt: str | None,
    product: str,
    steps: bool,
    source: bool,
    layout: str,
    sizes: str | None,
    form: str | None,
    latex: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """The gradients of a layer, derived from its forward pass; each simplified form is proved equal to the raw one.

    \b
    backproof derive layer batch_norm
    backproof derive layer attention --wrt q --steps
    backproof derive layer "conv2d(stride=2, padding=1)" --at N=8,C=3,O=16,I=32,J=32,U=3,V=3
    backproof derive layer dense --layout columns
    backproof derive layer layer_norm --product hvp --wrt x
    backproof derive layer lstm --output lstm.html
    """
    from ..theory.layer_text import parse_call
    from ..theory.layers import layer
    from ..theory.products import PRODUCTS, layer_products

    called, options = parse_call(name)
    row = layer(called, **options)
    if steps and product != "vjp":
        raise InputError("--steps shows the rules of the gradients: leave --product out")
    found = layer_products(row, product, wrt)
    if source:
        whole = wrt is None and product == "vjp"
        text = row.numpy_source() if whole else "\n\n".join(d.numpy_source for d in found)
        _deliver_source(row.name, text, output, as_json)
        return
    data: dict[str, Any] = {"name": row.name, "title": row.title, "citation": row.citation, "product": product}
    said: set[str] = set()
    page = Page(row.name, " · ".join(p for p in (row.title, row.citation) if p))
    forward = forward_lines(row.forward, "y", layout, said)
    data["forward"] = forward[0].text if isinstance(forward[0], Formula) else ""
    page.add(*forward, *([Words(f"at kinks: {row.kinks}", 0)] if row.kinks else []))
    page.add(*([Words(PRODUCTS[product])] if product != "vjp" else []))
    for d in found:
        page.add(
            *(step_lines(d, row.forward, row.cotangent, layout) if steps else []), *gradient_lines(d, layout, said)
        )
    if product == "vjp" and wrt is None:
        table, data["costs"] = cost_table(row.costs, sizes)
        page.add(table)
    page.add(Words(verdict(found)))
    deliver(page, data | {"gradients": gradient_data(found, layout)}, form, latex, output, as_json)


def _deliver_source(name: str, text: str, output: Path | None, as_json: bool) -> None:
    if output is not None:
        from ..numerics.files import write_whole

        write_whole(output, text.rstrip() + "\n")
    if output is None or as_json:
        emit({"name": name, "source": text}, as_json, text.rstrip())


@click.command("loss")
@click.argument("name")
@click.option("--reduction", type=click.Choice(["none", "mean", "sum"]), default="none", show_default=True)
@click.option("--any-target", is_flag=True, help="Do not use what is known of the targets (that they sum to one, say).")
@click.option("--product", metavar="KIND", default="vjp", help="vjp (the gradient), jvp, hvp or gauss-newton.")
@steps_option
@layout_option
@format_option
@latex_option
@file_option
@json_option
def loss_command(
    name: str,
    reduction: str,
    any_target: bool,
    product: str,
    steps: bool,
    layout: str,
    form: str | None,
    latex: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """The gradient of a loss by its prediction and, with its matching output activation, by the pre-activations.

    \b
    backproof derive loss softmax_cross_entropy
    backproof derive loss softmax_cross_entropy --product hvp --reduction sum
    """
    from ..theory.losses import loss
    from ..theory.products import PRODUCTS, loss_products
    from ..theory.tensors import Input, Scalar

    row = loss(name)
    if product != "vjp":
        if steps or any_target:
            raise InputError("--steps and --any-target are for the gradient: leave --product out")
        found = loss_products(row, product, reduction)
    else:
        found = [row.gradient(reduction=reduction, assume=not any_target)]
        if not row.from_logits and row.output != "identity":
            found.append(row.gradient(reduction=reduction, assume=not any_target, through_output=True))
    prediction, target = row.inputs(assume=not any_target)
    value = row.forward(prediction, target, reduction)
    said: set[str] = set()
    page = Page(row.name, " · ".join(p for p in (row.title, row.citation) if p))
    page.add(*forward_lines(value, "E", layout, said), *([Words(f"at kinks: {row.kinks}")] if row.kinks else []))
    page.add(*([Words(PRODUCTS[product])] if product != "vjp" else []))
    for d in found:
        given: Any = Scalar(_one()) if reduction != "none" else Input("dy", value.axes)
        ways = step_lines(d, value, given, layout) if steps and d.wrt == prediction.name else []
        page.add(*ways, *gradient_lines(d, layout, said))
    page.add(Words(verdict(found)))
    data = {"name": row.name, "title": row.title, "citation": row.citation, "kinks": row.kinks, "product": product}
    deliver(page, data | {"gradients": gradient_data(found, layout)}, form, latex, output, as_json)


def _one() -> Any:
    import sympy

    return sympy.Integer(1)


__all__ = ["Code", "layer_command", "loss_command"]
