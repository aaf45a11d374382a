"""Formula → stable program → source file → compiled kernel, kept on disk.

A kernel's source is a real file in the user's cache folder (:func:`.files.cache_directory`), so a second process
compiles nothing, tracebacks show lines, and a person can read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from ..theory.activations import Activation, activation
from ..theory.arithmetic import ARITHMETICS, Arithmetic, fused, paired
from ..theory.errors import InputError, lookup
from ..theory.lowering import Program
from .compiled import (
    DTYPES,
    SMALLEST_SHARED,
    Array,
    apply,
    as_input,
    check_out,
    file_name,
    load,
    one_line,
    run_apart,
    write_once,
)
from .elementwise import Elementwise, compile_elementwise
from .files import cache_directory

__all__ = [
    "DTYPES",
    "PRECISIONS",
    "SMALLEST_SHARED",
    "TARGETS",
    "Elementwise",
    "Kernel",
    "activation_program",
    "compile_elementwise",
    "kernel",
]


#: Formats of 16 bits, computed by looking results up.
HALF = ("float16", "bfloat16")
#: The one object NumPy has for each native dtype: ``is`` is the quickest comparison.
DTYPE_OBJECTS = {name: np.dtype(name) for name in DTYPES}


@dataclass(frozen=True)
class Target:
    """One way to run a program: its printer and how the printed module is called."""

    name: str
    printer: Callable[..., str]
    #: True: ``run(inputs…, outputs…)`` fills arrays. False: ``run(inputs…)`` returns new ones.
    in_place: bool


def _numba_source(program: Program, **options: Any) -> str:
    from .targets.numba_cpu import print_source

    return print_source(program, **options)


def _numpy_source(program: Program, **options: Any) -> str:
    from .targets.numpy import print_source

    return print_source(program, **options)


def _cuda_source(program: Program, **options: Any) -> str:
    from .targets.cuda import print_source

    return print_source(program, **options)


TARGETS: dict[str, Target] = {
    "cpu": Target("cpu", _numba_source, in_place=True),
    "numpy": Target("numpy", _numpy_source, in_place=False),
    "cuda": Target("cuda", _cuda_source, in_place=True),
}


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled activation: ``k(x)``, ``k.derivative(x, n)``, ``k.value_and_derivative(x)``, on arrays of any shape.

    ``x`` holds ``dtype`` (integers and smaller floats are converted; a larger float is refused). ``out`` may be ``x``
    itself. With ``precision`` "fast" (float32) the steps are computed in float32 where that stays within
    :data:`.fast.MOST` ULP, in float64 where it does not (:meth:`arithmetic`). NaN gives NaN; ±∞ gives the limit where
    there is one. At a kink the derivative is the row's stated value.
    """

    activation: Activation
    dtype: str
    target: str
    precision: str = "default"
    _runs: dict[tuple[int, ...], Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __call__(self, x: Any, out: Array | None = None) -> Any:
        """f(x)."""
        return self._single(0, x, out)

    def derivative(self, x: Any, n: int = 1, out: Array | None = None) -> Any:
        """The n-th derivative at ``x``."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"order of a derivative must be 0, 1, 2, …, not {n!r}")
        return self._single(n, x, out)

    def _single(self, n: int, x: Any, out: Array | None) -> Any:
        """One output, by the short way where it is open."""
        if out is None:
            if self._is_plain(x):
                value = np.empty_like(x)
                run_apart(self._run((n,)), x, value)
                return value
        elif self._are_alike(x, out):
            try:
                run_apart(self._runs[n,], x, out)
                return out
            except (KeyError, TypeError):  # not loaded yet, or not contiguous: compiled code looks before it computes
                pass
        return self._evaluate((n,), x, (out,))[0]

    def value_and_derivative(self, x: Any, out: tuple[Array | None, Array | None] | None = None) -> tuple[Any, Any]:
        """(f(x), f′(x)) in one pass."""
        if out is None:
            if self._is_plain(x):
                pair = np.empty_like(x), np.empty_like(x)
                run_apart(self._run((0, 1)), x, *pair)
                return pair
        elif type(out) is tuple and len(out) == 2 and self._are_alike(x, *out):
            try:
                run_apart(self._runs[0, 1], x, *out)  # type: ignore[arg-type]
                return out
            except (KeyError, TypeError):  # not loaded yet, or not contiguous: compiled code looks before it computes
                pass
        if out is not None and (not isinstance(out, tuple) or len(out) != 2):
            raise InputError("out of value_and_derivative must be a pair of arrays")
        value, derivative = self._evaluate((0, 1), x, out or (None, None))
        return value, derivative

    def jet(self, x: Any, n: int = 2) -> tuple[Any, ...]:
        """(f(x), f′(x), …, f⁽ⁿ⁾(x)) in one pass."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"order of a jet must be 0, 1, 2, …, not {n!r}")
        orders = tuple(range(n + 1))
        return tuple(self._evaluate(orders, x, (None,) * (n + 1)))

    def vjp(self, x: Any, dy: Any, out: Array | None = None) -> Any:
        """dy·f′(x) in one pass, rounded once; ``dy`` has the shape of ``x`` and ``out`` may be either of them.

        With ``precision`` "fast" f′ is computed in float32 where it is on its own, and the product adds half an ULP;
        where f′ is subnormal it has the fewer digits of one.
        """
        array, upstream = as_input(x, self.dtype, "x"), as_input(dy, self.dtype, "dy")
        if upstream.shape != array.shape:
            raise InputError(f"dy has shape {upstream.shape}, x has {array.shape}: they must agree")
        checked = None if out is None else check_out(out, array.shape, self.dtype, "out")
        if self.target == "cpu":
            from .vjp import vjp_run

            (result,) = apply(
                vjp_run(self.activation, self.dtype, self.precision), [array, upstream], [checked], self.dtype
            )
        else:
            (result,) = _collect(upstream * self.derivative(array), [checked])
        return result[()] if out is None else result

    def _is_plain(self, x: Any) -> bool:
        """Whether compiled code takes ``x`` as it is: the short way."""
        if type(x) is not np.ndarray or x.ndim != 1 or not TARGETS[self.target].in_place:
            return False
        flags = x.flags
        return x.dtype is DTYPE_OBJECTS[self.dtype] and flags.c_contiguous and flags.writeable

    def _are_alike(self, x: Any, *outs: Any) -> bool:
        """Whether ``outs`` are different arrays like ``x`` that own their memory: then none overlaps another."""
        if type(x) is not np.ndarray or x.base is not None or x.ndim != 1 or self.target != "cpu":
            return False
        kind, shape = DTYPE_OBJECTS[self.dtype], x.shape
        if x.dtype is not kind or (len(outs) > 1 and outs[0] is outs[1]):
            return False
        for out in outs:
            if type(out) is not np.ndarray or out is x or out.base is not None:
                return False
            if out.dtype is not kind or out.shape != shape:
                return False
        return True

    def _evaluate(self, orders: tuple[int, ...], x: Any, outs: Sequence[Array | None]) -> list[Any]:
        array = as_input(x, self.dtype, "x")
        checked = [None if out is None else check_out(out, array.shape, self.dtype, "out") for out in outs]
        given = [out for out in checked if out is not None]
        if len(given) == 2 and _overlap(*given):
            raise InputError("the two arrays of out share memory")
        run = self._run(orders)
        if not TARGETS[self.target].in_place:
            with np.errstate(all="ignore"):  # an overflow that is the exact answer is no news
                results = _collect(run(array), checked)
        else:
            results = apply(run, [array], checked, self.dtype)
        return [result[()] if out is None else result for result, out in zip(results, outs, strict=True)]

    def _run(self, orders: tuple[int, ...]) -> Callable[..., Any]:
        if orders not in self._runs:
            self._runs[orders] = load(self.path_of(orders))
        return self._runs[orders]

    def path_of(self, orders: tuple[int, ...] = (0,)) -> Path:
        """The file that computes these derivatives together; written if it is not there."""
        if self.precision == "fast":
            from .fast import chosen

            return chosen(self.activation, orders)[0]
        title = f"{self.activation.name}_{'_'.join(f'd{n}' for n in orders)}_{self.dtype}_{self.target}"
        row = self.activation  # its derivatives follow from these: SymPy need not take them again
        determining = [sympy.srepr(part) for part in (row.expr, *row.stated.keys(), *row.stated.values())]
        folder = cache_directory()
        path = folder / file_name(title, self.dtype, self.target, *map(str, orders), *determining)
        if not path.exists():
            write_once(path, self._print(orders))
        return path

    def _print(self, orders: tuple[int, ...]) -> str:
        program = activation_program(self.activation, orders, self.dtype, self.target)
        what = ", ".join(("f", "f′", "f″")[n] if n < 3 else f"f^({n})" for n in orders)
        title = f"{what} of {one_line(self.activation.name)}: {one_line(str(self.activation.expr))}"
        return TARGETS[self.target].printer(program, dtype=self.dtype, title=title)

    def arithmetic(self, orders: tuple[int, ...] = (0, 1)) -> str:
        """What the steps are computed in ("float64", "float32"), with the reason where a fast form was refused."""
        if self.precision == "fast":
            from .fast import chosen

            return chosen(self.activation, orders)[1]
        return self.dtype if self.target == "numpy" else "float64"

    @property
    def path(self) -> Path:
        """The file of value and first derivative."""
        return self.path_of((0, 1))

    @cached_property
    def source(self) -> str:
        """The source of value and first derivative, as it is compiled."""
        return self.path.read_text(encoding="utf-8")


def _overlap(p: Array, q: Array) -> bool:
    """Whether two arrays share an entry; where that takes long to find out, whether their memory meets."""
    try:
        return np.shares_memory(p, q, max_work=10_000)  # type: ignore[arg-type]  # the stubs know two values
    except np.exceptions.TooHardError:
        return np.may_share_memory(p, q)


def _collect(results: Any, outs: Sequence[Array | None]) -> list[Any]:
    listed = list(results) if isinstance(results, tuple) else [results]
    for k, out in enumerate(outs):
        if out is not None:
            np.copyto(out, listed[k])
            listed[k] = out
        else:
            listed[k] = np.asarray(listed[k])
    return listed


def activation_program(
    row: Activation,
    orders: Sequence[int],
    dtype: str = "float64",
    target: str | None = None,
    *,
    factors: Mapping[str, Sequence[str]] | None = None,
) -> Program:
    """The stable program that computes these derivatives of ``row`` together, for one target or for any.

    Tables of polynomials may be part of it on targets that hold them. ``factors``: output -> further inputs by which it
    is multiplied.
    """
    from .acceptance import accepted

    given = arithmetic_of(dtype, target)
    return accepted(row, orders, dtype, given, tables=target in WITH_TABLES, factors=factors).program


#: Targets that hold tables of polynomials; the others compute a typed formula without.
WITH_TABLES = ("cpu", "numpy")


def arithmetic_of(dtype: str, target: str | None) -> Arithmetic:
    """What a target computes a dtype's results in: fused where it can be, then float64 in pairs of floats."""
    plain = ARITHMETICS[dtype]
    if target not in ("cpu", "cuda"):
        return plain
    return paired(plain) if dtype == "float64" else fused(plain)


_KERNELS: dict[tuple[Any, ...], Kernel] = {}


#: What a kernel may give up: nothing, or up to :data:`.fast.MOST` ULP of a float32 for speed.
PRECISIONS = ("default", "fast")


def kernel(
    spec: Any, dtype: str = "float64", target: str = "cpu", *, precision: str = "default", **parameters: Any
) -> Kernel:
    """The kernel of an activation: a row's name, a formula in x, or a SymPy expression.

    ``dtype`` is "float64" or "float32", on the targets cpu (:mod:`.half`) and cuda "float16" or "bfloat16" too;
    ``target`` is "cpu" (Numba), "cuda" (numba-cuda) or "numpy"; ``precision`` "default" or, for float32, "fast".
    Nothing is compiled before it is called. Raises :class:`InputError` for an unknown name, dtype, target, precision or
    parameter, :class:`Unsupported` for a formula that cannot be compiled.

    >>> k = kernel("relu", target="numpy")
    >>> k([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """
    row = activation(spec, **parameters)
    name = _dtype_name(dtype)
    lookup(TARGETS, target, "target")
    lookup(DTYPES if target == "numpy" else {**DTYPES, **dict.fromkeys(HALF)}, name, "dtype")
    lookup(dict.fromkeys(PRECISIONS), precision, "precision")
    if precision == "fast" and (name != "float32" or target == "numpy"):
        raise InputError(f"precision fast is for float32 on the targets cpu and cuda, not for {name} on {target}")
    key = (row, name, target, precision)
    if key not in _KERNELS:
        _KERNELS[key] = _kind(target, name)(row, name, target, precision)
    return _KERNELS[key]


def _dtype_name(dtype: Any) -> str:
    """A name as it is; of NumPy's types and dtypes the name."""
    if isinstance(dtype, str) or dtype is None:
        return str(dtype)
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)


def _kind(target: str, dtype: str) -> type[Kernel]:
    if dtype in HALF and target == "cpu":
        from .half import HalfKernel

        return HalfKernel
    if target != "cuda":
        return Kernel
    from .cuda_kernels import CudaKernel

    return CudaKernel
