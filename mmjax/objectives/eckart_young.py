"""The Eckart-Young loss: multiview CCA as an unconstrained loss, also for small batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.batch_views import batch_views, check_one_width, not_nan
from mmjax.objectives.objective import PairedObjective, check_distinct_views, common_rows
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class EckartYoung(PairedObjective):
    """Eckart-Young loss of views: between-view covariance, and a penalty on within-view covariance.

    The rows with all views present count. Two rows are enough, as nothing is inverted, but see
    `eckart_young_loss` on the bias of small batches.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the embeddings, two or more, of equal width.
    """

    weight: float = 1.0
    views: tuple[str, ...]

    def __post_init__(self) -> None:
        check_distinct_views(self.views)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "eckart_young"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The Eckart-Young loss of one batch."""
        views, weight = common_rows(outputs, batch, self.views)
        return Term.of_batch(eckart_young_loss(views, weight=weight))


def eckart_young_loss(
    views: Sequence[ArrayLike], *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """Minus twice the between-view covariance, plus the squared norm of the within-view covariance.

        loss = -2 tr(A) + tr(B B),   A = sum_{v != w} C_vw,   B = sum_v C_vv

    Over linear maps of the views to K dimensions its minimum is minus the sum of the squares of the
    K largest eigenvalues of `MCCA` (those above 0; no ridge), at maps that span its directions.

    This is the plug-in form: both factors of tr(B B) come from the same rows. A and B are unbiased
    estimates of the population values, but tr(B B) is biased upwards by the variance of B. (The
    paper's unbiased form takes the two factors from two independent batches.)

    Args:
        views: two or more, [B, K] each, of equal width; row i of every view of the same example.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, in float32 (float64 for float64 views). It grows with the fourth power of the
        views, and in float32 it is infinite above about 1e9, with a gradient that is not finite.

    Raises:
        ConfigError: (a ValueError) fewer than two views, or shapes that do not match.

    Reference:
        Chapman, Wells, Lawry Aguila, Unconstrained Stochastic CCA: Unifying Multiview and
        Self-Supervised Learning, ICLR 2024 (first as Efficient Algorithms for the CCA Family,
        2023), the Eckart-Young loss for deep CCA.
    """
    batch = batch_views(views, weight)
    check_one_width(views)
    dtype = batch.weight.dtype
    total, squares, within = (jnp.zeros((), dtype) for _ in range(3))
    for z in batch.unscaled:
        total = total + z
        squares = squares + jnp.square(z)
        within = within + batch.covariance(z, z)
    between = jnp.sum(batch.covariance_weight * (jnp.square(total) - squares))
    return not_nan(jnp.sum(jnp.square(within)) - 2 * between)
