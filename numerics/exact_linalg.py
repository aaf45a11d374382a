"""Linear algebra on exact arrays: elimination on the entries, which the tape differentiates like any other code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .exact_arrays import exact_array, matmul, wrap
from .exact_functions import covered
from .exact_scalars import NotDecided, lift, unary

Rows = list[list[Any]]


def _square(a: Any, what: str) -> np.ndarray[Any, Any]:
    array = np.asarray(exact_array(a).astype_exact().view(np.ndarray))
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise np.linalg.LinAlgError(f"Last 2 dimensions of the array must be square ({what})")
    return array


def _pivot(rows: Rows, column: int) -> int:
    """Return the row of the largest entry, by the middle of its enclosure: any row without 0 would do."""
    sizes = [abs(row[column].value.mid()) for row in rows[column:]]
    best = column + max(range(len(sizes)), key=lambda k: sizes[k])
    if rows[best][column].value.contains(0):
        if all(row[column].value == 0 for row in rows[column:]):
            raise np.linalg.LinAlgError("Singular matrix")
        raise NotDecided("whether the matrix is singular")
    return best


def _eliminate(rows: Rows) -> Any:
    """Bring rows [A | B] to [I | A⁻¹B] in place and return det A."""
    size, determinant = len(rows), lift(1)
    for k in range(size):
        best = _pivot(rows, k)
        if best != k:
            rows[k], rows[best] = rows[best], rows[k]
            determinant = -determinant
        pivot = rows[k][k]
        determinant = determinant * pivot
        rows[k] = [entry / pivot for entry in rows[k]]
        for j in range(size):
            if j != k:
                factor = rows[j][k]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[k], strict=True)]
    return determinant


def _solved(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows = [[*left, *right] for left, right in zip(a, b, strict=True)]
    _eliminate(rows)
    out = np.empty(b.shape, dtype=object)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row[len(rows) :]):
            out[i, j] = entry
    return out


def _stacked(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Apply a function of matrices over the leading axes."""
    batch = first.shape[:-2]
    if not batch:
        return function(first, *others)
    parts = [function(first[spot], *(o[spot] for o in others)) for spot in np.ndindex(*batch)]
    out = np.empty((len(parts), *np.shape(parts[0])), dtype=object)
    for k, part in enumerate(parts):
        out[k] = part
    return out.reshape(*batch, *np.shape(parts[0]))


@covered("linalg.inv")
def inverse(a: Any) -> Any:
    """Return ``np.linalg.inv`` in exact arithmetic."""
    array = _square(a, "inv")
    identity = np.frompyfunc(lift, 1, 1)(np.eye(array.shape[-1], dtype=int))
    return wrap(_stacked(lambda m: _solved(m, identity), array))


@covered("linalg.solve")
def solve(a: Any, b: Any) -> Any:
    """Return ``np.linalg.solve`` in exact arithmetic."""
    array, right = _square(a, "solve"), np.asarray(exact_array(b).astype_exact().view(np.ndarray))
    if right.ndim == 1:
        return wrap(_stacked(lambda m: _solved(m, right[:, None])[:, 0], array))
    batch = np.broadcast_shapes(array.shape[:-2], right.shape[:-2])
    array = np.broadcast_to(array, batch + array.shape[-2:])
    right = np.broadcast_to(right, batch + right.shape[-2:])
    return wrap(_stacked(_solved, array, right))


@covered("linalg.det")
def determinant(a: Any) -> Any:
    """Return ``np.linalg.det`` in exact arithmetic."""

    def one(matrix: Any) -> Any:
        try:
            return _eliminate([list(row) for row in matrix])
        except np.linalg.LinAlgError:
            return lift(0)

    array = _square(a, "det")
    return wrap(_stacked(one, array)) if array.ndim > 2 else one(array)


@covered("linalg.slogdet")
def log_determinant(a: Any) -> Any:
    """Return ``np.linalg.slogdet`` in exact arithmetic."""
    value = determinant(a)
    absolute = wrap(np.frompyfunc(lambda v: unary("log", unary("abs", v)), 1, 1)(_entries(value)))
    sign = wrap(np.frompyfunc(lambda v: unary("sign", v), 1, 1)(_entries(value)))
    return np.linalg.slogdet(np.eye(1)).__class__(sign, absolute)


def _entries(value: Any) -> Any:
    return np.asarray(exact_array(value).astype_exact().view(np.ndarray))


@covered("linalg.cholesky")
def cholesky(a: Any, *, upper: bool = False) -> Any:
    """Return ``np.linalg.cholesky`` in exact arithmetic; the lower triangle is read, as NumPy does."""

    def one(matrix: Any) -> Any:
        size = len(matrix)
        out = np.empty((size, size), dtype=object)
        for i in range(size):
            for j in range(size):
                out[i, j] = lift(0)
            for j in range(i + 1):
                rest = matrix[i, j] if not upper else matrix[j, i]
                for k in range(j):
                    rest = rest - out[i, k] * out[j, k]
                if i == j and not rest > lift(0):
                    raise np.linalg.LinAlgError("Matrix is not positive definite")
                out[i, j] = unary("sqrt", rest) if i == j else rest / out[j, j]
        return out.T if upper else out

    return wrap(_stacked(one, _square(a, "cholesky")))


@covered("linalg.matrix_power")
def matrix_power(a: Any, n: Any) -> Any:
    """Return ``np.linalg.matrix_power`` in exact arithmetic."""
    base = inverse(a) if int(n) < 0 else exact_array(a)
    result = exact_array(np.eye(np.ndarray.shape.__get__(base)[-1]))
    for _ in range(abs(int(n))):
        result = matmul(result, base)
    return result
