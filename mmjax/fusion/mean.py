"""Fusion by the mean over modalities."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projections
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class Mean(Fusion):
    """A linear layer on the pooled features of each modality, then the mean over those present.

    Attributes:
        width: D of the linear layers.
    """

    width: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "width")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "MeanFusion":
        """See `Fusion.build`."""
        return MeanFusion(self, features, dtype=dtype, rngs=rngs)


class MeanFusion(nnx.Module):
    """The module that `Mean` builds."""

    def __init__(
        self,
        config: Mean,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        tokens = [self.project[name](feature.pooled) for name, feature in features.items()]
        stacked = Features(  # the modalities as tokens, so that absent ones are not in the mean
            tokens=jnp.stack(tokens, axis=1),
            mask=jnp.stack([feature.present for feature in features.values()], axis=1),
        )
        return Fused(Features.of_vector(stacked.pooled, stacked.present))
