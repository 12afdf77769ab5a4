"""The base class of fusions: frozen configs that build modules from `Features` to `Fused`."""

import abc
from collections.abc import Mapping
from typing import Any, Protocol

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.structs import Features, Fused


class FusionModule(Protocol):
    """What `Fusion.build` returns (an `nnx.Module`)."""

    features: FeatureShape

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Fuses the modalities. A modality that is absent from an example has no valid token.

        In addition to the fused features, it can return the features of each modality after fusion
        (streams), and named auxiliary losses as `Term`s, for the objective `AuxiliaryLoss`.
        """
        ...


class Fusion(abc.ABC):
    """Base of the fusion configs."""

    @abc.abstractmethod
    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> Any:
        """Makes the `FusionModule`.

        Args:
            features: modality -> number and width of its encoder's tokens.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.
        """
