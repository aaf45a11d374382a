"""Products with Jacobians and Hessians of layers and losses, derived and simplified: what ``--product`` shows.

=================  ====================================================================================================
``vjp``            Jᵀ dy, the gradient by each input for the cotangent dy
``jvp``            J dx, the tangent of the output for tangents of the inputs
``hvp``            H v, the Hessian of ⟨dy, y⟩ by each input (of a reduced loss: of the loss) times its tangent v
``gauss-newton``   Jᵀ H_E J v; a layer stands before the loss ½‖y − target‖², whose H_E is the identity
=================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sympy

from .backprop import jvp, vjp
from .derivation import Derivation, forward_definitions, readable
from .errors import InputError
from .notation import index_text
from .recurrence import has_recurrence, put
from .second_order import ONE, hessian_vector, layer_hessian
from .simplify import definitions
from .tensors import Axis, Input, Named, Tensor
from .walking import inputs

if TYPE_CHECKING:
    from .layer_row import Layer
    from .losses import Loss

#: kind -> what is shown above the products
PRODUCTS = {
    "vjp": "Jᵀ dy: the gradient by each input, for the cotangent dy of the output",
    "jvp": "J dx: the tangent dy of the output, for tangents of the inputs",
    "hvp": "H v: the Hessian of ⟨dy, y⟩ by each input, times the tangent v of that input",
    "gauss-newton": "Jᵀ H J v by each input, for its tangent v; H the Hessian of the loss",
}


#: Characters up to which a product is simplified; a longer one, or one through a recurrence, is shown as the rules gave
#: it.
SHORT = 3_000


def _known(kind: str) -> None:
    if kind not in PRODUCTS:
        raise InputError(f"unknown product {kind[:40]!r}: use {', '.join(PRODUCTS)}")


def _derivation(
    title: str,
    name: str,
    wrt: str,
    raw: Tensor,
    axes: Sequence[Axis],
    arguments: Iterable[Input],
    forward: Tensor,
    parameters: Mapping[sympy.Symbol, sympy.Expr],
    words: Iterable[Named] | None = None,
    facts: tuple[str, ...] = (),
) -> Derivation:
    vocabulary = tuple(words if words is not None else definitions(forward).values())
    raw = raw.expand(axes)
    short = len(index_text(raw)) < SHORT and not has_recurrence(raw)
    best = readable(raw, vocabulary, axes=axes) if short else raw
    return Derivation(
        title, name, wrt, tuple(axes), best, raw, tuple(arguments), (), dict(parameters), facts,
        words=forward_definitions(forward),
    )  # fmt: skip


# --- layers -------------------------------------------------------------------------------------------------


def layer_products(row: Layer, kind: str, wrt: str | None = None) -> list[Derivation]:
    """The products of a kind (a key of :data:`PRODUCTS`) by one input, or by every input that has a gradient.

    Raises InputError for a kind or an input that does not exist.

    >>> from .layers import layer
    >>> layer_products(layer("dense"), "jvp", "W")[0].matrix()
    'dy = x dW'
    """
    _known(kind)
    if wrt is not None and wrt not in row.differentiable:
        raise InputError(f"{row.name} has no input {wrt!r} with a gradient: it has {', '.join(row.differentiable)}")
    chosen = row.differentiable if wrt is None else (wrt,)
    if kind == "vjp":
        return [row.vjp(name) for name in chosen]
    if kind == "jvp":
        return [_layer_tangent(row, chosen)]
    return [_layer_product(row, kind, name) for name in chosen]


def _layer_tangent(row: Layer, chosen: tuple[str, ...]) -> Derivation:
    """J dx; the tangents of the row's stages are kept under names (dz for z)."""
    moved = [Input(f"d{a.name}", a.indices) for a in row.inputs if a.name in chosen]
    words = tuple(definitions(row.forward).values())
    kept: list[str] = []

    def at_name(node: Named, tangent: Tensor) -> Tensor:
        if node.name not in row.stages or f"d{node.name}" in kept or isinstance(tangent, Named):
            return tangent
        short = readable(tangent.expand(node.indices), words, opaque=kept, axes=node.indices)
        kept.append(f"d{node.name}")
        return Named(kept[-1], short.expand(node.indices), node.indices)

    raw = row.jvp(*chosen).expand(row.output_axes)
    staged = jvp(row.forward, {m.name[1:]: m for m in moved}, at_name)
    best = readable(staged.expand(row.output_axes), words, opaque=kept, axes=row.output_axes)
    return Derivation(
        row.title, "dy", ", ".join(chosen), row.output_axes, best, raw, (*moved, *row.inputs), (),
        dict(row.parameters), words=forward_definitions(row.forward),
    )  # fmt: skip


