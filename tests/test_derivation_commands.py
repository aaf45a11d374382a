"""The derive commands as a person uses them: formats, layouts, products, costs, the theorem, networks, bad input."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.demos.pages import FORMATS
from backproof.theory.costs import leading_ratio
from backproof.theory.grammar import sequence
from backproof.theory.layers import LAYERS, layer
from backproof.theory.losses import LOSSES, loss
from backproof.theory.products import layer_products, loss_products
from backproof.theory.recursion import delta_recursion
from backproof.theory.transcript import transcript

BLOCK = (
    "residual(layer_norm attention(2, mask=causal)) residual(layer_norm swiglu(6) dense(4)) mean_over_steps dense(3)"
)
NETWORKS = [
    (BLOCK, "5x4"),
    ("embedding(4) positional lstm(3) flatten dense(2)", "4x6"),
    ("conv(4,3,padding=1) group_norm(2) relu max_pool(3,stride=2,padding=1) flatten dense(3)", "2x7x6"),
    ("conv(4,3,groups=2) silu conv(4,3,groups=depthwise) batch_norm flatten dense(2)", "2x9"),
    ("conv_transpose(3,2,stride=2) gelu avg_pool(2) flatten rms_norm dense(2)", "2x3x4"),
]


def out_of(capsys, *arguments, status=0):
    assert run(["derive", *arguments]) == status
    return capsys.readouterr().out


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form, capsys):
    page = out_of(capsys, "layer", "batch_norm", "--format", form, "--steps")
    assert "product rule" in page
    if form == "html":
        assert "<script" not in page
        assert "http" not in page.replace("http://www.w3.org", "")
        plain = re.sub(r"<!DOCTYPE html>|<meta [^>]*>", "", page)
        root = ElementTree.fromstring(plain)
        assert sum(e.tag.endswith("math") for e in root.iter()) > 10
    if form == "latex":
        assert page.count(r"\begin{equation*}") == page.count(r"\end{equation*}") > 10
        assert page.isascii(), sorted({c for c in page if not c.isascii()})
    if form == "text":
        assert "dx = γ ⊙ r ⊙ (N dy − 1ᵀdy − x̂ ⊙ (1ᵀ(dy ⊙ x̂)))/N   [N×I]" in page


def test_columns(capsys):
    assert "dx = Wᵀ dy   [I×N]" in out_of(capsys, "layer", "dense", "--layout", "columns")
    page = out_of(capsys, "network", "4-8-3", "--layout", "columns")
    assert "Δ1 = (W2ᵀ Δ2) ⊙ σ′(Z1)   [D1×N]" in page
    assert "dW1 = Δ1 Xᵀ   [D1×D0]" in page
    page = out_of(capsys, "recursion", "half_squared_error", "--layout", "columns")
    assert "δ⁽ˡ⁾ = (W⁽ˡ⁺¹⁾ᵀ δ⁽ˡ⁺¹⁾) ⊙ σ′(z⁽ˡ⁾)" in page


def test_file_names_choose_the_format(tmp_path, capsys):
    target = tmp_path / "lstm.html"
    assert run(["derive", "layer", "rnn", "--output", str(target)]) == 0
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out == ""


def test_options_in_the_text_and_costs(capsys):
    page = out_of(capsys, "layer", "conv2d(stride=2)", "--at", "N=2,C=3,O=4,I=9,J=9,U=3,V=3")
    assert "conv_transpose2d(dy, W), stride 2" in page
    assert "backward/forward" in page
    data = json.loads(out_of(capsys, "layer", "dense", "--at", "N=32,I=784,O=128", "--json"))
    assert data["costs"]["parameters"] == "100,480"
    assert leading_ratio(layer("dense").costs) == "2 as the sizes grow"


def test_gates_read_as_mathematics(capsys):
    page = out_of(capsys, "layer", "lstm_cell")
    assert "o_gate = σ(zo)" in page
    assert "if zo > 0" not in page
    assert "a = tanh(cell)" in page.split("dx =")[0]  # the forward pass defines what it names
    assert "dz[n,t,o] = (dh[n,t,o] + dy[n,t,o]) (1 − tanh(z[n,t,o])²)" in out_of(capsys, "layer", "rnn")


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_the_theorem_of_any_depth(name, skip):
    theorem = delta_recursion(name, "sum", skip=skip)
    assert theorem.proved
    assert ("δ⁽ˡ⁺¹⁾ + " in theorem.step.text()) == skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_transcript_collects_what_the_rules_gave(name):
    row = layer(name)
    wrt = row.differentiable[0]
    found = transcript(row.forward, wrt, row.cotangent, row.vjp(wrt).axes)
    assert found.collected.axes
    assert all(r.received for r in found.rules)
    if name not in ("lstm", "gru", "rnn"):
        from backproof.theory.equality import equal

        assert equal(found.collected, row.vjp(wrt).raw).outcome == "equal"


#: products whose normal forms take long: the tangent alone
LONG = {"lstm", "gru", "lstm_cell", "gru_cell", "self_attention", "multi_head_attention", "attention", "rnn"}


@pytest.mark.parametrize("kind", ["jvp", "hvp", "gauss-newton"])
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in LONG])
def test_products_of_layers_are_proved_and_run(name, kind):
    for d in layer_products(layer(name), kind):
        assert d.proof.outcome == "equal", d.proof.why
        if name != "activation":
            namespace = {}
            exec(d.numpy_source, namespace)


@pytest.mark.parametrize("kind", ["jvp", "hvp", "gauss-newton"])
@pytest.mark.parametrize("name", LOSSES)
def test_products_of_losses_are_proved(name, kind):
    for d in loss_products(loss(name), kind, "sum"):
        assert d.proof.outcome == "equal", d.proof.why


def test_the_hessian_of_softmax_with_cross_entropy():
    (d,) = loss_products(loss("softmax_cross_entropy"), "hvp", "sum")
    assert d.matrix() == "Hv_z = p ⊙ (v − (p ⊙ v) 1)"


@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_networks_from_text_run_and_agree_with_differences(text, shape):
    """The printed module: its gradients against central differences of its own loss, at every parameter."""
    net = sequence(text, shape)
    assert all(g.outcome == "equal" for g in net.gradients())
    module = {}
    exec(net.numpy_source(), module)
    rng = np.random.default_rng(1)
    parameters = {k: rng.standard_normal(s) * 0.5 for k, s in net.parameter_shapes.items()}
    X = rng.standard_normal((3, *net.input_shape))
    if text.startswith("embedding"):
        X = np.eye(net.input_shape[1])[rng.integers(net.input_shape[1], size=(3, net.input_shape[0]))]
    Y = np.eye(net.output_shape[0])[rng.integers(net.output_shape[0], size=3)]
    A, saved = module["forward"](parameters, X)
    assert A.shape == (3, *net.output_shape)
    gradients = module["backward"](parameters, saved, Y)
    assert list(gradients) == list(parameters)

    def value():
        return module["loss"](module["forward"](parameters, X)[0], Y)

    for name, array in parameters.items():
        assert gradients[name].shape == array.shape
        direction = rng.standard_normal(array.shape)
        kept = array.copy()
        ends = []
        for sign in (1, -1):
            parameters[name] = kept + sign * 1e-5 * direction
            ends.append(value())
        parameters[name] = kept
        slope = (ends[0] - ends[1]) / 2e-5
        # central differences of float64: about ten digits of the step, no more
        assert abs(slope - (gradients[name] * direction).sum()) < 1e-7 * max(1, abs(slope)), name


def test_the_transformer_block_is_what_autograd_gives():
    torch = pytest.importorskip("torch")
    net = sequence(BLOCK, "5x4")
    module = {}
    exec(net.numpy_source(), module)
    rng = np.random.default_rng(4)
    p = {k: rng.standard_normal(s) for k, s in net.parameter_shapes.items()}
    X, Y = rng.standard_normal((2, 5, 4)), np.eye(3)[[0, 2]]
    _, saved = module["forward"](p, X)
    ours = module["backward"](p, saved, Y)
    F, t = torch.nn.functional, {k: torch.tensor(v, requires_grad=True) for k, v in p.items()}
    x = torch.tensor(X)
    h = F.layer_norm(x, (4,), t["gamma1"], t["beta1"], eps=1e-5)
    q, k, v = (torch.einsum("nti,ihd->nhtd", h, t[f"W{w}2"]) + t[f"b{w}2"][:, None] for w in "qkv")
    z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + torch.einsum("nhte,heo->nto", z, t["Wo2"]) + t["bo2"]
    h = F.layer_norm(x, (4,), t["gamma4"], t["beta4"], eps=1e-5)
    h = (h @ t["W5"]) * F.silu(h @ t["V5"])
    x = (x + h @ t["W6"] + t["b6"]).mean(1) @ t["W9"] + t["b9"]
    F.cross_entropy(x, torch.tensor(Y)).backward()
    for name, leaf in t.items():
        np.testing.assert_allclose(ours[name], leaf.grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name)


def test_what_a_network_costs(capsys):
    page = out_of(capsys, "network", BLOCK, "--input", "5x4")
    assert "stored activations" in page
    assert "view(A" not in page
    assert "A1 = layer_norm(A0; γ1, β1)   [N×5×4]" in page
    assert "235,146" in out_of(capsys, "network", "784-256-128-10")


@pytest.mark.parametrize(
    "wrong",
    [
        ["layer", "conv2d(stride=)"],
        ["layer", "conv2d(stride=2"],
        ["layer", "dense", "--at", "Q=3"],
        ["layer", "dense", "--at", "N=x"],
        ["layer", "dense", "--product", "hessian"],
        ["layer", "dense", "--product", "jvp", "--steps"],
        ["layer", "dense", "--product", "hvp", "--wrt", "q"],
        ["layer", "attention(mask=upper)"],
        ["layer", "dense", "--format", "docx"],
        ["layer", "dense", "--output", "/no/such/folder/page.html"],
        ["loss", "mse", "--product", "jvp", "--any-target"],
        ["network", "attention(3) flatten dense(2)", "--input", "5x4"],
        ["network", "attention(2, mask=upper) flatten dense(2)", "--input", "5x4"],
        ["network", "attention flatten dense(2)", "--input", "5x4"],
        ["network", "relu embedding(3) dense(2)", "--input", "4"],
        ["network", "conv(4,3,groups=3) flatten dense(2)", "--input", "2x9"],
        ["network", "conv(4,3,groups=many) flatten dense(2)", "--input", "2x9"],
        ["network", "conv(4,3,groups=0) flatten dense(2)", "--input", "2x9"],
        ["network", "group_norm(3) flatten dense(2)", "--input", "4x9"],
        ["network", "dense(2)", "--input", "4", "--depth-theorem"],
        ["recursion", "softmaxx"],
    ],
)
def test_wrong_use_is_one_line(wrong, capsys):
    assert run(["derive", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
