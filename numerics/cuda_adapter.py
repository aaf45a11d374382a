"""CUDA kernels as black boxes: a Numba kernel writes gradients into its arguments, a CuPy kernel returns them.

The framework is the one whose object was handed in: nothing is imported for it before.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..theory.errors import InputError

#: Names under which a kernel may take the upstream gradient.
UPSTREAM = ("dy", "upstream", "grad_output", "grad_out", "gy", "dout", "dz", "da", "g", "grad")
#: Names under which a kernel of one gradient may write it.
OUTPUTS = ("out", "result", "dx", "grad", "grad_input", "output")


def is_numba_kernel(value: Any) -> bool:
    """Tell whether a value is a kernel of numba.cuda, of the package numba-cuda, or of Numba's CUDA simulator."""
    home = type(value).__module__ or ""
    return "cuda" in home and "numba" in home and (hasattr(value, "forall") or hasattr(value, "fn"))


def is_cupy_kernel(value: Any) -> bool:
    """Tell whether a value is a kernel or universal function of CuPy."""
    return (type(value).__module__ or "").startswith("cupy") and callable(value)


class NumbaKernel:
    """Launches a one-dimensional kernel over the entries of what it writes, on copies of the arrays.

    Its parameters are inputs by name, the upstream gradient (the first that is none of them) and what it writes, in
    the order of ``wrt``.  Raises :class:`InputError` where they are not as many as that.
    """

    def __init__(self, kernel: Any, inputs: Sequence[str], wrt: Sequence[str] | None) -> None:
        function = getattr(kernel, "py_func", None) or kernel.fn
        self.kernel, self.title = kernel, str(function.__name__)
        self.parameters = list(inspect.signature(function).parameters)
        self.names = [p for p in self.parameters if p in inputs]
        self.wrt = list(wrt or self.names)
        rest = [p for p in self.parameters if p not in inputs]
        taken = len(rest) == len(self.wrt) + 1 or (rest[:1] and rest[0] in UPSTREAM and len(rest) > len(self.wrt))
        self.upstream = rest[0] if taken else ""
        self.written = [p for p in rest if p != self.upstream]
        if len(self.written) != len(self.wrt):
            raise InputError(
                f"the kernel {self.title} takes {', '.join(self.parameters)}: expected the inputs "
                f"({', '.join(inputs)}), the upstream gradient, and an array to write for each of {', '.join(self.wrt)}"
            )

    def gradients(self, upstream: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Launch the kernel and return what it wrote."""
        out = {w: np.zeros_like(np.asarray(inputs[n])) for w, n in zip(self.written, self.wrt, strict=True)}
        given = {self.upstream: np.asarray(upstream), **out, **{n: np.asarray(inputs[n]) for n in self.names}}
        size = max(int(np.size(v)) for v in given.values())
        self.kernel.forall(size)(*(np.ascontiguousarray(given[p]) if p not in out else out[p] for p in self.parameters))
        return {n: out[w] for w, n in zip(self.written, self.wrt, strict=True)}


class CupyKernel:
    """Calls a CuPy kernel with the upstream gradient and the inputs in their order; arrays are copied both ways."""

    def __init__(self, kernel: Any, inputs: Sequence[str], wrt: Sequence[str] | None) -> None:
        self.kernel, self.title = kernel, str(getattr(kernel, "name", type(kernel).__name__))
        self.names, self.wrt = list(inputs), list(wrt or inputs)
        count = getattr(kernel, "nin", None)
        if count is not None and count not in (len(inputs), len(inputs) + 1):
            raise InputError(
                f"the kernel {self.title} takes {count} arrays: expected the upstream gradient and {inputs}"
            )
        self.takes_upstream = count != len(inputs)

    def gradients(self, upstream: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Call the kernel and return its results as NumPy arrays."""
        import cupy

        first = [cupy.asarray(upstream)] if self.takes_upstream else []
        found = self.kernel(*first, *(cupy.asarray(inputs[n]) for n in self.names))
        found = found if isinstance(found, tuple) else (found,)
        arrays = {n: cupy.asnumpy(g) for n, g in zip(self.wrt, found, strict=True)}
        return arrays if self.takes_upstream else {n: upstream * g for n, g in arrays.items()}
