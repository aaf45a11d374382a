"""Programs of activations whose parameters are inputs beside x: one program for every value of a parameter.

A branch of the formula that is no polynomial is written f(x; p) = m(p)·xʲ·h(c(p)·x): m and c are products of powers of
the parameters, h is a function of one variable t = c·x alone. SiLU with a steepness is x·σ(βx), CELU below 0
α·expm1(x/α), its derivative by α t-wise expm1(t) − t·eᵗ. That is decided by algebra (:func:`scaling`); what has no such
form is refused. h gets its stable program once (:mod:`.stability`), free of parameters.

What the scaling itself would lose:

* t is rounded, and exp makes 700 units of half a unit in t. float64 results are computed in pairs (:mod:`.pairs`), t
  like any other step; float32 ones have digits enough, but at a root of h, where lo of t = hi + lo enters the factor
  t − root of its local polynomial. There t is compared with three parts of the root.
* m·xʲ times an exponential leaves the range where neither result nor factors do: m, xʲ, the exponential and dy are
  mantissas and exponents (:mod:`.scaled_products`). A sum with the logarithm of what decays is no such product: where h
  decays like q(|t|)·exp(−r|t|), q a polynomial, it is that far out.
* t may under- or overflow where the result does neither: beyond :data:`TINY` and :data:`HUGE` h is its leading term at
  0 or at ±∞, in which c cancels against m.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce

import flint
import sympy
from flint import arb
from sympy import Expr, Integer, Piecewise, Rational, Symbol

from .activations import Activation
from .arithmetic import Arithmetic, factored
from .compensated import Pair, plus, product
from .decaying import NotDecaying, a, half_line
from .enclosures import ball_function, exact_value, taylor
from .errors import InputError, Unsupported
from .local_polynomials import LocalPolynomial, refine_root
from .lowering import Builder, Lowering, Node, Program
from .pairs import paired
from .proof import PROOF_POINTS
from .scaled_products import multiplied, scaled
from .stability import Stable, assembled
from .symbols import x
from .zero_patches import PAIRED_BITS, SHORT_BITS

#: Below this |t| a function is its first term, above it its last one.
TINY, HUGE = Rational(1, 2**60), Integer(2**60)
#: Less than this gives 0 in 24 bits, whatever powers of such floats multiply it: there ∞ is no factor.
NOTHING = Rational(1, 2**800)
#: Functions whose argument decides the scale.
_FUNCTIONS = (sympy.exp, sympy.tanh, sympy.sinh, sympy.cosh, sympy.erf, sympy.erfc, sympy.sin, sympy.cos, sympy.atan)
#: Values of the parameters at which a program is held against its formula.
PROOF_VALUES = (Rational(1), Rational(3, 8), Rational(77, 16), Rational(5, 2**20))

Monomial = dict[Symbol, int]


@dataclass(frozen=True)
class Scaling:
    """m(p)·xʲ·h(c(p)·x): ``factor`` has the powers of m and of x, ``scale`` those of c, ``h`` is in x for t."""

    factor: Monomial
    scale: Monomial
    h: Expr
    #: the signs of t that occur
    sides: tuple[int, ...]
    #: h is this times tᵏ where |t| is tiny; None where h(0) ≠ 0
    first: tuple[Expr, int] | None
    #: side -> the same where |t| is huge; a side on which h stays bounded is not there
    last: Mapping[int, tuple[Expr, int]]
    #: side -> (q in a = |t|, r): h is q·exp(−r·a) far out
    tails: Mapping[int, tuple[Expr, Expr]]
    #: a term of h is the logarithm of one that decays: its product with the factors is not one of theirs
    has_logarithm: bool


def symbolic(row: Activation) -> Activation:
    """The row with its parameters as symbols. Raises :class:`InputError` for one that has none."""
    if not row.parameters:
        raise InputError(f"{row.name} has no parameters: use kernel({row.name!r})")
    return replace(row, parameters={})


def expressions(row: Activation, orders: Iterable[int], by: Iterable[Symbol] = ()) -> dict[str, Expr]:
    """Name of an output -> the derivatives in x of these orders, and ∂f/∂p for each parameter in ``by``."""
    free = symbolic(row)
    found = {("value", "derivative")[n] if n < 2 else f"derivative_{n}": free.derivative(n) for n in orders}
    return found | {f"by_{p}": free.expr.diff(p) for p in by}


# ---------------------------------------------------------------------------------------------------------- the scaling


def branches(e: Expr) -> list[tuple[Expr, sympy.Basic, tuple[int, ...]]]:
    """(value, condition, signs of x where it can hold) of each branch in order; one branch of what has none."""
    e = sympy.piecewise_fold(e)
    if not isinstance(e, Piecewise):
        return [(e, sympy.true, (1, -1))]
    distance, left, found = Symbol("a", positive=True), [1, -1], []
    for value, condition in e.args:
        at = {s: condition.subs(x, s * distance) for s in left}
        found.append((value, condition, tuple(s for s in left if at[s] != sympy.false)))
        left = [s for s in left if at[s] != sympy.true]
    return found


def scaling(e: Expr, sides: tuple[int, ...]) -> Scaling | None:
    """How ``e`` scales; None for a polynomial in x. Raises :class:`Unsupported` where it does not."""
    scale = _scale(e)
    if scale is None:
        return None
    if any(not p.is_positive for p in scale):
        sides = (1, -1)
    parameters = sorted(e.free_symbols - {x}, key=str)
    of_t = sympy.sympify(e).subs(x, x / _product(scale))
    h = sympy.factor_terms(of_t.subs(dict.fromkeys(parameters, 1)))
    factor = {p: _degree(of_t, p) for p in parameters}
    if sympy.simplify(of_t / _product(factor) - h) != 0:
        raise Unsupported(f"{str(e)[:80]} is no product of powers of its parameters and a function of {scale}")
    order = _order_of_zero(h)
    first = None
    if order and scale:
        without = h / x**order
        if not any(q.base == x and q.exp.is_negative for q in without.atoms(sympy.Pow)):
            factor = {p: factor.get(p, 0) + order * scale.get(p, 0) for p in {*factor, *scale}} | {x: order}
            h = without
        else:
            first = (sympy.limit(without, x, 0), order)
    last = {s: end for s in sides if (end := _growth(h.subs(x, s * x))) is not None} if scale else {}
    tails = {s: tail for s in sides if (tail := _tail(h.subs(x, s * a))) is not None}
    powers = {p: k for p, k in factor.items() if k}
    return Scaling(powers, scale, h, sides, first, last, tails, h.has(sympy.log) and bool(h.is_Add))


def _scale(e: Expr) -> Monomial | None:
    """The powers of c in the arguments r·c·x of the functions in ``e``; None where there are none."""
    found: set[Expr] = set()
    for function in e.atoms(*_FUNCTIONS):
        if function.free_symbols == {x}:
            found.add(Integer(1))
        elif x in function.free_symbols:
            ratio = sympy.cancel(function.args[0] / x)
            if x in ratio.free_symbols:
                raise Unsupported(f"{function} is no function of a multiple of x")
            found.add(ratio.as_independent(*ratio.free_symbols, as_Add=False)[1])
    if not found:
        return None
    if len(found) > 1:
        raise Unsupported(f"{str(e)[:80]} has more than one scale: {', '.join(map(str, found))}")
    return {p: int(k) for p, k in found.pop().as_powers_dict().items() if p != 1}


def _product(powers: Monomial) -> Expr:
    return sympy.Mul(*(p**k for p, k in powers.items()))


def _degree(e: Expr, p: Symbol) -> int:
    """k with e(…, 2p, …) = 2ᵏ·e, guessed at one point; the caller proves it."""
    at = dict.fromkeys(e.free_symbols, Rational(7, 5))
    with flint.ctx.workprec(200):
        one, two = (ball_function(e.subs(at | {p: v * at[p]}), ())() for v in (1, 2)) if p in at else (arb(1), arb(1))
        ratio = abs(two / one).log() / arb(2).log()
    return round(float(ratio.mid()))


def _order_of_zero(h: Expr) -> int:
    with flint.ctx.workprec(400):
        series = taylor(h, arb(0), 8)
    return next((k for k, c in enumerate(series or ()) if not c.contains(0)), 0)


def _growth(h: Expr) -> tuple[Expr, int] | None:
    """(L, d) with h ~ L·tᵈ at ∞, d ≥ 1; None where h stays bounded."""
    for degree in range(4):
        end = sympy.limit(h / x**degree, x, sympy.oo)
        if end.is_finite:
            return (end, degree) if degree else None
    raise Unsupported(f"{h} grows faster than x³")


def _tail(h: Expr) -> tuple[Expr, Expr] | None:
    """(q, r) with h = q(a)·exp(−ra)·(1 + O(aⁿ exp(−ra))); None where h does not decay like that.

    In the field of decaying quantities the lowest power of T counts, with log1p(V) = V.
    """
    try:
        line = half_line([h])
    except NotDecaying:
        return None
    if len(line.exponentials) != 1 or line.scaled or line.roots or line.atoms:
        return None
    (t,) = line.exponentials
    e = line.reduced(h).as_expr()
    e = e.xreplace({symbol: v.as_expr() for symbol, v in line.increments.items()}).xreplace(
        {symbol: value for value, symbol in line.constants.items()}
    )
    above, below = (sympy.Poly(part, t.symbol) for part in sympy.fraction(sympy.together(e)))
    power = min(m for (m,) in above.monoms()) - min(m for (m,) in below.monoms())
    quotient = sympy.cancel(_lowest(above) / _lowest(below))
    if power < 1 or set(t.terms) != {1} or not quotient.is_polynomial(a):
        return None
    return quotient, power * t.terms[1]


def _lowest(polynomial: sympy.Poly) -> Expr:
    """The coefficient of the lowest power."""
    return min(polynomial.terms())[1]


# ---------------------------------------------------------------------------------------------------------- the program


class _Assembly:
    """One program of several outputs in x, the parameters and, where it multiplies, ``dy``."""

    def __init__(self, parameters: Sequence[Symbol], arithmetic: Arithmetic, upstream: bool) -> None:
        self.b = Builder(["x", *(["dy"] if upstream else []), *map(str, parameters)])
        self.arithmetic, self.upstream = factored(arithmetic), upstream
        self.places = {s: self.b.input(str(s)) for s in (x, *parameters)}
        self.lowering = Lowering(self.b, (x, *parameters))

    def program(self, given: Mapping[str, Expr]) -> Program:
        b = self.b
        parts = {name: branches(e) for name, e in given.items()}
        scalings = {
            (name, k): scaling(value, sides) for name, of in parts.items() for k, (value, _, sides) in enumerate(of)
        }
        curved = {key: s for key, s in scalings.items() if s is not None}
        functions = self._functions(curved)
        outputs = {}
        for name, of in parts.items():
            places = [
                self._curved(curved[name, k], functions[name, k]) if (name, k) in curved else self.lowering.lower(value)
                for k, (value, _, _) in enumerate(of)
            ]
            total = places[-1]
            for place, (_, condition, _) in reversed(list(zip(places[:-1], of[:-1], strict=True))):
                total = b.op("select", self.lowering.condition(condition), place, total)
            number = b.op("eq", self.places[x], self.places[x])
            outputs[name] = b.op("select", number, total, self.places[x])
        factors = dict.fromkeys(outputs, ("dy",) if self.upstream else ())
        if self.arithmetic.paired:
            return paired(scaled(b.finish(outputs), factors), self.arithmetic)
        return multiplied(b.finish(outputs), factors)

    def _functions(self, curved: Mapping[tuple[str, int], Scaling]) -> dict[tuple[str, int], int]:
        """Places of h(t) of each branch, all of one scale in one stable program."""
        found: dict[tuple[str, int], int] = {}
        for scale in dict.fromkeys(tuple(s.scale.items()) for s in curved.values()):
            keys = [key for key, s in curved.items() if tuple(s.scale.items()) == scale]
            names = {key: f"h{k}" for k, key in enumerate(keys)}
            t = self._argument(curved[keys[0]])
            stable = _stable(tuple((names[key], _cut(curved[key], curved[key].h)) for key in keys), self.arithmetic)
            roots = {p: curved[key].h for key in keys for p in stable.patches.get(names[key], ()) if p.centre}
            values = self._spliced(stable.program, t, roots)
            found |= {key: values[names[key]] for key in keys}
        return found

    def _spliced(self, program: Program, t: Pair, roots: Mapping[LocalPolynomial, Expr]) -> dict[str, int]:
        """The steps of a program in one input, with that at ``t``; what guards NaN is left to the whole.

        The factor t − root of a local polynomial, (hi − c) − c′, takes lo and a third part of the root.
        """
        b, moved = self.b, list[int]()
        rests = {Rational(p.centre_rest.numerator, p.centre_rest.denominator): (p, h) for p, h in roots.items()}
        for node in program.nodes:
            operands = tuple(moved[o] for o in node.operands)
            if node.operation == "input":
                moved.append(t.hi)
            elif node.operation == "constant":
                moved.append(b.constant(node.leaf))
            elif node.operation == "select" and b.nodes[operands[0]] == Node("eq", (t.hi, t.hi)):
                moved.append(operands[1])
            elif node.operation == "with_rest" and -(b.value_of(operands[1]) or 0) in rests:
                third = b.constant(-_third_part(*rests[-b.value_of(operands[1])]))  # type: ignore[operator]
                moved.append(b.op("with_rest", b.op("with_rest", *operands), third))
            elif node.operation == "sub" and t.lo is not None and b.value_of(operands[1]) in rests:
                rest = plus(b, Pair(t.lo, None), Pair(b.op("neg", operands[1]), None))
                assert rest.lo is not None
                third = b.op("sub", rest.lo, b.constant(_third_part(*rests[b.value_of(operands[1])])))
                moved.append(b.op("add", b.op("add", operands[0], rest.hi), third))
            else:
                moved.append(b.op(node.operation, *operands))
        return {name: moved[place] for name, place in program.outputs.items()}

    def _argument(self, s: Scaling) -> Pair:
        """c·x, by products first; as hi and lo where the steps are not in pairs by themselves."""
        b = self.b
        powers = sorted(s.scale.items(), key=lambda item: (-item[1], str(item[0])))
        if self.arithmetic.paired:
            pair = Pair(self._scaled(powers), None)
        else:
            pair = Pair(self.places[x], None)
            for p, k in powers:
                for _ in range(abs(k)):
                    pair = product(b, pair, self.places[p], self.arithmetic) if k > 0 else self._quotient(pair, p)
        for p in s.scale:
            if not p.is_nonzero:  # 0·∞
                zero = b.op("eq", self.places[p], b.constant(0))
                pair = Pair(b.op("select", zero, b.constant(0), pair.hi), pair.lo)
        return pair

    def _scaled(self, powers: Sequence[tuple[Symbol, int]]) -> int:
        """c·x in steps that become pairs: a product leaves the range with its result, others are of mantissas."""
        b = self.b
        if all(k > 0 for _, k in powers) and sum(k for _, k in powers) <= 1:
            return self._times(self.places[x], dict(powers))
        mantissas, exponents = {}, {}
        for v in (x, *(p for p, _ in powers)):
            power = b.op("power_below", self.places[v])
            mantissas[v] = b.op("mul", self.places[v], b.op("inverse_power", power))
            exponents[v] = b.op("exponent_of", power)
        core, total = mantissas[x], exponents[x]
        for p, k in powers:
            for _ in range(abs(k)):
                core = b.op("mul" if k > 0 else "div", core, mantissas[p])
                total = b.op("add" if k > 0 else "sub", total, exponents[p])
        return b.op("raised", core, total)

    def _quotient(self, pair: Pair, p: Symbol) -> Pair:
        """(hi + lo)/p."""
        b, below = self.b, self.places[p]
        hi = b.op("div", pair.hi, below)
        rest = b.op("fma", b.op("neg", hi), below, pair.hi)
        return Pair(hi, b.op("div", rest if pair.lo is None else b.op("add", rest, pair.lo), below))

    def _curved(self, s: Scaling, value: int) -> int:
        b = self.b
        total = self._times(value, s.factor)
        if not self.arithmetic.paired:  # 0·∞
            none = b.op("lt", b.op("abs", value), b.constant(NOTHING))
            return b.op("select", none, value, total) if x in s.factor else total
        t = self._argument(s).hi
        for side, (quotient, rate) in s.tails.items():
            if s.has_logarithm:
                border = b.constant(sympy.floor(self.arithmetic.near_underflow / rate))
                tail = self._times(self._tail(t, quotient, rate), s.factor)
                total = b.op("select", b.op("lt", border, self._towards(side, t)), tail, total)
            if x in s.factor:
                border = b.constant(sympy.floor(self.arithmetic.gone / rate))
                total = b.op("select", b.op("lt", border, self._towards(side, t)), b.constant(0), total)
        for side, (end, degree) in s.last.items():
            beyond = b.op("lt", b.constant(HUGE), self._towards(side, t))
            total = b.op("select", beyond, self._term(s, end * side**degree, degree), total)
        if s.first is not None:
            tiny = b.op("lt", b.op("abs", t), b.constant(TINY))
            total = b.op("select", tiny, self._term(s, *s.first), total)
        return total

    def _tail(self, t: int, quotient: Expr, rate: Expr) -> int:
        """q(|t|)·exp(−r·|t|)."""
        b, inner = self.b, Lowering(self.b, ())
        inner.symbols[a] = b.op("at_most", b.op("abs", t), b.constant(sympy.floor(self.arithmetic.gone / rate)))
        return b.op("mul", inner.lower(quotient), inner.lower(sympy.exp(-rate * a)))

    def _towards(self, side: int, t: int) -> int:
        return t if side == 1 else self.b.op("neg", t)

    def _term(self, s: Scaling, coefficient: Expr, degree: int) -> int:
        """coefficient·tᵈ·m·xʲ with the powers of the parameters joined."""
        powers = {v: s.factor.get(v, 0) + degree * s.scale.get(v, 0) for v in {*s.factor, *s.scale}}
        powers[x] = powers.get(x, 0) + degree
        return self._times(self.b.constant(coefficient), {v: k for v, k in powers.items() if k})

    def _times(self, place: int, powers: Monomial) -> int:
        """A step times powers of x and the parameters; plain parameters are one factor."""
        b = self.b
        plain = sorted((v for v, k in powers.items() if v != x and k == 1), key=str)
        if len(plain) > 1:
            place = b.op("mul", place, reduce(lambda p, q: b.op("mul", p, q), (self.places[v] for v in plain)))
        for v in sorted(powers, key=lambda v: (v != x, -powers[v], str(v))):
            for _ in range(0 if len(plain) > 1 and v in plain else abs(powers[v])):
                place = b.op("mul" if powers[v] > 0 else "div", place, self.places[v])
        return place


@lru_cache(maxsize=64)
def _third_part(patch: LocalPolynomial, h: Expr) -> Expr:
    """What a root exceeds the two floats by that its polynomial has of it, as a float."""
    near = Rational(1, 2**30)
    low, high = patch.centre - Fraction(near.p, near.q), patch.centre + Fraction(near.p, near.q)
    with flint.ctx.workprec(320):
        rest = refine_root(h, low, high) - exact_value(patch.centre) - exact_value(patch.centre_rest)
        value = Fraction(float(rest.mid()))
    return Rational(value.numerator, value.denominator)


def _cut(s: Scaling, h: Expr) -> Expr:
    """h on the sides that occur, 0 elsewhere."""
    if len(s.sides) == 2:
        return h
    return Piecewise((h, x >= 0 if s.sides == (1,) else x <= 0), (0, True))


@lru_cache(maxsize=128)
def _stable(named: tuple[tuple[str, Expr], ...], arithmetic: Arithmetic) -> Stable:
    return assembled(dict(named), arithmetic)


def parametric_program(
    row: Activation, orders: Sequence[int], arithmetic: Arithmetic, *, by: Sequence[Symbol] = (), upstream: bool = False
) -> Program:
    """The program of these derivatives in x and of ∂f/∂p for p in ``by``, with the parameters as inputs after x.

    ``upstream`` multiplies every output by an input ``dy``. ``arithmetic`` must fuse and be in pairs, or have
    more digits than wanted. The program is proved against the formula at points and parameter values before it is
    returned. Raises :class:`Unsupported` where the formula does not scale, :class:`InputError` for a row without
    parameters.
    """
    given = expressions(row, orders, by)
    parameters = tuple(row.parameters)
    made = _Assembly(parameters, arithmetic, upstream).program(given)
    _prove(made, given, parameters, upstream, arithmetic)
    return made


def _prove(
    program: Program, given: Mapping[str, Expr], parameters: Sequence[Symbol], upstream: bool, arithmetic: Arithmetic
) -> None:
    """Hold the program against the formula in balls at some points of :data:`.proof.PROOF_POINTS` and values.

    Local polynomials are as exact as their arithmetic wants, so agreement is asked to their digits.
    """
    bits, least = (PAIRED_BITS, arithmetic.range[0]) if arithmetic.paired else (SHORT_BITS, 400)
    functions = {name: ball_function(e, (x, *parameters)) for name, e in given.items()}
    dy = [exact_value(Rational(3, 2))] if upstream else []
    with flint.ctx.workprec(2 * factored(arithmetic).gone):
        for k, point in enumerate(PROOF_POINTS):
            values = [exact_value(PROOF_VALUES[(k + j) % len(PROOF_VALUES)]) for j in range(len(parameters))]
            at = exact_value(point)
            computed = program.enclose(at, *dy, *values)
            for name, function in functions.items():
                exact = function(at, *values) * (dy[0] if dy else 1)
                if not exact.is_finite() or exact.rel_accuracy_bits() < 120:
                    continue
                allowed = abs(exact) * arb(2) ** -(bits - 1) + arb(2) ** -least
                if not abs(computed[name] - exact) < allowed:
                    raise Unsupported(f"the program of {name} differs from its formula at x = {float(point)}")
