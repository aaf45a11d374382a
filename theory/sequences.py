"""A network of placed layers: forward pass, every gradient, what it costs, and source that runs.

Layer k reads A(k−1) and makes Ak; its gradients are those of its row, with these names put in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import sympy

from .costs import Costs
from .derivation import Derivation
from .errors import InputError
from .grammar import MAX_LAYERS, MAX_SIZE, Item, Shape, parse_layers, parse_shape
from .losses import Loss, loss
from .notation import shape_text
from .placing import Placed, numbers, place, shown
from .styles import LATEX, TEXT
from .tensors import Input, Scalar, Tensor, size_symbol
from .walking import inputs, substitute

_N = size_symbol("N")


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
    #: what is differentiated, and its cotangent, in the network's names
    of: tuple[Tensor, Tensor] | None = None

    def shape_in(self, layout: str) -> str:
        """The shape, of a matrix in columns its transpose."""
        sizes = self.shape.strip("[]").split("×")
        return f"[{'×'.join(sizes[::-1])}]" if layout == "columns" and len(sizes) == 2 else self.shape


@dataclass(frozen=True)
class Code:
    """One layer in source: what ``forward`` and ``backward`` say, and the functions that they call."""

    forward: str
    backward: tuple[str, ...]
    functions: str = ""


@dataclass(frozen=True)
class Step:
    """One layer of the network: ``Ak = name(A(k−1); parameters)``."""

    text: str
    latex: str
    makes: Shape
    backward: Callable[[], list[Gradient]]
    parameters: Mapping[str, Shape]
    costs: Callable[[], Costs]
    code: Callable[[], Code]
    #: inputs that are neither parameters nor activations (masks, first states), with their shapes
    given: Mapping[str, Shape] = field(default_factory=dict)
    #: the layer's row at its place; None where entries are only moved or added
    placed: Placed | None = None


@dataclass(frozen=True)
class Sequence:
    """A network read from text."""

    spec: str
    input_shape: Shape
    loss: str
    reduction: str
    steps: tuple[Step, ...]

    def __hash__(self) -> int:
        return hash((self.spec, self.input_shape, self.loss, self.reduction))

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

        >>> from .grammar import sequence
        >>> sequence("conv(16,3) relu flatten dense(10)", "3x8x8").parameter_count
        6218
        """
        return sum(int(sympy.prod(shape)) for shape in self.parameter_shapes.values())

    def gradients(self) -> list[Gradient]:
        """Every gradient in the order in which backprop computes it: the loss first."""
        last = f"dA{len(self.steps)}"
        d = self._loss_derivation
        names = {d.wrt: f"A{len(self.steps)}"}
        seen = replace(d, name=last, gradient=_renamed(d.gradient, names), raw=_renamed(d.raw, names))
        shape = f"[N×{shown(self.output_shape)}]"
        text = seen.text.replace(f"   {shape_text(d.axes)}", f"   {shape}", 1)
        value, z, _ = self._loss_value
        of = (_renamed(value, {z.name: names[d.wrt]}), Scalar(sympy.Integer(1)))
        seen = replace(seen, wrt=names[d.wrt])
        found = [Gradient(last, shape, text, seen.latex, d.proof.outcome, False, seen, of)]
        for step in reversed(self.steps):
            found += step.backward()
        return found

    @property
    def _row(self) -> Loss:
        return loss(self.loss)

    @cached_property
    def _loss_derivation(self) -> Derivation:
        found: Derivation = self._row.gradient(reduction=self.reduction, through_output=not self._row.from_logits)
        return found

    @property
    def _loss_value(self) -> tuple[Tensor, Input, Input]:
        """The loss of the pre-activations z, and its inputs."""
        _, y = self._row.inputs()
        z = Input("z", y.indices)
        seen: Tensor = z if self._row.from_logits or self._row.output == "identity" else self._row.predict(z).named("p")
        return self._row.forward(seen, y, self.reduction), z, y

    @property
    def costs(self) -> Costs:
        """Operations and stored numbers for N samples: those of the layers and of the loss, added up."""
        from .costs import operations

        value, _, _ = self._loss_value
        sizes = {size_symbol("K"): sympy.Integer(self.output_shape[0])}
        forward, backward = (
            operations(value).xreplace(sizes),
            operations(self._loss_derivation.gradient).xreplace(sizes),
        )
        parts = [step.costs() for step in self.steps]
        return Costs(
            sympy.Integer(self.parameter_count),
            sympy.expand(sympy.Add(forward, *(c.forward for c in parts))),
            sympy.expand(sympy.Add(backward, *(c.backward for c in parts))),
            sympy.expand(sympy.Add(*(c.stored for c in parts))),
        )

    def numpy_source(self) -> str:
        """Source of a NumPy module with ``forward``, ``loss`` and ``backward``; see :func:`source_of`."""
        return source_of(self)


