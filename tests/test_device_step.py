"""The training step of the GPU, run on the CPU with NumPy in CuPy's place: the same numbers as the network's own."""

from __future__ import annotations

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics.device_step import Step, numpy_engine
from backproof.numerics.network import Network
from backproof.numerics.training import train
from backproof.numerics.updates import Updater
from backproof.theory.errors import InputError


def _pair(spec, activation, loss, dtype, optimiser="adam"):
    """The same network twice, and a batch."""
    networks = [Network(spec, activation, loss, dtype) for _ in range(2)]
    for network in networks:
        network.draw("gain_normal", activation, np.random.default_rng(0))
    updaters = [Updater(optimiser, networks[0].parameter_count, dtype) for _ in range(2)]
    rng = np.random.default_rng(1)
    X = rng.normal(size=(13, networks[0].widths[0])).astype(dtype)
    Y = networks[0].targets(rng.integers(0, networks[0].widths[-1], 13))
    return networks, updaters, X, Y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("spec", "activation", "loss"),
    [("5-7-3", "gelu", "softmax_cross_entropy"), ("5-3", "relu", "squared_error"), ("4-6-6-1", "tanh", "hinge"),
     ("4-6-2", "x*tanh(log(1+exp(x)))", "focal")],
)  # fmt: skip
def test_steps_equal_the_networks_own(spec, activation, loss, dtype):
    (own, other), (updater, same), X, Y = _pair(spec, activation, loss, dtype)
    step = Step(other, numpy_engine(other, same))
    for _ in range(3):
        loss_here, output = step.evaluate(X, Y)
        expected, expected_output = own.evaluate(X, Y)
        tolerance = 1e-5 if dtype == "float32" else 1e-13  # a pass for value and slope shares steps: other roundings
        assert loss_here == pytest.approx(expected, rel=tolerance)
        np.testing.assert_allclose(output, expected_output, rtol=tolerance, atol=tolerance)
        updater.step(own.flat, own.gradient(X, Y))
        step(X, Y)
        np.testing.assert_allclose(step.gradient, own._gradient, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(step.flat, own.flat, rtol=tolerance, atol=tolerance)


def test_gradients_are_written_in_place():
    (network, _), (updater, _), X, Y = _pair("5-7-3", "gelu", "softmax_cross_entropy", "float64")
    step = Step(network, numpy_engine(network, updater))
    found = step._backward(step.parameters, X, Y, step._forward(step.parameters, X, step._value)[1], step._slope)
    assert all(found[name] is view for name, view in step._gradients.items())


def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match="device"):
        train(device="tpu", epochs=0)


def test_without_a_gpu_the_command_says_so_in_one_line(capsys):
    from backproof.numerics.cuda_kernels import device_reason

    if not device_reason():
        pytest.skip("there is a GPU")
    assert run(["train", "4-16-3", "--device", "cuda", "--epochs", "1"]) != 0
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "the target cuda cannot run here" in told
