"""Batch, layer, group and RMS normalisation, dropout with a given mask, activations: staged and compact forms."""

import numpy as np


def batchnorm_staged(x, gamma, beta, eps=1e-5):
    N, D = x.shape
    mu = 1.0 / N * np.sum(x, axis=0)
    xmu = x - mu
    sq = xmu**2
    var = 1.0 / N * np.sum(sq, axis=0)
    sqrtvar = np.sqrt(var + eps)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar
    gammax = gamma * xhat
    out = gammax + beta
    cache = (xhat, gamma, xmu, ivar, sqrtvar, var, eps)
    return out, cache


def batchnorm_staged_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
    N, D = dout.shape
    dbeta = np.sum(dout, axis=0)
    dgammax = dout
    dgamma = np.sum(dgammax * xhat, axis=0)
    dxhat = dgammax * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / (sqrtvar**2) * divar
    dvar = 0.5 * 1.0 / np.sqrt(var + eps) * dsqrtvar
    dsq = 1.0 / N * np.ones((N, D)) * dvar
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -1 * np.sum(dxmu1 + dxmu2, axis=0)
    dx2 = 1.0 / N * np.ones((N, D)) * dmu
    dx = dx1 + dx2
    return dx, dgamma, dbeta


def batchnorm_compact(x, gamma, beta, eps=1e-5):
    mean, var = np.mean(x, axis=0), np.var(x, axis=0)
    return gamma * ((x - mean) / np.sqrt(var + eps)) + beta


def batchnorm_compact_backward(dout, x, gamma, beta, eps=1e-5):
    m = dout.shape[0]
    std = np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) / std
    dgamma, dbeta = (dout * x_hat).sum(0), dout.sum(0)
    dx = gamma / (m * std) * (m * dout - dbeta - x_hat * dgamma)
    return dx, dgamma, dbeta


class BatchNorm2d:
    def __init__(self, gamma, beta, eps=1e-5):
        self.gamma, self.beta, self.eps = gamma, beta, eps

    def forward(self, x):
        self.mean = x.mean(axis=(0, 2, 3), keepdims=True)
        self.var = x.var(axis=(0, 2, 3), keepdims=True)
        self.x_hat = (x - self.mean) / np.sqrt(self.var + self.eps)
        return self.gamma.reshape(1, -1, 1, 1) * self.x_hat + self.beta[np.newaxis, :, np.newaxis, np.newaxis]

    def backward(self, dout):
        m = dout.shape[0] * dout.shape[2] * dout.shape[3]
        self.dgamma = np.sum(dout * self.x_hat, axis=(0, 2, 3))
        self.dbeta = np.sum(dout, axis=(0, 2, 3))
        dxhat = dout * self.gamma.reshape(1, -1, 1, 1)
        total = dxhat.sum(axis=(0, 2, 3), keepdims=True)
        along = (dxhat * self.x_hat).sum(axis=(0, 2, 3), keepdims=True)
        return (dxhat - total / m - self.x_hat * along / m) / np.sqrt(self.var + self.eps)


def batchnorm_nhwc(x, gamma, beta, eps=1e-5):
    N, H, W, C = x.shape
    flat = x.reshape(-1, C)
    out = batchnorm_compact(flat, gamma, beta, eps)
    return out.reshape(N, H, W, C)


def batchnorm_nhwc_backward(dout, x, gamma, beta, eps=1e-5):
    C = x.shape[-1]
    dx, dgamma, dbeta = batchnorm_compact_backward(dout.reshape(-1, C), x.reshape(-1, C), gamma, beta, eps)
    return dx.reshape(x.shape), dgamma, dbeta


def layernorm(x, gamma, beta, eps=1e-5):
    mean = np.mean(x, axis=-1, keepdims=True)
    xc = x - mean
    std = np.sqrt(np.mean(xc**2, axis=-1, keepdims=True) + eps)
    xn = xc / std
    return gamma * xn + beta, (xn, xc, std, gamma)


