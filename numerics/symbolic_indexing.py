"""Indexing of symbolic arrays: slices and numbers as views, masks, and labels as one-hot rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from ..theory import tensors as t
from ..theory.places import at_least_zero, gather, pick, place
from .exact_scalars import Size
from .symbolic_arrays import (
    Place,
    SymbolicArray,
    axes_of,
    call,
    fitted,
    lift,
    make,
    same_place,
    session,
    size_of,
)
from .symbolic_sizes import NumberNeeded, SizesDiffer, SymbolicRange, SymbolicSize, Untraceable, value_of


@dataclass(frozen=True)
class Cut:
    """One axis read at offset + step·(index into ``small``); ``small`` is None for a number."""

    big: t.Axis
    small: t.Axis | None
    offset: sympy.Expr
    step: int


def read(array: SymbolicArray, index: Any) -> SymbolicArray:
    """Return ``array[index]``: a view where NumPy makes one."""
    whole = [_plain(each) for each in (index if isinstance(index, tuple) else (index,))]
    if any(isinstance(each, SymbolicArray) for each in whole):
        return _by_arrays(array, whole)
    places, cuts = _basic(array, whole)
    if not cuts:
        view = array._viewed(places)
    else:
        view = array._view(places, lambda tensor: _cut(tensor, cuts), lambda new, old: _paste(new, old, cuts))
    view.index = _key(places, cuts)
    return view


def _key(places: Sequence[Place], cuts: Sequence[Cut]) -> tuple[Any, ...]:
    """Say where a view was cut, whatever the names of its new axes."""
    shape = tuple(tuple(a.size for a in p) for p in places)
    return shape, tuple((c.big, c.offset, c.step, None if c.small is None else c.small.size) for c in cuts)


def write(array: SymbolicArray, index: Any, value: Any) -> None:
    """Do ``array[index] = value``."""
    whole = [_plain(each) for each in (index if isinstance(index, tuple) else (index,))]
    masks = [each for each in whole if isinstance(each, SymbolicArray) and each.kind == "mask"]
    if masks:
        if len(whole) > 1:
            raise Untraceable("a mask among other indices")
        return _through_mask(array, masks[0], value)
    if any(isinstance(each, SymbolicArray) for each in whole):
        return _write_labels(array, whole, value)
    places, cuts = _basic(array, whole)
    if isinstance(value, SymbolicArray) and value.base is array and value.wrote and value.index == _key(places, cuts):
        return None  # x[index] += v: the view has written already
    filling = lift(value)
    if not cuts:
        array._viewed(places)._become(filling)
        return None
    array._view(places, lambda tensor: _cut(tensor, cuts), lambda new, old: _paste(new, old, cuts))._become(filling)
    return None


def _plain(each: Any) -> Any:
    if isinstance(each, SymbolicRange):
        return call("arange", each.stop)
    if isinstance(each, (range, list)) or (isinstance(each, np.ndarray) and each.ndim):
        raise Untraceable("an index by a list of numbers")
    if isinstance(each, Size):
        return int(each)
    if isinstance(each, SymbolicArray) and not each.places and each.kind == "real":
        return int(each)
    return each


# Slices and numbers --------------------------------------------------------------------------------------------------
def _basic(array: SymbolicArray, index: Sequence[Any]) -> tuple[list[Place], list[Cut]]:
    """Return the positions of a view, and where its axes are read."""
    used = sum(1 for each in index if each is not None and each is not Ellipsis)
    if used > array.ndim:
        raise IndexError(f"too many indices: the array has {array.ndim} axes, but {used} were indexed")
    index = list(index) if any(each is Ellipsis for each in index) else [*index, Ellipsis]
    places: list[Place] = []
    cuts: list[Cut] = []
    left = list(array.places)
    for each in index:
        if each is None:
            places.append(())
        elif each is Ellipsis:
            count = array.ndim - used
            places += left[:count]
            left = left[count:]
        elif isinstance(each, slice):
            places.append(_sliced(left.pop(0), each, cuts))
        elif isinstance(each, (int, np.integer, SymbolicSize)) and not isinstance(each, bool):
            own = left.pop(0)
            if own:
                cuts.append(Cut(_single(own), None, _number(each, size_of(own)), 1))
            elif each not in (0, -1):
                raise IndexError(f"index {each} is out of bounds for axis with size 1")
        else:
            raise Untraceable("an index of another kind")
    return places, cuts


def _single(own: Place) -> t.Axis:
    if len(own) != 1:
        raise Untraceable("an index into a merged axis")
    return own[0]


def _expr(value: Any) -> sympy.Expr:
    return value.expr if isinstance(value, SymbolicSize) else sympy.Integer(int(value))


def _number(each: Any, size: sympy.Expr) -> sympy.Expr:
    at = _expr(each)
    at = at + size if _holds(-at - 1) else at
    if not (_holds(at) and _holds(size - 1 - at)):
        raise IndexError("an index is out of bounds")
    return sympy.expand(at)


def _holds(gap: sympy.Expr) -> bool:
    """Tell whether gap ≥ 0: for all sizes, or at the example, which is then assumed and said."""
    gap = sympy.expand(gap)
    if at_least_zero(gap):
        return True
    if at_least_zero(-gap - 1):
        return False
    value = value_of(gap)
    if value is None:
        raise NumberNeeded(gap)
    if value >= 0:
        session().long_enough = True
    return value >= 0


def _sliced(own: Place, part: slice, cuts: list[Cut]) -> Place:
    step = 1 if part.step is None else int(part.step)
    if part.start is None and part.stop is None and step == 1:
        return own
    if not own:
        start, stop, _ = (
            part.indices(1) if all(not isinstance(v, SymbolicSize) for v in (part.start, part.stop)) else (0, 1, 1)
        )
        if (start, stop) == (0, 1) or (step < 0 and start == 0):
            return own
        raise Untraceable("an empty slice")
    if len(own) > 1 and own[-1].size == step and part.stop is None and (part.start or 0) in range(step):
        cuts.append(Cut(own[-1], None, sympy.Integer(part.start or 0), 1))  # every second entry of pairs
        return own[:-1]
    axis = _single(own)
    size = axis.size
    if step == -1 and part.start is None and part.stop is None:
        small = t.fresh_axis(size)
        cuts.append(Cut(axis, small, sympy.expand(size - 1), -1))
        return (small,)
    if step < 1:
        raise NumberNeeded(size) if not size.is_Integer else Untraceable("a slice with a negative step")
    start, stop = _bound(part.start, size, sympy.Integer(0)), _bound(part.stop, size, size)
    count = sympy.expand(stop - start)
    if step > 1:
        total = SymbolicSize(count + (-count % step if count.is_Integer else 0))
        count = (total if count.is_Integer else SymbolicSize(_rounded(count, step)))._quotient(step)
    if not _holds(count - 1):
        raise Untraceable("an empty slice")
    if start == 0 and step == 1 and count == size:
        return own
    if count == 1:
        cuts.append(Cut(axis, None, start, 1))
        return ()
    small = t.fresh_axis(count)
    cuts.append(Cut(axis, small, start, step))
    return (small,)


def _rounded(count: sympy.Expr, step: int) -> sympy.Expr:
    """Return count rounded up to a multiple of the step: x[1::2] of an even length has as many entries as x[::2]."""
    constant = int(count.as_coeff_Add()[0])
    return sympy.expand(count + (-constant) % step)


def _bound(value: Any, size: sympy.Expr, default: sympy.Expr) -> sympy.Expr:
    if value is None:
        return default
    at = _expr(value)
    if not _holds(at):
        at = sympy.expand(at + size)
        return at if _holds(at) else sympy.Integer(0)
    return at if _holds(size - at) else size


def _cut(tensor: t.Tensor, cuts: Sequence[Cut]) -> t.Tensor:
    for cut in cuts:
        tensor = pick(tensor, cut.big, cut.small, cut.offset, cut.step)
    return tensor


def _paste(new: t.Tensor, old: t.Tensor, cuts: Sequence[Cut]) -> t.Tensor:
    """Return ``old`` with the entries at the cuts replaced: what was there is taken out, the new is put in."""
    before = _cut(old, cuts)
    change = new if t.is_zero(before) else new - before
    spots = [place(cut.big, cut.small, cut.offset, cut.step) for cut in cuts]
    small = {cut.small.name for cut in cuts if cut.small is not None}
    keep = [a for a in change.axes if a.name not in small] + [cut.big for cut in cuts]
    placed = t.contract((change, *spots), keep)
    return placed if t.is_zero(old) else t.add(old, placed).expand(old.axes)


# Masks and labels ----------------------------------------------------------------------------------------------------
def _through_mask(array: SymbolicArray, mask: SymbolicArray, value: Any) -> None:
    if mask.ndim != array.ndim:
        if mask.ndim > array.ndim:
            raise IndexError("too many indices for the array")
        mask = mask._viewed([*mask.places, *[()] * (array.ndim - mask.ndim)])
    if isinstance(value, SymbolicArray) and value.selected is not None:
        if value.selected is not aligned_mask(mask, array):
            raise Untraceable("assignment through another mask")
        filling = SymbolicArray(value.tensor, value.places)
    else:
        filling = lift(value)
        if filling.ndim:
            raise Untraceable("assignment of an array through a mask")
    array._become(call("where", mask, filling, array))


def _by_arrays(array: SymbolicArray, index: Sequence[Any]) -> SymbolicArray:
    if len(index) == 1 and index[0].kind == "mask" and index[0].ndim == array.ndim:
        # Only for x[mask] op= number: the entries outside are never read.
        chosen = SymbolicArray(array.tensor, array.places, array.kind)
        same = aligned_mask(index[0], array)
        chosen.selected = same
        return chosen
    if _is_diagonal(index):
        picked = _one_hot(array, index)
        return _labelled(array, picked)
    return _gathered(array, index)


def _labelled(array: SymbolicArray, picked: SymbolicArray) -> SymbolicArray:
    """Return the entries at the labels of each row; what is added to them in place is remembered."""
    (n,), (k,) = array.places
    rows = t.fresh_axis(n.size)
    read_ = gather(array.tensor.expand((n, k)), k, picked.tensor.rename({n.name: rows.name}))
    found = SymbolicArray(read_.rename({rows.name: n.name}), [(n,)])
    found.labels = (array.tensor, picked.tensor)
    return found


def aligned_mask(mask: SymbolicArray, array: SymbolicArray) -> t.Tensor:
    """Return a mask's tensor; the sizes are those of the array."""
    for a, b in zip(mask.places, array.places, strict=True):
        same_place(a, b)
    return mask.tensor


