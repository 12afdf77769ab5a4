"""Convolutional network over the log-mel spectrogram of a waveform."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax import audio
from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import check_sizes
from mmjax.layers import ConvBlock, max_pool
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class LogMelCNN(Encoder):
    """Log-mel spectrogram on the device, convolution blocks, one token per remaining time step.

    The spectrogram of each clip is standardised over its valid frames, so that loudness has no
    effect. Each block is a convolution, a ReLU and a pooling that halves time and frequency.

    Attributes:
        blocks: number of blocks.
        channels: channels of the first block; they double from block to block.
        width: D of the tokens.
        bands: number of mel bands.
        frame_ms: length of a frame, in milliseconds.
        hop_ms: distance between the starts of two frames, in milliseconds.
        batch_norm: whether to normalise over the batch before each ReLU.
    """

    blocks: int = 3
    channels: int = 16
    width: int = 64
    bands: int = 40
    frame_ms: float = 25.0
    hop_ms: float = 10.0
    batch_norm: bool = False
    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        check_sizes(self, "blocks", "channels", "width", "bands")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "LogMelCNNEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return LogMelCNNEncoder(self, modality, dtype=dtype, rngs=rngs)


class LogMelCNNEncoder(nnx.Module):
    """The module that `LogMelCNN` builds."""

    def __init__(
        self, config: LogMelCNN, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.sample_rate = modality.sample_rate
        self.bands = config.bands
        self.frame_length = round(config.frame_ms * self.sample_rate / 1000)
        self.hop = round(config.hop_ms * self.sample_rate / 1000)
        (samples,) = modality.shape
        time = audio.frames(samples, frame_length=self.frame_length, hop=self.hop)
        blocks, channels, frequencies = [], 1, config.bands
        for index in range(config.blocks):
            d_out = config.channels * 2**index
            blocks.append(
                ConvBlock(channels, d_out, 3, batch_norm=config.batch_norm, dtype=dtype, rngs=rngs)
            )
            channels = d_out
            time, frequencies = max(time // 2, 1), max(frequencies // 2, 1)
        self.blocks = nnx.List(blocks)
        self.project = nnx.Linear(channels * frequencies, config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(tokens=time, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, S] waveforms to tokens; a token is valid if at least one of its frames is."""
        mask = jnp.ones(x.shape, bool) if mask is None else mask
        framing: dict[str, Any] = {"frame_length": self.frame_length, "hop": self.hop}
        mel = audio.log_mel(
            jnp.where(mask, x, 0),
            sample_rate=self.sample_rate,
            bands=self.bands,
            floor=1e-6,
            **framing,
        )
        valid = audio.frame_mask(mask, **framing)
        x = _standardised(mel, valid)[..., None]
        for block in self.blocks:
            x = block(x, (valid & present[:, None])[:, :, None, None], train=train)
            valid = max_pool(valid, axes=(1,))
        tokens = self.project(x.reshape(*x.shape[:2], -1))
        return Features(tokens=tokens, mask=valid)


def _standardised(mel: jax.Array, valid: jax.Array) -> jax.Array:
    """[B, F, M] with mean 0 and variance 1 over the valid frames of each clip, 0 elsewhere."""
    weight = valid[:, :, None]
    count = jnp.maximum(weight.sum((1, 2), keepdims=True) * mel.shape[2], 1)
    centred = mel - jnp.where(weight, mel, 0).sum((1, 2), keepdims=True) / count
    variance = jnp.where(weight, centred**2, 0).sum((1, 2), keepdims=True) / count
    return jnp.where(weight, centred * jax.lax.rsqrt(variance + 1e-3), 0)
