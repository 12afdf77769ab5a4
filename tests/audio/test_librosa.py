"""Log-mel, cepstra and slopes have the values of librosa, on real clips.

The references beside this file are of half a second of a clip of ESC-10 and of FSDD. They were made
with librosa 0.11.0 by

    python experiments/benchmarks/audio_features.py --data-dir FOLDER --write tests/audio

which also compares many clips and measures speed.
"""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from mmjax.audio import HTK, LIBROSA, Convention, deltas, log_mel, mfcc

HERE = Path(__file__).parent
HTK_AREA = Convention(
    scale="htk", triangles="hertz", area=True, window="hamming", centre="reflect", unit="decibel"
)
MAGNITUDE = Convention(
    scale="slaney",
    triangles="hertz",
    window="rectangular",
    exponent=1,
    unit="decibel",
    reference="max",
    top_db=60.0,
)
PLAIN = Convention(scale="htk", triangles="hertz", centre="zeros")
SETTINGS = {
    "librosa_default": (LIBROSA, {"frame_length": 512, "hop": 128, "bands": 40}),
    "htk_hamming_reflect": (
        HTK_AREA,
        {"frame_length": 400, "hop": 160, "n_fft": 512, "bands": 32, "low": 60.0},
    ),
    "slaney_magnitude_not_centred": (
        MAGNITUDE,
        {"frame_length": 256, "hop": 100, "bands": 24, "high": 3800.0, "floor": 1e-5},
    ),
    "htk_natural_logarithm": (PLAIN, {"frame_length": 512, "hop": 256, "bands": 40}),
}


@functools.cache
def stored(clip):
    with np.load(HERE / f"librosa_{clip}.npz") as arrays:
        return dict(arrays)


def assert_near(ours, expected):
    """A largest difference of 1e-4 of the range; float32 gives 1e-5 or less on these clips."""
    assert ours.shape == expected.shape
    assert np.abs(np.asarray(ours) - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("clip", ["esc10", "fsdd"])
def test_values_are_those_of_librosa(clip, setting):
    reference = stored(clip)
    wave, rate = reference["wave"] / np.float32(32768), int(reference["rate"])
    convention, sizes = SETTINGS[setting]
    options = {"sample_rate": rate, "convention": convention, **sizes}

    @jax.jit
    def features(wave):
        coefficients = mfcc(wave, **options)
        return log_mel(wave, **options), coefficients, deltas(coefficients)

    for name, ours in zip(("log_mel", "mfcc", "deltas"), features(wave), strict=True):
        assert_near(ours, reference[f"{setting}/{name}"])


def test_the_conventions_differ_by_more_than_the_tolerance():
    reference = stored("fsdd")
    wave, rate = reference["wave"] / np.float32(32768), int(reference["rate"])
    found = [
        np.asarray(log_mel(wave, sample_rate=rate, convention=c, frame_length=512, hop=128))
        for c in (HTK, Convention(triangles="hertz"), Convention(scale="slaney"))
    ]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[one] - found[two]).max() > 5e-4 * np.ptp(found[one])


@pytest.mark.parametrize("file", ["esc10/audio/1-100032-A-1.ogg", "fsdd/recordings/7_theo_0.wav"])
def test_librosa_itself_agrees_where_it_is_installed(data_folder, file):
    librosa = pytest.importorskip(
        "librosa", reason="librosa is not installed: it is in the extra `peers`"
    )
    wave, rate = soundfile.read(data_folder / file, dtype="float32")
    sizes = {"hop_length": 128, "n_fft": 512, "n_mels": 40, "pad_mode": "constant"}
    mel = librosa.feature.melspectrogram(y=wave, sr=rate, **sizes)
    expected = librosa.power_to_db(mel).T
    options = {"sample_rate": rate, "frame_length": 512, "hop": 128, "bands": 40}
    assert_near(log_mel(wave, convention=LIBROSA, **options), expected)
    expected = librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=13, **sizes).T
    assert_near(mfcc(wave, convention=LIBROSA, **options), expected)
