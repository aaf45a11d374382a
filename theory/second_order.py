"""Second-order products, by forward mode over reverse mode: no matrix of second derivatives is formed.

* Hessian-vector: H v = the tangent of the gradient along v;
* Gauss–Newton: G v = Jᵀ H_E J v, J the Jacobian of the outputs z, H_E the Hessian of the loss by z. It is positive
  semi-definite where the loss is convex in z, and equals H where z is linear in the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import sympy

from .backprop import jvp, vjp
from .errors import InputError
from .recurrence import put
from .tensors import Input, Scalar, Tensor
from .walking import inputs

if TYPE_CHECKING:
    from .layer_row import Layer
    from .networks import Network

ONE = Scalar(sympy.Integer(1))


def hessian_vector(value: Tensor, tangents: Mapping[str, Tensor], cotangent: Tensor = ONE) -> dict[str, Tensor]:
    """H v of a value (contracted with the cotangent) for tangents of inputs: one entry per input named."""
    gradients = vjp(value, list(tangents), cotangent)[0]
    found = {}
    for name, gradient in gradients.items():
        moving = {k: _at(t, k, value, gradient) for k, t in tangents.items() if k in inputs(gradient)}
        found[name] = jvp(gradient, moving).expand(gradient.axes) if moving else _zero(gradient)
    return found


def _at(tangent: Tensor, name: str, value: Tensor, gradient: Tensor) -> Tensor:
    """The tangent at the indices of the input's first occurrence in the gradient."""
    declared, here = inputs(value)[name], inputs(gradient)[name]
    return tangent.rename({a.name: b.name for a, b in zip(declared.indices, here.indices)})


def _zero(like: Tensor) -> Tensor:
    return Scalar(sympy.Integer(0)).expand(like.axes)


def layer_hessian(row: Layer, wrt: str) -> Tensor:
    """H v of ⟨dy, layer⟩ by one input, for the tangent ``v`` with that input's axes."""
    if wrt not in row.differentiable:
        raise InputError(f"{row.name} has no input {wrt!r} with a gradient: it has {', '.join(row.differentiable)}")
    here = inputs(row.forward)[wrt]
    return hessian_vector(row.forward, {wrt: Input("v", here.indices)}, row.cotangent)[wrt]


def network_hessian(net: Network) -> dict[str, Tensor]:
    """H v of a network's loss; the tangent of W1 is the input ``vW1``, and so on."""
    return hessian_vector(net.forward, _tangents(net))


def _tangents(net: Network) -> dict[str, Tensor]:
    occurring = inputs(net.forward)
    return {name: Input(f"v{name}", occurring[name].indices) for name in net.parameter_shapes}


def gauss_newton(net: Network) -> dict[str, Tensor]:
    """G v = Jᵀ H_E J v of a network's loss; the tangent of W1 is the input ``vW1``, and so on."""
    names, _ = net._graph
    z = names[f"Z{net.depth}"]
    placeholder = Input("z@", z.indices)
    seen: Tensor = placeholder if net.loss.from_logits else net.loss.predict(placeholder)
    value = net.loss.forward(seen, net.inputs["Y"], net.reduction)
    along = jvp(z, _tangents(net))
    curved = hessian_vector(value, {placeholder.name: Input("t@", placeholder.indices)})[placeholder.name]
    here = inputs(value)[placeholder.name]
    bent = put(curved, {placeholder: z, Input("t@", here.indices): along.expand(z.axes)})
    return vjp(z, list(net.parameter_shapes), bent)[0]
