"""The floats a program computes in: what the generators of stable programs must know about them.

A row says how many digits a float has, how many digits of the results are wanted, and where its exponents end. With
more digits than wanted (float32 results computed in float64) nothing needs compensation; with as many as wanted,
arguments of exponentials carry their rounding errors along and results near the underflow limit are scaled.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from fractions import Fraction


@dataclass(frozen=True)
class Arithmetic:
    """Floats of ``digits`` bits for results of ``wanted`` bits.

    ``fused`` says that the target multiplies and adds with one rounding and computes 2ᴸ·exp(x) for x ≤ 0 without a
    subnormal in between, L = ``lift``; without it the program holds only what every target has.
    """

    name: str
    digits: int
    wanted: int
    #: exp(−this) is 0 in the format: beyond this exponent a decaying term is gone, and a is held there.
    gone: int
    #: e⁻ᴱ is still a normal number with room for a factor; beyond, products are formed from parts that are normal.
    near_underflow: int
    #: where rational functions hand over from powers of a to powers of 1/a: no power in practice overflows before
    far: int
    #: half-widths tried for a local polynomial at a root: outside, as many digits are lost as it is narrow
    radii_at_roots: tuple[Fraction, ...]
    lift: int = 0
    #: wider ones, tried first where what is outside rounds often
    wide_radii: tuple[Fraction, ...] = ()
    #: narrower ones, for a sum of which hardly anything is rounded
    sharp_radii: tuple[Fraction, ...] = ()
    fused: bool = False
    #: every finite input is below 2 to this power, if the steps have room for powers of it
    inputs: int | None = None
    #: every quantity that matters is carried as a pair (:mod:`.pairs`), so that nothing else is compensated
    paired: bool = False
    #: f(x) = c·aᵈ ± f(−x) may be computed so: what the subtraction loses is at hand
    reflects: bool = False
    #: a scaled error function may be a quotient of polynomials (:mod:`.erfcx_quotients`)
    quotients: bool = False

    @property
    def compensated(self) -> bool:
        """Whether the results want every digit that the floats have."""
        return self.digits == self.wanted and not self.paired

    @property
    def lean(self) -> bool:
        """Whether a few roundings are allowed and every step costs: forms with fewer of both are preferred."""
        return self.compensated and self.digits == 24

    @property
    def tolerance(self) -> int:
        """A program meets its formula to so many bits: exp(−hi − lo) is e − e·lo, and lo² is neglected."""
        return 80 if self.digits == 53 else 32

    @property
    def range(self) -> tuple[int, int]:
        """2⁻ᵖ and 2^q, both beyond the floats."""
        return (1_100, 1_024) if self.digits == 53 else (160, 128)

    @property
    def compared(self) -> tuple[int, int]:
        """2⁻ᵖ and 2^q beyond which a result need not be what it should: beyond the floats, or a is held (e⁻ᵍᵒⁿᵉ)."""
        least, largest = self.range
        return (min(least, 4 * self.gone // 3), min(largest, 4 * self.gone // 3))

    @property
    def largest(self) -> int:
        """The largest finite float."""
        return (2**self.digits - 1) * 2 ** (self.range[1] - self.digits)

    @property
    def splitter(self) -> int:
        """2ˢ + 1 cuts a float in two of at most half its digits (Veltkamp)."""
        return int(2 ** ((self.digits + 1) // 2)) + 1

    def nearest(self, value: Fraction | float) -> Fraction:
        """The float nearest to a number that float64 holds closely enough."""
        if self.digits == 53:
            return Fraction(float(value))
        return Fraction(struct.unpack("f", struct.pack("f", float(value)))[0])


#: float64 throughout.
DOUBLE = Arithmetic(
    "float64",
    53,
    53,
    gone=1_000,
    near_underflow=650,
    far=2**32,
    radii_at_roots=tuple(Fraction(n, 16) for n in (16, 12, 8, 4, 2, 1)),
    lift=512,
)
#: float32 results computed in float64 and rounded once.
SHORT = Arithmetic(
    "float32 by float64",
    53,
    24,
    gone=680,
    near_underflow=650,
    far=2**32,
    radii_at_roots=(Fraction(1, 128),),
    inputs=130,
    reflects=True,
)
#: float32 throughout, for the CPU only.
SINGLE = Arithmetic(
    "float32",
    24,
    24,
    gone=150,
    near_underflow=75,
    far=2**12,
    radii_at_roots=(Fraction(1, 4), Fraction(1, 16)),
    wide_radii=(Fraction(3, 4), Fraction(1, 2)),
    sharp_radii=(Fraction(1, 8), Fraction(1, 16)),
    lift=96,
    fused=True,
)
#: Balls: an exact form of the function, with nothing approximated; digits are lost openly and there are always more.
BALLS = Arithmetic("balls", 53, 24, gone=1_000, near_underflow=650, far=2**32, radii_at_roots=())
#: dtype -> what its results are computed in, unless less accuracy is asked for
ARITHMETICS = {"float64": DOUBLE, "float32": SHORT}


def paired(arithmetic: Arithmetic) -> Arithmetic:
    """The same for a target whose elementary functions return pairs; it must fuse."""
    return replace(
        arithmetic,
        fused=True,
        paired=True,
        radii_at_roots=tuple(Fraction(n, 16) for n in (8, 6, 4, 3, 2, 1)),
        reflects=True,
    )


def factored(arithmetic: Arithmetic) -> Arithmetic:
    """The same for results that are multiplied by up to four floats of any size before they are rounded."""
    return replace(arithmetic, gone=6_000) if arithmetic.paired else arithmetic


def fused(arithmetic: Arithmetic) -> Arithmetic:
    """The same for a target with fused multiply-add."""
    return replace(arithmetic, fused=True, quotients=arithmetic.digits > arithmetic.wanted)
