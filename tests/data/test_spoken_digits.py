import dataclasses

import numpy as np
import pytest

from mmjax.data import SpokenDigits, mnist
from mmjax.errors import ConfigError

NOISY = SpokenDigits(image_noise=0.3, audio_noise=2.0)


@pytest.fixture(scope="module")
def clean(data_folder):
    return {split: SpokenDigits().load(split, data_folder) for split in SpokenDigits.splits}


def image_keys(source):
    return {source.images[row].tobytes() for row in source.image_rows}


def clip_names(source):
    return {source.clips.names[row] for row in source.clip_rows}


def test_sizes(clean):
    assert [len(clean[split]) for split in SpokenDigits.splits] == [24_000, 3_000, 3_000]


def test_no_image_and_no_clip_is_in_two_splits(clean):
    for of in (image_keys, clip_names):
        train, valid, test = (of(clean[split]) for split in SpokenDigits.splits)
        assert not train & valid
        assert not train & test
        assert not valid & test
    assert {name.split("_")[2] for name in clip_names(clean["test"])} == {
        f"{take}.wav" for take in range(5)
    }


def test_every_clip_is_used_and_every_image_once(clean):
    for split, per_clip in (("train", 10), ("valid", 10), ("test", 10)):
        source = clean[split]
        assert np.unique(source.clip_rows, return_counts=True)[1].tolist() == [per_clip] * len(
            source.clips.names
        )
        assert len(np.unique(source.image_rows)) == len(source)


def test_image_and_clip_show_the_label(clean, data_folder):
    for split, source in clean.items():
        part = "t10k" if split == "test" else "train"
        labels = mnist.load_mnist(part, data_folder, SpokenDigits.about)[1]
        label = source.take(np.arange(len(source))[:500]).targets["label"]
        np.testing.assert_array_equal(labels[source.image_rows[:500]], label)
        spoken = [int(source.clips.names[row][0]) for row in source.clip_rows[:500]]
        np.testing.assert_array_equal(spoken, label)


def test_most_pairs_fit_and_valid_images_do_not_depend_on_the_seed(clean, data_folder):
    most = SpokenDigits(pair_seed=5, pairs_per_clip=21)
    train, valid = most.load("train", data_folder), most.load("valid", data_folder)
    assert len(train) == 2_400 * 21 == len(np.unique(train.image_rows))
    assert set(valid.image_rows) == set(clean["valid"].image_rows)
    assert not set(train.image_rows) & set(valid.image_rows)


def test_pairs_depend_on_the_seed_alone(clean, data_folder):
    again = SpokenDigits().load("valid", data_folder)
    other = SpokenDigits(pair_seed=1).load("valid", data_folder)
    pairs = {"clean": clean["valid"], "again": again, "other": other}
    pairs = {
        name: set(zip(source.image_rows, source.clip_rows, strict=True))
        for name, source in pairs.items()
    }
    assert pairs["clean"] == pairs["again"]
    assert len(pairs["clean"] & pairs["other"]) < 200  # by chance 3,000 * 1/30


def test_examples_are_what_the_modalities_say(clean):
    batch = clean["test"].take(np.arange(64))
    for name, modality in SpokenDigits().modalities.items():
        assert batch.inputs[name].shape == (64, *modality.shape)
        assert batch.inputs[name].dtype == np.float32
    image, audio, mask = batch.inputs["image"], batch.inputs["audio"], batch.masks["audio"]
    assert (image.min(), image.max()) == (0, 1)
    assert np.abs(audio).max() <= 1
    assert not audio[~mask].any()
    # padding is behind the end: the mask falls once and never rises
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()


def test_a_clip_longer_than_a_second_is_cut(clean):
    lengths = clean["train"].clips.lengths
    assert (lengths == 8_000).sum() >= 10
    row = int(np.argmax(lengths[clean["train"].clip_rows]))
    assert clean["train"].take(np.array([row])).masks["audio"].all()


def test_noise_is_a_function_of_the_record(data_folder):
    source = NOISY.load("test", data_folder)
    together = source.take(np.array([3, 1, 4, 1]))
    alone = NOISY.load("test", data_folder).take(np.array([4]))
    for name in ("image", "audio"):
        rows = together.inputs[name]
        np.testing.assert_array_equal(rows[2], alone.inputs[name][0])
        np.testing.assert_array_equal(rows[1], rows[3])
        assert not np.array_equal(rows[0], rows[1])


def test_noise_differs_between_splits_and_seeds(data_folder):
    source = NOISY.load("test", data_folder)
    assert source.key == (0, 2)
    keys = [(0, 2), (0, 1), (1, 2)]  # the seed, and which split it is
    sources = [dataclasses.replace(source, key=key) for key in keys]
    for name in ("image", "audio"):
        made = {each.take(np.array([7])).inputs[name].tobytes() for each in sources}
        assert len(made) == 3


def test_audio_noise_has_the_stated_ratio(clean, data_folder):
    quiet = SpokenDigits(audio_noise=0.01).load("test", data_folder)  # -> no sum leaves [-1, 1]
    rows = np.arange(40)
    clear, noisy = clean["test"].take(rows), quiet.take(rows)
    np.testing.assert_array_equal(clear.inputs["image"], noisy.inputs["image"])
    signal = clear.inputs["audio"].astype(np.float64)
    noise = noisy.inputs["audio"] - signal
    assert not noise[~clear.masks["audio"]].any()
    ratio = np.sqrt((noise**2).sum(1) / (signal**2).sum(1))
    # float32 rounding of the sum is 2**-24 of samples up to 100 times as large as the noise
    np.testing.assert_allclose(ratio, 0.01, rtol=1e-4)


def test_loud_noise_is_scaled_down_not_clipped(clean, data_folder):
    loud = SpokenDigits(audio_noise=20.0).load("test", data_folder)
    rows = np.arange(40)
    signal = clean["test"].take(rows).inputs["audio"].astype(np.float64)
    noisy = loud.take(rows).inputs["audio"].astype(np.float64)
    peaks = np.abs(noisy).max(axis=1)
    assert (peaks <= 1).all()
    scaled = peaks == 1
    assert scaled.any()
    # Clipping leaves many samples at the bound, scaling one.
    assert (np.abs(noisy[scaled]) == 1).sum(axis=1).max() == 1
    assert (np.abs(signal).max(axis=1) < 1).any()


def test_image_noise_has_the_stated_deviation(clean, data_folder):
    noisy = SpokenDigits(image_noise=0.1).load("test", data_folder)
    rows = np.arange(200)
    clear, image = clean["test"].take(rows).inputs["image"], noisy.take(rows).inputs["image"]
    assert image.min() == 0
    assert image.max() == 1
    middle = (clear > 0.45) & (clear < 0.55)  # 5 deviations from the bounds: nothing is clipped
    deviation = (image - clear)[middle].std()
    assert abs(deviation - 0.1) < 0.1 * 4 / np.sqrt(2 * middle.sum())  # 4 standard errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pair_seed": -1}, "pair_seed is -1"),
        ({"pairs_per_clip": 0}, "pairs_per_clip is 0"),
        ({"pairs_per_clip": 22}, "pairs_per_clip is 22.* 1 to 21"),
        ({"image_noise": -0.1}, "image_noise is -0.1"),
        ({"audio_noise": float("nan")}, "audio_noise is nan"),
    ],
)
def test_refuses_impossible_values(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SpokenDigits(**options)
