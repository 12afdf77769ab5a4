"""What the fusions of pooled features share: projections to one width, and who is present."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.structs import Features


def projections(
    features: Mapping[str, FeatureShape], width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Dict:
    """A linear layer to `width` for each modality."""
    return nnx.Dict(
        {
            name: nnx.Linear(shape.width, width, dtype=dtype, rngs=rngs)
            for name, shape in features.items()
        }
    )


def projected(layers: nnx.Dict, features: Mapping[str, Features]) -> tuple[jax.Array, jax.Array]:
    """The projected features [B, M, D], 0 where absent, and presence [B, M]; by sorted names."""
    there = present(features)
    tokens = jnp.stack([layers[name](features[name].pooled) for name in sorted(features)], axis=1)
    return jnp.where(there[:, :, None], tokens, 0), there


def present(features: Mapping[str, Features]) -> jax.Array:
    """[B, M] bool, by sorted names."""
    return jnp.stack([features[name].present for name in sorted(features)], axis=1)


def softmax_of_present(logits: jax.Array, there: jax.Array) -> jax.Array:
    """Softmax over the modalities that are present, [B, M]; zeros where none is."""
    weights = jax.nn.softmax(jnp.where(there, logits, -1e30).astype(jnp.float32), axis=1)
    return jnp.where(there, weights, 0)


def with_one(x: jax.Array) -> jax.Array:
    """[B, D] to [B, D + 1]: a 1 after the last number."""
    return jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
