"""From what a person hands to ``check`` to a task: the pair of functions, how inputs are drawn, the example point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..theory.errors import InputError
from .adapters import Given, adapt
from .check_inputs import check_wrt, example_point, read_kinds, valid_sampler
from .probing import InputKind, Point, Sampler, numeric_options
from .reference import reference
from .subject import Subject, make_subject


@dataclass(frozen=True)
class Task:
    """What is checked: the functions, the inputs, and the person's own example."""

    subject: Subject
    sampler: Sampler
    example: Point | None = None


def prepare(
    backward: Any,
    forward: Callable[..., Any] | None = None,
    against: Any = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    wrt: Sequence[str] | str | None = None,
    seed: int = 0,
    black_box: bool = False,
) -> Task:
    """Return the task that ``check`` describes; its arguments are those of :func:`backproof.numerics.check`."""
    given = adapt(Given(backward, forward, against, shapes, inputs, wrt))
    backward, forward, against = given.backward, given.forward, given.against
    shapes, inputs, wrt = given.shapes, given.inputs, given.wrt
    for function, what in ((backward, "backward"), (forward, "forward")):
        if function is not None and not callable(function):
            raise InputError(f"{what} must be a function, not {type(function).__name__}")
    if (forward is None) == (against is None):
        raise InputError("give either forward= (your forward pass) or against= (a name, a formula), and not both")
    kinds, values = read_kinds(shapes, inputs, forward)
    found = reference(forward if forward is not None else against, backward, {k.name: k for k in kinds})
    names = found.names
    if found.kinds:
        kinds = list(found.kinds)
        values = values if values and set(values) == set(names) else None
    if not kinds:
        kinds = [InputKind(n, "real", (3, 4)) for n in names]
    if [k.name for k in kinds] != list(names):
        kinds = [replace(k, name=n) for n, k in zip(names, kinds, strict=True)]
    kinds = _differentiable(kinds, [wrt] if isinstance(wrt, str) else list(wrt or found.wrt or ()))
    wanted = [wrt] if isinstance(wrt, str) else list(wrt or found.wrt or [k.name for k in kinds if k.continuous])
    check_wrt(wanted, kinds)
    subject = make_subject(backward, found.forward, names, wanted, found.theory)
    subject = replace(
        subject, title=given.title, shipped=given.shipped, opaque=given.opaque or black_box, extra=given.extra,
        notes=given.notes, suspect=given.suspect,
    )  # fmt: skip
    owner = getattr(given.extra, "__self__", None)
    if owner is not None:
        owner.subject = subject  # a framework's rules are held against the exact run of this subject
    sampler = valid_sampler(subject, Sampler(tuple(kinds), numeric_options(found.forward, names)), seed)
    return Task(subject, sampler, example_point(values, sampler, names))


def _differentiable(kinds: list[InputKind], wanted: list[str]) -> list[InputKind]:
    """Read an example of ±1 as labels only where no gradient with respect to it is asked for."""
    alone = not wanted and not any(k.continuous for k in kinds)
    return [replace(k, kind="real") if k.kind == "sign" and (alone or k.name in wanted) else k for k in kinds]
