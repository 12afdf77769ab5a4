"""Max pooling that is fast on every backend."""

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, window: int = 2, axes: tuple[int, ...] = (1, 2)) -> jax.Array:
    """Maximum over windows that do not overlap, along each of `axes`; NaN where one is in a window.

    Implemented as selections between slices, so that the gradient does not need select-and-scatter,
    which is slow on CPU, and goes to one element of each window: the first of the largest. The
    gradient of `jnp.max` looks for the elements equal to the maximum. A compiler that computes `x`
    twice and rounds it in two ways finds none, and the gradient is NaN.

    An incomplete last window is cut off; an axis shorter than the window is unchanged.

    Args:
        x: any array.
        window: size and stride.
        axes: the axes to pool, not negative; each gets the length // `window`.
    """
    for axis in axes:
        windows = x.shape[axis] // window
        if windows:
            x = jax.lax.slice_in_dim(x, 0, windows * window, axis=axis)
            parts = x.reshape(*x.shape[:axis], windows, window, *x.shape[axis + 1 :])
            x = jax.lax.index_in_dim(parts, 0, axis + 1, keepdims=False)
            for place in range(1, window):
                other = jax.lax.index_in_dim(parts, place, axis + 1, keepdims=False)
                x = jnp.where((x >= other) | jnp.isnan(x), x, other)
    return x
