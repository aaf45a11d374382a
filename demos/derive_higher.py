"""Derivatives of high order for ``derive activation``: polynomials in a few functions, on each piece of the formula."""

from __future__ import annotations

from typing import Any

from ..theory.errors import InputError, Unsupported

MAX_ORDER = 30
#: Derivatives shown as SymPy differentiates them; beyond, as polynomials where there is such a form.
DIRECT_ORDER = 2
#: Without such a form, differentiating again and again ends here.
MAX_DIRECT_ORDER = 8


def towers(row: Any) -> list[tuple[str, Any]]:
    """(interval, derivatives there) for every piece of the formula; empty where one has no polynomial form."""
    from ..theory.formula_text import formula_text
    from ..theory.higher_derivatives import tower_of
    from ..theory.pieces import pieces

    try:
        parts = pieces(row.expr)
        texts = ["" if len(parts) == 1 else f"{formula_text(p.left)} < x < {formula_text(p.right)}" for p in parts]
        return [(text, tower_of(p.expr)) for text, p in zip(texts, parts, strict=True)]
    except Unsupported:
        return []


def higher_facts(row: Any, order: int) -> dict[str, Any]:
    """The derivatives beyond :data:`DIRECT_ORDER` as data: text per piece, the generators, and a form for every n."""
    found = towers(row) if order > DIRECT_ORDER else []
    if not found and order > MAX_DIRECT_ORDER:
        raise InputError(
            f"--order {order}: no polynomial form was found for {row.name}, so the order is at most {MAX_DIRECT_ORDER}"
        )
    first = max([DIRECT_ORDER + 1, *(tower.start for _, tower in found)])
    return {
        "derivatives": [
            {"order": n, "pieces": [{"on": interval, "text": tower.text(n)} for interval, tower in found]}
            for n in range(first, order + 1)
            if found
        ],
        "generators": list(
            dict.fromkeys(str(g) for _, tower in found for g in tower.generators if not tower.in_itself)
        ),
        "closed": [
            {"on": interval, "statement": tower.closed.statement, "proof": list(tower.closed.proof)}
            for interval, tower in found
            if tower.closed is not None
        ],
    }


def higher_lines(data: dict[str, Any], name: Any) -> list[str]:
    """The lines of :func:`higher_facts` for people; ``name(n)`` writes f⁽ⁿ⁾(x)."""
    lines = []
    for row in data["derivatives"]:
        for piece in row["pieces"]:
            on = f"   ({piece['on']})" if piece["on"] else ""
            lines.append(f"  {name(row['order'])} = {piece['text']}{on}")
    if data["derivatives"]:
        lines += [f"  where {line}" for line in data["generators"]]
    for closed in data["closed"]:
        on = f" ({closed['on']})" if closed["on"] else ""
        lines += ["", f"  for every n{on}: {closed['statement']}", *(f"    {line}" for line in closed["proof"])]
    return lines
