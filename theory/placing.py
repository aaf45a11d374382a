"""One layer of a network's text at its place: its row for the shape it reads, every size, the shape it makes.

Samples of two axes are channels × positions to convolutions, pooling and batch normalisation, and steps × features to
every other layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import sympy

from . import layers
from .activations import ACTIVATIONS, activation
from .attention import self_attention
from .convolutions import DEPTHWISE
from .errors import InputError, lookup
from .grammar import MAX_SIZE, Item, Shape
from .layer_row import LAYERS, Layer
from .layers import eps, layer
from .tensors import Axis, Input, Tensor, axis, one_hot, size_symbol, sqrt

#: axes of a sample by its number of dimensions, and its channel axis
_AXES = {1: ("i",), 2: ("c", "i"), 3: ("c", "i", "j")}
#: the same, steps before features
_STEPS = {1: ("i",), 2: ("t", "i")}


@dataclass(frozen=True)
class Chosen:
    """A row for a shape; sizes that its numbers give; how the row sees the sample (None: as it is), and its output."""

    row: Layer
    sizes: Mapping[str, int] = field(default_factory=dict)
    view: Shape | None = None
    joined: bool = False


@dataclass(frozen=True)
class Placed:
    """A row at its place: the size of each symbol, the shape it reads and makes, and its parameters' shapes."""

    row: Layer
    sizes: Mapping[str, int]
    reads: Shape
    makes: Shape
    parameters: Mapping[str, Shape]
    #: the shape in which the row sees what it reads, and in which it makes its output
    view: Shape
    output: Shape


def shown(shape: Shape) -> str:
    """3×32×32."""
    return "×".join(map(str, shape))


def _x(shape: Shape, axes: Mapping[int, tuple[str, ...]] = _AXES) -> Input:
    return Input("x", (axis("n"), *(axis(a) for a in axes[len(shape)])))


def numbers(item: Item, what: str, count: int) -> tuple[str, ...]:
    """The numbers in the brackets; there must be ``count`` of them, each a size."""
    if any(n.isdecimal() and int(n) > MAX_SIZE for n in item.numbers):
        raise InputError(f"layer {item.name}({','.join(item.numbers)[:40]}): a size is at most {MAX_SIZE}")
    if len(item.numbers) != count or not all(n.isdecimal() and 0 < int(n) <= MAX_SIZE for n in item.numbers):
        raise InputError(f"layer {item.name}({','.join(item.numbers)[:40]}): it takes {what}")
    return item.numbers


def _option_or_number(item: Item, option: str, what: str) -> tuple[int, dict[str, str]]:
    """A size by place or by name, and the other options."""
    options = dict(item.options)
    if option in options and not item.numbers:
        item = replace(item, numbers=(options.pop(option),))
    (value,) = numbers(item, what, 1)
    return int(value), options


def _spatial(item: Item, shape: Shape) -> int:
    if len(shape) < 2:
        raise InputError(f"layer {item.name} needs channels and positions, such as 3x32x32, not {shown(shape)}")
    if item.name[-2:] in ("1d", "2d") and int(item.name[-2]) != len(shape) - 1:
        raise InputError(f"layer {item.name} does not fit samples of shape {shown(shape)}")
    return len(shape) - 1


def _steps(item: Item, shape: Shape) -> None:
    if len(shape) > 2:
        raise InputError(f"layer {item.name} needs samples with one axis, or steps × features, not {shown(shape)}: "
                         "put flatten before it")  # fmt: skip


def _sequence(item: Item, shape: Shape) -> None:
    if len(shape) != 2:
        raise InputError(f"layer {item.name} needs steps and features, such as 20x8, not {shown(shape)}")


def on_samples(row: Layer, shape: Shape, axes: Mapping[int, tuple[str, ...]] = _STEPS) -> Layer:
    """A row on x[n,i], at every step of x[n,t,i] (or on whatever axes are given); its other inputs follow."""
    x = _x(shape, axes)
    return replace(row, inputs=tuple(Input(i.name, x.indices, i.facts) if "n" in i.names else i for i in row.inputs))


# --- the rows -----------------------------------------------------------------------------------------------


