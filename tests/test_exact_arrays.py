"""Exact arrays: every function against NumPy's floats, the tape against difference quotients in balls."""

import math

import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backproof.numerics.exact_arrays import ExactArray, exact_array
from backproof.numerics.exact_modules import exact_modules
from backproof.numerics.exact_scalars import Ball, NotCovered, NotDecided, adjoints, exact_arithmetic, lift

A = np.array([[1.5, -2.0, 0.25], [0.5, 3.0, -0.75]])
P = np.abs(A)
V = np.array([0.5, -1.25, 2.0])
M = np.array([[0.5, -1.0], [2.0, 0.25], [-0.5, 1.0]])
scipy_special = pytest.importorskip("scipy.special")

# name -> a function of nothing that uses np, math or special; run in floats and in exact arithmetic.
CALLS = {
    "matmul": lambda: A @ M,
    "matvec": lambda: A @ V,
    "batched matmul": lambda: np.stack([A, A]) @ M,
    "sum": lambda: np.sum(A, axis=0),
    "sum keepdims": lambda: A.sum(axis=-1, keepdims=True),
    "sum where": lambda: np.sum(A, where=A > 0),
    "mean": lambda: A.mean(0),
    "var": lambda: A.var(axis=1),
    "var ddof": lambda: np.var(A, axis=0, ddof=1),
    "std": lambda: np.std(A, axis=1, keepdims=True),
    "prod": lambda: np.prod(A, axis=1),
    "cumsum": lambda: np.cumsum(A, axis=1),
    "cumprod": lambda: np.cumprod(V),
    "max": lambda: np.max(A, axis=1, keepdims=True),
    "min": lambda: A.min(0),
    "ptp": lambda: np.ptp(A, axis=0),
    "argmax": lambda: np.argmax(A, axis=1),
    "argmin flat": lambda: A.argmin(),
    "exp": lambda: np.exp(A),
    "log": lambda: np.log(P),
    "log1p": lambda: np.log1p(P),
    "log2": lambda: np.log2(P),
    "log10": lambda: np.log10(P),
    "expm1": lambda: np.expm1(A),
    "sqrt": lambda: np.sqrt(P),
    "cbrt": lambda: np.cbrt(A),
    "tanh": lambda: np.tanh(A),
    "sinh": lambda: np.sinh(A),
    "cosh": lambda: np.cosh(A),
    "sin": lambda: np.sin(A),
    "cos": lambda: np.cos(A),
    "arctan": lambda: np.arctan(A),
    "arcsinh": lambda: np.arcsinh(A),
    "abs": lambda: np.abs(A),
    "sign": lambda: np.sign(A),
    "maximum": lambda: np.maximum(0, A),
    "minimum": lambda: np.minimum(A, 1),
    "where": lambda: np.where(A > 0, A, 0.1 * A),
    "where mask": lambda: np.where(A > 0)[0],
    "clip": lambda: np.clip(A, -1, 1),
    "clip method": lambda: A.clip(0, None),
    "power": lambda: np.power(P, 1.5),
    "negative power": lambda: P**-0.5,
    "square": lambda: np.square(A),
    "reciprocal": lambda: np.reciprocal(A),
    "logaddexp": lambda: np.logaddexp(A, 0),
    "logaddexp reduce": lambda: np.logaddexp.reduce(A, axis=1),
    "hypot": lambda: np.hypot(A, 1),
    "heaviside": lambda: np.heaviside(A, 0.5),
    "floor": lambda: np.floor(A),
    "round": lambda: np.round(A * 1.1),
    "mod": lambda: np.mod(P, 0.7),
    "zeros_like": lambda: np.zeros_like(A) + 1,
    "ones_like": lambda: np.ones_like(A),
    "full_like": lambda: np.full_like(A, 2.5),
    "zeros": lambda: np.zeros((2, 3)),
    "full": lambda: np.full((2,), 0.5),
    "eye": lambda: np.eye(3) @ M,
    "arange": lambda: np.arange(6).reshape(2, 3) * A,
    "arange step": lambda: np.arange(0, 1, 0.25),
    "linspace": lambda: np.linspace(0, 1, 5),
    "array": lambda: np.array([[A[0, 0], 1.0], [2.0, V[1]]]),
    "asarray": lambda: np.asarray(A, dtype=np.float64),
    "astype": lambda: (A > 0).astype(float) / 3,
    "astype int": lambda: A.astype(int),
    "astype bool": lambda: A.astype(bool),
    "einsum": lambda: np.einsum("ij,jk->ki", A, M),
    "einsum trace": lambda: np.einsum("ij,ij->", A, A),
    "tensordot": lambda: np.tensordot(A, M, axes=1),
    "dot": lambda: np.dot(A, M),
    "dot method": lambda: A.dot(V),
    "inner": lambda: np.inner(A, A),
    "outer": lambda: np.outer(V, V),
    "outer ufunc": lambda: np.multiply.outer(V, V),
    "kron": lambda: np.kron(A, V),
    "trace": lambda: np.trace(A @ M),
    "fancy": lambda: A[np.array([1, 0, 1])],
    "fancy pair": lambda: A[np.arange(2), [2, 0]],
    "boolean": lambda: A[A > 0],
    "slice": lambda: A[:, ::-1],
    "newaxis": lambda: A[:, None, :] * V,
    "ellipsis": lambda: A[..., 1],
    "take_along_axis": lambda: np.take_along_axis(A, np.argmax(A, axis=1)[:, None], axis=1),
    "concatenate": lambda: np.concatenate([A, A], axis=1),
    "stack": lambda: np.stack([V, V * 2]),
    "vstack": lambda: np.vstack([A, V]),
    "split": lambda: np.split(A, 3, axis=1)[1],
    "pad": lambda: np.pad(A, ((1, 0), (0, 2))),
    "transpose": lambda: A.T,
    "transpose axes": lambda: np.transpose(A, (1, 0)),
    "swapaxes": lambda: np.swapaxes(A, 0, 1),
    "reshape": lambda: A.reshape(3, -1),
    "ravel": lambda: np.ravel(A),
    "broadcast_to": lambda: np.broadcast_to(V, (2, 3)) * A,
    "expand_dims": lambda: np.expand_dims(V, 0),
    "squeeze": lambda: np.squeeze(A[None]),
    "repeat": lambda: np.repeat(V, 2),
    "tile": lambda: np.tile(V, 2),
    "flip": lambda: np.flip(A, 0),
    "roll": lambda: np.roll(V, 1),
    "tril": lambda: np.tril(A @ M),
    "diag": lambda: np.diag(V),
    "delete": lambda: np.delete(V, 1),
    "sort": lambda: np.sort(V),
    "argsort": lambda: np.argsort(V),
    "any all": lambda: np.array([np.any(A > 2), np.all(A > 2)]),
    "count_nonzero": lambda: np.count_nonzero(A > 0) / 3,
    "comparison chain": lambda: ((A > -1) & (A < 1)) | (A == 3.0),
    "logical": lambda: np.logical_and(A > 0, ~(A > 1)),
    "mask product": lambda: (A > 0) * A,
    "norm": lambda: np.linalg.norm(A),
    "norm axis": lambda: np.linalg.norm(A, axis=1, keepdims=True),
    "norm 1": lambda: np.linalg.norm(V, 1),
    "norm inf": lambda: np.linalg.norm(V, np.inf),
    "sqrt of a number": lambda: np.sqrt(2 / np.pi) * A,
    "size quotient": lambda: A.sum() / A.shape[0] + 1.0 / len(A) + A.size,
    "sqrt of a size": lambda: A / np.sqrt(A.shape[1]),
    "math": lambda: math.exp(V[0]) + math.tanh(V[1]) + math.log(2) + math.pi + math.erf(V[0]) + math.sqrt(3),
    "float": lambda: float(V[0]) * 2,
    "builtin sum": lambda: sum(V) + max(V) - min(V) + abs(V[1]),
    "vectorize": lambda: np.vectorize(lambda t: t * t + 1)(V),
    "expit": lambda: scipy_special.expit(A),
    "erf": lambda: scipy_special.erf(A),
    "softmax": lambda: scipy_special.softmax(A, axis=1),
    "log_softmax": lambda: scipy_special.log_softmax(A, axis=1),
    "logsumexp": lambda: scipy_special.logsumexp(A, axis=1, keepdims=True),
    "xlogy": lambda: scipy_special.xlogy(P, P),
    "average": lambda: np.average(A, axis=0),
    "nan_to_num": lambda: np.nan_to_num(A),
    "isclose": lambda: np.isclose(A, A + 1e-12),
}


