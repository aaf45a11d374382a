"""Every loss row: gradients proved, the output deltas that textbooks state, generated source against torch."""

import numpy as np
import pytest
import sympy

from backproof.theory.equality import equal
from backproof.theory.errors import InputError
from backproof.theory.losses import LOSSES, OUTPUTS, REDUCTIONS, K, N, loss
from backproof.theory.tensors import Input, as_tensor


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_proved(name, reduction):
    for through in (False, True):
        derivation = loss(name).gradient(reduction=reduction, through_output=through)
        assert derivation.proof.outcome == "equal", derivation.proof.why
        wrong = equal(derivation.gradient * sympy.Rational(1001, 1000), derivation.raw, points=6)
        assert wrong.outcome == "different", derivation.text


@pytest.mark.parametrize("name", LOSSES)
def test_the_facts_are_stated(name):
    row = loss(name)
    derivation = row.gradient()
    assert bool(derivation.facts) == bool(row.target_facts)
    if row.target_facts:
        assert "using y" in derivation.text
    assert row.output in OUTPUTS


@pytest.mark.parametrize(
    ("name", "options", "form"),
    [
        ("softmax_cross_entropy", {"reduction": "sum"}, "dz[n,k] = p[n,k] − y[n,k]"),
        ("softmax_cross_entropy", {}, "dz[n,k] = (p[n,k] − y[n,k])/N"),
        ("softmax_cross_entropy", {"reduction": "sum", "assume": False}, "dz[n,k] = p[n,k] Σ_k1 y[n,k1] − y[n,k]"),
        ("cross_entropy", {"reduction": "sum", "through_output": True}, "dz[n,k] = p[n,k] − y[n,k]"),
        ("kl_divergence", {"reduction": "sum", "through_output": True}, "dz[n,k] = p[n,k] − y[n,k]"),
        ("binary_cross_entropy_logits", {"reduction": "sum"}, "dz[n,k] = p[n,k] − y[n,k]"),
        ("binary_cross_entropy", {"reduction": "sum", "through_output": True}, "dz[n,k] = p[n,k] − y[n,k]"),
        ("label_smoothing", {"reduction": "sum"}, "dz[n,k] = p[n,k] − q[n,k]"),
        ("squared_error", {"reduction": "sum"}, "dz[n,k] = 2 (z[n,k] − y[n,k])"),
        ("half_squared_error", {"reduction": "sum"}, "dz[n,k] = z[n,k] − y[n,k]"),
        ("l1", {"reduction": "sum"}, "dz[n,k] = sign(z[n,k] − y[n,k])"),
        ("log_cosh", {"reduction": "sum"}, "dz[n,k] = tanh(z[n,k] − y[n,k])"),
        ("nll", {"reduction": "sum"}, "dlogp[n,k] = −y[n,k]"),
        ("nll", {"reduction": "sum", "through_output": True}, "dz[n,k] = exp(p[n,k]) − y[n,k]"),
    ],
)
def test_the_output_delta_comes_out_simplified(name, options, form):
    assert loss(name).gradient(**options).index == form


def test_the_delta_is_not_p_minus_y_without_the_fact():
    """For targets that do not sum to one, p − y is refuted with a counterexample."""
    row = loss("softmax_cross_entropy")
    z, y = row.inputs(assume=False)
    derivation = row.gradient(reduction="sum", assume=False)
    textbook = row.predict(z) - y
    result = equal(derivation.raw, textbook)
    assert result.outcome == "different"
    assert not result.left.overlaps(result.right)
    stated = row.gradient(reduction="sum")
    assert equal(stated.raw, row.predict(z) - Input("y", (N, K), row.target_facts)).outcome == "equal"


def test_reductions_divide_by_what_they_average():
    none = loss("squared_error").gradient(reduction="none").gradient
    total = loss("squared_error").gradient(reduction="sum").gradient
    mean = loss("squared_error").gradient(reduction="mean").gradient
    assert equal(mean * as_tensor(N.size * K.size), total)
    assert equal(none, total * Input("dy", (N, K)))


def random_case(name, rng, shape=(5, 3)):
    row = loss(name)
    y = rng.normal(size=shape)
    if any(f.kind == "one-hot" for f in row.target_facts):
        y = np.eye(shape[1])[rng.integers(0, shape[1], shape[0])]
    elif row.target_facts:
        y = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    elif "hinge" in name:
        y = np.sign(y)
    elif "binary" in name:
        y = (y > 0).astype(float)
    return row, rng.normal(size=shape), y


TORCH = {
    "squared_error": lambda t, F, z, y: F.mse_loss(z, y),
    "l1": lambda t, F, z, y: F.l1_loss(z, y),
    "huber": lambda t, F, z, y: F.huber_loss(z, y),
    "smooth_l1": lambda t, F, z, y: F.smooth_l1_loss(z, y),
    "log_cosh": lambda t, F, z, y: t.log(t.cosh(z - y)).mean(),
    "binary_cross_entropy": lambda t, F, z, y: F.binary_cross_entropy(t.sigmoid(z), y),
    "binary_cross_entropy_logits": lambda t, F, z, y: F.binary_cross_entropy_with_logits(z, y),
    "softmax_cross_entropy": lambda t, F, z, y: F.cross_entropy(z, y),
    "label_smoothing": lambda t, F, z, y: F.cross_entropy(z, y, label_smoothing=0.1),
    "nll": lambda t, F, z, y: F.nll_loss(F.log_softmax(z, 1), y.argmax(1)),
    "kl_divergence": lambda t, F, z, y: F.kl_div(F.log_softmax(z, 1), y, reduction="batchmean"),
    "hinge": lambda t, F, z, y: t.relu(1 - y * z).mean(),
    "squared_hinge": lambda t, F, z, y: (t.relu(1 - y * z) ** 2).mean(),
}


@pytest.mark.parametrize("name", TORCH)
def test_gradient_source_agrees_with_torch(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    row, z, y = random_case(name, rng)
    leaf = torch.tensor(z, requires_grad=True)
    TORCH[name](torch, torch.nn.functional, leaf, torch.tensor(y)).backward()
    derivation = row.gradient(through_output=True)
    namespace = {}
    exec(derivation.numpy_source, namespace)
    got = namespace[f"d{derivation.wrt}_of"](z, y)
    np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_unknown_names():
    assert loss("MSE") is LOSSES["squared_error"]
    with pytest.raises(InputError, match="did you mean"):
        loss("softmax_crossentropy")
    with pytest.raises(InputError, match="reduction"):
        loss("mse").gradient(reduction="median")
