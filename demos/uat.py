"""``backproof uat``: networks built from a formula, with a proven error bound and the sampled error beside it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from ..theory.approximation import CONSTRUCTIONS, Approximation, approximate
from ..theory.errors import InputError, Unsupported
from ..theory.gates import Hinge
from ..theory.interpolation import interpolation_barrier
from ..theory.staircases import Bump, bump
from ..theory.supremum import above, below, readable
from .options import emit, json_option, output_option, progress

if TYPE_CHECKING:
    from ..numerics.approximation import Sampled
    from ..numerics.certificates import Certificate

DTYPES = ("float64", "float32")

interval_option = click.option("--interval", default="0,1", show_default=True, help="The interval a,b of the target.")
activation_option = click.option(
    "--activation", default="sigmoid", show_default=True, help="A name from `backproof list`, or a formula in x."
)


@click.group()
def command() -> None:
    """Universal approximation: networks constructed from a formula, with a bound that holds everywhere.

    PROVED bounds are theorems about real arithmetic; CERTIFIED ones hold for the float weights that ran; SAMPLED errors
    are the largest of finitely many points, and never more than that.
    """


@command.command("approximate")
@click.argument("target")
@click.option("--epsilon", help="The error wanted, everywhere on the interval.")
@click.option("--units", type=int, help="The number of hidden units, instead of --epsilon.")
@activation_option
@click.option("--construction", help="One of: " + ", ".join(CONSTRUCTIONS) + ". Default: the first that fits.")
@interval_option
@click.option("--samples", type=int, help="How many points to sample (default: a few thousand).")
@click.option("--certify/--no-certify", default=None, help="Certify the float64 network (default: for ReLU-like ones).")
@click.option(
    "--budget", type=click.IntRange(16, 1_000_000), default=20_000, show_default=True, help="Boxes to certify."
)
@json_option
@output_option
def approximate_command(
    target: str,
    epsilon: str | None,
    units: int | None,
    activation: str,
    construction: str | None,
    interval: str,
    samples: int | None,
    certify: bool | None,
    budget: int,
    as_json: bool,
    output: Any,
) -> int:
    """Build a one-hidden-layer network within EPSILON of TARGET, a formula in x such as "sin(2*pi*x)"."""
    if epsilon is None and units is None:
        epsilon = "0.01"
    with progress("building the network", None):
        built = approximate(
            target, activation, epsilon=epsilon, units=units, construction=construction, interval=interval
        )
    sampled = {dtype: _sample(built, dtype, samples) for dtype in DTYPES}
    certificate, undecided = _certificate(built, certify, budget)
    if output is not None:
        from .pictures import save

        save(approximation_picture(built, sampled["float64"], certificate), output)
    within = _goal(built, epsilon)
    emit(
        approximation_data(built, sampled, certificate, undecided),
        as_json,
        lambda: approximation_text(built, sampled, certificate, undecided),
    )
    return 0 if sampled["float64"].largest <= within else 1


@command.command("bump")
@activation_option
@click.option("--left", default="0.4", show_default=True, help="Left face of the bump.")
@click.option("--right", default="0.6", show_default=True, help="Right face of the bump.")
@click.option("--steepness", default="200", show_default=True, help="Weight w of the two units.")
@json_option
@output_option
def bump_command(activation: str, left: str, right: str, steepness: str, as_json: bool, output: Any) -> None:
    """The difference of two steep units: nearly 1 between its faces, nearly 0 outside."""
    built = bump(activation, left, right, steepness)
    if output is not None:
        from .pictures import save

        save(bump_picture(built), output)
    emit(bump_data(built), as_json, lambda: bump_text(built))


@command.command("assemble")
@click.argument("target")
@click.option("--cells", type=click.IntRange(2, 200), default=16, show_default=True, help="How many bumps.")
@activation_option
@interval_option
@json_option
@output_option
def assemble_command(target: str, cells: int, activation: str, interval: str, as_json: bool, output: Any) -> None:
    """Unit, bump, bumps, sum: how the network for TARGET is put together."""
    built = assembled(target, activation, cells, interval)
    if output is not None:
        from .pictures import save

        save(assembly_picture(built), output)
    sampled = {dtype: _sample(built, dtype, None) for dtype in DTYPES}
    emit(
        approximation_data(built, sampled, None, None),
        as_json,
        lambda: approximation_text(built, sampled, None, None),
    )


@command.command("constructions")
@json_option
def constructions_command(as_json: bool) -> None:
    """The constructions, each with its theorem."""
    rows = [
        {"name": r.name, "title": r.title, "theorem": r.theorem, "rate": r.rate, "citation": r.citation}
        for r in CONSTRUCTIONS.values()
    ]
    emit(
        {"constructions": rows},
        as_json,
        lambda: "\n".join(f"{r['name']}: {r['title']}, {r['rate']}\n  {r['theorem']}\n  {r['citation']}" for r in rows),
    )


def assembled(target: str, activation: str = "sigmoid", cells: int = 16, interval: str = "0,1") -> Approximation:
    """The network with that many bumps, for the picture of how it is put together."""
    from ..theory.approximation import choose

    row, _ = choose(activation, None)
    return approximate(
        target, activation, units=max(1, cells + row.extra_units), construction=row.name, interval=interval
    )


# --- What is said ---------------------------------------------------------------------------------------------------


def approximation_data(
    built: Approximation,
    sampled: dict[str, Sampled],
    certificate: Certificate | None = None,
    undecided: str | None = None,
) -> dict[str, Any]:
    """Everything as plain data; exact numbers as fractions, and as floats rounded to the safe side."""
    net, barrier = built.network, _barrier(built)
    return {
        "target": built.target.text,
        "interval": [str(built.target.a), str(built.target.b)],
        "activation": net.activation.name,
        "construction": built.construction.name,
        "theorem": built.construction.theorem,
        "units": net.units,
        "proved": {
            "bound": float_above(built.bound),
            "exact": str(built.bound),
            "terms": [{"name": t.name, "formula": t.formula, "value": float_above(t.value)} for t in built.terms],
            "facts": {name: float(value) for name, value in built.facts.items()},
            "about": "every real x of the interval, real arithmetic, exact weights",
        },
        "lower_bound": None if barrier is None else {"pieces": barrier[0], "value": float_below(barrier[1])},
        "certified": _certificate_data(certificate) if certificate else None,
        "not_decided": undecided,
        "sampled": {
            dtype: {"largest": s.largest, "where": s.where, "points": int(s.points.size), "about": "not a proof"}
            for dtype, s in sampled.items()
        },
        "network": {
            "form": "F(x) = offset + sum_k outer[k] * activation(weights[k] * (x - knots[k]) + shift)",
            "offset": str(net.offset),
            "shift": str(net.shift),
            "knots": [str(v) for v in net.knots],
            "weights": [str(v) for v in net.weights],
            "outer": [str(v) for v in net.outer],
        },
    }


def approximation_text(
    built: Approximation,
    sampled: dict[str, Sampled],
    certificate: Certificate | None = None,
    undecided: str | None = None,
) -> str:
    """The same for a person, each number under the word that says what it is."""
    f, net = built.target, built.network
    # L is a proven upper bound of sup|f′|, the other facts are numbers chosen.
    facts = ", ".join(
        f"{name} = {above(value, 6) if name == 'L' else readable(value)}" for name, value in built.facts.items()
    )
    terms = " + ".join(f"{above(t.value)} ({t.name}: {t.formula})" for t in built.terms if t.value) or "exact"
    lines = [
        ("target", f"{f.text} on [{readable(f.a)}, {readable(f.b)}]"),
        ("network", f"{built.construction.title}: {net.units} {net.activation.name} units, one hidden layer; {facts}"),
        ("PROVED", f"|F − f| ≤ {above(built.bound)} for every real x in the interval"),
        ("", f"= {terms}"),
    ]
    barrier = _barrier(built)
    if barrier is not None:
        lines.append(
            ("PROVED", f"no piecewise-linear function with {barrier[0]} pieces gets below {below(barrier[1])}")
        )
    if certificate is not None:
        lines.append(("CERTIFIED", _certificate_text(certificate)))
        lines += [("", _total_text(certificate))] if certificate.total is not None else []
    if undecided:
        lines.append(("not decided", undecided))
    for dtype, s in sampled.items():
        lines.append(
            ("SAMPLED", f"{dtype}: {s.largest:.3g} at x = {s.where:.6g}, the largest of {s.points.size} points")
        )
    return "\n".join(f"{label:<12}{text}" for label, text in lines)


def bump_data(built: Bump) -> dict[str, Any]:
    """The bump's weights and how far it is from its indicator, proven at several margins."""
    return {
        "activation": built.network.activation.name,
        "left": str(built.left),
        "right": str(built.right),
        "steepness": str(built.steepness),
        "proved": [{"margin": float_above(m), "within": float_above(built.leak(m))} for m in _margins(built)],
        "network": {"offset": str(built.network.offset), "outer": [str(v) for v in built.network.outer]},
    }


