"""Losses with their output delta in one pass: against balls, over reductions and shapes, and what is refused."""

from __future__ import annotations

import re

import flint
import numpy as np
import pytest

from backproof.numerics import row_kernels as module
from backproof.numerics.accuracy import FORMATS, ulp_error
from backproof.numerics.exact_arrays import exact_array
from backproof.numerics.exact_scalars import lift
from backproof.numerics.loss_kernels import loss_kernel
from backproof.numerics.loss_rows import loss_row
from backproof.numerics.targets.numba_rows import shared_steps
from backproof.theory.errors import InputError
from backproof.theory.losses import LOSSES


def _pair(name, dtype, rows=4, width=5, seed=0):
    """A prediction and a target as the row assumes them."""
    rng = np.random.default_rng(seed)
    row = LOSSES[name]
    z, facts = rng.normal(0, 2, (rows, width)), {fact.kind for fact in row.inputs()[1].facts}
    if row.prediction_name == "p":
        z = 1 / (1 + np.exp(-z))
    if "one-hot" in facts:
        y = np.eye(width)[rng.integers(0, width, rows)]
    elif facts:
        y = rng.dirichlet(np.ones(width), rows)
        y = np.floor(y * 64) / 64
        y[:, 0] += 1 - y.sum(axis=1)
    elif "hinge" in name:
        y = rng.choice([-1.0, 1.0], (rows, width))
    else:
        y = rng.random((rows, width)) if name != "focal" else rng.integers(0, 2, (rows, width))
    return z.astype(dtype), y.astype(dtype)


def _exact(name, reduction, z, y):
    """Loss and gradient by the printed NumPy source, run in balls."""
    row = loss_row(name, reduction)
    scope = {"np": np}
    exec("import numpy as np\n" + row.numpy_source(), scope)
    with flint.ctx.workprec(300):
        z, y = (exact_array(a.astype(np.float64)) for a in (z, y))
        value = scope["forward"](z, y)
        shape = np.shape(np.asarray(value).view(np.ndarray)) if reduction == "none" else ()
        upstream = exact_array(np.ones(shape))
        return value, scope["backward"](upstream if reduction == "none" else lift(1.0), z, y)


def _balls(exact):
    return [lift(ball).value for ball in np.asarray(exact, dtype=object).view(np.ndarray).ravel()]


def _held(found, exact, dtype, slack):
    balls = _balls(exact)
    values = np.ravel(found).tolist()
    assert len(values) == len(balls)
    if dtype == "float32":  # float64 steps, rounded once
        for value, ball in zip(values, balls, strict=True):
            error, _ = ulp_error(value, lambda ball=ball: ball, FORMATS[dtype])
            # what cancels in float64, as p − y of a saturated probability, is lost
            small = abs(value - float(ball.mid())) <= 2.0**-50 * max(abs(float(b.mid())) for b in balls)
            assert error <= 0.5001 or small
        return
    largest = max(1e-30, *(abs(float(b.mid())) for b in balls))
    assert max(abs(float((v - b).mid())) for v, b in zip(values, balls, strict=True)) <= slack * 2.0**-53 * largest


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("dtype", "reduction"), [("float32", "none"), ("float64", "mean")])
def test_against_balls(name, reduction, dtype):
    z, y = _pair(name, dtype)
    value, delta = loss_kernel(name, dtype, reduction)(z, y)
    exact_value, exact_delta = _exact(name, reduction, z, y)
    assert delta.shape == z.shape
    assert delta.dtype == np.asarray(value).dtype == dtype
    _held(value, exact_value, dtype, 16)
    _held(delta, exact_delta, dtype, 16)


def test_reductions_shapes_labels_and_upstream():
    rng = np.random.default_rng(3)
    z, labels = rng.normal(0, 3, (3, 2, 7)), rng.integers(0, 7, (3, 2))
    each, unscaled = loss_kernel("softmax_cross_entropy", reduction="none")(z, labels)
    assert each.shape == (3, 2)
    total, by_sum = loss_kernel("softmax_cross_entropy", reduction="sum")(z, labels)
    mean, by_mean = loss_kernel("softmax_cross_entropy")(z, np.eye(7)[labels], upstream=3.0)
    np.testing.assert_allclose(total, each.sum(), rtol=1e-15)
    np.testing.assert_allclose(mean, each.mean(), rtol=1e-15)
    np.testing.assert_array_equal(by_sum, unscaled)
    np.testing.assert_allclose(by_mean, unscaled / 2, rtol=1e-15)
    squared, delta = loss_kernel("mse", reduction="none")(z, z + 1)
    assert squared.shape == z.shape
    np.testing.assert_allclose(delta, -2 * np.ones(z.shape), rtol=1e-14)
    _value, delta = loss_kernel("mse")(z, z + 1)
    np.testing.assert_allclose(delta, -2 / z.size * np.ones(z.shape), rtol=1e-14)


#: Exponentials and logarithms that a loss of logits and its delta need: e, log s; of focal loss pᶠ and (1 − p)ᶠ too.
CALLS = {"softmax_cross_entropy": 2, "label_smoothing": 2, "binary_cross_entropy_logits": 2, "focal": 4}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_no_function_is_evaluated_twice(name, dtype, reduction):
    source = loss_kernel(name, dtype, reduction).source
    calls = re.findall(r"= (?!numba)(\w+\(\w+\))$", source, re.MULTILINE)
    assert len(calls) == len(set(calls))
    if name in CALLS:
        assert len([call for call in calls if re.search("exp|log", call)]) == CALLS[name]


