"""Fusion by attention over modalities."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections, softmax_of_present
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class AttentionFusion(Fusion):
    """A weighted sum of the modalities, with weights that depend on the example.

        z_m = W_m x_m + b_m
        z = sum_m a_m z_m,    a = softmax over the modalities present of u . tanh(V z_m + c)

    Attributes:
        width: D of z.
        hidden: width of V.

    Reference:
        Yang et al. 2016, Hierarchical Attention Networks, equations 5 to 7, over modalities in the
        place of words.
    """

    width: int = 64
    hidden: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "width", "hidden")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "AttentionFusionModule":
        """See `Fusion.build`."""
        return AttentionFusionModule(self, features, dtype=dtype, rngs=rngs)


class AttentionFusionModule(nnx.Module):
    """The module that `AttentionFusion` builds."""

    def __init__(
        self,
        config: AttentionFusion,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, config.width, dtype=dtype, rngs=rngs)
        self.score = nnx.Linear(config.width, config.hidden, dtype=dtype, rngs=rngs)
        # A common shift of the scores changes nothing, so their last layer has no bias.
        self.out = nnx.Linear(config.hidden, 1, use_bias=False, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        tokens, there = projected(self.project, features)
        weights = softmax_of_present(self.out(jnp.tanh(self.score(tokens)))[..., 0], there)
        fused = jnp.einsum("bm,bmd->bd", weights.astype(tokens.dtype), tokens)
        shares = {name: weights[:, at] for at, name in enumerate(sorted(features))}
        return Fused(Features.of_vector(fused, there.any(axis=1)), shares=shares)
