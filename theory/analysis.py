"""What is true of an activation on the whole real line: range, monotonicity, parity, Lipschitz constant, and more.

Nothing is sampled. The formula is taken apart at its borders (:mod:`.pieces`), every zero of f′ and f″ is proven
(:mod:`.zeros`), the tails are expanded with proven remainders (:mod:`.tails`), and the largest and smallest of the
finitely many candidates are compared in exact or ball arithmetic. Each fact says how it is known: *exact* (a closed
form, verified), *enclosed* (a ball whose printed digits are proven) or *not decided* (with the reason).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import sympy
from flint import arb, ctx

from .constants import is_zero
from .enclosures import ball_function, enclose
from .errors import Unsupported
from .formula_text import formula_text, value_text
from .pieces import Piece, differentiated, pieces
from .symbols import x
from .tails import TailUndecided, first_decided
from .zeros import Zero, signs

if TYPE_CHECKING:
    from .activations import Activation

DIGITS = 15
#: Derivatives compared at a border before smoothness is left at "at least".
MAX_SMOOTHNESS = 8


@dataclass(frozen=True)
class Value:
    """A real number or ±∞: exact where a closed form is known, and always a ball (None for ±∞)."""

    exact: sympy.Expr | None
    ball: arb | None

    @property
    def infinite(self) -> bool:
        """Whether this is +∞ or −∞."""
        return self.ball is None

    def __str__(self) -> str:
        if self.exact is not None:
            return formula_text(self.exact) if self.ball is None else value_text(self.exact, 12, DIGITS)
        return digits_of(self.ball)


@dataclass(frozen=True)
class Extreme:
    """A supremum or infimum: its value, whether it is attained, and where."""

    value: Value
    attained: bool
    where: str


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
    def decide(title: str, question: Callable[[], Fact]) -> Fact:
        try:
            with ctx.workprec(256):
                return question()
        except (Unsupported, TailUndecided) as reason:
            return Fact(title, "unknown", f"not decided: {reason}")

    line = _Line.of(expr)
    questions: dict[str, Callable[[], Fact]] = {
        "range": lambda: _range(line()),
        "monotonicity": lambda: _monotonicity(line()),
        "convexity": lambda: _convexity(line()),
        "parity": lambda: _parity(line()),
        "Lipschitz constant": lambda: _lipschitz(line()),
        "smoothness": lambda: _smoothness(line()),
        "kinks": lambda: _kinks(line()),
        "asymptote at −∞": lambda: _asymptote(expr, -1),
        "asymptote at +∞": lambda: _asymptote(expr, 1),
    }
    return Analysis(name, *(decide(title, question) for title, question in questions.items()))


# ------------------------------------------------------------------------------------------ the line and its parts


@dataclass(frozen=True)
class _Line:
    """The formula on the whole line, or on one period of it."""

    expr: sympy.Expr
    parts: tuple[Piece, ...]
    period: sympy.Expr | None = None

    @classmethod
    def of(cls, expr: sympy.Expr) -> Callable[[], _Line]:
        """A call that takes the formula apart (once), so that a formula that cannot be is told fact by fact."""

        @lru_cache(maxsize=1)
        def build() -> _Line:
            parts = pieces(expr)
            for part in parts:
                _require_defined(part)
            period = _period(expr) if len(parts) == 1 else None
            if period is not None:
                return cls(expr, (Piece(sympy.S.Zero, period, parts[0].expr),), period)
            return cls(expr, parts)

        return build

    @property
    def borders(self) -> tuple[sympy.Expr, ...]:
        """The exact points between neighbouring pieces."""
        return tuple(part.right for part in self.parts[:-1])

    def jumps(self, order: int = 0) -> Iterable[tuple[sympy.Expr, sympy.Expr, sympy.Expr]]:
        """(border, left limit, right limit) of the derivative of that order."""
        parts = differentiated(self.parts, order)
        for before, after in pairwise(parts):
            yield before.right, _limit_at(before, before.right), _limit_at(after, before.right)


def _require_defined(part: Piece) -> None:
    """Raise unless the piece's formula is proven real and finite at every point of its open interval."""
    for node in sympy.preorder_traversal(part.expr):
        for quantity, what, may_be_negative in _dangers(node):
            found = signs(quantity, part.left, part.right)
            if found.zeros or (not may_be_negative and -1 in found.gaps) or 0 in found.gaps:
                where = f"at x = {found.zeros[0]}" if found.zeros else f"on {_interval(part)}"
                raise Unsupported(f"f is not defined, or not smooth, for every real x: {what} {where}")


