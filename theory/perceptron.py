"""Linear separability, decided exactly: a separating hyperplane with its margin, or a proof that there is none.

Both answers come from one computation in rational arithmetic. Let zᵢ = yᵢ·(xᵢ, 1) with labels yᵢ = ±1, and let p be
the point of conv{zᵢ} nearest to the origin (Wolfe, Finding the nearest point in a polytope, Math. Programming 11,
1976).

* p ≠ 0: p·zᵢ ≥ |p|² for every i, so (w, b) = p separates the classes, and |p| is the largest margin of any unit (w, b).
* p = 0: the weights λᵢ ≥ 0 of p satisfy Σ λᵢ·yᵢ·(xᵢ, 1) = 0, which no separating hyperplane survives (Gordan 1873,
Farkas 1902).

Novikoff's theorem (1962): Rosenblatt's rule on the vectors (xᵢ, 1), started at 0, errs at most (R/γ)² times, where R
is the largest of the norms |(xᵢ, 1)| and γ the margin of any separating unit vector; with the largest margin both are
exact here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint

from .errors import InputError
from .supremum import above, readable

Vector = tuple[Fraction, ...]

#: The Boolean functions of two variables that the perceptron is shown on: name -> outputs at (0,0), (0,1), (1,0),
#: (1,1).
GATES: dict[str, tuple[int, int, int, int]] = {
    "and": (0, 0, 0, 1),
    "or": (0, 1, 1, 1),
    "nand": (1, 1, 1, 0),
    "nor": (1, 0, 0, 0),
    "xor": (0, 1, 1, 0),
    "xnor": (1, 0, 0, 1),
}
#: Up to this many dimensions a proof is printed in full; beyond it, its numbers are in the fields.
_SHOWN = 4
#: A number of this many characters or more is shown rounded.
_LONG = 30
#: The four inputs of a gate, in the order of its outputs.
CORNERS: tuple[tuple[int, int], ...] = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Problem:
    """Two classes of points with exact coordinates; ``signs`` are +1 for the class ``names[1]`` and −1 for
    ``names[0]``.
    """

    points: tuple[Vector, ...]
    signs: tuple[int, ...]
    names: tuple[str, str]

    @property
    def dimension(self) -> int:
        """Number of coordinates of a point."""
        return len(self.points[0])

    @cached_property
    def scaled(self) -> tuple[tuple[int, ...], ...]:
        """The vectors yᵢ·(xᵢ, 1) times one common denominator, as integers: no decision changes by that."""
        factor = self.denominator
        return tuple(
            tuple(int(sign * factor * entry) for entry in (*point, Fraction(1)))
            for point, sign in zip(self.points, self.signs, strict=True)
        )

    @cached_property
    def denominator(self) -> int:
        """The least common denominator of all coordinates."""
        return math.lcm(*(entry.denominator for point in self.points for entry in point))

    @cached_property
    def radius_squared(self) -> Fraction:
        """R² = max |(xᵢ, 1)|², exactly."""
        return max(sum((entry**2 for entry in point), Fraction(1)) for point in self.points)


@dataclass(frozen=True)
class Separation:
    """A hyperplane w·x + b = 0 with w·x + b > 0 on the class ``names[1]`` and < 0 on ``names[0]``; all exact.

    ``margin_squared`` is γ², where γ is the largest min yᵢ·(w·xᵢ + b) over all (w, b) of length 1.
    """

    problem: Problem
    weights: Vector
    bias: Fraction
    margin_squared: Fraction

    separable = True

    @property
    def mistake_bound(self) -> Fraction:
        """Novikoff's (R/γ)²: Rosenblatt's rule from 0 makes no more mistakes than this, in any order of the points."""
        return self.problem.radius_squared / self.margin_squared

    @property
    def holds(self) -> bool:
        """Checks the claim from the points alone: every point on its side, at no less than the stated margin."""
        norm = sum((w**2 for w in self.weights), self.bias**2)
        for point, sign in zip(self.problem.points, self.problem.signs, strict=True):
            value = sign * (_dot(self.weights, point) + self.bias)
            if not (value > 0 and value**2 >= self.margin_squared * norm):
                return False
        return True

    @property
    def text(self) -> str:
        """The hyperplane and the bound, in words a reader can check."""
        low, high = self.problem.names
        plane = (
            f"f(x) {_affine(self.weights, self.bias)}" if self.problem.dimension <= _SHOWN else "an exact hyperplane"
        )
        exact = exact_text(self.mistake_bound)
        return _with_note(
            f"separable: {plane} is > 0 on class {high} and < 0 on class {low}",
            f"largest margin of a unit (w, b): γ² {_relation(self.margin_squared)};  "
            f"R² {_relation(self.problem.radius_squared)}",
            f"Novikoff: at most (R/γ)²{f' = {exact}' if len(exact) < _LONG else ''} mistakes, "
            f"so at most {self.bound_text}",
        )

    @property
    def bound_text(self) -> str:
        """The largest number of mistakes that Novikoff's bound allows; a long one rounded up."""
        whole = math.floor(self.mistake_bound)
        return str(whole) if whole < 10**_LONG else above(Fraction(whole), 6)


