"""Where factors meet: the rules for products of atoms."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy

from .errors import Unsupported
from .polynomials import (
    MAX_TERMS,
    UNIT,
    ZERO,
    Atom,
    Coefficient,
    Exponent,
    Mono,
    Poly,
    as_whole,
    atom,
    is_boolean,
    is_natural,
    is_positive,
    total,
    without,
)

#: atom kind -> rule in which such a factor changes the others (further ones are registered in :mod:`.sums`).
RULES: dict[str, Callable[[Atom, dict[Atom, Exponent]], Poly | None]] = {}


@lru_cache(maxsize=200_000)
def _product_of(m: Mono[Any], n: Mono[Any]) -> Poly:
    return times_monomial(dict(m), n)


def monomial_product(m: Mono[Any], n: Mono[Any], c: Fraction | int = 1) -> Poly:
    """Product of two monomials, normalised."""
    if not m or not n:
        return Poly({m or n: c})
    return _product_of(m, n).scaled(c)


def of_atom(a: Atom, e: Exponent = 1) -> Poly:
    """A single atom to a power."""
    return monomial({a: e})


class Work:
    """A bound on the work of one normal form, counted in products: no input may make it run for minutes."""

    LIMIT = 60_000
    done = 0
    deadline = math.inf  # on the clock of time.process_time: a busy machine proves as much as an idle one

    @classmethod
    @contextmanager
    def until(cls, deadline: float) -> Iterator[None]:
        """Bound the time of the normal forms made in the block as well."""
        before, cls.deadline = cls.deadline, deadline
        try:
            yield
        finally:
            cls.deadline = before

    @classmethod
    def check(cls) -> None:
        """Raise Unsupported when the time is over."""
        if time.process_time() > cls.deadline:
            raise Unsupported("the proof takes too long")


def monomial(factors: Mapping[Atom, Exponent]) -> Poly:
    """Normalise a product of atoms: the one place where factors meet."""
    Work.done += 1
    if Work.done > Work.LIMIT:
        raise Unsupported(f"the normal form takes more than {Work.LIMIT} products")
    if Work.done % 64 == 0:
        Work.check()
    plain: dict[Atom, Exponent] = {}
    special: list[Atom] = []
    coefficient: Coefficient = 1
    expanded: list[Poly] = []
    for a, e in factors.items():
        if e == 0:
            continue
        if a.kind == "prime":
            whole = math.floor(e)
            coefficient *= Fraction(a.data[0]) ** whole
            if e != whole:
                plain[a] = as_whole(e - whole)
        elif a.kind == "power" and is_natural(e):
            expanded.append(natural_power(a.data[0], int(e)))
        elif a.kind == "function" and a.data[0] is sympy.cos and is_natural(e) and e >= 2:
            square = UNIT - of_atom(atom("function", sympy.sin, a.data[1]), 2)
            expanded += [square] * (e // 2)
            if e % 2:
                plain[a] = 1
        elif a.kind in ("delta", "tie", "above", "zero") or (is_boolean(a) and is_natural(e)):
            plain[a] = 1
            special.append(a)
        else:
            plain[a] = e
            if a.kind == "power" and e < 0:
                special.append(a)
    if special and (rewritten := _special_rules(plain, special)) is not None:
        result = rewritten
    else:
        result = Poly({frozenset(plain.items()): 1})
    for p in expanded:
        result = result * p
    return result.scaled(coefficient)


def natural_power(p: Poly, e: int) -> Poly:
    """p^e, expanded."""
    if len(p.terms) ** e > MAX_TERMS * 16:
        raise Unsupported(f"a sum of {len(p.terms)} terms to the power {e} is too large to expand")
    if e <= 1:
        return p if e else UNIT
    half = natural_power(p, e // 2)
    return half * half * p if e % 2 else half * half


def _special_rules(factors: dict[Atom, Exponent], special: list[Atom]) -> Poly | None:
    """Rules in which one factor changes the others; None where none applies."""
    for a in special:
        rule = RULES.get(a.kind)
        if rule is not None and (result := rule(a, factors)) is not None:
            return result
    return _condition_rule(factors, [a for a in special if a.kind in ("above", "zero")])


@lru_cache(maxsize=4096)
def _ends(u: Poly) -> tuple[Atom, Mono[Any], Mono[Any]] | None:
    """An exponential E in which u is a polynomial whose highest and lowest terms are products of exponentials.

    Exponentials are units, so E's degree in a numerator of u^(−e) can always be brought between those of the two terms.
    """
    for d in sorted({b for m in u.terms for b, _ in m if b.kind == "exp" and b.free == u.free}, key=lambda b: b.key):
        degrees: dict[Exponent, list[Mono[Any]]] = {}
        for m in u.terms:
            degrees.setdefault(dict(m).get(d, 0), []).append(m)
        top, low = degrees[max(degrees)], degrees[min(degrees)]
        if len(top) == len(low) == 1 and min(degrees) == 0 and all(b.kind == "exp" for b, _ in (*top[0], *low[0])):
            return d, top[0], low[0]
    return None


@lru_cache(maxsize=4096)
def _leading(u: Poly) -> Mono[Any] | None:
    """The lexicographically first term of a power's base, if it carries all of the base's axes and no sums.

    A proper monomial order (atoms with most axes first), so that replacing the term by smaller ones comes to an end.
    """
    kinds = ("input", "named", "exp", "symbol", "function")
    atoms = sorted({a for m in u.terms for a, _ in m}, key=lambda a: (-len(a.free), a.key))
    lead = max(u.terms, key=lambda m: tuple(dict(m).get(a, 0) for a in atoms))
    carries = frozenset().union(*(a.free for a, _ in lead)) == u.free
    return lead if lead and carries and all(a.kind in kinds and e > 0 for a, e in lead) else None


def _leading_term_rule(a: Atom, factors: dict[Atom, Exponent]) -> Poly | None:
    """L·u^(−e) = (u − rest)·u^(−e)/l for the leading term l·L of u."""
    ends = _ends(a.data[0])
    if ends is not None:
        d, top, low = ends
        degree = factors.get(d, 0)
        term = top if degree >= dict(top).get(d, 0) else low if degree < 0 else None
    else:
        lead = _leading(a.data[0])
        term = lead if lead is not None and all(factors.get(b, 0) >= e for b, e in lead) else None
    if term is None:
        return None
    reduced = dict(factors)
    for b, e in term:
        reduced[b] = as_whole(reduced.get(b, 0) - e)
    rest = Poly({m: v for m, v in a.data[0].terms.items() if m != term})
    raised = {**reduced, a: as_whole(reduced[a] + 1)}
    scale = Fraction(1) / a.data[0].terms[term]
    return total([monomial(raised), *(times_monomial(reduced, m).scaled(-v) for m, v in rest.terms.items())]).scaled(
        scale
    )


def times_monomial(factors: Mapping[Atom, Exponent], m: Mono[Any]) -> Poly:
    """A product that is normalised only when all factors are together."""
    merged = dict(factors)
    for b, e in m:
        merged[b] = as_whole(merged.get(b, 0) + e)
    return monomial(merged)


def _condition_rule(factors: dict[Atom, Exponent], conditions: list[Atom]) -> Poly | None:
    """Two conditions on quantities that differ by something of known sign merge, or exclude each other."""
    for a, b in itertools.permutations(conditions, 2):
        difference = a.data[0] - b.data[0]
        if not difference:
            return ZERO  # [u > 0][u = 0]
        if is_positive(difference):  # a's quantity is the larger
            if b.kind == "above" or a.kind == "above":
                # b's > 0 or = 0 implies a's > 0; a's = 0 excludes b's > 0.
                return monomial(without(factors, a)) if a.kind == "above" else ZERO
            return ZERO
    return None


RULES["power"] = _leading_term_rule
