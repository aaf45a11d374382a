"""The floating types in which a person's code is measured; bfloat16 is a NumPy type of the package ml_dtypes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .probing import Point

FLOAT_TYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class FloatType:
    """A type by name: its NumPy dtype, the distance from 1 to the next number, the largest and smallest normal one."""

    name: str
    dtype: Any
    eps: float
    largest: float
    tiny: float

    @property
    def short(self) -> bool:
        return self.dtype.itemsize == 2


@cache
def float_type(name: str) -> FloatType:
    """Return the type of that name.

    Raises :class:`InputError` for an unknown one, and for bfloat16 without the package ml_dtypes.
    """
    if name not in FLOAT_TYPES:
        raise InputError(f"dtype {name!r}: expected {', '.join(FLOAT_TYPES[:-1])} or {FLOAT_TYPES[-1]}")
    info: Any
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise InputError("dtype 'bfloat16' needs the package ml_dtypes: pip install ml_dtypes") from None
        info, dtype = ml_dtypes.finfo(ml_dtypes.bfloat16), np.dtype(ml_dtypes.bfloat16)
    else:
        info, dtype = np.finfo(name), np.dtype(name)
    return FloatType(name, dtype, float(info.eps), float(info.max), float(info.smallest_normal))


def is_float(value: Any) -> bool:
    """Tell whether an array holds floats, of whatever type."""
    return isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16")


def rounded(array: Any, name: str) -> Any:
    """Return an array of float64 that the type holds exactly: what the person's code is handed."""
    with np.errstate(all="ignore"):
        return np.asarray(array).astype(float_type(name).dtype).astype(float)


def point_in(point: Point, name: str) -> Point | None:
    """Return the point as the type holds it: itself, a rounded one, or None where it overflows or loses a number."""
    changed = {}
    for n, value in point.inputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            new = rounded(value, name)
            if not np.isfinite(new).all() or ((new == 0) & (value != 0)).any():
                return None
            if not np.array_equal(new, value):
                changed[n] = new
    return replace(point, inputs={**point.inputs, **changed}) if changed else point
