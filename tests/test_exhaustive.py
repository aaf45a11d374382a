"""Every float32: the scan finds what is there, goes on where it stopped, and sees wrong kernels."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from backproof.demos import every_float
from backproof.demos.cli import run
from backproof.demos.every_float import whole_table
from backproof.numerics import exhaustive as module
from backproof.numerics.accuracy import bound, exact_function
from backproof.numerics.exhaustive import ALL, ASSUMED, exhaustive
from backproof.numerics.float_scan import flushed_underflow
from backproof.numerics.kernels import kernel
from backproof.numerics.ties import UNKNOWN, side_in_balls, sides
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.errors import InputError

STRIDE = 104_729


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "elu(alpha=7/4)"])
def test_a_stride_of_all_floats_keeps_the_bound(name):
    states = exhaustive(activation(name), stride=STRIDE, resume=False)
    assert [s.order for s in states] == [0, 1, 2]
    patterns = np.arange(0, ALL, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32)
    for state in states:
        assert state.checked == np.isfinite(patterns).sum()
        assert state.worst_ulp <= bound(activation(name), "float32", state.order)
        assert state.over_one == state.failures == state.nan_lost == state.undecided == state.undefined == 0
        assert 0 <= state.reference_worst_ulp <= ASSUMED


@pytest.mark.parametrize(
    ("spoil", "least", "what"),
    [
        (lambda v: np.nextafter(v, np.float32(2)), 0.9, ()),
        (lambda v: np.where(np.abs(v) < 1e-37, np.float32(0), v), 1e3, ("flushed",)),
        (lambda v: np.where(v > 0.999, np.float32(np.nan), v), np.inf, ("failures",)),
        (np.nan_to_num, 0.4, ("nan_lost",)),
    ],
)
def test_wrong_kernels_are_seen(spoil, least, what):
    own = kernel("sigmoid", "float32")
    (state,) = exhaustive(activation("sigmoid"), (0,), stride=STRIDE, own=lambda v: [spoil(own(v))])
    assert state.worst_ulp >= least
    for name in ("failures", "flushed", "nan_lost"):
        assert (getattr(state, name) > 0) == (name in what), name


def test_it_goes_on_where_it_stopped(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1 << 12)
    monkeypatch.setattr(module, "BLOCKS", 1)
    row = activation("sigmoid")
    whole = exhaustive(row, stride=STRIDE, resume=False)
    calls, stop = [], 3

    def theirs(points):
        calls.append(points.size)
        if len(calls) - 1 == stop:  # the first call asks for the infinities
            raise KeyboardInterrupt
        return [kernel(row, "float32")(points)]

    against = {"theirs": ((0,), theirs)}
    with pytest.raises(KeyboardInterrupt):
        exhaustive(row, stride=STRIDE, against=against, resume=False, threads=1)
    stop, seen = -1, []
    resumed = exhaustive(row, stride=STRIDE, against=against, advance=seen.append)
    assert seen[0] == 2 * 4096 * STRIDE
    assert sum(seen) == ALL
    assert [s.contestant for s in resumed] == ["backproof"] * 3 + ["theirs"]
    for a, b in zip(whole, resumed, strict=False):
        assert dataclasses.asdict(a) == dataclasses.asdict(b)
    assert resumed[3].worst_ulp == pytest.approx(resumed[0].worst_ulp, abs=1e-6)


def test_fast_kernels_are_measured_as_they_are_called():
    value, derivative, _ = exhaustive(activation("silu"), stride=STRIDE, precision="fast", resume=False)
    assert 0.6 < value.worst_ulp <= 4
    assert 0.6 < derivative.worst_ulp <= 4
    assert value.failures == derivative.failures == 0


def test_threads_find_the_same():
    row = activation("gelu")
    one, many = (exhaustive(row, stride=STRIDE // 8, resume=False, threads=n) for n in (1, 3))
    assert list(map(dataclasses.asdict, one)) == list(map(dataclasses.asdict, many))


def test_subnormal_ties_are_decided_as_balls_decide_them():
    row = activation("silu")
    points = np.arange(1, 4_000, 2, dtype=np.uint32).view(np.float32).astype(np.float64)  # odd subnormals: x/2 is a tie
    points = np.concatenate([points, -points])
    ties = points / 2
    by_law = sides(row, 0, points, ties)
    assert set(by_law) == {1}  # x/2 + x²/4 + …
    chosen = slice(None, None, 97)
    in_balls = [side_in_balls(exact_function(row, 0)(p), t) for p, t in zip(points[chosen], ties[chosen], strict=True)]
    assert in_balls == by_law[chosen].tolist()


@pytest.mark.parametrize(
    "name", ["hard_swish", "hard_sigmoid", "squared_relu", "leaky_relu", "sigmoid", "gelu", "tanh", "elu(alpha=7/4)"]
)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_laws_agree_with_balls(name, order):
    row, rng = activation(name), np.random.default_rng(5)
    points = np.concatenate(
        [
            rng.uniform(-4, 4, 60),
            rng.uniform(-1, 1, 60) * 2.0**-127,
            rng.uniform(-1, 1, 90) * 2.0 ** -rng.integers(14, 60, 90),
            [2.0**-149, -(2.0**-149)],
        ]
    )
    points = points.astype(np.float32).astype(np.float64)
    exact = exact_function(row, order)
    values = kernel(row).derivative(points, order)
    nearest = values.astype(np.float32)
    ties = nearest.astype(np.float64) + np.spacing(nearest).astype(np.float64) / 2 * rng.integers(-1, 2, values.size)
    answers = sides(row, order, points, ties)
    for p, t, answer in zip(points.tolist(), ties.tolist(), answers.tolist(), strict=True):
        if answer != UNKNOWN:
            in_balls = side_in_balls(exact(p), t)
            assert answer == in_balls or (answer == 0 and in_balls == UNKNOWN), (p, t)  # a sixth is no exact ball


def test_wrong_strides_and_threads_are_refused():
    for wrong in (0, -1, 1.5, True, ALL):
        with pytest.raises(InputError, match="stride"):
            exhaustive(activation("relu"), stride=wrong)
        with pytest.raises(InputError, match="threads"):
            exhaustive(activation("relu"), threads=wrong)


def test_underflow_is_flushed_inside_only():
    with flushed_underflow():
        pass
    tiny = np.array([2.0**-1000])
    assert (tiny * 2.0**-60)[0] == 2.0**-1060


def test_command(capsys):
    assert run(["accuracy", "sigmoid", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE)]) == 0
    shown = capsys.readouterr().out
    assert "reference: the float64 kernel" in shown
    assert "promised ≤ 0.51" in shown
    arguments = ["accuracy", "silu", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE)]
    assert run([*arguments, "--against", "numpy", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(r["contestant"], r["order"]) for r in data["results"]] == [
        (whose, order) for whose in ("backproof", "numpy") for order in (0, 1, 2)
    ]
    assert float(data["results"][4]["worst_ulp"]) > 1e3  # as written it overflows
    assert run(["accuracy", "sigmoid", "--exhaustive"]) == 2
    assert run(["accuracy", "sigmoid", "--against", "torch"]) == 2
    assert run(["accuracy", "sigmoid", "--threads", "2"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize("whose", ["torch", "jax"])
def test_against_a_library(whose, capsys):
    pytest.importorskip(whose)
    arguments = ["accuracy", "sigmoid", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE)]
    assert run([*arguments, "--against", whose, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(r["contestant"], r["order"]) for r in results[3:]] == [(whose, 0), (whose, 1)]
    assert float(results[3]["worst_ulp"]) > float(results[0]["worst_ulp"])
    assert run(["accuracy", "x**2", *arguments[2:], "--against", whose]) == 2
    assert "has no x**2" in capsys.readouterr().err


def test_an_unreliable_reference_is_said(monkeypatch, capsys):
    monkeypatch.setattr(every_float, "ASSUMED", 0.1)
    arguments = ["accuracy", "sigmoid", "--dtype", "float32", "--exhaustive", "--stride", str(STRIDE * 7)]
    assert run(arguments) == 1
    assert "NOT RELIABLE" in capsys.readouterr().out


def test_rows_with_parameters_are_measured_elsewhere_too():
    names = [row.name for row in whole_table()]
    assert set(ACTIVATIONS) <= set(names)
    assert "elu(alpha=7/4)" in names
    assert len(names) == len(set(names)) == len(ACTIVATIONS) + sum(bool(row.parameters) for row in ACTIVATIONS.values())


@pytest.mark.slow
@pytest.mark.parametrize("row", whole_table(), ids=lambda row: row.name)
def test_every_float32(row):
    """All 2³² inputs; a minute each."""
    for state in exhaustive(row):
        assert state.worst_ulp <= bound(row, "float32", state.order), state
        assert state.failures == state.nan_lost == 0
        assert state.reference_worst_ulp <= ASSUMED
