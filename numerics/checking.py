"""Verdicts on hand-coded gradients: ``check(backward, forward=…)``.

Five findings, kept apart: the formula over the reals, the floats, the domain, the kinks, the contract.  "Not decided"
is never a pass.  See docs/checking.md for what is proved, enclosed, tested and assumed.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..theory.errors import InputError
from .findings import Counterexample, Evidence, Finding, counterexample, gather
from .float_findings import contract, is_elementwise, measure
from .kink_findings import kinks as kink_finding
from .probing import InputKind, Point, Sampler, kind_of, numeric_options, other_shapes, shortened, word_options
from .reference import reference
from .subject import Subject, forward_floats, make_subject

if TYPE_CHECKING:
    from .proving import Proof

#: More entries than this in one input: the check moves to shorter axes where forward allows it.
MANY_ENTRIES = 400
KINK_POLICIES = ("interval", "branch")


@dataclass(frozen=True)
class CheckResult:
    """What a check found. ``str(result)`` is at most 15 lines, headline first."""

    name: str
    formula: Finding
    floats: Finding
    domain: Finding
    kinks: Finding
    contract: Finding
    gradients: Mapping[str, str] = field(default_factory=dict)
    counterexample: Counterexample | None = None
    diagnosis: tuple[str, ...] = ()

    @property
    def findings(self) -> dict[str, Finding]:
        return {n: getattr(self, n) for n in ("formula", "floats", "domain", "kinks", "contract")}

    @property
    def passed(self) -> bool:
        """True only if all five findings are ok: what is not decided does not pass."""
        return all(finding.ok for finding in self.findings.values())

    @property
    def headline(self) -> str:
        failed = [n for n, finding in self.findings.items() if finding.failed]
        if self.formula.failed:
            wrong = [n for n, verdict in self.gradients.items() if verdict.startswith("REFUTED")]
            rest = ", ".join(f"{n}: {v}" for n, v in self.gradients.items() if n not in wrong)
            return (
                f"REFUTED  {self.name}"
                + (f"  d/d{', d/d'.join(wrong)}" if wrong else "")
                + (f"  ({rest})" if rest else "")
            )
        if self.formula.ok:
            return f"{self.formula.grade}  {self.name}" + (f"  but {', '.join(failed)} failed" if failed else "")
        return f"NOT DECIDED  {self.name}" + (f"  and {', '.join(failed)} failed" if failed else "")

    def __str__(self) -> str:
        lines = [self.headline]
        lines += [f"  {line}" for line in self.diagnosis[:4]]
        if self.counterexample is not None:
            example = self.counterexample
            values = ", ".join(f"{n}={v}" for n, v in example.values.items())
            place = f"[{', '.join(map(str, example.entry))}]" if example.entry else ""
            lines += [f"  {line}" for line in _cut(f"counterexample: {values}", 2)]
            lines.append(f"  d/d{example.name}{place}: yours {example.yours}, true {example.true}")
        for name, finding in self.findings.items():
            mark = {"ok": "ok", "failed": "FAILED"}.get(finding.outcome, finding.outcome)
            lines += [f"  {line}" for line in _cut(f"{name:9}{mark}: {finding.why}", 2 if name == "formula" else 1)]
        return "\n".join(lines[:15])

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data, for JSON."""
        example = self.counterexample
        return {
            "name": self.name,
            "passed": self.passed,
            "headline": self.headline,
            "gradients": dict(self.gradients),
            "diagnosis": list(self.diagnosis),
            "findings": {
                n: {"outcome": finding.outcome, "grade": finding.grade, "why": finding.why}
                for n, finding in self.findings.items()
            },
            "counterexample": None
            if example is None
            else {
                "name": example.name,
                "entry": list(example.entry),
                "yours": example.yours,
                "true": example.true,
                "inputs": example.values,
                "reproducer": example.reproducer,
            },
        }


def _cut(text: str, count: int, width: int = 116) -> list[str]:
    lines = textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False)
    return lines if len(lines) <= count else [*lines[: count - 1], lines[count - 1][: width - 1] + "…"]


