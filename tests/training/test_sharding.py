"""How meshes, parameters and batches are split."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from mmjax.errors import ConfigError
from mmjax.training import Mesh
from mmjax.training.sharding import batch_sharding, parameter_spec, state_shardings

FSDP, TENSOR, DATA = Mesh(1, 2, 1), Mesh(1, 1, 2), Mesh(2, 1, 1)


@pytest.mark.parametrize(
    ("mesh", "shape"),
    [
        (Mesh(), (2, 1, 1)),
        (Mesh(data=1, fsdp=-1), (1, 2, 1)),
        (Mesh(data=-1, tensor=2), (1, 1, 2)),
        (DATA, (2, 1, 1)),
    ],
)
def test_minus_one_takes_the_devices_that_are_left(mesh, shape):
    built = mesh.build()
    assert built.axis_names == ("data", "fsdp", "tensor")
    assert built.devices.shape == shape


@pytest.mark.parametrize(
    "mesh",
    [Mesh(1), Mesh(3), Mesh(-1, 3), Mesh(-1, -1), Mesh(0), Mesh(-2), Mesh(-1, -2), Mesh(2, 2)],
)
def test_a_mesh_that_does_not_fit(mesh):
    with pytest.raises(ConfigError, match=r"does not fit on 2 device.* whose product is 2"):
        mesh.build()


@pytest.mark.parametrize(
    ("mesh", "shape", "expected"),
    [
        (DATA, (8, 6), (None, None)),
        (FSDP, (8, 6), ("fsdp", None)),
        (TENSOR, (8, 6), (None, "tensor")),
        (FSDP, (3, 3, 8, 6), (None, None, "fsdp", None)),  # the longest axis but the last
        (FSDP, (3, 3, 4, 16), (None, None, "fsdp", None)),
        (FSDP, (7, 6), (None, None)),  # 2 does not divide 7
        (TENSOR, (8, 7), (None, None)),
        (TENSOR, (3, 3, 4, 16), (None, None, None, "tensor")),
        (FSDP, (8,), ()),
        (TENSOR, (8,), ()),
        (FSDP, (), ()),
    ],
)
def test_parameter_spec(mesh, shape, expected):
    assert parameter_spec(shape, mesh.build()) == PartitionSpec(*expected)


@pytest.mark.parametrize(("mesh", "axis"), [(FSDP, 0), (TENSOR, 1)])
def test_moments_lie_as_their_parameters(mesh, axis):
    built = mesh.build()
    params = {"kernel": jnp.zeros((8, 6)), "bias": jnp.zeros(6)}
    state = {"params": params, "opt": optax.adam(0.1).init(params), "key": jax.random.key(0)}
    placed = jax.device_put(state, state_shardings(state, built))
    moments = placed["opt"][0]
    half = tuple(size // 2 if i == axis else size for i, size in enumerate((8, 6)))
    for tree in (placed["params"], moments.mu, moments.nu):
        assert {shard.data.shape for shard in tree["kernel"].addressable_shards} == {half}
        assert {shard.data.shape for shard in tree["bias"].addressable_shards} == {(6,)}
    for leaf in (moments.count, placed["key"]):
        assert leaf.sharding.is_fully_replicated


@pytest.mark.parametrize(("mesh", "rows"), [(DATA, 4), (FSDP, 4), (TENSOR, 8)])
def test_rows_of_a_batch_are_split_over_data_and_fsdp(mesh, rows):
    batch = jax.device_put(np.zeros((8, 3)), batch_sharding(mesh.build()))
    assert {shard.data.shape for shard in batch.addressable_shards} == {(rows, 3)}
