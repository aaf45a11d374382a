"""Running a person's function in exact arithmetic: the names ``np``, ``math``, ``float``… of its module are answered.

Creation functions have no array argument to intercept, and ``float(x)`` and ``len(x)`` are Python's: for the time of
one call the globals of the function's module (and of the person's other modules that it uses) point to stand-ins.
Nothing is written to the person's files, and the globals are put back afterwards.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import exact_functions as table
from . import exact_linalg  # noqa: F401  (fills the table of functions)
from .exact_arrays import (
    FUNCTIONS,
    ExactArray,
    _is_exact,
    _map,
    elementwise,
    exact_array,
    handle_function,
    handle_ufunc,
    wrap,
)
from .exact_scalars import UNARY, Element, NotCovered, Size, lift, trace, unary

#: NumPy functions that take no part in the arithmetic: they run as they are.
_NEUTRAL = frozenset(
    [
        "errstate",
        "seterr",
        "geterr",
        "finfo",
        "iinfo",
        "dtype",
        "issubdtype",
        "promote_types",
        "isscalar",
        "ndenumerate",
        "ndindex",
        "broadcast_shapes",
        "set_printoptions",
        "get_printoptions",
        "printoptions",
        "ix_",
        "unravel_index",
        "ravel_multi_index",
        "may_share_memory",
        "shares_memory",
        "triu_indices",
        "tril_indices",
        "diag_indices",
        "indices",
    ]
)


class _Floating(type):
    """The stand-in for ``float`` and ``np.float64``: a call keeps the exact number, and it is a dtype."""

    dtype = np.dtype(np.float64)

    def __call__(cls, value: Any = 0.0) -> Any:
        if trace().symbolic is not None:
            return trace().symbolic.lift(value)
        if isinstance(value, (ExactArray, np.ndarray, list)):
            return exact_array(value).astype(float) if getattr(value, "ndim", 1) else lift(exact_array(value)[()])
        if isinstance(value, (str, bytes)):
            return builtins.float(value)
        return lift(value)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, (builtins.float, Element))

    def __eq__(cls, other: Any) -> bool:
        return other is builtins.float or other is cls or isinstance(other, _Floating) or other == np.dtype(np.float64)

    def __hash__(cls) -> int:
        return hash(builtins.float)


class _Float(metaclass=_Floating):
    pass


class _ArrayType(type):
    """The stand-in for ``np.ndarray`` in ``isinstance``: symbolic arrays are arrays too."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, np.ndarray) or hasattr(value, "places")

    def __call__(cls, shape: Any, dtype: Any = float, **_: Any) -> Any:
        return _Module(np, _NUMPY_ANSWERS, _submodule).empty(shape, dtype)

    def __getattr__(cls, name: str) -> Any:
        return getattr(np.ndarray, name)  # ``np.ndarray.sum(x)``


class _Array(metaclass=_ArrayType):
    pass


def _length(value: Any) -> Any:
    symbolic = trace().symbolic is not None and hasattr(value, "places")
    return value.shape[0] if symbolic or (isinstance(value, ExactArray) and value.ndim) else builtins.len(value)


class _Ufunc:
    """A ufunc called on numbers that are not yet exact: ``np.sqrt(2.0)`` is √2."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.__name__ = real.__name__

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        if trace().symbolic is not None:
            return trace().symbolic.ufunc(self.real, "__call__", inputs, keywords)
        return handle_ufunc(self.real, "__call__", [_made_exact(each) for each in inputs], keywords)

    def __getattr__(self, name: str) -> Any:
        if trace().symbolic is not None and name in ("reduce", "accumulate", "outer", "at"):
            return lambda *args, **keywords: trace().symbolic.ufunc(self.real, name, args, keywords)
        if name in ("reduce", "accumulate", "outer", "at"):
            return lambda *args, **keywords: handle_ufunc(self.real, name, args, keywords)
        return getattr(self.real, name)


def _made_exact(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and _holds_numbers(value):
        return exact_array(value)
    return lift(value) if isinstance(value, float) else value


def _holds_numbers(value: Any) -> bool:
    return bool(value) and all(isinstance(v, (int, float, Element, Size, np.number)) for v in value)


def _vectorize(function: Any, otypes: Any = None, **_: Any) -> Callable[..., Any]:
    """Return ``np.vectorize(function)``."""

    def call(*arrays: Any) -> Any:
        return wrap(_map(function, *(exact_array(a).view(np.ndarray) for a in arrays)))

    return call


class _Module:
    """A stand-in for a module: known names are answered, the rest is the module's own."""

    def __init__(self, real: Any, answers: Mapping[str, Any], resolve: Callable[[Any, str], Any]) -> None:
        self._real, self._answers, self._resolve = real, answers, resolve

    def __getattr__(self, name: str) -> Any:
        if trace().symbolic is not None and name in table.CREATION:
            return functools.partial(trace().symbolic.call, name)
        if name in self._answers:
            answer = self._answers[name]
            return answer() if isinstance(answer, _Constant) else answer
        return self._resolve(getattr(self._real, name), name)


