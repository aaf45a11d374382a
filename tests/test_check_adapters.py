"""What stands in for two NumPy functions: Numba, PyTorch, JAX, objects with state, optimiser steps, scalars."""

import functools
import math

import numpy as np
import pytest

from backproof.numerics.checking import check
from backproof.theory.errors import InputError
from backproof.theory.optimisers import OPTIMISERS


# Objects with state --------------------------------------------------------------------------------------------------
class Dense:
    def __init__(self, n, m):
        rng = np.random.default_rng(0)
        self.W, self.b = rng.normal(size=(n, m)), np.zeros(m)

    def forward(self, X):
        self.X = X
        return X @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.X.T @ dy, dy.sum(0)
        return dy @ self.W.T


class Relu:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


class Stack:
    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, x):
        for each in self.layers:
            x = each.forward(x)
        return x

    def backward(self, dy):
        for each in reversed(self.layers):
            dy = each.backward(dy)
        return dy


class UpdatesInPlace(Dense):
    late = True

    def backward(self, output_gradient, learning_rate):
        dW, before = self.X.T @ output_gradient, output_gradient @ self.W.T
        self.W -= learning_rate * dW
        self.b -= learning_rate * output_gradient.sum(0)
        return before if self.late else output_gradient @ self.W.T


class Listed:
    def __init__(self, W, b):
        self.params, self.grads, self.x = [W, b], [np.zeros_like(W), np.zeros_like(b)], None

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, _ = self.params
        self.grads[0][...], self.grads[1][...] = np.dot(self.x.T, dout), np.sum(dout, axis=0)
        return np.dot(dout, W.T)


class Network:
    scale = 1.0

    def __init__(self):
        rng = np.random.default_rng(0)
        self.params = {"W1": rng.normal(size=(3, 4)), "b1": np.zeros((1, 4)), "W2": rng.normal(size=(4, 2))}
        self.grads = {}

    def forward(self, X):
        self.a = np.tanh(X @ self.params["W1"] + self.params["b1"])
        return self.a @ self.params["W2"]

    def backward(self, X, y):
        d = self.scale * (self.a @ self.params["W2"] - y) / y.size
        h = (d @ self.params["W2"].T) * (1 - self.a**2)
        self.grads = {"dW2": self.a.T @ d, "dW1": X.T @ h, "db1": h.sum(0, keepdims=True)}


def test_object_with_gradients_as_attributes_is_proved_for_all_shapes():
    result = check(Dense(3, 5), shapes={"X": (4, 3)})
    assert result.passed
    assert result.gradients == dict.fromkeys(("X", "W", "b"), "PROVED for all shapes")


def test_stack_of_layers_finds_every_parameter():
    result = check(Stack(Dense(3, 5), Relu(), Dense(5, 2)), shapes={"x": (4, 3)})
    assert result.passed, str(result)
    assert set(result.gradients) == {"x", "layers_0_W", "layers_0_b", "layers_2_W", "layers_2_b"}


def test_missing_gradient_of_an_object_is_refuted():
    class Wrong(Dense):
        def backward(self, dy):
            self.dW, self.db = self.X.T @ dy, dy.mean(0)
            return dy @ self.W.T

    result = check(Wrong(3, 5), shapes={"X": (4, 3)})
    assert result.gradients["b"] == "REFUTED"
    assert result.gradients["W"] == "PROVED for all shapes"
    assert any("divided by X.shape[0]" in line for line in result.diagnosis)


def test_weights_updated_in_place():
    assert check(UpdatesInPlace(3, 5), shapes={"X": (4, 3)}).passed
    wrong = UpdatesInPlace(3, 5)
    wrong.late = False
    result = check(wrong, shapes={"X": (4, 3)})
    assert result.gradients["X"] == "REFUTED"
    assert any("weights after their update" in line for line in result.diagnosis)


def test_lists_of_parameters_and_gradients():
    result = check(Listed(np.full((3, 5), 0.5), np.ones(5)), shapes={"x": (4, 3)})
    assert result.formula.ok, str(result)
    assert set(result.gradients) == {"x", "params_0", "params_1"}


