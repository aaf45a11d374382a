"""Multilayer perceptrons, derived: widths, parameter count, every δ and parameter gradient, and source that runs.

``network("784-256-128-10", activation="relu", loss="softmax_cross_entropy")`` has ``.widths``, ``.parameter_count``,
``.deltas()`` and ``.numpy_source()``. The generated NumPy module uses nothing but ``np`` and defines three functions:

``forward(parameters, X, f) -> (P, saved)``
    ``parameters`` is a dict with ``"W1"`` [D0, D1], ``"b1"`` [D1], …, ``"WL"``, ``"bL"``; ``X`` is [N, D0], one sample per
    row; ``f`` maps an array to an array of its shape (the hidden activation). ``P`` [N, DL] is the output after the
    loss's matching output activation (softmax probabilities for ``softmax_cross_entropy``; the plain output for squared
    error). ``saved`` is a tuple for the other two functions: ``(Z1, …, ZL, A1, …, A(L-1), P)``.
``loss(saved, Y) -> float``
    The loss over the batch (mean over samples by default), from the pre-activations, so that it neither overflows nor
    takes log 0. ``Y`` is [N, DL]: one-hot rows for a classification loss.
``backward(parameters, X, Y, saved, df) -> gradients``
    ``df`` is the derivative of ``f``, applied to the pre-activations. ``gradients`` is a dict with the keys of
    ``parameters``, in their order and shapes: the gradient of ``loss``.
"""
