"""What is true: SymPy expressions and proven enclosures; never a bare float."""

from __future__ import annotations

import importlib
from typing import Any

#: public name -> the module that defines it; loaded when first asked for.
_HOME = {
    "activation": "activations",
    "layer": "layers",
    "loss": "losses",
    "initialiser": "initialisers",
    "network": "networks",
    "optimiser": "optimisers",
    "InputError": "errors",
    "Unsupported": "errors",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
