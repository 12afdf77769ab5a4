"""The LSTM against its equations, word by word in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from parameters import filled

from mmjax.data import Modality
from mmjax.encoders import LSTM

WORDS, D = 6, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(module, ids, mask):
    """The states [L, D] of one sentence; at a masked word, state and cell stay as they were."""

    def array(variable):
        return np.asarray(variable[...], np.float64)

    embedding, W = array(module.embed.embedding), array(module.from_input.kernel)
    b, U = array(module.from_input.bias), array(module.from_state.kernel)
    h, c, states = np.zeros(D), np.zeros(D), []
    for word, valid in zip(ids, mask, strict=True):
        if valid:
            i, f, o, g = np.split(embedding[word] @ W + b + h @ U, 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states)


def test_agrees_with_its_equations():
    rng = np.random.default_rng(0)
    modality = Modality("text", (WORDS,), vocabulary=9)
    graphdef, params, stats, _ = filled(
        lambda: LSTM(width=D).build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )
    module = nnx.merge(graphdef, params, stats)
    ids = rng.integers(1, 9, (3, WORDS)).astype(np.int32)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    present = jnp.ones(3, bool)

    run = jax.jit(lambda ids, mask: module(ids, mask, present, train=False, rngs=None))

    features = run(ids, mask)
    expected = np.stack([reference(module, *row) for row in zip(ids, mask, strict=True)])
    # 1e-5: six float32 steps on numbers of size 1.
    np.testing.assert_allclose(features.tokens, expected, atol=1e-5)

    padded = np.where(mask, ids, 0)  # without a mask, id 0 is no word
    features = run(padded, None)
    np.testing.assert_array_equal(features.mask, mask)
    np.testing.assert_allclose(features.tokens, expected, atol=1e-5)
