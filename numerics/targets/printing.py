"""What every printer needs: names, correctly rounded literals, and where a step must stand.

A printer is one table, operation → Python text. Programs are straight lines with selects; a scalar target computes only
the branch that is taken, so :func:`nested` moves the steps that one side of a select alone needs into an ``if`` block.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import sympy

from ...theory.enclosures import enclose
from ...theory.errors import Unsupported
from ...theory.lowering import Node, Program, Rest
from ...theory.tabulation import SEGMENT_BITS, Table

INDENT = "    "
#: Rough cost of a step in units of an addition; what is not listed costs 1.
COST = {"div": 5, "sqrt": 5, "input": 0, "constant": 0} | dict.fromkeys(
    ("exp", "expm1", "log", "log1p", "pow", "sinh", "cosh", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "erf",
     "erfc", "erfcx"), 20
)  # fmt: skip
#: Bytes of a constant array that Numba still keeps in its cache on disk: below a million.
LARGEST_CONSTANT = 900_000
#: A branch must spare at least this much: a mispredicted one costs about as much.
WORTH_A_BRANCH = 16


@lru_cache(maxsize=4096)
def rounded(value: sympy.Expr) -> float:
    """The float64 nearest to an exact constant, or to what one of it misses."""
    if isinstance(value, Rest):
        exact, *given = value.args
        hi = Fraction(rounded(given[0] if given else exact))
        return rounded(exact - sympy.Rational(hi.numerator, hi.denominator))
    if value.is_Rational:
        try:
            return float(Fraction(int(value.p), int(value.q)))
        except OverflowError:
            raise Unsupported(f"the constant {str(value)[:20]}… is beyond the largest float64") from None
    for digits in (40, 80, 160):
        ball = enclose(value, {}, digits=digits)
        with flint.ctx.workprec(8 * digits):  # the ends of a ball are rounded to the working precision
            if not ball.is_finite():
                break
            low, high = (float(Fraction(*_dyadic(end))) for end in (ball.lower(), ball.upper()))
        if low == high:
            return low
    raise Unsupported(f"the constant {str(value)[:60]} could not be rounded")


def _dyadic(end: object) -> tuple[int, int]:
    mantissa, exponent = (int(part) for part in end.man_exp())  # type: ignore[attr-defined]
    return (mantissa << exponent, 1) if exponent >= 0 else (mantissa, 1 << -exponent)


def literal(value: sympy.Expr) -> str:
    """The shortest text that reads back as the nearest float64."""
    return repr(rounded(value))


def identifier(name: str) -> str:
    """A legal Python name for an input; only letters, digits and underscores survive."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain + "_" if not plain or keyword.iskeyword(plain) or plain[0].isdigit() or plain[0] == "_" else plain


def text_of(
    program: Program, table: Mapping[str, str], names: Mapping[int, str], place: int, constant: str = "{0}"
) -> str:
    """The right-hand side of one step. Raises :class:`Unsupported` for an operation the target does not have."""
    node = program.nodes[place]
    if node.operation not in table:
        raise Unsupported(f"this target has no operation {node.operation!r}")
    operands = (operand_text(program, names, o, constant) for o in node.operands)
    return table[node.operation].format(*operands, **table_fields(program, node))


def table_fields(program: Program, node: Node) -> dict[str, Any]:
    """What stands for a table of cells in source: its number in the module, its first segment, and a column's place."""
    match node.operation:
        case "cell":
            return {"table": program.tables.index(node.leaf), "first": (node.leaf.first + 1023) << SEGMENT_BITS}
        case "entry":
            table, column = node.leaf
            for block, names in _blocks(program.tables.index(table), table):
                if column in names:
                    return {"block": block, "column": names.index(column)}
    return {}


