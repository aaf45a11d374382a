r"""Gaussian expectations E[(f⁽ⁿ⁾(√q·z))^p], z ~ N(0, 1): always enclosed, in closed form where a rule gives one.

The enclosure comes from :mod:`.gaussian_integrals`. A closed form (:mod:`.gaussian_rules`) is stated only if it lies in
the enclosure.
Derivatives are those almost everywhere: a jump of f adds nothing to E[f′²] (the step function's is 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from flint import arb, ctx

from . import gaussian_rules
from .activations import Activation, activation
from .constants import number
from .errors import InputError, Unsupported
from .gaussian_integrals import DIGITS, enclosure
from .pieces import Piece, differentiated, pieces
from .supremum import exact

#: Bits that a bound is rounded outward to.
_BOUND_BITS = 256
GAINS = ("second_moment", "standard_deviation", "backward")


@dataclass(frozen=True)
class Moment:
    """A number that is proven: ``lower ≤ value ≤ upper``, and its closed form where there is one."""

    what: str
    enclosure: arb
    closed_form: sympy.Expr | None = None

    @property
    def lower(self) -> Fraction:
        """A rational that is proven not to exceed the value."""
        with ctx.workprec(_BOUND_BITS):
            return exact(self.enclosure.lower())

    @property
    def upper(self) -> Fraction:
        """A rational that the value is proven not to exceed."""
        with ctx.workprec(_BOUND_BITS):
            return exact(self.enclosure.upper())

    @property
    def digits(self) -> int:
        """How many significant digits are proven."""
        if self.enclosure.is_exact():
            return DIGITS
        return max(0, int(self.enclosure.rel_accuracy_bits() * 0.30103))

    @property
    def status(self) -> str:
        """ "exact" with a closed form, else "enclosed"."""
        return "exact" if self.closed_form is not None else "enclosed"

    def decimal(self, digits: int = 20) -> str:
        """The value to at most ``digits`` digits, all of them proven (the last one may be off by one unit)."""
        with ctx.workprec(max(64, int(3.33 * max(digits, self.digits)) + 32)):
            return self.enclosure.str(min(digits, max(self.digits, 1)), radius=False)

    def __str__(self) -> str:
        form = f" = {self.closed_form}" if self.closed_form is not None else ""
        return f"{self.what}{form} = {self.decimal()}"


def exact_number(value: Any, name: str = "number") -> sympy.Expr:
    """Read an int, float (as the decimal it prints as), Fraction, decimal text or SymPy constant as an exact number."""
    if isinstance(value, bool):
        raise InputError(f"{name} must be a number, not {value}")
    if isinstance(value, str | float):
        from .parsing import parse_formula

        if isinstance(value, float) and not (float("-inf") < value < float("inf")):
            raise InputError(f"{name} must be a finite number, not {value}")
        return parse_formula(value if isinstance(value, str) else repr(value), variables=())
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    try:
        result = sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        raise InputError(f"{name} must be a number, not {str(value)[:40]}") from None
    if not isinstance(result, sympy.Expr) or result.has(sympy.oo, sympy.nan, sympy.I):
        raise InputError(f"{name} must be a finite real number, not {str(value)[:40]}")
    return result


def _pieces_of(f: Activation, order: int) -> tuple[Piece, ...]:
    return differentiated(pieces(f.expr), order)


def _believed(candidate: sympy.Expr | None, ball: arb, digits: int) -> sympy.Expr | None:
    """A closed form is stated only when it is real and lies in the proven enclosure."""
    if candidate is None or candidate.has(sympy.I):
        return None
    with ctx.workprec(int(digits * 3.322) + 64):
        try:
            value = number(candidate)
        except Unsupported:
            return None
        if not value.overlaps(ball):
            raise AssertionError(f"a rule gave {candidate} = {value}, outside the proven enclosure {ball}")
        return candidate


@lru_cache(maxsize=1024)
def _moment(expr: sympy.Expr, power: int, order: int, variance: sympy.Expr, digits: int) -> Moment:
    parts = differentiated(pieces(expr), order)
    ball = enclosure(parts, power, variance, digits)
    relative = ball.rel_accuracy_bits() * 0.30103
    if relative < digits and not ball.contains(0):  # a small value: spend the missing digits on top
        ball = enclosure(parts, power, variance, digits + int(digits - relative) + 2)
    closed = _believed(gaussian_rules.expectation(parts, power, variance), ball, digits)
    if closed is not None:
        with ctx.workprec(int(digits * 3.322) + 32):
            ball = number(closed) if ball.contains(number(closed)) else ball
    inner = "f" + "′" * order if order <= 3 else f"f⁽{order}⁾"
    argument = "z" if variance == 1 else f"√({variance})·z"
    what = f"E[{inner}({argument})" + (f"^{power}]" if power != 1 else "]")
    return Moment(what, ball, closed)


def moment(f: Activation | str, power: int = 2, order: int = 0, variance: Any = 1, digits: int = DIGITS) -> Moment:
    """E[(f^(order)(√variance·z))^power] for z ~ N(0, 1), with ``digits`` proven digits.

    ``variance`` is an exact number (or text, or a float read as the decimal it prints as).
    Raises :class:`InputError` for a wrong argument, :class:`Unsupported` where no bound can be proven.

    >>> moment("gelu").closed_form
    sqrt(3)/(6*pi) + 1/3
    >>> moment("tanh").decimal(20)
    '0.39429449039784117442'
    """
    f = activation(f)
    if not (isinstance(power, int) and 1 <= power <= 12):
        raise InputError(f"power must be an integer from 1 to 12, not {power}")
    if not (isinstance(order, int) and 0 <= order <= 8):
        raise InputError(f"order must be an integer from 0 to 8, not {order}")
    q = exact_number(variance, "variance")
    with ctx.workprec(64):
        if q.free_symbols or not number(q) > 0:
            raise InputError(f"variance must be a positive number, not {str(variance)[:40]}")
    return _moment(f.expr, power, order, q, digits)


def moment_formula(
    f: Activation | str, power: int = 2, order: int = 0, symbol: sympy.Symbol | None = None
) -> sympy.Expr | None:
    """The moment's closed form as a function of the variance, or None; checked by enclosure at three variances."""
    f = activation(f)
    q = symbol or sympy.Symbol("q", positive=True)
    parts = _pieces_of(f, order)
    found = gaussian_rules.expectation(parts, power, q)
    if found is None or found.has(sympy.I):
        return None
    for value in (sympy.Rational(1, 3), sympy.Integer(1), sympy.Rational(7, 2)):
        _believed(found.subs(q, value), enclosure(parts, power, value, 15), 15)
    return found


