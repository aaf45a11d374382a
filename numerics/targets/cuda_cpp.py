"""Printer for CUDA C++: ``__device__`` functions of one number, grid-stride kernels, host functions that launch them.

The source compiles with nvcc, and with NVRTC (CuPy's RawModule), which takes the device part alone. A layer's pass is a
row of kernels: each fills one array, one entry a thread, and reads only what earlier kernels filled; so nothing races,
and no atomic operation is needed. Sums are serial within a thread: results are the same in every run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...theory.layer_row import Layer
from ...theory.lowering import Program
from ...theory.numpy_source import identifier
from ...theory.scaled_erfc import without_erfcx
from .arrays import Programs
from .c import (
    DEVICE,
    REALS,
    comment,
    head_of,
    layer_signature,
    scalar_function,
    shapes_of,
    single,
    workspace_lines,
)
from .layer_loops import Loops, LoopWriter, OverTime
from .printing import INDENT
from .tensor_parts import Pass, passes, usage

_DEVICE = "__device__ __forceinline__"
_HINT = "-fmad=false keeps the accuracy that was measured; --use_fast_math would undo the care taken."
_STRIDE = (
    "for (size_t {0} = (size_t)blockIdx.x * blockDim.x + threadIdx.x; {0} < {1};\n"
    "         {0} += (size_t)gridDim.x * blockDim.x) {{"
)


def print_activation(programs: Programs, *, name: str, title: str, derivatives: int, dtype: str) -> str:
    """CUDA C++: ``name_at`` for one double or float, ``name_kernel`` over arrays, ``name_backward_kernel``."""
    real = REALS[dtype]
    program = without_erfcx(programs(tuple(range(derivatives + 1))))
    results = list(program.outputs)
    usage = (
        f"{name}_at(x, {', '.join(f'&{r}' for r in results)}): one double or float, in device code.\n"
        f"{name}_kernel(n, x, {', '.join(results)}): n numbers, any grid; outputs may be x itself.\n"
        f"    {name}_kernel<<<(n + 255) / 256, 256>>>(n, x, {', '.join(results)});\n"
        f"Arrays are {real}; steps are double, rounded once. nvcc -fmad=false, or as it is with NVRTC:\n"
        f'    cupy.RawModule(code=source, options=("-fmad=false",)).get_function("{name}_kernel")\n{_HINT}'
    )
    parts = [comment(f"{title}\n\n{usage}"), scalar_function(program, f"{name}_at", _DEVICE), _of_float(program, name)]
    parts.append(_array_kernel(program, name, real))
    if derivatives:
        parts += _backward(without_erfcx(programs((1,))), name, real)
    return "\n".join(parts)


def _of_float(program: Program, name: str) -> str:
    """The same for float: computed in double, rounded once."""
    results = list(program.outputs)
    lines = [f"{_DEVICE} void {name}_at(float x, {', '.join(f'float *{r}' for r in results)})", "{"]
    lines.append(f"{INDENT}double {', '.join(f'{r}_double' for r in results)};")
    lines.append(f"{INDENT}{name}_at((double)x, {', '.join(f'&{r}_double' for r in results)});")
    lines += [f"{INDENT}*{r} = (float){r}_double;" for r in results]
    return "\n".join([*lines, "}", ""])


def _array_kernel(program: Program, name: str, real: str) -> str:
    results = list(program.outputs)
    arguments = ["size_t n", f"const {real} *x", *(f"{real} *{r}" for r in results)]
    body = f"{INDENT * 2}{name}_at(x[i], {', '.join(f'{r} + i' for r in results)});"
    return _kernel(f"{name}_kernel", arguments, "i", "n", [body])


def _backward(program: Program, name: str, real: str) -> list[str]:
    """dx = upstream·f′(x), with a device function of the derivative alone."""
    (out,) = program.outputs
    lines = [f"{INDENT * 2}double slope;", f"{INDENT * 2}{name}_{out}_at((double)x[i], &slope);"]
    lines.append(f"{INDENT * 2}dx[i] = {'(float)' if real == 'float' else ''}(upstream[i] * slope);")
    arguments = ["size_t n", f"const {real} *x", f"const {real} *upstream", f"{real} *dx"]
    return [
        scalar_function(program, f"{name}_{out}_at", _DEVICE),
        _kernel(f"{name}_backward_kernel", arguments, "i", "n", lines),
    ]


def _kernel(name: str, arguments: Sequence[str], index: str, count: str, body: Iterable[str]) -> str:
    """A grid-stride loop: right for any number of blocks and threads."""
    head = head_of(f'extern "C" __global__ void {name}', arguments)
    return "\n".join([head, "{", INDENT + _STRIDE.format(index, count), *body, f"{INDENT}}}", "}", ""])


# --------------------------------------------------------------------------------------------------------------- layers

_LAUNCH = """\
#ifndef __CUDACC_RTC__
#ifndef LAUNCH
#define LAUNCH(kernel, count, stream, ...) \\
    do { \\
        const size_t blocks_ = ((count) + 255) / 256; \\
        if (blocks_ > 0) \\
            kernel<<<(unsigned)(blocks_ < 65535 ? blocks_ : 65535), 256, 0, stream>>>(__VA_ARGS__); \\
    } while (0)
