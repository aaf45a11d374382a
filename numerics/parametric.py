"""Activations whose parameters are arguments of the compiled loop: a trained slope or steepness compiles nothing.

The program is :func:`backproof.theory.parametric.parametric_program`'s, printed as any kernel's. A parameter is one
number, or an array along an axis of x (PyTorch's PReLU has one a channel), which repeats under the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import numpy as np
import sympy

from ..theory.activations import Activation, activation
from ..theory.errors import InputError, lookup
from ..theory.lowering import Program
from ..theory.parametric import parametric_program, symbolic
from .compiled import (
    COPIED_PIECE,
    DTYPES,
    Array,
    Periodic,
    apply,
    as_input,
    check_out,
    file_name,
    load,
    one_line,
    unlocked,
    write_once,
)
from .files import cache_directory
from .kernels import arithmetic_of
from .sharing import processors, shared

#: Entries of a share of a gradient that a thread takes.
SHARE = 32_768
#: What a kernel computes in one pass: derivatives in x, parameters by which to derive, and whether dy multiplies.
Task = tuple[tuple[int, ...], tuple[str, ...], bool]


@dataclass(frozen=True)
class _Given:
    """The parameters of one call: numbers, and arrays that have ``suffix``, the last axes of x, as their shape."""

    values: dict[str, float | Array]
    #: the shape in which each array was given, with an axis for each of x
    shapes: dict[str, tuple[int, ...]]
    suffix: tuple[int, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        return tuple(name for name in self.values if name not in self.shapes)

    def arguments(self, longest: int) -> list[Any]:
        """As the compiled loop takes them, in shares of at most ``longest``."""
        return [Periodic(v.reshape(-1), longest) if isinstance(v, np.ndarray) else v for v in self.values.values()]


@dataclass(frozen=True, eq=False)
class ParametricKernel:
    """A compiled activation with parameters at call time: ``k(x, beta=1.5)``, ``k.vjp(x, dy, beta=…)``.

    ``x`` and ``out`` are as for :class:`.kernels.Kernel`. A parameter that is not named has the row's default. Given,
    it is a number (used in float64, whatever ``dtype``) or an array of ``dtype``: of one axis, along ``axis`` of x
    (the last by default), or of as many axes as x has, of which those of length 1 are repeated. Values outside the
    parameter's domain are refused. Results are rounded once: float32 ones of steps in float64, float64 ones of steps in
    pairs of floats.
    """

    activation: Activation
    dtype: str
    _runs: dict[tuple[Task, tuple[str, ...]], Callable[..., Any]] = field(default_factory=dict, repr=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in the order of their gradients."""
        return tuple(self._known)

    def __call__(self, x: Any, *, out: Array | None = None, axis: int = -1, **parameters: Any) -> Any:
        """f(x)."""
        return self._evaluate(((0,), (), False), [x], (out,), axis, parameters)[0]

    def derivative(self, x: Any, n: int = 1, *, out: Array | None = None, axis: int = -1, **parameters: Any) -> Any:
        """The n-th derivative in x."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"order of a derivative must be 0, 1, 2, …, not {n!r}")
        return self._evaluate(((n,), (), False), [x], (out,), axis, parameters)[0]

    def value_and_derivative(
        self, x: Any, *, out: tuple[Array | None, Array | None] | None = None, axis: int = -1, **parameters: Any
    ) -> tuple[Any, Any]:
        """(f(x), f′(x)) in one pass."""
        if out is not None and (not isinstance(out, tuple) or len(out) != 2):
            raise InputError("out of value_and_derivative must be a pair of arrays")
        value, slope = self._evaluate(((0, 1), (), False), [x], out or (None, None), axis, parameters)
        return value, slope

    def parameter_derivative(self, x: Any, *, axis: int = -1, **parameters: Any) -> Any:
        """∂f/∂p entry by entry, of the shape of x; a tuple in the order of :attr:`parameters` of several."""
        task: Task = ((), self.parameters, False)
        found = self._evaluate(task, [x], (None,) * len(self.parameters), axis, parameters)
        return found[0] if len(found) == 1 else tuple(found)

    def vjp(self, x: Any, dy: Any, *, axis: int = -1, **parameters: Any) -> tuple[Any, ...]:
        """(dx, dp, …) in one pass: dy·f′(x), and for each parameter Σ dy·∂f/∂p over the entries that share it.

        dx has the shape of x, dp that of the parameter as given. Terms of dp are float64 and added in float64 in an
        order that the threads do not change; what is left of a sum that cancels is measured by Σ |dy·∂f/∂p|.
        """
        return self._gradients(x, dy, axis, parameters, (1,))

    def parameter_gradient(self, x: Any, dy: Any, *, axis: int = -1, **parameters: Any) -> Any:
        """Of :meth:`vjp` the gradients by the parameters alone; a tuple where there are several."""
        found = self._gradients(x, dy, axis, parameters, ())
        return found[0] if len(found) == 1 else found

    # ------------------------------------------------------------------------------------------------------- evaluating

    def _evaluate(
        self, task: Task, inputs: Sequence[Any], outs: Sequence[Array | None], axis: int, parameters: Mapping[str, Any]
    ) -> list[Any]:
        x = as_input(inputs[0], self.dtype, "x")
        given = self._given(parameters, x.shape, axis)
        checked = [None if out is None else check_out(out, x.shape, self.dtype, "out") for out in outs]
        targets = [out for out in checked if out is not None]
        if len(targets) == 2 and np.may_share_memory(targets[0], targets[1]):
            raise InputError("the two arrays of out share memory")
        if given.shapes:  # they repeat in the order of the last axes
            x = np.ascontiguousarray(x)
        run = self._run(task, given.numbers)
        results = apply(run, [x, *given.arguments(COPIED_PIECE)], checked, self.dtype)
        return [result[()] if out is None else result for result, out in zip(results, outs, strict=True)]

    def _gradients(
        self, x: Any, dy: Any, axis: int, parameters: Mapping[str, Any], orders: tuple[int, ...]
    ) -> tuple[Any, ...]:
        array, upstream = as_input(x, self.dtype, "x"), as_input(dy, self.dtype, "dy")
        if upstream.shape != array.shape:
            raise InputError(f"dy has shape {upstream.shape}, x has {array.shape}: they must agree")
        given = self._given(parameters, array.shape, axis)
        flat = [unlocked(np.ascontiguousarray(a).reshape(-1)) for a in (array, upstream)]
        gradients = [np.empty(array.size, self.dtype) for _ in orders]
        period = max(1, math.prod(given.suffix))
        step = min(period * max(1, SHARE // period), max(1, array.size))
        arguments = given.arguments(step)
        run = self._run((orders, self.parameters, True), given.numbers)

        partial: dict[int, list[Array]] = {}

        def share(start: int) -> None:
            part = slice(start, min(start + step, array.size))
            terms = [np.empty(part.stop - start) for _ in self.parameters]
            taken = [a[part] if isinstance(a, Periodic) else a for a in arguments]
            run(*(a[part] for a in flat), *taken, *(g[part] for g in gradients), *terms)
            partial[start] = [t.reshape(-1, *given.suffix).sum(axis=0) for t in terms]

        starts = range(0, array.size, step)
        shared(share, starts, min(processors(), len(starts)))
        sums = [sum((partial[s][k] for s in starts), np.zeros(given.suffix)) for k in range(len(self.parameters))]
        found = [self._summed(total, name, given, parameters) for name, total in zip(self.parameters, sums)]
        return (*(g.reshape(array.shape)[()] for g in gradients), *found)

    def _summed(self, total: Array, name: str, given: _Given, parameters: Mapping[str, Any]) -> Any:
        """The sum in the shape in which the parameter was given."""
        if name not in given.shapes:
            return DTYPES[self.dtype](total.sum())
        of = given.shapes[name][len(given.shapes[name]) - len(given.suffix) :]
        repeated = tuple(k for k, (own, whole) in enumerate(zip(of, given.suffix, strict=True)) if own != whole)
        return total.sum(axis=repeated, keepdims=True).reshape(np.shape(parameters[name])).astype(self.dtype)

    # ------------------------------------------------------------------------------------------------------- parameters

    @cached_property
    def _known(self) -> dict[str, tuple[float, bool]]:
        """Parameter -> (its default, whether it must be positive)."""
        return {str(p): (float(v), bool(p.is_positive)) for p, v in self.activation.parameters.items()}

    def _given(self, parameters: Mapping[str, Any], shape: tuple[int, ...], axis: int) -> _Given:
        known = self._known
        for name in parameters:
            lookup(known, name, f"parameter of {self.activation.name}")
        values: dict[str, float | Array] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (default, is_positive) in known.items():
            value = parameters.get(name, default)
            if isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value) > 0:
                array = as_input(value, self.dtype, name)
                values[name], shapes[name] = array, _aligned(name, array.shape, shape, axis)
            else:
                values[name] = _number(name, value)
            _require_domain(name, values[name], is_positive)
        if not shapes:
            return _Given(values, shapes, ())
        leading = min((_leading(s) for s in shapes.values()), default=len(shape))
        suffix = shape[leading:]
        for name, of in shapes.items():
            array = np.asarray(values[name]).reshape(of)
            values[name] = np.ascontiguousarray(np.broadcast_to(array.reshape(of[leading:]), suffix))
        return _Given(values, shapes, suffix)

    # --------------------------------------------------------------------------------------------------------- programs

    def _run(self, task: Task, numbers: tuple[str, ...]) -> Callable[..., Any]:
        key = (task, numbers)
        if key not in self._runs:
            self._runs[key] = load(self.path_of(task, numbers))
        return self._runs[key]

    def program(self, task: Task) -> Program:
        """The program of a task; its inputs are x, dy where that multiplies, and the parameters."""
        orders, by, upstream = task
        symbols = [s for s in self.activation.parameters if str(s) in by]
        return parametric_program(
            self.activation, orders, arithmetic_of(self.dtype, "cpu"), by=symbols, upstream=upstream
        )

    def path_of(self, task: Task = ((0, 1), (), False), numbers: tuple[str, ...] | None = None) -> Any:
        """The file that computes a task where the parameters in ``numbers`` (all by default) are single numbers."""
        numbers = self.parameters if numbers is None else numbers
        orders, by, upstream = task
        row = symbolic(self.activation)
        outputs = "_".join([*(f"d{n}" for n in orders), *by])
        determining = [sympy.srepr(part) for part in (row.expr, *row.parameters, *chain(*row.stated.items()))]
        title = f"{row.name.split('(')[0]}_of_parameters_{outputs}_{self.dtype}"
        key = (self.dtype, repr(task), repr(numbers), *determining, _digest())
        path = cache_directory() / file_name(title, *key)
        if not path.exists():
            from .targets.numba_cpu import print_source

            what = f"{one_line(self.activation.name)}: {one_line(str(row.expr))}, parameters at call time"
            program = self.program(task)
            wide = [name for name in program.outputs if name.startswith("by_")] if upstream else ()
            write_once(path, print_source(program, dtype=self.dtype, scalars=numbers, wide=wide, title=what))
        return path


def _digest() -> str:
    from pathlib import Path

    from ..theory import parametric

    return Path(parametric.__file__).read_text(encoding="utf-8")


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"parameter {name} must be a real number or an array, not {type(value).__name__}") from None


def _require_domain(name: str, value: float | Array, is_positive: bool) -> None:
    """One clear line for a value that the table does not allow."""
    if isinstance(value, float) and math.isfinite(value) and (value > 0 or not is_positive):
        return
    array = np.asarray(value)
    wrong = ~np.isfinite(array)
    if is_positive:
        wrong |= ~(array > 0)
    if wrong.any():
        first = float(array[wrong].flat[0])
        raise InputError(f"parameter {name} must be finite{' and positive' * is_positive}, not {first!r}")


def _aligned(name: str, given: tuple[int, ...], shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The parameter's shape with an axis for each of x."""
    if len(given) == 1 and shape:
        if not -len(shape) <= axis < len(shape):
            raise InputError(f"axis {axis}: x has {len(shape)} axes")
        full = [1] * len(shape)
        full[axis] = given[0]
        given = tuple(full)
    fits = len(given) == len(shape) and all(g in (1, s) for g, s in zip(given, shape, strict=True))
    if not fits:
        raise InputError(
            f"parameter {name} has shape {tuple(given)}, x has {shape}: wanted one number, one along an axis, "
            "or a shape that is repeated to that of x"
        )
    return tuple(given)


