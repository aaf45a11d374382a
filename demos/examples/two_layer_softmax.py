"""A two-layer softmax network with hand-coded backprop, as people write it.

backproof check two_layer_softmax.py::backward --forward two_layer_softmax.py::forward \
    --shape X=3,4 --shape W1=4,5 --shape b1=5 --shape W2=5,3 --shape b2=3 --one-hot Y=3,3 --wrt W1,b1,W2,b2
"""

import numpy as np


def softmax(z):
    z = z - np.max(z, axis=1, keepdims=True)
    e = np.exp(z)
    return e / np.sum(e, axis=1, keepdims=True)


def forward(X, W1, b1, W2, b2, Y):
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    z2 = a1 @ W2 + b2
    z2 = z2 - np.max(z2, axis=1, keepdims=True)
    log_p = z2 - np.log(np.sum(np.exp(z2), axis=1, keepdims=True))
    return -np.sum(Y * log_p) / X.shape[0]


def backward(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)

    dz2 = dloss * (p - Y) / n
    dW2 = a1.T @ dz2
    db2 = np.sum(dz2, axis=0)

    da1 = dz2 @ W2.T
    dz1 = da1.copy()
    dz1[z1 <= 0] = 0
    dW1 = X.T @ dz1
    db1 = np.sum(dz1, axis=0)
    return dW1, db1, dW2, db2
