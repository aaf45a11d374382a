"""What runs: NumPy and Numba kernels, each with its error measured against the theory."""

from __future__ import annotations

import importlib
from typing import Any

#: public name -> the module that defines it; loaded when first asked for.
_HOME = {
    "kernel": "kernels",
    "parametric_kernel": "parametric",
    "row_kernel": "row_kernels",
    "loss_kernel": "loss_kernels",
    "measure_accuracy": "accuracy",
    "measure_dense": "dense",
    "check": "checking",
    "train": "training",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
