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
def paired_log1p_unit_polynomial(r: float) -> float:
    """(log((1 + s)/(1 − s))/s − 2)/s², r = s² for 0 ≤ r ≤ 0.111111."""
    p = 0.17008854496070422
    p = fma(p, r, 0.08345438648662643)
    p = fma(p, r, 0.1210484229759569)
    p = fma(p, r, 0.133011338517538)
    p = fma(p, r, 0.15386547474034)
    p = fma(p, r, 0.18181744521281584)
    p = fma(p, r, 0.22222223952447115)
    p = fma(p, r, 0.2857142854813805)
    p = fma(p, r, 0.40000000000154945)
    p = fma(p, r, 0.6666666666666631)
    return p


@numba.njit(forceinline=True)
def paired_erfcx_polynomial(r: float) -> float:
    """((((1 + 2u)·erfcx(u) − 1)/(1 + r) − b)/r − c)/(1 − r), r = (u − 4)/(u + 4) for -1 ≤ r ≤ 1."""
    p = 1.0025412137267259e-10
    p = fma(p, r, 2.5873358747856413e-10)
    p = fma(p, r, -1.4593562299494084e-09)
    p = fma(p, r, -2.868951538315854e-09)
    p = fma(p, r, 1.2621361330481675e-08)
    p = fma(p, r, 1.758583577889129e-08)
    p = fma(p, r, -9.648567480891667e-08)
    p = fma(p, r, -5.973126123357959e-08)
    p = fma(p, r, 7.274377539492879e-07)
    p = fma(p, r, -3.518435648314527e-07)
    p = fma(p, r, -4.981099776194557e-06)
    p = fma(p, r, 1.0869526139276516e-05)
    p = fma(p, r, 1.941754174061461e-05)
    p = fma(p, r, -0.00013975199626737524)
    p = fma(p, r, 0.00021867440951488625)
    p = fma(p, r, 0.0006180212732916137)
    p = fma(p, r, -0.004813295601317488)
    p = fma(p, r, 0.01681575533182456)
    p = fma(p, r, -0.04198081113504747)
    p = fma(p, r, 0.0831461211441191)
    p = fma(p, r, -0.1357136461336328)
    p = fma(p, r, 0.18418518718041582)
    p = fma(p, r, -0.20381070038831875)
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
def paired_reduction(x: float) -> tuple[float, float, float, float]:
    """(z, r, p, rest) of x = k·log 2 + r + rest: the last bits of z hold k, and eʳ = 1 + r + p."""
    z = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -0.6931471805598903, x)
    r = fma(k, -5.497923018708371e-14, a)
    square = r * r
    p = fma(0.5, square, (square * r) * paired_exp_polynomial(r))
    return z, r, p, fma(k, -5.497923018708371e-14, a - r)


@numba.njit(forceinline=True, error_model="numpy")
def paired_scaled_exp(r: float, p: float, rest: float, scale: float) -> tuple[float, float]:
    """scale·exp(r + rest), eʳ = 1 + r + p, scale a power of two."""
    top = 1.0 + r
    high = top + p
    low = fma(rest, high, ((top - high) + p) + ((1.0 - top) + r))
    return high * scale, low * scale


@numba.njit(forceinline=True, error_model="numpy")
def paired_exp(x: float) -> tuple[float, float]:
    """eˣ; ∞ and 0 beyond the range; subnormal results are rounded twice."""
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    z, r, p, rest = paired_reduction(x)
    n = (bits_of(z) << 32) >> 32
    half = n >> 1
    high, low = paired_scaled_exp(r, p, rest, from_bits((half + 1023) << 52))
    scale = from_bits((n - half + 1023) << 52)
    return high * scale, low * scale


@numba.njit(forceinline=True, error_model="numpy")
def paired_parted_exp(x: float) -> tuple[float, float, float]:
    """(high, low, k) of eˣ = 2ᵏ·(high + low), 0.7 < high < 1.42, |x| below 2·10⁶."""
    z, r, p, rest = paired_reduction(x)
    high, low = paired_scaled_exp(r, p, rest, 1.0)
    return high, low, z - 6755399441055744.0


