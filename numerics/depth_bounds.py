"""Gradients measured through drawn networks, beside the bound that each network's own weight norms give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..theory.activations import Activation, activation
from ..theory.depth_bounds import depth_bound
from ..theory.errors import InputError
from .initialise import draw
from .kernels import kernel

Array = NDArray[Any]
MAX_WIDTH, MAX_NETWORKS, MAX_WORK = 2_048, 1_000, 2 * 10**11
#: Float64 rounding of a norm through a layer of this width is far below this.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Measured:
    """Natural logarithms, one per network: the ratio ‖∂E/∂z⁽¹⁾‖/‖∂E/∂z⁽ᴸ⁾‖, and its bounds from ∏ over the layers."""

    ratio: Array
    upper: Array
    lower: Array
    norms: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether every network stays within its bounds, rounding allowed for."""
        with np.errstate(invalid="ignore"):  # a gradient that is exactly 0 has logarithm −∞ and is within any bound
            above = self.ratio > self.upper + ROUNDING * (1 + np.abs(self.upper))
            below = self.ratio < self.lower - ROUNDING * (1 + np.abs(self.lower))
            lost = np.isneginf(self.ratio) & np.isfinite(self.lower)
        return not bool(np.any(above | below | lost | np.isnan(self.ratio)))


def measure_depth(
    f: Activation | str,
    depth: int,
    *,
    width: int = 64,
    skip: bool = False,
    initialiser: str = "glorot_normal",
    networks: int = 16,
    batch: int = 8,
    seed: int = 0,
) -> Measured:
    """Draw networks, send a normal batch forward and a normal gradient back, and compare with their own bounds."""
    row = activation(f)
    for name, value, most in (("width", width, MAX_WIDTH), ("networks", networks, MAX_NETWORKS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InputError(f"{name} {value}: a whole number from 1 to {most} is needed")
    if depth * networks * width**3 > MAX_WORK:
        raise InputError(f"{networks} networks of depth {depth} and width {width} are too much work: take fewer")
    ball = depth_bound(row, depth, skip=skip).slope.ball
    slope = float(ball.upper()) if ball is not None else 0.0
    found = [_one(row, depth, width, skip, initialiser, batch, slope, (seed, k)) for k in range(networks)]
    ratio, upper, lower, norms = (np.array([r[k] for r in found]) for k in range(4))
    return Measured(ratio, upper, lower, (float(norms.min()), float(norms.max())))


def _one(
    row: Activation, depth: int, width: int, skip: bool, name: str, batch: int, slope: float, key: tuple[int, int]
) -> tuple[float, float, float, float]:
    rng = np.random.default_rng(np.random.SeedSequence(key[0], spawn_key=(key[1],)))
    run = kernel(row, target="numpy")
    z = rng.standard_normal((batch, width))
    weights = [draw(name, (width, width), rng, row) for _ in range(depth - 1)]
    slopes = []
    with np.errstate(all="ignore"):
        for W in weights:
            slopes.append(run.derivative(z))
            z = run(z) @ W + (z if skip else 0)
        delta, log_ratio = rng.standard_normal((batch, width)), 0.0
        for W, df in zip(reversed(weights), reversed(slopes), strict=True):
            before = np.linalg.norm(delta)
            delta = (delta @ W.T) * df + (delta if skip else 0)
            after = np.linalg.norm(delta)
            log_ratio += float(np.log(after / before)) if before > 0 else -np.inf
            delta = delta / after if after > 0 else delta
        norms = np.array([np.linalg.norm(W, 2) for W in weights])
        factors = slope * norms
        upper = float(np.log(factors + (1 if skip else 0)).sum())
        lower = float(np.log(1 - factors).sum()) if skip and np.all(factors < 1) else -np.inf
    return log_ratio, upper, lower, float(norms.max(initial=0.0))
