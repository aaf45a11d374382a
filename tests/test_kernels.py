"""Kernels as arrays see them: shapes, layouts, dtypes, the cache on disk, several processes at once."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backproof.numerics.compiled import SMALLEST_SHARED
from backproof.numerics.fast import LARGEST, distance, every_float, ulp_errors
from backproof.numerics.kernels import compile_elementwise, kernel
from backproof.numerics.targets.printing import identifier, literal
from backproof.numerics.vjp import vjp_run
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.symbols import x


@pytest.fixture(scope="module")
def silu():
    return kernel("silu")


def _expected(v):
    return v / (1 + np.exp(-v))


# ------------------------------------------------------------------------------------------------------ shapes, layouts


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0, 2), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_any_shape(shape, target):
    k = kernel("silu", target=target)
    points = np.linspace(-3, 3, int(np.prod(shape))).reshape(shape) if shape else np.float64(0.7)
    assert np.shape(k(points)) == shape
    np.testing.assert_allclose(k(points), _expected(points), rtol=1e-14)
    value, derivative = k.value_and_derivative(points)
    assert np.shape(value) == np.shape(derivative) == shape


@given(hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=6), elements=st.floats(-20, 20)), st.data())
@settings(max_examples=60, deadline=None)
def test_any_strides(points, data):
    k = kernel("silu")
    view = points[tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1]))) for _ in points.shape)]
    view = view.transpose(data.draw(st.permutations(range(view.ndim))))
    before = view.copy()
    np.testing.assert_allclose(k(view), _expected(before), rtol=1e-13, atol=1e-300)
    out = np.empty(view.shape[::-1]).T
    assert k(view, out=out) is out
    np.testing.assert_array_equal(out, k(before))
    np.testing.assert_array_equal(view, before)


def test_fortran_order_is_kept_and_nothing_contiguous_is_copied(silu, monkeypatch):
    points = np.asfortranarray(np.random.default_rng(0).normal(size=(50, 40)))
    assert silu(points).flags.f_contiguous
    from backproof.numerics import compiled

    seen = []
    original = compiled._run_shared
    monkeypatch.setattr(compiled, "_run_shared", lambda run, i, o: seen.append((i, o)) or original(run, i, o))
    out = np.empty_like(points)
    silu(points, out=out)
    ((inputs, outputs),) = seen
    assert np.shares_memory(inputs[0], points)
    assert np.shares_memory(outputs[0], out)


def test_in_place_and_overlapping(silu):
    points = np.linspace(-2, 2, 1001)
    expected = silu(points)
    copy = points.copy()
    assert silu(copy, out=copy) is copy
    np.testing.assert_array_equal(copy, expected)
    shifted = points.copy()
    silu(shifted[:-1], out=shifted[1:])  # overlaps, entry by entry shifted
    np.testing.assert_array_equal(shifted[1:], expected[:-1])


@pytest.mark.parametrize("order", [0, 1])
def test_the_short_way_with_out_is_the_long_one(silu, order):
    points = np.linspace(-3, 3, 50)
    expected, out = silu.derivative(points, order), np.empty(50)
    assert silu.derivative(points, order, out=out) is out
    np.testing.assert_array_equal(out, expected)
    strided, aliased = np.empty(100)[::2], points.copy()
    for source, target in ((points, strided), (aliased, aliased), (points.reshape(5, 10), np.empty((5, 10)))):
        assert silu.derivative(source, order, out=target) is target
        np.testing.assert_array_equal(target.reshape(-1), expected)
    locked = np.empty(50)
    locked.flags.writeable = False
    for wrong in (locked, np.empty(49), np.empty(50, np.float32), [0.0] * 50):
        with pytest.raises(InputError):
            silu.derivative(points, order, out=wrong)


def test_out_pairs(silu):
    points = np.linspace(-2, 2, 30)
    pair = np.empty(30), np.empty(30)
    value, derivative = silu.value_and_derivative(points, out=pair)
    assert value is pair[0]
    assert derivative is pair[1]
    interleaved = np.empty((30, 2))
    silu.value_and_derivative(points, out=(interleaved[:, 0], interleaved[:, 1]))
    np.testing.assert_array_equal(interleaved.T, pair)
    np.testing.assert_array_equal(derivative, silu.derivative(points))
    with pytest.raises(InputError, match="share memory"):
        silu.value_and_derivative(points, out=(pair[0], pair[0]))
    with pytest.raises(InputError, match="pair"):
        silu.value_and_derivative(points, out=pair[0])


def test_large_arrays_are_shared_over_threads(silu, monkeypatch):
    from backproof.numerics import compiled, sharing

    for module in (compiled, sharing):
        monkeypatch.setattr(module, "processors", lambda: 4)
    points = np.random.default_rng(1).normal(size=3 * SMALLEST_SHARED + 17)
    threads = set()
    run = silu._run((0,))

    def spy(*arrays):
        threads.add(threading.get_ident())
        time.sleep(0.01)
        run(*arrays)

    monkeypatch.setitem(silu._runs, (0,), spy)
    result = silu(points)
    assert len(threads) > 1
    monkeypatch.setitem(silu._runs, (0,), run)
    np.testing.assert_array_equal(result, np.concatenate([silu(part) for part in np.array_split(points, 5)]))


@pytest.mark.parametrize("size", [SMALLEST_SHARED - 1, SMALLEST_SHARED, SMALLEST_SHARED + 1, 1_000_003])
def test_every_size_in_place_and_apart(silu, monkeypatch, size):
    from backproof.numerics import compiled

    monkeypatch.setattr(compiled, "processors", lambda: 2)
    points = np.random.default_rng(2).normal(size=size)
    expected = np.concatenate([silu(part) for part in np.array_split(points, 30)])
    np.testing.assert_array_equal(silu(points), expected)
    value, slope = silu.value_and_derivative(points)
    np.testing.assert_array_equal(value, expected)
    assert silu.derivative(points, out=points) is points
    np.testing.assert_array_equal(points, slope)


def test_read_only_input_is_fine_and_read_only_output_refused(silu):
    points = np.zeros(4)
    points.flags.writeable = False
    assert (silu(points) == 0).all()
    assert silu(points[:0]).shape == (0,)
    assert silu(np.broadcast_to(np.float64(2), (3, 2))).shape == (3, 2)
    with pytest.raises(InputError, match="read-only"):
        silu(np.zeros(4), out=points)


# --------------------------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("given_dtype", ["int64", "int8", "bool", "uint16", "float16", "float32"])
def test_exact_conversions_are_made(silu, given_dtype):
    result = silu(np.array([0, 1], dtype=given_dtype))
    assert result.dtype == np.float64
    assert result[1] == silu(1.0)


def test_lossy_and_foreign_input_is_refused(silu):
    with pytest.raises(InputError, match="float64, the kernel is float32"):
        kernel("silu", "float32")(np.zeros(3))
    for bad in (np.zeros(3, complex), np.array(["a"]), np.array([None]), "x"):
        with pytest.raises(InputError, match="real numbers"):
            silu(bad)
    with pytest.raises(InputError, match="result is"):
        silu(np.zeros(3), out=np.zeros(4))
    with pytest.raises(InputError, match="result is"):
        silu(np.zeros(3), out=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="must be an array"):
        silu(np.zeros(3), out=[0, 0, 0])


def test_big_endian_input(silu):
    points = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(silu(points.astype(">f8")), silu(points))


def test_float32_is_rounded_once():
    k32, k64 = kernel("gelu", "float32"), kernel("gelu")
    points = np.random.default_rng(2).normal(0, 3, 5_000).astype(np.float32)
    assert k32(points).dtype == np.float32
    wide = k64(points.astype(np.float64)).astype(np.float32)
    assert (k32(points) == wide).mean() > 0.9999


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_targets_agree(row):
    points = np.array([-1e300, -750, -40, -3, -1, -0.5, -1e-9, -0.0, 0, 1e-9, 0.5, 1, 3, 6, 40, 750, 1e300, np.nan])
    numpy, cpu = kernel(row, target="numpy"), kernel(row)
    for order in (0, 1, 2):
        mine = cpu._evaluate((0, 1, 2), points, (None,) * 3)[order]
        np.testing.assert_allclose(mine, numpy.derivative(points, order), rtol=3e-15, atol=1e-323)
        assert np.isnan(mine[-1])


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_stated_values_at_kinks(row):
    k = kernel(row, target="numpy")
    for kink in row.at_kinks:
        assert k.derivative(float(kink.position)) == float(kink.derivative)
        assert k(float(kink.position)) == float(kink.value)


def test_wrong_requests():
    with pytest.raises(InputError, match="float64"):
        kernel("relu", "float8")
    with pytest.raises(InputError, match="int64"):
        kernel("relu", int)
    assert kernel("relu", np.dtype("float32")) is kernel("relu", np.float32)
    assert kernel("relu", np.float16).dtype == "float16"
    with pytest.raises(InputError, match="target"):
        kernel("relu", target="gpu")
    with pytest.raises(InputError, match="order"):
        kernel("relu").derivative(1.0, n=-1)
    with pytest.raises(InputError, match="no parameter"):
        kernel("relu", slope=2)


def test_parameters_bind():
    assert kernel("leaky_relu", slope="0.25")(-4.0) == -1.0
    assert kernel("swish", beta=2)(1.0) == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-15)


# ---------------------------------------------------------------------------------------------------------------- cache

SCRIPT = """
    import sys, time
    import numpy as np
    from backproof.numerics.kernels import kernel
    import backproof.numerics.kernels as kernels
    start = time.perf_counter()
    k = kernel("x/(1+exp(-x))")
    print(repr(float(k(np.array([0.5]))[0])))
    from numba.core import event
    import importlib
    print(k._runs[(0,)].stats.cache_hits.__len__() and "hit" or "compiled")
