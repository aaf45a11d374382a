"""Train a network whose gradients were derived: seeded, with a validation part, resumable, and honest about what it
measured.

The same seed, data and options give the same parameters on the same machine. The order of the samples in an epoch
comes from (seed, epoch) alone, so a run that was saved and resumed takes the very steps of one that was not
interrupted.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..theory.errors import InputError, lookup
from ..theory.optimisers import KEYWORDS, optimiser
from .data import Dataset, Split, dataset, split
from .files import require_writable
from .network import Network
from .threads import blas_threads
from .updates import Updater

if TYPE_CHECKING:
    from .cuda_training import DeviceData

Array = npt.NDArray[Any]

#: Where the steps of training are computed.
DEVICES = ("cpu", "cuda")


class Diverged(InputError):  # noqa: N818  (an outcome, said in one line)
    """The loss or a parameter is no longer a finite number: the message names the epoch and the learning rate."""


@dataclass(frozen=True)
class Configuration:
    """Everything that determines a training run but the data's numbers; ``hyper`` holds the optimiser's values as
    text.
    """

    spec: str
    data: str
    activation: str = "relu"
    loss: str = "softmax_cross_entropy"
    optimiser: str = "adam"
    hyper: Mapping[str, str] = field(default_factory=dict)
    initialiser: str = "gain_normal"
    batch: int = 16
    seed: int = 0
    test: float = 0.2
    validation: float = 0.1
    patience: int | None = None
    dtype: str = "float64"
    target: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"batch = {self.batch}: a batch holds at least one sample")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}: a seed is at least 0")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience = {self.patience}: it counts epochs, at least 1")
        if self.patience is not None and not self.validation > 0:
            raise InputError("patience needs a validation part: give validation a share above 0")
        if self.dtype not in ("float64", "float32"):
            raise InputError(f"unknown dtype {self.dtype!r}: float64 or float32")


@dataclass(frozen=True)
class Epoch:
    """Losses and accuracies after an epoch (0: before training), over the whole parts; None without a validation
    part.
    """

    number: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None


@dataclass(frozen=True)
class Snapshot:
    """What training goes on from: flat parameters, the optimiser's states and steps, and the best parameters so far."""

    flat: Array
    state: Mapping[str, Array]
    steps: int
    best: Array


@dataclass(frozen=True)
class TrainingResult:
    """A trained network with its history and what was measured on the test part.

    ``parameters`` are those after the last epoch, or, with ``patience``, those of the epoch with the least validation
    loss. ``seconds`` is the time of the training loop, without loading and compiling.
    """

    configuration: Configuration
    history: tuple[Epoch, ...]
    snapshot: Snapshot
    classes: tuple[str, ...]
    mean: Array
    scale: Array
    samples: tuple[int, int, int]
    data_digest: str
    test_accuracy: float | None
    test_loss: float | None
    probability_error: float | None
    seconds: float
    network: Network = field(repr=False)

    @property
    def parameters(self) -> dict[str, Array]:
        """W1 (inputs, width), b1 (width,), …"""
        return self.network.parameters

    @property
    def parameter_count(self) -> int:
        """The number of trained parameters."""
        return self.network.parameter_count

    @property
    def best_epoch(self) -> int:
        """The epoch whose parameters are kept."""
        return _best_epoch(self.history) if self.configuration.patience is not None else self.history[-1].number

    def predict_proba(self, inputs: Any) -> Array:
        """Class probabilities (N, outputs) for raw inputs (N, features); the plain output where the loss has no
        softmax.

        Raises :class:`InputError` for another number of features, or a value that is not finite.
        """
        prepared = _prepared(inputs, self.mean, self.scale, self.network.dtype)
        probabilities = self.network.probabilities(prepared)
        return self.network.forward(prepared) if probabilities is None else probabilities

    def predict(self, inputs: Any) -> Array:
        """The class names (N,) that the network gives the highest output."""
        return np.array(self.classes)[self.network.decide(self.predict_proba(inputs))]

    def save(self, path: str | Path) -> Path:
        """Write everything to a safetensors file, whole or not at all; :func:`load` reads it, ``train(resume=…)`` goes
        on.
        """
        from .model_files import save

        return save(self, path)

    @property
    def text(self) -> str:
        """What was trained and measured, a line each."""
        c, last = self.configuration, self.history[-1]
        train, checked, test = self.samples
        rate = f"learning rate {float(optimiser(c.optimiser).bind(**c.hyper)[KEYWORDS['learning_rate']]):g}"
        epochs = f"{len(self.history) - 1} epochs of {math.ceil(train / c.batch)} steps"
        lines = [
            f"{c.spec}, {c.activation}, {c.loss}: {self.parameter_count:,} parameters, drawn by {c.initialiser}",
            f"{c.data}: {train} training, {checked} validation, {test} test samples (split by class, seed {c.seed})",
            f"{c.optimiser}, {rate}: {epochs} in {self.seconds:.2f} s",
            f"training loss {self.history[0].train_loss:.4f} → {last.train_loss:.4f}, "
            f"accuracy {last.train_accuracy:.4f}",
        ]
        if last.validation_accuracy is not None:
            lines.append(f"validation loss {last.validation_loss:.4f}, accuracy {last.validation_accuracy:.4f}")
        if self.best_epoch != last.number:
            lines.append(f"kept: epoch {self.best_epoch}, which has the least validation loss")
        if self.test_accuracy is not None:
            lines.append(f"test accuracy {self.test_accuracy:.4f} ({round(self.test_accuracy * test)} of {test})")
        if self.probability_error is not None:
            lines.append(f"probabilities sum to 1 within {self.probability_error:.1e} (measured on the test part)")
        return "\n".join(lines)


