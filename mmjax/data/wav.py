"""Reads WAV files of one channel, with strict checks."""

import io
from pathlib import Path

import numpy as np
import soundfile

from mmjax.data.files import read_bytes
from mmjax.errors import DataError

_GET_AGAIN = "download the original file again"


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """Reads a WAV file of one channel.

    Args:
        path: the file.
        sample_rate: the sample rate that it must have, in Hz; nothing is resampled.

    Returns:
        [S] float32, the waveform in [-1, 1].

    Raises:
        DataError: the file is missing, empty, cut short, not a WAV file, or has several channels,
            another sample rate, or samples that are not finite or outside [-1, 1].
    """
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty (0 bytes): {_GET_AGAIN}.")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise DataError(f"{path} is not a WAV file, although its name ends in .wav: {_GET_AGAIN}.")
    # libsndfile reads the beginning of a file that was cut short, without an error.
    declared = 8 + int.from_bytes(data[4:8], "little")
    if declared > len(data):
        raise DataError(
            f"{path} is cut short ({len(data):,} bytes, but {declared:,} in its header): "
            f"{_GET_AGAIN}."
        )
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise DataError(f"{path} is damaged ({reason}): {_GET_AGAIN}.") from error
    if samples.shape[1] != 1:
        raise DataError(f"{path} has {samples.shape[1]} channels: convert it to mono.")
    if rate != sample_rate:
        raise DataError(f"{path} has a sample rate of {rate} Hz: resample it to {sample_rate} Hz.")
    if len(samples) == 0:
        raise DataError(f"{path} is empty (0 samples): {_GET_AGAIN}.")
    if not np.all(np.abs(samples) <= 1):
        raise DataError(f"{path} has samples that are not in [-1, 1]: {_GET_AGAIN}.")
    return samples[:, 0]
