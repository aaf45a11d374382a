"""Affine re-indexing of an axis: windows of a convolution or a pooling, and their overlap-add.

==================================================  ============================================================
node                                                meaning
==================================================  ============================================================
``Window(operand, over, out, tap, affine)``         x[…, p·stride + u·dilation − padding, …], zero outside
``Overlap(operand, out, tap, into, affine)``        Σ over the (p, u) with p·stride + u·dilation − padding = i
``Tie(into, out, tap, affine)``                     1 where i = p·stride + u·dilation − padding, else 0
==================================================  ============================================================

Each is linear in its operand; a window's adjoint is the overlap-add of the same affine map, and the other way round.
A convolution is a window contracted with a kernel; a transposed convolution is the overlap-add of an outer product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sympy

from .errors import InputError
from .tensors import Axis, Contract, Tensor, _node, contract, merge_axes


class Affine(NamedTuple):
    """p·stride + u·dilation − padding. ``inside``: the index never leaves the axis, for any p and u."""

    stride: int = 1
    dilation: int = 1
    padding: int = 0
    inside: bool = False

    def at(self, p: int, u: int) -> int:
        """The index for output p and tap u."""
        return p * self.stride + u * self.dilation - self.padding

    def text(self, p: str, u: str, minus: str = "−") -> str:
        """The index as text: 2p+u−1."""
        terms = [f"{k}{name}" if k != 1 else name for k, name in ((self.stride, p), (self.dilation, u))]
        tail = f"{minus}{self.padding}" if self.padding > 0 else f"+{-self.padding}" if self.padding else ""
        return "+".join(terms) + tail


def affine(stride: int = 1, dilation: int = 1, padding: int = 0, *, inside: bool = False) -> Affine:
    """A checked affine map; stride and dilation are at least 1, padding at least 0."""
    for name, value, least in (("stride", stride, 1), ("dilation", dilation, 1), ("padding", padding, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10_000:
            raise InputError(f"{name} {value!r}: a whole number of at least {least} is needed")
    return Affine(stride, dilation, padding, inside)


@_node
class Tie(Tensor):
    """1 where the index into an axis is the affine map of output and tap, else 0."""

    into: Axis
    out: Axis
    tap: Axis
    affine: Affine

    def __post_init__(self) -> None:
        self._set(merge_axes(((self.into, self.out, self.tap),)))


@_node
class Window(Tensor):
    """The operand with its axis ``over`` read at the affine map of two new axes; zero outside."""

    operand: Tensor
    over: Axis
    out: Axis
    tap: Axis
    affine: Affine

    def __post_init__(self) -> None:
        kept: list[Axis] = []
        for a in self.operand.axes:
            kept += [self.out, self.tap] if a == self.over else [a]
        self._set(merge_axes((kept,)))

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return (self.operand,)

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        return Window(operands[0], self.over, self.out, self.tap, self.affine)


@_node
class Overlap(Tensor):
    """The adjoint of a window: entries (p, u) are added up where the affine map sends them."""

    operand: Tensor
    out: Axis
    tap: Axis
    into: Axis
    affine: Affine

    def __post_init__(self) -> None:
        rest = [self.into if a == self.out else a for a in self.operand.axes if a != self.tap]
        self._set(merge_axes((rest,)))

    @property
    def operands(self) -> tuple[Tensor, ...]:
        return (self.operand,)

    def rebuild(self, operands: tuple[Tensor, ...]) -> Tensor:
        return Overlap(operands[0], self.out, self.tap, self.into, self.affine)


# --- construction -------------------------------------------------------------------------------------------


def out_size(size: sympy.Expr, taps: sympy.Expr, a: Affine) -> sympy.Expr:
    """Number of windows: ⌊(size + 2·padding − dilation·(taps − 1) − 1)/stride⌋ + 1."""
    room = size + 2 * a.padding - a.dilation * (taps - 1) - 1
    return sympy.expand(room) + 1 if a.stride == 1 else sympy.floor(sympy.expand(room) / a.stride) + 1


def window(
    x: Tensor, over: str, out: str, tap: Axis, *, stride: int = 1, dilation: int = 1, padding: int = 0
) -> Tensor:
    """The windows of an axis: it becomes ``out`` (which window) and ``tap`` (which place in it).

    >>> from .tensors import Input, axis
    >>> window(Input("x", (axis("n"), axis("i"))), "i", "p", axis("u"), stride=2, padding=1)
    x[n,2p+u−1]
    """
    axis_in = x.axis(over)
    a = affine(stride, dilation, padding, inside=padding == 0)
    axis_out = Axis(out, out_size(axis_in.size, tap.size, a))
    if axis_out.size.is_Integer and axis_out.size < 1:
        raise InputError(f"a window of {tap.size} taps, dilation {dilation}, does not fit an axis of {axis_in.size}")
    for name in (out, tap.name):
        if name in x.names and name != over:
            raise InputError(f"the windowed tensor already has an axis {name!r}")
    return Window(x, axis_in, axis_out, tap, a)


def overlap(
    y: Tensor,
    out: str,
    tap: str,
    into: str,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    size: sympy.Expr | None = None,
) -> Tensor:
    """Overlap-add of axes ``out`` and ``tap`` into one axis, as a transposed convolution does.

    Its size is (P − 1)·stride − 2·padding + dilation·(taps − 1) + 1 + output_padding, unless given.
    """
    p, u = y.axis(out), y.axis(tap)
    a = affine(stride, dilation, padding)
    fits = size is None or out_size(size, u.size, a) == p.size
    a = a._replace(inside=padding == 0 and fits)
    if not 0 <= output_padding < max(stride, dilation):
        raise InputError(f"output padding {output_padding} must be at least 0 and below the stride or the dilation")
    least = sympy.expand((p.size - 1) * stride - 2 * padding + dilation * (u.size - 1) + 1 + output_padding)
    if into in y.names and into not in (out, tap):
        raise InputError(f"the tensor already has an axis {into!r}")
    return Overlap(y, p, u, Axis(into, least if size is None else size), a)


def as_contraction(node: Window | Overlap) -> Tensor:
    """The node as what it is: a sum over a :class:`Tie`."""
    if isinstance(node, Window):
        return Contract((node.operand, Tie(node.over, node.out, node.tap, node.affine)), node.axes)
    return Contract((node.operand, Tie(node.into, node.out, node.tap, node.affine)), node.axes)


def gather_windows(node: Tensor) -> Tensor:
    """A contraction that holds ties, with windows and overlap-adds in place of those that can be summed out."""
    while isinstance(node, Contract):
        step = next((s for f in node.factors if isinstance(f, Tie) and (s := _resolve(node, f)) is not None), None)
        if step is None:
            break
        node = step
    return node


def _resolve(node: Contract, tie: Tie) -> Tensor | None:
    """The contraction with one tie resolved, where that loses no generality."""
    if len({tie.into, tie.out, tie.tap}) < 3:
        return None
    others = list(node.factors)
    others.remove(tie)
    summed = node.summed
    if tie.into in summed:
        return _as_window(node, tie, others)
    if tie.out in summed and tie.tap in summed:
        return _as_overlap(node, tie, others)
    return None


def _as_window(node: Contract, tie: Tie, others: list[Tensor]) -> Tensor | None:
    inside = [f for f in others if tie.into in f.axes]
    if not inside or any(isinstance(f, Tie) or tie.out in f.axes or tie.tap in f.axes for f in inside):
        return None
    rest = [f for f in others if tie.into not in f.axes]
    body = contract(inside, merge_axes(f.axes for f in inside))
    return contract((Window(body, tie.into, tie.out, tie.tap, tie.affine), *rest), node.keep)


def _as_overlap(node: Contract, tie: Tie, others: list[Tensor]) -> Tensor | None:
    inside = [f for f in others if tie.out in f.axes or tie.tap in f.axes]
    rest = [f for f in others if f not in inside]
    if any(isinstance(f, Tie) or tie.into in f.axes for f in inside):
        return None
    outer = {a for f in rest for a in f.axes} | set(node.keep)
    own = merge_axes(f.axes for f in inside)
    keep = merge_axes(((a for a in own if a in outer and a not in (tie.out, tie.tap)), (tie.out, tie.tap)))
    body = contract(inside, keep)
    return contract((Overlap(body, tie.out, tie.tap, tie.into, tie.affine), *rest), node.keep)


def windowed_inputs(node: Tensor) -> tuple[Tensor, dict[Axis, tuple[Affine, Axis, Axis]]]:
    """What a chain of windows reads, and which of its axes are read at which affine map."""
    read: dict[Axis, tuple[Affine, Axis, Axis]] = {}
    while isinstance(node, Window) and node.out not in read and node.tap not in read:
        read[node.over] = (node.affine, node.out, node.tap)
        node = node.operand
    return node, read


def axes_of(*nodes: Tensor) -> Iterable[Axis]:
    """Every axis that a tie, window or overlap-add speaks of."""
    for node in nodes:
        if isinstance(node, Tie):
            yield from (node.into, node.out, node.tap)
        elif isinstance(node, Window):
            yield from (node.over, node.out, node.tap)
        elif isinstance(node, Overlap):
            yield from (node.into, node.out, node.tap)
