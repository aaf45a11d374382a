"""``backproof propagate``: variance through a deep network, predicted by the infinite-width theory and measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .options import emit, json_option, output_option, progress, seed_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from ..numerics.propagation import Profile, Propagation

WIDTH, DEPTH = 256, 50
_DECADE = math.log(10)
#: Less than this many decades from the first layer to the last is called "stays".
_STAYS = math.log10(1.25)
#: From this standard deviation of log(value) over the networks it is said that they differ.
_WIDE = math.log(10)


@dataclass(frozen=True)
class Result:
    """A measured propagation, and how it is told."""

    propagation: Propagation

    @property
    def headline(self) -> str:
        """One line: what the theory predicts at the last and the first layer, and what was measured."""
        p = self.propagation
        forward, backward = p.preactivation, p.gradient
        course = _course(forward.log_predicted[0], forward.log_predicted[-1])
        start = _decimal(forward.log_predicted[0])
        path = f"stays at {start}" if course == "stays" else f"{course} from {start}"
        layers = f"{p.depth} layer{'s' if p.depth > 1 else ''}"
        return (
            f"{p.prediction.activation}, {p.prediction.initialiser}: E z² {path} through {layers} "
            f"(predicted {_decimal(forward.log_predicted[-1])}, {_measured(forward, -1)}); E δ² "
            f"{_course(0.0, backward.log_predicted[0])} on the way back "
            f"(predicted ×{_decimal(backward.log_predicted[0])}, {_measured(backward, 0, '×')}); "
            f"forward {forward_words(p)}, backward {backward_words(p)}; {_agreement(p)}"
        )

    @property
    def text(self) -> str:
        """Several lines for a person: headline, a few layers, outcomes by z-score, finite width."""
        p = self.propagation
        lines = [self.headline, "", *_table(p), ""]
        lines += [_outcome(profile) for profile in p.profiles]
        lines += _finite_width(p)
        lines.append(
            f"{p.networks} networks of width {_widths(p)}, batch {p.batch}, seed {p.seed}; 95 % intervals over networks"
        )
        return "\n".join(lines)

    @property
    def data(self) -> dict[str, Any]:
        """Everything as plain data; every value also as its logarithm to base 10, which never overflows."""
        p = self.propagation
        return {
            "activation": p.prediction.activation,
            "initialiser": p.prediction.initialiser,
            "depth": p.depth,
            "widths": list(p.widths),
            "bias_variance": p.bias_variance,
            "input_variance": p.input_variance,
            "networks": p.networks,
            "batch": p.batch,
            "seed": p.seed,
            "prediction": {"status": p.prediction.status, "digits": p.prediction.digits},
            "verdict": {"forward": p.forward, "backward": p.backward},
            "agrees": p.agrees,
            "agreement": p.outcome,
            "outcome": {profile.what: profile.outcome for profile in p.profiles},
            "second_moment_ratio": {
                "measured": p.measured_ratio,
                "predicted": None if p.predicted_ratio is None else float(p.predicted_ratio.mid()),
            },
            "layers": [_layer_data(p, index) for index in range(p.depth)],
        }


def run(
    activation: str,
    initialiser: str,
    depth: int = DEPTH,
    seed: int = 0,
    *,
    width: int = WIDTH,
    networks: int | None = None,
    batch: int | None = None,
    bias_variance: Any = 0,
    input_variance: Any = 1,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Predict and measure ``depth`` layers of ``width`` units; raises :class:`InputError` for a wrong argument."""
    from ..numerics.propagation import BATCH, MAX_DEPTH, NETWORKS, measure
    from ..theory.errors import InputError

    if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
        raise InputError(f"depth must be an integer from 1 to {MAX_DEPTH}, not {depth}")
    measured = measure(
        activation, initialiser, [width] * (depth + 1), bias_variance=bias_variance, input_variance=input_variance,
        networks=NETWORKS if networks is None else networks, batch=BATCH if batch is None else batch, seed=seed,
        progress=progress,
    )  # fmt: skip
    return Result(measured)


