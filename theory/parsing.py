"""Text to SymPy by allow-list: Python's ``ast`` is walked node by node, and nothing in the text is ever evaluated.

SymPy's own ``sympify`` and ``parse_expr`` call ``eval`` and are never given outside text. The length of the text, its
depth, the size of its numbers and of its exponents are bounded, so that ``9**9**9**9`` is refused at once.

Conventions: decimals are exact (``0.1`` is 1/10); ``abs`` has value and slope 0 at 0, ``sign(0) = 0``; where ``max`` or
``min`` tie, a constant argument wins (so ``max(x, 0)`` has slope 0 at 0, as ReLU), otherwise the first.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import reduce

import sympy
from sympy import Expr, Piecewise, Rational, Symbol

from .errors import InputError
from .symbols import x as X

MAX_CHARACTERS = 2_000
MAX_NODES = 600
MAX_DEPTH = 60
MAX_DIGITS = 60
MAX_DECIMAL_EXPONENT = 400
MAX_EXPONENT = 64
MAX_POWER_BITS = 4_096

Function = Callable[..., Expr]


def parse_formula(
    text: str,
    *,
    variables: Iterable[str | Symbol] = ("x",),
    functions: Mapping[str, Function] | None = None,
) -> Expr:
    """Return the SymPy expression that ``text`` writes, in the given variables (real symbols).

    Knows ``+ - * / **``, comparisons and ``and or not`` inside ``where(condition, a, b)`` or ``a if condition else b``,
    the functions of :data:`FUNCTIONS`, every activation of the table by name, and ``pi`` and ``e``.
    ``functions`` adds further names.

    Raises :class:`InputError` naming the part that is not allowed.

    >>> parse_formula("x*tanh(log(1+exp(x)))")
    x*tanh(log(exp(x) + 1))
    >>> parse_formula("9**9**9**9")
    Traceback (most recent call last):
    backproof.theory.errors.InputError: formula '9**9**9**9': the power 9**387420489 is too large
    """
    symbols = [v if isinstance(v, Symbol) else (X if v == X.name else Symbol(v, real=True)) for v in variables]
    tree = _checked_tree(text)
    try:
        reader = _Reader({s.name: s for s in symbols}, functions or {}, _source(text))
        result = reader.read(tree)
    except InputError as error:
        raise InputError(f"formula {_short(text)}: {error}") from None
    except (ZeroDivisionError, OverflowError, RecursionError, ValueError, TypeError) as error:
        raise InputError(f"formula {_short(text)}: {error}") from None
    if not isinstance(result, Expr):
        raise InputError(f"formula {_short(text)}: is a condition, not a value; write where(condition, a, b)")
    if result.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise InputError(f"formula {_short(text)}: divides by zero")
    if result.has(sympy.ITE):  # SymPy's form of a comparison with branches inside; the rest knows and, or, not
        result = result.replace(sympy.ITE, lambda c, a, b: sympy.Or(sympy.And(c, a), sympy.And(sympy.Not(c), b)))
    if result.has(sympy.I):
        raise InputError(f"formula {_short(text)}: is not real (root or logarithm of a negative constant)")
    result = result.replace(sympy.Abs, absolute).replace(sympy.sign, sign)  # SymPy makes |x| of √(x²)
    for quantity, what in reader.needs:
        if not _still_visible(quantity, what, result):
            raise InputError(
                f"formula {_short(text)}: is not defined where {quantity} is {what}, which its simplified form "
                f"{str(result)[:80]} does not show; write the simplified form if that is meant"
            )
    return result


def _still_visible(quantity: Expr, what: str, result: Expr) -> bool:
    """Whether the place where a formula is not defined can be seen in what SymPy has made of it (√x² becomes x)."""
    if (
        quantity.is_positive
        or (what == "negative" and (quantity.is_nonnegative or _is_absolute(quantity)))
        or (what == "zero" and quantity.is_nonzero)
    ):
        return True
    shown = {base for node in sympy.preorder_traversal(result) for base in _domain_bases(node)}
    return all(base in shown or base.is_positive or (what == "zero" and base.is_nonzero) for base in _bases(quantity))


def _is_absolute(quantity: Expr) -> bool:
    return isinstance(quantity, Piecewise) and quantity == absolute(quantity.args[0][0])


def _domain_bases(node: sympy.Basic) -> set[Expr]:
    """The factors that must not vanish, or not be negative, for this node to be defined."""
    if isinstance(node, sympy.Pow) and (not node.exp.is_Integer or node.exp.is_negative):
        return _bases(node.base)
    if isinstance(node, sympy.log):
        return _bases(node.args[0])
    return set()


def _bases(quantity: Expr) -> set[Expr]:
    """The factors of a quantity without numbers, powers and content."""
    factors = (factor.as_base_exp()[0] for factor in sympy.Mul.make_args(quantity))
    found = {factor.primitive()[1] for factor in factors if factor.free_symbols}
    return {-base if base.could_extract_minus_sign() else base for base in found}


def _source(text: str) -> str:
    return text.strip().replace("^", "**").replace("\n", " ")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _checked_tree(text: str) -> ast.expr:
    """Parse ``text`` after the bounds that protect the parser itself."""
    if not isinstance(text, str) or not text.strip():
        raise InputError("formula is empty: write an expression in x, such as x*tanh(x)")
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"formula {_short(text)}: longer than {MAX_CHARACTERS} characters")
    if _bracket_depth(text) > MAX_DEPTH:
        raise InputError(f"formula {_short(text)}: nested deeper than {MAX_DEPTH} brackets")
    try:
        tree = ast.parse(_source(text), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "cannot be read"
        raise InputError(f"formula {_short(text)}: {reason}") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise InputError(f"formula {_short(text)}: more than {MAX_NODES} parts")
    if _depth(tree) > MAX_DEPTH:
        raise InputError(f"formula {_short(text)}: nested deeper than {MAX_DEPTH} levels")
    return tree


def _bracket_depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _depth(tree: ast.AST) -> int:
    level, frontier = 0, [tree]
    while frontier and level <= MAX_DEPTH:
        level, frontier = level + 1, [child for node in frontier for child in ast.iter_child_nodes(node)]
    return level


class _Reader:
    """Reads one tree; the methods are one per kind of node."""

    def __init__(self, symbols: Mapping[str, Symbol], functions: Mapping[str, Function], source: str) -> None:
        self.symbols = symbols
        self.functions = functions
        self.source = source
        #: (quantity, what it must not be): where the formula as it was written is not defined
        self.needs: list[tuple[Expr, str]] = []

    def read(self, node: ast.AST) -> sympy.Basic:
        reader = getattr(self, "_" + type(node).__name__.lower(), None)
        if reader is None:
            raise InputError(f"{type(node).__name__.lower()} is not part of a formula")
        return reader(node)

    def value(self, node: ast.AST) -> Expr:
        result = self.read(node)
        if not isinstance(result, Expr):
            raise InputError("a condition stands where a value is needed; write where(condition, a, b)")
        return result

    def _constant(self, node: ast.Constant) -> Expr:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise InputError(f"{node.value!r:.40} is not a number")
        # The text of the literal, not its float: 0.1 is one tenth.
        return _number(ast.get_source_segment(self.source, node) or repr(node.value))

    def _name(self, node: ast.Name) -> Expr:
        if node.id in self.symbols:
            return self.symbols[node.id]
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        raise InputError(self._unknown(node.id, [*self.symbols, *CONSTANTS]))

    def _unknown(self, name: str, values: list[str]) -> str:
        known = list(dict.fromkeys([*values, *self._functions()]))
        near = difflib.get_close_matches(name, known, n=2)
        hint = "did you mean " + " or ".join(near) + "?" if near else "known: " + ", ".join(known[:8]) + ", …"
        return f"unknown name {name[:40]!r}: {hint}"

    def _functions(self) -> dict[str, Function]:
        return {**_activation_functions(), **FUNCTIONS, **self.functions}

    def _unaryop(self, node: ast.UnaryOp) -> sympy.Basic:
        if isinstance(node.op, ast.Not):
            return sympy.Not(self.read(node.operand))
        operand = self.value(node.operand)
        if isinstance(node.op, ast.Invert):
            raise InputError("~ is not part of a formula")
        return -operand if isinstance(node.op, ast.USub) else operand

    def _binop(self, node: ast.BinOp) -> Expr:
        left, right = self.value(node.left), self.value(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                self._need(right, "zero")
                return left / right
            case ast.Pow():
                self._need_of_power(left, right)
                return power(left, right)
        raise InputError(f"operator {type(node.op).__name__} is not part of a formula")

    def _need(self, quantity: Expr, what: str) -> None:
        if quantity.free_symbols:
            self.needs.append((quantity, what))

    def _need_of_power(self, base: Expr, exponent: Expr) -> None:
        if exponent.is_negative:
            self._need(base, "zero")
        if not exponent.is_Integer:
            self._need(base, "negative")

    def _compare(self, node: ast.Compare) -> sympy.Basic:
        sides = [self.value(side) for side in (node.left, *node.comparators)]
        relations = []
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if type(operator) not in _RELATIONS:
                raise InputError(f"comparison {type(operator).__name__} is not part of a formula")
            relations.append(_RELATIONS[type(operator)](left, right))
        return sympy.And(*relations)

    def _boolop(self, node: ast.BoolOp) -> sympy.Basic:
        return (sympy.And if isinstance(node.op, ast.And) else sympy.Or)(*(self._condition(v) for v in node.values))

    def _ifexp(self, node: ast.IfExp) -> Expr:
        return where(self._condition(node.test), self.value(node.body), self.value(node.orelse))

    def _condition(self, node: ast.AST) -> sympy.Basic:
        result = self.read(node)
        if isinstance(result, Expr):
            raise InputError("a value stands where a condition such as x > 0 is needed")
        return result

    def _call(self, node: ast.Call) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise InputError(f"{type(node.func).__name__.lower()} cannot be called in a formula")
        name = node.func.id
        functions = self._functions()
        if name not in functions:
            raise InputError(self._unknown(name, list(functions)))
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            raise InputError("* is not allowed among arguments")
        if any(keyword.arg is None for keyword in node.keywords):
            raise InputError("** is not allowed among arguments")
        arguments = [
            self._condition(a) if name == "where" and i == 0 else self.value(a) for i, a in enumerate(node.args)
        ]
        keywords = {str(k.arg): self.value(k.value) for k in node.keywords}
        if name in _DOMAINS and len(arguments) == 1:
            self._need(*_DOMAINS[name](arguments[0]))
        if name == "pow" and len(arguments) == 2:
            self._need_of_power(*arguments)
        try:
            return functions[name](*arguments, **keywords)
        except TypeError:
            wanted = ", ".join(inspect.signature(functions[name]).parameters)
            raise InputError(f"wrong arguments for {name}(): write {name}({wanted})") from None


def _number(text: str) -> Rational:
    """The exact value of a decimal literal, within bounds."""
    mantissa, _, exponent = text.lower().replace("_", "").partition("e")
    if not mantissa.replace(".", "", 1).isdigit():
        raise InputError(f"{text[:40]!r} is not a decimal number")
    if len(mantissa) > MAX_DIGITS or abs(int(exponent or 0)) > MAX_DECIMAL_EXPONENT:
        raise InputError(f"the number {text[:40]} is too long or too large")
    return Rational(mantissa) * Rational(10) ** int(exponent or 0)


def power(base: Expr, exponent: Expr) -> Expr:
    """``base**exponent`` within bounds; a power with a variable exponent becomes exp(exponent·log(base))."""
    if exponent.free_symbols:
        return sympy.exp(exponent * sympy.log(base))
    if exponent.is_Integer and base.is_Rational:
        if base == 0 and exponent < 0:
            raise InputError("divides by zero")
        if abs(int(exponent)) * max(base.p.bit_length(), base.q.bit_length()) > MAX_POWER_BITS:
            raise InputError(f"the power {base}**{exponent} is too large")
    if exponent.is_Rational and (abs(exponent) > MAX_EXPONENT or exponent.q > MAX_EXPONENT) and base.free_symbols:
        raise InputError(f"the exponent {exponent} is too large (at most {MAX_EXPONENT})")
    if exponent.is_Rational and not exponent.is_Integer and base.is_negative:
        raise InputError(f"{base}**({exponent}) is not real")
    if not exponent.is_Rational:
        return sympy.exp(exponent * sympy.log(base))
    if not base.free_symbols and not base.is_Rational and abs(exponent) > MAX_EXPONENT:
        raise InputError(f"the exponent {exponent} is too large (at most {MAX_EXPONENT})")
    result = base**exponent
    merged = result.as_base_exp()[1]  # SymPy makes (x**64)**64 into x**4096
    if merged.is_Rational and abs(merged) > MAX_EXPONENT and result.free_symbols:
        raise InputError(f"the exponent {merged} is too large (at most {MAX_EXPONENT})")
    return result


def where(condition: sympy.Basic, then: Expr, otherwise: Expr) -> Expr:
    """``then`` where the condition holds, else ``otherwise``."""
    return Piecewise((then, condition), (otherwise, True))


def absolute(u: Expr) -> Expr:
    """|u| with value and slope 0 at 0."""
    return sympy.Abs(u) if not u.free_symbols else Piecewise((u, u > 0), (-u, u < 0), (sympy.S.Zero, True))


def sign(u: Expr) -> Expr:
    """−1, 0 or 1; slope 0 everywhere, at 0 too."""
    return (
        sympy.sign(u)
        if not u.free_symbols
        else Piecewise((sympy.S.One, u > 0), (-sympy.S.One, u < 0), (sympy.S.Zero, True))
    )


def maximum(*arguments: Expr) -> Expr:
    """The largest argument; where two tie a constant wins, otherwise the first."""
    return _extreme(arguments, sympy.Max, sympy.StrictGreaterThan)


def minimum(*arguments: Expr) -> Expr:
    """The smallest argument; where two tie a constant wins, otherwise the first."""
    return _extreme(arguments, sympy.Min, sympy.StrictLessThan)


def _extreme(arguments: tuple[Expr, ...], constant: Function, better: Callable[..., sympy.Basic]) -> Expr:
    if not arguments:
        raise TypeError("no argument")

    def pair(a: Expr, b: Expr) -> Expr:
        if not a.free_symbols and not b.free_symbols:
            return constant(a, b)
        winner, other = (a, b) if not a.free_symbols else (b, a)
        if winner.free_symbols:
            winner, other = a, b
        return Piecewise((other, better(other, winner)), (winner, True))

    return reduce(pair, arguments)


def _activation_functions() -> dict[str, Function]:
    from .activations import ACTIVATIONS  # not at the top: the activations' table uses this module

    return {name: row.at for name, row in ACTIVATIONS.items()}


CONSTANTS: dict[str, Expr] = {"pi": sympy.pi, "e": sympy.E, "E": sympy.E}

FUNCTIONS: dict[str, Function] = {
    "exp": lambda u: sympy.exp(u),
    "expm1": lambda u: sympy.exp(u) - 1,
    "log": lambda u: sympy.log(u),
    "ln": lambda u: sympy.log(u),
    "log1p": lambda u: sympy.log(1 + u),
    "sqrt": lambda u: sympy.sqrt(u),
    "tanh": lambda u: sympy.tanh(u),
    "sinh": lambda u: sympy.sinh(u),
    "cosh": lambda u: sympy.cosh(u),
    "sin": lambda u: sympy.sin(u),
    "cos": lambda u: sympy.cos(u),
    "tan": lambda u: sympy.tan(u),
    "atan": lambda u: sympy.atan(u),
    "arctan": lambda u: sympy.atan(u),
    "asin": lambda u: sympy.asin(u),
    "arcsin": lambda u: sympy.asin(u),
    "acos": lambda u: sympy.acos(u),
    "arccos": lambda u: sympy.acos(u),
    "erf": lambda u: sympy.erf(u),
    "erfc": lambda u: 1 - sympy.erf(u),
    "abs": absolute,
    "sign": sign,
    "max": maximum,
    "maximum": maximum,
    "min": minimum,
    "minimum": minimum,
    "pow": power,
    "where": where,
}

#: function -> (quantity, what it must not be) for its argument
_DOMAINS: dict[str, Callable[[Expr], tuple[Expr, str]]] = {
    "log": lambda u: (u, "zero or negative"),
    "ln": lambda u: (u, "zero or negative"),
    "log1p": lambda u: (1 + u, "zero or negative"),
    "sqrt": lambda u: (u, "negative"),
}

_RELATIONS: dict[type[ast.cmpop], Callable[..., sympy.Basic]] = {
    ast.Lt: sympy.StrictLessThan,
    ast.LtE: sympy.LessThan,
    ast.Gt: sympy.StrictGreaterThan,
    ast.GtE: sympy.GreaterThan,
    ast.Eq: sympy.Eq,
    ast.NotEq: sympy.Ne,
}
