"""Elementary functions that LLVM can vectorise: no branch, no table, no library call; generated loops call them by name.

Numba calls the C library once per entry for ``math.exp`` and its kin. Here each function is a clamp, a reduction of the
argument (Cody & Waite, with fused multiply-adds), a polynomial, and an exponent put together from its bits; inlined
into a loop, all of it becomes vector instructions.

Two kinds: ``exp`` … for float64 results, and ``short_exp`` … for results that are rounded to float32 afterwards
(relative error below 2⁻³⁵ and results below 2⁻¹⁰²⁰ not told from it). The polynomials come from
:mod:`backproof.theory.minimax`; a test computes the coefficients again and proves the error of each polynomial in ball
arithmetic. The rounding of the steps around the polynomials is measured against balls, not proven.

``emit`` prints the functions a kernel needs into its source: each must stand alone but for the names in this file.
"""

# ruff: noqa: E501  (one coefficient to a step)
from __future__ import annotations

import math
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

#: What the names of operations in a program are called here, for results of 53 and of 24 bits.
FUNCTIONS = ("exp", "expm1", "log", "log1p", "erf", "erfcx", "atan")


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float64(types.float64, types.float64, types.float64), code


@intrinsic
def bits_of(typingctx: Any, value: Any) -> Any:
    """The bits of a float64 as an integer."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), code


@intrinsic
def from_bits(typingctx: Any, value: Any) -> Any:
    """The float64 with these bits."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), code


