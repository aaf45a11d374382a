"""Rational minimax approximations for elementary functions, and the proof of their errors.

Where a function decays like 1/u, or is called with a large range, P/Q needs fewer terms than a polynomial, P and Q are
evaluated beside one another, and all their coefficients here are positive: nothing cancels. As in :mod:`.minimax` the
exchange runs in ball arithmetic far above the 53 bits wanted, and the error of the *rounded* P/Q is bounded by
expansions with enclosed remainders, as |P − f·Q|/|f·Q|, so nothing depends on how the coefficients were found.

Source: E. W. Cheney, Introduction to Approximation Theory, chapter 5 (the exchange for rational functions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import flint
import sympy
from flint import arb, arb_mat, arb_poly, arb_series

from .arithmetic import DOUBLE, SINGLE, Arithmetic
from .enclosures import taylor
from .errors import Unsupported
from .minimax import ERFCX_FAR, ERFCX_TERMS, POINTS_PER_COEFFICIENT, PRECISION, ROUNDS, _ball, _cells, _exchange, _worst
from .symbols import x

#: erf(u) is 1 to 2⁻³⁹ from here on.
ERF_SATURATED = Fraction(5)
#: As good as ∞ to the exchange; the proof reaches ∞.
ERFCX_LAST = Fraction(2**40)
#: exp(−u²) of it is 0 in float32, and a factor of whatever erfcx(u) is for there.
ERFCX_HELD = Fraction(16)

Coefficients = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Rational:
    """P/Q ≈ ``target`` on [``low``, ``high``] with the least relative error, Q(0) = ``scale``.

    Points are spread evenly in (v − ``centre``)/(v + ``centre``).
    """

    name: str
    low: Fraction
    high: Fraction
    degrees: tuple[int, int]
    centre: int
    target: Callable[[arb], arb]
    #: the relative error that is proven, as a power of two
    proven_bits: int
    error: Callable[[Coefficients], arb]
    #: what the coefficients are rounded to
    arithmetic: Arithmetic = DOUBLE
    #: Q(0) as rounded: another one than 1 may be kinder to the other coefficients
    scale: Fraction = Fraction(1)


def rational_coefficients(row: Rational) -> Coefficients:
    """(P, Q), constants first, rounded to the row's floats."""
    above, below = row.degrees
    count = above + below + 2
    with flint.ctx.workprec(PRECISION):
        nodes = _spread(row, count)
        grid = [(point, row.target(point)) for point in _spread(row, POINTS_PER_COEFFICIENT * count + 1)]
        p, q = arb_poly([0]), arb_poly([1])
        for _ in range(ROUNDS):
            p, q, level = _levelled(row, nodes, q)
            errors = [p(point) / (q(point) * value) - 1 for point, value in grid]
            nodes, largest = _exchange([point for point, _ in grid], errors, count)
            if abs(largest) < abs(level) * (1 + arb(2) ** -7):
                break
        return tuple(_rounded(row, p[k]) for k in range(above + 1)), tuple(
            _rounded(row, q[k]) for k in range(below + 1)
        )


def _rounded(row: Rational, coefficient: arb) -> float:
    return float(row.arithmetic.nearest(float((coefficient * _ball(row.scale)).mid())))


def _spread(row: Rational, count: int) -> list[arb]:
    """Extrema of a Chebyshev polynomial in the mapped variable, short of the ends: a target may be a limit there."""
    low, high = ((_ball(v) - row.centre) / (_ball(v) + row.centre) for v in (row.low, row.high))
    middle, half = (low + high) / 2, (high - low) / 2 * (1 - arb(2) ** -16)
    mapped = [middle - half * (arb.pi() * k / (count - 1)).cos() for k in range(count)]
    return [(row.centre * (1 + t) / (1 - t)).mid() for t in mapped]


def _levelled(row: Rational, nodes: list[arb], q: arb_poly) -> tuple[arb_poly, arb_poly, arb]:
    """P and Q whose relative error is ±E at the nodes, and E: linear once Q is known beside E, so again and again."""
    above, below = row.degrees
    size, level = len(nodes), arb(0)
    values = [row.target(node).mid() for node in nodes]
    for _ in range(ROUNDS):
        rows, before = [], level
        for k, (node, value) in enumerate(zip(nodes, values, strict=True)):
            rows += [node**j for j in range(above + 1)]
            rows += [-value * node**j for j in range(1, below + 1)]
            rows.append(-value * q(node).mid() * (-1) ** k)
        found = arb_mat(size, size, rows).solve(arb_mat(size, 1, values))
        solution = [found[k, 0].mid() for k in range(size)]
        p, q, level = arb_poly(solution[: above + 1]), arb_poly([1, *solution[above + 1 : -1]]), solution[-1]
        if abs(level - before) < abs(level) * arb(2) ** -20:
            break
    return p, q, level


