"""Symbolic arrays: a person's code runs on index expressions whose axis sizes are symbols.

The same NumPy protocols as exact arrays, but every operation builds a :mod:`backproof.theory.tensors` expression. What
comes out holds for all shapes: sizes start as different symbols and become one, or a number, only where the code needs
it (:mod:`.symbolic_sizes`).  A position of an array is a tuple of axes whose product it is: none for length one, one as
a rule, several where the code merged axes.  Views read and write the array they belong to.  Code that branches on
values raises :class:`Untraceable`; the verdict then stays with the exact runs.

Comparisons are those of generic points (``z > 0`` and ``z >= 0`` are one condition): what happens at ties belongs to
the finding on kinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from ..theory import tensors as t
from .exact_elements import DECIMAL_DIGITS, Element, _decimal
from .symbolic_sizes import NumberNeeded, ProductNeeded, SizesDiffer, SymbolicRange, SymbolicSize, Untraceable, value_of

#: The largest array of numbers that an expression takes in, entry by entry.
MOST_NUMBERS = 64
#: A position of an array: the axes whose product it is.
Place = tuple[t.Axis, ...]
#: The nodes as constructors: their metaclass takes the fields.
make: Any = t


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


def axes_of(places: Sequence[Place]) -> list[t.Axis]:
    """Return the axes of all positions, in order."""
    return [a for p in places for a in p]


def size_of(place: Place) -> sympy.Expr:
    """Return the length of a position."""
    return sympy.Mul(*(a.size for a in place))


def shape_entry(place: Place) -> Any:
    """Return what ``x.shape[k]`` is."""
    return SymbolicSize(size_of(place)) if place else 1


class SymbolicArray:
    """A tensor expression with ordered positions; ``kind`` is real, mask, range or labels.

    A view has a ``base``, and functions that read its tensor from the base's and write it back.
    """

    __array_priority__ = 2000.0
    base: SymbolicArray | None = None
    index: tuple[Any, ...] | None = None  # where a view was cut from its base
    wrote: bool = False  # whether the view was changed in place
    labels: tuple[t.Tensor, t.Tensor] | None = None  # the array and the one-hot rows that x[rows, labels] was read from
    change: SymbolicArray | None = None  # what was added to that in place
    selected: t.Tensor | None = None  # the mask whose entries these are, for x[mask] op= number alone
    reader: Callable[[t.Tensor], t.Tensor]
    writer: Callable[[t.Tensor, t.Tensor], t.Tensor]

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

    def __init__(self, tensor: t.Tensor, places: Sequence[Place], kind: str = "real") -> None:
        self._tensor, self.places, self.kind = tensor, tuple(places), kind

    @property
    def tensor(self) -> t.Tensor:
        return self._tensor if self.base is None else self.reader(self.base.tensor)

    @tensor.setter
    def tensor(self, new: t.Tensor) -> None:
        if self.base is None:
            self._tensor = new
        else:
            self.base.tensor = self.writer(new, self.base.tensor)

    # What NumPy arrays offer -----------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(shape_entry(p) for p in self.places)

    @property
    def ndim(self) -> int:
        return len(self.places)

    @property
    def size(self) -> Any:
        return SymbolicSize(sympy.Mul(*(size_of(p) for p in self.places))) if axes_of(self.places) else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(bool if self.kind == "mask" else int if self.kind in ("range", "labels") else np.float64)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return iter([self[k] for k in range(int(self.shape[0]))])

    def __bool__(self) -> bool:
        raise Untraceable("the code branches on a value")

    def _number(self) -> sympy.Expr:
        """Return the number that a scalar expression in sizes is."""
        tensor = self.tensor
        if isinstance(tensor, make.Scalar):
            value: sympy.Expr = tensor.value  # type: ignore[attr-defined]
            if value.is_Rational:
                return value
            if value.free_symbols and all(s.is_integer and s.is_positive for s in value.free_symbols):
                raise NumberNeeded(value)
        raise Untraceable("the code turns a value into a number")

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        value = self._number()
        if not value.is_Integer:
            raise TypeError("only an integer can be used as an index")
        return int(value)

    def __repr__(self) -> str:
        return f"symbolic{self.shape}"

    def __format__(self, spec: str) -> str:
        return repr(self)

    @property
    def T(self) -> SymbolicArray:
        return self._viewed(self.places[::-1])

    @property
    def real(self) -> SymbolicArray:
        return self

    def _viewed(self, places: Sequence[Place]) -> SymbolicArray:
        """Return the same entries at other positions; what is written there is written here."""
        return self._view(places, lambda tensor: tensor, lambda new, old: new)

    def _view(
        self, places: Sequence[Place], reader: Callable[[t.Tensor], t.Tensor],
        writer: Callable[[t.Tensor, t.Tensor], t.Tensor],
    ) -> SymbolicArray:  # fmt: skip
        view = SymbolicArray(self._tensor, places, self.kind)
        view.base, view.reader, view.writer = self, reader, writer
        return view

    @staticmethod
    def _unary(name: str, a: Any) -> SymbolicArray:
        return call({"neg": "negative", "abs": "absolute"}.get(name, name), a)

    def copy(self, *_: Any, **__: Any) -> SymbolicArray:
        return SymbolicArray(self.tensor, self.places, self.kind)

    def __copy__(self) -> SymbolicArray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> SymbolicArray:
        return self.copy()

    def item(self) -> SymbolicArray:
        return self.copy()

    def tolist(self) -> Any:
        return [row.tolist() if row.ndim else row for row in self]

    def astype(self, dtype: Any, *_: Any, **__: Any) -> SymbolicArray:
        kind = np.dtype(dtype).kind
        if kind in "fcO":
            return SymbolicArray(self.tensor, self.places)
        if kind in "iu" and self.kind != "real":
            return SymbolicArray(self.tensor, self.places, "real" if self.kind == "mask" else self.kind)
        if kind == "b" and self.kind == "mask":
            return self.copy()
        raise Untraceable(f"astype({np.dtype(dtype)})")

    def transpose(self, *axes: Any) -> SymbolicArray:
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes or range(self.ndim)[::-1]
        return self._viewed([self.places[int(k)] for k in order])

    def swapaxes(self, a: int, b: int) -> SymbolicArray:
        order = list(range(self.ndim))
        order[a], order[b] = order[b], order[a]
        return self.transpose(order)

    def reshape(self, *shape: Any, **_: Any) -> SymbolicArray:
        return self._regrouped(regrouped(self.places, shape))

    def ravel(self, *_: Any) -> SymbolicArray:
        return self._regrouped([tuple(axes_of(self.places))])

    def _regrouped(self, places: Sequence[Place]) -> SymbolicArray:
        """A reshape is a view where the entries lie in order: of a view of another kind nothing is known."""
        if self.base is None:
            return self._viewed(places)

        def refuse(new: t.Tensor, old: t.Tensor) -> t.Tensor:
            raise Untraceable("writing into a reshaped view")

        return self._view(places, lambda tensor: tensor, refuse)

    def flatten(self, *_: Any) -> SymbolicArray:
        return self.ravel().copy()

    def squeeze(self, axis: Any = None) -> SymbolicArray:
        axes = (
            {int(k) % self.ndim for k in (axis if isinstance(axis, (tuple, list)) else (axis,))}
            if axis is not None
            else None
        )
        return self._viewed([p for k, p in enumerate(self.places) if p or (axes is not None and k not in axes)])

    def dot(self, other: Any, out: Any = None) -> SymbolicArray:
        return call("dot", self, other)

    def repeat(self, repeats: Any, axis: Any = None) -> SymbolicArray:
        return call("repeat", self, repeats, axis)

    def fill(self, value: Any) -> None:
        self[...] = value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", None)
        if method == "reduce":
            keywords.setdefault("axis", 0)
            words = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
            result = call(words.get(ufunc.__name__, f"{ufunc.__name__}.reduce"), *inputs, **keywords)
        elif method == "outer":
            left, right = (lift(each) for each in inputs)
            spread = left._viewed([*left.places, *[()] * right.ndim])
            result = call(ufunc.__name__, spread, right)
        elif method == "at":
            return call(f"{ufunc.__name__}.at", *inputs)
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

    def __getitem__(self, index: Any) -> SymbolicArray:
        from .symbolic_indexing import read

        return read(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        from .symbolic_indexing import write

        write(self, index, value)

    def _become(self, other: Any) -> SymbolicArray:
        self.tensor = fitted(lift(other), self.places)
        return self


def regrouped(places: Sequence[Place], shape: Sequence[Any]) -> list[Place]:
    """Return the positions of a reshape: the axes in order, grouped so that the lengths are those wanted."""
    wanted = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else list(shape)
    sizes = [n.expr if isinstance(n, SymbolicSize) else sympy.Integer(int(n)) for n in wanted]
    whole = sympy.Mul(*(size_of(p) for p in places))
    if sympy.Integer(-1) in sizes:
        rest = sympy.Mul(*(n for n in sizes if n != -1))
        if sympy.denom(sympy.cancel(whole / rest)) != 1:
            _meet(places, sizes)
        sizes[sizes.index(sympy.Integer(-1))] = SymbolicSize(whole)._quotient(SymbolicSize(rest))
    left = [a for a in axes_of(places) if a.size != 1]
    grouped: list[Place] = []
    for k, n in enumerate(sizes):
        group: list[t.Axis] = []
        while (have := sympy.expand(sympy.Mul(*(a.size for a in group)))) != sympy.expand(n):
            if not left:
                _mismatch(have, n)
            following = sympy.expand(have * left[0].size)
            if following != sympy.expand(n) and sympy.denom(sympy.cancel(n / following)) != 1:
                _split(left[0].size, have, n, sizes[k + 1 :])
            group.append(left.pop(0))
        grouped.append(tuple(group))
    if left:
        _mismatch(whole, sympy.Mul(*sizes))
    return grouped


def _meet(places: Sequence[Place], sizes: Sequence[sympy.Expr]) -> None:
    """Demand that the lengths before and after the −1 of a reshape are those of the array's own axes."""
    spot = list(sizes).index(sympy.Integer(-1))
    own = [size_of(p) for p in places]
    pairs = list(zip(own, sizes[:spot], strict=False)) + list(zip(own[::-1], sizes[:spot:-1], strict=False))
    for have, wanted in pairs:
        if sympy.expand(have - wanted) != 0 and value_of(have) == value_of(wanted):
            raise SizesDiffer(sympy.expand(have), sympy.expand(wanted))


