"""References by name: every layer and loss of the tables, with the derived gradient and with wrong ones."""

import numpy as np
import pytest

from backproof.numerics.checking import check
from backproof.numerics.row_references import row_reference
from backproof.theory.errors import InputError
from backproof.theory.layers import LAYERS, layer
from backproof.theory.losses import LOSSES, loss

#: rows whose reference takes no function by name
ROWS = [row for row in LAYERS.values() if row.name != "activation"]
#: Windows and recurrences take seconds each: one of each kind is always run.
ALWAYS = ("conv1d", "max_pool2d")
PARAMETERS = [
    pytest.param(
        row,
        id=row.name,
        marks=[pytest.mark.slow] if (row.output or len(row.inputs) > 6) and row.name not in ALWAYS else [],
    )
    for row in ROWS
]


def _derived(row):
    names = {}
    exec(row.numpy_source(), names)
    return names["backward"]


@pytest.mark.parametrize("row", PARAMETERS)
def test_derived_gradient_of_a_layer_is_proved(row):
    result = check(_derived(row), against=row)
    # Windows and recurrences are compared exactly at many shapes; their source is not traced yet.
    grades = ("PROVED for all shapes", "PROVED at these shapes", "EXACT") if row.output else ("PROVED for all shapes",)
    grades = ("PROVED at these shapes",) if row.name == "geglu" else grades  # np.vectorize is not traced
    assert result.formula.grade in grades, str(result)
    assert not result.kinks.failed, str(result)


@pytest.mark.usefixtures("unexplained")
@pytest.mark.parametrize("row", PARAMETERS)
def test_scaled_gradient_of_a_layer_is_refuted(row):
    derived = _derived(row)

    def backward(dy, *inputs, **options):
        returned = derived(dy, *inputs, **options)
        return tuple(1.001 * g for g in returned) if isinstance(returned, tuple) else 1.001 * returned

    backward.__signature__ = __import__("inspect").signature(derived)
    assert check(backward, against=f"layer:{row.name}", points=2).formula.failed


@pytest.mark.usefixtures("unexplained")
@pytest.mark.parametrize("row", LOSSES.values(), ids=list(LOSSES))
def test_slope_of_a_loss(row):
    source = row.gradient(reduction="sum").numpy_source
    names = {}
    exec(source() if callable(source) else source, names)
    derived = next(f for n, f in names.items() if n.startswith("d") and callable(f))  # beside helpers such as sigmoid
    result = check(derived, against=f"loss:{row.name}(reduction=sum)")
    assert result.formula.ok, str(result)

    def halved(p, y):
        return derived(p, y) / 2

    assert check(halved, against=f"loss:{row.name}(reduction=sum)").formula.failed


def batch_norm_backward(dout, X, scale, shift, eps=1e-5):
    mean, var = X.mean(0), X.var(0)
    r = 1 / np.sqrt(var + eps)
    xhat = (X - mean) * r
    dX = scale * r * (dout - dout.mean(0) - xhat * (dout * xhat).mean(0))
    return dX, (dout * xhat).sum(0), dout.sum(0)


def test_inputs_are_matched_by_name_then_in_order():
    result = check(batch_norm_backward, against=layer("batch_norm"))
    assert result.passed
    assert list(result.gradients) == ["X", "scale", "shift"]


@pytest.mark.usefixtures("unexplained")
def test_bare_name_and_option():
    assert check(batch_norm_backward, against="batch_norm", shapes={"X": (5, 2)}).passed

    def fixed(dout, x, gamma, beta):
        return batch_norm_backward(dout, x, gamma, beta, 0.001)

    assert check(fixed, against="layer:batch_norm(eps=1e-3)").formula.ok
    assert check(fixed, against="layer:batch_norm(eps=1e-5)").formula.failed


def test_integer_labels_for_a_one_hot_target():
    def slope(logits, labels):
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(labels)), labels] -= 1
        return p / len(labels)

    inputs = {"logits": np.array([[0.5, 1.0, -1.0], [2.0, 0.25, 0.75]]), "labels": np.array([2, 0])}
    assert check(slope, against=loss("softmax_cross_entropy"), inputs=inputs).passed


def test_loss_through_its_output_activation():
    result = check(lambda z, y: (1 / (1 + np.exp(-z)) - y) / z.size, against="loss:bce(logits=yes)")
    assert result.formula.grade == "PROVED for all shapes"


def test_equal_scores_in_attention_are_decided():
    assert check(_derived(layer("attention")), against="layer:attention").kinks.ok


@pytest.mark.parametrize(
    ("against", "word"),
    [
        ("layer:batch_nrom", "batch_norm"),
        ("loss:hubber", "huber"),
        ("loss:mse(reduction=most)", "none, mean, sum"),
        ("loss:huber(d=1)", "delta"),
        ("layer:batch_norm(eps)", "option=value"),
        ("layer:batch_norm(eps=big)", "number"),
        ("layer:", "layer:NAME"),
    ],
)
def test_wrong_reference_says_what_would_be_right(against, word):
    with pytest.raises(InputError, match=word):
        check(batch_norm_backward, against=against)


def test_wrong_shapes_for_a_reference():
    with pytest.raises(InputError, match="no input 'z'"):
        check(batch_norm_backward, against="layer:batch_norm", shapes={"z": (3,)})
    with pytest.raises(InputError, match="axes"):
        check(batch_norm_backward, against="layer:batch_norm", shapes={"X": (3,)})
    with pytest.raises(InputError, match="takes 'memory'"):
        check(lambda dy, x, gamma, beta, memory: dy, against="layer:batch_norm")


def test_no_row_is_found_for_a_formula():
    assert row_reference("x*tanh(x)", lambda x: x) is None
    assert row_reference("gelu", lambda x: x) is None
