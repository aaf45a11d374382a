"""What is true of an activation on the whole real line: range, monotonicity, parity, Lipschitz constant, and more.

Nothing is sampled. The formula is taken apart at its borders (:mod:`.pieces`), every zero of f′ and f″ is proven
(:mod:`.zeros`), the tails are expanded with proven remainders (:mod:`.tails`), and the largest and smallest of the
finitely many candidates are compared in exact or ball arithmetic. Each fact says how it is known: *exact* (a closed
form, verified), *enclosed* (a ball whose printed digits are proven) or *not decided* (with the reason).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sympy
from flint import ctx

from .constants import is_zero
from .enclosures import enclose
from .errors import Unsupported
from .extremes import (
    Extreme,
    Line,
    Value,
    constant_sign,
    digits_of,
    equal_constants,
    extremes,
    infinity_sign,
    limit_at_infinity,
    negated,
    period_of,
    select,
)
from .formula_text import formula_text
from .pieces import Piece, pieces, value_at
from .symbols import x
from .tails import TailUndecided
from .zeros import Zero, signs

if TYPE_CHECKING:
    from .activations import Activation

#: Derivatives compared at a border before smoothness is left at "at least".
MAX_SMOOTHNESS = 8


@dataclass(frozen=True)
class Fact:
    """One statement: its name, its value in words, how it is known, and the data behind it."""

    name: str
    text: str
    basis: str
    data: Any = field(default=None, compare=False)

    @property
    def decided(self) -> bool:
        """Whether the question was decided; "not decided" is never a pass."""
        return not self.basis.startswith("not decided")


@dataclass(frozen=True)
class Analysis:
    """The facts of one activation."""

    name: str
    range: Fact
    monotonicity: Fact
    convexity: Fact
    parity: Fact
    lipschitz: Fact
    smoothness: Fact
    kinks: Fact
    left_asymptote: Fact
    right_asymptote: Fact

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts in the order in which they are shown."""
        return (
            self.range, self.monotonicity, self.convexity, self.parity, self.lipschitz, self.smoothness, self.kinks,
            self.left_asymptote, self.right_asymptote,
        )  # fmt: skip

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """(name, value, how it is known) for printing."""
        return tuple((fact.name, fact.text, fact.basis) for fact in self.facts)


def analyse(f: Activation) -> Analysis:
    """Derive every fact of ``f``; what cannot be decided says why.

    >>> from .activations import activation
    >>> analyse(activation("sigmoid")).lipschitz.text
    '1/4'
    """
    return _analyse(f.name, f.expr)


@lru_cache(maxsize=512)
def _analyse(name: str, expr: sympy.Expr) -> Analysis:
    with ctx.workprec(256):
        try:
            line = Line.of(expr)
        except (Unsupported, TailUndecided) as reason:
            return Analysis(name, *(_undecided(title, reason) for title in _QUESTIONS))
        return Analysis(name, *(_decide(title, question, line) for title, question in _QUESTIONS.items()))


def _decide(title: str, question: Callable[[Line], Fact], line: Line) -> Fact:
    try:
        return question(line)
    except (Unsupported, TailUndecided) as reason:
        return _undecided(title, reason)


def _undecided(title: str, reason: Exception) -> Fact:
    return Fact(title, "unknown", f"not decided: {reason}")


# ------------------------------------------------------------------------------------------------ the facts


def _range(line: Line) -> Fact:
    low, high = extremes(line, 0)
    connected = not any(line.breaks())
    left = ("[" if low.attained else "(") + str(low.value)
    right = str(high.value) + ("]" if high.attained else ")")
    text = f"{left}, {right}" if connected else f"within {left}, {right} (f jumps)"
    return Fact("range", text, _basis((low, high)), (low, high))


def _lipschitz(line: Line) -> Fact:
    """sup |f′|, the smallest L with |f(a) − f(b)| ≤ L|a − b|; none where f jumps."""
    for border, *_ in line.breaks():
        return Fact("Lipschitz constant", "none", f"exact: f jumps at x = {formula_text(border)}", None)
    low, high = extremes(line, 1)
    mirrored = Extreme(negated(low.value), low.attained, low.where)
    worst = select([high, mirrored], 1)
    text = "none" if worst.value.infinite else str(worst.value)
    return Fact("Lipschitz constant", text, _basis((worst,)), worst)