def _layer_product(row: Layer, kind: str, name: str) -> Derivation:
    target = next(a for a in row.inputs if a.name == name)
    here = inputs(row.forward)[name].indices
    v = Input("v", target.indices)
    given: tuple[Input, ...]
    if kind == "hvp":
        raw, given = layer_hessian(row, name), (v, row.cotangent)
    else:
        along = jvp(row.forward, {name: Input("v", here)}).expand(row.forward.axes)
        raw, given = vjp(row.forward, (name,), along)[0][name], (v,)
    raw = raw.rename({a.name: b.name for a, b in zip(here, target.indices)})
    letter = "H" if kind == "hvp" else "G"
    arguments = (*given, *row.inputs)
    return _derivation(
        row.title, f"{letter}v_{name}", name, raw, target.indices, arguments, row.forward, row.parameters
    )


# --- losses -------------------------------------------------------------------------------------------------


def loss_products(row: Loss, kind: str, reduction: str = "none") -> list[Derivation]:
    """The products of a kind by the prediction; Gauss–Newton by the pre-activations, through the output activation.

    >>> from .losses import loss
    >>> loss_products(loss("half_squared_error"), "hvp", "sum")[0].matrix()
    'Hv_z = v'
    """
    _known(kind)
    if kind == "vjp":
        return [row.gradient(reduction=reduction)]
    prediction, target = row.inputs()
    value = row.forward(prediction, target, reduction)
    cotangent: Any = ONE if reduction != "none" else Input("dy", value.axes)
    given = () if reduction != "none" else (cotangent,)
    name, axes = prediction.name, prediction.indices
    if kind == "jvp":
        moved = Input(f"d{name}", axes)
        raw = jvp(value, {name: moved})
        arguments: tuple[Input, ...] = (moved, prediction, target)
        return [
            _derivation(
                row.title, "dE", name, raw, value.axes, arguments, value, row.parameters, _words(row), _facts(row)
            )
        ]
    v = Input("v", axes)
    if kind == "hvp":
        raw = hessian_vector(value, {name: v}, cotangent)[name]
        arguments = (v, *given, prediction, target)
        return [
            _derivation(
                row.title, f"Hv_{name}", name, raw, axes, arguments, value, row.parameters, _words(row), _facts(row)
            )
        ]
    return [_loss_gauss_newton(row, reduction, cotangent, given)]


def _facts(row: Loss) -> tuple[str, ...]:
    return tuple(f"y {fact.kind} over k" for fact in row.target_facts if fact.axis is not None)


def _words(row: Loss) -> tuple[Named, ...]:
    """What a product may be written with: the prediction, and the words of the row."""
    prediction, target = row.inputs()
    own = definitions(row.forward(prediction, target, "none"))
    p = (Named("p", row.predict(prediction), prediction.indices),) if row.from_logits else ()
    return (*p, *(own[name] for name in row.words if name in own))


def _loss_gauss_newton(row: Loss, reduction: str, cotangent: Tensor, given: tuple[Input, ...]) -> Derivation:
    """G v = Jᵀ H_E J v, J the Jacobian of the prediction by the pre-activations z, H_E the loss's Hessian by it."""
    prediction, target = row.inputs()
    z = Input("z", prediction.indices)
    out: Tensor = z if row.from_logits else Named("p", row.predict(z), z.indices)
    seen = Input(f"{prediction.name}@", prediction.indices, prediction.facts)
    value = row.forward(seen, target, reduction)
    along = jvp(out, {"z": Input("v", z.indices)}).expand(out.axes)
    curved = hessian_vector(value, {seen.name: Input("t@", seen.indices)}, cotangent)[seen.name]
    bent = put(curved, {seen: out, Input("t@", inputs(value)[seen.name].indices): along})
    raw = vjp(out, ("z",), bent.expand(out.axes))[0]["z"]
    arguments = (Input("v", z.indices), *given, z, target)
    words = (Named("p", row.predict(z), z.indices),) if row.output != "identity" else ()
    return _derivation(row.title, "Gv_z", "z", raw, z.indices, arguments, out, row.parameters, words, _facts(row))
