"""What an activation can be used as in a constructive proof: a step (sigmoidal) or a hinge (ReLU-like).

* :class:`Step`: a bounded monotone activation is, up to an affine map, the distribution function of a random variable
  Z. A steep unit σ(w(x − t)) is then a step at t smeared by Z/w, and E|Z| is all that the error bound needs.
* :class:`Hinge`: an activation with two straight arms of different slope is relu up to affine maps: exactly around a
  kink (ReLU, leaky ReLU, hard tanh), or up to ``gap`` far out (softplus, GELU, SiLU, ELU), which scaling makes small.

Every fact is derived from the activation's formula (limits and monotonicity proven, integrals by SymPy and checked in
balls); an activation that is neither is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import flint
import sympy
from flint import arb

from .activations import Activation, activation
from .enclosures import ball_function, enclose, exact_value
from .errors import Unsupported
from .pieces import Piece, pieces
from .supremum import PRECISION, bottom, magnitude, supremum, top
from .symbols import x
from .tails import Tail, first_decided, tail

_t = sympy.Symbol("t", positive=True)
_T = sympy.Symbol("T", positive=True)
#: Relative width of the cells in the proven quadrature of the tail; its enclosure is about this wide.
_CELL_RATIO = Fraction(1, 64)
#: SymPy's integrals are held against the proven quadrature up to here, and not used where they disagree.
_CHECKED_TO = Fraction(64)


@dataclass(frozen=True)
class Step:
    """S = (σ − low)/(high − low) is the distribution function of Z; ``low``, ``high`` are σ's limits at −∞ and ∞."""

    activation: Activation
    low: sympy.Expr
    high: sympy.Expr

    @cached_property
    def distribution(self) -> sympy.Expr:
        """S as an expression in x.

        >>> step("tanh").distribution
        tanh(x)/2 + 1/2
        """
        return sympy.expand((self.activation.expr - self.low) / (self.high - self.low))

    @cached_property
    def tail(self) -> sympy.Expr:
        """P(|Z| > t) = 1 − S(t) + S(−t), in the positive symbol t."""
        both = 1 - self.distribution.subs(x, _t) + self.distribution.subs(x, -_t)
        if not _easy(self.activation.expr):
            return both  # simplifying tanh(x³) takes minutes
        return sympy.simplify(both.rewrite(sympy.exp) if both.has(sympy.tanh) else both)

    @cached_property
    def mean_distance(self) -> sympy.Expr | None:
        """E|Z| = ∫₀^∞ P(|Z| > t) dt by SymPy; ∞ for heavy tails, None where SymPy is not asked (typed formulas).

        >>> step("sigmoid").mean_distance, step("erf").mean_distance, step("arctan").mean_distance
        (2*log(2), 1/sqrt(pi), oo)
        """
        if not _easy(self.activation.expr):
            return None
        value = sympy.simplify(sympy.integrate(self.tail, (_t, 0, sympy.oo)))
        if value.has(sympy.Integral) or (value.is_finite and not upper(value) >= self.clipped_mean(_CHECKED_TO)[0]):
            return None
        return sympy.expand_log(value, force=True)

    @cached_property
    def _antiderivative(self) -> sympy.Expr | None:
        if not _easy(self.activation.expr) or self.tail.has(sympy.Piecewise):
            return None
        value = sympy.integrate(self.tail, (_t, 0, _T))
        if value.has(sympy.Integral):
            return None
        low, high = self.clipped_mean(_CHECKED_TO)
        return value if low <= upper(value.subs(_T, _rational(_CHECKED_TO))) <= high else None

    def smear(self, steepness: Fraction, reach: Fraction) -> Fraction:
        """A proven upper bound of E min(|Z|/w, reach): how far a unit of steepness w smears a step, on average."""
        distance = self.mean_distance
        if distance is not None and distance.is_finite:
            return upper(distance) / steepness
        limit = steepness * reach
        if self._antiderivative is not None:
            return upper(self._antiderivative.subs(_T, _rational(limit))) / steepness
        return self.clipped_mean(limit)[1] / steepness

    def clipped_mean(self, limit: Fraction) -> tuple[Fraction, Fraction]:
        """Proven lower and upper bound of E min(|Z|, limit) = ∫₀^limit P(|Z| > t) dt, from the tail's monotonicity."""
        falling = ball_function(self.tail, (_t,))
        points = _graded(limit)
        with flint.ctx.workprec(PRECISION):
            ends = [falling(exact_value(p)) for p in points]
            highest = [min(max(top(e), Fraction(0)), Fraction(1)) for e in ends]
            lowest = [min(max(bottom(e), Fraction(0)), Fraction(1)) for e in ends]
        widths = [v - u for u, v in pairwise(points)]
        return (
            sum((w * low for w, low in zip(widths, lowest[1:])), Fraction(0)),
            sum((w * high for w, high in zip(widths, highest)), Fraction(0)),
        )


