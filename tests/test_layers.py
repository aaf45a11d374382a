"""Every layer row: its derived gradients against balls, torch and the compact forms that are known."""

import random
import re
import time

import flint
import numpy as np
import pytest
import sympy

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.equality import equal, evaluate, generic_point
from backproof.theory.errors import InputError
from backproof.theory.layers import LAYERS, eps, layer
from backproof.theory.tensors import Input, apply, as_tensor, axis, slot

CASES = [(name, wrt) for name, row in LAYERS.items() for wrt in row.differentiable]
RUNNABLE = [name for name in LAYERS if name != "activation"]


def arrays_at(tensors, seed, parameters):
    """A generic point, with hyper-parameters at their defaults, and its entries as float64 arrays."""
    point = generic_point(tensors, random.Random(seed))
    point.scalars.update({str(s): __import__("fractions").Fraction(int(v.p), int(v.q)) for s, v in parameters.items()})
    arrays = {}
    for name, entries in point.entries.items():
        shape = tuple(max(c[k] for c in entries) + 1 for k in range(len(next(iter(entries)))))
        arrays[name] = np.array([float(entries[c]) for c in np.ndindex(*shape)]).reshape(shape)
    return point, arrays


def as_array(values, tensor, axes):
    """Balls as a float64 array with the axes in the given order."""
    order = [tensor.axes.index(a) for a in axes]
    shape = tuple(max(c[k] for c in values) + 1 for k in order)
    result = np.empty(shape)
    for cell, ball in values.items():
        result[tuple(cell[k] for k in order)] = float(ball)
    return result


@pytest.mark.parametrize(("name", "wrt"), CASES)
def test_the_readable_gradient_is_proved_equal_to_what_the_rules_gave(name, wrt):
    derivation = layer(name).vjp(wrt)
    assert derivation.proof.outcome == "equal", derivation.proof.why


@pytest.mark.parametrize("name", LAYERS)
def test_a_scaled_gradient_is_not_equal(name):
    derivation = layer(name).vjp(layer(name).differentiable[0])
    assert equal(derivation.gradient * sympy.Rational(1001, 1000), derivation.raw).outcome == "different"


@pytest.mark.parametrize("name", LAYERS)
def test_derivations_read(name):
    for wrt, derivation in layer(name).gradients().items():
        assert derivation.text.splitlines()[0].startswith("d")
        assert derivation.shape in derivation.text
        assert derivation.einsum.startswith(f"d{wrt} = ")
        assert derivation.steps
        latex = derivation.latex
        assert latex.count("{") == latex.count("}")
        assert not re.search(r"\^\{[^{}]*\}\^", latex), "a double superscript does not compile"
        assert not re.search(r"[ᵀΣδσ⊙ε]", latex)


@pytest.mark.parametrize("name", RUNNABLE)
def test_generated_source_agrees_with_exact_values(name):
    """forward and backward run as printed, at non-square shapes, and agree with balls to rounding."""
    row = layer(name)
    namespace = {}
    exec(row.numpy_source(), namespace)
    gradients = row.gradients()
    tensors = [row.forward, *(d.raw for d in gradients.values()), *row.inputs]
    point, arrays = arrays_at(tensors, 5, row.parameters)
    with flint.ctx.workprec(200):
        y = as_array(evaluate(row.forward, point), row.forward, row.output_axes)
        exact = [as_array(evaluate(d.raw, point), d.raw, d.axes) for d in gradients.values()]
    given = [arrays[a.name] for a in row.inputs]
    np.testing.assert_allclose(namespace["forward"](*given), y, rtol=1e-12, atol=1e-13)
    dy = arrays["dy"]
    computed = namespace["backward"](dy, *given)
    computed = computed if len(gradients) > 1 else (computed,)
    for got, want in zip(computed, exact, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "wrt"), [c for c in CASES if c[0] != "activation"])
def test_single_gradient_and_einsum_run(name, wrt):
    row, derivation = layer(name), layer(name).vjp(wrt)
    namespace = {}
    exec(derivation.numpy_source, namespace)
    point, arrays = arrays_at([derivation.raw, *derivation.arguments], 6, row.parameters)
    got = namespace[f"d{wrt}_of"](*(arrays[a.name] for a in derivation.arguments))
    with flint.ctx.workprec(200):
        want = as_array(evaluate(derivation.raw, point), derivation.raw, derivation.axes)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


TORCH = {
    "dense": lambda t, F, x, W, b: x @ W + b,
    "softmax": lambda t, F, x: F.softmax(x, 1),
    "log_softmax": lambda t, F, x: F.log_softmax(x, 1),
    "batch_norm": lambda t, F, x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=1e-5),
    "layer_norm": lambda t, F, x, g, b: F.layer_norm(x, x.shape[1:], g, b, eps=1e-5),
    "rms_norm": lambda t, F, x, g: F.rms_norm(x, x.shape[1:], g, eps=1e-5),
    "group_norm": lambda t, F, x, g, b: F.group_norm(
        x.reshape(len(x), -1, x.shape[-1]), x.shape[1], g.reshape(-1), b.reshape(-1), eps=1e-5
    ).reshape(x.shape),
    "prelu": lambda t, F, x, a: F.prelu(x, a),
    "attention": lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v),
    "multi_head_attention": lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v),
    "glu": lambda t, F, a, b: F.glu(t.cat([a, b], 1), 1),
    "reglu": lambda t, F, a, b: a * F.relu(b),
    "geglu": lambda t, F, a, b: a * F.gelu(b),
    "swiglu": lambda t, F, a, b: a * F.silu(b),
    "rnn_cell": lambda t, F, x, h, U, V, b: t.tanh(x @ U + h @ V + b),
}


