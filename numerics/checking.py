"""Verdicts on hand-coded gradients: ``check(backward, forward=…)``.

Five findings, kept apart: the formula over the reals, the floats, the domain, the kinks, the contract.  "Not decided"
is never a pass.  See docs/checking.md for what is proved, enclosed, tested and assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..theory.errors import InputError
from . import allowance
from .allowance import Allowance
from .check_inputs import formula_points
from .check_result import CheckResult
from .findings import Counterexample, Evidence, Finding, counterexample, gather
from .float_findings import contract, is_elementwise, measure
from .float_types import float_type
from .kink_findings import kinks as kink_finding
from .preparing import Task, prepare
from .probing import Point, Sampler
from .subject import Subject, forward_floats

if TYPE_CHECKING:
    from .proving import Proof

KINK_POLICIES = ("interval", "branch", "left", "right", "midpoint")
Progress = Callable[[str], None]


def check(
    backward: Any,
    forward: Callable[..., Any] | None = None,
    against: Any = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    wrt: Sequence[str] | str | None = None,
    upstream: Any = None,
    seed: int = 0,
    dtype: str | Sequence[str] = ("float64", "float32"),
    kinks: str = "interval",
    points: int = 6,
    progress: Progress = lambda stage: None,
    black_box: bool = False,
    second: bool = False,
) -> CheckResult:
    """Judge a hand-coded gradient against the forward pass it belongs to.

    ``forward(**inputs)`` returns the output (or a tuple); ``backward(upstream, **inputs)`` the gradients in the order
    of ``wrt`` (default: every continuous input).  Give ``shapes`` (``{"x": (3, 4)}``, all inputs real) or example
    ``inputs``, which also show integers, booleans, one-hot rows and probabilities.  Instead of ``forward``,
    ``against`` names an activation, a layer (``"layer:batch_norm"``), a loss (``"loss:huber(delta=2)"``) or a formula;
    ``"optimiser:adam"`` holds a step function or an optimiser object against the update rule.
    ``kinks`` is the policy at points where the derivative jumps: ``"interval"`` accepts any value between the
    one-sided derivatives, ``"branch"`` demands the derivative of forward's branch, ``"left"``, ``"right"`` that with
    every input a little smaller, larger, ``"midpoint"`` the mean of the two.

    Also understood in place of ``backward``: a Numba function, a PyTorch ``autograd.Function``, a JAX ``custom_vjp``
    or ``custom_jvp`` function, an object with the methods ``forward`` and ``backward``.  ``black_box=True`` says that
    ``backward`` cannot run in exact arithmetic (a CUDA kernel, a compiled library): its floats are compared.
    ``second=True`` says that it is a second derivative: of ``forward`` or ``against``, a function of one number.
    ``dtype`` names the floats to measure; float16 and bfloat16 of a function of one number: every input there is.
    ``progress`` is called with the name of the finding at every step; Ctrl-C leaves the findings made so far, the
    others "not decided".

    Raises :class:`InputError` where the functions cannot be called as described.

    >>> check(lambda dy, x: dy * 2 * x, forward=lambda x: x * x, shapes={"x": (3,)}).formula.grade
    'PROVED for all shapes'
    """
    if kinks not in KINK_POLICIES:
        raise InputError(f"kinks={kinks!r}: expected one of {', '.join(KINK_POLICIES)}")
    dtypes = (dtype,) if isinstance(dtype, str) else tuple(dtype)
    for each in dtypes:
        float_type(each)
    if (row := update_rule(against)) is not None:
        from .update_check import check_update

        return check_update(backward, row, next(iter((shapes or {}).values()), (3,)), seed)
    if second:
        from .stable_forms import first_derivative

        forward, against = None, first_derivative(forward, against)
    task = prepare(backward, forward, against, shapes, inputs, wrt, seed, black_box)
    return _judge(task, upstream, seed, dtypes, kinks, points, progress)


def update_rule(against: Any) -> Any:
    """Return the optimiser's row that ``against`` names, or None."""
    named = isinstance(against, str) and against.strip().lower().startswith(("optimiser:", "optimizer:"))
    if not named and type(against).__name__ != "Optimiser":
        return None
    from .update_check import rule_of

    return rule_of(against)


