"""Activations and formulas as CUDA C++: they run as plain C++ everywhere, compile with nvcc where it is, and run on
a GPU where there is one."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from backproof.numerics.accuracy import BOUNDS, FORMATS, STEPWISE, bound, exact_function, ulp_error
from backproof.numerics.emission import activation_source
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.enclosures import enclose

GOLDEN = Path(__file__).parent / "golden"
CASES = ["leaky_relu", "tanh"]
#: name of the functions -> the formula
FORMULAS = {name: name for name in ACTIVATIONS} | {"f": "x*tanh(log(1+exp(x)))"}
TAILS = (0.0, 1e-300, 1e-8, 0.3, 1.0, 2.5, 6.0, 17.0, 40.0, 745.0, 1e5, 1e155)
#: CUDA's own exp, log1p and erf err by up to 2 ULP where glibc's err by less than 1 (CUDA Math API, tables of errors).
GPU_EXTRA = 2.0
#: What stands for CUDA where there is none; a launch runs its threads one after the other.
SHIM = """
#include <cmath>
#include <cstddef>
#define __device__
#define __global__
#define __forceinline__ inline
struct Place { unsigned x; };
static Place blockIdx, threadIdx, blockDim = {4}, gridDim = {3};
#define RUN(call) \\
    for (blockIdx.x = 0; blockIdx.x < 3; blockIdx.x++) \\
        for (threadIdx.x = 0; threadIdx.x < 4; threadIdx.x++) \\
            call
"""


def wrapped(name, dtype):
    """Host functions that run the two kernels of an activation."""
    real = {"float64": "double", "float32": "float"}[dtype]
    return f"""