def _is_diagonal(index: Sequence[Any]) -> bool:
    return len(index) == 2 and all(isinstance(each, SymbolicArray) for each in index) and index[0].kind == "range"


def _one_hot(array: SymbolicArray, index: Sequence[Any]) -> SymbolicArray:
    """Read ``p[np.arange(n), labels]``: the one-hot rows of the labels."""
    rows, labels = index
    if array.ndim != 2 or labels.kind not in ("labels", "range") or labels.ndim != 1:
        raise Untraceable("an index by an array")
    n, k = array.places
    if len(n) != 1 or len(k) != 1:
        raise Untraceable("labels of a merged axis")
    for each in (rows, labels):
        same_place(each.places[0], n)
    if labels.kind == "range":
        if n[0].size != k[0].size:
            raise SizesDiffer(n[0].size, k[0].size)
        return SymbolicArray(make.Delta(n[0], k[0]), (n, k))
    return SymbolicArray(one_hot_rows(labels, n, k[0]), (n, k))


def one_hot_rows(labels: SymbolicArray, own: Place, classes: t.Axis) -> t.Tensor:
    """Return the one-hot rows of labels over an axis of classes; one array of labels has one number of classes."""
    tensor = labels.tensor
    if not isinstance(tensor, t.Input):
        raise Untraceable("labels that were computed")
    known = session().classes.setdefault(tensor.name, classes.size)
    if known != classes.size:
        raise SizesDiffer(known, classes.size)
    names = {a.name: b.name for p, b in zip(labels.places, own, strict=False) for a in p}
    order = [t.Axis(names.get(a.name, a.name), a.size) for a in tensor.indices]
    return make.Input(f"onehot_{tensor.name}", (*order, classes), (t.one_hot(classes.name),))