def layernorm_backward(dout, cache):
    xn, xc, std, gamma = cache
    dbeta = dout.sum(axis=tuple(range(dout.ndim - 1)))
    dgamma = (xn * dout).sum(axis=tuple(range(dout.ndim - 1)))
    dxn = gamma * dout
    dxc = dxn / std
    dstd = -np.sum((dxn * xc) / (std * std), axis=-1, keepdims=True)
    dvar = 0.5 * dstd / std
    dxc += (2.0 / dout.shape[-1]) * xc * dvar
    dmu = np.sum(dxc, axis=-1, keepdims=True)
    dx = dxc - dmu / dout.shape[-1]
    return dx, dgamma, dbeta


def rmsnorm(x, g, eps=1e-6):
    return x * (1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)) * g


def rmsnorm_backward(dout, x, g, eps=1e-6):
    r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    dg = (dout * x * r).sum(axis=0)
    t = dout * g
    dx = r * t - x * r**3 * (t * x).mean(axis=-1, keepdims=True)
    return dx, dg


def groupnorm(x, gamma, beta, G=2, eps=1e-5):
    N, C, H, W = x.shape
    grouped = x.reshape((N, G, C // G, H, W))
    mean = grouped.mean(axis=(2, 3, 4), keepdims=True)
    var = grouped.var(axis=(2, 3, 4), keepdims=True)
    xhat = ((grouped - mean) / np.sqrt(var + eps)).reshape(x.shape)
    return xhat * gamma + beta, (xhat, var, gamma, G, eps)


def groupnorm_backward(dout, cache):
    xhat, var, gamma, G, eps = cache
    N, C, H, W = dout.shape
    dgamma = np.sum(dout * xhat, axis=(0, 2, 3), keepdims=True)
    dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)
    d = (dout * gamma).reshape(N, G, C // G, H, W)
    h = xhat.reshape(N, G, C // G, H, W)
    axes = (2, 3, 4)
    dx = d - d.mean(axis=axes, keepdims=True) - h * np.mean(d * h, axis=axes, keepdims=True)
    return (dx / np.sqrt(var + eps)).reshape(N, C, H, W), dgamma, dbeta


def dropout(x, mask, p=0.25):
    return x * mask / (1 - p)


def dropout_backward(dout, x, mask, p=0.25):
    dx = dout.copy()
    dx *= mask
    dx /= 1 - p
    return dx


class LeakyReLU:
    def __init__(self, slope=0.1):
        self.slope = slope

    def forward(self, x):
        self.mask = x < 0
        out = x.copy()
        out[self.mask] *= self.slope
        return out

    def backward(self, dout):
        dx = np.ones_like(dout)
        dx[self.mask] = self.slope
        return dx * dout


def swish(x, beta=1.5):
    return x / (1 + np.exp(-beta * x))


def swish_backward(dout, x, beta=1.5):
    s = 1 / (1 + np.exp(-beta * x))
    return dout * (s + beta * x * s * (1 - s))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * np.power(x, 3))))


def gelu_tanh_backward(dout, x):
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return dout * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2))


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * (np.exp(x) - 1))


def elu_backward(dout, x, alpha=1.0):
    return dout * np.where(x > 0, 1, alpha * np.exp(x))


def softplus(x):
    return np.logaddexp(0, x)


def softplus_backward(dout, x):
    return dout * np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def hard_tanh(x):
    return np.clip(x, -1, 1)


def hard_tanh_backward(dout, x):
    return dout * ((x > -1) & (x < 1))


