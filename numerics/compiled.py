"""Source file → compiled function → arrays: what every generated kernel needs around it.

Files appear whole or not at all and carry a hash of everything that determines them in their name, so Numba's on-disk
cache works and any number of processes may ask for the same kernel at once. Functions run over one-dimensional
contiguous arrays; here other shapes and layouts are brought to that, without a copy where memory is one block.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import numbers
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.errors import InputError, lookup
from .sharing import guided, processors, shared

Array = npt.NDArray[Any]

#: Formats a kernel can have; entries are computed in float64 inside and rounded once.
DTYPES: dict[str, type[np.floating[Any]]] = {"float64": np.float64, "float32": np.float32}
#: Below this many entries one thread is quicker than handing out shares (measured: handing out costs about 20 µs, an
#: entry 0.6 to 4 ns).
SMALLEST_SHARED = 98_304
#: Fewest entries of a share: taking one costs Python's lock, which threads that take many contend for.
LEAST_SHARE = 49_152
#: Entries of an input in place that are copied at a time: copy and outputs stay in a core's cache.
COPIED_PIECE = 32_768
#: An input in place is copied from this many entries on; before, the copy costs more than it saves.
SMALLEST_COPIED = 256


# ---------------------------------------------------------------------------------------------------------------- files


#: Modules of theory/ that determine what a kernel computes.
_GENERATORS = (
    "lowering", "stability", "half_lines", "reflections", "spans", "zero_patches", "decaying", "compensated", "pairs",
    "scaled_products", "ranges", "local_polynomials", "scaled_erfc", "erfcx_quotients",
    "rational_minimax", "proof", "pieces", "sign_changes", "arctangents", "arithmetic",
    "activations", "cells", "tabulation", "table_lowering", "removable", "local_zeros", "far_bounds",
    "extremes", "tails",
)  # fmt: skip


@cache
def _generator_digest() -> str:
    """A hash of the code that generates kernels, and of the versions it compiles with: any change makes new files."""
    from importlib.metadata import version

    import sympy

    here = Path(__file__).parent
    theory = here.parent / "theory"
    files = [
        *(
            here / f"{name}.py"
            for name in (
                "compiled",
                "kernels",
                "elementwise",
                "acceptance",
                "elementary",
                "elementary_single",
                "elementary_pairs",
                "elementary_composed",
                "fast",
                "device_functions",
            )
        ),
        *sorted((here / "targets").glob("*.py")),
        *(theory / f"{name}.py" for name in _GENERATORS),
    ]
    parts = [path.read_bytes() for path in files]
    parts += [found.encode() for found in (version("numba"), np.__version__, sympy.__version__)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def file_name(title: str, *determining: str) -> str:
    """A readable name with a hash of ``determining`` and of the generator."""
    key = hashlib.sha256("\0".join((_generator_digest(), *determining)).encode()).hexdigest()[:20]
    readable = re.sub(r"\W+", "_", title, flags=re.ASCII).strip("_").lower()[:40]
    return f"{readable or 'kernel'}_{key}.py"


def write_once(path: Path, text: str) -> None:
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


@contextmanager
def _interleaved() -> Iterator[None]:
    """Loops compiled inside compute several vectors at a time, each step of one beside the same step of the others.

    A kernel is a chain of a hundred cycles and more; processors do not look far enough ahead to overlap two of its
    rounds (measured: 1.1 to 1.5 times as fast; four vectors want the 32 registers of AVX-512). And constants are loaded
    where they are used: loaded before the loop, as LLVM would, they leave no registers to the vectors, which then go
    through memory (measured: gelu 1.7 times as fast). LLVM offers both only as options of the process, so nothing
    else compiles meanwhile.
    """
    import llvmlite.binding as llvm
    from numba.core.compiler_lock import global_compiler_lock

    vectors = 4 if llvm.get_host_cpu_features().get("avx512f") else 2
    with global_compiler_lock:
        llvm.set_option("", f"-force-vector-interleave={vectors}")
        llvm.set_option("", "-sink-insts-to-avoid-spills=true")
        try:
            yield
        finally:
            llvm.set_option("", "-sink-insts-to-avoid-spills=false")
            llvm.set_option("", "-force-vector-interleave=0")  # LLVM's own choice again


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection inside: a full one walks all that SymPy and Numba keep, 0.2 s to load a file of 20 ms."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_LOADED: dict[str, Callable[..., Any]] = {}
_LOADING = threading.Lock()


def load(path: Path) -> Callable[..., Any]:
    """The function ``run`` of a generated file; compiled by Numba, or taken from Numba's cache, on first load."""
    with _LOADING:
        if str(path) not in _LOADED:
            spec = importlib.util.spec_from_file_location(f"backproof_kernel_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # Numba's cache finds the module again by its name
            with _interleaved(), _uncollected():
                spec.loader.exec_module(module)
            _LOADED[str(path)] = module.run
        return _LOADED[str(path)]


# -------------------------------------------------------------------------------------------------------------- sharing


def run_apart(run: Callable[..., Any], *arrays: Array) -> None:
    """``run`` over one-dimensional arrays that share no memory; large ones in shares, which threads take as they become
    free."""
    size = arrays[0].size
    threads = 1 if size < SMALLEST_SHARED else min(processors(), size // LEAST_SHARE)
    if threads < 2:
        run(*arrays)
    else:
        shared(lambda part: run(*[a[part] for a in arrays]), guided(size, LEAST_SHARE, threads), threads)


def _run_shared(run: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Array]) -> None:
    """The same where an input may be a number, or an output too."""
    size = outputs[0].size
    threads = 1 if size < SMALLEST_SHARED else min(processors(), size // LEAST_SHARE)
    if threads < 2:
        _run_part(run, inputs, outputs, slice(0, size))
    else:
        shared(lambda part: _run_part(run, inputs, outputs, part), guided(size, LEAST_SHARE, threads), threads)


class Periodic:
    """An array that repeats for ever, entry by entry of another: a parameter along the last axes of what it belongs to.

    Pieces are cut from it as from an array; those of up to ``longest`` entries are not copied.
    """

    def __init__(self, period: Array, longest: int = COPIED_PIECE) -> None:
        self.period = max(1, period.size)
        self._memory = np.resize(period, self.period + longest)

    def __getitem__(self, part: slice) -> Array:
        start, size = part.start % self.period, part.stop - part.start
        if start + size > self._memory.size:
            return np.resize(self._memory[start : start + self.period], size)
        return self._memory[start : start + size]


def _run_part(run: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Array], part: slice) -> None:
    """One share. An input that is an output too is copied, piece by piece: the compiled loop uses vector instructions
    only where it sees at run time that its arrays are apart."""
    written = {id(out.base if out.base is not None else out) for out in outputs}
    aliased = [isinstance(a, np.ndarray) and id(a.base if a.base is not None else a) in written for a in inputs]

    repeats = any(isinstance(a, Periodic) for a in inputs)

    def over(piece: slice, copied: bool) -> None:
        given = [a[piece] if isinstance(a, (np.ndarray, Periodic)) else a for a in inputs]
        if copied:
            given = [a.copy() if apart else a for a, apart in zip(given, aliased, strict=True)]
        run(*given, *(out[piece] for out in outputs))

    if not (repeats or any(aliased)) or part.stop - part.start <= SMALLEST_COPIED:
        over(part, copied=False)
        return
    for start in range(part.start, part.stop, COPIED_PIECE):
        over(slice(start, min(start + COPIED_PIECE, part.stop)), copied=True)


# --------------------------------------------------------------------------------------------------------------- arrays


def as_input(value: Any, dtype: str, name: str) -> Array:
    """An array of the kernel's dtype: exact conversions are made, lossy ones refused."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{name} must be an array: its rows have different lengths") from None
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


def hyper_parameters(given: Mapping[str, Any], defaults: Mapping[str, float], of: str) -> dict[str, float]:
    """The value of every hyper-parameter; raises :class:`InputError` for another name, or what is no number ≥ 0."""
    for name, value in given.items():
        lookup(defaults, name, f"parameter of {of}")
        if not isinstance(value, numbers.Real) or not 0 <= float(value) < np.inf:
            raise InputError(f"parameter {name} of {of} must be a number, finite and not negative, not {value!r:.40}")
    return {name: float(given.get(name, default)) for name, default in defaults.items()}


def _flat(array: Array) -> Array | None:
    """A one-dimensional view in memory order, or None where memory is not one block."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    return array.T.reshape(-1) if array.flags.f_contiguous else None


class _Unlocked:
    """Hands out the memory of a read-only array as if it could be written: kernels write to no input."""

    def __init__(self, array: Array) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.owner = array


def unlocked(array: Array) -> Array:
    """The same memory in a type that compiled code accepts."""
    if array.flags.writeable:
        return array
    return np.asarray(_Unlocked(array)) if array.size else np.empty_like(array)


def check_out(out: Any, shape: tuple[int, ...], dtype: str, name: str) -> Array:
    """``out`` itself if a result of this shape and dtype can be written there, else :class:`InputError`."""
    if not isinstance(out, np.ndarray):
        raise InputError(f"{name} must be an array, not {type(out).__name__}")
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise InputError(f"{name} is {out.dtype}{list(out.shape)}, the result is {dtype}{list(shape)}")
    if not out.flags.writeable:
        raise InputError(f"{name} is read-only")
    return out


def _same_layout(a: Array, b: Array) -> bool:
    return bool((a.flags.c_contiguous and b.flags.c_contiguous) or (a.flags.f_contiguous and b.flags.f_contiguous))


def apply(run: Callable[..., Any], arrays: list[Any], outs: Sequence[Array | None], dtype: str) -> list[Array]:
    """Run over arrays of one shape (scalars pass through); contiguous arrays are not copied."""
    first = next(a for a in arrays if isinstance(a, np.ndarray))
    lead = first if _flat(first) is not None else np.ascontiguousarray(first)
    inputs: list[Any] = []
    for a in arrays:
        if not isinstance(a, np.ndarray):
            inputs.append(a)
        elif _same_layout(a, lead):
            inputs.append(unlocked(_flat(a)))  # type: ignore[arg-type]
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


def one_line(text: str) -> str:
    """Text that may stand in a docstring of generated source."""
    return re.sub(r'["\\\s]+', " ", text)[:200]