@dataclass(frozen=True)
class Inseparable:
    """A proof that no hyperplane separates: ``multipliers`` λᵢ ≥ 0, one per point, with Σ λᵢ = 1 over each class.

    Both classes' weighted means are the same ``common_point``, so an affine function takes there a value that is > 0
    (a mean of positive values) and ≤ 0 (a mean of values that are not).
    """

    problem: Problem
    multipliers: Vector

    separable = False

    @cached_property
    def common_point(self) -> Vector:
        """The point that lies in the convex hull of both classes."""
        return _mean(self.problem, self.multipliers, 1)

    @property
    def holds(self) -> bool:
        """Checks the certificate from the points alone, in rational arithmetic."""
        signs = self.problem.signs
        totals = [sum(w for w, s in zip(self.multipliers, signs, strict=True) if s == sign) for sign in (1, -1)]
        same = _mean(self.problem, self.multipliers, 1) == _mean(self.problem, self.multipliers, -1)
        return all(w >= 0 for w in self.multipliers) and totals == [1, 1] and same

    @property
    def text(self) -> str:
        """The proof, in words a reader can check."""
        low, high = self.problem.names
        if self.problem.dimension > _SHOWN:
            weighed = [s for w, s in zip(self.multipliers, self.problem.signs, strict=True) if w]
            used = [weighed.count(1), weighed.count(-1)]
            return (
                f"not separable: a weighted mean of {used[0]} points of class {high} is exactly one of {used[1]} "
                f"points of class {low}, so no affine f is > 0 on class {high} and ≤ 0 on class {low}"
            )
        centre = _point(self.common_point)
        return _with_note(
            f"not separable: no f(x) = w·x + b is > 0 on class {high} and ≤ 0 on class {low}, for f is affine, so",
            f"  {self._mean_text(1)} = f{centre} = {self._mean_text(-1)}",
            f"  but the left side is > 0 and the right side is ≤ 0: a contradiction; f{centre} cannot be both",
        )

    def _mean_text(self, sign: int) -> str:
        terms = [
            (f"{brief(weight)}·" if weight != 1 else "") + f"f{_point(point)}"
            for weight, point, s in zip(self.multipliers, self.problem.points, self.problem.signs, strict=True)
            if s == sign and weight
        ]
        return " + ".join(terms)


def gate(name: str) -> Problem:
    """The four corners of the unit square, labelled by the Boolean function ``name`` of :data:`GATES`."""
    if name not in GATES:
        raise InputError(f"unknown gate {name[:40]!r}: known are {', '.join(GATES)}")
    return problem(CORNERS, GATES[name])


def problem(points: Iterable[Iterable[Any]], labels: Iterable[Hashable]) -> Problem:
    """Points and labels, made exact.

    A coordinate is an int, a Fraction, a text such as ``"0.1"`` or ``"1/3"``, or a float, which is taken as the
    decimal it prints as. The labels take exactly two values; the larger one (the one that comes later) is the positive
    class. Raises :class:`InputError` for no points, points of different lengths, NaN or infinity, or other than two
    classes.
    """
    exact = tuple(tuple(exact_coordinate(entry) for entry in point) for point in points)
    given = list(labels)
    if not exact:
        raise InputError("there are no points: at least one of each class is needed")
    if len(given) != len(exact):
        raise InputError(f"{len(exact)} points but {len(given)} labels: one label per point is needed")
    if len({len(point) for point in exact}) > 1 or not exact[0]:
        raise InputError("the points have different numbers of coordinates, or none")
    classes = _ordered(set(given))
    if len(classes) != 2:
        raise InputError(f"the labels take {len(classes)} value(s): a separating hyperplane needs exactly two classes")
    signs = tuple(1 if label == classes[1] else -1 for label in given)
    return Problem(exact, signs, (str(classes[0]), str(classes[1])))


