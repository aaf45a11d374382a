"""``backproof perceptron``: Rosenblatt's rule on a gate or a file, its mistakes beside Novikoff's bound, or the proof
of none.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..theory.errors import InputError
from ..theory.perceptron import (
    GATES,
    Inseparable,
    Problem,
    Separation,
    Vector,
    exact_text,
    gate,
    problem,
    separability,
    widest_street,
)
from ..theory.supremum import above, decades
from .options import emit, json_option, output_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..numerics.perceptron import PerceptronRun

#: Axes whose numbers lie within this and its inverse are labelled with them; others in powers of ten.
_PLAIN = 10**6
#: Few points are drawn with equal scales unless one axis is this much longer.
_SQUARE = 2
#: A bound this many times the mistakes would press them flat: it is then named, not drawn.
_IN_SIGHT = 1000


@click.command()
@click.argument("what", metavar="GATE|FILE.csv")
@click.option("--target", metavar="COLUMN", help="Column of the CSV file that holds the label (default: the last).")
@click.option("--passes", type=click.IntRange(1, 10**6), default=1000, show_default=True, help="Most passes to run.")
@json_option
@output_option
def command(what: str, target: str | None, passes: int, as_json: bool, output: Path | None) -> None:
    """Run Rosenblatt's rule and decide, exactly, whether a line separates the classes.

    A gate is one of and, or, nand, nor, xor, xnor; a CSV file holds two classes. A separable set gets an exact
    hyperplane and Novikoff's bound on the mistakes; any other gets a proof that no hyperplane separates it.
    """
    from ..numerics.perceptron import run_perceptron

    asked, names = read_problem(what, target)
    verdict, run = separability(asked), run_perceptron(asked, passes)
    emit(_data(what, verdict, run), as_json, lambda: _text(what, verdict, run))
    if output is not None:
        from .pictures import save

        save(picture(what, verdict, run, names), output)


def read_problem(what: str, target: str | None = None) -> tuple[Problem, tuple[str, ...]]:
    """The gate called ``what``, or the two classes in the CSV file ``what``, with every number exact as printed; and
    the features' names.
    """
    if what.lower() in GATES:
        return gate(what.lower()), ("x₁", "x₂")
    if not what.lower().endswith(".csv"):
        raise InputError(f"{what[:60]!r} is neither a gate ({', '.join(GATES)}) nor a .csv file")
    from ..numerics.data import read_csv

    table = read_csv(what, target)
    return problem(table.rows, table.labels), table.features


def _data(what: str, verdict: Separation | Inseparable, run: PerceptronRun) -> dict[str, Any]:
    found: dict[str, Any] = {
        "what": what,
        "points": len(run.problem.points),
        "dimension": run.problem.dimension,
        "classes": run.problem.names,
        "separable": verdict.separable,
        "certificate_holds": verdict.holds,
        "rosenblatt": {
            "outcome": run.outcome,
            "passes": len(run.history),
            "mistakes": run.mistakes,
            "mistakes_by_pass": run.history,
            "weights": _exact(run.weights),
            "bias": exact_text(run.bias),
            "cycle_start_pass": None if run.cycle_start is None else run.cycle_start + 1,
            "cycle_length": run.cycle_length,
        },
    }
    if isinstance(verdict, Separation):
        found |= {
            "weights": _exact(verdict.weights),
            "bias": exact_text(verdict.bias),
            "margin_squared": exact_text(verdict.margin_squared),
            "radius_squared": exact_text(verdict.problem.radius_squared),
            "novikoff_bound": exact_text(verdict.mistake_bound),
        }
    else:
        found |= {"multipliers": _exact(verdict.multipliers), "common_point": _exact(verdict.common_point)}
    return found


def _exact(numbers: Vector) -> list[str]:
    return [exact_text(number) for number in numbers]


def _text(what: str, verdict: Separation | Inseparable, run: PerceptronRun) -> str:
    asked = run.problem
    lines = [
        f"{what}: {len(asked.points)} points in {asked.dimension} dimension{'s' * (asked.dimension > 1)}, "
        f"classes {asked.names[0]} and {asked.names[1]}",
        f"proved (exact, verified): {verdict.text}",
        f"run (exact integers): {run.text}",
    ]
    if isinstance(verdict, Separation):
        sign = "≤" if run.mistakes <= verdict.mistake_bound else ">"
        share = _share(run.mistakes / verdict.mistake_bound)
        lines.append(f"mistakes {run.mistakes} {sign} Novikoff's bound {verdict.bound_text} ({share} of it)")
    return "\n".join(lines)


def _share(part: Fraction) -> str:
    return "less than 1%" if 0 < part < Fraction(1, 100) else f"{float(part):.0%}"


def picture(
    what: str, verdict: Separation | Inseparable, run: PerceptronRun, names: tuple[str, ...] = ("x₁", "x₂")
) -> Figure:
    """The points with the learned line (two dimensions only, ``names`` its axes), and the mistakes against Novikoff's
    bound.
    """
    from .pictures import figure

    if run.problem.dimension == 2:
        drawn, (left, right) = figure(10.0, 4.6, ncols=2, width_ratios=(1.0, 1.1))
        _draw_points(left, what, verdict, run, names)
    else:
        drawn, right = figure(6.5, 4.4)
    _draw_mistakes(right, verdict, run)
    return drawn


def _draw_points(
    axes: Any, what: str, verdict: Separation | Inseparable, run: PerceptronRun, names: tuple[str, ...]
) -> None:
    from .pictures import COLOURS

    asked = run.problem
    units = [_unit(max(abs(point[k]) for point in asked.points)) for k in (0, 1)]
    points = [(float(a / units[0]), float(b / units[1])) for a, b in asked.points]
    limits = [_limits([point[k] for point in points]) for k in (0, 1)]
    for sign, colour, marker in ((-1, COLOURS["theory"], "o"), (1, COLOURS["measured"], "s")):
        chosen = [point for point, s in zip(points, asked.signs, strict=True) if s == sign]
        size = 90 if len(points) <= 12 else 26
        axes.scatter(
            *zip(*chosen, strict=True),
            c=colour,
            marker=marker,
            s=size,
            zorder=3,
            label=f"class {asked.names[sign > 0]}",
        )
    if isinstance(verdict, Separation):
        learned = "Rosenblatt's line" if run.outcome == "learned" else "Rosenblatt's line when stopped"
        _draw_line(axes, limits, units, run.weights, run.bias, color=COLOURS["target"], label=learned)
        normal, offset, _ = widest_street(asked)
        style: Any = {"color": COLOURS["proved"], "linestyle": "--", "linewidth": 1.3, "label": "widest margin (exact)"}
        _draw_line(axes, limits, units, normal, offset, **style)
    else:
        _draw_certificate(axes, units, verdict)
    labels = [name if unit == 1 else f"{name} / {above(unit)}" for name, unit in zip(names, units, strict=True)]
    axes.set(xlim=limits[0], ylim=limits[1], xlabel=labels[0], ylabel=labels[1])
    reach = [high - low for low, high in limits]
    if len(points) <= 12 and max(reach) < _SQUARE * min(reach):
        axes.set_aspect("equal")
    axes.set_title(
        f"{Path(what).name}: " + ("separable" if verdict.separable else "no line separates the classes"), loc="left"
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4, ncols=2, fontsize=9, frameon=False)


def _unit(largest: Fraction) -> Fraction:
    """What an axis is divided by: 1, or a power of ten where plain floats would be unreadable or too large."""
    if largest == 0 or Fraction(1, _PLAIN) <= largest <= _PLAIN:
        return Fraction(1)
    return Fraction(10) ** decades(largest)


def _draw_certificate(axes: Any, units: list[Fraction], verdict: Inseparable) -> None:
    """Both classes' weighted points joined to the common point: it lies in both convex hulls."""
    from .pictures import COLOURS

    centre = tuple(float(entry / unit) for entry, unit in zip(verdict.common_point, units, strict=True))
    for weight, point, sign in zip(verdict.multipliers, verdict.problem.points, verdict.problem.signs, strict=True):
        if weight:
            colour = COLOURS["measured"] if sign > 0 else COLOURS["theory"]
            start = [float(entry / unit) for entry, unit in zip(point, units, strict=True)]
            axes.plot(*zip(start, centre, strict=True), color=colour, linewidth=1.4, zorder=2)
    axes.plot(
        *centre,
        marker="*",
        markersize=17,
        color=COLOURS["proved"],
        linestyle="none",
        zorder=4,
        label="in both hulls (exact)",
    )


