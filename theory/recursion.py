"""The δ-recursion of a network of any depth L, proved by induction on the layer with the derived adjoints.

For z⁽ˡ⁺¹⁾ = σ(z⁽ˡ⁾) W⁽ˡ⁺¹⁾ + b⁽ˡ⁺¹⁾ and any loss E, with δ⁽ˡ⁾ = ∂E/∂z⁽ˡ⁾:

* base: δ⁽ᴸ⁾ is the gradient of the loss by the last pre-activation;
* step: z⁽ˡ⁾ acts on E through z⁽ˡ⁺¹⁾ alone, so δ⁽ˡ⁾ is the adjoint of one layer applied to δ⁽ˡ⁺¹⁾.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy

from .backprop import vjp
from .derivation import readable
from .equality import Comparison, equal
from .losses import Loss, loss
from .notation import index_latex, index_text, matrix_form
from .scalar_functions import scalar_function
from .styles import LATEX
from .tensors import Input, Named, Scalar, Tensor, apply, axis, map_function, slot
from .walking import inputs

N = axis("n")
#: feature axes before and after the layer, and of the output
_I, _O, _K = axis("i", "D_l"), axis("o", "D_l+1"), axis("k", "D_L")


def _layer(l: str) -> str:
    return f"⁽{l}⁾"


@dataclass(frozen=True)
class Line:
    """One statement of the theorem: what is claimed, what the adjoint rules gave, and the comparison of the two."""

    label: str
    name: str
    axes: tuple[object, ...]
    claimed: Tensor
    derived: Tensor
    reason: str

    @cached_property
    def proof(self) -> Comparison:
        """Comparison of the claim with the derivation by normal forms."""
        return equal(self.claimed, self.derived)

    def text(self, layout: str = "rows") -> str:
        """The claim as Unicode text."""
        body = matrix_form(self.claimed, self.axes, layout=layout) or index_text(self.claimed)  # type: ignore[arg-type]
        return f"{self.name} = {body}"

    def latex(self, layout: str = "rows") -> str:
        """The claim as LaTeX."""
        form = matrix_form(self.claimed, self.axes, style=LATEX, layout=layout)  # type: ignore[arg-type]
        body = form or index_latex(self.claimed)
        return f"{LATEX.name(self.name)} = {body}"


@dataclass(frozen=True)
class DeltaRecursion:
    """The theorem: base, step and the parameter gradients, each proved."""

    loss: Loss
    reduction: str
    base: Line
    step: Line
    weights: Line
    biases: Line
    skip: bool = False

    @property
    def lines(self) -> tuple[Line, ...]:
        """Base, step, weights, biases."""
        return self.base, self.step, self.weights, self.biases

    @property
    def proved(self) -> bool:
        """Whether every line is proved for all shapes, all σ and all values."""
        return all(line.proof.outcome == "equal" for line in self.lines)

    def text(self, layout: str = "rows") -> str:
        """The theorem and its proof as Unicode text."""
        step = "σ(z⁽ˡ⁾) W⁽ˡ⁺¹⁾" if layout == "rows" else "W⁽ˡ⁺¹⁾ σ(z⁽ˡ⁾)"
        first = (
            "layers of one width, z⁽¹⁾ = x W⁽¹⁾ + b⁽¹⁾"
            if layout == "rows"
            else "layers of one width, z⁽¹⁾ = W⁽¹⁾ x + b⁽¹⁾"
        )
        step, start = (f"z⁽ˡ⁾ + {step}", first) if self.skip else (step, "with x in place of σ(z⁽⁰⁾)")
        lines = [
            f"Theorem. Let z⁽ˡ⁺¹⁾ = {step} + b⁽ˡ⁺¹⁾ ({start}), E the {self.loss.title}"
            f" ({self.reduction}), and δ⁽ˡ⁾ = ∂E/∂z⁽ˡ⁾. Then for every depth L and every layer l < L:"
        ]
        lines += [f"  {line.text(layout)}" for line in self.lines]
        lines.append("Proof by induction on l, downward from L.")
        for line in self.lines:
            verdict = "proved" if line.proof.outcome == "equal" else f"NOT proved: {line.proof.why}"
            lines.append(f"  {line.label}: {line.reason} [{verdict}]")
        return "\n".join(lines)

    @property
    def latex(self) -> tuple[str, ...]:
        """The four lines as LaTeX."""
        return tuple(line.latex() for line in self.lines)


def delta_recursion(
    loss_name: str | Loss = "softmax_cross_entropy", reduction: str = "mean", *, skip: bool = False
) -> DeltaRecursion:
    """Derive and prove the δ-recursion of an L-layer network with symbolic L and l; ``skip`` adds z⁽ˡ⁾ to every layer.

    >>> print(delta_recursion().step.text())
    δ⁽ˡ⁾ = (δ⁽ˡ⁺¹⁾ W⁽ˡ⁺¹⁾ᵀ) ⊙ σ′(z⁽ˡ⁾)
    """
    row = loss_name if isinstance(loss_name, Loss) else loss(loss_name)
    return DeltaRecursion(row, reduction, _base(row, reduction), *_step(skip), skip)


def _base(row: Loss, reduction: str) -> Line:
    z = Input("z⁽ᴸ⁾", (N, _K))
    y = Input("y", (N, _K), row.target_facts)
    p = Named("p", row.predict(z), z.indices)
    value = row.forward(z if row.from_logits else p, y, reduction)
    gradients, _ = vjp(value, (z.name,), Scalar(sympy.Integer(1)))
    derived = gradients[z.name]
    claimed = readable(derived, [p], axes=z.axes)
    facts = " and ".join(f"y {f.kind}" for f in y.facts)
    reason = "the adjoint of the loss at the last layer" + (f", using that {facts}" if facts else "")
    return Line("base l = L", "δ⁽ᴸ⁾", z.indices, claimed, derived, reason)


def _step(skip: bool) -> tuple[Line, Line, Line]:
    sigma = scalar_function("σ")
    O = axis("o", "D_l") if skip else _O
    z = Input("z⁽ˡ⁾", (N, _I))
    W, b = Input("W⁽ˡ⁺¹⁾", (_I, O)), Input("b⁽ˡ⁺¹⁾", (O,))
    a = apply(sigma, z).named("a⁽ˡ⁾")
    following = (a * W).sum("i") + b
    following = z.rename(i="o") + following if skip else following
    delta = Input("δ⁽ˡ⁺¹⁾", (N, O))
    gradients, _ = vjp(following, (z.name, W.name, b.name), delta)
    slope = map_function(sigma(slot(0)).diff(slot(0)), z)
    claims = (
        (
            "step l+1 → l",
            "δ⁽ˡ⁾",
            z,
            (delta.rename(o="i") if skip else 0) + slope * (delta * W).sum("o"),
            "by hypothesis δ⁽ˡ⁺¹⁾ is right; its adjoint through one layer",
        ),
        ("weights", "∂E/∂W⁽ˡ⁺¹⁾", W, (a * delta).sum("n"), "the adjoint of the product by its other operand"),
        ("biases", "∂E/∂b⁽ˡ⁺¹⁾", b, delta.sum("n"), "the adjoint of a broadcast is a sum"),
    )
    here = {target.name: inputs(following)[target.name].indices for _, _, target, _, _ in claims}
    gradients = {
        target.name: gradients[target.name].rename({a.name: b.name for a, b in zip(here[target.name], target.indices)})
        for _, _, target, _, _ in claims
    }
    lines = (
        Line(label, name, target.indices, claimed, gradients[target.name], reason)
        for label, name, target, claimed, reason in claims
    )
    one, two, three = lines
    return one, two, three
