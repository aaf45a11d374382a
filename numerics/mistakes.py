"""Mistyped constants: find one in a function's code whose correction makes the gradient exactly right."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from flint import arb

from .exact_scalars import BITS, Ball, exact_arithmetic
from .findings import compare
from .probing import Point
from .subject import Subject, run_exact

#: Constants that people type with too few digits, by name.
_IRRATIONAL: dict[str, Callable[[], arb]] = {
    "√(2/π)": lambda: (2 / arb.pi()).sqrt(),
    "1/√(2π)": lambda: 1 / (2 * arb.pi()).sqrt(),
    "√(2π)": lambda: (2 * arb.pi()).sqrt(),
    "1/√2": lambda: 1 / arb(2).sqrt(),
    "√2": lambda: arb(2).sqrt(),
    "2/√π": lambda: 2 / arb.pi().sqrt(),
    "π": arb.pi,
    "e": arb.const_e,
    "ln 2": lambda: arb(2).log(),
    "ln 10": lambda: arb(10).log(),
}


def _candidates(value: float) -> Iterator[tuple[str, Any]]:
    for bottom in range(2, 13):
        top = round(value * bottom)
        if top and 0 < abs(value - top / bottom) < 1e-2 * abs(value) and math.gcd(top, bottom) == 1:
            yield f"{top}/{bottom}", Fraction(top, bottom)
    for name, make in _IRRATIONAL.items():
        with exact_arithmetic(bits=BITS):
            number = make()
        if 0 < abs(float(number) - abs(value)) < 1e-2 * abs(value):
            yield ("−" if value < 0 else "") + name, Ball(-number if value < 0 else number)


def _with_constant(function: Any, index: int, value: Any) -> Any:
    code = function.__code__
    constants = code.co_consts[:index] + (value,) + code.co_consts[index + 1 :]
    copy = types.FunctionType(
        code.replace(co_consts=constants),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def constant_mistake(subject: Subject, point: Point, name: str) -> str:
    """Return a sentence if one constant of backward, corrected, makes the gradient of ``name`` exact."""
    from dataclasses import replace

    function = subject.backward
    if not isinstance(function, types.FunctionType):
        return ""
    for index, value in enumerate(function.__code__.co_consts):
        if not isinstance(value, float) or value in (0.0, 1.0):
            continue
        for text, exact in _candidates(value):
            try:
                run = run_exact(replace(subject, backward=_with_constant(function, index, exact)), point)
            except Exception:
                continue
            if compare(run).outcome[name] == "same":
                return f"the constant {value!r} stands for {text}: it has too few digits"
    return ""