#endif
"""
_INFINITY = """\
#ifndef INFINITY
#define INFINITY __longlong_as_double(0x7ff0000000000000LL)
#endif
"""


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel: how many entries it fills, and the names of its arguments."""

    kernel: str
    count: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Repeated:
    """Launches for each step of a recurrence."""

    index: str
    length: str
    reverse: bool
    launches: tuple[Launch | Repeated, ...]


class LayerPass:
    """One pass of a layer: its kernels, and in which order they are launched."""

    def __init__(self, what: Pass, name: str, dtype: str) -> None:
        self.what, self.name, self.dtype = what, name, dtype
        self.writer = LoopWriter(what, single(DEVICE) if dtype == "float32" else DEVICE)
        self.kernels: list[str] = []
        self.workspace = {n: " * ".join(map(self.writer.size, a)) or "1" for n, a in self.writer.arrays.items()}
        self.launches = self._launches(self.writer.stages, ())

    def _launches(self, stages: Iterable[Loops | OverTime], steps: tuple[str, ...]) -> tuple[Launch | Repeated, ...]:
        found: list[Launch | Repeated] = []
        for stage in stages:
            if isinstance(stage, Loops):
                found.append(self._launch(stage, steps))
                continue
            inner = self._launches(stage.body, (*steps, stage.index))
            found.append(Repeated(stage.index, self.writer.size(stage.time), stage.reverse, inner))
        return tuple(found)

    def _launch(self, stage: Loops, steps: tuple[str, ...]) -> Launch:
        sizes = [self.writer.size(a) for a in stage.axes]
        count = " * ".join(sizes) or "1"
        body = [*_indices([self.writer.index_of(a) for a in stage.axes], sizes, "entry"), *stage.inside]
        kinds = self._kinds(stage.target) | {s: f"size_t {s}" for s in steps}
        text = "\n".join([*body, count])
        used = [n for n in kinds if re.search(rf"\b{n}\b", text)]
        name = f"{self.name}_{len(self.kernels) + 1}"
        lines = [f"{INDENT * 2}{line}" for line in body]
        self.kernels.append(_kernel(name, [kinds[n] for n in used], "entry", count, lines))
        return Launch(name, count, tuple(used))

    def _kinds(self, target: str) -> dict[str, str]:
        """How each name that a kernel may use is declared as its argument; all but the target are read only."""
        real = REALS[self.dtype]
        outside = {identifier(a.name) for a in self.what.arguments} | set(map(identifier, self.what.outputs))
        kinds = {text: f"size_t {text}" for text in self.what.spelt_sizes.values()}
        for n in [
            *(identifier(a.name) for a in self.what.arguments),
            *self.workspace,
            *map(identifier, self.what.outputs),
        ]:
            kinds[n] = f"{'' if n == target else 'const '}{real if n in outside else 'double'} *{n}"
        return kinds | {p: f"double {p}" for p in self.what.parameters}

    def host(self) -> str:
        """The function that launches the kernels, and the one that says how much room they need."""
        sizes = [f"size_t {text}" for text in self.what.spelt_sizes.values()]
        room = " + ".join(self.workspace.values()) or "0"
        unused = [n for n in self.what.spelt_sizes.values() if not re.search(rf"\b{n}\b", room)]
        lines = [head_of(f'extern "C" size_t {self.name}_work', sizes), "{"]
        lines += [f"{INDENT}(void){n};" for n in unused]
        lines += [f"{INDENT}return {room};", "}", ""]
        arguments = [*layer_signature(self.what, self.dtype, DEVICE), "double *work", "cudaStream_t stream"]
        lines += [f"/* {shapes_of(self.what, self.writer)}; work[{self.name}_work(...)] */"]
        lines += [head_of(f'extern "C" cudaError_t {self.name}', arguments), "{"]
        body = [*workspace_lines(self.workspace), *_launch_lines(self.launches, 1)]
        names = [a.split()[-1].lstrip("*") for a in arguments]
        lines += [f"{INDENT}(void){n};" for n in names if not re.search(rf"\b{n}\b", "\n".join(body))]
        return "\n".join([*lines, *body, f"{INDENT}return cudaGetLastError();", "}", ""])


