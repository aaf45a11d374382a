"""Numbers for the proof at fixed shapes: an enclosure for the branches, and a residue for the identity.

Each real input, upstream gradient and hyper-parameter is an independent random residue modulo a prime near 2⁵¹²; each
exp, log, … of a new argument another one.  Arithmetic is exact modulo the prime, so two expressions that are one
rational function of the inputs and of these values always meet, and two that are not meet with a probability of at
most degree/2⁵¹¹ (Schwartz and Zippel).  The degree is counted along.  Comparisons are decided by the enclosure.

Known relations: exp(−x)·exp(x) = 1, exp(log x) = x, tanh, sinh and cosh in terms of exp, odd and even functions,
√a·√b = √(ab), and what follows from these.  A relation that is not known can only keep a right gradient from being
proved.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

from flint import arb, fmpz

from .exact_scalars import NotCovered

#: 7 modulo 8, so that −1 is no square, and every prime below 37 is a square: √2, √3, … exist.
PRIME = 2**512 - 2491865
_HALF = PRIME // 2
#: The count of degrees beyond which nothing is claimed: the bound would still be 2⁻³¹¹.
MAX_DEGREE_BITS = 200


class NoRoot(ArithmeticError):  # noqa: N818
    """A square root of a residue that has none: half of all residues; other random inputs are drawn."""


class Number:
    """A real number: its enclosure, its residue, a bound on its degree (log₂), and a factor under its logarithm."""

    __slots__ = ("ball", "bits", "head", "product", "residue")

    def __init__(self, ball: arb, residue: int, bits: float = 0.0, head: int | None = None, product: int = 1) -> None:
        self.ball, self.residue, self.bits = ball, residue % PRIME, bits
        self.head, self.product = (residue % PRIME if head is None else head), product  # value = head + log(product)
        if bits > MAX_DEGREE_BITS:
            raise NotCovered("the degree of the expression is too high")

    # What code asks of an enclosure is answered by the enclosure.
    def __getattr__(self, name: str) -> Any:
        if name in _APPLIED:
            return lambda: self.apply(_APPLIED[name])
        if name in _ASKED:
            return getattr(self.ball, name)
        raise AttributeError(name)  # python-flint would take what looks like one of its numbers for a plain ball

    def __lt__(self, other: Any) -> bool:
        return bool(self.ball < number(other).ball)

    def __gt__(self, other: Any) -> bool:
        return bool(self.ball > number(other).ball)

    def __le__(self, other: Any) -> bool:
        return bool(self.ball <= number(other).ball)

    def __ge__(self, other: Any) -> bool:
        return bool(self.ball >= number(other).ball)

    def __eq__(self, other: Any) -> bool:
        return bool(self.ball == number(other).ball)

    def __ne__(self, other: Any) -> bool:
        return bool(self.ball != number(other).ball)

    __hash__ = object.__hash__

    def __neg__(self) -> Number:
        return Number(-self.ball, -self.residue, self.bits, -self.head % PRIME, pow(self.product, -1, PRIME))

    def __add__(self, other: Any) -> Number:
        b = number(other)
        head, product = (self.head + b.head) % PRIME, self.product * b.product % PRIME
        return Number(self.ball + b.ball, self.residue + b.residue, _more(self, b), head, product)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Number:
        return self + (-number(other))

    def __rsub__(self, other: Any) -> Number:
        return number(other) + (-self)

    def __mul__(self, other: Any) -> Number:
        b = number(other)
        return Number(self.ball * b.ball, self.residue * b.residue, _more(self, b))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Number:
        b = number(other)
        return Number(self.ball / b.ball, self.residue * _inverse(b.residue), _more(self, b))

    def __rtruediv__(self, other: Any) -> Number:
        return number(other) / self

    def __pow__(self, other: Any) -> Number:
        if isinstance(other, int):
            ball = self.ball**other
            if other < 0:
                return Number(ball, pow(_inverse(self.residue), -other, PRIME), self.bits + math.log2(1 - other))
            return Number(ball, pow(self.residue, other, PRIME), self.bits + math.log2(1 + other))
        exponent = number(other)
        if exponent.ball.is_exact() and (doubled := (2 * exponent.ball).unique_fmpz()) is not None:
            return self.apply("sqrt") ** int(doubled)
        log = self.apply("log")
        ball = self.ball**exponent.ball
        made = (exponent * log).apply("exp")
        return Number(ball, made.residue, made.bits)

    def __rpow__(self, other: Any) -> Number:
        return number(other) ** self

    def floor(self) -> arb:
        return self.ball.floor()

    def ceil(self) -> arb:
        return self.ball.ceil()

    def apply(self, name: str) -> Number:
        """Return a function of the number."""
        if name in _DERIVED:
            return _DERIVED[name](self)
        if name not in _ATOMS:
            raise NotCovered(f"{name} has no residue")
        return _ATOMS[name](self)


def _more(a: Number, b: Number) -> float:
    return max(a.bits, b.bits) + 1.0


def _inverse(residue: int) -> int:
    if residue == 0:
        raise NotCovered("a division by zero")
    return pow(residue, -1, PRIME)


def number(value: Any) -> Number:
    """Return a constant as a number: rationals exactly, other constants (π, log 2) as independent residues."""
    if isinstance(value, Number):
        return value
    if isinstance(value, int):
        return Number(arb(value), value)
    if isinstance(value, fmpz):
        return Number(arb(value), int(value))
    if isinstance(value, arb):
        if value.is_exact() and value.is_finite():
            mantissa, exponent = value.man_exp()
            scale = pow(2, int(exponent), PRIME) if exponent >= 0 else _inverse(pow(2, -int(exponent), PRIME))
            return Number(value, int(mantissa) * scale)
        return Number(value, oracle("constant", value.str(280, radius=False)))
    raise NotCovered(f"a constant of type {type(value).__name__} has no residue")


def rational(top: int, bottom: int) -> Number:
    """Return a rational number exactly."""
    return Number(arb(top) / bottom, top * _inverse(bottom))


_SEED = [0]


def reseed(seed: int) -> None:
    """Draw other values for exp, log, … of every argument."""
    _SEED[0] = seed


def oracle(name: str, key: Any) -> int:
    """Return the residue that stands for a value: the same for the same name and argument, else independent."""
    text = f"{_SEED[0]}|{name}|{key}".encode()
    digest = hashlib.sha512(text).digest() + hashlib.sha512(b"more" + text).digest()
    return int.from_bytes(digest, "big") % (PRIME - 1) + 1


# Functions -----------------------------------------------------------------------------------------------------------
def _exp(v: Number) -> Number:
    argument, factor = v.head, v.product
    turned = argument > _HALF  # exp(−x) = 1/exp(x)
    value = 1 if argument == 0 else oracle("exp", PRIME - argument if turned else argument)
    return Number(v.ball.exp(), (_inverse(value) if turned else value) * factor, v.bits + 1)


def _log(v: Number) -> Number:
    value = oracle("log", v.residue) if v.residue != 1 else 0
    return Number(v.ball.log(), value, v.bits + 1, 0, v.residue)


def _sqrt(v: Number) -> Number:
    root = pow(v.residue, (PRIME + 1) // 4, PRIME)
    if root * root % PRIME != v.residue:
        raise NoRoot
    return Number(v.ball.sqrt(), root, v.bits + 1)  # the root that is a square itself: √a·√b = √(ab)


def _odd(name: str, function: Callable[[arb], arb]) -> Callable[[Number], Number]:
    def apply(v: Number) -> Number:
        turned = v.residue > _HALF
        value = 0 if v.residue == 0 else oracle(name, PRIME - v.residue if turned else v.residue)
        return Number(function(v.ball), -value if turned else value, v.bits + 1)

    return apply


def _even(name: str, function: Callable[[arb], arb]) -> Callable[[Number], Number]:
    return lambda v: Number(
        function(v.ball), oracle(name, min(v.residue, PRIME - v.residue)) if v.residue else 1, v.bits + 1
    )


def _plain(name: str, function: Callable[[arb], arb]) -> Callable[[Number], Number]:
    return lambda v: Number(function(v.ball), oracle(name, v.residue), v.bits + 1)


def _with_ball(value: Number, ball: arb) -> Number:
    return Number(ball, value.residue, value.bits)  # the sharper enclosure


def _tanh(v: Number) -> Number:
    e = (v + v).apply("exp")
    return _with_ball((e - 1) / (e + 1), v.ball.tanh())


def _hyperbolic(sign: int, function: Callable[[arb], arb]) -> Callable[[Number], Number]:
    def apply(v: Number) -> Number:
        e = v.apply("exp")
        return _with_ball((e + (1 / e) * sign) / 2, function(v.ball))

    return apply


_ATOMS: dict[str, Callable[[Number], Number]] = {
    "exp": _exp, "log": _log, "sqrt": _sqrt, "erf": _odd("erf", arb.erf), "sin": _odd("sin", arb.sin),
    "cos": _even("cos", arb.cos), "arcsin": _odd("asin", arb.asin), "arctan": _odd("atan", arb.atan),
    "gammaln": _plain("lgamma", arb.lgamma), "gamma": _plain("gamma", arb.gamma), "psi": _plain("psi", arb.digamma),
    "arcsinh": _odd("asinh", arb.asinh),
}  # fmt: skip
_DERIVED: dict[str, Callable[[Number], Number]] = {
    "neg": lambda v: -v,
    "square": lambda v: v * v,
    "reciprocal": lambda v: 1 / v,
    "expm1": lambda v: _with_ball(v.apply("exp") - 1, v.ball.expm1()),
    "log1p": lambda v: _with_log(v),
    "exp2": lambda v: (v * number(arb(2).log())).apply("exp"),
    "log2": lambda v: v.apply("log") / number(arb(2).log()),
    "log10": lambda v: v.apply("log") / number(arb(10).log()),
    "tanh": _tanh,
    "sinh": _hyperbolic(-1, arb.sinh),
    "cosh": _hyperbolic(1, arb.cosh),
    "tan": lambda v: v.apply("sin") / v.apply("cos"),
    "erfc": lambda v: _with_ball(1 - v.apply("erf"), v.ball.erfc()),
    "expit": lambda v: 1 / (1 + (-v).apply("exp")),
    "rsqrt": lambda v: 1 / v.apply("sqrt"),
}


#: The derivatives of UNARY in terms that the relations above know.
_SLOPES: dict[str, Callable[[Number, Number], Number]] = {
    "tanh": lambda v, y: 1 - y * y,
    "erf": lambda v, y: (-(v * v)).apply("exp") * 2 / number(arb.pi()).apply("sqrt"),
    "erfc": lambda v, y: (-(v * v)).apply("exp") * -2 / number(arb.pi()).apply("sqrt"),
    "expit": lambda v, y: y * (1 - y),
    "tan": lambda v, y: 1 + y * y,
}


def slope(name: str, rule: Callable[..., Any], v: Number, y: Number) -> Any:
    """Return the derivative of a function at v with the value y."""
    return _SLOPES[name](v, y) if name in _SLOPES else rule(v, y)


def _with_log(v: Number) -> Number:
    made = (v + 1).apply("log")
    return Number(v.ball.log1p(), made.residue, made.bits, made.head, made.product)


#: What code asks of an enclosure.
_ASKED = {
    "is_finite", "is_exact", "is_integer", "is_nan", "unique_fmpz", "contains", "overlaps", "mid", "rad", "abs_lower",
    "abs_upper", "str",
}  # fmt: skip
#: Methods of enclosures that UNARY's derivatives call.
_APPLIED = {"exp": "exp", "log": "log", "sqrt": "sqrt", "sin": "sin", "cos": "cos", "sinh": "sinh", "cosh": "cosh",
            "tanh": "tanh", "digamma": "psi", "erf": "erf"}  # fmt: skip
