"""The checker, tested with wrong answers: classic mistakes, real bugs, right gradients that must not be accused."""

import json
import linecache
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from backproof.numerics.checking import check
from backproof.theory.errors import InputError

CORPUS = Path(__file__).parent / "corpus"
BUGS = json.loads((CORPUS / "bugs.json").read_text())
CONTROLS = json.loads((CORPUS / "controls.json").read_text())
MORE_BUGS = runpy.run_path(str(CORPUS / "more_bugs.py"))["BUGS"]


def _function(source, name):
    """Return a function whose source is at hand, as if it stood in a file."""
    names = {}
    file = f"<{abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    return names[name]


def _inputs(row, key):
    return eval(row[key], {"np": np, "rng": np.random.default_rng(0)})


# bug -> the finding that fails, and a word of the diagnosis (or of the finding's reason).
EXPECTED = {
    "sigmoid_s_times_1_minus_s": ("floats", "float64 loses"),
    "gelu_erf_cdf_cancellation": ("floats", "float32 loses"),
    "elu_grad_from_output": ("floats", "loses"),
    "softplus_exp_ratio_overflow": ("domain", "nan for x = 89"),
    "hardswish_0p3333": ("formula", "0.3333 stands for 1/3"),
    "hardswish_kink_convention": ("kinks", "x = -3"),
    "prelu_sign_from_output": ("formula", "sign of the output"),
    "layernorm_dx_double_mean": ("formula", "counted twice"),
    "rmsnorm_weight_twice": ("formula", "extra factor"),
    "rmsnorm_aliased_dy": ("formula", "in place"),
    "batchnorm_divides_by_width": ("formula", "divided by x.shape[1], it must be x.shape[0]"),
    "cross_entropy_sum_divided_by_batch": ("formula", "reduction='sum'"),
    "softmax_diagonal_only": ("formula", "diagonal of the Jacobian"),
    "bce_logits_zero_at_zero": ("kinks", "where the gradient exists"),
    "mse_sigmoid_missing_sigma_prime": ("formula", "derivative of the sigmoid is missing"),
    "prod_via_division": ("domain", "nan"),
    "norm_at_zero": ("kinks", "nan at x = 0"),
    "linear_dx_missing_transpose": ("formula", "not transposed"),
    "bias_grad_mean_over_batch": ("formula", "divided by x.shape[0]"),
    "mish_swapped_omega_delta": ("formula", "dy * e * w / (d * d)"),
}


@cache
def _real_bug(name):
    """The check of one bug: two tests look at it."""
    (row,) = (each for each in BUGS if each["name"] == name)
    return _check_row(row, "backward_buggy")


@pytest.mark.parametrize("row", BUGS, ids=[r["name"] for r in BUGS])
def test_real_bug_is_refuted_in_the_right_finding(row):
    result = _real_bug(row["name"])
    finding, words = EXPECTED[row["name"]]
    assert result.findings[finding].failed, str(result)
    assert words in str(result) + " ".join(result.diagnosis) + result.findings[finding].why
    assert not result.passed
    assert len(str(result).splitlines()) <= 15
    if finding == "formula":
        assert result.counterexample.yours != result.counterexample.true


@pytest.mark.parametrize("row", BUGS, ids=[r["name"] for r in BUGS])
def test_corrected_bug_is_not_accused(row):
    result = _check_row(row, "backward_correct")
    assert result.formula.ok, str(result)
    assert not result.kinks.failed
    assert not result.contract.failed
    assert not result.domain.failed


def _check_row(row, backward):
    return check(
        _function(row[backward], "backward"),
        forward=_function(row["forward"], "forward"),
        inputs=_inputs(row, "generic_inputs"),
        wrt=row["wrt"],
        kinks="branch" if row["category"] == "kink" else "interval",
    )


@pytest.mark.parametrize("row", MORE_BUGS, ids=[r["name"] for r in MORE_BUGS])
def test_further_bug_is_refuted_and_its_cause_is_named(row):
    result = _check_row(row, "backward_buggy")
    assert result.findings[row["finding"]].failed, str(result)
    assert row["says"] in " ".join(result.diagnosis) + result.findings[row["finding"]].why, str(result)
    assert "no standard mistake" not in str(result)
    assert len(str(result).splitlines()) <= 15
    assert max(map(len, str(result).splitlines()[1:])) <= 102


