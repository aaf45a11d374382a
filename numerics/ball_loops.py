"""A program of one variable in compiled ball arithmetic: Numba's loop, Arb's steps.

python-flint carries the Arb library; its functions are called from a loop that Numba compiles, without the interpreter
between the steps. Every step encloses the exact result, so a result that comes out with a small radius is *proven* to
be that close: nothing is assumed of rounding errors. A ball is 48 bytes in a block of memory; here it goes by its
address.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from ..theory.errors import Unsupported
from ..theory.lowering import Program, constant_ball
from .accuracy import Format
from .targets.branches import Branch, plan

Array = npt.NDArray[Any]
#: Bytes of an ``arb_t``: a midpoint of 32 and a radius of 16.
BALL, MIDPOINT = 48, 32
INDENT = "    "

_ADDRESS, _PRECISION, _WORD, _REAL = ctypes.c_uint64, ctypes.c_int64, ctypes.c_int32, ctypes.c_double
#: Arb's functions: result first, then operands, then the precision.
_ONE, _TWO = (_ADDRESS, _ADDRESS), (_ADDRESS, _ADDRESS, _ADDRESS)
_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    **{f"arb_{name}": ((*_TWO, _PRECISION), None) for name in ("add", "sub", "mul", "div", "pow", "max", "min")},
    **{
        f"arb_{name}": ((*_ONE, _PRECISION), None)
        for name in ("sqrt", "exp", "expm1", "log", "log1p", "sinh", "cosh", "tanh", "sin", "cos", "tan", "asin",
                     "acos", "atan", "hypgeom_erf", "hypgeom_erfc")
    },
    **{f"arb_{name}": (_ONE, None) for name in ("neg", "abs", "set")},
    **{f"arb_{name}": (_ONE, _WORD) for name in ("lt", "le", "ge", "gt", "eq", "ne")},
    **{f"arb_{name}": ((_ADDRESS,), _WORD) for name in ("is_finite", "is_negative")},
    "arb_set_d": ((_ADDRESS, _REAL), None),
    "arb_mul_2exp_si": ((_ADDRESS, _ADDRESS, ctypes.c_int64), None),
    "arf_get_d": ((_ADDRESS, _WORD), _REAL),
    "mag_get_d": ((_ADDRESS,), _REAL),
    "arb_load_str": ((_ADDRESS, ctypes.c_char_p), _WORD),
    "arb_clear": ((_ADDRESS,), None),
}  # fmt: skip

#: Operation → the statement that computes it: {0} the result's address, {1}… the operands'.
TABLE: dict[str, str] = {
    **{name: f"arb_{name}({{0}}, {{1}}, {{2}}, bits)" for name in ("add", "sub", "mul", "div", "pow")},
    **{
        name: f"arb_{name}({{0}}, {{1}}, bits)"
        for name in ("sqrt", "exp", "expm1", "log", "log1p", "sinh", "cosh", "tanh", "sin", "cos", "tan", "asin",
                     "acos", "atan")
    },
    "decaying_expm1": "arb_expm1({0}, {1}, bits)",
    "log1p_unit": "arb_log1p({0}, {1}, bits)",
    "neg": "arb_neg({0}, {1})",
    "abs": "arb_abs({0}, {1})",
    "fma": "arb_mul({0}, {1}, {2}, bits); arb_add({0}, {0}, {3}, bits)",
    "erf": "arb_hypgeom_erf({0}, {1}, bits)",
    "erfc": "arb_hypgeom_erfc({0}, {1}, bits)",
    "erfcx": "arb_mul({0}, {1}, {1}, bits); arb_exp({0}, {0}, bits); arb_hypgeom_erfc(spare, {1}, bits); "
             "arb_mul({0}, {0}, spare, bits)",
    "at_least": "arb_max({0}, {1}, {2}, bits)",
    "at_most": "arb_min({0}, {1}, {2}, bits)",
    "copysign": "arb_abs({0}, {1}); arb_neg({0}, {0}) if arb_is_negative({2}) else None",
}  # fmt: skip
#: Comparison → (it holds for certain, it fails for certain).
CONDITIONS = {"lt": ("arb_lt", "arb_ge"), "le": ("arb_le", "arb_gt"), "eq": ("arb_eq", "arb_ne")}
LOGIC = {"and": "{0} and {1}", "or": "{0} or {1}", "not": "not {0}"}


@lru_cache(maxsize=1)
def _library() -> dict[str, Any]:
    """Arb's functions as Numba can call them. Raises :class:`Unsupported` where python-flint hides them."""
    from flint.types import arb as module

    try:
        loaded = ctypes.CDLL(module.__file__)
        found = {name: getattr(loaded, name) for name in _SIGNATURES}
    except (OSError, AttributeError) as reason:
        raise Unsupported(f"python-flint does not let its Arb library be called on this system: {reason}") from None
    for name, (arguments, result) in _SIGNATURES.items():
        found[name].argtypes, found[name].restype = arguments, result
    return found


