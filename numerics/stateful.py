"""Objects in the from-scratch style: ``net.forward(X)`` keeps what ``net.backward(dy)`` needs, and gradients too.

An object becomes a pair of functions of arrays: its inputs, and every array attribute that it learns.  Each call works
on a copy of the object, with these arrays put in.  Gradients are read from what ``backward`` returns, from attributes
by their names (``dW``, ``W_grad``, ``grads["W"]``, ``grads[0]`` beside ``params[0]``), or from the update that
``backward`` made in place, divided by the learning rate.
"""

from __future__ import annotations

import copy
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .exact_arrays import exact_array
from .exact_scalars import lift

FORWARD = ("forward", "__call__", "feedforward", "feed_forward", "forward_pass", "predict")
BACKWARD = ("backward", "backprop", "backpropagate", "backward_pass", "back", "gradient", "gradients")
LOSS = ("loss", "compute_loss", "cost", "compute_cost", "objective")
RATES = ("lr", "learning_rate", "eta", "alpha", "step_size", "rate", "learning_rate_init")
#: The learning rate handed to a ``backward`` that asks for one: a power of two, so that dividing by it is exact.
RATE = 0.125
Path = tuple[Any, ...]


def is_stateful(value: Any) -> bool:
    """Tell whether a value is an object with a forward and a backward method (not a class, not a function)."""
    if isinstance(value, (type, types.FunctionType, types.MethodType, types.ModuleType)):
        return False
    library = (type(value).__module__ or "").partition(".")[0] in ("torch", "jax", "jaxlib", "numba", "sympy")
    return not library and _method(value, FORWARD) is not None and _method(value, BACKWARD) is not None


def _method(value: Any, names: Sequence[str]) -> str | None:
    return next((n for n in names if callable(getattr(type(value), n, None))), None)


# Attributes ----------------------------------------------------------------------------------------------------------
def arrays(value: Any, path: Path = (), seen: set[int] | None = None) -> Iterator[tuple[Path, Any]]:
    """Yield every array that an object holds, with its path through attributes, lists and dicts."""
    seen = set() if seen is None else seen
    if isinstance(value, np.ndarray) or hasattr(value, "places"):
        yield path, value
        return
    if id(value) in seen or len(path) > 6:
        return
    if isinstance(value, dict):
        seen.add(id(value))
        for key, each in value.items():
            yield from arrays(each, (*path, ("item", key)), seen)
    elif isinstance(value, (list, tuple)):
        seen.add(id(value))
        for k, each in enumerate(value):
            yield from arrays(each, (*path, ("item", k)), seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType, types.FunctionType)):
        seen.add(id(value))
        for key, each in vars(value).items():
            yield from arrays(each, (*path, ("attribute", key)), seen)


def _fetch(value: Any, path: Path) -> Any:
    for kind, key in path:
        value = getattr(value, key) if kind == "attribute" else value[key]
    return value


def _put(value: Any, path: Path, new: Any) -> None:
    holder = _fetch(value, path[:-1])
    kind, key = path[-1]
    if kind == "attribute":
        setattr(holder, key, new)
    elif isinstance(holder, tuple):
        _put(value, path[:-1], tuple(new if k == key else each for k, each in enumerate(holder)))
    else:
        holder[key] = new


def exact_attributes(made: Any) -> None:
    """Turn the float arrays and numbers that an object holds into exact ones: ``1 - self.beta`` is 1/10 then."""
    for path, array in list(arrays(made)):
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            _put(made, path, exact_array(array.copy()))
    _exact_numbers(made, set())


def _exact_numbers(value: Any, seen: set[int]) -> None:
    if id(value) in seen or isinstance(value, (np.ndarray, str, types.ModuleType, types.FunctionType, type)):
        return
    seen.add(id(value))
    holder = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    holder = {} if holder is None else holder
    for key, each in list(holder.items()):
        if isinstance(each, (float, np.floating)):
            holder[key] = lift(each)
        else:
            _exact_numbers(each, seen)
    for each in value if isinstance(value, (list, tuple)) else ():
        _exact_numbers(each, seen)


def _name(path: Path) -> str:
    """Return an identifier for a path: ``layers_0_W``."""
    return re.sub(r"\W+", "_", "_".join(str(key) for _, key in path)).strip("_")


def parameters_of(value: Any) -> dict[str, tuple[Path, ...]]:
    """Return the float arrays that an object holds: name -> its paths (several where one array has several names)."""
    by_identity: dict[int, list[Path]] = {}
    for path, array in arrays(value):
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size:
            by_identity.setdefault(id(array), []).append(path)
    return {_name(paths[0]): tuple(paths) for paths in by_identity.values()}