def _mismatch(have: sympy.Expr, wanted: sympy.Expr) -> None:
    have, wanted = sympy.expand(have), sympy.expand(wanted)
    if have == wanted:
        raise Untraceable("reshape")
    raise SizesDiffer(have, wanted)


def _split(size: sympy.Expr, have: sympy.Expr, wanted: sympy.Expr, following: Sequence[sympy.Expr]) -> None:
    """Demand that an axis is a product: the part that completes ``wanted``, and what is left of it."""
    first = sympy.cancel(wanted / have)
    if value_of(size) == value_of(first):
        raise SizesDiffer(size, sympy.expand(first))
    rest = sympy.cancel(size / first)
    if sympy.denom(first) != 1:
        raise Untraceable("reshape")
    if sympy.denom(rest) == 1:
        raise ProductNeeded(size, (first, sympy.expand(rest)))
    parts, total = [sympy.expand(first)], sympy.expand(first)
    for n in following:  # x (D) as (C, H, W): D is their product
        if SymbolicSize(total)._gap(SymbolicSize(size)) == 0:
            break
        parts.append(n)
        total = sympy.expand(total * n)
        if value_of(total) == value_of(size):
            break
    raise ProductNeeded(size, parts)


def fitted(other: SymbolicArray, places: Sequence[Place]) -> t.Tensor:
    """Return other's tensor with the axes of ``places`` (same shape up to broadcasting)."""
    extra = other.ndim - len(places)
    if extra > 0 and any(other.places[:extra]):
        raise Untraceable("an in-place operation that changes the shape")
    mapping: dict[str, str] = {}
    own = other.places[max(extra, 0) :]
    for mine, target in zip(own, list(places)[len(places) - len(own) :], strict=True):
        if not mine:
            continue
        if not target:
            raise Untraceable("an in-place operation that changes the shape")
        same_place(mine, target)
        mapping |= {a.name: b.name for a, b in zip(mine, target, strict=True)}
    return other.tensor.rename(mapping).expand(axes_of(places))


