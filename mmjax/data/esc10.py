"""`esc10`: environmental sounds of ten classes, in five folds.

Reference:
    Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015; of the ten
    classes, Piczak, "Environmental sound classification with convolutional neural networks", MLSP
    2015, reports 80.25 % of a convolutional network, the mean over the five folds.
"""

import csv
import dataclasses
import io
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile

from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.data.files import read_bytes, require
from mmjax.errors import ConfigError, DataError

_TABLE, _AUDIO = "esc10/esc10.csv", "esc10/audio/"
_RATE, _SECONDS, _FOLDS = 16_000, 5, 5


@dataclasses.dataclass(frozen=True)
class Esc10(Dataset):
    """400 clips of 5 seconds at 16 kHz, 40 of each class, in five folds of 80.

    Clips of one original recording are in one fold. `audio` [80000] in [-1, 1]; `label` is the
    class, in the order of `classes`. `test` is the fold `fold`, and `train` the four others, as
    in the paper; there is no `valid`, so the length of the training is chosen beforehand. A result
    is the mean over the five folds.

    Attributes:
        fold: the fold of `test`, 1 to 5.
    """

    fold: int = 1

    name: ClassVar[str] = "esc10"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    about: ClassVar[About] = About(
        title="Environmental sounds of ten classes (a part of ESC-50)",
        citation="Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015",
        licence="CC BY 3.0, with the attributions of its README",
        homepage="https://github.com/karolpiczak/ESC-50 (resampled to 16 kHz as Ogg Vorbis; the "
        "columns of esc10.csv are filename, fold, target, category)",
        files={
            _TABLE: "07b6f78c44ebf0e8eb8e38bd8b6d95a4bca4983de28a0c921435c28b880c137d",
            _AUDIO: "69fc4e5b681a6655ba126ab63cbb3fcc7714056c727eda818cbfad4c35c1727e",
        },
    )
    classes: ClassVar[tuple[str, ...]] = (
        "dog_bark",
        "rain",
        "sea_waves",
        "baby_cry",
        "clock_tick",
        "person_sneeze",
        "helicopter",
        "chainsaw",
        "rooster",
        "fire_crackling",
    )

    def __post_init__(self) -> None:
        if not 1 <= self.fold <= _FOLDS:
            raise ConfigError(f"esc10: fold is {self.fold}; choose it from 1 to {_FOLDS}.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {"audio": Modality("audio", (_RATE * _SECONDS,), sample_rate=_RATE)}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", len(self.classes), names=self.classes)}

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        rows = [
            row
            for row in _rows(require(folder, _TABLE, self.about), self.classes)
            if (row[1] == self.fold) == (split == "test")
        ]
        audio = require(folder, _AUDIO, self.about)
        waveforms = np.stack([_read(audio / name) for name, _, _ in rows])
        labels = np.array([label for _, _, label in rows], np.int32)
        return ArraySource({"audio": waveforms}, {"label": labels})


def _rows(table: Path, classes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """The (file name, fold, class) of each clip."""
    damaged = f"{table} is damaged"
    try:
        lines = list(csv.DictReader(io.StringIO(read_bytes(table).decode("utf-8"))))
        rows = [(line["filename"], int(line["fold"]), int(line["target"])) for line in lines]
    except (UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{damaged} ({error!r}): download it again.") from None
    for name, fold, label in rows:
        inside = Path(name).name == name and name not in ("", ".", "..")
        if not inside or not 1 <= fold <= _FOLDS or not 0 <= label < len(classes):
            raise DataError(
                f"{damaged}: the line of {name!r} has the fold {fold} and the class {label}: "
                "download it again."
            )
    if len({name for name, _, _ in rows}) != len(rows) or {row[1] for row in rows} != set(
        range(1, _FOLDS + 1)
    ):
        raise DataError(
            f"{damaged}: a clip is listed twice, or a fold is empty: download it again."
        )
    return rows


def _read(path: Path) -> np.ndarray:
    """A clip as [S] float32: 16 kHz, one channel, cut or padded with zeros to 5 seconds."""
    try:
        samples, rate = soundfile.read(io.BytesIO(read_bytes(path)), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path} cannot be read ({error}): download it again.") from None
    if rate != _RATE or samples.ndim != 1 or not samples.size:
        raise DataError(
            f"{path} has {rate} Hz and the shape {samples.shape}, but clips have {_RATE} Hz and "
            "one channel: resample it."
        )
    samples = samples[: _RATE * _SECONDS]
    # Ogg Vorbis overshoots a little.
    return np.pad(np.clip(samples, -1, 1), (0, _RATE * _SECONDS - len(samples)))
