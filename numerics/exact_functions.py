"""The NumPy and SciPy functions that exact arrays answer, by name.

``MOVING`` names functions whose NumPy implementation only moves entries or combines them with Python's operators: it
runs as it is.  ``FUNCTIONS`` holds the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .exact_arrays import (
    FUNCTIONS,
    ExactArray,
    _axes,
    _log,
    _map,
    _own_node,
    _plain,
    accumulate,
    elementwise,
    exact_array,
    matmul,
    plain_shape,
    reduce,
    wrap,
)
from .exact_scalars import Ball, Element, NotCovered, Size, lift, trace

MOVING = frozenset(
    [
        "concatenate",
        "stack",
        "vstack",
        "hstack",
        "dstack",
        "column_stack",
        "block",
        "split",
        "array_split",
        "hsplit",
        "vsplit",
        "dsplit",
        "unstack",
        "pad",
        "transpose",
        "permute_dims",
        "matrix_transpose",
        "broadcast_to",
        "broadcast_arrays",
        "expand_dims",
        "squeeze",
        "swapaxes",
        "moveaxis",
        "rollaxis",
        "flip",
        "fliplr",
        "flipud",
        "roll",
        "rot90",
        "tile",
        "repeat",
        "ravel",
        "reshape",
        "take",
        "take_along_axis",
        "put_along_axis",
        "delete",
        "insert",
        "append",
        "diag",
        "diagonal",
        "diagflat",
        "tril",
        "triu",
        "atleast_1d",
        "atleast_2d",
        "atleast_3d",
        "copy",
        "tensordot",
        "inner",
        "vdot",
        "kron",
        "cross",
        "trapezoid",
        "convolve",
        "compress",
        "extract",
        "select",
        "choose",
        "apply_along_axis",
        "lib.stride_tricks.sliding_window_view",
        "lib.stride_tricks.as_strided",
        "array_equal",
        "meshgrid",
        "resize",
        "ascontiguousarray",
        "asfortranarray",
        "require",
        "fill_diagonal",
        "diff",
        "ediff1d",
        "vecdot",
        "matvec",
        "vecmat",
        "argsort",
        "sort",
        "linalg.multi_dot",
        "linalg.outer",
        "linalg.diagonal",
        "linalg.trace",
        "trace",
        "copyto",
        "place",
        "putmask",
        "array_repr",
        "array_str",
        "can_cast",
    ]
)


def qualified_name(function: Any) -> str:
    """Return ``linalg.norm`` for ``np.linalg.norm``."""
    module = getattr(function, "__module__", "") or ""
    name = getattr(function, "__name__", str(function))
    prefix = module.removeprefix("numpy").lstrip(".")
    return f"{prefix}.{name}" if prefix and not prefix.startswith(("_", "ma", "matrixlib")) else name


def covered(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into the table under its NumPy names."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            FUNCTIONS[name] = function
        return function

    return enter


def _count(array: Any, axis: Any) -> int:
    shape = np.ndarray.shape.__get__(array)
    return math.prod(shape[k] for k in _axes(array, axis))


def _reduction(ufunc: str) -> Callable[..., Any]:
    def function(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
        where: Any = True,
    ) -> Any:  # fmt: skip
        if out is not None:
            raise NotCovered(f"a {ufunc} reduction with out= is not covered")
        a = exact_array(a)
        if ufunc in ("add", "multiply") and np.ndarray.dtype.__get__(a).kind == "b":
            a = a.astype(int)
        return reduce(ufunc, a, axis, bool(keepdims), initial, where)

    return function


FUNCTIONS["sum"] = _reduction("add")
FUNCTIONS["prod"] = _reduction("multiply")


@covered("max", "amax", "nanmax")
def largest(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None) -> Any:
    """Return ``np.max`` in exact arithmetic."""
    return reduce("maximum", a, axis, bool(keepdims), initial)


@covered("min", "amin", "nanmin")
def smallest(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None) -> Any:
    """Return ``np.min`` in exact arithmetic."""
    return reduce("minimum", a, axis, bool(keepdims), initial)


@covered("ptp")
def spread(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Return ``np.ptp`` in exact arithmetic."""
    return largest(a, axis, None, keepdims) - smallest(a, axis, None, keepdims)


