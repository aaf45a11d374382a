"""Find the one edit of backward's source that makes its gradients exact: the mistake, as the line that would be right.

Candidates come from :mod:`.edits`; floats sort them out, exact arithmetic decides: a repair that is named gives the
true gradient, in 100 digits, at every point and shape that is at hand.
"""

from __future__ import annotations

import ast
import contextlib
import io
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .code_edits import code_edits
from .edits import Edit, edits, scope_of
from .findings import compare
from .sources import recompiled, source_tree
from .subject import ExactRun, Subject, gradients, run_exact

#: CPU seconds for the search; thousands of edits are tried in it.
BUDGET = 1.5
#: Relative difference up to which floats may be the true gradient.
NEAR = 1e-6


@dataclass(frozen=True)
class Repair:
    """A line of a function, what it says and what it must say."""

    function: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line} of {self.function}: {self.text}"


def _dedented(before: str, after: str) -> str:
    if after.startswith("if True:"):
        return "the return stands inside the loop: it must follow it"
    return f"{before}  must be  {after}"


def repair(subject: Subject, runs: Sequence[ExactRun], wrong: Sequence[str]) -> Repair | None:
    """Return a single edit of backward, or of a function it calls, that makes the gradients ``wrong`` right.

    The gradients that are right already stay right.  None where no source is at hand or no edit was found in time.
    """
    deadline = time.process_time() + BUDGET
    if subject.opaque or subject.shipped is not None or not runs:
        return None
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for described, candidate in _candidates(subject, runs[0]):
            if time.process_time() > deadline:
                return None
            changed = replace(subject, backward=candidate)
            if _near(changed, runs[:2], wrong) and _exact(changed, runs, wrong):
                return described()
    return None


def _candidates(subject: Subject, run: ExactRun) -> Iterator[tuple[Callable[[], Repair], Callable[..., Any]]]:
    """Changed backwards, each with what writes the change down: writing costs more than trying."""
    backward = subject.backward
    if source_tree(backward) is None:
        for line, text, made in code_edits(backward):
            yield partial(Repair, backward.__name__, line, text), made
    functions: list[Any] = [backward, *_helpers(backward)]
    for function in functions:
        tree = source_tree(function)
        if tree is None or any(isinstance(n, ast.While) for n in ast.walk(tree)):
            continue  # an edit could make a while loop endless
        inputs = [n for n, v in run.point.inputs.items() if np.ndim(v)]
        for edit in edits(tree, scope_of(tree, tuple(run.point.options), inputs)):
            old = edit.apply()
            made = recompiled(tree, function)
            edit.undo(old)
            if made is not None:
                candidate = made if function is backward else _calling(backward, function, made)
                yield partial(_described, function, edit), candidate


def _described(function: Any, edit: Edit) -> Repair:
    return Repair(function.__name__, edit.line, _dedented(*edit.words()))


def _helpers(backward: Any) -> list[types.FunctionType]:
    """Return the functions of the person's module that backward calls by name."""
    if not isinstance(backward, types.FunctionType):
        return []
    named = [backward.__globals__.get(n) for n in backward.__code__.co_names]
    return [f for f in named if isinstance(f, types.FunctionType) and f.__globals__ is backward.__globals__]


def _calling(backward: Any, helper: Any, made: Any) -> Callable[..., Any]:
    scope = {n: made if v is helper else v for n, v in backward.__globals__.items()}
    copy = types.FunctionType(backward.__code__, scope, backward.__name__, backward.__defaults__, backward.__closure__)
    copy.__kwdefaults__ = backward.__kwdefaults__
    return copy


def _near(subject: Subject, runs: Sequence[ExactRun], wrong: Sequence[str]) -> bool:
    """Tell whether the floats of a candidate are the true gradients at two points, as far as floats can say."""
    for run in runs:
        inputs = {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in run.point.inputs.items()}
        parts = [np.array(u) for u in run.upstream]
        upstream = parts[0] if len(parts) == 1 else tuple(parts)
        try:
            with np.errstate(all="ignore"):
                cache = subject.call_forward(inputs, run.point.options)[1] if subject.cached else None
                found = gradients(subject, subject.call_backward(upstream, inputs, run.point.options, cache))
            if not all(_close(found[n], run, n) for n in subject.wrt):
                return False
        except Exception:
            return False
    return True


def _close(value: Any, run: ExactRun, name: str) -> bool:
    true = _floats(run.true[name])
    array = np.asarray(value, dtype=float)
    if array.shape != true.shape:
        return False
    return bool(np.abs(array - true).max(initial=0.0) <= NEAR * max(float(np.abs(true).max(initial=0.0)), 1e-300))


def _floats(array: Any) -> Any:
    return np.array([float(ball.value) for ball in array.reshape(-1)]).reshape(array.shape)


def _exact(subject: Subject, runs: Sequence[ExactRun], wrong: Sequence[str]) -> bool:
    for run in runs:
        try:
            outcome = compare(run_exact(subject, run.point, upstream=_given(run))).outcome
        except Exception:
            return False
        if any(outcome[n] != "same" for n in subject.wrt):
            return False
    return True


def _given(run: ExactRun) -> Any:
    return run.upstream[0] if len(run.upstream) == 1 else tuple(run.upstream)
