"""Attention, embeddings, recurrent layers: caches in dicts and lists, gates by split, concatenate and hstack."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(x, axis=-1):
    x = x - x.max(axis=axis, keepdims=True)
    e = np.exp(x)
    return e / np.sum(e, axis=axis, keepdims=True)


def attention(Q, K, V):
    d_k = Q.shape[-1]
    scores = Q @ K.swapaxes(-1, -2) / np.sqrt(d_k)
    weights = softmax(scores)
    return weights @ V, (Q, K, V, weights)


def attention_backward(dout, cache):
    Q, K, V, A = cache
    scale = 1 / np.sqrt(Q.shape[-1])
    dV = A.swapaxes(-1, -2) @ dout
    dA = dout @ V.swapaxes(-1, -2)
    dS = A * (dA - np.sum(dA * A, axis=-1, keepdims=True))
    dQ = dS @ K * scale
    dK = dS.swapaxes(-1, -2) @ Q * scale
    return dQ, dK, dV


def causal_attention(q, k, v):
    """One sequence, a triangular mask of −1e9."""
    T, d = q.shape
    mask = np.triu(np.ones((T, T)), k=1) * -1e9
    s = q @ k.T / np.sqrt(d) + mask
    e = np.exp(s - s.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    return p @ v


def causal_attention_backward(do, q, k, v):
    T, d = q.shape
    s = q @ k.T / np.sqrt(d) + np.triu(np.ones((T, T)), k=1) * -1e9
    p = softmax(s, axis=1)
    dv = p.T @ do
    dp = do @ v.T
    ds = p * (dp - (dp * p).sum(1, keepdims=True)) / np.sqrt(d)
    return ds @ k, ds.T @ q, dv


def masked_attention(q, k, v, keep):
    """A mask of minus infinity where ``keep`` is False; the first key is always kept."""
    keep = keep.copy()
    keep[:, 0] = True
    s = np.where(keep, q @ k.T / np.sqrt(q.shape[1]), -np.inf)
    return softmax(s) @ v


def masked_attention_backward(do, q, k, v, keep):
    keep = keep.copy()
    keep[:, 0] = True
    s = np.where(keep, q @ k.T / np.sqrt(q.shape[1]), -np.inf)
    p = softmax(s)
    dp = do @ v.T
    ds = p * (dp - (dp * p).sum(1, keepdims=True)) / np.sqrt(q.shape[1])
    return ds @ k, ds.T @ q, p.T @ do


class MultiHeadAttention:
    def __init__(self, Wq, Wk, Wv, Wo, num_heads=2):
        self.Wq, self.Wk, self.Wv, self.Wo = Wq, Wk, Wv, Wo
        self.num_heads = num_heads
        self.grads = {}

    def split(self, x):
        B, T, D = x.shape
        return x.reshape(B, T, self.num_heads, D // self.num_heads).transpose(0, 2, 1, 3)

    def merge(self, x):
        B, H, T, d = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, H * d)

    def forward(self, x):
        self.x = x
        self.q, self.k, self.v = self.split(x @ self.Wq), self.split(x @ self.Wk), self.split(x @ self.Wv)
        self.scale = 1 / np.sqrt(self.q.shape[-1])
        self.a = softmax(self.q @ self.k.transpose(0, 1, 3, 2) * self.scale)
        self.o = self.merge(self.a @ self.v)
        return self.o @ self.Wo

    def backward(self, dout):
        B, T, D = dout.shape
        self.grads["Wo"] = np.einsum("btd,bte->de", self.o, dout)
        do = self.split(dout @ self.Wo.T)
        dv = self.a.transpose(0, 1, 3, 2) @ do
        da = do @ self.v.transpose(0, 1, 3, 2)
        ds = self.a * (da - (da * self.a).sum(-1, keepdims=True)) * self.scale
        dq, dk = self.merge(ds @ self.k), self.merge(ds.transpose(0, 1, 3, 2) @ self.q)
        dv = self.merge(dv)
        x2 = self.x.reshape(-1, D)
        self.grads["Wq"] = x2.T @ dq.reshape(-1, D)
        self.grads["Wk"] = x2.T @ dk.reshape(-1, D)
        self.grads["Wv"] = x2.T @ dv.reshape(-1, D)
        return dq @ self.Wq.T + dk @ self.Wk.T + dv @ self.Wv.T


def embedding(W, idx):
    return W[idx], (W, idx)


def embedding_backward(dout, cache):
    W, idx = cache
    dW = np.zeros_like(W)
    np.add.at(dW, idx, dout)
    return dW


class Embedding:
    """Adds row by row."""

    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, idx):
        self.idx = idx
        return self.params[0][idx]

    def backward(self, dout):
        (dW,) = self.grads
        dW[...] = 0
        for k, word in enumerate(self.idx):
            dW[word] += dout[k]
        return None


def rnn_step(x, h, Wx, Wh, b):
    return np.tanh(x.dot(Wx) + h.dot(Wh) + b)


def rnn_forward(x, h0, Wx, Wh, b):
    N, T, D = x.shape
    h = np.zeros((N, T, h0.shape[1]))
    prev = h0
    for t in range(T):
        prev = rnn_step(x[:, t, :], prev, Wx, Wh, b)
        h[:, t, :] = prev
    return h, (x, h0, Wx, Wh, b, h)


def rnn_backward(dh, cache):
    x, h0, Wx, Wh, b, h = cache
    N, T, H = dh.shape
    dx = np.zeros_like(x)
    dWx, dWh, db = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    dprev = np.zeros((N, H))
    for t in reversed(range(T)):
        before = h0 if t == 0 else h[:, t - 1, :]
        da = (dh[:, t, :] + dprev) * (1 - h[:, t, :] ** 2)
        dx[:, t, :] = da.dot(Wx.T)
        dprev = da.dot(Wh.T)
        dWx += x[:, t, :].T.dot(da)
        dWh += before.T.dot(da)
        db += da.sum(axis=0)
    return dx, dprev, dWx, dWh, db


def lstm_cell(x, prev_h, prev_c, Wx, Wh, b):
    H = prev_h.shape[1]
    a = x.dot(Wx) + prev_h.dot(Wh) + b
    i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), sigmoid(a[:, 2 * H : 3 * H])
    g = np.tanh(a[:, 3 * H :])
    c = f * prev_c + i * g
    return o * np.tanh(c), (i, f, o, g, c, x, prev_h, prev_c, Wx, Wh)


def lstm_cell_backward(dnext_h, cache):
    i, f, o, g, c, x, prev_h, prev_c, Wx, Wh = cache
    t = np.tanh(c)
    do = dnext_h * t
    dc = dnext_h * o * (1 - t**2)
    dprev_c = dc * f
    da = np.hstack((dc * g * i * (1 - i), dc * prev_c * f * (1 - f), do * o * (1 - o), dc * i * (1 - g**2)))
    return da.dot(Wx.T), da.dot(Wh.T), dprev_c, x.T.dot(da), prev_h.T.dot(da), da.sum(axis=0)


def lstm_columns(xs, W, b):
    """Gates on the stacked column [h; x], caches in a list of dicts; the last hidden state."""
    H = b.shape[0] // 4
    h = np.zeros((H, 1))
    c = np.zeros((H, 1))
    for x in xs:
        h, c, _ = _column_step(x, h, c, W, b)
    return h


def _column_step(x, h, c, W, b):
    z = np.vstack((h, x.reshape(-1, 1)))
    f, i, g, o = np.split(W @ z + b, 4)
    f, i, g, o = sigmoid(f), sigmoid(i), np.tanh(g), sigmoid(o)
    new = f * c + i * g
    return o * np.tanh(new), new, dict(z=z, f=f, i=i, g=g, o=o, c=new, before=c)


def lstm_columns_backward(dh, xs, W, b):
    H = b.shape[0] // 4
    h, c, caches = np.zeros((H, 1)), np.zeros((H, 1)), []
    for x in xs:
        h, c, kept = _column_step(x, h, c, W, b)
        caches.append(kept)
    dxs, dW, db, dc = np.zeros_like(xs), np.zeros_like(W), np.zeros_like(b), np.zeros((H, 1))
    for t in range(len(xs) - 1, -1, -1):
        k = caches[t]
        tanh_c = np.tanh(k["c"])
        dc = dc + dh * k["o"] * (1 - tanh_c * tanh_c)
        dgates = np.concatenate(
            [
                dc * k["before"] * k["f"] * (1 - k["f"]),
                dc * k["g"] * k["i"] * (1 - k["i"]),
                dc * k["i"] * (1 - k["g"] ** 2),
                dh * tanh_c * k["o"] * (1 - k["o"]),
            ],
            axis=0,
        )
        dW += dgates @ k["z"].T
        db += dgates
        dz = W.T @ dgates
        dh, dxs[t] = dz[:H], dz[H:].ravel()
        dc = dc * k["f"]
    return dxs, dW, db


def gru_cell(x, h, Wz, Wr, Wn, Uz, Ur, Un):
    z = sigmoid(x @ Wz + h @ Uz)
    r = sigmoid(x @ Wr + h @ Ur)
    n = np.tanh(x @ Wn + (r * h) @ Un)
    return (1 - z) * n + z * h


def gru_cell_backward(dout, x, h, Wz, Wr, Wn, Uz, Ur, Un):
    z = sigmoid(x @ Wz + h @ Uz)
    r = sigmoid(x @ Wr + h @ Ur)
    n = np.tanh(x @ Wn + (r * h) @ Un)
    dn = dout * (1 - z) * (1 - n**2)
    dz = dout * (h - n) * z * (1 - z)
    drh = dn @ Un.T
    dr = drh * h * r * (1 - r)
    dx = dn @ Wn.T + dz @ Wz.T + dr @ Wr.T
    dh = dout * z + drh * r + dz @ Uz.T + dr @ Ur.T
    return dx, dh, x.T @ dz, x.T @ dr, x.T @ dn, h.T @ dz, h.T @ dr, (r * h).T @ dn


def positional(x, table):
    """Adds the first rows of a table of positions."""
    return x + table[: x.shape[1]]


def positional_backward(dout, x, table):
    dtable = np.zeros_like(table)
    dtable[: x.shape[1]] = dout.sum(axis=0)
    return dout, dtable


def differences(x):
    return x[:, 1:] - x[:, :-1]


def differences_backward(dout, x):
    dx = np.zeros_like(x)
    dx[:, 1:] += dout
    dx[:, :-1] -= dout
    return dx


def glu(x):
    a, b = np.split(x, 2, axis=-1)
    return a * sigmoid(b)


def glu_backward(dout, x):
    a, b = np.split(x, 2, axis=-1)
    s = sigmoid(b)
    return np.concatenate([dout * s, dout * a * s * (1 - s)], axis=-1)


def skip_connection(x, y, W):
    return np.concatenate([x, y], axis=1) @ W


def skip_connection_backward(dout, x, y, W):
    d = dout @ W.T
    dW = np.concatenate([x, y], axis=1).T @ dout
    return d[:, : x.shape[1]], d[:, x.shape[1] :], dW


def running_mean(x):
    return np.cumsum(x, axis=1) / np.arange(1, x.shape[1] + 1)


def running_mean_backward(dout, x):
    scaled = dout / np.arange(1, x.shape[1] + 1)
    return np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]


ROWS = [
    ("attention", attention_backward, attention, {"Q": (2, 3, 4), "K": (2, 5, 4), "V": (2, 5, 2)}, "all",
     {"not scaled": ("dQ = dS @ K * scale", "dQ = dS @ K"),
      "softmax diagonal": ("(dA - np.sum(dA * A, axis=-1, keepdims=True))", "dA * (1 - A)")}),
    ("causal attention", causal_attention_backward, causal_attention, {"q": (3, 2), "k": (3, 2), "v": (3, 2)}, "all",
     {"dk": ("ds.T @ q, dv", "ds @ q, dv")}),
    ("attention masked by −inf", masked_attention_backward, masked_attention,
     {"q": (3, 2), "k": (4, 2), "v": (4, 2), "keep": ("mask", (3, 4))}, "exact",
     {"dv": ("ds.T @ q, p.T @ do", "ds.T @ q, 2 * p.T @ do")}),
    ("class MultiHeadAttention", MultiHeadAttention, ("Wq", (4, 4), "Wk", (4, 4), "Wv", (4, 4), "Wo", (4, 4)),
     {"x": (2, 3, 4)}, "all",
     {"scale": ("keepdims=True)) * self.scale\n", "keepdims=True))\n"),
      "path": ("dq @ self.Wq.T + dk @ self.Wk.T + dv @ self.Wv.T", "dq @ self.Wq.T + dv @ self.Wv.T")}),
    ("embedding", embedding_backward, embedding, {"W": (5, 2), "idx": ("labels", (4,), 5)}, "all",
     {"assigned": ("np.add.at(dW, idx, dout)", "dW[idx] += dout")}),
    ("class Embedding", Embedding, ("W", (4, 2)), {"idx": ("labels", (5,), 4)}, "shapes",
     {"assigned": ("dW[word] += dout[k]", "dW[word] = dout[k]")}),
    ("recurrent", rnn_backward, rnn_forward,
     {"x": (2, 3, 2), "h0": (2, 3), "Wx": (2, 3), "Wh": (3, 3), "b": (3,)}, "axes",
     {"no carry": ("(dh[:, t, :] + dprev) *", "dh[:, t, :] *"),
      "last step": ("dWx += x[:, t, :].T.dot(da)", "dWx = x[:, t, :].T.dot(da)")}),
    ("LSTM cell", lstm_cell_backward, lstm_cell,
     {"x": (2, 3), "prev_h": (2, 2), "prev_c": (2, 2), "Wx": (3, 8), "Wh": (2, 8), "b": (8,)}, "all",
     {"f and c": ("dc * prev_c * f * (1 - f)", "dc * c * f * (1 - f)"),
      "gates swapped": ("do * o * (1 - o), dc * i * (1 - g**2)", "dc * i * (1 - g**2), do * o * (1 - o)")}),
    ("LSTM in columns", lstm_columns_backward, lstm_columns, {"xs": (2, 2), "W": (8, 4), "b": (8, 1)}, "shapes",
     {"no forget": ("dc = dc * k[\"f\"]", "dc = dc * k[\"i\"]"),
      "c not carried": ("dc = dc + dh * k[\"o\"]", "dc = dh * k[\"o\"]")}),
    ("GRU cell", gru_cell_backward, gru_cell,
     {"x": (2, 3), "h": (2, 2), "Wz": (3, 2), "Wr": (3, 2), "Wn": (3, 2), "Uz": (2, 2), "Ur": (2, 2), "Un": (2, 2)},
     "all", {"r": ("(r * h).T @ dn", "h.T @ dn"), "path": ("dout * z + drh * r + dz", "dout * z + dz")}),
    ("positions", positional_backward, positional, {"x": (2, 3, 2), "table": (5, 2)}, "all",
     {"mean": ("dout.sum(axis=0)", "dout.mean(axis=0)")}),
    ("differences", differences_backward, differences, {"x": (2, 5)}, "all",
     {"overlap": ("dx[:, :-1] -= dout", "dx[:, :-1] = -dout")}),
    ("gated linear unit", glu_backward, glu, {"x": (3, 4)}, "all",
     {"order": ("[dout * s, dout * a * s * (1 - s)]", "[dout * a * s * (1 - s), dout * s]")}),
    ("concatenated inputs", skip_connection_backward, skip_connection, {"x": (3, 2), "y": (3, 4), "W": (6, 2)}, "all",
     {"halves": ("d[:, : x.shape[1]], d[:, x.shape[1] :]", "d[:, -x.shape[1] :], d[:, : y.shape[1]]")}),
    ("running mean", running_mean_backward, running_mean, {"x": (2, 4)}, "axes",
     {"not turned": ("np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]", "np.cumsum(scaled, axis=1)")}),
]  # fmt: skip
