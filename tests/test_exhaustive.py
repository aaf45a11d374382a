"""Every float32: the scan finds what is there, goes on where it stopped, and sees wrong kernels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics import exhaustive as module
from backproof.numerics.accuracy import bound
from backproof.numerics.exhaustive import ALL, exhaustive
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.errors import InputError

STRIDE = 104_729


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "kernels"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("BACKPROOF_CACHE", str(folder))


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu"])
@pytest.mark.parametrize("order", [0, 1])
def test_a_stride_of_all_floats_keeps_the_bound(name, order):
    state = exhaustive(activation(name), order, stride=STRIDE, resume=False)
    assert state.finished
    finite = np.isfinite(np.arange(0, ALL, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32))
    assert state.checked == finite.sum()
    assert state.worst_ulp <= bound(ACTIVATIONS[name], "float32", order)
    assert state.over_one == state.failures == 0
    assert 0 <= state.reference_worst_ulp <= bound(ACTIVATIONS[name], "float64", order)


@pytest.mark.parametrize(
    ("spoil", "least", "failures"),
    [
        (lambda v: np.nextafter(v, np.float32(2)), 0.9, 0),
        (lambda v: np.where(np.abs(v) < 1e-37, np.float32(0), v), 1e3, 0),
        (lambda v: np.where(v > 0.999, np.float32(np.nan), v), np.inf, 1),
    ],
)
def test_wrong_kernels_are_seen(spoil, least, failures):
    own = kernel("sigmoid", "float32")
    state = exhaustive(
        activation("sigmoid"), 0, stride=STRIDE, run=lambda v: spoil(own(v)), contestant="spoilt", resume=False
    )
    assert state.worst_ulp >= least
    assert (state.failures > 0) == bool(failures)


def test_it_goes_on_where_it_stopped(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1 << 12)
    row = activation("sigmoid")
    whole = exhaustive(row, 1, stride=STRIDE, resume=False)
    calls = []

    def interrupted(points):
        calls.append(points.size)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kernel(row, "float32").derivative(points, 1)

    with pytest.raises(KeyboardInterrupt):
        exhaustive(row, 1, stride=STRIDE, contestant="again", run=interrupted, resume=False)
    calls += [0] * 10
    seen = []
    resumed = exhaustive(row, 1, stride=STRIDE, contestant="again", run=interrupted, advance=seen.append)
    assert seen[0] == 2 * 4096 * STRIDE
    assert sum(seen) == ALL
    assert resumed.checked == whole.checked
    assert resumed.worst == whole.worst


def test_wrong_strides_are_refused():
    for wrong in (0, -1, 1.5, True, ALL):
        with pytest.raises(InputError, match="stride"):
            exhaustive(activation("relu"), 0, stride=wrong)


def test_command(capsys):
    assert run(["accuracy", "sigmoid", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE)]) == 0
    shown = capsys.readouterr().out
    assert "reference: the float64 kernel" in shown
    arguments = ["accuracy", "silu", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE)]
    assert run([*arguments, "--against", "numpy", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [r["contestant"] for r in data["results"]] == ["backproof", "numpy"] * 2
    assert float(data["results"][3]["worst_ulp"]) > 1e3  # as written it overflows
    assert run(["accuracy", "sigmoid", "--exhaustive"]) == 2
    assert run(["accuracy", "sigmoid", "--against", "torch"]) == 2
    capsys.readouterr()


def test_against_torch(capsys):
    pytest.importorskip("torch")
    arguments = ["accuracy", "sigmoid", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE)]
    assert run([*arguments, "--against", "torch", "--json"]) == 0
    capsys.readouterr()
    assert run(["accuracy", "x**2", *arguments[2:], "--against", "torch"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_float32(name, order):
    """All 2³² inputs; minutes each."""
    state = exhaustive(ACTIVATIONS[name], order)
    assert state.worst_ulp <= bound(ACTIVATIONS[name], "float32", order), state
    assert state.failures == 0
