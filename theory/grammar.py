"""Networks as text: ``conv(16,3) batch_norm relu max_pool(2) flatten dense(10)``, shapes inferred, gradients derived.

A layer is a name, with numbers and ``option=value`` in brackets; ``residual(…)`` holds layers and adds its input. Every
layer is a row of the tables or an activation; nothing in the text is evaluated, and its length and depth are bounded.
Layer k reads A(k−1) and makes Ak; its gradients are those of its row, with these names put in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import sympy

from .activations import ACTIVATIONS
from .derivation import Derivation
from .errors import InputError, lookup
from .layer_row import Layer
from .layers import LAYERS, eps, layer
from .losses import loss
from .notation import shape_text
from .tensors import Axis, Input, Tensor, axis, size_symbol, sqrt
from .walking import inputs, substitute

MAX_CHARACTERS, MAX_LAYERS, MAX_NESTING, MAX_SIZE = 2_000, 100, 6, 10**7
Shape = tuple[int, ...]
_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)|(?P<sign>[(),=]))"
)


@dataclass(frozen=True)
class Item:
    """One layer of the text: its name, numbers by place, options by name, and the layers inside."""

    name: str
    numbers: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    inside: tuple[Item, ...] = ()


def parse_layers(text: str) -> tuple[Item, ...]:
    """The layers that the text writes.

    >>> [item.name for item in parse_layers("conv(16,3) relu dense(10)")]
    ['conv', 'relu', 'dense']
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("network: write its layers, such as conv(16,3) relu flatten dense(10)")
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"network {text[:40]!r}…: longer than {MAX_CHARACTERS} characters")
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InputError(f"network: {text[at : at + 20].strip()!r} is not part of a layer; write conv(16,3) relu …")
        tokens.append((match.lastgroup or "", match.group(match.lastgroup or 0)))
        at = match.end()
    items, rest = _sequence(tokens, 0)
    if rest:
        raise InputError(f"network: {rest[0][1]!r} is out of place")
    return items


_Tokens = list[tuple[str, str]]


def _sequence(tokens: _Tokens, depth: int) -> tuple[tuple[Item, ...], _Tokens]:
    if depth > MAX_NESTING:
        raise InputError(f"network: nested deeper than {MAX_NESTING}")
    items: list[Item] = []
    while tokens and tokens[0][0] == "name":
        name, tokens = tokens[0][1].lower(), tokens[1:]
        item = Item(name)
        if tokens and tokens[0][1] == "(":
            item, tokens = _arguments(name, tokens[1:], depth)
        items.append(item)
    if not items:
        raise InputError("network: a layer's name is needed" + (f", not {tokens[0][1]!r}" if tokens else ""))
    return tuple(items), tokens


def _arguments(name: str, tokens: _Tokens, depth: int) -> tuple[Item, _Tokens]:
    if name == "residual":
        inside, tokens = _sequence(tokens, depth + 1)
        return Item(name, inside=inside), _closed(name, tokens)
    numbers: list[str] = []
    options: dict[str, str] = {}
    while tokens and tokens[0][1] != ")":
        kind, text = tokens[0]
        if kind == "name" and len(tokens) > 2 and tokens[1][1] == "=" and tokens[2][0] in ("number", "name"):
            options[text], tokens = tokens[2][1], tokens[3:]
        elif kind == "number" and not options:
            numbers, tokens = [*numbers, text], tokens[1:]
        else:
            raise InputError(f"network: {name}(…) takes numbers, then option=value; {text!r} is neither")
        if tokens and tokens[0][1] == ",":
            tokens = tokens[1:]
            if tokens and tokens[0][1] == ")":
                raise InputError(f"network: {name}(…) ends with a comma")
        elif tokens and tokens[0][1] != ")":
            raise InputError(f"network: a comma is needed in {name}(…) before {tokens[0][1]!r}")
    return Item(name, tuple(numbers), options), _closed(name, tokens)


