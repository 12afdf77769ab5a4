"""`noisy_mnist`: a rotated MNIST digit, and another image of the same digit under noise.

Reference:
    Wang, Arora, Livescu and Bilmes, "On deep multi-view representation learning", ICML 2015.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data import mnist
from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.data.images import rotate
from mmjax.errors import ConfigError

_TRAIN_SIZE = 50_000  # of the 60,000 official training images; the rest is `valid`
_LARGEST_ANGLE = np.pi / 4
_CHUNK = 200  # images at once: more of them no longer fit into the processor's cache


@dataclasses.dataclass(frozen=True)
class NoisyMNIST(Dataset):
    """Two views of a digit that have only its class in common.

    `rotated` is a digit with pixels in [0, 1], rotated about its middle by an angle that is uniform
    in [-pi/4, pi/4], as large as before. `noisy` is another image of the same class and split, plus
    noise uniform in [0, 1] at every pixel, above 1 set to 1. Both are vectors of 784.

    The partner is drawn uniformly from the other images of the class, with replacement: an image
    may be in several pairs, or in none, as `noisy`, and is in exactly one as `rotated`. The paper
    does not name the interpolation of the rotation; here it is bilinear, on a black ground.

    Splits: train is the first 50,000 images of the official training part and valid its last
    10,000, test the official 10,000: the sizes of the paper (which of the 60,000 it tuned on is not
    published). Images stay in their order, so example i of `rotated` is image i of the split.

    Angles, partners and noise are part of the data: those of example i are a function of (`seed`,
    split, i), the same in every epoch and run.

    Attributes:
        seed: chooses angles, partners and noise; 0 or more.
    """

    seed: int = 0

    name: ClassVar[str] = "noisy_mnist"
    about: ClassVar[About] = About(
        title="Rotated digits of MNIST, each with another one of its class under noise",
        citation=f"{mnist.CITATION}; the views: Wang, Arora, Livescu and Bilmes, ICML 2015",
        licence="freely used for research",
        homepage=mnist.HOMEPAGE,
        files=mnist.SHA256,
    )

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"noisy_mnist: seed is {self.seed}; choose 0 or more.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> what one example of it looks like."""
        picture = Modality("vector", (mnist.SIDE * mnist.SIDE,))
        return {"rotated": picture, "noisy": picture}

    @property
    def layouts(self) -> dict[str, tuple[int, int]]:
        """Modality -> height and width of the picture that its vector is; for previews."""
        return {"rotated": (mnist.SIDE, mnist.SIDE), "noisy": (mnist.SIDE, mnist.SIDE)}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> what is to be predicted of one example."""
        return {"label": Target("class", 10)}

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split, all of its examples made at once; see `Dataset.load`."""
        self.check_split(split)
        images, labels = mnist.load_mnist(
            "t10k" if split == "test" else "train", folder, self.about
        )
        if split != "test":
            part = slice(_TRAIN_SIZE) if split == "train" else slice(_TRAIN_SIZE, None)
            images, labels = images[part], labels[part]
        seed = np.random.SeedSequence((self.seed, self.splits.index(split)))
        of_angles, of_partners, of_noise = map(np.random.default_rng, seed.spawn(3))
        angles = of_angles.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE, len(images))
        partners = draw_partners(labels, of_partners)
        rotated = np.empty(images.shape, np.float32)
        noisy = of_noise.random(images.shape, np.float32)
        for start in range(0, len(images), _CHUNK):
            rows = slice(start, start + _CHUNK)
            rotated[rows] = rotate(images[rows].astype(np.float32) / 255, angles[rows])
            noisy[rows] += images[partners[rows]].astype(np.float32) / 255
        np.minimum(noisy, 1, out=noisy)
        return ArraySource(
            inputs={
                "rotated": rotated.reshape(len(images), -1),
                "noisy": noisy.reshape(len(images), -1),
            },
            targets={"label": labels},
        )


def draw_partners(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws for every row another one with the same label, each of them equally likely.

    Args:
        labels: [N] labels, each of which comes at least twice.
        rng: draws; it is changed.

    Returns:
        [N] rows.
    """
    partners = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        ahead = rng.integers(1, len(rows), len(rows))  # never all around, to the row itself
        partners[rows] = rows[(np.arange(len(rows)) + ahead) % len(rows)]
    return partners