def _dangers(node: sympy.Basic) -> Iterable[tuple[sympy.Expr, str, bool]]:
    """(quantity, what goes wrong where it is 0, may it be negative) for the heads that are not defined everywhere."""
    if isinstance(node, sympy.Pow) and node.exp.is_Rational and node.base.has(x):
        if not node.exp.is_Integer:
            yield node.base, "a root of a quantity that is not positive", False
        elif node.exp < 0:
            yield node.base, "division by zero", True
    elif isinstance(node, sympy.log) and node.args[0].has(x):
        yield node.args[0], "a logarithm of a quantity that is not positive", False
    elif isinstance(node, sympy.tan) and node.args[0].has(x):
        yield sympy.cos(node.args[0]), "a tangent's pole", True
    elif isinstance(node, (sympy.asin, sympy.acos)) and node.args[0].has(x):
        yield 1 - node.args[0] ** 2, f"{node.func.__name__} beyond ±1", False


def _period(expr: sympy.Expr) -> sympy.Expr | None:
    """A period T with f(x + T) = f(x) by SymPy's own periodicity of sin, cos and tan, verified on the formula."""
    if not expr.has(sympy.sin, sympy.cos, sympy.tan) or expr.count_ops() > 60:
        return None
    period = sympy.periodicity(expr, x)
    if period is None or not period.is_positive:
        return None
    return period if sympy.expand(expr.subs(x, x + period) - expr) == 0 else None


def _limit_at(part: Piece, point: sympy.Expr) -> sympy.Expr:
    value = part.expr.subs(x, point)
    if value.has(sympy.nan, sympy.zoo, sympy.oo, sympy.I):
        raise Unsupported(f"{str(part.expr)[:60]} has no value at its border x = {point}")
    return value


# ------------------------------------------------------------------------------------------------ extremes


def _extremes(line: _Line, order: int) -> tuple[Extreme, Extreme]:
    """(infimum, supremum) of the derivative of that order over the line, its pieces' limits at the borders included."""
    candidates: list[Extreme] = []
    parts = differentiated(line.parts, order)
    for part in parts:
        candidates += _of_part(part)
    if order == 0:
        candidates += [_at(line.expr, border) for border in line.borders]
    candidates += [Extreme(_exact(a), True, f"x = {formula_text(c)}") for c, a, b in line.jumps(order) if _equal(a, b)]
    if line.period is not None:
        candidates.append(_at(line.expr.diff(x, order), sympy.S.Zero))
    return _select(candidates, -1), _select(candidates, 1)


def _of_part(part: Piece) -> list[Extreme]:
    """Candidates of one piece: the zeros of its derivative, and its limits at both ends."""
    if not part.expr.has(x):
        return [Extreme(_exact(part.expr), True, f"on {_interval(part)}")]
    function = ball_function(part.expr)
    found = [_critical(part.expr, function, zero) for zero in signs(part.expr.diff(x), part.left, part.right).zeros]
    for end in (part.left, part.right):
        if end in (sympy.oo, -sympy.oo):
            found.append(
                Extreme(_limit_at_infinity(part.expr, 1 if end == sympy.oo else -1), False, f"x → {_sign(end)}∞")
            )
        else:
            found.append(Extreme(_exact(_limit_at(part, end)), False, f"x → {formula_text(end)}"))
    return found


def _critical(expr: sympy.Expr, function: Callable[[arb], arb], zero: Zero) -> Extreme:
    if zero.exact is not None:
        return Extreme(_exact(expr.subs(x, zero.exact)), True, f"x = {formula_text(zero.exact)}")
    return Extreme(Value(None, function(zero.ball)), True, f"x = {digits_of(zero.ball)}")


def _at(expr: sympy.Expr, point: sympy.Expr) -> Extreme:
    return Extreme(_exact(expr.subs(x, point)), True, f"x = {formula_text(point)}")


