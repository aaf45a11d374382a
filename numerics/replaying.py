"""Replay of a printed counterexample: the point is read, both gradients are evaluated exactly and shown."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .findings import compact, compare, show
from .preparing import Task
from .probing import Point
from .subject import run_exact


def replayed(text: str, task: Task) -> tuple[Point, Any]:
    """Read a printed counterexample, ``x=[1, 2], w=[2, 1], upstream=[1, 0]``: the point and the upstream gradient.

    Raises :class:`InputError` where a name is unknown, missing, or a value is no number, list, word or switch.
    """
    text = text.strip().removeprefix("counterexample:").strip()
    if len(text) > 100_000:
        raise InputError("the counterexample is too long to read")
    if "…" in text:
        raise InputError("the counterexample was cut off (…): take the whole from --json")
    try:
        tree = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(tree, ast.Call)
        values = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
        positional = bool(tree.args)
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
        raise InputError(f"{text[:60]!r}: expected NAME=VALUE, … as a counterexample is printed") from None
    if positional or "None" in values:
        raise InputError(f"{text[:60]!r}: expected NAME=VALUE, … as a counterexample is printed")
    upstream = values.pop("upstream", None)
    kinds = {k.name: k for k in task.sampler.kinds}
    missing = [n for n in kinds if n not in values]
    if missing:
        raise InputError(f"the counterexample gives no {missing[0]!r}: it needs {', '.join(kinds)}")
    unknown = [n for n in values if n not in kinds and n not in task.sampler.options]
    if unknown:
        raise InputError(f"the counterexample gives {unknown[0]!r}, which is no input: {', '.join(kinds)}")
    inputs = {n: _array(n, values[n], kinds[n].kind) for n in kinds}
    options = {n: values.get(n, default) for n, default in task.sampler.options.items()}
    parts = None
    if upstream is not None:
        many = isinstance(upstream, tuple)
        parts = [_array("upstream", u, "real") for u in (upstream if many else (upstream,))]
    return Point(inputs, options, "replayed"), parts


def _array(name: str, value: Any, kind: str) -> Any:
    if kind == "fixed":
        return value
    try:
        array = np.asarray(value, dtype=int if kind == "integer" else bool if kind == "boolean" else float)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}={str(value)[:40]}: expected a number or nested lists of numbers of one length"
        ) from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name}: the values must be finite")
    return array


def replay(task: Task, text: str) -> tuple[bool, str, dict[str, Any]]:
    """Run a printed counterexample exactly: whether all gradients agree, the text for people, and the data."""
    point, upstream = replayed(text, task)
    given = None if upstream is None else (upstream[0] if len(upstream) == 1 else tuple(upstream))
    try:
        run = run_exact(task.subject, point, upstream=given)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the functions cannot be run there: {type(error).__name__}: {error}") from None
    if upstream is not None and [np.shape(u) for u in run.upstream] != [np.shape(u) for u in upstream]:
        shapes = ", ".join(str(np.shape(u)) for u in run.upstream)
        raise InputError(f"upstream has another shape than the output, {shapes}")
    comparison = compare(run)
    lines, data = [], {}
    for name, outcome in comparison.outcome.items():
        yours, true = run.yours[name], run.true[name]
        word = {"same": "equal", "different": "DIFFERENT", "open": "not decided"}[outcome]
        mine = "None" if yours is None else compact(_floats(yours))
        lines.append(f"d/d{name}  {word}" + (f" ({comparison.why[name]})" if comparison.why.get(name) else ""))
        lines.append(f"  yours {mine}")
        lines.append(f"  true  {compact(_floats(true))}")
        spot = comparison.entry.get(name, ())
        data[name] = {"outcome": word.lower(), "yours": mine, "true": compact(_floats(true)), "entry": list(spot)}
        if outcome == "different" and yours is not None and spot and yours.shape == true.shape:
            lines.append(f"  at {list(spot)}: yours {show(yours[spot].value)}, true {show(true[spot].value)}")
    agreed = all(outcome == "same" for outcome in comparison.outcome.values())
    return agreed, "\n".join(lines), data


def _floats(array: Any) -> Any:
    return np.vectorize(lambda ball: float(f"{float(ball.value.mid()):.6g}"), otypes=[float])(array)
