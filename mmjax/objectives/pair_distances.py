"""Distances between paired views without a whitening constraint: the terms of CorrAE and DistAE."""

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.batch_views import batch_views, standardised
from mmjax.objectives.objective import (
    PairedObjective,
    check_pair,
    check_two_views,
    paired_views,
    rows_weight,
    weighted_mean,
    working_dtype,
)
from mmjax.structs import Batch, Outputs, Term


class _OfTwoViews(PairedObjective):
    """Base of these losses: each is a function of two embeddings of equal width."""

    views: tuple[str, str]

    def __post_init__(self) -> None:
        check_two_views(self.views)

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        return Term.of_batch(self._loss(z1, z2, weight))

    @abc.abstractmethod
    def _loss(self, z1: jax.Array, z2: jax.Array, weight: jax.Array) -> jax.Array:
        """The loss of the rows with both views."""


@dataclass(frozen=True, kw_only=True)
class DimensionwiseCorrelation(_OfTwoViews):
    """Minus the sum of the correlations of each dimension of one view with that of the other.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
    """

    weight: float = 1.0
    views: tuple[str, str]

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "dimensionwise_correlation"

    def _loss(self, z1: jax.Array, z2: jax.Array, weight: jax.Array) -> jax.Array:
        return dimensionwise_correlation(z1, z2, weight=weight)


@dataclass(frozen=True, kw_only=True)
class RelativeDistance(_OfTwoViews):
    """The squared distance of partners, divided by the sum of their squared lengths.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
    """

    weight: float = 1.0
    views: tuple[str, str]

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "relative_distance"

    def _loss(self, z1: jax.Array, z2: jax.Array, weight: jax.Array) -> jax.Array:
        return relative_distance(z1, z2, weight=weight)


@dataclass(frozen=True, kw_only=True)
class UnitDistance(_OfTwoViews):
    """The squared distance of partners, each scaled to length 1: two minus twice their cosine.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
    """

    weight: float = 1.0
    views: tuple[str, str]

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "unit_distance"

    def _loss(self, z1: jax.Array, z2: jax.Array, weight: jax.Array) -> jax.Array:
        return unit_distance(z1, z2, weight=weight)


def dimensionwise_correlation(
    z1: ArrayLike, z2: ArrayLike, *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """Minus the sum over the dimensions of the Pearson correlation of the two views.

        loss = -sum_i corr(z1_i, z2_i)

    The loss of DCCA without the constraint that different dimensions are uncorrelated: they may be
    copies of each other.

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, from -D to D, in float32 (float64 for float64 views). A dimension that is constant
        up to rounding counts as 0 and has the gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ.

    Reference:
        Wang, Arora, Livescu, Bilmes, On Deep Multi-View Representation Learning, ICML 2015, the
        first term of CorrAE.
    """
    check_pair(jnp.asarray(z1), jnp.asarray(z2))
    batch = batch_views((z1, z2), weight)
    n1, n2 = (standardised(batch, view) for view in range(2))
    return -jnp.sum(batch.weight[:, None] * n1 * n2)


def relative_distance(
    z1: ArrayLike, z2: ArrayLike, *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """The mean over the examples of a distance that is invariant to scaling both views.

        loss = 1/B sum_b ||z1_b - z2_b||^2 / (||z1_b||^2 + ||z2_b||^2)

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        weight: as in `dimensionwise_correlation`.

    Returns:
        The loss, from 0 to 2 (1 for orthogonal partners), in float32 (float64 for float64 views).
        Two vectors of zeros (below 1e-38 in float32) have the distance 0 and the gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ.

    Reference:
        Wang, Arora, Livescu, Bilmes, On Deep Multi-View Representation Learning, ICML 2015, the
        first term of DistAE-1.
    """
    z1, z2, rows = _rows(z1, z2, weight)
    scale = _scale(z1, z2)
    z1, z2 = z1 / scale, z2 / scale  # the ratio is unchanged, and no square overflows
    squared_lengths = jnp.sum(jnp.square(z1) + jnp.square(z2), axis=1)
    squared_distance = jnp.sum(jnp.square(z1 - z2), axis=1)
    return weighted_mean(
        squared_distance / jnp.where(squared_lengths > 0, squared_lengths, 1), rows
    )


def unit_distance(
    z1: ArrayLike, z2: ArrayLike, *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """The mean squared distance of partners on the unit sphere.

        loss = 1/B sum_b || z1_b / ||z1_b|| - z2_b / ||z2_b|| ||^2

    The second variant of DistAE from memory; the paper's text was not available for either variant.

    Args:
        z1: first view [B, D].
        z2: second view [B, D], row i the partner of row i of `z1`.
        weight: as in `dimensionwise_correlation`.

    Returns:
        The loss, from 0 to 4, in float32 (float64 for float64 views). A zero vector is not scaled
        and has the gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ.

    Reference:
        Wang, Arora, Livescu, Bilmes, On Deep Multi-View Representation Learning, ICML 2015, the
        first term of DistAE-2.
    """
    z1, z2, rows = _rows(z1, z2, weight)
    return weighted_mean(jnp.sum(jnp.square(_unit(z1) - _unit(z2)), axis=1), rows)


def _unit(z: jax.Array) -> jax.Array:
    z = z / _scale(z)
    square = jnp.sum(jnp.square(z), axis=1, keepdims=True)
    zero = square == 0  # not `> 0` turned round, so that NaN stays NaN
    return jnp.where(zero, 0, z * jax.lax.rsqrt(jnp.where(zero, 1, square)))


def _scale(*views: jax.Array) -> jax.Array:
    """[B, 1] the largest absolute value of each row.

    1 in rows below the smallest normal number, which CPUs count as zeros: the gradient of a row is
    divided by its scale, and would overflow there.
    """
    largest = jnp.max(jnp.stack([jnp.abs(z).max(axis=1) for z in views]), axis=0)
    below = largest < jnp.finfo(largest.dtype).tiny
    return jax.lax.stop_gradient(jnp.where(below, 1, largest))[:, None]


def _rows(
    z1: ArrayLike, z2: ArrayLike, weight: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both views in the working dtype, 0 in rows of weight 0; the row weights."""
    z1, z2 = jnp.asarray(z1), jnp.asarray(z2)
    check_pair(z1, z2)
    dtype = working_dtype(z1, z2)
    rows = rows_weight(weight, len(z1), dtype)
    z1, z2 = (jnp.where(rows[:, None] > 0, z.astype(dtype), 0) for z in (z1, z2))
    return z1, z2, rows
