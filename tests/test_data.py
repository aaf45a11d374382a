"""Data sets load, split by class without overlap, and are scaled by the training part alone; wrong files get one clear
line.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backproof.numerics.data import DATASETS, Dataset, dataset, enlarge_images, read_csv, split
from backproof.theory.errors import InputError

SETS = pytest.mark.parametrize("name", DATASETS)


@SETS
def test_every_data_set(name):
    data = dataset(name)
    assert data.name == name
    assert DATASETS[name].citation
    assert data.inputs.shape == (len(data.labels), len(data.features))
    assert sorted(set(data.labels.tolist())) == list(range(len(data.classes)))
    parts = split(data, seed=3)
    rows = np.concatenate([parts.train.rows, parts.validation.rows, parts.test.rows])
    assert sorted(rows.tolist()) == list(range(len(data.labels)))
    assert len(parts.test.rows) == math.ceil(0.2 * len(data.labels))
    for part in (parts.train, parts.validation, parts.test):
        assert (part.labels == data.labels[part.rows]).all()
        np.testing.assert_array_equal(part.inputs, parts.standardise(data.inputs[part.rows]))
    shares = np.bincount(parts.test.labels) / np.bincount(data.labels)
    assert abs(shares - 0.2).max() < 1 / np.bincount(data.labels).min()


def test_iris_is_split_evenly():
    parts = split(dataset("iris"), seed=0)
    assert np.bincount(parts.test.labels).tolist() == [10, 10, 10]
    assert np.bincount(parts.validation.labels).tolist() == [4, 4, 4]


def test_the_scale_knows_only_the_training_part():
    data = dataset("iris")
    parts = split(data, seed=1)
    spoiled = data.inputs.copy()
    spoiled[np.concatenate([parts.test.rows, parts.validation.rows])] *= 1e6
    again = split(Dataset(data.name, spoiled, data.labels, data.classes, data.features), seed=1)
    np.testing.assert_array_equal(again.mean, parts.mean)
    np.testing.assert_array_equal(again.scale, parts.scale)
    assert abs(parts.train.inputs.mean(axis=0)).max() < 1e-13
    assert abs(parts.train.inputs.std(axis=0) - 1).max() < 1e-13


def test_a_split_is_its_seed():
    data = dataset("wine")
    assert (split(data, 5).test.rows == split(data, 5).test.rows).all()
    assert (split(data, 5).test.rows != split(data, 6).test.rows).any()


def test_constant_features_are_centred_not_blown_up():
    inputs = np.column_stack([np.full(40, 0.1), np.arange(40.0)])
    data = Dataset("flat", inputs, np.arange(40) % 2, ("a", "b"), ("flat", "ramp"))
    parts = split(data)
    assert abs(parts.train.inputs[:, 0]).max() < 1e-12


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=30, max_size=120), st.floats(0.1, 0.4), st.integers(0, 5))
def test_a_split_is_a_partition(labels, share, seed):
    classes = sorted(set(labels))
    numbers = np.array([classes.index(label) for label in labels])
    data = Dataset("drawn", np.arange(float(len(labels)))[:, None], numbers, (*map(str, classes), "none"), ("x",))
    try:
        parts = split(data, seed, test=share, validation=share)
    except InputError:
        assume(min(labels.count(c) for c in classes) * share < 2)  # no other refusal is right
        return
    rows = np.concatenate([parts.train.rows, parts.validation.rows, parts.test.rows])
    assert sorted(rows.tolist()) == list(range(len(labels)))
    assert set(parts.train.labels.tolist()) == set(range(len(classes)))


def test_the_test_part_is_scikit_learns():
    from sklearn.model_selection import train_test_split

    data = dataset("wine")
    theirs = train_test_split(np.arange(178), test_size=0.2, stratify=data.labels, random_state=7)[1]
    assert split(data, 7).test.rows.tolist() == theirs.tolist()
    assert split(data, 7, validation=0).test.rows.tolist() == theirs.tolist()
    assert split(data, 7, test=0, validation=0).train.rows.tolist() == list(range(178))


def test_enlarging_keeps_linear_ramps_and_constants():
    flat = np.full((2, 8, 8), 5.0)
    np.testing.assert_allclose(enlarge_images(flat, 28), 5.0, rtol=1e-15)
    ramp = np.tile(np.arange(8.0), (1, 8, 1))
    inner = enlarge_images(ramp, 28)[0, 0, 2:-2]
    np.testing.assert_allclose(np.diff(inner), 8 / 28, rtol=1e-12)


CSV = "length;width;kind\n1.5;2;a\n2.5;3;b\n1;2;a\n4;4;b\n"


def test_csv_and_npz(tmp_path):
    file = tmp_path / "flowers.csv"
    file.write_text(CSV)
    data = dataset(str(file))
    assert (data.name, data.classes, data.features) == ("flowers", ("a", "b"), ("length", "width"))
    assert data.inputs.tolist() == [[1.5, 2], [2.5, 3], [1, 2], [4, 4]]
    assert data.labels.tolist() == [0, 1, 0, 1]
    np.savez(tmp_path / "flowers.npz", x=data.inputs, y=data.labels)
    assert dataset(tmp_path / "flowers.npz").inputs.tolist() == data.inputs.tolist()
    file.write_text("kind,length\na,1\nb,2\n")
    assert dataset(file, target="kind").features == ("length",)
    file.write_text("1,10\n2,9\n3,10\n4,9\n")
    assert dataset(file).classes == ("9", "10")  # by number, not by text
    assert read_csv(file).features == ("x1",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,b\n", "no samples"),
        ("1\n2\n", "one column"),
        ("1,2,a\n1,b\n", "line 2: 2 columns where the first line has 3"),
        ("x,y,c\n1,nan,a\n2,3,b\n", "sample 1, feature 'y'"),
        ("1,inf,a\n2,3,b\n", "infinite"),
        ("1,2,a\n1,two,b\n", "'two' in column 'x2' is not a number"),
        ("1,2,a\n1,,b\n", "an empty cell"),
        ("1,2,a\n2,3,a\n", "one class only"),
        ("1,2,a\n2,3,\n", "no label for sample 2"),
        ("1,0.11\n2,0.12\n3,0.13\n4,0.14\n5,0.15\n6,0.16\n", "not measurements"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_wrong_csv(tmp_path, content, said):
    file = tmp_path / "wrong.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said):
        dataset(file)


def test_wrong_npz(tmp_path):
    for number, (arrays, said) in enumerate(
        [
            ({"a": np.ones(3)}, "arrays called x and y"),
            ({"x": np.ones(3), "y": np.ones(3)}, "one sample per row"),
            ({"x": np.array([["a"], ["b"]]), "y": np.ones(2)}, "must hold numbers"),
            ({"x": np.ones((3, 2)), "y": np.arange(2)}, "3 samples but 2 labels"),
            ({"x": np.ones((0, 2)), "y": np.ones(0)}, "empty"),
            ({"x": np.array([[1.0], [np.nan]]), "y": np.arange(2)}, "NaN"),
        ]
    ):
        file = tmp_path / f"{number}.npz"
        np.savez(file, **arrays)
        with pytest.raises(InputError, match=said):
            dataset(file)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, x=np.array([object()]), y=np.ones(1))
    with pytest.raises(InputError, match="plain arrays"):
        dataset(pickled)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="plain arrays"):
        dataset(broken)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("iriss", "did you mean 'iris'"),
        ("missing.csv", "No such file"),
        ("data.xlsx", "a .csv or .npz"),
        ("missing.npz", "No such"),
    ],
)
def test_wrong_source(source, said):
    with pytest.raises(InputError, match=said):
        dataset(source)


def test_wrong_split():
    data = dataset("iris")
    for options in ({"test": 1.0}, {"validation": -0.1}, {"test": float("nan")}):
        with pytest.raises(InputError, match="at least 0 and below 1"):
            split(data, **options)
    tiny = Dataset("tiny", np.ones((3, 1)), np.array([0, 0, 1]), ("a", "b"), ("x",))
    with pytest.raises(InputError, match=r"too small for a test part of 0.7 with all 2 classes .class 'b' has 1"):
        split(tiny, test=0.7)


@pytest.mark.parametrize("size", [1e300, 1e-300, 1e200, 1e-160, 1e-13, 1.0])
@pytest.mark.filterwarnings("error")
def test_the_unit_of_a_feature_does_not_matter(size):
    generator = np.random.default_rng(0)
    plain = generator.normal(1, 1, (60, 2))
    labels = np.arange(60) % 2
    one = split(Dataset("one", plain, labels, ("a", "b"), ("u", "v")), 0)
    other = split(Dataset("other", plain * [size, 1], labels, ("a", "b"), ("u", "v")), 0)
    np.testing.assert_allclose(other.train.inputs, one.train.inputs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(other.test.inputs, one.test.inputs, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_scaled_names_the_column(tmp_path):
    file = tmp_path / "far.csv"
    rows = [f"{'-' * (k % 3 == 0)}1.7e308,{k},{k % 2}" for k in range(40)]
    file.write_text("\n".join(["mass,order,kind", *rows]))
    with pytest.raises(InputError, match=r"feature 'mass' of sample \d+ is -?1.7e\+308, too large"):
        split(dataset(file), 0)


def test_scaling_moves_no_bit_of_ordinary_data():
    data = dataset("wine")
    found = split(data, 0)
    rows = data.inputs[found.train.rows]
    np.testing.assert_array_equal(found.mean, rows.mean(axis=0))
    np.testing.assert_array_equal(found.scale, rows.std(axis=0))


def test_unknown_target_column(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="no column 'kind': it has x, y"):
        read_csv(file, target="kind")