@pytest.mark.parametrize("name", [n for n, row in LOSSES.items() if "one-hot" in str(row.inputs()[1].facts)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_are_one_hot_rows(name, dtype):
    z = np.abs(_pair(name, dtype, rows=33, width=70)[0])
    labels = np.arange(33) * 2 % 70
    for reduction in ("none", "mean"):
        k = loss_kernel(name, dtype, reduction)
        rows = k(z, np.eye(70, dtype=dtype)[labels])
        for kind in (np.int64, np.uint8, np.int32):
            for found, wanted in zip(k(z, labels.astype(kind)), rows, strict=True):
                np.testing.assert_array_equal(found, wanted)
    strided = np.stack([labels, labels], axis=-1)[:, 0]
    strided.flags.writeable = False
    np.testing.assert_array_equal(k(z, strided)[1], rows[1])


def test_equal_steps_are_one():
    lines = ["v1 = x[i]", "v2 = -v1", "v3 = abs(v2)", "v4 = abs(v1)", "v5 = exp(v3)", "v6 = exp(v4)", "s = plus(s, v6)"]
    kept = ["v1 = x[i]", "v2 = -v1", "v3 = abs(v1)", "v5 = exp(v3)", "s = plus(s, v5)", "y[i] = v5 * v2"]
    assert shared_steps([*lines, "y[i] = v6 * v2"]) == kept
    assert shared_steps(["s = plus(s, v1)", "t = plus(t, v1)", "y[i] = s"]) == [
        "s = plus(s, v1)", "t = plus(t, v1)", "y[i] = s",
    ]  # fmt: skip


def test_parameters_go_by_name():
    value, delta = loss_kernel("huber", reduction="none")([[0.5, 3.0]], [[0.0, 0.0]], delta=2)
    assert value.tolist() == [[0.125, 4.0]]
    assert delta.tolist() == [[0.5, 2.0]]


def test_threads_do_not_change_a_digit(monkeypatch):
    z, y = _pair("label_smoothing", "float32", rows=300, width=17)
    whole = loss_kernel("label_smoothing", "float32")(z, y)
    monkeypatch.setattr(module, "SHARE", 64)
    shared = loss_kernel("label_smoothing", "float32")(z, y)
    assert whole[0] == shared[0]
    np.testing.assert_array_equal(whole[1], shared[1])


def test_far_logits_neither_overflow_nor_lose_the_row():
    z = np.array([[1e4, 0.0, -1e4], [3e38, -3e38, 0.0], [np.nan, 0, 0], [0, 0, 0]], dtype=np.float32)
    value, delta = loss_kernel("softmax_cross_entropy", "float32", "none")(z, [0, 0, 0, 0])
    assert value[:2].tolist() == [0, 0]
    assert delta[:2].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.isnan(value[2])
    assert value[3] == np.float32(np.log(3))


def test_nothing_to_do():
    value, delta = loss_kernel("mse", reduction="sum")(np.empty((0, 3)), np.empty((0, 3)))
    assert value == 0
    assert delta.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "z", "y", "options", "says"),
    [
        ("mse", np.zeros((2, 3)), np.zeros((3, 2)), {}, "y has shape"),
        ("mse", np.zeros((2, 0)), np.zeros((2, 0)), {}, "no entries in a row"),
        ("mse", np.zeros((0, 3)), np.zeros((0, 3)), {}, "no rows"),
        ("softmax_cross_entropy", np.zeros((2, 3)), [0, 3], {}, "labels must be from 0 to 2"),
        ("softmax_cross_entropy", np.zeros((2, 3)), [0.5, 1.0], {}, "y has shape"),
        ("huber", np.zeros((2, 3)), np.zeros((2, 3)), {"dleta": 2}, "delta"),
        ("huber", np.zeros((2, 3)), np.zeros((2, 3)), {"delta": -1}, "delta of huber must be a number, finite"),
        ("mse", np.zeros((2, 3), complex), np.zeros((2, 3)), {}, "real numbers"),
    ],
)
def test_wrong_inputs(name, z, y, options, says):
    with pytest.raises(InputError, match=says):
        loss_kernel(name)(z, y, **options)


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("name", [n for n in LOSSES if loss_kernel(n).per_entry])
def test_nan_is_not_swallowed(name, reduction):
    p, y = np.full((2, 3), 0.25), np.ones((2, 3))
    p[0, 1], y[1, 2] = np.nan, np.nan
    losses, delta = loss_kernel(name, reduction=reduction)(p, y)
    assert np.isnan(losses if reduction == "sum" else losses[[0, 1], [1, 2]]).all()
    assert np.argwhere(np.isnan(delta)).tolist() == [[0, 1], [1, 2]]


def test_sum_beyond_the_largest_float():
    z = np.full((3, 1), 1.5e308)
    assert loss_kernel("l1")(z, 0 * z)[0] == 1.5e308
    assert loss_kernel("l1", reduction="sum")(z, 0 * z)[0] == np.inf


@pytest.mark.parametrize("wrong", [("msee",), ("mse", "float16"), ("mse", "float64", "average")])
def test_wrong_names(wrong):
    with pytest.raises(InputError):
        loss_kernel(*wrong)