@click.command("propagate")
@click.option("--activation", default="relu", show_default=True, help="A row, or a formula in x.")
@click.option("--initialiser", default="he_normal", show_default=True, help="A name: `backproof list`.")
@click.option("--depth", type=int, default=DEPTH, show_default=True, help="Layers.")
@click.option("--width", type=int, default=WIDTH, show_default=True, help="Units of every layer, and inputs.")
@click.option("--networks", type=int, help="Independent networks to draw (default: 32).")
@click.option("--batch", type=int, help="Inputs sent through each network (default: 16).")
@click.option("--bias-variance", default="0", show_default=True, help="Variance of the biases.")
@click.option("--input-variance", default="1", show_default=True, help="Mean square of the inputs.")
@seed_option
@json_option
@output_option
def command(
    activation: str,
    initialiser: str,
    depth: int,
    width: int,
    networks: int | None,
    batch: int | None,
    bias_variance: str,
    input_variance: str,
    seed: int,
    as_json: bool,
    output: Any,
) -> int:
    """Predict the variance of signals and gradients at every layer, and measure it in networks drawn at random.

    PREDICTED values are proven for infinite width; MEASURED ones are of this width and carry a 95 % interval. Exit
    status 1 if a layer contradicts the theory beyond chance (|z| > 4) and beyond what its width explains, or if a layer
    could not be judged (its numbers overflow float64, or are 0 in some networks only).
    """
    total = 2 * max(depth, 1) * (networks or 32)
    with progress("propagating", total) as advance:
        result = run(
            activation, initialiser, depth, seed, width=width, networks=networks, batch=batch,
            bias_variance=bias_variance, input_variance=input_variance, progress=advance,
        )  # fmt: skip
    if output is not None:
        from .pictures import save

        save(picture(result), output)
    emit(result.data, as_json, lambda: result.text)
    return 0 if result.propagation.agrees else 1


# --- How it is told ---------------------------------------------------------------------------------------------------


def _decimal(log: float, digits: int = 4) -> str:
    """e^log as a short decimal, however large or small."""
    if math.isnan(log):
        return "–"
    if math.isinf(log):
        return "0" if log < 0 else "overflow"
    if abs(log) < 690:
        return f"{math.exp(log):.{digits}g}"
    exponent = math.floor(log / _DECADE)
    return f"{math.exp(log - exponent * _DECADE):.{digits - 1}f}e{exponent:+d}"


def _course(first: float, last: float) -> str:
    """What a positive quantity does on its way: "stays", "rises", "falls", "vanishes" or "explodes"."""
    if math.isinf(last):
        return "vanishes" if last < 0 else "explodes"
    decades = (last - first) / _DECADE
    return "stays" if abs(decades) < _STAYS else "rises" if decades > 0 else "falls"


def forward_words(p: Propagation) -> str:
    """What the theory says of E z² from the first layer to the last."""
    logs = p.preactivation.log_predicted
    return _words(p.forward, _course(logs[0], logs[-1]))


def backward_words(p: Propagation) -> str:
    """What the theory says of E δ² from the last layer to the first."""
    return _words(p.backward, _course(0.0, p.gradient.log_predicted[0]))


def _words(verdict: str, course: str) -> str:
    """The verdict in words that fit the course: "stable" stands for any change by less than a factor of 10.

    >>> _words("stable", "stays"), _words("stable", "falls"), _words("vanishing", "falls")
    ('stable', 'falling (by less than a factor of 10)', 'vanishing')
    """
    mild = {"rises": "rising", "falls": "falling"}
    return f"{mild[course]} (by less than a factor of 10)" if verdict == "stable" and course in mild else verdict


def _measured(profile: Profile, index: int, times: str = "") -> str:
    """ "measured 2 [1.96, 2.04]", or that nothing was measured and why."""
    if math.isnan(profile.log_measured[index]):
        return f"not measured: {_missing(profile, index)}"
    value, interval = _decimal(profile.log_measured[index], 3), _range(profile, index)
    return f"measured {times}{value}" + ("" if interval == "–" else f" [{interval}]")


def _missing(profile: Profile, index: int) -> str:
    """Why a layer has no measured value: some network overflowed, or some gave exactly 0."""
    return "overflow" if any(log == math.inf or math.isnan(log) for log in profile.logs[:, index]) else "partly 0"


def _range(profile: Profile, index: int) -> str:
    """The confidence interval; "–" where the value is exact or was not measured."""
    low, high = (end[index] for end in profile.interval)
    if not (math.isfinite(low) and math.isfinite(high)) or high - low < 1e-9:
        return "–"
    return f"{_decimal(low, 3)}, {_decimal(high, 3)}"