def _blocks(k: int, table: Table) -> list[tuple[str, tuple[str, ...]]]:
    """Arrays for the columns of a table, with their names: more than one where a single one would be too large."""
    columns = table.columns
    width = max(1, LARGEST_CONSTANT // (8 * len(table.cells)))
    parts = [columns[i : i + width] for i in range(0, len(columns), width)]
    return [(f"{k}" if len(parts) == 1 else f"{k}_{i}", part) for i, part in enumerate(parts)]


def table_lines(program: Program) -> list[str]:
    """The tables as module constants."""
    lines: list[str] = []
    for k, table in enumerate(program.tables):
        lines += ["", f"# {table}."]
        start = 0
        for block, names in _blocks(k, table):
            lines += [f"# {', '.join(names)}", f"CELLS_{block} = np.array(["]
            rows = (row[start : start + len(names)] for row in table.rows)
            lines += [f"{INDENT}({', '.join(map(repr, row))}{',' * (len(row) == 1)})," for row in rows]
            lines.append("])")
            start += len(names)
        for name, numbers in (("STARTS", table.starts), ("SHIFTS", table.shifts)):
            lines.append(f"{name}_{k} = np.array([")
            lines += [f"{INDENT}{', '.join(map(str, numbers[i : i + 24]))}," for i in range(0, len(numbers), 24)]
            lines.append("], dtype=np.int64)")
    return lines


def operand_text(program: Program, names: Mapping[int, str], place: int, constant: str = "{0}") -> str:
    """A name, or for a constant its literal (in brackets where it has a sign) as ``constant`` writes it."""
    node = program.nodes[place]
    if node.operation != "constant":
        return names[place]
    text = literal(node.leaf)
    if constant != "{0}":
        return constant.format(text)
    return f"({text})" if text.startswith("-") else text


def ordered(program: Program) -> Iterator[tuple[int, Node]]:
    """The steps that compute something, in order."""
    for place, node in enumerate(program.nodes):
        if node.operation not in ("input", "constant"):
            yield place, node


class Nesting:
    """Places each step as deep as it may stand: inside the branch that alone needs it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        #: step -> (user, which operand of it), over the whole program: a step used further out must not move in
        self.users: dict[int, set[tuple[int, int]]] = {p: set() for p in range(len(program.nodes))}
        for p, node in enumerate(program.nodes):
            for position, o in enumerate(node.operands):
                self.users[o].add((p, position))

    def closure(self, targets: Iterable[int], known: set[int]) -> set[int]:
        """Everything the targets need, down to what is already known."""
        found: set[int] = set()
        pending = [t for t in targets if t not in known]
        while pending:
            place = pending.pop()
            if place not in found:
                found.add(place)
                pending.extend(o for o in self.program.nodes[place].operands if o not in known)
        return found

    def first_branching(self, needed: set[int]) -> int | None:
        """The condition of the selects that hide the most steps, or None where no select hides any costly one."""
        best, saved = None, WORTH_A_BRANCH - 1
        for condition in sorted({self.program.nodes[p].operands[0] for p in needed if self._is_select(p)}):
            hidden = sum(COST.get(self.program.nodes[p].operation, 1) for s in self.sides(condition, needed) for p in s)
            if hidden > saved:
                best, saved = condition, hidden
        return best

    def _is_select(self, place: int) -> bool:
        return self.program.nodes[place].operation == "select"

    def sides(self, condition: int, needed: set[int]) -> tuple[set[int], set[int]]:
        """The steps needed only where ``condition`` holds, and only where it does not."""
        selects = {p for p in needed if self._is_select(p) and self.program.nodes[p].operands[0] == condition}
        if self._feeds_itself(condition, selects, needed):
            return set(), set()
        return self._only(selects, 1, needed), self._only(selects, 2, needed)

    def _feeds_itself(self, condition: int, selects: set[int], needed: set[int]) -> bool:
        return bool(self.closure([condition], set()) & selects)

    def _only(self, selects: set[int], side: int, needed: set[int]) -> set[int]:
        """Steps all of whose users lie on this side of these selects."""
        outputs = set(self.program.outputs.values())
        inside: set[int] = set()
        for p in sorted(needed, reverse=True):
            if p in outputs or self.program.nodes[p].operation in ("input", "constant"):
                continue
            if all(u in inside or (u in selects and position == side) for u, position in self.users[p]):
                inside.add(p)
        return inside