@intrinsic
def copysign(typingctx: Any, magnitude: Any, sign: Any) -> Any:
    """|magnitude| with the sign of the second argument."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(values[0].type, [values[0].type] * 2)
        return builder.call(builder.module.declare_intrinsic("llvm.copysign", [values[0].type], kind), values)

    return types.float64(types.float64, types.float64), code


# ---------------------------------------------------------------------------------------------------------- polynomials


@numba.njit(forceinline=True)
def cell_of(x: float, starts: Any, shifts: Any, first: int) -> int:
    """The row of the cell that holds x: its exponent and three digits say the segment, the rest which part of it."""
    bits = bits_of(x)
    size = bits & 0x7FFFFFFFFFFFFFFF
    last = starts.size // 2 - 1
    segment = (size >> 49) - first + 1
    segment = 0 if segment < 0 else segment
    segment = last if segment > last else segment
    segment += last + 1 if bits < 0 else 0
    return starts[segment] + ((size & 0x1FFFFFFFFFFFF) >> shifts[segment])


@numba.njit(forceinline=True)
def exp_polynomial(r: float) -> float:
    """(eʳ − 1 − r)/r² for -0.34668 ≤ r ≤ 0.34668."""
    p = 2.087514663375448e-09
    p = fma(p, r, 2.51089760639771e-08)
    p = fma(p, r, 2.755740321938571e-07)
    p = fma(p, r, 2.7557244381054654e-06)
    p = fma(p, r, 2.480158717189315e-05)
    p = fma(p, r, 0.00019841269885960349)
    p = fma(p, r, 0.0013888888888962674)
    p = fma(p, r, 0.008333333333321693)
    p = fma(p, r, 0.04166666666666651)
    p = fma(p, r, 0.16666666666666677)
    p = fma(p, r, 0.5)
    return p


@numba.njit(forceinline=True)
def short_exp_polynomial(r: float) -> float:
    """(eʳ − 1 − r)/r² for -0.34668 ≤ r ≤ 0.34668."""
    s = r * r
    p = 2.479612805016205e-05
    p = fma(p, s, 0.0013888985574882179)
    p = fma(p, s, 0.04166666595289978)
    p = fma(p, s, 0.5000000000104914)
    q = 0.0001990485680196202
    q = fma(q, s, 0.008333289127105573)
    q = fma(q, s, 0.16666666753916012)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def log_polynomial(r: float) -> float:
    """(log(1 + r) − r)/r² for -0.292969 ≤ r ≤ 0.416016."""
    p = 0.022163742809512853
    p = fma(p, r, -0.05385639072222398)
    p = fma(p, r, 0.06070822587573293)
    p = fma(p, r, -0.05206142090777573)
    p = fma(p, r, 0.05024763064794082)
    p = fma(p, r, -0.054747210885320474)
    p = fma(p, r, 0.059026128767978116)
    p = fma(p, r, -0.06261088582132737)
    p = fma(p, r, 0.06665932654633622)
    p = fma(p, r, -0.07142022069900104)
    p = fma(p, r, 0.07692299814415397)
    p = fma(p, r, -0.0833337141965617)
    p = fma(p, r, 0.09090910825768823)
    p = fma(p, r, -0.09999998929474153)
    p = fma(p, r, 0.11111111046156569)
    p = fma(p, r, -0.12500000017996798)
    p = fma(p, r, 0.14285714286820153)
    p = fma(p, r, -0.16666666666500407)
    p = fma(p, r, 0.1999999999999156)
    p = fma(p, r, -0.250000000000007)
    p = fma(p, r, 0.33333333333333354)
    p = fma(p, r, -0.5)
    return p


@numba.njit(forceinline=True)
def short_log_polynomial(r: float) -> float:
    """(log(1 + r) − r)/r² for -0.292969 ≤ r ≤ 0.416016."""
    s = r * r
    p = -0.0479670795702312
    p = fma(p, s, -0.09326674650571762)
    p = fma(p, s, -0.09880017572120633)
    p = fma(p, s, -0.12506617106030796)
    p = fma(p, s, -0.16666490906403264)
    p = fma(p, s, -0.2500000199677183)
    p = fma(p, s, -0.4999999999381692)
    q = 0.09146773907358673
    q = fma(q, s, 0.09037456086658134)
    q = fma(q, s, 0.1110502402291384)
    q = fma(q, s, 0.14286244306388446)
    q = fma(q, s, 0.19999986651234955)
    q = fma(q, s, 0.3333333343013406)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def erfcx_polynomial(r: float) -> float:
    """(1 + 2u)·erfcx(u), r = (u − 4)/(u + 4) for -0.6 ≤ r ≤ 1."""
    p = 2.3827480281302124e-09
    p = fma(p, r, -5.469918443452896e-09)
    p = fma(p, r, -2.7821807585670592e-08)
    p = fma(p, r, 1.0041378652790617e-07)
    p = fma(p, r, 9.116460997365183e-08)
    p = fma(p, r, -8.221117576802435e-07)
    p = fma(p, r, 2.8162078685612436e-07)
    p = fma(p, r, 5.710383592319693e-06)
    p = fma(p, r, -1.1216994598433187e-05)
    p = fma(p, r, -2.4400072825578267e-05)
    p = fma(p, r, 0.00015062040880999672)
    p = fma(p, r, -0.00019925640408416232)
    p = fma(p, r, -0.0007577730892423811)
    p = fma(p, r, 0.005031969927275289)
    p = fma(p, r, -0.016197734077236885)
    p = fma(p, r, 0.03716751554240273)
    p = fma(p, r, -0.06633036581109399)
    p = fma(p, r, 0.0937328349980963)
    p = fma(p, r, -0.10103906603633903)
    p = fma(p, r, 0.06809705425469857)
    p = fma(p, r, 0.015379652102620187)
    p = fma(p, r, -0.13962111684056255)
    p = fma(p, r, 1.2329951186255526)
    return p


@numba.njit(forceinline=True)
def erfcx_small_polynomial(r: float) -> float:
    """erfcx(½ + r) for -0.5 ≤ r ≤ 0.5."""
    p = -5.31031508177699e-07
    p = fma(p, r, 1.75571084188771e-06)
    p = fma(p, r, -4.944633923499587e-06)
    p = fma(p, r, 1.5035953905670264e-05)
    p = fma(p, r, -4.474219616715358e-05)
    p = fma(p, r, 0.00012822692085281626)
    p = fma(p, r, -0.0003549200584150434)
    p = fma(p, r, 0.0009466915639108169)
    p = fma(p, r, -0.0024254061415151266)
    p = fma(p, r, 0.0059461767225627)
    p = fma(p, r, -0.013887416214386595)
    p = fma(p, r, 0.0307284139113858)
    p = fma(p, r, -0.06397016368500287)
    p = fma(p, r, 0.12417032361583188)
    p = fma(p, r, -0.22201057102118754)
    p = fma(p, r, 0.3593459327416296)
    p = fma(p, r, -0.5126888229025867)
    p = fma(p, r, 0.6156903441929259)
    return p


@numba.njit(forceinline=True)
def short_erfcx_above(r: float) -> float:
    """P of erfcx(r) = P/Q for r ≥ 0."""
    s = r * r
    p = 0.016787620927891236
    p = fma(p, s, 0.41197174988814017)
    p = fma(p, s, 1.8245832070889774)
    p = fma(p, s, 0.9999999999993506)
    q = 0.001309158789456738
    q = fma(q, s, 0.10562377634808144)
    q = fma(q, s, 1.0653249992138247)
    q = fma(q, s, 1.9318711768112267)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def short_erfcx_below(r: float) -> float:
    """Q of erfcx(r) = P/Q for r ≥ 0."""
    s = r * r
    p = 0.002320423537820916
    p = fma(p, s, 0.1883734811646455)
    p = fma(p, s, 1.9806863613149381)
    p = fma(p, s, 4.277705944642736)
    p = fma(p, s, 1.0)
    q = 0.02975528335960963
    q = fma(q, s, 0.7450785397101066)
    q = fma(q, s, 3.5842016638648544)
    q = fma(q, s, 3.0602503437873225)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def erf_polynomial(r: float) -> float:
    """erf(u)/u, r = u² for 0 ≤ r ≤ 0.765625."""
    p = -8.655108804527107e-10
    p = fma(p, r, 1.4118046244490287e-08)
    p = fma(p, r, -1.6288376453669065e-07)
    p = fma(p, r, 1.6456517921379791e-06)
    p = fma(p, r, -1.4925381430752177e-05)
    p = fma(p, r, 0.0001205532432281099)
    p = fma(p, r, -0.0008548326839327011)
    p = fma(p, r, 0.005223977622953464)
    p = fma(p, r, -0.026866170644932245)
    p = fma(p, r, 0.112837916709543)
    p = fma(p, r, -0.37612638903183737)
    p = fma(p, r, 1.1283791670955126)
    return p


@numba.njit(forceinline=True)
def short_erf_above(r: float) -> float:
    """P of erf(u)/u = P/Q, r = u² for 0 ≤ u ≤ 5."""
    s = r * r
    p = 2.9508286961131374e-11
    p = fma(p, s, 1.7405786100413446e-06)
    p = fma(p, s, 0.0006578445379369847)
    p = fma(p, s, 0.061954512804698894)
    p = fma(p, s, 1.1283791671009453)
    q = 2.4865481132707715e-08
    q = fma(q, s, 3.384131386113848e-05)
    q = fma(q, s, 0.005829359950183216)
    q = fma(q, s, 0.21069342963451926)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def short_erf_below(r: float) -> float:
    """Q of erf(u)/u = P/Q, r = u² for 0 ≤ u ≤ 5."""
    s = r * r
    p = 1.3137234364151063e-09
    p = fma(p, s, 8.09962827748645e-06)
    p = fma(p, s, 0.002084084612456786)
    p = fma(p, s, 0.12825759633378353)
    p = fma(p, s, 1.0)
    q = 2.630559799096473e-07
    q = fma(q, s, 0.0001561032240450185)
    q = fma(q, s, 0.019722647761420024)
    q = fma(q, s, 0.5200555239557465)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def atan_polynomial(r: float) -> float:
    """atan(u)/u, r = u² for 0 ≤ r ≤ 0.173069."""
    p = 0.015019352215927772
    p = fma(p, r, -0.03329522674835233)
    p = fma(p, r, 0.044955385974638586)
    p = fma(p, r, -0.052163416757379524)
    p = fma(p, r, 0.05876683640841911)
    p = fma(p, r, -0.06666189935735445)
    p = fma(p, r, 0.07692280062216708)
    p = fma(p, r, -0.09090908012958943)
    p = fma(p, r, 0.1111111108403008)
    p = fma(p, r, -0.14285714285308368)
    p = fma(p, r, 0.19999999999996831)
    p = fma(p, r, -0.33333333333333326)
    p = fma(p, r, 1.0)
    return p


@numba.njit(forceinline=True)
def short_atan_polynomial(r: float) -> float:
    """atan(t)·(1 + t²)/t, r = t²/(1 + t²) for 0 ≤ r ≤ 0.5."""
    s = r * r
    p = -43.1291312907598
    p = fma(p, s, -35.65249177659981)
    p = fma(p, s, -4.898710656129834)
    p = fma(p, s, 0.17229080022100038)
    p = fma(p, s, 0.4052547317803989)
    p = fma(p, s, 0.5333324908749307)
    p = fma(p, s, 0.9999999999911588)
    q = 17.349999778773924
    q = fma(q, s, 51.350534350637545)
    q = fma(q, s, 16.8296247251245)
    q = fma(q, s, 1.4474293884069314)
    q = fma(q, s, 0.3863521118842021)
    q = fma(q, s, 0.4571849729712388)
    q = fma(q, s, 0.6666666732995068)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def sin_polynomial(r: float) -> float:
    """(sin(u)/u − 1)/u², r = u² for 0 ≤ r ≤ 0.619541."""
    p = 1.5895536733637068e-10
    p = fma(p, r, -2.5050736129758634e-08)
    p = fma(p, r, 2.7557313549355108e-06)
    p = fma(p, r, -0.0001984126982938906)
    p = fma(p, r, 0.008333333333321879)
    p = fma(p, r, -0.1666666666666663)
    return p


@numba.njit(forceinline=True)
def cos_polynomial(r: float) -> float:
    """(cos u − 1 + r/2)/r², r = u² for 0 ≤ r ≤ 0.619541."""
    p = -1.135804635409961e-11
    p = fma(p, r, 2.0875691565322443e-09)
    p = fma(p, r, -2.755731411252307e-07)
    p = fma(p, r, 2.480158728862598e-05)
    p = fma(p, r, -0.0013888888888872704)
    p = fma(p, r, 0.04166666666666659)
    return p


@numba.njit(forceinline=True)
def short_sin_polynomial(r: float) -> float:
    """sin(u)/u, r = u² for 0 ≤ r ≤ 0.619541."""
    s = r * r
    p = 2.755523440463814e-06
    p = fma(p, s, 0.008333333323471782)
    p = fma(p, s, 0.9999999999999953)
    q = -2.4754015946205576e-08
    q = fma(q, s, -0.00019841263105189837)
    q = fma(q, s, -0.1666666666661368)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def short_cos_polynomial(r: float) -> float:
    """cos u, r = u² for 0 ≤ r ≤ 0.619541."""
    s = r * r
    p = 2.0626346130140675e-09
    p = fma(p, s, 2.4801578024351367e-05)
    p = fma(p, s, 0.04166666666644898)
    p = fma(p, s, 0.9999999999999999)
    q = -2.7555158863000896e-07
    q = fma(q, s, -0.0013888888868351748)
    q = fma(q, s, -0.4999999999999913)
    return fma(q, r, p)


@numba.njit(forceinline=True)
def short_log1p_unit_polynomial(r: float) -> float:
    """log((1 + s)/(1 − s))/s, r = s² for 0 ≤ r ≤ 0.111111."""
    s = r * r
    p = 0.21878615095541581
    p = fma(p, s, 0.22305889626202446)
    p = fma(p, s, 0.40000062595620084)
    p = fma(p, s, 2.000000000005078)
    q = 0.17116483941724805
    q = fma(q, s, 0.2856810139742795)
    q = fma(q, s, 0.6666666622631967)
    return fma(q, r, p)


# ------------------------------------------------------------------------------------------------ for float64 results
#
# x = k·log 2 + r: adding 1.5·2⁵² to x/log 2 leaves k in the last bits. log 2 = 0x1.62e42fefa38p-1 + rest, the first with
# 42 bits, so that k times it is exact.


@numba.njit(forceinline=True, error_model="numpy")
def exp(x: float) -> float:
    """eˣ; 2ᵏ is applied in two steps, so that subnormal results are rounded and not flushed."""
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    z = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -0.6931471805598903, x)
    b = k * 5.497923018708371e-14
    r = a - b
    p = fma(r * r, exp_polynomial(r), (a - r) - b)
    n = (bits_of(z) << 32) >> 32
    half = n >> 1
    scale = from_bits((half + 1023) << 52)
    high = 1.0 + r
    low = (1.0 - high) + r
    return (high + (low + p)) * scale * from_bits((n - half + 1023) << 52)


@numba.njit(forceinline=True, error_model="numpy")
def lifted_exp(x: float) -> float:
    """2⁵¹²·eˣ for −1000 ≤ x ≤ 0, never subnormal; below, as at −1000."""
    x = -1000.0 if x < -1000.0 else x
    z = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -0.6931471805598903, x)
    b = k * 5.497923018708371e-14
    r = a - b
    p = fma(r * r, exp_polynomial(r), (a - r) - b)
    scale = from_bits((bits_of(z) + 1535) << 52)
    high = 1.0 + r
    low = (1.0 - high) + r
    return (high + (low + p)) * scale


@numba.njit(forceinline=True, error_model="numpy")
def decaying_expm1(x: float) -> float:
    """eˣ − 1 for x ≤ 0, by the same steps as the lifted exponential."""
    x = -1000.0 if x < -1000.0 else x
    z = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -0.6931471805598903, x)
    b = k * 5.497923018708371e-14
    r = a - b
    p = fma(r * r, exp_polynomial(r), (a - r) - b)
    scale = from_bits((bits_of(z) + 1535) << 52) * 7.458340731200207e-155
    return fma(p, scale, fma(r, scale, scale - 1.0))


@numba.njit(forceinline=True, error_model="numpy")
def expm1(x: float) -> float:
    """eˣ − 1, to full relative accuracy near 0."""
    given = x
    x = 710.0 if x > 710.0 else x
    x = -64.0 if x < -64.0 else x
    z = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -0.6931471805598903, x)
    b = k * 5.497923018708371e-14
    r = a - b
    p = fma(r * r, exp_polynomial(r), (a - r) - b)
    scale = from_bits((bits_of(z) + 1022) << 52)
    scaled = 2.0 * fma(p, scale, fma(r, scale, scale - 0.5))
    return given if abs(given) < 1e-17 else scaled


@numba.njit(forceinline=True, error_model="numpy")
def log(x: float) -> float:
    """log x; −∞ at 0, NaN below."""
    y = x * 18014398509481984.0 if x < 2.2250738585072014e-308 else x
    shift = -54.0 if x < 2.2250738585072014e-308 else 0.0
    n = (bits_of(y) - 4604544271217802189) >> 52
    k = float(n) + shift
    f = from_bits(bits_of(y) - (n << 52)) - 1.0
    high = fma(k, 0.6931471805598903, f)
    low = fma(k, 0.6931471805598903, -high) + f
    result = high + (low + fma(f * f, log_polynomial(f), k * 5.497923018708371e-14))
    result = result if x < math.inf else x
    return result if x > 0.0 or x != x else (-math.inf if x == 0.0 else math.nan)


@numba.njit(forceinline=True, error_model="numpy")
def log1p(x: float) -> float:
    """log(1 + x), to full relative accuracy near 0; −∞ at −1, NaN below."""
    u = 1.0 + x
    n = (bits_of(u) - 4604544271217802189) >> 52
    k = float(n)
    twice = from_bits((1024 - n) << 52)
    f = fma(0.5 * x, twice, fma(0.5, twice, -1.0))
    high = fma(k, 0.6931471805598903, f)
    low = fma(k, 0.6931471805598903, -high) + f
    result = high + (low + fma(f * f, log_polynomial(f), k * 5.497923018708371e-14))
    result = result if 1e-17 < abs(x) < math.inf else x
    return result if x > -1.0 or x != x else (-math.inf if x == -1.0 else math.nan)


@numba.njit(forceinline=True, error_model="numpy")
def erfcx(u: float) -> float:
    """exp(u²)·erfc(u) for u ≥ 0."""
    v = 1e300 if u > 1e300 else (1.0 if u < 1.0 else u)
    far = erfcx_polynomial((v - 4.0) / (v + 4.0)) / fma(2.0, v, 1.0)
    return erfcx_small_polynomial(u - 0.5) if u < 1.0 else far


@numba.njit(forceinline=True, error_model="numpy")
def erf(x: float) -> float:
    """The error function: odd polynomial near 0, 1 − exp(−x²)·erfcx(|x|) beyond."""
    u = 7.0 if abs(x) > 7.0 else abs(x)
    square = u * u
    rest = fma(u, u, -square)
    e = exp(-square)
    far = 1.0 - (e - e * rest) * erfcx(u)
    near = u * erf_polynomial(0.765625 if square > 0.765625 else square)
    return copysign(near if u < 0.875 else far, x)


@numba.njit(forceinline=True, error_model="numpy")
def atan(x: float) -> float:
    """arctan x: by the addition theorem at π/4 or π/2 where |x| is not small; one division."""
    a = abs(x)
    above = a if a < 0.4142135623730951 else (a - 1.0 if a < 2.414213562373095 else -1.0)
    below = 1.0 if a < 0.4142135623730951 else (a + 1.0 if a < 2.414213562373095 else a)
    turn = 0.0 if a < 0.4142135623730951 else (0.7853981633974483 if a < 2.414213562373095 else 1.5707963267948966)
    t = above / below
    rest = (
        0.0 if a < 0.4142135623730951 else (3.061616997868383e-17 if a < 2.414213562373095 else 6.123233995736766e-17)
    )
    return copysign(turn + (t * atan_polynomial(t * t) + rest), x)


@numba.njit(forceinline=True, error_model="numpy")
def near_sin(x: float) -> float:
    """sin x for |x| ≤ 8192: π/2 in three parts of 33 bits and more, the reduced argument as high + low."""
    z = fma(x, 0.6366197723675814, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -1.5707963267341256, x)
    b = k * 6.077100506303966e-11
    r = a - b
    low = fma(k, -2.0222662487959506e-21, (a - r) - b)
    high = r + low
    low = (r - high) + low
    square = high * high
    s = high + fma(high * square, sin_polynomial(square), low * fma(square, -0.5, 1.0))
    half = 0.5 * high
    lost = fma(half, high, -(half * high))
    c = 1.0 - half * high
    c += ((1.0 - c) - half * high) + fma(square * square, cos_polynomial(square), -fma(high, low, lost))
    n = bits_of(z)
    return from_bits(bits_of(c if n & 1 else s) ^ ((n & 2) << 62))


@numba.njit(forceinline=True, error_model="numpy")
def near_cos(x: float) -> float:
    """cos x for |x| ≤ 8192: π/2 in three parts of 33 bits and more, the reduced argument as high + low."""
    z = fma(x, 0.6366197723675814, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -1.5707963267341256, x)
    b = k * 6.077100506303966e-11
    r = a - b
    low = fma(k, -2.0222662487959506e-21, (a - r) - b)
    high = r + low
    low = (r - high) + low
    square = high * high
    s = high + fma(high * square, sin_polynomial(square), low * fma(square, -0.5, 1.0))
    half = 0.5 * high
    lost = fma(half, high, -(half * high))
    c = 1.0 - half * high
    c += ((1.0 - c) - half * high) + fma(square * square, cos_polynomial(square), -fma(high, low, lost))
    n = bits_of(z)
    return from_bits(bits_of(s if n & 1 else c) ^ (((n + 1) & 2) << 62))


# -------------------------------------------------------------------------------------------------- powers of two
#
# A float is m·P: what is multiplied are the m, the exponents are added as floats, and only the last product can leave
# the range.


@numba.njit(forceinline=True)
def power_below(x: float) -> float:
    """P = 2ᵏ ≤ |x| < 2P, held between 2⁻¹⁰²² and 2¹⁰²²: x/P is exact."""
    power = from_bits(bits_of(x) & 0x7FF0000000000000)
    power = 2.2250738585072014e-308 if power < 2.2250738585072014e-308 else power
    return 4.49423283715579e307 if power > 4.49423283715579e307 else power


@numba.njit(forceinline=True)
def inverse_power(power: float) -> float:
    """1/P for a power of two between 2⁻¹⁰²² and 2¹⁰²²."""
    return from_bits(0x7FE0000000000000 - bits_of(power))


@numba.njit(forceinline=True)
def exponent_of(power: float) -> float:
    """k of P = 2ᵏ."""
    return from_bits((bits_of(power) >> 52) + 0x4338000000000000) - 6755399441056767.0


@numba.njit(forceinline=True)
def raised(x: float, exponent: float) -> float:
    """x·2ᵏ for an integer k, rounded once where that is normal; 0·x below 2⁻²⁰⁴⁵, 2²⁰⁴⁶x above."""
    exponent = -2046.0 if exponent < -2046.0 else exponent
    exponent = 2046.0 if exponent > 2046.0 else exponent
    n = (bits_of(exponent + 6755399441055744.0) << 32) >> 32
    half = n >> 1
    return x * from_bits((half + 1023) << 52) * from_bits((n - half + 1023) << 52)


# ------------------------------------------------------------------------------------------------ for float32 results


@numba.njit(forceinline=True, error_model="numpy")
def short_near_exp(x: float) -> float:
    """eˣ for −708 ≤ x ≤ 709 and results of 24 bits."""
    z = fma(x, 1.4426950408889634, 6755399441056767.0)
    k = z - 6755399441056767.0
    r = fma(k, -0.6931471805599453, x)
    scale = from_bits(bits_of(z) << 52)
    return fma(fma(r * r, short_exp_polynomial(r), r), scale, scale)


@numba.njit(forceinline=True, error_model="numpy")
def short_near_expm1(x: float) -> float:
    """eˣ − 1 for −708 ≤ x ≤ 709 and results of 24 bits, by the same steps."""
    z = fma(x, 1.4426950408889634, 6755399441056767.0)
    k = z - 6755399441056767.0
    r = fma(k, -0.6931471805599453, x)
    scale = from_bits(bits_of(z) << 52)
    return fma(fma(r * r, short_exp_polynomial(r), r), scale, scale - 1.0)


@numba.njit(forceinline=True, error_model="numpy")
def short_exp(x: float) -> float:
    """eˣ for results of 24 bits; beyond ±708 it stays where it is, which float32 cannot see."""
    x = 709.0 if x > 709.0 else x
    return short_near_exp(-708.0 if x < -708.0 else x)


@numba.njit(forceinline=True, error_model="numpy")
def short_lifted_exp(x: float) -> float:
    """eˣ for x ≤ 0 and results of 24 bits, which need no lifting."""
    return short_near_exp(-708.0 if x < -708.0 else x)


@numba.njit(forceinline=True, error_model="numpy")
def short_decaying_expm1(x: float) -> float:
    """eˣ − 1 for x ≤ 0 and results of 24 bits."""
    return short_near_expm1(-708.0 if x < -708.0 else x)


@numba.njit(forceinline=True, error_model="numpy")
def short_expm1(x: float) -> float:
    """eˣ − 1 for results of 24 bits."""
    x = 709.0 if x > 709.0 else x
    return short_near_expm1(-708.0 if x < -708.0 else x)


@numba.njit(forceinline=True, error_model="numpy")
def short_log(x: float) -> float:
    """log x for results of 24 bits; −∞ at 0, NaN below."""
    y = x * 18014398509481984.0 if x < 2.2250738585072014e-308 else x
    shift = -54.0 if x < 2.2250738585072014e-308 else 0.0
    n = (bits_of(y) - 4604544271217802189) >> 52
    f = from_bits(bits_of(y) - (n << 52)) - 1.0
    result = fma(float(n) + shift, 0.6931471805599453, fma(f * f, short_log_polynomial(f), f))
    result = result if x < math.inf else x
    return result if x > 0.0 or x != x else (-math.inf if x == 0.0 else math.nan)


@numba.njit(forceinline=True, error_model="numpy")
def short_log1p(x: float) -> float:
    """log(1 + x) for results of 24 bits; −∞ at −1, NaN below."""
    u = 1.0 + x
    n = (bits_of(u) - 4604544271217802189) >> 52
    twice = from_bits((1024 - n) << 52)
    f = fma(0.5 * x, twice, fma(0.5, twice, -1.0))
    result = fma(float(n), 0.6931471805599453, fma(f * f, short_log_polynomial(f), f))
    result = result if x < math.inf else x
    return result if x > -1.0 or x != x else (-math.inf if x == -1.0 else math.nan)


@numba.njit(forceinline=True, error_model="numpy")
def short_near_reciprocal(q: float) -> float:
    """1/q for 2⁻¹⁰⁰ ≤ q ≤ 2¹⁰⁰ and results of 24 bits: to 2⁻⁴⁵, by a division in float32 and one of Newton's steps."""
    r = float(numba.float32(1.0) / numba.float32(q))
    return r * fma(-q, r, 2.0)