def separability(
    points: Iterable[Iterable[Any]] | Problem, labels: Iterable[Hashable] = ()
) -> Separation | Inseparable:
    """Decide, exactly, whether some hyperplane has all points of one class strictly on one side and the rest on the
    other.

    >>> print(separability([(0, 0), (0, 1), (1, 0), (1, 1)], [0, 1, 1, 0]).text)
    not separable: no f(x) = w·x + b is > 0 on class 1 and ≤ 0 on class 0, for f is affine, so
      1/2·f(0, 1) + 1/2·f(1, 0) = f(1/2, 1/2) = 1/2·f(0, 0) + 1/2·f(1, 1)
      but the left side is > 0 and the right side is ≤ 0: a contradiction; f(1/2, 1/2) cannot be both
    """
    asked = points if isinstance(points, Problem) else problem(points, labels)
    vectors = asked.scaled
    rows = flint.fmpz_mat([list(vector) for vector in vectors])
    nearest, weights = _nearest_to_origin(lambda direction: _least(rows, direction), vectors)
    if any(nearest):
        return _separation(asked, nearest)
    total = 2 / sum(
        weights.values(), Fraction(0)
    )  # the bias coordinate of Σ λᵢzᵢ = 0 makes the two classes weigh the same
    answer = Inseparable(asked, tuple(weights.get(i, Fraction(0)) * total for i in range(len(vectors))))
    return _checked(answer)


