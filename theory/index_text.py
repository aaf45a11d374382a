"""Tensor expressions as text in index notation: ``sum[i](x[n,i]*W[i,o]) + b[o]``, read by allow-list.

A variable carries its axes in square brackets, ``sum``, ``mean`` and ``max`` name the axes they run over, functions act
entry by entry. An axis in one place of a variable has the same size wherever that place is named otherwise: in
``exp(z[n,k])/sum[j](exp(z[n,j]))`` the axes j and k have one size. Words without brackets are scalars.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

import sympy

from .errors import InputError
from .parsing import FUNCTIONS, _checked_tree, _number, _short, _source, power
from .tensors import Axis, Input, Scalar, Tensor, apply, as_tensor, size_symbol, slot

REDUCTIONS: dict[str, Callable[[Tensor, tuple[str, ...]], Tensor]] = {
    "sum": lambda t, over: t.sum(over),
    "mean": lambda t, over: t.mean(over),
    "max": lambda t, over: t.max(over),
    "min": lambda t, over: t.min(over),
}
MAX_AXES = 8


def is_index_text(text: str) -> bool:
    """Whether the text is index notation: something in it carries indices."""
    return "[" in text


def parse_tensors(*texts: str) -> tuple[Tensor, ...]:
    """The tensors that the texts write; one variable has one number of axes and one size per place in all of them.

    Raises :class:`InputError` naming what is not allowed.

    >>> parse_tensors("sum[i](x[n,i]*W[i,o])")
    (Σ_i x[n,i] W[i,o],)
    """
    trees = [_checked_tree(text) for text in texts]
    found = []
    sizes = _Sizes()
    for text, tree in zip(texts, trees, strict=True):
        try:
            _collect(tree, sizes)
        except InputError as error:
            raise InputError(f"formula {_short(text)}: {error}") from None
    for text, tree in zip(texts, trees, strict=True):
        try:
            found.append(_Reader(sizes, _source(text)).read(tree))
        except InputError as error:
            raise InputError(f"formula {_short(text)}: {error}") from None
        except (ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
            raise InputError(f"formula {_short(text)}: {error}") from None
    return tuple(found)


class _Sizes:
    """Which axis names share a size: a union-find over names and places of variables."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.rank: dict[str, int] = {}
        self.named: set[str] = set()

    def root(self, key: str) -> str:
        self.parent.setdefault(key, key)
        while self.parent[key] != key:
            key = self.parent[key]
        return key

    def join(self, a: str, b: str) -> None:
        roots = sorted((self.root(a), self.root(b)), key=lambda k: (":" in k, k))
        self.parent[roots[1]] = roots[0]

    def axis(self, name: str) -> Axis:
        """The axis of that name, its size the symbol of the first name it shares one with."""
        return Axis(name, size_symbol(self.root(name).upper()))


def _indices(node: ast.AST) -> tuple[str, ...]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    if not all(isinstance(p, ast.Name) for p in parts):
        raise InputError("indices are names, as in x[n,i]")
    if len(parts) > MAX_AXES:
        raise InputError(f"{len(parts)} indices: at most {MAX_AXES}")
    return tuple(p.id for p in parts if isinstance(p, ast.Name))


def _collect(tree: ast.AST, sizes: _Sizes) -> None:
    """Note every variable's number of axes, and which names stand in one place."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
            continue
        name, indices = node.value.id, _indices(node.slice)
        if name in REDUCTIONS:
            continue
        if sizes.rank.setdefault(name, len(indices)) != len(indices):
            raise InputError(f"{name} has {sizes.rank[name]} indices in one place and {len(indices)} in another")
        for k, index in enumerate(indices):
            sizes.named.add(index)
            sizes.join(index, f":{name}:{k}")


class _Reader:
    def __init__(self, sizes: _Sizes, source: str) -> None:
        self.sizes, self.source = sizes, source

    def read(self, node: ast.AST) -> Tensor:
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return Scalar(_number(ast.get_source_segment(self.source, node) or ""))
            case ast.Name(id=name):
                if name in self.sizes.rank:
                    raise InputError(f"{name} has {self.sizes.rank[name]} indices elsewhere: write them here too")
                return Scalar(sympy.pi) if name == "pi" else Scalar(sympy.Symbol(name, real=True))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                value = self.read(operand)
                return -value if isinstance(node.op, ast.USub) else value
            case ast.BinOp():
                return self._binary(node)
            case ast.Subscript(value=ast.Name(id=name), slice=inside):
                if name in REDUCTIONS:
                    raise InputError(f"{name}[…] needs what it runs over: {name}[i](…)")
                return Input(name, tuple(self.sizes.axis(i) for i in _indices(inside)))
            case ast.Call():
                return self._call(node)
        raise InputError(f"{type(node).__name__.lower()} is not part of a tensor formula")

    def _binary(self, node: ast.BinOp) -> Tensor:
        left, right = self.read(node.left), self.read(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                if isinstance(right, Scalar) and right.value == 0:
                    raise InputError("divides by zero")
                return left / right
            case ast.Pow():
                if not isinstance(right, Scalar) or right.value.free_symbols:
                    raise InputError("an exponent is a number")
                power(sympy.Symbol("base", real=True), right.value)  # its bounds
                return Scalar(power(left.value, right.value)) if isinstance(left, Scalar) else left**right.value
        raise InputError(f"operator {type(node.op).__name__} is not part of a tensor formula")

    def _call(self, node: ast.Call) -> Tensor:
        if node.keywords or not node.args:
            raise InputError("functions take their arguments by place")
        arguments = [self.read(a) for a in node.args]
        if isinstance(node.func, ast.Subscript) and isinstance(node.func.value, ast.Name):
            return self._reduce(node.func.value.id, _indices(node.func.slice), arguments)
        if not isinstance(node.func, ast.Name):
            raise InputError(f"{type(node.func).__name__.lower()} cannot be called")
        name = node.func.id
        if name not in FUNCTIONS or name == "where":
            raise InputError(f"unknown function {name[:40]!r}: known are {', '.join(sorted(FUNCTIONS))}")
        try:
            expr = FUNCTIONS[name](*(slot(k) for k in range(len(arguments))))
        except TypeError:
            raise InputError(f"wrong arguments for {name}()") from None
        return apply(expr, *map(as_tensor, arguments))

    def _reduce(self, name: str, over: tuple[str, ...], arguments: list[Tensor]) -> Tensor:
        if name not in REDUCTIONS:
            raise InputError(f"unknown reduction {name[:40]!r}: known are {', '.join(REDUCTIONS)}")
        if len(arguments) != 1:
            raise InputError(f"{name}[{','.join(over)}] takes one argument")
        (body,) = arguments
        for i in over:
            if i not in self.sizes.named:
                raise InputError(f"{name} runs over {i}, which no variable has")
        missing = [i for i in over if i not in body.names]
        body = body.expand([*body.axes, *(self.sizes.axis(i) for i in missing)]) if missing else body
        return REDUCTIONS[name](body, over)