def softmax_rows(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_rows_jacobian(dout, x):
    """The Jacobian of each row, by a loop."""
    out = np.empty_like(dout)
    for k, (row, d) in enumerate(zip(softmax_rows(x), dout)):
        row = row.reshape(-1, 1)
        jacobian = np.diagflat(row) - np.dot(row, row.T)
        out[k] = np.dot(jacobian, d)
    return out


ROWS = [
    ("batch norm, staged", batchnorm_staged_backward, batchnorm_staged, {"x": (4, 3), "gamma": (3,), "beta": (3,)},
     "all",
     {"dvar": ("dvar = 0.5 * 1.0", "dvar = 1.0"),
      "dsq over D": ("dsq = 1.0 / N", "dsq = 1.0 / D"),
      "dmu dropped": ("dx = dx1 + dx2", "dx = dx1")}),
    ("batch norm, compact", batchnorm_compact_backward, batchnorm_compact,
     {"x": (4, 3), "gamma": (3,), "beta": (3,)}, "all",
     {"gamma twice": ("- x_hat * dgamma)", "- x_hat * dgamma * gamma)")}),
    ("class BatchNorm2d", BatchNorm2d, ("gamma", (2,), "beta", (2,)), {"x": (2, 2, 2, 3)}, "all",
     {"m of the batch": ("m = dout.shape[0] * dout.shape[2] * dout.shape[3]", "m = dout.shape[0]")}),
    ("batch norm, channels last", batchnorm_nhwc_backward, batchnorm_nhwc,
     {"x": (2, 2, 3, 2), "gamma": (2,), "beta": (2,)}, "all",
     {"mean twice": ("- dbeta - x_hat", "- 2 * dbeta - x_hat")}),
    ("layer norm", layernorm_backward, layernorm, {"x": (3, 4), "gamma": (4,), "beta": (4,)}, "all",
     {"dmu": ("dx = dxc - dmu / dout.shape[-1]", "dx = dxc - dmu"),
      "dstd positive": ("dstd = -np.sum", "dstd = np.sum")}),
    ("layer norm of three axes", layernorm_backward, layernorm, {"x": (2, 3, 4), "gamma": (4,), "beta": (4,)}, "all",
     {"axes": ("dbeta = dout.sum(axis=tuple(range(dout.ndim - 1)))", "dbeta = dout.mean(axis=(0, 1))")}),
    ("RMS norm", rmsnorm_backward, rmsnorm, {"x": (3, 4), "g": (4,)}, "all",
     {"power": ("r**3", "r**2")}),
    ("group norm", groupnorm_backward, groupnorm, {"x": (2, 4, 2, 2), "gamma": (1, 4, 1, 1), "beta": (1, 4, 1, 1)},
     "all", {"axes": ("axes = (2, 3, 4)", "axes = (3, 4)")}),
    ("dropout with a mask", dropout_backward, dropout, {"x": (3, 4), "mask": ("binary", (3, 4))}, "all",
     {"not scaled": ("    dx /= 1 - p\n", "")}),
    ("class LeakyReLU", LeakyReLU, (), {"x": (3, 4)}, "all",
     {"slope of the other side": ("dx[self.mask] = self.slope", "dx[~self.mask] = self.slope")}),
    ("swish", swish_backward, swish, {"x": (5,)}, "all", {"beta": ("s + beta * x * s", "s + x * s")}),
    ("GELU by tanh", gelu_tanh_backward, gelu_tanh, {"x": (5,)}, "all", {"3": ("1 + 3 * 0.044715", "1 + 0.044715")}),
    ("ELU", elu_backward, elu, {"x": (6,)}, "all", {"alpha": ("1, alpha * np.exp(x))", "1, np.exp(x))")}),
    ("softplus", softplus_backward, softplus, {"x": (6,)}, "all",
     {"sign": ("np.where(x >= 0, 1 / (1", "np.where(x <= 0, 1 / (1")}),
    ("hard tanh", hard_tanh_backward, hard_tanh, {"x": (6,)}, "all",
     {"or": ("(x > -1) & (x < 1)", "(x > -1) | (x < 1)")}),
    ("softmax by Jacobians", softmax_rows_jacobian, softmax_rows, {"x": (3, 4)}, "axes",
     {"diagonal only": ("np.diagflat(row) - np.dot(row, row.T)", "np.diagflat(row * (1 - row))")}),
]  # fmt: skip
