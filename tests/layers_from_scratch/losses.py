"""Losses and their gradients: labels, one-hot rows, margins, pairs, triplets."""

import numpy as np
from scipy.special import expit, log_softmax, xlogy


def svm_loss(x, y, delta=1.0):
    N = x.shape[0]
    correct = x[np.arange(N), y]
    margins = np.maximum(0, x - correct[:, np.newaxis] + delta)
    margins[np.arange(N), y] = 0
    return np.sum(margins) / N


def svm_loss_backward(x, y, delta=1.0):
    N = x.shape[0]
    correct = x[np.arange(N), y]
    margins = np.maximum(0, x - correct[:, np.newaxis] + delta)
    margins[np.arange(N), y] = 0
    num_pos = np.sum(margins > 0, axis=1)
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[np.arange(N), y] -= num_pos
    dx /= N
    return dx


def softmax_loss(x, y):
    shifted = x - np.max(x, axis=1, keepdims=True)
    Z = np.sum(np.exp(shifted), axis=1, keepdims=True)
    log_probs = shifted - np.log(Z)
    N = x.shape[0]
    return -np.sum(log_probs[np.arange(N), y]) / N


def softmax_loss_backward(x, y):
    probs = np.exp(x - np.max(x, axis=1, keepdims=True))
    probs /= np.sum(probs, axis=1, keepdims=True)
    N = x.shape[0]
    probs[np.arange(N), y] -= 1
    probs /= N
    return probs


def eye_loss(z, y):
    target = np.eye(z.shape[1])[y]
    return -np.mean(np.sum(target * log_softmax(z, axis=1), axis=1))


def eye_loss_backward(z, y):
    target = np.eye(z.shape[1])[y]
    return (np.exp(log_softmax(z, axis=1)) - target) / z.shape[0]


def one_hot_loss(z, t):
    p = np.exp(z) / np.exp(z).sum(axis=1)[:, None]
    return -np.sum(t * np.log(p)) / len(z)


def one_hot_loss_backward(z, t):
    p = np.exp(z) / np.exp(z).sum(axis=1)[:, None]
    return (p - t) / len(z)


def bce(y_pred, y_true):
    return -np.mean(y_true * np.log(y_pred) + (1 - y_true) * np.log(1 - y_pred))


def bce_backward(y_pred, y_true):
    return ((1 - y_true) / (1 - y_pred) - y_true / y_pred) / np.size(y_true)


def bce_logits(z, t):
    return np.mean(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))))


def bce_logits_backward(z, t):
    return (expit(z) - t) / z.size


def mse(y, t):
    return np.mean(np.square(y - t))


def mse_backward(y, t):
    return 2 * (y - t) / y.size


def huber(y, t, delta=1.5):
    r = np.abs(y - t)
    return np.where(r <= delta, 0.5 * r**2, delta * (r - 0.5 * delta)).sum()


def huber_backward(y, t, delta=1.5):
    r = y - t
    return np.where(np.abs(r) <= delta, r, delta * np.sign(r))


def focal(z, t, gamma=2.0):
    p = 1 / (1 + np.exp(-z))
    pt = t * p + (1 - t) * (1 - p)
    return -np.sum((1 - pt) ** gamma * np.log(pt))


def focal_backward(z, t, gamma=2.0):
    p = 1 / (1 + np.exp(-z))
    pt = t * p + (1 - t) * (1 - p)
    dpt = gamma * (1 - pt) ** (gamma - 1) * np.log(pt) - (1 - pt) ** gamma / pt
    return dpt * (2 * t - 1) * p * (1 - p)


def triplet(a, p, n, margin=1.0):
    pos = np.sum((a - p) ** 2, axis=1)
    neg = np.sum((a - n) ** 2, axis=1)
    return np.mean(np.maximum(pos - neg + margin, 0))


def triplet_backward(a, p, n, margin=1.0):
    active = (np.sum((a - p) ** 2, axis=1) - np.sum((a - n) ** 2, axis=1) + margin > 0)[:, None] / a.shape[0]
    return active * 2 * (n - p), active * -2 * (a - p), active * 2 * (a - n)


def kl(logits, q):
    logp = log_softmax(logits, axis=-1)
    return np.sum(xlogy(q, q) - q * logp) / logits.shape[0]


def kl_backward(logits, q):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return (p - q) / logits.shape[0]


def cosine(a, b):
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def cosine_backward(dout, a, b):
    na, nb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    c = np.sum(a * b, axis=1, keepdims=True) / (na * nb)
    d = dout.reshape(-1, 1)
    return d * (b / (na * nb) - c * a / na**2), d * (a / (na * nb) - c * b / nb**2)


