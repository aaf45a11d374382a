"""Elementary functions in float32 throughout, for kernels of precision "fast": sixteen entries at a time with AVX-512.

The same construction as in :mod:`.elementary` (clamp, Cody & Waite's reduction, a polynomial of :mod:`..theory.minimax`
with coefficients in float32 and a proven error, an exponent put together from its bits), a few units in the last place
off. Literals are arguments of the intrinsics here, which makes them float32, or written ``f32(…)``: a float64 one would
halve the number of entries in a vector.
"""

# ruff: noqa: E501  (one coefficient to a step)
from __future__ import annotations

import math
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def whole_vectors(typingctx: Any) -> Any:
    """Nothing at run time: asks LLVM to use vectors of 512 bits in this function where the processor has them.

    By itself it stops at 256 for processors that once lost clock speed; a loop of multiplications gains from 512 there too.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        set.add(
            builder.function.attributes, '"prefer-vector-width"="512"'
        )  # llvmlite's own add knows only single words
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def single_fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c in float32, rounded once."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), code


@intrinsic
def f32(typingctx: Any, value: Any) -> Any:
    """The float32 nearest to a number."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return values[0]

    return types.float32(types.float32), code


@intrinsic
def bits32(typingctx: Any, value: Any) -> Any:
    """The bits of a float32 as an integer."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(32))

    return types.int32(types.float32), code


@intrinsic
def power32(typingctx: Any, exponent: Any) -> Any:
    """The float32 whose bits are these, moved up by 23: 2ⁿ for n + 127."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.shl(values[0], ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.int32), code


@intrinsic
def scaled32(typingctx: Any, value: Any, exponent: Any) -> Any:
    """value·2ⁿ by adding n to the exponent bits: both normal."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        moved = builder.shl(values[1], ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(builder.add(builder.bitcast(values[0], ir.IntType(32)), moved), ir.FloatType())

    return types.float32(types.float32, types.int32), code


@intrinsic
def exponent32(typingctx: Any, value: Any) -> Any:
    """n of value = 2ⁿ·m with √½ ≤ m < √2."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.IntType(32)
        moved = builder.sub(builder.bitcast(values[0], kind), ir.Constant(kind, 0x3F3504F3))
        return builder.ashr(moved, ir.Constant(kind, 23))

    return types.int32(types.float32), code


