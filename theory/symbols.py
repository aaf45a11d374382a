"""The symbols that every formula shares, with their assumptions."""

from __future__ import annotations

import sympy

#: The argument of every activation. Real, so that SymPy differentiates |x| without complex leftovers.
x = sympy.Symbol("x", real=True)


def parameter(name: str, *, positive: bool = True) -> sympy.Symbol:
    """A hyper-parameter of a formula (slope, β, ε): real, and positive unless said otherwise."""
    return sympy.Symbol(name, real=True, positive=True) if positive else sympy.Symbol(name, real=True)
