"""Source text of elementary functions, for printed kernels that must run without the package."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

#: What the copied functions need above them, in the order of a tidy module.
IMPORTS = (
    "import math", "", "import numba", "from llvmlite import ir", "from numba import types",
    "from numba.extending import intrinsic",
)  # fmt: skip


@lru_cache(maxsize=1)
def _definitions() -> dict[str, tuple[str, frozenset[str]]]:
    """Function name -> its text without annotations' imports, and the names it uses."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for module in ("elementary", "elementary_single", "elementary_pairs", "elementary_composed"):
        text = (Path(__file__).parents[1] / f"{module}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                used = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
                first = min(d.lineno for d in node.decorator_list)
                lines = text.splitlines()[first - 1 : node.end_lineno]
                found[node.name] = ("\n".join(lines).replace(": Any", "").replace(" -> Any", ""), used)
    return found


def copied_functions(names: Sequence[str]) -> str:
    """Imports and definitions of these functions and of all they call."""
    known = _definitions()
    needed: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [used for used in known[name][1] if used in known]
    return "\n".join([*IMPORTS, *("\n\n" + known[name][0] for name in known if name in needed)])