def make(
    text: str, input_shape: str | Shape, loss_name: str = "softmax_cross_entropy", reduction: str = "mean"
) -> Sequence:
    """See :func:`.grammar.sequence`."""
    shape = parse_shape(input_shape) if isinstance(input_shape, str) else input_shape
    items = parse_layers(text)
    if reduction not in ("mean", "sum"):
        raise InputError(f"unknown reduction {reduction!r}: use mean or sum")
    row = loss(loss_name)
    steps = tuple(_steps(items, shape, 0)[0])
    if len(steps) > MAX_LAYERS:
        raise InputError(f"network with {len(steps)} layers: at most {MAX_LAYERS}")
    if len(steps[-1].makes) != 1:
        raise InputError(f"the network makes samples of shape {shown(steps[-1].makes)}, and a loss needs one axis: "
                         "end with flatten dense(10), say")  # fmt: skip
    return Sequence(" ".join(text.split()), shape, row.name, reduction, steps)


# --- layers in order ----------------------------------------------------------------------------------------


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
                raise InputError(f"residual branch makes {shown(made)} from {shown(shape)}: the shapes must be equal")
            found += branch
            found.append(_added(k, before + len(found), shape))
            if first and k == before:
                raise InputError("network: a residual branch cannot begin with a residual branch; write it in one")
            found[-1 - len(branch)] = _joined(found[-1 - len(branch)], k, before + len(found), shape)
        elif item.name == "flatten":
            found.append(_flattened(item, k, wanted, shape))
            shape = found[-1].makes
        else:
            if item.name == "embedding" and k:
                raise InputError("layer embedding reads one-hot tokens: it stands first")
            placed = place(item, shape)
            found.append(_step(placed, k, wanted))
            shape = placed.makes
    return found, shape


def _step(placed: Placed, k: int, wanted: str) -> Step:
    row, out = placed.row, k + 1
    names = {i.name: f"A{k}" if i.name == "x" else f"{i.name}{out}" for i in row.inputs} | {"dy": f"dA{out}"}
    given = [names[i.name] for i in row.inputs[1:]]
    called = row.function or row.name
    options = ", ".join(f"{n}={v}" for n, v in row.options.items() if v != _default(row.name, n))
    seen = f"A{k}" if placed.view == placed.reads else f"view(A{k}, {shown(placed.view)})"
    label = (
        f"{called}({seen}{'; ' + ', '.join(map(TEXT.name, given)) if given else ''}{'; ' + options if options else ''})"
    )
    word = called.replace("_", r"\_")
    tex = ", ".join([_tex(f"A{k}"), *map(_tex, given)])
    shape = f"[N×{shown(placed.makes)}]"

    def backward() -> list[Gradient]:
        return [_gradient(d, placed, names, wanted if d.wrt == "x" else f"d{names[d.wrt]}") for d in _ordered(placed)]

    def costs() -> Costs:
        return row.costs.at(**{n: v for n, v in placed.sizes.items() if n != "N"})

    parameters = {names[n]: shape for n, shape in placed.parameters.items()}
    data = {
        names[i.name]: tuple(placed.sizes[str(a.size)] for a in i.indices[1:]) for i in row.inputs[1:] if "n" in i.names
    }
    return Step(
        f"A{out} = {label}   {shape}", rf"A_{{{out}}} = \mathrm{{{word}}}\left({tex}\right)",
        placed.makes, backward, parameters, costs, lambda: _layer_code(placed, k, names, wanted), data, placed,
    )  # fmt: skip


def _default(name: str, option: str) -> object:
    from .layer_row import LAYERS

    return LAYERS[name].options.get(option) if name in LAYERS else None


def _tex(name: str) -> str:
    return LATEX.name(name)


def _ordered(placed: Placed) -> list[Derivation]:
    """Parameters first, then what is handed on: nothing, from one-hot tokens."""
    last = [n for n in ("x",) if n in placed.row.differentiable]
    return [placed.row.vjp(name) for name in (*placed.parameters, *last)]


