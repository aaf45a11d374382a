"""Universal approximation made concrete: from a target f and ε to the weights of a network and a proven bound.

Every network here has one hidden layer, F(x) = offset + Σ outer_k σ(weight_k (x − knot_k) + shift), with exact rational
weights. Its bound is the theorem's, over the reals and for every x of the interval: a sum of named terms, each a
rational upper bound. What floats make of it is measured elsewhere (:mod:`backproof.numerics.approximation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import sympy
from flint import arb

from .activations import Activation, activation
from .enclosures import ball_function, enclose, exact_value
from .errors import InputError, Unsupported, lookup
from .gates import Hinge, PolynomialActivation, Step, hinge, step, upper
from .interpolation import Nodes, nodes_for
from .supremum import PRECISION, exact, readable
from .target import Target, rational, target

#: Larger networks are refused: the bound would still hold, but building and running them is no demonstration.
MAX_UNITS = 65_536
#: Steepness and scale are rounded up to this many bits after the point: short weights, slightly better bound.
_WEIGHT_BITS = 12


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


Build = Callable[[Target, Any, Design, int], tuple[Network, tuple[Term, ...]]]


@dataclass(frozen=True)
class Construction:
    """A way to build a network from a target, with its theorem.

    ``prepare`` reads the activation as what the construction needs (raising Unsupported), ``design`` gives the bound for
    a number of cells, ``build`` the network for that design, with values of f to so many bits.
    """

    name: str
    title: str
    theorem: str
    rate: str
    citation: str
    prepare: Callable[[str | Activation], Any]
    design: Callable[[Target, Any, int], Design]
    build: Build
    #: the smallest number of cells that makes sense, and the units that n cells need.
    least: int = 1
    units: Callable[[int], int] = lambda cells: cells


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
    """The construction of that name, or the first of the table that can use the activation, and the prepared activation."""
    rows = [lookup(CONSTRUCTIONS, name, "construction")] if name else list(CONSTRUCTIONS.values())
    reasons = []
    for row in rows:
        try:
            return row, row.prepare(spec)
        except PolynomialActivation as error:
            if goal is None:
                raise
            least = polynomial_barrier(goal, error.degree)
            raise Unsupported(
                f"{error}; on [{readable(goal.a)}, {readable(goal.b)}] no polynomial of degree {error.degree} is within "
                f"{readable(least, 3)} of {goal.text}, proven by de la Vallée Poussin's bound"
                if least > 0
                else f"{error} (this target is one of them, but hardly any is)"
            ) from None
        except Unsupported as error:
            reasons.append(str(error))
    if name:
        raise Unsupported(f"construction {name!r}: {reasons[0]}")
    raise Unsupported("; ".join(dict.fromkeys(reasons)) + ". Steps (sigmoid, tanh) and hinges (relu, softplus) work")


def polynomial_barrier(f: Target, degree: int) -> Fraction:
    """A proven lower bound of sup|p − f| over all polynomials p of that degree (de la Vallée Poussin 1910).

    With d + 2 points and the divided-difference weights λ, which annihilate degree d: |Σ λ_i f(x_i)| / Σ|λ_i|.

    >>> polynomial_barrier(target("x**2"), 2)
    Fraction(0, 1)
    """
    with flint.ctx.workprec(4 * PRECISION):
        nodes = [exact((arb.pi() * k / (degree + 1)).cos().mid()) for k in range(degree + 2)]
        points = [f.a + f.length * (1 + Fraction(round(node * 2**20), 2**20)) / 2 for node in nodes]
        weights = [1 / _product(p - q for q in points if q != p) for p in points]
        value = ball_function(f.expr)
        total = sum((exact_value(w) * value(exact_value(p)) for w, p in zip(weights, points)), arb(0))
        least: Fraction = exact(total.abs_lower()) / sum(abs(w) for w in weights)
    # An exact zero stays a tiny ball: below this it is noise, and the honest lower bound is 0.
    return least


def _product(factors: Any) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= factor
    return result


def _bits(goal: Fraction) -> int:
    """Bits after the point for the target's values: 2^-24 of the error wanted, at least float64's own."""
    return max(64, 24 + (int(1 / goal).bit_length() if goal > 0 else 64))


def _cells_for_units(row: Construction, units: int) -> int:
    cells = row.least
    while row.units(cells + 1) <= units and cells < MAX_UNITS:
        step_size = max(1, (units - row.units(cells)) // max(1, row.units(cells + 1) - row.units(cells)))
        cells += step_size if row.units(cells + step_size) <= units else 1
    if row.units(cells) > units:
        raise InputError(f"construction {row.name!r} needs at least {row.units(cells)} units")
    return cells


def _cells_for(row: Construction, f: Target, part: Any, epsilon: Fraction) -> int:
    """The fewest cells whose proven bound is at most ε, a little below it for the rounding of values."""
    goal = epsilon * (1 - Fraction(1, 2**20))

    def enough(cells: int) -> bool:
        return row.design(f, part, cells).bound <= goal

    high = row.least
    while not enough(high):
        if row.units(high) >= MAX_UNITS:
            reach = readable(row.design(f, part, high).bound, 2)
            raise InputError(
                f"epsilon = {readable(epsilon)} needs more than {MAX_UNITS} units of {row.title}; "
                f"{high} cells reach {reach}: choose a larger epsilon" + (", or relu" if row.prepare is step else "")
            )
        high = min(2 * high, MAX_UNITS)
    low = max(row.least - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# --- Steps: sums of sigmoid bumps -----------------------------------------------------------------------------------


def _up(value: Fraction, bits: int = _WEIGHT_BITS) -> Fraction:
    return Fraction(-((-value * 2**bits) // 1), 2**bits)


def _steepness(part: Step, width: Fraction, reach: Fraction) -> Fraction:
    """The smallest steepness (of a short form) whose smear is at most ``width``; 1 where steps are not smeared."""
    distance = part.mean_distance
    if distance is not None and distance.is_finite:
        return max(_up(upper(distance) / width), Fraction(1, 2**_WEIGHT_BITS)) if distance != 0 else Fraction(1)
    high = 1 / width
    while part.smear(high, reach) > width:
        high *= 2
    low = high / 2
    for _ in range(8):  # within 0.4 %: the smear only falls with w, so the upper end is always safe
        middle = (low + high) / 2
        low, high = (low, middle) if part.smear(middle, reach) <= width else (middle, high)
    return _up(high)


def _staircase_design(f: Target, part: Step, cells: int) -> Design:
    """|F − f| <= L(h/2 + E min(|Z|/w, b−a)); w makes the second term equal to the first."""
    slope, h = f.lipschitz.upper, f.length / cells
    steepness = _steepness(part, h / 2, f.length)
    smear = slope * part.smear(steepness, f.length) if slope else Fraction(0)
    terms = (
        Term("half a cell", "L·h/2", slope * h / 2),
        Term("smeared steps", "L·E min(|Z|/w, b−a)", smear),
    )
    return Design(terms, {"L": slope, "h": h, "w": steepness})


def _staircase(f: Target, part: Step, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    h, w = design.facts["h"], design.facts["w"]
    cells = round(f.length / h)
    values, error = _values(f, [f.a + h * Fraction(2 * j + 1, 2) for j in range(cells)], bits)
    faces = [f.a + h * j for j in range(1, cells)]
    rises = [v - u for u, v in zip(values, values[1:])]
    return _step_network(part, values[0], faces, [w] * len(faces), rises, error, bits)


def _costarelli_design(f: Target, part: Step, cells: int) -> Design:
    """Values at the nodes, w = (N/(b−a))·ln(N−1): |F − f| <= L(h + E|Z|/w) + |f(a)|(1 − S(wh))."""
    slope, h = f.lipschitz.upper, f.length / cells
    steepness = _up(upper(sympy.log(cells - 1)) / h)
    with flint.ctx.workprec(PRECISION):
        missing = exact((1 - ball_function(part.distribution)(exact_value(steepness * h))).upper())
        start = exact(f.ball(f.a).abs_upper())
    terms = (
        Term("one cell", "L·h", slope * h),
        Term("smeared steps", "L·E|Z|/w", slope * part.smear(steepness, f.length) if slope else Fraction(0)),
        Term("first step", "|f(a)|·(1 − S(wh))", start * max(missing, Fraction(0))),
    )
    return Design(terms, {"L": slope, "h": h, "w": steepness})


def _costarelli(f: Target, part: Step, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    h, w = design.facts["h"], design.facts["w"]
    cells = round(f.length / h)
    values, error = _values(f, [f.a + h * k for k in range(cells + 1)], bits)
    knots = [f.a - h, *(f.a + h * k for k in range(1, cells + 1))]
    rises = [values[0], *(v - u for u, v in zip(values, values[1:]))]
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
    middle = exact(ball.mid())
    rounded = Fraction(round(middle * 2**bits), 2**bits)
    return rounded, abs(rounded - middle) + exact(ball.rad())


def _values(f: Target, points: list[Fraction], bits: int) -> tuple[list[Fraction], Fraction]:
    """Dyadic values of f and the largest proven rounding error among them."""
    pairs = [f.dyadic(point, bits) for point in points]
    return [value for value, _ in pairs], max(error for _, error in pairs)


# --- Hinges: piecewise-linear interpolation -------------------------------------------------------------------------


def _interpolation_design(f: Target, part: Hinge, cells: int) -> Design:
    """max over the pieces of h²/8·sup|f″| (L·h/2 where f″ has no bound); a hinge with a gap may add a third of it."""
    nodes = nodes_for(f, cells)
    terms = [Term("interpolation", nodes.formula, nodes.bound)]
    if part.gap:
        terms.append(Term("rounded hinges", "Σ|c|·gap/λ", _gap_budget(f, nodes.bound)))
    return Design(tuple(terms), {"h": nodes.widest}, nodes)


def _gap_budget(f: Target, interpolation: Fraction) -> Fraction:
    """What the hinges' gap may cost: a third of the interpolation error; 2^-10 of f's rise where that is zero."""
    return interpolation / 3 if interpolation else f.lipschitz.upper * f.length / 2**10


def _interpolation(f: Target, part: Hinge, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    assert design.nodes is not None
    values, error = _values(f, list(design.nodes.points), bits)
    network = _hinge_network(part, design.nodes.points, values, design.terms[1].value if part.gap else Fraction(0))
    return network, (Term("rounded weights", "max|y − f|", error),)


def _balanced_design(f: Target, part: Hinge, cells: int) -> Design:
    """Convex f lies below its interpolant: lowering it by half the error halves the bound, h²/16·sup f″, and no
    piecewise-linear function with these cells does better on a parabola."""
    if part.gap:
        raise Unsupported(
            f"activation {part.activation.name!r} is a hinge only far out: use construction interpolation"
        )
    nodes = nodes_for(f, cells)
    if _bend(f) == 0:
        raise Unsupported(f"target {f.text!r} is not proven convex or concave on the interval: use interpolation")
    return Design((Term("balanced interpolation", "h²/16·sup|f″|", nodes.bound / 2),), {"h": nodes.widest}, nodes)


def _balanced(f: Target, part: Hinge, design: Design, bits: int) -> tuple[Network, tuple[Term, ...]]:
    assert design.nodes is not None
    values, error = _values(f, list(design.nodes.points), bits)
    lowered = [v - _bend(f) * design.terms[0].value for v in values]
    return _hinge_network(part, design.nodes.points, lowered, Fraction(0)), (
        Term("rounded weights", "max|y − f|", error),
    )


def _bend(f: Target) -> int:
    """1 where f is proven convex, −1 concave, 0 otherwise: one smooth piece whose f″ keeps its sign."""
    from .interpolation import bend

    return bend(f)


def _hinge_network(part: Hinge, points: tuple[Fraction, ...], values: list[Fraction], gap_budget: Fraction) -> Network:
    """y₀ + s₀(x − a) + Σ (s_k − s_{k−1}) relu(x − x_k), with relu and x written in the hinge.

    relu(z) = (φ(kink + λz) − value − left·λz)/((right − left)λ); what is left over of x is one more unit at an end.
    """
    slopes = [(v - u) / (q - p) for p, q, u, v in zip(points, points[1:], values, values[1:])]
    turns = [(p, t - s) for p, s, t in zip(points[1:], slopes, slopes[1:]) if t != s]
    bend, a, b = part.right - part.left, points[0], points[-1]
    line = slopes[0] - sum((d for _, d in turns), Fraction(0)) * part.left / bend
    end, arm = (a, part.right) if part.right else (b, part.left)
    outer = [d / bend for _, d in turns]
    knots = [p for p, _ in turns]
    if line:
        knots, outer = [end, *knots], [line / arm, *outer]
    size = sum((abs(c) for c in outer), Fraction(0))
    scale = _hinge_scale(part, b - a, size, gap_budget)
    # The straight line's constant: at a for the left end; at b the line is written line·(x − b) + line·(b − a).
    constant = values[0] + sum((d * part.left / bend * (p - a) for p, d in turns), Fraction(0)) + line * (end - a)
    outer = [c / scale for c in outer]
    constant -= part.value * sum(outer, Fraction(0))
    return Network(part.activation, constant, tuple(knots), (scale,) * len(knots), tuple(outer), part.kink)


def _hinge_scale(part: Hinge, length: Fraction, size: Fraction, gap_budget: Fraction) -> Fraction:
    """λ: small enough that the arms reach over the interval, or so large that the gap costs no more than its budget."""
    if part.gap:
        return max(_up(size * part.gap / gap_budget), Fraction(1)) if size else Fraction(1)
    return min(Fraction(1), part.reach / length) if part.reach is not None else Fraction(1)


# --- A single bump, for the picture of the proof --------------------------------------------------------------------


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
            return exact(((1 - distribution(reach)) + distribution(-reach)).upper())


def bump(spec: str | Activation, left: Any, right: Any, steepness: Any) -> Bump:
    """The difference of two steps of that steepness; raises InputError where left >= right or the steepness is not positive.

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


