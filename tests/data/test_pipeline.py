import contextlib
import dataclasses
import itertools

import chex
import jax
import numpy as np
import pytest

from mmjax.data import (
    AddNoise,
    ArraySource,
    Batch,
    DropModality,
    Transform,
    eval_batches,
    train_batches,
)
from mmjax.errors import ConfigError, DataError


def source(rows=23):
    numbers = np.arange(rows)
    return ArraySource(
        inputs={
            "left": (numbers[:, None] * np.ones(3)).astype(np.float32),
            "right": -numbers[:, None].astype(np.float32),
        },
        targets={"label": (numbers % 4).astype(np.int32)},
    )


@contextlib.contextmanager
def training(data=None, **options):
    options = {"batch_size": 8, "seed": 3} | options
    with contextlib.closing(train_batches(data or source(), **options)) as batches:
        yield batches


def first(count, data=None, **options):
    with training(data, **options) as batches:
        return list(itertools.islice(batches, count))


def ids(batches):
    return np.concatenate([batch.ids for batch in batches])


TRANSFORMS = (AddNoise("left", 0.5), DropModality("right", 0.5))


def test_training_gives_whole_batches_of_numpy_arrays():
    for batch in first(4):
        assert isinstance(batch, Batch)
        assert isinstance(batch.inputs["left"], np.ndarray)
        assert batch.inputs["left"].shape == (8, 3)
        np.testing.assert_array_equal(batch.inputs["left"][:, 0], batch.ids)
        np.testing.assert_array_equal(batch.targets["label"], batch.ids % 4)
        assert (batch.weight == 1).all()


def test_every_epoch_is_another_permutation_also_where_a_batch_straddles_two():
    order = ids(first(23, seed=0)).reshape(8, 23)  # 23 batches of 8 are 8 epochs of 23
    assert all(sorted(epoch) == list(range(23)) for epoch in order)
    assert len({tuple(epoch) for epoch in order}) == 8


def test_a_batch_may_be_the_whole_split_but_not_more():
    assert sorted(first(1, batch_size=23)[0].ids) == list(range(23))
    with pytest.raises(ConfigError, match=r"batch size is 24, but the split of toys has 23 exam"):
        train_batches(source(), batch_size=24, seed=0, name="toys")


def test_order_and_transforms_depend_on_the_seed_alone():
    same = first(5, transforms=TRANSFORMS), first(5, transforms=TRANSFORMS, threads=4, buffer=2)
    chex.assert_trees_all_equal(*same)
    other = first(5, transforms=TRANSFORMS, seed=4)
    assert not np.array_equal(ids(same[0]), ids(other))


def test_transforms_change_every_epoch_and_are_applied_in_order():
    batches = first(6, data=source(8), transforms=TRANSFORMS)
    noises = [batch.inputs["left"][:, 0] - batch.ids for batch in batches]
    assert len({noise.tobytes() for noise in noises}) == 6
    assert not all(batch.present["right"].all() for batch in batches)
    twice = first(1, data=source(8), transforms=(AddNoise("left", 0.5), AddNoise("left", 0.5)))[0]
    once = first(1, data=source(8), transforms=(AddNoise("left", 0.5),))[0]
    clean = first(1, data=source(8))[0]
    second = twice.inputs["left"] - once.inputs["left"]
    assert np.abs(second - (once.inputs["left"] - clean.inputs["left"])).min() > 1e-6


def test_resumes_bitwise_in_the_middle_of_an_epoch():
    with training(transforms=TRANSFORMS) as batches:
        for _ in range(4):
            next(batches)
        state = batches.get_state()
        expected = [next(batches) for _ in range(5)]
    with training(transforms=TRANSFORMS) as batches:
        batches.set_state(state)
        chex.assert_trees_all_equal([next(batches) for _ in range(5)], expected)


@pytest.mark.slow
def test_a_worker_process_gives_and_resumes_the_same_batches():
    expected = first(6, transforms=TRANSFORMS)
    with training(transforms=TRANSFORMS, workers=1) as batches:
        made = [next(batches) for _ in range(3)]
        state = batches.get_state()
    chex.assert_trees_all_equal(made, expected[:3])
    with training(transforms=TRANSFORMS, workers=1) as batches:
        batches.set_state(state)
        chex.assert_trees_all_equal([next(batches) for _ in range(3)], expected[3:])


