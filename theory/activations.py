"""The activations: one row each, the formula and its conventions; everything else is derived.

A row holds the formula in ``x`` and its parameters, the value of the derivative at each kink (a choice, so it is
stated), and where the function comes from. Derivatives, analysis, moments, kernels, tests, documentation and the
command's choices follow from the row: adding one is one edit.
"""

from __future__ import annotations

import ast
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import sympy
from sympy import Expr, Piecewise, Rational, Symbol, cos, erf, exp, log, pi, sin, sqrt, tanh

from .enclosures import ball_function, derives, enclose
from .errors import InputError, lookup
from .parsing import absolute, parse_formula
from .symbols import parameter, x

if TYPE_CHECKING:
    from .analysis import Analysis
    from .gaussian import Moment

alpha, beta, slope, threshold, scale = (parameter(n) for n in ("alpha", "beta", "slope", "threshold", "scale"))
#: PReLU's slope is learned, so it may be of either sign; so may Swish's steepness.
learned_slope, steepness = parameter("a", positive=False), parameter("beta", positive=False)


#: The title of a formula that is no row of the table.
TYPED = "formula in x"


@dataclass(frozen=True)
class Kink:
    """A point where f or f′ jumps: the one-sided limits, and what the row states there."""

    position: Expr
    left_value: Expr
    right_value: Expr
    value: Expr
    left_derivative: Expr
    right_derivative: Expr
    derivative: Expr


