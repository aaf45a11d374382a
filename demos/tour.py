"""``backproof tour``: the whole way on real data, in order, with a report that opens offline.

Derive → prove → compile → check → train → measure. Every line says what kind of statement it makes; an expectation that
is not met is said, and the command ends with status 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import emit, file_path, json_option, seed_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import Report

FORMULA = "x*tanh(log(1+exp(x)))"
TARGET = "sin(2*pi*x) + x/2"


@dataclass
class Guide:
    """Says each statement twice: a line on the terminal, and its place in the report."""

    report: Report
    seed: int
    quiet: bool
    statements: list[dict[str, str]] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """One stage: its heading, and how long it took."""
        if not self.quiet:
            click.secho(f"\n{title}", bold=True)
        self.report.section(title)
        start = time.perf_counter()
        yield
        self.seconds[title] = round(time.perf_counter() - start, 3)

    def say(self, kind: str, text: str, latex: str | None = None) -> None:
        """One statement of a kind (derived, proved, enclosed, refuted, measured, sampled)."""
        self.statements.append({"kind": kind, "text": text})
        self.report.fact(kind, text, latex)
        if not self.quiet:
            click.echo(f"  {kind:9s} " + text.replace("\n", "\n            "))

    def expect(self, met: bool, kind: str, text: str, latex: str | None = None) -> None:
        """A statement of this kind if it is met; otherwise it is recorded as unmet, and the tour ends with status 1."""
        if met:
            self.say(kind, text, latex)
            return
        self.unmet.append(text)
        self.report.text(f"NOT MET: {text}")
        click.secho(f"  NOT MET   {text}", fg="red", err=True)

    def show(self, drawn: Figure, caption: str) -> None:
        """A picture, in the report."""
        self.report.picture(drawn, caption)


def derive_stage(guide: Guide) -> None:
    """An activation typed as a formula, and a table row: derivatives and proven facts."""
    import sympy

    from ..theory.activations import activation
    from ..theory.formula_text import formula_text

    typed = activation(FORMULA)
    derivative = typed.derivative()
    text = f"f(x) = {formula_text(typed.expr)}  ⟹  f′(x) = {formula_text(derivative)}"
    guide.say("derived", text, f"f'(x) = {sympy.latex(derivative)}")
    facts = activation("sigmoid").analysis
    guide.expect(facts.lipschitz.text == "1/4", "proved", "sigmoid: σ′(x) ≤ 1/4 for every real x, reached at x = 0")
    guide.say("proved", f"sigmoid: range {facts.range.text}, {facts.monotonicity.text}, {facts.parity.text}")
    facts = activation("gelu").analysis
    guide.say("enclosed", f"gelu: range {facts.range.text}, the minimum at x = {facts.range.data[0].where.split()[-1]}")
    guide.say("proved", f"gelu: largest slope {facts.lipschitz.text} = {facts.lipschitz.basis.removeprefix('exact: ')}")
    guide.report.text("Every fact of the typed formula:")
    guide.report.table(["fact", "value", "how it is known"], typed.analysis.rows())


def backprop_stage(guide: Guide) -> None:
    """The δ-recursion for any depth, p − y, batch norm's compact gradient, and a network's parameter count."""
    from ..theory.layers import layer
    from ..theory.losses import loss
    from ..theory.networks import network
    from ..theory.recursion import delta_recursion

    theorem = delta_recursion()
    guide.expect(theorem.proved, "proved", "δ-recursion for every depth L, by induction on the layer")
    for line in theorem.latex:
        guide.report.formula(line)
    for title, found in (
        ("softmax with cross-entropy", loss("softmax_cross_entropy").gradient()),
        ("batch norm", layer("batch_norm").vjp("x")),
    ):
        guide.say("derived", f"{title}: {found.matrix()}", found.latex)
        guide.expect(bool(found.proof), "proved", f"{title}: that form equals what the chain rule gave, for all shapes")
    net = network("784-256-128-10")
    guide.say("derived", f"784-256-128-10: {net.parameter_count:,} parameters; training step in NumPy in the report")
    guide.report.code(net.numpy_source(), fold="The training step, as derived")


def kernel_stage(guide: Guide) -> None:
    """Kernels compiled from the formulas, and their error against the exact value."""
    from ..numerics.accuracy import measure_accuracy
    from ..numerics.kernels import kernel

    rows = []
    for spec in ("sigmoid", "gelu", FORMULA):
        compiled = kernel(spec)
        for order in (0, 1):
            measured = measure_accuracy(compiled, n_derivative=order, size=600, seed=guide.seed)
            rows.append(
                (spec, "f" + "′" * order, f"{measured.worst_ulp:.3f}", f"{measured.worst_input:.6g}", measured.points)
            )
            guide.expect(not measured.failures, "measured", _accuracy_line(spec, order, measured))
    guide.report.table(["function", "", "largest error in ULP", "at x =", "points"], rows)
    guide.report.code(kernel(FORMULA, target="numpy").source, fold="The generated source of the last kernel, for NumPy")


def _accuracy_line(spec: str, order: int, measured: Any) -> str:
    return (
        f"{spec}, f{'′' * order}, float64: at most {measured.worst_ulp:.2f} ULP from the exact value "
        f"at {measured.points} adversarial points"
    )


EXAMPLE = {
    "X": "X=3,4", "W1": "W1=4,5", "b1": "b1=5", "W2": "W2=5,3", "b2": "b2=3",
}  # fmt: skip
MISTAKES = ("forgot_batch_mean", "missing_relu_mask", "bias_wrong_axis", "wrong_sign", "forgot_max_shift")


def check_stage(guide: Guide) -> None:
    """Hand-coded backprop judged: the right example proved, classic mistakes refuted."""
    from .check import run

    folder = Path(__file__).parent / "examples"

    def judge(file: str, name: str) -> Any:
        path = folder / file
        return run(
            f"{path}::{name}", f"{path}::forward", shapes=tuple(EXAMPLE.values()), one_hot=("Y=3,3",),
            wrt="W1,b1,W2,b2", seed=guide.seed,
        )  # fmt: skip

    right = judge("two_layer_softmax.py", "backward")
    guide.expect(right.passed, "proved", f"two_layer_softmax.py::backward — {right.formula}")
    for name in MISTAKES:
        result = judge("two_layer_softmax_wrong.py", name)
        if result.formula.failed:
            guide.say("refuted", "\n".join(str(result).split("\n")[:4]))
        else:
            guide.expect(
                result.domain.failed, "measured", f"{name}: right over the reals, wrong in floats\n  {result.domain}"
            )
    first = judge("two_layer_softmax_wrong.py", MISTAKES[0])
    guide.report.code(str(first), fold="The first refutation in full, as the command prints it")


def train_stage(guide: Guide) -> None:
    """Networks trained by the derived gradients on scikit-learn's Iris and digits."""
    from ..numerics.training import train
    from .train import picture

    iris = train("4-16-3", "iris", seed=guide.seed)
    guide.say("measured", f"4-16-3 on iris: test accuracy {iris.test_accuracy:.4f} (seed {guide.seed})")
    guide.show(picture(iris), f"Iris: {iris.text.splitlines()[-2]}")
    digits = train("784-256-128-10", "digits28", epochs=6, batch=32, seed=guide.seed)
    sums = digits.predict_proba(digits_inputs()).sum(axis=1)
    guide.say(
        "measured",
        f"784-256-128-10 on digits enlarged to 28×28: {digits.parameter_count:,} parameters, "
        f"test accuracy {digits.test_accuracy:.4f}; probabilities sum to 1 within {abs(sums - 1).max():.1e}",
    )
    guide.show(picture(digits), "Digits, enlarged to 28 × 28 pixels")


