"""The pair of functions under check, and how they are run: in exact arithmetic and in floats.

``forward(**inputs)`` returns the output or a tuple of outputs; ``backward(upstream, **inputs)`` the gradients in the
order of ``wrt``.  Also understood: ``backward(**inputs)`` without an upstream gradient (a scalar loss, or a scalar
derivative function), and ``forward`` returning ``(output, cache)`` with ``backward(upstream, cache)``.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flint import arb, fmpq

from ..theory.errors import InputError
from .exact_arrays import ExactArray, Operation, exact_array
from .exact_modules import exact_modules
from .exact_scalars import BITS, Ball, Element, NotCovered, NotDecided, Size, adjoints, exact_arithmetic, lift
from .probing import Point

#: Words that mark the second parameter of backward as what forward saved.
CACHE_NAMES = ("cache", "caches", "ctx", "saved", "memory", "residuals")


class BackwardFailed(Exception):  # noqa: N818
    """The person's backward raised, or returned something that is no gradient, where forward works."""


class ForwardFailed(InputError):  # noqa: N818
    """The person's forward left the program instead of returning an output."""


@dataclass(frozen=True)
class ExactRun:
    """One point in exact arithmetic: yours and true per name, as object arrays of balls."""

    point: Point
    yours: Mapping[str, Any]
    true: Mapping[str, Any]
    upstream: Any
    outputs: tuple[Any, ...] = ()
    leaves: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[tuple[Ball, arb], ...] = ()
    operations: tuple[Operation, ...] = ()
    ties: tuple[str, ...] = ()
    thresholds: frozenset[Any] = frozenset()
    switched: bool = True  # forward met the border of a branch: elsewhere it is analytic around the point


@dataclass(frozen=True)
class Subject:
    """The functions under check and the calling convention found in their signatures."""

    backward: Callable[..., Any]
    forward: Callable[..., Any]
    names: tuple[str, ...]
    wrt: tuple[str, ...]
    accepts_upstream: bool
    cached: bool
    keywords: tuple[str, ...]  # what backward accepts by name
    any_keyword: bool
    theory: bool = False  # forward comes from a formula and runs in exact arithmetic only
    title: str = ""  # what the result is called; empty: the name of backward
    shipped: Callable[..., Any] | None = None  # the compiled backward that the float runs measure
    opaque: bool = False  # backward cannot run in exact arithmetic: its floats are compared
    extra: Callable[[ExactRun], list[str]] | None = None  # a framework's own rules, as troubles of the contract
    notes: tuple[str, ...] = ()  # what an adapter could not find, said with the contract
    suspect: Callable[[Any, ExactRun], str] | None = None  # an adapter's own explanation of a refuted run

    def options_of(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {n: v for n, v in options.items() if self.any_keyword or n in self.keywords}

    def call_backward(self, upstream: Any, inputs: Mapping[str, Any], options: Mapping[str, Any], cache: Any) -> Any:
        first = [upstream] if self.accepts_upstream else []
        try:
            return self._called(first, inputs, options, cache)
        except SystemExit as leave:
            raise BackwardFailed(f"called sys.exit({leave.code!r}): it must return the gradients") from None

    def _called(self, first: list[Any], inputs: Mapping[str, Any], options: Mapping[str, Any], cache: Any) -> Any:
        if self.cached:
            return self.backward(*first, cache)
        given = {**inputs, **self.options_of(options)}
        if not self.any_keyword:
            given = {n: v for n, v in given.items() if n in self.keywords}
        return self.backward(*first, **given)

    def call_forward(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[tuple[Any, ...], Any]:
        """Return the outputs, and what forward saved for backward."""
        try:
            result = self.forward(**inputs, **options)
        except SystemExit as leave:
            raise ForwardFailed(f"{_name(self.forward)} called sys.exit({leave.code!r}): nothing was judged") from None
        if self.cached and isinstance(result, tuple) and len(result) == 2:
            return (result[0],), result[1]
        return (tuple(result) if isinstance(result, (tuple, list)) else (result,)), None


def make_subject(
    backward: Callable[..., Any], forward: Callable[..., Any], names: Sequence[str], wrt: Sequence[str], theory: bool
) -> Subject:
    """Read the calling convention off the signature of ``backward``."""
    try:
        parameters = list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError) as error:
        raise InputError(f"the signature of {_name(backward)} cannot be read: {error}") from None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in positional if p.default is p.empty]
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
    accepts_upstream = bool(positional) and positional[0].name not in names
    rest = required[1:] if accepts_upstream else required
    cached = len(rest) == 1 and rest[0] not in names and (rest[0].lower() in CACHE_NAMES or len(names) != 1)
    unknown = [n for n in rest if n not in names]
    if unknown and not cached:
        raise InputError(
            f"{_name(backward)} needs {', '.join(map(repr, unknown))}: the inputs of forward are {', '.join(names)}"
        )
    if not parameters:
        raise InputError(
            f"{_name(backward)} takes no arguments: expected {_name(backward)}(upstream, {', '.join(names)})"
        )
    keywords = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    missing = [w for w in wrt if w not in names]
    if missing:
        raise InputError(f"wrt names {missing[0]!r}, which is not an input: {', '.join(names)}")
    return Subject(backward, forward, tuple(names), tuple(wrt), accepts_upstream, cached, keywords, any_keyword, theory)


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


