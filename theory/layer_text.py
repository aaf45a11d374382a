"""Layers as text: ``NAME`` or ``NAME(value, option=value)``, read by allow-list; nothing is evaluated."""

from __future__ import annotations

import ast

from .errors import InputError

MAX_CHARACTERS = 200


def parse_call(text: str) -> tuple[str, dict[str, str]]:
    """``"batch_norm(eps=1e-3)"`` to its name and its options as text.

    >>> parse_call("batch_norm(eps=1e-3)")
    ('batch_norm', {'eps': '1e-3'})
    """
    text = text.strip()
    if "(" not in text:
        return text, {}
    try:
        if len(text) > MAX_CHARACTERS:
            raise ValueError
        node = ast.parse(text, mode="eval").body
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args):
            raise ValueError
        given = [(option(k), ast.get_source_segment(text, k.value) or "") for k in node.keywords]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise InputError(f"layer {text[:60]!r}: write a name, or name(option=value, …)") from None
    names = [name for name, _ in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"layer {node.func.id}: the option {twice[:40]!r} is given twice")
    return node.func.id, dict(given)


def option(keyword: ast.keyword) -> str:
    """The name of a keyword; ``**`` is not allowed."""
    if keyword.arg is None:
        raise ValueError
    return keyword.arg
