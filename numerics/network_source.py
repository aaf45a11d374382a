"""A network as text, printed for a target: its layers' functions, each once, and one function that calls them in order.

What a layer computes and its backward pass are those of :mod:`.emission`; the network's own lines are those of
:mod:`backproof.theory.sequences`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field, replace

from ..theory.errors import InputError, lookup
from ..theory.grammar import sequence
from ..theory.layer_row import Layer
from ..theory.sequences import Sequence, Step
from .emission import layer_source
from .loss_rows import network_loss_row

#: target -> the array of zeros for a first state that is not given
TARGETS = {
    "numpy": "np.zeros((len(X), {0}))",
    "numba": "np.zeros((len(X), {0}))",
    "torch": "X.new_zeros(len(X), {0})",
    "jax": "jnp.zeros((len(X), {0}), X.dtype)",
}
#: targets that differentiate: a layer is one function, and the network has no backward pass of its own
DIFFERENTIATING = ("torch", "jax")
_WIDTHS = re.compile(r"\s*\d+(\s*-\s*\d+)+\s*")


def is_network(text: str) -> bool:
    """Whether the text writes widths, such as 784-256-10."""
    return _WIDTHS.fullmatch(text) is not None


def as_layers(text: str, activation: str) -> tuple[str, str]:
    """(layers as text, input shape) of widths.

    >>> as_layers("784-256-10", "relu")
    ('dense(256) relu dense(10)', '784')
    """
    first, *rest = (width.strip() for width in text.split("-"))
    return f" {activation} ".join(f"dense({width})" for width in rest), first


@dataclass
class Module:
    """The pieces of the module: imports, and definitions by name."""

    imports: dict[str, None] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    #: source with the row called "layer" -> what the row is called here
    known: dict[str, str] = field(default_factory=dict)

    def add(self, row: Layer, wish: str, target: str) -> str:
        """The functions of a layer under a name of their own; those of an equal layer are there already."""
        source = layer_source(replace(row, name="layer"), target)
        if source not in self.known:
            taken = set(self.known.values())
            name = next(n for n in (wish, *(f"{wish}_{k}" for k in range(2, 1000))) if n not in taken)
            self.known[source] = name
            if target in DIFFERENTIATING:
                self._take(layer_source(replace(row, name=name), target), {})
            else:
                own = {n: f"{name}_{n.strip('_')}" for n in ("forward", "backward", "_slope")}
                self._take(source, own)
        return self.known[source]

    def _take(self, source: str, names: dict[str, str]) -> None:
        lines = source.splitlines()
        _, *nodes = ast.parse(source).body
        for node in nodes:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            text = "\n".join(lines[first - 1 : node.end_lineno])
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports[text] = None
                continue
            for old, new in names.items():
                text = re.sub(rf"\b{old}\b(?=\()", new, text)
            key = getattr(node, "name", text)
            self.definitions.setdefault(names.get(key, key), text)


def network_source(
    text: str,
    shape: str | None,
    target: str = "numpy",
    *,
    activation: str | None = None,
    loss: str = "softmax_cross_entropy",
    reduction: str = "mean",
) -> str:
    """A module with the network that the text writes: layers, with the ``shape`` of a sample, or widths.

    numpy and numba: ``forward(parameters, X) -> (A, saved)``, ``loss(A, Y)`` and
    ``backward(parameters, saved, Y) -> gradients`` with the keys of ``parameters``; torch and jax:
    ``forward(parameters, X)`` and ``loss(A, Y)``, both differentiable. ``SHAPES`` are those of the parameters.
    Raises :class:`InputError` for text that is no network, shapes that do not fit, or a target without networks.
    """
    lookup(TARGETS, target, "target of networks")
    if is_network(text):
        if shape is not None:
            raise InputError("--input is for layers such as conv(16,3) relu: widths begin with the input's width")
        layers, shape = as_layers(text, activation or "relu")
    elif activation is not None:
        raise InputError("--activation is for widths such as 784-256-128-10; layers name their own")
    elif shape is None:
        raise InputError(f"network {text[:40]!r}: say what a sample looks like, such as --input 3x32x32")
    else:
        layers = text
    net = sequence(layers, shape, loss, reduction)
    module = Module()
    names = [_add(step, module, target) for step in net.steps]
    end = module.add(network_loss_row(loss, reduction), net.loss, target)
    body = (_differentiating if target in DIFFERENTIATING else _explicit)(net, names, end, target)
    shapes = [f'    "{name}": {size},' for name, size in net.parameter_shapes.items()]
    imports = sorted(module.imports, key=lambda line: (line.split()[1] not in ("functools", "math"), line))
    head = [_title(net, target), "", *imports, "", "SHAPES = {", *shapes, "}"]
    return "\n\n\n".join(["\n".join(head), *module.definitions.values(), *body]) + "\n"


def _add(step: Step, module: Module, target: str) -> str:
    return (
        ""
        if step.placed is None
        else module.add(step.placed.row, step.placed.row.function or step.placed.row.name, target)
    )


def _title(net: Sequence, target: str) -> str:
    sizes = "×".join(map(str, net.input_shape))
    lines = [
        f"{net.spec}, on samples of shape {sizes}: {net.parameter_count:,} parameters, {net.loss}, each layer with the "
        "backward pass derived from its forward pass."
    ]
    masks = [name for step in net.steps for name in step.given if name.startswith("mask")]
    states = [name for step in net.steps for name in step.given if not name.startswith("mask")]
    given = f"given holds {', '.join(masks)}" if masks else ""
    given += f"{' and ' if masks else 'given may hold '}{', '.join(states)} (0 if not)" if states else ""
    more = ", given" if given else ""
    if target in DIFFERENTIATING:
        usage = f"forward(parameters, X{more}) returns A [N, {net.output_shape[0]}], loss(A, Y) a number; "
        usage += "both may be differentiated once."
    else:
        usage = f"forward(parameters, X{more}) returns A [N, {net.output_shape[0]}] and what backward needs; "
        usage += "loss(A, Y) returns a number; "
        usage += "backward(parameters, saved, Y) returns gradients under the names of the parameters."
    lines += [usage, *([given + "."] if given else []), "parameters holds arrays of the SHAPES below."]
    text = "\n".join(textwrap.fill(line, 110) for line in lines)
    head, _, rest = text.partition("\n")
    return f'"""{head}\n{rest}\n"""'


def _function(signature: str, lines: list[str], result: str) -> str:
    return "\n".join([f"def {signature}:", *(f"    {line}" for line in lines), f"    return {result}"])


def _start(net: Sequence, target: str) -> tuple[list[str], list[str], dict[str, None]]:
    """Lines that unpack the parameters, lines that find what else is given, and the names of that."""
    unpack = [f'{name} = parameters["{name}"]' for name in net.parameter_shapes]
    given = {name: shape for step in net.steps for name, shape in step.given.items()}
    data = []
    for name, shape in given.items():
        zeros = TARGETS[target].format(", ".join(map(str, shape)))
        data.append(
            f'{name} = given["{name}"]'
            if name.startswith("mask")
            else f'{name} = given["{name}"] if "{name}" in given else {zeros}'
        )
    return unpack, data, dict.fromkeys(given)


def _called(line: str, k: int, forward: str, backward: str) -> str:
    return re.sub(rf"\bbackward_{k}\(", f"{backward}(", re.sub(rf"\bforward_{k}\(", f"{forward}(", line))


def _differentiating(net: Sequence, names: list[str], end: str, target: str) -> list[str]:
    unpack, data, given = _start(net, target)
    lines = [_called(step.code().forward, k, name, "") for k, (step, name) in enumerate(zip(net.steps, names), 1)]
    more = ", given={}" if given else ""
    return [
        _function(f"forward(parameters, X{more})", [*unpack, *data, "A0 = X", *lines], f"A{len(names)}"),
        _function("loss(A, Y)", [], f"{end}(A, Y)"),
    ]


def _explicit(net: Sequence, names: list[str], end: str, target: str) -> list[str]:
    unpack, data, given = _start(net, target)
    count, codes = len(names), [step.code() for step in net.steps]
    pairs = [(f"{name}_forward", f"{name}_backward") for name in names]
    ahead = [_called(c.forward, k, *pair) for k, (c, pair) in enumerate(zip(codes, pairs), 1)]
    back = [[_called(line, k, *pair) for line in c.backward] for k, (c, pair) in enumerate(zip(codes, pairs), 1)]
    saved = ", ".join([*(f"A{k}" for k in range(count + 1)), *given])
    more = ", given={}" if given else ""
    result = ", ".join(f'"{name}": d{name}' for name in net.parameter_shapes)
    first = [f"{saved} = saved", f"dA{count} = {end}_backward(1.0, A{count}, Y)"]
    return [
        _function(f"forward(parameters, X{more})", [*unpack, *data, "A0 = X", *ahead], f"A{count}, ({saved})"),
        _function("loss(A, Y)", [], f"float({end}_forward(A, Y))"),
        _function(
            "backward(parameters, saved, Y)", [*unpack, *first, *(x for lines in reversed(back) for x in lines)],
            f"{{{result}}}",
        ),
    ]  # fmt: skip
