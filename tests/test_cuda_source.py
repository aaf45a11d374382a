"""Printed CUDA kernels: kept as golden files, and compiled to NVIDIA's intermediate code where numba-cuda is installed.

BACKPROOF_GOLDEN=write python -m pytest tests/test_cuda_source.py -k golden
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import sympy

from backproof.numerics.cuda_arrays import View
from backproof.numerics.cuda_kernels import head_of
from backproof.numerics.kernels import kernel
from backproof.numerics.targets.cuda import print_advance, print_source
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.lowering import lower

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "relu_cuda": ("relu", (0,), "float64"),
    "silu_cuda": ("silu", (0, 1), "float32"),
    "sin_cuda": ("sin", (0, 1), "float32"),
    "softplus_cuda": ("softplus", (1,), "float64"),
}
needs_compiler = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    name, orders, dtype = CASES[case]
    printed = kernel(name, dtype, "cuda").path_of(orders).read_text(encoding="utf-8")
    path = GOLDEN / f"{case}.py.txt"
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


theta, g, t, h0 = sympy.symbols("theta g t h0", real=True)


def test_an_update_reads_what_depends_on_the_step_from_the_gpu():
    program = lower({"theta": theta - h0 * g}, (theta, g, h0))
    printed = print_source(program, dtype="float32", loaded=["h0"])
    assert "def run(theta, g, per_step, theta_out, head):\n    h0 = per_step[0]\n" in printed
    assert "def run_each(theta, g, per_step, theta_out):\n    h0 = per_step[0]\n" in printed
    advance = print_advance(lower({"h0": 1 - sympy.Rational(9, 10) ** t, "h1": t**2}, (t,)))
    assert "per_step[0], per_step[1] = entry(count[0])" in advance


def test_what_the_target_cannot_store_is_refused():
    with pytest.raises(Unsupported, match="stores float64, float32, float16, bfloat16, not int8"):
        print_source(lower({"y": 2 * theta}, (theta,)), dtype="int8")


# ------------------------------------------------------------------------------------------------- intermediate code


def _operations(ptx: str) -> list[str]:
    """The instructions, without declarations."""
    return re.findall(r"^\s+(?:@!?%p\d+\s+)?([a-z][\w.]*)", ptx, re.MULTILINE)


def _checked(name: str, dtype: str) -> list[str]:
    ptx = kernel(name, dtype, "cuda").ptx((0, 1, 2))
    found = _operations(ptx)
    vector = {"float32": "v4.f32", "float64": "v2.f64"}[dtype]
    assert f"ld.global.{vector}" in found
    stores = found.count(f"st.global.{vector}")
    assert stores > 0
    assert stores % 3 == 0  # short loops are unrolled
    assert not [o for o in found if ".approx" in o or ".ftz" in o]  # nothing is quick at the price of digits
    if dtype == "float64" and name in ("sin", "cos"):
        return found  # libdevice keeps the digits of 2/π in local memory for |x| > 10⁵
    # A product that is not said to be rounded could be fused; those by powers of two (from divisions) are exact.
    assert not [p for p in re.findall(r"\smul\.f(?:32|64)\s.*", ptx) if not re.search(r"0d[0-9A-F]{3}0+;", p)]
    assert ".local" not in ptx
    assert ".func" not in ptx
    return found


QUICK = ("relu", "gelu", "mish", "sin", "tanh", "erf", "softplus", "arctan")


@needs_compiler
@pytest.mark.parametrize(
    "name", [n if n in QUICK[1:4] else pytest.param(n, marks=pytest.mark.slow) for n in ACTIVATIONS]
)
def test_fast_kernels_have_no_float64_instruction(name):
    fast = kernel(name, "float32", "cuda", precision="fast")
    if not fast.arithmetic((0, 1)).startswith("float32"):  # said to be computed in float64
        assert fast.path_of((0, 1)) == kernel(name, "float32", "cuda").path_of((0, 1))
        return
    ptx = fast.ptx((0, 1))
    assert not [o for o in _operations(ptx) if "f64" in o]
    assert ".local" not in ptx
    assert ".func" not in ptx


@needs_compiler
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ACTIVATIONS])
def test_every_row_compiles_for_an_h100(name):
    _checked(name, "float32")


@needs_compiler
@pytest.mark.parametrize(
    "name", [n if n in QUICK[:4] else pytest.param(n, marks=pytest.mark.slow) for n in ACTIVATIONS]
)
def test_every_row_compiles_for_an_h100_in_float64(name):
    _checked(name, "float64")


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_computed_in_float32(dtype):
    found = _operations(kernel("tanh", dtype, "cuda").ptx((0, 1)))
    assert not [o for o in found if "f64" in o]
    assert [o for o in found if re.fullmatch(r"ld\.global\.v4\.\w16", o)]


@needs_compiler
def test_products_and_sums_are_fused_only_where_written():
    ptx = kernel("x*x + 3*x**3", "float64", "cuda").ptx((0,))
    written = kernel("x*x + 3*x**3", "float64", "cuda").path_of((0,)).read_text(encoding="utf-8")
    assert set(re.findall(r"fma\.\w+\.f64", ptx)) <= ({"fma.rn.f64"} if "fma(" in written else set())


@needs_compiler
def test_the_counting_kernels_compile():
    from numba import cuda, types

    from backproof.numerics import device_counting
    from backproof.numerics.cuda_kernels import _compiling_for

    single, double, whole = types.float32[::1], types.float64[::1], types.int64
    with _compiling_for((9, 0)):
        code, _ = cuda.compile_ptx(device_counting.fill.py_func, (single, double, whole, whole), cc=(9, 0))
        counts = (single, single, double, types.float64, types.int64[:, ::1], double, double, double)
        counting, _ = cuda.compile_ptx(device_counting.count.py_func, counts, cc=(9, 0))
    assert ".local" not in code + counting


# ----------------------------------------------------------------------------------------------------------- arrays


def _view(array: np.ndarray, address: int = 4096) -> View:
    return View(address, array.shape, array.strides, array.dtype.name)


@pytest.mark.parametrize(
    ("array", "order"),
    [
        (np.zeros((3, 4)), "C"),
        (np.zeros((3, 4)).T, "F"),
        (np.zeros((3, 4))[:, ::2], None),
        (np.zeros((3, 4))[::2], None),
        (np.zeros((1, 4))[:, ::2], None),
        (np.zeros((3, 1, 4)), "C"),
        (np.zeros((3, 4))[1:2], "C"),
        (np.zeros((0, 4))[:, ::2], "C"),
        (np.zeros((2, 3, 4)).transpose(0, 2, 1), None),
        (np.zeros(5)[::-1], None),
    ],
)
def test_memory_order_of_a_view(array, order):
    assert _view(array).order == order


def test_overlapping_views():
    line = np.zeros(8, np.float32)
    assert _view(line).overlaps(_view(line, 4096 + 28))
    assert not _view(line).overlaps(_view(line, 4096 + 32))
    assert not _view(line[:0]).overlaps(_view(line))


@pytest.mark.parametrize(
    ("addresses", "head"), [((4096, 8192), 0), ((4100, 8196), 3), ((4100, 8192), None), ((4098,), None)]
)
def test_entries_before_the_first_aligned_one(addresses, head):
    assert head_of([View(a, (9,), None, "float32") for a in addresses]) == head


def test_without_a_gpu_one_line_says_so():
    from backproof.numerics.cuda_kernels import device_reason

    if not device_reason():
        pytest.skip("there is a GPU")
    with pytest.raises(Unsupported, match="the target cuda cannot run here"):
        kernel("gelu", "float32", "cuda")(np.ones(3, np.float32))
    with pytest.raises(InputError, match="target"):
        kernel("gelu", target="cudas")
