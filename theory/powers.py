"""Powers, exponentials, logarithms, other functions and conditions of polynomials."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import sympy

from .monomials import monomial, monomial_product, natural_power, of_atom
from .polynomials import (
    LEFT_OUT,
    UNIT,
    ZERO,
    Atom,
    Coefficient,
    Exponent,
    Mono,
    Poly,
    as_whole,
    atom,
    constant,
    is_boolean,
    is_idempotent,
    is_left_out,
    is_natural,
    is_positive,
    mono_key,
    never_positive,
    product,
    single,
    total,
)

MAX_CASES = 8


def by_cases(p: Poly, of: Callable[[Poly], Poly], *, booleans: bool = False) -> Poly | None:
    """A function of a polynomial with conditions in it is the cases of the function; None without conditions."""
    found = sorted(
        {a for m in p.terms for a, _ in m if a.kind in ("above", "zero") or (booleans and is_boolean(a))},
        key=lambda a: a.key,
    )
    if not found or len(found) > MAX_CASES:
        return None
    a = found[0]
    yes = Poly({})
    no = Poly({})
    for m, c in p.terms.items():
        if (a, 1) in m:
            yes = yes + Poly({m - {(a, 1)}: c})
        else:
            yes, no = yes + Poly({m: c}), no + Poly({m: c})
    if a.kind in ("above", "zero"):  # what the case says about the other conditions
        yes = _under(yes, a)
    return of_atom(a) * of(yes) + (UNIT - of_atom(a)) * of(no)


def _under(p: Poly, condition: Atom) -> Poly:
    """The polynomial where a condition holds: other conditions that it decides are put in, u = 0 is solved."""
    terms = [monomial_product(m, frozenset(((condition, 1),)), c) for m, c in p.terms.items()]
    stripped: dict[Mono[Any], Coefficient] = {}
    for t in terms:
        for m, c in t.terms.items():
            n = m - {(condition, 1)}
            stripped[n] = stripped.get(n, 0) + c
    return Poly({m: c for m, c in stripped.items() if c})


@lru_cache(maxsize=50_000)
def power(p: Poly, e: Exponent) -> Poly:
    """p^e for a rational exponent."""
    e = as_whole(e)
    if e == 0:
        return UNIT
    if e == 1:
        return p
    if not p:
        if e < 0:
            raise ZeroDivisionError("a power with a negative exponent of zero")
        return ZERO
    if len(p.terms) == 1:
        ((m, c),) = p.terms.items()
        if isinstance(e, int) and (e > 0 or not any(is_idempotent(a) for a, _ in m)):
            return monomial({a: as_whole(k * e) for a, k in m}).scaled(Fraction(c) ** e)
    if is_natural(e):
        return natural_power(p, int(e))
    cases = by_cases(p, lambda q: power(q, e))
    if cases is not None:
        return cases
    return _power_of_term(p, e) if len(p.terms) == 1 else _power_of_sum(p, e)


def _prime_power(c: Coefficient, e: Exponent) -> Poly:
    """c^e for c > 0, as a product of primes."""
    factors: dict[Atom, Exponent] = {}
    for n, sign in ((c.numerator, 1), (c.denominator, -1)):
        for p, k in sympy.factorint(n).items():
            factors[atom("prime", int(p))] = as_whole(e * k * sign)
    return monomial(factors)


def _power_of_term(p: Poly, e: Exponent) -> Poly:
    """(c·∏a^k)^e for e not natural."""
    ((m, c),) = p.terms.items()
    whole = isinstance(e, int)
    result = constant(Fraction(c) ** int(e)) if whole else _prime_power(-c if c < 0 else c, e)
    left: dict[Atom, Exponent] = {}
    for a, k in m:
        if not is_idempotent(a) and (whole or a.positive or isinstance(k, Fraction)):
            result = result * monomial({a: as_whole(k * e)})
        elif isinstance(k, int) and k % 2 == 0 and not is_idempotent(a):
            result = result * power(absolute(single(a)), as_whole(k * e))
        else:
            left[a] = k
    negative = not whole and c < 0
    if not left and not negative:
        return result
    if len(left) == 1 and not negative:
        ((a, k),) = left.items()
        if k == 1 and not is_idempotent(a):
            return result * monomial({a: e})
    return result * of_atom(atom("power", Poly({frozenset(left.items()): Fraction(-1 if negative else 1)})), e)


def absolute(p: Poly) -> Poly:
    """|p| = p·(2[p > 0] + [p = 0] − 1)."""
    return p * (above(p).scaled(2) + vanishing(p) - UNIT)


def content(p: Poly, *, positive_only: bool) -> tuple[Fraction, dict[Atom, Exponent]]:
    """The largest positive rational number and the powers of atoms that all terms share."""
    coefficients = list(p.terms.values())
    scale = Fraction(math.gcd(*(c.numerator for c in coefficients)), math.lcm(*(c.denominator for c in coefficients)))
    monos = [dict(m) for m in p.terms]
    shared = {}
    for a in set().union(*monos):
        if is_idempotent(a) or (positive_only and not a.positive):
            continue
        lowest = min(m.get(a, 0) for m in monos)
        if lowest:
            shared[a] = as_whole(lowest)
    return scale, shared


def _power_of_sum(p: Poly, e: Exponent) -> Poly:
    """u^e for u of several terms and e not natural: its content leaves, the rest is one atom."""
    scale, shared = content(p, positive_only=isinstance(e, Fraction))
    inverse = monomial({a: as_whole(-k) for a, k in shared.items()})
    rest = (p * inverse).scaled(Fraction(1) / scale) if shared else p.scaled(Fraction(1) / scale)
    outside = _prime_power(scale, e) * monomial({a: as_whole(k * e) for a, k in shared.items()})
    if len(rest.terms) == 1:
        return outside * power(rest, e)
    parts = factorise(rest)
    if len(parts) > 1 or parts[0][1] > 1:
        whole = isinstance(e, int)
        if whole or all(k % 2 == 0 or is_positive(f) for f, k in parts):
            return outside * product(
                power(f if whole or is_positive(f) else absolute(f), as_whole(e * k)) for f, k in parts
            )
    if isinstance(e, int) and rest.terms[max(rest.terms, key=mono_key)] < 0:
        rest, outside = -rest, outside.scaled(-1 if e % 2 else 1)
    return outside * of_atom(atom("power", rest), e)


@lru_cache(maxsize=20_000)
def factorise(p: Poly) -> list[tuple[Poly, int]]:
    """p = ∏ factor^multiplicity over the rationals, atoms as variables; [(p, 1)] where that cannot be told."""
    atoms = sorted({a for m in p.terms for a, _ in m}, key=lambda a: a.key)
    degrees = {a: [dict(m).get(a, 0) for m in p.terms] for a in atoms}
    if not atoms or any(e < 0 for es in degrees.values() for e in es) or len(p.terms) > 30:
        return [(p, 1)]
    if any(is_idempotent(a) for a in atoms):
        return [(p, 1)]
    step = {a: math.lcm(*(Fraction(e).denominator for e in es)) for a, es in degrees.items()}
    if any(step[a] > 1 and not a.positive for a in atoms) or any(
        e * step[a] > 16 for a, es in degrees.items() for e in es
    ):
        return [(p, 1)]
    context = flint.fmpq_mpoly_ctx.get([f"v{k}" for k in range(len(atoms))], "lex")
    body = context.from_dict(
        {
            tuple(int(dict(m).get(a, 0) * step[a]) for a in atoms): flint.fmpq(c.numerator, c.denominator)
            for m, c in p.terms.items()
        }
    )
    scale, factors = body.factor()
    if len(factors) == 1 and factors[0][1] == 1:
        return [(p, 1)]

    def back(f: Any) -> Poly:
        return total(
            monomial({a: as_whole(Fraction(int(k), step[a])) for a, k in zip(atoms, exponents) if k}).scaled(
                Fraction(int(c.p), int(c.q))
            )
            for exponents, c in f.to_dict().items()
        )

    found = [(back(f), int(k)) for f, k in factors]
    constant_part = Fraction(int(scale.p), int(scale.q))
    if constant_part != 1:
        odd = next((k for k, (_, n) in enumerate(found) if n == 1), None)
        if odd is None:
            return [(p, 1)] if constant_part < 0 else [*found, (constant(constant_part), 1)]
        found[odd] = (found[odd][0].scaled(constant_part), 1)
    return found


def _left_out_somewhere(p: Poly) -> bool:
    return any(a.kind == "symbol" and a.data[0] is LEFT_OUT for m in p.terms for a, _ in m)


@lru_cache(maxsize=20_000)
def exponential(p: Poly) -> Poly:
    """exp of a sum, as a product."""
    cases = by_cases(p, exponential, booleans=_left_out_somewhere(p))
    if cases is not None:
        return cases
    if is_left_out(p):
        return ZERO
    result = UNIT
    for m, c in p.terms.items():
        if len(m) == 1:
            ((a, e),) = m
            if e == 1 and a.kind == "function" and a.data[0] is sympy.log:
                result = result * power(a.data[1][0], as_whole(c))
                continue
        result = result * of_atom(atom("exp", m), as_whole(c))
    return result


@lru_cache(maxsize=20_000)
def logarithm(p: Poly) -> Poly:
    """Natural logarithm, taken apart where the factors are positive."""
    if not p:
        raise ZeroDivisionError("the logarithm of zero")
    cases = by_cases(p, logarithm)
    if cases is not None:
        return cases
    if len(p.terms) == 1:
        ((m, scale),) = p.terms.items()
        if scale == 1 and len(m) == 1:
            ((a, e),) = m
            if a.kind not in ("exp", "power") and e == 1:
                return single(atom("function", sympy.log, (p,)))
            if a.kind not in ("exp", "power") and (a.positive or (isinstance(e, int) and e % 2)):
                return logarithm(single(a)).scaled(Fraction(e))
        shared = {a: e for a, e in m if a.positive or isinstance(e, Fraction)}
        rest = monomial({a: e for a, e in m if a not in shared}).scaled(1 if scale > 0 else -1)
        scale = -scale if scale < 0 else scale
    else:
        scale, shared = content(p, positive_only=True)
        rest = (p * monomial({a: as_whole(-k) for a, k in shared.items()})).scaled(Fraction(1) / scale)
        if shared.keys() & content(rest, positive_only=True)[1].keys():
            # An idempotent beside the factor brings it back (b·(1 + b)⁻¹ times 1 + b): it does not leave, so it stays.
            shared, rest = {}, p.scaled(Fraction(1) / scale)
    parts = (
        [logarithm(rest)]
        if rest != p and rest != UNIT
        else []
        if rest == UNIT
        else [single(atom("function", sympy.log, (rest,)))]
    )
    for n, sign in ((scale.numerator, 1), (scale.denominator, -1)):
        for prime, k in sympy.factorint(n).items():
            parts.append(single(atom("function", sympy.log, (constant(int(prime)),))).scaled(k * sign))
    for a, e in shared.items():
        inner = (
            Poly({a.data[0]: Fraction(1)})
            if a.kind == "exp"
            else logarithm(a.data[0])
            if a.kind == "power"
            else logarithm(single(a))
        )
        parts.append(inner.scaled(Fraction(e)))
    return total(parts)


_ODD = {"erf", "atan", "asin", "sin"}
_EVEN = {"cos"}


@lru_cache(maxsize=20_000)
def function(head: Any, arguments: tuple[Poly, ...]) -> Poly:
    """Any other function: an atom, with the sign of the argument normalised for odd and even ones."""
    if head is sympy.log:
        return logarithm(arguments[0])
    for k, p in enumerate(arguments):

        def of(q: Poly, k: int = k) -> Poly:
            return function(head, (*arguments[:k], q, *arguments[k + 1 :]))

        cases = by_cases(p, of)
        if cases is not None:
            return cases
    name = getattr(head, "__name__", str(head))
    if name in _ODD | _EVEN and not arguments[0]:
        return UNIT if name in _EVEN else ZERO
    if name in _ODD | _EVEN and arguments[0].terms[max(arguments[0].terms, key=mono_key)] < 0:
        return function(head, (-arguments[0],)).scaled(-1 if name in _ODD else 1)
    return single(atom("function", head, arguments))


def _condition(p: Poly) -> tuple[Poly, int]:
    """A quantity up to a positive factor, with the sign of its leading term: what a condition is about."""
    _, shared = content(p, positive_only=True)
    if shared:
        p = p * monomial({a: as_whole(-k) for a, k in shared.items()})
    if len(p.terms) == 1:
        ((m, c),) = p.terms.items()
        p = monomial(
            {a: 1 if e % 2 else 2 for a, e in m if not a.positive and isinstance(e, int)}
            | {a: e for a, e in m if isinstance(e, Fraction)}
        ).scaled(c)
    unsigned = [m for m in p.terms if not all(a.positive for a, _ in m)] or list(p.terms)
    lead = p.terms[max(unsigned, key=mono_key)]
    return p.scaled(Fraction(1) / lead), 1 if lead > 0 else -1


@lru_cache(maxsize=20_000)
def above(p: Poly) -> Poly:
    """[p > 0]: 1 where it holds, else 0."""
    if not p or never_positive(p):
        return ZERO
    if is_positive(p):
        return UNIT
    cases = by_cases(p, above, booleans=True)
    if cases is not None:
        return cases
    if any(a.kind == "position" for m in p.terms for a, _ in m):
        return of_atom(atom("above", p))  # one condition under every renaming of its axes: its sign is not turned
    u, sign = _condition(p)
    a = of_atom(atom("above", u))
    return a if sign > 0 else UNIT - a - vanishing(u)


@lru_cache(maxsize=20_000)
def vanishing(p: Poly) -> Poly:
    """[p = 0]: 1 where it holds, else 0."""
    if not p:
        return UNIT
    if is_positive(p) or is_positive(-p):
        return ZERO
    cases = by_cases(p, vanishing, booleans=True)
    if cases is not None:
        return cases
    u, _ = _condition(p)
    if len(u.terms) == 1:
        ((m, _c),) = u.terms.items()
        u = monomial({a: 1 if isinstance(e, int) and e > 0 else e for a, e in m})
    return of_atom(atom("zero", u))
