"""Minimax polynomials (Remez) for the elementary functions of the kernels, and the proof of their errors.

A row of :data:`POLYNOMIALS` says which function is approximated, where, in which form and to what degree. The exchange
algorithm runs in ball arithmetic far above the 53 bits wanted; the coefficients are then rounded to float64, or to
float32 where the steps are. :func:`proven_error` bounds the relative error of the *rounded* polynomial over the whole
interval by Taylor expansion with enclosed remainders, so nothing depends on how the coefficients were found.

Source: E. Remez (1934); Cheney, Introduction to Approximation Theory, chapter 3; the variable (u − k)/(u + k) for
erfcx: Shepherd & Laframboise, Math. Comp. 36 (1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import flint
import sympy
from flint import arb, arb_mat, arb_poly, arb_series

from .arithmetic import DOUBLE, SINGLE, Arithmetic
from .enclosures import ball_function, enclose, taylor
from .errors import Unsupported
from .local_polynomials import proven_bound
from .symbols import x

#: Working precision of the exchange and of the proofs.
PRECISION = 360
#: Points between which an extremum of the error is sought, per coefficient.
POINTS_PER_COEFFICIENT = 16
ROUNDS = 30
#: erf is odd: erf(u)/u is a polynomial in u² up to here, beyond it is 1 − exp(−u²)·erfcx(u).
ERF_END = Fraction(7, 8)
#: The same for results that are pairs, whose polynomials must be nearly constant.
PAIRED_END = Fraction(1, 2)
#: tan(π/8) and a little: beyond, atan a = π/4 + atan((a − 1)/(a + 1)), and further out π/2 + atan(−1/a).
ATAN_END = Fraction(213, 512)
#: s of log(1 + f) = 2 artanh s, s = f/(2 + f), where 1 + f lies between √½ and √2, and a little.
ARTANH_END = Fraction(177, 1024)
#: π/4 and a little.
QUARTER_TURN = Fraction(403, 512)
#: Where the variable (u − k)/(u + k) of the scaled complementary error function is 0.
ERFCX_CENTRE = 4


@dataclass(frozen=True)
class Minimax:
    """P ≈ ``target`` on [``low``, ``high``], the maximum of |P − target|·``weight`` as small as the degree allows."""

    name: str
    low: Fraction
    high: Fraction
    degree: int
    target: Callable[[arb], arb]
    weight: Callable[[arb], arb]
    #: the relative error of the function computed from P that is proven, as a power of two
    proven_bits: int
    error: Callable[[tuple[float, ...]], arb]
    #: of the coefficients
    arithmetic: Arithmetic = DOUBLE
    #: coefficients before the polynomial's, each as a pair of floats
    leading: tuple[tuple[float, float], ...] = ()


def coefficients(row: Minimax) -> tuple[float, ...]:
    """The coefficients of the minimax polynomial, constant first, rounded to the floats that compute with them."""
    with flint.ctx.workprec(PRECISION):
        nodes = _chebyshev_extrema(row.degree + 2, row.low, row.high)
        grid = _grid(row)
        values = [(point, row.target(point), row.weight(point)) for point in grid]
        polynomial = arb_poly([0])
        for _ in range(ROUNDS):
            polynomial, level = _levelled(row, nodes)
            errors = [(t - polynomial(p)) * w for p, t, w in values]
            nodes, largest = _exchange(grid, errors, row.degree + 2)
            if abs(largest) < abs(level) * (1 + arb(2) ** -7):
                break
        return tuple(float(row.arithmetic.nearest(float(polynomial[k].mid()))) for k in range(row.degree + 1))


def _chebyshev_extrema(count: int, low: Fraction, high: Fraction) -> list[arb]:
    a, b = _ball(low), _ball(high)
    # neither the ends nor the middle itself: a target may be a limit there
    middle, half = (a + b) / 2 + arb(2) ** -40, (b - a) / 2 * (1 - arb(2) ** -12)
    return [(middle - half * (arb.pi() * k / (count - 1)).cos()).mid() for k in range(count)]


def _grid(row: Minimax) -> list[arb]:
    return _chebyshev_extrema(POINTS_PER_COEFFICIENT * (row.degree + 2) + 1, row.low, row.high)


def _levelled(row: Minimax, nodes: list[arb]) -> tuple[arb_poly, arb]:
    """The polynomial whose weighted error is ±E at the nodes, and E."""
    size = len(nodes)
    rows, right = [], []
    for k, node in enumerate(nodes):
        powers = [arb(1)]
        for _ in range(row.degree):
            powers.append(powers[-1] * node)
        rows.append([*powers, (-1) ** k / row.weight(node)])
        right.append([row.target(node)])
    solution = arb_mat(size, size, [v for line in rows for v in line]).solve(
        arb_mat(size, 1, [v for line in right for v in line])
    )
    found = [solution[k, 0].mid() for k in range(size)]
    return arb_poly(found[:-1]), found[-1]


def _exchange(grid: list[arb], errors: list[arb], count: int) -> tuple[list[arb], arb]:
    """Points of alternating sign where the error is largest, ``count`` of them."""
    chosen: list[tuple[arb, arb]] = []
    for point, error in zip(grid, errors, strict=True):
        middle = error.mid()
        if chosen and (chosen[-1][1] > 0) == (middle > 0):
            if abs(middle) > abs(chosen[-1][1]):
                chosen[-1] = (point, middle)
        else:
            chosen.append((point, middle))
    while len(chosen) > count:  # drop the smaller end: the alternation stays
        chosen.pop(0 if abs(chosen[0][1]) < abs(chosen[-1][1]) else -1)
    if len(chosen) < count:
        raise Unsupported(f"the error alternates {len(chosen)} times, {count} wanted: raise the precision")
    return [p for p, _ in chosen], max((abs(e) for _, e in chosen), key=float)


def _ball(value: Fraction) -> arb:
    return arb(value.numerator) / value.denominator


# --------------------------------------------------------------------------------------------------------------- proofs


def _of_exp(rounded: tuple[float, ...]) -> arb:
    """|r + r²·P(r) − (eʳ − 1)| / |eʳ − 1| over the reduced interval (for eʳ itself the error is smaller)."""
    return proven_bound(sympy.exp(x) - 1, (1, 0, *rounded), EXP_LOW, EXP_HIGH, multiplicity=1, cells=64)


def _of_log(rounded: tuple[float, ...]) -> arb:
    """|f + f²·P(f) − log(1 + f)| / |log(1 + f)| over the reduced interval."""
    return proven_bound(sympy.log(1 + x), (1, 0, *rounded), LOG_LOW, LOG_HIGH, multiplicity=1, cells=128)


def _scaled(u: arb, factor: tuple[int, int]) -> arb:
    """(p + q·u)·erfcx(u)."""
    return (factor[0] + factor[1] * u) * (u * u).exp() * u.erfc()


#: From here on the asymptotic series is used in the proof, in 1/u.
ERFCX_FAR = 8
ERFCX_TERMS = 30


def _of_erfcx(rounded: tuple[float, ...], factor: tuple[int, int], start: Fraction | int) -> arb:
    """The relative error over all u ≥ ``start``: Taylor models in u up to 8, in 1/u beyond."""
    with flint.ctx.workprec(PRECISION):
        return _of_erfcx_here(arb_poly([_ball(Fraction(c)) for c in rounded]), factor, start)


def _of_erfcx_here(polynomial: arb_poly, factor: tuple[int, int], start: Fraction | int) -> arb:
    near = _worst(
        _cells(Fraction(start), Fraction(ERFCX_FAR), 256), lambda m, order: _near(polynomial, factor, m, order)
    )
    remainder = _asymptotic_remainder(factor)
    far = _worst(
        _cells(Fraction(0), Fraction(1, ERFCX_FAR), 64), lambda m, order: _far(polynomial, factor, m, order), remainder
    )
    return near.max(far)


def _cells(low: Fraction, high: Fraction, count: int) -> Iterable[tuple[arb, arb]]:
    """(middle, whole cell) as balls."""
    width = (high - low) / count
    for k in range(count):
        left, right = low + k * width, low + (k + 1) * width
        yield _ball((left + right) / 2), _ball(left).union(_ball(right))


_Series = Callable[[arb, int], tuple[list[arb], list[arb]]]


def _worst(cells: Iterable[tuple[arb, arb]], series: _Series, slack: arb | int = 0) -> arb:
    """max |p − f|/|f| (+ ``slack`` absolute), both given by Taylor coefficients at a point and over a whole cell."""
    worst, order = arb(0), 20
    for middle, cell in cells:
        reach = (cell - middle).abs_upper()
        (p, f), (p_rest, f_rest) = series(middle, order), series(cell, order)
        difference = sum((abs(p[k] - f[k]).abs_upper() * reach**k for k in range(order)), arb(slack))
        difference += (abs(p_rest[order]) + abs(f_rest[order])).abs_upper() * reach**order
        smallest = f[0].abs_lower() - sum((f[k].abs_upper() * reach**k for k in range(1, order)), arb(slack))
        smallest -= f_rest[order].abs_upper() * reach**order
        if not smallest > 0:
            return arb.pos_inf()
        worst = worst.max((difference / smallest).abs_upper())
    return worst


def _composed(polynomial: arb_poly, inner: flint.arb_series) -> list[arb]:
    total = flint.arb_series([0], inner.prec)
    for k in range(polynomial.degree(), -1, -1):
        total = total * inner + polynomial[k]
    return [total[k] for k in range(inner.prec)]


def _near(polynomial: arb_poly, factor: tuple[int, int], u: arb, order: int) -> tuple[list[arb], list[arb]]:
    flint.ctx.cap = order + 1
    s = flint.arb_series([u, 1], order + 1)
    t = 1 - 2 * ERFCX_CENTRE / (s + ERFCX_CENTRE)  # u once: a tighter enclosure than the quotient
    target = taylor((factor[0] + factor[1] * x) * sympy.exp(x**2) * sympy.erfc(x), u, order)
    if target is None:
        raise Unsupported("erfcx could not be expanded")
    return _composed(polynomial, t), list(target)


def _far(polynomial: arb_poly, factor: tuple[int, int], v: arb, order: int) -> tuple[list[arb], list[arb]]:
    """Both as series in v = 1/u: (p + q·u)·erfcx(u) = (q + p·v)/√π · Σ (−1)ᵏ(2k − 1)!!/2ᵏ v²ᵏ."""
    flint.ctx.cap = order + 1
    s = flint.arb_series([v, 1], order + 1)
    t = 2 / (1 + ERFCX_CENTRE * s) - 1
    total, coefficient = flint.arb_series([0], order + 1), arb(1)
    power = flint.arb_series([1], order + 1)
    for k in range(ERFCX_TERMS):
        total = total + power * coefficient
        power = power * s * s
        coefficient = -coefficient * (2 * k + 1) / 2
    target = (factor[1] + factor[0] * s) * total / arb.pi().sqrt()
    return _composed(polynomial, t), [target[k] for k in range(order + 1)]


def _asymptotic_remainder(factor: tuple[int, int]) -> arb:
    """The first term left out at u = ERFCX_FAR bounds the error of the series beyond (Abramowitz & Stegun 7.1.24)."""
    term = arb(1)
    for k in range(ERFCX_TERMS):
        term = term * (2 * k + 1) / (2 * ERFCX_FAR**2)
    return (term * (factor[1] + arb(factor[0]) / ERFCX_FAR) / arb.pi().sqrt()).upper()


# ---------------------------------------------------------------------------------------------------------------- table


def _erfcx_at(u: sympy.Expr | int) -> sympy.Expr:
    return sympy.exp(sympy.Integer(1) * u**2) * sympy.erfc(u)


#: r of exp: half of log 2 and a little for the rounding of k.
EXP_LOW, EXP_HIGH = Fraction(-355, 1024), Fraction(355, 1024)
#: f of log(1 + f): √½ − 1 and √2 − 1, and a little.
LOG_LOW, LOG_HIGH = Fraction(-150, 512), Fraction(213, 512)


def _exp_row(name: str, degree: int, bits: int) -> Minimax:
    return Minimax(
        name, EXP_LOW, EXP_HIGH, degree, lambda r: (r.expm1() - r) / (r * r), lambda r: abs(r * r / r.expm1()), bits,
        _of_exp,
    )  # fmt: skip


def _cubic_exp_row(name: str, degree: int, bits: int) -> Minimax:
    """(eʳ − 1 − r − r²/2)/r³: the terms before it are added without rounding."""

    def error(rounded: tuple[float, ...]) -> arb:
        """|r + r²/2 + r³·P(r) − (eʳ − 1)| / |eʳ − 1|."""
        return proven_bound(sympy.exp(x) - 1, (1, 0, 0.5, *rounded), EXP_LOW, EXP_HIGH, multiplicity=1, cells=64)

    def target(r: arb) -> arb:
        return (r.expm1() - r - r * r / 2) / r**3

    return Minimax(name, EXP_LOW, EXP_HIGH, degree, target, lambda r: abs(r**3 / r.expm1()), bits, error)


def _log_row(name: str, degree: int, bits: int) -> Minimax:
    return Minimax(
        name, LOG_LOW, LOG_HIGH, degree, lambda f: (f.log1p() - f) / (f * f), lambda f: abs(f * f / f.log1p()), bits,
        _of_log,
    )  # fmt: skip


def _erfcx_row(name: str, degree: int, bits: int, factor: tuple[int, int], start: Fraction | int) -> Minimax:
    """``factor`` is (p, q) of (p + q·u)·erfcx(u): nearly constant with (1, 2), one division less with (4, 1)."""

    def target(t: arb) -> arb:
        return _scaled(ERFCX_CENTRE * (1 + t) / (1 - t), factor)

    def error(rounded: tuple[float, ...]) -> arb:
        return _of_erfcx(rounded, factor, start)

    low = Fraction(start - ERFCX_CENTRE) / (start + ERFCX_CENTRE)
    return Minimax(name, low, Fraction(1), degree, target, lambda t: 1 / target(t), bits, error)


def _erfcx_between_row(name: str, degree: int, bits: int) -> Minimax:
    """P of (1 + 2u)·erfcx(u) = 1 + (1 + r)·(b + r·(c + (1 − r)·P(r))), r = (u − 4)/(u + 4): exact at u = 0, 4 and ∞,
    for Horner's rule loses most digits where r = ±1; b is a pair."""
    whole, known = _erfcx_row(name, degree + 3, bits, (1, 2), 0), _split(9 * _erfcx_at(4) - 1)
    b, c = (
        sum(map(Fraction, known), Fraction(0)),
        Fraction(_split(1 / sympy.sqrt(sympy.pi) + sympy.Rational(1, 2) - 9 * _erfcx_at(4))[0]),
    )

    def target(r: arb) -> arb:
        return (((whole.target(r) - 1) / (1 + r) - _ball(b)) / r - _ball(c)) / (1 - r)

    def error(rounded: tuple[float, ...]) -> arb:
        with flint.ctx.workprec(PRECISION):
            inner = _ball(c) + arb_poly([1, -1]) * arb_poly([_ball(Fraction(v)) for v in rounded])
            return _of_erfcx_here(1 + arb_poly([1, 1]) * (_ball(b) + arb_poly([0, 1]) * inner), (1, 2), 0)

    def weight(r: arb) -> arb:
        return abs((1 - r * r) * r * whole.weight(r))

    return replace(whole, degree=degree, target=target, error=error, weight=weight)


