"""CUDA kernels under Numba's simulator, which needs no GPU and no numba-cuda: equal to the CPU's, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from backproof.theory.activations import ACTIVATIONS
from backproof.theory.optimisers import OPTIMISERS

SCRIPT = Path(__file__).parent / "simulated_cuda.py"
#: Rows of one process.
SHARE = 9


@cache
def simulated(*what: str) -> dict[str, dict]:
    """What the script says, by ``what``; the simulator must be chosen before Numba is imported."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *what], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, dict] = {}
    for line in done.stdout.splitlines():
        entry = json.loads(line) if line.startswith("{") else {"what": line}
        known = told.setdefault(entry["what"], entry)
        known.get("differ", []).extend([] if known is entry else entry.get("differ", []))
    return told


#: One of each kind of program; the other rows are slow.
ALWAYS = ("sigmoid", "relu", "gelu", "mish", "softplus", "softsign", "erf", "sin", "hard_swish")


@pytest.mark.parametrize(
    "name",
    [
        n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow)
        for n in sorted(ACTIVATIONS, key=lambda n: n not in ALWAYS)
    ],
)
def test_every_row_equals_the_cpu_bit_for_bit(name):
    names = sorted(ACTIVATIONS, key=lambda n: n not in ALWAYS)
    start = names.index(name) // SHARE * SHARE
    told = simulated(*names[start : start + SHARE])
    own = {what: entry["differ"] for what, entry in told.items() if what.split()[0] == name}
    assert len(own) >= 6
    assert not any(own.values())


FAST = ("sigmoid", "tanh", "gelu", "mish", "softplus", "erf", "arctan", "elu")


@pytest.mark.parametrize("name", FAST)
def test_float32_steps_equal_the_cpus(name):
    told = simulated(*(f"fast:{each}" for each in FAST))
    own = [told[f"{name} float32 fast {order}"]["differ"] for order in (0, 1, 2)]
    assert own == [[], [], []]


@pytest.mark.parametrize("name", ["gelu", "tanh", "relu"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_float32s_results_rounded(name, dtype):
    told = simulated("half:gelu", "half:tanh", "half:relu")
    assert [told[f"{name} {dtype} {order}"]["differ"] for order in (0, 1)] == [[], []]


@pytest.mark.parametrize("what", ["layout C", "layout F", "layout strided", "layout one", "out", "number", "each"])
def test_arrays_of_any_layout(what):
    assert simulated("arrays")[what]["differ"] == []


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_step_as_on_the_cpu(name):
    assert simulated(*(f"update:{each}" for each in OPTIMISERS))[f"update {name}"]["differ"] == []


def test_errors_are_counted():
    told = simulated("exhaustive")
    checked, worst, over_half, failures = told["exhaustive"]["right"]
    assert checked == 300
    assert 0.4 < worst <= 0.5
    assert (over_half, failures) == (0, 0)
    worst, over_half, over_one, failing = told["wrong"]["found"]
    assert worst == 1
    assert over_half > 50
    assert over_one == 0
    assert failing > 290  # NaN everywhere; right for the few inputs that are NaN themselves


def test_the_command_measures_on_the_gpu():
    told = simulated("command")
    assert told["command"]["status"] == 0
    (heading,) = (line for line in told if line.startswith("tanh"))
    assert "target cuda" in heading
    assert "300 inputs" in heading
    assert sum(line.startswith("  f") and "promised ≤ 0.51" in line for line in told) == 3
