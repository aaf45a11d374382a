"""From the normal form back to a readable expression, written in given named quantities.

A result is simplified by writing it in the vocabulary of the forward pass (x̂, r, p, …): the definition of each name is
solved for one of its atoms, that atom is replaced, and sums of a name that are constant (Σ x̂ = 0, Σ p = 1) are put in.
The outcome is proved equal to what was derived by comparing fully opened normal forms, so the search need not be
trusted.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import sympy

from . import algebra as P
from .errors import Unsupported
from .normal_form import RECURRENCES, named_atom, normal_form, vanishes
from .polynomials import Atom, Coefficient, Poly, is_idempotent
from .recurrence import CANONICAL, Recur, Recurrence
from .tensors import (
    Axis,
    Delta,
    Extremum,
    Input,
    Maximiser,
    Named,
    Position,
    Scalar,
    Tensor,
    contract,
    map_function,
    multiply,
    slot,
)
from .walking import postorder
from .windows import Tie, axes_of, gather_windows

# --- polynomial -> expression -------------------------------------------------------------------------------


class Writer:
    """Writes polynomials as tensor expressions; ``names`` are axes to take letters from for summed indices."""

    def __init__(self, axes: Iterable[Axis] = ()) -> None:
        self.axes = tuple(dict.fromkeys(axes))

    def write(self, p: Poly, *, taken: frozenset[str] = frozenset()) -> Tensor:
        """The polynomial as an expression, common factors taken out."""
        taken = taken | {a.name for a in p.free}
        if not p:
            return Scalar(sympy.Integer(0))
        if len(p.terms) == 1:
            ((m, c),) = p.terms.items()
            return self.term(m, c, taken)
        scale, shared = P.content(p, positive_only=False)
        rest = (p * P.monomial({a: -k for a, k in shared.items()})).scaled(Fraction(1) / scale)
        lead = min(rest.terms, key=_order)
        if all(c < 0 for c in rest.terms.values()) or (self.turned(shared) < 0 and rest.terms[lead] != 1):
            rest, scale = -rest, -scale
        if (sign := _sign_of(rest)) is not None:
            body = map_function(SIGN, self.write(sign, taken=taken))
            return multiply(self.term(frozenset(shared.items()), scale, taken), body)
        body = self.factored(rest, taken)
        if scale == 1 and not shared:
            return body
        return multiply(self.term(frozenset(shared.items()), scale, taken), body)

    def factored(self, p: Poly, taken: frozenset[str]) -> Tensor:
        """A sum without common factors, as a product of shorter sums where it is one: (1 − z) (h − g)."""
        parts = P.factorise(p) if len(p.terms) > 3 else [(p, 1)]
        if len(parts) > 1:
            turned = [(-q, k) if k % 2 and q.terms[min(q.terms, key=_order)] < 0 else (q, k) for q, k in parts]
            sign = -1 if sum(q != r for (q, _), (r, _) in zip(parts, turned)) % 2 else 1
            mixed = next(
                (j for j, (q, k) in enumerate(turned) if k % 2 and len({c > 0 for c in q.terms.values()}) > 1), None
            )
            if sign < 0 and mixed is not None:  # (h − g) for −(g − h)
                turned[mixed], sign = (-turned[mixed][0], turned[mixed][1]), 1
            bodies = [self.sum_in_order(q, taken) for q, _ in turned]
            return multiply(sign, *(map_function(slot(0) ** k, b) if k > 1 else b for b, (_, k) in zip(bodies, turned)))
        return self.sum_in_order(p, taken)

    def sum_in_order(self, p: Poly, taken: frozenset[str]) -> Tensor:
        """Σ of the terms in reading order, those that are subtracted last."""
        terms = [(m, p.terms[m]) for m in sorted(p.terms, key=_order)]
        return self.sum_of(sorted(terms, key=lambda t: t[1] < 0), taken)

    def turned(self, factors: Mapping[Atom, Any]) -> int:
        """−1 if writing 1 − p for p − 1 in odd powers turns the sign of a product."""
        return -1 if sum(_turn(a, e) for a, e in factors.items()) % 2 else 1

    def sum_of(self, terms: Sequence[tuple[Any, Coefficient]], taken: frozenset[str]) -> Tensor:
        """Σ ± terms as one Map, so that signs print as signs."""
        function = sympy.Integer(0)
        tensors: list[Tensor] = []
        for m, c in terms:
            t = self.term(m, -c if c < 0 else c, taken)
            function += slot(len(tensors)) * (1 if c > 0 else -1)
            tensors.append(t)
        return map_function(function, *tensors)

    def term(self, m: Any, c: Coefficient, taken: frozenset[str]) -> Tensor:
        """One monomial: scalars first, exponentials gathered into one."""
        scalar = sympy.Rational(c.numerator, c.denominator) * self.turned(dict(m))
        factors: list[Tensor] = []
        exponent = P.ZERO
        for a, e in sorted(m, key=lambda t: (t[0].kind == "sum", t[0].key)):
            power = sympy.Rational(Fraction(e).numerator, Fraction(e).denominator)
            if a.kind == "symbol" and a.data[0] is P.LEFT_OUT:
                raise Unsupported("−∞ beside other terms")  # 0·(−∞) would be no number
            if a.kind in ("symbol", "prime"):
                scalar *= sympy.sympify(a.data[0]) ** power
            elif a.kind == "exp":
                exponent = exponent + Poly({a.data[0]: Fraction(e)})
            else:
                base = self.write(-a.data[0], taken=taken) if _turn(a, e) else self.atom(a, taken)
                body = base if abs(power) == 1 else map_function(slot(0) ** abs(power), base)
                factors.append(body if power > 0 else map_function(1 / slot(0), body))
        if exponent:
            factors.append(map_function(sympy.exp(slot(0)), self.write(exponent, taken=taken)))
        return multiply(scalar, *factors)

    def atom(self, a: Atom, taken: frozenset[str]) -> Tensor:
        """One atom."""
        if a.kind == "input":
            return Input(*a.data)
        if a.kind == "named":
            return self.named(a)
        if a.kind == "delta":
            return Delta(*a.data)
        if a.kind == "position":
            return Position(*a.data)
        if a.kind == "recur":
            axes, form = a.data
            return RECURRENCES[form].rename({f"·{k}": i.name for k, i in enumerate(axes)})
        if a.kind == "tie":
            return Tie(*a.data)
        if a.kind == "power":
            return self.write(a.data[0], taken=taken)
        if a.kind == "function":
            head, arguments = a.data
            return map_function(
                head(*(slot(k) for k in range(len(arguments)))), *(self.write(p, taken=taken) for p in arguments)
            )
        if a.kind in ("above", "zero"):
            relation = slot(0) > 0 if a.kind == "above" else sympy.Eq(slot(0), 0)
            return map_function(sympy.Piecewise((1, relation), (0, True)), self.write(a.data[0], taken=taken))
        bound = a.data[0] if a.kind == "sum" else a.data[1]
        letters = self.letters(bound, taken)
        inside = taken | {i.name for i in letters.values()}
        if a.kind == "sum":
            body = P.rename(Poly({a.data[1]: 1}), letters)
            free = tuple(sorted(a.free, key=self.rank))
            return gather_windows(contract((self.write(body, taken=inside),), free))
        body_tensor = self.write(P.rename(a.data[0], letters), taken=inside)
        if a.kind == "maximum":
            return Extremum(body_tensor, tuple(letters[b] for b in bound))
        if a.kind == "maximiser":
            return Maximiser(body_tensor, tuple(letters[b] for b in bound), a.data[2])
        raise Unsupported(f"no way to write a {a.kind}")

    def named(self, a: Atom) -> Tensor:
        """A named quantity at its indices."""
        kept: Tensor = a.data[3]
        if kept in CANONICAL:
            kept = CANONICAL[kept]
            return kept.rename({i.name: j.name for i, j in zip(kept.axes, a.data[1])})
        return kept.rename({f"·{k}": i.name for k, i in enumerate(a.data[1])})

    def rank(self, i: Axis) -> tuple[int, str]:
        """Order of free axes: as they came."""
        return (self.axes.index(i) if i in self.axes else len(self.axes), i.name)

    def letters(self, bound: Sequence[Axis], taken: frozenset[str]) -> dict[Axis, Axis]:
        """Names for summed indices: a known axis of that size, else a fresh letter."""
        used = set(taken)
        result = {}
        for b in bound:
            known = (a.name for a in self.axes if a.size == b.size)
            stem = next((a.name for a in self.axes if a.size == b.size), "i")
            options = itertools.chain(known, (f"{stem.rstrip('0123456789')}{k}" for k in itertools.count(1)))
            name = next(o for o in options if o not in used)
            used.add(name)
            result[b] = Axis(name, b.size)
        return result


#: sign(u), with 0 at 0
SIGN = sympy.Piecewise((1, slot(0) > 0), (-1, slot(0) < 0), (0, True))


def _turn(a: Atom, e: Any) -> bool:
    """Whether an odd power of p − 1 is written with 1 − p."""
    return a.kind == "power" and isinstance(e, int) and e % 2 == 1 and a.data[0].terms.get(P.ONE, 0) < 0


def _sign_of(p: Poly) -> Poly | None:
    """u, if the polynomial is ±(2[u > 0] + [u = 0] − 1), with the sign of u to match."""
    if len(p.terms) != 3:
        return None
    for m in p.terms:
        if len(m) == 1 and next(iter(m))[0].kind == "above":
            u = next(iter(m))[0].data[0]
            for sign in (1, -1):
                if p == (P.above(u).scaled(2) + P.vanishing(u) - P.UNIT).scaled(sign):
                    return u.scaled(sign)
    return None


def _order(m: Any) -> tuple[Any, ...]:
    """Terms in reading order: those times an axis size first, then the shorter ones."""
    sized = any(a.kind == "symbol" and a.data[0].is_integer for a, _ in m)
    return (not sized, sum(a.kind == "sum" for a, _ in m), len(P.mono_key(m)), P.mono_key(m))


# --- the vocabulary -----------------------------------------------------------------------------------------


def definitions(*tensors: Tensor) -> dict[str, Named]:
    """The named quantities in expressions, in order of definition."""
    found: dict[str, Named] = {}
    stepped: set[tuple[Recurrence, int]] = set()

    def visit(t: Tensor) -> None:
        for node in postorder(t):
            if isinstance(node, Recur):
                for k in range(len(node.states)):
                    if (node.family, k) not in stepped:
                        stepped.add((node.family, k))
                        visit(node.family.step(k))
            if isinstance(node, Named):
                found.setdefault(node.name, node)

    for t in tensors:
        visit(t)
    return found


def all_axes(*tensors: Tensor) -> tuple[Axis, ...]:
    """Every axis that occurs in expressions, in order."""
    return tuple(dict.fromkeys(a for t in tensors for node in postorder(t) for a in (*node.axes, *axes_of(node))))


def _solve(name: Named, opaque: frozenset[str]) -> tuple[Atom, Poly, frozenset[Atom]] | None:
    """The definition of a name, solved for one atom of it: (atom, what it equals, where these are 1 and not 0)."""
    body = normal_form(name.operand, opaque=opaque)
    own = P.of_atom(named_atom(name))
    candidates = {
        a
        for m in body.terms
        for a, _ in m
        if a.kind not in ("symbol", "prime", "position")
        and not is_idempotent(a)
        # A state is not solved for the state before it: that would divide by what it is multiplied with.
        and not (a.kind == "recur" and len(body.terms) > 1)
    }
    # The pivot carries the axes of the name: an input or function of full rank before sums and other names.
    for a in sorted(candidates, key=lambda a: (len(a.free) != len(own.free), a.kind == "named", -len(a.key), a.key)):
        with_pivot = {m: c for m, c in body.terms.items() if any(b is a for b, _ in m)}
        rest = Poly({m: c for m, c in body.terms.items() if m not in with_pivot})
        others = Poly({m: c for m, c in body.terms.items() if m not in with_pivot})
        if any(P.contains(b, a) for m in others.terms for b, _ in m):
            continue
        if len(with_pivot) == 1:
            ((m, c),) = with_pivot.items()
            e = dict(m)[a]
            factor = Poly({m - {(a, e)}: c})
            if any(P.contains(b, a) for n in factor.terms for b, _ in n):
                continue
            switches = frozenset(b for n in factor.terms for b, _ in n if is_idempotent(b) and b.kind != "tie")
            if switches and rest:
                continue
            factor = Poly({frozenset(t for t in n if t[0] not in switches): v for n, v in factor.terms.items()})
            return a, P.power((own - rest) * P.power(factor, -1), Fraction(1) / e), switches
        if len(with_pivot) > 1 and all((a, 1) in m for m in with_pivot):
            factor = Poly({m - {(a, 1)}: c for m, c in with_pivot.items()})
            if not any(P.contains(b, a) for n in factor.terms for b, _ in n):
                return a, (own - rest) * P.power(factor, -1), frozenset()
    return None


def _fold(p: Poly, pivot: Atom, value: Poly) -> Poly:
    """Replace the pivot by its value, at whatever indices it occurs; for u = 1 + E as pivot, E by u − 1 too."""
    rules = [(pivot, value)]
    if pivot.kind == "power":
        for m, c in pivot.data[0].terms.items():
            if len(m) == 1 and next(iter(m))[1] == 1 and next(iter(m))[0].kind == "exp":
                rest = Poly({n: v for n, v in pivot.data[0].terms.items() if n != m})
                rules.append((next(iter(m))[0], (value - rest).scaled(Fraction(1) / c)))

    def change(a: Atom) -> Poly | None:
        for old, new in rules:
            mapping = _match(old, a)
            if mapping is not None:
                return P.rename(new, mapping)
        return None

    return P.transform(p, change)


def _fold_switched(p: Poly, pivot: Atom, value: Poly, switches: frozenset[Atom]) -> Poly:
    """As :func:`_fold`, only where every switch is a factor, here or further out; one beside the pivot is used up."""

    def go(q: Poly, on: frozenset[Atom]) -> Poly:
        return P.total(term(m, on).scaled(c) for m, c in q.terms.items())

    def term(m: Any, on: frozenset[Atom]) -> Poly:
        on = on | {a for a, _ in m if is_idempotent(a)}
        used: set[Atom] = set()
        parts: list[tuple[Poly, Any]] = []
        for a, e in m:
            mapping = _match(pivot, a)
            needed = (
                {b for s in switches for b, _ in next(iter(P.rename(P.of_atom(s), mapping).terms))}
                if mapping is not None
                else set()
            )
            if mapping is not None and needed <= on:
                used |= needed
                parts.append((P.rename(value, mapping), e))
            elif not is_idempotent(a):
                inner = go(a.data[0], on) if a.kind == "power" else P.rebuild(a, lambda q: go(q, on), lambda i: i)
                parts.append((inner, e))
        kept = [P.of_atom(a) for a, _ in m if is_idempotent(a) and a not in used]
        return P.product([*kept, *(P.power(q, e) for q, e in parts)])

    return go(p, frozenset())


def _match(pattern: Atom, a: Atom) -> dict[Axis, Axis] | None:
    """The renaming of free axes that makes the pattern the atom, if there is one."""
    if a is pattern:
        return {}
    if a.kind != pattern.kind or len(a.free) != len(pattern.free) or len(a.free) > 4:
        return None
    mine = sorted(pattern.free, key=lambda i: i.name)
    for order in itertools.permutations(sorted(a.free, key=lambda i: i.name)):
        if all(i.size == j.size for i, j in zip(mine, order)):
            mapping = dict(zip(mine, order))
            if P.rename(P.of_atom(pattern), mapping) == P.of_atom(a):
                return mapping
    return None


def _cost(p: Poly) -> tuple[int, int]:
    """How long a polynomial reads, every name as one letter."""
    return (len(re.sub(r"[^\W\d]\w*\[", "a[", p.key)), len(p.terms))


def simplify(
    tensor: Tensor, vocabulary: Iterable[Named] = (), *, opaque: Iterable[str] = (), axes: Iterable[Axis] = ()
) -> Tensor:
    """The expression in normal form, written in the vocabulary; names in ``opaque`` are kept but not introduced.

    Raises ArithmeticError if the outcome could not be proved equal to the input (a defect, never expected).
    """
    names = {named.name: named for named in vocabulary}
    kept = frozenset(opaque) | frozenset(names)
    p = normal_form(tensor, opaque=kept)
    seen: set[str] = set(opaque)
    for name, named in names.items():
        solved = _solve(named, frozenset(seen))
        seen.add(name)
        if solved is None:
            continue
        try:
            pivot, value, switches = solved
            folded = _fold_switched(p, pivot, value, switches) if switches else _fold(p, pivot, value)
        except (ZeroDivisionError, Unsupported):
            continue
        if _cost(folded) <= _cost(p):
            p = folded
    order = (*axes, *tensor.axes, *all_axes(tensor))
    result = Writer(order).write(p).expand(tensor.axes)
    still = frozenset(opaque)
    if not vanishes(normal_form(result, opaque=still) - normal_form(tensor, opaque=still)):
        raise ArithmeticError(f"simplifying could not be proved: {result!r}")
    return result