@numba.njit(forceinline=True, error_model="numpy")
def short_erfcx(u: float) -> float:
    """exp(u²)·erfc(u) for u ≥ 0, for results of 24 bits; far out 1/(u·√π)."""
    above = short_erfcx_above(u) if u < 1e30 else 0.5641895835477563
    below = short_erfcx_below(u) if u < 1e30 else u
    return above / below


@numba.njit(forceinline=True, error_model="numpy")
def short_erf(x: float) -> float:
    """The error function for results of 24 bits; from 5 on, as there."""
    u = 5.0 if abs(x) > 5.0 else abs(x)
    square = u * u
    return copysign(u * (short_erf_above(square) / short_erf_below(square)), x)


@numba.njit(forceinline=True, error_model="numpy")
def short_atan(x: float) -> float:
    """arctan x, for results of 24 bits: a/(1 + a²)·G(t²/(1 + t²)) for t = a = |x| ≤ 1, π/2 less the same with t = 1/a."""
    a = 1.361129467683754e39 if abs(x) > 1.361129467683754e39 else abs(x)
    inverse = 1.0 / fma(a, a, 1.0)
    t = a * a if a < 1.0 else 1.0
    small = a * inverse * short_atan_polynomial(t * inverse)
    return copysign(small if a < 1.0 else 1.5707963267948966 - small, x)


