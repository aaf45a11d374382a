"""Elementary functions composed of exponentials and scaled error functions, for float64 and for float32 results.

tanh, sigmoid, sinh, cosh, erfc, the normal distribution function, the reciprocal square root, arcsin and arccos, as
:mod:`.elementary` has the functions they are made of: no branch, no table, no library call. For float64 results what
enters the last step is a pair of floats (:mod:`.elementary_pairs`), so that it alone rounds: measured below 0.7 ULP
where results are normal. ``short_tanh`` … serve results that are rounded to float32 afterwards (relative error below
2⁻³⁵). No polynomial of their own: what is proven of those they call holds here, the steps around them are measured.

They may be called in compiled code by name, like ``math.tanh``:

>>> import numba
>>> from backproof.numerics.elementary_composed import normal_cdf
>>> numba.njit(lambda x: normal_cdf(x))(-38.0)
2.88542835e-316
"""

from __future__ import annotations

import math

import numba

from .elementary import copysign, fma, short_atan, short_decaying_expm1, short_erfcx, short_lifted_exp
from .elementary_pairs import paired_atan, paired_decaying_expm1, paired_erfcx, paired_lifted_exp

#: Their names, for results of 53 and (with "short_" before them) of 24 bits.
FUNCTIONS = ("tanh", "sigmoid", "sinh", "cosh", "erfc", "normal_cdf", "rsqrt", "asin", "acos")


@numba.njit(forceinline=True, error_model="numpy")
def pair_quotient(above: float, above_low: float, below: float, below_low: float) -> float:
    """(above + above_low)/(below + below_low), rounded once and a little."""
    inverse = 1.0 / below
    q = above * inverse
    return fma(fma(-q, below_low, fma(-q, below, above)) + above_low, inverse, q)


@numba.njit(forceinline=True, error_model="numpy")
def tanh(x: float) -> float:
    """−E/(2 + E), E = exp(−2|x|) − 1, with the sign of x."""
    e, low = paired_decaying_expm1(-2.0 * abs(x))
    below = 2.0 + e
    return copysign(pair_quotient(-e, -low, below, (e - (below - 2.0)) + low), x)


@numba.njit(forceinline=True, error_model="numpy")
def sigmoid(x: float) -> float:
    """1/(1 + T) for x ≥ 0, T/(1 + T) below, T = exp(−|x|)."""
    e, low = paired_lifted_exp(-abs(x))
    t = e * 7.458340731200207e-155
    below = 1.0 + t
    error = (t - (below - 1.0)) + low * 7.458340731200207e-155
    above = e if x < 0.0 else 1.3407807929942597e154
    return pair_quotient(above, low if x < 0.0 else 0.0, below, error) * 7.458340731200207e-155


@numba.njit(forceinline=True, error_model="numpy")
def sinh(x: float) -> float:
    """(1 − T²)/(2T), T = exp(−|x|), with the sign of x."""
    e, low = paired_lifted_exp(-abs(x))
    above, above_low = paired_decaying_expm1(-2.0 * abs(x))
    size = pair_quotient(above * -6.703903964971299e153, above_low * -6.703903964971299e153, e, low)
    return copysign(math.inf if abs(x) > 710.4758600739439 else size, x)


@numba.njit(forceinline=True, error_model="numpy")
def cosh(x: float) -> float:
    """(1 + T²)/(2T), T = exp(−|x|)."""
    e, low = paired_lifted_exp(-abs(x))
    t = e * 7.458340731200207e-155
    square = t * t
    above = 1.0 + square
    rest = fma(2.0 * t, low * 7.458340731200207e-155, fma(t, t, -square))
    return pair_quotient(above, (square - (above - 1.0)) + rest, e, low) * 6.703903964971299e153


@numba.njit(forceinline=True, error_model="numpy")
def upper_tail(u: float, u_low: float, square: float, square_low: float) -> tuple[float, float]:
    """2⁵¹²·erfc(u + u_low) for u ≥ 0 as high + low, given the square of the argument likewise."""
    e, low = paired_lifted_exp(-square)
    low = fma(-square_low, e, low)
    scaled, scaled_low = paired_erfcx(u, u_low)
    high = e * scaled
    return high, fma(e, scaled_low, fma(low, scaled, fma(e, scaled, -high)))


@numba.njit(forceinline=True, error_model="numpy")
def erfc(x: float) -> float:
    """exp(−x²)·erfcx(x) for x ≥ 0, 2 − erfc(−x) below."""
    u = 30.0 if abs(x) > 30.0 else abs(x)
    square = u * u
    high, low = upper_tail(u, 0.0, square, fma(u, u, -square))
    t = high * 7.458340731200207e-155
    mirrored = 2.0 - t
    mirrored += ((2.0 - mirrored) - t) - low * 7.458340731200207e-155
    return mirrored if x < 0.0 else (high + low) * 7.458340731200207e-155


@numba.njit(forceinline=True, error_model="numpy")
def normal_cdf(x: float) -> float:
    """The standard normal distribution function, ½ erfc(−x/√2)."""
    a = 42.0 if abs(x) > 42.0 else abs(x)
    u = a * 0.7071067811865476
    half = 0.5 * a
    square = half * a
    u_low = fma(a, 0.7071067811865476, -u) + a * -4.833646656726457e-17
    high, low = upper_tail(u, u_low, square, fma(half, a, -square))
    t = high * 3.7291703656001034e-155
    mirrored = 1.0 - t
    mirrored += ((1.0 - mirrored) - t) - low * 3.7291703656001034e-155
    return mirrored if x > 0.0 else (high + low) * 3.7291703656001034e-155


