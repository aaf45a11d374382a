"""Hypotheses on a whole gradient: that yours is the right gradient of something else.

Of another input, of forward at other values of its hyper-parameters or inputs, of another activation or loss, or no
gradient at all but what came in from above.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flint import arb

from ..theory.errors import InputError
from .exact_scalars import Ball, lift
from .float_findings import is_elementwise
from .probing import Point
from .subject import ExactRun, Subject, entries, run_exact

Arrays = Any  # object arrays of balls


@dataclass(frozen=True)
class Suspicion:
    """A sentence, and the gradient it predicts at a run (None where it does not apply)."""

    sentence: str
    predict: Any  # a function of an ExactRun


def other_points(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Yield hypotheses that yours is a gradient of forward by another input, or at another point."""
    yield from _upstream(subject, run, name)
    yield from _other_inputs(subject, run, name)
    yield from _other_options(subject, run, name)
    yield from _other_values(subject, run, name)


def other_functions(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Yield hypotheses that yours is the gradient of another activation or loss of the tables."""
    yield from _other_activations(run, name)
    yield from _other_losses(run, name)


def _upstream(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    if not subject.accepts_upstream or len(run.upstream) != 1:
        return
    yield Suspicion(
        f"yours is the upstream gradient itself: the derivative of {_what(run, name)} is missing",
        lambda r: _balls(r.upstream[0]),
    )
    yield from (
        Suspicion(
            "the upstream gradient is ignored: yours is the gradient for an upstream gradient of ones",
            lambda r, n=n: _true(subject, r, n, upstream=[np.ones(np.shape(u)) for u in r.upstream]),
        )
        for n in run.true
    )


def _what(run: ExactRun, name: str) -> str:
    """Name forward where it is one of the activations that everybody knows."""
    from .links import known_function

    inputs, outputs = entries(run.leaves[name]), entries(run.outputs[0])
    return (known_function(inputs, outputs) if inputs.shape == outputs.shape else None) or "forward"


def _other_inputs(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Real inputs that wrt does not name: their gradients are on the tape all the same."""
    for other, value in run.point.inputs.items():
        if other not in run.true and isinstance(value, np.ndarray) and value.dtype.kind == "f":
            yield Suspicion(
                f"yours is the gradient with respect to {other}",
                lambda r, o=other: _true(replace(subject, wrt=(o,)), r, o),
            )


def _other_options(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A hyper-parameter that backward ignores, or has at a value of its own."""
    for option, value in run.point.options.items():
        if not isinstance(value, float):
            continue
        default = _default(subject, option)
        for fixed in dict.fromkeys(v for v in (default, 1.0, 0.0, 2.0, 0.5) if v is not None):
            said = f" ({option} = {fixed:g}, its default)" if fixed == default else f" ({option} = {fixed:g})"
            yield Suspicion(
                f"{option} is ignored: yours is the gradient for one value of it{said}, whatever {option} is",
                lambda r, o=option, v=fixed: _true(subject, r, name, options={**r.point.options, o: v}),
            )


def changed_options(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Yield that backward has a function of a hyper-parameter for it: its square, or ε·K/(K − 1) for ε."""
    for option, value in run.point.options.items():
        for text, _ in _functions_of(value, run) if isinstance(value, float) else ():
            yield Suspicion(
                f"yours is the gradient for {text.format(o=option)} in place of {option}",
                lambda r, o=option, t=text: _function_of_option(subject, r, name, o, t),
            )


def _functions_of(option: float, run: ExactRun) -> Iterator[tuple[str, Any]]:
    """Yield what a hyper-parameter is mistaken for, in words and as a number at a run (None: not defined there)."""
    value = lift(option)
    yield "{o}²", value * value
    yield "√{o}", value**0.5 if option >= 0 else None
    yield "1/{o}", 1 / value if option else None
    yield "2·{o}", 2 * value
    yield "{o}/2", value / 2
    yield "1 − {o}", 1 - value
    yield "−{o}", -value
    for name, array in run.point.inputs.items():
        for axis, size in enumerate(np.shape(array)):
            n = f"{name}.shape[{axis}]"
            yield f"{{o}}·{n}/({n} − 1)", value * size / (size - 1) if size > 1 else None
            yield f"{{o}}/({n} − 1)", value / (size - 1) if size > 1 else None
            yield f"{{o}}/{n}", value / size
            yield f"{{o}}·{n}", value * size


def _function_of_option(subject: Subject, run: ExactRun, name: str, option: str, text: str) -> Arrays | None:
    value = dict(_functions_of(run.point.options[option], run)).get(text)
    if value is None:
        return run.yours[name]  # not defined at these sizes; the others decide
    return _true(subject, run, name, options={**run.point.options, option: value})


def _default(subject: Subject, option: str) -> Any:
    import inspect

    try:
        return inspect.signature(subject.forward).parameters[option].default
    except (TypeError, ValueError, KeyError):
        return None


def _other_values(subject: Subject, run: ExactRun, name: str) -> Iterator[Suspicion]:
    """A mask left out, an array negated (a rotation) or reversed (a convolution for a correlation)."""
    for other, value in run.point.inputs.items():
        if not isinstance(value, np.ndarray) or not value.ndim:
            continue
        if value.dtype.kind == "b" or np.isin(value, (0.0, 1.0)).all():
            yield Suspicion(
                f"{other} is ignored: yours is the gradient without that mask",
                lambda r, o=other: _true(subject, r, name, inputs={o: np.ones_like(r.point.inputs[o])}),
            )
        elif value.dtype.kind == "f" and other != name:
            yield Suspicion(
                f"yours is the gradient for −{other}: the sign of {other} is wrong in backward",
                lambda r, o=other: _true(subject, r, name, inputs={o: -r.point.inputs[o]}),
            )
            for axes in [*((k,) for k in range(value.ndim)), *([tuple(range(value.ndim))] if value.ndim > 1 else [])]:
                yield Suspicion(
                    f"{other} is read in reverse order (axis {', '.join(map(str, axes))})",
                    lambda r, o=other, a=axes: _true(subject, r, name, inputs={o: np.flip(r.point.inputs[o], a)}),
                )


def _true(
    subject: Subject, run: ExactRun, name: str, *, inputs: Any = None, options: Any = None, upstream: Any = None
) -> Arrays | None:
    """Return the true gradient at a changed point, in the runs' arithmetic."""
    point = replace(run.point, inputs={**run.point.inputs, **(inputs or {})}, options=options or run.point.options)
    given = run.upstream if upstream is None else upstream
    try:
        return run_exact(
            subject, point, upstream=given[0] if len(given) == 1 else tuple(given), only_true=True
        ).true.get(name)
    except Exception:
        return None


def _balls(array: Any) -> Arrays:
    out = np.empty(np.shape(array), dtype=object)
    for spot in np.ndindex(*out.shape):
        out[spot] = Ball(arb(float(np.asarray(array)[spot])))
    return out


# Other functions -----------------------------------------------------------------------------------------------------
def _other_activations(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Another function of the table: the exact GELU for its tanh form, SiLU for Mish, one that is near by name."""
    if len(run.true) != 1 or not is_elementwise(run):
        return
    from ..theory.activations import ACTIVATIONS

    yield from (
        Suspicion(
            f"yours is the gradient of {row.name}, which is not what forward computes",
            lambda r, row=row: _of_activation(row, r, name),
        )
        for row in ACTIVATIONS.values()
    )


def _of_activation(row: Any, run: ExactRun, name: str) -> Arrays | None:
    try:
        forward = activation_forward(row.name)
        subject = Subject(forward, forward, (name,), (name,), True, False, (name,), False)
        point = Point({name: run.point.inputs[name]}, {}, run.point.label, run.point.seed)
        return run_exact(subject, point, upstream=run.upstream[0], only_true=True).true[name]
    except Exception:
        return None


@functools.cache
def activation_forward(name: str) -> Callable[..., Any]:
    """Return an activation of the table as a function of one exact array, of whatever name."""
    from ..theory.activations import ACTIVATIONS
    from ..theory.symbols import x
    from .reference import expression_function

    expression = expression_function(ACTIVATIONS[name].expr, {"x": x})
    return lambda **given: expression(x=next(iter(given.values())))


def _other_losses(run: ExactRun, name: str) -> Iterator[Suspicion]:
    """Another loss of the table, or another reduction, of the same two arrays."""
    real = [n for n, v in run.point.inputs.items() if isinstance(v, np.ndarray) and v.ndim]
    shapes = {np.shape(run.point.inputs[n]) for n in real}
    if len(real) != 2 or name != real[0] or len(run.outputs) != 1 or len(shapes) > 1:
        return
    from ..theory.losses import LOSSES

    for loss in LOSSES:
        for logits in ("", "logits=yes, "):
            for reduction in ("mean", "sum", "none"):
                yield Suspicion(
                    f"yours is the gradient of loss:{loss}({logits}reduction={reduction})",
                    lambda r, spec=f"loss:{loss}({logits}reduction={reduction})": _of_loss(spec, r, real),
                )


def _of_loss(spec: str, run: ExactRun, names: list[str]) -> Arrays | None:
    forward = _loss_forward(spec)
    if forward is None:
        return None
    first, second = names
    try:
        subject = Subject(
            forward, lambda **v: forward(v[first], v[second]), tuple(names), (first,), True, False, tuple(names), False
        )
        point = Point({n: run.point.inputs[n] for n in names}, {}, run.point.label, run.point.seed)
        return run_exact(subject, point, upstream=run.upstream[0], only_true=True).true[first]
    except Exception:
        return None


@functools.cache
def _loss_forward(spec: str) -> Callable[..., Any] | None:
    from .row_references import row_reference

    try:
        row = row_reference(spec, lambda prediction, target: None)
    except InputError:
        return None
    return None if row is None or len(row.kinds) != 2 else row.forward
