"""Parameters for tests, drawn with NumPy: initialising them in JAX takes longer to compile."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def direction(shape):
    """Numbers [*shape] of size 1 to take products with, drawn with NumPy."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def filled(make, seed=0):
    """The structure of the module that `make` makes, its parameters and statistics, its features.

    Weights are scaled by their fan-in, so that activations stay of size 1; biases and scales are
    drawn too, as zeros and ones would hide what they do.
    """
    static = []

    def trace():
        module = make()
        graphdef, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
        static.extend((graphdef, getattr(module, "features", None)))
        return nnx.as_pure(params), nnx.as_pure(stats)

    params, stats = jax.eval_shape(trace)
    stats = jax.tree.map(lambda leaf: jnp.asarray(np.ones(leaf.shape), leaf.dtype), stats)
    return static[0], drawn(params, seed), stats, static[1]


def drawn(shapes, seed=0):
    """Values for a tree of the shapes of parameters; see `filled`."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        values = rng.standard_normal(leaf.shape)
        if len(leaf.shape) > 1:
            return jnp.asarray(values / math.sqrt(math.prod(leaf.shape[:-1])), leaf.dtype)
        return jnp.asarray(0.7 + 0.3 * values, leaf.dtype)

    return jax.tree.map(draw, shapes)
