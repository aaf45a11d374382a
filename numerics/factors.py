"""Constant factors between two gradients, named in the sizes of the inputs: ``1/x.shape[0]``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

from .exact_scalars import Ball
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


def _sizes(point: Point) -> Iterator[tuple[str, int]]:
    yield "1", 1
    for name, value in point.inputs.items():
        shape = np.shape(value)
        for k, n in enumerate(shape):
            yield f"{name}.shape[{k}]", n
        if len(shape) > 1:
            yield f"{name}.size", int(np.prod(shape))


def name_factor(ratios: Sequence[arb], points: Sequence[Point]) -> str:
    """Return the factor as a quotient of sizes and small numbers that fits every point, or its decimal if constant."""
    small = [Fraction(v) for v in (1, -1, 2, -2)] + [Fraction(1, 2), Fraction(-1, 2)]
    tables = [dict(_sizes(p)) for p in points]
    names = list(tables[0])
    for number in small:
        for top in names:
            for bottom in ["1"] if top != "1" else names:
                if all(_is(r, number * t[top] / t[bottom]) for r, t in zip(ratios, tables, strict=True)):
                    return _quotient(number, top, bottom)
    for top in names:
        for bottom in names:
            if all(_is(r, Fraction(t[top], t[bottom])) for r, t in zip(ratios, tables, strict=True)):
                return _quotient(Fraction(1), top, bottom)
    return ""


def _is(ratio: arb, value: Fraction) -> bool:
    return (ratio * value.denominator).overlaps(arb(value.numerator)) and ratio.rad() < abs(ratio.mid()) * arb(2) ** -20


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
    factor = name_factor([r for r in ratios if r is not None], [r.point for r in runs])
    if not factor:
        return ""
    if factor == "-1":
        return "the sign is wrong"
    if factor == "1/2":
        return "yours is 1/2 times the gradient: a factor 2 is missing"
    if factor.startswith("1/"):
        return f"yours is the gradient divided by {factor[2:]} (once too often)"
    if factor[0].isalpha():
        return f"yours is {factor} times the gradient: the factor 1/{factor} is missing"
    return f"yours is {factor} times the gradient"
