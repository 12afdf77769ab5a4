"""Batch norm over the examples that are there."""

import jax
import jax.numpy as jnp
from flax import nnx


class BatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` whose running statistics stay as they are while nothing is valid."""

    def normalise(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        """Normalises [B, ..., C]; in training by the statistics of the `valid` positions.

        Args:
            x: [B, ..., C].
            valid: broadcastable to x without its channels, with a last axis of 1.
            train: whether to use the batch's statistics and to update the running ones.
        """
        some = valid.any()
        mean, variance = self.mean[...], self.var[...]
        # If nothing is valid, the padding is normalised by itself: its values stay finite.
        x = self(x, use_running_average=not train, mask=valid | ~some)
        if train:
            self.mean[...] = jnp.where(some, self.mean[...], mean)
            self.var[...] = jnp.where(some, self.var[...], variance)
        return x
