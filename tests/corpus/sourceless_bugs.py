"""Gradient bugs of public trackers in our own words, to be run without their source (by ``exec``), and controls.

The rows have the schema of ``bugs.json`` and ``controls.json``, and three more fields: the finding that must fail,
words that its diagnosis or its reason must contain, and whether the row belongs to the quick tests.
"""

import textwrap

BUGS: list[dict] = []
CONTROLS: list[dict] = []


def _code(text):
    return "import numpy as np\n" + textwrap.dedent(text).strip() + "\n"


def bug(name, source, wrt, inputs, forward, wrong, right, *, finding="formula", says, quick=False):
    """Add one row; the sources are functions named ``forward`` and ``backward``."""
    BUGS.append(
        {
            "name": name, "source": source, "forward": _code(forward), "backward_buggy": _code(wrong),
            "backward_correct": _code(right), "wrt": wrt.split(), "generic_inputs": inputs, "finding": finding,
            "says": says, "quick": quick,
        }
    )  # fmt: skip


def control(name, wrt, inputs, forward, accused):
    """Add one correct gradient that looks wrong."""
    CONTROLS.append(
        {
            "name": name, "forward": _code(forward), "backward_accused": _code(accused), "wrt": wrt.split(),
            "inputs": inputs,
        }
    )  # fmt: skip


