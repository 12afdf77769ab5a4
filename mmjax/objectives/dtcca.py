"""Deep tensor CCA: the best low-rank approximation of the covariance tensor of whitened views."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError, check_sizes
from mmjax.objectives.batch_covariance import covariance, matmul
from mmjax.objectives.batch_views import (
    BatchViews,
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

LARGEST = 2**25  # elements of one array: 128 MiB of float32


@dataclass(frozen=True, kw_only=True)
class DTCCA(CovarianceObjective):
    """Deep tensor CCA: minus the norm of the best rank-k part of the views' covariance tensor.

    The rows with all views present count; `pairs`, their number, is logged beside the loss. The
    batch must have at least as many rows as the widest view has dimensions, and should have many
    times as many: moments of order V are noisy. Memory grows with the product of the widths.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the embeddings: three or more; two give squared correlations.
        k: the rank, at most the width of the narrowest view.
        ridge: added to every variance, in the units of the embeddings squared.
        iterations: sweeps of alternating least squares.
    """

    weight: float = 1.0
    views: tuple[str, ...]
    k: int = 1
    ridge: float = 1e-4
    iterations: int = 20

    def __post_init__(self) -> None:
        check_distinct_views(self.views)
        check_not_negative(ridge=self.ridge)
        check_sizes(self, "k", "iterations")

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "dtcca"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The DTCCA loss of one batch."""
        views, weight = common_rows(outputs, batch, self.views)
        loss = dtcca_loss(
            views, ridge=self.ridge, k=self.k, iterations=self.iterations, weight=weight
        )
        return Term.of_batch(loss, pairs=pairs_of(weight))


