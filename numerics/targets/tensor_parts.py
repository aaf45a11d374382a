"""What the printers of tensor expressions share: sizes, scalar functions as programs, and the two passes of a layer."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy

from ...theory.errors import Unsupported
from ...theory.evaluation import concrete
from ...theory.layer_row import Layer
from ...theory.lowering import Program, lower
from ...theory.numpy_source import identifier
from ...theory.scalar_functions import Named as NamedFunction
from ...theory.scaled_erfc import without_erfcx
from ...theory.stability import stable_program
from ...theory.tensors import Axis, Input, Map, Tensor
from ...theory.walking import postorder, scalar_symbols
from .printing import literal, operand_text, ordered, text_of

_TRUTHS = frozenset({"lt", "le", "eq", "and", "or", "not"})


@dataclass(frozen=True)
class Pass:
    """One function to print: its arguments, and its outputs with the axes in which each is laid out."""

    name: str
    arguments: tuple[Input, ...]
    outputs: Mapping[str, tuple[Tensor, tuple[Axis, ...]]]
    #: hyper-parameter -> its default as a literal
    parameters: Mapping[str, str]

    @property
    def spelt_sizes(self) -> dict[sympy.Symbol, str]:
        """Size symbol -> how it is spelt: by its name, unless an argument has that one."""
        taken = {identifier(a.name) for a in self.arguments} | set(self.parameters)
        symbols = {s: None for a in self.arguments for i in a.indices for s in sorted(i.size.free_symbols, key=str)}
        return {s: f"size_{s}" if str(s) in taken else str(s) for s in symbols}


def passes(row: Layer) -> tuple[Pass, Pass]:
    """The forward pass of a layer, and the backward pass that was derived from it.

    Raises :class:`Unsupported` for a layer with a function that has no formula.
    """
    named_functions(row)
    gradients = {d.name: (d.gradient, d.axes) for d in row.gradients().values()}
    return (
        _pass("forward", row.inputs, {result_name(row): (row.forward, row.output_axes)}, row),
        _pass("backward", (row.cotangent, *row.inputs), gradients, row),
    )


def named_functions(row: Layer) -> None:
    """Raises :class:`Unsupported` where a layer holds a function without a formula."""
    for node in postorder(row.forward):
        if isinstance(node, Map):
            for f in node.function.atoms(sympy.Function):
                if getattr(type(f), "definition", False) is None:
                    raise Unsupported(
                        f"layer {row.name} holds any function {type(f).__name__}: name one, as in "
                        f"{row.name}(function=gelu), or emit an activation by its own name"
                    )


def result_name(row: Layer) -> str:
    """What the output is called: y, or for a loss "loss" (its y is the target)."""
    return "loss" if any(a.name == "y" for a in row.inputs) else "y"


def usage(row: Layer) -> str:
    """Shapes, defaults and conventions, a line each."""
    shapes = [f"{identifier(a.name)} [{', '.join(str(i.size) for i in a.indices)}]" for a in row.inputs]
    out = f"{result_name(row)} [{', '.join(str(a.size) for a in row.output_axes)}]"
    lines = [f"Shapes: {', '.join(shapes)} -> {out}."]
    facts = [
        f"{a.name} is {fact.kind}" + (f" over axis {fact.axis}" if fact.axis is not None else "")
        for a in row.inputs
        for fact in a.facts
    ]
    lines += [f"Assumed: {'; '.join(facts)}."] if facts else []
    lines += [f"At a kink: {row.kinks}."] if row.kinks else []
    return "\n".join(textwrap.fill(line, 110, subsequent_indent="    ") for line in lines)


def _pass(
    name: str, arguments: tuple[Input, ...], outputs: dict[str, tuple[Tensor, tuple[Axis, ...]]], row: Layer
) -> Pass:
    used = {str(s) for tensor, _ in outputs.values() for s in scalar_symbols(tensor)}
    parameters = {identifier(str(s)): literal(v) for s, v in row.parameters.items() if str(s) in used}
    return Pass(name, arguments, outputs, parameters)


class Names:
    """Names v1, v2, … that no argument has."""

    def __init__(self, taken: Sequence[str]) -> None:
        self.taken, self.count = set(taken), 0

    def fresh(self, stem: str = "v") -> str:
        """The next name."""
        while True:
            self.count += 1
            if (name := f"{stem}{self.count}") not in self.taken:
                return name

    def claim(self, wish: str) -> str:
        """The wished name, with underscores until it is free."""
        while wish in self.taken:
            wish += "_"
        self.taken.add(wish)
        return wish


@lru_cache(maxsize=4096)
def scalar_program(function: sympy.Expr, symbols: tuple[sympy.Symbol, ...]) -> Program:
    """A scalar function as a straight-line program, the branches of a Piecewise guarded."""
    return lower({"value": concrete(function)}, symbols)


def scalar_steps(
    function: sympy.Expr,
    given: Mapping[sympy.Symbol, str],
    table: Mapping[str, str],
    names: Names,
    add: Callable[[str, str, bool], None],
    write: Callable[[Program, Mapping[int, str], int], str] | None = None,
    stable: Callable[[Any], Program] | None = None,
) -> str:
    """Hand each step (name, right-hand side, is it a truth value) to ``add``; return the text of the result.

    ``stable`` gives the program of a function that has a name and a formula.
    """
    stable = stable or stable_function
    called = _called(function)
    if called:  # each by the target's own function where its table has one of that name, else in its stable form
        texts_of: dict[sympy.Symbol, str] = dict(given)
        for f, symbol in called.items():
            text = scalar_steps(f.args[0], texts_of, table, names, add, write, stable)
            kind: Any = type(f)
            own = table.get(kind.__name__) if issubclass(kind, NamedFunction) else None
            if own is not None:
                texts_of[symbol] = names.fresh()
                add(texts_of[symbol], own.format(text), False)
                continue
            texts_of[symbol] = _program_steps(stable(kind), {"x": text}, table, names, add, write)
        return scalar_steps(function.xreplace(called), texts_of, table, names, add, write, stable)
    symbols = tuple(sorted(function.free_symbols, key=str))
    missing = [s for s in symbols if s not in given]
    if missing:
        raise Unsupported(f"no value for {missing[0]} in generated source")
    by_name = {str(s): given[s] for s in symbols}
    return _program_steps(scalar_program(function, symbols), by_name, table, names, add, write)


def _called(function: sympy.Expr) -> dict[sympy.Expr, sympy.Symbol]:
    """Calls of functions that have a name and a formula, innermost first, each with a symbol to stand for it."""
    calls = [f for f in function.atoms(sympy.Function) if getattr(type(f), "formula", None) is not None]
    calls = [f for f in calls if not any(other is not f and f.has(other) for other in calls)]
    return {f: sympy.Symbol(f"call{k}", real=True) for k, f in enumerate(sorted(calls, key=str))}


@lru_cache(maxsize=256)
def stable_function(kind: Any) -> Program:
    """The stable program of a function that has a name and a formula in x."""
    return without_erfcx(stable_program({"value": kind.formula}).program)


def _program_steps(
    program: Program,
    by_name: Mapping[str, str],
    table: Mapping[str, str],
    names: Names,
    add: Callable[[str, str, bool], None],
    write: Callable[[Program, Mapping[int, str], int], str] | None,
) -> str:
    """The steps of one program."""
    texts: dict[int, str] = {}
    for place, node in enumerate(program.nodes):
        if node.operation == "input":
            texts[place] = by_name[str(node.leaf)]
    for place, node in ordered(program):
        texts[place] = names.fresh()
        right = write(program, texts, place) if write else text_of(program, table, texts, place)
        add(texts[place], right, node.operation in _TRUTHS)
    return operand_text(program, texts, program.outputs["value"])


def size_text(size: sympy.Expr, sizes: Mapping[sympy.Symbol, str], floor: str) -> str:
    """An axis size as integer source: a polynomial in size symbols, and floors of its quotients (``//`` or ``/``)."""
    size = sympy.sympify(size)
    if size.is_Integer:
        return str(size)
    if size in sizes:
        return sizes[size]
    if size.is_Add:
        size = _whole_in_floor(size)
    if size.is_Add:
        plus = [t for t in size.args if not t.could_extract_minus_sign()]
        minus = [-t for t in size.args if t.could_extract_minus_sign()]
        text = " + ".join(size_text(t, sizes, floor) for t in sorted(plus, key=str))
        return f"({text or '0'}{''.join(f' - {size_text(t, sizes, floor)}' for t in sorted(minus, key=str))})"
    if size.is_Mul and all(f.is_Integer or not f.is_Rational for f in size.args):
        return f"({' * '.join(size_text(f, sizes, floor) for f in size.args)})"
    if isinstance(size, sympy.floor | _Floor):
        parts = size.args if isinstance(size, _Floor) else sympy.together(size.args[0]).as_numer_denom()
        above, below = parts
        if below.is_Integer:
            return f"({size_text(sympy.expand(above), sizes, floor)} {floor} {below})"
    raise Unsupported(f"no source for an axis of size {size}")


def _whole_in_floor(size: sympy.Expr) -> sympy.Expr:
    """⌊a/d⌋ + k as ⌊(a + k·d)/d⌋: a alone may be negative, which an unsigned size cannot be."""
    whole, rest = size.as_coeff_Add()
    if not (isinstance(rest, sympy.floor) and whole.is_Integer and whole > 0):
        return size
    above, below = sympy.together(rest.args[0]).as_numer_denom()
    return _Floor(sympy.expand(above + whole * below), below)


class _Floor(sympy.Function):
    """⌊a/d⌋ that keeps its a and d."""

    nargs = 2


def read_sizes(arguments: Sequence[Input], sizes: Mapping[sympy.Symbol, str]) -> dict[str, str]:
    """How each size is read off the shape of an argument: spelling -> ``x.shape[0]``."""
    found: dict[str, str] = {}
    for a in arguments:
        for k, i in enumerate(a.indices):
            if i.size in sizes:
                found.setdefault(sizes[i.size], f"{identifier(a.name)}.shape[{k}]")
    missing = [t for t in sizes.values() if t not in found]
    if missing:
        raise Unsupported(f"the size {missing[0]} cannot be read off the arguments")
    return found


def told(node: Any) -> Unsupported:
    """The error for a node that a target has no source for."""
    return Unsupported(f"no source for a {type(node).__name__} in this target")
