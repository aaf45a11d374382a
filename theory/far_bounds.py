"""Bounds of a formula on wide intervals, far out: [2ᵉ, 2ᵉ⁺¹] up to the largest float, where balls hold no exp(x).

Plain interval arithmetic with infinite ends. It forgets that two quantities depend on the same x, which does no harm
where everything but one of them has reached its limit: exp(−exp(x)) beyond 8 lies between 0 and 2⁻⁴⁰⁰⁰.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce

import sympy
from flint import arb

from .enclosures import ball_function, derived_from, derives
from .errors import Unsupported
from .symbols import x

#: exp beyond this is bounded by ∞, or by its value here from below.
CLIPPED = 2**20
#: Where the growth of exponents is compared, and the size up to which a formula is rearranged.
FAR_OUT, MOST_OPERATIONS = 40, 300


@dataclass(frozen=True)
class Bounds:
    """``low`` ≤ value ≤ ``high``; either may be infinite."""

    low: arb
    high: arb

    def holds_zero(self) -> bool:
        """Whether 0 may be a value."""
        return not (self.low > 0 or self.high < 0)


_ALL = Bounds(arb.neg_inf(), arb.pos_inf())


def bounds(expression: sympy.Expr, low: arb, high: arb) -> Bounds:
    """The values of ``expression`` for low ≤ x ≤ high, at the present precision.

    Raises :class:`Unsupported` for a function it does not know, or where one leaves its domain.

    >>> found = bounds(x*sympy.exp(-sympy.exp(x)), arb(16), arb(32))
    >>> bool(found.high < arb(2)**-1000), bool(found.low >= 0)
    (True, True)
    """
    found = _ALL
    forms, kept = _forms(expression, 1 if low > 0 else -1)
    known: dict[sympy.Expr, Bounds] = {x: Bounds(low, high)}
    for symbol, meaning in kept.items():
        known[symbol] = _bounds(meaning, known)
    for form in forms:
        found = _meet(found, _bounds(form, known))
    return found


@lru_cache(maxsize=256)
def _forms(expression: sympy.Expr, side: int) -> tuple[tuple[sympy.Expr, ...], dict[sympy.Symbol, sympy.Expr]]:
    """Equal formulas; each bounds other tails well: as it is, multiplied out, and in quantities that decay.

    The last one holds symbols for the denominators that are not to be multiplied out: their meanings come second.
    """
    found, kept = [expression, _joined(expression)], dict[sympy.Symbol, sympy.Expr]()
    if expression.count_ops() < MOST_OPERATIONS:
        found += [_joined(sympy.expand(expression)), _joined(sympy.expand(_decaying(expression, side, kept)))]
    return tuple(dict.fromkeys(found)), kept


def _joined(e: sympy.Expr) -> sympy.Expr:
    return sympy.powsimp(e, combine="exp")


def _decaying(e: sympy.Expr, side: int, kept: dict[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    """tanh u as 1 − 2w, w = e⁻²ᵘ/(1 + e⁻²ᵘ), and sums in denominators and logarithms by their largest exponential."""
    if not e.has(x) or not e.args:
        return e
    e = e.func(*(_decaying(part, side, kept) for part in e.args))
    if isinstance(e, sympy.tanh):
        u = e.args[0]
        sign = 1 if _far_value(u, side, kept) > 0 else -1
        decay = sympy.exp(-2 * sign * u)
        return sign * (1 - 2 * decay * _kept(1 / (1 + decay), kept))
    if isinstance(e, sympy.Pow) and isinstance(e.base, sympy.Add) and e.exp.is_Integer and e.exp < 0:
        exponent = _largest_exponent(e.base, side, kept)
        if exponent is None:
            return _kept(1 / e.base, kept) ** -e.exp
        return sympy.exp(e.exp * exponent) * _kept(1 / _without(e.base, exponent), kept) ** -e.exp
    if isinstance(e, sympy.log) and isinstance(e.args[0], sympy.Add):
        exponent = _largest_exponent(e.args[0], side, kept)
        return exponent + sympy.log(_without(e.args[0], exponent)) if exponent else e
    return e


def rearranged(expression: sympy.Expr, side: int) -> sympy.Expr:
    """An equal formula for x far on one side, in quantities that decay: a ball of eˣ may hold 0, one of e⁻ˣ is small.

    Known as a derivative if the given one was.

    >>> rearranged(sympy.log(1 + sympy.exp(x)), 1)
    x + log(1 + exp(-x))
    """
    function, n = derived_from(expression)
    if function.count_ops() >= MOST_OPERATIONS:
        return expression
    kept: dict[sympy.Symbol, sympy.Expr] = {}
    form = _decaying(function, side, kept)
    while not form.free_symbols <= {x}:
        form = form.subs(kept)
    if form == function:
        return expression
    result = sympy.diff(form, x, n) if n else form
    derives(result, form, n)
    return result


def _kept(meaning: sympy.Expr, kept: dict[sympy.Symbol, sympy.Expr]) -> sympy.Symbol:
    for symbol, known in kept.items():
        if known == meaning:
            return symbol
    symbol = sympy.Dummy(real=True)
    kept[symbol] = meaning
    return symbol


def _far_value(e: sympy.Expr, side: int, kept: dict[sympy.Symbol, sympy.Expr]) -> arb:
    """Only a guide to which form may help."""
    while not e.free_symbols <= {x}:
        e = e.subs(kept)
    return ball_function(e)(arb(side * FAR_OUT))


def _largest_exponent(total: sympy.Add, side: int, kept: dict[sympy.Symbol, sympy.Expr]) -> sympy.Expr | None:
    """u of the largest eᵘ among the terms, if it grows."""
    found = [f.args[0] for term in total.args for f in sympy.Mul.make_args(term) if isinstance(f, sympy.exp)]
    values = [(_far_value(u, side, kept), u) for u in found if u.free_symbols]
    growing = [(value, u) for value, u in values if value > 1]
    return reduce(lambda p, q: p if p[0] > q[0] else q, growing)[1] if growing else None


def _without(total: sympy.Add, exponent: sympy.Expr) -> sympy.Expr:
    return sympy.Add(*(_joined(sympy.expand(term * sympy.exp(-exponent))) for term in total.args))


def hull(p: Bounds, q: Bounds) -> Bounds:
    """What holds the values of both."""
    return Bounds(p.low if p.low < q.low else q.low, p.high if p.high > q.high else q.high)


def _meet(p: Bounds, q: Bounds) -> Bounds:
    return Bounds(p.low if p.low > q.low else q.low, p.high if p.high < q.high else q.high)


def _bounds(e: sympy.Expr, known: dict[sympy.Expr, Bounds]) -> Bounds:
    if e not in known:
        known[e] = _of(e, known)
    return known[e]


def _of(e: sympy.Expr, known: dict[sympy.Expr, Bounds]) -> Bounds:
    if not e.free_symbols:
        return _ends(ball_function(e, ())())
    parts = [_bounds(part, known) for part in e.args]
    if isinstance(e, sympy.Add):
        return reduce(_sum, parts)
    if isinstance(e, sympy.Mul):
        return reduce(_product, parts)
    if isinstance(e, sympy.Pow):
        return _power(parts[0], e.exp)
    rule = _RULES.get(type(e))
    if rule is None:
        raise Unsupported(f"no bounds far out for {e.func.__name__}")
    return rule(parts[0])


def _ends(ball: arb) -> Bounds:
    if ball.is_nan():
        raise Unsupported("a value that is not known")
    return Bounds(ball.lower(), ball.upper())


def _sum(p: Bounds, q: Bounds) -> Bounds:
    low, high = (p.low + q.low), (p.high + q.high)
    return Bounds(arb.neg_inf() if low.is_nan() else low.lower(), arb.pos_inf() if high.is_nan() else high.upper())


def _product(p: Bounds, q: Bounds) -> Bounds:
    ends = [_times(s, t) for s in (p.low, p.high) for t in (q.low, q.high)]
    return Bounds(reduce(_least, (v.lower() for v in ends)), reduce(_largest, (v.upper() for v in ends)))


def _times(s: arb, t: arb) -> arb:
    """0·∞ is 0: an end that is reached is finite, one that is not is approached from the finite side."""
    return arb(0) if s == 0 or t == 0 else s * t


def _least(s: arb, t: arb) -> arb:
    return s if s < t else t


def _largest(s: arb, t: arb) -> arb:
    return s if s > t else t


def _power(base: Bounds, exponent: sympy.Expr) -> Bounds:
    if not exponent.is_Rational:
        raise Unsupported("a power with a variable exponent")
    if exponent < 0:
        if base.holds_zero():
            raise Unsupported("a denominator that may vanish")
        inverse = Bounds((1 / base.high).lower(), (1 / base.low).upper())
        return _power(inverse, -exponent)
    p, q = int(exponent.p), int(exponent.q)
    if q > 1:
        if not base.low >= 0:
            raise Unsupported("a root of what may be negative")
        base = Bounds(_root(base.low, q).lower(), _root(base.high, q).upper())
    if p % 2 == 0 and base.holds_zero():
        return Bounds(arb(0), _largest(abs(base.low), abs(base.high)) ** p)
    ends = (base.low**p, base.high**p)
    if p % 2 == 0 and base.high < 0:
        ends = (ends[1], ends[0])
    return Bounds(ends[0].lower(), ends[1].upper())


def _root(value: arb, q: int) -> arb:
    return value if value == 0 or not value.is_finite() else value.root(q)


def _rising(function: Callable[[arb], arb], at_minus: arb, at_plus: arb) -> Callable[[Bounds], Bounds]:
    """A rising function with its limits."""

    def end(value: arb) -> arb:
        return function(value) if value.is_finite() else at_plus if value > 0 else at_minus

    def rule(u: Bounds) -> Bounds:
        low, high = end(u.low), end(u.high)
        if low.is_nan() or high.is_nan():
            raise Unsupported("a value that is not known")
        return Bounds(low.lower(), high.upper())

    return rule


def _exp(u: Bounds) -> Bounds:
    high = arb.pos_inf() if u.high > CLIPPED else _exp_at(u.high)
    low = arb(CLIPPED).exp() if u.low > CLIPPED else arb(0) if u.low < -CLIPPED else u.low.exp()
    return Bounds(low.lower(), high.upper())


def _exp_at(value: arb) -> arb:
    return arb(-CLIPPED).exp() if value < -CLIPPED else value.exp()


def _log(u: Bounds) -> Bounds:
    if not u.low >= 0:
        raise Unsupported("a logarithm of what may be negative")
    low = arb.neg_inf() if u.low == 0 else u.low.log() if u.low.is_finite() else arb.pos_inf()
    return Bounds(low.lower(), (u.high.log() if u.high.is_finite() else arb.pos_inf()).upper())


def _hyperbolic(sign: int) -> Callable[[Bounds], Bounds]:
    """(eᵘ ± e⁻ᵘ)/2."""

    def rule(u: Bounds) -> Bounds:
        falling = _exp(Bounds(-u.high, -u.low))
        other = falling if sign > 0 else Bounds(-falling.high, -falling.low)
        return _product(_sum(_exp(u), other), Bounds(arb(0.5), arb(0.5)))

    return rule


def _wave(name: str) -> Callable[[Bounds], Bounds]:
    def rule(u: Bounds) -> Bounds:
        if not (u.low.is_finite() and u.high.is_finite()) or u.high - u.low > 1:
            return Bounds(arb(-1), arb(1))
        return _ends(getattr(u.low.union(u.high), name)())

    return rule


_HALF_TURN = _rising(lambda v: v.atan(), -arb.pi() / 2, arb.pi() / 2)
_RULES: dict[type, Callable[[Bounds], Bounds]] = {
    sympy.exp: _exp,
    sympy.log: _log,
    sympy.tanh: _rising(lambda v: v.tanh(), arb(-1), arb(1)),
    sympy.erf: _rising(lambda v: v.erf(), arb(-1), arb(1)),
    sympy.erfc: lambda u: _sum(Bounds(arb(1), arb(1)), _negated(_RULES[sympy.erf](u))),
    sympy.atan: _HALF_TURN,
    sympy.sinh: _hyperbolic(-1),
    sympy.cosh: _hyperbolic(1),
    sympy.sin: _wave("sin"),
    sympy.cos: _wave("cos"),
}


def _negated(u: Bounds) -> Bounds:
    return Bounds(-u.high, -u.low)
