"""Optimisers: each one's update rule for a single entry of a parameter, and what follows from the rule exactly.

A row is the rule as its paper prints it: assignments carried out in order, once per step, for every entry θ of every
parameter with its gradient entry g; t = 1, 2, … counts the steps and each state variable starts at 0. What one step
does to the old values, the step under a constant gradient and the largest stable learning rate are derived from the
rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import sympy
from sympy import Expr, Rational, Symbol, sqrt

from .errors import InputError, Unsupported, lookup
from .symbols import parameter

#: One entry of a parameter, and of the gradient of the loss with respect to it.
theta, g = Symbol("theta", real=True), Symbol("g", real=True)
#: First-moment and second-moment states; v holds an average of squares, so it is never negative.
m, v = Symbol("m", real=True), Symbol("v", real=True, nonnegative=True)
#: The number of the step, counted from 1.
t = Symbol("t", integer=True, positive=True)
eta, mu, alpha, beta1, beta2 = (parameter(name) for name in ("eta", "mu", "alpha", "beta1", "beta2"))
epsilon, lam = parameter("epsilon"), parameter("lambda")

#: keyword for a hyper-parameter -> its symbol; the keyword is what people type, the symbol is what papers print.
KEYWORDS: dict[str, Symbol] = {
    "learning_rate": eta,
    "momentum": mu,
    "decay": alpha,
    "beta1": beta1,
    "beta2": beta2,
    "epsilon": epsilon,
    "weight_decay": lam,
}
#: The values each hyper-parameter may take: (lower, lower allowed, upper or None); an upper bound is never reached.
_DOMAIN: dict[Symbol, tuple[int, bool, int | None]] = {
    eta: (0, False, None),
    mu: (0, True, 1),
    alpha: (0, True, 1),
    beta1: (0, True, 1),
    beta2: (0, True, 1),
    epsilon: (0, True, None),
    lam: (0, True, None),
}


@dataclass(frozen=True)
class Optimiser:
    """One optimiser: ``rule`` is a sequence of assignments ``(symbol, expression)``, the last of which sets θ.

    An expression sees the values assigned before it in the same step, as the papers write it.
    ``hyper`` maps each hyper-parameter to its exact default.
    """

    name: str
    title: str
    rule: tuple[tuple[Symbol, Expr], ...]
    hyper: Mapping[Symbol, Rational]
    citation: str

    def __post_init__(self) -> None:
        assigned = [symbol for symbol, _ in self.rule]
        if assigned[-1] != theta or len(set(assigned)) != len(assigned):
            raise ValueError(f"{self.name}: a rule assigns each state once and θ last")
        known = {theta, g, t, *assigned, *self.hyper}
        unknown = set().union(*(value.free_symbols for _, value in self.rule)) - known
        if unknown:
            raise ValueError(f"{self.name}: the rule uses {sorted(map(str, unknown))}, which nothing defines")
        if eta not in self.hyper:
            raise ValueError(f"{self.name}: a rule has a learning rate η")

    @cached_property
    def state(self) -> tuple[Symbol, ...]:
        """The variables kept from step to step for every entry; all start at 0."""
        return tuple(symbol for symbol, _ in self.rule if symbol != theta)

    @cached_property
    def updates(self) -> dict[Symbol, Expr]:
        """What one step makes of θ and of each state, in terms of the OLD values alone.

        >>> OPTIMISERS["momentum"].updates[theta]
        -eta*(g + m*mu) + theta
        """
        done: dict[Symbol, Expr] = {}
        for symbol, value in self.rule:
            done[symbol] = value.subs(done, simultaneous=True)
        return done

    @cached_property
    def keywords(self) -> dict[str, Rational]:
        """Hyper-parameters by keyword, with their defaults."""
        return {keyword: self.hyper[symbol] for keyword, symbol in KEYWORDS.items() if symbol in self.hyper}

    @property
    def text(self) -> str:
        """The rule in one line of text, an arrow for each assignment."""
        return ";  ".join(f"{_pretty(symbol)} ← {_pretty(value)}" for symbol, value in self.rule)

    @property
    def latex(self) -> str:
        """The rule in LaTeX, one line per assignment."""
        lines = (rf"{sympy.latex(symbol)} &\leftarrow {sympy.latex(value)}" for symbol, value in self.rule)
        return r"\begin{aligned}" + r" \\ ".join(lines) + r"\end{aligned}"

    def bind(self, **values: Any) -> dict[Symbol, Rational]:
        """Hyper-parameter values, exactly: the defaults with ``values`` (by keyword) in their place.

        A float is taken as the decimal it prints as (0.1 is 1/10). Raises :class:`InputError` for an unknown keyword
        or a value outside its range.

        >>> OPTIMISERS["sgd"].bind(learning_rate=0.5)
        {eta: 1/2}
        """
        bound = dict(self.hyper)
        for keyword, value in values.items():
            symbol = KEYWORDS.get(keyword)
            if symbol is None or symbol not in self.hyper:
                raise InputError(f"{self.name} has no hyper-parameter {keyword!r}: it has {', '.join(self.keywords)}")
            bound[symbol] = _checked(keyword, symbol, value)
        return bound

    def step(self, values: Mapping[Symbol, Any]) -> dict[Symbol, Expr]:
        """One exact step: ``values`` gives θ, g, t, the states and the hyper-parameters; returns the new θ and
        states.
        """
        return {symbol: sympy.sympify(update).subs(values) for symbol, update in self.updates.items()}


_RATE, _MOMENTUM = Rational(1, 100), Rational(9, 10)
_SMALL = Rational(1, 10**8)
_FIRST = (m, beta1 * m + (1 - beta1) * g)
_SECOND = (v, beta2 * v + (1 - beta2) * g**2)
#: Adam's step: both averages divided by 1 − βᵗ, the factor by which they fall short (see
#: :func:`constant_gradient_step`).
_ADAM_STEP = eta * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)
_ADAM_HYPER = {eta: Rational(1, 1000), beta1: Rational(9, 10), beta2: Rational(999, 1000), epsilon: _SMALL}

_ROWS = (
    Optimiser(
        "sgd",
        "stochastic gradient descent",
        ((theta, theta - eta * g),),
        {eta: _RATE},
        "Robbins & Monro, A stochastic approximation method, Ann. Math. Stat. 22 (1951)",
    ),
    Optimiser(
        "momentum",
        "gradient descent with momentum (heavy ball)",
        ((m, mu * m + g), (theta, theta - eta * m)),
        {eta: _RATE, mu: _MOMENTUM},
        "Polyak, Some methods of speeding up the convergence of iteration methods, USSR Comp. Math. 4 (1964)",
    ),
    Optimiser(
        "nesterov",
        "Nesterov's accelerated gradient",
        ((m, mu * m + g), (theta, theta - eta * (g + mu * m))),
        {eta: _RATE, mu: _MOMENTUM},
        "Nesterov, Soviet Math. Doklady 27 (1983); Sutskever et al., ICML 2013, here with θ at the look-ahead point",
    ),
    Optimiser(
        "rmsprop",
        "RMSProp",
        ((v, alpha * v + (1 - alpha) * g**2), (theta, theta - eta * g / (sqrt(v) + epsilon))),
        {eta: Rational(1, 1000), alpha: Rational(9, 10), epsilon: _SMALL},
        "Tieleman & Hinton, Lecture 6.5, Neural Networks for Machine Learning (2012)",
    ),
    Optimiser(
        "adam",
        "Adam",
        (_FIRST, _SECOND, (theta, theta - _ADAM_STEP)),
        _ADAM_HYPER,
        "Kingma & Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm 1",
    ),
    Optimiser(
        "adamw",
        "Adam with decoupled weight decay",
        (_FIRST, _SECOND, (theta, theta - eta * lam * theta - _ADAM_STEP)),
        {**_ADAM_HYPER, lam: Rational(1, 100)},
        "Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, algorithm 2 (decay scaled by η)",
    ),
)

#: name -> row; the one place an optimiser is added.
OPTIMISERS: dict[str, Optimiser] = {row.name: row for row in _ROWS}

#: general row, hyper-parameters set to 0, the row it then is. Proved by :func:`reduces_to`.
REDUCTIONS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("momentum", ("momentum",), "sgd"),
    ("nesterov", ("momentum",), "sgd"),
    ("adamw", ("weight_decay",), "adam"),
)


def optimiser(name: str) -> Optimiser:
    """The row called ``name``; an unknown name raises :class:`InputError` with the nearest ones.

    >>> optimiser("adamw").state
    (m, v)
    """
    return lookup(OPTIMISERS, name, "optimiser")


def reduces_to(general: Optimiser, values: Mapping[Symbol, Any], special: Optimiser) -> bool:
    """Whether ``general`` at ``values`` takes the same steps as ``special`` from every start: proved, for all θ, g and
    t.

    True when the update of θ, and of every state it depends on, are the same expressions. False says that some update
    differs as an expression; states that never reach θ are not compared.
    """
    ours = {symbol: sympy.expand(update.subs(values)) for symbol, update in general.updates.items()}
    theirs = special.updates
    pending, seen = {theta}, set()
    while pending:
        symbol = pending.pop()
        seen.add(symbol)
        if symbol not in ours or symbol not in theirs or not _same(ours[symbol], theirs[symbol].subs(values)):
            return False
        pending |= (ours[symbol].free_symbols & set(general.state)) - seen
    return True


def constant_gradient_state(row: Optimiser) -> dict[Symbol, Expr]:
    """Each state after t steps under a constant gradient g ≠ 0, in closed form, proved by induction on t.

    The update s ← a·s + b gives s_t = b·(1 − aᵗ)/(1 − a). The base case s_0 = 0 and the step
    s_{t+1} = a·s_t + b are checked symbolically before the form is returned. Since the update is linear, the same
    holds for expectations: E[m_t] = (1 − β₁ᵗ)·E[g] for a gradient whose mean does not change (Kingma & Ba 2015,
    section 3).

    >>> constant_gradient_state(OPTIMISERS["adam"])[m]
    g*(1 - beta1**t)
    """
    return {symbol: _solve_recurrence(symbol, row.updates[symbol]) for symbol in row.state}


def constant_gradient_step(row: Optimiser) -> Expr:
    """θ_{t−1} − θ_t at step t under a constant gradient g (and θ = 0, so that weight decay does not enter).

    For Adam it is η·g/(|g| + ε) for EVERY t: that is what the two bias corrections are for, and here it is derived.
    RMSProp, which has none, steps by η·g/(|g|·√(1 − αᵗ) + ε), too far at first by 1/√(1 − α).

    >>> constant_gradient_step(OPTIMISERS["adam"])
    eta*g/(epsilon + Abs(g))
    """
    states = constant_gradient_state(row)
    _, last = row.rule[-1]
    # SymPy does not know that 0 ≤ β < 1 makes 1 − βᵗ positive; a positive symbol in its place does.
    shortfall = {b: Symbol(f"c_{b}", positive=True) for b in (mu, alpha, beta1, beta2)}
    step = (theta - last).subs({b**t: 1 - c for b, c in shortfall.items()})
    known = {s: form.expand().subs({b**t: 1 - c for b, c in shortfall.items()}) for s, form in states.items()}
    return sympy.simplify(
        sympy.simplify(step.subs(known).subs(theta, 0)).subs({c: 1 - b**t for b, c in shortfall.items()})
    )


def transition_matrix(row: Optimiser, curvature: Symbol) -> sympy.Matrix:
    """The matrix that one step applies to (θ, states) when the loss is ½·curvature·θ², whose gradient is curvature·θ.

    Raises :class:`Unsupported` when the rule is not linear in θ, g and the states (RMSProp, Adam, AdamW).
    """
    variables = (theta, *row.state)
    after = sympy.Matrix([row.updates[s].subs(g, curvature * theta) for s in variables])
    matrix = after.jacobian(variables)
    if matrix.free_symbols & {*variables, t}:
        raise Unsupported(f"{row.name}: its step is not linear, so no transition matrix describes it")
    return matrix.applyfunc(sympy.expand)


def stability_limit(row: Optimiser, curvature: Symbol) -> Expr:
    """The least upper bound of learning rates for which the rule converges to 0 on ½·curvature·θ², for 0 ≤ μ < 1.

    From the Jury conditions on the characteristic polynomial of :func:`transition_matrix`: z + c₀ needs |c₀| < 1, and
    z² + c₁z + c₀ needs |c₀| < 1 and |c₁| < 1 + c₀. SGD gives 2/λ, momentum 2(1 + μ)/λ, Nesterov 2(1 + μ)/((1 + 2μ)λ).
    """
    z = Symbol("z")
    matrix = transition_matrix(row, curvature)
    coefficients = matrix.charpoly(z).all_coeffs()[1:]
    if len(coefficients) == 1:
        conditions = [1 - coefficients[0], 1 + coefficients[0]]
    elif len(coefficients) == 2:
        c1, c0 = coefficients
        conditions = [1 - c0, 1 + c0, 1 + c0 + c1, 1 + c0 - c1]
    else:
        raise Unsupported(f"{row.name}: {len(coefficients)} variables per entry; stability is derived for one or two")
    return _first_violation(row, conditions, curvature)


def _first_violation(row: Optimiser, conditions: list[Expr], curvature: Symbol) -> Expr:
    """The smallest η > 0 at which one of the conditions, each affine in η and positive just above η = 0, reaches 0."""
    limits = []
    for condition in map(sympy.expand, conditions):
        slope, value = condition.coeff(eta, 1), condition.coeff(eta, 0)
        if sympy.expand(condition - slope * eta - value) != 0:
            raise Unsupported(f"{row.name}: a stability condition is not affine in the learning rate")
        if _sign(value if value != 0 else slope, curvature) <= 0:
            raise Unsupported(f"{row.name}: it is not shown to converge for small learning rates")
        if value != 0 and slope != 0 and _sign(slope, curvature) < 0:
            limits.append(sympy.factor(-value / slope))
    for limit in limits:
        if all(_sign(other - limit, curvature) >= 0 for other in limits):
            return limit
    raise Unsupported(f"{row.name}: no one learning rate is the limit for every momentum")


def _sign(expression: Expr, curvature: Symbol) -> int:
    """Sign of a rational function over all curvature > 0 and μ in [0, 1), allowing zeros at μ = 0: +1, 0 or −1.

    With μ = u/(1 + u), u ≥ 0, a quotient of polynomials whose coefficients all have one sign has that sign throughout.
    """
    u = Symbol("u", nonnegative=True)
    signs = []
    for part in sympy.fraction(sympy.together(expression.subs(mu, u / (1 + u)))):
        terms = sympy.Poly(sympy.expand(part), u, curvature).coeffs()
        signs.append(int(bool(max(terms) > 0)) - int(bool(min(terms) < 0)))
        if max(terms) > 0 > min(terms):
            raise Unsupported("the sign of a stability condition changes with the momentum")
    return int(signs[0] * signs[1])


def _solve_recurrence(symbol: Symbol, update: Expr) -> Expr:
    slope = sympy.diff(update, symbol)
    offset = sympy.expand(update - slope * symbol)
    if offset.has(symbol, t, theta) or slope.has(symbol, t, theta):
        raise Unsupported(f"the update of {symbol} is not a linear recurrence with constant coefficients")
    at = offset * (1 - slope**t) / (1 - slope)
    base = at.subs(t, 0)
    induction = sympy.expand(at.subs(t, t + 1) - (slope * at + offset), power_exp=True)
    if base != 0 or sympy.simplify(induction) != 0:
        raise ArithmeticError(
            f"the induction for {symbol} does not close"
        )  # pragma: no cover - a fault in the lines above
    return sympy.simplify(at)


def _same(left: Expr, right: Expr) -> bool:
    return left == right or sympy.simplify(left - right) == 0


def _checked(keyword: str, symbol: Symbol, value: Any) -> Rational:
    lower, allowed, upper = _DOMAIN[symbol]
    wanted = f"{'at least' if allowed else 'above'} {lower}" + (f" and below {upper}" if upper is not None else "")
    try:
        exact = Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{keyword} = {str(value)[:40]!r} is not a number: it must be {wanted}") from None
    inside = (exact > lower or (allowed and exact == lower)) and (upper is None or exact < upper)
    if not inside:
        raise InputError(f"{keyword} = {value} is out of range: it must be {wanted}")
    return Rational(exact.numerator, exact.denominator)


_GREEK = {
    "theta": "θ",
    "eta": "η",
    "mu": "μ",
    "alpha": "α",
    "epsilon": "ε",
    "lambda": "λ",
    "beta1": "β₁",
    "beta2": "β₂",
}


def _pretty(expression: Expr) -> str:
    text = str(expression).replace("**", "^").replace("*", "·").replace("sqrt", "√")
    for name in sorted(_GREEK, key=len, reverse=True):
        text = text.replace(name, _GREEK[name])
    return text