class _Constant:
    """A constant that is made anew at the precision in force."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __call__(self) -> Any:
        return self.make()


def _pi() -> Any:
    from flint import arb

    return lift(arb.pi()) if trace().symbolic is None else trace().symbolic.constant("pi")


def _e() -> Any:
    return unary("exp", lift(1)) if trace().symbolic is None else trace().symbolic.constant("e")


def numpy_function(real: Any, name: str | None = None) -> Any:
    """Return the stand-in for one NumPy function or ufunc."""
    name = name or table.qualified_name(real)
    if isinstance(real, np.ufunc):
        return _Ufunc(real)
    if isinstance(real, type) and issubclass(real, np.floating):
        return _Float
    if isinstance(real, (type, types.ModuleType)) or not callable(real) or name in _NEUTRAL:
        return real

    @functools.wraps(real)
    def call(*args: Any, **keywords: Any) -> Any:
        if trace().symbolic is not None:
            return trace().symbolic.call(name, *args, **keywords)
        known = name in FUNCTIONS or name in table.MOVING
        if known and (_is_exact(args) or _is_exact(list(keywords.values())) or any(_numeric(a) for a in args)):
            return handle_function(real, [_made_exact(a) for a in args], keywords)
        if not known and (_is_exact(args) or _is_exact(list(keywords.values()))):
            raise NotCovered(f"np.{name} is not covered")
        return real(*args, **keywords)

    return call


def _numeric(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) or (isinstance(value, np.ndarray) and value.dtype.kind in "fbiu")


_NUMPY_ANSWERS: dict[str, Any] = {
    **table.CREATION,
    "pi": _Constant(_pi),
    "e": _Constant(_e),
    "euler_gamma": _Constant(lambda: lift(__import__("flint").arb.const_euler())),
    "ndarray": _Array,
    "float64": _Float,
    "float32": _Float,
    "float16": _Float,
    "double": _Float,
    "single": _Float,
    "vectorize": _vectorize,
}


def _submodule(real: Any, name: str) -> Any:
    if isinstance(real, types.ModuleType):
        if real.__name__ == "numpy.linalg":
            return _Module(real, {}, lambda each, n: numpy_function(each, f"linalg.{n}"))
        return real
    return numpy_function(real, name)


_MATH_NAMES = {
    **{name: name for name in UNARY},
    "fabs": "abs",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "atanh": "arctanh",
    "lgamma": "gammaln",
    "floor": "floor",
    "ceil": "ceil",
}


def _math(name: str) -> Callable[..., Any]:
    if name == "log":
        return lambda v, base=None: unary("log", v) if base is None else unary("log", v) / unary("log", base)
    if name in ("floor", "ceil"):
        return lambda v: int(unary(name, v))
    return lambda v: unary(_MATH_NAMES[name], v)


def _resolve_math(real: Any, name: str) -> Any:
    if not callable(real):
        return real

    def call(*args: Any) -> Any:
        if any(isinstance(a, Element) for a in args):
            raise NotCovered(f"math.{name} is not covered")
        return real(*(int(a) if isinstance(a, Size) else a for a in args))

    return call


_MATH_ANSWERS: dict[str, Any] = {
    **{name: _math(name) for name in _MATH_NAMES if hasattr(math, name)},
    "pow": lambda a, b: lift(a) ** lift(b),
    "hypot": lambda *v: unary("sqrt", functools.reduce(lambda a, b: a + b, (lift(each) * each for each in v))),
    "fsum": lambda v: functools.reduce(lambda a, b: a + b, v, lift(0)),
    "isnan": lambda v: bool(lift(v).value.is_nan()),
    "isfinite": lambda v: bool(lift(v).value.is_finite()),
    "pi": _Constant(_pi),
    "tau": _Constant(lambda: 2 * _pi()),
    "e": _Constant(_e),
}


def _special(real: Any, name: str) -> Any:
    if name in table.SPECIAL:
        return functools.partial(trace().symbolic.call, name) if trace().symbolic is not None else table.SPECIAL[name]
    return _Ufunc(real) if isinstance(real, np.ufunc) else real


def python_source(value: Any) -> Any:
    """Return the Python function inside a function compiled by Numba, ``range`` for ``prange``; None for others."""
    if not (getattr(type(value), "__module__", "") or "").startswith("numba") and not isinstance(value, type):
        return None
    if getattr(value, "__name__", "") == "prange" and (value.__module__ or "").startswith("numba"):
        return range
    inner = getattr(value, "py_func", None)
    if inner is None:  # @vectorize
        inner = getattr(getattr(value, "_dispatcher", None), "py_func", None)
        return None if inner is None else _vectorize(inner)
    return inner


def stand_in(value: Any) -> Any:
    """Return what a global of the person's module is replaced by, or None to leave it."""
    if isinstance(value, types.ModuleType):
        if value is np:
            return _Module(np, _NUMPY_ANSWERS, _submodule)
        if value is math:
            return _Module(math, _MATH_ANSWERS, _resolve_math)
        if value.__name__ == "scipy.special":
            return _Module(value, {}, _special)
        if value.__name__ == "scipy":
            return _Module(value, {}, lambda real, name: stand_in(real) or real)
        if value.__name__ == "numpy.linalg":
            return _submodule(value, "linalg")
        if value.__name__ == "numba":
            return _Module(value, {"prange": range}, lambda real, name: real)
        return None
    if value is np.pi:
        return _pi()
    if (compiled := python_source(value)) is not None:
        return compiled
    if isinstance(value, np.vectorize):
        inner = value.pyfunc
        return _vectorize(_math(inner.__name__) if getattr(inner, "__module__", "") == "math" else inner)
    name = getattr(value, "__name__", None)
    home = getattr(value, "__module__", None) or ""
    if isinstance(value, np.ufunc):
        return _Ufunc(value)
    if home.startswith("numpy") and name in _NUMPY_ANSWERS and getattr(np, name, None) is value:
        return getattr(_Module(np, _NUMPY_ANSWERS, _submodule), name)
    if home.startswith("numpy") and not home.startswith("numpy.random") and isinstance(value, types.FunctionType):
        return numpy_function(value)
    if home == "math" and name in _MATH_ANSWERS:
        return _MATH_ANSWERS[name]
    if home.startswith("scipy.special") and name in table.SPECIAL:
        return _special(value, name)
    return None


