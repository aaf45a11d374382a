"""What a gradient is held against: a forward function, a row of theory by name, a formula in text, an expression.

A reference is a forward function on exact arrays; the tape differentiates it like a person's own code.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from ..theory.errors import InputError, Unsupported
from .exact_arrays import elementwise, exact_array, wrap
from .exact_functions import where
from .exact_scalars import lift, trace
from .probing import InputKind
from .row_references import row_reference

_NAMES = {
    **{
        name: name
        for name in [
            "exp",
            "log",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "erf",
            "erfc",
            "gamma",
            "sign",
            "floor",
            "sqrt",
        ]
    },
    "Abs": "absolute",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "atanh": "arctanh",
    "ceiling": "ceil",
    "loggamma": "gammaln",
}
_RELATIONS = {
    "StrictGreaterThan": "greater",
    "GreaterThan": "greater_equal",
    "StrictLessThan": "less",
    "LessThan": "less_equal",
    "Equality": "equal",
    "Unequality": "not_equal",
}


def expression_function(expr: Any, names: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a forward function of exact arrays for a SymPy expression; ``names`` maps argument names to symbols."""
    import sympy

    by_symbol = {symbol: name for name, symbol in names.items()}
    unknown = [s for s in expr.free_symbols if s not in by_symbol]
    if unknown:
        raise InputError(f"the reference has the free symbol {unknown[0]}; the inputs are {', '.join(names)}")

    def value(node: Any, given: Mapping[str, Any]) -> Any:
        kind = type(node).__name__
        if node.is_Symbol:
            return given[by_symbol[node]]
        if node.is_Rational:
            return lift(int(node.p)) / lift(int(node.q))
        if node is sympy.pi:
            return lift(arb.pi())
        if node is sympy.E:
            return lift(arb.const_e())
        if node is sympy.true or node is sympy.false:
            return np.bool_(bool(node))
        if isinstance(node, sympy.Piecewise):
            return pieces(node.args, given)
        arguments = [value(each, given) for each in node.args]
        if node.is_Add or node.is_Mul:
            combine = "add" if node.is_Add else "multiply"
            return functools.reduce(lambda a, b: elementwise(combine, a, b), arguments)
        if node.is_Pow:
            return elementwise("exp", arguments[1]) if node.base is sympy.E else elementwise("power", *arguments)
        if kind in ("Max", "Min"):
            return functools.reduce(
                lambda a, b: elementwise("maximum" if kind == "Max" else "minimum", a, b), arguments
            )
        if kind in _RELATIONS:
            return elementwise(_RELATIONS[kind], *arguments)
        if kind in ("And", "Or", "Not"):
            name = {"And": "logical_and", "Or": "logical_or", "Not": "logical_not"}[kind]
            return (
                functools.reduce(lambda a, b: elementwise(name, a, b), arguments)
                if kind != "Not"
                else elementwise(name, *arguments)
            )
        if kind in _NAMES:
            return elementwise(_NAMES[kind], *arguments)
        raise Unsupported(f"the reference contains {kind}, which exact arrays do not know")

    def pieces(branches: Any, given: Mapping[str, Any]) -> Any:
        expression, condition = branches[0]
        if condition is sympy.true or len(branches) == 1:
            return value(expression, given)
        return where(value(condition, given), value(expression, given), pieces(branches[1:], given))

    def forward(**given: Any) -> Any:
        if trace().symbolic is not None:
            return trace().symbolic.expression(expr, [(names[name], array) for name, array in given.items()])
        shapes = [np.ndarray.shape.__get__(exact_array(v)) for v in given.values()]
        result = value(expr, given)
        full = np.broadcast_shapes(*shapes, np.ndarray.shape.__get__(exact_array(result)))
        return wrap(np.broadcast_to(exact_array(result).astype_exact().view(np.ndarray), full))

    forward.__name__ = "reference"
    return forward


@dataclass(frozen=True)
class Reference:
    """What a gradient is held against: a forward function, its inputs, and where known their kinds and ``wrt``."""

    forward: Callable[..., Any]
    names: tuple[str, ...]
    theory: bool = False  # runs in exact arithmetic only
    kinds: tuple[InputKind, ...] = ()
    wrt: tuple[str, ...] = ()


def reference(against: Any, backward: Callable[..., Any], given: Mapping[str, InputKind]) -> Reference:
    """Return the reference that ``against`` names.

    ``against`` is a callable (a forward function), the name of an activation, a layer or a loss, a formula (in ``x``,
    or in the names of the inputs), a SymPy expression in ``x``, or a row of :mod:`backproof.theory`.
    """
    names = tuple(given)
    row = row_reference(against, backward, given)
    if row is not None:
        return Reference(row.forward, tuple(k.name for k in row.kinds), False, row.kinds, row.wrt)
    if callable(against) and not hasattr(against, "expr") and not hasattr(against, "forward"):
        return Reference(against, names)
    spec = getattr(against, "expr", against)
    if isinstance(spec, str) and len(names) > 1:
        import sympy

        from ..theory.parsing import parse_formula

        expr = parse_formula(spec, variables=names)
        free = {s.name: s for s in expr.free_symbols}
        function = expression_function(expr, {n: free.get(n, sympy.Symbol(n, real=True)) for n in names})
        return Reference(function, names, theory=True)
    if not isinstance(spec, str) and not hasattr(spec, "free_symbols"):
        raise InputError(
            f"against={type(against).__name__}: expected a forward function, an activation, a layer, a loss, the name "
            "of one, or a formula"
        )
    from ..theory.activations import activation
    from ..theory.symbols import x

    row_of_table = activation(spec)
    name = names[0] if names else argument_name(backward)
    return Reference(expression_function(row_of_table.expr, {name: x}), (name,), theory=True)


def argument_name(backward: Callable[..., Any]) -> str:
    """Return the name of the argument of a derivative function: the last positional parameter without default."""
    parameters = [
        p.name
        for p in inspect.signature(backward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if not parameters:
        raise InputError("the function under check takes no argument")
    return parameters[-1]