def widest_street(asked: Problem) -> tuple[Vector, Fraction, Fraction]:
    """(w, b, d²): the hyperplane w·x + b = 0 farthest from both classes, and its squared distance d² from the nearest
    points.

    It bisects the segment between the nearest points of the two convex hulls. Raises :class:`InputError` when the
    hulls meet.
    """
    factor = asked.denominator
    sides = {s: [i for i, sign in enumerate(asked.signs) if sign == s] for s in (1, -1)}
    whole = [tuple(int(factor * entry) for entry in point) for point in asked.points]
    matrices = {s: flint.fmpz_mat([list(whole[i]) for i in rows]) for s, rows in sides.items()}
    width = len(sides[-1])

    def oracle(direction: Vector) -> int:
        opposite = tuple(-entry for entry in direction)
        return _least(matrices[1], direction) * width + _least(matrices[-1], opposite)

    differences = _Differences([whole[i] for i in sides[1]], [whole[i] for i in sides[-1]])
    nearest, weights = _nearest_to_origin(oracle, differences)
    if not any(nearest):
        raise InputError("the convex hulls of the two classes meet: no hyperplane separates them")
    middle = [Fraction(0)] * asked.dimension
    for index, weight in weights.items():
        for k in range(asked.dimension):
            pair = asked.points[sides[1][index // width]][k] + asked.points[sides[-1][index % width]][k]
            middle[k] += weight * pair / 2
    normal = tuple(entry / factor for entry in nearest)
    return normal, -_dot(normal, middle), _dot(normal, normal) / 4


def exact_coordinate(value: Any) -> Fraction:
    """The number that ``value`` prints as, exactly; raises :class:`InputError` for anything but a finite number.

    >>> exact_coordinate(0.1)
    Fraction(1, 10)
    """
    text = str(value).strip()
    # A short decimal may still denote a number of a billion digits ("1e999999999").
    exponent = text.lower().partition("e")[2]
    try:
        if len(text) > 400 or abs(int(exponent or 0)) > 400:
            raise InputError(f"the coordinate {text[:40]!r} is out of range: its exponent must lie within ±400")
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the coordinate {text[:40]!r} is not a finite number") from None


class _Differences(Sequence[tuple[int, ...]]):
    """All differences aᵢ − bⱼ, made when asked for: there are too many to list."""

    def __init__(self, left: list[tuple[int, ...]], right: list[tuple[int, ...]]) -> None:
        self.left, self.right = left, right

    def __len__(self) -> int:
        return len(self.left) * len(self.right)

    def __getitem__(self, index: Any) -> Any:
        a, b = self.left[index // len(self.right)], self.right[index % len(self.right)]
        return tuple(p - q for p, q in zip(a, b, strict=True))


def _nearest_to_origin(
    oracle: Callable[[Vector], int], atoms: Sequence[tuple[int, ...]]
) -> tuple[Vector, dict[int, Fraction]]:
    """Wolfe's algorithm: the point of conv(atoms) nearest to 0, and its weights by index of atom.

    ``oracle(direction)`` is the index of the atom with the least inner product. Exact arithmetic makes it finite: each
    round ends at the nearest point of the affine hull of an affinely independent set, strictly nearer than before.
    """
    weights = {0: Fraction(1)}
    nearest: Vector = tuple(map(Fraction, atoms[0]))
    while any(nearest):
        index = oracle(nearest)
        if _dot(nearest, atoms[index]) >= _dot(nearest, nearest):
            break
        weights[index] = Fraction(0)
        while True:
            target = dict(zip(weights, _affine_minimiser([atoms[i] for i in weights]), strict=True))
            falling = [i for i in weights if target[i] < 0]
            if not falling:
                weights = {i: w for i, w in target.items() if w}
                break
            # Go towards the affine minimiser until the first weight reaches 0, and drop that atom.
            part = min(weights[i] / (weights[i] - target[i]) for i in falling)
            moved = {i: w + part * (target[i] - w) for i, w in weights.items()}
            weights = {i: w for i, w in moved.items() if w}
        size = len(nearest)
        nearest = tuple(sum((w * atoms[i][k] for i, w in weights.items()), Fraction(0)) for k in range(size))
    return nearest, weights


def _affine_minimiser(atoms: list[tuple[int, ...]]) -> list[Fraction]:
    """Weights (of sum 1, any sign) of the point nearest to 0 in the affine hull: the border system [0 1ᵀ; 1 G]."""
    count = len(atoms)
    stacked = flint.fmpz_mat([list(atom) for atom in atoms])
    gram = stacked * stacked.transpose()
    rows = [[0] + [1] * count] + [[1] + [gram[i, j] for j in range(count)] for i in range(count)]
    solution = flint.fmpq_mat(flint.fmpz_mat(rows)).solve(flint.fmpq_mat(flint.fmpz_mat([[1]] + [[0]] * count)))
    return [_fraction(solution[i + 1, 0]) for i in range(count)]


def _least(rows: flint.fmpz_mat, direction: Vector) -> int:
    """Index of the row with the least inner product with ``direction`` (the first of equals)."""
    factor = math.lcm(*(entry.denominator for entry in direction))
    products = rows * flint.fmpz_mat([[int(entry * factor)] for entry in direction])
    return min(range(rows.nrows()), key=lambda i: products[i, 0])


def _separation(asked: Problem, nearest: Vector) -> Separation:
    factor = asked.denominator
    margin_squared = _dot(nearest, nearest) / factor**2
    # Any positive multiple is the same hyperplane: the one with coprime integers is the easiest to read.
    scale = Fraction(
        math.lcm(*(entry.denominator for entry in nearest)), math.gcd(*(entry.numerator for entry in nearest))
    )
    *weights, bias = (entry * scale for entry in nearest)
    return _checked(Separation(asked, tuple(weights), bias, margin_squared))


def _checked(answer: Any) -> Any:
    if not answer.holds:
        raise ArithmeticError("the certificate does not verify")
    return answer


def _mean(asked: Problem, weights: Vector, sign: int) -> Vector:
    chosen = [(w, p) for w, p, s in zip(weights, asked.points, asked.signs, strict=True) if s == sign and w]
    return tuple(sum((w * p[k] for w, p in chosen), Fraction(0)) for k in range(asked.dimension))


def _dot(left: Iterable[Any], right: Iterable[Any]) -> Fraction:
    return sum((p * q for p, q in zip(left, right, strict=True)), Fraction(0))


def _fraction(value: flint.fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _ordered(labels: set[Hashable]) -> list[Hashable]:
    try:
        return sorted(labels)  # type: ignore[type-var]
    except TypeError:
        return sorted(labels, key=str)


def exact_text(value: Fraction) -> str:
    """Every digit of the rational, however many (Python's own conversion stops at 4300)."""
    digits = str(flint.fmpz(value.numerator))
    return digits if value.denominator == 1 else f"{digits}/{flint.fmpz(value.denominator)}"


def brief(value: Fraction) -> str:
    """The rational in full where that is short, else the nearest short decimal, marked by ≈.

    >>> brief(Fraction(-1, 3)), brief(Fraction(10) ** 300 / 7)
    ('-1/3', '≈1.42857e+299')
    """
    if max(abs(value.numerator), value.denominator).bit_length() < 4 * _LONG and len(str(value)) < _LONG:
        return str(value)
    return f"≈{readable(value)}"


def _relation(value: Fraction) -> str:
    """ "= 1/9", or "≈ 2.25e-600" of a long number."""
    text = brief(value)
    return f"≈ {text[1:]}" if text.startswith("≈") else f"= {text}"


def _with_note(*lines: str) -> str:
    text = "\n".join(lines)
    note = "\n  (≈ marks a number rounded for reading: the exact one was decided and checked)"
    return text + note if "≈" in text else text


def _point(point: Vector) -> str:
    return "(" + ", ".join(map(brief, point)) + ")"


def _affine(weights: Vector, bias: Fraction) -> str:
    names = ["x₁", "x₂", "x₃"] if len(weights) <= 3 else [f"x{k + 1}" for k in range(len(weights))]
    terms = [(w, name) for w, name in zip(weights, names, strict=False) if w] + ([(bias, "")] if bias else [])
    text = ""
    for value, name in terms:
        size = "" if abs(value) == 1 and name else brief(abs(value)).removeprefix("≈") + ("·" if name else "")
        sign = ("−" if value < 0 else "") if not text else (" − " if value < 0 else " + ")
        text += sign + size + name
    rounded = any(brief(value).startswith("≈") for value, _ in terms)
    return f"{'≈' if rounded else '='} {text or '0'}"
