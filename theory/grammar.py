"""Networks as text: ``conv(16,3) batch_norm relu max_pool(2) flatten dense(10)``, shapes inferred, gradients derived.

A layer is a name, with numbers and ``option=value`` in brackets; ``residual(…)`` holds layers and adds its input. Every
layer is a row of the tables or an activation; nothing in the text is evaluated, and its length and depth are bounded.
Layer k reads A(k−1) and makes Ak; its gradients are those of its row, with these names put in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .sequences import Sequence

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


def sequence(
    text: str, input_shape: str | Shape, loss_name: str = "softmax_cross_entropy", reduction: str = "mean"
) -> Sequence:
    """The network that the text writes, on samples of the given shape; every gradient derived.

    Raises :class:`InputError`, one line, for text that is no network and for shapes that do not fit.

    >>> sequence("conv(8,3) relu max_pool(2) flatten dense(10)", "1x28x28").output_shape
    (10,)
    """
    from .sequences import make

    return make(text, input_shape, loss_name, reduction)


def __getattr__(name: str) -> Any:
    """What belongs to a placed layer stands in its own module."""
    if name in ("KNOWN", "RECURRENT", "place"):
        from . import placing

        return getattr(placing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
