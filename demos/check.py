"""``backproof check FILE.py::backward``: judge hand-coded backprop in exact arithmetic."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from ..theory.errors import InputError
from .options import emit, json_option, seed_option

if TYPE_CHECKING:
    from ..numerics.check_result import CheckResult

#: Seconds after which a check shows what it is doing.
SLOW = 2.0


def load_module(path: str) -> ModuleType:
    """Run a Python file and return its module; whatever goes wrong is one line.

    The module's own folder is on the import path while it runs, as if it had been started as a program.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"no file {path!r}")
    if file.is_dir() or file.suffix != ".py":
        raise InputError(f"{path!r} is not a Python file (.py)")
    name = f"checked_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{path!r} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: syntax error: {error.msg}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path!r} is not a text file in UTF-8") from None
    except SystemExit:
        raise InputError(f"{path}: the file ends the program when run (SystemExit)") from None
    except Exception as error:
        line = _line_of(error, str(file))
        raise InputError(f"{path}{line}: running the file raised {type(error).__name__}: {error}") from None
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _line_of(error: BaseException, path: str) -> str:
    trace, found = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(path):
            found = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def load_function(target: str, default: str, modules: dict[str, ModuleType]) -> Any:
    """Return the function that ``FILE.py::name`` names; without a name, ``default``."""
    path, _, name = target.partition("::")
    name = name or default
    key = str(Path(path).resolve())
    if key not in modules:
        modules[key] = load_module(path)
    module = modules[key]
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if function is None:
        import difflib

        names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        near = difflib.get_close_matches(name, names, n=2) or names[:8]
        raise InputError(f"{path} has no function {name!r}" + (f" (it has {', '.join(near)})" if near else ""))
    if not callable(function) and not callable(getattr(function, "backward", None)):
        raise InputError(f"{path}::{name} is not a function, nor an object with a method backward")
    return function


def read_shapes(values: Sequence[str], option: str) -> dict[str, tuple[int, ...]]:
    """Read ``x=3,4``; a scalar is ``x=``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, equals, sizes = value.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise InputError(f"{option} {value!r}: expected NAME=3,4")
        try:
            shape = tuple(int(n) for n in sizes.replace("x", ",").split(",") if n.strip())
        except ValueError:
            raise InputError(f"{option} {value!r}: the sizes must be integers, such as {name}=3,4") from None
        if any(n < 1 for n in shape) or len(shape) > 8:
            raise InputError(f"{option} {value!r}: every size must be at least 1 (and at most 8 axes)")
        if any(n > 10_000 for n in shape):
            raise InputError(f"{option} {value!r}: a size above 10000 is not needed; the check draws small shapes")
        shapes[name] = shape
    return shapes


def example_inputs(
    shapes: dict[str, tuple[int, ...]],
    one_hot: dict[str, tuple[int, ...]],
    integer: dict[str, tuple[int, ...]],
    boolean: dict[str, tuple[int, ...]],
    classes: dict[str, int],
) -> dict[str, Any]:
    """Return examples that show ``check`` what is real, one-hot, integer or boolean."""
    import numpy as np

    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {n: rng.integers(1, 255, s) / 64 - 2 - 1 / 128 for n, s in shapes.items()}
    for name, shape in one_hot.items():
        if len(shape) != 2 or shape[1] < 2:
            raise InputError(f"--one-hot {name}: expected rows and classes, such as {name}=3,5")
        inputs[name] = np.eye(shape[1])[np.arange(shape[0]) % shape[1]]
    for name, shape in integer.items():
        high = classes[name]
        values = np.arange(int(np.prod(shape, dtype=int)), dtype=int) % high
        inputs[name] = np.sort(values)[::-1].reshape(shape).copy()
        inputs[name].flat[0] = high - 1
    for name, shape in boolean.items():
        inputs[name] = (np.arange(int(np.prod(shape, dtype=int))) % 2 == 0).reshape(shape)
    return inputs


def read_integers(values: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Read ``t=5:3``: five integers below 3 (the number of classes)."""
    shapes: dict[str, tuple[int, ...]] = {}
    classes: dict[str, int] = {}
    for value in values:
        head, colon, below = value.partition(":")
        shapes |= read_shapes([head], "--integer")
        name = head.partition("=")[0].strip()
        if colon and (not below.strip().isdigit() or int(below) < 1):
            raise InputError(f"--integer {value!r}: expected NAME=5:3 (five integers below 3)")
        classes[name] = int(below) if colon else 2
    return shapes, classes


