"""Windows and overlap-adds: their rules at exact points, and every option of convolutions and pooling against torch."""

import random
from fractions import Fraction

import flint
import numpy as np
import pytest

from backproof.theory.backprop import jvp, vjp
from backproof.theory.equality import equal, evaluate, generic_point
from backproof.theory.errors import InputError
from backproof.theory.layers import layer
from backproof.theory.normal_form import normal_form, vanishes
from backproof.theory.simplify import simplify
from backproof.theory.tensors import Input, axis, contract, exp
from backproof.theory.windows import Affine, Overlap, Tie, Window, as_contraction, overlap, window

from .test_layers import arrays_at, as_array

n, c, i, j, u, v = (axis(name) for name in "ncijuv")
x, y, w = Input("x", (n, i)), Input("y", (n, i)), Input("w", (u,))
X = Input("X", (n, i, j))
AFFINE = [(1, 1, 0), (2, 1, 0), (1, 2, 1), (3, 2, 2)]


def seen(t, stride=1, dilation=1, padding=0, over="i", out="p", tap=u):
    return window(t, over, out, tap, stride=stride, dilation=dilation, padding=padding)


def agree(left, right, seeds=(1, 2, 3)):
    for seed in seeds:
        point = generic_point((left, right), random.Random(seed))
        with flint.ctx.workprec(300):
            a, b = evaluate(left, point), evaluate(right, point)
        order = [left.names.index(name) for name in right.names]
        assert len(a) > 0
        for cell, value in a.items():
            assert value.overlaps(b[tuple(cell[k] for k in order)])


def rules(s, d, p):
    wx, wy = seen(x, s, d, p), seen(y, s, d, p)
    twice = seen(seen(X, s, d, p), 1, 1, p, over="j", out="q", tap=v)
    return {
        "window of a product": (seen(x * y, s, d, p), wx * wy),
        "window of a power": (seen(x**3, s, d, p), wx**3),
        "summed window of a product": (seen(x * y, s, d, p).sum("u"), (wx * wy).sum("u")),
        "window of a sum": (seen(x + 2 * y, s, d, p), wx + 2 * wy),
        "window is a sum over a tie": (wx, as_contraction(wx)),
        "two axes in either order": (twice, seen(seen(X, 1, 1, p, over="j", out="q", tap=v), s, d, p)),
        "a factor without the axis leaves": (seen(x * Input("a", (n,)), s, d, p), Input("a", (n,)) * wx),
        "overlap-add is the adjoint": (
            (wx * Input("z", wx.axes)).sum(("n", "p", "u")),
            (x * Overlap(Input("z", wx.axes), wx.out, wx.tap, i, wx.affine)).sum(("n", "i")),
        ),
        "overlap-add of a window": (
            Overlap(wx * w, wx.out, u, i, wx.affine),
            (x.rename(i="k") * Tie(axis("k", "I"), wx.out, u, wx.affine) * w * Tie(i, wx.out, u, wx.affine)).sum(
                ("k", "p", "u")
            ),
        ),
    }


CASES = [(affine, rule) for affine in AFFINE for rule in rules(*affine)]


@pytest.mark.parametrize(("affine", "rule"), CASES)
def test_each_rule_makes_two_sides_one_and_holds_at_exact_points(affine, rule):
    left, right = rules(*affine)[rule]
    assert vanishes(normal_form(left) - normal_form(right))
    agree(left, right)
    assert equal(left, right * 2).outcome == "different"


@pytest.mark.parametrize("affine", AFFINE)
def test_what_is_written_back_has_the_value(affine):
    for left, right in rules(*affine).values():
        agree(simplify(left), left, seeds=(5,))
        agree(simplify(right), right, seeds=(5,))


def test_the_rules_know_what_padding_does():
    """exp of a window is not the window of exp where zeros are padded: exp 0 = 1."""
    assert equal(seen(exp(x), padding=1), exp(seen(x, padding=1))).outcome == "different"
    ones = seen(0 * x + 1)
    assert equal(ones, 0 * seen(x) + 1).outcome == "equal"
    assert equal(seen(0 * x + 1, padding=1), 0 * seen(x, padding=1) + 1).outcome == "different"
    assert equal(seen(x, 2), seen(x, 2, padding=1)).outcome == "different"


@pytest.mark.parametrize("affine", AFFINE)
def test_windows_forward_and_reverse(affine):
    for output in (seen(x**2, *affine) * w, overlap(x.rename(i="p") * w, "p", "u", "i", stride=affine[0])):
        for wrt in ("x", "w"):
            cotangent = Input("ȳ", output.axes)
            gradient = vjp(output, (wrt,), cotangent)[0][wrt]
            tangent = Input("t", gradient.axes)
            left = contract((cotangent, jvp(output, {wrt: tangent})), ())
            assert equal(left, contract((gradient, tangent), ())).outcome == "equal"


def test_renaming_moves_free_axes_only():
    t = seen(x, 2, 1, 1)
    moved = t.rename(p="i")  # the windowed axis i is bound and steps aside
    assert set(moved.names) == {"n", "i", "u"}
    assert equal(moved.rename(i="p"), t)
    added = Overlap(Input("z", t.axes), t.out, t.tap, i, t.affine)
    assert equal(added.rename(i="u").rename(u="i"), added)


