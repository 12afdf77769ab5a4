"""A decoder sees nothing that comes later, and token by token it gives what it gives at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from parameters import filled

from mmjax.layers import TransformerDecoder

B, L, T, D = 2, 5, 3, 8
RNG = np.random.default_rng(0)
TOKENS = RNG.standard_normal((B, L, D)).astype(np.float32)
MEMORY = RNG.standard_normal((B, T, D)).astype(np.float32)
MASK = np.array([[1, 0, 1], [0, 0, 0]], bool)


@functools.cache
def parameters():
    return filled(
        lambda: TransformerDecoder(D, 2, 2, 0.0, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )[:3]


@jax.jit
def _run(params, tokens, memory, mask, cotangent):
    decoder = nnx.merge(parameters()[0], params, {})
    out, back = jax.vjp(lambda *inputs: decoder(*inputs, mask), tokens, memory)

    def step(cache, at):
        token, position = at
        decoded, cache = decoder.step(token, position, cache)
        return cache, decoded

    _, steps = jax.lax.scan(
        step, decoder.start(memory, mask, L), (tokens.swapaxes(0, 1), jnp.arange(L))
    )
    return out, back(cotangent), steps.swapaxes(0, 1)


def run(tokens=TOKENS, memory=MEMORY, mask=MASK, position=None):
    """The output, the gradients of the output at a position to both inputs, and all steps."""
    cotangent = np.zeros((B, L, D), np.float32)
    if position is not None:
        cotangent[:, position] = np.random.default_rng(1).standard_normal((B, D))
    return jax.device_get(_run(parameters()[1], tokens, memory, mask, cotangent))


def test_later_tokens_have_no_gradient():
    for position in range(L):
        to_tokens = run(position=position)[1][0]
        assert np.all(to_tokens[:, position + 1 :] == 0)
        assert np.abs(to_tokens[:, : position + 1]).max(axis=(0, 2)).min() > 1e-3


def test_masked_memory_reaches_nothing():
    out, (_, to_memory), steps = run(position=2)
    assert np.all(to_memory[~MASK] == 0)
    assert np.abs(to_memory[MASK]).min() > 0
    holed = np.where(MASK[:, :, None], MEMORY, np.nan)
    also, (to_tokens, _), also_steps = run(memory=holed, position=2)
    np.testing.assert_array_equal(also, out)
    np.testing.assert_array_equal(also_steps, steps)
    assert np.isfinite(to_tokens).all()


def test_step_by_step_is_all_at_once():
    out, _, steps = run(mask=np.ones((B, T), bool))
    # 1e-5: outputs of size 1 after a layer norm; the sums are over other shapes.
    np.testing.assert_allclose(steps, out, atol=1e-5)
    assert np.abs(np.diff(out, axis=1)).max() > 0.1, "tokens that are all the same prove nothing"
