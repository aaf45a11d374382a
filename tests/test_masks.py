"""Attention with masks: every option against 300-digit balls and PyTorch; rows that see nothing; −∞ as algebra."""

import random

import flint
import numpy as np
import pytest

from backproof.theory.equality import equal, evaluate
from backproof.theory.errors import InputError
from backproof.theory.layers import layer
from backproof.theory.tensors import BOOLEAN, Input, Position, allowed, axis, exp

from .test_backprop import difference_quotient
from .test_layers import arrays_at, as_array

OPTIONS = [
    ("attention", "none"), ("attention", "causal"), ("attention", "given"),
    ("multi_head_attention", "causal"), ("multi_head_attention", "given"), ("multi_head_attention", "keys"),
    ("self_attention", "none"), ("self_attention", "causal"), ("self_attention", "keys"),
]  # fmt: skip
N, S, T = axis("n"), axis("s"), axis("t")


def module_of(row):
    namespace = {}
    exec(row.numpy_source(), namespace)
    return namespace


@pytest.mark.parametrize(("name", "mask"), OPTIONS)
def test_gradients_are_proved_run_and_agree_with_balls(name, mask):
    row = layer(name, mask=mask)
    gradients = row.gradients()
    assert all(d.proof.outcome == "equal" for d in gradients.values())
    point, arrays = arrays_at([row.forward, row.cotangent, *row.inputs], 7, {})
    with flint.ctx.workprec(1000):  # 300 digits
        y = as_array(evaluate(row.forward, point), row.forward, row.output_axes)
        exact = [as_array(evaluate(d.raw, point), d.raw, d.axes) for d in gradients.values()]
    given, module = [arrays[a.name] for a in row.inputs], module_of(row)
    np.testing.assert_allclose(module["forward"](*given), y, rtol=1e-12, atol=1e-13)
    for got, want in zip(module["backward"](arrays["dy"], *given), exact, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "mask"), [o for o in OPTIONS if o[0] != "self_attention"])
def test_gradients_agree_with_differences_in_balls(name, mask):
    """⟨dy, (y(q + h v) − y(q))/h⟩ in 300 digits: the forward pass differentiated without any of our rules."""
    row = layer(name, mask=mask)
    for wrt in ("q", "k", "v"):
        target = next(a for a in row.inputs if a.name == wrt)
        v = Input("direction", target.indices)
        raw = row.vjp(wrt).raw
        point, _ = arrays_at([row.forward, raw, row.cotangent, v, *row.inputs], 3, {})
        with flint.ctx.workprec(1000):
            slopes = difference_quotient(row.forward, wrt, point.entries["direction"], point)
            order = [row.forward.axes.index(a) for a in row.output_axes]
            forward = sum(
                slope * float_free(point.entries["dy"][tuple(cell[k] for k in order)]) for cell, slope in slopes.items()
            )
            values = evaluate(raw, point)
            places = [raw.axes.index(a) for a in target.indices]
            reverse = sum(
                ball * float_free(point.entries["direction"][tuple(cell[k] for k in places)])
                for cell, ball in values.items()
            )
            assert abs(forward - reverse) < flint.arb(10) ** -50


def float_free(value):
    return flint.arb(flint.fmpq(value.numerator, value.denominator))


