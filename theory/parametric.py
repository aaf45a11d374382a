"""Programs of activations whose parameters are inputs beside x: one program for every value of a parameter.

A branch of the formula that is no polynomial is written f(x; p) = m(p)·xʲ·h(c(p)·x): m and c are products of powers of
the parameters, h is a function of one variable t = c·x alone. SiLU with a steepness is x·σ(βx), CELU below 0
α·expm1(x/α), its derivative by α t-wise expm1(t) − t·eᵗ. That is decided by algebra (:func:`scaling`); what has no such
form is refused. h gets its stable program once (:mod:`.stability`), free of parameters.

What the scaling itself would lose:

* t is rounded, and exp makes 700 units of half a unit in t. t is carried as hi + lo (one fused multiply-add), and
  h(hi + lo) = h(hi) + lo·h′(hi); at a root of h, lo goes into the factor t − root of its local polynomial.
* m·xʲ times a subnormal exponential has no digits: where h decays like q(|t|)·exp(−r|t|), q a polynomial, it is that
  far out, and the factors go in before the last product, 2⁻ᴸ of 2ᴸ·exp.
* t may under- or overflow where the result does neither: beyond :data:`TINY` and :data:`HUGE` h is its leading term at
  0 or at ±∞, in which c cancels against m.

Results of 24 bits from steps of 53 need lo at roots alone. An exponential is 0 for |t| above the arithmetic's ``gone``
(1000): in float64 with a parameter below 10⁻⁶⁰ or above 10⁶⁰ there are factors so large that e⁻¹⁰⁰⁰ times them were a
number (:data:`MODERATE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce
from math import gcd

import flint
import sympy
from flint import arb
from sympy import Expr, Integer, Piecewise, Rational, Symbol

from .activations import Activation
from .arithmetic import Arithmetic
from .compensated import Pair, lifted_exp_of_minus, lowered, plus, product
from .decaying import NotDecaying, a, half_line
from .enclosures import ball_function, exact_value, taylor
from .errors import InputError, Unsupported
from .half_lines import _reach
from .local_polynomials import LocalPolynomial, refine_root
from .lowering import Builder, Lowering, Node, Program
from .proof import PROOF_POINTS
from .stability import SHORT_BITS, Stable, stable_program
from .symbols import x

#: Below this |t| a function is its first term, above it its last one.
TINY, HUGE = Rational(1, 2**60), Integer(2**60)
#: Between these magnitudes of its parameters a float64 kernel loses nothing to :attr:`.Arithmetic.gone`.
MODERATE = (1e-60, 1e60)
#: From here on 2⁻⁵¹² times a number is a normal one; what is below and multiplied by any float does not overflow.
LARGE = Rational(1, 2**400)
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
    return Scaling({p: k for p, k in factor.items() if k}, scale, h, sides, first, last, tails)


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
        self.arithmetic = arithmetic
        self.places = {s: self.b.input(str(s)) for s in (x, *parameters)}
        self.upstream = [("mul", self.b.input("dy"))] if upstream else []
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
                self._curved(scalings[name, k], *functions[name, k]) if (name, k) in curved else self._plain(value)  # type: ignore[arg-type]
                for k, (value, _, _) in enumerate(of)
            ]
            total = places[-1]
            for place, (_, condition, _) in reversed(list(zip(places[:-1], of[:-1], strict=True))):
                total = b.op("select", self.lowering.condition(condition), place, total)
            number = b.op("eq", self.places[x], self.places[x])
            guarded = len(of) > 1 or (name, 0) not in curved
            outputs[name] = b.op("select", number, total, self.places[x]) if guarded else total
        return b.finish(outputs)

    def _functions(self, curved: Mapping[tuple[str, int], Scaling]) -> dict[tuple[str, int], tuple[int, int | None]]:
        """Places of h(hi) and h′(hi) of each branch, all of one scale in one stable program."""
        found: dict[tuple[str, int], tuple[int, int | None]] = {}
        for scale in dict.fromkeys(tuple(s.scale.items()) for s in curved.values()):
            keys = [key for key, s in curved.items() if tuple(s.scale.items()) == scale]
            names = {key: f"h{k}" for k, key in enumerate(keys)}
            t = self._argument(curved[keys[0]])
            stable = _stable(tuple((names[key], _cut(curved[key], curved[key].h)) for key in keys), self.arithmetic)
            roots = {p: curved[key].h for key in keys for p in stable.patches.get(names[key], ()) if p.centre}
            values = self._spliced(stable.program, t, roots)
            slopes: dict[str, int] = {}
            if scale and self.arithmetic.compensated:
                bare = replace(self.arithmetic, radii_at_roots=())
                wanted = tuple((names[key], _cut(curved[key], curved[key].h.diff(x))) for key in keys)
                slopes = self._spliced(_stable(wanted, bare).program, t, {})
                for key in keys:
                    for patch in (p for p in stable.patches.get(names[key], ()) if p.centre):
                        zero = self.b.constant(0)
                        slopes[names[key]] = self.b.op("select", self._inside(patch, t), zero, slopes[names[key]])
            found |= {key: (values[names[key]], slopes.get(names[key])) for key in keys}
        return found

    def _inside(self, patch: LocalPolynomial, t: Pair) -> int:
        b = self.b
        low, high = (b.constant(Rational(v.numerator, v.denominator)) for v in (patch.low, patch.high))
        return b.op("and", b.op("le", low, t.hi), b.op("le", t.hi, high))

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
            elif node.operation == "sub" and t.lo is not None and b.value_of(operands[1]) in rests:
                patch, h = rests[b.value_of(operands[1])]
                rest = plus(b, Pair(t.lo, None), Pair(b.op("neg", operands[1]), None))
                assert rest.lo is not None
                third = b.op("sub", rest.lo, b.constant(_third_part(patch, h)))
                moved.append(b.op("add", b.op("add", operands[0], rest.hi), third))
            else:
                moved.append(b.op(node.operation, *operands))
        return {name: moved[place] for name, place in program.outputs.items()}

    def _argument(self, s: Scaling) -> Pair:
        """c·x as a pair, by products first."""
        b = self.b
        pair = Pair(self.places[x], None)
        for p, k in sorted(s.scale.items(), key=lambda item: (-item[1], str(item[0]))):
            for _ in range(abs(k)):
                pair = product(b, pair, self.places[p], self.arithmetic) if k > 0 else self._quotient(pair, p)
        for p in s.scale:
            if not p.is_nonzero:  # 0·∞
                zero = b.op("eq", self.places[p], b.constant(0))
                pair = Pair(b.op("select", zero, b.constant(0), pair.hi), pair.lo)
        return pair

    def _quotient(self, pair: Pair, p: Symbol) -> Pair:
        """(hi + lo)/p."""
        b, below = self.b, self.places[p]
        hi = b.op("div", pair.hi, below)
        rest = b.op("fma", self._minus(hi), below, pair.hi)
        return Pair(hi, b.op("div", rest if pair.lo is None else b.op("add", rest, pair.lo), below))

    def _minus(self, place: int) -> int:
        return self.b.op("neg", place)

    def _plain(self, e: Expr) -> int:
        """A polynomial in x, as it is written."""
        place = self.lowering.lower(sympy.sympify(e))
        for _, factor in self.upstream:
            place = self.b.op("mul", factor, place)
        return place

    def _curved(self, s: Scaling, value: int, slope: int | None) -> int:
        b = self.b
        t = self._argument(s)
        steps = [*self._steps(s.factor), *self.upstream]
        total = self._pushed(value, steps)
        if not self.arithmetic.compensated:  # 0·∞
            none = b.op("lt", b.op("abs", value), b.constant(NOTHING))
            return b.op("select", none, value, total) if x in s.factor else total
        distance = b.op("abs", t.hi)
        if slope is not None and t.lo is not None:
            error = self._done(slope, [("mul", t.lo), *steps])
            finite = b.op("and", b.op("lt", distance, b.constant(HUGE)), self._is_finite(total))
            total = b.op("select", finite, b.op("add", total, error), total)
        if s.scale or s.factor or self.upstream:
            for side, (quotient, rate) in s.tails.items():
                border = b.constant(sympy.floor(self.arithmetic.near_underflow / rate))
                beyond = b.op("lt", border, t.hi if side == 1 else b.op("neg", t.hi))
                total = b.op("select", beyond, self._tail(s, t, distance, side, quotient, rate), total)
        for side, (end, degree) in s.last.items():
            beyond = b.op("lt", b.constant(HUGE), t.hi if side == 1 else b.op("neg", t.hi))
            total = b.op("select", beyond, self._term(s, end * side**degree, degree), total)
        if s.first is not None:
            total = b.op("select", b.op("lt", distance, b.constant(TINY)), self._term(s, *s.first), total)
        return total

    def _is_finite(self, place: int) -> int:
        return self.b.op("le", self.b.op("abs", place), self.b.constant(Integer(2**1024 - 2**971)))

    def _tail(self, s: Scaling, t: Pair, distance: int, side: int, quotient: Expr, rate: Expr) -> int:
        """m·xʲ·q(a)·2ᴸexp(−ra)·2⁻ᴸ; 0 where the exponential is gone."""
        b, arithmetic = self.b, self.arithmetic
        inner = Lowering(b, ())
        inner.symbols[a] = distance
        lo = None if t.lo is None else b.op("mul", b.constant(side * rate), t.lo)
        held = b.op("at_most", distance, b.constant(_reach({1: rate}, arithmetic.gone)))  # as h has it: one exponential
        exponent = Pair(b.op("mul", b.constant(rate), held), lo)
        core = b.op("mul", inner.lower(quotient), lifted_exp_of_minus(b, exponent, arithmetic))
        steps = [*self._steps(s.factor), *self.upstream]
        if len(steps) > 1:  # lowered after the first where it is large enough, else at the end: none leaves the range
            core = self._done(core, steps[:1])
            large = b.op("lt", b.constant(LARGE), b.op("abs", core))
            one, small = b.constant(1), b.constant(Integer(2) ** -arithmetic.lift)
            early, late = b.op("select", large, small, one), b.op("select", large, one, small)
            core = self._done(core, [("mul", early), *steps[1:], ("mul", late)])
        else:
            core = lowered(b, self._done(core, steps), arithmetic)
        gone = b.op("lt", b.constant(sympy.floor(arithmetic.gone / rate)), distance)
        return b.op("select", gone, b.constant(0), core)

    def _term(self, s: Scaling, coefficient: Expr, degree: int) -> int:
        """coefficient·tᵈ·m·xʲ with the powers of the parameters joined; common powers are taken last."""
        powers = {v: s.factor.get(v, 0) + degree * s.scale.get(v, 0) for v in {*s.factor, *s.scale}}
        powers[x] = powers.get(x, 0) + degree
        powers = {v: k for v, k in powers.items() if k}
        common = gcd(*powers.values()) if powers else 1
        whole = coefficient == 1 or not powers
        steps = self._steps({v: k // common for v, k in powers.items()})
        root = self._done(self.b.constant(coefficient if whole else 1), steps)
        place = self.b.power(root, common) if common > 1 else root
        place = place if whole else self.b.op("mul", self.b.constant(coefficient), place)
        for _, factor in self.upstream:
            place = self.b.op("mul", factor, place)
        return place

    def _steps(self, powers: Monomial) -> list[tuple[str, int]]:
        """Products and quotients, x first; plain parameters are one factor, before what may be subnormal."""
        steps: list[tuple[str, int]] = []
        plain = sorted((v for v, k in powers.items() if v != x and k == 1), key=str)
        if len(plain) > 1:
            powers = {v: k for v, k in powers.items() if v not in plain}
            steps = [("mul", reduce(lambda p, q: self.b.op("mul", p, q), (self.places[v] for v in plain)))]
        for symbol in sorted(powers, key=lambda v: (v != x, -powers[v], str(v))):
            steps += [("mul" if powers[symbol] > 0 else "div", self.places[symbol])] * abs(powers[symbol])
        return steps

    def _pushed(self, place: int, steps: Sequence[tuple[str, int]]) -> int:
        """The steps done to a function, before its last product where that is core·2ᴸT by 2⁻ᴸ."""
        b, node, lift = self.b, self.b.nodes[place], Integer(2) ** -self.arithmetic.lift
        if node.operation == "select":
            yes, no = (self._pushed(o, steps) for o in node.operands[1:])
            return b.op("select", node.operands[0], yes, no)
        if node.operation == "mul" and self.arithmetic.lift and b.value_of(node.operands[1]) == lift:
            core = node.operands[0]
            if b.nodes[core].operation == "mul":  # of core·2ᴸT: only where T is near the underflow limit
                return b.op("mul", self._done(core, steps), node.operands[1])
        return self._done(place, steps)

    def _done(self, place: int, steps: Sequence[tuple[str, int]]) -> int:
        for operation, operand in steps:
            place = self.b.op(operation, place, operand)
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
    return stable_program(dict(named), arithmetic)


def parametric_program(
    row: Activation, orders: Sequence[int], arithmetic: Arithmetic, *, by: Sequence[Symbol] = (), upstream: bool = False
) -> Program:
    """The program of these derivatives in x and of ∂f/∂p for p in ``by``, with the parameters as inputs after x.

    ``upstream`` multiplies every output by an input ``dy``. ``arithmetic`` must be a fused one. The program is proved
    against the formula at points and parameter values before it is returned. Raises :class:`Unsupported` where the
    formula does not scale, :class:`InputError` for a row without parameters.
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
    bits, least = (arithmetic.digits, arithmetic.range[0]) if arithmetic.compensated else (SHORT_BITS, 400)
    functions = {name: ball_function(e, (x, *parameters)) for name, e in given.items()}
    dy = [exact_value(Rational(3, 2))] if upstream else []
    with flint.ctx.workprec(1_700):
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
