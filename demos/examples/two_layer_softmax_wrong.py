"""Copies of the two-layer network's backward pass, each with one classic mistake; backproof names every one.

backproof check two_layer_softmax_wrong.py::forgot_batch_mean --forward two_layer_softmax_wrong.py::forward \
    --shape X=3,4 --shape W1=4,5 --shape b1=5 --shape W2=5,3 --shape b2=3 --one-hot Y=3,3 --wrt W1,b1,W2,b2
"""

import numpy as np


def softmax(z):
    z = z - np.max(z, axis=1, keepdims=True)
    e = np.exp(z)
    return e / np.sum(e, axis=1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forward(X, W1, b1, W2, b2, Y):
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    z2 = a1 @ W2 + b2
    z2 = z2 - np.max(z2, axis=1, keepdims=True)
    log_p = z2 - np.log(np.sum(np.exp(z2), axis=1, keepdims=True))
    return -np.sum(Y * log_p) / X.shape[0]


def forgot_batch_mean(dloss, X, W1, b1, W2, b2, Y):
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (p - Y)  # wrong: the loss is a mean over the batch
    dz1 = (dz2 @ W2.T) * (z1 > 0)
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=0)


def missing_relu_mask(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (p - Y) / n
    dz1 = dz2 @ W2.T  # wrong: no derivative of the ReLU
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=0)


def mask_of_the_gradient(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (p - Y) / n
    dz1 = np.maximum(0, dz2 @ W2.T)  # wrong: the mask belongs to z1, not to the gradient
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=0)


def bias_mean(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (p - Y) / n
    dz1 = (dz2 @ W2.T) * (z1 > 0)
    return X.T @ dz1, dz1.mean(axis=0), a1.T @ dz2, dz2.mean(axis=0)  # wrong: divides by n twice


def bias_wrong_axis(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (p - Y) / n
    dz1 = (dz2 @ W2.T) * (z1 > 0)
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=1)  # wrong: sums over the classes


def weight_not_transposed(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (p - Y) / n
    dz1 = (dz2 @ W2) * (z1 > 0)  # wrong: W2.T; only runs when W2 is square
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=0)


def wrong_sign(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    p = softmax(a1 @ W2 + b2)
    dz2 = dloss * (Y - p) / n  # wrong: p - Y
    dz1 = (dz2 @ W2.T) * (z1 > 0)
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=0)


def forgot_max_shift(dloss, X, W1, b1, W2, b2, Y):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    e = np.exp(a1 @ W2 + b2)  # right over the reals; overflows in floats
    p = e / e.sum(axis=1, keepdims=True)
    dz2 = dloss * (p - Y) / n
    dz1 = (dz2 @ W2.T) * (z1 > 0)
    return X.T @ dz1, dz1.sum(axis=0), a1.T @ dz2, dz2.sum(axis=0)


def softmax_forward(z):
    return softmax(z)


def softmax_diagonal_only(dp, z):
    p = softmax(z)
    return dp * p * (1 - p)  # wrong: every output depends on every input


def sigmoid_layer_forward(X, W):
    return sigmoid(X @ W)


def sigmoid_derivative_of_z(dy, X, W):
    z = X @ W
    dz = dy * z * (1 - z)  # wrong: a * (1 - a) with a = sigmoid(z)
    return dz @ W.T, X.T @ dz


def sigmoid_derivative_twice(dy, X, W):
    a = sigmoid(X @ W)
    dz = dy * sigmoid(a) * (1 - sigmoid(a))  # wrong: the derivative is taken at a, not at z
    return dz @ W.T, X.T @ dz


def sigmoid_missing_derivative(dy, X, W):
    return dy @ W.T, X.T @ dy  # wrong: no derivative of the sigmoid
