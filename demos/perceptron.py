"""``backproof perceptron``: Rosenblatt's rule on a gate or a file, its mistakes beside Novikoff's bound, or the proof
of none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..theory.errors import InputError
from ..theory.perceptron import GATES, Inseparable, Problem, Separation, gate, problem, separability, widest_street
from .options import emit, json_option, output_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..numerics.perceptron import PerceptronRun


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
            "weights": run.weights,
            "bias": run.bias,
            "cycle_start_pass": None if run.cycle_start is None else run.cycle_start + 1,
            "cycle_length": run.cycle_length,
        },
    }
    if isinstance(verdict, Separation):
        found |= {
            "weights": verdict.weights,
            "bias": verdict.bias,
            "margin_squared": verdict.margin_squared,
            "radius_squared": verdict.problem.radius_squared,
            "novikoff_bound": verdict.mistake_bound,
        }
    else:
        found |= {"multipliers": verdict.multipliers, "common_point": verdict.common_point}
    return found


def _text(what: str, verdict: Separation | Inseparable, run: PerceptronRun) -> str:
    asked = run.problem
    lines = [
        f"{what}: {len(asked.points)} points in {asked.dimension} dimension{'s' * (asked.dimension > 1)}, "
        f"classes {asked.names[0]} and {asked.names[1]}",
        f"proved (exact, verified): {verdict.text}",
        f"run (exact integers): {run.text}",
    ]
    if isinstance(verdict, Separation):
        share = run.mistakes / verdict.mistake_bound
        sign = "≤" if run.mistakes <= verdict.mistake_bound else ">"
        lines.append(
            f"mistakes {run.mistakes} {sign} Novikoff's bound {int(verdict.mistake_bound)} ({float(share):.0%} of it)"
        )
    return "\n".join(lines)


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
    points = [(float(a), float(b)) for a, b in asked.points]
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
        _draw_line(
            axes, limits, *map(float, (*run.weights, run.bias)), color=COLOURS["target"], label="Rosenblatt's line"
        )
        normal, offset, _ = widest_street(asked)
        style: Any = {"color": COLOURS["proved"], "linestyle": "--", "linewidth": 1.3, "label": "widest margin (exact)"}
        _draw_line(axes, limits, *map(float, (*normal, offset)), **style)
    else:
        _draw_certificate(axes, verdict)
    axes.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
    if len(points) <= 12:
        axes.set_aspect("equal")
    axes.set_title(
        f"{Path(what).name}: " + ("separable" if verdict.separable else "no line separates the classes"), loc="left"
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9, frameon=False)


def _draw_certificate(axes: Any, verdict: Inseparable) -> None:
    """Both classes' weighted points joined to the common point: it lies in both convex hulls."""
    from .pictures import COLOURS

    centre = tuple(float(entry) for entry in verdict.common_point)
    for weight, point, sign in zip(verdict.multipliers, verdict.problem.points, verdict.problem.signs, strict=True):
        if weight:
            colour = COLOURS["measured"] if sign > 0 else COLOURS["theory"]
            axes.plot(*zip(map(float, point), centre, strict=True), color=colour, linewidth=1.4, zorder=2)
    axes.plot(
        *centre,
        marker="*",
        markersize=17,
        color=COLOURS["proved"],
        linestyle="none",
        zorder=4,
        label="in both hulls (exact)",
    )


def _draw_line(axes: Any, limits: list[tuple[float, float]], w1: float, w2: float, b: float, **style: Any) -> None:
    """w₁x₁ + w₂x₂ + b = 0 across the frame; nothing when the weights are 0."""
    if w1 == w2 == 0:
        return
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
        bound = float(verdict.mistake_bound)
        axes.axhline(bound, color=COLOURS["theory"], linestyle="--", label=f"Novikoff's bound (R/γ)² = {bound:.6g}")
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
    axes.legend(loc="center right" if verdict.separable else "upper left", fontsize=9, frameon=False)


def _running(history: tuple[int, ...]) -> list[int]:
    total = [0]
    for count in history:
        total.append(total[-1] + count)
    return total


def _limits(values: list[float]) -> tuple[float, float]:
    spread = (max(values) - min(values)) or 1.0
    return min(values) - 0.3 * spread, max(values) + 0.3 * spread
