"""Fusion through a few bottleneck tokens."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.streams import Streams, joined
from mmjax.layers import TransformerBlock
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class Bottleneck(Fusion):
    """A Transformer for each modality; they exchange information by a few shared tokens.

    In the layers from `first` on, the tokens z_m of each modality attend to themselves and to the
    bottleneck tokens f, which are then averaged over the modalities that are present:

        [z_m'; f_m] = block_m([z_m; f]),    f' = mean over m of f_m

    Before, each modality is alone. The fused tokens are those of all modalities; `streams` holds
    them by modality. In the paper each modality has a class token, and logits are averaged.

    Attributes:
        width: D of the tokens.
        layers: number of blocks of each modality.
        first: the first layer with exchange, from 0; `layers` for none, which is late fusion.
        tokens: number of bottleneck tokens.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).

    Reference:
        Nagrani et al. 2021, Attention Bottlenecks for Multimodal Fusion, equations 8 and 9, and
        section 3.2 for `first`.
    """

    width: int = 64
    layers: int = 4
    first: int = 2
    tokens: int = 4
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "tokens", "heads")
        if not 0 <= self.first <= self.layers:
            raise ConfigError(
                f"Bottleneck.first is {self.first}, but there are {self.layers} layers: choose it "
                f"from 0 to {self.layers}."
            )

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "BottleneckModule":
        """See `Fusion.build`."""
        return BottleneckModule(self, features, dtype=dtype, rngs=rngs)


class BottleneckModule(nnx.Module):
    """The module that `Bottleneck` builds."""

    def __init__(
        self,
        config: Bottleneck,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        width = config.width

        def blocks() -> nnx.List:
            return nnx.List(
                TransformerBlock(width, config.heads, config.dropout, dtype=dtype, rngs=rngs)
                for _ in range(config.layers)
            )

        self.streams = Streams(features, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.Dict({name: blocks() for name in features})
        self.norms = nnx.Dict(
            {name: nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for name in features}
        )
        self.first = config.first
        if config.first < config.layers:
            start = 0.02 * jax.random.normal(rngs.params(), (config.tokens, width))
            self.bottleneck = nnx.Param(start)
        self.layers = config.layers
        self.features = FeatureShape(sum(shape.tokens for shape in features.values()), width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T_m, D_m] to [B, sum T_m, `width`]."""
        streams = self.streams(features)
        names = list(streams)
        there = jnp.stack([features[name].present for name in names])  # [M, B]
        weight = (there / jnp.maximum(there.sum(axis=0), 1))[..., None, None]
        shared = None
        for layer in range(self.layers):
            if layer == self.first:
                token = self.bottleneck[...].astype(streams[names[0]].dtype)
                shared = jnp.broadcast_to(token, (there.shape[1], *token.shape))
            given = []
            for name in names:
                tokens, mask = streams[name], features[name].mask
                if shared is not None:
                    tokens = jnp.concatenate([tokens, shared], axis=1)
                    mask = jnp.concatenate([mask, jnp.ones(shared.shape[:2], bool)], axis=1)
                block = self.blocks[name][layer]
                tokens = block(tokens, mask[:, None, :], train=train, rngs=rngs)
                streams[name] = tokens[:, : streams[name].shape[1]]
                given.append(tokens[:, streams[name].shape[1] :])
            if shared is not None:
                shared = (jnp.stack(given) * weight.astype(token.dtype)).sum(axis=0)
        normed = {
            name: Features(self.norms[name](streams[name]), features[name].mask) for name in names
        }
        return Fused(joined(normed), streams=normed)
