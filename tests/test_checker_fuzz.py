"""Random programs with mechanical reverse mode: a right gradient is never refuted, a wrong one never passes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backproof.numerics.findings import gather
from backproof.numerics.identity import prove_at
from backproof.numerics.preparing import prepare
from backproof.numerics.proving import prove

SHAPES = {"x": (3, 2), "y": (3, 2), "W": (2, 4), "b": (4,), "U": (4, 2)}
RELU, SOFTMAX = "np.maximum({a}, 0)", "np.exp({a}) / np.exp({a}).sum(1, keepdims=True)"
#: forward line -> what the operand receives from the cotangent {d} of the result {r}
UNARY = {
    "np.tanh({a})": "{d} * (1 - {r} ** 2)",
    "1 / (1 + np.exp(-{a}))": "{d} * {r} * (1 - {r})",
    "{a} ** 2": "{d} * 2 * {a}",
    "np.sin({a})": "{d} * np.cos({a})",
    "0.5 * {a}": "{d} * 0.5",
    RELU: "{d} * ({a} > 0)",
    "np.where({a} > 0, {a}, 0.1 * {a})": "np.where({a} > 0, {d}, 0.1 * {d})",
    "{a} - {a}.mean(axis=0)": "{d} - {d}.mean(axis=0)",
    "{a} - {a}.max(axis=1, keepdims=True)": "{d} - ({a} == {a}.max(1, keepdims=True)) * {d}.sum(1, keepdims=True)",
    "{a} / np.sqrt(({a} ** 2).mean(1, keepdims=True) + 1)":
        "({d} - {r} * ({d} * {r}).mean(1, keepdims=True)) / np.sqrt(({a} ** 2).mean(1, keepdims=True) + 1)",
    SOFTMAX: "{r} * ({d} - ({d} * {r}).sum(1, keepdims=True))",
    "np.log(1 + {a} ** 2)": "{d} * 2 * {a} / (1 + {a} ** 2)",
    "{a}[:, ::-1]": "{d}[:, ::-1]",
    "np.concatenate([{a}[:, 1:], {a}[:, :1]], axis=1)": "np.concatenate([{d}[:, -1:], {d}[:, :-1]], axis=1)",
    "{a}.T.reshape({a}.shape[1], -1).T": "{d}.copy()",
    "np.cumsum({a}, axis=1)": "np.cumsum({d}[:, ::-1], axis=1)[:, ::-1]",
}  # fmt: skip
BINARY = {
    "{a} + {b}": ("{d}", "{d}"),
    "{a} - {b}": ("{d}", "-{d}"),
    "{a} * {b}": ("{d} * {b}", "{d} * {a}"),
    "{a} / (2 + np.cos({b}))": ("{d} / (2 + np.cos({b}))", "{d} * {a} * np.sin({b}) / (2 + np.cos({b})) ** 2"),
    "{a} * {b}.sum(axis=1, keepdims=True)": (
        "{d} * {b}.sum(axis=1, keepdims=True)", "np.ones_like({b}) * ({d} * {a}).sum(axis=1, keepdims=True)"),
}  # fmt: skip
#: Mistakes at one place of a backward line.
MISTAKES = [
    ("* 2 *", "*"), ("(1 -", "(1 +"), ("** 2", "** 3"), (" - ", " + "), (".mean(", ".sum("), ("> 0", "< 0"),
    (".sum(1, keepdims=True)", ".mean(1, keepdims=True)"), ("-dv", "dv"), ("np.cos", "np.sin"), (".T", ".T * 2"),
    ("[:, ::-1]", ""), (" = d", " = 2 * d"), ("0.5", "0.25"), ("axis=0", "axis=1, keepdims=True"),
]  # fmt: skip


def program(seed):
    """Return the lines of forward and of backward for a random expression of x, y, W, b, U."""
    rng = random.Random(seed)
    shapes = {"x": (3, 2), "y": (3, 2)}
    forward, backward = [], []

    def add(text, operands, cotangents, shape):
        result = f"v{len(forward)}"
        names = {"r": result, "d": f"d{result}", **dict(zip("ab", operands))}
        forward.append(f"{result} = {text.format(**names)}")
        lines = [f"d{o} = d{o} + {c.format(**names)}" for o, c in zip(operands, cotangents, strict=True)]
        backward.insert(0, lines)
        shapes[result] = shape
        return result

    last = "x"
    for _ in range(rng.randint(2, 5)):
        kind = rng.random()
        others = [n for n in shapes if shapes[n] == shapes[last]]
        if kind < 0.3 and shapes[last] == (3, 2):
            last = add("{a} @ W + b", [last], ["{d} @ W.T"], (3, 4))
            backward[0] += [f"dW = dW + {forward[-1].split()[2]}.T @ d{last}", f"db = db + d{last}.sum(axis=0)"]
        elif kind < 0.3:
            last = add("np.dot({a}, U)", [last], ["np.dot({d}, U.T)"], (3, 2))
            operand = forward[-1].split("(")[1].split(",")[0]
            backward[0] += [f"dU = dU + np.dot({operand}.T, d{last})"]
        elif kind < 0.55:
            text = rng.choice(list(BINARY))
            last = add(text, [last, rng.choice(others)], BINARY[text], shapes[last])
        else:
            text = rng.choice(list(UNARY))
            last = add(text, [last], [UNARY[text]], shapes[last])
    names = [*SHAPES, *(line.split()[0] for line in forward)]
    start = [f"d{n} = np.zeros_like({n})" for n in names] + [f"d{last} = upstream"]
    return forward, last, start, [line for lines in backward for line in lines]


def functions(forward, last, start, backward):
    """Compile a program to forward and backward."""
    head = ", ".join(SHAPES)
    text = ["import numpy as np", f"def forward({head}):", *(f"    {line}" for line in forward), f"    return {last}"]
    text += [f"def backward(upstream, {head}):", *(f"    {line}" for line in [*forward, *start, *backward])]
    text += [f"    return {', '.join(f'd{n}' for n in SHAPES)}"]
    names = {}
    exec("\n".join(text), names)
    return names["backward"], names["forward"], "\n".join(text)


def evidence_of(backward, forward, seeds=2):
    task = prepare(backward, forward=forward, shapes=SHAPES)
    return task, gather(task.subject, [task.sampler.point(seed) for seed in range(seeds)])


def mutant(seed):
    """Return a program with one mistake in its backward, or None if no place fits."""
    forward, last, start, backward = program(seed)
    rng = random.Random(seed + 1)
    places = [(k, old, new) for k, line in enumerate(backward) for old, new in MISTAKES if old in line]
    if not places:
        return None
    k, old, new = rng.choice(places)
    changed = [*backward[:k], backward[k].replace(old, new, 1), *backward[k + 1 :]]
    return functions(forward, last, start, changed), functions(forward, last, start, backward)


def judge_right(seed):
    """A right gradient is not refuted; where it is not proved for all shapes, it is not contradicted either."""
    backward, forward, text = functions(*program(seed))
    task, evidence = evidence_of(backward, forward)
    assert not evidence.refuted, text
    assert not evidence.failures, text
    return task, text


def judge_wrong(seed):
    """What the checker does not refute must agree in floats; what is refuted must not be proved."""
    made = mutant(seed)
    if made is None:
        return
    (wrong, forward, text), (right, _, _) = made
    task, evidence = evidence_of(wrong, forward)
    rng = np.random.default_rng(seed)
    inputs = {n: rng.normal(size=s) for n, s in SHAPES.items()}
    upstream = rng.normal(size=forward(**inputs).shape)
    with np.errstate(all="ignore"):
        pairs = zip(SHAPES, wrong(upstream, **inputs), right(upstream, **inputs), strict=True)
        differ = {n for n, a, b in pairs if not np.allclose(a, b, rtol=1e-6, atol=1e-9)}
    assert differ <= set(evidence.refuted) | set(evidence.open), text
    proof = prove(task.subject, task.sampler)
    assert not set(proof.proved) & (differ | set(evidence.refuted)), text
    fixed = prove_at(task.subject, task.sampler, task.sampler.point(0))
    assert not {n for n, why in fixed.items() if not why} & differ, text


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_right_program_is_never_refuted(seed):
    judge_right(seed)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_wrong_program_never_passes(seed):
    judge_wrong(seed)


def test_most_right_programs_are_proved_for_all_shapes():
    proved = 0
    for seed in range(10):
        task, _ = judge_right(seed)
        proved += prove(task.subject, task.sampler).complete
    assert proved >= 7


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_programs(seed):
    judge_right(seed)
    judge_wrong(seed)
