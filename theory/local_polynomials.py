"""Proven polynomials near a zero: f(x) = (x − c)ᵐ · P on a short interval, |P·(x − c)ᵐ − f| ≤ ε |f| by ball arithmetic.

Near a zero that cancellation produces (x − tanh x at 0, a root of GELU′) no rearrangement of the formula keeps its
digits; the factor (x − c)ᵐ does. P interpolates the quotient at Chebyshev nodes; its bound is a theorem: the interval
is cut into cells, in each of which the difference is a Taylor polynomial with the remainder enclosed over the whole
cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import sympy
from flint import arb, arb_poly, fmpq

from .arithmetic import DOUBLE, Arithmetic
from .enclosures import ball_function, exact_value, taylor
from .errors import Unsupported
from .symbols import x

#: Working precision while fitting and proving: far above the 53 bits wanted.
PRECISION = 320
#: Chebyshev nodes; a function that needs more is not smooth enough on the interval.
NODES = 44
#: Cells of the proof, and the order of the Taylor polynomial in each.
CELLS, ORDER = 64, 24
MAX_DEGREE = 26
#: Coefficients after the constant one that keep twice the digits where the steps carry pairs.
LEADING = 4


@dataclass(frozen=True)
class LocalPolynomial:
    """``f(x) ≈ (x − c)ᵐ P(y)`` for x in [``low``, ``high``], relative error at most ``2**error_bits`` (proven).

    ``y`` is x − c rounded once (``c = high part + low part``), or x² where ``even`` (then c = 0 and f/xᵐ is even). The
    constant coefficient, which carries most of P, is the sum of the first two entries of ``coefficients``.
    """

    centre: Fraction
    centre_rest: Fraction
    multiplicity: int
    low: Fraction
    high: Fraction
    even: bool
    coefficients: tuple[Fraction, ...]
    error_bits: float


def fit(
    expression: sympy.Expr,
    root: arb,
    multiplicity: int,
    low: Fraction,
    high: Fraction,
    *,
    even: bool,
    arithmetic: Arithmetic = DOUBLE,
    bits: int = 53,
    cells: int = CELLS,
) -> LocalPolynomial:
    """Fit and prove; raises :class:`Unsupported` where the degree would exceed :data:`MAX_DEGREE` or the proof fails.

    ``root`` is a ball around the zero c (exact for 0) at high precision, ``multiplicity`` its order; with ``even`` the
    quotient is even about c = 0 and the interval is symmetric.
    """
    with flint.ctx.workprec(PRECISION):
        centre, rest = split_root(root, arithmetic)
        ends = (arb(0), _ball(high) ** 2) if even else (_ball(low - centre), _ball(high - centre))
        samples = _chebyshev_coefficients(expression, root, centre, multiplicity, ends, even)
        degree = _degree(samples, bits + 5)
        first, *others = _monomials(samples[: degree + 1], ends)
        leading = LEADING if arithmetic.paired else 0
        after = [sum(split_root(c, arithmetic), Fraction(0)) for c in others[:leading]]  # as a pair each
        rounded = (*split_root(first, arithmetic), *after, *(_nearest(c, arithmetic) for c in others[leading:]))
        error = _proven_error(expression, root, centre, multiplicity, rounded, low, high, even, cells)
        if not error < arb(2) ** -bits:
            interval = f"[{float(low)}, {float(high)}]"
            raise Unsupported(f"no polynomial of degree {degree} was proven on {interval}: error bound {error.str(3)}")
        return LocalPolynomial(
            centre, rest, multiplicity, low, high, even, rounded, float(error.log().upper() / arb(2).log())
        )


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _nearest(value: arb, arithmetic: Arithmetic) -> Fraction:
    return arithmetic.nearest(float(value.mid()))


def split_root(root: arb, arithmetic: Arithmetic) -> tuple[Fraction, Fraction]:
    """The nearest float to the root, and the float nearest to what remains."""
    centre = _nearest(root, arithmetic)
    return centre, _nearest(root - _ball(centre), arithmetic)


def _chebyshev_coefficients(
    expression: sympy.Expr, root: arb, centre: Fraction, multiplicity: int, ends: tuple[arb, arb], even: bool
) -> list[arb]:
    """Chebyshev coefficients of the quotient on the interval of y."""
    function = ball_function(expression)
    angles = [arb.pi() * (2 * k + 1) / (2 * NODES) for k in range(NODES)]
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    values = []
    for angle in angles:
        y = (middle + half * angle.cos()).mid()
        point = y.sqrt() if even else y + _ball(centre)
        quotient = function(point) / (point - root) ** multiplicity
        if not quotient.is_finite():
            raise Unsupported("the quotient is not finite on the interval")
        values.append(quotient)
    result = []
    for j in range(NODES):
        total = sum((v * (a * j).cos() for v, a in zip(values, angles, strict=True)), arb(0))
        result.append(total * 2 / NODES if j else total / NODES)
    return result


def _degree(coefficients: list[arb], bits: int) -> int:
    """The smallest degree whose neglected coefficients are below 2**−bits of the smallest value they may disturb."""
    scale = abs(coefficients[0].mid()) / 4
    tail = arb(0)
    for j in range(NODES - 1, 0, -1):
        tail = tail + abs(coefficients[j].mid())
        if tail > scale * arb(2) ** -bits:
            if j > MAX_DEGREE:
                raise Unsupported("the function is not smooth enough on the interval")
            return j
    return 1


def _monomials(chebyshev: list[arb], ends: tuple[arb, arb]) -> list[arb]:
    """Coefficients in powers of y of a Chebyshev sum over [ends]."""
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    t = arb_poly([-middle / half, 1 / half])
    before, here = arb_poly([1]), t
    total = arb_poly([chebyshev[0]])
    for coefficient in chebyshev[1:]:
        total = total + here * arb_poly([coefficient])
        before, here = here, 2 * t * here - before
    return [total[k] for k in range(len(chebyshev))]


def _proven_error(
    expression: sympy.Expr,
    root: arb,
    centre: Fraction,
    multiplicity: int,
    coefficients: tuple[Fraction, ...],
    low: Fraction,
    high: Fraction,
    even: bool,
    cells: int,
) -> arb:
    """An upper bound of |P/h − 1| over the interval, h = f/(x − c)ᵐ; ∞ where a cell cannot be enclosed."""
    polynomial = _in_powers_of_x(coefficients, centre, even)
    worst = arb(0)
    width = (high - low) / cells
    start = Fraction(0) if even else low  # both are even: half the interval says it all
    for k in range(cells // 2 if even else cells):
        left, right = start + width * k, start + width * (k + 1)
        bound = _cell_error(expression, root, multiplicity, polynomial, left, right)
        if bound is None:
            return arb.pos_inf()
        worst = worst.max(bound)
    return worst.upper()


def proven_bound(
    expression: sympy.Expr,
    coefficients: Sequence[float | Fraction],
    low: Fraction,
    high: Fraction,
    *,
    multiplicity: int = 0,
    centre: Fraction = Fraction(0),
    root: arb | int = 0,
    cells: int = CELLS,
) -> arb:
    """A proven bound of |(x − root)ᵐ·P(x − centre) − f| / |f| over [low, high]; ∞ where a cell is not enclosed."""
    given = tuple(Fraction(c) for c in coefficients)
    with flint.ctx.workprec(PRECISION):
        return _proven_error(expression, arb(root), centre, multiplicity, given, low, high, False, cells)


def _in_powers_of_x(coefficients: tuple[Fraction, ...], centre: Fraction, even: bool) -> arb_poly:
    y = arb_poly([0, 0, 1]) if even else arb_poly([_ball(-centre), 1])
    total = arb_poly([0])
    for coefficient in reversed(coefficients[1:]):
        total = total * y + arb_poly([_ball(coefficient)])
    return total + arb_poly([_ball(coefficients[0])])


def _cell_error(
    expression: sympy.Expr, root: arb, multiplicity: int, polynomial: arb_poly, left: Fraction, right: Fraction
) -> arb | None:
    """Bound of |(x − c)ᵐ P − f| / |f| over a cell, or None.

    Near the root the cell is widened to hold it and everything is expanded there, where f's first m coefficients are 0;
    elsewhere the difference itself is expanded about the middle of the cell.
    """
    cell = _hull(_ball(left), _ball(right))
    near_root = multiplicity > 0 and (cell - root).abs_lower() < 2 * (_ball(right) - _ball(left))
    middle = root if near_root else _ball((left + right) / 2)
    if near_root:
        cell = _hull(cell.lower().min(root.lower()), cell.upper().max(root.upper()))
    order = ORDER + multiplicity
    at_middle, over_cell = taylor(expression, middle, order), taylor(expression, cell, order)
    if at_middle is None or over_cell is None:
        return None
    moved = multiplicity if near_root else 0
    f, remainder = at_middle[moved:order], over_cell[order]
    p = polynomial(arb_poly([middle, 1])) * (1 if near_root else arb_poly([middle - root, 1]) ** multiplicity)
    reach = (cell - middle).abs_upper()
    rest = remainder.abs_upper() * reach ** len(f)
    difference = sum((abs(v - p[k]).abs_upper() * reach**k for k, v in enumerate(f)), rest)
    difference += sum((p[k].abs_upper() * reach**k for k in range(len(f), p.degree() + 1)), arb(0))
    smallest = f[0].abs_lower() - sum((abs(v).abs_upper() * reach**k for k, v in enumerate(f) if k), rest)
    return (difference / smallest).abs_upper() if smallest > 0 else None


def _hull(low: arb, high: arb) -> arb:
    return low.union(high)


def refine_root(expression: sympy.Expr, low: Fraction, high: Fraction) -> arb:
    """A ball of :data:`PRECISION` bits around the root between two points where the signs differ."""
    function = ball_function(expression)
    with flint.ctx.workprec(2 * PRECISION):
        sign_low = 1 if function(_ball(low)) > 0 else -1
        for _ in range(60):
            middle = (low + high) / 2
            value = function(_ball(middle))
            if (value > 0) == (sign_low > 0):
                low = middle
            else:
                high = middle
        return _newton(function, expression, (low + high) / 2)


def _newton(function: object, expression: sympy.Expr, start: Fraction) -> arb:
    """Interval Newton steps from a 60-bit root: the ball returned is proven to hold exactly one root."""
    slope = ball_function(sympy.diff(expression, x))
    point = exact_value(start)
    for _ in range(5):
        point = (point - function(point) / slope(point)).mid()  # type: ignore[operator]
    around = point + arb(0, 2.0**-300)
    step = point - function(point) / slope(around)  # type: ignore[operator]
    if not around.contains(step):
        raise Unsupported("a root could not be isolated")
    return step