def same_place(a: Place, b: Place) -> None:
    """Demand that two positions have one length, and are one product."""
    if tuple(x.size for x in a) == tuple(x.size for x in b):
        return
    if size_of(a) != size_of(b) and sympy.expand(size_of(a) - size_of(b)) != 0:
        if len(a) == 1 < len(b) and a[0].size.is_Symbol:
            raise ProductNeeded(a[0].size, [x.size for x in b])
        if len(b) == 1 < len(a) and b[0].size.is_Symbol:
            raise ProductNeeded(b[0].size, [x.size for x in a])
        raise SizesDiffer(sympy.expand(size_of(a)), sympy.expand(size_of(b)))
    if len(a) == 1 < len(b):
        raise ProductNeeded(a[0].size, [x.size for x in b])
    if len(b) == 1 < len(a):
        raise ProductNeeded(b[0].size, [x.size for x in a])
    raise Untraceable("an axis split in two ways")


# Tracing sessions ----------------------------------------------------------------------------------------------------
class Session:
    """The field of symbols that stands in for the balls: what exact_scalars' trace calls ``symbolic``."""

    def __init__(self, values: Mapping[sympy.Expr, int] | None = None) -> None:
        self.classes: dict[str, sympy.Expr] = {}
        self.values = dict(values or {})
        self.long_enough = False  # slices that fit at the example, and are assumed to

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


def session() -> Session:
    """Return the session of the trace that runs."""
    from .exact_scalars import trace

    current = trace().symbolic
    assert isinstance(current, Session)
    return current