def check(
    backward: Callable[..., Any],
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
) -> CheckResult:
    """Judge a hand-coded gradient against the forward pass it belongs to.

    ``forward(**inputs)`` returns the output (or a tuple); ``backward(upstream, **inputs)`` the gradients in the order
    of ``wrt`` (default: every continuous input).  Give ``shapes`` (``{"x": (3, 4)}``, all inputs real) or example
    ``inputs``, which also show integers, booleans, one-hot rows and probabilities.  Instead of ``forward``,
    ``against`` names an activation or a formula.  ``kinks`` is the policy at points where the derivative jumps:
    ``"interval"`` accepts any value between the one-sided derivatives, ``"branch"`` the derivative of forward's branch.

    Raises :class:`InputError` where the functions cannot be called as described.

    >>> check(lambda dy, x: dy * 2 * x, forward=lambda x: x * x, shapes={"x": (3,)}).formula.grade
    'EXACT'
    """
    for function, what in ((backward, "backward"), (forward, "forward")):
        if function is not None and not callable(function):
            raise InputError(f"{what} must be a function, not {type(function).__name__}")
    if (forward is None) == (against is None):
        raise InputError("give either forward= (your forward pass) or against= (a name, a formula), and not both")
    if kinks not in KINK_POLICIES:
        raise InputError(f"kinks={kinks!r}: expected one of {', '.join(KINK_POLICIES)}")
    dtypes = (dtype,) if isinstance(dtype, str) else tuple(dtype)
    for each in dtypes:
        if each not in ("float64", "float32", "float16"):
            raise InputError(f"dtype {each!r}: expected float64, float32 or float16")
    kinds, values = _kinds(shapes, inputs, forward)
    target = forward if forward is not None else against
    forward_function, names = reference(target, backward, tuple(k.name for k in kinds))
    if not kinds:
        kinds = [InputKind(n, "real", (3, 4)) for n in names]
    if [k.name for k in kinds] != list(names):
        kinds = [InputKind(n, k.kind, k.shape, k.high, k.value) for n, k in zip(names, kinds, strict=True)]
    wanted = [wrt] if isinstance(wrt, str) else list(wrt or [k.name for k in kinds if k.continuous])
    _check_wrt(wanted, kinds)
    theory = against is not None and forward_function is not against
    subject = make_subject(backward, forward_function, names, wanted, theory)
    sampler = _valid_sampler(subject, Sampler(tuple(kinds), numeric_options(forward_function, names)), seed, values)
    return _judge(subject, sampler, _example(values, sampler, names), upstream, seed, dtypes, kinks, points)


def _kinds(
    shapes: Mapping[str, Sequence[int]] | None, inputs: Mapping[str, Any] | None, forward: Any
) -> tuple[list[InputKind], dict[str, Any] | None]:
    if shapes is None and inputs is None:
        if forward is None:
            return [], None
        raise InputError("give shapes={'x': (3, 4), …} or example inputs={'x': x, …}")
    kinds = {}
    for name, shape in (shapes or {}).items():
        try:
            sizes = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)
        except (TypeError, ValueError):
            raise InputError(f"shape of {name!r}: expected integers such as (3, 4), got {shape!r}") from None
        if any(n < 1 for n in sizes):
            raise InputError(f"shape of {name!r}: every size must be at least 1, got {sizes}")
        kinds[name] = InputKind(name, "real", sizes)
    for name, value in (inputs or {}).items():
        kind = kind_of(name, value)
        if any(n < 1 for n in kind.shape):
            raise InputError(f"input {name!r} is empty (shape {kind.shape}): give at least one entry")
        kinds[name] = kind
    order = _parameter_order(forward, list(kinds))
    return [kinds[n] for n in order], dict(inputs) if inputs else None


def _parameter_order(forward: Any, names: list[str]) -> list[str]:
    """Order the inputs as forward's signature does, and refuse names it does not have."""
    if forward is None:
        return names
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return names
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in names:
            if name not in parameters:
                raise InputError(f"forward has no argument {name!r}: it takes {', '.join(parameters)}")
    for p in parameters.values():
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in names:
            raise InputError(f"forward needs {p.name!r}: give its shape or an example")
    return sorted(names, key=lambda n: list(parameters).index(n) if n in parameters else len(parameters))


