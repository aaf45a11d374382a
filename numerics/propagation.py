r"""Draw real networks, send signals forward and gradients backward, and hold both against the infinite-width theory.

Each of K independent networks gives, per layer, one number for E z², E f(z)² and E δ² (the mean over its batch and its
units). Their logarithms are close to normal over networks: at finite width the variance is a product of nearly
independent factors, one per layer (Hanin & Nica 2018, arXiv:1812.05994). The mean of the log-normal law and its
confidence interval are Cox's (Zhou & Gao 1997): log of the mean = ȳ + s²/2, standard error √(s²/K + s⁴/(2(K−1))).

Memory holds √depth batches and a bounded number of weight matrices: the others are drawn again from their seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

from ..theory.activations import Activation, activation
from ..theory.errors import InputError
from ..theory.gaussian import exact_number
from ..theory.initialisers import Initialiser, initialiser
from ..theory.signal import Prediction, finite_width_ratio, predict, verdict
from .initialise import draw
from .kernels import Kernel, kernel
from .threads import blas_threads

Array = NDArray[Any]

NETWORKS, BATCH = 32, 16
#: Beyond this a normal variable falls once in 16,000 times: over 3 × 50 layers a false alarm in less than 1 %.
CRITICAL = 4.0
#: log of the least probability that a z-score stands for (|z| ≤ 37.2): what is impossible gets this one.
_LEAST_LOG = -700.0
#: Confidence of every interval.
CONFIDENCE = 0.95
#: No weight matrix, and no batch, may take more memory than this.
MAX_BYTES = 2 * 2**30
MAX_DEPTH, MAX_NETWORKS = 10_000, 100_000
#: Weight matrices of one network that are kept between its passes.
_CACHE_BYTES = 128 * 2**20

AGREES, FINITE_WIDTH, DIFFERS = "agrees", "agrees up to finite width", "differs"
UNDECIDED = "not decided"


@dataclass(frozen=True)
class Profile:
    """One quantity through depth: predicted balls, and the natural logarithm of what each network measured.

    A quantity that is exactly 0 has logarithm −∞; one that overflowed float64 has +∞ or NaN.
    """

    what: str
    predicted: tuple[arb, ...]
    logs: Array
    #: How far, in units of the value, a finite width may move the mean: the sum of 1/width over the layers passed.
    finite_width: Array

    @cached_property
    def log_predicted(self) -> Array:
        """log of the prediction per layer (−∞ where it is exactly 0)."""
        with ctx.workprec(64):
            return np.array([float(p.log().mid()) if p > 0 else -np.inf for p in self.predicted])

    @cached_property
    def _fit(self) -> tuple[Array, Array]:
        """(log of the mean, its standard error) per layer; NaN where a network gave 0 or overflowed."""
        count = len(self.logs)
        with np.errstate(invalid="ignore"):
            middle, square = self.logs.mean(axis=0), self.logs.var(axis=0, ddof=1)
            usable = np.isfinite(self.logs).all(axis=0)
        error = np.sqrt(square / count + square**2 / (2 * (count - 1)))
        # Rounding: a quantity fixed by construction has no spread, yet its mean carries some ulp per layer.
        error = np.maximum(error, 1e-14 * np.arange(1, error.size + 1))
        return np.where(usable, middle + square / 2, np.nan), np.where(usable, error, np.nan)

    @cached_property
    def spread(self) -> float:
        """The largest standard deviation of log(value) over the networks, of all layers."""
        usable = np.isfinite(self.logs).all(axis=0)
        return float(self.logs[:, usable].std(axis=0, ddof=1).max()) if usable.any() else 0.0

    @cached_property
    def log_measured(self) -> Array:
        """log of the measured value per layer (−∞ where every network gave exactly 0)."""
        alike = np.isneginf(self.logs).all(axis=0)
        return np.where(alike, -np.inf, self._fit[0])

    @cached_property
    def interval(self) -> tuple[Array, Array]:
        """log of the confidence interval's ends per layer."""
        from scipy.special import stdtrit

        reach = stdtrit(len(self.logs) - 1, (1 + CONFIDENCE) / 2) * self._fit[1]
        return self.log_measured - reach, self.log_measured + reach

    @cached_property
    def z(self) -> Array:
        """z-score per layer: Student's t of log(measured/predicted), as the normal deviate of equal probability.

        NaN where the quantity cannot be judged (overflow, or some networks gave exactly 0).
        """
        from scipy.special import ndtri_exp, stdtr

        with np.errstate(invalid="ignore", divide="ignore"):
            t = (self._fit[0] - self.log_predicted) / self._fit[1]
            tail = np.log(stdtr(len(self.logs) - 1, -np.abs(t)))
            scores = -np.sign(t) * ndtri_exp(np.maximum(tail, _LEAST_LOG))
        measured_zero, predicted_zero = np.isneginf(self.log_measured), np.isneginf(self.log_predicted)
        return np.where(measured_zero, np.where(predicted_zero, 0.0, ndtri_exp(_LEAST_LOG)), scores)

    @cached_property
    def judged(self) -> Array:
        """The layers that have a z-score."""
        return np.isfinite(self.z)

    @property
    def worst(self) -> int | None:
        """The index of the layer with the largest |z|, None where no layer can be judged."""
        return int(np.nanargmax(np.abs(self.z))) if self.judged.any() else None

    @cached_property
    def outcome(self) -> str:
        """ "agrees", "agrees up to finite width", "differs" or "not decided" (a layer that could not be judged).

        One layer that contradicts the theory refutes it; agreement needs every layer.
        """
        beyond = self.judged & (np.abs(self.z) > CRITICAL)
        distance = np.abs(self.log_measured[beyond] - self.log_predicted[beyond])
        if not (distance <= self.finite_width[beyond]).all():
            return DIFFERS
        if not self.judged.all():
            return UNDECIDED
        return FINITE_WIDTH if beyond.any() else AGREES


