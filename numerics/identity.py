"""Proof at fixed shapes: forward and backward run on residues, and the two gradients are one rational function.

This is the middle grade, for code that cannot be traced for all shapes (loops, slices, padding, scatter).  See
:mod:`.residues` for what is random, and for the bound on the probability of an error.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from .exact_arrays import ExactArray
from .exact_modules import exact_modules
from .exact_scalars import BITS, Ball, adjoints, exact_arithmetic, lift
from .probing import Point, Sampler
from .residues import PRIME, NoRoot, Number, number, reseed
from .subject import Subject, entries, gradients, true_gradient, upstream_for

#: Draws until every square root exists: each root halves the chance.
TRIES = 200
#: Seconds for all draws at one point.
BUDGET = 1.5


def prove_at(subject: Subject, sampler: Sampler, point: Point) -> dict[str, str]:
    """Return, per gradient, an empty string if it is proved at the shapes and branches of ``point``, else why not."""
    deadline = time.process_time() + BUDGET
    for attempt in range(TRIES):
        if attempt and time.process_time() > deadline:
            break
        try:
            return _once(subject, sampler, point, attempt)
        except NoRoot:
            continue
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            return dict.fromkeys(subject.wrt, text)
    return dict.fromkeys(subject.wrt, "too many square roots")


def _fresh(value: float, key: str) -> Number:
    digest = hashlib.sha512(key.encode()).digest() + hashlib.sha512(b"more" + key.encode()).digest()
    return Number(number_ball(value), int.from_bytes(digest, "big") % PRIME)


def number_ball(value: float) -> Any:
    """Return the enclosure of a float."""
    from flint import arb

    return arb(float(value))


def _residues(value: Any, name: str, kind: str, attempt: int, leaf: bool) -> Any:
    """Return an input as an exact array whose entries are independent residues; given 0, 1 and −1 stay numbers."""
    if kind in ("fixed", "integer", "boolean"):
        from .subject import _constant

        return _constant(value)
    array = np.asarray(value, dtype=float)
    out = np.empty(array.shape, dtype=object)
    for spot in np.ndindex(*array.shape):
        if kind in ("one_hot", "binary", "sign"):
            made = number(int(array[spot]))
        else:
            made = _fresh(float(array[spot]), f"{attempt}|{name}|{spot}")
        out[spot] = Ball(made, leaf=leaf)
    if kind == "probability":
        for row in np.ndindex(*array.shape[:-1]):
            rest = [out[(*row, k)].value for k in range(array.shape[-1] - 1)]
            out[(*row, array.shape[-1] - 1)] = Ball(1 - sum(rest, start=number(0)), leaf=leaf)
    return out.view(ExactArray) if array.ndim else out[()]


def _once(subject: Subject, sampler: Sampler, point: Point, attempt: int) -> dict[str, str]:
    reseed(attempt)
    kinds = {k.name: k.kind for k in sampler.kinds}
    with exact_arithmetic(bits=BITS // 2, residues=True):

        def made(leaves: bool) -> dict[str, Any]:
            return {
                n: _residues(v, n, kinds.get(n, "fixed"), attempt, leaves and n in subject.wrt)
                for n, v in point.inputs.items()
            }

        active = made(True)
        options = {
            n: Ball(_fresh(v, f"{attempt}|option {n}")) if isinstance(v, float) else v for n, v in point.options.items()
        }
        passed = subject.options_of(options)
        kept = {n: (v if n in passed or subject.cached else _plain(point.options[n])) for n, v in options.items()}
        with exact_modules(subject.forward):
            outputs, _ = subject.call_forward(active, kept)
        parts = upstream_for(outputs, point.seed, None, ones=not subject.accepts_upstream)
        seeds, upstream = [], []
        for k, (output, part) in enumerate(zip(outputs, parts, strict=True)):
            kind = "real" if subject.accepts_upstream else "binary"
            array = _residues(part, f"upstream {k}", kind, attempt, False)
            upstream.append(array)
            seeds += list(zip(entries(output).reshape(-1), [b.value for b in entries(array).reshape(-1)], strict=True))
        adjoint: Mapping[Ball, Any] = adjoints(seeds)
        true = {n: true_gradient(adjoint, active[n]) for n in subject.wrt}
        with exact_modules(subject.backward):
            constants, cache = made(False), None
            if subject.cached:
                with exact_modules(subject.forward):
                    _, cache = subject.call_forward(constants, kept)
            given = upstream[0] if len(upstream) == 1 else tuple(upstream)
            found = gradients(subject, subject.call_backward(given, constants, kept, cache))
        return {n: _equal(found[n], true[n]) for n in subject.wrt}


def _plain(value: Any) -> Any:
    return lift(value) if isinstance(value, float) else value


def _equal(yours: Any, true: Any) -> str:
    if yours is None:
        return "None"
    array = entries(yours)
    if array.shape != true.shape:
        return "another shape"
    for a, b in zip(array.reshape(-1), true.reshape(-1), strict=True):
        if number(a.value).residue != number(b.value).residue:
            return "not one rational function of the inputs"
    return ""
