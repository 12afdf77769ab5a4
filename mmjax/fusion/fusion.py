"""What a fusion is: a frozen config that builds a module from `Features` to `Fused`."""

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
        """Fuses the modalities. One that is absent from an example has no valid token there.

        Beside the fused features it may give the stream of each modality after fusing, and named
        auxiliary losses as `Term`s, which the objective `AuxiliaryLoss` reads.
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
            features: modality -> tokens and width that its encoder gives.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.
        """