def _gradient(d: Derivation, placed: Placed, names: Mapping[str, str], name: str) -> Gradient:
    outcome = d.proof.outcome
    seen = replace(d, name=name, wrt=names[d.wrt], gradient=_renamed(d.gradient, names), raw=_renamed(d.raw, names))
    if seen.known:
        words = re.compile(rf"\b({'|'.join(names)})\b")
        seen = replace(seen, known=tuple(words.sub(lambda m: names[m[0]], text) for text in seen.known))
    shape = placed.reads if d.wrt == "x" else placed.parameters[d.wrt]
    symbols = f"[{'N×' if d.wrt == 'x' else ''}{shown(shape)}]"
    text = seen.text.replace(f"   {shape_text(d.axes)}", f"   {symbols}", 1)
    of = (_renamed(placed.row.forward, names), _renamed(placed.row.cotangent, names))
    return Gradient(name, symbols, text, seen.latex, outcome, d.wrt != "x", seen, of)


def _renamed(root: Tensor, names: Mapping[str, str]) -> Tensor:
    return substitute(
        root, {name: Input(names[name], i.indices, i.facts) for name, i in inputs(root).items() if name in names}
    )


def _plain(name: str, body: str, latex: str, shape: str) -> Gradient:
    """A gradient that only moves or adds entries: there is nothing to simplify."""
    return Gradient(name, shape, f"{name} = {body}   {shape}", f"{_tex(name)} = {latex}", "equal", False)


def _free(shape: Shape, forward: int = 0, backward: int = 0) -> Costs:
    """Costs of a layer without parameters that does so many operations for each entry."""
    whole = sympy.Integer(sympy.prod(shape)) * _N
    zero = sympy.Integer(0)
    return Costs(zero, forward * whole, backward * whole, zero)


def _flattened(item: Item, k: int, wanted: str, shape: Shape) -> Step:
    numbers(item, "no number", 0)
    size = int(sympy.prod(shape))
    if size > MAX_SIZE:
        raise InputError(f"layer flatten would make {size} features: at most {MAX_SIZE}")
    before = f"[N×{shown(shape)}]"
    moved = rf"\mathrm{{reshape}}\left({_tex(f'dA{k + 1}')}\right)"
    code = Code(
        f"A{k + 1} = A{k}.reshape(len(A{k}), {size})",
        (f"{wanted} = dA{k + 1}.reshape(len(dA{k + 1}), {', '.join(map(str, shape))})",),
    )
    return Step(
        f"A{k + 1} = reshape(A{k})   [N×{size}]", rf"A_{{{k + 1}}} = \mathrm{{reshape}}\left({_tex(f'A{k}')}\right)",
        (size,), lambda: [_plain(wanted, f"reshape(dA{k + 1}, {before})", moved, before)], {}, lambda: _free(shape),
        lambda: code,
    )  # fmt: skip


def _added(start: int, k: int, shape: Shape) -> Step:
    """The sum at the end of a residual branch that read A``start``."""
    seen = f"[N×{shown(shape)}]"
    code = Code(f"A{k + 1} = A{start} + A{k}", (f"dA{k} = dA{k + 1}",))
    return Step(
        f"A{k + 1} = A{start} + A{k}   {seen}", f"{_tex(f'A{k + 1}')} = {_tex(f'A{start}')} + {_tex(f'A{k}')}", shape,
        lambda: [_plain(f"dA{k}", f"dA{k + 1}", _tex(f"dA{k + 1}"), seen)], {}, lambda: _free(shape, forward=1),
        lambda: code,
    )  # fmt: skip


def _joined(step: Step, start: int, end: int, shape: Shape) -> Step:
    """The branch's first layer: its gradient by the input and the one that skipped the branch are added."""
    seen = f"[N×{shown(shape)}]"

    def code() -> Code:
        own = step.code()
        return replace(own, backward=(*own.backward, f"dA{start} = dA{end} + dB{start}"))

    def costs() -> Costs:
        own = step.costs()
        return replace(own, backward=own.backward + _free(shape, backward=1).backward)

    joined = _plain(f"dA{start}", f"dA{end} + dB{start}", f"{_tex(f'dA{end}')} + {_tex(f'dB{start}')}", seen)
    return replace(step, backward=lambda: [*step.backward(), joined], code=code, costs=costs)


# --- source -------------------------------------------------------------------------------------------------


