"""Fusion by one Transformer over the tokens of all modalities."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.streams import Streams, joined
from mmjax.layers import Transformer
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class MultimodalTransformer(Fusion):
    """Single-stream Transformer: every token of every modality attends to every other.

    Each token is projected to `width`, and learned embeddings of its modality and its position are
    added. No token attends to masked tokens, which include all tokens of an absent modality. After
    VisualBERT (Li et al. 2019) and ViLT (Kim et al. 2021, section 3), but without a class token:
    the fused vector is the mean of the valid tokens.

    Attributes:
        width: D of the tokens.
        layers: number of Transformer blocks.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).
        skip: stochastic depth of the last block, in [0, 1); see `mmjax.layers.Transformer`.
        remat: whether blocks are computed again in the backward pass, to save memory.
        scan: whether all blocks are compiled as one; their parameters are stacked.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    skip: float = 0.0
    remat: bool = False
    scan: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "MultimodalTransformerFusion":
        """See `Fusion.build`."""
        return MultimodalTransformerFusion(self, features, dtype=dtype, rngs=rngs)


class MultimodalTransformerFusion(nnx.Module):
    """The module that `MultimodalTransformer` builds."""

    def __init__(
        self,
        config: MultimodalTransformer,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        width = config.width
        self.streams = Streams(features, width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            *(width, config.layers, config.heads, config.dropout),
            skip=config.skip,
            remat=config.remat,
            scan=config.scan,
            dtype=dtype,
            rngs=rngs,
        )
        self.features = FeatureShape(sum(shape.tokens for shape in features.values()), width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T_m, D_m] to [B, sum T_m, `width`]."""
        streams = self.streams(features)
        every = joined({name: Features(streams[name], features[name].mask) for name in streams})
        tokens = self.transformer(every.tokens, every.mask, train=train, rngs=rngs)
        return Fused(Features(tokens, every.mask))
