"""Ten million points in compiled balls: the same errors as Arb's by the interpreter, and wrong kernels are seen."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics import dense
from backproof.numerics.accuracy import FORMATS, adversarial_sample, exact_function, ulp_error
from backproof.numerics.ball_loops import BallLoop
from backproof.numerics.dense import Sample, measure_dense
from backproof.numerics.kernels import kernel
from backproof.theory.activations import ACTIVATIONS, activation
from backproof.theory.arithmetic import BALLS
from backproof.theory.errors import InputError
from backproof.theory.stability import stable_program


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(dense, "BLOCK", 2_048)
    monkeypatch.setattr(dense, "CONTROLS", 60)


@pytest.mark.parametrize("spec", [*ACTIVATIONS, "x*tanh(log(1+exp(x)))", "log(cosh(x))", "celu(alpha=7/4)"])
def test_balls_have_a_form_of_every_row_with_nothing_approximated(spec):
    row = activation(spec)
    stable = stable_program({f"d{n}": row.derivative(n) for n in range(3)}, BALLS)
    assert not stable.patches
    assert not stable.as_written
    BallLoop.source_of(stable.program, ["d0", "d1", "d2"], FORMATS["float64"])


@pytest.mark.parametrize(("spec", "dtype"), [("gelu", "float64"), ("elu", "float32"), ("tanhshrink", "float64")])
def test_compiled_balls_give_the_errors_of_interpreted_ones(spec, dtype):
    row, fmt = activation(spec), FORMATS[dtype]
    points = adversarial_sample(row, 0, dtype, size=40)[::9]
    points = points[(np.abs(points) > 1e-200) & (np.abs(points) < 1e30)]
    near = np.asarray(kernel(spec, dtype, "numpy")(points))
    computed = (near + np.spacing(near) * (np.arange(near.size) % 5))[None, :]
    program = stable_program({"value": row.expr}, BALLS).program
    loop = BallLoop(program, ["value"], fmt)
    with loop.memory() as balls:
        errors, radii = balls.compare(points, computed, 3_500)
        assert np.isfinite(radii).all()
    exact = exact_function(row, 0)
    for k, point in enumerate(points.tolist()):
        error, _ = ulp_error(float(computed[0, k]), exact(point), fmt)
        # beside a power of two it depends on the bits in which binade an enclosure's middle lies
        assert any(error == pytest.approx(f * float(errors[0, k]), rel=2e-3, abs=2e-3) for f in (1, 2, 0.5))


def test_what_so_few_bits_cannot_decide_is_said():
    program = stable_program({"value": ACTIVATIONS["tanhshrink"].expr}, BALLS).program
    with BallLoop(program, ["value"], FORMATS["float64"]).memory() as balls:
        _, radii = balls.compare(np.array([1e-30, 1.0]), np.array([[0.0, 1 - math.tanh(1.0)]]), 128)
    assert radii[0, 0] > 1e-3
    assert radii[0, 1] < 1e-3


def test_the_sample_has_every_exponent_both_signs_and_the_clusters():
    sample = Sample(ACTIVATIONS["hard_swish"], "float64", 0)
    points = np.concatenate([sample.block(k) for k in range(3)])
    assert np.isfinite(points).all()
    exponents = np.frexp(points[points != 0])[1]
    assert set(range(-1_073, 1_025)) <= set(exponents[points[points != 0] > 0].tolist())
    assert set(range(-1_073, 1_025)) <= set(exponents[points[points != 0] < 0].tolist())
    for kink in (3.0, -3.0):
        assert {np.nextafter(kink, 0), kink, np.nextafter(kink, 2 * kink)} <= set(points.tolist())
    np.testing.assert_array_equal(sample.block(2), Sample(ACTIVATIONS["hard_swish"], "float64", 0).block(2))
    assert not np.array_equal(sample.block(1), sample.block(2))


def test_points_where_nothing_is_defined_are_left_out():
    assert (Sample(activation("log(x)"), "float64", 0).block(0) >= 0).all()


def test_an_interrupted_run_goes_on_and_finds_the_same(small_blocks):
    row = ACTIVATIONS["leaky_relu"]
    seen = []

    def stop(points):
        seen.append(points)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_dense(row, points=9 * 2_048, threads=1, advance=stop)
    seen = []
    found = measure_dense(row, points=9 * 2_048, threads=1, advance=seen.append)
    assert seen[0] > 0
    whole = measure_dense(row, points=9 * 2_048, threads=2, resume=False)
    assert found == whole
    for entry in found:
        assert entry.points == 9 * 2_048
        assert entry.differing == entry.failures == entry.undecided == 0
        assert entry.controls > 50
        assert entry.worst_ulp == entry.worst[0][0] <= 1


def test_wrong_results_are_seen(small_blocks, monkeypatch):
    right = dense._Comparison._results

    def wrong(self, points):
        value, *others = right(self, points)
        if points.size < 10:  # the two infinities
            return [value, *others]
        value[7] = np.nextafter(np.nextafter(np.nextafter(value[7], 9), 9), 9)
        value[9] = np.nan
        return [value, *others]

    monkeypatch.setattr(dense._Comparison, "_results", wrong)
    row = ACTIVATIONS["relu"]
    value, slope, _ = measure_dense(row, points=2_048, threads=1, resume=False)
    assert value.failures == 1
    assert math.isinf(value.worst_ulp)
    assert value.worst[0][0] == 3.0
    assert slope.worst_ulp == 0


def test_a_form_that_is_another_function_is_seen_by_the_formula(small_blocks, monkeypatch):
    def another(expressions, arithmetic):
        return stable_program({name: e * (1 + 2.0**-50) for name, e in expressions.items()}, arithmetic)

    monkeypatch.setattr(dense, "stable_program", another)
    found = measure_dense(ACTIVATIONS["relu"], points=2_048, threads=1, resume=False)
    assert found[0].differing > 5


def test_command(small_blocks, capsys):
    assert run(["accuracy", "hard_tanh", "--points", "20001", "--json", "--threads", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kept"]
    assert [entry["order"] for entry in data["orders"]] == [0, 1, 2]
    assert all(entry["points"] >= 20_001 and entry["bound"] for entry in data["orders"])
    assert run(["accuracy", "hard_tanh", "--points", "20001", "--threads", "1"]) == 0
    assert "promised ≤ 1" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"points": 0}, {"points": True}, {"threads": -1}, {"dtype": "float16"}])
def test_wrong_input_is_refused(options):
    with pytest.raises(InputError):
        measure_dense(ACTIVATIONS["relu"], **options)
