"""One house style for every picture: matplotlib's object interface only, no window, no global state changed."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..numerics.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Told apart by colour-blind readers too (Okabe & Ito 2008); the names say what the colour means throughout.
COLOURS = {
    "theory": "#0072B2",
    "measured": "#D55E00",
    "proved": "#009E73",
    "sampled": "#CC79A7",
    "target": "#222222",
    "muted": "#8a8f98",
    "accent": "#E69F00",
    "light": "#56B4E9",
}
CYCLE = [COLOURS[k] for k in ("theory", "measured", "proved", "sampled", "accent", "light", "target")]

_STYLE: dict[str, Any] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b6068",
    "axes.labelcolor": "#30343a",
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e4e6ea",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#5b6068",
    "ytick.color": "#5b6068",
    "lines.linewidth": 1.8,
    "svg.hashsalt": "backproof",
    "figure.dpi": 110,
}


def figure(
    width: float = 8.0, height: float = 4.5, nrows: int = 1, ncols: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure of ``width`` × ``height`` inches in the house style, and its axes (one, or an array of them).

    ``options`` go to ``Figure.subplots``. Titles stand at the left and legends have no frame unless told otherwise.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    options["subplot_kw"] = {"axes_class": _axes_class(), **options.get("subplot_kw", {})}
    with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=CYCLE)}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        axes = drawn.subplots(nrows, ncols, **options)
    return drawn, axes


@lru_cache(maxsize=1)
def _axes_class() -> Any:
    """Axes in the house style: what matplotlib's settings would decide only at the time of each call."""
    from matplotlib.axes import Axes

    class HouseAxes(Axes):
        """Titles at the left and bold, legends without a frame."""

        def set_title(self, label: str, *arguments: Any, **options: Any) -> Any:
            """A bold title at the left."""
            return super().set_title(label, *arguments, **{"loc": "left", "fontweight": "bold", **options})

        def legend(self, *arguments: Any, **options: Any) -> Any:
            """A legend without a frame."""
            return super().legend(*arguments, **{"frameon": False, **options})

    return HouseAxes


def render(drawn: Figure, kind: str = "png") -> bytes:
    """The picture as bytes of a PNG, SVG or PDF file; the same picture drawn anew gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context(_STYLE):
        drawn.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def save(drawn: Figure, path: Path) -> Path:
    """Write the picture whole, in the format its name ends in."""
    return write_whole(path, render(drawn, path.suffix.lstrip(".").lower()))
