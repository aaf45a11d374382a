r"""Proven behaviour of an expression on an unbounded tail x ≥ R.

A :class:`Tail` writes f(x), for every x ≥ R, as a finite sum of monomials

    coefficient · x^a · (log x)^l · e^{P(x)},        P a polynomial without constant term,

whose coefficient is either an exact constant or a ball that contains the coefficient for every x ≥ R. Sums, products,
reciprocals, exp, log, powers, tanh, erf, atan … act on such sums (classical enveloping series with a proven
remainder), so limits, asymptotes, signs and decay at infinity are theorems, not samples. What cannot be treated raises
:class:`TailUndecided`, and a larger R or more terms may still succeed. For x → −∞ substitute −x first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key, lru_cache
from math import factorial
from typing import Any, TypeAlias

import sympy
from flint import arb, ctx, fmpq

from .constants import number, sign_of
from .enclosures import ball_function
from .errors import Unsupported
from .symbols import x

PRECISION = 160
#: Where a tail may begin, and how many terms each series keeps: tried in this order.
ATTEMPTS = tuple((Fraction(r), order) for order in (2, 4) for r in (2, 4, 8, 16, 32, 64, 256, 4096))


class TailUndecided(Unsupported):
    """The tail could not be decided with this start R and this many terms."""


@dataclass(frozen=True, eq=True)
class Growth:
    """The monomial x^a · (log x)^l · e^{P(x)}; P as ((power, coefficient), …), highest power first."""

    power: sympy.Rational = sympy.S.Zero
    log: int = 0
    exponent: tuple[tuple[int, sympy.Expr], ...] = ()

    def __mul__(self, other: Growth) -> Growth:
        total = dict(self.exponent)
        for k, c in other.exponent:
            total[k] = total.get(k, sympy.Integer(0)) + c
        kept = tuple((k, c) for k, c in sorted(total.items(), reverse=True) if sign_of(c) != 0)
        return Growth(self.power + other.power, self.log + other.log, kept)

    def to(self, r: sympy.Rational) -> Growth:
        if self.log and not (r.is_Integer):
            raise TailUndecided("a fractional power of a logarithm")
        return Growth(self.power * r, int(self.log * r), tuple((k, sympy.expand(c * r)) for k, c in self.exponent))

    @property
    def direction(self) -> int:
        """1 grows without bound, 0 is constant, −1 decays to 0, as x → ∞."""
        if self.exponent:
            return _known_sign(self.exponent[0][1])
        return _known_sign(self.power) or (self.log > 0) - (self.log < 0)

    def __str__(self) -> str:
        parts = [f"x^{self.power}"] if self.power else []
        parts += [f"log(x)^{self.log}"] if self.log else []
        parts += [f"exp({sympy.Add(*(c * x**k for k, c in self.exponent))})"] if self.exponent else []
        return "·".join(parts) or "1"


ONE = Growth()


def _known_sign(value: sympy.Expr) -> int:
    sign = sign_of(value)
    if sign is None:
        raise TailUndecided(f"the sign of {value} is not known")
    return sign


@lru_cache(maxsize=4096)
def _compare(a: Growth, b: Growth) -> int:
    """Which monomial dominates as x → ∞ (1: a, −1: b, 0: equal)."""
    return (a * b.to(sympy.Integer(-1))).direction


def slope_bound(m: Growth, start: Fraction) -> arb:
    """An upper bound of x·(log m)′(x) over all x ≥ start, where the highest coefficient of P is ≤ 0."""
    r = arb(fmpq(start.numerator, start.denominator))
    total = number(m.power) + (m.log / r.log() if m.log > 0 else arb(0))
    if not m.exponent:
        return total
    top = m.exponent[0][0]
    # k c x^k ≤ k c x^top R^(k-top) for c > 0 and x ≥ R; negative lower terms are dropped (≤ 0). Sum times x^top, and
    # x^top ≥ R^top with a negative sum gives the bound at R.
    total_exponent = arb(0)
    for k, c in m.exponent:
        value = k * number(c)
        if k == top or bool(value > 0):
            total_exponent += value * r ** (k - top)
    if not total_exponent < 0:
        raise TailUndecided(f"{m} is not yet decreasing at x = {start}")
    return total + total_exponent * r**top


@lru_cache(maxsize=8192)
def _supremum(m: Growth, start: Fraction, precision: int) -> arb:
    """sup of the monomial over x ≥ start; proven to decrease from there."""
    if m == ONE:
        return arb(1)
    if m.direction >= 0:
        raise TailUndecided(f"{m} is unbounded")
    if not slope_bound(m, start) <= 0:
        raise TailUndecided(f"{m} is not yet decreasing at x = {start}")
    return value_at(m, start)


def value_at(m: Growth, start: Fraction) -> arb:
    """An upper bound, tight at the present precision, of the monomial's value at an exact point."""
    r = arb(fmpq(start.numerator, start.denominator))
    exponent = sum((number(c) * r**k for k, c in m.exponent), number(m.power) * r.log())
    # Not the ball's exponential: around −10³⁰ its radius is so large that it would have no bound.
    return exponent.upper().exp().upper() * (r.log() ** m.log if m.log else 1)


