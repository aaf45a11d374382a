"""References that are rows of theory's tables: ``layer:batch_norm``, ``loss:huber(delta=2)``, a Layer or a Loss.

The row's forward pass, in index notation, becomes an ordinary NumPy function with the argument names of the gradient
under check; from there on it is treated like a person's own forward pass.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..theory.errors import InputError
from .probing import InputKind

if TYPE_CHECKING:
    from ..theory.tensors import Input

#: Sizes of the axes of a row, in order of appearance, where no shape is given: no two alike, and small.
SIZES = (4, 3, 5, 2)
#: The same for rows of many axes: exact arithmetic is entry by entry.
SMALL_SIZES = (2, 3, 4, 2, 3, 5)
#: Names that announce an upstream gradient as the first parameter of a loss's gradient.
UPSTREAM = re.compile(r"^(upstream|cotangent|delta|g|grad.*|d(y|out|z|l|loss|output|next)?|.*_grad)$", re.IGNORECASE)
#: fact of an input of theory -> kind of input of a check
_KIND_OF_FACT = {
    "one-hot": "one_hot", "zero or one": "binary", "positive": "positive", "sums to one": "probability",
}  # fmt: skip
_SPEC = re.compile(r"^\s*(?:(layer|loss)\s*:)?\s*([\w\- ]+?)\s*(?:\(([^()]*)\))?\s*$")


@dataclass(frozen=True)
class RowReference:
    """The forward pass of a row as a NumPy function; ``kinds`` are its inputs, ``wrt`` those with a gradient."""

    forward: Callable[..., Any]
    kinds: tuple[InputKind, ...]
    wrt: tuple[str, ...]
    source: str


def row_reference(
    against: Any, backward: Callable[..., Any], given: Mapping[str, InputKind] | None = None
) -> RowReference | None:
    """Return the reference for a row of LAYERS or LOSSES, or None if ``against`` names none.

    A name without ``layer:`` or ``loss:`` is looked up among the activations first.  Options stand in parentheses:
    ``layer:batch_norm(eps=1e-3)``, ``loss:mse(reduction=sum)``; ``loss:cross_entropy(logits=yes)`` goes through the
    matching output activation.  Raises :class:`InputError` for an unknown name or option.
    """
    row, reduction, logits = _row(against)
    if row is None:
        return None
    arguments, parameters = _arguments(row, logits), row.parameters
    names = _match(tuple(a.name for a in arguments), backward, scalar=not hasattr(row, "vjp"))
    renamed = tuple(replace_name(a, names[a.name]) for a in arguments)
    source = _source(row, renamed, parameters, reduction, logits)
    kinds = _kinds(renamed, dict(given or {}))
    forward = _compiled(source, kinds, renamed)
    has_gradient = _differentiable(row, arguments)
    return RowReference(forward, kinds, tuple(names[n] for n in has_gradient), source)


def _row(against: Any) -> tuple[Any, str, bool]:
    if hasattr(against, "formula") and hasattr(against, "target_facts"):
        return against, "mean", False
    if hasattr(against, "inputs") and hasattr(against, "vjp"):
        return against, "mean", False
    if not isinstance(against, str):
        return None, "", False
    match = _SPEC.match(against)
    if match is None:
        if re.match(r"^\s*(layer|loss)\s*:", against):
            raise InputError(f"against={against!r}: expected layer:NAME, loss:NAME or layer:NAME(option=value)")
        return None, "", False
    kind, name, options = match.groups()
    if kind is None and not _is_row_name(name):
        return None, "", False
    return _lookup(kind, name, _options(options, against))


def _is_row_name(name: str) -> bool:
    """Tell whether a bare name is that of a layer or loss, and of no activation."""
    from ..theory.layers import LAYERS
    from ..theory.losses import LOSSES

    key = name.strip().lower().replace("-", "_")
    if _activation_named(key):
        return False
    rows: list[Any] = [*LAYERS.values(), *LOSSES.values()]
    return any(key == row.name or key in row.aliases for row in rows)


def _activation_named(key: str) -> bool:
    from ..theory.activations import activation

    try:
        activation(key)
    except InputError:
        return False
    return True


def _lookup(kind: str | None, name: str, options: dict[str, str]) -> tuple[Any, str, bool]:
    from ..theory.layers import layer
    from ..theory.losses import REDUCTIONS, loss

    if kind == "layer":
        return layer(name, **options), "", False
    if kind is None:
        try:
            return layer(name, **options), "", False
        except InputError:
            if options and _names_layer(name):
                raise
    reduction = options.pop("reduction", "mean")
    if reduction not in REDUCTIONS:
        raise InputError(f"loss:{name}: reduction={reduction!r}: expected {', '.join(REDUCTIONS)}")
    logits = options.pop("logits", "no").lower() in ("yes", "true", "1")
    row = loss(name)
    bound = dict(row.parameters)
    known = {str(s): s for s in row.parameters}
    for option, value in options.items():
        if option not in known:
            raise InputError(
                f"loss {row.name} has no option {option!r}: it has {', '.join([*known, 'reduction', 'logits'])}"
            )
        from ..theory.layers import _exact

        bound[known[option]] = _exact(option, value)
    return replace(row, parameters=bound), reduction, logits


def _names_layer(name: str) -> bool:
    from ..theory.layers import layer

    try:
        layer(name)
    except InputError:
        return False
    return True


def _options(text: str | None, against: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"against={against!r}: expected option=value, got {part.strip()!r}")
        options[name.strip()] = value.strip()
    return options


def _arguments(row: Any, logits: bool) -> tuple[Input, ...]:
    return tuple(row.inputs) if hasattr(row, "vjp") else _loss_inputs(row, logits)


def _loss_inputs(row: Any, logits: bool) -> tuple[Input, Input]:
    from ..theory.tensors import Input

    prediction, target = row.inputs()
    return (Input("z", prediction.indices) if logits else prediction), target


def _loss(row: Any, arguments: Sequence[Any], reduction: str, logits: bool) -> Any:
    prediction, target = arguments
    return row.forward(row.predict(prediction) if logits else prediction, target, reduction)


def replace_name(argument: Input, name: str) -> Input:
    """Return an input of theory under another name."""
    from ..theory.tensors import Input

    return Input(name, argument.indices, argument.facts)


def _source(row: Any, arguments: tuple[Any, ...], parameters: Mapping[Any, Any], reduction: str, logits: bool) -> str:
    from ..theory.derivation import function_source

    tensor = row.formula(*arguments) if hasattr(row, "vjp") else _loss(row, arguments, reduction, logits)
    order = [*getattr(row, "output", ()), *dict.fromkeys(a.name for i in arguments for a in i.indices)]
    axes = tuple(sorted(tensor.axes, key=lambda a: order.index(a.name)))
    return function_source("forward", {"reference_value": (tensor, axes)}, arguments, parameters)


def _differentiable(row: Any, arguments: Sequence[Any]) -> tuple[str, ...]:
    if hasattr(row, "vjp"):
        return tuple(row.differentiable)
    return (arguments[0].name,)  # of a loss: the prediction


def _match(names: tuple[str, ...], backward: Callable[..., Any], scalar: bool) -> dict[str, str]:
    """Map the row's input names to the parameters of ``backward``: by name, else in order."""
    parameters = [
        p for p in inspect.signature(backward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]  # fmt: skip
    lower = {n.lower(): n for n in names}
    matched = {lower[p.name.lower()]: p.name for p in parameters if p.name.lower() in lower}
    required = [p.name for p in parameters if p.default is p.empty and p.name not in matched.values()]
    first = parameters[0].name if parameters else ""
    upstream = required[:1] == [first] and (not scalar or bool(UPSTREAM.match(first)) or len(required) > len(names))
    left = required[1:] if upstream else required
    free = [n for n in names if n not in matched]
    if len(left) > len(free):
        extra = left[len(free)]
        raise InputError(
            f"{getattr(backward, '__name__', 'the function')} takes {extra!r}, which the reference does not have: "
            f"its inputs are {', '.join(names)}"
        )
    matched |= dict(zip(free, left, strict=False))
    return {n: matched.get(n, n) for n in names}


def _kinds(arguments: Sequence[Any], given: dict[str, InputKind]) -> tuple[InputKind, ...]:
    """Return the inputs with their shapes: those given, the rest from the sizes of shared axes."""
    names = [a.name for a in arguments]
    for name in given:
        if name not in names:
            raise InputError(f"the reference has no input {name!r}: its inputs are {', '.join(names)}")
    sizes: dict[str, int] = {}
    for argument in arguments:
        kind = given.get(argument.name)
        if kind is None:
            continue
        axes = [a.name for a in argument.indices]
        if len(kind.shape) == len(axes):
            for axis_name, n in zip(axes, kind.shape, strict=True):
                if sizes.setdefault(axis_name, n) != n:
                    raise InputError(
                        f"input {argument.name!r}: axis {axis_name} has the sizes {sizes[axis_name]} and {n}"
                    )
        elif not (kind.kind == "integer" and len(kind.shape) == len(axes) - 1):
            raise InputError(
                f"input {argument.name!r}: the reference has the axes [{', '.join(axes)}], got shape {kind.shape}"
            )
    count = len({a.size for i in arguments for a in i.indices})
    spare = itertools.cycle(SIZES if count <= len(SIZES) else SMALL_SIZES)
    by_size: dict[Any, int] = {a.size: sizes[a.name] for i in arguments for a in i.indices if a.name in sizes}
    for argument in arguments:
        for a in argument.indices:
            if a.name not in sizes:
                sizes[a.name] = by_size.setdefault(a.size, 0) or next(spare)
                by_size[a.size] = sizes[a.name]
    made = []
    for argument in arguments:
        shape = tuple(sizes[a.name] for a in argument.indices)
        kind_name = next((_KIND_OF_FACT[f.kind] for f in argument.facts if f.kind in _KIND_OF_FACT), "real")
        own = given.get(argument.name)
        made.append(
            replace(own, kind=kind_name if own.kind == "real" and kind_name == "positive" else own.kind)
            if own is not None
            else InputKind(argument.name, kind_name, shape)
        )
    return tuple(made)


def _compiled(source: str, kinds: Sequence[InputKind], arguments: Sequence[Any]) -> Callable[..., Any]:
    """Run the generated source; integers given for a one-hot input are turned into one-hot rows first."""
    integers = [(k, a) for k, a in zip(kinds, arguments, strict=True) if k.kind == "integer"]
    for k, a in integers:
        if not any(f.kind == "one-hot" for f in a.facts):
            raise InputError(f"input {k.name!r} is integer: the reference takes real numbers there")
        width = _width(a, arguments, k)
        source = source.replace("):\n", f"):\n    {k.name} = np.eye({width})[{k.name}]\n", 1)
    names: dict[str, Any] = {"__name__": "reference_from_theory"}
    exec(compile(source, "<reference>", "exec"), names)  # our own generated source
    function: Callable[..., Any] = names["forward"]
    return function


def _width(argument: Any, arguments: Sequence[Any], kind: InputKind) -> str:
    last = argument.indices[-1]
    for other in arguments:
        if other is not argument:
            for k, a in enumerate(other.indices):
                if a.name == last.name:
                    return f"{other.name}.shape[{k}]"
    return str(kind.high + 1)
