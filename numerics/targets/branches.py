"""Where each step of a program stands in a scalar target: in a straight line, or inside the branch that needs it.

The plan knows no target: Numba prints it with indentation, C with braces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...theory.lowering import Program
from .printing import Nesting


@dataclass(frozen=True)
class Branch:
    """``if condition: yes… else: no…``; ``selects`` are the steps that get their value from the side that is taken."""

    condition: int
    yes: tuple[int | Branch, ...]
    no: tuple[int | Branch, ...]
    selects: tuple[int, ...]


def plan(program: Program) -> tuple[int | Branch, ...]:
    """The steps in order; those that only one side of a costly select needs stand inside a :class:`Branch`."""
    nesting = Nesting(program)
    given = {p for p, node in enumerate(program.nodes) if node.operation in ("input", "constant")}

    def arranged(needed: set[int]) -> tuple[int | Branch, ...]:
        condition = nesting.first_branching(needed)
        if condition is None:
            return tuple(sorted(needed))
        yes, no = nesting.sides(condition, needed)
        selects = tuple(
            p
            for p in sorted(needed)
            if program.nodes[p].operation == "select" and program.nodes[p].operands[0] == condition
        )
        after = _users(program, selects, needed) - yes - no
        before = needed - yes - no - set(selects) - after
        return (*arranged(before), Branch(condition, arranged(yes), arranged(no), selects), *arranged(after))

    return arranged(nesting.closure(program.outputs.values(), given) - given)


def _users(program: Program, sources: Sequence[int], needed: set[int]) -> set[int]:
    """Everything in ``needed`` computed from ``sources``."""
    found: set[int] = set()
    for place in sorted(needed):
        if place not in sources and any(o in found or o in sources for o in program.nodes[place].operands):
            found.add(place)
    return found
