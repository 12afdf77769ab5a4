"""EfficientNet-Lite0 for images."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.backbone import ImageBackbone, ImageModule, map_to_tokens
from mmjax.layers.batch_norm import BatchNorm
from mmjax.structs import Features, Modality

# (blocks, side of the depthwise convolution, stride of the first, expansion, channels).
# Tan and Le 2019, Table 1; Lite0 keeps its widths and depths.
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, TOP = 32, 1280


@dataclasses.dataclass(frozen=True)
class EfficientNetLite0(ImageBackbone):
    """Inverted bottlenecks with depthwise convolutions; 1,280 wide tokens, 1/32 of each side.

    Tan and Le 2019, EfficientNet, Table 1, in TensorFlow's "Lite" variant: no squeeze-and-excite,
    ReLU6 for swish. Padding is TensorFlow's: as little as gives ceil(size / stride) outputs, the
    odd pixel at the bottom and the right. The mean of the tokens is the summary.
    """

    def build(
        self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "EfficientNetLite0Module":
        """See `Encoder.build`."""
        self.check_image(modality)
        return EfficientNetLite0Module(self, modality, dtype=dtype, rngs=rngs)


class _ConvNorm(nnx.Module):
    """Convolution without bias, batch norm, and ReLU6 where asked."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        kernel: int,
        stride: int = 1,
        *,
        depthwise: bool = False,
        activated: bool = True,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = nnx.Conv(
            d_in,
            d_out,
            (kernel, kernel),
            strides=stride,
            padding="SAME",  # XLA's is TensorFlow's
            feature_group_count=d_in if depthwise else 1,
            use_bias=False,
            kernel_init=nnx.initializers.he_normal(),
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(d_out, momentum=0.99, epsilon=1e-3, dtype=dtype, rngs=rngs)
        self.activated = activated

    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        x = self.norm.normalise(self.conv(x), valid, train=train)
        return nnx.relu6(x) if self.activated else x


class _Block(nnx.Module):
    """Expand, filter each channel by itself, project; and the input again where shapes agree."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        wide = d_in * expansion
        layers = [_ConvNorm(d_in, wide, 1, dtype=dtype, rngs=rngs)] if expansion > 1 else []
        layers += [
            _ConvNorm(wide, wide, kernel, stride, depthwise=True, dtype=dtype, rngs=rngs),
            _ConvNorm(wide, d_out, 1, activated=False, dtype=dtype, rngs=rngs),
        ]
        self.layers = nnx.List(layers)
        self.residual = stride == 1 and d_in == d_out

    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        kept = x
        for layer in self.layers:
            x = layer(x, valid, train=train)
        return x + kept if self.residual else x


class EfficientNetLite0Module(ImageModule):
    """The module that `EfficientNetLite0` builds."""

    def __init__(
        self, config: EfficientNetLite0, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.stem = _ConvNorm(modality.shape[-1], STEM, 3, 2, dtype=dtype, rngs=rngs)
        blocks, d_in = [], STEM
        for repeats, kernel, stride, expansion, d_out in GROUPS:
            for index in range(repeats):
                blocks.append(
                    _Block(
                        *(d_in, d_out, kernel, 1 if index else stride, expansion),
                        dtype=dtype,
                        rngs=rngs,
                    )
                )
                d_in = d_out
        self.blocks = nnx.List(blocks)
        self.top = _ConvNorm(d_in, TOP, 1, dtype=dtype, rngs=rngs)
        if config.classes:
            self.classifier = nnx.Linear(TOP, config.classes, dtype=dtype, rngs=rngs)
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
        x = self.stem(x, valid, train=train)
        for block in self.blocks:
            x = block(x, valid, train=train)
        return map_to_tokens(self.top(x, valid, train=train))
