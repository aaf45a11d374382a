"""Hessian-vector and Gauss–Newton products against exact differentiation of the gradient."""

import random

import flint
import pytest
from flint import arb

from backproof.theory.backprop import vjp
from backproof.theory.equality import equal, evaluate, generic_point
from backproof.theory.errors import InputError
from backproof.theory.layers import layer
from backproof.theory.networks import network
from backproof.theory.second_order import ONE
from backproof.theory.tensors import Input, add, contract

from .test_backprop import difference_quotient

LAYERS = [
    ("dense", "x"), ("prelu", "a"), ("softmax", "x"), ("batch_norm", "x"), ("layer_norm", "x"), ("attention", "q"),
    ("glu", "b"), ("conv1d", "W"), ("avg_pool1d", "x"), ("lstm_cell", "c"), ("rnn", "V"), ("rms_norm", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wrt"), LAYERS)
def test_layers(name, wrt):
    row = layer(name)
    product = row.hvp(wrt)
    gradient = vjp(row.forward, (wrt,), row.cotangent)[0][wrt]
    v = Input("v", gradient.axes)
    point = generic_point((product, gradient, v, row.cotangent, *row.inputs), random.Random(3))
    with flint.ctx.workprec(700):
        slopes = difference_quotient(gradient, wrt, point.entries["v"], point)
        values = evaluate(product, point)
        order = [gradient.axes.index(a) for a in product.axes]
        for cell, slope in slopes.items():
            assert abs(values[tuple(cell[k] for k in order)] - slope) < arb(10) ** -55


def test_networks_against_differences():
    net = network("2-3-2", loss="softmax_cross_entropy")
    products, gradients = net.hvp(), vjp(net.forward, list(net.parameter_shapes), ONE)[0]
    sizes = {"N": 2, "D0": 2, "D1": 3, "D2": 2}
    everything = (*products.values(), *gradients.values())
    point = generic_point(everything, random.Random(4), sizes=sizes)
    with flint.ctx.workprec(700):
        for name in ("W1", "b2"):
            total = {}
            for moved in net.parameter_shapes:
                direction = point.entries[f"v{moved}"]
                for cell, slope in difference_quotient(gradients[name], moved, direction, point).items():
                    total[cell] = total.get(cell, arb(0)) + slope
            values = evaluate(products[name], point)
            order = [gradients[name].axes.index(a) for a in products[name].axes]
            for cell, slope in total.items():
                assert abs(values[tuple(cell[k] for k in order)] - slope) < arb(10) ** -55


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "half_squared_error"])
def test_gauss_newton_is_symmetric_and_not_negative(loss):
    net = network("2-3-2", loss=loss)
    products = net.gauss_newton()
    parts = [contract((Input(f"v{name}", p.axes), p), ()) for name, p in products.items()]
    form = add(*parts)
    for seed in range(4):
        point = generic_point((form,), random.Random(seed), sizes={"N": 2, "D0": 2, "D1": 3, "D2": 2})
        with flint.ctx.workprec(300):
            assert evaluate(form, point)[()] > 0


def test_gauss_newton_is_the_hessian_of_a_linear_network():
    net = network("3-2", loss="softmax_cross_entropy")
    for name, product in net.hvp().items():
        assert equal(product, net.gauss_newton()[name]).outcome == "equal"
    deep = network("3-2-2", loss="softmax_cross_entropy")
    assert equal(deep.hvp()["W1"], deep.gauss_newton()["W1"]).outcome != "equal"


def test_wrong_input():
    with pytest.raises(InputError, match="no input"):
        layer("dense").hvp("z")


@pytest.mark.parametrize("name", ["rnn", "gru", pytest.param("lstm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["hvp", "gauss-newton"])
def test_products_through_time_agree_with_differences_of_the_derived_gradient(name, kind):
    """H v along x, and Jᵀ J v, against central differences of the derived source; both run as printed."""
    import numpy as np

    from backproof.theory.products import layer_products

    row = layer(name)
    (product,) = layer_products(row, kind, "x")
    rng = np.random.default_rng(3)
    sizes = {"n": 2, "t": 4, "i": 3, "o": 3, "p": 3}
    given = {a.name: rng.standard_normal([sizes[i.name] for i in a.indices]) for a in row.inputs}
    dy, v = rng.standard_normal((2, 4, 3)), rng.standard_normal(given["x"].shape)
    printed = {"v": v, "dy": dy, **given}

    def run(derivation, **values):
        names: dict = {}
        exec(derivation.numpy_source, names)
        function = next(f for n, f in names.items() if n.startswith(("d", "H", "G")) and callable(f))
        wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
        return function(*(values[w] for w in wanted if w in values))

    def forward(x):
        names: dict = {}
        exec(row.numpy_source(), names)
        result = names["forward"](*({**given, "x": x}[a.name] for a in row.inputs))
        return result[0] if isinstance(result, tuple) else result

    gradient, h = row.vjp("x"), 1e-5
    if kind == "hvp":
        sides = [run(gradient, **{**printed, "x": given["x"] + s * h * v}) for s in (1, -1)]
        expected = (sides[0] - sides[1]) / (2 * h)
    else:
        along = (forward(given["x"] + h * v) - forward(given["x"] - h * v)) / (2 * h)
        expected = run(gradient, **{**printed, "dy": along})
    allowed = 1e-7 * max(1.0, np.abs(expected).max())  # what differences of step 1e-5 leave out and round away
    np.testing.assert_allclose(run(product, **printed), expected, rtol=0, atol=allowed)
