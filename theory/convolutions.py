"""Convolutions and pooling: windows of the positions, contracted with a kernel or reduced. Forward passes only.

Arrays are ``x[n,c,i]`` or ``x[n,c,i,j]`` (samples, channels, positions). With ``groups`` the channels stand as
(group, channel in the group): ``x[n,g,c,i]``, kernel ``W[g,o,c,u]``; "depthwise" has one kernel per channel:
``W[c,u]``. What is called a convolution is, as everywhere in this field, a correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy

from .errors import InputError
from .layer_row import Layer
from .tensors import TIES, Axis, Input, Position, Tensor, allowed, apply, axis, slot
from .windows import overlap, window

#: position, output position, tap; one row per spatial dimension
SPATIAL = (("i", "p", "u"), ("j", "q", "v"))
_n, _c, _o = axis("n"), axis("c"), axis("o")
DEPTHWISE = "depthwise"


def windows(x: Tensor, taps: Sequence[Axis], **options: int) -> Tensor:
    """The windows of every position axis: x[…, i, j] becomes x[…, p, u, q, v]."""
    for (i, p, _), tap in zip(SPATIAL, taps):
        x = window(x, i, p, tap, **options)
    return x


def convolve(x: Tensor, W: Tensor, **options: int) -> Tensor:
    """Σ over input channels and taps of windows times kernel: y[…,o,p] = Σ_c,u x[…,c,p·s+u·d−pad] W[o,c,u]."""
    taps = [W.axis(u) for _, _, u in SPATIAL if u in W.names]
    summed = [name for name in ("c", *(t.name for t in taps)) if name != "c" or "o" in W.names]
    return (windows(x, taps, **options) * W).sum(summed)


def convolve_transposed(x: Tensor, W: Tensor, sizes: Mapping[str, sympy.Expr] | None = None, **options: int) -> Tensor:
    """Overlap-add of every input entry times the kernel: y[…,o,i] = Σ_c Σ_(p,u): i=p·s+u·d−pad x[…,c,p] W[c,o,u]."""
    y = (x * W).sum("c") if "o" in W.names else x * W
    for i, p, u in SPATIAL:
        if u in W.names:
            y = overlap(y, p, u, i, size=(sizes or {}).get(i), **options)
    return y


def inside(x: Tensor, seen: Tensor, taps: Sequence[Axis], options: Mapping[str, Any]) -> Tensor:
    """1 where every index p·stride + u·dilation − padding lies inside its axis of x, else 0."""
    places: list[Tensor] = []
    conditions = []
    for (i, p, _), tap in zip(SPATIAL, taps):
        at = options["stride"] * slot(len(places)) + options["dilation"] * slot(len(places) + 1) - options["padding"]
        places += [Position(seen.axis(p)), Position(tap)]
        conditions += [at >= 0, at < x.axis(i).size]
    return apply(sympy.Piecewise((1, sympy.And(*conditions)), (0, True)), *places)


def _affine_text(options: Mapping[str, Any]) -> str:
    shown = [f"{k} {v}" for k, v in options.items() if v != {"stride": 1, "dilation": 1}.get(k, 0)]
    return "".join(f", {text}" for text in shown)


def _channels(groups: int | str) -> tuple[tuple[Axis, ...], tuple[Axis, ...], tuple[Axis, ...]]:
    """Axes of the input before the positions, of the kernel before the taps, of the bias."""
    if groups == DEPTHWISE:
        return (_n, _c), (_c,), (_c,)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise InputError(f"groups {groups!r}: a whole number of at least 1, or {DEPTHWISE!r}, is needed")
    if groups == 1:
        return (_n, _c), (_o, _c), (_o,)
    g = axis("g", groups)
    return (_n, g, _c), (g, _o, _c), (g, _o)


def convolution(
    dimensions: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int | str = 1
) -> Layer:
    """The row of a convolution in one or two dimensions."""
    before, kernel, channel = _channels(groups)
    spatial = SPATIAL[:dimensions]
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    x = Input("x", (*before, *(axis(i) for i, _, _ in spatial)))
    W = Input("W", (*kernel, *(axis(u) for _, _, u in spatial)))

    def formula(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        return convolve(x, W, **options) + b

    def transposed(row: Layer) -> tuple[str, Tensor]:
        x, W, _ = row.inputs
        swap = {"o": "c", "c": "o"} if groups != DEPTHWISE else {}
        sizes = {i: x.axis(i).size for i, _, _ in spatial}
        claim = convolve_transposed(row.cotangent.rename(swap), W.rename(swap), sizes, **options)
        return f"conv_transpose{dimensions}d(dy, W){_affine_text(options)}", claim.rename({"o": "c"})

    formula(x, W, Input("b", channel))  # options that do not fit are refused here, not later
    outputs = (
        *(a.name for a in before if a.name != "c"),
        "c" if groups == DEPTHWISE else "o",
        *(p for _, p, _ in spatial),
    )
    return Layer(
        f"conv{dimensions}d", formula, (x, W, Input("b", channel)),
        f"{dimensions}-dimensional convolution" + _affine_text({**options, "groups": groups if groups != 1 else 0}),
        output=outputs, options={**options, "groups": groups},
        variant=lambda **chosen: convolution(dimensions, **chosen), known={"x": transposed},
        citation="LeCun et al., Neural Computation 1 (1989)", aliases=(f"convolution{dimensions}d",),
    )  # fmt: skip


def transposed_convolution(
    dimensions: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, output_padding: int = 0
) -> Layer:
    """The row of a transposed convolution: the input adjoint of a convolution, as a layer of its own."""
    spatial = SPATIAL[:dimensions]
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    positions = tuple(axis(p) for _, p, _ in spatial)
    x = Input("x", (_n, _c, *positions))
    W = Input("W", (_c, _o, *(axis(u) for _, _, u in spatial)))

    def formula(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        return convolve_transposed(x, W, None, output_padding=output_padding, **options) + b

    def convolved(row: Layer) -> tuple[str, Tensor]:
        _, W, _ = row.inputs
        swap = {"o": "c", "c": "o"}
        claim = convolve(row.cotangent.rename(swap), W.rename(swap), **options).rename({"o": "c"})
        return f"conv{dimensions}d(dy, W){_affine_text(options)}", claim

    formula(x, W, Input("b", (_o,)))
    return Layer(
        f"conv_transpose{dimensions}d", formula, (x, W, Input("b", (_o,))),
        f"{dimensions}-dimensional transposed convolution"
        + _affine_text({**options, "output padding": output_padding}),
        output=("n", "o", *(i for i, _, _ in spatial)), options={**options, "output_padding": output_padding},
        variant=lambda **chosen: transposed_convolution(dimensions, **chosen), known={"x": convolved},
        citation="Zeiler et al., CVPR 2010", aliases=(f"deconv{dimensions}d",),
    )  # fmt: skip


def pooling(
    kind: str, dimensions: int, *, kernel: int = 2, stride: int | None = None, padding: int = 0, dilation: int = 1,
    ties: str = "share",
) -> Layer:  # fmt: skip
    """The row of average or maximum pooling; the stride is the kernel unless given.

    An average counts the zeros of its padding. For a maximum what lies outside is −∞, and the padding is at most half
    of what the kernel reaches. Tied maxima share the cotangent evenly, or (``ties="first"``) the first in the order of
    the window takes it, as in PyTorch.
    """
    if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel < 1:
        raise InputError(f"pooling kernel {kernel!r}: a whole number of at least 1 is needed")
    options = {"stride": kernel if stride is None else stride, "padding": padding, "dilation": dilation}
    reach = (kernel - 1) * dilation + 1 if isinstance(dilation, int) else 1
    if kind == "max" and isinstance(padding, int) and 2 * padding > reach:
        raise InputError(f"padding {padding} of maximum pooling: at most half of what the kernel reaches, {reach // 2}")
    spatial = SPATIAL[:dimensions]
    taps = tuple(axis(u, kernel) for _, _, u in spatial)
    x = Input("x", (_n, _c, *(axis(i) for i, _, _ in spatial)))

    def formula(x: Tensor) -> Tensor:
        seen, over = windows(x, taps, **options), [t.name for t in taps]
        if kind == "max" and padding:
            seen = allowed(inside(x, seen, taps, options).named("inside"), seen).named("w")
        return seen.max(over, ties) if kind == "max" else seen.mean(over)

    formula(x)
    word = "maximum" if kind == "max" else "average"
    shown = {"kernel": kernel, **options}
    return Layer(
        f"{kind}_pool{dimensions}d", formula, (x,),
        f"{dimensions}-dimensional {word} pooling" + _affine_text(shown),
        output=("n", "c", *(p for _, p, _ in spatial)),
        options={"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        | ({"ties": ties} if kind == "max" else {}),
        variant=lambda **chosen: pooling(kind, dimensions, **chosen),
        kinks=TIES[ties] if kind == "max" else "",
        aliases=(f"{word}_pool{dimensions}d",) if kind == "max" else (f"average_pool{dimensions}d",),
    )  # fmt: skip


def rows() -> tuple[Layer, ...]:
    """Every row of this family, with its options at their defaults."""
    return (
        convolution(1),
        convolution(2),
        transposed_convolution(1),
        transposed_convolution(2),
        pooling("avg", 1),
        pooling("avg", 2),
        pooling("max", 1),
        pooling("max", 2),
    )
