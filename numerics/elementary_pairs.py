"""Elementary functions whose results are pairs: high + low, unevaluated, for results with one visible rounding.

A float64 kernel rounds within ½ ULP and a little only if what enters its last step is known to more than 53 bits. Here
the last additions of each function of :mod:`.elementary` are not rounded but returned as their parts: ``high`` is a
float64 near the result and ``high + low`` is closer to it by some five bits. A second argument is the low part of the
first. No branch, no table, no library call; the polynomials come from :mod:`backproof.theory.minimax` and are proven
there, what the steps around them round is measured against balls.
"""

from __future__ import annotations

import math

import numba

from .elementary import bits_of, copysign, cos_polynomial, fma, from_bits, sin_polynomial

# ---------------------------------------------------------------------------------------------------------- polynomials


@numba.njit(forceinline=True)
def paired_exp_polynomial(r: float) -> float:
    """(eʳ − 1 − r − r²/2)/r³ for -0.34668 ≤ r ≤ 0.34668."""
    p = 2.087906265656695e-09
    p = fma(p, r, 2.5108682066991096e-08)
    p = fma(p, r, 2.755738661356007e-07)
    p = fma(p, r, 2.7557245306640577e-06)
    p = fma(p, r, 2.4801587198626256e-05)
    p = fma(p, r, 0.00019841269884930137)
    p = fma(p, r, 0.0013888888888942534)
    p = fma(p, r, 0.008333333333322165)
    p = fma(p, r, 0.04166666666666658)
    p = fma(p, r, 0.16666666666666677)
    return p


@numba.njit(forceinline=True)
def paired_log_polynomial(r: float) -> float:
    """(log((1 + s)/(1 − s))/s − 2)/s², r = s² for 0 ≤ r ≤ 0.029876."""
    p = 0.13274444991444603
    p = fma(p, r, 0.13247575084842914)
    p = fma(p, r, 0.1538720353810136)
    p = fma(p, r, 0.18181773087493075)
    p = fma(p, r, 0.22222222678975423)
    p = fma(p, r, 0.28571428568872703)
    p = fma(p, r, 0.4000000000000691)
    p = fma(p, r, 0.6666666666666666)
    return p


@numba.njit(forceinline=True)
def paired_erfcx_polynomial(r: float) -> float:
    """((1 + 2u)·erfcx(u) − 9·erfcx(4))/r, r = (u − 4)/(u + 4) for -0.77778 ≤ r ≤ 1."""
    p = -5.093729785689542e-10
    p = fma(p, r, 1.2612292658245524e-09)
    p = fma(p, r, 4.249866213123341e-09)
    p = fma(p, r, -1.3854582968930683e-08)
    p = fma(p, r, -2.2669398571767635e-08)
    p = fma(p, r, 1.0935456613675534e-07)
    p = fma(p, r, 7.985287115405448e-08)
    p = fma(p, r, -8.245603055212636e-07)
    p = fma(p, r, 2.902492575778968e-07)
    p = fma(p, r, 5.709126667625211e-06)
    p = fma(p, r, -1.1220454069704428e-05)
    p = fma(p, r, -2.4398952664209078e-05)
    p = fma(p, r, 0.00015062121841677095)
    p = fma(p, r, -0.00019925676562193234)
    p = fma(p, r, -0.000757773202387781)
    p = fma(p, r, 0.005031969989859895)
    p = fma(p, r, -0.016197734068010852)
    p = fma(p, r, 0.03716751553631597)
    p = fma(p, r, -0.06633036581150603)
    p = fma(p, r, 0.09373283499841109)
    p = fma(p, r, -0.10103906603632991)
    p = fma(p, r, 0.06809705425469123)
    p = fma(p, r, 0.015379652102620099)
    p = fma(p, r, -0.1396211168405625)
    return p


@numba.njit(forceinline=True)
def paired_erfcx_small_polynomial(r: float) -> float:
    """(erfcx(¼ + r) − erfcx(¼) − r·erfcx′(¼))/r² for -0.25 ≤ r ≤ 0.25."""
    p = -1.8622297135335687e-05
    p = fma(p, r, 5.471059429850645e-05)
    p = fma(p, r, -0.0001501589048940563)
    p = fma(p, r, 0.00040973024121734424)
    p = fma(p, r, -0.001078644212156151)
    p = fma(p, r, 0.002728963105215767)
    p = fma(p, r, -0.0066147817996612054)
    p = fma(p, r, 0.015298471446619478)
    p = fma(p, r, -0.03359113582476843)
    p = fma(p, r, 0.06959167063571985)
    p = fma(p, r, -0.13496689305048745)
    p = fma(p, r, 0.24251673515971117)
    p = fma(p, r, -0.39804641641609384)
    p = fma(p, r, 0.5845450744234932)
    return p


