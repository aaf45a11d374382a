"""Printer for JAX: a ``jax.custom_vjp`` per derivative, so that ``jax.grad`` uses the stable derivative."""

from __future__ import annotations

from collections.abc import Sequence

from ...theory.layer_row import Layer
from ...theory.numpy_source import identifier
from ...theory.scaled_erfc import without_erfcx
from .arrays import Programs, Rung, result_texts, rungs, statements
from .layer_arrays import ArrayWriter, Dialect, Steps, both_passes, helper_lines, indented
from .numpy import TABLE as NUMPY
from .printing import INDENT
from .tensor_parts import passes, usage

#: NumPy's statements under JAX's name; the special functions are in another module.
TABLE: dict[str, str] = {
    operation: text.replace("np.", "jnp.") for operation, text in NUMPY.items() if operation != "erfcx"
} | {"sigmoid": "jax.nn.sigmoid({0})", "softplus": "jax.nn.softplus({0})"}
#: JAX as it comes keeps no float64; the steps need it.
DOUBLE = 'jax.config.update("jax_enable_x64", True)  # the steps are float64: JAX would otherwise make them float32\n'


def print_activation(programs: Programs, *, name: str, title: str, derivatives: int, dtype: str) -> str:
    """A module with ``name(x)``, whose derivatives under ``jax.grad`` are the stable ones; steps are float64."""
    ladder = rungs(lambda orders: without_erfcx(programs(orders)), name, derivatives, "jax")
    special = any({"erf", "erfc"} & rung.program.operations for rung in ladder)
    usage = f"{name}(x): x is a floating-point array; it works under jax.jit, jax.vmap and jax.grad.\n"
    usage += f"Steps are float64, results are rounded once to the type of x (made for {dtype}). XLA on the CPU takes\n"
    usage += "subnormal numbers for 0."
    head = [f'"""{title}\n\n{usage}\n"""\n', "import jax", "import jax.numpy as jnp"]
    head += ["from jax.scipy import special"] if special else []
    blocks = [_block(rung) for rung in reversed(ladder)]
    return "\n".join([*head, "", DOUBLE, "", "\n\n".join(blocks)])


def _block(rung: Rung) -> str:
    lines, names = statements(rung.program, TABLE)
    results = result_texts(rung.program, names, "jnp.full_like")
    call = f"_{rung.name}(jnp.asarray(x).astype(jnp.float64))"
    text = [f"def _{rung.name}(x):", *lines, f"{INDENT}return {', '.join(results)}", "", ""]
    text += ["@jax.custom_vjp", f"def {rung.name}(x):"]
    text += [f"{INDENT}return {call}{'' if rung.above else '[0]'}.astype(jnp.asarray(x).dtype)", "", ""]
    text += [f"def _{rung.name}_forward(x):"]
    if rung.above:
        text += [f"{INDENT}return {rung.name}(x), x", "", ""]
    else:
        text += [f"{INDENT}value, derivative = {call}", f"{INDENT}kind = jnp.asarray(x).dtype"]
        text += [f"{INDENT}return value.astype(kind), derivative.astype(kind)", "", ""]
    saved, factor = ("x", f"{rung.above}(x)") if rung.above else ("derivative", "derivative")
    text += [f"def _{rung.name}_backward({saved}, upstream):", f"{INDENT}return (upstream * {factor},)", "", ""]
    text += [f"{rung.name}.defvjp(_{rung.name}_forward, _{rung.name}_backward)", ""]
    return "\n".join(text)


# --------------------------------------------------------------------------------------------------------------- layers

_HELPERS = {
    "_maximiser": """
def _maximiser(a, axis):
    hit = (a == a.max(axis=axis, keepdims=True)).astype(a.dtype)
    return hit / hit.sum(axis=axis, keepdims=True)
""",
    "_windows": """
def _windows(x, axis, windows, taps, stride, dilation, padding):
    at = jnp.arange(windows)[:, None] * stride + jnp.arange(taps) * dilation - padding
    inside = (at >= 0) & (at < x.shape[axis])
    picked = jnp.take(x, at.clip(0, x.shape[axis] - 1), axis=axis)
    shape = [windows if k == axis else taps if k == axis + 1 else 1 for k in range(x.ndim + 1)]
    return jnp.where(inside.reshape(shape), picked, 0)
""",
    "_overlap": """
def _overlap(y, size, stride, dilation, padding):
    windows, taps = y.shape[-2:]
    at = (jnp.arange(windows)[:, None] * stride + jnp.arange(taps) * dilation - padding).reshape(-1)
    at = jnp.where((at >= 0) & (at < size), at, size)  # one place more, for what falls outside
    flat = y.reshape(*y.shape[:-2], windows * taps)
    return jnp.zeros((*y.shape[:-2], size + 1), dtype=y.dtype).at[..., at].add(flat)[..., :size]
""",
    "_tie": """
def _tie(like, size, windows, taps, stride, dilation, padding):
    i, p, u = (jnp.arange(k) for k in (size, windows, taps))
    return (i[:, None, None] == p[:, None] * stride + u * dilation - padding).astype(like.dtype)
""",
}


