"""Proof for all shapes: forward and backward are traced on symbols, the derived gradient is compared by normal form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from ..theory import tensors as t
from ..theory.backprop import vjp
from ..theory.equality import equal
from ..theory.errors import InputError
from ..theory.walking import inputs
from .exact_modules import exact_modules
from .exact_scalars import exact_arithmetic
from .probing import InputKind, Sampler, word_options
from .subject import Subject, gradients
from .symbolic_arrays import Session, SizesDiffer, SymbolicArray, Untraceable, _fit, make

#: How often sizes may be made one before the tracer gives up.
MERGES = 30


@dataclass(frozen=True)
class Proof:
    """What was proved, per gradient, and under which facts; ``missing`` says why a gradient is not proved."""

    proved: Mapping[str, str]
    missing: Mapping[str, str]
    why: str

    @property
    def complete(self) -> bool:
        return not self.missing


class _Sizes:
    """The sizes of the inputs' axes: different symbols until the code needs two to be one."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self.symbols: dict[tuple[str, int], sympy.Expr] = {}
        self.concrete: dict[sympy.Expr, int] = {}
        for name, shape in shapes.items():
            for k, n in enumerate(shape):
                if n > 1:
                    symbol = t.size_symbol(f"{name}{k}")
                    self.symbols[name, k] = symbol
                    self.concrete[symbol] = n

    def merge(self, a: sympy.Expr, b: sympy.Expr) -> None:
        if not (a.is_Symbol and b.is_Symbol) or self.concrete.get(a) != self.concrete.get(b):
            raise Untraceable(f"the sizes {a} and {b} meet")
        self.symbols = {key: a if s == b else s for key, s in self.symbols.items()}

    def axes(self, kind: InputKind) -> list[t.Axis | None]:
        symbols = [self.symbols.get((kind.name, k)) for k in range(len(kind.shape))]
        return [None if s is None else t.axis(f"{kind.name.lower()}_{k}", s) for k, s in enumerate(symbols)]


def prove(subject: Subject, sampler: Sampler) -> Proof:
    """Prove the gradients for all shapes; what cannot be traced is in ``missing`` with the reason."""
    proved: dict[str, str] = {}
    missing: dict[str, str] = {}
    facts = ""
    settings: list[dict[str, Any]] = [{}]
    if not subject.theory and any(n in subject.keywords or subject.any_keyword for n in sampler.options):
        settings += [w for w in word_options(subject.forward, sampler.options) if _valid(subject, sampler, w)]
    for words in settings:
        try:
            found, facts = _prove_once(subject, sampler, words)
        except Exception as error:  # whatever the tracer cannot do leaves the verdict to the exact runs
            reason = f"not traced: {error}" if isinstance(error, InputError) else f"not traced: {type(error).__name__}"
            return Proof({}, dict.fromkeys(subject.wrt, reason), reason)
        for name, outcome in found.items():
            if outcome:
                missing.setdefault(name, outcome)
            else:
                proved[name] = "PROVED for all shapes"
    return Proof({n: v for n, v in proved.items() if n not in missing}, missing, facts)


def _valid(subject: Subject, sampler: Sampler, words: Mapping[str, Any]) -> bool:
    from .probing import Point
    from .subject import forward_floats

    point = sampler.point(0)
    try:
        forward_floats(subject, Point(point.inputs, {**point.options, **words}, "words"))
    except Exception:
        return False
    return True


def _prove_once(subject: Subject, sampler: Sampler, words: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    sizes = _Sizes({k.name: k.shape for k in sampler.kinds})
    for _ in range(MERGES):
        try:
            return _traced(subject, sampler, sizes, words)
        except SizesDiffer as clash:
            sizes.merge(*clash.pair)
    raise Untraceable("too many sizes meet")


def _input(kind: InputKind, sizes: _Sizes) -> Any:
    if kind.kind == "fixed":
        return kind.value
    axes = sizes.axes(kind)
    present = [a for a in axes if a is not None]
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


def _traced(subject: Subject, sampler: Sampler, sizes: _Sizes, words: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    session = Session()
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
        present = [p for p in output.places if p is not None]
        tensor = output.tensor.expand(present)
        one = make.Scalar(sympy.Integer(1)).expand(present)
        cotangent = make.Input("upstream", present) if subject.accepts_upstream else one
        wanted = [n for n in subject.wrt if n in inputs(tensor)]
        true, _ = vjp(tensor, wanted, cotangent)
        with exact_modules(subject.backward):
            fresh = {k.name: _input(k, sizes) for k in sampler.kinds}
            returned = subject.call_backward(SymbolicArray(cotangent, output.places), fresh, shared, cache)
            yours = gradients(subject, returned)
    table = {k.name: k for k in sampler.kinds}
    found: dict[str, str] = {}
    for name in subject.wrt:
        places = sizes.axes(table[name])
        if name in true:  # the derived gradient carries the axes of the input's first occurrence
            first = inputs(tensor)[name].indices
            names = [p.name for p in places if p is not None]
            true[name] = true[name].rename({a.name: n for a, n in zip(first, names, strict=True)})
        found[name] = _compare(yours[name], true.get(name), places)
    return found, _facts(sampler, shared, words)


def _compare(yours: Any, true: t.Tensor | None, places: Sequence[t.Axis | None]) -> str:
    """Return an empty string if the two are proved equal, else why not."""
    if not isinstance(yours, SymbolicArray):
        yours = SymbolicArray(t.as_tensor(yours), ())
    if yours.ndim != len(places) and yours.ndim:
        return "the traced gradient has another number of axes"
    present = [p for p in places if p is not None]
    mine = _fit(yours, places)
    target = make.Scalar(sympy.Integer(0)).expand(present) if true is None else true
    comparison = equal(mine, target)
    # At a tie of a comparison the two may follow different conventions: the finding on kinks looks there.
    if comparison or comparison.why.startswith("equal except perhaps at the kink"):
        return ""
    return comparison.why


def _facts(sampler: Sampler, shared: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    parts = []
    free = [n for n, v in shared.items() if isinstance(v, SymbolicArray)]
    if free:
        parts.append(f"every {', '.join(free)}" + (" > 0" if all(sampler.options[n] > 0 for n in free) else ""))
    ones = [f"{k.name}.shape[{i}] = 1" for k in sampler.kinds for i, n in enumerate(k.shape) if n == 1]
    ones += [
        f"{k.name} {k.kind.replace('_', '-')}" for k in sampler.kinds if k.kind in ("one_hot", "probability", "binary")
    ]
    text = "the index expressions have one normal form" + (f", for {'; '.join(parts)}" if parts else "")
    return text + (f" (given {', '.join(ones)})" if ones else "")
