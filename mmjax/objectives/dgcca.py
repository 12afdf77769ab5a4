"""Deep generalised CCA: how badly k shared variables are predicted from the views (MAXVAR)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.batch_covariance import matmul
from mmjax.objectives.batch_views import (
    batch_views,
    check_not_negative,
    check_rows,
    checked_k,
    unwhiten,
    with_gradient_of,
)
from mmjax.objectives.objective import (
    CovarianceObjective,
    check_distinct_views,
    common_rows,
    pairs_of,
)
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class DGCCA(CovarianceObjective):
    """Deep generalised CCA: the squared distance of k shared variables from the views' predictions.

    The rows with all views present count; `pairs`, their number, is logged beside the loss. The
    batch must have at least as many rows as the widest view has dimensions, and should have several
    times as many as all views together.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the embeddings, two or more.
        k: how many shared variables; as many as the narrowest view has dimensions if not given.
        ridge: added to every variance, in the units of the embeddings squared.
    """

    weight: float = 1.0
    views: tuple[str, ...]
    k: int | None = None
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        check_distinct_views(self.views)
        check_not_negative(ridge=self.ridge)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "dgcca"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The DGCCA loss of one batch."""
        views, weight = common_rows(outputs, batch, self.views)
        loss = dgcca_loss(views, ridge=self.ridge, k=self.k, weight=weight)
        return Term.of_batch(loss, pairs=pairs_of(weight))


def dgcca_loss(
    views: Sequence[ArrayLike],
    *,
    ridge: float | int = 1e-4,
    k: int | None = None,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """The MAXVAR loss of V views: the residual of k shared variables after the best predictions.

        loss = min_{G, A} sum_v ||G - X_v A_v||^2 + (N - 1) ridge ||A_v||^2,   G'G = I
             = k V - sum of the k largest eigenvalues of M,
        M    = sum_v X_v (X_v'X_v + (N - 1) ridge I)^-1 X_v'

    with every X_v centred. These are the largest eigenvalues of C a = lambda D a, where C is the
    covariance of the concatenated views and D its diagonal blocks, one a view, plus the ridge: a
    matrix of sum(D_v) rows, not of N. In the gradient the directions a are constant (stop-gradient,
    see `batch_views`): d lambda = a'(dC - lambda dD) a. The module `batch_covariance` says what is
    added to the variances so that finite views give finite results.

    Without a ridge the loss does not change under invertible linear maps of the views, and at the
    best linear maps it is k V - the sum of `GCCA`'s eigenvalues.

    Args:
        views: two or more, [B, D_v] each; row i of every view is of the same example.
        ridge: added to every variance, in squared units of the views.
        k: how many shared variables; the width of the narrowest view if None.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, between 0 and k V, in float32 (float64 for float64 views).

    Raises:
        ConfigError: (a ValueError) fewer than two views, shapes that do not match, fewer rows than
            the widest view has dimensions, a `k` outside 1..min(D_v), or a negative ridge.

    Reference:
        Benton, Khayrallah, Gujral, Reisinger, Zhang, Arora, Deep Generalized Canonical Correlation
        Analysis, 2017 (RepL4NLP 2019), the objective and its equality to r J - sum of eigenvalues.
    """
    check_not_negative(ridge=ridge)
    batch = batch_views(views, weight)
    check_rows(views)
    k = checked_k(k, views)
    dtype = batch.weight.dtype
    count = len(batch.centred)
    lowers = [batch.cholesky(v, jnp.asarray(ridge, dtype)) for v in range(count)]
    joint = lax.stop_gradient(jnp.concatenate(batch.centred, axis=1))
    half = _solve_blocks(lowers, batch.covariance(joint, joint))
    T = _solve_blocks(lowers, half.T)
    eigenvalues, E = jnp.linalg.eigh((T + T.T) / 2)
    eigenvalues, E = eigenvalues[::-1][:k], E[:, ::-1][:, :k]
    value = count * k - jnp.sum(jnp.clip(eigenvalues, 0, count))  # outside only by rounding
    sum_of_projections, sum_of_squares = jnp.zeros((), dtype), jnp.zeros((), dtype)
    for x, lower, block in zip(batch.centred, lowers, _split(E, lowers), strict=True):
        z = matmul(x, unwhiten(lower, block))
        sum_of_projections = sum_of_projections + z
        sum_of_squares = sum_of_squares + jnp.square(z)
    surrogate = batch.covariance_weight * (
        eigenvalues[None, :] * sum_of_squares - jnp.square(sum_of_projections)
    )
    return with_gradient_of(value, jnp.sum(surrogate))


def _split(matrix: jax.Array, lowers: Sequence[jax.Array]) -> list[jax.Array]:
    """The rows of a matrix that belong to each view."""
    parts, start = [], 0
    for lower in lowers:
        parts.append(matrix[start : start + len(lower)])
        start += len(lower)
    return parts


def _solve_blocks(lowers: Sequence[jax.Array], matrix: jax.Array) -> jax.Array:
    """L^-1 times a matrix, where L is block-diagonal with these blocks."""
    both = zip(lowers, _split(matrix, lowers), strict=True)
    return jnp.concatenate([solve_triangular(lower, part, lower=True) for lower, part in both])
