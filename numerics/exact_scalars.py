"""The entries of exact arrays: Arb balls that know the numbers they were made from.

An entry (:class:`Ball`) is an enclosure together with its parents on the tape: each arithmetic operation stores its
local partial derivatives, so the forward pass of a person's code can be differentiated in reverse, entry by entry and
with proven radii.  A comparison is decided by the enclosures or raises :class:`NotDecided`; it is never a guess.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

from .exact_elements import (
    BITS,
    DECIMAL_DIGITS,
    SHORT_DIGITS,
    Element,
    NotCovered,
    NotDecided,
    Trace,
    ball_of,
    exact_arithmetic,
    trace,
)

_COUNTER = itertools.count()


class Ball(Element):
    """An enclosure on the tape: ``parents`` are the active balls it came from with the local partial derivatives."""

    __slots__ = ("active", "index", "leaf", "parents", "value")

    def __init__(self, value: arb, parents: tuple[tuple[Ball, Any], ...] = (), *, leaf: bool = False) -> None:
        self.value = value
        self.parents = parents
        self.leaf = leaf
        self.active = leaf or bool(parents)
        self.index = next(_COUNTER) if self.active else -1

    @staticmethod
    def _binary(name: str, a: Any, b: Any) -> Any:
        return BINARY[name](lift(a), lift(b))

    @staticmethod
    def _unary(name: str, a: Any) -> Any:
        return unary(name, a)

    def __bool__(self) -> bool:
        return decide("ne", self, lift(0))

    def _integer(self, value: arb, what: str) -> int:
        exact = value.unique_fmpz()
        if exact is None:
            raise NotDecided(f"{what} of {self} cannot be decided")
        return int(exact)

    def __index__(self) -> int:
        if not self.value.is_exact() or not self.value.is_integer():
            raise TypeError("only an integer can be used as an index")
        return self._integer(self.value, "the index")

    def __int__(self) -> int:
        trace().switched |= self.value.is_integer()
        below = self.value.floor() if self.value >= 0 else self.value.ceil()
        return self._integer(below, "the integer part")

    __trunc__ = __int__

    def __round__(self, digits: int = 0) -> Ball:
        return unary("rint", self)

    def __repr__(self) -> str:
        return self.value.str(17, radius=False)

    def __format__(self, spec: str) -> str:
        return format(float(self.value), spec)


def lift(value: Any) -> Ball:
    """Return ``value`` as an entry: itself, or a constant."""
    if isinstance(value, Ball):
        return value
    current = trace().symbolic
    if current is not None:
        return current.lift(value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return lift(value[()])
    if isinstance(value, Size):
        value = int(value)
    return Ball(ball_of(value))


def _node(value: arb, *links: tuple[Ball, Any]) -> Ball:
    return Ball(value, tuple([link for link in links if link[0].active]))


def _node_of_two(value: arb, a: Ball, by_a: Any, b: Ball, by_b: Any) -> Ball:
    """The same for two links: every sum and product passes here."""
    if a.active:
        return Ball(value, ((a, by_a), (b, by_b)) if b.active else ((a, by_a),))
    return Ball(value, ((b, by_b),)) if b.active else Ball(value)


# Arithmetic ----------------------------------------------------------------------------------------------------------
def _add(a: Ball, b: Ball) -> Ball:
    return _node_of_two(a.value + b.value, a, 1, b, 1)


def _sub(a: Ball, b: Ball) -> Ball:
    if a is b and a.value.is_finite():  # z − max z: the same number, so exactly 0 whatever its radius
        return Ball(arb(0))
    return _node_of_two(a.value - b.value, a, 1, b, -1)


def _mul(a: Ball, b: Ball) -> Ball:
    return _node_of_two(a.value * b.value, a, b.value, b, a.value)


def _div(a: Ball, b: Ball) -> Ball:
    quotient = a.value / b.value
    if not a.active and not b.active:
        return Ball(quotient)
    return _node(quotient, (a, 1 / b.value), (b, -quotient / b.value))


def _pow(a: Ball, b: Ball) -> Ball:
    base, exponent = a.value, b.value
    if b.active:
        value = base**exponent
        return _node(value, (a, exponent * base ** (exponent - 1)), (b, value * base.log()))
    whole = exponent.unique_fmpz() if exponent.is_exact() else None
    if whole is None and not base > 0:
        trace().switched = True  # defined on one side of 0 only
    if whole is not None:
        n = int(whole)
        if abs(n) > 10_000:
            raise NotCovered(f"a power with the exponent {n} is not covered")
        if n == 0:
            return Ball(arb(1))
        return _node(base**n, (a, n * base ** (n - 1)))
    if exponent == arb(0.5):
        return unary("sqrt", a)
    return _node(base**exponent, (a, exponent * base ** (exponent - 1)))


def _floordiv(a: Ball, b: Ball) -> Ball:
    return unary("floor", _div(a, b))


def _mod(a: Ball, b: Ball) -> Ball:
    return _sub(a, _mul(b, _floordiv(a, b)))


def decide(name: str, a: Ball, b: Ball) -> bool:
    """Decide a comparison by the enclosures, note a tie, or raise :class:`NotDecided`."""
    if a.leaf != b.leaf and not (a if b.leaf else b).active:
        _note_threshold((a if b.leaf else b).value)
    if a is b or a.value == b.value:
        trace().switched |= a is not b
        if (a.active or b.active) and a is not b and name not in ("eq", "ne"):
            trace().ties.append(f"{a!r} {name} {b!r}")
            if trace().tie == "other":
                return name in ("lt", "gt")
        return name in ("le", "ge", "eq")
    if a.value < b.value:
        return name in ("lt", "le", "ne")
    if a.value > b.value:
        return name in ("gt", "ge", "ne")
    if not (a.value.is_finite() and b.value.is_finite()):
        raise NotDecided("a comparison met a value that is not defined (NaN)")
    digits = max(1, int(-float((a.value - b.value).abs_upper().log()) / math.log(10)))
    raise NotDecided(f"a comparison of two numbers that agree in {digits} digits")


def _note_threshold(value: arb) -> None:
    if value.is_exact() and value.is_finite() and abs(value) < 10**6:
        trace().thresholds.add(Fraction(float(value)))


def _comparison(name: str) -> Callable[[Ball, Ball], Any]:
    return lambda a, b: decide(name, a, b)


def _larger(a: Ball, b: Ball) -> Ball:
    return _chosen("ge", a, b)


def _smaller(a: Ball, b: Ball) -> Ball:
    return _chosen("le", a, b)


def _chosen(name: str, a: Ball, b: Ball) -> Ball:
    """Return the larger or smaller; of two that cannot be told apart, the union with every subgradient enclosed.

    Equal scores that were computed in two ways meet in ``z − max z``, whose gradient does not depend on the choice:
    then the weights [0, 1] cancel to the radius of the union.  Where it does depend, the enclosure stays wide.
    """
    if trace().tie == "middle" and a is not b and a.value == b.value:
        return _node(a.value, (a, arb(0.5)), (b, arb(0.5)))
    try:
        return a if decide(name, a, b) else b
    except NotDecided:
        if not (a.value.is_finite() and b.value.is_finite()):
            raise
    trace().switched = True
    trace().ties.append(f"{a!r} {name} {b!r}")
    return _node(a.value.union(b.value), (a, arb(0.5, 0.5)), (b, arb(0.5, 0.5)))


BINARY: Mapping[str, Callable[[Ball, Ball], Any]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "truediv": _div,
    "pow": _pow,
    "floordiv": _floordiv,
    "mod": _mod,
    "maximum": _larger,
    "minimum": _smaller,
    **{name: _comparison(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
}

# Functions of one number: name -> (value, derivative given the argument and the value) ------------------------------
_PI = arb.pi
Rule = tuple[Callable[[arb], arb], Callable[[arb, arb], Any]]
UNARY: Mapping[str, Rule] = {
    "neg": (operator.neg, lambda v, y: -1),
    "exp": (arb.exp, lambda v, y: y),
    "exp2": (lambda v: arb(2) ** v, lambda v, y: y * arb(2).log()),
    "expm1": (arb.expm1, lambda v, y: v.exp()),
    "log": (arb.log, lambda v, y: 1 / v),
    "log2": (lambda v: v.log() / arb(2).log(), lambda v, y: 1 / (v * arb(2).log())),
    "log10": (lambda v: v.log() / arb(10).log(), lambda v, y: 1 / (v * arb(10).log())),
    "log1p": (arb.log1p, lambda v, y: 1 / (1 + v)),
    "sqrt": (arb.sqrt, lambda v, y: 1 / (2 * y)),
    "cbrt": (lambda v: v.root(3) if v >= 0 else -((-v).root(3)), lambda v, y: 1 / (3 * y * y)),
    "square": (lambda v: v * v, lambda v, y: 2 * v),
    "reciprocal": (lambda v: 1 / v, lambda v, y: -y * y),
    "sin": (arb.sin, lambda v, y: v.cos()),
    "cos": (arb.cos, lambda v, y: -v.sin()),
    "tan": (arb.tan, lambda v, y: 1 + y * y),
    "arcsin": (arb.asin, lambda v, y: 1 / (1 - v * v).sqrt()),
    "arccos": (arb.acos, lambda v, y: -1 / (1 - v * v).sqrt()),
    "arctan": (arb.atan, lambda v, y: 1 / (1 + v * v)),
    "sinh": (arb.sinh, lambda v, y: v.cosh()),
    "cosh": (arb.cosh, lambda v, y: v.sinh()),
    "tanh": (arb.tanh, lambda v, y: v.sech() ** 2),
    "arcsinh": (arb.asinh, lambda v, y: 1 / (1 + v * v).sqrt()),
    "arctanh": (arb.atanh, lambda v, y: 1 / (1 - v * v)),
    "erf": (arb.erf, lambda v, y: 2 * (-v * v).exp() / _PI().sqrt()),
    "erfc": (arb.erfc, lambda v, y: -2 * (-v * v).exp() / _PI().sqrt()),
    "ndtr": (lambda v: (-v / arb(2).sqrt()).erfc() / 2, lambda v, y: (-v * v / 2).exp() / (2 * _PI()).sqrt()),
    "expit": (lambda v: 1 / (1 + (-v).exp()), lambda v, y: y / (1 + v.exp())),
    "log_expit": (lambda v: -((-v).exp().log1p()), lambda v, y: 1 / (1 + v.exp())),
    "logit": (lambda v: (v / (1 - v)).log(), lambda v, y: 1 / (v * (1 - v))),
    "gamma": (arb.gamma, lambda v, y: y * v.digamma()),
    "gammaln": (arb.lgamma, lambda v, y: v.digamma()),
    "psi": (arb.digamma, lambda v, y: v.polygamma(1) if hasattr(v, "polygamma") else arb("nan")),
    "deg2rad": (lambda v: v * _PI() / 180, lambda v, y: _PI() / 180),
    "rad2deg": (lambda v: v * 180 / _PI(), lambda v, y: 180 / _PI()),
    "sinc": (lambda v: v.sinc_pi(), lambda v, y: (((_PI() * v).cos() - y) / v) if v != 0 else arb(0)),
}


def _step(ball: arb, name: str) -> arb:
    trace().switched |= ball.is_integer()
    rounded = {"floor": arb.floor, "ceil": arb.ceil}[name](ball)
    if not rounded.is_exact():
        raise NotDecided(f"the {name} of a number too close to an integer")
    return rounded


def unary(name: str, a: Any) -> Any:
    """Apply a function of one number; the kinked ones are decided by comparison."""
    a = lift(a)
    if not isinstance(a, Ball):
        return a._unary(name, a)
    if name in UNARY:
        function, derivative = UNARY[name]
        if trace().residues:
            from . import residues

            value = residues.number(a.value).apply(name)
            derivative = functools.partial(residues.slope, name, derivative)
        else:
            value = function(a.value)
        return Ball(value, ((a, derivative(a.value, value)),)) if a.active else Ball(value)
    if name == "abs":
        return a if decide("ge", a, lift(0)) else _node(-a.value, (a, -1))
    if name == "sign":
        return Ball(arb(0 if decide("eq", a, lift(0)) else 1 if decide("gt", a, lift(0)) else -1))
    if name in ("floor", "ceil"):
        return Ball(_step(a.value, name))
    if name == "trunc":
        return Ball(_step(a.value, "floor" if decide("ge", a, lift(0)) else "ceil"))
    if name == "rint":
        doubled = _step(a.value + arb(0.5), "floor")
        tie = (a.value + arb(0.5)) == doubled and int(doubled.unique_fmpz()) % 2
        return Ball(doubled - 1 if tie else doubled)
    raise NotCovered(f"{name} is not covered")


@dataclass(frozen=True)
class Factors:
    """A row or column of a matrix product: its entries, their values, and how many of them are on the tape."""

    balls: Sequence[Any]
    values: Sequence[Any]
    live: int

    @staticmethod
    def of(entries: Sequence[Any]) -> Factors:
        if not all(isinstance(each, Ball) for each in entries):
            return Factors(entries, (), -1)
        return Factors(entries, [each.value for each in entries], sum(each.active for each in entries))

    def links(self, partials: Sequence[Any]) -> tuple[tuple[Ball, Any], ...]:
        if not self.live:
            return ()
        pairs = zip(self.balls, partials, strict=True)
        return tuple(pairs) if self.live == len(self.balls) else tuple([pair for pair in pairs if pair[0].active])


def product(left: Factors, right: Factors) -> Any:
    """Return Σ left·right as one node of the tape."""
    if left.live < 0 or right.live < 0:
        return functools.reduce(operator.add, (p * q for p, q in zip(left.balls, right.balls, strict=True)))
    total = sum(map(operator.mul, left.values, right.values), _ZERO)
    return Ball(total, left.links(right.values) + right.links(left.values))


_ZERO = arb(0)


def total(entries: Sequence[Any]) -> Any:
    """Return the sum of balls as one node of the tape."""
    return Ball(sum([each.value for each in entries], _ZERO), tuple([(each, 1) for each in entries if each.active]))


#: The partial derivative of a sum by one of its terms (CPython has one object 1): no product is taken with it.
_SAME = 1


def adjoints(
    outputs: Sequence[tuple[Ball, arb]], replaced: Mapping[Ball, tuple[tuple[Ball, Any], ...]] | None = None
) -> dict[Ball, arb]:
    """Differentiate in reverse: the adjoint of every active ball that the seeded outputs depend on.

    ``replaced`` gives some balls other parents: how a diagnosis asks what the gradient would be if a path were cut.
    """
    replaced = replaced or {}
    adjoint: dict[Ball, arb] = {}
    for ball, seed in outputs:
        if isinstance(ball, Ball) and ball.active:
            adjoint[ball] = adjoint.get(ball, arb(0)) + seed
    reached: set[Ball] = set()
    stack = list(adjoint)
    while stack:
        ball = stack.pop()
        if ball not in reached:
            reached.add(ball)
            stack.extend([parent for parent, _ in (replaced.get(ball, ball.parents) if replaced else ball.parents)])
    for ball in sorted(reached, key=operator.attrgetter("index"), reverse=True):
        incoming = adjoint.get(ball)
        if incoming is None:
            continue
        for parent, partial in replaced.get(ball, ball.parents) if replaced else ball.parents:
            share = incoming if partial is _SAME else incoming * partial
            adjoint[parent] = adjoint[parent] + share if parent in adjoint else share
    return adjoint


class Size:
    """The length of an axis: an integer whose quotients are exact (``1/n`` is the number 1/n, not a double)."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    __int__ = __index__

    def __bool__(self) -> bool:
        return self.value != 0

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return repr(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __neg__(self) -> int:
        return -self.value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        plain = [int(each) if isinstance(each, Size) else each for each in inputs]
        from .exact_arrays import handle_ufunc

        return handle_ufunc(ufunc, method, [lift(each) if np.isscalar(each) else each for each in plain], keywords)

    def item(self) -> int:
        return self.value


def _size_operators() -> None:
    def method(function: Callable[[Any, Any], Any], swap: bool, exact: bool) -> Callable[[Size, Any], Any]:
        def operate(self: Size, other: Any) -> Any:
            other = other.value if isinstance(other, Size) else other
            if isinstance(other, (np.ndarray, Element)):
                return NotImplemented
            if not isinstance(other, (int, float, np.integer, np.floating, Fraction)):
                return NotImplemented
            whole = isinstance(other, (int, np.integer))
            first: Any = self.value if whole and not exact else lift(self.value)
            second: Any = int(other) if whole and not exact else lift(other)
            if whole and function is operator.pow and int(other) < 0:
                first, second = lift(self.value), lift(other)
            result = function(second, first) if swap else function(first, second)
            return Size(result) if isinstance(result, int) and not isinstance(result, bool) else result

        return operate

    for word in ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow"):
        function = getattr(operator, word)
        setattr(Size, f"__{word}__", method(function, False, word == "truediv"))
        setattr(Size, f"__r{word}__", method(function, True, word == "truediv"))
    for word in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Size, f"__{word}__", method(getattr(operator, word), False, False))


_size_operators()
setattr(Size, "__hash__", lambda self: hash(self.value))  # noqa: B010  (setting __eq__ removed it)

__all__ = [
    "BINARY",
    "BITS",
    "DECIMAL_DIGITS",
    "SHORT_DIGITS",
    "UNARY",
    "Ball",
    "Element",
    "Factors",
    "NotCovered",
    "NotDecided",
    "Size",
    "Trace",
    "adjoints",
    "ball_of",
    "decide",
    "exact_arithmetic",
    "lift",
    "product",
    "total",
    "trace",
    "unary",
]
