"""Races of row kernels and losses: forward and backward pass, ours beside what people would call for both."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..theory.errors import InputError, lookup
from ..theory.layers import LAYERS
from ..theory.losses import LOSSES, loss
from .loss_kernels import loss_kernel
from .racing import COPY, COPY_ARRAYS, OWN, Contestant, figures, race
from .row_kernels import row_kernel

Array = npt.NDArray[Any]
#: Rows and columns at which people meet such layers: a batch of tokens, a large one.
SHAPES = ((512, 768), (4096, 1024))
#: Options of glibc's mallopt: how many blocks may be mappings of their own, how much freed memory at the top is kept.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1


@dataclass(frozen=True)
class Theirs:
    """The forward pass in PyTorch (of torch.nn.functional and tensors) and in JAX (of jax and arrays)."""

    torch: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None


def _normalised(jax: Any, x: Any, gamma: Any, beta: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta


def _cross_entropy(jax: Any, z: Any, labels: Any, smoothing: float = 0.0) -> Any:
    log_p = jax.nn.log_softmax(z)
    picked = jax.numpy.take_along_axis(log_p, labels[:, None], -1)[:, 0]
    return -((1 - smoothing) * picked + smoothing * log_p.mean(-1)).mean()


#: row of LAYERS -> theirs.
ROWS: dict[str, Theirs] = {
    "softmax": Theirs(lambda F, x: F.softmax(x, -1), lambda jax, x: jax.nn.softmax(x)),
    "log_softmax": Theirs(lambda F, x: F.log_softmax(x, -1), lambda jax, x: jax.nn.log_softmax(x)),
    "layer_norm": Theirs(lambda F, x, g, b: F.layer_norm(x, x.shape[-1:], g, b), _normalised),
    "rms_norm": Theirs(
        lambda F, x, g: F.rms_norm(x, x.shape[-1:], g, 1e-5),
        lambda jax, x, g: x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * g,
    ),
    "glu": Theirs(lambda F, a, b: a * b.sigmoid(), lambda jax, a, b: a * jax.nn.sigmoid(b)),
    "reglu": Theirs(lambda F, a, b: a * F.relu(b), lambda jax, a, b: a * jax.nn.relu(b)),
    "geglu": Theirs(lambda F, a, b: a * F.gelu(b), lambda jax, a, b: a * jax.nn.gelu(b, approximate=False)),
    "swiglu": Theirs(lambda F, a, b: a * F.silu(b), lambda jax, a, b: a * jax.nn.silu(b)),
}
#: row of LOSSES, mean -> theirs.
LOSS_ROWS: dict[str, Theirs] = {
    "squared_error": Theirs(lambda F, z, y: F.mse_loss(z, y), lambda jax, z, y: ((z - y) ** 2).mean()),
    "l1": Theirs(lambda F, z, y: F.l1_loss(z, y), lambda jax, z, y: jax.numpy.abs(z - y).mean()),
    "huber": Theirs(lambda F, z, y: F.huber_loss(z, y)),
    "smooth_l1": Theirs(lambda F, z, y: F.smooth_l1_loss(z, y)),
    "binary_cross_entropy_logits": Theirs(
        lambda F, z, y: F.binary_cross_entropy_with_logits(z, y),
        lambda jax, z, y: (jax.nn.softplus(z) - z * y).mean(),
    ),
    "softmax_cross_entropy": Theirs(lambda F, z, t: F.cross_entropy(z, t), _cross_entropy),
    "label_smoothing": Theirs(
        lambda F, z, t: F.cross_entropy(z, t, label_smoothing=0.1), lambda jax, z, t: _cross_entropy(jax, z, t, 0.1)
    ),
}
TABLES = {"rows": ROWS, "losses": LOSS_ROWS}


def row_of(kind: str, name: str) -> str:
    """The name of a raced row; raises :class:`InputError` for one that is not raced.

    >>> row_of("losses", "mse")
    'squared_error'
    """
    known = LAYERS.get(name) if kind == "rows" else loss(name) if name in _loss_names() else None
    return known.name if known is not None and known.name in TABLES[kind] else lookup_name(kind, name)


def _loss_names() -> set[str]:
    return {name for row in LOSSES.values() for name in (row.name, *row.aliases)}


def lookup_name(kind: str, name: str) -> str:
    """``name`` if the table has it, else :class:`InputError` naming what is near."""
    lookup(TABLES[kind], name, "row kernel" if kind == "rows" else "loss")
    return name


def raced_pass(kind: str, name: str, dtype: str, shape: tuple[int, int], rounds: int, seed: int = 0) -> dict[str, Any]:
    """Contestant → figures of forward and backward pass together of one row of :data:`TABLES`."""
    _keep_freed_memory()
    given, upstream, targets = _data(kind, name, dtype, shape, seed)
    runners = {OWN: _ours(kind, name, dtype, given, targets, upstream)}
    theirs = TABLES[kind][name]
    makers = {
        "torch, eager": lambda: _torch(theirs.torch, given, targets, upstream),
        "jax, jitted": lambda: _jax(theirs.jax, given, targets, upstream),
        "numpy, as derived": lambda: _numpy(kind, name, given, targets, upstream),
    }
    for label, make in makers.items():
        made = make()
        if made is not None:
            runners[label] = made
    out = np.empty_like(given[0])
    runners[COPY] = lambda: np.copyto(out, given[0])
    wide = sum(a.ndim == 2 for a in given)
    moved = 3 * wide + 2 if kind == "rows" else 2 * wide + sum(t.ndim == 2 for t in targets)
    times, size = race(runners, rounds, seed), given[0].size
    return {n: figures(t, size, given[0].itemsize, COPY_ARRAYS if n == COPY else moved) for n, t in times.items()}


def _keep_freed_memory() -> None:
    """Let glibc's allocator keep what contestants free, as most of it is kept in a process that has run for a while.

    Every contestant returns new arrays. By itself glibc gives large ones back to the system, by a threshold that
    depends on what was freed before; then each call has the same pages made and zeroed again, which took several times
    what is measured (two results of 3 MB: 5 ms against 0.6). Another C library does as it does.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, 2**31 - 1)