def lift(value: Any) -> SymbolicArray:
    """Return a symbolic array of a number, a size, a list of arrays, or a small array of numbers."""
    if isinstance(value, SymbolicArray):
        if value.selected is not None:
            raise Untraceable("entries chosen by a mask")
        return value
    if isinstance(value, SymbolicSize):
        return value._array()
    if isinstance(value, (SymbolicRange, range)):
        return call("arange", value.stop) if isinstance(value, SymbolicRange) else lift(np.array(value))
    if isinstance(value, Element):
        raise Untraceable("a number made by exact arithmetic")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (list, tuple)):
        if any(isinstance(each, (SymbolicArray, SymbolicSize, list, tuple)) for each in value):
            return call("stack", [lift(each) for each in value])
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return _numbers(value)
    return SymbolicArray(make.Scalar(constant(value)), ())


def _numbers(array: np.ndarray[Any, Any]) -> SymbolicArray:
    """Return an array of numbers over axes of fixed length, entry by entry."""
    from ..theory.places import place

    if array.dtype.kind not in "fiub" or array.size > MOST_NUMBERS or not array.size:
        raise Untraceable("an array of numbers in the code")
    if (array == array.flat[0]).all():
        return call("full", tuple(array.shape), array.flat[0].item())
    places: list[Place] = [() if n == 1 else (t.fresh_axis(n),) for n in array.shape]
    terms = []
    for spot in np.ndindex(*array.shape):
        if array[spot] != 0:
            spots = [place(p[0], None, k) for k, p in zip(spot, places, strict=True) if p]
            terms.append(t.multiply(make.Scalar(constant(array[spot].item())), *spots))
    kind = "mask" if array.dtype.kind == "b" else "real"
    return SymbolicArray(t.add(*terms).expand(axes_of(places)), places, kind)


def aligned(*values: Any) -> tuple[list[t.Tensor], tuple[Place, ...]]:
    """Broadcast by position: return the tensors over common axes, and these."""
    arrays = [lift(v) for v in values]
    ndim = max(a.ndim for a in arrays)
    common: list[Place] = [()] * ndim
    for a in arrays:
        for k, place in enumerate(a.places, start=ndim - a.ndim):
            if not place:
                continue
            if not common[k]:
                taken = {x.name for x in axes_of(common)}
                common[k] = tuple(t.fresh_axis(x.size) if x.name in taken else x for x in place)
            else:
                same_place(common[k], place)
    tensors = []
    for a in arrays:
        mapping = {
            x.name: y.name
            for p, c in zip(a.places, common[ndim - a.ndim :], strict=True)
            if p
            for x, y in zip(p, c, strict=True)
        }
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
        if n not in ("dtype", "order", "subok", "out", "copy", "casting") or (n == "out" and v is not None)
    }
    target = keywords.pop("out", None)
    result = TABLE[name](*args, **keywords)
    if target is not None:
        target = target[0] if isinstance(target, tuple) else target
        if not isinstance(target, SymbolicArray):
            raise Untraceable("out= names an array from outside")
        return target._become(result)
    return result


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
        setattr(SymbolicArray, f"__i{word}__", lambda self, other, name=name: _in_place(self, name, other))
    words = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
    words |= {"and": "logical_and", "or": "logical_or"}
    for word, name in words.items():
        setattr(SymbolicArray, f"__{word}__", lambda self, other, name=name: call(name, self, other))
    SymbolicArray.__hash__ = object.__hash__  # type: ignore[method-assign]
    setattr(SymbolicArray, "__neg__", lambda self: call("negative", self))  # noqa: B010
    setattr(SymbolicArray, "__abs__", lambda self: call("absolute", self))  # noqa: B010
    setattr(SymbolicArray, "__invert__", lambda self: call("logical_not", self))  # noqa: B010
    setattr(SymbolicArray, "__pos__", lambda self: self)  # noqa: B010
    for method in [
        "sum",
        "mean",
        "var",
        "std",
        "max",
        "min",
        "clip",
        "cumsum",
        "prod",
        "argmax",
        "argmin",
        "diagonal",
        "trace",
    ]:
        setattr(SymbolicArray, method, lambda self, *a, method=method, **k: call(method, self, *a, **k))


def _in_place(target: SymbolicArray, name: str, other: Any) -> SymbolicArray:
    if target.ndim == 0 and target.base is None:
        return call(name, target, other)  # a NumPy number is not changed in place
    if target.selected is not None:
        if lift(other).ndim:
            raise Untraceable("entries chosen by a mask")
        plain = SymbolicArray(target.tensor, target.places)
        target.tensor = fitted(call(name, plain, other), target.places)
        return target
    target.wrote = target.base is not None
    if target.labels is not None and name in ("add", "subtract"):
        step = lift(other) if name == "add" else call("negative", lift(other))
        target.change = step if target.change is None else call("add", target.change, step)
    elif target.labels is not None:
        target.labels = None
    return target._become(call(name, target, other))


_operators()
