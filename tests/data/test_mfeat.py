import numpy as np
import pytest

from mmjax.data import Mfeat
from mmjax.errors import ConfigError, DataError

WIDTHS = {"pix": 240, "fou": 76, "fac": 216, "zer": 47, "kar": 64, "mor": 6}
SIZES = {"train": 1_200, "valid": 300, "test": 500}


def arrays(**changes):
    """Row i has i in its first column of every view, a constant in its last, else noise."""
    draws = np.random.default_rng(0)
    made = {"y": np.repeat(np.arange(10), 200).astype(np.uint8)}
    for scale, (view, width) in enumerate(WIDTHS.items(), 1):
        made[view] = 10.0**scale * (3 + draws.normal(size=(2_000, width)))
        made[view][:, 0] = np.arange(2_000)
        made[view][:, -1] = 7
    return made | changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "mfeat").mkdir()
    np.savez(folder / "mfeat" / "mfeat.npz", **arrays())
    return folder


def load(config, folder):
    return {split: config.load(split, folder) for split in config.splits}


def rows_of(source):
    rows = [values[:, 0].tolist() for values in source.inputs.values()]
    assert all(each == rows[0] for each in rows)  # all views are of the same digits
    return [int(row) for row in rows[0]]


@pytest.fixture(scope="module")
def raw(folder):
    return load(Mfeat(standardise=False), folder)


def test_splits_are_disjoint_and_have_every_class_equally_often(raw):
    assert {split: len(source) for split, source in raw.items()} == SIZES
    rows = [row for source in raw.values() for row in rows_of(source)]
    assert sorted(rows) == list(range(2_000))
    for split, source in raw.items():
        assert np.bincount(source.targets["label"]).tolist() == [SIZES[split] // 10] * 10


def test_views_and_labels_are_those_of_the_file(raw):
    made = arrays()
    for source in raw.values():
        rows = rows_of(source)
        np.testing.assert_array_equal(source.targets["label"], made["y"][rows])
        for view, values in source.inputs.items():
            np.testing.assert_array_equal(values, made[view][rows].astype(np.float32))


def test_every_split_is_in_random_order(raw):
    for source in raw.values():
        labels = source.targets["label"]
        same = (labels[1:] == labels[:-1]).mean()  # a tenth by chance, nearly all if sorted
        assert abs(same - 0.1) < 4 * np.sqrt(0.09 / len(labels))


def test_splits_are_a_function_of_the_seed(raw, folder):
    again = Mfeat(standardise=False, views=("mor",))
    other = Mfeat(standardise=False, seed=1)
    assert rows_of(again.load("test", folder)) == rows_of(raw["test"])
    common = set(rows_of(other.load("test", folder))) & set(rows_of(raw["test"]))
    assert 75 < len(common) < 175  # by chance 500 * 1/4


def test_standardised_by_the_training_part_alone(raw, folder):
    made = load(Mfeat(), folder)
    for view in WIDTHS:
        train = raw["train"].inputs[view].astype(np.float64)
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        deviation[-1] = 1  # of the constant, which becomes 0
        for split in SIZES:
            expected = (raw[split].inputs[view] - mean) / deviation
            # float32 of values up to 3 million, in units of a deviation
            np.testing.assert_allclose(made[split].inputs[view], expected, atol=1e-5)
        np.testing.assert_allclose(made["train"].inputs[view][:, 1:-1].std(axis=0), 1, atol=1e-4)
        assert not made["test"].inputs[view][:, -1].any()
        assert made["test"].inputs[view].dtype == np.float32


def test_has_the_chosen_views_in_their_order(folder):
    config = Mfeat(views=("zer", "pix"))
    assert [(name, look.shape) for name, look in config.modalities.items()] == [
        ("zer", (47,)),
        ("pix", (240,)),
    ]
    assert {name: look.shape for name, look in Mfeat().modalities.items()} == {
        view: (width,) for view, width in WIDTHS.items()
    }
    chosen, everything = config.load("valid", folder), Mfeat().load("valid", folder)
    assert list(chosen.inputs) == ["zer", "pix"]
    for view in chosen.inputs:
        np.testing.assert_array_equal(chosen.inputs[view], everything.inputs[view])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"views": ("pix", "zre")}, "no view of mfeat 'zre': did you mean 'zer'"),
        ({"views": ("pix", "mor", "pix")}, "views .pix, mor, pix. has a view twice"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refuses_impossible_values(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Mfeat(**options)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y": np.zeros(2_000)}, "y of .* does not have each digit from 0 to 9 200 times"),
        ({"y": np.repeat(np.arange(10), 200) + 0.5}, "y of .* does not have each digit"),
        ({"mor": np.zeros((2_000, 7))}, r"mor of .* \(2000, 7\), but must have \(2000, 6\)"),
        ({"fou": np.full((2_000, 76), np.nan)}, "fou of .* not finite"),
    ],
)
def test_refuses_a_file_that_is_not_the_data_set(tmp_path, changes, sentence):
    (tmp_path / "mfeat").mkdir()
    np.savez(tmp_path / "mfeat" / "mfeat.npz", **arrays(**changes))
    with pytest.raises(DataError, match=sentence):
        Mfeat().load("train", tmp_path)


def test_says_where_to_get_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"does not have mfeat/mfeat.npz.*archive\.ics\.uci"):
        Mfeat().load("train", tmp_path)


def test_the_real_views_show_digits(data_folder):
    """The nearest class mean finds most digits; views that cannot tell 6 from 9 find fewer."""
    sources = load(Mfeat(), data_folder)
    labels = {split: source.targets["label"] for split, source in sources.items()}
    found = {}
    for view in WIDTHS:
        train, test = (sources[split].inputs[view] for split in ("train", "test"))
        means = np.stack([train[labels["train"] == digit].mean(axis=0) for digit in range(10)])
        nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        found[view] = (nearest == labels["test"]).mean()
    assert min(found[view] for view in ("pix", "fac", "kar")) > 0.85
    assert all(0.55 < found[view] < 0.85 for view in ("fou", "zer", "mor"))
