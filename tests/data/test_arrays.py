"""Arrays of a program as a data set: what they are taken for, splits, hashes, what is refused."""

import numpy as np
import pytest

from mmjax.data import Arrays, Modality, Target
from mmjax.errors import ConfigError, DataError
from mmjax.training.config import from_json, to_json

N = 20
RNG = np.random.default_rng(0)
VECTOR = RNG.normal(size=(N, 3))


def test_shapes_and_types_say_what_modalities_and_targets_are():
    data = Arrays(
        inputs={
            "vector": VECTOR,
            "sequence": RNG.normal(size=(N, 5, 2)),
            "picture": RNG.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8),
            "film": RNG.integers(0, 256, (N, 2, 4, 4, 3), dtype=np.uint8),
            "text": RNG.integers(0, 7, (N, 6)),
            "sound": RNG.normal(size=(N, 16)),
        },
        targets={
            "kind": np.arange(N) % 3,
            "named": ["dog", "cat"] * (N // 2),
            "size": RNG.normal(size=N),
            "place": RNG.normal(size=(N, 2)),
            "tags": RNG.random((N, 4)) > 0.5,
            "yes": RNG.random(N) > 0.5,
        },
        modalities={"sound": Modality("audio", (16,), sample_rate=8000)},
    )
    kinds = {name: (each.kind, each.shape, each.dtype) for name, each in data.modalities.items()}
    assert kinds == {
        "vector": ("vector", (3,), "float32"),
        "sequence": ("sequence", (5, 2), "float32"),
        "picture": ("image", (4, 4, 3), "uint8"),
        "film": ("video", (2, 4, 4, 3), "uint8"),
        "text": ("text", (6,), "int32"),
        "sound": ("audio", (16,), "float32"),
    }
    assert data.targets == {
        "kind": Target("class", 3),
        "named": Target("class", 2, names=("cat", "dog")),
        "size": Target("number"),
        "place": Target("number", shape=(2,)),
        "tags": Target("labels", 4),
        "yes": Target("class", 2),
    }
    source = data.load("train")
    np.testing.assert_array_equal(source.masks["text"], source.inputs["text"] != 0)


def test_every_row_is_in_one_split_and_shares_and_names_are_followed():
    data = Arrays({"row": np.arange(N, dtype=np.float32)[:, None]}, valid=0.25, test=0.5)
    rows = {split: data.load(split).inputs["row"][:, 0] for split in data.splits}
    assert {split: len(each) for split, each in rows.items()} == {
        "train": 5,
        "valid": 5,
        "test": 10,
    }
    assert sorted(np.concatenate(list(rows.values()))) == list(range(N))
    again = Arrays({"row": np.arange(N, dtype=np.float32)[:, None]}, valid=0.25, test=0.5, seed=1)
    assert (again.load("test").inputs["row"][:, 0] != rows["test"]).any()
    names = np.where(np.arange(N) < 15, "train", "test")
    given = Arrays({"row": np.arange(N, dtype=np.float32)[:, None]}, split=names)
    assert given.splits == ("train", "test")
    np.testing.assert_array_equal(given.load("test").inputs["row"][:, 0], np.arange(15, N))


def test_the_config_holds_a_hash_of_all_that_was_given():
    def data(**changes):
        given = {"targets": {"kind": np.arange(N) % 3}, "present": {"x": np.arange(N) > 0}}
        return Arrays(**({"inputs": {"x": VECTOR}} | given | changes))

    config = to_json(data())
    assert config == to_json(data())
    others = (
        data(inputs={"x": VECTOR + 1}),
        data(targets={"kind": np.arange(N)[::-1] % 3}),
        data(present={"x": np.arange(N) > 1}),
        data(seed=1),
    )
    assert len({config["sha256"], *(each.sha256 for each in others)}) == 5
    kept = from_json(config)
    assert (kept.modalities, kept.targets, kept.splits) == (
        data().modalities,
        data().targets,
        data().splits,
    )
    with pytest.raises(DataError, match="not saved with the run"):
        kept.load("train", None)


