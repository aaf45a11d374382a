"""Scalar functions known by name: with a formula, or for any σ at all (then σ′, σ″ are names too).

``formula`` is the stable form, which source is made of; ``spelling`` and ``meaning`` are what a person reads.
"""

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


def magnitude(u: sympy.Expr) -> sympy.Expr:
    """|u| in branches; its slope at 0 is −1, which only smooth functions of |u| may be given."""
    return sympy.Piecewise((u, u > 0), (-u, True))


class Named(sympy.Function):
    """A function of one real argument with a formula in ``x`` of its own."""

    nargs = 1
    is_extended_real = True
    formula: sympy.Expr
    spelling: str
    #: (text, LaTeX) of its definition
    meaning: tuple[str, str]

    @classmethod
    def eval(cls, argument: sympy.Expr) -> None:
        """Never evaluated: it is read by its name."""

    @classmethod
    def definition(cls, argument: sympy.Expr) -> sympy.Expr:
        """The formula of an argument."""
        from .symbols import x

        return cls.formula.subs(x, argument)


def _formula(of: Any) -> sympy.Expr:
    from .symbols import x

    return of(x)


class sigmoid(Named):  # noqa: N801  (SymPy's functions are written small)
    """σ(x) = 1/(1 + e^−x), in the form that does not overflow: 1 or e^−|x| over 1 + e^−|x|; σ′(x) = σ(x)·σ(−x).

    >>> from backproof.theory.symbols import x
    >>> sigmoid(x).diff(x)
    sigmoid(-x)*sigmoid(x)
    """

    formula = _formula(
        lambda x: sympy.Piecewise((1, x > 0), (sympy.exp(-magnitude(x)), True)) / (1 + sympy.exp(-magnitude(x)))
    )
    spelling = "σ"
    meaning = ("σ(x) = 1/(1 + exp(−x))", r"\sigma(x) = \frac{1}{1 + \exp(-x)}")

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """σ(x)·σ(−x): 1 − σ(x) would cancel."""
        return sigmoid(self.args[0]) * sigmoid(-self.args[0])


class softplus(Named):  # noqa: N801
    """log(1 + e^x) in the form that neither overflows nor cancels: max(x, 0) + log(1 + e^−|x|); its slope is σ."""

    formula = _formula(lambda x: sympy.Piecewise((x, x > 0), (0, True)) + sympy.log(1 + sympy.exp(-magnitude(x))))
    spelling = "softplus"
    meaning = ("softplus(x) = log(1 + exp(x))", r"\mathrm{softplus}(x) = \log\left(1 + \exp(x)\right)")

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """σ(x)."""
        return sigmoid(self.args[0])