# fmt: off
bug(
    "rmsnorm_missing_projection", "facebookresearch/CrypTen#143", "x w",
    "dict(x=rng.standard_normal((3,5)),w=rng.standard_normal(5))",
    """
    def forward(x, w, eps=1e-06):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w
    """,
    """
    def backward(dy, x, w, eps=1e-06):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        return (dy * w * r, (dy * x * r).sum(0))
    """,
    """
    def backward(dy, x, w, eps=1e-06):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        g = dy * w
        return (g * r - x * r ** 3 * (g * x).mean(-1, keepdims=True), (dy * x * r).sum(0))
    """,
    says="the path through sum/mean (line 3 of forward) is missing",
)
bug(
    "batchnorm_statistics_constant", "facebookresearch/CrypTen#143", "x g b",
    "dict(x=rng.standard_normal((6,3)),g=rng.standard_normal(3),b=rng.standard_normal(3))",
    """
    def forward(x, g, b, eps=1e-05):
        mu = x.mean(0)
        var = x.var(0)
        return (x - mu) / np.sqrt(var + eps) * g + b
    """,
    """
    def backward(dy, x, g, b, eps=1e-05):
        mu = x.mean(0)
        inv = 1 / np.sqrt(x.var(0) + eps)
        h = (x - mu) * inv
        return (dy * g * inv, (dy * h).sum(0), dy.sum(0))
    """,
    """
    def backward(dy, x, g, b, eps=1e-05):
        n = x.shape[0]
        mu = x.mean(0)
        inv = 1 / np.sqrt(x.var(0) + eps)
        h = (x - mu) * inv
        a = dy * g
        return (inv * (a - a.mean(0) - h * (a * h).mean(0)), (dy * h).sum(0), dy.sum(0))
    """,
    says="the path through the reductions is missing",
)
bug(
    "layernorm_unbiased_in_backward", "common", "x",
    "dict(x=rng.standard_normal((3,5)))",
    """
    def forward(x, eps=1e-05):
        m = x.mean(-1, keepdims=True)
        v = x.var(-1, keepdims=True)
        return (x - m) / np.sqrt(v + eps)
    """,
    """
    def backward(dy, x, eps=1e-05):
        m = x.mean(-1, keepdims=True)
        s = np.sqrt(x.var(-1, keepdims=True, ddof=1) + eps)
        h = (x - m) / s
        return ((dy - dy.mean(-1, keepdims=True) - h * (dy * h).mean(-1, keepdims=True)) / s,)
    """,
    """
    def backward(dy, x, eps=1e-05):
        m = x.mean(-1, keepdims=True)
        s = np.sqrt(x.var(-1, keepdims=True) + eps)
        h = (x - m) / s
        return ((dy - dy.mean(-1, keepdims=True) - h * (dy * h).mean(-1, keepdims=True)) / s,)
    """,
    says="the constant 1 must be 0",
)
bug(
    "layernorm_eps_outside_sqrt", "common", "x",
    "dict(x=rng.standard_normal((3,5)))",
    """
    def forward(x, eps=1e-05):
        m = x.mean(-1, keepdims=True)
        v = ((x - m) ** 2).mean(-1, keepdims=True)
        return (x - m) / np.sqrt(v + eps)
    """,
    """
    def backward(dy, x, eps=1e-05):
        m = x.mean(-1, keepdims=True)
        s = np.sqrt(((x - m) ** 2).mean(-1, keepdims=True)) + eps
        h = (x - m) / s
        return ((dy - dy.mean(-1, keepdims=True) - h * (dy * h).mean(-1, keepdims=True)) / s,)
    """,
    """
    def backward(dy, x, eps=1e-05):
        m = x.mean(-1, keepdims=True)
        s = np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + eps)
        h = (x - m) / s
        return ((dy - dy.mean(-1, keepdims=True) - h * (dy * h).mean(-1, keepdims=True)) / s,)
    """,
    says="ε belongs under the root", quick=True,
)
bug(
    "groupnorm_mean_over_all_channels", "pytorch#176272", "x",
    "dict(x=rng.standard_normal((2,4,3)))",
    """
    def forward(x, groups=2, eps=1e-05):
        n, c, l = x.shape
        z = x.reshape(n, groups, -1)
        m = z.mean(-1, keepdims=True)
        v = z.var(-1, keepdims=True)
        return ((z - m) / np.sqrt(v + eps)).reshape(n, c, l)
    """,
    """
    def backward(dy, x, groups=2, eps=1e-05):
        n, c, l = x.shape
        z = x.reshape(n, groups, -1)
        d = dy.reshape(n, groups, -1)
        m = z.mean(-1, keepdims=True)
        s = np.sqrt(z.var(-1, keepdims=True) + eps)
        h = (z - m) / s
        k = c * l
        return (((d - d.sum(-1, keepdims=True) / k - h * (d * h).sum(-1, keepdims=True) / k) / s).reshape(n, c, l),)
    """,
    """
    def backward(dy, x, groups=2, eps=1e-05):
        n, c, l = x.shape
        z = x.reshape(n, groups, -1)
        d = dy.reshape(n, groups, -1)
        m = z.mean(-1, keepdims=True)
        s = np.sqrt(z.var(-1, keepdims=True) + eps)
        h = (z - m) / s
        k = c * l // groups
        return (((d - d.sum(-1, keepdims=True) / k - h * (d * h).sum(-1, keepdims=True) / k) / s).reshape(n, c, l),)
    """,
    says="c must be groups", quick=True,
)
bug(
    "ce_ignore_index_wrong_count", "pytorch#30984, tinygrad#3570", "z",
    "dict(z=rng.standard_normal((5,3)),t=np.array([0,2,-100,1,-100]))",
    """
    def forward(z, t):
        k = t != -100
        zz = z[k]
        y = t[k]
        a = zz - zz.max(1, keepdims=True)
        return -(a[np.arange(len(y)), y] - np.log(np.exp(a).sum(1))).mean()
    """,
    """
    def backward(dy, z, t):
        k = t != -100
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        g = p - np.eye(z.shape[1])[np.where(k, t, 0)]
        g = g * k[:, None]
        return (dy * g / len(t),)
    """,
    """
    def backward(dy, z, t):
        k = t != -100
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        g = p - np.eye(z.shape[1])[np.where(k, t, 0)]
        g = g * k[:, None]
        return (dy * g / k.sum(),)
    """,
    says="divided by z.shape[0], it must be the number of terms averaged", quick=True,
)
bug(
    "ce_ignored_rows_get_gradient", "pytorch#73205", "z",
    "dict(z=rng.standard_normal((4,3)),t=np.array([0,2,1,1]),m=np.array([1.0,0.0,1.0,1.0]))",
    """
    def forward(z, t, m):
        a = z - z.max(1, keepdims=True)
        l = np.log(np.exp(a).sum(1)) - a[np.arange(len(t)), t]
        return (l * m).sum() / m.sum()
    """,
    """
    def backward(dy, z, t, m):
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        p[np.arange(len(t)), t] -= 1
        return (dy * p / m.sum(),)
    """,
    """
    def backward(dy, z, t, m):
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        p[np.arange(len(t)), t] -= 1
        return (dy * p * m[:, None] / m.sum(),)
    """,
    says="the factor m is missing", quick=True,
)
bug(
    "label_smoothing_k_minus_1", "pytorch PR#63122", "z",
    "dict(z=rng.standard_normal((4,3)),y=np.eye(3)[[0,2,1,1]])",
    """
    def forward(z, y, eps=0.1):
        k = z.shape[1]
        a = z - z.max(1, keepdims=True)
        lp = a - np.log(np.exp(a).sum(1, keepdims=True))
        return -((y * (1 - eps) + eps / k) * lp).sum() / len(z)
    """,
    """
    def backward(dy, z, y, eps=0.1):
        k = z.shape[1]
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (dy * (p - (y * (1 - eps) + (1 - y) * eps / (k - 1))) / len(z),)
    """,
    """
    def backward(dy, z, y, eps=0.1):
        k = z.shape[1]
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (dy * (p - (y * (1 - eps) + eps / k)) / len(z),)
    """,
    says="in place of eps", quick=True,
)
bug(
    "distillation_temperature_twice", "common", "z",
    "dict(z=rng.standard_normal((3,4)),q=np.full((3,4),0.25))",
    """
    def forward(z, q, T=2.0):
        a = z / T
        a = a - a.max(1, keepdims=True)
        lp = a - np.log(np.exp(a).sum(1, keepdims=True))
        return -(q * lp).sum()
    """,
    """
    def backward(dy, z, q, T=2.0):
        a = z / T
        e = np.exp(a - a.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (dy * (p * q.sum(1, keepdims=True) - q) / T / T,)
    """,
    """
    def backward(dy, z, q, T=2.0):
        a = z / T
        e = np.exp(a - a.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (dy * (p * q.sum(1, keepdims=True) - q) / T,)
    """,
    says="a factor 2 is missing",
)
bug(
    "rope_not_transposed", "common", "x",
    "dict(x=rng.standard_normal((3,4)),th=rng.standard_normal((3,2)))",
    """
    def forward(x, th):
        a, b = (x[:, :2], x[:, 2:])
        c, s = (np.cos(th), np.sin(th))
        return np.concatenate([a * c - b * s, a * s + b * c], axis=1)
    """,
    """
    def backward(dy, x, th):
        a, b = (dy[:, :2], dy[:, 2:])
        c, s = (np.cos(th), np.sin(th))
        return (np.concatenate([a * c - b * s, a * s + b * c], axis=1),)
    """,
    """
    def backward(dy, x, th):
        a, b = (dy[:, :2], dy[:, 2:])
        c, s = (np.cos(th), np.sin(th))
        return (np.concatenate([a * c + b * s, b * c - a * s], axis=1),)
    """,
    says="the sign of th is wrong",
)
bug(
    "attention_scale_squared", "common", "q k v",
    "dict(q=rng.standard_normal((3,4)),k=rng.standard_normal((5,4)),v=rng.standard_normal((5,2)))",
    """
    def forward(q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        e = np.exp(s - s.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True) @ v
    """,
    """
    def backward(dy, q, k, v):
        c = 1 / np.sqrt(q.shape[1])
        s = q @ k.T * c
        e = np.exp(s - s.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(1, keepdims=True)) * c
        return (ds @ k * c, ds.T @ q * c, p.T @ dy)
    """,
    """
    def backward(dy, q, k, v):
        c = 1 / np.sqrt(q.shape[1])
        s = q @ k.T * c
        e = np.exp(s - s.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(1, keepdims=True)) * c
        return (ds @ k, ds.T @ q, p.T @ dy)
    """,
    says="once too often",
)
bug(
    "attention_dk_without_scale", "common", "q k v",
    "dict(q=rng.standard_normal((3,4)),k=rng.standard_normal((5,4)),v=rng.standard_normal((5,2)))",
    """
    def forward(q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        e = np.exp(s - s.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True) @ v
    """,
    """
    def backward(dy, q, k, v):
        c = 1 / np.sqrt(q.shape[1])
        s = q @ k.T * c
        e = np.exp(s - s.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(1, keepdims=True))
        return (ds @ k * c, ds.T @ q, p.T @ dy)
    """,
    """
    def backward(dy, q, k, v):
        c = 1 / np.sqrt(q.shape[1])
        s = q @ k.T * c
        e = np.exp(s - s.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(1, keepdims=True)) * c
        return (ds @ k, ds.T @ q, p.T @ dy)
    """,
    says="the factor 1/√q.shape[1] is missing",
)
bug(
    "conv1d_dx_kernel_flipped", "common", "x w",
    "dict(x=rng.standard_normal((2,7)),w=rng.standard_normal(3))",
    """
    def forward(x, w):
        n = x.shape[1] - w.shape[0] + 1
        out = 0
        for k in range(w.shape[0]):
            out = out + w[k] * x[:, k:k + n]
        return out
    """,
    """
    def backward(dy, x, w):
        K = w.shape[0]
        n = dy.shape[1]
        dx = np.zeros_like(x)
        dw = np.zeros_like(w)
        for k in range(K):
            dx[:, k:k + n] += w[K - 1 - k] * dy
            dw[k] = (dy * x[:, k:k + n]).sum()
        return (dx, dw)
    """,
    """
    def backward(dy, x, w):
        K = w.shape[0]
        n = dy.shape[1]
        dx = np.zeros_like(x)
        dw = np.zeros_like(w)
        for k in range(K):
            dx[:, k:k + n] += w[k] * dy
            dw[k] = (dy * x[:, k:k + n]).sum()
        return (dx, dw)
    """,
    says="reverse order",
)
bug(
    "conv1d_dx_overwritten", "common", "x w",
    "dict(x=rng.standard_normal((2,7)),w=rng.standard_normal(3))",
    """
    def forward(x, w):
        n = x.shape[1] - w.shape[0] + 1
        out = 0
        for k in range(w.shape[0]):
            out = out + w[k] * x[:, k:k + n]
        return out
    """,
    """
    def backward(dy, x, w):
        K = w.shape[0]
        n = dy.shape[1]
        dx = np.zeros_like(x)
        dw = np.zeros_like(w)
        for k in range(K):
            dx[:, k:k + n] = w[k] * dy
            dw[k] = (dy * x[:, k:k + n]).sum()
        return (dx, dw)
    """,
    """
    def backward(dy, x, w):
        K = w.shape[0]
        n = dy.shape[1]
        dx = np.zeros_like(x)
        dw = np.zeros_like(w)
        for k in range(K):
            dx[:, k:k + n] += w[k] * dy
            dw[k] = (dy * x[:, k:k + n]).sum()
        return (dx, dw)
    """,
    says="they must be added", quick=True,
)
bug(
    "avgpool_pad_count", "pytorch#198119, burn#5604", "x",
    "dict(x=rng.standard_normal((2,6)))",
    """
    def forward(x):
        z = np.zeros((x.shape[0], 1))
        p = np.concatenate([z, x, z], axis=1)
        n = x.shape[1]
        cnt = np.full(n, 3.0)
        cnt[0] = 2
        cnt[-1] = 2
        return (p[:, :n] + p[:, 1:n + 1] + p[:, 2:n + 2]) / cnt
    """,
    """
    def backward(dy, x):
        n = x.shape[1]
        d = np.zeros((x.shape[0], n + 2))
        g = dy / 3
        d[:, :n] += g
        d[:, 1:n + 1] += g
        d[:, 2:n + 2] += g
        return (d[:, 1:-1],)
    """,
    """
    def backward(dy, x):
        n = x.shape[1]
        d = np.zeros((x.shape[0], n + 2))
        cnt = np.full(n, 3.0)
        cnt[0] = 2
        cnt[-1] = 2
        g = dy / cnt
        d[:, :n] += g
        d[:, 1:n + 1] += g
        d[:, 2:n + 2] += g
        return (d[:, 1:-1],)
    """,
    says="divided by 3 everywhere", quick=True,
)
bug(
    "upsample_weights_swapped", "common", "x",
    "dict(x=rng.standard_normal((2,4)))",
    """
    def forward(x):
        l = np.concatenate([x[:, :1], x[:, :-1]], axis=1)
        r = np.concatenate([x[:, 1:], x[:, -1:]], axis=1)
        return np.stack([0.25 * l + 0.75 * x, 0.75 * x + 0.25 * r], axis=2).reshape(x.shape[0], -1)
    """,
    """
    def backward(dy, x):
        d = dy.reshape(x.shape[0], x.shape[1], 2)
        a, b = (d[:, :, 0], d[:, :, 1])
        g = 0.25 * (a + b)
        g[:, :-1] += 0.75 * a[:, 1:]
        g[:, 0] += 0.75 * a[:, 0]
        g[:, 1:] += 0.75 * b[:, :-1]
        g[:, -1] += 0.75 * b[:, -1]
        return (g,)
    """,
    """
    def backward(dy, x):
        d = dy.reshape(x.shape[0], x.shape[1], 2)
        a, b = (d[:, :, 0], d[:, :, 1])
        g = 0.75 * (a + b)
        g[:, :-1] += 0.25 * a[:, 1:]
        g[:, 0] += 0.25 * a[:, 0]
        g[:, 1:] += 0.25 * b[:, :-1]
        g[:, -1] += 0.25 * b[:, -1]
        return (g,)
    """,
    says="the constants 0.25 and 0.75 are exchanged", quick=True,
)
bug(
    "embedding_duplicates_overwritten", "common", "W",
    "dict(W=rng.standard_normal((5,3)),i=np.array([1,4,1,0]))",
    """
    def forward(W, i):
        return W[i]
    """,
    """
    def backward(dy, W, i):
        d = np.zeros_like(W)
        d[i] += dy
        return (d,)
    """,
    """
    def backward(dy, W, i):
        d = np.zeros_like(W)
        np.add.at(d, i, dy)
        return (d,)
    """,
    says="np.add.at", quick=True,
)
bug(
    "cumsum_not_reversed", "common", "x",
    "dict(x=rng.standard_normal((2,5)))",
    """
    def forward(x):
        return np.cumsum(x, axis=1)
    """,
    """
    def backward(dy, x):
        return (np.cumsum(dy, axis=1),)
    """,
    """
    def backward(dy, x):
        return (np.cumsum(dy[:, ::-1], axis=1)[:, ::-1],)
    """,
    says="accumulated in reverse order", quick=True,
)
bug(
    "cumprod_divides_by_input", "tensorflow#3862, tensorflow#119430, burn#3864, pytensor#1956", "x",
    "dict(x=rng.standard_normal(5))",
    """
    def forward(x):
        return np.cumprod(x)
    """,
    """
    def backward(dy, x):
        y = np.cumprod(x)
        return (np.cumsum((dy * y)[::-1])[::-1] / x,)
    """,
    """
    def backward(dy, x):
        n = len(x)
        g = np.zeros_like(x)
        left = 1.0
        for i in range(n):
            t = 0.0 * x[0]
            r = 1.0
            for j in range(i, n):
                if j > i:
                    r = r * x[j]
                t = t + dy[j] * r
            g[i] = left * t
            left = left * x[i]
        return (g,)
    """,
    finding="domain", says="nan", quick=True,
)
bug(
    "logsumexp_no_max", "pytorch#49724", "x",
    "dict(x=rng.standard_normal((2,4)))",
    """
    def forward(x):
        m = x.max(1, keepdims=True)
        return np.log(np.exp(x - m).sum(1)) + m[:, 0]
    """,
    """
    def backward(dy, x):
        e = np.exp(x)
        return (dy[:, None] * e / e.sum(1, keepdims=True),)
    """,
    """
    def backward(dy, x):
        e = np.exp(x - x.max(1, keepdims=True))
        return (dy[:, None] * e / e.sum(1, keepdims=True),)
    """,
    finding="domain", says="nan",
)
bug(
    "atan2_sign_swapped", "common", "y x",
    "dict(y=rng.standard_normal(4),x=rng.standard_normal(4))",
    """
    def forward(y, x):
        return np.arctan2(y, x)
    """,
    """
    def backward(dy, y, x):
        r = x * x + y * y
        return (-dy * x / r, dy * y / r)
    """,
    """
    def backward(dy, y, x):
        r = x * x + y * y
        return (dy * x / r, -dy * y / r)
    """,
    says="the sign is wrong", quick=True,
)
bug(
    "focal_loss_pt_constant", "common", "z",
    "dict(z=rng.standard_normal(6),y=np.array([1.,0,1,0,0,1]))",
    """
    def forward(z, y, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        pt = y * p + (1 - y) * (1 - p)
        return -((1 - pt) ** gamma * np.log(pt)).sum()
    """,
    """
    def backward(dy, z, y, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        pt = y * p + (1 - y) * (1 - p)
        return (dy * (1 - pt) ** gamma * (p - y),)
    """,
    """
    def backward(dy, z, y, gamma=2.0):
        p = 1 / (1 + np.exp(-z))
        pt = y * p + (1 - y) * (1 - p)
        s = 2 * y - 1
        return (dy * s * (1 - pt) ** gamma * (gamma * pt * np.log(pt) - (1 - pt)),)
    """,
    says="the path through np.power",
)
bug(
    "gru_reset_gate_path_missing", "common", "h u r U",
    "dict(h=rng.standard_normal((2,3)),u=rng.standard_normal((2,3)),"
    "r=rng.standard_normal((2,3)),U=rng.standard_normal((3,3)))",
    """
    def forward(h, u, r, U):
        z = 1 / (1 + np.exp(-u))
        s = 1 / (1 + np.exp(-r))
        n = np.tanh(s * h @ U)
        return (1 - z) * n + z * h
    """,
    """
    def backward(dy, h, u, r, U):
        z = 1 / (1 + np.exp(-u))
        s = 1 / (1 + np.exp(-r))
        n = np.tanh(s * h @ U)
        da = dy * (1 - z) * (1 - n * n)
        q = da @ U.T
        return (dy * z + q, dy * (h - n) * z * (1 - z), q * h * s * (1 - s), (s * h).T @ da)
    """,
    """
    def backward(dy, h, u, r, U):
        z = 1 / (1 + np.exp(-u))
        s = 1 / (1 + np.exp(-r))
        n = np.tanh(s * h @ U)
        da = dy * (1 - z) * (1 - n * n)
        q = da @ U.T
        return (dy * z + q * s, dy * (h - n) * z * (1 - z), q * h * s * (1 - s), (s * h).T @ da)
    """,
    says="the factor that np.divide gives",
)
bug(
    "lstm_bias_grads_of_forget_gate", "hanbt/learn_dl#53", "a bi bf bo",
    "dict(a=rng.standard_normal((3,2)),c=rng.standard_normal((3,2)),"
    "bi=rng.standard_normal(2),bf=rng.standard_normal(2),bo=rng.standard_normal(2))",
    """
    def forward(a, c, bi, bf, bo):
        i = 1 / (1 + np.exp(-a - bi))
        f = 1 / (1 + np.exp(-a - bf))
        o = 1 / (1 + np.exp(-a - bo))
        return o * np.tanh(f * c + i * np.tanh(a))
    """,
    """
    def backward(dy, a, c, bi, bf, bo):
        i = 1 / (1 + np.exp(-a - bi))
        f = 1 / (1 + np.exp(-a - bf))
        o = 1 / (1 + np.exp(-a - bo))
        g = np.tanh(a)
        t = np.tanh(f * c + i * g)
        do = dy * t * o * (1 - o)
        dc = dy * o * (1 - t * t)
        df = dc * c * f * (1 - f)
        di = dc * g * i * (1 - i)
        return (do + df + di + dc * i * (1 - g * g), df.sum(0), df.sum(0), df.sum(0))
    """,
    """
    def backward(dy, a, c, bi, bf, bo):
        i = 1 / (1 + np.exp(-a - bi))
        f = 1 / (1 + np.exp(-a - bf))
        o = 1 / (1 + np.exp(-a - bo))
        g = np.tanh(a)
        t = np.tanh(f * c + i * g)
        do = dy * t * o * (1 - o)
        dc = dy * o * (1 - t * t)
        df = dc * c * f * (1 - f)
        di = dc * g * i * (1 - i)
        return (do + df + di + dc * i * (1 - g * g), di.sum(0), df.sum(0), do.sum(0))
    """,
    says="yours is the gradient with respect to bf",
)
bug(
    "rnn_truncated_to_last_step", "common", "x W",
    "dict(x=rng.standard_normal((3,2)),W=rng.standard_normal((2,2)))",
    """
    def forward(x, W):
        h = np.zeros(W.shape[0])
        for t in range(x.shape[0]):
            h = np.tanh(x[t] + h @ W)
        return h
    """,
    """
    def backward(dy, x, W):
        hs = [np.zeros(W.shape[0])]
        for t in range(x.shape[0]):
            hs.append(np.tanh(x[t] + hs[-1] @ W))
        dx = np.zeros_like(x)
        dW = np.zeros_like(W)
        d = dy
        for t in reversed(range(x.shape[0])):
            a = d * (1 - hs[t + 1] ** 2)
            dx[t] = a
            dW = np.outer(hs[t], a)
            d = a @ W.T
        return (dx, dW)
    """,
    """
    def backward(dy, x, W):
        hs = [np.zeros(W.shape[0])]
        for t in range(x.shape[0]):
            hs.append(np.tanh(x[t] + hs[-1] @ W))
        dx = np.zeros_like(x)
        dW = np.zeros_like(W)
        d = dy
        for t in reversed(range(x.shape[0])):
            a = d * (1 - hs[t + 1] ** 2)
            dx[t] = a
            dW += np.outer(hs[t], a)
            d = a @ W.T
        return (dx, dW)
    """,
    says="they must be added", quick=True,
)
bug(
    "bidirectional_not_flipped_back", "apache/mxnet#18203", "x",
    "dict(x=rng.standard_normal((4,2)))",
    """
    def forward(x):
        return np.concatenate([np.cumsum(np.tanh(x), axis=0), np.cumsum(np.tanh(x)[::-1], axis=0)[::-1]], axis=1)
    """,
    """
    def backward(dy, x):
        d = x.shape[1]
        a, b = (dy[:, :d], dy[:, d:])
        t = np.tanh(x)
        return ((np.cumsum(a[::-1], axis=0)[::-1] + np.cumsum(b[::-1], axis=0)[::-1]) * (1 - t * t),)
    """,
    """
    def backward(dy, x):
        d = x.shape[1]
        a, b = (dy[:, :d], dy[:, d:])
        t = np.tanh(x)
        return ((np.cumsum(a[::-1], axis=0)[::-1] + np.cumsum(b, axis=0)) * (1 - t * t),)
    """,
    says="accumulated in reverse order", quick=True,
)
bug(
    "weightnorm_no_projection", "common", "v g",
    "dict(v=rng.standard_normal((3,4)),g=rng.standard_normal((3,1)))",
    """
    def forward(v, g):
        return g * v / np.sqrt((v * v).sum(1, keepdims=True))
    """,
    """
    def backward(dy, v, g):
        n = np.sqrt((v * v).sum(1, keepdims=True))
        return (dy * g / n, (dy * v / n).sum(1, keepdims=True))
    """,
    """
    def backward(dy, v, g):
        n = np.sqrt((v * v).sum(1, keepdims=True))
        dg = (dy * v / n).sum(1, keepdims=True)
        return (g / n * (dy - dg * v / n), dg)
    """,
    says="the path through sum/mean (line 3 of forward) is missing",
)
bug(
    "spectral_sigma_detached", "common", "W",
    "dict(W=rng.standard_normal((3,4)),u=rng.standard_normal(3),v=rng.standard_normal(4))",
    """
    def forward(W, u, v):
        return W / (u @ W @ v)
    """,
    """
    def backward(dy, W, u, v):
        return (dy / (u @ W @ v),)
    """,
    """
    def backward(dy, W, u, v):
        s = u @ W @ v
        return (dy / s - (dy * W).sum() / s ** 2 * np.outer(u, v),)
    """,
    says="the path through np.matmul (line 3 of forward) is missing",
)
bug(
    "cosine_norms_not_squared", "common", "a b",
    "dict(a=rng.standard_normal((3,4)),b=rng.standard_normal((3,4)))",
    """
    def forward(a, b):
        na = np.sqrt((a * a).sum(1))
        nb = np.sqrt((b * b).sum(1))
        return (a * b).sum(1) / (na * nb)
    """,
    """
    def backward(dy, a, b):
        na = np.sqrt((a * a).sum(1, keepdims=True))
        nb = np.sqrt((b * b).sum(1, keepdims=True))
        c = (a * b).sum(1, keepdims=True) / (na * nb)
        d = dy[:, None]
        return (d * (b / (na * nb) - c * a / na), d * (a / (na * nb) - c * b / nb))
    """,
    """
    def backward(dy, a, b):
        na = np.sqrt((a * a).sum(1, keepdims=True))
        nb = np.sqrt((b * b).sum(1, keepdims=True))
        c = (a * b).sum(1, keepdims=True) / (na * nb)
        d = dy[:, None]
        return (d * (b / (na * nb) - c * a / na ** 2), d * (a / (na * nb) - c * b / nb ** 2))
    """,
    says="the result of np.sqrt", quick=True,
)
bug(
    "triplet_negative_sign", "common", "a p n",
    "dict(a=rng.standard_normal((3,4)),p=rng.standard_normal((3,4)),n=rng.standard_normal((3,4)))",
    """
    def forward(a, p, n, margin=0.5):
        return np.maximum(((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + margin, 0).sum()
    """,
    """
    def backward(dy, a, p, n, margin=0.5):
        m = (((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + margin > 0)[:, None]
        return (dy * 2 * m * (n - p), dy * 2 * m * (p - a), dy * 2 * m * (n - a))
    """,
    """
    def backward(dy, a, p, n, margin=0.5):
        m = (((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + margin > 0)[:, None]
        return (dy * 2 * m * (n - p), dy * 2 * m * (p - a), dy * 2 * m * (a - n))
    """,
    says="the sign is wrong",
)
bug(
    "huber_sign_without_delta", "common", "x",
    "dict(x=3*rng.standard_normal((3,4)),t=rng.standard_normal((3,4)))",
    """
    def forward(x, t, delta=1.0):
        r = x - t
        a = np.abs(r)
        return np.where(a <= delta, r * r / 2, delta * (a - delta / 2)).mean()
    """,
    """
    def backward(dy, x, t, delta=1.0):
        r = x - t
        return (dy * np.where(np.abs(r) <= delta, r, np.sign(r)) / r.size,)
    """,
    """
    def backward(dy, x, t, delta=1.0):
        r = x - t
        return (dy * np.where(np.abs(r) <= delta, r, delta * np.sign(r)) / r.size,)
    """,
    says="the factor delta is missing",
)
bug(
    "quantile_kink_zero_outside", "common", "x",
    "dict(x=rng.standard_normal(5))",
    """
    def forward(x):
        return np.where(x > 0, 0.9 * x, -0.1 * x) + x * 0.5
    """,
    """
    def backward(dy, x):
        return (dy * np.where(x > 0, 1.4, np.where(x < 0, 0.4, 0.0)),)
    """,
    """
    def backward(dy, x):
        return (dy * np.where(x > 0, 1.4, 0.4),)
    """,
    finding="kinks", says="yours 0, one-sided derivatives",
)
bug(
    "abs_outside_the_interval_at_zero", "common", "x",
    "dict(x=rng.standard_normal(5))",
    """
    def forward(x):
        return np.abs(x)
    """,
    """
    def backward(dy, x):
        return (dy * ((x >= 0) * 2.0 - 1 + (x == 0)),)
    """,
    """
    def backward(dy, x):
        return (dy * np.sign(x),)
    """,
    finding="kinks", says="one-sided derivatives",
)
bug(
    "hinge_mask_without_label", "common", "s",
    "dict(s=rng.standard_normal(6),y=np.array([1.,-1,1,-1,-1,1]))",
    """
    def forward(s, y):
        return np.maximum(1 - y * s, 0).mean()
    """,
    """
    def backward(dy, s, y):
        return (dy * np.where(1 - s > 0, -y, 0.0) / s.size,)
    """,
    """
    def backward(dy, s, y):
        return (dy * np.where(1 - y * s > 0, -y, 0.0) / s.size,)
    """,
    says="decided without y", quick=True,
)
bug(
    "soft_margin_overflow", "common", "s",
    "dict(s=rng.standard_normal(6),y=np.array([1.,-1,1,-1,-1,1]))",
    """
    def forward(s, y):
        return np.logaddexp(0, -y * s)
    """,
    """
    def backward(dy, s, y):
        e = np.exp(-y * s)
        return (-dy * y * e / (1 + e),)
    """,
    """
    def backward(dy, s, y):
        a = -y * s
        e = np.exp(-np.abs(a))
        return (-dy * y * np.where(a > 0, 1.0, e) / (1 + e),)
    """,
    finding="domain", says="nan",
)
bug(
    "clip_straight_through", "common", "x",
    "dict(x=2*rng.standard_normal((3,4)))",
    """
    def forward(x):
        return np.clip(x, -1, 1) ** 2
    """,
    """
    def backward(dy, x):
        return (dy * 2 * np.clip(x, -1, 1),)
    """,
    """
    def backward(dy, x):
        return (dy * 2 * np.clip(x, -1, 1) * ((x >= -1) & (x <= 1)),)
    """,
    says="the derivative of np.minimum is missing",
)
bug(
    "swiglu_grads_swapped", "unslothai/unsloth#3314", "e g",
    "dict(e=rng.standard_normal((3,4)),g=rng.standard_normal((3,4)))",
    """
    def forward(e, g):
        return e / (1 + np.exp(-e)) * g
    """,
    """
    def backward(dy, e, g):
        s = 1 / (1 + np.exp(-e))
        f = e * s
        return (dy * f, dy * g * s * (1 + e * (1 - s)))
    """,
    """
    def backward(dy, e, g):
        s = 1 / (1 + np.exp(-e))
        f = e * s
        return (dy * g * s * (1 + e * (1 - s)), dy * f)
    """,
    says="e: yours is the gradient with respect to g",
)
bug(
    "swiglu_rows_written_to_row0", "ByteDance-Seed/Triton-distributed#180", "a b",
    "dict(a=rng.standard_normal((3,4)),b=rng.standard_normal((3,4)))",
    """
    def forward(a, b):
        return a / (1 + np.exp(-a)) * b
    """,
    """
    def backward(dy, a, b):
        s = 1 / (1 + np.exp(-a))
        da = np.zeros_like(a)
        db = np.zeros_like(b)
        for i in range(a.shape[0]):
            da[0] = (dy * b * s * (1 + a * (1 - s)))[i]
            db[0] = (dy * a * s)[i]
        return (da, db)
    """,
    """
    def backward(dy, a, b):
        s = 1 / (1 + np.exp(-a))
        da = np.zeros_like(a)
        db = np.zeros_like(b)
        for i in range(a.shape[0]):
            da[i] = (dy * b * s * (1 + a * (1 - s)))[i]
            db[i] = (dy * a * s)[i]
        return (da, db)
    """,
    says="every row is written to the first row",
)
bug(
    "ce_class_weights_divide_by_batch", "common", "z",
    "dict(z=rng.standard_normal((4,3)),t=np.array([0,2,1,1]),w=np.array([0.5,2.0,1.5]))",
    """
    def forward(z, t, w):
        a = z - z.max(1, keepdims=True)
        l = np.log(np.exp(a).sum(1)) - a[np.arange(len(t)), t]
        return (w[t] * l).sum() / w[t].sum()
    """,
    """
    def backward(dy, z, t, w):
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        p[np.arange(len(t)), t] -= 1
        return (dy * p * w[t][:, None] / len(t),)
    """,
    """
    def backward(dy, z, t, w):
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        p[np.arange(len(t)), t] -= 1
        return (dy * p * w[t][:, None] / w[t].sum(),)
    """,
    says="the sum that forward divides by", quick=True,
)
bug(
    "kl_batchmean_divided_by_all", "common", "q",
    "dict(q=rng.standard_normal((3,4)),p=np.full((3,4),0.25))",
    """
    def forward(q, p):
        return (p * (np.log(p) - q)).sum() / q.shape[0]
    """,
    """
    def backward(dy, q, p):
        return (-dy * p / q.size,)
    """,
    """
    def backward(dy, q, p):
        return (-dy * p / q.shape[0],)
    """,
    says="divided by q.shape[1] (once too often)",
)
bug(
    "dropout_other_mask", "common", "x y",
    "dict(x=rng.standard_normal((3,4)),y=rng.standard_normal((3,4)),m1=rng.random((3,4))>0.4,m2=rng.random((3,4))>0.4)",
    """
    def forward(x, y, m1, m2, p=0.4):
        return x * m1 / (1 - p) + np.tanh(y) * m2 / (1 - p)
    """,
    """
    def backward(dy, x, y, m1, m2, p=0.4):
        return (dy * m1 / (1 - p), dy * m1 / (1 - p) * (1 - np.tanh(y) ** 2))
    """,
    """
    def backward(dy, x, y, m1, m2, p=0.4):
        return (dy * m1 / (1 - p), dy * m2 / (1 - p) * (1 - np.tanh(y) ** 2))
    """,
    says="m1 must be m2",
)
bug(
    "half_accumulation", "common", "x b",
    "dict(x=rng.standard_normal((3,4)),b=rng.standard_normal(4))",
    """
    def forward(x, b):
        return np.exp(x) + b
    """,
    """
    def backward(dy, x, b):
        return ((dy * np.exp(x).astype(np.float16)).astype(x.dtype), dy.sum(0))
    """,
    """
    def backward(dy, x, b):
        return (dy * np.exp(x), dy.sum(0))
    """,
    finding="floats", says="loses",
)
bug(
    "silu_inplace_upstream", "common", "x",
    "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        return x / (1 + np.exp(-x))
    """,
    """
    def backward(dy, x):
        s = 1 / (1 + np.exp(-x))
        dy *= s * (1 + x * (1 - s))
        return (dy,)
    """,
    """
    def backward(dy, x):
        s = 1 / (1 + np.exp(-x))
        return (dy * (s * (1 + x * (1 - s))),)
    """,
    finding="contract", says="changes its argument upstream in place",
)
bug(
    "add_returns_alias_then_scales", "common", "x y",
    "dict(x=rng.standard_normal((3,4)),y=rng.standard_normal((3,4)))",
    """
    def forward(x, y):
        return x + 2 * y
    """,
    """
    def backward(dy, x, y):
        dx = dy
        dy2 = dy
        dy2 *= 2
        return (dx / 2, dy2)
    """,
    """
    def backward(dy, x, y):
        return (dy.copy(), 2 * dy)
    """,
    finding="contract", says="changes its argument upstream in place",
)
bug(
    "broadcast_bias_not_summed", "common", "x b",
    "dict(x=rng.standard_normal((3,4)),b=rng.standard_normal(4))",
    """
    def forward(x, b):
        return np.tanh(x + b)
    """,
    """
    def backward(dy, x, b):
        d = dy * (1 - np.tanh(x + b) ** 2)
        return (d, d)
    """,
    """
    def backward(dy, x, b):
        d = dy * (1 - np.tanh(x + b) ** 2)
        return (d, d.sum(0))
    """,
    says="has the shape (3, 4), expected (4,)",
)
bug(
    "rmsnorm_weight_none", "unslothai/unsloth#4533", "x w",
    "dict(x=rng.standard_normal((3,5)),w=rng.standard_normal(5))",
    """
    def forward(x, w, eps=1e-06):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w
    """,
    """
    def backward(dy, x, w, eps=1e-06):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        g = dy * w
        return (g * r - x * r ** 3 * (g * x).mean(-1, keepdims=True), None)
    """,
    """
    def backward(dy, x, w, eps=1e-06):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        g = dy * w
        return (g * r - x * r ** 3 * (g * x).mean(-1, keepdims=True), (dy * x * r).sum(0))
    """,
    finding="contract", says="returns None for w", quick=True,
)
bug(
    "norm_times_sum_at_zero", "tt-metal#55585", "x",
    "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        return np.sqrt((x * x).sum(1)) * x.sum(1)
    """,
    """
    def backward(dy, x):
        n = np.sqrt((x * x).sum(1, keepdims=True))
        d = dy[:, None]
        return (d * (x / n * x.sum(1, keepdims=True) + n),)
    """,
    """
    def backward(dy, x):
        n = np.sqrt((x * x).sum(1, keepdims=True))
        d = dy[:, None]
        return (d * (x / np.where(n == 0, 1.0, n) * x.sum(1, keepdims=True) + n),)
    """,
    finding="kinks", says="nan at x = 0",
)
bug(
    "tanh_one_minus_square_tail", "common", "x",
    "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        return np.tanh(x)
    """,
    """
    def backward(dy, x):
        return (dy * (1 - np.tanh(x) ** 2),)
    """,
    """
    def backward(dy, x):
        e = np.exp(-2 * np.abs(x))
        return (dy * 4 * e / (1 + e) ** 2,)
    """,
    finding="floats", says="loses",
)
bug(
    "log1mexp_cancellation", "common", "x",
    "dict(x=rng.random((3,4))+0.1)",
    """
    def forward(x):
        return np.log(-np.expm1(-x))
    """,
    """
    def backward(dy, x):
        return (dy * np.exp(-x) / (1 - np.exp(-x)),)
    """,
    """
    def backward(dy, x):
        return (dy * np.exp(-x) / -np.expm1(-x),)
    """,
    finding="floats", says="loses",
)
bug(
    "root_derivative_halved", "common", "x",
    "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        return np.sqrt(x * x + 0.25)
    """,
    """
    def backward(dy, x):
        return (dy * x / (2 * np.sqrt(x * x + 0.25)),)
    """,
    """
    def backward(dy, x):
        return (dy * x / np.sqrt(x * x + 0.25),)
    """,
    says="a factor 2 is missing",
)
bug(
    "softmax_sum_over_the_batch_of_a_square", "common", "x",
    "dict(x=rng.standard_normal((4,4)))",
    """
    def forward(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)
    """,
    """
    def backward(dy, x):
        e = np.exp(x - x.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (p * (dy - (dy * p).sum(0)),)
    """,
    """
    def backward(dy, x):
        e = np.exp(x - x.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (p * (dy - (dy * p).sum(1, keepdims=True)),)
    """,
    says="taken over axis 0", quick=True,
)
control(
    "softmax_shift_free", "x", "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)
    """,
    """
    def backward(dy, x):
        e = np.exp(x - x.mean(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return (p * dy - p * np.einsum('ij,ij->i', p, dy)[:, None],)
    """,
)
control(
    "swish_from_output", "x", "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        return x / (1 + np.exp(-x))
    """,
    """
    def backward(dy, x):
        s = 1 / (1 + np.exp(-x))
        y = x * s
        return (dy * (y + s * (1 - y)),)
    """,
)
control(
    "variance_without_mean_path", "x", "dict(x=rng.standard_normal((3,5)))",
    """
    def forward(x):
        return x.var(1)
    """,
    """
    def backward(dy, x):
        return (dy[:, None] * 2 * (x - x.mean(1, keepdims=True)) / x.shape[1],)
    """,
)
control(
    "ce_soft_targets_sum_to_one", "z", "dict(z=rng.standard_normal((4,3)),y=np.eye(3)[[0,2,1,1]])",
    """
    def forward(z, y):
        lp = z - np.log(np.exp(z).sum(1, keepdims=True))
        return -(y * lp).sum() / len(z)
    """,
    """
    def backward(dy, z, y):
        e = np.exp(z - z.max(1, keepdims=True))
        return (dy * (e / e.sum(1, keepdims=True) - y) / len(z),)
    """,
)
control(
    "norm_of_normalised", "x", "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        n = np.sqrt((x * x).sum(1, keepdims=True) + 1e-06)
        return x / n
    """,
    """
    def backward(dy, x):
        n = np.sqrt((x * x).sum(1, keepdims=True) + 1e-06)
        u = x / n
        return ((dy - u * (u * dy).sum(1, keepdims=True)) / n,)
    """,
)
control(
    "relu_from_output", "x W", "dict(x=rng.standard_normal((3,4)),W=rng.standard_normal((4,2)))",
    """
    def forward(x, W):
        return np.maximum(x @ W, 0)
    """,
    """
    def backward(dy, x, W):
        y = np.maximum(x @ W, 0)
        d = dy * np.sign(y)
        return (d @ W.T, x.T @ d)
    """,
)
control(
    "symmetric_quadratic", "x", "dict(x=rng.standard_normal(4),A=rng.standard_normal((4,4)))",
    """
    def forward(x, A):
        return x @ (A + A.T) @ x / 2
    """,
    """
    def backward(dy, x, A):
        return (dy * (A + A.T) @ x,)
    """,
)
control(
    "gelu_tanh_expanded", "x", "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x, c=0.5):
        return 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x ** 3)))
    """,
    """
    def backward(dy, x, c=0.5):
        t = np.tanh(c * (x + 0.044715 * x ** 3))
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t) * (1 + t) * c * (1 + 0.134145 * x * x)),)
    """,
)
control(
    "logit_two_terms", "p", "dict(p=rng.random((3,4))*0.8+0.1)",
    """
    def forward(p):
        return np.log(p) - np.log(1 - p)
    """,
    """
    def backward(dy, p):
        return (dy / (p * (1 - p)),)
    """,
)
control(
    "max_shift_path_cancels", "x", "dict(x=rng.standard_normal((3,4)))",
    """
    def forward(x):
        m = x.max(1, keepdims=True)
        return (m + np.log(np.exp(x - m).sum(1, keepdims=True)))[:, 0]
    """,
    """
    def backward(dy, x):
        m = x.max(1, keepdims=True)
        l = m + np.log(np.exp(x - m).sum(1, keepdims=True))
        return (dy[:, None] * np.exp(x - l),)
    """,
)
control(
    "instance_norm_zero_when_constant_upstream", "x", "dict(x=rng.standard_normal((3,5)))",
    """
    def forward(x, eps=1e-05):
        return ((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps)).sum()
    """,
    """
    def backward(dy, x, eps=1e-05):
        return (np.zeros_like(x),)
    """,
)