def _erfcx_small_row(name: str, degree: int, bits: int, end: Fraction = Fraction(1)) -> Minimax:
    """erfcx(c + y) for 0 ≤ u ≤ ``end`` = 2c, where (u − 4)/(u + 4) near −1 would lose digits."""
    centre = end / 2

    def target(y: arb) -> arb:
        return _scaled(y + _ball(centre), (1, 0))

    def error(coefficients: tuple[float | Fraction, ...]) -> arb:
        given = (coefficients[0], 0, *coefficients[1:])
        function = sympy.exp(x**2) * sympy.erfc(x)
        return proven_bound(function, given, Fraction(0), end, centre=centre, cells=64)

    return Minimax(name, -centre, centre, degree, target, lambda y: 1 / target(y), bits, error)


def _continued(row: Minimax, *leading: sympy.Expr) -> Minimax:
    """What follows the first coefficients, which are exact and kept as pairs: (f − c₀ − …)/yᵐ."""
    split = tuple(_split(c) for c in leading)
    kept = tuple(Fraction(high) + Fraction(low) for high, low in split)
    count = len(leading)

    def target(y: arb) -> arb:
        return (row.target(y) - sum((_ball(c) * y**k for k, c in enumerate(kept)), arb(0))) / y**count

    def error(rounded: tuple[float, ...]) -> arb:
        return row.error((*kept, *rounded))  # type: ignore[arg-type]

    def weight(y: arb) -> arb:
        return abs(row.weight(y) * y**count)

    return replace(row, degree=row.degree - count, target=target, weight=weight, error=error, leading=split)