"""


def _spawn(folder):
    environment = os.environ | {"BACKPROOF_CACHE": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_compiles_nothing_and_several_may_start_at_once(tmp_path):
    first = [_spawn(tmp_path) for _ in range(3)]
    told = [p.communicate(timeout=120) for p in first]
    assert all(p.returncode == 0 for p in first), told
    assert len({out.splitlines()[0] for out, _ in told}) == 1
    files = sorted(f.name for f in tmp_path.glob("*.py"))
    assert len(files) == 1
    stamp = (tmp_path / files[0]).stat().st_mtime_ns
    out, err = _spawn(tmp_path).communicate(timeout=60)
    assert out.splitlines()[1] == "hit", err
    assert (tmp_path / files[0]).stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob(".*"))  # no temporary file is left


def test_source_and_path_are_readable(silu):
    assert silu.path.read_text(encoding="utf-8") == silu.source
    assert silu.source.startswith('"""f, f′ of silu')
    assert silu.path.name.startswith("silu_d0_d1_float64_cpu_")


def test_an_unwritable_cache_falls_back(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKPROOF_CACHE", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("not a folder")
    assert kernel("x*sigmoid(3*x)", target="numpy")(0.0) == 0


def test_hostile_names_stay_out_of_the_source():
    assert identifier("lambda") == "lambda_"
    assert identifier("a; import os") == "a__import_os"
    evil = sympy.Symbol('x"""\nimport os')
    update = compile_elementwise({"y": 2 * evil}, (evil,))
    assert update(np.ones(2))["y"].tolist() == [2, 2]


def test_literals_are_rounded_to_nearest():
    assert literal(sympy.Rational(1, 3)) == repr(1 / 3)
    assert float(literal(sympy.pi)) == np.pi
    assert float(literal(sympy.sqrt(2) * sympy.pi)) == 4.442882938158366


# ---------------------------------------------------------------------------------------------------- several arguments

theta, g, eta = sympy.symbols("theta g eta", real=True)


def test_elementwise_update_in_place():
    update = compile_elementwise({"theta": theta - eta * g, "g2": g**2}, (theta, g, eta))
    weights, gradient = np.ones((3, 4)), np.full((3, 4), 2.0)
    result = update(weights, gradient, 0.25, out={"theta": weights})
    assert result["theta"] is weights
    assert (weights == 0.5).all()
    assert (result["g2"] == 4).all()
    assert update(1.0, 2.0, 0.25) == {"theta": 0.5, "g2": 4.0}
    mixed = update(np.asfortranarray(weights), gradient, 0.25)
    assert (mixed["theta"] == 0).all()


def test_elementwise_piecewise_and_float32():
    huber = sympy.Piecewise((theta**2 / 2, sympy.Abs(theta) <= 1), (sympy.Abs(theta) - sympy.Rational(1, 2), True))
    loss = compile_elementwise({"loss": huber}, (theta,), "float32")
    result = loss(np.array([-3, 0.5, 2], np.float32))["loss"]
    assert result.dtype == np.float32
    assert result.tolist() == [2.5, 0.125, 1.5]


def test_elementwise_refuses():
    update = compile_elementwise({"theta": theta - g}, (theta, g))
    with pytest.raises(InputError, match="2 arguments"):
        update(np.ones(2))
    with pytest.raises(InputError, match="shape"):
        update(np.ones(2), np.ones(3))
    with pytest.raises(InputError, match="result"):
        update(np.ones(2), np.ones(2), out={"thta": np.ones(2)})
    with pytest.raises(Unsupported, match="eta"):
        compile_elementwise({"theta": theta - eta}, (theta,))
    with pytest.raises(InputError, match="at least one"):
        compile_elementwise({}, (theta,))
    with pytest.raises(Unsupported, match="gamma"):
        compile_elementwise({"y": sympy.gamma(x)}, (x,))


# ------------------------------------------------------------------------------------------------------ precision fast


#: Rows of exponentials, and one that has none, of which every float32 form does; the others' take longer to compile.
FAST = ["gelu", "gelu_tanh", "mish", "sigmoid", "selu", "softsign"]
SLOWLY = ["quick_gelu", "silu", "tanh", "softplus", "log_sigmoid", "elu", "tanhshrink", "gaussian", "erf", "arctan"]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWLY)])
def test_fast_kernels_compute_in_float32_and_stay_within_four_ulp(name):
    fast, double = kernel(name, "float32", precision="fast"), kernel(name, "float64")
    assert fast.arithmetic().startswith("float32")
    points = every_float(4093)
    with np.errstate(all="ignore"):
        exact = double.value_and_derivative(points.astype(np.float64))
        for computed, reference in zip(fast.value_and_derivative(points), exact, strict=True):
            unit = np.maximum(np.abs(np.spacing(reference.astype(np.float32)).astype(np.float64)), 2.0**-149)
            errors = np.abs(computed.astype(np.float64) - reference) / unit
            assert np.nanmax(np.where(np.isinf(computed), 0, errors)) <= 4
            assert distance(computed, reference.astype(np.float32)).max() <= 4
    text = fast.path_of((0, 1)).read_text(encoding="utf-8")
    assert "float64" not in text