@contextmanager
def slow_progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield ``progress(stage)``: on a terminal, what is being looked at is shown once two seconds have passed."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed} points"), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    start, tasks = time.monotonic(), dict[str, Any]()

    def advance(stage: str) -> None:
        if not tasks and time.monotonic() - start > SLOW:
            bar.start()
        if bar.live.is_started:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=None)
            bar.advance(tasks[stage])

    try:
        yield advance
    finally:
        bar.stop()


@click.command()
@click.argument("target", metavar="FILE.py::backward")
@click.option("--forward", metavar="FILE.py::NAME", help="The forward pass that the gradient belongs to.")
@click.option("--against", metavar="NAME_OR_FORMULA",
              help="Instead: an activation, layer:NAME, loss:NAME, optimiser:NAME, or a formula in x.")  # fmt: skip
@click.option("--shape", "shapes", multiple=True, metavar="NAME=3,4", help="A real input and its shape (repeat).")
@click.option("--one-hot", multiple=True, metavar="NAME=3,5", help="An input whose rows are one-hot (repeat).")
@click.option("--integer", multiple=True, metavar="NAME=5:3", help="Five integers below 3, such as labels (repeat).")
@click.option("--boolean", multiple=True, metavar="NAME=3,4", help="A mask of booleans (repeat).")
@click.option("--wrt", metavar="W1,b1", help="What backward returns gradients for, in its order.")
@click.option("--kinks", type=click.Choice(["interval", "branch", "left", "right", "midpoint"]),
              default="interval", show_default=True,
              help="Where the derivative jumps: accept any value between the one-sided ones, or one only.")  # fmt: skip
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float64", "float32", "float16", "bfloat16"]),
              help="Floats to measure (repeat; default float64 and float32). With 16 bits: all inputs.")  # fmt: skip
@click.option("--second", is_flag=True, help="The function is a second derivative.")
@click.option("--mutate", metavar="FILE.py::TEST", help="Seed standard mistakes: how many does this test catch?")
@click.option("--explain", metavar="FILE.py::TEST", help="What the inputs of this test cannot have seen.")
@click.option("--replay", metavar="'x=[1,2], …'", help="Run one printed counterexample exactly, and show both sides.")
@seed_option
@json_option
@click.pass_context
def command(context: click.Context, target: str, seed: int, as_json: bool, **given: Any) -> None:
    """Judge hand-coded backprop in exact arithmetic.

    RUNS the given files: check only code you trust.  backward(upstream, **inputs) returns the gradients in the order
    of --wrt; forward(**inputs) returns the output.  A function of x alone is a scalar derivative; an object with the
    methods forward and backward is checked with all its weights:

    \b
      backproof check mine.py::backward --forward mine.py::forward --shape x=3,4 --shape W=4,5 --wrt x,W
      backproof check mine.py::dgelu --against gelu
      backproof check mine.py::bn_backward --against layer:batch_norm
      backproof check mine.py::net --shape X=4,3

    Exit status: 0 all findings ok, 1 refuted, failed or not decided, 2 wrong usage.  With --mutate and --explain: 0 if
    no standard mistake survives.  Ctrl-C shows what was found so far.
    """
    test, explained, replay = given.pop("mutate"), given.pop("explain"), given.pop("replay")
    if sum(each is not None for each in (test, explained, replay)) > 1:
        raise InputError("give one of --mutate, --explain and --replay")
    modules: dict[str, ModuleType] = {}
    with redirect_stdout(sys.stderr):  # what the checked code prints is not our output
        arguments = read_arguments(target, modules=modules, seed=seed, **given)
        if test is not None or explained is not None:
            ok, data, text = scored(arguments, test or explained, explained is not None, modules)
        elif replay is not None:
            ok, data, text = replayed(arguments, replay)
        else:
            from ..numerics.checking import check

            with slow_progress(as_json) as progress:
                result = check(**arguments, progress=progress)
            ok, data, text = result.passed, result.as_dict(), str(result)
    emit(data, as_json, text)
    if not ok:
        context.exit(1)


