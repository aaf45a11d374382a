"""Mutation score, what a test's inputs hide, and replay of a counterexample."""

import json
import textwrap

import numpy as np
import pytest
from click.testing import CliRunner

from backproof.demos.check import command
from backproof.numerics.mutation import explain, mutants, mutation_score
from backproof.numerics.preparing import prepare
from backproof.numerics.replaying import replay
from backproof.theory.errors import InputError


def forward(x, W, b):
    return np.tanh(x @ W + b)


def backward(dy, x, W, b):
    a = np.tanh(x @ W + b)
    dz = dy * (1 - a**2)
    return dz @ W.T, x.T @ dz, dz.sum(axis=0)


def wrong(dy, x, W, b):
    dx, dW, db = backward(dy, x, W, b)
    return dx, dW, db / len(x)


SHAPES = {"x": (4, 3), "W": (3, 5), "b": (5,)}


def numeric(value, array, h=1e-5):
    gradient = np.zeros_like(array)
    for spot in np.ndindex(*array.shape):
        old = array[spot]
        array[spot] = old + h
        above = value()
        array[spot] = old - h
        gradient[spot] = (above - value()) / (2 * h)
        array[spot] = old
    return gradient


def generic(candidate):
    rng = np.random.default_rng(0)
    x, W, b, u = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=(4, 5))
    for gradient, array in zip(candidate(u, x, W, b), (x, W, b), strict=True):
        assert np.allclose(gradient, numeric(lambda: (u * forward(x, W, b)).sum(), array), atol=1e-6)


def unit_inputs():
    x, W, b = np.ones((1, 3)), np.zeros((3, 3)), np.zeros(3)
    _, dW, _ = backward(np.ones((1, 3)), x, W, b)
    assert np.allclose(dW, numeric(lambda: forward(x, W, b).sum(), W))


@pytest.fixture(scope="module")
def task():
    return prepare(backward, forward=forward, shapes=SHAPES)


def test_mutants_are_wrong_and_have_names(task):
    names = [m.name for m in mutants(task)]
    assert len(names) == len(set(names)) >= 20
    assert "the upstream gradient ignored" in names
    assert any("the factor 1 - a ** 2 is missing (line" in n for n in names)


def test_a_good_test_catches_all(task):
    score = mutation_score(task, generic)
    assert not score.survived
    assert "catches" in str(score)


def test_a_weak_test_is_told_what_it_cannot_see(task):
    score = mutation_score(task, unit_inputs)
    assert len(score.survived) > len(score.caught) > 0
    assert "db = 0" in score.survived
    assert any("always 1" in hint for hint in score.hints)
    hidden = explain(task, unit_inputs)
    assert "db divided by the batch size" in hidden.survived
    assert set(hidden.survived) <= set(score.survived)  # what no comparison sees, this test does not see


def test_the_function_is_put_back(task):
    before = backward
    mutation_score(task, unit_inputs)
    assert backward is before


def test_tests_that_cannot_be_scored(task):
    with pytest.raises(InputError, match="never calls backward"):
        mutation_score(task, lambda: None)

    def fails(candidate):
        raise AssertionError("no")

    with pytest.raises(InputError, match="fails for the gradient as it is"):
        mutation_score(task, fails)
    with pytest.raises(InputError, match="or nothing"):
        mutation_score(task, lambda a, b: None)


def test_replay_of_a_counterexample():
    task = prepare(wrong, forward=forward, shapes=SHAPES)
    agreed, text, data = replay(task, "counterexample: x=[[1], [2]], W=[[1]], b=[1], upstream=[[1], [0]]")
    assert not agreed
    assert "d/db  DIFFERENT" in text
    assert data["x"]["outcome"] == "equal"
    assert data["b"]["yours"] == "[0.0353254]"
    assert replay(task, "x=[[1]], W=[[1]], b=[1], upstream=[[1]]")[0]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("x=[[1]], W=[[1]]", "'b'"),
        ("x=[[1]], W=[[1]], b=[1], z=3", "'z'"),
        ("x=__import__('os'), W=1, b=1", "NAME=VALUE"),
        ("x=[[1], W", "NAME=VALUE"),
        ("x=[[1]], W=[[1]], b=[1…", "cut off"),
        ("x=[[1],[2,3]], W=[[1]], b=[1]", "one length"),
        ("x=[[1]], W=[[1]], b=[1e999]", "finite"),
        ("x=[[1]], W=[[1]], b=[1], upstream=[1,2,3]", "another shape"),
        ("x=[[1,2,3]], W=[[1]], b=[1]", "cannot be run"),
        ("", "'x'"),
        ("**{}", "NAME=VALUE"),
    ],
)
def test_wrong_lines_are_refused(task, line, word):
    with pytest.raises(InputError, match=word):
        replay(task, line)


@pytest.fixture
def file(tmp_path):
    import inspect

    source = "import numpy as np\nSHAPES = {}\n"
    source += "\n".join(inspect.getsource(f) for f in (forward, backward, wrong, numeric, generic, unit_inputs))
    source += textwrap.dedent(
        """
        class Dense:
            def __init__(self):
                self.W = np.full((3, 2), 0.5)
            def forward(self, X):
                self.X = X
                return X @ self.W
            def backward(self, dy):
                self.dW = self.X.T @ dy
                return dy @ self.W.T
        net = Dense()
        def slope(x):
            return np.cos(x)
        def sine(x):
            return np.sin(x)
        """
    )
    path = tmp_path / "mine.py"
    path.write_text(source)
    return path


def _run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_command_mutate_explain_replay(file):
    common = [
        f"{file}::backward",
        "--forward",
        f"{file}::forward",
        *(f"--shape={n}={','.join(map(str, s))}" for n, s in SHAPES.items()),
    ]
    run = _run(*common, "--mutate", f"{file}::generic")
    assert run.exit_code == 0, run.output
    run = _run(*common, "--mutate", f"{file}::unit_inputs", "--json")
    assert run.exit_code == 1
    assert json.loads(run.output)["survived"]
    run = _run(*common, "--explain", f"{file}::unit_inputs")
    assert run.exit_code == 1
    assert "always 1" in run.output
    run = _run(*common, "--replay", "x=[[1]], W=[[1]], b=[1], upstream=[[1]]")
    assert run.exit_code == 0
    assert "d/dx  equal" in run.output
    assert isinstance(_run(*common, "--replay", "x=1", "--mutate", "y").exception, InputError)


def test_command_takes_objects_rows_and_scalar_functions(file):
    assert _run(f"{file}::net", "--shape", "X=4,3").exit_code == 0
    assert _run(f"{file}::slope", "--forward", f"{file}::sine").exit_code == 0
    run = _run(f"{file}::backward", "--against", "layer:dense")
    assert run.exit_code == 1
    assert "REFUTED" in run.output
