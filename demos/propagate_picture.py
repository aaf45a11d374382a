"""The picture of ``backproof propagate``: variance against depth, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .pictures import COLOURS, figure
from .propagate import backward_words, forward_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..numerics.propagation import Profile, Propagation

#: Single networks drawn behind the points; more of them merge into one colour.
_MOST_TRACES = 32
#: A logarithmic axis spans at least this many decades, so that a steady line looks steady.
_LEAST_DECADES = 1.5
#: Beyond these exponents of e a value does not fit a float64 axis and is left out.
_REACH = 600.0
#: With fewer layers than this each is drawn on its own.
_FEW = 4


def draw(p: Propagation) -> Figure:
    """Forward on the left, backward on the right: theory as a line, measured points with their interval as a band."""
    drawn, (forward, backward) = figure(11.5, 4.7, 1, 2)
    layers = np.arange(1, p.depth + 1)
    _panel(forward, layers, p.preactivation)
    forward.set_title(f"Forward: {_said(forward_words(p))}", loc="left")
    forward.set_ylabel("E z², mean square of the pre-activations")
    _panel(backward, layers, p.gradient)
    backward.set_title(f"Backward: {_said(backward_words(p))}", loc="left")
    backward.set_ylabel("E δ², relative to the last layer")
    forward.set_xlabel("layer   (signal travels →)")
    backward.set_xlabel("layer   (← gradient travels)")
    forward.legend(loc="best", fontsize=9)
    width = f"width {p.widths[1]}" if len(set(p.widths)) == 1 else "widths as given"
    drawn.suptitle(
        f"{_short(p.prediction.activation)} with {p.prediction.initialiser}: {_layers(p.depth)}, {width}, "
        f"{p.networks} networks",
        x=0.01, ha="left", fontsize=12, fontweight="bold", color="#30343a",
    )  # fmt: skip
    return drawn


def _layers(depth: int) -> str:
    """ "1 layer", "50 layers"."""
    return f"{depth} layer{'s' if depth > 1 else ''}"


def _said(verdict: str) -> str:
    return verdict if verdict != "not decided" else "between two verdicts"


def _short(name: str) -> str:
    return name if len(name) <= 48 else name[:47] + "…"


def _panel(ax: Axes, layers: Any, profile: Profile) -> None:
    for trace in profile.logs[:_MOST_TRACES]:
        ax.plot(layers, _shown(trace), color=COLOURS["muted"], linewidth=0.7, alpha=0.28, zorder=1)
    ax.plot([], [], color=COLOURS["muted"], linewidth=0.9, alpha=0.6, label="single networks")
    low, high = (_shown(end) for end in profile.interval)
    colour, few = COLOURS["measured"], layers.size < _FEW
    ax.fill_between(layers, low, high, color=colour, alpha=0.22, linewidth=0, zorder=2, label="95 % interval")
    if few:  # a band over one layer has no width
        ax.vlines(layers, low, high, color=colour, alpha=0.5, linewidth=3, zorder=2)
    ax.plot(layers, _shown(profile.log_measured), "o", color=colour, markersize=3.6, zorder=4, label="measured")
    theory, marker = _shown(profile.log_predicted), "_" if few else ""
    ax.plot(
        layers, theory, color=COLOURS["theory"], marker=marker, markersize=22, linewidth=2.0, zorder=3, label="theory"
    )
    ax.set_xlim(min(0.5, 1 - 0.02 * layers.size), layers.size + max(0.5, 0.02 * layers.size))
    _scale(ax, profile)


def _shown(logs: Any) -> Any:
    """Values for a logarithmic axis: NaN (not drawn) where 0, overflown or beyond the axis."""
    with np.errstate(invalid="ignore"):
        return np.exp(np.where(np.abs(logs) < _REACH, logs, np.nan))


def _scale(ax: Axes, profile: Profile) -> None:
    """A logarithmic axis with readable ticks whatever the range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    every = np.concatenate([profile.log_predicted, profile.log_measured, *profile.interval])
    decades = every[np.isfinite(every) & (np.abs(every) < _REACH)] / np.log(10)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    _note(ax, profile)
    if decades.size == 0:
        ax.set_yticks([])
        return
    ax.set_yscale("log")
    bottom, top = float(decades.min()), float(decades.max())
    margin = max((_LEAST_DECADES - (top - bottom)) / 2, 0.06 * (top - bottom))
    ax.set_ylim(10 ** (bottom - margin), 10 ** (top + margin))
    if top - bottom + 2 * margin < 3.5:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        ax.yaxis.set_major_locator(LogLocator(numticks=8))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _note(ax: Axes, profile: Profile) -> None:
    """Say what a logarithmic axis cannot show."""
    logs = (profile.log_predicted, profile.log_measured)
    beyond = [f"{name} {what} at {count} of {profile.log_predicted.size} layers" for name, what, count in (
        ("theory", "exactly 0", int(np.isneginf(logs[0]).sum())),
        ("measured", "exactly 0", int(np.isneginf(logs[1]).sum())),
        ("theory", "beyond this axis", int((np.isfinite(logs[0]) & (np.abs(logs[0]) >= _REACH)).sum())),
        ("measured", "overflown or partly 0", int(np.isnan(logs[1]).sum())),
    ) if count]  # fmt: skip
    text = "\n".join(beyond)
    ax.text(0.5, 0.12, text, transform=ax.transAxes, ha="center", fontsize=9, color="#30343a", zorder=5)