def _select(candidates: list[Extreme], side: int) -> Extreme:
    """The largest (side 1) or smallest candidate; where two may tie, the exact and the attained one is kept."""
    best = candidates[0]
    for other in candidates[1:]:
        order = _compare(other.value, best.value) * side
        if order > 0 or (order == 0 and _quality(other) > _quality(best)):
            best = other
    return best


def _quality(extreme: Extreme) -> tuple[bool, bool]:
    return extreme.attained, extreme.value.exact is not None


def _interval(part: Piece) -> str:
    return f"({formula_text(part.left)}, {formula_text(part.right)})"


def _compare(a: Value, b: Value) -> int:
    """Sign of a − b; 0 where they are proven equal."""
    if a.infinite or b.infinite:
        rank = [0 if v.ball is not None else (1 if v.exact == sympy.oo else -1) for v in (a, b)]
        return (rank[0] > rank[1]) - (rank[0] < rank[1])
    assert a.ball is not None
    assert b.ball is not None
    if a.exact is not None and b.exact is not None and is_zero(a.exact - b.exact):
        return 0
    if a.ball > b.ball:
        return 1
    if a.ball < b.ball:
        return -1
    if abs(a.ball - b.ball) < arb(10) ** -40:
        return 0  # both enclose the same number to 40 digits; either ball is a proven enclosure of one of them
    raise Unsupported(f"cannot tell which of {a} and {b} is larger")


def _limit_at_infinity(expr: sympy.Expr, side: int) -> Value:
    limit, _ = first_decided(expr if side > 0 else expr.subs(x, -x), lambda tail: tail.limit())
    if isinstance(limit, arb):  # a ball that holds every value of the tail: f may go on oscillating inside it
        raise Unsupported(f"no limit is proven towards {'+' if side > 0 else '−'}∞")
    return _exact(sympy.sympify(limit))


def _exact(value: sympy.Expr) -> Value:
    if value in (sympy.oo, -sympy.oo):
        return Value(value, None)
    return Value(value, enclose(value, digits=60))


# ------------------------------------------------------------------------------------------------ the facts


def _range(line: _Line) -> Fact:
    low, high = _extremes(line, 0)
    connected = all(_equal(a, b) for _, a, b in line.jumps())
    left = ("[" if low.attained else "(") + str(low.value)
    right = str(high.value) + ("]" if high.attained else ")")
    text = f"{left}, {right}" if connected else f"within {left}, {right} (f jumps)"
    return Fact("range", text, _basis((low, high)), (low, high))


def _lipschitz(line: _Line) -> Fact:
    """sup |f′|, the smallest L with |f(a) − f(b)| ≤ L|a − b|; none where f jumps."""
    for border, left, right in line.jumps():
        if not _equal(left, right):
            return Fact("Lipschitz constant", "none", f"exact: f jumps at x = {formula_text(border)}", None)
    low, high = _extremes(line, 1)
    mirrored = Extreme(_negated(low.value), low.attained, low.where)
    worst = _select([high, mirrored], 1)
    text = "none" if worst.value.infinite else str(worst.value)
    return Fact("Lipschitz constant", text, _basis((worst,)), worst)


def _negated(value: Value) -> Value:
    return Value(None if value.exact is None else -value.exact, None if value.ball is None else -value.ball)


def _monotonicity(line: _Line) -> Fact:
    slopes = [signs(part.expr.diff(x), part.left, part.right) for part in line.parts]
    steps = [sign for pattern in slopes for sign in pattern.gaps]
    for border, left, right in line.jumps():
        here = line.expr.subs(x, border)
        steps += [_sign_of(here - left), _sign_of(right - here)] if not _equal(left, right) else []
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


def _convexity(line: _Line) -> Fact:
    for border, left, right in line.jumps():
        if not _equal(left, right):
            return Fact("convexity", "neither convex nor concave", f"exact: f jumps at x = {formula_text(border)}")
    steps = [s for part in line.parts for s in signs(part.expr.diff(x, 2), part.left, part.right).gaps]
    steps += [_sign_of(right - left) for _, left, right in line.jumps(1)]
    names = {(True, True): "affine", (True, False): "convex", (False, True): "concave"}
    text = names.get((all(s >= 0 for s in steps), all(s <= 0 for s in steps)), "neither convex nor concave")
    return Fact("convexity", text, _proven(line, "f″"))