# Gradients -----------------------------------------------------------------------------------------------------------
def _forms(name: str) -> list[str]:
    base = name.lower()
    bases = [base, base.rstrip("s"), f"{base}s"]
    shapes = ("d{}", "d_{}", "grad_{}", "{}_grad", "{}_gradient", "gradient_{}", "g{}", "g_{}", "grad{}", "{}grad")
    more = ("{}_g", "nabla_{}", "dl_d{}", "dld{}", "dldp{}", "delta_{}", "{}_gradients", "grads_{}", "gradients_{}")
    return [form.format(b) for b in bases for form in (*shapes, *more)]


def _gradient_path(parameter: Path, candidates: Sequence[Path]) -> Path | None:
    """Return the path of the attribute that holds the gradient of a parameter, by its name."""
    *stem, (_, key) = parameter
    for path in candidates:  # params[0] and grads[0], params["W"] and grads["W"] or grads["dW"]
        if len(path) != len(parameter) and len(path) != len(parameter) + 1:
            continue
        last = str(path[-1][1]).lower()
        if len(path) >= 2 and str(path[-2][1]).lower() in ("grads", "gradients", "grad", "dparams", "d_params"):
            beside = path[:-2] in (tuple(stem), tuple(stem[:-1]))
            if beside and (path[-1][1] == key or last in _forms(str(key))):
                return path
        if path[:-1] == tuple(stem) and isinstance(key, str) and last in _forms(key):
            return path
    return None


@dataclass(frozen=True)
class Slots:
    """How the methods are called and where each gradient is found."""

    forward: str
    backward: str
    inputs: tuple[str, ...]  # of forward
    arguments: tuple[str, ...]  # of backward: names of inputs, "upstream" or "rate"
    upstream: bool
    rate: Path | str | None
    parameters: Mapping[str, tuple[Path, ...]]
    found: Mapping[str, Any]  # gradient's name -> ("returned", k) | ("attribute", path) | ("update", path)
    loss: Callable[..., Any] | None = None


