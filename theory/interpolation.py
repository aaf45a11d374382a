"""Where a piecewise-linear interpolant puts its nodes, its error bound, and the bound no such function can beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .enclosures import ball_function
from .supremum import Unbounded, supremum
from .symbols import x
from .target import SmoothPiece, Target


@dataclass(frozen=True)
class Nodes:
    """Nodes a = x_0 < … < x_n = b that contain every kink, and the proven interpolation error."""

    points: tuple[Fraction, ...]
    bound: Fraction
    formula: str

    @property
    def widest(self) -> Fraction:
        """The widest cell."""
        return max(q - p for p, q in zip(self.points, self.points[1:]))


def nodes_for(f: Target, cells: int) -> Nodes:
    """At most ``cells`` cells (at least one per smooth piece), shared among the pieces so that their errors are even."""
    parts = f.pieces
    counts = _counts(f, parts, max(cells, len(parts)))
    points: list[Fraction] = [f.a]
    for part, count in zip(parts, counts):
        points += [part.left + part.length * Fraction(k, count) for k in range(1, count + 1)]
    bound = max(_error(f, part, count) for part, count in zip(parts, counts))
    straight = all(_curvature(p) is not None for p in parts)
    return Nodes(tuple(points), bound, "h²/8·sup|f″|" if straight else "max(h²/8·sup|f″|, L·h/2)")


def interpolation_barrier(f: Target, cells: int) -> tuple[Fraction, tuple[Fraction, Fraction]]:
    """Proven: every continuous piecewise-linear function of at most ``cells`` pieces errs by at least the first value.

    If |f″| >= c on an interval of length ℓ, one of the pieces covers ℓ/p of it, and an affine function misses f there
    by at least c(ℓ/p)²/16. The interval that gives most among the dyadic ones is returned with it.
    """
    best, where = Fraction(0), (f.a, f.b)
    for part in f.pieces:
        if part.expr is None:
            continue
        second = ball_function(part.expr.diff(x, 2))
        for level in range(5):
            for k in range(2**level):
                u, v = (part.left + part.length * Fraction(k + e, 2**level) for e in (0, 1))
                try:
                    least = -supremum(lambda t: -abs(second(t)), u, v, tolerance=Fraction(1, 20), budget=200).upper
                except Unbounded:
                    continue
                value = least * ((v - u) / cells) ** 2 / 16
                if value > best:
                    best, where = value, (u, v)
    return best, where


def bend(f: Target) -> int:
    """1 where f is proven convex on the interval, −1 concave, 0 where neither is proven."""
    if len(f.pieces) != 1 or f.pieces[0].expr is None:
        return 0
    second = ball_function(f.pieces[0].expr.diff(x, 2))
    for sign in (1, -1):
        try:
            if supremum(lambda t, s=sign: -s * second(t), f.a, f.b).upper <= 0:  # type: ignore[misc]
                return sign
        except Unbounded:
            return 0
    return 0


def _curvature(part: SmoothPiece) -> Fraction | None:
    return part.curvature


def _error(f: Target, part: SmoothPiece, count: int) -> Fraction:
    """h²/8·sup|f″|, or L·h/2 for a Lipschitz function (the interpolant is a convex combination of its ends)."""
    h, curvature = part.length / count, _curvature(part)
    lipschitz = f.lipschitz.upper * h / 2
    return lipschitz if curvature is None else min(lipschitz, curvature * h**2 / 8)


def _count(f: Target, part: SmoothPiece, error: Fraction) -> int:
    """The fewest cells with that error: the square root, rounded up exactly."""
    curvature = _curvature(part)
    by_slope = math.ceil(f.lipschitz.upper * part.length / (2 * error))
    if curvature is None:
        return max(1, by_slope)
    square = part.length**2 * curvature / (8 * error)
    root = math.isqrt(square.numerator // square.denominator)
    by_curvature = root if root * root >= square else root + 1
    return max(1, min(by_slope, by_curvature))


def _counts(f: Target, parts: tuple[SmoothPiece, ...], cells: int) -> list[int]:
    """The most even split of ``cells``: bisect the common error until the counts fit."""
    worst = max(_error(f, part, 1) for part in parts)
    if worst == 0 or len(parts) == 1:
        return [cells if worst else 1] if len(parts) == 1 else [1] * len(parts)
    low, high = worst / (8 * Fraction(cells) ** 2), worst
    for _ in range(30):
        middle = (low + high) / 2
        fits = sum(_count(f, part, middle) for part in parts) <= cells
        low, high = (low, middle) if fits else (middle, high)
    return [_count(f, part, high) for part in parts]
