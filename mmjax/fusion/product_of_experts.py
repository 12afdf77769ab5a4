"""Fusion by a product of normal distributions."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections
from mmjax.structs import Features, Fused, Term


@dataclasses.dataclass(frozen=True)
class ProductOfExperts(Fusion):
    """Each modality gives a normal distribution; their product with N(0, 1) is normal too.

        1 / v = 1 + sum_m 1 / v_m,    mean = v sum_m mean_m / v_m    over the modalities present

    for each of D numbers. So what is absent is filled in by the prior and by what is there. In
    training the fused features are drawn from the product, in evaluation they are its mean. The
    divergence KL(product || N(0, 1)) is the auxiliary loss `kl`: `AuxiliaryLoss(term="kl")` with a
    small weight trains it.

    Attributes:
        width: D.

    Reference:
        Wu and Goodman 2018, Multimodal Generative Models for Scalable Weakly-Supervised Learning,
        section 2.1 (of a VAE's encoder; here the encoder of any task).
    """

    width: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "width")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "ProductOfExpertsModule":
        """See `Fusion.build`."""
        return ProductOfExpertsModule(self, features, dtype=dtype, rngs=rngs)


class ProductOfExpertsModule(nnx.Module):
    """The module that `ProductOfExperts` builds."""

    def __init__(
        self,
        config: ProductOfExperts,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, 2 * config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`, and the term `kl`."""
        tokens, there = projected(self.project, features)
        means, logs = jnp.split(tokens.astype(jnp.float32), 2, axis=-1)  # logs: of 1 / v_m
        logs = 10 * jnp.tanh(logs / 10)  # no product over- or underflows
        precisions = jnp.where(there[:, :, None], jnp.exp(logs), 0)
        precision = 1 + precisions.sum(axis=1)
        mean = (precisions * means).sum(axis=1) / precision
        drawn = mean
        if train and rngs is not None:
            noise = jax.random.normal(rngs.dropout(), mean.shape)
            drawn = mean + noise / jnp.sqrt(precision)
        divergence = (mean**2 + 1 / precision - 1 + jnp.log(precision)).sum(axis=1) / 2
        counted = there.any(axis=1)
        term = Term(jnp.where(counted, divergence, 0).sum(), counted.sum().astype(jnp.float32))
        fused = Features.of_vector(drawn.astype(tokens.dtype), counted)
        return Fused(fused, terms={"kl": term})
