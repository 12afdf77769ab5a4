import numpy as np
import pytest
import scipy.ndimage

from mmjax.data import AddNoise, Batch, DropModality, RandomAffine
from mmjax.data.images import rotate
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


@pytest.mark.parametrize(
    "transform", [AddNoise("sond", 0.1), DropModality("sond", 0.1), RandomAffine("sond")]
)
def test_an_unknown_modality_gets_a_suggestion(transform):
    with pytest.raises(ConfigError, match="no modality 'sond': did you mean 'sound'"):
        transform(batch(), rng())


def pictures(shape=(7, 7), dtype=np.float32):
    values = np.random.default_rng(1).random((50, *shape)).astype(dtype)
    return Batch.of({"picture": values}, np.arange(50))


def test_pictures_move_as_scipy_moves_them():
    before = pictures()
    after = RandomAffine("picture", degrees=30.0, pixels=2.0)(before, rng()).inputs["picture"]
    drawn = rng()
    angles = drawn.uniform(-np.pi / 6, np.pi / 6, 50)
    for picture, moved, angle, shift in zip(
        before.inputs["picture"], after, angles, drawn.uniform(-2, 2, (50, 2)), strict=True
    ):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        offset = 3 - turn @ (3 + shift)
        expected = scipy.ndimage.affine_transform(
            picture, turn, offset, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_a_whole_pixel_is_a_roll():
    before = pictures().inputs["picture"]
    moved = rotate(before, np.zeros(50), np.tile([1, 2], (50, 1)))
    np.testing.assert_array_equal(moved[:, 1:, 2:], before[:, :-1, :-2])
    assert not moved[:, 0].any()


def test_vectors_are_pictures_too():
    move = RandomAffine("picture", degrees=20.0, pixels=1.0)
    square, flat = pictures(), pictures((49,))
    channel = move(pictures((7, 7, 1)), rng()).inputs["picture"]
    assert channel.shape == (50, 7, 7, 1)
    np.testing.assert_array_equal(channel[..., 0], move(square, rng()).inputs["picture"])
    moved = move(flat, rng()).inputs["picture"]
    expected = move(square, rng()).inputs["picture"]
    np.testing.assert_array_equal(moved, expected.reshape(50, 49))
    assert np.abs(moved - flat.inputs["picture"]).mean() > 0.05


def test_only_square_pictures_of_floats_move():
    for shape, dtype in (((6, 7), np.float32), ((48,), np.float32), ((7, 7), np.uint8)):
        with pytest.raises(ConfigError, match=r"'picture' has dtype .* square images of float"):
            RandomAffine("picture")(pictures(shape, dtype), rng())


def test_noise_on_words_is_refused():
    with pytest.raises(ConfigError, match="'words' has dtype int32"):
        AddNoise("words", 0.1)(batch(), rng())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AddNoise("sound", -1.0), "std is -1"),
        (lambda: AddNoise("sound", float("inf")), "std is inf"),
        (lambda: DropModality("sound", 1.5), "rate is 1.5"),
        (lambda: RandomAffine("sound", degrees=-1.0), "degrees is -1"),
        (lambda: RandomAffine("sound", pixels=float("nan")), "pixels is nan"),
    ],
)
def test_refuses_impossible_values(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
