"""Further real gradient bugs, written in our own words from public threads, and common ones of from-scratch code.

The rows have the schema of ``bugs.json``, and two more fields: the finding that must fail, and words that its diagnosis
(or its reason) must contain.  ``source`` is the thread, or "common" for a mistake met in many places.
"""

import textwrap

BUGS: list[dict] = []


def bug(name, source, wrt, inputs, forward, wrong, right, *, finding="formula", says, category="formula"):
    """Add one row; the sources are the bodies of ``forward`` and ``backward`` with their headers."""
    head = "import numpy as np\n"
    forward, wrong, right = (head + textwrap.dedent(text).strip() + "\n" for text in (forward, wrong, right))
    BUGS.append(
        {
            "name": name, "category": category, "source": source, "forward": forward, "backward_buggy": wrong,
            "backward_correct": right, "wrt": wrt.split(), "generic_inputs": f"dict({inputs})", "finding": finding,
            "says": says,
        }
    )  # fmt: skip


SIGMOID = "def sigmoid(z): return 1/(1+np.exp(-z))\n"

bug(
    "huber_ignores_upstream", "chainer/chainer#1175", "p", "p=rng.standard_normal((4,3)), t=rng.standard_normal((4,3))",
    """
    def forward(p, t, delta=1.5):
        e = p - t
        return np.where(np.abs(e) <= delta, e * e / 2, delta * (np.abs(e) - delta / 2)).sum(axis=1)
    """,
    """
    def backward(dy, p, t, delta=1.5):
        return np.clip(p - t, -delta, delta)
    """,
    """
    def backward(dy, p, t, delta=1.5):
        return dy[:, None] * np.clip(p - t, -delta, delta)
    """,
    says="upstream",
)  # fmt: skip
bug(
    "huber_linear_part_lacks_delta", "common: Huber against smooth L1", "p",
    "p=3*rng.standard_normal(8), t=rng.standard_normal(8)",
    """
    def forward(p, t, delta=1.0):
        e = p - t
        return np.where(np.abs(e) <= delta, e * e / 2, delta * (np.abs(e) - delta / 2))
    """,
    """
    def backward(dy, p, t, delta=1.0):
        e = p - t
        return dy * np.where(np.abs(e) <= delta, e, np.sign(e))
    """,
    """
    def backward(dy, p, t, delta=1.0):
        e = p - t
        return dy * np.where(np.abs(e) <= delta, e, delta * np.sign(e))
    """,
    says="delta",
)  # fmt: skip
bug(
    "smooth_l1_beta_not_divided", "common: smooth L1 with beta", "p",
    "p=rng.standard_normal(8), t=rng.standard_normal(8)",
    """
    def forward(p, t, beta=1.0):
        e = p - t
        return np.where(np.abs(e) < beta, e * e / (2 * beta), np.abs(e) - beta / 2)
    """,
    """
    def backward(dy, p, t, beta=1.0):
        e = p - t
        return dy * np.where(np.abs(e) < beta, e, np.sign(e))
    """,
    """
    def backward(dy, p, t, beta=1.0):
        e = p - t
        return dy * np.where(np.abs(e) < beta, e / beta, np.sign(e))
    """,
    says="beta",
)  # fmt: skip
bug(
    "batch_norm_gamma_missing_in_dx", "denizyuret/Knet.jl#288", "x g b",
    "x=rng.standard_normal((5,3)), g=rng.standard_normal(3), b=rng.standard_normal(3)",
    """
    def forward(x, g, b, eps=1e-5):
        mu = x.mean(axis=0)
        var = ((x - mu) ** 2).mean(axis=0)
        return g * (x - mu) / np.sqrt(var + eps) + b
    """,
    """
    def backward(dy, x, g, b, eps=1e-5):
        mu = x.mean(axis=0)
        r = 1 / np.sqrt(((x - mu) ** 2).mean(axis=0) + eps)
        h = (x - mu) * r
        dx = r * (dy - dy.mean(axis=0) - h * (dy * h).mean(axis=0))
        return dx, (dy * h).sum(axis=0), dy.sum(axis=0)
    """,
    """
    def backward(dy, x, g, b, eps=1e-5):
        mu = x.mean(axis=0)
        r = 1 / np.sqrt(((x - mu) ** 2).mean(axis=0) + eps)
        h = (x - mu) * r
        dh = g * dy
        dx = r * (dh - dh.mean(axis=0) - h * (dh * h).mean(axis=0))
        return dx, (dy * h).sum(axis=0), dy.sum(axis=0)
    """,
    says="missing factor: g",
)  # fmt: skip
bug(
    "batch_norm_eps_outside_the_root", "common: 1/(sqrt(var) + eps)", "x", "x=rng.standard_normal((5,3))",
    """
    def forward(x, eps=0.01):
        mu = x.mean(axis=0)
        var = ((x - mu) ** 2).mean(axis=0)
        return (x - mu) / np.sqrt(var + eps)
    """,
    """
    def backward(dy, x, eps=0.01):
        mu = x.mean(axis=0)
        r = 1 / (np.sqrt(((x - mu) ** 2).mean(axis=0)) + eps)
        h = (x - mu) * r
        return r * (dy - dy.mean(axis=0) - h * (dy * h).mean(axis=0))
    """,
    """
    def backward(dy, x, eps=0.01):
        mu = x.mean(axis=0)
        r = 1 / np.sqrt(((x - mu) ** 2).mean(axis=0) + eps)
        h = (x - mu) * r
        return r * (dy - dy.mean(axis=0) - h * (dy * h).mean(axis=0))
    """,
    says="np.sqrt(((x - mu) ** 2).mean(axis=0) + eps)",
)  # fmt: skip
bug(
    "batch_norm_statistics_held_constant", "common: gradient of the running-statistics mode", "x",
    "x=rng.standard_normal((5,3))",
    """
    def forward(x, eps=1e-5):
        mu = x.mean(axis=0)
        var = ((x - mu) ** 2).mean(axis=0)
        return (x - mu) / np.sqrt(var + eps)
    """,
    """
    def backward(dy, x, eps=1e-5):
        return dy / np.sqrt(x.var(axis=0) + eps)
    """,
    """
    def backward(dy, x, eps=1e-5):
        mu = x.mean(axis=0)
        r = 1 / np.sqrt(((x - mu) ** 2).mean(axis=0) + eps)
        h = (x - mu) * r
        return r * (dy - dy.mean(axis=0) - h * (dy * h).mean(axis=0))
    """,
    says="through the reductions is missing",
)  # fmt: skip
bug(
    "softmax_backward_copies_the_gradient", "pjreddie/darknet#96", "z", "z=rng.standard_normal((3,4))",
    """
    def forward(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    """,
    """
    def backward(dy, z):
        return dy.copy()
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return p * (dy - (dy * p).sum(axis=1, keepdims=True))
    """,
    says="upstream gradient itself",
)  # fmt: skip
bug(
    "softmax_sums_over_the_batch", "common: axis of the inner product", "z", "z=rng.standard_normal((3,4))",
    """
    def forward(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return p * (dy - (dy * p).sum(axis=0, keepdims=True))
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return p * (dy - (dy * p).sum(axis=1, keepdims=True))
    """,
    says="axis",
)  # fmt: skip
bug(
    "log_softmax_adds_the_gradient", "mlpack/mlpack#2360", "z", "z=rng.standard_normal((3,4))",
    """
    def forward(z):
        s = z - z.max(axis=1, keepdims=True)
        return s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy + e / e.sum(axis=1, keepdims=True)
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy - e / e.sum(axis=1, keepdims=True) * dy.sum(axis=1, keepdims=True)
    """,
    says="upstream",
)  # fmt: skip
bug(
    "log_softmax_right_only_if_dy_sums_to_one", "mlpack/mlpack#3468", "z", "z=rng.standard_normal((3,4))",
    """
    def forward(z):
        s = z - z.max(axis=1, keepdims=True)
        return s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy - e / e.sum(axis=1, keepdims=True)
    """,
    """
    def backward(dy, z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy - e / e.sum(axis=1, keepdims=True) * dy.sum(axis=1, keepdims=True)
    """,
    says="one-hot",
)  # fmt: skip
bug(
    "cross_entropy_softmax_applied_twice", "common: probabilities taken for logits", "z",
    "z=rng.standard_normal((3,4)), t=np.eye(4)[[0,2,1]]",
    """
    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    def forward(z, t):
        return -(t * np.log(softmax(z))).sum() / len(z)
    """,
    """
    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    def backward(dy, z, t):
        p = softmax(z)
        return dy * (softmax(p) - t) / len(z)
    """,
    """
    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    def backward(dy, z, t):
        return dy * (softmax(z) - t) / len(z)
    """,
    says="softmax",
)  # fmt: skip
bug(
    "cross_entropy_mean_not_divided", "common: sum for mean", "z", "z=rng.standard_normal((3,4)), t=np.eye(4)[[0,2,1]]",
    """
    def forward(z, t):
        s = z - z.max(axis=1, keepdims=True)
        return -(t * (s - np.log(np.exp(s).sum(axis=1, keepdims=True)))).sum() / len(z)
    """,
    """
    def backward(dy, z, t):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy * (e / e.sum(axis=1, keepdims=True) - t)
    """,
    """
    def backward(dy, z, t):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy * (e / e.sum(axis=1, keepdims=True) - t) / len(z)
    """,
    says="1/z.shape[0] is missing",
)  # fmt: skip
bug(
    "mse_gradient_of_the_half_loss", "common: factor 2", "p",
    "p=rng.standard_normal((3,4)), t=rng.standard_normal((3,4))",
    """
    def forward(p, t): return ((p - t) ** 2).mean()
    """,
    """
    def backward(dy, p, t): return dy * (p - t) / p.size
    """,
    """
    def backward(dy, p, t): return dy * 2 * (p - t) / p.size
    """,
    says="factor 2 is missing",
)  # fmt: skip
bug(
    "mse_gradient_of_cross_entropy", "common: p − t taken for the gradient of the squared error", "z",
    "z=rng.standard_normal((3,4)), t=rng.standard_normal((3,4))",
    """
    def forward(z, t):
        p = 1 / (1 + np.exp(-z))
        return ((p - t) ** 2).sum() / 2
    """,
    """
    def backward(dy, z, t):
        return dy * (1 / (1 + np.exp(-z)) - t)
    """,
    """
    def backward(dy, z, t):
        p = 1 / (1 + np.exp(-z))
        return dy * (p - t) * p * (1 - p)
    """,
    says="derivative of the sigmoid is missing",
)  # fmt: skip
bug(
    "lstm_forget_gate_not_differentiated", "CaptainE/RNN-LSTM-in-numpy#1", "z f c",
    "z=rng.standard_normal((2,3)), f=rng.standard_normal((2,3)), c=rng.standard_normal((2,3))",
    SIGMOID + "def forward(z, f, c): return sigmoid(f) * c + np.tanh(z)\n",
    SIGMOID + "def backward(dy, z, f, c): return dy * (1 - np.tanh(z) ** 2), dy * c * sigmoid(f), dy * sigmoid(f)\n",
    SIGMOID + "def backward(dy, z, f, c):\n    s = sigmoid(f)\n"
    "    return dy * (1 - np.tanh(z) ** 2), dy * c * s * (1 - s), dy * s\n",
    says="lacks the factor 1 − a",
)  # fmt: skip
bug(
    "lstm_cell_tanh_derivative_at_the_activation", "nicklashansen/rnn_lstm_from_scratch#1", "o c",
    "o=rng.standard_normal((2,3)), c=rng.standard_normal((2,3))",
    SIGMOID + "def forward(o, c): return sigmoid(o) * np.tanh(c)\n",
    SIGMOID + "def dtanh(v): return 1 - np.tanh(v) ** 2\ndef backward(dy, o, c):\n    s = sigmoid(o)\n"
    "    return dy * np.tanh(c) * s * (1 - s), dy * s * dtanh(np.tanh(c))\n",
    SIGMOID + "def dtanh(v): return 1 - np.tanh(v) ** 2\ndef backward(dy, o, c):\n    s = sigmoid(o)\n"
    "    return dy * np.tanh(c) * s * (1 - s), dy * s * dtanh(c)\n",
    says="at the activation",
)  # fmt: skip
bug(
    "gru_reset_gate_misses_the_product", "common: GRU, gradient of the previous state", "x h U",
    "x=rng.standard_normal((2,3)), h=rng.standard_normal((2,3)), U=rng.standard_normal((3,3))",
    SIGMOID + "def forward(x, h, U):\n    z = sigmoid(x)\n    n = np.tanh(x + h @ U)\n    return (1 - z) * n + z * h\n",
    SIGMOID + "def backward(dy, x, h, U):\n    z = sigmoid(x)\n    n = np.tanh(x + h @ U)\n"
    "    dn = dy * (1 - z) * (1 - n ** 2)\n    dz = dy * (h - n) * z * (1 - z)\n"
    "    return dn + dz, dn @ U.T, h.T @ dn\n",
    SIGMOID + "def backward(dy, x, h, U):\n    z = sigmoid(x)\n    n = np.tanh(x + h @ U)\n"
    "    dn = dy * (1 - z) * (1 - n ** 2)\n    dz = dy * (h - n) * z * (1 - z)\n"
    "    return dn + dz, dn @ U.T + dy * z, h.T @ dn\n",
    says="missing",
)  # fmt: skip
bug(
    "rnn_bptt_drops_the_recurrent_gradient", "common: dh_next is not carried", "x W U",
    "x=rng.standard_normal((3,2,2)), W=rng.standard_normal((2,3)), U=rng.standard_normal((3,3))",
    """
    def forward(x, W, U):
        h = np.zeros((x.shape[1], U.shape[0]))
        for t in range(x.shape[0]):
            h = np.tanh(x[t] @ W + h @ U)
        return h
    """,
    """
    def backward(dy, x, W, U):
        hs = [np.zeros((x.shape[1], U.shape[0]))]
        for t in range(x.shape[0]):
            hs.append(np.tanh(x[t] @ W + hs[-1] @ U))
        dx, dW, dU = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U)
        dh = dy
        for t in reversed(range(x.shape[0])):
            dz = dh * (1 - hs[t + 1] ** 2)
            dx[t] = dz @ W.T
            dW += x[t].T @ dz
            dU += hs[t].T @ dz
            dh = dz @ U
        return dx, dW, dU
    """,
    """
    def backward(dy, x, W, U):
        hs = [np.zeros((x.shape[1], U.shape[0]))]
        for t in range(x.shape[0]):
            hs.append(np.tanh(x[t] @ W + hs[-1] @ U))
        dx, dW, dU = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U)
        dh = dy
        for t in reversed(range(x.shape[0])):
            dz = dh * (1 - hs[t + 1] ** 2)
            dx[t] = dz @ W.T
            dW += x[t].T @ dz
            dU += hs[t].T @ dz
            dh = dz @ U.T
        return dx, dW, dU
    """,
    says="U",
)  # fmt: skip
bug(
    "attention_scale_missing", "common: 1/√d of the scores", "q k v",
    "q=rng.standard_normal((3,2)), k=rng.standard_normal((4,2)), v=rng.standard_normal((4,3))",
    """
    def forward(q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        e = np.exp(s - s.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True) @ v
    """,
    """
    def backward(dy, q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        e = np.exp(s - s.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
        return ds @ k, ds.T @ q, p.T @ dy
    """,
    """
    def backward(dy, q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        e = np.exp(s - s.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) / np.sqrt(q.shape[1])
        return ds @ k, ds.T @ q, p.T @ dy
    """,
    says="√q.shape[1]",
)  # fmt: skip
bug(
    "embedding_repeated_index_overwritten", "common: dW[i] += dy with repeated i", "W",
    "W=rng.standard_normal((4,3)), i=np.array([2,0,2,3])",
    """
    def forward(W, i): return W[i]
    """,
    """
    def backward(dy, W, i):
        dW = np.zeros_like(W)
        dW[i] += dy
        return dW
    """,
    """
    def backward(dy, W, i):
        dW = np.zeros_like(W)
        np.add.at(dW, i, dy)
        return dW
    """,
    says="np.add.at",
)  # fmt: skip
bug(
    "max_pool_only_the_first_patch", "riccardoandreoni0/CNN-from-scratch#1", "x", "x=rng.standard_normal((2,6))",
    """
    def forward(x, size=2):
        return np.stack([x[:, i:i + size].max(axis=1) for i in range(0, x.shape[1] - size + 1, size)], axis=1)
    """,
    """
    def backward(dy, x, size=2):
        dx = np.zeros_like(x)
        for k, i in enumerate(range(0, x.shape[1] - size + 1, size)):
            part = x[:, i:i + size]
            dx[:, i:i + size] = dy[:, k:k + 1] * (part == part.max(axis=1, keepdims=True))
            return dx
    """,
    """
    def backward(dy, x, size=2):
        dx = np.zeros_like(x)
        for k, i in enumerate(range(0, x.shape[1] - size + 1, size)):
            part = x[:, i:i + size]
            first = np.arange(part.shape[1]) == part.argmax(axis=1)[:, None]
            dx[:, i:i + size] = dy[:, k:k + 1] * first
        return dx
    """,
    says="return",
)  # fmt: skip
bug(
    "max_pool_ties_counted_twice", "Theano/Theano#5248", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x): return x.max(axis=1)
    """,
    """
    def backward(dy, x):
        return dy[:, None] * (x == x.max(axis=1, keepdims=True))
    """,
    """
    def backward(dy, x):
        return dy[:, None] * (np.arange(x.shape[1]) == x.argmax(axis=1)[:, None])
    """,
    finding="kinks", says="one-sided derivatives", category="kink",
)  # fmt: skip
bug(
    "dropout_scale_missing", "common: inverted dropout", "x", "x=rng.standard_normal((3,4)), m=rng.random((3,4))<0.5",
    """
    def forward(x, m, p=0.3): return x * m / (1 - p)
    """,
    """
    def backward(dy, x, m, p=0.3): return dy * m
    """,
    """
    def backward(dy, x, m, p=0.3): return dy * m / (1 - p)
    """,
    says="1 − p",
)  # fmt: skip
bug(
    "dropout_divides_by_p", "vlfeat/matconvnet#775", "x", "x=rng.standard_normal((3,4)), m=rng.random((3,4))<0.5",
    """
    def forward(x, m, p=0.3): return x * m / (1 - p)
    """,
    """
    def backward(dy, x, m, p=0.3): return dy * m / p
    """,
    """
    def backward(dy, x, m, p=0.3): return dy * m / (1 - p)
    """,
    says="1 − p",
)  # fmt: skip
bug(
    "dropout_mask_read_off_the_values", "kaldi-asr/kaldi#3890", "x",
    "x=rng.standard_normal((3,4)), m=rng.random((3,4))<0.5",
    """
    def forward(x, m): return x * m
    """,
    """
    def backward(dy, x, m):
        y = x * m
        return np.where(x == 0, dy, dy * y / np.where(x == 0, 1, x))
    """,
    """
    def backward(dy, x, m): return dy * m
    """,
    says="x = 0",
)  # fmt: skip
bug(
    "focal_loss_weight_held_constant", "kuangliu/pytorch-retinanet#12", "z", "z=rng.standard_normal(6)",
    """
    def forward(z, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        return -((1 - p) ** gamma) * np.log(p)
    """,
    """
    def backward(dy, z, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        return -dy * (1 - p) ** gamma * (1 - p)
    """,
    """
    def backward(dy, z, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        return dy * (1 - p) ** gamma * (gamma * p * np.log(p) - (1 - p))
    """,
    says="np.power",
)  # fmt: skip
bug(
    "focal_loss_gradient_by_p", "rahowa/catboost_focal_loss#2", "z", "z=rng.standard_normal(6)",
    """
    def forward(z, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        return -((1 - p) ** gamma) * np.log(p)
    """,
    """
    def backward(dy, z, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        return dy * (1 - p) ** gamma * (gamma * p * np.log(p) - (1 - p)) / (p * (1 - p))
    """,
    """
    def backward(dy, z, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        return dy * (1 - p) ** gamma * (gamma * p * np.log(p) - (1 - p))
    """,
    says="derivative of the sigmoid is missing",
)  # fmt: skip
bug(
    "focal_loss_gamma_at_its_default", "common: 2 for gamma", "p", "p=rng.uniform(0.1,0.9,6)",
    """
    def forward(p, gamma=2.0): return -((1 - p) ** gamma) * np.log(p)
    """,
    """
    def backward(dy, p, gamma=2.0):
        return dy * (2.0 * (1 - p) ** (gamma - 1) * np.log(p) - (1 - p) ** gamma / p)
    """,
    """
    def backward(dy, p, gamma=2.0):
        return dy * (gamma * (1 - p) ** (gamma - 1) * np.log(p) - (1 - p) ** gamma / p)
    """,
    says="gamma",
)  # fmt: skip
bug(
    "gelu_tanh_form_lacks_the_inner_derivative", "common: chain rule of the inner polynomial", "x",
    "x=rng.standard_normal((3,4))",
    """
    def forward(x):
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))
    """,
    """
    def backward(dy, x):
        t = np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3))
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t))
    """,
    """
    def backward(dy, x):
        t = np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3))
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x ** 2))
    """,
    says="missing",
)  # fmt: skip
bug(
    "gelu_tanh_form_overflows", "ooples/AiDotNet.Tensors#355", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x):
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))
    """,
    """
    def backward(dy, x):
        c = np.cosh(0.7978845608028654 * (x + 0.044715 * x ** 3))
        u = 0.7978845608028654 * (1 + 3 * 0.044715 * x ** 2)
        t = np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3))
        return dy * (0.5 * (1 + t) + 0.5 * x * u * np.cosh(x) / (np.cosh(x) * c * c))
    """,
    """
    def backward(dy, x):
        w = 0.7978845608028654 * (x + 0.044715 * x ** 3)
        u = 0.7978845608028654 * (1 + 3 * 0.044715 * x ** 2)
        e = np.exp(-2 * np.abs(w))
        half = np.where(w >= 0, 1 / (1 + e), e / (1 + e))
        return dy * (half + 2 * x * u * e / (1 + e) ** 2)
    """,
    finding="domain", says="nan for x =",
)  # fmt: skip
bug(
    "gelu_exact_against_tanh_form", "common: another variant of the same function", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x):
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))
    """,
    """
    from scipy.special import erf
    def backward(dy, x):
        return dy * (0.5 * (1 + erf(x / np.sqrt(2))) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi))
    """,
    """
    def backward(dy, x):
        t = np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3))
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x ** 2))
    """,
    says="gradient of gelu",
)  # fmt: skip
bug(
    "swish_taken_for_sigmoid", "common: missing product rule", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x, beta=1.0): return x / (1 + np.exp(-beta * x))
    """,
    """
    def backward(dy, x, beta=1.0):
        s = 1 / (1 + np.exp(-beta * x))
        return dy * (s + x * s * (1 - s))
    """,
    """
    def backward(dy, x, beta=1.0):
        s = 1 / (1 + np.exp(-beta * x))
        return dy * (s + beta * x * s * (1 - s))
    """,
    says="beta",
)  # fmt: skip
bug(
    "sigmoid_surrogate_inf_over_inf", "jeshraghian/snntorch#427", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x, slope=25.0): return 1 / (1 + np.exp(-slope * x))
    """,
    """
    def backward(dy, x, slope=25.0):
        e = np.exp(-slope * x)
        return dy * slope * e / (e + 1) ** 2
    """,
    """
    def backward(dy, x, slope=25.0):
        e = np.exp(-np.abs(slope * x))
        return dy * slope * e / (1 + e) ** 2
    """,
    finding="domain", says="nan for x =",
)  # fmt: skip
bug(
    "norm_backward_divides_by_zero", "tenstorrent/tt-metal#55585", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x): return (x ** 2).sum(axis=1) / (1 + np.sqrt((x ** 2).sum(axis=1)))
    """,
    """
    def backward(dy, x):
        n = np.sqrt((x ** 2).sum(axis=1))
        return x * (dy * (2 * n + n * n) / (1 + n) ** 2 / n)[:, None]
    """,
    """
    def backward(dy, x):
        n = np.sqrt((x ** 2).sum(axis=1))
        return x * (dy * (2 + n) / (1 + n) ** 2)[:, None]
    """,
    finding="kinks", says="nan at x = 0",
)  # fmt: skip
bug(
    "squared_norm_through_the_norm", "jax-ml/jax#21723", "x", "x=rng.standard_normal(4)",
    """
    def forward(x): return (x * x).sum()
    """,
    """
    def backward(dy, x):
        n = np.sqrt((x * x).sum())
        return dy * 2 * n * (x / n)
    """,
    """
    def backward(dy, x): return dy * 2 * x
    """,
    finding="domain", says="nan",
)  # fmt: skip
bug(
    "power_at_zero", "common: y/x for the derivative of a power", "x", "x=rng.standard_normal(6)",
    """
    def forward(x): return x ** 3
    """,
    """
    def backward(dy, x): return dy * 3 * x ** 3 / x
    """,
    """
    def backward(dy, x): return dy * 3 * x ** 2
    """,
    finding="domain", says="nan for x = 0",
)  # fmt: skip
bug(
    "std_unbiased_divides_by_n", "common: N for N − 1", "x", "x=rng.standard_normal((4,3))",
    """
    def forward(x):
        n = x.shape[0]
        return np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=0) / (n - 1))
    """,
    """
    def backward(dy, x):
        n = x.shape[0]
        c = x - x.mean(axis=0)
        return dy * c / (n * np.sqrt((c ** 2).sum(axis=0) / (n - 1)))
    """,
    """
    def backward(dy, x):
        n = x.shape[0]
        c = x - x.mean(axis=0)
        return dy * c / ((n - 1) * np.sqrt((c ** 2).sum(axis=0) / (n - 1)))
    """,
    says="x.shape[0] − 1",
)  # fmt: skip
bug(
    "cosine_similarity_norms_held_constant", "common: quotient rule", "a",
    "a=rng.standard_normal((3,4)), b=rng.standard_normal((3,4))",
    """
    def forward(a, b):
        return (a * b).sum(axis=1) / (np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1)))
    """,
    """
    def backward(dy, a, b):
        n = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
        return (dy / n)[:, None] * b
    """,
    """
    def backward(dy, a, b):
        m = np.sqrt((a * a).sum(axis=1))
        n = m * np.sqrt((b * b).sum(axis=1))
        s = (a * b).sum(axis=1) / n
        return (dy / n)[:, None] * b - (dy * s / (m * m))[:, None] * a
    """,
    says="is missing",
)  # fmt: skip
bug(
    "kl_div_gradient_by_the_wrong_argument", "common: KL(t‖p) for log p", "q",
    "q=rng.standard_normal((3,4)), t=rng.uniform(0.1,1,(3,4))",
    """
    def forward(q, t): return (t * (np.log(t) - q)).sum() / len(q)
    """,
    """
    def backward(dy, q, t): return dy * (np.log(t) - q + 1) / len(q)
    """,
    """
    def backward(dy, q, t): return -dy * t / len(q)
    """,
    says="gradient with respect to t",
)  # fmt: skip
bug(
    "kl_div_log_target_ignored", "common: log_target", "q",
    "q=rng.standard_normal((3,4)), t=rng.standard_normal((3,4))",
    """
    def forward(q, t): return (np.exp(t) * (t - q)).sum()
    """,
    """
    def backward(dy, q, t): return -dy * t
    """,
    """
    def backward(dy, q, t): return -dy * np.exp(t)
    """,
    says="nll(reduction=sum)",
)  # fmt: skip
bug(
    "weight_decay_lacks_the_factor_two", "common: L2 penalty", "W",
    "x=rng.standard_normal((3,4)), W=rng.standard_normal((4,2))",
    """
    def forward(x, W, lam=0.1): return (x @ W).sum() + lam * (W * W).sum()
    """,
    """
    def backward(dy, x, W, lam=0.1): return dy * (x.sum(axis=0)[:, None] + lam * W)
    """,
    """
    def backward(dy, x, W, lam=0.1): return dy * (x.sum(axis=0)[:, None] + 2 * lam * W)
    """,
    says="carries the factor 1/2",
)  # fmt: skip
bug(
    "relu_mask_from_the_wrong_layer", "iamtrask/Grokking-Deep-Learning#56 (ReLU mask of the next layer)", "x W",
    "x=rng.standard_normal((3,4)), W=rng.standard_normal((4,4))",
    """
    def forward(x, W): return np.maximum(x @ W, 0)
    """,
    """
    def backward(dy, x, W):
        dz = dy * (x > 0)
        return dz @ W.T, x.T @ dz
    """,
    """
    def backward(dy, x, W):
        dz = dy * (x @ W > 0)
        return dz @ W.T, x.T @ dz
    """,
    says="mask",
)  # fmt: skip
bug(
    "two_layers_sigmoid_derivative_of_the_output", "tsoding/nn.h#18", "x W",
    "x=rng.standard_normal((3,4)), W=rng.standard_normal((4,2))",
    SIGMOID + "def forward(x, W): return sigmoid(x @ W)\n",
    SIGMOID + "def dsigmoid(z): return sigmoid(z) * (1 - sigmoid(z))\ndef backward(dy, x, W):\n"
    "    a = sigmoid(x @ W)\n    dz = dy * dsigmoid(a)\n    return dz @ W.T, x.T @ dz\n",
    SIGMOID + "def dsigmoid(z): return sigmoid(z) * (1 - sigmoid(z))\ndef backward(dy, x, W):\n"
    "    dz = dy * dsigmoid(x @ W)\n    return dz @ W.T, x.T @ dz\n",
    says="at the activation",
)  # fmt: skip
bug(
    "output_layer_sigmoid_not_differentiated", "Bot-Academy/NeuralNetworkFromScratch#3", "x W V",
    "x=rng.standard_normal((3,4)), W=rng.standard_normal((4,2)), V=rng.standard_normal((2,2)), "
    "t=rng.standard_normal((3,2))",
    SIGMOID + "def forward(x, W, V, t): return ((sigmoid(sigmoid(x @ W) @ V) - t) ** 2).sum() / 2\n",
    SIGMOID + "def backward(dy, x, W, V, t):\n    h = sigmoid(x @ W)\n    o = sigmoid(h @ V)\n    d = dy * (o - t)\n"
    "    dh = d @ V.T * h * (1 - h)\n    return dh @ W.T, x.T @ dh, h.T @ d\n",
    SIGMOID + "def backward(dy, x, W, V, t):\n    h = sigmoid(x @ W)\n    o = sigmoid(h @ V)\n"
    "    d = dy * (o - t) * o * (1 - o)\n    dh = d @ V.T * h * (1 - h)\n    return dh @ W.T, x.T @ dh, h.T @ d\n",
    says="derivative of the sigmoid is missing",
)  # fmt: skip
bug(
    "bias_gradient_times_four", "bighuang624/Andrew-Ng-Deep-Learning-notes#10", "A W b",
    "A=rng.standard_normal((4,5)), W=rng.standard_normal((3,4)), b=rng.standard_normal((3,1))",
    """
    def forward(A, W, b): return ((W @ A + b) ** 2).sum() / (2 * A.shape[1])
    """,
    """
    def backward(dy, A, W, b):
        m = A.shape[1]
        dZ = dy * (W @ A + b)
        return W.T @ dZ / m, dZ @ A.T / m, 4.0 / m * dZ.sum(axis=1, keepdims=True)
    """,
    """
    def backward(dy, A, W, b):
        m = A.shape[1]
        dZ = dy * (W @ A + b)
        return W.T @ dZ / m, dZ @ A.T / m, 1.0 / m * dZ.sum(axis=1, keepdims=True)
    """,
    says="4 times",
)  # fmt: skip
bug(
    "conv_input_gradient_at_the_wrong_index", "NervanaSystems/neon#111", "x w",
    "x=rng.standard_normal(6), w=rng.standard_normal(3)",
    """
    def forward(x, w):
        return np.stack([(x[i:i + len(w)] * w).sum() for i in range(len(x) - len(w) + 1)])
    """,
    """
    def backward(dy, x, w):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(len(dy)):
            dx[i:i + len(w)] += dy[i] * w[::-1]
            dw += dy[i] * x[i:i + len(w)]
        return dx, dw
    """,
    """
    def backward(dy, x, w):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(len(dy)):
            dx[i:i + len(w)] += dy[i] * w
            dw += dy[i] * x[i:i + len(w)]
        return dx, dw
    """,
    says="revers",
)  # fmt: skip
bug(
    "conv_gradient_overwritten_at_overlaps", "common: = for +=", "x w",
    "x=rng.standard_normal(6), w=rng.standard_normal(3)",
    """
    def forward(x, w):
        return np.stack([(x[i:i + len(w)] * w).sum() for i in range(len(x) - len(w) + 1)])
    """,
    """
    def backward(dy, x, w):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(len(dy)):
            dx[i:i + len(w)] = dy[i] * w
            dw += dy[i] * x[i:i + len(w)]
        return dx, dw
    """,
    """
    def backward(dy, x, w):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(len(dy)):
            dx[i:i + len(w)] += dy[i] * w
            dw += dy[i] * x[i:i + len(w)]
        return dx, dw
    """,
    says="+=",
)  # fmt: skip
bug(
    "average_pool_not_divided", "common: average pooling", "x", "x=rng.standard_normal((2,6))",
    """
    def forward(x): return x.reshape(x.shape[0], -1, 2).mean(axis=2)
    """,
    """
    def backward(dy, x): return np.repeat(dy, 2, axis=1)
    """,
    """
    def backward(dy, x): return np.repeat(dy, 2, axis=1) / 2
    """,
    says="2 times",
)  # fmt: skip
bug(
    "layer_norm_gain_summed_over_features", "common: axis of the gain's gradient", "x g",
    "x=rng.standard_normal((3,3)), g=rng.standard_normal(3)",
    """
    def forward(x, g, eps=1e-5):
        c = x - x.mean(axis=1, keepdims=True)
        return g * c / np.sqrt((c * c).mean(axis=1, keepdims=True) + eps)
    """,
    """
    def backward(dy, x, g, eps=1e-5):
        c = x - x.mean(axis=1, keepdims=True)
        r = 1 / np.sqrt((c * c).mean(axis=1, keepdims=True) + eps)
        a = dy * g
        h = c * r
        dx = r * (a - a.mean(axis=1, keepdims=True) - h * (a * h).mean(axis=1, keepdims=True))
        return dx, (dy * h).sum(axis=1)
    """,
    """
    def backward(dy, x, g, eps=1e-5):
        c = x - x.mean(axis=1, keepdims=True)
        r = 1 / np.sqrt((c * c).mean(axis=1, keepdims=True) + eps)
        a = dy * g
        h = c * r
        dx = r * (a - a.mean(axis=1, keepdims=True) - h * (a * h).mean(axis=1, keepdims=True))
        return dx, (dy * h).sum(axis=0)
    """,
    says="axis",
)  # fmt: skip
bug(
    "softplus_threshold_too_low", "common: softplus turns linear at a threshold", "x", "x=rng.standard_normal((3,4))",
    """
    def forward(x): return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
    """,
    """
    def backward(dy, x):
        return dy * np.where(x > 20, 1.0, 1 / (1 + np.exp(-x)))
    """,
    """
    def backward(dy, x):
        e = np.exp(-np.abs(x))
        return dy * np.where(x > 0, 1 / (1 + e), e / (1 + e))
    """,
    says="20",
)  # fmt: skip
bug(
    "hinge_margin_not_compared", "common: hinge loss", "s",
    "s=rng.standard_normal(6), t=np.array([1.,-1.,1.,1.,-1.,-1.])",
    """
    def forward(s, t): return np.maximum(0, 1 - s * t).mean()
    """,
    """
    def backward(dy, s, t):
        return dy * np.where(s * t < 0, -t, 0.0) / len(s)
    """,
    """
    def backward(dy, s, t):
        return dy * np.where(s * t < 1, -t, 0.0) / len(s)
    """,
    says="s * t < 1",
)  # fmt: skip
bug(
    "log_loss_sign_of_the_second_term", "common: sign of the second term", "p",
    "p=rng.uniform(0.1,0.9,6), t=np.array([1.,0.,1.,1.,0.,0.])",
    """
    def forward(p, t): return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    """,
    """
    def backward(dy, p, t): return dy * (-t / p - (1 - t) / (1 - p)) / len(p)
    """,
    """
    def backward(dy, p, t): return dy * (-t / p + (1 - t) / (1 - p)) / len(p)
    """,
    says="must be",
)  # fmt: skip
bug(
    "log_loss_mean_twice", "common: mean of a mean", "p", "p=rng.uniform(0.1,0.9,(3,4)), t=rng.uniform(0,1,(3,4))",
    """
    def forward(p, t): return ((p - t) ** 2).mean(axis=1).mean()
    """,
    """
    def backward(dy, p, t): return dy * 2 * (p - t) / p.shape[0]
    """,
    """
    def backward(dy, p, t): return dy * 2 * (p - t) / p.size
    """,
    says="p.shape[1] times",
)  # fmt: skip
bug(
    "ema_gradient_swaps_the_weights", "common: β and 1 − β exchanged", "a b",
    "a=rng.standard_normal((3,4)), b=rng.standard_normal((3,4))",
    """
    def forward(a, b, beta=0.9): return beta * a + (1 - beta) * b
    """,
    """
    def backward(dy, a, b, beta=0.9): return (1 - beta) * dy, beta * dy
    """,
    """
    def backward(dy, a, b, beta=0.9): return beta * dy, (1 - beta) * dy
    """,
    says="gradient with respect to",
)  # fmt: skip
bug(
    "division_gradient_by_the_denominator_once", "common: −x/y for −x/y²", "x y",
    "x=rng.standard_normal((3,4)), y=rng.uniform(1,2,(3,4))",
    """
    def forward(x, y): return x / y
    """,
    """
    def backward(dy, x, y): return dy / y, -dy * x / y
    """,
    """
    def backward(dy, x, y): return dy / y, -dy * x / y ** 2
    """,
    says="factor in the path",
)  # fmt: skip
bug(
    "broadcast_scale_not_summed", "common: unbroadcasting a scalar parameter", "x s",
    "x=rng.standard_normal((3,4)), s=rng.standard_normal((1,4))",
    """
    def forward(x, s): return x * s
    """,
    """
    def backward(dy, x, s): return dy * s, (dy * x).mean(axis=0, keepdims=True)
    """,
    """
    def backward(dy, x, s): return dy * s, (dy * x).sum(axis=0, keepdims=True)
    """,
    says="divided by x.shape[0]",
)  # fmt: skip
bug(
    "prelu_slope_gradient_over_all_entries", "common: mask of the negative part", "x a",
    "x=rng.standard_normal((3,4)), a=rng.standard_normal(4)",
    """
    def forward(x, a): return np.where(x > 0, x, a * x)
    """,
    """
    def backward(dy, x, a): return dy * np.where(x > 0, 1.0, a), (dy * x).sum(axis=0)
    """,
    """
    def backward(dy, x, a): return dy * np.where(x > 0, 1.0, a), (dy * x * (x <= 0)).sum(axis=0)
    """,
    says="mask",
)  # fmt: skip
bug(
    "triplet_loss_negative_sign", "common: sign of the negative distance", "a p n",
    "a=rng.standard_normal((3,2)), p=rng.standard_normal((3,2)), n=rng.standard_normal((3,2))",
    """
    def forward(a, p, n, margin=8.0):
        return np.maximum(((a - p) ** 2).sum(axis=1) - ((a - n) ** 2).sum(axis=1) + margin, 0).sum()
    """,
    """
    def backward(dy, a, p, n, margin=8.0):
        on = (((a - p) ** 2).sum(axis=1) - ((a - n) ** 2).sum(axis=1) + margin > 0)[:, None]
        return dy * on * 2 * (n - p), dy * on * -2 * (a - p), dy * on * -2 * (a - n)
    """,
    """
    def backward(dy, a, p, n, margin=8.0):
        on = (((a - p) ** 2).sum(axis=1) - ((a - n) ** 2).sum(axis=1) + margin > 0)[:, None]
        return dy * on * 2 * (n - p), dy * on * -2 * (a - p), dy * on * 2 * (a - n)
    """,
    says="the sign is wrong",
)  # fmt: skip
bug(
    "rotary_embedding_rotated_the_same_way_back", "common: the inverse rotation", "x",
    "x=rng.standard_normal((3,4)), th=rng.standard_normal((3,2))",
    """
    def forward(x, th):
        a, b = x[:, ::2], x[:, 1::2]
        return np.concatenate([a * np.cos(th) - b * np.sin(th), a * np.sin(th) + b * np.cos(th)], axis=1)
    """,
    """
    def backward(dy, x, th):
        u, v = np.split(dy, 2, axis=1)
        dx = np.zeros_like(x)
        dx[:, ::2] = u * np.cos(th) - v * np.sin(th)
        dx[:, 1::2] = u * np.sin(th) + v * np.cos(th)
        return dx
    """,
    """
    def backward(dy, x, th):
        u, v = np.split(dy, 2, axis=1)
        dx = np.zeros_like(x)
        dx[:, ::2] = u * np.cos(th) + v * np.sin(th)
        dx[:, 1::2] = v * np.cos(th) - u * np.sin(th)
        return dx
    """,
    says="the sign of th is wrong",
)  # fmt: skip
bug(
    "label_smoothing_ignored", "common: smoothed targets in forward only", "z",
    "z=rng.standard_normal((3,4)), t=np.eye(4)[[0,2,1]]",
    """
    def forward(z, t, smooth=0.1):
        q = t * (1 - smooth) + smooth / t.shape[1]
        s = z - z.max(axis=1, keepdims=True)
        return -(q * (s - np.log(np.exp(s).sum(axis=1, keepdims=True)))).sum() / len(z)
    """,
    """
    def backward(dy, z, t, smooth=0.1):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy * (e / e.sum(axis=1, keepdims=True) - t) / len(z)
    """,
    """
    def backward(dy, z, t, smooth=0.1):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return dy * (e / e.sum(axis=1, keepdims=True) - t * (1 - smooth) - smooth / t.shape[1]) / len(z)
    """,
    says="smooth is ignored",
)  # fmt: skip
bug(
    "group_norm_sums_for_a_mean", "common: sum for mean within a group", "x",
    "x=rng.standard_normal((3,4)), g=rng.standard_normal(4)",
    """
    def forward(x, g, eps=1e-5):
        y = x.reshape(x.shape[0], 2, -1)
        m, v = y.mean(axis=2, keepdims=True), y.var(axis=2, keepdims=True)
        return g * ((y - m) / np.sqrt(v + eps)).reshape(x.shape)
    """,
    """
    def backward(dy, x, g, eps=1e-5):
        y = x.reshape(x.shape[0], 2, -1)
        r = 1 / np.sqrt(y.var(axis=2, keepdims=True) + eps)
        h = (y - y.mean(axis=2, keepdims=True)) * r
        a = (dy * g).reshape(y.shape)
        return (r * (a - a.mean(axis=2, keepdims=True) - h * (a * h).sum(axis=2, keepdims=True))).reshape(x.shape)
    """,
    """
    def backward(dy, x, g, eps=1e-5):
        y = x.reshape(x.shape[0], 2, -1)
        r = 1 / np.sqrt(y.var(axis=2, keepdims=True) + eps)
        h = (y - y.mean(axis=2, keepdims=True)) * r
        a = (dy * g).reshape(y.shape)
        return (r * (a - a.mean(axis=2, keepdims=True) - h * (a * h).mean(axis=2, keepdims=True))).reshape(x.shape)
    """,
    says="(a * h).mean(axis=2, keepdims=True)",
)  # fmt: skip
