"""The formula on the whole line, in smooth pieces between exact borders, and its extremes: proven, never sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import sympy
from flint import arb

from .constants import is_zero
from .enclosures import ball_function, enclose
from .errors import Unsupported
from .formula_text import formula_text, value_text
from .pieces import Piece, differentiated, pieces, value_at
from .symbols import x
from .tails import first_decided
from .zeros import Zero, signs

DIGITS = 15


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
class Line:
    """The formula on the whole line, or on one period of it."""

    expr: sympy.Expr
    parts: tuple[Piece, ...]
    period: sympy.Expr | None = None

    @classmethod
    def of(cls, expr: sympy.Expr) -> Line:
        """Take the formula apart; raises Unsupported where it is not proven to be defined."""
        parts = pieces(expr)
        for part in parts:
            _require_defined(part)
        period = period_of(expr) if len(parts) == 1 else None
        if period is not None:
            return cls(expr, (Piece(sympy.S.Zero, period, parts[0].expr),), period)
        return cls(expr, parts)

    @property
    def borders(self) -> tuple[sympy.Expr, ...]:
        """The exact points between neighbouring pieces."""
        return tuple(part.right for part in self.parts[:-1])

    def breaks(self) -> Iterable[tuple[sympy.Expr, sympy.Expr, sympy.Expr, sympy.Expr]]:
        """(border, left limit, value, right limit) wherever f is not continuous, isolated values included."""
        for border, left, right in self.jumps():
            value = value_at(self.expr, border)
            if not (equal_constants(left, right) and equal_constants(left, value)):
                yield border, left, value, right

    def jumps(self, order: int = 0) -> Iterable[tuple[sympy.Expr, sympy.Expr, sympy.Expr]]:
        """(border, left limit, right limit) of the derivative of that order."""
        parts = differentiated(self.parts, order)
        for before, after in pairwise(parts):
            yield before.right, limit_at(before, before.right), limit_at(after, before.right)


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


def period_of(expr: sympy.Expr) -> sympy.Expr | None:
    """A period, where x stands only in sines, cosines and tangents of a·x + b with rational ratios between the a's.

    Each such function comes back after 2π/|a|, so all of them do after the least common multiple. SymPy's own
    ``periodicity`` simplifies, which can take minutes.
    """
    waves = {node for node in expr.atoms(sympy.sin, sympy.cos, sympy.tan) if node.has(x)}
    if not waves or expr.subs(dict.fromkeys(waves, sympy.S.One)).has(x):
        return None
    rates = [wave.args[0].diff(x) for wave in waves]
    ratios = [rate / rates[0] for rate in rates]
    if any(rate.has(x) for rate in rates) or not all(ratio.is_Rational for ratio in ratios):
        return None
    common = sympy.Rational(math.lcm(*(ratio.q for ratio in ratios)), math.gcd(*(ratio.p for ratio in ratios)))
    sign = 1 if enclose(rates[0]) > 0 else -1
    return sign * 2 * sympy.pi * common / rates[0]


def limit_at(part: Piece, point: sympy.Expr) -> sympy.Expr:
    """The limit of a piece at one of its finite ends; raises Unsupported where it has none."""
    value = part.expr.subs(x, point)
    if value.has(sympy.nan, sympy.zoo, sympy.oo, sympy.I):
        raise Unsupported(f"{str(part.expr)[:60]} has no value at its border x = {point}")
    return value


def extremes(line: Line, order: int) -> tuple[Extreme, Extreme]:
    """(infimum, supremum) of the derivative of that order over the line, its pieces' limits at the borders included."""
    candidates: list[Extreme] = []
    parts = differentiated(line.parts, order)
    for part in parts:
        candidates += _of_part(part)
    if order == 0:
        candidates += [_at(line.expr, border) for border in line.borders]
    else:  # where both sides agree the derivative exists, f being continuous
        both = [(c, a) for c, a, b in line.jumps(order) if equal_constants(a, b)]
        candidates += [Extreme(_exact(a), True, f"x = {formula_text(c)}") for c, a in both]
    if line.period is not None:
        candidates.append(_at(line.expr.diff(x, order), sympy.S.Zero))
    return select(candidates, -1), select(candidates, 1)


def _of_part(part: Piece) -> list[Extreme]:
    """Candidates of one piece: the zeros of its derivative, and its limits at both ends."""
    if not part.expr.has(x):
        return [Extreme(_exact(part.expr), True, f"on {_interval(part)}")]
    function = ball_function(part.expr)
    found = [_critical(part.expr, function, zero) for zero in signs(part.expr.diff(x), part.left, part.right).zeros]
    for end in (part.left, part.right):
        if end in (sympy.oo, -sympy.oo):
            found.append(
                Extreme(limit_at_infinity(part.expr, 1 if end == sympy.oo else -1), False, f"x → {infinity_sign(end)}∞")
            )
        else:
            found.append(Extreme(_exact(limit_at(part, end)), False, f"x → {formula_text(end)}"))
    return found


def _critical(expr: sympy.Expr, function: Callable[[arb], arb], zero: Zero) -> Extreme:
    if zero.exact is not None:
        return Extreme(_exact(expr.subs(x, zero.exact)), True, f"x = {formula_text(zero.exact)}")
    return Extreme(Value(None, function(zero.ball)), True, f"x = {digits_of(zero.ball)}")


def _at(expr: sympy.Expr, point: sympy.Expr) -> Extreme:
    return Extreme(_exact(value_at(expr, point)), True, f"x = {formula_text(point)}")


def select(candidates: list[Extreme], side: int) -> Extreme:
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


def limit_at_infinity(expr: sympy.Expr, side: int) -> Value:
    """The proven limit towards +∞ (side 1) or −∞ (side −1); raises Unsupported where none is proven."""
    limit, _ = first_decided(expr if side > 0 else expr.subs(x, -x), lambda tail: tail.limit())
    if isinstance(limit, arb):  # a ball that holds every value of the tail: f may go on oscillating inside it
        raise Unsupported(f"no limit is proven towards {'+' if side > 0 else '−'}∞")
    return _exact(sympy.sympify(limit))


def _exact(value: sympy.Expr) -> Value:
    if value in (sympy.oo, -sympy.oo):
        return Value(value, None)
    return Value(value, enclose(value, digits=60))


def negated(value: Value) -> Value:
    """The value with its sign changed."""
    return Value(None if value.exact is None else -value.exact, None if value.ball is None else -value.ball)


def equal_constants(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether two constants are the same number; raises Unsupported where neither is proven."""
    return constant_sign(a - b) == 0


def constant_sign(value: sympy.Expr) -> int:
    """The proven sign of a constant; raises Unsupported where it is not known."""
    if is_zero(value):
        return 0
    ball = enclose(value, digits=30)
    if ball.contains(0):
        raise Unsupported(f"the sign of {str(value)[:60]}")
    return 1 if ball > 0 else -1


def infinity_sign(value: sympy.Expr | None) -> str:
    """The sign to write before ∞."""
    return "−" if value == -sympy.oo else "+" if value == sympy.oo else ""


def digits_of(ball: arb | None, digits: int = DIGITS) -> str:
    """The proven digits of a ball, at most ``digits`` of them."""
    return "∞" if ball is None else ball.str(digits, radius=False)
