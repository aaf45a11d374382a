"""Tensor expressions in the form in which passes over rows are written: one column axis, equal parts the same node.

A row has one axis of entries, however many names the derivation gave it; under one name, equal quantities are one node
and are computed once. A gradient's exp(y) of y = c − log s is written exp(c)/s, which shares exp(c) with s = Σ exp(c).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from ...theory.errors import Unsupported
from ...theory.tensors import (
    Axis,
    Contract,
    Extremum,
    Input,
    Map,
    Named,
    Position,
    Scalar,
    Tensor,
    contract,
    map_function,
    merge_axes,
    slot,
)
from ...theory.walking import postorder
from .tensor_parts import Pass, told

_EXP, _LOG, _DIFFERENCE = sympy.exp(slot(0)), sympy.log(slot(0)), slot(0) - slot(1)


@dataclass(frozen=True)
class RowForm:
    """The outputs of a pass over one row axis and one column axis, and what the derivation called their parts."""

    row: Axis
    column: Axis
    outputs: dict[str, tuple[Tensor, tuple[Axis, ...]]]
    names: dict[Tensor, str]


def row_form(what: Pass, row: Axis, *, merge: bool) -> RowForm:
    """The pass in that form.

    ``merge`` multiplies products in products out, and takes what is the same for a whole row out of its sums: exact,
    but a step may overflow that would not otherwise, so only where results have a smaller range than steps.
    Raises :class:`Unsupported` where an entry of a row is told by two indices.
    """
    outputs: dict[str, tuple[Tensor, tuple[Axis, ...]]] = {}
    names: dict[Tensor, str] = {}
    for name, (tensor, axes) in what.outputs.items():
        done: dict[int, Tensor] = {}
        for node in postorder(tensor):
            operands = tuple(done[id(o)] for o in node.operands)
            made = _rebuilt(node, operands, row, merge)
            if isinstance(node, Named):
                names.setdefault(made, node.name)
            done[id(node)] = made
        outputs[name] = (done[id(tensor)], tuple(_renamed(axes, row)))
    return RowForm(row, _column(outputs), outputs, names)


def _column(outputs: dict[str, tuple[Tensor, tuple[Axis, ...]]]) -> Axis:
    found = {a for tensor, _ in outputs.values() for node in postorder(tensor) for a in node.axes if a.name == COLUMN}
    if len(found) != 1:
        raise Unsupported(f"rows of {len(found)} sizes in one pass: no pass row by row")
    return found.pop()


#: What the column axis is called in this form; no axis of a derivation has such a name.
COLUMN = "column "


def _renamed(axes: tuple[Axis, ...], row: Axis) -> list[Axis]:
    columns = [a for a in axes if a != row]
    if len(columns) > 1:
        raise Unsupported("an entry of a row with two indices: no pass row by row")
    return [a if a == row else Axis(COLUMN, a.size) for a in axes]


def _rebuilt(node: Tensor, operands: tuple[Tensor, ...], row: Axis, merge: bool) -> Tensor:
    match node:
        case Input():
            return Input(node.name, tuple(_renamed(node.indices, row)))  # without facts: equal entries are one node
        case Scalar():
            return node
        case Position():
            return Position(_renamed((node.along,), row)[0])
        case Named():
            return operands[0]
        case Map():
            return _as_quotient(map_function(node.function, *operands))
        case Extremum():
            return Extremum(operands[0], tuple(_renamed(node.over, row)), node.ties)
        case Contract():
            _renamed(merge_axes(f.axes for f in node.factors), row)  # refuses what has two
            keep = tuple(_renamed(node.keep, row))
            return _product(operands, keep, row) if merge else Contract(operands, keep)
    raise told(node)


def _product(factors: tuple[Tensor, ...], keep: tuple[Axis, ...], row: Axis) -> Tensor:
    """The product; of a sum over a row, the factors that are the same for every term are taken out."""
    whole = contract(factors, keep)
    if not isinstance(whole, Contract) or not whole.summed or row in whole.summed:
        return whole
    inside = [f for f in whole.factors if isinstance(f, Scalar) or not set(whole.summed).isdisjoint(f.axes)]
    moving = [f for f in whole.factors if f not in inside]
    kept = tuple(a for a in keep if any(a in f.axes for f in inside))
    return contract((*moving, Contract(tuple(inside), kept)), keep) if moving else whole


def _as_quotient(node: Tensor) -> Tensor:
    """exp(c − log s) as exp(c)/s; anything else as it is."""
    if isinstance(node, Map) and node.function == _EXP:
        argument = node.arguments[0]
        if isinstance(argument, Map) and argument.function == _DIFFERENCE:
            first, second = argument.arguments
            if isinstance(second, Map) and second.function == _LOG:
                return map_function(_EXP, first) * map_function(1 / slot(0), second.arguments[0])
    return node
