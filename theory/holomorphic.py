"""SymPy expression in ``x`` → straight-line program over Arb's real or complex balls.

:func:`program` is what ``acb.integral`` needs: on a complex ball it returns a non-finite ball wherever the function may
fail to be analytic (on a branch cut), so that quadrature stays proven. :func:`number` encloses a constant.
Piecewise expressions are taken apart first (:mod:`.pieces`); here they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy
from flint import acb, arb, ctx, fmpq

from .errors import Unsupported
from .symbols import x

Ball = Any  # arb | acb: the two share their method names

#: SymPy head → Arb method, for functions analytic wherever Arb returns a finite ball.
_METHODS = {
    sympy.exp: "exp",
    sympy.tanh: "tanh",
    sympy.sinh: "sinh",
    sympy.cosh: "cosh",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.tan: "tan",
    sympy.erf: "erf",
    sympy.erfc: "erfc",
}


def _atan(z: Ball, analytic: bool) -> Ball:
    """Arc tangent; its cuts run from ±i outward along the imaginary axis."""
    if analytic and z.real.contains(0) and not bool(z.imag.abs_upper() < 1):
        return acb(arb.nan(), arb.nan())
    return z.atan()


def _asin(z: Ball, analytic: bool) -> Ball:
    """Arc sine; its cuts run from ±1 outward along the real axis."""
    if analytic and z.imag.contains(0) and not bool(z.real.abs_upper() < 1):
        return acb(arb.nan(), arb.nan())
    return z.asin()


def _acos(z: Ball, analytic: bool) -> Ball:
    if analytic and z.imag.contains(0) and not bool(z.real.abs_upper() < 1):
        return acb(arb.nan(), arb.nan())
    return z.acos()


def _power(z: Ball, exponent: Ball, analytic: bool) -> Ball:
    return z.pow(exponent, analytic=analytic) if isinstance(z, acb) else z**exponent


def _sqrt(z: Ball, analytic: bool) -> Ball:
    return z.sqrt(analytic=analytic) if isinstance(z, acb) else z.sqrt()


def _log(z: Ball, analytic: bool) -> Ball:
    return z.log(analytic=analytic) if isinstance(z, acb) else z.log()


_NAMES = {"_atan": _atan, "_asin": _asin, "_acos": _acos, "_power": _power, "_sqrt": _sqrt, "_log": _log}


class _Writer:
    """Writes one straight-line program; equal sub-expressions are computed once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Ball] = {}
        self.seen: dict[sympy.Expr, str] = {}

    def constant(self, value: Ball) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def assign(self, text: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"    {name} = {text}")
        return name

    def name(self, node: sympy.Expr) -> str:
        if node not in self.seen:
            self.seen[node] = self.write(node)
        return self.seen[node]

    def write(self, node: sympy.Expr) -> str:
        if node == x:
            return "x"
        if not node.has(x):
            return self.constant(number(node))
        if isinstance(node, sympy.Add):
            return self.assign(" + ".join(self.name(a) for a in node.args))
        if isinstance(node, sympy.Mul):
            return self.assign(" * ".join(self.name(a) for a in node.args))
        if isinstance(node, sympy.Pow):
            return self.power(*node.args)
        if type(node) in _METHODS:
            return self.assign(f"{self.name(node.args[0])}.{_METHODS[type(node)]}()")
        if isinstance(node, sympy.log | sympy.atan | sympy.asin | sympy.acos):
            return self.assign(f"_{node.func.__name__}({self.name(node.args[0])}, analytic)")
        raise Unsupported(f"no ball arithmetic for {node.func.__name__} in {str(node)[:60]}")

    def power(self, base: sympy.Expr, exponent: sympy.Expr) -> str:
        if exponent.is_Integer:
            b = self.name(base)
            return self.assign(f"1 / {b}" if exponent == -1 else f"{b} ** {int(exponent)}")
        if exponent == sympy.S.Half:
            return self.assign(f"_sqrt({self.name(base)}, analytic)")
        if exponent == -sympy.S.Half:
            return self.assign(f"1 / _sqrt({self.name(base)}, analytic)")
        if base.has(x):
            return self.assign(f"_power({self.name(base)}, {self.name(exponent)}, analytic)")
        return self.assign(f"({self.constant(number(base).log())} * {self.name(exponent)}).exp()")


