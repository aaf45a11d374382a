"""Derivatives of any order as polynomials: in f itself, in x and a Gaussian, or in a few functions closed under d/dx.

A formula is written over a *tower* of generators, each of whose derivatives is a polynomial in x and the generators so
far: s = sigmoid(u) has s′ = (s − s²)u′, t = tanh(u) has t′ = (1 − t²)u′, g = exp(u) has g′ = g·u′. Differentiation is
then arithmetic on polynomials, D(P) = ∂P/∂x + Σ ∂P/∂y·y′, which takes milliseconds where differentiating the formula
again and again takes minutes. Each y′ is proved against the derivative of what y stands for; the rest is the chain
rule.

Where f′ = P(f) the derivatives are polynomials in f (sigmoid, tanh); where f⁽ᵐ⁾ is a polynomial times exp(−a·x²), they
are Hermite polynomials times it (Gaussian, GELU, erf). Both are theorems for all n, proved by induction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import sympy
from sympy.polys.rings import PolyElement, PolyRing

from .activations import Activation, activation
from .analysis import vanishes
from .errors import InputError, Unsupported
from .formula_text import formula_text
from .pieces import pieces
from .symbols import x

MAX_ORDER = 60
#: Terms of a polynomial beyond which the answer is of no use to anyone.
MAX_TERMS = 20_000
#: Terms up to which a polynomial is printed.
MAX_PRINTED = 150


@dataclass(frozen=True)
class Generator:
    """A function y of x with y′ a polynomial in x and the generators up to y."""

    symbol: sympy.Symbol
    meaning: sympy.Expr
    slope: sympy.Expr

    def __str__(self) -> str:
        slope = formula_text(self.slope.xreplace(_MEANINGS))
        return f"{self.symbol} = {formula_text(self.meaning)}, {self.symbol}′ = {slope}"


@dataclass(frozen=True)
class Closed:
    """A closed form for all n, with its proof."""

    kind: str
    statement: str
    proof: tuple[str, ...]


@dataclass(frozen=True)
class HigherDerivatives:
    """f, f′, f″, … as polynomials in x and ``generators``."""

    expr: sympy.Expr
    generators: tuple[Generator, ...]
    #: from this derivative on they are polynomials (softplus itself is not one: its derivative is)
    start: int
    polynomial: sympy.Expr
    #: the only generator is f itself
    in_itself: bool

    @cached_property
    def _ring(self) -> tuple[PolyRing, list[PolyElement], list[PolyElement]]:
        symbols = [x, *(g.symbol for g in self.generators)]
        constants = sorted(
            {s for e in (self.polynomial, *(g.slope for g in self.generators)) for s in e.free_symbols} - set(symbols),
            key=str,
        )
        ring = PolyRing([*symbols, *constants], sympy.QQ)
        slopes = [ring.one, *(ring.from_expr(sympy.expand(g.slope)) for g in self.generators)]
        return ring, list(ring.gens[: len(symbols)]), slopes

    @cached_property
    def _found(self) -> list[PolyElement]:
        return [self._ring[0].from_expr(sympy.expand(self.polynomial))]

    def derivative(self, n: int) -> sympy.Expr:
        """f⁽ⁿ⁾ as a polynomial in x, the generators and constants; n from ``start`` on.

        Raises :class:`InputError` for an order that is not between ``start`` and :data:`MAX_ORDER`.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not self.start <= n <= MAX_ORDER:
            raise InputError(f"order {n}: a derivative of order {self.start} to {MAX_ORDER} is needed")
        while len(self._found) <= n - self.start:
            self._extend()
        return self._as_expression(self._found[n - self.start])

    def _extend(self) -> None:
        """One derivative more."""
        ring, gens, slopes = self._ring
        last = self._found[-1]
        following = sum((last.diff(g) * slope for g, slope in zip(gens, slopes, strict=True)), ring.zero)
        if len(following) > MAX_TERMS:
            raise Unsupported(
                f"the derivative of order {self.start + len(self._found)} has more than {MAX_TERMS} terms"
            )
        self._found.append(following)

    def _as_expression(self, p: PolyElement) -> sympy.Expr:
        """The polynomial with the powers of constants and of exponential generators that all terms share taken out."""
        ring = self._ring[0]
        least = [min((m[k] for m in p), default=0) for k in range(ring.ngens)]
        for k, g in enumerate(self.generators, 1):
            if g.slope.subs(g.symbol, 0) != 0 or (g.slope / g.symbol).has(g.symbol):
                least[k] = 0  # y′ is no multiple of y alone
        least[0] = 0
        if not any(least):
            return p.as_expr()
        divided = ring.from_dict({tuple(a - b for a, b in zip(m, least, strict=True)): c for m, c in p.items()})
        common = sympy.Mul(*(ring.symbols[k] ** n for k, n in enumerate(least) if n))
        body = divided.as_expr()
        return sympy.Mul(common, body, evaluate=False) if body.is_Add else common * body

    def opened(self, e: sympy.Expr) -> sympy.Expr:
        """The same with every generator replaced by what it stands for."""
        return e.xreplace({**{g.symbol: g.meaning for g in self.generators}, **_MEANINGS})

    def text(self, n: int) -> str:
        """f⁽ⁿ⁾ as one line, in falling powers; beyond :data:`MAX_PRINTED` terms only how many there are."""
        self.derivative(self.start)
        while len(self._found) <= n - self.start:
            self._extend()
        if len(self._found[n - self.start]) > MAX_PRINTED:
            names = ", ".join(["x", *(str(g.symbol) for g in self.generators)])
            return f"a polynomial in {names} with {len(self._found[n - self.start])} terms"
        return polynomial_text(self.derivative(n), self.generators, in_itself=self.in_itself)

    @cached_property
    def closed(self) -> Closed | None:
        """A form for every n, where the family has one."""
        return _in_itself(self) or _hermite(self)


