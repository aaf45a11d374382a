"""Two convolutions with ReLU, a dense softmax layer: hand-coded backprop by column matrices and by loops."""

import numpy as np


def im2col(x, f):
    n, c, h, w = x.shape
    oh, ow = h - f + 1, w - f + 1
    cols = np.zeros((n, c, f, f, oh, ow))
    for i in range(f):
        for j in range(f):
            cols[:, :, i, j] = x[:, :, i : i + oh, j : j + ow]
    return cols.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(cols, shape, f):
    n, c, h, w = shape
    oh, ow = h - f + 1, w - f + 1
    cols = cols.reshape(n, oh, ow, c, f, f).transpose(0, 3, 4, 5, 1, 2)
    x = np.zeros(shape)
    for i in range(f):
        for j in range(f):
            x[:, :, i : i + oh, j : j + ow] += cols[:, :, i, j]
    return x


def conv_im2col(x, W, b):
    o, _c, f, _ = W.shape
    n, _, h, w = x.shape
    col = im2col(x, f)
    y = col @ W.reshape(o, -1).T + b
    return y.reshape(n, h - f + 1, w - f + 1, o).transpose(0, 3, 1, 2)


def conv_im2col_back(dy, x, W):
    o, _c, f, _ = W.shape
    col = im2col(x, f)
    d = dy.transpose(0, 2, 3, 1).reshape(-1, o)
    return col2im(d @ W.reshape(o, -1), x.shape, f), (d.T @ col).reshape(W.shape), d.sum(0)


def conv_loops(x, W, b):
    n, _c, h, w = x.shape
    o, _, kh, kw = W.shape
    out = np.zeros((n, o, h - kh + 1, w - kw + 1))
    for m in range(n):
        for k in range(o):
            for i in range(h - kh + 1):
                for j in range(w - kw + 1):
                    out[m, k, i, j] = np.sum(x[m, :, i : i + kh, j : j + kw] * W[k]) + b[k]
    return out


def conv_loops_back(dy, x, W):
    n, _c, h, w = x.shape
    o, _, kh, kw = W.shape
    dx, dW, db = np.zeros_like(x), np.zeros_like(W), np.zeros(o)
    for m in range(n):
        for k in range(o):
            for i in range(h - kh + 1):
                for j in range(w - kw + 1):
                    dW[k] += dy[m, k, i, j] * x[m, :, i : i + kh, j : j + kw]
                    dx[m, :, i : i + kh, j : j + kw] += dy[m, k, i, j] * W[k]
                    db[k] += dy[m, k, i, j]
    return dx, dW, db


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def forward_im2col(X, W1, b1, W2, b2, W3, b3, Y):
    a1 = np.maximum(conv_im2col(X, W1, b1), 0)
    a2 = np.maximum(conv_im2col(a1, W2, b2), 0)
    p = softmax(a2.reshape(len(X), -1) @ W3 + b3)
    return -np.sum(Y * np.log(p)) / len(X)


def backward_im2col(X, W1, b1, W2, b2, W3, b3, Y):
    z1 = conv_im2col(X, W1, b1)
    a1 = np.maximum(z1, 0)
    z2 = conv_im2col(a1, W2, b2)
    a2 = np.maximum(z2, 0)
    flat = a2.reshape(len(X), -1)
    d = (softmax(flat @ W3 + b3) - Y) / len(X)
    dW3, db3 = flat.T @ d, d.sum(0)
    dz2 = (d @ W3.T).reshape(z2.shape) * (z2 > 0)
    da1, dW2, db2 = conv_im2col_back(dz2, a1, W2)
    dz1 = da1 * (z1 > 0)
    _, dW1, db1 = conv_im2col_back(dz1, X, W1)
    return dW1, db1, dW2, db2, dW3, db3


def forward_loops(X, W1, b1, W2, b2, W3, b3, Y):
    a1 = np.maximum(conv_loops(X, W1, b1), 0)
    a2 = np.maximum(conv_loops(a1, W2, b2), 0)
    p = softmax(a2.reshape(len(X), -1) @ W3 + b3)
    return -np.sum(Y * np.log(p)) / len(X)


def backward_loops(X, W1, b1, W2, b2, W3, b3, Y):
    z1 = conv_loops(X, W1, b1)
    a1 = np.maximum(z1, 0)
    z2 = conv_loops(a1, W2, b2)
    a2 = np.maximum(z2, 0)
    flat = a2.reshape(len(X), -1)
    d = (softmax(flat @ W3 + b3) - Y) / len(X)
    dW3, db3 = flat.T @ d, d.sum(0)
    dz2 = (d @ W3.T).reshape(z2.shape) * (z2 > 0)
    da1, dW2, db2 = conv_loops_back(dz2, a1, W2)
    dz1 = da1 * (z1 > 0)
    _, dW1, db1 = conv_loops_back(dz1, X, W1)
    return dW1, db1, dW2, db2, dW3, db3
