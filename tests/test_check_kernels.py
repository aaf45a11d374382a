"""CUDA kernels handed to the checker: in Numba's simulator (another process: it is chosen at import), and on a GPU."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import math
from numba import cuda
from backproof.numerics import check
from backproof.theory.errors import InputError


@cuda.jit
def right(dy, x, dx):
    i = cuda.grid(1)
    if i < x.size:
        dx[i] = 2 * x[i] * dy[i]


@cuda.jit
def wrong(dy, x, w, dx, dw):
    i = cuda.grid(1)
    if i < x.size:
        dx[i] = dy[i] * w[i]
        dw[i] = dy[i] * w[i]


result = check(right, against="x**2")
assert result.passed and result.formula.grade == "MEASURED", str(result)
result = check(wrong, forward=lambda x, w: x * w, shapes={"x": 5, "w": 5})
assert result.gradients["w"] == "REFUTED", str(result)
assert "gradient with respect to x" in result.diagnosis[0], str(result)
try:
    check(right, forward=lambda a: a * a)
except InputError as error:
    assert "an array to write for each of" in str(error), error
else:
    raise AssertionError("accepted")
try:
    check(right)
except InputError as error:
    assert "give forward=" in str(error), error
print("done")
"""


def _run(simulated):
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1" if simulated else "0"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip().endswith("done"), done.stderr[-1500:]


def test_numba_kernels_in_the_simulator():
    pytest.importorskip("numba.cuda")
    _run(simulated=True)


@pytest.mark.cuda
def test_numba_kernels_on_the_gpu():
    _run(simulated=False)


@pytest.mark.cuda
def test_cupy_kernels():
    cupy = pytest.importorskip("cupy")
    from backproof.numerics import check

    square = cupy.ElementwiseKernel("T dy, T x", "T dx", "dx = 2 * x * dy", "dsquare")
    assert check(square, forward=lambda x: x * x, shapes={"x": 5}).passed
    assert check(square, forward=lambda x: x * x * x, shapes={"x": 5}).formula.failed
