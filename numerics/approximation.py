"""Run a constructed network in floats and sample its error: measured, and kept apart from what is proven.

The bound of :mod:`backproof.theory.approximation` is a theorem about real arithmetic. Here the weights are rounded to a
float format, the activation is the generated kernel, and the error is the largest of finitely many samples: a grid
maximum is not a supremum, so it is always called *sampled*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from numpy.typing import NDArray

from ..theory.activations import Activation
from ..theory.approximation import Approximation
from ..theory.enclosures import ball_function
from ..theory.errors import InputError
from ..theory.shallow import Network
from ..theory.supremum import PRECISION
from ..theory.target import Target
from .kernels import kernel

Array = NDArray[Any]

#: Work per block of points × units: 1 MB of pre-activations in float64, which stays in a core's cache (a third of the
#: time of blocks of 8 MB).
_BLOCK = 1 << 17
#: Samples are thinned so that a network of any size is run in seconds.
_MOST_WORK = 100_000_000
_MOST_POINTS = 8_001
_FEWEST_POINTS = 501


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """The network with its numbers rounded to ``dtype``: what really runs.

    Call it with an array of points of any shape; NaN gives NaN.
    """

    activation: Activation
    dtype: str
    offset: Any
    knots: Array
    weights: Array
    outer: Array
    shift: Any

    @classmethod
    def of(cls, network: Network, dtype: str = "float64") -> FloatNetwork:
        """Round every number of ``network`` to the nearest float; raises InputError where one does not fit."""
        kind = np.dtype(kernel(network.activation, dtype).dtype).type

        def rounded(values: tuple[Fraction, ...], what: str) -> Array:
            try:
                with np.errstate(over="ignore"):
                    array = np.array([float(v) for v in values], dtype=np.float64).astype(kind)
            except OverflowError:
                array = np.array([np.inf])
            if not np.all(np.isfinite(array)):
                raise InputError(f"the network's {what} do not fit in {dtype}")
            return array

        knots, weights = rounded(network.knots, "knots"), rounded(network.weights, "weights")
        outer = rounded(network.outer, "outer weights")
        (offset, shift) = rounded((network.offset, network.shift), "offset and shift")
        return cls(network.activation, dtype, offset, knots, weights, outer, shift)

    @property
    def units(self) -> int:
        """The number of hidden units."""
        return int(self.knots.size)

    def __call__(self, points: Any) -> Array:
        """F at ``points``, computed in ``dtype`` throughout."""
        place = np.asarray(points, dtype=self.dtype)
        flat = place.reshape(-1)
        result = np.full(flat.shape, self.offset, dtype=self.dtype)
        result[np.isnan(flat)] = np.nan
        rows = max(1, _BLOCK // max(1, self.units))
        for start in range(0, flat.size if self.units else 0, rows):
            part = slice(start, start + rows)
            with np.errstate(all="ignore"):  # an overflow shows as inf or NaN in the result, and is reported there
                result[part] += self.hidden(flat[part]) @ self.outer
        return result.reshape(place.shape)

    def hidden(self, points: Array) -> Array:
        """σ(weight_k (x − knot_k) + shift), points × units."""
        z = points[:, None] - self.knots
        z *= self.weights
        z += self.shift
        activated: Array = kernel(self.activation, self.dtype)(z, out=z)
        return activated

    def exact(self) -> Network:
        """The floats as the rationals they are: the network whose real error a certificate bounds."""

        def numbers(array: Array) -> tuple[Fraction, ...]:
            return tuple(Fraction(float(v)) for v in array)

        offset, shift = Fraction(float(self.offset)), Fraction(float(self.shift))
        return Network(self.activation, offset, numbers(self.knots), numbers(self.weights), numbers(self.outer), shift)


@dataclass(frozen=True, eq=False)
class Sampled:
    """The error at finitely many points: evidence, not proof."""

    dtype: str
    points: Array
    values: Array
    truth: Array

    @property
    def errors(self) -> Array:
        """F − f at the points, in float64."""
        difference: Array = self.values.astype(np.float64) - self.truth
        return difference

    @property
    def largest(self) -> float:
        """The largest sampled |F − f|; NaN if any sample is NaN."""
        return float(np.max(np.abs(self.errors)))

    @property
    def where(self) -> float:
        """The point of the largest sample."""
        return float(self.points[int(np.argmax(np.abs(self.errors)))])


def sample(
    approximation: Approximation,
    dtype: str = "float64",
    *,
    count: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Sampled:
    """Run the network in ``dtype`` on a dense grid with its knots and the middles between them.

    ``advance`` is called with the number of points done (for a progress bar). f is evaluated in balls at the very
    floats that the network sees, so the input's rounding is not counted as an error.
    """
    network = FloatNetwork.of(approximation.network, dtype)
    points = sample_points(approximation, dtype, count)
    values = np.empty_like(points)
    rows = max(64, _BLOCK // max(1, network.units))
    for start in range(0, points.size, rows):
        part = slice(start, start + rows)
        values[part] = network(points[part])
        if advance is not None:
            advance(points[part].size)
    return Sampled(dtype, points, values, true_values(approximation.target, points))


def sample_points(approximation: Approximation, dtype: str = "float64", count: int | None = None) -> Array:
    """Distinct floats inside the interval: an even grid, and the knots and middles where the error tends to peak."""
    f, units = approximation.target, max(1, approximation.network.units)
    if count is not None and not 2 <= count <= 10_000_000:
        raise InputError(f"samples must be between 2 and 10000000, not {count}")
    wanted = count or max(_FEWEST_POINTS, min(_MOST_POINTS, _MOST_WORK // units))
    grid = np.linspace(float(f.a), float(f.b), wanted)
    knots = np.sort(np.array([float(k) for k in approximation.network.knots if f.a <= k <= f.b]))
    extra = np.concatenate([knots, (knots[1:] + knots[:-1]) / 2])
    if extra.size > wanted:
        extra = extra[:: -(-extra.size // wanted)]
    points = np.unique(np.concatenate([grid, extra]).astype(dtype))
    inside: Array = points[[f.a <= Fraction(float(p)) <= f.b for p in points]]
    if inside.size == 0:
        raise InputError(f"the interval holds no {dtype} number")
    return inside


def true_values(f: Target, points: Array) -> Array:
    """f at the points, each the float64 nearest to the middle of a ball of about 90 bits."""
    value = ball_function(f.expr)
    with flint.ctx.workprec(PRECISION):
        return np.array([float(value(flint.arb(float(p))).mid()) for p in points])
