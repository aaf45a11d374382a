"""A rewritten program held against the formula it came from, in ball arithmetic, before anything is computed with it.

The rewriting is an identity by its algebra; this is the check that the algebra, the lowering, the borders and the local
polynomials were also carried out rightly: at every point both sides are enclosed to hundreds of digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import flint
from flint import arb
from sympy import Expr

from .arithmetic import DOUBLE, Arithmetic
from .enclosures import ball_function, exact_value
from .erfcx_quotients import ErfcxQuotient
from .errors import Unsupported
from .local_polynomials import LocalPolynomial
from .lowering import Program
from .tabulation import Table

Approximation = LocalPolynomial | Table | ErfcxQuotient

#: Where a program is held against its formula: both signs, from 2⁻⁶⁰ far into the tails, on no special point.
PROOF_POINTS = tuple(
    s * Fraction(n, 2**k) for s in (1, -1) for k, numbers in ((66, (77,)), (20, (3, 7001)), (7, (11, 57, 91, 133)),
    (4, (19, 23, 29, 35, 43, 53, 67, 85, 149, 277, 421)), (0, (31, 60, 131, 340, 655, 733, 2**33 + 1))) for n in numbers
)  # fmt: skip
#: What the other inputs are that multiply an output.
PROOF_FACTOR = Fraction(-7, 4)
#: Bits of the proof: an enclosure of 1 + erf(−38) needs 1100 before its first digit is known.
PROOF_PRECISION = 1_700


def prove(
    program: Program,
    expressions: Mapping[str, Expr],
    patches: Mapping[str, Sequence[Approximation]],
    arithmetic: Arithmetic = DOUBLE,
    factors: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, int]:
    """Run the program in balls at :data:`PROOF_POINTS` and require every output to meet its formula's enclosure.

    Steps from :mod:`.decaying` are identities and must agree to 80 bits (exp(−hi − lo) is computed as e − e·lo, which
    neglects lo² < 2⁻⁸⁸; in float32 2⁻³⁴), or lie both beyond the floats: below 2⁻¹¹⁰⁰ or above 2¹⁰²⁴ (in float32 2⁻¹⁶⁰
    and 2¹²⁸; for its results in float64 2⁻⁹⁰⁶ and 2⁹⁰⁶), where a decaying term has been held. Local polynomials,
    quotients and tables to their own proven bound. Returns the number of points compared, by output; raises
    :class:`Unsupported` naming a point where program and formula differ.
    """
    compared = dict.fromkeys(expressions, 0)
    functions = {name: ball_function(e) for name, e in expressions.items()}
    with flint.ctx.workprec(max(PROOF_PRECISION, 2 * arithmetic.gone)):  # e^gone to digits behind the point
        for point in PROOF_POINTS:
            ball = exact_value(point)
            computed = program.enclose(ball, *[exact_value(PROOF_FACTOR)] * (len(program.inputs) - 1))
            for name, function in functions.items():
                exact = function(ball) * exact_value(PROOF_FACTOR) ** len((factors or {}).get(name, ()))
                if _is_sharp(exact) and _is_sharp(computed[name]):
                    tolerance = _tolerance(patches.get(name, ()), point, arithmetic)
                    _require_equal(
                        name, point, computed[name], exact, tolerance, _range(patches.get(name, ()), arithmetic)
                    )
                    compared[name] += 1
    return compared


def _is_sharp(ball: arb) -> bool:
    """Known to 120 bits, or known to be below every float."""
    return bool(ball.is_finite() and (ball.rel_accuracy_bits() > 120 or abs(ball) < arb(2) ** -1_100))


def _tolerance(patches: Sequence[Approximation], point: Fraction, arithmetic: Arithmetic) -> arb:
    bounds = [arb(2) ** p.error_bits for p in patches if p.low <= point <= p.high]
    return max(bounds, default=arb(2) ** -arithmetic.tolerance)


def _range(patches: Sequence[Approximation], arithmetic: Arithmetic) -> tuple[int, int]:
    """2⁻ᵖ and 2^q beyond which nothing is compared: a table ends where the results' format does."""
    forms = [p.form for p in patches if isinstance(p, Table)]
    return (forms[0].least, forms[0].largest) if forms else arithmetic.compared


def _require_equal(
    name: str, point: Fraction, computed: arb, exact: arb, tolerance: arb, limits: tuple[int, int]
) -> None:
    least, largest = limits
    allowed = abs(exact) * tolerance + arb(2) ** -least
    overflown = arb(2) ** largest
    if (computed > overflown and exact > overflown) or (computed < -overflown and exact < -overflown):
        return
    if not abs(computed - exact) < 2 * allowed:
        raise Unsupported(f"the stable form of {name} differs from its formula at x = {float(point)}")
