"""From raw sound to the inputs that published weights expect."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.audio import resample
from mmjax.data.wav import read_sound
from mmjax.encoders import AST
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


@dataclasses.dataclass(frozen=True)
class FilterBanks:
    """The preprocessing of an AST: Kaldi filter banks on the device, cut or filled up with zeros.

    Attributes:
        encoder: says the sample rate, the sizes, the mean and the deviation.
    """

    encoder: AST

    def __call__(
        self, raw: Sound | Sequence[Sound], *, sample_rate: int | None = None
    ) -> np.ndarray:
        """Clips to [B, frames, bands] float32; see `Waveforms` for the arguments and errors."""
        encoder = self.encoder
        waveforms = Waveforms(encoder.sample_rate, least=encoder.frame_length)
        clips = waveforms.clips(raw, sample_rate=sample_rate)
        rows = np.zeros((len(clips), encoder.samples))  # float64, as the published code has it
        mask = np.zeros(rows.shape, bool)
        for row, valid, clip in zip(rows, mask, clips, strict=True):
            size = min(len(clip), encoder.samples)
            row[:size], valid[:size] = clip[:size], True
        with jax.enable_x64(True):
            return np.asarray(_spectrogram(encoder, rows, mask)[0], np.float32)


_spectrogram = jax.jit(AST.spectrogram, static_argnums=0)


def filter_banks_of(
    encoder: AST, processor: Mapping[str, Any], where: Path
) -> tuple[AST, FilterBanks | None]:
    """The encoder with the sample rate, mean and deviation of its sound, and its preprocessing.

    Args:
        encoder: of config.json.
        processor: `preprocessor_config.json`; empty where there is none.
        where: the weights, for the error.

    Raises:
        DataError: it is of other sizes than the weights, or incomplete.
    """
    if not processor:
        return encoder, None
    try:
        plain = not processor.get("do_normalize", True)
        sizes = (int(processor["max_length"]), int(processor["num_mel_bins"]))
        encoder = dataclasses.replace(
            encoder,
            sample_rate=int(processor["sampling_rate"]),
            mean=0.0 if plain else float(processor["mean"]),
            std=0.5 if plain else float(processor["std"]),  # it is divided by twice this
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The preprocessor_config.json beside {where} is incomplete ({error!r}): copy it again "
            "from where the weights were published."
        ) from None
    if sizes != (encoder.frames, encoder.bands):
        raise DataError(
            f"The preprocessor_config.json beside {where} is for {sizes[0]} frames and {sizes[1]} "
            f"bands, but config.json says {encoder.frames} and {encoder.bands}: copy both again "
            "from where the weights were published."
        )
    return encoder, FilterBanks(encoder)