def _monotonicity(line: Line) -> Fact:
    slopes = [signs(part.expr.diff(x), part.left, part.right) for part in line.parts]
    steps = [sign for pattern in slopes for sign in pattern.gaps]
    for _, left, value, right in line.breaks():
        steps += [constant_sign(value - left), constant_sign(right - value)]
    strict = all(0 not in pattern.gaps for pattern in slopes)
    turns = [
        z for s in slopes for z, before, after in zip(s.zeros, s.gaps, s.gaps[1:], strict=False) if before != after
    ]
    basis = f"proved: f′ changes sign at {', '.join(_place(z) for z in turns)}" if turns else _proven(line, "f′")
    return Fact("monotonicity", _direction(steps, strict), basis, tuple(steps))


def _place(zero: Zero) -> str:
    return f"x = {formula_text(zero.exact) if zero.exact is not None else digits_of(zero.ball)}"


def _direction(steps: list[int], strict: bool) -> str:
    if all(s == 0 for s in steps):
        return "constant on each piece"
    if all(s >= 0 for s in steps):
        return "strictly increasing" if strict else "non-decreasing"
    if all(s <= 0 for s in steps):
        return "strictly decreasing" if strict else "non-increasing"
    return "not monotone"


def _convexity(line: Line) -> Fact:
    for border, *_ in line.breaks():
        return Fact("convexity", "neither convex nor concave", f"exact: f jumps at x = {formula_text(border)}")
    steps = [s for part in line.parts for s in signs(part.expr.diff(x, 2), part.left, part.right).gaps]
    steps += [constant_sign(right - left) for _, left, right in line.jumps(1)]
    names = {(True, True): "affine", (True, False): "convex", (False, True): "concave"}
    text = names.get((all(s >= 0 for s in steps), all(s <= 0 for s in steps)), "neither convex nor concave")
    return Fact("convexity", text, _proven(line, "f″"))


def _proven(line: Line, what: str) -> str:
    where = f"one period {formula_text(line.period)}" if line.period is not None else "the whole line"
    return f"proved: the sign of {what} is known on {where}"


def _parity(line: Line) -> Fact:
    """Even, odd, or symmetric about the point (0, f(0)); proved algebraically, or refuted in balls."""
    whole = pieces(line.expr)
    mirrored = tuple(Piece(-p.right, -p.left, p.expr.subs(x, -x)) for p in reversed(whole))
    for name, sign, offset in (
        ("even", 1, sympy.S.Zero),
        ("odd", -1, sympy.S.Zero),
        ("point", -1, 2 * value_at(line.expr, sympy.S.Zero)),
    ):
        verdict = _symmetric(line.expr, whole, mirrored, sign, offset)
        if verdict is None:
            return Fact("parity", "unknown", "not decided: neither proved by algebra nor refuted in balls")
        if verdict:
            text = name if name != "point" else f"symmetric about (0, {formula_text(offset / 2)})"
            return Fact("parity", text, "proved: f(−x) rewritten to f(x)", name)
    return Fact("parity", "neither even nor odd", "proved: refuted at a point, the balls being disjoint")


def _symmetric(
    expr: sympy.Expr, whole: tuple[Piece, ...], mirrored: tuple[Piece, ...], sign: int, offset: sympy.Expr
) -> bool | None:
    """Whether f(−x) = sign·f(x) + offset; None where neither a proof nor a counterexample was found."""
    for point in (sympy.Rational(17, 29), sympy.Rational(-101, 37), sympy.Rational(307, 29), sympy.Rational(1, 97)):
        if not enclose(expr.subs(x, -point) - sign * expr.subs(x, point) - offset, digits=20).contains(0):
            return False
    for border in (p.left for p in whole[1:]):
        difference = value_at(expr, -border) - sign * value_at(expr, border) - offset
        if not enclose(difference, digits=20).contains(0):
            return False
    if [p.left for p in whole] != [p.left for p in mirrored]:
        return None
    same = all(vanishes(q.expr - sign * p.expr - offset) for p, q in zip(whole, mirrored, strict=True))
    at_borders = all(is_zero(value_at(expr, -p.left) - sign * value_at(expr, p.left) - offset) for p in whole[1:])
    return True if same and at_borders else (None if not same else False)


