"""Slices and joins as place tensors, against NumPy entry by entry; sizes that the code demands; names that meet."""

import itertools

import numpy as np
import pytest
import sympy

from backproof.numerics.preparing import prepare
from backproof.numerics.proving import FREE_AXES, prove
from backproof.theory import places
from backproof.theory.tensors import Axis, Contract, Delta, Input, Map, Scalar, axis, contract, size_symbol, slot


def dense(node, values, order):
    """Evaluate an expression over axes of fixed length to an array with the axes of ``order``."""
    if places.is_place(node):
        offset, step = places._PLACES[node.name]
        shape = [int(a.size) for a in node.indices]
        out = np.zeros(shape)
        for j in range(shape[1] if len(shape) == 2 else 1):
            out[(int(offset) + step * j, *([j] if len(shape) == 2 else []))] = 1
        own = list(node.indices)
    elif isinstance(node, Input):
        out, own = values[node.name], list(node.indices)
    elif isinstance(node, Delta):
        out, own = np.eye(int(node.a.size)), [node.a, node.b]
    elif isinstance(node, Scalar):
        out, own = np.array(float(node.value)), []
    elif isinstance(node, Map):
        parts = [dense(a, values, node.axes) for a in node.arguments]
        out = sympy.lambdify([slot(k) for k in range(len(parts))], node.function, "numpy")(*parts)
        own = list(node.axes)
    else:
        assert isinstance(node, Contract)
        every = list(dict.fromkeys([*(a for f in node.factors for a in f.axes), *node.keep]))
        product = np.ones([int(a.size) for a in every])
        for f in node.factors:
            product = product * dense(f, values, every)
        out = product.sum(axis=tuple(k for k, a in enumerate(every) if a not in node.keep))
        own = [a for a in every if a in node.keep]
    names = [a.name for a in own]
    wanted = [a.name for a in order]
    kept = [n for n in wanted if n in names]
    out = np.transpose(np.broadcast_to(out, [int(a.size) for a in own]), [names.index(n) for n in kept])
    return out[tuple(slice(None) if n in names else None for n in wanted)]


N = 5
SPANS = [
    (offset, step, length)
    for offset, step, length in itertools.product(range(N), (1, 2, -1), (None, 2, 3))
    if 0 <= offset + step * ((length or 1) - 1) < N
]


@pytest.mark.parametrize("span", SPANS, ids=str)
def test_reading_what_was_written(span):
    """A value put at one place and read at another, for every pair of places of an axis of five."""
    big = axis("i", N)
    offset, step, length = span
    values = {"x": np.arange(1.0, N + 1), "v": np.array([7.0, 11.0, 13.0])[: length or 1]}
    small = None if length is None else Axis("j", sympy.Integer(length))
    own = () if small is None else (small,)
    values["v"] = values["v"] if own else values["v"][0]
    put = contract((Input("v", own), places.place(big, small, offset, step)), (big,))
    whole = put + Input("x", (big,)) * 2
    array = np.zeros(N)
    array[[offset + step * j for j in range(length or 1)]] = values["v"]
    array += 2 * values["x"]
    for offset2, step2, length2 in SPANS:
        other = None if length2 is None else Axis("k", sympy.Integer(length2))
        read = places.pick(whole, big, other, offset2, step2)
        expected = array[[offset2 + step2 * j for j in range(length2 or 1)]]
        order = () if other is None else (other,)
        for form in (read, places.settle(read), places.unroll(read)):
            found = dense(form, values, order)
            assert np.array_equal(
                np.broadcast_to(found, expected.shape if other else ()), expected if other else expected[0]
            )
    squares = contract((whole, places.place(big, small, offset, step), whole), own)
    assert np.array_equal(dense(places.settle(squares), values, own), dense(squares, values, own))
    total = contract((whole, whole), ())
    assert dense(places.unroll(total), values, ()) == (array**2).sum()


def test_inequalities_hold_for_all_sizes():
    n, m = size_symbol("n"), size_symbol("m")
    assert places.at_least_zero(n - 1)
    assert places.at_least_zero(2 * n + m - 3)
    assert not places.at_least_zero(n - 2)
    assert not places.at_least_zero(n - m)
    assert not places.at_least_zero(1 - n)
    assert places.at_least_zero(n * m - 1)


def _pairs(x, y):
    return np.concatenate([x[:, ::2], y[:, 1:]], axis=1)


