"""`fsdd_audio`: spoken digits alone, with the official split or one speaker left out.

Reference:
    Jackson and contributors, Free Spoken Digit Dataset, 2018: recordings 0 to 4 of each speaker and
    digit are the official test part.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data import fsdd
from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.errors import unknown_name

SAMPLES = fsdd.SAMPLE_RATE  # one second
_TAKES = {"train": range(10, 50), "valid": range(5, 10), "test": range(5)}


@dataclasses.dataclass(frozen=True)
class FsddAudio(Dataset):
    """3,000 clips of the digits 0 to 9, spoken by 6 speakers, one second at 8 kHz.

    `audio` [8000] is zero-padded to one second, or cut (20 clips are longer); the mask marks the
    valid samples. `label` is the digit, `speaker` the speaker, in the order of `speakers`.

    Splits: the official one has in `test` the recordings 0 to 4 of each speaker and digit (300);
    of the others, `valid` has 5 to 9 (300) and `train` 10 to 49 (2,400), all of the same speakers.
    With `held_out`, `test` has all 500 recordings of that speaker, and `train` (2,250) and `valid`
    (250, the recordings 0 to 4) those of the five others.

    Attributes:
        held_out: the speaker who is left out of training; empty: the official split.
    """

    held_out: str = ""

    name: ClassVar[str] = "fsdd_audio"
    about: ClassVar[About] = About(
        title="Spoken digits",
        citation=fsdd.CITATION,
        licence="CC BY-SA 4.0",
        homepage=fsdd.HOMEPAGE,
        files=fsdd.SHA256,
    )
    speakers: ClassVar[tuple[str, ...]] = fsdd.SPEAKERS

    def __post_init__(self) -> None:
        if self.held_out and self.held_out not in fsdd.SPEAKERS:
            raise unknown_name("speaker of fsdd_audio", self.held_out, fsdd.SPEAKERS)

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {"audio": Modality("audio", (SAMPLES,), sample_rate=fsdd.SAMPLE_RATE)}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {
            "label": Target("class", 10),
            "speaker": Target("class", len(fsdd.SPEAKERS), names=fsdd.SPEAKERS),
        }

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        takes = _TAKES[split]
        if self.held_out:
            takes = {"train": range(5, 50), "valid": range(5), "test": range(50)}[split]
        clips = fsdd.load_clips(takes, SAMPLES, folder, self.about)
        speakers = np.array([fsdd.SPEAKERS.index(name.split("_")[1]) for name in clips.names])
        rows = np.ones(len(speakers), bool)
        if self.held_out:
            rows = (speakers == fsdd.SPEAKERS.index(self.held_out)) == (split == "test")
        return ArraySource(
            {"audio": clips.waveforms[rows]},
            {"label": clips.digits[rows], "speaker": speakers[rows].astype(np.int32)},
            masks={"audio": np.arange(SAMPLES) < clips.lengths[rows, None]},
        )
