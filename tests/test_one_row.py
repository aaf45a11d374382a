"""Adding an activation is one edit: a row in a copy of the package appears everywhere, and nothing else was touched."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("backproof").origin).parent
ROW = '    Activation("cubic_sigmoid", 1 / (1 + exp(-(x**3))), title="sigmoid of a cube", citation="a test"),\n'
LAST_ROW = '    Activation("gaussian"'
LAYER = '''@row("gated shift", x="n i", g="i", b="i")
def gated_shift(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """x σ(g) + b."""
    return x * sigmoid(g).named("s") + b


'''
AFTER_LAYERS = "for _row in (*convolutions.rows(), *recurrent.rows()):"


#: Runs commands of the copy, one a line, in one process.
RUNNER = """
import contextlib, io, json, sys
from backproof.demos.cli import run
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(json.loads(line))
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a copy of the package with one more activation and one more layer."""
    place = tmp_path_factory.mktemp("one-row")
    copied = place / "backproof"
    copied.mkdir()
    shutil.copy(PACKAGE / "__init__.py", copied)
    for room in ("theory", "numerics", "demos"):
        shutil.copytree(PACKAGE / room, copied / room, ignore=shutil.ignore_patterns("__pycache__"))
    table = copied / "theory" / "activations.py"
    source = table.read_text(encoding="utf-8")
    assert source.count(LAST_ROW) == 1
    table.write_text(source.replace(LAST_ROW, ROW + LAST_ROW), encoding="utf-8")
    layers = copied / "theory" / "layers.py"
    source = layers.read_text(encoding="utf-8")
    assert source.count(AFTER_LAYERS) == 1
    layers.write_text(source.replace(AFTER_LAYERS, LAYER + AFTER_LAYERS), encoding="utf-8")

    return place


@pytest.fixture(scope="module")
def with_the_row(place):
    """What a command of the copy prints."""
    environment = {**os.environ, "PYTHONPATH": str(place), "BACKPROOF_CACHE": str(place / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER], cwd=place, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, encoding="utf-8",
    )  # fmt: skip

    def run(*arguments):
        process.stdin.write(json.dumps(arguments) + "\n")
        process.stdin.flush()
        status, out, err = json.loads(process.stdout.readline())
        assert status == 0, err + out
        return out

    yield run
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_it_is_listed(with_the_row):
    assert "cubic_sigmoid" in json.loads(with_the_row("list", "activations", "--json"))["activations"]


def test_a_layer_is_one_function(with_the_row):
    """Listed, derived, proved, counted, emitted and placed in a network: one function was written."""
    assert "gated_shift" in json.loads(with_the_row("list", "layers", "--json"))["layers"]
    data = json.loads(with_the_row("derive", "layer", "gated_shift", "--json"))
    assert {g["name"]: g["simplification"] for g in data["gradients"]} == dict.fromkeys(("dx", "dg", "db"), "equal")
    assert data["costs"]["parameters"] == "2·I"
    assert "def backward" in with_the_row("emit", "gated_shift", "--target", "numpy")
    assert "gated_shift_backward" in with_the_row("emit", "gated_shift", "--target", "c")
    assert "dg1" in with_the_row("derive", "network", "gated_shift dense(2)", "--input", "4")


def test_it_is_derived_and_analysed(with_the_row):
    facts = json.loads(with_the_row("derive", "activation", "cubic_sigmoid", "--json"))
    assert [f["value"] for f in facts["analysis"] if f["fact"] == "range"] == ["(0, 1)"]


def test_it_may_stand_in_formulas(with_the_row):
    assert "exp" in with_the_row("derive", "activation", "x*cubic_sigmoid(2*x)")


def test_its_kernel_is_emitted_and_accurate(with_the_row):
    assert "def cubic_sigmoid" in with_the_row("emit", "cubic_sigmoid", "--target", "numpy")
    measured = with_the_row("accuracy", "cubic_sigmoid", "--points", "200", "--json")
    assert "cubic_sigmoid" in measured


def test_networks_train_with_it(with_the_row):
    result = json.loads(with_the_row("train", "4-8-3", "--activation", "cubic_sigmoid", "--epochs", "5", "--json"))
    assert result


def test_its_gain_is_known(with_the_row):
    assert "cubic_sigmoid" in with_the_row("gain", "cubic_sigmoid")


def test_the_tests_of_the_table_run_over_it(place, tmp_path):
    """The test of derivatives over all rows, run against the copy, counts one row more."""
    tests = Path(__file__).with_name("test_activations.py")
    code = (
        f"import importlib.util as u; s = u.spec_from_file_location('t', {str(tests)!r}); m = u.module_from_spec(s); "
        "s.loader.exec_module(m); row = next(r for r in m.ROWS if r.name == 'cubic_sigmoid'); "
        "m.test_derivatives_against_exact_differentiation(row); m.test_row_is_complete(row)"
    )
    environment = {**os.environ, "PYTHONPATH": str(place)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