def _split(value: sympy.Expr) -> tuple[float, float]:
    """The float nearest to an exact constant, and the float nearest to what remains."""
    with flint.ctx.workprec(PRECISION):
        ball = enclose(value, {}, digits=60)
        high = float(DOUBLE.nearest(float(ball.mid())))
        return high, float((ball - arb(high)).mid())


def _square_row(
    name: str, degree: int, bits: int, end: Fraction, function: sympy.Expr, multiplicity: int = 1
) -> Minimax:
    """f(u)/uᵐ as a polynomial in u²: m = 1 for an odd f, 0 for an even one."""
    exact = ball_function(function)

    def target(square: arb) -> arb:
        root = square.sqrt()
        return exact(root) / root**multiplicity

    def error(rounded: tuple[float, ...]) -> arb:
        """|uᵐ·P(u²) − f(u)| / |f(u)| for 0 ≤ u ≤ end."""
        in_u = [c for v in rounded for c in (v, 0.0)]
        return proven_bound(function, (in_u[0], 0, *in_u[1:]), Fraction(0), end, multiplicity=multiplicity, cells=64)

    return Minimax(name, Fraction(0), end**2, degree, target, lambda square: 1 / target(square), bits, error)


def _after_first_row(
    name: str, degree: int, bits: int, end: Fraction, function: sympy.Expr, multiplicity: int = 1, first: int = 1
) -> Minimax:
    """(f(u)/uᵐ − c)/u² as a polynomial in u²: c = ``first`` is added last, so that only its sum rounds visibly."""
    exact = ball_function(function)

    def target(square: arb) -> arb:
        root = square.sqrt()
        return (exact(root) / root**multiplicity - first) / square

    def error(rounded: tuple[float, ...]) -> arb:
        """|uᵐ·(c + u²·P(u²)) − f(u)| / |f(u)| for 0 ≤ u ≤ end."""
        in_u = [c for v in (float(first), *rounded) for c in (v, 0.0)]
        return proven_bound(function, (in_u[0], 0, *in_u[1:]), Fraction(0), end, multiplicity=multiplicity, cells=64)

    def weight(square: arb) -> arb:
        root = square.sqrt()
        return abs(square * root**multiplicity / exact(root))

    return Minimax(name, Fraction(0), end**2, degree, target, weight, bits, error)


