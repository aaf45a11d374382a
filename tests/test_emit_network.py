"""Networks as text, printed for every target that has them: against exact differentiation and against autograd."""

from __future__ import annotations

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics import check
from backproof.numerics.network_source import DIFFERENTIATING, TARGETS, network_source
from backproof.theory.errors import InputError

#: text, shape of a sample
NETWORKS = [
    ("3-4-2", None),
    ("conv(3,2) relu residual(conv(3,3,padding=1) tanh) max_pool(2) flatten dense(2)", "2x5x5"),
    ("dense(3) layer_norm dense(3) sigmoid dense(3)", "3"),
    ("rnn(3) flatten dense(2)", "4x2"),
]


def module_of(text, shape, target, **options):
    namespace = {"__name__": "printed"}
    exec(compile(network_source(text, shape, target, **options), "<printed>", "exec"), namespace)
    return namespace


def drawn(module, text, shape, classes):
    rng = np.random.default_rng(7)
    parameters = {name: rng.standard_normal(size) for name, size in module["SHAPES"].items()}
    sample = tuple(map(int, shape.split("x"))) if shape else (int(text.split("-")[0]),)
    return parameters, rng.standard_normal((3, *sample)), np.eye(classes)[rng.integers(classes, size=3)]


def result_of(target, text, shape, **options):
    """(loss, gradients) of the printed module at the drawn point."""
    if target in ("torch", "jax"):
        pytest.importorskip(target)
    module = module_of(text, shape, target, **options)
    classes = module["SHAPES"][list(module["SHAPES"])[-1]][0]
    parameters, X, Y = drawn(module, text, shape, classes)
    if target not in DIFFERENTIATING:
        A, saved = module["forward"](parameters, X)
        return module["loss"](A, Y), module["backward"](parameters, saved, Y)
    if target == "torch":
        import torch

        given = {name: torch.tensor(v, requires_grad=True) for name, v in parameters.items()}
        value = module["loss"](module["forward"](given, torch.tensor(X)), torch.tensor(Y))
        value.backward()
        return value.item(), {name: v.grad.numpy() for name, v in given.items()}
    import jax

    jax.config.update("jax_enable_x64", True)
    value, found = jax.value_and_grad(lambda p: module["loss"](module["forward"](p, jax.numpy.asarray(X)), Y))(
        parameters
    )
    return float(value), {name: np.asarray(v) for name, v in found.items()}


@pytest.mark.parametrize("target", [t for t in TARGETS if t not in ("numpy", "numba")])
@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_every_target_agrees_with_numpy(text, shape, target):
    loss, gradients = result_of(target, text, shape)
    expected, exact = result_of("numpy", text, shape)
    assert abs(loss - expected) < 1e-12 * max(1, abs(expected))
    assert set(gradients) == set(exact)
    for name, g in gradients.items():
        np.testing.assert_allclose(g, exact[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_numba():
    loss, gradients = result_of("numba", "3-4-2", None)
    expected, exact = result_of("numpy", "3-4-2", None)
    assert abs(loss - expected) < 1e-13
    for name, g in gradients.items():
        np.testing.assert_allclose(g, exact[name], rtol=1e-12, err_msg=name)


def test_numpy_against_exact_differentiation():
    """The printed backward pass of the whole network, checked in balls against its own forward pass."""
    text = "dense(4) layer_norm dense(3) softmax dense(2)"
    module = module_of(text, "3", "numpy", loss="squared_error")
    names = list(module["SHAPES"])
    parameters, X, Y = drawn(module, text, "3", 2)

    def forward(X, Y, **given):
        return module["squared_error_forward"](module["forward"](given, X)[0], Y)

    def backward(upstream, X, Y, **given):
        _, saved = module["forward"](given, X)
        return {name: upstream * g for name, g in module["backward"](given, saved, Y).items()}

    result = check(backward, forward=forward, inputs={"X": X, "Y": Y, **parameters}, wrt=names)
    assert result.passed, str(result)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy", "nll"])
def test_torch_against_autograd_of_its_own_functions(loss):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    text, shape = "conv(3,2) relu flatten dense(3)", "2x3x4"
    module = module_of(text, shape, "torch", loss=loss)
    parameters, X, Y = drawn(module, text, shape, 3)
    results = []
    for own in (True, False):
        p = {name: torch.tensor(v, requires_grad=True) for name, v in parameters.items()}
        x, y = torch.tensor(X), torch.tensor(Y)
        if own:
            value = module["loss"](module["forward"](p, x), y)
        else:
            z = F.relu(F.conv2d(x, p["W1"], p["b1"])).flatten(1) @ p["W4"] + p["b4"]
            value = F.binary_cross_entropy_with_logits(z, y) if loss.startswith("bin") else F.cross_entropy(z, y)
        value.backward()
        results.append([value.item(), *(v.grad.numpy() for v in p.values())])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_command(tmp_path, capsys):
    path = tmp_path / "net.py"
    assert run(["emit", "784-256-128-10", "--target", "torch", "--output", str(path)]) == 0
    assert '"W3": (128, 10)' in path.read_text() or '"W5": (128, 10)' in path.read_text()
    capsys.readouterr()
    for wrong in (
        ["emit", "conv(16,3) relu dense(10)", "--input", "3x8x8"],
        ["emit", "conv(16,3) relu flatten dense(10)", "--input", "nonsense"],
        ["emit", "784-10", "--input", "784"],
        ["emit", "784-10", "--target", "c"],
        ["emit", "784-10", "--dtype", "float32"],
        ["emit", "784-10", "--objective", "nonsense"],
        ["emit", "gelu", "--activation", "relu"],
        ["emit", "dense(3)", "--input", "3", "--activation", "relu"],
    ):
        assert run(wrong) == 2, wrong
        assert capsys.readouterr().err.count("\n") == 1, wrong


def test_without_a_shape_it_says_what_is_needed():
    with pytest.raises(InputError, match="--input"):
        network_source("dense(3) relu dense(2)", None)