@intrinsic
def single_copysign(typingctx: Any, magnitude: Any, sign: Any) -> Any:
    """|magnitude| with the sign of the second argument, in float32."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(values[0].type, [values[0].type] * 2)
        return builder.call(builder.module.declare_intrinsic("llvm.copysign", [values[0].type], kind), values)

    return types.float32(types.float32, types.float32), code


# ---------------------------------------------------------------------------------------------------------- polynomials


@numba.njit(forceinline=True)
def single_exp_polynomial(r: float) -> float:
    """(eʳ − 1 − r)/r² for -0.34668 ≤ r ≤ 0.34668."""
    p = single_fma(0.0013882676139473915, r, 0.00836652610450983)
    p = single_fma(p, r, 0.04166719689965248)
    p = single_fma(p, r, 0.1666654348373413)
    p = single_fma(p, r, 0.4999999701976776)
    return p


@numba.njit(forceinline=True)
def single_log_polynomial(r: float) -> float:
    """(log(1 + r) − r)/r² for -0.292969 ≤ r ≤ 0.416016."""
    p = single_fma(-0.07573296129703522, r, 0.12885110080242157)
    p = single_fma(p, r, -0.13252007961273193)
    p = single_fma(p, r, 0.14185231924057007)
    p = single_fma(p, r, -0.1660851538181305)
    p = single_fma(p, r, 0.20001792907714844)
    p = single_fma(p, r, -0.2500159442424774)
    p = single_fma(p, r, 0.333333283662796)
    p = single_fma(p, r, -0.49999988079071045)
    return p


# Powers of u in threes: where u is large every step of Horner's rule would round as much of the sum as the last one.


@numba.njit(forceinline=True)
def single_erfcx_above(u: float, s: float, t: float) -> tuple[float, float]:
    """P of erfcx(u) = P/Q in two parts, p·t + q, s = u², t = u³."""
    p = single_fma(0.05926556512713432, u, 0.4003850519657135)
    q = single_fma(1.2467252016067505, u, 2.0668513774871826)
    q = single_fma(q, u, 1.625)
    return p, q


@numba.njit(forceinline=True)
def single_erfcx_below(u: float, s: float, t: float) -> tuple[float, float]:
    """Q of erfcx(u) = P/Q in two parts, p·t + q."""
    p = single_fma(0.7096856236457825, u, 2.2618584632873535)
    p = single_fma(0.10504502803087234, s, p)
    q = single_fma(4.022905349731445, u, 3.9004693031311035)
    q = single_fma(q, u, 1.625)
    return p, q


@numba.njit(forceinline=True)
def single_root_two_erfcx_above(a: float, s: float, t: float) -> tuple[float, float]:
    """P of erfcx(a/√2) = P/Q in two parts, p·t + q, s = a², t = a³."""
    p = single_fma(0.012889718636870384, a, 0.12316174060106277)
    q = single_fma(0.5423881411552429, a, 1.2717012166976929)
    q = single_fma(q, a, 1.4140625)
    return p, q


@numba.njit(forceinline=True)
def single_root_two_erfcx_below(a: float, s: float, t: float) -> tuple[float, float]:
    """Q of erfcx(a/√2) = P/Q in two parts, p·t + q."""
    p = single_fma(0.15436504781246185, a, 0.695806086063385)
    p = single_fma(0.01615479774773121, s, p)
    q = single_fma(1.7502363920211792, a, 2.399960994720459)
    q = single_fma(q, a, 1.4140625)
    return p, q


@numba.njit(forceinline=True)
def single_erf_polynomial(r: float) -> float:
    """erf(u)/u, r = u² for 0 ≤ r ≤ 0.765625."""
    p = single_fma(-0.0006203245720826089, r, 0.005032173823565245)
    p = single_fma(p, r, -0.02679145336151123)
    p = single_fma(p, r, 0.11282455176115036)
    p = single_fma(p, r, -0.3761255145072937)
    p = single_fma(p, r, 1.1283791065216064)
    return p


@numba.njit(forceinline=True)
def single_atan_polynomial(r: float) -> float:
    """atan(u)/u, r = u² for 0 ≤ r ≤ 0.173069."""
    p = single_fma(-0.060144875198602676, r, 0.10565591603517532)
    p = single_fma(p, r, -0.14239022135734558)
    p = single_fma(p, r, 0.19998160004615784)
    p = single_fma(p, r, -0.3333330750465393)
    p = single_fma(p, r, 1.0)
    return p


@numba.njit(forceinline=True)
def single_log1p_unit_polynomial(r: float) -> float:
    """(log((1 + s)/(1 − s))/s − 2)/s², r = s² for 0 ≤ r ≤ 0.111111."""
    p = single_fma(0.28010618686676025, r, 0.2800213694572449)
    p = single_fma(p, r, 0.4002150297164917)
    p = single_fma(p, r, 0.666664183139801)
    return p


# ------------------------------------------------------------------------------------------------------------ functions
#
# log 2 = 0.693359375 − 0.00021219444: the first with 10 bits, so that k times it, and the difference, are exact. The
# reduced argument r is rounded once, which is a quarter of an ulp of the exponential; only expm1 makes up for it (low).
# 1.5·2²³ + 127 + 96 added to x/log 2 leaves k + 127 + 96 in the last bits.


@numba.njit(forceinline=True, error_model="numpy")
def single_lifted_exp(x: float) -> float:
    """2⁹⁶·eˣ for −150 ≤ x ≤ 0, never subnormal; below, as at −150."""
    x = f32(-150.0) if x < f32(-150.0) else x
    z = single_fma(x, 1.4426950408889634, 12583135.0)
    k = z - f32(12583135.0)
    r = single_fma(k, 0.00021219444170128554, single_fma(k, -0.693359375, x))
    scale = power32(bits32(z))
    return single_fma(single_fma(r * r, single_exp_polynomial(r), r), scale, scale)


@numba.njit(forceinline=True, error_model="numpy")
def single_decaying_expm1(x: float) -> float:
    """eˣ − 1 for x ≤ 0, by the same steps as the lifted exponential: beside it only the last line is work."""
    x = f32(-150.0) if x < f32(-150.0) else x
    z = single_fma(x, 1.4426950408889634, 12583135.0)
    k = z - f32(12583135.0)
    r = single_fma(k, 0.00021219444170128554, single_fma(k, -0.693359375, x))
    scale = power32(bits32(z)) * f32(1.262177448353619e-29)
    return single_fma(single_fma(r * r, single_exp_polynomial(r), r), scale, scale - f32(1.0))


@numba.njit(forceinline=True, error_model="numpy")
def single_split_decay(u: float) -> tuple[float, float]:
    """(s, q) of 2⁹⁶·exp(−u) = s·(1 + q), s a power of two, for 0 ≤ u ≤ 154."""
    z = single_fma(u, -1.4426950408889634, 12583135.0)
    k = z - f32(12583135.0)
    r = single_fma(k, 0.00021219444170128554, single_fma(k, -0.693359375, -u))
    return power32(bits32(z)), single_fma(r * r, single_exp_polynomial(r), r)


@numba.njit(forceinline=True, error_model="numpy")
def single_split_rest_decay(u: float, rest: float) -> tuple[float, float]:
    """The same of 2⁹⁶·exp(−u − rest)."""
    z = single_fma(u, -1.4426950408889634, 12583135.0)
    k = z - f32(12583135.0)
    r = single_fma(k, -0.693359375, -u) + single_fma(k, 0.00021219444170128554, -rest)
    return power32(bits32(z)), single_fma(r * r, single_exp_polynomial(r), r)


@numba.njit(forceinline=True, error_model="numpy")
def single_split_value(both: tuple[float, float]) -> float:
    """s·(1 + q)."""
    return single_fma(both[1], both[0], both[0])


@numba.njit(forceinline=True, error_model="numpy")
def single_exp(x: float) -> float:
    """eˣ; 2ᵏ is applied in two steps, so that subnormal results are rounded and not flushed."""
    x = f32(89.0) if x > f32(89.0) else x
    x = f32(-105.0) if x < f32(-105.0) else x
    z = single_fma(x, 1.4426950408889634, 12582912.0)
    k = z - f32(12582912.0)
    a = single_fma(k, -0.693359375, x)
    r = single_fma(k, 0.00021219444170128554, a)
    n = numba.int32(bits32(z) - 1262485504)
    half = numba.int32(n >> 1)
    first = power32(numba.int32(half + 127))
    return single_fma(single_fma(r * r, single_exp_polynomial(r), r), first, first) * power32(
        numba.int32(n - half + 127)
    )


@numba.njit(forceinline=True, error_model="numpy")
def single_expm1(x: float) -> float:
    """eˣ − 1, to full relative accuracy near 0."""
    given = x
    x = f32(89.0) if x > f32(89.0) else x
    x = f32(-40.0) if x < f32(-40.0) else x
    z = single_fma(x, 1.4426950408889634, 12583038.0)
    k = z - f32(12583038.0)
    a = single_fma(k, -0.693359375, x)
    r = single_fma(k, 0.00021219444170128554, a)
    low = single_fma(k, 0.00021219444170128554, a - r)
    scale = power32(bits32(z))
    p = single_fma(r * r, single_exp_polynomial(r), low)
    scaled = f32(2.0) * single_fma(p, scale, single_fma(r, scale, scale - f32(0.5)))
    return given if abs(given) < f32(1e-9) else scaled


@numba.njit(forceinline=True, error_model="numpy")
def single_log(x: float) -> float:
    """log x; −∞ at 0, NaN below."""
    subnormal = x < f32(1.1754943508222875e-38)
    y = x * f32(33554432.0) if subnormal else x
    n = exponent32(y)
    k = numba.float32(n) + (f32(-25.0) if subnormal else f32(0.0))
    f = scaled32(y, numba.int32(-n)) - f32(1.0)
    p = single_fma(f * f, single_log_polynomial(f), k * f32(-0.00021219444170128554))
    high = single_fma(k, 0.693359375, f)
    low = single_fma(k, 0.693359375, -high) + f
    result = high + (low + p)
    result = result if x < f32(math.inf) else x
    return result if x > f32(0.0) or x != x else (f32(-math.inf) if x == f32(0.0) else f32(math.nan))


@numba.njit(forceinline=True, error_model="numpy")
def single_log1p(x: float) -> float:
    """log(1 + x), to full relative accuracy near 0; −∞ at −1, NaN below."""
    u = f32(1.0) + x
    n = exponent32(u)
    k = numba.float32(n)
    twice = power32(numba.int32(128 - n))
    f = single_fma(f32(0.5) * x, twice, single_fma(0.5, twice, -1.0))
    p = single_fma(f * f, single_log_polynomial(f), k * f32(-0.00021219444170128554))
    high = single_fma(k, 0.693359375, f)
    low = single_fma(k, 0.693359375, -high) + f
    result = high + (low + p)
    result = result if f32(1e-9) < abs(x) and abs(x) < f32(math.inf) else x
    return result if x > f32(-1.0) or x != x else (f32(-math.inf) if x == f32(-1.0) else f32(math.nan))


@numba.njit(forceinline=True, error_model="numpy")
def single_log1p_unit(x: float) -> float:
    """log(1 + x) for 0 ≤ x ≤ 1: 2 artanh s, s = x/(2 + x)."""
    s = x / (f32(2.0) + x)
    square = s * s
    return single_fma(s, square * single_log1p_unit_polynomial(square), s + s)


@numba.njit(forceinline=True, error_model="numpy")
def single_split_quotient(t: float, p: tuple[float, float], q: tuple[float, float]) -> tuple[float, float]:
    """(p₀t + p₁)/(q₀t + q₁) as high + low."""
    above, below = single_fma(p[0], t, p[1]), single_fma(q[0], t, q[1])
    inverse = f32(1.0) / below
    rest = single_fma(-inverse, single_fma(q[0], t, q[1] - below), single_fma(-inverse, below, 1.0))
    value = above * inverse
    missed = single_fma(single_fma(p[0], t, p[1] - above), inverse, single_fma(above, inverse, -value))
    return value, single_fma(value, rest, missed)


@numba.njit(forceinline=True, error_model="numpy")
def single_erfcx(u: float) -> float:
    """exp(u²)·erfc(u) for 0 ≤ u ≤ 16; a factor exp(−u²) is 0 beyond."""
    s = u * u
    t = s * u
    p, q = single_erfcx_above(u, s, t)
    v, w = single_erfcx_below(u, s, t)
    return single_fma(p, t, q) / single_fma(v, t, w)


@numba.njit(forceinline=True, error_model="numpy")
def single_split_erfcx(u: float) -> tuple[float, float]:
    """exp(u²)·erfc(u) = P/Q for 0 ≤ u ≤ 16 as high + low: what is rounded last is made up for."""
    s = u * u
    t = s * u
    return single_split_quotient(t, single_erfcx_above(u, s, t), single_erfcx_below(u, s, t))


@numba.njit(forceinline=True, error_model="numpy")
def single_split_root_two_erfcx(a: float) -> tuple[float, float]:
    """The same for exp(a²/2)·erfc(a/√2), twice the normal distribution's tail over exp(−a²/2), for 0 ≤ a ≤ 22.6."""
    s = a * a
    t = s * a
    return single_split_quotient(t, single_root_two_erfcx_above(a, s, t), single_root_two_erfcx_below(a, s, t))