def test_network_that_differentiates_a_loss():
    inputs = {"X": np.full((4, 3), 0.25), "y": np.full((4, 2), 0.75)}
    assert check(Network(), against="loss:half_squared_error", inputs=inputs).formula.ok
    wrong = Network()
    wrong.scale = 2.0
    result = check(wrong, against="loss:half_squared_error", inputs=inputs)
    assert result.formula.failed
    assert any("2 times the gradient" in line for line in result.diagnosis)


def test_the_object_is_left_as_it_was():
    net = UpdatesInPlace(3, 5)
    before = net.W.copy()
    check(net, shapes={"X": (4, 3)})
    assert np.array_equal(net.W, before)
    assert not hasattr(net, "X")


def test_objects_that_cannot_be_read():
    with pytest.raises(InputError, match="class: give an object"):
        check(Dense, shapes={"X": (4, 3)})
    with pytest.raises(InputError, match="which loss"):
        check(Network(), inputs={"X": np.ones((4, 3)), "y": np.ones((4, 2))})
    with pytest.raises(InputError, match="give the shape"):
        check(Dense(3, 5))

    class Silent(Dense):
        def backward(self, dy):
            return None

    with pytest.raises(InputError, match="looks like a gradient"):
        check(Silent(3, 5), shapes={"X": (4, 3)})


