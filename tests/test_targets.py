"""Printed source of every target: golden files, and compiled and run against exact balls at kinks and tails.

After a change of a printer, write the golden files anew and read the difference:

    BACKPROOF_GOLDEN=write python -m pytest tests/test_targets.py -k golden
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics.accuracy import FORMATS, STEPWISE, bound, exact_function, ulp_error
from backproof.numerics.emission import TARGETS, activation_source
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.enclosures import enclose
from backproof.theory.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
SUFFIX = {"c": "c", "torch": "py", "jax": "py"}
CASES = [(spec, target) for target in SUFFIX for spec in ("leaky_relu", "tanh")]
ROWS = [*ACTIVATIONS, "x*tanh(log(1+exp(x)))", "elu(alpha=2)"]
TAILS = (0.0, 1e-300, 1e-8, 0.3, 1.0, 2.5, 6.0, 17.0, 40.0, 745.0, 1e5, 1e155)
#: Units in the last place beyond the promise for NumPy: what these libraries' own functions may add.
EXTRA = {"c": 0.0, "torch": 2.0, "jax": 2.0}
EXTRA_REASON = "torch's vectorised and XLA's own exp, log1p and tanh err by up to 2 ULP where glibc errs by less than 1"


def points_of(row):
    kinks = [float(enclose(k, digits=17).mid()) for k in row.kinks]
    beside = [math.nextafter(k, side) for k in kinks for side in (-math.inf, math.inf)]
    return np.array(sorted({*(s * t for t in TAILS for s in (1, -1)), *kinks, *beside}))


def judge(row, order, points, computed, target):
    exact = exact_function(row, order)
    promised = (bound(row, "float64", order, "numpy") or STEPWISE[order]) + EXTRA[target]
    for point, value in zip(points.tolist(), np.asarray(computed).tolist(), strict=True):
        error, ball = ulp_error(value, exact(point), FORMATS["float64"])
        flushed = target == "jax" and abs(ball) < 2.3e-308 and value == 0  # XLA on the CPU flushes subnormals to 0
        assert error <= promised or flushed, f"{row.name}, order {order}, at {point!r}: {value!r}, off by {error} ULP"


@pytest.mark.parametrize(("spec", "target"), CASES)
def test_golden(spec, target):
    printed = activation_source(activation(spec), target)
    path = GOLDEN / f"{spec}_{target}.{SUFFIX[target]}.txt"
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------- C


def compiled(source, folder, name="source", *, flags=()):
    """The library that the system compiler makes of ``source``; any warning is an error."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    path = folder / f"{name}.c"
    path.write_text(source, encoding="utf-8")
    command = [compiler, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags]
    done = subprocess.run(
        [*command, "-o", str(path.with_suffix(".so")), str(path), "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:2000]
    return ctypes.CDLL(str(path.with_suffix(".so")))


def c_name(row):
    return "f" if row.title == "formula in x" else row.name.split("(")[0]


@pytest.fixture(scope="module")
def c_library(tmp_path_factory):
    sources = [activation_source(activation(name), "c") for name in ROWS if name != "elu(alpha=2)"]
    return compiled("\n".join(sources), tmp_path_factory.mktemp("c"))


def call_c(library, name, points, kind=ctypes.c_double):
    arrays = [np.ascontiguousarray(points), np.empty_like(points), np.empty_like(points)]
    pointer = ctypes.POINTER(kind)
    function = getattr(library, name + "_", None) or getattr(library, name)  # tanh alone is the C library's own
    function(ctypes.c_size_t(points.size), *(a.ctypes.data_as(pointer) for a in arrays))
    return arrays[1:]


@pytest.mark.parametrize("name", [r for r in ROWS if r != "elu(alpha=2)"])
def test_c_against_exact_balls(name, c_library):
    row = activation(name)
    points = points_of(row)
    for order, computed in enumerate(call_c(c_library, c_name(row), points)):
        judge(row, order, points, computed, "c")
    nan = call_c(c_library, c_name(row), np.array([math.nan]))
    assert all(np.isnan(v[0]) for v in nan)


def test_c_backward_is_upstream_times_derivative(c_library):
    x, upstream, dx = np.linspace(-3, 3, 7), np.arange(1.0, 8.0), np.empty(7)
    pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in (x, upstream, dx)]
    c_library.gelu_backward(ctypes.c_size_t(7), *pointers)
    assert np.array_equal(dx, upstream * call_c(c_library, "gelu", x)[1])


@pytest.mark.parametrize("name", ["silu", "hardshrink", "identity", "step"])
def test_c_single_precision_and_two_derivatives(name, tmp_path):
    row = activation(name)
    library = compiled(activation_source(row, "c", 1, "float32"), tmp_path)
    points = np.array([-80.0, -1.5, 0.0, 0.5, 2.0, 80.0], dtype=np.float32)
    for order, computed in enumerate(call_c(library, name, points, ctypes.c_float)):
        exact = exact_function(row, order)
        for p, v in zip(points.tolist(), computed.tolist(), strict=True):
            assert ulp_error(v, exact(p), FORMATS["float32"])[0] <= 0.51
    compiled(activation_source(row, "c", 2), tmp_path, "two")
    compiled(activation_source(row, "c", 0), tmp_path, "none")


# ------------------------------------------------------------------------------------------------- PyTorch and JAX


def module_of(source):
    namespace: dict = {"__name__": "printed"}
    exec(compile(source, "<printed>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", ROWS)
def test_torch_against_exact_balls(name):
    torch = pytest.importorskip("torch")
    row = activation(name)
    function = module_of(activation_source(row, "torch"))[c_name(row)]
    x = torch.tensor(points_of(row), dtype=torch.float64, requires_grad=True)
    value = function(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    judge(row, 0, x.detach().numpy(), value.detach().numpy(), "torch")
    judge(row, 1, x.detach().numpy(), slope.numpy(), "torch")
    nan = torch.tensor([math.nan], requires_grad=True)
    assert torch.isnan(function(nan)).all()
    assert function(nan).dtype == torch.float32


@pytest.mark.parametrize("name", ["gelu", "tanh", "softplus", "elu"])
def test_torch_twice(name):
    torch = pytest.importorskip("torch")
    row = activation(name)
    function = module_of(activation_source(row, "torch", 2))[c_name(row)]
    x = torch.tensor([-30.0, -1.25, 0.75, 2.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    judge(row, 1, x.detach().numpy(), slope.detach().numpy(), "torch")
    judge(row, 2, x.detach().numpy(), second.numpy(), "torch")


@pytest.mark.parametrize("name", ROWS)
def test_jax_against_exact_balls(name):
    jax = pytest.importorskip("jax")
    row = activation(name)
    function = module_of(activation_source(row, "jax"))[c_name(row)]
    points = points_of(row)
    points = points[(points == 0) | (np.abs(points) > 2.3e-308)]  # XLA on the CPU reads subnormals as 0
    x = jax.numpy.asarray(points, dtype="float64")
    value, pullback = jax.vjp(function, x)
    (slope,) = pullback(jax.numpy.ones_like(x))
    judge(row, 0, np.asarray(x), value, "jax")
    judge(row, 1, np.asarray(x), slope, "jax")
    assert jax.grad(function)(0.5) == pytest.approx(float(enclose(row.derivative(1), {row_symbol(): 0.5}).mid()))


def row_symbol():
    from backproof.theory.symbols import x

    return x


def test_jax_twice_and_under_jit():
    jax = pytest.importorskip("jax")
    row = activation("gelu")
    function = module_of(activation_source(row, "jax", 2))["gelu"]
    points = np.array([-3.0, 0.25, 1.5])
    second = jax.jit(jax.vmap(jax.grad(jax.grad(function))))(jax.numpy.asarray(points))
    judge(row, 2, points, second, "jax")


# --------------------------------------------------------------------------------------------------------- wrong input


def test_the_judge_finds_a_wrong_derivative():
    row = activation("tanh")
    points = points_of(row)
    with pytest.raises(AssertionError, match="off by"):
        judge(row, 1, points, 1 - np.tanh(points) ** 2 + 1e-12, "torch")


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_a_backward_pass_needs_a_derivative(target):
    with pytest.raises(InputError, match="at least one derivative"):
        activation_source(activation("relu"), target, 0)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_from_the_command_line(target, tmp_path, capsys):
    path = tmp_path / "out.txt"
    assert run(["emit", "x/(1+x**2)", "--target", target, "--output", str(path)]) == 0
    assert "f" in path.read_text()
    assert run(["emit", "relu", "--target", "cobol"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_text_ends_a_comment_early():
    from backproof.numerics.targets.c import comment

    assert comment("a */ int b; /* c").count("*/") == 1