def _euler_atan_row(name: str, degree: int, bits: int) -> Minimax:
    """arctan t·(1 + t²)/t as a polynomial in s = t²/(1 + t²) for 0 ≤ t ≤ 1 (Euler): arcsin √s/√(s(1 − s))."""

    def target(s: arb) -> arb:
        return s.sqrt().asin() / (s * (1 - s)).sqrt()

    def error(rounded: tuple[float, ...]) -> arb:
        with flint.ctx.workprec(PRECISION):
            polynomial = arb_poly([arb(c) for c in rounded])
            return _worst(_cells(Fraction(0), Fraction(1, 2), 512), lambda s, order: _euler(polynomial, s, order))

    return Minimax(name, Fraction(0), Fraction(1, 2), degree, target, lambda s: 1 / target(s), bits, error)


def _euler(polynomial: arb_poly, s: arb, order: int) -> tuple[list[arb], list[arb]]:
    """Both as series at s; over a cell the function's coefficients lie between 0 and those at its end, as all of its
    derivatives are positive (it is Σ (2k)!!/(2k + 1)!!·sᵏ)."""
    flint.ctx.cap = order + 1
    wide = bool(s.rad() > arb(2) ** -200)
    at = arb_series([s.upper() if wide else s, 1], order + 1)
    exact = at.sqrt().asin() / (at * (1 - at)).sqrt()
    found = [arb(0).union(exact[k]) if wide else exact[k] for k in range(order + 1)]
    return _composed(polynomial, arb_series([s, 1], order + 1)), found


