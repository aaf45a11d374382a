"""The losses: one row each, the formula in index notation and what it assumes; gradients and reductions are derived.

A row's formula gives the loss per sample (or per entry); ``reduction`` "none", "mean" (over samples, or over all
entries where the loss is per entry) and "sum" follow. ``output`` is the matching output activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy

from . import scalar_functions
from .errors import InputError, lookup
from .symbols import parameter
from .tensors import (
    POSITIVE,
    Fact,
    Input,
    Tensor,
    apply,
    axis,
    exp,
    log,
    one_hot,
    slot,
    sums_to_one,
)
from .tensors import tanh as tensor_tanh

REDUCTIONS = ("none", "mean", "sum")
N, K = axis("n"), axis("k")
_delta = parameter("delta")
_smoothing = parameter("smoothing")
_focus = parameter("focus")


def softplus(z: Any) -> Tensor:
    """log(1 + e^z), entry by entry."""
    return apply(scalar_functions.softplus, z)


def softmax(z: Tensor, over: str) -> Tensor:
    """exp(z − max z) / Σ exp(z − max z): the shift cancels, and nothing overflows."""
    shift = z.max(over).named("m")
    e = exp(z - shift).named("e")
    return e / e.sum(over).named("s")


def log_softmax(z: Tensor, over: str) -> Tensor:
    """z − max z − log Σ exp(z − max z)."""
    shifted = (z - z.max(over).named("m")).named("c")
    return shifted - log(exp(shifted).sum(over).named("s"))


def sigmoid(z: Tensor) -> Tensor:
    """1/(1 + e^−z), entry by entry."""
    return apply(scalar_functions.sigmoid, z)


def _absolute(u: Any) -> Tensor:
    """|u|, with slope 0 at 0 (the middle of the subdifferential)."""
    return apply(sympy.Piecewise((slot(0), slot(0) > 0), (-slot(0), slot(0) < 0), (0, True)), u)


def _squared_error(p: Tensor, y: Tensor) -> Tensor:
    return (p - y) ** 2


def _half_squared_error(p: Tensor, y: Tensor) -> Tensor:
    return (p - y) ** 2 / 2


def _l1(p: Tensor, y: Tensor) -> Tensor:
    return _absolute(p - y)


def _huber(p: Tensor, y: Tensor) -> Tensor:
    r = slot(0)
    inside = sympy.And(r <= _delta, r >= -_delta)
    branches = sympy.Piecewise(
        (r**2 / 2, inside), (_delta * (r - _delta / 2), r > 0), (_delta * (-r - _delta / 2), True)
    )
    return apply(branches, p - y)


def _smooth_l1(p: Tensor, y: Tensor) -> Tensor:
    return _huber(p, y) / _delta


def _log_cosh(p: Tensor, y: Tensor) -> Tensor:
    """log cosh r = |r| + log((1 + e^−2|r|)/2): cosh itself would overflow."""
    r = slot(0)
    magnitude = sympy.Piecewise((r, r > 0), (-r, True))
    return apply(magnitude + sympy.log(1 + sympy.exp(-2 * magnitude)) - sympy.log(2), p - y)


def _binary_cross_entropy(p: Tensor, y: Tensor) -> Tensor:
    return -(y * log(p) + (1 - y) * log(1 - p))


def _binary_cross_entropy_logits(z: Tensor, y: Tensor) -> Tensor:
    return softplus(z) - y * z


def _softmax_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return -(y * log_softmax(z, "k")).sum("k")


def _smoothed_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    size = z.axis("k").size
    return _softmax_cross_entropy(z, ((1 - _smoothing) * y + _smoothing / size).named("q"))


def _nll(log_p: Tensor, y: Tensor) -> Tensor:
    return -(y * log_p).sum("k")


def _cross_entropy(p: Tensor, y: Tensor) -> Tensor:
    return -(y * log(p)).sum("k")


def _kl(p: Tensor, y: Tensor) -> Tensor:
    own = apply(sympy.Piecewise((slot(0) * sympy.log(slot(0)), slot(0) > 0), (0, True)), y)  # 0 log 0 = 0
    return (own - y * log(p)).sum("k")


def _hinge(z: Tensor, y: Tensor) -> Tensor:
    margin = sympy.Piecewise((1 - slot(0), slot(0) < 1), (0, True))
    return apply(margin, y * z)


def _squared_hinge(z: Tensor, y: Tensor) -> Tensor:
    margin = sympy.Piecewise((1 - slot(0), slot(0) < 1), (0, True))
    return apply(margin**2, y * z)


def _focal(z: Tensor, y: Tensor) -> Tensor:
    """−(1 − q)^γ log q, where q = sigmoid(z) for y = 1 and 1 − sigmoid(z) for y = 0; (1 − q)^γ = exp(−γ softplus)."""
    up, down = softplus(z).named("up"), softplus(-z).named("down")  # −log(1 − p) and −log p
    easy, hard = exp(-_focus * up).named("w"), exp(-_focus * down).named("v")  # (1 − p)^γ and p^γ
    return y * easy * down + (1 - y) * hard * up


def _identity(z: Tensor) -> Tensor:
    return z


#: output activation -> its forward pass on pre-activations z[n,k].
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "sigmoid": sigmoid,
    "softmax": lambda z: softmax(z, "k"),
    "log_softmax": lambda z: log_softmax(z, "k"),
    "tanh": lambda z: tensor_tanh(z),
}


@dataclass(frozen=True)
class Loss:
    """A loss: ``formula(prediction, target)`` per sample or entry, and its stated assumptions."""

    name: str
    formula: Callable[[Tensor, Tensor], Tensor]
    title: str
    #: the matching output activation (a key of OUTPUTS)
    output: str = "identity"
    #: the formula takes pre-activations, and applies the output activation itself
    from_logits: bool = False
    target_facts: tuple[Fact, ...] = ()
    prediction_facts: tuple[Fact, ...] = ()
    parameters: Mapping[sympy.Symbol, sympy.Expr] = field(default_factory=dict)
    #: convention at points where the derivative jumps
    kinks: str = ""
    citation: str = ""
    aliases: tuple[str, ...] = ()
    #: names in the formula that the gradient may be written with
    words: tuple[str, ...] = ()
    #: a short form of the slope, used where it is proved equal to the derived one
    slope: Callable[[Tensor, Tensor], Tensor] | None = None

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def prediction_name(self) -> str:
        """z for pre-activations, p for predictions."""
        return "z" if self.from_logits or self.output == "identity" else "logp" if self.output == "log_softmax" else "p"

    def inputs(self, *, assume: bool = True) -> tuple[Input, Input]:
        """The prediction and the target, [n, k] each; ``assume=False`` drops the facts on the target."""
        prediction = Input(self.prediction_name, (N, K), self.prediction_facts)
        return prediction, Input("y", (N, K), self.target_facts if assume else ())

    def forward(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """The loss of tensors with axes n and k."""
        if reduction not in REDUCTIONS:
            raise InputError(f"unknown reduction {reduction!r}: use none, mean or sum")
        value = self.formula(prediction, target)
        if reduction == "none":
            return value
        return value.mean(value.names) if reduction == "mean" else value.sum(value.names)

    def predict(self, z: Tensor) -> Tensor:
        """The matching output activation of pre-activations."""
        return OUTPUTS[self.output](z)

    def gradient(self, *, reduction: str = "mean", assume: bool = True, through_output: bool = False) -> Any:
        """Derivation of ∂loss/∂prediction; ``through_output`` goes on to the pre-activations z.

        ``assume=False`` does not use the facts on the target (then p − y comes out as p·Σy − y).
        """
        from .derivation import loss_gradient

        return loss_gradient(self, reduction=reduction, assume=assume, through_output=through_output)


def _rows() -> tuple[Loss, ...]:
    labels = (one_hot("k"),)
    distribution = (sums_to_one("k"),)
    return (
        Loss(
            "squared_error",
            _squared_error,
            "squared error, (p − y)²",
            aliases=("mse", "mean_squared_error", "sum_squared_error"),
        ),
        Loss("half_squared_error", _half_squared_error, "half squared error, (p − y)²/2"),
        Loss("l1", _l1, "absolute error, |p − y|", kinks="slope 0 at p = y", aliases=("mae", "absolute_error")),
        Loss(
            "huber",
            _huber,
            "Huber loss",
            parameters={_delta: sympy.Integer(1)},
            citation="Huber, Annals of Mathematical Statistics 35 (1964)",
        ),
        Loss("smooth_l1", _smooth_l1, "smooth L1: Huber/δ", parameters={_delta: sympy.Integer(1)}),
        Loss("log_cosh", _log_cosh, "log cosh(p − y)", slope=lambda p, y: tensor_tanh(p - y)),
        Loss(
            "binary_cross_entropy",
            _binary_cross_entropy,
            "binary cross-entropy of probabilities",
            output="sigmoid",
            prediction_facts=(POSITIVE,),
            aliases=("bce",),
        ),
        Loss(
            "binary_cross_entropy_logits",
            _binary_cross_entropy_logits,
            "binary cross-entropy of logits",
            output="sigmoid",
            from_logits=True,
            aliases=("bce_logits", "sigmoid_cross_entropy"),
        ),
        Loss(
            "softmax_cross_entropy",
            _softmax_cross_entropy,
            "softmax with cross-entropy",
            output="softmax",
            from_logits=True,
            target_facts=labels,
            aliases=("cross_entropy_logits", "categorical_cross_entropy"),
        ),
        Loss(
            "label_smoothing",
            _smoothed_cross_entropy,
            "softmax with cross-entropy, smoothed labels",
            output="softmax",
            from_logits=True,
            target_facts=labels,
            parameters={_smoothing: sympy.Rational(1, 10)},
            citation="Szegedy et al., CVPR 2016",
            words=("q",),
        ),
        Loss("nll", _nll, "negative log-likelihood of log-probabilities", output="log_softmax", target_facts=labels),
        Loss(
            "cross_entropy",
            _cross_entropy,
            "cross-entropy of probabilities",
            output="softmax",
            target_facts=labels,
            prediction_facts=(POSITIVE,),
        ),
        Loss(
            "kl_divergence",
            _kl,
            "Kullback–Leibler divergence KL(y ‖ p)",
            output="softmax",
            target_facts=distribution,
            prediction_facts=(POSITIVE,),
            aliases=("kl",),
        ),
        Loss("hinge", _hinge, "hinge loss, max(0, 1 − yz), y = ±1", kinks="slope 0 at yz = 1"),
        Loss(
            "focal",
            _focal,
            "focal loss of logits",
            output="sigmoid",
            from_logits=True,
            words=("up", "down", "w", "v"),
            parameters={_focus: sympy.Integer(2)},
            citation="Lin et al., ICCV 2017",
            aliases=("focal_loss", "sigmoid_focal"),
        ),
        Loss("squared_hinge", _squared_hinge, "squared hinge loss, max(0, 1 − yz)²"),
    )


#: name -> row. Adding a loss is adding a row.
LOSSES: dict[str, Loss] = {row.name: row for row in _rows()}
_BY_ALIAS = {alias: row for row in LOSSES.values() for alias in row.aliases}


def loss(name: str) -> Loss:
    """The row of a loss by name or alias, or InputError with the nearest names.

    >>> loss("mse").name
    'squared_error'
    """
    key = name.strip().lower().replace("-", "_")
    return _BY_ALIAS[key] if key in _BY_ALIAS else lookup(LOSSES, name, "loss")
