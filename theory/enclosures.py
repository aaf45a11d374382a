"""SymPy expressions in ball arithmetic (python-flint's Arb): every result contains the exact value, radius proven.

An expression is compiled once to a straight-line list of steps and then evaluated at any precision. A ball that
straddles the border of a ``Piecewise`` gives the union of the branches it touches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import sympy
from flint import acb, arb, arb_series, fmpq
from sympy.core.function import AppliedUndef

from .errors import InputError, Unsupported
from .symbols import x as X

BITS_PER_DIGIT = 3.3219280948873626
MAX_BITS = 40_000
#: Beyond this radius monotone functions are enclosed from the ends of the ball, which is then much tighter.
_WIDE = arb(2) ** -20

Operand = Any  # arb, acb, arb_series or bool | None (a condition)


def exact_value(value: int | float | str | Fraction | sympy.Rational | arb) -> arb:
    """The ball of ``value``: a float is taken as the dyadic number it is, text as an exact decimal or fraction.

    >>> exact_value(0.5).is_exact()
    True
    """
    if isinstance(value, arb):
        return value
    if isinstance(value, str):
        value = Fraction(value)
    if isinstance(value, sympy.Rational):
        return arb(fmpq(int(value.p), int(value.q)))
    if isinstance(value, Fraction):
        return arb(fmpq(value.numerator, value.denominator))
    return arb(value)


class BallFunction:
    """A compiled expression: call it with one ball per symbol, at the precision in ``flint.ctx``.

    Takes real balls and series, and complex balls where the expression has no branches. With ``analytic`` the result is
    not finite wherever the function may fail to be analytic (on a branch cut): what ``acb.integral`` asks for.
    """

    def __init__(self, expression: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> None:
        unknown = expression.free_symbols - set(symbols)
        if unknown:
            raise InputError(f"no value given for {', '.join(sorted(map(str, unknown)))} in {str(expression)[:80]}")
        self.expression = expression
        writer = _Writer(symbols)
        result = writer.name(expression)
        self._constants, self._body = writer.compiled(result)
        self._at_precision: dict[int, tuple[Operand, ...]] = {}

    def __call__(self, *arguments: arb | acb | arb_series, analytic: bool = False) -> arb:
        """Enclose the expression on these balls."""
        constants = self._at_precision.get(flint.ctx.prec)
        if constants is None:
            constants = self._at_precision[flint.ctx.prec] = self._constants()
        return self._body(constants, analytic, *arguments)


class _Writer:
    """Writes an expression as straight-line Python: equal parts are computed once, constants once a precision.

    Only names made here stand in that source: no outside text enters it.
    """

    def __init__(self, symbols: Sequence[sympy.Symbol]) -> None:
        self.names: dict[sympy.Basic, str] = {symbol: f"x{i}" for i, symbol in enumerate(symbols)}
        self.arguments = [f"x{i}" for i in range(len(symbols))]
        self.lines: dict[bool, list[str]] = {True: [], False: []}  # constant or not
        self.constants: list[str] = []
        self.scope: dict[str, Any] = {}

    def name(self, node: sympy.Basic) -> str:
        if node not in self.names:
            operands = [self.name(child) for child in _children(node)]
            constant = not node.free_symbols
            name = f"{'c' if constant else 't'}{len(self.names)}"
            self.lines[constant].append(f"{name} = {self._right_side(node, operands)}")
            if constant:
                self.constants.append(name)
            self.names[node] = name
        return self.names[node]

    def _right_side(self, node: sympy.Basic, operands: list[str]) -> str:
        if isinstance(node, (sympy.Add, sympy.Mul)):
            return (" + " if isinstance(node, sympy.Add) else " * ").join(operands)
        function = f"f{len(self.scope)}"
        operation = self.scope[function] = _operation(node)
        return f"{function}({', '.join([*operands, 'analytic'] if operation in _WITH_CUTS else operands)})"

    def compiled(self, result: str) -> tuple[Callable[[], tuple[Operand, ...]], Callable[..., Operand]]:
        constants = ", ".join(self.constants) + ("," if self.constants else "")
        unpack = [f"{constants} = constants"] if self.constants else []
        source = [
            "def constants(analytic=False):",
            *(f"    {line}" for line in self.lines[True]), f"    return ({constants})",
            f"def body({', '.join(['constants', 'analytic', *self.arguments])}):",
            *(f"    {line}" for line in [*unpack, *self.lines[False]]), f"    return {result}",
        ]  # fmt: skip
        exec(compile("\n".join(source), "<ball function>", "exec"), self.scope)
        return self.scope["constants"], self.scope["body"]


@lru_cache(maxsize=4096)
def ball_function(expression: sympy.Expr, symbols: tuple[sympy.Symbol, ...] = (X,)) -> BallFunction:
    """Compile ``expression`` for balls; raises :class:`Unsupported` naming a node it does not know."""
    return BallFunction(sympy.sympify(expression), symbols)


def enclose(
    expression: sympy.Expr, point: Mapping[sympy.Symbol, Any] | None = None, *, digits: int = 30, max_bits: int = 8_192
) -> arb:
    """A ball around the exact value of ``expression`` at ``point``, to ``digits`` digits where they can be had.

    Precision is doubled until the radius is small enough, or ``max_bits`` is reached: the ball is then returned as is
    (an expression that is exactly 0 never has a correct first digit). It always contains the exact value.

    >>> print(enclose(sympy.exp(X), {X: 1}, digits=20).str(20, radius=False))
    2.7182818284590452354
    """
    point = point or {}
    function = ball_function(sympy.sympify(expression), tuple(point))
    needed = int(digits * BITS_PER_DIGIT) + 1
    bits = needed + 64
    while True:
        with flint.ctx.workprec(bits):
            value = function(*(exact_value(v) for v in point.values()))
            if value.is_exact() or value.rel_accuracy_bits() >= needed or bits >= max_bits or value.is_nan():
                return value
        bits *= 2


#: f⁽ⁿ⁾ -> (f, n), for functions without branches; see :func:`derives`
_DERIVED_FROM: dict[sympy.Expr, tuple[sympy.Expr, int]] = {}


def derives(derivative: sympy.Expr, function: sympy.Expr, n: int) -> None:
    """State that ``derivative`` is the n-th one of ``function``, from whose series its own is then had: that of a short
    formula instead of a long one. Not for functions with branches: their derivatives state values at the borders."""
    if n and not function.has(sympy.Piecewise, sympy.Abs, sympy.sign, sympy.Max, sympy.Min):
        _DERIVED_FROM.setdefault(derivative, (function, n))


def derived_from(expression: sympy.Expr) -> tuple[sympy.Expr, int]:
    """(f, n) with ``expression`` the n-th derivative of f, as far as :func:`derives` was told; else itself and 0."""
    return _DERIVED_FROM.get(expression, (expression, 0))


def taylor(expression: sympy.Expr, centre: arb, order: int) -> list[arb] | None:
    """Taylor coefficients of ``expression`` in ``x`` about ``centre`` up to ``order``; over a ball, enclosures of them.

    ``None`` where the ball straddles a border of a ``Piecewise`` or leaves the domain: no series holds there.
    """
    if expression in _DERIVED_FROM:
        function, n = _DERIVED_FROM[expression]
        whole = _series(function, centre, order + n)
        if whole is not None:
            return [whole[k + n] * math.perm(k + n, n) for k in range(order + 1)]
    return _series(expression, centre, order)


def _series(expression: sympy.Expr, centre: arb, order: int) -> list[arb] | None:
    with _series_length(order + 1):
        try:
            series = ball_function(sympy.sympify(expression))(arb_series([centre, 1], prec=order + 1))
        except (_UndecidedError, ZeroDivisionError, ValueError):
            return None
    if isinstance(series, arb):
        series = arb_series([series], prec=order + 1)
    coefficients = [series[k] for k in range(order + 1)]
    return None if any(c.is_nan() for c in coefficients) else coefficients


class _UndecidedError(ArithmeticError):
    """A condition on a series whose constant term straddles the border."""


class _series_length:  # noqa: N801  (a context manager)
    def __init__(self, length: int) -> None:
        self.length = length

    def __enter__(self) -> None:
        self.before, flint.ctx.cap = flint.ctx.cap, self.length

    def __exit__(self, *_: object) -> None:
        flint.ctx.cap = self.before


def _children(node: sympy.Basic) -> tuple[sympy.Basic, ...]:
    if isinstance(node, sympy.Piecewise):
        return tuple(part for branch in node.args for part in branch.args)
    if isinstance(node, sympy.Pow) and node.exp.is_Rational:
        return (node.base,)
    return tuple(node.args)


def _operation(node: sympy.Basic) -> Callable[..., Operand]:
    """The ball operation for the head of ``node``; constants become functions of no argument (precision may change)."""
    if isinstance(node, sympy.Rational):
        exact = fmpq(int(node.p), int(node.q))
        return lambda: arb(exact)
    if node in _CONSTANTS:
        return _CONSTANTS[node]
    if node is sympy.true or node is sympy.false:
        truth = bool(node)
        return lambda: truth
    if isinstance(node, sympy.Float):
        return _operation(sympy.Rational(node))
    if isinstance(node, sympy.Pow):
        return _power(node.exp) if node.exp.is_Rational else _general_power
    for head, operation in _OPERATIONS.items():
        if isinstance(node, head):
            return operation
    kind = "undefined function" if isinstance(node, AppliedUndef) else "expression"
    raise Unsupported(f"{kind} {str(node)[:60]} ({type(node).__name__}) has no enclosure")


def _power(exponent: sympy.Rational) -> Callable[..., Operand]:
    p, q = int(exponent.p), int(exponent.q)
    return (lambda b: _integer_power(b, p)) if q == 1 else _root(p, q)


@lru_cache(maxsize=256)
def _root(p: int, q: int) -> Callable[..., Operand]:
    """b^(p/q) for q > 1."""

    def apply(b: Operand, analytic: bool = False) -> Operand:
        if isinstance(b, acb):
            return b.pow(arb(fmpq(p, q)), analytic=analytic)
        if isinstance(b, arb_series) and q > 2:
            return (b.log() * arb(fmpq(p, q))).exp()
        return _integer_power(b.sqrt() if q == 2 else b.root(q), p)

    _WITH_CUTS.add(apply)
    return apply


def root_of_series(series: arb_series, p: int, q: int) -> arb_series:
    """series^(p/q); the constant term is not 0."""
    return _power(sympy.Rational(p, q))(series)


def _general_power(base: Operand, exponent: Operand, analytic: bool = False) -> Operand:
    return (exponent * _logarithm(base, analytic)).exp()


def _logarithm(b: Operand, analytic: bool = False) -> Operand:
    return b.log(analytic=analytic) if isinstance(b, acb) else _real_logarithm(b)


def _cut(name: str, along: str) -> Callable[..., Operand]:
    """An inverse function whose branch cuts run outward from ±1 (asin, acos) or ±i (atan), where it is not analytic."""
    on_reals = (lambda b: b.acos()) if name == "acos" else _monotone(name)

    def apply(b: Operand, analytic: bool = False) -> Operand:
        if not isinstance(b, acb):
            return on_reals(b)
        across, outward = (b.real, b.imag) if along == "imaginary" else (b.imag, b.real)
        if analytic and across.contains(0) and not outward.abs_upper() < 1:
            return acb(arb.nan(), arb.nan())
        return getattr(b, name)()

    return apply


def _integer_power(b: Operand, n: int) -> Operand:
    if n < 0:
        return 1 / _integer_power(b, -n)
    if isinstance(b, arb) and n % 2 == 0 and b.contains(0):
        return arb(0).union(b.abs_upper() ** n)  # an even power is never negative, which b·b does not know
    if isinstance(b, arb) and not b.is_exact() and b.contains(0) and b.is_finite():
        return (b.lower() ** n).union(b.upper() ** n)  # odd, so monotone; Arb gives NaN for a ball centred at 0
    return b**n


def _monotone(name: str) -> Callable[[Operand], Operand]:
    """A monotone function; a wide ball is enclosed from its two ends."""

    def apply(b: Operand) -> Operand:
        if isinstance(b, arb) and b.is_finite() and b.rad() > _WIDE:
            low, high = getattr(b.lower(), name)(), getattr(b.upper(), name)()
            return low.union(high)
        return getattr(b, name)()

    return apply


def _series_or(name: str, series: Callable[[arb_series], arb_series]) -> Callable[[Operand], Operand]:
    """A function that Arb has for balls but not for series."""
    on_balls = _monotone(name) if name in {"tanh", "sinh"} else lambda b: getattr(b, name)()
    return lambda b: series(b) if isinstance(b, arb_series) else on_balls(b)


def _absolute(b: Operand) -> Operand:
    if isinstance(b, arb_series):
        return b if _is_true(_relation(b, "gt")) else -b
    return abs(b)


def _is_true(truth: bool | None) -> bool:
    if truth is None:
        raise _UndecidedError
    return truth


def _relation(a: Operand, kind: str, b: Operand = 0) -> bool | None:
    """True or False where the balls decide it, else None."""
    if isinstance(a, acb) or isinstance(b, acb):
        raise Unsupported("branches have no meaning on complex balls: take the formula apart at its borders first")
    a, b = (v[0] if isinstance(v, arb_series) else arb(v) for v in (a, b))
    if a.is_nan() or b.is_nan():
        return None
    match kind:
        case "gt":
            return True if a > b else (False if a <= b else None)
        case "ge":
            return True if a >= b else (False if a < b else None)
        case _:
            return False if not a.overlaps(b) else (True if a.is_exact() and b.is_exact() else None)


def _not(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _and(*truths: bool | None) -> bool | None:
    return False if False in truths else (None if None in truths else True)


def _or(*truths: bool | None) -> bool | None:
    return True if True in truths else (None if None in truths else False)


def _piecewise(*parts: Operand) -> Operand:
    """Branches in order: the first that certainly holds, joined with those before it that may hold."""
    result = None
    for value, truth in zip(parts[::2], parts[1::2], strict=True):
        if truth is False:
            continue
        if truth is None and isinstance(value, arb_series):
            raise _UndecidedError
        result = value if result is None else result.union(value)
        if truth is True:
            return result
    return result if result is not None else arb.nan()


def _maximum(*values: arb) -> arb:
    result = values[0]
    for value in values[1:]:
        result = result.max(value)
    return result


def _minimum(*values: arb) -> arb:
    return -_maximum(*(-v for v in values))


_CONSTANTS: dict[sympy.Basic, Callable[[], arb]] = {
    sympy.pi: arb.pi,
    sympy.E: arb.const_e,
    sympy.EulerGamma: arb.const_euler,
    sympy.Catalan: arb.const_catalan,
    sympy.oo: arb.pos_inf,
    -sympy.oo: arb.neg_inf,
    sympy.nan: arb.nan,
}

_real_logarithm = _monotone("log")
_ATAN, _ASIN, _ACOS = _cut("atan", "imaginary"), _cut("asin", "real"), _cut("acos", "real")
#: The operations with branch cuts: on complex balls they are told whether an analytic answer is asked for.
_WITH_CUTS: set[Callable[..., Operand]] = {_logarithm, _general_power, _ATAN, _ASIN, _ACOS}

_OPERATIONS: dict[type, Callable[..., Operand]] = {
    sympy.exp: _monotone("exp"),
    sympy.log: _logarithm,
    sympy.tanh: _series_or("tanh", lambda s: 1 - 2 / ((2 * s).exp() + 1)),
    sympy.sinh: _series_or("sinh", lambda s: (s.exp() - (-s).exp()) / 2),
    sympy.cosh: _series_or("cosh", lambda s: (s.exp() + (-s).exp()) / 2),
    sympy.sech: _series_or("sech", lambda s: 2 / (s.exp() + (-s).exp())),
    sympy.coth: _series_or("coth", lambda s: 1 + 2 / ((2 * s).exp() - 1)),
    sympy.sin: lambda b: b.sin(),
    sympy.cos: lambda b: b.cos(),
    sympy.tan: lambda b: b.tan(),
    sympy.atan: _ATAN,
    sympy.asin: _ASIN,
    sympy.acos: _ACOS,
    sympy.erf: _monotone("erf"),
    sympy.erfc: _monotone("erfc"),
    sympy.Abs: _absolute,
    sympy.sign: lambda b: b.sgn(),
    sympy.Max: _maximum,
    sympy.Min: _minimum,
    sympy.Piecewise: _piecewise,
    sympy.StrictGreaterThan: lambda a, b: _relation(a, "gt", b),
    sympy.GreaterThan: lambda a, b: _relation(a, "ge", b),
    sympy.StrictLessThan: lambda a, b: _relation(b, "gt", a),
    sympy.LessThan: lambda a, b: _relation(b, "ge", a),
    sympy.Eq: lambda a, b: _relation(a, "eq", b),
    sympy.Ne: lambda a, b: _not(_relation(a, "eq", b)),
    sympy.And: _and,
    sympy.Or: _or,
    sympy.Not: _not,
}
