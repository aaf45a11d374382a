"""Symbolic arrays: a person's code runs on index expressions whose axis sizes are symbols.

The same NumPy protocols as exact arrays, but every operation builds a :mod:`backproof.theory.tensors` expression. What
comes out holds for all shapes: sizes start as different symbols and become one only where the code needs them equal.
Code that loops over an axis, branches on values, reshapes by number or writes through a view raises
:class:`Untraceable`; the verdict then stays with the exact runs.

Comparisons are those of generic points (``z > 0`` and ``z >= 0`` are one condition): what happens at ties belongs to
the finding on kinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from ..theory import tensors as t
from .exact_elements import DECIMAL_DIGITS, Element, NotCovered, _decimal


class Untraceable(NotCovered):
    """The code does something that an index expression cannot say."""


class SizesDiffer(Exception):  # noqa: N818
    """Two sizes must be equal for the code to run: the tracer makes them one symbol and starts again."""

    def __init__(self, a: sympy.Expr, b: sympy.Expr) -> None:
        super().__init__(f"{a} and {b}")
        self.pair = (a, b)


def constant(value: Any) -> sympy.Expr:
    """Read a number of the person's code as exact_scalars does: short decimals are themselves."""
    if isinstance(value, (bool, np.bool_)):
        return sympy.Integer(int(value))
    if isinstance(value, (int, np.integer)):
        return sympy.Integer(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            raise Untraceable(f"the constant {number}")
        meant, digits = _decimal(number)
        return sympy.Rational(*(meant if digits <= DECIMAL_DIGITS else Fraction(number)).as_integer_ratio())
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    if isinstance(value, sympy.Expr):
        return value
    raise Untraceable(f"a value of type {type(value).__name__}")


@dataclass(frozen=True, eq=False)
class SymbolicSize:
    """The length of an axis."""

    expr: sympy.Expr

    def __index__(self) -> int:
        if self.expr.is_Integer:
            return int(self.expr)
        raise Untraceable("the code counts along an axis of symbolic length")

    __int__ = __index__

    def __float__(self) -> float:
        raise Untraceable("the code turns a symbolic length into a float")

    def __eq__(self, other: Any) -> bool:
        other = other.expr if isinstance(other, SymbolicSize) else other
        if isinstance(other, (int, np.integer)):
            if self.expr.is_Integer:
                return int(self.expr) == int(other)
            raise Untraceable("the code compares a symbolic length with a number")
        if isinstance(other, sympy.Expr):
            if other != self.expr:
                raise SizesDiffer(self.expr, other)
            return True
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.expr)

    def _array(self) -> SymbolicArray:
        return SymbolicArray(make.Scalar(self.expr), ())

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return self._array().__array_ufunc__(ufunc, method, *inputs, **keywords)


def _size_operators() -> None:
    import operator

    def method(name: str, swap: bool) -> Callable[[Any, Any], Any]:
        function = getattr(operator, name)

        def operate(self: SymbolicSize, other: Any) -> Any:
            if isinstance(other, (int, SymbolicSize)) and name in ("add", "sub", "mul") and not isinstance(other, bool):
                pair = (self.expr, other.expr if isinstance(other, SymbolicSize) else sympy.Integer(other))
                return SymbolicSize(function(*(pair[::-1] if swap else pair)))
            pair2 = (self._array(), other._array() if isinstance(other, SymbolicSize) else other)
            return function(*(pair2[::-1] if swap else pair2))

        return operate

    for name in ("add", "sub", "mul", "truediv", "pow"):
        setattr(SymbolicSize, f"__{name}__", method(name, False))
        setattr(SymbolicSize, f"__r{name}__", method(name, True))


_size_operators()
Place = t.Axis | None
#: The nodes as constructors: their metaclass takes the fields.
make: Any = t


