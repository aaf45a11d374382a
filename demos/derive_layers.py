"""``derive network`` for layers as text: the forward pass with shapes, every gradient, and the parameter count."""

from __future__ import annotations

from typing import Any

from ..theory.errors import InputError
from .options import emit


def show_layers(text: str, shape: str | None, loss: str, reduction: str, latex: bool, as_json: bool) -> None:
    """Print the network that the text writes."""
    from ..theory.grammar import sequence

    if shape is None:
        raise InputError("layers need --input, the shape of one sample: --input 3x32x32, say")
    net = sequence(text, shape, loss, reduction)
    gradients = net.gradients()
    data: dict[str, Any] = {
        "name": net.spec,
        "input": list(net.input_shape),
        "output": list(net.output_shape),
        "loss": net.loss,
        "parameter_count": net.parameter_count,
        "shapes": {name: list(found) for name, found in net.parameter_shapes.items()},
        "forward": [step.text for step in net.steps],
        "gradients": [
            {"name": g.name, "shape": g.shape, "text": g.text, "latex": g.latex, "parameter": g.parameter,
             "simplification": g.outcome}
            for g in gradients
        ],
    }  # fmt: skip
    emit(data, as_json, lambda: "\n".join(_lines(data, latex)))


def _lines(data: dict[str, Any], latex: bool) -> list[str]:
    lines = [f"{data['name']}    {data['loss']}; {data['parameter_count']:,} parameters", "", "forward"]
    lines += [f"  {step}" for step in data["forward"]] + ["", "backward"]
    said: set[str] = set()
    for gradient in data["gradients"]:
        for line in [gradient["latex"]] if latex else gradient["text"].split("\n"):
            if line not in said or not line.startswith("  where"):
                lines.append(f"  {line}")
            said.add(line)
    unproved = [g["name"] for g in data["gradients"] if g["simplification"] != "equal"]
    verdict = (
        f"not proved: {', '.join(unproved)}" if unproved else "proved equal, for all shapes, to what the rules gave"
    )
    return [*lines, "", f"  each simplified form: {verdict}"]
