"""How many points a check can afford: a large program is judged at fewer points rather than not at all, and it is said.

A point costs what one run in exact arithmetic took, in time of the processor: a busy machine changes little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: Seconds of processor time for the points of the formula, of floats and domain, of kinks.
FORMULA, FLOATS, KINKS = 2.5, 2.0, 2.5
#: Points looked at whatever they cost: one of the formula, the generic ones of the floats and one more, some kinks.
LEAST_FORMULA, LEAST_FLOATS, LEAST_KINKS = 2, 3, 2


@dataclass(frozen=True)
class Allowance:
    """Seconds for some points: as many as fit, evenly spread over the list, and what to say if these are not all."""

    seconds: float
    least: int
    cost: float = 0.0

    def of(self, points: Sequence[T]) -> Sequence[T]:
        """Return the points that fit.

        >>> Allowance(2.0, 2, cost=0.5).of(range(10))
        [0, 2, 5, 7]
        """
        count = max(self.least, int(self.seconds / self.cost)) if self.cost > 0 else len(points)
        return points if count >= len(points) else [points[k * len(points) // count] for k in range(count)]

    def note(self, taken: int, offered: int) -> str:
        """Say that points were left out, before what was found at the others.

        >>> Allowance(2.0, 2, cost=0.5).note(4, 10)
        '4 of 10 points (one run takes 0.50 s): '
        """
        return f"{taken} of {offered} points (one run takes {self.cost:.2f} s): " if taken < offered else ""


NO_LIMIT = Allowance(0.0, 0)


class Stopwatch:
    """Processor seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self.start