@pytest.mark.slow
@pytest.mark.parametrize("row", MORE_BUGS, ids=[r["name"] for r in MORE_BUGS])
def test_further_bug_corrected_is_proved(row):
    result = _check_row(row, "backward_correct")
    assert result.formula.ok, str(result)
    assert not result.contract.failed


@pytest.mark.parametrize("row", CONTROLS, ids=[r["name"] for r in CONTROLS])
def test_accused_gradient_is_right(row):
    for key in ("backward_accused", "backward_reference"):
        result = check(
            _function(row[key], "backward"),
            forward=_function(row["forward"], "forward"),
            inputs=_inputs(row, "inputs"),
            wrt=row["wrt"],
        )
        assert result.formula.ok, str(result)


# Layers in ordinary NumPy: (forward, right backward, shapes, {mistake: (wrong backward, words of the diagnosis)})
def _dense(x, W, b):
    return x @ W + b


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _layer_norm(x, g, b, eps=1e-5):
    mean = x.mean(axis=-1, keepdims=True)
    variance = x.var(axis=-1, keepdims=True)
    return g * (x - mean) / np.sqrt(variance + eps) + b


def _layer_norm_backward(dy, x, g, b, eps=1e-5):
    mean = x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    h = (x - mean) * r
    a = dy * g
    dx = r * (a - a.mean(-1, keepdims=True) - h * (a * h).mean(-1, keepdims=True))
    return dx, (dy * h).sum(0), dy.sum(0)


def _conv1d(x, w):
    n, k = x.shape[0], w.shape[0]
    out = np.zeros(n - k + 1)
    for i in range(n - k + 1):
        out[i] = np.sum(x[i : i + k] * w)
    return out


def _conv1d_backward(dy, x, w):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(dy.shape[0]):
        dx[i : i + len(w)] += dy[i] * w
        dw += dy[i] * x[i : i + len(w)]
    return dx, dw


def _attention(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[1])
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True) @ v


def _attention_backward(dy, q, k, v, scaled=True):
    root = np.sqrt(q.shape[1])
    scores = q @ k.T / root
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    dp = dy @ v.T
    ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    ds = ds / root if scaled else ds
    return ds @ k, ds.T @ q, p.T @ dy


def _tanh_cell(x, h, W, U):
    return np.tanh(x @ W + h @ U)


def _tanh_cell_backward(dh, x, h, W, U, local=lambda z, a: 1 - a * a):
    z = x @ W + h @ U
    dz = dh * local(z, np.tanh(z))
    return dz @ W.T, dz @ U.T, x.T @ dz, h.T @ dz


def _mse(p, y):
    return np.mean((p - y) ** 2)


