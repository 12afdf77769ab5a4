"""A Transformer whose blocks are scanned, computed again or left out is still the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.errors import ConfigError
from mmjax.layers import Transformer

X = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3, 4)), jnp.float32)
MASK = jnp.asarray([[1, 1, 1]] * 5 + [[1, 0, 0]], bool)
LAYERS = 3


def build(**options):
    return Transformer(4, LAYERS, 2, 0.0, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0), **options)


@jax.jit
def results():
    plain = build()
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[nnx.state(block) for block in plain.blocks]
    )

    def run(module):
        def loss(params, graph):
            out = nnx.merge(graph, params)(X, MASK, train=True, rngs=nnx.Rngs(dropout=0))
            return jnp.sum(jnp.sin(out)), out

        graph, params = nnx.split(module)
        return jax.grad(loss, has_aux=True)(params, graph)

    found = {"plain": run(plain), "remat": run(build(remat=True))}
    for name, remat in (("scan", False), ("scan_remat", True)):
        module = build(scan=True, remat=remat)
        nnx.update(module.blocks, stacked)
        gradient, out = run(module)
        blocks = [jax.tree.map(lambda x, at=at: x[at], gradient["blocks"]) for at in range(LAYERS)]
        found[name] = ({"norm": gradient["norm"], "blocks": dict(enumerate(blocks))}, out)
    return jax.tree.map(lambda x: x, found)


@pytest.mark.parametrize("name", ["remat", "scan", "scan_remat"])
def test_it_is_the_same_function_with_the_same_gradients(name):
    found = jax.device_get(results())
    for one, other in zip(
        jax.tree.leaves(found["plain"]), jax.tree.leaves(found[name]), strict=True
    ):
        # 1e-4: the same sums up to 8, which XLA may order in another way.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scan", [False, True])
def test_blocks_are_left_out_at_their_rate_and_only_in_training(scan):
    module = build(skip=0.9, scan=scan)
    quiet = module(X, MASK)
    np.testing.assert_array_equal(quiet, module(X, MASK, train=True, rngs=None))
    rows = jnp.broadcast_to(X[:1], (600, 3, 4))
    mask = jnp.ones((600, 3), bool)
    out = module(rows, mask, train=True, rngs=nnx.Rngs(dropout=0))
    untouched = module.norm(X[:1])
    share = np.mean(np.all(np.isclose(out, untouched, atol=1e-6), axis=(1, 2)))
    # Blocks 1 to 3 lose each of their two branches at 0.3, 0.6 and 0.9.
    expected = (0.3 * 0.6 * 0.9) ** 2
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / 600))


def test_a_rate_of_1_is_refused():
    with pytest.raises(ConfigError, match=r"stochastic depth is 1.0: it must be 0 or more and bel"):
        build(skip=1.0)