def _exact_globals(active=False):
    made = {}
    for name in ("A", "P", "V", "M"):
        out = np.empty(globals()[name].shape, dtype=object)
        for spot in np.ndindex(*out.shape):
            out[spot] = Ball(arb(float(globals()[name][spot])), leaf=active)
        made[name] = out.view(ExactArray)
    return made


def _run_exactly(function, monkeypatch):
    with exact_arithmetic():
        for name, value in _exact_globals().items():
            monkeypatch.setitem(globals(), name, value)
        with exact_modules(function):
            result = function()
        return np.frompyfunc(lambda v: float(v.value), 1, 1)(
            np.asarray(exact_array(result).astype_exact().view(np.ndarray))
        )


@pytest.mark.parametrize("name", CALLS)
def test_agrees_with_numpy(name, monkeypatch):
    expected = np.asarray(CALLS[name]())
    got = np.asarray(_run_exactly(CALLS[name], monkeypatch), dtype=float)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected.astype(float), rtol=1e-14, atol=1e-15)


def _in_place_setitem(x):
    x = x.copy()
    x[x <= 0] = 0
    x[0] += 1
    x -= 0.5
    x[:, 1] *= 2
    x /= 4
    np.add.at(x, ([0, 0], [1, 1]), 1.0)
    x[1, 2] = x[0, 0]
    return x


