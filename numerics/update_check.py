"""An optimiser's step against its update rule: trajectories of θ from one start, in exact arithmetic.

The step is a function ``step(w, grad, m, v, t, lr=…)`` that returns the new w (and its state), or an object whose
method ``update`` or ``step`` changes the weights.  Its state is its own: two steps that keep different states but make
the same trajectory from zero state are the same optimiser.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy
from flint import arb

from ..theory.errors import InputError
from ..theory.optimisers import KEYWORDS, OPTIMISERS, Optimiser, beta1, beta2, epsilon, g, optimiser, t, theta
from .check_result import CheckResult
from .exact_arrays import _is_exact, exact_array
from .exact_modules import exact_modules
from .exact_scalars import NotCovered, NotDecided, exact_arithmetic, lift
from .findings import Finding, same, show
from .object_pairs import scopes
from .probing import dyadic
from .reference import expression_function
from .stateful import exact_attributes
from .subject import entries

STEPS = 3
#: what people call the arguments of a step
WEIGHTS = ("w", "theta", "param", "params", "parameters", "weights", "weight", "x", "p")
GRADIENTS = ("g", "grad", "grads", "gradient", "gradients", "dw", "dtheta", "dx", "dp")
TIME = ("t", "step", "iteration", "it", "i", "k", "n_iter")
HYPER: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("lr", "learning_rate", "eta", "step_size", "alpha"),
    "momentum": ("momentum", "mu", "gamma", "beta"),
    "decay": ("decay", "rho", "decay_rate", "alpha", "beta", "gamma"),
    "beta1": ("beta1", "beta_1", "b1"),
    "beta2": ("beta2", "beta_2", "b2"),
    "epsilon": ("eps", "epsilon"),
    "weight_decay": ("weight_decay", "wd", "lam", "lambda_", "decay"),
}
METHODS = ("update", "step", "apply", "optimize", "optimise", "__call__")


def rule_of(against: Any) -> Optimiser | None:
    """Return the row that ``against`` names: an Optimiser, or ``optimiser:adam``; None for anything else."""
    if isinstance(against, Optimiser):
        return against
    if isinstance(against, str) and against.strip().lower().startswith(("optimiser:", "optimizer:")):
        name, bracket, options = against.partition(":")[2].strip().partition("(")
        row = optimiser(name.strip().lower())
        if not bracket:
            return row
        pairs = [part.partition("=") for part in options.rstrip(") ").split(",") if part.strip()]
        return replace(row, hyper=row.bind(**{key.strip(): value.strip() for key, _, value in pairs}))
    return None


@dataclass(frozen=True)
class Stepper:
    """Runs a person's step: ``start(w)`` gives a state, ``advance(state, gradient, number)`` the next w."""

    title: str
    scope: Any
    hyper: Mapping[str, float]
    run: Callable[[Any, Sequence[Any]], list[Any]]


def check_update(step: Any, row: Optimiser, shape: Sequence[int] = (3,), seed: int = 0) -> CheckResult:
    """Judge a step against the update rule of ``row``, over three steps from zero state.

    Raises :class:`InputError` where the step cannot be called.
    """
    stepper = _stepper(step, row)
    ok = Finding("ok", "a step has no kinks to choose at")
    floats = contract = Finding("not decided", "the formula could not be evaluated")
    why, example = "", ""
    for k in range(4):
        rng = np.random.default_rng(seed + k)
        sizes = tuple(shape) if k < 3 else (2, 2)
        start, gradients = dyadic(rng, sizes), [dyadic(rng, sizes) for _ in range(STEPS)]
        try:
            yours, true = _exact_paths(stepper, row.rule, row, start, gradients)
        except (NotCovered, NotDecided) as error:
            reason = Finding("not decided", str(error))
            return CheckResult(stepper.title, reason, floats, floats, ok, contract, {"w": "not decided"})
        for number, (a, b) in enumerate(zip(yours, true, strict=True), start=1):
            if not same(entries(a), entries(b)):
                spot = _worst(entries(a), entries(b))
                mine, rule = entries(a)[spot].value, entries(b)[spot].value
                why = f"after step {number}: yours {show(mine)}, the rule {show(rule)} (difference {show(mine - rule)})"
                example = _variant(stepper, row, start, gradients)
                break
        if why:
            break
    contract, domain = _contract(stepper, start, gradients), _domain(stepper, row, start)
    if why:
        formula = Finding("failed", why, "REFUTED")
        diagnosis = (example or "no standard mistake explains the difference", f"the rule: {row.text}")
        floats = Finding("not decided", "the steps are not those of the rule")
        return CheckResult(stepper.title, formula, floats, domain, ok, contract, {"w": "REFUTED"}, None, diagnosis)
    formula = Finding("ok", f"{STEPS} steps of {row.name} equal to 100 digits or more from 4 starts", "EXACT")
    floats = _floats(stepper, row, start, gradients)
    return CheckResult(stepper.title, formula, floats, domain, ok, contract, {"w": "EXACT"})


