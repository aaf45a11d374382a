"""A scalar formula as one line of Unicode text, as a person would write it: σ² not sigma**2, √ not sqrt, · not *."""

from __future__ import annotations

import sympy
from sympy.printing.pretty.pretty_symbology import greek_unicode
from sympy.printing.str import StrPrinter

from .enclosures import enclose

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class _Printer(StrPrinter):
    """SymPy's own one-line printer with the signs of print."""

    def _print_Symbol(self, symbol: sympy.Symbol) -> str:
        return greek_unicode.get(symbol.name, symbol.name)

    def _print_Pi(self, _: sympy.Expr) -> str:
        return "π"

    def _print_Exp1(self, _: sympy.Expr) -> str:
        return "e"

    def _print_Infinity(self, _: sympy.Expr) -> str:
        return "∞"

    def _print_NegativeInfinity(self, _: sympy.Expr) -> str:
        return "-∞"

    def _print_Abs(self, node: sympy.Abs) -> str:
        return f"|{self._print(node.args[0])}|"

    def _print_Pow(self, node: sympy.Pow, rational: bool = False) -> str:
        base, exponent = node.as_base_exp() if node.exp.is_Rational else (node.base, node.exp)
        base, exponent = (node.base, node.exp) if base != node.base else (base, exponent)
        if exponent == sympy.Rational(1, 2):
            text = self._print(base)
            return f"√{text}" if base.is_Symbol or base.is_Integer or base is sympy.pi else f"√({text})"
        if exponent.is_Rational and exponent.is_negative:
            return f"1/{self._factor(base**-exponent)}"
        if exponent.is_Integer:
            return self._factor(base) + str(exponent).translate(_SUPERSCRIPTS)
        return f"{self._factor(base)}^({self._print(exponent)})"

    def _factor(self, node: sympy.Expr) -> str:
        text = self._print(node)
        bare = node.is_Symbol or (node.is_Integer and node >= 0) or node.is_Function or node in (sympy.pi, sympy.E)
        power = node.is_Pow and node.exp.is_positive
        return text if bare or power or isinstance(node, sympy.Abs) else f"({text})"

    def _print_Mul(self, node: sympy.Mul) -> str:
        sign, node = ("-", -node) if node.could_extract_minus_sign() else ("", node)
        if not node.is_Mul:
            return sign + self._factor(node)
        above, below = sympy.fraction(node, exact=True)
        numerator, denominator = self._product(above), self._product(below)
        if below == 1:
            return sign + numerator
        wrapped = f"({denominator})" if below.is_Mul else denominator
        return f"{sign}{numerator}/{wrapped}"

    def _product(self, node: sympy.Expr) -> str:
        factors = sympy.Mul.make_args(node)
        if len(factors) == 1:
            return self._factor(factors[0])
        numbers = [f for f in factors if f.is_number]
        rest = [f for f in factors if not f.is_number]
        rest.sort(key=lambda f: (f.is_Function or f.has(sympy.Function), f.is_Add))
        return "·".join(self._factor(f) for f in [*numbers, *rest])

    def _print_Piecewise(self, node: sympy.Piecewise) -> str:
        shape = _absolute_argument(node)
        if shape is not None:
            return f"|{self._print(shape)}|"
        parts = [
            f"{self._print(value)} " + ("otherwise" if condition == sympy.true else f"if {self._print(condition)}")
            for value, condition in node.args
        ]
        return "{" + "; ".join(parts) + "}"

    def _print_Or(self, node: sympy.Or) -> str:
        return " or ".join(self._print(a) for a in node.args)

    def _print_And(self, node: sympy.And) -> str:
        return " and ".join(self._print(a) for a in node.args)

    def _print_Relational(self, node: sympy.core.relational.Relational) -> str:
        sign = {"==": "=", "<=": "≤", ">=": "≥", "!=": "≠"}.get(node.rel_op, node.rel_op)
        return f"{self._print(node.lhs)} {sign} {self._print(node.rhs)}"


def _absolute_argument(node: sympy.Piecewise) -> sympy.Expr | None:
    """u where the branches spell |u|: u if u > 0, −u if u < 0, else 0."""
    if len(node.args) != 3:
        return None
    (plus, positive), (minus, negative), (zero, rest) = node.args
    spelt = positive == (plus > 0) and minus == -plus and negative == (plus < 0) and zero == 0 and rest == sympy.true
    return plus if spelt else None


def value_text(value: sympy.Expr, width: int = 24, digits: int = 15) -> str:
    """A constant in closed form where that is short, otherwise its proven digits.

    >>> value_text(sympy.Rational(1, 4)), value_text(sympy.exp(sympy.sqrt(2) / 3 + sympy.pi) - sympy.erf(1), width=12)
    ('1/4', '36.2343119283609')
    """
    if value.has(sympy.zoo, sympy.oo, sympy.nan):
        return "infinity" if not value.has(sympy.nan) else "undefined"
    text = formula_text(value)
    return text if len(text) <= width else enclose(value, digits=digits + 5).str(digits, radius=False)


def formula_text(expression: sympy.Expr) -> str:
    """One line of Unicode for ``expression``.

    >>> from .symbols import x
    >>> formula_text(x**2 * sympy.exp(-x) / sympy.sqrt(2 * sympy.pi))
    '√2·x²·exp(-x)/(2·√π)'
    """
    return str(_Printer({"order": None}).doprint(expression))