def _margins(built: Bump) -> list[Fraction]:
    """The distances from a face at which the bump is bounded."""
    return [(built.right - built.left) / k for k in (4, 10, 20)]


def bump_text(built: Bump) -> str:
    """The same for a person."""
    name = built.network.activation.name
    low, high, w = readable(built.left), readable(built.right), readable(built.steepness)
    lines = [f"bump        S({w}(x − {low})) − S({w}(x − {high})), S the {name} scaled to rise from 0 to 1"]
    for margin in _margins(built):
        within = above(built.leak(margin), 3)
        lines.append(f"PROVED      within {within} of 1 inside, of 0 outside, {above(margin)} or more from a face")
    return "\n".join(lines)


def _certificate_data(c: Certificate) -> dict[str, Any]:
    return {
        "dtype": c.dtype,
        "upper": float_above(c.upper),
        "lower": float_below(c.lower),
        "where": float(c.where),
        "rounding": None if c.rounding is None else float_above(c.rounding),
        "total": None if c.total is None else float_above(c.total),
        "boxes": c.boxes,
        "method": c.method,
        "about": "real arithmetic with the float weights; total also bounds the float evaluation",
    }


def _certificate_text(c: Certificate) -> str:
    return (
        f"{below(c.lower)} ≤ sup|F̂ − f| ≤ {above(c.upper)} for the {c.dtype} weights in real arithmetic "
        f"({c.boxes} boxes: {c.method})"
    )


