"""Mutation score of a gradient test: standard mistakes are seeded into a right gradient; how many does the test catch?

Mistakes are made in two ways: in what the right ``backward`` returns (sign, factor, transpose, swapped, zero, the
upstream gradient ignored), and in its source (one operator, axis, transpose, constant or comparison at a time).  A
mutant that exact arithmetic does not refute is no mistake, and is left out.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import io
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .findings import compare
from .preparing import Task
from .sources import recompiled, short, source_tree
from .subject import Subject, gradients, run_exact

#: Source mutants looked at; a long function has more places than a test needs.
MANY = 60
#: Relative difference below which a test in floats cannot be expected to see a mutant.
VISIBLE = 1e-6


@dataclass(frozen=True)
class Mutant:
    """A wrong gradient, and what is wrong with it."""

    name: str
    backward: Callable[..., Any]


@dataclass(frozen=True)
class Score:
    """How many mutants a test caught, and which survived."""

    test: str
    caught: tuple[str, ...]
    survived: tuple[str, ...]
    hints: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return len(self.caught) + len(self.survived)

    def __str__(self) -> str:
        lines = [f"{self.test} catches {len(self.caught)} of {self.total} standard mistakes"]
        lines += [f"  survived: {name}" for name in self.survived[:10]]
        if len(self.survived) > 10:
            lines.append(f"  … and {len(self.survived) - 10} more")
        return "\n".join(lines + [f"  {hint}" for hint in self.hints[:4]])

    def as_dict(self) -> dict[str, Any]:
        """Return the score as plain data, for JSON."""
        return {
            "test": self.test, "caught": list(self.caught), "survived": list(self.survived), "total": self.total,
            "hints": list(self.hints),
        }  # fmt: skip


# Mutants -------------------------------------------------------------------------------------------------------------
def mutants(task: Task, seed: int = 0) -> list[Mutant]:
    """Return the standard mistakes of a right gradient that exact arithmetic refutes at a generic point."""
    subject = task.subject
    point = task.sampler.point(seed)
    found = []
    for mutant in itertools.chain(_returned(subject), _edited(subject)):
        try:
            run = run_exact(replace(subject, backward=mutant.backward), point)
        except Exception:
            continue  # an exception is no silent mistake: every test sees it
        if "different" in compare(run).outcome.values():
            found.append(mutant)
    return found


def _returned(subject: Subject) -> Iterator[Mutant]:
    names = subject.wrt
    for name in names:
        yield _change(subject, f"the sign of d{name}", {name: lambda g, u: -g})
        yield _change(subject, f"d{name} twice as large", {name: lambda g, u: 2 * g})
        yield _change(subject, f"d{name} divided by the batch size", {name: lambda g, u: g / _batch(g, u)})
        yield _change(subject, f"d{name} = 0", {name: lambda g, u: 0 * g})
        yield _change(subject, f"d{name} off by 1%", {name: lambda g, u: g * 1.01})
        yield _change(subject, f"one entry of d{name} wrong", {name: _one_entry})
        yield _change(subject, f"d{name} transposed", {name: lambda g, u: _transposed(g)})
    for a, b in itertools.combinations(names, 2):
        yield _swap(subject, a, b)
    if subject.accepts_upstream:
        yield Mutant("the upstream gradient ignored", _without_upstream(subject))


def _batch(gradient: Any, upstream: Any) -> int:
    shape = np.shape(upstream) or np.shape(gradient)
    return int(shape[0]) if shape else 2


def _one_entry(gradient: Any, upstream: Any) -> Any:
    if not np.ndim(gradient):
        return gradient * 1.5
    changed = gradient.copy()
    spot = tuple(0 for _ in range(np.ndim(gradient)))
    changed[spot] = changed[spot] * 1.5
    return changed


def _transposed(gradient: Any) -> Any:
    return gradient.T if np.ndim(gradient) == 2 and gradient.shape[0] == gradient.shape[1] else gradient


def _rebuilt(subject: Subject, returned: Any, table: Mapping[str, Any]) -> Any:
    """Return gradients in the form in which the person's backward returns them."""
    if isinstance(returned, Mapping):
        made = dict(returned)
        for name in table:
            key = next(k for k in (name, f"d{name}", f"grad_{name}", f"{name}_grad", f"d_{name}") if k in made)
            made[key] = table[name]
        return made
    if isinstance(returned, (tuple, list)):
        return type(returned)(table[n] for n in subject.wrt)
    return table[subject.wrt[0]]


def _change(subject: Subject, label: str, changes: Mapping[str, Callable[[Any, Any], Any]]) -> Mutant:
    original = subject.backward

    def backward(*arguments: Any, **keywords: Any) -> Any:
        returned = original(*arguments, **keywords)
        table = gradients(subject, returned)
        upstream = arguments[0] if subject.accepts_upstream and arguments else None
        for name, change in changes.items():
            if table[name] is not None:
                table[name] = change(table[name], upstream)
        return _rebuilt(subject, returned, table)

    return Mutant(label, _as(backward, original))