def dtcca_loss(
    views: Sequence[ArrayLike],
    *,
    ridge: float | int = 1e-4,
    k: int = 1,
    iterations: int = 20,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Minus the norm of the best rank-k approximation of the covariance tensor of V whitened views.

        M = 1/(N-1) sum_n z1_n o z2_n o ... o zV_n,    z_v = (C_vv + ridge I)^-1/2 (x_v - mean_v)
        loss = -max <M, T>  over T of rank <= k with ||T|| = 1

    With k = 1 that is minus the largest high-order canonical correlation, the sum over n of the
    product of one canonical variable a view. With two views it is minus the root of the sum of the
    k largest squared canonical correlations. For three or more the maximum is computed by a fixed
    number of sweeps of alternating least squares (for k = 1 the higher-order power method), from
    the leading singular vectors of the unfoldings. It may be a local maximum, and above rank 1 the
    supremum need not be attained. The value is that of the T found, so never below the true loss.

    In the gradient T is constant (stop-gradient, see `batch_views`): exact where the sweeps have
    converged. For independent views the sample M is small but not zero, so the loss is below 0.

    Without a ridge the loss is invariant to invertible linear maps of the views.

    Args:
        views: two or more, [B, D_v] each; row i of every view is of the same example.
        ridge: added to every variance, in squared units of the views.
        k: the rank, at most the width of the narrowest view.
        iterations: sweeps over all views.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.

    Returns:
        The loss, at most 0, in float32 (float64 for float64 views). With three views or more it
        may be below -1: the mean product of three variables of variance 1 can exceed 1.

    Raises:
        ConfigError: (a ValueError) fewer than two views, shapes that do not match, fewer rows than
            the widest view has dimensions, a `k` outside 1..min(D_v), no iteration, a negative
            ridge, or a tensor or intermediate array of more than 2^25 elements: the product of the
            widths, or of the rows and all widths but the last.

    Reference:
        Wong, Wang, Chan, Zeng, Deep Tensor CCA for Multi-view Learning, IEEE Transactions on Big
        Data 2021; Luo, Tao, Ramamohanarao, Xu, Wen, Tensor Canonical Correlation Analysis for
        Multi-view Dimension Reduction, IEEE TKDE 2015 (the tensor and its low-rank approximation).
    """
    check_not_negative(ridge=ridge)
    if iterations < 1:
        raise ConfigError(f"iterations={iterations} must be 1 or more")
    batch = batch_views(views, weight)
    check_rows(views)
    k = checked_k(k, views)
    widths = [x.shape[1] for x in batch.centred]
    largest = max(math.prod(widths), len(batch.weight) * math.prod(widths[:-1]))
    if largest > LARGEST:
        raise ConfigError(
            f"the covariance tensor of views with the widths {', '.join(map(str, widths))} needs "
            f"an array of {largest:,} elements, above the limit of {LARGEST:,}: project the views "
            "to fewer dimensions, or use smaller batches"
        )
    constant = lax.stop_gradient(batch.centred)
    lowers = [batch.cholesky(v, jnp.asarray(ridge, x.dtype)) for v, x in enumerate(constant)]
    # By matrix products, which keep rows on their devices; a triangular solve would gather them.
    whitened = [
        matmul(x, unwhiten(lower, jnp.eye(len(lower), dtype=lower.dtype)))
        for lower, x in zip(lowers, constant, strict=True)
    ]
    tensor = _covariance_tensor(whitened, batch)
    factors, scales = _best_approximation(tensor, k, iterations)
    contracted = [_contract(tensor, factors, v) for v in range(len(factors))]
    value = jnp.sum(scales * jnp.sum(contracted[0] * factors[0], axis=0))
    # The derivative of <M, T> with T constant, by that of the whitened rows z = L^-1 x:
    #     dz = L^-1 dx - 1/2 (L^-1 dC L^-T) z.
    # The second term is for the symmetric root; the loss is the same for every root.
    product, whitening = jnp.ones((), value.dtype), jnp.zeros((), value.dtype)
    for x, lower, factor, m in zip(batch.centred, lowers, factors, contracted, strict=True):
        projected = matmul(x, unwhiten(lower, factor))
        product = product * projected
        whitening = whitening + projected * matmul(x, unwhiten(lower, m))
    surrogate = jnp.sum(batch.covariance_weight * scales[None, :] * (product - whitening / 2))
    return with_gradient_of(-value, -surrogate)


def _covariance_tensor(whitened: Sequence[jax.Array], batch: BatchViews) -> jax.Array:
    """M, [D1, ..., DV]."""
    rows = whitened[0]
    for z in whitened[1:-1]:
        rows = (rows[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    flat = covariance(rows, whitened[-1], batch.weight, batch.degrees)
    return flat.reshape([z.shape[1] for z in whitened])


def _contract(tensor: jax.Array, factors: Sequence[jax.Array], kept: int) -> jax.Array:
    """M contracted with the r-th column of every factor but one, for every r: [D_kept, K]."""
    order = tensor.ndim
    operands: list[object] = [tensor, list(range(order))]
    for view, factor in enumerate(factors):
        if view != kept:
            operands += [factor, [view, order]]
    return jnp.einsum(*operands, [kept, order], precision=lax.Precision.HIGHEST)


def _unit_columns(factor: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Columns scaled to length 1, and their lengths; a zero column stays zero."""
    lengths = jnp.linalg.norm(factor, axis=0)
    return factor / jnp.where(lengths > 0, lengths, 1)[None, :], lengths


def _best_approximation(
    tensor: jax.Array, k: int, iterations: int
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """T of rank k and norm 1, closest to a multiple of M: unit columns [D_v, K], scales [K]."""
    order, info = tensor.ndim, jnp.finfo(tensor.dtype)
    # So that no square overflows; T does not depend on the scale of M.
    largest = jnp.max(jnp.abs(tensor))
    tensor = tensor / jnp.where(largest > 0, largest, 1)
    factors = []
    for view, width in enumerate(tensor.shape):
        unfolded = jnp.moveaxis(tensor, view, 0).reshape(width, -1)
        _, U = jnp.linalg.eigh(matmul(unfolded, unfolded.T))
        factors.append(U[:, ::-1][:, :k])
    # Keeps the solve well-posed when columns become collinear; no effect on orthogonal columns.
    damping = jnp.sqrt(info.eps) * jnp.eye(k, dtype=tensor.dtype)

    def gram(factors: Sequence[jax.Array], left_out: int | None) -> jax.Array:
        product = jnp.ones((k, k), tensor.dtype)
        for view, factor in enumerate(factors):
            if view != left_out:
                product = product * matmul(factor.T, factor)
        return product

    def sweep(
        _: ArrayLike, state: tuple[tuple[jax.Array, ...], jax.Array]
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        current, lengths = list(state[0]), state[1]
        for view in range(order):
            target = _contract(tensor, current, view)
            root = jnp.linalg.cholesky(gram(current, view) + damping)
            solved = solve_triangular(root, target.T, lower=True)
            solved = solve_triangular(root, solved, lower=True, trans=1).T
            current[view], lengths = _unit_columns(solved)
        return tuple(current), lengths

    start = (tuple(factors), jnp.zeros_like(tensor, shape=(k,)))
    found, lengths = lax.fori_loop(0, iterations, sweep, start)
    norm = jnp.sqrt(jnp.maximum(lengths @ matmul(gram(found, None), lengths), 0))
    return found, lengths / jnp.where(norm > 0, norm, 1)