INTERRUPTED = Finding("not decided", "interrupted")


@dataclass
class _Draft:
    """The findings made so far: what an interrupted check returns."""

    formula: Finding = INTERRUPTED
    floats: Finding = INTERRUPTED
    domain: Finding = INTERRUPTED
    kinks: Finding = INTERRUPTED
    contract: Finding = INTERRUPTED
    gradients: dict[str, str] = field(default_factory=dict)
    counterexample: Counterexample | None = None
    diagnosis: tuple[str, ...] = ()

    def result(self, name: str) -> CheckResult:
        return CheckResult(name, **vars(self))


def _judge(
    task: Task, upstream: Any, seed: int, dtypes: Sequence[str], policy: str, count: int, progress: Progress
) -> CheckResult:
    subject, sampler = task.subject, task.sampler
    if not subject.theory:
        first = sampler.point(seed)
        _must_run(subject, first)
        state = np.random.get_state()
        random = _is_random(subject, first)
        np.random.set_state(state)
        if random:
            reason = Finding("not decided", "forward draws random numbers: pass them in as an input, such as a mask")
            verdicts = dict.fromkeys(subject.wrt, "not decided (forward is random)")
            return CheckResult(_title(subject), reason, reason, reason, reason, reason, verdicts)
    draft, evidence = _Draft(), Evidence()
    try:
        _fill(draft, evidence, task, upstream, seed, dtypes, policy, count, progress)
    except KeyboardInterrupt:
        if draft.formula is INTERRUPTED and evidence.points:
            _partial(draft, evidence, subject)
    return draft.result(_title(subject))


def _partial(draft: _Draft, evidence: Evidence, subject: Subject) -> None:
    """Keep what the exact runs showed before the interrupt: a refutation stands, agreement is not yet a verdict."""
    formula, verdicts = _formula(subject, evidence, None)
    if formula.ok:
        formula = Finding("not decided", f"interrupted; {formula.why}")
    draft.formula, draft.gradients = formula, verdicts


def _fill(
    draft: _Draft, evidence: Evidence, task: Task, upstream: Any, seed: int, dtypes: Sequence[str], policy: str,
    count: int, progress: Progress,
) -> None:  # fmt: skip
    subject, sampler = task.subject, task.sampler
    gather(subject, formula_points(subject, sampler, task.example, seed, count), upstream, evidence, progress)
    proof = _prove(subject, sampler, evidence)
    fixed = _prove_at_shapes(subject, sampler, evidence, proof)
    draft.formula, draft.gradients = _formula(subject, evidence, proof, fixed)
    if not evidence.runs:
        reason = Finding("not decided", "the formula could not be evaluated")
        draft.floats = draft.domain = draft.kinks = draft.contract = reason
        if evidence.failures:
            draft.contract = Finding("failed", evidence.failures[0])
        return
    base = evidence.runs[0]
    draft.contract = contract(subject, base, evidence)
    if evidence.refuted:
        _explain(draft, evidence, subject, sampler, seed)
    elementwise = is_elementwise(base)
    refuted = [n for n in evidence.refuted if not evidence.refuted[n][1].why.get(n)]
    if subject.opaque and refuted:
        draft.kinks = draft.floats = draft.domain = Finding("not decided", "the floats are not those of the gradient")
        return
    proved = proof is not None and proof.complete
    floats_allowed = Allowance(allowance.FLOATS, allowance.LEAST_FLOATS, evidence.cost)
    draft.floats, draft.domain = measure(
        subject, sampler, elementwise, seed, dtypes, refuted, progress, evidence, proved, floats_allowed
    )
    if evidence.beyond:  # right at the generic points, wrong at a probe of the floats
        draft.formula, draft.gradients = _formula(subject, evidence, proof, fixed)
        _explain(draft, evidence, subject, sampler, seed)
        refuted = [n for n in evidence.refuted if not evidence.refuted[n][1].why.get(n)]
        draft.floats, draft.domain = measure(
            subject, sampler, elementwise, seed, dtypes, refuted, progress, allowed=floats_allowed
        )
    if elementwise and not evidence.refuted:
        from .sixteen_bits import with_every_input

        draft.floats, draft.domain = with_every_input(draft.floats, draft.domain, subject, base.point, dtypes, progress)
    if elementwise and not evidence.refuted and (draft.floats.failed or draft.domain.failed):
        _advise(draft, subject, base.point, tuple(dtypes))
    if evidence.refuted:
        draft.kinks = Finding("not decided", "the formula is refuted away from the kinks already")
    else:
        rounding = bool(evidence.rounding)
        kinks_allowed = Allowance(allowance.KINKS, allowance.LEAST_KINKS, evidence.cost)
        draft.kinks = kink_finding(
            subject, sampler, evidence.thresholds, elementwise, seed, policy, rounding, progress, kinks_allowed
        )


