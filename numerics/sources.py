"""The source of a person's function as a tree, and functions compiled from a changed tree: their closures included."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from typing import Any


def source_tree(function: Any) -> ast.FunctionDef | None:
    """Return the definition of a plain function with the line numbers of its file; None where no source is at hand."""
    if not isinstance(function, types.FunctionType):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        return None
    ast.increment_lineno(definition, function.__code__.co_firstlineno - 1)
    definition.decorator_list = []
    return definition


def place_near(new: ast.AST, node: ast.AST) -> None:
    """Give a new node, and the parts of it that are new too, the place of ``node`` in the file."""
    if "lineno" in new._attributes:
        if hasattr(new, "lineno") and hasattr(new, "col_offset"):
            return  # taken over from the tree, with all its parts
        ast.copy_location(new, node)
    for part in ast.iter_child_nodes(new):
        place_near(part, node)


def recompiled(tree: ast.FunctionDef, function: Any) -> Any:
    """Return the function that a changed definition describes, with the globals and closure of ``function``.

    Every node has its place in the file (:func:`place_near`). None where the tree does not compile, or needs a variable
    that was not closed over.
    """
    free = function.__code__.co_freevars
    module: ast.Module = ast.Module([tree], [])
    if free:  # free variables are such only inside a function that binds them
        outer = ast.parse(f"def _outer({', '.join(free)}): pass").body[0]
        assert isinstance(outer, ast.FunctionDef)
        outer.body = [tree]
        module = ast.Module([outer], [])
    try:
        code = compile(module, function.__code__.co_filename, "exec")
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return None
    inner = _code_named(code, tree.name)
    cells = dict(zip(free, function.__closure__ or (), strict=True))
    if inner is None or any(name not in cells for name in inner.co_freevars):
        return None
    made = types.FunctionType(
        inner,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[n] for n in inner.co_freevars),
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _code_named(code: types.CodeType, name: str) -> types.CodeType | None:
    waiting = [code]
    while waiting:
        each = waiting.pop(0)
        if each.co_name == name and each is not code:
            return each
        waiting += [c for c in each.co_consts if isinstance(c, types.CodeType)]
    return None


def short(node: ast.AST, width: int = 40) -> str:
    """Write a node as source, cut off at ``width`` characters."""
    text = ast.unparse(node)
    return text if len(text) <= width else text[: width - 1] + "…"
