r"""The initialisers: one row each, the variance condition it solves and the distribution it draws from.

For z = aW + b with independent zero-mean entries of variance v, independent of a = f(z_before), and b = 0:

    forward:   E z²  = fan_in · v · E f(z_before)²          backward:  E δ_before² = fan_out · v · E f′² · E δ²

An initialiser asks that one of these factors be 1, or strikes a compromise between both; the variance is solved for.
Weights have shape ``(fan_in, fan_out)``, as in ``x[n,i] W[i,o]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import sympy
from flint import arb, ctx

from . import gaussian_rules
from .activations import Activation, activation
from .constants import number
from .enclosures import ball_function
from .errors import InputError, lookup
from .gaussian import Moment, moment

fan_in, fan_out = sympy.Symbol("fan_in", positive=True), sympy.Symbol("fan_out", positive=True)
v = sympy.Symbol("v", positive=True)


class Expectation(sympy.Symbol):
    """An exact number E[…] that has no closed form by rule: a symbol that carries its proven enclosure."""

    __slots__ = ("moment",)
    moment: Moment

    @classmethod
    def of(cls, value: Moment, f: Activation) -> sympy.Expr:
        """The moment's closed form, or a symbol that names the moment and the activation."""
        if value.closed_form is not None:
            return value.closed_form
        name = f.name if f.name.isidentifier() else f"({f.name})"
        symbol = cls(value.what.replace("E[f", f"E[{name}", 1), positive=True)
        symbol.moment = value  # SymPy returns the same symbol for the same name: the name says which number it is
        return symbol


@dataclass(frozen=True)
class Step:
    """One line of a derivation: what is done, the equation it gives, and the assumption it needs."""

    words: str
    equation: sympy.Basic | None = None
    assumption: str = ""

    def __str__(self) -> str:
        lines = [self.words]
        if self.equation is not None:
            lines.append(f"    {_equation_text(self.equation)}")
        if self.assumption:
            lines.append(f"    assuming {self.assumption}")
        return "\n".join(lines)


def _equation_text(equation: sympy.Basic) -> str:
    return f"{equation.lhs} = {equation.rhs}" if isinstance(equation, sympy.Equality) else str(equation)


@dataclass(frozen=True)
class Distribution:
    """How entries of a given variance are drawn: ``parameter`` solves variance_of(parameter) = v."""

    name: str
    title: str
    parameter: sympy.Symbol
    #: The variance of an entry as a function of the parameter.
    variance: sympy.Expr
    citation: str = ""

    def solve(self, variance: sympy.Expr) -> sympy.Expr:
        """The parameter (σ, bound …) that gives the entries this variance."""
        if variance == 0:
            return sympy.S.Zero
        if not self.variance.has(self.parameter):
            return sympy.sqrt(variance)
        coefficient = sympy.expand(self.variance / self.parameter**2)
        return sympy.sqrt(variance / coefficient)


sigma, bound = sympy.Symbol("sigma", positive=True), sympy.Symbol("bound", positive=True)


def _truncated_variance(cut: int) -> sympy.Expr:
    """Variance of a standard normal conditioned on |z| ≤ cut, by the rules of :mod:`.gaussian_rules`."""
    mass, second = (
        gaussian_rules.integral(
            gaussian_rules.Term(sympy.S.One, m), sympy.S.Zero, sympy.S.One, -sympy.Integer(cut), sympy.Integer(cut)
        )
        for m in (0, 2)
    )
    return gaussian_rules.tidy(sympy.expand(second / mass))


#: Where the truncated normal is cut, in standard deviations of its parent.
CUT = 2

_DISTRIBUTIONS = (
    Distribution("normal", "normal", sigma, sigma**2),
    Distribution("uniform", "uniform on [−bound, bound]", bound, bound**2 / 3),
    Distribution("truncated_normal", f"normal cut at ±{CUT}σ", sigma, sigma**2 * _truncated_variance(CUT)),
    Distribution(
        "orthogonal",
        "orthonormal rows or columns, Haar",
        sigma,
        sigma**2,
        "Saxe, McClelland & Ganguli 2013, arXiv:1312.6120",
    ),
    Distribution("constant", "constant", sympy.Symbol("value"), sympy.S.Zero),
)
DISTRIBUTIONS: dict[str, Distribution] = {row.name: row for row in _DISTRIBUTIONS}