#: How each outcome is told.
_AGREEMENT = {
    "agrees": "theory and measurement agree",
    "agrees up to finite width": "theory and measurement agree up to finite width",
    "differs": "theory and measurement differ at this width",
}


def _agreement(p: Propagation) -> str:
    if p.outcome in _AGREEMENT:
        return _AGREEMENT[p.outcome]
    missing = max(int((~profile.judged).sum()) for profile in p.profiles)
    return f"agreement not decided: up to {missing} of {p.depth} layers could not be judged"


def _shown(depth: int) -> list[int]:
    """About a dozen layers, the first and the last among them."""
    step = max(1, math.ceil(depth / 10))
    return sorted({0, *range(step - 1, depth, step), depth - 1})


_COLUMNS = ("predicted", "measured", "95 % interval")


def _table(p: Propagation) -> list[str]:
    """About a dozen layers; every column as wide as its longest number, two spaces between any two."""
    shown = _shown(p.depth)
    rows = [[_cells(profile, index) for index in shown] for profile in (p.preactivation, p.gradient)]
    groups, columns, lines = "", "layer", [f"{index + 1:5d}" for index in shown]
    for title, cells in zip(("E z²", "E δ²"), rows, strict=True):
        widths = [max(11, len(name), *(len(row[k]) for row in cells)) for k, name in enumerate(_COLUMNS)]
        groups += f"  {title:^{sum(widths) + 4}}"
        columns += "".join(f"  {name:>{width}}" for name, width in zip(_COLUMNS, widths, strict=True))
        for at, row in enumerate(cells):
            lines[at] += "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True))
    return [f"{'':5}{groups}".rstrip(), columns, *lines]


def _cells(profile: Profile, index: int) -> tuple[str, str, str]:
    log = profile.log_measured[index]
    measured = _missing(profile, index) if math.isnan(log) else _decimal(log, 3)
    return _decimal(profile.log_predicted[index]), measured, _range(profile, index)


def _outcome(profile: Profile) -> str:
    index = profile.worst
    if index is None:
        return f"{profile.what}: {profile.outcome}"
    left_out = int((~profile.judged).sum())
    layers = f"{left_out} of {profile.judged.size} layers"
    tail = f"; {layers} not judged (overflow, or 0 in some networks only)" if left_out else ""
    return f"{profile.what}: {profile.outcome}; largest |z| = {abs(profile.z[index]):.2f}, at layer {index + 1}{tail}"


def _finite_width(p: Propagation) -> list[str]:
    lines = []
    if p.predicted_ratio is not None:
        predicted = float(p.predicted_ratio.mid())
        lines.append(
            f"finite width: E[S²]/(E S)² of S = Σ a² at the last layer is {predicted:.4g} exactly "
            f"(1 at infinite width), measured {p.measured_ratio:.4g}"
            + (f": rarer networks than 1 in {p.networks} make most of it" if predicted > p.networks / 4 else "")
        )
    spread = max(profile.spread for profile in p.profiles)
    if spread > _WIDE:
        lines.append(
            f"the networks differ from each other by factors around {math.exp(spread):.2g}: at this width and depth a "
            "single network follows no average"
        )
    return lines


def _widths(p: Propagation) -> str:
    return str(p.widths[1]) if len(set(p.widths)) == 1 else "-".join(map(str, p.widths))


def _layer_data(p: Propagation, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {"layer": index + 1}
    for name, profile in (("preactivation", p.preactivation), ("activation", p.activation), ("gradient", p.gradient)):
        low, high = (float(end[index]) for end in profile.interval)
        logs = {
            "predicted": float(profile.log_predicted[index]),
            "measured": float(profile.log_measured[index]),
            "low": low,
            "high": high,
        }
        found[name] = {
            **{key: _value(log) for key, log in logs.items()},
            "log10": {key: _finite(log / _DECADE) for key, log in logs.items()},
            "z": _finite(float(profile.z[index])),
        }
    return found


def _value(log: float) -> float | str | None:
    """e^log as a number where float64 has it, else as decimal text; null where nothing was measured."""
    if math.isnan(log) or log == math.inf:
        return None
    return math.exp(log) if log == -math.inf or abs(log) < 700 else _decimal(log, 6)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def picture(result: Result) -> Figure:
    """E z² and E δ² against depth: the theory as a line, what was measured as points with their interval."""
    from .propagate_picture import draw

    return draw(result.propagation)