@dataclass(frozen=True)
class Hinge:
    """``|φ(kink + z) − value − (right·z⁺ − left·z⁻)| <= gap`` for ``|z| <= reach`` (None: for every z)."""

    activation: Activation
    kink: Fraction
    value: Fraction
    left: Fraction
    right: Fraction
    reach: Fraction | None = None
    gap: Fraction = Fraction(0)


@lru_cache(maxsize=256)
def step(spec: str | Activation) -> Step:
    """The activation as a step; raises :class:`Unsupported` with the reason where it is none.

    >>> step("tanh").mean_distance
    log(2)
    """
    f = _not_polynomial(activation(spec))
    found = _step(f)
    if found is None:
        raise Unsupported(
            f"activation {f.name!r} is not known to be bounded and monotone, so its steep units are not steps"
        )
    return found


@lru_cache(maxsize=256)
def hinge(spec: str | Activation) -> Hinge:
    """The activation as a hinge; raises :class:`Unsupported` with the reason where it is none.

    >>> hinge("leaky_relu").left
    Fraction(1, 100)
    >>> hinge("x**2")
    Traceback (most recent call last):
    backproof.theory.gates.PolynomialActivation: activation 'x**2' is a polynomial of degree 2: so is every sum of such units
    """  # noqa: E501  (the message is one line)
    f = _not_polynomial(activation(spec))
    found = _exact_hinge(f) or _asymptotic_hinge(f)
    if found is None:
        raise Unsupported(f"activation {f.name!r} is not known to have two straight arms of different rational slope")
    return found


def _not_polynomial(f: Activation) -> Activation:
    """Refuse a polynomial: its sums stay in a space of finite dimension, whatever their number."""
    if f.expr.is_polynomial(x):
        raise PolynomialActivation(f.name, int(sympy.degree(f.expr, x)))
    return f


class PolynomialActivation(Unsupported):
    """Sums of units with a polynomial activation are polynomials of the same degree: they approximate nothing else."""

    def __init__(self, name: str, degree: int) -> None:
        self.degree = degree
        super().__init__(f"activation {name!r} is a polynomial of degree {degree}: so is every sum of such units")


def _step(f: Activation) -> Step | None:
    low, high = (_limit(f.expr, side) for side in (-1, 1))
    if low is None or high is None or not (low.is_finite and high.is_finite) or sympy.simplify(high - low) == 0:
        return None
    direction = 1 if enclose(high - low).lower() > 0 else -1
    return Step(f, low, high) if _monotone(f, direction) else None


def _limit(expr: sympy.Expr, side: int) -> sympy.Expr | None:
    """The proven limit at side·∞ as an exact expression; None where it is not known."""
    outer = pieces(expr)[-1 if side > 0 else 0].expr
    try:
        value = first_decided(outer if side > 0 else outer.subs(x, -x), lambda t: t.limit())[0]
    except Unsupported:
        return None
    return value if isinstance(value, sympy.Expr) else None


def _monotone(f: Activation, direction: int) -> bool:
    """Proven: f rises (direction 1) or falls (−1) on the whole line, jumps included."""
    parts = pieces(f.expr)
    if not all(_never_positive(replace(p, expr=-direction * p.expr.diff(x))) for p in parts):
        return False
    joints = [(p.expr.subs(x, q.left), f.expr.subs(x, q.left), q.expr.subs(x, q.left)) for p, q in pairwise(parts)]
    return all(_not_below(direction * (v - u)) and _not_below(direction * (w - v)) for u, v, w in joints)


def _never_positive(part: Piece) -> bool:
    """Proven: the expression is <= 0 on its piece; far out by its expansion's sign, between by branch and bound."""
    try:
        a, b, signs = _cut(part, lambda t: t.sign())
        return all(s <= 0 for s in signs) and (a >= b or supremum(ball_function(part.expr), a, b).upper <= 0)
    except Unsupported:
        return False


def _cut(part: Piece, question: Callable[[Tail], Any]) -> tuple[Fraction, Fraction, list[Any]]:
    """A finite interval, and the answers to ``question`` on the infinite tails of the piece beyond it."""
    ends, answers = [], []
    for side, end in ((-1, part.left), (1, part.right)):
        if end.is_finite:
            ball = enclose(end)
            ends.append(bottom(ball) if side < 0 else top(ball))
        else:
            answer, start = first_decided(part.expr if side > 0 else part.expr.subs(x, -x), question)
            ends.append(side * start)
            answers.append(answer)
    return ends[0], ends[1], answers


def _not_below(value: sympy.Expr) -> bool:
    return value == 0 or bool(enclose(value).lower() >= 0)


def _exact_hinge(f: Activation) -> Hinge | None:
    """The kink with two straight arms that reaches farthest."""
    parts = pieces(f.expr)
    found = [h for left, right in pairwise(parts) if (h := _hinge_at(f, left, right)) is not None]
    return max(found, key=lambda h: float("inf") if h.reach is None else h.reach, default=None)