def _single(row: Minimax) -> Minimax:
    """The same with coefficients of float32."""
    return replace(row, arithmetic=SINGLE)


#: What :mod:`backproof.numerics.elementary` is made of; "short" ones serve results of 24 bits, "single" ones are
#: computed in float32 (:mod:`backproof.numerics.elementary_single`), "paired" ones serve results that are pairs
#: (:mod:`backproof.numerics.elementary_pairs`).
POLYNOMIALS: dict[str, Minimax] = {
    row.name: row
    for row in (
        _exp_row("exp", 10, 59),
        _exp_row("exp_short", 6, 37),
        _log_row("log", 21, 57),
        _log_row("log_short", 12, 37),
        _erfcx_row("erfcx", 22, 54, (1, 2), 1),
        _erfcx_small_row("erfcx_small", 17, 54),
        _square_row("erf", 11, 53, ERF_END, sympy.erf(x)),
        _square_row("atan", 12, 53, ATAN_END, sympy.atan(x)),
        _euler_atan_row("atan_short", 13, 36),
        _after_first_row("sin", 5, 56, QUARTER_TURN, sympy.sin(x)),
        _continued(_square_row("cos", 7, 59, QUARTER_TURN, sympy.cos(x), 0), sympy.Integer(1), -sympy.Rational(1, 2)),
        _square_row("sin_short", 5, 41, QUARTER_TURN, sympy.sin(x)),
        _square_row("cos_short", 6, 41, QUARTER_TURN, sympy.cos(x), 0),
        _square_row("log1p_unit_short", 6, 37, Fraction(1, 3), sympy.log((1 + x) / (1 - x))),
        _cubic_exp_row("exp_paired", 9, 58),
        _after_first_row("log_paired", 7, 61, ARTANH_END, sympy.log((1 + x) / (1 - x)), first=2),
        _erfcx_between_row("erfcx_paired", 22, 56),
        _after_first_row("log1p_unit_paired", 9, 58, Fraction(1, 3), sympy.log((1 + x) / (1 - x)), first=2),
        _continued(_square_row("erf_paired", 9, 57, PAIRED_END, sympy.erf(x)), 2 / sympy.sqrt(sympy.pi)),
        _after_first_row("atan_paired", 11, 58, ATAN_END, sympy.atan(x)),
        _single(_exp_row("exp_single", 4, 25)),
        _single(_log_row("log_single", 8, 27)),
        _single(_square_row("erf_single", 5, 23, ERF_END, sympy.erf(x))),
        _single(_square_row("atan_single", 5, 29, ATAN_END, sympy.atan(x))),
        _single(_after_first_row("log1p_unit_single", 3, 26, Fraction(1, 3), sympy.log((1 + x) / (1 - x)), first=2)),
    )
}
