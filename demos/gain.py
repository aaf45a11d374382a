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
#: A closed form longer than this is left to ``--json``.
LONGEST = 76
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
            "through_depth": through_depth(found, str(literal)),
        }
    return result


def _moment_data(value: Moment) -> dict[str, Any]:
    form = value.closed_form
    return {
        "value": _decimal(value),
        "status": value.status,
        "closed_form": None if form is None else formula_text(form),
        "digits": value.digits,
    }


def through_depth(found: Gains, literal: str) -> str:
    """What weights of standard deviation literal/√fan_in do to a deep network without biases, proven.

    >>> through_depth(run("tanh"), "5/3")
    'stable E z² at q* = 1.17848049039, where χ₁ = 1.20983132038: gradients grow by 21.0 % a layer'
    """
    from flint import ctx

    from ..theory.constants import number
    from ..theory.errors import Unsupported
    from ..theory.signal import fixed_points, homogeneity

    weights = exact_number(literal) ** 2
    if homogeneity(found.activation) == 1:
        with ctx.workprec(128):
            forward, backward = (number(weights) * found_moment.enclosure for found_moment in _at_one(found.activation))
        return f"each layer multiplies E z² by {_short(forward)} and E δ² by {_short(backward)}"
    try:
        points = fixed_points(found.activation, weights)
    except Unsupported as reason:
        return f"not decided: {reason}"
    stable = [point for point in points if point.stability == "stable"]
    if not stable:
        return "no stable E z² was found between 10⁻⁶ and 10⁶"
    point = stable[0]
    change = 100 * (point.chi - 1)
    direction = "grow" if change > 0 else "shrink" if change < 0 else ""
    told = f"gradients {direction} by {_short(abs(change), 3)} % a layer" if direction else "gradients keep their size"
    told = "no gradient passes" if point.chi == 0 else told
    return f"stable E z² at q* = {_short(point.q, 12)}, where χ₁ = {_short(point.chi, 12)}: {told}"


def _at_one(f: Activation) -> tuple[Moment, Moment]:
    return moment(f, 2, 0), moment(f, 2, 1)


def _short(ball: Any, digits: int = 6) -> str:
    return str(ball.str(digits, radius=False))


def text(found: Gains, literal: str | None, audits: tuple[Audit, ...] | None) -> str:
    """The same for a person."""
    f, q = found.activation, found.variance
    expression = formula_text(f.expr)
    if len(expression) > LONGEST:
        lines = [f"{f.name}: {f.title}"]
    else:
        lines = [f"{f.name}: f(x) = {expression}" if expression != f.name else f"f(x) = {expression}"]
    lines.append(f"z normal with mean 0 and variance {q}; f′ almost everywhere")
    lines.append("")
    lines += [_moment_line(value) for value in found.moments.values()]
    lines.append("")
    lines += [_gain_line(kind, value) for kind, value in found.gains.items()]
    if audits is not None:
        lines += ["", *_audit_lines(found, str(literal), audits)]
        if audits:
            lines.append(f"       used as σ_w with zero bias: {through_depth(found, str(literal))}")
    return "\n".join(lines)


def _moment_line(value: Moment) -> str:
    return f"{'':20}{value.what:<12} = {_told(value)}"


def _gain_line(kind: str, value: Moment | InputError) -> str:
    words, definition = KINDS[kind]
    return f"{words:<20}{definition:<12} = {_told(value) if isinstance(value, Moment) else f'none: {value}'}"


def _told(value: Moment) -> str:
    """ "0.5 = 1/2 (exact)", or the proven digits alone."""
    digits = _decimal(value)
    if value.closed_form is None and value.enclosure.contains(0):
        return f"{digits} (enclosed)"
    if value.closed_form is None:
        return f"{digits} (enclosed, {min(SHOWN, value.digits)} digits proven)"
    form = formula_text(value.closed_form)
    if len(form) > LONGEST:
        return f"{digits} (closed form with --json)"
    return f"{digits} (exact)" if form == digits else f"{digits} = {form} (exact)"


def _decimal(value: Moment) -> str:
    if value.closed_form == 0:
        return "0"
    if value.enclosure.contains(0):
        return f"0 to within {value.enclosure.abs_upper().str(2, radius=False)}"
    return value.decimal(SHOWN)


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
