"""Residual networks for images."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.backbone import ImageBackbone, ImageModule, map_to_tokens
from mmjax.errors import unknown_name
from mmjax.layers.batch_norm import BatchNorm
from mmjax.structs import Features, Modality

# Blocks of each group, and whether a block is a bottleneck. Table 1 of the paper.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
CHANNELS = (64, 128, 256, 512)


@dataclasses.dataclass(frozen=True)
class ResNet(ImageBackbone):
    """ResNet-18, -34, -50, -101 or -152; one token per pixel of the last map, 1/32 of each side.

    He et al. 2016, Deep Residual Learning, Table 1 and Figure 5. As torchvision and timm have it,
    the stride of a bottleneck is in its 3x3 convolution; the paper has it in the first 1x1. The
    mean of the tokens is the summary.

    Attributes:
        depth: 18, 34, 50, 101 or 152 layers with weights.
    """

    depth: Literal[18, 34, 50, 101, 152] = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in DEPTHS:
            raise unknown_name("depth of ResNet", str(self.depth), map(str, DEPTHS))

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "ResNetModule":
        """See `Encoder.build`."""
        self.check_image(modality)
        return ResNetModule(self, modality, dtype=dtype, rngs=rngs)


class _ConvNorm(nnx.Module):
    """Convolution without bias, then batch norm."""

    def __init__(
        self, d_in: int, d_out: int, kernel: int, stride: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        padding = kernel // 2
        self.conv = nnx.Conv(
            d_in,
            d_out,
            (kernel, kernel),
            strides=stride,
            padding=((padding, padding), (padding, padding)),
            use_bias=False,
            kernel_init=nnx.initializers.he_normal(),
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(d_out, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        return self.norm.normalise(self.conv(x), valid, train=train)


class _Block(nnx.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 with four times the channels; and a shortcut."""

    def __init__(
        self,
        d_in: int,
        channels: int,
        stride: int,
        bottleneck: bool,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        d_out = channels * 4 if bottleneck else channels
        plan = (
            ((d_in, channels, 1, 1), (channels, channels, 3, stride), (channels, d_out, 1, 1))
            if bottleneck
            else ((d_in, channels, 3, stride), (channels, d_out, 3, 1))
        )
        self.layers = nnx.List(_ConvNorm(*sizes, dtype=dtype, rngs=rngs) for sizes in plan)
        self.shortcut = (
            _ConvNorm(d_in, d_out, 1, stride, dtype=dtype, rngs=rngs)
            if stride > 1 or d_in != d_out
            else None
        )

    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        kept = x if self.shortcut is None else self.shortcut(x, valid, train=train)
        for index, layer in enumerate(self.layers):
            x = layer(x, valid, train=train)
            if index < len(self.layers) - 1:
                x = nnx.relu(x)
        return nnx.relu(x + kept)


class ResNetModule(ImageModule):
    """The module that `ResNet` builds."""

    def __init__(
        self, config: ResNet, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        repeats, bottleneck = DEPTHS[config.depth]
        self.stem = _ConvNorm(modality.shape[-1], 64, 7, 2, dtype=dtype, rngs=rngs)
        d_in, groups = 64, []
        for group, (count, channels) in enumerate(zip(repeats, CHANNELS, strict=True)):
            blocks = []
            for index in range(count):
                stride = 2 if group and not index else 1
                blocks.append(_Block(d_in, channels, stride, bottleneck, dtype=dtype, rngs=rngs))
                d_in = channels * 4 if bottleneck else channels
            groups.append(nnx.List(blocks))
        self.groups = nnx.List(groups)
        if config.classes:
            self.classifier = nnx.Linear(d_in, config.classes, dtype=dtype, rngs=rngs)
        self.finish(config, modality, dtype)

    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, height, width, channels] to one token per pixel of the last map."""
        valid = present[:, None, None, None]
        x = nnx.relu(self.stem(x, valid, train=train))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for blocks in self.groups:
            for block in blocks:
                x = block(x, valid, train=train)
        return map_to_tokens(x)
