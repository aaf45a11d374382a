"""Scaled dot-product attention: its core, in one head or several, and self-attention with its projections.

``mask`` says which position s a position t may look at: "none" (all), "causal" (s ≤ t), "given" (an input of zeros and
ones, ``mask[t,s]``) or, with several sequences, "keys" (``mask[n,s]``: padding). What is left out counts as −∞ before
the softmax, so its weight is 0. A position that may look at nothing gets 0, and passes no gradient on.
"""

from __future__ import annotations

import sympy

from .errors import InputError
from .layer_row import Layer, axes_of
from .losses import softmax
from .tensors import BOOLEAN, Input, Position, Tensor, allowed, apply, axis, exp, slot

_n, _h, _t, _s, _d = (axis(name) for name in "nhtsd")
VASWANI = "Vaswani et al., NeurIPS 2017"
MASKS = {"none": "", "causal": "s ≤ t", "given": "mask[t,s]", "keys": "mask[n,s]"}


def not_later(t: Tensor, s: Tensor) -> Tensor:
    """1 where s ≤ t, else 0."""
    return apply(sympy.Piecewise((1, slot(1) <= slot(0)), (0, True)), t, s)


def masked_softmax(z: Tensor, over: str, mask: Tensor) -> Tensor:
    """Softmax over the entries that the mask allows; 0 elsewhere, and 0 everywhere if none is allowed."""
    shift = allowed(mask, z).max(over).named("m")
    e = exp(allowed(mask, z - shift)).named("e")
    s = e.sum(over).named("s")
    return apply(sympy.Piecewise((slot(0) / slot(1), slot(1) > 0), (0, True)), e, s)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: str, given: tuple[Tensor, ...] = ()) -> Tensor:
    """Σ_s A[t,s] v[s,e], A the softmax over s of q·k/√D."""
    scores = ((q * k).sum("d") / sympy.sqrt(q.axis("d").size)).named("S")
    if mask == "none":
        weights = softmax(scores, "s")
    else:
        here = not_later(Position(q.axis("t")), Position(k.axis("s"))) if mask == "causal" else given[0]
        weights = masked_softmax(scores, "s", here)
    return (weights.named("A") * v).sum("s")


def _checked(mask: str, known: tuple[str, ...]) -> str:
    if mask not in known:
        raise InputError(f"mask {str(mask)[:40]!r}: it is one of {', '.join(known)}")
    return mask


def _title(text: str, mask: str) -> str:
    if mask == "none":
        return text
    return f"{text}, mask {mask}" + (f": {MASKS[mask]}" if mask == "causal" else "")


def attention_row(several: bool, *, mask: str = "none") -> Layer:
    """The row of the core, for one sequence or for several in several heads."""
    _checked(mask, tuple(MASKS) if several else ("none", "causal", "given"))
    before = "n h " if several else ""
    inputs = [Input(name, axes_of(before + axes)) for name, axes in (("q", "t d"), ("k", "s d"), ("v", "s e"))]
    if mask in ("given", "keys"):
        inputs.append(Input("mask", axes_of("t s" if mask == "given" else "n s"), (BOOLEAN,)))
    title = "scaled dot-product attention" + (", several heads" if several else "")
    return Layer(
        "multi_head_attention" if several else "attention",
        lambda q, k, v, *given: attend(q, k, v, mask, given), tuple(inputs), _title(title, mask), citation=VASWANI,
        stages=("A", "S"), data=("q", "k", "v", "mask"), options={"mask": mask},
        variant=lambda **chosen: attention_row(several, **chosen),
    )  # fmt: skip


def self_attention(*, mask: str = "none") -> Layer:
    """The row of self-attention: queries, keys and values are projections of x[n,t,i], H heads, and one projection out.

    y[n,t,o] = Σ_h,e z[n,t,h,e] Wo[h,e,o] + bo[o], with z = attention of x Wq + bq, x Wk + bk, x Wv + bv in every head.
    """
    _checked(mask, ("none", "causal", "keys"))
    parts = {"Wq": "i h d", "bq": "h d", "Wk": "i h d", "bk": "h d", "Wv": "i h e", "bv": "h e", "Wo": "h e o",
             "bo": "o"}  # fmt: skip
    inputs = [Input("x", axes_of("n t i")), *(Input(name, axes_of(axes)) for name, axes in parts.items())]
    if mask == "keys":
        inputs.append(Input("mask", axes_of("n s:T"), (BOOLEAN,)))

    def formula(x: Tensor, *given: Tensor) -> Tensor:
        p = dict(zip(parts, given))
        q = ((x * p["Wq"]).sum("i") + p["bq"]).named("q")
        k, v = (((x.rename(t="s") * p[f"W{w}"]).sum("i") + p[f"b{w}"]).named(w) for w in "kv")
        z = attend(q, k, v, mask, given[len(parts) :]).named("z")
        return (z * p["Wo"]).sum(("h", "e")) + p["bo"]

    return Layer(
        "self_attention", formula, tuple(inputs), _title("self-attention with its projections", mask),
        citation=VASWANI, stages=("z", "A", "S", "q", "k", "v"), output=("n", "t", "o"), options={"mask": mask},
        variant=lambda **chosen: self_attention(**chosen), aliases=("mha",),
    )  # fmt: skip


def rows() -> tuple[Layer, ...]:
    """Every row of this family, without a mask."""
    return attention_row(False), attention_row(True), self_attention()