LAYERS = {
    "dense": (
        _dense,
        lambda dy, x, W, b: (dy @ W.T, x.T @ dy, dy.sum(axis=0)),
        {"x": (3, 4), "W": (4, 5), "b": 5},
        {
            "mean of the bias": (lambda dy, x, W, b: (dy @ W.T, x.T @ dy, dy.mean(axis=0)), "divided by x.shape[0]"),
            "sign": (lambda dy, x, W, b: (dy @ W.T, -(x.T @ dy), dy.sum(axis=0)), "sign"),
            "no sum": (lambda dy, x, W, b: (dy @ W.T, x.T @ dy, dy), "not summed"),
            "first row": (lambda dy, x, W, b: (dy @ W.T, x.T @ dy, dy[0]), "first row"),
            "transposed weight": (lambda dy, x, W, b: (dy @ W.T, (x.T @ dy).T, dy.sum(0)), "transpose"),
            "swapped": (lambda dy, x, W, b: (x.T @ dy, dy @ W.T, dy.sum(0)), "gradient with respect to"),
            "None": (lambda dy, x, W, b: (dy @ W.T, x.T @ dy, None), "None"),
            "factor two": (lambda dy, x, W, b: (dy @ W.T * 2, x.T @ dy, dy.sum(0)), "2 times"),
        },
    ),
    "sigmoid": (
        _sigmoid,
        lambda da, z: da * _sigmoid(z) * (1 - _sigmoid(z)),
        {"z": (3, 4)},
        {
            "missing": (lambda da, z: da, "derivative of the sigmoid is missing"),
            "of z": (lambda da, z: da * z * (1 - z), "pre-activation"),
            "of a": (lambda da, z: da * _sigmoid(_sigmoid(z)) * (1 - _sigmoid(_sigmoid(z))), "at the activation"),
            "lacks a factor": (lambda da, z: da * _sigmoid(z), "lacks the factor 1 − a"),
        },
    ),
    "layer norm": (
        _layer_norm,
        _layer_norm_backward,
        {"x": (3, 4), "g": 4, "b": 4},
        {
            "constant statistics": (
                lambda dy, x, g, b, eps=1e-5: (
                    dy * g / np.sqrt(x.var(axis=-1, keepdims=True) + eps),
                    *_layer_norm_backward(dy, x, g, b, eps)[1:],
                ),
                "missing",
            ),
            "eps ignored": (lambda dy, x, g, b, eps=1e-5: _layer_norm_backward(dy, x, g, b, eps=1e-3), ""),
        },
    ),
    "conv1d": (
        _conv1d,
        _conv1d_backward,
        {"x": (6,), "w": (3,)},
        {"flipped": (lambda dy, x, w: (_conv1d_backward(dy, x, w[::-1])[0], _conv1d_backward(dy, x, w)[1]), "")},
    ),
    "attention": (
        _attention,
        _attention_backward,
        {"q": (3, 4), "k": (5, 4), "v": (5, 2)},
        {"unscaled": (lambda dy, q, k, v: _attention_backward(dy, q, k, v, scaled=False), "")},
    ),
    "tanh cell": (
        _tanh_cell,
        lambda dh, x, h, W, U: _tanh_cell_backward(dh, x, h, W, U),
        {"x": (2, 3), "h": (2, 4), "W": (3, 4), "U": (4, 4)},
        {
            "of z": (lambda dh, x, h, W, U: _tanh_cell_backward(dh, x, h, W, U, lambda z, a: 1 - z * z), "1 − z²"),
            "missing": (
                lambda dh, x, h, W, U: _tanh_cell_backward(dh, x, h, W, U, lambda z, a: 1 + 0 * z),
                "tanh is missing",
            ),
        },
    ),
    "mean squared error": (
        _mse,
        lambda dl, p, y: (dl * 2 * (p - y) / p.size, dl * 2 * (y - p) / p.size),
        {"p": (3, 4), "y": (3, 4)},
        {
            "two": (lambda dl, p, y: (dl * (p - y) / p.size, dl * (y - p) / p.size), "1/2 times"),
            "batch only": (lambda dl, p, y: (dl * 2 * (p - y) / len(p), dl * 2 * (y - p) / len(p)), "p.shape[1] times"),
        },
    ),
}
MISTAKES = [(layer, mistake) for layer, row in LAYERS.items() for mistake in row[3]]


@pytest.mark.parametrize("name", LAYERS)
def test_right_layer_is_right(name):
    forward, backward, shapes, _ = LAYERS[name]
    result = check(backward, forward=forward, shapes=shapes)
    assert result.formula.ok, str(result)
    assert result.contract.ok
    assert result.domain.ok or name == "sigmoid"


@cache
def _mistaken(name, mistake):
    """The check of one mistake: two tests look at it."""
    forward, _, shapes, mistakes = LAYERS[name]
    return check(mistakes[mistake][0], forward=forward, shapes=shapes)


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_mistake_is_refuted_and_named(name, mistake):
    result, words = _mistaken(name, mistake), LAYERS[name][3][mistake][1]
    assert result.formula.failed, str(result)
    assert words in " ".join(result.diagnosis), str(result)
    assert result.counterexample is not None


def test_counterexample_can_be_pasted():
    result = check(lambda dy, x: dy * x, forward=lambda x: x * x, shapes={"x": (3, 4)})
    names = {"np": np}
    exec(result.counterexample.reproducer, names)
    x, upstream = names["x"], names["upstream"]
    entry = result.counterexample.entry
    assert float(result.counterexample.yours) == pytest.approx((upstream * x)[entry])
    assert float(result.counterexample.true) == pytest.approx((2 * upstream * x)[entry])
    assert x.size == 1


