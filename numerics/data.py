"""Data sets: a table of real ones that work offline, and a person's own CSV or NPZ file; split by class, scaled by the
training part.

Images are rows of pixels; labels are the integers 0 … classes − 1. Every draw comes from a seeded
``numpy.random.Generator``.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.errors import InputError, lookup

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Samples in the rows of ``inputs`` (n, features), their class numbers in ``labels`` (n,)."""

    name: str
    inputs: Floats
    labels: Integers
    classes: tuple[str, ...]
    features: tuple[str, ...]

    def __post_init__(self) -> None:
        samples, features = self.inputs.shape
        if not samples or not features:
            raise InputError(f"the data set {self.name!r} is empty: it has {samples} samples of {features} features")
        if len(self.labels) != samples:
            raise InputError(f"the data set {self.name!r} has {samples} samples but {len(self.labels)} labels")
        if not np.isfinite(self.inputs).all():
            row, column = np.argwhere(~np.isfinite(self.inputs))[0]
            what = "NaN" if np.isnan(self.inputs[row, column]) else "infinite"
            raise InputError(
                f"the data set {self.name!r} has a value that is {what}: sample {row + 1}, feature "
                f"{self.features[column]!r}; remove or fill such samples first"
            )
        if len(self.classes) < 2:
            raise InputError(
                f"the data set {self.name!r} has one class only ({self.classes[0]}): two are needed to learn"
            )


@dataclass(frozen=True)
class Source:
    """A data set of the table: where it comes from, and how it is loaded when asked for."""

    name: str
    title: str
    load: Callable[[], Dataset]
    citation: str


@dataclass(frozen=True)
class Part:
    """One part of a split: scaled inputs (n, features), class numbers (n,), and which samples of the data set they
    are.
    """

    inputs: Floats
    labels: Integers
    rows: Integers


@dataclass(frozen=True)
class Split:
    """Training, validation and test part; ``mean`` and ``scale`` were fitted on the training part alone."""

    train: Part
    validation: Part
    test: Part
    mean: Floats
    scale: Floats

    def standardise(self, inputs: Floats) -> Floats:
        """(x − mean)/scale, as the three parts were treated."""
        return (inputs - self.mean) / self.scale


@dataclass(frozen=True)
class Table:
    """A CSV file as text: the features' names, one row of texts per sample, and the label of each."""

    features: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]


def _bundled(name: str, enlarge: int = 0) -> Dataset:
    from sklearn import datasets

    raw = getattr(datasets, f"load_{name}")()
    inputs, features = np.asarray(raw.data, dtype=np.float64), tuple(map(str, raw.feature_names))
    title = name
    if enlarge:
        inputs = enlarge_images(inputs.reshape(-1, 8, 8), enlarge).reshape(len(inputs), -1)
        features = tuple(f"pixel_{row}_{column}" for row in range(enlarge) for column in range(enlarge))
        title = f"{name}{enlarge}"
    return Dataset(title, inputs, np.asarray(raw.target, np.int64), tuple(map(str, raw.target_names)), features)


def enlarge_images(images: Floats, size: int) -> Floats:
    """Bilinear interpolation of square images (n, k, k) to (n, size, size); pixel centres are aligned, edges repeated.

    >>> enlarge_images(np.array([[[0.0, 1.0], [0.0, 1.0]]]), 4)[0, 0]
    array([0.  , 0.25, 0.75, 1.  ])
    """
    old = images.shape[1]
    centre = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    left = np.minimum(centre.astype(int), old - 2)
    weights = np.zeros((size, old))
    weights[np.arange(size), left] = 1 - (centre - left)
    weights[np.arange(size), left + 1] = centre - left
    return np.asarray(weights @ images @ weights.T, dtype=np.float64)