def _gathered(array: SymbolicArray, index: Sequence[Any]) -> SymbolicArray:
    """Read ``W[labels]`` or ``x[:, labels]``: labels pick along one axis."""
    spot, labels = _one_label(index)
    place_ = array.places[spot]
    if len(place_) != 1:
        raise Untraceable("labels of a merged axis")
    picked, own = _fresh_labels(labels, place_[0])
    tensor = gather(array.tensor.expand(axes_of(array.places)), place_[0], picked)
    return SymbolicArray(tensor, [*array.places[:spot], *own, *array.places[spot + 1 :]])


def _one_label(index: Sequence[Any]) -> tuple[int, SymbolicArray]:
    whole = [k for k, each in enumerate(index) if isinstance(each, SymbolicArray)]
    if len(whole) != 1 or index[whole[0]].kind != "labels":
        raise Untraceable("an index by an array")
    if any(not (isinstance(each, slice) and each == slice(None)) for k, each in enumerate(index) if k != whole[0]):
        raise Untraceable("an index by an array among others")
    return whole[0], index[whole[0]]


def _fresh_labels(labels: SymbolicArray, classes: t.Axis) -> tuple[t.Tensor, list[Place]]:
    own = [tuple(t.fresh_axis(a.size) for a in p) for p in labels.places]
    names = {a.name: b.name for p, q in zip(labels.places, own, strict=True) for a, b in zip(p, q, strict=True)}
    moved = SymbolicArray(labels.tensor.rename(names), own, "labels")
    rows = one_hot_rows(SymbolicArray(moved.tensor, own, "labels"), (), classes)
    return rows, own