@pytest.mark.parametrize("name", TORCH)
def test_gradients_agree_with_torch(name):
    torch = pytest.importorskip("torch")
    row = layer(name)
    namespace = {}
    exec(row.numpy_source(), namespace)
    _, arrays = arrays_at([row.forward, row.cotangent, *row.inputs], 8, row.parameters)
    leaves = [torch.tensor(arrays[a.name], requires_grad=True) for a in row.inputs]
    output = TORCH[name](torch, torch.nn.functional, *leaves)
    dy = arrays["dy"]
    output.backward(torch.tensor(dy))
    computed = namespace["backward"](dy, *(arrays[a.name] for a in row.inputs))
    computed = computed if isinstance(computed, tuple) else (computed,)
    for got, leaf in zip(computed, leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_batch_norm_has_the_compact_form():
    """γ·r/N·(N·dy − Σdy − x̂·Σ dy·x̂), for all sizes, in under a second."""
    start = time.perf_counter()
    LAYERS["batch_norm"]._derived.clear()
    derivation = layer("batch_norm").vjp("x")
    elapsed = time.perf_counter() - start
    x, gamma, _ = layer("batch_norm").inputs
    dy, size = layer("batch_norm").cotangent, as_tensor(x.axis("n").size)
    mean = x.mean("n")
    r = (((x - mean) ** 2).mean("n") + eps) ** -sympy.Rational(1, 2)
    xhat = (x - mean) * r
    compact = gamma * r / size * (size * dy - dy.sum("n") - xhat * (dy * xhat).sum("n"))
    assert equal(derivation.raw, compact).outcome == "equal"
    assert derivation.matrix() == "dx = γ ⊙ r ⊙ (N dy − 1ᵀdy − x̂ ⊙ (1ᵀ(dy ⊙ x̂)))/N"
    assert elapsed < 1
    wrong = gamma * r / size * (size * dy - dy.sum("n") - x * (dy * xhat).sum("n"))
    result = equal(derivation.raw, wrong)
    assert result.outcome == "different"
    assert not result.left.overlaps(result.right)


def test_layer_norm_has_the_compact_form():
    derivation = layer("layer_norm").vjp("x")
    x, gamma, _ = layer("layer_norm").inputs
    dy, size = layer("layer_norm").cotangent, as_tensor(x.axis("i").size)
    mean = x.mean("i")
    r = (((x - mean) ** 2).mean("i") + eps) ** -sympy.Rational(1, 2)
    xhat, g = (x - mean) * r, dy * gamma
    compact = r / size * (size * g - g.sum("i") - xhat * (g * xhat).sum("i"))
    assert equal(derivation.raw, compact).outcome == "equal"


@pytest.mark.parametrize(
    ("name", "wrt", "form"),
    [
        ("dense", "x", "dx = dy Wᵀ"),
        ("dense", "W", "dW = xᵀ dy"),
        ("dense", "b", "db = 1ᵀdy"),
        ("softmax", "x", "dx = p ⊙ (dy − (dy ⊙ p) 1)"),
        ("activation", "x", "dx = dy ⊙ σ′(x)"),
        ("attention", "v", "dv = Aᵀ dy"),
        ("glu", "b", "db = a ⊙ dy ⊙ s ⊙ (1 − s)"),
        ("rnn_cell", "V", "dV = hᵀ dz"),
    ],
)
def test_matrix_forms_read_like_the_textbook(name, wrt, form):
    assert layer(name).vjp(wrt).matrix() == form


def test_columns_are_the_transpose():
    assert layer("dense").vjp("x").matrix("columns") == "dx = Wᵀ dy"  # W is [O×I] there
    assert layer("dense").vjp("W").matrix("columns") == "dW = dy xᵀ"
    with pytest.raises(InputError, match="layout"):
        layer("dense").vjp("x").matrix("diagonal")


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_the_activation_layer_of_every_row(row):
    """y = f(x): the derived gradient is dy·f′(x) with the row's own derivative, and its source runs."""
    made = layer("activation", function=row.name)
    derivation = made.vjp("x")
    x, dy = made.inputs[0], made.cotangent
    from backproof.theory.symbols import x as X

    assert equal(derivation.gradient, dy * apply(row.derivative(1).subs(X, slot(0)), x)).outcome == "equal"
    namespace = {}
    exec(made.numpy_source(), namespace)
    points = np.array([[-2.5, -0.75, 0.3], [0.9, 1.7, 3.25]])
    with np.errstate(all="ignore"):
        got = namespace["backward"](np.full((2, 3), 2.0), points)
    want = [[2 * float(row.derivative(1).subs(X, sympy.Rational(v)).evalf(20)) for v in line] for line in points]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_options_and_wrong_input():
    assert layer("batch_norm", eps="1e-3").parameters[eps] == sympy.Rational(1, 1000)
    assert "eps=0.001" in layer("batch_norm", eps="1e-3").numpy_source()
    assert layer("linear") is LAYERS["dense"]
    for wrong in ("batchnrom", "", "../etc"):
        with pytest.raises(InputError):
            layer(wrong)
    with pytest.raises(InputError, match="no option"):
        layer("dense", eps=1)
    with pytest.raises(InputError, match="no input"):
        layer("dense").vjp("z")
    with pytest.raises(InputError):
        layer("batch_norm", eps="lots")


def test_a_new_row_derives_itself():
    from dataclasses import replace

    n, i = axis("n"), axis("i")
    row = replace(
        LAYERS["bias"], name="scale", formula=lambda x, b: x * b**2, inputs=(Input("x", (n, i)), Input("b", (i,)))
    )
    assert row.vjp("b").proof
    assert row.vjp("x").matrix() == "dx = dy ⊙ (b²)"
