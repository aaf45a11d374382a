"""Rosenblatt's perceptron rule, run in integer arithmetic: what it does is exact, and so is a cycle it falls into.

The rule visits the points in order, and at each point on the wrong side (or on the line) it adds y·(x, 1) to (w, b).
The order is fixed, so the weights at the start of a pass decide everything after it: when they repeat, the rule runs
in a circle for ever. On points that no hyperplane separates it must do so in the end (the weights stay bounded: Block
& Levin 1970), however late.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.errors import InputError
from ..theory.perceptron import Problem, Vector

#: Products up to this stay exact in int64; beyond it Python's integers take over.
_INT64_ROOM = 2**62


@dataclass(frozen=True)
class PerceptronRun:
    """What Rosenblatt's rule did.

    ``outcome`` is "learned" (a whole pass without a mistake), "cycle" (the weights at the start of a pass repeat: it
    never converges, proved) or "stopped" (neither within the allowed passes). ``history`` counts the mistakes of each
    pass; ``path`` holds (w, b) at the start of each pass and after the last one. A cycle goes from pass
    ``cycle_start`` for ``cycle_length``.
    """

    problem: Problem
    outcome: str
    history: tuple[int, ...]
    path: tuple[Vector, ...]
    cycle_start: int | None = None
    cycle_length: int = 0

    @property
    def mistakes(self) -> int:
        """All mistakes, which is the number of updates."""
        return sum(self.history)

    @property
    def weights(self) -> Vector:
        """The final w."""
        return self.path[-1][:-1]

    @property
    def bias(self) -> Fraction:
        """The final b."""
        return self.path[-1][-1]

    @property
    def text(self) -> str:
        """The outcome in one line."""
        passes = f"{len(self.history)} pass" + ("es" if len(self.history) != 1 else "")
        mistakes = f"{self.mistakes} mistake" + ("s" if self.mistakes != 1 else "")
        if self.outcome == "learned":
            return f"Rosenblatt's rule learned it in {passes}: {mistakes}, none in the last pass"
        if self.outcome == "cycle":
            assert self.cycle_start is not None
            again = self.cycle_start + self.cycle_length + 1
            return (
                f"Rosenblatt's rule never learns it: its weights before pass {again} "
                f"are those before pass {self.cycle_start + 1}, so it repeats the same mistakes for ever"
            )
        return f"Rosenblatt's rule had not learned it when stopped after {passes} and {mistakes}"


def run_perceptron(problem: Problem, passes: int = 1000) -> PerceptronRun:
    """Run Rosenblatt's rule from w = 0, b = 0 over the points in their order, for at most ``passes`` passes.

    >>> from backproof.theory.perceptron import gate
    >>> run_perceptron(gate("and")).outcome, run_perceptron(gate("xor")).outcome
    ('learned', 'cycle')
    """
    if passes < 1:
        raise InputError(f"passes = {passes}: at least one pass over the points is needed")
    vectors = _integers(problem, passes)
    weights = np.zeros(vectors.shape[1], dtype=vectors.dtype)
    path, history, seen = [_key(weights)], [], {_key(weights): 0}
    outcome, start = "stopped", None
    for number in range(1, passes + 1):
        history.append(_one_pass(vectors, weights))
        path.append(_key(weights))
        if history[-1] == 0:
            outcome = "learned"
            break
        if path[-1] in seen:
            outcome, start = "cycle", seen[path[-1]]
            break
        seen[path[-1]] = number
    scale = problem.denominator
    exact = tuple(tuple(Fraction(entry, scale) for entry in point) for point in path)
    length = 0 if start is None else len(path) - 1 - start
    return PerceptronRun(problem, outcome, tuple(history), exact, start, length)


def _one_pass(vectors: npt.NDArray[Any], weights: npt.NDArray[Any]) -> int:
    """One pass over the points, updating ``weights`` in place; returns the number of mistakes."""
    position, mistakes = 0, 0
    while position < len(vectors):
        # Until the next mistake the weights stay as they are, so one product finds it.
        wrong = np.flatnonzero(vectors[position:] @ weights <= 0)
        if not len(wrong):
            break
        position += int(wrong[0])
        weights += vectors[position]
        position, mistakes = position + 1, mistakes + 1
    return mistakes


def _integers(problem: Problem, passes: int) -> npt.NDArray[Any]:
    largest = max(abs(entry) for vector in problem.scaled for entry in vector)
    bound = passes * len(problem.scaled) * largest**2 * (problem.dimension + 1)
    return np.array(problem.scaled, dtype=np.int64 if bound < _INT64_ROOM else object)


def _key(weights: npt.NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(entry) for entry in weights)
