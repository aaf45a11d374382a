"""How many threads matrix products may use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import pairwise
from typing import Any

#: Multiplications of one matrix product from which a second thread is worth waiting for.
WORK_FOR_THREADS = 2**26


def blas_threads(widths: Sequence[int], rows: int) -> AbstractContextManager[Any]:
    """One BLAS thread while the products of a network of these widths over ``rows`` samples are small.

    On a busy machine waiting for a second thread took 30 times as long; on an idle one it gains a fifth at most.
    """
    work = max(rows * m * n for m, n in pairwise(widths))
    return _libraries().limit(limits=1, user_api="blas") if work < WORK_FOR_THREADS else nullcontext()


@cache
def _libraries() -> Any:
    """What NumPy multiplies with, looked for once: looking takes milliseconds, an epoch of a small network no more."""
    import numpy  # noqa: F401  (its library must be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
