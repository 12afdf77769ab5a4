"""VGG and AlexNet: plain convolutional networks with dense layers on top."""

import dataclasses
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.backbone import ImageBackbone, ImageModule, blank, map_to_tokens
from mmjax.errors import unknown_name
from mmjax.layers.adaptive_pool import adaptive_average_pool
from mmjax.layers.batch_norm import BatchNorm
from mmjax.structs import Features, Modality

# Convolutions in each group of VGG; a group ends with 2x2 max pooling. Table 1, columns A, B, D, E.
GROUPS = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
DENSE = 4096


@dataclasses.dataclass(frozen=True)
class VGG(ImageBackbone):
    """3x3 convolutions in five groups, each ended by 2x2 max pooling; a token per pixel left.

    Simonyan and Zisserman 2015, Very Deep Convolutional Networks, Table 1; with batch norm as in
    torchvision's models. The mean of the tokens is the summary, or the second dense layer with
    `dense`, after average pooling to 7 x 7 as torchvision does for sizes other than 224.

    Attributes:
        depth: 11, 13, 16 or 19 layers with weights, the three dense ones included.
        batch_norm: whether each convolution is followed by batch norm.
        dense: whether to have the two dense layers of width 4096.
    """

    depth: Literal[11, 13, 16, 19] = 16
    batch_norm: bool = False
    dense: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in GROUPS:
            raise unknown_name("depth of VGG", str(self.depth), map(str, GROUPS))

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "PlainModule":
        """See `Encoder.build`."""
        self.check_image(modality)
        layers: list[_Conv | None] = []
        d_in = modality.shape[-1]
        for repeats, d_out in zip(GROUPS[self.depth], CHANNELS, strict=True):
            for _ in range(repeats):
                layers.append(
                    _Conv(d_in, d_out, 3, 1, 1, batch_norm=self.batch_norm, dtype=dtype, rngs=rngs)
                )
                d_in = d_out
            layers.append(None)
        return PlainModule(self, modality, layers, 2, 7, (), dtype=dtype, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class AlexNet(ImageBackbone):
    """Five convolutions, three of them with 3x3 max pooling of stride 2; a token per pixel left.

    Krizhevsky 2014, One Weird Trick for Parallelizing Convolutional Neural Networks: one column, no
    local response normalisation. The mean of the tokens is the summary, or the second dense layer
    with `dense`, after average pooling to 6 x 6.

    Attributes:
        dense: whether to have the two dense layers of width 4096.
    """

    dense: bool = False

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "PlainModule":
        """See `Encoder.build`."""
        self.check_image(modality)
        layers: list[_Conv | None] = []
        d_in = modality.shape[-1]
        for d_out, kernel, stride, padding, pool in (
            (64, 11, 4, 2, True),
            (192, 5, 1, 2, True),
            (384, 3, 1, 1, False),
            (256, 3, 1, 1, False),
            (256, 3, 1, 1, True),
        ):
            layers.append(
                _Conv(
                    *(d_in, d_out, kernel, stride, padding),
                    batch_norm=False,
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            layers += [None] if pool else []
            d_in = d_out
        return PlainModule(self, modality, layers, 3, 6, (0, 1), dtype=dtype, rngs=rngs)


class _Conv(nnx.Module):
    """Convolution, batch norm where asked, ReLU."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        kernel: int,
        stride: int,
        padding: int,
        *,
        batch_norm: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = nnx.Conv(
            d_in,
            d_out,
            (kernel, kernel),
            strides=stride,
            padding=((padding, padding), (padding, padding)),
            kernel_init=nnx.initializers.he_normal(),
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = (
            BatchNorm(d_out, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)
            if batch_norm
            else None
        )

    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm.normalise(x, valid, train=train)
        return nnx.relu(x)


class PlainModule(ImageModule):
    """The module that `VGG` and `AlexNet` build.

    Args:
        config: of either.
        modality: the images.
        layers: convolutions, and None for max pooling of stride 2.
        pool_size: side of the max pooling.
        map_size: side of the map that the dense layers read.
        dropped: the dense layers that dropout comes before; after them if empty.
        dtype: of the computation.
        rngs: initialises the parameters.
    """

    def __init__(
        self,
        config: VGG | AlexNet,
        modality: Modality,
        layers: "list[_Conv | None]",
        pool_size: int,
        map_size: int,
        dropped: tuple[int, ...],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        convs = [layer for layer in layers if layer is not None]
        self.convs = nnx.List(convs)
        self.pooled_after = tuple(
            sum(layer is not None for layer in layers[:index])
            for index, layer in enumerate(layers)
            if layer is None
        )
        self.pool_size, self.map_size, self.dropped = pool_size, map_size, dropped
        channels = convs[-1].conv.out_features
        widths = (map_size**2 * channels, DENSE, DENSE) if config.dense else ()
        self.dense = nnx.List(
            nnx.Linear(d_in, d_out, dtype=dtype, rngs=rngs)
            for d_in, d_out in itertools.pairwise(widths)
        )
        self.dropout = nnx.Dropout(0.5)
        self.map_shape = jax.eval_shape(self._map, blank(modality, dtype)).shape[1:3]
        if config.classes:
            width = DENSE if config.dense else channels
            self.classifier = nnx.Linear(width, config.classes, dtype=dtype, rngs=rngs)
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
        return map_to_tokens(self._map(x, present, train=train))

    def _map(
        self, x: jax.Array, present: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        present = jnp.ones(x.shape[0], bool) if present is None else present
        for index, conv in enumerate(self.convs, start=1):
            x = conv(x, present[:, None, None, None], train=train)
            if index in self.pooled_after:
                x = _max_pool(x, self.pool_size)
        return x

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The second dense layer's output [B, 4096], or the mean of the tokens [B, C]."""
        if not self.dense:
            return super().pool(features, train=train, rngs=rngs)
        height, width = self.map_shape
        tokens = features.tokens
        x = tokens.reshape(tokens.shape[0], height, width, -1)
        x = adaptive_average_pool(x, self.map_size).reshape(tokens.shape[0], -1)
        for index, layer in enumerate(self.dense):
            if index in self.dropped:
                x = self.dropout(x, deterministic=not train, rngs=rngs)
            x = nnx.relu(layer(x))
            if not self.dropped:
                x = self.dropout(x, deterministic=not train, rngs=rngs)
        return x


def _max_pool(x: jax.Array, size: int) -> jax.Array:
    """Max pooling with a stride of 2 and no padding; an axis that is too short becomes empty."""
    if min(x.shape[1:3]) < size:
        return x[:, :0, :0]
    return nnx.max_pool(x, (size, size), (2, 2))