def train(
    spec: str = "4-16-3",
    data: str | Path | Dataset = "iris",
    *,
    activation: Any = "relu",
    loss: str = "softmax_cross_entropy",
    optimiser: str = "adam",
    epochs: int = 200,
    batch: int = 16,
    learning_rate: Any = None,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.2,
    patience: int | None = None,
    initialiser: str = "gain_normal",
    dtype: str = "float64",
    hyper: Mapping[str, Any] | None = None,
    target: str | None = None,
    checkpoint: str | Path | None = None,
    resume: TrainingResult | str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    device: str = "cpu",
) -> TrainingResult:
    """Train the network ``spec`` on ``data`` and measure it once on the test part, which nothing before has seen.

    ``activation`` is a row's name or a formula in x; ``hyper`` gives the optimiser's other hyper-parameters by keyword;
    ``patience`` stops after so many epochs without a smaller validation loss and keeps the best; ``checkpoint`` names
    a file that is written at the end, and on Ctrl-C or divergence with the last whole epoch. With ``resume`` (a result
    or a saved file) training goes on to ``epochs`` in all; the other options are then the saved ones. ``on_epoch`` is
    called after each epoch. ``device`` "cuda" takes the steps on an NVIDIA GPU: the same initial weights, batches and
    formulas, sums in another order.

    Raises :class:`InputError` for a wrong name, width or number, and :class:`Diverged` when the loss stops being
    finite.
    """
    if epochs < 0:
        raise InputError(f"epochs = {epochs}: at least 0")
    lookup(dict.fromkeys(DEVICES), device, "device")
    path = require_writable(checkpoint) if checkpoint is not None else None
    if resume is not None:
        return _resumed(resume, data, epochs, path, on_epoch, device)
    values = dict(hyper or {}) | ({} if learning_rate is None else {"learning_rate": learning_rate})
    network = Network(spec, activation, loss, dtype)
    if path is not None:
        network.require_savable()
    name = data.name if isinstance(data, Dataset) else str(data)
    configuration = Configuration(
        spec=spec,
        data=name,
        activation=network.activation,
        loss=network.derived.loss.name,
        optimiser=optimiser,
        hyper=_texts(optimiser, values),
        initialiser=initialiser,
        batch=batch,
        seed=seed,
        test=test,
        validation=validation,
        patience=patience,
        dtype=dtype,
        target=target,
    )
    loaded = dataset(data, target)
    _check_widths(network, loaded)
    parts = split(loaded, seed, test=test, validation=validation)
    network.draw(initialiser, activation, np.random.default_rng([seed, 1]))
    run = _Run(configuration, network, loaded, parts, device)
    run.measure(0)
    return run.to(epochs, path, on_epoch)