def _advise(draft: _Draft, subject: Subject, point: Point, dtypes: tuple[str, ...]) -> None:
    """Add the stable form of a derivative that is right over the reals and wrong in floats."""
    from .stable_forms import stable_form

    found = stable_form(subject, point, dtypes)
    if found is not None:
        draft.diagnosis = (*draft.diagnosis, str(found))


def _explain(draft: _Draft, evidence: Evidence, subject: Subject, sampler: Sampler, seed: int) -> None:
    from .diagnosis import diagnose

    wrong = next(iter(evidence.refuted))
    draft.counterexample = counterexample(subject, sampler, wrong, *evidence.refuted[wrong])
    lines = diagnose(subject, sampler, evidence, seed)
    if draft.contract.failed and "in place" in draft.contract.why:
        lines = (f"backward {draft.contract.why}: what it reads later is overwritten", *lines)[:4]
    if draft.contract.failed and any("not linear" in each for each in draft.contract.details.get("all", ())):
        lines = (*lines, "a term lacks the upstream gradient as a factor: yours is not linear in it")[:4]
    if subject.suspect is not None:
        own = subject.suspect(subject, evidence.refuted[wrong][0])
        lines = (own, *lines)[:4] if own else lines
    draft.diagnosis = lines or ("no standard mistake explains the difference",)


def _title(subject: Subject) -> str:
    return subject.title or str(getattr(subject.backward, "__name__", "backward"))


def _must_run(subject: Subject, point: Point) -> None:
    try:
        outputs = forward_floats(subject, point)
    except InputError:
        raise
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise InputError(f"forward raised {type(error).__name__}: {text}") from None
    if any(o is None for o in outputs):
        raise InputError("forward returned None: it must return the output")
    for k, output in enumerate(outputs):
        if not _numeric(output):
            raise InputError(
                f"forward returned {len(outputs)} value{'s' * (len(outputs) > 1)}, of which number {k + 1} is no array "
                f"of numbers ({type(output).__name__}): return the output, a tuple of outputs, or (output, cache)"
            )


def _numeric(value: object) -> bool:
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (TypeError, ValueError):
        return False


def _is_random(subject: Subject, point: Point) -> bool:
    """Tell whether forward gives different values at one point: then no gradient can be compared with it."""
    runs = [forward_floats(subject, point, keep_state=False) for _ in range(3)]
    return any(
        not np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for run in runs[1:]
        for a, b in zip(runs[0], run)
    )


def _prove(subject: Subject, sampler: Sampler, evidence: Evidence) -> Proof | None:
    """Try a proof for all shapes of the gradients that no run refuted."""
    if subject.opaque or not evidence.runs or all(n in evidence.refuted for n in subject.wrt):
        return None
    from .proving import BUDGET, LARGE_RUN, prove

    return prove(subject, sampler, evidence.refuted, BUDGET / 2 if evidence.cost > LARGE_RUN else BUDGET)


AT_SHAPES = "PROVED at these shapes"


def _counted(shapes: int) -> str:
    return f"{shapes} shape{'s' * (shapes != 1)}"