@numba.njit(forceinline=True)
def paired_power(exponent: float) -> float:
    """2ᵏ for an integer k ≤ 1023, 0 below the normal range: what an exponential that is parted is scaled by."""
    exponent = -1023.0 if exponent < -1023.0 else exponent
    return from_bits(bits_of(exponent + 6755399441056767.0) << 52)


@numba.njit(forceinline=True, error_model="numpy")
def paired_lifted_exp(x: float) -> tuple[float, float]:
    """2⁵¹²·eˣ for −1000 ≤ x ≤ 0, never subnormal; below, as at −1000."""
    x = -1000.0 if x < -1000.0 else x
    z, r, p, rest = paired_reduction(x)
    return paired_scaled_exp(r, p, rest, from_bits((bits_of(z) + 1535) << 52))


@numba.njit(forceinline=True, error_model="numpy")
def paired_decaying_expm1(x: float) -> tuple[float, float]:
    """eˣ − 1 for x ≤ 0, by the same steps as the lifted exponential."""
    x = -1000.0 if x < -1000.0 else x
    z, r, p, rest = paired_reduction(x)
    scale = from_bits((bits_of(z) + 1535) << 52) * 7.458340731200207e-155
    start = scale - 1.0
    top = fma(r, scale, start)
    tail = fma(p, scale, fma(r, scale, start - top) + (scale - (start + 1.0)))
    high = top + tail
    return high, fma(rest, high + 1.0, (top - high) + tail)


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
def paired_log1p_unit(x: float, rest: float) -> tuple[float, float]:
    """log(1 + x + rest) for 0 ≤ x ≤ 1: 2 artanh s, s = x/(2 + x)."""
    below = 2.0 + x
    error = (x - (below - 2.0)) + rest
    inverse = 1.0 / below
    s = x * inverse
    t = (fma(-s, below, x) + fma(-s, error, rest)) * inverse
    square = s * s
    twice = 2.0 * s
    tail = fma(square * s, paired_log1p_unit_polynomial(square), 2.0 * fma(t, square, t))
    high = twice + tail
    return high, (twice - high) + tail


@numba.njit(forceinline=True, error_model="numpy")
def paired_erfcx(u: float, rest: float) -> tuple[float, float]:
    """exp(v²)·erfc(v), v = u + rest ≥ 0: 1 + (1 + r)·(b + r·(c + (1 − r)·P(r))) over 1 + 2v, r = (v − 4)/(v + 4)."""
    v = 1e300 if u > 1e300 else u
    inverse = 1.0 / (v + 4.0)
    eighth = 8.0 * inverse  # 1 − r
    lost = fma(-inverse, rest, fma(-inverse, v, fma(-4.0, inverse, 1.0)))  # 1 − inverse·(v + rest + 4)
    r = 1.0 - eighth
    slope = fma(fma(fma(fma(1.66, r, -0.573), r, -0.405), r, -0.0024), r, -0.105)  # of the numerator, nearly
    inner = fma(eighth, paired_erfcx_polynomial(r), -0.16880553507779622)
    product = r * inner
    factor = 0.2329951186255525 + product
    lower = (product - (factor - 0.2329951186255525)) + (fma(r, inner, -product) + 9.257962021170652e-18)
    above = 2.0 - eighth
    moved = -eighth * lost * slope
    product = fma(above, factor, moved)
    high = 1.0 + product
    low = fma(above, lower, fma(above, factor, -product) + moved)
    low += product - (high - 1.0)
    divisor = fma(2.0, v, 1.0)
    back = fma(-2.0, v, divisor)
    error = fma(2.0, rest, fma(2.0, v, back - divisor) + (1.0 - back))
    inverse = 1.0 / divisor
    result = high * inverse
    return result, (fma(-result, error, fma(-result, divisor, high)) + low) * inverse


@numba.njit(forceinline=True, error_model="numpy")
def paired_near_erf(u: float, rest: float) -> tuple[float, float]:
    """The error function of u + rest for |u| ≤ ½, an odd polynomial; beyond, anything finite."""
    square = 0.25 if u * u > 0.25 else u * u
    p = fma(square, paired_erf_polynomial(square), 1.533545961316588e-17)
    factor = 1.1283791670955126 + p
    factor_low = p - (factor - 1.1283791670955126)
    high = u * factor
    return high, fma(rest, fma(2.0, p, factor), fma(u, factor_low, fma(u, factor, -high)))


