"""Sums, maxima and renaming: the rules for bound axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from .errors import Unsupported
from .monomials import RULES, monomial, of_atom
from .polynomials import (
    LEFT_OUT,
    UNIT,
    ZERO,
    Atom,
    Exponent,
    Mono,
    Poly,
    as_whole,
    atom,
    is_natural,
    mono_key,
    product,
    single,
    total,
    without,
)
from .powers import above, content, exponential, function, power, vanishing
from .tensors import Axis


@lru_cache(maxsize=100_000)
def contains(a: Atom, wanted: Atom) -> bool:
    """Whether an atom occurs in another, at any depth."""
    if a is wanted:
        return True
    if a.kind in ("exp", "sum"):
        return any(contains(b, wanted) for b, _ in a.data[-1])
    polys = [p for part in a.data for p in (part if isinstance(part, tuple) else (part,)) if isinstance(p, Poly)]
    return any(contains(b, wanted) for p in polys for m in p.terms for b, _ in m)


def rebuild(a: Atom, go: Callable[[Poly], Poly], index: Callable[[Axis], Axis]) -> Poly:
    """The atom with ``go`` applied to the polynomials in it and ``index`` to its free axes."""
    if a.kind == "input":
        return of_atom(atom("input", a.data[0], tuple(map(index, a.data[1])), a.data[2]))
    if a.kind == "named":
        return of_atom(atom("named", a.data[0], tuple(map(index, a.data[1])), *a.data[2:]))
    if a.kind == "delta":
        return delta(*map(index, a.data))
    if a.kind == "position":
        return of_atom(atom("position", index(a.data[0])))
    if a.kind == "recur":
        return of_atom(atom("recur", tuple(map(index, a.data[0])), a.data[1]))
    if a.kind == "tie":
        return of_atom(atom("tie", *map(index, a.data[:3]), a.data[3]))
    if a.kind == "exp":
        return exponential(go(Poly({a.data[0]: 1})))
    if a.kind == "sum":
        bound = {b: _temporary(b) for b in a.data[0]}
        body = rename(Poly({a.data[1]: 1}), bound)
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
        return power(rebuild(a, go, index), e)

    return go(p)


def replace_atom(p: Poly, old: Atom, new: Poly) -> Poly:
    """Put ``new`` for one atom, at every depth."""

    def change(a: Atom) -> Poly | None:
        return new if a is old else None if contains(a, old) else single(a)

    return transform(p, change)


def rename(p: Poly, mapping: Mapping[Axis, Axis]) -> Poly:
    """Rename free axes, all at once."""
    live = {a: b for a, b in mapping.items() if a in p.free and a != b}
    return _rename(p, tuple(sorted(live.items(), key=lambda t: t[0].name))) if live else p


@lru_cache(maxsize=100_000)
def _rename(p: Poly, pairs: tuple[tuple[Axis, Axis], ...]) -> Poly:
    mapping = dict(pairs)

    def factor(a: Atom, e: Exponent) -> Poly:
        if not any(i in a.free for i in mapping):
            return Poly({frozenset(((a, e),)): 1})
        if a.kind == "sum":  # bound names are of lower levels than any name that can arrive here
            return power(make_sum(a.data[0], rename(Poly({a.data[1]: 1}), mapping)), e)
        if a.kind == "power":
            return power(rename(a.data[0], mapping), e)
        return power(rebuild(a, lambda q: rename(q, mapping), lambda i: mapping.get(i, i)), e)

    return total(product(factor(a, e) for a, e in m).scaled(c) for m, c in p.terms.items())


def delta(a: Axis, b: Axis) -> Poly:
    """Kronecker delta; δ[i,i] = 1."""
    if a == b:
        return UNIT
    return of_atom(atom("delta", *sorted((a, b), key=lambda i: i.name)))


def _delta_rule(a: Atom, factors: dict[Atom, Exponent]) -> Poly | None:
    """δ[i,j]·f[j] = δ[i,j]·f[i]: the other factors are written with one of the two."""
    keep, gone = a.data
    others = without(factors, a)
    if not any(gone in b.free for b in others):
        return None
    return monomial({a: 1}) * rename(monomial(others), {gone: keep})


def _zero_rule(a: Atom, factors: dict[Atom, Exponent]) -> Poly | None:
    """[u = 0]·f = [u = 0]·f with u = 0 solved for its leading atom."""
    solved = _solve(a.data[0])
    others = without(factors, a)
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
                return a, rest.scaled(Fraction(-1) / c)
    return None


def sum_over(p: Poly, axes: Iterable[Axis]) -> Poly:
    """Σ over axes."""
    return make_sum(tuple(axes), p)


def make_sum(bound: tuple[Axis, ...], p: Poly) -> Poly:
    """Σ over ``bound`` of a polynomial, term by term."""
    return total(_sum_term(tuple(bound), m).scaled(c) for m, c in p.terms.items()) if bound else p


#: further rules for Σ over bound axes of a product: the value, or None where the rule does not apply.
SUM_RULES: list[Callable[[tuple[Axis, ...], dict[Atom, Exponent]], Poly | None]] = []


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
        elif a.kind == "sum" and is_natural(e):
            for _ in range(e):
                fresh = {b: _temporary(b) for b in a.data[0]}
                opened.append(rename(Poly({a.data[1]: 1}), fresh))
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
            body = rename(monomial(without(inside, a)), {gone: kept})
            return result * make_sum(tuple(i for i in bound if i != gone), body)
    free_of: dict[Axis, list[Atom]] = {i: [a for a in inside if i in a.free] for i in bound}
    for a, e in inside.items():
        gone, known = _known_sum(a, e, bound, free_of)
        if gone:
            return result * make_sum(tuple(i for i in bound if i not in gone), known * monomial(without(inside, a)))
    for rule in SUM_RULES:
        value = rule(bound, inside)
        if value is not None:
            return result * value
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
            if inner.terms == single(a).terms:
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
    body = Poly({frozenset(factors.items()): 1})
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
            texts = sorted(rename(Poly({frozenset(((a, e),)): 1}), here).key for a, e in factors.items() if i in a.free)
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
    """The terms that depend on the axes, and the others; −∞ stays with those that it may stand in for."""
    depends = {m: c for m, c in p.terms.items() if any(i in a.free for a, _ in m for i in over)}
    if depends:
        depends |= {m: c for m, c in p.terms.items() if any(a.data[0] is LEFT_OUT for a, _ in m)}
    return Poly(depends), Poly({m: c for m, c in p.terms.items() if m not in depends})


def _outer_content(p: Poly, over: tuple[Axis, ...]) -> tuple[Poly, Poly]:
    """Take a positive factor without the axes out: (factor, rest)."""
    scale, shared = content(p, positive_only=True)
    shared = {a: k for a, k in shared.items() if not any(i in a.free for i in over)}
    rest = (p * monomial({a: as_whole(-k) for a, k in shared.items()})).scaled(Fraction(1) / scale)
    return monomial(shared).scaled(scale), rest


def maximum(p: Poly, over: tuple[Axis, ...]) -> Poly:
    """Maximum over axes."""
    inner, outside = _varying(p, over)
    if not inner:
        return outside
    over = tuple(i for i in over if i in inner.free)
    factor, rest = _outer_content(inner, over)
    bound, names, _ = _bind(rest, over)
    return outside + factor * single(atom("maximum", bound, names))


def maximiser(p: Poly, over: tuple[Axis, ...], indices: tuple[Axis, ...]) -> Poly:
    """Weights of the maximiser over axes, at ``indices``."""
    inner, _ = _varying(p, over)
    if not inner:
        return product(power(size_poly(i), -1) for i in over)
    _, rest = _outer_content(inner, over)
    bound, names, outer = _bind(rest, over, indices)
    return single(atom("maximiser", bound, names, outer))


RULES["delta"] = _delta_rule
RULES["zero"] = _zero_rule