@pytest.mark.parametrize(("name", "mask"), [o for o in OPTIONS if o[0] != "self_attention"])
def test_gradients_agree_with_torch(name, mask):
    torch = pytest.importorskip("torch")
    row, rng = layer(name, mask=mask), np.random.default_rng(2)
    shapes = {"n": 2, "h": 3, "t": 5, "s": 4, "d": 3, "e": 2}
    arrays = {a.name: rng.standard_normal([shapes[i.name] for i in a.indices]) for a in row.inputs}
    options = {}
    if mask in ("given", "keys"):
        allowed_at = rng.random(arrays["mask"].shape) < 0.6
        allowed_at[..., 0] = True
        arrays["mask"] = allowed_at.astype(float)
        seen = torch.tensor(allowed_at)
        options["attn_mask"] = seen if mask == "given" else seen[:, None, None, :]
    leaves = [torch.tensor(arrays[n], requires_grad=True) for n in "qkv"]
    y = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=mask == "causal", **options)
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    module, given = module_of(row), [arrays[a.name] for a in row.inputs]
    np.testing.assert_allclose(module["forward"](*given), y.detach().numpy(), rtol=1e-12, atol=1e-13)
    for got, leaf in zip(module["backward"](dy, *given), leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_self_attention_is_torchs_multi_head_attention(mask):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    n, t, heads, one = 2, 5, 3, 2
    width = heads * one
    row = layer("self_attention", mask=mask)
    W = {k: rng.standard_normal((width, heads, one)) for k in ("Wq", "Wk", "Wv")}
    b = {k: rng.standard_normal((heads, one)) for k in ("bq", "bk", "bv")}
    out, bo = rng.standard_normal((heads, one, width)), rng.standard_normal(width)
    x = rng.standard_normal((n, t, width))
    theirs = torch.nn.MultiheadAttention(width, heads, batch_first=True, dtype=torch.float64)
    flat = [torch.tensor(W[k].reshape(width, width).T) for k in ("Wq", "Wk", "Wv")]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat(flat))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate([b[k].reshape(-1) for k in ("bq", "bk", "bv")])))
        theirs.out_proj.weight.copy_(torch.tensor(out.reshape(width, width).T))
        theirs.out_proj.bias.copy_(torch.tensor(bo))
    leaf = torch.tensor(x, requires_grad=True)
    later = torch.ones(t, t, dtype=torch.bool).triu(1) if mask == "causal" else None
    y, _ = theirs(leaf, leaf, leaf, attn_mask=later, need_weights=False)
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    given = (x, W["Wq"], b["bq"], W["Wk"], b["bk"], W["Wv"], b["bv"], out, bo)
    module = module_of(row)
    np.testing.assert_allclose(module["forward"](*given), y.detach().numpy(), rtol=1e-11, atol=1e-12)
    dx, dWq, _, _, dbk, *_ = module["backward"](dy, *given)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(dWq.reshape(width, width).T, theirs.in_proj_weight.grad[:width].numpy(), atol=1e-10)
    np.testing.assert_allclose(dbk, 0)  # derived: softmax sees differences of scores only


def test_a_position_that_may_look_at_nothing_gets_zero_and_no_warning():
    row = layer("attention", mask="given")
    module, rng = module_of(row), np.random.default_rng(0)
    q, k, v = (rng.standard_normal(shape) * 300 for shape in ((3, 2), (4, 2), (4, 5)))
    mask = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], float)
    with np.errstate(all="raise", under="ignore"):
        y = module["forward"](q, k, v, mask)
        gradients = module["backward"](np.ones((3, 5)), q, k, v, mask)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(gradients[0][1], 0)
    assert all(np.isfinite(g).all() for g in gradients)


def test_what_is_left_out_is_minus_infinity():
    z, mask = Input("z", (T, S)), Input("mask", (T, S), (BOOLEAN,))
    assert equal(exp(allowed(mask, z)), mask * exp(z)).outcome == "equal"
    assert equal(allowed(mask, z).max("s"), z.max("s")).outcome != "equal"
    assert equal(exp(allowed(mask, z)), exp(z)).outcome == "different"
    assert equal(Position(S) + Position(T), Position(T) + Position(S)).outcome == "equal"


def test_wrong_masks_are_refused():
    for name, mask in (("attention", "keys"), ("attention", "upper"), ("self_attention", "given")):
        with pytest.raises(InputError, match="mask"):
            layer(name, mask=mask)


def test_random_points_hold_masks_of_zeros_and_ones():
    row = layer("attention", mask="given")
    point, arrays = arrays_at(row.inputs, random.Random(1).randrange(9), {})
    assert set(np.unique(arrays["mask"])) <= {0.0, 1.0}
    assert point.sizes
