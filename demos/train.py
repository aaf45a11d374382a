"""``backproof train``: train a network whose gradients were derived, on real data or a person's own file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..theory.errors import InputError
from .options import emit, file_path, json_option, output_option, progress, seed_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..numerics.training import TrainingResult


def _hyper(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, number = value.partition("=")
        if not equals:
            raise InputError(f"--set {value!r}: write NAME=VALUE, such as momentum=0.9")
        found[name.strip()] = number.strip()
    return found


@click.command()
@click.argument("spec", metavar="WIDTHS")
@click.option(
    "--data", default="iris", show_default=True, metavar="NAME|FILE", help="Data set, or a .csv or .npz file."
)
@click.option("--target", metavar="COLUMN", help="Column of the CSV file that holds the label (default: the last).")
@click.option("--activation", default="relu", show_default=True, metavar="NAME|FORMULA", help="Hidden activation.")
@click.option("--loss", default="softmax_cross_entropy", show_default=True, metavar="NAME", help="Loss.")
@click.option("--optimiser", default="adam", show_default=True, metavar="NAME", help="Update rule.")
@click.option("--learning-rate", metavar="NUMBER", help="Learning rate (default: the optimiser's own).")
@click.option("--set", "hyper", multiple=True, callback=_hyper, metavar="NAME=VALUE", help="Another hyper-parameter.")
@click.option("--initialiser", default="gain_normal", show_default=True, metavar="NAME", help="How weights are drawn.")
@click.option("--epochs", type=click.IntRange(0), default=200, show_default=True, help="Passes over the training part.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Samples per step.")
@click.option("--validation", type=float, default=0.1, show_default=True, help="Share held out of training to watch.")
@click.option(
    "--patience", type=click.IntRange(1), help="Stop after this many epochs without a better validation loss."
)
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute."
)
@click.option(
    "--save", callback=file_path, metavar="FILE", help="Write the network to a safetensors file, also on Ctrl-C."
)
@click.option("--resume", metavar="FILE", help="Go on with a saved network up to --epochs; its own options hold.")
@seed_option
@json_option
@output_option
@click.pass_context
def command(
    context: click.Context, spec: str, save: Path | None, as_json: bool, output: Path | None, **options: Any
) -> None:
    """Train the network WIDTHS (such as 4-16-3) and measure it on samples that it has not seen.

    The first width is the number of features, the last the number of classes. The test part is a fifth of the data,
    split by class; nothing is chosen by it.
    """
    from ..numerics.training import as_dict, train

    if options["resume"] is not None:
        options["resume"] = _saved(context, options["resume"], spec)
    before = _written(save)
    try:
        with progress(f"training {spec}", options["epochs"], quiet=as_json) as advance:
            result = train(spec, checkpoint=save, on_epoch=lambda _: advance(1), **options)
    except KeyboardInterrupt:
        if _written(save) != before:
            click.echo(f"interrupted: the last whole epoch is in {save}; go on with --resume {save}", err=True)
        raise
    emit(as_dict(result), as_json, result.text + (f"\nsaved to {save}" if save is not None else ""))
    if output is not None:
        from .pictures import save as save_picture

        save_picture(picture(result), output)


def _written(path: Path | None) -> int | None:
    """When the file was last written, in nanoseconds; None where there is none."""
    return path.stat().st_mtime_ns if path is not None and path.exists() else None


#: With --resume these may be given; any other option is part of the saved run.
_FREE_ON_RESUME = {"spec", "resume", "epochs", "save", "as_json", "output", "device"}


def _saved(context: click.Context, path: str, spec: str) -> TrainingResult:
    """The saved run, when the options given beside ``--resume`` do not contradict it."""
    from ..numerics.model_files import load

    given = click.core.ParameterSource.COMMANDLINE
    changed = [name for name in context.params if context.get_parameter_source(name) == given]
    wrong = sorted(set(changed) - _FREE_ON_RESUME)
    if wrong:
        option = {"hyper": "set"}.get(wrong[0], wrong[0].replace("_", "-"))
        raise InputError(f"--resume goes on with the saved options: leave out --{option}")
    saved = load(path)
    if saved.configuration.spec != spec:
        raise InputError(f"{path!r} holds the network {saved.configuration.spec}, not {spec}")
    return saved


def picture(result: TrainingResult) -> Figure:
    """The learning curves: loss (logarithmic) and accuracy by epoch, on the training and the validation part."""
    from .pictures import COLOURS, figure

    drawn, (left, right) = figure(10.0, 4.3, ncols=2)
    epochs = [epoch.number for epoch in result.history]
    for part, colour in (("train", COLOURS["theory"]), ("validation", COLOURS["measured"])):
        losses = [getattr(epoch, f"{part}_loss") for epoch in result.history]
        if losses[0] is None:
            continue
        label = "training" if part == "train" else part
        left.plot(epochs, losses, color=colour, label=label)
        right.plot(epochs, [getattr(e, f"{part}_accuracy") for e in result.history], color=colour, label=label)
    if result.test_accuracy is not None:
        label = f"test, measured once: {result.test_accuracy:.4f}"
        style = {"marker": "D", "color": COLOURS["target"], "linestyle": "none", "clip_on": False, "zorder": 4}
        right.plot(result.best_epoch, result.test_accuracy, label=label, **style)
    positive = all(epoch.train_loss > 0 and (epoch.validation_loss or 1) > 0 for epoch in result.history)
    left.set(xlabel="epoch", ylabel="mean loss", yscale="log" if positive else "linear")
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(min(0.5, right.get_ylim()[0]), 1.02))
    left.set_title(
        f"{result.configuration.spec} on {Path(result.configuration.data).stem}: loss{' (log scale)' * positive}",
        loc="left",
    )
    right.set_title(f"{result.parameter_count:,} parameters: accuracy", loc="left")
    for axes, place in ((left, "upper right"), (right, "lower right")):
        axes.legend(loc=place, frameon=False, fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return drawn
