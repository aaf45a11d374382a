"""Every layer with its options, and every loss with its reductions, printed for every target, run, and held against
exact evaluation of the derived gradient at odd shapes."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import flint
import numpy as np
import pytest
import sympy

from backproof.demos.cli import run
from backproof.numerics.emission import TARGETS, layer_source
from backproof.numerics.loss_rows import loss_row
from backproof.numerics.targets.cuda_cpp import Launch, layer_passes
from backproof.numerics.targets.layer_arrays import names_in
from backproof.numerics.targets.tensor_parts import passes
from backproof.theory.equality import evaluate, generic_point
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.layer_text import parse_call
from backproof.theory.layers import LAYERS, layer
from backproof.theory.losses import LOSSES, REDUCTIONS
from backproof.theory.numpy_source import identifier
from backproof.theory.recurrence import has_recurrence
from backproof.theory.tensors import Input, axis
from backproof.theory.walking import postorder

GOLDEN = Path(__file__).parent / "golden"
#: Layers whose function has no formula: there is nothing to print until one is named.
ANY_FUNCTION = {"activation"}
#: Structural options together: every one of them occurs for every layer that has it.
VARIANTS = [
    "conv1d(stride=2, padding=1, dilation=2, groups=2)",
    "conv1d(groups=depthwise)",
    "conv2d(stride=2, padding=1, groups=2)",
    "conv2d(dilation=2)",
    "conv_transpose1d(stride=3, padding=1, dilation=2, output_padding=1)",
    "conv_transpose2d(stride=2, padding=1, output_padding=1, dilation=2)",
    "avg_pool1d(kernel=3, stride=2, padding=1, dilation=2)",
    "avg_pool2d(kernel=3, stride=1, padding=1, dilation=2)",
    "max_pool1d(kernel=3, stride=1, dilation=2, padding=0)",
    "max_pool2d(kernel=2, stride=1, dilation=2, padding=0)",
    "max_pool1d(kernel=3, stride=2, padding=1)",
    "max_pool2d(kernel=3, stride=2, padding=1)",
    "max_pool1d(kernel=3, stride=2, padding=1, ties=first)",
    "max_pool2d(kernel=2, stride=1, ties=first)",
    "attention(mask=causal)",
    "attention(mask=given)",
    "multi_head_attention(mask=given)",
    "multi_head_attention(mask=keys)",
    "self_attention(mask=causal)",
    "self_attention(mask=keys)",
    "batch_norm(eps=1e-2)",
    "dropout(rate=0.25)",
    "activation(function=gelu)",
    "activation(function=elu)",
]
LOSS_SPECS = [f"{name}(reduction={reduction})" for name in LOSSES for reduction in REDUCTIONS]
SPECS = [name for name in LAYERS if name not in ANY_FUNCTION] + VARIANTS + LOSS_SPECS
CASES = [(name, target) for target in ("torch", "jax", "c", "numba") for name in ("dense", "softmax")]
CASES += [("softmax", "cuda"), ("rnn", "cuda"), ("rnn", "c"), ("rnn", "torch"), ("rnn", "jax")]
CASES += [("huber", target) for target in TARGETS]
SUFFIX = {"c": "c", "cuda": "cu"}
#: float64 against exact values, relative to the largest entry: sums of a few terms, a few roundings each.
TOLERANCE = 1e-12


def row_of(spec):
    name, options = parse_call(spec)
    return loss_row(name, **options) if name in LOSSES else layer(name, **options)


@cache
def exact_of(spec):
    """The row under a name that no other spec has, so that all of them go into one library; derived once."""
    return Exact(renamed(row_of(spec), f"row_{SPECS.index(spec)}"))


def renamed(row, name):
    """The row under another name, with what has been derived of it."""
    other = replace(row, name=name)
    other.__dict__["_derived"] = row._derived
    return other


@cache
def source_of(spec, target):
    return layer_source(exact_of(spec).row, target)


def single(k, spec, target):
    """The source for float arrays, under a name of its own."""
    return layer_source(renamed(exact_of(spec).row, f"single_{k}"), target, "float32")


class Exact:
    """A layer at one random exact point: its inputs as arrays, its output and gradients as the nearest floats."""

    def __init__(self, row, seed=0):
        self.row = row
        for attempt in range(20):  # at a tie the enclosures cannot tell who is the largest: another point then
            try:
                self._draw(seed + attempt)
                return
            except Unsupported:
                continue
        raise AssertionError(f"no point found for {row.name}")

    def _draw(self, seed):
        found = self.row.gradients()
        tensors = [self.row.forward, *(d.raw for d in found.values()), self.row.cotangent, *self.row.inputs]
        self.point = generic_point(tensors, random.Random(seed))
        self.point.scalars.update({str(s): frac(v) for s, v in self.row.parameters.items()})
        mask = self.point.entries.get("mask", {})
        mask.update({c: frac(sympy.Integer(0)) for c in mask if c[0] == 0})  # the first may look at nothing
        self.upstream = self.row.cotangent.name
        self.inputs = {a.name: self.array(a) for a in (*self.row.inputs, self.row.cotangent)}
        self.y = self.value(self.row.forward, self.row.output_axes)
        self.gradients = {n: self.value(d.raw, d.axes) for n, d in found.items()}

    def array(self, a):
        entries = self.point.entries[a.name]
        shape = tuple(max((c[k] for c in entries), default=-1) + 1 for k in range(len(a.indices)))
        return np.array([float(v) for _, v in sorted(entries.items())]).reshape(shape)

    def value(self, tensor, axes):
        with flint.ctx.workprec(300):
            values = evaluate(tensor, self.point)
        places = [tensor.axes.index(a) for a in axes if a in tensor.axes]
        entries = {tuple(c[p] for p in places): float(v.mid()) for c, v in values.items()}
        shape = tuple(max(c[k] for c in entries) + 1 for k in range(len(places)))
        array = np.array([v for _, v in sorted(entries.items())]).reshape(shape)
        lacking = [k for k, a in enumerate(axes) if a not in tensor.axes]
        return np.broadcast_to(np.expand_dims(array, lacking), self.shape(axes)) if lacking else array

    def shape(self, axes):
        from backproof.theory.evaluation import extent

        return tuple(extent(a.size, self.point.sizes) for a in axes)

    def judge(self, y, gradients):
        close(y, self.y, "y")
        for name, exact in self.gradients.items():
            close(gradients[name], exact, f"d{name}")


def frac(value):
    return Fraction(int(value.p), int(value.q))


def close(computed, exact, what):
    computed = np.asarray(computed)
    assert computed.shape == exact.shape, what
    np.testing.assert_allclose(computed, exact, rtol=0, atol=TOLERANCE * max(1.0, np.abs(exact).max()), err_msg=what)


def module_of(source):
    namespace: dict = {"__name__": "printed"}
    exec(compile(source, "<printed>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("spec", SPECS)
def test_numpy(spec):
    exact = exact_of(spec)
    module = module_of(source_of(spec, "numpy"))
    given = [exact.inputs[a.name] for a in exact.row.inputs]
    judge_functions(exact, module, given)


@pytest.mark.parametrize("spec", SPECS)
def test_torch(spec):
    torch = pytest.importorskip("torch")
    exact = exact_of(spec)
    function = module_of(source_of(spec, "torch"))[exact.row.name]
    given = [torch.tensor(exact.inputs[a.name], requires_grad=a.name in exact.gradients) for a in exact.row.inputs]
    y = function(*given)
    y.backward(torch.tensor(exact.inputs[exact.upstream]))
    exact.judge(y.detach(), {a.name: g.grad for a, g in zip(exact.row.inputs, given)})


@pytest.mark.parametrize("spec", SPECS)
def test_torch_computes_what_is_asked_for(spec):
    """Each input alone, and none."""
    torch = pytest.importorskip("torch")
    exact = exact_of(spec)
    function = module_of(source_of(spec, "torch"))[exact.row.name]
    for wanted in exact.gradients:
        given = {a.name: torch.tensor(exact.inputs[a.name], requires_grad=a.name == wanted) for a in exact.row.inputs}
        function(*given.values()).backward(torch.tensor(exact.inputs[exact.upstream]))
        close(given[wanted].grad, exact.gradients[wanted], f"d{wanted}")
        assert all(v.grad is None for name, v in given.items() if name != wanted)
    y = function(*(torch.tensor(exact.inputs[a.name]) for a in exact.row.inputs))
    assert not y.requires_grad
    close(y, exact.y, "y")


def test_torch_computes_no_gradient_that_is_not_needed(monkeypatch):
    torch = pytest.importorskip("torch")
    function = module_of(source_of("dense", "torch"))[exact_of("dense").row.name]
    x, W, b = torch.ones(2, 3), torch.ones(3, 4), torch.ones(4, requires_grad=True)
    y = function(x, W, b)
    monkeypatch.setattr(torch, "einsum", lambda *_: pytest.fail("a product for the gradient of x or W"))
    y.sum().backward()
    assert b.grad.tolist() == [2.0] * 4


def test_torch_gradients_are_constants_to_autograd():
    torch = pytest.importorskip("torch")
    function = module_of(source_of("softmax", "torch"))[exact_of("softmax").row.name]
    x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(function(x)[0, 0], x, create_graph=True)
    assert not first.requires_grad


def test_the_state_of_a_recurrence_is_computed_once():
    """Forward runs the steps and saves the states; backward runs none of them again."""
    for target in ("torch", "jax"):
        source = source_of("rnn", target)
        back = names_in(source[source.rindex("backward(ctx" if target == "torch" else "_backward(saved") :])
        assert "h_all" in back
        assert "h_before" not in back, target


def test_the_library_has_its_own_sigmoid():
    assert "torch.sigmoid(" in source_of("swiglu", "torch")
    assert "jax.nn.sigmoid(" in source_of("swiglu", "jax")


@pytest.mark.parametrize("spec", SPECS)
def test_jax(spec):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)  # compiled once and run once
    exact = exact_of(spec)
    function = module_of(source_of(spec, "jax"))[exact.row.name]
    given = [jax.numpy.asarray(exact.inputs[a.name]) for a in exact.row.inputs]

    @jax.jit
    def both(upstream, *given):
        y, pullback = jax.vjp(function, *given)
        return y, pullback(upstream)

    y, found = both(jax.numpy.asarray(exact.inputs[exact.upstream]), *given)
    exact.judge(y, {a.name: g for a, g in zip(exact.row.inputs, found)})


def compiler(name="cc"):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def built(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]


@pytest.fixture(scope="module")
def c_library(tmp_path_factory):
    """All rows in one library, in double and in float; any warning is an error."""
    folder = tmp_path_factory.mktemp("c")
    sources = [source_of(spec, "c") for spec in SPECS]
    sources += [single(k, spec, "c") for k, spec in SINGLES]
    (folder / "layers.c").write_text("\n".join(sources), encoding="utf-8")
    flags = ["-std=c99", "-O0", "-Wall", "-Wextra", "-pedantic", "-Werror", "-shared", "-fPIC"]
    built([compiler(), *flags, str(folder / "layers.c"), "-o", str(folder / "layers.so"), "-lm"])
    return ctypes.CDLL(str(folder / "layers.so"))


#: Rows that are printed with float arrays too.
SINGLES = list(
    enumerate(("dense", "attention", "conv2d(stride=2, padding=1, groups=2)", "rnn", "focal(reduction=mean)"))
)


def call(library, name, what, exact, results, kind=ctypes.c_double):
    """One pass of compiled C: sizes, arrays (a number by value), hyper-parameters, results."""
    dtype = np.float64 if kind is ctypes.c_double else np.float32
    sizes = [ctypes.c_size_t(exact.point.sizes[str(s)]) for s in what.spelt_sizes]
    arrays = [np.array(exact.inputs[a.name], dtype=dtype, order="C") for a in what.arguments]
    pointer = ctypes.POINTER(kind)
    given = [a.ctypes.data_as(pointer) if a.ndim else kind(float(a)) for a in arrays]
    parameters = [ctypes.c_double(float(v)) for v in what.parameters.values()]
    function = getattr(library, f"{name}_{what.name}")
    assert function(*sizes, *given, *parameters, *(r.ctypes.data_as(pointer) for r in results)) == 0


def run_both(library, name, exact, kind=ctypes.c_double):
    """(y, gradients) of compiled C."""
    dtype = np.float64 if kind is ctypes.c_double else np.float32
    forward, backward = passes(exact.row)
    y = np.full(exact.y.shape, np.nan, dtype)
    gradients = {n: np.full(exact.inputs[n].shape, np.nan, dtype) for n in exact.gradients}
    call(library, name, forward, exact, [y], kind)
    call(library, name, backward, exact, list(gradients.values()), kind)
    return y, gradients


@pytest.mark.parametrize("spec", SPECS)
def test_c(spec, c_library):
    exact = exact_of(spec)
    exact.judge(*run_both(c_library, exact_of(spec).row.name, exact))


@pytest.mark.parametrize(("k", "spec"), SINGLES)
def test_c_in_single_precision_rounds_once(k, spec, c_library):
    """Steps are double: from the same float inputs, float results are the double ones rounded."""
    exact = exact_of(spec)
    coarse = object.__new__(Exact)
    coarse.__dict__ = exact.__dict__ | {"inputs": {n: v.astype(np.float32) for n, v in exact.inputs.items()}}
    y, gradients = run_both(c_library, exact_of(spec).row.name, coarse)
    y_single, gradients_single = run_both(c_library, f"single_{k}", coarse, ctypes.c_float)
    assert np.array_equal(y_single, y.astype(np.float32))
    for n, g in gradients.items():
        assert np.array_equal(gradients_single[n], g.astype(np.float32)), n


def test_c_takes_arrays_without_entries(c_library):
    exact = exact_of("dense")
    empty = object.__new__(Exact)
    inputs = {**exact.inputs, "x": np.empty((0, exact.inputs["x"].shape[1])), "dy": np.empty((0, exact.y.shape[1]))}
    empty.__dict__ = exact.__dict__ | {"inputs": inputs, "y": inputs["dy"]}
    empty.point = replace(exact.point, sizes={**exact.point.sizes, "N": 0})
    y, gradients = run_both(c_library, exact_of("dense").row.name, empty)
    assert y.size == 0
    assert not gradients["W"].any()
    assert not gradients["b"].any()


# ---------------------------------------------------------------------------------------------------------- CUDA C++

#: What stands for CUDA where there is none: a launch runs its threads one after the other, the last one first.
SHIM = """
#include <cmath>
#include <cstddef>
#define __device__
#define __global__
#define __forceinline__ inline
struct Place { unsigned x; };
static Place blockIdx, threadIdx, blockDim = {5}, gridDim = {3};
typedef int cudaError_t;
typedef void *cudaStream_t;
static inline cudaError_t cudaGetLastError() { return 0; }
#define LAUNCH(kernel, count, stream, ...) \\
    do { \\
        (void)(stream); \\
        for (blockIdx.x = 3; blockIdx.x-- > 0;) \\
            for (threadIdx.x = 5; threadIdx.x-- > 0;) \\
                if ((size_t)(count) > 0) \\
                    kernel(__VA_ARGS__); \\
    } while (0)
