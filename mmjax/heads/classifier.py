"""Head for one of C classes."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.heads.head import Head, PooledHead
from mmjax.structs import Target


@dataclasses.dataclass(frozen=True)
class Classifier(Head):
    """Multilayer perceptron from the mean fused token to the logits [B, C] of a class.

    Attributes:
        hidden: widths of the hidden layers; empty for a linear classifier.
        dropout: rate before each layer, in [0, 1).
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    kinds: ClassVar[tuple[str, ...]] = ("class",)

    def __post_init__(self) -> None:
        check_sizes(self, "hidden")

    def build(
        self, features: FeatureShape, target: Target, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> PooledHead:
        """See `Head.build`."""
        self.check_kind(target)
        return PooledHead(
            features, self.hidden, (target.classes,), dropout=self.dropout, dtype=dtype, rngs=rngs
        )
