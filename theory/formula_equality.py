"""Are two scalar formulas equal wherever both are defined? Proved, refuted at a point, or not decided.

Refuting comes first, in exact points and balls: disjoint enclosures are a proof that the two differ, and no float is
compared. Then algebra: in one variable on each piece between the exact borders and at each border itself; in several by
the normal form of :mod:`.equality`, and by rational arithmetic in exponentials.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import flint
import sympy
from flint import arb

from .analysis import vanishes
from .constants import is_zero
from .enclosures import ball_function, enclose, exact_value
from .equality import DIFFERENT, EQUAL, NOT_DECIDED, Comparison, Point, equal
from .errors import InputError, Unsupported
from .parsing import parse_formula
from .pieces import borders, pieces
from .symbols import x
from .tensors import Input, map_function, slot

#: Points at which two formulas are tried to be told apart, of both signs.
SAMPLE = tuple(map(Fraction, ("0", "1/97", "3/10", "17/29", "1", "11/8", "2", "101/37", "5", "43/4", "30", "101")))
#: Points tried in several variables.
TRIES = 60
#: Operations up to which algebra is tried.
MAX_OPERATIONS = 400


def equal_formulas(a: sympy.Expr, b: sympy.Expr, variables: Sequence[sympy.Symbol] = (x,)) -> Comparison:
    """Compare two formulas in the given real variables.

    >>> t = sympy.tanh(x / 2)
    >>> equal_formulas(1 / (1 + sympy.exp(-x)), (1 + t) / 2).outcome
    'equal'
    >>> print(equal_formulas(sympy.sin(x), x).point)
    x=0.010309...
    """
    free = (a.free_symbols | b.free_symbols) - set(variables)
    if free:
        raise InputError(f"unknown variable {', '.join(sorted(map(str, free)))}: name every variable")
    functions = [ball_function(e, tuple(variables)) for e in (a, b)]
    at_border = _refute_at_borders(a, b) if tuple(variables) == (x,) else None
    if at_border is not None:
        return at_border
    refuted, defined = _refute(functions, variables)
    if refuted is not None:
        return refuted
    if not defined:
        return Comparison(NOT_DECIDED, "no point was found at which both are defined")
    try:
        why = _proof(a, b, variables)
    except (Unsupported, sympy.PolynomialError, RecursionError, NotImplementedError) as error:
        return Comparison(NOT_DECIDED, f"they agree at {defined} points, and no proof was found: {error}")
    if why:
        return Comparison(EQUAL, f"{why}: equal wherever both are defined")
    return Comparison(NOT_DECIDED, f"they agree at {defined} points to 60 digits, which is no proof")


def compare_texts(first: str, second: str, variables: Iterable[str] = ("x",)) -> Comparison:
    """Compare two formulas as text; raises :class:`InputError` for what is no formula.

    >>> compare_texts("sinh(x)", "(exp(x) - exp(-x))/2").outcome
    'equal'
    """
    names = tuple(dict.fromkeys(name.strip() for name in variables))
    for name in names:
        if not name.isidentifier() or not name.isascii() or len(name) > 20:
            raise InputError(f"variable {name[:40]!r}: a variable is a short word of letters, digits and underscores")
    if not 1 <= len(names) <= 12:
        raise InputError(f"{len(names)} variables: between 1 and 12 are needed")
    symbols = tuple(x if name == "x" else sympy.Symbol(name, real=True) for name in names)
    return equal_formulas(parse_formula(first, variables=symbols), parse_formula(second, variables=symbols), symbols)


# --- refuting -----------------------------------------------------------------------------------------------


def _refute_at_borders(a: sympy.Expr, b: sympy.Expr) -> Comparison | None:
    """A rational border of either formula at which they differ: there conventions do. It is put in exactly."""
    for e in (a, b):
        try:
            found = borders(e)
        except Unsupported:
            continue
        for c in found:
            left, right = (enclose(s.subs(x, c), digits=30) for s in (a, b)) if c.is_Rational else (arb(0), arb(0))
            if left.is_finite() and right.is_finite() and not left.overlaps(right):
                return _different(Point({}, {"x": Fraction(int(c.p), int(c.q))}), left, right)
    return None


def _points(variables: Sequence[sympy.Symbol]) -> Iterator[tuple[Fraction, ...]]:
    if len(variables) == 1:
        yield from ((s * v,) for v in SAMPLE[1:] for s in (1, -1))
        yield (Fraction(0),)
        return
    rng = random.Random(0)
    if len(variables) <= 5:  # where variables are equal or opposite, conventions at kinks show
        yield from itertools.product((Fraction(1), Fraction(-1)), repeat=len(variables))
    for k in range(TRIES):
        scale = (1, 3, 10)[k % 3]
        yield tuple(Fraction(rng.randrange(-60 * scale, 60 * scale + 1) or 1, 61) for _ in variables)


def _refute(functions: Sequence[object], variables: Sequence[sympy.Symbol]) -> tuple[Comparison | None, int]:
    """(the difference, if a point shows one; how many points had both sides defined)."""
    defined = 0
    for values in _points(variables):
        with flint.ctx.workprec(264):
            try:
                left, right = (f(*map(exact_value, values)) for f in functions)  # type: ignore[operator]
            except (ValueError, ZeroDivisionError, ArithmeticError):
                continue
            if not (left.is_finite() and right.is_finite()):
                continue
            defined += 1
            if not left.overlaps(right):
                point = Point({}, {str(s): v for s, v in zip(variables, values, strict=True)})
                return _different(point, left, right), defined
    return None, defined


def _different(point: Point, left: arb, right: arb) -> Comparison:
    digits = next((d for d in (6, 12, 24, 48) if left.str(d, radius=False) != right.str(d, radius=False)), 70)
    why = f"at {point} the enclosures {left.str(digits, radius=True)} and {right.str(digits, radius=True)} are disjoint"
    return Comparison(DIFFERENT, why, point, (), left, right)


# --- proving ------------------------------------------------------------------------------------------------


def _proof(a: sympy.Expr, b: sympy.Expr, variables: Sequence[sympy.Symbol]) -> str:
    """How a − b was proved to be 0, empty where it was not."""
    difference = a - b
    if difference == 0:
        return "the same expression"
    if difference.count_ops() > MAX_OPERATIONS:
        raise Unsupported(f"the difference has more than {MAX_OPERATIONS} operations")
    if not difference.has(sympy.Piecewise) and _rational_zero(difference):
        return "proved by rational arithmetic in the exponentials"
    if tuple(variables) == (x,) and (why := _proof_on_pieces(a, b)):
        return why
    slots = {s: slot(k) for k, s in enumerate(variables)}
    inputs = [Input(str(s)) for s in variables]
    tensors = [map_function(e.xreplace(slots), *inputs) for e in (a, b)]
    return "proved by normal forms" if equal(*tensors, points=0).outcome == EQUAL else ""


def _rational_zero(e: sympy.Expr) -> bool:
    """Whether e is 0 as a rational function of its variables and of exponentials, each taken as independent."""
    if sympy.expand(e) == 0:
        return True
    plain = sympy.expand(e.rewrite(sympy.exp), power_exp=True)
    return bool(sympy.cancel(sympy.together(plain)) == 0)


def _proof_on_pieces(a: sympy.Expr, b: sympy.Expr) -> str:
    """On every piece between the borders of a and b, and at every border."""
    parts = pieces(sympy.Piecewise((a - b, True)) if not (a - b).has(sympy.Piecewise) else a - b)
    if not all(vanishes(p.expr) or _rational_zero(p.expr) for p in parts):
        return ""
    # neighbours with one branch are joined: the borders of either formula may hold a value of their own
    if not all(_agree_at(a, b, c) for e in (a, b) for c in borders(e)):
        return ""
    return f"proved by algebra on {len(parts)} pieces and at their borders" if len(parts) > 1 else "proved by algebra"


def _agree_at(a: sympy.Expr, b: sympy.Expr, point: sympy.Expr) -> bool:
    left, right = a.subs(x, point), b.subs(x, point)
    undefined = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    return left.has(*undefined) or right.has(*undefined) or is_zero(left - right)
