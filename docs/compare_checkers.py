"""Real gradient checkers and backproof over the sample of bugs in tests/corpus, as a table in Markdown.

Run from anywhere: ``python docs/compare_checkers.py`` (``--json`` for data, ``--more`` for the second collection).
A checker that is not installed is left out.  Each gets the inputs that its user would give: random ones of the shapes
of the example, and its own default tolerances; ``scipy.optimize.check_grad`` has none, so 1e-4 of the size of the
gradient stands in.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import linecache
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from backproof.numerics import check

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus"
SCIPY_TOLERANCE = 1e-4


def function(source: str, name: str) -> Callable[..., Any]:
    """Return a function from its source in the corpus, which is registered as if it stood in a file."""
    names: dict[str, Any] = {}
    file = f"<row {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    return names[name]  # type: ignore[no-any-return]


def inputs_of(row: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the example inputs of a row, with a seeded generator."""
    return dict(eval(row[key], {"np": np, "rng": np.random.default_rng(0)}))


def _split(forward: Any, backward: Any, inputs: dict[str, Any], wrt: list[str]) -> tuple[Any, Any]:
    """Return value and gradients as functions of the inputs in ``wrt`` alone, in their order."""

    def table(values: Any) -> dict[str, Any]:
        return {**inputs, **dict(zip(wrt, values, strict=True))}

    def value(*values: Any) -> Any:
        return np.asarray(forward(**table(values)), dtype=float)

    def gradients(upstream: Any, *values: Any) -> list[Any]:
        returned = backward(upstream, **table(values))
        returned = returned if isinstance(returned, (tuple, list)) else (returned,)
        return [np.broadcast_to(np.asarray(g, dtype=float), np.shape(v)) for g, v in zip(returned, values, strict=True)]

    return value, gradients


def torch_gradcheck(value: Any, gradients: Any, arrays: list[Any]) -> bool:
    """``torch.autograd.gradcheck`` with its defaults: float64, eps 1e-6, atol 1e-5, rtol 1e-3."""
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            return torch.tensor(value(*(t.numpy().copy() for t in tensors)))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            found = gradients(dy.numpy().copy(), *(t.detach().numpy().copy() for t in ctx.saved_tensors))
            return tuple(torch.tensor(np.array(g)) for g in found)

    tensors = [torch.tensor(np.asarray(a, dtype=float), requires_grad=True) for a in arrays]
    return bool(torch.autograd.gradcheck(Function.apply, tensors))