def vanishes(expr: sympy.Expr) -> bool:
    """Whether bounded algebra proves that an expression in x is identically 0 (False: not proven).

    Exponentials and hyperbolic functions become one variable t = exp(x), in which a rational expression is decided.
    """
    if expr == 0 or sympy.expand(expr) == 0:
        return True
    if expr.count_ops() > 150:
        return False
    t = sympy.Dummy("t", positive=True)
    rational = sympy.expand(expr.rewrite(sympy.exp), power_exp=True).subs(sympy.exp(x), t)
    rational = rational.replace(
        lambda e: isinstance(e, sympy.exp) and e.has(x),
        lambda e: t ** (e.args[0] / x) if not (e.args[0] / x).has(x) else e,
    )
    if rational.has(sympy.log):
        rational = sympy.expand_log(sympy.logcombine(sympy.together(rational), force=True))
    return bool(sympy.cancel(sympy.together(rational)) == 0)


def _smoothness(line: Line) -> Fact:
    if not line.borders:
        return Fact("smoothness", "C^∞", "exact: one analytic formula", sympy.oo)
    for border, *_ in line.breaks():
        return Fact("smoothness", "discontinuous", f"exact: f jumps at x = {formula_text(border)}", -1)
    for order in range(1, MAX_SMOOTHNESS + 1):
        for border, left, right in line.jumps(order):
            if not equal_constants(left, right):
                primes = "′" * order
                basis = f"exact: f{primes} jumps at x = {formula_text(border)}"
                return Fact("smoothness", f"C^{order - 1}", basis, order - 1)
    return Fact(
        "smoothness", f"C^{MAX_SMOOTHNESS} at least", "exact: no derivative up to that order jumps", MAX_SMOOTHNESS
    )


def _kinks(line: Line) -> Fact:
    jumps = [c for c, *_ in line.breaks()] + [c for c, a, b in line.jumps(1) if not equal_constants(a, b)]
    found = tuple(border for border in line.borders if border in jumps)
    if not found:
        return Fact("kinks", "none", "exact: neither f nor f′ jumps", ())
    text = ", ".join(f"x = {formula_text(position)}" for position in found)
    return Fact("kinks", text, "exact: one-sided limits of f or f′ differ", found)


def _asymptote(line: Line, side: int) -> Fact:
    """The constant or line that f approaches, else how it grows."""
    name = f"asymptote at {'+' if side > 0 else '−'}∞"
    part = line.parts[-1 if side > 0 else 0].expr
    if period_of(part) is not None:
        return Fact(name, "none", f"exact: periodic with period {formula_text(period_of(part))}")
    limit = limit_at_infinity(part, side)
    if not limit.infinite:
        return Fact(name, f"y = {limit}", "proved: tail expansion with remainder", limit)
    slope = limit_at_infinity(part.diff(x), side)
    if slope.infinite:
        return Fact(
            name,
            f"grows without bound to {infinity_sign(limit.exact)}∞, faster than any line",
            "proved: tail expansion",
            None,
        )
    assert slope.exact is not None
    if is_zero(slope.exact):
        return Fact(
            name, f"grows to {infinity_sign(limit.exact)}∞, slower than any line", "proved: tail expansion", None
        )
    offset = limit_at_infinity(part - slope.exact * x, side)
    if offset.infinite or offset.exact is None:
        return Fact(name, f"slope {slope}, no line", "proved: tail expansion", slope)
    return Fact(name, f"y = {_line_text(slope, offset)}", "proved: tail expansion with remainder", (slope, offset))


def _line_text(slope: Value, offset: Value) -> str:
    assert slope.exact is not None
    assert offset.exact is not None
    text = formula_text(slope.exact * x + offset.exact)
    if len(text) <= 24:
        return text
    return f"{slope}·x" + ("" if is_zero(offset.exact) else f" + {offset}")


def _basis(found: tuple[Extreme, ...]) -> str:
    """How the values are known, the closed form where only digits were shown, and where each is reached."""
    known = "exact" if all(e.value.exact is not None for e in found) else "enclosed"
    words = []
    for e in found:
        closed = formula_text(e.value.exact) if e.value.exact is not None else ""
        shown = f"{closed} " if closed and closed != str(e.value) and len(closed) <= 48 else ""
        words.append(shown + (e.where if e.where.startswith(("x →", "on ")) else f"at {e.where}"))
    return f"{known}: {', '.join(dict.fromkeys(words))}"


#: The facts in the order of the fields of :class:`Analysis`.
_QUESTIONS: dict[str, Callable[[Line], Fact]] = {
    "range": _range,
    "monotonicity": _monotonicity,
    "convexity": _convexity,
    "parity": _parity,
    "Lipschitz constant": _lipschitz,
    "smoothness": _smoothness,
    "kinks": _kinks,
    "asymptote at −∞": lambda line: _asymptote(line, -1),
    "asymptote at +∞": lambda line: _asymptote(line, 1),
}