@pytest.mark.parametrize(("name", "why"), [("x/(1+x**2)**3", "off by"), ("sin", "C library")])
def test_where_float32_does_not_do_the_default_kernel_is_used_and_says_so(name, why):
    fast, default = kernel(name, "float32", precision="fast"), kernel(name, "float32")
    assert fast.arithmetic().startswith("float64")
    assert why in fast.arithmetic()
    assert fast.path_of((0, 1)) == default.path_of((0, 1))


def test_fast_kernels_overflow_where_the_exact_value_does():
    """A scale that is no float is two of them: rounded to one, the product would be ∞ some floats too early."""
    fast, wide = kernel("selu", "float32", precision="fast"), kernel("selu", "float64")
    bits = np.float32(3.4028235e38 / 1.0507).view(np.uint32)
    points = np.arange(bits - 2_000, bits + 2_000, dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        exact = wide(points.astype(np.float64)).astype(np.float32)
    assert np.isinf(exact).any()
    assert not np.isinf(exact).all()
    np.testing.assert_array_equal(np.isinf(fast(points)), np.isinf(exact))


@pytest.mark.parametrize("formula", ["1/(1+exp(-x))**3", "x*exp(-x**4)", "x**2/(1+exp(-x))"])
def test_formulas_nobody_has_seen_are_fast_and_right(formula):
    """The third power of an exponential, an exponent of degree 4, two sides that differ by x²."""
    fast, wide = kernel(formula, "float32", precision="fast"), kernel(formula, "float64")
    assert fast.arithmetic((0, 1)).startswith("float32")
    points = np.random.default_rng(1).normal(0, 12, 20_001).astype(np.float32)
    points[:4] = [0, np.inf, -np.inf, np.nan]
    for computed, exact in zip(
        fast.value_and_derivative(points), wide.value_and_derivative(points.astype(float)), strict=True
    ):
        assert ulp_errors(computed, exact).max() <= 4


def test_errors_in_ulp_of_what_is_no_number_and_at_the_ends_of_the_range():
    least, largest = 2.0**-149, float(np.finfo(np.float32).max)
    cases = [  # exact, computed, ULP
        (1.0, 1 + 2.0**-23, 1.0), (1 - 2.0**-25, 1.0, 0.5), (0.4 * least, 0.0, 0.4), (1.5 * least, 2 * least, 0.5),
        (np.nan, np.nan, 0.0), (np.nan, 1.0, np.inf), (1.0, np.nan, np.inf), (np.inf, np.inf, 0.0),
        (np.inf, -np.inf, np.inf), (LARGEST, np.inf, 0.0), (LARGEST * (1 - 2.0**-50), np.inf, np.inf),
        (1.01 * LARGEST, largest, np.inf),
    ]  # fmt: skip
    exact, computed, wanted = (np.array(column, dtype=np.float64) for column in zip(*cases, strict=True))
    found = ulp_errors(computed.astype(np.float32), exact)
    assert found.tolist()[:-1] == pytest.approx(wanted.tolist()[:-1])
    assert found[-1] > 0.5  # a number where ∞ is right
    alone = [ulp_errors(computed[k : k + 1].astype(np.float32), exact[k : k + 1])[0] for k in range(len(exact))]
    assert alone == found.tolist()


def test_distance_counts_floats_and_tells_nan_from_a_number():
    ones = np.float32([1.0, 0.0, np.nan, np.nan, -1e-45, np.inf])
    others = np.float32(
        [np.nextafter(np.float32(1), np.float32(2)), -0.0, np.nan, 1.0, 1e-45, np.finfo(np.float32).max]
    )
    assert distance(ones, others).tolist() == [1, 0, 0, 2**32, 2, 1]


@pytest.mark.parametrize(("dtype", "target"), [("float64", "cpu"), ("float32", "numpy")])
def test_fast_is_for_compiled_float32(dtype, target):
    with pytest.raises(InputError, match="precision fast is for float32 on the targets cpu and cuda"):
        kernel("silu", dtype, target, precision="fast")
    with pytest.raises(InputError, match="precision"):
        kernel("silu", "float32", precision="quick")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["relu", "gelu", "mish", "hard_swish", "sin"])
