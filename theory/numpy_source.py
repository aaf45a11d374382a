"""Tensor expressions as NumPy source that runs: einsum, matrix products, broadcasting by position.

Named quantities become variables, everything else is written inline. A name the person did not give is never used: the
generator makes identifiers from names by an allow-list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import sympy
from sympy.core.relational import Relational

from .errors import InputError, Unsupported
from .notation import sign_argument
from .recurrence import BEFORE, EACH, LAST, Recur, Recurrence, put, signature
from .tensors import (
    Axis,
    Contract,
    Delta,
    Extremum,
    Input,
    Map,
    Maximiser,
    Named,
    Position,
    Scalar,
    Tensor,
    contract,
    is_zero,
    slot,
)
from .walking import postorder
from .windows import Overlap, Tie, Window

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_GREEK = {
    "γ": "gamma", "β": "beta", "ε": "eps", "μ": "mu", "σ": "sigma", "δ": "delta", "Δ": "Delta", "x̂": "xhat",
    "α": "alpha", "λ": "lam", "ρ": "rho", "τ": "tau", "κ": "kappa", "′": "_prime", "ȳ": "dy", "Σ": "sum", "∂": "d",
}  # fmt: skip


def identifier(name: str) -> str:
    """A Python identifier for a name; InputError where none can be made."""
    import keyword
    import unicodedata

    for greek, latin in _GREEK.items():
        name = name.replace(greek, latin)
    name = unicodedata.normalize("NFD", name).replace("\u0307", "_dot")  # ḣ, the tangent of a state
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or keyword.iskeyword(name) or name == "np":
        raise InputError(f"{name[:40]!r} cannot be a variable of generated source")
    return name


SUM, MATMUL, PRODUCT, ATOM = 1, 2, 3, 4


class Code:
    """Source text with its axes, and whether it needs parentheses as an operand (see the levels)."""

    __slots__ = ("axes", "level", "text")

    def __init__(self, text: str, axes: Sequence[Axis] = (), level: int = ATOM) -> None:
        self.text, self.axes, self.level = text, tuple(axes), level

    def at(self, level: int) -> str:
        """The text, in parentheses where an operand of that level needs them."""
        return self.text if self.level >= level else f"({self.text})"


class NumpyWriter:
    """Writes expressions; ``sizes`` says how an axis size is spelt, ``functions`` how a scalar function is."""

    def __init__(
        self,
        sizes: Mapping[sympy.Symbol, str] | None = None,
        functions: Mapping[str, str] | None = None,
        *,
        einsum: bool = False,
        order: Iterable[Axis] = (),
    ) -> None:
        self.sizes = dict(sizes or {})
        self.functions = dict(functions or {})
        self.einsum = einsum
        self.order = list(dict.fromkeys(order))
        self.uses: set[str] = set()

    # expressions

    def write(self, node: Tensor) -> Code:
        """One node as source."""
        if isinstance(node, Input | Named):
            return self._variable(node)
        if isinstance(node, Scalar):
            text, level = self.scalar(node.value)
            return Code(text, (), level)
        if isinstance(node, Contract):
            return self._contract(node)
        if isinstance(node, Map):
            return self._map(node)
        if isinstance(node, Extremum):
            body = self.write(node.operand)
            return Code(
                f"{body.at(ATOM)}.max({self._axis_argument(body.axes, node.over)})", _rest(body.axes, node.over)
            )
        if isinstance(node, Maximiser):
            return self._maximiser(node)
        if isinstance(node, Window | Overlap | Tie):
            return self._window(node)
        if isinstance(node, Recur):
            return self._state(node)
        if isinstance(node, Position):
            return Code(f"np.arange({self.size(node.along.size)})", (node.along,))
        if isinstance(node, Delta):
            return Code(f"np.eye({self.size(node.a.size)})", (node.a, node.b))
        raise Unsupported(f"no NumPy source for a {type(node).__name__}")

    def write_as(self, node: Tensor, axes: Sequence[Axis]) -> str:
        """The node as an array with exactly these axes in this order."""
        before, self.order = self.order, list(dict.fromkeys((*axes, *self.order)))
        code = self.write(node)
        self.order = before
        missing = [a for a in axes if a not in code.axes]
        aligned = self._align(code, axes)
        if not missing:
            return aligned.text
        return f"np.broadcast_to({aligned.text}, ({', '.join(self.size(a.size) for a in axes)},)).copy()"

    def _variable(self, node: Input | Named) -> Code:
        text = identifier(node.name)
        if len(set(node.indices)) == len(node.indices):
            return Code(text, node.indices)
        return Code(f"np.einsum('{self._subscripts([node.indices], node.axes)}', {text})", node.axes)

    def size(self, size: sympy.Expr) -> str:
        """An axis size as source."""
        if size.is_Integer:
            return str(size)
        if size in self.sizes:
            return self.sizes[size]
        if not size.is_Symbol and all(s in self.sizes for s in size.free_symbols):
            return self._size_expression(size)
        raise Unsupported(f"no way to read the axis size {size} off the arguments")

    def scalar(self, value: sympy.Expr) -> tuple[str, int]:
        """A scalar expression as source, with its level."""
        return self._expression(value, {})

    def scalar_source(self, value: sympy.Expr, symbol: sympy.Symbol) -> tuple[str, int]:
        """A scalar function of one array called ``x`` as source, with its level."""
        return self._expression(value, {symbol: Code("x")})

    def _size_expression(self, size: sympy.Expr) -> str:
        """A size that follows from others, in whole numbers."""
        if size.is_Add:
            parts = [t.as_coeff_Mul() for t in sorted(size.args, key=lambda t: (t.is_number, str(t)))]
            text = ""
            for c, t in sorted(parts, key=lambda part: bool(part[0] < 0)):
                body = self.size(abs(c)) if t == 1 else self.size(t) if abs(c) == 1 else f"{abs(c)} * {self.size(t)}"
                text += f" {'-' if c < 0 else '+'} {body}" if text else f"-{body}" if c < 0 else body
            return text
        if isinstance(size, sympy.floor):
            above, below = sympy.fraction(sympy.together(size.args[0]))
            text = self.size(sympy.expand(above))
            return f"{f'({text})' if ' ' in text else text} // {below}"
        if size.is_Mul:
            return " * ".join(f"({self.size(f)})" if f.is_Add else self.size(f) for f in size.args)
        raise Unsupported(f"no source for the axis size {size}")

    def _state(self, node: Recur) -> Code:
        """A part of the array of all states, which has time first and one entry more than there are steps."""
        name = f"{identifier(node.name)}_all"
        rest = tuple(a for a in node.states[node.which].indices if a != node.time)
        if node.at == LAST:
            return Code(f"{name}[{0 if node.reverse else -1}]", rest)
        later = (node.at == BEFORE) == node.reverse
        return Code(f"{name}[{'1:' if later else ':-1'}]", (node.time, *rest))

    def loop(self, f: Recurrence) -> str:
        """The lines that compute every state of a recurrence, one step after the other."""
        sizes = [", ".join(self.size(a.size) for a in s.indices if a != f.time) for s in f.states]
        names = [identifier(s.name) for s in f.states]
        length = self.size(f.time.size)
        bigger = f"{length} + 1" if " " not in length else f"({length}) + 1"
        shapes = [f"np.empty(({bigger}, {size}))" for size in sizes]
        lines = [f"{', '.join(f'{n}_all' for n in names)} = {', '.join(shapes)}"]
        for name, s, v in zip(names, f.states, f.initials):
            start = "0.0" if is_zero(v) else self.write_as(v, [a for a in s.indices if a != f.time])
            lines.append(f"{name}_all[{length if f.reverse else 0}] = {start}")
        now, then = ("step", "step + 1") if f.reverse else ("step + 1", "step")
        span = f"range({length})"
        lines.append(f"for step in {f'reversed({span})' if f.reverse else span}:")
        inner, values = self._step_inputs(f, then)
        outputs = []
        for k, (step, s) in enumerate(zip(f.steps, f.states)):
            body = at_time(put(step, values), f.time)
            outputs.append((f"{names[k]}_all[{now}]", body, [a for a in s.indices if a != f.time]))
        done: set[str] = set()
        for target, body, axes in outputs:
            for node in postorder(body):
                if isinstance(node, Named) and node.name not in done:
                    done.add(node.name)
                    inner.append(f"{identifier(node.name)} = {self.write_as(node.operand, node.indices)}")
            inner.append(f"{target} = {self.write_as(body, axes)}")
        return "\n".join([*lines, *(f"    {line}" for line in inner)])

    def _step_inputs(self, f: Recurrence, then: str) -> tuple[list[str], dict[Input, Tensor]]:
        """Lines that read the values of one step, and those values by placeholder."""
        lines: list[str] = []
        values: dict[Input, Tensor] = {}
        for s in f.states:
            local = f"{identifier(s.name)}_given"
            lines.append(f"{local} = {identifier(s.name)}_all[{then}]")
            values[s] = Input(local, s.indices)
        for s, v in zip(f.slots, f.captured):
            code = self.write(v)
            axes = tuple(code.axes)
            if f.time not in axes and isinstance(v, Input | Named):
                values[s] = Input(identifier(v.name), v.indices)
                continue
            suffix = {EACH: "", BEFORE: "_before", LAST: "_last"}[v.at] if isinstance(v, Recur) else ""
            local = f"{identifier(v.name)}{suffix}_t"  # type: ignore[attr-defined]
            place = axes.index(f.time) if f.time in axes else None
            index = "" if place is None else f"[{':, ' * place}step]"
            lines.append(f"{local} = {code.text}{index}")
            rest = (f.time, *(a for a in axes if a != f.time)) if place is not None else axes
            values[s] = Input(local, s.indices)
            if set(rest) != set(s.indices):
                raise Unsupported(f"no NumPy source for a recurrence that reads {v!r}")
            if [a for a in axes if a != f.time] != [a for a in s.indices if a != f.time]:
                order = [a for a in axes if a != f.time]
                places = [order.index(a) for a in s.indices if a != f.time]
                lines[-1] += f".transpose({', '.join(map(str, places))})"
        return list(dict.fromkeys(lines)), values

    def _window(self, node: Window | Overlap | Tie) -> Code:
        """Calls of the helpers: windows as one indexing, overlap-add as one slice per tap."""
        tail = "".join(
            f", {k}={v}" for k, v in zip(("stride", "dilation", "padding"), node.affine) if v != (k != "padding")
        )
        if isinstance(node, Tie):
            self.uses.add("_tie")
            sizes = ", ".join(self.size(a.size) for a in (node.into, node.out, node.tap))
            return Code(f"_tie({sizes}{tail})", (node.into, node.out, node.tap))
        body = self.write(node.operand)
        missing = [a for a in node.operand.axes if a not in body.axes]
        if missing:
            shape = ", ".join(self.size(a.size) for a in node.operand.axes)
            aligned = self._align(body, node.operand.axes)
            body = Code(f"np.broadcast_to({aligned.text}, ({shape},))", node.operand.axes)
        if isinstance(node, Window):
            self.uses.add("_window")
            place = body.axes.index(node.over)
            axes = [b for a in body.axes for b in ((node.out, node.tap) if a == node.over else (a,))]
            sizes = f"{self.size(node.out.size)}, {self.size(node.tap.size)}"
            code = Code(f"_window({body.text}, {place}, {sizes}{tail})", axes)
        else:
            self.uses.add("_overlap")
            places = f"{body.axes.index(node.out)}, {body.axes.index(node.tap)}"
            axes = [node.into if a == node.out else a for a in body.axes if a != node.tap]
            code = Code(f"_overlap({body.text}, {places}, {self.size(node.into.size)}{tail})", axes)
        if len(set(code.axes)) < len(code.axes):
            raise Unsupported("no NumPy source for the diagonal of a window")
        return code

    def _contract(self, node: Contract) -> Code:
        scalars = [f for f in node.factors if isinstance(f, Scalar)]
        tensors = [f for f in node.factors if not isinstance(f, Scalar)]
        summed = node.summed
        if not tensors:
            body = Code("1.0")
        elif not summed:
            return self._product(node.factors, node.keep)
        else:
            keep = self._ordered(a for a in node.keep if any(a in t.axes for t in tensors))
            body = self._sum([self.write(t) for t in tensors], tuple(keep), summed)
        if not scalars:
            return body
        value = sympy.Mul(*(s.value for s in scalars))
        return self._scaled(body, value)

    def _scaled(self, body: Code, value: sympy.Expr) -> Code:
        numerator, denominator = value.as_numer_denom()
        text, level, axes = body.text, body.level, body.axes
        if text == "1.0" and not axes:
            return Code(*_swap(self.scalar(value)))
        if numerator != 1:
            if numerator == -1:
                text, level = f"-{body.at(PRODUCT)}", SUM
            else:
                scale, scale_level = self.scalar(numerator)
                text, level = f"{scale if scale_level >= PRODUCT else f'({scale})'} * {body.at(PRODUCT)}", PRODUCT
        if denominator != 1:
            scale, scale_level = self.scalar(denominator)
            text = text if level >= PRODUCT else f"({text})"
            text, level = f"{text} / {scale if scale_level >= ATOM else f'({scale})'}", PRODUCT
        return Code(text, axes, level)

    def _product(self, factors: Sequence[Tensor], keep: Sequence[Axis]) -> Code:
        """Entrywise product; powers with negative exponents divide."""
        scalars = [f.value for f in factors if isinstance(f, Scalar)]
        tensors = [f for f in factors if not isinstance(f, Scalar)]
        axes = self._ordered(a for a in keep if any(a in t.axes for t in tensors))
        above: list[Code] = []
        below: list[Code] = []
        for t in tensors:
            inverse = _inverse(t)
            code = self._align(self.write(inverse if inverse is not None else t), axes, drop=True)
            (below if inverse is not None else above).append(code)
        value = sympy.Mul(*scalars)
        if above:
            text = " * ".join(c.at(PRODUCT) for c in above)
            body = self._scaled(Code(text, axes, PRODUCT) if len(above) > 1 else above[0], value)
        else:
            body = Code(*_swap(self.scalar(value)))
        for c in below:
            body = Code(f"{body.at(PRODUCT)} / {c.at(ATOM)}", axes, PRODUCT)
        return Code(body.text, axes, body.level)

    def _sum(self, codes: list[Code], keep: tuple[Axis, ...], summed: tuple[Axis, ...]) -> Code:
        if len(codes) == 1 and not self.einsum:
            (c,) = codes
            return Code(f"{c.at(ATOM)}.sum({self._axis_argument(c.axes, summed)})", _rest(c.axes, summed))
        if len(codes) == 2 and len(summed) == 1 and not self.einsum:
            product = self._matrix_product(codes[0], codes[1], keep, summed[0])
            if product is not None:
                return product
        text = f"np.einsum('{self._subscripts([c.axes for c in codes], keep)}', {', '.join(c.text for c in codes)})"
        return Code(text, keep)

    def _matrix_product(self, a: Code, b: Code, keep: tuple[Axis, ...], over: Axis) -> Code | None:
        """a @ b where that is what the contraction is, with transposes as needed."""
        if over not in a.axes or over not in b.axes or set(a.axes) & set(b.axes) != {over}:
            return None
        if not (1 <= len(a.axes) <= 2 and 1 <= len(b.axes) <= 2):
            return None
        rest = (*_rest(a.axes, (over,)), *_rest(b.axes, (over,)))
        if rest != keep and len(keep) == 2:
            a, b = b, a
        left = a.at(ATOM) if len(a.axes) == 1 or a.axes[1] == over else f"{a.at(ATOM)}.T"
        right = b.at(ATOM) if b.axes[0] == over else f"{b.at(ATOM)}.T"
        return Code(f"{left} @ {right}", (*_rest(a.axes, (over,)), *_rest(b.axes, (over,))), MATMUL)

    def _subscripts(self, groups: Sequence[Sequence[Axis]], keep: Sequence[Axis]) -> str:
        letters: dict[Axis, str] = {}
        for a in dict.fromkeys(a for g in (*groups, keep) for a in g):
            wish = a.name[0].lower() if a.name[0].lower() in _LETTERS else "a"
            letters[a] = next(c for c in (wish, *_LETTERS, *_LETTERS.upper()) if c not in letters.values())
        return ",".join("".join(letters[a] for a in g) for g in groups) + "->" + "".join(letters[a] for a in keep)

    def _axis_argument(self, axes: Sequence[Axis], over: Sequence[Axis], *, keepdims: bool = False) -> str:
        places = [axes.index(a) for a in over if a in axes]
        text = (
            ""
            if len(places) == len(axes) and not keepdims
            else f"axis={places[0] if len(places) == 1 else tuple(places)}"
        )
        return text + (", keepdims=True" if keepdims else "")

    def _maximiser(self, node: Maximiser) -> Code:
        self.uses.add("_maximiser")
        body = self.write(node.operand)
        places = tuple(body.axes.index(a) for a in node.over)
        named = dict(zip(node.over, node.indices))
        return Code(f"_maximiser({body.text}, axis={places})", [named.get(a, a) for a in body.axes])

    def _align(self, code: Code, axes: Sequence[Axis], *, drop: bool = False) -> Code:
        """Transpose and insert axes so that broadcasting by position does what broadcasting by name means."""
        order = [a for a in axes if a in code.axes]
        text, level = code.text, code.level
        if list(code.axes) != order:
            places = [code.axes.index(a) for a in order]
            text = (
                f"{code.at(ATOM)}.T"
                if places == [1, 0]
                else f"{code.at(ATOM)}.transpose({', '.join(map(str, places))})"
            )
            level = ATOM
        missing = [a not in code.axes for a in axes]
        first = next((k for k, m in enumerate(missing) if not m), len(axes))
        if order and any(missing[first:]):
            index = ", ".join("None" if m else ":" for m in missing[first:])
            text, level = f"{text if level >= ATOM else f'({text})'}[{index}]", ATOM
        return Code(text, axes, level)

    def _map(self, node: Map) -> Code:
        axes = self._ordered(node.axes)
        codes = [self._align(self.write(a), axes) for a in node.arguments]
        text, level = self._expression(node.function, {slot(k): c for k, c in enumerate(codes)})
        return Code(text, axes, level)

    def _ordered(self, axes: Iterable[Axis]) -> list[Axis]:
        """Axes in the order in which the arguments bring them, so that few transposes are needed."""
        return sorted(axes, key=lambda a: self.order.index(a) if a in self.order else len(self.order))

    # scalar functions

    def _expression(self, e: Any, slots: Mapping[sympy.Symbol, Code]) -> tuple[str, int]:
        def go(node: Any, level: int = 0) -> str:
            text, own = self._expression(node, slots)
            return text if own >= level else f"({text})"

        if e in slots:
            return slots[e].text, slots[e].level
        if e.is_Rational:
            if e.q == 1:
                return str(e), ATOM if e >= 0 else SUM
            if _dyadic(e):
                return repr(float(e)), ATOM if e >= 0 else SUM
            return f"{e.p} / {e.q}", PRODUCT if e >= 0 else SUM
        if e.is_Symbol:
            return (self.sizes[e] if e in self.sizes else identifier(str(e))), ATOM
        if e in (sympy.oo, -sympy.oo):
            return ("np.inf", ATOM) if e is sympy.oo else ("-np.inf", SUM)
        if e in (sympy.pi, sympy.E):
            return f"np.{'pi' if e is sympy.pi else 'e'}", ATOM
        if e.is_Add:
            return self._sum_expression(e, go)
        if e.is_Mul:
            return self._product_expression(e, go)
        if e.is_Pow:
            return self._power_expression(e, go)
        if isinstance(e, sympy.Piecewise) and (inner := sign_argument(e)) is not None:
            return f"np.sign({go(inner)})", ATOM
        if isinstance(e, sympy.Piecewise):
            *cases, (last, _) = e.args
            text = go(last)
            for value, condition in reversed(cases):
                text = f"np.where({go(condition)}, {self._guarded(value, condition, slots)}, {text})"
            return text, ATOM
        if isinstance(e, Relational):
            sign = {"Equality": "==", "Unequality": "!="}.get(type(e).__name__, e.rel_op)
            return f"({go(e.lhs)} {sign} {go(e.rhs)})", ATOM
        if isinstance(e, sympy.And | sympy.Or):
            return "(" + (" & " if isinstance(e, sympy.And) else " | ").join(go(a, ATOM) for a in e.args) + ")", ATOM
        if isinstance(e, sympy.Not):
            return f"~{go(e.args[0], ATOM)}", ATOM
        return self._call(e, go), ATOM

    def _guarded(self, value: Any, condition: Any, slots: Mapping[sympy.Symbol, Code]) -> str:
        """A branch for u > 0 with log u or 1/u: NumPy evaluates it everywhere, so u is 1 where it does not hold."""
        u = condition.lhs if isinstance(condition, sympy.Gt) and condition.rhs == 0 else None
        if u not in slots or not (value.has(sympy.log) or any(p.exp.is_negative for p in value.atoms(sympy.Pow))):
            return self._expression(value, slots)[0]
        inner = slots[u]
        safe = Code(f"np.where({inner.text} > 0, {inner.text}, 1.0)", inner.axes)
        return self._expression(value, {**slots, u: safe})[0]

    def _sum_expression(self, e: Any, go: Any) -> tuple[str, int]:
        text = ""
        terms = sorted(e.args, key=lambda t: (t.could_extract_minus_sign(), _slot_order(t)))
        for t in terms:
            negative = t.could_extract_minus_sign()
            part = go(-t if negative else t, MATMUL)
            text += (" - " if negative else " + ") + part if text else ("-" if negative else "") + part
        return text, SUM

    def _product_expression(self, e: Any, go: Any) -> tuple[str, int]:
        if e.args[0] == -1:
            return f"-{go(sympy.Mul(*e.args[1:]), PRODUCT)}", SUM
        numerator, denominator = sympy.fraction(e, exact=True)
        text = " * ".join(go(f, PRODUCT) for f in sympy.Mul.make_args(numerator))
        return (text if denominator == 1 else f"{text} / {go(denominator, ATOM)}"), PRODUCT

    def _power_expression(self, e: Any, go: Any) -> tuple[str, int]:
        base, exponent = e.args
        if base is sympy.E:
            return f"np.exp({go(exponent)})", ATOM
        if exponent == sympy.Rational(1, 2):
            return f"np.sqrt({go(base)})", ATOM
        if exponent.is_Rational and exponent < 0:
            return f"1 / {go(base**-exponent, ATOM)}", PRODUCT
        return f"{go(base, ATOM)}**{go(exponent, ATOM)}", PRODUCT

    def _call(self, e: Any, go: Any) -> str:
        name = type(e).__name__
        arguments = ", ".join(go(a) for a in e.args)
        if name in self.functions:
            return f"{self.functions[name]}({arguments})"
        if name in _NUMPY:
            return f"np.{_NUMPY[name]}({arguments})"
        if name in ("erf", "erfc"):
            self.uses.add(name)
            return f"{name}({arguments})"
        definition = getattr(type(e), "definition", None)
        if definition is not None:
            return go(definition(*e.args), 0)
        raise Unsupported(f"no NumPy source for the function {name}")


_NUMPY = {
    "exp": "exp", "log": "log", "tanh": "tanh", "sinh": "sinh", "cosh": "cosh", "sin": "sin", "cos": "cos",
    "tan": "tan", "atan": "arctan", "asin": "arcsin", "acos": "arccos", "Abs": "abs", "sign": "sign",
    "Max": "maximum", "Min": "minimum",
}  # fmt: skip

#: Helpers that generated source may need.
HELPERS = {
    "_maximiser": (
        "def _maximiser(a, axis):\n"
        "    hit = a == a.max(axis=axis, keepdims=True)\n"
        "    return hit / hit.sum(axis=axis, keepdims=True)\n"
    ),
    "_window": (
        "def _window(a, axis, windows, taps, stride=1, dilation=1, padding=0):\n"
        '    """Axis i becomes (p, u): a[..., p*stride + u*dilation - padding, ...], zero outside."""\n'
        "    place = np.arange(windows)[:, None] * stride + np.arange(taps) * dilation\n"
        "    padded = np.pad(a, [(padding, padding) if k == axis else (0, 0) for k in range(a.ndim)])\n"
        "    return np.take(padded, place, axis)\n"
    ),
    "_overlap": (
        "def _overlap(a, axis, tap_axis, size, stride=1, dilation=1, padding=0):\n"
        '    """The adjoint of _window: entry (p, u) is added at p*stride + u*dilation - padding."""\n'
        "    taps = np.moveaxis(a, (tap_axis, axis), (0, 1))\n"
        "    room = max(size + 2 * padding, taps.shape[1] * stride + taps.shape[0] * dilation)\n"
        "    total = np.zeros((room, *taps.shape[2:]), dtype=a.dtype)\n"
        "    for u, tap in enumerate(taps):\n"
        "        total[u * dilation : u * dilation + len(tap) * stride : stride] += tap\n"
        "    return np.moveaxis(total[padding : padding + size], 0, axis - (tap_axis < axis))\n"
    ),
    "_tie": (
        "def _tie(size, windows, taps, stride=1, dilation=1, padding=0):\n"
        '    """1 where i = p*stride + u*dilation - padding, else 0; axes (i, p, u)."""\n'
        "    place = np.arange(windows)[:, None] * stride + np.arange(taps) * dilation - padding\n"
        "    return (np.arange(size)[:, None, None] == place).astype(float)\n"
    ),
    "erf": "from math import erf as _erf\n\nerf = np.vectorize(_erf, otypes=[float])\n",
    "erfc": "from math import erfc as _erfc\n\nerfc = np.vectorize(_erfc, otypes=[float])\n",
}


def _swap(pair: tuple[str, int]) -> tuple[str, tuple[Axis, ...], int]:
    return pair[0], (), pair[1]


def _rest(axes: Sequence[Axis], gone: Sequence[Axis]) -> tuple[Axis, ...]:
    return tuple(a for a in axes if a not in gone)


def _inverse(t: Tensor) -> Tensor | None:
    """t written as 1/u: u, else None."""
    if isinstance(t, Map) and t.function == 1 / slot(0):
        return t.arguments[0]
    return None


def _dyadic(e: sympy.Rational) -> bool:
    return bool(Fraction(int(e.p), int(e.q)) == Fraction(float(e))) and len(repr(float(e))) < 12


def _slot_order(t: sympy.Expr) -> list[str]:
    return sorted(str(s) for s in t.free_symbols) or ["~"]


def at_time(root: Tensor, time: Axis) -> Tensor:
    """An expression at one step: the time axis is gone from everything in it."""
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Input):
            memo[node] = Input(node.name, tuple(a for a in node.indices if a != time), node.facts)
        elif isinstance(node, Contract):
            memo[node] = contract((memo[f] for f in node.factors), (a for a in node.keep if a != time))
        elif isinstance(node, Named):
            memo[node] = Named(f"{node.name}_t", memo[node.operand], tuple(a for a in node.indices if a != time))
        elif isinstance(node, Maximiser):
            memo[node] = Maximiser(memo[node.operand], node.over, node.indices)
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return memo[root]


def size_lines(arguments: Iterable[Input], names: Iterable[str] = ()) -> tuple[list[str], dict[sympy.Symbol, str]]:
    """Lines that read symbolic axis sizes off the shapes of arguments, and how each size is then spelt.

    ``names`` are variables besides the arguments, whose names no size may take.
    """
    arguments = tuple(arguments)
    found: dict[sympy.Symbol, str] = {}
    lines: list[str] = []
    taken = {identifier(a.name) for a in arguments} | set(names)
    for a in arguments:
        for k, i in enumerate(a.indices):
            if i.size.is_Symbol and i.size not in found:
                name = str(i.size) if str(i.size) not in taken else f"size_{i.size}"
                found[i.size] = identifier(name)
                lines.append(f"{found[i.size]} = {identifier(a.name)}.shape[{k}]")
    return lines, found


def assignments(
    outputs: Mapping[str, tuple[Tensor, Sequence[Axis]]], writer: NumpyWriter, given: Iterable[str] = ()
) -> list[str]:
    """Lines that compute the outputs; named quantities first, each once, in order of definition."""
    lines: list[str] = []
    done = set(given)
    looped: set[Tensor] = set()
    for name, (tensor, axes) in outputs.items():
        for node in postorder(tensor):
            if isinstance(node, Recur) and signature(node) not in looped:
                looped.add(signature(node))
                lines.append(writer.loop(node.family))
            if isinstance(node, Named) and node.name not in done:
                done.add(node.name)
                lines.append(f"{identifier(node.name)} = {writer.write_as(node.operand, node.indices)}")
        if not (isinstance(tensor, Named) and tensor.name == name):
            text = writer.write_as(tensor, axes)
            if text != identifier(name):
                lines.append(f"{identifier(name)} = {text}")
    used = " ".join(lines)
    return [line for line in lines if line] if used else []


def drop_unused(lines: list[str], wanted: Iterable[str]) -> list[str]:
    """Assignments that a later line or a wanted name needs."""
    needed = set(wanted)
    kept: list[str] = []
    for line in reversed(lines):
        target, _, body = line.partition(" = ")
        if needed & set(target.split(", ")):
            kept.append(line)
            needed |= set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", body))
    return kept[::-1]
