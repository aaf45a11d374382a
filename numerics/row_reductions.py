"""Reductions of one row that LLVM can vectorise."""

from __future__ import annotations

import math
from typing import Any

import numba


@numba.njit(forceinline=True, fastmath={"nnan", "reassoc"}, error_model="numpy")
def _largest(row: Any) -> float:
    """The largest entry of a row without NaN."""
    best = -math.inf
    for i in range(row.size):
        best = max(best, row[i])
    return best


@numba.njit(forceinline=True, error_model="numpy")
def row_maximum(row: Any) -> float:
    """The largest entry of a row, −∞ of an empty one; NaN if one entry is NaN."""
    broken = 0
    for i in range(row.size):
        broken += row[i] != row[i]
    return math.nan if broken else float(_largest(row))
