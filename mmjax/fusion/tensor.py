"""Fusion by the outer product of all modalities."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections, with_one
from mmjax.structs import Features, Fused

LARGEST = 2**20  # numbers in an outer product


@dataclasses.dataclass(frozen=True)
class TensorFusion(Fusion):
    """The outer product of the modalities, each with a 1, and a linear layer on it.

        z = [z_1; 1] x ... x [z_M; 1],    z_m = W_m x_m + b_m,    y = V vec(z) + c

    So y has the products of all subsets of modalities. An absent modality is [0; 1], which leaves
    the products of the others. The paper's z_m are encoders' outputs, without W_m.

    Attributes:
        width: D of y.
        inner: numbers of each z_m. The product has (inner + 1)^M numbers.

    Reference:
        Zadeh et al. 2017, Tensor Fusion Network for Multimodal Sentiment Analysis, section 4.2.
    """

    width: int = 64
    inner: int = 16

    def __post_init__(self) -> None:
        check_sizes(self, "width", "inner")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "TensorFusionModule":
        """See `Fusion.build`.

        Raises:
            ConfigError: the outer product has more than 2^20 numbers.
        """
        if (size := (self.inner + 1) ** len(features)) > LARGEST:
            raise ConfigError(
                f"TensorFusion makes {size:,} products of {len(features)} modalities with inner = "
                f"{self.inner}: choose a smaller `inner`, or LowRankFusion."
            )
        return TensorFusionModule(self, features, dtype=dtype, rngs=rngs)


class TensorFusionModule(nnx.Module):
    """The module that `TensorFusion` builds."""

    def __init__(
        self,
        config: TensorFusion,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, config.inner, dtype=dtype, rngs=rngs)
        products = (config.inner + 1) ** len(features)
        self.out = nnx.Linear(products, config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        tokens, there = projected(self.project, features)
        product = jnp.ones((len(tokens), 1), tokens.dtype)
        for index in range(tokens.shape[1]):
            each = product[:, :, None] * with_one(tokens[:, index])[:, None, :]
            product = each.reshape(len(tokens), math.prod(each.shape[1:]))
        return Fused(Features.of_vector(self.out(product), there.any(axis=1)))