def _check_wrt(wanted: Sequence[str], kinds: Sequence[InputKind]) -> None:
    table = {k.name: k for k in kinds}
    for name in wanted:
        if name not in table:
            raise InputError(f"wrt names {name!r}, which is no input: {', '.join(table)}")
        if table[name].kind in ("integer", "boolean", "fixed"):
            raise InputError(f"wrt names {name!r}, which is {table[name].kind}: no derivative is defined")
    if not wanted:
        raise InputError("no input is a real array: nothing to differentiate by")


def _valid_sampler(subject: Subject, sampler: Sampler, seed: int, values: Mapping[str, Any] | None) -> Sampler:
    """Narrow real inputs to positive numbers, or to (0, 1), if forward is not defined elsewhere; shorten long axes."""
    sampler = _shorter(subject, sampler, seed)
    for kind in ("real", "positive", "unit"):
        trial = sampler if kind == "real" else sampler.narrowed(kind)
        if _defined(subject, trial.point(seed)):
            return trial
    return sampler


def _defined(subject: Subject, point: Point) -> bool:
    if subject.theory:
        return True
    try:
        outputs = forward_floats(subject, point)
        return all(np.isfinite(np.asarray(o, dtype=float)).all() for o in outputs)
    except (TypeError, ValueError):
        return True
    except Exception as error:
        raise InputError(f"forward raised {type(error).__name__}: {error}") from None


def _shorter(subject: Subject, sampler: Sampler, seed: int) -> Sampler:
    shapes = sampler.shape_map()
    if max((int(np.prod(s)) for s in shapes.values()), default=0) <= MANY_ENTRIES:
        return sampler
    small = sampler.resized(shortened(shapes))
    if subject.theory:
        return small
    try:
        forward_floats(subject, small.point(seed))
    except Exception:
        return sampler
    return small


def _example(values: Mapping[str, Any] | None, sampler: Sampler, names: Sequence[str]) -> Point | None:
    """Return the person's own inputs as the first point, if they are complete and small enough."""
    if not values or set(values) != set(names):
        return None
    inputs = {n: np.asarray(v) if isinstance(v, (np.ndarray, list, float)) else v for n, v in values.items()}
    inputs = {n: v.astype(float) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v for n, v in inputs.items()}
    if any(np.shape(v) != k.shape for k in sampler.kinds if k.kind != "fixed" for v in [inputs[k.name]]):
        return None
    return Point({n: inputs[n] for n in names}, dict(sampler.options), "example")


def _points(subject: Subject, sampler: Sampler, example: Point | None, seed: int, count: int) -> Iterator[Point]:
    """Yield the points of the formula finding: generic, other scales, other shapes, other hyper-parameters."""
    for k in range(count):
        yield sampler.point(seed + k, scale=(1.0, 1.0, 0.25, 4.0)[k % 4])
    if example is not None:
        yield example
    shared = subject.any_keyword or subject.cached or any(n in subject.keywords for n in sampler.options)
    if sampler.options and shared:
        passed = sampler.options if subject.cached else subject.options_of(sampler.options)
        kept = Sampler(sampler.kinds, passed)
        for k in range(2):
            yield kept.point(seed + 50 + k, vary=True, label="hyper-parameters varied")
        for words in word_options(subject.forward, passed):
            point = sampler.point(seed + 60)
            trial = Point(point.inputs, {**point.options, **words}, f"{words}", point.seed)
            if _runs(subject, trial):
                yield trial
    shapes = sampler.shape_map()

    def works(changed: Mapping[str, tuple[int, ...]]) -> bool:
        return subject.theory or _runs(subject, sampler.resized(changed).point(seed))

    for changed in other_shapes(shapes, works):
        for k in range(3):  # a dead unit may hide an axis at one point
            yield sampler.point(seed + 70 + k, shapes=changed, label="other shapes")


def _runs(subject: Subject, point: Point) -> bool:
    try:
        return all(o is not None for o in forward_floats(subject, point))
    except Exception:
        return False