def digits_inputs() -> Any:
    """The enlarged digits."""
    from ..numerics.data import dataset

    return dataset("digits28").inputs


def perceptron_stage(guide: Guide) -> None:
    """Rosenblatt's rule on AND, OR and XOR: learned within Novikoff's bound, or proved impossible."""
    from ..numerics.perceptron import run_perceptron
    from ..theory.perceptron import Separation, gate, separability
    from .perceptron import picture

    for name in ("and", "or", "xor"):
        problem = gate(name)
        verdict, run = separability(problem), run_perceptron(problem)
        caption = (
            "separable"
            if isinstance(verdict, Separation)
            else "not separable; the star lies in the hull of both classes"
        )
        if isinstance(verdict, Separation):
            bound = verdict.mistake_bound
            text = f"{name.upper()}: learned after {run.mistakes} mistakes, within Novikoff's bound {bound}"
            guide.expect(verdict.holds and run.mistakes <= bound, "proved", text)
        else:
            guide.expect(verdict.holds and run.outcome == "cycle", "proved", f"{name.upper()}: {verdict.text}")
        guide.show(picture(name, verdict, run, ("x₁", "x₂")), f"{name.upper()}: {caption}")


def propagation_stage(guide: Guide) -> None:
    """Variance through 50 layers, forward and backward: predicted and measured."""
    from .propagate import picture, run

    for name, initialiser in (("relu", "he_normal"), ("tanh", "glorot_normal")):
        result = run(name, initialiser, depth=50, seed=guide.seed)
        guide.say("measured", result.headline)
        guide.show(picture(result), f"{name} with {initialiser}: variance through 50 layers")


