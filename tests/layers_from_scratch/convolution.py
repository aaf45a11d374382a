"""Convolution and pooling: loops, slices, im2col by loops, by indices and by strides, np.add.at, masks."""

import numpy as np


def conv_forward_naive(x, w, b, stride=1, pad=1):
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant", constant_values=0)
    H_out = 1 + (H + 2 * pad - HH) // stride
    W_out = 1 + (W + 2 * pad - WW) // stride
    out = np.zeros((N, F, H_out, W_out))
    for n in range(N):
        for f in range(F):
            for i in range(H_out):
                for j in range(W_out):
                    patch = x_pad[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
                    out[n, f, i, j] = np.sum(patch * w[f]) + b[f]
    return out, (x, w, b, stride, pad)


def conv_backward_naive(dout, cache):
    x, w, b, stride, pad = cache
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    x_pad = np.pad(x, ((0,), (0,), (pad,), (pad,)), "constant")
    dx_pad = np.zeros_like(x_pad)
    dw = np.zeros_like(w)
    db = np.zeros_like(b)
    for n in range(N):
        for f in range(F):
            db[f] += np.sum(dout[n, f])
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    rows, cols = slice(i * stride, i * stride + HH), slice(j * stride, j * stride + WW)
                    dw[f] += x_pad[n, :, rows, cols] * dout[n, f, i, j]
                    dx_pad[n, :, rows, cols] += w[f] * dout[n, f, i, j]
    dx = dx_pad[:, :, pad:-pad, pad:-pad]
    return dx, dw, db


def im2col(images, filter_h, filter_w, stride=1, pad=0):
    N, C, H, W = images.shape
    out_h = (H + 2 * pad - filter_h) // stride + 1
    out_w = (W + 2 * pad - filter_w) // stride + 1
    img = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    col = np.zeros((N, C, filter_h, filter_w, out_h, out_w))
    for y in range(filter_h):
        y_max = y + stride * out_h
        for x in range(filter_w):
            x_max = x + stride * out_w
            col[:, :, y, x, :, :] = img[:, :, y:y_max:stride, x:x_max:stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * out_h * out_w, -1)


def col2im(col, shape, filter_h, filter_w, stride=1, pad=0):
    N, C, H, W = shape
    out_h = (H + 2 * pad - filter_h) // stride + 1
    out_w = (W + 2 * pad - filter_w) // stride + 1
    col = col.reshape(N, out_h, out_w, C, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((N, C, H + 2 * pad + stride - 1, W + 2 * pad + stride - 1))
    for y in range(filter_h):
        y_max = y + stride * out_h
        for x in range(filter_w):
            x_max = x + stride * out_w
            img[:, :, y:y_max:stride, x:x_max:stride] += col[:, :, y, x, :, :]
    return img[:, :, pad : H + pad, pad : W + pad]


class Convolution:
    def __init__(self, W, b, stride=1, pad=1):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        FN, C, FH, FW = self.W.shape
        N, C, H, W = x.shape
        out_h = int(1 + (H + 2 * self.pad - FH) / self.stride)
        out_w = int(1 + (W + 2 * self.pad - FW) / self.stride)
        col = im2col(x, FH, FW, self.stride, self.pad)
        col_W = self.W.reshape(FN, -1).T
        out = np.dot(col, col_W) + self.b
        self.x, self.col, self.col_W = x, col, col_W
        return out.reshape(N, out_h, out_w, -1).transpose(0, 3, 1, 2)

    def backward(self, dout):
        FN, C, FH, FW = self.W.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
        self.db = np.sum(dout, axis=0)
        dW = np.dot(self.col.T, dout)
        self.dW = dW.transpose(1, 0).reshape(FN, C, FH, FW)
        dcol = np.dot(dout, self.col_W.T)
        return col2im(dcol, self.x.shape, FH, FW, self.stride, self.pad)


def _indices(shape, k, stride):
    N, C, H, W = shape
    out_h, out_w = (H - k) // stride + 1, (W - k) // stride + 1
    i0 = np.tile(np.repeat(np.arange(k), k), C)
    i1 = stride * np.repeat(np.arange(out_h), out_w)
    j0 = np.tile(np.arange(k), k * C)
    j1 = stride * np.tile(np.arange(out_w), out_h)
    i = i0.reshape(-1, 1) + i1.reshape(1, -1)
    j = j0.reshape(-1, 1) + j1.reshape(1, -1)
    c = np.repeat(np.arange(C), k * k).reshape(-1, 1)
    return c, i, j, out_h, out_w


def conv_indices(x, w, stride=1):
    c, i, j, out_h, out_w = _indices(x.shape, w.shape[2], stride)
    cols = x[:, c, i, j].transpose(1, 2, 0).reshape(w[0].size, -1)
    res = w.reshape(w.shape[0], -1) @ cols
    return res.reshape(w.shape[0], out_h, out_w, x.shape[0]).transpose(3, 0, 1, 2)


def conv_indices_backward(dout, x, w, stride=1):
    c, i, j, _, _ = _indices(x.shape, w.shape[2], stride)
    cols = x[:, c, i, j].transpose(1, 2, 0).reshape(w[0].size, -1)
    flat = dout.transpose(1, 2, 3, 0).reshape(w.shape[0], -1)
    dw = (flat @ cols.T).reshape(w.shape)
    dcols = w.reshape(w.shape[0], -1).T @ flat
    dx = np.zeros(x.shape, dtype=x.dtype)
    np.add.at(dx, (slice(None), c, i, j), dcols.reshape(w[0].size, -1, x.shape[0]).transpose(2, 0, 1))
    return dx, dw


def conv_strides(x, w):
    """Windows by as_strided."""
    n, h, v = x.shape
    k = w.shape[0]
    s = x.strides
    windows = np.lib.stride_tricks.as_strided(
        x, shape=(n, h - k + 1, v - k + 1, k, k), strides=(s[0], s[1], s[2], s[1], s[2])
    )
    return np.einsum("nhwij,ij->nhw", windows, w)


def conv_strides_backward(dout, x, w):
    k = w.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    dw = np.einsum("nhwij,nhw->ij", windows, dout)
    padded = np.pad(dout, ((0, 0), (k - 1, k - 1), (k - 1, k - 1)))
    back = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    dx = np.tensordot(back, w[::-1, ::-1], axes=([3, 4], [0, 1]))
    return dx, dw


def max_pool_forward(x, size=2):
    """Loops over the places of the windows; argmax kept."""
    N, C, H, W = x.shape
    out = np.empty((N, C, H // size, W // size))
    for i in range(H // size):
        for j in range(W // size):
            out[:, :, i, j] = np.max(x[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size], axis=(2, 3))
    return out, x


def max_pool_backward(dout, cache, size=2):
    x = cache
    N, C, H, W = x.shape
    dx = np.zeros(x.shape)
    for n in range(N):
        for c in range(C):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    window = x[n, c, i * size : (i + 1) * size, j * size : (j + 1) * size]
                    a, b = np.unravel_index(window.argmax(), window.shape)
                    dx[n, c, i * size + a, j * size + b] = dout[n, c, i, j]
    return dx


class Pooling:
    """im2col with argmax."""

    def __init__(self, size=2):
        self.size = size

    def forward(self, x):
        N, C, H, W = x.shape
        col = im2col(x, self.size, self.size, self.size, 0).reshape(-1, self.size * self.size)
        self.arg_max = np.argmax(col, axis=1)
        self.x = x
        return np.max(col, axis=1).reshape(N, H // self.size, W // self.size, C).transpose(0, 3, 1, 2)

    def backward(self, dout):
        dout = dout.transpose(0, 2, 3, 1)
        area = self.size * self.size
        dmax = np.zeros((dout.size, area))
        dmax[np.arange(self.arg_max.size), self.arg_max.flatten()] = dout.flatten()
        dmax = dmax.reshape(dout.shape + (area,))
        dcol = dmax.reshape(dmax.shape[0] * dmax.shape[1] * dmax.shape[2], -1)
        return col2im(dcol, self.x.shape, self.size, self.size, self.size, 0)


def average_pool(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def average_pool_backward(dout, x):
    return np.repeat(np.repeat(dout, 2, axis=1), 2, axis=2) / 4


def upsample(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsample_backward(dout, x):
    n, h, w = x.shape
    return dout.reshape(n, h, 2, w, 2).sum(axis=(2, 4))


def global_average_pool(x):
    return x.mean(axis=(2, 3))


def global_average_pool_backward(dout, x):
    N, C, H, W = x.shape
    return np.ones_like(x) * dout[:, :, None, None] / (H * W)


def causal_conv1d(x, w):
    """(N, T) with K taps, padded on the left."""
    K = w.shape[0]
    padded = np.pad(x, ((0, 0), (K - 1, 0)))
    return sum(padded[:, k : k + x.shape[1]] * w[k] for k in range(K))


def causal_conv1d_backward(dout, x, w):
    K, T = w.shape[0], x.shape[1]
    padded = np.pad(x, ((0, 0), (K - 1, 0)))
    dpadded = np.zeros_like(padded)
    dw = np.zeros_like(w)
    for k in range(K):
        dpadded[:, k : k + T] += dout * w[k]
        dw[k] = np.sum(padded[:, k : k + T] * dout)
    return dpadded[:, K - 1 :], dw


def pointwise_conv(x, w, b):
    return np.tensordot(w, x, axes=(1, 1)).transpose(1, 0, 2, 3) + b[None, :, None, None]


def pointwise_conv_backward(dout, x, w, b):
    dx = np.einsum("nohw,oc->nchw", dout, w)
    dw = np.einsum("nohw,nchw->oc", dout, x)
    return dx, dw, dout.sum((0, 2, 3))


ROWS = [
    ("naive convolution", conv_backward_naive, conv_forward_naive,
     {"x": (2, 1, 3, 3), "w": (2, 1, 3, 3), "b": (2,)}, "shapes",
     {"crop": ("dx_pad[:, :, pad:-pad, pad:-pad]", "dx_pad[:, :, : x.shape[2], : x.shape[3]]"),
      "db of the last": ("db[f] += np.sum(dout[n, f])", "db[f] = np.sum(dout[n, f])")}),
    ("class Convolution", Convolution, ("W", (2, 2, 2, 2), "b", (2,)), {"x": (1, 2, 3, 3)}, "axes",
     {"accumulates not": ("stride, x:x_max:stride] += col", "stride, x:x_max:stride] = col"),
      "transpose": ("dout.transpose(0, 2, 3, 1).reshape(-1, FN)", "dout.transpose(0, 3, 2, 1).reshape(-1, FN)")}),
    ("convolution by indices", conv_indices_backward, conv_indices, {"x": (2, 2, 3, 3), "w": (2, 2, 2, 2)}, "shapes",
     {"assigned, not added": ("np.add.at(dx, (slice(None), c, i, j), dcols.reshape(w[0].size, -1, x.shape[0])"
                              ".transpose(2, 0, 1))",
                              "dx[:, c, i, j] += dcols.reshape(w[0].size, -1, x.shape[0]).transpose(2, 0, 1)")}),
    ("convolution by strides", conv_strides_backward, conv_strides, {"x": (2, 4, 4), "w": (2, 2)}, "shapes",
     {"kernel not turned": ("w[::-1, ::-1]", "w")}),
    ("max pooling by loops", max_pool_backward, max_pool_forward, {"x": (2, 1, 4, 4)}, "shapes",
     {"swapped": ("j * size + b] = dout", "j * size + a] = dout")}),
    ("class Pooling", Pooling, (), {"x": (1, 2, 4, 4)}, "shapes",
     {"argmin": ("np.argmax(col, axis=1)", "np.argmin(col, axis=1)")}),
    ("average pooling by slices", average_pool_backward, average_pool, {"x": (2, 4, 6)}, "all",
     {"not divided": ("axis=2) / 4", "axis=2)")}),
    ("upsampling", upsample_backward, upsample, {"x": (2, 2, 3)}, "all",
     {"mean": (".sum(axis=(2, 4))", ".mean(axis=(2, 4))")}),
    ("global average pooling", global_average_pool_backward, global_average_pool, {"x": (2, 3, 2, 4)}, "all",
     {"wrong area": ("/ (H * W)", "/ (H * H)")}),
    ("causal convolution", causal_conv1d_backward, causal_conv1d, {"x": (2, 5), "w": (3,)}, "axes",
     {"crop": ("dpadded[:, K - 1 :]", "dpadded[:, : T]")}),
    ("1×1 convolution", pointwise_conv_backward, pointwise_conv, {"x": (2, 3, 2, 2), "w": (4, 3), "b": (4,)}, "all",
     {"bias": ("dout.sum((0, 2, 3))", "dout.mean((0, 2, 3))")}),
]  # fmt: skip
