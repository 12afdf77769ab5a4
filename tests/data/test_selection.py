"""Selections: sizes in closed form, what is kept and repeated, folds that partition, labels."""

import dataclasses
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from mmjax.data import (
    ArraySource,
    Fold,
    LongTail,
    Resample,
    Selected,
    Shapes,
    SpokenDigits,
    labels_of,
    select,
    train_batches,
)
from mmjax.errors import ConfigError
from mmjax.structs import Batch


def shuffled(*counts):
    """Record numbers that are not 0, 1, 2 ... and labels with so many examples of each class."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    labels = np.random.default_rng(0).permutation(labels)
    return np.arange(len(labels)) * 3 + 1, labels


def counts_after(selection, records, labels, seed=0):
    chosen = selection(records, labels, seed)
    return np.bincount(labels[(chosen - 1) // 3], minlength=labels.max() + 1)


@pytest.mark.parametrize(
    ("counts", "ratio", "expected"),
    [
        ((100,) * 3, 100.0, [100, 10, 1]),
        ((250, 130, 100, 100, 190), 16.0, [100, 50, 25, 12, 6]),  # from the smallest; 12.5, 6.25
        ((10, 10, 10), 1e6, [10, 1, 1]),  # never none
        ((20, 30), 1.0, [20, 20]),
        ((7,), 5.0, [7]),
        ((40, 0, 40), 4.0, [40, 0, 10]),  # of two classes
    ],
)
def test_long_tail_has_the_profile(counts, ratio, expected):
    np.testing.assert_array_equal(counts_after(LongTail(ratio), *shuffled(*counts)), expected)


def test_long_tail_is_the_same_for_all_runs_and_nested_in_milder_ones():
    records, labels = shuffled(90, 80, 70)
    kept = LongTail(10.0)(records, labels, 0)
    np.testing.assert_array_equal(kept, LongTail(10.0)(records, labels, 5))
    assert (np.diff(kept) > 0).all()  # none twice, in the order given
    assert set(kept) < set(LongTail(3.0)(records, labels, 0)) < set(records)
    assert set(kept) != set(LongTail(10.0, seed=1)(records, labels, 0))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_resample_brings_frequencies_to_their_power(power):
    records, labels = shuffled(400, 100, 37, 1)
    counts = np.bincount(labels)
    expected = np.rint(400 * (counts / 400) ** (1 - power))
    resampled = Resample(power)(records, labels, 0)
    np.testing.assert_array_equal(counts_after(Resample(power), records, labels), expected)
    times = Counter(resampled.tolist())
    for label, size in enumerate(expected):
        whole, remainder = divmod(int(size), counts[label])
        found = Counter(times[record] for record in records[labels == label].tolist())
        assert found == +Counter({whole: counts[label] - remainder, whole + 1: remainder})


def test_resample_draws_the_remainder_by_the_seed_of_the_run():
    records, labels = shuffled(30, 20)
    one, same, other = (Resample()(records, labels, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert Counter(one.tolist()) != Counter(other.tolist())
    np.testing.assert_array_equal(Resample(0.0)(records, labels, 0), records)


@pytest.mark.parametrize(("size", "count"), [(10, 2), (23, 5), (24, 24), (3, 7), (0, 2)])
def test_folds_partition_evenly(size, count):
    folds = [Fold(index, count, seed=3) for index in range(count)]
    parts = [fold.held_out(size) for fold in folds]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for fold, part in zip(folds, parts, strict=True):
        kept = fold(np.arange(size), np.zeros(size, int), 0)
        np.testing.assert_array_equal(kept, np.setdiff1d(np.arange(size), part))


def test_a_fold_is_of_the_records_and_not_of_what_is_selected():
    fold = Fold(1, 4)
    held_out = fold.held_out(1000)
    records = np.random.default_rng(0).integers(0, 700, 500)  # some repeated, not in order
    kept = fold(records, np.zeros(500, int), 9)
    assert Counter(kept.tolist()) == Counter(r for r in records.tolist() if r not in held_out)
    np.testing.assert_array_equal(held_out[held_out < 700], fold.held_out(700))
    # Dealt out at random: a quarter of those of another seed are the same; 5 standard deviations.
    common = np.isin(held_out, Fold(1, 4, seed=1).held_out(1000)).sum()
    assert abs(common - 62.5) < 5 * (1000 / 16 * 15 / 16) ** 0.5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LongTail(0.5), r"LongTail\.ratio is 0\.5: it must be 1 or more"),
        (lambda: LongTail(float("nan")), r"LongTail\.ratio is nan"),
        (lambda: LongTail(2.0, seed=-1), r"LongTail\.seed is -1"),
        (lambda: Resample(1.5), r"Resample\.power is 1\.5: choose it from 0 to 1"),
        (lambda: Fold(0, 1), r"Fold\.count is 1: it must be 2 or more"),
        (lambda: Fold(3, 3), r"Fold\.index is 3: the 3 folds are numbered from 0 to 2"),
        (lambda: Fold(-1, 3), r"Fold\.index is -1"),
        (lambda: Fold(0, 3, seed=-2), r"Fold\.seed is -2"),
    ],
)
def test_impossible_settings_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def source(**targets):
    rows = len(next(iter(targets.values())))
    return ArraySource({"x": np.arange(rows, dtype=np.float32)[:, None]}, targets)


@dataclasses.dataclass(frozen=True)
class Made:
    """A source that knows its targets only with its examples."""

    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        return Batch.of({"x": indices[:, None]}, indices, targets={"label": self.labels[indices]})


def test_selections_follow_one_another():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(2), 60))
    selections = (LongTail(6.0), Fold(0, 3), Resample())
    selected = select(source(label=labels), selections, seed=1)
    long_tail = LongTail(6.0)(np.arange(120), labels, 1)
    in_fold = np.setdiff1d(long_tail, Fold(0, 3).held_out(120))
    np.testing.assert_array_equal(selected.records, Resample()(in_fold, labels[in_fold], 1))
    first, second = np.bincount(labels_of(selected, "label"))
    assert first == second > 20


def test_a_selected_source_keeps_record_numbers():
    selected = Selected(source(label=np.arange(9)), np.array([7, 2, 2, 8]))
    batch = selected.take(np.array([3, 0, 2]))
    np.testing.assert_array_equal(batch.ids, [8, 7, 2])
    np.testing.assert_array_equal(batch.inputs["x"][:, 0], [8, 7, 2])
    assert len(selected) == 4
    with closing(train_batches(selected, batch_size=4, seed=0, threads=1)) as batches:
        for _ in range(2):  # an epoch is the list, with what it repeats
            assert sorted(next(batches).ids.tolist()) == [2, 2, 7, 8]


def test_labels_of_every_kind_of_source():
    labels = np.random.default_rng(0).integers(0, 4, 2500)
    np.testing.assert_array_equal(labels_of(source(label=labels), "label"), labels)
    np.testing.assert_array_equal(labels_of(Made(labels), "label"), labels)
    records = np.array([4, 4, 0])
    np.testing.assert_array_equal(
        labels_of(Selected(Made(labels), records), "label"), labels[records]
    )
    shapes = Shapes(noise=0.5, valid_size=60).load("valid")
    taken = shapes.take(np.arange(60)).targets["label"]
    np.testing.assert_array_equal(labels_of(shapes, "label"), taken)


def test_labels_of_spoken_digits(data_folder):
    pairs = SpokenDigits().load("test", data_folder)
    taken = pairs.take(np.arange(50)).targets["label"]
    np.testing.assert_array_equal(labels_of(pairs, "label")[:50], taken)
    assert len(labels_of(pairs, "label")) == len(pairs)


@pytest.mark.parametrize("make", [Made, lambda labels: source(label=labels)])
def test_targets_that_are_no_class_are_named(make):
    with pytest.raises(ConfigError, match="no target 'lable': did you mean 'label'"):
        labels_of(make(np.zeros(4, int)), "lable")
    for strange in (np.zeros(4), np.zeros((4, 2), int)):
        with pytest.raises(ConfigError, match="one integer per example: choose another target"):
            labels_of(make(strange), "label")
