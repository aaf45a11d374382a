"""What the targets with whole-array statements and automatic differentiation share (PyTorch, JAX).

A formula with its derivatives is a ladder: the backward pass of f⁽ᵏ⁾ multiplies by f⁽ᵏ⁺¹⁾. A rung is one program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...theory.errors import InputError
from ...theory.lowering import Program
from .numba_cpu import names_of
from .printing import INDENT, identifier, literal, ordered, text_of

#: Programs for the derivatives of the given orders, computed together.
Programs = Callable[[Sequence[int]], Program]


@dataclass(frozen=True)
class Rung:
    """One differentiable function: the names of what it computes, and of the rung above (None at the top)."""

    name: str
    program: Program
    above: str | None


def rungs(programs: Programs, name: str, derivatives: int, target: str) -> list[Rung]:
    """The rungs of f, f′, …: each computes its value; the last one with it the derivative of its backward pass.

    Raises :class:`InputError` for no derivative at all: these targets' backward pass is made of one.
    """
    if derivatives < 1:
        raise InputError(f"target {target} needs at least one derivative: its backward pass multiplies by it")
    names = [name + ("_derivative" if k == 1 else f"_derivative_{k}" if k else "") for k in range(derivatives)]
    found = []
    for k, rung in enumerate(names):
        top = k == derivatives - 1
        found.append(Rung(rung, programs((k, k + 1) if top else (k,)), None if top else names[k + 1]))
    return found


def statements(
    program: Program, table: Mapping[str, str], text: Callable[[Program, Mapping[int, str], int], str] | None = None
) -> tuple[list[str], dict[int, str]]:
    """One statement a step, and the name of every step; ``text`` writes a step's right-hand side."""
    names = names_of(program, {given: identifier(given) for given in program.inputs})
    write = text or (lambda program, names, place: text_of(program, table, names, place))
    return [f"{INDENT}{names[p]} = {write(program, names, p)}" for p, _ in ordered(program)], names


def result_texts(program: Program, names: Mapping[int, str], full: str) -> list[str]:
    """What to return: names, and for a constant a whole array of it (``full`` is the function's name)."""
    (given,) = program.inputs
    return [
        f"{full}({identifier(given)}, {literal(program.nodes[p].leaf)})"
        if program.nodes[p].operation == "constant"
        else names[p]
        for p in program.outputs.values()
    ]
