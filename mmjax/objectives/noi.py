"""Nonlinear orthogonal iterations: CCA by least squares on whitened targets, for small batches."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.batch_covariance import matmul
from mmjax.objectives.batch_views import batch_views, check_one_width, not_nan
from mmjax.objectives.objective import Objective, check_two_views, weighted_mean
from mmjax.objectives.running_covariance import (
    Memory,
    RunningCovariance,
    RunningPair,
    check_decay,
)
from mmjax.structs import Outputs


@dataclass(frozen=True, kw_only=True)
class NOI(Objective):
    """Nonlinear orthogonal iterations between two views, with running covariances.

    Batches may have fewer rows than dimensions, as covariances are averaged over batches. The loss
    need not decrease during training; see `noi_loss`.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        decay: decay of the running covariances, from 0 (this batch alone) to below 1; rho in the
            paper.
        ridge: added to every variance, in the units of the embeddings squared.
    """

    weight: float = 1.0
    views: tuple[str, str]
    decay: float = 0.99
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        check_two_views(self.views)
        check_decay(self.decay)
        _check_ridge(self.ridge)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "noi"

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
        return noi_loss(z1, z2, before, decay=self.decay, ridge=self.ridge, weight=weight)


def noi_loss(
    z1: ArrayLike,
    z2: ArrayLike,
    memory: Memory | None = None,
    *,
    decay: float | int = 0.99,
    ridge: float | int = 1e-4,
    weight: ArrayLike | None = None,
) -> tuple[Float[Array, ""], Memory]:
    """The squared distance of each view from the other one, whitened and constant (stop-gradient).

        loss = 1/B sum_b ||f_b - C_gg^-1/2 g_b||^2 + ||g_b - C_ff^-1/2 f_b||^2

    with f and g the centred views and the whitened views constant. A step to its minimum is one
    step of orthogonal iteration on the canonical directions, so training reduces the angle to
    these, not necessarily the loss, whose targets change at every step.

    The covariances are decayed means over all batches up to this one, each batch centred by its own
    mean. (The paper starts from the covariances of a large batch; here they are weighted means from
    the first step on.)

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        memory: the running covariances of both views; None before the first batch.
        decay: decay of the running covariances, from 0 (this batch alone) to below 1.
        ridge: added to every variance, in squared units of the views.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, at least 0, in float32 (float64 for float64 views), and the running covariances
        with this batch. It grows with the square of the views, and in float32 it is infinite
        above about 1e18. A batch of one row has no covariance: its loss and gradient are 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ, a decay outside [0, 1), or a ridge that is
            not above 0.

    Reference:
        Wang, Arora, Livescu, Srebro, Stochastic Optimization for Deep CCA via Nonlinear Orthogonal
        Iterations, Allerton 2015, algorithm 2.
    """
    check_decay(decay)
    _check_ridge(ridge)
    batch = batch_views((z1, z2), weight)
    check_one_width((z1, z2))
    views, rows = batch.unscaled, batch.weight
    before = memory or tuple(RunningCovariance.empty(z.shape[1], z.dtype) for z in views)
    after, targets = [], []
    for view, running in zip(views, before, strict=True):
        constant = jax.lax.stop_gradient(view)
        running = running.updated(batch.covariance(constant, constant), decay, rows)
        after.append(running)
        targets.append(matmul(constant, _inverse_root(running.mean, ridge)))
    (f, g), (whitened_f, whitened_g) = views, targets
    squared_distance = jnp.sum(jnp.square(f - whitened_g) + jnp.square(g - whitened_f), axis=1)
    return not_nan(weighted_mean(squared_distance, rows)), (after[0], after[1])


def _inverse_root(C: jax.Array, ridge: float | int) -> jax.Array:
    """(C + ridge I)^-1/2, of constants."""
    values, V = jnp.linalg.eigh(C)
    # Smaller eigenvalues are rounding: whitening would scale that noise to a variance of 1.
    rounding = len(C) * jnp.finfo(C.dtype).eps * jnp.maximum(values[-1], 0)
    return matmul(V / jnp.sqrt(jnp.maximum(values, rounding) + ridge), V.T)


def _check_ridge(ridge: float | int) -> None:
    if not ridge > 0:
        raise ConfigError(
            f"ridge={ridge} must be above 0: with fewer rows than dimensions nothing else keeps "
            "the covariance from being singular"
        )
