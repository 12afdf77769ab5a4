"""Deep CCA: minus the sum of the canonical correlations of two views, with a closed-form gradient.

Inputs that are finite give a value and a gradient that are finite, whatever their rank or scale, by
three measures that leave ordinary inputs alone:

1. Each view is divided by s = max(1, max|h|) and its ridge by s^2. Correlations do not notice, and
   no square overflows.
2. What is added to the variance C_ii of coordinate i is not the bare ridge but

       max(ridge, d eps C_ii, (4 eps mean_i)^2, tiny),     eps that of the working float.

   The second entry keeps a view of low rank positive definite in floating point. The third is the
   variance that rounding alone can give to a constant column. A ridge of 1e-4 is above both, in
   float32, while d C_ii < 800 and |mean_i| < 200. Beyond that the second raises variances by the
   fraction d eps (3e-5 for d = 256): correlations fall by at most that, over the smallest
   eigenvalue of the view's correlation matrix. In float64 it is below 1e-12 for d < 4,000.
3. Repeated columns in hundreds of dimensions can defeat even that, as the rounding errors of their
   covariances are no longer independent. Then d eps grows by 16 until the factorisation exists.

Without a ridge the gradient at a coordinate that never varies is finite but huge, as it must be for
a function that jumps there, and directions of rounding noise can show some correlation: keep a
ridge.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.objective import Objective, check_two_views, paired_views, working_dtype
from mmjax.structs import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class DCCA(Objective):
    """Deep CCA between two views: minus the sum of their canonical correlations.

    The rows with both views present count. The batch must have at least as many rows as the wider
    view has dimensions, and should have several times as many.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings to correlate.
        k: how many of the largest correlations to sum; all of them if not given.
        ridge: added to every variance, in the units of the embeddings squared.
    """

    weight: float = 1.0
    views: tuple[str, str]
    k: int | None = None
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_ridge(self.ridge)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "dcca"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The DCCA loss of one batch."""
        h1, h2, weight = paired_views(outputs, batch, self.views)
        return dcca_loss(h1, h2, ridge=self.ridge, k=self.k, weight=weight)


