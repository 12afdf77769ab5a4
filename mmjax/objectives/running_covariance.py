"""Covariances averaged over the batches of a run, with exponentially decaying weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from mmjax.errors import ConfigError


@struct.dataclass
class RunningCovariance:
    """Sums of covariances and of their weights, both decaying from batch to batch."""

    total: Any  # [D, D]
    weight: Any  # [], of all covariances in the total

    @classmethod
    def empty(cls, width: int, dtype: Any = jnp.float32) -> "RunningCovariance":
        """The start, before the first batch, for a view of `width`."""
        return cls(jnp.zeros((width, width), dtype), jnp.zeros((), dtype))

    def updated(
        self, covariance: jax.Array, decay: float | int, weight: jax.Array
    ) -> "RunningCovariance":
        """The running covariance with one more batch.

            total <- decay total + C,   weight <- decay weight + 1

        A batch with fewer than two rows of positive weight has no covariance and is ignored.

        Args:
            covariance: C [D, D] of the batch; only it gets the gradient of the mean.
            decay: from 0, where the batch alone counts, to below 1.
            weight: row weights of the batch, [B].
        """
        before = jax.lax.stop_gradient(self)
        counts = jnp.sum(weight > 0) > 1
        return RunningCovariance(
            jnp.where(counts, decay * before.total + covariance, before.total),
            jnp.where(counts, decay * before.weight + 1, before.weight),
        )

    @property
    def mean(self) -> Float[Array, "D D"]:
        """The weighted mean of the covariances: unbiased from the first batch on."""
        return self.total / jnp.maximum(self.weight, 1)


Memory = tuple[RunningCovariance, RunningCovariance]  # of two views


def no_memory(views: tuple[str, str], width_of: Callable[[str], int]) -> Memory:
    """The running covariances of two views before the first step; see `Objective.memory`."""
    first, second = views
    return RunningCovariance.empty(width_of(first)), RunningCovariance.empty(width_of(second))


def check_decay(decay: float | int) -> None:
    """Refuses the decay of a running covariance outside [0, 1)."""
    if not 0 <= decay < 1:
        raise ConfigError(f"decay={decay} must be from 0 to below 1")
