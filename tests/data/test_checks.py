"""What a data set declares is what its examples are, or one sentence says how to make it so."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.data import ArraySource, Batch, Dataset, Modality, Target, eval_batches, labels_of
from mmjax.data.checks import (
    check_declaration,
    check_examples,
    missing_classes,
    with_known_targets,
)
from mmjax.errors import ConfigError, DataError

TARGETS = {
    "label": Target("class", 3),
    "tags": Target("labels", 2),
    "price": Target("number"),
    "box": Target("number", shape=(4,)),
    "answer": Target("tokens", 9, shape=(3,)),
}
VECTOR = {"x": Modality("vector", (2,))}
ROWS = 5


@dataclasses.dataclass(frozen=True)
class Made(Dataset):
    """A data set of one split, of whatever is given."""

    name: ClassVar[str] = "made"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    source: Any = None
    declared: Mapping[str, Any] = dataclasses.field(default_factory=lambda: VECTOR)
    wanted: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def modalities(self):
        return self.declared

    @property
    def targets(self):
        return self.wanted

    def load(self, split, folder=None):
        return self.source


def check(source, modalities=VECTOR, targets=None):
    check_examples(Made(source, modalities, targets or {}), "train", source)


def vectors(rows=ROWS):
    return {"x": np.zeros((rows, 2), np.float32)}


def labelled(values, target):
    """Checks a source with such a target."""
    check(ArraySource(vectors(), {"t": np.asarray(values)}), targets={"t": target})


CLASS, LABELS, NUMBER = Target("class", 3), Target("labels", 2), Target("number")


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ([0, 1, 2, 2, 0], CLASS),
        ([0, 1, -1, -1, 0], CLASS),
        ([0.0, 1.0, np.nan, -1.0, 2.0], CLASS),  # as pandas reads a column with gaps
        (np.array([0, 1, 2, 2, 0], np.uint8), CLASS),
        ([True, False, True, True, False], Target("class", 2)),
        ([[0, 1], [1, 1], [-1, 0], [0, 0], [1, -1]], LABELS),
        ([[0.0, 0.5], [1, 1], [np.nan, 0], [0, 0], [1, -1]], LABELS),
        ([-1, -2, 3, 10**6, 0], NUMBER),
        ([-1.5, np.nan, 3, 1e30, 0], NUMBER),
        (np.zeros((5, 4)), Target("number", shape=(4,))),
        (np.full((5, 3), 8), Target("tokens", 9, shape=(3,))),
    ],
)
def test_targets_that_fit(values, target):
    labelled(values, target)
    array = np.asarray(values)
    unknown = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    if target.kind != "number":
        unknown |= array == -1
    batch = Batch.of({}, np.arange(ROWS), targets={"t": array})
    found = with_known_targets(batch, {"t": target}, "made")
    np.testing.assert_array_equal(found.target_masks["t"], ~unknown)
    assert found.targets["t"].dtype == target.dtype


@pytest.mark.parametrize(
    ("values", "target", "sentence"),
    [
        ([1, 2, 3, 1, 2], CLASS, "is 3 in record 2, but its 3 classes are numbered from 0 to 2"),
        ([0, -2, 1, 1, 0], CLASS, "is -2 in record 1, .* and -1 where the class is unknown"),
        ([0, 1.5, 1, 1, 0], CLASS, "is 1.5 in record 1, but its 3 classes are numbered"),
        ([0, np.inf, 1, 1, 0], CLASS, "is inf in record 1"),
        ([[0], [1], [2], [0], [1]], CLASS, r"of the shape \(1,\), but is declared as \(\)"),
        (
            ["a", "b", "c", "a", "b"],
            CLASS,
            "has dtype <U1: give numbers, such as a number for each",
        ),
        ([0, 1, 1, 0, 1], LABELS, r"of the shape \(\), but is declared as \(2,\)"),
        ([[0, 1], [1, 2], [0, 0], [0, 0], [1, 1]], LABELS, "is 2 in record 1, but a label is from"),
        ([0, np.inf, 1, 1, 0], NUMBER, "is inf in record 1, which is infinite"),
        (np.zeros((5, 3)), NUMBER, r"of the shape \(3,\), but is declared as \(\)"),
        (np.full((5, 3), 9), Target("tokens", 9, shape=(3,)), "but its 9 tokens are numbered from"),
        (np.full((5, 3), -1), Target("tokens", 9, shape=(3,)), "is -1 in record 0"),
    ],
)
def test_targets_that_are_refused(values, target, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        labelled(values, target)
    assert str(caught.value).startswith("The target 't' of the split 'train' of made ")
    assert "\n" not in str(caught.value)


def test_all_targets_of_a_source_that_knows_them_are_looked_at():
    label = np.zeros(1000, np.int32)
    label[999] = 3
    with pytest.raises(DataError, match="is 3 in record 999, but its 3 classes"):
        check(ArraySource(vectors(1000), {"t": label}), targets={"t": CLASS})


@dataclasses.dataclass(frozen=True)
class Source:
    """A source that knows nothing before its examples are made."""

    batch: Batch

    def __len__(self):
        return len(self.batch.ids)

    def take(self, indices):
        return self.batch


def batch_of(inputs=None, **options):
    return Batch.of(vectors() if inputs is None else inputs, np.arange(ROWS), **options)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (batch_of({}), "modality 'x' is declared, but not in the inputs"),
        (batch_of({"x": np.zeros((5, 3), np.float32)}), r"of the shape \(3,\), but .* as \(2,\)"),
        (batch_of({"x": np.zeros((5, 2, 1), np.float32)}), r"of the shape \(2, 1\), but"),
        (
            batch_of({"x": np.zeros((5, 2), np.uint8)}),
            "has dtype uint8, but is declared as float32",
        ),
        (
            batch_of({"x": np.zeros((5, 2), complex)}),
            "has dtype complex128, but is declared as float",
        ),
        (batch_of({"x": {"a": np.zeros((5, 2))}}), "is a dict, but is declared as one array"),
        (batch_of(present={"x": np.ones(5)}), "presence of 'x' .* has dtype float64"),
        (batch_of(present={"x": np.ones(4, bool)}), "one bool for each of the 5 examples"),
        (batch_of(masks={"x": np.ones((5, 2), int)}), "mask of 'x' .* has dtype int64"),
        (batch_of(), "target 'label' is declared, but not in the targets .* -1 or NaN where"),
        (
            batch_of(targets={"label": np.zeros(5, int)}, target_masks={"label": np.ones(5)}),
            "mask of the target 'label' .* has dtype float64 and shape",
        ),
        (
            batch_of(targets={"label": np.zeros(5, int)}, target_masks={"label": np.ones(4, bool)}),
            r"has dtype bool and shape \(4,\): give one bool for each example",
        ),
    ],
)
def test_examples_that_are_refused(batch, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        check(Source(batch), targets={"label": CLASS})
    assert "\n" not in str(caught.value)
    assert "the split 'train' of made" in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "held", "fits"),
    [
        ("float32", "float64", True),
        ("float32", "float16", True),
        ("float32", "int64", True),
        ("int32", "int64", True),
        ("uint8", "uint8", True),
        ("uint8", "float32", False),
        ("float32", "uint8", False),
        ("int32", "float32", False),
        ("int32", "uint8", False),
    ],
)
def test_types_of_values(declared, held, fits):
    source = ArraySource({"x": np.zeros((ROWS, 2), held)}, {})
    modalities = {"x": Modality("vector", (2,), declared)}
    if fits:
        check(source, modalities)
    else:
        with pytest.raises(DataError, match=f"declare Modality.*dtype='{held}'"):
            check(source, modalities)


def test_modalities_of_several_parts():
    parts = {"nodes": Modality("vector", (3, 2)), "edges": Modality("vector", (3, 3))}
    graph = {"g": Modality("graph", parts=parts)}
    arrays = {"nodes": np.zeros((ROWS, 3, 2)), "edges": np.zeros((ROWS, 3, 3))}
    check(ArraySource({"g": arrays}, {}), graph)
    with pytest.raises(DataError, match=r"'g.edges' .* of the shape \(3, 2\)"):
        check(ArraySource({"g": arrays | {"edges": arrays["nodes"]}}, {}), graph)
    with pytest.raises(
        DataError, match=r"'g' .* has no part 'edges': give a dict with nodes, edges"
    ):
        check(ArraySource({"g": {"nodes": arrays["nodes"]}}, {}), graph)


def test_a_split_without_examples():
    with pytest.raises(
        DataError, match="The split 'train' of made has no examples: give it at least one"
    ):
        check(ArraySource(vectors(0), {}))


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        (
            vectors(5),
            {"t": np.zeros(4)},
            r"targets.t has 4 rows, but inputs.x has 5: give arrays with one row",
        ),
        (vectors(5) | {"y": np.zeros(6)}, {}, "inputs.y has 6 rows, but inputs.x has 5"),
        ({"g": {"a": np.zeros(5), "b": np.zeros(3)}}, {}, "inputs.g.b has 3 rows"),
        (
            vectors(2),
            {"t": np.array([[1], [1, 2]], object)},
            "targets.t is an array of Python objects: give numbers in one array",
        ),
        (vectors(2) | {"y": np.zeros(())}, {}, "inputs.y is a single value"),
    ],
)
def test_arrays_that_make_no_source(inputs, targets, sentence):
    with pytest.raises(DataError, match=sentence):
        ArraySource(inputs, targets)


@pytest.mark.parametrize(
    ("modalities", "targets", "sentence"),
    [
        (VECTOR, {"label": 10}, r"declares the target 'label' as 10: use a mmjax.data.Target"),
        ({"x": (2,)}, {}, r"declares the modality 'x' as \(2,\): use a mmjax.data.Modality"),
    ],
)
def test_declarations_that_are_none(modalities, targets, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_declaration(Made(None, modalities, targets))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Target("class"), "has 0 classes: give the number of classes, as in"),
        (
            lambda: Target("labels", 2, names=("a",)),
            "2 classes has 1 names: give one name for each",
        ),
    ],
)
def test_targets_that_are_none(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_what_is_not_known_becomes_a_mask_and_a_zero():
    nan = np.nan
    values = {
        "label": [2, -1, 0.0, nan, 1],
        "tags": [[1, -1], [0, 0], [nan, 1], [1, 1], [0, 1]],
        "price": [-1, nan, 2.5, 0, 1],
        "box": np.where(np.eye(5, 4) > 0, nan, -1),
        "answer": [[5, 8, 0], [1, 0, 0], [0, 0, 0], [2, 2, 2], [1, 0, 0]],
    }
    masks = {"price": np.array([True, True, False, True, True]), "tags": np.arange(5) != 4}
    batch = batch_of(
        targets={name: np.asarray(each) for name, each in values.items()}, target_masks=masks
    )
    found = with_known_targets(batch, TARGETS, "these")
    assert found.targets["label"].tolist() == [2, 0, 0, 0, 1]
    assert found.target_masks["label"].tolist() == [True, False, True, False, True]
    assert found.targets["tags"].tolist() == [[1, 0], [0, 0], [0, 1], [1, 1], [0, 0]]
    assert found.target_masks["tags"].tolist() == [[1, 0], [1, 1], [0, 1], [1, 1], [0, 0]]
    assert found.targets["price"].tolist() == [-1, 0, 0, 0, 1]
    assert found.target_masks["price"].tolist() == [True, False, False, True, True]
    np.testing.assert_array_equal(found.target_masks["box"], np.eye(5, 4) == 0)
    np.testing.assert_array_equal(found.target_masks["answer"], np.asarray(values["answer"]) > 0)
    whole = {name: found.targets[name].dtype for name in TARGETS}
    assert whole == dict.fromkeys(TARGETS, np.dtype("float32")) | dict.fromkeys(
        ("label", "answer"), np.dtype("int32")
    )
    again = with_known_targets(found, TARGETS, "these")  # what was made known so stays so
    for name in TARGETS:
        np.testing.assert_array_equal(again.targets[name], found.targets[name])
        np.testing.assert_array_equal(again.target_masks[name], found.target_masks[name])


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.integers(-1, 2), min_size=1, max_size=9), batch_size=st.integers(1, 4))
def test_batches_keep_every_known_label_and_no_other(labels, batch_size):
    source = ArraySource(vectors(len(labels)), {"label": np.array(labels)})
    kept = []
    for batch in eval_batches(source, batch_size=batch_size, targets={"label": CLASS}):
        known = batch.target_masks["label"] & (batch.weight > 0)
        kept += batch.targets["label"][known].tolist()
    assert kept == [label for label in labels if label >= 0]


def test_classes_without_an_example_are_named():
    label = np.array([0, 0, 2, -1, 2])
    source = ArraySource({"x": np.zeros((ROWS, 2), np.float32)}, {"label": label})
    (sentence,) = missing_classes(Made(source=source, wanted={"label": TARGETS["label"]}), source)
    assert "1 of the 3 classes of 'label' have no example" in sentence
    assert "(1)" in sentence
    every = ArraySource(source.inputs, {"label": np.array([0, 1, 2, -1, 2])})
    assert missing_classes(Made(source=every, wanted={"label": TARGETS["label"]}), every) == []


def test_all_examples_in_memory_are_checked():
    words = np.ones((200, 3), np.int32)
    words[150, 1] = -1
    modalities = {"words": Modality("text", (3,), vocabulary=4)}
    source = ArraySource({"words": words}, {})
    with pytest.raises(DataError, match=r"'words' of .* has the id -1"):
        check_examples(Made(source=source, declared=modalities), "train", source)


@pytest.mark.parametrize(
    "mask", [np.ones((ROWS, 1), bool), np.ones(ROWS, bool), np.ones((ROWS, 9))]
)
def test_masks_of_another_shape_are_refused(mask):
    modalities = {"x": Modality("sequence", (2, 4))}
    source = ArraySource({"x": np.zeros((ROWS, 2, 4), np.float32)}, {}, masks={"x": mask})
    with pytest.raises(
        DataError, match=r"The mask of 'x' .* give an array of bool with the shape \(5, 2\)"
    ):
        check_examples(Made(source=source, declared=modalities), "train", source)


def test_ids_of_bytes_are_refused():
    data = Made(declared={"t": Modality("text", (2,), dtype="uint8", vocabulary=4)})
    with pytest.raises(ConfigError, match="'t' of 'made' declares ids with dtype uint8"):
        check_declaration(data)


def test_classes_hidden_by_a_mask_are_not_counted():
    label = np.array([0, 0, 1, 1, 2])
    source = ArraySource(
        {"x": np.zeros((ROWS, 2), np.float32)}, {"label": label}, target_masks={"label": label < 2}
    )
    np.testing.assert_array_equal(labels_of(source, "label"), [0, 0, 1, 1, -1])
    data = Made(source=source, wanted={"label": TARGETS["label"]})
    assert "(2)" in missing_classes(data, source)[0]