@lru_cache(maxsize=512)
def _program(expr: sympy.Expr, precision: int) -> Callable[[Ball, bool], Ball]:
    writer = _Writer()
    result = writer.name(expr)
    body = "\n".join(writer.lines)
    # Only names made above stand in this source; no outside text enters it.
    source = f"def program(x, analytic=False):\n{body}\n    return {result} + x * 0\n"
    if result != "x" and not expr.is_number:
        source = f"def program(x, analytic=False):\n{body}\n    return {result}\n"
    scope: dict[str, Any] = {**_NAMES, **writer.constants}
    exec(compile(source, "<ball program>", "exec"), scope)
    return scope["program"]


def program(expr: sympy.Expr) -> Callable[[Ball, bool], Ball]:
    """Compile ``expr`` (in the symbol x) to ``f(ball, analytic=False)``, with constants at the present precision.

    >>> program(x**2 + 1)(arb(3))
    10.0000000000000
    """
    return _program(sympy.sympify(expr), ctx.prec)


_CONSTANTS = {sympy.pi: arb.pi, sympy.E: arb.const_e, sympy.EulerGamma: arb.const_euler}


@lru_cache(maxsize=8192)
def _number(expr: sympy.Expr, precision: int) -> arb:
    if expr.is_Rational:
        return arb(fmpq(int(expr.p), int(expr.q)))
    if expr in _CONSTANTS:
        return _CONSTANTS[expr]()
    if isinstance(expr, sympy.Add):
        return sum((number(a) for a in expr.args[1:]), number(expr.args[0]))
    if isinstance(expr, sympy.Mul):
        result = arb(1)
        for a in expr.args:
            result = result * number(a)
        return result
    if isinstance(expr, sympy.Pow):
        base, exponent = expr.args
        if exponent.is_Integer:
            return number(base) ** int(exponent)
        if exponent == sympy.S.Half:
            return number(base).sqrt()
        return number(base) ** number(exponent)
    if expr.is_Float:
        raise Unsupported(f"the inexact number {expr} stands in a formula; write it as a fraction")
    if len(expr.args) == 1:
        inner = number(expr.args[0])
        if isinstance(expr, sympy.Abs):
            return abs(inner)
        method = _METHODS.get(type(expr), expr.func.__name__)
        if hasattr(inner, method):
            return getattr(inner, method)()
    raise Unsupported(f"no ball arithmetic for the constant {str(expr)[:60]}")


def number(expr: sympy.Expr) -> arb:
    """Enclose a constant SymPy expression at the present precision.

    >>> number(sympy.sqrt(2))
    [1.41421356237310 +/- 4.96e-15]
    """
    return _number(sympy.sympify(expr), ctx.prec)


@lru_cache(maxsize=8192)
def sign_of(expr: sympy.Expr) -> int | None:
    """Return the proven sign (−1, 0, 1) of a constant, or None when 400 bits do not separate it from 0."""
    expr = sympy.sympify(expr)
    if expr == 0:
        return 0
    for bits in (64, 128, 400):
        with ctx.workprec(bits):
            value = number(expr)
        if value > 0:
            return 1
        if value < 0:
            return -1
    return 0 if is_zero(expr) else None


def is_zero(expr: sympy.Expr) -> bool:
    """Tell whether a constant is proven to be exactly 0, by bounded exact algebra only (False: not proven)."""
    if expr == 0:
        return True
    if expr.count_ops() > 200:
        return False
    with ctx.workprec(128):
        if not number(expr).contains(0):
            return False
    return sympy.expand(sympy.radsimp(sympy.expand(expr))) == 0
