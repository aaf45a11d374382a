"""The NumPy functions that symbolic arrays answer, by name; everything else is untraceable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy

from ..theory import tensors as t
from .symbolic_arrays import SizesDiffer, SymbolicArray, SymbolicSize, Untraceable, aligned, constant, lift, make

_0, _1, _2 = t.slot(0), t.slot(1), t.slot(2)


def _map(expression: sympy.Expr) -> Callable[..., SymbolicArray]:
    def function(*values: Any) -> SymbolicArray:
        tensors, places = aligned(*values)
        return SymbolicArray(t.apply(expression, *tensors), places)

    return function


def _add(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray(t.add(p, q).expand([x for x in places if x]), places)


def _subtract(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray((p - q).expand([x for x in places if x]), places)


def _multiply(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray(t.multiply(p, q), places, "mask" if _masks(a, b) else "real")


def _divide(a: Any, b: Any) -> SymbolicArray:
    (p, q), places = aligned(a, b)
    return SymbolicArray(p / q, places)


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
    return SymbolicArray((m * a + (1 - m) * b).expand([x for x in places if x]), places)


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
def _reduced(a: Any, axis: Any, keepdims: bool) -> tuple[SymbolicArray, list[str], tuple[Any, ...]]:
    a = lift(a)
    axes = range(a.ndim) if axis is None else [int(k) for k in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    gone = {k % a.ndim for k in axes} if a.ndim else set()
    names = [p.name for k, p in enumerate(a.places) if k in gone and p is not None]
    places = [None if k in gone else p for k, p in enumerate(a.places) if keepdims or k not in gone]
    return a, names, tuple(places)


def _sum(a: Any, axis: Any = None, keepdims: bool = False) -> SymbolicArray:
    a, names, places = _reduced(a, axis, keepdims)
    return SymbolicArray(a.tensor.sum(names) if names else a.tensor, places)


def _mean(a: Any, axis: Any = None, keepdims: bool = False) -> SymbolicArray:
    a, names, places = _reduced(a, axis, keepdims)
    return SymbolicArray(a.tensor.mean(names) if names else a.tensor, places)


def _max(a: Any, axis: Any = None, keepdims: bool = False) -> SymbolicArray:
    a, names, places = _reduced(a, axis, keepdims)
    return SymbolicArray(a.tensor.max(names) if names else a.tensor, places)


def _min(a: Any, axis: Any = None, keepdims: bool = False) -> SymbolicArray:
    return -_max(-lift(a), axis, keepdims)


def _var(a: Any, axis: Any = None, keepdims: bool = False, ddof: Any = 0) -> SymbolicArray:
    a, names, _ = _reduced(a, axis, keepdims)
    centred = _subtract(a, _mean(a, axis, True))
    count = sympy.Mul(*(a.tensor.axis(n).size if n in a.tensor.names else 1 for n in names))
    total = _sum(_multiply(centred, centred), axis, keepdims)
    return SymbolicArray(total.tensor / (count - constant(ddof)), total.places)


# Products ------------------------------------------------------------------------------------------------------------
def _contracted(left: SymbolicArray, right: SymbolicArray, i: int, j: int, batch: int) -> SymbolicArray:
    """Sum over left's axis i and right's axis j; the first ``batch`` axes are shared."""
    p, q = left.places[i], right.places[j]
    if (p is None) != (q is None):
        raise Untraceable("a product over an axis of length one")
    if p is not None and q is not None and p.size != q.size:
        raise SizesDiffer(p.size, q.size)
    mapping, places = {}, [x for k, x in enumerate(left.places) if k != i % left.ndim]
    shared = left.places[:batch]
    for k, x in enumerate(right.places):
        if x is None:
            if k >= batch and k != j % right.ndim:
                places.append(None)
            continue
        if k < batch:
            if shared[k] is None or shared[k].size != x.size:  # type: ignore[union-attr]
                raise Untraceable("a batched product with broadcasting")
            mapping[x.name] = shared[k].name  # type: ignore[union-attr]
        elif k == j % right.ndim:
            mapping[x.name] = p.name if p is not None else x.name
        else:
            new = t.fresh_axis(x.size)
            mapping[x.name] = new.name
            places.append(new)
    product = t.contract((left.tensor, right.tensor.rename(mapping)), [x for x in places if x is not None])
    return SymbolicArray(product, places)


def _matmul(a: Any, b: Any) -> SymbolicArray:
    left, right = lift(a), lift(b)
    if not left.ndim or not right.ndim:
        raise Untraceable("@ with a number")
    if right.ndim > 2 and right.ndim != left.ndim:
        raise Untraceable("a batched product with broadcasting")
    batch = right.ndim - 2 if right.ndim > 2 else 0
    return _contracted(left, right, left.ndim - 1, max(right.ndim - 2, 0), batch)


def _dot(a: Any, b: Any) -> SymbolicArray:
    left, right = lift(a), lift(b)
    return _multiply(a, b) if not left.ndim or not right.ndim else _matmul(a, b)


def _outer(a: Any, b: Any) -> SymbolicArray:
    left, right = lift(a), lift(b)
    if left.ndim != 1 or right.ndim != 1:
        raise Untraceable("np.outer of matrices")
    return _multiply(left[:, None], right[None, :])


def _einsum(subscripts: str, *operands: Any, **_: Any) -> SymbolicArray:
    text = subscripts.replace(" ", "")
    if "." in text or "->" not in text:
        raise Untraceable("np.einsum with an ellipsis or without ->")
    inputs, output = text.split("->")
    axes: dict[str, t.Axis] = {}
    tensors = []
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        array = lift(operand)
        mapping: dict[str, str] = {}
        for letter, place in zip(letters, array.places, strict=True):
            if place is None:
                raise Untraceable("np.einsum over an axis of length one")
            known = axes.setdefault(letter, t.fresh_axis(place.size))
            if known.size != place.size:
                raise SizesDiffer(known.size, place.size)
            mapping[place.name] = known.name
        tensors.append(array.tensor.rename(mapping))
    places = [axes[letter] for letter in output]
    return SymbolicArray(t.contract(tensors, places), places)


# Making and moving ---------------------------------------------------------------------------------------------------
def _shape(shape: Any) -> list[Any]:
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    return [
        None if isinstance(n, int) and n == 1 else t.fresh_axis(n.expr if isinstance(n, SymbolicSize) else int(n))
        for n in sizes
    ]


def _full(shape: Any, value: Any, *_: Any) -> SymbolicArray:
    places = _shape(shape)
    value = lift(value)
    if value.ndim:
        return _broadcast_to(value, shape)
    return SymbolicArray(value.tensor.expand([p for p in places if p]), places)


def _like(value: Any) -> Callable[..., SymbolicArray]:
    return lambda a, *_, **__: SymbolicArray(lift(value).tensor.expand([p for p in a.places if p]), a.places)


def _broadcast_to(a: Any, shape: Any) -> SymbolicArray:
    a = lift(a)
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    places: list[Any] = []
    for k, n in enumerate(sizes, start=a.ndim - len(sizes)):
        own = a.places[k] if k >= 0 else None
        size = n.expr if isinstance(n, SymbolicSize) else sympy.Integer(int(n))
        if own is not None and own.size != size:
            raise SizesDiffer(own.size, size)
        places.append(own if own is not None else None if size == 1 else t.fresh_axis(size))
    return SymbolicArray(a.tensor.expand([p for p in places if p]), places)


def _arange(n: Any, *rest: Any, **_: Any) -> SymbolicArray:
    if rest or not isinstance(n, SymbolicSize):
        raise Untraceable("np.arange of numbers")
    place = t.fresh_axis(n.expr)
    return SymbolicArray(make.Input("arange", (place,)), (place,), "range")


def _eye(n: Any, *rest: Any, **_: Any) -> SymbolicArray:
    if rest or not isinstance(n, SymbolicSize):
        raise Untraceable("np.eye of numbers")
    a, b = t.fresh_axis(n.expr), t.fresh_axis(n.expr)
    return SymbolicArray(make.Delta(a, b), (a, b))


def _expand_dims(a: Any, axis: int) -> SymbolicArray:
    places = list(a.places)
    places.insert(axis if axis >= 0 else len(places) + 1 + axis, None)
    return a._viewed(places)


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
    "sqrt": _map(sympy.sqrt(_0)),
    "tanh": _map(sympy.tanh(_0)),
    "sinh": _map(sympy.sinh(_0)),
    "cosh": _map(sympy.cosh(_0)),
    "sin": _map(sympy.sin(_0)),
    "cos": _map(sympy.cos(_0)),
    "arctan": _map(sympy.atan(_0)),
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
    "average": _mean,
    "max": _max,
    "amax": _max,
    "min": _min,
    "amin": _min,
    "var": _var,
    "std": lambda *a, **k: _map(sympy.sqrt(_0))(_var(*a, **k)),
    "matmul": _matmul,
    "dot": _dot,
    "outer": _outer,
    "einsum": _einsum,
    "zeros": lambda shape, *_: _full(shape, 0),
    "empty": lambda shape, *_: _full(shape, 0),
    "ones": lambda shape, *_: _full(shape, 1),
    "full": _full,
    "zeros_like": _like(0),
    "empty_like": _like(0),
    "ones_like": _like(1),
    "full_like": lambda a, value, *_: _like(value)(a),
    "broadcast_to": _broadcast_to,
    "arange": _arange,
    "eye": _eye,
    "identity": _eye,
    "array": lambda a, *_: lift(a).copy(),
    "asarray": lambda a, *_: lift(a),
    "copy": lambda a: lift(a).copy(),
    "transpose": lambda a, axes=None: a.transpose(*(axes or ())),
    "swapaxes": lambda a, i, j: a.swapaxes(i, j),
    "expand_dims": _expand_dims,
    "squeeze": lambda a, axis=None: a.squeeze(axis),
    "reshape": lambda a, shape: a.reshape(shape),
    "ravel": lambda a: a.ravel(),
    "shape": lambda a: a.shape,
    "ndim": lambda a: a.ndim,
    "size": lambda a: a.size,
    "linalg.norm": _norm,
    "softmax": _softmax,
    "logsumexp": _logsumexp,
    "log_softmax": lambda a, axis=None: _subtract(a, _logsumexp(a, axis, True)),
}
