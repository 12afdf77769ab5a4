"""Head for real numbers."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.heads.head import PooledHead, PooledHeadModule
from mmjax.structs import Target


@dataclasses.dataclass(frozen=True)
class Regressor(PooledHead):
    """Multilayer perceptron from the mean fused token to numbers in the shape of the target.

    Attributes:
        hidden: widths of the hidden layers; empty for linear regression.
        dropout: rate before each layer, in [0, 1).
    """

    kinds: ClassVar[tuple[str, ...]] = ("number",)

    def shape(self, target: Target) -> tuple[int, ...]:
        """See `PooledHead.shape`."""
        return target.shape

    def build(
        self, features: FeatureShape, target: Target, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> PooledHeadModule:
        """See `Head.build`; in float32, because bfloat16 has no number between 195 and 196."""
        return super().build(features, target, dtype=jnp.dtype("float32"), rngs=rngs)
