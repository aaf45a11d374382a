"""Training: the derived step is the gradient, runs are reproducible and resumable, and wrong input gets one clear
line.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import sympy
from sympy import Rational

from backproof.demos.cli import run as command_line
from backproof.numerics.data import Dataset, dataset
from backproof.numerics.model_files import load
from backproof.numerics.network import Network
from backproof.numerics.training import Diverged, accuracies, as_dict, train
from backproof.numerics.updates import Updater, hoist
from backproof.theory.activations import activation
from backproof.theory.errors import InputError
from backproof.theory.losses import LOSSES
from backproof.theory.optimisers import OPTIMISERS, g, t, theta
from backproof.theory.symbols import x

ROWS = pytest.mark.parametrize("row", OPTIMISERS.values(), ids=list(OPTIMISERS))


@ROWS
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 4e-15), ("float32", 2e-6)])
def test_the_compiled_update_is_the_rule(row, dtype, tolerance):
    """Five steps of the compiled rule against the same steps in exact rationals; the tolerance is a few roundings a
    step.
    """
    start, gradients = [1, -2, 3], [[0.5, -1, 2], [1, 1, -0.25], [0.125, 0, 3], [-4, 0.5, 1], [1, 2, 3]]
    parameters = np.array(start, dtype)
    updater = Updater(row, 3, dtype)
    for gradient in gradients:
        updater.step(parameters, np.array(gradient, dtype))
    for k in range(3):
        values = {theta: Rational(start[k]), **dict.fromkeys(row.state, Rational(0)), **row.hyper}
        for number, gradient in enumerate(gradients, start=1):
            values |= row.step({**values, g: Rational(str(gradient[k])), t: number})
        assert abs(parameters[k] - float(values[theta].evalf(30))) <= tolerance * max(1, abs(parameters[k]))
    assert updater.steps == 5


def test_what_does_not_vary_by_entry_is_hoisted():
    adam = OPTIMISERS["adam"]
    rest, named = hoist(adam.updates, {t}, {theta, g, *adam.state})
    assert not any(e.has(t) for e in rest.values())
    assert len(named) == 2
    back = rest[theta].subs(named)
    assert (back - adam.updates[theta]).simplify() == 0


def test_the_gradient_must_fit():
    for wrong in (np.zeros(2), np.zeros(3, np.float32), np.zeros(6)[::2]):
        with pytest.raises(InputError, match="the gradient must be one contiguous array of 3 float64"):
            Updater("sgd", 3).step(np.zeros(3), wrong)


@ROWS
def test_large_and_small_arrays_take_the_same_step(row):
    """Above a size the kernel is shared over threads: the same numbers come out."""
    generator = np.random.default_rng(0)
    start, gradients = generator.standard_normal(200_000), generator.standard_normal((2, 200_000))
    large, small = start.copy(), start[:100].copy()
    one, two = Updater(row, 200_000), Updater(row, 100)
    for gradient in gradients:
        one.step(large, gradient)
        two.step(small, gradient[:100])
    assert abs(large[:100] - small).max() < 1e-15


def mp_loss(network: Network, flat, X, Y, f):
    """The mean softmax cross-entropy at 50 digits, straight from its definition."""
    import mpmath

    values = network.views(np.array(flat, dtype=object))
    layer = [[mpmath.mpf(float(entry)) for entry in row] for row in X]
    last = len(network.widths) - 1
    for number in range(1, last + 1):
        W, b = values[f"W{number}"], values[f"b{number}"]
        z = [[sum(a * W[i, o] for i, a in enumerate(row)) + b[o] for o in range(len(b))] for row in layer]
        layer = [[f(entry) for entry in row] for row in z] if number < last else z
    total = mpmath.mpf(0)
    for row, wanted in zip(layer, Y):
        total += mpmath.log(sum(mpmath.exp(z) for z in row)) - sum(z * w for z, w in zip(row, wanted))
    return total / len(layer)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "x*tanh(log(1+exp(x)))"])
def test_the_generated_step_is_the_gradient(name):
    """Every entry against a central difference at 50 digits with step 1e-15: its error, of order 1e-30, is far below
    rounding.
    """
    import mpmath

    network = Network("3-4-2-3", name)
    network.draw("gain_normal", name, np.random.default_rng(5))
    network.flat += 0.01 * np.random.default_rng(6).standard_normal(network.flat.shape)
    generator = np.random.default_rng(7)
    X, Y = generator.standard_normal((5, 3)), np.eye(3)[generator.integers(0, 3, 5)]
    found = network.gradient(X, Y)
    with mpmath.workdps(50):
        f = sympy.lambdify(x, activation(name).expr, "mpmath")
        flat, h = [mpmath.mpf(float(value)) for value in network.flat], mpmath.mpf("1e-15")
        assert abs(network.evaluate(X, Y)[0] - float(mp_loss(network, flat, X, Y, f))) < 1e-14
        for k in range(len(flat)):
            around = [mp_loss(network, flat[:k] + [flat[k] + s * h] + flat[k + 1 :], X, Y, f) for s in (1, -1)]
            assert abs(found[k] - float((around[0] - around[1]) / (2 * h))) < 1e-14


def test_the_gradient_is_torchs():
    torch = pytest.importorskip("torch")
    network = Network("4-16-8-3", "tanh")
    network.draw("gain_normal", "tanh", np.random.default_rng(1))
    X, Y = np.random.default_rng(2).standard_normal((20, 4)), np.eye(3)[np.arange(20) % 3]
    tensors = {k: torch.tensor(p, requires_grad=True) for k, p in network.parameters.items()}
    a = torch.tensor(X)
    for layer in (1, 2, 3):
        a = a @ tensors[f"W{layer}"] + tensors[f"b{layer}"]
        a = torch.tanh(a) if layer < 3 else a
    loss = torch.nn.functional.cross_entropy(a, torch.tensor(Y))
    loss.backward()
    ours = network.views(network.gradient(X, Y))
    assert abs(network.evaluate(X, Y)[0] - loss.item()) < 1e-14
    for name, tensor in tensors.items():
        np.testing.assert_allclose(ours[name], tensor.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_iris_reaches_what_is_asked_and_says_how_much_is_chance():
    result = train("4-16-3", "iris")
    assert result.parameter_count == 4 * 16 + 16 + 16 * 3 + 3 == 131
    assert result.samples == (108, 12, 30)
    assert result.test_accuracy >= 29 / 30
    assert result.probability_error < 1e-15
    assert len(result.history) == 201
    # One test part of 30 samples moves in steps of 1/30: the mean over seeds is the steadier number.
    spread = accuracies(range(10))
    assert np.mean(spread) > 0.94
    assert spread[0] == result.test_accuracy


def test_the_784_network():
    result = train("784-256-128-10", "digits28", epochs=2, batch=32)
    assert result.parameter_count == 235_146
    assert sum(p.size for p in result.parameters.values()) == 235_146
    assert result.probability_error < 1e-14
    assert result.test_accuracy > 0.9
    probabilities = result.predict_proba(dataset("digits28").inputs[:50])
    assert probabilities.shape == (50, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-14)


@ROWS
def test_every_optimiser_learns(row):
    result = train("4-8-3", optimiser=row.name, epochs=60, learning_rate=0.01, batch=8)
    assert result.history[-1].train_loss < 0.5 * result.history[0].train_loss
    assert result.test_accuracy > 0.7


def test_a_formula_trains_like_its_name():
    named = train("4-8-3", activation="silu", epochs=5, initialiser="he_normal")
    typed = train("4-8-3", activation="x/(1+exp(-x))", epochs=5, initialiser="he_normal")
    assert abs(named.history[-1].train_loss - typed.history[-1].train_loss) < 1e-12
    given = train("4-8-3", activation=activation("x/(1+exp(-x))"), epochs=5, initialiser="he_normal")
    assert given.history == typed.history


def test_an_activation_with_parameters_is_saved_by_its_text(tmp_path):
    file = tmp_path / "elu.safetensors"
    result = train("4-8-3", activation=activation("elu", alpha=2), epochs=3, checkpoint=file)
    assert (load(file).predict_proba(dataset("iris").inputs) == result.predict_proba(dataset("iris").inputs)).all()
    branches = sympy.Piecewise((x, x > 0), (x / 7, True))
    with pytest.raises(InputError, match="cannot be saved"):
        train("4-8-3", activation=branches, epochs=3, checkpoint=file)
    with pytest.raises(InputError, match="cannot be saved"):
        train("4-8-3", activation=branches, epochs=1).save(file)


def test_a_network_travels_to_another_process():
    network = Network("4-8-3", "gelu", "cross_entropy")
    network.draw("gain_normal", "gelu", np.random.default_rng(0))
    again = pickle.loads(pickle.dumps(network))
    inputs = np.random.default_rng(1).standard_normal((5, 4))
    assert (again.forward(inputs) == network.forward(inputs)).all()


def test_the_same_seed_gives_the_same_network():
    one, two, other = (train("4-8-3", epochs=5, seed=seed) for seed in (3, 3, 4))
    assert one.history == two.history
    assert (one.snapshot.flat == two.snapshot.flat).all()
    assert one.history != other.history


def test_float32_trains():
    result = train("4-8-3", epochs=20, dtype="float32")
    assert result.parameters["W1"].dtype == np.float32
    assert result.probability_error < 1e-6


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_a_resumed_run_takes_the_same_steps(name, tmp_path):
    whole = train("4-8-3", epochs=12, optimiser=name)
    file = tmp_path / "half.safetensors"
    train("4-8-3", epochs=7, optimiser=name, checkpoint=file)
    resumed = train(epochs=12, resume=file)
    assert (resumed.snapshot.flat == whole.snapshot.flat).all()
    assert resumed.history == whole.history
    assert resumed.test_accuracy == whole.test_accuracy


def test_a_saved_network_is_the_same_network(tmp_path):
    result = train("13-8-3", "wine", epochs=20, activation="gelu", loss="softmax_cross_entropy")
    file = result.save(tmp_path / "wine.safetensors")
    again = load(file)
    inputs = dataset("wine").inputs
    assert (again.predict_proba(inputs) == result.predict_proba(inputs)).all()
    assert (again.predict(inputs) == result.predict(inputs)).all()
    assert set(again.predict(inputs)) <= set(dataset("wine").classes)
    assert as_dict(again) == as_dict(result)
    from safetensors.numpy import load_file

    assert load_file(file)["W1"].shape == (13, 8)


def test_patience_keeps_the_best_epoch(tmp_path):
    result = train("64-32-10", "digits", epochs=400, batch=64, learning_rate=0.02, patience=5, validation=0.2)
    losses = [epoch.validation_loss for epoch in result.history]
    assert len(losses) < 401
    assert result.best_epoch == int(np.argmin(losses)) == len(losses) - 6
    best = train("64-32-10", "digits", epochs=result.best_epoch, batch=64, learning_rate=0.02, validation=0.2)
    assert (result.parameters["W1"] == best.parameters["W1"]).all()
    again = load(result.save(tmp_path / "a.safetensors"))
    assert (again.parameters["W1"] == best.parameters["W1"]).all()


def test_divergence_is_said(tmp_path):
    file = tmp_path / "last.safetensors"
    with pytest.raises(Diverged, match=r"diverged in epoch 1.*learning rate 1e\+200 is too large for sgd"):
        train("4-8-8-3", optimiser="sgd", learning_rate="1e200", checkpoint=file)
    assert len(load(file).history) == 1  # what was there before it diverged


def test_ctrl_c_leaves_the_last_whole_epoch(tmp_path):
    file = tmp_path / "interrupted.safetensors"

    def interrupt(epoch):
        if epoch.number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("4-8-3", epochs=50, checkpoint=file, on_epoch=interrupt)
    saved = load(file)
    assert len(saved.history) == 5
    assert train(epochs=9, resume=saved).history == train("4-8-3", epochs=9).history
    assert [p.name for p in tmp_path.iterdir()] == ["interrupted.safetensors"]


def test_ctrl_c_within_an_epoch(tmp_path, monkeypatch):
    """A step that is cut off half-way does not reach the file."""
    file, whole, calls = tmp_path / "cut.safetensors", train("4-8-3", epochs=3), []
    step = Updater.step

    def cut(self, parameters, gradient):
        calls.append(1)
        step(self, parameters, gradient)
        if len(calls) == 24:  # 7 steps an epoch: within the fourth
            parameters[:5] = np.nan
            raise KeyboardInterrupt

    monkeypatch.setattr(Updater, "step", cut)
    with pytest.raises(KeyboardInterrupt):
        train("4-8-3", epochs=50, checkpoint=file)
    assert (load(file).snapshot.flat == whole.snapshot.flat).all()


WRONG = [
    ({"spec": "5-16-3"}, "takes 5 inputs but iris has 4 features: write 4-16-3"),
    ({"spec": "4-16-2"}, "2 outputs but iris has 3 classes: write 4-16-3"),
    ({"spec": "4-16-x"}, ""),
    ({"spec": "4-0-3"}, ""),
    ({"spec": ""}, ""),
    ({"spec": "4"}, ""),
    ({"spec": "4-9999999-3"}, "parameters"),
    ({"data": "iriss"}, "did you mean 'iris'"),
    ({"activation": "rleu"}, "rleu"),
    ({"activation": "9**9**9**9"}, ""),
    ({"activation": '__import__("os").system("x")'}, ""),
    ({"loss": "softmax"}, "loss"),
    ({"optimiser": "adaam"}, "did you mean 'adam'"),
    ({"initialiser": "hee"}, "initialiser"),
    ({"learning_rate": "fast"}, "learning_rate"),
    ({"learning_rate": -1}, "above 0"),
    ({"hyper": {"momentum": 0.9}}, "adam has no hyper-parameter 'momentum'"),
    ({"epochs": -1}, "epochs"),
    ({"batch": 0}, "batch"),
    ({"seed": -1}, "seed"),
    ({"validation": 1.0}, "validation"),
    ({"validation": 0.001}, "too small"),
    ({"patience": 0}, "patience"),
    ({"patience": 3, "validation": 0}, "validation"),
    ({"dtype": "float16"}, "float"),
    ({"checkpoint": "/no/such/folder/x.safetensors"}, "does not exist"),
    ({"resume": "missing.safetensors"}, "No such file"),
]


@pytest.mark.parametrize(("options", "said"), WRONG, ids=[str(options)[:40] for options, _ in WRONG])
def test_wrong_options(options, said):
    with pytest.raises(InputError) as caught:
        train(**{"spec": "4-16-3", "epochs": 1, **options})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_inputs_to_a_trained_network():
    result = train("4-4-3", epochs=1)
    for inputs, said in (
        (np.zeros((2, 5)), "shape"),
        ([[1, 2, 3, np.nan]], "NaN"),
        ("abc", "numbers"),
        ([1, 2], "shape"),
        ([[1, 2, 3, -1.7e308]], "input 4 of sample 1 is -1.7e"),
    ):
        with pytest.raises(InputError, match=said):
            result.predict(inputs)


@pytest.mark.filterwarnings("error")
def test_a_column_of_huge_numbers_trains_without_a_warning(tmp_path, capsys):
    file = tmp_path / "huge.csv"
    file.write_text("a,b,y\n" + "".join(f"{(k % 2 + k / 90) * 1e300},{k % 7},{k % 2}\n" for k in range(60)))
    status = command_line(["train", "2-8-2", "--data", str(file), "--epochs", "60", "--learning-rate", "0.02"])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    assert "test accuracy 1.0000 (12 of 12)" in captured.out


def test_other_data_do_not_resume():
    saved = train("4-4-3", epochs=1)
    data = dataset("iris")
    with pytest.raises(InputError, match="its numbers differ"):
        train(resume=saved, data=replace(data, inputs=data.inputs + 1), epochs=2)
    with pytest.raises(InputError, match="has 1 already"):
        train(resume=saved, epochs=0)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_wrong_file_is_refused(tmp_path, content):
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        load(file)


def test_a_tampered_file_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    result = train("4-4-3", epochs=1)
    file = result.save(tmp_path / "x.safetensors")
    arrays = load_file(file)
    save_file(arrays, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="not a network saved"):
        load(tmp_path / "bare.safetensors")
    from safetensors import safe_open

    with safe_open(file, "numpy") as stored:
        header = stored.metadata()
    for changed, said in (
        ({**arrays, "W1": arrays["W1"][:2].copy()}, "W1"),
        ({k: v for k, v in arrays.items() if k != "W1"}, "W1 is missing"),
        ({**arrays, "resume.flat": arrays["resume.flat"][:2].copy()}, "do not fit"),
        ({k: v for k, v in arrays.items() if k != "mean"}, "damaged"),
    ):
        save_file(changed, tmp_path / "y.safetensors", metadata=header)
        with pytest.raises(InputError, match=said):
            load(tmp_path / "y.safetensors")
    hostile = json.loads(header["backproof"])
    hostile["configuration"]["activation"] = '__import__("os").system("touch pwned")'
    save_file(arrays, tmp_path / "z.safetensors", metadata={**header, "backproof": json.dumps(hostile)})
    with pytest.raises(InputError):
        load(tmp_path / "z.safetensors")


def test_two_classes_and_a_data_set_given_as_arrays():
    data = dataset("breast_cancer")
    result = train("30-8-2", data, epochs=20)
    assert result.test_accuracy > 0.9
    assert result.configuration.data == "breast_cancer"
    with pytest.raises(InputError, match="3 outputs but breast_cancer has 2 classes"):
        train("30-8-3", data)


def test_no_test_part_and_no_validation():
    result = train("4-4-3", epochs=2, test=0.0, validation=0.0)
    assert result.test_accuracy is None
    assert result.history[-1].validation_loss is None
    assert "validation loss" not in result.text
    assert result.samples == (150, 0, 0)


def test_zero_epochs_measure_the_drawn_network():
    result = train("4-4-3", epochs=0)
    assert len(result.history) == 1
    assert "0 epochs" in result.text


def test_an_activation_that_overflows_is_said():
    inputs = np.linspace(-1, 1, 40)[:, None] * 1e3
    data = Dataset("steep", inputs, (np.arange(40) % 2).astype(np.int64), ("a", "b"), ("x",))
    with pytest.raises(InputError, match=r"not finite|diverged"):
        train("1-40-2", data, activation="exp(exp(2*x))", epochs=3, initialiser="he_normal", learning_rate=0.5)


@pytest.mark.parametrize("row", LOSSES.values(), ids=list(LOSSES))
def test_every_loss_learns_or_says_why_not(row):
    options = {"loss": row.name, "epochs": 60, "learning_rate": 0.01}
    result = train("4-8-3", **options)
    assert result.history[-1].train_loss < 0.7 * result.history[0].train_loss
    assert result.test_accuracy > 0.8
    outputs = result.predict_proba(dataset("iris").inputs)
    if "softmax" in row.output:
        np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["binary_cross_entropy_logits", "squared_error", "hinge"])
def test_one_output_for_two_classes(name):
    result = train("30-8-1", "breast_cancer", loss=name, epochs=20, learning_rate=0.01)
    assert result.test_accuracy > 0.9
    with pytest.raises(InputError, match="one output per class"):
        train("30-8-1", "breast_cancer", loss="softmax_cross_entropy")


def test_the_estimator(tmp_path):
    from sklearn.base import clone
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score

    from backproof.numerics.estimator import NetworkClassifier

    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = NetworkClassifier("8", epochs=40, learning_rate=0.01)
    assert clone(model).get_params() == model.get_params()
    scores = cross_val_score(model, X, names, cv=3)
    assert scores.mean() > 0.9
    fitted = model.fit(X, names)
    assert fitted is model
    assert set(model.predict(X)) <= set(names)
    assert model.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :2])


@pytest.mark.slow
def test_scikit_learns_own_checks():
    from sklearn.utils.estimator_checks import check_estimator

    from backproof.numerics.estimator import NetworkClassifier

    check_estimator(NetworkClassifier("16", epochs=100, learning_rate=0.01, batch=8))


def test_command_line(tmp_path, capsys):
    picture, file = tmp_path / "curves.svg", tmp_path / "iris.safetensors"
    base = ["train", "4-8-3", "--epochs", "3", "--save", str(file)]
    assert command_line([*base, "--output", str(picture), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameter_count"] == 67
    assert len(found["history"]) == 4
    assert picture.stat().st_size > 10_000
    assert command_line(["train", "4-8-3", "--resume", str(file), "--epochs", "5"]) == 0
    captured = capsys.readouterr()
    assert "5 epochs" in captured.out
    assert captured.err == ""  # no progress bar where nobody looks
    csv = tmp_path / "flowers.csv"
    data = dataset("iris")
    csv.write_text("\n".join(",".join(map(str, (*row, data.classes[k]))) for row, k in zip(data.inputs, data.labels)))
    assert command_line(["train", "4-8-3", "--data", str(csv), "--epochs", "2", "--set", "beta1=0.8"]) == 0
    assert "flowers.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["5-16-3"], "write 4-16-3"),
        (["4-16-3", "--output", "curves.gif"], "png"),
        (["4-16-3", "--output", "/no/such/folder/x.png"], "does not exist"),
        (["4-16-3", "--save", "/no/such/folder/x.safetensors"], "does not exist"),
        (["4-16-3", "--data", "missing.csv"], "No such file"),
        (["4-16-3", "--optimiser", "adaam"], "did you mean 'adam'"),
        (["4-16-3", "--set", "momentum"], "NAME=VALUE"),
        (["4-16-3", "--set", "momentum=0.9"], "adam has no hyper-parameter"),
        (["4-16-3", "--epochs", "-1"], "epochs"),
        (["4-16-3", "--optimiser", "sgd", "--learning-rate", "1e300"], "diverged"),
        (["4-16-3", "--resume", "missing.safetensors"], "No such file"),
        (["4-16-3", "--resume", "missing.safetensors", "--seed", "1"], "leave out --seed"),
    ],
)
def test_command_line_refuses(arguments, said, capsys):
    assert command_line(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_command_line_interrupted(tmp_path, capsys, monkeypatch):
    from backproof.numerics import training

    def interrupted(self, number):
        raise KeyboardInterrupt

    monkeypatch.setattr(training._Run, "_epoch", interrupted)
    file = tmp_path / "x.safetensors"
    assert command_line(["train", "4-16-3", "--save", str(file)]) == 130
    assert f"go on with --resume {file}" in capsys.readouterr().err
    monkeypatch.undo()
    assert train(epochs=3, resume=file).history == train("4-16-3", epochs=3).history
