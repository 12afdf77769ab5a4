"""Losses that prevent collapse without negative pairs: Barlow Twins and VICReg."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.batch_covariance import covariance
from mmjax.objectives.batch_views import batch_views, check_not_negative, not_nan, standardised
from mmjax.objectives.objective import PairedObjective, check_pair, check_two_views, paired_views
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(PairedObjective):
    """Barlow Twins between two views: their cross-correlation matrix should be the identity.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        redundancy: factor of the squared correlations of different dimensions.
    """

    weight: float = 1.0
    views: tuple[str, str]
    redundancy: float = 5e-3

    def __post_init__(self) -> None:
        check_two_views(self.views)
        check_not_negative(redundancy=self.redundancy)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "barlow_twins"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The Barlow Twins loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        loss = barlow_twins(z1, z2, redundancy=self.redundancy, weight=weight)
        return Term.of_batch(loss)


@dataclass(frozen=True, kw_only=True)
class VICReg(PairedObjective):
    """VICReg between two views: partners close, a minimum variance, dimensions uncorrelated.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        invariance: factor of the mean squared distance of partners.
        variance: factor of the hinge terms on standard deviations below `target`.
        covariance: factor of the squared covariances of different dimensions.
        target: standard deviation from which there is no penalty.
        epsilon: added to variances before the square root.
    """

    weight: float = 1.0
    views: tuple[str, str]
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    target: float = 1.0
    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_vicreg(self.invariance, self.variance, self.covariance, self.target, self.epsilon)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "vicreg"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The VICReg loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        loss = vicreg(
            z1,
            z2,
            invariance=self.invariance,
            variance=self.variance,
            covariance=self.covariance,
            target=self.target,
            epsilon=self.epsilon,
            weight=weight,
        )
        return Term.of_batch(loss)


def barlow_twins(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    redundancy: float | int = 5e-3,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """The Barlow Twins loss on the Pearson correlations R of the dimensions of two views.

        loss = sum_i (1 - R_ii)^2 + redundancy sum_i sum_{j != i} R_ij^2

    A sum, as in the paper: it grows with the width. The scale of the views does not matter.

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        redundancy: factor of the second sum; lambda in the paper.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, in float32 (float64 for float64 views). A dimension that is constant up to
        rounding has correlations 0 and gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ, or a negative redundancy.

    Reference:
        Zbontar, Jing, Misra, LeCun, Deny, Barlow Twins: Self-Supervised Learning via Redundancy
        Reduction, ICML 2021, eq. 1-2.
    """
    check_not_negative(redundancy=redundancy)
    check_pair(jnp.asarray(z1), jnp.asarray(z2))
    batch = batch_views((z1, z2), weight)
    n1, n2 = (standardised(batch, view) for view in range(2))
    R = covariance(n1, n2, batch.weight, jnp.ones((), n1.dtype))
    diagonal = jnp.diagonal(R)
    off_diagonal = jnp.sum(jnp.square(R * (1 - jnp.eye(len(R), dtype=R.dtype))))
    return jnp.sum(jnp.square(1 - diagonal)) + redundancy * off_diagonal


def vicreg(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    invariance: float | int = 25.0,
    variance: float | int = 25.0,
    covariance: float | int = 1.0,
    target: float | int = 1.0,
    epsilon: float | int = 1e-4,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Variance-invariance-covariance regularisation.

        loss = invariance s(z1, z2) + variance (v(z1) + v(z2)) + covariance (c(z1) + c(z2))
        s = mean_b ||z1_b - z2_b||^2,    v(z) = mean_i max(0, target - sqrt(C_ii + epsilon)),
        c(z) = 1/D sum_{i != j} C_ij^2,    C the covariance of z, over B - 1

    The distance s is summed over the dimensions, as the paper's equation has it. (Code in wide use
    takes the mean over them, which divides `invariance` by D.)

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        invariance: factor of s; lambda in the paper.
        variance: factor of v; mu in the paper.
        covariance: factor of c; nu in the paper.
        target: standard deviation from which there is no penalty; gamma in the paper.
        epsilon: positive, added to variances before the square root.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, in float32 (float64 for float64 views). It grows with the fourth power of the
        views, and in float32 it is infinite above about 1e9, with a gradient that is not finite.

    Raises:
        ConfigError: (a ValueError) shapes that differ, a negative factor or target, or an epsilon
            that is not positive.

    Reference:
        Bardes, Ponce, LeCun, VICReg: Variance-Invariance-Covariance Regularization for
        Self-Supervised Learning, ICLR 2022, eq. 1-6.
    """
    _check_vicreg(invariance, variance, covariance, target, epsilon)
    z1, z2 = jnp.asarray(z1), jnp.asarray(z2)
    check_pair(z1, z2)
    batch = batch_views((z1, z2), weight)
    dtype, counted = batch.weight.dtype, batch.weight[:, None] > 0
    total = jnp.sum(batch.weight)
    difference = jnp.where(counted, z1.astype(dtype), 0) - jnp.where(counted, z2.astype(dtype), 0)
    mean_square = jnp.sum(batch.weight[:, None] * jnp.square(difference))
    loss = invariance * mean_square / jnp.where(total > 0, total, 1)
    for z in batch.unscaled:
        C = batch.covariance(z, z)
        deviation = jnp.sqrt(jnp.diagonal(C) + epsilon)
        off_diagonal = jnp.sum(jnp.square(C * (1 - jnp.eye(len(C), dtype=dtype))))
        loss = loss + variance * jnp.mean(jax.nn.relu(target - deviation))
        loss = loss + covariance * off_diagonal / len(C)
    return jnp.where(total > 0, not_nan(loss), 0)


def _check_vicreg(
    invariance: float | int,
    variance: float | int,
    covariance: float | int,
    target: float | int,
    epsilon: float | int,
) -> None:
    check_not_negative(
        invariance=invariance, variance=variance, covariance=covariance, target=target
    )
    if isinstance(epsilon, int | float) and not epsilon > 0:
        raise ConfigError(f"epsilon={epsilon} must be positive")