extern "C" void run_{name}(size_t n, const {real} *x, {real} *value, {real} *derivative)
{{
    RUN({name}_kernel(n, x, value, derivative));
}}
extern "C" void back_{name}(size_t n, const {real} *x, const {real} *upstream, {real} *dx)
{{
    RUN({name}_backward_kernel(n, x, upstream, dx));
}}
"""


def points_of(row):
    kinks = [float(enclose(k, digits=17).mid()) for k in row.kinks]
    beside = [math.nextafter(k, side) for k in kinks for side in (-math.inf, math.inf)]
    return np.array(sorted({*(s * t for t in TAILS for s in (1, -1)), *kinks, *beside}))


def judge(row, order, points, computed, extra=0.0, dtype="float64"):
    exact = exact_function(row, order)
    promised = (bound(row, dtype, order, "numpy") or (BOUNDS | {"float64": STEPWISE})[dtype][order]) + extra
    for point, value in zip(points.tolist(), np.asarray(computed).tolist(), strict=True):
        error, _ = ulp_error(value, exact(point), FORMATS[dtype])
        assert error <= promised, f"{row.name}, order {order}, at {point!r}: {value!r}, off by {error} ULP"


def program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def built(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]


def library(folder, dtype):
    """All formulas in one library; any warning is an error."""
    sources = [
        activation_source(activation(spec), "cuda", 1, dtype) + wrapped(n, dtype) for n, spec in FORMULAS.items()
    ]
    (folder / f"{dtype}.cpp").write_text(SHIM + "\n".join(sources), encoding="utf-8")
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    built([program("c++"), *flags, str(folder / f"{dtype}.cpp"), "-o", str(folder / f"{dtype}.so"), "-lm"])
    return ctypes.CDLL(str(folder / f"{dtype}.so"))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda")
    return {dtype: library(folder, dtype) for dtype in ("float64", "float32")}


def call(function, *arrays):
    kind = {8: ctypes.c_double, 4: ctypes.c_float}[arrays[0].itemsize]
    function(ctypes.c_size_t(arrays[0].size), *(a.ctypes.data_as(ctypes.POINTER(kind)) for a in arrays))


@pytest.mark.parametrize("name", FORMULAS)
def test_as_plain_cpp_against_exact_balls(name, libraries):
    row = activation(FORMULAS[name])
    x = points_of(row)
    value, derivative = np.full_like(x, np.nan), np.full_like(x, np.nan)
    call(getattr(libraries["float64"], f"run_{name}"), x, value, derivative)
    judge(row, 0, x, value)
    judge(row, 1, x, derivative)
    nan, one, two = np.array([math.nan]), np.zeros(1), np.zeros(1)
    call(getattr(libraries["float64"], f"run_{name}"), nan, one, two)
    assert np.isnan([one[0], two[0]]).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_single_precision_is_the_exact_value_rounded(name, libraries):
    row = activation(FORMULAS[name])
    with np.errstate(over="ignore"):
        x = points_of(row).astype(np.float32)
    x = np.unique(x[np.isfinite(x)])
    value, derivative = np.full_like(x, np.nan), np.full_like(x, np.nan)
    call(getattr(libraries["float32"], f"run_{name}"), x, value, derivative)
    judge(row, 0, x, value, dtype="float32")
    judge(row, 1, x, derivative, dtype="float32")
    upstream, dx = np.linspace(-1, 2, x.size, dtype=np.float32), np.empty_like(x)
    call(getattr(libraries["float32"], f"back_{name}"), x, upstream, dx)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(dx, upstream * derivative, rtol=3e-7, atol=1e-44)


def test_in_place_and_without_entries(libraries):
    x = np.linspace(-3, 3, 41)
    value, derivative = np.empty_like(x), np.empty_like(x)
    call(libraries["float64"].run_tanh, x, value, derivative)
    again = x.copy()
    call(libraries["float64"].run_tanh, again, again, np.empty_like(x))
    assert np.array_equal(again, value)
    call(libraries["float64"].run_tanh, x[:0].copy(), value[:0].copy(), value[:0].copy())


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_nvcc_compiles_every_formula_without_a_warning(dtype, tmp_path):
    sources = [activation_source(activation(spec), "cuda", 2, dtype) for spec in FORMULAS.values()]
    (tmp_path / "all.cu").write_text("\n".join(sources), encoding="utf-8")
    flags = ["-arch=sm_90", "-fmad=false", "-Werror", "all-warnings", "-ptx"]
    built([program("nvcc"), *flags, str(tmp_path / "all.cu"), "-o", os.devnull])


@pytest.mark.parametrize("spec", CASES)
def test_golden(spec):
    printed = activation_source(activation(spec), "cuda")
    path = GOLDEN / f"{spec}_cuda.cu.txt"
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FORMULAS)
def test_on_a_gpu(name, dtype):
    cupy = pytest.importorskip("cupy")
    row = activation(FORMULAS[name])
    module = cupy.RawModule(code=activation_source(row, "cuda", 1, dtype), options=("-std=c++17", "-fmad=false"))
    with np.errstate(over="ignore"):
        points = points_of(row).astype(dtype)
    points = np.unique(points[np.isfinite(points)])
    x, upstream = cupy.asarray(points), cupy.linspace(-1, 2, points.size, dtype=dtype)
    value, derivative, dx = (cupy.full_like(x, np.nan) for _ in range(3))
    count = np.uint64(x.size)
    module.get_function(f"{name}_kernel")((3,), (32,), (count, x, value, derivative))
    module.get_function(f"{name}_backward_kernel")((3,), (32,), (count, x, upstream, dx))
    extra = GPU_EXTRA if dtype == "float64" else 0.0
    judge(row, 0, points, cupy.asnumpy(value), extra, dtype)
    judge(row, 1, points, cupy.asnumpy(derivative), extra, dtype)
    with np.errstate(all="ignore"):
        expected = cupy.asnumpy(upstream) * cupy.asnumpy(derivative)
        np.testing.assert_allclose(cupy.asnumpy(dx), expected, rtol=3e-7, atol=1e-44)