def _buffer(x):
    out = np.zeros((2, 3))
    for i in range(x.shape[0]):
        for j in range(len(x[i])):
            out[i, j] = x[i, j] ** 2 if x[i, j] > 0 else -x[i, j]
    return out


@pytest.mark.parametrize("function", [_in_place_setitem, _buffer])
def test_in_place_and_loops(function):
    with exact_arithmetic(), exact_modules(function):
        got = function(exact_array(A))
    floats = np.frompyfunc(lambda v: float(v.value), 1, 1)(got.view(np.ndarray))
    np.testing.assert_allclose(floats.astype(float), function(A.copy()), rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("linalg.svd", lambda x: np.linalg.svd(x)),
        ("fft.fft", lambda x: np.fft.fft(x)),
        ("interp", lambda x: np.interp(x, [0, 1], [0, 1])),
        ("linalg.pinv", lambda x: np.linalg.pinv(x)),
    ],
)
def test_what_is_not_covered_is_named(name, call):
    with exact_arithmetic(), exact_modules(call), pytest.raises(NotCovered, match=name.split(".")[-1]):
        call(exact_array(A))


def test_comparison_is_decided_or_refused_never_guessed():
    with exact_arithmetic():
        third = lift(1) / lift(3)
        assert third < lift(0.34)
        assert not third > lift(0.34)
        with pytest.raises(NotDecided, match="digits"):
            bool(third * 3 >= 1)  # equal numbers whose enclosures overlap
        z = exact_array([third * 2, third])
        assert (z - z.max()).view(np.ndarray)[0].value == 0  # the same number: exactly 0


def test_division_of_sizes_is_exact():
    with exact_arithmetic():
        n = exact_array(np.zeros((3, 2))).shape[0]
        assert (1 / n * 3).value.overlaps(arb(1))
        assert (1.0 / n).value.rad() < arb(2) ** -900
        assert n == 3
        assert list(range(n)) == [0, 1, 2]


def test_constants_are_read_as_decimals_and_widened_when_long():
    with exact_arithmetic() as trace:
        assert (lift(0.1) * 10).value.overlaps(arb(1))
        assert not lift(0.7071067811865475244).value.overlaps(1 / arb(2).sqrt())
        trace.widened = True
        assert lift(0.7071067811865475244).value.overlaps(1 / arb(2).sqrt())
        assert not lift(0.3333).value.overlaps(arb(1) / 3)
        assert lift(0.5).value.is_exact()