#: Shapes at which the proof at fixed shapes is tried.
SHAPES_PROVED = 3


def _prove_at_shapes(
    subject: Subject, sampler: Sampler, evidence: Evidence, proof: Proof | None
) -> tuple[dict[str, str], int]:
    """Prove at the shapes that were run what is not proved for all: per gradient why not, and how many shapes."""
    if proof is None or proof.complete:
        return {}, 0
    from .identity import prove_at

    found: dict[str, str] = {}
    shapes: dict[Any, Point] = {}
    for run in evidence.runs:
        shapes.setdefault(tuple(np.shape(v) for v in run.point.inputs.values()), run.point)
    tried = list(shapes.values())[:SHAPES_PROVED]
    for point in tried:
        for name, why in prove_at(subject, sampler, point).items():
            found[name] = found.get(name) or why
    return found, len(tried)


def _refutation(subject: Subject, names: str) -> str:
    if subject.opaque:
        return f"{names}: the floats differ from the exact value in more than half of their digits"
    return f"{names}: the enclosures of yours and true are disjoint"


def _formula(
    subject: Subject, evidence: Evidence, proof: Proof | None, fixed: tuple[Mapping[str, str], int] = ({}, 0)
) -> tuple[Finding, dict[str, str]]:
    verdicts = {}
    for name in subject.wrt:
        if name in evidence.refuted:
            why = evidence.refuted[name][1].why.get(name, "")
            verdicts[name] = f"REFUTED ({why})" if why else "REFUTED"
        elif name in evidence.open or (not evidence.agreed.get(name) and name not in evidence.rounding):
            verdicts[name] = f"not decided ({evidence.open.get(name, 'no point could be evaluated')})"
        elif name in evidence.rounding:
            verdicts[name] = "EXACT up to the rounding of constants"
        else:
            agreed = "MEASURED" if subject.opaque else AT_SHAPES if fixed[0].get(name) == "" else "EXACT"
            verdicts[name] = proof.proved.get(name, agreed) if proof is not None else agreed
    if evidence.refuted:
        names = ", ".join(n for n in subject.wrt if n in evidence.refuted)
        return Finding("failed", _refutation(subject, names), "REFUTED"), verdicts
    if any(v.startswith("not decided") for v in verdicts.values()):
        name = next(n for n, v in verdicts.items() if v.startswith("not decided"))
        return Finding("not decided", f"{name}: {verdicts[name][13:-1]}"), verdicts
    if evidence.failures and not evidence.runs:
        return Finding("failed", evidence.failures[0], "REFUTED"), verdicts
    shapes, digits = len(evidence.shapes), min(evidence.digits, 300)
    varied = ", hyper-parameters varied" if evidence.varied else ""
    text = f"equal to {digits} digits at {evidence.points} points, {_counted(shapes)}{varied}"
    if subject.opaque:
        digits = min(evidence.digits, 16)
        why = f"floats equal to {digits} digits at {evidence.points} points, {_counted(shapes)}{varied}"
        return Finding("ok", why, "MEASURED"), dict.fromkeys(subject.wrt, "MEASURED")
    if evidence.rounding:
        names = ", ".join(sorted(evidence.rounding))
        text = f"{names}: equal with its constants rounded, at {evidence.points} points, {_counted(shapes)}{varied}"
        return Finding("ok", text, "EXACT up to the rounding of constants"), verdicts
    if evidence.skipped:
        text += f" ({evidence.skipped} more left out: one run takes {evidence.cost:.2f} s)"
    if proof is not None and proof.complete:
        return Finding("ok", f"{proof.why}; {text}", proof.grade), verdicts
    grade = "EXACT"
    if proof is not None:
        text += f"; no proof for all shapes: {next(iter(proof.missing.values()))}"
    if all(verdict.startswith("PROVED") for verdict in verdicts.values()):
        grade, text = AT_SHAPES, f"one function of the inputs at {_counted(fixed[1])}, on the branches there; {text}"
    return Finding("ok", text, grade), verdicts


__all__ = ["CheckResult", "Finding", "check"]
