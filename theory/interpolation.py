"""Hinges joined to a piecewise-linear interpolant: designs, weights, and the bound that no such function can beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from .enclosures import ball_function
from .errors import Unsupported
from .gates import Hinge
from .shallow import Design, Network, Term, dyadic_values
from .staircases import round_up
from .supremum import Ball, Unbounded, magnitude, negative, supremum
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
        return max(q - p for p, q in pairwise(self.points))


def nodes_for(f: Target, cells: int) -> Nodes:
    """At most ``cells`` cells (at least one per smooth piece), shared among the pieces so that errors are even."""
    parts = f.pieces
    counts = _counts(f, parts, max(cells, len(parts)))
    points: list[Fraction] = [f.a]
    for part, count in zip(parts, counts):
        points += [part.left + part.length * Fraction(k, count) for k in range(1, count + 1)]
    bound = max(_error(f, part, count) for part, count in zip(parts, counts))
    straight = all(_curvature(p) is not None for p in parts)
    return Nodes(tuple(points), bound, "h²/8·sup|f″|" if straight else "max(h²/8·sup|f″|, L·h/2)")


def interpolation_barrier(f: Target, cells: int) -> Fraction:
    """Proven: every continuous piecewise-linear function of at most ``cells`` pieces errs by at least this somewhere.

    Where |f″| >= c on an interval of length ℓ, an affine function misses f by at least cℓ²/16; so an error E needs
    ⌈ℓ√(c/16E)⌉ pieces there. Summed over disjoint intervals that is more breakpoints than there are, unless E is as
    large as returned. (The interpolant's error is at most h²/8·sup|f″|: within a factor of about 2.)
    """
    return max((_needed_error(squares, cells) for squares in _curved_squares(f)), default=Fraction(0))


def _curved_squares(f: Target) -> list[list[Fraction]]:
    """ℓ²·inf|f″|/16 over 1, 2, 4, … equal intervals of each smooth piece; 0 where f″ may vanish."""
    seconds = [(p, ball_function(p.expr.diff(x, 2))) for p in f.pieces if p.expr is not None]
    found = []
    for level in range(7):
        squares = []
        for part, second in seconds:
            width = part.length / 2**level
            for k in range(2**level):
                u = part.left + k * width
                least = -_largest(negative(magnitude(second)), u, u + width)
                squares.append(width**2 * max(least, Fraction(0)) / 16)
        found.append(squares)
    return found


def _largest(g: Ball, u: Fraction, v: Fraction) -> Fraction:
    """An upper bound of a function that is never positive; 0 where none is found."""
    try:
        return supremum(g, u, v, tolerance=Fraction(1, 20), budget=60).upper
    except Unbounded:
        return Fraction(0)


def _needed_error(squares: list[Fraction], cells: int) -> Fraction:
    """The largest E, found by bisection, at which the intervals need more inner breakpoints than ``cells`` − 1."""
    low, high = Fraction(0), max(squares, default=Fraction(0))
    for _ in range(24):
        middle = (low + high) / 2
        if middle == 0:
            break
        enough = sum(max(0, _root_above(square / middle) - 1) for square in squares) <= cells - 1
        low, high = (low, middle) if enough else (middle, high)
    return low


def bend(f: Target) -> int:
    """1 where f is proven convex on the interval, −1 concave, 0 where neither is proven."""
    if len(f.pieces) != 1 or f.pieces[0].expr is None:
        return 0
    second = ball_function(f.pieces[0].expr.diff(x, 2))
    for sign in (1, -1):
        try:
            if supremum(negative(second) if sign > 0 else second, f.a, f.b).upper <= 0:
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
    return max(1, min(by_slope, _root_above(part.length**2 * curvature / (8 * error))))


def _root_above(square: Fraction) -> int:
    """⌈√square⌉, exactly."""
    root = math.isqrt(square.numerator // square.denominator)
    return root if root * root >= square else root + 1


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


def interpolation_design(f: Target, part: Hinge, cells: int) -> Design:
    """max over the pieces of h²/8·sup|f″| (L·h/2 where f″ has no bound); a hinge with a gap may add a third of it."""
    nodes = nodes_for(f, cells)
    terms = [Term("interpolation", nodes.formula, nodes.bound)]
    if part.gap:
        terms.append(Term("rounded hinges", "Σ|c|·gap/λ", _gap_budget(f, nodes.bound)))
    return Design(tuple(terms), {"h": nodes.widest}, nodes)


def _gap_budget(f: Target, interpolation: Fraction) -> Fraction:
    """What the hinges' gap may cost: a third of the interpolation error; 2^-10 of f's rise where that is zero."""
    return interpolation / 3 if interpolation else f.lipschitz.upper * f.length / 2**10


def interpolation(f: Target, part: Hinge, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    """The interpolant at the design's nodes; rounding the values moves it by at most their largest rounding error."""
    assert design.nodes is not None
    values, error = dyadic_values(f, list(design.nodes.points), bits)
    network = _hinge_network(part, design.nodes.points, values, design.terms[1].value if part.gap else Fraction(0))
    return network, (Term("rounded weights", "max|y − f|", error),)


def balanced_design(f: Target, part: Hinge, cells: int) -> Design:
    """Convex f lies below its interpolant: lowering it by half the error halves the bound, h²/16·sup f″, and no
    piecewise-linear function with these cells does better on a parabola."""
    if part.gap:
        raise Unsupported(
            f"activation {part.activation.name!r} is a hinge only far out: use construction interpolation"
        )
    nodes = nodes_for(f, cells)
    if bend(f) == 0:
        raise Unsupported(f"target {f.text!r} is not proven convex or concave on the interval: use interpolation")
    return Design((Term("balanced interpolation", "h²/16·sup|f″|", nodes.bound / 2),), {"h": nodes.widest}, nodes)


def balanced(f: Target, part: Hinge, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    """The interpolant of a convex (concave) target, lowered (raised) by half its error."""
    assert design.nodes is not None
    values, error = dyadic_values(f, list(design.nodes.points), bits)
    lowered = [v - bend(f) * design.terms[0].value for v in values]
    return _hinge_network(part, design.nodes.points, lowered, Fraction(0)), (
        Term("rounded weights", "max|y − f|", error),
    )


def _hinge_network(part: Hinge, points: tuple[Fraction, ...], values: list[Fraction], gap_budget: Fraction) -> Network:
    """y₀ + s₀(x − a) + Σ (s_k − s_{k−1}) relu(x − x_k), with relu and x written in the hinge.

    relu(z) = (φ(kink + λz) − value − left·λz)/((right − left)λ); what is left over of x is one more unit at an end.
    """
    slopes = [(v - u) / (q - p) for p, q, u, v in zip(points, points[1:], values, values[1:])]
    turns = [(p, t - s) for p, s, t in zip(points[1:], slopes, slopes[1:]) if t != s]
    jump, a, b = part.right - part.left, points[0], points[-1]
    line = slopes[0] - sum((d for _, d in turns), Fraction(0)) * part.left / jump
    end, arm = (a, part.right) if part.right else (b, part.left)
    outer = [d / jump for _, d in turns]
    knots = [p for p, _ in turns]
    if line:
        knots, outer = [end, *knots], [line / arm, *outer]
    size = sum((abs(c) for c in outer), Fraction(0))
    scale = _hinge_scale(part, b - a, size, gap_budget)
    # The straight line's constant: at a for the left end; at b the line is written line·(x − b) + line·(b − a).
    constant = values[0] + sum((d * part.left / jump * (p - a) for p, d in turns), Fraction(0)) + line * (end - a)
    outer = [c / scale for c in outer]
    constant -= part.value * sum(outer, Fraction(0))
    return Network(part.activation, constant, tuple(knots), (scale,) * len(knots), tuple(outer), part.kink)


def _hinge_scale(part: Hinge, length: Fraction, size: Fraction, gap_budget: Fraction) -> Fraction:
    """λ: small enough that the arms reach over the interval, or so large that the gap costs no more than its budget."""
    if part.gap:
        return max(round_up(size * part.gap / gap_budget), Fraction(1)) if size else Fraction(1)
    return min(Fraction(1), part.reach / length) if part.reach is not None else Fraction(1)