TAPED = {
    "product": lambda x, y: x * y + x / (y * y + 1),
    "power": lambda x, y: (x * x + 1) ** 1.5 - y**3,
    "general power": lambda x, y: (x * x + 2) ** y,
    "exp log": lambda x, y: np.exp(x) * np.log(y * y + 1),
    "trig": lambda x, y: np.sin(x) * np.cos(y) + np.tan(x / 4) + np.arctan(y),
    "hyperbolic": lambda x, y: np.tanh(x) + np.sinh(y) / np.cosh(x),
    "expm1 log1p": lambda x, y: np.expm1(x) * np.log1p(y * y),
    "roots": lambda x, y: np.sqrt(x * x + 1) * np.cbrt(y * y + 2),
    "selection": lambda x, y: np.maximum(x, y) + np.where(x > 0, x * x, y),
    "abs": lambda x, y: np.abs(x) * y,
    "erf": lambda x, y: scipy_special.erf(x) + scipy_special.expit(y),
    "erfc": lambda x, y: scipy_special.erfc(x) * y,
    "logaddexp": lambda x, y: np.logaddexp(x, y),
    "inverse": lambda x, y: np.arcsin(x / 8) + np.arccos(y / 8) + np.arcsinh(x) + np.arctanh(y / 8),
    "bases": lambda x, y: np.exp2(x) + np.log2(y * y + 1) + np.log10(x * x + 1),
}
coordinate = st.integers(-320, 320).map(lambda n: n / 64)


@pytest.mark.parametrize("name", TAPED)
@settings(max_examples=12, deadline=None)
@given(a=coordinate, b=coordinate)
def test_tape_against_difference_quotient(name, a, b):
    """(f(x+h) − f(x−h))/2h in balls with h = 2^-300 is the derivative to 2^-590: no cancellation at 2000 bits."""
    function = TAPED[name]
    if a == b or a == 0 or b == 0:
        return
    with exact_arithmetic(bits=2000):
        x, y = Ball(arb(a), leaf=True), Ball(arb(b), leaf=True)
        adjoint = adjoints([(function(x, y), arb(1))])
        h = arb(2) ** -300
        for leaf, shifted in ((x, lambda s: (a + s, arb(b))), (y, lambda s: (arb(a), b + s))):
            up, down = (function(*(Ball(arb(v)) for v in shifted(s))) for s in (h, -h))
            quotient = (up.value - down.value) / (2 * h)
            assert abs(quotient - adjoint.get(leaf, arb(0))) < arb(2) ** -500


def test_tape_can_be_wrong_if_the_rule_is(monkeypatch):
    """The test above can fail: a wrong local derivative is caught."""
    from backproof.numerics import exact_scalars

    monkeypatch.setattr(exact_scalars, "UNARY", {**exact_scalars.UNARY, "tanh": (arb.tanh, lambda v, y: 1 - y)})
    with pytest.raises(AssertionError):
        test_tape_against_difference_quotient.hypothesis.inner_test("hyperbolic", 1.0, 2.0)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), elements=coordinate),
    st.sampled_from(["sum", "mean", "max", "min", "var"]),
    st.booleans(),
    st.data(),
)
def test_reductions_over_any_axis(values, name, keepdims, data):
    axis = data.draw(st.one_of(st.none(), st.integers(-values.ndim, values.ndim - 1)))
    expected = getattr(np, name)(values, axis=axis, keepdims=keepdims)
    with exact_arithmetic():
        got = exact_array(getattr(np, name)(exact_array(values), axis=axis, keepdims=keepdims))
        floats = np.frompyfunc(lambda v: float(v.value), 1, 1)(got.astype_exact().view(np.ndarray))
    np.testing.assert_allclose(np.asarray(floats, dtype=float), expected, rtol=1e-13, atol=1e-13)


def test_precision_and_globals_are_put_back():
    import flint

    before = flint.ctx.prec

    def raises(x):
        raise ValueError(np)

    with pytest.raises(ValueError), exact_arithmetic(), exact_modules(raises):  # noqa: PT011
        raises(1)
    assert flint.ctx.prec == before
    assert np.pi == 3.141592653589793
    assert globals()["np"].__name__ == "numpy"
    assert "float" not in globals()