class _Run:
    """A run in progress. ``history`` and ``snapshot`` always belong to the last whole epoch."""

    def __init__(
        self, configuration: Configuration, network: Network, data: Dataset, parts: Split, device: str = "cpu"
    ) -> None:
        self.configuration, self.network, self.data, self.parts = configuration, network, data, parts
        c = configuration
        self.updater = Updater(c.optimiser, network.parameter_count, c.dtype, **c.hyper)
        self.encoded = {
            name: (np.ascontiguousarray(part.inputs, network.dtype), network.targets(part.labels), part.labels)
            for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        }
        self.device = device
        self._on_device: DeviceData | None = None
        self.history: list[Epoch] = []
        self.snapshot = Snapshot(network.flat.copy(), {}, 0, network.flat.copy())
        self.seconds = 0.0

    def to(self, epochs: int, path: Path | None, on_epoch: Callable[[Epoch], None] | None) -> TrainingResult:
        """Train until ``epochs`` epochs are done or patience is at its end; save to ``path`` whatever happens."""
        started = time.perf_counter()
        try:
            for number in range(len(self.history), epochs + 1):
                if self._out_of_patience():
                    break
                self._epoch(number)
                self.measure(number)
                if on_epoch is not None:
                    on_epoch(self.history[-1])
        except (KeyboardInterrupt, Diverged):
            self.seconds += time.perf_counter() - started
            if path is not None:
                self.result().save(path)
            raise
        self.seconds += time.perf_counter() - started
        result = self.result()
        if path is not None:
            result.save(path)
        return result

    def _epoch(self, number: int) -> None:
        inputs, targets, _ = self.encoded["train"]
        order = np.random.default_rng([self.configuration.seed, 2, number]).permutation(len(inputs))
        if self.device != "cpu":
            self.on_device.epoch(order, self.configuration.batch)
            return
        inputs, targets = inputs[order], targets[order]
        batch = min(self.configuration.batch, len(inputs))
        # Overflow on the way to divergence is found at the end of the epoch, by `measure`, and said once.
        with np.errstate(all="ignore"), blas_threads(self.network.widths, batch):
            for start in range(0, len(inputs), self.configuration.batch):
                part = slice(start, start + self.configuration.batch)
                self.updater.step(self.network.flat, self.network.gradient(inputs[part], targets[part]))

    @property
    def on_device(self) -> DeviceData:
        """The GPU's copy of data and parameters; made when it is first asked for."""
        if self._on_device is None:
            from .cuda_training import DeviceData

            self._on_device = DeviceData(self.network, self.updater, self.encoded)
        return self._on_device

    def _measured(self, name: str) -> list[float]:
        """Mean loss and accuracy over a part."""
        inputs, targets, labels = self.encoded[name]
        evaluated = self.network.evaluate(inputs, targets) if self.device == "cpu" else self.on_device.evaluate(name)
        return [evaluated[0], float(np.mean(self.network.decide(evaluated[1]) == labels))]

    def measure(self, number: int) -> None:
        """Append the epoch's losses and accuracies to the history and take a snapshot, or raise :class:`Diverged`."""
        values: list[float | None] = []
        with np.errstate(all="ignore"):
            for name in ("train", "validation"):
                values += self._measured(name) if len(self.encoded[name][0]) else [None, None]
        finite = all(math.isfinite(value) for value in values if value is not None)
        if not finite or not np.isfinite(self.network.flat).all():
            raise Diverged(self._divergence(number))
        self.history.append(Epoch(number, *values))  # type: ignore[arg-type]
        flat = self.network.flat.copy()
        best = flat if _best_epoch(self.history) == number else self.snapshot.best
        state = {name: array.copy() for name, array in self.updater.state.items()}
        self.snapshot = Snapshot(flat, state, self.updater.steps, best)

    def _divergence(self, number: int) -> str:
        c = self.configuration
        if number == 0:
            return f"the loss is not finite before training: the activation {c.activation} overflows on {c.data}"
        rate = float(self.updater.hyper[KEYWORDS["learning_rate"]])
        return (
            f"training diverged in epoch {number}: the loss or a parameter is no longer finite; "
            f"the learning rate {rate:g} is too large for {c.optimiser} here, lower it"
        )

    def _out_of_patience(self) -> bool:
        patience = self.configuration.patience
        return patience is not None and self.history[-1].number - _best_epoch(self.history) >= patience

    def result(self) -> TrainingResult:
        """The last whole epoch's network (with patience: the best one's), measured on the test part."""
        keeps_best = self.configuration.patience is not None
        self.network.flat[...] = self.snapshot.best if keeps_best else self.snapshot.flat
        encoded = self.encoded["test"]
        loss, accuracy = _measured(self.network, *encoded) if len(encoded[0]) else (None, None)
        parts = self.parts
        return TrainingResult(
            configuration=self.configuration,
            history=tuple(self.history),
            snapshot=self.snapshot,
            classes=self.data.classes,
            mean=parts.mean,
            scale=parts.scale,
            samples=(len(parts.train.rows), len(parts.validation.rows), len(parts.test.rows)),
            data_digest=digest(self.data),
            test_accuracy=accuracy,
            test_loss=loss,
            probability_error=_probability_error(self.network, encoded[0]),
            seconds=self.seconds,
            network=self.network,
        )