def approximation_stage(guide: Guide) -> None:
    """A typed target approximated by constructed networks: the theorem's bound beside the sampled error."""
    from ..numerics.approximation import sample
    from ..numerics.certificates import certify
    from ..theory.approximation import approximate
    from ..theory.staircases import bump
    from .uat import above, approximation_picture, assembled, assembly_picture, bump_picture

    built = bump("sigmoid", "0.4", "0.6", "200")
    guide.show(bump_picture(built), "A bump: the difference of two steep units")
    guide.show(assembly_picture(assembled(TARGET)), "Bumps, and their sum")
    for name, epsilon in (("sigmoid", "0.05"), ("relu", "0.01")):
        found = approximate(TARGET, name, epsilon=epsilon)
        sampled = sample(found)
        text = f"{TARGET} by {found.network.units} {name} units: |F − f| ≤ {above(found.bound)} on [0, 1]"
        guide.expect(sampled.largest <= float(found.bound), "proved", text)
        guide.say(
            "sampled", f"largest error of its float64 kernel at {len(sampled.points)} points: {sampled.largest:.3g}"
        )
        certificate = certify(found) if name == "relu" else None
        guide.show(
            approximation_picture(found, sampled, certificate), f"{TARGET} with {name} units: {found.network.units}"
        )


#: The stages in order; adding one is one row.
STAGES: tuple[tuple[str, Callable[[Guide], None]], ...] = (
    ("Derive: an activation typed as a formula", derive_stage),
    ("Prove: backpropagation for every depth and shape", backprop_stage),
    ("Compile: kernels, measured against the exact value", kernel_stage),
    ("Check: hand-coded backprop, right and wrong", check_stage),
    ("Train: networks from derived gradients, on real data", train_stage),
    ("Perceptron: what one line can and cannot separate", perceptron_stage),
    ("Propagate: variance through 50 layers", propagation_stage),
    ("Approximate: networks constructed with a bound", approximation_stage),
)


@click.command("tour")
@click.option(
    "--output", "-o", default="backproof-report.html", show_default=True, callback=file_path, metavar="FILE",
    help="Where to write the report.",
)  # fmt: skip
@seed_option
@json_option
@click.pass_context
def command(context: click.Context, output: Path, seed: int, as_json: bool) -> None:
    """Go the whole way once, on real data: derive, prove, compile, check, train, measure; write a report.

    The report is one HTML file that opens offline. Exit status 1 if anything that should hold did not.
    """
    guide = run_tour(seed, quiet=as_json)
    guide.report.write(output)
    total = sum(guide.seconds.values())
    if not as_json:
        click.echo(f"\n{len(guide.statements)} statements in {total:.1f} s; report: {output}")
    else:
        data = {"statements": guide.statements, "unmet": guide.unmet, "seconds": guide.seconds, "report": str(output)}
        emit(data, True, "")
    if guide.unmet:
        context.exit(1)


def run_tour(seed: int = 0, *, quiet: bool = False) -> Guide:
    """Run every stage and return what was said, with the report."""
    from .report import Report

    lead = (
        "Formulas derived, proved, compiled, checked, trained and measured; every statement says of which kind it is."
    )
    guide = Guide(Report("backproof: derive it, prove it, run it", lead), seed, quiet)
    for title, stage in STAGES:
        with guide.stage(title):
            stage(guide)
    return guide
