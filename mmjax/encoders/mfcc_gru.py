"""A recurrent layer over the mel-frequency cepstral coefficients of a waveform."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.audio import HTK, Convention, cepstra, deltas
from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import LogMelFrames, Recurrent, SpecAugment, standardised
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class MFCCGRU(Encoder):
    """Cepstral coefficients, their slopes, and a GRU in both directions; one token per frame.

    Each coefficient and each slope has mean 0 and variance 1 over the valid frames of a clip.

    Attributes:
        coefficients: number of cepstral coefficients, from the lowest, at most `bands`.
        slopes: 0; 1 for `mmjax.audio.deltas` too; 2 also for the deltas of those.
        width: D of the tokens; even: half for each direction.
        layers: number of recurrent layers.
        bands: number of mel bands.
        frame_ms: length of a frame, in milliseconds.
        hop_ms: distance between the starts of two frames, in milliseconds.
        convention: of the spectrogram.
        augment: masks over time and frequency in training; None: none.

    Reference:
        Davis and Mermelstein 1980 (coefficients); Furui 1986, Speaker-Independent Isolated Word
        Recognition Using Dynamic Features of Speech Spectrum (slopes); Cho et al. 2014 (GRU).
    """

    coefficients: int = 13
    slopes: int = 2
    width: int = 64
    layers: int = 1
    bands: int = 40
    frame_ms: float = 25.0
    hop_ms: float = 10.0
    convention: Convention = HTK
    augment: SpecAugment | None = None
    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        check_sizes(self, "coefficients", "width", "layers", "bands")
        if self.coefficients > self.bands:
            raise ConfigError(
                f"MFCCGRU.coefficients is {self.coefficients}, more than its {self.bands} bands: "
                f"choose at most {self.bands}."
            )
        if self.slopes not in (0, 1, 2):
            raise ConfigError(f"MFCCGRU.slopes is {self.slopes}: choose 0, 1 or 2.")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "MFCCGRUEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return MFCCGRUEncoder(self, modality, dtype=dtype, rngs=rngs)


class MFCCGRUEncoder(nnx.Module):
    """The module that `MFCCGRU` builds."""

    def __init__(
        self, config: MFCCGRU, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.sound = LogMelFrames.of(
            modality,
            config.bands,
            config.frame_ms,
            config.hop_ms,
            config.convention,
            config.augment,
        )
        self.coefficients, self.slopes = config.coefficients, config.slopes
        self.recurrent = Recurrent(
            config.coefficients * (1 + config.slopes),
            config.width,
            layers=config.layers,
            bidirectional=True,
            dtype=dtype,
            rngs=rngs,
        )
        self.features = FeatureShape(tokens=self.sound.frames, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, S] waveforms to one token per frame."""
        mel, valid = self.sound(x, mask, train=train, rngs=rngs)
        parts = [cepstra(mel, self.coefficients)]
        for _ in range(self.slopes):
            parts.append(deltas(parts[-1], mask=valid))
        joined = jnp.concatenate([standardised(part, valid, axes=(1,)) for part in parts], axis=-1)
        return Features(self.recurrent(joined, valid), valid)
