"""The pytest plugin, run as its user runs it: in a process of its own."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

TEST = """
def forward(x, W):
    return x @ W

def backward(dy, x, W):
    return dy @ W.T, x.T @ dy

def wrong(dy, x, W):
    return dy @ W.T, 2 * (x.T @ dy)

SHAPES = {"x": (3, 4), "W": (4, 5)}

def test_right(backproof):
    assert backproof.check(backward, forward=forward, shapes=SHAPES).passed

def test_wrong(backproof):
    backproof.check(wrong, forward=forward, shapes=SHAPES)

def test_misuse(backproof):
    backproof.check(backward, forward=forward)
"""


def _pytest(folder, *arguments):
    # Without the entry point (a checkout that was installed before there was one) the plugin is named.
    points = importlib.metadata.entry_points(group="pytest11")
    plugin = [] if "backproof" in points.names else ["-p", "backproof.numerics.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_mine.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def test_failures_read_as_the_result(folder):
    run = _pytest(folder, "--backproof-report", "report.json")
    assert "2 failed, 1 passed" in run.stdout, run.stdout + run.stderr
    assert "REFUTED  wrong  d/dW" in run.stdout
    assert "W: yours is 2 times the gradient" in run.stdout
    assert "give shapes=" in run.stdout
    assert "checking.py" not in run.stdout  # no traceback of ours
    records = json.loads((folder / "report.json").read_text())["checks"]
    assert [r["ok"] for r in records] == [True, False]
    assert records[1]["gradients"]["W"] == "REFUTED"


def test_html_report(folder):
    _pytest(folder, "--backproof-report", "report.html", "-k", "right or wrong")
    page = (folder / "report.html").read_text()
    assert "1 of 2 ok" in page
    assert "REFUTED  wrong" in page


def test_wrong_report_name_is_refused(folder):
    run = _pytest(folder, "--backproof-report", "report.txt")
    assert run.returncode == 4
    assert ".json or .html" in run.stderr
    run = _pytest(folder, "--backproof-report", "no/such/folder/r.json", "-k", "right")
    assert "Traceback" not in run.stdout


def test_findings_can_be_chosen(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "def test_formula(backproof):\n"
        "    slope = lambda x: 1 - __import__('numpy').tanh(x) ** 2\n"
        "    backproof.check(slope, against='tanh', findings=['formula'])\n"
        "def test_all(backproof):\n"
        "    slope = lambda x: 1 - __import__('numpy').tanh(x) ** 2\n"
        "    backproof.check(slope, against='tanh')\n"
    )
    run = _pytest(tmp_path)
    assert "1 failed, 1 passed" in run.stdout, run.stdout


def test_start_up_imports_nothing_heavy():
    code = (
        "import sys, backproof.numerics.pytest_plugin as p\n"
        "heavy = {'numpy', 'sympy', 'numba', 'flint', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