#: An exact constant, or a ball that holds the coefficient for every x of the tail (sympy.Expr or arb).
Coefficient: TypeAlias = Any


def _ball(c: Coefficient) -> arb:
    return c if isinstance(c, arb) else number(c)


def _plus(a: Coefficient, b: Coefficient) -> Coefficient:
    return _ball(a) + _ball(b) if isinstance(a, arb) or isinstance(b, arb) else a + b


def _times(a: Coefficient, b: Coefficient) -> Coefficient:
    return _ball(a) * _ball(b) if isinstance(a, arb) or isinstance(b, arb) else a * b


def _unit() -> arb:
    """The ball [0, 1]."""
    return arb(0).union(arb(1))


class Tail:
    """A sum of monomials with exact or ball coefficients, valid for every x ≥ ``start``."""

    LIMIT = 24

    def __init__(self, terms: dict[Growth, Coefficient], start: Fraction) -> None:
        self.start = start
        self.terms = {m: c for m, c in terms.items() if not _vanishes(c)}

    def __iter__(self) -> Iterator[tuple[Growth, Coefficient]]:
        """Monomials in descending order of growth."""
        order = sorted(self.terms, key=cmp_to_key(_compare), reverse=True)
        return ((m, self.terms[m]) for m in order)

    def __add__(self, other: Tail) -> Tail:
        terms = dict(self.terms)
        for m, c in other.terms.items():
            terms[m] = _plus(terms[m], c) if m in terms else c
        return Tail(terms, self.start)

    def __mul__(self, other: Tail) -> Tail:
        terms: dict[Growth, Coefficient] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                product, value = m * n, _times(c, d)
                terms[product] = _plus(terms[product], value) if product in terms else value
        return Tail(terms, self.start)._compressed()

    def _compressed(self) -> Tail:
        """Fold the smallest monomials into the last kept one, as a ball, so that work stays bounded."""
        if len(self.terms) <= self.LIMIT:
            return self
        ordered = list(self)
        kept = dict(ordered[: self.LIMIT])
        last = ordered[self.LIMIT - 1][0]
        for m, c in ordered[self.LIMIT :]:
            ratio = m * last.to(sympy.Integer(-1))
            kept[last] = _plus(kept[last], _ball(c) * _supremum(ratio, self.start, ctx.prec) * _unit())
        return Tail(kept, self.start)

    def scaled(self, c: Coefficient, m: Growth = ONE) -> Tail:
        return Tail({n * m: _times(d, c) for n, d in self.terms.items()}, self.start)

    def leading(self) -> tuple[Growth, Coefficient]:
        for m, c in self:
            if isinstance(c, arb) and c.contains(0):
                raise TailUndecided("the leading term may vanish, or oscillate for ever")
            return m, c
        raise TailUndecided("the tail vanishes identically")

    def parts(self) -> tuple[Tail, Coefficient, Tail]:
        """Growing part, constant, decaying part."""
        growing: dict[Growth, Coefficient] = {}
        small: dict[Growth, Coefficient] = {}
        constant = sympy.Integer(0)
        for m, c in self.terms.items():
            if m == ONE:
                constant = c
            else:
                (growing if m.direction >= 0 else small)[m] = c
        return Tail(growing, self.start), constant, Tail(small, self.start)

    def enclosure(self) -> arb:
        """A ball that contains every value for x ≥ start; all monomials must be bounded."""
        total = arb(0)
        for m, c in self.terms.items():
            total += _ball(c) * (_supremum(m, self.start, ctx.prec) * _unit() if m != ONE else 1)
        return total

    def relative(self) -> tuple[Growth, Coefficient, Tail]:
        """(m, c, ε) with the tail equal to c·m·(1 + ε) and ε decaying."""
        m, c = self.leading()
        rest = Tail({n: d for n, d in self.terms.items() if n != m}, self.start)
        return m, c, rest.scaled(1 / c, m.to(sympy.Integer(-1)))

    def sign(self) -> int:
        """The proven sign for every x ≥ start (0: identically zero)."""
        if not self.terms:
            return 0
        _, c, epsilon = self.relative()
        if not abs(epsilon.enclosure()) < 1:
            raise TailUndecided("the leading term does not yet dominate")
        return 1 if _ball(c) > 0 else -1

    def limit(self) -> Coefficient:
        """The limit as x → ∞: an exact constant, a ball, or ±∞."""
        growing, constant, _ = self.parts()
        if not growing.terms:
            return constant
        _, c = growing.leading()
        return sympy.oo if _ball(c) > 0 else -sympy.oo

    def __str__(self) -> str:
        return " + ".join(f"({c})·{m}" for m, c in self) or "0"