@numba.njit(forceinline=True, error_model="numpy")
def paired_erf(x: float, rest: float) -> tuple[float, float]:
    """The error function of x + rest: odd polynomial near 0, 1 − exp(−x²)·erfcx(|x|) beyond."""
    u = 7.0 if abs(x) > 7.0 else abs(x)
    square = u * u
    e, e_low = paired_exp(-square)
    e_low = fma(-fma(u, u, -square), e, e_low)
    scaled, scaled_low = paired_erfcx(u, 0.0)
    tail = e * scaled
    tail_low = fma(e, scaled_low, fma(e_low, scaled, fma(e, scaled, -tail)))
    far = 1.0 - tail
    far_low = fma(1.1283791670955126 * e, rest if x > 0.0 else -rest, ((1.0 - far) - tail) - tail_low)
    near, near_low = paired_near_erf(u, rest if x > 0.0 else -rest)
    low = near_low if u < 0.5 else far_low
    return copysign(near if u < 0.5 else far, x), (-low if x < 0.0 else low)


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
def quadrants(x: float, rest: float) -> tuple[int, float, float, float, float]:
    """(n, s, s_low, c, c_low) of x + rest = nπ/2 + r for |x| ≤ 8192: sin r and cos r, steps as in near_sin."""
    z = fma(x, 0.6366197723675814, 6755399441055744.0)
    k = z - 6755399441055744.0
    a = fma(k, -1.5707963267341256, x)
    b = k * 6.077100506303966e-11
    r = a - b
    total = r + rest
    back = total - r  # near a multiple of π/2 the rest may be the larger one
    low = ((r - (total - back)) + (rest - back)) + fma(k, -2.0222662487959506e-21, (a - r) - b)
    high = total + low
    low = (total - high) + low
    square = high * high
    tail = fma(high * square, sin_polynomial(square), low * fma(square, -0.5, 1.0))
    s = high + tail
    half = 0.5 * high
    product = half * high
    lost = fma(half, high, -product)
    top = 1.0 - product
    rest = ((1.0 - top) - product) + fma(square * square, cos_polynomial(square), -fma(high, low, lost))
    c = top + rest
    return bits_of(z), s, (high - s) + tail, c, (top - c) + rest


@numba.njit(forceinline=True, error_model="numpy")
def paired_sin(x: float, rest: float) -> tuple[float, float]:
    """sin(x + rest) for |x| ≤ 8192."""
    n, s, s_low, c, c_low = quadrants(x, rest)
    sign = (n & 2) << 62
    return from_bits(bits_of(c if n & 1 else s) ^ sign), from_bits(bits_of(c_low if n & 1 else s_low) ^ sign)


@numba.njit(forceinline=True, error_model="numpy")
def paired_cos(x: float, rest: float) -> tuple[float, float]:
    """cos(x + rest) for |x| ≤ 8192."""
    n, s, s_low, c, c_low = quadrants(x, rest)
    sign = ((n + 1) & 2) << 62
    return from_bits(bits_of(s if n & 1 else c) ^ sign), from_bits(bits_of(s_low if n & 1 else c_low) ^ sign)


@numba.njit(forceinline=True, error_model="numpy")
def far_sum(f: float, slope: float, rest: float) -> tuple[float, float]:
    """f·cos(rest) + slope·sin(rest) as high + low; the rest of a large argument may be large too."""
    half = math.sin(0.5 * rest)
    low = slope * math.sin(rest) - 2.0 * f * half * half
    high = f + low
    back = high - f
    return high, (f - (high - back)) + (low - back)


@numba.njit(forceinline=True, error_model="numpy")
def far_sin(x: float, rest: float) -> tuple[float, float]:
    """sin(x + rest) by the C library, whose own rounding stays."""
    return far_sum(math.sin(x), math.cos(x), rest)


@numba.njit(forceinline=True, error_model="numpy")
def far_cos(x: float, rest: float) -> tuple[float, float]:
    """cos(x + rest) by the C library, whose own rounding stays."""
    return far_sum(math.cos(x), -math.sin(x), rest)
