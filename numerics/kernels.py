"""Formula → program → source file → compiled kernel, kept on disk.

A kernel's source is a real file in the user's cache folder (:func:`.files.cache_directory`): its name carries a hash of
everything that determines it, so Numba's on-disk cache works, a second process compiles nothing, and a person can read
it. Files appear whole or not at all, so any number of processes may ask for the same kernel at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from ..theory.activations import Activation, activation
from ..theory.errors import InputError, Unsupported, lookup
from ..theory.lowering import Program, lower
from .files import cache_directory

Array = npt.NDArray[Any]

#: Formats a kernel can have; entries are computed in float64 inside and rounded once.
DTYPES: dict[str, type[np.floating[Any]]] = {"float64": np.float64, "float32": np.float32}
#: Below this many entries one thread is quicker than handing out shares (measured: handing out costs about 60 µs,
#: an entry with one exponential about 8 ns).
SMALLEST_SHARED = 65_536


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


TARGETS: dict[str, Target] = {
    "cpu": Target("cpu", _numba_source, in_place=True),
    "numpy": Target("numpy", _numpy_source, in_place=False),
}


# ---------------------------------------------------------------------------------------------------------------- files


#: Modules of theory/ that determine what a kernel computes.
_GENERATORS = (
    "lowering", "stability", "half_lines", "decaying", "compensated", "local_polynomials", "scaled_erfc", "pieces",
)  # fmt: skip


@cache
def _generator_digest() -> str:
    """A hash of the code that generates kernels, and of the versions it compiles with: any change makes new files."""
    from importlib.metadata import version

    here = Path(__file__).parent
    theory = here.parent / "theory"
    files = [Path(__file__), *sorted((here / "targets").glob("*.py")), *(theory / f"{name}.py" for name in _GENERATORS)]
    parts = [path.read_bytes() for path in files]
    parts += [version(name).encode() for name in ("numba", "numpy", "sympy")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _file_name(title: str, *determining: str) -> str:
    key = hashlib.sha256("\0".join((_generator_digest(), *determining)).encode()).hexdigest()[:20]
    readable = re.sub(r"\W+", "_", title, flags=re.ASCII).strip("_").lower()[:40]
    return f"{readable or 'kernel'}_{key}.py"


def _write_once(path: Path, text: str) -> None:
    """Put ``text`` at ``path`` unless the file is there: a later writer must not touch it, or Numba would recompile."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


_LOADED: dict[str, Callable[..., Any]] = {}
_LOADING = threading.Lock()