class BallLoop:
    """``compare(points, computed, bits)``: the errors of computed results against the program, in balls.

    The program has one input; ``outputs`` names those whose results are compared, in the order of the rows of
    ``computed``. An object may be used by several threads, each within its own :meth:`memory`.
    """

    def __init__(self, program: Program, outputs: Sequence[str], fmt: Format) -> None:
        if len(program.inputs) != 1:
            raise Unsupported("a loop in balls is for programs of one variable")
        self.program, self.outputs, self.fmt = program, tuple(outputs), fmt
        self.library = _library()
        self.source = self.source_of(program, self.outputs, fmt)
        self._loop = self._compiled()

    @staticmethod
    def source_of(program: Program, outputs: Sequence[str], fmt: Format) -> str:
        """The loop's source. Raises :class:`Unsupported` for a step that Arb has no function for."""
        return _source(program, outputs, fmt)

    def _compiled(self) -> Any:
        import math

        import numba

        names = {name: f for name, f in self.library.items() if name not in ("arb_load_str", "arb_clear")}
        scope: dict[str, Any] = {"math": math, **names}
        exec(compile(self.source, "<balls>", "exec"), scope)
        return numba.njit(nogil=True, error_model="numpy")(scope["loop"])

    @contextmanager
    def memory(self) -> Iterator[Any]:
        """A block with room for the balls of every step, for one thread; given back at the end."""
        count = len(self.program.nodes) + 3
        block = np.zeros(count * BALL // 8, np.uint64)  # a ball of zeros is the number 0
        try:
            yield _Memory(self, block)
        finally:
            for k in range(count):
                self.library["arb_clear"](block.ctypes.data + k * BALL)


class _Memory:
    """One thread's balls; constants are kept at the precision last asked for."""

    def __init__(self, loop: BallLoop, block: Array) -> None:
        self.loop, self.block, self.bits = loop, block, 0

    def compare(self, points: Array, computed: Array, bits: int) -> tuple[Array, Array]:
        """(errors in ULP, their radii), one row an output; the radius is ∞ where ``bits`` do not decide."""
        if bits != self.bits:
            self._fill_constants(bits)
        errors, radii = np.empty(computed.shape), np.empty(computed.shape)
        self.loop._loop(
            points.astype(np.float64), computed.astype(np.float64), self.block.ctypes.data, bits, errors, radii
        )
        return errors, radii

    def _fill_constants(self, bits: int) -> None:
        with flint.ctx.workprec(bits + 32):
            for place, node in enumerate(self.loop.program.nodes):
                if node.operation == "constant":
                    leaf = node.leaf  # an exact constant, or an enclosure as it is
                    self._put(place, leaf if isinstance(leaf, flint.arb) else constant_ball(leaf))
            fmt = self.loop.fmt
            self._put(_beyond(self.loop.program), flint.arb(fmt.largest) * (1 + flint.arb(2) ** -(fmt.precision + 1)))
        self.bits = bits

    def _put(self, place: int, ball: flint.arb) -> None:
        parts = [int(part) for end in (ball.mid(), ball.rad()) for part in end.man_exp()]
        text = " ".join(f"{part:x}" for part in parts).encode()
        if self.loop.library["arb_load_str"](self.block.ctypes.data + place * BALL, text):
            raise Unsupported("a constant could not be handed to Arb")


def _beyond(program: Program) -> int:
    """The place of the number from which on results are rightly ∞; the two after it are spare."""
    return len(program.nodes)


def _source(program: Program, outputs: Sequence[str], fmt: Format) -> str:
    """The loop: every step of the program, then one comparison an output."""
    (given,) = (place for place, node in enumerate(program.nodes) if node.operation == "input")
    beyond = _beyond(program)
    lines = [
        "def loop(points, computed, base, bits, errors, radii):",
        *(f"    v{p} = base + {p * BALL}" for p, n in enumerate(program.nodes) if n.operation in ("input", "constant")),
        *(f"    {name} = base + {(beyond + k) * BALL}" for k, name in enumerate(("beyond", "difference", "spare"))),
        "    for i in range(points.size):",
        "        open = False",
        f"        arb_set_d(v{given}, points[i])",
    ]
    lines += _steps(program, plan(program), 2)
    for k, name in enumerate(outputs):
        lines += [INDENT * 2 + line for line in _comparison(k, f"v{program.outputs[name]}", fmt)]
    return "\n".join(lines) + "\n"


def _steps(program: Program, steps: Iterable[int | Branch], depth: int) -> list[str]:
    lines: list[str] = []
    for step in steps:
        if isinstance(step, int):
            lines += [INDENT * depth + line for line in _step(program, step)]
            continue
        for word, side, position in ((f"if v{step.condition}", step.yes, 1), ("else", step.no, 2)):
            lines.append(f"{INDENT * depth}{word}:")
            lines += _steps(program, side, depth + 1)
            lines += [f"{INDENT * (depth + 1)}v{p} = v{program.nodes[p].operands[position]}" for p in step.selects]
    return lines


def _step(program: Program, place: int) -> list[str]:
    node = program.nodes[place]
    operands = [f"v{o}" for o in node.operands]
    if node.operation == "select":
        return [f"v{place} = {operands[1]} if {operands[0]} else {operands[2]}"]
    if node.operation in LOGIC:
        return [f"v{place} = {LOGIC[node.operation].format(*operands)}"]
    if node.operation in CONDITIONS:
        holds, fails = CONDITIONS[node.operation]
        both = ", ".join(operands)
        return [f"v{place} = {holds}({both}) != 0", f"open = open or (not v{place} and {fails}({both}) == 0)"]
    if node.operation not in TABLE:
        raise Unsupported(f"compiled balls have no operation {node.operation!r}")
    lines = [f"v{place} = base + {place * BALL}"]
    for part in TABLE[node.operation].format(f"v{place}", *operands).split("; "):
        statement, _, condition = part.removesuffix(" else None").partition(" if ")
        lines += [f"if {condition}:", INDENT + statement] if condition else [statement]
    return lines


def _comparison(k: int, value: str, fmt: Format) -> list[str]:
    """The error of computed[k, i]; NaN with radius 0 where neither is a number."""
    least = fmt.least_exponent - fmt.precision + 1
    return f"""\
got = computed[{k}, i]
errors[{k}, i], radii[{k}, i] = math.nan, math.inf
if not open and arb_is_finite({value}):
    if math.isinf(got):
        arb_neg(spare, {value})
        if arb_ge({value} if got > 0 else spare, beyond):
            errors[{k}, i], radii[{k}, i] = 0.0, 0.0
    elif not math.isnan(got):
        exponent = {least}
        size = arf_get_d({value}, 0)
        if size != 0.0:
            exponent = max(math.frexp(size)[1] - {fmt.precision}, {least})
        arb_set_d(difference, got)
        arb_sub(difference, difference, {value}, bits)
        arb_mul_2exp_si(difference, difference, -exponent)
        errors[{k}, i], radii[{k}, i] = abs(arf_get_d(difference, 4)), mag_get_d(difference + {MIDPOINT})""".split("\n")