@dataclass(frozen=True)
class Propagation:
    """What was predicted, what was measured, and whether they agree."""

    prediction: Prediction
    widths: tuple[int, ...]
    bias_variance: str
    input_variance: str
    networks: int
    batch: int
    seed: int
    preactivation: Profile
    activation: Profile
    gradient: Profile
    #: Mean over networks and inputs of (Σ a²)² over the square of the mean of Σ a², at the last layer.
    measured_ratio: float

    @property
    def depth(self) -> int:
        """How many layers."""
        return len(self.widths) - 1

    @property
    def profiles(self) -> tuple[Profile, Profile, Profile]:
        """Pre-activations, activations, gradients."""
        return self.preactivation, self.activation, self.gradient

    @property
    def forward(self) -> str:
        """What the theory says of E z² over the whole depth: vanishing, stable, exploding."""
        return verdict(self.prediction.forward_growth)

    @property
    def backward(self) -> str:
        """What the theory says of E δ² from the last layer to the first: vanishing, stable, exploding."""
        return verdict(self.prediction.backward_growth)

    @property
    def outcome(self) -> str:
        """The worst of the three profiles: "differs", "not decided", "agrees up to finite width", "agrees"."""
        found = {p.outcome for p in self.profiles}
        return next(outcome for outcome in (DIFFERS, UNDECIDED, FINITE_WIDTH, AGREES) if outcome in found)

    @property
    def agrees(self) -> bool:
        """Whether every layer was judged and none contradicts the theory beyond chance and what its width explains."""
        return self.outcome in (AGREES, FINITE_WIDTH)

    @cached_property
    def predicted_ratio(self) -> arb | None:
        """E[(Σ a²)²]/E[Σ a²]² at the last layer at this finite width, where it is known exactly (ReLU: ∏(1 + 5/n))."""
        if exact_number(self.bias_variance) != 0:
            return None
        return finite_width_ratio(self.prediction.activation, self.prediction.initialiser, self.widths)


