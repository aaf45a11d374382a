"""The race as a picture: GB/s of what must be moved, beside the copy of an array, which memory allows at most."""

from __future__ import annotations

import statistics
from typing import Any

from .pictures import COLOURS, CYCLE, figure

#: Contestant → (name in the legend, colour, marker).
LOOK = {
    "backproof": ("backproof", COLOURS["theory"], "o"),
    "backproof, fast": ("backproof, fast", COLOURS["light"], "D"),
    "torch, eager": ("PyTorch", COLOURS["measured"], "s"),
    "jax, jitted": ("JAX", COLOURS["proved"], "^"),
    "numpy, as written": ("NumPy as written", COLOURS["sampled"], "v"),
    "numexpr": ("numexpr", COLOURS["accent"], "P"),
    "numba, as written": ("Numba as written", COLOURS["muted"], "x"),
}
COPY = "copy"


def _look(name: str) -> tuple[str, str, str]:
    return LOOK.get(name, (name, CYCLE[hash(name) % len(CYCLE)], "d"))


def roofline(data: dict[str, Any]) -> Any:
    """One panel a dtype: over the sizes where there are several, else over the activations."""
    dtypes = list(dict.fromkeys(one["dtype"] for one in data["races"]))
    by_dtype = {dtype: [one for one in data["races"] if one["dtype"] == dtype] for dtype in dtypes}
    several = any(len(races) > 1 for races in by_dtype.values())
    rows = max(len(one["results"]) for one in data["races"])
    height = 4.6 if several else 1.6 + 0.28 * rows
    drawn, axes = figure(6.2 * len(dtypes) + 0.6, height, 1, len(dtypes), squeeze=False)
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        (_over_sizes if several else _over_rows)(axis, by_dtype[dtype])
    drawn.suptitle(data["what"], fontsize=11)
    drawn.legend(
        *axes[0][0].get_legend_handles_labels(),
        fontsize=9,
        loc="outside lower center",
        ncols=4 * len(dtypes),
        frameon=False,
    )
    return drawn


def _over_sizes(axis: Any, races: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for one in races for by in one["results"].values() for name in by))
    for name in names:
        points = []
        for one in races:
            speeds = [by[name]["gigabytes_per_s"] for by in one["results"].values() if name in by]
            if speeds:
                points.append((one["size"], min(speeds), statistics.median(speeds), max(speeds)))
        sizes, low, middle, high = zip(*points, strict=True)
        if name == COPY:
            axis.plot(sizes, middle, color=COLOURS["target"], linestyle="--", label="copy of the array")
            continue
        label, colour, marker = _look(name)
        axis.plot(sizes, middle, color=colour, marker=marker, markersize=5, label=label)
        if name == "backproof":
            axis.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set(xscale="log", yscale="log", xlabel="entries", ylabel="GB/s (median over the activations)")
    axis.set_title(races[0]["dtype"])


def _over_rows(axis: Any, races: list[dict[str, Any]]) -> None:
    (one,) = races
    rows = sorted(one["results"], key=lambda row: one["results"][row]["backproof"]["gigabytes_per_s"])
    copies = [by[COPY]["gigabytes_per_s"] for by in one["results"].values() if COPY in by]
    if copies:
        axis.axvline(statistics.median(copies), color=COLOURS["target"], linestyle="--", label="copy of the array")
    for name in dict.fromkeys(name for by in one["results"].values() for name in by if name != COPY):
        label, colour, marker = _look(name)
        places = [(by[name]["gigabytes_per_s"], k) for k, r in enumerate(rows) if name in (by := one["results"][r])]
        axis.scatter(*zip(*places, strict=True), color=colour, marker=marker, s=34, label=label, zorder=3)
    axis.set(xscale="log", xlabel="GB/s", yticks=range(len(rows)))
    axis.set_yticklabels(rows)
    axis.set_title(f"{one['dtype']}, {one['size']:,} entries")
