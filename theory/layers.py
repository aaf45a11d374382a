"""The layers: one row each, the forward pass in index notation and nothing else.

Gradients, their matrix form, LaTeX, NumPy source and tests are derived from the rows. Samples are rows: ``x[n,i]``.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import sympy

from . import convolutions, recurrent
from .errors import InputError, lookup
from .layer_row import Layer
from .losses import log_softmax, sigmoid, softmax
from .scalar_functions import scalar_function
from .symbols import parameter
from .tensors import BOOLEAN, POSITIVE, Input, Tensor, apply, axis, map_function, one_hot, slot, sqrt, tanh

if TYPE_CHECKING:
    from .activations import Activation

eps = parameter("eps")
rate = parameter("rate")
_n, _i, _o, _c, _k = (axis(name) for name in "niock")
_t, _s, _d, _e, _g, _p, _h, _v = (axis(name) for name in "tsdegphv")
_x = Input("x", (_n, _i))


def dense(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """y[n,o] = Σ_i x[n,i] W[i,o] + b[o]."""
    return (x * W).sum("i") + b


def bias(x: Tensor, b: Tensor) -> Tensor:
    """y[n,i] = x[n,i] + b[i]."""
    return x + b


def prelu(x: Tensor, a: Tensor) -> Tensor:
    """x where positive, else a[i]·x, with a learned slope per feature; slope a at 0."""
    return apply(sympy.Piecewise((slot(0), slot(0) > 0), (slot(1) * slot(0), True)), x, a)


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise each feature over the samples, then scale and shift."""
    mean = x.mean("n").named("mean")
    var = ((x - mean) ** 2).mean("n").named("var")
    r = (1 / sqrt(var + eps)).named("r")
    xhat = ((x - mean) * r).named("xhat")
    return gamma * xhat + beta