def _convolution(item: Item, shape: Shape) -> Chosen:
    dimensions = _spatial(item, shape)
    outputs, kernel = (int(n) for n in numbers(item, "channels and kernel size, as in conv(16,3)", 2))
    transposed = item.name.startswith("conv_transpose")
    groups = dict(item.options).get("groups", "1")
    row = layer(f"conv{'_transpose' if transposed else ''}{dimensions}d", **item.options)
    sizes = dict.fromkeys("UV"[:dimensions], kernel)
    if groups == DEPTHWISE:
        if outputs != shape[0]:
            raise InputError(f"layer conv({outputs},…): depthwise keeps the {shape[0]} channels")
        return Chosen(row, sizes)
    if groups != "1":
        g = int(groups)
        if shape[0] % g or outputs % g:
            raise InputError(f"layer conv: {g} groups do not divide {shape[0]} channels into {outputs}")
        return Chosen(row, {"O": outputs // g, **sizes}, (g, shape[0] // g, *shape[1:]), joined=True)
    return Chosen(row, {"O": outputs, **sizes})


def _pooling(item: Item, shape: Shape) -> Chosen:
    dimensions = _spatial(item, shape)
    (kernel,) = numbers(item, "a size, as in max_pool(2)", 1)
    return Chosen(
        layer(f"{item.name.removesuffix('1d').removesuffix('2d')}{dimensions}d", kernel=kernel, **item.options)
    )


def _dense(item: Item, shape: Shape) -> Chosen:
    _steps(item, shape)
    (outputs,) = numbers(item, "a width, as in dense(10)", 1)
    return Chosen(on_samples(layer("dense", **item.options), shape), {"O": int(outputs)})


def _gated(item: Item, shape: Shape) -> Chosen:
    """(x W) gated by (x V), with the gate of the row of that name."""
    _steps(item, shape)
    (outputs,) = numbers(item, f"a width, as in {item.name}(32)", 1)
    gate = layer(item.name, **item.options)

    def formula(x: Tensor, W: Tensor, V: Tensor) -> Tensor:
        return gate.formula((x * W).sum("i").named("a"), (x * V).sum("i").named("b"))

    io = (axis("i"), axis("o"))
    given = (_x(shape, _STEPS), Input("W", io), Input("V", io))
    row = replace(
        gate, formula=formula, inputs=given, title=f"{gate.title}, a = x W, b = x V", stages=("a", "b"),
        output=("n", *(("t",) if len(shape) == 2 else ()), "o"),
    )  # fmt: skip
    return Chosen(row, {"O": int(outputs)})


def _recurrent(item: Item, shape: Shape) -> Chosen:
    _sequence(item, shape)
    (width,) = numbers(item, "a width, as in lstm(16)", 1)
    return Chosen(layer(item.name, **item.options), {"O": int(width)})


def _attention(item: Item, shape: Shape) -> Chosen:
    _sequence(item, shape)
    heads, options = _option_or_number(item, "heads", "a number of heads, as in attention(4)")
    if shape[1] % heads:
        raise InputError(f"layer {item.name}: {heads} heads do not divide {shape[1]} features")
    mask = options.pop("mask", "none")
    if options:
        raise InputError(f"layer {item.name} has no option {next(iter(options))!r}: it has heads, mask")
    if mask not in ("none", "causal"):
        raise InputError(f"layer {item.name}: mask is none or causal, not {mask[:40]!r}")
    one = shape[1] // heads
    return Chosen(self_attention(mask=mask), {"H": heads, "D": one, "E": one, "O": shape[1]})


def _normalised(item: Item, shape: Shape) -> Chosen:
    """Batch normalisation of every channel over the samples and positions."""
    numbers(item, "no number", 0)
    row = layer("batch_norm", **item.options)
    if len(shape) == 1:
        return Chosen(row)
    over = ("n", *_AXES[len(shape)][1:])
    channel = axis(_AXES[len(shape)][0])

    def formula(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        mean = x.mean(over).named("mean")
        var = ((x - mean) ** 2).mean(over).named("var")
        r = (1 / sqrt(var + eps)).named("r")
        return gamma * ((x - mean) * r).named("xhat") + beta

    given = (_x(shape), Input("gamma", (channel,)), Input("beta", (channel,)))
    return Chosen(replace(row, formula=formula, inputs=given, title="batch normalisation of every channel"))


def _grouped_norm(item: Item, shape: Shape) -> Chosen:
    dimensions = _spatial(item, shape)
    groups, options = _option_or_number(item, "groups", "a number of groups, as in group_norm(4)")
    if shape[0] % groups:
        raise InputError(f"layer group_norm: {groups} groups do not divide {shape[0]} channels")
    row = layer("group_norm", **options)
    places = ("p", "q")[:dimensions]

    def formula(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return gamma * layers.normalised(x, ("c", *places)) + beta

    x = Input("x", tuple(axis(a) for a in ("n", "g", "c", *places)))
    row = replace(row, formula=formula, inputs=(x, *row.inputs[1:]))
    return Chosen(row, {}, (groups, shape[0] // groups, *shape[1:]), joined=True)


def _dropout(item: Item, shape: Shape) -> Chosen:
    rate = {"rate": item.numbers[0]} if item.numbers else {}
    row = layer("dropout", **{**rate, **item.options})
    if not all(0 < v < 1 for v in row.parameters.values()):
        raise InputError(f"layer dropout: its rate must lie between 0 and 1, not {next(iter(row.parameters.values()))}")
    return Chosen(on_samples(row, shape, _AXES))


def _embedding(item: Item, shape: Shape) -> Chosen:
    """One-hot tokens times a table: x[n,i] or, at every step, x[n,t,i]."""
    _steps(item, shape)
    (width,) = numbers(item, "a width, as in embedding(32)", 1)
    x = _x(shape, _STEPS)
    row = replace(
        layer("embedding", **item.options), formula=lambda x, E: (x * E).sum("i"),
        inputs=(Input("x", x.indices, (one_hot("i"),)), Input("E", (axis("i"), axis("o")))),
    )  # fmt: skip
    return Chosen(row, {"O": int(width)})


def _over_steps(item: Item, shape: Shape) -> Chosen:
    _sequence(item, shape)
    numbers(item, "no number", 0)
    return Chosen(layer(item.name, **item.options))


def _entrywise(item: Item, shape: Shape) -> Chosen:
    numbers(item, "no number (write options by name)", 0)
    known = {n: row.name for row in ACTIVATIONS.values() for n in (row.name, *row.aliases)}
    row = layer("activation", function=activation(known[item.name], **item.options))
    return Chosen(on_samples(row, shape, _AXES))


def _other(item: Item, shape: Shape) -> Chosen:
    """Any row of the table that reads x[n,i] and parameters: at every step of a sequence too."""
    row = layer(item.name, **item.options) if item.name in LAYERS else lookup(_spellable(), item.name, "layer")
    assert isinstance(row, Layer)
    numbers(item, "no number", 0)
    if row.inputs[0].name != "x" or row.inputs[0].names != ("n", "i") or any("n" in i.names for i in row.inputs[1:]):
        raise InputError(
            f"layer {row.name} has several inputs and cannot stand in a sequence; known: {', '.join(KNOWN)}"
        )
    _steps(item, shape)
    return Chosen(on_samples(row, shape))


def _spellable() -> dict[str, Layer]:
    return LAYERS | dict.fromkeys(KNOWN, LAYERS["dense"])


#: Layers over time: samples are steps × features.
RECURRENT = ("rnn", "lstm", "gru")
#: names in the text -> what makes the row for a shape. A way of placing a layer is one row.
PLACES: dict[tuple[str, ...], Callable[[Item, Shape], Chosen]] = {
    ("conv", "conv1d", "conv2d", "conv_transpose", "conv_transpose1d", "conv_transpose2d"): _convolution,
    ("max_pool", "avg_pool", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"): _pooling,
    ("dense", "linear"): _dense,
    ("glu", "swiglu", "geglu", "reglu"): _gated,
    RECURRENT: _recurrent,
    ("attention", "self_attention", "mha"): _attention,
    ("batch_norm", "batchnorm"): _normalised,
    ("group_norm", "groupnorm"): _grouped_norm,
    ("dropout",): _dropout,
    ("embedding",): _embedding,
    ("positional", "mean_over_steps"): _over_steps,
}
_PLACE = {name: place for names, place in PLACES.items() for name in names}
#: What may stand in a sequence besides the activations.
KNOWN = (
    "conv", "conv_transpose", "max_pool", "avg_pool", "flatten", "dense", "batch_norm", "layer_norm", "rms_norm",
    "group_norm", "dropout", "bias", "prelu", "softmax", "log_softmax", "glu", "swiglu", "geglu", "reglu", *RECURRENT,
    "attention", "embedding", "positional", "mean_over_steps", "residual",
)  # fmt: skip


def choose(item: Item, shape: Shape) -> Chosen:
    """The row of a layer on samples of this shape."""
    if item.name in _PLACE:
        return _PLACE[item.name](item, shape)
    if any(item.name in (row.name, *row.aliases) for row in ACTIVATIONS.values()) and item.name != "prelu":
        return _entrywise(item, shape)
    return _other(item, shape)


def place(item: Item, shape: Shape) -> Placed:
    """The layer on samples of this shape; raises :class:`InputError` where it does not fit."""
    chosen = choose(item, shape)
    row, view = chosen.row, chosen.view or shape
    sizes = dict(chosen.sizes)
    for a, size in zip(row.inputs[0].indices[1:], view, strict=True):
        if a.size.is_Symbol:
            sizes[str(a.size)] = size
    # x, masks and states before the first step have a sample axis; the rest are parameters
    parameters = {i.name: _sized(i.indices, sizes, item) for i in row.inputs if "n" not in i.names}
    output = _sized(row.output_axes[1:], sizes, item)
    makes = (output[0] * output[1], *output[2:]) if chosen.joined else output
    return Placed(row, sizes, shape, makes, parameters, view, output)


def _sized(axes: tuple[Axis, ...], sizes: Mapping[str, int], item: Item) -> Shape:
    values = {size_symbol(name): sympy.Integer(v) for name, v in sizes.items()}
    found = [a.size.xreplace(values) for a in axes]
    if any(v.free_symbols or not v.is_Integer for v in found):
        raise InputError(f"layer {item.name}: its shape cannot be inferred")
    if any(v < 1 for v in found):
        raise InputError(f"layer {item.name} does not fit: it would make {'×'.join(map(str, found))}")
    return tuple(int(v) for v in found)
