"""Fusion by an array of latent tokens."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.streams import Streams, joined
from mmjax.layers import Attention, TransformerBlock, checked_dropout
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class Perceiver(Fusion):
    """A few learned latent tokens read the tokens of all modalities, again and again.

    Each stage is

        z = z + attention(norm(z), norm(x)),    z = z + mlp(norm(z)),    then blocks over z alone

    with the latents z [N, D] and the tokens x of all modalities. Its cost grows with N times the
    number of tokens, not with its square. The stages share no weights. The fused tokens are z after
    a layer norm; where no modality is present, none is valid.

    Attributes:
        width: D of the tokens.
        latents: N.
        stages: how often the latents read the tokens.
        layers: blocks over the latents, of each stage.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).

    Reference:
        Jaegle et al. 2021, Perceiver: General Perception with Iterative Attention, section 3.1.
    """

    width: int = 64
    latents: int = 16
    stages: int = 1
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "width", "latents", "stages", "heads")
        check_sizes(self, "layers", least=0)

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "PerceiverModule":
        """See `Fusion.build`."""
        return PerceiverModule(self, features, dtype=dtype, rngs=rngs)


class CrossBlock(nnx.Module):
    """x + attention(norm(x), norm(y)), then x + mlp(norm(x)), dropout on both branches.

    Where y has no valid token, the attention adds nothing.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.norm1 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.norm_keys = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(dropout)

    def __call__(
        self, x: jax.Array, y: Features, *, train: bool, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """[B, N, D], reading the tokens [B, T, D] of y, to [B, N, D]."""

        def drop(z: jax.Array) -> jax.Array:
            return self.dropout(z, deterministic=not train, rngs=rngs)

        read = self.attention(self.norm1(x), self.norm_keys(y.tokens), y.mask)
        x = x + drop(jnp.where(y.present[:, None, None], read, 0))
        return x + drop(self.down(nnx.gelu(self.up(self.norm2(x)))))


class PerceiverModule(nnx.Module):
    """The module that `Perceiver` builds."""

    def __init__(
        self,
        config: Perceiver,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = (config.width, config.heads, config.dropout)
        self.streams = Streams(features, config.width, dtype=dtype, rngs=rngs)
        start = 0.02 * jax.random.normal(rngs.params(), (config.latents, config.width))
        self.latents = nnx.Param(start)
        self.reads = nnx.List(
            CrossBlock(*sizes, dtype=dtype, rngs=rngs) for _ in range(config.stages)
        )
        self.blocks = nnx.List(
            nnx.List(TransformerBlock(*sizes, dtype=dtype, rngs=rngs) for _ in range(config.layers))
            for _ in range(config.stages)
        )
        self.norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(config.latents, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T_m, D_m] to [B, N, `width`]."""
        streams = self.streams(features)
        every = joined({name: Features(streams[name], features[name].mask) for name in streams})
        latents = self.latents[...].astype(every.tokens.dtype)
        z = jnp.broadcast_to(latents, (len(every.tokens), *latents.shape))
        everywhere = jnp.ones((1, 1, len(latents)), bool)
        for read, blocks in zip(self.reads, self.blocks, strict=True):
            z = read(z, every, train=train, rngs=rngs)
            for block in blocks:
                z = block(z, everywhere, train=train, rngs=rngs)
        valid = jnp.broadcast_to(every.present[:, None], z.shape[:2])
        return Fused(Features(self.norm(z), valid))
