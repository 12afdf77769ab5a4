"""Convolutional network over the log-mel spectrogram of a waveform."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.audio import HTK, Convention
from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import ConvBlock, LogMelFrames, SpecAugment, max_pool
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
        convolutions: number of convolutions of each block, each with its ReLU, before the pooling;
            empty: one.
        convention: of the spectrogram.
        augment: masks over time and frequency in training; None: none.

    Reference:
        Hershey et al. 2017, CNN Architectures for Large-Scale Audio Classification. The published
        VGGish has the convolutions of LogMelCNN(blocks=4, channels=64, bands=64,
        convolutions=(1, 1, 2, 2)) on pieces of 0.96 s, and three dense layers after them.
    """

    blocks: int = 3
    channels: int = 16
    width: int = 64
    bands: int = 40
    frame_ms: float = 25.0
    hop_ms: float = 10.0
    batch_norm: bool = False
    convolutions: tuple[int, ...] = ()
    convention: Convention = HTK
    augment: SpecAugment | None = None
    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        check_sizes(self, "blocks", "channels", "width", "bands", "convolutions")
        if self.convolutions and len(self.convolutions) != self.blocks:
            raise ConfigError(
                f"LogMelCNN.convolutions has {len(self.convolutions)} numbers, but there are "
                f"{self.blocks} blocks: give one number for each block."
            )

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "LogMelCNNEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return LogMelCNNEncoder(self, modality, dtype=dtype, rngs=rngs)


class LogMelCNNEncoder(nnx.Module):
    """The module that `LogMelCNN` builds."""

    def __init__(
        self, config: LogMelCNN, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.sound = LogMelFrames.of(
            modality,
            config.bands,
            config.frame_ms,
            config.hop_ms,
            config.convention,
            config.augment,
        )
        time, frequencies = self.sound.frames, config.bands
        blocks, channels = [], 1
        for index, convolutions in enumerate(config.convolutions or (1,) * config.blocks):
            for left in reversed(range(convolutions)):
                blocks.append(
                    ConvBlock(
                        channels,
                        config.channels * 2**index,
                        3,
                        batch_norm=config.batch_norm,
                        pool=(1, 1) if left else (2, 2),
                        dtype=dtype,
                        rngs=rngs,
                    )
                )
                channels = config.channels * 2**index
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
        mel, valid = self.sound(x, mask, train=train, rngs=rngs)
        x = mel[..., None]
        for block in self.blocks:
            x = block(x, (valid & present[:, None])[:, :, None, None], train=train)
            valid = max_pool(valid, window=block.pool[0], axes=(1,))
        tokens = self.project(x.reshape(*x.shape[:2], -1))
        return Features(tokens=tokens, mask=valid)