def add_at(target: SymbolicArray, index: Any, value: Any) -> None:
    """Do ``np.add.at(target, labels, value)``: each row is added where its label points."""
    whole = [_plain(each) for each in (index if isinstance(index, tuple) else (index,))]
    if not any(isinstance(each, SymbolicArray) for each in whole):
        target[index] = target[index] + value
        return
    if _is_diagonal(whole):
        target[tuple(whole)] = target[tuple(whole)] + value
        return
    spot, labels = _one_label(whole)
    classes = target.places[spot]
    if len(classes) != 1:
        raise Untraceable("labels of a merged axis")
    picked, own = _fresh_labels(labels, classes[0])
    places = [*target.places[:spot], *own, *target.places[spot + 1 :]]
    added = fitted(lift(value), places)
    whole_axes = axes_of(target.places)
    target.tensor = t.add(target.tensor, t.contract((added, picked), whole_axes)).expand(whole_axes)


def _write_labels(array: SymbolicArray, index: Sequence[Any], value: Any) -> None:
    if not _is_diagonal(index):
        raise Untraceable("writing at labels, which may repeat")
    picked = _one_hot(array, index).tensor
    if isinstance(value, SymbolicArray) and value.labels == (array.tensor, picked) and value.change is not None:
        added = fitted(value.change, array.places[:1])  # g[rows, t] -= 1 changes g by −1 where the one-hot row is 1
        array.tensor = t.add(array.tensor, picked * added).expand(axes_of(array.places))
        return
    written = fitted(lift(value), array.places[:1])
    array.tensor = t.add(picked * written, (1 - picked) * array.tensor).expand(axes_of(array.places))
