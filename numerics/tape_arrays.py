"""The arrays on the tape of a forward pass: found, named by their line, and differentiated with links replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .exact_arrays import Operation
from .exact_scalars import Ball, adjoints
from .subject import ExactRun, entries, true_gradient

Arrays = Any  # object arrays of balls


def adjoint_with(run: ExactRun, replaced: Mapping[Ball, Any], name: str) -> Arrays:
    """Return the gradient of ``name`` with the links of some balls replaced."""
    return true_gradient(adjoints(run.seeds, replaced), run.leaves[name])


def is_leaf(value: Any, run: ExactRun, name: str) -> bool:
    """Tell whether an operand is the input ``name`` itself."""
    try:
        array, leaves = entries(value), entries(run.leaves[name])
    except Exception:
        return False
    return array.shape == leaves.shape and all(
        a is b for a, b in zip(array.reshape(-1), leaves.reshape(-1), strict=True)
    )


def place_of(operation: Operation) -> str:
    """Write the line of forward at which an operation stands."""
    return f" (line {operation.line} of forward)" if operation.line else ""


def word_of(operation: Operation) -> str:
    """Write what an operation is, as a reader of forward would say it."""
    ufunc, _, method = operation.name.partition(".")
    if not method:
        return f"np.{ufunc}"
    if method == "accumulate":
        return {"add": "np.cumsum", "multiply": "np.cumprod"}.get(ufunc, f"np.{ufunc}.accumulate")
    return {"add": "sum/mean", "maximum": "max"}.get(ufunc, f"{ufunc}.reduce")


def active(value: Any) -> Arrays | None:
    """Return an operand as an array of balls if the inputs reach it, else None."""
    try:
        array = entries(value)
    except Exception:
        return None
    return array if array.size and all(isinstance(b, Ball) and b.active for b in array.reshape(-1)) else None


def active_arrays(run: ExactRun) -> Iterator[tuple[tuple[int, int], Arrays]]:
    """Yield the active arrays that operations read (k, i) and wrote (k, −1)."""
    for k, operation in enumerate(run.operations):
        for i, each in [*enumerate(operation.inputs), (-1, operation.output)]:
            array = active(each)
            if array is not None:
                yield (k, i), array


def fetch(run: ExactRun, place: tuple[int, int]) -> Arrays | None:
    """Return the array at a place of :func:`active_arrays`, in this run."""
    operation = run.operations[place[0]]
    return active(operation.output if place[1] < 0 else operation.inputs[place[1]])
