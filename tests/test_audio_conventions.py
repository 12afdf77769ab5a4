"""Conventions of mel spectrograms: librosa's values, masks, gradients, slopes, resampling."""

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.audio import Convention, deltas, frame_mask, frames, log_mel, resample
from mmjax.errors import ConfigError

FILE = Path(__file__).parents[1] / "experiments" / "benchmarks" / "audio_features.py"


@pytest.fixture(scope="module")
def script():
    """The script that stored librosa's values."""
    spec = importlib.util.spec_from_file_location("audio_features", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["audio_features"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("index", range(4))
def test_values_are_librosa_s(script, index):
    """Made again by: audio_features.py --write tests/audio_by_librosa.npz (librosa 0.11.0)."""
    setting = list(script.SETTINGS.values())[index]
    with np.load(Path(__file__).parent / "audio_by_librosa.npz") as stored:
        for part, found in zip(
            ("mel", "mfcc"), script.ours(*script.made_up(), setting), strict=True
        ):
            assert found.shape == stored[f"{part}{index}"].shape
            assert script.difference(found, stored[f"{part}{index}"]) <= 1e-4


@pytest.mark.parametrize("centre", ["no", "reflect", "zeros"])
def test_frames_and_masks_agree_and_padding_has_no_gradient(centre):
    size = {"frame_length": 40, "hop": 16}
    count = frames(300, **size, centre=centre)
    mask = np.arange(300) < 170
    valid = frame_mask(mask, **size, centre=centre)
    assert valid.shape == (count,)
    assert valid.any()
    assert not valid.all()
    convention = Convention(centre=centre, unit="decibel", reference="max", top_db=40.0)
    weight = np.random.default_rng(0).standard_normal((count, 8)) * np.asarray(valid)[:, None]

    def total(x):
        options = {"sample_rate": 800, "bands": 8, "convention": convention, "mask": mask}
        return (log_mel(x, **options, **size) * weight).sum()

    x = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    gradient = np.asarray(jax.grad(total)(jnp.asarray(x)))
    assert (gradient[~mask] == 0).all()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[mask]).max() > 0


def test_a_line_has_its_slope_and_silence_a_finite_gradient():
    line = np.arange(20.0, dtype=np.float32)[:, None] * np.array([3.0, -1.0], np.float32)
    slopes = np.asarray(deltas(jnp.asarray(line)))
    np.testing.assert_allclose(slopes[4:-4], np.broadcast_to([3.0, -1.0], (12, 2)), rtol=1e-5)
    magnitude = Convention(exponent=1)
    options = {"sample_rate": 800, "frame_length": 40, "hop": 16, "bands": 8}
    gradient = jax.grad(lambda x: log_mel(x, convention=magnitude, **options).sum())(jnp.zeros(200))
    assert np.isfinite(gradient).all()


def test_resampling_keeps_a_tone_and_removes_what_cannot_be_heard():
    time = np.arange(16_000) / 16_000
    low, high = np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 6_000 * time)
    found = resample((low + high).astype(np.float32), 16_000, 8_000)
    assert found.shape == (8_000,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[500:-500], low[::2][500:-500], atol=1e-3)
    assert (resample(low, 8_000, 8_000) == low).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: resample(np.zeros(9, np.float32), 0, 8), "from_rate is 0: give a sample rate"),
        (lambda: resample(np.zeros(0, np.float32), 8, 9), "no samples"),
        (lambda: resample(np.zeros(9, np.int16), 8, 9), "divide it by 32,768"),
        (lambda: Convention(top_db=0.0), "top_db is 0.0: choose a range above 0"),
        (lambda: Convention(reference=0.0), "reference is 0.0"),
        (lambda: Convention(preemphasis=2.0), "preemphasis is 2.0"),
        (lambda: frames(20, frame_length=40, hop=8, centre="reflect"), "need at least 21"),
    ],
)
def test_what_makes_no_sense_is_refused(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()
