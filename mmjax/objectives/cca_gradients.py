"""Two views of a batch whitened, and the gradients of a CCA loss from T back to the views.

With the Cholesky factors L_v of the ridged covariances (`batch_covariance`) and
T = L1^-1 C12 L2^-T, a loss f(T) has gradients in closed form: from T to the covariances by
`covariance_gradients`, and from these to the views by `view_gradients`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from mmjax.objectives.batch_covariance import (
    covariance,
    matmul,
    ridged_cholesky,
    scaled_and_centred,
)


class WhitenedPair(NamedTuple):
    """Two views in coordinates in which their ridged covariances are the identity.

    Attributes:
        x1: first view over its scale, centred [B, D1].
        x2: second view over its scale, centred [B, D2].
        scale1: what the first view was divided by, [].
        scale2: what the second view was divided by, [].
        C11: covariance of x1 without a ridge [D1, D1].
        C22: covariance of x2 without a ridge [D2, D2].
        lower1: L1 [D1, D1], lower triangular, L1 L1' = C11 + R1.
        lower2: L2 [D2, D2], lower triangular, L2 L2' = C22 + R2.
        T: L1^-1 C12 L2^-T [D1, D2]; its singular values are the canonical correlations.
        weight: weight of the rows over the degrees of freedom [B].
    """

    x1: jax.Array
    x2: jax.Array
    scale1: jax.Array
    scale2: jax.Array
    C11: jax.Array
    C22: jax.Array
    lower1: jax.Array
    lower2: jax.Array
    T: jax.Array
    weight: jax.Array


def whitened_pair(
    h1: Float[Array, "B D1"],
    h2: Float[Array, "B D2"],
    weight: Float[Array, " B"],
    ridge: Float[Array, ""],
) -> WhitenedPair:
    """Whitens two views and their cross-covariance, in the dtype of `weight`."""
    x1, mean1, scale1 = scaled_and_centred(h1, weight)
    x2, mean2, scale2 = scaled_and_centred(h2, weight)
    degrees = jnp.maximum(jnp.sum(weight) - 1, 1)
    C11 = covariance(x1, x1, weight, degrees)
    C22 = covariance(x2, x2, weight, degrees)
    lower1 = ridged_cholesky(C11, mean1, ridge / scale1 / scale1)
    lower2 = ridged_cholesky(C22, mean2, ridge / scale2 / scale2)
    half = solve_triangular(lower1, covariance(x1, x2, weight, degrees), lower=True)
    T = solve_triangular(lower2, half.T, lower=True).T
    return WhitenedPair(x1, x2, scale1, scale2, C11, C22, lower1, lower2, T, weight / degrees)


def covariance_gradients(
    pair: WhitenedPair, Q: Float[Array, "D1 D2"]
) -> tuple[Float[Array, "D1 D2"], Float[Array, "D1 D1"], Float[Array, "D2 D2"]]:
    """Gradients of a function f of the singular values of T with respect to the covariances.

    As T Q' and T'Q are symmetric, df = tr(Q'dT) gives

        df/dC12 = L1^-T Q L2^-1,    df/dC11 = -1/2 L1^-T T Q' L1^-1,    df/dC22 likewise.

    Args:
        pair: the whitened views.
        Q: the gradient of f at T.

    Returns:
        G12, G11 and G22 as `view_gradients` takes them.
    """
    T, d1, d2 = pair.T, *pair.T.shape
    right = solve_triangular(pair.lower1, jnp.hstack([Q, T]), lower=True, trans=1)
    Q1, T1 = right[:, :d2], right[:, d2:]
    left = solve_triangular(pair.lower2, jnp.hstack([Q1.T, Q.T, T.T]), lower=True, trans=1)
    G12, Q2, T2 = left[:, :d1].T, left[:, d1 : 2 * d1], left[:, 2 * d1 :]
    G11, G22 = matmul(Q1, T1.T), matmul(Q2, T2.T)
    return G12, (G11 + G11.T) / 2, (G22 + G22.T) / 2


def view_gradients(
    pair: WhitenedPair, G12: jax.Array, G11: jax.Array, G22: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients of the views from those of their covariances.

    Args:
        pair: the whitened views, of which covariances and factors are not used.
        G12: gradient of C12 [D1, D2].
        G11: minus twice the gradient of C11 [D1, D1], symmetric.
        G22: minus twice the gradient of C22 [D2, D2], symmetric.

    Returns:
        [B, D1] and [B, D2], in the working dtype.
    """
    # C = X'WX/(n-1). The mean adds no term: the weighted rows of a centred view sum to zero.
    x1, x2, weight = pair.x1, pair.x2, pair.weight
    h1_bar = (matmul(x2, G12.T) - matmul(x1, G11)) * (weight / pair.scale1)[:, None]
    h2_bar = (matmul(x1, G12) - matmul(x2, G22)) * (weight / pair.scale2)[:, None]
    return h1_bar, h2_bar
