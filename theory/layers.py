"""The layers: one function each, the forward pass in index notation and nothing else.

Gradients, matrix form, LaTeX, NumPy source and tests are derived from the functions. Samples are rows: ``x[n,i]``.
Adding a layer is writing one function under ``@row``, which names the axes of its arguments.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import sympy

from . import attention, convolutions, recurrent
from .errors import InputError, lookup
from .layer_row import LAYERS, Layer, add, row
from .losses import log_softmax, sigmoid, softmax
from .scalar_functions import scalar_function
from .symbols import parameter
from .tensors import BOOLEAN, POSITIVE, Tensor, apply, map_function, one_hot, slot, sqrt, tanh

if TYPE_CHECKING:
    from .activations import Activation

__all__ = ["LAYERS", "Layer", "eps", "layer", "rate"]

eps = parameter("eps")
rate = parameter("rate")
_SMALL = {eps: sympy.Rational(1, 100_000)}


@row("dense layer, x W + b", x="n i", W="i o", b="o", more={"aliases": ("linear", "affine")})
def dense(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """y[n,o] = Σ_i x[n,i] W[i,o] + b[o]."""
    return (x * W).sum("i") + b


@row("bias, x + b", x="n i", b="i")
def bias(x: Tensor, b: Tensor) -> Tensor:
    """y[n,i] = x[n,i] + b[i]."""
    return x + b


@row("activation, σ(x) for any σ", name="activation", x="n i")
def _any_function(x: Tensor) -> Tensor:
    return map_function(scalar_function("σ")(slot(0)), x)


@row(
    "PReLU with learned slope", x="n i", a="i",
    more={"kinks": "slope a at 0", "citation": "He et al., ICCV 2015"},
)  # fmt: skip
def prelu(x: Tensor, a: Tensor) -> Tensor:
    """x where positive, else a[i]·x, with a learned slope per feature; slope a at 0."""
    return apply(sympy.Piecewise((slot(0), slot(0) > 0), (slot(1) * slot(0), True)), x, a)


@row("softmax over the features", name="softmax", x="n i")
def _softmax(x: Tensor) -> Tensor:
    return softmax(x, "i").named("p")


@row("log-softmax over the features", name="log_softmax", x="n i")
def _log_softmax(x: Tensor) -> Tensor:
    return log_softmax(x, "i").named("y")


def normalised(x: Tensor, over: str | tuple[str, ...]) -> Tensor:
    """x̂ = (x − mean)/√(var + ε), mean and variance taken over the axes."""
    mean = x.mean(over).named("mean")
    var = ((x - mean) ** 2).mean(over).named("var")
    r = (1 / sqrt(var + eps)).named("r")
    return ((x - mean) * r).named("xhat")


@row(
    "batch normalisation (training)", x="n i", gamma="i", beta="i",
    more={"parameters": _SMALL, "citation": "Ioffe and Szegedy, ICML 2015", "aliases": ("batchnorm",)},
)  # fmt: skip
def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise each feature over the samples, then scale and shift."""
    return gamma * normalised(x, "n") + beta


