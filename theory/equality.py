"""Are two tensor expressions equal? Proved, refuted at a point, or not decided: three outcomes, never two.

``equal(a, b)`` compares normal forms (a proof for all shapes, inputs and hyper-parameters that satisfy the stated
facts). If they differ it evaluates both in ball arithmetic at random generic points of non-square shape: disjoint
enclosures of one entry refute equality. Neither: not decided, with the reason. Equality is that of functions where both
sides are defined; at an isolated kink the two sides may follow different conventions, and that is said.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import flint
import sympy
from flint import arb, fmpq

from . import algebra as P
from .enclosures import ball_function
from .errors import InputError, Unsupported
from .normal_form import normal_form, vanishes
from .polynomials import Poly
from .tensors import Axis, Contract, Delta, Extremum, Input, Map, Maximiser, Named, Scalar, Tensor, as_tensor, slot
from .walking import inputs, postorder, scalar_symbols

EQUAL, DIFFERENT, NOT_DECIDED = "equal", "different", "not decided"
Index = tuple[int, ...]
Array = dict[Index, arb]


@dataclass(frozen=True)
class Point:
    """Values at which expressions are evaluated: axis sizes, scalars, and the exact entries of each input."""

    sizes: Mapping[str, int]
    scalars: Mapping[str, Fraction] = field(default_factory=dict)
    entries: Mapping[str, Mapping[Index, Fraction]] = field(default_factory=dict)

    def __str__(self) -> str:
        def number(v: Fraction) -> str:
            return str(v.numerator) if v.denominator == 1 else f"{float(v):.6g}"

        sizes = [f"{k}={v}" for k, v in self.sizes.items()]
        scalars = [f"{k}={number(v)}" for k, v in self.scalars.items()]
        arrays = [f"{k}=[{' '.join(number(v) for v in e.values())}]" for k, e in self.entries.items()]
        return ", ".join(sizes + scalars + arrays)


@dataclass(frozen=True)
class Comparison:
    """Outcome of :func:`equal`. ``point``, ``entry``, ``left`` and ``right`` are set when the two differ."""

    outcome: str
    why: str
    point: Point | None = None
    entry: Index | None = None
    left: arb | None = None
    right: arb | None = None

    def __bool__(self) -> bool:
        return self.outcome == EQUAL


def equal(a: Any, b: Any, *, points: int = 3, seed: int = 0, digits: int = 60) -> Comparison:
    """Compare two tensors whose axes carry the same names.

    >>> from backproof.theory.tensors import Input, axis, exp
    >>> z = Input("z", (axis("n"), axis("k")))
    >>> p, q = exp(z - z.max("k")), exp(z)
    >>> equal(p / p.sum("k"), q / q.sum("k")).outcome
    'equal'
    >>> equal(p, q).outcome
    'different'
    """
    a, b = as_tensor(a), as_tensor(b)
    shapes = _compare_axes(a, b)
    if shapes is not None:
        return shapes
    reason = "the normal forms differ, but no point was found where the values do"
    try:
        difference = normal_form(a) - normal_form(b)
        if vanishes(difference):
            return Comparison(EQUAL, "the normal forms agree: equal for all shapes and values that satisfy the facts")
        kinks = _kinks_only(difference)
        if kinks is not None:
            return Comparison(NOT_DECIDED, kinks)
    except Unsupported as error:
        reason = str(error)
    except ZeroDivisionError as error:
        reason = f"the normal form divides by zero: {error}"
    except RecursionError:
        reason = "the expressions are nested too deeply for the normal form"
    refuted = _refute(a, b, points, seed, digits)
    return Comparison(NOT_DECIDED, reason) if refuted is None else refuted


def _compare_axes(a: Tensor, b: Tensor) -> Comparison | None:
    """Different axes: a broadcast value is compared along the axes of the other."""
    if set(a.axes) == set(b.axes):
        return None
    left = ", ".join(f"{i.name}:{i.size}" for i in a.axes)
    right = ", ".join(f"{i.name}:{i.size}" for i in b.axes)
    return Comparison(DIFFERENT, f"the axes differ: [{left}] against [{right}]")


def _kinks_only(difference: Poly) -> str | None:
    """If the two differ only where a condition [u = 0] holds, say so."""
    zeros = {a for m in difference.terms for a, _ in m if a.kind == "zero"}
    if not zeros:
        return None
    try:
        generic = P.transform(difference, lambda a: P.ZERO if a.kind == "zero" else None)
    except ZeroDivisionError:
        return None
    if not vanishes(generic):
        return None
    where = " or ".join(sorted(a.data[0].key.replace("1*", "") + " = 0" for a in zeros))
    return f"equal except perhaps at the kink {where}, where the two follow different conventions"


def _refute(a: Tensor, b: Tensor, points: int, seed: int, digits: int) -> Comparison | None:
    rng = random.Random(seed)
    for attempt in range(points):
        try:
            point = generic_point((a, b), rng, positive=attempt % 3 == 2, spread=2 if attempt % 3 == 0 else 7)
            with flint.ctx.workprec(int(digits * 3.33) + 64):
                left, right = evaluate(a, point), evaluate(b, point)
        except (Unsupported, ZeroDivisionError, ValueError, ArithmeticError):
            continue
        order = [a.names.index(name) for name in b.names]
        for entry, value in left.items():
            other = right[tuple(entry[k] for k in order)]
            if value.is_finite() and other.is_finite() and not value.overlaps(other):
                shown = f"{value.str(12, radius=False)} and {other.str(12, radius=False)}"
                why = f"at entry {list(entry)} the enclosures {shown} are disjoint"
                return Comparison(DIFFERENT, why, point, entry, value, other)
    return None


# --- points -------------------------------------------------------------------------------------------------


def generic_point(
    tensors: Iterable[Tensor],
    rng: random.Random,
    *,
    positive: bool = False,
    sizes: Mapping[str, int] | None = None,
    spread: int = 2,
) -> Point:
    """Random sizes (all different where possible) and random exact entries that satisfy the facts of the inputs.

    Entries lie in [−spread, spread], or in (0, 1) if ``positive``.
    """
    tensors = tuple(tensors)
    symbols: dict[str, None] = {}
    scalars: dict[str, sympy.Symbol] = {}
    variables: dict[str, Input] = {}
    for t in tensors:
        variables.update({k: v for k, v in inputs(t).items() if k not in variables})
        for s in scalar_symbols(t):
            scalars.setdefault(str(s), s)
        for node in postorder(t):
            for i in (
                *node.axes,
                *(node.over if isinstance(node, Extremum | Maximiser) else ()),
                *(node.indices if isinstance(node, Input) else ()),
            ):
                symbols.update(dict.fromkeys(sorted(str(s) for s in i.size.free_symbols)))
    pool = [2, 3, 4, 5, 3, 2] if len(symbols) > 3 else [3, 2, 4]
    rng.shuffle(pool)
    chosen = dict(sizes or {})
    for k, name in enumerate(symbols):
        chosen.setdefault(name, pool[k] if k < len(pool) else rng.choice((2, 3)))
    values = {name: _scalar_value(s, rng) for name, s in sorted(scalars.items()) if name not in chosen}
    entries = {name: _entries(v, chosen, rng, positive, spread) for name, v in variables.items()}
    return Point(chosen, values, entries)


def _scalar_value(s: sympy.Symbol, rng: random.Random) -> Fraction:
    if s.is_integer:
        return Fraction(rng.choice((2, 3, 5)))
    value = Fraction(rng.randrange(3, 60), 37)
    return value if s.is_positive or rng.random() < 0.5 else -value


def extent(size: sympy.Expr, sizes: Mapping[str, int]) -> int:
    """An axis size as a number."""
    value = size.xreplace({s: sympy.Integer(sizes[str(s)]) for s in size.free_symbols if str(s) in sizes})
    if not value.is_Integer or value < 0:
        raise InputError(f"no size given for an axis of size {size}")
    return int(value)


def _entries(
    v: Input, sizes: Mapping[str, int], rng: random.Random, positive: bool, spread: int
) -> dict[Index, Fraction]:
    shape = [extent(i.size, sizes) for i in v.indices]
    kinds = {f.kind: f.axis for f in v.facts}
    positive = positive or "positive" in kinds
    cells = list(itertools.product(*map(range, shape)))
    if "zero or one" in kinds:
        return {c: Fraction(rng.randrange(2)) for c in cells}
    numerators = range(1, 61) if positive else [k for k in range(-60 * spread, 60 * spread + 1) if k]
    values = {c: Fraction(rng.choice(numerators), 61) for c in cells}
    for kind in ("one-hot", "sums to one"):
        if kind in kinds:
            place = int(kinds[kind])  # type: ignore[arg-type]
            rows: dict[Index, list[Index]] = {}
            for c in cells:
                rows.setdefault((*c[:place], *c[place + 1 :]), []).append(c)
            for row in rows.values():
                values.update(_row(row, kind, values, rng))
    return values


def _row(row: list[Index], kind: str, values: Mapping[Index, Fraction], rng: random.Random) -> dict[Index, Fraction]:
    if kind == "one-hot":
        hit = rng.choice(row)
        return {c: Fraction(int(c == hit)) for c in row}
    weights = [abs(values[c]) for c in row]
    return {c: w / sum(weights) for c, w in zip(row, weights)}


# --- evaluation ---------------------------------------------------------------------------------------------


def evaluate(tensor: Tensor, point: Point) -> Array:
    """Every entry of an expression as a ball that contains the exact value, at the precision in ``flint.ctx``.

    Keys are index tuples in the order of ``tensor.axes``. Functions of any σ are tried with one fixed function.
    """
    arrays: dict[Tensor, Array] = {}
    for node in postorder(tensor):
        arrays[node] = _evaluate_node(node, arrays, point)
    return arrays[tensor]


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _cells(axes: Iterable[Axis], point: Point) -> Iterable[Index]:
    return itertools.product(*(range(extent(i.size, point.sizes)) for i in axes))


def _pick(axes: Iterable[Axis], order: tuple[Axis, ...]) -> tuple[int, ...]:
    return tuple(order.index(i) for i in axes)


def _scalar(value: sympy.Expr, point: Point) -> arb:
    symbols = tuple(sorted(value.free_symbols, key=str))
    arguments = []
    for s in symbols:
        if str(s) in point.sizes:
            arguments.append(arb(point.sizes[str(s)]))
        elif str(s) in point.scalars:
            arguments.append(_ball(point.scalars[str(s)]))
        else:
            raise InputError(f"no value given for {s}")
    return ball_function(concrete(value), symbols)(*arguments)


def concrete(value: sympy.Expr) -> sympy.Expr:
    """Functions by name replaced by their formulas; any σ by one fixed smooth function."""
    for _ in range(8):
        named = [f for f in value.atoms(sympy.Function) if hasattr(type(f), "definition")]
        if not named:
            return value
        value = value.xreplace(
            {
                f: _defined(f)
                for f in named
                if not any(
                    g is not f and f.has(g) and g in f.args[0].atoms(sympy.Function) and hasattr(type(g), "definition")
                    for g in named
                )
            }
        )
    raise Unsupported(f"functions nested too deeply in {str(value)[:60]}")


def _defined(f: sympy.Function) -> sympy.Expr:
    if type(f).definition is not None:
        return type(f).definition(*f.args)
    order = type(f).__name__.count("′")
    u = sympy.Dummy(real=True)
    stem = sum(map(ord, type(f).__name__.rstrip("′"))) % 7 + 1
    return sympy.sin(stem * u + sympy.Rational(1, 3)).diff(u, order).subs(u, f.args[0]) + (u**2 / 5).diff(
        u, order
    ).subs(u, f.args[0])


def _evaluate_node(node: Tensor, arrays: dict[Tensor, Array], point: Point) -> Array:
    if isinstance(node, Input):
        if node.name not in point.entries:
            raise InputError(f"no entries given for {node.name!r}")
        places = _pick(node.indices, node.axes)
        entries = point.entries[node.name]
        return {c: _ball(entries[tuple(c[p] for p in places)]) for c in _cells(node.axes, point)}
    if isinstance(node, Scalar):
        return {(): _scalar(node.value, point)}
    if isinstance(node, Contract):
        return _evaluate_contract(node, arrays, point)
    if isinstance(node, Map):
        return _evaluate_map(node, arrays, point)
    if isinstance(node, Named):
        places = _pick(node.operand.axes, node.axes)
        return {c: arrays[node.operand][tuple(c[p] for p in places)] for c in _cells(node.axes, point)}
    if isinstance(node, Delta):
        return {c: arb(int(len(set(c)) == 1)) for c in _cells(node.axes, point)}
    if isinstance(node, Extremum):
        return _evaluate_extremum(node, arrays, point)
    if isinstance(node, Maximiser):
        return _evaluate_maximiser(node, arrays, point)
    raise Unsupported(f"no evaluation for a {type(node).__name__}")


def _evaluate_contract(node: Contract, arrays: dict[Tensor, Array], point: Point) -> Array:
    axes = (*node.keep, *node.summed)
    places = [(arrays[f], _pick(f.axes, axes)) for f in node.factors]
    result: Array = {}
    for cell in _cells(axes, point):
        term = arb(1)
        for values, picks in places:
            term = term * values[tuple(cell[p] for p in picks)]
        key = cell[: len(node.keep)]
        result[key] = result[key] + term if key in result else term
    return result or {c: arb(0) for c in _cells(node.keep, point)}


def _evaluate_map(node: Map, arrays: dict[Tensor, Array], point: Point) -> Array:
    function = concrete(node.function)
    slots = tuple(slot(k) for k in range(len(node.arguments)))
    others = tuple(sorted(function.free_symbols - set(slots), key=str))
    fixed = tuple(_scalar(s, point) for s in others)
    compiled = ball_function(function, slots + others)
    places = [(arrays[a], _pick(a.axes, node.axes)) for a in node.arguments]
    return {
        c: compiled(*(values[tuple(c[p] for p in picks)] for values, picks in places), *fixed)
        for c in _cells(node.axes, point)
    }


def _groups(node: Extremum | Maximiser, point: Point) -> dict[Index, list[Index]]:
    body = node.operand
    rest = _pick([i for i in body.axes if i not in node.over], body.axes)
    groups: dict[Index, list[Index]] = {}
    for c in _cells(body.axes, point):
        groups.setdefault(tuple(c[p] for p in rest), []).append(c)
    return groups


def _evaluate_extremum(node: Extremum, arrays: dict[Tensor, Array], point: Point) -> Array:
    values = arrays[node.operand]
    result = {}
    for key, cells in _groups(node, point).items():
        best = values[cells[0]]
        for c in cells[1:]:
            best = best.max(values[c])
        result[key] = best
    return result


def _evaluate_maximiser(node: Maximiser, arrays: dict[Tensor, Array], point: Point) -> Array:
    values, body = arrays[node.operand], node.operand
    weights: Array = {}
    for cells in _groups(node, point).values():
        best = [c for c in cells if not any(values[d] > values[c] for d in cells)]
        if len(best) > 1 and not all(values[c] == values[best[0]] for c in best):
            raise Unsupported("a maximum whose enclosures overlap: the maximiser is not decided")
        for c in cells:
            weights[c] = arb(int(c in best)) / len(best)
    moved = dict(zip(node.over, node.indices))
    places = _pick([moved.get(i, i) for i in body.axes], node.axes)
    return {c: weights[tuple(c[p] for p in places)] for c in _cells(node.axes, point)}