# Exact runs ----------------------------------------------------------------------------------------------------------
def _leaves(value: Any, shift: Any = None, leaf: bool = True) -> Any:
    """Return an exact array of leaves of the tape, moved by ``shift`` (an array of rationals)."""
    array = np.asarray(value, dtype=float)
    numbers = [arb(each) for each in array.reshape(-1).tolist()]
    if shift is not None:
        numbers = [number + arb(step) for number, step in zip(numbers, shift.reshape(-1).tolist(), strict=True)]
    out = np.empty(array.shape, dtype=object)
    for k, number in enumerate(numbers):
        out.flat[k] = Ball(number, leaf=leaf)
    return out.view(ExactArray) if array.ndim else out[()]


def _constant(value: Any, shift: Any = None) -> Any:
    if value is None or isinstance(value, (str, bytes, bool, int, dict)) or callable(value):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return _leaves(array, shift, leaf=False)
    return exact_array(array.copy()) if array.ndim else array[()]


def entries(value: Any) -> Any:
    """Return a gradient or output as an object array of balls."""
    array = exact_array(value)
    return np.asarray(array.astype_exact().view(np.ndarray))


def gradients(subject: Subject, returned: Any) -> dict[str, Any]:
    """Match what backward returned with ``wrt``; None stays None."""
    if isinstance(returned, Mapping):
        found = {}
        for name in subject.wrt:
            key = next(
                (k for k in (name, f"d{name}", f"grad_{name}", f"{name}_grad", f"d_{name}") if k in returned), None
            )
            if key is None:
                raise BackwardFailed(f"returned a dict without {name!r} (it has {', '.join(map(str, returned))})")
            found[name] = returned[key]
        return found
    if len(subject.wrt) == 1 and not isinstance(returned, (tuple, list)):
        return {subject.wrt[0]: returned}
    if not isinstance(returned, (tuple, list)):
        raise BackwardFailed(f"returned one value, expected {len(subject.wrt)} gradients ({', '.join(subject.wrt)})")
    if len(returned) != len(subject.wrt):
        if len(subject.wrt) == 1 and isinstance(returned, list):
            return {subject.wrt[0]: returned}
        raise BackwardFailed(f"returned {len(returned)} values, expected {len(subject.wrt)} ({', '.join(subject.wrt)})")
    return dict(zip(subject.wrt, returned, strict=True))