def test_headline_and_findings_read_as_documented():
    result = check(lambda dy, x: 2 * dy * x, forward=lambda x: x * x, shapes={"x": 3})
    assert result.passed
    assert set(result.findings) == {"formula", "floats", "domain", "kinks", "contract"}
    assert result.as_dict()["passed"] is True
    json.dumps(result.as_dict())


def test_rounded_constant_is_no_formula_error_but_a_short_one_is():
    def forward(x):
        return x / np.sqrt(2.0)

    good = check(lambda dy, x: dy * 0.7071067811865475244, forward=forward, shapes={"x": 3})
    assert good.formula.ok
    assert "rounding of constants" in good.formula.grade
    bad = check(lambda dy, x: dy * 0.70710678, forward=forward, shapes={"x": 3})
    assert bad.formula.failed
    assert "1/√2" in " ".join(bad.diagnosis)


def test_relu_kink_sides_are_reported_and_the_outside_fails():
    def forward(x):
        return np.maximum(0, x)

    ok = check(lambda dy, x: dy * (x > 0), forward=forward, shapes={"x": 3})
    assert ok.kinks.ok
    assert "x = 0" in ok.kinks.why
    half = check(lambda dy, x: dy * np.where(x == 0, 0.5, x > 0), forward=forward, shapes={"x": 3})
    assert half.kinks.ok
    assert "midpoint" in half.kinks.why
    wrong = check(lambda dy, x: dy * np.where(x == 0, 7.0, x > 0), forward=forward, shapes={"x": 3})
    assert wrong.formula.ok
    assert wrong.kinks.failed


def test_what_is_not_covered_is_not_decided_and_never_a_pass():
    def forward(x):
        return np.linalg.svd(x)[1].sum()

    result = check(lambda dy, x: dy * x, forward=forward, shapes={"x": (3, 3)})
    assert result.formula.outcome == "not decided"
    assert "linalg.svd is not covered" in result.formula.why
    assert not result.passed


def test_undecidable_comparison_is_not_decided():
    def forward(x):
        return np.where(x / 3 * 3 >= x, x, 2 * x)  # equal over the reals: enclosures overlap

    result = check(lambda dy, x: dy, forward=forward, shapes={"x": 3})
    assert result.formula.outcome == "not decided"
    assert not result.passed


def test_contract_findings():
    def mutates(dy, x):
        dy *= 2
        return dy * x

    result = check(mutates, forward=lambda x: x * x, shapes={"x": 3})
    assert result.formula.ok
    assert result.contract.failed
    assert "upstream" in result.contract.why
    fixed = check(lambda dy, x: np.ones((3,)) * 2 * x * dy, forward=lambda x: x * x, shapes={"x": 3})
    assert fixed.contract.failed  # raises at other lengths
    assert "where forward works" in fixed.contract.why


def test_integer_one_hot_and_boolean_inputs_stay_such():
    seen = []

    def forward(z, t, m, Y):
        seen.append((t, m, Y))
        return (z * m * Y).sum() + z[np.arange(3), t].sum()

    def backward(dy, z, t, m, Y):
        g = dy * m * Y
        g[np.arange(z.shape[0]), t] += dy
        return g

    inputs = {"z": np.random.default_rng(0).standard_normal((3, 4)), "t": np.array([0, 3, 1]),
              "m": np.array([[True, False, True, True]] * 3), "Y": np.eye(4)[[1, 2, 0]]}  # fmt: skip
    result = check(backward, forward=forward, inputs=inputs, wrt=["z"])
    assert result.formula.ok, str(result)
    for t, m, Y in seen:
        if isinstance(Y, np.ndarray) and type(Y) is np.ndarray:
            assert t.dtype.kind == "i"
            assert m.dtype == bool
            assert (Y.sum(-1) == 1).all()


