"""From raw sound to the inputs that published weights expect."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.audio import resample
from mmjax.data.wav import read_sound
from mmjax.errors import ConfigError, DataError

Sound = str | Path | np.ndarray


@dataclasses.dataclass(frozen=True)
class Waveforms:
    """The preprocessing of sound: one channel, resampled.

    Attributes:
        sample_rate: of the result, in Hz.
        least: the smallest number of samples of a clip.
    """

    sample_rate: int
    least: int

    def __call__(
        self, raw: Sound | Sequence[Sound], *, sample_rate: int | None = None
    ) -> np.ndarray:
        """Clips to waveforms [B, S] float32, as long as the longest; one alone is a batch of 1.

        What is beyond the end of a shorter clip is NaN, so that it is not taken for silence.

        Args:
            raw: files, arrays [S] or [S, channels] of a floating type in [-1, 1], or an array of
                clips [B, S]. Channels are averaged.
            sample_rate: of the arrays, in Hz; files tell their own.

        Raises:
            DataError: see `clips`.
        """
        whole = self.clips(raw, sample_rate=sample_rate)
        rows = np.full((len(whole), max(map(len, whole))), np.nan, np.float32)
        for row, clip in zip(rows, whole, strict=True):
            row[: len(clip)] = clip
        return rows

    def clips(
        self, raw: Sound | Sequence[Sound], *, sample_rate: int | None = None
    ) -> list[np.ndarray]:
        """The clips, each [S] float32, at the sample rate of the weights.

        Raises:
            DataError: a file is missing or damaged, the sample rate of arrays is not given, or a
                clip is too short, of integers, or not finite.
        """
        if isinstance(raw, str | Path):
            sounds: Iterable[Any] = [raw]
        elif isinstance(raw, np.ndarray) and raw.ndim == 1:
            sounds = [raw]
        else:
            sounds = raw
        whole = [self._clip(index, sound, sample_rate) for index, sound in enumerate(sounds)]
        if not whole:
            raise DataError("There is no sound to preprocess: give at least one clip.")
        return whole

    def _clip(self, index: int, sound: Any, rate: int | None) -> np.ndarray:
        if isinstance(sound, str | Path):
            samples, rate = read_sound(Path(sound))
        else:
            samples = np.asarray(sound)
            if rate is None:
                raise DataError(
                    "The sample rate of arrays is not known, and the weights hear sound at "
                    f"{self.sample_rate} Hz: pass sample_rate=, in Hz."
                )
        if samples.ndim not in (1, 2):
            raise DataError(f"Clip {index} is {samples.shape}: give samples [S] or [S, channels].")
        if samples.ndim == 2:
            samples = samples.mean(1)
        if not samples.size:
            raise DataError(f"Clip {index} has no samples: leave empty clips out.")
        try:
            samples = resample(samples, rate, self.sample_rate)
        except ConfigError as error:
            raise DataError(f"Clip {index} cannot be heard. {error}") from None
        if len(samples) < self.least:
            raise DataError(
                f"Clip {index} has {len(samples)} samples at {self.sample_rate} Hz, fewer than the "
                f"{self.least} of a window: pad it with zeros."
            )
        if not np.isfinite(samples).all():
            raise DataError(f"Clip {index} has samples that are not finite: repair it.")
        return samples.astype(np.float32)