def upstream_for(
    outputs: Sequence[Any], seed: int, given: Any = None, ones: bool = False
) -> list[np.ndarray[Any, Any]]:
    """Draw generic upstream gradients (short dyadics) of the shapes of the outputs, or take those given."""
    from .probing import dyadic

    rng = np.random.default_rng(seed + 1_000_003)
    shapes = [np.ndarray.shape.__get__(exact_array(o)) for o in outputs]
    if callable(given):
        given = given(shapes)
    if given is not None:
        listed = isinstance(given, (tuple, list)) and all(isinstance(each, np.ndarray) for each in given)
        parts = list(given) if listed or (isinstance(given, tuple) and len(outputs) > 1) else [given]
        arrays = [np.asarray(each, dtype=float) for each in parts]
        if [a.shape for a in arrays] == shapes:
            return arrays
    return [np.ones(s) if ones else np.asarray(dyadic(rng, s)) for s in shapes]


def _exact_upstream(parts: Sequence[np.ndarray[Any, Any]]) -> Any:
    made = [_constant(part) for part in parts]
    return made[0] if len(made) == 1 else tuple(made)


def run_exact(
    subject: Subject,
    point: Point,
    *,
    upstream: Any = None,
    widened: bool = False,
    record: bool = False,
    shift: Mapping[str, Any] | None = None,
    only_true: bool = False,
    bits: int = BITS,
    tie: str = "",
) -> ExactRun:
    """Run forward and backward at a point in 300-digit balls; the true gradients come from the tape.

    ``shift`` moves inputs by rationals smaller than any float: how one-sided limits are taken.
    """
    shift = shift or {}
    state = np.random.get_state()
    try:
        with exact_arithmetic(bits=bits, widened=widened, record=record, tie=tie) as trace:
            active = {
                n: _leaves(v, shift.get(n)) if n in subject.wrt else _constant(v, shift.get(n))
                for n, v in point.inputs.items()
            }
            options = {n: (lift(v) if isinstance(v, float) else v) for n, v in point.options.items()}
            with exact_modules(subject.forward):
                outputs, _ = subject.call_forward(active, options)
            if any(o is None for o in outputs):
                raise InputError(f"{_name(subject.forward)} returned None")
            operations = tuple(trace.operations)
            parts = upstream_for(
                outputs, point.seed, upstream if subject.accepts_upstream else None, ones=not subject.accepts_upstream
            )
            seeds = tuple(
                (ball, arb(float(u)))
                for output, part in zip(outputs, parts, strict=True)
                for ball, u in zip(entries(output).reshape(-1), part.reshape(-1), strict=True)
            )
            adjoint = adjoints(seeds)
            true = {n: true_gradient(adjoint, active[n]) for n in subject.wrt}
            ties, switched = tuple(trace.ties), trace.switched
            yours: dict[str, Any] = {}
            if not only_true and subject.opaque:
                yours = measured(subject, point, parts, true)
            elif not only_true:
                with exact_modules(subject.backward):
                    constants = {n: _constant(v, shift.get(n)) for n, v in point.inputs.items()}
                    cache = None
                    if subject.cached:
                        with exact_modules(subject.forward):
                            _, cache = subject.call_forward(constants, options)
                    returned = subject.call_backward(_exact_upstream(parts), constants, options, cache)
                    found = gradients(subject, returned)
                    yours = {n: None if g is None else entries(g) for n, g in found.items()}
    finally:
        np.random.set_state(state)
    return ExactRun(
        point,
        yours,
        true,
        parts,
        tuple(outputs),
        active,
        seeds,
        operations,
        ties,
        frozenset(trace.thresholds),
        switched,
    )


def defined(run: ExactRun) -> bool:
    """Tell whether forward itself is finite at this point: elsewhere there is no gradient to judge."""
    return all(ball.value.is_finite() for output in run.outputs for ball in entries(output).reshape(-1))