def _contract(stepper: Stepper, start: Any, gradients: Sequence[Any]) -> Finding:
    handed = [each.copy() for each in gradients]
    try:
        stepper.run(start.copy(), handed)
    except Exception as error:
        return Finding("failed", f"raises {type(error).__name__} on floats: {error}"[:140])
    if not all(np.array_equal(a, b) for a, b in zip(handed, gradients, strict=True)):
        return Finding("failed", "changes the gradient in place")
    return Finding("ok", "the gradient is left as it was")


def _domain(stepper: Stepper, row: Optimiser, start: Any) -> Finding:
    """Look for NaN and infinity where the rule is finite: gradients of 0, and small and large ones."""
    for size in (0.0, 2.0**-40, 2.0**30):
        gradients = [np.full(start.shape, size)] * STEPS
        with np.errstate(all="ignore"):
            try:
                last = stepper.run(start.copy(), [each.copy() for each in gradients])[-1]
                with exact_arithmetic():
                    exact = [exact_array(each) for each in gradients]
                    true = entries(_follow(row.rule, row, stepper.hyper, exact_array(start), exact)[-1])
            except Exception as error:
                return Finding("failed", f"raises {type(error).__name__} for a gradient of {size:g}"[:140])
        if all(v.value.is_finite() for v in true.reshape(-1)) and not np.isfinite(last).all():
            return Finding("failed", f"{np.ravel(last)[0]} for a gradient of {size:g}, where the rule is finite")
    return Finding("ok", "finite for gradients of 0, 2^-40 and 2^30")


def _worst(a: Any, b: Any) -> tuple[int, ...]:
    return max(np.ndindex(*b.shape), key=lambda s: float((a[s].value - b[s].value).abs_lower()))


