"""Taylor coefficients at a removable singularity: sin(x)/x at 0, where neither floats nor balls divide 0 by 0.

Near 0 every part of a formula is z^v·h(z) with h analytic, and h is known in two ways: its Taylor series at 0, and
enclosures of all Taylor coefficients at every point of a ball around 0. Where h(0) is exactly 0, one power of z is
split off: with N(z) = z^m·n(z),

    n⁽ᵏ⁾(z)/k! = ∫₀¹ (1 − s)^(m−1)/(m − 1)! · sᵏ · N⁽ᵐ⁺ᵏ⁾(sz)/k! ds   lies in   { N⁽ᵐ⁺ᵏ⁾/(m + k)! over the ball },

because the weight integrates to k!/(m + k)!. The coefficients of n over a ball are therefore those of N, m places on,
and quotients of what vanishes at 0 are enclosed like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce

import flint
import sympy
from flint import arb, arb_series

from .constants import is_zero
from .enclosures import (
    _OPERATIONS,
    _series_length,
    ball_function,
    derived_from,
    derives,
    enclose,
    root_of_series,
)
from .errors import Unsupported
from .symbols import x

#: Powers of x that may cancel before a formula is taken to vanish altogether.
MOST_LOST = 12


@dataclass(frozen=True)
class Local:
    """z^``power``·h(z) near 0: the series of h ``at`` 0 and ``over`` a ball around it, equally long."""

    power: int
    at: arb_series
    over: arb_series
    #: the ball that ``over`` is about
    ball: arb

    @property
    def length(self) -> int:
        """Terms of both series."""
        return int(self.at.prec)

    def whole(self) -> Local:
        """The same with power 0; raises :class:`Unsupported` at a pole."""
        if self.power < 0:
            raise Unsupported("a pole")
        return self.lowered(0)

    def lowered(self, power: int) -> Local:
        """The same with a smaller power split off."""
        steps = self.power - power
        if not steps:
            return self
        z_at, z_over = (arb_series([c, 1], self.length) ** steps for c in (arb(0), self.ball))
        return Local(power, z_at * self.at, z_over * self.over, self.ball)


class _Evaluation:
    """One formula near 0."""

    def __init__(self, ball: arb, length: int) -> None:
        self.ball, self.length = ball, length
        self.done: dict[sympy.Expr, Local] = {}

    def local(self, power: int, at: arb_series, over: arb_series) -> Local:
        return Local(power, at, over, self.ball)

    def of(self, e: sympy.Expr) -> Local:
        if e not in self.done:
            self.done[e] = self._reduced(self._of(e))
        return self.done[e]

    def _reduced(self, value: Local) -> Local:
        """Powers of z split off as long as the value at 0 is exactly 0."""
        at, over, power = value.at, value.over, value.power
        lost = 0
        while at.prec > 1 and at[0] == 0 and lost < MOST_LOST:
            at = arb_series([at[k] for k in range(1, at.prec)], at.prec - 1)
            over = arb_series([over[k] for k in range(1, over.prec)], over.prec - 1)
            power, lost = power + 1, lost + 1
        return value if not lost or at[0] == 0 else self.local(power, at, over)

    def _of(self, e: sympy.Expr) -> Local:
        if e == x:
            one = arb_series([1], self.length)
            return self.local(1, one, one)
        if not e.has(x):
            constant = arb_series([ball_function(e, ())()], self.length)
            return self.local(0, constant, constant)
        if isinstance(e, sympy.Add):
            return self._sum([self.of(part) for part in e.args])
        if isinstance(e, sympy.Mul):
            return reduce(self._product, [self.of(part) for part in e.args])
        if isinstance(e, sympy.Pow) and e.exp.is_Rational:
            return self._power(self.of(e.base), e.exp)
        operation = next((known for head, known in _OPERATIONS.items() if isinstance(e, head)), None)
        if operation is not None and len(e.args) == 1:
            inner = self.of(e.args[0]).whole()
            return self.local(0, operation(inner.at), operation(inner.over))
        raise Unsupported(f"{str(e)[:60]} has no expansion at 0")

    def _sum(self, parts: list[Local]) -> Local:
        power = min(p.power for p in parts)
        length = min(p.length for p in parts)
        lowered = [p.lowered(power) for p in parts]
        at, over = (sum((getattr(p, n) for p in lowered[1:]), getattr(lowered[0], n)) for n in ("at", "over"))
        return self.local(power, _cut(at, length), _cut(over, length))

    def _product(self, p: Local, q: Local) -> Local:
        length = min(p.length, q.length)
        return self.local(p.power + q.power, _cut(p.at * q.at, length), _cut(p.over * q.over, length))

    def _power(self, base: Local, exponent: sympy.Rational) -> Local:
        power = base.power * exponent
        if not power.is_Integer or base.at[0] == 0:
            raise Unsupported("not analytic at 0")
        if exponent < 0 and (base.over[0].contains(0) or base.at[0].contains(0)):
            raise Unsupported("a denominator that may vanish")
        at, over = (root_of_series(s, int(exponent.p), int(exponent.q)) for s in (base.at, base.over))
        return self.local(int(power), at, over)


def _cut(series: arb_series, length: int) -> arb_series:
    return arb_series([series[k] for k in range(length)], length)


def expand_at_zero(expression: sympy.Expr, ball: arb, order: int) -> tuple[int, list[arb], list[arb]] | None:
    """(m, coefficients at 0, coefficients over the ball) of h in ``expression`` = xᵐ·h(x), up to ``order``.

    ``ball`` holds 0; every coefficient over it holds that of h at each of its points. None where the expression has a
    pole or no expansion there, or where a value that may be 0 is not proven to be.

    >>> m, at, over = expand_at_zero((1 - sympy.cos(x))/x**2, arb(0, 0.01), 2)
    >>> m, at[0].str(5), at[2].str(5)
    (0, '0.50000', '[-0.041667 +/- 3.34e-7]')
    """
    length = order + 1 + MOST_LOST
    function, n = derived_from(expression)
    with _series_length(length + n):
        try:
            found = _Evaluation(ball, length + n).of(function)
            for _ in range(n):
                found = _Evaluation(ball, found.length)._reduced(_differentiated(found))
            found = _Evaluation(ball, found.length)._reduced(_with_proven_zeros(found, expression))
        except (Unsupported, ArithmeticError, ValueError):
            return None
    if found.power < 0 or found.length <= order or found.at[0].contains(0):
        return None
    at, over = ([s[k] for k in range(order + 1)] for s in (found.at, found.over))
    return None if any(not c.is_finite() for c in (*at, *over)) else (found.power, at, over)


def _differentiated(value: Local) -> Local:
    whole = value.whole()
    at, over = (arb_series([s[k] * k for k in range(1, s.prec)], s.prec - 1) for s in (whole.at, whole.over))
    return Local(0, at, over, whole.ball)


def _with_proven_zeros(value: Local, expression: sympy.Expr) -> Local:
    """The series at 0 with what is proven to vanish set to 0: by parity, or the first terms by exact algebra."""
    if value.power < 0:
        return value
    whole = value.whole()
    coefficients = [whole.at[k] for k in range(whole.length)]
    parity = _parity(expression)
    if parity is not None:
        coefficients[1 - parity :: 2] = [arb(0)] * len(coefficients[1 - parity :: 2])
    for k, coefficient in enumerate(coefficients[:MOST_LOST]):
        if coefficient == 0:
            continue
        if not coefficient.contains(0) or not _vanishes(expression, k):
            break
        coefficients[k] = arb(0)
    return Local(0, arb_series(coefficients, whole.length), whole.over, whole.ball)


def _parity(expression: sympy.Expr) -> int | None:
    """0 for an even function, 1 for an odd one, by the formula alone; None where it does not show."""
    mirrored = expression.subs(x, -x)
    return 0 if mirrored == expression else 1 if mirrored == -expression else None


@lru_cache(maxsize=256)
def _vanishes(expression: sympy.Expr, order: int) -> bool:
    """Whether a derivative at 0 is proven to be exactly 0."""
    value = sympy.diff(expression, x, order).subs(x, 0) if order else expression.subs(x, 0)
    return not value.has(sympy.nan, sympy.zoo, sympy.oo) and is_zero(value)


@lru_cache(maxsize=1024)
def limit_at(expression: sympy.Expr, point: sympy.Rational, precision: int) -> arb | None:
    """The limit at an exact point where the formula divides 0 by 0, at a precision; None where none is proven.

    >>> limit_at(sympy.log(x)/(x - 1), sympy.Integer(1), 64).str(5)
    '1.0000'
    """
    if not _divides_by_zero(expression, point):
        return None
    with flint.ctx.workprec(precision):
        found = expand_at_zero(moved_to_zero(expression, point), arb(0), 1)
    if found is None:
        return None
    return found[1][0] if found[0] == 0 else arb(0)


@lru_cache(maxsize=1024)
def _divides_by_zero(expression: sympy.Expr, point: sympy.Expr) -> bool:
    """False where no denominator and no logarithm's argument can be 0 at the point: nothing there to be removed."""
    exact = enclose(point, {})
    powers = [p.base for p in expression.atoms(sympy.Pow) if p.exp.is_negative is not False]
    suspects = {*powers, *(e.args[0] for e in expression.atoms(sympy.log))}
    return any(ball_function(s)(exact).contains(0) for s in suspects)


def moved_to_zero(expression: sympy.Expr, point: sympy.Expr) -> sympy.Expr:
    """The formula in x − point, known as a derivative if it was one."""
    if point == 0:
        return expression
    function, n = derived_from(expression)
    moved = function.subs(x, x + point)
    result = sympy.diff(moved, x, n) if n else moved
    derives(result, moved, n)
    return result
