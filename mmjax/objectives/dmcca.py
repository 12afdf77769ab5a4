"""Deep multiset CCA: between-view over within-view covariance, along directions shared by all."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.batch_covariance import matmul, ridged_cholesky
from mmjax.objectives.batch_views import (
    batch_views,
    check_not_negative,
    check_one_width,
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
class DMCCA(CovarianceObjective):
    """Deep multiset CCA: minus the mean inter-set correlation of views of equal width.

    The rows with all views present count; `pairs`, their number, is logged beside the loss. The
    batch must have at least as many rows as the views have dimensions, and should have several
    times as many.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the embeddings, two or more, of equal width.
        k: how many of the largest inter-set correlations to average; all of them if not given.
        ridge: added to every variance of every view, in the units of the embeddings squared.
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
        return "dmcca"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The dMCCA loss of one batch."""
        views, weight = common_rows(outputs, batch, self.views)
        loss = dmcca_loss(views, ridge=self.ridge, k=self.k, weight=weight)
        return Term.of_batch(loss, pairs=pairs_of(weight))


def dmcca_loss(
    views: Sequence[ArrayLike],
    *,
    ridge: float | int = 1e-4,
    k: int | None = None,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Minus the mean of the (top k) inter-set correlations of V views of one width D.

        R_B a = rho (V - 1) R_W a,   R_B = sum_{v != w} C_vw,   R_W = sum_v (C_vv + ridge I)

    loss = -mean_i rho_i. The D x D matrices are sums over the views, so all views share one
    direction a: dimension d means the same in each. In `DGCCA` and `MCCA` every view has its own
    directions. In the gradient the directions are constant (stop-gradient, see `batch_views`); the
    module `batch_covariance` says what is added to the variances so that finite views give finite
    results.

    Without a ridge the loss is invariant to one invertible linear map of all views, but not to a
    different map of each. The paper shrinks R_W towards a multiple of I; here it has a ridge.

    Args:
        views: two or more, [B, D] each; row i of every view is of the same example.
        ridge: added to every variance of every view, in squared units of the views.
        k: how many of the largest correlations to average; all D if None.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, between -1 and 1 / (V - 1), in float32 (float64 for float64 views).

    Raises:
        ConfigError: (a ValueError) fewer than two views, shapes that do not match, B < D, a `k`
            outside 1..D, or a negative ridge.

    Reference:
        Somandepalli, Kumar, Travadi, Narayanan, Multimodal Representation Learning using Deep
        Multiset Canonical Correlation Analysis, 2019 (the inter-set correlation); Parra, Multi-set
        Canonical Correlation Analysis simply explained, 2018.
    """
    check_not_negative(ridge=ridge)
    # One scale for all views, because sums over views need common units.
    batch = batch_views(views, weight, one_scale=True)
    check_one_width(views)
    check_rows(views)
    k = checked_k(k, views)
    centred, scale, others = batch.centred, batch.scales[0], len(batch.centred) - 1
    constant = lax.stop_gradient(centred)
    within, total = jnp.zeros((), constant[0].dtype), jnp.zeros((), constant[0].dtype)
    for x in constant:
        within = within + batch.covariance(x, x)
        total = total + x
    mean = jnp.sqrt(sum(jnp.square(mean) for mean in batch.means))
    lower = ridged_cholesky(
        within, mean, len(constant) * jnp.asarray(ridge, scale.dtype) / scale / scale
    )
    between = batch.covariance(total, total) - within
    half = solve_triangular(lower, between, lower=True)
    T = solve_triangular(lower, half.T, lower=True) / others
    rho, E = jnp.linalg.eigh((T + T.T) / 2)
    rho, E = jnp.clip(rho[::-1][:k], -1 / others, 1), E[:, ::-1][:, :k]
    directions = unwhiten(lower, E)
    sum_of_projections, sum_of_squares = jnp.zeros((), rho.dtype), jnp.zeros((), rho.dtype)
    for x in centred:
        z = matmul(x, directions)
        sum_of_projections = sum_of_projections + z
        sum_of_squares = sum_of_squares + jnp.square(z)
    # d rho = a'(dR_B / (V - 1) - rho dR_W) a
    surrogate = (
        batch.covariance_weight
        * ((1 + others * rho)[None, :] * sum_of_squares - jnp.square(sum_of_projections))
        / others
    )
    return with_gradient_of(-jnp.mean(rho), jnp.sum(surrogate) / k)