def _exact_paths(
    stepper: Stepper, rule: Any, row: Optimiser, start: Any, gradients: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    with exact_arithmetic():
        true = _follow(rule, row, stepper.hyper, exact_array(start), [exact_array(each) for each in gradients])
        with exact_modules(stepper.scope):
            yours = stepper.run(exact_array(start.copy()), [exact_array(each.copy()) for each in gradients])
    return yours, true


def _follow(rule: Any, row: Optimiser, hyper: Mapping[str, float], start: Any, gradients: Sequence[Any]) -> list[Any]:
    """Return θ after each step of a rule, from zero state."""
    values: dict[sympy.Symbol, Any] = {s: start * lift(0) for s in row.state}
    values[theta] = start
    values |= {KEYWORDS[name]: lift(value) for name, value in hyper.items() if KEYWORDS[name] in row.hyper}
    path = []
    for number, gradient in enumerate(gradients, start=1):
        values |= {g: gradient, t: lift(number)}
        for symbol, expression in rule:
            names = {s.name: s for s in expression.free_symbols}
            given = {s.name: values[s] for s in expression.free_symbols}
            values[symbol] = expression_function(expression, names)(**given)
        path.append(values[theta])
    return path


def _floats(stepper: Stepper, row: Optimiser, start: Any, gradients: Sequence[Any]) -> Finding:
    parts = []
    try:
        true = _exact_paths(stepper, row.rule, row, start, gradients)[1][-1]
        for dtype in ("float64", "float32"):
            run = stepper.run(start.astype(dtype), [each.astype(dtype) for each in gradients])
            scale = float(np.abs(start).max())
            gap = max(
                abs(float((arb(float(v)) - b.value).mid()))
                for v, b in zip(np.ravel(run[-1]), entries(true).reshape(-1))
            )
            parts.append(f"{dtype} {gap / scale / float(np.finfo(dtype).eps):.1f} ULP")
    except Exception as error:
        return Finding("failed", f"raises {type(error).__name__} on floats: {error}"[:140])
    return Finding("ok", ", ".join(parts) + f" after {STEPS} steps (of the largest weight)")


# Variants: the usual mistakes ----------------------------------------------------------------------------------------
def _variants(row: Optimiser) -> Iterator[tuple[str, Any]]:
    rule = row.rule
    yield (
        "the step goes uphill: the sign of the update is wrong",
        [(s, e if s != theta else 2 * theta - e) for s, e in rule],
    )
    if beta1 in row.hyper:
        yield "the bias corrections 1 − βᵗ are missing", [(s, e.subs({beta1**t: 0, beta2**t: 0})) for s, e in rule]
        yield "the first step counts as t = 0 in the bias corrections", [(s, e.subs(t, t - 1)) for s, e in rule]
        yield "the bias corrections count one step too many", [(s, e.subs(t, t + 1)) for s, e in rule]
        yield (
            "beta1 and beta2 are swapped",
            [(s, e.subs({beta1: beta2, beta2: beta1}, simultaneous=True)) for s, e in rule],
        )
        yield (
            "the first moment takes the whole gradient: a factor 1 − beta1 is missing",
            [(s, e.subs((1 - beta1) * g, g)) for s, e in rule],
        )
    if epsilon in row.hyper:
        for digits in (5, 6, 7, 8, 10, 12, 15, 16):
            value = sympy.Rational(1, 10**digits)
            said = f"epsilon is 1e-{digits}: say optimiser:{row.name}(epsilon=1e-{digits}) if that is meant"
            yield said, [(s, e.subs(epsilon, value)) for s, e in rule]
            if beta1 in row.hyper:
                hat = "epsilon is added before the bias correction (as in Adam's faster form), as 1e-"
                yield f"{hat}{digits}", [(s, e.subs(epsilon, value / sympy.sqrt(1 - beta2**t))) for s, e in rule]
        yield "epsilon stands inside the square root", [(s, _inside(e)) for s, e in rule]
        yield "epsilon is missing", [(s, e.subs(epsilon, 0)) for s, e in rule]
        yield (
            "the square root of the second moment is missing",
            [(s, e.replace(lambda n: n.is_Pow and n.exp == sympy.Rational(1, 2), lambda n: n.base)) for s, e in rule],
        )
    for other in OPTIMISERS.values():
        if other.name != row.name and set(other.hyper) <= set(row.hyper) and set(other.state) <= set(row.state):
            yield f"this is the rule of {other.name}", list(other.rule)
    decay = KEYWORDS["weight_decay"]
    if decay in row.hyper:
        plain = [(s, (e + KEYWORDS["learning_rate"] * decay * theta) if s == theta else e) for s, e in rule]
        yield (
            "the weight decay is added to the gradient (L2), it must not pass through the moments",
            [(s, e if s == theta else e.subs(g, g + decay * theta)) for s, e in plain],
        )


def _inside(expression: Any) -> Any:
    """Turn √v + ε into √(v + ε)."""

    def match(node: Any) -> bool:
        return bool(node.is_Add and epsilon in node.args and len(node.args) == 2)

    return expression.replace(match, lambda node: sympy.sqrt((node - epsilon) ** 2 + epsilon))


def _variant(stepper: Stepper, row: Optimiser, start: Any, gradients: Sequence[Any]) -> str:
    for sentence, rule in _variants(row):
        try:
            yours, other = _exact_paths(stepper, rule, row, start, gradients)
        except Exception:
            continue
        if all(same(entries(a), entries(b)) for a, b in zip(yours, other, strict=True)):
            return sentence
    return ""


# How a step is called ------------------------------------------------------------------------------------------------
def _stepper(step: Any, row: Optimiser) -> Stepper:
    if isinstance(step, type):
        raise InputError(f"{step.__name__} is a class: give an object of it, such as {step.__name__}()")
    if inspect.isfunction(step) or inspect.ismethod(step) or inspect.isbuiltin(step):
        return _function_stepper(step, row)
    method = next((n for n in METHODS if callable(getattr(type(step), n, None))), None)
    if method is None:
        raise InputError(f"{type(step).__name__} has no method {', '.join(METHODS[:2])}: what takes a step?")
    return _object_stepper(step, method, row)


def _keyword(name: str, row: Optimiser) -> str | None:
    """Return the row's keyword that a person's name for a hyper-parameter means."""
    return next((k for k in row.keywords if name.lower() in HYPER[k]), None)


def _function_stepper(step: Callable[..., Any], row: Optimiser) -> Stepper:
    parameters = list(inspect.signature(step).parameters.values())
    roles: dict[str, str] = {}
    hyper: dict[str, float] = {}
    free = list(row.state)
    for p in parameters:
        word, keyword = p.name.lower(), _keyword(p.name, row)
        if word in WEIGHTS and "theta" not in roles.values():
            roles[p.name] = "theta"
        elif word in GRADIENTS and "g" not in roles.values():
            roles[p.name] = "g"
        elif word in TIME and t in _symbols(row):
            roles[p.name] = "t"
        elif keyword is not None and keyword not in hyper:
            roles[p.name] = keyword
            default = p.default if isinstance(p.default, (int, float)) else float(row.keywords[keyword])
            hyper[keyword] = float(default)
        elif p.default is p.empty and free:
            roles[p.name] = f"state{len(row.state) - len(free)}"
            free.pop(0)
        elif p.default is p.empty:
            raise InputError(f"{step.__name__} takes {p.name!r}, which {row.name} does not have: {row.text}")
    for role, words in (("theta", WEIGHTS), ("g", GRADIENTS)):
        if role not in roles.values():
            raise InputError(f"{step.__name__} has no argument for the {'weights' if role == 'theta' else 'gradient'}: "
                             f"name it {', '.join(words[:4])}")  # fmt: skip
    for keyword, exact in row.keywords.items():
        hyper.setdefault(keyword, float(exact))

    def run(start: Any, gradients: Sequence[Any]) -> list[Any]:
        values: dict[str, Any] = {f"state{k}": start * 0 for k in range(len(row.state))}
        exact = _is_exact(start)  # 1 − 0.9 is 1/10 then, not 0.09999999999999998
        values |= {"theta": start, **{name: lift(v) if exact else v for name, v in hyper.items()}}
        path = []
        for number, gradient in enumerate(gradients, start=1):
            values |= {"g": gradient, "t": number}
            returned = step(**{name: values[role] for name, role in roles.items()})
            parts = list(returned) if isinstance(returned, (tuple, list)) else [returned]
            if parts[0] is not None:
                values["theta"] = parts[0]
            for k, part in enumerate(parts[1 : 1 + len(row.state)]):
                values[f"state{k}"] = part
            path.append(values["theta"].copy())
        return path

    return Stepper(step.__name__, step, hyper, run)


def _symbols(row: Optimiser) -> set[Any]:
    found: set[Any] = set()
    return found.union(*(e.free_symbols for _, e in row.rule))


def _object_stepper(step: Any, method: str, row: Optimiser) -> Stepper:
    hyper = {k: float(v) for k, v in row.keywords.items()}
    for name, value in vars(step).items():
        keyword = _keyword(name.strip("_"), row)
        if keyword is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
            hyper[keyword] = float(value)
    styles: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
        ("array", lambda v: v, lambda v: v),
        ("list", lambda v: [v], lambda v: v[0]),
        ("dict", lambda v: {"W": v}, lambda v: v["W"]),
    )

    def walk(pack: Any, unpack: Any, start: Any, gradients: Sequence[Any]) -> list[Any]:
        made, weights, path = copy.deepcopy(step), pack(start), []
        if _is_exact(start):
            exact_attributes(made)
        for gradient in gradients:
            returned = getattr(made, method)(weights, pack(gradient))
            weights = weights if returned is None else returned
            path.append(unpack(weights).copy())
        return path

    def scope() -> None: ...

    scope.__exact_scopes__ = scopes(step)  # type: ignore[attr-defined]
    trial = np.array([0.5, -1.0])
    reasons = []
    for word, pack, unpack in styles:
        try:
            after = walk(pack, unpack, trial.copy(), [np.array([1.0, 2.0])])
        except Exception as error:
            reasons.append(f"as {word}: {type(error).__name__}: {error}")
            continue
        if not np.array_equal(after[0], trial):
            title = f"{type(step).__name__}.{method}"
            return Stepper(title, scope, hyper, lambda s, gs, p=pack, u=unpack: walk(p, u, s, gs))  # type: ignore[misc]
        reasons.append(f"as {word}: the weights did not change")
    raise InputError(f"{type(step).__name__}.{method}(weights, gradients) cannot be run: {'; '.join(reasons)}"[:300])


__all__ = ["check_update", "rule_of"]
