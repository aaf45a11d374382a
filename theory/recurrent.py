"""Recurrent layers: one cell as an ordinary expression, and the same cell over time. Forward passes only.

``x[n,t,i]`` are samples, times and features; ``U[i,o]`` acts on the input, ``V[p,o]`` on the state before. The gates of
an LSTM stand apart (Ui, Vi, bi, …), which is how they are read in papers; a packed array is these side by side.
"""

from __future__ import annotations

from collections.abc import Mapping

from .layer_row import Layer
from .losses import sigmoid
from .recurrence import recur
from .tensors import Axis, Input, Tensor, axis, tanh

_n, _t, _i, _o, _p = axis("n"), axis("t"), axis("i"), axis("o"), axis("p", "O")


def pre_activation(x: Tensor, h: Tensor, parts: Mapping[str, Tensor], gate: str = "") -> Tensor:
    """x U + h V + b of one gate."""
    U, V, b = (parts[f"{kind}{gate}"] for kind in "UVb")
    return (x * U).sum("i") + (h.rename(o="p") * V).sum("p") + b


def lstm_step(x: Tensor, h: Tensor, c: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(h, c) after one step: c = f ⊙ c + i ⊙ g, h = o ⊙ tanh c."""
    z = {gate: pre_activation(x, h, parts, gate).named(f"z{gate}") for gate in "ifgo"}
    i, f, o = (sigmoid(z[gate]).named(f"{gate}_gate") for gate in "ifo")
    g = tanh(z["g"]).named("g_gate")
    after = (f * c + i * g).named("cell")
    return o * tanh(after).named("a"), after


def gru_step(x: Tensor, h: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    """h after one step: (1 − z) ⊙ g + z ⊙ h, with g = tanh(x U + (r ⊙ h) V + b)."""
    r, z = (sigmoid(pre_activation(x, h, parts, gate).named(f"z{gate}")).named(f"{gate}_gate") for gate in "rz")
    g = tanh(pre_activation(x, (r * h).named("rh"), parts, "g").named("zg")).named("g_gate")
    return (1 - z) * g + z * h


def _parts(gates: str) -> tuple[Input, ...]:
    return tuple(
        Input(f"{kind}{gate}", axes)
        for gate in gates or [""]
        for kind, axes in (("U", (_i, _o)), ("V", (_p, _o)), ("b", (_o,)))
    )


def _named(parts: tuple[Tensor, ...], inputs: tuple[Input, ...]) -> dict[str, Tensor]:
    return {i.name: v for i, v in zip(inputs, parts)}


def rnn(x: Tensor, h0: Tensor, *parts: Tensor) -> Tensor:
    """h[t] = tanh(x[t] U + h[t−1] V + b)."""
    h = Input("h", (_n, _time(x), _o))
    z = pre_activation(x, h, _named(parts, _parts(""))).named("z")
    return recur(_time(x), (h,), (tanh(z),), (h0,)).each().named("h")


def lstm(x: Tensor, h0: Tensor, c0: Tensor, *parts: Tensor) -> Tensor:
    """The hidden states of an LSTM over time."""
    h, c = Input("h", (_n, _time(x), _o)), Input("c", (_n, _time(x), _o))
    steps = lstm_step(x, h, c, _named(parts, _parts("ifgo")))
    return recur(_time(x), (h, c), steps, (h0, c0)).each().named("h")


def gru(x: Tensor, h0: Tensor, *parts: Tensor) -> Tensor:
    """The hidden states of a GRU over time."""
    h = Input("h", (_n, _time(x), _o))
    return recur(_time(x), (h,), (gru_step(x, h, _named(parts, _parts("rzg"))),), (h0,)).each().named("h")


def _time(x: Tensor) -> Axis:
    return x.axis("t")


def lstm_cell(x: Tensor, h: Tensor, c: Tensor, *parts: Tensor) -> Tensor:
    """The hidden state of one LSTM step."""
    return lstm_step(x, h, c, _named(parts, _parts("ifgo")))[0]


def gru_cell(x: Tensor, h: Tensor, *parts: Tensor) -> Tensor:
    """The hidden state of one GRU step."""
    return gru_step(x, h, _named(parts, _parts("rzg")))


def rows() -> tuple[Layer, ...]:
    """Cells, and the same over time."""
    x, xs = Input("x", (_n, _i)), Input("x", (_n, _t, _i))
    h, c, h0, c0 = (Input(name, (_n, _o)) for name in ("h", "c", "h0", "c0"))
    over = ("n", "t", "o")
    hochreiter = "Hochreiter and Schmidhuber, Neural Computation 9 (1997)"
    cho = "Cho et al., EMNLP 2014"
    return (
        Layer("lstm_cell", lstm_cell, (x, h, c, *_parts("ifgo")), "LSTM cell, hidden state", citation=hochreiter,
              stages=("a", "cell", "zi", "zf", "zg", "zo")),
        Layer("gru_cell", gru_cell, (x, h, *_parts("rzg")), "GRU cell", citation=cho,
              stages=("zg", "rh", "zr", "zz")),
        Layer("rnn", rnn, (xs, h0, *_parts("")), "recurrent layer over time", output=over,
              citation="Elman, Cognitive Science 14 (1990); Werbos, Proceedings of the IEEE 78 (1990)"),
        Layer("lstm", lstm, (xs, h0, c0, *_parts("ifgo")), "LSTM over time", output=over, citation=hochreiter),
        Layer("gru", gru, (xs, h0, *_parts("rzg")), "GRU over time", output=over, citation=cho),
    )  # fmt: skip
