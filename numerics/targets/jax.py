"""Printer for JAX: a ``jax.custom_vjp`` per derivative, so that ``jax.grad`` uses the stable derivative."""

from __future__ import annotations

from ...theory.scaled_erfc import without_erfcx
from .arrays import Programs, Rung, result_texts, rungs, statements
from .numpy import TABLE as NUMPY
from .printing import INDENT

#: NumPy's statements under JAX's name; the special functions are in another module.
TABLE: dict[str, str] = {
    operation: text.replace("np.", "jnp.") for operation, text in NUMPY.items() if operation != "erfcx"
}
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
