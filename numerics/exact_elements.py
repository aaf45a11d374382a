"""What entries of exact arrays have in common: the trace of a run, how constants are read, the operators of a number.

How float constants of the person's code are read
    A double whose shortest decimal form has at most 15 digits is that decimal (``0.1`` is 1/10, ``1e-5`` is 10⁻⁵).
    Any other double (``0.7071067811865475244``, ``1/3`` computed in Python) is read as the exact double.
    Under ``widened=True`` every constant of more than 11 digits becomes the ball of all reals within four units of
    its last place: what is disjoint then cannot be explained by the rounding of the code's own constants.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import flint
import numpy as np
from flint import arb, fmpq

from ..theory.errors import Unsupported

#: Working precision: 300 decimal digits.
BITS = 1000
#: A constant with at most this many digits is surely the one that was meant: it is never widened.
SHORT_DIGITS = 11
#: A decimal with at most this many digits survives the round trip through a double.
DECIMAL_DIGITS = 15


class NotDecided(ArithmeticError):  # noqa: N818  (an outcome, not a fault)
    """The enclosures cannot separate two values, or a value is not defined."""


class NotCovered(Unsupported):
    """A function that exact arithmetic does not know; the message names it."""


@dataclass
class Trace:
    """What a run in exact arithmetic noticed: ties of active values, thresholds of inputs, the array operations."""

    widened: bool = False
    symbolic: Any = None  # a field of symbols that replaces the balls, see symbolic_arrays.py
    ties: list[str] = field(default_factory=list)
    switched: bool = False  # at the border of a branch: equal numbers were compared, a whole number rounded
    thresholds: set[Fraction] = field(default_factory=set)
    tie: str = ""  # at a tie of active values: forward's own side, the "other" one, or the "middle" of max and min
    residues: bool = False  # numbers carry residues, see residues.py
    record: bool = False
    operations: list[Any] = field(default_factory=list)


_TRACES: list[Trace] = [Trace()]


def trace() -> Trace:
    """Return the innermost trace."""
    return _TRACES[-1]


@contextmanager
def exact_arithmetic(
    *,
    bits: int = BITS,
    widened: bool = False,
    record: bool = False,
    symbolic: Any = None,
    residues: bool = False,
    tie: str = "",
) -> Iterator[Trace]:
    """Open a region of exact arithmetic at ``bits`` bits and yield its :class:`Trace`."""
    before = flint.ctx.prec
    _TRACES.append(Trace(widened=widened, record=record, symbolic=symbolic, residues=residues, tie=tie))
    flint.ctx.prec = bits
    try:
        yield _TRACES[-1]
    finally:
        flint.ctx.prec = before
        _TRACES.pop()


@functools.lru_cache(maxsize=4096)
def _decimal(value: float) -> tuple[Fraction, int]:
    """Return the number a double stands for, and its count of significant decimal digits."""
    text = repr(value)
    digits = len(text.split("e")[0].replace(".", "").replace("-", "").strip("0"))
    return (Fraction(text) if digits <= DECIMAL_DIGITS else Fraction(value)), digits


def ball_of(value: Any) -> arb:
    """Return the enclosure of a constant of the person's code (see the module's first lines)."""
    if trace().residues:
        return _with_residue(value)
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return arb(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            return arb("nan") if math.isnan(number) else arb("inf") if number > 0 else arb("-inf")
        meant, digits = _decimal(number)
        if trace().widened and digits > SHORT_DIGITS:
            return arb(number, 4 * math.ulp(number))
        return arb(fmpq(meant.numerator, meant.denominator))
    if isinstance(value, Fraction):
        return arb(fmpq(value.numerator, value.denominator))
    if isinstance(value, arb):
        return value
    raise NotCovered(f"a value of type {type(value).__name__} has no exact counterpart")


def _with_residue(value: Any) -> Any:
    from .residues import Number, number, rational

    if isinstance(value, (Number, arb)):
        return number(value)
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return number(int(value))
    if isinstance(value, (float, np.floating)) and math.isfinite(float(value)):
        return rational(*_decimal(float(value))[0].as_integer_ratio())
    if isinstance(value, Fraction):
        return rational(value.numerator, value.denominator)
    raise NotCovered(f"a value of type {type(value).__name__} has no residue")


class Element:
    """What a NumPy scalar can do, for entries of exact arrays: arithmetic goes to ``_binary`` and ``_unary``."""

    __slots__ = ()
    shape: tuple[int, ...] = ()
    ndim = 0
    size = 1
    itemsize = 8
    __array_priority__ = 1000.0

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

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def T(self) -> Element:
        return self

    @property
    def real(self) -> Element:
        return self

    # NumPy's protocols; the tables live in exact_arrays.py.
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        from .exact_arrays import handle_ufunc

        return handle_ufunc(ufunc, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        from .exact_arrays import handle_function

        return handle_function(function, args, keywords)

    def __float__(self) -> float:
        raise NotCovered("a conversion to float inside compiled code leaves exact arithmetic")

    def __copy__(self) -> Element:
        return self

    def __deepcopy__(self, memo: Any) -> Element:
        return self

    def item(self) -> Element:
        return self

    copy = item
    squeeze = item

    def tolist(self) -> Element:
        return self

    def astype(self, dtype: Any, **_: Any) -> Any:
        return _array(self).astype(dtype)[()]

    def reshape(self, *shape: Any) -> Any:
        return _array(self).reshape(*shape)

    def _same(self, axis: Any = None, keepdims: bool = False, **_: Any) -> Element:
        return self

    sum = mean = max = min = prod = ravel_ = _same

    def ravel(self) -> Any:
        return _array(self).reshape(1)

    flatten = ravel

    def __getitem__(self, index: Any) -> Any:
        if index == ():
            return self
        return _array(self)[index]


def _array(value: Any) -> Any:
    from .exact_arrays import exact_array

    return exact_array(value)


def _operators() -> None:
    """Give Element its operators: arrays and unknown types are left to the other operand."""

    def forward(name: str) -> Callable[[Any, Any], Any]:
        def method(self: Any, other: Any) -> Any:
            if isinstance(other, (np.ndarray, list, tuple)):
                return NotImplemented
            return self._binary(name, self, other)

        return method

    def reflected(name: str) -> Callable[[Any, Any], Any]:
        def method(self: Any, other: Any) -> Any:
            if isinstance(other, (np.ndarray, list, tuple)):
                return NotImplemented
            return self._binary(name, other, self)

        return method

    for word in ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod"):
        setattr(Element, f"__{word}__", forward(word))
        setattr(Element, f"__r{word}__", reflected(word))
    for word in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Element, f"__{word}__", forward(word))
    setattr(Element, "__hash__", object.__hash__)  # noqa: B010
    for word in ("neg", "abs"):
        setattr(Element, f"__{word}__", lambda self, word=word: self._unary(word, self))
    setattr(Element, "__pos__", lambda self: self)  # noqa: B010


_operators()