# --------------------------------------------------------------------------------------------------------------- proofs

_Pair = tuple[list[arb], list[arb]]


def _expanded(polynomial: arb_poly, point: arb, order: int) -> arb_series:
    flint.ctx.cap = order + 1
    s = arb_series([point, 1], order + 1)
    total = arb_series([0], order + 1)
    for k in range(polynomial.degree(), -1, -1):
        total = total * s + polynomial[k]
    return total


def _pair(p: arb_series, fq: arb_series, order: int) -> _Pair:
    return [p[k] for k in range(order + 1)], [fq[k] for k in range(order + 1)]


def _polynomials(rounded: Coefficients, scale: arb | int = 1) -> tuple[arb_poly, arb_poly]:
    """P and Q as polynomials in v/scale."""
    above, below = (arb_poly([arb(c) * arb(scale) ** k for k, c in enumerate(part)]) for part in rounded)
    return above, below


def _erfcx_error(rounded: Coefficients, scale: arb | int = 1, last: Fraction | None = None) -> arb:
    """|P/Q − erfcx|/erfcx on [0, last], else [0, ∞): in u up to 8, by the asymptotic series in 1/u beyond; P and Q in
    scale·u."""
    with flint.ctx.workprec(PRECISION):
        p, q = _polynomials(rounded, scale)
        turn = Fraction(ERFCX_FAR)
        near = _worst(_cells(Fraction(0), turn, 256), lambda u, n: _near(p, q, u, n))
        end = Fraction(0) if last is None else 1 / last
        return near.max(_worst(_cells(end, 1 / turn, 64), lambda v, n: _far(p, q, v, n), _left_out(q)))


def _near(p: arb_poly, q: arb_poly, u: arb, order: int) -> _Pair:
    exact = taylor(sympy.exp(x**2) * sympy.erfc(x), u, order)
    if exact is None:
        raise Unsupported("erfcx could not be expanded")
    flint.ctx.cap = order + 1
    return _pair(_expanded(p, u, order), arb_series(list(exact), order + 1) * _expanded(q, u, order), order)


def _far(p: arb_poly, q: arb_poly, v: arb, order: int) -> _Pair:
    """vⁿ·P(1/v) and vⁿ·Q(1/v)·erfcx(1/v)/v, n one less than the terms of Q, in v = 1/u."""
    above = arb_poly([p[k] for k in range(p.degree(), -1, -1)])
    below = arb_poly([q[k] for k in range(q.degree(), -1, -1)])
    flint.ctx.cap = order + 1
    s = arb_series([v, 1], order + 1)
    total, power, coefficient = arb_series([0], order + 1), arb_series([1], order + 1), arb(1)
    for k in range(ERFCX_TERMS):
        total = total + power * coefficient
        power = power * s * s
        coefficient = -coefficient * (2 * k + 1) / 2
    return _pair(_expanded(above, v, order), total * _expanded(below, v, order) / arb.pi().sqrt(), order)


def _left_out(q: arb_poly) -> arb:
    """The first term of the asymptotic series that is left out, at u = ERFCX_FAR, times vⁿQ(1/v) there: both grow with
    v where Q's coefficients are positive (Abramowitz & Stegun 7.1.24)."""
    if not all(q[k] > 0 for k in range(q.degree() + 1)):
        return arb.pos_inf()
    term = arb(1)
    for k in range(ERFCX_TERMS):
        term = term * (2 * k + 1) / (2 * ERFCX_FAR**2)
    v = arb(1) / ERFCX_FAR
    return (term * sum((q[q.degree() - k] * v**k for k in range(q.degree() + 1)), arb(0)) / arb.pi().sqrt()).upper()