def _range(*limits: Any) -> Any:
    from .symbolic_sizes import symbolic_range

    return symbolic_range(*limits) if trace().symbolic is not None else builtins.range(*limits)


_BUILTINS = {"float": _Float, "len": _length, "range": _range}


def _is_library(module: Any) -> bool:
    if module is None:
        return True
    path = getattr(module, "__file__", None) or ""
    top = module.__name__.partition(".")[0]
    return not path or _installed(path) or top == "backproof" or _beside_metadata(top)


@functools.lru_cache(maxsize=4096)
def _installed(path: str) -> bool:
    """Tell whether a file belongs to Python or to an installed package of any environment, an outer one too."""
    packages = {"site-packages", "dist-packages"}
    return path.startswith(sysconfig.get_paths()["stdlib"]) or not packages.isdisjoint(Path(path).parts)


@functools.lru_cache(maxsize=4096)
def _beside_metadata(top: str) -> bool:
    """Tell whether a package lies in a folder that pip has installed into, whatever it is called (``pip --target``)."""
    path = getattr(sys.modules.get(top), "__file__", None)
    if not path:
        return False
    folder = Path(path).parent.parent if Path(path).stem == "__init__" else Path(path).parent
    return any(folder.glob("*.dist-info"))


def reachable_globals(function: Any) -> list[dict[str, Any]]:
    """Return the globals of the function's module and of the person's other modules that it names."""
    found: list[dict[str, Any]] = []
    function = python_source(function) or function
    own = getattr(function, "__exact_scopes__", None)
    names = getattr(inspect.unwrap(function), "__globals__", None) or getattr(function, "__dict__", {})
    waiting = [names] if own is None else list(own)
    waiting += [
        inner.__globals__
        for cell in reachable_cells(function)
        if isinstance(inner := python_source(cell.cell_contents) or cell.cell_contents, types.FunctionType)
        and own is None
        and ((home := sys.modules.get(inner.__module__ or "")) is None or not _is_library(home))
    ]
    while waiting and len(found) < 50:
        names = waiting.pop()
        if any(names is each for each in found):
            continue
        found.append(names)
        for value in list(names.values()):
            if isinstance(value, types.ModuleType) and not _is_library(value):
                waiting.append(vars(value))
            elif python_source(value) not in (None, range):
                waiting.append(getattr(inspect.unwrap(value), "__globals__", {}))
            elif isinstance(value, type) and not _is_library(sys.modules.get(value.__module__ or "")):
                waiting.append(vars(sys.modules[value.__module__]))
            elif isinstance(value, types.FunctionType) and value.__globals__ is not names:
                home = sys.modules.get(value.__module__ or "")
                if home is None or not _is_library(home):
                    waiting.append(value.__globals__)
    return found


