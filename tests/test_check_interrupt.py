"""Ctrl-C while a check runs: what was found so far is shown, and nothing that was not looked at passes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import sys, time
import numpy as np

def forward(x):
    return x * x

def backward(dy, x):
    print("called", file=sys.stderr, flush=True)
    time.sleep({pause})
    return dy * {factor} * x
"""

#: What the workers of the tests ignore, and their children with them, is heard again.
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from backproof.demos.cli import main; main()"
)


def _interrupted(tmp_path, calls, factor, *options):
    (tmp_path / "mine.py").write_text(SLOW.format(pause=0.4, factor=factor))
    command = [sys.executable, "-c", START, "check", "mine.py::backward",
               "--forward", "mine.py::forward", "--shape", "x=3,4", *options]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        for _ in range(calls):
            process.stderr.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent otherwise there")
def test_an_interrupted_check_says_what_it_found(tmp_path):
    status, output, errors = _interrupted(tmp_path, 3, 2)
    assert status == 1, errors
    assert output.startswith("NOT DECIDED  backward")
    assert "interrupted" in output
    assert "PROVED" not in output
    assert "Traceback" not in output + errors


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent otherwise there")
def test_a_refutation_survives_the_interrupt(tmp_path):
    status, output, errors = _interrupted(tmp_path, 5, 3, "--json")
    assert status == 1, errors
    data = json.loads(output)
    assert data["headline"].startswith("REFUTED")
    assert data["findings"]["floats"]["why"] == "interrupted"
    assert data["passed"] is False