def _data(
    kind: str, name: str, dtype: str, shape: tuple[int, int], seed: int
) -> tuple[list[Array], Array | None, list[Array]]:
    """(what is derived by, the cotangent of the output, targets): drawn from N(0, 4), probabilities and labels."""
    rng = np.random.default_rng(seed)
    if kind == "rows":
        inputs = LAYERS[name].inputs
        given = [rng.normal(0, 2, shape if len(i.indices) == 2 else shape[1:]).astype(dtype) for i in inputs]
        return given, rng.normal(size=shape).astype(dtype), []
    _, target = LOSSES[name].inputs()
    if any(fact.kind == "one-hot" for fact in target.facts):
        return [rng.normal(0, 2, shape).astype(dtype)], None, [rng.integers(0, shape[1], shape[0])]
    return [rng.normal(0, 2, shape).astype(dtype)], None, [rng.random(shape).astype(dtype)]


def _ours(
    kind: str, name: str, dtype: str, given: list[Array], targets: list[Array], upstream: Array | None
) -> Contestant:
    if kind == "losses":
        fused = loss_kernel(name, dtype)
        return lambda: fused(given[0], targets[0])
    k = row_kernel(name, dtype)
    return lambda: (k(*given), k.vjp(upstream, *given))


def _torch(
    forward: Callable[..., Any] | None, given: list[Array], targets: list[Array], upstream: Array | None
) -> Contestant | None:
    """PyTorch's forward and backward calls; None where it is not installed or has no such function."""
    try:
        import torch
    except ImportError:
        return None
    if forward is None:
        return None
    leaves = [torch.from_numpy(a.copy()).requires_grad_(True) for a in given]
    fixed = [torch.from_numpy(t) for t in targets]
    dy = None if upstream is None else torch.from_numpy(upstream)
    functional = torch.nn.functional
    return lambda: torch.autograd.grad(forward(functional, *leaves, *fixed), leaves, dy)


def _jax(
    forward: Callable[..., Any] | None, given: list[Array], targets: list[Array], upstream: Array | None
) -> Contestant | None:
    """JAX's value and gradients in one jitted call (float64 under its own switch)."""
    if forward is None:
        return None
    try:
        import jax
    except ImportError:
        return None
    wide: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

    def both(leaves: Any, fixed: Any, dy: Any) -> Any:
        value, back = jax.vjp(lambda *xs: forward(jax, *xs, *fixed), *leaves)
        return value, back(jax.numpy.ones_like(value) if dy is None else dy)

    compiled, is_wide = jax.jit(both), given[0].dtype == np.float64
    with wide(is_wide):
        data = jax.tree.map(jax.numpy.asarray, (given, targets, upstream))

    def run() -> object:
        with wide(is_wide):
            return jax.block_until_ready(compiled(*data))

    return run


def _numpy(kind: str, name: str, given: list[Array], targets: list[Array], upstream: Array | None) -> Contestant:
    """The derived passes printed for NumPy, as they stand; one-hot rows made beforehand."""
    scope: dict[str, Any] = {}
    if kind == "rows":
        from .emission import emit_layer

        source = emit_layer(name, "numpy")[1]
    else:
        from .loss_rows import loss_row

        source = loss_row(name).numpy_source()
        width = given[0].shape[1]
        targets = [t if t.ndim == 2 else (t[:, None] == np.arange(width)).astype(given[0].dtype) for t in targets]
    exec(compile("import numpy as np\n" + source, "<generated>", "exec"), scope)  # our own source
    dy: Any = np.ones((), given[0].dtype) if upstream is None else upstream

    def run() -> object:
        with np.errstate(all="ignore"):
            return scope["forward"](*given, *targets), scope["backward"](dy, *given, *targets)

    return run


def shapes_of(text: str) -> tuple[tuple[int, int], ...]:
    """The shapes in "512x768,4096x1024".

    Raises :class:`InputError` naming what is none.

    >>> shapes_of("512x768, 8x10")
    ((512, 768), (8, 10))
    """
    shapes = []
    for part in text.split(","):
        numbers = part.strip().lower().split("x")
        if len(numbers) != 2 or not all(n.isascii() and n.isdigit() and 0 < int(n) <= 10**8 for n in numbers):
            raise InputError(f"--shapes: {part.strip()!r} is no rows x columns, such as 512x768")
        rows, columns = map(int, numbers)
        if rows * columns > 10**8:
            raise InputError(f"--shapes: {part.strip()!r} has more than 10**8 entries")
        shapes.append((rows, columns))
    return tuple(shapes)
