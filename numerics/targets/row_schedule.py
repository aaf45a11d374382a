"""Which loop over the entries of a row computes what: as few loops as sums of sums allow.

A sum or a maximum over a row is known after a loop; what needs it waits for a later one. A number of the row that a
quantity waits for is its level; there is one loop more than the highest level, and everything is computed as late as
may be, beside what reads the same entries. What costs a call or a division and is needed in two loops is kept in
memory, the rest is computed again from what is there.
"""

from __future__ import annotations

from functools import cached_property

import sympy

from ...theory.tensors import Axis, Contract, Extremum, Map, Tensor
from ...theory.walking import postorder
from .row_form import RowForm


class Schedule:
    """``loops[j]``: the sums and maxima of loop j; ``kept``: node -> the loop whose value of it later ones read."""

    def __init__(self, form: RowForm) -> None:
        self.form = form
        roots = [tensor for tensor, _ in form.outputs.values()]
        levels = self._levels(roots)
        #: outputs with an entry a column are written in the last loop
        self.written = [name for name, (tensor, _) in form.outputs.items() if self.by_entry(tensor)]
        last = max(levels[t] - (0 if self.by_entry(t) else 1) for t in roots)
        self.loops: list[list[Tensor]] = [[] for _ in range(max(last, 0) + 1)]
        self._place(levels, last)

    @property
    def column(self) -> Axis:
        """The axis of the loops."""
        return self.form.column

    def by_entry(self, node: Tensor) -> bool:
        """Whether the node has an entry a column."""
        return self.column in node.axes

    def is_reduction(self, node: Tensor) -> bool:
        """Whether the node is known after a loop over its row."""
        if isinstance(node, Contract):
            return self.column in node.summed
        return isinstance(node, Extremum) and self.column in node.over

    def _levels(self, roots: list[Tensor]) -> dict[Tensor, int]:
        levels: dict[Tensor, int] = {}
        for root in roots:
            for node in postorder(root):
                below = max((levels[o] for o in node.operands), default=0)
                levels[node] = below + self.is_reduction(node)
        return levels

    def _needs(self, nodes: tuple[Tensor, ...]) -> set[Tensor]:
        """The sums and maxima that the nodes are made of, not those inside them."""
        found, waiting, seen = set(), list(nodes), set()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if self.is_reduction(node):
                found.add(node)
            else:
                waiting.extend(node.operands)
        return found

    def _place(self, levels: dict[Tensor, int], last: int) -> None:
        latest: dict[Tensor, int] = {}
        for tensor, _ in self.form.outputs.values():
            for needed in self._needs((tensor,)):
                latest[needed] = min(latest.get(needed, last), last - self.by_entry(tensor))
        order = sorted((n for n in levels if self.is_reduction(n)), key=lambda n: -levels[n])
        for node in order:  # what needs a node comes before it
            self.loops[latest[node]].insert(0, node)
            for needed in self._needs(node.operands):
                latest[needed] = min(latest.get(needed, last), latest[node] - 1)

    def roots(self, loop: int) -> list[Tensor]:
        """What is computed an entry in a loop: terms of sums, what maxima are of, outputs."""
        found = [o for node in self.loops[loop] for o in node.operands]
        if loop == len(self.loops) - 1:
            for name in self.written:
                tensor = self.form.outputs[name][0]
                found += tensor.operands if self.form.row not in tensor.axes else [tensor]
        return found

    @cached_property
    def kept(self) -> dict[Tensor, int]:
        """Costly quantities of more than one loop, each with the first."""
        first: dict[Tensor, int] = {}
        kept = {}
        for loop in range(len(self.loops)):
            waiting, seen = [n for n in self.roots(loop) if self.by_entry(n)], set()
            while waiting:
                node = waiting.pop()
                if node in seen:
                    continue
                seen.add(node)
                if is_costly(node) and first.setdefault(node, loop) < loop:
                    kept[node] = first[node]
                else:
                    waiting.extend(o for o in node.operands if self.by_entry(o))
        return kept


def is_costly(node: Tensor) -> bool:
    """Whether an entry costs a call of an elementary function, a root or a division."""
    if not isinstance(node, Map):
        return False
    calls = node.function.atoms(sympy.Function) - node.function.atoms(sympy.Piecewise, sympy.Abs, sympy.Max, sympy.Min)
    powers = any(not (p.exp.is_Integer and p.exp > 0) for p in node.function.atoms(sympy.Pow))
    return bool(calls) or powers