def test_vjp_and_jet(name, dtype):
    x, dy = np.random.default_rng(0).normal(0, 3, (2, 40, 25)).astype(dtype)
    k, wide = kernel(name, dtype), kernel(name)
    jet = k.jet(x)
    assert len(jet) == 3
    for n, values in enumerate(jet):
        np.testing.assert_allclose(values, k.derivative(x, n), rtol=1e-6 if dtype == "float32" else 1e-14)
    exact = dy.astype(float) * wide.derivative(x.astype(float))
    np.testing.assert_allclose(k.vjp(x, dy), exact, rtol=2.0**-24 * 1.001 if dtype == "float32" else 1e-14)
    np.testing.assert_array_equal(k.vjp(x.T, dy.T), k.vjp(x, dy).T)
    np.testing.assert_array_equal(k.vjp(x, np.asfortranarray(dy)), k.vjp(x, dy))
    for place in (0, 1):
        pair = [x.copy(), dy.copy()]
        assert k.vjp(*pair, out=pair[place]) is pair[place]
        np.testing.assert_array_equal(pair[place], k.vjp(x, dy))
    np.testing.assert_allclose(kernel(name, dtype, "numpy").vjp(x, dy), exact, rtol=1e-5)
    with pytest.raises(InputError, match="dy has shape"):
        k.vjp(x, dy[0])
    with pytest.raises(InputError, match="order of a jet"):
        k.jet(x, -1)


@pytest.mark.parametrize(("name", "fast"), [("sigmoid", True), ("sin", False)])
def test_vjp_of_a_fast_kernel_is_fast_where_its_derivative_is(name, fast):
    x = np.linspace(-80, 80, 4_001, dtype=np.float32)
    dy = np.cos(np.arange(x.size)).astype(np.float32)
    quick, default = kernel(name, "float32", precision="fast"), kernel(name, "float32")
    assert quick.arithmetic((1,)).startswith("float32") == fast
    found, exact = quick.vjp(x, dy), default.vjp(x, dy)
    assert int(distance(found, exact).max()) <= (5 if fast else 0)
    module = sys.modules[vjp_run(quick.activation, "float32", "fast").py_func.__module__]
    assert ("numba.float32(dy[i])" in inspect.getsource(module)) == fast