@pytest.mark.parametrize("make", ["training", "evaluation"])
def test_the_rows_of_two_processes_are_those_of_one(make):
    def batches(**share):
        if make == "training":
            return first(7, **share)
        return list(eval_batches(source(), batch_size=8, **share))

    whole = batches()
    halves = [batches(process_index=index, process_count=2) for index in range(2)]
    assert all(len(half.ids) == 4 for half in halves[0])
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *halves)
    chex.assert_trees_all_equal(joined, whole)


def test_two_processes_do_not_draw_the_same_noise():
    halves = [
        first(1, data=source(8), transforms=TRANSFORMS, process_index=index, process_count=2)[0]
        for index in range(2)
    ]
    noise = [half.inputs["left"][:, 0] - half.ids for half in halves]
    assert np.abs(noise[0] - noise[1]).min() > 1e-6


@pytest.mark.parametrize("batches", [train_batches, eval_batches])
def test_refuses_batches_that_cannot_be(batches):
    options = {"seed": 0} if batches is train_batches else {}
    with pytest.raises(
        ConfigError, match="batch size is 7, which cannot be split equally over 2 processes"
    ):
        next(iter(batches(source(), batch_size=7, process_count=2, **options)))
    with pytest.raises(ConfigError, match="batch size is 0: choose at least 1"):
        next(iter(batches(source(), batch_size=0, **options)))


def test_evaluation_is_every_example_once_and_a_padded_last_batch():
    batches = list(eval_batches(source(), batch_size=8))
    assert [batch.weight.sum() for batch in batches] == [8, 8, 7]
    assert ids(batches).tolist() == [*range(23), 0]
    last = batches[-1]
    assert last.weight.dtype == np.float32
    assert last.weight.tolist() == [1] * 7 + [0]
    assert last.inputs["right"][-1] == 0


def test_evaluation_of_less_than_a_batch():
    (batch,) = eval_batches(source(3), batch_size=8)
    assert batch.ids.tolist() == [0, 1, 2, 0, 0, 0, 0, 0]
    assert batch.weight.sum() == 3


def damaged():
    good = source()
    good.inputs["left"][[2, 5, 7, 11, 13, 17, 19], 1] = np.nan
    return good


MESSAGE = r"'left' of toys has values that are not finite .* 7 of the 23 examples .* record "


@pytest.mark.parametrize("workers", [0, 1])
def test_values_that_are_not_finite_are_named_from_the_loading_thread(workers):
    with (
        training(damaged(), batch_size=23, name="toys", workers=workers) as batches,
        pytest.raises(DataError, match=MESSAGE) as caught,
    ):
        next(batches)
    records = str(caught.value).split("record ")[1].split(":")[0].split(", ")
    assert len(records) == 5
    assert {int(record) for record in records} <= {2, 5, 7, 11, 13, 17, 19}


def test_values_that_are_not_finite_are_named_in_evaluation():
    with pytest.raises(DataError, match=MESSAGE + "2, 5, 7, 11, 13: "):
        list(eval_batches(damaged(), batch_size=23, name="toys"))


@dataclasses.dataclass(frozen=True)
class _Absent(Transform):
    def __call__(self, batch, rng):
        return dataclasses.replace(batch, present={**batch.present, "left": np.zeros(23, bool)})


@dataclasses.dataclass(frozen=True)
class _Infinite(Transform):
    def __call__(self, batch, rng):
        infinite = np.full_like(batch.inputs["left"], np.inf)
        return dataclasses.replace(batch, inputs={**batch.inputs, "left": infinite})


def test_absent_values_need_not_be_finite():
    assert len(first(1, damaged(), batch_size=23, transforms=(_Absent(),))) == 1


def test_transforms_are_checked_too():
    with (
        training(batch_size=23, transforms=(_Infinite(),)) as batches,
        pytest.raises(DataError, match=r"'left' of the data set .* 23 of the 23 .* transforms"),
    ):
        next(batches)


def test_a_mistake_in_a_transform_reaches_the_caller():
    with (
        training(transforms=(AddNoise("lefd", 0.1),)) as batches,
        pytest.raises(ConfigError, match="did you mean 'left'"),
    ):
        next(batches)