class SymbolicArray:
    """A tensor expression with ordered axes (None: of length one); ``kind`` is real, mask, range or labels."""

    __array_priority__ = 2000.0

    if TYPE_CHECKING:  # the operators are set from a table below

        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __le__(self, other: Any) -> Any: ...
        def __gt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...
        def __abs__(self) -> Any: ...

    def __init__(self, tensor: t.Tensor, places: Sequence[Place], kind: str = "real", view: bool = False) -> None:
        self.tensor, self.places, self.kind, self.view = tensor, tuple(places), kind, view

    # What NumPy arrays offer -----------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(1 if p is None else SymbolicSize(p.size) for p in self.places)

    @property
    def ndim(self) -> int:
        return len(self.places)

    @property
    def size(self) -> Any:
        return SymbolicSize(sympy.Mul(*(p.size for p in self.places if p is not None)))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(bool if self.kind == "mask" else int if self.kind in ("range", "labels") else np.float64)

    def __len__(self) -> int:
        raise Untraceable("len() outside the checked module")

    def __iter__(self) -> Any:
        raise Untraceable("the code loops over an axis")

    def __bool__(self) -> bool:
        raise Untraceable("the code branches on a value")

    def __float__(self) -> float:
        raise Untraceable("the code turns a value into a float")

    def __index__(self) -> int:
        raise Untraceable("the code indexes by a value")

    @property
    def T(self) -> SymbolicArray:
        return self._viewed(self.places[::-1])

    def _viewed(self, places: Sequence[Place]) -> SymbolicArray:
        self.view = True  # writing through either would have to change both
        return SymbolicArray(self.tensor, places, self.kind, view=True)

    @staticmethod
    def _unary(name: str, a: Any) -> SymbolicArray:
        return call({"neg": "negative", "abs": "absolute"}.get(name, name), a)

    def copy(self, *_: Any, **__: Any) -> SymbolicArray:
        return SymbolicArray(self.tensor, self.places, self.kind)

    def item(self) -> SymbolicArray:
        return self

    def astype(self, dtype: Any, *_: Any, **__: Any) -> SymbolicArray:
        kind = np.dtype(dtype).kind
        if kind in "fcO":
            return SymbolicArray(self.tensor, self.places)
        if kind in "iu" and self.kind != "real":
            return SymbolicArray(self.tensor, self.places, "real" if self.kind == "mask" else self.kind)
        raise Untraceable(f"astype({np.dtype(dtype)})")

    def transpose(self, *axes: Any) -> SymbolicArray:
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes or range(self.ndim)[::-1]
        return self._viewed([self.places[int(k)] for k in order])

    def swapaxes(self, a: int, b: int) -> SymbolicArray:
        order = list(range(self.ndim))
        order[a], order[b] = order[b], order[a]
        return self.transpose(order)

    def reshape(self, *shape: Any, **_: Any) -> SymbolicArray:
        wanted = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else list(shape)
        kept = [p for p in self.places if p is not None]
        places: list[Place] = []
        for n in wanted:
            if isinstance(n, (int, np.integer)) and n == 1:
                places.append(None)
            elif (kept and isinstance(n, (int, np.integer)) and n == -1) or (
                isinstance(n, SymbolicSize) and kept and n.expr == kept[0].size
            ):
                places.append(kept.pop(0))
            else:
                raise Untraceable("reshape")
        if kept or (
            any(isinstance(n, int) and n == -1 for n in wanted)
            and sum(p is not None for p in self.places) > 1
            and len([n for n in wanted if not (isinstance(n, int) and n == 1)])
            != len([p for p in self.places if p is not None])
        ):
            raise Untraceable("reshape")
        return self._viewed(places)

    def ravel(self) -> SymbolicArray:
        if sum(p is not None for p in self.places) > 1:
            raise Untraceable("ravel")
        return self._viewed([p for p in self.places if p is not None] or [None])

    flatten = ravel

    def squeeze(self, axis: Any = None) -> SymbolicArray:
        return self._viewed([p for k, p in enumerate(self.places) if p is not None or (axis is not None and k != axis)])

    def dot(self, other: Any) -> SymbolicArray:
        return call("dot", self, other)

    def fill(self, value: Any) -> None:
        self._become(call("full", self.shape, value))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", None)
        if method == "reduce":
            result = call(
                {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}.get(ufunc.__name__, "?"),
                *inputs,
                **keywords,
            )
        elif method == "outer":
            result = call("outer", *inputs) if ufunc.__name__ == "multiply" else call("?")
        elif method != "__call__" or keywords.pop("where", True) is not True:
            raise Untraceable(f"np.{ufunc.__name__}.{method}")
        else:
            result = call(ufunc.__name__, *inputs)
        if out is not None:
            target = out[0] if isinstance(out, tuple) else out
            if not isinstance(target, SymbolicArray):
                raise Untraceable("out= names an array from outside")
            return target._become(result)
        return result

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        from .exact_functions import qualified_name

        return call(qualified_name(function), *args, **keywords)

    # Indexing --------------------------------------------------------------------------------------------------------
    def __getitem__(self, index: Any) -> SymbolicArray:
        index = index if isinstance(index, tuple) else (index,)
        if any(isinstance(each, SymbolicArray) for each in index):
            picked = self._one_hot(index)
            return call("sum", call("multiply", self, picked), axis=1)
        return self._viewed(self._basic(index))

    def _basic(self, index: tuple[Any, ...]) -> list[Place]:
        index = tuple(index)
        used = sum(1 for each in index if each is not None and each is not Ellipsis)
        if Ellipsis not in [each for each in index if each is None or each is Ellipsis]:
            index = (*index, Ellipsis)
        places: list[Place] = []
        left = list(self.places)
        for each in index:
            if each is None:
                places.append(None)
            elif each is Ellipsis:
                count = len(self.places) - used
                places += left[:count]
                left = left[count:]
            elif isinstance(each, slice) and each == slice(None):
                places.append(left.pop(0))
            elif isinstance(each, int) and each in (0, -1) and left[0] is None:
                left.pop(0)
            else:
                raise Untraceable("an index by number")
        return places

    def _one_hot(self, index: tuple[Any, ...]) -> SymbolicArray:
        """Read ``p[np.arange(n), labels]``: the one-hot rows of the labels."""
        if len(index) == 2 and self.ndim == 2 and all(isinstance(each, SymbolicArray) for each in index):
            rows, labels = index
            n, k = self.places
            if rows.kind == "range" and labels.kind == "labels" and n is not None and k is not None:
                for each in (rows, labels):
                    if each.places[0].size != n.size:
                        raise SizesDiffer(each.places[0].size, n.size)
                name = labels.tensor.name  # type: ignore[attr-defined]
                tensor = make.Input(f"onehot_{name}", (n, k), (t.one_hot(k.name),))
                _session().classes.setdefault(name, k.size)
                if _session().classes[name] != k.size:
                    raise SizesDiffer(_session().classes[name], k.size)
                return SymbolicArray(tensor, (n, k))
        raise Untraceable("an index by an array")

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.view:
            raise Untraceable("writing into an array that has views")
        mask = index if isinstance(index, SymbolicArray) and index.kind == "mask" else None
        if mask is not None:
            if mask.ndim != self.ndim:
                raise Untraceable("a mask of fewer axes")
            filling = lift(value)
            if filling.ndim:
                raise Untraceable("assignment of an array through a mask")
            self._become(call("where", mask, filling, self))
            return
        whole = index if isinstance(index, tuple) else (index,)
        if any(isinstance(each, SymbolicArray) for each in whole):
            picked = self._one_hot(whole).tensor
            current = self[whole].tensor
            written = _fit(lift(value), self.places[:1])
            # Where the one-hot row is 1 the entry read is the entry itself: g[rows, t] -= 1 changes g by −1 there.
            written = _pointwise(written, current, self.tensor)
            places = [p for p in self.places if p is not None]
            self.tensor = t.add(picked * written, (1 - picked) * self.tensor).expand(places)
            return
        if all(each is Ellipsis or (isinstance(each, slice) and each == slice(None)) for each in whole):
            self._become(call("broadcast_to", value, self.shape))
            return
        raise Untraceable("writing into part of an array")

    def _become(self, other: SymbolicArray) -> SymbolicArray:
        if self.view:
            raise Untraceable("writing into an array that has views")
        moved = _fit(other, self.places)
        self.tensor = moved
        return self


