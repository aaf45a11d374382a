"""Optimiser steps as functions with a config dict, as functions of the state, and as classes."""

import numpy as np


class SGD:
    def __init__(self, lr=0.01):
        self.lr = lr

    def update(self, params, grads):
        for key in params.keys():
            params[key] -= self.lr * grads[key]


def sgd_momentum(w, grad, v, lr=0.01, momentum=0.9):
    v = momentum * v - lr * grad
    return w + v, v


class Nesterov:
    def __init__(self, lr=0.01, momentum=0.9):
        self.lr, self.momentum, self.v = lr, momentum, None

    def update(self, params, grads):
        if self.v is None:
            self.v = {}
            for key, val in params.items():
                self.v[key] = np.zeros_like(val)
        for key in params.keys():
            params[key] += self.momentum * self.momentum * self.v[key]
            params[key] -= (1 + self.momentum) * self.lr * grads[key]
            self.v[key] *= self.momentum
            self.v[key] -= self.lr * grads[key]


class RMSProp:
    def __init__(self, lr=0.01, decay_rate=0.99):
        self.lr, self.decay_rate, self.h = lr, decay_rate, None

    def update(self, params, grads):
        if self.h is None:
            self.h = {}
            for key, val in params.items():
                self.h[key] = np.zeros_like(val)
        for key in params.keys():
            self.h[key] *= self.decay_rate
            self.h[key] += (1 - self.decay_rate) * grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-8)


class Adam:
    def __init__(self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps, self.t = lr, beta1, beta2, eps, 0
        self.m, self.v = {}, {}

    def update(self, params, grads):
        self.t += 1
        for k in params:
            self.m.setdefault(k, np.zeros_like(params[k]))
            self.v.setdefault(k, np.zeros_like(params[k]))
            self.m[k] = self.beta1 * self.m[k] + (1 - self.beta1) * grads[k]
            self.v[k] = self.beta2 * self.v[k] + (1 - self.beta2) * np.square(grads[k])
            m_hat = self.m[k] / (1 - self.beta1**self.t)
            v_hat = self.v[k] / (1 - self.beta2**self.t)
            params[k] -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


def adamw(w, grad, m, v, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    w = w - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * w)
    return w, m, v


#: (title, step function or class, update rule, {mistake: (old, new)})
STEPS = [
    ("SGD", SGD, "optimiser:sgd", {"sign": ("-= self.lr * grads[key]\n\n\ndef", "+= self.lr * grads[key]\n\n\ndef")}),
    ("momentum", sgd_momentum, "optimiser:momentum", {"sign": ("momentum * v - lr", "momentum * v + lr")}),
    ("Nesterov", Nesterov, "optimiser:nesterov", {"once": ("self.momentum * self.momentum", "self.momentum")}),
    ("RMSProp", RMSProp, "optimiser:rmsprop", {"decay": ("(1 - self.decay_rate)", "self.decay_rate")}),
    ("Adam", Adam, "optimiser:adam", {"no correction": ("v_hat = self.v[k] / (1 - self.beta2**self.t)",
                                                       "v_hat = self.v[k]")}),
    ("AdamW", adamw, "optimiser:adamw", {"decays the sum": ("weight_decay * w)", "weight_decay * m)")}),
]  # fmt: skip