def _cells_minus_one(cells: int) -> int:
    return cells - 1


def _cells_plus_one(cells: int) -> int:
    return cells + 1


_ROWS = (
    Construction(
        name="interpolation",
        title="ReLU interpolation",
        theorem="|F − f| ≤ h²/8·sup|f″| on each smooth piece (L·h/2 where f″ is unbounded)",
        rate="O(1/N²)",
        citation="de Boor 1978, A Practical Guide to Splines, ch. III; DeVore, Hanin & Petrova 2021, arXiv:2012.14501",
        prepare=hinge,
        design=_interpolation_design,
        build=_interpolation,
    ),
    Construction(
        name="staircase",
        title="sigmoid staircase (sum of bumps)",
        theorem="|F − f| ≤ L·(h/2 + E min(|Z|/w, b−a)), Z distributed as the sigmoid",
        rate="O(1/N)",
        citation="Cybenko 1989 (density); the bound: F(x) = E f_step(x − Z/w)",
        prepare=step,
        design=_staircase_design,
        build=_staircase,
        units=_cells_minus_one,
    ),
    Construction(
        name="costarelli_spigler",
        title="Costarelli–Spigler sum",
        theorem="|F − f| ≤ L·(h + E|Z|/w) + |f(a)|·(1 − S(wh)), w = (N/(b−a))·ln(N−1)",
        rate="O(1/N)",
        citation="Costarelli & Spigler 2013, Anal. Theory Appl. 29, 169–190",
        prepare=step,
        design=_costarelli_design,
        build=_costarelli,
        least=3,
        units=_cells_plus_one,
    ),
    Construction(
        name="balanced_interpolation",
        title="balanced ReLU interpolation (convex or concave target)",
        theorem="|F − f| ≤ h²/16·sup|f″|, optimal for a parabola",
        rate="O(1/N²)",
        citation="de Boor 1978, ch. III",
        prepare=hinge,
        design=_balanced_design,
        build=_balanced,
    ),
)

CONSTRUCTIONS: dict[str, Construction] = {row.name: row for row in _ROWS}
"""Construction name -> row, in the order in which they are tried for an activation."""