@numba.njit(forceinline=True, error_model="numpy")
def short_log1p_unit(x: float) -> float:
    """log(1 + x) for 0 ≤ x ≤ 1, for results of 24 bits: 2 artanh s, s = x/(2 + x)."""
    s = x * short_near_reciprocal(2.0 + x)
    return s * short_log1p_unit_polynomial(s * s)


@numba.njit(forceinline=True, error_model="numpy")
def short_sin(x: float) -> float:
    """sin x for |x| ≤ 65536, for results of 24 bits: π/2 in three parts of 33 bits, k of them exact."""
    z = fma(x, 0.6366197723675814, 6755399441055744.0)
    k = z - 6755399441055744.0
    r = fma(k, -2.0222662487111665e-21, fma(k, -6.077100506303966e-11, fma(k, -1.5707963267341256, x)))
    s, c = r * short_sin_polynomial(r * r), short_cos_polynomial(r * r)
    n = bits_of(z)
    return from_bits(bits_of(c if n & 1 else s) ^ ((n & 2) << 62))


@numba.njit(forceinline=True, error_model="numpy")
def short_cos(x: float) -> float:
    """cos x for |x| ≤ 65536, for results of 24 bits."""
    z = fma(x, 0.6366197723675814, 6755399441055744.0)
    k = z - 6755399441055744.0
    r = fma(k, -2.0222662487111665e-21, fma(k, -6.077100506303966e-11, fma(k, -1.5707963267341256, x)))
    s, c = r * short_sin_polynomial(r * r), short_cos_polynomial(r * r)
    n = bits_of(z)
    return from_bits(bits_of(s if n & 1 else c) ^ (((n + 1) & 2) << 62))