def _leading(shape: tuple[int, ...]) -> int:
    """How many axes stand before the first along which a parameter differs."""
    return next((k for k, size in enumerate(shape) if size != 1), len(shape))


@lru_cache(maxsize=64)
def _made(row: Activation, dtype: str) -> ParametricKernel:
    symbolic(row)
    return ParametricKernel(row, dtype)


def parametric_kernel(spec: Any, dtype: str = "float64") -> ParametricKernel:
    """The kernel of a row with its parameters as arguments: swish, leaky_relu, prelu, elu, celu, selu and their kin.

    ``spec`` is a row's name, or one with other defaults ("elu(alpha=2)"). Nothing is compiled before it is called, and
    nothing again when a parameter changes. Raises :class:`InputError` for an unknown name or dtype and for what has no
    parameters.

    >>> k = parametric_kernel("prelu")
    >>> k([-2.0, 3.0], a=0.5)
    array([-1.,  3.])
    >>> dx, da = k.vjp([-2.0, 3.0], [1.0, 1.0], a=0.5)
    >>> dx.tolist(), float(da)
    ([0.5, 1.0], -2.0)
    """
    name = np.dtype(dtype).name if dtype in (np.float32, np.float64) else str(dtype)
    lookup(DTYPES, name, "dtype")
    return _made(activation(spec), name)