@numba.njit(forceinline=True, error_model="numpy")
def single_erf(x: float) -> float:
    """The error function: odd polynomial near 0, 1 − exp(−x²)·erfcx(|x|) beyond."""
    u = f32(4.5) if abs(x) > f32(4.5) else abs(x)
    square = u * u
    rest = single_fma(u, u, -square)
    e = single_lifted_exp(-square) * f32(1.262177448353619e-29)
    far = f32(1.0) - (e - e * rest) * single_erfcx(u)
    near = u * single_erf_polynomial(f32(0.765625) if square > f32(0.765625) else square)
    return single_copysign(near if u < f32(0.875) else far, x)


@numba.njit(forceinline=True, error_model="numpy")
def single_erf_by_decay(u: float, both: tuple[float, float]) -> float:
    """The same for 0 ≤ u ≤ 12.3 where the parts of 2⁹⁶·exp(−u²) are known."""
    e = single_fma(both[1], both[0], both[0])
    far = single_fma(e * f32(-1.262177448353619e-29), single_erfcx(u), 1.0)
    return u * single_erf_polynomial(u * u) if u < f32(0.875) else far


@numba.njit(forceinline=True, error_model="numpy")
def single_atan(x: float) -> float:
    """arctan x: by the addition theorem at π/4 or π/2 where |x| is not small; one division."""
    a = abs(x)
    low, middle = a < f32(0.4142135623730951), a < f32(2.414213562373095)
    above = a if low else (a - f32(1.0) if middle else f32(-1.0))
    below = f32(1.0) if low else (a + f32(1.0) if middle else a)
    turn = f32(0.0) if low else (f32(0.7853981633974483) if middle else f32(1.5707963267948966))
    t = above / below
    return single_copysign(single_fma(t, single_atan_polynomial(t * t), turn), x)
