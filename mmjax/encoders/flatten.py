"""The raw modality, for baselines."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class Flatten(Encoder):
    """The input itself, flattened to one token per example, without parameters.

    With `training.steps` 0, an experiment with such encoders evaluates the raw views.
    """

    kinds: ClassVar[tuple[str, ...]] = ("vector", "image")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "FlattenEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return FlattenEncoder(math.prod(modality.shape), dtype=dtype)


class FlattenEncoder(nnx.Module):
    """The module that `Flatten` builds."""

    def __init__(self, width: int, *, dtype: jnp.dtype) -> None:
        self.features = FeatureShape(tokens=1, width=width)
        self.dtype = dtype

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, ...] to one token of all its values."""
        return Features.of_vector(x.reshape(x.shape[0], -1).astype(self.dtype))
