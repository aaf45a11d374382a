"""Tensor expressions and SymPy scalars in the normal form of :mod:`.algebra`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from sympy.core.relational import Relational

from . import algebra as P
from .errors import Unsupported
from .monomials import Work
from .polynomials import UNIT, ZERO, Poly
from .recurrence import EACH, LAST, Recur, canonical, has_recurrence, put
from .tensors import Contract, Delta, Extremum, Input, Map, Maximiser, Named, Position, Scalar, Tensor, slot
from .walking import postorder
from .windows import Overlap, Tie, Window

_CONSTANTS = (sympy.pi, sympy.EulerGamma, sympy.Catalan, sympy.GoldenRatio)


def normal_form(tensor: Tensor, *, opaque: frozenset[str] = frozenset()) -> Poly:
    """The normal form of a tensor expression; names in ``opaque`` are kept as they are, others are opened.

    Raises Unsupported if an expression grows beyond the bounds on its size, its nesting and the work.
    """
    Work.done = 0
    try:
        return _form(tensor, opaque)
    except RecursionError:  # rules that call each other without end, or a very deep nesting: undecided, never a crash
        raise Unsupported("an expression whose normal form nests too deeply") from None


def _form(tensor: Tensor, opaque: frozenset[str]) -> Poly:
    forms: dict[Tensor, Poly] = {}
    for node in postorder(tensor, opaque):
        forms[node] = _node_form(node, forms, opaque)
    return forms[tensor]


def _node_form(node: Tensor, forms: dict[Tensor, Poly], opaque: frozenset[str]) -> Poly:
    if isinstance(node, Input):
        return P.of_atom(P.atom("input", node.name, node.indices, node.facts))
    if isinstance(node, Scalar):
        return scalar_poly(node.value)
    if isinstance(node, Contract):
        # A summed axis must not be confused with a free axis of the same name elsewhere: bound axes are renamed apart.
        return P.sum_over(P.product(forms[f] for f in node.factors), node.summed)
    if isinstance(node, Map):
        return function_form(node.function, {slot(k): forms[a] for k, a in enumerate(node.arguments)})
    if isinstance(node, Extremum):
        return P.maximum(forms[node.operand], node.over)
    if isinstance(node, Maximiser):
        return P.maximiser(forms[node.operand], node.over, node.indices)
    if isinstance(node, Delta):
        return P.delta(node.a, node.b)
    if isinstance(node, Position):
        return P.of_atom(P.atom("position", node.along))
    if isinstance(node, Recur):
        return _recur_form(node, opaque)
    if isinstance(node, Tie):
        return P.tie(node.into, node.out, node.tap, node.affine)
    if isinstance(node, Window):
        return P.sum_over(forms[node.operand] * P.tie(node.over, node.out, node.tap, node.affine), (node.over,))
    if isinstance(node, Overlap):
        tied = forms[node.operand] * P.tie(node.into, node.out, node.tap, node.affine)
        return P.sum_over(tied, (node.out, node.tap))
    if isinstance(node, Named):
        return P.of_atom(named_atom(node)) if node.name in opaque else forms[node.operand]
    raise Unsupported(f"no normal form for a {type(node).__name__}")


@dataclass(frozen=True)
class RecurForm:
    """What a recurrence is, in normal forms at the indices ·0, ·1, …: two are equal when these are."""

    layout: tuple[Any, ...]
    steps: tuple[Poly, ...]
    initials: tuple[Poly, ...]

    @property
    def key(self) -> str:
        """Text that orders atoms."""
        return str(self.layout) + ";".join(p.key for p in (*self.steps, *self.initials))


#: the recurrence last seen for a form, from which it is written back
RECURRENCES: dict[RecurForm, Tensor] = {}


def _recur_form(node: Recur, opaque: frozenset[str]) -> Poly:
    """What each step computed is the step of what it was given; that and the last value are atoms."""
    if node.at == EACH:
        return _form(node.family.step(node.which), opaque)
    canonical = node.rename({a.name: f"·{k}" for k, a in enumerate(node.axes)})
    form = _canonical_form(canonical, opaque)
    RECURRENCES[form] = canonical
    return P.of_atom(P.atom("recur", node.axes, form))


@lru_cache(maxsize=1024)
def _canonical_form(node: Recur, opaque: frozenset[str]) -> RecurForm:
    f = node.family
    aside = {f.time.name: "·t"} if node.at == LAST else {}
    blank = {s: Input(f"·s{k}", s.indices) for k, s in enumerate(f.states)}
    steps = tuple(_form(put(step, blank).rename(aside), opaque) for step in f.opened)
    shape = tuple(tuple(aside.get(a.name, a.name) for a in s.indices) for s in f.states)
    layout = (f.time.size, aside.get(f.time.name, f.time.name), f.reverse, node.which, node.at, shape)
    return RecurForm(layout, steps, tuple(_form(v, opaque) for v in f.initials))


def named_atom(node: Named) -> P.Atom:
    """A named quantity kept as it is, with what is proved of its definition, and the definition itself.

    The definition, at canonical indices, is part of the atom: two quantities of one name are never taken for one.
    """
    return P.atom("named", node.name, node.indices, _name_facts(node), canonical_definition(node))


@lru_cache(maxsize=4096)
def canonical_definition(node: Named) -> Tensor:
    """The named quantity at the indices ·0, ·1, …"""
    if len(postorder(node)) <= 200 or has_recurrence(node):  # bound axes too, where that is not a lot of work
        return canonical(node)
    return node.rename({a.name: f"·{k}" for k, a in enumerate(dict.fromkeys(node.indices))})


@lru_cache(maxsize=4096)
def _name_facts(node: Named) -> P.NameFacts:
    if len(set(node.indices)) < len(node.indices):
        return P.NameFacts()
    try:
        body = normal_form(node.operand, opaque=_deep_names(node.operand))
        logs = any(a.kind == "function" and a.data[0] is sympy.log for m in body.terms for a, _ in m)
        return P.NameFacts(
            P.is_positive(body),
            _constant_sums(body, node) if len(body.terms) <= 40 else (),
            _constant_sums(P.exponential(body), node) if logs and len(body.terms) <= 6 else (),
        )
    except (Unsupported, ZeroDivisionError):
        return P.NameFacts()


def _deep_names(node: Tensor, levels: int = 4) -> frozenset[str]:
    """Names more than a few definitions deep: a fact that needs them opened is not looked for."""
    depth: dict[Tensor, int] = {}
    for n in reversed(postorder(node)):
        here = depth.get(n, 0) + isinstance(n, Named)
        for o in n.operands:
            depth[o] = max(depth.get(o, 0), here)
    return frozenset(n.name for n, d in depth.items() if isinstance(n, Named) and d >= levels)


def _constant_sums(body: Poly, node: Named) -> tuple[tuple[int, Poly], ...]:
    """Sums over one axis that depend on no input."""
    sums = ((k, P.sum_over(body, (i,))) for k, i in enumerate(node.indices))
    return tuple((k, s) for k, s in sums if all(a.kind == "symbol" for m in s.terms for a, _ in m))


@lru_cache(maxsize=10_000)
def scalar_poly(value: sympy.Expr) -> Poly:
    """The normal form of a scalar without axes."""
    return function_form(value, {})


def function_form(expression: sympy.Expr, slots: Mapping[sympy.Symbol, Poly]) -> Poly:
    """A scalar SymPy function of polynomials."""
    memo: dict[sympy.Basic, Poly] = dict(slots)

    def go(node: sympy.Basic) -> Poly:
        found = memo.get(node)
        if found is None:
            found = memo[node] = _rule(node, go)
        return found

    return go(expression)


def _rule(node: Any, go: Any) -> Poly:
    if node.is_Rational:
        return P.constant(Fraction(int(node.p), int(node.q)))
    if node.is_Float:
        return go(sympy.Rational(node))
    if node.is_Symbol or node in _CONSTANTS or node is P.LEFT_OUT:
        return P.of_atom(P.atom("symbol", node))
    if node is sympy.E:
        return P.exponential(UNIT)
    if node.is_Add:
        return P.total(go(a) for a in node.args)
    if node.is_Mul:
        return P.product(go(a) for a in node.args)
    if isinstance(node, sympy.Piecewise):
        return _piecewise(node, go)
    rule = _FUNCTIONS.get(node.func)
    if rule is not None:
        return rule(node, go)
    if isinstance(node, sympy.Function):
        definition = getattr(node.func, "definition", None)
        if definition is not None:
            return go(definition(*node.args))
        return P.function(node.func, tuple(go(a) for a in node.args))
    if node is sympy.true or node is sympy.false:
        return UNIT if node is sympy.true else ZERO
    raise Unsupported(f"no normal form for {node.func.__name__} in {str(node)[:60]}")


def _piecewise(node: sympy.Piecewise, go: Any) -> Poly:
    result, left = ZERO, UNIT
    for value, condition in node.args:
        holds = go(condition)
        weight = left * holds
        if weight:
            result = result + weight * go(value)
        left = left - weight
        if not left:
            break
    return result


def _power(node: sympy.Pow, go: Any) -> Poly:
    base, exponent = node.args
    if exponent.is_Rational:
        e: Any = Fraction(int(exponent.p), int(exponent.q))
        return P.power(go(base), e.numerator if e.denominator == 1 else e)
    if base is sympy.E:
        return P.exponential(go(exponent))
    body = go(base)
    if P.is_positive(body):
        return P.exponential(go(exponent) * P.logarithm(body))
    return P.function(sympy.Pow, (body, go(exponent)))


def _tanh(node: Any, go: Any) -> Poly:
    square = P.exponential(go(node.args[0]).scaled(2))
    return (square - UNIT) * P.power(square + UNIT, -1)


def _hyperbolic(sign: int) -> Any:
    def rule(node: Any, go: Any) -> Poly:
        up = P.exponential(go(node.args[0]))
        return (up + P.power(up, -1).scaled(sign)).scaled(Fraction(1, 2))

    return rule


def _extreme(sign: int) -> Any:
    def rule(node: Any, go: Any) -> Poly:
        result = go(node.args[0])
        for other in map(go, node.args[1:]):
            result = other + (result - other) * P.above((result - other).scaled(sign))
        return result

    return rule


def _difference(node: Relational, go: Any) -> Poly:
    return go(node.lhs) - go(node.rhs)


def _not_negative(p: Poly) -> Poly:
    """[p ≥ 0]; of whole numbers it is [p + 1 > 0], one condition."""
    whole = all(a.kind == "position" and e == 1 for m in p.terms for a, e in m) and all(
        c.denominator == 1 for c in p.terms.values()
    )
    return P.above(p + UNIT) if whole else UNIT - P.above(-p)


def _any_of(node: Any, go: Any) -> Poly:
    none = P.product(UNIT - go(a) for a in node.args)
    return UNIT - none


_FUNCTIONS: dict[Any, Any] = {
    sympy.Pow: _power,
    sympy.exp: lambda n, go: P.exponential(go(n.args[0])),
    sympy.log: lambda n, go: P.logarithm(go(n.args[0])),
    sympy.tanh: _tanh,
    sympy.sinh: _hyperbolic(-1),
    sympy.cosh: _hyperbolic(1),
    sympy.tan: lambda n, go: go(sympy.sin(n.args[0])) * P.power(go(sympy.cos(n.args[0])), -1),
    sympy.erfc: lambda n, go: UNIT - go(sympy.erf(n.args[0])),
    sympy.Abs: lambda n, go: P.absolute(go(n.args[0])),
    sympy.sign: lambda n, go: P.above(go(n.args[0])) - P.above(-go(n.args[0])),
    sympy.Max: _extreme(1),
    sympy.Min: _extreme(-1),
    sympy.Gt: lambda n, go: P.above(_difference(n, go)),
    sympy.Lt: lambda n, go: P.above(-_difference(n, go)),
    sympy.Ge: lambda n, go: _not_negative(_difference(n, go)),
    sympy.Le: lambda n, go: _not_negative(-_difference(n, go)),
    sympy.Eq: lambda n, go: P.vanishing(_difference(n, go)),
    sympy.Ne: lambda n, go: UNIT - P.vanishing(_difference(n, go)),
    sympy.And: lambda n, go: P.product(go(a) for a in n.args),
    sympy.Or: _any_of,
    sympy.Not: lambda n, go: UNIT - go(n.args[0]),
}


# --- deciding zero ------------------------------------------------------------------------------------------


def vanishes(p: Poly) -> bool:
    """Whether a normal form is proved to be zero.

    Powers of one sum are brought to their common lowest power and what becomes positive is expanded: that shows
    u^(−3/2)·(v + ε) = u^(−1/2) for u = v + ε. True is a proof; False says nothing.
    """
    if not p:
        return True
    base = next((a for m in p.terms for a, _ in sorted(m, key=lambda t: -len(t[0].key)) if a.kind == "power"), None)
    if base is not None:
        return all(vanishes(c) for c in _lowest_power(p, base))
    unified = _unify_inside(p)
    return unified != p and vanishes(unified)


def _lowest_power(p: Poly, base: P.Atom) -> list[Poly]:
    """p = Σ over classes of u^lowest · (a polynomial without u): those polynomials, each of which must vanish."""
    classes: dict[Any, dict[Any, list[Poly]]] = {}
    for m, c in p.terms.items():
        e = dict(m).get(base, 0)
        rest = Poly({m - {(base, e)}: c})
        classes.setdefault(e - e // 1, {}).setdefault(e, []).append(rest)
    found = []
    for by_exponent in classes.values():
        lowest = min(by_exponent)
        found.append(
            P.total(P.total(rests) * P.power(base.data[0], Fraction(e - lowest)) for e, rests in by_exponent.items())
        )
    return found


def _shape(p: Poly) -> str:
    """The text of a polynomial with its free axes blotted out."""
    text = p.key
    for a in sorted(p.free, key=lambda i: -len(i.name)):
        text = text.replace(f"[{a.name}", "[?").replace(f",{a.name}", ",?")
    return text


def _unify_inside(p: Poly) -> Poly:
    """Powers of one sum under Σ, brought to their common lowest power."""
    lowest: dict[tuple[str, Any], Any] = {}

    def visit(q: Poly) -> None:
        for m in q.terms:
            for a, e in m:
                if a.kind == "power":
                    k = (_shape(a.data[0]), e - e // 1)
                    lowest[k] = min(lowest.get(k, e), e)
                if a.kind == "sum":
                    visit(Poly({a.data[1]: 1}))

    def lower(q: Poly) -> Poly:
        return P.total(P.product(factor(a, e) for a, e in m).scaled(c) for m, c in q.terms.items())

    def factor(a: P.Atom, e: Any) -> Poly:
        if a.kind == "sum":
            body = lower(Poly({a.data[1]: 1}))
            return P.power(P.make_sum(a.data[0], body), e)
        if a.kind == "power":
            least = lowest[_shape(a.data[0]), e - e // 1]
            if e > least:
                return P.of_atom(a, least) * P.power(a.data[0], Fraction(e - least))
        return P.of_atom(a, e)

    visit(p)
    return lower(p)
