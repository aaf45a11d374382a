"""Networks as text: shapes inferred, every gradient derived, hostile text refused in one line."""

from __future__ import annotations

import json
import time

import pytest

from backproof.demos.cli import run
from backproof.theory.errors import InputError
from backproof.theory.grammar import parse_layers, parse_shape, sequence

NET = (
    "conv(16,3,padding=1) batch_norm relu max_pool(2) residual(conv(16,3,padding=1) gelu) "
    "flatten dense(32) layer_norm dense(10)"
)


def test_shapes_and_parameters():
    net = sequence(NET, "3x8x8")
    assert [step.makes for step in net.steps] == [
        (16, 8, 8), (16, 8, 8), (16, 8, 8), (16, 4, 4), (16, 4, 4), (16, 4, 4), (16, 4, 4), (256,), (32,), (32,), (10,)
    ]  # fmt: skip
    assert net.parameter_shapes["W1"] == (16, 3, 3, 3)
    assert net.parameter_count == 448 + 32 + 2320 + 8224 + 64 + 330


def test_every_gradient_is_there_once_and_proved():
    net = sequence(NET, "3x8x8")
    found = net.gradients()
    names = [g.name for g in found]
    assert names[0] == "dA11"
    assert names[-1] == "dA0"
    assert len(set(names)) == len(names)
    assert {f"d{p}" for p in net.parameter_shapes} <= set(names)
    assert all(g.outcome == "equal" for g in found)
    at = names.index
    assert at("dA7") < at("dA6") < at("dW5") < at("dB4") < at("dA4") < at("dA3")
    assert next(g for g in found if g.name == "dA4").text.startswith("dA4 = dA7 + dB4")
    assert "conv_transpose2d(dA5, W5)" in next(g for g in found if g.name == "dB4").text


@pytest.mark.parametrize("seed", [0, 1])
def test_the_chain_is_what_autograd_gives(seed):
    """The printed layers, run one after the other backwards, against PyTorch on the whole network."""
    torch = pytest.importorskip("torch")
    from backproof.numerics.emission import layer_source
    from backproof.theory.layers import layer

    torch.manual_seed(seed)
    x = torch.randn(3, 2, 7, 6, dtype=torch.float64, requires_grad=True)
    W = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    row = layer("conv2d", stride=2, padding=1)
    namespace: dict = {}
    exec(layer_source(row, "torch"), namespace)
    ours = namespace["conv2d"](x, W, b)
    theirs = torch.nn.functional.conv2d(x, W, b, stride=2, padding=1)
    assert torch.allclose(ours, theirs)
    assert tuple(ours.shape[1:]) == sequence("conv(4,3,stride=2,padding=1) flatten dense(2)", "2x7x6").steps[0].makes
    mine = torch.autograd.grad(ours.sin().sum(), (x, W, b))
    reference = torch.autograd.grad(theirs.sin().sum(), (x, W, b))
    assert all(torch.allclose(p, q) for p, q in zip(mine, reference))


def test_cost_grows_with_the_number_of_layers():
    sequence("dense(8) relu dense(3)", "4").gradients()
    start = time.perf_counter()
    found = sequence("dense(8) relu " * 30 + "dense(3)", "4").gradients()
    assert len(found) == 1 + 30 * 4 + 3
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("text", ["conv(8,3) avg_pool(2) flatten dense(4)", "relu flatten dense(4)"])
def test_one_dimension(text):
    assert sequence(text, "3x20").output_shape == (4,)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("", "4", "write its layers"),
        ("dense(10", "4", "not closed"),
        ("dense(10))", "4", "out of place"),
        ("dense()", "4", "takes a width"),
        ("dense(0)", "4", "takes a width"),
        ("dense(10,)", "4", "comma"),
        ("dense(99999999999)", "4", "a size is at most"),
        ("densee(10)", "4", "did you mean"),
        ("dropout(2) dense(3)", "4", "between 0 and 1"),
        ("residual(residual(relu)) dense(3)", "4", "cannot begin with a residual"),
        ("dense(10)", "3x8x8", "put flatten before it"),
        ("conv(8,3) flatten dense(2)", "10", "channels and positions"),
        ("conv(8,9) flatten dense(2)", "3x8x8", "does not fit"),
        ("conv(8,3,stride=0) flatten dense(2)", "3x8x8", "stride"),
        ("conv(8,3,padding=x) flatten dense(2)", "3x8x8", "padding"),
        ("conv(8,3,colour=2) flatten dense(2)", "3x8x8", "no option"),
        ("conv1d(8,3) flatten dense(2)", "3x8x8", "does not fit"),
        ("residual(dense(5)) dense(2)", "4", "must be equal"),
        ("residual(" * 20 + "relu" + ")" * 20, "4", "nested deeper"),
        ("relu " * 150, "4", "at most|more than"),
        ("relu " * 1000, "4", "longer than"),
        ("attention", "4", "steps and features"),
        ("lstm_cell", "4", "several inputs"),
        ("relu", "3x8x8", "a loss needs one axis"),
        ("__import__('os')", "4", "not part of a layer"),
        ("dense(10)", "3xx8", "input shape"),
        ("dense(10)", "0", "input shape"),
        ("dense(10)", "1x2x3x4", "input shape"),
        ("lstm(4) flatten dense(2)", "3x8x8", "steps and features|several inputs|unknown"),
    ],
)
def test_wrong_text_is_one_clear_line(text, shape, message):
    with pytest.raises(InputError, match=message) as error:
        sequence(text, shape)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_parsing():
    (item,) = parse_layers("residual(conv(3, 3, padding=1) relu)")
    assert [i.name for i in item.inside] == ["conv", "relu"]
    assert item.inside[0].options == {"padding": "1"}
    assert parse_shape(" 3×32×32 ") == (3, 32, 32)


def test_command(capsys):
    text = "conv(4,3) relu max_pool(2) flatten dense(10)"
    assert run(["derive", "network", text, "--input", "1x8x8"]) == 0
    out = capsys.readouterr().out
    assert "dW1[o,c,u,v] =" in out
    assert "[4×1×3×3]" in out
    assert "proved equal, for all shapes" in out
    assert run(["derive", "network", text, "--input", "1x8x8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameter_count"] == 40 + 370
    for wrong in (
        [text],
        ["4-8-3", "--input", "4"],
        [text, "--input", "1x8x8", "--activation", "relu"],
        ["dense(3", "--input", "4"],
    ):
        assert run(["derive", "network", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
