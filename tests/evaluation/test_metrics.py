"""The confusion state against scikit-learn, merging, and classes that nobody has or predicts."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from mmjax.evaluation.metrics import Confusion


def labels_and_predictions(seed: int, examples: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of an uneven distribution, and predictions that are right half of the time."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, examples, p=random.dirichlet(np.ones(classes)))
    guesses = random.integers(0, classes, examples)
    return labels, np.where(random.random(examples) < 0.5, labels, guesses)


@pytest.mark.parametrize(
    ("seed", "examples", "classes"), [(0, 500, 7), (1, 12, 10), (2, 1, 3), (3, 200, 2)]
)
def test_agrees_with_scikit_learn(seed, examples, classes):
    labels, predictions = labels_and_predictions(seed, examples, classes)
    state = Confusion.of(labels, predictions, classes)
    options = {"labels": range(classes), "zero_division": 0}

    expected = confusion_matrix(labels, predictions, labels=range(classes))
    np.testing.assert_array_equal(state.counts, expected)
    assert state.counts.dtype == np.int64
    assert state.examples == examples
    assert state.accuracy == pytest.approx(accuracy_score(labels, predictions), abs=1e-12)

    precision, recall, f1, support = precision_recall_fscore_support(labels, predictions, **options)
    np.testing.assert_allclose(state.precision, precision, atol=1e-12)
    np.testing.assert_allclose(state.recall, recall, atol=1e-12)
    np.testing.assert_allclose(state.f1, f1, atol=1e-12)
    np.testing.assert_array_equal(state.support, support)
    for average, ours in (("macro", state.macro), ("weighted", state.weighted)):
        theirs = precision_recall_fscore_support(labels, predictions, average=average, **options)
        np.testing.assert_allclose((ours.precision, ours.recall, ours.f1), theirs[:3], atol=1e-12)


def test_uneven_batches_merge_to_one_pass():
    labels, predictions = labels_and_predictions(4, 100, 5)
    merged = Confusion.of(labels[:0], predictions[:0], 5)
    for rows in (slice(0, 3), slice(3, 64), slice(64, 100)):
        merged = merged.merge(Confusion.of(labels[rows], predictions[rows], 5))
    np.testing.assert_array_equal(merged.counts, Confusion.of(labels, predictions, 5).counts)


def test_absent_classes_give_zero_and_never_nan():
    state = Confusion.of(np.array([0, 0, 1]), np.array([0, 2, 2]), 4)
    np.testing.assert_allclose(state.precision, [1, 0, 0, 0])
    np.testing.assert_allclose(state.recall, [0.5, 0, 0, 0])
    np.testing.assert_allclose(state.f1, [2 / 3, 0, 0, 0])
    nothing = Confusion.of(np.array([], int), np.array([], int), 3)
    assert (nothing.accuracy, nothing.macro.f1, nothing.weighted.f1) == (0, 0, 0)


def test_per_class_rows():
    rows = Confusion.of(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).per_class()
    assert rows[1] == {
        "class": 1, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "examples": 2,
    }  # fmt: skip


def test_small_integers_do_not_overflow():
    # 199 * 200 + 199 is beyond what the caller's uint8 can hold.
    state = Confusion.of(np.array([199], np.uint8), np.array([199], np.uint8), 200)
    assert state.counts[199, 199] == 1


@pytest.mark.parametrize(
    ("labels", "predictions", "sentence"),
    [
        ([0, 3], [0, 1], "labels hold 3, but 3 classes are numbered from 0 to 2"),
        ([0, 1], [0, -1], "predictions hold -1"),
        ([0, 1], [0.0, 1.0], "predictions must be whole numbers"),
        ([[0, 1]], [0, 1], "labels must be whole numbers in one dimension"),
        ([0, 1], [0], "2 labels but 1 predictions"),
    ],
)
def test_wrong_input_gives_a_sentence(labels, predictions, sentence):
    with pytest.raises(ValueError, match=sentence):
        Confusion.of(np.array(labels), np.array(predictions), 3)


def test_different_classes_do_not_merge():
    one, two = (Confusion.of(np.array([0]), np.array([0]), classes) for classes in (2, 3))
    with pytest.raises(ValueError, match="2 and 3 classes"):
        one.merge(two)
