"""Bugs whose source is not at hand (``exec`` without a file): the cause is found from what the code computes."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from backproof.numerics.checking import check

ROWS = runpy.run_path(str(Path(__file__).parent / "corpus" / "sourceless_bugs.py"))
BUGS = ROWS["BUGS"]


def _check(row, backward, inputs):
    names = []
    for key in ("forward", backward):
        scope = {}
        exec(row[key], scope)
        names.append(scope[key.split("_")[0]])
    given = eval(row[inputs], {"np": np, "rng": np.random.default_rng(0)})
    return check(names[1], forward=names[0], inputs=given, wrt=row["wrt"])


def _rows():
    return [pytest.param(r, id=r["name"], marks=() if r["quick"] else pytest.mark.slow) for r in BUGS]


@pytest.mark.parametrize("row", _rows())
def test_bug_without_source_is_found_and_its_cause_named(row):
    result = _check(row, "backward_buggy", "generic_inputs")
    finding = result.findings[row["finding"]]
    assert finding.failed, str(result)
    assert row["says"] in " ".join(result.diagnosis) + finding.why, str(result)
    assert max(map(len, str(result).splitlines()[1:])) <= 102
    assert len(str(result).splitlines()) <= 15


@pytest.mark.slow
@pytest.mark.parametrize("row", BUGS, ids=[r["name"] for r in BUGS])
def test_corrected_bug_without_source_is_not_accused(row):
    result = _check(row, "backward_correct", "generic_inputs")
    assert result.formula.ok, str(result)
    assert not result.kinks.failed
    assert not result.contract.failed


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS["CONTROLS"], ids=[r["name"] for r in ROWS["CONTROLS"]])
def test_right_gradient_that_looks_wrong_is_proved(row):
    result = _check(row, "backward_accused", "inputs")
    assert result.formula.ok, str(result)
    assert not result.kinks.failed
    assert not result.contract.failed