@numba.njit(forceinline=True)
def paired_erf_polynomial(r: float) -> float:
    """(erf(u)/u − 2/√π)/r, r = u² for 0 ≤ r ≤ 0.25."""
    p = -1.462889963576102e-07
    p = fma(p, r, 1.6372194709013382e-06)
    p = fma(p, r, -1.4923052054694e-05)
    p = fma(p, r, 0.00012055287553971666)
    p = fma(p, r, -0.0008548326533070177)
    p = fma(p, r, 0.00522397762224046)
    p = fma(p, r, -0.026866170645012864)
    p = fma(p, r, 0.11283791670954911)
    p = fma(p, r, -0.37612638903183754)
    return p


@numba.njit(forceinline=True)
def paired_atan_polynomial(r: float) -> float:
    """(atan(u)/u − 1)/r, r = u² for 0 ≤ r ≤ 0.173069."""
    p = 0.015075890969962336
    p = fma(p, r, -0.03335628806345117)
    p = fma(p, r, 0.044984392327468335)
    p = fma(p, r, -0.05217138463584402)
    p = fma(p, r, 0.058768235935721204)
    p = fma(p, r, -0.066662063454124)
    p = fma(p, r, 0.07692281363849018)
    p = fma(p, r, -0.09090908082242692)
    p = fma(p, r, 0.11111111086433566)
    p = fma(p, r, -0.14285714285359713)
    p = fma(p, r, 0.19999999999997442)
    p = fma(p, r, -0.33333333333333326)
    return p


# ------------------------------------------------------------------------------------------------------------ functions
#
# x = k·log 2 + r as in :mod:`.elementary`. Of eʳ = 1 + r + r²/2 + …, the first two are added without error and what is
# left is below 0.07, so that its rounding is below 2⁻⁵⁷.


@numba.njit(forceinline=True, error_model="numpy")
def paired_reduction(x: float) -> tuple[float, float, float]:
    """(z, r, p) of x = k·log 2 + r: the last bits of z hold k, and exp(x − k·log 2) = 1 + r + p."""
    z = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -0.6931471805598903, x)
    b = k * 5.497923018708371e-14
    r = a - b
    rest = (a - r) - b
    p = fma(0.5 * r, r, fma(r * r * r, paired_exp_polynomial(r), fma(rest, r, rest)))
    return z, r, p


@numba.njit(forceinline=True, error_model="numpy")
def paired_exp(x: float) -> tuple[float, float]:
    """eˣ; ∞ and 0 beyond the range; subnormal results are rounded twice."""
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    z, r, p = paired_reduction(x)
    n = (bits_of(z) << 32) >> 32
    half = n >> 1
    first, second = from_bits((half + 1023) << 52), from_bits((n - half + 1023) << 52)
    top = 1.0 + r
    high = top + p
    low = ((top - high) + p) + ((1.0 - top) + r)
    return high * first * second, low * first * second


@numba.njit(forceinline=True, error_model="numpy")
def paired_parted_exp(x: float) -> tuple[float, float, float]:
    """(high, low, k) of eˣ = 2ᵏ·(high + low), 0.7 < high < 1.42, |x| below 2·10⁶."""
    z, r, p = paired_reduction(x)
    top = 1.0 + r
    high = top + p
    return high, ((top - high) + p) + ((1.0 - top) + r), z - 6755399441055744.0


@numba.njit(forceinline=True)
def paired_power(exponent: float) -> float:
    """2ᵏ for an integer k ≤ 1023, 0 below the normal range: what an exponential that is parted is scaled by."""
    exponent = -1023.0 if exponent < -1023.0 else exponent
    return from_bits(bits_of(exponent + 6755399441056767.0) << 52)


@numba.njit(forceinline=True, error_model="numpy")
def paired_lifted_exp(x: float) -> tuple[float, float]:
    """2⁵¹²·eˣ for −1000 ≤ x ≤ 0, never subnormal; below, as at −1000."""
    x = -1000.0 if x < -1000.0 else x
    z, r, p = paired_reduction(x)
    scale = from_bits((bits_of(z) + 1535) << 52)
    top = 1.0 + r
    high = top + p
    low = ((top - high) + p) + ((1.0 - top) + r)
    return high * scale, low * scale


