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


@pytest.mark.parametrize("emitters", [True, False])
def test_the_gradient_stands_however_the_compiler_rounds(emitters):
    """Without optimisations XLA computes what is pooled twice, once with a fused multiply-add.

    The gradient of `jnp.max` compares the two: it was NaN here.
    """
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((3, 9, 6, 4)), rng.standard_normal(4)
    options = {"xla_backend_optimization_level": 0}
    if jax.__version_info__ < (0, 12):  # later ones have one set of emitters
        options["xla_cpu_use_fusion_emitters"] = emitters
    gradient = jax.jit(
        jax.grad(lambda x, scale: max_pool(x * scale + 0.3).sum()), compiler_options=options
    )(np.float32(x), np.float32(scale))
    # Each of the 4 x 3 windows passes the gradient to one of its elements.
    chosen = np.asarray(gradient / np.float32(scale))
    assert ((chosen == 0) | (np.abs(chosen - 1) < 1e-6)).all()
    np.testing.assert_allclose(chosen.sum((1, 2)), np.full((3, 4), 12), rtol=1e-6)


def test_not_a_number_stays():
    for place in range(4):
        x = jnp.zeros(4).at[place].set(jnp.nan)
        assert np.isnan(max_pool(x, window=4, axes=(0,))).all()
