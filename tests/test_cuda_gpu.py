"""What only a GPU can show; run with ``-m cuda``, skipped with the reason where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from backproof.numerics.cuda_kernels import device_reason
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS
from backproof.theory.errors import InputError

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(bool(device_reason()), reason=device_reason() or "a GPU")]
SAMPLE = np.arange(0, 2**32, 65_537, dtype=np.uint64).astype(np.uint32).view(np.float32)


def _same(a, b):
    return bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_results_equal_the_cpu_bit_for_bit(name):
    for target_pair in zip(*(kernel(name, "float32", t).value_and_derivative(SAMPLE) for t in ("cuda", "cpu"))):
        assert _same(*target_pair)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_every_float32_is_within_one_ulp(name, order):
    from backproof.numerics.cuda_exhaustive import exhaustive_on_gpu

    found = exhaustive_on_gpu(ACTIVATIONS[name], order)
    assert found.checked == 2**32
    assert found.failures == 0
    assert found.worst_ulp <= 1


def _cupy():
    return pytest.importorskip("cupy")


def _torch():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA here")
    return torch


X = np.linspace(-6, 6, 60, dtype=np.float32).reshape(4, 15)


@pytest.mark.parametrize(
    "change", [lambda a: a, lambda a: a.T, lambda a: a[:, 1:], lambda a: a[::2, ::3], lambda a: a[:0]]
)
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_arrays_of_other_libraries(library, change):
    k, own = kernel("gelu", "float32", "cuda"), kernel("gelu", "float32")
    given = change(_cupy().asarray(X)) if library == "cupy" else change(_torch().from_numpy(X).cuda())
    value, slope = k.value_and_derivative(given)
    assert type(value) is type(given)
    host = (lambda a: a.get()) if library == "cupy" else (lambda a: a.cpu().numpy())
    for computed, expected in zip((value, slope), own.value_and_derivative(host(given))):
        assert _same(host(computed), expected)
    assert k(given, out=given) is given
    assert _same(host(given), host(value))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_by_pytorch(dtype):
    torch = _torch()
    x = torch.linspace(-8, 8, 1003, device="cuda").to(getattr(torch, dtype))
    computed = kernel("gelu", dtype, "cuda")(x)
    assert computed.dtype == x.dtype
    exact = kernel("gelu", "float32")(x.float().cpu().numpy())
    assert int((computed.cpu() != torch.from_numpy(exact).to(x.dtype)).sum()) <= 2  # float32 inside: near a tie


def test_misaligned_views_and_shifted_outputs():
    cupy, k = _cupy(), kernel("gelu", "float32", "cuda")
    line = cupy.linspace(-3, 3, 1003, dtype=cupy.float32)
    expected = kernel("gelu", "float32")(line.get())
    for start in range(5):
        assert _same(k(line[start:]).get(), expected[start:])
        out = cupy.empty(1003, cupy.float32)
        k(line[start:], out=out[: 1003 - start])  # aligned differently
        assert _same(out[: 1003 - start].get(), expected[start:])
    k(line[:-1], out=line[1:])
    assert _same(line[1:].get(), expected[:-1])


def test_the_current_stream_is_used():
    cupy, k = _cupy(), kernel("gelu", "float32", "cuda")
    stream = cupy.cuda.Stream(non_blocking=True)
    x = cupy.ones(1 << 20, cupy.float32)
    k(x)
    with stream:
        stream.begin_capture()
        captured = k(x)
        graph = stream.end_capture()
        graph.launch(stream)
    stream.synchronize()
    assert float(captured[0]) == float(kernel("gelu", "float32")(np.ones(1, np.float32))[0])


def test_wrong_arrays_are_refused_in_one_line():
    cupy, k = _cupy(), kernel("gelu", "float32", "cuda")
    with pytest.raises(InputError, match="x is float64, the kernel is float32"):
        k(cupy.ones(3))
    with pytest.raises(InputError, match="out is"):
        k(cupy.ones(3, cupy.float32), out=cupy.ones(4, cupy.float32))
    with pytest.raises(InputError, match="out must be one"):
        k(cupy.ones(3, cupy.float32), out=np.ones(3, np.float32))
    with pytest.raises(InputError, match="same side"):
        k(np.ones(3, np.float32), out=cupy.ones(3, cupy.float32))
    both = cupy.ones(4, cupy.float32)
    with pytest.raises(InputError, match="share memory"):
        k.value_and_derivative(both, out=(both, both))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd", "momentum"])
def test_training_gives_the_cpus_numbers(dtype, optimiser):
    _cupy()
    from backproof.numerics.training import train

    options = {"spec": "64-32-10", "data": "digits", "activation": "gelu", "dtype": dtype, "epochs": 5, "batch": 32}
    here, there = (train(device=device, optimiser=optimiser, **options) for device in ("cpu", "cuda"))
    # Sums in another order: the difference grows with the steps (225 here).
    tolerance = 2e-3 if dtype == "float32" else 1e-11
    for name, values in here.parameters.items():
        assert abs(values - there.parameters[name]).max() <= tolerance * abs(values).max()
    assert there.history[-1].train_loss == pytest.approx(here.history[-1].train_loss, rel=tolerance)


def test_the_training_step_is_captured():
    _cupy()
    from backproof.numerics.cuda_step_bench import step_times

    found = step_times(rounds=1)
    assert found["backproof"]["graph"] == "captured"
    assert found["backproof"]["difference_after_20_steps"] < 1e-3


def test_bandwidth_of_relu_is_near_the_copys():
    _cupy()
    from backproof.numerics.cuda_bench import bandwidth

    assert bandwidth(ACTIVATIONS["relu"], "float32", 1 << 26, 5)["results"]["backproof"]["of_copy"] > 0.8