_UCI = "UCI Machine Learning Repository, as bundled with scikit-learn"
_SOURCES = (
    Source("iris", "150 iris flowers, 4 lengths, 3 species", lambda: _bundled("iris"), f"Fisher 1936; {_UCI}"),
    Source("wine", "178 wines, 13 measurements, 3 growers", lambda: _bundled("wine"), f"Forina et al. 1988; {_UCI}"),
    Source(
        "breast_cancer",
        "569 tumours, 30 measurements, 2 diagnoses",
        lambda: _bundled("breast_cancer"),
        f"Street, Wolberg & Mangasarian 1993; {_UCI}",
    ),
    Source(
        "digits",
        "1797 handwritten digits, 8 × 8 pixels, 10 classes",
        lambda: _bundled("digits"),
        f"Alpaydin & Kaynak 1998 (the test part); {_UCI}",
    ),
    Source(
        "digits28",
        "the same digits enlarged to 28 × 28 = 784 pixels (bilinear)",
        lambda: _bundled("digits", enlarge=28),
        f"Alpaydin & Kaynak 1998 (the test part); {_UCI}; enlarged here",
    ),
)
#: name -> data set; the one place a data set is added.
DATASETS: dict[str, Source] = {row.name: row for row in _SOURCES}


def dataset(source: str | Path | Dataset, target: str | None = None) -> Dataset:
    """A data set of the table by name, or a CSV or NPZ file by path.

    A CSV file holds one sample per line, numbers and a label; a first line without numbers names the columns. The
    label is the column called ``target``, else the last one. An NPZ file holds the arrays ``x`` (n, features) and
    ``y`` (n,). Raises :class:`InputError` for an unknown name, a missing file, text where a number belongs, NaN, no
    samples, or one class.
    """
    if isinstance(source, Dataset):
        return source
    kind = Path(source).suffix.lower()
    if kind == ".csv":
        return _from_table(Path(source), read_csv(source, target))
    if kind == ".npz":
        return _from_npz(Path(source))
    if isinstance(source, Path) or "/" in source or "." in source:
        raise InputError(
            f"cannot read {str(source)!r}: a data file is a .csv or .npz; known sets: {', '.join(DATASETS)}"
        )
    return lookup(DATASETS, source, "data set").load()


