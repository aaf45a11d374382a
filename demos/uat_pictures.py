"""The pictures of ``backproof uat``: proven bands are green, sampled errors pink, and each says which it is."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..numerics.approximation import FloatNetwork, true_values
from ..numerics.kernels import kernel
from ..theory.approximation import Approximation, approximate
from ..theory.gates import Step
from ..theory.interpolation import nodes_for
from ..theory.staircases import Bump
from ..theory.supremum import above
from .pictures import COLOURS, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..numerics.approximation import Sampled
    from ..numerics.certificates import Certificate

Array = NDArray[Any]

#: With more bumps than this their outlines merge into one colour, so they are left out.
_MOST_BUMPS = 80
#: Neighbouring bumps (or hats) are told apart by these.
_BUMP_COLOURS = (COLOURS["light"], COLOURS["accent"])


def approximation_picture(built: Approximation, sampled: Sampled, certificate: Certificate | None = None) -> Figure:
    """Target, network and proven band; below, the signed error under its ceiling; on the right, both enlarged."""
    drawn, ((top, near), (bottom, strip)) = figure(
        12, 6.2, 2, 2, sharex="col", gridspec_kw={"height_ratios": [2.2, 1], "width_ratios": [1.75, 1]}
    )
    grid = _grid(built, 2_001)
    bumps = _bumps(built, grid)
    if bumps is not None:
        _draw_bumps(top, grid, bumps)
    _curves(top, built, grid)
    title = built.construction.title
    _title(top, f"{title[0].upper()}{title[1:]}: {_units(built)} for {_shortened(built.target.text)}")
    _legend(top, None if bumps is None else _word(built))
    _error_strip(bottom, built, sampled, certificate)
    u, v = _window(built, sampled)
    _curves(near, built, np.linspace(u, v, 1_001))
    _title(near, "Enlarged at the largest sampled error")
    near.set_xlim(u, v)
    inside = (sampled.points >= u) & (sampled.points <= v)
    _strip_lines(strip, built, certificate)
    strip.plot(sampled.points[inside], sampled.errors[inside], color=COLOURS["theory"], linewidth=1.2)
    _mark_largest(strip, sampled)
    strip.set_xlabel("x")
    strip.set_ylim(bottom.get_ylim())
    return drawn


def _curves(ax: Axes, built: Approximation, grid: Array) -> None:
    """f, F and the proven band."""
    truth = true_values(built.target, grid)
    bound = float(built.bound)
    ax.fill_between(
        grid, truth - bound, truth + bound, color=COLOURS["proved"], alpha=0.25, linewidth=0,
        label=f"PROVED band f ± {above(built.bound)}",
    )  # fmt: skip
    ax.plot(grid, truth, color=COLOURS["target"], linewidth=1.2, linestyle=(0, (5, 2)), label="target f")
    ax.plot(grid, FloatNetwork.of(built.network)(grid), color=COLOURS["theory"], label="network F")


def _window(built: Approximation, sampled: Sampled) -> tuple[float, float]:
    """A few cells around the largest sampled error, inside the interval."""
    f = built.target
    a, length = float(f.a), float(f.length)
    width = min(6 * length / max(1, built.cells), length / 3)
    u = min(max(sampled.where - width / 2, a), a + length - width)
    return u, u + width


def assembly_picture(built: Approximation) -> Figure:
    """Four panels: a unit, a bump, the weighted bumps, their sum with the proven band."""
    drawn, axes = figure(11, 6.4, 2, 2)
    part = built.construction.prepare(built.network.activation)
    (one, two), (many, total) = axes
    name = built.network.activation.name
    if isinstance(part, Step):
        _draw_steps(one, two, part, name)
    else:
        _draw_hinges(one, two, built)
    grid = _grid(built, 2_001)
    bumps = _bumps(built, grid)
    if bumps is not None:
        _draw_bumps(many, grid, bumps, strong=True)
    truth = true_values(built.target, grid)
    many.plot(grid, truth, color=COLOURS["target"], linewidth=1.2, linestyle=(0, (5, 2)), label="target f")
    word = _word(built)
    place = "middle" if isinstance(part, Step) else "peak"
    count = "too many to draw" if bumps is None else f"{len(bumps)} {word}, each times f at its {place}"
    _title(many, f"(3) {count}")
    _curves(total, built, grid)
    _title(total, f"(4) their sum: {_units(built)}")
    _legend(many, None if bumps is None else word)
    _legend(total)
    for ax in (many, total):
        ax.set_xlabel("x")
    drawn.set_layout_engine("constrained", hspace=0.08)  # the lower titles keep away from the axes above
    drawn.suptitle(f"How a network becomes {_shortened(built.target.text)}", fontsize=13, fontweight="bold")
    return drawn


def bump_picture(built: Bump) -> Figure:
    """The bump with its two steps, and flatter ones behind it."""
    drawn, (left, right) = figure(10, 4, 1, 2, sharey=True)
    width = float(built.right - built.left)
    grid = np.linspace(float(built.left) - 1.5 * width, float(built.right) + 1.5 * width, 1_601)
    up, down = (
        _step_values(built.part, float(built.steepness), float(face), grid) for face in (built.left, built.right)
    )
    left.plot(grid, up, color=COLOURS["theory"], label=f"S(w(x − {float(built.left):g}))")
    left.plot(grid, down, color=COLOURS["accent"], label=f"S(w(x − {float(built.right):g}))")
    _title(left, f"Two {built.network.activation.name} units of weight w = {float(built.steepness):g}")
    for share, alpha in ((16, 0.25), (4, 0.45)):
        w = float(built.steepness) / share
        flat = _step_values(built.part, w, float(built.left), grid) - _step_values(
            built.part, w, float(built.right), grid
        )
        right.plot(grid, flat, color=COLOURS["theory"], alpha=alpha, linewidth=1.4, label=f"w = {w:g}")
    right.fill_between(grid, up - down, color=COLOURS["theory"], alpha=0.15, linewidth=0)
    right.plot(grid, up - down, color=COLOURS["theory"], linewidth=2.2, label=f"w = {float(built.steepness):g}")
    _title(right, "Their difference: a bump")
    for ax in (left, right):
        ax.set_xlabel("x")
        ax.set_ylim(-0.08, 1.3)
        ax.legend(loc="upper right", ncols=3 if ax is right else 2, fontsize=9, frameon=False)
    return drawn


def _error_strip(ax: Axes, built: Approximation, sampled: Sampled, certificate: Certificate | None) -> None:
    _strip_lines(ax, built, certificate)
    ax.plot(sampled.points, sampled.errors, color=COLOURS["theory"], linewidth=0.8)
    _mark_largest(ax, sampled)
    reach = max(float(built.bound), sampled.largest if np.isfinite(sampled.largest) else 0.0) or 1.0
    ax.set_ylim(-1.2 * reach, 2.0 * reach)
    ax.set_ylabel("error F − f")
    ax.set_xlabel("x")
    ax.legend(loc="upper center", ncols=3, fontsize=9, frameon=False)


def _strip_lines(ax: Axes, built: Approximation, certificate: Certificate | None) -> None:
    """The proven ceiling and floor of the error, and the certified ones."""
    bound = float(built.bound)
    ax.axhspan(-bound, bound, color=COLOURS["proved"], alpha=0.12, linewidth=0)
    label = f"PROVED ±{above(built.bound)}"
    for side in (-bound, bound):
        ax.axhline(side, color=COLOURS["proved"], linewidth=1.2, label=label if side > 0 else None)
    if certificate is not None:
        upper = float(certificate.upper)
        label = f"CERTIFIED ±{above(certificate.upper)} ({certificate.dtype} weights)"
        for side in (-upper, upper):
            ax.axhline(side, color=COLOURS["proved"], linestyle=":", linewidth=1.6, label=label if side > 0 else None)


def _mark_largest(ax: Axes, sampled: Sampled) -> None:
    """The largest sampled error; where the floats gave no number, that is said instead."""
    errors = sampled.errors
    if not np.all(np.isfinite(errors)):
        ax.text(0.5, 0.4, "the floats overflowed: no number", transform=ax.transAxes, ha="center")
        return
    k = int(np.argmax(np.abs(errors)))
    ax.plot(
        sampled.points[k], errors[k], "o", color=COLOURS["sampled"], markersize=7, clip_on=False, zorder=5,
        label=f"largest SAMPLED {abs(errors[k]):.3g}",
    )  # fmt: skip


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=11, fontweight="bold")


def _legend(ax: Axes, summands: str | None = None) -> None:
    """Above the curves, in room made for it; ``summands`` is the word for the two-coloured shapes, where drawn."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.patches import Patch

    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.22 * (high - low))
    handles: list[Any]
    handles, labels = ax.get_legend_handles_labels()
    if summands is not None:
        handles = [*handles, tuple(Patch(color=colour, alpha=0.4) for colour in _BUMP_COLOURS)]
        labels = [*labels, f"{summands}, adding up to F"]
    handlers = {tuple: HandlerTuple(ndivide=None, pad=0)}
    columns = 3 if summands is None else 2
    ax.legend(handles, labels, loc="upper center", ncols=columns, fontsize=9, frameon=False, handler_map=handlers)


