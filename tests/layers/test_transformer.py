"""The Transformer knows no order of its own, and masked tokens reach nothing."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from parameters import filled

from mmjax.layers import Transformer

B, T, D = 2, 5, 8
MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
TOKENS = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
COTANGENT = np.random.default_rng(1).standard_normal((B, T, D)).astype(np.float32)


def transformer(dropout=0.0, layers=2):
    graphdef, params, stats, _ = filled(
        lambda: Transformer(D, layers, 2, dropout, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )
    return nnx.merge(graphdef, params, stats)


@jax.jit
def _run(tokens, mask, cotangent):
    out, back = jax.vjp(lambda tokens: transformer()(tokens, mask), tokens)
    return out, back(cotangent)[0]


def run(tokens, mask, cotangent):
    """The tokens out, and the gradient of the cotangent's product with them to the tokens in."""
    return jax.device_get(_run(tokens, mask, cotangent))


def test_permuting_tokens_permutes_the_outputs():
    order = np.random.default_rng(2).permutation(T)
    mask = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    out, _ = run(TOKENS, mask, COTANGENT)
    permuted, _ = run(TOKENS[:, order], mask[:, order], COTANGENT)
    # 1e-5: sums over tokens in another order, outputs of size 1.
    np.testing.assert_allclose(permuted, out[:, order], atol=1e-5)
    assert np.abs(np.diff(out[1], axis=0)).max() > 0.1, "tokens that are all the same prove nothing"


def test_masked_tokens_reach_no_other_token():
    out, gradient = run(TOKENS, MASK, COTANGENT * MASK[:, :, None])
    assert (gradient[~MASK] == 0).all()
    assert (gradient[MASK] != 0).any(axis=1).all()
    spoilt, spoilt_gradient = run(
        np.where(MASK[:, :, None], TOKENS, np.nan), MASK, COTANGENT * MASK[:, :, None]
    )
    np.testing.assert_array_equal(spoilt[MASK], out[MASK])
    np.testing.assert_array_equal(spoilt_gradient, gradient)


def test_finite_where_every_token_is_masked():
    out, gradient = run(TOKENS, MASK, COTANGENT)
    assert np.isfinite(out).all()
    assert np.isfinite(gradient).all()


def test_dropout_follows_its_key():
    @jax.jit
    def train(seed):
        rngs = nnx.Rngs(dropout=jax.random.key(seed))
        return transformer(0.5, 1)(jnp.asarray(TOKENS), jnp.asarray(MASK), train=True, rngs=rngs)

    one, same, other = (np.asarray(train(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