def _layer_code(placed: Placed, k: int, names: Mapping[str, str], wanted: str) -> Code:
    row, out = placed.row, k + 1
    seen, given = f"A{k}", [names[i.name] for i in row.inputs[1:]]
    made, arriving = f"forward_{out}({{}})", f"dA{out}"
    if placed.view != placed.reads:
        seen = f"A{k}.reshape(-1, {', '.join(map(str, placed.view))})"
        made += f".reshape(-1, {', '.join(map(str, placed.makes))})"
        arriving = f"dA{out}.reshape(-1, {', '.join(map(str, placed.output))})"
    targets = [wanted if n == "x" else f"d{names[n]}" for n in row.differentiable]
    back = f"{', '.join(targets)} = backward_{out}({', '.join([arriving, seen, *given])})"
    lines = [back]
    if placed.view != placed.reads and wanted in targets:
        lines.append(f"{wanted} = {wanted}.reshape(-1, {', '.join(map(str, placed.reads))})")
    source = re.sub(r"\b(forward|backward)\(", rf"\1_{out}(", row.numpy_source())
    return Code(f"A{out} = {made.format(', '.join([seen, *given]))}", tuple(lines), source)


def source_of(net: Sequence) -> str:
    """A NumPy module of three functions, in the manner of :mod:`.networks`.

    ``forward(parameters, X, given={}) -> (A, saved)``: ``given`` holds masks by name; first states are 0 unless given.
    ``loss(A, Y) -> float``; ``backward(parameters, saved, Y) -> gradients`` with the keys of ``parameters``.
    """
    from .derivation import function_source

    value, z, y = net._loss_value
    d = net._loss_derivation
    codes = [step.code() for step in net.steps]
    count = len(net.steps)
    blocks: dict[str, str] = {}
    for k, code in enumerate(codes, 1):
        _gather(blocks, code.functions, f"_{k}")
    constants = dict(net._row.parameters)
    _gather(blocks, function_source("_loss", {"value": (value, ())}, (z, y), constants), "_loss")
    arguments = (Input(d.wrt, z.indices), y)
    _gather(blocks, function_source("_loss_gradient", {d.name: (d.gradient, d.axes)}, arguments, constants), "_loss")
    given = {name: shape for step in net.steps for name, shape in step.given.items()}
    unpack = [f'{name} = parameters["{name}"]' for name in net.parameter_shapes]
    data = [
        f'{name} = given["{name}"]'
        if name.startswith("mask")
        else f'{name} = given.get("{name}", np.zeros((len(X), {", ".join(map(str, shape))})))'
        for name, shape in given.items()
    ]
    saved = [*(f"A{k}" for k in range(count + 1)), *given]
    result = ", ".join(f'"{name}": d{name}' for name in net.parameter_shapes)
    parts = [
        f'"""{net.spec}, on samples of shape {shown(net.input_shape)}; {net._row.title}; derived by backproof."""',
        "import numpy as np",
        *(text for text in blocks.values()),
        _function("forward(parameters, X, given={})", [*unpack, *data, "A0 = X", *(c.forward for c in codes)],
                  f"A{count}, ({', '.join(saved)})"),
        _function("loss(A, Y)", [], "float(_loss(A, Y))"),
        _function(
            "backward(parameters, saved, Y)",
            [*unpack, f"{', '.join(saved)}{',' if len(saved) == 1 else ''} = saved",
             f"dA{count} = _loss_gradient(A{count}, Y)", *(line for c in reversed(codes) for line in c.backward)],
            f"{{{result}}}",
        ),
    ]  # fmt: skip
    return "\n\n\n".join(parts) + "\n"


def _gather(blocks: dict[str, str], source: str, suffix: str) -> None:
    """Add the functions of a module; one of a name that another one has gets the suffix."""
    own = [part.strip("\n") for part in re.split(r"\n\n+(?=def |import |from )", source) if part.strip()]
    own = [part for part in own if part != "import numpy as np"]
    moved = {}
    for part in own:
        name = _defined(part)
        if blocks.get(name, part) != part:
            moved[name] = f"{name}{suffix}"
    for part in own:
        for old, new in moved.items():
            part = re.sub(rf"\b{old}\b", new, part)
        blocks.setdefault(_defined(part), part)


def _defined(part: str) -> str:
    found = re.match(r"def (\w+)|(\w+ = )|(.*)", part)
    assert found is not None
    return found[1] or found[0]


def _function(signature: str, lines: list[str], result: str) -> str:
    return "\n".join([f"def {signature}:", *(f"    {line}" for line in lines), f"    return {result}"])