def total_variation(x):
    return np.sum((x[1:, :] - x[:-1, :]) ** 2) + np.sum((x[:, 1:] - x[:, :-1]) ** 2)


def total_variation_backward(x):
    g = np.zeros_like(x)
    rows, cols = 2 * np.diff(x, axis=0), 2 * np.diff(x, axis=1)
    g[1:] += rows
    g[:-1] -= rows
    g[:, 1:] += cols
    g[:, :-1] -= cols
    return g


def vae_loss(mu, logvar, noise):
    z = mu + np.exp(0.5 * logvar) * noise
    return 0.5 * np.sum(np.exp(logvar) + mu**2 - 1 - logvar) + 0.5 * np.sum(z**2)


def vae_loss_backward(mu, logvar, noise):
    std = np.exp(logvar / 2)
    z = mu + std * noise
    return mu + z, 0.5 * (std**2 - 1) + 0.5 * z * std * noise


def contrastive(a, b, temperature=0.5):
    """InfoNCE: each row of a against all rows of b."""
    s = a @ b.T / temperature
    m = s.max(axis=1, keepdims=True)
    lse = m.squeeze(1) + np.log(np.sum(np.exp(s - m), axis=1))
    return np.mean(lse - np.diag(s))


def contrastive_backward(a, b, temperature=0.5):
    s = a @ b.T / temperature
    p = np.exp(s - s.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p -= np.eye(len(a))
    p /= len(a) * temperature
    return p @ b, p.T @ a


ROWS = [
    ("hinge of margins", svm_loss_backward, svm_loss, {"x": (4, 3), "y": ("labels", (4,), 3)}, "all",
     {"count": ("dx[np.arange(N), y] -= num_pos", "dx[np.arange(N), y] = -1")}),
    ("softmax loss", softmax_loss_backward, softmax_loss, {"x": (4, 3), "y": ("labels", (4,), 3)}, "all",
     {"N": ("    probs /= N\n", "")}),
    ("np.eye of labels", eye_loss_backward, eye_loss, {"z": (4, 3), "y": ("labels", (4,), 3)}, "all",
     {"classes": ("- target) / z.shape[0]", "- target) / z.shape[1]")}),
    ("one-hot rows", one_hot_loss_backward, one_hot_loss, {"z": (4, 3), "t": ("one_hot", 4, 3)}, "all",
     {"sign": ("(p - t) / len(z)", "(t - p) / len(z)")}),
    ("cross-entropy of probabilities", bce_backward, bce, {"y_pred": ("unit", (5,)), "y_true": ("binary", (5,))},
     "all", {"size": (") / np.size(y_true)", ")")}),
    ("cross-entropy of logits", bce_logits_backward, bce_logits, {"z": (3, 2), "t": ("binary", (3, 2))}, "all",
     {"axis": ("- t) / z.size", "- t) / len(z)")}),
    ("mean square", mse_backward, mse, {"y": (3, 2), "t": (3, 2)}, "all",
     {"2": ("return 2 * (y - t) / y.size", "return (y - t) / y.size")}, ["y"]),
    ("Huber", huber_backward, huber, {"y": (6,), "t": (6,)}, "all",
     {"delta": ("delta * np.sign(r))", "np.sign(r))")}, ["y"]),
    ("focal", focal_backward, focal, {"z": (5,), "t": ("binary", (5,))}, "exact",
     {"gamma": ("dpt = gamma * (1 - pt)", "dpt = (1 - pt)")}),
    ("triplet", triplet_backward, triplet, {"a": (3, 2), "p": (3, 2), "n": (3, 2)}, "all",
     {"sides": ("active * 2 * (n - p)", "active * 2 * (a - p)")}),
    ("Kullback–Leibler", kl_backward, kl, {"logits": (3, 4), "q": ("probability", (3, 4))}, "all",
     {"mean": ("(p - q) / logits.shape[0]", "(p - q) / logits.size")}, ["logits"]),
    ("cosine", cosine_backward, cosine, {"a": (3, 4), "b": (3, 4)}, "all",
     {"projection": ("- c * a / na**2", "- c * a / na")}),
    ("total variation", total_variation_backward, total_variation, {"x": (3, 4)}, "all",
     {"rows": ("    g[:-1] -= rows\n", "")}),
    ("variational", vae_loss_backward, vae_loss, {"mu": (3, 2), "logvar": (3, 2), "noise": (3, 2)}, "all",
     {"half": ("0.5 * z * std * noise", "z * std * noise")}, ["mu", "logvar"]),
    ("contrastive", contrastive_backward, contrastive, {"a": (3, 2), "b": (3, 2)}, "all",
     {"temperature": ("len(a) * temperature", "len(a)")}),
]  # fmt: skip