def _word(built: Approximation) -> str:
    """What the summands are called."""
    return "bumps" if isinstance(built.construction.prepare(built.network.activation), Step) else "hats"


def _draw_bumps(ax: Axes, grid: Array, bumps: list[Array], strong: bool = False) -> None:
    for k, values in enumerate(bumps):
        colour = _BUMP_COLOURS[k % 2]
        shown = np.abs(values) > 1e-3 * max(np.abs(values).max(), 1e-300)
        ax.fill_between(grid, values, where=shown, color=colour, alpha=0.35 if strong else 0.16, linewidth=0)
        ax.plot(grid, np.where(shown, values, np.nan), color=colour, linewidth=0.9, alpha=0.9 if strong else 0.4)


def _bumps(built: Approximation, grid: Array) -> list[Array] | None:
    """The summands f(m_j)·bump_j (or f(x_k)·hat_k) that add up to F; None where they are too many to draw."""
    if not 1 <= built.cells <= _MOST_BUMPS:
        return None
    part = built.construction.prepare(built.network.activation)
    if not isinstance(part, Step):
        return _hats(built, grid)
    f, cells = built.target, built.cells
    if built.construction.name != "staircase":
        return None
    faces = [float(f.a + f.length * Fraction(j, cells)) for j in range(1, cells)]
    middles = np.array([float(f.a + f.length * Fraction(2 * j + 1, 2 * cells)) for j in range(cells)])
    w = float(built.facts["w"])
    steps = [np.ones_like(grid), *(_step_values(part, w, face, grid) for face in faces), np.zeros_like(grid)]
    heights = true_values(f, middles)
    return [h * (up - down) for h, up, down in zip(heights, steps, steps[1:], strict=False)]


