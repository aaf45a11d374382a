"""The README is true: its files are written, its commands run in order in one folder, its output is what they print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from backproof.demos import cli

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(README)]
#: These set up a machine; running them here would run the tests in the tests, so CI runs them instead.
SET_UP = {"pip install . && backproof tour", 'pip install ".[test]" && pytest'}
#: Commands that are meant to find something wrong.
STATUS = {"backproof check": 1, "backproof gain tanh --audit 1.6667": 1}


def commands(block):
    """(command, the output lines shown below it) of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command.strip(), [line for line in output.split("\n") if line.strip()]


ALL = [(command, shown) for kind, _, block in BLOCKS if kind == "console" for command, shown in commands(block)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("readme")
    for _, name, block in BLOCKS:
        if name:
            (place / name).write_text(block, encoding="utf-8")
    return place


def run(arguments, folder):
    program = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{program}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)


def test_exactly_two_set_up_commands():
    assert {command for command, _ in ALL if "pip" in command} == SET_UP


@pytest.mark.parametrize(("command", "shown"), [c for c in ALL if c[0] not in SET_UP], ids=lambda v: str(v)[:50])
def test_commands_run_and_print_what_is_shown(command, shown, folder, monkeypatch, capsys):
    """In this process; the tests of the emitted file and of the removed factor run the installed command."""
    program, *arguments = shlex.split(command)
    assert program == "backproof"
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    returned = cli.run(arguments)
    stdout, stderr = capsys.readouterr()
    expected = next((status for start, status in STATUS.items() if command.startswith(start)), 0)
    assert returned == expected, stderr
    printed = [line.rstrip() for line in stdout.split("\n")]
    for line in shown:
        assert line in printed, f"not printed: {line!r}\n{stdout}"
    for name in re.findall(r"--output (\S+)", command):
        assert (folder / name).stat().st_size > 500


@pytest.mark.parametrize("block", [b for kind, name, b in BLOCKS if kind == "python" and not name])
def test_python_runs(block, folder):
    result = run([sys.executable, "-c", block], folder)
    assert result.returncode == 0, result.stderr
    assert "235146" in result.stdout
    assert "not decided" not in result.stdout.split("formula")[-1].split("\n")[0]


def test_the_emitted_file_runs_as_printed(folder):
    emitted = run(["backproof", "emit", "gelu", "--target", "numpy", "--output", "emitted.py"], folder)
    assert emitted.returncode == 0, emitted.stderr
    result = run([sys.executable, "-c", "import emitted; print(emitted.gelu(1.0))"], folder)
    assert "0.84134475" in result.stdout, result.stderr


def test_the_wrong_factor_removed_is_proved(folder):
    fixed = (folder / "rms_norm.py").read_text().replace("- w * x * r**3", "- x * r**3")
    (folder / "fixed.py").write_text(fixed)
    arguments = "backproof check fixed.py::backward --forward fixed.py::forward --shape x=3,4 --shape w=4"
    result = run(arguments.split(), folder)
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith("PROVED for all shapes")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
