"""What each finding of the checker looks at: 16-bit floats, points far out, the side of a kink, behaviour, repairs."""

import linecache

import numpy as np
import pytest

from backproof.numerics.checking import KINK_POLICIES, check
from backproof.numerics.sixteen_bits import every_value
from backproof.theory.errors import InputError


def _sigmoid_slope(x):
    s = 1 / (1 + np.exp(-x))
    return s * (1 - s)


def _steep(x):
    return 1 / (1 + np.exp(-3 * x))


def _square(x):
    return x * x


def _matmul(x, w):
    return x @ w


# Floats --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "count"), [("float16", 63_488), ("bfloat16", 65_280)])
def test_every_input_of_a_short_type_is_run(dtype, count):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    assert len(every_value(dtype)) == count
    result = check(lambda x: 2 * x, forward=_square, dtype=dtype)
    assert f"all {count:,} inputs of {dtype}: worst 0" in result.floats.why
    assert result.floats.ok, str(result)


@pytest.mark.slow
def test_what_a_short_type_loses_is_found():
    lossy = check(_sigmoid_slope, against="sigmoid", dtype="float16")
    assert lossy.formula.ok
    assert lossy.floats.failed
    assert "beyond 1000 ULP" in lossy.floats.why
    lost = check(lambda x: np.exp(x) / (1 + np.exp(x)), against="softplus", dtype="float16")
    assert "no finite value at x =" in lost.domain.why


def test_points_are_rounded_to_the_type_before_they_are_judged():
    result = check(
        lambda dy, x, w: (dy * w, dy * x), forward=lambda x, w: x * w, shapes={"x": 4, "w": 4}, dtype="float16"
    )
    assert result.floats.ok, str(result)
    assert "float16 0." in result.floats.why


def test_unknown_type_is_one_line():
    with pytest.raises(InputError, match="expected float64, float32, float16 or bfloat16"):
        check(lambda x: 2 * x, forward=_square, dtype="float8")


# Far out -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "backward",
    [
        lambda dy, x, w: (np.where(np.abs(x) > 2000, 0, 1) * (dy @ w.T), x.T @ dy),
        lambda dy, x, w: (np.where(np.abs(x) > 1e9, 0, 1) * (dy @ w.T), x.T @ dy),
        lambda dy, x, w: (dy @ w.T, x.T @ dy * (1 if w.max() < 1e30 else 2)),
    ],
    ids=["beyond 2^11", "beyond 10^9", "one input alone"],
)
def test_mistake_far_out_is_found_and_shrunk(backward):
    result = check(backward, forward=_matmul, shapes={"x": (3, 4), "w": (4, 5)})
    assert result.formula.failed
    assert "right at" in result.diagnosis[0]
    assert "wrong for" in result.diagnosis[0]
    assert result.counterexample.run.point.inputs["x"].size == 1, str(result)


def test_far_out_nothing_right_is_refuted():
    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def backward(dy, z):
        p = softmax(z)
        return p * (dy - (dy * p).sum(axis=1, keepdims=True))

    assert check(backward, forward=softmax, shapes={"z": (3, 4)}).formula.ok


# Kinks ---------------------------------------------------------------------------------------------------------------
ACCEPTED = {"interval": (0.0, 0.5, 1.0), "branch": (0.0,), "left": (0.0,), "right": (1.0,), "midpoint": (0.5,)}


@pytest.mark.parametrize("policy", KINK_POLICIES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_user_chooses_the_side_of_a_kink(policy, value):
    result = check(
        lambda dy, x: dy * np.where(x == 0, value, x > 0),
        forward=lambda x: np.maximum(0, x),
        shapes={"x": 2},
        kinks=policy,
    )
    assert result.formula.ok
    assert result.kinks.ok == (value in ACCEPTED[policy]), str(result.kinks)
    if not result.kinks.ok:
        assert "asked for" in result.kinks.why


# Contract ------------------------------------------------------------------------------------------------------------
def _random(dy, x):
    return dy * 2 * x + (0 if x.dtype == object else 1e-3 * np.random.rand())


def _by_position(dy, x):
    return dy * 2 * x * np.where(np.arange(len(x))[:, None] == 0, 1.0, 1.0 + (0 if x.dtype == object else 1e-6))


def _kept(dy, x, calls=[]):  # noqa: B006
    calls.append(x)
    return dy * 2 * x + (0 if x.dtype == object else 1e-3 * len(calls))


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (_random, "draws random numbers"),
        (_kept, "keeps state"),
        (_by_position, "order of the rows"),
        (lambda dy, x: dy * dy / dy * 2 * x, "not linear in the upstream gradient"),
        (lambda dy, x: (dy * 2 * x).astype(np.float16), "cast down"),
    ],
    ids=["random", "state", "order", "zero upstream", "dtype"],
)
def test_behaviour(backward, says):
    result = check(backward, forward=_square, shapes={"x": (3, 4)})
    assert result.contract.failed, str(result)
    assert any(says in each for each in result.contract.details["all"]), result.contract.details


def test_a_right_gradient_behaves():
    result = check(lambda dy, x, w: (dy @ w.T, x.T @ dy), forward=_matmul, shapes={"x": (3, 4), "w": (4, 5)})
    assert result.contract.ok, str(result)


# Stable forms and repairs --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("backward", "forward", "name"),
    [
        (lambda dy, x: dy * _sigmoid_slope(x), lambda x: 1 / (1 + np.exp(-x)), '"sigmoid"'),
        (lambda dy, x: dy * (1 - np.tanh(x) ** 2), np.tanh, '"tanh"'),
        (lambda dy, x: dy * 3 * np.exp(-3 * x) / (1 + np.exp(-3 * x)) ** 2, _steep, "exp(-3*x)"),
    ],
)
def test_stable_form_is_shown_with_both_errors(backward, forward, name):
    result = check(backward, forward=forward, shapes={"x": (4,)})
    assert result.formula.ok
    assert not result.passed
    line = next(each for each in result.diagnosis if "stable form" in each)
    assert name in line
    assert "backproof emit" in line
    stable = float(line.split(": ")[2].split(" ULP")[0])
    assert stable < 2


def _from_text(source, name):
    names = {}
    file = f"<{abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    return names[name]


def test_repair_in_a_helper_and_in_a_closure():
    source = "import numpy as np\ndef slope(z): return 1 + np.tanh(z) ** 2\ndef backward(dy, z): return dy * slope(z)\n"
    result = check(_from_text(source, "backward"), forward=np.tanh, shapes={"z": 4})
    assert any("line 2 of slope" in each and "1 - np.tanh(z) ** 2" in each for each in result.diagnosis), str(result)
    source = (
        "def make(scale):\n    def backward(dy, x):\n        return dy * scale * x * x\n    return backward\n"
        "backward = make(3)\n"
    )
    result = check(_from_text(source, "backward"), forward=lambda x: 3 * x, shapes={"x": 4})
    assert result.formula.failed


def test_without_source_the_cause_is_still_named():
    names = {}
    exec("def backward(dy, x, w): return dy @ w.T, (x.T @ dy) / len(x)", names)
    result = check(names["backward"], forward=_matmul, shapes={"x": (3, 4), "w": (4, 5)})
    assert "divided by x.shape[0]" in result.diagnosis[0]


def test_second_derivative():
    right = check(lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2), forward=np.tanh, second=True)
    assert right.formula.grade == "PROVED for all shapes"
    assert check(lambda x: -2 * np.tanh(x), against="tanh", second=True).formula.failed
    with pytest.raises(InputError, match="functions of one number"):
        check(lambda x: 2 + 0 * x, forward=lambda x: x @ x, second=True)
