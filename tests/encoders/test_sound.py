"""Encoders of sound: what they refuse, and that neither loudness nor padding counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.audio import LIBROSA
from mmjax.data import Modality
from mmjax.encoders import CRNN, MFCCGRU, AudioTransformer, LogMelCNN
from mmjax.errors import ConfigError
from mmjax.layers import SpecAugment
from mmjax.training.config import from_json, to_json

FLOAT32 = jnp.dtype("float32")
ENCODERS = {
    "log_mel_cnn": LogMelCNN(blocks=1, channels=2, width=4, bands=8),
    "crnn": CRNN(blocks=2, channels=2, width=4, bands=8),
    "audio_transformer": AudioTransformer(4, 1, 2, patch=(4, 4), stride=(2, 2), bands=8),
    "mfcc_gru": MFCCGRU(coefficients=4, width=4, bands=8),
}
every_encoder = pytest.mark.parametrize("name", ENCODERS)
WAVE = np.float32(np.random.default_rng(0).standard_normal((1, 1_600)))


def build(encoder, samples=1_600):
    modality = Modality("audio", (samples,), sample_rate=8_000)
    return encoder.build(modality, dtype=FLOAT32, rngs=nnx.Rngs(0))


def encode(module, wave, mask=None):
    present = jnp.ones(len(wave), bool)
    return jax.jit(lambda w, m: module(w, m, present, train=False, rngs=None))(wave, mask)


@every_encoder
def test_loudness_has_no_effect(name):
    module = build(ENCODERS[name])
    loud, soft = (encode(module, wave).tokens for wave in (WAVE, 0.5 * WAVE))
    # 1e-3: the constant in the standard deviation, and a floor that few bands reach.
    np.testing.assert_allclose(loud, soft, atol=1e-3)


@pytest.mark.parametrize("name", ["crnn", "mfcc_gru"])
def test_the_length_of_the_padding_has_no_effect(name):
    alone = encode(build(ENCODERS[name]), WAVE)
    padded = np.pad(WAVE, [(0, 0), (0, 800)], constant_values=np.nan)
    longer = encode(build(ENCODERS[name], 2_400), padded, np.arange(2_400)[None] < 1_600)
    tokens = alone.tokens.shape[1]
    np.testing.assert_array_equal(longer.mask[0], np.arange(longer.mask.shape[1]) < tokens)
    np.testing.assert_allclose(longer.tokens[:, :tokens], alone.tokens, atol=1e-5)


def test_a_patch_is_valid_where_one_of_its_frames_is():
    module = build(ENCODERS["audio_transformer"])
    # 18 frames of 200 samples, one every 80: patches of 4 begin at 0, 2, ... 14; 3 of bands each.
    assert module.features == (8 * 3, 4)
    mask = np.arange(1_600)[None] < 200 + 4 * 80  # 5 frames
    found = np.asarray(encode(module, WAVE, mask).mask).reshape(8, 3)
    np.testing.assert_array_equal(found, np.repeat(np.arange(8) < 3, 3).reshape(8, 3))


@every_encoder
def test_a_clip_shorter_than_a_frame_is_refused(name):
    with pytest.raises(ConfigError, match=r"199 samples, fewer than one frame of 200"):
        build(ENCODERS[name], 199)


@every_encoder
def test_an_unknown_sample_rate_is_refused(name):
    with pytest.raises(ConfigError, match="sample rate 0: declare it"):
        ENCODERS[name].build(Modality("audio", (1_600,)), dtype=FLOAT32, rngs=nnx.Rngs(0))


def test_sizes_that_do_not_fit_are_refused():
    for make, word in (
        (lambda: build(AudioTransformer(), 400), "3 frames, fewer than the 16"),
        (lambda: build(AudioTransformer(bands=8)), "8 bands, fewer than the 16"),
        (lambda: MFCCGRU(coefficients=41), "more than its 40 bands"),
        (lambda: MFCCGRU(slopes=3), "slopes is 3"),
        (lambda: LogMelCNN(blocks=2, convolutions=(1,)), "2 blocks"),
        (lambda: build(CRNN(width=5)), "even width"),
    ):
        with pytest.raises(ConfigError, match=word):
            make()


def test_convention_and_masks_are_part_of_the_config():
    encoder = CRNN(convention=LIBROSA, augment=SpecAugment(time_masks=1))
    assert from_json(to_json(encoder)) == encoder