def _resumed(
    source: TrainingResult | str | Path, data: Any, epochs: int, path: Path | None, on_epoch: Any, device: str
) -> TrainingResult:
    from .model_files import load

    saved = source if isinstance(source, TrainingResult) else load(source)
    c = saved.configuration
    loaded = data if isinstance(data, Dataset) else dataset(c.data, c.target)
    if digest(loaded) != saved.data_digest:
        raise InputError(f"the data set {loaded.name!r} is not the one that training began on: its numbers differ")
    if epochs < len(saved.history) - 1:
        raise InputError(f"epochs = {epochs}: the run to resume has {len(saved.history) - 1} already")
    network = Network(c.spec, c.activation, c.loss, c.dtype)
    network.flat[...] = saved.snapshot.flat
    run = _Run(c, network, loaded, split(loaded, c.seed, test=c.test, validation=c.validation), device)
    run.history, run.snapshot, run.seconds = list(saved.history), saved.snapshot, saved.seconds
    run.updater.steps = saved.snapshot.steps
    for name, array in saved.snapshot.state.items():
        run.updater.state[name][...] = array
    return run.to(epochs, path, on_epoch)


def digest(data: Dataset) -> str:
    """A fingerprint of the numbers and labels of a data set."""
    return hashlib.sha256(data.inputs.tobytes() + data.labels.tobytes()).hexdigest()[:32]


def _check_widths(network: Network, data: Dataset) -> None:
    inputs, outputs = network.widths[0], network.widths[-1]
    features, classes = data.inputs.shape[1], len(data.classes)
    wanted = "-".join(map(str, (features, *network.widths[1:-1], classes)))
    if inputs != features:
        raise InputError(f"the network takes {inputs} inputs but {data.name} has {features} features: write {wanted}")
    if outputs != classes and not (outputs == 1 and classes == 2):
        raise InputError(f"the network has {outputs} outputs but {data.name} has {classes} classes: write {wanted}")


def _measured(network: Network, inputs: Array, targets: Array, labels: Array) -> list[float]:
    loss, output = network.evaluate(inputs, targets)
    return [loss, float(np.mean(network.decide(output) == labels))]


def _probability_error(network: Network, inputs: Array) -> float | None:
    """The largest distance of a sample's probabilities from the sum 1; None where the outputs are no probabilities."""
    probabilities = network.probabilities(inputs) if len(inputs) else None
    return None if probabilities is None else float(abs(probabilities.sum(axis=1) - 1).max())


def _best_epoch(history: Any) -> int:
    return int(min(history, key=lambda e: math.inf if e.validation_loss is None else e.validation_loss).number)


def _prepared(inputs: Any, mean: Array, scale: Array, dtype: Any) -> Array:
    try:
        raw = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("the inputs must be an array of numbers") from None
    if raw.ndim != 2 or raw.shape[1] != len(mean):
        raise InputError(f"the inputs have shape {raw.shape}: (samples, {len(mean)}) is needed")
    if not np.isfinite(raw).all():
        raise InputError("the inputs hold a value that is NaN or infinite")
    with np.errstate(all="ignore"):
        scaled = np.ascontiguousarray((raw - mean) / scale, dtype)
    if not np.isfinite(scaled).all():
        row, column = np.argwhere(~np.isfinite(scaled))[0]
        raise InputError(f"input {column + 1} of sample {row + 1} is {raw[row, column]:.3g}: too large to be scaled")
    return scaled


def _texts(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The hyper-parameters as exact text, checked against the optimiser's row."""
    row = optimiser(name)
    bound = row.bind(**values)
    return {keyword: str(bound[KEYWORDS[keyword]]) for keyword in row.keywords}


def accuracies(seeds: range, **options: Any) -> list[float]:
    """The test accuracy of :func:`train` for each seed: how much of one number is chance."""
    return [float(train(seed=seed, **options).test_accuracy or 0.0) for seed in seeds]


def as_dict(result: TrainingResult) -> dict[str, Any]:
    """What ``--json`` shows of a result."""
    return {
        **asdict(replace(result.configuration, hyper=dict(result.configuration.hyper))),
        "parameter_count": result.parameter_count,
        "widths": result.network.widths,
        "samples": dict(zip(("train", "validation", "test"), result.samples, strict=True)),
        "classes": result.classes,
        "epochs": len(result.history) - 1,
        "kept_epoch": result.best_epoch,
        "history": [asdict(epoch) for epoch in result.history],
        "test_accuracy": result.test_accuracy,
        "test_loss": result.test_loss,
        "probability_sum_error": result.probability_error,
        "seconds": result.seconds,
    }
