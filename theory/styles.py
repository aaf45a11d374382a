"""How mathematics is spelt: Unicode text and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sympy

from .tensors import Axis

SUM, PRODUCT, ATOM = 1, 2, 3
_TEXT_SIGNS = {"<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}
_LATEX_SIGNS = {"<=": r"\le", ">=": r"\ge", "==": "=", "!=": r"\ne"}


_GREEK_LATEX = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "Δ": r"\Delta", "ε": r"\varepsilon", "μ": r"\mu",
    "σ": r"\sigma", "Σ": r"\Sigma", "λ": r"\lambda", "ρ": r"\rho", "τ": r"\tau", "κ": r"\kappa", "∂": r"\partial ",
}  # fmt: skip
_WORDS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "mu": "μ", "sigma": "σ", "rho": "ρ", "xhat": "x̂",
    "tau": "τ", "lam": "λ",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("0123456789+-()l", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ˡ")


class TextStyle:
    """Unicode text."""

    times, dot, transpose, one = " ⊙ ", " ", "ᵀ", "1"

    def name(self, name: str) -> str:
        before, word, layer = re.fullmatch(r"(d?)(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
        return f"{before}{_WORDS[word]}{layer}" if word in _WORDS else _WORDS.get(name, name)

    def indexed(self, name: str, indices: Sequence[Axis]) -> str:
        return self.name(name) + (f"[{','.join(a.name for a in indices)}]" if indices else "")

    def index(self, name: str) -> str:
        """One index."""
        return name

    def placed(self, name: str, places: Sequence[str]) -> str:
        """A variable at indices that are already written out."""
        return f"{self.name(name)}[{','.join(places)}]"

    def sum_where(self, over: Sequence[Axis], condition: str, body: str) -> str:
        """Σ over the indices that satisfy a condition."""
        return f"Σ_{{{','.join(a.name for a in over)}: {condition}}} {body}"

    def evaluated(self, body: str, places: str) -> str:
        """An expression at given indices."""
        return f"({body})|{places}"

    def transposed(self, text: str) -> str:
        return text + self.transpose

    def scalar(self, value: sympy.Expr) -> str:
        plain = sympy.sstr(value, order="none").replace("**", "^")
        plain = re.sub(r"\boo\b", "∞", re.sub(r"-oo\b", "−∞", re.sub(r"\bpi\b", "π", plain)))
        text = re.sub(r"√\((\w)\)", r"√\1", re.sub(r"\bsqrt\(", "√(", plain))
        return re.sub(r"[A-Za-z]+\w*", lambda m: _WORDS.get(m.group(), m.group()), text).replace("*", "·")

    def brackets(self, text: str) -> str:
        return f"({text})"

    def fraction(self, above: str, below: str, level: int, below_level: int) -> tuple[str, int]:
        above = above if level >= PRODUCT else f"({above})"
        return f"{above}/{below if below_level >= ATOM else f'({below})'}", PRODUCT

    def power(self, base: str, exponent: sympy.Expr) -> str:
        plain = str(exponent)
        return base + (plain.translate(_SUPERSCRIPTS) if re.fullmatch(r"-?\d+", plain) else f"^({plain})")

    def sum(self, over: Sequence[Axis], body: str) -> str:
        return f"Σ_{','.join(a.name for a in over)} {body}"

    def call(self, name: str, arguments: str) -> str:
        return f"{self.name(name)}({arguments})"

    def max(self, over: Sequence[Axis], body: str) -> str:
        return f"max_{','.join(a.name for a in over)} {body}"

    def maximiser(self, over: Sequence[Axis], body: str) -> str:
        return f"argmax_{','.join(a.name for a in over)}({body})"

    def delta(self, a: Axis, b: Axis) -> str:
        return f"δ[{a.name},{b.name}]"

    def cases(self, branches: list[tuple[str, str]]) -> str:
        if len(branches) == 2 and branches[0][0] == "1" and branches[1][0] == "0":
            return f"[{branches[0][1]}]"
        return "{" + "; ".join(f"{v} if {c}" if c else f"{v} else" for v, c in branches) + "}"

    def truth(self, text: str) -> str | None:
        """The condition c, if the text is [c]."""
        return text[1:-1] if re.fullmatch(r"\[[^\[\]]*\]", text) else None

    def relation(self, left: str, sign: str, right: str) -> str:
        return f"{left} {_TEXT_SIGNS.get(sign, sign)} {right}"

    def root(self, body: str) -> str:
        return f"√({body})"

    def magnitude(self, body: str) -> str:
        """|u|."""
        return f"|{body}|"


class LatexStyle(TextStyle):
    """LaTeX."""

    times, dot, transpose, one = r" \odot ", r"\, ", r"^{\top}", r"\mathbf{1}"

    def name(self, name: str) -> str:
        if re.fullmatch(r"d([A-Za-zΔδ]\d*|[a-z]{4,})", name) and (
            len(name.rstrip("0123456789")) == 2 or name[1:].rstrip("0123456789") in _WORDS or len(name) > 6
        ):
            return r"\mathrm{d}" + self.name(name[1:])
        if re.fullmatch(r"d([UVWbz][a-z]|[a-z]_gate)\d*", name):
            return r"\mathrm{d}" + self.name(name[1:])
        if name.startswith("∂E/∂"):
            return rf"\frac{{\partial E}}{{\partial {self.name(name[4:])}}}"
        name = _WORDS.get(name, name)
        if (word := name.rstrip("0123456789")) in _WORDS:
            name = _WORDS[word] + name[len(word) :]
        stem = re.match(r"^(.+?)(⁽[^⁾]*⁾|\d+)?(′*)$", name)
        assert stem is not None
        body, layer, primes = stem.groups()
        if body.endswith("̂"):
            body = rf"\hat{{{body[:-1]}}}"
        elif body.endswith("̄"):
            body = rf"\bar{{{body[:-1]}}}"
        elif body in _GREEK_LATEX:
            body = _GREEK_LATEX[body]
        elif re.fullmatch(r"[UVWbz][a-z]|[a-z]_gate", body):  # Uf, zf and f_gate: the gate's letter is a superscript
            body = f"{body[0]}^{{{body[1]}}}" if len(body) == 2 else rf"{body[0]}^{{\mathrm{{gate}}}}"
        elif len(body) > 1:
            body = rf"\mathrm{{{_escape(body)}}}"
        if layer and layer.startswith("⁽"):
            plain = layer.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ˡᴸ", "0123456789+-()lL"))
            body = f"{body}^{{{plain}}}"
        elif layer:
            body = f"{body}_{{{layer}}}"
        return body + "'" * len(primes)

    def index(self, name: str) -> str:
        return _index_latex(name)

    def placed(self, name: str, places: Sequence[str]) -> str:
        return rf"{{{self.name(name)}}}_{{" + r",\, ".join(places) + "}"

    def sum_where(self, over: Sequence[Axis], condition: str, body: str) -> str:
        letters = ",".join(_index_latex(a.name) for a in over)
        return rf"\sum_{{\substack{{{letters} \\ {condition}}}}} {body}"

    def evaluated(self, body: str, places: str) -> str:
        return rf"\left.\left({body}\right)\right|_{{{places}}}"

    def transposed(self, text: str) -> str:
        return (f"{{{text}}}" if text.endswith("}") and "^" in text else text) + self.transpose

    def indexed(self, name: str, indices: Sequence[Axis]) -> str:
        plain = self.name(name)
        if not indices:
            return plain
        letters = " ".join(_index_latex(a.name) for a in indices)
        return f"{{{plain}}}_{{{letters}}}" if "_" in plain.replace(r"\_", "") else f"{plain}_{{{letters}}}"

    def scalar(self, value: sympy.Expr) -> str:
        symbols = {s: self.name(str(s)) for s in value.free_symbols}
        return sympy.latex(value, symbol_names=symbols, order="none")

    def brackets(self, text: str) -> str:
        return rf"\left({text}\right)"

    def fraction(self, above: str, below: str, level: int, below_level: int) -> tuple[str, int]:
        return rf"\frac{{{above}}}{{{below}}}", PRODUCT

    def power(self, base: str, exponent: sympy.Expr) -> str:
        return f"{{{base}}}^{{{sympy.latex(exponent)}}}"

    def sum(self, over: Sequence[Axis], body: str) -> str:
        return rf"\sum_{{{','.join(_index_latex(a.name) for a in over)}}} {body}"

    def call(self, name: str, arguments: str) -> str:
        known = {"exp", "log", "tanh", "sin", "cos", "sinh", "cosh"}
        return rf"{chr(92) + name if name in known else self.name(name)}\left({arguments}\right)"

    def max(self, over: Sequence[Axis], body: str) -> str:
        return rf"\max_{{{','.join(_index_latex(a.name) for a in over)}}} {body}"

    def maximiser(self, over: Sequence[Axis], body: str) -> str:
        return rf"\operatorname{{argmax}}_{{{','.join(_index_latex(a.name) for a in over)}}}\left({body}\right)"

    def delta(self, a: Axis, b: Axis) -> str:
        return rf"\delta_{{{_index_latex(a.name)} {_index_latex(b.name)}}}"

    def cases(self, branches: list[tuple[str, str]]) -> str:
        if len(branches) == 2 and branches[0][0] == "1" and branches[1][0] == "0":
            return rf"\left[{branches[0][1]}\right]"
        lines = [rf"{v} & \text{{if }} {c}" if c else rf"{v} & \text{{otherwise}}" for v, c in branches]
        return r"\begin{cases} " + r" \\ ".join(lines) + r" \end{cases}"

    def truth(self, text: str) -> str | None:
        body = text.removeprefix(r"\left[").removesuffix(r"\right]")
        return body if len(body) == len(text) - 13 and r"\left[" not in body else None

    def relation(self, left: str, sign: str, right: str) -> str:
        return f"{left} {_LATEX_SIGNS.get(sign, sign)} {right}"

    def magnitude(self, body: str) -> str:
        return rf"\left|{body}\right|"

    def root(self, body: str) -> str:
        return rf"\sqrt{{{body}}}"


def _escape(text: str) -> str:
    return text.replace("_", r"\_")


def _index_latex(name: str) -> str:
    stem, digits = re.match(r"^(.*?)(\d*)$", name).groups()  # type: ignore[union-attr]
    stem = stem.replace("_", "").replace("*", "^{*}")
    return f"{stem}_{{{digits}}}" if digits else stem


TEXT, LATEX = TextStyle(), LatexStyle()
