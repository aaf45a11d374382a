"""``backproof derive depth-bound``: how much a gradient can vanish or explode through depth."""

from __future__ import annotations

import math
from typing import Any

import click

from .options import emit, json_option, seed_option


@click.command("depth-bound")
@click.argument("activation", metavar="NAME|FORMULA")
@click.option("--depth", type=int, default=10, show_default=True, help="Layers L.")
@click.option("--weight-norm", default="1", show_default=True, metavar="w", help="A bound on every ‖W‖₂.")
@click.option("--skip", is_flag=True, help="With skip connections: z + σ(z)W + b.")
@click.option("--measure", is_flag=True, help="Draw networks and compare their gradients with their own bounds.")
@click.option("--width", type=int, default=64, show_default=True, help="Width of the drawn networks.")
@click.option("--networks", type=int, default=16, show_default=True, help="How many are drawn.")
@click.option("--initialiser", default="glorot_normal", show_default=True, metavar="NAME", help="How.")
@seed_option
@json_option
def command(
    activation: str,
    depth: int,
    weight_norm: str,
    skip: bool,
    measure: bool,
    width: int,
    networks: int,
    initialiser: str,
    seed: int,
    as_json: bool,
) -> int:
    """Bound the gradient at the first layer by that at the last, from the Lipschitz constant and weight norms.

    Exit status 1 if a measured gradient breaks its bound.

    \b
    backproof derive depth-bound sigmoid --depth 20
    backproof derive depth-bound sigmoid --depth 20 --skip --measure
    """
    from ..theory.depth_bounds import depth_bound
    from ..theory.formula_text import value_text

    found = depth_bound(activation, depth, weight_norm, skip=skip)
    upper, lower = (found.enclosed(e) for e in (found.upper, found.lower))
    data: dict[str, Any] = {
        "activation": found.activation.name,
        "depth": depth,
        "lipschitz": str(found.slope),
        "weight_norm": value_text(found.weight_norm, 12, 6),
        "skip": skip,
        "statement": found.statement,
        "upper": upper.str(10, radius=False),
        "lower": lower.str(10, radius=False),
        "verdict": found.verdict,
    }
    lines = [f"{found.statement}", f"  ratio at most {data['upper']}, at least {data['lower']}: {found.verdict}"]
    lines.append(f"  with |σ′| ≤ {found.slope} (proved), ‖W‖₂ ≤ {data['weight_norm']}, L = {depth}")
    holds = True
    if measure:
        from ..numerics.depth_bounds import measure_depth

        m = measure_depth(
            found.activation, depth, width=width, skip=skip, initialiser=initialiser, networks=networks, seed=seed
        )
        holds = m.holds
        shown = {"ratio": m.ratio, "upper": m.upper, "lower": m.lower}
        data["measured"] = {
            k: [float(v) if math.isfinite(v) else str(v) for v in a / math.log(10)] for k, a in shown.items()
        }
        data["measured_norms"], data["holds"] = list(m.norms), holds
        ratios, bounds = (sorted(a / math.log(10)) for a in (m.ratio, m.upper))
        lines.append(
            f"  measured: {networks} networks of width {width} ({initialiser}), ‖W‖₂ up to {m.norms[1]:.3g}: "
            f"ratio 10^{ratios[0]:.2f} to 10^{ratios[-1]:.2f}, "
            f"their own bounds 10^{bounds[0]:.2f} to 10^{bounds[-1]:.2f}"
        )
        lines.append(f"  every network within its bounds: {'yes' if holds else 'NO'}")
    emit(data, as_json, "\n".join(lines))
    return 0 if holds else 1
