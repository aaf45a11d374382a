"""Rules for ties [i = p·stride + u·dilation − padding]: windows of functions, and of other windows.

For given p and u there is at most one i, so Σ_i tie·f(i)·g(i) is the product of Σ_i tie·f(i) and Σ_i tie·g(i): a window
of a product is the product of the windows. Inside a wider sum the windows are put together again.
"""

from __future__ import annotations

from typing import Any

from .monomials import RULES, monomial, of_atom
from .polynomials import UNIT, Atom, Exponent, Poly, atom, is_natural, single, without
from .powers import power
from .sums import SUM_RULES, delta, make_sum
from .tensors import Axis


def tie(into: Axis, out: Axis, tap: Axis, affine: Any) -> Poly:
    """The tie as a polynomial."""
    return of_atom(atom("tie", into, out, tap, affine))


def _tie_rule(a: Atom, factors: dict[Atom, Exponent]) -> Poly | None:
    """Two ties that share two axes: the third axes are equal, since the map is injective in each argument."""
    for b in factors:
        if b is a or b.kind != "tie" or b.data[3] != a.data[3]:
            continue
        apart = [k for k in range(3) if a.data[k] != b.data[k]]
        if len(apart) == 1:
            (k,) = apart
            if a.data[k].size == b.data[k].size:
                return monomial(without(factors, b)) * delta(a.data[k], b.data[k])
    return None


def _split(bound: tuple[Axis, ...], inside: dict[Atom, Exponent]) -> Poly | None:
    """A sum over indices that ties to free axes determine, factor by factor."""
    ties: dict[Axis, Atom] = {}
    for a in inside:
        if a.kind == "tie" and a.data[0] in bound:
            if a.data[0] in ties:
                return None
            ties[a.data[0]] = a
    if set(ties) != set(bound) or any(a.data[1] in bound or a.data[2] in bound for a in ties.values()):
        return None
    others = {a: e for a, e in inside.items() if a not in ties.values()}
    used = {i for a in others for i in a.free if i in ties}
    lonely = [i for i in bound if i not in used]
    if len(others) == 1 and not lonely and next(iter(others.values())) == 1:
        return None  # one factor: this is the window itself
    if not others and len(lonely) == 1 and not ties[lonely[0]].data[3].inside:
        return None
    result = UNIT
    for i in lonely:
        result = result * (UNIT if ties[i].data[3].inside else make_sum((i,), single(ties[i])))
    for a, e in others.items():
        here = tuple(i for i in bound if i in a.free)
        whole = is_natural(e)
        body = {**{ties[i]: 1 for i in here}, a: 1 if whole else e}
        if len(others) == 1 and not whole and not lonely:
            return None
        window = make_sum(here, Poly({frozenset(body.items()): UNIT.terms[frozenset()]}))
        result = result * (power(window, e) if whole else window)
    return result


def _with_tie_equalities(bound: tuple[Axis, ...], inside: dict[Atom, Exponent]) -> Poly | None:
    return _split(bound, inside) if any(a.kind == "tie" for a in inside) else None


RULES["tie"] = _tie_rule
SUM_RULES.append(_with_tie_equalities)

__all__ = ["tie"]
