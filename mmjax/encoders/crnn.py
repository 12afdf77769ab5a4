"""Convolutions and a recurrent layer over the log-mel spectrogram of a waveform."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.audio import HTK, Convention
from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import check_sizes
from mmjax.layers import ConvBlock, LogMelFrames, Recurrent, SpecAugment, max_pool
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class CRNN(Encoder):
    """Convolutions that pool frequency, then a GRU in both directions; one token per time step.

    The spectrogram of each clip is standardised over its valid frames. Each block is a convolution,
    batch norm (optional), a ReLU and a pooling that halves frequency. Time is kept, but for the
    first `halve_time` blocks. Padding after a clip changes nothing of its tokens, except that
    batch statistics are of all valid frames.

    Attributes:
        blocks: number of blocks.
        channels: channels of each block.
        width: D of the tokens; even: half for each direction.
        layers: number of recurrent layers.
        halve_time: how many of the blocks, from the first, halve time too.
        bands: number of mel bands.
        frame_ms: length of a frame, in milliseconds.
        hop_ms: distance between the starts of two frames, in milliseconds.
        batch_norm: whether to normalise over the batch before each ReLU.
        convention: of the spectrogram.
        augment: masks over time and frequency in training; None: none.

    Reference:
        Cakir, Parascandolo, Heittola, Huttunen and Virtanen 2017, Convolutional Recurrent Neural
        Networks for Polyphonic Sound Event Detection, section III.
    """

    blocks: int = 3
    channels: int = 32
    width: int = 64
    layers: int = 1
    halve_time: int = 0
    bands: int = 40
    frame_ms: float = 25.0
    hop_ms: float = 10.0
    batch_norm: bool = False
    convention: Convention = HTK
    augment: SpecAugment | None = None
    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        check_sizes(self, "blocks", "channels", "width", "layers", "bands")
        check_sizes(self, "halve_time", least=0)

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "CRNNEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return CRNNEncoder(self, modality, dtype=dtype, rngs=rngs)


class CRNNEncoder(nnx.Module):
    """The module that `CRNN` builds."""

    def __init__(
        self, config: CRNN, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
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
        for index in range(config.blocks):
            pool = (2 if index < config.halve_time else 1, 2)
            blocks.append(
                ConvBlock(
                    channels,
                    config.channels,
                    3,
                    batch_norm=config.batch_norm,
                    pool=pool,
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            channels = config.channels
            time, frequencies = max(time // pool[0], 1), max(frequencies // 2, 1)
        self.blocks = nnx.List(blocks)
        self.recurrent = Recurrent(
            channels * frequencies,
            config.width,
            layers=config.layers,
            bidirectional=True,
            dtype=dtype,
            rngs=rngs,
        )
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
            x = jnp.where(valid[:, :, None, None], x, 0)  # as what is beyond the array's end
        return Features(self.recurrent(x.reshape(*x.shape[:2], -1), valid), valid)
