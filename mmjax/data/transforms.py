"""Random transforms of training batches.

A transform is a frozen dataclass. The training pipeline calls it with every batch and a generator
that is seeded by the run's seed, the batch's number and the process, so the result is the same when
a run is resumed. Each process has its own generator, so with transforms, N processes make other
batches than one.
"""

import abc
import dataclasses
import math

import numpy as np

from mmjax.data.images import rotate
from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Batch


class Transform(abc.ABC):
    """Base of the transforms."""

    @abc.abstractmethod
    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A transformed batch; the given one and its arrays are not changed."""


@dataclasses.dataclass(frozen=True)
class AddNoise(Transform):
    """Adds Gaussian noise to one modality.

    If the modality has a mask, only valid positions are changed. Values are not clipped.

    Attributes:
        modality: name of a modality with float values.
        std: standard deviation, in the units of the modality.
    """

    modality: str
    std: float

    def __post_init__(self) -> None:
        if not 0 <= self.std < np.inf:
            raise ConfigError(f"AddNoise: std is {self.std}; choose 0 or more.")

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch with noise; see `Transform`."""
        _check_modality(self.modality, batch)
        clean = batch.inputs[self.modality]
        if not np.issubdtype(clean.dtype, np.floating):
            raise ConfigError(
                f"AddNoise: modality {self.modality!r} has dtype {clean.dtype}, to which noise "
                "cannot be added: choose one with float values."
            )
        noise = rng.standard_normal(clean.shape, np.float32) * np.float32(self.std)
        if self.modality in batch.masks:
            mask = batch.masks[self.modality]
            noise *= mask.reshape(mask.shape + (1,) * (noise.ndim - mask.ndim))
        noisy = (clean + noise).astype(clean.dtype)
        return dataclasses.replace(batch, inputs={**batch.inputs, self.modality: noisy})


@dataclasses.dataclass(frozen=True)
class DropModality(Transform):
    """Marks one modality as absent (`present` is False) in randomly chosen rows.

    A row always keeps its last modality: if no other is present, it is not dropped. So the second
    of two such transforms drops less than its rate. The values are not changed: code that reads
    them must respect `present`.

    Attributes:
        modality: name of the modality.
        rate: probability for each row, from 0 to 1.
    """

    modality: str
    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ConfigError(f"DropModality: rate is {self.rate}; choose it from 0 to 1.")

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch with the modality dropped in some rows; see `Transform`."""
        _check_modality(self.modality, batch)
        present = batch.present[self.modality]
        others = [rows for name, rows in batch.present.items() if name != self.modality]
        spare = np.any(others, axis=0) if others else np.zeros_like(present)
        dropped = rng.random(len(present)) < self.rate
        kept = present & ~(dropped & spare)
        return dataclasses.replace(batch, present={**batch.present, self.modality: kept})


@dataclasses.dataclass(frozen=True)
class RandomAffine(Transform):
    """Rotates and shifts the images of one modality, each by random amounts.

    Interpolation is bilinear; outside, images are zero.

    Attributes:
        modality: name of a modality of square images with float values and one channel,
            [S, S, 1], [S, S] or flattened.
        degrees: largest rotation in both directions; angles are uniform.
        pixels: largest shift along each axis in both directions; shifts are uniform.
    """

    modality: str
    degrees: float = 0.0
    pixels: float = 0.0

    def __post_init__(self) -> None:
        for name in ("degrees", "pixels"):
            if not 0 <= getattr(self, name) <= 1e6:
                raise ConfigError(
                    f"RandomAffine: {name} is {getattr(self, name)}; choose it from 0 to 1e6."
                )

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch with rotated and shifted images; see `Transform`."""
        _check_modality(self.modality, batch)
        images = batch.inputs[self.modality]
        side = math.isqrt(math.prod(images.shape[1:]))
        square = images.shape[1:] in ((side, side, 1), (side, side), (side * side,))
        if not square or not np.issubdtype(images.dtype, np.floating):
            raise ConfigError(
                f"RandomAffine: modality {self.modality!r} has dtype {images.dtype} and shape "
                f"{images.shape[1:]}: choose one with square images of float values and one "
                "channel."
            )
        largest = np.deg2rad(self.degrees)
        angles = rng.uniform(-largest, largest, len(images))
        shifts = rng.uniform(-self.pixels, self.pixels, (len(images), 2))
        moved = rotate(images.reshape(-1, side, side).astype(np.float32), angles, shifts)
        moved = moved.reshape(images.shape).astype(images.dtype)
        return dataclasses.replace(batch, inputs={**batch.inputs, self.modality: moved})


def _check_modality(name: str, batch: Batch) -> None:
    if name not in batch.inputs:
        raise unknown_name("modality", name, batch.inputs)