"""


def cuda_sources():
    sources = [source_of(spec, "cuda") for spec in SPECS]
    return sources + [single(k, s, "cuda") for k, s in SINGLES]


@pytest.fixture(scope="module")
def cuda_library(tmp_path_factory):
    """The CUDA source of all rows, compiled as C++ with stand-ins for what CUDA has beyond it."""
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "layers.cpp").write_text(SHIM + "\n".join(cuda_sources()), encoding="utf-8")
    flags = ["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    built([compiler("c++"), *flags, str(folder / "layers.cpp"), "-o", str(folder / "layers.so"), "-lm"])
    return ctypes.CDLL(str(folder / "layers.so"))


def call_cuda(library, name, what, exact, results, kind=ctypes.c_double):
    dtype = np.float64 if kind is ctypes.c_double else np.float32
    sizes = [ctypes.c_size_t(exact.point.sizes[str(s)]) for s in what.spelt_sizes]
    arrays = [np.array(exact.inputs[a.name], dtype=dtype, order="C") for a in what.arguments]
    room = getattr(library, f"{name}_{what.name}_work")
    room.restype = ctypes.c_size_t
    work = np.full(room(*sizes) + 1, np.nan)
    pointers = [a.ctypes.data_as(ctypes.POINTER(kind)) for a in (*arrays, *results)]
    parameters = [ctypes.c_double(float(v)) for v in what.parameters.values()]
    function = getattr(library, f"{name}_{what.name}")
    there = work.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    n = len(arrays)
    assert function(*sizes, *pointers[:n], *parameters, *pointers[n:], there, ctypes.c_void_p(0)) == 0
    assert np.isnan(work[-1])


def run_cuda(library, name, exact, kind=ctypes.c_double):
    dtype = np.float64 if kind is ctypes.c_double else np.float32
    forward, backward = passes(exact.row)
    y = np.full(exact.y.shape, np.nan, dtype)
    gradients = {n: np.full(exact.inputs[n].shape, np.nan, dtype) for n in exact.gradients}
    call_cuda(library, name, forward, exact, [y], kind)
    call_cuda(library, name, backward, exact, list(gradients.values()), kind)
    return y, gradients


@pytest.mark.parametrize("spec", SPECS)
def test_cuda_source_as_plain_cpp(spec, cuda_library):
    exact = exact_of(spec)
    exact.judge(*run_cuda(cuda_library, exact_of(spec).row.name, exact))


@pytest.mark.parametrize(("k", "spec"), SINGLES)
def test_cuda_source_in_single_precision(k, spec, cuda_library):
    exact = exact_of(spec)
    y, gradients = run_cuda(cuda_library, f"single_{k}", exact, ctypes.c_float)
    np.testing.assert_allclose(y, exact.y, rtol=0, atol=1e-5 * np.abs(exact.y).max())
    for n, g in gradients.items():
        np.testing.assert_allclose(g, exact.gradients[n], rtol=0, atol=1e-5 * max(1, np.abs(exact.gradients[n]).max()))


@pytest.mark.parametrize("specs", [tuple(s for _, s in SINGLES), pytest.param(tuple(SPECS), marks=pytest.mark.slow)])
def test_nvcc_compiles_rows_without_a_warning(specs, tmp_path):
    nvcc = compiler("nvcc")
    sources = [source_of(spec, "cuda") for spec in specs]
    sources += [single(k, s, "cuda") for k, s in SINGLES]
    (tmp_path / "layers.cu").write_text("\n".join(sources), encoding="utf-8")
    built([nvcc, "-arch=sm_90", "-Werror", "all-warnings", "-ptx", str(tmp_path / "layers.cu"), "-o", os.devnull])


def launched(module, launches, values):
    """Run launches with CuPy; ``values`` holds what each argument is."""
    for one in launches:
        if isinstance(one, Launch):
            module.get_function(one.kernel)((7,), (64,), tuple(values[n] for n in one.arguments))
            continue
        steps = range(int(eval(one.length.replace("/", "//"), {}, values)))
        for step in reversed(steps) if one.reverse else steps:
            launched(module, one.launches, {**values, one.index: np.uint64(step)})


@pytest.mark.cuda
@pytest.mark.parametrize("spec", SPECS)
def test_cuda_on_a_gpu(spec):
    cupy = pytest.importorskip("cupy")
    exact = exact_of(spec)
    module = cupy.RawModule(code=source_of(spec, "cuda"), options=("-std=c++17", "-fmad=false"))
    found = []
    for one in layer_passes(exact.row):
        what = one.what
        values = {text: np.uint64(exact.point.sizes[str(s)]) for s, text in what.spelt_sizes.items()}
        whole = {text: int(v) for text, v in values.items()}
        for name, size in one.workspace.items():
            values[name] = cupy.full(int(eval(size.replace("/", "//"), {}, whole)), np.nan)
        values |= {identifier(a.name): cupy.asarray(exact.inputs[a.name], order="C") for a in what.arguments}
        values |= {p: np.float64(v) for p, v in what.parameters.items()}
        shapes = [exact.y.shape] if what.name == "forward" else [exact.inputs[n].shape for n in exact.gradients]
        results = {identifier(o): cupy.full(shape, np.nan) for o, shape in zip(what.outputs, shapes)}
        launched(module, one.launches, values | results)
        found.append([cupy.asnumpy(r) for r in results.values()])
    exact.judge(found[0][0], dict(zip(exact.gradients, found[1])))


# ------------------------------------------------------------------------------------------------------------- Numba


def judge_functions(exact, module, given):
    y = module["forward"](*given)
    upstream = exact.inputs[exact.upstream]
    found = module["backward"](upstream if upstream.ndim else float(upstream), *given)
    exact.judge(y, dict(zip(exact.gradients, found if isinstance(found, tuple) else (found,))))


@pytest.mark.parametrize("spec", SPECS)
def test_numba_source_as_plain_python(spec):
    """The loops, not compiled: compiling each layer takes seconds; some are compiled below."""
    exact = exact_of(spec)
    source = source_of(spec, "numba").replace('@numba.njit(error_model="numpy")\n', "")
    judge_functions(exact, module_of(source), [exact.inputs[a.name] for a in exact.row.inputs])


@pytest.mark.parametrize(
    "spec", ["layer_norm", "conv1d(stride=2, padding=1, dilation=2, groups=2)", "rnn", "l1(reduction=mean)"]
)
def test_numba_compiles(spec):
    exact = exact_of(spec)
    given = [np.asfortranarray(exact.inputs[a.name]) for a in exact.row.inputs]
    judge_functions(exact, module_of(source_of(spec, "numba")), given)


def test_numba_in_single_precision():
    exact = exact_of("dense")
    module = module_of(layer_source(exact.row, "numba", "float32"))
    given = [exact.inputs[a.name].astype(np.float32) for a in exact.row.inputs]
    y = module["forward"](*given)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, exact.y, rtol=1e-6)


# --------------------------------------------------------------------------------------------------------------- rest


@pytest.mark.parametrize(("name", "target"), CASES)
def test_golden(name, target):
    printed = layer_source(row_of(name), target)
    path = GOLDEN / f"layer_{name}_{target}.{SUFFIX.get(target, 'py')}.txt"
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


def test_the_judge_finds_a_wrong_gradient():
    exact = exact_of("dense")
    wrong = {**exact.gradients, "W": exact.gradients["W"] * (1 + 1e-9)}
    with pytest.raises(AssertionError, match="dW"):
        exact.judge(exact.y, wrong)


def test_a_function_without_a_formula_is_refused():
    for target in TARGETS:
        with pytest.raises(Unsupported, match="any function σ"):
            layer_source(layer("activation"), target)


def test_every_option_of_every_layer_is_in_a_variant():
    seen = {(parse_call(spec)[0], option) for spec in VARIANTS for option in parse_call(spec)[1]}
    lacking = {(name, option) for name, row in LAYERS.items() for option in row.options} - seen
    assert not lacking
    assert any(has_recurrence(row_of(spec).forward) for spec in SPECS)


def test_windows_and_overlap_adds_are_printed_for_every_target():
    """A one-dimensional convolution with stride, dilation and padding, written here from its nodes."""
    from backproof.theory.layers import Layer
    from backproof.theory.windows import window

    x, k = Input("x", (axis("n"), axis("i"))), Input("k", (axis("u"),))

    def convolution(x, k):
        return (window(x, "i", "p", axis("u"), stride=2, dilation=3, padding=2) * k).sum("u")

    row = Layer("strided", convolution, (x, k), "strided convolution", output=("n", "p"))
    exact = object.__new__(Exact)
    exact.row = row
    found = row.gradients()
    tensors = [row.forward, *(d.raw for d in found.values()), row.cotangent, x, k]
    exact.point = generic_point(tensors, random.Random(0), sizes={"N": 2, "I": 9, "U": 3})
    exact.upstream = "dy"
    exact.inputs = {a.name: exact.array(a) for a in (x, k, row.cotangent)}
    exact.y = exact.value(row.forward, row.output_axes)
    exact.gradients = {n: exact.value(d.raw, d.axes) for n, d in found.items()}
    assert any(type(n).__name__ == "Overlap" for d in found.values() for n in postorder(d.gradient))
    source = layer_source(row, "numba").replace('@numba.njit(error_model="numpy")\n', "")
    module = module_of(source)
    given = (exact.inputs["x"], exact.inputs["k"])
    exact.judge(module["forward"](*given), dict(zip(found, module["backward"](exact.inputs["dy"], *given))))
    if importlib.util.find_spec("torch"):
        import torch

        function = module_of(layer_source(row, "torch"))["strided"]
        tensors = [torch.tensor(v, requires_grad=True) for v in given]
        y = function(*tensors)
        y.backward(torch.tensor(exact.inputs["dy"]))
        exact.judge(y.detach(), {"x": tensors[0].grad, "k": tensors[1].grad})
    if importlib.util.find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
        y, pullback = jax.vjp(module_of(layer_source(row, "jax"))["strided"], *map(jax.numpy.asarray, given))
        exact.judge(y, dict(zip("xk", pullback(jax.numpy.asarray(exact.inputs["dy"])))))


def test_command(capsys, tmp_path):
    path = tmp_path / "attention.c"
    assert run(["emit", "attention", "--target", "c", "--output", str(path)]) == 0
    assert "attention_backward" in path.read_text()
    assert run(["emit", "prelu", "--layer", "--target", "torch"]) == 0
    assert "return " in capsys.readouterr().out
    for wrong in (
        ["emit", "attentoin", "--layer"],
        ["emit", "gelu", "--layer"],
        ["emit", "attention", "--derivatives", "2"],
        ["emit", "activation", "--layer", "--target", "c"],
        ["emit", "attention", "--dtype", "float32", "--target", "torch"],
        ["emit", "mse(reduction=maximum)"],
        ["emit", "huber(width=2)", "--target", "c"],
        ["emit", "gelu", "--loss"],
        ["emit", "mse", "--loss", "--layer"],
        ["emit", "mse", "--derivatives", "1"],
    ):
        assert run(wrong) == 2, wrong
        assert capsys.readouterr().err.count("\n") == 1


def test_unknown_target_is_one_line():
    with pytest.raises(InputError, match="unknown target"):
        layer_source(layer("dense"), "fortran")