@dataclass(frozen=True)
class Initialiser:
    """A row: which conditions are asked, for which activation, how they are combined, and the distribution."""

    name: str
    title: str
    #: "forward", "backward", "deviation" (forward with Var f for E f²), "isometry"; none: the variance is 0.
    conditions: tuple[str, ...]
    #: The activation that the conditions are solved for; None: the one of the network.
    solved_for: str | None
    distribution: str
    #: How two conditions on one variance are reconciled.
    compromise: str = ""
    citation: str = ""
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.distribution in DISTRIBUTIONS, self.distribution
        assert all(c in _CONDITIONS for c in self.conditions), self.conditions
        assert (len(self.conditions) == 2) == bool(self.compromise), "two conditions need a compromise, one needs none"

    @property
    def fan_mode(self) -> str:
        """Which fan enters: "fan_in", "fan_out", "mean", "geometric mean", "max" or "none"."""
        if self.compromise:
            return {"arithmetic": "mean", "geometric": "geometric mean"}[self.compromise]
        return (
            {"forward": "fan_in", "deviation": "fan_in", "backward": "fan_out", "isometry": "max"}[self.conditions[0]]
            if self.conditions
            else "none"
        )

    def _activation(self, given: Activation | str | None) -> Activation:
        if self.solved_for is not None:
            return activation(self.solved_for)
        if given is None:
            raise InputError(f"initialiser {self.name} is derived from an activation: name one")
        return activation(given)

    def _solved(self, given: Activation | str | None) -> tuple[sympy.Expr, tuple[Step, ...]]:
        return _solve(self, self._activation(given) if self.conditions else activation("identity"))

    def variance(
        self, n_in: Any = fan_in, n_out: Any = fan_out, activation: Activation | str | None = None
    ) -> sympy.Expr:
        """Var W, exact: in the symbols ``fan_in``, ``fan_out`` unless numbers are given.

        An expectation without a closed form stays a symbol that carries its proven enclosure.

        >>> initialiser("he").variance(784, 256)
        1/392
        >>> initialiser("glorot").variance()
        2/(fan_in + fan_out)
        """
        general, _ = self._solved(activation)
        values = {fan_in: _fan(n_in, "fan_in"), fan_out: _fan(n_out, "fan_out")}
        return general.subs(values, simultaneous=True)

    def variance_ball(self, n_in: int, n_out: int, activation: Activation | str | None = None) -> arb:
        """The variance for given fans, enclosed at the present precision."""
        return ball(self.variance(n_in, n_out, activation))

    def derivation(self, activation: Activation | str | None = None) -> tuple[Step, ...]:
        """The steps from the layer's equation to the variance and the distribution's parameter, assumptions named."""
        return self._solved(activation)[1]

    @cached_property
    def needs_activation(self) -> bool:
        """Whether the variance depends on the network's activation."""
        return bool(self.conditions) and self.solved_for is None


def ball(value: sympy.Expr) -> arb:
    """Enclose an exact expression that may contain :class:`Expectation` symbols."""
    expectations = tuple(sorted((s for s in value.free_symbols if isinstance(s, Expectation)), key=str))
    stray = value.free_symbols - set(expectations)
    if stray:
        raise InputError(f"the variance still contains {', '.join(sorted(map(str, stray)))}: give numbers")
    return ball_function(value, expectations)(*(s.moment.enclosure for s in expectations))


def _fan(value: Any, name: str) -> sympy.Expr:
    if isinstance(value, sympy.Expr) and not value.is_number:
        return value
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise InputError(f"{name} must be a positive integer, not {value}")
    return sympy.Integer(int(value))


_INDEPENDENCE = "the entries of W independent of each other and of the layer's input, with mean 0"


def _forward(f: Activation) -> tuple[sympy.Eq, list[Step]]:
    m2 = moment(f, 2, 0)
    return sympy.Eq(fan_in * v * Expectation.of(m2, f), 1), [
        Step(
            "Forward: z_o = Σ_i a_i W_io has fan_in terms, uncorrelated and of equal second moment v·E a².",
            None,
            f"{_INDEPENDENCE}; zero bias",
        ),
        Step(
            f"With a = f(z), f = {f.name}, z ~ N(0, 1): {m2}.",
            None,
            "pre-activations normal with variance 1 (exact as the width grows)"
            if f.name != "identity"
            else "f is close to the identity near 0 (unit slope), so that E f(z)² = E z²",
        ),
        Step("The second moment is kept from layer to layer when", sympy.Eq(fan_in * v * Expectation.of(m2, f), 1)),
    ]