def _closed(name: str, tokens: _Tokens) -> _Tokens:
    if not tokens or tokens[0][1] != ")":
        raise InputError(f"network: {name}( is not closed")
    return tokens[1:]


def parse_shape(text: str) -> Shape:
    """ "3x32x32" to (3, 32, 32): one sample's shape.

    >>> parse_shape("3x32x32")
    (3, 32, 32)
    """
    parts = [p.strip() for p in str(text).lower().replace("×", "x").split("x")]
    if not 1 <= len(parts) <= 3 or not all(re.fullmatch(r"[0-9]{1,8}", p) and 0 < int(p) <= MAX_SIZE for p in parts):
        raise InputError(f"input shape {str(text)[:40]!r}: write one sample's shape, such as 784, 16x100 or 3x32x32")
    return tuple(int(p) for p in parts)


# --- one layer ----------------------------------------------------------------------------------------------

#: axes of a sample by its number of dimensions, and its channel axis
_AXES = {1: ("i",), 2: ("c", "i"), 3: ("c", "i", "j")}


@dataclass(frozen=True)
class Placed:
    """A row at its place: the size of each symbol, the shape it reads and makes, and its parameters' shapes."""

    row: Layer
    sizes: Mapping[str, int]
    reads: Shape
    makes: Shape
    parameters: Mapping[str, Shape]


def _x(shape: Shape) -> Input:
    return Input("x", (axis("n"), *(axis(a) for a in _AXES[len(shape)])))


