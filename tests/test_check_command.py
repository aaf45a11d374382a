"""``backproof check``: the example files are judged rightly; wrong use is one line and exit status 2."""

import json
from pathlib import Path

import pytest

import backproof
from backproof.demos.check import run
from backproof.demos.cli import run as command_line

EXAMPLES = Path(backproof.__file__).parent / "demos" / "examples"
RIGHT, WRONG = str(EXAMPLES / "two_layer_softmax.py"), str(EXAMPLES / "two_layer_softmax_wrong.py")
NETWORK = ["--shape", "X=3,4", "--shape", "W1=4,5", "--shape", "b1=5", "--shape", "W2=5,3", "--shape", "b2=3",
           "--one-hot", "Y=3,3", "--wrt", "W1,b1,W2,b2"]  # fmt: skip


def _check(capsys, *arguments):
    status = command_line(["check", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_right_network_is_proved_for_all_shapes(capsys):
    status, out, _ = _check(capsys, f"{RIGHT}::backward", "--forward", f"{RIGHT}::forward", *NETWORK)
    assert status == 0
    assert out.startswith("PROVED for all shapes")


# mistake -> (finding that fails, words of the verdict)
MISTAKES = {
    "forgot_batch_mean": ("formula", "the factor 1/X.shape[0] is missing"),
    "missing_relu_mask": ("formula", "derivative of the ReLU is missing"),
    "mask_of_the_gradient": ("formula", "mask is taken from the gradient"),
    "bias_mean": ("formula", "divided by X.shape[0]"),
    "bias_wrong_axis": ("formula", "summed over axis 1"),
    "wrong_sign": ("formula", "the sign is wrong"),
    "forgot_max_shift": ("domain", "nan"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_network(name, capsys):
    status, out, _ = _check(capsys, f"{WRONG}::{name}", "--forward", f"{WRONG}::forward", *NETWORK, "--json")
    finding, words = MISTAKES[name]
    data = json.loads(out)
    assert status == 1
    assert data["findings"][finding]["outcome"] == "failed"
    assert words in " ".join(data["diagnosis"]) + data["findings"][finding]["why"]
    if finding != "formula":
        assert data["findings"]["formula"]["grade"] == "PROVED for all shapes"
    else:
        assert data["counterexample"]["yours"] != data["counterexample"]["true"]


def test_untransposed_weight_on_square_shapes():
    result = run(f"{WRONG}::weight_not_transposed", f"{WRONG}::forward", wrt="W1,b1,W2,b2", one_hot=["Y=2,3"],
                 shapes=["X=2,4", "W1=4,3", "b1=3", "W2=3,3", "b2=3"])  # fmt: skip
    assert result.formula.failed
    assert "not transposed" in result.diagnosis[0]


@pytest.mark.parametrize(
    ("name", "forward", "shapes", "words"),
    [
        ("softmax_diagonal_only", "softmax_forward", ["z=2,3"], "diagonal of the Jacobian"),
        ("sigmoid_derivative_of_z", "sigmoid_layer_forward", ["X=3,4", "W=4,5"], "pre-activation"),
        ("sigmoid_derivative_twice", "sigmoid_layer_forward", ["X=3,4", "W=4,5"], "at the activation"),
        ("sigmoid_missing_derivative", "sigmoid_layer_forward", ["X=3,4", "W=4,5"], "sigmoid is missing"),
    ],
)
def test_mistakes_in_other_layers(name, forward, shapes, words):
    result = run(f"{WRONG}::{name}", f"{WRONG}::{forward}", shapes=shapes)
    assert result.formula.failed
    assert words in " ".join(result.diagnosis)


def test_every_mistake_of_the_example_is_tested():
    import ast

    names = {n.name for n in ast.parse(Path(WRONG).read_text()).body if isinstance(n, ast.FunctionDef)}
    helpers = {"softmax", "sigmoid", "forward", "softmax_forward", "sigmoid_layer_forward"}
    others = {"weight_not_transposed", "softmax_diagonal_only", "sigmoid_derivative_of_z", "sigmoid_derivative_twice"}
    assert names - helpers == set(MISTAKES) | others | {"sigmoid_missing_derivative"}


def test_scalar_derivative_against_an_activation(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np, math\n"
        "def dtanh(x):\n    return 1 - np.tanh(x) ** 2\n"
        "def dsig(x):\n    s = 1 / (1 + np.exp(-x))\n    return s\n"
    )
    status, out, _ = _check(capsys, f"{file}::dtanh", "--against", "tanh")
    assert out.startswith(("EXACT", "PROVED"))
    status, out, _ = _check(capsys, f"{file}::dsig", "--against", "sigmoid")
    assert status == 1
    assert out.startswith("REFUTED")
    status, out, _ = _check(capsys, f"{file}::dtanh", "--against", "(exp(x)-exp(-x))/(exp(x)+exp(-x))")
    assert out.startswith(("EXACT", "PROVED"))


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (None, ["nothing.py::backward", "--against", "tanh"], "no file"),
        ("def backward(", [], "syntax error"),
        ("raise RuntimeError('boom')", [], "boom"),
        ("import sys; sys.exit(3)", [], "SystemExit"),
        ("x = 1", [], "no function 'backward'"),
        ("backward = 3", [], "not a function"),
        ("import no_such_module_here", [], "no_such_module_here"),
        ("def backwards(dy, x): return dy", [], "backwards"),
        ("def backward(dy, x): return dy @ x\ndef forward(x): return x", ["--shape", "x=3,4"], "backward raised"),
        ("def backward(dy, x): return dy\ndef forward(x): return x @ x", ["--shape", "x=3,4"], "forward raised"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--shape", "x=a"], "integers"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--shape", "x=0"], "at least 1"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--shape", "3"], "NAME=3,4"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--shape", "y=3"], "no argument 'y'"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", [], "shape of every input"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--shape", "x=3", "--wrt", "z"], "no input"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--one-hot", "x=3"], "rows and classes"),
        ("def backward(dy, x): return dy\ndef forward(x): return x", ["--integer", "x=3:q"], "below"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(source, arguments, message, tmp_path, capsys):
    if source is not None:
        file = tmp_path / "mine.py"
        file.write_text(source)
        arguments = [f"{file}::backward", "--forward", f"{file}::forward", *arguments]
    status, out, err = _check(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_integer_labels_and_help(tmp_path, capsys):
    file = tmp_path / "labels.py"
    file.write_text(
        "import numpy as np\n"
        "def forward(z, t):\n"
        "    z = z - z.max(axis=1, keepdims=True)\n"
        "    return -np.mean(z[np.arange(len(t)), t] - np.log(np.exp(z).sum(axis=1)))\n"
        "def backward(dl, z, t):\n"
        "    e = np.exp(z - z.max(axis=1, keepdims=True))\n"
        "    g = e / e.sum(axis=1, keepdims=True)\n"
        "    g[np.arange(len(t)), t] -= 1\n"
        "    return dl * g / len(t)\n"
    )
    arguments = ["--forward", f"{file}::forward", "--shape", "z=4,3", "--integer", "t=4:3"]
    status, out, _ = _check(capsys, f"{file}::backward", *arguments)
    assert status == 0, out
    assert out.startswith("PROVED for all shapes")
    status, out, _ = _check(capsys, "--help")
    assert status == 0
    assert "RUNS the given files" in out


@pytest.mark.parametrize("name", ["backward", "forward"])
def test_code_that_calls_exit_never_passes_and_is_named(capsys, tmp_path, name):
    bodies = {"forward": "return x * x", "backward": "return dy * 2 * x"} | {name: "sys.exit(0)"}
    file = tmp_path / "leaves.py"
    file.write_text(f"import sys\ndef forward(x): {bodies['forward']}\ndef backward(dy, x): {bodies['backward']}\n")
    status, out, err = _check(capsys, f"{file}::backward", "--forward", f"{file}::forward", "--shape", "x=3")
    assert status in (1, 2)
    assert f"{name} called sys.exit(0)" in out + err


def test_prints_of_the_checked_code_go_to_stderr(capsys, tmp_path):
    file = tmp_path / "noisy.py"
    file.write_text("def forward(x): return x * x\ndef backward(dy, x):\n    print('noise')\n    return dy * 2 * x\n")
    status, out, err = _check(capsys, f"{file}::backward", "--forward", f"{file}::forward", "--shape", "x=3", "--json")
    assert status == 0
    assert json.loads(out)["passed"]
    assert "noise" in err
