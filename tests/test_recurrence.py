"""Recurrences over time: the adjoint is the reversed recurrence, in balls, by differentiation, and against torch."""

import random
import time

import flint
import numpy as np
import pytest
from flint import arb, fmpq

from backproof.theory.backprop import jvp, vjp
from backproof.theory.equality import equal, evaluate, generic_point
from backproof.theory.errors import InputError
from backproof.theory.layers import layer
from backproof.theory.recurrence import Recur, recur
from backproof.theory.tensors import Input, axis, contract, tanh

from .test_backprop import difference_quotient
from .test_layers import arrays_at, as_array

n, t, i, o, p = axis("n"), axis("t"), axis("i"), axis("o"), axis("p", "O")
x, U, V, b, h0 = (
    Input("x", (n, t, i)), Input("U", (i, o)), Input("V", (p, o)), Input("b", (o,)), Input("h0", (n, o))
)  # fmt: skip
h, c = Input("h", (n, t, o)), Input("c", (n, t, o))


def plain(reverse=False):
    z = (x * U).sum("i") + (h.rename(o="p") * V).sum("p") + b
    return recur(t, (h,), (tanh(z),), (h0,), reverse=reverse)


def coupled():
    """Two states that feed each other."""
    return recur(t, (h, c), (tanh(c + (x * U).sum("i")), h * b + c / 2), (h0, h0**2))


OUTPUTS = {
    "each": plain().each(),
    "before": plain().before(),
    "last": plain().last(),
    "reversed": plain(reverse=True).each(),
    "reversed, last": plain(reverse=True).last(),
    "two states": coupled().each(1),
    "two states, both read": coupled().each(0) * coupled().before(1),
    "two states, last": coupled().last(0),
}
CASES = [(name, wrt) for name in OUTPUTS for wrt in ("x", "U", "b", "h0")]


@pytest.mark.parametrize(("name", "wrt"), CASES)
def test_the_adjoint_agrees_with_differentiation_at_an_exact_point(name, wrt):
    from fractions import Fraction

    output = OUTPUTS[name]
    gradient = vjp(output, (wrt,), Input("ȳ", output.axes))[0][wrt]
    rng = random.Random(5)
    point = generic_point((output, gradient), rng, sizes={"N": 2, "T": 3, "I": 2, "O": 3})
    direction = {cell: Fraction(rng.randrange(1, 9), 5) for cell in point.entries[wrt]}
    with flint.ctx.workprec(700):
        slopes = difference_quotient(output, wrt, direction, point)
        g, values = evaluate(gradient, point), point.entries["ȳ"]
        forward = sum((slopes[k] * arb(fmpq(v.numerator, v.denominator)) for k, v in values.items()), arb(0))
        backward = sum((g[k] * arb(fmpq(v.numerator, v.denominator)) for k, v in direction.items()), arb(0))
        assert abs(forward - backward) < arb(10) ** -60
        tangent = jvp(output, {wrt: Input("v", gradient.axes)})
        ours = generic_point((contract((Input("ȳ", output.axes), tangent), ()),), random.Random(1), sizes=point.sizes)
        left = evaluate(contract((Input("ȳ", output.axes), tangent), ()), ours)[()]
        right = evaluate(contract((gradient, Input("v", gradient.axes)), ()), ours)[()]
        assert left.overlaps(right)


def test_the_second_adjoint_is_derived_too():
    """A Hessian-vector product through time: forward over reverse, against differences."""
    output = plain().last()
    gradient = vjp(output, ("b",), Input("ȳ", output.axes))[0]["b"]
    product = jvp(gradient, {"b": Input("v", gradient.axes)})
    point = generic_point((product, gradient), random.Random(2), sizes={"N": 1, "T": 3, "I": 2, "O": 2})
    with flint.ctx.workprec(700):
        slopes = difference_quotient(gradient, "b", point.entries["v"], point)
        for cell, value in evaluate(product, point).items():
            assert abs(value - slopes[cell]) < arb(10) ** -60


def test_a_step_is_unrolled_rightly():
    f = plain()
    assert equal(f.each(), f.step(0)).outcome == "equal"
    assert equal(f.each(), f.before()).outcome == "different"
    assert equal(f.each(), plain(reverse=True).each()).outcome == "different"
    assert equal(f.last(), f.each().rename(t="s").sum("s")).outcome == "different"


def test_names_of_axes_do_not_matter():
    y = plain().each()
    assert equal(y.rename(n="m", o="n").rename(m="o", n="m").rename(m="o", o="n"), y)
    swapped = y.rename(n="o", o="n")
    assert equal(swapped.rename(n="o", o="n"), y).outcome == "equal"
    final = coupled().last(0)
    assert equal(final.rename(o="q").rename(q="o"), final).outcome == "equal"


def test_wrong_recurrences_are_refused():
    with pytest.raises(InputError, match="one step"):
        recur(t, (h,), (), ())
    with pytest.raises(InputError, match="initial"):
        recur(t, (h,), (tanh(h),), (Input("bad", (n, t, o)),))
    with pytest.raises(InputError, match="step has axes"):
        recur(t, (h0,), (tanh(h0),), (h0,))


# --- layers -------------------------------------------------------------------------------------------------


def gates(torch, x, h, parts, names):
    return [x @ parts[3 * k] + h @ parts[3 * k + 1] + parts[3 * k + 2] for k, _ in enumerate(names)]


def lstm_step(torch, x, h, c, parts):
    i, f, g, o = gates(torch, x, h, parts, "ifgo")
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(torch, x, h, parts):
    r, z = (torch.sigmoid(v) for v in gates(torch, x, h, parts, "rz"))
    g = torch.tanh(x @ parts[6] + (r * h) @ parts[7] + parts[8])
    return (1 - z) * g + z * h


