"""The clips of the Free Spoken Digit Dataset, checked and loaded into one array."""

import dataclasses
import itertools
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from mmjax.data.dataset import About
from mmjax.data.files import require
from mmjax.data.wav import read_wav
from mmjax.errors import DataError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50  # recordings per speaker and digit, with the indices 0 to 49
SAMPLE_RATE = 8_000
FOLDER = "fsdd/recordings/"

CITATION = "Jackson and contributors, Free Spoken Digit Dataset, 2018"
HOMEPAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
SHA256 = {FOLDER: "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"}

_NAME = re.compile(r"([0-9])_([a-z]+)_(0|[1-9][0-9]?)\.wav")


@dataclasses.dataclass(frozen=True)
class Clips:
    """Recordings, sorted by digit, then speaker, then index.

    Attributes:
        names: the file names, [N].
        waveforms: [N, S] float32 in [-1, 1], zero after the end of a clip.
        lengths: [N] int64, number of valid samples.
        digits: [N] int32, the spoken digit.
    """

    names: tuple[str, ...]
    waveforms: np.ndarray
    lengths: np.ndarray
    digits: np.ndarray


def load_clips(takes: Collection[int], samples: int, folder: Path | None, about: About) -> Clips:
    """Reads the recordings with the given indices: all digits, all speakers.

    The folder must hold the complete data set and nothing else, so that nobody trains on fewer or
    on other clips without noticing.

    Args:
        takes: indices of the recordings, from 0 to 49.
        samples: length to which the clips are cut or zero-padded at their end.
        folder: the folder of raw data that holds `fsdd/recordings/`; None if none was given.
        about: the entry of the data set that uses the clips.

    Raises:
        DataError: the folder is missing, empty or incomplete, or has a file that is damaged or
            does not belong to the data set.
    """
    recordings = require(folder, FOLDER, about)
    _check_names(recordings)
    keys = list(itertools.product(range(10), SPEAKERS, sorted(takes)))
    names = tuple(f"{digit}_{speaker}_{take}.wav" for digit, speaker, take in keys)
    waveforms = np.zeros((len(keys), samples), np.float32)
    lengths = np.zeros(len(keys), np.int64)
    for row, name in enumerate(names):
        waveform = read_wav(recordings / name, SAMPLE_RATE)[:samples]
        waveforms[row, : len(waveform)] = waveform
        lengths[row] = len(waveform)
    return Clips(names, waveforms, lengths, np.array([key[0] for key in keys], np.int32))


def _check_names(recordings: Path) -> None:
    again = f"download the recordings again from {HOMEPAGE}"
    found = sorted(path.name for path in recordings.iterdir())
    if not found:
        raise DataError(f"{recordings} is empty: {again}.")
    for name in found:
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise DataError(
                f"{recordings / name} is not named digit_speaker_index.wav, as in 3_theo_17.wav: "
                "rename it, or remove it from the folder."
            )
        if parts[2] not in SPEAKERS or int(parts[3]) >= TAKES:
            raise DataError(
                f"{recordings / name} is not one of the {TAKES} recordings of each of the "
                f"{len(SPEAKERS)} speakers ({', '.join(SPEAKERS)}): remove it from the folder."
            )
    expected = [
        f"{digit}_{speaker}_{take}.wav"
        for digit, speaker, take in itertools.product(range(10), SPEAKERS, range(TAKES))
    ]
    missing = sorted(set(expected) - set(found))
    if missing:
        raise DataError(
            f"{recordings} lacks {len(missing):,} of the {len(expected):,} clips, among them "
            f"{', '.join(missing[:3])}: {again}."
        )
