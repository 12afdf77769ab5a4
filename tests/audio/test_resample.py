"""Resampling: tones stay where they are, and what the lower rate cannot hold is gone."""

import numpy as np
import pytest

from mmjax.audio import resample
from mmjax.errors import ConfigError


def tone(hertz, rate, seconds=1.0):
    return np.float32(np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44_100, 16_000), (8_000, 22_050)])
def test_a_tone_is_the_same_tone(from_rate, to_rate):
    ours = resample(tone(440, from_rate), from_rate, to_rate)
    assert ours.dtype == np.float32
    assert abs(len(ours) - to_rate) <= 1
    inside = slice(to_rate // 10, -to_rate // 10)  # the filter sees beyond the ends
    expected = tone(440, to_rate, 1.1)[: len(ours)]
    # 1e-4: the quality "HQ" keeps 20 bits of the passband.
    np.testing.assert_allclose(ours[inside], expected[inside], atol=1e-4)


def test_what_the_lower_rate_cannot_hold_is_removed():
    ours = resample(tone(7_000, 16_000), 16_000, 8_000)
    assert np.abs(ours[800:-800]).max() < 1e-4


def test_rows_are_independent_and_dtypes_are_kept():
    waves = np.stack([tone(300, 8_000), tone(900, 8_000)])[:, None]
    ours = resample(waves, 8_000, 16_000)
    assert ours.shape == (2, 1, 16_000)
    np.testing.assert_array_equal(ours[1, 0], resample(waves[1, 0], 8_000, 16_000))
    for dtype in (np.float16, np.float64):
        assert resample(waves.astype(dtype), 8_000, 16_000).dtype == dtype
    same = resample(waves, 8_000, 8_000)
    np.testing.assert_array_equal(same, waves)
    assert not np.shares_memory(same, waves)


@pytest.mark.parametrize(
    ("wave", "rates", "word"),
    [
        (tone(300, 8_000), (0, 8_000), "from_rate is 0"),
        (tone(300, 8_000), (8_000, -1), "to_rate is -1"),
        (np.zeros(9, np.int16), (8_000, 16_000), "divide it by 32,768"),
        (np.zeros(0, np.float32), (8_000, 16_000), "no samples"),
        (np.zeros((0, 9), np.float32), (8_000, 16_000), "no waveform"),
    ],
)
def test_what_cannot_be_resampled_is_refused(wave, rates, word):
    with pytest.raises(ConfigError, match=word):
        resample(wave, *rates)
