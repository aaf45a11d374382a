"""Kernels with parameters at call time: against balls, over shapes and threads, gradients, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from click.testing import CliRunner

from backproof.demos.cli import cli, run
from backproof.numerics import compiled as sharing
from backproof.numerics import parametric as module
from backproof.numerics.kernels import kernel
from backproof.numerics.parametric import parametric_kernel
from backproof.numerics.parametric_accuracy import critical_points, measure_parametric, parameter_values
from backproof.theory.activations import ACTIVATIONS, Activation
from backproof.theory.arithmetic import DOUBLE, paired
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.parametric import branches, parametric_program, scaling
from backproof.theory.symbols import parameter, x

ROWS = [name for name, row in ACTIVATIONS.items() if row.parameters]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_keeps_its_promise_at_few_values(name, dtype):
    _hold(name, dtype, slice(2, None, 4), (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_keeps_its_promise(name, dtype):
    _hold(name, dtype, slice(None), (0, 1, 2))


def _hold(name, dtype, chosen, orders):
    row = ACTIVATIONS[name]
    promised = 0
    for values in list(parameter_values(row, dtype))[chosen]:
        for found in measure_parametric(parametric_kernel(name, dtype), values, orders=orders):
            assert found.kept, (values, found.label, str(found.accuracy))
            assert found.accuracy.undecided == 0
            promised += found.bound is not None
    assert promised > 1


@pytest.mark.parametrize("name", ROWS)
def test_float32_is_what_the_compiled_in_form_gives(name):
    row = ACTIVATIONS[name]
    points = critical_points({"p": 1.75}, "float32")
    bound = row.with_parameters(**{str(p): 1.75 for p in row.parameters})
    k, values = parametric_kernel(name, "float32"), {str(p): 1.75 for p in row.parameters}
    np.testing.assert_array_max_ulp(k(points, **values), kernel(bound, "float32")(points), 1)
    np.testing.assert_array_max_ulp(k.derivative(points, **values), kernel(bound, "float32").derivative(points), 1)


@pytest.mark.parametrize("name", ROWS)
def test_arrays_of_parameters_are_numbers_entry_by_entry(name):
    for shape in [(5, 7), (3, 4, 6), (9,), ()]:
        _hold_arrays(parametric_kernel(name), shape)


def _hold_arrays(k, shape):
    rng = np.random.default_rng(0)
    points, dy = rng.normal(0, 2, shape), rng.normal(size=shape)
    for axis in range(len(shape)):
        along = {p: rng.uniform(0.3, 2, shape[axis]) for p in k.parameters}
        value, slope = k.value_and_derivative(points, axis=axis, **along)
        dx, *gradients = k.vjp(points, dy, axis=axis, **along)
        for j in range(shape[axis]):
            numbers = {p: float(v[j]) for p, v in along.items()}
            part, part_dy = points.take(j, axis), dy.take(j, axis)
            np.testing.assert_array_equal(value.take(j, axis), k(part, **numbers))
            np.testing.assert_array_equal(slope.take(j, axis), k.derivative(part, **numbers))
            expected = k.vjp(part, part_dy, **numbers)
            np.testing.assert_array_equal(dx.take(j, axis), expected[0])
            for found, total in zip(gradients, expected[1:], strict=True):
                np.testing.assert_allclose(found[j], total, rtol=1e-12, atol=1e-14)
    if not shape:
        assert np.shape(k(points)) == ()


def test_shapes_that_repeat_have_gradients_of_their_own_shape():
    k, rng = parametric_kernel("prelu", "float32"), np.random.default_rng(1)
    points, dy = (rng.normal(size=(3, 4, 5)).astype(np.float32) for _ in range(2))
    for shape in [(1, 4, 1), (3, 1, 5), (1, 1, 1), (3, 4, 5), (4, 1)]:
        if len(shape) == 2:
            with pytest.raises(InputError, match="parameter a has shape"):
                k(points, a=np.ones(shape, np.float32))
            continue
        a = rng.normal(size=shape).astype(np.float32)
        da = k.parameter_gradient(points, dy, a=a)
        terms = np.where(points > 0, 0, points).astype(np.float64) * dy
        axes = tuple(i for i, size in enumerate(shape) if size == 1)
        assert da.shape == shape
        assert da.dtype == np.float32
        np.testing.assert_allclose(da, terms.sum(axis=axes, keepdims=True), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(k(points, a=a), np.where(points > 0, points, a * points))


@pytest.mark.parametrize("name", ROWS)
def test_gradients_are_differences_of_the_value(name):
    k = parametric_kernel(name)
    points = np.array([-7.3, -2.1, -0.9, -0.3, 0.2, 0.77, 1.9, 6.1])
    by = k.parameter_derivative(points)
    for p, found in zip(k.parameters, by if isinstance(by, tuple) else (by,), strict=True):
        at, h = float(dict(zip(k.parameters, k.activation.parameters.values(), strict=True))[p]), 1e-6
        difference = (k(points, **{p: at + h}) - k(points, **{p: at - h})) / (2 * h)
        np.testing.assert_allclose(found, difference, rtol=1e-7, atol=1e-9)


def test_prelu_trains_as_torch_has_it():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    points, dy = (rng.normal(size=(6, 5, 4, 3)).astype(np.float32) for _ in range(2))
    weight = rng.normal(size=5).astype(np.float32)
    tensors = [torch.from_numpy(v.copy()).requires_grad_() for v in (points, weight)]
    theirs = torch.autograd.grad(torch.nn.functional.prelu(*tensors), tensors, torch.from_numpy(dy))
    ours = parametric_kernel("prelu", "float32").vjp(points, dy, axis=1, a=weight)
    np.testing.assert_array_equal(ours[0], theirs[0].numpy())
    np.testing.assert_allclose(ours[1], theirs[1].numpy(), rtol=1e-4)


def test_nothing_is_compiled_when_a_parameter_changes(monkeypatch):
    k, points = parametric_kernel("swish", "float32"), np.linspace(-5, 5, 11, dtype=np.float32)
    k.vjp(points, points, beta=1.0)
    k(points, beta=1.0)
    monkeypatch.setattr(module, "load", lambda path: pytest.fail("compiled again"))
    before = k(points, beta=1.0)
    assert not np.array_equal(k(points, beta=2.5), before)
    assert k.vjp(points, points, beta=-0.75)[1] != k.vjp(points, points, beta=0)[1]


@pytest.mark.parametrize("name", ROWS)
def test_ends_and_nan(name):
    row = ACTIVATIONS[name]
    for dtype in ("float64", "float32"):
        k, points = parametric_kernel(name, dtype), np.array([np.nan, np.inf, -np.inf], dtype)
        for n, expected in enumerate(kernel(row, dtype).jet(points)):
            np.testing.assert_array_equal(k.derivative(points, n), expected)
        by = k.parameter_derivative(points)
        assert np.isnan((by if isinstance(by, np.ndarray) else by[0])[0])


def test_swish_of_steepness_zero_and_below():
    k, points = parametric_kernel("swish"), np.array([-np.inf, -3.0, 0.0, 2.0, np.inf])
    np.testing.assert_array_equal(k(points, beta=0), points / 2)
    np.testing.assert_array_equal(k(-points, beta=-1.5), -k(points, beta=1.5))
    np.testing.assert_array_equal(k.parameter_derivative(points[1:4], beta=0), points[1:4] ** 2 / 4)


def test_out_layouts_and_threads(monkeypatch):
    k, rng = parametric_kernel("swish", "float32"), np.random.default_rng(3)
    points = rng.normal(size=(40, 33)).astype(np.float32)
    a = rng.uniform(0.5, 2, 33).astype(np.float32)
    plain, one = k(points, beta=a), k.vjp(points, points, beta=a)
    out = np.empty_like(points)
    assert k(points, beta=a, out=out) is out
    np.testing.assert_array_equal(out, plain)
    np.testing.assert_array_equal(k(np.asfortranarray(points), beta=a), plain)
    np.testing.assert_array_equal(k(np.repeat(points, 2, 1)[:, ::2], beta=a), plain)
    copy = points.copy()
    np.testing.assert_array_equal(k(copy, beta=a, out=copy), plain)
    frozen = points.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(k.vjp(frozen, frozen, beta=a)[1], one[1])
    pair = np.empty_like(points), np.empty_like(points)
    assert k.value_and_derivative(points, beta=a, out=pair)[1] is pair[1]
    for name, value in (("SMALLEST_SHARED", 100), ("LEAST_SHARE", 70), ("COPIED_PIECE", 45)):
        monkeypatch.setattr(sharing, name, value)
    monkeypatch.setattr(sharing, "processors", lambda: 3)
    monkeypatch.setattr(module, "SHARE", 70)
    monkeypatch.setattr(module, "COPIED_PIECE", 45)
    np.testing.assert_array_equal(k(points, beta=a), plain)
    shared = k.vjp(points, points, beta=a)
    np.testing.assert_array_equal(shared[0], one[0])
    np.testing.assert_allclose(shared[1], one[1], rtol=1e-6)
    assert k(np.empty((0, 33), np.float32), beta=a).shape == (0, 33)
    assert k.vjp(np.empty((0, 33), np.float32), np.empty((0, 33), np.float32), beta=a)[1].tolist() == [0] * 33


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda k: k(1.0, alpha=0), "alpha must be finite and positive, not 0.0"),
        (lambda k: k(1.0, alpha=-1), "alpha must be finite and positive, not -1.0"),
        (lambda k: k(1.0, alpha=np.nan), "alpha must be finite"),
        (lambda k: k([1.0, 2.0], alpha=np.array([1.0, -2.0])), "not -2.0"),
        (lambda k: k(1.0, beta=1), "parameter of elu"),
        (lambda k: k(1.0, alpha=None), "alpha must be a real number or an array, not NoneType"),
        (lambda k: k(np.ones((2, 3)), alpha=np.ones(2)), "parameter alpha has shape"),
        (lambda k: k(np.ones((2, 3)), alpha=np.ones(2), axis=2), "axis 2"),
        (lambda k: k.vjp(np.ones(3), np.ones(2)), "dy has shape"),
        (lambda k: k.derivative(1.0, -1), "order of a derivative"),
        (lambda k: k(np.ones(2), out=np.ones(3)), "out is"),
        (lambda k: k(np.ones(2), alpha=np.ones(2, complex)), "real numbers"),
    ],
)
def test_wrong_input_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call(parametric_kernel("elu"))


def test_what_has_no_parameters_or_does_not_scale_is_refused():
    with pytest.raises(InputError, match="relu has no parameters"):
        parametric_kernel("relu")
    with pytest.raises(InputError, match="dtype"):
        parametric_kernel("elu", "float16")
    p = parameter("p")
    for formula in (sympy.exp(-p * x) + p * sympy.exp(-x), sympy.exp(-p * x) + x, sympy.exp(-x - p)):
        row = Activation("odd", formula, {p: sympy.Integer(1)})
        with pytest.raises(Unsupported):
            parametric_program(row, (0,), paired(DOUBLE))


def test_a_wrong_program_is_noticed(monkeypatch):
    from backproof.theory import parametric

    right = parametric._Assembly._times
    monkeypatch.setattr(parametric._Assembly, "_times", lambda self, place, powers: right(self, place, {}))
    with pytest.raises(Unsupported, match="differs from its formula"):
        parametric_program(ACTIVATIONS["softplus"], (0,), paired(DOUBLE))


def test_scalings_are_those_of_the_papers():
    beta = next(iter(ACTIVATIONS["swish"].parameters))
    (whole,) = branches(ACTIVATIONS["swish"].formula)
    found = scaling(whole[0], whole[2])
    assert found.factor == {x: 1}
    assert found.scale == {beta: 1}
    assert found.h == 1 / (1 + sympy.exp(-x))


def test_commands():
    runner = CliRunner()
    source = runner.invoke(cli, ["emit", "celu", "--target", "numba", "--runtime-parameters", "--dtype", "float32"])
    scope = {}
    exec(compile(source.output, "<emitted>", "exec"), scope)
    points, outs = np.linspace(-3, 3, 9, dtype=np.float32), [np.empty(9, np.float32) for _ in range(3)]
    scope["celu"](points, 1.5, *outs)
    k = parametric_kernel("celu", "float32")
    np.testing.assert_array_equal(outs[0], k(points, alpha=1.5))
    np.testing.assert_array_equal(outs[2], k.parameter_derivative(points, alpha=1.5))
    measured = runner.invoke(cli, ["accuracy", "prelu", "--runtime-parameters", "--points", "10", "--json"])
    assert measured.exit_code == 0
    assert '"kept": true' in measured.output
    for wrong in (
        ["emit", "celu", "--runtime-parameters", "--target", "c"],
        ["emit", "dense", "--runtime-parameters"],
        ["accuracy", "relu", "--runtime-parameters"],
        ["accuracy", "elu", "--runtime-parameters", "--dtype", "float16"],
    ):
        assert run(wrong) == 2
