"""Random transforms of training batches; splits that are evaluated are never transformed.

A transform is a frozen dataclass. There are two kinds, and both give the same result when a run is
resumed:

- `Transform` changes a batch as a whole. The training pipeline calls it with a generator that is
  seeded by the run's seed, the batch's number and the process, so N processes make other batches
  than one.
- `RecordTransform` changes each record alone. Every record has its own generator, a function of the
  run's seed, the transform's position in the list, the record's number in the training split (after
  selections, so that a record that is selected twice is changed in two ways) and the epoch. So the
  result depends neither on the batch that a record is in nor on the number of processes.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mmjax.data.images import rotate
from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Batch, Modality


class Transform(abc.ABC):
    """Base of the transforms."""

    @abc.abstractmethod
    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A transformed batch; the given one and its arrays are not changed."""

    def check(self, modalities: Mapping[str, Modality]) -> None:  # noqa: B027
        """Checks, before the first step, that the transform fits the data set's modalities.

        Raises:
            ConfigError: it does not.
        """


class RecordTransform(Transform):
    """Base of the transforms of one modality that change each record alone.

    Records without the modality are left as they are.

    Attributes:
        modality: name of the modality.
        kinds: the kinds of modality that it changes.
    """

    modality: str
    kinds: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def change(
        self, values: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """One changed record; the given arrays are not changed.

        Args:
            values: of one record, in the modality's shape.
            valid: [T] its mask, or None if the modality has none.
            rng: the generator of this record in this epoch.

        Returns:
            Values of the same shape and dtype, and their mask.
        """

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch of changed records, with generators that are drawn from the given one."""
        seeds = rng.integers(2**63, size=len(batch.ids)).tolist()
        return self.change_records(batch, [np.random.default_rng(seed) for seed in seeds])

    def change_records(self, batch: Batch, rngs: Sequence[np.random.Generator]) -> Batch:
        """A batch of changed records, each with its own generator."""
        _check_modality(self.modality, batch)
        values = np.array(batch.inputs[self.modality])
        masks = batch.masks.get(self.modality)
        masks = None if masks is None else np.array(masks)
        for row in np.flatnonzero(batch.present[self.modality]).tolist():
            valid = None if masks is None else masks[row]
            values[row], after = self.change(values[row], valid, rngs[row])
            if masks is not None:
                masks[row] = after
        changed = {} if masks is None else {self.modality: masks}
        return dataclasses.replace(
            batch,
            inputs={**batch.inputs, self.modality: values},
            masks={**batch.masks, **changed},
        )

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """Checks that the data set has the modality, of a kind that this transform changes."""
        if self.modality not in modalities:
            raise unknown_name("modality", self.modality, modalities)
        kind = modalities[self.modality].kind
        if kind not in self.kinds:
            raise ConfigError(
                f"{type(self).__name__} changes a modality of the kind {' or '.join(self.kinds)}, "
                f"but {self.modality!r} is of the kind {kind}: choose another transform or "
                "modality."
            )


def check_range(
    transform: Transform, *fields: str, least: float | int = 0, most: float | int = 1
) -> None:
    """Checks that fields of a transform are numbers from `least` to `most`."""
    for field in fields:
        value = getattr(transform, field)
        if not least <= value <= most:
            raise ConfigError(
                f"{type(transform).__name__}: {field} is {value}; choose it from {least:g} to "
                f"{most:g}."
            )


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
        check_range(self, "rate")

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
        check_range(self, "degrees", "pixels", most=1e6)

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