def _total_text(c: Certificate) -> str:
    total, rounding = (above(value or Fraction(0)) for value in (c.total, c.rounding))
    return f"≤ {total} for the {c.dtype} kernel too: rounding adds at most {rounding}"


def _barrier(built: Approximation) -> tuple[int, Fraction] | None:
    """Piecewise-linear networks: n units make at most n + 1 pieces, and no such function gets below this."""
    if not isinstance(_part(built), Hinge) or _part(built).gap:
        return None
    pieces = built.network.units + 1
    value = interpolation_barrier(built.target, pieces)
    return (pieces, value) if value > 0 else None


def _part(built: Approximation) -> Any:
    return built.construction.prepare(built.network.activation)


def _goal(built: Approximation, epsilon: str | None) -> float:
    """What the floats must keep: ε, or the proven bound with float64's rounding allowed for."""
    from ..theory.target import rational

    if epsilon is not None:
        return float(rational(epsilon, "epsilon"))
    return float_above(built.bound) + 1e-9 * (1 + float(built.target.lipschitz.upper * built.target.length))


def _sample(built: Approximation, dtype: str, count: int | None) -> Sampled:
    from ..numerics.approximation import sample, sample_points

    with progress(f"choosing points in {dtype}", None):
        points = sample_points(built, dtype, count).size
    with progress(f"sampling in {dtype}", points) as advance:
        return sample(built, dtype, count=count, advance=advance)


def _certificate(built: Approximation, wanted: bool | None, budget: int) -> tuple[Certificate | None, str | None]:
    """The certificate, or why it is not decided; by default only where it is cheap."""
    part = _part(built)
    cheap = isinstance(part, Hinge) and built.network.units <= (200 if part.gap else 2_000)
    if wanted is False or (wanted is None and not cheap):
        return None, None
    from ..numerics.certificates import certify

    try:
        with progress("certifying", budget) as advance:
            return certify(built, budget=budget, advance=advance), None
    except Unsupported as error:
        return None, f"{error}; a larger --budget may help"


def float_above(value: Fraction) -> float:
    """The least float that is not below the value."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def float_below(value: Fraction) -> float:
    """The greatest float that is not above the value."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


# --- What is drawn --------------------------------------------------------------------------------------------------


def approximation_picture(built: Approximation, sampled: Sampled, certificate: Certificate | None = None) -> Any:
    """Target, network and the proven band above; the error under its ceiling below."""
    from .uat_pictures import approximation_picture as draw

    return draw(built, sampled, certificate)


def assembly_picture(built: Approximation) -> Any:
    """Unit, bump, weighted bumps, sum."""
    from .uat_pictures import assembly_picture as draw

    return draw(built)


def bump_picture(built: Bump) -> Any:
    """The bump, and flatter ones, with its two steps."""
    from .uat_pictures import bump_picture as draw

    return draw(built)


__all__ = [
    "InputError",
    "above",
    "approximation_data",
    "approximation_picture",
    "approximation_text",
    "assembled",
    "assembly_picture",
    "below",
    "bump_data",
    "bump_picture",
    "bump_text",
    "command",
]
