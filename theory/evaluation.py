"""Exact points and the value of tensor expressions there, enclosed in balls.

``generic_point`` draws axis sizes (non-square where possible), hyper-parameters and rational entries that satisfy the
facts of the inputs; ``evaluate`` encloses every entry of an expression at such a point.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from operator import itemgetter

import sympy
from flint import arb, fmpq

from .enclosures import ball_function
from .errors import InputError, Unsupported
from .recurrence import BEFORE, EACH, LAST, Recur, Recurrence
from .tensors import Axis, Contract, Delta, Extremum, Input, Map, Maximiser, Named, Position, Scalar, Tensor, slot
from .walking import inputs, postorder, scalar_symbols
from .windows import Overlap, Tie, Window, axes_of

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
    extents: dict[sympy.Expr, None] = {}
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
                *axes_of(node),
                *((node.time,) if isinstance(node, Recur) else ()),
            ):
                extents.setdefault(i.size)
                symbols.update(dict.fromkeys(sorted(str(s) for s in i.size.free_symbols)))
    chosen = _sizes(list(symbols), list(extents), dict(sizes or {}), rng)
    values = {name: _scalar_value(s, rng) for name, s in sorted(scalars.items()) if name not in chosen}
    entries = {name: _entries(v, chosen, rng, positive, spread) for name, v in variables.items()}
    if any(isinstance(node, Window) for t in tensors for node in postorder(t)):
        for name, v in variables.items():
            if not v.facts:  # many windows, few values: a maximum over each must still be at one place
                entries[name] = {c: e + Fraction(k, 61 * 9973) for k, (c, e) in enumerate(entries[name].items())}
    return Point(chosen, values, entries)


def _sizes(symbols: list[str], extents: list[sympy.Expr], fixed: dict[str, int], rng: random.Random) -> dict[str, int]:
    """Sizes at which every axis has an entry: those of windows are what the windowed axes leave."""
    pool = [2, 3, 4, 5, 3, 2] if len(symbols) > 3 else [3, 2, 4]
    for attempt in range(200):
        chosen = dict(fixed)
        rng.shuffle(pool)
        for k, name in enumerate(symbols):
            chosen.setdefault(name, pool[k] if k < len(pool) else rng.choice((2, 3)))
        composite = [e for e in extents if not e.is_Symbol]
        if fixed or all(_size_at(e, chosen) >= (2 if attempt < 60 else 1) for e in composite):
            break
        pool = [2, 3, 4, 5, 6, 7]
    return chosen


def _size_at(size: sympy.Expr, sizes: Mapping[str, int]) -> int:
    return int(size.xreplace({s: sympy.Integer(sizes[str(s)]) for s in size.free_symbols if str(s) in sizes}))


def _scalar_value(s: sympy.Symbol, rng: random.Random) -> Fraction:
    if s.is_integer:
        return Fraction(rng.choice((2, 3, 5)))
    value = Fraction(rng.randrange(3, 60), 37)
    return value if s.is_positive or rng.random() < 0.5 else -value


def extent(size: sympy.Expr, sizes: Mapping[str, int]) -> int:
    """An axis size as a number."""
    if isinstance(size, sympy.Symbol):  # nearly always; every entry of every expression asks
        known = sizes.get(size.name)
        if known is not None and known >= 0:
            return known
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


def evaluate(tensor: Tensor, point: Point, given: Mapping[str, Array] | None = None) -> Array:
    """Every entry of an expression as a ball that contains the exact value, at the precision in ``flint.ctx``.

    Keys are index tuples in the order of ``tensor.axes``. Functions of any σ are tried with one fixed function.
    ``given`` holds balls for inputs by name, in place of the point's entries.
    """
    arrays: dict[Tensor, Array] = {}
    families: dict[Recurrence, list[tuple[Array, Array, Array]]] = {}
    for node in postorder(tensor):
        if isinstance(node, Input) and given is not None and node.name in given:
            pick = _picker(node.indices, node.axes)
            arrays[node] = {c: given[node.name][pick(c)] for c in _cells(node.axes, point)}
        elif isinstance(node, Recur):
            if node.family not in families:
                families[node.family] = _run(node.family, arrays, point)
            arrays[node] = families[node.family][node.which][(EACH, BEFORE, LAST).index(node.at)]
        else:
            arrays[node] = _evaluate_node(node, arrays, point)
    return arrays[tensor]


def _run(f: Recurrence, arrays: dict[Tensor, Array], point: Point) -> list[tuple[Array, Array, Array]]:
    """Each state as (each, before, last). All times step at once, T times: after k rounds the first k are right."""
    length = extent(f.time.size, point.sizes)
    given = {s.name: _reordered(arrays[v], v.axes, s.indices) for s, v in zip(f.slots, f.captured)}
    rest = [tuple(a for a in s.indices if a != f.time) for s in f.states]
    begin = [_reordered(arrays[v], v.axes, r) for v, r in zip(f.initials, rest)]
    before = [{c: arb(0) for c in _cells(s.indices, point)} for s in f.states]
    each = before
    for turn in range(length + 1):
        before = [_delayed(e, b, s.indices, f, length) for e, b, s in zip(each, begin, f.states)]
        if turn == length:
            break
        current = {**given, **{s.name: b for s, b in zip(f.states, before)}}
        values = [evaluate(step, point, current) for step in f.steps]
        each = [_reordered(v, step.axes, s.indices) for v, step, s in zip(values, f.steps, f.states)]
    found = []
    for e, b, i, s in zip(each, before, begin, f.states):
        place, final = s.indices.index(f.time), 0 if f.reverse else length - 1
        last = {(*c[:place], *c[place + 1 :]): v for c, v in e.items() if c[place] == final} if length else i
        found.append((e, b, last))
    return found


def _delayed(each: Array, begin: Array, axes: tuple[Axis, ...], f: Recurrence, length: int) -> Array:
    """What the steps are given, from what they computed and the initial value."""
    place, first, back = axes.index(f.time), length - 1 if f.reverse else 0, -1 if f.reverse else 1
    return {
        c: begin[(*c[:place], *c[place + 1 :])]
        if c[place] == first
        else each[(*c[:place], c[place] - back, *c[place + 1 :])]
        for c in each
    }


def _reordered(values: Array, axes: tuple[Axis, ...], order: tuple[Axis, ...]) -> Array:
    pick = _picker(order, axes)
    return {pick(c): v for c, v in values.items()}


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _cells(axes: Iterable[Axis], point: Point) -> Iterable[Index]:
    return itertools.product(*(range(extent(i.size, point.sizes)) for i in axes))


def _pick(axes: Iterable[Axis], order: tuple[Axis, ...]) -> tuple[int, ...]:
    return tuple(order.index(i) for i in axes)


def _picker(axes: Iterable[Axis], order: tuple[Axis, ...]) -> Callable[[Index], Index]:
    """The part of an index along ``axes``, from an index along ``order``."""
    places = _pick(axes, order)
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))


def _scalar(value: sympy.Expr, point: Point) -> arb:
    # Sizes first: ⌊I/2⌋ of whole numbers is a whole number, not a function of balls.
    value = value.xreplace({s: sympy.Integer(point.sizes[str(s)]) for s in value.free_symbols if str(s) in point.sizes})
    symbols = tuple(sorted(value.free_symbols, key=str))
    arguments = []
    for s in symbols:
        if str(s) in point.scalars:
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
        pick = _picker(node.indices, node.axes)
        entries = point.entries[node.name]
        return {c: _ball(entries[pick(c)]) for c in _cells(node.axes, point)}
    if isinstance(node, Scalar):
        return {(): _scalar(node.value, point)}
    if isinstance(node, Contract):
        return _evaluate_contract(node, arrays, point)
    if isinstance(node, Map):
        return _evaluate_map(node, arrays, point)
    if isinstance(node, Named):
        pick, values = _picker(node.operand.axes, node.axes), arrays[node.operand]
        return {c: values[pick(c)] for c in _cells(node.axes, point)}
    if isinstance(node, Position):
        return {c: arb(c[0]) for c in _cells(node.axes, point)}
    if isinstance(node, Delta):
        return {c: arb(int(len(set(c)) == 1)) for c in _cells(node.axes, point)}
    if isinstance(node, Window | Overlap | Tie):
        return _evaluate_window(node, arrays, point)
    if isinstance(node, Extremum):
        return _evaluate_extremum(node, arrays, point)
    if isinstance(node, Maximiser):
        return _evaluate_maximiser(node, arrays, point)
    raise Unsupported(f"no evaluation for a {type(node).__name__}")


def _evaluate_contract(node: Contract, arrays: dict[Tensor, Array], point: Point) -> Array:
    axes = (*node.keep, *node.summed)
    places = [(arrays[f], _picker(f.axes, axes)) for f in node.factors]
    result: Array = {}
    kept = len(node.keep)
    for cell in _cells(axes, point):
        term = arb(1)
        for values, pick in places:
            term = term * values[pick(cell)]
        key = cell[:kept]
        known = result.get(key)
        result[key] = term if known is None else known + term
    return result or {c: arb(0) for c in _cells(node.keep, point)}


def _evaluate_map(node: Map, arrays: dict[Tensor, Array], point: Point) -> Array:
    function = concrete(node.function)
    slots = tuple(slot(k) for k in range(len(node.arguments)))
    others = tuple(sorted(function.free_symbols - set(slots), key=str))
    fixed = tuple(_scalar(s, point) for s in others)
    compiled = ball_function(function, slots + others)
    places = [(arrays[a], _picker(a.axes, node.axes)) for a in node.arguments]
    return {c: compiled(*[values[pick(c)] for values, pick in places], *fixed) for c in _cells(node.axes, point)}


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


def _evaluate_window(node: Window | Overlap | Tie, arrays: dict[Tensor, Array], point: Point) -> Array:
    if isinstance(node, Tie):
        places = _pick((node.into, node.out, node.tap), node.axes)
        at = node.affine.at
        return {
            c: arb(int(i == at(p, u))) for c in _cells(node.axes, point) for i, p, u in (tuple(c[k] for k in places),)
        }
    values = arrays[node.operand]
    if isinstance(node, Window):
        return _evaluate_windows(node, values, point)
    result = {c: arb(0) for c in _cells(node.axes, point)}
    size = extent(node.into.size, point.sizes)
    for c, value in values.items():
        index = dict(zip(node.operand.axes, c))
        i = node.affine.at(index[node.out], index[node.tap])
        if 0 <= i < size and index.get(node.into, i) == i:
            key = tuple({**index, node.into: i}[a] for a in node.axes)
            result[key] = result[key] + value
    return result


def _evaluate_windows(node: Window, values: Array, point: Point) -> Array:
    size = extent(node.over.size, point.sizes)
    result = {}
    for c in _cells(node.axes, point):
        index = dict(zip(node.axes, c))
        i = node.affine.at(index[node.out], index[node.tap])
        index[node.over] = i
        result[c] = values[tuple(index[a] for a in node.operand.axes)] if 0 <= i < size else arb(0)
    return result
