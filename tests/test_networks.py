"""Networks: counts, δ in matrix form, the recursion proved for any depth, and generated source that runs."""

import math

import numpy as np
import pytest

from backproof.theory.backprop import vjp
from backproof.theory.equality import equal
from backproof.theory.errors import InputError
from backproof.theory.losses import LOSSES
from backproof.theory.networks import network, parse_widths
from backproof.theory.recursion import delta_recursion
from backproof.theory.tensors import as_tensor


def run(source):
    namespace = {}
    exec(source, namespace)
    return namespace


def test_the_known_network():
    net = network("784-256-128-10", activation="relu", loss="softmax_cross_entropy")
    assert net.widths == (784, 256, 128, 10)
    assert net.parameter_count == 235_146
    assert list(net.parameter_shapes) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    forms = {name: d.matrix() for name, d in net.deltas().items()}
    assert forms == {
        "Δ3": "Δ3 = (P − Y)/N", "dW3": "dW3 = A2ᵀ Δ3", "db3": "db3 = 1ᵀΔ3",
        "Δ2": "Δ2 = (Δ3 W3ᵀ) ⊙ σ′(Z2)", "dW2": "dW2 = A1ᵀ Δ2", "db2": "db2 = 1ᵀΔ2",
        "Δ1": "Δ1 = (Δ2 W2ᵀ) ⊙ σ′(Z1)", "dW1": "dW1 = Xᵀ Δ1", "db1": "db1 = 1ᵀΔ1",
    }  # fmt: skip
    assert net.deltas()["Δ2"].matrix("columns") == "Δ2 = (W3ᵀ Δ3) ⊙ σ′(Z2)"
    assert all(d.latex and d.shape for d in net.deltas().values())


@pytest.mark.parametrize("loss_name", LOSSES)
def test_every_parameter_gradient_is_proved_equal_to_plain_reverse_mode(loss_name):
    """The simplified chain of named δ, opened again, is what the adjoint rules give without any simplifying."""
    net = network("3-4-2", activation="tanh", loss=loss_name)
    for derivation in net.deltas().values():
        assert derivation.proof.outcome == "equal", derivation.text
    plain, _ = vjp(net.forward, list(net.parameter_shapes), as_tensor(1))
    _, gradients, _, _ = net._derived
    for name, gradient in gradients.items():
        assert equal(gradient, plain[name]).outcome == "equal", name


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_generated_source_agrees_with_differences(loss_name, reduction):
    net = network("5-4-3", activation="tanh", loss=loss_name, reduction=reduction)
    module = run(net.numpy_source())
    rng = np.random.default_rng(1)
    parameters = {name: rng.normal(size=shape) / 2 for name, shape in net.parameter_shapes.items()}
    X, Y = rng.normal(size=(7, 5)), np.eye(3)[rng.integers(0, 3, 7)]

    def slope(z):
        return 1 - np.tanh(z) ** 2

    P, saved = module["forward"](parameters, X, np.tanh)
    assert P.shape == (7, 3)
    gradients = module["backward"](parameters, X, Y, saved, slope)
    assert list(gradients) == list(parameters)
    assert isinstance(module["loss"](saved, Y), float)
    for name, value in parameters.items():
        assert gradients[name].shape == value.shape
        direction = rng.normal(size=value.shape)
        ends = []
        for sign in (1, -1):
            moved = {**parameters, name: value + sign * 1e-5 * direction}
            ends.append(module["loss"](module["forward"](moved, X, np.tanh)[1], Y))
        difference = (ends[0] - ends[1]) / 2e-5
        assert math.isclose(difference, (gradients[name] * direction).sum(), rel_tol=1e-6, abs_tol=1e-8)