def gain(f: Activation | str, kind: str = "second_moment", digits: int = DIGITS, variance: Any = 1) -> Moment:
    """The gain of an activation, three kinds that are never mixed; x ~ N(0, variance).

    ``second_moment``: √(q/E[f²]) keeps the second moment; ``standard_deviation``: √(q/Var f) keeps the standard
    deviation; ``backward``: 1/√E[f′²] keeps the gradient's variance.

    >>> gain("relu").closed_form, gain("relu", "backward").closed_form
    (sqrt(2), sqrt(2))
    """
    f = activation(f)
    q = exact_number(variance, "variance")
    if kind == "second_moment":
        top, bottom, what = q, [moment(f, 2, 0, q, digits)], "1/√E[f²]"
    elif kind == "standard_deviation":
        top, bottom, what = q, [moment(f, 2, 0, q, digits), moment(f, 1, 0, q, digits)], "1/√Var f"
    elif kind == "backward":
        top, bottom, what = sympy.Integer(1), [moment(f, 2, 1, q, digits)], "1/√E[f′²]"
    else:
        raise InputError(f"unknown kind of gain {kind!r}: one of {', '.join(GAINS)}")
    with ctx.workprec(int(digits * 3.322) + 32):
        mean = bottom[1].enclosure if len(bottom) > 1 else arb(0)
        square = bottom[0].enclosure - mean * mean  # Arb's power of a ball around 0 is not finite
        if not square > 0:
            reason = f"{bottom[0]} is not proven positive"
            if bottom[0].closed_form == 0:
                reason = "f′ vanishes almost everywhere" if kind == "backward" else "f vanishes almost everywhere"
            raise InputError(f"no {kind} gain: {reason}")
        forms = [b.closed_form for b in bottom if b.closed_form is not None]
        if len(forms) == len(bottom):
            denominator = gaussian_rules.tidy(forms[0] - (forms[1] ** 2 if len(forms) > 1 else 0))
            closed = sympy.sqrt(top / denominator)
            return Moment(what, number(closed), closed)
        return Moment(what, (number(top) / square).sqrt(), None)
