import dataclasses

import numpy as np
import pytest

from mmjax.data import Wikipedia
from mmjax.errors import ConfigError, DataError

SIZE, TRAIN = 2_866, 2_173


def arrays(**changes):
    """Made so that a row is known by its values: document i has i in all of them."""
    rows = np.arange(SIZE, dtype=np.float64)[:, None]
    split = np.zeros((SIZE, 1), np.uint8)
    split[np.random.default_rng(0).permutation(SIZE)[TRAIN:]] = 1  # test between train
    made = {
        "image_sift_bow": np.tile(rows, 128),
        "text_lda": np.tile(-rows, 10),
        "y": (1 + np.arange(SIZE) % 10).astype(np.uint8),
        "split": split,
    }
    return made | changes


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wikipedia").mkdir()
    np.savez(tmp_path / "wikipedia" / "wikipedia.npz", **arrays())
    return tmp_path


def rows_of(source):
    """The documents of a source, whose views and targets are checked to be of the same."""
    rows = source.inputs["image"][:, 0]
    np.testing.assert_array_equal(source.inputs["image"], np.tile(rows[:, None], 128))
    np.testing.assert_array_equal(source.inputs["text"], np.tile(-rows[:, None], 10))
    np.testing.assert_array_equal(source.targets["label"], rows % 10)
    return rows.astype(int).tolist()


def test_the_splits_are_those_of_the_authors(folder):
    config = Wikipedia()
    assert config.splits == ("train", "test")
    of_test = arrays()["split"][:, 0]
    for number, split in enumerate(config.splits):
        assert rows_of(config.load(split, folder)) == np.flatnonzero(of_test == number).tolist()


def test_valid_is_taken_from_train_and_grows(folder):
    before, everything = set(), set(rows_of(Wikipedia().load("train", folder)))
    for size in (1, 200, 2_172):
        config = Wikipedia(valid_size=size)
        assert config.splits == ("train", "valid", "test")
        train, valid = (rows_of(config.load(split, folder)) for split in ("train", "valid"))
        assert len(valid) == size
        assert sorted(train + valid) == sorted(everything)
        assert before < set(valid)
        before = set(valid)
        assert rows_of(config.load("test", folder)) == rows_of(Wikipedia().load("test", folder))


def test_valid_is_drawn_without_regard_to_place(folder):
    train = rows_of(Wikipedia().load("train", folder))
    valid = rows_of(Wikipedia(valid_size=400).load("valid", folder))
    places = np.searchsorted(train, valid) / TRAIN
    assert abs(places.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 400)


def test_changed_copies_have_their_own_splits():
    held_out = dataclasses.replace(Wikipedia(), valid_size=5)
    assert held_out.splits == Wikipedia.splits == ("train", "valid", "test")
    assert dataclasses.replace(held_out, valid_size=0).splits == ("train", "test")


def test_a_split_that_is_not_there_says_how_to_make_it(folder):
    with pytest.raises(ConfigError, match=r"split 'valid' only if its valid_size"):
        Wikipedia().load("valid", folder)
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        Wikipedia().load("tset", folder)


@pytest.mark.parametrize("size", [-1, 2_173])
def test_refuses_impossible_sizes(size):
    with pytest.raises(ConfigError, match=f"valid_size is {size}, .* choose 0 to 2,172"):
        Wikipedia(valid_size=size)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"split": np.zeros((SIZE, 1), np.uint8)}, "split of .* does not have 2,173 times 0"),
        ({"split": 2 * arrays()["split"]}, "split of .* does not have 2,173 times 0"),
        ({"y": np.arange(SIZE) % 10}, "y of .* categories outside 1 to 10"),
        ({"y": 1.5 + np.arange(SIZE) % 10}, "y of .* categories outside 1 to 10"),
        (
            {"text_lda": np.zeros((SIZE, 9))},
            r"text_lda of .* \(2866, 9\), but must have \(2866, 10\)",
        ),
        ({"y": np.array([None] * SIZE)}, "array y .* pickled objects are never read"),
    ],
)
def test_refuses_a_file_that_is_not_the_data_set(folder, changes, sentence):
    np.savez(folder / "wikipedia" / "wikipedia.npz", **arrays(**changes))
    with pytest.raises(DataError, match=sentence):
        Wikipedia().load("train", folder)


def test_says_where_to_get_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"does not have wikipedia/wikipedia.npz.*raw_features"):
        Wikipedia().load("train", tmp_path)


def test_the_real_features_are_shares(data_folder):
    sources = [Wikipedia().load(split, data_folder) for split in ("train", "test")]
    assert [len(source) for source in sources] == [2_173, 693]
    for source in sources:
        assert set(source.targets["label"]) == set(range(10))
        for name, modality in Wikipedia().modalities.items():
            values = source.inputs[name]
            assert values.shape == (len(source), *modality.shape)
            assert values.min() >= 0
            np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


def test_the_real_categories_are_those_of_the_lists(data_folder):
    lists = data_folder / "wikipedia"
    if not (lists / "wikipedia_categories.list").is_file():
        pytest.skip("the lists of the original are not beside wikipedia.npz")
    assert (lists / "wikipedia_categories.list").read_text().split() == list(Wikipedia.categories)
    for split in ("train", "test"):
        lines = (lists / f"wikipedia_{split}set_txt_img_cat.list").read_text().splitlines()
        labels = Wikipedia().load(split, data_folder).targets["label"]
        assert [int(line.split()[2]) - 1 for line in lines] == labels.tolist()