@dataclass(frozen=True)
class Activation:
    """An activation f(x): a row of :data:`ACTIVATIONS`, or a formula typed by a person."""

    name: str
    formula: Expr
    #: parameter -> value: the defaults of a row, or what was bound.
    parameters: Mapping[Symbol, Expr] = field(default_factory=dict)
    #: kink -> the value that f′ is given there.
    kink_derivatives: Mapping[Expr, Expr] = field(default_factory=dict)
    title: str = ""
    citation: str = ""
    aliases: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self._identity == other._identity

    @cached_property
    def _identity(self) -> tuple[str, Expr, frozenset[tuple[Expr, Expr]]]:
        return self.name, self.expr, frozenset(self.stated.items())

    @property
    def is_typed(self) -> bool:
        """Whether a person typed the formula: it is no row, whatever function its text begins with."""
        return self.title == TYPED

    @cached_property
    def expr(self) -> Expr:
        """The formula with its parameters' values, in ``x``."""
        return self._bind(self.formula)

    def _bind(self, expression: Expr | int) -> Expr:
        return sympy.sympify(expression).subs(dict(self.parameters)) if self.parameters else sympy.sympify(expression)

    def at(self, argument: Expr, **parameters: Any) -> Expr:
        """f(argument), for use inside another formula.

        >>> ACTIVATIONS["sigmoid"].at(2*x)
        1/(1 + exp(-2*x))
        """
        return self.with_parameters(**parameters).expr.subs(x, argument)

    def with_parameters(self, **values: Any) -> Activation:
        """The same activation with parameters bound, for example ``alpha=2``; raises InputError for an unknown one."""
        if not values:
            return self
        known = {str(symbol): symbol for symbol in self.parameters}
        bound = dict(self.parameters)
        for name, value in values.items():
            if name not in known:
                has = "its parameters are " + ", ".join(known) if known else "it has none"
                raise InputError(f"{self.name} has no parameter {name!r}: {has}")
            bound[known[name]] = _parameter_value(known[name], value)
        label = ", ".join(f"{k}={v}" for k, v in bound.items() if self.parameters[k] != v or str(k) in values)
        return replace(self, name=f"{self.name.split('(')[0]}({label})", parameters=bound)

    def derivative(self, n: int = 1) -> Expr:
        """The n-th derivative in ``x``.

        At a kink f′ has the row's stated value; higher derivatives that of the branch that owns the point.

        >>> ACTIVATIONS["relu"].derivative()
        Piecewise((1, x > 0), (0, True))
        """
        if n < 0 or n != int(n):
            raise InputError(f"order of a derivative must be 0, 1, 2, …, not {n}")
        return self._derivatives(n)

    @lru_cache(maxsize=512)  # noqa: B019  (rows live as long as the program)
    def _derivatives(self, n: int) -> Expr:
        if n == 0:
            return self.expr
        result = self._derivatives(n - 1).diff(x) if n != 2 else self._plain_derivative.diff(x)
        derives(result, self.expr, n)
        return self._with_stated_values(result) if n == 1 else result

    @cached_property
    def _plain_derivative(self) -> Expr:
        return self.expr.diff(x)

    def _with_stated_values(self, derivative: Expr) -> Expr:
        differing = [(value, sympy.Eq(x, k)) for k, value in self.stated.items() if derivative.subs(x, k) != value]
        return Piecewise(*differing, (derivative, True)) if differing else derivative

    @cached_property
    def stated(self) -> dict[Expr, Expr]:
        """Point -> the value that f′ is given there."""
        return {self._bind(k): self._bind(v) for k, v in self.kink_derivatives.items()}

    @cached_property
    def borders(self) -> tuple[Expr, ...]:
        """The points where a branch of the formula begins, in order (not all of them are kinks)."""
        found: set[Expr] = set(self.stated)
        for piecewise in self.expr.atoms(Piecewise):
            for _, condition in piecewise.args:
                for relation in condition.atoms(sympy.core.relational.Relational):
                    found |= set(_roots(relation.lhs - relation.rhs))
        return tuple(sorted(found, key=lambda e: float(enclose(e, digits=17).mid())))

    @cached_property
    def kinks(self) -> tuple[Expr, ...]:
        """The exact points where f or f′ jumps."""
        return tuple(kink.position for kink in self.at_kinks)

    @cached_property
    def at_kinks(self) -> tuple[Kink, ...]:
        """What happens at each kink: one-sided limits of f and f′, and the stated values."""
        candidates = [self._at_border(position) for position in self.borders]
        return tuple(
            k
            for k in candidates
            if _differ(k.left_value, k.right_value)
            or _differ(k.left_value, k.value)
            or _differ(k.left_derivative, k.right_derivative)
        )

    def _at_border(self, position: Expr) -> Kink:
        sides = [(one_sided(e, position, s), s) for e in (self.expr, self._plain_derivative) for s in (-1, 1)]
        (left, _), (right, _), (left_slope, _), (right_slope, _) = sides
        here = {x: position}
        return Kink(position, left, right, self.expr.subs(here), left_slope, right_slope, self.derivative(1).subs(here))

    @cached_property
    def analysis(self) -> Analysis:
        """Range, monotonicity, parity, Lipschitz constant, asymptotes: each exact or enclosed, see :mod:`.analysis`."""
        from .analysis import analyse

        return analyse(self)

    def moment(self, power: int = 2, order: int = 0, variance: Any = 1) -> Moment:
        """E[(f^(order)(√variance · z))^power] for z ~ N(0, 1), see :mod:`.gaussian`."""
        from .gaussian import moment

        return moment(self, power=power, order=order, variance=variance)

    def gain(self, kind: str = "second_moment") -> Any:
        """1/√E[f²] ("second_moment"), 1/√Var f ("standard_deviation") or 1/√E[f′²] ("backward"), with proven digits."""
        from .gaussian import gain

        return gain(self, kind)


def one_sided(expression: Expr, position: Expr, side: int) -> Expr:
    """The value at ``position`` of the branch of ``expression`` that holds just beside it (side −1 or +1)."""
    beside = sympy.nsimplify(position, rational=True, tolerance=1e-40) + side * Rational(1, 10**25)

    def choose(node: Piecewise) -> Expr:
        for value, condition in node.args:
            if condition.subs(x, beside) == sympy.true:
                return value
        return sympy.nan

    while expression.has(Piecewise):
        expression = expression.replace(lambda node: isinstance(node, Piecewise), choose)
    return expression.subs(x, position)


