"""Minus the sum of the squared canonical correlations: smooth, and without a decomposition.

Several packages, cca_zoo among them, call this DCCA. It is not the loss of Andrew et al. 2013,
which sums the correlations themselves: here a weak correlation has a smaller gradient.
"""

from dataclasses import dataclass

from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.cca_solvers import squared_sum
from mmjax.objectives.dcca import check_ridge, checked_views
from mmjax.objectives.objective import CovarianceObjective, check_two_views, paired_views, pairs_of
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class SquaredDCCA(CovarianceObjective):
    """Minus the sum of the squared canonical correlations of two views.

    The rows with both views present count; `pairs`, their number, is logged beside the loss. The
    batch must have at least as many rows as the wider view has dimensions, and should have several
    times as many.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings to correlate.
        ridge: added to every variance, in the units of the embeddings squared.
    """

    weight: float = 1.0
    views: tuple[str, str]
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        check_two_views(self.views)
        check_ridge(self.ridge)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "squared_dcca"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The loss of one batch."""
        h1, h2, weight = paired_views(outputs, batch, self.views)
        loss = squared_cca_loss(h1, h2, ridge=self.ridge, weight=weight)
        return Term.of_batch(loss, pairs=pairs_of(weight))


def squared_cca_loss(
    h1: ArrayLike,
    h2: ArrayLike,
    *,
    ridge: float | int = 1e-4,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Minus the sum of all squared canonical correlations of two views.

        loss = -tr((C11 + R1)^-1 C12 (C22 + R2)^-1 C21) = -||T||_F^2,    T = L1^-1 C12 L2^-T

    Two Cholesky factors and triangular solves, and a closed-form gradient that is smooth
    everywhere, for reverse mode alone (`jax.grad`, `jax.vjp`): JAX refuses `jax.jvp`,
    `jax.jacfwd` and `jax.hessian` of it. For the k largest, square
    `canonical_correlations(h1, h2)[:k]` and sum.

    Args:
        h1: first view [B, D1].
        h2: second view [B, D2], row i of the same example as row i of `h1`.
        ridge: added to every variance, in squared units of the views.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, between -min(D1, D2) and 0, in float32 (float64 for float64 views).

    Raises:
        ConfigError: (a ValueError) shapes that do not match, B < max(D1, D2), or a negative ridge.
    """
    return -squared_sum(*checked_views(h1, h2, ridge, weight))