UNEQUAL = {"inputs": {"x": VECTOR}, "targets": {"kind": np.arange(N - 1) % 3}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (UNEQUAL, "targets.kind has 19 rows, but inputs.x has 20"),
        ({"inputs": {"x": VECTOR, "y": VECTOR[:5]}}, "inputs.y has 5 rows, but inputs.x has 20"),
        (
            {"inputs": {"x": np.array([{}] * N)}},
            "inputs.x is an array of Python objects: give numbers",
        ),
        ({"inputs": {"x": [[1, 2], [3]]}}, "inputs.x cannot be converted to an array"),
        ({"inputs": {"x": [["a"]] * N}}, "inputs.x has dtype <U1: give numbers"),
        ({"inputs": {"x": np.zeros((N, 2, 2, 2, 2, 2))}}, "inputs.x does not .* declare it"),
        ({"inputs": {"x": {"a": VECTOR}}}, "inputs.x is a dict of arrays: declare it"),
        (
            {"inputs": {"x": VECTOR}, "targets": {"k": np.arange(N) % 3 + 1}},
            "without gaps: subtract 1",
        ),
        ({"inputs": {"x": VECTOR}, "targets": {"k": np.arange(N) % 3 * 2}}, "the class 1, but cla"),
        ({"inputs": {"x": VECTOR}, "targets": {"k": np.arange(N) - 5}}, "k has the class -5"),
        (
            {"inputs": {"x": VECTOR}, "targets": {"k": np.full(N, -1)}},
            "is -1 .unknown. in all examples",
        ),
        (
            {"inputs": {"x": VECTOR}, "targets": {"k": [None] * N}},
            "is None .unknown. in all examples",
        ),
        ({"inputs": {"x": VECTOR}, "targets": {"k": np.ones((N, 2), int)}}, r"array.astype.bool"),
        ({"inputs": {"x": VECTOR}, "targets": {"k": np.full((N, 2), 3)}}, r"\[N, C\] bools for"),
        (
            {"inputs": {"x": VECTOR}, "targets": {"k": np.full(N, np.nan)}},
            "k is NaN .unknown. in all 14 examples of the split 'train': leave the target out",
        ),
        (
            {"inputs": {"x": VECTOR}, "present": {"x": np.zeros(N, bool)}},
            "present.x is False in all 14 examples .*: leave the modality out",
        ),
        ({"inputs": {"x": np.full((N, 2), 2**40)}}, "x has the value 1099511627776, but int32 rea"),
        ({"inputs": {"x": np.full((N, 2), 2**30)}}, "token id 1073741824, .* that occur from 1"),
        ({"inputs": {"x": np.full((N, 2), 1e300)}}, r"x has the value 1e.300, but float32 reaches"),
        (
            {"inputs": {"x": VECTOR}, "targets": {"k": np.arange(N) + 2**30}},
            "no example of the class 0, .*: renumber them",
        ),
        (
            {"inputs": {"x": VECTOR}, "targets": {"k": np.full(N, 1e300)}},
            "targets.k has the value 1e.300, but float32 reaches to 3.4e.38: scale the values",
        ),
        ({"inputs": {"x": np.full((N, 4, 5, 3), 255.0)}}, "from 255 to 255, but floats .* by 255"),
        ({"inputs": {"x": np.zeros((N, 3, 8, 8))}}, "channels first: move them last by np.movea"),
        ({"inputs": {"x": np.zeros((N, 3, 8, 8), np.uint8)}}, "channels first: move them last"),
        ({"inputs": {"x": VECTOR}, "present": {"x": np.ones(N)}}, "present.x has dtype float64"),
        ({"inputs": {"x": VECTOR}, "split": ["train"] * 3}, "one name for each of the 20 rows"),
        ({"inputs": {"x": VECTOR}, "split": ["test"] * N}, "The split 'train' has no rows"),
    ],
)
def test_refuses_arrays_that_do_not_fit(given, words):
    with pytest.raises(DataError, match=words):
        Arrays(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inputs": {}}, "no inputs"),
        ({"inputs": {"x": VECTOR}, "seed": -1}, "Arrays.seed is -1: a seed is from 0 to"),
        ({"inputs": {"x": VECTOR}, "present": {"y": np.ones(N, bool)}}, "'y'.*Available: x"),
        ({"inputs": {"x": VECTOR}, "kinds": {"y": Target("number")}}, "'y'"),
        ({"inputs": {"x": VECTOR}, "valid": 0.6, "test": 0.4}, "leave no examples for training"),
        ({"inputs": {"x": VECTOR}, "split": ["trian"] * N}, "did you mean 'train'"),
    ],
)
def test_refuses_options_that_do_not_fit(given, words):
    with pytest.raises(ConfigError, match=words):
        Arrays(**given)


def test_texts_of_a_declared_class_are_numbered_as_declared():
    kinds = {"size": Target("class", 3, names=("low", "mid", "high"))}
    values = ["high", "low", None, "low"] * (N // 4)
    data = Arrays({"x": VECTOR}, {"size": values}, kinds=kinds, valid=0.0, test=0.0)
    np.testing.assert_array_equal(data.load("train").targets["size"][:4], [2, 0, -1, 0])
    assert data.targets == kinds
    with pytest.raises(ConfigError, match=r"no class of targets\.size 'hihg'.* 'high'"):
        Arrays({"x": VECTOR}, {"size": ["hihg"] * N}, kinds=kinds)
    with pytest.raises(DataError, match=r"has strings, but is declared as .* 'number'"):
        Arrays({"x": VECTOR}, {"size": ["1.5"] * N}, kinds={"size": Target("number")})
    with pytest.raises(DataError, match="1 different strings, but is declared with 3"):
        Arrays({"x": VECTOR}, {"size": ["a"] * N}, kinds={"size": Target("class", 3)})