def _proven(line: _Line, what: str) -> str:
    where = f"one period {formula_text(line.period)}" if line.period is not None else "the whole line"
    return f"proved: the sign of {what} is known on {where}"


def _equal(a: sympy.Expr, b: sympy.Expr) -> bool:
    return _sign_of(a - b) == 0


def _sign_of(value: sympy.Expr) -> int:
    if is_zero(value):
        return 0
    ball = enclose(value, digits=30)
    if ball.contains(0):
        raise Unsupported(f"the sign of {str(value)[:60]}")
    return 1 if ball > 0 else -1


def _parity(line: _Line) -> Fact:
    """Even, odd, or symmetric about the point (0, f(0)); proved algebraically, or refuted in balls."""
    whole = pieces(line.expr)
    mirrored = tuple(Piece(-p.right, -p.left, p.expr.subs(x, -x)) for p in reversed(whole))
    for name, sign, offset in (
        ("even", 1, sympy.S.Zero),
        ("odd", -1, sympy.S.Zero),
        ("point", -1, 2 * line.expr.subs(x, 0)),
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
    if [p.left for p in whole] != [p.left for p in mirrored]:
        return None
    same = all(vanishes(q.expr - sign * p.expr - offset) for p, q in zip(whole, mirrored, strict=True))
    at_borders = all(is_zero(expr.subs(x, -p.left) - sign * expr.subs(x, p.left) - offset) for p in whole[1:])
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


def _smoothness(line: _Line) -> Fact:
    if not line.borders:
        return Fact("smoothness", "C^∞", "exact: one analytic formula", sympy.oo)
    for order in range(MAX_SMOOTHNESS + 1):
        for border, left, right in line.jumps(order):
            value = line.expr.subs(x, border) if order == 0 else left
            if not (_equal(left, right) and _equal(value, left)):
                text = "discontinuous" if order == 0 else f"C^{order - 1}"
                return Fact("smoothness", text, f"exact: f{'′' * order} jumps at x = {formula_text(border)}", order - 1)
    return Fact(
        "smoothness", f"C^{MAX_SMOOTHNESS} at least", "exact: no derivative up to that order jumps", MAX_SMOOTHNESS
    )


def _kinks(line: _Line) -> Fact:
    jumps = [c for order in (0, 1) for c, a, b in line.jumps(order) if not _equal(a, b)]
    found = tuple(border for border in line.borders if border in jumps)
    if not found:
        return Fact("kinks", "none", "exact: neither f nor f′ jumps", ())
    text = ", ".join(f"x = {formula_text(position)}" for position in found)
    return Fact("kinks", text, "exact: one-sided limits of f or f′ differ", found)


def _asymptote(expr: sympy.Expr, side: int) -> Fact:
    """The constant or line that f approaches, else how it grows."""
    name = f"asymptote at {'+' if side > 0 else '−'}∞"
    part = pieces(expr)[-1 if side > 0 else 0].expr
    if _period(part) is not None:
        return Fact(name, "none", f"exact: periodic with period {formula_text(_period(part))}")
    limit = _limit_at_infinity(part, side)
    if not limit.infinite:
        return Fact(name, f"y = {limit}", "proved: tail expansion with remainder", limit)
    slope = _limit_at_infinity(part.diff(x), side)
    if slope.infinite:
        return Fact(
            name, f"grows without bound to {_sign(limit.exact)}∞, faster than any line", "proved: tail expansion", None
        )
    assert slope.exact is not None
    if is_zero(slope.exact):
        return Fact(name, f"grows to {_sign(limit.exact)}∞, slower than any line", "proved: tail expansion", None)
    offset = _limit_at_infinity(part - slope.exact * x, side)
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


def _sign(value: Any) -> str:
    return "−" if value == -sympy.oo else "+" if value == sympy.oo else ""


def digits_of(ball: arb | None, digits: int = DIGITS) -> str:
    """The proven digits of a ball, at most ``digits`` of them."""
    return "∞" if ball is None else ball.str(digits, radius=False)
