import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmjax.data import DigitsHalves, digits_halves


def whole(split):
    source = DigitsHalves().load(split, None)
    return source.take(np.arange(len(source)))


def rejoin(batch):
    left, right = (batch.inputs[side].reshape(-1, 8, 4) for side in ("left", "right"))
    return np.concatenate([left, right], axis=2)


@pytest.mark.parametrize("file", [digits_halves._FILE, "elsewhere/digits.csv.gz"])
def test_the_splits_together_are_the_digits_each_once(monkeypatch, file):
    monkeypatch.setattr(digits_halves, "_FILE", file)
    digits_halves._digits.cache_clear()
    batches = [whole(split) for split in DigitsHalves.splits]
    assert [len(batch.ids) for batch in batches] == [1197, 200, 400]
    made = np.concatenate([rejoin(batch).reshape(-1, 64) * 16 for batch in batches])
    labels = np.concatenate([batch.targets["label"] for batch in batches])
    digits = load_digits()
    given = np.column_stack([digits.data, digits.target])
    made = np.column_stack([made, labels])
    np.testing.assert_array_equal(given[np.lexsort(given.T)], made[np.lexsort(made.T)])


def test_the_splits_are_the_same_every_time_and_hold_every_digit():
    first, again = whole("test"), whole("test")
    np.testing.assert_array_equal(first.inputs["left"], again.inputs["left"])
    assert np.bincount(first.targets["label"], minlength=10).min() > 20


def test_examples_are_what_the_modalities_say():
    batch = whole("valid")
    for name, modality in DigitsHalves().modalities.items():
        assert batch.inputs[name].shape[1:] == modality.shape
        assert batch.inputs[name].dtype == np.float32
        assert batch.inputs[name].min() == 0
        assert batch.inputs[name].max() == 1