def _recurrence(f: Steps) -> list[str]:
    """A scan over the steps; the states before the first step are put in front (behind, where time runs backwards)."""
    each = [f"{name}_each" for name in f.states]
    first = [f"{name}_first" for name in f.states]
    after = [f"{name}_after" for name in f.states]
    lines = [f"{name} = {initial}" for name, initial in zip(first, f.initials)]
    lines += ["", f"def {f.function}(states, {f.index}):", f"{INDENT}{_tuple(f.given)[1:-1]} = states"]
    lines += [f"{INDENT}{line}" for line in f.body]
    lines += [f"{INDENT}{name} = {result}" for name, result in zip(after, f.results)]
    lines += [f"{INDENT}return {_tuple(after)}, {_tuple(after)}", ""]
    scan = f"jax.lax.scan({f.function}, {_tuple(first)}, jnp.arange({f.length}){', reverse=True' if f.reverse else ''})"
    lines.append(f"_, {_tuple(each)} = {scan}")
    for name, of, start in zip(f.states, each, first):
        parts = f"{of}, {start}[None]" if f.reverse else f"{start}[None], {of}"
        lines.append(f"{name} = jnp.concatenate([{parts}])")
    return lines


LAYERS = Dialect(
    table=TABLE, einsum='jnp.einsum("{0}", {1})', permute="jnp.transpose({0}, ({1}))", maximum="{0}.max(axis=({1},))",
    total="{0}.sum(axis=({1},))", broadcast="jnp.broadcast_to({0}, {1})", full="jnp.full({1}, {0}, dtype={2}.dtype)",
    eye="jnp.eye({0}, dtype={1}.dtype)", positions="jnp.arange({0}, dtype={1}.dtype)", recurrence=_recurrence,
    helpers=_HELPERS,
)  # fmt: skip


def print_layer(row: Layer) -> str:
    """A module with ``NAME(inputs…, hyper-parameters…)``, a custom_vjp whose backward pass was derived."""
    forward, backward = passes(row)
    ahead, back, kept = both_passes(forward, backward, LAYERS)
    inputs = [identifier(a.name) for a in forward.arguments]
    parameters = {**forward.parameters, **backward.parameters}
    found = dict(zip(backward.outputs, back.results))
    gradients = [found.get(f"d{a.name}", f"jnp.zeros_like({identifier(a.name)})") for a in forward.arguments]
    kept = [name for name in inputs if f"jnp.zeros_like({name})" in gradients and name not in kept] + kept
    title = f"{row.title or row.name}: forward pass, and the backward pass derived from it\n\n{usage(row)}\n{_USE}\n"
    signature = ", ".join([*inputs, *(f"{p}={v}" for p, v in parameters.items())])
    given = ", ".join([*inputs, *parameters])
    arguments = ", ".join([*parameters, "saved", identifier(row.cotangent.name)])
    text = [f'"""{title}"""\n', *_imports((ahead, back), bool(parameters)), "", ""]
    text += [h.strip("\n") + "\n\n" for h in helper_lines((ahead, back), LAYERS)]
    text += [f"def _{row.name}_forward({given}):", *indented(ahead.source())]
    text += [f"{INDENT}return {ahead.results[0]}, {_tuple(kept)}", "", ""]
    places = tuple(range(len(inputs), len(inputs) + len(parameters)))
    text += [f"@functools.partial(jax.custom_vjp, nondiff_argnums={places})" if places else "@jax.custom_vjp"]
    text += [f"def {row.name}({signature}):", f"{INDENT}return _{row.name}_forward({given})[0]", "", ""]
    text += [f"def _{row.name}_backward({arguments}):"]
    text += [f"{INDENT}{_tuple(kept)[1:-1]} = saved"] if kept else []
    text += [*indented(back.source()), f"{INDENT}return {_tuple(gradients)}", "", ""]
    return "\n".join([*text, f"{row.name}.defvjp(_{row.name}_forward, _{row.name}_backward)", ""])


_USE = (
    """It works under jax.jit and jax.vmap; jax.grad may differentiate it once. Steps are of the type of the inputs."""
)


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' * (len(texts) == 1)})"


def _imports(writers: Sequence[ArrayWriter], partial: bool) -> list[str]:
    standard = ["import functools"] * partial + ["import math"] * any("math" in w.uses for w in writers)
    special = any("special." in line for w in writers for line in w.lines)
    own = ["import jax", "import jax.numpy as jnp", *["from jax.scipy import special"] * special]
    return [*standard, *([""] if standard else []), *own]
