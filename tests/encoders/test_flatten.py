"""Flatten: the modality as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.data import Modality
from mmjax.encoders import Flatten
from mmjax.errors import ConfigError


def build(kind, shape, dtype="float32"):
    return Flatten().build(Modality(kind, shape), dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("kind_and_shape", [("vector", (6,)), ("image", (2, 3, 1))])
def test_it_gives_the_values_in_their_order_without_parameters(kind_and_shape):
    module = build(*kind_and_shape)
    x = np.arange(24, dtype=np.float32).reshape(4, *kind_and_shape[1])
    features = module(jnp.asarray(x), None, jnp.ones(4, bool), train=True, rngs=None)
    assert module.features == (1, 6)
    np.testing.assert_array_equal(features.tokens, x.reshape(4, 1, 6))
    np.testing.assert_array_equal(features.pooled, x.reshape(4, 6))
    assert features.mask.all()
    assert not jax.tree.leaves(nnx.state(module, nnx.Param))


def test_it_computes_in_the_type_of_the_model():
    features = build("vector", (3,), "bfloat16")(
        jnp.ones((2, 3), jnp.float32), None, jnp.ones(2, bool), train=False, rngs=None
    )
    assert features.pooled.dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", ["text", "audio"])
def test_other_kinds_are_refused(kind):
    with pytest.raises(ConfigError, match=f"Flatten encodes .* vector or image, not {kind}"):
        build(kind, (8,))
