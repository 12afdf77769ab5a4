"""`wikipedia`: sections of Wikipedia's featured articles, each with an image, as feature vectors.

Reference:
    Rasiwasia, Costa Pereira, Coviello, Doyle, Lanckriet, Levy and Vasconcelos, "A new approach to
    cross-modal multimedia retrieval", ACM Multimedia 2010, section 4.1.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.data.files import require
from mmjax.data.npz import read_npz
from mmjax.errors import ConfigError, DataError

_FILE = "wikipedia/wikipedia.npz"
_TRAIN_SIZE, _TEST_SIZE = 2_173, 693
_SIZE = _TRAIN_SIZE + _TEST_SIZE
_WORDS, _TOPICS = 128, 10
_SHAPES = {
    "image_sift_bow": (_SIZE, _WORDS),
    "text_lda": (_SIZE, _TOPICS),
    "y": (_SIZE,),
    "split": (_SIZE, 1),
}
_SPLIT_SEED = 0  # of the permutation that makes `valid`, the same for all users


@dataclasses.dataclass(frozen=True)
class Wikipedia(Dataset):
    """2,866 documents in 10 categories: an image and a text, both as the authors' features.

    `image` is the histogram of 128 visual words (SIFT), `text` the proportions of 10 topics (LDA);
    both are non-negative and sum to 1. Targets: `label` is the category, in the order of
    `categories`.

    Splits: as by the authors, train 2,173 and test 693, without a split `valid`, so that results
    are comparable with published ones. With a `valid_size`, so many documents of train, drawn
    without regard to category, form `valid`; a larger `valid` contains a smaller one.

    The file holds the authors' features and splits as four arrays: `image_sift_bow` [2866, 128],
    `text_lda` [2866, 10], `y` [2866] the category from 1 to 10, `split` [2866, 1], 0 for train and
    1 for test.

    Attributes:
        valid_size: number of documents of the official training part in `valid`, 0 to 2,172.
    """

    valid_size: int = 0

    name: ClassVar[str] = "wikipedia"
    about: ClassVar[About] = About(
        title="Images and texts of Wikipedia's featured articles, as features",
        citation="Rasiwasia et al., A new approach to cross-modal multimedia retrieval, ACM "
        "Multimedia 2010",
        licence="research use only",
        homepage="http://www.svcl.ucsd.edu/projects/crossmodal (raw_features.mat and lists; the "
        "docstring of mmjax.data.Wikipedia lists the arrays of the .npz)",
        files={_FILE: "512e0a189ba670cda1c3d16cc5a2a1c62a0b5eb6c6292320fe50f30d7fe29803"},
    )
    categories: ClassVar[tuple[str, ...]] = (
        "art",
        "biology",
        "geography",
        "history",
        "literature",
        "media",
        "music",
        "royalty",
        "sport",
        "warfare",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.valid_size < _TRAIN_SIZE:
            raise ConfigError(
                f"wikipedia: valid_size is {self.valid_size}, but there are only {_TRAIN_SIZE:,} "
                f"training documents: choose 0 to {_TRAIN_SIZE - 1:,}."
            )
        if not self.valid_size:  # then the instance has fewer splits than the class
            object.__setattr__(self, "splits", ("train", "test"))

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {"image": Modality("vector", (_WORDS,)), "text": Modality("vector", (_TOPICS,))}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", len(self.categories), names=self.categories)}

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split; see `Dataset.load`."""
        if split == "valid" and not self.valid_size:
            raise ConfigError(
                "wikipedia has a split 'valid' only if its valid_size is above 0: set it, for "
                "example to 200."
            )
        self.check_split(split)
        path = require(folder, _FILE, self.about)
        arrays = read_npz(path, _SHAPES)
        of_test, labels = arrays["split"][:, 0], arrays["y"]
        if not np.isin(of_test, (0, 1)).all() or of_test.sum() != _TEST_SIZE:
            raise DataError(
                f"The array split of {path} does not have {_TRAIN_SIZE:,} times 0 (train) and "
                f"{_TEST_SIZE} times 1 (test): make or download the file again."
            )
        if not np.isin(labels, np.arange(1, len(self.categories) + 1)).all():
            raise DataError(
                f"The array y of {path} has categories outside 1 to {len(self.categories)}: make "
                "or download the file again."
            )
        rows = np.flatnonzero(of_test == (split == "test"))
        if split != "test":
            order = np.random.default_rng(_SPLIT_SEED).permutation(_TRAIN_SIZE)
            held_out = np.zeros(_TRAIN_SIZE, bool)
            held_out[order[: self.valid_size]] = True
            rows = rows[held_out == (split == "valid")]
        return ArraySource(
            inputs={
                "image": arrays["image_sift_bow"][rows].astype(np.float32),
                "text": arrays["text_lda"][rows].astype(np.float32),
            },
            targets={"label": labels[rows].astype(np.int32) - 1},
        )
