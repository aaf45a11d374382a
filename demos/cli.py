"""The command ``backproof``: one row per command, each loaded only when it is asked for.

Exit status: 0 done and true, 1 refuted or failed check, 2 wrong usage or input.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from ..theory.errors import InputError, lookup

#: command -> (module in this folder, one line for the help page). Adding a command is one row.
COMMANDS: dict[str, tuple[str, str]] = {
    "tour": ("tour", "The whole way on real data, with a report: derive, prove, compile, train, measure."),
    "list": ("listing", "What backproof knows: activations, losses, layers, initialisers, optimisers, …"),
    "derive": ("derive", "Derive an activation's derivatives and facts, a layer's or a network's gradients."),
    "emit": ("emit", "Print a kernel's source: stable, and it runs as printed."),
    "check": ("check", "Judge hand-coded backprop in exact arithmetic."),
    "accuracy": ("accuracy", "Measure a kernel's error in ULP against the exact value."),
    "gain": ("gain", "Initialisation gains of an activation, with proven digits."),
    "propagate": ("propagate", "Variance through a deep network: predicted and measured."),
    "uat": ("uat", "Universal approximation: networks constructed with a bound."),
    "train": ("train", "Train a network whose gradients were derived."),
    "perceptron": ("perceptron", "Rosenblatt's rule, Novikoff's bound, and the proof that no line separates XOR."),
    "bench": ("bench", "Throughput of the generated kernels beside other libraries."),
}


class LazyGroup(click.Group):
    """Lists the commands from the table and imports one only to run it, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command; an unknown name is answered with the nearest ones."""
        lookup(COMMANDS, name, "command")
        command: click.Command = importlib.import_module(f".{COMMANDS[name][0]}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backproof", prog_name="backproof")
def cli() -> None:
    """Derive it, prove it, run it: symbolic verification of neural-network theory with a numeric backend."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; a wrong input is one line on standard error."""
    try:
        status: Any = cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except InputError as error:
        return _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if isinstance(error, click.NoSuchOption) and context and context.command.params:
            return _refuse(error.format_message() + " A formula that begins with a minus needs -- before it.")
        hint = f" (see {context.command_path} --help)" if context else ""
        return _refuse(error.format_message() + hint)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except SystemExit:  # never ours: a checked file's own code may call it, which proves nothing
        return _refuse("the code that was run called sys.exit: nothing was judged")
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has gone: that is its right
        sys.stderr.close()
        return 0


def _refuse(message: str) -> int:
    click.echo("backproof: " + " ".join(message.split()), err=True)
    return 2
