"""Fusion by concatenation."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.fusion.fusion import Fusion
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class Concat(Fusion):
    """Concatenates the pooled features, in the order of the names; zeros for absent modalities."""

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "ConcatFusion":
        """See `Fusion.build`."""
        return ConcatFusion(features)


class ConcatFusion(nnx.Module):
    """The module that `Concat` builds."""

    def __init__(self, features: Mapping[str, FeatureShape]) -> None:
        self.features = FeatureShape(1, sum(shape.width for shape in features.values()))

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of sum D_m."""
        pooled = [features[name].pooled for name in sorted(features)]
        present = jnp.stack([feature.present for feature in features.values()]).any(axis=0)
        return Fused(Features.of_vector(jnp.concatenate(pooled, axis=-1), present))
