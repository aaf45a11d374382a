"""Expressions in several arguments, compiled into one pass over their arrays: update rules, losses, and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from ..theory.errors import InputError, Unsupported, lookup
from ..theory.lowering import Program, lower
from .compiled import DTYPES, Array, apply, as_input, check_out, file_name, load, one_line, write_once
from .files import cache_directory


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Compiled expressions in several arguments: ``update(*arrays, out={...})`` returns a dict, name → array.

    Each argument is an array (all of one shape) or a single number. ``out`` may name arrays for some of the results;
    they may be the arguments themselves, so an update in place is ``update(theta, g, out={"theta": theta})``.
    """

    expressions: Mapping[str, sympy.Expr]
    arguments: tuple[sympy.Symbol, ...]
    dtype: str
    _runs: dict[tuple[str, ...], Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __call__(self, *values: Any, out: Mapping[str, Array] | None = None) -> dict[str, Any]:
        """Evaluate every expression on the arguments, in the order in which they were declared."""
        if len(values) != len(self.arguments):
            raise InputError(
                f"{len(self.arguments)} arguments wanted ({', '.join(map(str, self.arguments))}), {len(values)} given"
            )
        prepared, scalars, shape = self._prepare(values)
        out = out or {}
        for name in out:
            lookup(dict(self.expressions), name, "result") if name not in self.expressions else None
        outs = [None if n not in out else check_out(out[n], shape, self.dtype, f"out[{n!r}]") for n in self.expressions]
        run = self._run(scalars)
        if len(scalars) == len(self.arguments):  # numbers alone: one entry
            targets = [np.empty(1, self.dtype) for _ in outs]
            run(*prepared, *targets)
            return {name: t[0] for name, t in zip(self.expressions, targets, strict=True)}
        results = apply(run, prepared, outs, self.dtype)
        return dict(zip(self.expressions, results, strict=True))

    def _prepare(self, values: Sequence[Any]) -> tuple[list[Any], tuple[str, ...], tuple[int, ...]]:
        prepared: list[Any] = []
        scalars: list[str] = []
        shape: tuple[int, ...] | None = None
        for symbol, value in zip(self.arguments, values, strict=True):
            if not isinstance(value, np.ndarray) or value.ndim == 0:
                prepared.append(_number(value, str(symbol)))
                scalars.append(str(symbol))
                continue
            array = as_input(value, self.dtype, str(symbol))
            if shape is not None and array.shape != shape:
                raise InputError(f"{symbol} has shape {array.shape}, the arrays before it {shape}: all must agree")
            shape = array.shape
            prepared.append(array)
        return prepared, tuple(scalars), shape or ()

    def _run(self, scalars: tuple[str, ...]) -> Callable[..., Any]:
        if scalars not in self._runs:
            self._runs[scalars] = load(self.path_of(scalars))
        return self._runs[scalars]

    def unchecked(self, scalars: Sequence[str]) -> Callable[..., None]:
        """The compiled ``run(*arguments, *results)`` itself, for hot loops; the arguments in ``scalars`` are numbers.

        Nothing is checked: every array must be one-dimensional, contiguous, of ``dtype`` and of one size.
        """
        return self._run(tuple(scalars))

    def path_of(self, scalars: tuple[str, ...]) -> Path:
        """The file for calls in which these arguments are single numbers; written if it is not there."""
        determining = [f"{n}={sympy.srepr(e)}" for n, e in self.expressions.items()] + [
            sympy.srepr(a) for a in self.arguments
        ]
        title = f"{'_'.join(self.expressions)}_{self.dtype}"
        path = cache_directory() / file_name(title, self.dtype, "|".join(scalars), *determining)
        if not path.exists():
            from .targets.numba_cpu import print_source

            what = one_line("; ".join(f"{n} = {e}" for n, e in self.expressions.items()))
            write_once(path, print_source(self.program, dtype=self.dtype, scalars=scalars, title=what))
        return path

    @cached_property
    def program(self) -> Program:
        """The straight-line program of all expressions together."""
        return lower(self.expressions, self.arguments)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array or a real number, not {type(value).__name__}") from None


def compile_elementwise(
    expressions: Mapping[str, sympy.Expr], arguments: Sequence[sympy.Symbol], dtype: str = "float64"
) -> Elementwise:
    """Compile named expressions in several arguments into one pass over their arrays (Numba on the CPU).

    Entries are computed in float64 and rounded once to ``dtype``. Raises :class:`Unsupported` naming what cannot be
    compiled, :class:`InputError` for an unknown dtype or for no expressions.
    """
    lookup(DTYPES, dtype, "dtype")
    if not expressions or not arguments:
        raise InputError("compile_elementwise wants at least one expression and one argument")
    for name, expression in expressions.items():
        unknown = sympy.sympify(expression).free_symbols - set(arguments)
        if unknown:
            raise Unsupported(
                f"{name} depends on {', '.join(sorted(map(str, unknown)))}, which is not among the arguments"
            )
    compiled = Elementwise({n: sympy.sympify(e) for n, e in expressions.items()}, tuple(arguments), dtype)
    compiled.program  # noqa: B018  (refuse now, not at the first call)
    return compiled
