"""The NumPy functions that symbolic arrays answer, by name; everything else is untraceable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy

from ..theory import tensors as t
from ..theory.places import place
from .symbolic_arrays import Place, SymbolicArray, aligned, axes_of, constant, lift, make, same_place, size_of
from .symbolic_indexing import add_at
from .symbolic_sizes import NumberNeeded, SymbolicSize, Untraceable

_0, _1, _2 = t.slot(0), t.slot(1), t.slot(2)


def _map(expression: sympy.Expr) -> Callable[..., SymbolicArray]:
    def function(*values: Any) -> SymbolicArray:
        tensors, places = aligned(*values)
        return SymbolicArray(t.apply(expression, *tensors).expand(axes_of(places)), places)

    return function


def _add(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray(t.add(p, q).expand(axes_of(places)), places)


def _subtract(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray((p - q).expand(axes_of(places)), places)


def _multiply(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray(t.multiply(p, q).expand(axes_of(places)), places, "mask" if _masks(a, b) else "real")


def _divide(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray((p / q).expand(axes_of(places)), places)


def _power(a: Any, b: Any) -> SymbolicArray:
    exponent = lift(b)
    if not isinstance(exponent.tensor, t.Scalar):
        (p, q), places = aligned(a, b)
        return SymbolicArray(t.apply(_0**_1, p, q), places)
    base = lift(a)
    return SymbolicArray(base.tensor**exponent.tensor.value, base.places)


def _masks(*values: Any) -> bool:
    return all(isinstance(v, SymbolicArray) and v.kind == "mask" for v in values)


def _above(a: Any, b: Any) -> SymbolicArray:
    """1 where a > b, else 0; written with 0 on the right where either side is 0, so that both ways agree."""
    left, right = lift(a), lift(b)
    if isinstance(left.tensor, t.Scalar) and not isinstance(right.tensor, t.Scalar):
        return _not(_above(right, left))
    (p, q), places = aligned(left, right)
    return SymbolicArray(t.greater(p, q), places, "mask")


def _not(mask: Any) -> SymbolicArray:
    mask = lift(mask)
    return SymbolicArray(1 - mask.tensor, mask.places, "mask")


def _equal(a: Any, b: Any) -> SymbolicArray:
    if any(isinstance(v, SymbolicArray) and v.kind == "labels" for v in (a, b)):
        raise Untraceable("a comparison of labels")
    (p, q), places = aligned(a, b)
    return SymbolicArray(t.same(p, q), places, "mask")


def _where(mask: Any, *branches: Any) -> SymbolicArray:
    if len(branches) != 2 or not (isinstance(mask, SymbolicArray) and mask.kind == "mask"):
        raise Untraceable("np.where without a comparison")
    (m, a, b), places = aligned(mask, *branches)
    return SymbolicArray((m * a + (1 - m) * b).expand(axes_of(places)), places)


def _larger(a: Any, b: Any) -> SymbolicArray:
    if isinstance(lift(a).tensor, t.Scalar) and not isinstance(lift(b).tensor, t.Scalar):
        a, b = b, a
    return _where(_above(a, b), a, b)


def _smaller(a: Any, b: Any) -> SymbolicArray:
    if isinstance(lift(a).tensor, t.Scalar) and not isinstance(lift(b).tensor, t.Scalar):
        a, b = b, a
    return _where(_above(a, b), b, a)


def _absolute(a: Any) -> SymbolicArray:
    return _where(_above(a, 0), a, -lift(a))


def _clip(a: Any, low: Any = None, high: Any = None, a_min: Any = None, a_max: Any = None) -> SymbolicArray:
    low, high = (low if a_min is None else a_min), (high if a_max is None else a_max)
    a = lift(a) if low is None else _larger(a, low)
    return a if high is None else _smaller(a, high)


# Reductions ----------------------------------------------------------------------------------------------------------
def _reduced(a: Any, axis: Any, keepdims: Any) -> tuple[SymbolicArray, list[t.Axis], tuple[Place, ...]]:
    a = lift(a)
    axes = range(a.ndim) if axis is None else [int(k) for k in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    for k in axes:
        if not -a.ndim <= k < a.ndim and a.ndim:
            raise IndexError(f"axis {k} is out of bounds for array of dimension {a.ndim}")
    gone = {k % a.ndim for k in axes} if a.ndim else set()
    lost = [x for k, p in enumerate(a.places) if k in gone for x in p]
    places = [() if k in gone else p for k, p in enumerate(a.places) if keepdims or k not in gone]
    return a, lost, tuple(places)


def _sum(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None) -> SymbolicArray:
    a, lost, places = _reduced(a, axis, keepdims)
    total = SymbolicArray(a.tensor.expand(axes_of(a.places)).sum([x.name for x in lost]) if lost else a.tensor, places)
    return total if initial is None else _add(total, initial)


def _mean(a: Any, axis: Any = None, keepdims: Any = False) -> SymbolicArray:
    a, lost, places = _reduced(a, axis, keepdims)
    return SymbolicArray(a.tensor.expand(axes_of(a.places)).mean([x.name for x in lost]) if lost else a.tensor, places)


def _max(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None) -> SymbolicArray:
    a, lost, places = _reduced(a, axis, keepdims)
    top = SymbolicArray(a.tensor.expand(axes_of(a.places)).max([x.name for x in lost]) if lost else a.tensor, places)
    return top if initial is None else _larger(top, initial)


def _min(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None) -> SymbolicArray:
    low = -_max(-lift(a), axis, keepdims)
    return low if initial is None else _smaller(low, initial)


def _var(a: Any, axis: Any = None, keepdims: Any = False, ddof: Any = 0, correction: Any = None) -> SymbolicArray:
    a, lost, _ = _reduced(a, axis, keepdims)
    centred = _subtract(a, _mean(a, axis, True))
    count = sympy.Mul(*(x.size for x in lost))
    total = _sum(_multiply(centred, centred), axis, keepdims)
    return SymbolicArray(total.tensor / (count - constant(ddof if correction is None else correction)), total.places)


def _average(a: Any, axis: Any = None, weights: Any = None, keepdims: Any = False) -> SymbolicArray:
    if weights is not None:
        raise Untraceable("np.average with weights")
    return _mean(a, axis, keepdims)


def _steps(a: Any, axis: Any) -> tuple[SymbolicArray, int, list[SymbolicArray]]:
    """Return the entries along an axis of fixed length, one by one."""
    a = lift(a)
    if axis is None:
        a, axis = a.ravel(), 0
    k = int(axis) % a.ndim
    if not a.places[k]:
        return a, k, [a._viewed([*a.places[:k], *a.places[k + 1 :]])]
    if len(a.places[k]) > 1:
        raise Untraceable("steps along a merged axis")
    (own,) = a.places[k]
    if not own.size.is_Integer:
        raise NumberNeeded(own.size)
    index: list[Any] = [slice(None)] * a.ndim
    return a, k, [a[(*index[:k], step, *index[k + 1 :])] for step in range(int(own.size))]


def _prod(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    if isinstance(a, (list, tuple)) and all(isinstance(n, (int, SymbolicSize)) for n in a):
        result: Any = 1
        for n in a:
            result = result * n
        return result
    a = lift(a)
    axes = range(a.ndim) if axis is None else (axis if isinstance(axis, (tuple, list)) else (axis,))
    for k in sorted((int(k) % a.ndim for k in axes), reverse=True):
        _, _, parts = _steps(a, k)
        total = parts[0]
        for part in parts[1:]:
            total = _multiply(total, part)
        a = _expand_dims(total, k) if keepdims else total
    return a


def _cumsum(a: Any, axis: Any = None) -> SymbolicArray:
    a, k, parts = _steps(a, axis)
    totals = [parts[0]]
    for part in parts[1:]:
        totals.append(_add(totals[-1], part))
    return _stack(totals, k)


def _diff(a: Any, n: int = 1, axis: int = -1) -> SymbolicArray:
    a = lift(a)
    index: list[Any] = [slice(None)] * a.ndim
    for _ in range(int(n)):
        high, low = list(index), list(index)
        high[axis], low[axis] = slice(1, None), slice(None, -1)
        a = _subtract(a[tuple(high)], a[tuple(low)])
    return a


# Products ------------------------------------------------------------------------------------------------------------
def _contracted(
    left: SymbolicArray, right: SymbolicArray, pairs: list[tuple[int, int]], shared: list[tuple[int, int]] | None = None
) -> SymbolicArray:
    """Sum over the paired positions; the shared ones stay, in front."""
    shared = shared or []
    mapping: dict[str, str] = {}
    front: list[Place] = []
    for i, j in [*pairs, *shared]:
        p, q = left.places[i], right.places[j]
        if (i, j) in shared and (not p or not q):
            new = p if p else tuple(t.fresh_axis(a.size) for a in q)
            mapping |= {a.name: b.name for a, b in zip(q, new, strict=False)} if q else {}
            front.append(new)
            continue
        if bool(p) != bool(q):
            raise Untraceable("a product over an axis of length one")
        same_place(p, q)
        mapping |= {a.name: b.name for a, b in zip(q, p, strict=True)}
        if (i, j) in shared:
            front.append(p)
    used, taken = {j for _, j in [*pairs, *shared]}, {i for i, _ in [*pairs, *shared]}
    rest: list[Place] = []
    for j, q in enumerate(right.places):
        if j not in used:
            new = tuple(t.fresh_axis(a.size) for a in q)
            mapping |= {a.name: b.name for a, b in zip(q, new, strict=True)}
            rest.append(new)
    places = [*front, *(p for i, p in enumerate(left.places) if i not in taken), *rest]
    whole_left = left.tensor.expand(axes_of(left.places))
    whole_right = right.tensor.expand(axes_of(right.places)).rename(mapping)
    return SymbolicArray(t.contract((whole_left, whole_right), axes_of(places)), places)


def _matmul(a: Any, b: Any) -> SymbolicArray:
    left, right = lift(a), lift(b)
    if not left.ndim or not right.ndim:
        raise Untraceable("@ with a number")
    if right.ndim <= 2:
        return _contracted(left, right, [(left.ndim - 1, max(right.ndim - 2, 0))])
    if left.ndim == 1:
        moved = _contracted(right, left, [(right.ndim - 2, 0)])
        return moved
    batch = max(left.ndim, right.ndim) - 2
    left = left._viewed([*[()] * (batch + 2 - left.ndim), *left.places])
    right = right._viewed([*[()] * (batch + 2 - right.ndim), *right.places])
    return _contracted(left, right, [(batch + 1, batch)], [(k, k) for k in range(batch)])


def _dot(a: Any, b: Any) -> SymbolicArray:
    left, right = lift(a), lift(b)
    if not left.ndim or not right.ndim:
        return _multiply(a, b)
    return _contracted(left, right, [(left.ndim - 1, max(right.ndim - 2, 0))])


def _inner(a: Any, b: Any) -> SymbolicArray:
    left, right = lift(a), lift(b)
    if not left.ndim or not right.ndim:
        return _multiply(a, b)
    return _contracted(left, right, [(left.ndim - 1, right.ndim - 1)])


def _vdot(a: Any, b: Any) -> SymbolicArray:
    return _sum(_multiply(lift(a).ravel(), lift(b).ravel()))


def _outer(a: Any, b: Any) -> SymbolicArray:
    return _multiply(lift(a).ravel()[:, None], lift(b).ravel()[None, :])


def _tensordot(a: Any, b: Any, axes: Any = 2) -> SymbolicArray:
    left, right = lift(a), lift(b)
    if isinstance(axes, int):
        pairs = [(left.ndim - axes + k, k) for k in range(axes)]
    else:
        first, second = ((each,) if isinstance(each, int) else tuple(each) for each in axes)
        pairs = [(int(i) % left.ndim, int(j) % right.ndim) for i, j in zip(first, second, strict=True)]
    return _contracted(left, right, pairs)


def _einsum(subscripts: str, *operands: Any, **_: Any) -> SymbolicArray:
    text = subscripts.replace(" ", "")
    if "." in text:
        raise Untraceable("np.einsum with an ellipsis")
    inputs, _arrow, output = text.partition("->")
    if not _arrow:
        letters = inputs.replace(",", "")
        output = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    known: dict[str, Place] = {}
    tensors = []
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        array = lift(operand)
        mapping: dict[str, str] = {}
        for letter, place_ in zip(letters, array.places, strict=True):
            if not place_:
                raise Untraceable("np.einsum over an axis of length one")
            own = known.setdefault(letter, tuple(t.fresh_axis(a.size) for a in place_))
            same_place(own, place_)
            mapping |= {a.name: b.name for a, b in zip(place_, own, strict=True)}
        tensors.append(array.tensor.expand(axes_of(array.places)).rename(mapping))
    places = [known[letter] for letter in output]
    return SymbolicArray(t.contract(tensors, axes_of(places)), places)


# Making and moving ---------------------------------------------------------------------------------------------------
def _sizes(shape: Any) -> list[sympy.Expr]:
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    return [n.expr if isinstance(n, SymbolicSize) else sympy.Integer(int(n)) for n in sizes]


def _full(shape: Any, value: Any, *_: Any) -> SymbolicArray:
    value = lift(value)
    if value.ndim:
        return _broadcast_to(value, shape).copy()
    places: list[Place] = [() if n == 1 else (t.fresh_axis(n),) for n in _sizes(shape)]
    return SymbolicArray(value.tensor.expand(axes_of(places)), places)


def _like(value: Any) -> Callable[..., SymbolicArray]:
    def made(a: Any, *_: Any, shape: Any = None, **__: Any) -> SymbolicArray:
        if shape is not None:
            return _full(shape, value)
        a = lift(a)
        return SymbolicArray(lift(value).tensor.expand(axes_of(a.places)), a.places)

    return made


def _broadcast_to(a: Any, shape: Any) -> SymbolicArray:
    a = lift(a)
    sizes = _sizes(shape)
    places: list[Place] = []
    for k, n in enumerate(sizes, start=a.ndim - len(sizes)):
        own: Place = a.places[k] if k >= 0 else ()
        if own:
            same_place(own, (t.fresh_axis(n),) if len(own) == 1 or sympy.expand(size_of(own) - n) != 0 else own)
        places.append(own if own else () if n == 1 else (t.fresh_axis(n),))
    return SymbolicArray(a.tensor.expand(axes_of(places)), places)


def _arange(*limits: Any, **_: Any) -> Any:
    ends = [n.expr if isinstance(n, SymbolicSize) else n for n in limits]
    if len(ends) == 1:
        ends = [sympy.Integer(0), ends[0]]
    if len(ends) != 2 or not isinstance(ends[1], sympy.Expr):
        return lift(np.arange(*limits))
    start, count = constant(ends[0]), sympy.expand(ends[1] - constant(ends[0]))
    place_ = t.fresh_axis(count)
    tensor = make.Input("arange", (place_,))
    if start == 0:
        return SymbolicArray(tensor, ((place_,),), "range")
    return SymbolicArray(tensor + start, ((place_,),))


def _eye(n: Any, m: Any = None, k: Any = 0, *_: Any) -> SymbolicArray:
    if m is not None or int(k):
        raise Untraceable("np.eye of two sizes or off the diagonal")
    size = _sizes(n)[0]
    a, b = t.fresh_axis(size), t.fresh_axis(size)
    return SymbolicArray(make.Delta(a, b), ((a,), (b,)))


def _expand_dims(a: Any, axis: Any) -> SymbolicArray:
    a = lift(a)
    places = list(a.places)
    for each in sorted(axis) if isinstance(axis, (tuple, list)) else [axis]:
        places.insert(each if each >= 0 else len(places) + 1 + each, ())
    return a._viewed(places)


def _moveaxis(a: Any, source: int, destination: int) -> SymbolicArray:
    a = lift(a)
    order = [k for k in range(a.ndim) if k != source % a.ndim]
    order.insert(destination % a.ndim, source % a.ndim)
    return a.transpose(order)


def _placed(parts: list[SymbolicArray], axis: int) -> SymbolicArray:
    """Put arrays after one another along an axis."""
    k = axis % parts[0].ndim
    sizes = [size_of(p.places[k]) for p in parts]
    big = t.fresh_axis(sympy.expand(sympy.Add(*sizes)))
    target = [*parts[0].places[:k], (big,), *parts[0].places[k + 1 :]]
    terms, offset = [], sympy.Integer(0)
    for part, size in zip(parts, sizes, strict=True):
        mapping: dict[str, str] = {}
        for j, (own, wanted) in enumerate(zip(part.places, target, strict=True)):
            if j != k:
                same_place(own, wanted)
                mapping |= {a.name: b.name for a, b in zip(own, wanted, strict=True)}
        if len(part.places[k]) > 1:
            raise Untraceable("joining along a merged axis")
        small = t.fresh_axis(size) if part.places[k] else None
        mapping |= {part.places[k][0].name: small.name} if small is not None else {}
        tensor = part.tensor.expand(axes_of(part.places)).rename(mapping)
        terms.append(t.contract((tensor, place(big, small, offset)), axes_of(target)))
        offset += size
    return SymbolicArray(t.add(*terms).expand(axes_of(target)), target)


def _concatenate(arrays: Any, axis: Any = 0) -> SymbolicArray:
    parts = [lift(each) for each in arrays]
    if axis is None:
        parts, axis = [p.ravel() for p in parts], 0
    if any(p.ndim != parts[0].ndim or not p.ndim for p in parts):
        raise Untraceable("joining arrays of different dimensions")
    return _placed(parts, int(axis))


def _stack(arrays: Any, axis: int = 0) -> SymbolicArray:
    parts = [lift(each) for each in arrays]
    return _placed([_expand_dims(p, axis if axis >= 0 else p.ndim + 1 + axis) for p in parts], axis)


def _rows(a: Any) -> SymbolicArray:
    a = lift(a)
    return a if a.ndim > 1 else a._viewed([(), *a.places])


def _hstack(arrays: Any) -> SymbolicArray:
    parts = [lift(each) for each in arrays]
    return _concatenate(parts, 0 if parts[0].ndim == 1 else 1)


def _column_stack(arrays: Any) -> SymbolicArray:
    parts = [lift(each) for each in arrays]
    return _concatenate([p if p.ndim > 1 else p[:, None] for p in parts], 1)


def _split(a: Any, sections: Any, axis: Any = 0) -> list[SymbolicArray]:
    a = lift(a)
    k = int(axis) % a.ndim
    size = a.shape[k]
    if isinstance(sections, (int, SymbolicSize)):
        width = size // int(sections)
        ends = [width * (j + 1) for j in range(int(sections))]
    else:
        ends = [*sections, size]
    found, start = [], 0
    index: list[Any] = [slice(None)] * a.ndim
    for end in ends:
        found.append(a[(*index[:k], slice(start, end), *index[k + 1 :])])
        start = end
    return found


def _pad_pairs(width: Any, ndim: int) -> list[tuple[Any, Any]]:
    """Return before and after for each axis, from a number, one pair, or a pair (or a number) for each axis."""
    if not isinstance(width, (tuple, list)):
        return [(width, width)] * ndim
    if len(width) <= 2 and not isinstance(width[0], (tuple, list)):
        return [(width[0], width[-1])] * ndim
    pairs = [each if isinstance(each, (tuple, list)) else (each,) for each in width]
    pairs = pairs * ndim if len(pairs) == 1 else pairs
    return [(each[0], each[-1]) for each in pairs]


def _pad(a: Any, width: Any, mode: str = "constant", constant_values: Any = 0) -> SymbolicArray:
    if mode != "constant" or constant_values not in (0, 0.0):
        raise Untraceable(f"np.pad of another kind than zeros ({mode})")
    a = lift(a)
    tensor, places = a.tensor.expand(axes_of(a.places)), list(a.places)
    for k, (before, after) in enumerate(_pad_pairs(width, a.ndim)):
        low, high = _sizes((before, after))
        if low == high == 0:
            continue
        if len(places[k]) > 1:
            raise Untraceable("np.pad of a merged axis")
        own = places[k][0] if places[k] else None
        big = t.fresh_axis(sympy.expand(size_of(places[k]) + low + high))
        rest = [x for j, p in enumerate(places) if j != k for x in p]
        tensor = t.contract((tensor, place(big, own, low)), [*rest, big])
        places[k] = (big,)
    return SymbolicArray(tensor, places)


def _repeat(a: Any, repeats: Any, axis: Any = None) -> SymbolicArray:
    a = lift(a)
    if not isinstance(repeats, (int, SymbolicSize)):
        raise Untraceable("np.repeat by several numbers")
    if axis is None:
        a, axis = a.ravel(), 0
    k = int(axis) % a.ndim
    more: Place = () if _sizes(repeats)[0] == 1 else (t.fresh_axis(_sizes(repeats)[0]),)
    places = [*a.places[:k], (*a.places[k], *more), *a.places[k + 1 :]]
    return SymbolicArray(a.tensor.expand(axes_of(places)), places)


def _tile(a: Any, reps: Any) -> SymbolicArray:
    a = lift(a)
    counts = _sizes(reps)
    old: list[Place] = [()] * (len(counts) - a.ndim) + list(a.places)
    counts = [sympy.Integer(1)] * (len(old) - len(counts)) + counts
    places = [p if n == 1 else (t.fresh_axis(n), *p) for n, p in zip(counts, old, strict=True)]
    return SymbolicArray(a.tensor.expand(axes_of(places)), places)


def _flip(a: Any, axis: Any = None) -> SymbolicArray:
    a = lift(a)
    axes = range(a.ndim) if axis is None else (axis if isinstance(axis, (tuple, list)) else (axis,))
    turned = {int(k) % a.ndim for k in axes}
    return a[tuple(slice(None, None, -1) if k in turned else slice(None) for k in range(a.ndim))]


def _diagonal(a: Any, *_: Any) -> SymbolicArray:
    a = lift(a)
    if a.ndim != 2 or len(a.places[0]) != 1 or len(a.places[1]) != 1:
        raise Untraceable("the diagonal of an array that is no matrix")
    same_place(*a.places)
    (p,), (q,) = a.places
    return SymbolicArray(t.contract((a.tensor.expand((p, q)), make.Delta(p, q)), (p,)), ((p,),))


def _diag(a: Any, k: int = 0) -> SymbolicArray:
    a = lift(a)
    if k:
        raise Untraceable("np.diag off the diagonal")
    if a.ndim == 2:
        return _diagonal(a)
    a = a.ravel()
    if len(a.places[0]) != 1:
        raise Untraceable("np.diag of a merged axis")
    (p,) = a.places[0]
    q = t.fresh_axis(p.size)
    return SymbolicArray(t.contract((a.tensor.expand((p,)), make.Delta(p, q)), (p, q)), ((p,), (q,)))


def _triangle(upper: bool) -> Callable[..., SymbolicArray]:
    def made(a: Any, k: int = 0) -> SymbolicArray:
        a = lift(a)
        if a.ndim < 2 or any(len(p) != 1 for p in a.places[-2:]):
            raise Untraceable("a triangle of a merged axis")
        (p,), (q,) = a.places[-2:]
        # The upper part from the k-th diagonal on is what the lower part up to the one before leaves.
        low = make.Input(f"lower[{int(k) - upper}]", (p, q), (t.BOOLEAN,))
        return _multiply(a, SymbolicArray(1 - low if upper else low, ((p,), (q,)), "mask"))

    return made


def _softmax(a: Any, axis: Any = None) -> SymbolicArray:
    weights = _map(sympy.exp(_0))(a)
    return _divide(weights, _sum(weights, axis, True))


def _logsumexp(a: Any, axis: Any = None, keepdims: bool = False) -> SymbolicArray:
    return _map(sympy.log(_0))(_sum(_map(sympy.exp(_0))(a), axis, keepdims))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> SymbolicArray:
    if ord not in (None, 2) or (ord == 2 and lift(x).ndim != 1 and not isinstance(axis, int)):
        raise Untraceable("np.linalg.norm of another order")
    return _map(sympy.sqrt(_0))(_sum(_multiply(x, x), axis, keepdims))


TABLE: dict[str, Callable[..., Any]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "true_divide": _divide,
    "power": _power,
    "negative": lambda a: SymbolicArray(-lift(a).tensor, lift(a).places),
    "positive": lambda a: a,
    "square": lambda a: _multiply(a, a),
    "reciprocal": lambda a: _divide(1, a),
    "exp": _map(sympy.exp(_0)),
    "expm1": _map(sympy.exp(_0) - 1),
    "log": _map(sympy.log(_0)),
    "log1p": _map(sympy.log(1 + _0)),
    "log2": _map(sympy.log(_0) / sympy.log(2)),
    "log10": _map(sympy.log(_0) / sympy.log(10)),
    "exp2": _map(2**_0),
    "sqrt": _map(sympy.sqrt(_0)),
    "tanh": _map(sympy.tanh(_0)),
    "sinh": _map(sympy.sinh(_0)),
    "cosh": _map(sympy.cosh(_0)),
    "sin": _map(sympy.sin(_0)),
    "cos": _map(sympy.cos(_0)),
    "tan": _map(sympy.tan(_0)),
    "arctan": _map(sympy.atan(_0)),
    "arcsinh": _map(sympy.asinh(_0)),
    "hypot": _map(sympy.sqrt(_0**2 + _1**2)),
    "xlogy": _map(_0 * sympy.log(_1)),
    "float_power": _power,
    "erf": _map(sympy.erf(_0)),
    "erfc": _map(sympy.erfc(_0)),
    "expit": _map(1 / (1 + sympy.exp(-_0))),
    "logaddexp": _map(sympy.log(sympy.exp(_0) + sympy.exp(_1))),
    "maximum": _larger,
    "fmax": _larger,
    "minimum": _smaller,
    "fmin": _smaller,
    "absolute": _absolute,
    "fabs": _absolute,
    "sign": lambda a: _subtract(_multiply(2, _above(a, 0)), 1),
    "clip": _clip,
    "greater": _above,
    "greater_equal": _above,
    "less": lambda a, b: _not(_above(a, b)),
    "less_equal": lambda a, b: _not(_above(a, b)),
    "equal": _equal,
    "not_equal": lambda a, b: _not(_equal(a, b)),
    "logical_not": _not,
    "invert": _not,
    "logical_and": _multiply,
    "bitwise_and": _multiply,
    "logical_or": lambda a, b: _not(_multiply(_not(a), _not(b))),
    "bitwise_or": lambda a, b: _not(_multiply(_not(a), _not(b))),
    "where": _where,
    "sum": _sum,
    "mean": _mean,
    "average": _average,
    "prod": _prod,
    "cumsum": _cumsum,
    "diff": _diff,
    "max": _max,
    "amax": _max,
    "min": _min,
    "amin": _min,
    "var": _var,
    "std": lambda *a, **k: _map(sympy.sqrt(_0))(_var(*a, **k)),
    "matmul": _matmul,
    "dot": _dot,
    "outer": _outer,
    "inner": _inner,
    "vdot": _vdot,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "zeros": lambda shape, *_: _full(shape, 0),
    "empty": lambda shape, *_: _full(shape, 0),
    "ones": lambda shape, *_: _full(shape, 1),
    "full": _full,
    "zeros_like": _like(0),
    "empty_like": _like(0),
    "ones_like": _like(1),
    "full_like": lambda a, value, *_, **__: _like(value)(a),
    "broadcast_to": _broadcast_to,
    "arange": _arange,
    "eye": _eye,
    "identity": _eye,
    "array": lambda a, *_, **__: lift(a).copy(),
    "asarray": lambda a, *_, **__: lift(a),
    "asanyarray": lambda a, *_, **__: lift(a),
    "ascontiguousarray": lambda a, *_, **__: lift(a).copy(),
    "float": lambda a: lift(a),
    "concatenate": _concatenate,
    "stack": _stack,
    "hstack": _hstack,
    "vstack": lambda arrays: _concatenate([_rows(a) for a in arrays], 0),
    "column_stack": _column_stack,
    "append": lambda a, b, axis=None: _concatenate([a, b], axis),
    "split": _split,
    "array_split": _split,
    "hsplit": lambda a, sections: _split(a, sections, 0 if lift(a).ndim == 1 else 1),
    "vsplit": lambda a, sections: _split(a, sections, 0),
    "pad": _pad,
    "repeat": _repeat,
    "tile": _tile,
    "flip": _flip,
    "fliplr": lambda a: _flip(a, 1),
    "flipud": lambda a: _flip(a, 0),
    "diag": _diag,
    "diagflat": lambda a: _diag(lift(a).ravel()),
    "diagonal": _diagonal,
    "trace": lambda a: _sum(_diagonal(a)),
    "triu": _triangle(True),
    "tril": _triangle(False),
    "moveaxis": _moveaxis,
    "atleast_2d": _rows,
    "add.at": add_at,
    "subtract.at": lambda target, index, value: add_at(target, index, -lift(value)),
    "copyto": lambda target, source: target.__setitem__(Ellipsis, source),
    "copy": lambda a: lift(a).copy(),
    "transpose": lambda a, axes=None: lift(a).transpose(*(axes or ())),
    "swapaxes": lambda a, i, j: lift(a).swapaxes(i, j),
    "expand_dims": _expand_dims,
    "squeeze": lambda a, axis=None: lift(a).squeeze(axis),
    "reshape": lambda a, shape: lift(a).reshape(shape),
    "ravel": lambda a: lift(a).ravel(),
    "shape": lambda a: lift(a).shape,
    "ndim": lambda a: lift(a).ndim,
    "size": lambda a, axis=None: lift(a).size if axis is None else lift(a).shape[axis],
    "linalg.norm": _norm,
    "softmax": _softmax,
    "logsumexp": _logsumexp,
    "log_softmax": lambda a, axis=None: _subtract(a, _logsumexp(a, axis, True)),
}
