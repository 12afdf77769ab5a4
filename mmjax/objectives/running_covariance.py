"""Covariances averaged over the batches of a run, with exponentially decaying weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.objective import embedding_of, paired_views
from mmjax.structs import Batch, Outputs, Term


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
PairLoss = Callable[[jax.Array, jax.Array, Memory | None, jax.Array], tuple[jax.Array, Memory]]


class RunningStatistic(nnx.Variable):
    """What an objective keeps from step to step and does not train."""


class RunningPair(nnx.Module):
    """The module of an objective on two views that keeps their running covariances.

    Args:
        views: names of the two embeddings.
        outputs: shapes of what the model returns.
        loss: from views [B, D], the covariances so far and the weight of each row [B] to the loss
            and the covariances with this batch.
    """

    def __init__(self, views: tuple[str, str], outputs: Outputs, loss: PairLoss) -> None:
        self.views, self.loss = views, loss
        first, second = (embedding_of(outputs, view).shape[-1] for view in views)
        before = RunningCovariance.empty(first), RunningCovariance.empty(second)
        self.totals = nnx.List([RunningStatistic(each.total) for each in before])
        self.weights = nnx.List([RunningStatistic(each.weight) for each in before])

    @property
    def covariances(self) -> Memory:
        """Those of the two views, of the batches so far."""
        first, second = (
            RunningCovariance(total[...], weight[...])
            for total, weight in zip(self.totals, self.weights, strict=True)
        )
        return first, second

    def __call__(
        self, outputs: Outputs, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> Term:
        """The loss of one batch; in training the covariances take it in."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        loss, after = self.loss(z1, z2, self.covariances, weight)
        if train:
            for each, total, kept in zip(after, self.totals, self.weights, strict=True):
                total[...] = jax.lax.stop_gradient(each.total)
                kept[...] = jax.lax.stop_gradient(each.weight)
        return Term.of_batch(loss)


def check_decay(decay: float | int) -> None:
    """Refuses the decay of a running covariance outside [0, 1)."""
    if not 0 <= decay < 1:
        raise ConfigError(f"decay={decay} must be from 0 to below 1")