def _draw_line(
    axes: Any, limits: list[tuple[float, float]], units: list[Fraction], weights: Vector, bias: Fraction, **style: Any
) -> None:
    """w₁x₁ + w₂x₂ + b = 0 across the frame; nothing when the weights are 0, or the line is far outside."""
    scaled = [weight * unit for weight, unit in zip(weights, units, strict=True)]
    size = max(map(abs, scaled))
    if size == 0 or abs(bias) > 10**12 * size:
        return
    w1, w2, b = (float(entry / size) for entry in (*scaled, bias))  # the same line, in numbers that floats hold
    (left, right), (bottom, top) = limits
    scale = max(right - left, top - bottom) * 2
    norm = w1 * w1 + w2 * w2
    middle = ((left + right) / 2, (bottom + top) / 2)
    gap = (w1 * middle[0] + w2 * middle[1] + b) / norm
    foot = (middle[0] - gap * w1, middle[1] - gap * w2)
    along = (-w2 / norm**0.5 * scale, w1 / norm**0.5 * scale)
    axes.plot([foot[0] - along[0], foot[0] + along[0]], [foot[1] - along[1], foot[1] + along[1]], **style)


def _draw_mistakes(axes: Any, verdict: Separation | Inseparable, run: PerceptronRun) -> None:
    from .pictures import COLOURS

    passes = range(len(run.history) + 1)
    total = _running(run.history)
    axes.step(passes, total, where="post", color=COLOURS["measured"], label="mistakes made")
    if isinstance(verdict, Separation):
        shown = above(verdict.mistake_bound, 6)
        sign = "=" if Fraction(shown) == verdict.mistake_bound else "≤"
        label, style = f"Novikoff's bound (R/γ)² {sign} {shown}", {"linestyle": "--"}
        if verdict.mistake_bound <= _IN_SIGHT * max(1, run.mistakes):
            axes.axhline(float(verdict.mistake_bound), color=COLOURS["theory"], label=label, **style)
        else:
            axes.plot([], [], color=COLOURS["theory"], label=f"{label}: far above", **style)
        title = "Mistakes stay below the bound"
    elif run.outcome == "cycle" and run.cycle_start is not None:
        again = list(run.history[run.cycle_start :])
        future = [total[-1]]
        while len(future) <= max(8, len(again)):
            future.append(future[-1] + again[(len(future) - 1) % len(again)])
        start = len(run.history)
        axes.step(range(start, start + len(future)), future, where="post", color=COLOURS["measured"], linestyle=":",
                  label="the same weights recur: for ever so")  # fmt: skip
        title = "Mistakes never end"
    else:
        title = "Mistakes never end: no line exists"
    axes.set(xlabel="passes over the points", ylabel="mistakes so far", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(title, loc="left")
    place = "center right" if run.outcome == "learned" else "upper left"
    axes.legend(loc=place, fontsize=9, frameon=False)


def _running(history: tuple[int, ...]) -> list[int]:
    total = [0]
    for count in history:
        total.append(total[-1] + count)
    return total


def _limits(values: list[float]) -> tuple[float, float]:
    spread = (max(values) - min(values)) or 1.0
    return min(values) - 0.3 * spread, max(values) + 0.3 * spread