def _deviation(f: Activation) -> tuple[sympy.Eq, list[Step]]:
    m2, m1 = moment(f, 2, 0), moment(f, 1, 0)
    spread = Expectation.of(m2, f) - Expectation.of(m1, f) ** 2 if m1.closed_form != 0 else Expectation.of(m2, f)
    equation = sympy.Eq(fan_in * v * spread, 1)
    return equation, [
        Step(
            f"Forward, centred: {m2}; {m1}; Var f = E f² − (E f)².",
            None,
            f"{_INDEPENDENCE}; the mean of the activations is removed (for example by a bias or a normalisation)",
        ),
        Step("The variance is kept from layer to layer when", equation),
    ]


def _backward(f: Activation) -> tuple[sympy.Eq, list[Step]]:
    d2 = moment(f, 2, 1)
    if d2.closed_form == 0:
        raise InputError(f"the derivative of {f.name} vanishes almost everywhere: no variance keeps its gradients")
    equation = sympy.Eq(fan_out * v * Expectation.of(d2, f), 1)
    return equation, [
        Step(
            "Backward: δ_i = f′(z_i) Σ_o W_io δ_o has fan_out terms, uncorrelated and of equal second moment v·E δ².",
            None,
            "the gradients δ independent of the weights and of z",
        ),
        Step(
            f"With f = {f.name}, z ~ N(0, 1): {d2}.",
            None,
            "pre-activations normal with variance 1" if f.name != "identity" else "f has slope 1 near 0",
        ),
        Step("The variance of the gradients is kept when", equation),
    ]


def _isometry(f: Activation) -> tuple[sympy.Eq, list[Step]]:
    equation = sympy.Eq(sympy.Max(fan_in, fan_out) * v, 1)
    return equation, [
        Step(
            "Vectors along the longer side are orthonormal: their max(fan_in, fan_out) squares sum to 1.",
            None,
            "W distributed by Haar measure, so that all entries have the same variance",
        ),
        Step("Hence", equation),
    ]


_CONDITIONS = {"forward": _forward, "backward": _backward, "deviation": _deviation, "isometry": _isometry}


@lru_cache(maxsize=256)
def _solve(row: Initialiser, f: Activation) -> tuple[sympy.Expr, tuple[Step, ...]]:
    if not row.conditions:
        return sympy.S.Zero, (
            Step(
                "A constant 0: used for biases; for weights all units of a layer would stay equal.",
                sympy.Eq(v, 0, evaluate=False),
            ),
        )
    equations, steps = [], []
    for condition in row.conditions:
        equation, lines = _CONDITIONS[condition](f)
        equations.append(equation)
        steps += lines
    if row.compromise == "arithmetic":
        combined = sympy.Eq(sum(e.lhs for e in equations) / len(equations), 1)
        steps.append(
            Step(
                "Both hold together only if fan_in = fan_out; the arithmetic compromise asks it of their mean:",
                combined,
            )
        )
    elif row.compromise == "geometric":
        combined = sympy.Eq(sympy.Mul(*(e.lhs for e in equations)), 1)
        steps.append(
            Step(
                "Both hold together only if fan_in = fan_out; the geometric compromise asks it of their product:",
                combined,
            )
        )
    else:
        combined = equations[0]
    variance = _solve_for_v(combined)
    steps.append(Step("Solved:", sympy.Eq(v, variance)))
    law = DISTRIBUTIONS[row.distribution]
    if law.variance.has(law.parameter) and row.distribution not in {"normal", "orthogonal"}:
        steps.append(Step(f"Drawn {law.title}, whose variance is", sympy.Eq(v, law.variance)))
        steps.append(Step("hence", sympy.Eq(law.parameter, law.solve(variance))))
    return variance, tuple(steps)


def _solve_for_v(equation: sympy.Eq) -> sympy.Expr:
    """The positive v of c·v^k = 1: every condition is a monomial in v."""
    degree = sympy.degree(equation.lhs, v)
    coefficient = sympy.cancel(equation.lhs / v**degree) if degree > 1 else equation.lhs.subs(v, 1)
    solved = sympy.root(1 / sympy.together(coefficient), degree)
    assert sympy.expand(equation.lhs.subs(v, solved) - 1) == 0 or degree == 1, (
        "the solution does not solve the condition"
    )
    return solved