# Optimisers ----------------------------------------------------------------------------------------------------------
def adam(w, dw, m, v, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * dw
    v = beta2 * v + (1 - beta2) * dw**2
    return w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def velocity(w, dw, v, lr=0.1, momentum=0.9):
    v = momentum * v - lr * dw
    return w + v, v


class Sgd:
    def __init__(self, lr):
        self.lr = lr

    def step(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            p -= self.lr * g


class RmsProp:
    def __init__(self, lr=0.01, decay_rate=0.9):
        self.lr, self.decay_rate, self.h = lr, decay_rate, None

    def update(self, params, grads):
        if self.h is None:
            self.h = {k: np.zeros_like(v) for k, v in params.items()}
        for k in params:
            self.h[k] *= self.decay_rate
            self.h[k] += (1 - self.decay_rate) * grads[k] * grads[k]
            params[k] -= self.lr * grads[k] / (np.sqrt(self.h[k]) + 1e-8)


@pytest.mark.parametrize(
    ("step", "rule"), [(adam, "adam"), (velocity, "momentum"), (Sgd(0.5), "sgd"), (RmsProp(), "rmsprop")]
)
def test_right_steps(step, rule):
    assert check(step, against=f"optimiser:{rule}").passed
    assert check(step, against=OPTIMISERS[rule]).passed


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("w - lr * (m / (1 - beta1**t))", "w + lr * (m / (1 - beta1**t))"), "uphill"),
        (("np.sqrt(v / (1 - beta2**t)) + eps", "np.sqrt(v / (1 - beta2**t) + eps)"), "inside the square root"),
        (("(m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)", "m / (np.sqrt(v) + eps)"), "bias corrections"),
        (("(1 - beta1) * dw", "dw"), "first moment"),
        (("+ eps", "+ 0 * eps"), "epsilon is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_steps_are_explained(change, cause):
    import inspect

    source = inspect.getsource(adam)
    assert change[0] in source
    names = {"np": np}
    exec(source.replace(*change), names)
    result = check(names["adam"], against="optimiser:adam")
    assert result.formula.failed
    assert cause in result.diagnosis[0]


def test_other_epsilon_is_named():
    def step(w, g, v, lr=0.01):
        v = 0.9 * v + 0.1 * g * g
        return w - lr * g / (np.sqrt(v) + 1e-6), v

    result = check(step, against="optimiser:rmsprop")
    assert "epsilon is 1e-6" in result.diagnosis[0]


def test_wrong_step_arguments():
    with pytest.raises(InputError, match="'zeta'"):
        check(lambda w, g, zeta: w, against="optimiser:sgd")
    with pytest.raises(InputError, match="adam"):
        check(adam, against="optimiser:adamm")
    with pytest.raises(InputError, match="is a class"):
        check(Sgd, against="optimiser:sgd")


def test_step_that_changes_the_gradient_fails_the_contract():
    def step(w, g, lr=0.1):
        g *= lr
        return w - g

    result = check(step, against="optimiser:sgd")
    assert result.formula.ok
    assert result.contract.failed


# Scalar functions, black boxes ---------------------------------------------------------------------------------------
def test_scalar_function_beside_its_derivative():
    def f(x):
        return math.sin(x) * x if x > 0 else x * x

    def df(x):
        return math.sin(x) + x * math.cos(x) if x > 0 else 2 * x

    assert check(df, forward=f).formula.ok
    assert check(lambda x: df(x) + 1, forward=f).formula.failed
    assert check(lambda x: np.cos(x), forward=lambda x: np.sin(x)).formula.grade == "PROVED for all shapes"


def test_black_box_is_measured_not_proved():
    def hidden(dy, x):
        return np.array([float(v) for v in (dy * np.cos(x)).ravel()]).reshape(np.shape(x))

    result = check(hidden, forward=lambda x: np.sin(x), shapes={"x": (3, 4)}, black_box=True)
    assert result.formula.grade == "MEASURED"
    wrong = check(lambda dy, x: dy * np.cos(x) * (1 + 1e-6), against="sin(x)", black_box=True)
    assert wrong.formula.failed


# Numba ---------------------------------------------------------------------------------------------------------------
def test_numba_pair_is_traced_and_its_compiled_floats_are_measured():
    numba = pytest.importorskip("numba")

    @numba.njit
    def helper(x):
        return 1 / (1 + np.exp(-x))

    @numba.njit
    def forward(x):
        return helper(x)

    @numba.njit
    def backward(dy, x):
        s = helper(x)
        return dy * s * helper(-x)

    result = check(backward, forward=forward, shapes={"x": (3, 4)})
    assert result.formula.ok, str(result)
    assert result.name == "backward"

    @numba.njit
    def loops(dy, x):
        out = np.empty_like(x)
        for i in numba.prange(x.shape[0]):
            for j in range(x.shape[1]):
                out[i, j] = dy[i, j] * helper(x[i, j])
        return out

    assert check(loops, forward=forward, shapes={"x": (3, 4)}).formula.failed


def test_numba_vectorize():
    numba = pytest.importorskip("numba")

    @numba.vectorize
    def slope(x):
        return 1 - np.tanh(x) ** 2

    assert check(slope, against="tanh").formula.ok


# PyTorch -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def linear():
    torch = pytest.importorskip("torch")

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, W):
            ctx.save_for_backward(x, W)
            return x @ W

        @staticmethod
        def backward(ctx, dy):
            x, W = ctx.saved_tensors
            return dy @ W.T, x.T @ dy

    return Linear


def product(x, W):
    return x @ W


SHAPES = {"x": (3, 4), "W": (4, 5)}


def test_torch_function_is_measured(linear):
    result = check(linear, forward=product, shapes=SHAPES)
    assert result.passed, str(result)
    assert result.formula.grade == "MEASURED"


@pytest.mark.parametrize(
    ("body", "finding", "word"),
    [
        ("return dy @ W.T * 2, x.T @ dy", "formula", "2 times the gradient"),
        ("return dy @ W.T, None", "formula", "None"),
        ("g = dy @ W.T if ctx.needs_input_grad[0] else None\n    return g, (x.T @ dy if g is not None else None)",
         "contract", "needs_input_grad"),
        ("return (dy.detach() @ W.detach().T).clone(), x.T @ dy", "contract", "double backward"),
        ("dy.view(-1)\n    return dy @ W.T, x.T @ dy", "contract", "not contiguous"),
    ],
    ids=["factor", "none", "needs", "twice", "view"],
)  # fmt: skip
def test_torch_mistakes(linear, body, finding, word):
    names = {}
    exec(f"def backward(ctx, dy):\n    x, W = ctx.saved_tensors\n    {body}", names)
    wrong = type("Wrong", (linear,), {"backward": staticmethod(names["backward"])})
    result = check(wrong, forward=product, shapes=SHAPES)
    assert getattr(result, finding).failed, str(result)
    assert word in str(result) + getattr(result, finding).why


def test_torch_once_differentiable_is_accepted():
    torch = pytest.importorskip("torch")

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * 3 * x * x

    assert check(Cube, against="x**3").passed
    with pytest.raises(InputError, match="give forward="):
        check(Cube, shapes={"x": (3,)})


# JAX -----------------------------------------------------------------------------------------------------------------
def test_jax_custom_vjp_and_jvp():
    jax = pytest.importorskip("jax")

    @jax.custom_vjp
    def f(x, w):
        return x * w

    f.defvjp(lambda x, w: (x * w, (x, w)), lambda saved, dy: (dy * saved[1], dy * saved[0]))
    shapes = {"x": (3,), "w": (3,)}
    assert check(f, forward=lambda x, w: x * w, shapes=shapes).passed

    @jax.custom_vjp
    def wrong(x, w):
        return x * w

    wrong.defvjp(lambda x, w: (x * w, (x, w)), lambda saved, dy: (dy * saved[1], dy * saved[0] / 3))
    assert check(wrong, forward=lambda x, w: x * w, shapes=shapes).gradients["w"] == "REFUTED"

    @jax.custom_jvp
    def g(x):
        return jax.numpy.sin(x)

    g.defjvp(lambda primals, tangents: (g(*primals), tangents[0] * jax.numpy.cos(primals[0])))
    assert check(g, against="sin(x)").formula.grade == "MEASURED"


@pytest.mark.parametrize("kind", ["non-tensor arguments", "mark_dirty", "setup_context", "two outputs"])
def test_ways_to_write_a_torch_function(kind):
    torch = pytest.importorskip("torch")
    base = torch.autograd.Function

    class Scaled(base):
        @staticmethod
        def forward(ctx, x, k, mode):
            ctx.k = k
            ctx.save_for_backward(x)
            return x * x * k

        @staticmethod
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0] * ctx.k, None, None

    class InPlace(base):
        @staticmethod
        def forward(ctx, x):
            x.mul_(3.0)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return 3 * g

    class Apart(base):
        @staticmethod
        def forward(x, w):
            return x @ w

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g @ w.T, x.T @ g

    class Both(base):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.exp(), x.sum(1)

        @staticmethod
        def backward(ctx, a, b):
            return a * ctx.saved_tensors[0].exp() + b[:, None]

    x = np.full((3, 4), 1.5)
    function, arguments = {
        "non-tensor arguments": (
            Scaled,
            {"forward": lambda x, k, mode: x * x * k, "inputs": {"x": x, "k": 2, "mode": "a"}, "wrt": ["x"]},
        ),
        "mark_dirty": (InPlace, {"forward": lambda x: 3 * x, "inputs": {"x": x}}),
        "setup_context": (Apart, {"forward": lambda x, w: x @ w, "shapes": {"x": (3, 4), "w": (4, 5)}}),
        "two outputs": (Both, {"forward": lambda x: (np.exp(x), x.sum(axis=1)), "inputs": {"x": x}}),
    }[kind]
    result = check(function, **arguments)
    assert result.passed, str(result)
    assert result.formula.grade == "MEASURED"


def test_jax_nondiff_argnums():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    def make(inside):
        @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
        def clipped(x, limit):
            return jnp.clip(x * x, None, limit)

        clipped.defvjp(lambda x, limit: (clipped(x, limit), (x,)), lambda limit, r, g: (inside(r[0], limit) * g,))
        return clipped

    def forward(x, limit):
        return np.minimum(x * x, limit)

    inputs = {"x": np.full((3, 4), 1.3), "limit": 2.0}
    right = make(lambda x, limit: jnp.where(x**2 < limit, 2 * x, 0))
    assert check(right, forward=forward, inputs=inputs, wrt=["x"]).passed
    wrong = make(lambda x, limit: 2 * x)
    assert check(wrong, forward=forward, inputs=inputs, wrt=["x"]).formula.failed


def test_numpy_function_as_the_forward_pass():
    assert check(lambda dy, x: dy * np.cos(x), forward=np.sin, shapes={"x": (2, 3)}).formula.ok
    assert check(lambda dy, a, b: (dy * b, dy * a), forward=np.multiply, shapes={"a": 3, "b": 3}).formula.ok
