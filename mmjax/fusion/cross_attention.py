"""Fusion by cross-modal Transformers between all pairs of modalities."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.streams import Streams
from mmjax.layers import Attention, Transformer, checked_dropout
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class CrossAttention(Fusion):
    """The tokens of each modality attend to those of each other one, and then to themselves.

    For each pair of a target a and a source b, with z = z_a at first, each of the layers is

        y = attention(norm(z), norm(z_b)) + norm(z),    z = mlp(norm(y)) + norm(y)

    The results for one target are concatenated along D and go through a Transformer; the fused
    vector is the mean of its tokens (in the paper: the last one), concatenated over the targets.
    `streams` holds the tokens by modality. A source that is absent adds nothing, and the part of an
    absent target is 0. In the paper a convolution and fixed positions make the z_a.

    Attributes:
        width: D of the tokens of one pair; the fused vector has M (M - 1) D numbers.
        layers: number of layers of each pair.
        over: number of blocks of each target's Transformer; 0: none.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).

    Reference:
        Tsai et al. 2019, Multimodal Transformer for Unaligned Multimodal Language Sequences (MulT),
        section 3.2 and equation 4.
    """

    width: int = 32
    layers: int = 2
    over: int = 1
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads")
        check_sizes(self, "over", least=0)

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "CrossAttentionModule":
        """See `Fusion.build`.

        Raises:
            ConfigError: there is only one modality.
        """
        if len(features) == 1:
            raise ConfigError("CrossAttention is between modalities: add a second encoder.")
        return CrossAttentionModule(self, features, dtype=dtype, rngs=rngs)


class CrossModalLayer(nnx.Module):
    """One layer of a pair; see `CrossAttention`."""

    def __init__(
        self, width: int, heads: int, dropout: float, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.norm_source = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm_after = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(dropout)

    def __call__(
        self, z: jax.Array, source: Features, *, train: bool, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """[B, T, D] and a source of [B, S, D] to [B, T, D]."""

        def drop(y: jax.Array) -> jax.Array:
            return self.dropout(y, deterministic=not train, rngs=rngs)

        z = self.norm(z)
        read = self.attention(z, self.norm_source(source.tokens), source.mask)
        z = self.norm_after(drop(jnp.where(source.present[:, None, None], read, 0)) + z)
        return drop(self.down(nnx.relu(self.up(z)))) + z


class CrossAttentionModule(nnx.Module):
    """The module that `CrossAttention` builds."""

    def __init__(
        self,
        config: CrossAttention,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = (config.width, config.heads, config.dropout)

        def pair() -> nnx.List:
            return nnx.List(
                CrossModalLayer(*sizes, dtype=dtype, rngs=rngs) for _ in range(config.layers)
            )

        self.streams = Streams(features, config.width, dtype=dtype, rngs=rngs)
        self.pairs = nnx.Dict(
            {
                target: nnx.Dict({source: pair() for source in features if source != target})
                for target in features
            }
        )
        wide = (len(features) - 1) * config.width
        self.over = nnx.Dict(
            {
                target: Transformer(
                    wide, config.over, config.heads, config.dropout, dtype=dtype, rngs=rngs
                )
                for target in (features if config.over else ())
            }
        )
        self.features = FeatureShape(1, len(features) * wide)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T_m, D_m] to one token of M (M - 1) `width`."""
        streams = {
            name: Features(tokens, features[name].mask)
            for name, tokens in self.streams(features).items()
        }
        fused = {}
        for target, stream in streams.items():
            results = []
            for source in (name for name in streams if name != target):
                z = stream.tokens
                for layer in self.pairs[target][source]:
                    z = layer(z, streams[source], train=train, rngs=rngs)
                results.append(z)
            tokens = jnp.concatenate(results, axis=-1)
            if target in self.over:
                tokens = self.over[target](tokens, stream.mask, train=train, rngs=rngs)
            fused[target] = Features(tokens, stream.mask)
        present = jnp.stack([stream.present for stream in streams.values()]).any(axis=0)
        pooled = jnp.concatenate([fused[name].pooled for name in streams], axis=-1)
        return Fused(Features.of_vector(pooled, present), streams=fused)