@covered("any")
def any_true(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Return ``np.any`` in exact arithmetic."""
    return reduce("logical_or", a, axis, bool(keepdims))


@covered("all")
def all_true(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Return ``np.all`` in exact arithmetic."""
    return reduce("logical_and", a, axis, bool(keepdims))


@covered("mean")
def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, where: Any = True) -> Any:
    """Return ``np.mean`` in exact arithmetic."""
    if where is not True:
        raise NotCovered("np.mean with where= is not covered")
    a = exact_array(a)
    count = _count(a, axis)
    if count == 0:
        raise NotCovered("the mean of no numbers is not defined")
    return reduce("add", a.astype_exact(), axis, bool(keepdims)) / lift(count)


@covered("average")
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, keepdims: Any = False) -> Any:
    """Return ``np.average`` in exact arithmetic."""
    if returned:
        raise NotCovered("np.average with returned= is not covered")
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, weights = exact_array(a), exact_array(weights)
    if weights.ndim == 1 and a.ndim > 1:
        shape = [1] * a.ndim
        shape[_axes(a, axis)[0]] = -1
        weights = weights.reshape(shape)
    total = weights * exact_array(np.ones(plain_shape(a.shape)))
    return reduce("add", a * weights, axis, bool(keepdims)) / reduce("add", total, axis, bool(keepdims))


@covered("var")
def variance(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False,
    correction: Any = None,
) -> Any:  # fmt: skip
    """Return ``np.var`` in exact arithmetic."""
    a = exact_array(a).astype_exact()
    centred = a - mean(a, axis, keepdims=True)
    squares = reduce("add", centred * centred, axis, bool(keepdims))
    return squares / lift(_count(a, axis) - int(ddof if correction is None else correction))


@covered("std")
def deviation(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False
) -> Any:
    """Return ``np.std`` in exact arithmetic."""
    return elementwise("sqrt", variance(a, axis, ddof=ddof, keepdims=keepdims))


