"""Exact arrays: NumPy's own arrays, with entries that are enclosures, so that ordinary code runs on them.

An :class:`ExactArray` is an ``ndarray`` whose storage is either object (entries of :mod:`.exact_scalars`), integer or
boolean.  Indexing, views and in-place assignment are NumPy's own; ufuncs and functions are intercepted through
``__array_ufunc__`` and ``__array_function__``.  What is not in the tables raises :class:`NotCovered` with its name.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .exact_scalars import (
    BINARY,
    UNARY,
    Ball,
    Element,
    Factors,
    NotCovered,
    NotDecided,
    Size,
    lift,
    product,
    total,
    trace,
    unary,
)

#: NumPy's name of a ufunc -> the name in exact_scalars.
_BINARY_NAMES = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "truediv",
    "true_divide": "truediv",
    "power": "pow",
    "float_power": "pow",
    "floor_divide": "floordiv",
    "remainder": "mod",
    "maximum": "maximum",
    "minimum": "minimum",
    "fmax": "maximum",
    "fmin": "minimum",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}
_UNARY_NAMES = {
    **{name: name for name in UNARY},
    "negative": "neg",
    "absolute": "abs",
    "fabs": "abs",
    "radians": "deg2rad",
    "degrees": "rad2deg",
    **{name: name for name in ("sign", "floor", "ceil", "trunc", "rint")},
}
_PREDICATES = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
_LOGICAL = ("logical_and", "logical_or", "logical_xor", "logical_not")
#: ufuncs whose result on integers and booleans is an integer or boolean: NumPy's own loops do them.
_WHOLE = {
    *(
        "add",
        "subtract",
        "multiply",
        "floor_divide",
        "remainder",
        "negative",
        "positive",
        "absolute",
        "sign",
        "maximum",
    ),
    *("minimum", "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift", "square"),
    *_PREDICATES,
    *_LOGICAL,
}


def _maximum(a: Any, b: Any) -> Any:
    return (lift(a))._binary("maximum", a, b)


def _logaddexp(a: Any, b: Any) -> Any:
    high, low = _maximum(a, b), lift(a)._binary("minimum", a, b)
    return high + unary("log1p", unary("exp", low - high))


def _xlogy(x: Any, y: Any) -> Any:
    return lift(0) if bool(lift(x) == 0) else lift(x) * unary("log", y)


def _heaviside(x: Any, half: Any) -> Any:
    return lift(half) if bool(lift(x) == 0) else lift(1 if lift(x) > 0 else 0)


def _copysign(x: Any, y: Any) -> Any:
    return abs(lift(x)) if lift(y) >= 0 else -abs(lift(x))


def _arctan2(y: Any, x: Any) -> Any:
    """The angle of (x, y): by the larger of the two quotients' signs, so that neither divides by zero."""
    y, x = lift(y), lift(x)
    if x > 0:
        return unary("arctan", y / x)
    half_turn = lift(4) * unary("arctan", lift(1))
    if y > 0 or y < 0:
        return (half_turn if y > 0 else -half_turn) / 2 - unary("arctan", x / y)
    if x < 0:
        return half_turn + unary("arctan", y / x)
    raise NotDecided("arctan2 at (0, 0) has no derivative")


#: ufuncs of two numbers that are made from the others.
_COMPOSED: Mapping[str, Callable[[Any, Any], Any]] = {
    "logaddexp": _logaddexp,
    "xlogy": _xlogy,
    "xlog1py": lambda x, y: lift(0) if bool(lift(x) == 0) else lift(x) * unary("log1p", y),
    "hypot": lambda a, b: unary("sqrt", lift(a) * a + lift(b) * b),
    "arctan2": _arctan2,
    "heaviside": _heaviside,
    "copysign": _copysign,
}


@dataclass(frozen=True)
class Operation:
    """One array operation of a recorded run: its name, where in the person's code, what went in and what came out."""

    name: str
    line: int
    inputs: tuple[Any, ...]
    output: Any
    options: tuple[tuple[str, Any], ...] = ()