def _required(method: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(method).parameters.values()
    return [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def _arguments(value: Any, backward: str, known: Sequence[str]) -> tuple[str, ...]:
    arguments: list[str] = []
    for name in _required(getattr(value, backward)):
        if name in known:
            arguments.append(name)
        elif name.lower() in RATES:
            arguments.append("rate")
        elif "upstream" not in arguments:
            arguments.append("upstream")
        else:
            raise InputError(
                f"{type(value).__name__}.{backward} needs {name!r}, which is no input: give an example of it in inputs="
            )
    return tuple(arguments)


def _call(value: Any, slots: Slots, inputs: Mapping[str, Any]) -> Any:
    return getattr(value, slots.forward)(*(inputs[n] for n in slots.inputs))


def _call_backward(value: Any, slots: Slots, upstream: Any, inputs: Mapping[str, Any]) -> Any:
    special = {"upstream": upstream, "rate": RATE}
    return getattr(value, slots.backward)(*(special[a] if a in special else inputs[a] for a in slots.arguments))


def recognise(value: Any, inputs: Mapping[str, Any], loss: Callable[..., Any] | None) -> Slots:
    """Run the object once on example inputs, and find out how it is called and where the gradients are.

    Raises :class:`InputError` where no gradient can be recognised, naming what was looked for.
    """
    title = type(value).__name__
    forward, backward = _method(value, FORWARD), _method(value, BACKWARD)
    assert forward is not None
    assert backward is not None
    needed = _required(getattr(value, forward))
    missing = [n for n in needed if n not in inputs]
    if missing:
        raise InputError(f"{title}.{forward} needs {missing[0]!r}: give its shape or an example")
    arguments = _arguments(value, backward, list(inputs))
    parameters = parameters_of(value)
    slots = Slots(forward, backward, tuple(needed), arguments, "upstream" in arguments, None, parameters, {})
    trial = copy.deepcopy(value)
    try:
        output = _call(trial, slots, copy.deepcopy(dict(inputs)))
    except Exception as error:
        raise InputError(f"{title}.{forward} raised {type(error).__name__}: {error}") from None
    if output is None:
        raise InputError(f"{title}.{forward} returned None: it must return the output")
    parameters = _learnable(value, trial, parameters, inputs)
    slots = replace(slots, parameters=parameters)
    loss = loss or _own_loss(value, inputs, slots)
    if not slots.upstream and loss is None and np.size(output) != 1:
        raise InputError(
            f"{title}.{backward}({', '.join(arguments)}) takes no upstream gradient: say which loss it differentiates, "
            f'such as against="loss:half_squared_error", or give {title} a method loss(y_pred, y)'
        )
    before = {n: np.array(_fetch(trial, paths[0])) for n, paths in parameters.items()}
    upstream = np.ones(np.shape(output)) * 0.75
    try:
        returned = _call_backward(trial, slots, upstream, copy.deepcopy(dict(inputs)))
    except Exception as error:
        raise InputError(f"{title}.{backward} raised {type(error).__name__}: {error}") from None
    known = {path for paths in parameters.values() for path in paths}
    held = [path for path, _ in arrays(trial) if path not in known or _is_gradient_name(path, parameters)]
    found: dict[str, Any] = {}
    for name, paths in parameters.items():
        if any(_is_gradient_name(path, parameters) for path in paths):
            continue  # a gradient kept from the start is not a parameter
        place = next((p for path in paths if (p := _gradient_path(path, held)) is not None), None)
        if place is not None and np.shape(_fetch(trial, place)) == before[name].shape:
            found[name] = ("attribute", place)
        elif not np.array_equal(before[name], np.asarray(_fetch(trial, paths[0]))) and _looks_learned(paths[0]):
            found[name] = ("update", paths[0])
    found = _returned(returned, slots, inputs, found, before)
    if not found:
        raise InputError(
            f"{title}.{backward} returned nothing that has the shape of an input, and no attribute looks like a "
            f"gradient (dW, W_grad, grads['W']) of {', '.join(parameters) or 'a parameter'}"
        )
    rate: Path | str | None = None
    if any(kind == "update" for kind, _ in found.values()):
        rate = "argument" if "rate" in arguments else _rate_path(value)
        if rate is None:
            raise InputError(
                f"{title}.{backward} changes its weights: give it the learning rate as {' or '.join(RATES[:3])}"
            )
    kept = {n: p for n, p in parameters.items() if not any(_is_gradient_name(path, parameters) for path in p)}
    return Slots(forward, backward, tuple(needed), arguments, slots.upstream, rate, kept, found, loss)


def _learnable(
    value: Any, trial: Any, parameters: Mapping[str, tuple[Path, ...]], inputs: Mapping[str, Any]
) -> dict[str, tuple[Path, ...]]:
    """Leave out what forward made anew (caches of an earlier call) and what has the name of an input."""
    kept = {}
    for name, paths in parameters.items():
        old, new = _fetch(value, paths[0]), _fetch(trial, paths[0])
        if name not in inputs and np.shape(old) == np.shape(new) and np.array_equal(old, new, equal_nan=True):
            kept[name] = paths
    return kept


def _is_gradient_store(path: Path) -> bool:
    return any(str(key).lower() in ("grads", "gradients", "grad") for _, key in path[:-1])


def _is_gradient_name(path: Path, parameters: Mapping[str, tuple[Path, ...]]) -> bool:
    others = [p for paths in parameters.values() for p in paths if p != path]
    return _is_gradient_store(path) or any(_gradient_path(other, [path]) is not None for other in others)


def _looks_learned(path: Path) -> bool:
    """Running statistics and caches change too: what forward keeps is no update of a weight."""
    word = str(path[-1][1]).lower()
    return not any(
        part in word for part in ("running", "cache", "moving", "input", "output", "last", "velocity", "mask")
    )


def _rate_path(value: Any) -> Path | None:
    return next(
        ((("attribute", name),) for name in RATES if isinstance(getattr(value, name, None), (int, float))), None
    )


def _returned(
    returned: Any, slots: Slots, inputs: Mapping[str, Any], found: dict[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Match what backward returned with the inputs of forward, then with the parameters, by shape and in order."""
    places: dict[str, Any] = {}
    if isinstance(returned, Mapping):
        for name in (*slots.inputs, *before):
            key = next((k for k in returned if str(k) == name or str(k).lower() in _forms(name)), None)
            if key is not None:
                places[name] = ("key", key)
        return {**places, **found}
    many = isinstance(returned, (tuple, list))
    values = list(returned) if many else [returned]
    targets = {n: np.shape(inputs[n]) for n in slots.inputs if _real(inputs[n])}
    targets |= {n: v.shape for n, v in before.items() if n not in found}
    for k, each in enumerate(values):
        if each is None or not isinstance(each, (np.ndarray, float, np.floating)):
            continue
        fitting = next((n for n, shape in targets.items() if shape == np.shape(each)), None)
        if fitting is not None:
            places[fitting] = ("returned", k if many else None)
            del targets[fitting]
    return {**places, **found}


def _real(value: Any) -> bool:
    return isinstance(value, (np.ndarray, float, list)) and np.asarray(value).dtype.kind == "f"


def _own_loss(value: Any, inputs: Mapping[str, Any], slots: Slots) -> Callable[..., Any] | None:
    """Return the object's own loss method as a function of (object, output, inputs)."""
    name = _method(value, LOSS)
    if name is None or slots.upstream:
        return None
    needed = _required(getattr(value, name))
    unknown = [n for n in needed if n not in inputs]
    if len(unknown) > 1 or (
        unknown and all(n in slots.inputs for n in needed if n not in unknown) and len(needed) == 1
    ):
        return None

    def loss(instance: Any, output: Any, given: Mapping[str, Any]) -> Any:
        return getattr(instance, name)(*(output if n in unknown else given[n] for n in needed))

    return loss
