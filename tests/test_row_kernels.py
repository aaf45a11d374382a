"""Row kernels: against balls and finite differences, over threads and shapes, and what is refused."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import flint
import numpy as np
import pytest

from backproof.numerics import row_kernels as module
from backproof.numerics.accuracy import FORMATS, product_bound, ulp_error
from backproof.numerics.emission import emit_layer
from backproof.numerics.exact_arrays import exact_array
from backproof.numerics.exact_scalars import lift
from backproof.numerics.gate_kernels import gate_of
from backproof.numerics.kernels import kernel
from backproof.numerics.product_accuracy import measure_gate
from backproof.numerics.row_kernels import row_kernel
from backproof.numerics.targets.numba_rows import print_rows
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.layers import LAYERS

NAMES = ("softmax", "log_softmax", "layer_norm", "rms_norm", "glu", "reglu", "swiglu")


def _inputs(name, dtype, rows=3, width=7, seed=0):
    rng = np.random.default_rng(seed)
    inputs = LAYERS[name].inputs
    return [rng.normal(0, 2, (rows, width) if len(i.indices) == 2 else width).astype(dtype) for i in inputs]


def _exact(name, dy, inputs):
    """Output and gradients by the printed NumPy source, run in balls."""
    scope = {}
    exec(emit_layer(name, "numpy")[1], scope)
    with flint.ctx.workprec(300):
        exact = [exact_array(a.astype(np.float64)) for a in inputs]
        gradients = scope["backward"](exact_array(dy.astype(np.float64)), *exact)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return [scope["forward"](*exact), *gradients]


def _worst(computed, exact, dtype):
    errors = []
    for value, ball in zip(np.ravel(computed).tolist(), np.asarray(exact).view(np.ndarray).ravel(), strict=True):
        error, _ = ulp_error(value, lambda ball=ball: lift(ball).value, FORMATS[dtype])
        errors.append(error)
    return max(errors)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_balls(name, dtype):
    inputs = _inputs(name, dtype)
    dy = np.random.default_rng(1).normal(size=inputs[0].shape).astype(dtype)
    compiled = row_kernel(name, dtype)
    gradients = compiled.vjp(dy, *inputs)
    computed = [compiled(*inputs), *(gradients if isinstance(gradients, tuple) else (gradients,))]
    for found, exact in zip(computed, _exact(name, dy, inputs), strict=True):
        if dtype == "float32":  # float64 steps, rounded once
            assert _worst(found, exact, dtype) <= 0.5001
        else:  # what cancels in a sum is lost: held against the largest entry
            balls = [lift(ball).value for ball in np.asarray(exact).view(np.ndarray).ravel()]
            errors = [abs(float(v) - b) for v, b in zip(found.ravel().tolist(), balls, strict=True)]
            assert float(max(errors).upper()) <= 8 * 2.0**-53 * max(abs(float(b)) for b in balls)


GATES = [name for name, row in LAYERS.items() if len(row.output_axes) == 2 and gate_of(row) is not None]


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gated_units_are_rounded_once_whatever_their_factors(name, dtype):
    for seed in (0, 1):
        for label, found in measure_gate(name, dtype, size=120, seed=seed).items():
            assert found.worst_ulp <= product_bound(name, dtype), (label, str(found))
            assert found.undecided == 0, label


def test_a_gate_that_is_infinite_or_closed():
    k, inf = row_kernel("swiglu"), np.inf
    a, b = np.array([inf, -inf, inf, np.nan, 2.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0, np.nan, -inf])
    np.testing.assert_array_equal(k(a, b), [inf, -inf, np.nan, np.nan, np.nan, 0.0])
    da, db = k.vjp(np.array([1.0, 0.0, 1.0, 1.0, 1.0, 0.0]), a, b)
    np.testing.assert_array_equal(np.isnan(da), [False] * 4 + [True, False])
    np.testing.assert_array_equal(db[:3], [inf, np.nan, inf])


def test_gated_units_of_any_layout_and_in_place():
    k, rng = row_kernel("swiglu", "float32"), np.random.default_rng(1)
    a, b, dy = (rng.normal(size=(3, 4, 5)).astype(np.float32) for _ in range(3))
    plain, (da, db) = k(a, b), k.vjp(dy, a, b)
    np.testing.assert_array_equal(k(np.asfortranarray(a), b), plain)
    for found, wanted in zip(k.vjp(dy, np.asfortranarray(a), b.transpose(0, 1, 2)), (da, db), strict=True):
        np.testing.assert_array_equal(found, wanted)
    copy = b.copy()
    assert k(a, copy, out=copy) is copy
    np.testing.assert_array_equal(copy, plain)
    large = [np.resize(v, 300_000) for v in (dy, a, b)]
    for found, wanted in zip(k.vjp(*large), (da, db), strict=True):
        np.testing.assert_array_equal(found, np.resize(wanted, 300_000))


def test_geglu_is_a_times_gelu_of_b():
    a, b = _inputs("geglu", "float32")
    dy, gelu = np.cos(a), kernel("gelu", "float32")
    da, db = row_kernel("geglu", "float32").vjp(dy, a, b)
    np.testing.assert_allclose(row_kernel("geglu", "float32")(a, b), a * gelu(b), rtol=3e-7)
    np.testing.assert_allclose(da, dy * gelu(b), rtol=3e-7)
    np.testing.assert_allclose(db, dy * a * gelu.derivative(b), rtol=3e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_every_exponential_is_evaluated_once(name):
    for function in row_kernel(name).source.split("def ")[1:]:
        assert len(re.findall(r"exp\(v", function)) == 1


def test_large_logits_do_not_overflow():
    x = np.array([[1e4, 0.0, -1e4], [-3e38, 3e38, 0.0], [88.0, 89.0, 90.0]], dtype=np.float32)
    with np.errstate(all="raise"):
        p = row_kernel("softmax", "float32")(x)
        y = row_kernel("log_softmax", "float32")(x)
    np.testing.assert_array_equal(p[:2], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(y[0], [0, -1e4, -2e4])
    assert np.isfinite(p).all()


@pytest.mark.parametrize("case", [("softmax", "float32"), ("layer_norm", "float64")])
def test_golden(case):
    """BACKPROOF_GOLDEN=write python -m pytest tests/test_row_kernels.py -k golden"""
    path = Path(__file__).parent / "golden" / f"rows_{'_'.join(case)}.py.txt"
    printed = row_kernel(*case).source  # what test_against_balls runs
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "dtype", "loops"),
    [
        ("softmax", "float32", (3, 3)),
        ("softmax", "float64", (3, 4)),
        ("log_softmax", "float64", (3, 3)),
        ("layer_norm", "float32", (3, 3)),
        ("rms_norm", "float32", (2, 2)),
    ],
)
def test_as_few_loops_as_sums_of_sums_allow(name, dtype, loops):
    functions = row_kernel(name, dtype).source.split("\ndef ")[1:]
    assert tuple(function.count("        for i_i in ") for function in functions) == loops


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("batch_norm", "before the rows are done"),
        ("batch_norm_inference", "no sum over the rows of products"),
        ("dense", "two indices"),
        ("attention", "two indices"),
        ("conv1d", "3 axes"),
    ],
)
def test_no_pass_row_by_row(name, said):
    with pytest.raises(Unsupported, match=said):
        print_rows(LAYERS[name], "float32")


def test_layers_without_sums():
    x, mask = np.arange(12.0).reshape(3, 4) - 5, np.eye(3, 4)
    drop = row_kernel("dropout")
    np.testing.assert_array_equal(drop(x, mask, rate=0.75), 4 * x * mask)
    np.testing.assert_array_equal(drop.vjp(x, x, mask, rate=0.75), 4 * x * mask)
    dx, dslope = row_kernel("prelu").vjp(x, x, np.full(4, 0.25))
    np.testing.assert_array_equal(dx, np.where(x > 0, x, x / 4))
    np.testing.assert_array_equal(dslope, (np.minimum(x, 0) ** 2).sum(axis=0))


def test_far_below_the_maximum_a_probability_is_subnormal_then_0():
    x = np.array([[0.0, -707.0, -720.0, -740.0, -745.2, -760.0, -1e308, -np.inf]])
    p = row_kernel("softmax")(x)[0]
    exact = [float(flint.arb(v).exp().mid()) for v in x[0, 1:4].tolist()]
    assert 0 < exact[2] < 1e-320
    np.testing.assert_allclose(p[:4], [1.0, *exact], rtol=1e-15, atol=5e-324)
    assert p[4:].tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 7, 64, 101])
def test_one_nan_anywhere_spoils_its_row(dtype, width):
    x = np.random.default_rng(0).normal(size=(width, width)).astype(dtype)
    np.fill_diagonal(x, -np.nan)
    assert np.isnan(row_kernel("softmax", dtype)(x)).all()


def test_read_only_arrays_and_one_array_twice():
    x = np.random.default_rng(0).normal(size=(5, 6))
    expected = row_kernel("softmax").vjp(x.copy(), x)
    x.flags.writeable = False
    np.testing.assert_array_equal(row_kernel("softmax").vjp(x, x), expected)


def test_shares_come_out_even():
    shapes = ((512, 768), (4096, 1024), (300, 768), (10**6, 10), (1, 10**7), (3, 10**6), (7, 1), (0, 5))
    for rows, width in shapes:
        step = module.share_of_rows(rows, width)
        shares = -(-rows // step)
        assert step >= 1
        assert (shares % 2 == 0) or shares < 4
        assert step * width < 2.1 * module.SHARE or rows <= 3
        for threads in (1, 2, 16):
            step = module.share_of_rows(rows, width, threads)
            assert step >= 1
            assert step == rows or step * width >= module.SHARE or rows <= 3
            assert step * width <= module.LARGE_SHARE + width or rows <= 3
    assert module.share_of_rows(512, 768, 2) == 256


def test_nan_and_infinity_stay_in_their_row():
    x = np.zeros((4, 5), dtype=np.float32)
    x[1, 2], x[2, 3] = np.nan, -np.inf
    p = row_kernel("softmax", "float32")(x)
    assert np.isnan(p[1]).all()
    np.testing.assert_allclose(p[2], [0.25, 0.25, 0.25, 0, 0.25])
    np.testing.assert_allclose(p[[0, 3]], 0.2)


def test_any_layout_shape_and_out():
    norm = row_kernel("layer_norm")
    gamma, beta = np.random.default_rng(0).normal(size=(2, 6))
    x = np.random.default_rng(1).normal(size=(4, 3, 6))
    plain = norm(x, gamma, beta)
    assert plain.shape == x.shape
    np.testing.assert_array_equal(norm(np.asfortranarray(x), gamma, beta), plain)
    np.testing.assert_array_equal(norm(x.transpose(1, 0, 2), gamma, beta), plain.transpose(1, 0, 2))
    np.testing.assert_array_equal(norm(x[0, 0], gamma, beta), plain[0, 0])
    out = np.empty_like(x)
    assert norm(x, gamma, beta, out=out) is out
    np.testing.assert_array_equal(out, plain)
    strided = np.empty((4, 3, 12))[..., ::2]
    np.testing.assert_array_equal(norm(x, gamma, beta, out=strided), plain)
    copy = x.copy()
    np.testing.assert_array_equal(norm(copy, gamma, beta, out=copy), plain)  # in place
    assert norm(np.empty((0, 6)), gamma, beta).shape == (0, 6)
    looser = norm(x, gamma, beta, eps=0.5)
    assert abs(looser).max() < abs(plain).max()


def test_threads_change_nothing(monkeypatch):
    norm = row_kernel("layer_norm", "float32")
    inputs = _inputs("layer_norm", "float32", rows=300, width=40)
    dy = inputs[0][::-1].copy()
    whole = norm.vjp(dy, *inputs)
    monkeypatch.setattr(module, "SHARE", 400)
    names = set()
    run = norm._passes[1]

    def noting(*arguments):
        names.add(threading.current_thread().name)
        run(*arguments)

    monkeypatch.setitem(norm.__dict__, "_passes", (norm._passes[0], noting))
    first, again = norm.vjp(dy, *inputs), norm.vjp(dy, *inputs)
    assert names <= {threading.current_thread().name, "backproof-kernel"}
    np.testing.assert_array_equal(first[0], whole[0])
    for a, b, c in zip(first[1:], again[1:], whole[1:], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: row_kernel("soft_max"), "softmax"),
        (lambda: row_kernel("softmax", "float8"), "dtype"),
        (lambda: row_kernel("softmax")(np.float64(1)), "no entries in a row"),
        (lambda: row_kernel("softmax")(np.empty((3, 0))), "no entries in a row"),
        (lambda: row_kernel("softmax")(np.ones((2, 2)), np.ones(2)), "takes x"),
        (lambda: row_kernel("rms_norm")(np.ones((2, 3)), np.ones(2)), "gamma has shape"),
        (lambda: row_kernel("glu")(np.ones((2, 3)), np.ones(3)), "b has shape"),
        (lambda: row_kernel("rms_norm")(np.ones((2, 3)), np.ones(3), epsilon=1), "eps"),
        (lambda: row_kernel("rms_norm")(np.ones((2, 3)), np.ones(3), eps=-1), "eps of rms_norm must be a number"),
        (lambda: row_kernel("rms_norm")(np.ones((2, 3)), np.ones(3), eps="small"), "not 'small'"),
        (lambda: row_kernel("softmax")([[1.0, 2.0], [3.0]]), "x must be an array"),
        (lambda: row_kernel("softmax").vjp(np.ones(3), np.ones((2, 3))), "dy has shape"),
        (lambda: row_kernel("softmax", "float32")(np.ones((2, 3))), "float64"),
        (lambda: row_kernel("softmax")(np.ones((2, 3)), out=np.empty((3, 2))), "out"),
    ],
)
def test_wrong_input_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()


@pytest.mark.parametrize("name", ["batch_norm", "conv2d", "dense", "attention", "lstm"])
def test_other_layers_are_refused(name):
    with pytest.raises(Unsupported):
        row_kernel(name)


def test_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    theirs = {
        "softmax": lambda x: functional.softmax(x, -1),
        "layer_norm": lambda x, g, b: functional.layer_norm(x, (7,), g, b),
    }
    for name, function in theirs.items():
        inputs = _inputs(name, "float64")
        leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in inputs]
        dy = np.cos(inputs[0])
        expected = torch.autograd.grad(function(*leaves), leaves, torch.from_numpy(dy))
        found = row_kernel(name).vjp(dy, *inputs)
        for a, b in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-11, atol=1e-13)