class ExactArray(np.ndarray[Any, Any]):
    """An ndarray of exact numbers, integers or booleans."""

    __array_priority__ = 900.0

    @property
    def dtype(self) -> Any:
        stored = np.ndarray.dtype.__get__(self)
        return np.dtype(np.float64) if stored.kind == "O" else stored

    @property
    def shape(self) -> Any:
        return tuple(Size(n) for n in np.ndarray.shape.__get__(self))

    @shape.setter
    def shape(self, new: Any) -> None:
        getset: Any = np.ndarray.shape
        getset.__set__(self, plain_shape(new))

    @property
    def size(self) -> Any:
        return Size(np.ndarray.size.__get__(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return handle_ufunc(ufunc, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        return handle_function(function, args, keywords)

    def __setitem__(self, index: Any, value: Any) -> None:
        target = np.ndarray.view(self, np.ndarray)
        value = exact_array(value)
        if target.dtype == object:
            symbolic = trace().symbolic
            if symbolic is not None and symbolic.assign(self, index, value):
                return
            value = value.astype_exact()
        plain = np.ndarray.view(value, np.ndarray)
        target[plain_index(index)] = plain if plain.ndim else plain[()]  # else the array itself would become the entry

    def __getitem__(self, index: Any) -> Any:
        return np.ndarray.__getitem__(self, plain_index(index))

    def __bool__(self) -> bool:
        return bool(self.view(np.ndarray))

    def __repr__(self) -> str:
        return f"exact{self.view(np.ndarray).tolist()}"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self[()], spec) if self.ndim == 0 else repr(self)

    def astype_exact(self) -> ExactArray:
        """Return self with entries (integers and booleans become exact constants)."""
        stored = np.ndarray.view(self, np.ndarray)
        return self if stored.dtype == object else _entries(stored)

    def astype(self, dtype: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        """Convert: floating types keep the exact numbers, integers truncate, booleans compare with 0."""
        wanted, stored = np.dtype(dtype), self.view(np.ndarray)
        if wanted.kind in "fcO":
            return self.astype_exact().copy()
        if stored.dtype != object:
            return wrap(stored.astype(wanted))
        convert = (lambda v: bool(lift(v) != 0)) if wanted.kind == "b" else int
        return wrap(_map(convert, stored).astype(wanted))

    def item(self, *index: Any) -> Any:
        return self.view(np.ndarray).item(*index)

    def tolist(self) -> Any:
        return self.view(np.ndarray).tolist()

    def fill(self, value: Any) -> None:
        self[...] = value

    def dot(self, other: Any, out: Any = None) -> Any:
        return handle_function(np.dot, (self, other), {})

    def view(self, *args: Any, **keywords: Any) -> Any:
        if args and isinstance(args[0], type) and issubclass(args[0], np.ndarray):
            return np.ndarray.view(self, *args)
        return np.ndarray.view(self)


def _methods() -> None:
    """Let the methods of an exact array be the functions of the same name."""

    def method(name: str) -> Callable[..., Any]:
        return lambda self, *args, **keywords: handle_function(getattr(np, name), (self, *args), keywords)

    names = "sum mean var std max min prod argmax argmin cumsum cumprod clip round any all trace argsort ptp"
    for name in names.split():
        setattr(ExactArray, name, method(name))
    ExactArray.conj = ExactArray.conjugate = lambda self: self  # type: ignore[method-assign, assignment]


_methods()


# Making exact arrays -------------------------------------------------------------------------------------------------
def _map(function: Callable[..., Any], *arrays: Any) -> np.ndarray[Any, Any]:
    """Apply a function to entries, broadcasting; the result is an object array, also for no entries."""
    plain = [np.ndarray.view(a, np.ndarray) if isinstance(a, np.ndarray) else _cell(a) for a in arrays]
    out = np.frompyfunc(function, len(plain), 1)(*plain)
    return out if isinstance(out, np.ndarray) else _cell(out)


def _cell(value: Any) -> np.ndarray[Any, Any]:
    cell = np.empty((), dtype=object)
    cell[()] = value
    return cell


def _entries(stored: np.ndarray[Any, Any]) -> ExactArray:
    """Return an object array whose entries are all elements."""
    return _map(lift, stored).view(ExactArray)


def wrap(stored: Any) -> Any:
    """Return a NumPy result as an exact array; a 0-d result as the entry itself."""
    if isinstance(stored, (Element, Size)):
        return stored
    if isinstance(stored, (list, tuple)):
        return type(stored)(wrap(each) for each in stored)
    array = np.asarray(stored)
    if array.dtype == object:
        if not all(issubclass(kind, Element) for kind in set(map(type, array.reshape(-1).tolist()))):
            array = _map(lift, array)
    elif array.dtype.kind == "f":
        array = _map(lift, array)
    elif array.dtype.kind not in "biu":
        raise NotCovered(f"an array of dtype {array.dtype} is not covered")
    result = array.view(ExactArray)
    return result[()] if array.ndim == 0 else result


def exact_array(value: Any, dtype: Any = None) -> Any:
    """Return ``np.array(value)`` in exact arithmetic (always an array, also 0-d)."""
    if isinstance(value, ExactArray):
        result = value
    elif isinstance(value, np.ndarray):
        result = _entries(value) if value.dtype.kind in "fO" else value.view(ExactArray)
    elif isinstance(value, (Element, float, np.floating, Fraction)):
        result = _cell(lift(value)).view(ExactArray)
    elif isinstance(value, Size):
        result = np.asarray(int(value)).view(ExactArray)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        parts = [exact_array(each) for each in value]
        shapes = {np.ndarray.shape.__get__(part) for part in parts}
        if len(shapes) > 1:
            raise ValueError("setting an array element with a sequence: the shapes differ")
        if not parts:
            result = np.empty(0, dtype=object).view(ExactArray)
        elif any(np.ndarray.dtype.__get__(part).kind == "O" for part in parts):
            stacked = np.empty((len(parts), *shapes.pop()), dtype=object)
            for k, part in enumerate(parts):
                stacked[k] = part.astype_exact().view(np.ndarray)[()]  # a 0-d part would be stored as an array
            result = stacked.view(ExactArray)
        else:
            result = np.stack([part.view(np.ndarray) for part in parts]).view(ExactArray)
    else:
        plain = np.asarray(value)
        if plain.dtype.kind not in "biu":
            raise NotCovered(f"a value of type {type(value).__name__} has no exact counterpart")
        result = plain.view(ExactArray)
    return result if dtype is None else result.astype(dtype)


def plain_shape(shape: Any) -> Any:
    return tuple(int(n) for n in shape) if isinstance(shape, (tuple, list)) else int(shape)


_PLAIN_INDEX = frozenset({int, slice, np.ndarray, type(None), type(Ellipsis), bool, np.int64})


def plain_index(index: Any) -> Any:
    """Return an index without exact integers: elements, sizes, exact arrays of integers."""
    if type(index) in _PLAIN_INDEX:
        return index
    if isinstance(index, tuple):
        return tuple(plain_index(each) for each in index)
    if isinstance(index, list):
        return [plain_index(each) for each in index]
    if isinstance(index, (Size, Element)):
        return index.__index__()  # type: ignore[union-attr]
    if isinstance(index, ExactArray):
        stored = index.view(np.ndarray)
        return stored if stored.dtype != object else _map(lambda v: v.__index__(), stored).astype(int)
    return index


def _is_exact(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_is_exact(each) for each in value)
    return isinstance(value, (Element, ExactArray, Size))


def _plain(value: Any) -> Any:
    """Return ``value`` with exact arrays as plain ndarrays, for NumPy functions that only move entries."""
    if isinstance(value, ExactArray):
        return value.view(np.ndarray)
    if isinstance(value, Element):
        return _cell(value)
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


# Ufuncs --------------------------------------------------------------------------------------------------------------
def _log(name: str, inputs: Sequence[Any], output: Any, **options: Any) -> Any:
    """Record an array operation, with the line of the person's code, when the trace asks for it."""
    if trace().record:
        frame = sys._getframe(1)
        while frame is not None and "backproof_exact" not in frame.f_globals:
            frame = frame.f_back  # type: ignore[assignment]
        line = frame.f_lineno if frame is not None else 0
        kept = [np.array(each, subok=True) if isinstance(each, ExactArray) else each for each in (*inputs, output)]
        trace().operations.append(Operation(name, line, tuple(kept[:-1]), kept[-1], tuple(sorted(options.items()))))
    return output


def _whole(arrays: Sequence[Any]) -> bool:
    return all(np.ndarray.dtype.__get__(a).kind in "biu" for a in arrays)


def elementwise(name: str, *inputs: Any) -> Any:
    """Apply the ufunc of that name to exact arrays."""
    arrays = [exact_array(each) for each in inputs]
    if name in _WHOLE and _whole(arrays):
        return wrap(getattr(np, name)(*(a.view(np.ndarray) for a in arrays)))
    if name == "power" and _whole(arrays) and (arrays[1].view(np.ndarray) >= 0).all():
        return wrap(np.power(*(a.view(np.ndarray) for a in arrays)))
    entries = [a.astype_exact() for a in arrays]
    if name in _BINARY_NAMES:
        word = _BINARY_NAMES[name]
        out = _map(BINARY[word] if trace().symbolic is None else lambda a, b: a._binary(word, a, b), *entries)
    elif name in _UNARY_NAMES:
        out = _map(functools.partial(unary, _UNARY_NAMES[name]), *entries)
    elif name in _COMPOSED:
        out = _map(_COMPOSED[name], *entries)
    elif name in _LOGICAL:
        return wrap(getattr(np, name)(*(a.astype(bool).view(np.ndarray) for a in arrays)))
    elif name in ("isnan", "isinf", "isfinite"):
        return wrap(_map(_FINITE[name], *entries).astype(bool))
    elif name == "positive":
        return entries[0].copy()
    else:
        raise NotCovered(f"np.{name} is not covered")
    if name in _PREDICATES:
        return trace().symbolic.mask(out) if trace().symbolic is not None else wrap(out.astype(bool))
    if trace().record and name in ("maximum", "minimum", "fmax", "fmin"):
        out = _map(_own_node, out)
    return _log(name, inputs, wrap(out))


def _own_node(ball: Any) -> Any:
    """Return a node of its own for a selected entry, so that a diagnosis can give it other parents."""
    return Ball(ball.value, ((ball, 1),)) if isinstance(ball, Ball) else ball


_FINITE: Mapping[str, Callable[[Any], bool]] = {
    "isnan": lambda v: bool(v.value.is_nan()),
    "isinf": lambda v: not v.value.is_finite() and not v.value.is_nan(),
    "isfinite": lambda v: bool(v.value.is_finite()),
}


def handle_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """Answer a ufunc called on exact arrays."""
    name = ufunc.__name__
    out = keywords.pop("out", None)
    keywords.pop("dtype", None), keywords.pop("casting", None)
    if method == "__call__":
        where = keywords.pop("where", True)
        if keywords:
            raise NotCovered(f"np.{name} with the keyword {next(iter(keywords))} is not covered")
        if name in ("matmul", "vecdot"):
            result = matmul(*inputs) if name == "matmul" else handle_function(np.vecdot, inputs, {})
        elif name == "divmod":
            result = (elementwise("floor_divide", *inputs), elementwise("remainder", *inputs))
        else:
            result = elementwise(name, *inputs)
        if where is not True:
            if out is None:
                raise NotCovered(f"np.{name} with where= but without out= leaves entries undefined")
            result = FUNCTIONS["where"](where, result, out[0] if isinstance(out, tuple) else out)
    elif method == "reduce":
        result = reduce(name, *inputs, **keywords)
    elif method == "accumulate":
        result = accumulate(name, *inputs, **keywords)
    elif method == "outer":
        a, b = (exact_array(each) for each in inputs)
        result = elementwise(name, a.reshape(np.ndarray.shape.__get__(a) + (1,) * b.ndim), b)
    elif method == "at":
        return _at(name, *inputs)
    else:
        raise NotCovered(f"np.{name}.{method} is not covered")
    return result if out is None else _store(out[0] if isinstance(out, tuple) else out, result)


def _store(out: Any, result: Any) -> Any:
    if not isinstance(out, ExactArray):
        if isinstance(out, np.ndarray):
            raise NotCovered("writing into an array that was made outside the checked functions is not covered")
        return result
    whole = np.ndarray.dtype.__get__(out).kind in "biu"
    if whole and np.ndarray.dtype.__get__(exact_array(result)).kind == "O":
        raise TypeError(f"Cannot cast ufunc output from dtype('float64') to {out.dtype!r}")
    out[...] = result
    return out


def _at(name: str, target: Any, index: Any, value: Any = None) -> None:
    stored = np.ndarray.shape.__get__(target)
    places = np.arange(int(np.prod(stored))).reshape(stored)[plain_index(index)]
    values = np.broadcast_to(exact_array(value).astype_exact().view(np.ndarray), places.shape).reshape(-1)
    for place, each in zip(places.reshape(-1), values, strict=True):
        spot = np.unravel_index(place, stored)
        np.ndarray.__setitem__(target, spot, elementwise(name, np.ndarray.__getitem__(target, spot), each))


# Reductions ----------------------------------------------------------------------------------------------------------
def _axes(array: Any, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(array.ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(np.lib.array_utils.normalize_axis_tuple([int(a) for a in axes], array.ndim))


def _rows(array: Any, axis: Any) -> tuple[np.ndarray[Any, Any], tuple[int, ...], tuple[int, ...]]:
    """Return the entries as rows to be reduced, the shape that is left, and the shape with kept axes."""
    axes = _axes(array, axis)
    shape = np.ndarray.shape.__get__(array)
    left = tuple(n for k, n in enumerate(shape) if k not in axes)
    kept = tuple(1 if k in axes else n for k, n in enumerate(shape))
    moved = np.moveaxis(array.view(np.ndarray), axes, range(array.ndim - len(axes), array.ndim))
    width = int(np.prod([shape[k] for k in axes], dtype=int))
    return np.ascontiguousarray(moved).reshape((int(np.prod(left, dtype=int)), width)), left, kept


def _total(row: Sequence[Any]) -> Any:
    return total(row) if trace().symbolic is None else functools.reduce(lambda a, b: a + b, row)


_NEUTRAL = {"add": 0, "multiply": 1, "logical_and": True, "logical_or": False}


def reduce(
    name: str,
    array: Any,
    axis: Any = 0,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
    dtype: Any = None,
) -> Any:
    """Return ``ufunc.reduce``."""
    array = exact_array(array)
    if where is not True:
        if name not in _NEUTRAL:
            raise NotCovered(f"np.{name}.reduce with where= is not covered")
        array = exact_array(FUNCTIONS["where"](where, array, _NEUTRAL[name]))
    if name in ("logical_and", "logical_or"):
        stored = array.astype(bool).view(np.ndarray)
        return wrap(getattr(np, name).reduce(stored, axis=axis, keepdims=keepdims))
    if name in _WHOLE | {"multiply"} and _whole([array]) and initial is None:
        return wrap(getattr(np, name).reduce(array.view(np.ndarray), axis=axis, keepdims=keepdims))
    if name not in ("add", "multiply", "maximum", "minimum", "logaddexp"):
        raise NotCovered(f"np.{name}.reduce is not covered")
    rows, left, kept = _rows(array.astype_exact(), axis)
    if rows.shape[1] == 0 and initial is None and name not in _NEUTRAL:
        raise ValueError(f"zero-size array to reduction operation {name} which has no identity")
    start = [lift(_NEUTRAL.get(name, 0))] if rows.shape[1] == 0 and initial is None else []
    start += [] if initial is None else [lift(initial)]
    combine = (lambda a, b: a._binary(_BINARY_NAMES[name], a, b)) if name in _BINARY_NAMES else _COMPOSED[name]
    out = np.empty(len(rows), dtype=object)
    for k, row in enumerate(rows):
        entries = start + list(row)
        out[k] = _total(entries) if name == "add" else functools.reduce(combine, entries)
    result = wrap(out.reshape(kept if keepdims else left))
    return _log(f"{name}.reduce", (array,), result, axis=axis if axis is None else _axes(array, axis))


def accumulate(name: str, array: Any, axis: Any = 0, dtype: Any = None) -> Any:
    array = exact_array(array)
    if axis is None:
        array, axis = array.reshape(-1), 0
    moved = np.moveaxis(array.astype_exact().view(np.ndarray), int(axis), 0)
    steps = [exact_array(moved[0])]
    for k in range(1, len(moved)):
        steps.append(
            exact_array(elementwise(name, steps[-1], moved[k].view(ExactArray) if moved.ndim > 1 else moved[k]))
        )
    result = wrap(np.moveaxis(np.stack([s.astype_exact().view(np.ndarray) for s in steps]), 0, int(axis)))
    return _log(f"{name}.accumulate", (array,), result, axis=int(axis))


def matmul(a: Any, b: Any) -> Any:
    """Return ``a @ b`` with one node of the tape per entry."""
    left, right = exact_array(a), exact_array(b)
    if _whole([left, right]):
        return wrap(np.matmul(left.view(np.ndarray), right.view(np.ndarray)))
    if left.ndim == 0 or right.ndim == 0:
        raise ValueError("matmul: Input operand does not have enough dimensions (a scalar is not enough)")
    p, q = left.astype_exact().view(np.ndarray), right.astype_exact().view(np.ndarray)
    p2: Any
    q2: Any
    p2, q2 = (p[None, :] if p.ndim == 1 else p), (q[:, None] if q.ndim == 1 else q)
    if p2.shape[-1] != q2.shape[-2]:
        raise ValueError(f"matmul: Input operand 1 has a mismatch in its core dimension: {p.shape} @ {q.shape}")
    batch = np.broadcast_shapes(p2.shape[:-2], q2.shape[:-2])
    p2 = np.broadcast_to(p2, batch + p2.shape[-2:])
    q2 = np.broadcast_to(q2, batch + q2.shape[-2:])
    out: Any = np.empty(batch + (p2.shape[-2], q2.shape[-1]), dtype=object)
    for spot in np.ndindex(*batch):
        columns = [Factors.of(column) for column in q2[spot].T.tolist()]
        for i, row in enumerate(map(Factors.of, p2[spot].tolist())):
            for j, column in enumerate(columns):
                out[(*spot, i, j)] = product(row, column) if row.balls else lift(0)
    out = out[..., 0] if q.ndim == 1 else out
    out = out[..., 0, :] if p.ndim == 1 and q.ndim > 1 else out[..., 0] if p.ndim == 1 else out
    return _log("matmul", (a, b), wrap(out))


# Functions -----------------------------------------------------------------------------------------------------------
FUNCTIONS: dict[str, Callable[..., Any]] = {}


def handle_function(function: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """Answer a NumPy function called on exact arrays."""
    from . import exact_functions, exact_linalg  # noqa: F401  (they fill FUNCTIONS; below this module)

    name = exact_functions.qualified_name(function)
    if name in FUNCTIONS:
        return FUNCTIONS[name](*args, **keywords)
    if name in exact_functions.MOVING:
        return wrap_moved(function, args, keywords)
    raise NotCovered(f"np.{name} is not covered")


def wrap_moved(function: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """Run NumPy's own implementation on the entries: it only moves them, or combines them by + and ·."""
    out = keywords.pop("out", None)
    plain = _plain(tuple(_entries_if_float(each) for each in args))
    if "stack" in function.__name__ and isinstance(plain[0], np.ndarray) and plain[0].dtype == object:
        plain = (_plain(list(plain[0])), *plain[1:])  # of numbers: each would be handed to this module again
    result = wrap(function(*plain, **_plain(keywords)))
    return result if out is None else _store(out, result)


def _entries_if_float(value: Any) -> Any:
    if isinstance(value, np.ndarray) and not isinstance(value, ExactArray) and value.dtype.kind == "f":
        return exact_array(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_entries_if_float(each) for each in value)
    return value


__all__ = [
    "BINARY",
    "ExactArray",
    "Operation",
    "elementwise",
    "exact_array",
    "handle_function",
    "matmul",
    "reduce",
    "wrap",
]
