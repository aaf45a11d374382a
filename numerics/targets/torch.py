"""Printer for PyTorch: a ``torch.autograd.Function`` per derivative, and a function to call."""

from __future__ import annotations

from collections.abc import Mapping

from ...theory.lowering import Program
from .arrays import Programs, Rung, result_texts, rungs, statements
from .printing import INDENT, literal, operand_text, text_of

TABLE: dict[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "torch.abs({0})",
    "sqrt": "torch.sqrt({0})",
    "pow": "torch.pow({0}, {1})",
    "exp": "torch.exp({0})",
    "expm1": "torch.expm1({0})",
    "log": "torch.log({0})",
    "log1p": "torch.log1p({0})",
    "sinh": "torch.sinh({0})",
    "cosh": "torch.cosh({0})",
    "tanh": "torch.tanh({0})",
    "sin": "torch.sin({0})",
    "cos": "torch.cos({0})",
    "tan": "torch.tan({0})",
    "asin": "torch.asin({0})",
    "acos": "torch.acos({0})",
    "atan": "torch.atan({0})",
    "erf": "torch.erf({0})",
    "erfc": "torch.erfc({0})",
    "erfcx": "torch.special.erfcx({0})",
    "at_least": "torch.clamp({0}, min={1})",
    "at_most": "torch.clamp({0}, max={1})",
    "copysign": "torch.copysign({0}, {1})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "~{0}",
    "select": "torch.where({0}, {1}, {2})",
}
#: Operations whose first operand must be a tensor; and a select of two numbers would be float32.
_TENSOR_FIRST = {"at_least", "at_most", "copysign"}


def _right_side(program: Program, names: Mapping[int, str], place: int) -> str:
    node = program.nodes[place]
    constant = [program.nodes[o].operation == "constant" for o in node.operands]
    operands = [operand_text(program, names, o) for o in node.operands]
    lonely = (node.operation in _TENSOR_FIRST and constant[0]) or (node.operation == "select" and all(constant[1:]))
    if not lonely:
        return text_of(program, TABLE, names, place)
    k = 1 if node.operation == "select" else 0
    operands[k] = f"torch.full_like(x, {literal(program.nodes[node.operands[k]].leaf)})"
    return TABLE[node.operation].format(*operands)


def print_activation(programs: Programs, *, name: str, title: str, derivatives: int, dtype: str) -> str:
    """A module with ``name(x)``, differentiable by autograd ``derivatives`` times; steps are float64."""
    ladder = rungs(programs, name, derivatives, "torch")
    blocks = [_block(rung) for rung in reversed(ladder)]
    usage = f"{name}(x): x is a floating-point tensor; autograd may differentiate it {_times(derivatives)}.\n"
    usage += f"Steps are float64, results are rounded once to the type of x (made for {dtype})."
    return "\n\n".join([f'"""{title}\n\n{usage}\n"""\n\nimport torch\n', *blocks])


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _class(name: str) -> str:
    return "_" + "".join(part.capitalize() for part in name.split("_") if part)


def _block(rung: Rung) -> str:
    lines, names = statements(rung.program, TABLE, _right_side)
    results = result_texts(rung.program, names, "torch.full_like")
    kept = "x" if rung.above else "derivative.to(x.dtype)"
    value = f"_{rung.name}(x.to(torch.float64))"
    text = [f"def _{rung.name}(x):", *lines, f"{INDENT}return {', '.join(results)}", "", ""]
    text += [f"class {_class(rung.name)}(torch.autograd.Function):", f"{INDENT}@staticmethod"]
    text += [f"{INDENT}def forward(ctx, x):"]
    text += [f"{INDENT * 2}{'value' if rung.above else 'value, derivative'} = {value}"]
    text += [f"{INDENT * 2}ctx.save_for_backward({kept})", f"{INDENT * 2}return value.to(x.dtype)", ""]
    text += [f"{INDENT}@staticmethod"]
    text += [] if rung.above else [f"{INDENT}@torch.autograd.function.once_differentiable"]
    text += [f"{INDENT}def backward(ctx, upstream):"]
    text += [f"{INDENT * 2}({'x' if rung.above else 'derivative'},) = ctx.saved_tensors"]
    text += [f"{INDENT * 2}return upstream * {f'{rung.above}(x)' if rung.above else 'derivative'}", "", ""]
    text += [f"def {rung.name}(x):", f"{INDENT}return {_class(rung.name)}.apply(x)", ""]
    return "\n".join(text)
