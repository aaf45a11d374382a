"""A PyTorch ``autograd.Function`` as a black box: its gradients as NumPy arrays, and the rules it must keep."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flint import arb, fmpq

from .probing import dyadic
from .subject import ExactRun

#: Relative difference beyond which two float64 values of one gradient are not the same.
TOLERANCE = 2.0**-26
#: The step of the exact difference quotient that second derivatives are compared with.
STEP_BITS = 200


class TorchFunction:
    """Runs ``function.apply`` on tensors made from arrays; ``names`` are the parameters of its forward after ctx."""

    def __init__(self, function: Any, wrt: Sequence[str] | None) -> None:
        self.function = function
        names = list(inspect.signature(function.forward).parameters)
        separate = "setup_context" in vars(function)
        self.names = tuple(names if separate else names[1:])
        self.wrt = tuple(wrt) if wrt else None

    def _active(self, inputs: Mapping[str, Any]) -> list[str]:
        real = [n for n, v in inputs.items() if np.asarray(v).dtype.kind == "f"]
        return [n for n in real if (n in self.wrt if self.wrt else True)]

    def _apply(self, inputs: Mapping[str, Any], active: Sequence[str]) -> tuple[dict[str, Any], tuple[Any, ...]]:
        import torch

        made: dict[str, Any] = {}
        for name, value in inputs.items():
            array = np.asarray(value)
            if array.ndim == 0 and name not in active:
                made[name] = value.item() if hasattr(value, "item") else value
            else:
                made[name] = torch.tensor(array, requires_grad=name in active)
        # Copies, so that a function may write into its arguments (ctx.mark_dirty): PyTorch forbids that for leaves.
        given = {n: made[n].clone() if n in active else made[n] for n in self.names if n in made}
        output = self.function.apply(*given.values())
        return made, output if isinstance(output, tuple) else (output,)

    def gradients(self, upstream: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The gradients for an upstream gradient, by input; None where the function returns None."""
        return self._gradients(upstream, inputs, self._active(inputs))

    def _gradients(self, upstream: Any, inputs: Mapping[str, Any], active: Sequence[str]) -> dict[str, Any]:
        import torch

        made, outputs = self._apply(inputs, active)
        parts = upstream if isinstance(upstream, tuple) else (upstream,)
        seeds = [_tensor(u).to(o.dtype) for u, o in zip(parts, outputs, strict=True)]
        found = torch.autograd.grad(outputs, [made[n] for n in active], seeds, allow_unused=True)
        return {n: None if g is None else g.detach().numpy() for n, g in zip(active, found, strict=True)}

    # The rules of autograd.Function ----------------------------------------------------------------------------------
    def troubles(self, run: ExactRun) -> list[str]:
        """What breaks PyTorch's own rules at a point, as sentences; empty if nothing does."""
        inputs = dict(run.point.inputs)
        active = self._active(inputs)
        upstream = tuple(run.upstream)
        whole = self._gradients(upstream, inputs, active)
        return [
            *self._alone(upstream, inputs, active, whole),
            *self._strided(upstream, inputs, active, whole),
            *self._twice(run, inputs, active),
        ]

    def _alone(self, upstream: Any, inputs: Mapping[str, Any], active: Sequence[str], whole: Any) -> list[str]:
        """Each input alone needs a gradient: ``ctx.needs_input_grad`` is mixed."""
        if len(active) < 2:
            return []
        found = []
        for name in active:
            try:
                alone = self._gradients(upstream, inputs, [name])[name]
            except Exception as error:
                return [f"raises {type(error).__name__} when only {name} needs a gradient (ctx.needs_input_grad)"]
            if alone is None or whole[name] is None or not _close(alone, whole[name]):
                found.append(f"another gradient for {name} when {name} alone needs one (ctx.needs_input_grad)")
        return found

    def _strided(self, upstream: Any, inputs: Mapping[str, Any], active: Sequence[str], whole: Any) -> list[str]:
        """An upstream gradient that is not contiguous, as a transposed output makes it."""
        if all(np.ndim(u) < 2 for u in upstream):
            return []
        try:
            found = self._gradients(tuple(np.asfortranarray(u) for u in upstream), inputs, active)
        except Exception as error:
            return [f"raises {type(error).__name__} for an upstream gradient that is not contiguous"]
        return [
            f"another gradient for {n} under an upstream gradient that is not contiguous"
            for n in active
            if found[n] is not None and whole[n] is not None and not _close(found[n], whole[n])
        ]

    def _twice(self, run: ExactRun, inputs: Mapping[str, Any], active: Sequence[str]) -> list[str]:
        """The second derivative against an exact difference quotient; a function may declare that it has none."""
        import torch

        weights = {n: dyadic(np.random.default_rng(5), np.shape(inputs[n])) for n in active}
        made, outputs = self._apply(inputs, active)
        seeds = [  # @once_differentiable looks at these alone
            torch.tensor(np.asarray(u)).to(o.dtype).requires_grad_() for u, o in zip(run.upstream, outputs, strict=True)
        ]
        leaves = [made[n] for n in active]
        try:
            first = torch.autograd.grad(outputs, leaves, seeds, create_graph=True, allow_unused=True)
            terms = [(g * torch.tensor(weights[n])).sum() for n, g in zip(active, first, strict=True) if g is not None]
            total = sum(terms, start=torch.zeros((), dtype=torch.float64))
            second: Sequence[Any] = [None] * len(leaves)
            if total.requires_grad:
                second = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
                total.backward()  # runs every node: where @once_differentiable raises
        except RuntimeError:
            return []  # declared with @once_differentiable, or refused: an error is no wrong number
        directional = float(
            sum(float((h.detach().numpy() * weights[n]).sum()) for n, h in zip(active, second) if h is not None)
        )
        exact = self._exact_second(run, active, weights)
        if exact is None or abs(directional - exact) <= 1e-6 * max(1.0, abs(exact)):
            return []
        return [
            f"double backward is wrong ({directional:.6g}, exact {exact:.6g}): keep it differentiable, or declare "
            "@once_differentiable"
        ]

    def _exact_second(self, run: ExactRun, active: Sequence[str], weights: Mapping[str, Any]) -> float | None:
        """⟨∂/∂x ⟨gradient, w⟩, w⟩ by a difference quotient whose step is 2⁻²⁰⁰ in 300 digits."""
        if self.subject is None or run.ties:
            return None
        from .subject import run_exact

        shift = {}
        for name in active:
            out = np.empty(np.shape(weights[name]), dtype=object)
            for spot in np.ndindex(*out.shape):
                top, bottom = float(weights[name][spot]).as_integer_ratio()
                out[spot] = fmpq(top, bottom * 2**STEP_BITS)
            shift[name] = out
        near = run_exact(self.subject, run.point, upstream=run.upstream, shift=shift, only_true=True)
        total = arb(0)
        for name in active:
            for spot in np.ndindex(*np.shape(weights[name])):
                gap = near.true[name][spot].value - run.true[name][spot].value
                total += gap * arb(float(weights[name][spot])) * arb(2) ** STEP_BITS
        return float(total.mid()) if total.is_finite() else None

    subject: Any = None  # the task it is part of; set by the preparation


def _tensor(value: Any) -> Any:
    """Return a tensor with the strides of an array."""
    import torch

    array = np.asarray(value)
    return (
        torch.tensor(array.T.copy()).permute(*range(array.ndim)[::-1]) if np.isfortran(array) else torch.tensor(array)
    )


def _close(a: Any, b: Any) -> bool:
    scale = max(float(np.abs(b).max(initial=0.0)), 1e-300)
    return np.shape(a) == np.shape(b) and bool(np.abs(np.asarray(a) - b).max(initial=0.0) <= TOLERANCE * scale)
