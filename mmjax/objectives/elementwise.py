"""What losses of single numbers and labels share: known elements and their weights."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mmjax.errors import ConfigError
from mmjax.objectives.objective import working_dtype


def known_elements(
    predicted: ArrayLike, target: ArrayLike, weight: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Predictions and targets in the working type, and weights of the same shape [B, ...].

    Elements of weight 0 are zeros in both: a NaN that is masked only afterwards would come back in
    the gradient.

    Args:
        predicted: [B, ...].
        target: of the same shape.
        weight: [B], or of more leading axes of that shape; all 1 if None. No gradient flows to it.

    Raises:
        ConfigError: shapes that do not fit.
    """
    predicted, target = jnp.asarray(predicted), jnp.asarray(target)
    if predicted.shape != target.shape:
        raise ConfigError(
            f"the predictions have the shape {predicted.shape} and the target {target.shape}, "
            "which must be equal: give the target the head and the shape that fit"
        )
    dtype = working_dtype(predicted)
    weights = jnp.ones((), dtype) if weight is None else jnp.asarray(weight, dtype)
    if weight is not None and weights.shape != target.shape[: weights.ndim]:
        raise ConfigError(
            f"weight has the shape {weights.shape}, but the target {target.shape}: give one weight "
            "for each row, or for each element"
        )
    weights = weights.reshape(weights.shape + (1,) * (target.ndim - weights.ndim))
    weights = jax.lax.stop_gradient(jnp.broadcast_to(weights, target.shape))
    there = weights > 0
    return (
        jnp.where(there, predicted.astype(dtype), 0),
        jnp.where(there, target.astype(dtype), 0),
        weights,
    )
