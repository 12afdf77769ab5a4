"""`mnist_halves`: the left and right halves of MNIST images.

Reference:
    Andrew, Arora, Bilmes and Livescu, "Deep canonical correlation analysis", ICML 2013, section
    5.1.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data import mnist
from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target

_TRAIN_SIZE = 54_000  # of the 60,000 official training images; the rest is `valid`
_SPLIT_SEED = 0  # of the permutation that makes the splits, the same for all users
_HALF = mnist.SIDE // 2


@dataclasses.dataclass(frozen=True)
class MNISTHalves(Dataset):
    """MNIST with pixels in [0, 1]: columns 0-13 and columns 14-27.

    Splits: train 54,000 and valid 6,000 of the official training part, test 10,000, as in the paper
    (which of the 60,000 the paper validated on is not published).
    """

    name: ClassVar[str] = "mnist_halves"
    about: ClassVar[About] = About(
        title="Left and right halves of MNIST's handwritten digits",
        citation=f"{mnist.CITATION}; the halves: Andrew, Arora, Bilmes and Livescu, ICML 2013",
        licence="freely used for research",
        homepage=mnist.HOMEPAGE,
        files=mnist.SHA256,
    )

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        half = Modality("vector", (mnist.SIDE * _HALF,))
        return {"left": half, "right": half}

    @property
    def layouts(self) -> dict[str, tuple[int, int]]:
        """Modality -> height and width of its image, for previews."""
        return {"left": (mnist.SIDE, _HALF), "right": (mnist.SIDE, _HALF)}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", 10)}

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        images, labels = mnist.load_mnist(
            "t10k" if split == "test" else "train", folder, self.about
        )
        if split != "test":
            order = np.random.default_rng(_SPLIT_SEED).permutation(len(images))
            rows = order[:_TRAIN_SIZE] if split == "train" else order[_TRAIN_SIZE:]
            images, labels = images[rows], labels[rows]

        def vectors(half: np.ndarray) -> np.ndarray:
            return half.reshape(len(half), -1).astype(np.float32) / 255

        return ArraySource(
            inputs={"left": vectors(images[:, :, :_HALF]), "right": vectors(images[:, :, _HALF:])},
            targets={"label": labels},
        )