_HE, _GLOROT = "He et al. 2015, arXiv:1502.01852", "Glorot & Bengio 2010, AISTATS"
_LECUN = "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp"
_POOLE = "Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232"
_ROWS = (
    Initialiser("zeros", "zero (biases)", (), None, "constant", aliases=("zero", "zero_bias")),
    Initialiser(
        "lecun_normal", "LeCun, normal", ("forward",), "identity", "normal", citation=_LECUN, aliases=("lecun",)
    ),
    Initialiser("lecun_uniform", "LeCun, uniform", ("forward",), "identity", "uniform", citation=_LECUN),
    Initialiser(
        "truncated_normal",
        "LeCun, truncated normal",
        ("forward",),
        "identity",
        "truncated_normal",
        citation=_LECUN,
        aliases=("lecun_truncated",),
    ),
    Initialiser(
        "glorot_normal",
        "Glorot, normal",
        ("forward", "backward"),
        "identity",
        "normal",
        "arithmetic",
        _GLOROT,
        ("glorot", "xavier", "xavier_normal"),
    ),
    Initialiser(
        "glorot_uniform",
        "Glorot, uniform",
        ("forward", "backward"),
        "identity",
        "uniform",
        "arithmetic",
        _GLOROT,
        ("xavier_uniform",),
    ),
    Initialiser(
        "glorot_geometric",
        "Glorot's conditions, geometric compromise",
        ("forward", "backward"),
        "identity",
        "normal",
        "geometric",
        _GLOROT,
    ),
    Initialiser(
        "he_normal",
        "He, forward, normal",
        ("forward",),
        "relu",
        "normal",
        citation=_HE,
        aliases=("he", "kaiming", "kaiming_normal", "he_fan_in"),
    ),
    Initialiser(
        "he_uniform",
        "He, forward, uniform",
        ("forward",),
        "relu",
        "uniform",
        citation=_HE,
        aliases=("kaiming_uniform",),
    ),
    Initialiser(
        "he_truncated", "He, forward, truncated normal", ("forward",), "relu", "truncated_normal", citation=_HE
    ),
    Initialiser(
        "he_fan_out", "He, backward, normal", ("backward",), "relu", "normal", citation=_HE, aliases=("he_backward",)
    ),
    Initialiser(
        "orthogonal",
        "orthogonal",
        ("isometry",),
        "identity",
        "orthogonal",
        citation="Saxe, McClelland & Ganguli 2013, arXiv:1312.6120",
    ),
    Initialiser(
        "gain_normal",
        "derived from the activation, forward",
        ("forward",),
        None,
        "normal",
        citation=_POOLE,
        aliases=("gain", "gain_forward"),
    ),
    Initialiser(
        "gain_uniform", "derived from the activation, forward, uniform", ("forward",), None, "uniform", citation=_POOLE
    ),
    Initialiser(
        "gain_deviation",
        "derived from the activation, forward, centred",
        ("deviation",),
        None,
        "normal",
        citation=_POOLE,
    ),
    Initialiser(
        "gain_backward", "derived from the activation, backward", ("backward",), None, "normal", citation=_POOLE
    ),
    Initialiser(
        "gain_compromise",
        "derived from the activation, forward and backward",
        ("forward", "backward"),
        None,
        "normal",
        "arithmetic",
        _POOLE,
    ),
)
INITIALISERS: dict[str, Initialiser] = {row.name: row for row in _ROWS}
_BY_NAME: dict[str, Initialiser] = {alias: row for row in _ROWS for alias in (row.name, *row.aliases)}


def initialiser(name: str | Initialiser) -> Initialiser:
    """The initialiser of that name or alias ("he", "glorot_uniform", "gain"); raises :class:`InputError`."""
    if isinstance(name, Initialiser):
        return name
    if not isinstance(name, str):
        raise InputError(f"an initialiser is a name, not {type(name).__name__}")
    return lookup(_BY_NAME, name, "initialiser")


def truncated_normal_std(digits: int = 30) -> Moment:
    """The standard deviation of a standard normal cut at ±2, in closed form with proven digits.

    >>> truncated_normal_std().decimal(20)
    '0.87962566103423975041'
    """
    form = sympy.sqrt(_truncated_variance(CUT))
    with ctx.workprec(int(3.3220 * digits) + 32):
        return Moment(f"std of N(0, 1) cut at ±{CUT}", number(form), form)
