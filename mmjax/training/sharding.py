"""The device mesh, and the sharding of parameters and batches. Models do not depend on it."""

import dataclasses
import math
import os
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmjax.errors import ConfigError

BATCH = PartitionSpec(("data", "fsdp"))  # how the rows of a batch are split


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The shape of the device mesh; one of the three may be -1, for all remaining devices.

    Attributes:
        data: devices that split the batch and hold copies of the parameters.
        fsdp: devices that split the batch and the parameters.
        tensor: devices that split the widths of the layers.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def build(self, axis_type: AxisType = AxisType.Auto) -> jax.sharding.Mesh:
        """Makes the mesh of all devices, with the axes `data`, `fsdp` and `tensor`."""
        devices = jax.device_count()
        shape = dataclasses.asdict(self)
        fixed = math.prod(size for size in shape.values() if size != -1)
        free = [axis for axis, size in shape.items() if size == -1]
        if len(free) > 1 or fixed < 1 or devices % fixed or (not free and fixed != devices):
            raise ConfigError(
                f"A mesh of {', '.join(f'{axis}={size}' for axis, size in shape.items())} does not "
                f"fit on {devices} device(s): choose sizes whose product is {devices}; one of them "
                "may be -1."
            )
        shape.update({axis: devices // fixed for axis in free})
        return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(axis_type,) * 3)


def check_devices() -> None:
    """Raises a ConfigError if JAX cannot use the platform that it is told to use."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = f" ({' '.join(str(error).split('(set ')[0].split())})" if str(error) else ""
        raise ConfigError(
            f"JAX cannot use the platform {platforms!r} that JAX_PLATFORMS names{reason}: unset it "
            "to take the devices that are there, or install JAX for that platform (for NVIDIA "
            "GPUs, pip install 'mmjax[cuda12]')."
        ) from error


def parameter_spec(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> PartitionSpec:
    """How a parameter, or an optimizer moment of its shape, is sharded.

    The last axis is split over `tensor` and the longest other one over `fsdp`, each if its size is
    divisible; vectors and scalars are replicated.

    Args:
        shape: of the array.
        mesh: with the axes `data`, `fsdp` and `tensor`.
    """
    if len(shape) < 2:
        return PartitionSpec()
    spec: list[str | None] = [None] * len(shape)
    if mesh.shape["tensor"] > 1 and shape[-1] % mesh.shape["tensor"] == 0:
        spec[-1] = "tensor"
    longest = max(range(len(shape) - 1), key=lambda axis: shape[axis])
    if mesh.shape["fsdp"] > 1 and shape[longest] % mesh.shape["fsdp"] == 0:
        spec[longest] = "fsdp"
    return PartitionSpec(*spec)


def state_shardings(abstract: Any, mesh: jax.sharding.Mesh) -> Any:
    """The tree of shardings for a tree of shapes, such as a train state."""
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, parameter_spec(leaf.shape, mesh)), abstract
    )


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Rows split over `data` and `fsdp`."""
    return NamedSharding(mesh, BATCH)