def dcca_loss(
    h1: ArrayLike,
    h2: ArrayLike,
    *,
    ridge: float | int = 1e-4,
    k: int | None = None,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Minus the sum of the (top k) canonical correlations of two views.

        loss = -||T||_tr = -sum_i D_i,    T = L1^-1 C12 L2^-T = U D V',    C_vv + R_v = L_v L_v'

    The gradient is written by hand: no derivative of a decomposition, hence no division by a
    difference of singular values. Where correlations are repeated or zero the loss has a kink, and
    the gradient is one of its subgradients.

    Args:
        h1: first view [B, D1].
        h2: second view [B, D2], row i of the same example as row i of `h1`.
        ridge: added to every variance, in squared units of the views.
        k: how many of the largest correlations to sum; all min(D1, D2) if None.
        weight: [B], not negative; a row of weight 0 is as if it were not there, even if it holds
            NaN. All 1 if None. No gradient flows to it.

    Returns:
        The loss, between -k and 0, in float32 (float64 for float64 views).

    Raises:
        ConfigError: (a ValueError) shapes that do not fit, B < max(D1, D2), a `k` outside
            1..min(D1, D2), or a negative ridge.

    Reference:
        Andrew, Arora, Bilmes, Livescu, Deep Canonical Correlation Analysis, ICML 2013, eq. 10-13.
    """
    h1, h2 = jnp.asarray(h1), jnp.asarray(h2)
    _check_views(h1, h2)
    narrowest = min(h1.shape[1], h2.shape[1])
    if k is not None and not 1 <= k <= narrowest:
        raise ConfigError(
            f"k={k} correlations were asked for, but the narrower view has {narrowest} dimensions: "
            f"choose k from 1 to {narrowest}"
        )
    return -jnp.sum(canonical_correlations(h1, h2, ridge=ridge, weight=weight)[:k])


def canonical_correlations(
    h1: ArrayLike,
    h2: ArrayLike,
    *,
    ridge: float | int = 1e-4,
    weight: ArrayLike | None = None,
) -> Float[Array, " K"]:
    """The canonical correlations of two views, largest first; differentiable like `dcca_loss`.

    The covariances are weighted and normalised by max(sum(weight) - 1, 1).

    Args:
        h1: first view [B, D1].
        h2: second view [B, D2].
        ridge: added to every variance, in squared units of the views.
        weight: [B], not negative; all 1 if None.

    Returns:
        [K], K = min(D1, D2), each between 0 and 1.

    Raises:
        ConfigError: as `dcca_loss`.

    Reference:
        Hotelling, Relations between two sets of variates, Biometrika 1936.
    """
    h1, h2 = jnp.asarray(h1), jnp.asarray(h2)
    _check_views(h1, h2)
    _check_ridge(ridge)
    dtype = working_dtype(h1, h2)
    rows = jnp.ones(len(h1), dtype) if weight is None else jnp.asarray(weight, dtype)
    if rows.shape != h1.shape[:1]:
        raise ConfigError(
            f"weight has the shape {rows.shape}, but the views have {len(h1)} rows: give one "
            "weight a row"
        )
    return _correlations(h1, h2, rows, jnp.asarray(ridge, dtype))


def _check_views(h1: jax.Array, h2: jax.Array) -> None:
    if h1.ndim != 2 or h2.ndim != 2:
        raise ConfigError(
            f"CCA needs views of the shape [batch, width], but they have {h1.shape} and "
            f"{h2.shape}: flatten or pool them first"
        )
    if len(h1) != len(h2):
        raise ConfigError(
            f"the views have {len(h1)} and {len(h2)} rows: give both the same examples"
        )
    rows, widest = len(h1), max(h1.shape[1], h2.shape[1])
    if rows < max(widest, 2):
        raise ConfigError(
            f"a batch of {rows} examples cannot give the covariance of {widest} dimensions: use "
            f"batch_size >= {widest + 1} or fewer output dimensions"
        )
    if min(h1.shape[1], h2.shape[1]) == 0:
        raise ConfigError("CCA needs at least one dimension in each view, but one view has none")


def _check_ridge(ridge: float | int) -> None:
    if isinstance(ridge, int | float) and not ridge >= 0:
        raise ConfigError(f"ridge={ridge} must not be negative: use 0 or a small positive number")


@jax.custom_vjp
def _correlations(
    h1: Float[Array, "B D1"],
    h2: Float[Array, "B D2"],
    weight: Float[Array, " B"],
    ridge: Float[Array, ""],
) -> Float[Array, " K"]:
    rho, _ = _correlations_forward(h1, h2, weight, ridge)
    return rho


def _correlations_forward(
    h1: jax.Array, h2: jax.Array, weight: jax.Array, ridge: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    x1, mean1, scale1 = _centred(h1, weight)
    x2, mean2, scale2 = _centred(h2, weight)
    degrees = jnp.maximum(jnp.sum(weight) - 1, 1)
    lower1 = _cholesky(_covariance(x1, x1, weight, degrees), mean1, ridge / scale1 / scale1)
    lower2 = _cholesky(_covariance(x2, x2, weight, degrees), mean2, ridge / scale2 / scale2)
    half = solve_triangular(lower1, _covariance(x1, x2, weight, degrees), lower=True)
    T = solve_triangular(lower2, half.T, lower=True).T
    U, rho, Vt = jnp.linalg.svd(T, full_matrices=False)
    rho = jnp.minimum(rho, 1)  # only rounding goes above
    A1 = solve_triangular(lower1, U, lower=True, trans=1)  # [D1, K], the canonical directions
    A2 = solve_triangular(lower2, Vt.T, lower=True, trans=1)
    scaled_weight = weight / degrees
    # The empty arrays carry the dtypes of the views, to which the gradients go back.
    like1, like2 = jnp.zeros((0,), h1.dtype), jnp.zeros((0,), h2.dtype)
    return rho, (x1, x2, scale1, scale2, A1, A2, rho, scaled_weight, like1, like2)


def _correlations_backward(
    residuals: tuple[jax.Array, ...], rho_bar: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    # d rho_i = a1_i' dC12 a2_i - rho_i/2 (a1_i' dC11 a1_i + a2_i' dC22 a2_i), and C = X'WX/(n-1).
    # The mean needs no term of its own: the weighted rows of a centred view sum to zero.
    x1, x2, scale1, scale2, A1, A2, rho, weight, like1, like2 = residuals
    G12 = _matmul(A1 * rho_bar[None, :], A2.T)
    G11 = _matmul(A1 * (rho_bar * rho)[None, :], A1.T)  # minus twice the gradient of C11
    G22 = _matmul(A2 * (rho_bar * rho)[None, :], A2.T)
    h1_bar = (_matmul(x2, G12.T) - _matmul(x1, G11)) * (weight / scale1)[:, None]
    h2_bar = (_matmul(x1, G12) - _matmul(x2, G22)) * (weight / scale2)[:, None]
    return (
        h1_bar.astype(like1.dtype),
        h2_bar.astype(like2.dtype),
        jnp.zeros_like(weight),
        jnp.zeros_like(scale1),
    )


_correlations.defvjp(_correlations_forward, _correlations_backward)


def _centred(h: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The view over its scale minus its weighted mean, [B, D]; that mean, [1, D]; the scale."""
    x = jnp.where(weight[:, None] > 0, h.astype(weight.dtype), 0)
    scale = jnp.maximum(jnp.max(jnp.abs(x)), 1)
    x = x / scale
    share = (weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny))[:, None]
    mean = jnp.sum(share * x, axis=0, keepdims=True)
    x = x - mean
    # A second pass takes away what the sum of the first lost to rounding.
    return x - jnp.sum(share * x, axis=0, keepdims=True), mean, scale