def higher_derivatives(f: Activation | str | sympy.Expr) -> HigherDerivatives:
    """The derivatives of f as polynomials over a tower of generators.

    Raises :class:`Unsupported` for a formula with branches (take its pieces) or with a function that has no tower.

    >>> h = higher_derivatives("tanh")
    >>> h.text(3)
    '-6·f⁴ + 8·f² - 2'
    >>> print(h.closed.statement)
    f⁽ⁿ⁾ = Pₙ(f), with P₁(y) = 1 - y² and Pₙ₊₁ = Pₙ′·P₁
    """
    return tower_of(activation(f).expr)


@lru_cache(maxsize=256)
def tower_of(expr: sympy.Expr) -> HigherDerivatives:
    """The same for an expression in x, which may be a constant."""
    if expr.has(sympy.Piecewise, sympy.Abs, sympy.sign, sympy.Max, sympy.Min):
        parts = pieces(expr)
        if len(parts) > 1:
            raise Unsupported("the formula has branches: take the derivatives of its pieces")
        expr = parts[0].expr
    tower = _Tower()
    forms = [tower.write(expr)]
    for _ in range(2):
        forms.append(tower.derived(forms[-1]))
    # GELU's own formula has erf in it, its second derivative only the Gaussian
    start = min(range(3), key=lambda k: (len(tower.used(forms[k])), k))
    written, used = forms[start], tower.used(forms[start])
    found = HigherDerivatives(expr, used, start, written, False)
    if start == 0 and len(used) == 1 and written == used[0].symbol and not used[0].slope.has(x):
        f = sympy.Symbol("f", real=True)
        own = Generator(f, expr, used[0].slope.xreplace({used[0].symbol: f}))
        found = HigherDerivatives(expr, (own,), 0, f, True)
    else:
        found = _polynomial_in_itself(found) or found
    _prove(found)
    return found


