"""Changes of single records: what each does, and that a record's own number and epoch decide it."""

import contextlib
import itertools

import numpy as np
import pytest

from mmjax.data import (
    Arrays,
    ArraySource,
    BackgroundNoise,
    Batch,
    ColourJitter,
    DropWords,
    MaskWords,
    Modality,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomGain,
    Selected,
    SwapWords,
    TimeShift,
    train_batches,
)
from mmjax.encoders import BagOfWords
from mmjax.errors import ConfigError
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import Experiment, Training
from mmjax.training.experiment import check

N = 12
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (N, 8, 6, 3), dtype=np.uint8)
SOUNDS = RNG.uniform(-0.5, 0.5, (N, 40)).astype(np.float32)
LENGTHS = 1 + np.arange(N) % 6
WORDS = np.where(np.arange(6) < LENGTHS[:, None], RNG.integers(2, 50, (N, 6)), 0).astype(np.int32)
MODALITIES = {
    "picture": Modality("image", (8, 6, 3), "uint8"),
    "sound": Modality("audio", (40,), sample_rate=8_000),
    "words": Modality("text", (6,), vocabulary=50),
}
ALL = (
    RandomCrop("picture", 2),
    RandomFlip("picture"),
    ColourJitter("picture"),
    RandomErasing("picture"),
    TimeShift("sound", 5),
    RandomGain("sound"),
    BackgroundNoise("sound"),
    DropWords("words", 0.4),
    MaskWords("words", 1, 0.4),
    SwapWords("words", 0.4),
)
each = pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)


def source():
    inputs = {"picture": PICTURES, "sound": SOUNDS, "words": WORDS}
    return ArraySource(inputs, {}, masks={"words": WORDS != 0})


def batches(count, batch_size, data=None, **options):
    options = {"seed": 3, "transforms": ALL} | options
    with contextlib.closing(
        train_batches(data or source(), batch_size=batch_size, **options)
    ) as stream:
        return list(itertools.islice(stream, count))


def rows(made):
    """(epoch, record) -> the bytes of its arrays."""
    found, seen = {}, {}
    for batch in made:
        for row, record in enumerate(batch.ids.tolist()):
            epoch = seen[record] = seen.get(record, -1) + 1
            arrays = [*batch.inputs.values(), *batch.masks.values()]
            found[epoch, record] = [array[row].tobytes() for array in arrays]
    return found


def test_the_same_record_is_changed_in_the_same_way_in_any_batch():
    expected = rows(batches(6, 4))  # two epochs
    assert len(expected) == 2 * N
    assert rows(batches(8, 3)) == expected  # in other batches
    assert rows(batches(2, 12)) == expected
    halves = [batches(6, 4, process_index=index, process_count=2) for index in (0, 1)]
    assert rows(list(itertools.chain(*zip(*halves, strict=True)))) == expected
    assert rows(batches(6, 4, workers=1)) == expected


def test_another_epoch_seed_or_place_in_the_list_changes_it_otherwise():
    made = rows(batches(6, 4))
    assert all(made[0, record][0] != made[1, record][0] for record in range(N))
    other = rows(batches(6, 4, seed=4))
    assert all(made[0, record][0] != other[0, record][0] for record in range(N))
    once, twice = (rows(batches(3, 4, transforms=ALL[6:7] * count)) for count in (1, 2))
    alone = rows(batches(3, 4, transforms=()))
    sound = [np.frombuffer(found[0, 0][1], np.float32) for found in (alone, once, twice)]
    assert np.abs((sound[2] - sound[1]) - (sound[1] - sound[0])).max() > 1e-3


def test_a_record_that_is_selected_twice_is_changed_in_two_ways():
    doubled = Selected(source(), np.repeat(np.arange(N), 2))
    made = rows(batches(6, 4, data=doubled))
    assert all(made[0, record][0] != made[1, record][0] for record in range(N))