def _pointwise(node: t.Tensor, old: t.Tensor, new: t.Tensor) -> t.Tensor:
    """Put ``new`` for ``old`` where it is reached through entry-by-entry operations alone."""
    if node is old:
        return new
    if isinstance(node, t.Map):
        return t.map_function(node.function, *(_pointwise(each, old, new) for each in node.arguments))
    if isinstance(node, t.Contract) and not node.summed:
        return t.multiply(*(_pointwise(each, old, new) for each in node.factors))
    return node


def _fit(other: SymbolicArray, places: Sequence[Place]) -> t.Tensor:
    """Return other's tensor with the axes of ``places`` (same shape up to broadcasting)."""
    if other.ndim > len(places):
        raise Untraceable("an in-place operation that changes the shape")
    mapping, tail = {}, list(places)[len(places) - other.ndim :]
    for mine, target in zip(other.places, tail, strict=True):
        if mine is None:
            continue
        if target is None:
            raise Untraceable("an in-place operation that changes the shape")
        if mine.size != target.size:
            raise SizesDiffer(mine.size, target.size)
        mapping[mine.name] = target.name
    return other.tensor.rename(mapping).expand([p for p in places if p is not None])


# Tracing sessions ----------------------------------------------------------------------------------------------------
class Session:
    """The field of symbols that stands in for the balls: what exact_scalars' trace calls ``symbolic``."""

    def __init__(self) -> None:
        self.classes: dict[str, sympy.Expr] = {}

    def lift(self, value: Any) -> Any:
        return lift(value)

    def constant(self, name: str) -> SymbolicArray:
        return SymbolicArray(make.Scalar({"pi": sympy.pi, "e": sympy.E}[name]), ())

    def call(self, name: str, *args: Any, **keywords: Any) -> Any:
        return call(name, *args, **keywords)

    def expression(self, expr: sympy.Expr, arguments: Sequence[tuple[sympy.Symbol, Any]]) -> SymbolicArray:
        """Return a SymPy expression of arrays, entry by entry."""
        tensors, places = aligned(*(array for _, array in arguments))
        slots = {symbol: t.slot(k) for k, (symbol, _) in enumerate(arguments)}
        return SymbolicArray(t.apply(expr.xreplace(slots), *tensors), places)

    def ufunc(self, ufunc: Any, method: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        return lift(0).__array_ufunc__(ufunc, method, *inputs, **keywords)


def _session() -> Session:
    from .exact_scalars import trace

    current = trace().symbolic
    assert isinstance(current, Session)
    return current


def lift(value: Any) -> SymbolicArray:
    """Return a symbolic array of a number, a size, or a short list of numbers."""
    if isinstance(value, SymbolicArray):
        return value
    if isinstance(value, SymbolicSize):
        return value._array()
    if isinstance(value, Element):
        raise Untraceable("a number made by exact arithmetic")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (np.ndarray, list, tuple)):
        raise Untraceable("an array of numbers in the code")
    return SymbolicArray(make.Scalar(constant(value)), ())


