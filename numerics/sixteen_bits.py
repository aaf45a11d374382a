"""float16 and bfloat16 of a function of one number: every finite input there is, against the exact derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flint import arb

from .findings import Finding, compact
from .float_types import FloatType, float_type
from .probing import Point
from .subject import Subject, entries, run_exact, run_floats

#: Bits of the exact derivatives: the largest exponent of bfloat16 takes 128 of them in 1 − tanh², and 150 remain.
BITS = 400
#: Inputs of one exact run.
BLOCK = 2048
#: An error beyond this many ULP is counted apart.
FAR_OFF = 1000


@dataclass
class Census:
    """What all inputs showed: the worst error and where, how many are off, where a value is lost."""

    kind: FloatType
    checked: int = 0
    worst: float = 0.0
    at: float = 0.0
    over_one: int = 0
    far_off: int = 0
    lost_at: float | None = None  # no finite value where the exact one is in range
    wrong_sign_at: float | None = None

    @property
    def failed(self) -> bool:
        """More than half of the digits are lost somewhere."""
        return self.worst * self.kind.eps > self.kind.eps**0.5

    def __str__(self) -> str:
        parts = [f"all {self.checked:,} inputs of {self.kind.name}: worst {self.worst:.3g} ULP at {compact(self.at)}"]
        parts.append(f"{100 * self.over_one / max(self.checked, 1):.2g}% beyond 1 ULP")
        if self.far_off:
            parts.append(f"{100 * self.far_off / self.checked:.2g}% beyond {FAR_OFF} ULP")
        if self.wrong_sign_at is not None:
            parts.append(f"wrong sign at {compact(self.wrong_sign_at)}")
        return ", ".join(parts)


def every_value(name: str) -> Any:
    """Return every finite number of a 16-bit type, as float64.

    >>> len(every_value("float16"))
    63488
    """
    bits = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(all="ignore"):
        values = bits.view(float_type(name).dtype).astype(float)
    return values[np.isfinite(values)]


def census(
    subject: Subject, point: Point, name: str, dtype: str, progress: Callable[[str], None] = lambda stage: None
) -> Census:
    """Run the person's code at every finite input of a 16-bit type and hold it against the exact derivative.

    Inputs at which forward has a kink, or is not defined, are left out; results below the normal numbers count by the
    distance of the smallest normal ones.
    """
    kind = float_type(dtype)
    found = Census(kind)
    values = every_value(dtype)
    shape = np.shape(point.inputs[name])
    block = max(1, BLOCK // max(1, int(np.prod(shape[1:], dtype=int)))) * max(1, int(np.prod(shape[1:], dtype=int)))
    for start in range(0, len(values), block):
        progress("floats")
        _run(subject, point, name, values[start : start + block], found)
    return found


def _run(subject: Subject, point: Point, name: str, values: Any, found: Census) -> None:
    """Judge one block of inputs, given in the shape of the example with another first axis."""
    shape = np.shape(point.inputs[name])
    full = (-(-len(values) // max(1, int(np.prod(shape[1:], dtype=int)))), *shape[1:]) if shape else ()
    inputs = [np.resize(values, full)] if shape else [np.float64(v) for v in values]
    got: list[float] = []
    exact: list[Any] = []
    for part in inputs:
        here = replace(point, inputs={name: part})
        ones = [np.ones(np.shape(part))]
        run = run_exact(subject, here, upstream=ones[0], only_true=True, bits=BITS)
        if run.ties and np.size(part) > 1:  # a kink among them: the halves are judged apart
            half = len(values) // 2
            _run(subject, point, name, values[:half], found)
            _run(subject, point, name, values[half:], found)
            return
        gradient = run_floats(subject, here, ones, found.kind.name).gradients[name]
        got += np.asarray(gradient).astype(float).reshape(-1).tolist()
        exact += [None if run.ties else ball.value for ball in entries(run.true[name]).reshape(-1)]
    for x, yours, true in zip(values.tolist(), got, exact, strict=False):
        if true is not None and true.is_finite():
            _count(found, x, yours, true)


def _count(found: Census, x: float, yours: float, true: arb) -> None:
    kind = found.kind
    found.checked += 1
    if not np.isfinite(yours):
        if abs(true) < kind.largest and found.lost_at is None:
            found.lost_at = x
        return
    middle = float(true.mid()) if abs(true) < 1e300 else float("inf")
    if abs(middle) > kind.largest:
        return
    ulp = max(abs(middle), kind.tiny) * kind.eps
    error = abs(yours - middle) / ulp
    found.over_one += error > 1
    found.far_off += error > FAR_OFF
    if yours * middle < 0 and abs(middle) > kind.tiny and error > 1 and found.wrong_sign_at is None:
        found.wrong_sign_at = x
    if error > found.worst:
        found.worst, found.at = error, x


def with_every_input(
    floats: Finding, domain: Finding, subject: Subject, point: Point, dtypes: Any, progress: Callable[[str], None]
) -> tuple[Finding, Finding]:
    """Add the census of each 16-bit type to the findings ``floats`` and ``domain``."""
    real = [n for n, v in point.inputs.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    for dtype in dtypes:
        if not float_type(dtype).short or len(real) != 1 or len(point.inputs) != 1:
            continue
        found = census(subject, point, real[0], dtype, progress)
        failed = floats.failed or found.failed
        floats = Finding("failed" if failed else floats.outcome, f"{found}; {floats.why}", details=floats.details)
        if found.lost_at is not None:
            why = f"{dtype}: no finite value at {real[0]} = {compact(found.lost_at)}, where the exact one is"
            domain = Finding("failed", f"{why}; {domain.why}" if domain.failed else why, details=domain.details)
    return floats, domain