def _polynomial_in_itself(h: HigherDerivatives) -> HigherDerivatives | None:
    """f′ = P(f) with P of degree 2 where f is affine in one generator whose slope is a polynomial in itself."""
    if h.start or len(h.generators) != 1 or h.polynomial.has(x) or h.generators[0].slope.has(x):
        return None
    y = h.generators[0].symbol
    if sympy.degree(h.polynomial, y) != 1:
        return None
    f = sympy.Symbol("f", real=True)
    (inverse,) = sympy.solve(h.polynomial - f, y)
    slope = sympy.expand((h.polynomial.diff(y) * h.generators[0].slope).xreplace({y: inverse}))
    if not slope.is_polynomial(*slope.free_symbols):
        return None  # an irrational constant below a fraction bar
    return HigherDerivatives(h.expr, (Generator(f, h.expr, slope),), 0, f, True)


def _prove(h: HigherDerivatives) -> None:
    """Each slope is the derivative of what its generator stands for; the start is what it stands for."""
    from .formula_equality import _rational_zero

    claims = [g.meaning.diff(x) - h.opened(g.slope) for g in h.generators]
    claims.append(h.expr.diff(x, h.start) - h.opened(h.polynomial))
    for claim in claims:
        if not (vanishes(claim) or _rational_zero(claim) or sympy.simplify(claim) == 0):
            raise Unsupported(f"the tower of {formula_text(h.expr)[:60]} could not be proved")


