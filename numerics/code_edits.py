"""Edits of compiled code, for functions whose source is not at hand (made by ``exec``).

Names exchanged or replaced, an operator, a constant (an axis, an exponent, a factor).

Only arguments of instructions change, never their number or their effect on the stack.
"""

from __future__ import annotations

import dis
import itertools
import types
from collections.abc import Iterator
from typing import Any

_LOADS = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")
_PAIRS = ("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW")
_OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "+=": "-=", "-=": "+="}


def code_edits(function: Any) -> Iterator[tuple[int, str, types.FunctionType]]:
    """Yield copies of a function with one edit: the line, what was changed in words, and the copy.

    >>> def f(a, b):
    ...     return a / b
    >>> sorted((text, g(2.0, 4.0)) for _, text, g in code_edits(f))
    [('/ must be *', 8.0), ('a and b are exchanged', 2.0), ('a must be b', 1.0), ('b must be a', 1.0)]
    """
    if not isinstance(function, types.FunctionType):
        return
    code = function.__code__
    lines: dict[int, list[Any]] = {}
    line = code.co_firstlineno
    for each in dis.get_instructions(code):
        line = each.positions.lineno if each.positions and each.positions.lineno else line
        lines.setdefault(line, []).append(each)
    for line, instructions in lines.items():
        yield from ((line, text, _with(function, changed)) for text, changed in _exchanges(code, instructions))
        yield from ((line, text, _with(function, changed)) for text, changed in _operators(code, instructions))
    for line, instructions in lines.items():
        for text, changed, value in _constants(code, instructions):
            yield line, text, _with(function, changed, value)
    for line, instructions in lines.items():
        yield from ((line, text, _with(function, changed)) for text, changed in _names(code, instructions))
    yield from ((code.co_firstlineno, text, made) for text, made in _swapped_constants(function))


def _exchanges(code: types.CodeType, instructions: list[Any]) -> Iterator[tuple[str, bytes]]:
    single = [i for i in instructions if i.opname in _LOADS and i.arg < 256]
    double = [i for i in instructions if i.opname in _PAIRS]
    used = {i.arg for i in single} | {k for i in double for k in (i.arg >> 4, i.arg & 15)}
    for a, b in itertools.combinations(sorted(used), 2):
        if double and max(a, b) > 15:
            continue
        table = {a: b, b: a}
        raw = bytearray(code.co_code)
        for i in single:
            raw[i.offset + 1] = table.get(i.arg, i.arg)
        for i in double:
            first, second = i.arg >> 4, i.arg & 15
            raw[i.offset + 1] = table.get(first, first) << 4 | table.get(second, second)
        names = code.co_varnames
        if max(a, b) < len(names):
            yield f"{names[a]} and {names[b]} are exchanged", bytes(raw)


def _names(code: types.CodeType, instructions: list[Any]) -> Iterator[tuple[str, bytes]]:
    """One reading of a name replaced by another name of the function."""
    names = code.co_varnames[:256]
    for i in instructions:
        paired = i.opname in _PAIRS
        if not paired and i.opname not in _LOADS:
            continue
        shifts = (4, 0) if paired else (0,)
        for shift in shifts:
            old = (i.arg >> shift) & 15 if paired else i.arg
            for new in range(len(names[:16] if paired else names)):
                if new != old and old < len(names):
                    raw = bytearray(code.co_code)
                    raw[i.offset + 1] = (i.arg & ~(15 << shift)) | new << shift if paired else new
                    yield f"{names[old]} must be {names[new]}", bytes(raw)


def _constants(code: types.CodeType, instructions: list[Any]) -> Iterator[tuple[str, bytes, Any]]:
    """One constant replaced: its neighbours for integers, its negative, half, double and inverse for others."""
    place = len(code.co_consts)
    for i in instructions:
        value = i.argval
        small = i.opname == "LOAD_SMALL_INT"
        if (not small and i.opname != "LOAD_CONST") or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        for other in _others(value):
            raw = bytearray(code.co_code)
            if small and (not isinstance(other, int) or other < 0):
                if "LOAD_CONST" not in dis.opmap:
                    continue
                raw[i.offset] = dis.opmap["LOAD_CONST"]
                raw[i.offset + 1] = place
            else:
                raw[i.offset + 1] = other if small else place
            if place < 256:
                yield f"the constant {value!r} must be {other!r}", bytes(raw), other


def _others(value: Any) -> list[Any]:
    if isinstance(value, int):
        return [v for v in dict.fromkeys((0, 1, -1, 2, value + 1, value - 1, -value, 3, 0.5)) if v != value]
    return [v for v in dict.fromkeys((-value, 2 * value, value / 2, 1 / value if value else 1.0, 1.0)) if v != value]


def _swapped_constants(function: types.FunctionType) -> Iterator[tuple[str, types.FunctionType]]:
    consts = function.__code__.co_consts
    numbers = [k for k, v in enumerate(consts) if isinstance(v, float)]
    for a, b in itertools.combinations(numbers, 2):
        changed = list(consts)
        changed[a], changed[b] = consts[b], consts[a]
        copy = types.FunctionType(
            function.__code__.replace(co_consts=tuple(changed)), function.__globals__, function.__name__,
            function.__defaults__, function.__closure__,
        )  # fmt: skip
        copy.__kwdefaults__ = function.__kwdefaults__
        yield f"the constants {consts[a]!r} and {consts[b]!r} are exchanged", copy


def _operators(code: types.CodeType, instructions: list[Any]) -> Iterator[tuple[str, bytes]]:
    numbers: dict[str, Any] = {i.argrepr: i.arg for i in dis.get_instructions(_ALL) if i.opname == "BINARY_OP"}
    for i in instructions:
        other = _OPERATORS.get(i.argrepr) if i.opname == "BINARY_OP" else None
        if other in numbers:
            raw = bytearray(code.co_code)
            raw[i.offset + 1] = numbers[other]
            yield f"{i.argrepr} must be {other}", bytes(raw)


def _all_operators(a: Any, b: Any) -> Any:
    a += b
    a -= b
    return a + b, a - b, a * b, a / b


_ALL = _all_operators.__code__


def _with(function: types.FunctionType, raw: bytes, constant: Any = None) -> types.FunctionType:
    consts = function.__code__.co_consts + (() if constant is None else (constant,))
    copy = types.FunctionType(
        function.__code__.replace(co_code=raw, co_consts=consts), function.__globals__, function.__name__,
        function.__defaults__, function.__closure__,
    )  # fmt: skip
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
