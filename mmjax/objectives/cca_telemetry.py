"""Scalars that show a collapse of the views of a CCA loss."""

import jax
import jax.numpy as jnp

from mmjax.objectives.cca_gradients import WhitenedPair


def collapse_telemetry(pair: WhitenedPair) -> dict[str, jax.Array]:
    """Scalars that show a collapse of either view, at a cost of O(D^2), without a decomposition.

    Args:
        pair: the whitened views.

    Returns:
        For view 1, and likewise for view 2:

        - `deviation_1`: the root mean variance of the coordinates, in the view's units.
        - `effective_rank_1`: tr(C)^2 / tr(C^2), the participation ratio of the eigenvalues of the
          covariance: 1 if one direction has all the variance, D1 if all have the same, 0 if the
          view is constant.
        - `condition_1`: (max_i L_ii / min_i L_ii)^2 of the Cholesky factor of C + R. An estimate:
          never above the condition number of C + R, and often several times smaller.
    """
    found = {}
    for view, C, lower, scale in (
        ("1", pair.C11, pair.lower1, pair.scale1),
        ("2", pair.C22, pair.lower2, pair.scale2),
    ):
        trace = jnp.trace(C)
        # Divided by the trace first, so that squares neither overflow nor underflow.
        shares = C / jnp.where(trace > 0, trace, 1)
        squares = jnp.sum(jnp.square(shares))
        diagonal = jnp.diagonal(lower)
        found[f"deviation_{view}"] = scale * jnp.sqrt(jnp.maximum(trace, 0) / len(C))
        found[f"effective_rank_{view}"] = jnp.where(
            squares > 0, 1 / jnp.where(squares > 0, squares, 1), 0
        )
        found[f"condition_{view}"] = jnp.square(jnp.max(diagonal) / jnp.min(diagonal))
    return found
