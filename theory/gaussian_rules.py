r"""Closed forms of ∫ h(x) N(x; 0, q) dx by rule, never by SymPy's ``integrate``.

``h`` is expanded into terms  c · x^m · e^{αx² + βx + γ} · ∏ erf(c_i x + d_i)  on each smooth piece.

1. The exponential tilts the density: N(0, q)·e^{αx²+βx} is a multiple of another normal density N(μ, v).
2. Stein's identity lowers the power:  E[(x−μ)G] = v·E[G′] − v·[G·density] at the ends of the piece.
3. What is left has m = 0 and none, one or two error functions: Φ at the ends;  E erf(cx+d) = erf((cμ+d)/√(1+2c²v));
   E erf(c₁x)erf(c₂x) = (2/π)·asin(2c₁c₂v/√((1+2c₁²v)(1+2c₂²v)));  half lines by symmetry or (1/π)·atan(c√(2v)).

A closed form from here is a candidate: :mod:`.gaussian` states it only when the proven enclosure agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import sympy
from sympy import Expr, I, Integer, erf, exp, oo, pi, sqrt

from .constants import is_zero, sign_of
from .pieces import Piece
from .symbols import x

MAX_TERMS = 120
MAX_POWER = 24


class NoRuleError(Exception):
    """No closed form by these rules (internal: callers then rely on the enclosure alone)."""


@dataclass(frozen=True)
class Term:
    """coefficient · x^power · e^{quadratic·x² + linear·x} · ∏ erf(c x + d)."""

    coefficient: Expr
    power: int = 0
    quadratic: Expr = sympy.S.Zero
    linear: Expr = sympy.S.Zero
    errors: tuple[tuple[Expr, Expr], ...] = ()


def terms_of(expr: Expr) -> list[Term]:
    """Expand ``expr`` into :class:`Term`; raises :class:`NoRuleError` for what is not of that form."""
    if expr.has(sympy.tanh, sympy.log, sympy.atan, sympy.asin, sympy.acos, sympy.tan):
        raise NoRuleError
    plain = expr.replace(sympy.erfc, lambda u: 1 - erf(u))
    plain = plain.replace(sympy.sinh, lambda u: (exp(u) - exp(-u)) / 2)
    plain = plain.replace(sympy.cosh, lambda u: (exp(u) + exp(-u)) / 2)
    plain = plain.replace(sympy.sin, lambda u: (exp(I * u) - exp(-I * u)) / (2 * I))
    plain = plain.replace(sympy.cos, lambda u: (exp(I * u) + exp(-I * u)) / 2)
    expanded = sympy.expand(plain, power_exp=False, log=False, func=False, trig=False, complex=False)
    parts = sympy.Add.make_args(expanded)
    if len(parts) > MAX_TERMS:
        raise NoRuleError
    return [_term(p) for p in parts if p != 0]


def _term(product: Expr) -> Term:
    coefficient, power, quadratic, linear = sympy.S.One, 0, sympy.S.Zero, sympy.S.Zero
    errors: list[tuple[Expr, Expr]] = []
    for factor in sympy.Mul.make_args(product):
        if not factor.has(x):
            coefficient *= factor
            continue
        base, exponent = factor.as_base_exp() if not isinstance(factor, exp) else (factor, sympy.S.One)
        if base == x and exponent.is_Integer and 0 < exponent <= MAX_POWER:
            power += int(exponent)
        elif isinstance(base, exp) and exponent == 1:
            a, b, c = _quadratic(base.args[0])
            quadratic, linear, coefficient = quadratic + a, linear + b, coefficient * exp(c)
        elif isinstance(base, erf) and exponent.is_Integer and 0 < exponent <= 4:
            a, b, c = _quadratic(base.args[0])
            if a != 0:
                raise NoRuleError
            errors += [(b, c)] * int(exponent)
        else:
            raise NoRuleError
    return Term(coefficient, power, quadratic, linear, tuple(sorted(errors, key=str)))


def _quadratic(argument: Expr) -> tuple[Expr, Expr, Expr]:
    poly = sympy.expand(argument).as_poly(x)
    if poly is None or poly.degree() > 2:
        raise NoRuleError
    a, b, c = (poly.coeff_monomial(x**k) for k in (2, 1, 0))
    return a, b, c


def _positive(value: Expr) -> bool:
    if value.free_symbols:
        return bool(value.is_positive)
    return sign_of(value) == 1


def _zero(value: Expr) -> bool:
    return value == 0 if value.free_symbols or value.has(I) else is_zero(value)


@lru_cache(maxsize=4096)
def integral(term: Term, mean: Expr, variance: Expr, left: Expr, right: Expr) -> Expr:
    """∫_left^right of the term against the density N(mean, variance); :class:`NoRuleError` where no rule applies."""
    if term.quadratic != 0 or term.linear != 0:
        return _tilted(term, mean, variance, left, right)
    if term.power == 0:
        return term.coefficient * _base(term.errors, mean, variance, left, right)
    lower = Term(sympy.S.One, term.power - 1, errors=term.errors)
    total = mean * integral(lower, mean, variance, left, right)
    for part in _derivative(lower):
        total += variance * integral(part, mean, variance, left, right)
    for end, side in ((left, 1), (right, -1)):
        if end not in (-oo, oo):
            total += side * variance * _value(lower, end) * _density(end, mean, variance)
    return term.coefficient * total


def _tilted(term: Term, mean: Expr, variance: Expr, left: Expr, right: Expr) -> Expr:
    """N(mean, variance)·e^{αx²+βx} = factor·N(mean′, variance′)."""
    shrink = 1 - 2 * term.quadratic * variance
    if not _positive(shrink):
        raise NoRuleError
    new_variance = variance / shrink
    new_mean = sympy.expand(new_variance * (mean / variance + term.linear))
    exponent = sympy.expand(new_mean**2 / (2 * new_variance) - mean**2 / (2 * variance))
    factor = exp(exponent) / sqrt(shrink)
    plain = Term(sympy.S.One, term.power, errors=term.errors)
    return term.coefficient * factor * integral(plain, new_mean, new_variance, left, right)


def _derivative(term: Term) -> list[Term]:
    """d/dx of x^m ∏ erf(c x + d), as terms."""
    found = []
    if term.power:
        found.append(Term(Integer(term.power), term.power - 1, errors=term.errors))
    for i, (c, d) in enumerate(term.errors):
        others = term.errors[:i] + term.errors[i + 1 :]
        scale = 2 * c / sqrt(pi) * exp(-(d**2))
        found.append(Term(scale, term.power, -(c**2), -2 * c * d, others))
    return found


def _value(term: Term, point: Expr) -> Expr:
    return point**term.power * sympy.Mul(*(erf(c * point + d) for c, d in term.errors))


def _density(point: Expr, mean: Expr, variance: Expr) -> Expr:
    return exp(sympy.expand(-((point - mean) ** 2) / (2 * variance))) / sqrt(2 * pi * variance)


def _base(errors: tuple[tuple[Expr, Expr], ...], mean: Expr, variance: Expr, left: Expr, right: Expr) -> Expr:
    if not errors:
        return _probability(mean, variance, left, right)
    whole = left == -oo and right == oo
    centred = all(_zero(c * mean + d) for c, d in errors)
    if whole and len(errors) == 1:
        (c, d) = errors[0]
        return erf((c * mean + d) / sqrt(1 + 2 * c**2 * variance))
    if not centred:
        raise NoRuleError
    if whole:
        if len(errors) % 2:
            return sympy.S.Zero
        return _two_errors(errors, variance)
    half = 1 if (_zero(left - mean) if left != -oo else False) and right == oo else 0
    half = -1 if left == -oo and right != oo and _zero(right - mean) else half
    if half == 0:
        raise NoRuleError
    if len(errors) == 1:
        return half * sympy.atan(errors[0][0] * sqrt(2 * variance)) / pi
    return _two_errors(errors, variance) / 2


def _two_errors(errors: tuple[tuple[Expr, Expr], ...], variance: Expr) -> Expr:
    if len(errors) != 2:
        raise NoRuleError
    (c, _), (d, _) = errors
    ratio = 2 * c * d * variance / sqrt((1 + 2 * c**2 * variance) * (1 + 2 * d**2 * variance))
    return 2 / pi * sympy.asin(sympy.sqrtdenest(ratio))


def _probability(mean: Expr, variance: Expr, left: Expr, right: Expr) -> Expr:
    if left == -oo and right == oo:
        return sympy.S.One
    if mean.has(I):
        raise NoRuleError
    scale = sqrt(2 * variance)
    low: Expr = (left - mean) / scale if left != -oo else None
    high: Expr = (right - mean) / scale if right != oo else None
    if low is None or high is None:
        return _half_line(-high if low is None else low)
    return (erf(high) - erf(low)) / 2


def _half_line(start: Expr) -> Expr:
    return sympy.erfc(start) / 2 if start != 0 else sympy.Rational(1, 2)


def expectation(parts: tuple[Piece, ...], power: int, variance: Expr) -> Expr | None:
    """Closed form of E[h(x)^power], x ~ N(0, variance), h given on pieces; None where no rule applies."""
    if power % 2 and is_odd(parts):
        return sympy.S.Zero
    total = sympy.S.Zero
    try:
        for piece in parts:
            for term in terms_of(piece.expr**power):
                total += integral(term, sympy.S.Zero, variance, piece.left, piece.right)
    except NoRuleError:
        return None
    return tidy(total)


def is_odd(parts: tuple[Piece, ...]) -> bool:
    """Whether h(−x) = −h(x) is proven by expanding it piece by piece (False: not proven)."""
    for piece, mirror in zip(parts, reversed(parts), strict=True):
        if not _zero_sum(piece.left, mirror.right):
            return False
        total = piece.expr + mirror.expr.subs(x, -x)
        if total != 0 and (total.count_ops() > 200 or sympy.expand(total) != 0):
            return False
    return True


def _zero_sum(left: Expr, right: Expr) -> bool:
    return left == -right or (left.is_finite and right.is_finite and is_zero(left + right))


def tidy(value: Expr) -> Expr:
    """Expand, collect equal transcendental factors, and write a − a·erf(k) as a·erfc(k); bounded work, no ``simplify``.

    SymPy's ``collect`` is not used: over exp(−1/2) it turned √2 into exp(1/(2·log 2)) and changed the value.
    """
    if value.count_ops() > 3_000:
        return value
    value = value.replace(sympy.erfc, lambda u: 1 - erf(u))
    value = sympy.expand(value, power_exp=False, log=False)
    groups: dict[Expr, dict[Expr, Expr]] = {}
    for term in sympy.Add.make_args(value):
        factors = sympy.Mul.make_args(term)
        outer = sympy.Mul(*(f for f in factors if isinstance(f, exp) or f.free_symbols))
        inner = sympy.Mul(*(f for f in factors if not f.free_symbols and f.has(erf)))
        plain = sympy.Mul(*(f for f in factors if not (isinstance(f, exp) or f.free_symbols or f.has(erf))))
        group = groups.setdefault(outer, {})
        group[inner] = group.get(inner, sympy.S.Zero) + plain
    return sympy.Add(*(outer * part for outer, group in groups.items() for part in _with_erfc(group)))


def _with_erfc(group: dict[Expr, Expr]) -> list[Expr]:
    """The terms a + b·erf(k) + …, with a·erfc(k) wherever b = −a."""
    constant = group.pop(sympy.S.One, sympy.S.Zero)
    found = []
    for inner, b in group.items():
        if constant != 0 and isinstance(inner, erf) and b == -constant:
            found.append(constant * sympy.erfc(inner.args[0]))
            constant = sympy.S.Zero
        else:
            found.append(b * inner)
    return [constant, *found]