def over_time(torch, name, x, *rest):
    states, parts = (list(rest[:2]), rest[2:]) if name == "lstm" else ([rest[0]], rest[1:])
    outputs = []
    for k in range(x.shape[1]):
        if name == "lstm":
            states = list(lstm_step(torch, x[:, k], *states, parts))
        elif name == "gru":
            states = [gru_step(torch, x[:, k], states[0], parts)]
        else:
            states = [torch.tanh(x[:, k] @ parts[0] + states[0] @ parts[1] + parts[2])]
        outputs.append(states[0])
    return torch.stack(outputs, 1)


TORCH = {
    "lstm_cell": lambda torch, x, h, c, *parts: lstm_step(torch, x, h, c, parts)[0],
    "gru_cell": lambda torch, x, h, *parts: gru_step(torch, x, h, parts),
    **{name: lambda torch, *a, name=name: over_time(torch, name, *a) for name in ("rnn", "lstm", "gru")},
}


@pytest.mark.parametrize("name", TORCH)
def test_recurrent_layers_agree_with_torch(name):
    torch = pytest.importorskip("torch")
    row = layer(name)
    namespace = {}
    exec(row.numpy_source(), namespace)
    _, arrays = arrays_at([row.forward, row.cotangent, *row.inputs], 9, {})
    leaves = [torch.tensor(arrays[a.name], requires_grad=True) for a in row.inputs]
    output = TORCH[name](torch, *leaves)
    given = [arrays[a.name] for a in row.inputs]
    np.testing.assert_allclose(namespace["forward"](*given), output.detach().numpy(), rtol=1e-11, atol=1e-12)
    output.backward(torch.tensor(arrays["dy"]))
    for got, leaf in zip(namespace["backward"](arrays["dy"], *given), leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_the_lstm_is_torchs_own():
    """The same numbers as torch.nn.LSTM, whose packed weights are our gates side by side."""
    torch = pytest.importorskip("torch")
    row = layer("lstm")
    _, arrays = arrays_at([row.forward, *row.inputs], 4, {})
    module = torch.nn.LSTM(arrays["x"].shape[2], arrays["h0"].shape[1], batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.tensor(np.concatenate([arrays[f"U{g}"].T for g in "ifgo"])))
        module.weight_hh_l0.copy_(torch.tensor(np.concatenate([arrays[f"V{g}"].T for g in "ifgo"])))
        module.bias_ih_l0.copy_(torch.tensor(np.concatenate([arrays[f"b{g}"] for g in "ifgo"])))
        module.bias_hh_l0.zero_()
    want, _ = module(torch.tensor(arrays["x"]), tuple(torch.tensor(arrays[s])[None] for s in ("h0", "c0")))
    namespace = {}
    exec(row.numpy_source(), namespace)
    got = namespace["forward"](*(arrays[a.name] for a in row.inputs))
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-11, atol=1e-12)


def test_back_propagation_through_time_reads_like_the_paper():
    start = time.perf_counter()
    text = layer("rnn").vjp("V").text
    assert time.perf_counter() - start < 2
    assert text.splitlines()[0].startswith("dV[p,o] = Σ_n,t dz[n,t,o] h[n,t−1,p]")
    assert "dz[n,t,o] = (dh[n,t,o] + dy[n,t,o]) (1 − tanh(z[n,t,o])²)" in text
    assert "dz[n,t," in text
    assert "dh[n,T," in text
    assert layer("rnn").vjp("h0").index == "dh0[n,o] = dh[n,0,o]"
    assert layer("lstm_cell").vjp("Vf").matrix() == "dVf = hᵀ dzf"


def test_a_wrong_gradient_through_time_is_refuted():
    row = layer("rnn")
    derivation = row.vjp("U")
    assert equal(derivation.gradient * 2, derivation.raw).outcome == "different"
    truncated = vjp(row.forward, ("U",), row.cotangent)[0]["U"]
    assert equal(derivation.gradient, truncated).outcome == "equal"
    z = (x * row.inputs[2]).sum("i") + (row.forward.operand.family.before(0).rename(o="p") * row.inputs[3]).sum("p")
    local = (x * row.cotangent * (1 - tanh(z + row.inputs[4]) ** 2)).sum(("n", "t"))  # no time: truncated at one step
    assert equal(local, derivation.raw).outcome == "different"


def test_every_state_evaluates_to_the_hand_unrolled_values():
    point = generic_point((plain().each(),), random.Random(3), sizes={"N": 1, "T": 3, "I": 2, "O": 2})
    with flint.ctx.workprec(200):
        each = as_array(evaluate(plain().each(), point), plain().each(), (n, t, o))
        last = as_array(evaluate(plain().last(), point), plain().last(), (n, o))
        before = as_array(evaluate(plain().before(), point), plain().before(), (n, t, o))
    entries = {k: np.array([float(v) for v in e.values()]) for k, e in point.entries.items()}
    state = entries["h0"].reshape(1, 2)
    for k in range(3):
        np.testing.assert_allclose(before[:, k], state, rtol=1e-12)
        u, w = entries["U"].reshape(2, 2), entries["V"].reshape(2, 2)
        state = np.tanh(entries["x"].reshape(1, 3, 2)[:, k] @ u + state @ w + entries["b"])
        np.testing.assert_allclose(each[:, k], state, rtol=1e-12)
    np.testing.assert_allclose(last, state, rtol=1e-12)
    assert isinstance(plain().each(), Recur)