def read_csv(path: str | Path, target: str | None = None) -> Table:
    """A CSV file (comma, semicolon or tab) as text, its shape checked; see :func:`dataset` for the format."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"cannot read {str(path)!r}: it is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), delimiter=delimiter)]
    except csv.Error as error:
        raise InputError(f"cannot read {str(path)!r} as CSV: {error}") from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if any(line)]
    if not numbered:
        raise InputError(f"{str(path)!r} is empty: one sample per line is needed")
    width = len(numbered[0][1])
    for number, line in numbered:
        if len(line) != width:
            raise InputError(f"{str(path)!r}, line {number}: {len(line)} columns where the first line has {width}")
    if width < 2:
        raise InputError(f"{str(path)!r} has one column: at least one feature and a label are needed")
    names = [f"x{k + 1}" for k in range(width - 1)] + ["label"]
    if not any(_is_number(cell) for cell in numbered[0][1][:-1]):
        names, numbered = numbered[0][1], numbered[1:]
        if not numbered:
            raise InputError(f"{str(path)!r} has a header but no samples")
    return _columns(str(path), names, [line for _, line in numbered], target)


def _columns(path: str, names: list[str], lines: list[list[str]], target: str | None) -> Table:
    if target is not None and target not in names:
        raise InputError(f"{path!r} has no column {target!r}: it has {', '.join(names)[:200]}")
    label = names.index(target) if target is not None else len(names) - 1
    rows = tuple(tuple(cell for k, cell in enumerate(line) if k != label) for line in lines)
    return Table(tuple(n for k, n in enumerate(names) if k != label), rows, tuple(line[label] for line in lines))


def _from_table(path: Path, table: Table) -> Dataset:
    for number, row in enumerate(table.rows, start=1):
        for name, cell in zip(table.features, row, strict=True):
            if not _is_number(cell):
                shown = repr(cell[:40]) if cell else "an empty cell"
                raise InputError(f"{str(path)!r}, sample {number}: {shown} in column {name!r} is not a number")
    inputs = np.array([[float(cell) for cell in row] for row in table.rows], dtype=np.float64)
    return _labelled(path.stem, inputs, table.labels, table.features)


def _from_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key.lower(): stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is not an NPZ file of plain arrays"
        raise InputError(f"cannot read {str(path)!r}: {reason}") from None
    if not {"x", "y"} <= set(arrays):
        raise InputError(f"{str(path)!r} holds {', '.join(arrays) or 'nothing'}: arrays called x and y are needed")
    inputs, labels = arrays["x"], arrays["y"]
    if inputs.dtype.kind not in "fiub" or inputs.ndim < 2 or labels.ndim != 1:
        raise InputError(f"{str(path)!r}: x must hold numbers, one sample per row, and y one label per sample")
    flat = inputs.reshape(len(inputs), int(np.prod(inputs.shape[1:]))).astype(np.float64)
    return _labelled(path.stem, flat, map(str, labels.tolist()), tuple(f"x{k + 1}" for k in range(flat.shape[1])))


def _labelled(name: str, inputs: Floats, labels: Iterable[str], features: tuple[str, ...]) -> Dataset:
    texts = list(labels)
    if any(not text or text.lower() == "nan" for text in texts):
        missing = next(k for k, text in enumerate(texts, start=1) if not text or text.lower() == "nan")
        raise InputError(f"the data set {name!r} has no label for sample {missing}")
    kinds = set(texts)
    classes = tuple(sorted(kinds, key=float) if all(map(_is_number, kinds)) else sorted(kinds))
    if len(classes) > max(2, len(texts) // 2):
        raise InputError(
            f"the labels of {name!r} take {len(classes)} values in {len(texts)} samples: class names are needed, "
            "not measurements"
        )
    numbers = {label: k for k, label in enumerate(classes)}
    return Dataset(name, inputs, np.array([numbers[text] for text in texts], dtype=np.int64), classes, features)


def split(data: Dataset, seed: int = 0, *, test: float = 0.2, validation: float = 0.1) -> Split:
    """Split by class and scale: ``test`` of all samples, then ``validation`` of the rest; each class keeps its share.

    The test part is that of scikit-learn's ``train_test_split(…, stratify=labels, random_state=seed)``, so that
    results can be held against others'. The scale (mean 0, standard deviation 1; constant features are only centred)
    is fitted on the training part alone. Raises :class:`InputError` for shares outside [0, 1), a seed outside [0,
    2³²), too few samples, or a feature whose scaled values do not fit in float64.
    """
    for name, share in (("test", test), ("validation", validation)):
        if not 0 <= share < 1:
            raise InputError(f"{name} = {share}: the share must be at least 0 and below 1")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed = {seed}: the seed of a split must be at least 0 and below 2**32")
    rest, held_out = _stratified(data, np.arange(len(data.labels)), test, seed, "test")
    train, checked = _stratified(data, rest, validation, seed, "validation")
    mean, scale = _mean_and_scale(data.inputs[train])
    with np.errstate(all="ignore"):  # an overflow is found below, and its feature named
        scaled = (data.inputs - mean) / scale
    if not np.isfinite(scaled).all():
        row, column = np.argwhere(~np.isfinite(scaled))[0]
        raise InputError(
            f"the data set {data.name!r}: feature {data.features[column]!r} of sample {row + 1} is "
            f"{data.inputs[row, column]:.3g}, too large to be scaled in float64; divide the feature by a constant first"
        )

    def part(rows: Integers) -> Part:
        return Part(scaled[rows], data.labels[rows], rows)

    return Split(part(train), part(checked), part(held_out), mean, scale)


def _mean_and_scale(inputs: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation by feature, 1 for a constant one; squares neither overflow nor underflow.

    Dividing by a power of two rounds nothing: features of ordinary size give the very same numbers as without it.
    """
    largest = np.abs(inputs).max(axis=0)
    exponent = np.frexp(largest)[1]
    ordinary = np.ldexp(inputs, -exponent)
    mean, scale = np.ldexp(ordinary.mean(axis=0), exponent), np.ldexp(ordinary.std(axis=0), exponent)
    # A constant feature may show a deviation of one rounding error: scaling that up would make noise of it.
    return mean, np.where(scale > 1e-12 * largest, scale, 1.0)


def _stratified(data: Dataset, rows: Integers, share: float, seed: int, name: str) -> tuple[Integers, Integers]:
    """Two random parts of ``rows``, the second with ``share`` of each class."""
    if share == 0:
        return rows, rows[:0]
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(rows, test_size=share, stratify=data.labels[rows], random_state=seed)
    except ValueError:
        counts = np.bincount(data.labels[rows], minlength=len(data.classes))
        rarest = int(counts.argmin())
        raise InputError(
            f"the data set {data.name!r} is too small for a {name} part of {share:g} with all "
            f"{len(data.classes)} classes "
            f"(class {data.classes[rarest]!r} has {counts[rarest]} samples here): add samples or change {name}"
        ) from None
    return first, second


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
