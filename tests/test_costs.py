"""Counts of operations against a brute-force count on small shapes."""

import itertools

import pytest
import sympy

from backproof.theory.costs import layer_costs, leading_ratio, network_costs, operations
from backproof.theory.layers import LAYERS, layer
from backproof.theory.networks import network
from backproof.theory.tensors import Contract, Input, axis, contract, exp, merge_axes
from backproof.theory.walking import postorder

n, i, o = axis("n", 3), axis("i", 4), axis("o", 2)
x, W, b = Input("x", (n, i)), Input("W", (i, o)), Input("b", (o,))


def counted(tensor):
    """Multiplications and additions of the contractions, done one by one over every index."""
    total = 0
    for node in postorder(tensor):
        if not isinstance(node, Contract):
            continue
        axes = merge_axes((*(f.axes for f in node.factors), node.keep))
        seen = set()
        for cell in itertools.product(*(range(int(a.size)) for a in axes)):
            total += len(node.factors) - 1
            key = tuple(v for v, a in zip(cell, axes) if a in node.keep)
            total += key in seen  # the first term of a sum is no addition
            seen.add(key)
    return total


@pytest.mark.parametrize("tensor", [(x * W).sum("i"), x.sum("n"), x * x, contract((x, x), ()), contract((b,), (n, o))])
def test_contractions_are_counted_one_by_one(tensor):
    assert operations(tensor) == counted(tensor)


@pytest.mark.parametrize(
    ("tensor", "steps"),
    [
        # x·x: 12 products; n is summed at once: 12 − 4; W over o: 8 − 4; their product: 4, and its sum: 3
        (contract((x, W, x), ()), 12 + 8 + 4 + 4 + 3),
        # W·b first: 8 products, summed over o: 8 − 4; then x times that
        ((x * W * b).sum("o"), 8 + 4 + 12),
        (contract((x, W, b), (n,)), 8 + 4 + 12 + 12 - 3),
        # what is broadcast is computed once
        (contract((b, b), (n, o)), 2),
    ],
)
def test_products_of_several_factors_are_taken_two_at_a_time(tensor, steps):
    assert operations(tensor) == steps


@pytest.mark.parametrize("name", ["attention", "lstm_cell", "rnn_cell", "conv2d"])
def test_backward_takes_twice_the_forward_products(name):
    """Each matrix product forward gives two backward."""
    costs = layer_costs(layer(name))
    assert leading_ratio(costs) == "2 as the sizes grow"


def test_entrywise_functions_count_each_entry():
    assert operations(exp(x) + 1) == 2 * 12
    assert operations(exp(x) * 1) == 12


def test_a_dense_layer_costs_what_the_textbook_says():
    costs = layer_costs(layer("dense"))
    N, I, O = sympy.symbols("N I O", integer=True, positive=True)
    assert costs.parameters == I * O + O
    assert sympy.expand(costs.forward - 2 * N * I * O) == 0  # N·O·(2I − 1) and one addition of the bias
    assert sympy.expand(costs.backward - (N * I * (2 * O - 1) + I * O * (2 * N - 1) + O * (N - 1))) == 0
    assert costs.stored == N * I
    assert costs.at(N=32, I=784, O=128).parameters == 784 * 128 + 128


def test_a_wide_network_takes_twice_as_much_backward():
    costs = network_costs(network("784-256-128-10")).at(N=64, D0=784, D1=256, D2=128, D3=10)
    assert costs.parameters == 235146
    assert 1 < float(costs.ratio) < 2  # the gradient by X is not needed
    assert costs.stored > 64 * (784 + 2 * 256 + 2 * 128)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_costs(name):
    costs = layer_costs(LAYERS[name])
    for count in (costs.parameters, costs.forward, costs.backward, costs.stored):
        numbers = {s: sympy.Integer(9) for s in count.free_symbols}
        value = count.xreplace(numbers)
        assert value.is_Integer
        assert value >= 0
