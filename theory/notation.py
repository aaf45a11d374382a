"""Tensor expressions for the eye: index notation and matrix notation, as Unicode text and as LaTeX.

Matrix notation is used where one exists: a contraction of matrices becomes a product with transposes, a sum over rows
or columns a product with 1, an entrywise product ⊙. A vector beside ⊙ or + is broadcast along the axis it lacks. Where
no matrix form exists the index form is printed. ``layout="rows"`` has samples as rows (x[n,i], as NumPy code does);
``layout="columns"`` has them as columns, as many textbooks do: every matrix is then the transpose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sympy

from .errors import InputError, Unsupported
from .recurrence import EACH, LAST, Recur, time_text
from .spelling import Magnitude, spelt
from .styles import ATOM, LATEX, PRODUCT, SUM, TEXT, TextStyle
from .tensors import (
    Axis,
    Contract,
    Delta,
    Extremum,
    Input,
    Map,
    Maximiser,
    Named,
    Position,
    Scalar,
    Tensor,
    contract,
    merge_axes,
    slot,
)
from .windows import Overlap, Tie, Window, windowed_inputs

LAYOUTS = ("rows", "columns")


class NoMatrixForm(Exception):  # noqa: N818  (an answer: the index form is printed)
    """An expression that has no matrix notation."""


class Piece:
    """Printed text, the axes it has as a matrix (rows, columns), and how tightly it binds."""

    __slots__ = ("axes", "level", "text")

    def __init__(self, text: str, axes: Sequence[Axis] = (), level: int = ATOM) -> None:
        self.text, self.axes, self.level = text, tuple(axes), level


# --- writing ------------------------------------------------------------------------------------------------


class Writer:
    """Index notation. Subclassed for matrices, which prints other leaves and contractions."""

    def __init__(self, style: TextStyle = TEXT) -> None:
        self.style = style

    def text(self, node: Tensor) -> str:
        """The expression as text."""
        return self.piece(node).text

    def piece(self, node: Tensor) -> Piece:
        """The expression with how tightly it binds."""
        if isinstance(node, Input | Named):
            return Piece(self.style.indexed(node.name, node.indices), node.axes)
        if isinstance(node, Scalar):
            return Piece(self.style.scalar(node.value), (), _scalar_level(node.value))
        if isinstance(node, Contract):
            return self.contract(node)
        if isinstance(node, Map):
            return self.map(node)
        if isinstance(node, Recur):
            return Piece(recur_text(node, self.style), node.axes)
        if isinstance(node, Window | Overlap | Tie):
            return self.window(node)
        if isinstance(node, Extremum):
            return Piece(self.style.max(node.over, self.at(self.piece(node.operand), ATOM)), node.axes, PRODUCT)
        if isinstance(node, Maximiser):
            return Piece(self.style.maximiser(node.over, self.piece(node.operand).text), node.axes)
        if isinstance(node, Delta):
            return Piece(self.style.delta(node.a, node.b), node.axes)
        if isinstance(node, Position):
            return Piece(self.style.index(node.along.name), node.axes)
        raise Unsupported(f"no notation for a {type(node).__name__}")

    def window(self, node: Window | Overlap | Tie) -> Piece:
        """x[n,2p+u−1] for a window of a variable; Σ over the (p, u) that meet i for an overlap-add."""
        minus = "-" if self.style is LATEX else "−"
        if isinstance(node, Tie):
            place = node.affine.text(self.style.index(node.out.name), self.style.index(node.tap.name), minus)
            return Piece(
                self.style.cases([("1", f"{self.style.index(node.into.name)} = {place}"), ("0", "")]), node.axes
            )
        if isinstance(node, Overlap):
            body: Tensor = node
            over: tuple[Axis, ...] = ()
            conditions = []
            while isinstance(body, Overlap):
                place = body.affine.text(self.style.index(body.out.name), self.style.index(body.tap.name), minus)
                conditions.append(f"{self.style.index(body.into.name)}={place}")
                over = (body.out, body.tap, *over)
                body = body.operand
            condition = ", ".join(reversed(conditions))
            if isinstance(body, Contract) and body.summed and not any(isinstance(f, Scalar) for f in body.factors):
                over = (*body.summed, *over)
                body = contract(body.factors, merge_axes((body.keep, body.summed)))
            text = self.style.sum_where(over, condition, self.at(self.piece(body), PRODUCT))
            return Piece(text, node.axes, PRODUCT)
        base, read = windowed_inputs(node)
        places = {a: f.text(self.style.index(p.name), self.style.index(u.name), minus) for a, (f, p, u) in read.items()}
        if isinstance(base, Input | Named):
            return Piece(self.style.placed(base.name, [places.get(a, self.style.index(a.name)) for a in base.indices]))
        moved = ", ".join(f"{self.style.index(a.name)}={p}" for a, p in places.items())
        return Piece(self.style.evaluated(self.piece(base).text, moved), node.axes)

    def at(self, piece: Piece, level: int) -> str:
        """The text, in brackets where an operand of that level needs them."""
        return piece.text if piece.level >= level else self.style.brackets(piece.text)

    def contract(self, node: Contract) -> Piece:
        """Σ over the summed axes of a product."""
        value = sympy.Mul(*(f.value for f in node.factors if isinstance(f, Scalar)))
        tensors = [f for f in node.factors if not isinstance(f, Scalar)]
        summed = node.summed
        if not tensors:
            return self.piece(Scalar(value))
        above = [self.piece(t) for t in tensors if _inverse(t) is None]
        below = [self.piece(u) for t in tensors if (u := _inverse(t)) is not None]
        body = self.product(above)
        if summed:
            body = Piece(self.style.sum(summed, self.at(body, PRODUCT)), (), PRODUCT)
        if summed and below:
            body = Piece(
                self.style.sum(summed, self.at(self.quotient(self.product(above), below), PRODUCT)), (), PRODUCT
            )
            below = []
        return self.scaled(self.quotient(body, below), value)

    def product(self, pieces: Sequence[Piece]) -> Piece:
        """Entrywise product."""
        if not pieces:
            return Piece("1")
        if len(pieces) == 1:
            return pieces[0]
        return Piece(
            self.style.dot.join(self.at(p, PRODUCT if k == len(pieces) - 1 else ATOM) for k, p in enumerate(pieces)),
            (),
            PRODUCT,
        )

    def quotient(self, above: Piece, below: Sequence[Piece]) -> Piece:
        """above / (product of below)."""
        if not below:
            return above
        under = self.product(below)
        text, level = self.style.fraction(above.text, under.text, above.level, under.level)
        return Piece(text, above.axes, level)

    def scaled(self, body: Piece, value: sympy.Expr) -> Piece:
        """A scalar factor before it."""
        if value == 1:
            return body
        if value == -1:
            return Piece(
                f"−{self.at(body, PRODUCT)}" if self.style is not LATEX else f"-{self.at(body, PRODUCT)}",
                body.axes,
                SUM,
            )
        numerator, denominator = value.as_numer_denom()
        negative = numerator.could_extract_minus_sign()
        numerator = -numerator if negative else numerator
        text = self.at(body, PRODUCT)
        if numerator != 1:
            scale = self.style.scalar(numerator)
            text = (
                (scale if _scalar_level(numerator) >= PRODUCT else self.style.brackets(scale)) + self.style.dot + text
            )
        level = PRODUCT
        if denominator != 1:
            text, level = self.style.fraction(
                body.text if numerator == 1 else text,
                self.style.scalar(denominator),
                body.level if numerator == 1 else PRODUCT,
                _scalar_level(denominator),
            )
        minus = "-" if self.style is LATEX else "−"
        return Piece(minus + text, body.axes, SUM) if negative else Piece(text, body.axes, level)

    def map(self, node: Map) -> Piece:
        """A scalar function of pieces."""
        pieces = {slot(k): self.piece(a) for k, a in enumerate(node.arguments)}
        text, level = self.expression(node.function, pieces)
        return Piece(text, node.axes, level)

    def expression(self, e: Any, slots: dict[Any, Piece]) -> tuple[str, int]:
        """A scalar function with pieces for its slots."""

        def at(node: Any, level: int) -> str:
            text, own = self.expression(node, slots)
            return text if own >= level else self.style.brackets(text)

        if e in slots:
            return slots[e].text, slots[e].level
        if not e.free_symbols & set(slots):
            return self.style.scalar(e), _scalar_level(e)
        minus = "-" if self.style is LATEX else "−"
        e = spelt(e)
        if isinstance(e, Magnitude):
            return self.style.magnitude(self.expression(e.args[0], slots)[0]), ATOM
        if e.is_Add:
            text = ""
            for t in sorted(e.args, key=lambda t: (t.could_extract_minus_sign(), _order(t))):
                negative = t.could_extract_minus_sign()
                part = at(-t, PRODUCT) if negative else self.expression(t, slots)[0]
                if not negative and part.startswith(minus):  # a + (−b + c) is a − b + c
                    negative, part = True, part[len(minus) :]
                text += (f" {minus} " if negative else " + ") + part if text else (minus if negative else "") + part
            return text, SUM
        if e.is_Mul:
            if e.could_extract_minus_sign():
                return f"{minus}{at(-e, PRODUCT)}", SUM
            numerator, denominator = sympy.fraction(e, exact=True)
            factors = sympy.Mul.make_args(numerator)
            top = self.style.dot.join(at(f, PRODUCT if f is factors[-1] else ATOM) for f in factors)
            if denominator == 1:
                return top, PRODUCT
            under, level = self.expression(denominator, slots)
            return self.style.fraction(top, under, PRODUCT, level)
        if e.is_Pow:
            return self.power(e, at, slots)
        if isinstance(e, sympy.Piecewise) and (inner := sign_argument(e)) is not None:
            return self.style.call("sign", self.expression(inner, slots)[0]), ATOM
        if isinstance(e, sympy.Piecewise):
            branches = [
                (self.expression(v, slots)[0], "" if c is sympy.true else self.condition(c, slots)) for v, c in e.args
            ]
            return self.style.cases(branches), ATOM
        arguments = ", ".join(self.expression(a, slots)[0] for a in e.args)
        return self.style.call(getattr(type(e), "spelling", type(e).__name__), arguments), ATOM

    def power(self, e: Any, at: Any, slots: dict[Any, Piece]) -> tuple[str, int]:
        base, exponent = e.args
        if base is sympy.E:
            return self.style.call("exp", self.expression(exponent, slots)[0]), ATOM
        if exponent == sympy.Rational(1, 2):
            return self.style.root(self.expression(base, slots)[0]), ATOM
        if exponent.is_Rational and exponent < 0:
            under, level = self.expression(base**-exponent, slots)
            return self.style.fraction("1", under, ATOM, level)
        return self.style.power(at(base, ATOM), exponent), PRODUCT

    def condition(self, c: Any, slots: dict[Any, Piece]) -> str:
        if isinstance(c, sympy.And | sympy.Or):
            word = (
                (r" \wedge " if isinstance(c, sympy.And) else r" \vee ")
                if self.style is LATEX
                else (" and " if isinstance(c, sympy.And) else " or ")
            )
            return word.join(self.condition(a, slots) for a in c.args)
        if isinstance(c, sympy.Not):
            return ("\\neg " if self.style is LATEX else "not ") + self.style.brackets(self.condition(c.args[0], slots))
        sign = {"Equality": "==", "Unequality": "!="}.get(type(c).__name__) or c.rel_op
        if sign == ">" and c.rhs == 0 and c.lhs in slots and (inner := self.style.truth(slots[c.lhs].text)) is not None:
            return inner  # [c] > 0 says c
        return self.style.relation(self.expression(c.lhs, slots)[0], sign, self.expression(c.rhs, slots)[0])


def sign_argument(e: sympy.Piecewise) -> sympy.Expr | None:
    """u, if the cases are those of sign(u)."""
    if (
        [v for v, _ in e.args] == [1, -1, 0]
        and e.args[0][1] == sympy.Gt(e.args[0][1].lhs, 0)
        and e.args[1][1] == sympy.Lt(e.args[0][1].lhs, 0)
    ):
        return e.args[0][1].lhs
    return None


def _scalar_level(value: sympy.Expr) -> int:
    if value.is_Add or value.could_extract_minus_sign():
        return SUM
    if value.is_Pow and value.exp == sympy.Rational(1, 2):
        return ATOM
    return PRODUCT if value.is_Mul or value.is_Pow or (value.is_Rational and value.q != 1) else ATOM


def _inverse(t: Tensor) -> Tensor | None:
    return t.arguments[0] if isinstance(t, Map) and t.function == 1 / slot(0) else None


def _order(t: sympy.Expr) -> list[str]:
    return sorted(str(s) for s in t.free_symbols) or ["~"]


def recur_text(node: Recur, style: TextStyle) -> str:
    """A state with its time index: h[n,t−1,o] for what a step is given."""
    minus = "-" if style is LATEX else "−"
    places = [
        time_text(node, style.index(a.name), minus) if a == node.time else style.index(a.name)
        for a in node.states[node.which].indices
    ]
    return style.placed(node.name, places)


def recurrence_line(node: Recur, style: TextStyle) -> str:
    """The definition of a state: its step and where it begins."""
    f, write = node.family, Writer(style).text
    each, start = f.read(node.which, EACH), Recur(
        f.time, f.states, f.steps, f.slots, f.initials, f.captured, not f.reverse, node.which, LAST
    )  # fmt: skip
    assert isinstance(each, Recur)
    return (
        f"{recur_text(each, style)} = {write(f.step(node.which))}, "
        f"{recur_text(start, style)} = {write(f.initials[node.which])}"
    )


def index_text(node: Tensor) -> str:
    """Index notation as Unicode text."""
    return Writer(TEXT).text(node)


def index_latex(node: Tensor) -> str:
    """Index notation as LaTeX."""
    return Writer(LATEX).text(node)


# --- matrices -----------------------------------------------------------------------------------------------


class MatrixWriter(Writer):
    """Matrix notation for one pair (row axis, column axis); raises NoMatrixForm where there is none."""

    def __init__(self, style: TextStyle, layout: str = "rows") -> None:
        super().__init__(style)
        self.layout = layout

    def piece(self, node: Tensor) -> Piece:
        if isinstance(node, Input | Named):
            if len(node.indices) > 2 or len(set(node.indices)) < len(node.indices):
                raise NoMatrixForm
            axes = node.indices if self.layout == "rows" else node.indices[::-1]
            return Piece(self.style.name(node.name), axes)
        if isinstance(node, Extremum | Maximiser | Window | Overlap | Tie | Recur | Position):
            raise NoMatrixForm
        if isinstance(node, Delta):
            return Piece("I", (node.a, node.b))
        return super().piece(node)

    def matrix(self, node: Tensor, axes: Sequence[Axis]) -> str:
        """The node as a matrix with these axes."""
        piece = self.piece(node)
        return self.turned(piece, tuple(axes)).text

    def turned(self, piece: Piece, axes: Sequence[Axis]) -> Piece:
        """Transposed where its axes come the other way round."""
        both = list(piece.axes)
        wanted = [a for a in axes if a in both]
        if len(both) == 2 and both != wanted:
            return Piece(self.style.transposed(self.at(piece, ATOM)), tuple(wanted))
        return piece

    def map(self, node: Map) -> Piece:
        if len(node.axes) > 2:
            raise NoMatrixForm
        axes = self._order_of([self.piece(a) for a in node.arguments], node.axes)
        pieces = {slot(k): self.turned(self.piece(a), axes) for k, a in enumerate(node.arguments)}
        text, level = self.expression(node.function, pieces)
        if node.function.is_Mul and len(node.arguments) > 1:
            raise NoMatrixForm  # products are contractions; anything else would lose the ⊙
        return Piece(text, axes, level)

    def _order_of(self, pieces: Sequence[Piece], axes: Sequence[Axis]) -> tuple[Axis, ...]:
        full = next((p.axes for p in pieces if len(p.axes) == 2), None)
        return tuple(full) if full is not None and len(axes) == 2 else tuple(axes)

    def contract(self, node: Contract) -> Piece:
        if len(node.keep) > 2:
            raise NoMatrixForm
        value = sympy.Mul(*(f.value for f in node.factors if isinstance(f, Scalar)))
        above = [f for f in node.factors if not isinstance(f, Scalar) and _inverse(f) is None]
        below = [u for f in node.factors if (u := _inverse(f)) is not None]
        if below and node.summed:
            raise NoMatrixForm
        present = {a for f in node.factors for a in f.axes}
        if not present >= set(node.keep):
            raise NoMatrixForm
        pieces = [self.piece(f) for f in above]
        for over in node.summed:
            pieces = self.sum_out(pieces, over, node)
        body = self.entrywise(pieces, node.keep)
        if below:
            body = self.quotient(body, [self.turned(self.piece(u), body.axes) for u in below])
        return self.scaled(body, value)

    def entrywise(self, pieces: Sequence[Piece], keep: Sequence[Axis]) -> Piece:
        """⊙ of what is left; an outer product of two vectors."""
        if not pieces:
            return Piece("1")
        axes = self._order_of(pieces, keep)
        if len(pieces) == 1:
            return pieces[0]
        pieces = sorted(pieces, key=lambda p: not (p.level == PRODUCT and len(p.axes) == 2))  # matrix products first
        if (
            len(axes) == 2
            and len(pieces) == 2
            and all(len(p.axes) == 1 for p in pieces)
            and pieces[0].axes != pieces[1].axes
        ):
            left, right = sorted(pieces, key=lambda p: axes.index(p.axes[0]))
            return Piece(
                f"{self.at(left, ATOM)}{self.style.dot}{self.style.transposed(self.at(right, ATOM))}", axes, PRODUCT
            )
        turned = [self.turned(p, axes) for p in pieces]
        return Piece(
            self.style.times.join(self.at(p, ATOM) if p.level < ATOM else p.text for p in turned), axes, PRODUCT
        )

    def sum_out(self, pieces: list[Piece], over: Axis, node: Contract) -> list[Piece]:
        """Sum over one axis: a matrix product, or a product with 1."""
        inside = [p for p in pieces if over in p.axes]
        others = [p for p in pieces if over not in p.axes]
        merged: list[Piece] = []
        for p in inside:
            twin = next((q for q in merged if set(q.axes) == set(p.axes)), None)
            if twin is None:
                merged.append(p)
            else:
                merged[merged.index(twin)] = self.entrywise([twin, p], twin.axes)
        if len(merged) == 1:
            return [*others, self.ones(merged[0], over)]
        if len(merged) != 2:
            raise NoMatrixForm
        a, b = merged
        free = [i for p in merged for i in p.axes if i != over]
        if len(set(free)) != len(free):
            return [*others, *self.row_sum(a, b, over)]
        if len(free) == 2 and list(node.keep) == [free[1], free[0]] and self.layout == "rows":
            a, b, free = b, a, [free[1], free[0]]
        if self.layout == "columns" and len(free) == 2 and list(node.keep) == free:
            a, b, free = b, a, [free[1], free[0]]
        if len(a.axes) == 1 and len(b.axes) == 2:
            a, b = b, a
        left = self.turned(a, tuple(i for i in a.axes if i != over) + (over,))
        right = self.turned(b, (over,) + tuple(i for i in b.axes if i != over))
        if len(a.axes) == 1:  # inner product of two vectors
            return [
                *others,
                Piece(
                    f"{self.style.transposed(self.at(left, ATOM))}{self.style.dot}{self.at(right, ATOM)}", (), PRODUCT
                ),
            ]
        return [*others, Piece(f"{self.at(left, ATOM)}{self.style.dot}{self.at(right, ATOM)}", tuple(free), PRODUCT)]

    def row_sum(self, a: Piece, b: Piece, over: Axis) -> list[Piece]:
        """Σ of A ⊙ b where one has fewer axes: matrix times vector, entrywise in the rest."""
        if len(a.axes) + len(b.axes) == 3:
            big, small = (a, b) if len(a.axes) == 2 else (b, a)
            if small.axes == (over,):
                rest = tuple(i for i in big.axes if i != over)
                turned = self.turned(big, (*rest, over))
                return [Piece(f"{self.at(turned, ATOM)}{self.style.dot}{self.at(small, ATOM)}", rest, PRODUCT)]
        raise NoMatrixForm

    def ones(self, p: Piece, over: Axis) -> Piece:
        """Sum of the rows or the columns of one piece."""
        rest = tuple(i for i in p.axes if i != over)
        body = self.at(p, ATOM)
        if not rest:
            return Piece(f"{self.style.one}{self.style.transpose}{body}", (), PRODUCT)
        if p.axes[0] == over:
            return Piece(f"{self.style.one}{self.style.transpose}{body}", rest, PRODUCT)
        return Piece(
            f"{body}{self.style.dot}{self.style.one}" if self.style is TEXT else f"{body}{self.style.one}",
            rest,
            PRODUCT,
        )


def matrix_form(
    node: Tensor, axes: Sequence[Axis] | None = None, *, style: TextStyle = TEXT, layout: str = "rows"
) -> str | None:
    """Matrix notation with rows and columns ``axes``, or None where there is none."""
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: use rows or columns")
    axes = tuple(node.axes if axes is None else axes)
    if len(axes) > 2:
        return None
    try:
        return MatrixWriter(style, layout).matrix(node, axes if layout == "rows" else axes[::-1])
    except NoMatrixForm:
        return None


def shape_text(axes: Sequence[Axis], layout: str = "rows") -> str:
    """[N×D], or scalar; a matrix is its transpose in columns."""
    axes = axes[::-1] if layout == "columns" and len(axes) == 2 else axes
    return f"[{'×'.join(_size_text(a.size) for a in axes)}]" if axes else "[scalar]"


def _size_text(size: sympy.Expr) -> str:
    text = re.sub(r"floor\(([^()]*)\)", r"⌊\1⌋", str(size).replace("*", ""))
    return f"({text})" if size.is_Add else text
