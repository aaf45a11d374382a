"""The normal form: sums of monomials, rational coefficient × ∏ atom^exponent, with the rewrite rules that make it one.

Atoms are interned, so equal atoms are one object. Every constructor below returns an already normalised
:class:`Poly`; two polynomials are equal when their ``terms`` are. The rules (each tested at random exact points):

=================  ==================================================================================================
products           exponents of one atom add; surds p^(a/b) keep 0 ≤ a/b < 1; cos² = 1 − sin²
sums               factors without the summed index leave; an index in no factor gives its size; independent sums
                   come apart; nested sums merge; summed indices are renamed canonically
Kronecker delta    δ[i,j] under Σ_j renames j to i; δ² = δ
powers             (c·∏a^k)^e comes apart where signs allow; the content of a sum leaves it; (a²)^½ = |a|
power of a sum     its leading term L is removed: L·u^(−e) = u^(1−e) − (u − L)·u^(−e)
exponential        exp(a + b) = exp a · exp b; exp(c·log u) = u^c; tanh, sinh and cosh are written in exp
logarithm          log(c·∏a^k) = log c + Σ k log a for positive factors; log exp a = a
conditions         [u > 0] and [u = 0] are atoms, idempotent; [u < 0] = 1 − [u > 0] − [u = 0]; a comparable pair
                   merges; [u = 0]·P puts u = 0 into P; a function of cases is the cases of the function
maximum            what does not depend on the axes leaves; its maximiser's weights sum to one
facts              Σ of an input that sums to one is 1; one-hot entries are idempotent
=================  ==================================================================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import flint
import sympy

from .errors import Unsupported
from .tensors import Axis

Exponent = int | Fraction
Mono = frozenset  # of (Atom, Exponent)
ONE: Mono[Any] = frozenset()
MAX_TERMS = 4000
MAX_CASES = 8


class Atom:
    """An indivisible factor. ``kind`` says how ``data`` reads; see the constructors."""

    __slots__ = ("data", "free", "key", "kind", "level", "positive")
    table: dict[tuple[str, Any], Atom] = {}

    def __init__(self, kind: str, data: Any) -> None:
        self.kind, self.data = kind, data
        self.free, self.level = _free(kind, data)
        self.key = _atom_key(kind, data)
        self.positive = _atom_positive(kind, data)

    def __repr__(self) -> str:
        return self.key


def atom(kind: str, *data: Any) -> Atom:
    """The one atom of that kind and data."""
    key = (kind, data)
    found = Atom.table.get(key)
    if found is None:
        found = Atom.table[key] = Atom(kind, data)
    return found


class NameFacts(NamedTuple):
    """What is proved of a named quantity: its sign, and the constant sums over one axis of it and of its exponential."""

    positive: bool = False
    sums: tuple[tuple[int, Poly], ...] = ()
    exponential_sums: tuple[tuple[int, Poly], ...] = ()


class Poly:
    """A normalised sum of monomials."""

    __slots__ = ("_free", "_hash", "_key", "terms")

    def __init__(self, terms: dict[Mono[Any], Fraction]) -> None:
        self.terms = terms
        self._hash = self._key = self._free = None  # type: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __add__(self, other: Poly) -> Poly:
        if len(other.terms) > len(self.terms):
            self, other = other, self
        terms = dict(self.terms)
        for m, c in other.terms.items():
            total = terms.get(m, 0) + c
            if total:
                terms[m] = total
            else:
                del terms[m]
        return Poly(terms)

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly) -> Poly:
        return self + (-other)

    def __mul__(self, other: Poly) -> Poly:
        if len(self.terms) * len(other.terms) > MAX_TERMS * 4:
            raise Unsupported(f"a product of {len(self.terms)} by {len(other.terms)} terms is too large to expand")
        return total(
            monomial_product(m, n, c * d)
            for (m, c), (n, d) in itertools.product(self.terms.items(), other.terms.items())
        )

    def scaled(self, c: Fraction | int) -> Poly:
        """The polynomial times a rational number."""
        return Poly({m: v * c for m, v in self.terms.items()}) if c else ZERO

    @property
    def free(self) -> frozenset[Axis]:
        """Axes the value depends on."""
        if self._free is None:
            self._free = frozenset().union(*(a.free for m in self.terms for a, _ in m))
        return self._free

    @property
    def level(self) -> int:
        """Nesting depth of summed indices inside."""
        return max((a.level for m in self.terms for a, _ in m), default=0)

    @property
    def key(self) -> str:
        """Text that orders polynomials, the same in every run."""
        if self._key is None:
            self._key = "+".join(f"{c}*{k}" for k, c in sorted((mono_key(m), c) for m, c in self.terms.items()))
        return self._key

    @property
    def constant(self) -> Fraction | None:
        """The value if it is a rational number."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(ONE) if len(self.terms) == 1 else None

    def __repr__(self) -> str:
        return self.key or "0"


