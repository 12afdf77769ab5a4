"""Damage to one modality, at five severities: for measuring how robust a trained model is.

`mmjax evaluate RUN --robustness` applies each of them to the modalities of its kind. They are
transforms too, and may be listed in `Experiment.transforms`. What a record becomes depends on its
number and the seed alone, not on its batch.

The strengths of noise and contrast on images are those of Hendrycks and Dietterich, Benchmarking
Neural Network Robustness to Common Corruptions, ICLR 2019; all others are ours. They are for data
of the ranges that `Modality` states.
"""

import abc
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import scipy.ndimage
import scipy.signal

from mmjax.data.transforms import RecordTransform
from mmjax.errors import ConfigError
from mmjax.structs import Batch, Modality

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Corruption(RecordTransform):
    """Base of the corruptions.

    Attributes:
        modality: name of the modality.
        severity: 1 to 5.
    """

    modality: str
    severity: int = 3
    strengths: ClassVar[tuple[float, float, float, float, float]]

    def __post_init__(self) -> None:
        check_severity(self.severity)

    @property
    def strength(self) -> float:
        """What the class says, at this severity."""
        return float(self.strengths[self.severity - 1])

    def change(
        self, values: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `RecordTransform.change`."""
        return self.damaged(values, valid, rng), valid

    @abc.abstractmethod
    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """The damaged values of one record, in their shape and dtype."""


class _OfPixels(Corruption):
    """Base: computes on floats in [0, 1], and gives what it got, uint8 or floats."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "video")

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        scale = np.float32(255 if x.dtype == np.uint8 else 1)
        found = np.clip(self.pixels(x.astype(np.float32) / scale, rng), 0, 1) * scale
        return (np.rint(found) if x.dtype == np.uint8 else found).astype(x.dtype)

    @abc.abstractmethod
    def pixels(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The damaged image [..., height, width, channels] in [0, 1]."""


class NoisyPixels(_OfPixels):
    """Adds Gaussian noise; the strength is its standard deviation."""

    strengths = (0.08, 0.12, 0.18, 0.26, 0.38)

    def pixels(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `_OfPixels.pixels`."""
        return x + self.strength * rng.standard_normal(x.shape, np.float32)


class BlurredPixels(_OfPixels):
    """A Gaussian blur; the strength is its deviation as a share of the height."""

    strengths = (0.01, 0.02, 0.04, 0.06, 0.08)

    def pixels(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `_OfPixels.pixels`."""
        sigma = [0.0] * x.ndim
        sigma[-3] = sigma[-2] = self.strength * x.shape[-3]
        return scipy.ndimage.gaussian_filter(x, sigma, mode="nearest")


class OccludedPixels(_OfPixels):
    """A grey rectangle at a random place; the strength is its share of the area."""

    strengths = (0.05, 0.1, 0.2, 0.35, 0.5)

    def pixels(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `_OfPixels.pixels`."""
        sides = [max(1, round(side * self.strength**0.5)) for side in x.shape[-3:-1]]
        top, left = (
            int(rng.integers(whole - side + 1))
            for whole, side in zip(x.shape[-3:-1], sides, strict=True)
        )
        x = x.copy()
        x[..., top : top + sides[0], left : left + sides[1], :] = 0.5
        return x


class PalePixels(_OfPixels):
    """Less contrast: the strength is the share of the distance to the image's mean that stays."""

    strengths = (0.4, 0.3, 0.2, 0.1, 0.05)

    def pixels(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `_OfPixels.pixels`."""
        mean = x.mean(axis=(-3, -2), keepdims=True)
        return mean + self.strength * (x - mean)


class NoisyAudio(Corruption):
    """Adds white noise; the strength is the ratio of signal to noise in decibels."""

    kinds: ClassVar[tuple[str, ...]] = ("audio",)
    strengths = (20, 15, 10, 5, 0)

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        heard = np.ones(len(x), bool) if valid is None else valid
        power = np.mean(x[heard] ** 2) if heard.any() else 0.0
        deviation = np.sqrt(power / 10 ** (self.strength / 10))
        noise = deviation * rng.standard_normal(len(x), np.float32)
        return np.where(heard, x + noise, x).astype(x.dtype)


class ReverberantAudio(Corruption):
    """Convolution with decaying noise of 2,000 samples, at the loudness of before.

    The strength is the share of the energy of the response that comes after the first sample.
    """

    kinds: ClassVar[tuple[str, ...]] = ("audio",)
    strengths = (0.2, 0.4, 0.6, 0.8, 0.95)

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        tail = rng.standard_normal(2000) * np.exp(-np.arange(2000) / 400)
        tail *= np.sqrt(self.strength / np.sum(tail**2))
        response = np.concatenate([[np.sqrt(1 - self.strength)], tail])
        wet = scipy.signal.fftconvolve(x, response)[: len(x)]
        wet = wet if valid is None else np.where(valid, wet, x)
        loudness, before = np.sqrt(np.mean(wet**2)), np.sqrt(np.mean(x**2))
        return (wet * (before / loudness if loudness > 0 else 1)).astype(x.dtype)


class AudioDropouts(Corruption):
    """Silent gaps of a fiftieth of the clip; the strength is their share of it."""

    kinds: ClassVar[tuple[str, ...]] = ("audio",)
    strengths = (0.05, 0.1, 0.2, 0.4, 0.6)

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        silent = rng.random(50) < self.strength
        return np.where(silent[np.arange(len(x)) * 50 // len(x)], 0, x).astype(x.dtype)


class _OfWords(Corruption):
    """Base of the corruptions of word ids [L]; the strength is the share of the words."""

    kinds: ClassVar[tuple[str, ...]] = ("text",)
    strengths = (0.1, 0.2, 0.3, 0.5, 0.7)


class DeletedWords(_OfWords):
    """Words are lost; those after them move up. The first word of a text always stays."""

    def change(
        self, values: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `RecordTransform.change`."""
        there = _words(values, valid)
        kept = there[(rng.random(len(there)) >= self.strength) | (np.arange(len(there)) == 0)]
        result, mask = np.zeros_like(values), np.zeros(len(values), bool)
        result[: len(kept)], mask[: len(kept)] = values[kept], True
        return result, None if valid is None else mask

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        return self.change(x, valid, rng)[0]


class Typos(_OfWords):
    """Words become others that the text has too, as a misspelt word is another word to the ids."""

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        there, x = _words(x, valid), x.copy()
        wrong = there[rng.random(len(there)) < self.strength]
        if len(there):
            x[wrong] = x[rng.choice(there, len(wrong))]
        return x


class SwappedWords(_OfWords):
    """Neighbours change places."""

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        there, x = _words(x, valid), x.copy()
        for one, other in itertools.pairwise(there):
            if rng.random() < self.strength:
                x[one], x[other] = x[other], x[one]
        return x


class NoisyNumbers(Corruption):
    """Adds Gaussian noise; the strength is its deviation by that of the record's values."""

    kinds: ClassVar[tuple[str, ...]] = ("vector", "sequence")
    strengths = (0.1, 0.2, 0.4, 0.8, 1.6)

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        noise = rng.standard_normal(x.shape)
        return (x + self.strength * np.std(x) * noise).astype(x.dtype)


class MissingNumbers(Corruption):
    """Values become 0; the strength is their share."""

    kinds: ClassVar[tuple[str, ...]] = ("vector", "sequence")
    strengths = (0.1, 0.2, 0.3, 0.5, 0.7)

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """See `Corruption.damaged`."""
        return np.where(rng.random(x.shape) < self.strength, 0, x).astype(x.dtype)


class MissingCells(Corruption):
    """Numbers of a table become unknown; the strength is their share. Categories stay."""

    kinds: ClassVar[tuple[str, ...]] = ("table",)
    strengths = (0.1, 0.2, 0.3, 0.5, 0.7)

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """See `Transform.check`."""
        super().check(modalities)
        if "known" not in modalities[self.modality].parts:
            raise ConfigError(
                f"The table {self.modality!r} has no part `known`, so that none of its numbers can "
                "be missing: declare it."
            )

    def change_records(self, batch: Batch, rngs: Sequence[np.random.Generator]) -> Batch:
        """See `RecordTransform.change_records`."""
        table = dict(batch.inputs[self.modality])
        known = np.array(table["known"])
        for row in np.flatnonzero(batch.present[self.modality]).tolist():
            known[row] = self.damaged(known[row], None, rngs[row])
        table["known"] = known
        return dataclasses.replace(batch, inputs={**batch.inputs, self.modality: table})

    def damaged(
        self, x: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Which numbers [n] of one record are still known."""
        return x & (rng.random(x.shape) >= self.strength)


BY_KIND: Mapping[str, Mapping[str, type[Corruption]]] = {
    "image": {
        "noise": NoisyPixels,
        "blur": BlurredPixels,
        "occlusion": OccludedPixels,
        "contrast": PalePixels,
    },
    "audio": {
        "noise": NoisyAudio,
        "reverberation": ReverberantAudio,
        "dropouts": AudioDropouts,
    },
    "text": {"deletion": DeletedWords, "typos": Typos, "swap": SwappedWords},
    "vector": {"noise": NoisyNumbers, "missing": MissingNumbers},
    "table": {"missing": MissingCells},
}
_LIKE = {"video": "image", "sequence": "vector"}


def corruptions_of(modality: Modality) -> Mapping[str, type[Corruption]]:
    """Name -> corruption of that kind of modality; empty where we have none, as for graphs."""
    if modality.parts and "known" not in modality.parts:
        return {}
    return BY_KIND.get(_LIKE.get(modality.kind, modality.kind), {})


def check_severity(severity: int) -> None:
    """Refuses a severity that is not 1 to 5; ConfigError."""
    if severity not in SEVERITIES:
        raise ConfigError(f"The severity of a corruption is {severity}: choose it from 1 to 5.")


def corrupted(corruption: Corruption, batch: Batch, seed: int) -> Batch:
    """The batch with each record damaged by generators of the seed and the record's number."""
    rngs = [np.random.default_rng([seed, int(number) & 0xFFFFFFFF]) for number in batch.ids]
    return corruption.change_records(batch, rngs)


def _words(ids: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """The places of the words in a text."""
    return np.flatnonzero(ids != 0 if valid is None else valid)
