"""The proof at fixed shapes: right gradients that cannot be traced, wrong ones, and the residues themselves."""

import functools

import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.numerics.checking import check
from backproof.numerics.exact_scalars import NotCovered
from backproof.numerics.identity import prove_at
from backproof.numerics.preparing import prepare
from backproof.numerics.residues import PRIME, NoRoot, Number, number, oracle, rational


def conv(x, w):
    n, h, v = x.shape
    k = w.shape[0]
    out = np.zeros((n, h - k + 1, v - k + 1))
    for i in range(h - k + 1):
        for j in range(v - k + 1):
            out[:, i, j] = (x[:, i : i + k, j : j + k] * w).sum((1, 2))
    return np.maximum(out, 0)


def conv_backward(dy, x, w):
    dy = dy * (conv(x, w) > 0)
    dx, dw, k = np.zeros_like(x), np.zeros_like(w), w.shape[0]
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            dx[:, i : i + k, j : j + k] += dy[:, i, j][:, None, None] * w
            dw += (x[:, i : i + k, j : j + k] * dy[:, i, j][:, None, None]).sum(0)
    return dx, dw


SHAPES = {"x": (2, 4, 5), "w": (3, 3)}


def test_convolution_by_loops_is_proved_at_its_shapes():
    result = check(conv_backward, forward=conv, shapes=SHAPES)
    assert result.formula.grade == "PROVED for all shapes of the free axes", str(result)
    assert result.passed
    task = prepare(conv_backward, forward=conv, shapes=SHAPES)
    assert not any(prove_at(task.subject, task.sampler, task.sampler.point(0)).values())


@pytest.mark.parametrize("factor", [1 + 1e-9, 2.0, -1.0])
def test_wrong_gradient_is_not_proved(factor):
    task = prepare(lambda dy, x, w: tuple(g * factor for g in conv_backward(dy, x, w)), forward=conv, shapes=SHAPES)
    found = prove_at(task.subject, task.sampler, task.sampler.point(0))
    assert all("not one" in why for why in found.values())


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax_from_logs(dy, x):
    c = x - x.max(-1, keepdims=True)
    s = np.exp(c - np.log(np.exp(c).sum(-1, keepdims=True)))
    return s * (dy - (dy * s).sum(-1, keepdims=True))


def _norm(x, g, eps=1e-5):
    return g * (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


def _norm_backward(dy, x, g, eps=1e-5):
    r = 1 / np.sqrt(x.var(0) + eps)
    h = (x - x.mean(0)) * r
    return g * r * (dy - dy.mean(0) - h * (dy * h).mean(0)), (dy * h).sum(0)


@pytest.mark.parametrize(
    ("backward", "forward", "shapes"),
    [
        (_softmax_from_logs, _softmax, {"x": (3, 4)}),
        (_norm_backward, _norm, {"x": (4, 3), "g": (3,)}),
        (
            lambda dy, x: dy * (1 - ((np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)) ** 2),
            lambda x: np.tanh(x),
            {"x": (3,)},
        ),
        (lambda dy, x: dy * np.exp(-x) / (1 + np.exp(-x)) ** 2, lambda x: np.exp(x) / (1 + np.exp(x)), {"x": (3,)}),
        (lambda dy, x: dy * np.cosh(x), lambda x: np.sinh(x), {"x": (3,)}),
    ],
    ids=["softmax", "norm", "tanh", "sigmoid", "sinh"],
)
def test_relations_between_functions(backward, forward, shapes):
    task = prepare(backward, forward=forward, shapes=shapes)
    found = prove_at(task.subject, task.sampler, task.sampler.point(0))
    assert set(found.values()) == {""}


# Residues ------------------------------------------------------------------------------------------------------------
def _free(key):
    return Number(arb(key) / 7 + 2, oracle("test", key))


def test_the_prime_is_prime_and_small_primes_are_squares():
    import sympy

    assert sympy.isprime(PRIME)
    assert PRIME % 8 == 7
    for small in sympy.primerange(37):
        root = number(arb(int(small))).apply("sqrt")
        assert root.residue**2 % PRIME == small


@given(st.integers(-50, 50), st.integers(1, 50))
@settings(max_examples=30, deadline=None)
def test_rationals_are_exact(top, bottom):
    a = rational(top, bottom)
    assert (a * bottom).residue == top % PRIME
    assert a.ball.overlaps(arb(top) / bottom)


def test_known_relations_and_unknown_ones():
    a, b = _free(1), _free(2)
    assert (a.apply("exp") * (-a).apply("exp")).residue == 1
    assert a.apply("log").apply("exp").residue == a.residue
    assert (a.apply("log") + b).apply("exp").residue == (b.apply("exp") * a).residue
    assert (a.apply("exp") * b.apply("exp")).residue != (a + b).apply("exp").residue  # not known: never assumed
    assert (a + b).residue != (a - b).residue


def test_roots_multiply():
    roots = [v for k in range(30) if (v := _root(_free(k))) is not None]
    assert 5 < len(roots) < 25  # half of all residues have one
    a, b = roots[:2]
    assert (a * b).residue == ((a * a) * (b * b)).apply("sqrt").residue


def _root(value):
    try:
        return value.apply("sqrt")
    except NoRoot:
        return None


def test_degrees_are_bounded():
    a = _free(3)
    with pytest.raises(NotCovered, match="degree"):
        functools.reduce(lambda v, _: v * v, range(300), a)
    with pytest.raises(NotCovered, match="division by zero"):
        1 / (a - a)