class Measured(Ball):
    """A float of a black box, with the radius within which it counts as the exact value: see ``MEASURED_BITS``."""

    __slots__ = ()


#: A black box in float64 must agree in half of the digits of the largest entry.
MEASURED_BITS = 26


def measured(
    subject: Subject, point: Point, upstream: Sequence[np.ndarray[Any, Any]], true: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the floats of a black box as balls that hold what half of the digits allow."""
    found: dict[str, Any] = {}
    for name, value in run_floats(subject, point, upstream, "float64").gradients.items():
        if value is None:
            found[name] = None
            continue
        array = np.asarray(value, dtype=float)
        sizes = [abs(v.value) for v in true[name].reshape(-1) if v.value.is_finite()]
        scale = max([*sizes, *(arb(float(v)) for v in np.abs(array[np.isfinite(array)]).reshape(-1))], default=arb(0))
        radius = max(scale, arb(2) ** -900) * arb(2) ** -MEASURED_BITS
        out = np.empty(array.shape, dtype=object)
        for spot in np.ndindex(*array.shape):
            number = arb(float(array[spot]))
            out[spot] = Measured(number + radius * arb(0, 1) if number.is_finite() else number)
        found[name] = out
    return found


def true_gradient(adjoint: Mapping[Ball, arb], leaves: Any) -> np.ndarray[Any, Any]:
    """Return the adjoints of an input's leaves, in the input's shape."""
    array = entries(leaves)
    out = np.empty(array.shape, dtype=object)
    for k, leaf in enumerate(array.reshape(-1).tolist()):
        out.flat[k] = Ball(adjoint.get(leaf, arb(0)))
    return out


# Float runs ----------------------------------------------------------------------------------------------------------
def _dtype(name: str) -> Any:
    from .float_types import float_type

    return float_type(name).dtype


def _cast(value: Any, dtype: str) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(_dtype(dtype))
    if isinstance(value, (float, np.floating)):
        return _dtype(dtype).type(value)
    return copy.deepcopy(value)


@dataclass(frozen=True)
class FloatRun:
    """The gradients as floats, the arrays handed in, and copies of these from before the call."""

    gradients: Mapping[str, Any]
    handed: Mapping[str, Any]
    before: Mapping[str, Any]


def run_floats(subject: Subject, point: Point, upstream: Sequence[np.ndarray[Any, Any]], dtype: str) -> FloatRun:
    """Run the person's backward as shipped, in a floating type."""
    if subject.shipped is not None:
        subject = replace(subject, backward=subject.shipped)
    inputs = {n: _cast(v, dtype) for n, v in point.inputs.items()}
    parts = [_cast(np.array(part), dtype) for part in upstream]
    parts = [part[()] if part.ndim == 0 else part for part in parts]
    handed = {**inputs, "upstream": parts[0] if len(parts) == 1 else tuple(parts)}
    before = copy.deepcopy(handed)
    state = np.random.get_state()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = None
        if subject.cached:
            _, cache = subject.call_forward(inputs, point.options)
        returned = subject.call_backward(handed["upstream"], inputs, point.options, cache)
    np.random.set_state(state)
    return FloatRun(gradients(subject, returned), handed, before)


def forward_floats(subject: Subject, point: Point, *, keep_state: bool = True) -> tuple[Any, ...]:
    """Run the person's forward in float64; NumPy's global random state is put back unless told otherwise."""
    inputs = {n: _cast(v, "float64") for n, v in point.inputs.items()}
    state = np.random.get_state()
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return subject.call_forward(inputs, point.options)[0]
    finally:
        if keep_state:
            np.random.set_state(state)


def rational(value: float) -> fmpq:
    numerator, denominator = float(value).as_integer_ratio()
    return fmpq(numerator, denominator)


__all__ = ["BackwardFailed", "Element", "ExactRun", "NotCovered", "NotDecided", "Size", "Subject", "run_exact"]
