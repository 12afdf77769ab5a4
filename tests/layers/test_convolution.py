"""Convolution blocks: what their batch norm takes in."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.layers import ConvBlock


def test_a_batch_with_nothing_valid_leaves_the_running_statistics_as_they_are():
    block = ConvBlock(1, 2, 3, batch_norm=True, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(block)

    @jax.jit
    def step(state, x, valid):
        block = nnx.merge(graphdef, state)
        y = block(x, valid[:, None, None, None], train=True)
        (norm,) = block.norms
        return y, (norm.mean[...], norm.var[...]), nnx.state(block)

    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4, 4, 1)), jnp.float32)
    all_valid, none_valid = jnp.ones(4, bool), jnp.zeros(4, bool)
    _, seen, state = step(state, x, all_valid)
    assert (seen[1] != 1).all()
    y, after, state = step(state, 0 * x, none_valid)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(after, seen)
    spoilt = x.at[0].set(1e6)
    _, half, _ = step(state, spoilt, all_valid.at[0].set(False))
    assert (abs(half[1] - seen[1]) < 1).all()  # of the rows that are valid, and only of those
    assert (half[1] != seen[1]).all()