def _hats(built: Approximation, grid: Array) -> list[Array] | None:
    points = nodes_for(built.target, built.cells).points
    nodes = np.array([float(p) for p in points])
    heights = FloatNetwork.of(built.network)(nodes)
    if not np.all(np.isfinite(heights)):
        return None
    return [h * np.interp(grid, nodes, row) for h, row in zip(heights, np.eye(nodes.size), strict=True)]


def _draw_steps(one: Axes, two: Axes, part: Step, name: str) -> None:
    grid = np.linspace(0, 1, 801)
    for w, alpha in ((20, 0.35), (60, 0.6), (240, 1.0)):
        up = _step_values(part, w, 0.4, grid)
        one.plot(grid, up, color=COLOURS["theory"], alpha=alpha, label=f"w = {w}")
        two.plot(grid, up - _step_values(part, w, 0.6, grid), color=COLOURS["theory"], alpha=alpha, label=f"w = {w}")
    _title(one, f"(1) one {name} unit: a step")
    _title(two, "(2) two units: a bump")
    for ax in (one, two):
        ax.set_ylim(-0.08, 1.3)
        ax.legend(loc="upper right", ncols=3, fontsize=9, frameon=False)


def _draw_hinges(one: Axes, two: Axes, built: Approximation) -> None:
    """The unit itself, and the hat that the same construction makes of it."""
    row = built.network.activation
    wide, grid = np.linspace(-6, 6, 801), np.linspace(-1.5, 1.5, 801)
    one.plot(wide, kernel(row)(wide), color=COLOURS["theory"])
    _title(one, f"(1) one {row.name} unit: a hinge")
    hat = approximate("max(0, 1 - abs(x))", row, epsilon="0.05", interval=("-1.5", "1.5"))
    values = FloatNetwork.of(hat.network)(grid)
    two.plot(grid, values, color=COLOURS["theory"])
    two.fill_between(grid, values, color=COLOURS["theory"], alpha=0.15, linewidth=0)
    _title(two, f"(2) {hat.network.units} units: a hat")


def _step_values(part: Step, steepness: float, face: float, grid: Array) -> Array:
    low, high = float(part.low), float(part.high)
    values: Array = (kernel(part.activation)(steepness * (grid - face)) - low) / (high - low)
    return values


def _grid(built: Approximation, count: int) -> Array:
    """An even grid and the network's knots, inside the interval."""
    f = built.target
    knots = [float(k) for k in built.network.knots if f.a < k < f.b][:4_000]
    grid = np.unique(np.concatenate([np.linspace(float(f.a), float(f.b), count), knots]))
    inside: Array = np.clip(grid, float(f.a), float(f.b))
    return inside


def _units(built: Approximation) -> str:
    units = built.network.units
    return f"{units} {built.network.activation.name} unit{'' if units == 1 else 's'}"


def _shortened(text: str, most: int = 48) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
