"""Scalar functions known by name: with a formula, or for any σ at all (then σ′, σ″ are names too)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sympy


@lru_cache(maxsize=1024)
def scalar_function(name: str, formula: sympy.Expr | None = None, derivative: sympy.Expr | None = None) -> Any:
    """A SymPy function class called ``name`` of one real argument.

    ``formula`` and ``derivative`` are expressions in ``x``; without them the function is any differentiable function,
    and its derivative is the function ``name′``.

    >>> from backproof.theory.symbols import x
    >>> scalar_function("σ")(x).diff(x)
    σ′(x)
    """
    from .symbols import x

    def fdiff(self: Any, argindex: int = 1) -> sympy.Expr:
        if formula is None:
            return scalar_function(f"{name}′")(self.args[0])
        slope = formula.diff(x) if derivative is None else derivative
        return scalar_function(f"{name}′", slope)(self.args[0])

    members: dict[str, Any] = {
        "nargs": 1,
        "fdiff": fdiff,
        "is_extended_real": True,
        "eval": classmethod(lambda cls, argument: None),
        "definition": None if formula is None else staticmethod(lambda argument: formula.subs(x, argument)),
        "formula": formula,
    }
    return type(name, (sympy.Function,), members)