def test_conventions_without_upstream_and_with_a_cache():
    def loss(x, w):
        return np.sum((x @ w) ** 2)

    assert check(lambda x, w: 2 * x.T @ (x @ w), forward=loss, shapes={"x": (3, 2), "w": (2,)}, wrt="w").formula.ok

    def forward(x, w):
        return x @ w, (x, w)

    def backward(dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout

    assert check(backward, forward=forward, shapes={"x": (3, 2), "w": (2, 4)}).formula.ok
    as_dict = check(lambda dy, x: {"dx": 2 * dy * x}, forward=lambda x: x * x, shapes={"x": 3})
    assert as_dict.formula.ok


def test_several_outputs_have_several_upstreams():
    def forward(x):
        return np.exp(x), x.sum()

    def backward(upstream, x):
        first, second = upstream
        return first * np.exp(x) + second

    assert check(backward, forward=forward, shapes={"x": (2, 3)}).formula.ok
    assert check(lambda u, x: u[0] * np.exp(x), forward=forward, shapes={"x": (2, 3)}).formula.failed


def test_against_an_activation_and_a_formula():
    def dtanh(x):
        return 1 - np.tanh(x) ** 2

    assert check(dtanh, against="tanh").formula.ok
    assert check(lambda x: 1 - np.tanh(x), against="tanh").formula.failed
    assert check(lambda dy, x: dy * (np.tanh(x) + x * (1 - np.tanh(x) ** 2)), against="x*tanh(x)").formula.ok
    with pytest.raises(InputError, match="did you mean"):
        check(dtanh, against="gelo")


def test_hyper_parameters_are_varied():
    def forward(x, slope=1.0):
        return np.where(x > 0, x, slope * x)

    result = check(lambda dy, x, slope=1.0: dy, forward=forward, shapes={"x": 4})
    assert result.formula.failed


def test_randomness_in_the_person_s_code_leaves_the_global_state_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    check(lambda dy, x: 2 * dy * x, forward=lambda x: x * x, shapes={"x": 3})
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either forward"),
        ({"forward": lambda x: x}, "shapes"),
        ({"forward": lambda x: x, "shapes": {"y": 3}}, "no argument 'y'"),
        ({"forward": lambda x, y: x, "shapes": {"x": 3}}, "needs 'y'"),
        ({"forward": lambda x: x, "shapes": {"x": (0,)}}, "at least 1"),
        ({"forward": lambda x: x, "shapes": {"x": ("a",)}}, "integers"),
        ({"forward": lambda x: x, "shapes": {"x": 3}, "wrt": ["z"]}, "no input"),
        ({"forward": lambda x: x, "inputs": {"x": np.array([np.nan])}}, "NaN"),
        ({"forward": lambda x: x, "inputs": {"x": np.zeros((0, 3))}}, "empty"),
        ({"forward": lambda x: x, "inputs": {"x": np.array([1, 2])}}, "nothing to differentiate"),
        ({"forward": lambda x: x, "shapes": {"x": 3}, "kinks": "up"}, "kinks"),
        ({"forward": lambda x: x, "shapes": {"x": 3}, "dtype": "int8"}, "dtype"),
        ({"forward": lambda x: None, "shapes": {"x": 3}}, "None"),
        ({"forward": lambda x: x @ x, "shapes": {"x": (2, 3)}}, "forward raised ValueError"),
        ({"forward": 3, "shapes": {"x": 3}}, "must be a function"),
    ],
)
def test_wrong_use_is_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        check(lambda dy, x: dy, **arguments)
    assert "\n" not in str(caught.value)


def test_an_exception_in_backward_is_one_line():
    def backward(dy, x):
        return dy @ x

    with pytest.raises(InputError, match="backward raised ValueError"):
        check(backward, forward=lambda x: x * 2, shapes={"x": (3, 4)})


def test_random_forward_is_not_decided():
    result = check(
        lambda dy, x: dy * np.random.rand(*x.shape),
        forward=lambda x: x * np.random.rand(*x.shape),
        shapes={"x": (2, 3)},
    )
    assert result.formula.outcome == "not decided"
    assert "random" in result.formula.why


def _lstm(x, h, c, Wx, Wh, b):
    a = x @ Wx + h @ Wh + b
    n = h.shape[1]
    i, f, o, g = _sigmoid(a[:, :n]), _sigmoid(a[:, n : 2 * n]), _sigmoid(a[:, 2 * n : 3 * n]), np.tanh(a[:, 3 * n :])
    c = f * c + i * g
    return o * np.tanh(c), c