@pytest.mark.parametrize("bad", [{"stride": 0}, {"dilation": 0}, {"padding": -1}, {"stride": 1.5}, {"stride": True}])
def test_wrong_options_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        layer("conv2d", **bad)


def test_more_wrong_input():
    with pytest.raises(InputError, match="groups"):
        layer("conv1d", groups=0)
    with pytest.raises(InputError, match="kernel"):
        layer("max_pool2d", kernel=0)
    with pytest.raises(InputError, match="padding 2 of maximum pooling"):
        layer("max_pool2d", padding=2)
    with pytest.raises(InputError, match="no option"):
        layer("conv2d", strides=2)
    with pytest.raises(InputError, match="output padding"):
        layer("conv_transpose1d", output_padding=1)
    with pytest.raises(InputError, match="already has an axis"):
        window(x, "i", "n", u)
    with pytest.raises(InputError, match="does not fit"):
        window(Input("a", (axis("i", 3),)), "i", "p", axis("u", 5))


# --- layers -------------------------------------------------------------------------------------------------


def conv(d):
    def run(t, F, options, x, W, b):
        options, groups = dict(options), options.get("groups", 1)
        options.pop("groups", None)
        f = getattr(F, f"conv{d}d")
        if groups == 1:
            return f(x, W, b, **options)
        if groups == "depthwise":
            return f(x, W[:, None], b, groups=x.shape[1], **options)
        y = f(x.flatten(1, 2), W.flatten(0, 1), b.flatten(), groups=groups, **options)
        return y.reshape(len(x), groups, -1, *y.shape[2:])

    return run


def transposed(d):
    return lambda t, F, options, x, W, b: getattr(F, f"conv_transpose{d}d")(x, W, b, **options)


def pool(d, kind):
    def run(t, F, options, x):
        options = {"kernel": 2, **options}
        kernel, stride = options.pop("kernel"), options.pop("stride", None)
        dilation = options.pop("dilation", 1)
        if kind == "max":
            return getattr(F, f"max_pool{d}d")(x, kernel, stride, dilation=dilation, **options)
        assert dilation == 1
        return getattr(F, f"avg_pool{d}d")(x, kernel, stride, **options)

    return run