def _differ(a: Expr, b: Expr) -> bool:
    if a == b:
        return False
    if a.has(sympy.zoo, sympy.oo, sympy.nan) or b.has(sympy.zoo, sympy.oo, sympy.nan):
        return True
    return not enclose(a - b, digits=30).contains(0)


def _roots(expression: Expr) -> Iterable[Expr]:
    """The real roots of a border, exactly where it is a polynomial; others carry no stated value."""
    if x not in expression.free_symbols or not expression.is_polynomial(x):
        return ()
    polynomial = sympy.Poly(expression, x)
    if polynomial.degree() == 1:
        a, b = polynomial.all_coeffs()
        return (-b / a,)
    return sympy.real_roots(polynomial) if polynomial.get_domain().is_ZZ or polynomial.get_domain().is_QQ else ()


def _parameter_value(symbol: Symbol, value: Any) -> Expr:
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):  # NumPy's floats, too
        if not math.isfinite(value):
            raise InputError(f"parameter {symbol} must be a real number, not {value}")
        value = str(value)
    exact = parse_formula(value, variables=()) if isinstance(value, str) else sympy.sympify(value)
    if exact.free_symbols or not exact.is_real or exact.is_infinite:
        raise InputError(f"parameter {symbol} must be a real number, not {str(value)[:40]}")
    if symbol.is_positive and not exact.is_positive:
        raise InputError(f"parameter {symbol} must be positive, not {str(value)[:40]}")
    return exact


def activation(spec: str | Expr | Activation, **parameters: Any) -> Activation:
    """The activation that ``spec`` names: a row ("gelu", "elu(alpha=2)"), a formula in x as text, or a SymPy expression.

    Parameters may be bound by keyword (floats are read as the decimals they print as). Raises :class:`InputError`.

    >>> activation("leaky_relu", slope="0.2").expr
    Piecewise((x, x > 0), (x/5, True))
    >>> activation("x*tanh(log(1+exp(x)))").derivative(0)
    x*tanh(log(exp(x) + 1))
    """
    if isinstance(spec, Activation):
        return spec.with_parameters(**parameters)
    if isinstance(spec, str):
        found = _from_text(spec)
    elif isinstance(spec, Expr):
        found = _from_expression(spec)
    else:
        raise InputError(f"an activation is a name, a formula or a SymPy expression, not {type(spec).__name__}")
    return found.with_parameters(**parameters)


@lru_cache(maxsize=1024)
def _from_text(text: str) -> Activation:
    key = text.strip()
    if key.replace("-", "_").isidentifier() and key != "x":
        return lookup(_BY_NAME, key, "activation")
    call = _named_call(key)
    if call:
        name, values = call
        return lookup(_BY_NAME, name, "activation").with_parameters(**values)
    return _formula_row(key, parse_formula(key))


def _named_call(text: str) -> tuple[str, dict[str, str]] | None:
    """``("elu", {"alpha": "2"})`` for "elu(alpha=2)"; None for anything else."""
    try:
        node = ast.parse(text[:2_000], mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.keywords and not node.args):
        return None
    return node.func.id, {str(k.arg): ast.get_source_segment(text, k.value) or "" for k in node.keywords}


def _from_expression(expression: Expr) -> Activation:
    free = expression.free_symbols
    if any(s.name != "x" for s in free) or len(free) > 1:
        raise InputError(f"an activation is a formula in x alone, not in {', '.join(sorted(str(s) for s in free))}")
    real = expression.xreplace(dict.fromkeys(free, x)).replace(sympy.Abs, absolute)
    return _formula_row(str(expression), real)


def _formula_row(name: str, expression: Expr) -> Activation:
    if x not in expression.free_symbols:
        raise InputError(f"formula {name[:60]!r} does not depend on x")
    ball_function(expression)  # raises Unsupported, naming the node, before anything is built on it
    return Activation(name, expression, title=TYPED)


