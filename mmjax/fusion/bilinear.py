"""Fusion by multiplicative interactions of pairs of modalities."""

import dataclasses
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class Bilinear(Fusion):
    """Every product of a feature of one modality and one of another has a weight.

        z_m = P_m x_m,    y = sum over pairs m < n of (z_m W_mn z_n) + sum_m U_m z_m + b

    with three-dimensional W_mn [d, d, D]. In the paper there are two modalities and no P_m, which
    keeps W small. An absent modality is z_m = 0.

    Attributes:
        width: D of y.
        inner: d of z_m.

    Reference:
        Jayakumar et al. 2020, Multiplicative Interactions and Where to Find Them, equation 1.
    """

    width: int = 64
    inner: int = 16

    def __post_init__(self) -> None:
        check_sizes(self, "width", "inner")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "BilinearModule":
        """See `Fusion.build`.

        Raises:
            ConfigError: there is only one modality.
        """
        if len(features) == 1:
            raise ConfigError("Bilinear multiplies pairs of modalities: add a second encoder.")
        return BilinearModule(self, features, dtype=dtype, rngs=rngs)


class BilinearModule(nnx.Module):
    """The module that `Bilinear` builds."""

    def __init__(
        self,
        config: Bilinear,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        inner, count = config.inner, len(features)
        self.pairs = tuple(itertools.combinations(range(count), 2))
        self.project = projections(features, inner, dtype=dtype, rngs=rngs)
        start = jax.random.normal(rngs.params(), (len(self.pairs), inner, inner, config.width))
        self.products = nnx.Param(start / inner)  # a sum of inner^2 products
        self.linear = nnx.Linear(count * inner, config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        tokens, there = projected(self.project, features)
        first, second = (tokens[:, jnp.array(side)] for side in zip(*self.pairs, strict=True))
        weights = self.products[...].astype(tokens.dtype)
        products = jnp.einsum("bpi,pijd,bpj->bd", first, weights, second)
        fused = products + self.linear(tokens.reshape(len(tokens), -1))
        return Fused(Features.of_vector(fused, there.any(axis=1)))
