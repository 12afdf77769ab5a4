"""Attention against its formula in float64 NumPy, and what a mask and bfloat16 change."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.errors import ConfigError
from mmjax.layers import Attention

B, Tq, Tk, D, H = 3, 4, 5, 8, 2
MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)


def attention(dtype="float32"):
    graphdef, params, stats, _ = filled(
        lambda: Attention(D, H, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    )
    return nnx.merge(graphdef, params, stats)


def tokens():
    rng = np.random.default_rng(0)
    return np.float32(rng.standard_normal((B, Tq, D))), np.float32(rng.standard_normal((B, Tk, D)))


def reference(module, queries, keys, mask):
    """softmax(q k' / sqrt(D / H)) v for each row, head and query, in float64."""

    def linear(layer, x):
        bias = 0 if layer.bias is None else np.asarray(layer.bias[...], np.float64)
        return x.astype(np.float64) @ np.asarray(layer.kernel[...], np.float64) + bias

    q, k, v = linear(module.query, queries), linear(module.key, keys), linear(module.value, keys)
    attended = np.zeros_like(q)
    for row in range(len(q)):
        for head in range(H):
            part = slice(head * D // H, (head + 1) * D // H)
            logits = q[row, :, part] @ k[row, :, part].T / np.sqrt(D / H)
            power = np.exp(logits - logits.max()) * mask[row]
            attended[row, :, part] = power / power.sum(1, keepdims=True) @ v[row, :, part]
    return linear(module.out, attended)


def test_agrees_with_the_formula_in_float64():
    module, (queries, keys) = attention(), tokens()
    ours = jax.jit(lambda *tokens: module(*tokens, jnp.asarray(MASK)))(queries, keys)
    # 1e-5: sums of 8 float32 products, four layers of them.
    np.testing.assert_allclose(
        ours[:2], reference(module, queries[:2], keys[:2], MASK[:2]), rtol=1e-5, atol=1e-5
    )
    assert np.isfinite(ours).all(), "a row whose keys are all masked"


def test_bfloat16_keeps_the_softmax_in_float32():
    module, (queries, keys) = attention("bfloat16"), tokens()
    jaxpr = str(jax.make_jaxpr(module)(jnp.asarray(queries), jnp.asarray(keys), jnp.asarray(MASK)))
    assert set(re.findall(r"(\w+)\[[\d,]*\] = exp\b", jaxpr)) == {"f32"}
    assert set(re.findall(r"(\w+)\[[\d,]*\] = dot_general", jaxpr)) == {"f32", "bf16"}


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ConfigError, match="width of 8 cannot be split into 3 attention heads"):
        Attention(8, 3, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
