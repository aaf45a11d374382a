"""Ordinary NumPy code of common layers in exact arithmetic, against NumPy's floats and as whole checks."""

import numpy as np
import pytest

from backproof.numerics.checking import check

A = np.array([[0.5, 2.0, -1.0], [3.0, 0.25, 1.0], [1.0, -1.5, 2.0]])
SPD = A @ A.T + np.eye(3)

CODE = {
    "inv": lambda a: np.linalg.inv(a),
    "solve vector": lambda a: np.linalg.solve(a, a[0]),
    "solve matrix": lambda a: np.linalg.solve(a, a.T),
    "det": lambda a: np.linalg.det(a),
    "slogdet": lambda a: np.linalg.slogdet(a)[1],
    "cholesky": lambda a: np.linalg.cholesky(a @ a.T + np.eye(3)),
    "matrix power": lambda a: np.linalg.matrix_power(a, 3),
    "inverse power": lambda a: np.linalg.matrix_power(a, -2),
    "batched inv": lambda a: np.linalg.inv(np.stack([a, 2 * a])),
    "pad": lambda a: np.pad(a, ((1, 1), (0, 2))) * 2,
    "pad edge": lambda a: np.pad(a, 1, mode="edge"),
    "pad reflect": lambda a: np.pad(a, 1, mode="reflect"),
    "prod": lambda a: np.prod(a, axis=1),
    "slices": lambda a: a[1:, ::2] + a[:-1, ::2],
    "add.at": lambda a: _scattered(a),
    "take_along_axis": lambda a: np.take_along_axis(a, np.argsort(a, axis=1), axis=1),
    "sort": lambda a: np.sort(a, axis=0),
    "axis split": lambda a: a.reshape(3, 3, 1).transpose(2, 0, 1).reshape(-1, 3).max(axis=1),
    "windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, (2, 2)).sum((2, 3)),
    "tril": lambda a: np.tril(a) @ np.triu(a, 1),
    "cumsum": lambda a: np.cumsum(a, axis=1)[:, ::-1],
    "einsum": lambda a: np.einsum("ij,kj->ik", a, a),
    "roll": lambda a: np.roll(a, 1, axis=0) * a,
}


def _scattered(a):
    out = np.zeros((2, 3))
    np.add.at(out, np.array([0, 1, 0]), a)
    return out


@pytest.mark.parametrize("function", CODE.values(), ids=list(CODE))
def test_exact_value_and_gradient(function):
    """The exact tape against a central difference of the floats, through a black box made of that difference."""

    def difference(dy, a):
        out, h = np.zeros_like(a, dtype=float), 1e-5
        for spot in np.ndindex(*a.shape):
            step = np.zeros_like(a, dtype=float)
            step[spot] = h
            wide = (np.asarray(function(a + 2 * step)) - np.asarray(function(a - 2 * step))) / (4 * h)
            near = (np.asarray(function(a + step)) - np.asarray(function(a - step))) / (2 * h)
            out[spot] = (np.asarray(dy) * (4 * near - wide) / 3).sum()
        return out

    def forward(a):
        return function(a)

    result = check(difference, forward=forward, inputs={"a": A}, black_box=True, points=1, dtype="float64")
    assert result.formula.grade == "MEASURED", str(result)


def test_linear_solve_backward():
    def forward(a, b):
        return np.linalg.solve(a, b)

    def backward(dy, a, b):
        db = np.linalg.solve(a.T, dy)
        return -db @ forward(a, b).T, db

    shapes = {"a": (3, 3), "b": (3, 2)}
    result = check(backward, forward=forward, shapes=shapes)
    assert result.formula.grade.startswith("PROVED"), str(result)

    def wrong(dy, a, b):
        da, db = backward(dy, a, b)
        return da.T, db

    assert check(wrong, forward=forward, shapes=shapes).gradients["a"] == "REFUTED"


def test_what_is_not_covered_is_said_by_name():
    result = check(lambda dy, a: dy, forward=lambda a: np.linalg.svd(a)[1], shapes={"a": (3, 3)})
    assert "np.linalg.svd is not covered" in result.formula.why
    assert not result.passed


