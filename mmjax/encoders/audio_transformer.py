"""Transformer over patches of the log-mel spectrogram of a waveform."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.audio import HTK, Convention
from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import LogMelFrames, SpecAugment, Transformer
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class AudioTransformer(Encoder):
    """Patches of a log-mel spectrogram, learned positions and a Transformer; one token per patch.

    The spectrogram of each clip is standardised over its valid frames. Patches that do not fit at
    the end of time or frequency are left out. There is no class token: models take the mean of the
    tokens. The Audio Spectrogram Transformer has width 768, 12 layers, 12 heads, 128 bands, patches
    of (16, 16) and a stride of (10, 10), and begins with weights of images.

    Attributes:
        width: D of the tokens.
        layers: number of Transformer blocks.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).
        patch: frames and bands of a patch.
        stride: frames and bands between the starts of two patches.
        bands: number of mel bands.
        frame_ms: length of a frame, in milliseconds.
        hop_ms: distance between the starts of two frames, in milliseconds.
        convention: of the spectrogram.
        augment: masks over time and frequency in training; None: none.

    Reference:
        Gong, Chung and Glass 2021, AST: Audio Spectrogram Transformer, section 2.1.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    patch: tuple[int, int] = (16, 16)
    stride: tuple[int, int] = (16, 16)
    bands: int = 64
    frame_ms: float = 25.0
    hop_ms: float = 10.0
    convention: Convention = HTK
    augment: SpecAugment | None = None
    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads", "patch", "stride", "bands")

    def build(
        self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "AudioTransformerEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return AudioTransformerEncoder(self, modality, dtype=dtype, rngs=rngs)


class AudioTransformerEncoder(nnx.Module):
    """The module that `AudioTransformer` builds."""

    def __init__(
        self, config: AudioTransformer, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.sound = LogMelFrames.of(
            modality,
            config.bands,
            config.frame_ms,
            config.hop_ms,
            config.convention,
            config.augment,
        )
        size = (self.sound.frames, config.bands)
        for axis, name in enumerate(("frames", "bands")):
            if size[axis] < config.patch[axis]:
                raise ConfigError(
                    f"A spectrogram has {size[axis]} {name}, fewer than the {config.patch[axis]} "
                    f"of a patch: choose a smaller AudioTransformer.patch, or more {name}."
                )
        of_time, of_bands = (
            1 + (whole - patch) // stride
            for whole, patch, stride in zip(size, config.patch, config.stride, strict=True)
        )
        self.patches = nnx.Conv(
            1,
            config.width,
            config.patch,
            strides=config.stride,
            padding="VALID",
            dtype=dtype,
            rngs=rngs,
        )
        tokens = of_time * of_bands
        self.positions = nnx.Embed(tokens, config.width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.dropout, dtype=dtype, rngs=rngs
        )
        self.patch, self.stride = config.patch[0], config.stride[0]  # in frames
        self.features = FeatureShape(tokens=tokens, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, S] waveforms to tokens, by time, then band; valid if one of its frames is."""
        mel, valid = self.sound(x, mask, train=train, rngs=rngs)
        patches = self.patches(mel[..., None])  # [B, of_time, of_bands, D]
        starts = self.stride * np.arange(patches.shape[1])[:, None]
        valid = valid[:, starts + np.arange(self.patch)].any(axis=2)
        valid = jnp.repeat(valid, patches.shape[2], axis=1)
        tokens = patches.reshape(len(patches), -1, patches.shape[-1])
        tokens = tokens + self.positions(jnp.arange(tokens.shape[1]))
        return Features(self.transformer(tokens, valid, train=train, rngs=rngs), valid)
