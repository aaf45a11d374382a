"""Between what the steps of a program lie, by interval arithmetic in floats: what decides how they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import flint

from .enclosures import enclose
from .lowering import Node, Rest

#: (least, largest); infinite where nothing is known, NaN apart. Rounding is neglected.
Interval = tuple[float, float]
EVERYTHING: Interval = (-math.inf, math.inf)


def interval(node: Node, operands: Sequence[Interval]) -> Interval:
    """The range of a step's results, given those of its operands."""
    match node.operation:
        case "constant":
            return (_near(node),) * 2
        case "select" | "within":
            return _chosen(node.operation, *operands)
        case "mul" if node.operands[0] == node.operands[1]:
            low, high = operands[0]
            return (min(low * low, high * high) if low * high > 0 else 0.0, max(low * low, high * high))
    known = _RANGES.get(node.operation)
    return EVERYTHING if known is None else known(*operands)


def reach(nodes: Sequence[Node], place: int, given: Mapping[int, Interval] = MappingProxyType({})) -> Interval:
    """Between what a step of a program lies, given the steps before it, and what is known of some."""
    known = dict(given)

    def of(place: int) -> Interval:
        if place not in known:
            known[place] = interval(nodes[place], [of(o) for o in nodes[place].operands])
        return known[place]

    return of(place)


def _near(node: Node) -> float:
    if isinstance(node.leaf, Rest):
        return 0.0
    if node.leaf.is_Rational:
        try:
            return int(node.leaf.p) / int(node.leaf.q)
        except OverflowError:
            return math.copysign(math.inf, int(node.leaf.p))
    with flint.ctx.workprec(80):
        return float(enclose(node.leaf, {}, digits=20).mid())


def _chosen(operation: str, *operands: Interval) -> Interval:
    (p, q), (r, s) = operands[-2:]
    return (min(p, r), max(q, s)) if operation == "select" else (max(p, -s), min(q, s))


def product(p: Interval, q: Interval) -> Interval:
    """All s·t, 0·∞ being 0."""
    ends = [0.0 if 0.0 in (s, t) else s * t for s in p for t in q]
    return (min(ends), max(ends))


def total(p: Interval, q: Interval) -> Interval:
    """All s + t."""
    return (p[0] + q[0], p[1] + q[1])


def negative(p: Interval) -> Interval:
    """All −s."""
    return (-p[1], -p[0])


def absolute(p: Interval) -> Interval:
    """All |s|."""
    return (max(0.0, p[0], -p[1]), max(-p[0], p[1]))


def _quotient(p: Interval, q: Interval) -> Interval:
    low, high = q
    return product(p, (1 / high if high else math.inf, 1 / low)) if low > 0 else EVERYTHING


def _exponential(p: Interval, lift: Interval = (0.0, 0.0)) -> Interval:
    scale = 2.0 ** lift[0]
    return tuple(0.0 if e < -700 else math.exp(e) * scale if e < 700 else math.inf for e in p)  # type: ignore[return-value]


def _log1p(p: Interval) -> Interval:
    return (math.log1p(p[0]), math.log1p(p[1])) if p[0] > -1 else EVERYTHING


def _copysign(p: Interval, q: Interval) -> Interval:
    high = absolute(p)[1]
    return (-high, high)


_RANGES: dict[str, Callable[..., Interval]] = {
    "abs": absolute,
    "sqrt": lambda p: (math.sqrt(max(p[0], 0.0)), math.sqrt(max(p[1], 0.0))),
    "at_most": lambda p, q: (min(p[0], q[0]), min(p[1], q[1])),
    "at_least": lambda p, q: (max(p[0], q[0]), max(p[1], q[1])),
    "exp": _exponential,
    "lifted_exp": _exponential,
    "near_exp": _exponential,
    "decaying_expm1": lambda p: (-1.0, 0.0),
    "split_decay": lambda p, lift: _exponential((-p[1], -p[0]), lift),
    "split_rest_decay": lambda p, rest, lift: _exponential((-p[1], -p[0]), lift),
    "split_high": lambda p: (p[0] / 1.5, p[1] * 1.5),
    "split_low": lambda p: (-0.3, 0.42),
    "split_value": lambda p: p,
    "erf": lambda p: (-1.0, 1.0),
    "erf_by_decay": lambda p, pair: (0.0, 1.0),
    "erfcx": lambda p: (0.0, 1.0 if p[0] >= 0 else math.inf),
    "split_erfcx": lambda p: (0.0, 1.0 if p[0] >= 0 else math.inf),
    "log1p": _log1p,
    "atan": lambda p: (-1.6, 1.6),
    "sin": lambda p: (-1.0, 1.0),
    "cos": lambda p: (-1.0, 1.0),
    "paired_sin": lambda p, rest: (-1.0, 1.0),
    "paired_cos": lambda p, rest: (-1.0, 1.0),
    "high": lambda p: p,
    "copysign": _copysign,
    "exp_mantissa": lambda p: (0.7, 1.42),
    "power_below": lambda p: (2.0**-1022, 2.0**1022),
    "inverse_power": lambda p: (2.0**-1022, 2.0**1022),
    "add": total,
    "with_rest": total,
    "sub": lambda p, q: total(p, negative(q)),
    "neg": negative,
    "mul": product,
    "div": _quotient,
    "fma": lambda p, q, r: total(product(p, q), r),
}
