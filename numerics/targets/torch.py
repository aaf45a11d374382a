"""Printer for PyTorch: a ``torch.autograd.Function`` per derivative, and a function to call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...theory.layer_row import Layer
from ...theory.lowering import Program
from ...theory.numpy_source import identifier
from .arrays import Programs, Rung, result_texts, rungs, statements
from .layer_arrays import ArrayWriter, Dialect, Steps, both_passes, helper_lines, indented, names_in
from .printing import INDENT, literal, operand_text, text_of
from .tensor_parts import Pass, passes, usage

TABLE: dict[str, str] = {
    "minus_infinity": "-math.inf",
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
    "sigmoid": "torch.sigmoid({0})",
    "softplus": "torch.logaddexp({0}, torch.zeros_like({0}))",  # its own softplus is x from 20 on: off by e^−20
}
#: Operations whose first operand must be a tensor; and a select of two numbers would be float32.
_TENSOR_FIRST = {"at_least", "at_most", "copysign"}


def _right_side(program: Program, names: Mapping[int, str], place: int, like: str = "x") -> str:
    node = program.nodes[place]
    constant = [program.nodes[o].operation in ("constant", "minus_infinity") for o in node.operands]
    operands = [operand_text(program, names, o) for o in node.operands]
    lonely = (node.operation in _TENSOR_FIRST and constant[0]) or (node.operation == "select" and all(constant[1:]))
    if not lonely:
        return text_of(program, TABLE, names, place)
    k = 1 if node.operation == "select" else 0
    leaf = program.nodes[node.operands[k]].leaf
    operands[k] = f"torch.full_like({like}, {operands[k] if leaf is None else literal(leaf)})"
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


# --------------------------------------------------------------------------------------------------------------- layers

_HELPERS = {
    "_maximiser": """
def _maximiser(a, axis):
    hit = (a == a.amax(dim=axis, keepdim=True)).to(a.dtype)
    return hit / hit.sum(dim=axis, keepdim=True)
""",
    "_windows": """
def _windows(x, axis, windows, taps, stride, dilation, padding):
    at = torch.arange(windows, device=x.device)[:, None] * stride + torch.arange(taps, device=x.device) * dilation
    at = at - padding
    inside = (at >= 0) & (at < x.shape[axis])
    picked = x.index_select(axis, at.clamp(0, x.shape[axis] - 1).reshape(-1))
    picked = picked.reshape(*x.shape[:axis], windows, taps, *x.shape[axis + 1 :])
    shape = [windows if k == axis else taps if k == axis + 1 else 1 for k in range(x.dim() + 1)]
    return torch.where(inside.reshape(shape), picked, torch.zeros_like(picked))
""",
    "_overlap": """
def _overlap(y, size, stride, dilation, padding):
    windows, taps = y.shape[-2:]
    at = torch.arange(windows, device=y.device)[:, None] * stride + torch.arange(taps, device=y.device) * dilation
    at = (at - padding).reshape(-1)
    inside = (at >= 0) & (at < size)
    flat = y.reshape(*y.shape[:-2], windows * taps)
    return torch.zeros(*y.shape[:-2], size, dtype=y.dtype, device=y.device).index_add(-1, at[inside], flat[..., inside])
""",
    "_tie": """
def _tie(like, size, windows, taps, stride, dilation, padding):
    i, p, u = (torch.arange(k, device=like.device) for k in (size, windows, taps))
    return (i[:, None, None] == p[:, None] * stride + u * dilation - padding).to(like.dtype)
