"""Universal approximation made concrete: from a target f and ε to the weights of a network and a proven bound.

Every network here has one hidden layer, F(x) = offset + Σ outer_k σ(weight_k (x − knot_k) + shift), with exact rational
weights. Its bound is the theorem's, over the reals and for every x of the interval: a sum of named terms, each a
rational upper bound. What floats make of it is measured elsewhere (:mod:`backproof.numerics.approximation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
from flint import arb

from .activations import Activation
from .enclosures import ball_function, exact_value
from .errors import InputError, Unsupported, lookup
from .gates import PolynomialActivation, hinge, step
from .interpolation import balanced, balanced_design, interpolation, interpolation_design
from .shallow import Design, Network, Term
from .staircases import costarelli, costarelli_design, staircase, staircase_design
from .supremum import PRECISION, above, below, bottom, exact, readable
from .target import Target, rational, target

#: Larger networks are refused: the bound would still hold, but building and running them is no demonstration.
MAX_UNITS = 65_536


Build = Callable[[Target, Any, Design, int], tuple[Network, tuple[Term, ...]]]


@dataclass(frozen=True)
class Construction:
    """A way to build a network from a target, with its theorem.

    ``prepare`` reads the activation as what the construction needs (raising Unsupported), ``design`` gives the bound
    for a number of cells, ``build`` the network for that design, with values of f to so many bits.
    """

    name: str
    title: str
    theorem: str
    rate: str
    citation: str
    prepare: Callable[[str | Activation], Any]
    design: Callable[[Target, Any, int], Design]
    build: Build
    #: the smallest number of cells that makes sense, and how many more units than cells are needed.
    least: int = 1
    extra_units: int = 0


@dataclass(frozen=True)
class Approximation:
    """A network with the proof that it is within ``bound`` of the target everywhere on the interval."""

    construction: Construction
    target: Target
    network: Network
    terms: tuple[Term, ...]
    facts: dict[str, Fraction]
    cells: int

    @cached_property
    def bound(self) -> Fraction:
        """Proven: |F(x) − f(x)| <= bound for every real x of the interval."""
        return sum((t.value for t in self.terms), Fraction(0))

    def error_at(self, point: Fraction) -> arb:
        """A ball around F(point) − f(point)."""
        with flint.ctx.workprec(PRECISION):
            return self.network.ball(point) - ball_function(self.target.expr)(exact_value(point))


def approximate(
    f: Target | str,
    spec: str | Activation = "sigmoid",
    *,
    epsilon: Any = None,
    units: int | None = None,
    construction: str | None = None,
    interval: tuple[Any, Any] | str = (0, 1),
) -> Approximation:
    """Build a network of ``spec`` units within ``epsilon`` of ``f``, or the best that ``units`` hidden units allow.

    Raises :class:`InputError` for an ε that is not positive or out of reach, and :class:`Unsupported` for an activation
    that cannot do it, with the reason (a polynomial, with the error that no number of its units gets below).

    >>> a = approximate("sin(2*pi*x)", "relu", epsilon="0.01")
    >>> a.network.units, a.bound <= Fraction(1, 100)
    (23, True)
    """
    goal = f if isinstance(f, Target) else target(f, interval)
    if (epsilon is None) == (units is None):
        raise InputError("say either epsilon (the error wanted) or units (the size of the network), not both")
    if epsilon is not None:
        epsilon = rational(epsilon, "epsilon")
        if epsilon <= 0:
            raise InputError(f"epsilon must be positive, not {readable(epsilon)}")
    if units is not None and not 1 <= units <= MAX_UNITS:
        raise InputError(f"units must be between 1 and {MAX_UNITS}, not {units}")
    goal.require_continuous()
    row, part = choose(spec, construction, goal)
    cells = _cells_for_units(row, units) if units is not None else _cells_for(row, goal, part, epsilon)
    design = row.design(goal, part, cells)
    network, rounding = row.build(goal, part, design, _bits(epsilon or design.bound))
    return Approximation(row, goal, network, design.terms + rounding, design.facts, cells)


def choose(spec: str | Activation, name: str | None, goal: Target | None = None) -> tuple[Construction, Any]:
    """The construction of that name, or the first of the table that can use the activation, and it as step or hinge."""
    rows = [lookup(CONSTRUCTIONS, name, "construction")] if name else list(CONSTRUCTIONS.values())
    reasons = []
    for row in rows:
        try:
            return row, row.prepare(spec)
        except PolynomialActivation as error:
            if goal is None:
                raise
            least = polynomial_barrier(goal, error.degree)
            where = f"[{readable(goal.a)}, {readable(goal.b)}]"
            reason = (
                f"none is within {below(least, 3)} of {goal.text} on {where} (de la Vallée Poussin's bound)"
                if least > 0
                else "this target is one of them, or nearly; hardly any is"
            )
            raise Unsupported(f"{error}; {reason}") from None
        except Unsupported as error:
            reasons.append(str(error))
    if name:
        raise Unsupported(f"construction {name!r}: {reasons[0]}")
    raise Unsupported("; ".join(dict.fromkeys(reasons)) + ". Steps (sigmoid, tanh) and hinges (relu, softplus) work")


def polynomial_barrier(f: Target, degree: int) -> Fraction:
    """A proven lower bound of sup|p − f| over all polynomials p of that degree (de la Vallée Poussin 1910).

    With d + 2 points and the divided-difference weights λ, which annihilate degree d: |Σ λ_i f(x_i)| / Σ|λ_i|. Also
    with d + 3 points, since symmetry may make the first sum vanish.

    >>> polynomial_barrier(target("x**2"), 2) < Fraction(1, 10**20)
    True
    """
    return max(_divided_difference(f, degree + extra) for extra in (2, 3))


def _divided_difference(f: Target, count: int) -> Fraction:
    """|Σ λ_i f(x_i)| / Σ|λ_i| at Chebyshev's extremal points, bounded from below."""
    with flint.ctx.workprec(4 * PRECISION):
        nodes = [exact((arb.pi() * k / (count - 1)).cos().mid()) for k in range(count)]
        points = [f.a + f.length * (1 + Fraction(round(node * 2**20), 2**20)) / 2 for node in nodes]
        weights = [1 / _product(p - q for q in points if q != p) for p in points]
        value = ball_function(f.expr)
        total = sum((exact_value(w) * value(exact_value(p)) for w, p in zip(weights, points)), arb(0))
        return bottom(total.abs_lower()) / sum(abs(w) for w in weights)