def _lstm_backward(upstream, x, h, c, Wx, Wh, b):
    dh, dc = upstream
    a = x @ Wx + h @ Wh + b
    n = h.shape[1]
    i, f, o, g = _sigmoid(a[:, :n]), _sigmoid(a[:, n : 2 * n]), _sigmoid(a[:, 2 * n : 3 * n]), np.tanh(a[:, 3 * n :])
    t = np.tanh(f * c + i * g)
    dc = dc + dh * o * (1 - t**2)
    parts = [dc * g * i * (1 - i), dc * c * f * (1 - f), dh * t * o * (1 - o), dc * i * (1 - g**2)]
    da = np.hstack(parts)
    return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)


def test_lstm_cell_is_right_and_no_accident_of_broadcasting_accuses_it():
    shapes = {"x": (2, 2), "h": (2, 3), "c": (2, 3), "Wx": (2, 12), "Wh": (3, 12), "b": 12}
    result = check(_lstm_backward, forward=_lstm, shapes=shapes)
    assert result.formula.ok
    assert result.contract.ok, str(result)


# The prover ----------------------------------------------------------------------------------------------------------
def _proof(forward, backward, shapes):
    from backproof.numerics.probing import InputKind, Sampler, numeric_options
    from backproof.numerics.proving import prove
    from backproof.numerics.subject import make_subject

    names = list(shapes)
    kinds = tuple(InputKind(n, "real", s if isinstance(s, tuple) else (s,)) for n, s in shapes.items())
    return prove(make_subject(backward, forward, names, names, False), Sampler(kinds, numeric_options(forward, names)))


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "conv1d"])
def test_prover_proves_right_layers_for_all_shapes(name):
    forward, backward, shapes, _ = LAYERS[name]
    proof = _proof(forward, backward, shapes)
    assert proof.complete, proof.missing


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_prover_never_proves_what_the_exact_runs_refute(name, mistake):
    forward, _, shapes, mistakes = LAYERS[name]
    refuted = {n for n, v in _mistaken(name, mistake).gradients.items() if v.startswith("REFUTED")}
    assert refuted
    assert not refuted & set(_proof(forward, mistakes[mistake][0], shapes).proved)


@pytest.mark.parametrize("row", [b for b in BUGS if EXPECTED[b["name"]][0] == "formula"], ids=lambda b: b["name"])
def test_prover_does_not_prove_real_bugs(row):
    shapes = {n: v.shape for n, v in _inputs(row, "generic_inputs").items() if v.dtype.kind == "f"}
    names = {"forward": _function(row["forward"], "forward"), "backward": _function(row["backward_buggy"], "backward")}
    try:
        proof = _proof(names["forward"], names["backward"], shapes)
    except InputError:
        return  # integer inputs: the check itself draws them
    wrong = {n for n, v in _real_bug(row["name"]).gradients.items() if v.startswith("REFUTED")}
    assert not wrong & set(proof.proved)


def test_prover_leaves_loops_and_views_to_the_exact_runs():
    assert not _proof(lambda x: sum(v * v for v in x), lambda dy, x: 2 * dy * x, {"x": 4}).complete

    def through_a_view(dy, x):
        g = dy * 2 * x
        g.T[...] = 0  # writes into g
        return g

    assert not _proof(lambda x: x * x, through_a_view, {"x": (3, 4)}).complete
    assert check(through_a_view, forward=lambda x: x * x, shapes={"x": (3, 4)}).formula.failed


def _matmul(x, w):
    return x @ w


def _clipped(dy, x, w):
    return np.clip(dy @ w.T, -50, 50), x.T @ dy


def _doubled_if_big(dy, x, w):
    return (dy @ w.T) * (2 if x.max() > 50 else 1), x.T @ dy


@pytest.mark.parametrize("backward", [_clipped, _doubled_if_big])
def test_wrong_only_at_large_inputs_is_refuted_there(backward):
    result = check(backward, forward=_matmul, shapes={"x": (3, 4), "w": (4, 5)})
    assert result.gradients["x"] == "REFUTED"
    assert result.counterexample is not None
    assert not result.passed


