"""Dense layers and whole networks, row and column samples: functions with caches, dicts of parameters, classes."""

import numpy as np


def affine_forward(x, w, b):
    D = np.prod(x.shape[1:])
    flat = x.reshape(x.shape[0], D)
    return flat.dot(w) + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    N = x.shape[0]
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(N, -1).T.dot(dout)
    db = np.sum(dout, axis=0)
    return dx, dw, db


def linear_activation_forward(A_prev, W, b):
    """Columns are samples."""
    assert W.shape[1] == A_prev.shape[0]
    Z = np.dot(W, A_prev) + b
    assert Z.shape == (W.shape[0], A_prev.shape[1])
    A = np.maximum(0, Z)
    return A, ((A_prev, W, b), Z)


def linear_activation_backward(dA, cache):
    linear_cache, Z = cache
    A_prev, W, b = linear_cache
    dZ = np.array(dA, copy=True)
    dZ[Z <= 0] = 0
    dW = np.dot(dZ, A_prev.T)
    db_rows = np.sum(dZ, axis=1, keepdims=True)
    dA_prev = np.dot(W.T, dZ)
    assert dW.shape == W.shape
    assert db_rows.shape == b.shape
    return dA_prev, dW, db_rows


def column_network(W1, b1, W2, b2, X, Y):
    params = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}
    A2, _ = _propagate(X, params)
    m = Y.shape[1]
    logprobs = np.multiply(np.log(A2), Y) + np.multiply(np.log(1 - A2), 1 - Y)
    return -np.sum(logprobs) / m


def _propagate(X, params):
    Z1 = np.matmul(params["W1"], X) + params["b1"]
    A1 = np.tanh(Z1)
    Z2 = np.matmul(params["W2"], A1) + params["b2"]
    A2 = 1.0 / (1.0 + np.exp(-Z2))
    return A2, {"A1": A1, "A2": A2}


def column_network_backward(W1, b1, W2, b2, X, Y):
    A2, cache = _propagate(X, {"W1": W1, "b1": b1, "W2": W2, "b2": b2})
    m = X.shape[1]
    dZ2 = A2 - Y
    dW2 = (1 / m) * np.dot(dZ2, cache["A1"].T)
    db2 = (1 / m) * np.sum(dZ2, axis=1, keepdims=True)
    dZ1 = np.multiply(np.dot(W2.T, dZ2), 1 - np.power(cache["A1"], 2))
    dW1 = (1 / m) * np.dot(dZ1, X.T)
    db1 = (1 / m) * np.sum(dZ1, axis=1, keepdims=True)
    grads = {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
    return grads


def two_layer_loss(W1, b1, W2, b2, X, y, reg=0.1):
    hidden = np.maximum(0, X.dot(W1) + b1)
    scores = hidden.dot(W2) + b2
    shifted = scores - np.max(scores, axis=1, keepdims=True)
    exp_scores = np.exp(shifted)
    probs = exp_scores / np.sum(exp_scores, axis=1, keepdims=True)
    N = X.shape[0]
    data = np.sum(-np.log(probs[np.arange(N), y])) / N
    return data + 0.5 * reg * (np.sum(W1 * W1) + np.sum(W2 * W2))


def two_layer_grads(W1, b1, W2, b2, X, y, reg=0.1):
    hidden = np.maximum(0, X.dot(W1) + b1)
    scores = hidden.dot(W2) + b2
    shifted = scores - np.max(scores, axis=1, keepdims=True)
    dscores = np.exp(shifted)
    dscores /= dscores.sum(axis=1, keepdims=True)
    N = len(X)
    dscores[range(N), y] -= 1
    dscores /= N
    grads = {}
    grads["W2"] = hidden.T.dot(dscores) + reg * W2
    grads["b2"] = dscores.sum(axis=0)
    dhidden = dscores.dot(W2.T)
    dhidden[hidden <= 0] = 0
    grads["W1"] = X.T.dot(dhidden) + reg * W1
    grads["b1"] = np.sum(dhidden, axis=0)
    return grads


def bilinear_forward(x, A, y):
    return np.einsum("ni,kij,nj->nk", x, A, y)


def bilinear_backward(dout, x, A, y):
    dx = np.einsum("nk,kij,nj->ni", dout, A, y)
    dA = np.einsum("nk,ni,nj->kij", dout, x, y)
    dy = np.einsum("nk,kij,ni->nj", dout, A, x)
    return dx, dA, dy


class Dense:
    """Attributes x, W, dW."""

    def __init__(self, W, b):
        self.W, self.b = W, b
        self.x = None
        self.dW = None
        self.db = None

    def forward(self, x):
        self.original_shape = x.shape
        x = x.reshape(x.shape[0], -1)
        self.x = x
        return np.dot(self.x, self.W) + self.b

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx.reshape(*self.original_shape)


class MatMulList:
    """Lists params and grads, written in place."""

    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.x = None

    def forward(self, x):
        W, b = self.params
        out = np.matmul(x, W)
        out += b
        self.x = x
        return out

    def backward(self, dout):
        W, b = self.params
        dx = np.matmul(dout, W.T)
        dW = np.matmul(self.x.T, dout)
        self.grads[0][...] = dW
        self.grads[1][...] = np.sum(dout, axis=0)
        return dx


class Sequential:
    """A list of layers with dicts of parameters."""

    def __init__(self, W1, b1, W2, b2):
        self.params = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}
        self.grads = {}
        self.caches = []

    def forward(self, X):
        self.caches = []
        out = X
        for k in range(1, 3):
            cache = out
            out = out @ self.params[f"W{k}"] + self.params[f"b{k}"]
            if k < 2:
                out = 1 / (1 + np.exp(-out))
            self.caches.append((cache, out))
        return out

    def backward(self, dout):
        for k in reversed(range(1, 3)):
            before, after = self.caches[k - 1]
            if k < 2:
                dout = dout * after * (1 - after)
            self.grads[f"W{k}"] = before.T @ dout
            self.grads[f"b{k}"] = dout.sum(axis=0)
            dout = dout @ self.params[f"W{k}"].T
        return dout


