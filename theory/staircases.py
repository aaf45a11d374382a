"""Steps summed to a staircase: sigmoid bump sums, their designs, their weights.

F(x) = offset + Σ rise_j S(w(x − x_j)) = E f_step(x − Z/w): a steep sigmoid is a step smeared by Z/w, so the error is at
most half a cell's rise plus L·E|Z|/w.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import flint
import sympy

from .activations import Activation
from .enclosures import ball_function, enclose, exact_value
from .errors import InputError
from .gates import Step, step, upper
from .shallow import Design, Network, Term, dyadic_values
from .supremum import PRECISION, nearest, readable, top
from .target import Target, rational

#: Steepness and scale are rounded up to this many bits after the point: short weights, slightly better bound.
WEIGHT_BITS = 12


def round_up(value: Fraction, bits: int = WEIGHT_BITS) -> Fraction:
    """The next multiple of 2^-bits."""
    return Fraction(-((-value * 2**bits) // 1), 2**bits)


def _steepness(part: Step, width: Fraction, reach: Fraction) -> Fraction:
    """The smallest steepness (of a short form) whose smear is at most ``width``; 1 where steps are not smeared."""
    distance = part.mean_distance
    if distance is not None and distance.is_finite:
        return max(round_up(upper(distance) / width), Fraction(1, 2**WEIGHT_BITS)) if distance != 0 else Fraction(1)
    high = 1 / width
    while part.smear(high, reach) > width:
        high *= 2
    low = high / 2
    for _ in range(8):  # within 0.4 %: the smear only falls with w, so the upper end is always safe
        middle = (low + high) / 2
        low, high = (low, middle) if part.smear(middle, reach) <= width else (middle, high)
    return round_up(high)


def staircase_design(f: Target, part: Step, cells: int) -> Design:
    """|F − f| <= L(h/2 + E min(|Z|/w, b−a)); w makes the second term equal to the first."""
    slope, h = f.lipschitz.upper, f.length / cells
    steepness = _steepness(part, h / 2, f.length)
    smear = slope * part.smear(steepness, f.length) if slope else Fraction(0)
    terms = (
        Term("half a cell", "L·h/2", slope * h / 2),
        Term("smeared steps", "L·E min(|Z|/w, b−a)", smear),
    )
    return Design(terms, {"L": slope, "h": h, "w": steepness})


def staircase(f: Target, part: Step, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    """f(m₀) + Σ (f(m_j) − f(m_{j−1})) S(w(x − x_j)) with the cells' midpoints m_j and inner faces x_j."""
    h, w = design.facts["h"], design.facts["w"]
    cells = round(f.length / h)
    values, error = dyadic_values(f, [f.a + h * Fraction(2 * j + 1, 2) for j in range(cells)], bits)
    faces = [f.a + h * j for j in range(1, cells)]
    rises = [v - u for u, v in pairwise(values)]
    return _step_network(part, values[0], faces, [w] * len(faces), rises, error, bits)


def costarelli_design(f: Target, part: Step, cells: int) -> Design:
    """Values at the nodes, w = (N/(b−a))·ln(N−1): |F − f| <= L(h + E|Z|/w) + |f(a)|(1 − S(wh))."""
    slope, h = f.lipschitz.upper, f.length / cells
    steepness = round_up(upper(sympy.log(cells - 1)) / h)
    with flint.ctx.workprec(PRECISION):
        missing = top(1 - ball_function(part.distribution)(exact_value(steepness * h)))
        start = top(f.ball(f.a).abs_upper())
    terms = (
        Term("one cell", "L·h", slope * h),
        Term("smeared steps", "L·E|Z|/w", slope * part.smear(steepness, f.length) if slope else Fraction(0)),
        Term("first step", "|f(a)|·(1 − S(wh))", start * max(missing, Fraction(0))),
    )
    return Design(terms, {"L": slope, "h": h, "w": steepness})


def costarelli(f: Target, part: Step, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    """f(x₀) S(w(x − x₋₁)) + Σ (f(x_k) − f(x_{k−1})) S(w(x − x_k)) with the nodes x_k = a + kh."""
    h, w = design.facts["h"], design.facts["w"]
    cells = round(f.length / h)
    values, error = dyadic_values(f, [f.a + h * k for k in range(cells + 1)], bits)
    knots = [f.a - h, *(f.a + h * k for k in range(1, cells + 1))]
    rises = [values[0], *(v - u for u, v in pairwise(values))]
    return _step_network(part, Fraction(0), knots, [w] * len(knots), rises, error, bits)


def _step_network(
    part: Step,
    offset: Fraction,
    knots: list[Fraction],
    weights: list[Fraction],
    rises: list[Fraction],
    value_error: Fraction,
    bits: int,
) -> tuple[Network, tuple[Term, ...]]:
    """offset + Σ rise·S(w(x − knot)) with S written in σ; an irrational 1/(high − low) is rounded and paid for."""
    kept = [i for i, rise in enumerate(rises) if rise]
    knots, weights, rises = ([row[i] for i in kept] for row in (knots, weights, rises))
    scale, scale_error = _dyadic(1 / (part.high - part.low), bits)
    lift, lift_error = _dyadic(-part.low / (part.high - part.low), bits)
    size = max(upper(abs(part.low)), upper(abs(part.high)))
    total = sum((abs(r) for r in rises), Fraction(0))
    constant = offset + sum(rises, Fraction(0)) * lift
    network = Network(part.activation, constant, tuple(knots), tuple(weights), tuple(r * scale for r in rises))
    rounding = value_error + total * (scale_error * size + lift_error)
    return network, (Term("rounded weights", "max|y − f| + Σ|c|·δ", rounding),)


def _dyadic(value: sympy.Expr, bits: int) -> tuple[Fraction, Fraction]:
    """An exact rational as it is, otherwise rounded: the value and a bound of its error."""
    if value.is_Rational:
        return Fraction(int(value.p), int(value.q)), Fraction(0)
    ball = enclose(value, digits=bits // 3 + 10)
    middle, radius = nearest(ball)
    rounded = Fraction(round(middle * 2**bits), 2**bits)
    return rounded, abs(rounded - middle) + radius


@dataclass(frozen=True)
class Bump:
    """S(w(x − left)) − S(w(x − right)): nearly 1 between the faces, nearly 0 outside."""

    network: Network
    left: Fraction
    right: Fraction
    steepness: Fraction
    part: Step

    def leak(self, margin: Fraction) -> Fraction:
        """Proven: farther than ``margin`` from both faces the bump is within this of the indicator of its cell."""
        with flint.ctx.workprec(PRECISION):
            distribution = ball_function(self.part.distribution)
            reach = exact_value(self.steepness * margin)
            return top((1 - distribution(reach)) + distribution(-reach))


def bump(spec: str | Activation, left: Any, right: Any, steepness: Any) -> Bump:
    """The difference of two steps of that steepness.

    Raises InputError where left >= right or the steepness is not positive.

    >>> float(bump("sigmoid", "0.4", "0.6", 200).leak(Fraction(1, 20))) < 1e-4
    True
    """
    part, u, v, w = step(spec), rational(left, "left"), rational(right, "right"), rational(steepness, "steepness")
    if not u < v:
        raise InputError(f"a bump needs left < right, not {readable(u)} and {readable(v)}")
    if w <= 0 or w > 10**9:
        raise InputError(f"steepness must be positive and at most 1e9, not {readable(w)}")
    network, _ = _step_network(part, Fraction(0), [u, v], [w, w], [Fraction(1), Fraction(-1)], Fraction(0), 64)
    return Bump(network, u, v, w, part)