OPTIONS = [
    ("conv1d", {}),
    ("conv1d", {"stride": 2}),
    ("conv1d", {"padding": 2}),
    ("conv1d", {"dilation": 2}),
    ("conv1d", {"groups": 2}),
    ("conv1d", {"groups": "depthwise"}),
    ("conv1d", {"stride": 3, "padding": 1, "dilation": 2, "groups": 3}),
    ("conv2d", {}),
    ("conv2d", {"stride": 2, "padding": 1}),
    ("conv2d", {"dilation": 2, "padding": 2}),
    ("conv2d", {"groups": 2, "stride": 2}),
    ("conv2d", {"groups": "depthwise", "padding": 1}),
    ("conv_transpose1d", {}),
    ("conv_transpose1d", {"stride": 2}),
    ("conv_transpose1d", {"stride": 3, "padding": 1, "output_padding": 2}),
    ("conv_transpose1d", {"dilation": 2, "padding": 1}),
    ("conv_transpose2d", {}),
    ("conv_transpose2d", {"stride": 2, "padding": 1, "output_padding": 1}),
    *((f"{kind}_pool{d}d", o) for kind in ("avg", "max") for d in (1, 2) for o in ({}, {"kernel": 3, "stride": 2})),
    ("avg_pool2d", {"kernel": 3, "stride": 1, "padding": 1}),
    ("avg_pool1d", {"kernel": 2, "padding": 1}),
    ("max_pool2d", {"kernel": 2, "stride": 1, "dilation": 2}),
    ("max_pool1d", {"padding": 1}),
    ("max_pool1d", {"kernel": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ("max_pool2d", {"kernel": 3, "stride": 2, "padding": 1}),
    ("max_pool2d", {"kernel": 4, "stride": 3, "padding": 2}),
]
TORCH = {
    **{f"conv{d}d": conv(d) for d in (1, 2)},
    **{f"conv_transpose{d}d": transposed(d) for d in (1, 2)},
    **{f"{kind}_pool{d}d": pool(d, kind) for d in (1, 2) for kind in ("avg", "max")},
}
IDS = [f"{name}-{'-'.join(f'{k}{v}' for k, v in o.items())}" for name, o in OPTIONS]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_gradients_are_proved_run_and_agree_with_balls(name, options):
    row = layer(name, **options)
    namespace = {}
    exec(row.numpy_source(), namespace)
    gradients = row.gradients()
    for d in gradients.values():
        assert d.proof.outcome == "equal"
        assert d.latex.count("{") == d.latex.count("}")
    point, arrays = arrays_at([row.forward, row.cotangent, *row.inputs], 7, {})
    with flint.ctx.workprec(1000):  # 300 digits
        y = as_array(evaluate(row.forward, point), row.forward, row.output_axes)
        exact = [as_array(evaluate(d.raw, point), d.raw, d.axes) for d in gradients.values()]
    given = [arrays[a.name] for a in row.inputs]
    np.testing.assert_allclose(namespace["forward"](*given), y, rtol=1e-13, atol=1e-13)
    computed = namespace["backward"](arrays["dy"], *given)
    for got, want in zip(computed if len(gradients) > 1 else (computed,), exact, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_gradients_agree_with_torch(name, options):
    torch = pytest.importorskip("torch")
    row = layer(name, **options)
    namespace = {}
    exec(row.numpy_source(), namespace)
    for seed in (3, 4):
        _, arrays = arrays_at([row.forward, row.cotangent, *row.inputs], seed, {})
        leaves = [torch.tensor(arrays[a.name], requires_grad=True) for a in row.inputs]
        output = TORCH[name](torch, torch.nn.functional, dict(options), *leaves)
        given = [arrays[a.name] for a in row.inputs]
        np.testing.assert_allclose(namespace["forward"](*given), output.detach().numpy(), rtol=1e-12, atol=1e-12)
        output.backward(torch.tensor(arrays["dy"]))
        computed = namespace["backward"](arrays["dy"], *given)
        for got, leaf in zip(computed if isinstance(computed, tuple) else (computed,), leaves, strict=True):
            np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


TIED = [
    ("max_pool1d", {"kernel": 3, "stride": 2, "padding": 1}),
    ("max_pool2d", {"kernel": 3, "stride": 1, "padding": 1}),
    ("max_pool2d", {"kernel": 2, "stride": 1, "dilation": 2}),
]


@pytest.mark.parametrize(("name", "options"), TIED)
def test_the_first_of_tied_maxima_takes_the_cotangent_as_in_torch(name, options):
    torch = pytest.importorskip("torch")
    row, namespace = layer(name, ties="first", **options), {}
    exec(row.numpy_source(), namespace)
    random_numbers = np.random.default_rng(0)
    a = random_numbers.integers(-1, 2, size=(2, 3, 7, 8)[: len(row.inputs[0].indices)]).astype(float)  # many ties
    leaf = torch.tensor(a, requires_grad=True)
    output = TORCH[name](torch, torch.nn.functional, dict(options), leaf)
    upstream = random_numbers.standard_normal(output.shape)
    output.backward(torch.tensor(upstream))
    np.testing.assert_allclose(namespace["backward"](upstream, a), leaf.grad.numpy(), rtol=1e-13, atol=1e-13)
    shared = {}
    exec(layer(name, **options).numpy_source(), shared)
    assert not np.allclose(shared["backward"](upstream, a), leaf.grad.numpy())


def test_the_tangent_of_tied_maxima_follows_the_same_convention():
    for ties, wanted in (("share", [0, 2.5, 0]), ("first", [0, 1, 0])):
        top = x.max("i", ties=ties)
        point = generic_point((top, jvp(top, {"x": Input("dx", (n, i))})), random.Random(0), sizes={"N": 3, "I": 3})
        rows = {0: (5, 1, 2), 1: (7, 7, 6), 2: (1, 3, 3)}
        point.entries["x"] = {(k, m): Fraction(rows[k][m]) for k in rows for m in range(3)}
        point.entries["dx"] = {(k, m): Fraction(k == 1) * (1, 4, 9)[m] for k in rows for m in range(3)}
        found = evaluate(jvp(top, {"x": Input("dx", (n, i))}), point)
        assert [float(found[(k,)].mid()) for k in range(3)] == wanted
    with pytest.raises(InputError, match="share, first"):
        layer("max_pool1d", ties="last")
    with pytest.raises(InputError, match="share, first"):
        x.max("i", ties="last")


@pytest.mark.parametrize(("name", "options"), [case for case in OPTIONS if case[0].startswith("conv")])
def test_the_input_adjoint_of_a_convolution_is_recognised(name, options):
    derivation = layer(name, **options).vjp("x")
    wanted = "conv_transpose" if name.startswith("conv1") or name.startswith("conv2") else "conv"
    assert derivation.known[0].startswith(f"{wanted}{name[-2:]}(dy, W)")
    assert f"which is {wanted}" in derivation.text


def test_a_claim_that_does_not_hold_is_not_shown():
    from dataclasses import replace

    row = layer("conv1d", stride=2)
    wrong = replace(row, known={"x": lambda r: ("twice", 2 * layer("conv1d", stride=2).vjp("x").raw)})
    assert wrong.vjp("x").known == ()


def test_the_weight_gradient_reads_as_a_correlation():
    assert layer("conv2d", stride=2, padding=1).vjp("W").index == (
        "dW[o,c,u,v] = Σ_n,p,q x[n,c,2p+u−1,2q+v−1] dy[n,o,p,q]"
    )
    assert layer("conv1d").vjp("x").index == "dx[n,c,i] = Σ_{o,p,u: i=p+u} W[o,c,u] dy[n,o,p]"


def test_affine_maps_read():
    assert Affine(2, 3, 1).text("p", "u") == "2p+3u−1"
    assert isinstance(seen(x), Window)
