"""A derived gradient, ready to read and to run: text, matrix form, LaTeX, einsum, NumPy source, and the steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy

from .backprop import Step, vjp
from .equality import Comparison, equal
from .errors import InputError, Unsupported
from .normal_form import normal_form, vanishes
from .notation import Writer, index_text, matrix_form, recurrence_line, shape_text
from .numpy_source import HELPERS, NumpyWriter, assignments, drop_unused, identifier, size_lines
from .recurrence import Recur, Recurrence, canonical, has_recurrence, original, recur, recurrences, signature
from .simplify import definitions, simplify
from .spelling import meanings
from .styles import LATEX, TEXT, TextStyle
from .tensors import Axis, Input, Map, Maximiser, Named, Scalar, Tensor
from .transcript import Transcript, transcript
from .walking import called, deeply_nested, inputs, postorder, scalar_symbols

if TYPE_CHECKING:
    from .losses import Loss
    from .networks import Network


@dataclass(frozen=True)
class Derivation:
    """The gradient ``name`` = Σ (∂output/∂wrt)·cotangent, derived by the adjoint rules and simplified.

    ``raw`` is what the rules gave, ``gradient`` the readable form; :attr:`proof` compares the two.
    """

    title: str
    name: str
    wrt: str
    axes: tuple[Axis, ...]
    gradient: Tensor
    raw: Tensor
    arguments: tuple[Input, ...] = ()
    rules: tuple[Step, ...] = ()
    #: hyper-parameter -> default value
    parameters: Mapping[sympy.Symbol, sympy.Expr] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    #: quantities that are given (saved by the forward pass), so their definitions are not repeated
    given: frozenset[str] = frozenset()
    #: names that both forms are written with, so that the proof need not open them
    closed: frozenset[str] = frozenset()
    #: known operations that the gradient was proved to be
    known: tuple[str, ...] = ()
    #: the named quantities of the forward pass, whose indices a cotangent of theirs is shown at
    words: tuple[Named | Recur, ...] = ()

    def __str__(self) -> str:
        return self.text

    @cached_property
    def proof(self) -> Comparison:
        """Comparison of the readable form with what the rules gave, by normal forms; ``closed`` names stay unopened."""
        with deeply_nested():
            return equal(self.gradient, self.raw, opaque=self.closed)

    @property
    def shape(self) -> str:
        """Shape of the gradient, for example [N×C]."""
        return shape_text(self.axes)

    @cached_property
    def definitions(self) -> tuple[Named | Recur, ...]:
        """Named quantities that the gradient uses, each with those it needs, in order."""
        home = {name: w for w in self.words for name in (w.name, f"d{w.name}")}
        return tuple(_at_home(n, home.get(n.name)) for n in _needed(self.gradient, self.given).values())

    @property
    def head(self) -> Named:
        """The gradient under its name."""
        return Named(self.name, self.gradient, self.axes)

    @property
    def index(self) -> str:
        """Index notation, on one line."""
        return f"{Writer(TEXT).text(self.head)} = {index_text(self.gradient)}"

    def matrix(self, layout: str = "rows", style: TextStyle = TEXT) -> str | None:
        """Matrix notation on one line, or None where there is none; ``layout`` is "rows" or "columns"."""
        body = matrix_form(self.gradient, self.axes, style=style, layout=layout)
        return None if body is None else f"{style.name(self.name)} = {body}"

    @property
    def text(self) -> str:
        """Unicode text: matrix form if there is one, else the index form, with the shape and the definitions used."""
        return self.text_in("rows")

    def text_in(self, layout: str) -> str:
        """:attr:`text` in a layout: "rows" or "columns"."""
        lines = [f"{self.formula(TEXT, layout)}   {shape_text(self.axes, layout)}"]
        lines += [f"  where {line}" for line in self.where(TEXT, layout)]
        lines += [f"  which is {operation}" for operation in self.known]
        if self.facts:
            lines.append(f"  using {'; '.join(self.facts)}")
        return "\n".join(lines)

    def formula(self, style: TextStyle = TEXT, layout: str = "rows") -> str:
        """The gradient in one line: matrix form if there is one, else the index form."""
        body = self.matrix(layout, style)
        return body or f"{Writer(style).text(self.head)} = {Writer(style).text(self.gradient)}"

    def where(self, style: TextStyle = TEXT, layout: str = "rows", known: Iterable[str] = ()) -> list[str]:
        """The definitions that the gradient uses, but for those of names that are known already."""
        known = frozenset(known)
        named = [n for n in self.definitions if n.name not in known]
        lines = [definition(n, style, layout) for n in named]
        spelt = meanings(self.gradient, *(n.operand for n in named if isinstance(n, Named)))
        return [*lines, *(m[style is not TEXT] for m in spelt), *_function_lines(self.gradient, style)]

    def transcript(self, output: Tensor, cotangent: Tensor) -> Transcript:
        """Every rule from the output to this gradient; see :mod:`.transcript`."""
        return transcript(output, self.wrt, cotangent, self.axes)

    @property
    def latex(self) -> str:
        """LaTeX of the gradient (matrix form if there is one)."""
        return self.formula(LATEX)

    @property
    def latex_definitions(self) -> tuple[str, ...]:
        """LaTeX of the definitions the gradient uses."""
        return tuple(self.where(LATEX))

    @property
    def einsum(self) -> str:
        """One NumPy assignment in which every contraction is an einsum."""
        _, sizes = size_lines(self.arguments)
        text = NumpyWriter(sizes, _called(self.gradient), einsum=True, order=_axis_order(self.arguments)).write_as(
            self.gradient, self.axes
        )
        return f"{identifier(self.name)} = {text}"

    @cached_property
    def numpy_source(self) -> str:
        """A NumPy function ``{name}(cotangent, inputs…, hyper-parameters…)`` that runs as printed."""
        return function_source(
            f"{identifier(self.name)}_of",
            {self.name: (self.gradient, self.axes)},
            self.arguments,
            self.parameters,
            doc=f"{self.title}: {self.index}",
        )

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """Each rule used: the node, the cotangent that came in, what the operand received, with shapes."""
        lines = []
        for s in self.rules:
            before = f"ȳ = {_short(s.cotangent)} {shape_text(s.cotangent.axes)}"
            after = f"{_short(s.operand)} receives {_short(s.contribution)} {shape_text(s.contribution.axes)}"
            lines.append(f"{s.rule} at {_short(s.node)}: {before}; {after}")
        lines.append(f"collect and simplify: {self.index} {self.shape}")
        return tuple(lines)


def _needed(node: Tensor, given: frozenset[str]) -> dict[str, Named | Recur]:
    """The names an expression needs, those its definitions need before them; nothing inside what is given."""
    found: dict[str, Named | Recur] = {}

    def visit(t: Tensor) -> None:
        if isinstance(t, Recur):
            for k, s in enumerate(t.states):
                state = t.family.each(k)
                assert isinstance(state, Recur)
                if s.name not in found:
                    found[s.name] = state
                    visit(t.family.step(k))
            return
        if isinstance(t, Named) and isinstance(t.operand, Recur) and t.name == t.operand.name:
            visit(t.operand)
            return
        if isinstance(t, Named):
            if t.name in given or t.name in found:
                return
            visit(t.operand)
            found.setdefault(t.name, t)
            return
        for o in (*t.operands, *((t.operand,) if isinstance(t, Maximiser) else ())):
            visit(o)

    visit(node)
    return found


def _indices(n: Named | Recur) -> tuple[Axis, ...]:
    return n.states[n.which].indices if isinstance(n, Recur) else n.indices


def forward_definitions(output: Tensor) -> tuple[Named | Recur, ...]:
    """The named quantities and states of a forward pass, in order."""
    return tuple(_in_letters_of(output, w) for w in _needed(output, frozenset()).values())


def _in_letters_of(output: Tensor, n: Named | Recur) -> Named | Recur:
    """A quantity inside a recurrence at the indices of the output, where one of the same size is free."""
    if not has_recurrence(output):
        return n
    shown = original(n)
    moved: dict[str, str] = {}
    for a in _indices(n) if not isinstance(shown, Named | Recur) else _indices(shown):
        free = (b for b in output.axes if b.size == a.size and b.name not in (*moved.values(), *shown.names))
        if a not in output.axes and (better := next(free, None)) is not None:
            moved[a.name] = better.name
    found = shown.rename(moved)
    return found if isinstance(found, Named | Recur) else n


def _at_home(n: Named | Recur, home: Named | Recur | None) -> Named | Recur:
    """The quantity at the indices that its like has in the forward pass: dz[n,t,o] where that has z[n,t,o]."""
    if has_recurrence(n) and isinstance(shown := original(n), Named | Recur):
        n = shown
    if home is None or sorted(str(a.size) for a in _indices(n)) != sorted(str(a.size) for a in _indices(home)):
        return n
    free = list(_indices(home))
    moved = {}
    for a in _indices(n):  # an index keeps its name if it may, else it takes the first one of its size
        same = next((b for b in free if b == a), None) or next(b for b in free if b.size == a.size)
        free.remove(same)
        moved[a.name] = same.name
    found = n.rename(moved)
    return found if isinstance(found, Named | Recur) else n


def _short(node: Tensor) -> str:
    """Index text, a named quantity by its name alone."""
    return index_text(node)


def definition(n: Named | Recur, style: TextStyle = TEXT, layout: str = "rows") -> str:
    """The definition of a named quantity or of a state, in one line."""
    if isinstance(n, Recur):
        return recurrence_line(n, style)
    both = matrix_form(n.operand, n.indices, style=style, layout=layout)
    if both is not None:
        return f"{style.name(n.name)} = {both}"
    return f"{Writer(style).text(n)} = {Writer(style).text(n.operand)}"


def _axis_order(arguments: Sequence[Input]) -> list[Axis]:
    return [i for a in arguments for i in a.indices]


def _functions(node: Tensor) -> dict[str, Any]:
    """Functions known by name that an expression calls, directly or in a named quantity."""
    return {c.__name__: c for c in called(node) if hasattr(c, "formula")}


def _function_lines(node: Tensor, style: TextStyle) -> tuple[str, ...]:
    def formula(f: Any) -> str:
        return Writer(style).expression(f.formula, {})[0] if style is TEXT else str(sympy.latex(f.formula))

    return tuple(
        f"{style.name(name)}(x) = {formula(f)}"
        for name, f in _functions(node).items()
        if f.formula is not None and not hasattr(f, "meaning")
    )


def _called(node: Tensor) -> dict[str, str]:
    """Python names of functions called by name."""
    return {name: _function_identifier(name) for name in _functions(node)}


def _function_identifier(name: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_]", "_", name.rstrip("′").replace("σ", "f"))
    return ("d" * (len(name) - len(name.rstrip("′")))) + stem


def function_source(
    name: str,
    outputs: Mapping[str, tuple[Tensor, Sequence[Axis]]],
    arguments: Sequence[Input],
    parameters: Mapping[sympy.Symbol, sympy.Expr],
    *,
    doc: str = "",
) -> str:
    """Source of one NumPy function of the arguments (and hyper-parameters with defaults) that returns the outputs."""
    named = {identifier(n.name) for t, _ in outputs.values() for n in definitions(t).values()}
    lines, sizes = size_lines(arguments, named)
    functions: dict[str, Any] = {}
    free: set[str] = set()
    for tensor, _ in outputs.values():
        functions.update(_functions(tensor))
        free |= {str(s) for s in scalar_symbols(tensor)}
    known = {n: f for n, f in functions.items() if f.formula is not None}
    free |= {str(s) for f in known.values() for s in f.formula.free_symbols}
    writer = NumpyWriter(sizes, {n: _function_identifier(n) for n in functions}, order=_axis_order(arguments))
    body = drop_unused(assignments(outputs, writer), (identifier(o) for o in outputs))
    text = "\n".join((*body, *(identifier(o) for o in outputs)))
    lines = [line for line in lines if re.search(rf"\b{line.split(' = ')[0]}\b", text)]
    signature = [identifier(a.name) for a in arguments]
    signature += [_function_identifier(n) for n in functions if n not in known]
    signature += [f"{identifier(str(p))}={_default(v)}" for p, v in parameters.items() if str(p) in free]
    helpers = [_function_helper(n, f, writer) for n, f in known.items()]
    returned = ", ".join(identifier(o) for o in outputs)
    parts = ["import numpy as np\n"]
    parts += [HELPERS[u] for u in sorted(writer.uses)]
    parts += helpers
    quoted = doc.replace("\\", "").replace('"', "'").splitlines()[0] if doc else ""
    function = [f"def {name}({', '.join(signature)}):"]
    function += [f'    """{quoted}"""'] if quoted else []
    function += [f"    {line}" for line in "\n".join((*lines, *body)).splitlines()]
    function.append(f"    return {returned}\n")
    return "\n\n".join([*parts, "\n".join(function)])


def _default(value: sympy.Expr) -> str:
    return repr(float(value)) if not value.is_Integer else f"{int(value)}.0"


def _function_helper(name: str, function: Any, writer: NumpyWriter) -> str:
    from .symbols import x

    text, _ = writer.scalar_source(function.formula, x)
    return f"def {_function_identifier(name)}(x):\n    return {text}\n"


def derive(
    output: Tensor,
    wrt: str,
    *,
    title: str,
    cotangent: Input | Scalar,
    arguments: Sequence[Input],
    name: str | None = None,
    vocabulary: Iterable[Named] | None = None,
    parameters: Mapping[sympy.Symbol, sympy.Expr] | None = None,
    facts: tuple[str, ...] = (),
    stages: Iterable[str] = (),
    equivalents: Iterable[Tensor] = (),
) -> Derivation:
    """Derive one gradient by the adjoint rules and write it readably.

    ``stages`` are named values whose own cotangents are simplified, kept under a name (dA for A) and used further on.
    """
    if wrt not in {a.name for a in arguments}:
        raise InputError(f"{title} has no input {wrt!r}: its inputs are {', '.join(a.name for a in arguments)}")
    target = next(a for a in arguments if a.name == wrt)
    if wrt not in inputs(output):
        raw: Tensor = Scalar(sympy.Integer(0)).expand(target.indices)
        rules: list[Step] = []
    else:
        gradients, rules = vjp(output, (wrt,), cotangent)
        here = inputs(output)[wrt].indices
        raw = gradients[wrt].rename({a.name: b.name for a, b in zip(here, target.indices)})
    words = tuple(definitions(output).values()) if vocabulary is None else tuple(vocabulary)
    if has_recurrence(output):
        for known in (*recurrences(output), *words):  # the indices a person gave are those shown
            canonical(known.family.each(known.which) if isinstance(known, Recur) else known)
    best = (
        _staged(output, target, cotangent, words, tuple(stages))
        if rules and stages
        else readable(raw, words, axes=target.indices, equivalents=equivalents)
    )
    given = tuple(arguments) if isinstance(cotangent, Scalar) else (cotangent, *arguments)
    return Derivation(
        title, name or f"d{wrt}", wrt, target.indices, best, raw, given, tuple(rules), dict(parameters or {}), facts,
        words=forward_definitions(output),
    )  # fmt: skip


def _staged(
    output: Tensor, target: Input, cotangent: Tensor, words: Sequence[Named], stages: tuple[str, ...]
) -> Tensor:
    """The gradient by way of named cotangents of intermediate values."""
    kept: list[str] = []

    def at_name(node: Named, incoming: Tensor) -> Tensor:
        if node.name not in stages:
            return incoming
        simple = readable(incoming, words, opaque=kept, axes=node.indices).expand(node.indices)
        name = f"d{node.name}"
        while name in kept:  # the same value read at other indices has a cotangent of its own
            name += "′"
        kept.append(name)
        return Named(kept[-1], simple, node.indices)

    here = inputs(output)[target.name].indices
    gradients, _ = vjp(output, (target.name,), cotangent, at_name=at_name)
    raw = gradients[target.name].rename({a.name: b.name for a, b in zip(here, target.indices)})
    return readable(raw, words, opaque=kept, axes=target.indices)


def readable(
    raw: Tensor,
    vocabulary: Iterable[Named],
    *,
    opaque: Iterable[str] = (),
    axes: Iterable[Axis] = (),
    equivalents: Iterable[Tensor] = (),
) -> Tensor:
    """The shortest of the forms that are proved equal: as derived, and simplified in the vocabulary.

    A part of the derived form that is proved equal to one of ``equivalents`` is written as that.
    """
    vocabulary = tuple(vocabulary)
    if has_recurrence(raw):
        # Cotangents of named values in the steps keep their names, each with its own short definition.
        opaque = tuple(dict.fromkeys((*opaque, *_cotangent_names(raw, vocabulary))))
        raw = _tidied(raw, vocabulary, opaque)
    try:
        simple = simplify(raw, vocabulary, opaque=opaque, axes=axes)
    except Unsupported:  # too large for the normal form, or −∞ in it: as the rules gave it
        return raw
    return min((simple, raw, *(_with_equivalent(raw, e) for e in equivalents)), key=_length)


def _cotangent_names(root: Tensor, vocabulary: Iterable[Named]) -> tuple[str, ...]:
    """Names in an expression and in the steps of its recurrences that the vocabulary does not have."""
    known = {w.name for w in vocabulary}
    return tuple(name for name in definitions(root) if name not in known)


def _tidied(root: Tensor, vocabulary: tuple[Named, ...], opaque: tuple[str, ...]) -> Tensor:
    """The expression with the steps of the recurrences in it simplified, inner ones first, and so what is named there.

    A recurrence by which a name of the vocabulary is defined is left alone.
    """
    own = {signature(node) for w in vocabulary for node in postorder(w) if isinstance(node, Recur)}
    memo: dict[Tensor, Tensor] = {}
    families: dict[Recurrence, Recurrence] = {}

    def shorter(t: Tensor, name: str, axes: tuple[Axis, ...]) -> Tensor:
        kept = tuple(o for o in opaque if o != name)
        return min((simplify(t, vocabulary, opaque=kept, axes=axes), t), key=_length)

    def names_tidied(t: Tensor) -> Tensor:
        inside: dict[Tensor, Tensor] = {}
        for node in postorder(t):
            inside[node] = again(node, inside)
        return inside[t]

    def again(node: Tensor, done: dict[Tensor, Tensor]) -> Tensor:
        if isinstance(node, Maximiser):
            return Maximiser(done[node.operand], node.over, node.indices)
        here = node.rebuild(tuple(done[o] for o in node.operands)) if node.operands else node
        if isinstance(here, Named) and here.name in opaque:
            return Named(here.name, shorter(here.operand, here.name, here.indices).expand(here.axes), here.indices)
        return here

    for node in postorder(root):
        if isinstance(node, Recur) and signature(node) not in own:
            here = node.rebuild(tuple(memo[o] for o in node.operands))
            assert isinstance(here, Recur)
            f = here.family
            if f not in families:
                steps = [shorter(names_tidied(s), "", d.indices) for s, d in zip(f.opened, f.states)]
                families[f] = recur(f.time, f.states, steps, f.initials, reverse=f.reverse)
            memo[node] = families[f].read(node.which, node.at)
        elif isinstance(node, Recur):
            memo[node] = node
        else:
            memo[node] = again(node, memo)
    return memo[root]


def _with_equivalent(root: Tensor, short: Tensor) -> Tensor:
    """The expression with each part that is proved equal to ``short`` replaced by it."""
    wanted = normal_form(short)
    memo: dict[Tensor, Tensor] = {}
    for node in postorder(root):
        if isinstance(node, Map) and set(node.axes) == set(short.axes) and vanishes(normal_form(node) - wanted):
            memo[node] = short
        else:
            memo[node] = node.rebuild(tuple(memo[o] for o in node.operands)) if node.operands else node
    return memo[root]


def _length(node: Tensor) -> int:
    """Characters of the expression, every name as one letter."""
    return len(re.sub(r"[^\W\d_]\w*\[", "a[", index_text(node)))


# --- losses and networks ------------------------------------------------------------------------------------


def loss_gradient(row: Loss, *, reduction: str, assume: bool, through_output: bool) -> Derivation:
    """∂loss/∂prediction; see :meth:`.losses.Loss.gradient`."""
    prediction, target = row.inputs(assume=assume)
    wrt = prediction.name
    seen: Tensor = prediction
    vocabulary: list[Named] = []
    composed = through_output and not row.from_logits and row.output != "identity"
    if composed:
        prediction = Input("z", prediction.indices)
        wrt, seen = "z", Named("p", row.predict(prediction), prediction.indices)
    if row.from_logits or composed:
        vocabulary.append(Named("p", row.predict(prediction), prediction.indices))
    value = row.forward(seen, target, reduction)
    vocabulary += [w for n, w in definitions(value).items() if n in row.words]
    equivalents = () if row.slope is None else (row.slope(seen, target),)
    cotangent: Any = Scalar(sympy.Integer(1)) if reduction != "none" else Input("dy", value.axes)
    facts = tuple(f"y {fact.kind} over {'nk'[int(fact.axis)]}" for fact in target.facts if fact.axis is not None)
    return derive(
        value, wrt, title=row.title, cotangent=cotangent, arguments=(prediction, target), vocabulary=vocabulary,
        parameters=row.parameters, facts=facts, equivalents=equivalents,
    )  # fmt: skip


def network_derivations(net: Network) -> dict[str, Derivation]:
    """Every δ and parameter gradient of a network; see :meth:`.networks.Network.deltas`."""
    deltas, gradients, _, arriving = net._derived
    names, _ = net._graph
    given = net.inputs
    found: dict[str, Derivation] = {}
    keep = frozenset({*names, *deltas})

    assumed = tuple(f"Y {fact.kind} over k" for fact in net.loss.target_facts)

    def add(name: str, wrt: str, tensor: Tensor, axes: tuple[Axis, ...]) -> None:
        title = f"{name} of the {'-'.join(map(str, net.widths))} network"
        facts = assumed if wrt == f"Z{net.depth}" else ()
        found[name] = Derivation(
            title,
            name,
            wrt,
            axes,
            tensor,
            arriving[wrt],
            tuple(given.values()),
            facts=facts,
            given=keep,
            closed=keep - {"P"},
        )

    for layer in range(net.depth, 0, -1):
        delta = deltas[f"Δ{layer}"]
        assert isinstance(delta, Named)
        add(f"Δ{layer}", f"Z{layer}", delta.operand, delta.indices)
        for kind in ("W", "b"):
            name = f"{kind}{layer}"
            add(f"d{name}", name, gradients[name], given[name].indices)
    return found