def _covariance(
    x1: jax.Array, x2: jax.Array, weight: jax.Array, degrees: jax.Array
) -> Float[Array, "D1 D2"]:
    mesh = jax.typeof(x1).sharding.mesh
    explicit = not mesh.empty and mesh.are_all_axes_explicit
    # Over a batch that is sharded by explicit axes the sum is an all-reduce, and has to say so.
    everywhere = NamedSharding(mesh, PartitionSpec(None, None)) if explicit else None
    total = jnp.einsum(
        "bd,be->de",
        x1 * weight[:, None],
        x2,
        precision=lax.Precision.HIGHEST,
        out_sharding=everywhere,
    )
    return total / degrees


def _cholesky(C: jax.Array, mean: jax.Array, ridge: jax.Array) -> Float[Array, "D D"]:
    """The factor of a covariance with its ridge, raised as the module's first lines say."""
    info = jnp.finfo(C.dtype)
    variance = jnp.diagonal(C)
    # tiny / eps rather than tiny: the gradient holds its inverse, which must not overflow.
    least = jnp.maximum(jnp.square(4 * info.eps * mean[0]), info.tiny / info.eps)
    least = jnp.maximum(least, ridge)

    def factor(share: jax.Array) -> jax.Array:
        return jnp.linalg.cholesky(C + jnp.diag(jnp.maximum(least, share * variance)))

    def failed(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        share, lower = state
        # A share of len(C) makes the diagonal dominant: then only NaN in the views can fail.
        return jnp.isnan(lower).any() & (share < len(C))

    def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        share = 16 * state[0]
        return share, factor(share)

    share = jnp.asarray(len(C) * info.eps, C.dtype)
    return lax.while_loop(failed, again, (share, factor(share)))[1]


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
