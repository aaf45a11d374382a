"""``backproof gain``: the three initialisation gains of an activation, with proven digits, and audits of a literal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cached_property
from typing import Any

import click

from ..theory.activations import Activation, activation
from ..theory.errors import InputError
from ..theory.formula_text import formula_text
from ..theory.gaussian import GAINS, Moment, exact_number, gain, moment
from .options import emit, json_option

#: Digits printed; all are proven.
SHOWN = 20
#: kind -> (the words, the definition).
KINDS = {
    "second_moment": ("second moment", "√(q/E[f²])"),
    "standard_deviation": ("standard deviation", "√(q/Var f)"),
    "backward": ("backward", "1/√E[f′²]"),
}
assert tuple(KINDS) == GAINS


@dataclass(frozen=True)
class Audit:
    """A literal held against one gain."""

    kind: str
    gain: Moment
    literal: Fraction
    #: Half a unit of the literal's last digit: what rounding the gain to that many digits may change.
    half_unit: Fraction

    @property
    def matches(self) -> bool | None:
        """Whether the literal is this gain rounded to its digits; None where the proven digits do not tell."""
        low, high = self.literal - self.half_unit, self.literal + self.half_unit
        if low <= self.gain.lower and self.gain.upper <= high:
            return True
        return False if self.gain.upper < low or high < self.gain.lower else None

    @property
    def ratio(self) -> float:
        """literal/gain."""
        return float(self.literal / ((self.gain.lower + self.gain.upper) / 2))


@dataclass(frozen=True)
class Gains:
    """The gains of one activation at one variance of its argument."""

    activation: Activation
    variance: Any

    @cached_property
    def moments(self) -> dict[str, Moment]:
        """E f, E f², E f′²."""
        return {
            "mean": moment(self.activation, 1, 0, self.variance),
            "second_moment": moment(self.activation, 2, 0, self.variance),
            "derivative": moment(self.activation, 2, 1, self.variance),
        }

    @cached_property
    def gains(self) -> dict[str, Moment | InputError]:
        """kind -> the gain, or why there is none."""
        return {kind: self._one(kind) for kind in KINDS}

    def _one(self, kind: str) -> Moment | InputError:
        try:
            return gain(self.activation, kind, variance=self.variance)
        except InputError as reason:
            return reason

    def audit(self, text: str) -> tuple[Audit, ...]:
        """Hold a literal against every gain; raises :class:`InputError` unless it is a positive number or fraction."""
        literal, half_unit = read_literal(text)
        return tuple(
            Audit(kind, value, literal, half_unit) for kind, value in self.gains.items() if isinstance(value, Moment)
        )


def read_literal(text: str) -> tuple[Fraction, Fraction]:
    """(value, half a unit of its last digit) of a positive decimal or fraction; a fraction is meant exactly.

    >>> read_literal("1.667")
    (Fraction(1667, 1000), Fraction(1, 2000))
    """
    refused = InputError(f"--audit {text[:40]!r}: write a positive number such as 1.6667 or 5/3")
    try:
        if "/" in text:
            value, half_unit = Fraction(text.replace(" ", "")), Fraction(0)
        else:
            decimal = Decimal(text.strip())
            if not decimal.is_finite() or abs(decimal.adjusted()) > 300 or len(decimal.as_tuple().digits) > 60:
                raise refused
            value = Fraction(decimal)
            half_unit = Fraction(10) ** int(decimal.as_tuple().exponent) / 2
    except (ValueError, InvalidOperation, ZeroDivisionError, ArithmeticError):
        raise refused from None
    if value <= 0:
        raise refused
    return value, half_unit


def run(spec: str, variance: Any = 1) -> Gains:
    """The gains of an activation's name or formula; raises :class:`InputError` for a wrong argument."""
    found = Gains(activation(spec), exact_number(variance, "variance"))
    assert found.moments  # refuses at once what has no moments
    return found


