"""A model for alignment: two encoders into one space."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError
from mmjax.models.multi_encoder import MultiEncoder, MultiEncoderModule
from mmjax.structs import Modality, Target


@dataclasses.dataclass(frozen=True)
class DualEncoder(MultiEncoder):
    """A `MultiEncoder` with exactly two encoders, for objectives that compare pairs.

    Attributes:
        encoders: modality -> encoder, exactly two.
        width: D of a common space, to which a linear layer projects each modality; 0 for no layer.
        frozen: modalities of frozen encoders; see `MultiEncoder`.
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
                f"DualEncoder needs two encoders, but has {len(self.encoders)} "
                f"({', '.join(self.encoders)}): give it two, or use MultiEncoder."
            )
        return super().build(modalities, targets, dtype=dtype, rngs=rngs)