def batch_norm_inference(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Batch normalisation with given running statistics."""
    r = (1 / sqrt(var + eps)).named("r")
    return gamma * (x - mean) * r + beta


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise each sample over its features, then scale and shift."""
    mean = x.mean("i").named("mean")
    var = ((x - mean) ** 2).mean("i").named("var")
    r = (1 / sqrt(var + eps)).named("r")
    xhat = ((x - mean) * r).named("xhat")
    return gamma * xhat + beta


def rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """Divide each sample by its root mean square, then scale."""
    r = (1 / sqrt((x**2).mean("i") + eps)).named("r")
    xhat = (x * r).named("xhat")
    return gamma * xhat


def group_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise each sample's group g over its channels c and positions p."""
    mean = x.mean(("c", "p")).named("mean")
    var = ((x - mean) ** 2).mean(("c", "p")).named("var")
    r = (1 / sqrt(var + eps)).named("r")
    xhat = ((x - mean) * r).named("xhat")
    return gamma * xhat + beta


def dropout(x: Tensor, mask: Tensor) -> Tensor:
    """Inverted dropout with a given 0/1 mask: x·mask/(1 − rate)."""
    return x * mask / (1 - rate)


def residual(x: Tensor, branch: Tensor) -> Tensor:
    """x + branch."""
    return x + branch


def embedding(t: Tensor, E: Tensor) -> Tensor:
    """Rows of E picked by one-hot tokens t[n,v]."""
    return (t * E).sum("v")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention: softmax over s of q·k/√D, times v."""
    scores = ((q * k).sum("d") / sympy.sqrt(_d.size)).named("S")
    return (softmax(scores, "s").named("A") * v).sum("s")


def multi_head_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention in several heads h of several sequences n."""
    return attention(q, k, v)


def glu(a: Tensor, b: Tensor) -> Tensor:
    """Gated linear unit: a ⊙ σ(b)."""
    return a * sigmoid(b).named("s")


def swiglu(a: Tensor, b: Tensor) -> Tensor:
    """a ⊙ b·σ(b)."""
    return a * b * sigmoid(b).named("s")


def reglu(a: Tensor, b: Tensor) -> Tensor:
    """a ⊙ max(b, 0); slope 0 at 0."""
    return a * apply(sympy.Piecewise((slot(0), slot(0) > 0), (0, True)), b)


def geglu(a: Tensor, b: Tensor) -> Tensor:
    """a ⊙ b·Φ(b), Φ the normal distribution function."""
    cdf = apply((1 + sympy.erf(slot(0) / sympy.sqrt(2))) / 2, b).named("cdf")
    return a * b * cdf


def rnn_cell(x: Tensor, h: Tensor, U: Tensor, V: Tensor, b: Tensor) -> Tensor:
    """tanh(x U + h V + b)."""
    previous = h.rename(o="p")
    z = ((x * U).sum("i") + (previous * V).sum("p") + b).named("z")
    return tanh(z).named("y")


def _activation_layer(function: str | Activation | sympy.Expr = "relu", **parameters: Any) -> Layer:
    """The layer y = f(x) of an activation row, a formula in x, or a SymPy expression."""
    from .activations import Activation, activation

    row = function if isinstance(function, Activation) else activation(function, **parameters)
    f = scalar_function(_function_name(row.name), row.expr, row.derivative(1))
    return replace(
        LAYERS["activation"],
        formula=lambda x: map_function(f(slot(0)), x),
        title=f"activation {row.name}",
        function=row.name,
    )


def _function_name(name: str) -> str:
    import re

    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else "f"


def _any_function(x: Tensor) -> Tensor:
    return map_function(scalar_function("σ")(slot(0)), x)


def _rows() -> tuple[Layer, ...]:
    gamma, beta = Input("gamma", (_i,)), Input("beta", (_i,))
    small = {eps: sympy.Rational(1, 100_000)}
    channel = Input("x", (_n, _g, _c, _p))
    heads = (_n, _h)
    return (
        Layer(
            "dense",
            dense,
            (_x, Input("W", (_i, _o)), Input("b", (_o,))),
            "dense layer, x W + b",
            aliases=("linear", "affine"),
        ),
        Layer("bias", bias, (_x, Input("b", (_i,))), "bias, x + b"),
        Layer("activation", _any_function, (_x,), "activation, σ(x) for any σ"),
        Layer(
            "prelu",
            prelu,
            (_x, Input("a", (_i,))),
            "PReLU with learned slope",
            kinks="slope a at 0",
            citation="He et al., ICCV 2015",
        ),
        Layer("softmax", lambda x: softmax(x, "i").named("p"), (_x,), "softmax over the features"),
        Layer("log_softmax", lambda x: log_softmax(x, "i").named("y"), (_x,), "log-softmax over the features"),
        Layer(
            "batch_norm",
            batch_norm,
            (_x, gamma, beta),
            "batch normalisation (training)",
            small,
            citation="Ioffe and Szegedy, ICML 2015",
            aliases=("batchnorm",),
        ),
        Layer(
            "batch_norm_inference",
            batch_norm_inference,
            (_x, gamma, beta, Input("mean", (_i,)), Input("var", (_i,), (POSITIVE,))),
            "batch normalisation (inference)",
            small,
            citation="Ioffe and Szegedy, ICML 2015",
        ),
        Layer(
            "layer_norm",
            layer_norm,
            (_x, gamma, beta),
            "layer normalisation",
            small,
            citation="Ba, Kiros and Hinton 2016",
            aliases=("layernorm",),
        ),
        Layer(
            "rms_norm",
            rms_norm,
            (_x, gamma),
            "RMS normalisation",
            small,
            citation="Zhang and Sennrich, NeurIPS 2019",
            aliases=("rmsnorm",),
        ),
        Layer(
            "group_norm",
            group_norm,
            (channel, Input("gamma", (_g, _c)), Input("beta", (_g, _c))),
            "group normalisation",
            small,
            citation="Wu and He, ECCV 2018",
            aliases=("groupnorm",),
        ),
        Layer(
            "dropout",
            dropout,
            (_x, Input("mask", (_n, _i), (BOOLEAN,))),
            "inverted dropout, mask given",
            {rate: sympy.Rational(1, 2)},
        ),
        Layer("residual", residual, (_x, Input("branch", (_n, _i))), "residual addition"),
        Layer(
            "embedding",
            embedding,
            (Input("t", (_n, _v), (one_hot("v"),)), Input("E", (_v, _d))),
            "embedding of one-hot tokens",
        ),
        Layer(
            "attention",
            attention,
            (Input("q", (_t, _d)), Input("k", (_s, _d)), Input("v", (_s, _e))),
            "scaled dot-product attention",
            citation="Vaswani et al., NeurIPS 2017",
            stages=("A", "S"),
        ),
        Layer(
            "multi_head_attention",
            multi_head_attention,
            (Input("q", (*heads, _t, _d)), Input("k", (*heads, _s, _d)), Input("v", (*heads, _s, _e))),
            "scaled dot-product attention, several heads",
            citation="Vaswani et al., NeurIPS 2017",
            stages=("A", "S"),
        ),
        Layer(
            "reglu",
            reglu,
            (Input("a", (_n, _i)), Input("b", (_n, _i))),
            "ReGLU, a ⊙ relu(b)",
            kinks="slope 0 at b = 0",
            citation="Shazeer 2020",
        ),
        Layer(
            "geglu",
            geglu,
            (Input("a", (_n, _i)), Input("b", (_n, _i))),
            "GEGLU, a ⊙ gelu(b)",
            citation="Shazeer 2020",
        ),
        Layer(
            "glu",
            glu,
            (Input("a", (_n, _i)), Input("b", (_n, _i))),
            "gated linear unit, a ⊙ sigmoid(b)",
            citation="Dauphin et al., ICML 2017",
        ),
        Layer(
            "swiglu",
            swiglu,
            (Input("a", (_n, _i)), Input("b", (_n, _i))),
            "SwiGLU, a ⊙ b ⊙ sigmoid(b)",
            citation="Shazeer 2020",
        ),
        Layer(
            "rnn_cell",
            rnn_cell,
            (_x, Input("h", (_n, _o)), Input("U", (_i, _o)), Input("V", (axis("p", "O"), _o)), Input("b", (_o,))),
            "recurrent cell, tanh(x U + h V + b)",
            citation="Elman, Cognitive Science 14 (1990)",
            stages=("z",),
        ),
    )


def _whole(value: Any) -> Any:
    """A structural option that came as text: a whole number where it is one."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() and len(value) < 9 else value


def _exact(option: str, value: Any) -> sympy.Rational:
    """A hyper-parameter as the decimal that was written."""
    try:
        return sympy.Rational(str(Fraction(str(value))))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"option {option}={str(value)[:40]!r} is not a number such as 1e-5") from None


#: name -> row. Adding a layer is adding a row.
LAYERS: dict[str, Layer] = {row.name: row for row in (*_rows(), *convolutions.rows(), *recurrent.rows())}
_BY_ALIAS = {alias: row for row in LAYERS.values() for alias in row.aliases}


def layer(name: str, **options: Any) -> Layer:
    """The row of a layer by name or alias; options bind hyper-parameters, and ``function`` that of an activation layer.

    >>> layer("dense").vjp("W").matrix()
    'dW = xᵀ dy'
    """
    key = name.strip().lower().replace("-", "_")
    if key == "activation" and options:
        return _activation_layer(**options)
    row = _BY_ALIAS[key] if key in _BY_ALIAS else lookup(LAYERS, name, "layer")
    if not options:
        return row
    if row.variant is not None:
        structural = {k: _whole(options.pop(k)) for k in list(options) if k in row.options}
        row = row.variant(**{**row.options, **structural}) if structural else row
    known = {str(s): s for s in row.parameters}
    bound = dict(row.parameters)
    for option, value in options.items():
        if option not in known:
            raise InputError(
                f"layer {row.name} has no option {option!r}: "
                + (f"it has {', '.join((*row.options, *known))}" if known or row.options else "it has none")
            )
        bound[known[option]] = _exact(option, value)
    return replace(row, parameters=bound)