@pytest.mark.parametrize("widths", ["4-3", "2-5-3", "784-256-128-10", "6-5-4-3-2-2"])
def test_generated_source_agrees_with_torch(widths):
    torch = pytest.importorskip("torch")
    net = network(widths, activation="relu")
    module = run(net.numpy_source())
    rng = np.random.default_rng(2)
    parameters = {name: rng.normal(size=s) / math.sqrt(s[0]) for name, s in net.parameter_shapes.items()}
    X = rng.normal(size=(9, net.widths[0]))
    Y = np.eye(net.widths[-1])[rng.integers(0, net.widths[-1], 9)]
    leaves = {name: torch.tensor(v, requires_grad=True) for name, v in parameters.items()}
    a = torch.tensor(X)
    for layer in range(1, net.depth + 1):
        z = a @ leaves[f"W{layer}"] + leaves[f"b{layer}"]
        a = torch.relu(z)
    value = torch.nn.functional.cross_entropy(z, torch.tensor(Y))
    value.backward()
    P, saved = module["forward"](parameters, X, lambda v: np.maximum(v, 0))
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-14)
    assert math.isclose(module["loss"](saved, Y), value.item(), rel_tol=1e-12)
    gradients = module["backward"](parameters, X, Y, saved, lambda v: (v > 0).astype(float))
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, leaves[name].grad.numpy(), rtol=1e-9, atol=1e-13)


def test_the_loss_does_not_overflow():
    net = network("2-3")
    module = run(net.numpy_source())
    parameters = {"W1": np.full((2, 3), 500.0) * [[1, -1, 2], [1, 1, 1]], "b1": np.zeros(3)}
    X, Y = np.array([[3.0, 1.0]]), np.array([[0.0, 1.0, 0.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        P, saved = module["forward"](parameters, X, None)
        assert module["loss"](saved, Y) == 4500.0
        assert np.isfinite(P).all()


@pytest.mark.parametrize("loss_name", ["softmax_cross_entropy", "squared_error", "binary_cross_entropy", "huber"])
def test_the_delta_recursion_is_proved_for_any_depth(loss_name):
    theorem = delta_recursion(loss_name)
    assert theorem.proved
    assert theorem.step.text() == "δ⁽ˡ⁾ = (δ⁽ˡ⁺¹⁾ W⁽ˡ⁺¹⁾ᵀ) ⊙ σ′(z⁽ˡ⁾)"
    assert theorem.step.text("columns") == "δ⁽ˡ⁾ = (W⁽ˡ⁺¹⁾ᵀ δ⁽ˡ⁺¹⁾) ⊙ σ′(z⁽ˡ⁾)"
    assert "induction" in theorem.text()
    assert "NOT" not in theorem.text()
    assert all("^{(l+1)}^" not in line for line in theorem.latex)


def test_a_wrong_recursion_is_not_proved():
    from dataclasses import replace

    theorem = delta_recursion()
    wrong = replace(theorem.step, claimed=theorem.step.claimed * 2)
    bad = replace(theorem, step=wrong)
    assert not bad.proved
    assert "NOT proved" in bad.text()


def test_output_delta_of_the_theorem():
    assert delta_recursion(reduction="sum").base.text() == "δ⁽ᴸ⁾ = p − y"
    assert delta_recursion().base.text() == "δ⁽ᴸ⁾ = (p − y)/N"


@pytest.mark.parametrize(
    "bad", ["", "4", "4-", "4-0-2", "4--2", "a-b", "4-1e3", "-4-2", "4-2.5", "9" * 99, "2-" * 80 + "2", "٣-٤"]
)
def test_wrong_widths_are_refused_in_one_line(bad):
    with pytest.raises(InputError) as caught:
        parse_widths(bad)
    assert "\n" not in str(caught.value)


def test_wrong_names_are_refused():
    with pytest.raises(InputError):
        network("4-3", activation="rleu")
    with pytest.raises(InputError):
        network("4-3", loss="cross_entopy")
    with pytest.raises(InputError, match="reduction"):
        network("4-3", reduction="none")
    with pytest.raises(InputError):
        network("4-3", activation='__import__("os").system("x")')


@pytest.mark.parametrize("spec", ["99999999999-3", "4-10000001-3", "4-" + "9" * 5000])
def test_a_width_beyond_the_limit_is_called_too_large(spec):
    with pytest.raises(InputError, match=r"the width [0-9]+ is too large, at most 10000000"):
        parse_widths(spec)


@pytest.mark.parametrize("spec", ["4-0-3", "4--3", "4", "4-x", "4-2.5", "-4-3"])
def test_what_is_no_width_is_asked_for_as_positive_integers(spec):
    with pytest.raises(InputError, match="positive integers"):
        parse_widths(spec)
    assert parse_widths("0" * 5000 + "4-3") == (4, 3)