def _product(factors: Any) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= factor
    return result


def _bits(goal: Fraction) -> int:
    """Bits after the point for the target's values: 2^-24 of the error wanted, at least float64's own."""
    return max(64, 24 + (int(1 / goal).bit_length() if goal > 0 else 64))


def _cells_for_units(row: Construction, units: int) -> int:
    cells = units - row.extra_units
    if cells < row.least:
        raise InputError(f"construction {row.name!r} needs at least {row.least + row.extra_units} units")
    return cells


def _cells_for(row: Construction, f: Target, part: Any, epsilon: Fraction) -> int:
    """The fewest cells whose proven bound is at most ε, a little below it for the rounding of values."""
    goal = epsilon * (1 - Fraction(1, 2**20))

    def enough(cells: int) -> bool:
        return row.design(f, part, cells).bound <= goal

    most, high = _cells_for_units(row, MAX_UNITS), row.least
    while not enough(high):
        if high == most:
            reach = above(row.design(f, part, high).bound, 2)
            raise InputError(
                f"epsilon = {readable(epsilon)} needs more than {MAX_UNITS} units of {row.title}; "
                f"{high} cells reach {reach}: choose a larger epsilon" + (", or relu" if row.prepare is step else "")
            )
        high = min(2 * high, most)
    low = max(row.least - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


_ROWS = (
    Construction(
        name="interpolation",
        title="interpolation by hinges",
        theorem="|F − f| ≤ h²/8·sup|f″| on each smooth piece (L·h/2 where f″ is unbounded)",
        rate="O(1/N²)",
        citation="de Boor 1978, A Practical Guide to Splines, ch. III; DeVore, Hanin & Petrova 2021, arXiv:2012.14501",
        prepare=hinge,
        design=interpolation_design,
        build=interpolation,
    ),
    Construction(
        name="staircase",
        title="sigmoid staircase (sum of bumps)",
        theorem="|F − f| ≤ L·(h/2 + E min(|Z|/w, b−a)), Z distributed as the sigmoid",
        rate="O(1/N)",
        citation="Cybenko 1989 (density); the bound: F(x) = E f_step(x − Z/w)",
        prepare=step,
        design=staircase_design,
        build=staircase,
        extra_units=-1,
    ),
    Construction(
        name="costarelli_spigler",
        title="Costarelli–Spigler sum",
        theorem="|F − f| ≤ L·(h + E|Z|/w) + |f(a)|·(1 − S(wh)), w = (N/(b−a))·ln(N−1)",
        rate="O(1/N)",
        citation="Costarelli & Spigler 2013, Anal. Theory Appl. 29, 169–190",
        prepare=step,
        design=costarelli_design,
        build=costarelli,
        least=3,
        extra_units=1,
    ),
    Construction(
        name="balanced_interpolation",
        title="balanced interpolation by hinges (convex or concave target)",
        theorem="|F − f| ≤ h²/16·sup|f″|, optimal for a parabola",
        rate="O(1/N²)",
        citation="Chebyshev's equioscillation on each cell: the interpolant lowered by half its error",
        prepare=hinge,
        design=balanced_design,
        build=balanced,
    ),
)

CONSTRUCTIONS: dict[str, Construction] = {row.name: row for row in _ROWS}
"""Construction name -> row, in the order in which they are tried for an activation."""
