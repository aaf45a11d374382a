"""The algebra of the normal form, in one place: sums of monomials, rational coefficient × ∏ atom^exponent.

Every function here returns an already normalised :class:`Poly`; two are equal when their ``terms`` are. The rules, each
tested at random exact points:

=================  ==================================================================================================
products           exponents of one atom add; surds p^(a/b) keep 0 ≤ a/b < 1; cos² = 1 − sin²
sums               factors without the summed index leave; an index in no factor gives its size; independent sums
                   come apart; nested sums merge; summed indices are renamed canonically
Kronecker delta    δ[i,j] under Σ_j renames j to i; δ² = δ
powers             (c·∏a^k)^e comes apart where signs allow; the content of a sum leaves it; (a²)^½ = |a|
ties               [i = sp + du − c]² = itself; two that share two axes give a Kronecker delta; a window of a product is
                   the product of the windows
power of a sum     its leading term L is removed: L·u^(−e) = u^(1−e) − (u − L)·u^(−e)
exponential        exp(a + b) = exp a · exp b; exp(c·log u) = u^c; tanh, sinh and cosh are written in exp
logarithm          log(c·∏a^k) = log c + Σ k log a for positive factors; log exp a = a
conditions         [u > 0] and [u = 0] are atoms, idempotent; [u < 0] = 1 − [u > 0] − [u = 0]; a comparable pair
                   merges; [u = 0]·P puts u = 0 into P; a function of cases is the cases of the function
−∞                 a symbol that no sum or product takes apart (true for every number in its place, so also in the
                   limit); exp(−∞) = 0
maximum            what does not depend on the axes leaves; its maximiser's weights sum to one
facts              Σ of an input that sums to one is 1; one-hot entries are idempotent
=================  ==================================================================================================
"""

from .monomials import monomial, monomial_product, of_atom
from .polynomials import (
    LEFT_OUT,
    ONE,
    UNIT,
    ZERO,
    Atom,
    NameFacts,
    Poly,
    atom,
    constant,
    is_positive,
    mono_key,
    product,
    total,
)
from .powers import above, absolute, content, exponential, factorise, function, logarithm, power, vanishing
from .sums import (
    contains,
    delta,
    make_sum,
    maximiser,
    maximum,
    rebuild,
    rename,
    replace_atom,
    sum_over,
    transform,
)
from .ties import tie

__all__ = [
    "LEFT_OUT", "ONE", "UNIT", "ZERO", "Atom", "NameFacts", "Poly", "above", "absolute", "atom", "constant", "contains",
    "content", "delta", "exponential", "factorise", "function", "is_positive", "logarithm", "make_sum", "maximiser",
    "maximum", "mono_key", "monomial", "monomial_product", "of_atom", "power", "product", "rebuild", "rename",
    "replace_atom", "sum_over", "tie", "total", "transform", "vanishing",
]  # fmt: skip
