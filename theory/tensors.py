"""Index-notation tensor expressions: named axes of symbolic size, immutable, hash-consed.

An expression carries *named axes*, never positions; two operands meet by axis name, as in index notation::

    n, i, o = axis("n"), axis("i"), axis("o")         # sizes N, I, O: symbols, or integers if given
    x, W, b = Input("x", (n, i)), Input("W", (i, o)), Input("b", (o,))
    z = (x * W).sum("i") + b                          # z[n,o] = Σ_i x[n,i] W[i,o] + b[o]
    y = exp(z - z.max("o"))                           # broadcasting is by name

====================================  ==========================================================================
node                                  meaning
====================================  ==========================================================================
``Input(name, axes, facts)``          a variable; ``facts`` are assumptions such as ``one_hot("k")``
``Scalar(value)``                     a SymPy expression without axes: numbers, axis sizes, hyper-parameters
``Contract(operands, keep)``          product of the operands, summed over every axis that is not kept (einsum)
``Map(function, operands)``           a scalar SymPy expression in ``slot(0), slot(1), …``, entry by entry
``Extremum(operand, over)``           maximum over the named axes
``Maximiser(operand, over)``          weights of the maximiser: they sum to one; ties share evenly (derivative 0)
``Delta(a, b)``                       Kronecker delta of two axes of one size
``Position(along)``                   the index along an axis itself: 0, 1, …
``Named(name, operand, indices)``     the operand, under a name that printing and simplifying keep
====================================  ==========================================================================

Building from outside (a tracer of somebody's array code): keep, beside each tensor, the ordered tuple of its axes. Make
anonymous axes with :func:`fresh_axis` (same size symbol where the shapes must agree), align positions with
:meth:`Tensor.rename`, reduce with ``.sum/.mean/.max``, broadcast by simply multiplying or adding, use
:class:`Delta` for ``eye``, a one-hot :class:`Input` for integer labels, ``greater(a, b)`` and ``where(mask, a, b)`` for
comparisons, :func:`apply` for any scalar function. A product with repeated names is diagonal, so rename before an outer
product. ``backproof.theory.equality.equal(a, b)`` compares; its axes must carry the same names on both sides.
Numbers may be int, Fraction, SymPy numbers or float (a float stands for the exact binary fraction it is).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

import sympy

from .errors import InputError

Number = int | float | Fraction | sympy.Expr
Node = TypeVar("Node", bound="Tensor")


class Axis(NamedTuple):
    """A named axis; its size is a positive integer symbol, or an integer."""

    name: str
    size: sympy.Expr

    def __str__(self) -> str:
        return self.name


class Fact(NamedTuple):
    """An assumption about an input: what is known of its entries."""

    kind: str
    axis: str | None = None

    def __str__(self) -> str:
        return self.kind if self.axis is None else f"{self.kind} over {self.axis}"


def one_hot(axis_name: str) -> Fact:
    """Entries 0 or 1, exactly one 1 along the axis (so they sum to one)."""
    return Fact("one-hot", axis_name)


def sums_to_one(axis_name: str) -> Fact:
    """Entries sum to one along the axis."""
    return Fact("sums to one", axis_name)


POSITIVE = Fact("positive")
BOOLEAN = Fact("zero or one")


def size_symbol(name: str) -> sympy.Symbol:
    """The symbol of an axis size: a positive integer."""
    return sympy.Symbol(name, integer=True, positive=True)


def axis(name: str, size: int | str | sympy.Expr | None = None) -> Axis:
    """An axis called ``name``; its size is the symbol of the upper-case name unless given.

    >>> axis("n"), axis("i", "D"), axis("k", 3)
    (Axis(name='n', size=N), Axis(name='i', size=D), Axis(name='k', size=3))
    """
    if size is None:
        size = name.upper()
    value: sympy.Expr = size_symbol(size) if isinstance(size, str) else sympy.sympify(size, strict=True)
    if value.is_Integer and value < 0:
        raise InputError(f"axis {name!r} has negative size {value}")
    return Axis(name, value)


_COUNTER = itertools.count()


def fresh_axis(size: int | str | sympy.Expr, stem: str = "a") -> Axis:
    """An anonymous axis whose name no other axis has."""
    return axis(f"{stem}_{next(_COUNTER)}", size)


def slot(k: int) -> sympy.Symbol:
    """The symbol that stands for operand ``k`` in the function of a :class:`Map`."""
    return _SLOTS[k] if k < len(_SLOTS) else sympy.Symbol(f"_{k}", real=True)


_SLOTS = tuple(sympy.Symbol(f"_{k}", real=True) for k in range(16))


def merge_axes(groups: Iterable[Iterable[Axis]]) -> tuple[Axis, ...]:
    """Union of axes in order of appearance; one name has one size."""
    seen: dict[str, Axis] = {}
    for a in itertools.chain.from_iterable(groups):
        if seen.setdefault(a.name, a).size != a.size:
            raise InputError(f"axis {a.name!r} has size {seen[a.name].size} here and {a.size} there")
    return tuple(seen.values())


class _Consed(type):
    """Equal fields give the same object: the table keeps one node per class and fields."""

    table: WeakValueDictionary[Any, Any] = WeakValueDictionary()

    def __call__(cls, *fields: Any, **named: Any) -> Any:
        fields = cls.normal_fields(*fields, **named)  # type: ignore[attr-defined]
        key = (cls, fields)
        node = _Consed.table.get(key)
        if node is None:
            node = _Consed.table[key] = super().__call__(*fields)
        return node


class Tensor(metaclass=_Consed):
    """A node. Compare by identity: equal nodes are the same object."""

    __slots__ = ("__weakref__", "axes")
    axes: tuple[Axis, ...]

    @classmethod
    def normal_fields(cls, *fields: Any) -> tuple[Any, ...]:
        """The fields in the one form under which the node is kept."""
        return fields

    def _set(self, axes: Iterable[Axis]) -> None:
        object.__setattr__(self, "axes", tuple(axes))

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The nodes this one is made of."""
        return ()

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        """The same node over other operands (of the same axes)."""
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes, in order."""
        return tuple(a.name for a in self.axes)

    def axis(self, name: str) -> Axis:
        """The axis of that name, or InputError."""
        for a in self.axes:
            if a.name == name:
                return a
        raise InputError(f"no axis {name!r} among [{', '.join(self.names)}]")

    def __add__(self, other: Any) -> Tensor:
        return add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _map2(slot(0) - slot(1), self, as_tensor(other))

    def __rsub__(self, other: Any) -> Tensor:
        return _map2(slot(0) - slot(1), as_tensor(other), self)

    def __mul__(self, other: Any) -> Tensor:
        return multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return multiply(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return multiply(self, as_tensor(other) ** -1)

    def __rtruediv__(self, other: Any) -> Tensor:
        return multiply(other, self**-1)

    def __neg__(self) -> Tensor:
        return multiply(-1, self)

    def __pow__(self, exponent: Any) -> Tensor:
        return apply(slot(0) ** number(exponent), self)

    def sum(self, over: str | Iterable[str]) -> Tensor:
        """Sum over the named axes."""
        gone = _named_axes(self, over)
        return contract((self,), tuple(a for a in self.axes if a not in gone))

    def mean(self, over: str | Iterable[str]) -> Tensor:
        """Arithmetic mean over the named axes."""
        gone = _named_axes(self, over)
        keep = tuple(a for a in self.axes if a not in gone)
        return contract((Scalar(1 / sympy.Mul(*(a.size for a in gone))), self), keep)

    def max(self, over: str | Iterable[str], ties: str = "share") -> Tensor:
        """Maximum over the named axes; ``ties`` as in :class:`Extremum`, the first in the order of the axes named."""
        gone = _named_axes(self, over)
        return Extremum(self, gone, ties) if gone else self

    def min(self, over: str | Iterable[str]) -> Tensor:
        """Minimum over the named axes."""
        return -((-self).max(over))

    def rename(self, mapping: Mapping[str, str] | None = None, **names: str) -> Tensor:
        """Rename free axes, all at once; summed axes step aside. Renaming onto a present axis takes the diagonal."""
        from .walking import rename

        return rename(self, {**(mapping or {}), **names})

    def expand(self, axes: Iterable[Axis]) -> Tensor:
        """Broadcast along further axes."""
        return contract((self,), merge_axes((self.axes, axes)))

    def named(self, name: str) -> Tensor:
        """The same tensor under a name."""
        return Named(name, self, self.axes)

    def __repr__(self) -> str:
        from .notation import index_text

        return index_text(self)


@dataclass_transform(frozen_default=True, eq_default=False)
def _node(cls: type[Node]) -> type[Node]:
    return dataclass(frozen=True, eq=False, repr=False)(cls)


@_node
class Input(Tensor):
    """A variable ``name[indices]`` and what is assumed of it."""

    name: str
    indices: tuple[Axis, ...] = ()
    facts: tuple[Fact, ...] = ()

    @classmethod
    def normal_fields(cls, name: str, indices: Iterable[Axis] = (), facts: Iterable[Fact] = ()) -> tuple[Any, ...]:
        indices = tuple(indices)
        names = [a.name for a in indices]
        places = []
        for fact in facts:
            if fact.axis is not None and fact.axis not in names and not fact.axis.isdigit():
                raise InputError(f"fact '{fact}' of {name!r}: it has no axis {fact.axis!r}")
            # A fact names its axis by position from here on, so that renaming cannot lose it.
            place = fact.axis if fact.axis is None or fact.axis.isdigit() else str(names.index(fact.axis))
            places.append(Fact(fact.kind, place))
        return name, indices, tuple(places)

    def __post_init__(self) -> None:
        self._set(merge_axes((self.indices,)))


@_node
class Scalar(Tensor):
    """A SymPy expression without axes."""

    value: sympy.Expr

    def __post_init__(self) -> None:
        self._set(())


@_node
class Contract(Tensor):
    """Product of the operands, summed over each axis that is not kept; a kept axis that no operand has is broadcast."""

    factors: tuple[Tensor, ...]
    keep: tuple[Axis, ...]

    def __post_init__(self) -> None:
        merge_axes((*(f.axes for f in self.factors), self.keep))
        self._set(self.keep)

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return self.factors

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        return contract(operands, self.keep)

    @property
    def summed(self) -> tuple[Axis, ...]:
        """The axes that are summed over."""
        return tuple(a for a in merge_axes(f.axes for f in self.factors) if a not in self.keep)


@_node
class Map(Tensor):
    """A scalar function of the operands, entry by entry."""

    function: sympy.Expr
    arguments: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        self._set(merge_axes(a.axes for a in self.arguments))

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return self.arguments

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        return map_function(self.function, *operands)


#: what the adjoint of a maximum does at ties -> how it is said
TIES = {"share": "tied maxima share the cotangent evenly", "first": "the first of tied maxima takes the cotangent"}


@_node
class Extremum(Tensor):
    """Maximum over axes; ``ties``: at tied maxima its adjoint goes evenly to all ("share") or to the "first"."""

    operand: Tensor
    over: tuple[Axis, ...]
    ties: str = "share"

    @classmethod
    def normal_fields(cls, operand: Tensor, over: tuple[Axis, ...], ties: str = "share") -> tuple[Any, ...]:
        if ties not in TIES:
            raise InputError(f"ties {str(ties)[:40]!r}: it is one of {', '.join(TIES)}")
        return operand, over, ties

    def __post_init__(self) -> None:
        self._set(a for a in self.operand.axes if a not in self.over)

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return (self.operand,)

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        return Extremum(operands[0], self.over, self.ties)


@_node
class Maximiser(Tensor):
    """Weights that pick the maximum: 1 at a unique maximiser, shared evenly among ties, 0 elsewhere."""

    operand: Tensor
    over: tuple[Axis, ...]
    indices: tuple[Axis, ...]

    def __post_init__(self) -> None:
        rest = (a for a in self.operand.axes if a not in self.over)
        self._set(merge_axes((rest, self.indices)))


@_node
class Delta(Tensor):
    """Kronecker delta."""

    a: Axis
    b: Axis

    def __post_init__(self) -> None:
        if self.a.size != self.b.size:
            raise InputError(f"a Kronecker delta needs axes of one size, not {self.a.size} and {self.b.size}")
        self._set(merge_axes(((self.a, self.b),)))


@_node
class Position(Tensor):
    """The index along an axis itself: 0, 1, …; what a causal mask and an encoding of positions are made of."""

    along: Axis

    def __post_init__(self) -> None:
        self._set((self.along,))


@_node
class Named(Tensor):
    """The operand under a name."""

    name: str
    operand: Tensor
    indices: tuple[Axis, ...]

    def __post_init__(self) -> None:
        self._set(merge_axes((self.indices,)))

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return (self.operand,)

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        return Named(self.name, operands[0], self.indices)


# --- construction -------------------------------------------------------------------------------------------


def number(value: Any) -> sympy.Expr:
    """An exact SymPy number or scalar expression; a float is the binary fraction it is."""
    if isinstance(value, bool):
        return sympy.Integer(int(value))
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InputError(f"{value} is not a number one can calculate with exactly")
        return sympy.Rational(value)
    if isinstance(value, str):
        raise InputError(f"a tensor expression is built from numbers and tensors, not from text: {value[:40]!r}")
    try:
        return sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        raise InputError(f"a tensor expression cannot be built from a {type(value).__name__}") from None


def as_tensor(value: Any) -> Tensor:
    """The value itself if it is a tensor, else a :class:`Scalar`."""
    return value if isinstance(value, Tensor) else Scalar(number(value))


def _named_axes(tensor: Tensor, over: str | Iterable[str]) -> tuple[Axis, ...]:
    return tuple(tensor.axis(name) for name in ((over,) if isinstance(over, str) else over))


def contract(factors: Iterable[Tensor], keep: Iterable[Axis]) -> Tensor:
    """Contract, with the scalars multiplied out, products in products merged and trivial cases removed."""
    keep = tuple(keep)
    value, rest = sympy.Integer(1), []
    for f in _flat(tuple(factors), frozenset(keep)):
        if isinstance(f, Scalar):
            value *= f.value
        else:
            rest.append(f)
    if value == 0:
        return Contract((Scalar(value),), keep) if keep else Scalar(value)
    if value != 1 or not rest:
        rest.insert(0, Scalar(value))
    if len(rest) == 1 and set(rest[0].axes) == set(keep):
        return rest[0]
    return Contract(tuple(rest), keep)


def _flat(factors: tuple[Tensor, ...], keep: frozenset[Axis]) -> Iterable[Tensor]:
    """The factors, those of a product without sums in its place, where no axis is lost by that."""
    for k, f in enumerate(factors):
        if isinstance(f, Contract) and not f.summed:
            others = keep.union(*(g.axes for j, g in enumerate(factors) if j != k))
            own = {a for g in f.factors for a in g.axes}
            bare = [g for g in factors if isinstance(g, Contract) and not any(h.axes for h in g.factors)]
            # Two bare broadcasts of one axis must not each rely on the other to keep it.
            if set(f.axes) <= own | (keep if len(bare) > 1 else others):
                yield from f.factors
                continue
        yield f


def multiply(*factors: Any) -> Tensor:
    """Product, broadcasting by axis name."""
    tensors = tuple(as_tensor(f) for f in factors)
    return contract(tensors, merge_axes(t.axes for t in tensors))


def add(*terms: Any) -> Tensor:
    """Sum of tensors, broadcasting by axis name."""
    tensors = [as_tensor(t) for t in terms]
    tensors = [t for t in tensors if not is_zero(t) or t.axes] or [Scalar(sympy.Integer(0))]
    if len(tensors) == 1:
        return tensors[0]
    return map_function(sympy.Add(*(slot(k) for k in range(len(tensors)))), *tensors)


def is_zero(tensor: Tensor) -> bool:
    """Whether the node is literally zero."""
    if isinstance(tensor, Contract):
        return any(is_zero(f) for f in tensor.factors)
    return isinstance(tensor, Scalar) and tensor.value == 0


def _map2(function: sympy.Expr, a: Tensor, b: Tensor) -> Tensor:
    return map_function(function, a, b)


def map_function(function: sympy.Expr, *arguments: Tensor) -> Tensor:
    """Map, with scalar arguments put into the function, equal arguments merged and the slots renumbered."""
    place: dict[Tensor, int] = {}
    substitution: dict[sympy.Symbol, sympy.Expr] = {}
    for k, argument in enumerate(arguments):
        if slot(k) not in function.free_symbols:
            continue
        if isinstance(argument, Scalar):
            substitution[slot(k)] = argument.value
        else:
            substitution[slot(k)] = slot(place.setdefault(argument, len(place)))
    if any(key != value for key, value in substitution.items()):
        function = function.xreplace(substitution)
    axes = merge_axes(a.axes for a in arguments)
    if not place:
        return contract((Scalar(function),), axes)
    if function == slot(0) and len(place) == 1:
        result: Tensor = next(iter(place))
    else:
        result = Map(function, tuple(place))
    return result if set(result.axes) == set(axes) else contract((result,), axes)


def apply(function: sympy.Expr | Callable[[Any], sympy.Expr], *arguments: Any) -> Tensor:
    """A scalar function entry by entry: a SymPy expression in ``slot(0), …`` (or ``x``), or a SymPy function class."""
    from .symbols import x

    tensors = tuple(as_tensor(a) for a in arguments)
    expr = function if isinstance(function, sympy.Basic) else function(*(slot(k) for k in range(len(tensors))))
    return map_function(expr.xreplace({x: slot(0)}), *tensors)


def exp(a: Any) -> Tensor:
    """Exponential, entry by entry."""
    return apply(sympy.exp, a)


def log(a: Any) -> Tensor:
    """Natural logarithm, entry by entry."""
    return apply(sympy.log, a)


def sqrt(a: Any) -> Tensor:
    """Square root, entry by entry."""
    return apply(sympy.sqrt, a)


def tanh(a: Any) -> Tensor:
    """Hyperbolic tangent, entry by entry."""
    return apply(sympy.tanh, a)


def greater(a: Any, b: Any) -> Tensor:
    """1 where a > b, else 0."""
    return apply(sympy.Piecewise((1, slot(0) > slot(1)), (0, True)), a, b)


def greater_equal(a: Any, b: Any) -> Tensor:
    """1 where a ≥ b, else 0."""
    return apply(sympy.Piecewise((1, slot(0) >= slot(1)), (0, True)), a, b)


def same(a: Any, b: Any) -> Tensor:
    """1 where a = b, else 0."""
    return apply(sympy.Piecewise((1, sympy.Eq(slot(0), slot(1))), (0, True)), a, b)


def where(mask: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the mask is positive, else ``b``."""
    return apply(sympy.Piecewise((slot(1), slot(0) > 0), (slot(2), True)), mask, a, b)


def allowed(mask: Any, a: Any) -> Tensor:
    """``a`` where the mask is positive, else −∞: what a maximum or a softmax leaves out."""
    return apply(sympy.Piecewise((slot(0), slot(1) > 0), (-sympy.oo, True)), a, mask)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two, entry by entry; at a tie both are equal."""
    return apply(sympy.Piecewise((slot(0), slot(0) > slot(1)), (slot(1), True)), a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two, entry by entry."""
    return apply(sympy.Piecewise((slot(0), slot(0) < slot(1)), (slot(1), True)), a, b)


def __getattr__(name: str) -> Any:
    """The walking functions are offered here too: a person who builds expressions needs one import."""
    if name in ("inputs", "postorder", "rename", "scalar_symbols", "substitute", "unnamed"):
        from . import walking

        return getattr(walking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
