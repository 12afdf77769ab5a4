"""`noisy_mnist`: a rotated MNIST image, and another image of the same digit with noise.

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
_CHUNK = 200  # images at once, so that they fit into the processor's cache


@dataclasses.dataclass(frozen=True)
class NoisyMNIST(Dataset):
    """Two views of a digit that have only its class in common.

    `rotated` is an image with pixels in [0, 1], rotated about its centre by an angle that is
    uniform in [-pi/4, pi/4]. `noisy` is another image of the same class and split, plus noise
    uniform in [0, 1] at every pixel, clipped at 1. Both are vectors of 784.

    The `noisy` image is drawn uniformly from the other images of the class, with replacement: an
    image is `rotated` in exactly one pair, and `noisy` in any number of pairs. The paper does not
    give the interpolation of the rotation; here it is bilinear, on a black background.

    Splits: train is the first 50,000 images of the official training part and valid its last
    10,000, test the official 10,000: the sizes of the paper (which of the 60,000 it tuned on is not
    published). Images keep their order, so example i of `rotated` is image i of the split.

    Angles, partners and noise are part of the data: those of example i are a function of (`seed`,
    split, i), the same in every epoch and run.

    Attributes:
        seed: chooses angles, partners and noise; 0 or more.
    """

    seed: int = 0

    name: ClassVar[str] = "noisy_mnist"
    about: ClassVar[About] = About(
        title="Rotated MNIST digits, each paired with a noisy image of its class",
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
        """Modality name -> kind, shape and dtype of one example."""
        picture = Modality("vector", (mnist.SIDE * mnist.SIDE,))
        return {"rotated": picture, "noisy": picture}

    @property
    def layouts(self) -> dict[str, tuple[int, int]]:
        """Modality -> height and width of its image, for previews."""
        return {"rotated": (mnist.SIDE, mnist.SIDE), "noisy": (mnist.SIDE, mnist.SIDE)}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", 10)}

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split and makes all its examples; see `Dataset.load`."""
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
    """Draws for every row another row with the same label, uniformly.

    Args:
        labels: [N] labels; each occurs at least twice.
        rng: the generator; its state changes.

    Returns:
        [N] row numbers.
    """
    partners = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        ahead = rng.integers(1, len(rows), len(rows))  # not 0 or len(rows), the row itself
        partners[rows] = rows[(np.arange(len(rows)) + ahead) % len(rows)]
    return partners
