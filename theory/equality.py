"""Are two tensor expressions equal? Proved, refuted at a point, or not decided: three outcomes, never two.

``equal(a, b)`` compares normal forms (a proof for all shapes, inputs and hyper-parameters that satisfy the stated
facts). If they differ it evaluates both in ball arithmetic at random generic points of non-square shape: disjoint
enclosures of one entry refute equality. Neither: not decided, with the reason. Equality is that of functions where both
sides are defined; at an isolated kink the two sides may follow different conventions, and that is said.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import flint
from flint import arb

from . import algebra as P
from .errors import Unsupported
from .evaluation import Array, Index, Point, evaluate, generic_point
from .normal_form import normal_form, vanishes
from .polynomials import Poly
from .tensors import Tensor, as_tensor

__all__ = ["Array", "Comparison", "Index", "Point", "equal", "evaluate", "generic_point"]

EQUAL, DIFFERENT, NOT_DECIDED = "equal", "different", "not decided"


@dataclass(frozen=True)
class Comparison:
    """Outcome of :func:`equal`. ``point``, ``entry``, ``left`` and ``right`` are set when the two differ."""

    outcome: str
    why: str
    point: Point | None = None
    entry: Index | None = None
    left: arb | None = None
    right: arb | None = None

    def __bool__(self) -> bool:
        return self.outcome == EQUAL


def equal(
    a: Any, b: Any, *, points: int = 3, seed: int = 0, digits: int = 60, opaque: frozenset[str] = frozenset()
) -> Comparison:
    """Compare two tensors whose axes carry the same names; names in ``opaque`` stand for what they name, unopened.

    >>> from backproof.theory.tensors import Input, axis, exp
    >>> z = Input("z", (axis("n"), axis("k")))
    >>> p, q = exp(z - z.max("k")), exp(z)
    >>> equal(p / p.sum("k"), q / q.sum("k")).outcome
    'equal'
    >>> equal(p, q).outcome
    'different'
    """
    a, b = as_tensor(a), as_tensor(b)
    if a is b:
        return Comparison(EQUAL, "they are one expression")
    shapes = _compare_axes(a, b)
    if shapes is not None:
        return shapes
    reason = "the normal forms differ, but no point was found where the values do"
    try:
        difference = normal_form(a, opaque=opaque) - normal_form(b, opaque=opaque)
        if vanishes(difference):
            return Comparison(EQUAL, "the normal forms agree: equal for all shapes and values that satisfy the facts")
        kinks = _kinks_only(difference)
        if kinks is not None:
            return Comparison(NOT_DECIDED, kinks)
    except Unsupported as error:
        reason = str(error)
    except ZeroDivisionError as error:
        reason = f"the normal form divides by zero: {error}"
    except RecursionError:
        reason = "the expressions are nested too deeply for the normal form"
    refuted = _refute(a, b, points, seed, digits)
    return Comparison(NOT_DECIDED, reason) if refuted is None else refuted


def _compare_axes(a: Tensor, b: Tensor) -> Comparison | None:
    """Different axes: a broadcast value is compared along the axes of the other."""
    if set(a.axes) == set(b.axes):
        return None
    left = ", ".join(f"{i.name}:{i.size}" for i in a.axes)
    right = ", ".join(f"{i.name}:{i.size}" for i in b.axes)
    return Comparison(DIFFERENT, f"the axes differ: [{left}] against [{right}]")


def _kinks_only(difference: Poly) -> str | None:
    """If the two differ only where a condition [u = 0] holds, say so."""
    zeros = {a for m in difference.terms for a, _ in m if a.kind == "zero"}
    if not zeros:
        return None
    try:
        generic = P.transform(difference, lambda a: P.ZERO if a.kind == "zero" else None)
    except ZeroDivisionError:
        return None
    if not vanishes(generic):
        return None
    where = " or ".join(sorted(a.data[0].key.replace("1*", "") + " = 0" for a in zeros))
    return f"equal except perhaps at the kink {where}, where the two follow different conventions"


def _refute(a: Tensor, b: Tensor, points: int, seed: int, digits: int) -> Comparison | None:
    rng = random.Random(seed)
    for attempt in range(points):
        try:
            point = generic_point((a, b), rng, positive=attempt % 3 == 2, spread=2 if attempt % 3 == 0 else 7)
            with flint.ctx.workprec(int(digits * 3.33) + 64):
                left, right = evaluate(a, point), evaluate(b, point)
        except (Unsupported, ZeroDivisionError, ValueError, ArithmeticError):
            continue
        order = [a.names.index(name) for name in b.names]
        for entry, value in left.items():
            other = right[tuple(entry[k] for k in order)]
            if value.is_finite() and other.is_finite() and not value.overlaps(other):
                shown = f"{value.str(12, radius=False)} and {other.str(12, radius=False)}"
                why = f"at entry {list(entry)} the enclosures {shown} are disjoint"
                return Comparison(DIFFERENT, why, point, entry, value, other)
    return None
