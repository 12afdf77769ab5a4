"""Average pooling to a given size."""

import jax
import jax.numpy as jnp
import numpy as np


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] to [B, size, size, C]: means over bins that cover the map.

    Bin i of an axis of length n has the positions floor(i n / size) to ceil((i + 1) n / size) - 1;
    bins overlap where size does not divide n, and repeat positions where n is smaller.
    """
    for axis in (1, 2):
        if x.shape[axis] != size:
            bins = jnp.asarray(_bins(x.shape[axis], size), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(x, bins, (axis, 0)), -1, axis)
    return x


def _bins(length: int, size: int) -> np.ndarray:
    """The weights [length, size] of the positions in each bin."""
    index = np.arange(size)
    first, end = index * length // size, -(-(index + 1) * length // size)
    position = np.arange(length)[:, None]
    inside = (first <= position) & (position < end)
    return inside / inside.sum(0)
