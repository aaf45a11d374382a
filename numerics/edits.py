"""Single edits of a function's source: what a person would change to correct one mistake, the likeliest first.

Each edit is a place in the tree and the node that stands there instead.  Nothing is judged here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .sources import place_near, short

_OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip
_COMPARISONS = (ast.Gt, ast.Lt, ast.GtE, ast.LtE)
_CALLS = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum",
          "var": "std", "std": "var", "tanh": "cosh", "sinh": "cosh", "cosh": "sinh"}  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """One place in a tree (its parent, field and index), the node there, and what is to stand there instead."""

    parent: ast.AST
    field: str
    index: int | None
    node: Any
    new: Any
    places: Sequence[tuple[ast.AST, str, int | None, Any]]  # of the whole tree

    @property
    def line(self) -> int:
        """The line of the file that is changed."""
        return int(getattr(self.node, "lineno", getattr(self.parent, "lineno", 0)))

    def apply(self) -> Any:
        """Put the new node in; return the old one."""
        holder = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
            return holder
        old, holder[self.index] = holder[self.index], self.new
        return old

    def undo(self, old: Any) -> None:
        """Put the old node back."""
        if self.index is None:
            setattr(self.parent, self.field, old)
        else:
            getattr(self.parent, self.field)[self.index] = old

    def words(self) -> tuple[str, str]:
        """Before and after, as the smallest expression around it that a reader recognises; the tree is as it was."""
        shown = self.node
        while len(ast.unparse(shown)) < 8 or not isinstance(shown, (ast.expr, ast.stmt)):
            above = next((p for p, _, _, child in self.places if child is shown), None)
            if above is None or isinstance(above, (ast.FunctionDef, ast.For, ast.If, ast.With)):
                break
            shown = above
        before = _said(shown)
        if shown is self.node:
            return before, _said(self.new)
        old = self.apply()
        after = _said(shown)
        self.undo(old)
        return before, after


@dataclass(frozen=True)
class Scope:
    """What an edit may write in: names of values, hyper-parameters, and the sizes of inputs."""

    names: tuple[str, ...]
    options: tuple[str, ...]
    inputs: tuple[str, ...]
    calls: Mapping[str, str]  # names of functions of one argument that backward itself calls


def scope_of(tree: ast.FunctionDef, options: Sequence[str], inputs: Sequence[str]) -> Scope:
    """Read off which names a definition knows."""
    arguments = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs)]
    stored = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    names = tuple(n for n in dict.fromkeys([*stored, *arguments]) if n not in ("self", "cache", "ctx"))
    return Scope(names, tuple(o for o in options if o in arguments), tuple(n for n in inputs if n in names), {})


def edits(tree: ast.FunctionDef, scope: Scope) -> Iterator[Edit]:
    """Yield single edits of a definition: replacements, then exchanged names, then insertions."""
    places = list(_places(tree))
    for kind in (_changed, _renamed, _statements, _exchanged, _factored, _summed):
        for parent, field, index, node in places:
            if isinstance(node, ast.FunctionDef):
                continue
            for new in kind(node, scope):
                place_near(new, node if hasattr(node, "lineno") else parent)
                yield Edit(parent, field, index, node, new, places)


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, Any]]:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if field in ("args", "decorator_list", "returns") and isinstance(parent, ast.FunctionDef):
                continue
            if isinstance(value, ast.AST) and not isinstance(value, (ast.operator, ast.expr_context, ast.unaryop)):
                yield parent, field, None, value
            elif isinstance(value, list):
                for k, each in enumerate(value):
                    if isinstance(each, ast.AST) and not isinstance(each, ast.cmpop):
                        yield parent, field, k, each


def _said(node: ast.AST) -> str:
    return short(node.value if isinstance(node, ast.Return) and node.value is not None else node, 60)


# Replacements --------------------------------------------------------------------------------------------------------
def _changed(node: Any, scope: Scope) -> Iterator[Any]:
    """An operator, a factor or term, a transpose, an axis, a comparison, a constant, a call."""
    if isinstance(node, ast.BinOp):
        yield from _operations(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    elif isinstance(node, ast.keyword) and node.arg in ("axis", "ddof"):
        yield from (ast.keyword(node.arg, ast.Constant(v)) for v in (0, 1, -1, None) if _value(node.value) != v)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], _COMPARISONS):
        yield from (ast.Compare(node.left, [o()], node.comparators) for o in _COMPARISONS if o is not type(node.ops[0]))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        yield from (ast.Name(n, ast.Load()) for n in scope.options)
        near = (node.value - 1, node.value + 1, 1, 2, 3, 4, 0, 0.5, 6, -node.value)
        yield from (ast.Constant(v) for v in dict.fromkeys(near) if v != node.value)
    elif isinstance(node, ast.Call):
        yield from _called(node)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.slice) == "::-1":
        yield node.value


def _operations(node: ast.BinOp) -> Iterator[Any]:
    if (other := _OPERATORS.get(type(node.op))) is not None:
        yield ast.BinOp(node.left, other(), node.right)
    if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult)):
        yield ast.BinOp(node.right, node.op, node.left)
    if isinstance(node.op, ast.Add) and isinstance(node.left, ast.Call) and ast.unparse(node.left.func) == "np.sqrt":
        yield ast.Call(node.left.func, [ast.BinOp(node.left.args[0], ast.Add(), node.right)], [])  # √v + ε for √(v + ε)
    if isinstance(node.op, ast.MatMult):
        yield ast.BinOp(_transposed(node.left), node.op, node.right)
        yield ast.BinOp(node.left, node.op, _transposed(node.right))
    else:
        yield node.left
        if not isinstance(node.op, ast.Div):
            yield node.right


def _called(node: ast.Call) -> Iterator[Any]:
    function, arguments = node.func, node.args
    if isinstance(function, ast.Attribute) and function.attr in _CALLS:
        yield ast.Call(ast.Attribute(function.value, _CALLS[function.attr], ast.Load()), arguments, node.keywords)
    if len(arguments) == 1 and not node.keywords and ast.unparse(function) not in ("len", "range", "reversed"):
        yield arguments[0]
        yield ast.Call(function, [ast.UnaryOp(ast.USub(), arguments[0])], [])
    if len(arguments) == 3 and ast.unparse(function).endswith("where"):
        yield ast.Call(function, [arguments[0], arguments[2], arguments[1]], [])
        yield from arguments[1:]


def _transposed(node: Any) -> Any:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return node.value
    return ast.Attribute(node, "T", ast.Load())


def _value(node: Any) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


def _renamed(node: Any, scope: Scope) -> Iterator[Any]:
    """Another name in this one place; a name reversed."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in scope.names:
        yield from (ast.Name(n, ast.Load()) for n in scope.names if n != node.id)
        yield ast.parse(f"{node.id}[::-1]", mode="eval").body


