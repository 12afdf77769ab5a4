"""What the fusions of tokens share: every modality as a stream of tokens of one width."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.fusion.pooled import projections
from mmjax.structs import Features


class Streams(nnx.Module):
    """Projects the tokens of each modality and adds learned embeddings of place and modality.

    Args:
        features: modality -> number and width of its encoder's tokens.
        width: D of the streams.
        dtype: of the computation.
        rngs: initialises the parameters.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureShape],
        width: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, width, dtype=dtype, rngs=rngs)
        self.positions = nnx.Dict(
            {
                name: nnx.Embed(shape.tokens, width, dtype=dtype, rngs=rngs)
                for name, shape in features.items()
            }
        )
        self.modality = nnx.Embed(len(features), width, dtype=dtype, rngs=rngs)

    def __call__(self, features: Mapping[str, Features]) -> dict[str, jax.Array]:
        """Modality -> [B, T_m, D], in the order of the names."""
        streams = {}
        for index, name in enumerate(sorted(features)):
            tokens = self.project[name](features[name].tokens)
            position = self.positions[name](jnp.arange(tokens.shape[1]))
            streams[name] = tokens + position + self.modality(jnp.full(1, index))
        return streams


def joined(streams: Mapping[str, Features]) -> Features:
    """The tokens of all streams, one modality after the other in the order of the names."""
    parts = [streams[name] for name in sorted(streams)]
    return Features(
        tokens=jnp.concatenate([part.tokens for part in parts], axis=1),
        mask=jnp.concatenate([part.mask for part in parts], axis=1),
    )
