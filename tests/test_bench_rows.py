"""Races of row kernels and losses: everybody computes the same, the table, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backproof.demos.cli import run
from backproof.numerics import row_racing
from backproof.numerics.row_racing import TABLES, row_of, shapes_of
from backproof.theory.errors import InputError

RACED = [(kind, name) for kind, table in TABLES.items() for name in table]


def _gradients(found):
    """The gradients in what a contestant returns, ours (value, gradients) or theirs."""
    gradients = found[1] if isinstance(found[1], (tuple, list, np.ndarray)) else found[1:]
    return [np.asarray(g) for g in (gradients if isinstance(gradients, (tuple, list)) else [gradients])]


@pytest.mark.parametrize(("kind", "name"), RACED)
def test_everybody_computes_the_same(kind, name):
    given, upstream, targets = row_racing._data(kind, name, "float64", (5, 7), 3)
    expected = _gradients(row_racing._ours(kind, name, "float64", given, targets, upstream)())
    assert [g.shape for g in expected] == [a.shape for a in given]
    theirs, others = TABLES[kind][name], {}
    others["numpy"] = row_racing._numpy(kind, name, given, targets, upstream)
    others["jax"] = row_racing._jax(theirs.jax, given, targets, upstream)
    others["torch"] = row_racing._torch(theirs.torch, given, targets, upstream)
    for label, runner in others.items():
        if runner is None:  # not installed, or no such function
            continue
        found = [np.asarray(g) for g in runner()] if label == "torch" else _gradients(runner())
        for theirs_, ours in zip(found, expected, strict=True):
            np.testing.assert_allclose(theirs_, ours, rtol=1e-6, atol=1e-9, err_msg=label)


def test_the_table_and_the_data(capsys):
    assert run(["bench", "--rows", "softmax", "glu", "--shapes", "4x6", "--rounds", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (race,) = data["races"]
    assert race["shape"] == [4, 6]
    assert set(race["results"]) == {"softmax", "glu"}
    assert {"backproof", "copy", "numpy, as derived"} <= set(race["results"]["glu"])
    assert run(["bench", "--losses", "mse", "--shapes", "4x6,3x2", "--rounds", "1", "--dtype", "both"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("squared_error") == 4
    assert "float64, 3x2" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "--losses"], "ask for one"),
        (["--rows", "gelu"], "geglu"),
        (["--losses", "softmax"], "unknown loss"),
        (["--rows", "--shapes", "3"], "no rows x columns"),
        (["--rows", "--shapes", "0x3"], "no rows x columns"),
        (["--rows", "--shapes", "100000x100000"], "more than"),
        (["--rows", "--all"], "take NAMEs"),
        (["--rows", "--target", "cuda"], "take NAMEs"),
        (["relu", "--shapes", "3x3"], "goes with --rows"),
    ],
)
def test_what_is_refused(capsys, arguments, said):
    assert run(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_names_and_shapes():
    assert row_of("losses", "mean_squared_error") == "squared_error"
    assert shapes_of("2X3") == ((2, 3),)
    with pytest.raises(InputError):
        row_of("losses", "hinge")
