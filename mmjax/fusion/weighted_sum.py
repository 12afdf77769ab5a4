"""Fusion by a weighted sum over modalities."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import (
    check_complete,
    check_positive,
    projected,
    projections,
    softmax_of_present,
)
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class WeightedSum(Fusion):
    """A linear layer on the pooled features of each modality, then their weighted sum.

        z = sum_m w_m (W_m x_m + b_m) / sum_m w_m    over the modalities m that are present

    Attributes:
        width: D of the linear layers.
        weights: modality -> its weight, above 0; empty: the weights are learned, as the softmax of
            one number for each modality, which starts at equal weights.
    """

    width: int = 64
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_sizes(self, "width")
        check_positive("WeightedSum", self.weights)

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "WeightedSumFusion":
        """See `Fusion.build`.

        Raises:
            ConfigError: weights for some of the modalities only, or for others.
        """
        check_complete("WeightedSum", self.weights, features)
        return WeightedSumFusion(self, features, dtype=dtype, rngs=rngs)


class WeightedSumFusion(nnx.Module):
    """The module that `WeightedSum` builds."""

    def __init__(
        self,
        config: WeightedSum,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, config.width, dtype=dtype, rngs=rngs)
        names = sorted(features) if config.weights else []
        self.fixed = tuple(math.log(config.weights[name]) for name in names)
        self.logits = None if names else nnx.Param(jnp.zeros(len(features)))
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        tokens, there = projected(self.project, features)
        logits = jnp.asarray(self.fixed) if self.logits is None else self.logits[...]
        weights = softmax_of_present(logits, there).astype(tokens.dtype)
        fused = jnp.einsum("bm,bmd->bd", weights, tokens)
        shares = {name: weights[:, at] for at, name in enumerate(sorted(features))}
        return Fused(Features.of_vector(fused, there.any(axis=1)), shares=shares)
