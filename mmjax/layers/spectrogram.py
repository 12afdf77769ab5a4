"""What all encoders of sound begin with: a standardised log-mel spectrogram and valid frames."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax import audio
from mmjax.errors import ConfigError
from mmjax.layers.spec_augment import SpecAugment
from mmjax.structs import Modality


@dataclasses.dataclass(frozen=True)
class LogMelFrames:
    """Log-mel spectrogram of each clip, with mean 0 and variance 1 over its valid frames.

    So loudness has no effect. Power below 1e-6 counts as 1e-6 (magnitude: 1e-3; with the
    convention's `area`, whose filters are about a hundred times smaller, a hundredth of that).

    Attributes:
        sample_rate: in Hz.
        samples: S of a clip.
        bands: number of mel bands M.
        frame_ms: length of a frame, in milliseconds.
        hop_ms: distance between the starts of two frames, in milliseconds.
        convention: of the spectrogram.
        augment: masks in training; None: none.
    """

    sample_rate: int
    samples: int
    bands: int
    frame_ms: float
    hop_ms: float
    convention: audio.Convention
    augment: SpecAugment | None

    @classmethod
    def of(
        cls,
        modality: Modality,
        bands: int,
        frame_ms: float,
        hop_ms: float,
        convention: audio.Convention,
        augment: SpecAugment | None,
    ) -> "LogMelFrames":
        """For a modality of the kind `audio`.

        Raises:
            ConfigError: its sample rate is not declared.
        """
        (samples,) = modality.shape
        if modality.sample_rate < 1:
            raise ConfigError(
                f"A modality of the kind audio has the sample rate {modality.sample_rate}: declare "
                "it, as in Modality('audio', (16000,), sample_rate=16000)."
            )
        return cls(modality.sample_rate, samples, bands, frame_ms, hop_ms, convention, augment)

    @property
    def frame_length(self) -> int:
        """Samples in a frame."""
        return round(self.frame_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples between the starts of two frames."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def frames(self) -> int:
        """F; ConfigError if a clip is shorter than a frame."""
        centre = self.convention.centre
        return audio.frames(
            self.samples, frame_length=self.frame_length, hop=self.hop, centre=centre
        )

    def __call__(
        self, x: jax.Array, mask: jax.Array | None, *, train: bool, rngs: nnx.Rngs | None
    ) -> tuple[jax.Array, jax.Array]:
        """[B, S] waveforms to [B, F, M], 0 in frames that are not valid, and the valid ones [B, F].

        Args:
            x: waveforms [B, S].
            mask: valid samples [B, S]; None: all.
            train: whether to mask bands and frames.
            rngs: holds a `dropout` stream in training, else None.
        """
        mask = jnp.ones(x.shape, bool) if mask is None else mask
        floor = 1e-6 if self.convention.exponent == 2 else 1e-3
        mel = audio.log_mel(
            x,
            sample_rate=self.sample_rate,
            frame_length=self.frame_length,
            hop=self.hop,
            bands=self.bands,
            floor=floor / 100 if self.convention.area else floor,
            convention=self.convention,
            mask=mask,
        )
        valid = audio.frame_mask(
            mask, frame_length=self.frame_length, hop=self.hop, centre=self.convention.centre
        )
        mel = standardised(mel, valid, axes=(1, 2))
        if self.augment is not None and train and rngs is not None:
            mel = self.augment(mel, valid, rngs.dropout())
        return mel, valid


def standardised(x: jax.Array, valid: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """[B, F, D] with mean 0 and variance 1 over `axes` of the valid frames [B, F], else 0.

    Axes (1, 2): of each clip. Axis (1,): of each feature of each clip, known as cepstral mean and
    variance normalisation.
    """
    weight = valid[:, :, None]
    size = x.shape[2] if 2 in axes else 1
    count = jnp.maximum(weight.sum((1, 2), keepdims=True) * size, 1)
    centred = x - jnp.where(weight, x, 0).sum(axes, keepdims=True) / count
    variance = jnp.where(weight, centred**2, 0).sum(axes, keepdims=True) / count
    return jnp.where(weight, centred * jax.lax.rsqrt(variance + 1e-3), 0)
