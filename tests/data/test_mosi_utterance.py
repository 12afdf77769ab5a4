import numpy as np
import pytest

from mmjax.data import MOSIUtterance
from mmjax.data.checks import check_examples, with_known_targets
from mmjax.errors import ConfigError, DataError

SIZE, TRAIN, TRAIN_VIDEOS, VIDEOS = 2_199, 1_447, 62, 93
UNKNOWN = (5, 100, 700, 1_800)
DATA = MOSIUtterance(standardise=False)


def arrays(**changes):
    """Made so that a row is known by its values; the utterances of the videos are interleaved."""
    rows = np.arange(SIZE, dtype=np.float32)
    of_test = (rows >= TRAIN).astype(np.int8)
    number = np.where(
        of_test, TRAIN_VIDEOS + rows % (VIDEOS - TRAIN_VIDEOS), rows % TRAIN_VIDEOS
    ).astype(int)
    sentiment = (rows / SIZE * 6 - 3).astype(np.float32)
    positive = (sentiment >= 0).astype(np.int8)
    sentiment[list(UNKNOWN)] = np.nan
    made = {
        name: np.tile(rows[:, None], width)
        for name, width in {"text": 100, "audio": 73, "visual": 100}.items()
    }
    made |= {
        "sentiment": sentiment,
        "label_binary": positive,
        "poria_split": of_test,
        "video": np.array([f"v{each}" for each in number]),
    }
    return made | changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "mosi_utterance").mkdir()
    np.savez(folder / "mosi_utterance" / "mosi_utterance.npz", **arrays())
    return folder


def rows_of(source):
    """The utterances of a source, whose modalities and labels are checked to be of the same."""
    rows = source.inputs["text"][:, 0].astype(int)
    for values in source.inputs.values():
        np.testing.assert_array_equal(values, np.tile(rows[:, None], values.shape[1]))
    np.testing.assert_array_equal(source.targets["positive"], arrays()["label_binary"][rows])
    return rows


def test_the_splits_share_no_video_and_lose_no_utterance(folder):
    for data in (DATA, MOSIUtterance(standardise=False, valid_videos=61, seed=3)):
        rows = {split: rows_of(data.load(split, folder)) for split in data.splits}
        videos = {split: set(arrays()["video"][each]) for split, each in rows.items()}
        assert len(videos["valid"]) == data.valid_videos
        assert len(set.union(*videos.values())) == sum(map(len, videos.values())) == VIDEOS
        assert sorted(np.concatenate([*rows.values()])) == list(range(SIZE))
        assert (rows["test"] == np.arange(TRAIN, SIZE)).all()
    other = rows_of(MOSIUtterance(standardise=False, seed=1).load("valid", folder))
    assert set(other) != set(rows_of(DATA.load("valid", folder)))


def test_an_unknown_sentiment_is_a_mask_and_its_class_is_known(folder):
    for split in DATA.splits:
        source = DATA.load(split, folder)
        check_examples(DATA, split, source)
        batch = with_known_targets(source.take(np.arange(len(source))), DATA.targets, "mosi")
        unknown = np.isin(rows_of(source), UNKNOWN)
        np.testing.assert_array_equal(batch.target_masks["sentiment"], ~unknown)
        assert batch.target_masks["positive"].all()
        assert (batch.targets["sentiment"][unknown] == 0).all()


def test_hidden_sentiments_are_a_share_of_train_that_grows(folder):
    whole = DATA.load("train", folder).targets["sentiment"]
    known, before = ~np.isnan(whole), set()
    for share in (0.0, 0.5, 0.9):
        data = MOSIUtterance(standardise=False, hidden=share)
        source = data.load("train", folder)
        sentiment = source.targets["sentiment"]
        gone = set(np.flatnonzero(known & np.isnan(sentiment)))
        assert len(gone) == round(share * known.sum())
        assert before <= gone
        before = gone
        left = ~np.isnan(sentiment)
        np.testing.assert_array_equal(sentiment[left], whole[left])
        rows_of(source)  # and `positive` stays
        for split in ("valid", "test"):
            np.testing.assert_array_equal(
                data.load(split, folder).targets["sentiment"],
                DATA.load(split, folder).targets["sentiment"],
            )
    other = MOSIUtterance(standardise=False, hidden=0.9, seed=1).load("train", folder)
    assert set(np.flatnonzero(np.isnan(other.targets["sentiment"]))) != before


def test_values_are_standardised_by_train_alone(folder):
    train, test = (
        MOSIUtterance().load(split, folder).inputs["audio"] for split in DATA.splits[::2]
    )
    # 1e-5: float32 values of size 1.
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)
    assert (test > 1.7).all()  # the rows after those of train


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"valid_videos": 0}, "valid_videos is 0, .* choose 1 to 61"),
        ({"valid_videos": 62}, "valid_videos is 62, .* choose 1 to 61"),
        ({"hidden": 1.0}, "hidden is 1.0; .* less than 1"),
        ({"hidden": -0.1}, "hidden is -0.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refuses_impossible_options(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MOSIUtterance(**options)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"poria_split": np.zeros(SIZE, np.int8)}, "do not have 1,447 utterances of 62 videos"),
        ({"video": np.array(["v0"] * SIZE)}, "do not have 1,447 utterances of 62 videos"),
        ({"video": np.arange(SIZE)}, "video of .* is not an array of strings"),
        ({"label_binary": np.full(SIZE, 2)}, "label_binary of .* other than 0 and 1"),
        ({"sentiment": np.full(SIZE, np.inf)}, "sentiment of .* not finite"),
        (
            {"audio": np.zeros((SIZE, 74))},
            r"audio of .* \(2199, 74\), but must have \(2199, 73\)",
        ),
    ],
)
def test_refuses_a_file_that_is_not_the_data_set(tmp_path, changes, sentence):
    (tmp_path / "mosi_utterance").mkdir()
    np.savez(tmp_path / "mosi_utterance" / "mosi_utterance.npz", **arrays(**changes))
    with pytest.raises(DataError, match=sentence):
        MOSIUtterance().load("train", tmp_path)


def test_the_real_utterances(data_folder):
    data = MOSIUtterance()
    sizes, unknown = [], 0
    for split in data.splits:
        source = data.load(split, data_folder)
        check_examples(data, split, source)
        sentiment, positive = source.targets["sentiment"], source.targets["positive"]
        known = ~np.isnan(sentiment)
        assert ((sentiment >= 0) == positive)[known].all()
        assert np.abs(sentiment[known]).max() <= 3
        unknown += (~known).sum()
        sizes.append(len(source))
    assert (sum(sizes[:2]), sizes[2], unknown) == (1_447, 752, 4)