def jax_check_grads(value: Any, gradients: Any, arrays: list[Any]) -> bool:
    """``jax.test_util.check_grads`` with its defaults, in float64, reverse mode."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    shape = jax.ShapeDtypeStruct(np.shape(value(*arrays)), np.float64)

    @jax.custom_vjp
    def f(*values: Any) -> Any:
        return jax.pure_callback(lambda *v: value(*(np.array(a) for a in v)), shape, *values)

    def back(values: Any, dy: Any) -> Any:
        shapes = tuple(jax.ShapeDtypeStruct(np.shape(a), np.float64) for a in arrays)
        call = lambda u, *v: tuple(np.array(g) for g in gradients(np.array(u), *(np.array(a) for a in v)))  # noqa: E731
        return jax.pure_callback(call, shapes, dy, *values)

    f.defvjp(lambda *values: (f(*values), values), back)
    check_grads(f, tuple(jax.numpy.asarray(a, dtype=float) for a in arrays), order=1, modes=["rev"])
    return True


def scipy_check_grad(value: Any, gradients: Any, arrays: list[Any]) -> bool:
    """``scipy.optimize.check_grad`` of the sum of the outputs, with its default step."""
    from scipy.optimize import check_grad

    shapes = [np.shape(a) for a in arrays]
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

    def parts(vector: Any) -> list[Any]:
        return [p.reshape(s) for p, s in zip(np.split(vector, cuts), shapes, strict=True)]

    def total(vector: Any) -> float:
        return float(value(*parts(vector)).sum())

    def slope(vector: Any) -> Any:
        values = parts(vector)
        found = gradients(np.ones(np.shape(value(*values))), *values)
        return np.concatenate([np.asarray(g).ravel() for g in found])

    start = np.concatenate([np.asarray(a, dtype=float).ravel() for a in arrays])
    error = float(check_grad(total, slope, start, seed=0))
    return bool(error <= SCIPY_TOLERANCE * max(1.0, float(np.abs(slope(start)).max())))


CHECKERS: dict[str, tuple[str, Callable[..., bool]]] = {
    "torch gradcheck": ("torch", torch_gradcheck),
    "JAX check_grads": ("jax", jax_check_grads),
    "SciPy check_grad": ("scipy", scipy_check_grad),
}


def installed() -> dict[str, Callable[..., bool]]:
    """Return the checkers whose library is installed."""
    return {n: run for n, (library, run) in CHECKERS.items() if importlib.util.find_spec(library) is not None}


def verdict(run: Callable[..., bool], row: dict[str, Any], backward: str, key: str) -> str:
    """Return ``passes`` or ``fails`` (an exception of the checker is its way to fail)."""
    inputs = inputs_of(row, key)
    forward = function(row["forward"], "forward")
    value, gradients = _split(forward, function(row[backward], "backward"), inputs, row["wrt"])
    arrays = [np.asarray(inputs[n], dtype=float) for n in row["wrt"]]
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return "passes" if run(value, gradients, arrays) else "fails"
        except Exception:
            return "fails"


def ours(row: dict[str, Any], backward: str, key: str) -> tuple[str, str]:
    """Return the findings that failed (or the grade), and the first line of the diagnosis or reason."""
    policy = "branch" if row.get("category") == "kink" else "interval"
    result = check(
        function(row[backward], "backward"), forward=function(row["forward"], "forward"), inputs=inputs_of(row, key),
        wrt=row["wrt"], kinks=policy,
    )  # fmt: skip
    failed = [name for name, finding in result.findings.items() if finding.failed]
    if not failed:
        return result.formula.grade or result.formula.outcome, ""
    why = result.diagnosis[0] if result.diagnosis else result.findings[failed[0]].why
    return f"{', '.join(failed)} failed", why


def tables() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows for the bugs and for the controls."""
    bugs = json.loads((CORPUS / "bugs.json").read_text())
    if "--more" in sys.argv[1:]:
        bugs = runpy.run_path(str(CORPUS / "more_bugs.py"))["BUGS"]
    controls = json.loads((CORPUS / "controls.json").read_text())
    found: tuple[list[dict[str, str]], list[dict[str, str]]] = ([], [])
    for rows, out, backward, key in ((bugs, found[0], "backward_buggy", "generic_inputs"),
                                     (controls, found[1], "backward_accused", "inputs")):  # fmt: skip
        for row in rows:
            line = {"name": row["name"]}
            line |= {n: verdict(run, row, backward, key) for n, run in installed().items()}
            line["backproof"], line["says"] = ours(row, backward, key)
            out.append(line)
    return found


def markdown(rows: list[dict[str, str]]) -> str:
    """Write rows as a table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [cell if len(cell) <= 90 else cell[:89] + "…" for cell in row.values()]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    bugs, controls = tables()
    if "--json" in sys.argv[1:]:
        print(json.dumps({"bugs": bugs, "controls": controls}, indent=1, ensure_ascii=False))
        return
    print("Wrong gradients (a checker should fail)\n")
    print(markdown(bugs))
    for name in installed():
        print(f"\n{name}: {sum(row[name] == 'passes' for row in bugs)} of {len(bugs)} wrong gradients pass", end="")
    print(f"\nbackproof: {sum('failed' not in row['backproof'] for row in bugs)} of {len(bugs)} wrong gradients pass\n")
    print("Right gradients that were accused (a checker should pass)\n")
    print(markdown(controls))


if __name__ == "__main__":
    main()
