"""``backproof derive equal``: are two formulas equal? Proved, refuted at a point, or not decided."""

from __future__ import annotations

import click

from .options import emit, json_option


@click.command("equal")
@click.argument("first", metavar="EXPR1")
@click.argument("second", metavar="EXPR2")
@click.option("--variables", default="x", show_default=True, metavar="x,y,…", help="The variables of scalar formulas.")
@json_option
def command(first: str, second: str, variables: str, as_json: bool) -> int:
    """Compare two formulas: equal (proved), different (at a point), or not decided. Exit status 0 only for equal.

    Scalar formulas in x or in --variables, or tensors in index notation, whose variables carry their indices and
    whose sums name them. No float is compared.

    \b
    backproof derive equal "tanh(x)" "2*sigmoid(2*x) - 1"
    backproof derive equal "(x+y)**2" "x**2 + y**2" --variables x,y
    backproof derive equal "sum[i](a[n,i]*(b[i]+c[i]))" "sum[i](a[n,i]*b[i]) + sum[i](a[n,i]*c[i])"
    """
    from ..theory.equality import EQUAL, equal
    from ..theory.formula_equality import compare_texts
    from ..theory.index_text import is_index_text, parse_tensors

    if is_index_text(first) or is_index_text(second):
        found = equal(*parse_tensors(first, second))
    else:
        found = compare_texts(first, second, variables.split(","))
    data: dict[str, object] = {"first": first, "second": second, "outcome": found.outcome, "why": found.why}
    lines = [f"{found.outcome}: {found.why}"]
    if found.point is not None and found.left is not None and found.right is not None:
        sides = [side.str(30, radius=True) for side in (found.left, found.right)]
        data |= {"point": str(found.point), "entry": list(found.entry or ()), "enclosures": sides}
        lines += [f"  at {found.point}" + (f", entry {list(found.entry)}" if found.entry else "")]
        lines += [f"  EXPR1 = {sides[0]}", f"  EXPR2 = {sides[1]}"]
    emit(data, as_json, "\n".join(lines))
    return 0 if found.outcome == EQUAL else 1
