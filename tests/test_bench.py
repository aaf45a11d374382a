"""The race: who takes part, that they compute the same, the figures, the table, the picture, and what is refused."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from backproof.demos import bench
from backproof.demos.cli import run
from backproof.numerics import racing
from backproof.numerics.contestants import THEIRS, derivatives_of, has
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.errors import InputError

SMALL = ["--size", "500", "--rounds", "3"]


@pytest.mark.parametrize("whose", ["torch", "jax"])
def test_their_functions_are_the_rows_functions(whose):
    """A wrong name, or a default that is not the row's, shows at once (atol: in their tails theirs have no digit)."""
    pytest.importorskip(whose)
    points = np.concatenate([np.linspace(-7.3, 7.1, 61), [-40.0, 30.0]]).astype(np.float32)
    for name in THEIRS:
        row = ACTIVATIONS[name]
        if not has(row, whose):
            continue
        orders, function = derivatives_of(row, whose)
        assert orders == (0, 1)
        for order, theirs in zip(orders, function(points), strict=True):
            ours = kernel(row).derivative(points.astype(np.float64), order)
            np.testing.assert_allclose(theirs, ours, rtol=2e-4, atol=3e-5, err_msg=f"{name} {order}")


def test_what_numpy_writes_is_the_formula():
    orders, function = derivatives_of(activation("mish"), "numpy")
    points = np.linspace(-3, 3, 9)
    for order, values in zip(orders, function(points), strict=True):
        np.testing.assert_allclose(values, kernel("mish").derivative(points, order), rtol=1e-13)


def test_contestants_compute_both():
    points = np.linspace(-3, 3, 100)
    runners = racing.contestants(activation("silu"), points)
    assert {"backproof", "copy", "numpy, as written", "numba, as written"} <= set(runners)
    value, derivative = kernel("silu").value_and_derivative(points)
    np.testing.assert_array_equal(runners["backproof"]()[0], value)
    for name in set(runners) & {"numpy, as written", "numexpr"}:
        both = runners[name]()
        np.testing.assert_allclose(both[0], value, rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(both[1], derivative, rtol=1e-12, err_msg=name)


def test_contestants_of_the_value_alone():
    points = np.linspace(-3, 3, 100)
    runners = racing.contestants(activation("silu"), points, orders=racing.VALUE)
    value = kernel("silu")(points)
    np.testing.assert_array_equal(runners["backproof"](), value)
    for name in set(runners) & {"numpy, as written", "numexpr", "torch, eager", "jax, jitted"}:
        found = runners[name]()
        found = found[0] if isinstance(found, tuple | list) else np.asarray(found)
        np.testing.assert_allclose(found, value, rtol=1e-12, err_msg=name)
    moved = [
        racing.raced(activation("relu"), "float32", 1000, 1, orders=o)["backproof"] for o in (racing.VALUE, racing.BOTH)
    ]
    assert [round(m["gigabytes_per_s"] * m["median_ms"] / 4e-3) for m in moved] == [2, 3]


def test_the_summary_is_of_ratios():
    results = {
        "a": {"backproof": {"median_ms": 2.0}, "other": {"median_ms": 4.0}},
        "b": {"backproof": {"median_ms": 1.0}, "other": {"median_ms": 0.5}},
        "c": {"backproof": {"median_ms": 1.0}},
    }
    (entry,) = racing.summary(results).values()
    assert entry == {"rows": 2, "geometric_mean": pytest.approx(1.0), "least": 0.5, "least_row": "b"}


def test_a_race_interleaves():
    calls = []
    racing.race({name: (lambda name=name: calls.append(name)) for name in "ab"}, rounds=4)
    assert calls[:4] == ["a", "a", "b", "b"]  # the warm-ups
    switches = sum(a != b for a, b in pairwise(calls[4:]))
    assert switches >= 4


def test_figures():
    f = racing.figures([1e-3, 2e-3, 3e-3], size=1_000, itemsize=4, arrays=3)
    assert f["median_ms"] == 2
    assert f["low_ms"] <= 2 <= f["high_ms"]
    assert f["ns_per_entry"] == pytest.approx(2_000)
    assert f["gigabytes_per_s"] == pytest.approx(3 * 4_000 / 2e-3 / 1e9)


def test_command(capsys, tmp_path):
    picture = tmp_path / "race.svg"
    assert run(["bench", "relu", "x*exp(-x**2)", *SMALL, "--output", str(picture)]) == 0
    shown = capsys.readouterr().out
    for word in ("relu", "x*exp(-x**2)", "ns/entry", "geometric mean", "least", "copy"):
        assert word in shown, word
    assert "<svg" in picture.read_text()


def test_several_sizes_and_dtypes_as_json(capsys, tmp_path):
    arguments = ["bench", "relu", "--sizes", "1e2,300", "--dtype", "both", "--rounds", "2", "--threads", "1", "--json"]
    assert run([*arguments, "--output", str(tmp_path / "race.png")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["threads"] == 1
    assert [(r["dtype"], r["size"]) for r in data["races"]] == [
        (dtype, size) for dtype in ("float32", "float64") for size in (100, 300)
    ]
    for one in data["races"]:
        for entry in one["results"]["relu"].values():
            assert all(math.isfinite(value) and value > 0 for value in entry.values())
    assert (tmp_path / "race.png").stat().st_size > 10_000


def test_threads_are_given_back():
    import os

    before = os.sched_getaffinity(0)
    with racing.processors(1) as used:
        assert used == len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(InputError, match="--threads"), racing.processors(len(before) + 1):
        pass


@pytest.mark.parametrize("wrong", ["", "1e3,x", "0", "1.5", "1e99", "nan", "-3"])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(InputError, match="sizes"):
        bench.sizes_of(wrong)


@pytest.mark.parametrize(
    "wrong",
    [["nope"], ["relu", "--all"], ["relu", "--sizes", "a"], ["relu", "--threads", "1000"], ["relu", "-o", "x.txt"]],
)
def test_wrong_usage(wrong, capsys):
    assert run(["bench", *wrong]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
