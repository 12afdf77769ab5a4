"""Reads files of sound: WAV files of one channel, with strict checks, and others."""

import io
from pathlib import Path

import numpy as np
import soundfile

from mmjax.data.files import read_bytes
from mmjax.errors import DataError

_GET_AGAIN = "download the original file again"
WAV = (b"RIFF", b"RF64", b"BW64")
_UNKNOWN = 0x7FFFF000  # from this size on, a header claims no number, but that it is unknown


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """Reads a WAV file of one channel: RIFF, or RF64 and BW64 of long recordings.

    Programs that write to a pipe, or that were stopped, leave sizes in the header that say nothing
    (0, or 2 GiB and more): then the samples are what is there.

    Args:
        path: the file.
        sample_rate: the sample rate that it must have, in Hz; nothing is resampled.

    Returns:
        [S] float32, the waveform in [-1, 1].

    Raises:
        DataError: the file is missing, empty, cut short in its samples, not a WAV file, or has
            several channels, another sample rate, or samples that are not finite or outside
            [-1, 1].
    """
    if read_bytes(path)[:4] not in (*WAV, b""):
        raise _no_wav(path)
    samples, rate = read_sound(path)
    if samples.shape[1] != 1:
        raise DataError(f"{path} has {samples.shape[1]} channels: convert it to mono.")
    if rate != sample_rate:
        raise DataError(f"{path} has a sample rate of {rate} Hz: resample it to {sample_rate} Hz.")
    if len(samples) == 0:
        raise DataError(f"{path} is empty (0 samples): {_GET_AGAIN}.")
    if not np.all(np.abs(samples) <= 1):
        raise DataError(f"{path} has samples that are not in [-1, 1]: {_GET_AGAIN}.")
    return samples[:, 0]


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """The samples [S, channels] float32 and the sample rate, in Hz, of a file of sound.

    WAV, FLAC, Ogg and what else libsndfile reads.

    Raises:
        DataError: the file is missing, empty, damaged, or a WAV file that is cut short.
    """
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty (0 bytes): {_GET_AGAIN}.")
    if data[:4] in WAV:
        if data[8:12] != b"WAVE":
            raise _no_wav(path)
        try:
            data = _whole(data)
        except _CutShortError as error:
            raise DataError(f"{path} is cut short ({error}): {_GET_AGAIN}.") from error
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise DataError(f"{path} is damaged ({reason}): {_GET_AGAIN}.") from error
    return samples, rate


def _no_wav(path: Path) -> DataError:
    return DataError(f"{path} is not a WAV file, although its name ends in .wav: {_GET_AGAIN}.")


class _CutShortError(Exception):
    """A file that ends before its samples do."""


def _whole(data: bytes) -> bytes:
    """A file whose samples are all there, with a header that libsndfile reads.

    libsndfile reads the beginning of a file that was cut short without an error, so the size of the
    chunk of samples is compared here. The size of the whole file is not: many programs get it
    wrong.
    """
    long, position = 0, 12
    while data[position : position + 4] != b"data":
        if position + 8 > len(data):
            raise _CutShortError(f"its {len(data):,} bytes end before the samples")
        if data[position : position + 4] == b"ds64":  # of RF64: the sizes that need 64 bits
            long = _number(data[position + 16 : position + 24])
        size = _number(data[position + 4 : position + 8])
        position += 8 + size + size % 2
    start = position + 8
    claimed = _number(data[position + 4 : start])
    known = claimed < _UNKNOWN
    if long and not known:
        claimed, known = long, True
    if known and start + claimed > len(data):
        raise _CutShortError(f"{len(data):,} bytes, but {start + claimed:,} in its header")
    if claimed == 0 and 8 + _number(data[4:8]) <= start:  # a recorder that never closed the file
        there = min(len(data) - start, 2**32 - 1)
        data = data[: start - 4] + there.to_bytes(4, "little") + data[start:]
    return b"RF64" + data[4:] if data[:4] == b"BW64" else data  # another name of the same


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