def _extreme(better: str) -> Callable[..., Any]:
    def function(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        a = exact_array(a)
        stored = a.view(np.ndarray)
        if stored.dtype != object:
            return wrap(
                getattr(np, "argmax" if better == "gt" else "argmin")(stored, axis=axis, keepdims=bool(keepdims))
            )
        moved = stored.reshape(1, -1) if axis is None else np.moveaxis(stored, int(axis), -1)
        places = np.empty(moved.shape[:-1], dtype=int)
        for spot in np.ndindex(*moved.shape[:-1]):
            best = 0
            for k, each in enumerate(moved[spot]):
                if k and each._binary(better, each, moved[spot][best]):
                    best = k
            places[spot] = best
        if axis is None:
            return wrap(places.reshape((1,) * a.ndim if keepdims else ()))
        return wrap(np.expand_dims(places, int(axis)) if keepdims else places)

    return function


FUNCTIONS["argmax"] = _extreme("gt")
FUNCTIONS["argmin"] = _extreme("lt")


@covered("cumsum")
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Return ``np.cumsum`` in exact arithmetic."""
    return accumulate("add", a, axis)


@covered("cumprod")
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Return ``np.cumprod`` in exact arithmetic."""
    return accumulate("multiply", a, axis)


@covered("clip")
def clip(
    a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None
) -> Any:  # NumPy's own argument names
    """Return ``np.clip`` in exact arithmetic."""
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result = exact_array(a)
    result = result if low is None else elementwise("maximum", result, low)
    result = result if high is None else elementwise("minimum", result, high)
    if isinstance(out, ExactArray):
        out[...] = result
        return out
    return result


@covered("where")
def where(condition: Any, *branches: Any) -> Any:
    """Return ``np.where`` in exact arithmetic."""
    condition = exact_array(condition)
    if not branches:
        return np.nonzero(condition.astype(bool).view(np.ndarray))
    yes, no = (exact_array(each) for each in branches)
    if trace().symbolic is not None:
        return trace().symbolic.where(condition, yes, no)
    mask = condition.astype(bool).view(np.ndarray)
    if all(np.ndarray.dtype.__get__(each).kind in "biu" for each in (yes, no)):
        return wrap(np.where(mask, yes.view(np.ndarray), no.view(np.ndarray)))
    result = np.where(mask, yes.astype_exact().view(np.ndarray), no.astype_exact().view(np.ndarray))
    if trace().record:
        result = _map(_own_node, result)
    return _log("where", (condition, yes, no), wrap(result))


@covered("nonzero", "flatnonzero", "argwhere", "count_nonzero")
def nonzero(a: Any, axis: Any = None) -> Any:
    """Return ``np.nonzero`` in exact arithmetic."""
    if axis is not None:
        raise NotCovered("np.count_nonzero with axis= is not covered")
    return np.nonzero(exact_array(a).astype(bool).view(np.ndarray))


FUNCTIONS["flatnonzero"] = lambda a: np.flatnonzero(exact_array(a).astype(bool).view(np.ndarray))
FUNCTIONS["argwhere"] = lambda a: np.argwhere(exact_array(a).astype(bool).view(np.ndarray))
FUNCTIONS["count_nonzero"] = lambda a: int(np.count_nonzero(exact_array(a).astype(bool).view(np.ndarray)))


@covered("round", "around", "round_")
def rounded(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """Return ``np.round`` in exact arithmetic."""
    scale = lift(10) ** int(decimals)
    return elementwise("rint", exact_array(a).astype_exact() * scale) / scale


@covered("nan_to_num")
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Return ``np.nan_to_num`` in exact arithmetic."""
    return exact_array(x).copy()  # exact values are finite where the function is defined


@covered("dot")
def dot_product(a: Any, b: Any, out: Any = None) -> Any:
    """Return ``np.dot`` in exact arithmetic."""
    a, b = exact_array(a), exact_array(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim > 2:
        raise NotCovered("np.dot with an array of more than two axes on the right is not covered: use @")
    return matmul(a, b)


@covered("outer")
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """Return ``np.outer`` in exact arithmetic."""
    return exact_array(a).reshape(-1, 1) * exact_array(b).reshape(1, -1)


@covered("einsum")
def einsum(*operands: Any, **keywords: Any) -> Any:
    """Return ``np.einsum`` in exact arithmetic."""
    plain = []
    for each in operands:
        numeric = isinstance(each, (np.ndarray, Element, float))
        plain.append(_plain(exact_array(each).astype_exact()) if numeric else _plain(each))
    return _log("einsum", operands, wrap(np.einsum(*plain, optimize=False)))


@covered("trace")
def trace_of(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """Return ``np.trace`` in exact arithmetic."""
    diagonal = np.diagonal(exact_array(a).astype_exact().view(np.ndarray), offset, axis1, axis2)
    return reduce("add", diagonal, -1)


@covered("linalg.norm", "linalg.vector_norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Return ``np.linalg.norm`` in exact arithmetic."""
    x = exact_array(x).astype_exact()
    ord = ord.value if isinstance(ord, Ball) else ord
    plain = None if ord is None else ord if isinstance(ord, str) else float(ord)
    vector = x.ndim == 1 or isinstance(axis, (int, Size))
    if plain is None or (plain == "fro" and not vector) or (plain == 2 and vector):
        return elementwise("sqrt", reduce("add", x * x, axis, keepdims))
    if plain == 1 and vector:
        return reduce("add", elementwise("absolute", x), axis, keepdims)
    if plain == math.inf and vector:
        return reduce("maximum", elementwise("absolute", x), axis, keepdims)
    if isinstance(plain, float) and vector:
        return reduce("add", elementwise("absolute", x) ** lift(plain), axis, keepdims) ** (lift(1) / lift(plain))
    raise NotCovered(f"np.linalg.norm with ord={ord!r} is not covered")


@covered("allclose", "isclose")
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Return ``np.allclose`` in exact arithmetic."""
    gap = elementwise("absolute", exact_array(a) - exact_array(b))
    return gap <= lift(atol) + lift(rtol) * elementwise("absolute", exact_array(b))


FUNCTIONS["allclose"] = lambda *args, **keywords: bool(all_true(isclose(*args, **keywords)))
FUNCTIONS["shape"] = lambda a: exact_array(a).shape
FUNCTIONS["ndim"] = lambda a: exact_array(a).ndim
FUNCTIONS["size"] = lambda a, axis=None: exact_array(a).size if axis is None else exact_array(a).shape[axis]
FUNCTIONS["real"] = FUNCTIONS["nan_to_num_"] = lambda a: a
FUNCTIONS["iscomplexobj"] = lambda a: False
FUNCTIONS["isrealobj"] = lambda a: True
FUNCTIONS["result_type"] = lambda *a: np.dtype(np.float64)


# Creation ------------------------------------------------------------------------------------------------------------
def _of(dtype: Any, template: Any = None) -> np.dtype[Any]:
    return (
        np.dtype(float) if dtype is None and template is None else np.dtype(template.dtype if dtype is None else dtype)
    )


def filled(shape: Any, value: Any, dtype: Any = None) -> Any:
    """Return an exact array of one value."""
    value = exact_array(value)
    wanted = value.dtype if dtype is None else np.dtype(dtype)
    shape = plain_shape(shape)
    out = np.empty(shape, dtype=object if wanted.kind in "fcO" else wanted)
    out[...] = value.astype(wanted).view(np.ndarray) if value.ndim else _plain(value.astype(wanted))
    return out.view(ExactArray)


def _like(value: Any) -> Callable[..., Any]:
    def function(a: Any, dtype: Any = None, order: Any = None, subok: bool = True, shape: Any = None) -> Any:
        a = exact_array(a)
        return filled(np.ndarray.shape.__get__(a) if shape is None else shape, value, _of(dtype, a))

    return function


FUNCTIONS["zeros_like"] = FUNCTIONS["empty_like"] = _like(0)
FUNCTIONS["ones_like"] = _like(1)


@covered("full_like")
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = None, subok: bool = True, shape: Any = None
) -> Any:
    """Return ``np.full_like`` in exact arithmetic."""
    a = exact_array(a)
    return filled(np.ndarray.shape.__get__(a) if shape is None else shape, fill_value, _of(dtype, a))


def arange(*limits: Any, dtype: Any = None) -> Any:
    """Return ``np.arange``: integers stay integers; a fractional step is exact."""
    ends: list[Any] = [int(v) if isinstance(v, (Size, int, np.integer)) else lift(v) for v in limits]
    if all(isinstance(v, int) for v in ends):
        result = wrap(np.arange(*ends))
        return result if dtype is None else result.astype(dtype)
    start, stop, step = (ends + [1])[:3] if len(ends) > 1 else (0, ends[0], 1)
    count = max(0, math.ceil(float(((lift(stop) - start) / step).value)))
    return exact_array([lift(start) + step * k for k in range(count)])


def linspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None) -> Any:
    """Return ``np.linspace`` with exact steps."""
    gaps = int(num) - (1 if endpoint else 0)
    return exact_array([lift(start) + (lift(stop) - start) * k / max(gaps, 1) for k in range(int(num))])


def eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = float) -> Any:
    """Return ``np.eye``."""
    return exact_array(np.eye(int(N), None if M is None else int(M), int(k))).astype(dtype or float)


#: Functions that make arrays from no array: only a proxied ``np`` can answer them.
CREATION: dict[str, Callable[..., Any]] = {
    "array": lambda a, dtype=None, copy=True, ndmin=0, **_: _at_least(exact_array(a, dtype).copy(), ndmin),
    "asarray": lambda a, dtype=None, **_: exact_array(a, dtype),
    "asanyarray": lambda a, dtype=None, **_: exact_array(a, dtype),
    "ascontiguousarray": lambda a, dtype=None, **_: exact_array(a, dtype),
    "asarray_chkfinite": lambda a, dtype=None, **_: exact_array(a, dtype),
    "zeros": lambda shape, dtype=float, **_: filled(shape, 0, dtype or float),
    "ones": lambda shape, dtype=float, **_: filled(shape, 1, dtype or float),
    "empty": lambda shape, dtype=float, **_: filled(shape, 0, dtype or float),
    "full": lambda shape, fill_value, dtype=None, **_: filled(shape, fill_value, dtype),
    "arange": arange,
    "linspace": linspace,
    "eye": eye,
    "identity": eye,
    "tri": lambda N, M=None, k=0, dtype=float: exact_array(np.tri(int(N), M and int(M), int(k))).astype(dtype),
}


def _at_least(array: Any, ndmin: int) -> Any:
    return array.reshape((1,) * max(0, ndmin - array.ndim) + np.ndarray.shape.__get__(array))


# scipy.special -------------------------------------------------------------------------------------------------------
def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """Return ``scipy.special.logsumexp``."""
    if return_sign:
        raise NotCovered("logsumexp with return_sign= is not covered")
    weights = elementwise("exp", a) if b is None else elementwise("exp", a) * b
    return elementwise("log", reduce("add", weights, axis, keepdims))


def softmax(x: Any, axis: Any = None) -> Any:
    """Return ``scipy.special.softmax``."""
    weights = elementwise("exp", x)
    return weights / reduce("add", weights, axis, True)


SPECIAL: dict[str, Callable[..., Any]] = {
    "logsumexp": logsumexp,
    "softmax": softmax,
    "log_softmax": lambda x, axis=None: exact_array(x) - logsumexp(x, axis, keepdims=True),
}