def _statements(node: Any, scope: Scope) -> Iterator[Any]:
    """``=`` for ``+=``, an alias, ``np.add.at`` for repeated indices, a return one level too deep."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
        yield ast.AugAssign(node.targets[0], ast.Add(), node.value)
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):  # an alias that is written to later
        yield ast.Assign(node.targets, ast.parse(f"{node.value.id}.copy()", mode="eval").body, lineno=node.lineno)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        target = node.target
        if isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Slice):
            whole, index, added = ast.unparse(target.value), ast.unparse(target.slice), ast.unparse(node.value)
            yield ast.parse(f"np.add.at({whole}, ({index}), {added})").body[0]
        yield ast.Assign([target], node.value, lineno=node.lineno)
    if isinstance(node, ast.For) and isinstance(node.body[-1], ast.Return) and len(node.body) > 1:
        last = node.body[-1]
        loop = ast.For(node.target, node.iter, node.body[:-1], node.orelse, lineno=node.lineno)
        yield ast.If(ast.Constant(True), [loop, last], [])


def _exchanged(node: Any, scope: Scope) -> Iterator[Any]:
    """Two names of one statement exchanged throughout."""
    if not isinstance(node, (ast.Assign, ast.Return, ast.AugAssign)) or node.value is None:
        return
    used = list(dict.fromkeys(n.id for n in ast.walk(node.value) if isinstance(n, ast.Name) and n.id in scope.names))
    for k, a in enumerate(used[:8]):
        for b in used[k + 1 : 8]:
            swapped = _Exchange(a, b).visit(ast.parse(ast.unparse(node.value), mode="eval").body)
            if isinstance(node, ast.Return):
                yield ast.Return(swapped)
            elif isinstance(node, ast.Assign):
                yield ast.Assign(node.targets, swapped, lineno=node.lineno)
            else:
                yield ast.AugAssign(node.target, node.op, swapped)


class _Exchange(ast.NodeTransformer):
    def __init__(self, a: str, b: str) -> None:
        self.table = {a: b, b: a}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.copy_location(ast.Name(self.table.get(node.id, node.id), node.ctx), node)


# Insertions ----------------------------------------------------------------------------------------------------------
def _factored(node: Any, scope: Scope) -> Iterator[Any]:
    """A factor that is missing: a hyper-parameter, a name, a size, the derivative of a sigmoid or of tanh."""
    if not _takes_a_factor(node):
        return
    for text in _factors(scope):
        factor = ast.parse(text, mode="eval").body
        yield ast.BinOp(node, ast.Mult(), factor)
        if "(1 -" not in text or text.count("*") == 0:
            yield ast.BinOp(node, ast.Div(), factor)


def _takes_a_factor(node: Any) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, (ast.Mult, ast.Div, ast.MatMult))
    read = isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
    return read and isinstance(node, (ast.Name, ast.Call, ast.UnaryOp))


def _factors(scope: Scope) -> Iterator[str]:
    yield from scope.options
    yield from (f"(1 - {n})" for n in scope.options)
    yield from scope.names
    for name in scope.inputs:
        yield from (f"{name}.shape[0]", f"{name}.shape[-1]", f"np.sqrt({name}.shape[-1])", f"{name}.size")
    yield from (f"{n} * (1 - {n})" for n in scope.names)
    yield from (f"(1 - {n} ** 2)" for n in scope.names)
    yield from (f"(1 - {n})" for n in scope.names if n not in scope.options)
    yield from (f"{n}.sum(axis={axis}, keepdims=True)" for n in scope.names for axis in (-1, 0))
    yield from (f"{n}[:, None]" for n in scope.names)
    yield from (f"({n} > 0)" for n in scope.names)
    yield from (f"({n} <= 0)" for n in scope.names)
    yield from (f"np.exp({n})" for n in scope.names)
    yield "2"


def _summed(node: Any, scope: Scope) -> Iterator[Any]:
    """A sum over an axis, a transpose, a missing term."""
    if not _takes_a_factor(node):
        return
    text = ast.unparse(node)
    for after in (".sum(axis=0)", ".sum(axis=1)", ".sum(axis=1, keepdims=True)", ".sum()", ".T"):
        yield ast.parse(f"({text}){after}", mode="eval").body
    for k, a in enumerate(scope.names[:8]):
        yield ast.parse(f"{text} + {a}", mode="eval").body
        for b in scope.names[k:8]:
            yield ast.parse(f"{text} + {a} * {b}", mode="eval").body
            yield ast.parse(f"{text} - {a} * {b}", mode="eval").body
