"""Objectives that couple the examples of a batch: two devices give what one device gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmjax.objectives import (
    InfoNCE,
    SigmoidContrastive,
    dcca_loss,
    dcca_loss_and_telemetry,
    info_nce,
    joint_embedding,
    sigmoid_contrastive,
    squared_cca_loss,
)
from mmjax.structs import Batch, Outputs

ROWS, WIDTH = 32, 5


def batch():
    rng = np.random.default_rng(0)
    h1 = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    h2 = h1 + rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    weight = np.ones(ROWS, np.float32)
    weight[-3:] = 0
    return h1, h2, weight


def on_two_devices(loss, kind, axes=("data", "fsdp")):
    """The value and gradients of a loss, its rows spread over two devices."""
    mesh = jax.make_mesh((2, 1, 1), ("data", "fsdp", "tensor"), axis_types=(kind,) * 3)
    h1, h2, weight = batch()
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(axes, None))
        each = NamedSharding(mesh, PartitionSpec(axes))
        arguments = (
            jax.device_put(h1, rows),
            jax.device_put(h2, rows),
            jax.device_put(weight, each),
        )
        value, gradients = jax.block_until_ready(
            jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*arguments)
        )
    for gradient in gradients:
        assert len({str(shard.index) for shard in gradient.addressable_shards}) == 2
    return value, gradients


def assert_same(ours, expected):
    value, gradients = ours
    expected_value, expected_gradients = expected
    # 1e-5: the same float32 sums, taken in halves.
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [None, 2])
def test_dcca(kind, weighted, k):
    def loss(h1, h2, weight):
        return dcca_loss(h1, h2, k=k, weight=weight if weighted else None)

    expected = jax.value_and_grad(loss, argnums=(0, 1))(*map(jnp.asarray, batch()))
    assert_same(on_two_devices(loss, kind), expected)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("squared", [False, True])
def test_cca_without_a_decomposition(kind, squared):
    def loss(h1, h2, weight):
        if squared:
            return squared_cca_loss(h1, h2, weight=weight)
        value, telemetry = dcca_loss_and_telemetry(h1, h2, weight=weight, solver="newton_schulz")
        # The telemetry has no gradient, and is to be the same too.
        return value + sum(telemetry.values())

    expected = jax.value_and_grad(loss, argnums=(0, 1))(*map(jnp.asarray, batch()))
    assert_same(on_two_devices(loss, kind), expected)


def test_dcca_of_one_shard_would_differ():
    # What the test above would miss if the loss saw only the rows of its own device.
    h1, h2, _ = batch()
    whole = dcca_loss(h1, h2)
    local = (dcca_loss(h1[:16], h2[:16]) + dcca_loss(h1[16:], h2[16:])) / 2
    assert abs(float(whole - local)) > 100 * 1e-5 * abs(float(whole))


@pytest.mark.parametrize(
    "loss",
    [
        lambda f, g, w: info_nce(f, g, temperature=0.1, weight=w),
        lambda f, g, w: sigmoid_contrastive(f, g, temperature=10.0, bias=-10.0, weight=w),
        lambda f, g, w: joint_embedding(
            f, g, jnp.eye(ROWS), regularization=0.1, margin=3.0, weight=w
        ),
    ],
    ids=["info_nce", "sigmoid_contrastive", "joint_embedding"],
)
def test_losses_over_pairs(loss):
    expected = jax.value_and_grad(loss, argnums=(0, 1))(*map(jnp.asarray, batch()))
    assert_same(on_two_devices(loss, AxisType.Auto), expected)


@pytest.mark.parametrize("objective", [InfoNCE, SigmoidContrastive])
def test_learned_temperature_and_bias(objective):
    module = objective(views=("a", "b"), learned=True).build(Outputs({}, {}), rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(module)
    there = dict.fromkeys("ab", jnp.ones(ROWS, bool))

    def loss(h1, h2, weight):
        def of(params):
            rows = Batch.of({}, np.arange(ROWS)).replace(weight=weight)
            outputs = Outputs({"a": h1, "b": h2}, there)
            term = nnx.merge(graphdef, params)(outputs, rows, train=True, rngs=None)
            return term.mean + sum(term.telemetry.values())

        # The size of the gradients beside the loss: both are to be the same.
        value, gradients = jax.value_and_grad(of)(nnx.as_pure(params))
        return value + sum(jax.tree.leaves(gradients))

    expected = jax.value_and_grad(loss, argnums=(0, 1))(*map(jnp.asarray, batch()))
    assert_same(on_two_devices(loss, AxisType.Auto), expected)
