"""Heads: from the fused vector to a decision."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.errors import check_sizes
from mmjax.layers import checked_dropout


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Multilayer perceptron from the fused vector to class logits.

    Attributes:
        target: name of the target that is classified; the data set knows its number of classes.
        hidden: widths of the hidden layers; none is a linear classifier.
        dropout: rate before each layer, in [0, 1).
    """

    target: str = "label"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "hidden")

    def build(
        self, width: int, classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "ClassifierHead":
        """Makes the module for fused vectors of `width`."""
        return ClassifierHead(self, width, classes, dtype=dtype, rngs=rngs)


class ClassifierHead(nnx.Module):
    """The module that `Classifier` builds."""

    def __init__(
        self, config: Classifier, width: int, classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        widths = (width, *config.hidden, classes)
        self.layers = nnx.List(
            [
                nnx.Linear(d_in, d_out, dtype=dtype, rngs=rngs)
                for d_in, d_out in itertools.pairwise(widths)
            ]
        )
        self.dropout = checked_dropout(config.dropout)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """[B, D] to logits [B, C]."""
        for index, layer in enumerate(self.layers):
            x = nnx.relu(x) if index else x
            x = layer(self.dropout(x, deterministic=not train, rngs=rngs))
        return x