def _pairs_backward(d, x, y):
    half = x.shape[1] // 2
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    dx[:, ::2] = d[:, :half]
    dy[:, 1:] = d[:, half:]
    return dx, dy


def _steps(x, W):
    h = np.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] + h @ W)
    return h


def _steps_backward(d, x, W):
    states = [np.zeros_like(x[:, 0])]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] + states[-1] @ W))
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for t in reversed(range(x.shape[1])):
        d = d * (1 - states[t + 1] ** 2)
        dx[:, t], dW, d = d, dW + states[t].T @ d, d @ W.T
    return dx, dW


def _two_names(w, W):
    return w @ W.T + w.sum() * W[0, 0]


def _two_names_backward(d, w, W):
    dW = d.T @ w
    dW[0, 0] += d.sum() * w.sum()
    return d @ W + d.sum() * W[0, 0], dW


#: title -> (backward, forward, shapes, what the statement is given; None: nothing)
STATEMENTS = {
    "a multiple": (_pairs_backward, _pairs, {"x": (2, 4), "y": (2, 3)}, "x.shape[1] a multiple of 2"),
    "a length": (_steps_backward, _steps, {"x": (2, 2, 3), "W": (3, 3)}, "x.shape[1] = 2"),
    "names that differ in case": (_two_names_backward, _two_names, {"w": (2, 3), "W": (4, 3)}, None),
    "the names of fresh axes": (
        lambda d, a, b: (d @ b.T, a.T @ d),
        lambda a, b: a @ b,
        {"a": (2, 3), "b": (3, 4)},
        None,
    ),
}


@pytest.mark.parametrize("title", STATEMENTS)
def test_what_a_proof_is_given_is_said(title):
    backward, forward, shapes, given = STATEMENTS[title]
    task = prepare(backward, forward=forward, shapes=shapes)
    proof = prove(task.subject, task.sampler)
    assert proof.complete, proof.missing
    assert (given or "one normal form") in proof.why
    assert (proof.grade == FREE_AXES) == (given is not None and " = " in given)


def _views(x):
    y = x.copy()
    row = y[:, 1:]
    row *= 2
    y[:, 0] += row[:, 0]
    flat = y.T
    flat[0] += 1
    return y


@pytest.mark.parametrize(("factor", "right"), [(3.0, True), (2.0, False)])
def test_views_write_into_their_array(factor, right):
    """d/dx of (x0 + 2·x1 + 1, 2·x1, 2·x2, …): the second column has 2·(d0 + d1)."""

    def backward(d, x):
        dx = d.copy()
        dx[:, 1:] *= 2
        dx[:, 1] += (factor - 1) * d[:, 0]
        return dx

    task = prepare(backward, forward=_views, shapes={"x": (2, 4)})
    assert prove(task.subject, task.sampler).complete == right


@pytest.mark.parametrize(
    ("forward", "word"),
    [
        (lambda x: np.sort(x, axis=1), "np.sort"),
        (lambda x: x if x.sum() > 0 else -x, "branches on a value"),
        (lambda x: np.pad(x, 1, mode="edge"), "np.pad"),
        (lambda x: x[x > 0].sum() * x, "chosen by a mask"),
    ],
)
def test_what_is_not_traced_is_named(forward, word):
    task = prepare(lambda d, x: d, forward=forward, shapes={"x": (2, 3)})
    proof = prove(task.subject, task.sampler)
    assert not proof.proved
    assert word in proof.why


def _asserting(x, W):
    assert isinstance(x, np.ndarray), "an array, please"
    assert x.ndim == 2
    assert x.shape[1] == W.shape[0], f"{x.shape} does not fit {W.shape}"
    try:
        z = np.matmul(x, W).astype(np.float64)
    except ValueError:
        raise RuntimeError("shapes") from None
    return np.float64(2) * z


def _asserting_backward(d, x, W):
    np.testing.assert_equal(d.shape, (x.shape[0], W.shape[1]))
    return 2 * d.dot(W.T), np.float64(2.0) * x.T.dot(d)


def test_assertions_conversions_and_handlers_are_no_obstacle():
    task = prepare(_asserting_backward, forward=_asserting, shapes={"x": (2, 3), "W": (3, 4)})
    proof = prove(task.subject, task.sampler)
    assert proof.complete, proof.missing
    assert proof.grade == "PROVED for all shapes"
