"""Pooling: max pooling that is fast on every backend, and one vector for a masked sequence."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.errors import unknown_name
from mmjax.structs import Features

Summary = Literal["tokens", "mean", "max", "last"]


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


def check_summary(config: object, output: str) -> None:
    """Raises a ConfigError for an `output` of an encoder's config that is no `Summary`."""
    if output not in get_args(Summary):
        raise unknown_name(f"output of {type(config).__name__}", output, get_args(Summary))


def summarised(
    tokens: Float[Array, "B T D"], mask: Bool[Array, "B T"], output: Summary
) -> Features:
    """The tokens of a sequence as they are, or one token for each example.

    Args:
        tokens: [B, T, D].
        mask: [B, T] the valid tokens.
        output: `tokens`, as they are; or one token: the `mean` of the valid ones, their `max` in
            every dimension, or the `last` one.

    Returns:
        T tokens, or one, which is zero and masked for an example without a valid token.
    """
    if output == "tokens":
        return Features(tokens, mask)
    there = mask.any(axis=1)
    kept = jnp.where(mask[:, :, None], tokens, 0)
    if output == "mean":
        return Features.of_vector(Features(kept, mask).pooled, there)
    if output == "max":
        # By its place: the gradient of `jnp.max` can be NaN; see `max_pool`.
        place = jnp.argmax(jnp.where(mask[:, :, None], tokens, -jnp.inf), axis=1, keepdims=True)
    else:
        place = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)[:, None, None]
    return Features(jnp.take_along_axis(kept, place, axis=1), there[:, None])