def mono_key(m: Mono[Any]) -> str:
    """Text that orders monomials."""
    return ".".join(sorted(a.key if e == 1 else f"{a.key}^{e}" for a, e in m))


def _free(kind: str, data: Any) -> tuple[frozenset[Axis], int]:
    """Free axes of an atom, and the depth of bound ones."""
    if kind in ("symbol", "prime"):
        return frozenset(), 0
    if kind in ("input", "named"):
        return frozenset(data[1]), 0
    if kind == "delta":
        return frozenset(data), 0
    if kind in ("exp", "sum"):
        mono = data[-1]
        inside = frozenset().union(*(a.free for a, _ in mono)), max((a.level for a, _ in mono), default=0)
        return inside if kind == "exp" else (inside[0] - frozenset(data[0]), inside[1] + 1)
    if kind == "function":
        return frozenset().union(*(p.free for p in data[1])), max((p.level for p in data[1]), default=0)
    if kind == "maximum":
        return data[0].free - frozenset(data[1]), data[0].level + 1
    if kind == "maximiser":
        return (data[0].free - frozenset(data[1])) | frozenset(data[2]), data[0].level + 1
    return data[0].free, data[0].level  # power, above, zero


def _atom_key(kind: str, data: Any) -> str:
    if kind == "symbol":
        return str(data[0])
    if kind in ("input", "named"):
        return f"{data[0]}[{','.join(a.name for a in data[1])}]"
    if kind in ("exp", "sum"):
        bound = ",".join(f"{a.name}:{a.size}" for a in data[0]) if kind == "sum" else ""
        return f"{kind}{bound}({mono_key(data[-1])})"
    if kind == "delta":
        return f"delta[{data[0].name},{data[1].name}]"
    if kind == "function":
        return f"{data[0]}({';'.join(p.key for p in data[1])})"
    parts = (
        p.key if isinstance(p, Poly) else ",".join(a.name for a in p) if isinstance(p, tuple) else str(p) for p in data
    )
    return f"{kind}({';'.join(parts)})"


def _atom_positive(kind: str, data: Any) -> bool:
    """Whether the atom is known to be > 0."""
    if kind in ("exp", "prime"):
        return True
    if kind == "symbol":
        return bool(data[0].is_positive)
    if kind == "input":
        return any(f.kind == "positive" for f in data[2])
    if kind == "named":
        return data[2].positive
    if kind == "sum":
        return all(_positive_factor(a, e) for a, e in data[-1])
    if kind == "power":
        return is_positive(data[0])
    return False


def _positive_factor(a: Atom, e: Exponent) -> bool:
    """u^(−1/2) is positive wherever it is defined."""
    return a.positive or (isinstance(e, Fraction) and e < 0)


def _non_negative_factor(a: Atom, e: Exponent) -> bool:
    return (
        a.positive
        or isinstance(e, Fraction)
        or e % 2 == 0
        or a.kind in ("above", "zero", "delta", "maximiser")
        or _boolean(a)
    )


def _boolean(a: Atom) -> bool:
    return a.kind == "input" and any(f.kind in ("one-hot", "zero or one") for f in a.data[2])


def is_positive(p: Poly) -> bool:
    """Proven > 0: every term is ≥ 0 and one is > 0."""
    return (
        bool(p.terms)
        and all(c > 0 and all(_non_negative_factor(a, e) for a, e in m) for m, c in p.terms.items())
        and any(all(_positive_factor(a, e) for a, e in m) for m in p.terms)
    )


def _never_positive(p: Poly) -> bool:
    return all(c < 0 and all(_non_negative_factor(a, e) for a, e in m) for m, c in p.terms.items())


ZERO = Poly({})
UNIT = Poly({ONE: Fraction(1)})


def constant(value: Fraction | int) -> Poly:
    """A rational number."""
    return Poly({ONE: Fraction(value)}) if value else ZERO


def of_atom(a: Atom, e: Exponent = 1) -> Poly:
    """A single atom to a power."""
    return monomial({a: e})


def total(polys: Iterable[Poly]) -> Poly:
    """Sum of polynomials, in one dictionary."""
    terms: dict[Mono[Any], Fraction] = {}
    for p in polys:
        for m, c in p.terms.items():
            terms[m] = terms.get(m, 0) + c
    if len(terms) > MAX_TERMS:
        raise Unsupported(f"the normal form grows beyond {MAX_TERMS} terms")
    return Poly({m: c for m, c in terms.items() if c})


def product(polys: Iterable[Poly]) -> Poly:
    """Product of polynomials."""
    result = UNIT
    for p in polys:
        result = result * p
    return result


def _whole(e: Exponent) -> Exponent:
    return e.numerator if isinstance(e, Fraction) and e.denominator == 1 else e


def _natural(e: Exponent) -> bool:
    return isinstance(e, int) and e > 0