def test_saturated_branch_that_differs_by_many_ulp_is_refuted():
    result = check(lambda x: np.where(x > 20, 1.0, 1 / (1 + np.exp(-x))), against="softplus")
    assert result.formula.failed


def test_saturated_branch_that_differs_by_less_than_an_ulp_is_not_refuted():
    result = check(lambda x: np.where(x > 40, 1.0, 1 / (1 + np.exp(-x))), against="softplus")
    assert not result.formula.failed


def test_branch_of_forward_far_out_is_visited():
    result = check(
        lambda dy, x: dy * np.ones_like(x), forward=lambda x: np.where(x > 1e5, 2 * x, x), shapes={"x": (3,)}
    )
    assert result.formula.failed


def _clipped_low(dy, x, w):
    return np.clip(dy @ w.T, -5, 5), x.T @ dy


def _doubled_for_many_rows(dy, x, w):
    return (dy @ w.T) * (2 if x.shape[0] > 3 else 1), x.T @ dy


@pytest.mark.parametrize("backward", [_clipped_low, _doubled_for_many_rows])
def test_what_hides_a_mistake_is_said_only_if_it_does(backward):
    result = check(backward, forward=_matmul, shapes={"x": (3, 4), "w": (4, 5)})
    assert result.formula.failed
    assert "all ones" not in " ".join(result.diagnosis)


def test_regularisation_counted_twice_is_no_missing_derivative():
    def forward(x, w, v, reg=0.05):
        return np.sum((x @ w @ v) ** 2) + 0.5 * reg * (np.sum(w * w) + np.sum(v * v))

    def backward(up, x, w, v, reg=0.05):
        d = 2 * (x @ w @ v)
        return up * (x.T @ d @ v.T + 2 * reg * w)

    result = check(backward, forward=forward, shapes={"x": (3, 4), "w": (4, 5), "v": (5, 2)}, wrt=["w"])
    assert result.formula.failed
    assert "missing" not in result.diagnosis[0]
    assert "counted twice" in result.diagnosis[0]


def _columns(dy, w, x, b):
    d = dy * (1 - np.tanh(w @ x + b) ** 2)
    return d @ x.T, w.T @ d, d


def test_column_vectors_stay_columns():
    result = check(_columns, forward=lambda w, x, b: np.tanh(w @ x + b), shapes={"w": (2, 3), "x": (3, 1), "b": (2, 1)})
    assert result.passed, str(result)


def test_batch_of_one_does_not_hide_a_mean():
    def backward(dy, x, w):
        return (dy @ w.T) / len(x), x.T @ dy

    assert check(backward, forward=_matmul, shapes={"x": (1, 4), "w": (4, 5)}).formula.failed


def test_points_where_forward_is_not_finite_are_not_judged():
    def backward(dy, x):
        n = np.linalg.norm(x)
        return dy / n - x * np.sum(dy * x) / n**3

    result = check(backward, forward=lambda x: x / np.linalg.norm(x), shapes={"x": (4,)})
    assert result.passed, str(result)
    result = check(lambda dy, x: dy / x, against="log(x)")
    assert result.passed, str(result)
    assert "no kink was met at" in result.kinks.why


def test_forward_that_returns_more_than_output_and_cache_is_one_clear_line():
    def forward(x, g):
        return x * g, (x, g, x[0]), x.mean(0), x.var(0)

    with pytest.raises(InputError, match="number 2 is no array of numbers"):
        check(
            lambda dy, cache: (dy * cache[1], (dy * cache[0]).sum(0)), forward=forward, shapes={"x": (4, 3), "g": (3,)}
        )


def test_nan_gradient_has_no_float_verdict():
    result = check(lambda dy, x: dy * np.nan, forward=lambda x: x * x, shapes={"x": (3,)})
    assert not result.floats.ok


def test_counterexample_shows_the_digits_that_differ():
    result = check(lambda dy, x: dy * 2 * x * (1 + 1e-12), forward=lambda x: x * x, shapes={"x": (3,)})
    assert result.counterexample.yours != result.counterexample.true