ROWS = [
    ("affine", affine_backward, affine_forward, {"x": (2, 3, 2), "w": (6, 4), "b": (4,)}, "all",
     {"dx by w": ("dx = dout.dot(w.T).reshape(x.shape)", "dx = 2 * dout.dot(w.T).reshape(x.shape)"),
      "db over the wrong axis": ("db = np.sum(dout, axis=0)\n    return", "db = np.sum(dout)\n    return")}),
    ("columns with relu", linear_activation_backward, linear_activation_forward,
     {"A_prev": (3, 4), "W": (2, 3), "b": (2, 1)}, "all",
     {"mask of the wrong side": ("dZ[Z <= 0] = 0", "dZ[Z >= 0] = 0"),
      "mask from the gradient": ("dZ[Z <= 0] = 0", "dZ[dZ <= 0] = 0")}),
    ("column network", column_network_backward, column_network,
     {"W1": (4, 3), "b1": (4, 1), "W2": (1, 4), "b2": (1, 1), "X": (3, 5), "Y": ("binary", (1, 5))}, "all",
     {"no tanh'": ("np.multiply(np.dot(W2.T, dZ2), 1 - np.power(cache[\"A1\"], 2))", "np.dot(W2.T, dZ2)"),
      "1/m missing": ("db1 = (1 / m) * ", "db1 = ")}, ["W1", "b1", "W2", "b2"]),
    ("two-layer softmax network", two_layer_grads, two_layer_loss,
     {"W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,), "X": (6, 4), "y": ("labels", (6,), 3)}, "all",
     {"regularisation twice": ("+ reg * W2\n    grads[\"b2\"]", "+ 2 * reg * W2\n    grads[\"b2\"]"),
      "relu forgotten": ("    dhidden[hidden <= 0] = 0\n", "")}, ["W1", "b1", "W2", "b2"]),
    ("bilinear by einsum", bilinear_backward, bilinear_forward, {"x": (2, 3), "A": (4, 3, 2), "y": (2, 2)}, "all",
     {"swapped": ("nk,ni,nj->kij\", dout, x, y", "nk,ni,nj->kij\", dout, x[:, ::-1], y")}),
    ("class Dense", Dense, ("W", (6, 4), "b", (4,)), {"x": (2, 3, 2)}, "all",
     {"dW transposed": ("self.dW = np.dot(self.x.T, dout)", "self.dW = np.dot(dout.T, self.x).T * 3")}),
    ("class with lists", MatMulList, ("W", (3, 4), "b", (4,)), {"x": (2, 3)}, "all",
     {"bias not summed over all": ("self.grads[1][...] = np.sum(dout, axis=0)", "self.grads[1][...] = dout[0]")}),
    ("sequential", Sequential, ("W1", (3, 4), "b1", (4,), "W2", (4, 2), "b2", (2,)), {"X": (5, 3)}, "all",
     {"sigmoid' of the input": ("dout * after * (1 - after)", "dout * after * (1 + after)")}),
]  # fmt: skip
