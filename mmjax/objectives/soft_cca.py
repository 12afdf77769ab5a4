"""Soft CCA: the distance of partners, and a decorrelation penalty on running covariances."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.batch_views import batch_views, check_not_negative, standardised
from mmjax.objectives.objective import Objective, check_pair, check_two_views
from mmjax.objectives.running_covariance import (
    Memory,
    RunningCovariance,
    RunningPair,
    check_decay,
)
from mmjax.structs import Outputs


@dataclass(frozen=True, kw_only=True)
class SoftCCA(Objective):
    """Soft CCA between two views: their distance, and stochastic decorrelation losses (SDL).

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        decorrelation: factor of the decorrelation losses; lambda in the paper.
        decay: decay of the running covariances, from 0 (this batch alone) to below 1; alpha in the
            paper.
    """

    weight: float = 1.0
    views: tuple[str, str]
    decorrelation: float = 0.1
    decay: float = 0.9

    def __post_init__(self) -> None:
        check_two_views(self.views)
        check_decay(self.decay)
        check_not_negative(decorrelation=self.decorrelation)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "soft_cca"

    @property
    def paired_views(self) -> tuple[str, ...]:
        """See `Objective.paired_views`."""
        return self.views

    def build(self, outputs: Outputs, *, rngs: nnx.Rngs) -> RunningPair:
        """See `Objective.build`."""
        return RunningPair(self.views, outputs, self._loss)

    def _loss(
        self, z1: jax.Array, z2: jax.Array, before: Memory | None, weight: jax.Array
    ) -> tuple[jax.Array, Memory]:
        return soft_cca_loss(
            z1, z2, before, decorrelation=self.decorrelation, decay=self.decay, weight=weight
        )


def soft_cca_loss(
    z1: ArrayLike,
    z2: ArrayLike,
    memory: Memory | None = None,
    *,
    decorrelation: float | int = 0.1,
    decay: float | int = 0.9,
    weight: ArrayLike | None = None,
) -> tuple[Float[Array, ""], Memory]:
    """The distance of standardised partners, plus the correlations of different dimensions.

        loss = 1/(2 B) sum_b ||n1_b - n2_b||^2 + decorrelation (SDL(n1) + SDL(n2)),
        SDL(n) = sum_i sum_{j != i} |C_ij|,   C <- (decay W C + n'n / B) / (decay W + 1)

    with n the views standardised over the batch, dimension by dimension (batch normalisation in the
    paper), and W the weight of the earlier batches, whose part of C is constant (stop-gradient).

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        memory: the running covariances of both views; None before the first batch.
        decorrelation: factor of the decorrelation losses.
        decay: decay of the running covariances, from 0 (this batch alone) to below 1.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, at least 0, in float32 (float64 for float64 views), and the running covariances
        with this batch. A dimension that is constant up to rounding counts as 0 and has the
        gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ, a decay outside [0, 1), or a negative
            `decorrelation`.

    Reference:
        Chang, Xiang, Hospedales, Scalable and Effective Deep CCA via Soft Decorrelation, CVPR 2018,
        eq. 4-7.
    """
    check_decay(decay)
    check_not_negative(decorrelation=decorrelation)
    check_pair(jnp.asarray(z1), jnp.asarray(z2))
    batch = batch_views((z1, z2), weight)
    n1, n2 = (standardised(batch, view) for view in range(2))  # weighted squares sum to 1
    loss = 0.5 * jnp.sum(batch.weight[:, None] * jnp.square(n1 - n2))
    before = memory or tuple(RunningCovariance.empty(n.shape[1], n.dtype) for n in (n1, n2))
    after = []
    for n, running in zip((n1, n2), before, strict=True):
        # The weighted squares of n sum to 1, so the entries of C are correlations.
        C = batch.covariance(n, n) * batch.degrees
        running = running.updated(C, decay, batch.weight)
        off_diagonal = 1 - jnp.eye(n.shape[1], dtype=n.dtype)
        loss = loss + decorrelation * jnp.sum(jnp.abs(running.mean * off_diagonal))
        after.append(jax.lax.stop_gradient(running))
    return loss, (after[0], after[1])
