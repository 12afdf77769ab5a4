"""What the fusions of pooled features share: projections to one width, and who is present."""

import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, unknown_name
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


def check_positive(owner: str, weights: Mapping[str, float]) -> None:
    """Refuses a weight of a modality that is not above 0; ConfigError."""
    for name, weight in weights.items():
        if not 0 < weight < math.inf:
            raise ConfigError(f"The weight of {name!r} in {owner} is {weight}: choose it above 0.")


def check_complete(owner: str, weights: Mapping[str, float], modalities: Iterable[str]) -> None:
    """Refuses weights for some of the modalities only, or for others; ConfigError."""
    modalities = list(modalities)
    for name in weights:
        if name not in modalities:
            raise unknown_name(f"modality, for {owner}.weights,", name, modalities)
    for name in modalities if weights else ():
        if name not in weights:
            raise ConfigError(f"{owner}.weights has no weight for {name!r}: add it.")
