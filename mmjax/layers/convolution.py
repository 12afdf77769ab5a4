"""Convolution blocks."""

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.layers.batch_norm import BatchNorm
from mmjax.layers.pooling import max_pool


class ConvBlock(nnx.Module):
    """Convolution, batch norm (optional), ReLU, max pooling over windows of `pool` positions."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        kernel: int,
        *,
        batch_norm: bool,
        pool: tuple[int, int] = (2, 2),
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.pool = pool
        # Batch norm subtracts the mean, so a bias before it would have no effect.
        self.conv = nnx.Conv(
            d_in, d_out, (kernel, kernel), use_bias=not batch_norm, dtype=dtype, rngs=rngs
        )
        self.norms = nnx.List(
            [BatchNorm(d_out, momentum=0.9, dtype=dtype, rngs=rngs)] if batch_norm else []
        )

    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to a pooled map of C' channels; statistics over the `valid` [B, H, 1, 1].

        If nothing is valid, the running statistics stay as they are.
        """
        x = self.conv(x)
        for norm in self.norms:  # one, or none without batch norm
            x = norm.normalise(x, valid, train=train)
        x = nnx.relu(x)
        for axis, window in enumerate(self.pool, start=1):
            x = max_pool(x, window, axes=(axis,))
        return x