def run(target: str, forward: str | None = None, against: str | None = None, **given: Any) -> CheckResult:
    """Read the command's arguments, run the check and return its result."""
    from ..numerics.checking import check

    return check(**read_arguments(target, forward, against, **given))


def read_arguments(
    target: str,
    forward: str | None = None,
    against: str | None = None,
    shapes: Sequence[str] = (),
    one_hot: Sequence[str] = (),
    integer: Sequence[str] = (),
    boolean: Sequence[str] = (),
    wrt: str | None = None,
    kinks: str = "interval",
    dtypes: Sequence[str] = (),
    second: bool = False,
    seed: int = 0,
    modules: dict[str, ModuleType] | None = None,
) -> dict[str, Any]:
    """Read the command's arguments and return those of :func:`backproof.numerics.check`."""
    real = read_shapes(shapes, "--shape")
    whole, classes = read_integers(integer)
    hot, masks = read_shapes(one_hot, "--one-hot"), read_shapes(boolean, "--boolean")
    if forward is not None and against is not None:
        raise InputError("give either --forward FILE.py::NAME or --against NAME_OR_FORMULA")
    modules = {} if modules is None else modules
    backward_function = load_function(target, "backward", modules)
    keeps_state = callable(getattr(backward_function, "forward", None))
    if forward is None and against is None and not keeps_state:
        raise InputError("give either --forward FILE.py::NAME or --against NAME_OR_FORMULA")
    forward_function = load_function(forward, "forward", modules) if forward is not None else None
    inputs = example_inputs(real, hot, whole, masks, classes)
    if forward is not None and not inputs and not one_argument(backward_function):
        raise InputError("give the shape of every input: --shape x=3,4")
    return {
        "backward": backward_function, "forward": forward_function, "against": against, "inputs": inputs or None,
        "wrt": [n.strip() for n in wrt.split(",") if n.strip()] if wrt else None, "kinks": kinks,
        "dtype": tuple(dtypes) or ("float64", "float32"), "second": second, "seed": seed % (2**31),
    }  # fmt: skip


def one_argument(function: Any) -> bool:
    """Tell whether a function is a scalar derivative ``grad(x)``: it needs no shape."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return sum(p.default is p.empty for p in parameters) == 1


def _task(arguments: dict[str, Any]) -> Any:
    from ..numerics.checking import update_rule
    from ..numerics.preparing import prepare

    if update_rule(arguments["against"]) is not None:
        raise InputError("--mutate, --explain and --replay are for gradients, not for an optimiser's step")
    names = ("backward", "forward", "against", "inputs", "wrt", "seed")
    return prepare(**{n: arguments[n] for n in names}, shapes=None)


def scored(
    arguments: dict[str, Any], target: str, explained: bool, modules: dict[str, ModuleType]
) -> tuple[bool, dict[str, Any], str]:
    """Return a mutation score, or what a test's inputs could not have seen: whether no mistake survives, data, text."""
    from ..numerics.mutation import explain, mutation_score

    test = load_function(target, "test_backward", modules)
    score = (explain if explained else mutation_score)(_task(arguments), test)
    return not score.survived, score.as_dict(), str(score)


def replayed(arguments: dict[str, Any], text: str) -> tuple[bool, dict[str, Any], str]:
    """Return both sides at one counterexample: whether they agree, data, text."""
    from ..numerics.replaying import replay

    agreed, shown, data = replay(_task(arguments), text)
    return agreed, {"agreed": agreed, "gradients": data}, shown