def measure(
    f: Activation | str,
    row: Initialiser | str,
    widths: Sequence[int],
    *,
    bias_variance: Any = 0,
    input_variance: Any = 1,
    networks: int = NETWORKS,
    batch: int = BATCH,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Propagation:
    """Draw ``networks`` independent networks with these ``widths`` (inputs first) and compare them with the theory.

    Inputs are random directions with mean square ``input_variance``; the gradient at the last pre-activation is normal
    with mean square 1. Equal arguments give equal numbers. ``progress`` is called with the layers done since.
    Raises :class:`InputError` for a wrong argument, :class:`Unsupported` where the theory has no proof.
    """
    f, row = activation(f), initialiser(row)
    sizes = _checked_sizes(widths, networks, batch)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed must be an integer from 0 on, not {seed}")
    prediction = predict(f, row, sizes, bias_variance, input_variance)
    bias, start = (float(_mid(value)) for value in (bias_variance, input_variance))
    run = kernel(f)
    logs = np.empty((3, networks, len(sizes) - 1))
    squares = np.empty((2, networks))
    with np.errstate(all="ignore"), blas_threads(sizes, batch):
        for k in range(networks):
            drawn = _Network(row, f, sizes, bias**0.5, seed, k)
            logs[:, k], squares[:, k] = _propagate(drawn, run, batch, start**0.5, progress or (lambda steps: None))
        ratio = float(squares[0].mean() / squares[1].mean() ** 2)
    inverse = 1 / np.array(sizes[1:])
    rows = prediction.layers
    return Propagation(
        prediction, sizes, str(exact_number(bias_variance)), str(exact_number(input_variance)), networks, batch, seed,
        Profile("E z²", tuple(r.preactivation for r in rows), logs[0], np.cumsum(inverse)),
        Profile("E f(z)²", tuple(r.activation for r in rows), logs[1], np.cumsum(inverse)),
        Profile("E δ²", tuple(r.gradient for r in rows), logs[2], np.cumsum(inverse[::-1])[::-1]),
        ratio,
    )  # fmt: skip


def _mid(value: Any) -> float:
    from ..theory.constants import number

    return float(number(exact_number(value)).mid())


def _checked_sizes(widths: Sequence[int], networks: int, batch: int) -> tuple[int, ...]:
    for name, value, most in (("networks", networks, MAX_NETWORKS), ("batch", batch, MAX_BYTES)):
        low = 2 if name == "networks" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= most:
            raise InputError(f"{name} must be an integer from {low} to {most}, not {value}")
    if not 2 <= len(widths) <= MAX_DEPTH + 1:
        raise InputError(f"depth must be from 1 to {MAX_DEPTH} layers, not {len(widths) - 1}")
    for n in widths:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise InputError(f"a width must be a positive integer, not {n}")
    largest = max(max(m, batch) * n for m, n in pairwise(widths))
    if 8 * largest > MAX_BYTES:
        limit = math.isqrt(MAX_BYTES // 8)
        raise InputError(
            f"width {max(widths)} with batch {batch} needs an array of {8 * largest / 2**30:.3g} GiB: "
            f"at most {MAX_BYTES >> 30} GiB, a width of {limit}"
        )
    return tuple(int(n) for n in widths)


class _Network:
    """Weights and biases by layer, drawn from (seed, network, layer), so that any layer can be drawn again."""

    def __init__(
        self, row: Initialiser, f: Activation, sizes: tuple[int, ...], bias: float, seed: int, index: int
    ) -> None:
        self.row, self.f, self.sizes, self.bias, self.seed, self.index = row, f, sizes, bias, seed, index
        self._kept: dict[int, tuple[Array, Array | None]] = {}
        self._room = _CACHE_BYTES

    @property
    def depth(self) -> int:
        return len(self.sizes) - 1

    def generator(self, layer: int) -> np.random.Generator:
        """The generator of one layer; layer 0 is that of the inputs, −1 that of the last gradient."""
        key = (self.index, layer + 1)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def layer(self, layer: int) -> tuple[Array, Array | None]:
        """Weights (fan_in, fan_out) and biases of layers 1 … depth."""
        if layer not in self._kept:
            rng = self.generator(layer)
            weights = draw(self.row, self.sizes[layer - 1 : layer + 1], rng, self.f)
            biases = rng.standard_normal(self.sizes[layer]) * self.bias if self.bias else None
            if weights.nbytes > self._room:
                return weights, biases
            self._room -= weights.nbytes
            self._kept[layer] = weights, biases
        return self._kept[layer]

    def preactivation(self, layer: int, a: Array) -> Array:
        """z = aW + b."""
        weights, biases = self.layer(layer)
        z = a @ weights
        return z if biases is None else np.add(z, biases, out=z)


def _propagate(
    net: _Network, run: Kernel, batch: int, scale: float, progress: Callable[[int], None]
) -> tuple[Array, Array]:
    """Logs of E z², E f(z)², E δ² by layer, and (E (Σ a²)², E Σ a²) over the batch at the last layer."""
    a = _directions(net.generator(0), (batch, net.sizes[0])) * scale
    logs = np.empty((3, net.depth))
    step = math.isqrt(net.depth - 1) + 1
    starts = []
    for layer in range(1, net.depth + 1):
        if (layer - 1) % step == 0:
            starts.append(a)
        z = net.preactivation(layer, a)
        a = run(z)
        logs[0, layer - 1], logs[1, layer - 1] = _log_mean_square(z), _log_mean_square(a)
        progress(1)
    last = np.square(a).sum(axis=1)
    for layer, value in _backward(net, run, starts, step, batch):
        logs[2, layer - 1] = value
        progress(1)
    return logs, np.array([np.square(last).mean(), last.mean()])


def _backward(net: _Network, run: Kernel, starts: list[Array], step: int, batch: int) -> Iterator[tuple[int, float]]:
    """(layer, log E δ²) from the last layer to the first; δ is rescaled on the way, so that it never underflows."""
    delta, log_scale = _directions(net.generator(-1), (batch, net.sizes[-1])), 0.0
    delta /= np.sqrt(np.mean(np.square(delta)))
    for segment in range(len(starts) - 1, -1, -1):
        layers = range(segment * step + 1, min((segment + 1) * step, net.depth) + 1)
        for layer, slope in zip(reversed(layers), reversed(_slopes(net, run, starts[segment], layers)), strict=True):
            if layer < net.depth:
                delta = (delta @ net.layer(layer + 1)[0].T) * slope
                size = float(np.mean(np.square(delta)))
                log_scale += math.log(size) if size > 0 else -math.inf if size == 0 else size
                if size > 0 and math.isfinite(size):
                    delta /= math.sqrt(size)
            yield layer, log_scale


def _slopes(net: _Network, run: Kernel, a: Array, layers: range) -> list[Array]:
    """f′(z) of a few layers, computed again from the activations before them."""
    found = []
    for layer in layers:
        a, slope = run.value_and_derivative(net.preactivation(layer, a))
        found.append(slope)
    return found


def _directions(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Random vectors, one per row, of mean square exactly 1."""
    rows = rng.standard_normal(shape)
    rows /= np.sqrt(np.mean(np.square(rows), axis=1, keepdims=True))
    return rows


def _log_mean_square(values: Array) -> float:
    """log of the mean square; scaled first, so that squares neither overflow nor underflow."""
    largest = float(np.max(np.abs(values)))
    if largest == 0:
        return -math.inf
    if not math.isfinite(largest):
        return largest
    return 2 * math.log(largest) + math.log(float(np.mean(np.square(values / largest))))