@numba.njit(forceinline=True, error_model="numpy")
def paired_decaying_expm1(x: float) -> tuple[float, float]:
    """eˣ − 1 for x ≤ 0, by the same steps as the lifted exponential."""
    x = -1000.0 if x < -1000.0 else x
    z, r, p = paired_reduction(x)
    scale = from_bits((bits_of(z) + 1535) << 52) * 7.458340731200207e-155
    start = scale - 1.0
    top = fma(r, scale, start)
    rest = fma(p, scale, fma(r, scale, start - top) + (scale - (start + 1.0)))
    high = top + rest
    return high, (top - high) + rest


@numba.njit(forceinline=True, error_model="numpy")
def paired_log1p(x: float, rest: float) -> tuple[float, float]:
    """log(1 + x + rest): k·log 2 + 2 artanh s, s = f/(2 + f), one division; −∞ at −1, NaN below."""
    u = 1.0 + x
    back = u - 1.0
    error = ((1.0 - (u - back)) + (x - back)) + rest
    n = (bits_of(u) - 4604544271217802189) >> 52
    k = float(n)
    twice = from_bits((1024 - n) << 52)
    f = x if n == 0 else fma(0.5 * u, twice, -1.0)
    g = rest if n == 0 else 0.5 * error * twice
    below = 2.0 + f
    inverse = 1.0 / below
    s = f * inverse
    t = (fma(-s, below, f) + fma(-s, (f - (below - 2.0)) + g, g)) * inverse
    square = s * s
    t = 2.0 * fma(t, square, t)
    tail = fma(square * s, paired_log_polynomial(square), fma(k, 5.497923018708371e-14, t))
    base = k * 0.6931471805598903
    top = fma(2.0, s, base)
    tail += fma(2.0, s, base - top)
    high = top + tail
    result = high if x < math.inf else x
    return (result if x > -1.0 or x != x else (-math.inf if x == -1.0 else math.nan)), (top - high) + tail


@numba.njit(forceinline=True, error_model="numpy")
def paired_far_erfcx(u: float, rest: float) -> tuple[float, float]:
    """exp(v²)·erfc(v), v = u + rest, for v ≥ ½: a polynomial in r = 1 − 8/(v + 4), itself a pair, over 1 + 2v."""
    v = 1e300 if u > 1e300 else (0.5 if u < 0.5 else u)
    below = v + 4.0
    back = below - v
    error = ((v - (below - back)) + (4.0 - back)) + rest
    inverse = 1.0 / below
    eighth = 8.0 * inverse
    r = 1.0 - eighth
    missing = ((1.0 - r) - eighth) - eighth * fma(-error, inverse, fma(-below, inverse, 1.0))
    slope = fma(fma(fma(-0.53, r, 0.56), r, 0.011), r, -0.167)  # of the numerator, within 0.11
    s = paired_erfcx_polynomial(r)
    product = r * s
    high = 1.2329951186255526 + product
    low = (product - (high - 1.2329951186255526)) + fma(missing, slope, fma(r, s, -product) + -4.625318921008717e-17)
    divisor = fma(2.0, v, 1.0)
    twice = 2.0 * v
    back = divisor - twice
    error = ((twice - (divisor - back)) + (1.0 - back)) + 2.0 * rest
    inverse = 1.0 / divisor
    result = high * inverse
    return result, (fma(-result, error, fma(-result, divisor, high)) + low) * inverse


@numba.njit(forceinline=True, error_model="numpy")
def paired_erfcx(u: float, rest: float) -> tuple[float, float]:
    """exp(v²)·erfc(v), v = u + rest ≥ 0."""
    y = -0.25 + (0.5 if u > 0.5 else u)
    error = (u - (y + 0.25)) + rest
    tail = y * paired_erfcx_small_polynomial(y)
    slope = -0.7432058932300142 + tail
    lost = (tail - (slope + 0.7432058932300142)) + -2.1242980260804053e-17
    product = y * slope
    near = 0.7703465477309968 + product
    low = (product - (near - 0.7703465477309968)) + (fma(y, slope, -product) + -1.1815041295276343e-17)
    low = fma(y, lost, fma(error, slope + tail, low))
    far_high, far_low = paired_far_erfcx(u, rest)
    return (near if u < 0.5 else far_high), (low if u < 0.5 else far_low)