def _swap(subject: Subject, a: str, b: str) -> Mutant:
    original = subject.backward

    def backward(*arguments: Any, **keywords: Any) -> Any:
        returned = original(*arguments, **keywords)
        table = gradients(subject, returned)
        if np.shape(table[a]) == np.shape(table[b]):
            table[a], table[b] = table[b], table[a]
        return _rebuilt(subject, returned, table)

    return Mutant(f"d{a} and d{b} swapped", _as(backward, original))


def _without_upstream(subject: Subject) -> Callable[..., Any]:
    original = subject.backward

    def backward(*arguments: Any, **keywords: Any) -> Any:
        if arguments and not isinstance(arguments[0], tuple):
            arguments = (arguments[0] * 0 + 1, *arguments[1:])
        return original(*arguments, **keywords)

    return _as(backward, original)


def _as(function: Any, original: Any) -> Callable[..., Any]:
    function.__signature__ = inspect.signature(original)
    function.__name__ = getattr(original, "__name__", "backward")
    function.__wrapped__ = original  # so that exact arithmetic finds the modules it reaches
    return function  # type: ignore[no-any-return]


# Edits of the source -------------------------------------------------------------------------------------------------
def _edited(subject: Subject) -> Iterator[Mutant]:
    """Yield copies of backward with one place of its source changed."""
    function = subject.backward
    tree = source_tree(function)
    if tree is None:
        return
    count = 0
    for place, node in enumerate(ast.walk(tree)):
        for label, change in _edits(node):
            count += 1
            if count > MANY:
                return
            changed = copy.deepcopy(tree)
            target = next(itertools.islice(ast.walk(changed), place, None))
            new = change(copy.deepcopy(node))
            line = getattr(node, "lineno", 0)
            replaced = _Replace(target, new).visit(changed)
            made = recompiled(ast.fix_missing_locations(replaced), function)
            if made is not None:
                yield Mutant(f"{label} (line {line} of {function.__name__})", made)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else super().visit(node)


_SWAPPED: Mapping[type[ast.operator], tuple[str, type[ast.operator]]] = {
    ast.Add: ("+ became −", ast.Sub),
    ast.Sub: ("− became +", ast.Add),
    ast.Div: ("/ became ·", ast.Mult),
}


def _edits(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], ast.AST]]]:
    if isinstance(node, ast.BinOp):
        if type(node.op) in _SWAPPED:
            word, operator = _SWAPPED[type(node.op)]
            yield f"{word} in {short(node)}", lambda n: ast.BinOp(n.left, operator(), n.right)
        if isinstance(node.op, (ast.Mult, ast.Div)):
            yield f"the factor {short(node.right)} is missing", lambda n: n.left
        if isinstance(node.op, ast.Mult):
            yield f"the factor {short(node.left)} is missing", lambda n: n.right
        if isinstance(node.op, ast.Add):
            yield f"the term {short(node.right)} is missing", lambda n: n.left
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield f"{short(node.value)} is not transposed", lambda n: n.value
    elif isinstance(node, ast.keyword) and node.arg == "axis" and isinstance(node.value, ast.Constant):
        if node.value.value in (0, 1):
            other = 1 - node.value.value
            yield f"axis {other} instead of {node.value.value}", lambda n: ast.keyword("axis", ast.Constant(other))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.Gt, ast.Lt)):
        turned = ast.Lt() if isinstance(node.ops[0], ast.Gt) else ast.Gt()
        yield f"the comparison {short(node)} turned round", lambda n: ast.Compare(n.left, [turned], n.comparators)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value not in (0.0, 1.0):
        yield f"the constant {node.value} off by 1%", lambda n: ast.Constant(n.value * 1.01)


# The person's test ---------------------------------------------------------------------------------------------------
def mutation_score(task: Task, test: Callable[..., Any], seed: int = 0) -> Score:
    """Run a test against every mutant.

    ``test`` takes the gradient function as its one argument, or none: then every global of its module that is the
    function under check is replaced by the mutant while it runs.  A test catches a mutant by raising, or by returning
    False.  Raises :class:`InputError` if the test fails for the right gradient, or never calls it.
    """
    name = getattr(test, "__name__", "the test")
    right = task.subject.backward
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def recording(*arguments: Any, **keywords: Any) -> Any:
        calls.append(copy.deepcopy((arguments, keywords)))
        return right(*arguments, **keywords)

    trouble = _fails(test, right, _as(recording, right))
    if trouble:
        raise InputError(f"{name} fails for the gradient as it is ({trouble}): correct that first")
    if not calls:
        raise InputError(f"{name} never calls {getattr(right, '__name__', 'backward')}: nothing can be caught")
    caught: list[str] = []
    survived: list[str] = []
    for mutant in mutants(task, seed):
        (caught if _fails(test, right, mutant.backward) else survived).append(mutant.name)
    if not caught and not survived:
        raise InputError("no mistake could be seeded: exact arithmetic cannot run this gradient")
    return Score(name, tuple(caught), tuple(survived), tuple(hints(task, calls)) if survived else ())


