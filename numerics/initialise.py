"""Draw weights: the variance comes from :mod:`..theory.initialisers`, the entries from a NumPy generator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..theory.activations import Activation
from ..theory.activations import activation as activation_of
from ..theory.errors import InputError
from ..theory.initialisers import CUT, DISTRIBUTIONS, Initialiser, initialiser, truncated_normal_std

_DTYPES = ("float32", "float64")


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of weights ``(*taps, inputs, outputs)``: taps × channels.

    >>> fans((784, 256)), fans((3, 3, 16, 32))
    ((784, 256), (144, 288))
    """
    if len(shape) < 2:
        raise InputError(f"weights of shape {tuple(shape)} have no fan: two axes (fan_in, fan_out) are needed")
    taps = 1
    for n in shape[:-2]:
        taps *= n
    return taps * shape[-2], taps * shape[-1]


@lru_cache(maxsize=1024)
def standard_deviation(row: Initialiser, n_in: int, n_out: int, activation: Activation | None) -> float:
    """√Var W, correctly rounded from the proven enclosure."""
    return float(row.variance_ball(n_in, n_out, activation).sqrt().mid())


def draw(
    row: str | Initialiser,
    shape: Sequence[int],
    rng: np.random.Generator,
    activation: Activation | str | None = None,
    dtype: Any = "float64",
) -> NDArray[Any]:
    """Draw an array of ``shape`` (``(*taps, fan_in, fan_out)``) by the named initialiser.

    ``activation`` is needed by the rows that are derived from it ("gain…"). Raises :class:`InputError` for an unknown
    name, a shape without fans, an axis of size 0, or a missing activation.
    """
    row = initialiser(row)
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}")
    kind = np.dtype(dtype)
    if kind.name not in _DTYPES:
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, not {kind.name}")
    sizes = tuple(int(n) for n in shape)
    if any(n < 1 for n in sizes):
        raise InputError(f"shape {sizes} has an empty axis")
    if not row.conditions:
        return np.zeros(sizes, kind)
    f = activation_of(activation) if activation is not None and row.needs_activation else None
    deviation = standard_deviation(row, *fans(sizes), f)
    return _SAMPLERS[row.distribution](rng, sizes, deviation, kind)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float, kind: np.dtype[Any]) -> NDArray[Any]:
    result = rng.standard_normal(shape, dtype=kind)  # type: ignore[call-overload]
    result *= kind.type(deviation)
    return result


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], deviation: float, kind: np.dtype[Any]) -> NDArray[Any]:
    result = rng.random(shape, dtype=kind)  # type: ignore[call-overload]
    result *= 2
    result -= 1
    result *= kind.type(deviation * float(DISTRIBUTIONS["uniform"].solve(1)))
    return result


def _truncated(rng: np.random.Generator, shape: tuple[int, ...], deviation: float, kind: np.dtype[Any]) -> NDArray[Any]:
    result = rng.standard_normal(shape, dtype=kind)  # type: ignore[call-overload]
    flat = result.reshape(-1)
    outside = np.flatnonzero(np.abs(flat) > CUT)
    while outside.size:
        flat[outside] = rng.standard_normal(outside.size, dtype=kind)  # type: ignore[call-overload]
        outside = outside[np.abs(flat[outside]) > CUT]
    result *= kind.type(deviation / float(truncated_normal_std().enclosure.mid()))
    return result


def _orthogonal(
    rng: np.random.Generator, shape: tuple[int, ...], deviation: float, kind: np.dtype[Any]
) -> NDArray[Any]:
    """Haar-distributed: QR of a normal matrix, with the signs of R's diagonal moved into Q."""
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    long, short = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(rng.standard_normal((long, short)))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    # Orthonormal columns have variance 1/long: rescale to what the row asks (taps make max(fans) larger than long).
    q *= deviation * long**0.5
    return np.ascontiguousarray(q if rows == long else q.T).reshape(shape).astype(kind, copy=False)


_SAMPLERS = {"normal": _normal, "uniform": _uniform, "truncated_normal": _truncated, "orthogonal": _orthogonal}
