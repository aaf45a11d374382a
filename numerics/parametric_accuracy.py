"""The error of kernels with parameters at call time, over adversarial values of the parameters.

Each value is exact (a float is a rational number), so the row with it bound is a formula in x like any other, and
:func:`.accuracy.measure_accuracy` holds the kernel's result against its balls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy

from ..theory.activations import ACTIVATIONS, Activation
from ..theory.parametric import symbolic
from .accuracy import BOUNDS, Accuracy, adversarial_sample, bound, measure_accuracy
from .compiled import DTYPES, Array
from .kernels import kernel
from .parametric import ParametricKernel

#: Values of a positive parameter: usual, no short binary fraction, tiny and huge, the least float; of any real one
#: these with both signs, and 0.
VALUES = {
    "float64": (1.0, 0.25, 1.1, 3.0, 1e-3, 1e3, 1e-30, 1e30, 1e-300, 1e300, 5e-324),
    "float32": (1.0, 0.25, 1.1, 3.0, 1e-3, 1e3, 1e-30, 1e30, 1.4012984643248171e-45, 3e38),
}
#: Arguments t of the functions behind the rows: roots, ends of exponentials, and what lies between.
ARGUMENTS = (
    1e-40, 1e-17, 1e-9, 1e-3, 0.1, 0.5, 1.0, 1.278464542761074, 1.5434, 2.3993572805154, 3.7, 8.0, 17.0, 36.7, 87.3,
    103.9, 300.0, 650.5, 708.4, 744.4, 745.2, 999.0, 1001.0, 1e5,
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The error of one output at one value of the parameters."""

    label: str
    parameters: Mapping[str, float]
    accuracy: Accuracy
    bound: float | None

    @property
    def kept(self) -> bool:
        """Whether the promise holds; none made: nothing to keep."""
        return self.bound is None or self.accuracy.worst_ulp <= self.bound


def parameter_values(row: Activation, dtype: str) -> Iterator[dict[str, float]]:
    """One parameter after the other at each of :data:`VALUES`, the others at the row's defaults."""
    defaults = {str(p): float(v) for p, v in row.parameters.items()}
    for p in row.parameters:
        positive = VALUES[dtype]
        for value in positive if p.is_positive else (*positive, 0.0, *(-v for v in positive)):
            yield defaults | {str(p): value}


def bound_row(row: Activation, values: Mapping[str, float]) -> Activation:
    """The row with these floats as its parameters, exactly."""
    exact = {p: sympy.Rational(*float(values[str(p)]).as_integer_ratio()) for p in row.parameters}
    return replace(
        row, name=f"{row.name.split('(')[0]}({', '.join(f'{k}={v!r}' for k, v in values.items())})", parameters=exact
    )


def critical_points(values: Mapping[str, float], dtype: str) -> Array:
    """x at which p·x, x/p and x itself are critical, with neighbours."""
    kind = DTYPES[dtype]
    scales = {1.0} | {s for v in values.values() if v for s in (abs(v), 1 / abs(v))}
    with np.errstate(all="ignore"):
        points = np.array([t * s for t in ARGUMENTS for s in scales] + [0.0]).astype(kind)
        points = np.concatenate([points, np.nextafter(points, kind(np.inf)), points * kind(1.0371)])
    points = np.concatenate([points, -points])
    return np.unique(points[np.isfinite(points)])


def measure_parametric(
    k: ParametricKernel,
    values: Mapping[str, float],
    *,
    orders: tuple[int, ...] = (0, 1, 2),
    size: int = 0,
    seed: int = 0,
) -> Iterator[Measured]:
    """The error of f, f′, … and of ∂f/∂p for each parameter at these values; ``size`` more points of a sample each."""
    row = bound_row(k.activation, values)
    name = row.name.split("(")[0]
    for label, of, order, run in _outputs(k, row, dict(values), orders):
        if of.derivative(order).is_number:
            continue  # a constant: nothing is computed
        points = critical_points(values, k.dtype)
        if size:
            points = np.unique(np.concatenate([points, adversarial_sample(of, order, k.dtype, size=size, seed=seed)]))
        found = measure_accuracy(kernel(of, k.dtype), n_derivative=order, points=points, against=run)
        promise = bound(row, k.dtype, order) if of is row else BOUNDS[k.dtype][0]
        yield Measured(label, values, found, promise if name in ACTIVATIONS else None)


def _derivative(k: ParametricKernel, n: int, values: dict[str, Any]) -> Callable[[Array], Any]:
    return lambda points: k.derivative(points, n, **values)


def _outputs(
    k: ParametricKernel, row: Activation, values: dict[str, Any], orders: tuple[int, ...]
) -> Iterator[tuple[str, Activation, int, Callable[[Array], Any]]]:
    """(label, the row and its derivative that an output is, and the function of the kernel that computes it)."""
    for n in orders:
        label = ("f", "f′", "f″")[n] if n < 3 else f"f^({n})"
        yield label, row, n, _derivative(k, n, values)
    exact = dict(row.parameters)
    for j, p in enumerate(row.parameters):
        by = symbolic(row).expr.diff(p).subs(exact)

        def run(points: Array, j: int = j) -> Any:
            found = k.parameter_derivative(points, **values)
            return found[j] if isinstance(found, tuple) else found

        yield f"∂f/∂{p}", Activation(f"∂{row.name}/∂{p}", by), 0, run