def _vanishes(c: Coefficient) -> bool:
    return bool(c.is_zero()) if isinstance(c, arb) else (c == 0 or (not c.is_Rational and sign_of(c) == 0))


class _Expander:
    """Expands an expression into a :class:`Tail` for x ≥ start with ``order`` terms of each series."""

    def __init__(self, start: Fraction, order: int) -> None:
        self.start, self.order = start, order
        self.seen: dict[sympy.Expr, Tail] = {}

    def constant(self, c: Coefficient) -> Tail:
        return Tail({ONE: c}, self.start)

    def of(self, node: sympy.Expr) -> Tail:
        if node not in self.seen:
            self.seen[node] = self._expand(node)
        return self.seen[node]

    def _expand(self, node: sympy.Expr) -> Tail:
        if node == x:
            return Tail({Growth(sympy.Integer(1)): sympy.Integer(1)}, self.start)
        if not node.has(x):
            return self.constant(node)
        if isinstance(node, sympy.Add):
            total = self.of(node.args[0])
            for a in node.args[1:]:
                total = total + self.of(a)
            return total
        if isinstance(node, sympy.Mul):
            total = self.of(node.args[0])
            for a in node.args[1:]:
                total = total * self.of(a)
            return total
        if isinstance(node, sympy.Pow):
            return self.power(*node.args)
        rule = _RULES.get(type(node))
        if rule is None:
            raise Unsupported(f"no tail rule for {node.func.__name__}")
        return rule(self, self.of(node.args[0]))

    def power(self, base: sympy.Expr, exponent: sympy.Expr) -> Tail:
        if not base.has(x):
            return self.exp(self.of(exponent).scaled(sympy.log(base)))
        if not exponent.is_Rational:
            return self.exp(self.of(exponent) * self.log(self.of(base)))
        inner = self.of(base)
        if exponent.is_Integer and 0 < exponent <= 8:
            result = inner
            for _ in range(int(exponent) - 1):
                result = result * inner
            return result
        return self.rational_power(inner, exponent)

    def series(self, epsilon: Tail, coefficients: list[Coefficient], remainder: arb) -> Tail:
        """Σ c_k ε^k for k < n, plus remainder·ε^n with the remainder's coefficient in a ball."""
        total, power = self.constant(coefficients[0]), self.constant(sympy.Integer(1))
        for c in coefficients[1:]:
            power = power * epsilon
            total = total + power.scaled(c)
        return total + (power * epsilon).scaled(remainder)

    def rational_power(self, t: Tail, r: sympy.Rational) -> Tail:
        m, c, epsilon = t.relative()
        if not (r.is_Integer or _ball(c) > 0):
            raise TailUndecided("a root of a negative quantity")
        e = epsilon.enclosure()
        if not abs(e) < 1:
            raise TailUndecided("the leading term does not yet dominate")
        n = self.order
        binomials = [sympy.binomial(r, k) for k in range(n + 1)]
        reach = (1 + e * _unit()) ** number(r - n) if not r.is_Integer else (1 + e * _unit()) ** int(r - n)
        scale = c**r if isinstance(c, sympy.Expr) else (c ** int(r) if r.is_Integer else c ** number(r))
        return self.series(epsilon, binomials[:n], number(binomials[n]) * reach).scaled(scale, m.to(r))

    def exp(self, t: Tail) -> Tail:
        growing, constant, small = t.parts()
        factor = ONE
        for m, c in growing.terms.items():
            polynomial = not m.exponent and m.log == 0 and m.power.is_Integer
            if isinstance(c, arb) or not (polynomial or m == Growth(log=1)):
                return self._crude_exp(t)
            factor = factor * (Growth(exponent=((int(m.power), c),)) if polynomial else Growth(power=_rational(c)))
        e, n = small.enclosure(), self.order
        coefficients: list[Coefficient] = [sympy.Rational(1, factorial(k)) for k in range(n)]
        series = self.series(small, coefficients, (e * _unit()).exp() / factorial(n))
        return series.scaled(sympy.exp(constant) if isinstance(constant, sympy.Expr) else constant.exp(), factor)

    def _crude_exp(self, t: Tail) -> Tail:
        """e^t in [0, 1]·e^{−x²} or [0, 1]·e^{−x} where t is proven below −x² or −x: doubly exponential decay."""
        for k in (2, 1):
            if (t + Tail({Growth(sympy.Integer(k)): sympy.Integer(1)}, self.start)).sign() < 0:
                return Tail({Growth(exponent=((k, sympy.Integer(-1)),)): _unit()}, self.start)
        raise TailUndecided("an exponential of an exponential")

    def log(self, t: Tail) -> Tail:
        m, c, epsilon = t.relative()
        if m.log or not _ball(c) > 0:
            raise TailUndecided("the logarithm of a logarithm or of a negative quantity")
        e, n = epsilon.enclosure(), self.order
        if not abs(e) < 1:
            raise TailUndecided("the leading term does not yet dominate")
        coefficients: list[Coefficient] = [sympy.Integer(0)]
        coefficients += [sympy.Rational((-1) ** (k + 1), k) for k in range(1, n)]
        series = self.series(epsilon, coefficients, arb((-1) ** (n + 1)) / n / (1 + e * _unit()) ** n)
        terms: dict[Growth, Coefficient] = {ONE: sympy.log(c) if isinstance(c, sympy.Expr) else c.log()}
        if m.power:
            terms[Growth(log=1)] = m.power
        for k, p in m.exponent:
            terms[Growth(sympy.Integer(k))] = p
        return Tail(terms, self.start) + series

    def tanh(self, t: Tail) -> Tail:
        direction = self.direction(t)
        if direction == 0:
            return self.at_finite(sympy.tanh, t)
        decay = self.exp(t.scaled(sympy.Integer(-2 * direction)))
        # tanh t = 1 − 2e^{−2t}/(1 + e^{−2t}) for t → ∞; odd.
        fraction = decay * self.rational_power(self.constant(sympy.Integer(1)) + decay, sympy.Integer(-1))
        return (self.constant(sympy.Integer(1)) + fraction.scaled(sympy.Integer(-2))).scaled(sympy.Integer(direction))

    def direction(self, t: Tail) -> int:
        """Where t goes: 1 → +∞, −1 → −∞, 0 → a finite limit."""
        growing, _, _ = t.parts()
        return t.sign() if growing.terms else 0

    def erfc_of_growing(self, t: Tail) -> Tail:
        """Erfc t = e^{−t²}/(t√π)·(1 − 1/(2t²) + θ·3/(4t⁴)), θ in [0, 1]: the series envelops for t > 0 (DLMF 7.12)."""
        inverse = self.rational_power(t, sympy.Integer(-1))
        square = inverse * inverse
        factor = self.constant(sympy.Integer(1)) + square.scaled(sympy.Rational(-1, 2))
        factor = factor + (square * square).scaled(_unit() * 3 / 4)
        return (self.exp((t * t).scaled(sympy.Integer(-1))) * inverse * factor).scaled(1 / sympy.sqrt(sympy.pi))

    def erf(self, t: Tail) -> Tail:
        direction = self.direction(t)
        if direction == 0:
            return self.at_finite(sympy.erf, t)
        side = sympy.Integer(direction)
        return self.constant(side) + self.erfc_of_growing(t.scaled(side)).scaled(-side)

    def erfc(self, t: Tail) -> Tail:
        direction = self.direction(t)
        if direction == 0:
            return self.at_finite(sympy.erfc, t)
        if direction > 0:
            return self.erfc_of_growing(t)
        return self.constant(sympy.Integer(2)) + self.erfc_of_growing(t.scaled(sympy.Integer(-1))).scaled(
            sympy.Integer(-1)
        )

    def atan(self, t: Tail) -> Tail:
        """Atan t = π/2 − 1/t + θ/(3t³), θ in [0, 1], for t > 0; odd."""
        direction = self.direction(t)
        if direction == 0:
            return self.at_finite(sympy.atan, t)
        inverse = self.rational_power(t, sympy.Integer(-1))
        cube = (inverse * inverse * inverse).scaled(_unit() / 3)
        return self.constant(direction * sympy.pi / 2) + inverse.scaled(sympy.Integer(-1)) + cube

    def sinh(self, t: Tail) -> Tail:
        up, down = self.exp(t), self.exp(t.scaled(sympy.Integer(-1)))
        return (up + down.scaled(sympy.Integer(-1))).scaled(sympy.Rational(1, 2))

    def cosh(self, t: Tail) -> Tail:
        return (self.exp(t) + self.exp(t.scaled(sympy.Integer(-1)))).scaled(sympy.Rational(1, 2))

    def bounded(self, function: type[sympy.Function]) -> Callable[[Tail], Tail]:
        def wave(t: Tail) -> Tail:
            if self.direction(t) == 0:
                return self.at_finite(function, t)
            return self.constant(arb(-1).union(arb(1)))  # sin and cos oscillate; only |·| ≤ 1 is kept

        return wave

    def at_finite(self, function: type[sympy.Function], t: Tail) -> Tail:
        """g(c + δ) = g(c) + g′(c)δ + ½g″(ξ)δ² for an argument with a finite limit c."""
        growing, constant, small = t.parts()
        if growing.terms:
            raise TailUndecided(f"{function.__name__} of a quantity that grows")
        if isinstance(constant, arb):
            raise TailUndecided("a finite limit that is only enclosed")
        g = function(x)
        reach = number(constant) + small.enclosure() * _unit()
        second = ball_function(g.diff(x, 2))(reach)
        if not second.is_finite():
            raise TailUndecided(f"{g} is not smooth around {constant}")
        here = [g.subs(x, constant), g.diff(x).subs(x, constant)]
        return self.series(small, here, second / 2)


