"""Constant factors between two gradients, named in the sizes of the inputs: ``1/x.shape[0]``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

from .exact_scalars import Ball, lift
from .findings import same
from .probing import Point
from .subject import ExactRun

Arrays = Any  # object arrays of balls


def scaled(array: Arrays, factor: Any) -> Arrays:
    """Return an array of balls times a number."""
    return np.frompyfunc(lambda ball: Ball(ball.value * factor), 1, 1)(array) if array.size else array


def ratio_of(yours: Arrays, true: Arrays) -> arb | None:
    """Return the one number that yours is true times, or None."""
    if yours.shape != true.shape or not true.size:
        return None
    spot = max(np.ndindex(*true.shape), key=lambda s: float(abs(true[s].value).mid()))
    if true[spot].value.contains(0):
        return None
    ratio = yours[spot].value / true[spot].value
    return ratio if same(yours, scaled(true, ratio)) else None


def _atoms(point: Point) -> Iterator[tuple[str, arb]]:
    """Yield what a factor may be made of, the likeliest first: sizes, hyper-parameters, roots of sizes, N − 1."""
    sizes = [(f"{n}.shape[{k}]", size) for n, v in point.inputs.items() for k, size in enumerate(np.shape(v))]
    sizes += [(f"{n}.size", int(np.prod(np.shape(v)))) for n, v in point.inputs.items() if np.ndim(v) > 1]
    yield from ((text, arb(size)) for text, size in sizes)
    for name, value in point.options.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = lift(value).value
            yield name, number
            yield f"(1 − {name})", 1 - number
    yield from ((f"√{text}", arb(size).sqrt()) for text, size in sizes)
    yield from ((f"({text} − 1)", arb(size - 1)) for text, size in sizes)


#: Factors that are numbers: those that people forget, and those looked for once no size explains the factor.
_USUAL = tuple(Fraction(v) for v in (1, -1, 2, -2)) + (Fraction(1, 2), Fraction(-1, 2))
_OTHERS = tuple(s * Fraction(v) ** e for v in (3, 4, 5, 6, 8, 9, 10, 12, 16, 100) for e in (1, -1) for s in (1, -1))


def name_factor(ratios: Sequence[arb], points: Sequence[Point]) -> str:
    """Return the factor as a product of sizes, hyper-parameters and small numbers that fits every point, or ""."""
    tables = [dict(_atoms(p)) for p in points]
    names = [n for n in tables[0] if all(n in t and not t[n].contains(0) for t in tables)]
    singles = [("1", n) for n in names] + [(n, "1") for n in names]
    pairs = [(a, b) for a in names for b in names if a != b]
    for numbers, quotients in ((_USUAL, [("1", "1")]), (_USUAL, singles), (_OTHERS, [("1", "1")]), (_USUAL[:1], pairs)):
        for number in numbers:
            for top, bottom in quotients:
                if all(_is(r, number, t, top, bottom) for r, t in zip(ratios, tables, strict=True)):
                    return _quotient(number, top, bottom)
    return ""


def _is(ratio: arb, number: Fraction, table: Mapping[str, arb], top: str, bottom: str) -> bool:
    value = arb(number.numerator) / number.denominator
    value = value * table.get(top, arb(1)) / table.get(bottom, arb(1))
    return ratio.overlaps(value) and ratio.rad() < abs(ratio.mid()) * arb(2) ** -20


def _quotient(number: Fraction, top: str, bottom: str) -> str:
    text = "" if number == 1 and top != "1" else str(number)
    text += ("·" if text else "") + top if top != "1" else ""
    return text + (f"/{bottom}" if bottom != "1" else "")


def constant_factor(runs: Sequence[ExactRun], name: str) -> str:
    """Return the sentence for a gradient that is a constant times the true one, or an empty string."""
    runs = [r for r in runs if any(not b.value.contains(0) for b in r.true[name].reshape(-1))]
    ratios = [ratio_of(r.yours[name], r.true[name]) for r in runs]
    if not runs or any(r is None for r in ratios):
        return ""
    found = [r for r in ratios if r is not None]
    factor = name_factor(found, [r.point for r in runs])
    if not factor:
        return _other_divisor(found, runs)
    if factor == "-1":
        return "the sign is wrong"
    if factor == "1/2":
        return "yours is 1/2 times the gradient: a factor 2 is missing"
    if factor.startswith("1/"):
        return f"yours is the gradient divided by {factor[2:]} (once too often)"
    if (factor[0].isalpha() or factor[0] in "√(") and "/" not in factor:
        return f"yours is {factor} times the gradient: the factor 1/{factor} is missing"
    return f"yours is {factor} times the gradient"


def _other_divisor(ratios: Sequence[arb], runs: Sequence[ExactRun]) -> str:
    """Return the sentence where a divisor that forward computed (a sum of weights, a count) is another number."""
    for k, operation in enumerate(runs[0].operations):
        if operation.name != "add.reduce":
            continue
        line = f" (line {operation.line} of forward)" if operation.line else ""
        for what, of in (
            (f"the sum that forward divides by{line}", _total),
            (f"the number of terms averaged{line}", _terms),
        ):
            divisors = [of(r.operations[k]) for r in runs]
            if any(d is None for d in divisors):
                continue
            # yours/true = the right divisor / the one of backward
            wrong = name_factor(
                [d / r for d, r in zip(divisors, ratios, strict=True)],  # type: ignore[operator]
                [r.point for r in runs],
            )
            if wrong:
                return f"divided by {wrong}, it must be {what}"
    return ""


def _total(operation: Any) -> arb | None:
    """Return a sum that is one number, through which no gradient passes."""
    value = operation.output
    if np.size(value) != 1:
        return None
    ball = lift(value.item() if isinstance(value, np.ndarray) else value)
    return None if ball.active or ball.value.contains(0) else ball.value


def _terms(operation: Any) -> arb | None:
    count = max(1, int(np.size(operation.inputs[0]))) // max(1, int(np.size(operation.output)))
    return arb(count)