""",
}


def _recurrence(f: Steps) -> list[str]:
    """A loop that appends every state to a list, and the lists stacked."""
    lists = [f"{name}_list" for name in f.states]
    lines = [f"{name} = [{initial}]" for name, initial in zip(lists, f.initials)]
    lines.append(f"for {f.index} in {f'reversed(range({f.length}))' if f.reverse else f'range({f.length})'}:")
    lines += [f"{INDENT}{given} = {name}[-1]" for given, name in zip(f.given, lists)]
    lines += [f"{INDENT}{line}" for line in f.body]
    lines += [f"{INDENT}{name}.append({result})" for name, result in zip(lists, f.results)]
    tail = "[::-1]" if f.reverse else ""
    return [*lines, *(f"{name} = torch.stack({of}{tail})" for name, of in zip(f.states, lists))]


LAYERS = Dialect(
    table=TABLE,
    einsum='torch.einsum("{0}", {1})',
    permute="{0}.permute({1})",
    total="{0}.sum(dim=({1},))",
    maximum="{0}.amax(dim=({1},))",
    broadcast="torch.broadcast_to({0}, {1})",
    full="torch.full({1}, {0}, dtype={2}.dtype, device={2}.device)",
    eye="torch.eye({0}, dtype={1}.dtype, device={1}.device)",
    recurrence=_recurrence,
    positions="torch.arange({0}, dtype={1}.dtype, device={1}.device)",
    helpers=_HELPERS,
    write=_right_side,
)


_USE = """Steps are of the type of the inputs; gradients are computed for the inputs that need them.
Autograd may differentiate once: also with create_graph=True the gradients are constants to it."""


def print_layer(row: Layer) -> str:
    """A module with ``NAME(inputs…, hyper-parameters…)``, an autograd.Function whose backward pass was derived."""
    forward, backward = passes(row)
    ahead, back, kept = both_passes(forward, backward, LAYERS)
    inputs = [identifier(a.name) for a in forward.arguments]
    parameters = {**forward.parameters, **backward.parameters}
    title = f"{row.title or row.name}: forward pass, and the backward pass derived from it\n\n{usage(row)}\n{_USE}\n"
    imports = ["import math\n"] if any("math" in w.uses for w in (ahead, back)) else []
    name = _class(row.name)
    read = [p for p in parameters if p in back.words()]
    head = [f"ctx.save_for_backward({', '.join(kept)})"] if kept else []
    head += [f"ctx.parameters = {_listed(read, '()')}"] if read else []
    start = [f"{_listed(kept)} = ctx.saved_tensors"] if kept else []
    start += [f"{_listed(read)} = ctx.parameters"] if read else []
    text = [f'"""{title}"""\n', *imports, "import torch\n\n"]
    text += [h.strip("\n") + "\n\n" for h in helper_lines((ahead, back), LAYERS)]
    text += [f"class {name}(torch.autograd.Function):", f"{INDENT}@staticmethod"]
    text += [f"{INDENT}def forward({', '.join(['ctx', *inputs, *parameters])}):"]
    text += indented([*ahead.source(), *head, f"return {ahead.results[0]}", ""], 2)
    text += [f"{INDENT}@staticmethod", f"{INDENT}@torch.autograd.function.once_differentiable"]
    text += [f"{INDENT}def backward(ctx, {identifier(row.cotangent.name)}):"]
    text += indented([*start, *back.size_lines(), *_gradients(row, forward, backward, back, len(parameters))], 2)
    signature = [*inputs, *(f"{p}={v}" for p, v in parameters.items())]
    text += ["", "", f"def {row.name}({', '.join(signature)}):"]
    text += [f"{INDENT}return {name}.apply({', '.join([*inputs, *parameters])})", ""]
    return "\n".join(text)


def _listed(names: Iterable[str], brackets: str = "") -> str:
    names = list(names)
    text = ", ".join(names) + "," * (len(names) == 1)
    return f"({text})" if brackets else text


def _gradients(row: Layer, forward: Pass, backward: Pass, back: ArrayWriter, more: int) -> list[str]:
    """The statements of the backward pass, each computed where a gradient asks for it, and its result."""
    found = dict(zip(backward.outputs, back.results))
    if len(found) == 1:
        answers = [found.get(f"d{a.name}", "None") for a in forward.arguments]
        return [*back.lines, f"return {', '.join(answers + ['None'] * more)}"]
    names: dict[int, str] = {}
    lines = list(back.lines)
    for k, a in enumerate(forward.arguments):
        if (text := found.get(f"d{a.name}")) is not None:
            names[k] = _under(lines, text, identifier(f"d{a.name}"), back)
    blocks = guarded(lines, names)
    asked = ["needs = ctx.needs_input_grad", f"{' = '.join(names.values())} = None"]
    answers = [names.get(k, "None") for k in range(len(forward.arguments))]
    return [*asked, *blocks, f"return {', '.join(answers + ['None'] * more)}"]


def _under(lines: list[str], text: str, wish: str, back: ArrayWriter) -> str:
    """The name under which a result is returned: its statement gets that name where nothing else reads it."""
    if text == wish:
        return text
    name = back.names.claim(wish)
    at = [k for k, line in enumerate(lines) if line.startswith(f"{text} = ")]
    readers = [line for line in lines if text in names_in(line)]
    if len(at) == len(readers) == 1 and back.results.count(text) == 1:
        lines[at[0]] = f"{name}{lines[at[0]][len(text) :]}"
    else:
        lines.append(f"{name} = {text}")
    return name


def guarded(lines: Sequence[str], results: Mapping[int, str]) -> list[str]:
    """The statements under the condition that a result made of them is needed; what all are made of comes first.

    A statement needs only what stands under the same condition or under a wider one, so that the order is kept.
    """
    groups = _statements(lines)
    wanted: dict[str, frozenset[int]] = {name: frozenset([k]) for k, name in results.items()}
    needs: list[frozenset[int]] = []
    for group in reversed(groups):
        made = _made(group)
        need = frozenset().union(*(wanted.get(n, frozenset()) for n in made))
        needs.insert(0, need)
        for n in names_in("\n".join(group)):
            wanted[n] = wanted.get(n, frozenset()) | need
    found: list[str] = []
    for need in sorted(set(needs) - {frozenset()}, key=lambda n: (-len(n), sorted(n))):
        block = [line for group, own in zip(groups, needs) if own == need for line in group]
        if len(need) == len(results):
            found += block
        else:
            found += [f"if {_condition(sorted(need))}:", *indented(block)]
    return found


def _condition(places: Sequence[int]) -> str:
    if len(places) < 3:
        return " or ".join(f"needs[{k}]" for k in places)
    return f"any(needs[k] for k in {tuple(places)})"


def _statements(lines: Sequence[str]) -> list[list[str]]:
    """Lines that belong together: a loop is one statement."""
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith(INDENT):
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def _made(group: Sequence[str]) -> set[str]:
    """Names that a statement gives a value, or to whose list it appends."""
    made = {line.split(" = ")[0].strip() for line in group if " = " in line}
    return made | {line.split(".append(")[0].strip() for line in group if ".append(" in line}