def _judge(
    subject: Subject, sampler: Sampler, example: Point | None, upstream: Any, seed: int, dtypes: Sequence[str],
    policy: str, count: int,
) -> CheckResult:  # fmt: skip
    first = sampler.point(seed)
    if not subject.theory:
        _must_run(subject, first)
        state = np.random.get_state()
        random = _is_random(subject, first)
        np.random.set_state(state)
        if random:
            reason = Finding("not decided", "forward draws random numbers: pass them in as an input, such as a mask")
            verdicts = dict.fromkeys(subject.wrt, "not decided (forward is random)")
            return CheckResult(_title(subject), reason, reason, reason, reason, reason, verdicts)
    evidence = gather(subject, _points(subject, sampler, example, seed, count), upstream)
    proof = _prove(subject, sampler, evidence)
    formula, verdicts = _formula(subject, evidence, proof)
    name = _title(subject)
    if not evidence.runs:
        reason = Finding("not decided", "the formula could not be evaluated")
        failed = Finding("failed", evidence.failures[0]) if evidence.failures else reason
        return CheckResult(name, formula, reason, reason, reason, failed, verdicts)
    base = evidence.runs[0]
    elementwise = is_elementwise(base)
    refuted = [n for n in evidence.refuted if not evidence.refuted[n][1].why.get(n)]
    floats, domain = measure(subject, sampler, elementwise, seed, dtypes, refuted)
    rounding = bool(evidence.rounding)
    if evidence.refuted:
        at_kinks = Finding("not decided", "the formula is refuted away from the kinks already")
    else:
        at_kinks = kink_finding(subject, sampler, evidence.thresholds, elementwise, seed, policy, rounding)
    example_found: Counterexample | None = None
    diagnosis: tuple[str, ...] = ()
    if evidence.refuted:
        from .diagnosis import diagnose

        wrong = next(iter(evidence.refuted))
        example_found = counterexample(subject, sampler, wrong, *evidence.refuted[wrong])
        diagnosis = diagnose(subject, sampler, evidence, seed)
    behaviour = contract(subject, base, evidence)
    if evidence.refuted and behaviour.failed and "in place" in behaviour.why:
        diagnosis = (f"backward {behaviour.why}: what it reads later is overwritten", *diagnosis)[:4]
    if evidence.refuted and not diagnosis:
        diagnosis = ("no standard mistake explains the difference",)
    return CheckResult(
        name,
        formula,
        floats,
        domain,
        at_kinks,
        behaviour,
        verdicts,
        example_found,
        tuple(diagnosis),
    )


def _title(subject: Subject) -> str:
    return str(getattr(subject.backward, "__name__", "backward"))


def _must_run(subject: Subject, point: Point) -> None:
    try:
        outputs = forward_floats(subject, point)
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise InputError(f"forward raised {type(error).__name__}: {text}") from None
    if any(o is None for o in outputs):
        raise InputError("forward returned None: it must return the output")


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
    if not evidence.runs or all(n in evidence.refuted for n in subject.wrt):
        return None
    from .proving import prove

    return prove(subject, sampler)


def _formula(subject: Subject, evidence: Evidence, proof: Proof | None) -> tuple[Finding, dict[str, str]]:
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
            verdicts[name] = proof.proved.get(name, "EXACT") if proof is not None else "EXACT"
    if evidence.refuted:
        names = ", ".join(n for n in subject.wrt if n in evidence.refuted)
        return Finding("failed", f"{names}: the enclosures of yours and true are disjoint", "REFUTED"), verdicts
    if any(v.startswith("not decided") for v in verdicts.values()):
        name = next(n for n, v in verdicts.items() if v.startswith("not decided"))
        return Finding("not decided", f"{name}: {verdicts[name][13:-1]}"), verdicts
    if evidence.failures and not evidence.runs:
        return Finding("failed", evidence.failures[0], "REFUTED"), verdicts
    shapes, digits = len(evidence.shapes), min(evidence.digits, 300)
    varied = ", hyper-parameters varied" if evidence.varied else ""
    text = f"equal to {digits} digits at {evidence.points} points, {shapes} shapes{varied}"
    if evidence.rounding:
        text += f"; the constants in {', '.join(sorted(evidence.rounding))} are rounded"
        return Finding("ok", text, "EXACT up to the rounding of constants"), verdicts
    if proof is not None and proof.complete:
        return Finding("ok", f"{proof.why}; {text}", "PROVED for all shapes"), verdicts
    if proof is not None:
        text += f"; no proof for all shapes: {next(iter(proof.missing.values()))}"
    return Finding("ok", text, "EXACT"), verdicts


__all__ = ["CheckResult", "Finding", "check"]
