"""``backproof bench --rows`` and ``--losses``: forward and backward pass, ours beside what people would call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..theory.errors import Unsupported
from .bench import machine, text
from .options import emit, progress

WHAT = {"rows": "forward and backward pass of row kernels", "losses": "losses with their gradients"}


def measure(
    kind: str, names: Sequence[str], dtypes: Sequence[str], shapes: Sequence[tuple[int, int]], rounds: int,
    threads: int | None, seed: int, *, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """All races as plain data: one entry for each dtype and shape."""
    from ..numerics.racing import processors, summary
    from ..numerics.row_racing import raced_pass

    races, count = [], len(names) * len(dtypes) * len(shapes)
    with processors(threads) as used, progress("racing", count, quiet=quiet) as advance:
        for dtype in dtypes:
            for shape in shapes:
                results: dict[str, Any] = {}
                for name in names:
                    results[name] = raced_pass(kind, name, dtype, shape, rounds, seed)
                    advance(1)
                size = shape[0] * shape[1]
                one = {"dtype": dtype, "shape": list(shape), "size": size}
                races.append(one | {"results": results, "summary": summary(results)})
    data = {"what": WHAT[kind], "kind": kind, "rounds": rounds, "target": "cpu", "threads": used}
    return data | {"machine": machine(), "races": races}


def command(
    kind: str, given: Sequence[str], dtypes: Sequence[str], shapes: str | None, rounds: int, threads: int | None,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Race the rows or losses named, or all of the table."""
    from ..numerics.row_racing import SHAPES, TABLES, row_of, shapes_of

    names = [row_of(kind, name) for name in given] or list(TABLES[kind])
    chosen = shapes_of(shapes) if shapes else SHAPES
    try:
        data = measure(kind, names, dtypes, chosen, rounds, threads, seed, quiet=as_json)
    except MemoryError:
        raise Unsupported("bench: arrays of these shapes do not fit into memory") from None
    emit(data, as_json, lambda: text(data))
