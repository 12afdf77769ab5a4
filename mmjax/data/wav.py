"""Reading WAV files of one channel, with every doubt about them raised."""

import io
from pathlib import Path

import numpy as np
import soundfile

from mmjax.data.files import read_bytes
from mmjax.errors import DataError

_GET_AGAIN = "get the original file again"


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """Reads a WAV file of one channel.

    Args:
        path: the file.
        sample_rate: the sample rate that it must have, in Hz; nothing is resampled.

    Returns:
        [S] float32, the waveform in [-1, 1].

    Raises:
        DataError: for a file that is missing, empty, cut short, not WAV, of several channels or of
            another sample rate, and for samples that are not finite or beyond [-1, 1].
    """
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty (0 bytes): {_GET_AGAIN}.")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise DataError(f"{path} is not a WAV file, as its name says: {_GET_AGAIN}.")
    # libsndfile reads what is there of a file that was cut short, and says nothing.
    declared = 8 + int.from_bytes(data[4:8], "little")
    if declared > len(data):
        raise DataError(
            f"{path} is cut short: {len(data):,} bytes where its header says {declared:,}; "
            f"{_GET_AGAIN}."
        )
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path} is damaged: {error.error_string} {_GET_AGAIN}.") from error
    if samples.shape[1] != 1:
        raise DataError(f"{path} has {samples.shape[1]} channels: make it a mono file.")
    if rate != sample_rate:
        raise DataError(f"{path} has {rate} samples a second: resample it to {sample_rate}.")
    if len(samples) == 0:
        raise DataError(f"{path} is empty (0 samples): {_GET_AGAIN}.")
    if not np.all(np.abs(samples) <= 1):
        raise DataError(f"{path} has samples that are not in [-1, 1]: {_GET_AGAIN}.")
    return samples[:, 0]
