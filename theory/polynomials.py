"""Polynomials in atoms: the data of the normal form, with what is known of an atom's sign.

A polynomial is a dictionary from monomials to rational coefficients, a monomial a set of (atom, exponent) pairs.
Atoms are interned: equal atoms are one object. The rules that keep this normal are in :mod:`.monomials`,
:mod:`.powers` and :mod:`.sums`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import sympy

from .errors import Unsupported
from .tensors import Axis

Exponent = int | Fraction
#: Rational numbers; whole ones are ints, whose arithmetic is ten times as fast.
Coefficient = int | Fraction
Mono = frozenset  # of (Atom, Exponent)
ONE: Mono[Any] = frozenset()
#: what is left out of a maximum. A symbol of the algebra: what holds for every number in its place holds in the limit.
LEFT_OUT = -sympy.oo
MAX_TERMS = 4000


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
    """What is proved of a named quantity: its sign, and constant sums over one axis of it and of its exponential."""

    positive: bool = False
    sums: tuple[tuple[int, Poly], ...] = ()
    exponential_sums: tuple[tuple[int, Poly], ...] = ()


class Poly:
    """A normalised sum of monomials."""

    __slots__ = ("_free", "_hash", "_key", "terms")

    def __init__(self, terms: dict[Mono[Any], Coefficient]) -> None:
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
        from .monomials import monomial_product  # the rules stand on this module

        if len(self.terms) == len(other.terms) == 1:
            ((m, c),), ((n, d),) = self.terms.items(), other.terms.items()
            return monomial_product(m, n, c * d)
        return total(
            monomial_product(m, n, c * d)
            for (m, c), (n, d) in itertools.product(self.terms.items(), other.terms.items())
        )

    def scaled(self, c: Coefficient) -> Poly:
        """The polynomial times a rational number."""
        if c == 1:
            return self
        c = as_whole(c)
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
    def constant(self) -> Coefficient | None:
        """The value if it is a rational number."""
        if not self.terms:
            return 0
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
    if kind == "recur":
        return frozenset(data[0]), 0
    if kind in ("delta", "position"):
        return frozenset(data), 0
    if kind == "tie":
        return frozenset(data[:3]), 0
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
    if kind == "position":
        return f"position[{data[0].name}]"
    if kind == "recur":
        return f"recur[{','.join(a.name for a in data[0])}]({data[1].key})"
    if kind == "tie":
        return f"tie[{','.join(a.name for a in data[:3])};{data[3].text('p', 'u')}]"
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
        return all(positive_factor(a, e) for a, e in data[-1])
    if kind == "power":
        return is_positive(data[0])
    return False


def positive_factor(a: Atom, e: Exponent) -> bool:
    """u^(−1/2) is positive wherever it is defined."""
    return a.positive or (isinstance(e, Fraction) and e < 0)


def _non_negative_factor(a: Atom, e: Exponent) -> bool:
    return (
        a.positive
        or isinstance(e, Fraction)
        or e % 2 == 0
        or a.kind in ("above", "zero", "delta", "tie", "maximiser", "position")
        or is_boolean(a)
    )


def is_boolean(a: Atom) -> bool:
    """An input with entries 0 and 1."""
    return a.kind == "input" and any(f.kind in ("one-hot", "zero or one") for f in a.data[2])


def is_idempotent(a: Atom) -> bool:
    """An atom that is 0 or 1: it has no inverse."""
    return a.kind in ("above", "zero", "delta", "tie") or is_boolean(a)


def is_positive(p: Poly) -> bool:
    """Proven > 0: every term is ≥ 0 and one is > 0."""
    return (
        bool(p.terms)
        and all(c > 0 and all(_non_negative_factor(a, e) for a, e in m) for m, c in p.terms.items())
        and any(all(positive_factor(a, e) for a, e in m) for m in p.terms)
    )


def never_positive(p: Poly) -> bool:
    """Proven ≤ 0."""
    return all(c < 0 and all(_non_negative_factor(a, e) for a, e in m) for m, c in p.terms.items())


def is_left_out(p: Poly) -> bool:
    """Whether the value is −∞ plus something finite. Raises Unsupported where −∞ stands in a product."""
    found = [(m, c) for m, c in p.terms.items() if any(a.kind == "symbol" and a.data[0] is LEFT_OUT for a, _ in m)]
    if any(c < 0 or len(m) > 1 for m, c in found):
        raise Unsupported("−∞ in a product")
    return bool(found)


ZERO = Poly({})
UNIT = Poly({ONE: 1})


def constant(value: Fraction | int) -> Poly:
    """A rational number."""
    return Poly({ONE: as_whole(value)}) if value else ZERO


def single(a: Atom) -> Poly:
    """An atom as a polynomial, as it stands."""
    return Poly({frozenset(((a, 1),)): 1})


def total(polys: Iterable[Poly]) -> Poly:
    """Sum of polynomials, in one dictionary."""
    terms: dict[Mono[Any], Coefficient] = {}
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


def as_whole(number: int | Fraction) -> int | Fraction:
    """An integer as int."""
    return number.numerator if isinstance(number, Fraction) and number.denominator == 1 else number


def is_natural(e: Exponent) -> bool:
    """1, 2, 3, …"""
    return isinstance(e, int) and e > 0


def without(factors: Mapping[Atom, Exponent], a: Atom) -> dict[Atom, Exponent]:
    """The other factors."""
    return {b: e for b, e in factors.items() if b is not a}