def test_resumes_bitwise_in_the_middle_of_an_epoch():
    whole = batches(8, 5)
    options = {"batch_size": 5, "seed": 3, "transforms": ALL}
    with contextlib.closing(train_batches(source(), **options)) as stream:
        for _ in range(3):
            next(stream)
        state = stream.get_state()
    with contextlib.closing(train_batches(source(), **options)) as stream:
        stream.set_state(state)
        rest = list(itertools.islice(stream, 5))
    for ours, theirs in zip(rest, whole[3:], strict=True):
        for name, array in theirs.inputs.items():
            np.testing.assert_array_equal(ours.inputs[name], array)
        np.testing.assert_array_equal(ours.masks["words"], theirs.masks["words"])


def changed(transform, values, masks=None, present=None):
    """The values after the transform, and their mask."""
    name = transform.modality
    masks = {} if masks is None else {name: masks}
    present = {} if present is None else {name: present}
    before = values.copy()
    batch = Batch.of({name: values}, np.arange(len(values)), masks=masks, present=present)
    after = transform(batch, np.random.default_rng(0))
    np.testing.assert_array_equal(values, before)
    assert after.inputs[name].dtype == values.dtype
    assert after.inputs[name].shape == values.shape
    return after.inputs[name], after.masks.get(name)


@each
def test_some_records_are_changed_and_absent_ones_are_not(transform):
    values = {"picture": PICTURES, "sound": SOUNDS, "words": WORDS}[transform.modality]
    present = np.arange(N) % 2 == 0
    after, _ = changed(transform, values, present=present)
    differs = (after != values).reshape(N, -1).any(axis=1)
    assert differs[present].any()
    assert not differs[~present].any()


