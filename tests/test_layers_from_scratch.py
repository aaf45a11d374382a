"""Layers as people write them, in plain NumPy: the right ones proved, each with a typical mistake refuted.

The modules of ``layers_from_scratch`` hold the code and a table each.  A row names the code, the shapes of its inputs,
how well its gradients are known ("all": proved for all shapes, "axes": with some axes of fixed length, "shapes":
proved at the shapes visited, "exact": equal at points) and mistakes as replacements in the module's text.
"""

import linecache
import types
from pathlib import Path

import numpy as np
import pytest

from backproof.numerics.checking import check
from backproof.numerics.findings import gather
from backproof.numerics.identity import prove_at
from backproof.numerics.preparing import prepare
from backproof.numerics.proving import prove

FOLDER = Path(__file__).parent / "layers_from_scratch"
GRADES = {
    "all": "PROVED for all shapes",
    "axes": "PROVED for all shapes of the free axes",
    "shapes": "PROVED at these shapes",
    "exact": "EXACT",
}


def load(name, old="", new=""):
    """Return a module of the folder, with one place of its text replaced."""
    path = FOLDER / f"{name}.py"
    text = path.read_text()
    if old:
        head = text.partition("\nROWS = [")[0].partition("\nSTEPS = [")[0]
        assert head.count(old) == 1, f"{name}: {old!r} stands {head.count(old)} times"
        text = text.replace(old, new, 1)
    title = f"<{name} with {new!r}>" if old else str(path)
    if old:
        linecache.cache[title] = (len(text), None, text.splitlines(True), title)
    module = types.ModuleType(f"layers_from_scratch_{name}")
    module.__file__ = str(path)
    exec(compile(text, title, "exec"), vars(module))
    return module


MODULES = {path.stem: load(path.stem) for path in sorted(FOLDER.glob("*.py"))}
ROWS = {row[0]: (name, row) for name, module in MODULES.items() for row in getattr(module, "ROWS", [])}
STEPS = {row[0]: row for row in MODULES["updates"].STEPS}


def draw(spec, rng):
    """Return an example input of a row."""
    if isinstance(spec[0], int):
        return rng.normal(size=spec)
    kind, *rest = spec
    if kind == "labels":
        labels = rng.integers(0, rest[1], rest[0])
        labels[0], labels[-1] = rest[1] - 1, labels[1]  # the largest occurs, and one occurs twice
        return labels
    if kind == "one_hot":
        return np.eye(rest[1])[rng.integers(0, rest[1], rest[0])]
    if kind == "binary":
        given = (rng.random(rest[0]) < 0.5).astype(float)
        given.flat[0], given.flat[1] = 1, 0
        return given
    if kind == "mask":
        return rng.random(rest[0]) < 0.6
    values = rng.random(rest[0])
    return values if kind == "unit" else values / values.sum(-1, keepdims=True)


def arguments(module, row):
    """Return what ``check`` is called with for a row."""
    _, code, other, spec, _, _, *wrt = row
    rng = np.random.default_rng(0)
    given = {"inputs": {n: draw(s, rng) for n, s in spec.items()}}
    if isinstance(code, type):
        weights = {n: rng.normal(size=shape) for n, shape in zip(other[::2], other[1::2], strict=True)}
        return (vars(module)[code.__name__](**weights),), given
    given |= {"forward": vars(module)[other.__name__], "wrt": wrt[0] if wrt else None}
    return (vars(module)[code.__name__],), given


def prepared(module, row):
    """Return the task that ``check`` would judge."""
    positional, keywords = arguments(module, row)
    return prepare(*positional, **keywords)


@pytest.mark.parametrize("title", ROWS)
def test_right_layer_is_proved(title):
    name, row = ROWS[title]
    task = prepared(MODULES[name], row)
    evidence = gather(task.subject, [task.sampler.point(0)])
    assert not any((evidence.refuted, evidence.open, evidence.failures)), evidence
    if row[4] in ("all", "axes"):
        proof = prove(task.subject, task.sampler)
        assert proof.complete, proof.missing
        assert proof.grade == GRADES[row[4]], proof.why
    if row[4] == "shapes":
        assert not any(prove_at(task.subject, task.sampler, task.sampler.point(0)).values())


MISTAKES = [(title, mistake) for title, (_, row) in ROWS.items() for mistake in row[5]]


@pytest.mark.parametrize(("title", "mistake"), MISTAKES, ids=[f"{t}: {m}" for t, m in MISTAKES])
def test_mistake_is_refuted(title, mistake):
    name, row = ROWS[title]
    task = prepared(load(name, *row[5][mistake]), row)
    evidence = gather(task.subject, [task.sampler.point(seed, vary=seed > 0) for seed in range(2)])
    assert evidence.refuted, evidence


@pytest.mark.slow
@pytest.mark.parametrize("title", ROWS)
def test_whole_check_of_a_right_layer(title):
    name, row = ROWS[title]
    positional, keywords = arguments(MODULES[name], row)
    result = check(*positional, **keywords)
    assert result.formula.grade == GRADES[row[4]], str(result)
    assert not result.kinks.failed, str(result)


@pytest.mark.slow
@pytest.mark.parametrize(("title", "mistake"), MISTAKES, ids=[f"{t}: {m}" for t, m in MISTAKES])
def test_whole_check_of_a_mistake(title, mistake):
    name, row = ROWS[title]
    positional, keywords = arguments(load(name, *row[5][mistake]), row)
    result = check(*positional, **keywords)
    assert result.formula.failed, str(result)
    assert result.counterexample is not None
    assert len(str(result).splitlines()) <= 15


@pytest.mark.parametrize("title", STEPS)
def test_optimiser_step_against_its_rule(title):
    _, code, rule, mistakes = STEPS[title]
    step = code() if isinstance(code, type) else code
    assert check(step, against=rule).formula.ok
    for old, new in mistakes.values():
        wrong = vars(load("updates", old, new))[code.__name__]
        assert check(wrong() if isinstance(code, type) else wrong, against=rule).formula.failed
