"""Expressions on a half-line as quotients of polynomials in quantities that decay.

For x = ±a, a ≥ 0, every exponential is written through T = exp(−Q(a)) with Q ≥ 0, tanh and its kin through T, the error
function through 1 − T·X with X = exp(u²)·erfc(u), the logarithm of a sum through log1p of its decaying part, and where
nothing is exponential a through u = 1/a beyond 1. In the field of rational functions of these quantities the parts that
do not decay cancel exactly, by algebra: nothing is left that overflows, and most of what would cancel in floats is
gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy
from sympy import QQ, Expr, Integer
from sympy.polys.fields import FracElement, field
from sympy.polys.orderings import lex

from .enclosures import enclose
from .sign_changes import sign_on

#: |x|, and 1/|x| beyond 1.
a = sympy.Symbol("a", real=True, positive=True)
u = sympy.Symbol("u", real=True, positive=True)

#: All of the half-line.
WHOLE: tuple[Expr, Expr] = (Integer(0), sympy.oo)

Terms = dict[int, Expr]  # degree -> exact coefficient of a polynomial in a


class NotDecaying(Exception):  # noqa: N818  (an answer, not a fault)
    """The expression is outside this normal form."""


@dataclass
class Exponential:
    """T = exp(−Q(a)), Q = Σ terms[d]·a**d ≥ 0: with positive coefficients, or on the span of its :class:`HalfLine`."""

    terms: Terms
    symbol: sympy.Symbol
    #: where Q may be negative beyond: the end of the span
    end: Expr | None = None

    @property
    def definition(self) -> Expr:
        """T as an expression in a."""
        return sympy.exp(-_from_terms(self.terms))


def terms_of(e: Expr) -> Terms:
    """Coefficients of a polynomial in a; raises :class:`NotDecaying` for anything else."""
    try:
        poly = sympy.Poly(sympy.expand(e), a)
    except sympy.PolynomialError:
        raise NotDecaying(str(e)) from None
    if not all(c.is_number for c in poly.coeffs()):
        raise NotDecaying(str(e))
    return {degree: c for (degree,), c in poly.terms()}


def _from_terms(terms: Terms) -> Expr:
    return sympy.Add(*(c * a**d for d, c in terms.items()))


def sign_of_all(terms: Iterable[Expr]) -> int:
    """+1 or −1 if all these exact constants have that sign, else 0."""
    signs = {1 if c.is_positive else -1 if c.is_negative else _sign(c) for c in terms}
    return signs.pop() if len(signs) == 1 else 0


def _sign(c: Expr) -> int:
    ball = enclose(c, {}, digits=20)
    return 1 if ball > 0 else -1 if ball < 0 else 0


class HalfLine:
    """The field of quotients for some expressions in ``a`` (already substituted for x), and their elements in it.

    ``far`` writes a = 1/u and refuses exponentials. ``span`` is where a lies, for exponents that change their sign
    elsewhere. Raises :class:`NotDecaying` where an expression does not fit.
    """

    def __init__(
        self,
        expressions: Iterable[Expr],
        *,
        far: bool = False,
        logarithms: Iterable[Expr] = (),
        span: tuple[Expr, Expr] = WHOLE,
    ) -> None:
        self.far, self.span = far, span
        self.exponentials: list[Exponential] = []
        self.scaled: dict[Expr, sympy.Symbol] = {}  # u -> X, of u(a) > 0
        self.logs: dict[Expr, sympy.Symbol] = {}  # w -> L, the log1p in log(w)
        self.roots: dict[Expr, sympy.Symbol] = {}  # P -> S = sqrt(P(a)), or sqrt(u**d·P(1/u)) where far
        self.atoms: dict[Expr, sympy.Symbol] = {}  # anything else in a, kept as it is
        self.constants: dict[Expr, sympy.Symbol] = {}
        self._exponents: list[Terms] = []
        expressions = list(expressions)
        for e in (*expressions, *logarithms):
            self._collect(e)
        self._group_exponents()
        self.base = u if far else a
        self.generators = [
            *self.roots.values(), *(t.symbol for t in self.exponentials), *self.scaled.values(), *self.logs.values(),
            *self.atoms.values(), self.base, *self.constants.values(),
        ]  # fmt: skip
        self.field, *generators = field(self.generators, QQ, lex)
        self.element_of = dict(zip(self.generators, generators, strict=True))
        self.increments: dict[sympy.Symbol, FracElement] = {}  # L -> V, L = log1p(V)
        self._elements: dict[Expr, FracElement] = {}

    # ------------------------------------------------------------------------------------------------------- collecting

    def _collect(self, e: Expr) -> None:
        if e.is_number:
            self._collect_constant(e)
        elif e == a:
            return
        elif isinstance(e, (sympy.Add, sympy.Mul)):
            for argument in e.args:
                self._collect(argument)
        elif isinstance(e, sympy.Pow) and e.base != sympy.E:
            self._collect_power(e)
        elif isinstance(e, (sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh)):
            self._collect_exponent(e.args[0] * (2 if isinstance(e, sympy.tanh) else 1))
        elif isinstance(e, (sympy.erf, sympy.erfc)):
            self._collect_error_function(e)
        elif isinstance(e, sympy.log):
            self._collect(e.args[0])
            self._name(self.logs, e.args[0], "L")
            if self.far:
                self._name(self.atoms, sympy.log(a), "A")
        elif e.has(sympy.Piecewise):
            raise NotDecaying(str(e))
        else:
            self._name(self.atoms, e, "A")

    def _collect_power(self, e: Expr) -> None:
        base, exponent = e.args
        if exponent.is_Integer:
            self._collect(base)
        elif exponent.is_Rational and exponent.q == 2 and base.is_polynomial(a):
            terms = terms_of(base)
            if self.far and max(terms) % 2:
                raise NotDecaying(str(e))
            for c in terms.values():
                self._collect_constant(c)
            self._name(self.roots, base, "S")
        else:
            self._name(self.atoms, e, "A")

    def _collect_exponent(self, exponent: Expr) -> None:
        if self.far:
            raise NotDecaying("an exponential")
        logs, polynomial = split_exponent(exponent)
        for w, _ in logs:
            self._collect(w)
        constant = polynomial.pop(0, Integer(0))
        if constant != 0:
            self._collect_constant(sympy.exp(constant))
        if polynomial:
            self._exponents.append(polynomial)

    def _collect_error_function(self, e: Expr) -> None:
        terms = terms_of(e.args[0])
        if self.far or 0 in terms or not self._sign_of(terms):
            raise NotDecaying(str(e))
        argument = e.args[0] * self._sign_of(terms)
        self._name(self.scaled, sympy.expand(argument), "X")
        self._exponents.append(terms_of(argument**2))

    def _sign_of(self, terms: Terms) -> int:
        return sign_of_all(terms.values()) or sign_on(terms, self.span)

    def _collect_constant(self, c: Expr) -> None:
        if c.is_Rational:
            return
        if isinstance(c, (sympy.Add, sympy.Mul)):
            for part in c.args:
                self._collect_constant(part)
        elif isinstance(c, sympy.Pow) and c.exp.is_Integer:
            self._collect_constant(c.base)
        else:
            self._name(self.constants, _constant_root(c)[0], "K")

    def _name(self, table: dict[Expr, sympy.Symbol], e: Expr, letter: str) -> None:
        if e not in table:
            table[e] = sympy.Symbol(f"{letter}{len(table)}", real=True)

    def _group_exponents(self) -> None:
        """One T for each family of exponents that are rational multiples of one another."""
        families: list[tuple[Terms, list[Expr]]] = []
        for terms in self._exponents:
            for known, ratios in families:
                ratio = _ratio(terms, known)
                if ratio is not None:
                    ratios.append(ratio)
                    break
            else:
                families.append((terms, [Integer(1)]))
        for known, ratios in families:
            everywhere = sign_of_all(known.values())
            sign = everywhere or sign_on(known, self.span)
            if not sign:
                raise NotDecaying("an exponent that changes its sign")
            unit = reduce(sympy.gcd, (abs(r) for r in ratios))
            terms, symbol = {d: c * sign * unit for d, c in known.items()}, sympy.Symbol(f"T{len(self.exponentials)}")
            end = None if everywhere else self.span[1]
            self.exponentials.append(Exponential(terms, symbol, end))

    # ------------------------------------------------------------------------------------------------------- converting

    def element(self, e: Expr) -> FracElement:
        """``e`` as a reduced quotient of polynomials."""
        if e not in self._elements:
            self._elements[e] = self._element(e)
        return self._elements[e]

    def reduced(self, e: Expr) -> FracElement:
        """The element with squares of roots replaced by their radicands in the numerator."""
        result = self.element(e)
        for radicand, symbol in self.roots.items():
            square = self.radicand(radicand)
            if square.denom == 1:
                root = self.element_of[symbol].numer
                numerator = result.numer.rem([root**2 - square.numer])
                result = self.field.new(numerator, result.denom)
        return result

    def _element(self, e: Expr) -> Any:
        if e.is_number:
            return self._constant(e)
        if e == a:
            return 1 / self.element_of[u] if self.far else self.element_of[a]
        match e:
            case sympy.Add():
                return sum((self.element(t) for t in e.args), self.field.zero)
            case sympy.Mul():
                return reduce(lambda p, q: p * q, (self.element(t) for t in e.args))
            case sympy.Pow() if e.base != sympy.E and e.exp.is_Integer:
                return self.element(e.base) ** int(e.exp)
            case sympy.Pow() if e.base in self.roots:
                return self._root(e.base) ** int(2 * e.exp)
            case sympy.exp():
                return self._exponential(e.args[0])
            case sympy.tanh():
                square = self._exponential(2 * e.args[0])
                return (square - 1) / (square + 1)
            case sympy.sinh() | sympy.cosh():
                up = self._exponential(e.args[0])
                return (up + 1 / up) / 2 if isinstance(e, sympy.cosh) else (up - 1 / up) / 2
            case sympy.erf() | sympy.erfc():
                return self._error_function(e)
            case sympy.log():
                return self._logarithm(e.args[0])
        return self.element_of[self.atoms[e]]

    def _root(self, radicand: Expr) -> FracElement:
        symbol = self.element_of[self.roots[radicand]]
        if not self.far:
            return symbol
        return symbol / self.element_of[u] ** (max(terms_of(radicand)) // 2)

    def radicand(self, radicand: Expr) -> FracElement:
        """S² as an element."""
        plain = self.element(radicand)
        return plain * self.element_of[u] ** max(terms_of(radicand)) if self.far else plain

    def radicand_terms(self, radicand: Expr) -> Terms:
        """The polynomial under S, by degree in a (or in u where far)."""
        terms = terms_of(radicand)
        return {max(terms) - d: c for d, c in terms.items()} if self.far else terms

    def _constant(self, c: Expr) -> Any:
        if c.is_Rational:
            return self.field(QQ(int(c.p), int(c.q)))
        if isinstance(c, sympy.Add):
            return sum((self._constant(t) for t in c.args), self.field.zero)
        if isinstance(c, sympy.Mul):
            return reduce(lambda p, q: p * q, (self._constant(t) for t in c.args))
        if isinstance(c, sympy.Pow) and c.exp.is_Integer:
            return self._constant(c.base) ** int(c.exp)
        root, power = _constant_root(c)
        if root not in self.constants:
            raise _Unforeseen(c)
        return self.element_of[self.constants[root]] ** power

    def _exponential(self, exponent: Expr) -> Any:
        logs, polynomial = split_exponent(exponent)
        constant = polynomial.pop(0, Integer(0))
        result = self._constant(sympy.exp(constant)) if constant != 0 else self.field.one
        for w, power in logs:
            result *= self.element(w) ** power
        if not polynomial:
            return result
        for exponential in self.exponentials:
            ratio = _ratio(polynomial, exponential.terms)
            if ratio is not None and ratio.is_Integer:
                return result * self.element_of[exponential.symbol] ** -int(ratio)
        raise NotDecaying(str(exponent))

    def _error_function(self, e: Expr) -> Any:
        sign = self._sign_of(terms_of(e.args[0]))
        argument = sympy.expand(e.args[0] * sign)
        tail = self._exponential(-(argument**2)) * self.element_of[self.scaled[argument]]
        if isinstance(e, sympy.erf):
            return sign * (1 - tail)
        return tail if sign > 0 else 2 - tail

    def _logarithm(self, w: Expr) -> Any:
        """log w = k·log T + log c + log1p(V): the dominant term of w taken out."""
        symbol = self.logs[w]
        element = self.element(w)
        decaying = [self.element_of[t.symbol] for t in self.exponentials] or [self.element_of[self.base]]
        result, numerator = self._dominant(element.numer, decaying)
        below, denominator = self._dominant(element.denom, decaying)
        result -= below
        if denominator == 1:
            increment, sign = numerator - 1, 1
        elif numerator == 1:
            increment, sign = denominator - 1, -1
        else:
            increment, sign = numerator / denominator - 1, 1
        self.increments[symbol] = increment
        return result + sign * self.element_of[symbol]

    def _dominant(self, polynomial: Any, decaying: list[Any]) -> tuple[Any, Any]:
        """(log of the dominant term as an element, polynomial divided by that term)."""
        element = self.field.new(polynomial, polynomial.ring.one)
        log_of_term = self.field.zero
        for generator in decaying:
            index = self.field.gens.index(generator)
            least = min(monomial[index] for monomial in polynomial.monoms())
            if least:
                element = element / generator**least
                log_of_term += least * self._log_generator(index)
        indices = [self.field.gens.index(g) for g in decaying]
        leading = [(m, c) for m, c in element.numer.terms() if all(m[i] == 0 for i in indices)]
        fixed = [self.field.gens.index(self.element_of[s]) for s in self.constants.values()]
        if len(leading) != 1 or any(p for i, p in enumerate(leading[0][0]) if i not in fixed):
            raise NotDecaying("a logarithm without one dominant constant")
        monomial, coefficient = leading[0]
        constant = sympy.Rational(int(coefficient.numerator), int(coefficient.denominator))
        for root, symbol in self.constants.items():
            constant *= root ** monomial[self.field.gens.index(self.element_of[symbol])]
        if constant.is_positive is not True:
            raise NotDecaying("the logarithm of a negative number")
        if constant != 1:
            log_of_term += self._constant(sympy.log(constant))
        return log_of_term, element / self._constant(constant)

    def _log_generator(self, index: int) -> Any:
        symbol = self.generators[index]
        if symbol in (a, u):
            if sympy.log(a) not in self.atoms:
                raise NotDecaying("log(0)")
            return (1 if symbol == a else -1) * self.element_of[self.atoms[sympy.log(a)]]
        terms = next(t.terms for t in self.exponentials if t.symbol == symbol)
        return -sum((self._constant(c) * self.element_of[a] ** d for d, c in terms.items()), self.field.zero)

    # ------------------------------------------------------------------------------------------------------ definitions

    def definitions(self) -> dict[sympy.Symbol, Expr]:
        """Every generator as an expression in a."""
        found: dict[sympy.Symbol, Expr] = {u: 1 / a}
        found |= {t.symbol: t.definition for t in self.exponentials}
        found |= {symbol: sympy.exp(v**2) * sympy.erfc(v) for v, symbol in self.scaled.items()}
        found |= {symbol: root for root, symbol in self.constants.items()}
        found |= {symbol: e for e, symbol in self.atoms.items()}
        for radicand, symbol in self.roots.items():
            scale = a ** -(max(terms_of(radicand)) // 2) if self.far else Integer(1)
            found[symbol] = sympy.sqrt(radicand) * scale
        for symbol, increment in self.increments.items():
            found[symbol] = sympy.log(1 + increment.as_expr().xreplace(found))
        return found


class _Unforeseen(NotDecaying):
    """A constant that appeared only while converting (the logarithm of a dominant coefficient)."""


def half_line(expressions: Iterable[Expr], *, far: bool = False, span: tuple[Expr, Expr] = WHOLE) -> HalfLine:
    """The field in which all of ``expressions`` (in a) have an element; raises :class:`NotDecaying`."""
    expressions = list(expressions)
    constants: list[Expr] = []
    for _ in range(8):
        line = HalfLine(expressions, far=far, logarithms=constants, span=span)
        try:
            for e in expressions:
                line.reduced(e)
        except _Unforeseen as found:
            constants.append(found.args[0])
        else:
            return line
    raise NotDecaying("constants without end")


def lasting_part(e: Expr, border: Expr, gone: int) -> Expr | None:
    """``e`` without what decays: exponentials below e⁻ᵍᵒⁿᵉ beyond ``border`` are 0, tanh and erf ±1.

    None where something grows exponentially, or decays too slowly for that, or nothing decays.

    >>> lasting_part(a / (1 + sympy.exp(-a) + a**2), Integer(2) ** 32, 1000)
    a/(a**2 + 1)
    """
    ends: dict[Expr, Expr] = {}
    for f in e.atoms(sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh, sympy.erf, sympy.erfc):
        if not f.has(a):
            continue
        try:
            terms = terms_of(f.args[0])
        except NotDecaying:
            return None
        sign, size = _sign(terms[max(terms)]), _least_beyond(terms, border)
        if size < gone:
            return None
        if isinstance(f, (sympy.sinh, sympy.cosh)) or (isinstance(f, sympy.exp) and sign > 0):
            return None
        ends[f] = {sympy.exp: Integer(0), sympy.erfc: Integer(1 - sign)}.get(type(f), Integer(sign))
    return e.xreplace(ends) if ends else None


def _least_beyond(terms: Terms, border: Expr) -> float:
    """A bound of |Σ c·aᵈ| for a ≥ border ≥ 1, by its leading term and the others; 0 where they may cancel it."""
    top = max(terms)
    if top == 0:
        return 0.0
    with_others = abs(terms[top]) - sum(abs(c) for d, c in terms.items() if d < top) / border
    least = enclose(with_others * border, {}, digits=20)  # aᵈ ≥ border·aᵈ⁻¹ ≥ border
    return float(least.lower()) if least > 0 else 0.0


def span_of(left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """Where a = |x| lies for left < x < right."""
    if left >= 0:
        return left, right
    return (-right, -left) if right <= 0 else (Integer(0), sympy.Max(-left, right))


def split_exponent(exponent: Expr) -> tuple[list[tuple[Expr, int]], Terms]:
    """Σ k·log(w) + polynomial: ([(w, k)], polynomial)."""
    logs: list[tuple[Expr, int]] = []
    rest: list[Expr] = []
    for term in sympy.Add.make_args(sympy.expand(exponent)):
        coefficient, inner = term.as_coeff_Mul()
        if isinstance(inner, sympy.log) and inner.has(a):
            if not coefficient.is_Integer:
                raise NotDecaying(str(term))
            logs.append((inner.args[0], int(coefficient)))
        else:
            rest.append(term)
    return logs, {d: c for d, c in terms_of(sympy.Add(*rest)).items() if c != 0}


def _ratio(terms: Terms, known: Terms) -> Expr | None:
    """The rational r with terms = r·known, or None."""
    if set(terms) != set(known):
        return None
    ratios = {sympy.cancel(terms[d] / known[d]) for d in terms}
    ratio = ratios.pop()
    return ratio if not ratios and ratio.is_Rational else None


def _constant_root(c: Expr) -> tuple[Expr, int]:
    """(r, k) with c = r**k, so that √π and π are powers of one generator."""
    if c == sympy.pi:
        return sympy.sqrt(sympy.pi), 2
    if isinstance(c, sympy.Pow) and c.exp.is_Rational and c.exp.q == 2 and c.exp.p != 1:
        return sympy.sqrt(c.base), int(c.exp.p)
    if isinstance(c, sympy.exp) and c.args[0].is_Rational:
        return sympy.exp(sympy.Rational(1, c.args[0].q)), int(c.args[0].p)
    if not c.is_finite or c.has(sympy.I, sympy.Float):
        raise NotDecaying(f"the constant {str(c)[:60]}")
    return c, 1