def _normalised(shape: Shape) -> Layer:
    """Batch normalisation of every channel over the samples and positions."""
    over = ("n", *_AXES[len(shape)][1:])
    channel = axis(_AXES[len(shape)][0])

    def formula(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        mean = x.mean(over).named("mean")
        var = ((x - mean) ** 2).mean(over).named("var")
        r = (1 / sqrt(var + eps)).named("r")
        return gamma * ((x - mean) * r).named("xhat") + beta

    given = (_x(shape), Input("gamma", (channel,)), Input("beta", (channel,)))
    return replace(LAYERS["batch_norm"], formula=formula, inputs=given, title="batch normalisation of every channel")


def _any_shape(row: Layer, shape: Shape) -> Layer:
    """A row that works entry by entry, on samples of this shape."""
    x = _x(shape)
    return replace(row, inputs=tuple(replace_axes(i, x) for i in row.inputs))


def replace_axes(i: Input, x: Input) -> Input:
    """The input with the axes of x."""
    return Input(i.name, x.indices, i.facts)


def _row_of(item: Item, shape: Shape) -> tuple[Layer, dict[str, str]]:
    """The row of a layer on samples of this shape, and the sizes that its numbers give."""
    name, numbers, options = item.name, item.numbers, dict(item.options)
    if name in ("conv", "conv1d", "conv2d"):
        dimensions = _spatial(item, shape)
        outputs, kernel = _numbers(item, "channels and kernel size, as in conv(16,3)", 2)
        taps = dict.fromkeys("UV"[:dimensions], kernel)
        return layer(f"conv{dimensions}d", **options), {"O": outputs, **taps}
    if name in ("max_pool", "avg_pool"):
        dimensions = _spatial(item, shape)
        (kernel,) = _numbers(item, "a size, as in max_pool(2)", 1)
        return layer(f"{name}{dimensions}d", kernel=kernel, **options), {}
    if name in ("dense", "linear"):
        _flat(item, shape)
        (outputs,) = _numbers(item, "a width, as in dense(10)", 1)
        return layer("dense", **options), {"O": outputs}
    if name in RECURRENT and name in LAYERS:
        if len(shape) != 2:
            raise InputError(f"layer {name} needs steps and features, such as 20x8, not {_shown(shape)}")
        (width,) = _numbers(item, "a width, as in lstm(16)", 1)
        return layer(name, **options), {"O": width}
    if name in ("batch_norm", "batchnorm") and len(shape) > 1:
        _numbers(item, "no number", 0)
        row = _normalised(shape)
        return replace(row, parameters=layer("batch_norm", **options).parameters), {}
    activations = {n: row.name for row in ACTIVATIONS.values() for n in (row.name, *row.aliases)}
    if name in activations and name != "prelu":
        _numbers(item, "no number (write options by name)", 0)
        from .activations import activation

        return _any_shape(layer("activation", function=activation(activations[name], **options)), shape), {}
    if name == "dropout":
        rate = {"rate": numbers[0]} if numbers else {}
        row = layer("dropout", **{**rate, **options})
        if not all(0 < v < 1 for v in row.parameters.values()):
            raise InputError(
                f"layer dropout: its rate must lie between 0 and 1, not {next(iter(row.parameters.values()))}"
            )
        return _any_shape(row, shape), {}
    row = (
        layer(name, **options)
        if name in LAYERS
        else lookup(LAYERS | dict.fromkeys(KNOWN, LAYERS["dense"]), name, "layer")
    )
    _numbers(item, "no number", 0)
    if [i.name for i in row.inputs][:1] != ["x"] or any(len(i.indices) != 1 for i in row.inputs[1:]):
        raise InputError(
            f"layer {row.name} has several inputs and cannot stand in a sequence; known: {', '.join(KNOWN)}"
        )
    _flat(item, shape)
    return row, {}


#: Layers over time: samples are steps × features.
RECURRENT = ("rnn", "lstm", "gru")
#: What may stand in a sequence besides the activations.
KNOWN = (
    "conv", "max_pool", "avg_pool", "flatten", "dense", "batch_norm", "layer_norm", "rms_norm", "dropout", "bias",
    "prelu", "softmax", "log_softmax", *RECURRENT, "residual",
)  # fmt: skip


def _numbers(item: Item, what: str, count: int) -> tuple[str, ...]:
    if len(item.numbers) != count or not all(n.isdecimal() and 0 < int(n) <= MAX_SIZE for n in item.numbers):
        raise InputError(f"layer {item.name}({','.join(item.numbers)[:40]}): it takes {what}")
    return item.numbers


def _flat(item: Item, shape: Shape) -> None:
    if len(shape) != 1:
        raise InputError(f"layer {item.name} needs samples with one axis, not {_shown(shape)}: put flatten before it")


def _spatial(item: Item, shape: Shape) -> int:
    if len(shape) < 2:
        raise InputError(f"layer {item.name} needs channels and positions, such as 3x32x32, not {_shown(shape)}")
    if item.name[-2:] in ("1d", "2d") and int(item.name[-2]) != len(shape) - 1:
        raise InputError(f"layer {item.name} does not fit samples of shape {_shown(shape)}")
    return len(shape) - 1


def _shown(shape: Shape) -> str:
    return "×".join(map(str, shape))


def place(item: Item, shape: Shape) -> Placed:
    """The layer on samples of this shape; raises :class:`InputError` where it does not fit."""
    row, given = _row_of(item, shape)
    sizes = {name: int(value) for name, value in given.items()}
    for a, size in zip(row.inputs[0].indices[1:], shape, strict=True):
        if a.size.is_Symbol:
            sizes[str(a.size)] = size
    data = {
        i.name for i in row.inputs if any(a.name == "n" for a in i.indices)
    }  # x, masks, states before the first step
    parameters = {i.name: _sized(i.indices, sizes, item) for i in row.inputs if i.name not in data}
    return Placed(row, sizes, shape, _sized(row.output_axes[1:], sizes, item), parameters)


def _sized(axes: tuple[Axis, ...], sizes: Mapping[str, int], item: Item) -> Shape:
    values = {size_symbol(name): sympy.Integer(v) for name, v in sizes.items()}
    found = [a.size.xreplace(values) for a in axes]
    if any(v.free_symbols or not v.is_Integer for v in found):
        raise InputError(f"layer {item.name}: its shape cannot be inferred")
    if any(v < 1 for v in found):
        raise InputError(f"layer {item.name} does not fit: it would make {'×'.join(map(str, found))}")
    return tuple(int(v) for v in found)


# --- the network --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradient:
    """One gradient of the network: its name, its shape with numbers, how it is computed, and whether that is proved."""

    name: str
    shape: str
    text: str
    latex: str
    outcome: str
    parameter: bool
    derivation: Derivation | None = None


@dataclass(frozen=True)
class Step:
    """One layer of the network: ``Ak = name(A(k−1); parameters)``."""

    text: str
    makes: Shape
    backward: Callable[[], list[Gradient]]
    parameters: Mapping[str, Shape]


@dataclass(frozen=True)
class Sequence:
    """A network read from text."""

    spec: str
    input_shape: Shape
    loss: str
    reduction: str
    steps: tuple[Step, ...]

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self.steps[-1].makes

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Name -> shape of every parameter, in order."""
        return {name: shape for step in self.steps for name, shape in step.parameters.items()}

    @property
    def parameter_count(self) -> int:
        """Number of parameters.

        >>> sequence("conv(16,3) relu flatten dense(10)", "3x8x8").parameter_count
        6218
        """
        return sum(int(sympy.prod(shape)) for shape in self.parameter_shapes.values())

    def gradients(self) -> list[Gradient]:
        """Every gradient in the order in which backprop computes it: the loss first."""
        last = f"dA{len(self.steps)}"
        d = loss(self.loss).gradient(reduction=self.reduction, through_output=not loss(self.loss).from_logits)
        names = {d.wrt: f"A{len(self.steps)}"}
        shown = replace(d, name=last, gradient=_renamed(d.gradient, names), raw=_renamed(d.raw, names))
        shape = f"[N×{_shown(self.output_shape)}]"
        text = shown.text.replace(f"   {shape_text(d.axes)}", f"   {shape}", 1)
        found = [Gradient(last, shape, text, shown.latex, d.proof.outcome, False, shown)]
        for step in reversed(self.steps):
            found += step.backward()
        return found


def sequence(
    text: str, input_shape: str | Shape, loss_name: str = "softmax_cross_entropy", reduction: str = "mean"
) -> Sequence:
    """The network that the text writes, on samples of the given shape; every gradient derived.

    Raises :class:`InputError`, one line, for text that is no network and for shapes that do not fit.

    >>> sequence("conv(8,3) relu max_pool(2) flatten dense(10)", "1x28x28").output_shape
    (10,)
    """
    shape = parse_shape(input_shape) if isinstance(input_shape, str) else input_shape
    items = parse_layers(text)
    if reduction not in ("mean", "sum"):
        raise InputError(f"unknown reduction {reduction!r}: use mean or sum")
    row = loss(loss_name)
    steps = tuple(_steps(items, shape, 0)[0])
    if len(steps) > MAX_LAYERS:
        raise InputError(f"network with {len(steps)} layers: at most {MAX_LAYERS}")
    if len(steps[-1].makes) != 1:
        raise InputError(f"the network makes samples of shape {_shown(steps[-1].makes)}, and a loss needs one axis: "
                         "end with flatten dense(10), say")  # fmt: skip
    return Sequence(" ".join(text.split()), shape, row.name, reduction, steps)


def _steps(items: tuple[Item, ...], shape: Shape, before: int, first: str = "") -> tuple[list[Step], Shape]:
    """The steps of a sequence whose first layer reads A``before``; ``first`` names the gradient by that input."""
    found: list[Step] = []
    for item in items:
        k = before + len(found)
        if len(found) > MAX_LAYERS:
            raise InputError(f"network: more than {MAX_LAYERS} layers")
        wanted = first if first and not found else f"dA{k}"
        if item.name == "residual":
            if not item.inside:
                raise InputError("network: residual(…) holds the layers of its branch, as in residual(dense(16) relu)")
            branch, made = _steps(item.inside, shape, k, f"dB{k}")
            if made != shape:
                raise InputError(f"residual branch makes {_shown(made)} from {_shown(shape)}: the shapes must be equal")
            found += branch
            found.append(_added(k, before + len(found), shape))
            if first and k == before:
                raise InputError("network: a residual branch cannot begin with a residual branch; write it in one")
            found[-1 - len(branch)] = _joined(found[-1 - len(branch)], k, before + len(found), shape)
        elif item.name == "flatten":
            found.append(_flattened(item, k, wanted, shape))
            shape = found[-1].makes
        else:
            placed = place(item, shape)
            found.append(_step(placed, k, wanted))
            shape = placed.makes
    return found, shape


def _step(placed: Placed, k: int, wanted: str) -> Step:
    row, out = placed.row, k + 1
    names = {i.name: f"A{k}" if i.name == "x" else f"{i.name}{out}" for i in row.inputs} | {"dy": f"dA{out}"}
    given = ", ".join(names[i.name] for i in row.inputs[1:])
    label = f"{row.function or row.name}(A{k}{'; ' + given if given else ''})"

    def backward() -> list[Gradient]:
        return [_gradient(d, placed, names, wanted if d.wrt == "x" else f"d{names[d.wrt]}") for d in _ordered(placed)]

    parameters = {names[n]: shape for n, shape in placed.parameters.items()}
    return Step(f"A{out} = {label}   [N×{_shown(placed.makes)}]", placed.makes, backward, parameters)


def _ordered(placed: Placed) -> list[Derivation]:
    """Parameters first, then what is handed on."""
    return [placed.row.vjp(name) for name in (*placed.parameters, "x")]


def _gradient(d: Derivation, placed: Placed, names: Mapping[str, str], name: str) -> Gradient:
    outcome = d.proof.outcome
    shown = replace(d, name=name, gradient=_renamed(d.gradient, names), raw=_renamed(d.raw, names))
    if shown.known:
        words = re.compile(rf"\b({'|'.join(names)})\b")
        shown = replace(shown, known=tuple(words.sub(lambda m: names[m[0]], text) for text in shown.known))
    shape = placed.reads if d.wrt == "x" else placed.parameters[d.wrt]
    symbols = f"[{'N×' if d.wrt == 'x' else ''}{_shown(shape)}]"
    text = shown.text.replace(f"   {shape_text(d.axes)}", f"   {symbols}", 1)
    return Gradient(name, symbols, text, shown.latex, outcome, d.wrt != "x", shown)


def _renamed(root: Tensor, names: Mapping[str, str]) -> Tensor:
    return substitute(
        root, {name: Input(names[name], i.indices, i.facts) for name, i in inputs(root).items() if name in names}
    )


def _plain(name: str, body: str, shape: str) -> Gradient:
    """A gradient that only moves or adds entries: there is nothing to simplify."""
    return Gradient(name, shape, f"{name} = {body}   {shape}", f"{name} = {body}", "equal", False)


def _flattened(item: Item, k: int, wanted: str, shape: Shape) -> Step:
    _numbers(item, "no number", 0)
    size = int(sympy.prod(shape))
    if size > MAX_SIZE:
        raise InputError(f"layer flatten would make {size} features: at most {MAX_SIZE}")
    text, before = f"A{k + 1} = reshape(A{k})   [N×{size}]", f"[N×{_shown(shape)}]"
    return Step(text, (size,), lambda: [_plain(wanted, f"reshape(dA{k + 1}, {before})", before)], {})


def _added(start: int, k: int, shape: Shape) -> Step:
    """The sum at the end of a residual branch that read A``start``."""
    seen = f"[N×{_shown(shape)}]"
    text = f"A{k + 1} = A{start} + A{k}   {seen}"
    return Step(text, shape, lambda: [_plain(f"dA{k}", f"dA{k + 1}", seen)], {})


def _joined(step: Step, start: int, end: int, shape: Shape) -> Step:
    """The branch's first layer: its gradient by the input and the one that skipped the branch are added."""
    seen = f"[N×{_shown(shape)}]"
    return replace(step, backward=lambda: [*step.backward(), _plain(f"dA{start}", f"dA{end} + dB{start}", seen)])