class _Tower:
    """Generators, made as the formula needs them."""

    def __init__(self) -> None:
        self.generators: dict[sympy.Expr, Generator] = {}
        self.names: set[str] = set()

    def used(self, written: sympy.Expr) -> tuple[Generator, ...]:
        """The generators that the expression needs, with those that their slopes need."""
        symbols = set(written.free_symbols)
        while True:
            more = {s for g in self.generators.values() if g.symbol in symbols for s in g.slope.free_symbols} - symbols
            if not more:
                return tuple(g for g in self.generators.values() if g.symbol in symbols)
            symbols |= more

    def write(self, e: sympy.Expr) -> sympy.Expr:
        """The expression as a polynomial in x and generators; raises :class:`Unsupported` naming what has no tower."""
        e = sympy.sympify(e)
        if not e.has(x):
            return e if e.is_Rational else _constant(e)
        if e == x:
            return e
        if e.is_Mul and (constant := e.as_independent(x, as_Add=False)[0]) != 1:
            return sympy.expand(self.write(constant) * self.write(e / constant))
        if e.is_Add or e.is_Mul:
            return sympy.expand(e.func(*(self.write(a) for a in e.args)))
        if e.is_Pow and e.base is not sympy.E:
            return self._power(e)
        if isinstance(e, sympy.exp) or (e.is_Pow and e.base is sympy.E):
            return self._exponential(e.args[0] if isinstance(e, sympy.exp) else e.exp)
        u = e.args[0] if e.args else e
        match e:
            case sympy.tanh():
                if u.could_extract_minus_sign():
                    return -self.write(sympy.tanh(-u))
                return self._make(e, "t", lambda t: (1 - t**2) * self._slope(u))
            case sympy.erf():
                return self._make(
                    e, "E", lambda _: self.write(2 / sympy.sqrt(sympy.pi) * sympy.exp(-(u**2)) * u.diff(x))
                )
            case sympy.atan():
                return self._make(e, "A", lambda _: self.write(u.diff(x) / (1 + u**2)))
            case sympy.sin() | sympy.cos():
                return self._wave(e, u)
            case sympy.sinh() | sympy.cosh():
                return self.write(e.rewrite(sympy.exp))
            case sympy.log():
                return self._logarithm(e, u)
        raise Unsupported(f"{type(e).__name__} in {formula_text(e)[:40]} has no tower of derivatives")

    def _slope(self, u: sympy.Expr) -> sympy.Expr:
        return self.derived(self.write(u))

    def derived(self, written: sympy.Expr) -> sympy.Expr:
        """The derivative of a polynomial over the tower."""
        slopes = {g.symbol: g.slope for g in self.generators.values()}
        return sympy.expand(
            written.diff(x) + sympy.Add(*(written.diff(y) * slopes[y] for y in written.free_symbols if y in slopes))
        )

    def _make(self, meaning: sympy.Expr, stem: str, slope: object) -> sympy.Expr:
        if meaning not in self.generators:
            name = next(n for n in (stem, *(f"{stem}{k}" for k in range(1, 100))) if n not in self.names)
            self.names.add(name)  # before the slope is made, which may need generators of its own
            symbol = sympy.Symbol(name, real=True)
            derived = sympy.expand(slope(symbol))  # type: ignore[operator]
            self.generators[meaning] = Generator(symbol, meaning, derived)
        return self.generators[meaning].symbol

    def _exponential(self, u: sympy.Expr) -> sympy.Expr:
        constant, rest = u.as_independent(x, as_Add=True)
        if constant != 0:
            return sympy.expand(self.write(sympy.exp(constant)) * self._exponential(rest))
        return self._make(sympy.exp(u), "g", lambda g: g * self._slope(u))

    def _power(self, e: sympy.Expr) -> sympy.Expr:
        base, n = e.args
        if n.is_Integer and n > 0:
            return sympy.expand(self.write(base) ** n)
        if n.is_Integer:
            logistic = _logistic(base)
            if logistic is not None:
                scale, u = logistic
                return sympy.expand(self.write(scale**n) * self._sigmoid(u) ** (-n))
            y = self._make(1 / base, "y", lambda y: -(y**2) * self._slope(base))
            return sympy.expand(y ** (-n))
        if n.is_Rational and n.q == 2:
            root = self._make(base ** sympy.Rational(-1, 2), "r", lambda r: -(r**3) * self._slope(base) / 2)
            return sympy.expand(
                self.write(base) ** ((n + 1) // 2 if n > 0 else 0) * (root if n > 0 else root ** (-2 * n))
            )
        raise Unsupported(f"the power {formula_text(e)[:40]} has no tower of derivatives")

    def _sigmoid(self, u: sympy.Expr) -> sympy.Expr:
        """sigmoid(u); sigmoid(−u) is 1 − sigmoid(u), so that one generator does for both."""
        if u.could_extract_minus_sign():
            return 1 - self._sigmoid(-u)
        return self._make(1 / (1 + sympy.exp(-u)), "s", lambda s: (s - s**2) * self._slope(u))

    def _logarithm(self, e: sympy.Expr, u: sympy.Expr) -> sympy.Expr:
        logistic = _logistic(u)
        if logistic is not None and logistic[0] == 1:  # log(1 + exp(−v)) has slope −v′·sigmoid(−v)
            v = logistic[1]
            return self._make(e, "L", lambda _: -self._sigmoid(-v) * self._slope(v))
        return self._make(e, "L", lambda _: self.write(1 / u) * self._slope(u))

    def _wave(self, e: sympy.Expr, u: sympy.Expr) -> sympy.Expr:
        """sin and cos: each is the other's slope, so both are made at once."""
        names = {}
        for kind, stem in ((sympy.sin, "u"), (sympy.cos, "v")):
            names[kind] = self._make(kind(u), stem, lambda y: y)
        slope = self._slope(u)
        for kind, other, sign in ((sympy.sin, sympy.cos, 1), (sympy.cos, sympy.sin, -1)):
            self.generators[kind(u)] = Generator(names[kind], kind(u), sympy.expand(sign * names[other] * slope))
        return names[type(e)]


def _logistic(base: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr] | None:
    """(c, u) with base = c·(1 + exp(−u))."""
    if not (base.is_Add and len(base.args) == 2):
        return None
    constant, rest = base.as_independent(x, as_Add=True)
    coefficient, power = rest.as_independent(x, as_Add=False)
    if constant == 0 or not isinstance(power, sympy.exp) or coefficient != constant:
        return None
    return constant, -power.args[0]


def _constant(e: sympy.Expr) -> sympy.Expr:
    """An irrational constant as a symbol times a rational; its derivative is 0."""
    rational, rest = e.as_coeff_Mul()
    if rest == 1:
        return rational
    if rest.is_Add:
        return sympy.Add(*(_constant(a) for a in e.expand().args))
    name = f"c[{sympy.srepr(rest)}]"
    symbol = sympy.Symbol(name, real=True)
    _MEANINGS[symbol] = rest
    return rational * symbol


#: constant's symbol -> its value
_MEANINGS: dict[sympy.Symbol, sympy.Expr] = {}


# --- closed forms -------------------------------------------------------------------------------------------


def _in_itself(h: HigherDerivatives) -> Closed | None:
    """f′ = P(f): then f⁽ⁿ⁾ = Pₙ(f) for every n."""
    if not h.in_itself:
        return None
    (own,) = h.generators
    y = sympy.Symbol("y", real=True)
    first = polynomial_text(own.slope.xreplace({own.symbol: y}), (), rising=True)
    return Closed(
        "polynomial in f",
        f"f⁽ⁿ⁾ = Pₙ(f), with P₁(y) = {first} and Pₙ₊₁ = Pₙ′·P₁",
        (
            f"base n = 1: f′ = P₁(f), proved by algebra for f = {formula_text(h.expr)}",
            "step n → n+1: if f⁽ⁿ⁾ = Pₙ(f) then f⁽ⁿ⁺¹⁾ = Pₙ′(f)·f′ by the chain rule, and f′ = P₁(f), so it is Pₙ₊₁(f)",
        ),
    )


def _hermite(h: HigherDerivatives) -> Closed | None:
    """f⁽ᵐ⁾ = P(x)·g with g = exp(−a·x²): then f⁽ᵐ⁺ᵏ⁾ is a sum of Hermite polynomials times g, for every k."""
    if len(h.generators) != 1:
        return None
    (g,) = h.generators
    rate = -g.slope / (2 * x * g.symbol)
    factor = sympy.expand(h.polynomial / g.symbol)
    if not (rate.is_Rational and rate > 0) or factor.has(g.symbol):
        return None
    scale, name, basis = (sympy.sqrt(2 * rate), "He", _probabilists) if rate != 1 else (sympy.S.One, "H", sympy.hermite)
    coefficients = _in_basis(factor.xreplace(_MEANINGS), scale, basis)
    if coefficients is None or not _hermite_step(rate, scale, basis):
        return None
    lead = next(c for c in reversed(coefficients) if c != 0)
    terms = [(sympy.radsimp(c / lead), k) for k, c in enumerate(coefficients) if c != 0]
    m = h.start
    index = lambda k: "ₙ" + (_subscript(k - m, sign=True) if k != m else "")  # noqa: E731
    argument = "x" if scale == 1 else f"{formula_text(scale)}·x"
    inside = _signed_sum([(c, f"{name}{index(k)}({argument})") for c, k in terms])
    outer = "" if scale == 1 else f"·({formula_text(scale)})ⁿ{_superscript(-m) if m else ''}"
    odd = m % 2 == 1
    if lead.could_extract_minus_sign():
        lead, odd = -lead, not odd
    lead = sympy.sqrt(lead**2)  # √2/(2·√π), where the quotient has roots above and below
    sign = "(-1)ⁿ⁺¹" if odd else "(-1)ⁿ"
    body = inside if len(terms) == 1 else f"({inside})"
    body = body if lead == 1 else f"{formula_text(lead)}·{body}"
    kind = "probabilists'" if name == "He" else "physicists'"
    return Closed(
        "Hermite polynomials",
        f"f⁽ⁿ⁾ = {sign}{outer}·{body}·{formula_text(g.meaning)}" + (f" for n ≥ {m}" if m else ""),
        (
            f"base n = {m}: the polynomial before the exponential, in {kind} Hermite polynomials, by algebra",
            f"step n → n+1: ({name}ₖ·g)′ = -{'' if scale == 1 else formula_text(scale) + '·'}{name}ₖ₊₁·g, from "
            + ("Heₖ₊₁(u) = u·Heₖ(u) - Heₖ′(u)" if name == "He" else "Hₖ₊₁(x) = 2·x·Hₖ(x) - Hₖ′(x)"),
        ),
    )


def _probabilists(k: int, u: sympy.Expr) -> sympy.Expr:
    """Heₖ(u) = 2^(−k/2)·Hₖ(u/√2)."""
    return sympy.expand(sympy.sqrt(2) ** -k * sympy.hermite(k, u / sympy.sqrt(2)))


def _in_basis(p: sympy.Expr, scale: sympy.Expr, basis: object) -> list[sympy.Expr] | None:
    """Coefficients of p in Hermite polynomials of scale·x; None where p is no polynomial in x."""
    if not p.is_polynomial(x):
        return None
    rest, found = sympy.expand(p), []
    for k in range(int(sympy.degree(rest, x)), -1, -1):
        element = sympy.expand(basis(k, scale * x))  # type: ignore[operator]
        c = sympy.radsimp(rest.coeff(x, k) / element.coeff(x, k))
        rest = sympy.expand(rest - c * element)
        found.append(c)
    return found[::-1] if sympy.simplify(rest) == 0 else None


def _hermite_step(rate: sympy.Expr, scale: sympy.Expr, basis: object) -> bool:
    """(Heₖ(u)·g)′ = −scale·Heₖ₊₁(u)·g with u = scale·x, g = exp(−rate·x²), from the recurrence of the family.

    With Hₖ an unknown function h this is an identity in h and h′: h′(u)·scale − 2·rate·x·h = −scale·(c·u·h − h′), where
    the recurrence's c is 1 (Heₖ) or 2 (Hₖ).
    """
    h, slope = sympy.symbols("h slope", real=True)
    c = 2 if basis is sympy.hermite else 1
    left = slope * scale - 2 * rate * x * h
    return bool(sympy.expand(left + scale * (c * scale * x * h - slope)) == 0)


# --- text ---------------------------------------------------------------------------------------------------


def _superscript(n: int) -> str:
    return str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _subscript(n: int, *, sign: bool = False) -> str:
    text = str(abs(n)).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
    return ("₋" if n < 0 else "₊" if sign else "") + text


def _signed_sum(terms: list[tuple[sympy.Expr, str]]) -> str:
    """c₁·a + c₂·b as text, the largest index first."""
    text = ""
    for c, name in reversed(terms):
        negative = c.could_extract_minus_sign()
        size = formula_text(abs(c) if c.is_number else c)
        part = name if size == "1" else f"{size}·{name}"
        text += (f" - {part}" if negative else f" + {part}") if text else ("-" if negative else "") + part
    return text


def polynomial_text(
    e: sympy.Expr, generators: tuple[Generator, ...] = (), *, in_itself: bool = False, rising: bool = False
) -> str:
    """A polynomial in falling (or rising) powers as one line, constants in closed form."""
    common, body = sympy.S.One, e
    if e.is_Mul and not in_itself:
        common, sums = sympy.Mul(*(a for a in e.args if not a.is_Add)), [a for a in e.args if a.is_Add]
        body = sums[0] if len(sums) == 1 else e
        common = common if len(sums) == 1 else sympy.S.One
    order = [g.symbol for g in generators]

    def rank(term: sympy.Expr) -> tuple[int, ...]:
        powers = term.as_powers_dict()
        variables = [x, *order] if not in_itself else order
        free = variables or sorted(term.free_symbols, key=str)
        return tuple(int(powers.get(s, 0)) for s in free)

    terms = sorted(sympy.Add.make_args(body), key=rank, reverse=not rising)
    text = ""
    for term in terms:
        negative = term.could_extract_minus_sign()
        part = formula_text((-term if negative else term).xreplace(_MEANINGS))
        text += (f" - {part}" if negative else f" + {part}") if text else ("-" if negative else "") + part
    if common == 1:
        return text
    factor = formula_text(common.xreplace(_MEANINGS))
    return f"{factor}·({text})" if len(terms) > 1 else f"{factor}·{text}"
