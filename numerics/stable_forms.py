"""Where a formula is right but its floats fail: the stable form of the derivative, with its error before and after.

The person's forward pass runs on one SymPy symbol; the expression is checked against the same code in balls, and
:mod:`..theory.stability` rewrites its derivative.  For functions that act entry by entry on one input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from sympy import Expr

from ..theory.errors import InputError
from ..theory.symbols import x as variable
from .probing import SPECIAL_VALUES, Point
from .subject import Subject, entries, run_exact, run_floats

#: Significant digits up to which a constant is read as its decimal.
SHORT_DIGITS = 15
_UFUNCS = {
    "exp": sympy.exp, "log": sympy.log, "tanh": sympy.tanh, "sinh": sympy.sinh, "cosh": sympy.cosh, "sqrt": sympy.sqrt,
    "sin": sympy.sin, "cos": sympy.cos, "arctan": sympy.atan, "arcsinh": sympy.asinh, "absolute": sympy.Abs,
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b, "power": lambda a, b: a**b, "negative": lambda a: -a, "square": lambda a: a * a,
    "reciprocal": lambda a: 1 / a, "positive": lambda a: a, "log1p": lambda a: sympy.log(1 + a),
    "expm1": lambda a: sympy.exp(a) - 1, "maximum": sympy.Max, "minimum": sympy.Min, "erf": sympy.erf,
    "erfc": sympy.erfc, "expit": lambda a: 1 / (1 + sympy.exp(-a)),
    "logaddexp": lambda a, b: sympy.log(sympy.exp(a) + sympy.exp(b)),
    "greater": lambda a, b: a > b, "greater_equal": lambda a, b: a >= b, "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
}  # fmt: skip


class Formula(np.lib.mixins.NDArrayOperatorsMixin):
    """A SymPy expression that NumPy's functions of one or two numbers accept; anything else raises TypeError."""

    def __init__(self, expr: Any) -> None:
        self.expr = expr

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        make = _UFUNCS.get(ufunc.__name__)
        if method != "__call__" or keywords or make is None:
            return NotImplemented
        return Formula(make(*(_expr(each) for each in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        if function is np.where and len(args) == 3:
            condition, yes, no = map(_expr, args)
            return Formula(sympy.Piecewise((yes, condition), (no, True)))
        if function is np.clip and len(args) == 3:
            return Formula(sympy.Max(_expr(args[1]), sympy.Min(_expr(args[0]), _expr(args[2]))))
        return NotImplemented

    def __abs__(self) -> Formula:
        return Formula(sympy.Abs(self.expr))


def _expr(value: Any) -> Any:
    if isinstance(value, Formula):
        return value.expr
    if isinstance(value, (bool, np.bool_)):
        return sympy.true if value else sympy.false
    number = float(value)
    decimal = Fraction(repr(number))
    digits = len(str(abs(decimal.numerator)).strip("0"))
    return sympy.Rational(decimal) if digits <= SHORT_DIGITS else sympy.Rational(Fraction(number))


def first_derivative(forward: Any, against: Any) -> Any:
    """Return the first derivative of a function of one number as an expression in x: what a second is a gradient of.

    Raises :class:`InputError` where the function is not one of one number that SymPy can follow.
    """
    from ..theory.activations import activation

    if forward is None:
        return activation(getattr(against, "expr", against)).derivative(1)
    try:
        with np.errstate(all="ignore"):
            return activation(forward(Formula(variable)).expr).derivative(1)
    except (TypeError, AttributeError, ValueError):
        raise InputError(
            "second=True is for functions of one number written with NumPy's functions; of others check the gradient, "
            "then give it as forward= and its own derivative as backward"
        ) from None


def formula_of(subject: Subject, point: Point, name: str) -> Expr | None:
    """Return forward as an expression in x, if it is one of ``name`` alone, and equal in balls at ``point``."""
    from .reference import expression_function

    try:
        with np.errstate(all="ignore"):
            made, _ = subject.call_forward({name: Formula(variable)}, point.options)
        expr = made[0].expr
        own = run_exact(subject, point, only_true=True)
        other = replace(subject, forward=lambda **given: expression_function(expr, {name: variable})(**given))
        theirs = run_exact(other, replace(point, options={}), upstream=own.upstream[0], only_true=True)
        pairs = zip(entries(own.outputs[0]).reshape(-1), entries(theirs.outputs[0]).reshape(-1), strict=True)
        return expr if all(a.value.overlaps(b.value) for a, b in pairs) else None
    except Exception:
        return None


@dataclass(frozen=True)
class StableForm:
    """A stable form of forward's derivative: how to get it, its source, and the worst errors before and after."""

    command: str
    source: str
    dtype: str
    yours: float
    stable: float
    at: float

    def __str__(self) -> str:
        yours = "no finite value" if not np.isfinite(self.yours) else f"{self.yours:.3g} ULP"
        return (
            f"a stable form of this derivative: {self.command}: {self.stable:.1f} ULP at most over the probes in "
            f"{self.dtype}, yours {yours} at x = {self.at:.9g}"
        )


def stable_form(subject: Subject, point: Point, dtypes: tuple[str, ...]) -> StableForm | None:
    """Return the stable form of forward's derivative where it loses less than the person's code does, or None."""
    if len(subject.names) != 1 or subject.opaque:
        return None
    name = subject.names[0]
    from ..theory.activations import activation
    from .emission import activation_source

    row = _named(subject, point, name)
    expr = None if row is not None else formula_of(subject, point, name)
    if row is None and expr is None:
        return None
    try:
        row = row or activation(expr)
        found = [_measured(subject, point, row, name, dtype) for dtype in dtypes if dtype in ("float64", "float32")]
        dtype, yours, stable, at = max(found, key=lambda f: f[1])
        source = activation_source(row, "numpy", 1, dtype)
    except (InputError, ArithmeticError, ValueError):
        return None
    if not stable < yours / 4:
        return None
    text = row.name if expr is None else str(expr)
    option = " --dtype float32" if dtype == "float32" else ""
    return StableForm(f'backproof emit "{text}"{option}', source, dtype, yours, stable, at)


def _named(subject: Subject, point: Point, name: str) -> Any:
    """Return the activation of the table that forward is, by its values in balls; None if it is none of them."""
    from ..theory.activations import ACTIVATIONS
    from .whole_gradients import activation_forward

    own = entries(run_exact(subject, point, only_true=True, widened=True).outputs[0])
    for row in ACTIVATIONS.values():
        other = replace(subject, forward=activation_forward(row.name))
        try:
            run = run_exact(other, replace(point, options={}), only_true=True)
        except Exception:
            continue
        pairs = zip(own.reshape(-1), entries(run.outputs[0]).reshape(-1), strict=True)
        if all(a.value.overlaps(b.value) for a, b in pairs):
            return row
    return None


def _measured(subject: Subject, point: Point, row: Any, name: str, dtype: str) -> tuple[str, float, float, float]:
    """(dtype, worst error of the person's code, worst of the stable form, where yours is worst) over the probes."""
    from .acceptance import run_with_numpy
    from .accuracy import FORMATS, exact_function, ulp_error
    from .kernels import activation_program

    with np.errstate(all="ignore"):
        values = np.unique(np.array(SPECIAL_VALUES).astype(dtype))
    values = values[np.isfinite(values)]
    program = activation_program(row, (1,), dtype)
    stable = run_with_numpy(program, dtype)(values)
    yours = _yours(subject, point, name, values, dtype)
    exact = exact_function(row, 1)
    errors = [
        tuple(ulp_error(float(v), exact(float(p)), FORMATS[dtype])[0] for v in pair)
        for p, pair in zip(values, zip(yours, stable, strict=True), strict=True)
    ]
    errors = [(0.0, 0.0) if np.isnan(a) or np.isnan(b) else (a, b) for a, b in errors]  # a kink: no derivative
    worst = max(range(len(errors)), key=lambda k: errors[k][0])
    return dtype, errors[worst][0], max(b for _, b in errors), float(values[worst])


def _yours(subject: Subject, point: Point, name: str, values: Any, dtype: str) -> Any:
    """Run the person's backward at each value, as many at a time as the example holds."""
    shape = np.shape(point.inputs[name])
    count = max(1, int(np.prod(shape)))
    out: list[float] = []
    for start in range(0, len(values), count):
        part = np.resize(values[start : start + count], shape)
        found = run_floats(subject, replace(point, inputs={name: part}), [np.ones(shape)], dtype).gradients[name]
        out += np.asarray(found, dtype=float).reshape(-1).tolist()
    return np.array(out[: len(values)])