def _rational(c: sympy.Expr) -> sympy.Rational:
    if not c.is_Rational:
        raise TailUndecided(f"the irrational power x^({c})")
    return c


_RULES: dict[type, Callable[[_Expander, Tail], Tail]] = {
    sympy.exp: _Expander.exp,
    sympy.log: _Expander.log,
    sympy.tanh: _Expander.tanh,
    sympy.sinh: _Expander.sinh,
    sympy.cosh: _Expander.cosh,
    sympy.erf: _Expander.erf,
    sympy.erfc: _Expander.erfc,
    sympy.atan: _Expander.atan,
    sympy.asin: lambda e, t: e.at_finite(sympy.asin, t),
    sympy.acos: lambda e, t: e.at_finite(sympy.acos, t),
    sympy.sin: lambda e, t: e.bounded(sympy.sin)(t),
    sympy.cos: lambda e, t: e.bounded(sympy.cos)(t),
}


@contextmanager
def _precision() -> Iterator[None]:
    with ctx.workprec(PRECISION):
        yield


def tail(expr: sympy.Expr, start: Fraction, order: int = 2) -> Tail:
    """Expand ``expr`` for every x ≥ ``start``; raises :class:`TailUndecided` where it cannot.

    >>> str(tail(sympy.tanh(x) - 1 + 2 * sympy.exp(-2 * x) + x, Fraction(4)).limit())
    'oo'
    """
    with _precision():
        return _Expander(start, order).of(sympy.sympify(expr))


def first_decided(expr: sympy.Expr, question: Callable[[Tail], object]) -> tuple[object, Fraction]:
    """Ask ``question`` of ever later tails until one is decided: (answer, the start R that it holds from)."""
    why = "no attempt"
    for start, order in ATTEMPTS:
        try:
            with _precision():
                return question(tail(expr, start, order)), start
        except TailUndecided as reason:
            why = str(reason)
    raise TailUndecided(why)
