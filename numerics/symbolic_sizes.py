"""Axis lengths that are symbols, and what the code under trace forces upon them.

Every axis of every input starts with a symbol of its own.  Where the code needs to know more (two lengths equal, a
length divisible, an axis that is a product of two, a plain number) it raises a :class:`Demand`; :class:`Sizes` meets
it and the trace starts again.  What was demanded beyond equality is part of the statement that is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from ..theory import tensors as t
from ..theory.places import at_least_zero
from .exact_elements import NotCovered
from .probing import InputKind

if TYPE_CHECKING:
    from .symbolic_arrays import SymbolicArray


class Untraceable(NotCovered):
    """The code does something that an index expression cannot say."""


class Demand(BaseException):
    """The code needs to know something about sizes: the tracer grants it and starts again.

    Not an Exception: a ``try`` in the person's code must let it through.
    """


class SizesDiffer(Demand):
    """Two sizes must be equal for the code to run."""

    def __init__(self, a: sympy.Expr, b: sympy.Expr) -> None:
        super().__init__(f"{a} and {b}")
        self.pair = (a, b)


class NumberNeeded(Demand):
    """A size must be a plain number: the code counts along the axis."""

    def __init__(self, expr: sympy.Expr) -> None:
        super().__init__(str(expr))
        self.expr = expr


class Divisible(Demand):
    """A size must be a multiple of a number."""

    def __init__(self, expr: sympy.Expr, by: int) -> None:
        super().__init__(f"{expr} by {by}")
        self.expr, self.by = expr, by


class ProductNeeded(Demand):
    """An axis must be a product of axes: the code splits or merges it."""

    def __init__(self, size: sympy.Expr, parts: Sequence[sympy.Expr]) -> None:
        super().__init__(f"{size} into {parts}")
        self.size, self.parts = size, tuple(parts)


class SymbolicSize:
    """The length of an axis."""

    def __init__(self, expr: Any) -> None:
        self.expr: sympy.Expr = sympy.expand(expr)

    def __index__(self) -> int:
        if self.expr.is_Integer:
            return int(self.expr)
        raise NumberNeeded(self.expr)

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __bool__(self) -> bool:
        return self != 0

    def __eq__(self, other: Any) -> bool:
        gap = self._gap(other)
        if gap is None:
            return NotImplemented
        if gap == 0 or at_least_zero(gap - 1) or at_least_zero(-gap - 1):
            return bool(gap == 0)
        if isinstance(other, SymbolicSize) and value_of(gap) == 0:
            raise SizesDiffer(self.expr, other.expr)
        raise NumberNeeded(gap)

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.expr)

    def __repr__(self) -> str:
        return str(self.expr)

    def __format__(self, spec: str) -> str:
        return str(self.expr)

    def __pow__(self, other: Any) -> Any:
        return SymbolicSize(self.expr**other) if isinstance(other, int) and other > 0 else self._array() ** other

    def __rpow__(self, other: Any) -> Any:
        return other ** self._array()

    def __neg__(self) -> SymbolicSize:
        return SymbolicSize(-self.expr)

    def _gap(self, other: Any) -> sympy.Expr | None:
        if isinstance(other, SymbolicSize):
            return sympy.expand(self.expr - other.expr)
        if isinstance(other, (int, np.integer)):
            return sympy.expand(self.expr - int(other))
        return None

    def __floordiv__(self, other: Any) -> Any:
        return SymbolicSize(self._quotient(other))

    def __rfloordiv__(self, other: Any) -> Any:
        raise NumberNeeded(self.expr)

    def __mod__(self, other: Any) -> Any:
        self._quotient(other)
        return 0 if not self.expr.is_Integer else int(self.expr) % int(other)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def _quotient(self, other: Any) -> sympy.Expr:
        """The quotient without a remainder, granted where the example has none."""
        by = other.expr if isinstance(other, SymbolicSize) else sympy.Integer(int(other))
        exact = sympy.cancel(self.expr / by)
        if sympy.denom(exact) == 1 and all(c.is_Integer for c in _coefficients(exact)):
            return sympy.expand(exact)
        if self.expr.is_Integer and by.is_Integer:
            return sympy.Integer(int(self.expr) // int(by))
        if not by.is_Integer:
            raise NumberNeeded(by)
        if isinstance(value := value_of(self.expr), int) and value % int(by) == 0 and self.expr.is_Symbol:
            raise Divisible(self.expr, int(by))
        raise NumberNeeded(self.expr)

    def _array(self) -> SymbolicArray:
        from .symbolic_arrays import SymbolicArray, make

        return SymbolicArray(make.Scalar(self.expr), ())

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return self._array().__array_ufunc__(ufunc, method, *inputs, **keywords)


def _coefficients(expr: sympy.Expr) -> list[sympy.Expr]:
    return [term.as_coeff_Mul()[0] for term in sympy.Add.make_args(sympy.expand(expr))]


def value_of(expr: sympy.Expr) -> int | None:
    """Return what a size is at the example, or None."""
    from .exact_scalars import trace

    value = sympy.sympify(sympy.expand(expr).xreplace(getattr(trace().symbolic, "values", {})))
    return int(value) if value.is_Integer else None


def _size_operators() -> None:
    import operator

    def arithmetic(name: str, swap: bool) -> Callable[[Any, Any], Any]:
        function = getattr(operator, name)

        def operate(self: SymbolicSize, other: Any) -> Any:
            if isinstance(other, (int, np.integer, SymbolicSize)) and name != "truediv" and not isinstance(other, bool):
                pair = (self.expr, other.expr if isinstance(other, SymbolicSize) else sympy.Integer(int(other)))
                return SymbolicSize(function(*(pair[::-1] if swap else pair)))
            pair2 = (self._array(), other._array() if isinstance(other, SymbolicSize) else other)
            return function(*(pair2[::-1] if swap else pair2))

        return operate

    def order(sign: int, strict: int) -> Callable[[Any, Any], bool]:
        def decide(self: SymbolicSize, other: Any) -> bool:
            gap = self._gap(other)
            if gap is None:
                return NotImplemented
            if at_least_zero(sign * gap - strict):
                return True
            if at_least_zero(-sign * gap - 1 + strict):
                return False
            raise NumberNeeded(gap)

        return decide

    for name in ("add", "sub", "mul", "truediv"):
        setattr(SymbolicSize, f"__{name}__", arithmetic(name, False))
        setattr(SymbolicSize, f"__r{name}__", arithmetic(name, True))
    for name, sign, strict in (("ge", 1, 0), ("gt", 1, 1), ("le", -1, 0), ("lt", -1, 1)):
        setattr(SymbolicSize, f"__{name}__", order(sign, strict))


_size_operators()


class SymbolicRange:
    """``range(n)`` of a symbolic length: an index like ``np.arange(n)``; a loop over it needs the number."""

    def __init__(self, stop: SymbolicSize) -> None:
        self.stop = stop

    def __iter__(self) -> Any:
        return iter(range(int(self.stop)))

    def __reversed__(self) -> Any:
        return reversed(range(int(self.stop)))

    def __len__(self) -> int:
        return int(self.stop)

    def __getitem__(self, index: Any) -> Any:
        return range(int(self.stop))[index]


def symbolic_range(*limits: Any) -> Any:
    """Stand in for ``range``."""
    if len(limits) == 2 and isinstance(limits[0], int) and limits[0] == 0:
        limits = limits[1:]
    if len(limits) == 1 and isinstance(limits[0], SymbolicSize) and not limits[0].expr.is_Integer:
        return SymbolicRange(limits[0])
    return range(*(int(n) if isinstance(n, SymbolicSize) else n for n in limits))


class Sizes:
    """The lengths of the inputs' axes, as products of symbols and numbers, under what was demanded so far."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self.parts: dict[tuple[str, int], tuple[sympy.Expr, ...]] = {}
        self.values: dict[sympy.Expr, int] = {}
        self.inequalities = False
        for name, shape in shapes.items():
            for k, n in enumerate(shape):
                if n > 1:
                    symbol = t.size_symbol(f"{name}{k}")
                    self.parts[name, k] = (symbol,)
                    self.values[symbol] = n

    def _value(self, expr: sympy.Expr) -> int | None:
        value = sympy.sympify(sympy.expand(expr).xreplace(self.values))
        return int(value) if value.is_Integer else None

    def _put(self, symbol: sympy.Expr, new: sympy.Expr) -> None:
        self.parts = {
            key: tuple(sympy.expand(p.xreplace({symbol: new})) for p in parts) for key, parts in self.parts.items()
        }

    def grant(self, demand: Demand) -> None:
        """Meet a demand, or raise :class:`Untraceable`."""
        if isinstance(demand, SizesDiffer):
            self._unify(*demand.pair)
        elif isinstance(demand, NumberNeeded):
            symbols = sorted(demand.expr.free_symbols & set(self.values), key=str)
            if not symbols:
                raise Untraceable(f"the length {demand.expr}")
            for symbol in symbols:
                self._put(symbol, sympy.Integer(self.values[symbol]))
        elif isinstance(demand, Divisible):
            symbol, by = demand.expr, demand.by
            smaller = t.size_symbol(f"{symbol}_{by}")
            self.values[smaller] = self.values[symbol] // by
            self._put(symbol, by * smaller if self.values[smaller] > 1 else sympy.Integer(by))
        elif isinstance(demand, ProductNeeded):
            self._split(demand.size, demand.parts)

    def _unify(self, a: sympy.Expr, b: sympy.Expr) -> None:
        if self._value(a) is None or self._value(a) != self._value(b):
            raise Untraceable(f"the sizes {a} and {b} meet")
        gap = sympy.expand(a - b)
        for symbol in sorted(gap.free_symbols, key=str):
            slope = gap.diff(symbol)
            if symbol in slope.free_symbols:
                continue
            new = sympy.expand(sympy.cancel(symbol - gap / slope))
            whole = all(c.is_Integer for c in _coefficients(new))
            if whole and at_least_zero(new - 1) and self._value(new) == self.values[symbol]:
                self._put(symbol, new)
                return
        self.grant(NumberNeeded(gap))

    def _split(self, size: sympy.Expr, parts: Sequence[sympy.Expr]) -> None:
        found = False
        if size.is_Symbol and sympy.expand(sympy.Mul(*parts)) != size:
            if self._value(size) != self._value(sympy.Mul(*parts)):
                raise Untraceable(f"an axis of length {size} as {' × '.join(map(str, parts))}")
            self._put(size, sympy.expand(sympy.Mul(*parts)))
            size = sympy.expand(sympy.Mul(*parts))
        if size.is_Integer:
            raise Untraceable(f"an axis of length {size} that is split")
        for key, own in self.parts.items():
            if size in own:
                spot, found = own.index(size), True
                self.parts[key] = (*own[:spot], *parts, *own[spot + 1 :])
        if not found:
            raise Untraceable("reshape")

    def axes(self, kind: InputKind) -> list[tuple[t.Axis, ...]]:
        """Return the axes of an input, per position the tuple whose product it is."""
        return [
            tuple(
                t.axis(f"{kind.name}.{k}" + (f".{i}" if i else ""), size)  # no fresh axis is called so
                for i, size in enumerate(self.parts.get((kind.name, k), ()))
            )
            for k in range(len(kind.shape))
        ]

    def conditions(self) -> list[str]:
        """Return what was demanded of sizes, in the terms of the user: fixed lengths and divisors."""
        found = []
        for (name, k), parts in self.parts.items():
            total = sympy.expand(sympy.Mul(*parts))
            if total.is_Integer:
                found.append(f"{name}.shape[{k}] = {total}")
            elif (by := abs(sympy.gcd_terms(total).as_coeff_Mul()[0])) != 1:
                found.append(f"{name}.shape[{k}] a multiple of {by}")
        return found
