"""`mosi_utterance`: CMU-MOSI, spoken opinions on films, with three feature vectors per utterance.

References:
    Zadeh, Zellers, Pincus and Morency, "Multimodal sentiment intensity analysis in videos: facial
    gestures and verbal messages", IEEE Intelligent Systems, 2016 (the data). Poria, Cambria,
    Hazarika, Majumder, Zadeh and Morency, "Context-dependent sentiment analysis in user-generated
    videos", ACL 2017 (the features and the split).
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.data.files import require
from mmjax.data.npz import read_npz
from mmjax.errors import ConfigError, DataError

_FILE = "mosi_utterance/mosi_utterance.npz"
_WIDTHS = {"text": 100, "audio": 73, "visual": 100}
_TRAIN_SIZE, _TEST_SIZE = 1_447, 752
_SIZE = _TRAIN_SIZE + _TEST_SIZE
_TRAIN_VIDEOS = 62
_SHAPES = {name: (_SIZE, width) for name, width in _WIDTHS.items()} | dict.fromkeys(
    ("sentiment", "label_binary", "poria_split", "video"), (_SIZE,)
)
# Keys of the random streams of this file.
_VIDEOS, _HIDDEN = 201, 202


@dataclasses.dataclass(frozen=True)
class MOSIUtterance(Dataset):
    """2,199 utterances in 93 videos of film reviews, as text, audio and visual feature vectors.

    Targets: `sentiment`, a number from -3 to 3, and `positive`, whether it is 0 or more. The
    sentiment of 4 utterances is unknown, but not their `positive`.

    Splits: those of Poria et al., by video, train 1,447 and test 752 utterances; `valid` is
    `valid_videos` of the 62 training videos. The text and visual features were fitted with the
    labels of all 62, so scores on train and valid are far too high, and `valid` is not suitable for
    model selection.

    The file holds one array for each modality, [2199, width], and these arrays [2199]:
    `sentiment`, NaN if unknown; `label_binary`, 1 for positive; `poria_split`, 0 for train and 1
    for test; `video`, the name of the video.

    Attributes:
        valid_videos: number of training videos in `valid`, 1 to 61.
        hidden: fraction of the known sentiments of train, in [0, 1), that are made unknown;
            `positive` stays known. What is hidden at one fraction is hidden at every larger one.
        seed: chooses the videos of `valid` and the hidden sentiments; 0 or more.
        standardise: whether all splits are standardised by mean and standard deviation over train.
            Else the values are as in the file, up to 376.
    """

    valid_videos: int = 10
    hidden: float = 0.0
    seed: int = 0
    standardise: bool = True

    name: ClassVar[str] = "mosi_utterance"
    about: ClassVar[About] = About(
        title="CMU-MOSI: sentiment of spoken utterances, as feature vectors",
        citation="Zadeh et al., Multimodal sentiment intensity analysis in videos, IEEE "
        "Intelligent Systems, 2016; features: Poria et al., Context-dependent sentiment analysis "
        "in user-generated videos, ACL 2017",
        licence="research use only",
        homepage="https://github.com/soujanyaporia/multimodal-sentiment-analysis (pickle files; "
        "the docstring of mmjax.data.MOSIUtterance lists the arrays of the .npz)",
        files={_FILE: "0cd9b75fac1414f241c1b12883cd069d31e4c381d5cf9b8ba8ac423870d184ff"},
    )

    def __post_init__(self) -> None:
        if not 1 <= self.valid_videos < _TRAIN_VIDEOS:
            raise ConfigError(
                f"mosi_utterance: valid_videos is {self.valid_videos}, but there are only "
                f"{_TRAIN_VIDEOS} training videos: choose 1 to {_TRAIN_VIDEOS - 1}."
            )
        if not 0 <= self.hidden < 1:
            raise ConfigError(
                f"mosi_utterance: hidden is {self.hidden}; it is a fraction, so choose 0 or more "
                "and less than 1."
            )
        if self.seed < 0:
            raise ConfigError(f"mosi_utterance: seed is {self.seed}; choose 0 or more.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {name: Modality("vector", (width,)) for name, width in _WIDTHS.items()}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {
            "sentiment": Target("number"),
            "positive": Target("class", 2, names=("negative", "positive")),
        }

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        path = require(folder, _FILE, self.about)
        arrays = read_npz(path, _SHAPES, gaps=("sentiment",), texts=("video",))
        rows = self._rows(arrays["poria_split"], arrays["video"], path)
        if not np.isin(arrays["label_binary"], (0, 1)).all():
            raise DataError(
                f"The array label_binary of {path} has values other than 0 and 1: make or download "
                "the file again."
            )
        inputs = {}
        for name in _WIDTHS:
            values = arrays[name].astype(np.float64)
            if self.standardise:
                train = values[rows["train"]]
                deviation = train.std(axis=0)
                values = (values - train.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
            inputs[name] = values[rows[split]].astype(np.float32)
        sentiment = arrays["sentiment"][rows[split]].astype(np.float32)
        if split == "train":
            known = np.flatnonzero(~np.isnan(sentiment))
            order = np.random.default_rng((self.seed, _HIDDEN)).permutation(known)
            sentiment[order[: round(self.hidden * len(known))]] = np.nan
        return ArraySource(
            inputs=inputs,
            targets={
                "sentiment": sentiment,
                "positive": arrays["label_binary"][rows[split]].astype(np.int32),
            },
        )

    def _rows(self, of_test: np.ndarray, video: np.ndarray, path: Path) -> dict[str, np.ndarray]:
        """Split -> rows of the file."""
        videos = np.unique(video[of_test == 0])
        shared = np.intersect1d(videos, video[of_test == 1])
        sizes = [int((of_test == number).sum()) for number in (0, 1)]
        if sizes != [_TRAIN_SIZE, _TEST_SIZE] or len(videos) != _TRAIN_VIDEOS or len(shared):
            raise DataError(
                f"The arrays poria_split and video of {path} do not have {_TRAIN_SIZE:,} "
                f"utterances of {_TRAIN_VIDEOS} videos with 0 (train), and {_TEST_SIZE} of other "
                "videos with 1 (test): make or download the file again."
            )
        order = np.random.default_rng((self.seed, _VIDEOS)).permutation(videos)
        held_out = np.isin(video, order[: self.valid_videos])
        return {
            "train": np.flatnonzero((of_test == 0) & ~held_out),
            "valid": np.flatnonzero(held_out),
            "test": np.flatnonzero(of_test == 1),
        }
