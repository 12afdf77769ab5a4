"""LeNet-style convolutional network for images."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import check_sizes
from mmjax.layers import ConvBlock
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class LeNet(Encoder):
    """Blocks of convolution, batch norm (optional), ReLU and 2x2 max pooling; one token per pixel.

    Channels double from block to block. A linear layer follows, and the mean of the tokens is
    global average pooling. After LeCun et al. 1998, Gradient-Based Learning; doubled channels, max
    pooling and average pooling instead of dense layers are more recent.

    Attributes:
        blocks: number of blocks; each halves height and width, down to 1.
        channels: channels of the first block.
        kernel: side of the convolutions, in pixels.
        width: D of the tokens.
        batch_norm: whether to normalise over the batch before each ReLU.
    """

    blocks: int = 2
    channels: int = 16
    kernel: int = 3
    width: int = 64
    batch_norm: bool = False
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        check_sizes(self, "blocks", "channels", "kernel", "width")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "LeNetEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return LeNetEncoder(self, modality.shape, dtype=dtype, rngs=rngs)


class LeNetEncoder(nnx.Module):
    """The module that `LeNet` builds."""

    def __init__(
        self, config: LeNet, shape: tuple[int, ...], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        height, width, channels = shape
        blocks = []
        for index in range(config.blocks):
            d_out = config.channels * 2**index
            blocks.append(
                ConvBlock(
                    channels,
                    d_out,
                    config.kernel,
                    batch_norm=config.batch_norm,
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            channels, height, width = d_out, max(height // 2, 1), max(width // 2, 1)
        self.blocks = nnx.List(blocks)
        self.project = nnx.Linear(channels, config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(tokens=height * width, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, height, width, channels] to one token per pixel of the last block."""
        for block in self.blocks:
            x = block(x, present[:, None, None, None], train=train)
        tokens = self.project(x.reshape(x.shape[0], -1, x.shape[-1]))
        return Features(tokens=tokens, mask=jnp.ones(tokens.shape[:2], bool))
