"""Trained networks on disk: safetensors with the configuration in its header. Nothing is unpickled, nothing is
executed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..theory.errors import InputError
from .files import write_whole
from .network import Network
from .training import Configuration, Epoch, Snapshot, TrainingResult

FORMAT = "backproof network 1"


def save(result: TrainingResult, path: str | Path) -> Path:
    """Write ``result`` to ``path``: W1, b1, … under their names, what training goes on from under ``resume.``."""
    from safetensors.numpy import save as serialise

    result.network.require_savable()
    snapshot = result.snapshot
    arrays = dict(result.parameters)
    arrays |= {"resume.flat": snapshot.flat, "resume.best": snapshot.best, "mean": result.mean, "scale": result.scale}
    arrays |= {f"resume.state.{name}": array for name, array in snapshot.state.items()}
    header = {
        "configuration": {**asdict(result.configuration), "hyper": dict(result.configuration.hyper)},
        "history": [asdict(epoch) for epoch in result.history],
        "steps": snapshot.steps,
        "classes": result.classes,
        "samples": result.samples,
        "data_digest": result.data_digest,
        "test_accuracy": result.test_accuracy,
        "test_loss": result.test_loss,
        "probability_error": result.probability_error,
        "seconds": result.seconds,
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return write_whole(path, serialise(contiguous, metadata={"format": FORMAT, "backproof": json.dumps(header)}))


def load(path: str | Path) -> TrainingResult:
    """Read a file written by :func:`save`; anything else raises :class:`InputError`."""
    header, arrays = _read(Path(path))
    try:
        configuration = Configuration(**header["configuration"])
        history = tuple(Epoch(**epoch) for epoch in header["history"])
        network = Network(configuration.spec, configuration.activation, configuration.loss, configuration.dtype)
        network.set_parameters(arrays)
        prefix = "resume.state."
        state = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        snapshot = Snapshot(arrays["resume.flat"], state, int(header["steps"]), arrays["resume.best"])
        train, validation, test = (int(count) for count in header["samples"])
        if any(a.shape != network.flat.shape for a in (snapshot.flat, snapshot.best, *state.values())) or not history:
            raise InputError(f"cannot read {str(path)!r}: its arrays do not fit the network {configuration.spec}")
        return TrainingResult(
            configuration=configuration,
            history=history,
            snapshot=snapshot,
            classes=tuple(map(str, header["classes"])),
            mean=arrays["mean"],
            scale=arrays["scale"],
            samples=(train, validation, test),
            data_digest=str(header["data_digest"]),
            test_accuracy=header["test_accuracy"],
            test_loss=header["test_loss"],
            probability_error=header["probability_error"],
            seconds=float(header["seconds"]),
            network=network,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {str(path)!r}: it was not written by backproof, or is damaged") from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb"):  # safetensors reports a missing file in its own words
            pass
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (not a dict)
        if metadata.get("format") != FORMAT:
            raise InputError(f"cannot read {str(path)!r}: it is not a network saved by backproof")
        return json.loads(metadata["backproof"]), arrays
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except (SafetensorError, KeyError, json.JSONDecodeError):
        raise InputError(f"cannot read {str(path)!r}: it is not a safetensors file saved by backproof") from None
