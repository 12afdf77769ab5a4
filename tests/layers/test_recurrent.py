"""Recurrent layers against their equations in float64 NumPy, and what masks do to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.errors import ConfigError
from mmjax.layers import Recurrent

B, T, D_IN, D = 3, 6, 3, 4
MASK = np.array([[1] * 6, [1, 1, 0, 1, 0, 0], [0] * 6], bool)
X = np.float32(np.random.default_rng(0).standard_normal((B, T, D_IN)))
every_cell = pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])


def layer(cell, bidirectional=True, layers=1):
    def make():
        options = {"cell": cell, "bidirectional": bidirectional, "layers": layers}
        return Recurrent(D_IN, D, **options, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))

    graphdef, params, stats, _ = filled(make)
    return nnx.merge(graphdef, params, stats)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(cell, direction, x, mask, backwards):
    """The states of one direction for one sequence, step by step."""

    def array(variable):
        return np.asarray(variable[...], np.float64)

    W, b = array(direction.from_input.kernel), array(direction.from_input.bias)
    U = array(direction.from_state.kernel)
    h = c = np.zeros(len(U))
    states = np.zeros((T, len(U)))
    for t in reversed(range(T)) if backwards else range(T):
        if mask[t]:
            a, u = x[t] @ W + b, h @ U
            if cell == "rnn":
                h = np.tanh(a + u)
            elif cell == "lstm":
                i, f, o, g = np.split(a + u, 4)
                c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            else:
                (a_r, a_z, a_n), (u_r, u_z, u_n) = np.split(a, 3), np.split(u, 3)
                r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
                h = z * h + (1 - z) * np.tanh(a_n + r * (u_n + array(direction.bias)))
        states[t] = h
    return states


@every_cell
def test_agrees_with_its_equations_in_both_directions(cell):
    module = layer(cell)
    forwards, backwards = module.layers[0]
    expected = [
        np.concatenate(
            [
                reference(cell, forwards, x, mask, backwards=False),
                reference(cell, backwards, x, mask, backwards=True),
            ],
            axis=1,
        )
        for x, mask in zip(X, MASK, strict=True)
    ]
    # 1e-5: six float32 steps on numbers of size 1.
    np.testing.assert_allclose(jax.jit(module)(X, MASK), expected, atol=1e-5)


@every_cell
def test_padding_changes_nothing_and_gets_no_gradient(cell):
    module = layer(cell, layers=2)
    cut = jax.jit(module)(X[:, :4], MASK[:, :4] | True)
    longer = np.pad(X[:, :4], [(0, 0), (0, 3), (0, 0)], constant_values=np.nan)
    padded = np.pad(np.ones((B, 4), bool), [(0, 0), (0, 3)])

    @jax.jit
    def run(x):
        def product(x):
            states = module(x, jnp.asarray(padded))
            return jnp.sum(jnp.where(padded[:, :, None], states, 0) ** 2), states

        return jax.grad(product, has_aux=True)(x)

    gradient, states = run(longer)
    np.testing.assert_allclose(states[:, :4], cut, atol=1e-6)
    assert (gradient[:, 4:] == 0).all()
    assert (gradient[:, :4] != 0).all()


def test_a_gru_is_that_of_flax():
    module, peer = layer("gru", bidirectional=False), nnx.GRUCell(D_IN, D, rngs=nnx.Rngs(0))
    ((ours,),) = module.layers
    peer.dense_i.kernel[...] = ours.from_input.kernel[...]
    peer.dense_i.bias[...] = ours.from_input.bias[...]
    peer.dense_h.kernel[...] = ours.from_state.kernel[...]
    ours.bias[...] = jnp.zeros(D)  # flax's has none
    expected = nnx.RNN(peer)(jnp.asarray(X))
    np.testing.assert_allclose(module(jnp.asarray(X), jnp.ones((B, T), bool)), expected, atol=1e-6)


def test_an_odd_width_or_another_cell_is_refused():
    for options, word in (({"bidirectional": True}, "even width"), ({"cell": "sru"}, "'sru'")):
        with pytest.raises((ConfigError, TypeError), match=word):
            Recurrent(2, 3, **options, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