def _fails(test: Callable[..., Any], right: Callable[..., Any], candidate: Callable[..., Any]) -> str:
    """Run the test with a candidate in place of the right function; return why it fails, or an empty string."""
    required = [
        p for p in inspect.signature(test).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    if len(required) > 1:
        raise InputError(f"{getattr(test, '__name__', 'the test')} must take the gradient function, or nothing")
    scopes = [getattr(test, "__globals__", {}), getattr(right, "__globals__", {})]
    places = [(names, n) for names in scopes for n, value in list(names.items()) if value is right]
    try:
        for names, n in places:
            names[n] = candidate
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outcome = test(candidate) if required else test()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]
    finally:
        for names, n in places:
            names[n] = right
    return "returned False" if outcome is False or (isinstance(outcome, np.bool_) and not outcome) else ""


def explain(task: Task, test: Callable[..., Any], seed: int = 0) -> Score:
    """Say what the inputs of a person's test could not have seen, whatever the test compares.

    A mutant that returns the right gradient, to six digits, at every call that the test makes is invisible to it.
    """
    name = getattr(test, "__name__", "the test")
    right = task.subject.backward
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def recording(*arguments: Any, **keywords: Any) -> Any:
        calls.append(copy.deepcopy((arguments, keywords)))
        return right(*arguments, **keywords)

    _fails(test, right, _as(recording, right))
    if not calls:
        raise InputError(f"{name} never calls {getattr(right, '__name__', 'backward')}: it has no inputs to explain")
    seen: list[str] = []
    unseen: list[str] = []
    for mutant in mutants(task, seed):
        (seen if any(_visible(task.subject, mutant, *call) for call in calls) else unseen).append(mutant.name)
    return Score(f"the inputs of {name}: a comparison there", tuple(seen), tuple(unseen), tuple(hints(task, calls)))


def _visible(subject: Subject, mutant: Mutant, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    try:
        with np.errstate(all="ignore"):
            right = gradients(subject, subject.backward(*copy.deepcopy(arguments), **copy.deepcopy(keywords)))
            wrong = gradients(subject, mutant.backward(*copy.deepcopy(arguments), **copy.deepcopy(keywords)))
    except Exception:
        return True
    for name in subject.wrt:
        a, b = np.asarray(right[name], dtype=float), np.asarray(wrong[name], dtype=float)
        if a.shape != b.shape or np.abs(a - b).max(initial=0.0) > VISIBLE * max(np.abs(a).max(initial=0.0), 1e-300):
            return True
    return False


def hints(task: Task, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> Iterator[str]:
    """Yield what all calls of a test have in common that hides mistakes."""
    subject = task.subject
    signature = inspect.signature(subject.backward)
    tables: list[dict[str, Any]] = []
    for arguments, keywords in calls:
        try:
            bound = signature.bind(*arguments, **keywords).arguments
        except TypeError:
            continue
        tables.append({n: np.asarray(v) for n, v in bound.items() if isinstance(v, (np.ndarray, float, list))})
    if not tables:
        return
    shared = [n for n in tables[0] if all(n in table for table in tables)]
    for name in shared:
        values = [table[name] for table in tables]
        word = "the upstream gradient" if name not in subject.names else name
        if any(v.dtype.kind not in "fiu" or not v.size for v in values):
            continue
        if all((v == 1).all() for v in values):
            yield f"{word} is always 1: a missing or doubled factor {name} cannot be seen"
        elif all((v == 0).all() for v in values):
            yield f"{word} is always 0: whatever is multiplied by it cannot be seen"
        elif all((v == v.flat[0]).all() for v in values) and values[0].size > 1:
            yield f"all entries of {word} are equal: transposes and wrong axes cannot be seen"
        elif all((v > 0).all() for v in values) and values[0].size > 1 and values[0].dtype.kind == "f":
            yield f"{word} is never negative: branches below 0 are not reached"
        if all(v.ndim == 2 and v.shape[0] == v.shape[1] for v in values):
            yield f"{name} is always square: a missing transpose keeps the shape"
        if all(v.ndim >= 2 and v.shape[0] == 1 for v in values):
            yield f"{name} always has one row: sums and means over the batch are the same"
    unvaried = [n for n in task.sampler.options if n in signature.parameters]
    if unvaried and all(not (set(unvaried) & set(keywords)) for _, keywords in calls):
        yield f"{', '.join(unvaried)} is never moved off its default"
