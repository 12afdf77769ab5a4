"""SpecAugment: where its masks are, how wide they are, and when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.data import Modality
from mmjax.encoders import CRNN, MFCCGRU, AudioTransformer, LogMelCNN
from mmjax.errors import ConfigError
from mmjax.layers import SpecAugment

B, F, M = 400, 30, 12
LENGTHS = np.arange(B) % (F + 1)
VALID = np.arange(F) < LENGTHS[:, None]
ONES = jnp.ones((B, F, M))


def masked(seed=0, **options):
    ours = SpecAugment(**options)
    return (
        np.asarray(jax.jit(lambda k: ours(ONES, jnp.asarray(VALID), k))(jax.random.key(seed))) == 0
    )


def test_a_mask_of_bands_covers_all_valid_frames_and_every_width_and_place():
    found = masked(frequency_masks=1, frequency_width=4, time_masks=0)
    assert not found[~VALID].any()
    rows = LENGTHS > 0
    first = found[rows][:, 0]
    np.testing.assert_array_equal(found[rows], VALID[rows][:, :, None] & first[:, None])
    widths = first.sum(axis=1)
    # 387 clips: each of the 5 widths is of 77 on average, with a standard deviation of 8.
    assert (abs(np.bincount(widths, minlength=5) - 77) < 40).all()
    assert (np.diff(first, axis=1).sum(axis=1) <= 2).all()  # one span
    assert first.any(axis=0).all()


def test_a_mask_of_time_lies_within_the_valid_frames_and_its_share_of_them():
    found = masked(frequency_masks=0, time_masks=1, time_width=8, time_share=0.5)
    np.testing.assert_array_equal(found, np.repeat(found[:, :, :1], M, axis=2))
    assert not found[~VALID].any()
    widths = found[:, :, 0].sum(axis=1)
    assert (widths <= np.minimum(8, LENGTHS // 2)).all()
    assert widths.max() == 8
    long = found[LENGTHS >= 29][:, :29, 0]
    assert long.any(axis=0).mean() > 0.5


def test_gaps_are_not_counted_as_frames():
    valid = np.tile(np.arange(F) % 2 == 0, (B, 1))
    ours = SpecAugment(frequency_masks=0, time_masks=1, time_width=3)
    found = np.asarray(ours(ONES, jnp.asarray(valid), jax.random.key(0)))[:, :, 0] == 0
    assert not found[~valid].any()
    assert set(found.sum(axis=1)) == {0, 1, 2, 3}


def test_the_same_key_gives_the_same_masks_and_another_one_others():
    np.testing.assert_array_equal(masked(0), masked(0))
    assert (masked(0) != masked(1)).any()


@pytest.mark.parametrize(
    ("options", "word"), [({"time_share": 1.5}, "share from 0"), ({"time_masks": -1}, "0 or more")]
)
def test_wrong_numbers_are_refused(options, word):
    with pytest.raises(ConfigError, match=word):
        SpecAugment(**options)


@pytest.mark.parametrize("encoder", [LogMelCNN, CRNN, AudioTransformer, MFCCGRU])
def test_encoders_mask_in_training_only(encoder):
    audio = Modality("audio", (1_600,), sample_rate=8_000)
    augment = SpecAugment(2, 8, 2, 6)
    options = {"width": 4, "bands": 16, "augment": augment}
    if encoder is AudioTransformer:
        options |= {"heads": 1, "layers": 1, "patch": (8, 8), "stride": (8, 8)}
    module = encoder(**options).build(audio, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1_600)), jnp.float32)

    def sound(train, seed):
        rngs = nnx.Rngs(dropout=seed) if train else None
        return np.asarray(module.sound(wave, None, train=train, rngs=rngs)[0])

    plain = sound(False, 0)
    for seed in (1, 2):
        masks = sound(True, seed) == 0
        assert masks.any()
        np.testing.assert_array_equal(sound(True, seed), np.where(masks, 0, plain))
    assert (plain != 0).all()