@numba.njit(forceinline=True, error_model="numpy")
def rsqrt(x: float) -> float:
    """1/√x, corrected by its own error; ∞ at 0, with the sign of it, NaN below."""
    y = 1.0 / math.sqrt(x)
    product = x * y
    missing = fma(-product, y, 1.0) - fma(x, y, -product) * y
    return fma(0.5 * y, missing, y) if 0.0 < y < math.inf else y


@numba.njit(forceinline=True, error_model="numpy")
def turned_root(above: float, above_low: float, below: float, below_low: float) -> tuple[float, float]:
    """arctan √(above/below), each high + low and positive, as high + low."""
    inverse = 1.0 / below
    square = above * inverse
    square_low = (fma(-square, below_low, fma(-square, below, above)) + above_low) * inverse
    root = math.sqrt(square)
    root_low = 0.5 * (fma(-root, root, square) + square_low) / root
    high, low = paired_atan(root)
    return high, low + root_low / fma(root, root, 1.0)


@numba.njit(forceinline=True, error_model="numpy")
def asin(x: float) -> float:
    """arctan √(x²/(1 − x²)) with the sign of x; NaN beyond ±1."""
    a = abs(x)
    rest = 1.0 - a
    total = 1.0 + a
    below = rest * total
    below_low = fma(rest, total, -below) + (((1.0 - rest) - a) * total + ((1.0 - total) + a) * rest)
    high, low = turned_root(a * a, fma(a, a, -(a * a)), below, below_low)
    far = 1.5707963267948966 if a == 1.0 else high + low
    return copysign(a if a < 1e-9 else far, x)


@numba.njit(forceinline=True, error_model="numpy")
def acos(x: float) -> float:
    """2 arctan √((1 − x)/(1 + x)); NaN beyond ±1."""
    above, below = 1.0 - x, 1.0 + x
    back, forth = above + x, below - x
    above_low = (1.0 - back) + ((back - above) - x)
    below_low = (1.0 - forth) + (x - (below - forth))
    high, low = turned_root(above, above_low, below, below_low)
    inside = 3.141592653589793 if x == -1.0 else 2.0 * (high + low)
    return 0.0 if x == 1.0 else inside


# ------------------------------------------------------------------------------------------------ for float32 results


@numba.njit(forceinline=True, error_model="numpy")
def short_tanh(x: float) -> float:
    """−E/(2 + E), E = exp(−2|x|) − 1, for results of 24 bits."""
    e = short_decaying_expm1(-2.0 * abs(x))
    return copysign(e / (2.0 + e), x)


@numba.njit(forceinline=True, error_model="numpy")
def short_sigmoid(x: float) -> float:
    """1/(1 + T) or T/(1 + T), T = exp(−|x|), for results of 24 bits."""
    t = short_lifted_exp(-abs(x))
    return (t if x < 0.0 else 1.0) / (1.0 + t)


@numba.njit(forceinline=True, error_model="numpy")
def short_sinh(x: float) -> float:
    """(1 − T²)/(2T), T = exp(−|x|), for results of 24 bits."""
    return copysign(0.5 * short_decaying_expm1(-2.0 * abs(x)) / short_lifted_exp(-abs(x)), x)


@numba.njit(forceinline=True, error_model="numpy")
def short_cosh(x: float) -> float:
    """(1 + T²)/(2T), T = exp(−|x|), for results of 24 bits."""
    t = short_lifted_exp(-abs(x))
    return 0.5 * fma(t, t, 1.0) / t


@numba.njit(forceinline=True, error_model="numpy")
def short_erfc(x: float) -> float:
    """exp(−x²)·erfcx(x) for x ≥ 0, 2 − erfc(−x) below, for results of 24 bits."""
    u = 30.0 if abs(x) > 30.0 else abs(x)
    tail = short_lifted_exp(-u * u) * short_erfcx(u)
    return 2.0 - tail if x < 0.0 else tail


@numba.njit(forceinline=True, error_model="numpy")
def short_normal_cdf(x: float) -> float:
    """½ erfc(−x/√2) for results of 24 bits."""
    a = 42.0 if abs(x) > 42.0 else abs(x)
    tail = 0.5 * short_lifted_exp(-0.5 * a * a) * short_erfcx(a * 0.7071067811865476)
    return 1.0 - tail if x > 0.0 else tail


@numba.njit(forceinline=True, error_model="numpy")
def short_rsqrt(x: float) -> float:
    """1/√x for results of 24 bits."""
    return 1.0 / math.sqrt(x)


@numba.njit(forceinline=True, error_model="numpy")
def short_asin(x: float) -> float:
    """arctan(x/√(1 − x²)) for results of 24 bits; NaN beyond ±1."""
    return short_atan(x / math.sqrt((1.0 - x) * (1.0 + x)))


@numba.njit(forceinline=True, error_model="numpy")
def short_acos(x: float) -> float:
    """2 arctan √((1 − x)/(1 + x)) for results of 24 bits; NaN beyond ±1."""
    return 2.0 * short_atan(math.sqrt((1.0 - x) / (1.0 + x)))
