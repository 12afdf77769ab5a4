"""Random changes of waveforms; `mmjax.layers.SpecAugment` is one of spectrograms."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mmjax.data.transforms import RecordTransform, check_range
from mmjax.errors import ConfigError
from mmjax.structs import Modality


class _OfAudio(RecordTransform):
    """Base: changes waveforms [S]; they stay in [-1, 1], with zeros at masked samples."""

    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def change(
        self, values: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `RecordTransform.change`."""
        there = np.ones(values.shape, bool) if valid is None else valid
        changed = self.waveform(np.where(there, values, 0), there, rng)
        return np.where(there, np.clip(changed, -1, 1), 0).astype(values.dtype), valid

    @abc.abstractmethod
    def waveform(self, x: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed waveform [S] of one with zeros at samples that are not `valid` [S]."""


@dataclasses.dataclass(frozen=True)
class TimeShift(_OfAudio):
    """Moves a waveform earlier or later; silence moves in, and what moves out is lost.

    The valid samples stay the same ones.

    Attributes:
        modality: name of a modality of audio.
        samples: largest shift in both directions; the shift is uniform.
    """

    modality: str
    samples: int

    def __post_init__(self) -> None:
        check_range(self, "samples", most=2**31)

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """See `Transform.check`."""
        super().check(modalities)
        (length,) = modalities[self.modality].shape
        if self.samples >= length:
            raise ConfigError(
                f"TimeShift: samples is {self.samples}, but the waveforms of {self.modality!r} "
                f"have {length} samples, so that nothing may be left of them: choose less."
            )

    def waveform(self, x: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        later = int(rng.integers(-self.samples, self.samples + 1))
        moved = np.zeros_like(x)
        moved[max(later, 0) : len(x) + later] = x[max(-later, 0) : len(x) - later]
        return moved


@dataclasses.dataclass(frozen=True)
class RandomGain(_OfAudio):
    """Makes a waveform louder or quieter; what leaves [-1, 1] is cut.

    Attributes:
        modality: name of a modality of audio.
        decibels: largest change in both directions, from 0 to 100; the change is uniform in it.
    """

    modality: str
    decibels: float = 6.0

    def __post_init__(self) -> None:
        check_range(self, "decibels", most=100)

    def waveform(self, x: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        return x * np.float32(10 ** (rng.uniform(-self.decibels, self.decibels) / 20))


@dataclasses.dataclass(frozen=True)
class BackgroundNoise(_OfAudio):
    """Adds white Gaussian noise at a random ratio of the signal's power to that of the noise.

    The powers are means over the valid samples: silence stays as it is. What leaves [-1, 1] is cut.

    Attributes:
        modality: name of a modality of audio.
        least: smallest ratio, in decibels, from -100 to 100.
        most: largest ratio, in decibels, from `least` to 100; the ratio is uniform in decibels.
    """

    modality: str
    least: float = 5.0
    most: float = 30.0

    def __post_init__(self) -> None:
        check_range(self, "least", least=-100, most=100)
        check_range(self, "most", least=self.least, most=100)

    def waveform(self, x: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        ratio = 10 ** (rng.uniform(self.least, self.most) / 10)
        power = np.mean(x[valid] ** 2) if valid.any() else 0.0
        return x + rng.standard_normal(len(x), np.float32) * np.float32(np.sqrt(power / ratio))
