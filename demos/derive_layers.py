"""Layers as text for ``derive network``: the forward pass with shapes, every gradient, what it costs, and source."""

from __future__ import annotations

from typing import Any

from ..theory.errors import InputError
from .pages import Formula, Line, Page, Words


def _sequence(text: str, shape: str | None, loss: str, reduction: str) -> Any:
    from ..theory.grammar import sequence

    if shape is None:
        raise InputError("layers need --input, the shape of one sample: --input 3x32x32, say")
    return sequence(text, shape, loss, reduction)


def layers_source(text: str, shape: str | None, loss: str, reduction: str) -> str:
    """NumPy source of the network that the text writes."""
    return str(_sequence(text, shape, loss, reduction).numpy_source())


def layers_page(
    text: str, shape: str | None, loss: str, reduction: str, layout: str, steps: bool
) -> tuple[Page, dict[str, Any]]:
    """The network that the text writes, as a page and as data."""
    from .derive_network import network_cost_table

    net = _sequence(text, shape, loss, reduction)
    gradients = net.gradients()
    page = Page(net.spec, f"{net.loss}; {net.parameter_count:,} parameters")
    page.add(*(Formula(step.text, step.latex) for step in net.steps), heading="forward")
    lines: list[Line] = []
    said: set[str] = set()
    for gradient in gradients:
        lines += _gradient_lines(gradient, layout, steps, said)
    page.add(*lines, heading="backward")
    table, shown = network_cost_table(net.costs)
    page.add(table)
    unproved = [g.name for g in gradients if g.outcome != "equal"]
    verdict = (
        f"not proved: {', '.join(unproved)}" if unproved else "proved equal, for all shapes, to what the rules gave"
    )
    page.add(Words(f"each simplified form: {verdict}"))
    data: dict[str, Any] = {
        "name": net.spec,
        "input": list(net.input_shape),
        "output": list(net.output_shape),
        "loss": net.loss,
        "parameter_count": net.parameter_count,
        "shapes": {name: list(found) for name, found in net.parameter_shapes.items()},
        "forward": [step.text for step in net.steps],
        "costs": shown,
        "gradients": [
            {"name": g.name, "shape": g.shape, "text": g.text, "latex": g.latex, "parameter": g.parameter,
             "simplification": g.outcome}
            for g in gradients
        ],
    }  # fmt: skip
    return page, data


def _gradient_lines(gradient: Any, layout: str, steps: bool, said: set[str]) -> list[Line]:
    from .derive_backward import gradient_lines, step_lines

    d = gradient.derivation
    if d is None:
        body = gradient.text.removesuffix(gradient.shape).rstrip()
        return [Formula(body, gradient.latex, gradient.shape)]
    first, *rest = gradient_lines(d, layout, said)
    assert isinstance(first, Formula)
    ways: list[Line] = []
    if steps and gradient.of is not None:
        output, cotangent = gradient.of
        ways = step_lines(d, output, cotangent, layout)
    return [*ways, Formula(first.text, first.latex, gradient.shape_in(layout)), *rest]
