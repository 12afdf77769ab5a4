"""Max pooling that is fast on every backend."""

import jax


def max_pool(x: jax.Array, window: int = 2, axes: tuple[int, ...] = (1, 2)) -> jax.Array:
    """Maximum over windows that do not overlap, along each of `axes`.

    Implemented as reshape and max, so that the gradient does not need select-and-scatter, which is
    slow on CPU. An incomplete last window is cut off; an axis shorter than the window is unchanged.

    Args:
        x: any array.
        window: size and stride.
        axes: the axes to pool, not negative; each gets the length // `window`.
    """
    for axis in axes:
        windows = x.shape[axis] // window
        if windows:
            x = jax.lax.slice_in_dim(x, 0, windows * window, axis=axis)
            shape = (*x.shape[:axis], windows, window, *x.shape[axis + 1 :])
            x = x.reshape(shape).max(axis + 1)
    return x