def aligned(*values: Any) -> tuple[list[t.Tensor], tuple[Place, ...]]:
    """Broadcast by position: return the tensors over common axes, and these."""
    arrays = [lift(v) for v in values]
    ndim = max(a.ndim for a in arrays)
    common: list[Place] = [None] * ndim
    for a in arrays:
        for k, place in enumerate(a.places, start=ndim - a.ndim):
            if place is None:
                continue
            if common[k] is None:
                common[k] = t.fresh_axis(place.size) if place.name in {c.name for c in common if c} else place
            elif common[k].size != place.size:  # type: ignore[union-attr]
                raise SizesDiffer(common[k].size, place.size)  # type: ignore[union-attr]
    tensors = []
    for a in arrays:
        places = common[ndim - a.ndim :]
        mapping = {p.name: c.name for p, c in zip(a.places, places, strict=True) if p is not None and c is not None}
        tensors.append(a.tensor.rename(mapping))
    return tensors, tuple(common)


def call(name: str, *args: Any, **keywords: Any) -> Any:
    """Answer a NumPy function by name."""
    from .symbolic_functions import TABLE

    if name not in TABLE:
        raise Untraceable(f"np.{name}")
    keywords = {
        n: v
        for n, v in keywords.items()
        if n not in ("dtype", "order", "subok", "out", "copy") or (n == "out" and v is not None)
    }
    return TABLE[name](*args, **keywords)


def _operators() -> None:
    pairs = {
        "add": "add",
        "sub": "subtract",
        "mul": "multiply",
        "truediv": "divide",
        "pow": "power",
        "matmul": "matmul",
    }
    for word, name in pairs.items():
        setattr(SymbolicArray, f"__{word}__", lambda self, other, name=name: call(name, self, other))
        setattr(SymbolicArray, f"__r{word}__", lambda self, other, name=name: call(name, other, self))
        setattr(SymbolicArray, f"__i{word}__", lambda self, other, name=name: self._become(call(name, self, other)))
    words = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
    words |= {"and": "logical_and", "or": "logical_or"}
    for word, name in words.items():
        setattr(SymbolicArray, f"__{word}__", lambda self, other, name=name: call(name, self, other))
    SymbolicArray.__hash__ = object.__hash__  # type: ignore[method-assign]
    setattr(SymbolicArray, "__neg__", lambda self: call("negative", self))  # noqa: B010
    setattr(SymbolicArray, "__abs__", lambda self: call("absolute", self))  # noqa: B010
    setattr(SymbolicArray, "__invert__", lambda self: call("logical_not", self))  # noqa: B010
    setattr(SymbolicArray, "__pos__", lambda self: self)  # noqa: B010
    for method in ["sum", "mean", "var", "std", "max", "min", "clip"]:
        setattr(SymbolicArray, method, lambda self, *a, method=method, **k: call(method, self, *a, **k))


_operators()
Shape = Mapping[str, Any]
