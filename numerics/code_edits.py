"""Edits of compiled code, for functions whose source is not at hand (made by ``exec``): names exchanged, an operator.

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
    [('/ must be *', 8.0), ('a and b are exchanged', 2.0)]
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


def _with(function: types.FunctionType, raw: bytes) -> types.FunctionType:
    copy = types.FunctionType(
        function.__code__.replace(co_code=raw), function.__globals__, function.__name__, function.__defaults__,
        function.__closure__,
    )  # fmt: skip
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
