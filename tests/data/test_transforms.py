import numpy as np
import pytest

from mmjax.data import AddNoise, Batch, DropModality
from mmjax.errors import ConfigError

ROWS = 2_000


def rng():
    return np.random.default_rng(0)


def batch(**options):
    inputs = {
        "sound": np.full((ROWS, 3), 0.5, np.float32),
        "words": np.ones((ROWS, 2), np.int32),
    }
    return Batch.of(inputs, np.arange(ROWS), **options)


def test_noise_has_the_stated_deviation_in_one_modality_only():
    before = batch()
    after = AddNoise("sound", 0.2)(before, rng())
    noise = after.inputs["sound"] - 0.5
    assert noise.dtype == np.float32
    assert abs(noise.std() - 0.2) < 0.2 * 4 / np.sqrt(2 * noise.size)  # 4 standard errors
    assert after.inputs["words"] is before.inputs["words"]
    assert (before.inputs["sound"] == 0.5).all()


def test_noise_spares_masked_positions():
    mask = np.tile([True, False, True], (ROWS, 1))
    noise = AddNoise("sound", 1.0)(batch(masks={"sound": mask}), rng()).inputs["sound"] - 0.5
    assert not noise[~mask].any()
    assert noise[mask].all()


def test_drop_marks_rows_absent_at_the_stated_rate():
    before = batch()
    after = DropModality("sound", 0.3)(before, rng())
    dropped = 1 - after.present["sound"].mean()
    assert abs(dropped - 0.3) < 4 * np.sqrt(0.3 * 0.7 / ROWS)  # 4 standard errors
    assert after.present["words"].all()
    assert before.present["sound"].all()
    np.testing.assert_array_equal(after.inputs["sound"], before.inputs["sound"])


def test_drop_never_takes_the_last_modality_of_a_row():
    alone = np.arange(ROWS) % 2 == 0
    after = DropModality("sound", 1.0)(batch(present={"words": ~alone}), rng())
    np.testing.assert_array_equal(after.present["sound"], alone)
    both = DropModality("words", 1.0)(DropModality("sound", 0.5)(batch(), rng()), rng())
    assert (both.present["sound"] ^ both.present["words"]).all()


def test_drop_of_the_only_modality_does_nothing():
    only = Batch.of({"sound": np.zeros((4, 3), np.float32)}, np.arange(4))
    assert DropModality("sound", 1.0)(only, rng()).present["sound"].all()


@pytest.mark.parametrize("transform", [AddNoise("sond", 0.1), DropModality("sond", 0.1)])
def test_an_unknown_modality_gets_a_suggestion(transform):
    with pytest.raises(ConfigError, match="no modality 'sond': did you mean 'sound'"):
        transform(batch(), rng())


def test_noise_on_words_is_refused():
    with pytest.raises(ConfigError, match="'words' holds int32"):
        AddNoise("words", 0.1)(batch(), rng())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AddNoise("sound", -1.0), "std is -1"),
        (lambda: AddNoise("sound", float("inf")), "std is inf"),
        (lambda: DropModality("sound", 1.5), "rate is 1.5"),
    ],
)
def test_refuses_impossible_values(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