def _erf_error(rounded: Coefficients) -> arb:
    """|u·P(u²)/Q(u²) − erf(u)|/erf(u) for 0 ≤ u ≤ ERF_SATURATED, by expansions in s = u²."""
    with flint.ctx.workprec(PRECISION):
        p, q = _polynomials(rounded)
        return _worst(_cells(Fraction(0), ERF_SATURATED**2, 512), lambda s, n: _erf_pair(p, q, s, n))


def _erf_pair(p: arb_poly, q: arb_poly, s: arb, order: int) -> _Pair:
    flint.ctx.cap = order + 1
    if s.rad() < arb(2) ** -200:
        root = arb_series([s, 1], order + 1).sqrt()
        exact = root.erf() / root
    else:  # erf(√s)/√s = 2/√π·∫₀¹ exp(−s·t²)dt: its k-th derivative is at most that of s = 0
        bounds = [2 / arb.pi().sqrt() / ((2 * k + 1) * arb(k).fac()) for k in range(order + 1)]
        exact = arb_series([arb(0, bound) for bound in bounds], order + 1)
    return _pair(_expanded(p, s, order), exact * _expanded(q, s, order), order)


def _erf_in_square(s: arb) -> arb:
    root = s.sqrt()
    return root.erf() / root


def _held_erfcx_error(rounded: Coefficients) -> arb:
    """|P/Q − erfcx|/erfcx on [0, ERFCX_HELD]."""
    return _erfcx_error(rounded, last=ERFCX_HELD)


def _root_two_erfcx_error(rounded: Coefficients) -> arb:
    """|P/Q − erfcx(a/√2)|/erfcx(a/√2) for a/√2 in [0, ERFCX_HELD]."""
    with flint.ctx.workprec(PRECISION):
        return _erfcx_error(rounded, arb(2).sqrt(), ERFCX_HELD)


def _root_two_erfcx(a: arb) -> arb:
    return _erfcx(a / arb(2).sqrt())


def _erfcx(u: arb) -> arb:
    """The function; far out, where Arb's product would be 0·∞, its asymptotic series."""
    if u < 40:
        return (u * u).exp() * u.erfc()
    total, term = arb(0), arb(1)
    for k in range(ERFCX_TERMS):
        total += term
        term = -term * (2 * k + 1) / (2 * u * u)
    return total / (u * arb.pi().sqrt())


#: What :mod:`backproof.numerics.elementary` divides, for results of 24 bits; "single" ones in float32.
RATIONALS: dict[str, Rational] = {
    row.name: row
    for row in (
        Rational(
            "erfcx_short", Fraction(0), ERFCX_LAST, (7, 8), 1, _erfcx, 39, _erfcx_error
        ),
        Rational(
            "erfcx_single", Fraction(0), ERFCX_HELD, (4, 5), 1, _erfcx, 25, _held_erfcx_error, SINGLE, Fraction(13, 8)
        ),
        Rational(
            "root_two_erfcx_single", Fraction(0), ERFCX_HELD * Fraction(181, 128), (4, 5), 1, _root_two_erfcx, 25,
            _root_two_erfcx_error, SINGLE, Fraction(181, 128),
        ),
        Rational("erf_short", Fraction(1, 2**30), ERF_SATURATED**2, (8, 8), 4, _erf_in_square, 37, _erf_error),
    )
}  # fmt: skip


#: The one that programs contain as polynomials (:mod:`.erfcx_quotients`), for u up to where exp(−u²) is held.
INLINE_LAST = Fraction(27)
INLINE_ERFCX = Rational(
    "erfcx_inline", Fraction(0), INLINE_LAST, (6, 7), 1, _erfcx, 35, lambda pq: _erfcx_error(pq, last=INLINE_LAST)
)


def inline_erfcx() -> Coefficients:
    """Its coefficients, P(0) just below 1: x·erfc(x) and its kin of a subnormal are to be rounded to the side of 0.

    (There they are half of x, a tie; what decides it is the next term, far below all digits.)
    """
    above, below = rational_coefficients(INLINE_ERFCX)
    return tuple(c * ((1 - 2.0**-44) / above[0]) for c in above), below


def all_positive(rounded: Coefficients) -> bool:
    """Whether no sum of P or Q cancels for positive arguments."""
    return all(c > 0 for part in rounded for c in part)


__all__ = [
    "INLINE_ERFCX", "INLINE_LAST", "RATIONALS", "Coefficients", "Rational", "all_positive", "inline_erfcx",
    "rational_coefficients",
]  # fmt: skip