# From-scratch layers -------------------------------------------------------------------------------------------------
def max_pool(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


def max_pool_backward(dy, x):
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
    mask = blocks == blocks.max(axis=(3, 5), keepdims=True)
    return (mask * dy[:, :, :, None, :, None]).reshape(x.shape)


def im2col(x, k):
    n, c, h, w = x.shape
    oh, ow = h - k + 1, w - k + 1
    cols = np.zeros((n, c, k, k, oh, ow))
    for i in range(k):
        for j in range(k):
            cols[:, :, i, j] = x[:, :, i : i + oh, j : j + ow]
    return cols.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(cols, shape, k):
    n, c, h, w = shape
    oh, ow = h - k + 1, w - k + 1
    cols = cols.reshape(n, oh, ow, c, k, k).transpose(0, 3, 4, 5, 1, 2)
    x = np.zeros(shape)
    for i in range(k):
        for j in range(k):
            x[:, :, i : i + oh, j : j + ow] += cols[:, :, i, j]
    return x


def conv(x, w):
    n, _, h, v = x.shape
    f, _, k, _ = w.shape
    return (im2col(x, k) @ w.reshape(f, -1).T).reshape(n, h - k + 1, v - k + 1, f).transpose(0, 3, 1, 2)


def conv_backward(dy, x, w):
    f, _, k, _ = w.shape
    d = dy.transpose(0, 2, 3, 1).reshape(-1, f)
    return col2im(d @ w.reshape(f, -1), x.shape, k), (d.T @ im2col(x, k)).reshape(w.shape)


def network(x, w1, w2, W, y):
    a = np.maximum(conv(x, w1), 0)
    b = np.maximum(conv(a, w2), 0)
    z = b.reshape(len(b), -1) @ W
    s = z - z.max(1, keepdims=True)
    return -(y * (s - np.log(np.exp(s).sum(1, keepdims=True)))).sum() / len(x)


def network_backward(x, w1, w2, W, y):
    h1 = conv(x, w1)
    a = np.maximum(h1, 0)
    h2 = conv(a, w2)
    f = np.maximum(h2, 0).reshape(len(x), -1)
    z = f @ W
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    dz = (p - y) / len(x)
    da, dw2 = conv_backward((dz @ W.T).reshape(h2.shape) * (h2 > 0), a, w2)
    _, dw1 = conv_backward(da * (h1 > 0), x, w1)
    return dw1, dw2, f.T @ dz


def lstm(x, h, c, W, U, b):
    z = x @ W + h @ U + b
    k = h.shape[1]
    i, f, o, g = (1 / (1 + np.exp(-z[:, n * k : (n + 1) * k])) for n in range(4))
    c2 = f * c + i * (2 * g - 1)
    return o * np.tanh(c2)


def lstm_backward(dy, x, h, c, W, U, b):
    z = x @ W + h @ U + b
    k = h.shape[1]
    i, f, o, g = (1 / (1 + np.exp(-z[:, n * k : (n + 1) * k])) for n in range(4))
    t = np.tanh(f * c + i * (2 * g - 1))
    dc2 = dy * o * (1 - t**2)
    dz = np.concatenate(
        [dc2 * (2 * g - 1) * i * (1 - i), dc2 * c * f * (1 - f), dy * t * o * (1 - o), dc2 * i * 2 * g * (1 - g)],
        axis=1,
    )
    return dz @ W.T, dz @ U.T, dc2 * f, x.T @ dz, h.T @ dz, dz.sum(0)


@pytest.mark.parametrize(
    ("backward", "forward", "inputs", "wrt"),
    [
        (max_pool_backward, max_pool, {"x": np.random.default_rng(0).normal(size=(2, 1, 4, 4))}, None),
        (
            conv_backward, conv,
            {n: np.random.default_rng(k).normal(size=s) for k, (n, s) in enumerate(
                {"x": (2, 2, 4, 5), "w": (3, 2, 3, 3)}.items())},
            None,
        ),
        (
            lstm_backward, lstm,
            {n: np.random.default_rng(k).normal(size=s) for k, (n, s) in enumerate(
                {"x": (2, 3), "h": (2, 2), "c": (2, 2), "W": (3, 8), "U": (2, 8), "b": (8,)}.items())},
            None,
        ),
        (
            network_backward, network,
            {
                **{n: np.random.default_rng(k).normal(size=s) for k, (n, s) in enumerate(
                    {"x": (2, 1, 6, 6), "w1": (2, 1, 3, 3), "w2": (3, 2, 3, 3), "W": (12, 3)}.items())},
                "y": np.eye(3)[[0, 2]],
            },
            ["w1", "w2", "W"],
        ),
    ],
    ids=["max pool", "convolution", "LSTM", "three-layer network"],
)  # fmt: skip
def test_from_scratch_layers_are_proved(backward, forward, inputs, wrt):
    result = check(backward, forward=forward, inputs=inputs, wrt=wrt)
    assert result.formula.grade.startswith("PROVED"), str(result)
    assert not result.domain.failed
    assert not result.contract.failed


def test_libraries_of_an_outer_environment_are_left_alone(tmp_path):
    from types import ModuleType

    from backproof.numerics.exact_modules import _is_library

    outer, own = ModuleType("outer"), ModuleType("own")
    outer.__file__ = str(tmp_path / "lib" / "python3.11" / "site-packages" / "outer" / "__init__.py")
    own.__file__ = str(tmp_path / "own.py")
    assert _is_library(outer)
    assert not _is_library(own)


def test_libraries_of_any_folder_that_pip_installed_into_are_left_alone(tmp_path, monkeypatch):
    import sys

    from backproof.numerics.exact_modules import _is_library

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "elsewhere_installed").mkdir()
    (tmp_path / "elsewhere_installed" / "__init__.py").write_text("")
    (tmp_path / "elsewhere_installed" / "part.py").write_text("")
    __import__("elsewhere_installed.part")
    part = sys.modules["elsewhere_installed.part"]
    from backproof.numerics import exact_modules

    assert not _is_library(part)
    (tmp_path / "elsewhere_installed-1.dist-info").mkdir()
    exact_modules._beside_metadata.cache_clear()
    assert _is_library(part)


@pytest.mark.parametrize("stack", [np.stack, np.hstack, np.vstack])
def test_numbers_are_stacked(stack):
    from backproof.numerics.checking import check

    def forward(x):
        return stack([(x[i : i + 2] ** 2).sum() for i in range(len(x) - 1)])

    def backward(dy, x):
        dx = np.zeros_like(x)
        for i, g in enumerate(dy.reshape(-1)):
            dx[i : i + 2] += 2 * g * x[i : i + 2]
        return dx

    assert check(backward, forward=forward, shapes={"x": 4}).formula.ok