def reachable_cells(function: Any) -> list[types.CellType]:
    """Return the closure cells of a function and of the functions in them: a compiled helper may stand there."""
    found: list[types.CellType] = []
    waiting = [inspect.unwrap(python_source(function) or function)]
    while waiting and len(found) < 200:
        for cell in getattr(waiting.pop(), "__closure__", None) or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not yet assigned
                continue
            if any(cell is each for each in found):
                continue
            found.append(cell)
            inner = python_source(value) or value
            if isinstance(inner, types.FunctionType):
                waiting.append(inner)
    return found


@functools.lru_cache(maxsize=1)
def refuse_compiled_code() -> None:
    """Let Numba refuse exact arrays: it would take the pointers of their storage for floats."""
    from numba.core.typing.typeof import typeof_impl

    def refuse(value: Any, context: Any) -> Any:
        raise NotCovered("a function compiled by Numba was called inside code that exact arithmetic cannot follow")

    typeof_impl.register(ExactArray)(refuse)


@contextmanager
def exact_modules(function: Any) -> Iterator[None]:
    """Let the globals and closures that ``function`` can reach point to the stand-ins while the block runs."""
    undo: list[tuple[dict[str, Any], str, Any]] = []
    cells: list[tuple[types.CellType, Any]] = []
    missing = object()
    if "numba" in sys.modules:
        refuse_compiled_code()
    try:
        for names in reachable_globals(function):
            changes = {name: new for name, value in list(names.items()) if (new := stand_in(value)) is not None}
            for name, new in _BUILTINS.items():
                if name not in names:
                    changes[name] = new
            changes["backproof_exact"] = True
            for name, new in changes.items():
                undo.append((names, name, names.get(name, missing)))
                names[name] = new
        for cell in reachable_cells(function):
            if (new := stand_in(cell.cell_contents)) is not None:
                cells.append((cell, cell.cell_contents))
                cell.cell_contents = new
        yield
    finally:
        for cell, old in reversed(cells):
            cell.cell_contents = old
        for names, name, old in reversed(undo):
            if old is missing:
                names.pop(name, None)
            else:
                names[name] = old


__all__ = ["ExactArray", "elementwise", "exact_modules", "reachable_globals", "stand_in"]
