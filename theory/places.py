"""Slices, padding and concatenation: a place tensor is 1 where an index is an affine map of another, else 0.

``place(big, small, offset, step)`` is P[i, j] = [i = offset + step·j]; without ``small``, P[i] = [i = offset].
Offsets are expressions in axis sizes.  A slice is Σᵢ x[i] P[i, j], its adjoint and a concatenation Σⱼ v[j] P[i, j].
Place tensors are inputs with the fact that each column has exactly one 1: normal forms know them as constants.

:func:`pick` reads an expression at a place, which commutes with everything that acts entry by entry; :func:`settle`
brings an expression to a form in which reading what was written is the value itself, and disjoint places are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy

from .monomials import Work
from .tensors import (
    Axis,
    Contract,
    Delta,
    Extremum,
    Input,
    Map,
    Maximiser,
    Named,
    Scalar,
    Tensor,
    contract,
    fresh_axis,
    map_function,
    one_hot,
)
from .walking import postorder

#: name of a place tensor -> its offset and step
_PLACES: dict[str, tuple[sympy.Expr, int]] = {}


def place(big: Axis, small: Axis | None, offset: sympy.Expr | int, step: int = 1) -> Tensor:
    """1 where the index into ``big`` is offset + step·(index into ``small``), else 0; it must stay inside ``big``."""
    offset, step = sympy.expand(offset), step if small is not None else 1
    if small is not None and offset == 0 and step == 1 and small.size == big.size:
        return Delta(big, small)
    name = f"place[{offset};{step};{big.size};{'' if small is None else small.size}]"
    _PLACES[name] = (offset, step)
    return Input(name, (big,) if small is None else (big, small), (one_hot(big.name),))


def is_place(node: Tensor) -> bool:
    """Whether a node is a place tensor."""
    return isinstance(node, Input) and node.name in _PLACES


def has_places(root: Tensor) -> bool:
    """Whether an expression contains a place tensor."""
    return any(is_place(node) for node in postorder(root))


def at_least_zero(expr: sympy.Expr) -> bool:
    """Whether an expression in sizes is ≥ 0 for all sizes ≥ 1: each size is written as 1 plus what it has beyond."""
    expr = sympy.expand(expr)
    symbols = sorted(expr.free_symbols, key=str)
    if not symbols:
        return bool(expr >= 0)
    beyond = sympy.expand(expr.xreplace({s: s + 1 for s in symbols}))
    try:
        return all(c >= 0 for c in sympy.Poly(beyond, *symbols).coeffs())
    except sympy.PolynomialError:
        return False


def pick(root: Tensor, big: Axis, small: Axis | None, offset: sympy.Expr | int, step: int = 1) -> Tensor:
    """``root`` with its axis ``big`` read at offset + step·(index into ``small``); ``small`` must be a new axis."""
    offset = sympy.expand(offset)

    def leaf(node: Tensor) -> Tensor:
        if isinstance(node, Delta):
            return place(node.b if node.a.name == big.name else node.a, small, offset, step)
        if is_place(node):
            return _meet(node, big, small, offset, step)  # type: ignore[arg-type]
        rest = [a for a in node.axes if a.name != big.name] + ([small] if small is not None else [])
        return contract((node, place(big, small, offset, step)), rest)

    return _read_at(root, big, (small,) if small is not None else (), leaf)


def gather(root: Tensor, big: Axis, rows: Tensor) -> Tensor:
    """``root`` with its axis ``big`` read at the 1 of each one-hot row; the other axes of ``rows`` must be new."""
    own = tuple(a for a in rows.axes if a.name != big.name)

    def leaf(node: Tensor) -> Tensor:
        if isinstance(node, Delta):
            return rows.rename({big.name: (node.b if node.a.name == big.name else node.a).name})
        return contract((node, rows), [*(a for a in node.axes if a.name != big.name), *own])

    return _read_at(root, big, own, leaf)


def _read_at(root: Tensor, big: Axis, small: tuple[Axis, ...], leaf: Callable[[Tensor], Tensor]) -> Tensor:
    """Read an axis of an expression: what acts entry by entry is read in its operands, ``leaf`` does the rest."""
    memo: dict[Tensor, Tensor] = {}

    def read(node: Tensor) -> Tensor:
        if big.name not in node.names:
            return node
        if node not in memo:
            memo[node] = _read(node)
        return memo[node]

    def _read(node: Tensor) -> Tensor:
        if isinstance(node, Map):
            return map_function(node.function, *(read(a) for a in node.arguments))
        if isinstance(node, Contract):
            keep = [b for a in node.keep for b in ((a,) if a.name != big.name else small)]
            return contract((read(f) for f in node.factors), keep)
        if isinstance(node, Extremum):
            return Extremum(read(node.operand), node.over, node.ties)
        if isinstance(node, Maximiser) and big.name not in {a.name for a in node.indices}:
            return Maximiser(read(node.operand), node.over, node.indices)
        if isinstance(node, Named):
            return read(node.operand)
        return leaf(node)

    result = read(root)
    return result.expand(small) if big.name in root.names else result


def _meet(node: Input, big: Axis, small: Axis | None, offset: sympy.Expr, step: int) -> Tensor:
    """A place tensor read at a place."""
    own_offset, own_step = _PLACES[node.name]
    if len(node.indices) == 2 and node.indices[1].name == big.name:  # read along the smaller axis: maps in a row
        return place(node.indices[0], small, own_offset + own_step * offset, own_step * step)
    own = node.indices[1] if len(node.indices) == 2 else None
    apart = sympy.expand(own_offset - offset)
    if apart == 0 and own is None and small is None:
        return Scalar(sympy.Integer(1))
    if own is not None and small is not None and apart == 0 and own.size == small.size and own_step == step:
        return Delta(own, small)
    if _disjoint((own_offset, own_step, own), (offset, step, small)):
        return Scalar(sympy.Integer(0)).expand([a for a in (own, small) if a is not None])
    if own is None and small is not None and step in (1, -1) and _inside(apart * step, sympy.Integer(1), small.size):
        return place(small, None, apart * step)
    if small is None and own is not None and own_step in (1, -1):
        at = sympy.expand(-apart * own_step)
        if _inside(at, sympy.Integer(1), own.size):
            return place(own, None, at)
    if own is not None and small is not None and own_step == step == 1:
        if _inside(apart, own.size, small.size):
            return place(small, own, apart)
        if _inside(-apart, small.size, own.size):
            return place(own, small, -apart)
    read = place(big, small, offset, step)
    return contract((node, read), [a for a in (own, small) if a is not None])


def _inside(start: sympy.Expr, count: sympy.Expr, size: sympy.Expr) -> bool:
    return at_least_zero(start) and at_least_zero(size - start - count)


def _disjoint(a: tuple[sympy.Expr, int, Axis | None], b: tuple[sympy.Expr, int, Axis | None]) -> bool:
    ends = []
    for offset, step, axis in (a, b):
        last = offset + step * ((axis.size if axis is not None else 1) - 1)
        ends.append((offset, last) if step > 0 else (last, offset))
    (low, high), (low2, high2) = ends
    if at_least_zero(low2 - high - 1) or at_least_zero(low - high2 - 1):
        return True
    stride = abs(a[1]) if a[2] is not None else abs(b[1])
    same = abs(a[1]) == abs(b[1]) or a[2] is None or b[2] is None
    gap = sympy.expand(a[0] - b[0])
    return same and stride > 1 and gap.is_Integer and int(gap) % stride != 0


def settle(root: Tensor) -> Tensor:
    """The expression with every factor beside a place tensor read at that place, and sums of places carried out."""
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Maximiser):
            memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
        elif isinstance(node, Contract):
            memo[node] = _settled(contract((memo[f] for f in node.factors), node.keep))
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return memo[root]


def _settled(node: Tensor) -> Tensor:
    if not isinstance(node, Contract):
        return node
    Work.check()
    keep = {a.name for a in node.keep}
    factors = list(node.factors)
    for index in range(len(factors)):
        spot = factors[index]
        if not is_place(spot):
            continue
        assert isinstance(spot, Input)
        big, small = spot.indices[0], spot.indices[1] if len(spot.indices) == 2 else None
        others = [k for k, f in enumerate(factors) if k != index and big.name in f.names]
        free = big.name in keep
        if len(others) == 1 and not free and isinstance(factors[others[0]], Input) and not is_place(factors[others[0]]):
            continue  # an input read at a place: the normal form itself
        if not others and free:
            continue
        offset, step = _PLACES[spot.name]
        for k in others:
            fresh = None if small is None else fresh_axis(small.size)
            moved = pick(factors[k], big, fresh, offset, step)
            factors[k] = moved if fresh is None else moved.rename({fresh.name: small.name})  # type: ignore[union-attr]
        if not free:  # Σ over the larger axis of a place is 1
            lost = (
                small is not None
                and small.name not in keep
                and not any(small.name in f.names for k, f in enumerate(factors) if k != index)
            )
            factors[index] = Scalar(small.size if lost else sympy.Integer(1))  # type: ignore[union-attr]
    return contract(factors, node.keep)


def unroll(root: Tensor) -> Tensor:
    """The expression with every sum over an axis of fixed length written out."""
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Maximiser):
            memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
        elif isinstance(node, Contract):
            memo[node] = _unrolled(contract((memo[f] for f in node.factors), node.keep))
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return settle(memo[root])


def _unrolled(node: Tensor) -> Tensor:
    if not isinstance(node, Contract):
        return node
    fixed = [a for a in node.summed if a.size.is_Integer]
    if len(node.factors) == 2 and len(node.summed) == 1 and any(is_place(f) for f in node.factors):
        return node  # an input read at a place
    for a in fixed[:1]:
        parts = [
            _unrolled(_settled(contract((pick(f, a, None, k) for f in node.factors), node.keep)))
            for k in range(int(a.size))
        ]
        total = map_function(sympy.Add(*(sympy.Symbol(f"_{k}", real=True) for k in range(len(parts)))), *parts)
        return total.expand(node.keep)
    return node
