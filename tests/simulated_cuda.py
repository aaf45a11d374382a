"""Run by test_cuda_simulator.py with NUMBA_ENABLE_CUDASIM=1: what CUDA kernels compute, thread by thread.

Prints one JSON object a line: {"what": …, "differ": [[point, simulated, CPU's], …]}.
"""

import json
import sys
import warnings

import numpy as np

from backproof.numerics.compiled import load
from backproof.numerics.cuda_kernels import load_module, start_run
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS

ORDERS = (0, 1, 2)
MAGNITUDES = (0.0, 1e-40, 1e-9, 0.3, 0.6, 0.75, 0.9, 1.0, 1.19, 1.28, 1.7, 2.4, 3.0, 5.5, 6.0, 17.0, 40.0, 90.0, 1e3,
              7e4, 1e8, 1e20, 3e38)  # fmt: skip
POINTS = np.array([s * m for m in MAGNITUDES for s in (1, -1)] + [np.nan, np.inf, -np.inf])


def told(what, points, computed, expected):
    """One line: where the two are not the same number (or both NaN)."""
    bad = np.flatnonzero(~((computed == expected) | (np.isnan(computed) & np.isnan(expected))))
    found = [[float(points[k]), float(computed[k]), float(expected[k])] for k in bad]
    print(json.dumps({"what": what, "differ": found}), flush=True)


def row(name, dtype, precision):
    """f, f′ and f″ of a row in one pass; 3 entries before the first pack, and a tail."""
    options = {} if precision == "default" else {"precision": precision}
    points = POINTS.astype(dtype)
    simulated, own = (kernel(name, dtype, target, **options) for target in ("cuda", "cpu"))
    load(simulated.path_of(ORDERS))
    outs = [np.zeros_like(points) for _ in ORDERS]
    load_module(simulated.path_of(ORDERS)).run[1, 16](points, *outs, 3)
    expected = [np.zeros_like(points) for _ in ORDERS]
    load(own.path_of(ORDERS))(points, *expected)
    for order in ORDERS:
        told(f"{name} {dtype} {precision} {order}", points, outs[order], expected[order])


def half(name):
    """16-bit floats: the results of float32, rounded to the nearest."""
    points = np.linspace(-8, 8, 43).astype(np.float16)
    expected = kernel(name, "float32").value_and_derivative(points.astype(np.float32))
    for dtype, given in (
        ("float16", points),
        ("bfloat16", (points.astype(np.float32).view(np.int32) >> 16).astype("i2")),
    ):
        simulated = kernel(name, dtype, "cuda")
        load(simulated.path_of((0, 1)))
        outs = [np.zeros_like(given) for _ in range(2)]
        if dtype == "bfloat16":
            wide = (given.astype(np.int32) << 16).view(np.float32)
            expected = kernel(name, "float32").value_and_derivative(wide)
        load_module(simulated.path_of((0, 1))).run[1, 32](given, *outs, 5)
        for order, (out, exact) in enumerate(zip(outs, expected, strict=True)):
            if dtype == "float16":
                told(f"{name} {dtype} {order}", points, out, exact.astype(np.float16))
            else:
                below = exact.view(np.int32) & -65536
                near = [
                    (b.view(np.float32), abs(b.view(np.float32).astype(float) - exact)) for b in (below, below + 65536)
                ]
                nearest = np.where(near[0][1] <= near[1][1], near[0][0], near[1][0])
                told(f"{name} {dtype} {order}", points, (out.astype(np.int32) << 16).view(np.float32), nearest)


def arrays():
    """NumPy arrays of any layout by way of the (simulated) GPU, and one entry at a time."""
    simulated, own = kernel("gelu", "float32", "cuda"), kernel("gelu", "float32")
    square = np.linspace(-6, 6, 35, dtype=np.float32).reshape(5, 7)
    for what, x in {"C": square, "F": square.T, "strided": square[::2, ::3], "one": square[1:2, 0]}.items():
        for computed, expected in zip(simulated.value_and_derivative(x), own.value_and_derivative(x), strict=True):
            assert computed.shape == x.shape
            told(f"layout {what}", x.ravel(), computed.ravel(), expected.ravel())
    out = np.empty_like(square)
    assert simulated(square, out=out) is out
    told("out", square.ravel(), out.ravel(), own(square).ravel())
    assert simulated(np.empty((0, 3), np.float32)).shape == (0, 3)
    told("number", [0.5], np.array([simulated(0.5)]), np.array([own(0.5)]))
    load(simulated.path_of((0,)))
    each = np.zeros(35, np.float32)
    start_run(load_module(simulated.path_of((0,))), [square.ravel(), each], None, 35, 4)
    told("each", square.ravel(), each, own(square).ravel())


def update(name):
    """Three steps of an optimiser in float32, its step number on the device."""
    from backproof.numerics.cuda_training import DeviceUpdater
    from backproof.numerics.updates import Updater

    rng = np.random.default_rng(0)
    theirs = rng.normal(size=21).astype(np.float32)
    ours = theirs.copy()
    cpu = Updater(name, 21, "float32")
    device = DeviceUpdater(Updater(name, 21, "float32"), 21, "float32", np)
    for _ in range(3):
        gradient = rng.normal(size=21).astype(np.float32)
        cpu.step(theirs, gradient)
        device(ours, gradient)
    told(f"update {name}", theirs, ours, theirs)


def exhaustive():
    """The counting kernels on a function that is wrong by known amounts."""
    from backproof.numerics.cuda_exhaustive import exhaustive_on_gpu
    from backproof.theory.activations import activation

    right = exhaustive_on_gpu(activation("tanh"), 0, stride=2**32 // 300 + 1, block=101)
    print(
        json.dumps({"what": "exhaustive", "right": [right.checked, right.worst_ulp, right.over_half, right.failures]})
    )
    identity = activation("identity")

    def wrong(x, out):
        points = x.copy_to_host()
        out.copy_to_device(np.where(points > 1, np.nextafter(points, np.float32(np.inf)), points))

    def nothing(x, out):
        out.copy_to_device(np.full(x.size, np.nan, np.float32))

    found = exhaustive_on_gpu(identity, 0, stride=2**32 // 300 + 1, block=101, run=wrong)
    failing = exhaustive_on_gpu(identity, 0, stride=2**32 // 300 + 1, block=101, run=nothing)
    print(json.dumps({"what": "wrong", "found": [found.worst_ulp, found.over_half, found.over_one, failing.failures]}))


def command():
    """The command that measures every float32, on a few hundred of them."""
    from backproof.demos.cli import run

    stride = str(2**32 // 300 + 1)
    status = run(["accuracy", "tanh", "--target", "cuda", "--exhaustive", "--dtype", "float32", "--stride", stride])
    print(json.dumps({"what": "command", "status": status}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for argument in sys.argv[1:]:
        if argument in ACTIVATIONS:
            row(argument, "float32", "default")
            row(argument, "float64", "default")
        elif argument.startswith("half:"):
            half(argument.removeprefix("half:"))
        elif argument.startswith("fast:"):
            row(argument.removeprefix("fast:"), "float32", "fast")
        elif argument.startswith("update:"):
            update(argument.removeprefix("update:"))
        else:
            {"arrays": arrays, "exhaustive": exhaustive, "command": command}[argument]()
