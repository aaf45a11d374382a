"""Networks with one hidden layer, their exact weights, and bounds as sums of named terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from flint import arb

from .activations import Activation
from .enclosures import ball_function, exact_value
from .target import Target

if TYPE_CHECKING:
    from .interpolation import Nodes


@dataclass(frozen=True)
class Network:
    """F(x) = offset + Σ outer_k σ(weight_k (x − knot_k) + shift), all numbers exact.

    ``knots``, ``weights`` and ``outer`` have one entry per unit; the bias of unit k is shift − weight_k·knot_k.
    """

    activation: Activation
    offset: Fraction
    knots: tuple[Fraction, ...]
    weights: tuple[Fraction, ...]
    outer: tuple[Fraction, ...]
    shift: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        assert len(self.knots) == len(self.weights) == len(self.outer)

    @property
    def units(self) -> int:
        """The number of hidden units."""
        return len(self.knots)

    def ball(self, point: Fraction | arb) -> arb:
        """F over a point or a ball, in ball arithmetic at the precision in ``flint.ctx``."""
        sigma = ball_function(self.activation.expr)
        place = point if isinstance(point, arb) else exact_value(point)
        total = exact_value(self.offset)
        for knot, weight, outer in zip(self.knots, self.weights, self.outer):
            total += exact_value(outer) * sigma(
                exact_value(weight) * (place - exact_value(knot)) + exact_value(self.shift)
            )
        return total


@dataclass(frozen=True)
class Term:
    """One summand of a bound: what it is, the formula the theorem gives, a rational upper bound of its value."""

    name: str
    formula: str
    value: Fraction


@dataclass(frozen=True)
class Design:
    """A network's size and its bound, before any value of the target was computed."""

    terms: tuple[Term, ...]
    facts: dict[str, Fraction] = field(default_factory=dict)
    nodes: Nodes | None = None

    @property
    def bound(self) -> Fraction:
        """The sum of the terms."""
        return sum((t.value for t in self.terms), Fraction(0))


def dyadic_values(f: Target, points: list[Fraction], bits: int) -> tuple[list[Fraction], Fraction]:
    """Dyadic values of f and the largest proven rounding error among them."""
    pairs = [f.dyadic(point, bits) for point in points]
    return [value for value, _ in pairs], max(error for _, error in pairs)