def _indices(names: Sequence[str], sizes: Sequence[str], entry: str) -> list[str]:
    """The index of every axis from the number of an entry, the last axis fastest."""
    lines = []
    for k, name in enumerate(names):
        below = " * ".join(sizes[k + 1 :])
        text = f"{entry} / ({below})" if " " in below else f"{entry} / {below}" if below else entry
        if k:
            text = f"{text} % {sizes[k]}"
        lines.append(f"const size_t {name} = {text};")
    return lines


def _launch_lines(launches: Iterable[Launch | Repeated], depth: int) -> list[str]:
    lines: list[str] = []
    for launch in launches:
        if isinstance(launch, Launch):
            arguments = ", ".join([launch.kernel, launch.count, "stream", *launch.arguments])
            lines.append(f"{INDENT * depth}LAUNCH({arguments});")
            continue
        loop = DEVICE.back if launch.reverse else DEVICE.loop
        lines.append(INDENT * depth + loop.format(launch.index, launch.length))
        lines += [*_launch_lines(launch.launches, depth + 1), f"{INDENT * depth}}}"]
    return lines


def layer_passes(row: Layer, dtype: str = "float64") -> tuple[LayerPass, LayerPass]:
    """The forward and the backward pass as kernels and launches."""
    forward, backward = (LayerPass(what, f"{row.name}_{what.name}", dtype) for what in passes(row))
    return forward, backward


def print_layer(row: Layer, dtype: str = "float64") -> str:
    """CUDA C++ source of the kernels of both passes, and of the host functions that launch them in order."""
    text = (
        f"{usage(row)}\nArrays lie on the device, contiguous, the last index fastest; outputs may not overlap inputs.\n"
        f"{row.name}_forward and {row.name}_backward launch their kernels in order on a stream and do not wait;\n"
        f"work has room for intermediate arrays: as many doubles as {row.name}_forward_work(sizes) says.\n"
        f"Arrays are {REALS[dtype]}, steps double. Each kernel fills one array, one entry a thread: nothing races;\n"
        f"sums are serial, the same in every run. nvcc, or the kernels alone with NVRTC.\n{_HINT}"
    )
    title = f"{row.title or row.name}: forward pass, and the backward pass derived from it"
    both = layer_passes(row, dtype)
    kernels = [kernel for one in both for kernel in one.kernels]
    parts = [comment(f"{title}\n\n{text}"), *([_INFINITY] if any("INFINITY" in k for k in kernels) else []), *kernels]
    return "\n".join([*parts, _LAUNCH, *(one.host() for one in both), "#endif\n"])