def test_a_crop_is_a_shift_with_a_black_border():
    values = np.arange(1, 8 * 6 + 1, dtype=np.float32).reshape(1, 8, 6, 1).repeat(300, 0)
    after, _ = changed(RandomCrop("picture", 2), values)
    padded = np.pad(values[0], [(2, 2), (2, 2), (0, 0)])
    windows = {
        padded[top : top + 8, left : left + 6].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    assert {windows[picture.tobytes()] for picture in after} == set(windows.values())


def test_flips_happen_at_their_rate_and_to_all_frames_of_a_video():
    films = RNG.random((1_000, 2, 3, 4, 1)).astype(np.float32)
    after, _ = changed(RandomFlip("film", 0.3), films)
    flipped = (after == films[..., ::-1, :]).all(axis=(1, 2, 3, 4))
    assert abs(flipped.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1_000)  # 4 standard errors
    np.testing.assert_array_equal(after[~flipped], films[~flipped])


def test_colours_change_by_factors():
    grey = np.full((500, 2, 2, 3), 0.4, np.float32)
    after, _ = changed(ColourJitter("picture", 0.5, 0.5, 0.5), grey)
    # A grey picture has neither contrast nor saturation: the brightness alone is seen.
    np.testing.assert_allclose(after, after[:, :1, :1, :1].repeat(12, 1).reshape(after.shape))
    factors = after[:, 0, 0, 0] / 0.4
    assert 0.5 <= factors.min() < 0.52
    assert 1.48 < factors.max() <= 1.5
    colours = RNG.random((50, 4, 4, 3)).astype(np.float32) * 0.2 + 0.4
    after, _ = changed(ColourJitter("picture", 0.0, 0.0, 0.9), colours)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(after @ weights, colours @ weights, atol=1e-5)  # the grey stays
    after, _ = changed(ColourJitter("picture", 0.0, 0.9, 0.0), colours)
    means = [(x @ weights).mean(axis=(1, 2)) for x in (after, colours)]
    np.testing.assert_allclose(*means, atol=1e-5)
    whole, _ = changed(ColourJitter("picture", 0.0, 0.0, 0.0), PICTURES)
    np.testing.assert_array_equal(whole, PICTURES)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_one_rectangle_is_erased(dtype):
    values = np.zeros((300, 20, 20, 3), dtype)
    after, _ = changed(RandomErasing("picture", 1.0, area=(0.1, 0.3)), values)
    assert after.max() > 0.9 * (255 if dtype == np.uint8 else 1)
    sizes = []
    for picture in after:
        down, right = (np.flatnonzero((picture > 0).any(axis=(1 - axis, 2))) for axis in (0, 1))
        height, width = np.ptp(down) + 1, np.ptp(right) + 1
        sizes.append(height * width / 400)
        inside = picture[down[0] : down[-1] + 1, right[0] : right[-1] + 1]
        assert (inside > 0).mean() > 0.9
        assert (picture > 0).sum() == (inside > 0).sum()
    # 0.03: sides are whole pixels, of which half of one is 2.5 percent of the side.
    assert 0.07 < min(sizes) < 0.13
    assert 0.27 < max(sizes) < 0.33


def test_a_waveform_moves_within_its_valid_samples():
    mask = np.arange(40) < np.array([[40], [25]])
    for start in (0, 1):
        x = np.where(mask[start], SOUNDS[0] + 1, 0)[None].repeat(200, 0).astype(np.float32) / 2
        after, masks = changed(TimeShift("sound", 3), x, mask[[start]].repeat(200, 0))
        np.testing.assert_array_equal(masks, mask[[start]].repeat(200, 0))
        expected = set()
        for later in range(-3, 4):
            moved = np.pad(x[0], 3)[3 - later : 43 - later] * mask[start]
            expected.add(moved.astype(np.float32).tobytes())
        assert {row.tobytes() for row in after} == expected


def test_gains_and_noises_are_those_in_decibels():
    quiet = 0.1 * SOUNDS[:1].repeat(400, 0)
    after, _ = changed(RandomGain("sound", 6.0), quiet)
    decibels = 20 * np.log10(after[:, 0] / quiet[:, 0])
    assert -6.01 < decibels.min() < -5.9
    assert 5.9 < decibels.max() < 6.01
    long = 0.1 * RNG.standard_normal((3, 20_000)).astype(np.float32)
    mask = np.arange(20_000) < np.array([[20_000], [10_000], [0]])
    long[~mask] = np.nan
    after, _ = changed(BackgroundNoise("sound", 10.0, 10.0), long, mask)
    assert (after[~mask] == 0).all()
    for row in (0, 1):
        noise = (after - long)[row][mask[row]]
        ratio = 10 * np.log10(np.mean(long[row][mask[row]] ** 2) / np.mean(noise**2))
        # 0.2: the power of 10,000 samples is known to 1.4 percent, 0.06 decibels, thrice.
        assert abs(ratio - 10) < 0.2
    loud, _ = changed(RandomGain("sound", 40.0), SOUNDS)
    assert np.abs(loud).max() == 1
    silent, _ = changed(BackgroundNoise("sound"), np.zeros((2, 40), np.float32))
    assert not silent.any()


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dropped_words_leave_one_and_padding_at_the_end(rate):
    texts = WORDS[np.arange(600) % N]
    after, mask = changed(DropWords("words", rate), texts, texts != 0)
    np.testing.assert_array_equal(mask, after != 0)
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()
    assert mask.any(axis=1).all()
    for before, words in zip(texts, after, strict=True):
        rest = iter(before.tolist())
        assert all(word in rest for word in words[words != 0].tolist())  # in their order
    long = texts[:, 5] != 0
    kept = mask[long].mean()
    expected = {0.0: 1, 0.3: 0.7, 1.0: 1 / 6}[rate]
    assert abs(kept - expected) < 4 * np.sqrt(0.3 * 0.7 / mask[long].size)  # 4 standard errors
    if rate == 0:
        np.testing.assert_array_equal(after, texts)


def test_masked_words_are_replaced_and_swapped_ones_move():
    texts = np.arange(2, 32, dtype=np.int32)[None].repeat(200, 0)
    after, mask = changed(MaskWords("words", 1, 0.2), texts)
    assert mask is None
    replaced = after != texts
    assert (after[replaced] == 1).all()
    assert abs(replaced.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / texts.size)  # 4 standard errors
    everything, _ = changed(MaskWords("words", 1, 1.0), texts)
    assert ((everything != 1).sum(axis=1) == 1).all()
    after, _ = changed(SwapWords("words", 0.3), texts)
    np.testing.assert_array_equal(np.sort(after, axis=1), texts)
    assert 0.2 < (after != texts).mean() < 0.6
    moved, _ = changed(SwapWords("words", 1.0), texts)
    np.testing.assert_array_equal(moved[0], [*texts[0, 1:], texts[0, 0]])


@pytest.mark.parametrize("kind", [DropWords, SwapWords, MaskWords])
def test_spared_words_stay(kind):
    texts = np.array([[7, 5, 6, 8, 0]] * 50, np.int32)
    options = {"id": 1} if kind is MaskWords else {}
    after, _ = changed(kind("words", rate=1.0, spare=(7, 8), **options), texts)
    expected = {DropWords: [7, 8, 0, 0, 0], SwapWords: [7, 6, 5, 8, 0], MaskWords: [7, 1, 1, 8, 0]}
    np.testing.assert_array_equal(after, [expected[kind]] * 50)


@pytest.mark.parametrize("text", [[0, 0, 0], [4, 0, 0]])
@pytest.mark.parametrize("transform", ALL[-3:], ids=lambda transform: type(transform).__name__)
def test_texts_of_no_and_one_word_stay(transform, text):
    texts = np.array([text] * 20, np.int32)
    after, mask = changed(transform, texts, texts != 0)
    np.testing.assert_array_equal(after, texts)
    np.testing.assert_array_equal(mask, texts != 0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RandomFlip("picture", 1.5), "RandomFlip: rate is 1.5; choose it from 0 to 1"),
        (lambda: DropWords("words", -0.1), "DropWords: rate is -0.1"),
        (lambda: MaskWords("words", 0), "id is 0; choose 1 or more"),
        (lambda: ColourJitter("picture", contrast=2.0), "contrast is 2"),
        (lambda: RandomErasing("picture", area=(0.5, 0.2)), r"area is \(0.5, 0.2\)"),
        (lambda: RandomErasing("picture", aspect=0.0), "aspect is 0"),
        (lambda: BackgroundNoise("sound", 10.0, 5.0), "most is 5"),
        (lambda: RandomGain("sound", float("nan")), "decibels is nan"),
    ],
)
def test_refuses_impossible_values(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (RandomFlip("pictures"), "no modality 'pictures': did you mean 'picture'"),
        (RandomFlip("sound"), "RandomFlip changes .* image or video, but 'sound' is .* kind audio"),
        (DropWords("picture"), "of the kind text, but 'picture' is of the kind image"),
        (RandomCrop("picture", 6), "padding is 6, but the images of 'picture' are 8 x 6"),
        (TimeShift("sound", 40), "samples is 40, but the waveforms of 'sound' have 40"),
        (MaskWords("words", 50), "id is 50, but 'words' has a vocabulary of 50"),
        (ColourJitter("grey"), "saturation is 0.4, but 'grey' has 1 channels"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(transform, sentence):
    grey = np.zeros((N, 8, 6, 1), np.uint8)
    data = Arrays(
        {"picture": PICTURES, "sound": SOUNDS, "words": WORDS, "grey": grey},
        {"label": np.arange(N) % 2},
        modalities=MODALITIES,
    )
    experiment = Experiment(
        objectives=(CrossEntropy(),),
        training=Training(steps=1, batch_size=4),
        name="augmented",
        data=data,
        model=FusionModel({"words": BagOfWords(4)}),
        transforms=(transform,),
    )
    with pytest.raises(ConfigError, match=sentence):
        check(experiment)