def _load(path: Path) -> Callable[..., Any]:
    """The function ``run`` of a generated file; compiled by Numba, or taken from Numba's cache, on first load."""
    with _LOADING:
        if str(path) not in _LOADED:
            spec = importlib.util.spec_from_file_location(f"backproof_kernel_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # Numba's cache finds the module again by its name
            spec.loader.exec_module(module)
            _LOADED[str(path)] = module.run
        return _LOADED[str(path)]


# -------------------------------------------------------------------------------------------------------------- sharing

_POOL: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _POOL
    _POOL = None


if hasattr(os, "register_at_fork"):  # a child process does not have its parent's threads
    os.register_at_fork(after_in_child=_forget_pool)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_shared(run: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Array]) -> None:
    """``run`` over one-dimensional arrays, in shares over threads where there are enough entries."""
    global _POOL
    size = outputs[0].size
    workers = min(_processors(), size // (SMALLEST_SHARED // 2))
    if size < SMALLEST_SHARED or workers < 2:
        run(*inputs, *outputs)
        return
    if _POOL is None:
        _POOL = ThreadPoolExecutor(_processors(), thread_name_prefix="backproof-kernel")
    bounds = [size * k // workers for k in range(workers + 1)]

    def share(k: int) -> None:
        part = slice(bounds[k], bounds[k + 1])
        run(*(a[part] if isinstance(a, np.ndarray) else a for a in inputs), *(a[part] for a in outputs))

    pending = [_POOL.submit(share, k) for k in range(1, workers)]
    share(0)
    for future in pending:
        future.result()


# --------------------------------------------------------------------------------------------------------------- arrays


def _as_input(value: Any, dtype: str, name: str) -> Array:
    """An array of the kernel's dtype: exact conversions are made, lossy ones refused."""
    array = np.asarray(value)
    wanted = np.dtype(dtype)
    if array.dtype == wanted and array.dtype.isnative:
        return array
    is_scalar = not isinstance(value, (np.ndarray, np.generic))
    if array.dtype.kind in "biu" or (is_scalar and array.dtype.kind == "f"):
        return array.astype(wanted)
    if array.dtype.kind == "f" and np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    if array.dtype.kind == "f":
        raise InputError(
            f"{name} is {array.dtype}, the kernel is {dtype}: convert with .astype({dtype!r}) or ask for another kernel"
        )
    raise InputError(f"{name} must hold real numbers, not {array.dtype}")


def _flat(array: Array) -> Array | None:
    """A one-dimensional view in memory order, or None where memory is not one block."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    return array.T.reshape(-1) if array.flags.f_contiguous else None


def _check_out(out: Any, shape: tuple[int, ...], dtype: str, name: str) -> Array:
    if not isinstance(out, np.ndarray):
        raise InputError(f"{name} must be an array, not {type(out).__name__}")
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise InputError(f"{name} is {out.dtype}{list(out.shape)}, the result is {dtype}{list(shape)}")
    if not out.flags.writeable:
        raise InputError(f"{name} is read-only")
    return out


def _same_layout(a: Array, b: Array) -> bool:
    return bool((a.flags.c_contiguous and b.flags.c_contiguous) or (a.flags.f_contiguous and b.flags.f_contiguous))


def _apply(run: Callable[..., Any], arrays: list[Any], outs: Sequence[Array | None], dtype: str) -> list[Array]:
    """Run over arrays of one shape (scalars pass through); contiguous arrays are not copied."""
    first = next(a for a in arrays if isinstance(a, np.ndarray))
    lead = first if _flat(first) is not None else np.ascontiguousarray(first)
    inputs: list[Any] = []
    for a in arrays:
        if not isinstance(a, np.ndarray):
            inputs.append(a)
        elif _same_layout(a, lead):
            inputs.append(_flat(a))
        else:
            aligned = np.empty_like(lead)
            np.copyto(aligned, a)
            inputs.append(_flat(aligned))
    results, targets = [], []
    for out in outs:
        direct = out is not None and _same_layout(out, lead) and not _overlaps(out, arrays)
        target = out if direct else np.empty_like(lead, dtype=dtype)
        assert target is not None
        targets.append(target)
        results.append(target if out is None else out)
    _run_shared(run, inputs, [_flat(t) for t in targets])  # type: ignore[misc]
    for target, result in zip(targets, results, strict=True):
        if target is not result:
            np.copyto(result, target)
    return results


def _overlaps(out: Array, arrays: Sequence[Any]) -> bool:
    """True where ``out`` shares memory with an input entry by entry shifted; exactly in place is harmless."""
    for a in arrays:
        if isinstance(a, np.ndarray) and np.may_share_memory(out, a):
            same = a.shape == out.shape and a.strides == out.strides and a.ctypes.data == out.ctypes.data
            if not same:
                return True
    return False


# -------------------------------------------------------------------------------------------------------------- kernels


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled activation: ``k(x)``, ``k.derivative(x, n)``, ``k.value_and_derivative(x)``, on arrays of any shape.

    ``x`` holds ``dtype`` (integers and smaller floats are converted; a larger float is refused). ``out`` may be ``x`` itself.
    NaN gives NaN; ±∞ gives the limit where there is one. At a kink the derivative is the row's stated value.
    """

    activation: Activation
    dtype: str
    target: str
    _runs: dict[tuple[int, ...], Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __call__(self, x: Any, out: Array | None = None) -> Any:
        """f(x)."""
        return self._evaluate((0,), x, (out,))[0]

    def derivative(self, x: Any, n: int = 1, out: Array | None = None) -> Any:
        """The n-th derivative at ``x``."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"order of a derivative must be 0, 1, 2, …, not {n!r}")
        return self._evaluate((n,), x, (out,))[0]

    def value_and_derivative(self, x: Any, out: tuple[Array | None, Array | None] | None = None) -> tuple[Any, Any]:
        """(f(x), f′(x)) in one pass."""
        if out is not None and (not isinstance(out, tuple) or len(out) != 2):
            raise InputError("out of value_and_derivative must be a pair of arrays")
        value, derivative = self._evaluate((0, 1), x, out or (None, None))
        return value, derivative

    def _evaluate(self, orders: tuple[int, ...], x: Any, outs: Sequence[Array | None]) -> list[Any]:
        array = _as_input(x, self.dtype, "x")
        checked = [None if out is None else _check_out(out, array.shape, self.dtype, "out") for out in outs]
        if len(checked) == 2 and checked[0] is not None and checked[1] is not None and np.may_share_memory(*checked):
            raise InputError("the two arrays of out share memory")
        run = self._run(orders)
        if not TARGETS[self.target].in_place:
            results = _collect(run(array), checked)
        else:
            results = _apply(run, [array], checked, self.dtype)
        return [result[()] if out is None else result for result, out in zip(results, outs, strict=True)]

    def _run(self, orders: tuple[int, ...]) -> Callable[..., Any]:
        if orders not in self._runs:
            self._runs[orders] = _load(self.path_of(orders))
        return self._runs[orders]

    def path_of(self, orders: tuple[int, ...] = (0,)) -> Path:
        """The file that computes these derivatives together; written if it is not there."""
        title = f"{self.activation.name}_{'_'.join(f'd{n}' for n in orders)}_{self.dtype}_{self.target}"
        determining = [sympy.srepr(self.activation.derivative(n)) for n in orders]
        folder = cache_directory()
        path = folder / _file_name(title, self.dtype, self.target, *map(str, orders), *determining)
        if not path.exists():
            _write_once(path, self._print(orders))
        return path

    def _print(self, orders: tuple[int, ...]) -> str:
        program = activation_program(self.activation, orders, self.dtype)
        what = ", ".join(("f", "f′", "f″")[n] if n < 3 else f"f^({n})" for n in orders)
        title = f"{what} of {_one_line(self.activation.name)}: {_one_line(str(self.activation.expr))}"
        return TARGETS[self.target].printer(program, dtype=self.dtype, title=title)

    @property
    def path(self) -> Path:
        """The file of value and first derivative."""
        return self.path_of((0, 1))

    @cached_property
    def source(self) -> str:
        """The source of value and first derivative, as it is compiled."""
        return self.path.read_text(encoding="utf-8")


def _one_line(text: str) -> str:
    """Text that may stand in a docstring of generated source."""
    return re.sub(r'["\\\s]+', " ", text)[:200]


def _collect(results: Any, outs: Sequence[Array | None]) -> list[Any]:
    listed = list(results) if isinstance(results, tuple) else [results]
    for k, out in enumerate(outs):
        if out is not None:
            np.copyto(out, listed[k])
            listed[k] = out
        else:
            listed[k] = np.asarray(listed[k])
    return listed


def activation_program(row: Activation, orders: Sequence[int], dtype: str = "float64") -> Program:
    """The stable program that computes these derivatives of ``row`` together."""
    from ..theory.stability import stable_program

    names = {0: "value", 1: "derivative"}
    outputs = {names.get(n, f"derivative_{n}"): row.derivative(n) for n in orders}
    return stable_program(outputs, bits=np.finfo(DTYPES[dtype]).nmant + 1).program


_KERNELS: dict[tuple[Any, ...], Kernel] = {}


def kernel(spec: Any, dtype: str = "float64", target: str = "cpu", **parameters: Any) -> Kernel:
    """The kernel of an activation: a row's name, a formula in x, or a SymPy expression.

    ``dtype`` is "float64" or "float32"; ``target`` "cpu" (Numba) or "numpy". Nothing is compiled before it is called.
    Raises :class:`InputError` for an unknown name, dtype, target or parameter, :class:`Unsupported` for a formula that
    cannot be compiled.

    >>> k = kernel("relu", target="numpy")
    >>> k([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """
    row = activation(spec, **parameters)
    name = np.dtype(dtype).name if dtype in (np.float32, np.float64) else str(dtype)
    lookup(DTYPES, name, "dtype")
    lookup(TARGETS, target, "target")
    key = (row, name, target)
    if key not in _KERNELS:
        _KERNELS[key] = Kernel(row, name, target)
    return _KERNELS[key]


# --------------------------------------------------------------------------------------------- several arguments at once


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Compiled expressions in several arguments: ``update(*arrays, out={...})`` returns a dict, name → array.

    Each argument is an array (all of one shape) or a single number. ``out`` may name arrays for some of the results;
    they may be the arguments themselves, so an update in place is ``update(theta, g, out={"theta": theta})``.
    """

    expressions: Mapping[str, sympy.Expr]
    arguments: tuple[sympy.Symbol, ...]
    dtype: str
    _runs: dict[tuple[str, ...], Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __call__(self, *values: Any, out: Mapping[str, Array] | None = None) -> dict[str, Any]:
        """Evaluate every expression on the arguments, in the order in which they were declared."""
        if len(values) != len(self.arguments):
            raise InputError(
                f"{len(self.arguments)} arguments wanted ({', '.join(map(str, self.arguments))}), {len(values)} given"
            )
        prepared, scalars, shape = self._prepare(values)
        out = out or {}
        for name in out:
            lookup(dict(self.expressions), name, "result") if name not in self.expressions else None
        outs = [
            None if n not in out else _check_out(out[n], shape, self.dtype, f"out[{n!r}]") for n in self.expressions
        ]
        run = self._run(scalars)
        if len(scalars) == len(self.arguments):  # numbers alone: one entry
            targets = [np.empty(1, self.dtype) for _ in outs]
            run(*prepared, *targets)
            return {name: t[0] for name, t in zip(self.expressions, targets, strict=True)}
        results = _apply(run, prepared, outs, self.dtype)
        return dict(zip(self.expressions, results, strict=True))

    def _prepare(self, values: Sequence[Any]) -> tuple[list[Any], tuple[str, ...], tuple[int, ...]]:
        prepared: list[Any] = []
        scalars: list[str] = []
        shape: tuple[int, ...] | None = None
        for symbol, value in zip(self.arguments, values, strict=True):
            if not isinstance(value, np.ndarray) or value.ndim == 0:
                prepared.append(_number(value, str(symbol)))
                scalars.append(str(symbol))
                continue
            array = _as_input(value, self.dtype, str(symbol))
            if shape is not None and array.shape != shape:
                raise InputError(f"{symbol} has shape {array.shape}, the arrays before it {shape}: all must agree")
            shape = array.shape
            prepared.append(array)
        return prepared, tuple(scalars), shape or ()

    def _run(self, scalars: tuple[str, ...]) -> Callable[..., Any]:
        if scalars not in self._runs:
            self._runs[scalars] = _load(self.path_of(scalars))
        return self._runs[scalars]

    def unchecked(self, scalars: Sequence[str]) -> Callable[..., None]:
        """The compiled ``run(*arguments, *results)`` itself, for hot loops; the arguments in ``scalars`` are numbers.

        Nothing is checked: every array must be one-dimensional, contiguous, of ``dtype`` and of one size.
        """
        return self._run(tuple(scalars))

    def path_of(self, scalars: tuple[str, ...]) -> Path:
        """The file for calls in which these arguments are single numbers; written if it is not there."""
        determining = [f"{n}={sympy.srepr(e)}" for n, e in self.expressions.items()] + [
            sympy.srepr(a) for a in self.arguments
        ]
        title = f"{'_'.join(self.expressions)}_{self.dtype}"
        path = cache_directory() / _file_name(title, self.dtype, "|".join(scalars), *determining)
        if not path.exists():
            what = _one_line("; ".join(f"{n} = {e}" for n, e in self.expressions.items()))
            _write_once(path, _numba_source(self.program, dtype=self.dtype, scalars=scalars, title=what))
        return path

    @cached_property
    def program(self) -> Program:
        """The straight-line program of all expressions together."""
        return lower(self.expressions, self.arguments)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array or a real number, not {type(value).__name__}") from None


def compile_elementwise(
    expressions: Mapping[str, sympy.Expr], arguments: Sequence[sympy.Symbol], dtype: str = "float64"
) -> Elementwise:
    """Compile named expressions in several arguments into one pass over their arrays (Numba on the CPU).

    Entries are computed in float64 and rounded once to ``dtype``. Raises :class:`Unsupported` naming what cannot be
    compiled, :class:`InputError` for an unknown dtype or for no expressions.
    """
    lookup(DTYPES, dtype, "dtype")
    if not expressions or not arguments:
        raise InputError("compile_elementwise wants at least one expression and one argument")
    for name, expression in expressions.items():
        unknown = sympy.sympify(expression).free_symbols - set(arguments)
        if unknown:
            raise Unsupported(
                f"{name} depends on {', '.join(sorted(map(str, unknown)))}, which is not among the arguments"
            )
    compiled = Elementwise({n: sympy.sympify(e) for n, e in expressions.items()}, tuple(arguments), dtype)
    compiled.program  # noqa: B018  (refuse now, not at the first call)
    return compiled
