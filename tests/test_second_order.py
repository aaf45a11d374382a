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