@row(
    "batch normalisation (inference)", x="n i", gamma="i", beta="i", mean="i", var="i", facts={"var": (POSITIVE,)},
    more={"parameters": _SMALL, "citation": "Ioffe and Szegedy, ICML 2015"},
)  # fmt: skip
def batch_norm_inference(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Batch normalisation with given running statistics."""
    r = (1 / sqrt(var + eps)).named("r")
    return gamma * (x - mean) * r + beta


@row(
    "layer normalisation", x="n i", gamma="i", beta="i",
    more={"parameters": _SMALL, "citation": "Ba, Kiros and Hinton 2016", "aliases": ("layernorm",)},
)  # fmt: skip
def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise each sample over its features, then scale and shift."""
    return gamma * normalised(x, "i") + beta


@row(
    "RMS normalisation", x="n i", gamma="i",
    more={"parameters": _SMALL, "citation": "Zhang and Sennrich, NeurIPS 2019", "aliases": ("rmsnorm",)},
)  # fmt: skip
def rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """Divide each sample by its root mean square, then scale."""
    r = (1 / sqrt((x**2).mean("i") + eps)).named("r")
    xhat = (x * r).named("xhat")
    return gamma * xhat


@row(
    "group normalisation", x="n g c p", gamma="g c", beta="g c",
    more={"parameters": _SMALL, "citation": "Wu and He, ECCV 2018", "aliases": ("groupnorm",)},
)  # fmt: skip
def group_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalise each sample's group g over its channels c and positions p."""
    return gamma * normalised(x, ("c", "p")) + beta


@row(
    "inverted dropout, mask given", x="n i", mask="n i", facts={"mask": (BOOLEAN,)},
    more={"parameters": {rate: sympy.Rational(1, 2)}, "citation": "Srivastava et al., JMLR 15 (2014)"},
)  # fmt: skip
def dropout(x: Tensor, mask: Tensor) -> Tensor:
    """Inverted dropout with a given 0/1 mask: x·mask/(1 − rate)."""
    return x * mask / (1 - rate)


@row("residual addition", x="n i", branch="n i")
def residual(x: Tensor, branch: Tensor) -> Tensor:
    """x + branch."""
    return x + branch


@row("embedding of one-hot tokens", t="n v", E="v d", facts={"t": (one_hot("v"),)})
def embedding(t: Tensor, E: Tensor) -> Tensor:
    """Rows of E picked by one-hot tokens t[n,v]."""
    return (t * E).sum("v")


@row("learned positions, x + P", x="n t i", P="t i", more={"citation": "Vaswani et al., NeurIPS 2017"})
def positional(x: Tensor, P: Tensor) -> Tensor:
    """A learned vector for each step t is added."""
    return x + P


@row("mean over the steps of a sequence", x="n t i")
def mean_over_steps(x: Tensor) -> Tensor:
    """Σ_t x[n,t,i]/T."""
    return x.mean("t")


for _attention in attention.rows():
    add(_attention)

_SHAZEER = {"citation": "Shazeer 2020"}


@row("ReGLU, a ⊙ relu(b)", a="n i", b="n i", more={"kinks": "slope 0 at b = 0", **_SHAZEER})
def reglu(a: Tensor, b: Tensor) -> Tensor:
    """a ⊙ max(b, 0); slope 0 at 0."""
    return a * apply(sympy.Piecewise((slot(0), slot(0) > 0), (0, True)), b)


@row("GEGLU, a ⊙ gelu(b)", a="n i", b="n i", more=_SHAZEER)
def geglu(a: Tensor, b: Tensor) -> Tensor:
    """a ⊙ b·Φ(b), Φ the normal distribution function."""
    cdf = apply((1 + sympy.erf(slot(0) / sympy.sqrt(2))) / 2, b).named("cdf")
    return a * b * cdf


@row("gated linear unit, a ⊙ sigmoid(b)", a="n i", b="n i", more={"citation": "Dauphin et al., ICML 2017"})
def glu(a: Tensor, b: Tensor) -> Tensor:
    """Gated linear unit: a ⊙ σ(b)."""
    return a * sigmoid(b).named("s")


@row("SwiGLU, a ⊙ b ⊙ sigmoid(b)", a="n i", b="n i", more=_SHAZEER)
def swiglu(a: Tensor, b: Tensor) -> Tensor:
    """a ⊙ b·σ(b)."""
    return a * b * sigmoid(b).named("s")


@row(
    "recurrent cell, tanh(x U + h V + b)", x="n i", h="n o", U="i o", V="p:O o", b="o",
    more={"citation": "Elman, Cognitive Science 14 (1990)", "stages": ("z",)},
)  # fmt: skip
def rnn_cell(x: Tensor, h: Tensor, U: Tensor, V: Tensor, b: Tensor) -> Tensor:
    """tanh(x U + h V + b)."""
    previous = h.rename(o="p")
    z = ((x * U).sum("i") + (previous * V).sum("p") + b).named("z")
    return tanh(z).named("y")


for _row in (*convolutions.rows(), *recurrent.rows()):
    add(_row)


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


def _whole(value: Any) -> Any:
    """A structural option that came as text: a whole number where it is one."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() and len(value) < 9 else value


def _exact(option: str, value: Any) -> sympy.Rational:
    """A hyper-parameter as the decimal that was written."""
    try:
        return sympy.Rational(str(Fraction(str(value))))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"option {option}={str(value)[:40]!r} is not a number such as 1e-5") from None


def _by_alias() -> dict[str, Layer]:
    return {alias: found for found in LAYERS.values() for alias in found.aliases}


def layer(name: str, **options: Any) -> Layer:
    """The row of a layer by name or alias; options bind hyper-parameters, and ``function`` that of an activation layer.

    >>> layer("dense").vjp("W").matrix()
    'dW = xᵀ dy'
    """
    key = name.strip().lower().replace("-", "_")
    if key == "activation" and options:
        return _activation_layer(**options)
    aliases = _by_alias()
    found = aliases[key] if key in aliases else lookup(LAYERS, name, "layer")
    if not options:
        return found
    if found.variant is not None:
        structural = {k: _whole(options.pop(k)) for k in list(options) if k in found.options}
        found = found.variant(**{**found.options, **structural}) if structural else found
    known = {str(s): s for s in found.parameters}
    bound = dict(found.parameters)
    for option, value in options.items():
        if option not in known:
            raise InputError(
                f"layer {found.name} has no option {option!r}: "
                + (f"it has {', '.join((*found.options, *known))}" if known or found.options else "it has none")
            )
        bound[known[option]] = _exact(option, value)
    return replace(found, parameters=bound)
