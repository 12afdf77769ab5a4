"""Resampling of waveforms, on the host."""

import numpy as np
from jaxtyping import Shaped

from mmjax.audio.spectrogram import check_floating
from mmjax.errors import ConfigError


def resample(
    waveform: Shaped[np.ndarray, "*batch S"], from_rate: int, to_rate: int
) -> Shaped[np.ndarray, "*batch S2"]:
    """A waveform at another sample rate, by the band-limited filters of libsoxr ("HQ").

    Frequencies above half the lower rate are removed, so that nothing is mirrored.

    Args:
        waveform: samples [..., S] of a floating type, usually in [-1, 1].
        from_rate: its sample rate, in Hz.
        to_rate: the sample rate of the result, in Hz.

    Returns:
        [..., S2] of the same dtype, S2 = S to_rate / from_rate, rounded to within one sample; a
        copy if the rates are equal. Peaks may come out slightly above those of the input.

    Raises:
        ConfigError: (a ValueError) a rate is not positive, or the waveform is of integers or has no
            samples.

    Reference:
        libsoxr, the SoX Resampler library, through the package `soxr`.
    """
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if not (rate > 0 and np.isfinite(rate)):
            raise ConfigError(f"{name} is {rate}: give a sample rate above 0 Hz, such as 16000.")
    check_floating(waveform.dtype)
    if waveform.shape[-1] == 0:
        raise ConfigError("The waveform has no samples: leave empty clips out before resampling.")
    if from_rate == to_rate:
        return waveform.copy()
    import soxr  # here, because most programs never resample

    inside = waveform if waveform.dtype == np.float64 else waveform.astype(np.float32)
    rows = [soxr.resample(row, from_rate, to_rate) for row in inside.reshape(-1, inside.shape[-1])]
    if not rows:
        raise ConfigError("There is no waveform in the batch: give at least one.")
    return np.stack(rows).reshape(*waveform.shape[:-1], -1).astype(waveform.dtype)