@numba.njit(forceinline=True, error_model="numpy")
def paired_erf(x: float, rest: float) -> tuple[float, float]:
    """The error function of x + rest: odd polynomial near 0, 1 − exp(−x²)·erfcx(|x|) beyond."""
    u = 7.0 if abs(x) > 7.0 else abs(x)
    square = u * u
    e, e_low = paired_exp(-square)
    e_low = fma(-fma(u, u, -square), e, e_low)
    scaled, scaled_low = paired_far_erfcx(u, 0.0)
    tail = e * scaled
    tail_low = fma(e, scaled_low, fma(e_low, scaled, fma(e, scaled, -tail)))
    far = 1.0 - tail
    far_low = ((1.0 - far) - tail) - tail_low
    small = 0.25 if square > 0.25 else square
    p = fma(small, paired_erf_polynomial(small), 1.533545961316588e-17)
    factor = 1.1283791670955126 + p
    factor_low = p - (factor - 1.1283791670955126)
    near = u * factor
    near_low = fma(u, factor_low, fma(u, factor, -near))
    low = near_low if u < 0.5 else far_low
    return (
        copysign(near if u < 0.5 else far, x),
        fma(1.1283791670955126 * e, rest, -low if x < 0.0 else low),
    )


@numba.njit(forceinline=True, error_model="numpy")
def paired_atan(x: float) -> tuple[float, float]:
    """arctan x: by the addition theorem at π/4 or π/2 where |x| is not small; one division."""
    a = 1e300 if abs(x) > 1e300 else abs(x)
    near, far = a < 0.4142135623730951, a >= 2.414213562373095
    above = a if near else (-1.0 if far else a - 1.0)
    above_low = 0.0 if near or far else a - ((a - 1.0) + 1.0)
    sum_ = a + 1.0
    back = sum_ - a
    below = 1.0 if near else (a if far else sum_)
    below_low = 0.0 if near or far else (a - (sum_ - back)) + (1.0 - back)
    inverse = 1.0 / below
    t = above * inverse
    t_low = (fma(-t, below_low, fma(-t, below, above)) + above_low) * inverse
    square = t * t
    tail = fma(t * square, paired_atan_polynomial(square), fma(-t_low, square, t_low))
    turn = 0.0 if near else (1.5707963267948966 if far else 0.7853981633974483)
    turn_low = 0.0 if near else (6.123233995736766e-17 if far else 3.061616997868383e-17)
    top = turn + t
    tail += (t - (top - turn)) + turn_low
    high = top + tail
    low = (top - high) + tail
    return copysign(high, x), (-low if x < 0.0 else low)


@numba.njit(forceinline=True, error_model="numpy")
def paired_near_quarters(x: float) -> tuple[int, float, float, float, float]:
    """(n, sine, cosine) of x − nπ/2, both as pairs, for |x| ≤ 8192; π/2 in three parts."""
    z = fma(x, 0.6366197723675814, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -1.5707963267341256, x)
    b = k * 6.077100506303966e-11
    r = a - b
    low = fma(k, -2.0222662487959506e-21, (a - r) - b)
    high = r + low
    low = (r - high) + low
    square = high * high
    rest = fma(high * square, sin_polynomial(square), low * fma(square, -0.5, 1.0))
    s = high + rest
    s_low = (high - s) + rest
    half = 0.5 * high
    lost = fma(half, high, -(half * high))
    top = 1.0 - half * high
    rest = ((1.0 - top) - half * high) + fma(square * square, cos_polynomial(square), -fma(high, low, lost))
    c = top + rest
    return bits_of(z), s, s_low, c, (top - c) + rest


@numba.njit(forceinline=True, error_model="numpy")
def paired_near_sin(x: float) -> tuple[float, float]:
    """sin x for |x| ≤ 8192."""
    n, s, s_low, c, c_low = paired_near_quarters(x)
    sign = -1.0 if n & 2 else 1.0
    return sign * (c if n & 1 else s), sign * (c_low if n & 1 else s_low)


@numba.njit(forceinline=True, error_model="numpy")
def paired_near_cos(x: float) -> tuple[float, float]:
    """cos x for |x| ≤ 8192."""
    n, s, s_low, c, c_low = paired_near_quarters(x)
    sign = -1.0 if (n + 1) & 2 else 1.0
    return sign * (s if n & 1 else c), sign * (s_low if n & 1 else c_low)
