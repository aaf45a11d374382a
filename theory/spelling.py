"""Forms that stand in formulas for the sake of source code, spelt as the mathematics they are.

A form is recognised by comparing it with the formula it must be, so nothing else is ever printed for it.
"""

from __future__ import annotations

import sympy

from .scalar_functions import magnitude
from .tensors import Tensor
from .walking import called


class Magnitude(sympy.Function):
    """|u|, where that is printed."""

    nargs = 1


def spelt(e: sympy.Expr) -> sympy.Expr:
    """:class:`Magnitude` of u for the branches of |u|, else the expression.

    >>> from .tensors import slot
    >>> spelt(magnitude(slot(0)))
    Magnitude(_0)
    """
    if not isinstance(e, sympy.Piecewise) or not isinstance(e.args[0][1], sympy.Gt) or e.args[0][1].rhs != 0:
        return e
    u = e.args[0][1].lhs
    forms = (magnitude(u), sympy.Piecewise((u, u > 0), (-u, u < 0), (0, True)))
    return Magnitude(u) if e in forms else e


def meanings(*tensors: Tensor) -> tuple[tuple[str, str], ...]:
    """(text, LaTeX) of the definitions of the functions that the expressions call by a name of ours."""
    return tuple(dict.fromkeys(f.meaning for t in tensors for f in called(t) if hasattr(f, "meaning")))