def _piecewise(*branches: tuple[Expr | int, Any], otherwise: Expr | int) -> Expr:
    return Piecewise(*branches, (sympy.sympify(otherwise), True))


_SIGMOID = 1 / (1 + exp(-x))
_PHI = (1 + erf(x / sqrt(2))) / 2
# SELU's constants solve the fixed-point equations for mean 0 and variance 1 (closed form of the paper's appendix).
_TAIL, _ROOT_E = 1 - erf(1 / sqrt(2)), exp(Rational(1, 2))
_SELU_ALPHA = -sqrt(2 / pi) / (_TAIL * _ROOT_E - 1)
_SELU_SCALE = (
    (1 - _TAIL * _ROOT_E)
    * sqrt(2 * pi)
    / sqrt(2 * (1 - erf(sqrt(2))) * exp(2) + pi * _TAIL**2 * sympy.E - 2 * (2 + pi) * _TAIL * _ROOT_E + pi + 2)
)

_ROWS = (
    Activation("identity", x, title="identity", citation="linear unit", aliases=("linear",)),
    Activation("step", _piecewise((1, x >= 0), otherwise=0), kink_derivatives={0: 0}, title="Heaviside step, 1 at 0",
               citation="McCulloch & Pitts 1943", aliases=("heaviside",)),
    Activation("sign", _piecewise((1, x > 0), (-1, x < 0), otherwise=0), kink_derivatives={0: 0}, title="sign, 0 at 0",
               citation="Rosenblatt 1958"),
    Activation("sigmoid", _SIGMOID, title="logistic sigmoid", citation="Verhulst 1838; Rumelhart, Hinton & Williams 1986",
               aliases=("logistic", "expit")),
    Activation("tanh", tanh(x), title="hyperbolic tangent", citation="LeCun et al. 1998, Efficient BackProp"),
    Activation("relu", _piecewise((x, x > 0), otherwise=0), kink_derivatives={0: 0}, title="rectified linear unit",
               citation="Nair & Hinton 2010"),
    Activation("leaky_relu", _piecewise((x, x > 0), otherwise=slope * x), {slope: Rational(1, 100)}, {0: slope},
               "leaky ReLU", "Maas, Hannun & Ng 2013"),
    Activation("prelu", _piecewise((x, x > 0), otherwise=learned_slope * x), {learned_slope: Rational(1, 4)},
               {0: learned_slope}, "parametric ReLU (learned slope)", "He et al. 2015, arXiv:1502.01852"),
    Activation("relu6", _piecewise((0, x <= 0), (x, x < 6), otherwise=6), kink_derivatives={0: 0, 6: 0}, title="ReLU capped at 6",
               citation="Krizhevsky 2010; Howard et al. 2017, arXiv:1704.04861"),
    Activation("squared_relu", _piecewise((x**2, x > 0), otherwise=0), title="squared ReLU", citation="So et al. 2021, arXiv:2109.08668",
               aliases=("relu2",)),
    Activation("elu", _piecewise((x, x > 0), otherwise=alpha * (exp(x) - 1)), {alpha: sympy.S.One}, {0: alpha},
               "exponential linear unit", "Clevert, Unterthiner & Hochreiter 2015, arXiv:1511.07289"),
    Activation("celu", _piecewise((x, x > 0), otherwise=alpha * (exp(x / alpha) - 1)), {alpha: sympy.S.One}, {},
               "continuously differentiable ELU", "Barron 2017, arXiv:1704.07483"),
    Activation("selu", scale * _piecewise((x, x > 0), otherwise=alpha * (exp(x) - 1)), {alpha: _SELU_ALPHA, scale: _SELU_SCALE},
               {0: scale * alpha}, "self-normalising ELU", "Klambauer et al. 2017, arXiv:1706.02515"),
    Activation("gelu", x * _PHI, title="Gaussian error linear unit", citation="Hendrycks & Gimpel 2016, arXiv:1606.08415"),
    Activation("gelu_tanh", x * (1 + tanh(sqrt(2 / pi) * (x + Rational(44715, 10**6) * x**3))) / 2,
               title="GELU, tanh approximation", citation="Hendrycks & Gimpel 2016, arXiv:1606.08415"),
    Activation("quick_gelu", x / (1 + exp(-Rational(1702, 1000) * x)), title="GELU, sigmoid approximation",
               citation="Hendrycks & Gimpel 2016, arXiv:1606.08415"),
    Activation("silu", x * _SIGMOID, title="sigmoid linear unit", citation="Elfwing, Uchibe & Doya 2017, arXiv:1702.03118"),
    Activation("swish", x / (1 + exp(-steepness * x)), {steepness: sympy.S.One}, {}, "SiLU with steepness β",
               "Ramachandran, Zoph & Le 2017, arXiv:1710.05941"),
    Activation("mish", x * tanh(log(1 + exp(x))), title="Mish", citation="Misra 2019, arXiv:1908.08681"),
    Activation("softplus", log(1 + exp(beta * x)) / beta, {beta: sympy.S.One}, {}, "softplus", "Dugas et al. 2000"),
    Activation("softsign", x / (1 + absolute(x)), title="softsign", citation="Turian, Bergstra & Bengio 2009"),
    Activation("hard_sigmoid", _piecewise((0, x <= -3), ((x + 3) / 6, x < 3), otherwise=1), kink_derivatives={-3: 0, 3: 0},
               title="piecewise-linear sigmoid", citation="Courbariaux, Bengio & David 2015, arXiv:1511.00363"),
    Activation("hard_tanh", _piecewise((-1, x <= -1), (x, x < 1), otherwise=1), kink_derivatives={-1: 0, 1: 0},
               title="piecewise-linear tanh", citation="Collobert 2004"),
    Activation("hard_swish", _piecewise((0, x <= -3), (x * (x + 3) / 6, x < 3), otherwise=x), kink_derivatives={-3: 0, 3: 1},
               title="x times the hard sigmoid", citation="Howard et al. 2019, arXiv:1905.02244"),
    Activation("log_sigmoid", -log(1 + exp(-x)), title="logarithm of the sigmoid", citation="binary cross-entropy on logits"),
    Activation("tanhshrink", x - tanh(x), title="tanh shrinkage", citation="Collobert, Kavukcuoglu & Farabet 2011 (Torch7)"),
    Activation("softshrink", _piecewise((x - threshold, x > threshold), (x + threshold, x < -threshold), otherwise=0),
               {threshold: Rational(1, 2)}, {-threshold: 0, threshold: 0}, "soft thresholding", "Donoho & Johnstone 1994"),
    Activation("hardshrink", _piecewise((x, x > threshold), (x, x < -threshold), otherwise=0), {threshold: Rational(1, 2)},
               {-threshold: 0, threshold: 0}, "hard thresholding", "Donoho & Johnstone 1994"),
    Activation("erf", erf(x), title="error function", citation="Williams 1996, Computing with infinite networks"),
    Activation("arctan", sympy.atan(x), title="inverse tangent", citation="Cybenko 1989 (a sigmoidal function)", aliases=("atan",)),
    Activation("sin", sin(x), title="sine", citation="Sitzmann et al. 2020, arXiv:2006.09661", aliases=("sine",)),
    Activation("cos", cos(x), title="cosine", citation="Rahimi & Recht 2007, random Fourier features", aliases=("cosine",)),
    Activation("gaussian", exp(-(x**2)), title="Gaussian", citation="Broomhead & Lowe 1988, radial basis functions"),
)  # fmt: skip

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}
_BY_NAME = {**{alias: row for row in _ROWS for alias in row.aliases}, **ACTIVATIONS}
