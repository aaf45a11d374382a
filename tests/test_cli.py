"""The command line: its root, its exit statuses, and as an installed program."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from backproof.demos.cli import COMMANDS, cli, run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown command 'nothing'"),
        (["dervie"], "did you mean 'derive'"),
        (["--nothing"], "no such option"),
        (["derive", "activation"], "missing argument"),
        (["derive", "activation", "rleu"], "did you mean 'relu'"),
        (["derive", "activation", '__import__("os").system("x")'], "cannot be called"),
        (["derive", "activation", "9**9**9**9"], "too large"),
        (["derive", "activation", "-x"], "-- before it"),
        (["derive", "activation", "gelu", "--order", "99"], "order"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.lower()
    assert captured.err.count("\n") == 1


def test_no_command_shows_the_help(capsys):
    assert run([]) == 2
    assert "Commands:" in "".join(capsys.readouterr())


def installed_program():
    beside = Path(sys.executable).with_name("backproof")
    return str(beside) if beside.exists() else shutil.which("backproof")


def test_as_an_installed_program():
    program = installed_program()
    assert program, "the package is installed without its command"
    good = subprocess.run(
        [program, "derive", "activation", "silu"], capture_output=True, text=True, timeout=120, cwd="/"
    )
    assert good.returncode == 0
    assert "silu" in good.stdout
    bad = subprocess.run([program, "derive", "activation", "1/0"], capture_output=True, text=True, timeout=120, cwd="/")
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "Traceback" not in bad.stderr


def test_a_reader_that_leaves_is_no_error():
    """`backproof list activations | head -1` ends quietly."""
    pipe = f"{installed_program()} list activations | head -1"
    result = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in result.stderr


def test_code_that_leaves_is_no_success(tmp_path, capsys):
    """A checked function that calls sys.exit(0) must not end the command with the status of a success."""
    (tmp_path / "leaves.py").write_text("import sys\n\n\ndef dtanh(x):\n    sys.exit(0)\n")
    assert run(["check", f"{tmp_path / 'leaves.py'}::dtanh", "--against", "tanh"]) != 0
