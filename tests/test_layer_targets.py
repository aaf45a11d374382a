"""Every layer, forward and backward, printed for every target, run, and held against exact evaluation at odd shapes."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import shutil
import subprocess
from pathlib import Path

import flint
import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics.emission import TARGETS, layer_source
from backproof.theory.equality import evaluate, generic_point
from backproof.theory.errors import InputError, Unsupported
from backproof.theory.layers import LAYERS, layer
from backproof.theory.recurrence import has_recurrence
from backproof.theory.tensors import Input, axis
from backproof.theory.walking import postorder

GOLDEN = Path(__file__).parent / "golden"
#: Layers whose function has no formula: there is nothing to print.
ANY_FUNCTION = {"activation"}
OVER_TIME = [name for name, row in LAYERS.items() if has_recurrence(row.forward)]
ROWS = [name for name in LAYERS if name not in ANY_FUNCTION]
CASES = [(name, target) for target in ("torch", "jax", "c", "numba") for name in ("dense", "softmax")]
#: float64 against exact values, relative to the largest entry: sums of a few terms, a few roundings each.
TOLERANCE = 1e-12


class Exact:
    """A layer at one random exact point: its inputs as arrays, its output and gradients as the nearest floats."""

    def __init__(self, name, seed=0):
        self.row = layer(name)
        for attempt in range(20):  # at a tie the enclosures cannot tell who is the largest: another point then
            try:
                self._draw(seed + attempt)
                return
            except Unsupported:
                continue
        raise AssertionError(f"no point found for {name}")

    def _draw(self, seed):
        found = self.row.gradients()
        tensors = [self.row.forward, *(d.raw for d in found.values()), self.row.cotangent, *self.row.inputs]
        self.point = generic_point(tensors, random.Random(seed))
        self.point.scalars.update({str(s): frac(v) for s, v in self.row.parameters.items()})
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
    from fractions import Fraction

    return Fraction(int(value.p), int(value.q))


def close(computed, exact, what):
    computed = np.asarray(computed)
    assert computed.shape == exact.shape, what
    np.testing.assert_allclose(computed, exact, rtol=0, atol=TOLERANCE * max(1.0, np.abs(exact).max()), err_msg=what)


def module_of(source):
    namespace: dict = {"__name__": "printed"}
    exec(compile(source, "<printed>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", ROWS)
def test_torch(name):
    torch = pytest.importorskip("torch")
    exact = Exact(name)
    function = module_of(layer_source(exact.row, "torch"))[name]
    given = [torch.tensor(exact.inputs[a.name], requires_grad=a.name in exact.gradients) for a in exact.row.inputs]
    y = function(*given)
    y.backward(torch.tensor(exact.inputs["dy"]))
    exact.judge(y.detach(), {a.name: g.grad for a, g in zip(exact.row.inputs, given)})


@pytest.mark.parametrize("name", ROWS)
def test_jax(name):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    exact = Exact(name)
    function = jax.jit(module_of(layer_source(exact.row, "jax"))[name])
    y, pullback = jax.vjp(function, *(jax.numpy.asarray(exact.inputs[a.name]) for a in exact.row.inputs))
    found = pullback(jax.numpy.asarray(exact.inputs["dy"]))
    exact.judge(y, {a.name: g for a, g in zip(exact.row.inputs, found)})


@pytest.mark.parametrize("name", ROWS)
def test_c(name, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    exact = Exact(name)
    path = tmp_path / "layer.c"
    path.write_text(layer_source(exact.row, "c"), encoding="utf-8")
    command = [compiler, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(path), "-lm"]
    done = subprocess.run([*command, "-o", str(tmp_path / "layer.so")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    library = ctypes.CDLL(str(tmp_path / "layer.so"))
    y = np.full(exact.y.shape, np.nan)
    gradients = {n: np.full(exact.inputs[n].shape, np.nan) for n in exact.gradients}
    call(library, exact, "forward", exact.row.inputs, [y])
    call(library, exact, "backward", (exact.row.cotangent, *exact.row.inputs), list(gradients.values()))
    exact.judge(y, gradients)


def call(library, exact, which, arguments, results):
    from backproof.numerics.targets.tensor_parts import passes

    what = next(p for p in passes(exact.row) if p.name == which)
    sizes = [ctypes.c_size_t(exact.point.sizes[str(s)]) for s in what.spelt_sizes]
    arrays = [np.ascontiguousarray(exact.inputs[a.name]) for a in arguments]
    pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in (*arrays, *results)]
    parameters = [ctypes.c_double(float(v)) for v in what.parameters.values()]
    function = getattr(library, f"{exact.row.name}_{which}")
    assert function(*sizes, *pointers[: len(arrays)], *parameters, *pointers[len(arrays) :]) == 0


@pytest.mark.parametrize("name", ROWS)
def test_numba_source_as_plain_python(name):
    """The loops, not compiled: compiling each layer takes seconds; one is compiled below."""
    exact = Exact(name)
    source = layer_source(exact.row, "numba").replace('@numba.njit(error_model="numpy")\n', "")
    module = module_of(source)
    y = module["forward"](*(exact.inputs[a.name] for a in exact.row.inputs))
    found = module["backward"](exact.inputs["dy"], *(exact.inputs[a.name] for a in exact.row.inputs))
    found = found if isinstance(found, tuple) else (found,)
    exact.judge(y, dict(zip(exact.gradients, found)))


def test_numba_compiles():
    exact = Exact("layer_norm", seed=5)
    module = module_of(layer_source(exact.row, "numba"))
    given = [exact.inputs[a.name] for a in exact.row.inputs]
    exact.judge(module["forward"](*given), dict(zip(exact.gradients, module["backward"](exact.inputs["dy"], *given))))


@pytest.mark.parametrize(("name", "target"), CASES)
def test_golden(name, target):
    printed = layer_source(layer(name), target)
    path = GOLDEN / f"layer_{name}_{target}.{'c' if target == 'c' else 'py'}.txt"
    if os.environ.get("BACKPROOF_GOLDEN") == "write":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


def test_the_judge_finds_a_wrong_gradient():
    exact = Exact("dense")
    wrong = {**exact.gradients, "W": exact.gradients["W"] * (1 + 1e-9)}
    with pytest.raises(AssertionError, match="dW"):
        exact.judge(exact.y, wrong)


def test_a_function_without_a_formula_is_refused():
    for target in TARGETS:
        if target != "numpy":
            with pytest.raises(Unsupported, match="any function σ"):
                layer_source(layer("activation"), target)


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "numpy"])
def test_a_layer_over_time_is_refused_by_its_name(target):
    for name in OVER_TIME:
        with pytest.raises(Unsupported, match=f"layer {name} runs over time"):
            layer_source(layer(name), target)


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
        ["emit", "attention", "--dtype", "float32"],
    ):
        assert run(wrong) == 2, wrong
        assert capsys.readouterr().err.count("\n") == 1


def test_unknown_target_is_one_line():
    with pytest.raises(InputError, match="unknown target"):
        layer_source(layer("dense"), "fortran")
