"""max_pool against a loop over windows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.layers import max_pool


def reference(x, window, axes):
    for axis in axes:
        if x.shape[axis] >= window:
            starts = range(0, x.shape[axis] - window + 1, window)
            windows = [x.take(range(start, start + window), axis).max(axis) for start in starts]
            x = np.stack(windows, axis)
    return x


@pytest.mark.parametrize(
    ("shape", "window", "axes"),
    [
        ((2, 6, 4, 3), 2, (1, 2)),
        ((2, 7, 5, 3), 2, (1, 2)),  # a last row and column that fill no window
        ((2, 7, 5, 3), 3, (2,)),
        ((2, 1, 4, 3), 2, (1, 2)),  # an axis shorter than the window
        ((2, 7), 2, (1,)),
    ],
)
def test_agrees_with_a_loop(shape, window, axes):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(
        max_pool(jnp.asarray(x), window, axes), reference(x, window, axes)
    )


def test_gradient_goes_to_the_largest_of_each_window():
    x = np.random.default_rng(0).permutation(2 * 5 * 4).reshape(2, 5, 4).astype(np.float32)
    gradient = jax.grad(lambda x: max_pool(x, 2, (1, 2)).sum())(jnp.asarray(x))
    expected = np.zeros_like(x)
    for row, i, j in itertools.product(range(2), range(2), range(2)):
        window = (row, slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
        expected[window] = x[window] == x[window].max()
    np.testing.assert_array_equal(gradient, expected)


def test_pools_masks():
    valid = jnp.asarray([[True, True, True, False, False, False]])
    assert max_pool(valid, axes=(1,)).tolist() == [[True, True, False]]