@click.command("gain")
@click.argument("spec", metavar="ACTIVATION")
@click.option("--audit", metavar="NUMBER", help="Say which of the three gains a literal is, or that it is none.")
@click.option("--variance", default="1", show_default=True, help="Variance q of the pre-activation z.")
@json_option
def command(spec: str, audit: str | None, variance: str, as_json: bool) -> int:
    """The three gains of ACTIVATION (a name, or a formula in x) for a normal pre-activation, with proven digits.

    Multiply 1/√fan by a gain to get the standard deviation of weights that keep E f² (second moment), Var f (standard
    deviation) or the gradient's variance (backward). With --audit, exit status 1 if the literal is none of them.
    """
    if audit is not None:
        read_literal(audit)
    found = run(spec, variance)
    audits = found.audit(audit) if audit is not None else None
    emit(data(found, audit, audits), as_json, lambda: text(found, audit, audits))
    return 0 if audits is None or any(a.matches is not False for a in audits) else 1


def data(found: Gains, literal: str | None, audits: tuple[Audit, ...] | None) -> dict[str, Any]:
    """Everything as plain data; numbers as decimal text, all digits proven."""
    result: dict[str, Any] = {
        "activation": found.activation.name,
        "formula": formula_text(found.activation.expr),
        "variance": str(found.variance),
        "moments": {name: _moment_data(value) for name, value in found.moments.items()},
        "gains": {
            kind: _moment_data(value) if isinstance(value, Moment) else {"none": str(value)}
            for kind, value in found.gains.items()
        },
    }
    if audits is not None:
        result["audit"] = {
            "literal": literal,
            "is": [a.kind for a in audits if a.matches],
            "ratio": {a.kind: a.ratio for a in audits},
            "undecided": [a.kind for a in audits if a.matches is None],
        }
    return result


def _moment_data(value: Moment) -> dict[str, Any]:
    form = value.closed_form
    return {
        "value": value.decimal(SHOWN),
        "status": value.status,
        "closed_form": None if form is None else formula_text(form),
        "digits": value.digits,
    }


def text(found: Gains, literal: str | None, audits: tuple[Audit, ...] | None) -> str:
    """The same for a person."""
    f, q = found.activation, found.variance
    expression = formula_text(f.expr)
    lines = [f"{f.name}: f(x) = {expression}" if expression != f.name else f"f(x) = {expression}"]
    lines.append(f"z normal with mean 0 and variance {q}; f′ almost everywhere")
    lines.append("")
    lines += [_moment_line(value) for value in found.moments.values()]
    lines.append("")
    lines += [_gain_line(kind, value) for kind, value in found.gains.items()]
    if audits is not None:
        lines += ["", *_audit_lines(found, str(literal), audits)]
    return "\n".join(lines)


def _moment_line(value: Moment) -> str:
    return f"{'':20}{value.what:<12} = {_told(value)}"


def _gain_line(kind: str, value: Moment | InputError) -> str:
    words, definition = KINDS[kind]
    return f"{words:<20}{definition:<12} = {_told(value) if isinstance(value, Moment) else f'none: {value}'}"


def _told(value: Moment) -> str:
    """ "0.5 = 1/2 (exact)", or the proven digits alone."""
    digits = value.decimal(SHOWN)
    if value.closed_form is None:
        return f"{digits} (enclosed, {min(SHOWN, value.digits)} digits proven)"
    form = formula_text(value.closed_form)
    return f"{digits} (exact)" if form == digits else f"{digits} = {form} (exact)"


def _audit_lines(found: Gains, literal: str, audits: tuple[Audit, ...]) -> list[str]:
    name = found.activation.name
    if not audits:
        return [f"AUDIT  {literal} is no gain of {name}: it has none"]
    matching = [KINDS[a.kind][0] for a in audits if a.matches]
    unclear = [KINDS[a.kind][0] for a in audits if a.matches is None]
    if matching:
        return [f"AUDIT  {literal} is the {' and the '.join(matching)} gain of {name}, to the digits given"]
    if unclear:
        return [f"AUDIT  not decided whether {literal} is the {' or the '.join(unclear)} gain of {name}"]
    lines = [f"AUDIT  {literal} is none of the gains of {name}"]
    for a in audits:
        lines.append(f"       {100 * (a.ratio - 1):+.2f} % against {KINDS[a.kind][0]}: {_effect(a)}")
    return lines


def _effect(a: Audit) -> str:
    factor = a.ratio**2
    what = "E δ²" if a.kind == "backward" else "E z²" if a.kind == "second_moment" else "Var f"
    return f"{what} changes by a factor {factor:.4g} in the layer, at this variance"
