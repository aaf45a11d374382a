"""Proof for all shapes: forward and backward are traced on symbols, the derived gradient is compared by normal form."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from ..theory import tensors as t
from ..theory.abstraction import Abstraction
from ..theory.backprop import vjp
from ..theory.equality import equal
from ..theory.errors import InputError, Unsupported
from ..theory.monomials import Work
from ..theory.normal_form import normal_form, vanishes
from ..theory.places import has_places, pick, settle, unroll
from ..theory.walking import inputs
from .exact_modules import exact_modules
from .exact_scalars import exact_arithmetic
from .probing import InputKind, Sampler, word_options
from .subject import Subject, gradients
from .symbolic_arrays import Place, Session, SymbolicArray, axes_of, fitted, make
from .symbolic_sizes import Demand, Sizes, Untraceable

#: The grades: every axis free, or only some.
ALL_SHAPES, FREE_AXES = "PROVED for all shapes", "PROVED for all shapes of the free axes"
#: How many entries along axes of fixed length are compared one by one.
MOST_ENTRIES = 48
#: Seconds of processor time for one proof; half as many where one exact run takes so long that it loops over entries.
BUDGET, LARGE_RUN = 6.0, 0.1
#: How often the code may demand something of sizes before the tracer gives up.
DEMANDS = 60


@dataclass(frozen=True)
class Proof:
    """What was proved, per gradient, and under which facts; ``missing`` says why a gradient is not proved."""

    proved: Mapping[str, str]
    missing: Mapping[str, str]
    why: str
    grade: str = ALL_SHAPES

    @property
    def complete(self) -> bool:
        return not self.missing


def prove(subject: Subject, sampler: Sampler, refuted: Collection[str] = (), seconds: float = BUDGET) -> Proof:
    """Prove the gradients for all shapes; what cannot be traced is in ``missing`` with the reason.

    The names in ``refuted`` are known to be wrong: no time is spent on them.
    """
    proved: dict[str, str] = {}
    missing: dict[str, str] = {}
    facts, grade = "", ALL_SHAPES
    settings: list[dict[str, Any]] = [{}]
    if not subject.theory and any(n in subject.keywords or subject.any_keyword for n in sampler.options):
        settings += [w for w in word_options(subject.forward, sampler.options) if _valid(subject, sampler, w)]
    deadline = time.process_time() + seconds
    for words in settings:
        try:
            with Work.until(deadline):
                found, given, conditions = _prove_once(subject, sampler, words, deadline, refuted)
        except Exception as error:  # whatever the tracer cannot do leaves the verdict to the exact runs
            reason = f"not traced: {_said(error)}"
            return Proof({}, dict.fromkeys(subject.wrt, reason), reason)
        if not words:
            facts = given
        if any(" = " in each for each in conditions):
            grade = FREE_AXES
        for name, outcome in found.items():
            if outcome:
                missing.setdefault(name, outcome)
            else:
                proved[name] = grade
    kept = {n: grade for n in proved if n not in missing}
    return Proof(kept, missing, facts, grade)


def _said(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _valid(subject: Subject, sampler: Sampler, words: Mapping[str, Any]) -> bool:
    from .probing import Point
    from .subject import forward_floats

    point = sampler.point(0)
    try:
        forward_floats(subject, Point(point.inputs, {**point.options, **words}, "words"))
    except Exception:
        return False
    return True


def _prove_once(
    subject: Subject, sampler: Sampler, words: Mapping[str, Any], deadline: float, refuted: Collection[str] = ()
) -> tuple[dict[str, str], str, list[str]]:
    sizes = Sizes({k.name: k.shape for k in sampler.kinds})
    for _ in range(DEMANDS):
        try:
            return _traced(subject, sampler, sizes, words, deadline, refuted)
        except Demand as demand:
            sizes.grant(demand)
        if time.process_time() > deadline:
            raise Untraceable("the proof takes too long")
        if not any(part.free_symbols for parts in sizes.parts.values() for part in parts):
            raise Untraceable("every axis is of fixed length")
    raise Untraceable("too many sizes meet")


def _input(kind: InputKind, sizes: Sizes) -> Any:
    if kind.kind == "fixed":
        return kind.value
    axes = sizes.axes(kind)
    present = axes_of(axes)
    if kind.kind == "integer" and kind.negative:
        raise Untraceable(f"{kind.name} holds negative integers")
    if kind.kind == "integer":
        return SymbolicArray(make.Input(kind.name, present), axes, "labels")
    last = present[-1].name if present else ""
    facts = {
        "one_hot": lambda: (t.one_hot(last),),
        "probability": lambda: (t.sums_to_one(last),),
        "positive": lambda: (t.POSITIVE,),
        "unit": lambda: (t.POSITIVE,),
        "boolean": lambda: (t.BOOLEAN,),
        "binary": lambda: (t.BOOLEAN,),
    }.get(kind.kind, lambda: ())()
    return SymbolicArray(make.Input(kind.name, present, facts), axes, "mask" if kind.kind == "boolean" else "real")


def _options(sampler: Sampler, words: Mapping[str, Any]) -> dict[str, Any]:
    """Float hyper-parameters are symbols; words, switches and integers keep their values."""
    made: dict[str, Any] = {}
    for name, value in {**sampler.options, **words}.items():
        if isinstance(value, float):
            symbol = sympy.Symbol(name, real=True, positive=True) if value > 0 else sympy.Symbol(name, real=True)
            made[name] = SymbolicArray(make.Scalar(symbol), ())
        else:
            made[name] = value
    return made


def _traced(
    subject: Subject,
    sampler: Sampler,
    sizes: Sizes,
    words: Mapping[str, Any],
    deadline: float,
    refuted: Collection[str],
) -> tuple[dict[str, str], str, list[str]]:
    session = Session(sizes.values)
    with exact_arithmetic(symbolic=session):
        options = _options(sampler, words)
        shared = options if subject.cached else subject.options_of(options)
        plain = {n: v for n, v in {**sampler.options, **words}.items() if n not in shared}
        with exact_modules(subject.forward):
            given = {k.name: _input(k, sizes) for k in sampler.kinds}
            outputs, cache = subject.call_forward(given, {**plain, **shared})
        if len(outputs) != 1 or not isinstance(outputs[0], SymbolicArray):
            raise Untraceable("forward's outputs")
        output = outputs[0]
        present = axes_of(output.places)
        tensor = settle(output.tensor.expand(present))
        one = make.Scalar(sympy.Integer(1)).expand(present)
        cotangent = make.Input("upstream", present) if subject.accepts_upstream else one
        wanted = [n for n in subject.wrt if n in inputs(tensor)]
        true = dict(vjp(tensor, wanted, cotangent)[0])
        with exact_modules(subject.backward):
            fresh = {k.name: _input(k, sizes) for k in sampler.kinds}
            returned = subject.call_backward(SymbolicArray(cotangent, output.places), fresh, shared, cache)
            yours = gradients(subject, returned)
    table = {k.name: k for k in sampler.kinds}
    abstraction = Abstraction()
    found: dict[str, str] = {}
    for name in subject.wrt:
        if name in refuted:
            found[name] = "refuted at a point"
            continue
        places = sizes.axes(table[name])
        if name in true:  # the derived gradient carries the axes of the input's first occurrence
            first = inputs(tensor)[name].indices
            names = [a.name for a in axes_of(places)]
            true[name] = true[name].rename({a.name: n for a, n in zip(first, names, strict=True)})
        found[name] = _compare(yours[name], true.get(name), places, abstraction, deadline)
    conditions = sizes.conditions()
    return found, _facts(sampler, shared, conditions, session), conditions


def _compare(
    yours: Any, true: t.Tensor | None, places: Sequence[Place], abstraction: Abstraction, deadline: float
) -> str:
    """Return an empty string if the two are proved equal, else why not."""
    if not isinstance(yours, SymbolicArray):
        yours = SymbolicArray(t.as_tensor(yours), ())
    if yours.ndim != len(places) and yours.ndim:
        return "the traced gradient has another number of axes"
    present = axes_of(places)
    mine = fitted(yours, places)
    target = make.Scalar(sympy.Integer(0)).expand(present) if true is None else true
    if not (has_places(mine) or has_places(target)):
        return _differs(mine, target, abstraction, deadline)
    mine, target = settle(mine), settle(target)
    fixed = [a for a in present if a.size.is_Integer]
    if math.prod(int(a.size) for a in fixed) > MOST_ENTRIES:
        return "too many entries along axes of fixed length"
    mine, target = unroll(mine), unroll(target)
    for spot in itertools.product(*(range(int(a.size)) for a in fixed)):
        here, there = mine, target
        for a, k in zip(fixed, spot, strict=True):
            here, there = pick(here, a, None, k), pick(there, a, None, k)
        if time.process_time() > deadline:
            return "the proof takes too long"
        if why := _differs(unroll(settle(here)), unroll(settle(there)), abstraction, deadline):
            return why
    return ""


def _differs(mine: t.Tensor, target: t.Tensor, abstraction: Abstraction, deadline: float) -> str:
    if _equal_abstracted(mine, target, abstraction):
        return ""
    comparison = equal(mine, target)
    # At a tie of a comparison the two may follow different conventions: the finding on kinks looks there.
    if comparison or comparison.why.startswith("equal except perhaps at the kink"):
        return ""
    if has_places(mine) or has_places(target):  # a random point would not know what a place is
        return "the normal forms differ"
    return comparison.why


def _equal_abstracted(mine: t.Tensor, target: t.Tensor, abstraction: Abstraction) -> bool:
    if set(mine.axes) != set(target.axes):
        return False
    try:
        return bool(vanishes(normal_form(abstraction(mine)) - normal_form(abstraction(target))))
    except (Unsupported, ZeroDivisionError, RecursionError):
        return False


def _facts(sampler: Sampler, shared: Mapping[str, Any], conditions: Sequence[str], session: Session) -> str:
    parts = []
    free = [n for n, v in shared.items() if isinstance(v, SymbolicArray)]
    if free:
        parts.append(f"every {', '.join(free)}" + (" > 0" if all(sampler.options[n] > 0 for n in free) else ""))
    given = [f"{k.name}.shape[{i}] = 1" for k in sampler.kinds for i, n in enumerate(k.shape) if n == 1]
    given += conditions
    given += [
        f"{k.name} {k.kind.replace('_', '-')}" for k in sampler.kinds if k.kind in ("one_hot", "probability", "binary")
    ]
    if session.long_enough:
        given.append("axes as long as the slices need")
    text = "the index expressions have one normal form" + (f", for {'; '.join(parts)}" if parts else "")
    return text + (f" (given {', '.join(given)})" if given else "")
