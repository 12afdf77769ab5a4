"""A model that aligns: two encoders into one space."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError
from mmjax.models.multi_encoder import MultiEncoder, MultiEncoderModule
from mmjax.structs import Modality, Target


@dataclasses.dataclass(frozen=True)
class DualEncoder(MultiEncoder):
    """A `MultiEncoder` of exactly two encoders, for the objectives that compare a pair.

    Attributes:
        encoders: modality -> encoder, exactly two.
        width: D of the common space that a linear layer projects each to; 0 for no such layer.
        frozen: encoders held fixed, by modality; see `MultiEncoder`.
    """

    def build(
        self,
        modalities: Mapping[str, Modality],
        targets: Mapping[str, Target],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> MultiEncoderModule:
        """See `Model.build`."""
        if len(self.encoders) != 2:
            raise ConfigError(
                f"DualEncoder aligns two modalities and was given {len(self.encoders)} encoders "
                f"({', '.join(self.encoders)}): name two, or use MultiEncoder."
            )
        return super().build(modalities, targets, dtype=dtype, rngs=rngs)
