"""Losses that couple the examples of a batch: a device holds its own rows, not those of all."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.objectives import (
    barlow_twins,
    dcca_loss,
    dgcca_loss,
    dimensionwise_correlation,
    dmcca_loss,
    dtcca_loss,
    eckart_young_loss,
    noi_loss,
    relative_distance,
    soft_cca_loss,
    squared_cca_loss,
    unit_distance,
    vicreg,
)

ROWS, WIDTH = 1013, 8  # of a device; a prime, which no other size is a multiple of
LOSSES = {
    "dcca, exact": dcca_loss,
    "dcca, newton_schulz": lambda x, y: dcca_loss(x, y, solver="newton_schulz"),
    "squared cca": squared_cca_loss,
    "dgcca": lambda x, y: dgcca_loss((x, y, x + y)),
    "dmcca": lambda x, y: dmcca_loss((x, y, x + y)),
    "dtcca": lambda x, y: dtcca_loss((x, y, x + y)),
    "eckart_young": lambda x, y: eckart_young_loss((x, y, x + y)),
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
    "noi": lambda x, y: noi_loss(x, y)[0],
    "soft_cca": lambda x, y: soft_cca_loss(x, y)[0],
    "dimensionwise_correlation": dimensionwise_correlation,
    "relative_distance": relative_distance,
    "unit_distance": unit_distance,
}


@pytest.mark.parametrize("name", LOSSES)
def test_no_array_of_a_device_has_the_rows_of_all(name):
    mesh = jax.make_mesh((2, 1, 1), ("data", "fsdp", "tensor"))
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), None))
    view = jax.ShapeDtypeStruct((2 * ROWS, WIDTH), jnp.float32, sharding=sharding)
    with jax.set_mesh(mesh):
        gradients = jax.jit(jax.value_and_grad(LOSSES[name], argnums=(0, 1)))
        program = gradients.lower(view, view).compile().as_text()
    assert f"[{ROWS},{WIDTH}]" in program  # a part of the rows, or this looks at nothing
    whole = rf"\w+\[(?:\d+,)*{2 * ROWS}(?:,\d+)*\]"
    assert not re.findall(whole, program)