def _hinge_at(f: Activation, left: Piece, right: Piece) -> Hinge | None:
    slopes = [p.expr.diff(x) for p in (left, right)]
    kink = right.left
    values = [p.expr.subs(x, kink) for p in (left, right)] + [f.expr.subs(x, kink)]
    if not all(v.is_Rational for v in (*slopes, *values, kink)) or slopes[0] == slopes[1] or len(set(values)) > 1:
        return None
    arms = [kink - left.left, right.right - kink]
    finite = [_fraction(arm) for arm in arms if arm.is_Rational]
    if any(not arm.is_Rational and arm != sympy.oo for arm in arms):
        return None
    place, value, left_slope, right_slope = map(_fraction, (kink, values[0], *slopes))
    return Hinge(f, place, value, left_slope, right_slope, reach=min(finite) if finite else None)


def _asymptotic_hinge(f: Activation) -> Hinge | None:
    """Two asymptotic slopes; the gap is the enclosed range of the difference to the hinge at 0."""
    slopes = [_limit(f.expr.diff(x), side) for side in (-1, 1)]
    if any(s is None or not s.is_Rational for s in slopes) or slopes[0] == slopes[1]:
        return None
    left, right = slopes
    arms = sympy.Piecewise((right * x, x > 0), (left * x, True))
    bound = _largest_magnitude(sympy.piecewise_fold(f.expr - arms))
    return None if bound is None else Hinge(f, Fraction(0), Fraction(0), _fraction(left), _fraction(right), gap=bound)


def _largest_magnitude(difference: sympy.Expr) -> Fraction | None:
    """A proven bound of |difference| on the whole line; None where it is unbounded or not decided."""
    try:
        bounds = []
        for part in pieces(difference):
            a, b, tails = _cut(part, lambda t: t.enclosure())
            bounds += [top(ball.abs_upper()) for ball in tails]
            if a < b:
                bounds.append(supremum(magnitude(ball_function(part.expr)), a, b).upper)
        return max(bounds)
    except Unsupported:
        return None


@dataclass(frozen=True)
class Arm:
    """σ(z) lies in slope·z + ``rest`` for every z beyond the start, on one side."""

    slope: Fraction
    rest: arb


@lru_cache(maxsize=64)
def far_arms(f: Activation, start: Fraction) -> tuple[Arm, Arm] | None:
    """Proven straight arms of σ for z <= −start and z >= start; None where none is known.

    >>> left, right = far_arms(activation("softplus"), Fraction(44))
    >>> left.slope, right.slope, right.rest.abs_upper() < 1e-18
    (Fraction(0, 1), Fraction(1, 1), True)
    """
    try:
        parts = pieces(f.expr)
        slopes = [_limit(f.expr.diff(x), side) for side in (-1, 1)]
        inner = [enclose(p).abs_upper() for p in (parts[0].right, parts[-1].left) if p.is_finite]
        if any(s is None or not s.is_Rational for s in slopes) or any(not e <= exact_value(start) for e in inner):
            return None
        rests = []
        for side, slope, part in zip((-1, 1), slopes, (parts[0], parts[-1]), strict=True):
            rest = part.expr - slope * x  # type: ignore[operator]
            with flint.ctx.workprec(PRECISION):
                rests.append(tail(rest if side > 0 else rest.subs(x, -x), start).enclosure())
        return Arm(_fraction(slopes[0]), rests[0]), Arm(_fraction(slopes[1]), rests[1])
    except Unsupported:
        return None


def _easy(expr: sympy.Expr) -> bool:
    """SymPy integrates it at once: elementary functions of linear arguments, branches with linear borders."""
    heads = expr.atoms(sympy.Function) - expr.atoms(sympy.Piecewise)
    linear = all(h.args[0].is_polynomial(x) and sympy.degree(h.args[0], x) <= 1 for h in heads if h.has(x))
    return linear and expr.count_ops() < 20


def _graded(limit: Fraction) -> list[Fraction]:
    """0 < … < limit: even cells up to 1, then cells that widen in proportion to their distance."""
    points = [Fraction(k) * _CELL_RATIO for k in range(int(1 / _CELL_RATIO) + 1)]
    while points[-1] < limit:
        points.append(points[-1] + _round_up(points[-1] * _CELL_RATIO, 12))
    return [p for p in points if p < limit] + [limit]


def _round_up(value: Fraction, bits: int) -> Fraction:
    """The next multiple of 2^-bits."""
    return Fraction(-((-value * 2**bits) // 1), 2**bits)


def upper(expression: sympy.Expr) -> Fraction:
    """A rational upper bound of a constant, to some 30 digits."""
    ball: arb = enclose(sympy.sympify(expression), digits=30)
    if not ball.is_finite():
        raise Unsupported(f"no finite enclosure of {str(expression)[:60]}")
    return top(ball)


def _fraction(value: sympy.Rational) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _rational(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)
