"""Every public loss: NaN is never hidden; jit, vmap, grad, shard_map, any mesh, bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from losses import LOSSES, OTHERS

B, D = 8, 2
ALL = {
    name: loss
    for name, loss in (LOSSES | OTHERS).items()
    if name not in ("dcca, k", "sigmoid, learned")
}
LABELS = np.arange(B) % D
every_loss = pytest.mark.parametrize("name", ALL)


def batch():
    """Two views that bfloat16 holds exactly, and weights, one of them 0."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((B, D))
    views = (jnp.asarray(view, jnp.bfloat16) for view in (x, x + rng.standard_normal((B, D))))
    weight = np.ones(B, np.float32)
    weight[-1] = 0
    return *(np.asarray(view, np.float32) for view in views), weight


@functools.cache
def value_and_gradients(name):
    def loss(x, y, weight):
        found = ALL[name](x, y, LABELS, weight)
        while isinstance(found, tuple):
            found = found[0]
        return found

    return jax.value_and_grad(loss, argnums=(0, 1))


@functools.cache
def compiled(name):
    return jax.jit(value_and_gradients(name))


@every_loss
def test_a_row_that_is_not_finite_is_never_hidden_unless_it_has_no_weight(name):
    x, y, weight = batch()
    for row, view, bad in [(0, x, np.nan), (0, y, np.nan), (0, x, np.inf), (-1, x, np.nan)]:
        kept, view[row] = view[row].copy(), bad
        value, gradients = compiled(name)(x, y, weight)
        assert np.isfinite(value) == (row == -1)
        if row == -1:
            assert all(np.isfinite(gradient).all() for gradient in gradients)
        view[row] = kept


def same(found, expected):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # 2e-4: float32 sums in another order, times the condition of 8 rows of 2 dimensions.
        np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, rtol=2e-4, atol=2e-4)


@every_loss
def test_inside_shard_map_and_vmap_in_bfloat16(name):
    x, y, weight = batch()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    # A batch for each device: views of its own beside weights that all devices share.
    given = [jnp.asarray(np.stack([view, 2 * view[::-1]]), jnp.bfloat16) for view in (x, y)]

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec("data"),
    )
    def on_each_device(x, y, weight):
        return jax.vmap(value_and_gradients(name), in_axes=(0, 0, None))(x, y, weight)

    value, gradients = on_each_device(*given, weight)
    assert value.dtype == jnp.float32
    assert all(gradient.dtype == jnp.bfloat16 for gradient in gradients)
    for device, views in enumerate([(x, y), (2 * x[::-1], 2 * y[::-1])]):
        expected, slopes = compiled(name)(*views, weight)
        same(value[device], expected)
        for ours, theirs in zip(gradients, slopes, strict=True):
            # 1e-2: the gradient is rounded to the 8 bits of bfloat16.
            close = 1e-2 * np.abs(theirs).max() + 2e-4
            np.testing.assert_allclose(np.float32(ours[device]), theirs, atol=close)


@every_loss
def test_on_rows_that_are_split_over_explicit_axes(name):
    mesh = jax.make_mesh((2,), ("data",))  # its axes are Explicit unless told otherwise
    rows = NamedSharding(mesh, PartitionSpec("data"))
    given = [jax.device_put(each, rows) for each in batch()]
    same(compiled(name)(*given), compiled(name)(*batch()))
