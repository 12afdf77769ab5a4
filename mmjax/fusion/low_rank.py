"""Fusion by a low-rank form of the outer product."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import present, with_one
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class LowRankFusion(Fusion):
    """`TensorFusion` with a linear layer of low rank, without making the product.

        y = sum_r s_r prod_m (F_m^r [x_m; 1]) + c

    An absent modality is [0; 1].

    Attributes:
        width: D of y.
        rank: number of factors r.

    Reference:
        Liu et al. 2018, Efficient Low-rank Multimodal Fusion with Modality-Specific Factors,
        equation 6; the weights s_r of the ranks and c are of the authors' code.
    """

    width: int = 64
    rank: int = 4

    def __post_init__(self) -> None:
        check_sizes(self, "width", "rank")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "LowRankFusionModule":
        """See `Fusion.build`."""
        return LowRankFusionModule(self, features, dtype=dtype, rngs=rngs)


class LowRankFusionModule(nnx.Module):
    """The module that `LowRankFusion` builds."""

    def __init__(
        self,
        config: LowRankFusion,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        def factor(width: int) -> nnx.Param:
            start = jax.random.normal(rngs.params(), (config.rank, width + 1, config.width))
            return nnx.Param(start / (width + 1) ** 0.5)

        self.factors = nnx.Dict({name: factor(shape.width) for name, shape in features.items()})
        self.ranks = nnx.Param(jnp.ones(config.rank) / config.rank**0.5)
        self.bias = nnx.Param(jnp.zeros(config.width))
        self.dtype = dtype
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        there, product = present(features), jnp.ones((), self.dtype)
        for index, name in enumerate(sorted(features)):
            x = jnp.where(there[:, index, None], features[name].pooled.astype(self.dtype), 0)
            factor = self.factors[name][...].astype(self.dtype)
            product = product * jnp.einsum("bi,rid->brd", with_one(x), factor)
        fused = jnp.einsum("brd,r->bd", product, self.ranks[...].astype(self.dtype))
        fused = fused + self.bias[...].astype(self.dtype)
        return Fused(Features.of_vector(fused, there.any(axis=1)))