# --- monomials -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=200_000)
def _product_of(m: Mono[Any], n: Mono[Any]) -> Poly:
    return _times(dict(m), n)


def monomial_product(m: Mono[Any], n: Mono[Any], c: Fraction | int = 1) -> Poly:
    """Product of two monomials, normalised."""
    if not m or not n:
        return Poly({m or n: Fraction(c)})
    return _product_of(m, n).scaled(c)


_PLAIN = frozenset(("symbol", "named", "exp", "sum", "maximum"))


def monomial(factors: Mapping[Atom, Exponent]) -> Poly:
    """Normalise a product of atoms: the one place where factors meet."""
    plain: dict[Atom, Exponent] = {}
    special: list[Atom] = []
    coefficient = Fraction(1)
    expanded: list[Poly] = []
    for a, e in factors.items():
        if e == 0:
            continue
        if a.kind == "prime":
            whole = math.floor(e)
            coefficient *= Fraction(a.data[0]) ** whole
            if e != whole:
                plain[a] = _whole(e - whole)
        elif a.kind == "power" and _natural(e):
            expanded.append(power(a.data[0], e))
        elif a.kind == "function" and a.data[0] is sympy.cos and _natural(e) and e >= 2:
            square = UNIT - of_atom(atom("function", sympy.sin, a.data[1]), 2)
            expanded += [square] * (e // 2)
            if e % 2:
                plain[a] = 1
        elif a.kind in ("delta", "above", "zero") or (_boolean(a) and _natural(e)):
            plain[a] = 1
            special.append(a)
        else:
            plain[a] = e
            if a.kind == "power" and e < 0:
                special.append(a)
    if special and (rewritten := _special_rules(plain, special)) is not None:
        result = rewritten
    else:
        result = Poly({frozenset(plain.items()): Fraction(1)})
    for p in expanded:
        result = result * p
    return result.scaled(coefficient)


def _special_rules(factors: dict[Atom, Exponent], special: list[Atom]) -> Poly | None:
    """Rules in which one factor changes the others; None where none applies."""
    for a in special:
        rule = {"delta": _delta_rule, "zero": _zero_rule, "power": _leading_term_rule}.get(a.kind)
        if rule is not None and (result := rule(a, factors)) is not None:
            return result
    return _condition_rule(factors, [a for a in special if a.kind in ("above", "zero")])


def _without(factors: Mapping[Atom, Exponent], a: Atom) -> dict[Atom, Exponent]:
    return {b: e for b, e in factors.items() if b is not a}


def _delta_rule(a: Atom, factors: dict[Atom, Exponent]) -> Poly | None:
    """δ[i,j]·f[j] = δ[i,j]·f[i]: the other factors are written with one of the two."""
    keep, gone = a.data
    others = _without(factors, a)
    if not any(gone in b.free for b in others):
        return None
    return monomial({a: 1}) * rename(monomial(others), {gone: keep})


def _zero_rule(a: Atom, factors: dict[Atom, Exponent]) -> Poly | None:
    """[u = 0]·f = [u = 0]·f with u = 0 solved for its leading atom."""
    solved = _solve(a.data[0])
    others = _without(factors, a)
    if solved is None or not any(contains(b, solved[0]) for b in others):
        return None
    try:
        return monomial({a: 1}) * product(power(replace_atom(of_atom(b), *solved), e) for b, e in others.items())
    except ZeroDivisionError:
        return None


@lru_cache(maxsize=4096)
def _solve(u: Poly) -> tuple[Atom, Poly] | None:
    for m, c in sorted(u.terms.items(), key=lambda t: mono_key(t[0])):
        if len(m) == 1:
            ((a, e),) = m
            rest = Poly({n: v for n, v in u.terms.items() if n != m})
            if e == 1 and not a.positive and not any(contains(b, a) for n in rest.terms for b, _ in n):
                return a, rest.scaled(-1 / c)
    return None


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
    """The term of a power's base that is removed from its numerators: one that carries all of the base's axes."""
    kinds = ("input", "named", "exp", "symbol", "function")
    candidates = [
        m
        for m in u.terms
        if m and frozenset().union(*(a.free for a, _ in m)) == u.free and all(a.kind in kinds and e > 0 for a, e in m)
    ]
    return max(candidates, key=lambda n: (sum(e for _, e in n), mono_key(n)), default=None)


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
        reduced[b] = _whole(reduced.get(b, 0) - e)
    rest = Poly({m: v for m, v in a.data[0].terms.items() if m != term})
    raised = {**reduced, a: _whole(reduced[a] + 1)}
    scale = 1 / a.data[0].terms[term]
    return total([monomial(raised), *(_times(reduced, m).scaled(-v) for m, v in rest.terms.items())]).scaled(scale)


def _times(factors: Mapping[Atom, Exponent], m: Mono[Any]) -> Poly:
    """A product that is normalised only when all factors are together."""
    merged = dict(factors)
    for b, e in m:
        merged[b] = _whole(merged.get(b, 0) + e)
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
                return monomial(_without(factors, a)) if a.kind == "above" else ZERO
            return ZERO
    return None


# --- walking inside ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=100_000)
def contains(a: Atom, wanted: Atom) -> bool:
    """Whether an atom occurs in another, at any depth."""
    if a is wanted:
        return True
    if a.kind in ("exp", "sum"):
        return any(contains(b, wanted) for b, _ in a.data[-1])
    polys = [p for part in a.data for p in (part if isinstance(part, tuple) else (part,)) if isinstance(p, Poly)]
    return any(contains(b, wanted) for p in polys for m in p.terms for b, _ in m)


def _rebuild(a: Atom, go: Callable[[Poly], Poly], index: Callable[[Axis], Axis]) -> Poly:
    """The atom with ``go`` applied to the polynomials in it and ``index`` to its free axes."""
    if a.kind == "input":
        return of_atom(atom("input", a.data[0], tuple(map(index, a.data[1])), a.data[2]))
    if a.kind == "named":
        return of_atom(atom("named", a.data[0], tuple(map(index, a.data[1])), a.data[2]))
    if a.kind == "delta":
        return delta(*map(index, a.data))
    if a.kind == "exp":
        return exponential(go(Poly({a.data[0]: Fraction(1)})))
    if a.kind == "sum":
        bound = {b: _temporary(b) for b in a.data[0]}
        body = rename(Poly({a.data[1]: Fraction(1)}), bound)
        return sum_over(go(body), bound.values())
    if a.kind == "function":
        return function(a.data[0], tuple(map(go, a.data[1])))
    if a.kind == "maximum":
        bound = {b: _temporary(b) for b in a.data[1]}
        return maximum(go(rename(a.data[0], bound)), tuple(bound.values()))
    if a.kind == "maximiser":
        bound = {b: _temporary(b) for b in a.data[1]}
        return maximiser(go(rename(a.data[0], bound)), tuple(bound.values()), tuple(map(index, a.data[2])))
    if a.kind == "above":
        return above(go(a.data[0]))
    if a.kind == "zero":
        return vanishing(go(a.data[0]))
    return of_atom(a)


_TEMPORARY = itertools.count()


def _temporary(a: Axis) -> Axis:
    return Axis(f"~{next(_TEMPORARY)}", a.size)


def transform(p: Poly, change: Callable[[Atom], Poly | None], index: Callable[[Axis], Axis] = lambda a: a) -> Poly:
    """Replace atoms at every depth: ``change`` gives the replacement, or None to look inside."""

    def go(q: Poly) -> Poly:
        return total(product(factor(a, e) for a, e in m).scaled(c) for m, c in q.terms.items())

    def factor(a: Atom, e: Exponent) -> Poly:
        new = change(a)
        if new is not None:
            return power(new, e)
        if a.kind == "power":
            return power(go(a.data[0]), e)
        return power(_rebuild(a, go, index), e)

    return go(p)


def replace_atom(p: Poly, old: Atom, new: Poly) -> Poly:
    """Put ``new`` for one atom, at every depth."""

    def change(a: Atom) -> Poly | None:
        return new if a is old else None if contains(a, old) else _single(a)

    return transform(p, change)


def _single(a: Atom) -> Poly:
    return Poly({frozenset(((a, 1),)): Fraction(1)})


def rename(p: Poly, mapping: Mapping[Axis, Axis]) -> Poly:
    """Rename free axes, all at once."""
    live = {a: b for a, b in mapping.items() if a in p.free and a != b}
    return _rename(p, tuple(sorted(live.items(), key=lambda t: t[0].name))) if live else p


@lru_cache(maxsize=100_000)
def _rename(p: Poly, pairs: tuple[tuple[Axis, Axis], ...]) -> Poly:
    mapping = dict(pairs)

    def factor(a: Atom, e: Exponent) -> Poly:
        if not any(i in a.free for i in mapping):
            return Poly({frozenset(((a, e),)): Fraction(1)})
        if a.kind == "sum":  # bound names are of lower levels than any name that can arrive here
            return power(make_sum(a.data[0], rename(Poly({a.data[1]: Fraction(1)}), mapping)), e)
        if a.kind == "power":
            return power(rename(a.data[0], mapping), e)
        return power(_rebuild(a, lambda q: rename(q, mapping), lambda i: mapping.get(i, i)), e)

    return total(product(factor(a, e) for a, e in m).scaled(c) for m, c in p.terms.items())


# --- constructors -------------------------------------------------------------------------------------------------------


def delta(a: Axis, b: Axis) -> Poly:
    """Kronecker delta; δ[i,i] = 1."""
    if a == b:
        return UNIT
    return of_atom(atom("delta", *sorted((a, b), key=lambda i: i.name)))


def sum_over(p: Poly, axes: Iterable[Axis]) -> Poly:
    """Σ over axes."""
    return make_sum(tuple(axes), p)


def make_sum(bound: tuple[Axis, ...], p: Poly) -> Poly:
    """Σ over ``bound`` of a polynomial, term by term."""
    return total(_sum_term(tuple(bound), m).scaled(c) for m, c in p.terms.items()) if bound else p


@lru_cache(maxsize=100_000)
def _sum_term(bound: tuple[Axis, ...], m: Mono[Any]) -> Poly:
    """Σ over ``bound`` of one monomial."""
    inside: dict[Atom, Exponent] = {}
    outside: dict[Atom, Exponent] = {}
    opened: list[Poly] = []
    all_bound = list(bound)
    for a, e in m:
        if not any(i in a.free for i in bound):
            outside[a] = e
        elif a.kind == "sum" and _natural(e):
            for _ in range(e):
                fresh = {b: _temporary(b) for b in a.data[0]}
                opened.append(rename(Poly({a.data[1]: Fraction(1)}), fresh))
                all_bound += fresh.values()
        else:
            inside[a] = e
    result = monomial(outside) if outside else UNIT
    if opened:
        body = product([monomial(inside), *opened])
        return result * make_sum(tuple(all_bound), body)
    for a in inside:
        if a.kind == "delta":
            gone = a.data[1] if a.data[1] in bound else a.data[0]
            kept = a.data[0] if gone == a.data[1] else a.data[1]
            body = rename(monomial(_without(inside, a)), {gone: kept})
            return result * make_sum(tuple(i for i in bound if i != gone), body)
    free_of: dict[Axis, list[Atom]] = {i: [a for a in inside if i in a.free] for i in bound}
    for a, e in inside.items():
        gone, value = _known_sum(a, e, bound, free_of)
        if gone:
            return result * make_sum(tuple(i for i in bound if i not in gone), value * monomial(_without(inside, a)))
    absorbed = _absorb(bound, inside)
    if absorbed is not None:
        return result * make_sum(*absorbed)
    for i in bound:
        if not free_of[i]:
            result = result * size_poly(i)
    for part_bound, part in _components(inside, [i for i in bound if free_of[i]]):
        result = result * _canonical_sum(part_bound, part)
    return result


def size_poly(i: Axis) -> Poly:
    """The size of an axis."""
    from .normal_form import scalar_poly

    return scalar_poly(i.size)


def _known_sum(
    a: Atom, e: Exponent, bound: tuple[Axis, ...], free_of: dict[Axis, list[Atom]]
) -> tuple[tuple[Axis, ...], Poly]:
    """The summed axes over which this factor, alone there, has a known sum, and that sum."""
    if e != 1:
        return (), ZERO

    def alone(i: Axis) -> bool:
        return i in bound and free_of[i] == [a]

    if a.kind == "maximiser":
        indices = a.data[2]
        return (indices, UNIT) if len(set(indices)) == len(indices) and all(map(alone, indices)) else ((), ZERO)
    sums: Iterable[tuple[int, Poly]] = ()
    if a.kind == "input":
        sums = ((int(f.axis), UNIT) for f in a.data[2] if f.kind in ("one-hot", "sums to one"))
    elif a.kind == "named":
        sums = a.data[2].sums
    indices = a.data[1] if a.kind in ("input", "named") else ()
    if a.kind == "exp" and len(a.data[0]) == 1:
        ((inner, power_of),) = a.data[0]
        if inner.kind == "named" and power_of == 1:
            sums, indices = inner.data[2].exponential_sums, inner.data[1]
    for place, value in sums:
        i = indices[place]
        if indices.count(i) == 1 and alone(i):
            return (i,), value
    return (), ZERO


def _absorb(bound: tuple[Axis, ...], inside: dict[Atom, Exponent]) -> tuple[tuple[Axis, ...], Poly] | None:
    """Σ_s f(s, t)·S(t)^(−1) under a further Σ_t, for S(t) = Σ_s f(s, t): the inner sum is S, and cancels."""
    for a in inside:
        if a.kind != "sum" or len(a.data[0]) >= len(bound):
            continue
        for chosen in itertools.combinations(bound, len(a.data[0])):
            part = {b: e for b, e in inside.items() if any(i in b.free for i in chosen)}
            rest = {b: e for b, e in inside.items() if b not in part}
            if not part or a in part or len(part) != len(a.data[1]):
                continue
            inner = _sum_term(chosen, frozenset(part.items()))
            if inner.terms == _single(a).terms:
                return tuple(i for i in bound if i not in chosen), monomial(rest) * inner
    return None


def _components(inside: dict[Atom, Exponent], bound: list[Axis]) -> list[tuple[tuple[Axis, ...], dict[Atom, Exponent]]]:
    """Independent sums: groups of factors that share summed axes."""
    groups: list[tuple[set[Axis], dict[Atom, Exponent]]] = []
    for a, e in inside.items():
        axes = set(a.free) & set(bound)
        factors = {a: e}
        rest = []
        for other_axes, other in groups:
            if axes & other_axes:
                axes |= other_axes
                factors.update(other)
            else:
                rest.append((other_axes, other))
        groups = [*rest, (axes, factors)]
    return [(tuple(i for i in bound if i in axes), factors) for axes, factors in groups]


def _canonical_sum(bound: tuple[Axis, ...], factors: dict[Atom, Exponent]) -> Poly:
    """One connected sum as an atom, its indices renamed so that the names do not depend on those given."""
    level = 1 + max(a.level for a in factors)
    body = Poly({frozenset(factors.items()): Fraction(1)})
    best: tuple[str, Poly, tuple[Axis, ...]] | None = None
    for order in _orders(bound, factors):
        names = tuple(Axis(f"·{level}.{k}", i.size) for k, i in enumerate(order))
        renamed = rename(body, dict(zip(order, names)))
        if best is None or renamed.key < best[0]:
            best = (renamed.key, renamed, names)
    assert best is not None
    _, renamed, names = best
    return total(of_atom(atom("sum", names, m)).scaled(c) for m, c in renamed.terms.items())


def _orders(bound: tuple[Axis, ...], factors: dict[Atom, Exponent]) -> Iterable[tuple[Axis, ...]]:
    """Orders of summed axes to try: those that an invariant of each axis leaves open."""
    if len(bound) == 1:
        return (bound,)
    colour = {i: str(i.size) for i in bound}
    for _ in range(3):
        mark = {i: Axis(f"?{colour[i]}", i.size) for i in bound}
        fresh = {}
        for i in bound:
            here = {**mark, i: Axis("!", i.size)}
            texts = sorted(
                rename(Poly({frozenset(((a, e),)): Fraction(1)}), here).key for a, e in factors.items() if i in a.free
            )
            fresh[i] = colour[i] + "|" + " ".join(texts)
        ranks = {text: str(k) for k, text in enumerate(sorted(set(fresh.values())))}
        colour = {i: ranks[fresh[i]] for i in bound}
        if len(ranks) == len(bound):
            break
    classes: dict[str, list[Axis]] = {}
    for i in bound:
        classes.setdefault(colour[i], []).append(i)
    count = math.prod(math.factorial(len(c)) for c in classes.values())
    if count > 5040:
        raise Unsupported(f"{len(bound)} interchangeable summed indices are too many to order")
    permuted = (itertools.permutations(classes[c]) for c in sorted(classes, key=int))
    return (tuple(itertools.chain(*parts)) for parts in itertools.product(*permuted))


def _cases(p: Poly, of: Callable[[Poly], Poly], *, booleans: bool = False) -> Poly | None:
    """A function of a polynomial with conditions in it is the cases of the function; None without conditions."""
    found = sorted(
        {a for m in p.terms for a, _ in m if a.kind in ("above", "zero") or (booleans and _boolean(a))},
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
    stripped: dict[Mono[Any], Fraction] = {}
    for t in terms:
        for m, c in t.terms.items():
            n = m - {(condition, 1)}
            stripped[n] = stripped.get(n, 0) + c
    return Poly({m: c for m, c in stripped.items() if c})


@lru_cache(maxsize=50_000)
def power(p: Poly, e: Exponent) -> Poly:
    """p^e for a rational exponent."""
    e = _whole(e)
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
        if isinstance(e, int) and (e > 0 or not any(_idempotent(a) for a, _ in m)):
            return monomial({a: _whole(k * e) for a, k in m}).scaled(c**e)
    if _natural(e):
        if len(p.terms) ** e > MAX_TERMS * 16:
            raise Unsupported(f"a sum of {len(p.terms)} terms to the power {e} is too large to expand")
        half = power(p, e // 2)  # type: ignore[operator]
        return half * half * p if e % 2 else half * half
    cases = _cases(p, lambda q: power(q, e))
    if cases is not None:
        return cases
    return _power_of_term(p, e) if len(p.terms) == 1 else _power_of_sum(p, e)


def _idempotent(a: Atom) -> bool:
    return a.kind in ("above", "zero", "delta") or _boolean(a)


def _prime_power(c: Fraction, e: Exponent) -> Poly:
    """c^e for c > 0, as a product of primes."""
    factors: dict[Atom, Exponent] = {}
    for n, sign in ((c.numerator, 1), (c.denominator, -1)):
        for p, k in sympy.factorint(n).items():
            factors[atom("prime", int(p))] = _whole(e * k * sign)
    return monomial(factors)


def _power_of_term(p: Poly, e: Exponent) -> Poly:
    """(c·∏a^k)^e for e not natural."""
    ((m, c),) = p.terms.items()
    whole = isinstance(e, int)
    result = constant(c**e) if whole else _prime_power(abs(c), e)
    left: dict[Atom, Exponent] = {}
    for a, k in m:
        if not _idempotent(a) and (whole or a.positive or isinstance(k, Fraction)):
            result = result * monomial({a: _whole(k * e)})
        elif isinstance(k, int) and k % 2 == 0 and not _idempotent(a):
            result = result * power(absolute(_single(a)), _whole(k * e))
        else:
            left[a] = k
    negative = not whole and c < 0
    if not left and not negative:
        return result
    if len(left) == 1 and not negative:
        ((a, k),) = left.items()
        if k == 1 and not _idempotent(a):
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
        if _idempotent(a) or (positive_only and not a.positive):
            continue
        lowest = min(m.get(a, 0) for m in monos)
        if lowest:
            shared[a] = _whole(lowest)
    return scale, shared


def _power_of_sum(p: Poly, e: Exponent) -> Poly:
    """u^e for u of several terms and e not natural: its content leaves, the rest is one atom."""
    scale, shared = content(p, positive_only=isinstance(e, Fraction))
    inverse = monomial({a: _whole(-k) for a, k in shared.items()})
    rest = (p * inverse).scaled(1 / scale) if shared else p.scaled(1 / scale)
    outside = _prime_power(scale, e) * monomial({a: _whole(k * e) for a, k in shared.items()})
    if len(rest.terms) == 1:
        return outside * power(rest, e)
    parts = factorise(rest)
    if len(parts) > 1 or parts[0][1] > 1:
        whole = isinstance(e, int)
        if whole or all(k % 2 == 0 or is_positive(f) for f, k in parts):
            return outside * product(
                power(f if whole or is_positive(f) else absolute(f), _whole(e * k)) for f, k in parts
            )
    if isinstance(e, int) and rest.terms[max(rest.terms, key=mono_key)] < 0:
        rest, outside = -rest, outside.scaled(-1 if e % 2 else 1)
    return outside * of_atom(atom("power", rest), e)


@lru_cache(maxsize=20_000)
def factorise(p: Poly) -> list[tuple[Poly, int]]:
    """p = ∏ factor^multiplicity over the rationals, its atoms taken as variables; [(p, 1)] where that cannot be told."""
    atoms = sorted({a for m in p.terms for a, _ in m}, key=lambda a: a.key)
    degrees = {a: [dict(m).get(a, 0) for m in p.terms] for a in atoms}
    if not atoms or any(e < 0 for es in degrees.values() for e in es) or len(p.terms) > 60:
        return [(p, 1)]
    if any(_idempotent(a) for a in atoms):
        return [(p, 1)]
    step = {a: math.lcm(*(Fraction(e).denominator for e in es)) for a, es in degrees.items()}
    if any(step[a] > 1 and not a.positive for a in atoms) or any(
        e * step[a] > 40 for a, es in degrees.items() for e in es
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
            monomial({a: _whole(Fraction(int(k), step[a])) for a, k in zip(atoms, exponents) if k}).scaled(
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


@lru_cache(maxsize=20_000)
def exponential(p: Poly) -> Poly:
    """exp of a sum, as a product."""
    cases = _cases(p, exponential)
    if cases is not None:
        return cases
    result = UNIT
    for m, c in p.terms.items():
        if len(m) == 1:
            ((a, e),) = m
            if e == 1 and a.kind == "function" and a.data[0] is sympy.log:
                result = result * power(a.data[1][0], _whole(c))
                continue
        result = result * of_atom(atom("exp", m), _whole(c))
    return result


@lru_cache(maxsize=20_000)
def logarithm(p: Poly) -> Poly:
    """Natural logarithm, taken apart where the factors are positive."""
    if not p:
        raise ZeroDivisionError("the logarithm of zero")
    cases = _cases(p, logarithm)
    if cases is not None:
        return cases
    if len(p.terms) == 1:
        ((m, scale),) = p.terms.items()
        if scale == 1 and len(m) == 1:
            ((a, e),) = m
            if a.kind not in ("exp", "power") and e == 1:
                return _single(atom("function", sympy.log, (p,)))
            if a.kind not in ("exp", "power") and (a.positive or (isinstance(e, int) and e % 2)):
                return logarithm(_single(a)).scaled(Fraction(e))
        shared = {a: e for a, e in m if a.positive or isinstance(e, Fraction)}
        rest = monomial({a: e for a, e in m if a not in shared}).scaled(1 if scale > 0 else -1)
        scale = abs(scale)
    else:
        scale, shared = content(p, positive_only=True)
        rest = (p * monomial({a: _whole(-k) for a, k in shared.items()})).scaled(1 / scale)
    parts = (
        [logarithm(rest)]
        if rest != p and rest != UNIT
        else []
        if rest == UNIT
        else [_single(atom("function", sympy.log, (rest,)))]
    )
    for n, sign in ((scale.numerator, 1), (scale.denominator, -1)):
        for prime, k in sympy.factorint(n).items():
            parts.append(_single(atom("function", sympy.log, (constant(int(prime)),))).scaled(k * sign))
    for a, e in shared.items():
        inner = (
            Poly({a.data[0]: Fraction(1)})
            if a.kind == "exp"
            else logarithm(a.data[0])
            if a.kind == "power"
            else logarithm(_single(a))
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
        cases = _cases(p, lambda q, k=k: function(head, (*arguments[:k], q, *arguments[k + 1 :])))
        if cases is not None:
            return cases
    name = getattr(head, "__name__", str(head))
    if name in _ODD | _EVEN and not arguments[0]:
        return UNIT if name in _EVEN else ZERO
    if name in _ODD | _EVEN and arguments[0].terms[max(arguments[0].terms, key=mono_key)] < 0:
        return function(head, (-arguments[0],)).scaled(-1 if name in _ODD else 1)
    return _single(atom("function", head, arguments))


def _condition(p: Poly) -> tuple[Poly, int]:
    """A quantity up to a positive factor, with the sign of its leading term: what a condition is about."""
    _, shared = content(p, positive_only=True)
    if shared:
        p = p * monomial({a: _whole(-k) for a, k in shared.items()})
    if len(p.terms) == 1:
        ((m, c),) = p.terms.items()
        p = monomial(
            {a: 1 if e % 2 else 2 for a, e in m if not a.positive and isinstance(e, int)}
            | {a: e for a, e in m if isinstance(e, Fraction)}
        ).scaled(c)
    unsigned = [m for m in p.terms if not all(a.positive for a, _ in m)] or list(p.terms)
    lead = p.terms[max(unsigned, key=mono_key)]
    return p.scaled(1 / lead), 1 if lead > 0 else -1


@lru_cache(maxsize=20_000)
def above(p: Poly) -> Poly:
    """[p > 0]: 1 where it holds, else 0."""
    if not p or _never_positive(p):
        return ZERO
    if is_positive(p):
        return UNIT
    cases = _cases(p, above, booleans=True)
    if cases is not None:
        return cases
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
    cases = _cases(p, vanishing, booleans=True)
    if cases is not None:
        return cases
    u, _ = _condition(p)
    if len(u.terms) == 1:
        ((m, _c),) = u.terms.items()
        u = monomial({a: 1 if isinstance(e, int) and e > 0 else e for a, e in m})
    return of_atom(atom("zero", u))


def _bind(
    p: Poly, over: tuple[Axis, ...], extra: tuple[Axis, ...] = ()
) -> tuple[Poly, tuple[Axis, ...], tuple[Axis, ...]]:
    """Canonical names for the axes of a maximum."""
    best: Any = None
    for order in itertools.permutations(range(len(over))):
        names = tuple(Axis(f"·{p.level + 1}.{k}", over[j].size) for k, j in enumerate(order))
        bound = rename(p, {over[j]: name for j, name in zip(order, names)})
        outer = tuple(extra[j] for j in order) if extra else ()
        if best is None or bound.key < best[0]:
            best = (bound.key, bound, names, outer)
    return best[1:]


def _varying(p: Poly, over: tuple[Axis, ...]) -> tuple[Poly, Poly]:
    """The terms that depend on the axes, and the others."""
    depends = {m: c for m, c in p.terms.items() if any(i in a.free for a, _ in m for i in over)}
    return Poly(depends), Poly({m: c for m, c in p.terms.items() if m not in depends})


def _outer_content(p: Poly, over: tuple[Axis, ...]) -> tuple[Poly, Poly]:
    """Take a positive factor without the axes out: (factor, rest)."""
    scale, shared = content(p, positive_only=True)
    shared = {a: k for a, k in shared.items() if not any(i in a.free for i in over)}
    rest = (p * monomial({a: _whole(-k) for a, k in shared.items()})).scaled(1 / scale)
    return monomial(shared).scaled(scale), rest


def maximum(p: Poly, over: tuple[Axis, ...]) -> Poly:
    """Maximum over axes."""
    inner, outside = _varying(p, over)
    if not inner:
        return outside
    over = tuple(i for i in over if i in inner.free)
    factor, rest = _outer_content(inner, over)
    bound, names, _ = _bind(rest, over)
    return outside + factor * _single(atom("maximum", bound, names))


def maximiser(p: Poly, over: tuple[Axis, ...], indices: tuple[Axis, ...]) -> Poly:
    """Weights of the maximiser over axes, at ``indices``."""
    inner, _ = _varying(p, over)
    if not inner:
        return product(power(size_poly(i), -1) for i in over)
    _, rest = _outer_content(inner, over)
    bound, names, outer = _bind(rest, over, indices)
    return _single(atom("maximiser", bound, names, outer))
