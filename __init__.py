"""backproof: derive it, prove it, run it.

The public names live in :mod:`backproof.theory` and :mod:`backproof.numerics`; they are offered here too and loaded
when first asked for, so that ``import backproof`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "theory": ("activation", "layer", "loss", "initialiser", "network", "optimiser"),
    "numerics": ("check", "kernel", "measure_accuracy", "train"),
}
__all__ = ["__version__", *sorted(name for names in _PUBLIC.values() for name in names)]


def __getattr__(name: str) -> Any:
    for room, names in _PUBLIC.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
